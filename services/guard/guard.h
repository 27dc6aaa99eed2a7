/* guard.h - may this action be taken now, pure: (request, position, baseline, now) -> choice. No I/O, no clock, no allocation.
 *
 * In order: is the agent known and its position sure, is the epoch current, is automation enabled, is the action on the baseline's list for the
 * posture, are its parameters valid, has it not expired; then where to: on to the backend, into the queue, back to the agent with a permit,
 * or refused with a reason. Limits and the idempotency key are asked of Redis afterwards, in one round trip. */
#ifndef REDOUBT_GUARD_H
#define REDOUBT_GUARD_H

#include "common/baseline.h"
#include "common/wire.h"

/* Where an agent stands, from its last directive. */
struct guard_position {
    uint64_t epoch; /* 0 = no directive was ever heard */
    int posture;    /* as in the contract, likewise the next */
    int automation, backend, link, resources;
    uint32_t ramp_percent, load_percent;
    bool llm_waiting;
    uint64_t frozen_epoch;
};
/* What the replica itself can be sure of. */
struct guard_view {
    bool known;                      /* the agent is in the settings */
    bool sure;                       /* bus up, the present replayed since, no tilt */
    const struct guard_position *at; /* NULL = none was ever heard */
    const struct baseline *baseline; /* never NULL */
    bool has_backend;                /* the settings say where its actions go */
    uint64_t released_epoch;         /* replay: actions up to this epoch were released by a person */
    int64_t max_age_ms;              /* replay */
};
enum guard_verdict { GUARD_FORWARD, GUARD_PERMIT, GUARD_QUEUE, GUARD_REFUSE };
struct guard_choice {
    enum guard_verdict verdict;
    int reason;                           /* enum RefusalReason of the contract, with REFUSE */
    bool hold;                            /* replay: not now and not refused: ask again when something has changed */
    const struct baseline_action *action; /* NULL if it is not in the baseline */
    char detail[256];                     /* one line for people */
};
/* `queued_ms` > 0: a replay of an action that was queued then; its epoch is allowed to be old. */
void guard_judge(const struct guard_view *v, const PB(ActionRequest) * r, int64_t queued_ms, int64_t now_ms,
                 struct guard_choice *ret);

#endif
