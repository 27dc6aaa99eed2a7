/* alert.h - the way of one message through its channels, pure: (delivery, event, now) -> (delivery', effects). No I/O, no clock.
 *
 * Record first: files are written before anybody is told, and never count as telling. Then the tree of channels (alert_tree.h): each
 * channel gets `tries` attempts within its deadline; an attempt that fails in one channel changes nothing in another. It ends when it is told or
 * nobody is left to try: what is owed then is put by, not kept here. */
#ifndef REDOUBT_ALERT_H
#define REDOUBT_ALERT_H

#include "alert/alert_outcome.h"
#include "alert/alert_tree.h"
#include "common/sm.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define ALERT_QUICK_MS    100 /* after a refused connection */
#define ALERT_BACKOFF_MS  500 /* after the first temporary failure; doubles */
#define ALERT_BACKOFF_MAX 8000

/* One channel, as far as decisions need it. */
struct alert_way {
    enum alert_proto proto;
    bool record; /* a file: written first, never a notification */
    int tries;
    int64_t attempt_ms;
    int64_t deadline_ms, deadline_critical_ms;
};
struct alert_plan {
    size_t n;
    struct alert_way ways[ALERT_WAYS_MAX];
    struct alert_tree tree;
};

/* Numbers as in the contract. */
enum alert_severity { ALERT_INFO = 1, ALERT_WARNING, ALERT_HIGH, ALERT_CRITICAL };
enum alert_status {
    ALERT_STATUS_ACCEPTED = 1,
    ALERT_STATUS_RETRYING,
    ALERT_STATUS_FAILED,
    ALERT_STATUS_RECORDED,
    ALERT_STATUS_EXHAUSTED,
    ALERT_STATUS_WAITING,
    ALERT_STATUS_MUTED,
};

enum alert_state {
    ALERT_NEW,
    ALERT_RECORDING, /* files are being written */
    ALERT_TELLING,   /* channels are being tried */
    ALERT_DONE,
};
extern const struct sm_table alert_table;

enum alert_try_state {
    ALERT_TRY_IDLE,
    ALERT_TRY_SENDING, /* an attempt is under way, or waits for its turn at the channel */
    ALERT_TRY_BACKOFF, /* until wake_ms, then again */
    ALERT_TRY_OVER,
};
extern const struct sm_table alert_try_table;

/* One channel's attempts. */
struct alert_try {
    int state; /* enum alert_try_state */
    int attempt;
    int64_t entered_ms; /* when its turn began */
    int64_t wake_ms;
};
struct alert_delivery {
    int state; /* enum alert_state */
    bool critical;
    bool silent;    /* only to be recorded */
    bool put_by;    /* a channel that takes no more now gets it in a digest, instead of the next one being tried */
    bool cancelled; /* nothing new is begun: attempts under way are the last */
    uint64_t recorded;
    struct alert_marks marks;
    struct alert_try *tries; /* one for each way of the plan, zero at first; the owner's */
};

enum alert_event_kind {
    ALERT_START,  /* critical, record, silent, put_by, left_out */
    ALERT_RESULT, /* way, outcome: of the attempt that was asked for there */
    ALERT_WAKE,   /* the time asked for has come; too early is ignored */
    ALERT_CANCEL, /* a later alert has made this one pointless */
};
struct alert_event {
    enum alert_event_kind kind;
    bool critical, record, silent, put_by; /* ALERT_START */
    uint64_t left_out;                     /* ALERT_START: ways that the message is about */
    uint64_t put_by_now;                   /* ALERT_START: ways that are put by without being asked */
    size_t way;                            /* ALERT_RESULT */
    struct alert_outcome outcome;          /* ALERT_RESULT */
};

enum alert_effect_kind {
    ALERT_SEND,    /* way, attempt, timeout_ms, start_by_ms */
    ALERT_RECEIPT, /* status; way and attempt, but for EXHAUSTED */
    ALERT_TOLD,    /* the channel `way` has accepted, or is given up for this message: its circuit wants to know */
    ALERT_WAKE_AT, /* at_ms; instead of any earlier one */
    ALERT_END,     /* nothing more will come; standing */
};
struct alert_effect {
    enum alert_effect_kind kind;
    enum alert_status status;
    size_t way;
    int attempt;
    int64_t timeout_ms;  /* of the attempt, once it has begun */
    int64_t start_by_ms; /* if it has not begun by then, the result is ALERT_FAULT_LATE */
    int64_t at_ms;
    enum alert_class class;       /* ALERT_TOLD */
    enum alert_standing standing; /* ALERT_END; ABSENT if it was only recorded */
};
/* One event may end all channels' attempts (two effects each), begin as many, and end the whole. */
#define ALERT_EFFECTS_MAX (3 * ALERT_WAYS_MAX + 3)
size_t alert_decide(struct alert_delivery *d, const struct alert_plan *p, const struct alert_event *ev,
                    int64_t now_ms, struct alert_effect out[static ALERT_EFFECTS_MAX]);

/* Order within one problem: may the later of two alerts go out while the earlier one is still under way? Like may overtake like
 * (a second, worse firing must not wait for the first); a change between firing and resolved may not, so that the last that
 * people hear is how it is. */
bool alert_overtakes(bool earlier_resolved, bool later_resolved);
/* Is the earlier one worth sending at all once the later one is there? An end is not, when it fires again; a firing always is. */
bool alert_outdates(bool earlier_resolved, bool later_resolved);

#endif
