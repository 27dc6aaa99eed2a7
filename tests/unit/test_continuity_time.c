/* test_continuity_time.c - the clock that neither goes back nor jumps: over restarts, reboots, suspends, other hosts, and wall clocks that are put anywhere. */
#include "continuity/continuity_time.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define W0   INT64_C(1767225600000)
#define HOUR INT64_C(3600000)
#define NONE                                                                                                         \
    (struct time_anchor)                                                                                             \
    {                                                                                                                \
        0                                                                                                            \
    }

static struct continuity_time start(struct time_anchor own, struct time_anchor seen, const char *boot,
                                    int64_t boot_ms, int64_t wall_ms)
{
    struct continuity_time t;
    continuity_time_start(&t, &own, &seen, boot, boot_ms, wall_ms);
    return t;
}

static void it_begins_with_the_wall_clock(void **state)
{
    (void)state;
    struct continuity_time t = start(NONE, NONE, "a", 1000, W0);
    assert_int_equal(continuity_time_at(&t, 1000), W0);
    assert_int_equal(continuity_time_at(&t, 61000), W0 + 60000);
    assert_int_equal(continuity_time_at(&t, 0), W0); /* a boot clock does not go back; if it does, this does not */
    t = start(NONE, NONE, "a", 0, -5);               /* no time at all */
    assert_true(continuity_time_at(&t, 0) > 0);
}

static void within_a_boot_it_is_exact_whatever_the_wall_clock_does(void **state)
{
    (void)state;
    struct continuity_time t = start(NONE, NONE, "a", 1000, W0);
    const int64_t walls[] = {W0 + 60000, W0 - 365 * 24 * HOUR, 0, W0 + 100 * 24 * HOUR, INT64_MAX, INT64_MIN};
    for (size_t i = 0; i < sizeof walls / sizeof walls[0]; i++) {
        struct time_anchor a = continuity_time_anchor(&t, 61000, walls[i]);
        assert_int_equal(a.time_ms, W0 + 60000);
        /* Restarted 10 s later, by its own anchor, by what STATE has, or both. */
        for (int how = 1; how < 4; how++) {
            struct continuity_time u = start(how & 1 ? a : NONE, how & 2 ? a : NONE, "a", 71000,
                                             walls[sizeof walls / sizeof walls[0] - 1 - i]);
            assert_int_equal(continuity_time_at(&u, 71000), W0 + 70000);
        }
    }
}

static void suspend_counts(void **state)
{
    (void)state;
    struct continuity_time t = start(NONE, NONE, "a", 1000, W0);
    assert_int_equal(continuity_time_at(&t, 1000 + 9 * HOUR), W0 + 9 * HOUR); /* CLOCK_BOOTTIME goes on in it */
}

static void over_a_reboot_nothing_is_lost(void **state)
{
    (void)state;
    struct time_anchor a = {.time_ms = W0, .boot_ms = 500000, .wall_ms = W0, .boot_id = "a"};
    /* The wall clock is right: ten minutes have passed. */
    struct continuity_time t = start(a, NONE, "b", 20, W0 + 600000);
    assert_int_equal(continuity_time_at(&t, 20), W0 + 600000);
    assert_int_equal(continuity_time_at(&t, 1020), W0 + 601000);
    /* It was put back an hour: never before the anchor. */
    t = start(a, NONE, "b", 20, W0 - HOUR);
    assert_int_equal(continuity_time_at(&t, 20), W0);
    /* No clock at all (1970): likewise. */
    t = start(a, NONE, "b", 20, 5000);
    assert_int_equal(continuity_time_at(&t, 20), W0);
    /* Put back an hour before the reboot, and still so: what passed on it counts in full. */
    a.wall_ms = W0 - HOUR;
    t = start(a, NONE, "b", 20, W0 - HOUR + 600000);
    assert_int_equal(continuity_time_at(&t, 20), W0 + 600000);
    t = start(a, NONE, "b", 20, W0 + HOUR); /* two hours */
    assert_int_equal(continuity_time_at(&t, 20), W0 + 2 * HOUR);
    /* It had no clock then (1970) and has one now: the 56 years did not pass. */
    a.wall_ms = 7000;
    t = start(a, NONE, "b", 20, W0 + 600000);
    assert_int_equal(continuity_time_at(&t, 20), W0 + 600000);
    t = start(a, NONE, "b", 20, 67000); /* still none: a minute */
    assert_int_equal(continuity_time_at(&t, 20), W0 + 60000);
}

static void anchors_from_elsewhere_only_lead_on(void **state)
{
    (void)state;
    struct time_anchor own = {.time_ms = W0, .boot_ms = 1000, .wall_ms = W0, .boot_id = "a"};
    struct time_anchor seen = {.time_ms = W0 + 5000, .boot_ms = 77, .wall_ms = W0 + 5000, .boot_id = "z"};
    struct continuity_time t = start(own, seen, "a", 3000, W0);
    assert_int_equal(continuity_time_at(&t, 3000), W0 + 5000); /* it was said already: not before that */
    seen.time_ms = W0 - 5000;
    t = start(own, seen, "a", 3000, W0);
    assert_int_equal(continuity_time_at(&t, 3000), W0 + 2000);

    continuity_time_follow(&t, &seen, 4000); /* behind: nothing */
    assert_int_equal(continuity_time_at(&t, 4000), W0 + 3000);
    seen.time_ms = W0 + 9000;
    continuity_time_follow(&t, &seen, 4000);
    assert_int_equal(continuity_time_at(&t, 4000), W0 + 9000);
    assert_int_equal(continuity_time_at(&t, 5000), W0 + 10000);
    /* Another process of this host: its time has gone on since. */
    struct time_anchor here = {.time_ms = W0 + 20000, .boot_ms = 5000, .boot_id = "a"};
    continuity_time_follow(&t, &here, 6000);
    assert_int_equal(continuity_time_at(&t, 6000), W0 + 21000);
    continuity_time_follow(&t, NULL, 6000);
    assert_int_equal(continuity_time_at(&t, 6000), W0 + 21000);
}

static void nonsense_is_no_anchor(void **state)
{
    (void)state;
    const struct time_anchor bad[] = {
        {.time_ms = -1}, {.time_ms = INT64_MAX, .boot_id = "a"}, {.time_ms = INT64_MIN}};
    for (size_t i = 0; i < 3; i++) {
        struct continuity_time t = start(bad[i], bad[2 - i], "a", 1000, W0);
        assert_int_equal(continuity_time_at(&t, 1000), W0);
        continuity_time_follow(&t, &bad[i], 2000);
        assert_int_equal(continuity_time_at(&t, 2000), W0 + 1000);
    }
    /* A boot without an id is never the same one. */
    struct time_anchor own = {.time_ms = W0, .boot_ms = 1000, .wall_ms = W0};
    struct continuity_time t = start(own, NONE, "", 1, W0 + 50);
    assert_int_equal(continuity_time_at(&t, 1), W0 + 50);
}

/* Any number of restarts, reboots and wall clocks: it never goes back, and within a boot it is exact. */
static void it_never_goes_back(void **state)
{
    (void)state;
    uint64_t rng = 42;
    for (int story = 0; story < 500; story++) {
        char boot[2] = "a";
        int64_t boot_ms = 1000, last = 0, wall = W0;
        struct continuity_time t = start(NONE, NONE, boot, boot_ms, wall);
        for (int i = 0; i < 50; i++) {
            rng ^= rng << 13, rng ^= rng >> 7, rng ^= rng << 17;
            int64_t step = (int64_t)(rng >> 20 & 0xfffff);
            struct time_anchor a = continuity_time_anchor(&t, boot_ms, wall);
            assert_true(a.time_ms >= last);
            last = a.time_ms;
            if (rng % 7 == 0)
                wall += (int64_t)(rng >> 24 & 0x7fffffff) - 0x3fffffff;
            wall += step;
            if (rng % 5 == 0) { /* reboot */
                boot[0] = boot[0] == 'a' ? 'b' : 'a';
                boot_ms = (int64_t)(rng >> 30 & 0xff);
                t = start(rng & 64 ? a : NONE, a, boot, boot_ms, wall);
                assert_true(continuity_time_at(&t, boot_ms) >= last);
            } else {
                boot_ms += step;
                if (rng % 3 == 0)
                    t = start(a, rng & 64 ? a : NONE, boot, boot_ms, wall);
                assert_int_equal(continuity_time_at(&t, boot_ms), last + step);
            }
            last = continuity_time_at(&t, boot_ms);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(it_begins_with_the_wall_clock),
        cmocka_unit_test(within_a_boot_it_is_exact_whatever_the_wall_clock_does),
        cmocka_unit_test(suspend_counts),
        cmocka_unit_test(over_a_reboot_nothing_is_lost),
        cmocka_unit_test(anchors_from_elsewhere_only_lead_on),
        cmocka_unit_test(nonsense_is_no_anchor),
        cmocka_unit_test(it_never_goes_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
