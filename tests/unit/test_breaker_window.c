/* test_breaker_window.c - deltas and the sliding window: by time, by calls, and what each reporter has seen. */
#include "breaker/window.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#define T0 INT64_C(1700000000000)
static const struct breaker_rule by_time = {.window_ms = 30000};
static const struct breaker_rule by_calls = {.window_ms = 30000, .window_calls = 100};

enum { GOOD = BREAKER_CALL_GOOD, FAILED = BREAKER_CALL_FAILED, RUNNING = BREAKER_CALL_RUNNING };

static void add(struct breaker_delta *d, int class, uint64_t reporter, int n)
{
    for (; n > 0; n--)
        breaker_delta_add(
            d, &(struct breaker_call){
                   .class = (enum breaker_class) class, .slow = class == RUNNING, .reporter = reporter, .at_ms = T0});
}

static struct breaker_delta calls(int class, uint64_t reporter, int n)
{
    struct breaker_delta d = {0};
    add(&d, class, reporter, n);
    return d;
}

static struct breaker_totals merge(struct breaker_window *w, const struct breaker_rule *rule, int64_t now_ms,
                                   struct breaker_delta d)
{
    return breaker_window_merge(w, 1, breaker_span_of(rule), now_ms, &d);
}

static void test_by_calls(void **unused)
{
    (void)unused;
    struct breaker_window w = {0};
    struct breaker_totals t = merge(&w, &by_calls, T0, calls(FAILED, 1, 30));
    assert_int_equal(t.calls, 30);
    assert_int_equal(t.failures, 30);
    /* It is calls that push them out, a bucket of ten at a time; the newest bucket may be less than full. */
    t = merge(&w, &by_calls, T0 + 1, calls(GOOD, 1, 70));
    assert_int_equal(t.calls, 100);
    assert_int_equal(t.failures, 30);
    t = merge(&w, &by_calls, T0 + 2, calls(GOOD, 1, 1));
    assert_int_equal(t.calls, 91);
    assert_int_equal(t.failures, 20);
    for (int i = 0; i < 19; i++)
        t = merge(&w, &by_calls, T0 + 3, calls(GOOD, 1, 1));
    assert_int_equal(t.calls, 100);
    assert_int_equal(t.failures, 10);
    t = merge(&w, &by_calls, T0 + 4, calls(GOOD, 1, 10));
    assert_int_equal(t.failures, 0);
    assert_int_equal(t.first_failure_ms, T0); /* told once more; the next that comes knows better */
    t = merge(&w, &by_calls, T0 + 5, calls(GOOD, 1, 1));
    assert_int_equal(t.first_failure_ms, 0);
}

static void test_more_than_a_bucket(void **unused)
{
    (void)unused;
    struct breaker_window w = {0};
    /* More than the whole window at once: what is left of it is a hundred calls with the same shares. */
    struct breaker_delta d = calls(FAILED, 1, 500);
    add(&d, RUNNING, 2, 250);
    add(&d, GOOD, 1, 250);
    struct breaker_totals t = merge(&w, &by_calls, T0, d);
    assert_int_equal(t.calls, 100);
    assert_int_equal(t.failures, 50);
    assert_int_equal(t.slow, 25);
    /* And each of its buckets has its share. */
    for (int i = 0; i < BREAKER_BUCKETS; i++) {
        assert_int_equal(w.at[i].calls, 10);
        assert_in_range(w.at[i].failures, 4, 6);
        assert_in_range(w.at[i].slow, 2, 3);
    }
    t = merge(&w, &by_calls, T0, calls(GOOD, 1, 25)); /* half a bucket is left open */
    assert_int_equal(t.calls, 95);
    t = merge(&w, &by_calls, T0, calls(FAILED, 1, 15));
    assert_int_equal(t.calls, 100);
}

static void test_old_calls(void **unused)
{
    (void)unused;
    struct breaker_window w = {0};
    merge(&w, &by_calls, T0, calls(FAILED, 1, 5));
    /* Few calls: a bucket ends after one `window` all the same. So none is older than ten of them. */
    struct breaker_totals t = {0};
    for (int i = 1; i <= 9; i++) {
        t = merge(&w, &by_calls, T0 + i * 30000, calls(GOOD, 1, 1));
        assert_int_equal(t.failures, 5);
        assert_int_equal(t.calls, 5 + i);
    }
    t = merge(&w, &by_calls, T0 + 10 * 30000, calls(GOOD, 1, 1));
    assert_int_equal(t.failures, 0);
    assert_int_equal(t.calls, 10);
    t = merge(&w, &by_calls, T0 + 100 * 30000, calls(GOOD, 1, 1));
    assert_int_equal(t.calls, 1);
    /* By time it is ten buckets of three seconds. */
    memset(&w, 0, sizeof w);
    merge(&w, &by_time, T0, calls(FAILED, 1, 5));
    assert_int_equal(merge(&w, &by_time, T0 + 26999, calls(GOOD, 1, 1)).failures, 5);
    assert_int_equal(merge(&w, &by_time, T0 + 30001, calls(GOOD, 1, 1)).failures, 0);
    /* Other settings, another window. */
    assert_int_equal(merge(&w, &by_calls, T0 + 30002, calls(GOOD, 1, 1)).calls, 1);
}

static uint8_t run_of(const struct breaker_window *w, uint64_t reporter)
{
    for (uint32_t i = 0; i < w->n_reporters; i++)
        if (w->seen[i].vote.low == reporter)
            return w->seen[i].vote.run;
    fail_msg("reporter is not known");
    return 0;
}

static void test_runs(void **unused)
{
    (void)unused;
    struct breaker_window w = {0};
    /* Mixed in one delta, and over several: each has its own run. */
    struct breaker_delta d = calls(FAILED, 1, 2);
    add(&d, GOOD, 2, 900);
    add(&d, FAILED, 1, 1);
    struct breaker_totals t = merge(&w, &by_time, T0, d);
    assert_int_equal(t.consecutive, 1); /* over all of them */
    assert_int_equal(run_of(&w, 1), 3);
    assert_int_equal(run_of(&w, 2), 0);
    assert_int_equal(t.reporters, 2);
    assert_int_equal(t.failing, 1);
    merge(&w, &by_time, T0, calls(FAILED, 1, 4));
    assert_int_equal(run_of(&w, 1), 7);
    merge(&w, &by_time, T0, calls(RUNNING, 1, 4)); /* slow, but no failure, and no success */
    assert_int_equal(run_of(&w, 1), 7);
    d = calls(GOOD, 1, 1);
    add(&d, FAILED, 1, 2);
    merge(&w, &by_time, T0, d);
    assert_int_equal(run_of(&w, 1), 2);
    merge(&w, &by_time, T0, calls(FAILED, 1, 1000));
    assert_int_equal(run_of(&w, 1), 255);
    t = merge(&w, &by_time, T0, calls(RUNNING, 2, 1)); /* its last call hangs */
    assert_int_equal(t.failing, 2);
    /* Joined first is the same as merged one after the other. */
    struct breaker_delta a = calls(FAILED, 3, 4), b = calls(GOOD, 3, 1), c = calls(FAILED, 3, 6);
    breaker_delta_join(&b, &c);
    breaker_delta_join(&a, &b);
    merge(&w, &by_time, T0, a);
    assert_int_equal(run_of(&w, 3), 6);
    /* Not heard for a window: not asked. */
    t = merge(&w, &by_time, T0 + 31000, calls(GOOD, 9, 1));
    assert_int_equal(t.reporters, 1);
}

static void test_late(void **unused)
{
    (void)unused;
    /* Another replica has seen four failures in a row; a success that came before them waited here. */
    struct breaker_window w = {0};
    merge(&w, &by_time, T0, calls(FAILED, 1, 4));
    struct breaker_delta d = calls(GOOD, 1, 3);
    add(&d, GOOD, 2, 1);
    breaker_delta_late(&d);
    struct breaker_totals t = merge(&w, &by_time, T0, d);
    assert_int_equal(t.calls, 8);
    assert_int_equal(t.passed, 4);
    assert_int_equal(t.consecutive, 4);
    assert_int_equal(t.reporters, 2);
    assert_int_equal(t.failing, 1);
    assert_int_equal(run_of(&w, 1), 4);
    /* With a failure that ended the waiting: it goes on with the run. */
    d = calls(GOOD, 1, 3);
    add(&d, FAILED, 1, 1);
    breaker_delta_late(&d);
    t = merge(&w, &by_time, T0, d);
    assert_int_equal(t.consecutive, 5);
    assert_int_equal(run_of(&w, 1), 5);
    /* What comes after a failure is not late. */
    d = calls(GOOD, 1, 3);
    add(&d, FAILED, 1, 1);
    add(&d, GOOD, 1, 1);
    breaker_delta_late(&d);
    t = merge(&w, &by_time, T0, d);
    assert_int_equal(t.consecutive, 0);
    assert_int_equal(run_of(&w, 1), 0);
    assert_int_equal(t.failing, 0);
    /* Nor what came before it, once it is joined with something that is not. */
    d = calls(GOOD, 1, 3);
    breaker_delta_late(&d);
    struct breaker_delta more = calls(FAILED, 1, 2);
    breaker_delta_join(&d, &more);
    assert_true(d.late);
    assert_int_equal(d.lead, 2);
    more = calls(GOOD, 1, 1);
    breaker_delta_join(&d, &more);
    assert_false(d.late);
    merge(&w, &by_time, T0, calls(FAILED, 1, 1));
    assert_int_equal(merge(&w, &by_time, T0, d).consecutive, 0);
}

static void test_flood_of_one(void **unused)
{
    (void)unused;
    /* In a window of calls, too, one that floods pushes out calls, but not voters. */
    struct breaker_window w = {0};
    merge(&w, &by_calls, T0, calls(GOOD, 1, 3));
    merge(&w, &by_calls, T0, calls(GOOD, 2, 3));
    struct breaker_totals t = merge(&w, &by_calls, T0 + 10, calls(FAILED, 3, 100000));
    assert_in_range(t.failures, 90, 100);
    assert_int_equal(t.reporters, 3);
    assert_int_equal(t.failing, 1);
}

static void test_full(void **unused)
{
    (void)unused;
    struct breaker_window w = {0};
    struct breaker_delta d = calls(FAILED, 1, 1);
    d.calls = d.failures = d.slow = UINT32_MAX;
    for (int i = 0; i < 3; i++) {
        struct breaker_totals t = merge(&w, &by_time, T0, d);
        assert_int_equal(t.calls, BREAKER_CALLS_MAX);
        assert_int_equal(t.failures, BREAKER_CALLS_MAX);
    }
    assert_int_equal(merge(&w, &by_time, T0 + 31000, calls(GOOD, 1, 1)).calls, 1);
    struct breaker_rule most = {.window_ms = 1000, .window_calls = 1000000};
    assert_int_equal(merge(&w, &most, T0, d).calls, 1000000);
}

static void test_as_a_delta(void **unused)
{
    (void)unused;
    /* What was gathered while the store was away, merged when it is back. */
    struct breaker_window away = {0}, w = {0};
    merge(&w, &by_time, T0, calls(FAILED, 1, 2));
    merge(&away, &by_time, T0, calls(FAILED, 1, 2));
    merge(&away, &by_time, T0, calls(FAILED, 2, 5));
    struct breaker_totals t = merge(&w, &by_time, T0 + 10, breaker_window_delta(&away));
    assert_int_equal(t.calls, 9);
    assert_int_equal(t.consecutive, 9);
    assert_int_equal(run_of(&w, 1), 4);
    merge(&away, &by_time, T0, calls(GOOD, 1, 1));
    merge(&w, &by_time, T0 + 10, breaker_window_delta(&away));
    assert_int_equal(run_of(&w, 1), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_by_calls),  cmocka_unit_test(test_more_than_a_bucket),
        cmocka_unit_test(test_old_calls), cmocka_unit_test(test_runs),
        cmocka_unit_test(test_late),      cmocka_unit_test(test_flood_of_one),
        cmocka_unit_test(test_full),      cmocka_unit_test(test_as_a_delta),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
