/* test_continuity_availability.c - time in conditions, by month, to the millisecond: borders of months and leap days against the C library's calendar. */
#include "continuity/availability.h"
#include "continuity/incident.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <time.h>

#include <cmocka.h>

#define DAY INT64_C(86400000)
#define JAN INT64_C(1767225600000) /* 2026-01-01 */

static void months_are_those_of_the_calendar(void **state)
{
    (void)state;
    for (int64_t day = 0; day < 365 * 400; day += 1 + (day > 20000) * 6) {
        for (int edge = 0; edge < 2; edge++) {
            int64_t ms = day * DAY + (edge ? DAY - 1 : 0);
            time_t s = (time_t)(ms / 1000);
            struct tm tm;
            gmtime_r(&s, &tm);
            uint32_t month = (uint32_t)((tm.tm_year + 1900) * 100 + tm.tm_mon + 1);
            assert_int_equal(availability_month_of(ms), month);
            assert_true(availability_month_start(month) <= ms && availability_month_start(month + 1) > ms);
        }
    }
    assert_int_equal(availability_month_start(202601), JAN);
    assert_int_equal(availability_month_start(202513), JAN);
    assert_int_equal(availability_month_start(202402) + 29 * DAY, availability_month_start(202403));
    assert_int_equal(availability_month_of(-1), 197001);
    assert_int_equal(availability_month_of(INT64_MAX), 999912);
}

static void an_interval_is_split_at_the_border(void **state)
{
    (void)state;
    struct availability a = {0};
    availability_settle(&a, JAN); /* not begun: nothing */
    assert_int_equal(a.n, 0);
    availability_begin(&a, 0, JAN - 1000);
    availability_change(&a, CONDITION_FULL, JAN - 1);
    availability_settle(&a, JAN + 1);
    const struct availability_month *dec = availability_of(&a, 202512), *jan = availability_of(&a, 202601);
    assert_true(dec && dec->known_ms == 1000 && dec->full_ms == 1);
    assert_true(jan && jan->known_ms == 1 && jan->full_ms == 1);
    assert_null(availability_of(&a, 202602));
    assert_int_equal(a.since_ms, JAN - 1);
}

static void the_worst_condition_counts_once(void **state)
{
    (void)state;
    struct availability a = {0};
    availability_begin(&a, CONDITION_LLM, JAN);
    availability_change(&a, CONDITION_LLM | CONDITION_DEGRADED, JAN + 10);
    availability_change(&a, CONDITION_LLM | CONDITION_DEGRADED | CONDITION_FULL, JAN + 30);
    availability_change(&a, CONDITION_DEGRADED, JAN + 70);
    availability_change(&a, 0, JAN + 150);
    availability_settle(&a, JAN + 1000);
    const struct availability_month *m = availability_of(&a, 202601);
    assert_true(m->known_ms == 1000 && m->llm_ms == 10 && m->degraded_ms == 20 + 80 && m->full_ms == 40);
    assert_int_equal(availability_ppm(m, false), 960000);
    assert_int_equal(availability_ppm(m, true), 850000);
}

static void what_comes_late_counts_from_where_it_is_settled(void **state)
{
    (void)state;
    struct availability a = {0};
    availability_begin(&a, 0, JAN);
    availability_change(&a, CONDITION_FULL, JAN + 500); /* late by whatever: nothing was settled since */
    availability_settle(&a, JAN + 1000);
    availability_settle(&a, JAN + 900); /* back: nothing */
    availability_change(&a, 0, JAN + 700);
    assert_true(a.settled_ms == JAN + 1000 && a.since_ms == JAN + 1000);
    availability_settle(&a, JAN + 1200);
    const struct availability_month *m = availability_of(&a, 202601);
    assert_true(m->known_ms == 1200 && m->full_ms == 500);
    /* The same again settles nothing: an earlier change may still come. */
    availability_change(&a, 0, JAN + 1500);
    assert_int_equal(a.settled_ms, JAN + 1200);
    /* Never begun: it begins with that. */
    struct availability b = {0};
    availability_change(&b, CONDITION_LLM, JAN);
    assert_true(b.known_ms == JAN && b.condition == CONDITION_LLM);
}

static void fourteen_months_are_kept(void **state)
{
    (void)state;
    struct availability a = {0};
    availability_begin(&a, CONDITION_LLM, JAN);
    availability_settle(&a, availability_month_start(202901));
    assert_int_equal(a.n, AVAILABILITY_MONTHS);
    assert_true(a.months[0].month == 202711 && a.months[13].month == 202812);
    for (size_t i = 0; i < a.n; i++)
        assert_true(a.months[i].known_ms == availability_month_start(a.months[i].month + 1) -
                                                availability_month_start(a.months[i].month) &&
                    a.months[i].llm_ms == a.months[i].known_ms);
    availability_incident(&a, JAN); /* older than all: nothing */
    assert_int_equal(a.months[0].month, 202711);
    /* An incident of a month that time has not come to yet: in its place. */
    availability_incident(&a, availability_month_start(202903));
    availability_settle(&a, availability_month_start(202903) + 1);
    assert_true(a.n == AVAILABILITY_MONTHS && a.months[13].incidents == 1 && a.months[13].known_ms == 1 &&
                a.months[12].month == 202902);
    assert_true(a.months[12].known_ms == 28 * DAY);
}

static void sums_over_agents(void **state)
{
    (void)state;
    struct availability_month sum = {.month = 202601},
                              m = {.known_ms = 31 * DAY, .full_ms = 1, .degraded_ms = 2, .llm_ms = 3, .incidents = 4};
    assert_int_equal(availability_ppm(&sum, true), 0); /* nothing is known */
    for (int i = 0; i < 20000; i++)
        availability_add(&sum, &m);
    assert_true(sum.known_ms == 20000 * 31 * DAY && sum.full_ms == 20000 && sum.incidents == 80000);
    assert_int_equal(availability_ppm(&sum, false), 999999); /* rounded down: 100 % is all of it */
    sum.full_ms = 0;
    assert_int_equal(availability_ppm(&sum, false), 1000000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(months_are_those_of_the_calendar),
        cmocka_unit_test(an_interval_is_split_at_the_border),
        cmocka_unit_test(the_worst_condition_counts_once),
        cmocka_unit_test(what_comes_late_counts_from_where_it_is_settled),
        cmocka_unit_test(fourteen_months_are_kept),
        cmocka_unit_test(sums_over_agents),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
