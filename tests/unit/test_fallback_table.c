/* test_fallback_table.c - the fallback decider, cell by cell: state x event, posture, ramp, override, notices. */
#include "fallback_world.h"

/* ---- posture ---- */

static int posture(int llm, int backend, int automation)
{
    return fallback_posture(&(struct fallback_doc){.llm_index = llm,
                                                   .backend = backend,
                                                   .automation = automation,
                                                   .resources = FALLBACK_RESOURCES_OK,
                                                   .link = FALLBACK_LINK_UP});
}

static void posture_is_the_strictest_asked_for(void **state)
{
    (void)state;
    for (int llm = -1; llm < 4; llm++)
        for (int b = FALLBACK_BACKEND_UP; b <= FALLBACK_BACKEND_RECOVERING; b++)
            for (int a = FALLBACK_AUTOMATION_ENABLED; a <= FALLBACK_AUTOMATION_FROZEN; a++) {
                int p = posture(llm, b, a);
                int expected = a == FALLBACK_AUTOMATION_FROZEN    ? FALLBACK_FROZEN
                               : llm < 0                          ? FALLBACK_SECURITY
                               : b == FALLBACK_BACKEND_DEGRADED   ? FALLBACK_DEGRADED
                               : b == FALLBACK_BACKEND_RECOVERING ? FALLBACK_RECOVERING
                               : llm > 0                          ? FALLBACK_BACKUP_LLM
                                                                  : FALLBACK_NORMAL;
                assert_int_equal(p, expected);
                /* One dimension more that asks never makes it looser. */
                assert_true(p >= posture(0, b, a));
                assert_true(p >= posture(llm, FALLBACK_BACKEND_UP, a));
                assert_true(p >= posture(llm, b, FALLBACK_AUTOMATION_ENABLED));
            }
}

/* ---- start ---- */

static void first_position(void **state)
{
    (void)state;
    struct world w;
    raw(&w); /* nothing was ever heard of any target */
    give(&w, (struct fallback_event){.kind = FALLBACK_START});
    assert_int_equal(w.f.doc.epoch, 1);
    assert_int_equal(w.f.doc.posture, FALLBACK_NORMAL);
    assert_int_equal(w.f.doc.step, FALLBACK_STEP_INITIAL);
    assert_string_equal(w.f.doc.llm_target, "llm.a");
    assert_non_null(effect(&w, FALLBACK_ISSUE));
    look(&w);
    assert_null(effect(&w, FALLBACK_STORE));
}

static void first_position_in_an_outage_is_the_strict_one(void **state)
{
    (void)state;
    struct world w;
    raw(&w);
    for (int i = 0; i < N; i++)
        breaker(&w, &w.llm[i], FALLBACK_BREAKER_OPEN, 0);
    breaker(&w, &w.backend, FALLBACK_BREAKER_OPEN, 0);
    give(&w, (struct fallback_event){.kind = FALLBACK_START});
    assert_int_equal(w.f.doc.epoch, 1);
    assert_int_equal(w.f.doc.step, FALLBACK_STEP_INITIAL);
    assert_int_equal(w.f.doc.posture, FALLBACK_SECURITY);
    assert_int_equal(w.f.doc.backend, FALLBACK_BACKEND_DEGRADED);
    assert_int_equal(w.f.doc.override_mode, FALLBACK_OVERRIDE_ACTIVATING);
}

/* ---- the LLM chain: breaker state of the present x of the next ---- */

static const struct {
    int state;
    uint32_t ramp;
    bool stays, enters, back; /* with rank 50 */
} breakers[] = {
    {FALLBACK_BREAKER_UNKNOWN, 0, true, true, false},        {FALLBACK_BREAKER_CLOSED, 100, true, true, true},
    {FALLBACK_BREAKER_OPEN, 0, false, false, false},         {FALLBACK_BREAKER_HALF_OPEN, 0, false, false, false},
    {FALLBACK_BREAKER_PROBATION, 10, true, false, false},    {FALLBACK_BREAKER_PROBATION, 50, true, false, false},
    {FALLBACK_BREAKER_PROBATION, 51, true, true, true},      {FALLBACK_BREAKER_FORCED_OPEN, 0, false, false, false},
    {FALLBACK_BREAKER_FORCED_CLOSED, 100, true, true, true}, {FALLBACK_BREAKER_METRICS_ONLY, 100, true, true, true},
};
enum { BREAKERS = sizeof breakers / sizeof breakers[0] };

static void set(struct world *w, struct fallback_target *t, int row)
{
    if (breakers[row].state == FALLBACK_BREAKER_UNKNOWN)
        *t = (struct fallback_target){0};
    else
        breaker(w, t, breakers[row].state, breakers[row].ramp);
}

static void chain_cells(void **state)
{
    (void)state;
    for (int loosen = 0; loosen <= 1; loosen++)
        for (int a = 0; a < BREAKERS; a++)
            for (int b = 0; b < BREAKERS; b++)
                for (int c = 0; c < BREAKERS; c++) {
                    struct world w;
                    fresh(&w);
                    w.view.may_loosen = loosen;
                    set(&w, &w.llm[0], a);
                    set(&w, &w.llm[1], b);
                    set(&w, &w.llm[2], c);
                    look(&w);
                    int expected = breakers[a].stays ? 0 : breakers[b].enters ? 1 : breakers[c].enters ? 2 : -1;
                    assert_int_equal(w.f.doc.llm_index, expected);
                    assert_int_equal(!effect(&w, FALLBACK_ISSUE), expected == 0);
                    if (expected == 0)
                        continue;
                    assert_int_equal(w.f.doc.epoch, 2);
                    assert_int_equal(w.f.doc.step, expected < 0 ? FALLBACK_STEP_SECURITY : FALLBACK_STEP_SWITCH_LLM);
                    assert_int_equal(w.f.doc.failure, FALLBACK_FAILURE_LLM);
                    assert_string_equal(w.f.doc.cause, "llm.a");
                    assert_int_equal(w.f.doc.evidence_ms, w.now - 7);
                    /* Again: nothing happens. */
                    look(&w);
                    assert_null(effect(&w, FALLBACK_STORE));
                }
}

/* From each position, with each state of a better one: nothing before the hold, and nothing that is not allowed. */
static void way_back_cells(void **state)
{
    (void)state;
    for (int at = -1; at <= 1; at += 2)
        for (int a = 0; a < BREAKERS; a++)
            for (int health = FALLBACK_HEALTH_UNHEARD; health <= FALLBACK_HEALTH_MAINTENANCE; health++) {
                struct world w;
                fresh(&w);
                breaker(&w, &w.llm[0], FALLBACK_BREAKER_OPEN, 0);
                if (at < 0) {
                    breaker(&w, &w.llm[1], FALLBACK_BREAKER_OPEN, 0);
                    breaker(&w, &w.llm[2], FALLBACK_BREAKER_OPEN, 0);
                }
                look(&w);
                ack(&w);
                assert_int_equal(w.f.doc.llm_index, at);
                w.now += 10;
                set(&w, &w.llm[0], a);
                if (health)
                    fallback_target_health(&w.llm[0], 1, health);
                look(&w);
                assert_int_equal(w.f.doc.llm_index, at);
                bool blocked = health == FALLBACK_HEALTH_UNHEALTHY || health == FALLBACK_HEALTH_FLAPPING;
                bool expected = breakers[a].back && !blocked;
                const struct fallback_effect *wake = effect(&w, FALLBACK_WAKE_AT);
                if (expected)
                    assert_true(wake && wake->at_ms <= w.now + HOLD);
                w.now += HOLD - 1;
                look(&w);
                assert_int_equal(w.f.doc.llm_index, at);
                w.now += 1;
                w.view.may_loosen = false;
                look(&w);
                assert_int_equal(w.f.doc.llm_index, at);
                w.view.may_loosen = true;
                look(&w);
                assert_int_equal(w.f.doc.llm_index, expected ? 0 : at);
                if (expected) {
                    assert_int_equal(w.f.doc.step, FALLBACK_STEP_RESTORE_LLM);
                    assert_int_equal(w.f.doc.posture, FALLBACK_NORMAL);
                    assert_int_equal(w.f.doc.evidence_ms, 0);
                }
            }
}

/* Calls that pass again start the hold; a ramp that ends in CLOSED does not start it anew, a relapse does. */
static void hold_runs_over_the_ramp(void **state)
{
    (void)state;
    struct world w;
    fresh(&w);
    breaker(&w, &w.llm[0], FALLBACK_BREAKER_OPEN, 0);
    look(&w);
    w.now += 10;
    int64_t well = w.now;
    breaker(&w, &w.llm[0], FALLBACK_BREAKER_PROBATION, 10);
    assert_int_equal(w.llm[0].well_since_ms, well);
    w.now += 600;
    breaker(&w, &w.llm[0], FALLBACK_BREAKER_PROBATION, 25);
    assert_int_equal(w.llm[0].well_since_ms, well);
    w.now += 600;
    look(&w);
    assert_int_equal(w.f.doc.llm_index, 1); /* held long enough, but the agent's rank is beyond the ramp */
    breaker(&w, &w.llm[0], FALLBACK_BREAKER_HALF_OPEN, 0);
    assert_int_equal(w.llm[0].well_since_ms, 0);
    w.now += 10;
    breaker(&w, &w.llm[0], FALLBACK_BREAKER_CLOSED, 100);
    look(&w);
    assert_int_equal(w.f.doc.llm_index, 1);
    w.now += HOLD;
    look(&w);
    assert_int_equal(w.f.doc.llm_index, 0);
    /* A recovery that fails falls back again at once. */
    breaker(&w, &w.llm[0], FALLBACK_BREAKER_OPEN, 0);
    look(&w);
    assert_int_equal(w.f.doc.llm_index, 1);
    assert_non_null(told(&w, FALLBACK_NOTICE_BACKUP_LLM, false));
}

static void unready_view_moves_nothing(void **state)
{
    (void)state;
    struct world w;
    fresh(&w);
    w.view.ready = false;
    breaker(&w, &w.llm[0], FALLBACK_BREAKER_OPEN, 0);
    breaker(&w, &w.backend, FALLBACK_BREAKER_OPEN, 0);
    look(&w);
    assert_null(effect(&w, FALLBACK_STORE));
    w.view.ready = true;
    look(&w);
    assert_int_equal(w.f.doc.llm_index, 1);
    assert_int_equal(w.f.doc.backend, FALLBACK_BACKEND_DEGRADED);
    /* Two things at once: one epoch, named after the stricter. */
    assert_int_equal(w.f.doc.epoch, 2);
    assert_int_equal(w.f.doc.step, FALLBACK_STEP_DEGRADE_BACKEND);
}

static void old_messages_are_no_news(void **state)
{
    (void)state;
    struct fallback_target t = {0};
    assert_true(fallback_target_breaker(&t, 5, FALLBACK_BREAKER_OPEN, 0, NOW, NOW));
    assert_false(fallback_target_breaker(&t, 5, FALLBACK_BREAKER_CLOSED, 100, NOW, 0));
    assert_false(fallback_target_breaker(&t, 4, FALLBACK_BREAKER_CLOSED, 100, NOW, 0));
    assert_false(fallback_target_breaker(&t, 6, FALLBACK_BREAKERS, 100, NOW, 0));
    assert_false(fallback_target_breaker(&t, 6, FALLBACK_BREAKER_UNKNOWN, 100, NOW, 0));
    assert_int_equal(t.breaker, FALLBACK_BREAKER_OPEN);
    assert_true(fallback_target_health(&t, 2, FALLBACK_HEALTH_FLAPPING));
    assert_false(fallback_target_health(&t, 1, FALLBACK_HEALTH_HEALTHY));
}

/* The chain changed in the settings. */
static void changed_chain(void **state)
{
    (void)state;
    struct world w;
    fresh(&w);
    w.rule.chain[0].target = "llm.c"; /* c, b, a: the same model at another place */
    w.rule.chain[0].model = "model-c";
    w.rule.chain[2].target = "llm.a";
    w.rule.chain[2].model = "model-a";
    breaker(&w, &w.llm[0], FALLBACK_BREAKER_OPEN, 0);
    breaker(&w, &w.llm[1], FALLBACK_BREAKER_OPEN, 0);
    give(&w, (struct fallback_event){.kind = FALLBACK_LOADED});
    assert_int_equal(w.f.doc.llm_index, 2);
    assert_string_equal(w.f.doc.llm_target, "llm.a");
    assert_int_equal(w.f.doc.posture, FALLBACK_BACKUP_LLM);
    /* Its model is gone from the chain. */
    w.rule.n_chain = 2;
    look(&w);
    assert_int_equal(w.f.doc.llm_index, -1);
    assert_string_equal(w.f.doc.cause, "llm.a");
    w.rule.n_chain = 1;
    look(&w);
    assert_null(effect(&w, FALLBACK_ISSUE));
}

/* ---- the backend ---- */

static void ramp_ladder(void **state)
{
    (void)state;
    static const struct {
        int64_t elapsed;
        uint32_t percent;
    } rows[] = {{-5, 10},  {0, 10},    {99, 10},   {100, 25}, {199, 25},
                {200, 50}, {300, 100}, {399, 100}, {400, 0},  {99999, 0}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        assert_int_equal(fallback_ramp(rows[i].elapsed, 100), rows[i].percent);
}

/* Mode x breaker state, far from any hold: what the breaker allows, never more. */
static void backend_cells(void **state)
{
    (void)state;
    static const struct {
        int mode;
        uint32_t ramp;
    } modes[] = {{FALLBACK_BACKEND_UP, 0}, {FALLBACK_BACKEND_DEGRADED, 0}, {FALLBACK_BACKEND_RECOVERING, 25}};
    for (size_t from = 0; from < 3; from++)
        for (int b = 0; b < BREAKERS; b++)
            for (int loosen = 0; loosen <= 1; loosen++)
                for (int sick = 0; sick <= 1; sick++) {
                    struct world w;
                    fresh(&w);
                    w.f.doc.backend = modes[from].mode;
                    w.f.doc.ramp_percent = modes[from].ramp;
                    w.f.doc.posture = posture(0, modes[from].mode, FALLBACK_AUTOMATION_ENABLED);
                    w.f.doc.evidence_ms = from ? 1 : 0;
                    breaker(&w, &w.backend, FALLBACK_BREAKER_OPEN, 0);
                    set(&w, &w.backend, b);
                    if (sick)
                        fallback_target_health(&w.backend, 1, FALLBACK_HEALTH_FLAPPING);
                    w.now += 10000; /* every step of the ladder is behind */
                    w.view.may_loosen = loosen;
                    look(&w);
                    uint32_t was = from == 0 ? 101 : from == 1 ? 0 : 25;
                    uint32_t limit = breakers[b].state == FALLBACK_BREAKER_UNKNOWN     ? was
                                     : breakers[b].state == FALLBACK_BREAKER_PROBATION ? breakers[b].ramp
                                     : breakers[b].stays                               ? 101
                                                                                       : 0;
                    uint32_t expected = limit <= was ? limit : loosen && !sick ? limit : was;
                    uint32_t is = w.f.doc.backend == FALLBACK_BACKEND_UP         ? 101
                                  : w.f.doc.backend == FALLBACK_BACKEND_DEGRADED ? 0
                                                                                 : w.f.doc.ramp_percent;
                    assert_int_equal(is, expected);
                    assert_int_equal(!effect(&w, FALLBACK_ISSUE), is == was);
                    if (is < was && is == 0)
                        assert_non_null(told(&w, FALLBACK_NOTICE_BACKEND, false));
                }
}

static void backend_there_and_back(void **state)
{
    (void)state;
    struct world w;
    fresh(&w);
    breaker(&w, &w.backend, FALLBACK_BREAKER_OPEN, 0);
    look(&w);
    assert_int_equal(w.f.doc.posture, FALLBACK_DEGRADED);
    assert_int_equal(w.f.doc.failure, FALLBACK_FAILURE_BACKEND);
    assert_non_null(told(&w, FALLBACK_NOTICE_BACKEND, false));
    breaker(&w, &w.backend, FALLBACK_BREAKER_HALF_OPEN, 0);
    look(&w);
    assert_null(effect(&w, FALLBACK_ISSUE));
    breaker(&w, &w.backend, FALLBACK_BREAKER_PROBATION, 10);
    look(&w);
    assert_int_equal(w.f.doc.backend, FALLBACK_BACKEND_RECOVERING);
    assert_int_equal(w.f.doc.ramp_percent, 10);
    assert_int_equal(w.f.doc.step, FALLBACK_STEP_RAMP_BACKEND);
    /* The agent's own ladder is slower than the breaker's ramp: it decides. */
    breaker(&w, &w.backend, FALLBACK_BREAKER_PROBATION, 50);
    look(&w);
    assert_int_equal(w.f.doc.ramp_percent, 10);
    assert_int_equal(must(effect(&w, FALLBACK_WAKE_AT))->at_ms, w.now + 100);
    w.now += 100;
    look(&w);
    assert_int_equal(w.f.doc.ramp_percent, 25);
    /* A failed recovery says so, and stays degraded. */
    breaker(&w, &w.backend, FALLBACK_BREAKER_OPEN, 0);
    look(&w);
    assert_int_equal(w.f.doc.posture, FALLBACK_DEGRADED);
    assert_non_null(strstr(w.f.doc.reason, "recovery failed"));
    assert_true(says(told(&w, FALLBACK_NOTICE_BACKEND, false), "remains in degraded mode"));
    /* Closed at once, by a person: the ladder is walked all the same. */
    w.now += 50;
    breaker(&w, &w.backend, FALLBACK_BREAKER_CLOSED, 100);
    static const uint32_t steps[] = {10, 25, 50, 100};
    for (int i = 0; i < 4; i++) {
        look(&w);
        assert_int_equal(w.f.doc.ramp_percent, steps[i]);
        ack(&w);
        w.now += 100;
    }
    look(&w);
    assert_int_equal(w.f.doc.backend, FALLBACK_BACKEND_UP);
    assert_int_equal(w.f.doc.posture, FALLBACK_NORMAL);
    assert_true(says(told(&w, FALLBACK_NOTICE_BACKEND, true), "recovery successful"));
}

/* ---- several at once ---- */

static void recovery_of_one_leaves_the_other(void **state)
{
    (void)state;
    struct world w;
    exhausted(&w);
    breaker(&w, &w.backend, FALLBACK_BREAKER_OPEN, 0);
    look(&w);
    assert_int_equal(w.f.doc.posture, FALLBACK_SECURITY);
    w.now += 10;
    breaker(&w, &w.llm[0], FALLBACK_BREAKER_CLOSED, 100);
    w.now += HOLD;
    look(&w);
    assert_int_equal(w.f.doc.llm_index, 0);
    assert_int_equal(w.f.doc.posture, FALLBACK_DEGRADED);
    give(&w, (struct fallback_event){.kind = FALLBACK_FREEZE, .by = "eve", .detail = "wrong"});
    assert_int_equal(w.f.doc.posture, FALLBACK_FROZEN);
    breaker(&w, &w.backend, FALLBACK_BREAKER_CLOSED, 100);
    w.now += 1000;
    look(&w);
    assert_int_equal(w.f.doc.backend, FALLBACK_BACKEND_UP);
    assert_int_equal(w.f.doc.posture, FALLBACK_FROZEN);
}

/* ---- automation ---- */

static void freeze_cells(void **state)
{
    (void)state;
    struct world w;
    fresh(&w);
    give(&w, (struct fallback_event){.kind = FALLBACK_UNFREEZE, .by = "eve", .detail = "why"});
    assert_int_equal(must(effect(&w, FALLBACK_ANSWER))->answer, FALLBACK_ALREADY);
    assert_null(effect(&w, FALLBACK_STORE));
    give(&w, (struct fallback_event){.kind = FALLBACK_FREEZE, .by = "eve", .detail = "why"});
    assert_int_equal(must(effect(&w, FALLBACK_ANSWER))->answer, FALLBACK_DONE);
    assert_int_equal(w.f.doc.posture, FALLBACK_FROZEN);
    assert_string_equal(w.f.doc.frozen_by, "eve");
    assert_non_null(told(&w, FALLBACK_NOTICE_FROZEN, false));
    give(&w, (struct fallback_event){.kind = FALLBACK_FREEZE, .by = "bob", .detail = "too"});
    assert_int_equal(must(effect(&w, FALLBACK_ANSWER))->answer, FALLBACK_ALREADY);
    assert_string_equal(w.f.doc.frozen_by, "eve");
    w.view.may_loosen = false;
    give(&w, (struct fallback_event){.kind = FALLBACK_UNFREEZE, .by = "eve", .detail = "fixed"});
    assert_int_equal(must(effect(&w, FALLBACK_ANSWER))->answer, FALLBACK_NOT_NOW);
    assert_int_equal(w.f.doc.posture, FALLBACK_FROZEN);
    w.view.may_loosen = true;
    give(&w, (struct fallback_event){.kind = FALLBACK_UNFREEZE, .by = "eve", .detail = "fixed"});
    assert_int_equal(must(effect(&w, FALLBACK_ANSWER))->answer, FALLBACK_DONE);
    assert_int_equal(w.f.doc.posture, FALLBACK_NORMAL);
    assert_non_null(told(&w, FALLBACK_NOTICE_FROZEN, true));
    assert_int_equal(w.f.doc.epoch, 3);
}

static void verdicts(void **state)
{
    (void)state;
    for (int health = FALLBACK_HEALTH_UNHEARD; health <= FALLBACK_HEALTH_MAINTENANCE; health++)
        for (int failure = FALLBACK_FAILURE_NONE; failure <= FALLBACK_FAILURE_AGENT_DOWN; failure++) {
            struct world w;
            fresh(&w);
            w.verdict = (struct fallback_verdict){
                .epoch = 4, .health = health, .failure = failure, .since_ms = 99, .reason = "seen"};
            look(&w);
            bool sick = health == FALLBACK_HEALTH_UNHEALTHY;
            bool frozen = sick && failure == FALLBACK_FAILURE_LOGIC;
            assert_int_equal(w.f.doc.posture == FALLBACK_FROZEN, frozen);
            assert_int_equal(!!told(&w, FALLBACK_NOTICE_FROZEN, false), frozen);
            assert_int_equal(!!told(&w, FALLBACK_NOTICE_DOWN, false), sick && failure == FALLBACK_FAILURE_AGENT_DOWN);
            if (!frozen)
                continue;
            assert_int_equal(w.f.doc.failure, FALLBACK_FAILURE_LOGIC);
            assert_int_equal(w.f.doc.evidence_ms, 99);
            /* The verdict going away does not unfreeze; a person does, and the same verdict does not freeze again. */
            w.verdict.epoch = 5;
            w.verdict.health = FALLBACK_HEALTH_HEALTHY;
            look(&w);
            assert_int_equal(w.f.doc.posture, FALLBACK_FROZEN);
            w.verdict.epoch = 6;
            w.verdict.health = health;
            look(&w);
            give(&w, (struct fallback_event){.kind = FALLBACK_UNFREEZE, .by = "eve", .detail = "fixed"});
            assert_int_equal(w.f.doc.posture, FALLBACK_NORMAL);
            give(&w, (struct fallback_event){.kind = FALLBACK_LOADED});
            assert_int_equal(w.f.doc.posture, FALLBACK_NORMAL);
            w.verdict.epoch = 7;
            look(&w);
            assert_int_equal(w.f.doc.posture, FALLBACK_FROZEN);
        }
}

/* Life and judgement have verdicts of their own, each with its own epochs: neither hides the other. */
static void judgement_beside_life(void **state)
{
    (void)state;
    struct world w;
    fresh(&w);
    w.verdict = (struct fallback_verdict){.epoch = 90, .health = FALLBACK_HEALTH_HEALTHY};
    look(&w);
    w.judgement = (struct fallback_verdict){.epoch = 2,
                                            .health = FALLBACK_HEALTH_UNHEALTHY,
                                            .failure = FALLBACK_FAILURE_LOGIC,
                                            .since_ms = 99,
                                            .reason = "wrong answers"};
    look(&w);
    assert_int_equal(w.f.doc.posture, FALLBACK_FROZEN);
    assert_int_equal(w.f.doc.failure, FALLBACK_FAILURE_LOGIC);
    w.verdict.epoch = 91;
    look(&w);
    assert_int_equal(w.f.doc.posture, FALLBACK_FROZEN);
    give(&w, (struct fallback_event){.kind = FALLBACK_UNFREEZE, .by = "eve", .detail = "fixed"});
    assert_int_equal(w.f.doc.posture, FALLBACK_NORMAL);
    give(&w, (struct fallback_event){.kind = FALLBACK_LOADED});
    assert_int_equal(w.f.doc.posture, FALLBACK_NORMAL);
    w.judgement.epoch = 3;
    look(&w);
    assert_int_equal(w.f.doc.posture, FALLBACK_FROZEN);
}

/* ---- confirmation ---- */

static void confirmation(void **state)
{
    (void)state;
    struct world w;
    fresh(&w);
    breaker(&w, &w.llm[0], FALLBACK_BREAKER_OPEN, 0);
    look(&w);
    uint64_t epoch = w.f.doc.epoch;
    give(&w, (struct fallback_event){.kind = FALLBACK_ACK, .epoch = epoch - 1});
    give(&w, (struct fallback_event){.kind = FALLBACK_ACK, .epoch = epoch + 1});
    assert_int_equal(w.f.doc.acked_epoch, epoch - 1);
    int resent = 0, raised = 0;
    for (int i = 0; i < 120; i++) { /* a minute without an answer */
        w.now += 500;
        look(&w);
        resent += !!effect(&w, FALLBACK_RESEND);
        raised += !!told(&w, FALLBACK_NOTICE_LINK, false);
        assert_null(told(&w, FALLBACK_NOTICE_ACK, false)); /* one alert for one problem */
        if (w.now - NOW == 4500)
            assert_int_equal(resent, 4);
    }
    assert_int_equal(raised, 1);
    assert_int_equal(w.f.doc.epoch, epoch + 1); /* restricted: what it does under an older epoch does not count */
    assert_int_equal(w.f.doc.link, FALLBACK_LINK_RESTRICTED);
    assert_in_range(resent, 6, 12); /* ever more seldom once people know */
    /* The bus was away: the agent gets its whole time again. */
    w.view.bus_up = false;
    w.now += 100000;
    look(&w);
    assert_null(effect(&w, FALLBACK_RESEND));
    w.view.bus_up = true;
    look(&w);
    assert_null(effect(&w, FALLBACK_RESEND));
    w.now += 1000;
    look(&w);
    assert_non_null(effect(&w, FALLBACK_RESEND));
    give(&w, (struct fallback_event){.kind = FALLBACK_ACK, .epoch = epoch}); /* of before it was restricted */
    assert_int_equal(w.f.doc.link, FALLBACK_LINK_RESTRICTED);
    ack(&w);
    assert_non_null(told(&w, FALLBACK_NOTICE_LINK, true));
    assert_int_equal(w.f.doc.link, FALLBACK_LINK_UP);
    assert_int_equal(w.f.doc.step, FALLBACK_STEP_RECONNECT);
    ack(&w);
    ack(&w);
    assert_null(effect(&w, FALLBACK_STORE));
    w.now += 100000;
    look(&w);
    assert_null(effect(&w, FALLBACK_RESEND));
}

static void agent_that_cannot_follow(void **state)
{
    (void)state;
    struct world w;
    fresh(&w);
    breaker(&w, &w.llm[0], FALLBACK_BREAKER_OPEN, 0);
    look(&w);
    struct fallback_event no = {
        .kind = FALLBACK_ACK, .epoch = w.f.doc.epoch, .failed = true, .detail = "no such model"};
    give(&w, no);
    assert_true(says(told(&w, FALLBACK_NOTICE_ACK, false), "no such model"));
    assert_true(w.f.doc.acked_epoch < w.f.doc.epoch);
    give(&w, no);
    assert_null(effect(&w, FALLBACK_TELL));
    ack(&w);
    assert_non_null(told(&w, FALLBACK_NOTICE_ACK, true));
}

static void after_a_restart_it_is_sent_again(void **state)
{
    (void)state;
    struct world w;
    fresh(&w);
    breaker(&w, &w.llm[0], FALLBACK_BREAKER_OPEN, 0);
    look(&w);
    give(&w, (struct fallback_event){.kind = FALLBACK_LOADED});
    assert_non_null(effect(&w, FALLBACK_RESEND));
    ack(&w);
    give(&w, (struct fallback_event){.kind = FALLBACK_LOADED});
    assert_null(effect(&w, FALLBACK_RESEND));
    give(&w, (struct fallback_event){.kind = FALLBACK_RESYNC, .by = "eve", .detail = "why"});
    assert_non_null(effect(&w, FALLBACK_RESEND));
    assert_non_null(effect(&w, FALLBACK_ANSWER));
    assert_null(effect(&w, FALLBACK_STORE));
}

/* ---- the override ---- */

static void override_there_and_back(void **state)
{
    (void)state;
    struct world w;
    exhausted(&w);
    assert_int_equal(w.f.doc.posture, FALLBACK_SECURITY);
    assert_string_equal(w.f.doc.override_key, "agent-1-2");
    const struct fallback_effect *call = effect(&w, FALLBACK_CALL);
    assert_int_equal(call->call, FALLBACK_CALL_ACTIVATE);
    assert_string_equal(call->key, "agent-1-2");
    assert_null(told(&w, FALLBACK_NOTICE_SECURITY, false)); /* said when it is known what was done */
    ack(&w);
    assert_null(effect(&w, FALLBACK_CALL)); /* one at a time */
    called(&w, FALLBACK_CALL_ACTIVATE, false);
    const struct fallback_effect *t = told(&w, FALLBACK_NOTICE_SECURITY, false);
    assert_true(says(t, "NOT"));
    assert_false(must(t)->override_activated);
    assert_int_equal(must(effect(&w, FALLBACK_WAKE_AT))->at_ms, w.now + 2000);
    int64_t gap = 2000;
    for (int i = 0; i < 6; i++) {
        w.now += gap - 1;
        look(&w);
        assert_null(effect(&w, FALLBACK_CALL));
        w.now += 1;
        look(&w);
        assert_string_equal(must(effect(&w, FALLBACK_CALL))->key, "agent-1-2");
        called(&w, FALLBACK_CALL_ACTIVATE, false);
        assert_null(told(&w, FALLBACK_NOTICE_SECURITY, false)); /* said once */
        gap = gap * 2 < 30000 ? gap * 2 : 30000;
    }
    w.now += 30000;
    look(&w);
    called(&w, FALLBACK_CALL_ACTIVATE, true);
    assert_int_equal(w.f.doc.override_mode, FALLBACK_OVERRIDE_ACTIVE);
    assert_true(must(told(&w, FALLBACK_NOTICE_SECURITY, false))->override_activated);
    /* Counted from the first try: one that seemed to fail may have worked. */
    assert_int_equal(w.f.doc.override_until_ms, NOW + 3600000);

    /* Renewed before it lapses, under a key that is the same after a crash. */
    w.now = NOW + 3600000 - 600000 - 1;
    look(&w);
    assert_null(effect(&w, FALLBACK_CALL));
    assert_int_equal(must(effect(&w, FALLBACK_WAKE_AT))->at_ms, w.now + 1);
    w.now += 1;
    look(&w);
    char key[128];
    snprintf(key, sizeof key, "%s", must(effect(&w, FALLBACK_CALL))->key);
    assert_int_equal(must(effect(&w, FALLBACK_CALL))->call, FALLBACK_CALL_RENEW);
    assert_string_not_equal(key, "agent-1-2");
    give(&w, (struct fallback_event){.kind = FALLBACK_LOADED});
    assert_string_equal(must(effect(&w, FALLBACK_CALL))->key, key);
    called(&w, FALLBACK_CALL_RENEW, true);
    assert_int_equal(w.f.doc.override_until_ms, w.now + 3600000);

    /* One LLM returns: the override stays until the agent has confirmed. */
    breaker(&w, &w.llm[1], FALLBACK_BREAKER_CLOSED, 100);
    w.now += HOLD;
    look(&w);
    assert_int_equal(w.f.doc.llm_index, 1);
    assert_int_equal(w.f.doc.step, FALLBACK_STEP_RESTORE_LLM);
    assert_int_equal(w.f.doc.override_mode, FALLBACK_OVERRIDE_ACTIVE);
    assert_non_null(told(&w, FALLBACK_NOTICE_SECURITY, true));
    w.view.may_loosen = false;
    ack(&w);
    assert_int_equal(w.f.doc.override_mode, FALLBACK_OVERRIDE_ACTIVE);
    w.view.may_loosen = true;
    w.view.override_needed_elsewhere = true;
    look(&w);
    assert_int_equal(w.f.doc.override_mode, FALLBACK_OVERRIDE_ACTIVE);
    w.view.override_needed_elsewhere = false;
    look(&w);
    assert_int_equal(w.f.doc.override_mode, FALLBACK_OVERRIDE_RELEASING);
    assert_int_equal(must(effect(&w, FALLBACK_CALL))->call, FALLBACK_CALL_RELEASE);
    called(&w, FALLBACK_CALL_RELEASE, false);
    w.now += 2000;
    look(&w);
    called(&w, FALLBACK_CALL_RELEASE, false);
    w.now += 4000;
    look(&w);
    called(&w, FALLBACK_CALL_RELEASE, false);
    assert_non_null(told(&w, FALLBACK_NOTICE_RELEASE, false));
    w.now += 8000;
    look(&w);
    called(&w, FALLBACK_CALL_RELEASE, true);
    assert_int_equal(w.f.doc.override_mode, FALLBACK_OVERRIDE_OFF);
    assert_non_null(told(&w, FALLBACK_NOTICE_RELEASE, true));
    assert_string_equal(w.f.doc.override_key, "");
}

static void override_of_an_agent_that_never_confirms_lapses(void **state)
{
    (void)state;
    struct world w;
    exhausted(&w);
    called(&w, FALLBACK_CALL_ACTIVATE, true);
    breaker(&w, &w.llm[0], FALLBACK_BREAKER_CLOSED, 100);
    w.now += HOLD;
    look(&w);
    w.now = w.f.doc.override_until_ms - 1;
    look(&w);
    assert_int_equal(w.f.doc.override_mode, FALLBACK_OVERRIDE_ACTIVE);
    assert_null(effect(&w, FALLBACK_CALL)); /* not renewed */
    w.now += 1;
    look(&w);
    assert_int_equal(w.f.doc.override_mode, FALLBACK_OVERRIDE_RELEASING);
}

static void override_that_cannot_be_renewed(void **state)
{
    (void)state;
    struct world w;
    exhausted(&w);
    ack(&w);
    called(&w, FALLBACK_CALL_ACTIVATE, true);
    char key[FALLBACK_KEY_TEXT];
    snprintf(key, sizeof key, "%s", w.f.doc.override_key);
    bool raised = false;
    w.now = w.f.doc.override_until_ms - 600000;
    while (w.f.doc.override_mode == FALLBACK_OVERRIDE_ACTIVE && w.now < NOW + 3 * 3600000) {
        look(&w);
        if (w.f.doc.override_mode == FALLBACK_OVERRIDE_ACTIVE && effect(&w, FALLBACK_CALL)) {
            assert_int_equal(must(effect(&w, FALLBACK_CALL))->call, FALLBACK_CALL_RENEW);
            called(&w, FALLBACK_CALL_RENEW, false);
            raised |= !!told(&w, FALLBACK_NOTICE_OVERRIDE, false);
        }
        w.now += 1000;
    }
    assert_true(raised);
    assert_int_equal(w.f.doc.override_mode, FALLBACK_OVERRIDE_ACTIVATING);
    assert_string_not_equal(w.f.doc.override_key, key); /* a new one: the old was used up */
    if (!w.f.run.calling)
        look(&w);
    called(&w, FALLBACK_CALL_ACTIVATE, true);
    assert_int_equal(w.f.doc.override_mode, FALLBACK_OVERRIDE_ACTIVE);
    assert_non_null(told(&w, FALLBACK_NOTICE_OVERRIDE, true));
}

static void exhausted_again_while_releasing(void **state)
{
    (void)state;
    struct world w;
    exhausted(&w);
    called(&w, FALLBACK_CALL_ACTIVATE, true);
    breaker(&w, &w.llm[0], FALLBACK_BREAKER_CLOSED, 100);
    w.now += HOLD;
    look(&w);
    ack(&w);
    assert_int_equal(w.f.doc.override_mode, FALLBACK_OVERRIDE_RELEASING);
    char old[FALLBACK_KEY_TEXT];
    snprintf(old, sizeof old, "%s", w.f.doc.override_key);
    breaker(&w, &w.llm[0], FALLBACK_BREAKER_OPEN, 0);
    look(&w);
    assert_int_equal(w.f.doc.override_mode, FALLBACK_OVERRIDE_ACTIVATING);
    assert_string_not_equal(w.f.doc.override_key, old);
    assert_null(effect(&w, FALLBACK_CALL)); /* not while the release is under way */
    struct fallback_event ev = {.kind = FALLBACK_CALLED, .call = FALLBACK_CALL_RELEASE};
    snprintf(ev.key, sizeof ev.key, "%s", old);
    give(&w, ev);
    assert_int_equal(w.f.doc.override_mode, FALLBACK_OVERRIDE_ACTIVATING);
    assert_int_equal(must(effect(&w, FALLBACK_CALL))->call, FALLBACK_CALL_ACTIVATE);
    called(&w, FALLBACK_CALL_ACTIVATE, true);
    /* Exhausted again while active: the same activation goes on, and people hear of the new fall. */
    breaker(&w, &w.llm[0], FALLBACK_BREAKER_CLOSED, 100);
    w.now += HOLD;
    look(&w);
    breaker(&w, &w.llm[0], FALLBACK_BREAKER_OPEN, 0);
    look(&w);
    assert_int_equal(w.f.doc.override_mode, FALLBACK_OVERRIDE_ACTIVE);
    assert_true(must(told(&w, FALLBACK_NOTICE_SECURITY, false))->override_activated);
}

static void without_an_override_api(void **state)
{
    (void)state;
    struct world w;
    fresh(&w);
    w.rule.override = false;
    for (int i = 0; i < N; i++)
        breaker(&w, &w.llm[i], FALLBACK_BREAKER_OPEN, 0);
    look(&w);
    assert_int_equal(w.f.doc.posture, FALLBACK_SECURITY);
    assert_int_equal(w.f.doc.override_mode, FALLBACK_OVERRIDE_OFF);
    assert_null(effect(&w, FALLBACK_CALL));
    assert_false(must(told(&w, FALLBACK_NOTICE_SECURITY, false))->override_activated);
    look(&w);
    assert_null(effect(&w, FALLBACK_STORE));
}

/* Every override mode x every end of a call, also of calls that are history: nothing breaks, nothing gets looser. */
static void call_ends_cells(void **state)
{
    (void)state;
    for (int mode = FALLBACK_OVERRIDE_OFF; mode <= FALLBACK_OVERRIDE_RELEASING; mode++)
        for (int call = FALLBACK_CALL_ACTIVATE; call <= FALLBACK_CALL_RELEASE; call++)
            for (int ok = 0; ok <= 1; ok++)
                for (int mine = 0; mine <= 1; mine++) {
                    struct world w;
                    if (mode == FALLBACK_OVERRIDE_OFF)
                        fresh(&w);
                    else
                        exhausted(&w);
                    if (mode >= FALLBACK_OVERRIDE_ACTIVE)
                        called(&w, FALLBACK_CALL_ACTIVATE, true);
                    if (mode == FALLBACK_OVERRIDE_RELEASING) {
                        breaker(&w, &w.llm[0], FALLBACK_BREAKER_CLOSED, 100);
                        w.now += HOLD;
                        look(&w);
                        ack(&w);
                    }
                    assert_int_equal(w.f.doc.override_mode, mode);
                    struct fallback_event ev = {.kind = FALLBACK_CALLED,
                                                .call = (enum fallback_call_kind)call,
                                                .failed = !ok,
                                                .called_at_ms = w.now};
                    snprintf(ev.key, sizeof ev.key, "%s", mine ? w.f.doc.override_key : "another");
                    give(&w, ev);
                    int expected = mode;
                    if (ok && mine && mode == FALLBACK_OVERRIDE_ACTIVATING && call == FALLBACK_CALL_ACTIVATE)
                        expected = FALLBACK_OVERRIDE_ACTIVE;
                    if (ok && mine && mode == FALLBACK_OVERRIDE_RELEASING && call == FALLBACK_CALL_RELEASE)
                        expected = FALLBACK_OVERRIDE_OFF;
                    assert_int_equal(w.f.doc.override_mode, expected);
                }
}

/* ---- texts ---- */

static void long_texts_are_cut_between_characters(void **state)
{
    (void)state;
    struct world w;
    fresh(&w);
    struct fallback_event ev = {.kind = FALLBACK_FREEZE, .by = "eve"};
    for (size_t i = 0; i + 3 < sizeof ev.detail; i += 3)
        memcpy(ev.detail + i, "\xe2\x82\xac", 3);
    give(&w, ev);
    for (size_t i = 0; i < w.n; i++) {
        size_t len = strlen(w.e[i].text);
        assert_true(len < sizeof w.e[i].text);
        if (len && (unsigned char)w.e[i].text[len - 1] >= 0x80)
            assert_memory_equal(w.e[i].text + len - 3, "\xe2\x82\xac", 3);
    }
    assert_memory_equal(w.f.doc.reason + strlen(w.f.doc.reason) - 3, "\xe2\x82\xac", 3);
}

static void ranks_spread(void **state)
{
    (void)state;
    unsigned below[4] = {0};
    static const unsigned ramp[4] = {10, 25, 50, 100};
    for (int i = 0; i < 10000; i++) {
        char name[32];
        snprintf(name, sizeof name, "agent-%d", i);
        unsigned r = fallback_rank(name);
        assert_in_range(r, 0, 99);
        for (int k = 0; k < 4; k++)
            below[k] += r < ramp[k];
    }
    for (int k = 0; k < 4; k++)
        assert_in_range(below[k], ramp[k] * 90, ramp[k] * 110);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(posture_is_the_strictest_asked_for),
        cmocka_unit_test(first_position),
        cmocka_unit_test(first_position_in_an_outage_is_the_strict_one),
        cmocka_unit_test(chain_cells),
        cmocka_unit_test(way_back_cells),
        cmocka_unit_test(hold_runs_over_the_ramp),
        cmocka_unit_test(unready_view_moves_nothing),
        cmocka_unit_test(old_messages_are_no_news),
        cmocka_unit_test(changed_chain),
        cmocka_unit_test(ramp_ladder),
        cmocka_unit_test(backend_cells),
        cmocka_unit_test(backend_there_and_back),
        cmocka_unit_test(recovery_of_one_leaves_the_other),
        cmocka_unit_test(freeze_cells),
        cmocka_unit_test(verdicts),
        cmocka_unit_test(judgement_beside_life),
        cmocka_unit_test(confirmation),
        cmocka_unit_test(agent_that_cannot_follow),
        cmocka_unit_test(after_a_restart_it_is_sent_again),
        cmocka_unit_test(override_there_and_back),
        cmocka_unit_test(override_of_an_agent_that_never_confirms_lapses),
        cmocka_unit_test(override_that_cannot_be_renewed),
        cmocka_unit_test(exhausted_again_while_releasing),
        cmocka_unit_test(without_an_override_api),
        cmocka_unit_test(call_ends_cells),
        cmocka_unit_test(long_texts_are_cut_between_characters),
        cmocka_unit_test(ranks_spread),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
