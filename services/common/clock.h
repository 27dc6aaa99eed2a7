/* clock.h - time: monotonic for durations, shared for deadlines that several hosts read, wall for people; and tilt. */
#ifndef REDOUBT_CLOCK_H
#define REDOUBT_CLOCK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Monotonic, from an arbitrary start; CLOCK_MONOTONIC. */
int64_t clock_mono_ns(void);
int64_t clock_mono_ms(void);

/* Wall clock, milliseconds since 1970-01-01T00:00:00Z. For people and for `*_unix_ms` fields. */
int64_t clock_wall_ms(void);

/* Shared time for deciders whose deadlines are stored for other hosts to read: the wall clock as it was when the
 * process started, advanced by the monotonic clock, so that a step of the wall clock moves no deadline here.
 * clock_shared_anchor() takes the wall clock anew; the runtime calls it at start and after tilt. */
int64_t clock_shared_ms(void);
void clock_shared_anchor(void);

/* RFC 3339 with milliseconds in UTC, e.g. 2026-01-31T09:05:01.042Z. Returns buf. */
#define CLOCK_TEXT_MAX 32
const char *clock_text(int64_t unix_ms, char buf[static CLOCK_TEXT_MAX]);

/* Tilt: after a gap of TILT_GAP_MS or more between two beats (suspend, overload, a stopped process), or a wall clock
 * that moved against the monotonic one by as much, a service watches on but casts no votes and takes no action
 * for TILT_HOLD_MS. Pure: times come in as arguments. A beat is due every TILT_BEAT_MS. */
#define TILT_BEAT_MS 500
#define TILT_GAP_MS  2000
#define TILT_HOLD_MS 30000
struct tilt {
    int64_t last_mono_ms; /* 0 = no beat yet */
    int64_t last_wall_ms;
    int64_t until_mono_ms; /* 0 = not tilted */
};
/* Returns true if this beat started (or prolonged) a tilt. */
bool tilt_beat(struct tilt *t, int64_t mono_ms, int64_t wall_ms, int64_t hold_ms);
bool tilt_on(const struct tilt *t, int64_t mono_ms);

#endif
