/* test_fallback_several.c - several failures at once, basic monitoring, fences, and what documents and directives say. */
#include "fallback_world.h"

/* ---- every set of failures, ended in every order ---- */

enum { LLM, BACKEND, FREEZE, RESOURCES, LINK, GONE, HAPPENINGS };

static void happen(struct world *w, int what)
{
    switch (what) {
    case LLM:
        for (int i = 0; i < N; i++)
            breaker(w, &w->llm[i], FALLBACK_BREAKER_OPEN, 0);
        break;
    case BACKEND:
        breaker(w, &w->backend, FALLBACK_BREAKER_OPEN, 0);
        break;
    case FREEZE:
        judge(w, &w->judgement, FALLBACK_HEALTH_UNHEALTHY, FALLBACK_FAILURE_LOGIC);
        break;
    case RESOURCES:
        judge(w, &w->resources, FALLBACK_HEALTH_UNHEALTHY, FALLBACK_FAILURE_RESOURCE);
        break;
    case LINK:
    case GONE:
        judge(w, &w->verdict, FALLBACK_HEALTH_UNHEALTHY,
              what == GONE ? FALLBACK_FAILURE_AGENT_DOWN : FALLBACK_FAILURE_NETWORK);
        break;
    }
    look(w);
    ack(w);
}

static void end(struct world *w, int what)
{
    w->now += 10;
    switch (what) {
    case LLM:
        for (int i = 0; i < N; i++)
            breaker(w, &w->llm[i], FALLBACK_BREAKER_CLOSED, 100);
        break;
    case BACKEND:
        breaker(w, &w->backend, FALLBACK_BREAKER_CLOSED, 100);
        break;
    case FREEZE:
        judge(w, &w->judgement, FALLBACK_HEALTH_HEALTHY, 0);
        give(w, (struct fallback_event){.kind = FALLBACK_UNFREEZE, .by = "eve", .detail = "fixed"});
        break;
    case RESOURCES:
        judge(w, &w->resources, FALLBACK_HEALTH_HEALTHY, 0);
        break;
    case LINK:
    case GONE:
        judge(w, &w->verdict, FALLBACK_HEALTH_HEALTHY, 0);
        break;
    }
    for (int i = 0; i < 60; i++) { /* as long as any way back takes */
        if (w->f.run.calling)
            called(w,
                   w->f.doc.override_mode == FALLBACK_OVERRIDE_RELEASING  ? FALLBACK_CALL_RELEASE
                   : w->f.doc.override_mode == FALLBACK_OVERRIDE_ACTIVE ? FALLBACK_CALL_RENEW
                                                                           : FALLBACK_CALL_ACTIVATE,
                   true);
        ack(w);
        wait_ms(w, 50);
    }
}

static const struct {
    int posture, failure;
} asked[HAPPENINGS] = {
    [LLM] = {FALLBACK_SECURITY, FALLBACK_FAILURE_LLM},        [BACKEND] = {FALLBACK_DEGRADED, FALLBACK_FAILURE_BACKEND},
    [FREEZE] = {FALLBACK_FROZEN, FALLBACK_FAILURE_LOGIC},     [RESOURCES] = {FALLBACK_RECOVERING, FALLBACK_FAILURE_RESOURCE},
    [LINK] = {FALLBACK_DEGRADED, FALLBACK_FAILURE_NETWORK},   [GONE] = {FALLBACK_DEGRADED, FALLBACK_FAILURE_AGENT_DOWN},
};

/* What holds now is what the document says, and no more. */
static void check_standing(const struct world *w, const bool there[static HAPPENINGS])
{
    int p = FALLBACK_NORMAL;
    bool said = false, any = false;
    for (int i = 0; i < HAPPENINGS; i++)
        if (there[i] && asked[i].posture > p)
            p = asked[i].posture;
    /* Resources may have been exhausted for longer than one step. */
    if (there[RESOURCES] && p == FALLBACK_RECOVERING && w->f.doc.posture == FALLBACK_DEGRADED)
        p = FALLBACK_DEGRADED;
    assert_int_equal(w->f.doc.posture, p);
    for (int i = 0; i < HAPPENINGS; i++) {
        any |= there[i];
        said |= there[i] && asked[i].failure == w->f.doc.failure;
    }
    assert_true(any ? said : w->f.doc.failure == FALLBACK_FAILURE_NONE);
    assert_int_equal(w->f.doc.llm_index, there[LLM] ? -1 : 0);
    assert_int_equal(w->f.doc.backend, there[BACKEND] ? FALLBACK_BACKEND_DEGRADED : FALLBACK_BACKEND_UP);
    assert_int_equal(w->f.doc.automation, there[FREEZE] ? FALLBACK_AUTOMATION_FROZEN : FALLBACK_AUTOMATION_ENABLED);
    assert_int_equal(w->f.doc.resources == FALLBACK_RESOURCES_OK, !there[RESOURCES]);
    assert_int_equal(w->f.doc.link, there[GONE]   ? FALLBACK_LINK_GONE
                                    : there[LINK] ? FALLBACK_LINK_RESTRICTED
                                                  : FALLBACK_LINK_UP);
}

/* The recovery of one leaves the others, in whatever order they go. */
static void every_set_in_every_turn(void **state)
{
    (void)state;
    for (unsigned set = 1; set < 1u << HAPPENINGS; set++) {
        if (set & 1u << LINK && set & 1u << GONE)
            continue; /* two verdicts of one watcher */
        for (int first = 0; first < HAPPENINGS; first++) {
            struct world w;
            bool there[HAPPENINGS] = {false};
            fresh(&w);
            w.rule.may_restart = false;
            judge(&w, &w.verdict, FALLBACK_HEALTH_HEALTHY, 0);
            for (int i = 0; i < HAPPENINGS; i++)
                if (set & 1u << i) {
                    there[i] = true;
                    happen(&w, i);
                }
            check_standing(&w, there);
            for (int i = 0; i < HAPPENINGS; i++) {
                int what = (first + i) % HAPPENINGS;
                if (!there[what])
                    continue;
                there[what] = false;
                end(&w, what);
                check_standing(&w, there);
            }
            assert_int_equal(w.f.doc.posture, FALLBACK_NORMAL);
            assert_int_equal(w.f.doc.open_alerts, 0);
            assert_int_equal(w.f.doc.override_mode, FALLBACK_OVERRIDE_OFF);
            assert_int_equal(w.f.doc.load_percent, 100);
            assert_int_equal(w.f.doc.monitor_interval_ms, 0);
        }
    }
}

static void reason_says_what_still_holds(void **state)
{
    (void)state;
    struct world w;
    fresh(&w);
    happen(&w, BACKEND);
    happen(&w, LLM);
    end(&w, BACKEND);
    assert_int_equal(w.f.doc.failure, FALLBACK_FAILURE_LLM);
    assert_string_equal(w.f.doc.cause, "llm.a");
    assert_non_null(strstr(w.f.doc.reason, "recovery successful: backend.x is in full use again; still: no LLM"));
    happen(&w, FREEZE);
    end(&w, LLM);
    assert_int_equal(w.f.doc.failure, FALLBACK_FAILURE_LOGIC);
    assert_non_null(strstr(w.f.doc.reason, "llm.a is usable again; still: frozen by health"));
}

/* ---- the backend ---- */

/* From each level of its way back: it fails, remains degraded, and says so; then the way is walked anew. */
static void a_recovery_that_fails_at_every_level(void **state)
{
    (void)state;
    static const uint32_t levels[] = {10, 25, 50, 100};
    for (int fails_at = 0; fails_at < 4; fails_at++) {
        struct world w;
        fresh(&w);
        happen(&w, BACKEND);
        w.now += 10;
        breaker(&w, &w.backend, FALLBACK_BREAKER_CLOSED, 100);
        for (int i = 0; i <= fails_at; i++) {
            look(&w);
            assert_int_equal(w.f.doc.ramp_percent, levels[i]);
            ack(&w);
            w.now += i < fails_at ? 100 : 1;
        }
        breaker(&w, &w.backend, FALLBACK_BREAKER_OPEN, 0);
        look(&w);
        assert_int_equal(w.f.doc.posture, FALLBACK_DEGRADED);
        assert_int_equal(w.f.doc.ramp_percent, 0);
        assert_non_null(strstr(w.f.doc.reason, "recovery failed"));
        assert_true(says(told(&w, FALLBACK_NOTICE_BACKEND, false), "remains in degraded mode"));
        end(&w, BACKEND);
        assert_int_equal(w.f.doc.posture, FALLBACK_NORMAL);
        assert_non_null(strstr(w.f.doc.reason, "recovery successful"));
    }
}

/* ---- fences ---- */

static size_t at(const struct world *w, enum fallback_effect_kind kind)
{
    for (size_t i = 0; i < w->n; i++)
        if (w->e[i].kind == kind)
            return i;
    return FALLBACK_EFFECTS_MAX;
}

static void every_freeze_is_fenced(void **state)
{
    (void)state;
    struct world w;
    fresh(&w);
    give(&w, (struct fallback_event){.kind = FALLBACK_FREEZE, .by = "eve", .detail = "why"});
    assert_int_equal(w.f.doc.frozen_epoch, w.f.doc.epoch);
    assert_int_equal(must(effect(&w, FALLBACK_FENCE))->epoch, w.f.doc.epoch);
    assert_true(at(&w, FALLBACK_FENCE) < at(&w, FALLBACK_ANSWER));
    uint64_t epoch = w.f.doc.epoch;
    /* Something else changes meanwhile; whoever asks again is answered behind a fence of the same epoch. */
    happen(&w, BACKEND);
    assert_true(w.f.doc.epoch > epoch);
    assert_null(effect(&w, FALLBACK_FENCE));
    give(&w, (struct fallback_event){.kind = FALLBACK_FREEZE, .by = "bob", .detail = "too"});
    assert_int_equal(must(effect(&w, FALLBACK_ANSWER))->answer, FALLBACK_ALREADY);
    assert_int_equal(must(effect(&w, FALLBACK_FENCE))->epoch, epoch);
    assert_true(at(&w, FALLBACK_FENCE) < at(&w, FALLBACK_ANSWER));
    give(&w, (struct fallback_event){.kind = FALLBACK_UNFREEZE, .by = "eve", .detail = "fixed"});
    assert_null(effect(&w, FALLBACK_FENCE));
    assert_int_equal(w.f.doc.frozen_epoch, epoch); /* what was asked for before stays held back */
    /* By itself, too. */
    happen(&w, FREEZE);
    assert_int_equal(w.f.doc.frozen_epoch, w.f.doc.epoch);
    /* Frozen by an older version, which did not say when. */
    fresh(&w);
    give(&w, (struct fallback_event){.kind = FALLBACK_FREEZE, .by = "eve", .detail = "why"});
    w.f.doc.frozen_epoch = 0;
    give(&w, (struct fallback_event){.kind = FALLBACK_FREEZE, .by = "bob", .detail = "too"});
    assert_int_equal(must(effect(&w, FALLBACK_FENCE))->epoch, w.f.doc.epoch);
    assert_non_null(effect(&w, FALLBACK_STORE));
}

static void an_unfreeze_says_how_it_was_tested(void **state)
{
    (void)state;
    static const char *const expected[2][2] = {{"no self-test is set: ", "without a self-test: "},
                                               {"after a passed self-test: ", "without a self-test: "}};
    for (int has = 0; has <= 1; has++)
        for (int waived = 0; waived <= 1; waived++) {
            struct world w;
            fresh(&w);
            w.rule.has_selftest = has;
            give(&w, (struct fallback_event){.kind = FALLBACK_FREEZE, .by = "eve", .detail = "why"});
            give(&w, (struct fallback_event){
                         .kind = FALLBACK_UNFREEZE, .by = "eve", .detail = "fixed", .waived = waived});
            const struct fallback_effect *r = NULL;
            for (size_t i = 0; i < w.n; i++)
                if (w.e[i].kind == FALLBACK_RECORD && strcmp(w.e[i].action, "agent.unfreeze") == 0)
                    r = &w.e[i];
            assert_true(says(r, expected[has][waived]));
            assert_true(must(r)->strict);
            assert_string_equal(must(r)->actor, "eve");
        }
}

/* ---- basic monitoring ---- */

static void monitoring(void **state)
{
    (void)state;
    for (int i = 0; i < HAPPENINGS; i++) {
        struct world w;
        fresh(&w);
        judge(&w, &w.verdict, FALLBACK_HEALTH_HEALTHY, 0);
        struct fallback_event bad = {.kind = FALLBACK_MONITORED, .failed = true, .detail = "auth log: 40 failures"};
        give(&w, bad);
        assert_null(effect(&w, FALLBACK_STORE)); /* nobody asked for it */
        happen(&w, i);
        bool asks = asked[i].posture >= FALLBACK_DEGRADED;
        assert_int_equal(w.f.doc.monitor_interval_ms, asks ? 60000 : 0);
        give(&w, bad);
        assert_int_equal(says(told(&w, FALLBACK_NOTICE_MONITOR, false), "auth log: 40 failures"), asks);
        give(&w, bad);
        assert_null(effect(&w, FALLBACK_TELL));
        if (!asks)
            continue;
        give(&w, (struct fallback_event){.kind = FALLBACK_MONITORED});
        assert_non_null(told(&w, FALLBACK_NOTICE_MONITOR, true));
        give(&w, (struct fallback_event){.kind = FALLBACK_MONITORED});
        assert_null(effect(&w, FALLBACK_STORE));
        give(&w, bad);
        end(&w, i); /* works in full again: nobody monitors, nothing stays open */
        assert_int_equal(w.f.doc.monitor_interval_ms, 0);
        assert_int_equal(w.f.doc.open_alerts, 0);
    }
}

/* ---- invariants ---- */

static void broken_documents_are_told(void **state)
{
    (void)state;
    struct world w;
    fresh(&w);
    const struct fallback_doc good = w.f.doc;
    assert_null(fallback_invariant(&good));
#define BROKEN(change)                                                                                               \
    do {                                                                                                             \
        struct fallback_doc d = good;                                                                                \
        change;                                                                                                      \
        assert_non_null(fallback_invariant(&d));                                                                     \
    } while (0)
    BROKEN(d.epoch = 0);
    BROKEN(d.load_percent = 50);
    BROKEN(d.load_percent = d.shed_percent = 50);
    BROKEN(d.load_percent = d.return_percent = 50);
    BROKEN(d.shed_percent = 0);
    BROKEN(d.return_percent = 101);
    BROKEN(d.resources = 0);
    BROKEN(d.resources = FALLBACK_RESOURCES_RESTARTING);
    BROKEN(d.link = 5);
    BROKEN(d.link = FALLBACK_LINK_GONE); /* and the posture is NORMAL */
    BROKEN(d.restart_requested = true);
    BROKEN(strcpy(d.restart_id, "x"));
    BROKEN(d.n_restarts = FALLBACK_RESTARTS_MAX + 1);
    BROKEN(d.llm_waiting = true);
    BROKEN(strcpy(d.llm_wanted, "llm.b"));
    BROKEN(d.frozen_epoch = d.epoch + 1);
    BROKEN(d.drill_failure = FALLBACK_FAILURE_BACKEND);
    BROKEN(d.drill_until_ms = 1);
    BROKEN(strcpy(d.drill_by, "dan"));
    BROKEN(d.drill_failure = d.drill_was = FALLBACK_FAILURE_AGENT_DOWN + 1);
    BROKEN(d.drill_was = FALLBACK_FAILURE_BACKEND);
    BROKEN(d.drill_ended_ms = 1);
    BROKEN(d.drill_failure = FALLBACK_FAILURE_LOGIC; d.drill_until_ms = 1; strcpy(d.drill_by, "dan"));
    BROKEN(strcpy(d.rollback_id, "x"));
    BROKEN(d.open_alerts = 1u << FALLBACK_NOTICES);
    BROKEN(d.acked_epoch = d.epoch + 1);
    BROKEN(d.evidence_ms = 1);
#undef BROKEN
}

/* Events that nobody waits for, in every position: nothing changes, nothing breaks. */
static void stray_events(void **state)
{
    (void)state;
    static const enum fallback_event_kind stray[] = {FALLBACK_ACK,       FALLBACK_CALLED,  FALLBACK_RESTARTED,
                                                     FALLBACK_ROLLED,    FALLBACK_MONITORED, FALLBACK_RESYNC,
                                                     FALLBACK_LOADED,    FALLBACK_LOOK};
    for (int i = -1; i < HAPPENINGS; i++)
        for (size_t k = 0; k < sizeof stray / sizeof stray[0]; k++)
            for (int failed = 0; failed <= 1; failed++) {
                struct world w;
                fresh(&w);
                if (i >= 0)
                    happen(&w, i);
                if (w.f.run.calling)
                    called(&w, FALLBACK_CALL_ACTIVATE, true);
                uint64_t epoch = w.f.doc.epoch;
                int p = w.f.doc.posture;
                struct fallback_event ev = {.kind = stray[k], .failed = failed, .epoch = 12345, .key = "nobody's"};
                if (stray[k] == FALLBACK_MONITORED)
                    ev.failed = false;
                give(&w, ev);
                assert_int_equal(w.f.doc.epoch, epoch);
                assert_int_equal(w.f.doc.posture, p);
                assert_null(effect(&w, FALLBACK_STORE));
            }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_set_in_every_turn),
        cmocka_unit_test(reason_says_what_still_holds),
        cmocka_unit_test(a_recovery_that_fails_at_every_level),
        cmocka_unit_test(every_freeze_is_fenced),
        cmocka_unit_test(an_unfreeze_says_how_it_was_tested),
        cmocka_unit_test(monitoring),
        cmocka_unit_test(broken_documents_are_told),
        cmocka_unit_test(stray_events),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
