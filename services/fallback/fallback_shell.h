/* fallback_shell.h - what the shell's files share: the service's state, one record per agent. */
#ifndef REDOUBT_FALLBACK_SHELL_H
#define REDOUBT_FALLBACK_SHELL_H

#include "common/order.h"
#include "common/service.h"
#include "common/share.h"
#include "common/store_trouble.h"
#include "common/subjects.h"
#include "fallback/fallback.h"
#include "fallback/fallback_doc.h"
#include "fallback/fallback_effects.h"
#include "fallback/override_http.h"
#include <uthash.h>

extern const struct service_desc fallback_service;

#define KEY_TEXT (NAME_MAX_LEN + 24)

struct target {
    char name[TARGET_MAX_LEN + 1];
    struct fallback_target view;
    struct intake intake;
    struct use *users; /* agents that look at it */
    UT_hash_handle hh;
};
/* That an agent looks at a target: one place for each of its chain, and one for its backend. */
struct use {
    struct agent *agent;
    struct target *target;   /* NULL = this place is empty */
    struct use *prev, *next; /* of the target */
};
#define USE_BACKEND FALLBACK_CHAIN_MAX
#define USES_MAX    (FALLBACK_CHAIN_MAX + 1)

/* An override API, by its URL; kept until the end. */
struct call;
struct api {
    char *url;
    struct agent *agents;
    size_t needing;      /* agents without an LLM, whoever acts for them */
    bool look;           /* the last need is gone: who waits to release is to be looked at */
    struct call *calls;  /* in order */
    unsigned at_work[2]; /* calls that do not wait; [1]: releases */
    UT_hash_handle hh;
};

/* An event that waits for its turn. */
struct queued {
    struct fallback_event ev;
    char reply[ORDER_REPLY]; /* of the operator who asked; "" = none */
    struct queued *next;
};

/* Alert or audit record that a change owes, until it is durable in the outbox. */
struct owed {
    struct bytes packed; /* an OwedNotice */
    enum { OWED_WAITS, OWED_SENT, OWED_DURABLE } state;
    bool left_out; /* of the write in flight: gone when it has won */
    uint64_t id;   /* of this process */
    int64_t again_mono_ms;
    struct owed *next;
};

/* Where an agent's document is. */
enum place {
    AWAY,    /* this replica does not act for it */
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
    unsigned partition;
    struct agent *mate_prev, *mate_next; /* of the same partition */
    const struct set_agent *set;         /* in the service's settings */
    struct fallback_rule rule;           /* strings in the settings */
    struct fallback_verdict verdict, judgement, resources;
    struct agent_effects fx;
    struct use uses[USES_MAX];
    struct api *api; /* NULL = it has no override */
    struct agent *api_prev, *api_next;
    bool needing; /* counted in the API */

    int place;
    uint64_t op;  /* of the store command in flight; older answers are ignored */
    uint64_t rev; /* of the stored document; 0 = absent */
    bool known;   /* f was good at some time in this process: what an emptied Redis is filled from */
    struct fallback f;
    struct bytes directive; /* of f.doc.epoch */
    uint64_t issued_epoch;  /* of `directive`, if this process has made it; 0 = it was read */
    bool issued_needs;      /* as seen_needs */
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
    bool issuing; /* counted in the shell */
    enum writing {
        WRITE_TIDY,
        WRITE_LOOK,
        WRITE_EVENT
    } writing; /* for what: nothing new, a LOOK, the queue's head */

    struct queued *queue, **queue_end;
    bool look;                           /* a LOOK is due */
    bool strict;                         /* when it was last decided upon, nothing could get looser */
    int64_t wake_at_ms;                  /* shared time; INT64_MAX = none */
    size_t heap_at;                      /* unless it is none */
    struct agent *look_prev, *look_next; /* in line for a look; likewise the next: those that owe */
    struct agent *say_prev, *say_next;
    struct agent *hear_prev, *hear_next; /* its confirmation waits in the queue */

    struct bytes seen; /* the newest directive that the watch saw */
    uint64_t seen_epoch;
    bool seen_needs;          /* by it the agent has no LLM and needs the override */
    uint64_t last_seen_epoch; /* of the last one that came, newest or not: what the stream holds */
    UT_hash_handle hh;
};

struct shell {
    struct service *s;
    struct partitions *partitions; /* NULL before the store was up for the first time, and while draining */
    struct agent *of[PARTITIONS];
    uint64_t generation[PARTITIONS]; /* grows each time the partition is got or lost */
    struct share_said said;
    struct agent *agents;
    struct target *targets;
    size_t strangers; /* targets that no agent uses */
    struct api *apis;
    bool apis_due;
    const struct override_api *api;
    bool synced;            /* the watches have replayed the present, and the bus is up since */
    bool ever_synced;       /* that happened once in this process */
    int64_t bus_up_mono_ms; /* 0 = it is down */
    struct store_trouble store_trouble;
    struct loop_timer wake;
    struct agent **heap; /* by wake_at_ms */
    size_t heap_n, heap_cap;
    int64_t armed_ms;
    bool waking;
    struct loop_timer looks;
    struct agent *to_look;
    size_t storing; /* agents whose document is being written */
    size_t issuing; /* of them: with a directive that is to follow */
    struct loop_timer hear;
    struct agent *to_hear;
    struct loop_timer say; /* alerts and records, a moment after the directives that they are about */
    struct agent *to_say;
    int64_t say_by_mono_ms; /* then whatever else is to be done */
    uint64_t owed_ids;
    struct effects fx;
    struct log_limit trouble;
};

/* A callback's way back: the agent is looked up again by name, since it may be gone, and its partition lost and got again. */
struct ticket {
    struct service *s;
    char agent[NAME_MAX_LEN + 1];
    uint64_t n;
};
struct ticket *ticket_new(struct agent *a, uint64_t n);
struct agent *ticket_agent(const struct ticket *t); /* NULL if it is gone */

/* fallback_shell.c */
struct agent *shell_agent(struct shell *sh, const char *name);
bool shell_may_loosen(const struct shell *sh); /* as far as it is the same for all agents */
bool shell_ready(const struct shell *sh);
void shell_look_at_all(struct shell *sh);
/* The token of its partition; 0 = we do not act for it. */
uint64_t agent_fence(const struct agent *a);
uint64_t agent_generation(const struct agent *a);

/* fallback_index.c: agents by target */
struct target *shell_target(struct shell *sh, const char *name); /* made if new; NULL if there are too many */
void agent_link_targets(struct agent *a);                        /* by its rule */
void agent_unlink_targets(struct agent *a);
const struct fallback_target *agent_sees(const struct agent *a, size_t place); /* never NULL */
void target_look_at_users(const struct target *t);
void targets_free(struct shell *sh);

/* fallback_wake.c: agents by time */
void agent_wake_at(struct agent *a, int64_t at_ms); /* INT64_MAX = not */
void shell_on_wake(void *ctx);

/* fallback_line.c: many agents that are to be looked at, a few per turn of the loop */
void agent_look_in_turn(struct agent *a);
void agent_leave_line(struct agent *a);
void shell_on_looks(void *ctx);
void agent_hear_soon(struct agent *a); /* agent_run() when no directive is being written, or in a moment */
void agent_hear_not(struct agent *a);
void shell_hear(struct shell *sh); /* those that wait, at the next turn */
void shell_on_hear(void *ctx);

/* fallback_api.c: agents by override API */
struct api *shell_api(struct shell *sh, const char *url); /* made if new */
void agent_join_api(struct agent *a);                     /* by its settings */
void agent_leave_api(struct agent *a);
void agent_count_need(struct agent *a); /* its document, or its last directive, has changed */
bool agent_needed_elsewhere(const struct agent *a);
void shell_look_at_apis(struct shell *sh); /* what agent_count_need() has left to be done */
void apis_free(struct shell *sh);

/* fallback_agent.c: documents and decisions */
extern const struct sm_table agent_place_sm;
void agent_load(struct agent *a);
void agent_forget(struct agent *a); /* its partition is lost */
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
void agent_say_soon(struct agent *a); /* owed_send() in a moment, after the directives of others */
void agent_say_not(struct agent *a);  /* it is about to be freed */
void shell_say_all(struct shell *sh); /* now */
void shell_on_say(void *ctx);
bool owed_any_durable(const struct agent *a);
void owed_drop_left_out(struct agent *a);
void owed_free(struct owed *o);

/* fallback_call.c: the override API */
void call_start(struct agent *a, const struct fallback_effect *e);
void calls_cancel_releases(struct shell *sh, struct api *x);
void calls_cancel_releases_of(struct shell *sh, unsigned partition);
void calls_free(struct shell *sh);

/* fallback_claim.c: what replicas know of each other's calls. `answered` false: Redis did not say. The callback comes once. */
typedef void (*claim_cb)(void *ctx, bool answered, int64_t value);
/* value: wait so many ms at most, since another replica is releasing it; 0 = go on. */
void claim_need(struct service *s, const char *url, const char *agent, int64_t duration_ms, claim_cb cb, void *ctx);
/* value: 1 = release it, 0 = an agent of another replica needs it. `who` names the call. */
void claim_release(struct service *s, const char *url, const char *agent, const char *who, claim_cb cb, void *ctx);
void claim_released(struct service *s, const char *url, const char *who);

/* fallback_in.c: messages; fallback_cmd.c: operators */
void in_breaker(struct service *s, const void *message, const struct bus_msg *m);
void in_health(struct service *s, const void *message, const struct bus_msg *m);
void in_directive(struct service *s, const void *message, const struct bus_msg *m);
void in_ack(struct service *s, const void *message, const struct bus_msg *m);
void cmd_any(struct service *s, const void *message, const struct bus_msg *m);
void cmd_holder(struct service *s, const void *message, const struct bus_msg *m);
void cmd_answer(struct agent *a, const char *reply, const struct fallback_effect *e, uint64_t epoch);
#define FALLBACK_HOLDER_CMD SUBJECT_CMD "fallback.leader." /* to all replicas: whoever acts for the agent answers */

#endif
