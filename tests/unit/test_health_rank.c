/* test_health_rank.c - who looks after what: evenness, least movement, duties; and what traffic and parents change. */
#include "common/rank.h"
#include "health/health_duty.h"
#include "health/health_suppress.h"
#include "health/health_traffic.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define TARGETS 10000

static void name_members(uint64_t *ret, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        char name[64];
        snprintf(name, sizeof name, "host-%zu-health-0", i);
        ret[i] = rank_hash(name);
    }
}

static uint64_t target(size_t i)
{
    char name[64];
    snprintf(name, sizeof name, "llm.provider-%zu.model-%zu", i % 7, i);
    return rank_hash(name);
}

static size_t owner(const uint64_t *members, size_t n, uint64_t t)
{
    uint32_t first;
    assert_int_equal(rank_first(members, n, t, 1, &first), 1);
    return first;
}

/* Names that are all alike must not pile up: every place of the ranking is shared evenly. */
static void test_even(void **state)
{
    (void)state;
    for (size_t n = 1; n <= 16; n++) {
        uint64_t members[16];
        size_t count[16] = {0};
        name_members(members, n);
        for (size_t i = 0; i < TARGETS; i++)
            count[owner(members, n, target(i))]++;
        for (size_t k = 0; k < n; k++) /* 10,000 / 16 = 625 +- 24: within 20 % is 5 sigma */
            assert_in_range(count[k], TARGETS * 8 / 10 / n, TARGETS * 12 / 10 / n + 1);
    }
}

/* Who goes leaves the targets of the others alone; who comes takes from everybody, and nothing else moves. */
static void test_least_movement(void **state)
{
    (void)state;
    uint64_t members[8], fewer[7];
    name_members(members, 8);
    for (size_t gone = 0; gone < 8; gone++) {
        size_t n = 0, moved = 0;
        for (size_t i = 0; i < 8; i++)
            if (i != gone)
                fewer[n++] = members[i];
        for (size_t i = 0; i < TARGETS; i++) {
            uint64_t before = members[owner(members, 8, target(i))], after = fewer[owner(fewer, 7, target(i))];
            if (before != members[gone])
                assert_true(before == after);
            else
                moved++;
        }
        assert_in_range(moved, TARGETS / 8 * 8 / 10, TARGETS / 8 * 12 / 10);
    }
}

/* The ranking is one: every place is somebody's, the same one's in whatever order the members are listed. */
static void test_places(void **state)
{
    (void)state;
    uint64_t members[9], turned[9];
    name_members(members, 9);
    for (size_t i = 0; i < 9; i++)
        turned[i] = members[8 - i];
    for (size_t i = 0; i < 500; i++) {
        uint64_t t = target(i);
        uint32_t all[9], some[4], other[9];
        bool taken[9] = {false};
        assert_int_equal(rank_first(members, 9, t, 9, all), 9);
        assert_int_equal(rank_first(members, 9, t, 4, some), 4);
        assert_int_equal(rank_first(turned, 9, t, 20, other), 9);
        for (uint32_t p = 0; p < 9; p++) {
            assert_false(taken[all[p]]);
            taken[all[p]] = true;
            assert_int_equal(rank_place(members, 9, t, all[p]), p);
            assert_true(turned[other[p]] == members[all[p]]);
            if (p < 4)
                assert_int_equal(some[p], all[p]);
        }
    }
    uint32_t none;
    assert_int_equal(rank_first(members, 0, target(1), 3, &none), 0);
    assert_int_equal(rank_first(members, 9, target(1), 0, &none), 0);
}

/* Whoever agrees on the members agrees on the duties: each target is probed once, or by `vantage`. */
static void test_duties(void **state)
{
    (void)state;
    const int64_t ttl = 3000;
    for (int up = 0; up < 2; up++)
        for (int64_t age = 0; age < 12000; age += 100) {
            struct health_duty d = health_duty_at(up, 50000 - age, 0, ttl, 50000);
            assert_true(d.known);
            assert_int_equal(d.sure, up && age < 2500);
            assert_int_equal(d.shared, age < HEALTH_SHARE_TTLS * ttl);
            for (uint32_t place = 0; place < 5; place++) {
                assert_int_equal(health_duty_owns(&d, place), place == 0);
                assert_int_equal(health_duty_announces(&d, place), place == 0 && d.sure);
                for (uint32_t vantage = 0; vantage < 4; vantage++) {
                    bool in = place < (vantage ? vantage : 1);
                    assert_int_equal(health_duty_probes(&d, place, vantage, false), in || !d.shared);
                    /* What costs money is never probed by everybody. */
                    assert_int_equal(health_duty_probes(&d, place, vantage, true), place == 0 || (in && d.shared));
                }
            }
            assert_false(health_duty_announces(&d, RANK_UNPLACED));
            assert_false(health_duty_probes(&d, RANK_UNPLACED, 3, true));
        }
    /* Before the members are told nobody probes; after a lifetime without an answer, who is alone does. */
    struct health_duty early = health_duty_at(true, INT64_MIN, 1000, ttl, 1000 + ttl - 1);
    struct health_duty alone = health_duty_at(false, INT64_MIN, 1000, ttl, 1000 + ttl);
    assert_false(early.known || health_duty_probes(&early, 0, 1, false) || health_duty_owns(&early, 0));
    assert_true(alone.known && health_duty_probes(&alone, 0, 1, true) && health_duty_probes(&alone, 0, 1, false));
    assert_false(health_duty_announces(&alone, 0));
}

/* envoy 24729: probes are skipped while traffic proves health. */
static void test_traffic_spares_probes(void **state)
{
    (void)state;
    struct health_traffic t = {0};
    const int64_t interval = 60000;
    assert_false(health_traffic_spares(&t, interval, 1000)); /* silence proves nothing */
    assert_false(health_traffic_take(&t, 4, 0, 0, 1000));
    assert_false(health_traffic_spares(&t, interval, 1000)); /* neither do four calls */
    assert_false(health_traffic_take(&t, 1, 0, 0, 2000));
    assert_true(health_traffic_spares(&t, interval, 2000)); /* of two replicas together */
    assert_true(health_traffic_spares(&t, interval, 61000));
    assert_false(health_traffic_spares(&t, interval, 61001)); /* of the last interval only */
    /* Not more than ten in a row. */
    for (int i = 0; i < 3 * (HEALTH_SPARE_ROW + 1); i++) {
        health_traffic_take(&t, 100, 0, 0, 100000 + i);
        assert_int_equal(health_traffic_spares(&t, interval, 100000 + i),
                         i % (HEALTH_SPARE_ROW + 1) != HEALTH_SPARE_ROW);
    }
    /* A failure or a slow call ends it at once. */
    for (uint32_t slow = 0; slow < 2; slow++) {
        health_traffic_take(&t, 100, 0, 0, 200000);
        assert_true(health_traffic_spares(&t, interval, 200000));
        assert_true(health_traffic_take(&t, 100, !slow, slow, 200001));
        assert_false(health_traffic_spares(&t, interval, 200001));
    }
    for (int i = 0; i < 5 * HEALTH_TRAFFIC_KEPT; i++) /* many small ones: the ring forgets the oldest */
        health_traffic_take(&t, 1, 0, 0, 300000);
    assert_true(health_traffic_spares(&t, interval, 300000));
}

/* The first failing calls bring a probe, however good the last one was; and no more of them than is worth their money. */
static void test_bad_traffic_asks(void **state)
{
    (void)state;
    const int64_t interval = 60000;
    struct health_traffic t = {0};
    int64_t now = 1000;
    assert_true(health_traffic_take(&t, 10, 1, 0, now));
    assert_true(health_traffic_asks(&t, interval, now));
    assert_false(health_traffic_asks(&t, interval, now)); /* once */
    for (int i = 0; i < 100; i++) {                       /* it goes on: no news */
        now += 5000;
        assert_true(health_traffic_take(&t, 10, 10, 0, now));
        assert_false(health_traffic_asks(&t, interval, now));
    }
    /* Good and bad in turn, as a target has that fails now and then: a quarter of an interval lies between two. */
    unsigned asked = 0;
    for (int i = 0; i < 120; i++) {
        now += 5000;
        bool bad = i % 2;
        assert_int_equal(health_traffic_take(&t, 10, bad, 0, now), bad);
        asked += bad && health_traffic_asks(&t, interval, now);
    }
    assert_in_range(asked, 20, 10 * HEALTH_ASKS_PER_INTERVAL);
    /* Calls that stood for a probe are asked after whenever they fail. */
    for (int i = 0; i < 3; i++) {
        now += 1;
        assert_false(health_traffic_take(&t, 100, 0, 0, now));
        assert_true(health_traffic_spares(&t, interval, now));
        assert_true(health_traffic_take(&t, 100, 1, 0, now));
        assert_true(health_traffic_asks(&t, interval, now));
    }
}

static void test_parents_suppress(void **state)
{
    (void)state;
    struct health_suppress s = {.grace_ms = 6000};
    assert_false(health_suppressed(&s, false, 1000)); /* no parent, or it is well */
    assert_true(health_suppressed(&s, true, 2000));
    s.on = true; /* announced as such */
    assert_true(health_suppressed(&s, true, 900000));
    /* The parent is well: one verdict's time for the child to recover, too. */
    assert_true(health_suppressed(&s, false, 900500));
    assert_true(health_suppressed(&s, false, 906499));
    /* Down again meanwhile: the grace begins anew. */
    assert_true(health_suppressed(&s, true, 906499));
    assert_true(health_suppressed(&s, false, 907000));
    assert_true(health_suppressed(&s, false, 912999));
    assert_false(health_suppressed(&s, false, 913000));
}

static void test_hosts(void **state)
{
    (void)state;
    assert_true(health_duty_on_host("web-health-0", "web"));
    assert_true(health_duty_on_host("web-1-health-12", "web-1"));
    assert_false(health_duty_on_host("web-1-health-12", "web"));
    assert_false(health_duty_on_host("web-breaker-0", "web"));
    assert_false(health_duty_on_host("web", "web"));
    assert_false(health_duty_on_host("", "web"));
    /* A replica's name holds the first 23 bytes of its host's. */
    assert_true(health_duty_on_host("abcdefghijklmnopqrstuvw-health-0", "abcdefghijklmnopqrstuvwxyz"));
    assert_false(health_duty_on_host("abcdefghijklmnopqrstuv-health-0", "abcdefghijklmnopqrstuvwxyz"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_hosts),
        cmocka_unit_test(test_even),
        cmocka_unit_test(test_least_movement),
        cmocka_unit_test(test_places),
        cmocka_unit_test(test_duties),
        cmocka_unit_test(test_traffic_spares_probes),
        cmocka_unit_test(test_bad_traffic_asks),
        cmocka_unit_test(test_parents_suppress),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
