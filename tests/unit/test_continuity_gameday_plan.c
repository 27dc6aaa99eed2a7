/* test_continuity_gameday_plan.c - when drills are due, whether they may be played, and what they show. */
#include "continuity/gameday_plan.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#define MINUTE INT64_C(60000)
#define HOUR   (60 * MINUTE)
#define DAY    (24 * HOUR)

static int64_t at(int year, int month, int day, int hour, int minute)
{
    struct tm tm = {.tm_year = year - 1900, .tm_mon = month - 1, .tm_mday = day, .tm_hour = hour, .tm_min = minute};
    return (int64_t)timegm(&tm) * 1000;
}

static void set_times_are_kept(void **state)
{
    (void)state;
    /* 2026-11-26 is a Thursday. */
    const int64_t now = at(2026, 11, 26, 12, 0);
    const struct {
        const char *when;
        int64_t every, last, now, next;
    } rows[] = {
        {"Sat 03:00", 7 * DAY, 0, now, at(2026, 11, 28, 3, 0)},
        {"Thu 12:00", 7 * DAY, 0, now, at(2026, 12, 3, 12, 0)}, /* strictly later */
        {"Thu 12:01", 7 * DAY, 0, now, at(2026, 11, 26, 12, 1)},
        {"Wed 23:59", 7 * DAY, 0, now, at(2026, 12, 2, 23, 59)},
        {"03:00", DAY, 0, now, at(2026, 11, 27, 3, 0)},
        {"15:30", DAY, 0, now, at(2026, 11, 26, 15, 30)},
        {"03:00", 7 * DAY, at(2026, 11, 26, 3, 0), now, at(2026, 12, 3, 3, 0)}, /* daily time, weekly drill */
        {"Sat 03:00", 14 * DAY, at(2026, 11, 21, 3, 0), now, at(2026, 12, 5, 3, 0)},
        {"Sat 03:00", 7 * DAY, at(2026, 11, 28, 3, 20), at(2026, 11, 28, 3, 40), at(2026, 12, 5, 3, 0)},
        {"Sat 03:00", 7 * DAY, at(2025, 1, 1, 0, 0), now, at(2026, 11, 28, 3, 0)}, /* long ago */
        {"", 7 * DAY, 0, now, now + 7 * DAY},
        {"", 7 * DAY, now - 2 * DAY, now, now + 5 * DAY},
        {"", 7 * DAY, now - 20 * DAY, now, now + 7 * DAY},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        const struct set_drill d = {.at = (char *)rows[i].when, .every_ms = rows[i].every};
        int64_t next = gameday_next(&d, rows[i].last, rows[i].now);
        if (next != rows[i].next)
            fail_msg("row %zu: %lld, expected %lld", i, (long long)next, (long long)rows[i].next);
    }
}

/* Whatever it was and is: later than now, at the set time, not much rarer than asked for. */
static void any_time_has_a_next_one(void **state)
{
    static const char *const names[] = {"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"};
    (void)state;
    unsigned seed = 20261126;
    for (int i = 0; i < 20000; i++) {
        char when[16];
        bool weekly = rand_r(&seed) % 2;
        int day = rand_r(&seed) % 7, hour = rand_r(&seed) % 24, minute = rand_r(&seed) % 60;
        snprintf(when, sizeof when, "%s%s%02d:%02d", weekly ? names[day] : "", weekly ? " " : "", hour, minute);
        int64_t period = weekly ? 7 * DAY : DAY, every = period * (1 + rand_r(&seed) % 4);
        int64_t now = at(2026, 1, 1, 0, 0) + rand_r(&seed) % 100000 * MINUTE;
        int64_t last = rand_r(&seed) % 3 ? now - rand_r(&seed) % 50000 * MINUTE : 0;
        const struct set_drill d = {.at = when, .every_ms = every};
        int64_t next = gameday_next(&d, last, now);
        time_t s = (time_t)(next / 1000);
        struct tm tm;
        gmtime_r(&s, &tm);
        bool right = next > now && tm.tm_hour == hour && tm.tm_min == minute && tm.tm_sec == 0 &&
                     (!weekly || tm.tm_wday == day) && next <= now + every + period;
        if (!right || (last > 0 && next < last + every - period))
            fail_msg("seed 20261126, round %d: %s every %lld: %lld after %lld", i, when, (long long)every,
                     (long long)next, (long long)now);
    }
}

static void every_case_is_decided(void **state)
{
    (void)state;
    for (unsigned bits = 0; bits < 512; bits++) {
        bool due = bits & 1, set_time = bits & 2, ordered = bits & 4, forced = bits & 8, incident = bits & 16,
             busy = bits & 32, gone = bits & 64, program = bits & 128, late = bits & 256;
        const struct gameday_facts f = {.now_ms = 10 * HOUR,
                                        .next_ms = !due   ? 11 * HOUR
                                                   : late ? 8 * HOUR
                                                          : 10 * HOUR,
                                        .at = set_time,
                                        .ordered = ordered,
                                        .forced = forced,
                                        .incident = incident,
                                        .busy = busy,
                                        .agent_gone = gone,
                                        .program = program};
        enum gameday_verdict v = gameday_decide(&f);
        if (v == GAMEDAY_PLAY) {
            assert_true((due || ordered) && !gone && program && !busy && (!incident || forced));
            assert_true(ordered || !set_time || !late);
        }
        if (!due && !ordered)
            assert_int_equal(v, GAMEDAY_WAIT);
        else if (gone)
            assert_int_equal(v, GAMEDAY_GONE);
        else if (!program)
            assert_int_equal(v, GAMEDAY_NO_PROGRAM);
        else if (incident && !forced)
            assert_int_equal(v, GAMEDAY_INCIDENT);
        else if (!ordered && set_time && late)
            assert_int_equal(v, GAMEDAY_MISSED);
        else
            assert_int_equal(v, busy ? GAMEDAY_WAIT : GAMEDAY_PLAY);
    }
}

static struct gameday_result read_of(const char *story, const char *json)
{
    struct gameday_result r;
    gameday_result(story, json, strlen(json), 60000, &r);
    return r;
}

static void what_a_drill_shows(void **state)
{
    (void)state;
    struct gameday_result r = read_of(
        "llm-outage",
        "{\"drill\": \"llm-outage\", \"live\": false, \"ok\": true, \"why\": \"\", \"total_ms\": 40000, \"steps\": ["
        "{\"key\": \"primary_dies\", \"at_ms\": 5000, \"marks\": []},"
        "{\"key\": \"llms_return\", \"at_ms\": 20000, \"marks\": [{\"key\": \"ack\", \"after_ms\": 3000}]}]}");
    assert_true(r.valid && r.passed);
    for (int i = 0; i < SET_OBJECTIVES; i++)
        assert_int_equal(r.shown[i], i == SET_MAD_LLM_FALLBACK);
    assert_int_equal(r.ms[SET_MAD_LLM_FALLBACK], 18000 + 60000); /* and the time in which it must stay well */

    r = read_of("agent-loss",
                "{\"drill\": \"agent-loss\", \"live\": true, \"ok\": true, \"why\": \"\", \"total_ms\": "
                "31000, \"steps\": []}");
    assert_true(r.passed && r.shown[SET_MAD_FULL] && r.shown[SET_RTO_CRITICAL] && r.shown[SET_RTO_FULL]);
    assert_int_equal(r.ms[SET_RTO_FULL], 31000);
    assert_false(r.shown[SET_RTO_DATA]);

    r = read_of("partition", "{\"drill\": \"partition\", \"ok\": false, \"why\": \"never confirmed\"}");
    assert_true(r.valid && !r.passed);
    assert_string_equal(r.why, "never confirmed");
    for (int i = 0; i < SET_OBJECTIVES; i++)
        assert_false(r.shown[i]);
}

static void other_answers_show_nothing(void **state)
{
    (void)state;
    static const char *const answers[] = {
        "",
        "x",
        "[]",
        "3",
        "{}",
        "{\"drill\": \"llm-outage\"}",
        "{\"drill\": \"partition\", \"ok\": true}",
        "{\"drill\": \"llm-outage\", \"ok\": \"yes\"}",
        "{\"drill\": \"llm-outage\", \"ok\": true}",
        "{\"drill\": \"llm-outage\", \"ok\": true, \"live\": true, \"total_ms\": -1}",
        "{\"drill\": \"llm-outage\", \"ok\": true, \"steps\": 3}",
        "{\"drill\": \"llm-outage\", \"ok\": true, \"steps\": [3, null, {\"key\": 7}]}",
        "{\"drill\": \"llm-outage\", \"ok\": true, \"steps\": [{\"key\": \"primary_dies\", \"at_ms\": 9}, {\"key\": "
        "\"llms_return\", \"at_ms\": 5, \"marks\": [{\"key\": \"ack\", \"after_ms\": 1}]}]}",
        "{\"drill\": \"llm-outage\", \"ok\": true, \"steps\": [{\"key\": \"primary_dies\", \"at_ms\": 1}, {\"key\": "
        "\"llms_return\", \"at_ms\": 5, \"marks\": [{\"key\": \"ack\", \"after_ms\": null}]}]}",
    };
    for (size_t i = 0; i < sizeof answers / sizeof answers[0]; i++) {
        struct gameday_result r = read_of("llm-outage", answers[i]);
        if (r.passed || !*r.why)
            fail_msg("row %zu: passed %d: %s", i, r.passed, r.why);
    }
    /* Each story of the settings is known here. */
    for (size_t i = 0; settings_drills[i]; i++) {
        char json[200];
        snprintf(json, sizeof json, "{\"drill\": \"%s\", \"ok\": true, \"live\": true, \"total_ms\": 5}",
                 settings_drills[i]);
        assert_true(read_of(settings_drills[i], json).passed);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(set_times_are_kept),         cmocka_unit_test(any_time_has_a_next_one),
        cmocka_unit_test(every_case_is_decided),      cmocka_unit_test(what_a_drill_shows),
        cmocka_unit_test(other_answers_show_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
