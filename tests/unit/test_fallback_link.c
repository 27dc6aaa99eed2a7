/* test_fallback_link.c - whether an agent can be reached, cell by cell; gone and back; rollback; who never was there. */
#include "fallback_world.h"

enum { UP = FALLBACK_LINK_UP, RESTRICTED, GONE, RETURNING };

/* Brings a well agent to that state of its link, all confirmed. */
static void bring(struct world *w, int link)
{
    fresh(w);
    w->f.doc.epoch = w->f.doc.acked_epoch = 10; /* it has been there for long */
    judge(w, &w->verdict, FALLBACK_HEALTH_HEALTHY, 0);
    if (link == RESTRICTED)
        judge(w, &w->verdict, FALLBACK_HEALTH_UNHEALTHY, FALLBACK_FAILURE_NETWORK);
    if (link == GONE || link == RETURNING)
        judge(w, &w->verdict, FALLBACK_HEALTH_UNHEALTHY, FALLBACK_FAILURE_AGENT_DOWN);
    if (link == RETURNING) {
        w->verdict.health = FALLBACK_HEALTH_HEALTHY;
        w->verdict.epoch++;
    }
    ack(w);
    ack(w);
    assert_int_equal(w->f.doc.link, link);
}

/* State x what is heard x whether the last directive is confirmed x whether anything may get looser. */
static void link_cells(void **state)
{
    (void)state;
    static const struct {
        int health, failure;
        bool down, cut, healthy, held, flaps;
    } heard[] = {
        {FALLBACK_HEALTH_UNHEARD, 0, 0, 0, 0, 0, 0},
        {FALLBACK_HEALTH_UNKNOWN, 0, 0, 0, 0, 0, 0},
        {FALLBACK_HEALTH_HEALTHY, 0, 0, 0, 1, 0, 0},
        {FALLBACK_HEALTH_DEGRADED, FALLBACK_FAILURE_NETWORK, 0, 0, 0, 0, 0},
        {FALLBACK_HEALTH_UNHEALTHY, FALLBACK_FAILURE_NETWORK, 0, 1, 0, 0, 0},
        {FALLBACK_HEALTH_UNHEALTHY, FALLBACK_FAILURE_AGENT_DOWN, 1, 0, 0, 0, 0},
        {FALLBACK_HEALTH_UNHEALTHY, FALLBACK_FAILURE_BACKEND, 0, 0, 0, 0, 0},
        {FALLBACK_HEALTH_FLAPPING, FALLBACK_FAILURE_AGENT_DOWN, 0, 0, 0, 0, 1},
        {FALLBACK_HEALTH_MAINTENANCE, FALLBACK_FAILURE_AGENT_DOWN, 0, 0, 0, 1, 0},
    };
    for (int from = UP; from <= RETURNING; from++)
        for (size_t h = 0; h < sizeof heard / sizeof heard[0]; h++)
            for (int confirmed = 0; confirmed <= 1; confirmed++)
                for (int loosen = 0; loosen <= 1; loosen++)
                    for (int asked = 0; asked <= 2; asked++) { /* self-test: none, passed, not passed */
                        struct world w;
                        bring(&w, from);
                        if (!confirmed)
                            w.f.doc.acked_epoch = w.f.doc.epoch - 1;
                        w.view.may_loosen = loosen;
                        w.rule.has_selftest = asked > 0;
                        if (asked == 1)
                            w.judgement = (struct fallback_verdict){.epoch = 1, .health = FALLBACK_HEALTH_HEALTHY};
                        judge(&w, &w.verdict, heard[h].health, heard[h].failure);
                        int expected = from;
                        if (heard[h].down)
                            expected = GONE;
                        else if (heard[h].cut)
                            expected = from == UP ? RESTRICTED : from == RETURNING ? GONE : from;
                        else if (from == RESTRICTED && confirmed && loosen && !heard[h].flaps && !heard[h].held)
                            expected = UP;
                        else if (from == GONE && confirmed && loosen && heard[h].healthy && asked != 2)
                            expected = RETURNING;
                        assert_int_equal(w.f.doc.link, expected);
                        assert_int_equal(!effect(&w, FALLBACK_ISSUE), expected == from);
                        if (heard[h].held)
                            assert_null(effect(&w, FALLBACK_TELL));
                        if (expected == RESTRICTED && from == UP) {
                            assert_int_equal(w.f.doc.step, FALLBACK_STEP_RESTRICT);
                            assert_int_equal(w.f.doc.failure, FALLBACK_FAILURE_NETWORK);
                            assert_int_equal(w.f.doc.posture, FALLBACK_DEGRADED);
                            assert_int_equal(w.f.doc.monitor_interval_ms, 60000);
                            assert_non_null(told(&w, FALLBACK_NOTICE_LINK, false));
                        }
                        if (expected == GONE && from != GONE) {
                            assert_int_equal(w.f.doc.step, FALLBACK_STEP_RESTRICT);
                            assert_int_equal(w.f.doc.failure, FALLBACK_FAILURE_AGENT_DOWN);
                            assert_non_null(told(&w, FALLBACK_NOTICE_DOWN, false));
                            assert_false(fallback_told_of(&w, FALLBACK_NOTICE_LINK));
                            assert_int_equal(w.f.doc.load_percent, 100);
                        }
                        if (expected == UP && from == RESTRICTED) {
                            assert_int_equal(w.f.doc.step, FALLBACK_STEP_RECONNECT);
                            assert_int_equal(w.f.doc.posture, FALLBACK_NORMAL);
                            assert_int_equal(w.f.doc.failure, FALLBACK_FAILURE_NONE);
                            assert_non_null(told(&w, FALLBACK_NOTICE_LINK, true));
                        }
                        if (expected == RETURNING && from == GONE) {
                            assert_int_equal(w.f.doc.posture, FALLBACK_RECOVERING);
                            assert_int_equal(w.f.doc.load_percent, 10);
                            assert_non_null(told(&w, FALLBACK_NOTICE_DOWN, true));
                        }
                        /* Again: nothing happens. */
                        if (from != RETURNING || expected == GONE) {
                            look(&w);
                            assert_null(effect(&w, FALLBACK_ISSUE));
                        }
                    }
}

static void gone_and_back(void **state)
{
    (void)state;
    struct world w;
    bring(&w, UP);
    judge(&w, &w.verdict, FALLBACK_HEALTH_UNHEALTHY, FALLBACK_FAILURE_AGENT_DOWN);
    const struct fallback_effect *t = must(told(&w, FALLBACK_NOTICE_DOWN, false));
    assert_true(says(t, "call the night shift"));
    assert_true(says(t, "redoubt rollback start agents --by NAME --reason WHY"));
    assert_int_equal(fallback_notices[FALLBACK_NOTICE_DOWN].severity, 4);
    look(&w);
    assert_null(effect(&w, FALLBACK_STORE));
    /* Alive, but it has not confirmed. */
    judge(&w, &w.verdict, FALLBACK_HEALTH_HEALTHY, 0);
    assert_int_equal(w.f.doc.link, GONE);
    ack(&w);
    static const uint32_t steps[] = {10, 25, 50, 100};
    for (int i = 0; i < 4; i++) {
        assert_int_equal(w.f.doc.link, RETURNING);
        assert_int_equal(w.f.doc.load_percent, steps[i]);
        assert_int_equal(w.f.doc.posture, FALLBACK_RECOVERING);
        assert_int_equal(w.f.doc.step, FALLBACK_STEP_RECONNECT);
        ack(&w);
        assert_int_equal(must(effect(&w, FALLBACK_WAKE_AT))->at_ms, w.now + 100);
        wait_ms(&w, 99);
        assert_null(effect(&w, FALLBACK_STORE));
        wait_ms(&w, 1);
    }
    assert_int_equal(w.f.doc.link, UP);
    assert_int_equal(w.f.doc.posture, FALLBACK_NORMAL);
    assert_non_null(strstr(w.f.doc.reason, "recovery successful"));
    assert_int_equal(w.f.doc.open_alerts, 0);
}

/* What is unsure holds the step; what is bad begins anew. */
static void way_back_that_falters(void **state)
{
    (void)state;
    struct world w;
    bring(&w, RETURNING);
    wait_ms(&w, 100);
    ack(&w);
    assert_int_equal(w.f.doc.load_percent, 25);
    judge(&w, &w.verdict, FALLBACK_HEALTH_FLAPPING, FALLBACK_FAILURE_AGENT_DOWN);
    wait_ms(&w, 1000);
    assert_int_equal(w.f.doc.load_percent, 25);
    judge(&w, &w.verdict, FALLBACK_HEALTH_HEALTHY, 0);
    assert_int_equal(w.f.doc.load_percent, 50); /* one step, not all that were missed */
    ack(&w);
    judge(&w, &w.verdict, FALLBACK_HEALTH_UNHEALTHY, FALLBACK_FAILURE_AGENT_DOWN);
    assert_int_equal(w.f.doc.link, GONE);
    assert_non_null(told(&w, FALLBACK_NOTICE_DOWN, false));
    judge(&w, &w.verdict, FALLBACK_HEALTH_HEALTHY, 0);
    ack(&w);
    assert_int_equal(w.f.doc.load_percent, 10);
    /* It does not confirm that. */
    wait_ms(&w, 100);
    wait_ms(&w, 4999);
    assert_int_equal(w.f.doc.link, RETURNING);
    w.rule.return_step_ms = 1000000;
    wait_ms(&w, 5000);
    assert_int_equal(w.f.doc.link, GONE);
}

static void unconfirmed_is_restricted(void **state)
{
    (void)state;
    struct world w;
    bring(&w, UP);
    breaker(&w, &w.llm[0], FALLBACK_BREAKER_OPEN, 0);
    look(&w);
    uint64_t epoch = w.f.doc.epoch;
    wait_ms(&w, 4999);
    assert_int_equal(w.f.doc.link, UP);
    assert_true(must(effect(&w, FALLBACK_WAKE_AT))->at_ms <= w.now + 1);
    wait_ms(&w, 1);
    assert_int_equal(w.f.doc.link, RESTRICTED);
    assert_int_equal(w.f.doc.epoch, epoch + 1);
    /* Confirms what is history: no. Then the present: yes, and nothing else is forgotten. */
    give(&w, (struct fallback_event){.kind = FALLBACK_ACK, .epoch = epoch});
    assert_int_equal(w.f.doc.link, RESTRICTED);
    ack(&w);
    assert_int_equal(w.f.doc.link, UP);
    assert_int_equal(w.f.doc.posture, FALLBACK_BACKUP_LLM);
    assert_int_equal(w.f.doc.failure, FALLBACK_FAILURE_LLM);
    assert_non_null(strstr(w.f.doc.reason, "still: uses a backup LLM"));
    /* Without the bus no confirmation could come. */
    w.view.bus_up = false;
    wait_ms(&w, 100000);
    w.view.bus_up = true;
    wait_ms(&w, 1);
    assert_int_equal(w.f.doc.link, UP);
}

/* That it cannot follow was said; that it does not confirm is no news. */
static void one_alert_for_one_problem(void **state)
{
    (void)state;
    struct world w;
    bring(&w, UP);
    breaker(&w, &w.llm[0], FALLBACK_BREAKER_OPEN, 0);
    look(&w);
    give(&w, (struct fallback_event){
                 .kind = FALLBACK_ACK, .epoch = w.f.doc.epoch, .failed = true, .detail = "no such model"});
    assert_non_null(told(&w, FALLBACK_NOTICE_ACK, false));
    wait_ms(&w, 5000);
    assert_int_equal(w.f.doc.link, RESTRICTED);
    assert_null(told(&w, FALLBACK_NOTICE_LINK, false));
    judge(&w, &w.verdict, FALLBACK_HEALTH_UNHEALTHY, FALLBACK_FAILURE_AGENT_DOWN);
    assert_non_null(told(&w, FALLBACK_NOTICE_DOWN, false));
    assert_non_null(told(&w, FALLBACK_NOTICE_ACK, true)); /* gone says it all */
}

static void who_never_was_there(void **state)
{
    (void)state;
    struct world w;
    raw(&w);
    give(&w, (struct fallback_event){.kind = FALLBACK_START});
    int raised = 0, resent = 0;
    for (int i = 0; i < 3600; i++) { /* half an hour, with heartbeats missing all the time */
        if (i == 10)
            judge(&w, &w.verdict, FALLBACK_HEALTH_UNHEALTHY, FALLBACK_FAILURE_AGENT_DOWN);
        wait_ms(&w, 500);
        raised += !!effect(&w, FALLBACK_TELL);
        resent += !!effect(&w, FALLBACK_RESEND);
        assert_null(effect(&w, FALLBACK_ISSUE));
    }
    assert_int_equal(raised, 1);
    assert_true(fallback_told_of(&w, FALLBACK_NOTICE_ACK));
    assert_in_range(resent, 50, 75);
    /* It comes: no way back from where it never was. */
    judge(&w, &w.verdict, FALLBACK_HEALTH_HEALTHY, 0);
    ack(&w);
    assert_int_equal(w.f.doc.posture, FALLBACK_NORMAL);
    assert_int_equal(w.f.doc.epoch, 1);
    assert_int_equal(w.f.doc.open_alerts, 0);
}

static void maintenance_is_left_alone(void **state)
{
    (void)state;
    struct world w;
    bring(&w, UP);
    judge(&w, &w.verdict, FALLBACK_HEALTH_MAINTENANCE, 0);
    breaker(&w, &w.llm[0], FALLBACK_BREAKER_OPEN, 0);
    look(&w);
    for (int i = 0; i < 20; i++) {
        wait_ms(&w, 1000);
        assert_int_equal(w.f.doc.link, UP);
        assert_null(effect(&w, FALLBACK_TELL));
    }
    judge(&w, &w.verdict, FALLBACK_HEALTH_HEALTHY, 0);
    assert_int_equal(w.f.doc.link, RESTRICTED); /* it still has not confirmed */
}

/* ---- a rollback of who is gone ---- */

static void rollback_is_started_once(void **state)
{
    (void)state;
    struct world w;
    bring(&w, UP);
    w.rule.rollback = FALLBACK_ROLLBACK_START;
    judge(&w, &w.verdict, FALLBACK_HEALTH_UNHEALTHY, FALLBACK_FAILURE_AGENT_DOWN);
    assert_true(says(told(&w, FALLBACK_NOTICE_DOWN, false), "a rollback of agents is started in 5 s"));
    assert_null(effect(&w, FALLBACK_ROLL));
    ack(&w);
    wait_ms(&w, 4999);
    assert_null(effect(&w, FALLBACK_ROLL));
    wait_ms(&w, 1);
    char id[FALLBACK_ID_TEXT];
    snprintf(id, sizeof id, "%s", must(effect(&w, FALLBACK_ROLL))->key);
    assert_string_equal(id, w.f.doc.rollback_id);
    assert_non_null(effect(&w, FALLBACK_STORE));
    wait_ms(&w, 1000);
    assert_null(effect(&w, FALLBACK_ROLL));
    /* Whoever asked may have died before it was heard: asked again, for the same job. */
    give(&w, (struct fallback_event){.kind = FALLBACK_LOADED});
    assert_string_equal(must(effect(&w, FALLBACK_ROLL))->key, id);
    struct fallback_event ev = {.kind = FALLBACK_ROLLED, .failed = true, .detail = "no verified version"};
    snprintf(ev.key, sizeof ev.key, "another");
    give(&w, ev);
    assert_null(effect(&w, FALLBACK_TELL));
    snprintf(ev.key, sizeof ev.key, "%s", id);
    give(&w, ev);
    assert_true(says(told(&w, FALLBACK_NOTICE_ROLLBACK, false), "no verified version"));
    give(&w, ev);
    assert_null(effect(&w, FALLBACK_TELL));
    ev.failed = false;
    give(&w, ev);
    assert_non_null(told(&w, FALLBACK_NOTICE_ROLLBACK, true));
    /* Back, and gone again: another job. */
    judge(&w, &w.verdict, FALLBACK_HEALTH_HEALTHY, 0);
    assert_int_equal(w.f.doc.link, RETURNING);
    assert_string_equal(w.f.doc.rollback_id, "");
    ack(&w);
    judge(&w, &w.verdict, FALLBACK_HEALTH_UNHEALTHY, FALLBACK_FAILURE_AGENT_DOWN);
    wait_ms(&w, 5000);
    assert_string_not_equal(must(effect(&w, FALLBACK_ROLL))->key, id);
}

static void rollback_ids_fit_and_differ(void **state)
{
    (void)state;
    char ids[2][FALLBACK_ID_TEXT];
    for (int i = 0; i < 2; i++) {
        struct world w;
        char name[65];
        memset(name, 'a', 64);
        name[63] = (char)('x' + i);
        name[64] = '\0';
        bring(&w, UP);
        w.rule.agent = name;
        w.rule.rollback = FALLBACK_ROLLBACK_START;
        w.f.doc.epoch = w.f.doc.acked_epoch = UINT64_MAX / 2;
        judge(&w, &w.verdict, FALLBACK_HEALTH_UNHEALTHY, FALLBACK_FAILURE_AGENT_DOWN);
        wait_ms(&w, 5000);
        snprintf(ids[i], sizeof ids[i], "%s", must(effect(&w, FALLBACK_ROLL))->key);
        assert_true(strlen(must(effect(&w, FALLBACK_ROLL))->key) <= 64);
    }
    assert_string_not_equal(ids[0], ids[1]);
}

static void rollback_is_not_for_everybody(void **state)
{
    (void)state;
    for (int how = 0; how < 3; how++) {
        struct world w;
        bring(&w, UP);
        w.rule.rollback = how == 0   ? FALLBACK_ROLLBACK_OFFER
                          : how == 1 ? FALLBACK_ROLLBACK_NOTHING
                                     : FALLBACK_ROLLBACK_START;
        if (how == 2)
            w.rule.deployment = "";
        judge(&w, &w.verdict, FALLBACK_HEALTH_UNHEALTHY, FALLBACK_FAILURE_AGENT_DOWN);
        assert_int_equal(says(told(&w, FALLBACK_NOTICE_DOWN, false), "rollback"), how == 0);
        wait_ms(&w, 100000);
        assert_null(effect(&w, FALLBACK_ROLL));
        assert_string_equal(w.f.doc.rollback_id, "");
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(link_cells),
        cmocka_unit_test(gone_and_back),
        cmocka_unit_test(way_back_that_falters),
        cmocka_unit_test(unconfirmed_is_restricted),
        cmocka_unit_test(one_alert_for_one_problem),
        cmocka_unit_test(who_never_was_there),
        cmocka_unit_test(maintenance_is_left_alone),
        cmocka_unit_test(rollback_is_started_once),
        cmocka_unit_test(rollback_ids_fit_and_differ),
        cmocka_unit_test(rollback_is_not_for_everybody),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
