/* continuity_time.c - the clock that incidents run by: picks where to go on from, and goes on by the host's boot clock alone. Pure. */
#include "continuity/continuity_time.h"
#include <stdio.h>
#include <string.h>

#define TIME_MAX_MS     INT64_C(253402300799999) /* the end of the year 9999: what the contract can say */
/* A wall clock that is put back by a person or a wrong zone is off by up to a day. One that is off by more had no time at all yet (1970), and was set since. */
#define PUT_BACK_MAX_MS INT64_C(86400000)

static bool given(const struct time_anchor *a)
{
    return a && a->time_ms > 0 && a->time_ms <= TIME_MAX_MS;
}

static int64_t later(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

static int64_t within(int64_t ms)
{
    return ms < 0 ? 0 : ms > TIME_MAX_MS ? TIME_MAX_MS : ms;
}

/* Time that passed between two readings of a clock that may be nonsense: none if it went back. */
static int64_t passed(int64_t from_ms, int64_t to_ms)
{
    from_ms = within(from_ms);
    to_ms = within(to_ms);
    return to_ms > from_ms ? to_ms - from_ms : 0;
}

static bool same_boot(const struct time_anchor *a, const char *boot_id)
{
    return *boot_id && strcmp(a->boot_id, boot_id) == 0;
}

/* What an anchor of another boot says of the present: its time at least; and if the wall clock went on from where it was, as much more. */
static int64_t by_wall(const struct time_anchor *a, int64_t wall_ms)
{
    if (wall_ms >= a->time_ms && a->time_ms - a->wall_ms > PUT_BACK_MAX_MS)
        return a->time_ms;
    return within(a->time_ms + passed(a->wall_ms, wall_ms));
}

void continuity_time_start(struct continuity_time *t, const struct time_anchor *own, const struct time_anchor *seen,
                           const char *boot_id, int64_t boot_ms, int64_t wall_ms)
{
    const struct time_anchor *const anchors[] = {own, seen};
    int64_t exact = 0, least = 0, guess = within(wall_ms);
    for (int i = 0; i < 2; i++) {
        const struct time_anchor *a = anchors[i];
        if (!given(a))
            continue;
        least = later(least, a->time_ms);
        if (same_boot(a, boot_id))
            exact = later(exact, within(a->time_ms + passed(a->boot_ms, boot_ms)));
        else
            guess = later(guess, by_wall(a, within(wall_ms)));
    }
    struct time_anchor now = {.boot_ms = boot_ms, .wall_ms = wall_ms};
    now.time_ms = later(later(exact > 0 ? exact : guess, least), 1);
    snprintf(now.boot_id, sizeof now.boot_id, "%s", boot_id);
    t->now = now;
}

void continuity_time_follow(struct continuity_time *t, const struct time_anchor *seen, int64_t boot_ms)
{
    if (!given(seen))
        return;
    int64_t there = seen->time_ms;
    if (same_boot(seen, t->now.boot_id))
        there = within(there + passed(seen->boot_ms, boot_ms));
    if (there <= continuity_time_at(t, boot_ms))
        return;
    t->now.time_ms = there;
    t->now.boot_ms = boot_ms;
}

int64_t continuity_time_at(const struct continuity_time *t, int64_t boot_ms)
{
    return within(t->now.time_ms + passed(t->now.boot_ms, boot_ms));
}

struct time_anchor continuity_time_anchor(const struct continuity_time *t, int64_t boot_ms, int64_t wall_ms)
{
    struct time_anchor a = t->now;
    a.time_ms = continuity_time_at(t, boot_ms);
    a.boot_ms = boot_ms;
    a.wall_ms = wall_ms;
    return a;
}
