/* test_fallback_actions.c - what alerts say was done already: only what was. */
#include "fallback_world.h"

#define STEP 300

/* Of that alert among the last effects, as one text; "?" = it was not raised. */
static const char *done(const struct world *w, enum fallback_notice k, bool resolved)
{
    static char text[256];
    const char *actions[FALLBACK_ACTIONS_MAX];
    const struct fallback_effect *e = told(w, k, resolved);
    size_t n = e ? fallback_actions(e, &w->f.doc, actions) : 0, len = 0;
    snprintf(text, sizeof text, "%s", e ? "" : "?");
    for (size_t i = 0; i < n; i++)
        len += (size_t)snprintf(text + len, sizeof text - len, "%s%s", i ? " " : "", actions[i]);
    return text;
}
#define DONE(w, k, text) assert_string_equal(done(w, FALLBACK_NOTICE_##k, false), text)
#define OVER(w, k)       assert_string_equal(done(w, FALLBACK_NOTICE_##k, true), "")

static void another_llm(void **state)
{
    (void)state;
    struct world w;
    fresh(&w);
    breaker(&w, &w.llm[0], FALLBACK_BREAKER_OPEN, 0);
    look(&w);
    DONE(&w, BACKUP_LLM, "llm_switched");
    breaker(&w, &w.llm[0], FALLBACK_BREAKER_CLOSED, 100);
    wait_ms(&w, HOLD);
    OVER(&w, BACKUP_LLM);
    /* It waits for its turn: nothing was switched yet. */
    fresh(&w);
    w.view.intake[1] = FALLBACK_INTAKE_WAIT;
    w.view.intake[2] = FALLBACK_INTAKE_FULL;
    breaker(&w, &w.llm[0], FALLBACK_BREAKER_OPEN, 0);
    look(&w);
    DONE(&w, BACKUP_LLM, "llm_awaited");
    w.view.intake[1] = FALLBACK_INTAKE_OPEN;
    look(&w);
    DONE(&w, BACKUP_LLM, "llm_switched");
}

static void no_llm(void **state)
{
    (void)state;
    for (int monitored = 0; monitored <= 1; monitored++) {
        struct world w;
        fresh(&w);
        w.rule.monitor_interval_ms = monitored ? 60000 : 0;
        for (int i = 0; i < N; i++)
            breaker(&w, &w.llm[i], FALLBACK_BREAKER_OPEN, 0);
        look(&w);
        called(&w, FALLBACK_CALL_ACTIVATE, false);
        DONE(&w, SECURITY, monitored ? "increased_monitoring" : "");
        wait_ms(&w, 2000);
        called(&w, FALLBACK_CALL_ACTIVATE, true);
        DONE(&w, SECURITY, monitored ? "override_activated increased_monitoring" : "override_activated");
    }
}

static void no_backend_and_no_automation(void **state)
{
    (void)state;
    for (int monitored = 0; monitored <= 1; monitored++) {
        struct world w;
        fresh(&w);
        w.rule.monitor_interval_ms = monitored ? 60000 : 0;
        breaker(&w, &w.backend, FALLBACK_BREAKER_OPEN, 0);
        look(&w);
        DONE(&w, BACKEND, monitored ? "degraded_mode increased_monitoring" : "degraded_mode");
        give(&w, (struct fallback_event){.kind = FALLBACK_FREEZE, .by = "eve", .detail = "why"});
        DONE(&w, FROZEN, monitored ? "automation_frozen increased_monitoring" : "automation_frozen");
        give(&w, (struct fallback_event){.kind = FALLBACK_UNFREEZE, .by = "eve", .detail = "fixed"});
        OVER(&w, FROZEN);
    }
}

static void exhaust(struct world *w)
{
    fresh(w);
    judge(w, &w->resources, FALLBACK_HEALTH_UNHEALTHY, FALLBACK_FAILURE_RESOURCE);
}

static void no_resources(void **state)
{
    (void)state;
    static const char *const rungs[] = {"load_shed", "load_shed", "load_shed", "load_shed restart_requested",
                                        "load_shed restart_ordered"};
    struct world w;
    for (int allowed = 0; allowed <= 1; allowed++) {
        exhaust(&w);
        w.rule.may_restart = allowed;
        for (int i = 0; i < 4 + allowed; i++) {
            DONE(&w, RESOURCES, rungs[i]);
            ack(&w);
            if (i < 4)
                wait_ms(&w, STEP);
        }
        if (!allowed)
            DONE(&w, RESTART, "load_shed restart_requested");
    }
    struct fallback_event ev = {.kind = FALLBACK_RESTARTED, .failed = true, .detail = "exit 3"};
    snprintf(ev.key, sizeof ev.key, "%s", w.f.doc.restart_id);
    give(&w, ev);
    DONE(&w, RESTART, "load_shed restart_requested restart_tried");
}

static void no_link(void **state)
{
    (void)state;
    struct world w;
    fresh(&w);
    w.rule.rollback = FALLBACK_ROLLBACK_START;
    w.f.doc.epoch = w.f.doc.acked_epoch = 10; /* it has been there for long */
    judge(&w, &w.verdict, FALLBACK_HEALTH_UNHEALTHY, FALLBACK_FAILURE_NETWORK);
    DONE(&w, LINK, "restricted");
    give(&w, (struct fallback_event){.kind = FALLBACK_MONITORED, .failed = true, .detail = "not done"});
    DONE(&w, MONITOR, "monitoring_requested"); /* it may be the very thing that is not done */
    judge(&w, &w.verdict, FALLBACK_HEALTH_UNHEALTHY, FALLBACK_FAILURE_AGENT_DOWN);
    DONE(&w, DOWN, "restricted");
    OVER(&w, LINK);
    ack(&w);
    wait_ms(&w, 5000);
    struct fallback_event ev = {.kind = FALLBACK_ROLLED, .failed = true, .detail = "no verified version"};
    snprintf(ev.key, sizeof ev.key, "%s", w.f.doc.rollback_id);
    give(&w, ev);
    DONE(&w, ROLLBACK, "restricted rollback_tried");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(another_llm),  cmocka_unit_test(no_llm),  cmocka_unit_test(no_backend_and_no_automation),
        cmocka_unit_test(no_resources), cmocka_unit_test(no_link),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
