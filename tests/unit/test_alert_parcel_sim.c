/* test_alert_parcel_sim.c - seeded simulation of the parcels' policy: alerts come in bursts, channels are away for a while, quiet hours come and
 * go, replicas die; the clock is virtual. Whatever happens, all that was put by is told, in bounded time once it can be, not too often, and what
 * must not wake anybody does not. SEED=n runs one story. */
#include "alert/alert_parcel.h"
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define SEEDS   1000
#define HOUR_MS INT64_C(3600000)
#define TICK_MS 250
#define BUCKETS 8

static uint64_t seed, rng;
static uint32_t rnd(uint32_t below)
{
    rng ^= rng << 13;
    rng ^= rng >> 7;
    rng ^= rng << 17;
    return (uint32_t)((rng >> 11) % below);
}

static char broken[200]; /* what did not hold, first */
#define CHECK(x)                                                                                                     \
    do {                                                                                                             \
        if (!(x) && !*broken)                                                                                        \
            snprintf(broken, sizeof broken, "seed %" PRIu64 ": %s (line %d)", seed, #x, __LINE__);                   \
    } while (0)

/* What is broken on purpose, to show that the checks find it. */
enum mutation {
    NONE,
    NO_BACK,     /* nobody says that a channel works again */
    NO_PAUSE,    /* a failure is forgotten */
    NO_QUIET,    /* quiet hours are not looked at */
    NO_INTERVAL, /* a group's last telling is forgotten */
    MUTATIONS
};
static enum mutation mutation;

struct bucket {
    struct alert_parcel_clock clock;
    int waits;
    int64_t told_ms; /* the last message of a group */
    int messages, tries_away;
    int64_t could_ms; /* since when all that keeps it is its own pace */
};
struct world {
    int64_t now_ms;
    bool works, quiet;
    struct bucket b[BUCKETS];
    int put, told;
};

static const struct alert_parcel_rule rule = {30000, 300000, 60000};

/* The longest that anything may still wait once nothing is in its way: a group's interval and wait, a digest's interval. */
static int64_t bound_ms(const struct bucket *b)
{
    switch (b->clock.reason) {
    case ALERT_PARCEL_GROUP:
        return rule.group_interval_ms + rule.group_wait_ms;
    case ALERT_PARCEL_OVERFLOW:
        return b->clock.critical ? ALERT_PARCEL_PAUSE_MS : rule.digest_every_ms;
    case ALERT_PARCEL_QUIET:
        return 0;
    case ALERT_PARCEL_OWED:
        return ALERT_PARCEL_PAUSE_MS;
    }
    return 0;
}

static void tell(struct world *w, struct bucket *b)
{
    CHECK(!(w->quiet && b->clock.reason == ALERT_PARCEL_QUIET)); /* nobody is woken */
    alert_parcel_begun(&b->clock);
    if (!w->works) {
        b->tries_away++;
        if (mutation != NO_PAUSE)
            alert_parcel_failed(&b->clock, w->now_ms);
        return;
    }
    if (b->clock.reason == ALERT_PARCEL_GROUP && b->messages > 0)
        CHECK(w->now_ms - b->told_ms >= rule.group_interval_ms || b->clock.fails > 0);
    size_t alone = alert_parcel_singles(&b->clock, (size_t)b->waits);
    CHECK(alone <= ALERT_PARCEL_ALONE_MAX && alone <= (size_t)b->waits);
    CHECK(alone > 0 ||
          b->waits > (b->clock.critical || b->clock.reason == ALERT_PARCEL_OWED ? ALERT_PARCEL_FEW : 1) ||
          b->waits == 0);
    int n = alone > 0 ? (int)alone : b->waits;
    if (b->clock.critical && alone > 0)
        b->clock.alone += n;
    b->waits -= n;
    w->told += n;
    b->messages++;
    b->told_ms = w->now_ms;
    int64_t was = b->clock.flushed_ms;
    alert_parcel_told(&b->clock, b->waits > 0, w->now_ms);
    if (mutation == NO_INTERVAL)
        b->clock.flushed = false;
    CHECK(b->clock.flushed_ms >= was);
}

static void arrive(struct world *w, struct bucket *b, int n)
{
    if (b->waits == 0) {
        alert_parcel_came(&b->clock, w->now_ms);
        b->could_ms = w->now_ms;
    }
    b->waits += n;
    w->put += n;
}

static void turn(struct world *w)
{
    for (size_t i = 0; i < BUCKETS; i++) {
        struct bucket *b = &w->b[i];
        b->clock.quiet = w->quiet && mutation != NO_QUIET;
        for (int rounds = 0; b->waits > 0 && alert_parcel_due(&b->clock, &rule) <= w->now_ms; rounds++) {
            CHECK(rounds < 1000); /* it ends */
            tell(w, b);
            if (!w->works)
                break;
        }
        bool kept = !w->works || (w->quiet && b->clock.reason == ALERT_PARCEL_QUIET);
        if (b->waits == 0 || kept)
            b->could_ms = w->now_ms;
        else
            CHECK(w->now_ms - b->could_ms <= bound_ms(b) + 2 * TICK_MS);
    }
}

static void story(void)
{
    static struct world w;
    memset(&w, 0, sizeof w);
    w.works = true;
    w.now_ms = 1000000;
    for (size_t i = 0; i < BUCKETS; i++)
        w.b[i].clock = (struct alert_parcel_clock){.reason = (enum alert_parcel_reason)(i % ALERT_PARCEL_REASONS),
                                                   .critical = i >= 6};
    int64_t ends = w.now_ms + HOUR_MS, away_ms = 0, next_change = w.now_ms + rnd(600000);
    for (; w.now_ms < ends; w.now_ms += TICK_MS) {
        if (rnd(400) == 0)
            arrive(&w, &w.b[rnd(BUCKETS)], rnd(4) == 0 ? 1 + (int)rnd(1000) : 1 + (int)rnd(4));
        if (w.now_ms >= next_change) {
            w.works = !w.works;
            next_change = w.now_ms + 1000 + rnd(w.works ? 600000 : 1200000);
            for (size_t i = 0; i < BUCKETS; i++) {
                if (w.works && mutation != NO_BACK)
                    alert_parcel_back(&w.b[i].clock);
                /* No storm: 5, 10, 20 ... 300 s. */
                if (w.works)
                    CHECK(w.b[i].tries_away <= 8 + (int)(away_ms / ALERT_PARCEL_PAUSE_MAX_MS));
                w.b[i].tries_away = 0;
            }
            away_ms = 0;
        }
        away_ms += w.works ? 0 : TICK_MS;
        if (rnd(4000) == 0)
            w.quiet = !w.quiet;
        if (rnd(10000) ==
            0) /* another replica goes on: it knows when people were told, and that something is there */
            for (size_t i = 0; i < BUCKETS; i++) {
                struct alert_parcel_clock *c = &w.b[i].clock;
                *c = (struct alert_parcel_clock){
                    .reason = c->reason, .critical = c->critical, .flushed = c->flushed, .flushed_ms = c->flushed_ms};
                alert_parcel_came(c, w.now_ms - 24 * HOUR_MS);
                w.b[i].tries_away = 0;
            }
        turn(&w);
    }
    /* In the end everything works, it is day, and nothing comes any more: all of it is told. */
    w.works = true;
    w.quiet = false;
    for (size_t i = 0; i < BUCKETS; i++) {
        if (mutation != NO_BACK)
            alert_parcel_back(&w.b[i].clock);
    }
    for (ends = w.now_ms + 700000; w.now_ms < ends; w.now_ms += TICK_MS)
        turn(&w);
    CHECK(w.told == w.put);
    for (size_t i = 0; i < BUCKETS; i++)
        CHECK(w.b[i].waits == 0);
}

/* True if all has held. */
static bool run(uint64_t which)
{
    seed = which;
    rng = which * 0x9e3779b97f4a7c15u + 1;
    *broken = 0;
    story();
    return !*broken;
}

static uint64_t seeds(void)
{
#if defined __SANITIZE_ADDRESS__ || defined __SANITIZE_THREAD__
    return 100;
#endif
    return getenv("VALGRIND") ? 10 : SEEDS;
}

static void stories(void **state)
{
    (void)state;
    const char *one = getenv("SEED");
    uint64_t first = one ? strtoull(one, NULL, 10) : 1, last = one ? first : seeds();
    for (uint64_t s = first; s <= last; s++)
        if (!run(s))
            fail_msg("%s", broken);
}

static void what_is_broken_is_found(void **state)
{
    (void)state;
    for (mutation = NONE + 1; mutation < MUTATIONS; mutation++) {
        uint64_t s = 1;
        while (s <= 10 && run(s))
            s++;
        if (!*broken)
            fail_msg("mutation %d was not found", (int)mutation);
        print_message("mutation %d: %s\n", (int)mutation, broken);
    }
    mutation = NONE;
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(stories), cmocka_unit_test(what_is_broken_is_found)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
