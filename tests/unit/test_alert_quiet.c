/* test_alert_quiet.c - quiet hours by the clock on the wall: midnight, days of the week, and nights that are an hour longer or shorter. */
#include "alert/alert.h"
#include "alert/alert_quiet.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

enum { SUN, MON, TUE, WED, THU, FRI, SAT };

static struct set_quiet hours(const char *from, const char *to, char **days, size_t n)
{
    return (struct set_quiet){
        .name = (char *)"night", .from = (char *)from, .to = (char *)to, .days = {days, n}, .below = 3};
}

static int at(const struct set_quiet *q, int wday, int hour, int minute)
{
    return alert_quiet_day(q, (struct alert_dial){wday, hour * 60 + minute});
}

static void within_one_day(void **state)
{
    (void)state;
    struct set_quiet q = hours("12:00", "13:30", NULL, 0);
    for (int d = SUN; d <= SAT; d++) {
        assert_int_equal(at(&q, d, 11, 59), ALERT_QUIET_OFF);
        assert_int_equal(at(&q, d, 12, 0), d);
        assert_int_equal(at(&q, d, 13, 29), d);
        assert_int_equal(at(&q, d, 13, 30), ALERT_QUIET_OFF);
        assert_int_equal(at(&q, d, 0, 0), ALERT_QUIET_OFF);
        assert_int_equal(at(&q, d, 23, 59), ALERT_QUIET_OFF);
    }
}

static void over_midnight(void **state)
{
    (void)state;
    struct set_quiet q = hours("22:00", "07:00", NULL, 0);
    for (int d = SUN; d <= SAT; d++) {
        assert_int_equal(at(&q, d, 21, 59), ALERT_QUIET_OFF);
        assert_int_equal(at(&q, d, 22, 0), d);
        assert_int_equal(at(&q, d, 23, 59), d);
        assert_int_equal(at(&q, (d + 1) % 7, 0, 0), d); /* it is the evening's night still */
        assert_int_equal(at(&q, (d + 1) % 7, 6, 59), d);
        assert_int_equal(at(&q, (d + 1) % 7, 7, 0), ALERT_QUIET_OFF);
    }
}

/* Days are those on which the hours begin: Friday's night ends on Saturday, Sunday's begins on Sunday. */
static void days_of_the_week(void **state)
{
    (void)state;
    char *days[] = {(char *)"fri", (char *)"sun"};
    struct set_quiet q = hours("22:00", "07:00", days, 2);
    assert_int_equal(at(&q, FRI, 3, 0), ALERT_QUIET_OFF);
    assert_int_equal(at(&q, FRI, 22, 0), FRI);
    assert_int_equal(at(&q, SAT, 6, 59), FRI);
    assert_int_equal(at(&q, SAT, 22, 0), ALERT_QUIET_OFF);
    assert_int_equal(at(&q, SUN, 3, 0), ALERT_QUIET_OFF);
    assert_int_equal(at(&q, SUN, 23, 0), SUN);
    assert_int_equal(at(&q, MON, 0, 0), SUN); /* over the end of the week */
    assert_int_equal(at(&q, MON, 7, 0), ALERT_QUIET_OFF);
    assert_int_equal(at(&q, MON, 23, 0), ALERT_QUIET_OFF);
    struct set_quiet noon = hours("12:00", "13:00", days, 2);
    assert_int_equal(at(&noon, THU, 12, 30), ALERT_QUIET_OFF);
    assert_int_equal(at(&noon, FRI, 12, 30), FRI);
}

/* From and to alike: whole days. Each is one by itself, so that what waits is told once a day and not never. */
static void whole_days(void **state)
{
    (void)state;
    struct set_quiet q = hours("08:00", "08:00", NULL, 0);
    assert_int_equal(at(&q, WED, 7, 59), TUE);
    assert_int_equal(at(&q, WED, 8, 0), WED);
    char *days[] = {(char *)"sat"};
    struct set_quiet one = hours("00:00", "00:00", days, 1);
    assert_int_equal(at(&one, FRI, 23, 59), ALERT_QUIET_OFF);
    assert_int_equal(at(&one, SAT, 0, 0), SAT);
    assert_int_equal(at(&one, SAT, 23, 59), SAT);
    assert_int_equal(at(&one, SUN, 0, 0), ALERT_QUIET_OFF);
}

/* Every minute of a week, against the plain meaning: a period begins at `from` on a listed day, and lasts until the clock next shows `to`. */
static void every_minute_of_a_week(void **state)
{
    (void)state;
    static const char *const times[] = {"00:00", "00:01", "06:30", "12:00", "23:59"};
    static const char *const names[] = {"sun", "mon", "tue", "wed", "thu", "fri", "sat"};
    for (size_t f = 0; f < 5; f++)
        for (size_t t = 0; t < 5; t++)
            for (unsigned set = 0; set < 128; set += 9) {
                char *days[7];
                size_t n = 0;
                for (int d = 0; d < 7; d++)
                    if (set & (1u << d))
                        days[n++] = (char *)names[d];
                struct set_quiet q = hours(times[f], times[t], days, n);
                int from = atoi(times[f]) * 60 + atoi(times[f] + 3), to = atoi(times[t]) * 60 + atoi(times[t] + 3);
                static int plain[7 * 1440];
                for (int i = 0; i < 7 * 1440; i++)
                    plain[i] = ALERT_QUIET_OFF;
                for (int d = 0; d < 7; d++)
                    if (set == 0 || set & (1u << d))
                        for (int i = d * 1440 + from, left = (to - from + 1440 - 1) % 1440 + 1; left > 0; i++, left--)
                            plain[i % (7 * 1440)] = d;
                for (int i = 0; i < 7 * 1440; i++)
                    assert_int_equal(alert_quiet_day(&q, (struct alert_dial){i / 1440, i % 1440}), plain[i]);
            }
}

/* A night of 23 and one of 25 hours, by the zone's own rules: over when the clock says 07:00, and not an hour off. */
static void nights_when_the_clocks_change(void **state)
{
    (void)state;
    setenv("TZ", "CET-1CEST,M3.5.0,M10.5.0/3", 1);
    tzset();
    struct set_quiet q = hours("22:00", "07:00", NULL, 0);
    static const struct {
        time_t begins; /* 22:00 local time, in UTC */
        int hours;
    } nights[] = {
        {1774731600, 8} /* 2026-03-28 */, {1792872000, 10} /* 2026-10-24 */, {1780344000, 9} /* 2026-06-01 */};
    for (size_t i = 0; i < 3; i++) {
        time_t t = nights[i].begins - 1, ends = nights[i].begins + nights[i].hours * 3600;
        struct tm tm;
        assert_int_equal(alert_quiet_day(&q, alert_dial(localtime_r(&t, &tm))), ALERT_QUIET_OFF);
        for (t = nights[i].begins; t < ends; t += 60)
            assert_true(alert_quiet_day(&q, alert_dial(localtime_r(&t, &tm))) >= 0);
        assert_int_equal(alert_quiet_day(&q, alert_dial(localtime_r(&ends, &tm))), ALERT_QUIET_OFF);
    }
    /* 02:30 is there twice: what ended at the first is quiet again in the hour that comes again, and over at the second. */
    struct set_quiet early = hours("01:00", "02:30", NULL, 0);
    time_t first = 1792888200; /* 2026-10-25 00:30 UTC = 02:30 CEST */
    struct tm tm;
    assert_int_equal(alert_quiet_day(&early, alert_dial(localtime_r(&first, &tm))), ALERT_QUIET_OFF);
    time_t again = first + 1800, second = first + 3600;
    assert_int_equal(alert_quiet_day(&early, alert_dial(localtime_r(&again, &tm))), SUN);
    assert_int_equal(alert_quiet_day(&early, alert_dial(localtime_r(&second, &tm))), ALERT_QUIET_OFF);
    /* 02:30 is not there at all: over when it would have been. */
    time_t skipped = 1774746000; /* 2026-03-29 01:00 UTC = 03:00 CEST */
    assert_int_equal(alert_quiet_day(&early, alert_dial(localtime_r(&skipped, &tm))), ALERT_QUIET_OFF);
}

static void severe_ones_do_not_wait(void **state)
{
    (void)state;
    struct set_quiet q = hours("22:00", "07:00", NULL, 0); /* below critical */
    struct alert_dial night = {MON, 23 * 60}, day = {MON, 12 * 60};
    assert_true(alert_quiet_holds(&q, ALERT_INFO, night));
    assert_true(alert_quiet_holds(&q, ALERT_HIGH, night));
    assert_false(alert_quiet_holds(&q, ALERT_CRITICAL, night));
    assert_false(alert_quiet_holds(&q, ALERT_INFO, day));
    q.below = 1; /* warning: info alone waits */
    assert_true(alert_quiet_holds(&q, ALERT_INFO, night));
    assert_false(alert_quiet_holds(&q, ALERT_WARNING, night));
    q.below = 0;
    assert_false(alert_quiet_holds(&q, ALERT_INFO, night));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(within_one_day),          cmocka_unit_test(over_midnight),
        cmocka_unit_test(days_of_the_week),        cmocka_unit_test(whole_days),
        cmocka_unit_test(every_minute_of_a_week),  cmocka_unit_test(nights_when_the_clocks_change),
        cmocka_unit_test(severe_ones_do_not_wait),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
