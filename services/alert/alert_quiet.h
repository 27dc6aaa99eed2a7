/* alert_quiet.h - quiet hours: who may be left in peace now? Pure: by what a clock on the wall shows, so that a night is over when that clock
 * says so, however long it was. */
#ifndef REDOUBT_ALERT_QUIET_H
#define REDOUBT_ALERT_QUIET_H

#include "common/settings.h"
#include <stdbool.h>
#include <time.h>

/* Broken-down local time, as far as it is needed: weekday (0 = Sunday) and minute of the day. */
struct alert_dial {
    int wday, minute;
};
static inline struct alert_dial alert_dial(const struct tm *local)
{
    return (struct alert_dial){local->tm_wday, local->tm_hour * 60 + local->tm_min};
}
#define ALERT_QUIET_OFF (-1)
/* The weekday on which the hours began that are in force now; ALERT_QUIET_OFF if none are. Hours that end when the next begin are two: what
 * waits goes out in between. */
int alert_quiet_day(const struct set_quiet *q, struct alert_dial now);
/* Does an alert of this severity (Severity's numbers) wait now? */
bool alert_quiet_holds(const struct set_quiet *q, int severity, struct alert_dial now);

#endif
