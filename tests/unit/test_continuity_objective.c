/* test_continuity_objective.c - verdicts: met, breached, unknown, expired, running; and whose targets are which. */
#include "continuity/objective.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#define V(x)   REDOUBT__V1__OBJECTIVE_VERDICT__OBJECTIVE_VERDICT_##x
#define NOW    INT64_C(1767225600000)
#define MINUTE INT64_C(60000)
#define HOUR   (60 * MINUTE)
#define DAY    (24 * HOUR)

static void recovery_times_by_what_was_shown(void **state)
{
    (void)state;
    struct objective_history h = {0};
    struct objective_facts f = {
        .objective = SET_RTO_FULL, .target_ms = 2 * HOUR, .expire_ms = 30 * DAY, .history = &h};
    struct objective_view v;
    objective_judge(&f, NOW, &v);
    assert_true(v.verdict == V(UNKNOWN) && !v.has_estimate && !v.has_demonstrated && *v.why);
    f.history = NULL;
    objective_judge(&f, NOW, &v);
    assert_int_equal(v.verdict, V(UNKNOWN));
    f.history = &h;

    objective_add(&h, NOW - DAY, HOUR, "drill llm");
    objective_judge(&f, NOW, &v);
    assert_true(v.verdict == V(MET) && v.demonstrated_ms == HOUR && v.demonstrated_at_ms == NOW - DAY &&
                v.estimate_ms == HOUR && !v.expired);
    assert_string_equal(v.demonstrated_by, "drill llm");
    assert_string_equal(v.why, "took 1h, within 2h, by drill llm");

    objective_add(&h, NOW - HOUR, 2 * HOUR + 1, "incident x");
    objective_judge(&f, NOW, &v);
    assert_true(v.verdict == V(BREACHED) && v.estimate_ms == 2 * HOUR + 1);
    objective_add(&h, NOW - HOUR, 2 * HOUR, "incident y"); /* exactly: within */
    objective_judge(&f, NOW, &v);
    assert_int_equal(v.verdict, V(MET));
    assert_int_equal(v.estimate_ms, 2 * HOUR + 1); /* the worst of them is to be expected */

    objective_judge(&f, NOW - HOUR + 30 * DAY, &v);
    assert_true(v.verdict == V(MET) && !v.expired);
    objective_judge(&f, NOW - HOUR + 30 * DAY + 1, &v);
    assert_true(v.verdict == V(UNKNOWN) && v.expired && v.has_demonstrated);
}

static void five_are_kept(void **state)
{
    (void)state;
    struct objective_history h = {0};
    char by[200];
    for (int i = 0; i < 9; i++) {
        snprintf(by, sizeof by, "%d%0150d", i, 0);
        objective_add(&h, i, i == 8 ? -1 : i, by);
    }
    assert_true(h.n == OBJECTIVE_SHOWN && h.shown[0].at_ms == 4 && h.shown[4].at_ms == 8 && h.shown[4].took_ms == 0);
    assert_int_equal(strlen(h.shown[0].by), 128);
    struct objective_facts f = {.objective = SET_MAD_FULL, .target_ms = 10, .expire_ms = 100, .history = &h};
    struct objective_view v;
    objective_judge(&f, 10, &v);
    assert_true(v.estimate_ms == 7 && v.verdict == V(MET));
}

static void a_clock_that_runs_beyond_its_target_is_a_breach(void **state)
{
    (void)state;
    struct objective_history h = {0};
    struct objective_view v;
    objective_add(&h, NOW, HOUR, "drill llm");
    struct objective_facts f = {.objective = SET_RTO_FULL,
                                .target_ms = 2 * HOUR,
                                .expire_ms = 30 * DAY,
                                .history = &h,
                                .running_ms = 2 * HOUR - 1,
                                .running_incident = "i7"};
    objective_judge(&f, NOW, &v);
    assert_int_equal(v.verdict, V(MET));
    f.running_ms = 2 * HOUR; /* as the alert at 100 % */
    objective_judge(&f, NOW, &v);
    assert_true(v.verdict == V(BREACHED) && v.has_demonstrated);
    assert_string_equal(v.why, "runs for 2h, allowed is 2h, in incident i7");
}

static void recovery_points_are_measured(void **state)
{
    (void)state;
    for (enum set_objective o = SET_RPO_LEARNING; o <= SET_RPO_CONFIG; o++) {
        struct objective_view v;
        struct objective_facts f = {.objective = o, .target_ms = HOUR, .expire_ms = 30 * DAY};
        objective_judge(&f, NOW, &v);
        assert_true(v.verdict == V(UNKNOWN) && !v.has_estimate && *v.why);
        f.measured = true;
        f.point_by = "learning-mcp";
        f.expected_ms = 31 * MINUTE;
        objective_judge(&f, NOW, &v); /* a source, but nothing that is proven */
        assert_true(v.verdict == V(UNKNOWN) && v.has_estimate && v.estimate_ms == 31 * MINUTE && !v.has_demonstrated);
        f.point_ms = NOW - HOUR;
        objective_judge(&f, NOW, &v);
        assert_true(v.verdict == V(MET) && v.demonstrated_ms == HOUR && v.demonstrated_at_ms == NOW - HOUR);
        f.point_ms--;
        objective_judge(&f, NOW, &v);
        assert_int_equal(v.verdict, V(BREACHED));
        f.point_ms = NOW + 5; /* a clock elsewhere */
        objective_judge(&f, NOW, &v);
        assert_true(v.verdict == V(MET) && v.demonstrated_ms == 0);
    }
}

static void targets_are_those_of_the_first_entry_that_fits(void **state)
{
    (void)state;
    char *one[] = {(char *)(uintptr_t) "mcp-*", (char *)(uintptr_t) "soc"}, *all[] = {(char *)(uintptr_t) "*"};
    struct set_own_objectives own[] = {
        {.agents = {one, 2}, .ms = {[SET_RTO_FULL] = HOUR}},
        {.agents = {all, 1}, .ms = {[SET_RTO_FULL] = 3 * HOUR, [SET_MAD_FULL] = 9 * HOUR}}};
    struct set_continuity set = {.objectives = {.ms = {1, 2, 3, 4, 5, 6, 7, 8, 9}}, .own = {own, 2}};
    int64_t t[SET_OBJECTIVES];
    objective_targets(&set, NULL, t);
    for (int i = 0; i < SET_OBJECTIVES; i++)
        assert_int_equal(t[i], i + 1);
    objective_targets(&set, "mcp-7", t);
    assert_true(t[SET_RTO_FULL] == HOUR && t[SET_MAD_FULL] == 1 && t[SET_RPO_CONFIG] == 9);
    objective_targets(&set, "soc", t);
    assert_int_equal(t[SET_RTO_FULL], HOUR);
    objective_targets(&set, "mcp", t);
    assert_true(t[SET_RTO_FULL] == 3 * HOUR && t[SET_MAD_FULL] == 9 * HOUR);
    set.own.n = 1;
    assert_int_equal(objective_own(&set, "mcp"), -1);
}

static void durations_are_said_in_two_units(void **state)
{
    (void)state;
    const struct {
        int64_t ms;
        const char *text;
    } rows[] = {{0, "0ms"},           {999, "999ms"}, {1000, "1s"},
                {61500, "1m 1s"},     {HOUR, "1h"},   {2 * HOUR + 5 * MINUTE + 7000, "2h 5m"},
                {25 * HOUR, "1d 1h"}, {45999, "45s"}, {-MINUTE, "-1m"}};
    char buf[OBJECTIVE_TEXT];
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        assert_string_equal(objective_text(rows[i].ms, buf), rows[i].text);
    assert_true(strlen(objective_text(INT64_MIN, buf)) < OBJECTIVE_TEXT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(recovery_times_by_what_was_shown),
        cmocka_unit_test(five_are_kept),
        cmocka_unit_test(a_clock_that_runs_beyond_its_target_is_a_breach),
        cmocka_unit_test(recovery_points_are_measured),
        cmocka_unit_test(targets_are_those_of_the_first_entry_that_fits),
        cmocka_unit_test(durations_are_said_in_two_units),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
