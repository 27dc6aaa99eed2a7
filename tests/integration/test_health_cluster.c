/* test_health_cluster.c - three replicas of redoubt-health: who probes what, and whose word counts. */
#include "health_cluster.h"

/* envoy 10498 and litellm 13782: n watchers and m targets must not make n x m probes. Each target is probed once per interval in the
 * whole cluster (by as many as it has vantage points), and after one dies again, by others. */
static void test_shared_probing(void **state)
{
    struct env *e = *state;
    const int intervals = 4;
    settle(e);
    watch_for(e, intervals * INTERVAL_MS);
    for (int t = 0; t < TARGETS; t++) {
        int vantage = t == WIDE ? 2 : t == AGREED ? 3 : 1;
        assert_int_equal(probers_of(e, t), vantage);
        assert_in_range(calls_of(e, t), (intervals - 1) * vantage, (intervals + 1) * vantage);
    }
    int dies = owner_of(e, PAID); /* so that the paid one moves, too */
    harness_kill(e->health[dies]);
    forget_calls(e);
    /* Its membership ends, the others are told, and begin within one stretch of the schedule. */
    int64_t began_ms = clock_mono_ms();
    UNTIL(e, probed);
    assert_true(clock_mono_ms() - began_ms < 2 * INTERVAL_MS + 2 * TTL_MS);
    watch_for(e, INTERVAL_MS);
    forget_calls(e);
    watch_for(e, intervals * INTERVAL_MS);
    for (int t = 0; t < TARGETS; t++) {
        int vantage = t == WIDE || t == AGREED ? 2 : 1; /* as many as are left */
        assert_int_equal(atomic_load(&e->calls[dies][t]), 0);
        assert_int_equal(probers_of(e, t), vantage);
        assert_in_range(calls_of(e, t), (intervals - 1) * vantage, (intervals + 1) * vantage);
    }
    for (int t = 0; t < TARGETS; t++) { /* moving is no news */
        assert_int_equal(last_of(e, names[t])->epoch, 1);
        assert_int_equal(last_of(e, names[t])->state, STATE(HEALTHY));
    }
}

/* consul 5567: one blind or sick watcher failed hundreds of healthy nodes. Here it is its link that is at fault, and said to be. */
static void test_one_blind_watcher(void **state)
{
    struct env *e = *state;
    settle(e);
    watch_for(e, 2 * INTERVAL_MS);
    int blind = owner_of(e, PAID);
    atomic_store(&e->ways[blind].blind, true);
    e->replica = blind;
    e->state = STATE(UNHEALTHY);
    UNTIL(e, link_is);
    const struct seen *s = last_of(e, link_of(e, blind));
    assert_non_null(strstr(s->reason, "reached by")); /* what, and by whom */
    e->text = link_of(e, blind);
    e->flag = false;
    UNTIL(e, alert_is);
    /* What it looked after is looked after by the others. */
    watch_for(e, INTERVAL_MS + 2 * TTL_MS);
    forget_calls(e);
    watch_for(e, 2 * INTERVAL_MS);
    for (int t = 0; t < TARGETS; t++) {
        assert_true(calls_of(e, t) - atomic_load(&e->calls[blind][t]) > 0);
        assert_false(ever(e, names[t], STATE(UNHEALTHY)));
        assert_false(ever(e, names[t], STATE(FLAPPING)));
        assert_int_equal(alerts_of(e, names[t], false), 0);
    }
    atomic_store(&e->ways[blind].blind, false);
    e->replica = blind;
    e->state = STATE(HEALTHY);
    UNTIL(e, link_is);
    e->flag = true;
    UNTIL(e, alert_is);
}

/* uptime-kuma 3845 and 84: alert only if n locations agree. */
static void test_majority_agrees(void **state)
{
    struct env *e = *state;
    settle(e);
    atomic_store(&e->down[1], true);
    until_target(e, 1, STATE(UNHEALTHY));
    assert_true(last_of(e, names[1])->n_votes >= 2 && last_of(e, names[1])->n_bad_votes >= 2);
    atomic_store(&e->busy[WIDE], true);
    until_target(e, WIDE, STATE(UNHEALTHY));
    assert_true(last_of(e, names[WIDE])->n_bad_votes == 2);
    e->beating = false; /* all of them hear that nothing is heard */
    until_target(e, AGENT, STATE(UNHEALTHY));
    assert_true(last_of(e, names[AGENT])->n_bad_votes >= 2);
    for (int i = 0; i < REPLICAS; i++)
        assert_false(ever(e, link_of(e, i), STATE(UNHEALTHY)));
    e->beating = true;
    until_target(e, AGENT, STATE(HEALTHY));
    atomic_store(&e->down[1], false);
    atomic_store(&e->busy[WIDE], false);
    until_target(e, 1, STATE(HEALTHY));
    until_target(e, WIDE, STATE(HEALTHY));
    /* An outage that begins when the owner has just died is found all the same. */
    forget_calls(e);
    watch_for(e, 2 * INTERVAL_MS);
    int owner = owner_of(e, 2);
    harness_kill(e->health[owner]);
    atomic_store(&e->down[2], true);
    until_target(e, 2, STATE(UNHEALTHY));
}

/* What most of the vantage points see is said, even where the one that says it sees it otherwise; and it ends with them. */
static void test_vantage_points(void **state)
{
    struct env *e = *state;
    settle(e);
    uint64_t members[REPLICAS];
    uint32_t sees; /* its owner, who reaches it all the time */
    for (int i = 0; i < REPLICAS; i++)
        members[i] = rank_hash(e->instance[i]);
    rank_first(members, REPLICAS, rank_hash(names[AGREED]), 1, &sees);
    for (int i = 0; i < REPLICAS; i++)
        atomic_store(&e->ways[i].blind, i != (int)sees);
    until_target(e, AGREED, STATE(UNHEALTHY));
    assert_string_equal(last_of(e, names[AGREED])->observer, e->instance[sees]);
    assert_int_equal(last_of(e, names[AGREED])->n_votes, 3);
    assert_int_equal(last_of(e, names[AGREED])->n_bad_votes, 2);
    assert_false(ever(e, link_of(e, (int)sees), STATE(UNHEALTHY)));
    for (int i = 0; i < REPLICAS; i++)
        atomic_store(&e->ways[i].blind, false);
    until_target(e, AGREED, STATE(HEALTHY));
}

/* consul 2890: what changes all the time is said to do so, once, by more than one watcher. */
static void test_flapping(void **state)
{
    struct env *e = *state;
    settle(e);
    atomic_store(&e->flaps[4], true);
    until_target(e, 4, STATE(FLAPPING));
    assert_true(last_of(e, names[4])->n_bad_votes >= 2);
    watch_for(e, 2 * INTERVAL_MS);
    size_t said = 0;
    for (size_t i = 0; i < e->n_seen; i++)
        said += strcmp(e->seen[i].target, names[4]) == 0 && e->seen[i].state == STATE(FLAPPING);
    assert_int_equal(said, 1);
    atomic_store(&e->flaps[4], false);
    until_target(e, 4, STATE(HEALTHY));
}

static void say_traffic(struct env *e, uint32_t calls, uint32_t failures)
{
    PB(TrafficSummary) m = E_(TRAFFIC_SUMMARY__INIT);
    m.target = (char *)names[PAID];
    m.observer = (char *)"breaker-1";
    m.span_ms = 500;
    m.calls = calls;
    m.failures = failures;
    m.sent_unix_ms = clock_wall_ms();
    size_t len;
    void *data = wire_pack(&m, &len, NULL);
    struct bus_out o = {.subject = SUBJECT_TRAFFIC "llm.paid", .type = wire_type(&m), .data = data, .len = len};
    (void)bus_publish(e->bus, &o, NULL);
    free(data);
}

static bool paid_probed(struct env *e)
{
    return calls_of(e, PAID) > 0;
}

/* envoy 24729: no probes while traffic proves health; a failure in traffic ends that at once. */
static void test_traffic_spares(void **state)
{
    struct env *e = *state;
    settle(e);
    say_traffic(e, 100, 0);
    watch_for(e, INTERVAL_MS / 4);
    forget_calls(e);
    for (int i = 0; i < 12; i++) { /* three intervals */
        say_traffic(e, 100, 0);
        watch_for(e, INTERVAL_MS / 4);
    }
    assert_int_equal(calls_of(e, PAID), 0);
    assert_true(calls_of(e, 1) >= 2); /* what is free is probed all the same */
    say_traffic(e, 100, 1);
    int64_t began_ms = clock_mono_ms();
    UNTIL(e, paid_probed);
    assert_true(clock_mono_ms() - began_ms < INTERVAL_MS);
    /* Nonsense is dropped. */
    say_traffic(e, 1, 5);
    watch_for(e, 2 * INTERVAL_MS);
    assert_true(calls_of(e, PAID) >= 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_shared_probing, setup, teardown),
        cmocka_unit_test_setup_teardown(test_one_blind_watcher, setup, teardown),
        cmocka_unit_test_setup_teardown(test_majority_agrees, setup, teardown),
        cmocka_unit_test_setup_teardown(test_vantage_points, setup, teardown),
        cmocka_unit_test_setup_teardown(test_flapping, setup, teardown),
        cmocka_unit_test_setup_teardown(test_traffic_spares, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
