/* test_health_timing.c - the schedule of probes, with a virtual clock: what is noticed, and within which time. */
#include "health/health.h"
#include "health/health_schedule.h"
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

/* ---- the schedule ---- */

static void test_no_bursts(void **state)
{
    (void)state;
    const struct health_pace p = {.interval_ms = 10000, .fast_ms = 2000, .fall = 3};
    enum { N = 10000, SLOTS = 100 };
    static int slots[SLOTS];
    for (int i = 0; i < N; i++) {
        struct health_schedule s;
        health_schedule_start(&s, &p, N, draw(), 5000);
        int64_t first = health_schedule_due_ms(&s, &p, true, &(struct health_flight){0}) - 5000;
        assert_in_range(first, 0, p.interval_ms - 1);
        slots[first * SLOTS / p.interval_ms]++;
        for (int k = 0; k < 3; k++) {
            int64_t due = health_schedule_due_ms(&s, &p, false, &(struct health_flight){0});
            health_schedule_probed(&s, due, draw());
            int64_t next = health_schedule_due_ms(&s, &p, false, &(struct health_flight){0});
            assert_in_range(next - due, p.interval_ms * 95 / 100, p.interval_ms * 105 / 100);
            int64_t soon = health_schedule_due_ms(&s, &p, true, &(struct health_flight){0});
            assert_in_range(soon - due, p.fast_ms * 95 / 100, p.fast_ms * 105 / 100);
        }
    }
    for (int i = 0; i < SLOTS; i++)
        assert_in_range(slots[i], N / SLOTS / 2, N / SLOTS * 2);
    /* Few targets need not wait for their first verdict. */
    const struct health_pace paid = {.interval_ms = 60000, .fast_ms = 2000, .fall = 3};
    for (int i = 0; i < 100; i++) {
        struct health_schedule s;
        health_schedule_start(&s, &paid, 3, draw(), 0);
        assert_in_range(s.first_ms, 0, 2000);
    }
}

/* ---- ten thousand targets, per 10 ms ---- */

enum { CROWD = 10000, HORIZON_MS = 120000, SLOT_MS = 10 };
struct crowd {
    struct health_schedule s[CROWD];
    uint32_t good[CROWD]; /* results: two make a verdict, until then probes go fast */
    int slots[HORIZON_MS / SLOT_MS];
};

/* Everything is probed as it is due, from one moment to another; all answers are good and come at once. */
static void let_run(struct crowd *c, const struct health_pace *p, int64_t to_ms, bool fast)
{
    const struct health_flight none = {0};
    for (size_t i = 0; i < CROWD; i++) {
        int64_t due;
        while ((due = health_schedule_due_ms(&c->s[i], p, fast || c->good[i] < 2, &none)) < to_ms) {
            c->slots[due / SLOT_MS]++;
            c->good[i]++;
            health_schedule_probed(&c->s[i], due, health_schedule_draw(&c->s[i]));
        }
    }
}

/* No slot of that time has more than three times its share (chance alone makes it twice, now and then), none of ten slots 1.5 times. */
static void assert_even(const struct crowd *c, int64_t from_ms, int64_t to_ms, int per_slot)
{
    int of_ten = 0;
    int64_t all = 0;
    for (int64_t i = from_ms / SLOT_MS; i < to_ms / SLOT_MS; i++) {
        assert_in_range(c->slots[i], 0, 3 * per_slot);
        all += c->slots[i];
        of_ten += c->slots[i];
        if (i % 10 == 9) {
            assert_in_range(of_ten, 0, 15 * per_slot);
            of_ten = 0;
        }
    }
    assert_true(all > 0);
}

static void start_all(struct crowd *c, const struct health_pace *p, int64_t now_ms)
{
    for (size_t i = 0; i < CROWD; i++) {
        health_schedule_start(&c->s[i], p, CROWD, draw(), now_ms);
        c->good[i] = 0;
    }
}

static void test_a_crowd(void **state)
{
    (void)state;
    static struct crowd c;
    const struct health_pace p = {.interval_ms = 10000, .fast_ms = 2000, .fall = 3};
    rng = 7;
    start_all(&c, &p, 1); /* a restart is the same: nothing of the schedule is kept */
    let_run(&c, &p, 60000, false);
    assert_even(&c, 0, 13000, 20); /* first probes, and second ones 2 s later */
    assert_even(&c, 13000, 60000, 10);
    /* The process stands still for 7 s: seven in ten are overdue at the same moment. */
    for (size_t i = 0; i < CROWD; i++)
        if (health_schedule_due_ms(&c.s[i], &p, false, &(struct health_flight){0}) < 67000)
            health_schedule_spread(&c.s[i], CROWD, p.interval_ms, 67000);
    let_run(&c, &p, HORIZON_MS, false);
    assert_even(&c, 67000, HORIZON_MS, 17); /* those and the others, who are not moved, for a while */

    /* A reload makes the pace five times as fast: four in five are overdue by the new one. */
    const struct health_pace slow = {.interval_ms = 50000, .fast_ms = 2000, .fall = 3};
    c = (struct crowd){0};
    start_all(&c, &slow, 1);
    let_run(&c, &slow, 80000, false);
    for (size_t i = 0; i < CROWD; i++)
        health_schedule_spread(&c.s[i], CROWD, p.interval_ms, 80000);
    let_run(&c, &p, HORIZON_MS, false);
    assert_even(&c, 80000, HORIZON_MS, 12);

    /* All breakers open at once, as when the shared state is back and tells so: everybody goes fast. */
    c = (struct crowd){0};
    start_all(&c, &p, 1);
    let_run(&c, &p, 40000, false);
    for (size_t i = 0; i < CROWD; i++)
        health_schedule_spread(&c.s[i], CROWD, p.fast_ms, 40000);
    let_run(&c, &p, 80000, true);
    assert_even(&c, 40000, 80000, 60);
    let_run(&c, &p, HORIZON_MS, false); /* and slow again: nobody is overdue by that */
    assert_even(&c, 82000, HORIZON_MS, 40);
}

static void test_places(void **state)
{
    (void)state;
    for (uint32_t n = 1; n <= 1000; n++) {
        uint32_t some = health_schedule_places(n, true);
        assert_int_equal(health_schedule_places(n, false), n);
        assert_in_range(some, (n + 1) / 2, n);
        assert_true(n < 4 || some < n);
    }
}

static void test_draws(void **state)
{
    (void)state;
    static uint8_t seen[1 << 16];
    struct health_schedule s = {.draw = 1};
    size_t different = 0;
    for (int i = 0; i < 1 << 16; i++) {
        s.draw = health_schedule_draw(&s);
        different += seen[s.draw >> 16]++ == 0;
    }
    assert_in_range(different, 40000, 43000); /* 1 - 1/e of 65,536: as chance has it */
}

static void test_retry_after(void **state)
{
    (void)state;
    const struct health_pace p = {.interval_ms = 60000, .fast_ms = 2000, .fall = 3};
    struct health_schedule s;
    const struct health_flight none = {0};
    health_schedule_start(&s, &p, 1, 0, 1000);
    health_schedule_probed(&s, 1000, 500);
    health_schedule_retry_after(&s, 20000, 1100);
    assert_int_equal(health_schedule_due_ms(&s, &p, true, &none), 21100);
    health_schedule_retry_after(&s, 5000, 1200); /* never earlier than what was asked for before */
    assert_int_equal(health_schedule_due_ms(&s, &p, true, &none), 21100);
    health_schedule_retry_after(&s, 3600000, 1300); /* a regular probe is made all the same */
    assert_in_range(health_schedule_due_ms(&s, &p, true, &none), 58000, 64000);
    health_schedule_retry_after(&s, 0, 1400); /* an answer without it */
    assert_in_range(health_schedule_due_ms(&s, &p, true, &none), 2900, 3100);
}

/* A target that dies at a random moment, by refusing or by hanging; the detector is the schedule and the verdict together. The
 * bound of the issue: fall x fast interval + time-out, after the first probe that meets the outage. */
#define RUNS 16
struct world {
    struct health h;
    struct health_schedule s;
    struct health_pace p;
    struct health_rule rule;
    int64_t now, dies, timeout, good_ms;
    bool hangs;
    struct {
        int64_t began, ends;
        bool bad;
    } runs[RUNS];
    uint32_t n;
    uint32_t begun;
};

static int64_t next_due(const struct world *w)
{
    struct health_flight f = {.n = w->n, .oldest_ms = w->n ? w->runs[0].began : 0};
    return health_schedule_due_ms(&w->s, &w->p, health_in_transition(&w->h, &w->rule), &f);
}

/* When something happens next. */
static int64_t next_ms(const struct world *w)
{
    int64_t at = next_due(w);
    for (uint32_t i = 0; i < w->n; i++)
        at = w->runs[i].ends < at ? w->runs[i].ends : at;
    return at;
}

static void step(struct world *w)
{
    int64_t due = next_due(w), ends = INT64_MAX;
    uint32_t who = 0;
    for (uint32_t i = 0; i < w->n; i++)
        if (w->runs[i].ends < ends) {
            ends = w->runs[i].ends;
            who = i;
        }
    if (due < w->now)
        due = w->now;
    if (due <= ends) {
        assert_true(due != INT64_MAX && w->n < RUNS);
        w->now = due;
        bool bad = w->now >= w->dies;
        w->runs[w->n].began = w->now;
        w->runs[w->n].bad = bad;
        w->runs[w->n].ends = w->now + (!bad ? w->good_ms : w->hangs ? w->timeout : 1);
        w->n++;
        w->begun++;
        health_schedule_probed(&w->s, due, draw());
        return;
    }
    w->now = ends;
    struct health_result r = {.fault = w->runs[who].bad ? HEALTH_FAULT_TIMEOUT : HEALTH_FAULT_NONE,
                              .started_ms = w->runs[who].began,
                              .ended_ms = ends,
                              .total_ms = (uint32_t)(ends - w->runs[who].began)};
    for (uint32_t i = who; i + 1 < w->n; i++)
        w->runs[i] = w->runs[i + 1];
    w->n--;
    health_schedule_answered(&w->s, r.fault == HEALTH_FAULT_NONE, r.total_ms);
    health_take(&w->h, &w->rule, &r, w->now);
}

static void test_detection_bound(void **state)
{
    (void)state;
    for (int seed = 1; seed <= 2000; seed++) {
        rng = (uint64_t)seed * 0x9e3779b97f4a7c15u;
        struct world w = {.hangs = draw() % 2, .good_ms = 1 + draw() % 300, .timeout = 1000 + draw() % 9000};
        w.p = (struct health_pace){
            .interval_ms = 5000 + draw() % 60000, .fast_ms = 700 + draw() % 3000, .fall = 1 + draw() % 4};
        w.rule = (struct health_rule){.kind = HEALTH_TARGET_LLM, .fall = w.p.fall, .rise = 1 + draw() % 3};
        w.now = 1000;
        w.dies = w.now + 3 * w.p.interval_ms + draw() % w.p.interval_ms;
        health_init(&w.h, w.now);
        health_schedule_start(&w.s, &w.p, 1, draw(), w.now);
        while (next_ms(&w) < w.dies)
            step(&w);
        if (w.h.state != HEALTH_HEALTHY)
            fail_msg("seed %d: not healthy before the outage", seed);
        /* Healthy, it is probed at its regular pace: what is paid is not paid twice. */
        assert_in_range(w.begun, 3, 3 + w.rule.rise + 3);
        while (w.h.state != HEALTH_UNHEALTHY)
            step(&w);
        int64_t longest = w.hangs ? w.timeout : 1;
        int64_t bound = w.p.interval_ms * 105 / 100 + (int64_t)w.p.fall * w.p.fast_ms * 105 / 100 + longest + 1;
        if (w.now - w.dies > bound)
            fail_msg("seed %d: seen after %lld ms, bound %lld (%s, fall %u, fast %lld, time-out %lld)", seed,
                     (long long)(w.now - w.dies), (long long)bound, w.hangs ? "hangs" : "refuses", w.p.fall,
                     (long long)w.p.fast_ms, (long long)w.timeout);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_no_bursts), cmocka_unit_test(test_a_crowd),     cmocka_unit_test(test_places),
        cmocka_unit_test(test_draws),     cmocka_unit_test(test_retry_after), cmocka_unit_test(test_detection_bound),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
