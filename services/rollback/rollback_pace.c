/* rollback_pace.c - what many deployments want at once is done a few at a time: observations, and reading documents.
 *
 * Observations are spread over `observe`, from a random start on, and at most `at_once` are under way; who is due when all places are taken
 * waits in order. What a job asks does not pass here: it never waits for deployments at rest. */
#include "common/clock.h"
#include "common/metric.h"
#include "rollback/rollback_shell.h"
#include <utlist.h>

METRIC_DEFINE(late_ms, METRIC_GAUGE, "redoubt_rollback_observation_late_ms",
              "How long the last observation waited for its place.");

#define LOADS_AT_ONCE                                                                                                \
    32 /* documents that are asked for at a time: a turn of the loop takes milliseconds, not seconds */
#define SPREAD_MS      10  /* between the first observations of two deployments, on average */
#define SOON_MS        100 /* its document is being written just now */
#define JITTER_PERCENT 5   /* of `observe`, to either side */
#define DRAWS          10000

/* ---- when ---- */

static uint32_t draw(struct deployment *d)
{
    uint32_t x = d->draw + 0x9e3779b9u; /* mixes every bit into every other */
    x = (x ^ x >> 16) * 0x21f0aaadu;
    x = (x ^ x >> 15) * 0x735a2d97u;
    return d->draw = x ^ x >> 15;
}

static int64_t part_of(struct deployment *d, int64_t stretch_ms)
{
    return stretch_ms * (int64_t)(draw(d) % DRAWS) / DRAWS;
}

static void due_at(struct deployment *d, int64_t at_ms, int64_t now_ms)
{
    d->see_due_mono_ms = at_ms;
    loop_timer_start(&d->observe, at_ms - now_ms, 0);
}

/* The more there are, the longer the stretch over which they begin. */
void pace_start(struct deployment *d)
{
    int64_t now = clock_mono_ms(), observe = d->room->s->settings->rollback.observe_ms;
    int64_t stretch = (int64_t)HASH_COUNT(d->room->deployments) * SPREAD_MS;
    uint32_t random;
    if (d->draw == 0 && uv_random(NULL, NULL, &random, sizeof random, 0, NULL) == 0)
        d->draw = random;
    due_at(d, now + part_of(d, stretch < observe ? stretch : observe), now);
}

/* Counted from when the last one was due, so that a loop that stood still does not bring together what was spread. */
static void next_due(struct deployment *d)
{
    int64_t now = clock_mono_ms(), observe = d->room->s->settings->rollback.observe_ms;
    int64_t jitter = observe * JITTER_PERCENT / 100;
    int64_t at = d->see_due_mono_ms + observe - jitter + part_of(d, 2 * jitter);
    due_at(d, at > now ? at : now + part_of(d, observe), now);
}

/* ---- observations ---- */

static void turn(void *ctx);

static void ask_for_turn(struct rollback_room *r)
{
    if (r->turn)
        return;
    r->turn = true;
    loop_defer(&r->s->loop, turn, r->s);
}

static unsigned places(const struct rollback_room *r)
{
    unsigned all = (unsigned)r->s->settings->rollback.at_once;
    return r->sees < all ? all - r->sees : 0;
}

static void stop_waiting(struct deployment *d)
{
    if (d->see_waits)
        DL_DELETE2(d->room->see_wait, d, wait_prev, wait_next);
    if (d->load_waits)
        DL_DELETE2(d->room->load_wait, d, wait_prev, wait_next);
    d->see_waits = d->load_waits = false;
}

/* One that ends at once gives its place to the next turn, not to this one. */
static void turn(void *ctx)
{
    struct rollback_room *r = ((struct service *)ctx)->state;
    if (!r)
        return;
    r->turn = false;
    for (unsigned n = places(r); n > 0 && r->see_wait; n--) {
        struct deployment *d = r->see_wait;
        stop_waiting(d);
        if (!deployment_may_see(d))
            continue;
        int64_t waited = clock_mono_ms() - d->wait_since_mono_ms;
        metric_set(&late_ms, waited > 0 ? waited : 0);
        d->seeing = true;
        r->sees++;
        deployment_see(d);
    }
    if (places(r) > 0 && r->see_wait)
        ask_for_turn(r);
}

void pace_on_observe(void *ctx)
{
    struct deployment *d = ctx;
    bool written = d->place == LOADING || d->place == RECORDING || d->place == STORING;
    if (written && !d->load_waits) {
        loop_timer_start(&d->observe, SOON_MS, 0);
        return;
    }
    int64_t due = d->see_due_mono_ms;
    next_due(d);
    if (d->see_waits || d->load_waits || !deployment_may_see(d))
        return;
    d->wait_since_mono_ms = due;
    d->see_waits = true;
    DL_APPEND2(d->room->see_wait, d, wait_prev, wait_next);
    ask_for_turn(d->room);
}

void pace_seen(struct deployment *d)
{
    if (!d->seeing)
        return;
    d->seeing = false;
    d->room->sees--;
    if (d->room->see_wait)
        ask_for_turn(d->room);
}

/* ---- documents ---- */

static void load_next(struct rollback_room *r)
{
    while (r->loads < LOADS_AT_ONCE && r->load_wait) {
        struct deployment *d = r->load_wait;
        stop_waiting(d);
        r->loads++;
        deployment_read(d);
    }
}

void pace_load(struct deployment *d)
{
    stop_waiting(d);
    d->load_waits = true;
    DL_APPEND2(d->room->load_wait, d, wait_prev, wait_next);
    load_next(d->room);
}

void pace_loaded(struct rollback_room *r)
{
    r->loads--;
    load_next(r);
}

void pace_forget(struct deployment *d)
{
    stop_waiting(d);
}
