/* fallback_shell.h - what the shell's files share: the service's state, one record per agent. */
#ifndef REDOUBT_FALLBACK_SHELL_H
#define REDOUBT_FALLBACK_SHELL_H

#include "common/lease.h"
#include "common/service.h"
#include "common/subjects.h"
#include "fallback/fallback.h"
#include "fallback/fallback_doc.h"
#include "fallback/fallback_effects.h"
#include "fallback/override_http.h"
#include <uthash.h>

extern const struct service_desc fallback_service;

#define REPLY_TEXT 160 /* a reply subject */
#define KEY_TEXT   (NAME_MAX_LEN + 24)

struct target {
    char name[TARGET_MAX_LEN + 1];
    struct fallback_target view;
    struct intake intake;
    UT_hash_handle hh;
};

/* An event that waits for its turn. */
struct queued {
    struct fallback_event ev;
    char reply[REPLY_TEXT]; /* of the operator who asked; "" = none */
    struct queued *next;
};

/* Alert or audit record that a change owes, until it is durable in the outbox. */
struct owed {
    PB(OwedNotice) * m;
    enum { OWED_WAITS, OWED_SENT, OWED_DURABLE } state;
    bool left_out; /* of the write in flight: gone when it has won */
    uint64_t id;   /* of this process */
    int64_t again_mono_ms;
    struct owed *next;
};

/* Where an agent's document is. */
enum place {
    AWAY,    /* this replica does not lead */
    LOADING, /* asked for */
    HERE,    /* f is the document; nothing in flight */
    STORING, /* next is being written */
    HURT,    /* the store did not do what was asked; loaded again soon */
    PLACES,
};

struct agent {
    char name[NAME_MAX_LEN + 1];
    char key[KEY_TEXT];
    struct shell *sh;
    const struct set_agent *set; /* in the service's settings */
    struct fallback_rule rule;   /* strings in the settings */
    struct fallback_verdict verdict, judgement, resources;
    struct agent_effects fx;

    int place;
    uint64_t op;  /* of the store command in flight; older answers are ignored */
    uint64_t rev; /* of the stored document; 0 = absent */
    bool known;   /* f was good at some time in this process: what an emptied Redis is filled from */
    struct fallback f;
    struct bytes directive; /* of f.doc.epoch */
    bool pending;           /* the directive is not known to be on the stream */
    bool restored;          /* f is not what the store holds: write it, whatever else happens */
    int announcing;
    int64_t announced_mono_ms; /* last try */
    struct owed *owed;

    /* while STORING */
    struct fallback next;
    struct bytes next_directive; /* empty = the same epoch */
    struct owed *next_owed;
    struct fallback_effect *held;
    size_t n_held;
    bool put_pending;
    enum writing {
        WRITE_TIDY,
        WRITE_LOOK,
        WRITE_EVENT
    } writing; /* for what: nothing new, a LOOK, the queue's head */

    struct queued *queue, **queue_end;
    bool look;          /* a LOOK is due */
    int64_t wake_at_ms; /* shared time; INT64_MAX = none */

    struct bytes seen; /* the newest directive that the watch saw */
    uint64_t seen_epoch;
    uint64_t last_seen_epoch; /* of the last one that came, newest or not: what the stream holds */
    UT_hash_handle hh;
};

struct call;
struct shell {
    struct service *s;
    struct lease *lease; /* NULL before the store was up for the first time, and while draining */
    uint64_t generation; /* grows each time the lease is got */
    struct agent *agents;
    struct target *targets;
    struct call *calls;
    const struct override_api *api;
    bool synced;            /* the watches have replayed the present, and the bus is up since */
    bool ever_synced;       /* that happened once in this process */
    int64_t bus_up_mono_ms; /* 0 = it is down */
    bool could_loosen;
    int64_t trouble_mono_ms; /* since when shared state cannot be used; 0 = it can */
    bool store_alert;
    struct loop_timer wake;
    int64_t wake_at_ms;
    struct loop_timer say; /* alerts and records, a moment after the directives that they are about */
    uint64_t owed_ids;
    struct effects fx;
    struct log_limit trouble;
};

/* A callback's way back: the agent is looked up again by name, since it may be gone, and the lease lost and got again. */
struct ticket {
    struct service *s;
    char agent[NAME_MAX_LEN + 1];
    uint64_t n;
};
struct ticket *ticket_new(struct agent *a, uint64_t n);
struct agent *ticket_agent(const struct ticket *t); /* NULL if it is gone */

/* fallback_shell.c */
struct agent *shell_agent(struct shell *sh, const char *name);
struct target *shell_target(struct shell *sh, const char *name); /* made if new; NULL if there are too many */
bool shell_leads(const struct shell *sh);
bool shell_may_loosen(const struct shell *sh);
bool shell_ready(const struct shell *sh);
void shell_wake(struct shell *sh, int64_t at_ms);
void shell_look_at_all(struct shell *sh);

/* fallback_agent.c: documents and decisions */
extern const struct sm_table agent_place_sm;
void agent_load(struct agent *a);
void agent_forget(struct agent *a); /* the lease is lost */
void agent_event(struct agent *a, const struct fallback_event *ev, const char *reply);
void agent_look(struct agent *a);
void agent_run(struct agent *a); /* does what is due */
void agent_free(struct agent *a);
bool agent_decided(const struct agent *a); /* its document is known */

/* fallback_say.c: announcements and what is owed */
void agent_announce(struct agent *a);
void agent_resend(struct agent *a);
struct owed *owed_new(struct agent *a, const struct fallback_effect *e, const struct fallback_doc *d);
struct owed *owed_take(struct shell *sh, PB(AgentState) * m);
void owed_send(struct agent *a);
/* owed_send() for every agent, SAY_AFTER_MS from now at the latest. */
void shell_say_soon(struct shell *sh);
bool owed_any_durable(const struct agent *a);
void owed_drop_left_out(struct agent *a);
void owed_free(struct owed *o);

/* fallback_call.c: the override API */
void call_start(struct agent *a, const struct fallback_effect *e);
bool call_needed_elsewhere(const struct agent *a);
void calls_cancel_releases(struct shell *sh);
void calls_free(struct shell *sh);

/* fallback_in.c: messages; fallback_cmd.c: operators */
void in_breaker(struct service *s, const void *message, const struct bus_msg *m);
void in_health(struct service *s, const void *message, const struct bus_msg *m);
void in_directive(struct service *s, const void *message, const struct bus_msg *m);
void in_ack(struct service *s, const void *message, const struct bus_msg *m);
void cmd_any(struct service *s, const void *message, const struct bus_msg *m);
void cmd_leader(struct service *s, const void *message, const struct bus_msg *m);
void cmd_answer(struct agent *a, const char *reply, const struct fallback_effect *e, uint64_t epoch);
#define FALLBACK_LEADER_CMD SUBJECT_CMD "fallback.leader."

#endif
