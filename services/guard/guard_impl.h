/* guard_impl.h - what only the core's files share: an action under way, its claim on Redis, its records. Private to this room. */
#ifndef REDOUBT_GUARD_IMPL_H
#define REDOUBT_GUARD_IMPL_H

#include "common/log.h"
#include "guard/guard_memory.h"
#include "guard/guard_rate.h"
#include "guard/guard_shell.h"

#define GUARD_ACTIONS_MAX 8192 /* under way at a time, from judgement to answer; more are told to come again */
#define GUARD_PLACE_MAX   48

enum guard_mode { GUARD_MODE_FORWARD, GUARD_MODE_PERMIT, GUARD_MODE_QUEUE };

struct guard_act;
typedef void (*guard_recorded)(struct guard_act *x, bool durable);
/* An action under way. Its request is its own copy. */
struct guard_act {
    struct guard *g;
    struct guard_agent *a;
    PB(ActionRequest) * r;
    int64_t queued_ms;
    uint64_t under_epoch; /* the agent's epoch when it was judged: what fences go by */
    guard_done done;
    void *ctx;
    enum guard_mode mode;
    int64_t begun_ns, claimed_ms; /* monotonic */
    char token[GUARD_PLACE_MAX];  /* of its claim on the key */
    uint64_t print;               /* of action and parameters */
    bool claimed, local, calling;
    struct guard_result result;
    char detail[320];
    struct http_call *call;
    struct guard_act *next;              /* in the list of those that end this turn, or wait for a call */
    struct guard_act *peer, **peer_link; /* in its agent's list; NULL when it is not in hand */
    struct guard_act *record_next;       /* in the batch of records that it waits for */
    guard_recorded recorded;
};

/* guard_action.c */
void guard_act_claimed(struct guard_act *x); /* the key is ours, within the limits */
void guard_act_end(struct guard_act *x, enum guard_end end, int reason, const char *detail);
void guard_act_called(struct guard_act *x, enum guard_end end, int status, const char *detail, int64_t retry_ms);
void guard_turn(struct guard *g); /* hands out what ended */
void guard_act_pump(struct guard *g);
void guard_view_of(const struct guard *g, const struct guard_agent *a, struct guard_view *v);

/* guard_claim.c: limits and the idempotency key, in Redis or, without it, here */
int guard_claim_open(struct guard *g, struct err *e);
void guard_claim_close(struct guard *g);
void guard_claim(struct guard_act *x); /* goes on in guard_act_claimed() or guard_act_end(), perhaps from inside */
/* What became of it: nothing, and the key may be used again; or, of a replay, it waits on; or it is done, with a status. */
enum guard_fate { GUARD_FATE_FREE, GUARD_FATE_WAITS, GUARD_FATE_DONE };
void guard_claim_settle(struct guard_act *x, enum guard_fate fate, int status);
/* It is durable in the queue. */
void guard_claim_queued(struct guard *g, const PB(ActionRequest) * r);
void guard_claim_forget(struct guard *g, const char *agent,
                        const char *key); /* a queued one that could not be queued */
void guard_claim_store_up(struct guard *g);

/* guard_audit.c: records, many at once */
int guard_audit_open(struct guard *g, struct err *e);
void guard_audit_close(struct guard *g);
/* Strict, before the act: done is called when it is durable, or could not be made so. */
void guard_audit_intend(struct guard_act *x, guard_recorded done);
/* What came of it; waits for nobody. */
void guard_audit_outcome(struct guard *g, const PB(ActionRequest) * r, const char *what, int outcome, int reason,
                         int status, const char *detail, uint64_t epoch);
void guard_audit_flush(struct guard *g);
bool guard_audit_idle(const struct guard *g);

/* guard_http.c: the call to the backend */
void guard_call(struct guard_act *x, const struct baseline_action *action);

/* guard_fence.c */
void guard_on_fence(struct service *s, const void *message, const struct bus_msg *m);
void guard_fence_done(struct guard_act *x); /* it is not in hand any more */
void guard_fence_free(struct guard_agent *a);

/* guard_in.c */
void guard_on_action(struct service *s, const void *message, const struct bus_msg *m);
void guard_on_baseline(struct service *s, const void *message, const struct bus_msg *m);

/* guard_say.c: alerts and figures */
enum guard_trouble { GUARD_TROUBLE_STORE, GUARD_TROUBLE_AUDIT, GUARD_TROUBLE_BASELINE, GUARD_TROUBLES };
void guard_trouble(struct guard *g, enum guard_trouble t, bool is, const char *detail);
void guard_count(struct guard *g, const struct guard_act *x);
void guard_figures(struct guard *g);

#endif
