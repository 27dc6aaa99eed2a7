/* alert_deadman.h - does an alert still reach anybody? A test of the whole way, again and again. Pure: time and receipts in, what to do out. */
#ifndef REDOUBT_ALERT_DEADMAN_H
#define REDOUBT_ALERT_DEADMAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum alert_deadman_state {
    ALERT_DEADMAN_REST,
    ALERT_DEADMAN_TESTING, /* until its receipt comes, or `every` is over */
};
struct alert_deadman {
    int state;
    uint64_t run;              /* of the newest test */
    int64_t since_ms, next_ms; /* when it began, and when the next one does */
    bool failing;              /* people know of it */
};

enum alert_deadman_event_kind {
    ALERT_DEADMAN_TICK,
    ALERT_DEADMAN_ACCEPTED, /* a channel has taken the test `run` */
    ALERT_DEADMAN_REFUSED,  /* no channel takes it */
    ALERT_DEADMAN_HEARD,    /* the last pulse there is, another replica's perhaps */
};
struct alert_deadman_event {
    enum alert_deadman_event_kind kind;
    bool on;          /* TICK: it is set, and we lead */
    int64_t every_ms; /* TICK */
    uint64_t run;     /* ACCEPTED, REFUSED */
    bool ok;          /* HEARD */
};
enum alert_deadman_effect {
    ALERT_DEADMAN_TEST,    /* raise test d->run */
    ALERT_DEADMAN_PASSED,  /* publish a good pulse, and ping whoever misses it outside */
    ALERT_DEADMAN_FAILED,  /* publish a bad pulse */
    ALERT_DEADMAN_RAISE,   /* tell people */
    ALERT_DEADMAN_RESOLVE, /* the same of the end */
};
#define ALERT_DEADMAN_EFFECTS_MAX 3
size_t alert_deadman_decide(struct alert_deadman *d, const struct alert_deadman_event *ev, int64_t now_ms,
                            enum alert_deadman_effect out[static ALERT_DEADMAN_EFFECTS_MAX]);
/* When to tick next, if it is on. */
int64_t alert_deadman_due(const struct alert_deadman *d);

#endif
