/* test_cli_drill_rules.c - what becomes of actions, and what ends a drill on a real suite: the drills' pure parts. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "cli/drill_ledger.h"
#include "cli/drill_red.h"

#define PBE(x) REDOUBT__V1__##x
#define AGENT  "a"

/* ---- the ledger ---- */

static void asked(struct drill_ledger *l, const char *key, uint64_t epoch)
{
    PB(ActionRequest) r = PB_INIT(ACTION_REQUEST);
    r.idempotency_key = (char *)key;
    r.epoch = epoch;
    drill_ledger_note(l, &r);
}

static void answered(struct drill_ledger *l, const char *key, int decision)
{
    PB(ActionReply) r = PB_INIT(ACTION_REPLY);
    r.idempotency_key = (char *)key;
    r.decision = (Redoubt__V1__ActionDecision)decision;
    drill_ledger_note(l, &r);
}

static void waits(struct drill_ledger *l, const char *key)
{
    PB(ActionRequest) r = PB_INIT(ACTION_REQUEST);
    PB(QueuedAction) q = PB_INIT(QUEUED_ACTION);
    r.idempotency_key = (char *)key;
    q.request = &r;
    drill_ledger_note(l, &q);
}

static struct drill_count count(const struct drill_ledger *l, const char *backend)
{
    struct drill_count n;
    json_t *page = backend ? json_loads(backend, 0, NULL) : NULL;
    assert_true(page || !backend);
    drill_ledger_count(l, page, &n);
    json_decref(page);
    return n;
}

static void each_action_is_accounted_for(void **state)
{
    (void)state;
    struct drill_ledger l = {0};
    asked(&l, "k1", 3);
    answered(&l, "k1", PBE(ACTION_DECISION__ACTION_DECISION_FORWARDED));
    asked(&l, "k2", 3);
    waits(&l, "k2");
    answered(&l, "k2", PBE(ACTION_DECISION__ACTION_DECISION_QUEUED));
    asked(&l, "k3", 3);
    answered(&l, "k3", PBE(ACTION_DECISION__ACTION_DECISION_REFUSED));
    asked(&l, "k4", 3); /* nobody answers: nobody counts on it */
    asked(&l, "k5", 3);
    answered(&l, "k5", PBE(ACTION_DECISION__ACTION_DECISION_FAILED));
    /* Refused first, then taken under a newer epoch: it is no refused one. */
    asked(&l, "k6", 3);
    answered(&l, "k6", PBE(ACTION_DECISION__ACTION_DECISION_REFUSED));
    asked(&l, "k6", 4);
    answered(&l, "k6", PBE(ACTION_DECISION__ACTION_DECISION_DUPLICATE));
    assert_int_equal(drill_ledger_epoch(&l, "k6"), 4);
    assert_int_equal(drill_ledger_epoch(&l, "never"), 0);

    struct drill_count n = count(&l, NULL);
    assert_int_equal(n.asked, 6);
    assert_int_equal(n.accepted, 3);
    assert_int_equal(n.queued, 1);
    assert_int_equal(n.refused, 1);
    assert_int_equal(n.lost, 3);                                              /* as far as is known */
    n = count(&l, "{\"actions\": [{\"key\": \"a/k1\"}, {\"key\": \"k6\"}]}"); /* as the guard tells it, or bare */
    assert_int_equal(n.lost, 1);
    assert_int_equal(n.executed, 2);
    n = count(&l, "{\"actions\": [{\"key\": \"k1\"}, {\"key\": \"k6\"}, {\"key\": \"k2\"}, {\"key\": \"k1\"}],"
                  " \"keys\": {\"action/k1\": 2, \"activate/k1\": 9}}");
    assert_int_equal(n.lost, 0);
    assert_int_equal(n.executed, 3);
    assert_int_equal(n.doubled, 1);
    assert_int_equal(n.repeated, 2);
    /* What is no page of a backend says nothing. */
    n = count(&l, "{\"actions\": [1, {\"key\": 7}, null], \"keys\": []}");
    assert_int_equal(n.executed, 0);
    assert_int_equal(n.lost, 3);
    drill_ledger_free(&l);
}

static void those_that_waited_come_in_order(void **state)
{
    (void)state;
    struct drill_ledger l = {0};
    waits(&l, "q1");
    waits(&l, "q2");
    waits(&l, "q3");
    waits(&l, "q1"); /* put back: keeps its place */
    struct drill_count n = count(&l, "{\"actions\": [{\"key\": \"q1\"}, {\"key\": \"new\"}, {\"key\": \"q2\"}, "
                                     "{\"key\": \"q3\"}]}");
    assert_int_equal(n.queued, 3);
    assert_int_equal(n.out_of_order, 0);
    n = count(&l, "{\"actions\": [{\"key\": \"q2\"}, {\"key\": \"q1\"}, {\"key\": \"q3\"}]}");
    assert_int_equal(n.out_of_order, 1);
    n = count(&l, "{\"actions\": [{\"key\": \"q3\"}, {\"key\": \"q2\"}, {\"key\": \"q1\"}]}");
    assert_int_equal(n.out_of_order, 2);
    drill_ledger_free(&l);
}

static void other_messages_are_nothing_to_it(void **state)
{
    (void)state;
    struct drill_ledger l = {0};
    PB(Alert) a = PB_INIT(ALERT);
    PB(QueuedAction) hollow = PB_INIT(QUEUED_ACTION);
    PB(ActionReply) nameless = PB_INIT(ACTION_REPLY);
    drill_ledger_note(&l, &a);
    drill_ledger_note(&l, &hollow);
    drill_ledger_note(&l, &nameless);
    struct drill_count n = count(&l, "{}");
    assert_int_equal(n.asked + n.accepted + n.queued + n.lost, 0);
    drill_ledger_free(&l);
}

/* ---- what ends a live drill ---- */

static bool red(const char *drill, const void *message, char text[static 256])
{
    *text = 0;
    bool yes = drill_red(drill_kind(drill), AGENT, message, text, 256);
    assert_int_equal(yes, *text != 0);
    return yes;
}

static void verdicts_and_breakers(void **state)
{
    (void)state;
    char text[256];
    for (size_t i = 0; i < drill_kinds_n; i++) {
        const char *drill = drill_kinds[i].name;
        bool restarts = strcmp(drill, "resource-exhaustion") == 0;
        for (int s = 0; s <= PBE(HEALTH_STATE__HEALTH_STATE_MAINTENANCE); s++) {
            PB(HealthChanged) h = PB_INIT(HEALTH_CHANGED);
            h.target = (char *)"llm.x";
            h.state = (Redoubt__V1__HealthState)s;
            bool bad =
                s == PBE(HEALTH_STATE__HEALTH_STATE_UNHEALTHY) || s == PBE(HEALTH_STATE__HEALTH_STATE_FLAPPING);
            assert_int_equal(red(drill, &h, text), bad);
            h.target = (char *)"agent." AGENT; /* its process really dies; while it is restarted, it must */
            assert_int_equal(red(drill, &h, text), bad && !restarts);
            h.target = (char *)"agent." AGENT "b";
            assert_int_equal(red(drill, &h, text), bad);
        }
        for (int s = 0; s <= PBE(BREAKER_STATE__BREAKER_STATE_METRICS_ONLY); s++) {
            PB(BreakerChanged) b = PB_INIT(BREAKER_CHANGED);
            b.target = (char *)"llm.x";
            b.state = (Redoubt__V1__BreakerState)s;
            assert_int_equal(red(drill, &b, text), s == PBE(BREAKER_STATE__BREAKER_STATE_OPEN) ||
                                                       s == PBE(BREAKER_STATE__BREAKER_STATE_FORCED_OPEN));
        }
    }
}

static void other_agents(void **state)
{
    (void)state;
    char text[256];
    PB(AgentState) s = PB_INIT(AGENT_STATE);
    PB(Directive) d = PB_INIT(DIRECTIVE);
    d.state = &s;
    s.automation = PBE(AUTOMATION_MODE__AUTOMATION_MODE_ENABLED);
    for (int p = PBE(POSTURE__POSTURE_NORMAL); p <= PBE(POSTURE__POSTURE_FROZEN); p++) {
        s.posture = (Redoubt__V1__Posture)p;
        s.agent = (char *)"b";
        assert_int_equal(red("backend-outage", &d, text), p != PBE(POSTURE__POSTURE_NORMAL));
        s.agent = (char *)AGENT;
        assert_false(red("backend-outage", &d, text));
    }
    /* A person froze it meanwhile: not by this drill. */
    s.automation = PBE(AUTOMATION_MODE__AUTOMATION_MODE_FROZEN);
    s.frozen_by = (char *)"eve";
    assert_true(red("backend-outage", &d, text));
    assert_non_null(strstr(text, "eve"));
    assert_false(red("logic-error", &d, text));
}

static void alerts(void **state)
{
    (void)state;
    char text[256], key[128];
    PB(Alert) a = PB_INIT(ALERT);
    a.severity = PBE(SEVERITY__SEVERITY_HIGH);
    for (size_t i = 0; i < drill_kinds_n; i++) {
        const struct drill_kind *k = &drill_kinds[i];
        a.dedup_key = key;
        for (const char *const *n = k->notices; *n; n++) {
            snprintf(key, sizeof key, "agent/" AGENT "/%s", *n);
            assert_false(red(k->name, &a, text));
            assert_true(drill_red_ours(k, AGENT, &a));
            snprintf(key, sizeof key, "agent/b/%s", *n); /* the same of another agent is none of ours */
            assert_true(red(k->name, &a, text));
        }
        a.dedup_key = (char *)"breaker/llm.x";
        assert_true(red(k->name, &a, text));
    }
    a.resolved = true;
    assert_false(red("partition", &a, text));
    a.resolved = false;
    a.severity = PBE(SEVERITY__SEVERITY_WARNING);
    assert_false(red("partition", &a, text));
    /* An alert that nobody could be told of. */
    PB(DeliveryReceipt) r = PB_INIT(DELIVERY_RECEIPT);
    r.status = PBE(DELIVERY_STATUS__DELIVERY_STATUS_FAILED);
    assert_false(red("partition", &r, text));
    r.status = PBE(DELIVERY_STATUS__DELIVERY_STATUS_EXHAUSTED);
    assert_true(red("partition", &r, text));
}

static void incidents(void **state)
{
    (void)state;
    char text[256];
    char *mine[] = {(char *)AGENT}, *both[] = {(char *)AGENT, (char *)"b"};
    PB(IncidentChanged) i = PB_INIT(INCIDENT_CHANGED);
    i.phase = PBE(INCIDENT_PHASE__INCIDENT_PHASE_RESPOND);
    i.failure_kind = PBE(FAILURE_KIND__FAILURE_KIND_NETWORK);
    i.agents = mine;
    i.n_agents = 1;
    assert_false(red("partition", &i, text)); /* the drill's own */
    assert_true(red("logic-error", &i, text));
    i.agents = both;
    i.n_agents = 2;
    assert_true(red("partition", &i, text));
    i.phase = PBE(INCIDENT_PHASE__INCIDENT_PHASE_CLOSED);
    assert_false(red("partition", &i, text));
}

static json_t *stats(const char *service)
{
    char name[64];
    snprintf(name, sizeof name, "redoubt-%s", service);
    return json_pack("{s:s, s:s}", "name", name, "id", "0");
}

static PB(AgentState) * agent_state(const char *name, int posture)
{
    PB(AgentState) s = PB_INIT(AGENT_STATE);
    struct err e;
    size_t len;
    s.agent = (char *)name;
    s.epoch = s.acked_epoch = s.revision = 1;
    s.posture = (Redoubt__V1__Posture)posture;
    s.llm_target = (char *)"llm.x";
    s.llm_model = (char *)"m";
    s.backend = PBE(BACKEND_MODE__BACKEND_MODE_UP);
    s.automation = PBE(AUTOMATION_MODE__AUTOMATION_MODE_ENABLED);
    s.override_mode = PBE(OVERRIDE_MODE__OVERRIDE_MODE_OFF);
    s.since_unix_ms = 1;
    void *data = wire_pack(&s, &len, &e);
    if (!data)
        fail_msg("%s", e.text);
    PB(AgentState) *copy = wire_unpack(PB_DESC(agent_state), data, len, &e);
    free(data);
    assert_non_null(copy);
    return copy;
}

static void it_begins_only_when_all_is_well(void **state)
{
    (void)state;
    char text[256];
    size_t was[16] = {0};
    struct status_model m = {0};
    assert_false(drill_red_begin(&m, AGENT, text, sizeof text));
    assert_non_null(strstr(text, "nothing is known"));
    (void)status_add_agent(&m, agent_state(AGENT, PBE(POSTURE__POSTURE_NORMAL)));
    assert_false(drill_red_begin(&m, AGENT, text, sizeof text)); /* no service answers */
    for (size_t i = 0; i < status_services_n; i++)
        status_add_instance(&m, stats(status_services[i]));
    assert_true(drill_red_begin(&m, AGENT, text, sizeof text));
    for (size_t i = 0; i < status_services_n; i++)
        was[i] = status_replicas(&m, status_services[i]);
    assert_false(drill_red_services(was, &m, text, sizeof text));

    PB(AgentState) *drilled = agent_state(AGENT, PBE(POSTURE__POSTURE_NORMAL));
    drilled->revision = 2;
    drilled->drill_failure = PBE(FAILURE_KIND__FAILURE_KIND_NETWORK);
    (void)status_add_agent(&m, drilled);
    assert_false(drill_red_begin(&m, AGENT, text, sizeof text));
    assert_non_null(strstr(text, "under way"));
    PB(AgentState) *degraded = agent_state(AGENT, PBE(POSTURE__POSTURE_DEGRADED));
    degraded->revision = 3;
    (void)status_add_agent(&m, degraded);
    assert_false(drill_red_begin(&m, AGENT, text, sizeof text));
    assert_non_null(strstr(text, "DEGRADED"));
    PB(AgentState) *back = agent_state(AGENT, PBE(POSTURE__POSTURE_NORMAL));
    back->revision = 4;
    (void)status_add_agent(&m, back);
    assert_true(drill_red_begin(&m, AGENT, text, sizeof text));
    (void)status_add_agent(&m, agent_state("b", PBE(POSTURE__POSTURE_DEGRADED))); /* another agent is not well */
    assert_false(drill_red_begin(&m, AGENT, text, sizeof text));

    status_clear_instances(&m);
    for (size_t i = 1; i < status_services_n; i++)
        status_add_instance(&m, stats(status_services[i]));
    assert_true(drill_red_services(was, &m, text, sizeof text));
    assert_non_null(strstr(text, status_services[0]));
    was[0] = 0; /* it was not there before either */
    assert_false(drill_red_services(was, &m, text, sizeof text));
    status_free(&m);
}

static void every_drill_has_its_failure(void **state)
{
    (void)state;
    unsigned seen = 0;
    for (size_t i = 0; i < drill_kinds_n; i++) {
        assert_ptr_equal(drill_kind(drill_kinds[i].name), &drill_kinds[i]);
        assert_false(seen >> drill_kinds[i].failure & 1);
        seen |= 1u << drill_kinds[i].failure;
    }
    assert_int_equal(drill_kinds_n, 6);
    assert_null(drill_kind("dance"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_action_is_accounted_for),
        cmocka_unit_test(those_that_waited_come_in_order),
        cmocka_unit_test(other_messages_are_nothing_to_it),
        cmocka_unit_test(verdicts_and_breakers),
        cmocka_unit_test(other_agents),
        cmocka_unit_test(alerts),
        cmocka_unit_test(incidents),
        cmocka_unit_test(it_begins_only_when_all_is_well),
        cmocka_unit_test(every_drill_has_its_failure),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
