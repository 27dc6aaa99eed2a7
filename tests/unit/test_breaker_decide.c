/* test_breaker_decide.c - the decider cell by cell: every state, every event, every edge of the rules. */
#include "breaker/breaker.h"
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#define T0 INT64_C(1700000000000)
static const struct breaker_rule rule = {.window_ms = 30000,
                                         .min_calls = 10,
                                         .failure_percent = 50,
                                         .slow_percent = 50,
                                         .consecutive = 5,
                                         .slow_ms = 2000,
                                         .slow_first_ms = 500,
                                         .open_ms = 30000,
                                         .open_max_ms = 300000,
                                         .decay_ms = 600000,
                                         .permit_ms = 10000,
                                         .ramp_step_ms = 30000,
                                         .jitter_percent = 0,
                                         .min_reporters = 2,
                                         .seed = 7};

/* ---- documents in each state, made the way they come about ---- */

static struct breaker_result decide(struct breaker *b, struct breaker_event ev, int64_t now_ms)
{
    struct breaker before = *b;
    struct breaker_result r = breaker_decide(b, &rule, &ev, now_ms);
    assert_int_equal(r.changed, b->epoch == before.epoch + 1);
    if (!r.changed)
        assert_memory_equal(b, &before, sizeof *b);
    else
        assert_true(breaker_sm.invariant(b));
    if (b->state == before.state && before.state == BREAKER_OPEN)
        assert_true(b->until_ms >= before.until_ms);
    assert_true(b->permit.id >= before.permit.id);
    return r;
}

static struct breaker_event totals(uint32_t calls, uint32_t failures, uint32_t consecutive)
{
    return (struct breaker_event){.kind = BREAKER_EV_TOTALS,
                                  .u.totals = {.calls = calls,
                                               .failures = failures,
                                               .consecutive = consecutive,
                                               .reporters = calls > 0,
                                               .failing = failures > 0,
                                               .passed = calls - failures,
                                               .first_failure_ms = failures ? T0 - 900 : 0,
                                               .run_since_ms = consecutive ? T0 - 500 : 0}};
}

static struct breaker_event person(enum breaker_event_kind kind, int64_t duration_ms)
{
    return (struct breaker_event){.kind = kind,
                                  .u.person = {.by = "eve", .why = "drift", .duration_ms = duration_ms}};
}

static struct breaker_event allow(uint32_t draw)
{
    return (struct breaker_event){.kind = BREAKER_EV_ALLOW, .u.allow = {.holder = "agent-7", .draw = draw}};
}

static struct breaker_event outcome(uint64_t id, bool good, bool data_path)
{
    return (struct breaker_event){.kind = BREAKER_EV_OUTCOME,
                                  .u.outcome = {.permit_id = id, .good = good, .data_path = data_path}};
}

static struct breaker_event slow_outcome(uint64_t id, bool data_path)
{
    struct breaker_event ev = outcome(id, true, data_path);
    ev.u.outcome.slow = true;
    return ev;
}

static struct breaker_event slow_totals(uint32_t calls, uint32_t slow)
{
    struct breaker_event ev = totals(calls, 0, 0);
    ev.u.totals.slow = slow;
    ev.u.totals.failing = slow > 0;
    return ev;
}

static struct breaker_event verdict(int64_t changed_ms)
{
    return (struct breaker_event){.kind = BREAKER_EV_VERDICT,
                                  .u.verdict = {.changed_ms = changed_ms, .since_ms = changed_ms - 3000}};
}

static struct breaker_event scope(bool ill, int64_t until_ms, int64_t newest_ms)
{
    return (struct breaker_event){
        .kind = BREAKER_EV_SCOPE,
        .u.scope = {
            .name = "account", .ill = ill, .until_ms = until_ms, .first_ms = T0 - 700, .newest_ms = newest_ms}};
}

/* A document that entered its state at T0, well after the one before. */
static struct breaker in_state(int state)
{
    struct breaker b = {0};
    int64_t before = T0 - 1000000;
    if (state == BREAKER_NONE)
        return b;
    decide(&b, (struct breaker_event){.kind = BREAKER_EV_INITIAL}, before);
    if (state == BREAKER_CLOSED) { /* not the first one */
        decide(&b, person(BREAKER_EV_OPEN, 0), before);
        decide(&b, person(BREAKER_EV_RESET, 0), T0);
    } else if (state == BREAKER_FORCED_OPEN) {
        decide(&b, person(BREAKER_EV_OPEN, 60000), T0);
    } else if (state == BREAKER_FORCED_CLOSED) {
        decide(&b, person(BREAKER_EV_CLOSE, 60000), T0);
    } else if (state == BREAKER_METRICS_ONLY) {
        decide(&b, person(BREAKER_EV_METRICS, 60000), T0);
    } else {
        decide(&b, totals(5, 5, 5), state == BREAKER_OPEN ? T0 : T0 - 40000);
        if (state == BREAKER_HALF_OPEN)
            decide(&b, totals(0, 0, 0), T0);
        if (state == BREAKER_PROBATION) {
            decide(&b, totals(0, 0, 0), T0 - 5000);
            decide(&b, allow(0), T0 - 1000);
            decide(&b, outcome(1, true, true), T0);
        }
    }
    assert_int_equal(b.state, state);
    assert_int_equal(b.since_ms, T0);
    return b;
}

/* ---- the table: state x event -> state ---- */

static void test_every_cell(void **unused)
{
    (void)unused;
    enum { N = BREAKER_NONE, C, O, H, P, FO, FC, M };
    struct breaker_event bad = totals(5, 5, 5), good = totals(5, 0, 0), nothing = totals(0, 0, 0);
    struct {
        const char *name;
        struct breaker_event ev;
        int64_t after_ms;
        int to[BREAKER_STATES]; /* by state: NONE C O H P FO FC M */
        uint8_t changed;        /* bit by state: an epoch was used */
    } rows[] = {
        {"initial", {.kind = BREAKER_EV_INITIAL}, 5000, {C, C, O, H, P, FO, FC, M}, 1 << N},
        {"rules", {.kind = BREAKER_EV_RULES}, 5000, {N, C, O, H, P, FO, FC, M}, 0},
        {"no calls", nothing, 5000, {N, C, O, H, P, FO, FC, M}, 0},
        {"no calls, after all deadlines",
         nothing,
         70000,
         {N, C, H, H, P, H, C, C},
         1 << O | 1 << FO | 1 << FC | 1 << M},
        {"good calls", good, 5000, {N, C, O, H, P, FO, FC, M}, 0},
        {"good calls, step over", good, 31000, {N, C, H, H, P, FO, FC, M}, 1 << O | 1 << P},
        {"slow calls", slow_totals(10, 5), 5000, {N, O, O, H, O, FO, FC, M}, 1 << C | 1 << P},
        {"few slow calls", slow_totals(4, 4), 5000, {N, C, O, H, P, FO, FC, M}, 0},
        {"few slow calls, step over", slow_totals(4, 2), 31000, {N, C, H, H, O, FO, FC, M}, 1 << O | 1 << P},
        {"fewer slow calls, step over", slow_totals(5, 2), 31000, {N, C, H, H, P, FO, FC, M}, 1 << O | 1 << P},
        {"bad calls", bad, 5000, {N, O, O, H, O, FO, FC, M}, 1 << C | 1 << P},
        {"unhealthy, new", verdict(T0 + 4000), 5000, {N, O, O, O, O, FO, FC, M}, 1 << C | 1 << H | 1 << P},
        {"unhealthy, known", verdict(T0 - 4000), 5000, {N, C, O, H, P, FO, FC, M}, 0},
        {"scope ill", scope(true, T0 + 60000, T0 + 4000), 5000, {N, O, O, H, P, FO, FC, M}, 1 << C},
        {"scope ill, known", scope(true, T0 + 60000, T0 - 1), 5000, {N, C, O, H, P, FO, FC, M}, 0},
        {"scope ill, over already", scope(true, T0 + 4500, T0 + 4000), 5000, {N, C, O, H, P, FO, FC, M}, 0},
        {"scope well", scope(false, 0, 0), 5000, {N, C, O, H, P, FO, FC, M}, 0},
        {"outcome without permit", outcome(1, true, true), 5000, {N, C, O, H, P, FO, FC, M}, 0},
        {"bad outcome without permit", outcome(1, false, true), 5000, {N, C, O, H, P, FO, FC, M}, 0},
        {"slow outcome without permit", slow_outcome(1, true), 5000, {N, C, O, H, P, FO, FC, M}, 0},
        {"allow", allow(0), 5000, {N, C, O, H, P, FO, FC, M}, 1 << H},
        {"open", person(BREAKER_EV_OPEN, 0), 5000, {N, FO, FO, FO, FO, FO, FO, FO}, 0xfe},
        {"open, no longer than now", person(BREAKER_EV_OPEN, 1000), 5000, {N, FO, FO, FO, FO, FO, FO, FO}, 0xde},
        {"close", person(BREAKER_EV_CLOSE, 0), 5000, {N, FC, FC, FC, FC, FC, FC, FC}, 0xfe},
        {"metrics", person(BREAKER_EV_METRICS, 0), 5000, {N, M, M, M, M, M, M, M}, 0xfe},
        {"reset", person(BREAKER_EV_RESET, 0), 5000, {N, C, C, C, C, C, C, C}, 0xfc},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        for (int s = BREAKER_NONE; s < BREAKER_STATES; s++) {
            struct breaker b = in_state(s);
            struct breaker_result r = decide(&b, rows[i].ev, T0 + rows[i].after_ms);
            if (b.state != rows[i].to[s] || r.changed != (bool)(rows[i].changed >> s & 1))
                fail_msg("%s in %s: %s, changed %d", rows[i].name, sm_name(&breaker_sm, s),
                         sm_name(&breaker_sm, b.state), r.changed);
        }
}

/* ---- opening ---- */

static int opened_by(uint32_t calls, uint32_t failures, uint32_t slow, uint32_t consecutive, uint32_t reporters,
                     uint32_t failing)
{
    struct breaker b = in_state(BREAKER_CLOSED);
    struct breaker_event ev = {.kind = BREAKER_EV_TOTALS,
                               .u.totals = {.calls = calls,
                                            .failures = failures,
                                            .slow = slow,
                                            .consecutive = consecutive,
                                            .reporters = reporters,
                                            .failing = failing}};
    return decide(&b, ev, T0 + 5000).changed ? b.reason : 0;
}

static void test_thresholds(void **unused)
{
    (void)unused;
    assert_int_equal(opened_by(4, 4, 0, 4, 1, 1), 0);
    assert_int_equal(opened_by(5, 5, 0, 5, 1, 1), BREAKER_BY_CONSECUTIVE);
    assert_int_equal(opened_by(9, 8, 0, 3, 1, 1), 0);
    assert_int_equal(opened_by(10, 4, 0, 3, 1, 1), 0);
    assert_int_equal(opened_by(10, 5, 0, 3, 1, 1), BREAKER_BY_FAILURE_RATIO);
    assert_int_equal(opened_by(10, 0, 4, 0, 1, 1), 0);
    assert_int_equal(opened_by(9, 0, 9, 0, 1, 1), 0);
    assert_int_equal(opened_by(10, 0, 5, 0, 1, 1), BREAKER_BY_SLOW_RATIO);
    assert_int_equal(opened_by(UINT32_MAX, UINT32_MAX, UINT32_MAX, 0, 1, 1), BREAKER_BY_FAILURE_RATIO);
}

static void test_votes(void **unused)
{
    (void)unused;
    /* One of several never counts alone, however loud. */
    assert_int_equal(opened_by(1000, 990, 0, 400, 2, 1), 0);
    assert_int_equal(opened_by(1000, 990, 0, 400, 30, 1), 0);
    assert_int_equal(opened_by(1000, 0, 990, 0, 2, 1), 0);
    assert_int_equal(opened_by(5, 5, 0, 5, 2, 2), BREAKER_BY_CONSECUTIVE);
    /* Nor does a minority of many. */
    assert_int_equal(opened_by(1000, 600, 0, 20, 32, 16), 0);
    assert_int_equal(opened_by(1000, 600, 0, 20, 32, 17), BREAKER_BY_CONSECUTIVE);
    /* Right after a change those who report first are not all that there are. */
    struct breaker b = in_state(BREAKER_CLOSED);
    assert_false(decide(&b, totals(9, 9, 9), T0 + 2999).changed);
    assert_int_equal(breaker_wake_ms(&b, &rule, 0, T0 + 2999), T0 + 3000);
    assert_true(decide(&b, totals(9, 9, 9), T0 + 3000).changed);
    /* Votes switched off. */
    struct breaker_rule one = rule;
    one.min_reporters = 1;
    b = in_state(BREAKER_CLOSED);
    struct breaker_event ev = {
        .kind = BREAKER_EV_TOTALS,
        .u.totals = {.calls = 9, .failures = 5, .consecutive = 5, .reporters = 9, .failing = 1}};
    assert_true(breaker_decide(&b, &one, &ev, T0 + 10).changed);
}

/* A document that was put back into an emptied Redis is old, but its window is young. */
static void test_window_that_began_later(void **unused)
{
    (void)unused;
    struct breaker_rule one = rule, quick = rule;
    one.min_reporters = 1;
    quick.ramp_step_ms = 1000;
    struct breaker_event bad = totals(9, 9, 9), few = totals(4, 4, 4), good = totals(4, 0, 0);
    const int64_t began = T0 + 100000;
    bad.u.totals.began_ms = few.u.totals.began_ms = good.u.totals.began_ms = began;
    struct breaker b = in_state(BREAKER_CLOSED);
    assert_false(decide(&b, bad, began + 2999).changed);
    assert_int_equal(breaker_wake_ms(&b, &rule, began, began + 2999), began + 3000);
    struct breaker c = b;
    assert_true(breaker_decide(&c, &one, &bad, began).changed); /* without votes nobody is waited for */
    assert_true(decide(&b, bad, began + 3000).changed);
    assert_int_equal(b.totals.began_ms, 0); /* no part of the document */
    b = in_state(BREAKER_CLOSED);
    bad.u.totals.began_ms = T0 - 5; /* older than the document: its own time counts */
    assert_false(decide(&b, bad, T0 + 2999).changed);
    assert_true(decide(&b, bad, T0 + 3000).changed);
    /* A step of the ramp begins anew, up or down. */
    b = in_state(BREAKER_PROBATION);
    assert_false(decide(&b, good, began + 29999).changed);
    assert_false(decide(&b, few, began + 2999).changed);
    assert_int_equal(breaker_wake_ms(&b, &rule, began, began + 3000), began + 30000);
    c = b;
    assert_true(decide(&c, good, began + 30000).changed);
    assert_int_equal(c.ramp_percent, 25);
    assert_true(decide(&b, few, began + 30000).changed);
    assert_int_equal(b.state, BREAKER_OPEN);
    /* One that is shorter than that takes no vote before either. */
    b = in_state(BREAKER_PROBATION);
    assert_false(breaker_decide(&b, &quick, &few, began + 2999).changed);
    assert_int_equal(breaker_wake_ms(&b, &quick, began, began + 2999), began + 3000);
    assert_true(breaker_decide(&b, &quick, &few, began + 3000).changed);
    assert_int_equal(b.state, BREAKER_OPEN);
}

/* Of n reporters the first `ill` have seen only failures for a while; somebody floods with as many successes as it can. */
static bool opens_by_runs(const struct breaker_rule *r, uint32_t n, uint32_t ill, uint8_t run, struct breaker *ret)
{
    struct breaker b = in_state(BREAKER_CLOSED);
    struct breaker_event ev = {.kind = BREAKER_EV_TOTALS,
                               .u.totals = {.calls = 1000000, .failures = 60, .consecutive = 0, .passed = 999940}};
    for (uint32_t i = 0; i < n; i++)
        breaker_totals_vote(&ev.u.totals, i < ill ? run : 0, i < ill);
    bool changed = breaker_decide(&b, r, &ev, T0 + 5000).changed;
    if (ret)
        *ret = b;
    return changed;
}

static void test_runs_of_each(void **unused)
{
    (void)unused;
    struct breaker b;
    assert_true(opens_by_runs(&rule, 3, 2, 5, &b));
    assert_int_equal(b.reason, BREAKER_BY_CONSECUTIVE);
    assert_int_equal(b.totals.consecutive, 5);
    assert_false(opens_by_runs(&rule, 3, 2, 4, NULL));   /* the run is too short */
    assert_false(opens_by_runs(&rule, 4, 2, 200, NULL)); /* not more than half */
    assert_true(opens_by_runs(&rule, 32, 17, 5, NULL));
    assert_false(opens_by_runs(&rule, 32, 16, 255, NULL));
    struct breaker_rule r = rule;
    r.min_reporters = 4;
    assert_false(opens_by_runs(&r, 4, 3, 5, NULL)); /* fewer than it takes */
    assert_true(opens_by_runs(&r, 5, 4, 5, NULL));
    r.consecutive = 0;
    assert_false(opens_by_runs(&r, 5, 5, 255, NULL));
    /* One that floods with failures is one voter. */
    assert_false(opens_by_runs(&rule, 3, 1, 255, NULL));
}

static void test_rules_off(void **unused)
{
    (void)unused;
    struct breaker_rule off = rule;
    off.consecutive = off.failure_percent = off.slow_percent = 0;
    struct breaker b = in_state(BREAKER_CLOSED);
    struct breaker_event ev = totals(1000, 1000, 1000);
    ev.u.totals.slow = 1000;
    assert_false(breaker_decide(&b, &off, &ev, T0 + 5000).changed);
}

static void test_open_time(void **unused)
{
    (void)unused;
    struct breaker b = in_state(BREAKER_CLOSED);
    int64_t now = T0 + 5000;
    int64_t evidence = 0;
    /* Each failed trial makes it longer, up to the limit; the outage's evidence stays the first. */
    for (int n = 1; n <= 12; n++) {
        decide(&b, n == 1 ? totals(5, 5, 5) : outcome(b.permit.id, false, true), now);
        assert_int_equal(b.state, BREAKER_OPEN);
        assert_int_equal(b.open_count, n);
        assert_int_equal(b.until_ms - now, n < 10 ? n * 30000 : 300000);
        if (n == 1)
            evidence = b.evidence_ms;
        assert_int_equal(b.evidence_ms, evidence);
        now = b.until_ms;
        decide(&b, totals(0, 0, 0), now);
        assert_true(decide(&b, allow(0), now).admitted);
        now += 10;
    }
    assert_int_equal(evidence, T0 - 500);
    /* Closed long enough, it is forgotten step by step. */
    decide(&b, outcome(b.permit.id, true, true), now);
    for (int i = 0; i < 4; i++)
        decide(&b, totals(1, 0, 0), now += 30000);
    assert_int_equal(b.state, BREAKER_CLOSED);
    assert_int_equal(b.open_count, 12);
    assert_int_equal(b.evidence_ms, 0);
    struct breaker again = b;
    decide(&again, totals(5, 5, 5), now + 600000 * 3 + 1);
    assert_int_equal(again.open_count, 10);
    again = b;
    decide(&again, totals(5, 5, 5), now + 600000 * 50);
    assert_int_equal(again.open_count, 1);
}

static void test_jitter(void **unused)
{
    (void)unused;
    struct breaker_rule r = rule;
    r.jitter_percent = 20;
    int64_t least = INT64_MAX, most = 0;
    for (uint64_t seed = 0; seed < 500; seed++) {
        r.seed = seed;
        struct breaker b = in_state(BREAKER_CLOSED);
        struct breaker_event ev = totals(5, 5, 5);
        breaker_decide(&b, &r, &ev, T0 + 5000);
        int64_t hold = b.until_ms - T0 - 5000;
        assert_in_range(hold, 30000, 36000);
        least = hold < least ? hold : least;
        most = hold > most ? hold : most;
    }
    assert_true(least < 30300 && most > 35700);
}

static void test_retry_after(void **unused)
{
    (void)unused;
    struct breaker b = in_state(BREAKER_CLOSED);
    struct breaker_event ev = totals(1, 1, 1);
    ev.u.totals.retry_until_ms = T0 + 20000;
    decide(&b, ev, T0 + 5000);
    assert_int_equal(b.reason, BREAKER_BY_RETRY_AFTER);
    assert_int_equal(b.until_ms, T0 + 20000);
    /* Only ever later. */
    ev.u.totals.retry_until_ms = T0 + 15000;
    assert_false(decide(&b, ev, T0 + 6000).changed);
    ev.u.totals.retry_until_ms = T0 + 90000;
    assert_true(decide(&b, ev, T0 + 9000).changed);
    assert_int_equal(b.until_ms, T0 + 90000);
    assert_int_equal(b.since_ms, T0 + 5000);
    assert_false(decide(&b, totals(0, 0, 0), T0 + 89999).changed);
    /* One of two reporters does not prolong it. */
    ev.u.totals = (struct breaker_totals){
        .calls = 4, .failures = 2, .reporters = 2, .failing = 1, .retry_until_ms = T0 + 900000};
    assert_false(decide(&b, ev, T0 + 10000).changed);
    decide(&b, totals(0, 0, 0), T0 + 90000);
    assert_int_equal(b.state, BREAKER_HALF_OPEN);
    /* A deadline that has passed opens nothing. */
    b = in_state(BREAKER_CLOSED);
    ev = totals(1, 1, 1);
    ev.u.totals.retry_until_ms = T0 + 4000;
    assert_false(decide(&b, ev, T0 + 5000).changed);
    /* With another rule it is the later of the two. */
    ev = totals(5, 5, 5);
    ev.u.totals.retry_until_ms = T0 + 500000;
    decide(&b, ev, T0 + 5000);
    assert_int_equal(b.reason, BREAKER_BY_CONSECUTIVE);
    assert_int_equal(b.until_ms, T0 + 500000);
    /* And the permitted call may bring one. */
    b = in_state(BREAKER_HALF_OPEN);
    decide(&b, allow(0), T0 + 1);
    ev = outcome(b.permit.id, false, true);
    ev.u.outcome.retry_until_ms = T0 + 777000;
    decide(&b, ev, T0 + 2);
    assert_int_equal(b.until_ms, T0 + 777000);
}

static void test_first_verdict(void **unused)
{
    (void)unused;
    /* The target was down before the breaker was first made: an old verdict is news. */
    struct breaker b = {0};
    decide(&b, (struct breaker_event){.kind = BREAKER_EV_INITIAL}, T0);
    assert_true(decide(&b, verdict(T0 - 500000), T0 + 1).changed);
    assert_int_equal(b.reason, BREAKER_BY_UNHEALTHY);
    assert_int_equal(b.evidence_ms, T0 - 503000);
}

/* ---- half open ---- */

static void test_permit(void **unused)
{
    (void)unused;
    struct breaker b = in_state(BREAKER_HALF_OPEN);
    struct breaker_result r = decide(&b, allow(99), T0 + 100);
    assert_true(r.admitted && r.changed);
    assert_int_equal(r.permit_id, 1);
    assert_int_equal(b.permit.expires_ms, T0 + 10100);
    assert_string_equal(b.permit.holder, "agent-7");
    /* One for the fleet, also for the holder's own name. */
    r = decide(&b, allow(0), T0 + 5000);
    assert_false(r.admitted);
    assert_int_equal(r.retry_after_ms, 5100);
    /* Silence: it is given out again, under a higher id. */
    r = decide(&b, allow(0), T0 + 10100);
    assert_true(r.admitted);
    assert_int_equal(r.permit_id, 2);
    assert_int_equal(b.reason, BREAKER_BY_PERMIT_EXPIRED);
    /* The first holder wakes up: too late, either way. */
    assert_false(decide(&b, outcome(1, true, true), T0 + 10200).changed);
    assert_false(decide(&b, outcome(1, false, true), T0 + 10200).changed);
    /* A ping never closes anything, but its failure is a failure. */
    assert_false(decide(&b, outcome(2, true, false), T0 + 10300).changed);
    struct breaker c = b;
    decide(&c, outcome(2, false, false), T0 + 10300);
    assert_int_equal(c.state, BREAKER_OPEN);
    /* Late, but nobody else has it: it counts. */
    decide(&b, outcome(2, true, true), T0 + 90000);
    assert_int_equal(b.state, BREAKER_PROBATION);
    assert_int_equal(b.ramp_percent, 10);
    assert_int_equal(b.permit.id, 2);
    assert_int_equal(b.permit.expires_ms, 0);
    /* Ids go on growing through the next round. */
    decide(&b, totals(5, 5, 5), T0 + 95000);
    decide(&b, totals(0, 0, 0), b.until_ms);
    r = decide(&b, allow(0), b.changed_ms + 1);
    assert_int_equal(r.permit_id, 3);
    /* Other people's calls say nothing now. */
    assert_false(decide(&b, totals(100, 100, 100), b.changed_ms + 10).changed);
}

static void test_ramp(void **unused)
{
    (void)unused;
    struct breaker b = in_state(BREAKER_PROBATION);
    static const uint32_t steps[] = {10, 25, 50, 100};
    int64_t now = T0;
    for (size_t i = 0; i < 4; i++) {
        assert_int_equal(b.ramp_percent, steps[i]);
        /* A share passes. */
        assert_true(decide(&b, allow(steps[i] - 1), now + 1).admitted);
        if (steps[i] < 100)
            assert_false(decide(&b, allow(steps[i]), now + 1).admitted);
        /* Not before its time, and not without a success. */
        assert_false(decide(&b, totals(5, 0, 0), now + 29999).changed);
        assert_false(decide(&b, totals(0, 0, 0), now + 30000).changed);
        assert_true(breaker_wake_ms(&b, &rule, 0, now + 30000) > now + 30000);
        now += 30000;
        assert_true(decide(&b, totals(1, 0, 0), now).changed);
        assert_int_equal(b.reason, i < 3 ? BREAKER_BY_RAMP : BREAKER_BY_TRIAL_PASSED);
    }
    assert_int_equal(b.state, BREAKER_CLOSED);
    assert_int_equal(breaker_news(b.previous, b.state), BREAKER_RESOLVE);
    /* At the end of a step few calls must do. */
    b = in_state(BREAKER_PROBATION);
    assert_false(decide(&b, totals(4, 2, 1), T0 + 29999).changed);
    decide(&b, totals(4, 2, 1), T0 + 30000);
    assert_int_equal(b.state, BREAKER_OPEN);
    assert_int_equal(b.reason, BREAKER_BY_TRIAL_FAILED);
    assert_int_equal(b.open_count, 2);
    /* Below the share it goes on. */
    b = in_state(BREAKER_PROBATION);
    decide(&b, totals(5, 2, 1), T0 + 30000);
    assert_int_equal(b.ramp_percent, 25);
}

/* What is slow is not let in: neither by its trial nor by the ramp. */
static void test_slow_trial(void **unused)
{
    (void)unused;
    /* good, slow, data_path -> state; and where nothing opens for being slow. */
    static const struct {
        bool good, slow, data_path;
        int to, to_if_off;
    } cells[] = {{false, false, false, BREAKER_OPEN, BREAKER_OPEN},
                 {false, false, true, BREAKER_OPEN, BREAKER_OPEN},
                 {false, true, false, BREAKER_OPEN, BREAKER_OPEN},
                 {false, true, true, BREAKER_OPEN, BREAKER_OPEN},
                 {true, false, false, BREAKER_HALF_OPEN, BREAKER_HALF_OPEN},
                 {true, false, true, BREAKER_PROBATION, BREAKER_PROBATION},
                 {true, true, false, BREAKER_HALF_OPEN, BREAKER_HALF_OPEN},
                 {true, true, true, BREAKER_OPEN, BREAKER_PROBATION}};
    struct breaker_rule off = rule;
    off.slow_percent = 0;
    for (size_t i = 0; i < sizeof cells / sizeof cells[0]; i++) {
        struct breaker b = in_state(BREAKER_HALF_OPEN);
        decide(&b, allow(0), T0 + 1);
        struct breaker_event ev = outcome(1, cells[i].good, cells[i].data_path);
        ev.u.outcome.slow = cells[i].slow;
        struct breaker other = b;
        int64_t evidence_ms = b.evidence_ms;
        decide(&b, ev, T0 + 2000);
        breaker_decide(&other, &off, &ev, T0 + 2000);
        if (b.state != cells[i].to || other.state != cells[i].to_if_off)
            fail_msg("cell %zu: %s, off: %s", i, sm_name(&breaker_sm, b.state), sm_name(&breaker_sm, other.state));
        if (b.state == BREAKER_OPEN) {
            assert_int_equal(b.reason, BREAKER_BY_TRIAL_FAILED);
            assert_int_equal(b.open_count, 2);
            assert_int_equal(b.evidence_ms, evidence_ms); /* the same outage */
        }
    }
    /* A replaced holder's slow call is void. */
    struct breaker b = in_state(BREAKER_HALF_OPEN);
    decide(&b, allow(0), T0 + 1);
    decide(&b, allow(0), T0 + 20000);
    assert_false(decide(&b, slow_outcome(1, true), T0 + 20001).changed);
    /* On the ramp it takes votes, as for failures; and a rule that is on. */
    b = in_state(BREAKER_PROBATION);
    struct breaker_event ev = slow_totals(6, 5);
    ev.u.totals.reporters = 3;
    decide(&b, ev, T0 + 30000);
    assert_int_equal(b.ramp_percent, 25); /* one of three */
    b = in_state(BREAKER_PROBATION);
    ev.u.totals.failing = 2;
    decide(&b, ev, T0 + 30000);
    assert_int_equal(b.state, BREAKER_OPEN);
    assert_int_equal(b.reason, BREAKER_BY_TRIAL_FAILED);
    b = in_state(BREAKER_PROBATION);
    breaker_decide(&b, &off, &ev, T0 + 30000);
    assert_int_equal(b.ramp_percent, 25);
}

/* ---- people ---- */

static void test_people(void **unused)
{
    (void)unused;
    struct breaker b = in_state(BREAKER_PROBATION);
    decide(&b, person(BREAKER_EV_OPEN, 0), T0 + 1);
    assert_string_equal(b.forced_by, "eve");
    assert_string_equal(b.forced_why, "drift");
    assert_int_equal(b.until_ms, 0);
    assert_true(decide(&b, person(BREAKER_EV_OPEN, 0), T0 + 2).already);
    assert_true(decide(&b, person(BREAKER_EV_OPEN, 1000), T0 + 2).already); /* for ever is later */
    struct breaker_result r = decide(&b, allow(0), T0 + 3);
    assert_false(r.admitted);
    assert_true(r.retry_after_ms > 0);
    /* Nothing but a person moves it. */
    decide(&b, totals(100, 0, 0), INT64_MAX / 4);
    assert_int_equal(b.state, BREAKER_FORCED_OPEN);
    decide(&b, person(BREAKER_EV_RESET, 0), T0 + 4);
    assert_null(b.forced_by);
    assert_int_equal(b.open_count, 0);
    assert_true(decide(&b, person(BREAKER_EV_RESET, 0), T0 + 5).already);
    /* The end of FORCED_OPEN is a trial, not a leap. */
    b = in_state(BREAKER_FORCED_OPEN);
    decide(&b, totals(0, 0, 0), T0 + 60000);
    assert_int_equal(b.state, BREAKER_HALF_OPEN);
    /* A longer time is later; a shorter one is not. */
    b = in_state(BREAKER_FORCED_CLOSED);
    assert_true(decide(&b, person(BREAKER_EV_CLOSE, 10), T0).already);
    assert_true(decide(&b, person(BREAKER_EV_CLOSE, 70000), T0).changed);
    assert_int_equal(b.until_ms, T0 + 70000);
}

static void test_metrics_only(void **unused)
{
    (void)unused;
    struct breaker_rule r = rule;
    r.metrics_only = true;
    struct breaker b = {0};
    struct breaker_event first = {.kind = BREAKER_EV_INITIAL}, rules = {.kind = BREAKER_EV_RULES};
    breaker_decide(&b, &r, &first, T0);
    assert_int_equal(b.state, BREAKER_METRICS_ONLY);
    assert_string_equal(b.forced_by, BREAKER_SETTINGS);
    struct breaker_result res = decide(&b, totals(5, 5, 5), T0 + 5000);
    assert_true(res.would_open && !res.changed);
    assert_int_equal(res.reason, BREAKER_BY_CONSECUTIVE);
    assert_true(decide(&b, allow(99), T0).admitted);
    /* The settings take back what they gave, and only that. */
    assert_true(breaker_decide(&b, &rule, &rules, T0 + 1).changed);
    assert_int_equal(b.state, BREAKER_CLOSED);
    b = in_state(BREAKER_METRICS_ONLY);
    assert_false(breaker_decide(&b, &rule, &rules, T0 + 1).changed);
    b = in_state(BREAKER_FORCED_OPEN);
    assert_false(breaker_decide(&b, &r, &rules, T0 + 1).changed);
    b = in_state(BREAKER_OPEN);
    assert_true(breaker_decide(&b, &r, &rules, T0 + 1).changed);
    assert_int_equal(b.state, BREAKER_METRICS_ONLY);
}

static void test_news(void **unused)
{
    (void)unused;
    struct breaker b = in_state(BREAKER_CLOSED);
    decide(&b, totals(5, 5, 5), T0 + 5000);
    assert_int_equal(breaker_news(b.previous, b.state), BREAKER_RAISE);
    decide(&b, totals(0, 0, 0), T0 + 60000);
    assert_int_equal(breaker_news(b.previous, b.state), BREAKER_NO_NEWS);
    decide(&b, allow(0), T0 + 60001);
    assert_int_equal(breaker_news(b.previous, b.state), BREAKER_NO_NEWS);
    decide(&b, outcome(1, false, true), T0 + 60002);
    assert_int_equal(breaker_news(b.previous, b.state), BREAKER_NO_NEWS); /* still the same trouble */
    decide(&b, person(BREAKER_EV_OPEN, 0), T0 + 60003);
    assert_int_equal(breaker_news(b.previous, b.state), BREAKER_NO_NEWS);
    decide(&b, person(BREAKER_EV_CLOSE, 0), T0 + 60004);
    assert_int_equal(breaker_news(b.previous, b.state), BREAKER_RESOLVE);
    decide(&b, person(BREAKER_EV_OPEN, 0), T0 + 60005);
    assert_int_equal(breaker_news(b.previous, b.state), BREAKER_RAISE);
    struct breaker first = {0};
    decide(&first, (struct breaker_event){.kind = BREAKER_EV_INITIAL}, T0);
    assert_int_equal(breaker_news(first.previous, first.state), BREAKER_NO_NEWS);
}

static void test_time_goes_forward(void **unused)
{
    (void)unused;
    /* A replica whose clock is behind changes what one with a clock ahead has written. */
    struct breaker b = in_state(BREAKER_CLOSED);
    decide(&b, person(BREAKER_EV_OPEN, 0), T0 - 700);
    assert_int_equal(b.changed_ms, T0);
    assert_int_equal(b.since_ms, T0);
}

/* ---- reports ---- */

static void test_classify(void **unused)
{
    (void)unused;
    static const enum breaker_class expected[] = {
        BREAKER_CALL_IGNORED, BREAKER_CALL_GOOD,   BREAKER_CALL_FAILED,  BREAKER_CALL_FAILED,  BREAKER_CALL_FAILED,
        BREAKER_CALL_FAILED,  BREAKER_CALL_FAILED, BREAKER_CALL_RUNNING, BREAKER_CALL_IGNORED, BREAKER_CALL_IGNORED};
    for (int o = 0; o < (int)(sizeof expected / sizeof expected[0]); o++) {
        struct breaker_report r = {.outcome = o, .ended_ms = T0};
        struct breaker_call c = breaker_classify(&rule, &r, T0);
        assert_int_equal(c.class, expected[o]);
        assert_int_equal(c.slow, c.class == BREAKER_CALL_RUNNING);
        r.probe = true; /* a ping */
        assert_int_equal(breaker_classify(&rule, &r, T0).class, BREAKER_CALL_IGNORED);
        r.data_path = true; /* a real call by a watcher */
        assert_int_equal(breaker_classify(&rule, &r, T0).class, expected[o]);
    }
    struct breaker_report r = {.outcome = 1, .ended_ms = T0, .total_ms = 1999};
    assert_false(breaker_classify(&rule, &r, T0).slow);
    r.total_ms = 2000;
    assert_true(breaker_classify(&rule, &r, T0).slow);
    r.total_ms = 0;
    r.first_token_ms = 500;
    assert_true(breaker_classify(&rule, &r, T0).slow);
    /* Clocks of reporters are believed only within the window. */
    r.ended_ms = T0 + 1;
    assert_int_equal(breaker_classify(&rule, &r, T0).at_ms, T0);
    r.ended_ms = 0;
    assert_int_equal(breaker_classify(&rule, &r, T0).at_ms, T0);
    r.ended_ms = T0 - 30000;
    assert_int_equal(breaker_classify(&rule, &r, T0).at_ms, T0 - 30000);
    /* Retry-After: in whole steps, at most a day, only of failures. */
    r.retry_after_ms = 5;
    assert_int_equal(breaker_classify(&rule, &r, T0).retry_until_ms, 0);
    r.outcome = 4;
    assert_int_equal(breaker_classify(&rule, &r, T0).retry_until_ms, T0 + 1000);
    r.retry_after_ms = UINT32_MAX;
    assert_int_equal(breaker_classify(&rule, &r, T0).retry_until_ms, T0 + BREAKER_RETRY_MAX_MS);
}

static void test_needs_permit(void **unused)
{
    (void)unused;
    static const bool at_once[] = {true, false, false, true, false, false, false, false};
    static const bool later[] = {true, false, true, true, false, true, false, false};
    for (int s = 0; s < BREAKER_STATES; s++) {
        struct breaker b = in_state(s);
        assert_int_equal(breaker_needs_permit(&b, T0 + 1), at_once[s]);
        assert_int_equal(breaker_needs_permit(&b, T0 + 100000), later[s]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_cell),
        cmocka_unit_test(test_thresholds),
        cmocka_unit_test(test_votes),
        cmocka_unit_test(test_window_that_began_later),
        cmocka_unit_test(test_runs_of_each),
        cmocka_unit_test(test_rules_off),
        cmocka_unit_test(test_open_time),
        cmocka_unit_test(test_jitter),
        cmocka_unit_test(test_retry_after),
        cmocka_unit_test(test_first_verdict),
        cmocka_unit_test(test_permit),
        cmocka_unit_test(test_ramp),
        cmocka_unit_test(test_slow_trial),
        cmocka_unit_test(test_people),
        cmocka_unit_test(test_metrics_only),
        cmocka_unit_test(test_news),
        cmocka_unit_test(test_time_goes_forward),
        cmocka_unit_test(test_classify),
        cmocka_unit_test(test_needs_permit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
