/* guard_rate.h - how often: GCRA, the leaky bucket that needs one number. Pure. */
#ifndef REDOUBT_GUARD_RATE_H
#define REDOUBT_GUARD_RATE_H

#include <stdint.h>

/* One action each interval_us, and so much earlier than its time as tolerance_us. interval 0 = no limit. */
struct guard_rate {
    int64_t interval_us, tolerance_us;
};
/* The share of one of `members` replicas of a limit; 1 = the whole. Never more than that share, and never less than one at a time. */
struct guard_rate guard_rate_make(int64_t per_minute, int64_t burst, int64_t members);
/* *tat_us: when the next one would be due if they came evenly; 0 at first. 0 = it may pass, and the number moves; else the microseconds
 * until it may, and nothing moves. */
int64_t guard_rate_ask(int64_t *tat_us, struct guard_rate r, int64_t now_us);
/* One has passed by another's permission: it counts here, but never beyond a burst that is used up. */
void guard_rate_note(int64_t *tat_us, struct guard_rate r, int64_t now_us);

#endif
