/* alert_group.c - which alerts of one problem people hear of. */
#include "alert/alert_group.h"

enum alert_verdict alert_group_decide(struct alert_group *g, int severity, bool resolved, bool sure, int64_t now_ms)
{
    bool was_known = g->known;
    g->known = true;
    if (resolved) {
        bool told = g->firing || (!was_known && !sure);
        g->firing = false;
        g->repeats = 0;
        g->told_ms = now_ms;
        return told ? ALERT_NOTIFY : ALERT_STRAY;
    }
    /* A time from the future is a clock that was set back: it must not silence anybody. */
    int64_t age_ms = now_ms - g->told_ms;
    if (g->firing && g->severity == severity && age_ms >= 0 && age_ms < ALERT_GROUP_INTERVAL_MS) {
        g->repeats++;
        return ALERT_REPEAT;
    }
    *g = (struct alert_group){.known = true, .firing = true, .severity = severity, .told_ms = now_ms};
    return ALERT_NOTIFY;
}

bool alert_group_overtakes(bool earlier_resolved, bool later_resolved)
{
    return earlier_resolved == later_resolved;
}

bool alert_group_outdates(bool earlier_resolved, bool later_resolved)
{
    return earlier_resolved && !later_resolved;
}
