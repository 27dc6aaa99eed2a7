/* client_priv.h - what the files of the client share. Not for others. */
#ifndef REDOUBT_CLIENT_PRIV_H
#define REDOUBT_CLIENT_PRIV_H

#include "client/client_deed.h"
#include "client/client_gate.h"
#include "client/client_table.h"
#include "client/client_usage.h"
#include "client/redoubt.h"
#include "common/bus.h"
#include "common/loop.h"
#include <pthread.h>
#include <stdatomic.h>

#define CLIENT_REPORTS_MAX   65536
#define CLIENT_DECISIONS_MAX 16384
#define CLIENT_SELFTESTS_MAX 16 /* questions that wait for an answer */
#define CLIENT_ACTIONS_MAX   1024
#define CLIENT_CLOSE_MS      1000

/* A report that waits for the loop. */
struct client_report {
    uint32_t slot; /* of its target */
    uint32_t next; /* while they are sorted by target */
    redoubt_call call;
    int64_t ended_unix_ms, queued_ms;
};
struct client_reports {
    struct client_report *at;
    size_t n, cap;
};

/* A decision that waits for the loop. */
struct client_decision {
    struct client_decision *next;
    int64_t decided_unix_ms, queued_ms;
    int outcome;
    const char *event_key, *verdict, *action, *object, *detail; /* in `text` */
    char text[];
};
/* A question that waits for its answer. */
struct client_selftest {
    char id[65]; /* "" = free */
    char *reply;
    int64_t by_ms;        /* monotonic: nobody waits after it */
    char *answer, *error; /* both NULL: not answered yet */
};

/* An action that the agent waits for. */
struct client_action {
    struct client_action *next; /* until the loop has taken it over */
    struct client_deed *deed;
    int64_t deadline_ms;
    redoubt_acted_fn fn;
    void *ctx;
    struct client_decision *decision; /* told when the outcome is known; NULL = none */
};

/* The share of the work that this version takes. */
struct client_work {
    char deployment[NAME_MAX_LEN + 1], version[129];
    char subject[SUBJECT_MAX_LEN];
    /* any thread */
    _Atomic uint64_t range; /* parts of 10,000: from << 32 | to */
    _Atomic uint32_t percent, turn, in_hand;
    _Atomic bool ended; /* the last piece in hand has ended while there is no share: to be said */
    /* loop thread */
    uint64_t epoch;
    struct loop_timer timer;
};

enum client_touch { CLIENT_NEVER, CLIENT_UP, CLIENT_DOWN, CLIENT_OUT };

struct client_restart {
    bool directed;        /* there was a directive */
    bool requested;       /* the last one said so */
    bool due;             /* the agent is told when the acknowledgement is out, or soon */
    uint64_t epoch, told; /* of the directive that asks; up to which the agent was told */
    struct loop_timer timer;
};
/* Basic monitoring. */
struct client_monitoring {
    uint32_t interval_ms; /* 0 = none */
    struct loop_timer timer;
    uint64_t reports;
    void *kept; /* the newest report, while the bus is away */
    size_t kept_len;
};

struct redoubt {
    redoubt_options o; /* its strings are in `text` */
    char *text[6];
    char agent[NAME_MAX_LEN + 1], instance[129], boot[17];
    char ack_subject[SUBJECT_MAX_LEN], heartbeat_subject[SUBJECT_MAX_LEN];

    /* any thread */
    struct client_table table;
    uv_async_t wake;
    _Atomic bool permits_wanted;
    _Atomic int touch; /* enum client_touch */
    _Atomic int posture;
    _Atomic uint64_t epoch;
    _Atomic unsigned load; /* percent of its work that it may take on */
    _Atomic uint32_t load_turn;
    _Atomic uint64_t actions_named; /* keys that the library has made */
    pthread_mutex_t lock;           /* of those up to `wake_pending`, and of entering targets */
    struct client_reports waiting;
    struct client_decision *decisions, **decisions_end;
    size_t n_decisions;
    struct client_selftest selftests[CLIENT_SELFTESTS_MAX];
    struct client_action *actions, **actions_end;
    size_t n_actions; /* not over yet */
    bool closing;
    bool wake_pending;
    pthread_t thread;

    /* loop thread */
    struct loop loop;
    struct bus *bus;
    struct client_gate gate;
    struct loop_timer lease_timer, heartbeat_timer;
    struct client_usage usage;
    uint64_t heartbeats, acks;
    bool leaving;
    bool last_failed;      /* the last directive could not be applied, */
    char last_detail[257]; /* because */
    void *last;            /* the last directive as it came */
    size_t last_len;
    char llm_target[TARGET_MAX_LEN + 1];
    struct client_deeds deeds;
    struct client_restart restart;
    struct client_monitoring monitoring;
    struct client_work work;
};

/* client_report.c */
int client_report_queue(redoubt *r, const char *target, const redoubt_call *c);
void client_report_flush(redoubt *r); /* while the bus is up */

/* client_decision.c */
void client_decision_flush(redoubt *r); /* while the bus is up */
void client_decision_done(redoubt *r);
/* A copy of our own; NULL if the contract would not take it, or memory is out. Then queued with this outcome: takes it. */
struct client_decision *client_decision_copy(redoubt *r, const redoubt_decision_t *d);
int client_decision_add(redoubt *r, struct client_decision *x, enum redoubt_decided outcome);

/* client_action.c */
void client_action_init(redoubt *r);
void client_action_flush(redoubt *r); /* also while the bus is away: what may not be done is refused at once */
void client_action_turn(redoubt *r);  /* the position or the connection has changed */
void client_action_end(redoubt *r);   /* before the bus is closed */
void client_action_done(redoubt *r);

/* client_monitor.c */
void client_monitor_init(redoubt *r);
void client_monitor_every(redoubt *r, uint32_t interval_ms); /* 0 = no more */
void client_monitor_flush(redoubt *r);                       /* while the bus is up */
void client_monitor_stop(redoubt *r);
void client_monitor_done(redoubt *r);

/* client_work.c */
void client_work_init(redoubt *r, const redoubt_options *o);
int client_work_open(redoubt *r, struct err *e); /* when there is a bus */
void client_work_say(redoubt *r);                /* while the bus is up */
void client_work_flush(redoubt *r);              /* what is to be said, if anything */
void client_work_stop(redoubt *r);

/* client_selftest.c */
void client_selftest_on_question(void *ctx, const struct bus_msg *m);
void client_selftest_flush(redoubt *r); /* while the bus is up */
void client_selftest_done(redoubt *r);

/* client_bus.c: what is heard and said */
void client_bus_init(redoubt *r);
int client_bus_open(redoubt *r, struct err *e);
void client_bus_ask_permits(redoubt *r);
void client_bus_heartbeat(redoubt *r);
void client_bus_lease(redoubt *r); /* the lease may be over */

#endif
