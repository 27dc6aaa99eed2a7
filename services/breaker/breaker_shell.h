/* breaker_shell.h - what the files of the breaker's shell share. Private to this room. */
#ifndef REDOUBT_BREAKER_SHELL_H
#define REDOUBT_BREAKER_SHELL_H

#include "breaker/breaker_doc.h"
#include "breaker/flood.h"
#include "breaker/line.h"
#include "breaker/target.h"
#include "breaker/traffic.h"
#include "common/log.h"
#include "common/service.h"
#include "common/subjects.h"
#include <uthash.h>

struct shell;
struct saying;
struct scope;

#define NODE_SCOPES_MAX 4 /* as the settings allow */

/* A target of the settings. */
struct node {
    struct breaker_target t;
    struct shell *sh;
    char *name, *subject, *advice_subject, *doc_key, *window_key;
    int kind; /* enum set_target_kind */
    UT_hash_handle hh;
    int refs;  /* callbacks that will still come */
    bool gone; /* no longer in the settings: freed after the last of them */

    int64_t wake_ms; /* 0 = not in the heap */
    size_t heap_at;

    uint64_t streamed; /* highest epoch known to be on the stream */
    bool behind;       /* what was heard last is older than what we know: perhaps it is also the stream's last word */
    uint64_t health_epoch; /* of the newest verdict heard */
    uint64_t suspect;      /* an epoch that looked unannounced at the last sweep */
    struct saying *sayings, **sayings_end;

    char *damaged_rev, *damaged_doc; /* what the last flush found instead of a document */
    size_t damaged_rev_len, damaged_doc_len;
    struct scope *scopes[NODE_SCOPES_MAX];
    size_t n_scopes;
    bool advised;                 /* against, by us */
    struct breaker_waiter waiter; /* its flush, in line */
    uint64_t asked;               /* epoch that the flush in flight has told Redis */

    struct node_flow { /* breaker_in.c, breaker_flood.c, breaker_traffic.c */
        size_t name_len;
        bool kick_due; /* in the list: gathered reports wait for the end of the turn */
        struct node *kick_prev, *kick_next;
        uint32_t rate;               /* reports per second of one reporter; 0 = no limit */
        int64_t full_ns;             /* of all reporters together */
        struct breaker_flood *flood; /* while they are busy; NULL otherwise */
        struct node *flood_prev, *flood_next;
        bool spares; /* real calls spare it paid probes */
        struct breaker_traffic traffic;
        struct node *traffic_prev, *traffic_next; /* in the list while there are calls that were not said */
    } flow;
};

struct shell {
    struct service *s;
    struct node *nodes;  /* uthash by name */
    struct node **order; /* for the sweep */
    size_t n, sweep_at;
    struct node **heap;
    size_t heap_n, heap_cap;
    struct scope *scopes; /* uthash by name */
    struct loop_timer deadline, store_gone, record, scoping;
    struct saying *unrecorded, **unrecorded_end;
    struct breaker_line line; /* flushes on their way to Redis, and those that wait */
    size_t advised;           /* nodes that we advise against */
    bool synced, store_alerted, stopped;
    int refs; /* callbacks and timers that will still come */
    struct log_limit store_errors, damaged, would_open, window_damaged, advice;

    int64_t turn_ns; /* when the first report of this turn came; 0 = none has */
    struct node *kicks, *floods, *traffics;
    bool traffic_due;
    struct breaker_flooders flooders;
    struct log_limit flooding;
};

/* shell */
struct node *breaker_node(struct shell *sh, const char *name); /* NULL if unknown */
void breaker_hold(struct node *n);
void breaker_release(struct node *n); /* n may be gone after it */

/* breaker_heap.c: deadlines, earliest first */
void breaker_heap_set(struct shell *sh, struct node *n, int64_t at_ms); /* 0 = none */
struct node *breaker_heap_first(const struct shell *sh);

/* breaker_state.c: Redis */
void breaker_state_flush(struct breaker_target *t, const struct breaker_delta *d, uint64_t have_epoch);
void breaker_state_hurry(struct breaker_target *t);
void breaker_state_give_up(struct shell *sh); /* flushes that still wait in line */
void breaker_state_put(struct breaker_target *t, const struct breaker *b, bool over, bool pending);
void breaker_state_announced(struct node *n, uint64_t epoch);
/* For the test of the script against window.c: the script, what it is called with, and what it answers. */
#define FLUSH_NUMBERS 16
struct breaker_flush_args {
    char num[FLUSH_NUMBERS][24];
    unsigned char votes[BREAKER_REPORTERS * BREAKER_VOTE_BYTES];
    const char *args[FLUSH_NUMBERS + 1];
    size_t lens[FLUSH_NUMBERS + 1];
};
const char *breaker_state_flush_body(void);
int breaker_state_args(struct breaker_flush_args *a, const struct breaker_rule *rule, const struct breaker_delta *d,
                       uint64_t have_epoch);
void breaker_state_totals(const redisReply *reply, struct breaker_totals *ret);
void breaker_state_peek(struct node *n, store_cb cb); /* HMGET rev pending; ctx is n */

/* breaker_say.c: events, audit, alerts */
void breaker_say(struct breaker_target *t, const struct breaker *b);
void breaker_say_again(struct node *n); /* the newest, although it is on the stream: something older came after it */
bool breaker_saying(const struct node *n, uint64_t epoch);
void breaker_record_all(void *shell);
/* A scope is ill (detail says why), or, without a detail, well again. Of any member; the same on every replica is one. */
void breaker_say_scope(struct node *n, const char *scope, int64_t evidence_ms, const char *detail);
void breaker_say_store(struct shell *sh, bool gone);

/* breaker_advice.c: while Redis is away */
void breaker_advice_changed(struct breaker_target *t);
void breaker_advice_repeat(struct service *s);

/* breaker_scope.c: what targets share */
void breaker_scope_changed(struct breaker_target *t);
void breaker_scope_looked(struct breaker_target *t);
void breaker_scope_check(struct shell *sh); /* all of them */
void breaker_scope_judge(void *shell);
int breaker_scope_settings(struct shell *sh, const struct settings *c);
void breaker_scope_free(struct shell *sh);

/* breaker_in.c: what comes in */
void breaker_flow_settings(struct node *n, const struct set_target *set);
void breaker_flow_done(struct node *n); /* before n goes */
void breaker_flow_turn(struct service *s);
void breaker_flow_tick(struct service *s);
void breaker_on_report(struct service *s, const void *message, const struct bus_msg *m);
void breaker_on_health(struct service *s, const void *message, const struct bus_msg *m);
void breaker_on_breaker(struct service *s, const void *message, const struct bus_msg *m);

/* breaker_flood.c: who sends too much */
bool breaker_flood_admits(struct node *n, const struct breaker_report *r, uint64_t permit_id, int64_t now_ns);
void breaker_flood_dropped(struct node *n, const char *reporter, size_t len, size_t reports);
void breaker_flood_tick(struct shell *sh);
void breaker_flood_done(struct node *n);

/* breaker_traffic.c: what real calls tell */
void breaker_traffic_count(struct node *n, const struct breaker_report *r);
void breaker_traffic_say(struct shell *sh); /* all that is due */
void breaker_traffic_done(struct node *n);

/* breaker_cmd.c: what is asked */
void breaker_on_allow(struct service *s, const void *message, const struct bus_msg *m);
void breaker_on_show(struct service *s, const void *message, const struct bus_msg *m);
void breaker_on_open(struct service *s, const void *message, const struct bus_msg *m);
void breaker_on_close(struct service *s, const void *message, const struct bus_msg *m);
void breaker_on_reset(struct service *s, const void *message, const struct bus_msg *m);
void breaker_on_metrics(struct service *s, const void *message, const struct bus_msg *m);
void breaker_answer(struct breaker_target *t, struct breaker_request *q, enum breaker_answer a,
                    const struct breaker_result *r);

extern const struct service_desc breaker_service;

#endif
