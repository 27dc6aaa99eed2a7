/* redoubt.h - libredoubt: what an agent in C links. Connects, sends heartbeats, reports calls, admits calls by the pushed
 * breaker state, and receives directives exactly once per epoch.
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
