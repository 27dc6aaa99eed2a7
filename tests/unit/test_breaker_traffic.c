/* test_breaker_traffic.c - summaries of real calls: what is counted, and when it is said. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "../fuzz/random.h"
#include "breaker/traffic.h"

#define START INT64_C(1000000)

static void call(struct breaker_traffic *t, enum breaker_class class, bool slow, int64_t now_ms)
{
    struct breaker_call c = {.class = class, .slow = slow};
    breaker_traffic_add(t, &c, now_ms);
}

static void test_counts(void **unused)
{
    (void)unused;
    struct breaker_traffic t = {0};
    call(&t, BREAKER_CALL_IGNORED, false, START);
    assert_false(breaker_traffic_due(&t, START));
    call(&t, BREAKER_CALL_GOOD, false, START + 100);
    call(&t, BREAKER_CALL_GOOD, true, START + 200);
    call(&t, BREAKER_CALL_FAILED, false, START + 300);
    call(&t, BREAKER_CALL_RUNNING, true, START + 400);
    call(&t, BREAKER_CALL_IGNORED, false, START + 450);
    struct breaker_traffic_summary s = breaker_traffic_take(&t, START + 500);
    assert_int_equal(s.span_ms, 400);
    assert_int_equal(s.calls, 4);
    assert_int_equal(s.failures, 1);
    assert_int_equal(s.slow, 2);
    call(&t, BREAKER_CALL_GOOD, false, START + 600);
    s = breaker_traffic_take(&t, START + 100000000);
    assert_int_equal(s.span_ms, 3600000);
    assert_int_equal(s.calls, 1);
    assert_int_equal(s.failures, 0);
}

static void test_when(void **unused)
{
    (void)unused;
    struct breaker_traffic t = {0};
    int64_t now = START;
    assert_false(breaker_traffic_due(&t, now)); /* nothing to say */
    call(&t, BREAKER_CALL_GOOD, false, now);
    assert_true(breaker_traffic_due(&t, now)); /* the first */
    breaker_traffic_take(&t, now);
    assert_false(breaker_traffic_due(&t, now + 60000)); /* silence says nothing */
    call(&t, BREAKER_CALL_GOOD, false, now + 1);
    assert_false(breaker_traffic_due(&t, now + BREAKER_TRAFFIC_EVERY_MS - 1));
    assert_true(breaker_traffic_due(&t, now + BREAKER_TRAFFIC_EVERY_MS));
    call(&t, BREAKER_CALL_FAILED, false, now + 2);
    assert_true(breaker_traffic_due(&t, now + 2)); /* at once: it was well */
    breaker_traffic_take(&t, now + 2);
    call(&t, BREAKER_CALL_FAILED, false, now + 3);
    assert_false(breaker_traffic_due(&t, now + 3)); /* they know */
    assert_true(breaker_traffic_due(&t, now + 2 + BREAKER_TRAFFIC_EVERY_MS));
    breaker_traffic_take(&t, now + 6000);
    call(&t, BREAKER_CALL_GOOD, false, now + 6001);
    assert_false(breaker_traffic_due(&t, now + 6001)); /* good news can wait */
    breaker_traffic_take(&t, now + 12000);
    call(&t, BREAKER_CALL_FAILED, false, now + 12001);
    assert_true(breaker_traffic_due(&t, now + 12001));
}

/* Whatever comes: every call is said once, never more than two summaries in any stretch of 5 s. */
static void test_stories(void **unused)
{
    (void)unused;
    for (uint64_t seed = 1; seed <= 200; seed++) {
        struct fuzz_random r = {seed};
        struct breaker_traffic t = {0};
        uint64_t in = 0, out = 0, bad_in = 0, bad_out = 0;
        int64_t now = START, said[2] = {0};
        bool told_bad = false;
        for (int i = 0; i < 2000; i++) {
            now += (int64_t)fuzz_below(&r, fuzz_below(&r, 10) ? 20 : 4000);
            bool bad = fuzz_below(&r, 20) == 0;
            call(&t, bad ? BREAKER_CALL_FAILED : BREAKER_CALL_GOOD, false, now);
            in++;
            bad_in += bad;
            if (!breaker_traffic_due(&t, now)) {
                assert_true(!bad || told_bad); /* a failure after good news is never kept back */
                continue;
            }
            struct breaker_traffic_summary s = breaker_traffic_take(&t, now);
            out += s.calls;
            bad_out += s.failures;
            told_bad = s.failures > 0;
            assert_true(said[0] == 0 || now - said[0] >= BREAKER_TRAFFIC_EVERY_MS);
            said[0] = said[1];
            said[1] = now;
        }
        assert_int_equal(in, out + t.calls);
        assert_int_equal(bad_in, bad_out + t.failures);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_counts),
        cmocka_unit_test(test_when),
        cmocka_unit_test(test_stories),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
