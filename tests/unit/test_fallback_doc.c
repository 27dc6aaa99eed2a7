/* test_fallback_doc.c - an agent's document and directive as bytes: nothing is lost, older documents are read, broken ones are not. */
#include "fallback/fallback_doc.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Everything is set; of what excludes each other, one. */
static struct fallback_doc full(bool restarting, bool drill_on)
{
    struct fallback_doc d = {.epoch = 41,
                             .revision = 99,
                             .posture = FALLBACK_FROZEN,
                             .llm_index = -1,
                             .backend = FALLBACK_BACKEND_RECOVERING,
                             .ramp_percent = 25,
                             .automation = FALLBACK_AUTOMATION_FROZEN,
                             .frozen_by = "eve",
                             .frozen_why = "blocks the office",
                             .override_mode = FALLBACK_OVERRIDE_ACTIVE,
                             .override_until_ms = 1234567,
                             .override_key = "agent-1-40",
                             .acked_epoch = 40,
                             .evidence_ms = 1000,
                             .since_ms = 1001,
                             .step = FALLBACK_STEP_FREEZE,
                             .failure = FALLBACK_FAILURE_LOGIC,
                             .reason = "frozen by eve",
                             .cause = "llm.a",
                             .open_alerts = 0x1fff,
                             .verdict_epoch = 7,
                             .judgement_epoch = 8,
                             .resources = FALLBACK_RESOURCES_SHEDDING,
                             .link = FALLBACK_LINK_GONE,
                             .load_percent = 10,
                             .restart_requested = true,
                             .llm_waiting = true,
                             .llm_wanted = "llm.b",
                             .n_restarts = 3,
                             .restarts_ms = {11, 12, 13},
                             .resources_since_ms = 900,
                             .link_since_ms = 901,
                             .monitor_interval_ms = 60000,
                             .frozen_epoch = 41,
                             .rollback_id = "gone-41-agent-1-00000001",
                             .shed_percent = 10,
                             .return_percent = 100};
    if (restarting) {
        d.resources = FALLBACK_RESOURCES_RESTARTING;
        d.restart_requested = false;
        snprintf(d.restart_id, sizeof d.restart_id, "agent-1-restart-41");
        d.link = FALLBACK_LINK_RETURNING;
        d.rollback_id[0] = '\0';
        d.return_percent = 25;
    }
    if (drill_on) {
        d.drill_failure = FALLBACK_FAILURE_BACKEND;
        d.drill_until_ms = 2000;
        snprintf(d.drill_by, sizeof d.drill_by, "dan");
    } else {
        d.drill_was = FALLBACK_FAILURE_NETWORK;
        d.drill_ended_ms = 1999;
    }
    return d;
}

static void same(const struct fallback_doc *a, const struct fallback_doc *b)
{
    PB(AgentState) x, y;
    struct err e;
    size_t n, m;
    fallback_doc_fill(&x, "agent-1", a);
    fallback_doc_fill(&y, "agent-1", b);
    uint8_t *p = wire_pack(&x, &n, &e), *q = wire_pack(&y, &m, &e);
    assert_non_null(p);
    assert_non_null(q);
    assert_int_equal(n, m);
    assert_memory_equal(p, q, n);
    free(p);
    free(q);
}

static void nothing_is_lost(void **state)
{
    (void)state;
    for (int restarting = 0; restarting <= 1; restarting++)
        for (int on = 0; on <= 1; on++) {
            struct fallback_doc d = full(restarting, on), back = {0};
            struct err e;
            assert_null(fallback_invariant(&d));
            struct bytes b = fallback_directive_pack("agent-1", &d, 5, 777, 1000, &e);
            assert_non_null(b.data);
            PB(Directive) *m = wire_unpack(PB_DESC(directive), b.data, b.len, &e);
            assert_non_null(m);
            assert_int_equal(m->state->fence, 5);
            assert_int_equal(m->issued_unix_ms, 777);
            assert_int_equal(fallback_doc_take(&back, "agent-1", m->state, &e), 0);
            same(&d, &back);
            assert_int_equal(back.shed_percent, d.shed_percent);
            assert_int_equal(back.return_percent, d.return_percent);
            assert_int_equal(back.drill_was, d.drill_was);
            assert_int_equal(back.drill_ended_ms, d.drill_ended_ms);
            assert_int_equal(back.n_restarts, 3);
            assert_int_equal(back.restarts_ms[2], 13);
            assert_string_equal(back.rollback_id, d.rollback_id);
            /* Of another agent. */
            assert_int_not_equal(fallback_doc_take(&back, "agent-2", m->state, &e), 0);
            wire_free(m);
            bytes_free(&b);
        }
}

/* A document of before there were resources, links and drills. */
static void older_documents_are_read(void **state)
{
    (void)state;
    PB(AgentState) m = PB_INIT(AGENT_STATE);
    struct fallback_doc d;
    struct err e;
    m.agent = (char *)"agent-1";
    m.epoch = 3;
    m.acked_epoch = 3;
    m.posture = REDOUBT__V1__POSTURE__POSTURE_NORMAL;
    m.llm_target = (char *)"llm.a";
    m.backend = REDOUBT__V1__BACKEND_MODE__BACKEND_MODE_UP;
    m.automation = REDOUBT__V1__AUTOMATION_MODE__AUTOMATION_MODE_ENABLED;
    m.override_mode = REDOUBT__V1__OVERRIDE_MODE__OVERRIDE_MODE_OFF;
    assert_int_equal(fallback_doc_take(&d, "agent-1", &m, &e), 0);
    assert_int_equal(d.resources, FALLBACK_RESOURCES_OK);
    assert_int_equal(d.link, FALLBACK_LINK_UP);
    assert_int_equal(d.load_percent, 100);
    assert_int_equal(d.shed_percent, 100);
    assert_int_equal(d.return_percent, 100);
}

static void broken_documents_are_not(void **state)
{
    (void)state;
    struct fallback_doc d = full(false, false), kept = d;
    PB(AgentState) m;
    struct err e = {""};
    fallback_doc_fill(&m, "agent-1", &d);
    m.load_percent = 50;
    assert_int_not_equal(fallback_doc_take(&kept, "agent-1", &m, &e), 0);
    assert_non_null(strstr(e.text, "does not hold"));
    same(&d, &kept);
    m.load_percent = 10;
    m.drill_was = (Redoubt__V1__FailureKind)77;
    assert_int_not_equal(fallback_doc_take(&kept, "agent-1", &m, &e), 0);
    m.drill_was = REDOUBT__V1__FAILURE_KIND__FAILURE_KIND_NETWORK;
    int64_t many[40] = {0};
    m.n_restarts_unix_ms = 40;
    m.restarts_unix_ms = many;
    assert_int_equal(fallback_doc_take(&kept, "agent-1", &m, &e), 0);
    assert_int_equal(kept.n_restarts, FALLBACK_RESTARTS_MAX);
}

static void what_is_owed_is_appended_as_it_is(void **state)
{
    (void)state;
    struct fallback_doc d = full(false, false), back;
    struct err e = {""};
    PB(AuditRecord) r = PB_INIT(AUDIT_RECORD);
    PB(OwedNotice) o = PB_INIT(OWED_NOTICE);
    PB(AgentState) m;
    char detail[201];
    memset(detail, 'x', sizeof detail - 1);
    detail[sizeof detail - 1] = '\0';
    r.service = r.actor = r.instance = (char *)"fallback";
    r.subject = (char *)"agent-1";
    r.action = (char *)"directive.issue";
    r.outcome = REDOUBT__V1__AUDIT_OUTCOME__AUDIT_OUTCOME_DONE;
    r.audit_class = REDOUBT__V1__AUDIT_CLASS__AUDIT_CLASS_STRICT;
    r.at_unix_ms = 1;
    o.notice_case = REDOUBT__V1__OWED_NOTICE__NOTICE_AUDIT;
    o.audit = &r;
    struct bytes doc = {0}, owed[2] = {{0}, {0}};
    for (int i = 0; i < 2; i++) {
        r.id = (char *)(i ? "second" : "first");
        r.detail = i ? detail : (char *)""; /* a length of one byte, and of two */
        owed[i].data = wire_pack(&o, &owed[i].len, &e);
        assert_string_equal(e.text, "");
        assert_non_null(owed[i].data);
    }
    assert_true(owed[0].len < 0x80 && owed[1].len > 0x80);
    fallback_doc_fill(&m, "agent-1", &d);
    doc.data = wire_pack(&m, &doc.len, &e);
    assert_non_null(doc.data);
    assert_true(fallback_doc_owe(&doc, (const struct bytes *[]){&owed[0], &owed[1]}, 2, &e));
    PB(AgentState) *got = wire_unpack(PB_DESC(agent_state), doc.data, doc.len, &e);
    assert_non_null(got);
    assert_int_equal(fallback_doc_take(&back, "agent-1", got, &e), 0);
    same(&d, &back);
    assert_int_equal(got->n_owed, 2);
    assert_string_equal(got->owed[0]->audit->id, "first");
    assert_string_equal(got->owed[1]->audit->id, "second");
    assert_string_equal(got->owed[1]->audit->detail, detail);
    wire_free(got);
    static char room[65536];
    const struct bytes huge = {.data = room, .len = sizeof room};
    assert_false(fallback_doc_owe(&doc, (const struct bytes *[]){&huge}, 1, &e));
    bytes_free(&doc);
    bytes_free(&owed[0]);
    bytes_free(&owed[1]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(nothing_is_lost), cmocka_unit_test(older_documents_are_read),
                                       cmocka_unit_test(broken_documents_are_not),
                                       cmocka_unit_test(what_is_owed_is_appended_as_it_is)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
