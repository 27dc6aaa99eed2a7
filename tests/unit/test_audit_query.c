/* test_audit_query.c - which records are asked for, when that is, and acts put together from their records. */
#include "audit/audit_query.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define E_(x)    REDOUBT__V1__##x
#define T0       INT64_C(1769850301042) /* 2026-01-31T09:05:01.042Z */
#define INTENDED E_(AUDIT_OUTCOME__AUDIT_OUTCOME_INTENDED)
#define DONE     E_(AUDIT_OUTCOME__AUDIT_OUTCOME_DONE)
#define FAILED   E_(AUDIT_OUTCOME__AUDIT_OUTCOME_FAILED)

static PB(AuditRecord) record(int64_t at_ms, const char *action, const char *actor, const char *subject, int outcome)
{
    PB(AuditRecord) r = E_(AUDIT_RECORD__INIT);
    r.id = (char *)"id";
    r.at_unix_ms = at_ms;
    r.service = (char *)"fallback";
    r.audit_class = E_(AUDIT_CLASS__AUDIT_CLASS_STRICT);
    r.action = (char *)(uintptr_t)action;
    r.actor = (char *)(uintptr_t)actor;
    r.subject = (char *)(uintptr_t)subject;
    r.outcome = (Redoubt__V1__AuditOutcome)outcome;
    r.detail = (char *)"it thinks that Tuesdays are attacks";
    return r;
}

/* Each filter by itself: what fits, and what does not. */
static void test_every_filter(void **unused)
{
    (void)unused;
    PB(AuditRecord) r = record(T0, "agent.freeze", "alice", "mcp-1", DONE);
    PB(Label) labels[2] = {E_(LABEL__INIT), E_(LABEL__INIT)};
    PB(Label) * fields[2] = {&labels[0], &labels[1]};
    labels[0].key = (char *)"posture";
    labels[0].value = (char *)"FROZEN";
    labels[1].key = (char *)"cause";
    labels[1].value = (char *)"by hand";
    r.fields = fields;
    r.n_fields = 2;
    const struct {
        struct audit_query q;
        bool fits;
    } rows[] = {
        {{0}, true},
        {{.id = "id"}, true},
        {{.id = "i"}, false},
        {{.action = "agent.freeze"}, true},
        {{.action = "agent.*"}, true},
        {{.action = "*freeze"}, true},
        {{.action = "agent"}, false},
        {{.action = "Agent.*"}, false},
        {{.actor = "al?ce"}, true},
        {{.actor = "bob"}, false},
        {{.subject = "mcp-[0-9]"}, true},
        {{.subject = "mcp-2"}, false},
        {{.service = "fall*"}, true},
        {{.service = "guard"}, false},
        {{.audit_class = E_(AUDIT_CLASS__AUDIT_CLASS_STRICT)}, true},
        {{.audit_class = E_(AUDIT_CLASS__AUDIT_CLASS_GAP)}, false},
        {{.outcome = DONE}, true},
        {{.outcome = FAILED}, false},
        {{.since_unix_ms = T0}, true},
        {{.since_unix_ms = T0 + 1}, false},
        {{.until_unix_ms = T0 + 1}, true},
        {{.until_unix_ms = T0}, false},
        {{.text = "TUESDAY"}, true},
        {{.text = "by HAND"}, true},
        {{.text = "alice"}, false},
        {{.field = "posture=FROZEN"}, true},
        {{.field = "posture=F*"}, true},
        {{.field = "posture=NORMAL"}, false},
        {{.field = "post=FROZEN"}, false},
        {{.field = "cause=FROZEN"}, false},
        {{.field = "cause=by hand"}, true},
        {{.action = "agent.*", .actor = "alice", .outcome = DONE, .text = "attacks"}, true},
        {{.action = "agent.*", .actor = "alice", .outcome = DONE, .text = "defence"}, false},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        if (audit_query_fits(&rows[i].q, &r) != rows[i].fits)
            fail_msg("filter %zu: %s", i, rows[i].fits ? "does not fit" : "fits");
    assert_int_equal(audit_query_class("strict"), E_(AUDIT_CLASS__AUDIT_CLASS_STRICT));
    assert_int_equal(audit_query_class("GAP"), E_(AUDIT_CLASS__AUDIT_CLASS_GAP));
    assert_int_equal(audit_query_class("unspecified"), 0);
    assert_int_equal(audit_query_outcome("refused"), E_(AUDIT_OUTCOME__AUDIT_OUTCOME_REFUSED));
    assert_int_equal(audit_query_outcome("perhaps"), 0);
}

static void test_times(void **unused)
{
    (void)unused;
    static const struct {
        const char *text;
        int64_t ms;
    } rows[] = {
        {"2026-01-31T09:05:01.042Z", T0},
        {"2026-01-31T09:05:01.042", T0},
        {"2026-01-31T09:05:01Z", T0 - 42},
        {"2026-01-31T09:05", T0 - 1042},
        {"2026-01-31", INT64_C(1769817600000)},
        {"1769850301042", T0},
        {"0s", T0},
        {"90s", T0 - 90000},
        {"24h", T0 - 86400000},
        {"7d", T0 - 7 * INT64_C(86400000)},
        {"", -1},
        {"yesterday", -1},
        {"-1", -1},
        {"5 h", -1},
        {"5w", -1},
        {"2026-02-30", -1},
        {"2026-01-31T09:05:01+01:00", -1},
        {"2026-01-31T09:05:01Zulu", -1},
        {"2026-13-01", -1},
        {"1900-01-01", -1},
        {"99999999999999999999", -1},
        {"9999999999999d", -1},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        if (audit_query_time(rows[i].text, T0) != rows[i].ms)
            fail_msg("`%s`: %lld instead of %lld", rows[i].text, (long long)audit_query_time(rows[i].text, T0),
                     (long long)rows[i].ms);
}

/* ---- acts ---- */

struct story {
    struct audit_act acts[8];
    size_t n;
};

static enum audit_act_part take(struct story *s, const char *verb, const PB(AuditRecord) * r)
{
    size_t at = s->n;
    const struct audit_view *v = audit_view_of(verb);
    assert_non_null(v);
    enum audit_act_part part = audit_view_take(v, s->acts, s->n, r, &at);
    if (part == AUDIT_ACT_NONE)
        return part;
    s->n += part != AUDIT_ACT_ENDS;
    assert_true(s->n <= 8 && at < s->n);
    if (part == AUDIT_ACT_BEGINS)
        s->acts[at].intended = r;
    else
        s->acts[at].ended = r;
    return part;
}

static void test_meant_and_done_are_one(void **unused)
{
    (void)unused;
    struct story s = {0};
    const PB(AuditRecord) rows[] = {
        record(T0, "agent.freeze", "alice", "a", INTENDED),     record(T0 + 1, "agent.freeze", "bob", "a", INTENDED),
        record(T0 + 2, "agent.freeze", "alice", "b", INTENDED), record(T0 + 3, "agent.freeze", "alice", "a", DONE),
        record(T0 + 4, "agent.unfreeze", "alice", "a", DONE),   record(T0 + 5, "agent.freeze", "bob", "a", FAILED),
        record(T0 + 6, "agent.freeze", "fallback", "c", DONE), /* a logic error: nobody meant it before */
    };
    static const enum audit_act_part parts[] = {AUDIT_ACT_BEGINS, AUDIT_ACT_BEGINS, AUDIT_ACT_BEGINS, AUDIT_ACT_ENDS,
                                                AUDIT_ACT_NONE,   AUDIT_ACT_ENDS,   AUDIT_ACT_WHOLE};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        assert_int_equal(take(&s, "froze", &rows[i]), parts[i]);
    assert_int_equal(s.n, 4);
    assert_ptr_equal(s.acts[0].ended, &rows[3]);
    assert_ptr_equal(s.acts[1].ended, &rows[5]);
    assert_null(s.acts[2].ended);
    assert_null(s.acts[3].intended);
    assert_string_equal(audit_act_actor(&s.acts[3]), "fallback");
}

/* What is tried again and again is as many acts; an end that comes too late is none of an older one. */
static void test_again_and_late(void **unused)
{
    (void)unused;
    struct story s = {0};
    const PB(AuditRecord) rows[] = {
        record(T0, "override.activate", "fallback", "a", INTENDED),
        record(T0 + 100, "override.activate", "fallback", "a", FAILED),
        record(T0 + 2000, "override.activate", "fallback", "a", INTENDED),
        record(T0 + 2001 + AUDIT_ACT_MAX_MS, "override.activate", "fallback", "a", DONE),
    };
    assert_int_equal(take(&s, "overrode", &rows[0]), AUDIT_ACT_BEGINS);
    assert_int_equal(take(&s, "overrode", &rows[1]), AUDIT_ACT_ENDS);
    assert_int_equal(take(&s, "overrode", &rows[2]), AUDIT_ACT_BEGINS);
    assert_int_equal(take(&s, "overrode", &rows[3]), AUDIT_ACT_WHOLE);
    assert_int_equal(s.n, 3);
}

/* A breaker that opens by itself is nobody's act; forced by a person, its end has another name. */
static void test_people_only(void **unused)
{
    (void)unused;
    struct story s = {0};
    PB(AuditRecord)
    rows[] = {
        record(T0, "breaker.open", "breaker", "llm", DONE),
        record(T0 + 1, "breaker.open", "carol", "llm", INTENDED),
        record(T0 + 1, "breaker.open", "breaker", "llm", DONE),
        record(T0 + 2, "breaker.forced_open", "carol", "llm", DONE),
        record(T0 + 3, "breaker.half_open", "breaker", "llm", DONE),
        record(T0 + 4, "breaker.reset", "carol", "llm", INTENDED),
        record(T0 + 5, "breaker.half_open", "breaker", "llm", DONE),
    };
    static const enum audit_act_part parts[] = {AUDIT_ACT_NONE, AUDIT_ACT_BEGINS, AUDIT_ACT_NONE, AUDIT_ACT_ENDS,
                                                AUDIT_ACT_NONE, AUDIT_ACT_BEGINS, AUDIT_ACT_ENDS};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        rows[i].service = (char *)"breaker";
        assert_int_equal(take(&s, "forced", &rows[i]), parts[i]);
    }
    assert_string_equal(audit_act_actor(&s.acts[1]), "carol");
}

/* Incidents go on and end by what is seen, or by a person: only the latter is somebody's act. */
static void test_incidents_of_people(void **unused)
{
    (void)unused;
    static const struct {
        const char *verb, *action;
        bool people;
    } views[] = {{"declared", "incident.declared", true},  {"advanced", "incident.advanced", true},
                 {"closed", "incident.closed", true},      {"noted", "incident.note", false},
                 {"assigned", "incident.assigned", false}, {"configured", "config.rolled_back", false},
                 {"backed-up", "backup.tested", false}};
    for (size_t i = 0; i < sizeof views / sizeof *views; i++) {
        struct story s = {0};
        PB(AuditRecord)
        rows[] = {record(T0, views[i].action, "continuity", "i1", DONE),
                  record(T0 + 1, views[i].action, "eve", "i1", INTENDED),
                  record(T0 + 2, views[i].action, "eve", "i1", DONE),
                  record(T0 + 3, "incident.else", "eve", "i1", DONE)};
        for (size_t k = 0; k < sizeof rows / sizeof *rows; k++)
            rows[k].service = (char *)"continuity";
        assert_int_equal(take(&s, views[i].verb, &rows[0]), views[i].people ? AUDIT_ACT_NONE : AUDIT_ACT_WHOLE);
        assert_int_equal(take(&s, views[i].verb, &rows[1]), AUDIT_ACT_BEGINS);
        assert_int_equal(take(&s, views[i].verb, &rows[2]), AUDIT_ACT_ENDS);
        assert_int_equal(take(&s, views[i].verb, &rows[3]), AUDIT_ACT_NONE);
        assert_string_equal(audit_act_actor(&s.acts[s.n - 1]), "eve");
    }
}

/* A rollback lasts longer than a request: it is under way until one of its ends is recorded, and that says how it ended. */
static void test_a_rollback_spans(void **unused)
{
    (void)unused;
    struct story s = {0};
    char word[AUDIT_ACT_OUTCOME_MAX];
    const struct audit_view *v = audit_view_of("rolled-back");
    const int64_t day = 86400000;
    const PB(AuditRecord) rows[] = {
        record(T0, "rollback.start", "eve", "agent-1", DONE), /* the order was taken: begun, not ended */
        record(T0 + 1, "rollback.start", "adam", "agent-2", INTENDED),
        record(T0 + 2, "rollback.weight", "eve", "agent-1", INTENDED),
        record(T0 + 3, "rollback.hold", "adam", "agent-1", DONE),
        record(T0 + 2 * day, "rollback.done", "eve", "agent-1", DONE),
        record(T0 + 2 * day + 1, "rollback.abort", "adam", "agent-2", DONE),
        record(T0 + 2 * day + 2, "rollback.aborted", "adam", "agent-2", INTENDED), /* strict: before it is so */
        record(T0 + 2 * day + 3, "rollback.start", "eve", "agent-1", DONE),
        record(T0 + 2 * day + 4, "rollback.start", "eve", "agent-3", E_(AUDIT_OUTCOME__AUDIT_OUTCOME_REFUSED)),
        record(T0 + 50 * day, "rollback.done", "eve", "agent-1", DONE), /* of another one, whose begin is not there */
    };
    static const enum audit_act_part parts[] = {AUDIT_ACT_BEGINS, AUDIT_ACT_BEGINS, AUDIT_ACT_NONE, AUDIT_ACT_WHOLE,
                                                AUDIT_ACT_ENDS,   AUDIT_ACT_WHOLE,  AUDIT_ACT_ENDS, AUDIT_ACT_BEGINS,
                                                AUDIT_ACT_WHOLE,  AUDIT_ACT_WHOLE};
    static const char *const outcomes[] = {"done", "aborted", "done", "done", "intended", "refused", "done"};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        assert_int_equal(take(&s, "rolled-back", &rows[i]), parts[i]);
    assert_int_equal(s.n, sizeof outcomes / sizeof *outcomes);
    for (size_t i = 0; i < s.n; i++)
        assert_string_equal(audit_act_outcome(v, &s.acts[i], word), outcomes[i]);
    assert_string_equal(audit_act_actor(&s.acts[0]), "eve");
}

static void test_what_an_act_says(void **unused)
{
    (void)unused;
    PB(AuditRecord) meant = record(T0, "alert.silenced", "dave", "silence-1", INTENDED);
    PB(AuditRecord) done = record(T0 + 1, "alert.silenced", "alert", "silence-1", DONE);
    PB(Label) until = E_(LABEL__INIT);
    PB(Label) * fields[1] = {&until};
    until.key = (char *)"until";
    until.value = (char *)"2026-02-01T00:00:00.000Z";
    meant.fields = fields;
    meant.n_fields = 1;
    done.service = (char *)"alert";
    done.detail = (char *)"done";
    struct audit_act a = {&meant, NULL};
    assert_string_equal(audit_act_actor(&a), "dave");
    assert_string_equal(audit_act_until(&a), "2026-02-01T00:00:00.000Z");
    a.ended = &done;
    assert_string_equal(audit_act_actor(&a), "dave");
    assert_string_equal(audit_act_reason(&a), "it thinks that Tuesdays are attacks");
    meant.detail = (char *)"";
    assert_string_equal(audit_act_reason(&a), "done");
    a.intended = NULL;
    assert_string_equal(audit_act_actor(&a), "alert");
    assert_string_equal(audit_act_until(&a), "");
    assert_null(audit_view_of("baked"));
    /* No two rows of a view take the same action as their beginning. */
    for (size_t v = 0; v < audit_views_n; v++)
        for (size_t i = 0; i < 5 && audit_views[v].rows[i].action; i++)
            for (size_t k = i + 1; k < 5 && audit_views[v].rows[k].action; k++)
                assert_string_not_equal(audit_views[v].rows[i].action, audit_views[v].rows[k].action);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_filter),
        cmocka_unit_test(test_times),
        cmocka_unit_test(test_meant_and_done_are_one),
        cmocka_unit_test(test_again_and_late),
        cmocka_unit_test(test_people_only),
        cmocka_unit_test(test_incidents_of_people),
        cmocka_unit_test(test_a_rollback_spans),
        cmocka_unit_test(test_what_an_act_says),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
