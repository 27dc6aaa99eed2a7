/* test_continuity_sight.c - what messages mean: every position of an agent, every state of a target, every phase of a rollback; order, repeats, time, drills. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "continuity/continuity_sight.h"

#define E(x) REDOUBT__V1__##x
#define NOW  INT64_C(1764000000000)

enum { DIMENSIONS = SIGNAL_DIMENSIONS, TOLD_MAX = 64 };
static struct {
    struct signal s;
    char subject[160], cause[160];
} told[TOLD_MAX];
static size_t n_told;

static void on_signal(void *ctx, const struct signal *s)
{
    (void)ctx;
    assert_true(n_told < TOLD_MAX);
    told[n_told].s = *s;
    snprintf(told[n_told].subject, sizeof told[0].subject, "%s", s->subject);
    snprintf(told[n_told].cause, sizeof told[0].cause, "%s", s->cause);
    n_told++;
}

static const struct sight_time at_now = {.now_ms = NOW, .offset_ms = 0};
static const struct sight_agent settings = {.llm = "llm.openai.gpt-4o", .backend = "backend.main"};

struct position {
    PB(Directive) d;
    PB(AgentState) s;
};

static struct position *normal(struct position *p, uint64_t epoch)
{
    p->s = (PB(AgentState))PB_INIT(AGENT_STATE);
    p->d = (PB(Directive))PB_INIT(DIRECTIVE);
    p->d.state = &p->s;
    p->s.agent = (char *)"mcp";
    p->s.epoch = epoch;
    p->s.backend = E(BACKEND_MODE__BACKEND_MODE_UP);
    p->s.automation = E(AUTOMATION_MODE__AUTOMATION_MODE_ENABLED);
    p->s.resources = E(RESOURCE_MODE__RESOURCE_MODE_OK);
    p->s.link = E(LINK_MODE__LINK_MODE_UP);
    p->d.issued_unix_ms = NOW - 100;
    p->s.since_unix_ms = NOW - 200;
    return p;
}

static void give(struct sight *x, struct position *p)
{
    n_told = 0;
    assert_true(sight_directive(x, &p->d, &settings, &at_now, on_signal, NULL));
}

static const struct signal *of(enum signal_dimension d)
{
    for (size_t i = 0; i < n_told; i++)
        if (told[i].s.dimension == d)
            return &told[i].s;
    return NULL;
}

/* By the words of the contract, written down a second time. */
static unsigned expected(const PB(AgentState) * s, enum signal_dimension d)
{
    switch (d) {
    case SIGNAL_LLM:
        if (s->llm_waiting || s->llm_index == -1)
            return CONDITION_LLM + CONDITION_DEGRADED;
        return s->llm_index > 0 ? CONDITION_LLM : 0;
    case SIGNAL_BACKEND:
        return s->backend == 2 || s->backend == 3 ? CONDITION_DEGRADED : 0;
    case SIGNAL_AUTOMATION:
        return s->automation == 2 ? CONDITION_FULL : 0;
    case SIGNAL_RESOURCES:
        return s->resources == 2 || s->resources == 3 ? CONDITION_DEGRADED : 0;
    case SIGNAL_LINK:
        return s->link == 3 ? CONDITION_FULL : s->link == 2 || s->link == 4 ? CONDITION_DEGRADED : 0;
    default:
        return 0;
    }
}

static void test_every_position(void **state)
{
    (void)state;
    size_t positions = 0;
    for (int llm = -1; llm <= 2; llm++)
        for (int waiting = 0; waiting < 2; waiting++)
            for (int backend = 0; backend <= 3; backend++)
                for (int automation = 0; automation <= 2; automation++)
                    for (int resources = 0; resources <= 3; resources++)
                        for (int link = 0; link <= 4; link++) {
                            struct sight *x = sight_new();
                            struct position p, n;
                            normal(&p, 7);
                            p.s.llm_index = llm;
                            p.s.llm_waiting = waiting;
                            p.s.backend = (Redoubt__V1__BackendMode)backend;
                            p.s.automation = (Redoubt__V1__AutomationMode)automation;
                            p.s.resources = (Redoubt__V1__ResourceMode)resources;
                            p.s.link = (Redoubt__V1__LinkMode)link;
                            give(x, &p);
                            size_t raised = 0;
                            for (int d = 0; d < DIMENSIONS; d++) {
                                unsigned is = expected(&p.s, (enum signal_dimension)d);
                                const struct signal *s = of((enum signal_dimension)d);
                                assert_int_equal(s ? s->condition : 0, is);
                                raised += is != 0;
                            }
                            assert_int_equal(n_told, raised);
                            /* Said again it is no news. */
                            give(x, &p);
                            assert_int_equal(n_told, 0);
                            /* What holds can be told to who comes later. */
                            sight_each(x, on_signal, NULL);
                            assert_int_equal(n_told, raised);
                            n_told = 0;
                            sight_each_of(x, "mcp", on_signal, NULL);
                            assert_int_equal(n_told, raised);
                            /* Back to normal clears each, once. */
                            give(x, normal(&n, 8));
                            assert_int_equal(n_told, raised);
                            for (size_t i = 0; i < n_told; i++)
                                assert_int_equal(told[i].s.condition, 0);
                            n_told = 0;
                            sight_each(x, on_signal, NULL);
                            assert_int_equal(n_told, 0);
                            sight_free(x);
                            positions++;
                        }
    assert_int_equal(positions, 4 * 2 * 4 * 3 * 4 * 5);
}

static void test_kinds_and_causes(void **state)
{
    (void)state;
    struct sight *x = sight_new();
    struct position p;
    normal(&p, 1);
    p.s.llm_index = 1;
    p.s.backend = E(BACKEND_MODE__BACKEND_MODE_DEGRADED);
    p.s.automation = E(AUTOMATION_MODE__AUTOMATION_MODE_FROZEN);
    p.s.resources = E(RESOURCE_MODE__RESOURCE_MODE_SHEDDING);
    p.s.link = E(LINK_MODE__LINK_MODE_RESTRICTED);
    p.d.cause = (char *)"llm.anthropic.claude"; /* whatever has moved it last */
    give(x, &p);
    assert_int_equal(n_told, 5);
    assert_string_equal(told[0].cause, "llm.openai.gpt-4o");
    assert_string_equal(told[1].cause, "backend.main");
    for (size_t i = 2; i < 5; i++)
        assert_string_equal(told[i].cause, "");
    const int kinds[] = {E(FAILURE_KIND__FAILURE_KIND_LLM_OUTAGE), E(FAILURE_KIND__FAILURE_KIND_BACKEND_FAILURE),
                         E(FAILURE_KIND__FAILURE_KIND_LOGIC_ERROR), E(FAILURE_KIND__FAILURE_KIND_RESOURCE_EXHAUSTION),
                         E(FAILURE_KIND__FAILURE_KIND_NETWORK)};
    const int severities[] = {2, 3, 4, 3, 3};
    for (size_t i = 0; i < 5; i++) {
        assert_int_equal(told[i].s.failure, kinds[i]);
        assert_int_equal(told[i].s.severity, severities[i]);
        assert_string_equal(told[i].subject, "mcp");
        assert_true(*told[i].s.summary);
    }
    /* Gone, and on its way back it is still the same failure; no LLM at all is another condition of the same cause. */
    p.s.epoch = 2;
    p.s.link = E(LINK_MODE__LINK_MODE_GONE);
    p.s.llm_index = -1;
    give(x, &p);
    assert_int_equal(n_told, 2);
    assert_int_equal(of(SIGNAL_LINK)->failure, E(FAILURE_KIND__FAILURE_KIND_AGENT_DOWN));
    assert_int_equal(of(SIGNAL_LINK)->condition, CONDITION_FULL);
    assert_int_equal(of(SIGNAL_LLM)->condition, CONDITION_LLM | CONDITION_DEGRADED);
    assert_string_equal(told[0].cause, "llm.openai.gpt-4o");
    p.s.epoch = 3;
    p.s.link = E(LINK_MODE__LINK_MODE_RETURNING);
    give(x, &p);
    assert_int_equal(n_told, 1);
    assert_int_equal(told[0].s.failure, E(FAILURE_KIND__FAILURE_KIND_AGENT_DOWN));
    assert_int_equal(told[0].s.condition, CONDITION_DEGRADED);
    sight_free(x);
    /* Frozen for what the freeze says; settings that know nothing leave the message's cause. */
    x = sight_new();
    struct sight_agent unknown = {.llm = "", .backend = ""};
    normal(&p, 1);
    p.s.automation = E(AUTOMATION_MODE__AUTOMATION_MODE_FROZEN);
    p.s.llm_index = 2;
    p.d.step = E(STEP__STEP_FREEZE);
    p.d.failure_kind = E(FAILURE_KIND__FAILURE_KIND_AGENT_DOWN);
    p.d.cause = (char *)"llm.local.small";
    n_told = 0;
    assert_true(sight_directive(x, &p.d, &unknown, &at_now, on_signal, NULL));
    assert_int_equal(of(SIGNAL_AUTOMATION)->failure, E(FAILURE_KIND__FAILURE_KIND_AGENT_DOWN));
    assert_string_equal(told[0].cause, "llm.local.small");
    sight_free(x);
}

static void test_order(void **state)
{
    (void)state;
    struct sight *x = sight_new();
    struct position p;
    normal(&p, 10);
    p.s.llm_index = 1;
    give(x, &p);
    assert_int_equal(n_told, 1);
    give(x, normal(&p, 9)); /* an older one comes late */
    assert_int_equal(n_told, 0);
    n_told = 0;
    sight_each(x, on_signal, NULL);
    assert_int_equal(n_told, 1);
    sight_free(x);
}

static void test_time(void **state)
{
    (void)state;
    static const struct {
        int64_t evidence, issued, offset, expected;
    } rows[] = {
        {NOW - 5000, NOW - 100, 0, NOW - 5000},
        {NOW + 60000, NOW - 100, 0, NOW},                    /* never after now */
        {NOW - 5000, NOW - 100, 86400000, NOW},              /* the wall clock was put back by a day */
        {NOW - 5000 + 86400000, NOW, -86400000, NOW - 5000}, /* it was put forward by a day */
        {1, NOW - 100, 0, NOW - INT64_C(366) * 86400000},    /* nonsense is bounded */
        {0, NOW - 100, 0, NOW - 200},                        /* since, if there is no evidence */
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct sight *x = sight_new();
        struct sight_time t = {.now_ms = NOW, .offset_ms = rows[i].offset};
        struct position p;
        normal(&p, 1);
        p.s.backend = E(BACKEND_MODE__BACKEND_MODE_DEGRADED);
        p.s.evidence_unix_ms = rows[i].evidence;
        p.d.issued_unix_ms = rows[i].issued;
        n_told = 0;
        assert_true(sight_directive(x, &p.d, &settings, &t, on_signal, NULL));
        assert_int_equal(told[0].s.at_ms, rows[i].expected);
        sight_free(x);
    }
    /* A second dimension has a time of its own. */
    struct sight *x = sight_new();
    struct position p;
    normal(&p, 1);
    p.s.llm_index = 1;
    p.s.evidence_unix_ms = NOW - 50000;
    give(x, &p);
    assert_int_equal(told[0].s.at_ms, NOW - 50000);
    p.s.epoch = 2;
    p.s.link = E(LINK_MODE__LINK_MODE_GONE);
    p.s.link_since_unix_ms = NOW - 3000;
    p.s.backend = E(BACKEND_MODE__BACKEND_MODE_DEGRADED);
    give(x, &p);
    assert_int_equal(of(SIGNAL_LINK)->at_ms, NOW - 3000);
    assert_int_equal(of(SIGNAL_BACKEND)->at_ms, NOW - 100);
    sight_free(x);
    /* Seen for the first time with both: what the message tells apart is told apart, the rest has the first evidence. */
    x = sight_new();
    give(x, &p);
    assert_int_equal(of(SIGNAL_LINK)->at_ms, NOW - 3000);
    assert_int_equal(of(SIGNAL_LLM)->at_ms, NOW - 50000);
    assert_int_equal(of(SIGNAL_BACKEND)->at_ms, NOW - 50000);
    assert_int_equal(sight_agent_changed(x, "mcp"), NOW - 100);
    assert_int_equal(sight_agent_changed(x, "nobody"), 0);
    sight_free(x);
}

static void test_drills(void **state)
{
    (void)state;
    struct sight *x = sight_new();
    struct position p;
    normal(&p, 1);
    p.s.llm_index = 1;
    p.s.drill_failure = E(FAILURE_KIND__FAILURE_KIND_LLM_OUTAGE);
    give(x, &p);
    assert_true(told[0].s.drill);
    p.s.epoch = 2;
    p.s.backend = E(BACKEND_MODE__BACKEND_MODE_DEGRADED); /* that is real */
    give(x, &p);
    assert_int_equal(n_told, 1);
    assert_false(told[0].s.drill);
    p.s.epoch = 3; /* the drill is over, and it is not back yet */
    p.s.drill_failure = 0;
    p.s.drill_was = E(FAILURE_KIND__FAILURE_KIND_LLM_OUTAGE);
    give(x, &p);
    assert_int_equal(n_told, 0);
    p.s.epoch = 4; /* it is real now */
    p.s.drill_was = 0;
    give(x, &p);
    assert_int_equal(n_told, 1);
    assert_int_equal(told[0].s.dimension, SIGNAL_LLM);
    assert_false(told[0].s.drill);
    sight_free(x);
}

/* ---- targets ---- */

static void health(struct sight *x, int state, uint64_t epoch, enum sight_target kind, const char *parent)
{
    PB(HealthChanged) h = PB_INIT(HEALTH_CHANGED);
    h.target = (char *)"llm.openai.gpt-4o";
    h.epoch = epoch;
    h.state = (Redoubt__V1__HealthState)state;
    h.since_unix_ms = NOW - 9000;
    h.changed_unix_ms = NOW - 1000;
    h.suppressed_by = (char *)parent;
    n_told = 0;
    assert_true(sight_health(x, &h, kind, &at_now, on_signal, NULL));
}

static void breaker(struct sight *x, int state, uint64_t epoch, enum sight_target kind)
{
    PB(BreakerChanged) b = PB_INIT(BREAKER_CHANGED);
    b.target = (char *)"llm.openai.gpt-4o";
    b.epoch = epoch;
    b.state = (Redoubt__V1__BreakerState)state;
    b.evidence_unix_ms = NOW - 4000;
    b.since_unix_ms = NOW - 3000;
    b.changed_unix_ms = NOW - 500;
    n_told = 0;
    assert_true(sight_breaker(x, &b, kind, &at_now, on_signal, NULL));
}

static void test_targets(void **state)
{
    (void)state;
    /* Every state of both, from well and from ill. -1: it stays as it was. */
    static const int by_health[] = {-1 /* unspecified is refused before */, -1, 0, 0, 1, -1, 0};
    static const int by_breaker[] = {-1, 0, 1, 1, 1, 0, 0, 0};
    for (int was = 0; was < 2; was++)
        for (int h = 1; h <= 6; h++)
            for (int b = 1; b <= 7; b++) {
                struct sight *x = sight_new();
                health(x, was ? 4 : 2, 1, SIGHT_TARGET_LLM, "");
                breaker(x, 1, 1, SIGHT_TARGET_LLM);
                health(x, h, 2, SIGHT_TARGET_LLM, "");
                int ill = by_health[h] < 0 ? was : by_health[h];
                breaker(x, b, 2, SIGHT_TARGET_LLM);
                n_told = 0;
                sight_each(x, on_signal, NULL);
                assert_int_equal(n_told, ill || by_breaker[b] ? 1 : 0);
                sight_free(x);
            }
    struct sight *x = sight_new();
    breaker(x, 2, 5, SIGHT_TARGET_LLM);
    assert_int_equal(n_told, 1);
    assert_int_equal(told[0].s.dimension, SIGNAL_TARGET);
    assert_int_equal(told[0].s.condition, CONDITION_LLM);
    assert_int_equal(told[0].s.failure, E(FAILURE_KIND__FAILURE_KIND_LLM_OUTAGE));
    assert_int_equal(told[0].s.at_ms, NOW - 4000);
    assert_string_equal(told[0].cause, "llm.openai.gpt-4o");
    health(x, 4, 5, SIGHT_TARGET_LLM, ""); /* the watchers agree: no news */
    assert_int_equal(n_told, 0);
    breaker(x, 1, 4, SIGHT_TARGET_LLM); /* an older one */
    assert_int_equal(n_told, 0);
    breaker(x, 1, 6, SIGHT_TARGET_LLM);
    assert_int_equal(n_told, 0); /* it is ill still */
    health(x, 2, 6, SIGHT_TARGET_LLM, "");
    assert_int_equal(n_told, 1);
    assert_int_equal(told[0].s.condition, 0);
    assert_string_equal(told[0].cause, "llm.openai.gpt-4o");
    health(x, 4, 7, SIGHT_TARGET_BACKEND, "gateway.eu");
    assert_string_equal(told[0].cause, "gateway.eu");
    assert_int_equal(told[0].s.condition, CONDITION_DEGRADED);
    sight_free(x);
    x = sight_new();
    health(x, 4, 1, SIGHT_TARGET_OTHER, ""); /* nobody's LLM and nobody's backend */
    assert_int_equal(n_told, 0);
    health(x, 4, 1, SIGHT_TARGET_BACKEND, ""); /* the settings have changed: the same message says more now */
    assert_int_equal(n_told, 1);
    sight_free(x);
}

static void test_judgement(void **state)
{
    (void)state;
    struct sight *x = sight_new();
    struct position p;
    assert_null(sight_agent_ill(x, "mcp", NOW));
    normal(&p, 3);
    p.d.ack_within_ms = 1000;
    give(x, &p);
    assert_non_null(sight_agent_ill(x, "mcp", NOW));    /* not confirmed yet */
    assert_null(sight_agent_ill(x, "mcp", NOW + 1000)); /* then its link would say so */
    PB(DirectiveAck) k = PB_INIT(DIRECTIVE_ACK);
    k.agent = (char *)"mcp";
    k.epoch = 3;
    k.status = E(ACK_STATUS__ACK_STATUS_FAILED);
    assert_true(sight_ack(x, &k));
    assert_non_null(sight_agent_ill(x, "mcp", NOW));
    k.status = E(ACK_STATUS__ACK_STATUS_APPLIED);
    assert_true(sight_ack(x, &k));
    assert_null(sight_agent_ill(x, "mcp", NOW));
    PB(HealthChanged) h = PB_INIT(HEALTH_CHANGED);
    h.target = (char *)"agent.mcp.logic";
    h.epoch = 1;
    h.state = E(HEALTH_STATE__HEALTH_STATE_UNHEALTHY);
    n_told = 0;
    assert_true(sight_health(x, &h, SIGHT_TARGET_OTHER, &at_now, on_signal, NULL));
    assert_int_equal(n_told, 0);
    assert_non_null(sight_agent_ill(x, "mcp", NOW));
    h.epoch = 2;
    h.state = E(HEALTH_STATE__HEALTH_STATE_HEALTHY);
    assert_true(sight_health(x, &h, SIGHT_TARGET_OTHER, &at_now, on_signal, NULL));
    h.epoch = 1; /* late */
    h.state = E(HEALTH_STATE__HEALTH_STATE_UNHEALTHY);
    assert_true(sight_health(x, &h, SIGHT_TARGET_OTHER, &at_now, on_signal, NULL));
    assert_null(sight_agent_ill(x, "mcp", NOW));
    p.s.epoch = 4;
    p.s.link = E(LINK_MODE__LINK_MODE_RESTRICTED);
    give(x, &p);
    k.epoch = 4;
    assert_true(sight_ack(x, &k));
    assert_non_null(sight_agent_ill(x, "mcp", NOW));
    sight_free(x);
}

/* ---- learning data ---- */

static void test_rollbacks(void **state)
{
    (void)state;
    uint64_t epoch = 0;
    for (int phase = 1; phase <= 13; phase++)
        for (int op = 0; op <= 11; op++)
            for (int replaced = 0; replaced < 2; replaced++) {
                struct sight *x = sight_new();
                PB(RollbackChanged) r = PB_INIT(ROLLBACK_CHANGED);
                r.deployment = (char *)"mcp";
                r.epoch = ++epoch;
                r.phase = (Redoubt__V1__RollbackPhase)phase;
                r.op = (Redoubt__V1__RollbackOp)op;
                r.data_replaced = replaced;
                r.op_since_unix_ms = NOW - 700;
                r.phase_since_unix_ms = NOW - 900;
                n_told = 0;
                assert_true(sight_rollback(x, &r, &at_now, on_signal, NULL));
                bool ended = phase == 8 || phase == 10 || phase == 12 || phase == 13;
                bool raised = !ended && (replaced || op == 3);
                assert_int_equal(n_told, raised ? 1 : 0);
                if (raised) {
                    assert_int_equal(told[0].s.dimension, SIGNAL_DATA);
                    assert_int_equal(told[0].s.at_ms, op == 3 ? NOW - 700 : NOW - 900);
                    r.epoch = ++epoch;
                    r.phase = E(ROLLBACK_PHASE__ROLLBACK_PHASE_DONE);
                    n_told = 0;
                    assert_true(sight_rollback(x, &r, &at_now, on_signal, NULL));
                    assert_int_equal(n_told, 1);
                    assert_int_equal(told[0].s.condition, 0);
                }
                sight_free(x);
            }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_position), cmocka_unit_test(test_kinds_and_causes),
        cmocka_unit_test(test_order),          cmocka_unit_test(test_time),
        cmocka_unit_test(test_drills),         cmocka_unit_test(test_targets),
        cmocka_unit_test(test_judgement),      cmocka_unit_test(test_rollbacks),
    };
    return cmocka_run_group_tests_name("continuity_sight", tests, NULL, NULL);
}
