/* health_suppress.c - alerts of what depends on something that is down. */
#include "health/health_suppress.h"

bool health_suppressed(struct health_suppress *s, bool ancestor_down, int64_t now_ms)
{
    if (ancestor_down) {
        s->since_ms = 0;
        return true;
    }
    if (!s->on)
        return false;
    if (s->since_ms == 0)
        s->since_ms = now_ms;
    return now_ms - s->since_ms < s->grace_ms;
}
