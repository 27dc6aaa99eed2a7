/* alert_message.h - what goes out by a channel at once: one alert, or many in one message. */
#ifndef REDOUBT_ALERT_MESSAGE_H
#define REDOUBT_ALERT_MESSAGE_H

#include "common/wire.h"
#include <stdbool.h>
#include <stddef.h>

#define ALERT_SHOWN_MAX 100 /* alerts that a message carries whole; a digest may stand for more */

enum alert_message_kind {
    ALERT_MESSAGE_ONE,    /* one alert */
    ALERT_MESSAGE_GROUP,  /* alerts that a route has put together */
    ALERT_MESSAGE_DIGEST, /* what waited: quiet hours, more than a channel takes, no channel that accepted */
};
struct alert_message {
    enum alert_message_kind kind;
    const char *
        id; /* the same at each attempt, by each channel, after each restart: an idempotency key. [A-Za-z0-9_-], 1 to 64 */
    const PB(Alert) *const
        *alerts;           /* the last one of each problem, the worst first, up to ALERT_SHOWN_MAX; at least one */
    const uint32_t *times; /* how many alerts each of them stands for; NULL = itself */
    size_t n;
    size_t total;                     /* how many it stands for; >= n */
    const char *note;                 /* what the alert service adds; may be NULL */
    const char *title;                /* GROUP, DIGEST: one line that says what this is; NULL = ONE */
    int severity;                     /* the worst of them, Severity's numbers */
    bool resolved;                    /* all of them are over */
    int64_t from_unix_ms, to_unix_ms; /* raised between these */
};

/* One alert as a message. */
static inline struct alert_message alert_message_one(const PB(Alert) *const *alert, const char *note)
{
    return (struct alert_message){.kind = ALERT_MESSAGE_ONE,
                                  .id = alert[0]->id,
                                  .alerts = alert,
                                  .n = 1,
                                  .total = 1,
                                  .note = note,
                                  .severity = (int)alert[0]->severity,
                                  .resolved = alert[0]->resolved,
                                  .from_unix_ms = alert[0]->raised_unix_ms,
                                  .to_unix_ms = alert[0]->raised_unix_ms};
}

#endif
