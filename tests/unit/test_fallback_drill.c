/* test_fallback_drill.c - failures that are pretended: who may, what is done, how each ends, and that nothing real is hidden. */
#include "fallback_world.h"

#define LENGTH 3000

static void drill(struct world *w, int failure, const char *by, int64_t until_ms)
{
    struct fallback_event ev = {
        .kind = FALLBACK_DRILL, .failure = failure, .until_ms = until_ms, .detail = "monthly exercise"};
    snprintf(ev.by, sizeof ev.by, "%s", by);
    give(w, ev);
}

static int answered(const struct world *w)
{
    return (int)must(effect(w, FALLBACK_ANSWER))->answer;
}

/* Everything that a decision says is marked, but for what is true. */
static void all_marked(const struct world *w)
{
    if (effect(w, FALLBACK_ISSUE))
        assert_int_equal(strncmp(w->f.doc.reason, "DRILL: ", 7), 0);
    for (size_t i = 0; i < w->n; i++)
        if (w->e[i].kind == FALLBACK_TELL || w->e[i].kind == FALLBACK_RECORD)
            assert_true(says(&w->e[i], "DRILL"));
}

static void none_marked(const struct world *w)
{
    for (size_t i = 0; i < w->n; i++)
        if (w->e[i].kind == FALLBACK_TELL)
            assert_false(says(&w->e[i], "DRILL"));
    assert_null(strstr(w->f.doc.reason, "DRILL"));
}

/* Breakers, life and resources never heard of, or all well. */
static void settled(struct world *w, bool heard)
{
    if (heard) {
        fresh(w);
        judge(w, &w->verdict, FALLBACK_HEALTH_HEALTHY, 0);
        judge(w, &w->resources, FALLBACK_HEALTH_HEALTHY, 0);
        judge(w, &w->judgement, FALLBACK_HEALTH_HEALTHY, 0);
    } else {
        raw(w);
        give(w, (struct fallback_event){.kind = FALLBACK_START});
        ack(w);
    }
    w->rule.has_selftest = true;
    w->rule.rollback = FALLBACK_ROLLBACK_START;
    w->rule.rollback_after_ms = 10;
    w->now += 100000; /* every hold is long behind */
    look(w);
    assert_int_equal(w->f.doc.posture, FALLBACK_NORMAL);
}

static const struct {
    int failure, posture;
    enum fallback_notice notice;
} kinds[] = {
    {FALLBACK_FAILURE_LLM, FALLBACK_SECURITY, FALLBACK_NOTICE_SECURITY},
    {FALLBACK_FAILURE_BACKEND, FALLBACK_DEGRADED, FALLBACK_NOTICE_BACKEND},
    {FALLBACK_FAILURE_LOGIC, FALLBACK_FROZEN, FALLBACK_NOTICE_FROZEN},
    {FALLBACK_FAILURE_RESOURCE, FALLBACK_RECOVERING, FALLBACK_NOTICE_RESOURCES},
    {FALLBACK_FAILURE_NETWORK, FALLBACK_DEGRADED, FALLBACK_NOTICE_LINK},
    {FALLBACK_FAILURE_AGENT_DOWN, FALLBACK_DEGRADED, FALLBACK_NOTICE_DOWN},
};
enum { KINDS = sizeof kinds / sizeof kinds[0] };

static void follow(struct world *w)
{
    all_marked(w);
    if (w->f.run.calling) {
        called(w,
               w->f.doc.override_mode == FALLBACK_OVERRIDE_RELEASING ? FALLBACK_CALL_RELEASE : FALLBACK_CALL_ACTIVATE,
               true);
        all_marked(w);
    }
    if (w->f.doc.acked_epoch < w->f.doc.epoch) {
        ack(w);
        all_marked(w);
    }
}

/* Each kind, from the start to the normal position again: by its time, by a person, with and without anything heard. */
static void there_and_back(void **state)
{
    (void)state;
    for (int k = 0; k < KINDS; k++)
        for (int by_hand = 0; by_hand <= 1; by_hand++)
            for (int heard = 0; heard <= 1; heard++) {
                struct world w;
                settled(&w, heard);
                drill(&w, kinds[k].failure, "dan", w.now + LENGTH);
                assert_int_equal(answered(&w), FALLBACK_DONE);
                assert_int_equal(w.f.doc.posture, kinds[k].posture);
                assert_int_equal(w.f.doc.failure, kinds[k].failure);
                for (int i = 0; i < 10 && w.f.doc.acked_epoch < w.f.doc.epoch; i++)
                    follow(&w);
                assert_true(fallback_told_of(&w, kinds[k].notice));
                assert_true(must(effect(&w, FALLBACK_WAKE_AT))->at_ms <= w.now + LENGTH);
                int64_t end = w.now + LENGTH - 1;
                while (w.now + 100 < end) {
                    wait_ms(&w, 100);
                    follow(&w);
                    assert_null(effect(&w, FALLBACK_RESTART)); /* nothing that cannot be taken back */
                    assert_null(effect(&w, FALLBACK_ROLL));
                    assert_int_equal(w.f.doc.drill_failure, kinds[k].failure);
                    assert_int_not_equal(w.f.doc.posture, FALLBACK_NORMAL);
                }
                if (by_hand) {
                    drill(&w, FALLBACK_FAILURE_NONE, "eve", 0);
                    assert_int_equal(answered(&w), FALLBACK_DONE);
                } else {
                    w.now = end + 1;
                    look(&w);
                }
                int64_t ended = w.now;
                assert_int_equal(w.f.doc.drill_failure, FALLBACK_FAILURE_NONE);
                assert_non_null(effect(&w, FALLBACK_RECORD));
                follow(&w);
                for (int i = 0; i < 100 && (w.f.doc.posture != FALLBACK_NORMAL || w.f.doc.drill_was); i++) {
                    wait_ms(&w, 50);
                    follow(&w);
                }
                assert_int_equal(w.f.doc.posture, FALLBACK_NORMAL);
                assert_int_equal(w.f.doc.drill_was, FALLBACK_FAILURE_NONE);
                assert_int_equal(w.f.doc.open_alerts, 0);
                assert_int_equal(w.f.doc.override_mode, FALLBACK_OVERRIDE_OFF);
                assert_int_equal(w.f.doc.n_restarts, 0);
                /* The way back was the usual one: its holds begin with the drill's end. */
                int64_t least = kinds[k].failure == FALLBACK_FAILURE_LLM          ? HOLD
                                : kinds[k].failure == FALLBACK_FAILURE_BACKEND    ? 400
                                : kinds[k].failure == FALLBACK_FAILURE_RESOURCE   ? 3 * 200
                                : kinds[k].failure == FALLBACK_FAILURE_AGENT_DOWN ? 400
                                                                                  : 0;
                assert_true(w.now - ended >= least);
                assert_true(w.now - ended <= least + 300);
                /* And another one can begin. */
                drill(&w, kinds[k].failure, "dan", w.now + LENGTH);
                assert_int_equal(answered(&w), FALLBACK_DONE);
            }
}

static void refused(struct world *w, int failure)
{
    drill(w, failure, "dan", w->now + LENGTH);
    assert_int_equal(answered(w), FALLBACK_NOT_NOW);
    assert_null(effect(w, FALLBACK_STORE));
    assert_int_equal(w->f.doc.drill_failure, FALLBACK_FAILURE_NONE);
}

static void who_may_not(void **state)
{
    (void)state;
    struct world w;
    settled(&w, true);
    w.view.may_loosen = false;
    refused(&w, FALLBACK_FAILURE_LLM);
    w.view.may_loosen = true;
    w.view.ready = false;
    refused(&w, FALLBACK_FAILURE_LLM);
    w.view.ready = true;
    w.view.backend = NULL;
    refused(&w, FALLBACK_FAILURE_BACKEND);
    w.view.backend = &w.backend;
    refused(&w, -1);
    refused(&w, FALLBACK_FAILURE_AGENT_DOWN + 1);
    drill(&w, FALLBACK_FAILURE_LLM, "", w.now + 1);
    assert_int_equal(answered(&w), FALLBACK_NOT_NOW);
    drill(&w, FALLBACK_FAILURE_LLM, "dan", w.now);
    assert_int_equal(answered(&w), FALLBACK_NOT_NOW);
    assert_int_equal(w.f.doc.drill_failure, FALLBACK_FAILURE_NONE);
    drill(&w, FALLBACK_FAILURE_NONE, "dan", 0);
    assert_int_equal(answered(&w), FALLBACK_ALREADY);
    /* Not well, or not there. */
    breaker(&w, &w.llm[0], FALLBACK_BREAKER_OPEN, 0);
    look(&w);
    ack(&w);
    refused(&w, FALLBACK_FAILURE_BACKEND);
    settled(&w, true);
    w.f.doc.acked_epoch = 0;
    refused(&w, FALLBACK_FAILURE_BACKEND);
}

static void one_drill_at_a_time(void **state)
{
    (void)state;
    struct world w;
    settled(&w, true);
    drill(&w, FALLBACK_FAILURE_BACKEND, "dan", w.now + LENGTH);
    ack(&w);
    int64_t until = w.f.doc.drill_until_ms;
    drill(&w, FALLBACK_FAILURE_LLM, "dan", w.now + 2 * LENGTH);
    assert_int_equal(answered(&w), FALLBACK_NOT_NOW);
    drill(&w, FALLBACK_FAILURE_BACKEND, "eve", w.now + 2 * LENGTH);
    assert_int_equal(answered(&w), FALLBACK_NOT_NOW);
    assert_int_equal(w.f.doc.drill_until_ms, until);
    uint64_t epoch = w.f.doc.epoch;
    drill(&w, FALLBACK_FAILURE_BACKEND, "dan", w.now + 2 * LENGTH);
    assert_int_equal(answered(&w), FALLBACK_DONE);
    assert_int_equal(w.f.doc.drill_until_ms, w.now + 2 * LENGTH);
    assert_int_equal(w.f.doc.epoch, epoch);
    assert_non_null(effect(&w, FALLBACK_STORE));
    /* Whoever ran it has died: it ends by itself, whoever leads. */
    give(&w, (struct fallback_event){.kind = FALLBACK_LOADED});
    assert_int_equal(must(effect(&w, FALLBACK_WAKE_AT))->at_ms, w.f.doc.drill_until_ms);
    w.now = w.f.doc.drill_until_ms;
    give(&w, (struct fallback_event){.kind = FALLBACK_LOADED});
    assert_int_equal(w.f.doc.drill_failure, FALLBACK_FAILURE_NONE);
    assert_int_equal(w.f.doc.drill_was, FALLBACK_FAILURE_BACKEND);
    drill(&w, FALLBACK_FAILURE_BACKEND, "dan", w.now + LENGTH); /* still on its way back */
    assert_int_equal(answered(&w), FALLBACK_NOT_NOW);
}

/* The same failure comes in truth: the drill is over, the failure stays, and is told without the mark. */
static void what_becomes_real(void **state)
{
    (void)state;
    for (int k = 0; k < KINDS; k++) {
        struct world w;
        settled(&w, true);
        drill(&w, kinds[k].failure, "dan", w.now + LENGTH);
        ack(&w);
        called(&w, FALLBACK_CALL_ACTIVATE, true);
        uint64_t epoch = w.f.doc.epoch;
        w.now += 10;
        if (kinds[k].failure == FALLBACK_FAILURE_LLM) {
            for (int i = 0; i < N; i++)
                breaker(&w, &w.llm[i], FALLBACK_BREAKER_OPEN, 0);
            look(&w);
        } else if (kinds[k].failure == FALLBACK_FAILURE_BACKEND) {
            breaker(&w, &w.backend, FALLBACK_BREAKER_OPEN, 0);
            look(&w);
        } else {
            struct fallback_verdict *v = kinds[k].failure == FALLBACK_FAILURE_LOGIC      ? &w.judgement
                                         : kinds[k].failure == FALLBACK_FAILURE_RESOURCE ? &w.resources
                                                                                         : &w.verdict;
            judge(&w, v, FALLBACK_HEALTH_UNHEALTHY, kinds[k].failure);
        }
        assert_int_equal(w.f.doc.drill_failure, FALLBACK_FAILURE_NONE);
        assert_int_equal(w.f.doc.drill_was, FALLBACK_FAILURE_NONE);
        assert_int_equal(w.f.doc.posture, kinds[k].posture);
        assert_int_equal(w.f.doc.epoch, epoch + 1);
        assert_int_equal(w.f.doc.failure, kinds[k].failure);
        assert_non_null(told(&w, kinds[k].notice, false));
        none_marked(&w);
        w.now += 10 * LENGTH;
        look(&w);
        assert_true(w.f.doc.posture >= kinds[k].posture); /* nothing ends with the drill's time */
        none_marked(&w);
    }
}

/* Only the primary fails in truth during a drill of the whole chain: the agent goes to its backup at once. */
static void real_outage_of_the_primary_alone(void **state)
{
    (void)state;
    for (int heard = 0; heard <= 1; heard++) {
        struct world w;
        settled(&w, heard);
        drill(&w, FALLBACK_FAILURE_LLM, "dan", w.now + LENGTH);
        ack(&w);
        called(&w, FALLBACK_CALL_ACTIVATE, true);
        breaker(&w, &w.llm[0], FALLBACK_BREAKER_OPEN, 0);
        look(&w);
        assert_int_equal(w.f.doc.llm_index, 1);
        assert_int_equal(w.f.doc.drill_failure, FALLBACK_FAILURE_NONE);
        assert_non_null(told(&w, FALLBACK_NOTICE_BACKUP_LLM, false));
        none_marked(&w);
    }
}

/* Another failure during a drill, and after it: told without the mark, and it stays. */
static void another_failure_is_real(void **state)
{
    (void)state;
    struct world w;
    settled(&w, true);
    drill(&w, FALLBACK_FAILURE_BACKEND, "dan", w.now + LENGTH);
    ack(&w);
    breaker(&w, &w.llm[0], FALLBACK_BREAKER_OPEN, 0);
    look(&w);
    assert_int_equal(w.f.doc.llm_index, 1);
    assert_int_equal(w.f.doc.drill_failure, FALLBACK_FAILURE_BACKEND);
    none_marked(&w);
    ack(&w);
    wait_ms(&w, LENGTH);
    for (int i = 0; i < 20; i++) {
        ack(&w);
        wait_ms(&w, 50);
    }
    assert_int_equal(w.f.doc.backend, FALLBACK_BACKEND_UP);
    assert_int_equal(w.f.doc.posture, FALLBACK_BACKUP_LLM);
    assert_int_equal(w.f.doc.failure, FALLBACK_FAILURE_LLM);
    /* The backend fails in truth while the drill's traces are not gone yet. */
    assert_int_equal(w.f.doc.drill_was, FALLBACK_FAILURE_BACKEND);
    breaker(&w, &w.backend, FALLBACK_BREAKER_OPEN, 0);
    look(&w);
    assert_int_equal(w.f.doc.posture, FALLBACK_DEGRADED);
    none_marked(&w);
}

/* ---- the freeze of a drill ---- */

static void freeze_of_a_drill(void **state)
{
    (void)state;
    struct world w;
    settled(&w, true);
    drill(&w, FALLBACK_FAILURE_LOGIC, "dan", w.now + LENGTH);
    assert_string_equal(w.f.doc.frozen_by, "drill by dan");
    assert_int_equal(must(effect(&w, FALLBACK_FENCE))->epoch, w.f.doc.epoch);
    ack(&w);
    /* It ends with its time, but only where anything may get looser. */
    w.view.may_loosen = false;
    wait_ms(&w, LENGTH);
    assert_int_equal(w.f.doc.posture, FALLBACK_FROZEN);
    drill(&w, FALLBACK_FAILURE_NONE, "dan", 0);
    assert_int_equal(answered(&w), FALLBACK_NOT_NOW);
    assert_int_equal(w.f.doc.posture, FALLBACK_FROZEN);
    w.view.may_loosen = true;
    look(&w);
    assert_int_equal(w.f.doc.posture, FALLBACK_NORMAL);
    assert_int_equal(w.f.doc.open_alerts, 0);
}

static void a_person_freezes_in_earnest(void **state)
{
    (void)state;
    struct world w;
    settled(&w, true);
    drill(&w, FALLBACK_FAILURE_LOGIC, "dan", w.now + LENGTH);
    ack(&w);
    uint64_t epoch = w.f.doc.epoch;
    give(&w, (struct fallback_event){.kind = FALLBACK_FREEZE, .by = "drill by dan", .detail = "blocks the office"});
    assert_int_equal(answered(&w), FALLBACK_DONE);
    assert_int_equal(w.f.doc.epoch, epoch + 1);
    assert_int_equal(w.f.doc.frozen_epoch, epoch + 1);
    assert_int_equal(w.f.doc.drill_failure, FALLBACK_FAILURE_NONE);
    none_marked(&w);
    ack(&w);
    wait_ms(&w, 10 * LENGTH);
    assert_int_equal(w.f.doc.posture, FALLBACK_FROZEN);
    drill(&w, FALLBACK_FAILURE_NONE, "dan", 0);
    assert_int_equal(answered(&w), FALLBACK_ALREADY);
    assert_int_equal(w.f.doc.posture, FALLBACK_FROZEN);
}

static void a_person_unfreezes_a_drill(void **state)
{
    (void)state;
    struct world w;
    settled(&w, true);
    drill(&w, FALLBACK_FAILURE_LOGIC, "dan", w.now + LENGTH);
    ack(&w);
    give(&w, (struct fallback_event){.kind = FALLBACK_UNFREEZE, .by = "eve", .detail = "enough"});
    assert_int_equal(w.f.doc.posture, FALLBACK_NORMAL);
    assert_int_equal(w.f.doc.drill_failure, FALLBACK_FAILURE_NONE);
    assert_int_equal(w.f.doc.open_alerts, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(there_and_back),
        cmocka_unit_test(who_may_not),
        cmocka_unit_test(one_drill_at_a_time),
        cmocka_unit_test(what_becomes_real),
        cmocka_unit_test(real_outage_of_the_primary_alone),
        cmocka_unit_test(another_failure_is_real),
        cmocka_unit_test(freeze_of_a_drill),
        cmocka_unit_test(a_person_freezes_in_earnest),
        cmocka_unit_test(a_person_unfreezes_a_drill),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
