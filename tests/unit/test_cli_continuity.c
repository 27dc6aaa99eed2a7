/* test_cli_continuity.c - objectives, backups, drills and availability as people and programs see them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "cli/continuity_view.h"
#include "cli/event_line.h"
#include "continuity/backup_plan.h"
#include <locale.h>

#define VERDICT(x) REDOUBT__V1__OBJECTIVE_VERDICT__OBJECTIVE_VERDICT_##x
#define NOW        INT64_C(1700000000000)
#define MINUTE     INT64_C(60000)
#define N(a)       (sizeof(a) / sizeof((a)[0]))

/* Three objectives, an incident, a backup and a drill, all well; every test changes its own copy. */
struct fixture {
    PB(ContinuityStatus) s;
    PB(ObjectiveStatus) objectives[3];
    PB(ObjectiveStatus) * objective_list[3];
    PB(IncidentLine) incident;
    PB(IncidentLine) * incidents[1];
    PB(ObjectiveClock) clock;
    PB(BackupState) backup;
    PB(BackupState) * backups[1];
    PB(DrillState) drill;
    PB(DrillState) * drills[1];
    PB(ConfigState) config;
};

static void make(struct fixture *f)
{
    static const char *const names[3] = {"mad_llm_fallback", "rto_critical", "rpo_audit"};
    *f = (struct fixture){.s = REDOUBT__V1__CONTINUITY_STATUS__INIT,
                          .incident = REDOUBT__V1__INCIDENT_LINE__INIT,
                          .clock = REDOUBT__V1__OBJECTIVE_CLOCK__INIT,
                          .backup = REDOUBT__V1__BACKUP_STATE__INIT,
                          .drill = REDOUBT__V1__DRILL_STATE__INIT,
                          .config = REDOUBT__V1__CONFIG_STATE__INIT};
    for (size_t i = 0; i < 3; i++) {
        PB(ObjectiveStatus) *o = f->objective_list[i] = &f->objectives[i];
        *o = (PB(ObjectiveStatus))REDOUBT__V1__OBJECTIVE_STATUS__INIT;
        o->objective = (char *)names[i];
        o->verdict = VERDICT(MET);
        o->target_ms = (uint64_t)(15 * MINUTE);
        o->has_estimate = o->has_demonstrated = true;
        o->estimate_ms = (uint64_t)(3 * MINUTE);
        o->demonstrated_ms = (uint64_t)(2 * MINUTE);
        o->demonstrated_unix_ms = NOW - 5 * MINUTE;
        o->why = (char *)"drill saturday took 2 min";
    }
    f->clock.objective = (char *)"mad_llm_fallback";
    f->clock.limit_ms = (uint64_t)(60 * MINUTE);
    f->clock.elapsed_ms = (uint64_t)(12 * MINUTE);
    f->incident.id = (char *)"i1";
    f->incident.key = (char *)"llm.openai";
    f->incident.phase = REDOUBT__V1__INCIDENT_PHASE__INCIDENT_PHASE_RECOVER;
    f->incident.nearest = &f->clock;
    f->incidents[0] = &f->incident;
    f->backup.source = (char *)"learning";
    f->backup.kind = REDOUBT__V1__BACKUP_KIND__BACKUP_KIND_LEARNING;
    f->backup.saved_unix_ms = f->backup.verified_point_unix_ms = NOW - MINUTE;
    f->backup.bytes = 12345678;
    f->backup.files = 7;
    f->backups[0] = &f->backup;
    f->drill.name = (char *)"saturday";
    f->drill.began_unix_ms = NOW - 3 * MINUTE;
    f->drill.ended_unix_ms = NOW - 2 * MINUTE;
    f->drill.passed = true;
    f->drills[0] = &f->drill;
    f->s.objectives = f->objective_list;
    f->s.n_objectives = 3;
    f->s.met = 3;
    f->s.worst = f->incidents;
    f->s.backups = f->backups;
    f->s.drills = f->drills;
    f->s.at_unix_ms = NOW;
}

static void the_worst_objective_is_the_one_to_look_at(void **state)
{
    (void)state;
    struct fixture f;
    make(&f);
    f.objectives[1].verdict = VERDICT(UNKNOWN);
    assert_ptr_equal(continuity_view_worst(&f.s), &f.objectives[1]);
    f.objectives[0].running_ms = (uint64_t)MINUTE; /* a clock that runs is worse than one that was never shown */
    assert_ptr_equal(continuity_view_worst(&f.s), &f.objectives[0]);
    f.objectives[2].running_ms = (uint64_t)(2 * MINUTE);
    assert_ptr_equal(continuity_view_worst(&f.s), &f.objectives[2]);
    f.objectives[1].verdict = VERDICT(BREACHED);
    assert_ptr_equal(continuity_view_worst(&f.s), &f.objectives[1]);
    f.s.n_objectives = 0;
    assert_null(continuity_view_worst(&f.s));
}

static void the_headline_says_all_in_a_line(void **state)
{
    (void)state;
    struct fixture f;
    char buf[INCIDENT_VIEW_TEXT];
    make(&f);
    assert_string_equal(continuity_view_headline(&f.s, buf), "no incident; objectives: 3 met");
    assert_int_equal(continuity_view_headline_colour(&f.s), TERM_GREEN);
    f.s.n_worst = 1;
    f.s.open_incidents = 3;
    assert_string_equal(continuity_view_headline(&f.s, buf),
                        "3 incidents open, nearest clock: mad_llm_fallback of i1, 12 min of 1 h, 48 min left; "
                        "objectives: 3 met");
    assert_int_equal(continuity_view_headline_colour(&f.s), TERM_YELLOW);
    f.clock.stopped_unix_ms = NOW; /* over: nothing runs out any more */
    f.incident.phase = REDOUBT__V1__INCIDENT_PHASE__INCIDENT_PHASE_LEARN;
    f.s.open_incidents = 1;
    assert_string_equal(continuity_view_headline(&f.s, buf), "1 incident open; objectives: 3 met");
    assert_int_equal(continuity_view_headline_colour(&f.s), TERM_CYAN);
    f.objectives[2].verdict = VERDICT(BREACHED);
    f.objectives[2].scope = (char *)"mcp";
    f.s.met = f.s.breached = f.s.unknown = 1;
    assert_string_equal(continuity_view_headline(&f.s, buf),
                        "1 incident open; objectives: 1 met, 1 BREACHED (rpo_audit of mcp), 1 not shown yet");
    assert_int_equal(continuity_view_headline_colour(&f.s), TERM_RED);
}

static void sizes_read_well(void **state)
{
    (void)state;
    static const struct {
        uint64_t bytes;
        const char *text;
    } rows[] = {{0, "0 B"},
                {999, "999 B"},
                {1000, "1.0 kB"},
                {12345678, "12.3 MB"},
                {999949999, "999.9 MB"},
                {999950000, "1.0 GB"},
                {UINT64_MAX, "18446.7 PB"}};
    char buf[32];
    for (size_t i = 0; i < N(rows); i++)
        assert_string_equal(continuity_view_size(rows[i].bytes, buf, sizeof buf), rows[i].text);
}

/* 100 is said only of what is whole, and nothing is rounded in our favour. */
static void shares_are_never_better_than_they_are(void **state)
{
    (void)state;
    static const struct {
        uint64_t part, known;
        const char *text;
    } rows[] = {{0, 0, "-"},
                {0, 100, "0.0000"},
                {100, 100, "100.0000"},
                {99, 100, "99.0000"},
                {UINT64_C(2678399999), UINT64_C(2678400000), "99.9999"}, /* a millisecond in a month */
                {UINT64_C(9999999999999999), UINT64_C(10000000000000000), "99.9999"},
                {1, 3, "33.3333"},
                {2, 3, "66.6666"},
                {UINT64_MAX, 1, "100.0000"}};
    char buf[32];
    for (size_t i = 0; i < N(rows); i++)
        assert_string_equal(continuity_view_share(rows[i].part, rows[i].known, buf, sizeof buf), rows[i].text);
}

static void backups_and_drills_say_how_they_stand(void **state)
{
    (void)state;
    struct fixture f;
    char buf[INCIDENT_VIEW_TEXT];
    make(&f);
    assert_string_equal(continuity_view_backup(&f.backup, buf), "ok");
    f.backup.verified_point_unix_ms = 0;
    assert_string_equal(continuity_view_backup(&f.backup, buf), "copied, not proven to be restorable yet");
    assert_int_equal(continuity_view_backup_colour(&f.backup), TERM_YELLOW);
    f.backup.saved_unix_ms = 0;
    assert_string_equal(continuity_view_backup(&f.backup, buf), "never copied yet");
    f.backup.suspicious = true;
    assert_non_null(strstr(continuity_view_backup(&f.backup, buf), "empty or much smaller"));
    f.backup.error = (char *)"no room";
    f.backup.failures = 2;
    assert_string_equal(continuity_view_backup(&f.backup, buf), "failed again and again: no room");
    assert_int_equal(continuity_view_backup_colour(&f.backup), TERM_RED);
    f.backup.open_alerts = BACKUP_LATE | BACKUP_DAMAGED; /* the worst that people were told of */
    assert_string_equal(continuity_view_backup(&f.backup, buf), "the repository is damaged: no room");
    f.backup.open_alerts = BACKUP_LATE;
    f.backup.error = (char *)"";
    f.backup.suspicious = false;
    assert_string_equal(continuity_view_backup(&f.backup, buf), "no new copy has come for too long");
    assert_int_equal(continuity_view_backup_colour(&f.backup), TERM_RED);
    for (unsigned bit = 1; bit < 1U << BACKUP_PROBLEMS; bit <<= 1) { /* each has its words */
        f.backup.open_alerts = bit;
        assert_string_not_equal(continuity_view_backup(&f.backup, buf), "never copied yet");
    }

    assert_string_equal(continuity_view_drill(&f.drill, buf), "passed");
    f.drill.passed = false;
    f.drill.result = (char *)"an incident is open";
    assert_string_equal(continuity_view_drill(&f.drill, buf), "not played: an incident is open");
    f.drill.failures = 1;
    assert_string_equal(continuity_view_drill(&f.drill, buf), "FAILED: an incident is open");
    f.drill.running = true;
    assert_string_equal(continuity_view_drill(&f.drill, buf), "runs");
    f.drill = (PB(DrillState))REDOUBT__V1__DRILL_STATE__INIT;
    assert_string_equal(continuity_view_drill(&f.drill, buf), "not played yet");

    assert_string_equal(continuity_view_condition(0, buf), "normal");
    assert_string_equal(continuity_view_condition(6, buf), "degraded, LLM fallback");
    assert_string_equal(continuity_view_condition(7, buf), "full failure, degraded, LLM fallback");
}

static char *printed(const struct fixture *f)
{
    char *text = NULL;
    size_t len = 0;
    struct term t = {.file = open_memstream(&text, &len)};
    continuity_view_print(&f->s, &t, NOW);
    fclose(t.file);
    return text;
}

static void tables_show_what_there_is(void **state)
{
    (void)state;
    struct fixture f;
    make(&f);
    f.objectives[0].has_demonstrated = f.objectives[0].has_estimate = false;
    f.objectives[0].demonstrated_unix_ms = 0;
    f.objectives[1].expired = true;
    f.objectives[2].why = (char *)"\033[31mred";
    char *text = printed(&f);
    assert_non_null(strstr(text, "rto_critical"));
    assert_non_null(strstr(text, "5 min (expired)"));
    assert_null(strchr(text, '\033'));
    assert_null(strstr(text, "BACKUP")); /* there are none */
    assert_null(strstr(text, "INCIDENT"));
    free(text);

    f.s.n_worst = f.s.n_backups = f.s.n_drills = 1;
    f.s.open_incidents = 4;
    f.s.config = &f.config;
    f.config.commit = (char *)"0123456789abcdef0123456789abcdef01234567";
    f.config.by = (char *)"eve";
    f.config.reason = (char *)"a new channel";
    f.config.changed_unix_ms = NOW - MINUTE;
    f.s.without_lease = true;
    f.s.leader = (char *)"host-continuity-0";
    text = printed(&f);
    static const char *const expected[] = {"[####--------------------]  20 %",
                                           "3 more: redoubt incident list",
                                           "12.3 MB",
                                           "saturday",
                                           "0123456789ab by eve, 1 min ago: a new channel",
                                           "host-continuity-0 leads without its lease"};
    for (size_t i = 0; i < N(expected); i++)
        if (!strstr(text, expected[i]))
            fail_msg("`%s` is not in:\n%s", expected[i], text);
    free(text);
}

static void availability_is_a_table_and_csv(void **state)
{
    (void)state;
    PB(AvailabilityReport) r = REDOUBT__V1__AVAILABILITY_REPORT__INIT;
    PB(AvailabilityLine) lines[2], *list[2];
    PB(AvailabilityMonth) months[2], all = REDOUBT__V1__AVAILABILITY_MONTH__INIT;
    static const char *const names[2] = {"mcp-1", "mcp-2"};
    for (size_t i = 0; i < 2; i++) {
        lines[i] = (PB(AvailabilityLine))REDOUBT__V1__AVAILABILITY_LINE__INIT;
        months[i] = (PB(AvailabilityMonth))REDOUBT__V1__AVAILABILITY_MONTH__INIT;
        months[i].month = 202611;
        months[i].known_ms = 1000000;
        lines[i].agent = (char *)names[i];
        lines[i].figures = &months[i];
        list[i] = &lines[i];
    }
    months[1].full_ms = 1000;
    months[1].degraded_ms = 4000;
    months[1].llm_fallback_ms = 5000;
    months[1].incidents = 2;
    all.known_ms = 2000000;
    all.full_ms = 1000;
    r.month = 202611;
    r.agents = list;
    r.all = &all;
    char *text = NULL;
    size_t len = 0;
    struct term t = {.file = open_memstream(&text, &len)};
    continuity_view_print_availability(&r, &t); /* nothing is known */
    r.n_agents = 2;
    continuity_view_print_availability(&r, &t);
    fclose(t.file);
    static const char *const expected[] = {
        "nothing is known of any agent in 2026-11\n", "mcp-1", "100.0000", "99.9000", "99.0000", "99.9500"};
    for (size_t i = 0; i < N(expected); i++)
        if (!strstr(text, expected[i]))
            fail_msg("`%s` is not in:\n%s", expected[i], text);
    free(text);
    FILE *f = open_memstream(&text, &len);
    continuity_view_csv_availability(&r, f);
    fclose(f);
    assert_string_equal(text,
                        "month,agent,available_percent,full_function_percent,known_ms,full_failure_ms,degraded_ms,"
                        "llm_fallback_ms,incidents\r\n"
                        "2026-11,mcp-1,100.0000,100.0000,1000000,0,0,0,0\r\n"
                        "2026-11,mcp-2,99.9000,99.0000,1000000,1000,4000,5000,2\r\n");
    free(text);
    /* Figures that contradict each other are no reason for more than 100, or for a wrap. */
    months[1].full_ms = UINT64_MAX;
    f = open_memstream(&text, &len);
    continuity_view_csv_availability(&r, f);
    fclose(f);
    assert_non_null(strstr(text, "mcp-2,0.0000,0.0000,"));
    free(text);
}

static void events_are_one_line(void **state)
{
    (void)state;
    struct fixture f;
    struct event_line l;
    make(&f);
    assert_true(event_line(&f.s, &l));
    assert_string_equal(l.text, "no incident; objectives: 3 met");
    assert_true(event_line(&f.backup, &l));
    assert_string_equal(l.kind, "backup");
    assert_string_equal(l.entity, "learning");
    assert_string_equal(l.text, "LEARNING ok; newest copy 12.3 MB, 7 files; proven up to 22:12:20.000Z");
    assert_true(event_line(&f.drill, &l));
    assert_string_equal(l.text, "passed");
    f.config.by = (char *)"eve";
    f.config.reason = (char *)"why not";
    assert_true(event_line(&f.config, &l));
    assert_string_equal(l.text, "- by eve: why not");
    PB(Demonstration) d = REDOUBT__V1__DEMONSTRATION__INIT, *shown[1] = {&d};
    PB(Demonstrations) ds = REDOUBT__V1__DEMONSTRATIONS__INIT;
    ds.objective = (char *)"rto_full";
    assert_true(event_line(&ds, &l));
    assert_string_equal(l.text, "nothing is shown");
    d.took_ms = 90000;
    d.by = (char *)"incident i1";
    ds.shown = shown;
    ds.n_shown = 1;
    assert_true(event_line(&ds, &l));
    assert_string_equal(l.text, "1 min 30 s shown by incident i1");
    PB(AvailabilityState) a = REDOUBT__V1__AVAILABILITY_STATE__INIT;
    a.condition = 4;
    assert_true(event_line(&a, &l));
    assert_string_equal(l.text, "LLM fallback");
    PB(ContinuityTime) time = REDOUBT__V1__CONTINUITY_TIME__INIT;
    time.time_unix_ms = NOW + 1500;
    time.wall_unix_ms = NOW;
    time.instance = (char *)"h";
    assert_true(event_line(&time, &l));
    assert_string_equal(l.text, "2023-11-14T22:13:21.500Z, +1500 ms against the wall clock of h");
    PB(ContinuityCommand) c = REDOUBT__V1__CONTINUITY_COMMAND__INIT;
    assert_true(event_line(&c, &l));
    assert_string_equal(l.text, "asked for");
    c.by = (char *)"eve";
    c.reason = (char *)"mine";
    c.incident = (char *)"i1";
    c.owner = (char *)"bob";
    c.force = true;
    assert_true(event_line(&c, &l));
    assert_string_equal(l.entity, "i1");
    assert_string_equal(l.text, "eve asks: mine; owner bob; FORCED");
}

int main(void)
{
    setlocale(LC_ALL, "C.UTF-8");
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_worst_objective_is_the_one_to_look_at),
        cmocka_unit_test(the_headline_says_all_in_a_line),
        cmocka_unit_test(sizes_read_well),
        cmocka_unit_test(shares_are_never_better_than_they_are),
        cmocka_unit_test(backups_and_drills_say_how_they_stand),
        cmocka_unit_test(tables_show_what_there_is),
        cmocka_unit_test(availability_is_a_table_and_csv),
        cmocka_unit_test(events_are_one_line),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
