/* test_fallback_intake.c - waves: the rate is never exceeded, the cap holds, first come first served, nobody is forgotten.
 *   test_fallback_intake [SEED] */
#include "fallback/fallback_intake.h"
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define ALL UINT32_MAX
static uint64_t seed = 1;

static struct intake made(int64_t rate, int64_t wave, int64_t cap, uint32_t held)
{
    struct intake in = {0};
    intake_set(&in, &(struct intake_limit){rate, wave, cap}, held, 0);
    return in;
}

static void without_limits_all_may_come(void **state)
{
    (void)state;
    struct intake in = made(0, 10, 0, ALL);
    struct intake_place p = {0};
    for (int i = 0; i < 100; i++) {
        assert_int_equal(intake_say(&in, &p, false, 0), FALLBACK_INTAKE_OPEN);
        intake_take(&in, &p, 0);
        in.here++;
    }
    assert_true(intake_due_ms(&in, 0) == INT64_MAX);
}

static void a_bucket_starts_empty_and_holds_a_wave(void **state)
{
    (void)state;
    struct intake in = made(10, 4, 0, ALL);
    struct intake_place p = {0};
    assert_int_equal(intake_say(&in, &p, false, 0), FALLBACK_INTAKE_WAIT);
    assert_int_equal(intake_say(&in, &p, true, 0), FALLBACK_INTAKE_OPEN); /* on it: it may stay */
    assert_int_equal(intake_say(&in, &p, false, 99), FALLBACK_INTAKE_WAIT);
    assert_int_equal(intake_say(&in, &p, false, 100), FALLBACK_INTAKE_OPEN);
    for (int i = 0; i < 4; i++) {
        assert_int_equal(intake_say(&in, &p, false, 3600000), FALLBACK_INTAKE_OPEN);
        intake_take(&in, &p, 3600000);
    }
    assert_int_equal(intake_say(&in, &p, false, 3600000), FALLBACK_INTAKE_WAIT);
    intake_wait(&in, &p);
    assert_true(intake_due_ms(&in, 3600000) == 3600100);
    assert_null(intake_next(&in, 3600099));
    assert_ptr_equal(intake_next(&in, 3600100), &p);
    assert_true(p.turn);
    assert_int_equal(intake_say(&in, &p, false, 3600100), FALLBACK_INTAKE_OPEN);
    intake_take(&in, &p, 3600100);
    assert_null(p.at);
    assert_int_equal(in.turns, 0);
}

static void who_waits_is_not_overtaken(void **state)
{
    (void)state;
    struct intake in = made(10, 4, 0, ALL);
    struct intake_place a = {0}, b = {0}, c = {0};
    intake_wait(&in, &a);
    intake_wait(&in, &b);
    intake_wait(&in, &a); /* once more: keeps its place */
    assert_int_equal(intake_say(&in, &c, false, 1000), FALLBACK_INTAKE_WAIT);
    assert_int_equal(intake_say(&in, &b, false, 1000), FALLBACK_INTAKE_WAIT);
    assert_int_equal(intake_say(&in, &a, false, 1000), FALLBACK_INTAKE_OPEN);
    assert_ptr_equal(intake_next(&in, 1000), &a);
    intake_leave(&a); /* did not want it any more: the token is b's */
    assert_ptr_equal(intake_next(&in, 1000), &b);
    intake_leave(&b);
    intake_leave(&c); /* was nowhere */
    assert_true(in.tokens == 4 * INT64_C(32000) && in.turns == 0 && !in.first && !in.last);
    struct intake other = made(10, 4, 0, ALL);
    intake_wait(&in, &a);
    intake_wait(&in, &b);
    intake_wait(&other, &a);
    assert_ptr_equal(in.first, &b);
    assert_ptr_equal(in.last, &b);
    assert_ptr_equal(other.first, &a);
}

static void the_cap_sends_those_who_wait_on(void **state)
{
    (void)state;
    struct intake in = made(10, 10, 2, ALL);
    struct intake_place a = {0}, b = {0}, c = {0};
    intake_wait(&in, &a);
    intake_wait(&in, &b);
    intake_wait(&in, &c);
    assert_ptr_equal(intake_next(&in, 1000), &a);
    in.here = 1;
    /* a's turn counts: it will be there. b and c are handed out without one. */
    assert_int_equal(intake_say(&in, &b, false, 1000), FALLBACK_INTAKE_FULL);
    assert_int_equal(intake_say(&in, &a, false, 1000), FALLBACK_INTAKE_OPEN);
    assert_true(intake_due_ms(&in, 1000) == 1000);
    assert_ptr_equal(intake_next(&in, 1000), &b);
    assert_false(b.turn);
    assert_ptr_equal(intake_next(&in, 1000), &c);
    assert_null(intake_next(&in, 1000));
    intake_take(&in, &a, 1000);
    in.here = 2;
    assert_int_equal(intake_say(&in, &a, true, 1000), FALLBACK_INTAKE_OPEN);
    in.here = 1;
    assert_int_equal(intake_say(&in, &b, false, 1000), FALLBACK_INTAKE_OPEN);
}

/* However the partitions are spread, the parts of the cap add up to it, and those of the rate to the rate. */
static void parts_add_up(void **state)
{
    (void)state;
    for (int64_t cap = 1; cap <= 70; cap++)
        for (uint32_t mask = 1; mask; mask <<= 3) {
            uint32_t mine = mask * 0x1357 ^ mask;
            struct intake a = made(10, 10, cap, mine), b = made(10, 10, cap, ~mine);
            assert_true(intake_cap(&a) + intake_cap(&b) == cap);
        }
    struct intake half = made(50, 10, 0, 0x0000ffff), none = made(50, 10, 0, 0);
    struct intake_place p = {0}, q = {0};
    intake_wait(&half, &p);
    assert_true(intake_due_ms(&half, 0) == 40);
    assert_ptr_equal(intake_next(&half, 40), &p);
    intake_wait(&none, &q); /* nothing is ours: nothing is due, and nothing is given */
    assert_true(intake_due_ms(&none, 0) == INT64_MAX);
    assert_null(intake_next(&none, 1000000));
    /* What is gained is not full. */
    half = made(50, 32, 0, 0x1);
    assert_int_equal(intake_say(&half, &q, false, 1000000), FALLBACK_INTAKE_OPEN);
    intake_set(&half, &half.all, ALL, 1000000);
    assert_true(half.tokens == 32000);
}

/* ---- a fleet ---- */

#define AGENTS 300
struct one {
    struct intake_place p;
    bool wants, on;
    uint64_t since; /* its number in the line */
};

static uint64_t rnd(uint64_t *x)
{
    *x ^= *x << 13;
    *x ^= *x >> 7;
    *x ^= *x << 17;
    return *x;
}

static void a_fleet_arrives(uint64_t s)
{
    uint64_t x = s * UINT64_C(0x9e3779b97f4a7c15) | 1, numbers = 0, last = 0;
    int64_t rate = 1 + (int64_t)(rnd(&x) % 200), wave = 1 + (int64_t)(rnd(&x) % 40);
    int64_t cap = rnd(&x) % 2 ? 0 : 1 + (int64_t)(rnd(&x) % AGENTS), moved[AGENTS * 20];
    uint32_t held = rnd(&x) % 3 ? ALL : (uint32_t)rnd(&x) | 1;
    int64_t part = __builtin_popcount(held), burst = wave * part / 32 > 1 ? wave * part / 32 + 1 : 1;
    size_t n = 0;
    struct intake in = made(rate, wave, cap, held);
    struct one *all = calloc(AGENTS, sizeof *all);
    assert_non_null(all);
    int64_t now_ms = 0, end_ms = 30000 + AGENTS * 1000 * 32 / (rate * part);
    for (; now_ms < end_ms; now_ms += 1 + (int64_t)(rnd(&x) % 20)) {
        /* Some more want to come in the first third; now and then one leaves, or gives up. */
        for (int k = 0; k < 20 && now_ms < end_ms / 3; k++) {
            struct one *o = &all[rnd(&x) % AGENTS];
            unsigned what = (unsigned)(rnd(&x) % 10);
            if (what == 0 && o->on) {
                o->on = false;
                in.here--;
            } else if (what == 1 && o->wants) {
                intake_leave(&o->p);
                o->wants = false;
            } else if (!o->on && !o->wants && n + AGENTS < sizeof moved / sizeof *moved) {
                enum fallback_intake say = intake_say(&in, &o->p, false, now_ms);
                if (say == FALLBACK_INTAKE_OPEN) {
                    intake_take(&in, &o->p, now_ms);
                    o->on = true;
                    in.here++;
                    moved[n++] = now_ms;
                } else if (say == FALLBACK_INTAKE_WAIT) {
                    intake_wait(&in, &o->p);
                    o->wants = true;
                    o->since = ++numbers;
                }
            }
        }
        struct intake_place *p;
        while (intake_due_ms(&in, now_ms) <= now_ms && (p = intake_next(&in, now_ms))) {
            struct one *o = (struct one *)(void *)p;
            assert_true(o->wants && o->since > last); /* first come, first served */
            last = o->since;
            o->wants = false;
            if (!p->turn) {
                assert_true(cap && in.here + in.turns >= intake_cap(&in));
                continue;
            }
            if (rnd(&x) % 8 == 0) { /* does not want it any more */
                intake_leave(p);
                continue;
            }
            intake_take(&in, p, now_ms);
            o->on = true;
            in.here++;
            moved[n++] = now_ms;
        }
        assert_true(in.here <= intake_cap(&in));
        assert_int_equal(in.turns, 0);
    }
    for (size_t i = 0; i < n; i++) /* in every stretch of time: a wave, and the rate for as long as it lasts */
        for (size_t k = i; k < n; k += 1 + k / 16)
            if ((int64_t)(k - i + 1) > burst + 1 + rate * part * (moved[k] - moved[i]) / 32000)
                fail_msg("%zu moved within %" PRId64 " ms at %" PRId64 "/s", k - i + 1, moved[k] - moved[i], rate);
    for (size_t i = 0; i < AGENTS; i++)
        assert_false(all[i].wants); /* nobody is forgotten */
    assert_null(in.first);
    assert_true(n > 0 || intake_cap(&in) == 0);
    free(all);
}

static void fleets(void **state)
{
    (void)state;
    print_message("seeds from %" PRIu64 "\n", seed);
    for (uint64_t s = seed; s < seed + 60; s++)
        a_fleet_arrives(s);
}

int main(int argc, char **argv)
{
    if (argc > 1)
        seed = strtoull(argv[1], NULL, 10);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(without_limits_all_may_come),
        cmocka_unit_test(a_bucket_starts_empty_and_holds_a_wave),
        cmocka_unit_test(who_waits_is_not_overtaken),
        cmocka_unit_test(the_cap_sends_those_who_wait_on),
        cmocka_unit_test(parts_add_up),
        cmocka_unit_test(fleets),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
