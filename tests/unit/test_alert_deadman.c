/* test_alert_deadman.c - the dead-man's test: every order of time, receipts and leadership; and a simulation of months. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka wants those before it. */
#include "alert/alert_deadman.h"
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>

#define EVERY 60000

static enum alert_deadman_effect out[ALERT_DEADMAN_EFFECTS_MAX];
static size_t n;

static void tick(struct alert_deadman *d, int64_t now, bool on)
{
    n = alert_deadman_decide(
        d, &(struct alert_deadman_event){.kind = ALERT_DEADMAN_TICK, .on = on, .every_ms = EVERY}, now, out);
}

static void receipt(struct alert_deadman *d, int64_t now, uint64_t run, bool good)
{
    n = alert_deadman_decide(
        d, &(struct alert_deadman_event){.kind = good ? ALERT_DEADMAN_ACCEPTED : ALERT_DEADMAN_REFUSED, .run = run},
        now, out);
}

static void a_test_that_passes(void **state)
{
    (void)state;
    struct alert_deadman d = {0};
    tick(&d, 1000, true);
    assert_int_equal(n, 1);
    assert_int_equal(out[0], ALERT_DEADMAN_TEST);
    assert_int_equal(d.run, 1);
    tick(&d, 2000, true);
    assert_int_equal(n, 0);
    receipt(&d, 3000, 1, true);
    assert_int_equal(n, 1);
    assert_int_equal(out[0], ALERT_DEADMAN_PASSED);
    receipt(&d, 3001, 1, true); /* by a second channel */
    assert_int_equal(n, 0);
    tick(&d, 1000 + EVERY - 1, true);
    assert_int_equal(n, 0);
    assert_int_equal(alert_deadman_due(&d), 1000 + EVERY);
    tick(&d, 1000 + EVERY, true);
    assert_int_equal(n, 1);
    assert_int_equal(d.run, 2);
    receipt(&d, 70000, 1, true); /* of the one before, late: it says nothing of this one */
    assert_int_equal(n, 0);
}

static void tests_that_fail(void **state)
{
    (void)state;
    struct alert_deadman d = {0};
    tick(&d, 0, true);
    tick(&d, EVERY, true); /* its time is over, and the next begins */
    assert_int_equal(n, 3);
    assert_int_equal(out[0], ALERT_DEADMAN_FAILED);
    assert_int_equal(out[1], ALERT_DEADMAN_RAISE);
    assert_int_equal(out[2], ALERT_DEADMAN_TEST);
    receipt(&d, EVERY + 5, 2, false); /* people know */
    assert_int_equal(n, 1);
    assert_int_equal(out[0], ALERT_DEADMAN_FAILED);
    tick(&d, EVERY + 6, true); /* no hurry: the next one has its time */
    assert_int_equal(n, 0);
    tick(&d, 2 * EVERY, true);
    assert_int_equal(n, 1);
    receipt(&d, 2 * EVERY + 1, 3, true);
    assert_int_equal(n, 2);
    assert_int_equal(out[0], ALERT_DEADMAN_PASSED);
    assert_int_equal(out[1], ALERT_DEADMAN_RESOLVE);
}

static void leaders_that_change(void **state)
{
    (void)state;
    struct alert_deadman a = {0}, b = {0};
    tick(&a, 0, true);
    tick(&b, 0, false);
    assert_int_equal(n, 0);
    tick(&a, EVERY, true); /* fails; a says so */
    alert_deadman_decide(&b, &(struct alert_deadman_event){.kind = ALERT_DEADMAN_HEARD, .ok = false}, EVERY, out);
    tick(&a, EVERY + 1000, false);
    receipt(&a, EVERY + 1001, a.run, true); /* a leads no more: it is not its word to say */
    assert_int_equal(n, 0);
    tick(&b, EVERY + 1001, true);
    assert_int_equal(n, 1);
    receipt(&b, EVERY + 1002, b.run, true); /* b resolves what a has raised */
    assert_int_equal(n, 2);
    assert_int_equal(out[1], ALERT_DEADMAN_RESOLVE);
}

/* Each test ends once; alerts alternate; pulses never say anything without a test. */
static void months(void **state)
{
    (void)state;
    for (unsigned seed = 1; seed <= 20; seed++) {
        struct alert_deadman d = {0};
        int64_t now = 0;
        uint64_t open = 0;
        bool raised = false;
        srandom(seed);
        for (int i = 0; i < 50000; i++) {
            now += random() % 5000;
            bool on = random() % 100 != 0;
            uint64_t before = d.run;
            bool tested = open != 0;
            switch (random() % 4) {
            case 0:
                receipt(&d, now, d.run - (uint64_t)(random() % 3 == 0), random() % 5 != 0);
                break;
            default:
                tick(&d, now, on);
                if (!on)
                    open = 0;
                break;
            }
            for (size_t k = 0; k < n; k++) {
                switch (out[k]) {
                case ALERT_DEADMAN_TEST:
                    if (open || d.run != before + 1)
                        fail_msg("seed %u: a second test beside one", seed);
                    open = d.run;
                    break;
                case ALERT_DEADMAN_PASSED:
                case ALERT_DEADMAN_FAILED:
                    if (!tested)
                        fail_msg("seed %u: a pulse without a test", seed);
                    open = 0;
                    break;
                case ALERT_DEADMAN_RAISE:
                    assert_false(raised);
                    raised = true;
                    break;
                case ALERT_DEADMAN_RESOLVE:
                    assert_true(raised);
                    raised = false;
                    break;
                }
            }
            assert_int_equal(d.state == ALERT_DEADMAN_TESTING, open != 0);
            assert_int_equal(d.failing, raised);
            if (d.state == ALERT_DEADMAN_TESTING && alert_deadman_due(&d) > now + EVERY)
                fail_msg("seed %u: a test without an end", seed);
        }
        assert_true(d.run > 100);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_test_that_passes),
        cmocka_unit_test(tests_that_fail),
        cmocka_unit_test(leaders_that_change),
        cmocka_unit_test(months),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
