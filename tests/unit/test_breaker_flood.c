/* test_breaker_flood.c - limits of single reporters: whom they stop, whom they never touch, and who is named. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "../fuzz/random.h"
#include "breaker/flood.h"

#define SECOND INT64_C(1000000000)
#define START  (5000 * SECOND)
#define MS     INT64_C(1000000)

static size_t taken_of(struct breaker_flood *f, uint32_t rate, uint64_t who, enum breaker_weight w, size_t n,
                       int64_t now_ns)
{
    size_t taken = 0;
    for (size_t i = 0; i < n; i++)
        taken += breaker_flood_take(f, rate, who, w, now_ns);
    return taken;
}

static void test_burst_and_rate(void **unused)
{
    (void)unused;
    static const uint32_t rates[] = {1, 2, 10, 1000, 1000000};
    for (size_t i = 0; i < sizeof rates / sizeof rates[0]; i++) {
        struct breaker_flood f = {0};
        uint32_t rate = rates[i];
        size_t most = rate + 10;
        breaker_flood_take(&f, rate, 7, BREAKER_GOOD, START); /* its first one is news */
        assert_int_equal(taken_of(&f, rate, 7, BREAKER_GOOD, most, START), rate - 1);
        assert_int_equal(taken_of(&f, rate, 7, BREAKER_GOOD, most, START + SECOND / rate - 1), 0);
        assert_int_equal(taken_of(&f, rate, 7, BREAKER_GOOD, most, START + SECOND / rate), 1);
        assert_int_equal(taken_of(&f, rate, 7, BREAKER_GOOD, most, START + 5 * SECOND), rate);
        assert_false(breaker_flood_over(&f, START + 5 * SECOND));
        assert_true(breaker_flood_over(&f, START + 6 * SECOND));
    }
}

/* An outage, and its end, are seen of a reporter that is at its limit; but who goes to and fro gets no more than the reserve. */
static void test_news_pass(void **unused)
{
    (void)unused;
    struct breaker_flood f = {0};
    taken_of(&f, 100, 7, BREAKER_GOOD, 1000, START);
    assert_false(breaker_flood_take(&f, 100, 7, BREAKER_GOOD, START));
    assert_false(breaker_flood_take(&f, 100, 7, BREAKER_NEUTRAL, START));
    assert_true(breaker_flood_take(&f, 100, 7, BREAKER_BAD, START));
    assert_false(breaker_flood_take(&f, 100, 7, BREAKER_BAD, START));
    assert_true(breaker_flood_take(&f, 100, 7, BREAKER_GOOD, START));
    size_t taken = 0;
    for (int i = 0; i < 1000; i++)
        taken += breaker_flood_take(&f, 100, 7, i % 2 ? BREAKER_GOOD : BREAKER_BAD, START);
    assert_in_range(taken, 90, 100);
}

/* The outcome of the one permitted call is never dropped, and owes no more than the reserve. */
static void test_awaited_passes(void **unused)
{
    (void)unused;
    struct breaker_flood f = {0};
    taken_of(&f, 10, 7, BREAKER_GOOD, 1000, START);
    assert_int_equal(taken_of(&f, 10, 7, BREAKER_AWAITED, 1000, START), 1000);
    assert_true(breaker_flood_over(&f, START + 2 * SECOND));
}

/* Many that are within their limits, beside some that are not: nobody pays for another. */
static void simulate(uint64_t seed)
{
    enum { REPORTERS = 200, FLOODERS = 8, SECONDS = 20 };
    struct fuzz_random r = {seed};
    struct breaker_flood f = {0};
    uint32_t rate = (uint32_t)(3 + fuzz_below(&r, 400)); /* of one or two per second a table this small is lenient */
    size_t taken[FLOODERS] = {0};
    int64_t next_ns[REPORTERS];
    for (size_t i = 0; i < REPORTERS; i++)
        next_ns[i] = START + (int64_t)fuzz_below(&r, SECOND);
    for (int64_t now = START; now < START + SECONDS * SECOND; now += 5 * MS) {
        for (size_t i = 0; i < FLOODERS; i++)
            for (size_t k = fuzz_below(&r, rate / 20 + 3); k > 0; k--)
                taken[i] += breaker_flood_take(&f, rate, 1000 + i, BREAKER_GOOD, now);
        for (size_t i = 0; i < REPORTERS; i++)
            if (next_ns[i] <= now) {
                enum breaker_weight w = fuzz_below(&r, 2) ? BREAKER_GOOD : BREAKER_BAD;
                if (!breaker_flood_take(&f, rate, 1 + i, w, now))
                    fail_msg("seed %llu: an honest reporter was stopped", (unsigned long long)seed);
                /* A third of the limit on average: all of them are above it together. */
                next_ns[i] += SECOND / rate + (int64_t)fuzz_below(&r, (size_t)(4 * SECOND / rate));
            }
    }
    for (size_t i = 0; i < FLOODERS; i++)
        if (taken[i] > (size_t)(SECONDS + 2) * rate + 2)
            fail_msg("seed %llu: a flooder got %zu through, at %u per second", (unsigned long long)seed, taken[i],
                     rate);
}

static void test_honest_beside_flooders(void **unused)
{
    (void)unused;
    const char *seed = getenv("SEED");
    if (seed) {
        simulate(strtoull(seed, NULL, 10));
        return;
    }
    for (uint64_t i = 1; i <= 100; i++)
        simulate(i);
}

/* A flood under ever new names gets no more than the table holds. */
static void test_new_names_bring_nothing(void **unused)
{
    (void)unused;
    struct breaker_flood f = {0};
    struct fuzz_random r = {11};
    size_t taken = 0, rate = 10, seconds = 10;
    for (int64_t now = START; now < START + (int64_t)seconds * SECOND; now += MS)
        taken += taken_of(&f, (uint32_t)rate, fuzz_next(&r), BREAKER_GOOD, rate, now);
    assert_true(taken <= 2 * BREAKER_FLOOD_SLOTS * rate * (seconds + 2));
    assert_true(taken >= BREAKER_FLOOD_SLOTS * rate * seconds / 2);
}

static void test_busy_target(void **unused)
{
    (void)unused;
    int64_t full = 0;
    assert_false(breaker_flood_busy(&full, 100, 100, START));
    assert_true(breaker_flood_busy(&full, 100, 1, START));
    assert_true(breaker_flood_busy(&full, 100, 1000, START)); /* owes no more for it */
    assert_false(breaker_flood_busy(&full, 100, 100, START + 2 * SECOND));
    full = 0;
    for (int64_t now = START; now < START + 60 * SECOND; now += 10 * MS)
        assert_false(breaker_flood_busy(&full, 100, 1, now));
}

static void test_who_is_named(void **unused)
{
    (void)unused;
    struct breaker_flooders *f = calloc(1, sizeof *f);
    char name[BREAKER_FLOODER_NAME], text[16];
    assert_true(breaker_flooders_note(f, "loud-and-more", 4, 1000));
    assert_false(breaker_flooders_note(f, "loud", 4, 2000)); /* once */
    assert_true(breaker_flooders_note(f, "lou", 3, 2000));
    assert_true(breaker_flooders_note(f, "louder", 6, 2000 + BREAKER_FLOOD_CALM_MS - 1));
    assert_false(breaker_flooders_calm(f, 2000 + BREAKER_FLOOD_CALM_MS - 1, name));
    assert_true(breaker_flooders_calm(f, 2000 + BREAKER_FLOOD_CALM_MS, name));
    assert_string_equal(name, "loud");
    assert_true(breaker_flooders_calm(f, 2000 + BREAKER_FLOOD_CALM_MS, name));
    assert_string_equal(name, "lou");
    assert_false(breaker_flooders_calm(f, 2000 + BREAKER_FLOOD_CALM_MS, name));
    assert_true(breaker_flooders_note(f, "loud", 4, 999999)); /* again */
    for (size_t i = f->n; i < BREAKER_FLOODERS_MAX; i++) {
        snprintf(text, sizeof text, "r%zu", i);
        assert_true(breaker_flooders_note(f, text, strlen(text), 999999));
    }
    assert_false(breaker_flooders_note(f, "one-more", 8, 999999));
    assert_int_equal(f->n, BREAKER_FLOODERS_MAX);
    char longest[100];
    memset(longest, 'x', sizeof longest);
    f->n = 0;
    assert_true(breaker_flooders_note(f, longest, sizeof longest, 1));
    assert_int_equal(strlen(f->at[0].name), BREAKER_FLOODER_NAME - 1);
    free(f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_burst_and_rate),
        cmocka_unit_test(test_news_pass),
        cmocka_unit_test(test_awaited_passes),
        cmocka_unit_test(test_honest_beside_flooders),
        cmocka_unit_test(test_new_names_bring_nothing),
        cmocka_unit_test(test_busy_target),
        cmocka_unit_test(test_who_is_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
