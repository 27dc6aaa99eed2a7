/* test_health_phi.c - signs of life, with a virtual clock: the rhythm that is learnt, false alarms, the bound on detection. */
#include "health/health.h"
#include "health/health_heartbeat.h"
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

static uint64_t rng = 1;
static uint32_t draw(void)
{
    rng = rng * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(rng >> 32);
}
static double uniform(void)
{
    return (draw() + 0.5) / 4294967296.0;
}

static const struct health_beat_rule every_second = {.interval_ms = 1000, .fall = 3, .phi = 8, .stuck_ms = 60000};

/* ---- phi ---- */

static void test_phi_by_the_book(void **state)
{
    (void)state;
    struct health_phi p;
    health_phi_start(&p, 1000);
    /* Mean 1,000, deviation 250: the first estimate. */
    assert_true(fabs(health_phi(&p, 1000) - -log10(0.5)) < 1e-9);
    assert_true(fabs(health_phi(&p, 1250) - 0.79955) < 1e-4); /* 1 sigma: 0.158655 */
    assert_true(fabs(health_phi(&p, 1750) - 2.86968) < 1e-4); /* 3 sigma: 0.00134990 */
    assert_true(fabs(health_phi(&p, 2500) - 9.00586) < 1e-4); /* 6 sigma: 9.86588e-10 */
    assert_true(isinf(health_phi(&p, 1000000)));
    for (int phi = 1; phi <= 40; phi++) {
        int64_t ms = health_phi_silence_ms(&p, phi);
        assert_true(health_phi(&p, ms) >= phi - 1e-6);
        assert_true(health_phi(&p, ms - 1) < phi);
    }
    /* The estimate is forgotten, and what is heard takes its place: 1,400 and 1,600 in turn. */
    for (int i = 0; i < HEALTH_PHI_WINDOW; i++)
        health_phi_add(&p, i % 2 ? 1400 : 1600);
    assert_true(fabs(health_phi(&p, 1500) - -log10(0.5)) < 1e-9);
    assert_true(fabs(health_phi(&p, 1800) - 2.86968) < 1e-4);
}

static void test_phi_floors(void **state)
{
    (void)state;
    struct health_phi p;
    health_phi_start(&p, 1000);
    for (int i = 0; i < 3 * HEALTH_PHI_WINDOW; i++)
        health_phi_add(&p, 1000);
    /* As exact as it is, it may be late. */
    assert_in_range(health_phi_silence_ms(&p, 8), 1190, 1200);
    /* Who beats four times as often has promised nothing. */
    for (int i = 0; i < HEALTH_PHI_WINDOW; i++)
        health_phi_add(&p, 250);
    assert_in_range(health_phi_silence_ms(&p, 8), 1190, 1200);
    /* Nonsense does no harm: the sums stay exact. */
    for (int i = 0; i < 100000; i++)
        health_phi_add(&p, i % 3 ? INT64_MAX : INT64_MIN);
    for (int i = 0; i < 40 * HEALTH_PHI_FADING; i++)
        health_phi_add(&p, 1000);
    assert_in_range(health_phi_silence_ms(&p, 8), 1190, 1200);
}

/* One long pause among many short ones: for a normal distribution it is next to impossible; but it was there, and may come again. */
static void test_longest(void **state)
{
    (void)state;
    struct health_phi p;
    health_phi_start(&p, 1000);
    for (int i = 0; i < HEALTH_PHI_WINDOW; i++)
        health_phi_add(&p, 1000);
    health_phi_add(&p, 2800);
    for (int i = 0; i < 2 * HEALTH_PHI_WINDOW; i++)
        health_phi_add(&p, 1000);
    assert_in_range(health_phi_silence_ms(&p, 8), 2300, 2800);
    for (int i = 0; i < 10 * HEALTH_PHI_FADING; i++)
        health_phi_add(&p, 1000);
    assert_in_range(health_phi_silence_ms(&p, 8), 1190, 1200);
}

/* ---- heartbeats ---- */

static enum health_beat beat(struct health_heartbeat *b, uint64_t who, uint64_t sequence, uint64_t progress,
                             uint32_t waiting, int64_t now)
{
    struct health_beat_news news;
    struct health_heard h = {.instance = who, .sequence = sequence, .progress = progress, .queue_depth = waiting};
    enum health_beat x = health_heartbeat_heard(b, &every_second, &h, now, &news);
    assert_true((x == HEALTH_BEAT_REPEAT) == (news.who == NULL));
    assert_true((x == HEALTH_BEAT_STUCK) == (news.stuck != NULL));
    return x;
}

static void test_silence(void **state)
{
    (void)state;
    struct health_heartbeat b = {0};
    const struct health_beat_rule *r = &every_second;
    health_heartbeat_init(&b, r, 10000);
    int64_t last = 0;
    for (uint32_t k = 1; k <= 3; k++) {
        int64_t due = health_heartbeat_due_ms(&b, r);
        assert_true(due > last && due <= 13200);
        assert_false(health_heartbeat_tick(&b, r, due - 1));
        assert_true(health_heartbeat_tick(&b, r, due));
        assert_int_equal(b.missed, k);
        last = due;
    }
    assert_int_equal(last, 13200);                           /* not an instant later than the settings say */
    assert_int_equal(health_heartbeat_due_ms(&b, r), 14200); /* and then one per interval */
    assert_false(b.ever);
    assert_int_equal(beat(&b, 7, 1, 0, 0, 13300), HEALTH_BEAT_WELL);
    assert_int_equal(b.missed, 0);
    /* Deaf for a while: a full grace from then on, and the gap is no part of the rhythm. */
    int64_t first = health_heartbeat_due_ms(&b, r) - 13300;
    health_heartbeat_start(&b, 90000);
    assert_int_equal(health_heartbeat_due_ms(&b, r), 90000 + first);
    assert_true(b.ever);
    assert_int_equal(beat(&b, 7, 2, 0, 0, 90001), HEALTH_BEAT_WELL);
    assert_int_equal(health_heartbeat_due_ms(&b, r), 90001 + first);
    /* Nor is an outage. */
    assert_int_equal(beat(&b, 7, 3, 0, 0, 190001), HEALTH_BEAT_WELL);
    assert_int_equal(health_heartbeat_due_ms(&b, r), 190001 + first);
    /* A short interval leaves room for the loop all the same. */
    const struct health_beat_rule fast = {.interval_ms = 50, .fall = 1, .phi = 8, .stuck_ms = 1000};
    assert_int_equal(health_heartbeat_bound_ms(&fast), 50 + HEALTH_LATE_MIN_MS);
    health_heartbeat_init(&b, &fast, 0);
    assert_int_equal(health_heartbeat_due_ms(&b, &fast), 50 + HEALTH_LATE_MIN_MS);
}

static void test_repeats_and_restarts(void **state)
{
    (void)state;
    struct health_heartbeat b = {0};
    health_heartbeat_init(&b, &every_second, 0);
    assert_int_equal(beat(&b, 7, 5, 1, 0, 100), HEALTH_BEAT_WELL);
    assert_int_equal(beat(&b, 7, 5, 1, 0, 900), HEALTH_BEAT_REPEAT);
    assert_int_equal(b.heard_ms, 100);                              /* a repeat is no sign of life */
    assert_int_equal(beat(&b, 7, 1, 0, 0, 1000), HEALTH_BEAT_WELL); /* started again */
    assert_int_equal(beat(&b, 8, 1, 0, 0, 1100), HEALTH_BEAT_WELL); /* another process */
    assert_int_equal(beat(&b, 8, 0, 0, 0, 1200), HEALTH_BEAT_WELL); /* does not count its beats */
    assert_int_equal(beat(&b, 8, 0, 0, 0, 1300), HEALTH_BEAT_WELL);
    /* Also when others were heard in between. */
    assert_int_equal(beat(&b, 7, 1, 0, 0, 1400), HEALTH_BEAT_REPEAT);
}

static void test_exceptions(void **state)
{
    (void)state;
    struct health_heartbeat b = {0};
    health_heartbeat_init(&b, &every_second, 0);
    static const struct {
        uint64_t who, count, news;
    } said[] = {{7, 100, 0}, {8, 5, 0}, {7, 103, 3}, {8, 5, 0}, {7, 2, 2}, {8, 6, 1}};
    for (size_t i = 0; i < sizeof said / sizeof *said; i++) {
        struct health_beat_news news;
        struct health_heard h = {.instance = said[i].who, .sequence = i + 1, .exceptions = said[i].count};
        (void)health_heartbeat_heard(&b, &every_second, &h, (int64_t)i * 500, &news);
        assert_int_equal(news.exceptions, said[i].news);
    }
}

static void test_stuck(void **state)
{
    (void)state;
    struct health_heartbeat b = {0};
    int64_t stuck = every_second.stuck_ms, now = 0;
    health_heartbeat_init(&b, &every_second, 0);
    uint64_t seq = 0;
    /* Nothing waits: standing still is rest. */
    for (; now < 3 * stuck; now += 1000)
        assert_int_equal(beat(&b, 7, ++seq, 4, 0, now), HEALTH_BEAT_WELL);
    int64_t began = now - 1000;
    for (; now < began + stuck; now += 1000)
        assert_int_equal(beat(&b, 7, ++seq, 4, 9, now), HEALTH_BEAT_WELL);
    assert_int_equal(beat(&b, 7, ++seq, 4, 9, now), HEALTH_BEAT_STUCK);
    assert_int_equal(beat(&b, 7, ++seq, 5, 9, now + 1000), HEALTH_BEAT_WELL);
    /* A new process has its own count, and its own time. */
    assert_int_equal(beat(&b, 8, 1, 5, 9, now + 1500), HEALTH_BEAT_WELL);
    /* Deaf is not stuck: the time begins anew. */
    health_heartbeat_start(&b, now + 5 * stuck);
    assert_int_equal(beat(&b, 8, 2, 5, 9, now + 5 * stuck + 1), HEALTH_BEAT_WELL);
}

/* One of three processes stands still: the others' beats do not hide it, and it is over when it is gone. */
static void test_one_of_several_is_stuck(void **state)
{
    (void)state;
    struct health_heartbeat b = {0};
    health_heartbeat_init(&b, &every_second, 0);
    int64_t now = 0;
    uint32_t found = 0;
    for (uint64_t k = 1; k <= 90; k++)
        for (uint64_t who = 1; who <= 3; who++) {
            now += 333;
            enum health_beat x = beat(&b, who, k, who == 2 ? 1 : k, 5, now);
            found += x == HEALTH_BEAT_STUCK;
            if (now > every_second.stuck_ms + 1000)
                assert_int_equal(x, HEALTH_BEAT_STUCK);
        }
    assert_in_range(found, 80, 92);
    for (uint64_t k = 91; k <= 100; k++)
        for (uint64_t who = 1; who <= 3; who += 2) {
            now += 500;
            enum health_beat x = beat(&b, who, k, k, 5, now);
            if (k > 96)
                assert_int_equal(x, HEALTH_BEAT_WELL);
        }
    /* More processes than can be told apart: nothing breaks, all are alive. */
    for (uint64_t k = 0; k < 10000; k++)
        assert_int_equal(beat(&b, 1000 + k % 200, k + 1, k, 5, now += 10), HEALTH_BEAT_WELL);
}

/* ---- simulation ---- */

/* How late the next heartbeat is: mostly a little, at times very (pauses of the runtime, a busy host): a Pareto tail, up to `most`. */
static int64_t heavy_tail(double most_ms)
{
    double late = 20 * pow(uniform(), -1 / 1.1);
    return (int64_t)(late > most_ms ? most_ms : late);
}

struct found {
    uint32_t silent, down, not_healthy;
};

static void look(struct health_heartbeat *b, struct health *h, const struct health_beat_rule *r, int64_t until,
                 struct found *f)
{
    const struct health_rule rule = {.kind = HEALTH_TARGET_AGENT, .fall = r->fall, .rise = 2};
    for (int64_t due; (due = health_heartbeat_due_ms(b, r)) <= until;) {
        assert_true(health_heartbeat_tick(b, r, due));
        struct health_result x = {.fault = HEALTH_FAULT_SILENT, .started_ms = due, .ended_ms = due};
        f->silent++;
        health_take(h, &rule, &x, due);
        f->down += h->state == HEALTH_UNHEALTHY;
        f->not_healthy += h->state != HEALTH_HEALTHY;
        if (h->state == HEALTH_UNHEALTHY)
            return;
    }
}

/* Two days of an agent whose heartbeats come with a heavy tail, as those of a loaded server do. A time-out of one interval and a
 * fifth would have called it dead very often; here it is never called anything but healthy. Then it dies: within the bound. */
static void test_two_days_of_pauses(void **state)
{
    (void)state;
    for (uint64_t seed = 1, seeds = getenv("VALGRIND") ? 1 : 5; seed <= seeds; seed++) {
        rng = seed * 0x9e3779b97f4a7c15u;
        const struct health_beat_rule *r = &every_second;
        const struct health_rule rule = {.kind = HEALTH_TARGET_AGENT, .fall = 3, .rise = 2};
        struct health_heartbeat b = {0};
        struct health h;
        struct found f = {0};
        uint32_t one_second_time_outs = 0;
        int64_t now = 1000, days = (getenv("VALGRIND") ? 1 : 48) * INT64_C(3600000);
        health_init(&h, now);
        health_heartbeat_init(&b, r, now);
        uint64_t seq = 0;
        for (; now < days;) {
            int64_t pause = 1000 + heavy_tail(2000);
            one_second_time_outs += pause > 1200;
            look(&b, &h, r, now + pause - 1, &f);
            now += pause;
            seq++;
            (void)beat(&b, 7, seq, seq, 1, now);
            struct health_result x = {.fault = HEALTH_FAULT_NONE, .started_ms = now, .ended_ms = now};
            health_take(&h, &rule, &x, now);
            if (seq > 2 && h.state != HEALTH_HEALTHY)
                fail_msg("seed %d: %s at beat %d", (int)seed, sm_name(&health_sm, h.state), (int)seq);
        }
        assert_true(one_second_time_outs >
                    (getenv("VALGRIND") ? 50 : 1000)); /* the rhythm is as bad as it is meant to be */
        assert_int_equal(f.down, 0);
        int64_t died = now;
        look(&b, &h, r, now + 60000, &f);
        assert_int_equal(h.state, HEALTH_UNHEALTHY);
        assert_int_equal(h.failure, HEALTH_FAILURE_AGENT_DOWN);
        assert_in_range(h.changed_ms - died, 2000, 3200);
    }
}

/* Whatever the rhythm and the rule: death is found within the bound, and not before the agent has been silent for longer than ever. */
static void test_bound_and_false_alarms(void **state)
{
    (void)state;
    for (uint64_t seed = 1, seeds = getenv("VALGRIND") ? 100 : 3000; seed <= seeds; seed++) {
        rng = seed * 0x9e3779b97f4a7c15u;
        struct health_beat_rule r = {.interval_ms = 100 + draw() % 10000,
                                     .fall = 1 + draw() % 5,
                                     .phi = 1 + draw() % 40,
                                     .stuck_ms = 1000000000};
        struct health_heartbeat b = {0};
        struct health h;
        struct found f = {0};
        int64_t now = 5000, longest = 0, spread = 1 + draw() % (uint32_t)(2 * r.interval_ms);
        uint32_t beats = draw() % 300;
        health_init(&h, now);
        health_heartbeat_init(&b, &r, now);
        for (uint64_t k = 1; k <= beats; k++) {
            int64_t gap = r.interval_ms / 2 + draw() % (uint32_t)spread;
            if (gap >= health_heartbeat_bound_ms(&r))
                gap = health_heartbeat_bound_ms(&r) - 1;
            look(&b, &h, &r, now + gap - 1, &f);
            now += gap;
            longest = gap > longest ? gap : longest;
            struct health_beat_news news;
            struct health_heard x = {.instance = 1, .sequence = k, .progress = k};
            (void)health_heartbeat_heard(&b, &r, &x, now, &news);
            struct health_result ok = {.fault = HEALTH_FAULT_NONE, .started_ms = now, .ended_ms = now};
            health_take(&h, &(struct health_rule){HEALTH_TARGET_AGENT, r.fall, 2, 0}, &ok, now);
        }
        if (r.fall > 1 && f.down)
            fail_msg("seed %d: a gap below the bound was called death", (int)seed);
        f = (struct found){0};
        uint32_t missed = 0;
        int64_t last = now;
        while (missed < r.fall) {
            int64_t due = health_heartbeat_due_ms(&b, &r);
            if (due < last || due - now > health_heartbeat_bound_ms(&r))
                fail_msg("seed %d: missed one %lld ms after the last, bound %lld", (int)seed, (long long)(due - now),
                         (long long)health_heartbeat_bound_ms(&r));
            last = due;
            assert_true(health_heartbeat_tick(&b, &r, due));
            missed++;
        }
        assert_true(last - now >= r.interval_ms);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_phi_by_the_book),
        cmocka_unit_test(test_phi_floors),
        cmocka_unit_test(test_longest),
        cmocka_unit_test(test_silence),
        cmocka_unit_test(test_repeats_and_restarts),
        cmocka_unit_test(test_exceptions),
        cmocka_unit_test(test_stuck),
        cmocka_unit_test(test_one_of_several_is_stuck),
        cmocka_unit_test(test_two_days_of_pauses),
        cmocka_unit_test(test_bound_and_false_alarms),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
