/* test_fallback_resources.c - an agent that runs out of resources, cell by cell: rungs down, restarts, rungs up. */
#include "fallback_world.h"

#define STEP 300
#define BACK 200

static void sick(struct world *w)
{
    judge(w, &w->resources, FALLBACK_HEALTH_UNHEALTHY, FALLBACK_FAILURE_RESOURCE);
}

static void well(struct world *w)
{
    judge(w, &w->resources, FALLBACK_HEALTH_HEALTHY, 0);
}

/* 0 = well, 1..3 = 50, 25, 10 %, 4 = asked to restart, 5 = restarting. */
static int rung(const struct world *w)
{
    const struct fallback_doc *d = &w->f.doc;
    if (d->resources == FALLBACK_RESOURCES_RESTARTING)
        return 5;
    if (d->restart_requested)
        return 4;
    return d->shed_percent == 10 ? 3 : d->shed_percent == 25 ? 2 : d->shed_percent == 50 ? 1 : 0;
}

static void bring(struct world *w, int to)
{
    fresh(w);
    if (to > 0)
        sick(w);
    for (int i = 1; i < to; i++) {
        ack(w);
        wait_ms(w, STEP);
    }
    ack(w);
    assert_int_equal(rung(w), to);
}

static void restarted(struct world *w, const char *id, bool ok)
{
    struct fallback_event ev = {.kind = FALLBACK_RESTARTED, .failed = !ok, .detail = "exit 3"};
    snprintf(ev.key, sizeof ev.key, "%s", id);
    give(w, ev);
}

/* Rung x verdict x when: down only by the step, up only by the hold, and only where anything may get looser. */
static void resource_cells(void **state)
{
    (void)state;
    for (int from = 0; from <= 5; from++)
        for (int health = FALLBACK_HEALTH_UNKNOWN; health <= FALLBACK_HEALTH_MAINTENANCE; health++)
            for (int failure = 0; failure <= 1; failure++)
                for (int loosen = 0; loosen <= 1; loosen++)
                    for (int late = 0; late <= 1; late++) {
                        struct world w;
                        bring(&w, from);
                        int64_t entered = w.now;
                        /* The same verdict goes on, or another came at the same moment. */
                        w.resources = (struct fallback_verdict){.epoch = w.resources.epoch + 1,
                                                                .health = health,
                                                                .failure = failure ? FALLBACK_FAILURE_RESOURCE
                                                                                   : FALLBACK_FAILURE_NETWORK,
                                                                .since_ms = entered - 1,
                                                                .reason = "seen"};
                        w.view.may_loosen = loosen;
                        w.now += late ? STEP : BACK - 1;
                        look(&w);
                        bool over = health == FALLBACK_HEALTH_UNHEALTHY || health == FALLBACK_HEALTH_DEGRADED;
                        bool bad = over && failure;
                        bool good = health == FALLBACK_HEALTH_HEALTHY;
                        int expected = from;
                        if (from == 5)
                            expected = 5; /* its end will be told */
                        else if (bad)
                            expected = from == 0 ? 1 : late ? from + 1 : from;
                        else if (good && loosen && from > 0)
                            expected = from == 4 || late ? from - 1 : from;
                        assert_int_equal(rung(&w), expected);
                        assert_int_equal(!effect(&w, FALLBACK_ISSUE), expected == from);
                        assert_int_equal(!!effect(&w, FALLBACK_RESTART), expected == 5 && from == 4);
                        if (expected > from) {
                            assert_int_equal(w.f.doc.failure, FALLBACK_FAILURE_RESOURCE);
                            assert_non_null(told(&w, FALLBACK_NOTICE_RESOURCES, false));
                            assert_int_equal(w.f.doc.posture,
                                             expected >= 4 ? FALLBACK_DEGRADED : FALLBACK_RECOVERING);
                        }
                        if (expected < from && expected == 0) {
                            assert_non_null(told(&w, FALLBACK_NOTICE_RESOURCES, true));
                            assert_int_equal(w.f.doc.posture, FALLBACK_NORMAL);
                            assert_non_null(strstr(w.f.doc.reason, "recovery successful"));
                        }
                        look(&w);
                        assert_null(effect(&w, FALLBACK_ISSUE)); /* nothing twice at one time */
                    }
}

static void the_verdict_on_its_life_counts_too(void **state)
{
    (void)state;
    struct world w;
    fresh(&w);
    w.view.resources = NULL;
    judge(&w, &w.verdict, FALLBACK_HEALTH_UNHEALTHY, FALLBACK_FAILURE_RESOURCE);
    assert_int_equal(rung(&w), 1);
    assert_int_equal(w.f.doc.link, FALLBACK_LINK_UP);
    judge(&w, &w.verdict, FALLBACK_HEALTH_HEALTHY, 0);
    wait_ms(&w, BACK);
    assert_int_equal(rung(&w), 0);
}

static void a_relapse_goes_down_at_once(void **state)
{
    (void)state;
    struct world w;
    bring(&w, 3);
    w.now += 1;
    well(&w);
    wait_ms(&w, BACK);
    assert_int_equal(rung(&w), 2);
    wait_ms(&w, 1);
    sick(&w);
    assert_int_equal(rung(&w), 3);
    /* A clock that is ahead is no relapse each time that somebody looks. */
    w.resources.since_ms = w.now + 50;
    w.now += 1;
    look(&w);
    assert_int_equal(rung(&w), 4);
    look(&w);
    wait_ms(&w, 1);
    assert_int_equal(rung(&w), 4);
}

/* The whole way: three rungs, asked, restarted, helped; then up again. */
static void there_and_back(void **state)
{
    (void)state;
    struct world w;
    bring(&w, 4);
    assert_true(w.f.doc.restart_requested);
    wait_ms(&w, STEP);
    assert_int_equal(rung(&w), 5);
    char id[FALLBACK_KEY_TEXT], expected[FALLBACK_KEY_TEXT];
    snprintf(id, sizeof id, "%s", must(effect(&w, FALLBACK_RESTART))->key);
    snprintf(expected, sizeof expected, "agent-1-restart-%d", (int)w.f.doc.epoch);
    assert_string_equal(id, expected);
    assert_string_equal(id, w.f.doc.restart_id);
    assert_int_equal(w.f.doc.n_restarts, 1);
    assert_int_equal(w.f.doc.step, FALLBACK_STEP_RESTART);
    ack(&w);
    restarted(&w, "another", true);
    assert_int_equal(rung(&w), 5);
    restarted(&w, id, true);
    assert_int_equal(rung(&w), 3);
    assert_false(w.f.doc.restart_requested);
    restarted(&w, id, false);
    assert_null(effect(&w, FALLBACK_STORE));
    ack(&w);
    w.now += 1;
    well(&w);
    for (int i = 2; i >= 0; i--) {
        wait_ms(&w, BACK - 1);
        assert_int_equal(rung(&w), i + 1);
        assert_int_equal(must(effect(&w, FALLBACK_WAKE_AT))->at_ms, w.now + 1);
        wait_ms(&w, 1);
        assert_int_equal(rung(&w), i);
        ack(&w);
    }
    assert_int_equal(w.f.doc.posture, FALLBACK_NORMAL);
    assert_int_equal(w.f.doc.open_alerts, 0);
}

static void not_more_restarts_than_allowed(void **state)
{
    (void)state;
    struct world w;
    bring(&w, 4);
    int64_t first = 0;
    int restarts = 0;
    while (w.now < NOW + 3600000) {
        wait_ms(&w, STEP);
        if (effect(&w, FALLBACK_ISSUE))
            ack(&w);
        if (rung(&w) == 5) {
            first = first ? first : w.now;
            restarts++;
            restarted(&w, w.f.doc.restart_id, true);
            ack(&w);
        }
    }
    assert_int_equal(restarts, 3);
    assert_true(fallback_told_of(&w, FALLBACK_NOTICE_RESTART));
    assert_int_equal(fallback_notices[FALLBACK_NOTICE_RESTART].severity, 4);
    assert_int_equal(rung(&w), 4);
    w.now = first + 3600000 - 1;
    look(&w);
    assert_int_equal(rung(&w), 4);
    assert_int_equal(must(effect(&w, FALLBACK_WAKE_AT))->at_ms, w.now + 1);
    wait_ms(&w, 1);
    assert_int_equal(rung(&w), 5); /* the hour is over */
    restarted(&w, w.f.doc.restart_id, true);
    w.now += 1;
    well(&w);
    for (int i = 0; i < 4; i++)
        wait_ms(&w, BACK);
    assert_int_equal(rung(&w), 0);
    assert_false(fallback_told_of(&w, FALLBACK_NOTICE_RESTART));
    assert_false(fallback_told_of(&w, FALLBACK_NOTICE_RESOURCES));
}

static void a_restart_that_fails_is_said(void **state)
{
    (void)state;
    struct world w;
    bring(&w, 5);
    restarted(&w, w.f.doc.restart_id, false);
    assert_int_equal(rung(&w), 4);
    assert_true(says(told(&w, FALLBACK_NOTICE_RESTART, false), "exit 3"));
    assert_int_equal(w.f.doc.posture, FALLBACK_DEGRADED);
    ack(&w);
    wait_ms(&w, STEP); /* and made again */
    assert_int_equal(rung(&w), 5);
    assert_int_equal(w.f.doc.n_restarts, 2);
}

static void nobody_restarts_without_being_allowed(void **state)
{
    (void)state;
    for (int how = 0; how <= 1; how++) {
        struct world w;
        bring(&w, 4);
        if (how)
            w.rule.restarts_per_hour = 0;
        else
            w.rule.may_restart = false;
        wait_ms(&w, STEP);
        assert_int_equal(rung(&w), 4);
        assert_null(effect(&w, FALLBACK_RESTART));
        assert_true(says(told(&w, FALLBACK_NOTICE_RESTART, false), "by hand"));
        wait_ms(&w, STEP);
        assert_null(effect(&w, FALLBACK_TELL)); /* said once */
        w.now += 1;
        well(&w); /* a person did it */
        assert_int_equal(rung(&w), 3);
        assert_non_null(told(&w, FALLBACK_NOTICE_RESTART, true));
    }
}

/* Whoever ran it has died: it is not run again under its id, and the agent does not wait for ever. */
static void a_restart_whose_end_is_unknown(void **state)
{
    (void)state;
    struct world w;
    bring(&w, 5);
    char id[FALLBACK_KEY_TEXT];
    snprintf(id, sizeof id, "%s", w.f.doc.restart_id);
    wait_ms(&w, 100 * STEP);
    assert_int_equal(rung(&w), 5); /* it still runs */
    give(&w, (struct fallback_event){.kind = FALLBACK_LOADED});
    assert_null(effect(&w, FALLBACK_RESTART));
    assert_int_equal(rung(&w), 3);
    assert_non_null(strstr(w.f.doc.reason, "not known"));
    restarted(&w, id, true); /* it was alive after all */
    assert_null(effect(&w, FALLBACK_STORE));

    bring(&w, 5);
    give(&w, (struct fallback_event){.kind = FALLBACK_LOADED});
    assert_int_equal(rung(&w), 5);
    assert_int_equal(must(effect(&w, FALLBACK_WAKE_AT))->at_ms, w.now + STEP);
    wait_ms(&w, STEP);
    assert_int_equal(rung(&w), 3);
}

/* A restart that is over loosens nothing while nothing may get looser. */
static void a_restart_that_ends_in_distrust(void **state)
{
    (void)state;
    struct world w;
    bring(&w, 5);
    w.view.may_loosen = false;
    restarted(&w, w.f.doc.restart_id, true);
    assert_int_equal(rung(&w), 4);
    assert_int_equal(w.f.doc.posture, FALLBACK_DEGRADED);
    assert_null(told(&w, FALLBACK_NOTICE_RESTART, false));
}

/* The least of what resources and the way back allow. */
static void the_smaller_share_counts(void **state)
{
    (void)state;
    struct world w;
    bring(&w, 2);
    judge(&w, &w.verdict, FALLBACK_HEALTH_UNHEALTHY, FALLBACK_FAILURE_AGENT_DOWN);
    w.resources.health = FALLBACK_HEALTH_UNKNOWN;
    judge(&w, &w.verdict, FALLBACK_HEALTH_HEALTHY, 0);
    ack(&w);
    static const uint32_t least[] = {10, 25, 25, 25};
    for (int i = 0; i < 4; i++) {
        assert_int_equal(w.f.doc.link, FALLBACK_LINK_RETURNING);
        assert_int_equal(w.f.doc.load_percent, least[i]);
        ack(&w);
        wait_ms(&w, 100);
    }
    assert_int_equal(w.f.doc.link, FALLBACK_LINK_UP);
    assert_int_equal(w.f.doc.load_percent, 25);
    assert_int_equal(w.f.doc.failure, FALLBACK_FAILURE_RESOURCE);
    assert_non_null(strstr(w.f.doc.reason, "still: it takes on 25 % of its work"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(resource_cells),
        cmocka_unit_test(the_verdict_on_its_life_counts_too),
        cmocka_unit_test(a_relapse_goes_down_at_once),
        cmocka_unit_test(there_and_back),
        cmocka_unit_test(not_more_restarts_than_allowed),
        cmocka_unit_test(a_restart_that_fails_is_said),
        cmocka_unit_test(nobody_restarts_without_being_allowed),
        cmocka_unit_test(a_restart_whose_end_is_unknown),
        cmocka_unit_test(a_restart_that_ends_in_distrust),
        cmocka_unit_test(the_smaller_share_counts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
