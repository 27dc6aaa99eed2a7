/* clock.c - monotonic, shared and wall time; tilt. */
#include "common/clock.h"
#include <assert.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define NS_PER_MS  1000000
#define MS_PER_SEC 1000

/* Wall minus monotonic clock at the anchor. The one value of this room that outlives a call: there is one clock. */
static _Atomic int64_t shared_offset_ms;
static atomic_bool anchored;

static int64_t now_ns(clockid_t id)
{
    struct timespec t;
    int failed = clock_gettime(id, &t);
    assert(!failed && "Linux has both clocks");
    (void)failed;
    return (int64_t)t.tv_sec * MS_PER_SEC * NS_PER_MS + t.tv_nsec;
}

int64_t clock_mono_ns(void)
{
    return now_ns(CLOCK_MONOTONIC);
}

int64_t clock_mono_ms(void)
{
    return now_ns(CLOCK_MONOTONIC) / NS_PER_MS;
}

int64_t clock_wall_ms(void)
{
    return now_ns(CLOCK_REALTIME) / NS_PER_MS;
}

void clock_shared_anchor(void)
{
    atomic_store(&shared_offset_ms, clock_wall_ms() - clock_mono_ms());
    atomic_store(&anchored, true);
}

int64_t clock_shared_ms(void)
{
    if (!atomic_load(&anchored))
        clock_shared_anchor();
    return clock_mono_ms() + atomic_load(&shared_offset_ms);
}

const char *clock_text(int64_t unix_ms, char buf[static CLOCK_TEXT_MAX])
{
    /* The format has four digits for the year: what lies outside is shown as the nearest end. */
    static const int64_t first_ms = INT64_C(-62167219200000), last_ms = INT64_C(253402300799999);
    if (unix_ms < first_ms)
        unix_ms = first_ms;
    if (unix_ms > last_ms)
        unix_ms = last_ms;
    int64_t ms = unix_ms % MS_PER_SEC;
    int64_t s = unix_ms / MS_PER_SEC;
    if (ms < 0) {
        ms += MS_PER_SEC;
        s--;
    }
    time_t t = (time_t)s;
    struct tm tm;
    gmtime_r(&t, &tm);
    size_t n = strftime(buf, CLOCK_TEXT_MAX, "%Y-%m-%dT%H:%M:%S", &tm);
    if (tm.tm_year + 1900 < 1000) /* glibc does not pad the year */
        n = (size_t)snprintf(buf, CLOCK_TEXT_MAX, "%04u-%02u-%02uT%02u:%02u:%02u",
                             (unsigned)(tm.tm_year + 1900) % 10000, (unsigned)(tm.tm_mon + 1) % 100,
                             (unsigned)tm.tm_mday % 100, (unsigned)tm.tm_hour % 100, (unsigned)tm.tm_min % 100,
                             (unsigned)tm.tm_sec % 100);
    snprintf(buf + n, CLOCK_TEXT_MAX - n, ".%03uZ", (unsigned)ms % 1000);
    return buf;
}

bool tilt_beat(struct tilt *t, int64_t mono_ms, int64_t wall_ms, int64_t hold_ms)
{
    bool tilted = false;
    if (t->last_mono_ms != 0) {
        int64_t gap_ms = mono_ms - t->last_mono_ms;
        int64_t drift_ms = llabs((wall_ms - t->last_wall_ms) - gap_ms);
        tilted = gap_ms >= TILT_GAP_MS || drift_ms >= TILT_GAP_MS;
    }
    t->last_mono_ms = mono_ms;
    t->last_wall_ms = wall_ms;
    if (tilted && mono_ms + hold_ms > t->until_mono_ms)
        t->until_mono_ms = mono_ms + hold_ms;
    return tilted;
}

bool tilt_on(const struct tilt *t, int64_t mono_ms)
{
    return mono_ms < t->until_mono_ms;
}
