/* alert.h - the way of one alert through its channels, pure: (delivery, event, now) -> (delivery', effects). No I/O, no clock.
 *
 * Record first: every file of the route is written before anybody is told, and never counts as telling. Then the channels in order:
 * each gets `tries` attempts within its deadline; the first that accepts ends it. When none did, all is done again after a pause
 * that grows: an alert is only ever given up by being delivered. */
#ifndef REDOUBT_ALERT_H
#define REDOUBT_ALERT_H

#include "alert/alert_outcome.h"
#include "common/sm.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define ALERT_WAYS_MAX     32  /* channels of one route */
#define ALERT_QUICK_MS     100 /* after a refused connection */
#define ALERT_BACKOFF_MS   500 /* after the first temporary failure; doubles */
#define ALERT_BACKOFF_MAX  8000
#define ALERT_PAUSE_MS     5000 /* after all channels failed; doubles */
#define ALERT_PAUSE_MAX_MS 300000

/* One channel of a route, as far as decisions need it. */
struct alert_way {
    enum alert_proto proto;
    bool record;   /* a file: written first, never a notification */
    bool left_out; /* the alert is about this very channel */
    int tries;
    int64_t attempt_ms;
    int64_t deadline_ms, deadline_critical_ms;
};
struct alert_plan {
    size_t n;
    struct alert_way ways[ALERT_WAYS_MAX];
};

/* Numbers as in the contract. */
enum alert_severity { ALERT_INFO = 1, ALERT_WARNING, ALERT_HIGH, ALERT_CRITICAL };
enum alert_status {
    ALERT_STATUS_ACCEPTED = 1,
    ALERT_STATUS_RETRYING,
    ALERT_STATUS_FAILED,
    ALERT_STATUS_RECORDED,
    ALERT_STATUS_EXHAUSTED,
};

enum alert_state {
    ALERT_NEW,
    ALERT_RECORDING, /* a file is being written */
    ALERT_HELD,      /* recorded; waits until an earlier alert of its problem is through */
    ALERT_SENDING,   /* an attempt is under way, or waits for its turn at the channel */
    ALERT_BACKOFF,   /* until wake_ms, then again on the same channel */
    ALERT_PAUSED,    /* all channels failed; until wake_ms, then all again */
    ALERT_DONE,
};
extern const struct sm_table alert_table;

struct alert_delivery {
    int state; /* enum alert_state */
    bool critical;
    bool notify;        /* false: only record it */
    bool hold;          /* see ALERT_HELD */
    bool cancelled;     /* overtaken by a later alert of its problem: an attempt under way is its last */
    uint32_t recorded;  /* bit per way */
    size_t way;         /* at which channel */
    int attempt;        /* there; 1, 2, ... */
    int cycles;         /* how often all channels have failed */
    int64_t entered_ms; /* when this channel's turn began */
    int64_t wake_ms;
};

enum alert_event_kind {
    ALERT_START,  /* notify, hold, critical */
    ALERT_RESULT, /* outcome of the attempt that was asked for last */
    ALERT_WAKE,   /* the time asked for has come; too early is ignored */
    ALERT_GO,     /* no earlier alert is in the way any more */
    ALERT_BACK,   /* a channel works again, or the settings are new */
    ALERT_CANCEL, /* a later alert has overtaken this one */
};
struct alert_event {
    enum alert_event_kind kind;
    bool notify, hold, critical;  /* ALERT_START */
    struct alert_outcome outcome; /* ALERT_RESULT */
};

enum alert_effect_kind {
    ALERT_SEND,    /* way, attempt, timeout_ms, start_by_ms */
    ALERT_RECEIPT, /* status; way and attempt, but for EXHAUSTED */
    ALERT_TOLD,    /* the channel `way` has accepted, or is given up for this alert: its circuit wants to know */
    ALERT_WAKE_AT, /* at_ms */
    ALERT_END,     /* nothing more will come */
};
struct alert_effect {
    enum alert_effect_kind kind;
    enum alert_status status;
    size_t way;
    int attempt;
    int64_t timeout_ms;  /* of the attempt, once it has begun */
    int64_t start_by_ms; /* if it has not begun by then, the result is ALERT_FAULT_LATE */
    int64_t at_ms;
    enum alert_class class; /* ALERT_TOLD */
};
#define ALERT_EFFECTS_MAX 6
size_t alert_decide(struct alert_delivery *d, const struct alert_plan *p, const struct alert_event *ev,
                    int64_t now_ms, struct alert_effect out[static ALERT_EFFECTS_MAX]);

#endif
