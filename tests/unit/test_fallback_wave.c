/* test_fallback_wave.c - models that do not fit, are full, or take agents in by waves. */
#include "fallback_world.h"

enum { OPEN = FALLBACK_INTAKE_OPEN, WAIT = FALLBACK_INTAKE_WAIT, FULL = FALLBACK_INTAKE_FULL };

static void take_in(struct world *w, int a, int b, int c)
{
    w->view.intake[0] = (uint8_t)a;
    w->view.intake[1] = (uint8_t)b;
    w->view.intake[2] = (uint8_t)c;
}

static void primary_fails(struct world *w)
{
    breaker(w, &w->llm[0], FALLBACK_BREAKER_OPEN, 0);
    look(w);
}

static bool awaits(const struct world *w, int index)
{
    const struct fallback_effect *e = effect(w, FALLBACK_AWAIT);
    return e && e->index == index;
}

/* What each of two backups says x whether it fits x whether its breaker admits. */
static void leaving_cells(void **state)
{
    (void)state;
    for (int b = OPEN; b <= FULL; b++)
        for (int c = OPEN; c <= FULL; c++)
            for (int fit = 0; fit < 4; fit++)
                for (int up = 0; up < 4; up++) {
                    struct world w;
                    fresh(&w);
                    take_in(&w, OPEN, b, c);
                    w.rule.chain[1].unfit = fit & 1 ? "needs 200000 tokens" : NULL;
                    w.rule.chain[2].unfit = fit & 2 ? "data leave the EU" : NULL;
                    if (up & 1)
                        breaker(&w, &w.llm[1], FALLBACK_BREAKER_OPEN, 0);
                    if (up & 2)
                        breaker(&w, &w.llm[2], FALLBACK_BREAKER_OPEN, 0);
                    primary_fails(&w);
                    bool b_ok = !(fit & 1) && !(up & 1) && b != FULL, c_ok = !(fit & 2) && !(up & 2) && c != FULL;
                    int to = b_ok ? 1 : c_ok ? 2 : -1;
                    bool waits = to > 0 && (to == 1 ? b : c) == WAIT;
                    assert_int_equal(w.f.doc.llm_index, waits ? -1 : to);
                    assert_int_equal(w.f.doc.llm_waiting, waits);
                    assert_string_equal(w.f.doc.llm_wanted, !waits ? "" : to == 1 ? "llm.b" : "llm.c");
                    assert_int_equal(w.f.doc.posture, waits    ? FALLBACK_DEGRADED
                                                      : to > 0 ? FALLBACK_BACKUP_LLM
                                                               : FALLBACK_SECURITY);
                    assert_int_equal(w.f.doc.step, waits    ? FALLBACK_STEP_WAIT_LLM
                                                   : to > 0 ? FALLBACK_STEP_SWITCH_LLM
                                                            : FALLBACK_STEP_SECURITY);
                    assert_int_equal(w.f.doc.failure, FALLBACK_FAILURE_LLM);
                    assert_int_equal(awaits(&w, to), waits);
                    /* Nothing is overridden for who only waits. */
                    assert_int_equal(!!effect(&w, FALLBACK_CALL), to < 0);
                    /* Whoever is passed over is named, with the reason. */
                    if (to != 1 && fit & 1)
                        assert_non_null(strstr(w.f.doc.reason, "llm.b unfit (needs 200000 tokens)"));
                    if (to != 1 && !(fit & 1) && !(up & 1))
                        assert_non_null(strstr(w.f.doc.reason, "llm.b full"));
                    if (to < 0 && fit & 2)
                        assert_non_null(strstr(w.f.doc.reason, "llm.c unfit (data leave the EU)"));
                    look(&w);
                    assert_null(effect(&w, FALLBACK_ISSUE));
                }
}

static void a_turn_that_comes(void **state)
{
    (void)state;
    struct world w;
    fresh(&w);
    take_in(&w, OPEN, WAIT, OPEN);
    primary_fails(&w);
    assert_true(fallback_told_of(&w, FALLBACK_NOTICE_BACKUP_LLM));
    ack(&w);
    assert_null(effect(&w, FALLBACK_AWAIT));
    /* A line may get lost: it gets in again and again, and at once after a crash. */
    int times = 0;
    for (int i = 0; i < 20; i++) {
        wait_ms(&w, 500);
        assert_non_null(effect(&w, FALLBACK_WAKE_AT));
        times += awaits(&w, 1);
    }
    assert_in_range(times, 4, 6);
    give(&w, (struct fallback_event){.kind = FALLBACK_LOADED});
    assert_true(awaits(&w, 1));
    /* Looser only with trust. */
    take_in(&w, OPEN, OPEN, OPEN);
    w.view.may_loosen = false;
    look(&w);
    assert_true(w.f.doc.llm_waiting);
    w.view.may_loosen = true;
    look(&w);
    assert_int_equal(w.f.doc.llm_index, 1);
    assert_false(w.f.doc.llm_waiting);
    assert_int_equal(w.f.doc.step, FALLBACK_STEP_SWITCH_LLM);
    assert_int_equal(w.f.doc.posture, FALLBACK_BACKUP_LLM);
    look(&w);
    assert_null(effect(&w, FALLBACK_AWAIT));
}

/* What it waits for breaks, fills up, or leaves the settings: on to the next, or to safety. */
static void a_turn_that_never_comes(void **state)
{
    (void)state;
    for (int how = 0; how < 4; how++)
        for (int next = OPEN; next <= FULL; next++) {
            struct world w;
            fresh(&w);
            take_in(&w, OPEN, WAIT, next);
            primary_fails(&w);
            ack(&w);
            if (how == 0)
                breaker(&w, &w.llm[1], FALLBACK_BREAKER_OPEN, 0);
            else if (how == 1)
                take_in(&w, OPEN, FULL, next);
            else if (how == 2)
                w.rule.chain[1].unfit = "is another now";
            else
                w.rule.chain[1].target = "llm.z";
            if (how == 3)
                breaker(&w, &w.llm[1], FALLBACK_BREAKER_OPEN, 0);
            look(&w);
            assert_int_equal(w.f.doc.llm_index, next == OPEN ? 2 : -1);
            assert_int_equal(w.f.doc.llm_waiting, next == WAIT);
            assert_int_equal(awaits(&w, 2), next == WAIT);
            assert_int_equal(w.f.doc.posture, next == OPEN   ? FALLBACK_BACKUP_LLM
                                              : next == WAIT ? FALLBACK_DEGRADED
                                                             : FALLBACK_SECURITY);
            assert_int_equal(!!effect(&w, FALLBACK_CALL), next == FULL);
        }
}

/* The primary comes back while it waits. */
static void the_primary_is_better_than_waiting(void **state)
{
    (void)state;
    struct world w;
    fresh(&w);
    take_in(&w, OPEN, WAIT, OPEN);
    primary_fails(&w);
    ack(&w);
    w.now += 10;
    breaker(&w, &w.llm[0], FALLBACK_BREAKER_CLOSED, 100);
    wait_ms(&w, HOLD - 1);
    assert_true(w.f.doc.llm_waiting);
    wait_ms(&w, 1);
    assert_int_equal(w.f.doc.llm_index, 0);
    assert_int_equal(w.f.doc.posture, FALLBACK_NORMAL);
    assert_int_equal(w.f.doc.open_alerts, 0);
}

/* Back to a better one: its turn is waited for where the agent is, and asked for once in a while. */
static void way_back_in_waves(void **state)
{
    (void)state;
    for (int from = -1; from <= 1; from += 2)
        for (int says = OPEN; says <= FULL; says++) {
            struct world w;
            if (from < 0)
                exhausted(&w);
            else
                fresh(&w);
            if (from > 0)
                primary_fails(&w);
            ack(&w);
            assert_int_equal(w.f.doc.llm_index, from);
            w.now += 10;
            breaker(&w, &w.llm[0], FALLBACK_BREAKER_CLOSED, 100);
            take_in(&w, says, OPEN, OPEN);
            wait_ms(&w, HOLD);
            assert_int_equal(w.f.doc.llm_index, says == OPEN ? 0 : from);
            assert_int_equal(awaits(&w, 0), says == WAIT);
            if (says == OPEN)
                continue;
            assert_false(w.f.doc.llm_waiting);
            assert_null(effect(&w, FALLBACK_ISSUE));
            assert_non_null(effect(&w, FALLBACK_WAKE_AT)); /* nobody is stuck for want of a hint */
            int times = 0;
            for (int i = 0; i < 60; i++) {
                wait_ms(&w, 1000);
                times += awaits(&w, 0);
            }
            assert_in_range(times, says == WAIT ? 1 : 0, says == WAIT ? 2 : 0);
            take_in(&w, OPEN, OPEN, OPEN);
            look(&w);
            assert_int_equal(w.f.doc.llm_index, 0);
        }
}

/* In security fallback a lesser model that is free now is better than a turn to come. */
static void out_of_security_by_whatever_is_free(void **state)
{
    (void)state;
    struct world w;
    exhausted(&w);
    ack(&w);
    w.now += 10;
    for (int i = 0; i < N; i++)
        breaker(&w, &w.llm[i], FALLBACK_BREAKER_CLOSED, 100);
    take_in(&w, WAIT, FULL, OPEN);
    wait_ms(&w, HOLD);
    assert_int_equal(w.f.doc.llm_index, 2);
    /* From there no half-way: a move to the second would only be undone. */
    ack(&w);
    assert_true(awaits(&w, 0));
    take_in(&w, WAIT, OPEN, OPEN);
    wait_ms(&w, 1);
    assert_int_equal(w.f.doc.llm_index, 2);
    take_in(&w, FULL, OPEN, OPEN);
    wait_ms(&w, 1);
    assert_int_equal(w.f.doc.llm_index, 1);
}

static void first_position_skips_what_does_not_fit(void **state)
{
    (void)state;
    for (int n = 1; n <= N; n++) {
        struct world w;
        raw(&w);
        for (int i = 0; i < n; i++)
            w.rule.chain[i].unfit = "speaks no tools";
        give(&w, (struct fallback_event){.kind = FALLBACK_START});
        assert_int_equal(w.f.doc.llm_index, n < N ? n : -1);
        assert_int_equal(w.f.doc.step, FALLBACK_STEP_INITIAL);
        assert_int_equal(w.f.doc.posture, n < N ? FALLBACK_BACKUP_LLM : FALLBACK_SECURITY);
        assert_non_null(strstr(w.f.doc.reason, "llm.a skipped: speaks no tools"));
        for (int i = 0; i < N; i++)
            breaker(&w, &w.llm[i], FALLBACK_BREAKER_CLOSED, 100);
        wait_ms(&w, HOLD);
        assert_int_equal(w.f.doc.llm_index, n < N ? n : -1); /* never to one that does not fit */
    }
}

/* The settings ask for more than the present model has. */
static void what_fits_no_more_is_left(void **state)
{
    (void)state;
    struct world w;
    fresh(&w);
    w.rule.chain[0].unfit = "needs 200000 tokens";
    look(&w);
    assert_int_equal(w.f.doc.llm_index, 1);
    assert_non_null(strstr(w.f.doc.reason, "llm.a unfit (needs 200000 tokens)"));
    ack(&w);
    wait_ms(&w, 100 * HOLD);
    assert_int_equal(w.f.doc.llm_index, 1);
    w.rule.chain[0].unfit = NULL;
    look(&w);
    assert_int_equal(w.f.doc.llm_index, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(leaving_cells),
        cmocka_unit_test(a_turn_that_comes),
        cmocka_unit_test(a_turn_that_never_comes),
        cmocka_unit_test(the_primary_is_better_than_waiting),
        cmocka_unit_test(way_back_in_waves),
        cmocka_unit_test(out_of_security_by_whatever_is_free),
        cmocka_unit_test(first_position_skips_what_does_not_fit),
        cmocka_unit_test(what_fits_no_more_is_left),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
