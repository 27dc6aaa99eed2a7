/* alert_quiet.c - quiet hours. */
#include "alert/alert_quiet.h"
#include "alert/alert.h"
#include <string.h>

/* HH:MM, checked by the settings. */
static int minute_of(const char *s)
{
    return ((s[0] - '0') * 10 + s[1] - '0') * 60 + (s[3] - '0') * 10 + s[4] - '0';
}

static bool on_day(const struct set_quiet *q, int wday)
{
    static const char *const names[] = {"sun", "mon", "tue", "wed", "thu", "fri", "sat"};
    for (size_t i = 0; i < q->days.n; i++)
        if (strcmp(*CONF_AT(q->days, char *, i), names[wday]) == 0)
            return true;
    return q->days.n == 0;
}

int alert_quiet_day(const struct set_quiet *q, struct alert_dial now)
{
    int from = minute_of(q->from), to = minute_of(q->to), yesterday = (now.wday + 6) % 7;
    if (from < to)
        return on_day(q, now.wday) && now.minute >= from && now.minute < to ? now.wday : ALERT_QUIET_OFF;
    if (now.minute >= from && on_day(q, now.wday))
        return now.wday;
    return now.minute < to && on_day(q, yesterday) ? yesterday : ALERT_QUIET_OFF;
}

bool alert_quiet_holds(const struct set_quiet *q, int severity, struct alert_dial now)
{
    return severity - ALERT_INFO < q->below && alert_quiet_day(q, now) != ALERT_QUIET_OFF;
}
