/* health_schedule.h - when a target is probed next. Pure; times are monotonic milliseconds.
 *
 * Probes of one target may overlap: while one hangs, the next ones start all the same, so that an outage by silence is seen
 * after `fall` fast intervals and one time-out, not after `fall` time-outs. */
#ifndef REDOUBT_HEALTH_SCHEDULE_H
#define REDOUBT_HEALTH_SCHEDULE_H

#include <stdbool.h>
#include <stdint.h>

#define HEALTH_JITTER_PERCENT 5
#define HEALTH_OVERLAP_MAX    8 /* probes of one target under way */
#define HEALTH_SPREAD_MS      5 /* between the first probes of two targets, on average */
#define HEALTH_START_DRAWS    10000

struct health_pace {
    int64_t interval_ms, fast_ms;
    uint32_t fall;
};
struct health_schedule {
    int64_t last_ms;   /* when the last probe was due; 0 = none yet */
    int64_t first_ms;  /* when the first is due */
    uint32_t draw;     /* random, a new one for each probe */
    int64_t hold_ms;   /* the target asked to be left alone until then */
    int64_t usual_ms;  /* how long a good answer takes */
    int64_t spread_ms; /* not before then: many became due at once */
};

/* `draw` is random. The more targets, the longer the stretch over which their first probes are spread. */
void health_schedule_start(struct health_schedule *s, const struct health_pace *p, uint32_t targets, uint32_t draw,
                           int64_t now_ms);
/* Something has made many due at the same moment: what is overdue begins at a random moment of the time that the first probes of so many
 * targets would take, and within `most_ms`. */
void health_schedule_spread(struct health_schedule *s, uint32_t targets, int64_t most_ms, int64_t now_ms);
/* The next draw, made from the last: to ask the kernel each time costs a tenth of a probe, and nobody gains by guessing it. */
uint32_t health_schedule_draw(const struct health_schedule *s);
void health_schedule_probed(struct health_schedule *s, int64_t due_ms, uint32_t draw);
void health_schedule_answered(struct health_schedule *s, bool good, int64_t total_ms);
void health_schedule_retry_after(struct health_schedule *s, int64_t retry_after_ms, int64_t now_ms);

struct health_flight {
    uint32_t n;        /* probes under way */
    int64_t oldest_ms; /* when the oldest of them began */
};
/* When the next probe is due; INT64_MAX = not before one of those under way has ended. */
int64_t health_schedule_due_ms(const struct health_schedule *s, const struct health_pace *p, bool fast,
                               const struct health_flight *f);

/* Where too many are under way, those that are likely to take long share three quarters of the places, and never the last quarter: who hangs
 * must not make the others late. */
uint32_t health_schedule_places(uint32_t at_once, bool suspect);

#endif
