/* test_health_cluster_life.c - three replicas of redoubt-health: what people, parents, an absent Redis and an unheard service change. */
#include "health_cluster.h"

struct told {
    bool done;
    int status;
    char text[512];
};
static void on_told(void *ctx, enum bus_status st, const struct bus_msg *m)
{
    struct told *x = ctx;
    PB(CommandReply) *r = st == BUS_OK ? wire_unpack(PB_DESC(command_reply), m->data, m->len, NULL) : NULL;
    x->done = true;
    x->status = r ? (int)r->status : -1;
    snprintf(x->text, sizeof x->text, "%s", r ? r->message : bus_status_text(st));
    wire_free(r);
}

static int order(struct env *e, const char *verb, const char *target, const char *by, const char *reason,
                 uint64_t duration_ms)
{
    struct told x = {0};
    char subject[128];
    PB(HealthCommand) q = E_(HEALTH_COMMAND__INIT);
    q.target = (char *)target;
    q.by = (char *)by;
    q.reason = (char *)reason;
    q.duration_ms = duration_ms;
    size_t len;
    void *data = wire_pack(&q, &len, NULL);
    snprintf(subject, sizeof subject, SUBJECT_CMD "health.%s", verb);
    struct bus_out o = {.subject = subject, .type = wire_type(&q), .data = data, .len = len};
    bus_request(e->bus, &o, 8000, on_told, &x);
    free(data);
    assert_true(loop_run_until(&e->loop, &x.done, HARNESS_WAIT_MS));
    return x.status;
}
#define STATUS(x) E_(COMMAND_STATUS__COMMAND_STATUS_##x)

static bool two_strict(struct env *e)
{
    return e->n_strict >= 2;
}

static void test_maintenance(void **state)
{
    struct env *e = *state;
    settle(e);
    assert_int_equal(order(e, "maintain", names[1], "ada", "", 60000), STATUS(INVALID));
    assert_int_equal(order(e, "maintain", names[1], "", "upgrade", 60000), STATUS(INVALID));
    assert_int_equal(order(e, "maintain", names[1], "ada", "upgrade", 999), STATUS(INVALID)); /* has no end */
    assert_int_equal(order(e, "maintain", "other.none", "ada", "upgrade", 60000), STATUS(INVALID));
    assert_int_equal(order(e, "resume", names[1], "ada", "done", 0), STATUS(ALREADY));
    e->n_strict = 0;
    assert_int_equal(order(e, "maintain", names[1], "ada", "upgrade", 600000), STATUS(OK));
    assert_int_equal(order(e, "maintain", names[2], "ada", "upgrade", 4000), STATUS(OK));
    UNTIL(e, two_strict);
    until_target(e, 1, STATE(MAINTENANCE));
    until_target(e, 2, STATE(MAINTENANCE));
    assert_non_null(strstr(last_of(e, names[1])->reason, "ada: upgrade"));
    atomic_store(&e->down[1], true);
    /* It ends by itself, and says so. */
    int64_t since_ms = last_of(e, names[2])->at_ms;
    until_target(e, 2, STATE(HEALTHY));
    assert_true(last_of(e, names[2])->at_ms - since_ms >= 3000);
    /* Every replica honours it, those that were started later, too. */
    for (int i = 0; i < REPLICAS; i++) {
        assert_int_equal(harness_stop(e->health[i]), 0);
        harness_start(e->health[i]);
    }
    e->replica = REPLICAS;
    UNTIL(e, members_are);
    watch_for(e, 2 * INTERVAL_MS);
    assert_true(is(e, names[1], STATE(MAINTENANCE)));
    assert_int_equal(alerts_of(e, names[1], false), 0);
    assert_int_equal(order(e, "resume", names[1], "ada", "done", 0), STATUS(OK));
    until_target(e, 1, STATE(UNHEALTHY));
}

/* Whoever depends on something that is down is not alerted about; if it stays down, it is. */
static void test_parents(void **state)
{
    struct env *e = *state;
    settle(e);
    atomic_store(&e->down[0], true);
    until_target(e, 0, STATE(UNHEALTHY));
    e->text = names[0];
    e->flag = false;
    UNTIL(e, alert_is);
    atomic_store(&e->down[CHILD], true);
    until_target(e, CHILD, STATE(UNHEALTHY));
    assert_string_equal(last_of(e, names[CHILD])->suppressed_by, names[0]);
    watch_for(e, INTERVAL_MS);
    assert_int_equal(alerts_of(e, names[CHILD], false), 0);
    atomic_store(&e->down[0], false);
    until_target(e, 0, STATE(HEALTHY));
    e->text = names[CHILD];
    UNTIL(e, alert_is);
    assert_string_equal(last_of(e, names[CHILD])->suppressed_by, "");
    atomic_store(&e->down[CHILD], false);
    until_target(e, CHILD, STATE(HEALTHY));
    e->flag = true;
    UNTIL(e, alert_is);
}

/* Redis is away: what is free is watched by everybody who cannot be sure, what is paid by one. */
static void test_store_away(void **state)
{
    struct env *e = *state;
    settle(e);
    size_t seen = e->n_seen;
    harness_kill(e->redis);
    watch_for(e, 3 * TTL_MS + INTERVAL_MS + 1000); /* the last known members have shared until then */
    forget_calls(e);
    watch_for(e, 3 * INTERVAL_MS);
    assert_int_equal(probers_of(e, 1), REPLICAS);
    assert_in_range(calls_of(e, 1), 2 * REPLICAS, 4 * REPLICAS);
    assert_int_equal(probers_of(e, PAID), 1);
    assert_in_range(calls_of(e, PAID), 2, 4);
    assert_int_equal(e->n_seen, seen);
    harness_start(e->redis);
    e->replica = REPLICAS;
    UNTIL(e, members_are);
    watch_for(e, 2 * INTERVAL_MS);
    forget_calls(e);
    watch_for(e, 2 * INTERVAL_MS);
    assert_int_equal(probers_of(e, 1), 1);
    assert_int_equal(probers_of(e, PAID), 1);
    atomic_store(&e->down[1], true);
    until_target(e, 1, STATE(UNHEALTHY));
}

/* A service of the suite that answers everybody's $SRV.PING but one's. */
static void on_ping(void *ctx, const struct bus_msg *m)
{
    struct env *e = ctx;
    static const char pong[] = "{\"type\":\"io.nats.micro.v1.ping_response\",\"name\":\"redoubt-fake\","
                               "\"id\":\"host-fake-0\",\"version\":\"0\"}";
    static const char odd[] = "{\"name\":\"redoubt-fake\",\"id\":\"no token at all\"}";
    const char *who = m->reply ? strrchr(m->reply, '.') : NULL;
    if (!who || (e->deaf && strcmp(who + 1, e->instance[0]) == 0))
        return;
    struct bus_out o = {.subject = m->reply, .data = pong, .len = sizeof pong - 1};
    (void)bus_publish(e->bus, &o, NULL);
    o = (struct bus_out){.subject = m->reply, .data = odd, .len = sizeof odd - 1};
    (void)bus_publish(e->bus, &o, NULL);
    e->pongs++;
}
static bool all_ponged(struct env *e)
{
    return e->pongs >= REPLICAS;
}

/* A service that others hear and we do not: it is our link. One that nobody hears is gone, and that is nobody's. */
static void test_unheard_service(void **state)
{
    struct env *e = *state;
    assert_non_null(bus_subscribe(e->bus, "$SRV.PING", NULL, on_ping, e));
    settle(e);
    UNTIL(e, all_ponged);
    e->deaf = true;
    e->replica = 0;
    e->state = STATE(UNHEALTHY);
    UNTIL(e, link_is);
    assert_non_null(strstr(last_of(e, link_of(e, 0))->reason, "host-fake-0 does not answer here, but"));
    assert_false(ever(e, link_of(e, 1), STATE(UNHEALTHY)));
    assert_false(ever(e, link_of(e, 2), STATE(UNHEALTHY)));
    e->deaf = false;
    e->state = STATE(HEALTHY);
    UNTIL(e, link_is);
}

static bool once_more(struct env *e)
{
    return calls_of(e, 3) > 0;
}

/* A probe on demand comes from whoever looks after the target, whichever replica was told. A replica that leaves says so. */
static void test_probe_and_leave(void **state)
{
    struct env *e = *state;
    settle(e);
    assert_int_equal(order(e, "probe", names[3], "", "", 0), STATUS(OK));
    UNTIL(e, once_more);
    assert_int_equal(order(e, "probe", "other.none", "", "", 0), STATUS(INVALID));
    assert_int_equal(order(e, "show", link_of(e, 0), "", "", 0), STATUS(OK));
    assert_int_equal(order(e, "show", "link.nobody", "", "", 0), STATUS(INVALID));
    assert_int_equal(harness_stop(e->health[0]), 0);
    e->replica = REPLICAS - 1; /* at once, not when its lifetime ends */
    assert_true(members_are(e));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_maintenance, setup, teardown),
        cmocka_unit_test_setup_teardown(test_parents, setup, teardown),
        cmocka_unit_test_setup_teardown(test_store_away, setup, teardown),
        cmocka_unit_test_setup_teardown(test_unheard_service, setup, teardown),
        cmocka_unit_test_setup_teardown(test_probe_and_leave, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
