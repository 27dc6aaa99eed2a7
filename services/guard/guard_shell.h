/* guard_shell.h - what the shell's files share: the service's state, one record per agent, and an action on its way. */
#ifndef REDOUBT_GUARD_SHELL_H
#define REDOUBT_GUARD_SHELL_H

#include "common/log.h"
#include "common/metric_hist.h"
#include "common/partition.h"
#include "common/service.h"
#include "common/subjects.h"
#include "guard/guard.h"
#include <uthash.h>

extern const struct service_desc guard_service;

struct guard_queue;
struct guard_act;
struct guard_fence;
struct guard_limit;
struct guard_claims;
struct guard_audit;
struct guard_agent {
    char name[NAME_MAX_LEN + 1];
    const struct set_agent *set; /* in the service's settings; NULL after it was taken out of them */
    struct guard_position at;
    unsigned in_hand;       /* actions under way for it, from judgement to the end of the call */
    uint64_t fence_epoch;   /* the newest fence: whatever is older is refused, even before its directive is here */
    struct guard_act *acts; /* in hand */
    struct guard_fence *fences; /* asked, not yet answered */
    struct guard_limit *limits; /* its rates here; guard_claim.c */
    size_t n_limits;
    uint64_t released_epoch; /* actions up to this one were released by a person; the queue keeps it */
    void *queue;             /* the queue's own */
    UT_hash_handle hh;
};
struct guard {
    struct service *s;
    struct guard_agent *agents;
    struct baseline *baseline;
    struct partitions *partitions; /* NULL before the store was up for the first time, and while draining */
    bool synced;                   /* the watches have replayed the present, and the bus is up since */
    struct guard_queue *queue;

    /* The core's. */
    bool member; /* the list of members was read since the start: others wait for our word on a fence */
    struct guard_act *ended, **ended_end;     /* handed out at the end of the turn */
    struct guard_act *waiting, **waiting_end; /* for a call to end: no more than guard.at_once */
    size_t acts, calls;
    bool turn_due;
    struct guard_claims *claims;
    struct guard_audit *audit;
    struct metric_hist latency_us;
    unsigned troubles; /* bits: told, not yet resolved */
    int64_t store_gone_ms, looked_ms;
    struct log_limit local_log, refused_log;
    bool draining;
    struct loop_timer drain_look;
};
struct guard_agent *guard_agent(struct guard *g, const char *name); /* NULL = not in the settings */
bool guard_sure(const struct guard *g);

/* ---- guard_action.c: one action, from request to outcome ---- */

enum guard_end {
    GUARD_END_DONE,      /* the backend accepted it, or had done so before */
    GUARD_END_PERMITTED, /* the agent executes it */
    GUARD_END_QUEUE,     /* must wait (again): the backend is away, or not all may pass */
    GUARD_END_REFUSED,   /* by us: `reason`, `detail` */
    GUARD_END_REJECTED,  /* by the backend, for good: 4xx but 408, 425 and 429 */
    GUARD_END_RETRY,     /* unreachable, 5xx, 429, no answer: unknown or not now; `retry_after_ms` */
};
struct guard_result {
    enum guard_end end;
    int reason; /* enum RefusalReason */
    bool hold;  /* replay, with QUEUE: wait until the agent's position changes */
    bool duplicate;
    int status; /* HTTP; 0 = none */
    int64_t retry_after_ms;
    const char *detail; /* valid only inside the callback */
};
typedef void (*guard_done)(void *ctx, const struct guard_result *r);
/* Judges, limits, audits and executes. queued_ms 0 = new, from an agent. Called back exactly once, later, on the loop. The request is copied. */
void guard_run(struct guard *g, const PB(ActionRequest) * r, int64_t queued_ms, guard_done done, void *ctx);

/* ---- guard_queue.c: actions that wait ---- */

/* Durable when done is called with status 0; -1 = it could not be (`error`: full, too many of this agent, disk). Never from inside. */
typedef void (*guard_queued)(void *ctx, int status, bool full, const char *error);
void guard_queue_put(struct guard *g, const PB(ActionRequest) * r, int posture, const char *why, guard_queued done,
                     void *ctx);
int guard_queue_open(struct guard *g, struct err *e);
void guard_queue_close(struct guard *g);
void guard_queue_bus_up(struct guard *g);
void guard_queue_held(struct guard *g, unsigned partition); /* we act for its agents from now on */
void guard_queue_lost(struct guard *g, unsigned partition);
void guard_queue_moved(struct guard *g, struct guard_agent *a); /* its position has changed */
void guard_queue_tick(struct guard *g);                         /* every second */
/* Commands queue_list, queue_show, queue_drop, queue_release. */
void guard_queue_cmd(struct service *s, const void *message, const struct bus_msg *m);

#endif
