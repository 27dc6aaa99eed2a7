/* test_cli_status.c - what is normal and what is not: each single fault is one problem, and nothing else is. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "cli/status_model.h"
#include "cli/status_view.h"

#define PBE(x) REDOUBT__V1__##x

/* Messages of the model are freed by it, so they are made the way the bus makes them. */
static void *copy(const void *message)
{
    const ProtobufCMessage *m = message;
    uint8_t *data = malloc(protobuf_c_message_get_packed_size(m) + 1);
    size_t len = protobuf_c_message_pack(m, data);
    struct err e = {""};
    void *c = wire_unpack(m->descriptor, data, len, &e);
    if (!c)
        fail_msg("%s", e.text);
    free(data);
    return c;
}

static PB(HealthChanged) a_health(void)
{
    PB(HealthChanged) h = REDOUBT__V1__HEALTH_CHANGED__INIT;
    h.target = (char *)"llm.a";
    h.epoch = 5;
    h.state = PBE(HEALTH_STATE__HEALTH_STATE_HEALTHY);
    h.previous = PBE(HEALTH_STATE__HEALTH_STATE_UNKNOWN);
    h.observer = (char *)"host-health-0";
    h.reason = (char *)"answers";
    h.since_unix_ms = h.changed_unix_ms = 1000;
    return h;
}

static PB(BreakerChanged) a_breaker(void)
{
    PB(BreakerChanged) b = REDOUBT__V1__BREAKER_CHANGED__INIT;
    b.target = (char *)"llm.a";
    b.epoch = 5;
    b.state = PBE(BREAKER_STATE__BREAKER_STATE_CLOSED);
    b.previous = PBE(BREAKER_STATE__BREAKER_STATE_CLOSED);
    b.reason = PBE(BREAKER_REASON__BREAKER_REASON_INITIAL);
    b.ramp_percent = 100;
    b.since_unix_ms = b.changed_unix_ms = 1000;
    return b;
}

static PB(AgentState) an_agent(void)
{
    PB(AgentState) a = REDOUBT__V1__AGENT_STATE__INIT;
    a.agent = (char *)"guard-1";
    a.epoch = a.acked_epoch = 3;
    a.revision = 9;
    a.posture = PBE(POSTURE__POSTURE_NORMAL);
    a.llm_target = (char *)"llm.a";
    a.llm_model = (char *)"m";
    a.backend = PBE(BACKEND_MODE__BACKEND_MODE_UP);
    a.automation = PBE(AUTOMATION_MODE__AUTOMATION_MODE_ENABLED);
    a.override_mode = PBE(OVERRIDE_MODE__OVERRIDE_MODE_OFF);
    a.step = PBE(STEP__STEP_INITIAL);
    a.since_unix_ms = 1000;
    return a;
}

static PB(RollbackChanged) a_deployment(void)
{
    PB(RollbackChanged) r = REDOUBT__V1__ROLLBACK_CHANGED__INIT;
    r.deployment = (char *)"agent-1";
    r.epoch = 4;
    r.phase = PBE(ROLLBACK_PHASE__ROLLBACK_PHASE_IDLE);
    return r;
}

static PB(ContinuityStatus) a_standing(void)
{
    PB(ContinuityStatus) c = REDOUBT__V1__CONTINUITY_STATUS__INIT;
    c.at_unix_ms = 1000;
    c.leader = (char *)"host-continuity-0";
    return c;
}

static void add_services(struct status_model *s, const char *except)
{
    for (size_t i = 0; i < status_services_n; i++) {
        char name[64];
        snprintf(name, sizeof name, "redoubt-%s", status_services[i]);
        if (!except || strcmp(except, status_services[i]) != 0)
            status_add_instance(s, json_pack("{s:s, s:s, s:s, s:s}", "name", name, "id", "host-0", "version", "1.2.3",
                                             "started", "2026-01-31T09:00:00Z"));
    }
}

static char seen[8][512];
static size_t n_seen;

static void see(void *ctx, const char *text)
{
    (void)ctx;
    snprintf(seen[n_seen++ % 8], sizeof seen[0], "%s", text);
}

/* The model has exactly the problem that begins with `text`; NULL = none. */
static void expect(struct status_model *s, const char *text)
{
    n_seen = 0;
    size_t n = status_problems(s, see, NULL);
    assert_int_equal(n, n_seen);
    if (text ? n != 1 || !strstr(seen[0], text) : n != 0)
        fail_msg("%zu problems, expected `%s`; first: %s", n, text ? text : "none", n ? seen[0] : "");
    json_t *j = status_json(s);
    assert_int_equal(json_is_true(json_object_get(j, "normal")), !text);
    assert_int_equal(json_array_size(json_object_get(j, "problems")), n);
    json_decref(j);
    status_free(s);
}

static void build(struct status_model *s, const PB(HealthChanged) * h, const PB(BreakerChanged) * b,
                  const PB(AgentState) * a)
{
    *s = (struct status_model){0};
    add_services(s, NULL);
    status_add_health(s, copy(h));
    status_add_breaker(s, copy(b));
    status_add_agent(s, copy(a));
}

static void each_fault_is_one_problem(void **state)
{
    (void)state;
    struct status_model s;
    PB(HealthChanged) h = a_health();
    PB(BreakerChanged) b = a_breaker();
    PB(AgentState) a = an_agent();
    build(&s, &h, &b, &a);
    expect(&s, NULL);

    static const int bad_health[] = {
        PBE(HEALTH_STATE__HEALTH_STATE_UNKNOWN), PBE(HEALTH_STATE__HEALTH_STATE_DEGRADED),
        PBE(HEALTH_STATE__HEALTH_STATE_UNHEALTHY), PBE(HEALTH_STATE__HEALTH_STATE_FLAPPING)};
    for (size_t i = 0; i < 4; i++) {
        h.state = (Redoubt__V1__HealthState)bad_health[i];
        h.failure_kind = PBE(FAILURE_KIND__FAILURE_KIND_LLM_OUTAGE);
        build(&s, &h, &b, &a);
        expect(&s, "llm.a is");
    }
    h = a_health();
    h.state = PBE(HEALTH_STATE__HEALTH_STATE_MAINTENANCE);
    h.maintenance_until_unix_ms = 99999;
    build(&s, &h, &b, &a);
    expect(&s, NULL);
    h = a_health();

    for (int v = 1; v <= 7; v++) {
        b.state = (Redoubt__V1__BreakerState)v;
        build(&s, &h, &b, &a);
        bool fine =
            v == PBE(BREAKER_STATE__BREAKER_STATE_CLOSED) || v == PBE(BREAKER_STATE__BREAKER_STATE_METRICS_ONLY);
        expect(&s, fine ? NULL : "llm.a: breaker ");
    }
    b = a_breaker();

    for (int v = 2; v <= 6; v++) {
        a.posture = (Redoubt__V1__Posture)v;
        build(&s, &h, &b, &a);
        expect(&s, "agent guard-1 is in posture");
    }
    a = an_agent();
    a.acked_epoch = 2;
    build(&s, &h, &b, &a);
    expect(&s, "has not confirmed directive #3 (last: #2)");
    a = an_agent();
    a.override_mode = PBE(OVERRIDE_MODE__OVERRIDE_MODE_RELEASING);
    build(&s, &h, &b, &a);
    expect(&s, "override is RELEASING");

    for (size_t i = 0; i < status_services_n; i++) {
        a = an_agent();
        s = (struct status_model){0};
        add_services(&s, status_services[i]);
        status_add_health(&s, copy(&h));
        status_add_breaker(&s, copy(&b));
        status_add_agent(&s, copy(&a));
        /* Without a deployment nothing needs rollback. */
        PB(RollbackChanged) r = a_deployment();
        if (strcmp(status_services[i], "rollback") == 0) {
            assert_int_equal(status_problems(&s, NULL, NULL), 0);
            status_add_rollback(&s, copy(&r));
        }
        /* Continuity is missed where it has ever been. */
        PB(ContinuityStatus) k = a_standing();
        if (strcmp(status_services[i], "continuity") == 0) {
            assert_int_equal(status_problems(&s, NULL, NULL), 0);
            status_add_continuity(&s, copy(&k));
        }
        expect(&s, status_services[i]);
    }
}

/* An incident that is not over, a recovery point that is too old, a backup or a drill that fails. */
static void what_continuity_finds_is_a_problem(void **state)
{
    (void)state;
    struct status_model s = {0};
    PB(ContinuityStatus) k = a_standing();
    PB(IncidentLine) l = REDOUBT__V1__INCIDENT_LINE__INIT, *lines[1] = {&l};
    PB(ObjectiveStatus) o = REDOUBT__V1__OBJECTIVE_STATUS__INIT, *objectives[1] = {&o};
    PB(BackupState) b = REDOUBT__V1__BACKUP_STATE__INIT, *backups[1] = {&b};
    PB(DrillState) d = REDOUBT__V1__DRILL_STATE__INIT, *drills[1] = {&d};
    l.id = (char *)"i1";
    l.phase = PBE(INCIDENT_PHASE__INCIDENT_PHASE_LEARN);
    o.objective = (char *)"rto_full";
    o.verdict = PBE(OBJECTIVE_VERDICT__OBJECTIVE_VERDICT_BREACHED);
    b.source = (char *)"learning";
    b.kind = PBE(BACKUP_KIND__BACKUP_KIND_LEARNING);
    b.revision = 1;
    d.name = (char *)"saturday";
    k.worst = lines;
    k.objectives = objectives;
    k.backups = backups;
    k.drills = drills;
    k.n_worst = k.n_objectives = k.n_backups = k.n_drills = k.open_incidents = k.breached = 1;
    for (int fault = 0; fault < 6; fault++) {
        static const char *const expected[] = {NULL,
                                               "incident i1",
                                               "recovery point of the learning data is too old: 2 h",
                                               "backup learning: failed: no room",
                                               "backup learning: the last copy is empty",
                                               "drill saturday: FAILED: it took too long"};
        s = (struct status_model){0};
        add_services(&s, NULL);
        l.phase =
            fault == 1 ? PBE(INCIDENT_PHASE__INCIDENT_PHASE_RESPOND) : PBE(INCIDENT_PHASE__INCIDENT_PHASE_LEARN);
        o.objective = (char *)(fault == 2 ? "rpo_learning" : "rto_full");
        o.why = (char *)(fault == 2 ? "2 h" : "");
        b.error = (char *)(fault == 3 ? "no room" : "");
        b.suspicious = fault == 4;
        d.failures = fault == 5;
        d.result = (char *)(fault == 5 ? "it took too long" : "");
        assert_true(status_add_continuity(&s, copy(&k)));
        k.at_unix_ms--;
        assert_false(status_add_continuity(&s, copy(&k))); /* an older one */
        k.at_unix_ms += 2;
        assert_false(status_add_continuity(&s, copy(&k))); /* said again: no news */
        expect(&s, expected[fault]);
    }
}

static void what_nothing_is_known_of_is_a_problem(void **state)
{
    (void)state;
    struct status_model s = {0};
    add_services(&s, NULL);
    (void)status_target(&s, "llm.b");
    expect(&s, "llm.b: nothing is known");
    add_services(&s, NULL);
    (void)status_agent(&s, "guard-2");
    expect(&s, "agent guard-2: nothing is known");
}

static void newer_wins_in_any_order(void **state)
{
    (void)state;
    struct status_model s = {0};
    PB(HealthChanged) h = a_health();
    PB(BreakerChanged) b = a_breaker();
    PB(AgentState) a = an_agent();
    assert_true(status_add_health(&s, copy(&h)));
    assert_false(status_add_health(&s, copy(&h)));
    h.epoch = 4;
    assert_false(status_add_health(&s, copy(&h)));
    b.epoch = 5;
    assert_true(status_add_breaker(&s, copy(&b)));
    b.epoch = 6;
    assert_true(status_add_breaker(&s, copy(&b)));
    assert_true(status_add_agent(&s, copy(&a)));
    a.revision = 8; /* an older document, as a directive that was replayed holds it */
    a.epoch = a.acked_epoch = 2;
    assert_false(status_add_agent(&s, copy(&a)));
    assert_int_equal(s.agents[0].state->epoch, 3);
    assert_int_equal(s.n_targets, 1);
    status_free(&s);
}

static void names_are_in_order_and_strangers_out(void **state)
{
    (void)state;
    struct status_model s = {0};
    static const char *const names[] = {"m", "a", "z", "b", "m"};
    for (size_t i = 0; i < 5; i++)
        (void)status_target(&s, names[i]);
    assert_int_equal(s.n_targets, 4);
    for (size_t i = 1; i < s.n_targets; i++)
        assert_true(strcmp(s.targets[i - 1].name, s.targets[i].name) < 0);
    status_add_instance(&s, json_pack("{s:s, s:s}", "name", "somebody-else", "id", "x"));
    status_add_instance(&s, json_pack("{s:i}", "name", 3));
    status_add_instance(&s, json_array());
    assert_int_equal(s.n_instances, 0);
    status_free(&s);
}

static void views_show_what_there_is(void **state)
{
    (void)state;
    struct status_model s;
    PB(HealthChanged) h = a_health();
    PB(BreakerChanged) b = a_breaker();
    PB(AgentState) a = an_agent();
    h.reason = (char *)"\033[31mred";
    build(&s, &h, &b, &a);
    (void)status_agent(&s, "guard-2");
    (void)status_target(&s, "llm.b");
    char *text = NULL;
    size_t len = 0;
    FILE *f = open_memstream(&text, &len);
    struct term t = {.file = f};
    status_print(&s, &t, 61000);
    fclose(f);
    static const char *const expected[] = {"breaker   ", "1.2.3", "guard-1",  "NORMAL",          "#3",
                                           "1 min",      "100 %", "?[31mred", "2 open problems", "not known"};
    for (size_t i = 0; i < sizeof expected / sizeof expected[0]; i++)
        if (!strstr(text, expected[i]))
            fail_msg("`%s` is missing in:\n%s", expected[i], text);
    assert_null(strchr(text, '\033'));
    free(text);
    status_free(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_fault_is_one_problem),
        cmocka_unit_test(what_continuity_finds_is_a_problem),
        cmocka_unit_test(what_nothing_is_known_of_is_a_problem),
        cmocka_unit_test(newer_wins_in_any_order),
        cmocka_unit_test(names_are_in_order_and_strangers_out),
        cmocka_unit_test(views_show_what_there_is),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
