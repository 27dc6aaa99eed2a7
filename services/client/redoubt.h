/* redoubt.h - libredoubt: what an agent in C links. Connects, sends heartbeats, reports calls, admits calls by the pushed
 * breaker state, receives directives exactly once per epoch, acts through the guard, and sheds load, restarts and monitors when asked.
 *
 * The library runs one thread of its own. Functions may be called from any thread; callbacks come on the library's thread
 * and must not block for long (they may call any function here except redoubt_close). */
#ifndef REDOUBT_CLIENT_H
#define REDOUBT_CLIENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct redoubt redoubt;

/* Numbers as in the contract (proto/redoubt/v1). */
enum redoubt_posture {
    REDOUBT_NORMAL = 1,
    REDOUBT_BACKUP_LLM = 2,
    REDOUBT_RECOVERING = 3,
    REDOUBT_DEGRADED = 4,
    REDOUBT_SECURITY_FALLBACK = 5,
    REDOUBT_FROZEN = 6, /* also: out of touch for lease_ms, or no directive yet */
};
enum redoubt_outcome {
    REDOUBT_SUCCESS = 1,
    REDOUBT_ERROR = 2,
    REDOUBT_TIMEOUT = 3,
    REDOUBT_RATE_LIMITED = 4,
    REDOUBT_OVERLOADED = 5,
    REDOUBT_UNREACHABLE = 6,
    REDOUBT_RUNNING = 7,
    REDOUBT_IGNORED = 8,
};

/* What the agent must be. Valid only inside the callback. */
typedef struct {
    uint64_t epoch;
    enum redoubt_posture posture;
    int step;               /* enum Step of the contract */
    int llm_index;          /* -1: none usable */
    const char *llm_target; /* "" if none */
    const char *llm_model;
    bool automation_enabled;
    int backend; /* enum BackendMode of the contract */
    unsigned ramp_percent;
    const char *reason;
    int resources;                /* enum ResourceMode of the contract */
    int link;                     /* enum LinkMode of the contract */
    unsigned load_percent;        /* how much of its work it may take on; redoubt_load() spreads it */
    bool restart_requested;       /* on_restart follows */
    bool llm_waiting;             /* no LLM only until its turn comes at llm_wanted */
    const char *llm_wanted;       /* "" if none */
    unsigned monitor_interval_ms; /* on_monitor is called so often; 0 = not at all */
} redoubt_directive;

/* How the agent took it; sent back as the acknowledgement. */
enum redoubt_ack { REDOUBT_APPLIED = 1, REDOUBT_ALREADY = 2, REDOUBT_FAILED = 3 };

/* A question with one right answer, which tests the agent's judgement. Valid only inside the callback. */
typedef struct {
    const char *id;         /* pass on in the answer */
    const char *name;       /* of the question, in the suite's settings */
    const char *event_json; /* decide upon it as upon any other event, but take no action */
    int64_t answer_by_unix_ms;
} redoubt_selftest;

typedef struct redoubt_monitor redoubt_monitor;

typedef struct {
    const char *url;      /* NATS; required */
    const char *user;     /* may be NULL */
    const char *password; /* may be NULL */
    const char *token;    /* may be NULL */
    const char *tls_ca_file;
    const char *agent;     /* name, [a-z0-9_-]; required */
    const char *instance;  /* NULL = host and process id */
    unsigned heartbeat_ms; /* 0 = 1,000 */
    /* With nothing from the suite (no connection to the bus) for this long, the agent is told to be FROZEN with epoch 0 and
     * reason "out of touch"; when the suite is back, the directive that holds then is given, even if it is the last one
     * again. 0 = 30,000. */
    unsigned lease_ms;
    /* Called exactly once per epoch, in growing order of epoch; the one exception is the end of "out of touch", see above.
     * detail may be filled for REDOUBT_FAILED: then the stricter of the old and the new posture counts. Required. */
    enum redoubt_ack (*on_directive)(void *ctx, const redoubt_directive *d, char detail[256]);
    /* Fills in what the agent knows of itself before each heartbeat; may be NULL. */
    void (*on_heartbeat)(void *ctx, uint64_t *progress, uint64_t *exceptions, uint32_t *queue_depth);
    void (*on_connection)(void *ctx, bool up); /* may be NULL */
    /* A self-test: hand it to whoever decides, and answer with redoubt_selftest_answer(), from here or later from any thread. Of
     * several processes of an agent one is asked. NULL = this agent takes no self-tests. */
    void (*on_selftest)(void *ctx, const redoubt_selftest *q);
    void *ctx;
    /* The suite asks the agent to restart its process, by itself, when it can: once per directive that asks for it, and after that
     * directive's acknowledgement is out. Never for the first directive that this process is given: it is the restarted one then. The
     * callback only hands it on: end in order, with redoubt_close(), and begin anew. May be NULL. */
    void (*on_restart)(void *ctx, uint64_t epoch);
    /* Basic monitoring, which needs neither backend nor LLM: add what was looked at with redoubt_monitor_check(). Called at once when a
     * directive asks for it, and every monitor_interval_ms while it does; also without the bus, and out of touch (then by the last
     * directive's interval, or 60 s). NULL = this agent has none. */
    void (*on_monitor)(void *ctx, redoubt_monitor *m);
    /* While two versions of an agent stand side by side (a rollback), each takes a share of the work: redoubt_take_share(). The deployment's name in
     * the suite's settings, and the name or id of the version that this process is. NULL = no shares: it takes everything. */
    const char *deployment;
    const char *version;
} redoubt_options;

/* Connects in the background; NULL only for wrong options or without memory (text in error, may be NULL). Options are copied. */
redoubt *redoubt_open(const redoubt_options *o, char error[256]);
void redoubt_close(redoubt *r); /* waits for what was reported to leave, 1 s at most; NULL is fine */

typedef struct {
    enum redoubt_outcome outcome;
    unsigned status_code;
    unsigned total_ms;
    unsigned first_token_ms; /* 0 = not measured */
    unsigned retry_after_ms;
    uint64_t permit_id; /* from redoubt_admit */
} redoubt_call;
/* Says how a call to a target ended. Never blocks: 0, or -1 (malformed name or outcome, or 65,536 reports wait already; counted).
 * Reports wait while the bus is away; those older than a minute by then are dropped, they prove nothing any more. */
int redoubt_report(redoubt *r, const char *target, const redoubt_call *c);

/* What became of a decision. */
enum redoubt_decided {
    REDOUBT_DECIDED_DONE = 1,      /* usable; its action, if any, was taken or handed on */
    REDOUBT_DECIDED_DENIED = 2,    /* its action was refused by a policy, the guard or the backend */
    REDOUBT_DECIDED_MALFORMED = 3, /* what the model said could not be used */
    REDOUBT_DECIDED_EXCEPTION = 4, /* deciding ended in an exception of the agent's own code */
};
typedef struct {
    const char *event_key; /* equal events have equal keys, e.g. a hash of the content; 1 to 128 bytes; required */
    const char *verdict;   /* the judgement, up to 64 bytes; may be NULL, as the next three */
    const char *action;    /* what it wants done, up to 64 of [a-z0-9_.-]; NULL = nothing */
    const char *object;    /* what it is done to, up to 256 bytes */
    const char *detail;    /* one line for people, cut to 256 bytes; never a secret */
    enum redoubt_decided outcome;
} redoubt_decision_t;
/* Says what was decided: the evidence by which the suite finds out that the agent's judgement is gone. Never blocks: 0, or -1 (a
 * text that the contract does not take, or 16,384 wait already; counted). Several that wait go in one message. They wait while the bus
 * is away; those older than a minute by then are dropped. */
int redoubt_decision(redoubt *r, const redoubt_decision_t *d);
/* Answers a self-test: the decision as a JSON object, up to 16,384 bytes; or NULL, and in error (may be NULL) why there is none. 0, or -1:
 * nobody waits for that answer (any more), or it is too long or not UTF-8. */
int redoubt_selftest_answer(redoubt *r, const char *id, const char *answer_json, const char *error);

/* ---- acting: every automated action passes the guard ---- */

/* What became of an action. Numbers as in the contract, but for the last. */
enum redoubt_acted {
    REDOUBT_ACT_FORWARDED = 1, /* the backend has accepted it */
    REDOUBT_ACT_QUEUED = 2,    /* durable in the guard's queue until the backend recovers */
    REDOUBT_ACT_REFUSED = 3,   /* nothing was done and nothing will be; `refusal` says why */
    REDOUBT_ACT_DUPLICATE = 4, /* done before under this key */
    REDOUBT_ACT_PERMITTED = 5, /* the agent may do it by itself, now and once */
    REDOUBT_ACT_FAILED =
        6, /* passed on, and the backend refused it (`status_code`), or its outcome is unknown (`detail`) */
    REDOUBT_ACT_UNKNOWN =
        7, /* no answer until the deadline, and it may have been done: ask again under the same key */
};
/* Numbers as in the contract; from 100 on the library's own. */
enum redoubt_refusal {
    REDOUBT_REFUSED_UNKNOWN_AGENT = 1,
    REDOUBT_REFUSED_STALE_EPOCH = 2,
    REDOUBT_REFUSED_FROZEN = 3,
    REDOUBT_REFUSED_NOT_ALLOWED = 4,
    REDOUBT_REFUSED_INVALID = 5,
    REDOUBT_REFUSED_RATE_LIMITED = 6, /* ask again after `retry_after_ms` */
    REDOUBT_REFUSED_QUEUE_FULL = 7,
    REDOUBT_REFUSED_EXPIRED = 8,
    REDOUBT_REFUSED_AUDIT_UNAVAILABLE = 9,
    REDOUBT_REFUSED_STATE_UNKNOWN = 10,
    REDOUBT_REFUSED_IN_PROGRESS = 11,
    REDOUBT_REFUSED_OUT_OF_TOUCH = 100, /* out of touch with the suite for lease_ms */
    REDOUBT_REFUSED_NO_DIRECTIVE = 101, /* no directive was taken over yet */
    REDOUBT_REFUSED_UNREACHABLE = 102,  /* no guard was there until the deadline */
    REDOUBT_REFUSED_CLOSED = 103,       /* redoubt_close() came first */
};
typedef struct {
    const char *key, *value;
} redoubt_parameter;
typedef struct {
    const char *action; /* a name of the security baseline, as block_ip; required */
    const redoubt_parameter *parameters;
    size_t n_parameters; /* up to 64 */
    const char
        *idempotency_key;    /* 1 to 128 bytes; the same key is executed at most once; NULL = the library makes one */
    unsigned priority;       /* 0 (first) to 9 (last), in the queue */
    int64_t expires_unix_ms; /* not to be executed after this; 0 = never expires */
    unsigned
        timeout_ms; /* how long the library keeps asking while the outcome is unknown, 100 to 600,000; 0 = 15,000 */
    /* The decision that it comes from, or NULL. The library tells the suite of it (as redoubt_decision() does) when the outcome is known: with
     * outcome DENIED if the guard would not have it (NOT_ALLOWED, INVALID, RATE_LIMITED) or the backend refused it (a status of 4xx but 408,
     * 425 and 429), as given otherwise. Do not call redoubt_decision() for it, too. */
    const redoubt_decision_t *decision;
} redoubt_action;
typedef struct {
    enum redoubt_acted result;
    enum redoubt_refusal refusal; /* with REFUSED; with UNKNOWN what was heard last; 0 = nothing */
    unsigned status_code;         /* HTTP status of the backend; 0 = none */
    unsigned retry_after_ms;
    uint64_t epoch; /* under which it was asked for last; 0 = it never left this process */
    char idempotency_key[129];
    char detail[257]; /* one line for people */
} redoubt_result;
typedef void (*redoubt_acted_fn)(void *ctx, const redoubt_result *result);
/* Asks the guard for an action. Never blocks: 0, and fn (may be NULL) is called exactly once, on the library's thread; or -1 without a call
 * (malformed, 1,024 wait already, or the client is being closed; counted). Frozen, out of touch or never directed, it is refused
 * here and no message is sent. While the outcome is unknown (no answer, no guard, the guard is not sure, the same key under way, or a newer
 * directive has come meanwhile) the library asks again under the same key, until timeout_ms is over. */
int redoubt_act(redoubt *r, const redoubt_action *a, redoubt_acted_fn fn, void *ctx);
/* The same, and waits for the outcome: 0 with it in *result, or -1. Not from a callback: it would wait for itself. */
int redoubt_act_wait(redoubt *r, const redoubt_action *a, redoubt_result *result);
/* "FORWARDED", "NOT_ALLOWED": for people. "?" if there is no such value, "NONE" for refusal 0. */
const char *redoubt_acted_text(enum redoubt_acted result);
const char *redoubt_refusal_text(enum redoubt_refusal refusal);

/* May one more unit of work be taken on now? Of 100 calls in a row so many say yes as the directive's load_percent; none while frozen, out of
 * touch or never directed. No lock. What is refused here is left for later, or to others. */
bool redoubt_load(redoubt *r);

/* Is this piece of work this version's? By its key (an id of the event, 1 byte or more) if both versions see every piece, as by a queue group per version:
 * of the two exactly one takes it, or both for the moment in which a share moves. key NULL = by turn, for who asks before fetching the next piece: of 100
 * in a row so many say yes as is this version's share. True whenever nobody says otherwise. No lock. What is taken is in hand until redoubt_share_done(): a
 * version is stopped when it has nothing in hand. */
bool redoubt_take_share(redoubt *r, const char *key);
void redoubt_share_done(redoubt *r);

/* Only inside on_monitor: one thing that was looked at. 0, or -1: no name of 1 to 64 bytes, not UTF-8, or 64 are there already. */
int redoubt_monitor_check(redoubt_monitor *m, const char *name, bool ok, const char *detail);

typedef struct {
    bool admitted;
    uint64_t permit_id;      /* pass on in the report */
    unsigned retry_after_ms; /* if not admitted */
} redoubt_admission;
/* May this target be called now? Decided locally by the pushed breaker state (unknown = yes while connected, all = no before the
 * first connection and once out of touch): no lock, no round trip. In HALF_OPEN the library asks for the fleet's one permit in the
 * background when somebody wants to call; the next call of this function after it is granted takes it. */
redoubt_admission redoubt_admit(redoubt *r, const char *target);

enum redoubt_posture redoubt_posture_now(const redoubt *r);
uint64_t redoubt_epoch_now(const redoubt *r);

#ifdef __cplusplus
}
#endif
#endif
