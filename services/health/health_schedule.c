/* health_schedule.c - when a target is probed next. */
#include "health/health_schedule.h"

static int64_t max64(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

static int64_t min64(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

/* Within 5 % of the gap, to either side: targets that started together drift apart. */
static int64_t jittered(int64_t gap_ms, uint32_t draw)
{
    int64_t spread = gap_ms * 2 * HEALTH_JITTER_PERCENT / 100;
    return gap_ms - spread / 2 + (int64_t)(draw % (uint64_t)(spread + 1));
}

static int64_t part_of(int64_t stretch_ms, uint32_t draw)
{
    return stretch_ms * (int64_t)(draw % HEALTH_START_DRAWS) / HEALTH_START_DRAWS;
}

void health_schedule_start(struct health_schedule *s, const struct health_pace *p, uint32_t targets, uint32_t draw,
                           int64_t now_ms)
{
    int64_t stretch = min64(p->interval_ms, max64(p->fast_ms, (int64_t)targets * HEALTH_SPREAD_MS));
    *s = (struct health_schedule){.first_ms = now_ms + part_of(stretch, draw), .draw = draw};
}

void health_schedule_spread(struct health_schedule *s, uint32_t targets, int64_t most_ms, int64_t now_ms)
{
    int64_t stretch_ms = min64(most_ms, (int64_t)targets * HEALTH_SPREAD_MS);
    s->spread_ms = now_ms + part_of(stretch_ms, health_schedule_draw(s));
}

uint32_t health_schedule_places(uint32_t at_once, bool suspect)
{
    return suspect ? at_once - at_once / 4 : at_once;
}

uint32_t health_schedule_draw(const struct health_schedule *s)
{
    uint32_t x = s->draw + 0x9e3779b9u; /* mixes every bit into every other */
    x = (x ^ x >> 16) * 0x21f0aaadu;
    x = (x ^ x >> 15) * 0x735a2d97u;
    return x ^ x >> 15;
}

void health_schedule_probed(struct health_schedule *s, int64_t due_ms, uint32_t draw)
{
    s->last_ms = due_ms;
    s->draw = draw;
    s->spread_ms = 0;
}

void health_schedule_answered(struct health_schedule *s, bool good, int64_t total_ms)
{
    if (good)
        s->usual_ms = s->usual_ms ? s->usual_ms + (total_ms - s->usual_ms) / 4 : total_ms;
}

void health_schedule_retry_after(struct health_schedule *s, int64_t retry_after_ms, int64_t now_ms)
{
    s->hold_ms = retry_after_ms > 0 ? max64(s->hold_ms, now_ms + retry_after_ms) : 0;
}

int64_t health_schedule_due_ms(const struct health_schedule *s, const struct health_pace *p, bool fast,
                               const struct health_flight *f)
{
    if (f->n >= HEALTH_OVERLAP_MAX || (f->n > 0 && f->n >= max64(p->fall, 1)))
        return INT64_MAX;
    if (s->last_ms == 0)
        return max64(s->first_ms, s->spread_ms);
    int64_t soon_ms = s->last_ms + jittered(p->fast_ms, s->draw);
    int64_t regular_ms = s->last_ms + jittered(p->interval_ms, s->draw);
    int64_t due_ms = fast ? soon_ms : regular_ms;
    /* One that takes twice as long as usual has probably failed: go on as if it had. */
    if (f->n > 0)
        due_ms = min64(due_ms, max64(soon_ms, f->oldest_ms + max64(p->fast_ms, 2 * s->usual_ms)));
    /* Who asks to be left alone is, but a regular probe is never given up for it. */
    if (s->hold_ms > due_ms)
        due_ms = max64(due_ms, min64(s->hold_ms, regular_ms));
    return max64(due_ms, s->spread_ms);
}
