/* test_health_silence.c - when the alert service counts as silent, and who says so. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka wants those before it. */
#include "health/health_silence.h"
#include <cmocka.h>
#include <stdlib.h>

#define EVERY    1000
#define NOW_UNIX INT64_C(1700000000000)

static enum health_silence_news tick(struct health_silence *x, int64_t now)
{
    return health_silence_tick(x, true, true, EVERY, now);
}

static void hear(struct health_silence *x, int64_t at, bool ok, int64_t now)
{
    health_silence_heard(x, NOW_UNIX + at, EVERY, ok, now, NOW_UNIX + now);
}

static void three_missing(void **state)
{
    (void)state;
    struct health_silence x = {0};
    assert_int_equal(tick(&x, 10000), HEALTH_SILENCE_NONE);
    hear(&x, 10500, true, 10500);
    assert_int_equal(tick(&x, 13499), HEALTH_SILENCE_NONE);
    assert_int_equal(tick(&x, 13500), HEALTH_SILENCE_RAISE);
    assert_int_equal(tick(&x, 14500), HEALTH_SILENCE_NONE); /* once */
    hear(&x, 10500, true, 15000);                           /* told again from the stream */
    assert_int_equal(tick(&x, 15000), HEALTH_SILENCE_NONE);
    hear(&x, 15100, false, 15100); /* a test that failed */
    assert_int_equal(tick(&x, 15100), HEALTH_SILENCE_NONE);
    hear(&x, 15200, true, 15200);
    assert_int_equal(tick(&x, 15200), HEALTH_SILENCE_RESOLVE);
    assert_int_equal(tick(&x, 15300), HEALTH_SILENCE_NONE);
    /* Slower pulses than our settings say, perhaps of newer ones. */
    health_silence_heard(&x, NOW_UNIX + 16000, 10 * EVERY, true, 16000, NOW_UNIX + 16000);
    assert_int_equal(tick(&x, 45999), HEALTH_SILENCE_NONE);
    assert_int_equal(tick(&x, 46000), HEALTH_SILENCE_RAISE);
}

static void from_the_start(void **state)
{
    (void)state;
    /* Never heard; and one pulse of long ago: both have three pulses' time from when we listen. */
    for (int old = 0; old < 2; old++) {
        struct health_silence x = {0};
        assert_int_equal(tick(&x, 500), HEALTH_SILENCE_NONE);
        if (old)
            health_silence_heard(&x, NOW_UNIX - 3600000, EVERY, true, 600, NOW_UNIX);
        assert_int_equal(tick(&x, 3499), HEALTH_SILENCE_NONE);
        assert_int_equal(tick(&x, 3500), HEALTH_SILENCE_RAISE);
        /* Its clock is an hour behind ours: the next pulse ends it all the same. */
        health_silence_heard(&x, NOW_UNIX - 3599000, EVERY, true, 4000, NOW_UNIX + 4000);
        assert_int_equal(tick(&x, 4000), old ? HEALTH_SILENCE_RESOLVE : HEALTH_SILENCE_NONE);
        health_silence_heard(&x, NOW_UNIX - 3598000, EVERY, true, 5000, NOW_UNIX + 5000);
        assert_int_equal(tick(&x, 5000), old ? HEALTH_SILENCE_NONE : HEALTH_SILENCE_RESOLVE);
    }
}

static void while_we_cannot_hear(void **state)
{
    (void)state;
    struct health_silence x = {0};
    tick(&x, 1000);
    for (int64_t now = 2000; now < 100000; now += 1000)
        assert_int_equal(health_silence_tick(&x, false, true, EVERY, now), HEALTH_SILENCE_NONE);
    assert_int_equal(tick(&x, 101000), HEALTH_SILENCE_NONE); /* a full grace */
    assert_int_equal(tick(&x, 101999), HEALTH_SILENCE_NONE);
    assert_int_equal(tick(&x, 102000),
                     HEALTH_SILENCE_RAISE); /* three pulses' time after 99000, when we were last deaf */
    /* Silent, and then deaf: that is no pulse. */
    assert_int_equal(health_silence_tick(&x, false, true, EVERY, 110000), HEALTH_SILENCE_NONE);
    assert_int_equal(tick(&x, 111000), HEALTH_SILENCE_NONE);
    assert_true(x.silent);
}

static void who_says_it(void **state)
{
    (void)state;
    struct health_silence a = {0}, b = {0};
    tick(&a, 1000);
    health_silence_tick(&b, true, false, EVERY, 1000);
    assert_int_equal(health_silence_tick(&b, true, false, EVERY, 4000), HEALTH_SILENCE_NONE); /* it is for a to say */
    /* a has died with the alert service. */
    assert_int_equal(health_silence_tick(&b, true, true, EVERY, 5000), HEALTH_SILENCE_RAISE);
    hear(&b, 6000, true, 6000);
    assert_int_equal(health_silence_tick(&b, true, false, EVERY, 6000),
                     HEALTH_SILENCE_RESOLVE); /* what it has said it ends */
    assert_int_equal(health_silence_tick(&b, true, true, EVERY, 6001), HEALTH_SILENCE_NONE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(three_missing),
        cmocka_unit_test(from_the_start),
        cmocka_unit_test(while_we_cannot_hear),
        cmocka_unit_test(who_says_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
