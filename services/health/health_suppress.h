/* health_suppress.h - alerts of what depends on something that is down. Pure; times are monotonic milliseconds.
 *
 * While an ancestor is UNHEALTHY, nobody is alerted because of its children: they say so in `suppressed_by`. Once it is well again, a
 * child that is still bad gets the time that a verdict takes (fall x fast interval) to recover, too; then its alert comes. */
#ifndef REDOUBT_HEALTH_SUPPRESS_H
#define REDOUBT_HEALTH_SUPPRESS_H

#include <stdbool.h>
#include <stdint.h>

struct health_suppress {
    bool on;          /* what was announced last is suppressed */
    int64_t since_ms; /* since when no ancestor is down any more; 0 = one is, or it was not seen yet */
    int64_t grace_ms; /* fall x fast interval */
};
/* Whether the next announcement of a target that is bad is to be suppressed. Remembers when the ancestors got well. */
bool health_suppressed(struct health_suppress *s, bool ancestor_down, int64_t now_ms);

#endif
