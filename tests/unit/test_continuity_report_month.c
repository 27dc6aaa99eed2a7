/* test_continuity_report_month.c - the monthly report: its figures against ones that were worked out by hand, and the three forms of it. */
#include "continuity/report_month.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "page_check.h"

#define HOUR INT64_C(3600000)
#define DAY  (24 * HOUR)

static struct report_month november(void)
{
    return (struct report_month){.month = 202611,
                                 .from_ms = availability_month_start(202611),
                                 .to_ms = availability_month_start(202612),
                                 .written_ms = availability_month_start(202612) + HOUR,
                                 .leader = "host-1-continuity-0"};
}

static void agent(struct report_month *m, const char *name, int64_t full_ms, int64_t degraded_ms, int64_t llm_ms)
{
    struct availability_month a = {.month = 202611,
                                   .known_ms = 30 * DAY,
                                   .full_ms = full_ms,
                                   .degraded_ms = degraded_ms,
                                   .llm_ms = llm_ms,
                                   .incidents = full_ms > 0};
    assert_true(report_month_add(m, name, &a));
}

/* One clock, rto_full, of two hours. */
static void incident(struct report_month *m, const char *id, int64_t at_ms, int64_t took_ms, int severity, bool drill)
{
    PB(IncidentChanged) d = PB_INIT(INCIDENT_CHANGED);
    PB(ObjectiveClock) c = PB_INIT(OBJECTIVE_CLOCK), *clocks[] = {&c};
    c.objective = (char *)"rto_full";
    c.limit_ms = 2 * HOUR;
    c.elapsed_ms = (uint64_t)(took_ms ? took_ms : HOUR);
    c.stopped_unix_ms = took_ms ? m->from_ms + at_ms + took_ms : 0;
    d.id = (char *)id;
    d.summary = (char *)"the <provider> was | away";
    d.severity = (Redoubt__V1__Severity)severity;
    d.failure_kind = REDOUBT__V1__FAILURE_KIND__FAILURE_KIND_LLM_OUTAGE;
    d.evidence_unix_ms = m->from_ms + at_ms;
    d.validated_unix_ms = took_ms ? m->from_ms + at_ms + took_ms : 0;
    d.agents_total = 3;
    d.drill = drill;
    d.clocks = clocks;
    d.n_clocks = 1;
    assert_true(report_month_incident(m, &d));
}

static void test_figures(void **state)
{
    (void)state;
    struct report_month m = november();
    agent(&m, "well", 0, 0, 0);
    agent(&m, "worst", 36 * HOUR, 0, 0);
    agent(&m, "slow", 0, 72 * HOUR, 36 * HOUR);
    incident(&m, "i-before", -3 * DAY, DAY, 4, false);           /* over before: not of this month */
    incident(&m, "i-across", -DAY, DAY + 2 * HOUR, 3, false);    /* began before, 26 h */
    incident(&m, "i-2", 2 * DAY + HOUR, HOUR, 2, false);         /* 3 November */
    incident(&m, "i-3", 2 * DAY + 5 * HOUR, 3 * HOUR, 4, false); /* the same day, worse */
    incident(&m, "i-drill", 9 * DAY, 10 * 60000, 4, true);       /* no day is marked by a drill */
    incident(&m, "i-open", 29 * DAY + 23 * HOUR, 0, 3, false);   /* not over yet */
    incident(&m, "i-after", 30 * DAY, HOUR, 4, false);           /* December */
    report_month_settle(&m);
    assert_int_equal(m.n_agents, 3);
    assert_string_equal(m.agents[0].name, "worst");
    assert_string_equal(m.agents[1].name, "slow");
    assert_string_equal(m.agents[2].name, "well");
    assert_int_equal(m.sum.known_ms, 90 * DAY);
    assert_int_equal(m.sum.full_ms, 36 * HOUR);
    char share[32];
    assert_string_equal(report_share(&m.agents[0].m, false, share), "95.0000 %"); /* 36 h of 720 h */
    assert_string_equal(report_share(&m.agents[1].m, true, share), "85.0000 %");  /* 108 h of 720 h */
    assert_string_equal(report_share(&m.agents[1].m, false, share), "100.0000 %");
    assert_int_equal(m.n_incidents, 5);
    assert_int_equal(m.n_real, 4);
    assert_int_equal(m.n_drill, 1);
    assert_int_equal(m.mttr_ms, (26 + 1 + 3) * HOUR / 3);
    assert_int_equal(m.mtbf_ms, 30 * DAY / 3); /* three began in the month */
    assert_int_equal(m.days, 30);
    for (int day = 0; day < 31; day++)
        assert_int_equal(m.worst_of_day[day], day == 0 ? 3 : day == 2 ? 4 : day == 29 ? 3 : 0);
    assert_int_equal(m.incidents_of_day[2], 2);
    const struct month_objective *o = &m.objectives[SET_RTO_FULL];
    assert_int_equal(o->clocks, 5);
    assert_int_equal(o->breached, 2);
    assert_int_equal(o->running, 1);
    assert_int_equal(o->worst_ms, 26 * HOUR);
    report_month_done(&m);
}

static void has(const char *text, const char *what)
{
    if (!strstr(text, what))
        fail_msg("`%s` is not there", what);
}

static void test_forms(void **state)
{
    (void)state;
    struct report_month m = november();
    struct report_text md = {0}, html = {0}, csv = {0};
    PB(BackupState) b = PB_INIT(BACKUP_STATE);
    PB(DrillState) d = PB_INIT(DRILL_STATE);
    agent(&m, "well", 0, 0, 0);
    agent(&m, "<script>alert(1)</script>", 36 * HOUR, HOUR, HOUR);
    incident(&m, "i-1", 2 * DAY, HOUR, 4, false);
    b.source = (char *)"learning-mcp";
    b.kind = REDOUBT__V1__BACKUP_KIND__BACKUP_KIND_LEARNING;
    b.verified_point_unix_ms = m.to_ms - HOUR;
    b.tested_unix_ms = m.to_ms - DAY;
    b.test_took_ms = 8200;
    assert_true(report_month_backup(&m, &b));
    b.source = (char *)"nats";
    b.error = (char *)"the <repository> is away";
    assert_true(report_month_backup(&m, &b));
    d.name = (char *)"saturday";
    d.result = (char *)"12 of 12 steps";
    d.passed = true;
    d.ended_unix_ms = m.from_ms + 6 * DAY;
    assert_true(report_month_drill(&m, &d));
    d.ended_unix_ms = m.to_ms; /* of the next month */
    assert_true(report_month_drill(&m, &d));
    assert_int_equal(m.n_drills, 1);
    report_month_settle(&m);
    report_month_md(&m, &md);
    report_month_html(&m, &html);
    report_month_csv(&m, &csv);
    has(md.s, "# Availability: November 2026");
    has(md.s, "the &lt;provider&gt; was \\| away");
    has(md.s, "| learning-mcp | learning data | 2026-11-30 23:00:00 | 2026-11-30 00:00:00 | 8.2 s | good |");
    has(md.s, "12 of 12 steps");
    has(html.s, "Availability in November 2026");
    has(html.s, "aria-labelledby=\"days-title days-desc\"");
    has(html.s, "95.0000 %");
    has(html.s, "failing");
    page_good(html.s);
    assert_null(strstr(html.s, "<script"));
    assert_null(strstr(md.s, "<script"));
    has(csv.s, "agent,month,known_ms,");
    has(csv.s, "\"well\",2026-11,2592000000,0,0,0,0,1000000,1000000\r\n");
    const char *dir = getenv("KEEP_REPORTS");
    char path[300];
    snprintf(path, sizeof path, "%s/month.html", dir ? dir : "");
    FILE *f = dir ? fopen(path, "we") : NULL;
    if (f) {
        fputs(html.s, f);
        fclose(f);
    }
    free(md.s);
    free(html.s);
    free(csv.s);
    report_month_done(&m);
    /* Nobody is known, nothing has happened: no division by it. */
    m = november();
    m.partial = true;
    m.written_ms = m.from_ms + DAY;
    html = (struct report_text){0};
    report_month_settle(&m);
    report_month_html(&m, &html);
    page_good(html.s);
    has(html.s, "The month is not over");
    assert_int_equal(m.mttr_ms, -1);
    assert_int_equal(m.mtbf_ms, -1);
    free(html.s);
    report_month_done(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_figures), cmocka_unit_test(test_forms)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
