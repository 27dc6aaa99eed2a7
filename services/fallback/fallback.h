/* fallback.h - where an agent stands and what it is told, pure: (state, view, event, now) -> (state', effects).
 * No I/O, no clock, no allocation.
 *
 * Dimensions are orthogonal: the LLM chain, the backend, automation, resources, the link. Each is settled by itself from what is
 * seen; the posture is the most restrictive that any of them asks for. Getting stricter happens at once; getting looser needs a reason that
 * has held for a while, and `may_loosen` of the view. */
#ifndef REDOUBT_FALLBACK_H
#define REDOUBT_FALLBACK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define FALLBACK_CHAIN_MAX    16
#define FALLBACK_TARGET_TEXT  129
#define FALLBACK_MODEL_TEXT   257
#define FALLBACK_WHO_TEXT     129
#define FALLBACK_WHY_TEXT     1025
#define FALLBACK_REASON_TEXT  384
#define FALLBACK_KEY_TEXT     129
#define FALLBACK_ID_TEXT      65
#define FALLBACK_RESTARTS_MAX 16

/* Numbers as in the contract; the shell asserts that they agree. */
enum fallback_posture {
    FALLBACK_NORMAL = 1,
    FALLBACK_BACKUP_LLM,
    FALLBACK_RECOVERING,
    FALLBACK_DEGRADED,
    FALLBACK_SECURITY,
    FALLBACK_FROZEN,
};
enum fallback_backend { FALLBACK_BACKEND_UP = 1, FALLBACK_BACKEND_DEGRADED, FALLBACK_BACKEND_RECOVERING };
enum fallback_automation { FALLBACK_AUTOMATION_ENABLED = 1, FALLBACK_AUTOMATION_FROZEN };
enum fallback_override {
    FALLBACK_OVERRIDE_OFF = 1,
    FALLBACK_OVERRIDE_ACTIVATING,
    FALLBACK_OVERRIDE_ACTIVE,
    FALLBACK_OVERRIDE_RELEASING,
};
enum fallback_step {
    FALLBACK_STEP_NONE,
    FALLBACK_STEP_INITIAL,
    FALLBACK_STEP_SWITCH_LLM,
    FALLBACK_STEP_SECURITY,
    FALLBACK_STEP_RESTORE_LLM,
    FALLBACK_STEP_DEGRADE_BACKEND,
    FALLBACK_STEP_RAMP_BACKEND,
    FALLBACK_STEP_RESTORE_BACKEND,
    FALLBACK_STEP_FREEZE,
    FALLBACK_STEP_UNFREEZE,
    FALLBACK_STEP_RESTRICT,
    FALLBACK_STEP_RECONNECT,
    FALLBACK_STEP_SHED_LOAD,
    FALLBACK_STEP_REQUEST_RESTART,
    FALLBACK_STEP_RESTART,
    FALLBACK_STEP_RESTORE_LOAD,
    FALLBACK_STEP_WAIT_LLM,
    FALLBACK_STEPS,
};
enum fallback_resources { FALLBACK_RESOURCES_OK = 1, FALLBACK_RESOURCES_SHEDDING, FALLBACK_RESOURCES_RESTARTING };
enum fallback_link { FALLBACK_LINK_UP = 1, FALLBACK_LINK_RESTRICTED, FALLBACK_LINK_GONE, FALLBACK_LINK_RETURNING };
enum fallback_failure {
    FALLBACK_FAILURE_NONE,
    FALLBACK_FAILURE_LLM,
    FALLBACK_FAILURE_BACKEND,
    FALLBACK_FAILURE_LOGIC,
    FALLBACK_FAILURE_RESOURCE,
    FALLBACK_FAILURE_NETWORK,
    FALLBACK_FAILURE_AGENT_DOWN,
};
enum fallback_breaker {
    FALLBACK_BREAKER_UNKNOWN, /* never heard of */
    FALLBACK_BREAKER_CLOSED,
    FALLBACK_BREAKER_OPEN,
    FALLBACK_BREAKER_HALF_OPEN,
    FALLBACK_BREAKER_PROBATION,
    FALLBACK_BREAKER_FORCED_OPEN,
    FALLBACK_BREAKER_FORCED_CLOSED,
    FALLBACK_BREAKER_METRICS_ONLY,
    FALLBACK_BREAKERS,
};
enum fallback_health {
    FALLBACK_HEALTH_UNHEARD,
    FALLBACK_HEALTH_UNKNOWN,
    FALLBACK_HEALTH_HEALTHY,
    FALLBACK_HEALTH_DEGRADED,
    FALLBACK_HEALTH_UNHEALTHY,
    FALLBACK_HEALTH_FLAPPING,
    FALLBACK_HEALTH_MAINTENANCE,
};

/* What people are told of, one problem per kind and agent. A bit of `open_alerts` each: numbers stay. */
enum fallback_notice {
    FALLBACK_NOTICE_BACKUP_LLM,
    FALLBACK_NOTICE_SECURITY,
    FALLBACK_NOTICE_OVERRIDE, /* it could not be activated, or has lapsed */
    FALLBACK_NOTICE_RELEASE,  /* it could not be released */
    FALLBACK_NOTICE_BACKEND,
    FALLBACK_NOTICE_FROZEN,
    FALLBACK_NOTICE_ACK,
    FALLBACK_NOTICE_DOWN,
    FALLBACK_NOTICE_RESOURCES, /* it sheds load */
    FALLBACK_NOTICE_RESTART,   /* a restart failed, or there were too many: people must */
    FALLBACK_NOTICE_LINK,      /* it cannot be reached: restricted */
    FALLBACK_NOTICE_MONITOR,   /* basic monitoring has found something, or is not done */
    FALLBACK_NOTICE_ROLLBACK,  /* a rollback was asked for, and could not be started */
    FALLBACK_NOTICES,
};

/* ---- the document ---- */

struct fallback_doc {
    uint64_t epoch;    /* 0 = there is no document yet */
    uint64_t revision; /* grows by one with each stored change */
    int posture;
    int llm_index; /* -1 = none */
    char llm_target[FALLBACK_TARGET_TEXT];
    char llm_model[FALLBACK_MODEL_TEXT];
    int backend;
    uint32_t ramp_percent;
    int automation;
    char frozen_by[FALLBACK_WHO_TEXT];
    char frozen_why[FALLBACK_WHY_TEXT];
    int override_mode;
    int64_t override_until_ms; /* while ACTIVATING: at the earliest; while ACTIVE: lapses then */
    char override_key[FALLBACK_KEY_TEXT];
    uint64_t acked_epoch;
    int64_t evidence_ms;
    int64_t since_ms;
    int step;
    int failure;
    char reason[FALLBACK_REASON_TEXT];
    char cause[FALLBACK_TARGET_TEXT];
    uint32_t open_alerts; /* bits of enum fallback_notice */
    uint64_t verdict_epoch, judgement_epoch;
    int resources;         /* enum fallback_resources */
    int link;              /* enum fallback_link */
    uint32_t load_percent; /* 1..100: the least that resources and link ask for */
    bool restart_requested;
    bool llm_waiting; /* llm_index is -1 until the agent's turn comes at llm_wanted */
    char llm_wanted[FALLBACK_TARGET_TEXT];
    size_t n_restarts;
    int64_t restarts_ms[FALLBACK_RESTARTS_MAX]; /* by the executor, within the last hour, newest last */
    char restart_id[FALLBACK_KEY_TEXT];         /* "" = none under way */
    int64_t resources_since_ms, link_since_ms;  /* when the present step of shedding, or of the link, was entered */
    uint32_t monitor_interval_ms;               /* 0 = no basic monitoring in this position */
    uint64_t frozen_epoch;                      /* of the last freeze; 0 = never */
    int drill_failure;                          /* enum fallback_failure that is pretended; NONE = no drill */
    int64_t drill_until_ms;
    char drill_by[FALLBACK_WHO_TEXT];
    char rollback_id[FALLBACK_ID_TEXT]; /* "" = none was asked for */
    uint32_t shed_percent;              /* 1..100: what its resources allow */
    uint32_t return_percent;            /* 1..100: what its way back from having been gone allows */
    int drill_was;          /* enum fallback_failure whose drill is over, until the agent is back; or NONE */
    int64_t drill_ended_ms; /* 0 = drill_was is NONE */
};

/* ---- what is seen (not stored) ---- */

/* A target as breaker and health tell it; shared by all agents that use it. */
struct fallback_target {
    int breaker; /* enum fallback_breaker */
    uint64_t breaker_epoch;
    uint32_t ramp_percent;
    int64_t well_since_ms; /* calls pass without interruption since then; 0 = they don't */
    int64_t evidence_ms;   /* first failure behind the present opening; 0 = none */
    int health;            /* enum fallback_health */
    uint64_t health_epoch;
};
/* Folds one message in; false if it is no news (an old or known epoch). `since_ms`: when the state was entered. */
bool fallback_target_breaker(struct fallback_target *t, uint64_t epoch, int breaker, uint32_t ramp_percent,
                             int64_t since_ms, int64_t evidence_ms);
bool fallback_target_health(struct fallback_target *t, uint64_t epoch, int health);

/* The watchers' verdict on the agent itself. */
struct fallback_verdict {
    uint64_t epoch; /* 0 = none yet */
    int health;
    int failure;
    int64_t since_ms;
    char reason[FALLBACK_REASON_TEXT];
};

/* What a model says to one more agent. */
enum fallback_intake {
    FALLBACK_INTAKE_OPEN, /* it may come now */
    FALLBACK_INTAKE_WAIT, /* it must wait for its turn */
    FALLBACK_INTAKE_FULL, /* as many as it may have: go on to the next */
};

struct fallback_view {
    const struct fallback_target *llm[FALLBACK_CHAIN_MAX];
    uint8_t intake[FALLBACK_CHAIN_MAX];    /* enum fallback_intake */
    const struct fallback_target *backend; /* NULL = the agent has none */
    const struct fallback_verdict *verdict;
    const struct fallback_verdict *judgement; /* on what it decides; NULL = never heard of */
    const struct fallback_verdict *resources; /* on what it uses; NULL = never heard of */
    bool ready;                               /* the present was replayed: a target never heard of is really new */
    bool bus_up;                              /* an acknowledgement could come */
    bool may_loosen;                          /* store, bus and clock are trusted */
    bool override_needed_elsewhere; /* another agent on the same override API has no LLM: it must not be released */
};

enum fallback_rollback { FALLBACK_ROLLBACK_OFFER, FALLBACK_ROLLBACK_START, FALLBACK_ROLLBACK_NOTHING };
/* The settings of one agent. Strings are the caller's. */
struct fallback_rule {
    const char *agent;
    size_t n_chain;
    struct {
        const char *target, *model;
        const char *unfit; /* why this agent cannot use it; NULL = it can */
    } chain[FALLBACK_CHAIN_MAX];
    const char *backend; /* "" = none */
    bool override;       /* there is an API to call */
    int64_t override_duration_ms, override_renew_ms, override_retry_ms;
    int64_t ack_ms, ack_alert_ms;
    int64_t restore_hold_ms;
    int64_t backend_step_ms;
    unsigned rank; /* 0..99: the agent's place in a ramp */
    int64_t shed_step_ms, shed_hold_ms;
    bool may_restart;           /* the executor is allowed to */
    unsigned restarts_per_hour; /* 1..FALLBACK_RESTARTS_MAX */
    int64_t return_step_ms;
    uint32_t monitor_interval_ms;
    const char *procedure;  /* what people do by hand; "" = none is named */
    const char *deployment; /* "" = none */
    int rollback;           /* when it is gone: enum fallback_rollback */
    int64_t rollback_after_ms;
    bool has_selftest; /* questions are set: a return from having been gone waits for its judgement */
};
/* Place of an agent in every ramp, 0..99: the same on every replica. */
unsigned fallback_rank(const char *agent);

/* ---- the machine ---- */

enum fallback_call_kind { FALLBACK_CALL_ACTIVATE, FALLBACK_CALL_RENEW, FALLBACK_CALL_RELEASE };

struct fallback {
    struct fallback_doc doc;
    struct {                      /* forgotten in a crash, and found again by itself */
        int64_t waiting_since_ms; /* for the acknowledgement of epoch; 0 = not waiting */
        int64_t resend_at_ms, resend_gap_ms;
        bool calling; /* an override call is under way */
        int64_t call_at_ms, call_gap_ms;
        unsigned call_failures;
        bool restarting, rolling; /* asked for by this process: its end will be told */
        int await_index;          /* where the agent is in line, plus one; 0 = nowhere */
        int64_t await_at_ms;      /* gets in line again then */
    } run;
};

enum fallback_event_kind {
    FALLBACK_START,  /* no document: the first position ever */
    FALLBACK_LOADED, /* the document was read, or the settings changed */
    FALLBACK_LOOK,   /* something in the view changed, or time has passed */
    FALLBACK_ACK,
    FALLBACK_FREEZE,
    FALLBACK_UNFREEZE,
    FALLBACK_CALLED,    /* an override call has ended */
    FALLBACK_RESYNC,    /* an operator asks for the last directive again */
    FALLBACK_DRILL,     /* an operator pretends a failure, goes on or ends it */
    FALLBACK_RESTARTED, /* the executor has ended */
    FALLBACK_ROLLED,    /* the rollback service has answered */
    FALLBACK_MONITORED, /* what basic monitoring has found */
    FALLBACK_EVENTS,
};
struct fallback_event {
    enum fallback_event_kind kind;
    uint64_t epoch;                 /* ACK */
    bool failed;                    /* ACK: could not be applied; CALLED, RESTARTED, ROLLED, MONITORED: no success */
    bool waived;                    /* UNFREEZE: without a self-test */
    int failure;                    /* DRILL: enum fallback_failure; NONE ends it */
    int64_t until_ms;               /* DRILL */
    enum fallback_call_kind call;   /* CALLED */
    char key[FALLBACK_KEY_TEXT];    /* CALLED: the activation it was made for; RESTARTED, ROLLED: its id */
    int64_t called_at_ms;           /* CALLED: when the call began */
    char by[FALLBACK_WHO_TEXT];     /* FREEZE, UNFREEZE, RESYNC */
    char detail[FALLBACK_WHY_TEXT]; /* why; or what went wrong */
};

enum fallback_effect_kind {
    FALLBACK_STORE,   /* write the document before anything else is done */
    FALLBACK_ISSUE,   /* with STORE: the directive of the new epoch goes out */
    FALLBACK_RESEND,  /* the directive again, same id */
    FALLBACK_TELL,    /* an alert; only with STORE */
    FALLBACK_RECORD,  /* an audit record; only with STORE */
    FALLBACK_CALL,    /* call the override API */
    FALLBACK_RESTART, /* run the executor; `key` is its id */
    FALLBACK_ROLL,    /* ask the rollback service; `key` is the job's id */
    FALLBACK_FENCE,   /* have every guard confirm that nothing older is under way; an ANSWER waits for it */
    FALLBACK_AWAIT,   /* get in line at the target of chain position `index` */
    FALLBACK_WAKE_AT, /* LOOK again then */
    FALLBACK_ANSWER,  /* to the operator who asked */
};
enum fallback_answer { FALLBACK_DONE, FALLBACK_ALREADY, FALLBACK_NOT_NOW };
struct fallback_effect {
    enum fallback_effect_kind kind;
    int64_t at_ms;                    /* WAKE_AT */
    enum fallback_notice notice;      /* TELL */
    bool resolved;                    /* TELL */
    int index;                        /* AWAIT */
    uint64_t epoch;                   /* FENCE: of the directive that froze the agent */
    bool override_activated;          /* TELL SECURITY: among the actions taken */
    enum fallback_call_kind call;     /* CALL */
    char key[FALLBACK_KEY_TEXT + 32]; /* CALL: Idempotency-Key; RESTART, ROLL: its id */
    bool strict;                      /* RECORD: of the strict class */
    const char *action;               /* RECORD: directive.issued, agent.frozen, ... */
    const char *actor;                /* RECORD: NULL = the service; points into the event */
    enum fallback_answer answer;      /* ANSWER */
    char text[512];                   /* TELL: summary; RECORD: detail; ANSWER: message */
};
#define FALLBACK_EFFECTS_MAX 40

/* Takes one event. The caller works on a copy: with STORE among the effects it stores the document, and keeps the copy and carries
 * out the rest only if it won; otherwise it forgets the copy. Without STORE it keeps the copy at once. */
size_t fallback_decide(struct fallback *f, const struct fallback_rule *rule, const struct fallback_view *view,
                       const struct fallback_event *ev, int64_t now_ms,
                       struct fallback_effect out[static FALLBACK_EFFECTS_MAX]);

/* Has no LLM, and is not merely waiting for its turn at one: what the override is for. */
bool fallback_without_llm(const struct fallback_doc *d);
/* The most restrictive posture that any dimension of d asks for. */
int fallback_posture(const struct fallback_doc *d);
/* Share of the calls, in percent, on the way back after `elapsed_ms`; 0 = the way is over: all of them. */
uint32_t fallback_ramp(int64_t elapsed_ms, int64_t step_ms);
/* What must hold of every document; the text of the first thing that does not, or NULL. */
const char *fallback_invariant(const struct fallback_doc *d);

struct fallback_notice_row {
    const char *key; /* last part of the alert's dedup_key */
    int severity;    /* as in the contract */
    int failure;
    bool manual;
};
extern const struct fallback_notice_row fallback_notices[FALLBACK_NOTICES];

#define FALLBACK_ACTIONS_MAX 4
/* What was done already when that alert (a TELL) goes out; d is the document stored with it. None when it is over. */
size_t fallback_actions(const struct fallback_effect *e, const struct fallback_doc *d,
                        const char *out[static FALLBACK_ACTIONS_MAX]);

const char *fallback_posture_name(int posture);
const char *fallback_failure_name(int failure);
const char *fallback_step_name(int step);

#endif
