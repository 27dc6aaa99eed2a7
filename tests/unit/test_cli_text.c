/* test_cli_text.c - what people see: widths, clean text, tables, event lines, subjects. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "cli/event_line.h"
#include "cli/subject_match.h"
#include "cli/term.h"
#include <locale.h>

static void widths_are_those_of_a_terminal(void **state)
{
    (void)state;
    assert_int_equal(term_width(""), 0);
    assert_int_equal(term_width("abc"), 3);
    assert_int_equal(term_width("Grüße"), 5);
    assert_int_equal(term_width("日本"), 4);
    assert_int_equal(term_width("e\xcc\x81"), 1); /* a combining accent */
    assert_int_equal(term_width("\xff\xfe"), 2);  /* not UTF-8: each byte is shown as ? */
}

static void nothing_from_the_bus_drives_the_terminal(void **state)
{
    (void)state;
    char buf[32];
    assert_string_equal(term_clean("plain", 0, buf, sizeof buf), "plain");
    assert_string_equal(term_clean("a\033[2Jb\nc\td", 0, buf, sizeof buf), "a?[2Jb?c?d");
    assert_string_equal(term_clean("x\xc3", 0, buf, sizeof buf), "x?");
    assert_string_equal(term_clean("\xc2\x9b"
                                   "31m",
                                   0, buf, sizeof buf),
                        "?31m"); /* an 8-bit CSI */
    assert_string_equal(term_clean("日本語", 6, buf, sizeof buf), "日本語");
    assert_string_equal(term_clean("日本語", 5, buf, sizeof buf), "日本…");
    assert_string_equal(term_clean("abcdef", 4, buf, sizeof buf), "abc…");
    assert_string_equal(term_clean("0123456789012345678901234567890123456789", 0, buf, sizeof buf),
                        "0123456789012345678901234567…");
    char small[8];
    assert_string_equal(term_clean("日本語", 0, small, sizeof small), "日…");
}

static void tables_align(void **state)
{
    (void)state;
    static const struct term_column columns[] = {{"NAME", false}, {"N", true}, {"WHY", false}};
    char *text = NULL;
    size_t len = 0;
    FILE *f = open_memstream(&text, &len);
    struct term t = {.file = f};
    struct term_table *tab = term_table_begin(columns, 3);
    term_cell(tab, TERM_RED, "ü");
    term_cell(tab, TERM_PLAIN, "1");
    term_cell(tab, TERM_PLAIN, "short");
    term_cell(tab, TERM_PLAIN, "日本語");
    term_cell(tab, TERM_PLAIN, "%d", 100);
    term_cell(tab, TERM_PLAIN, "a\nb");
    term_table_end(tab, &t, " ");
    fclose(f);
    assert_string_equal(text, " NAME      N  WHY\n"
                              " ü         1  short\n"
                              " 日本語  100  a?b\n");
    free(text);
}

static void only_the_last_column_is_cut(void **state)
{
    (void)state;
    static const struct term_column columns[] = {{"A", false}, {"WHY", false}};
    char *text = NULL;
    size_t len = 0;
    FILE *f = open_memstream(&text, &len);
    struct term t = {.file = f, .columns = 16};
    struct term_table *tab = term_table_begin(columns, 2);
    term_cell(tab, TERM_PLAIN, "abcd");
    term_cell(tab, TERM_PLAIN, "0123456789abcdef");
    term_table_end(tab, &t, "");
    fclose(f);
    assert_string_equal(text, "A     WHY\nabcd  012345678…\n");
    free(text);
}

static void subjects_match_as_nats_does(void **state)
{
    (void)state;
    static const struct {
        const char *a, *b;
        bool covers, overlaps;
    } rows[] = {
        {"a.b", "a.b", true, true},      {"a.b", "a.c", false, false},    {"a.*", "a.b", true, true},
        {"a.*", "a.b.c", false, false},  {"a.>", "a.b.c", true, true},    {"a.>", "a", false, false},
        {">", "a", true, true},          {"a.*", "a.*", true, true},      {"a.*", "a.>", false, true},
        {"a.>", "a.*", true, true},      {"a.b", "a.*", false, true},     {"a.b.c", "a.>", false, true},
        {"*.b", "a.>", false, true},     {"*.b", "a.c", false, false},    {"ab", "a", false, false},
        {"a.b.>", "a.*.c", false, true}, {"a.*.c", "a.b.>", false, true},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        if (subject_covers(rows[i].a, rows[i].b) != rows[i].covers)
            fail_msg("covers(%s, %s)", rows[i].a, rows[i].b);
        if (subject_overlaps(rows[i].a, rows[i].b) != rows[i].overlaps)
            fail_msg("overlaps(%s, %s)", rows[i].a, rows[i].b);
        if (subject_overlaps(rows[i].b, rows[i].a) != rows[i].overlaps)
            fail_msg("overlaps(%s, %s)", rows[i].b, rows[i].a);
    }
}

static void short_subjects_are_what_people_mean(void **state)
{
    (void)state;
    static const char *const rows[][2] = {
        {"breaker", "redoubt.v1.breaker.>"},
        {"breaker.llm.a", "redoubt.v1.breaker.llm.a"},
        {"alert", "redoubt.v1.alert"},
        {"redoubt.v1.health.>", "redoubt.v1.health.>"},
        {">", ">"},
        {"*.v1.>", "*.v1.>"},
        {"$SRV.>", "$SRV.>"},
    };
    char buf[256];
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        subject_meant(rows[i][0], buf, sizeof buf);
        assert_string_equal(buf, rows[i][1]);
    }
}

static void times_are_short_on_the_same_day(void **state)
{
    (void)state;
    char buf[EVENT_TIME_MAX];
    int64_t noon = INT64_C(1769850000042); /* 2026-01-31T09:00:00.042Z */
    assert_string_equal(event_time(noon, noon + 1000, buf), "09:00:00.042Z");
    assert_string_equal(event_time(noon, noon + 86400000, buf), "2026-01-31T09:00:00.042Z");
}

static void events_are_one_line(void **state)
{
    (void)state;
    struct event_line l;
    PB(BreakerChanged) b = REDOUBT__V1__BREAKER_CHANGED__INIT;
    b.target = (char *)"llm.a";
    b.previous = REDOUBT__V1__BREAKER_STATE__BREAKER_STATE_CLOSED;
    b.state = REDOUBT__V1__BREAKER_STATE__BREAKER_STATE_OPEN;
    b.reason = REDOUBT__V1__BREAKER_REASON__BREAKER_REASON_CONSECUTIVE;
    b.detail = (char *)"3 failures in a row";
    assert_true(event_line(&b, &l));
    assert_string_equal(l.kind, "breaker");
    assert_string_equal(l.entity, "llm.a");
    assert_string_equal(l.text, "CLOSED -> OPEN by CONSECUTIVE: 3 failures in a row");
    assert_int_equal(l.colour, TERM_RED);

    PB(AgentState) a = REDOUBT__V1__AGENT_STATE__INIT;
    PB(Directive) d = REDOUBT__V1__DIRECTIVE__INIT;
    assert_true(event_line(&d, &l)); /* without a state: nothing to say, no crash */
    a.agent = (char *)"guard-1";
    a.epoch = 12;
    a.posture = REDOUBT__V1__POSTURE__POSTURE_SECURITY_FALLBACK;
    d.step = REDOUBT__V1__STEP__STEP_SECURITY_FALLBACK;
    d.reason = (char *)"no LLM is usable";
    d.state = &a;
    assert_true(event_line(&d, &l));
    assert_string_equal(l.text, "#12 SECURITY_FALLBACK: be SECURITY_FALLBACK, LLM none: no LLM is usable");

    char *actions[] = {(char *)"override_activated", (char *)"increased_monitoring"};
    PB(Alert) al = REDOUBT__V1__ALERT__INIT;
    al.severity = REDOUBT__V1__SEVERITY__SEVERITY_HIGH;
    al.agent = (char *)"guard-1";
    al.summary = (char *)"security fallback";
    al.actions_taken = actions;
    al.n_actions_taken = 2;
    assert_true(event_line(&al, &l));
    assert_string_equal(l.text, "HIGH: security fallback [done: override_activated, increased_monitoring]");
    al.resolved = true;
    assert_true(event_line(&al, &l));
    assert_int_equal(l.colour, TERM_GREEN);

    PB(ProblemChanged) pr = REDOUBT__V1__PROBLEM_CHANGED__INIT;
    assert_true(event_line(&pr, &l)); /* without an alert: nothing to say, no crash */
    pr.alert = &al;
    al.dedup_key = (char *)"llm/primary";
    pr.state = REDOUBT__V1__PROBLEM_STATE__PROBLEM_STATE_ACKNOWLEDGED;
    pr.acked_by = (char *)"eve";
    pr.changed_unix_ms = 1700000000000;
    pr.acked_until_unix_ms = 1700000060000;
    pr.escalated = 2;
    assert_true(event_line(&pr, &l));
    assert_string_equal(l.entity, "llm/primary");
    assert_string_equal(l.text, "HIGH ACKNOWLEDGED by eve until 22:14:20.000Z, 2 steps escalated: security fallback");
    pr.state = REDOUBT__V1__PROBLEM_STATE__PROBLEM_STATE_MUTED;
    pr.muted_by = (char *)"silence/s1";
    pr.escalated = 0;
    assert_true(event_line(&pr, &l));
    assert_string_equal(l.text, "HIGH MUTED by silence/s1: security fallback");
    char *matchers[] = {(char *)"agent=a", (char *)"severity<=high"};
    PB(Silence) si = REDOUBT__V1__SILENCE__INIT;
    si.id = (char *)"s1";
    si.matchers = matchers;
    si.n_matchers = 2;
    si.by = (char *)"eve";
    si.reason = (char *)"planned";
    si.starts_unix_ms = 1700000000000;
    si.ends_unix_ms = 1700000060000;
    assert_true(event_line(&si, &l));
    assert_string_equal(l.text, "22:13:20.000Z until 22:14:20.000Z by eve: planned [agent=a severity<=high]");
    si.ended_by = (char *)"bob";
    assert_true(event_line(&si, &l));
    assert_string_equal(l.text, "ended by bob [agent=a severity<=high]");
    PB(Pulse) pu = REDOUBT__V1__PULSE__INIT;
    pu.service = (char *)"alert";
    pu.instance = (char *)"h/0";
    pu.channel = (char *)"chat";
    pu.took_ms = 7;
    assert_true(event_line(&pu, &l));
    assert_string_equal(l.text, "self-test FAILED by chat in 7 ms, says h/0");
    assert_int_equal(l.colour, TERM_RED);

    PB(OutcomeBatch) batch = REDOUBT__V1__OUTCOME_BATCH__INIT;
    assert_true(event_line(&batch, &l));
    assert_string_equal(l.text, "empty batch");

    /* A text longer than the line is cut, not overrun. */
    char *huge = malloc(5000);
    memset(huge, 'x', 4999);
    huge[4999] = 0;
    al.summary = huge;
    assert_true(event_line(&al, &l));
    assert_int_equal(strlen(l.text), sizeof l.text - 1);
    free(huge);

    PB(HealthVote) vote = REDOUBT__V1__HEALTH_VOTE__INIT, other = REDOUBT__V1__HEALTH_VOTE__INIT;
    PB(HealthVote) * votes[] = {&vote, &other};
    vote.state = REDOUBT__V1__HEALTH_STATE__HEALTH_STATE_UNHEALTHY;
    other.state = REDOUBT__V1__HEALTH_STATE__HEALTH_STATE_HEALTHY;
    PB(HealthChanged) h = REDOUBT__V1__HEALTH_CHANGED__INIT;
    h.state = REDOUBT__V1__HEALTH_STATE__HEALTH_STATE_UNHEALTHY;
    h.reason = (char *)"gone";
    h.votes = votes;
    h.n_votes = 2;
    h.suppressed_by = (char *)"other.router";
    assert_true(event_line(&h, &l));
    assert_string_equal(l.text, "UNHEALTHY: gone [1 of 2 watchers] [no alerts while other.router is down]");
    PB(Observation) o = REDOUBT__V1__OBSERVATION__INIT;
    o.target = (char *)"llm.a";
    o.observer = (char *)"host-health-1";
    o.state = REDOUBT__V1__HEALTH_STATE__HEALTH_STATE_UNHEALTHY;
    o.fault = REDOUBT__V1__PROBE_FAULT__PROBE_FAULT_CONNECT;
    o.asks = true;
    assert_true(event_line(&o, &l));
    assert_string_equal(l.text, "host-health-1 sees it as UNHEALTHY (CONNECT); what do others see?");
    PB(TrafficSummary) ts = REDOUBT__V1__TRAFFIC_SUMMARY__INIT;
    ts.observer = (char *)"host-breaker-0";
    ts.calls = 9;
    ts.span_ms = 5000;
    assert_true(event_line(&ts, &l));
    assert_string_equal(l.text, "9 calls in 5000 ms, 0 failures, 0 slow, says host-breaker-0");
    PB(BreakerAdvice) adv = REDOUBT__V1__BREAKER_ADVICE__INIT;
    adv.observer = (char *)"host-breaker-0";
    adv.hold_ms = 3000;
    adv.reason = REDOUBT__V1__BREAKER_REASON__BREAKER_REASON_CONSECUTIVE;
    assert_true(event_line(&adv, &l));
    assert_string_equal(l.text, "host-breaker-0, without shared state: do not call for 3000 ms, by CONSECUTIVE");
    PB(Decision) dec = REDOUBT__V1__DECISION__INIT;
    dec.agent = (char *)"guard-1";
    dec.event_key = (char *)"e1";
    dec.verdict = (char *)"malicious";
    dec.action = (char *)"block_ip";
    dec.object = (char *)"192.0.2.1";
    dec.outcome = REDOUBT__V1__DECISION_OUTCOME__DECISION_OUTCOME_DENIED;
    assert_true(event_line(&dec, &l));
    assert_string_equal(l.text, "DENIED: e1 is malicious, block_ip 192.0.2.1");
    PB(Decision) * decs[] = {&dec};
    PB(DecisionBatch) db = REDOUBT__V1__DECISION_BATCH__INIT;
    db.decisions = decs;
    db.n_decisions = 1;
    assert_true(event_line(&db, &l));
    assert_string_equal(l.text, "1 decisions, 0 done");
    assert_string_equal(l.entity, "guard-1");
    PB(SelftestQuestion) sq = REDOUBT__V1__SELFTEST_QUESTION__INIT;
    sq.agent = (char *)"guard-1";
    sq.name = (char *)"known-bad";
    assert_true(event_line(&sq, &l));
    assert_string_equal(l.text, "asked known-bad");

    PB(AllowReply) none = REDOUBT__V1__ALLOW_REPLY__INIT;
    assert_false(event_line(&none, &l));
}

int main(void)
{
    if (!setlocale(LC_CTYPE, "C.UTF-8"))
        return 1;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(widths_are_those_of_a_terminal),
        cmocka_unit_test(nothing_from_the_bus_drives_the_terminal),
        cmocka_unit_test(tables_align),
        cmocka_unit_test(only_the_last_column_is_cut),
        cmocka_unit_test(subjects_match_as_nats_does),
        cmocka_unit_test(short_subjects_are_what_people_mean),
        cmocka_unit_test(times_are_short_on_the_same_day),
        cmocka_unit_test(events_are_one_line),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
