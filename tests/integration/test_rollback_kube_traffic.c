/* test_rollback_kube_traffic.c - shares by numbers of pods and by weights of an HTTPRoute, against the API server for tests. */
#include "kube_kit.h"

#define ON ",'io.redoubt.traffic':'on'"
#define SERVICE(name, selector)                                                                                      \
    "{'metadata':{'name':'" name "'},'spec':{'selector':{" selector "},'ports':[{'port':80}]}}"

static void open_traffic(struct town *t, const struct traffic_kind *kind)
{
    struct err e = {""};
    t->tk = kind;
    t->t = kind->open(&t->s, &t->set, &e);
    if (!t->t)
        fail_msg("%s", e.text);
}

static void start_pair(struct town *t, int canary)
{
    deploy(t, "stable", "agent:v2", 4, ON, "", "", "");
    deploy(t, "canary", "agent:v1", canary, "", "", "", "");
    control(t, "{'apply':{'services':[" SERVICE("agent", "'app':'agent','io.redoubt.traffic':'on'") "]}}");
    open_all(t, "canary");
    open_traffic(t, &traffic_replicas);
}

static void wait_share(struct town *t, int a, int b)
{
    int64_t end_ms = clock_mono_ms() + 2 * HARNESS_WAIT_MS;
    struct seen s;
    do {
        s = traffic_see(t);
        if (s.ok && s.share[0] == a && s.share[1] == b)
            return;
    } while (clock_mono_ms() < end_ms);
    fail_msg("waited in vain for %d/%d: ok=%d %d/%d %s", a, b, s.ok, s.share[0], s.share[1], s.text);
}

/* What the Service has really: ready endpoints by track. */
static unsigned endpoints(struct town *t, const char *track, bool *ret_all_ready)
{
    unsigned n = 0;
    const json_t *list = json_object_get(object(t, "endpointslices/agent-slice"), "endpoints");
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *e = json_array_get(list, i);
        n += strncmp(kube_text(e, "targetRef.name"), track, strlen(track)) == 0;
        if (!json_is_true(kube_at(e, "conditions.ready")))
            *ret_all_ready = false;
    }
    return n;
}

static void set_ok(struct town *t, int a, int b)
{
    struct seen s = traffic_set(t, a, b);
    if (!s.ok)
        fail_msg("%d/%d: %s", a, b, s.text);
    wait_share(t, a, b);
}

static void pods_get_their_share(struct town *t, int a, int b, unsigned stable, unsigned canary)
{
    bool ready = true;
    set_ok(t, a, b);
    assert_int_equal(endpoints(t, "stable", &ready), stable);
    assert_int_equal(endpoints(t, "canary", &ready), canary);
    assert_true(ready);
}

static void shares_by_pods(void **state)
{
    struct town *t = *state;
    struct seen s = {0};
    bool ready = true;
    start_pair(t, 0);
    wait_ready(t, &s, 4, 0);
    wait_share(t, 100, 0);
    assert_true(traffic_check(t).ok);
    /* The other side is there and ready, and has no traffic. */
    deploy(t, "canary", "agent:v1", 4, "", "", "", "");
    wait_ready(t, &s, 4, 4);
    wait_share(t, 100, 0);
    pods_get_their_share(t, 100, 0, 4, 0);
    pods_get_their_share(t, 50, 50, 4, 4);
    pods_get_their_share(t, 25, 75, 1, 3);
    pods_get_their_share(t, 10, 90, 1, 4); /* as near as whole pods come to it */
    pods_get_their_share(t, 0, 100, 0, 4);
    set_ok(t, 0, 100);
    /* A pod of the side that has everything is replaced: the new one gets its part. */
    deploy(t, "canary", "agent:v1", 5, "", "", "", "");
    wait_ready(t, &s, 4, 5);
    int64_t end_ms = clock_mono_ms() + HARNESS_WAIT_MS;
    while (endpoints(t, "canary", &ready) != 5 && clock_mono_ms() < end_ms)
        wait_share(t, 0, 100);
    assert_int_equal(endpoints(t, "canary", &ready), 5);
    /* And back. */
    set_ok(t, 75, 25);
    set_ok(t, 100, 0);
    forget_seen(&s);
}

static void nobody_gets_traffic_who_is_not_ready(void **state)
{
    struct town *t = *state;
    struct seen s = {0};
    bool ready = true;
    start_pair(t, 0);
    wait_ready(t, &s, 4, 0);
    struct seen none = traffic_set(t, 50, 50);
    assert_false(none.ok || none.lasting);
    assert_non_null(strstr(none.text, "4 pods of the stable Deployment are ready and 0 of the canary"));
    assert_int_equal(endpoints(t, "stable", &ready), 4); /* nothing was taken */
    /* Two of four get ready: those carry what they can. */
    deploy(t, "canary", "agent:v1", 2, "", "", "", "");
    wait_ready(t, &s, 4, 2);
    control(t, "{'ready_ms':100000}");
    deploy(t, "canary", "agent:v1", 4, "", "", "", "");
    struct seen part = traffic_set(t, 50, 50);
    assert_true(part.ok);
    wait_share(t, 50, 50);
    assert_int_equal(endpoints(t, "canary", &ready), 2);
    assert_int_equal(endpoints(t, "stable", &ready), 2);
    assert_true(ready);
    forget_seen(&s);
}

static void what_would_be_blind_is_refused(void **state)
{
    struct town *t = *state;
    struct seen s = {0};
    start_pair(t, 0);
    wait_ready(t, &s, 4, 0);
    control(t, "{'apply':{'services':[" SERVICE("other", "'app':'agent'") "]}}");
    struct seen r = traffic_check(t);
    assert_false(r.ok);
    assert_true(r.lasting);
    assert_non_null(strstr(r.text, "Service other would send work to every pod"));
    control(t, "{'remove':{'services':['other','agent']},'apply':{'services':[" SERVICE(
                   "alone", "'app':'agent','track':'stable','io.redoubt.traffic':'on'") "]}}");
    r = traffic_check(t);
    assert_non_null(strstr(r.text, "no Service in agents"));
    assert_false(traffic_set(t, 50, 50).ok);
    control(t, "{'apply':{'services':[" SERVICE(
                   "agent", "'app':'agent','io.redoubt.traffic':'on'") "]},'denied':['patch pods']}");
    r = traffic_check(t);
    assert_false(r.ok);
    assert_non_null(strstr(r.text, "403"));
    control(t, "{'denied':['list endpointslices']}");
    r = traffic_see(t);
    assert_false(r.ok);
    assert_true(r.lasting);
    forget_seen(&s);
}

/* ---- HTTPRoute ---- */

static void start_route(struct town *t)
{
    static char *sides[2];
    sides[0] = (char *)(uintptr_t) "agent-stable";
    sides[1] = (char *)(uintptr_t) "agent-canary";
    t->set.traffic.route = (char *)(uintptr_t) "agent";
    t->set.traffic.side_0 = (struct conf_list){.items = (void *)&sides[0], .n = 1};
    t->set.traffic.side_1 = (struct conf_list){.items = (void *)&sides[1], .n = 1};
    t->set.traffic.rule = 1;
    control(t, "{'apply':{'services':[" SERVICE("agent-stable", "'app':'x'") "," SERVICE(
                   "agent-canary",
                   "'app':'y'") "," SERVICE("other", "'app':'z'") "],'httproutes':[{'metadata':{'name':'agent'},"
                                                                  "'spec':{'parentRefs':[{'name':'public'}],'rules':["
                                                                  "{'backendRefs':[{'name':'other','port':80}]},{'"
                                                                  "filters':[{'type':'X'}],'backendRefs':["
                                                                  "{'name':'agent-stable','port':80},{'name':'agent-"
                                                                  "canary','port':80,'weight':0}]}]}}]}}");
    open_traffic(t, &traffic_httproute);
}

static void shares_by_weights(void **state)
{
    struct town *t = *state;
    static const int steps[][2] = {{100, 0}, {50, 50}, {25, 75}, {10, 90}, {0, 100}, {0, 100}, {100, 0}};
    start_route(t);
    wait_share(t, 100, 0);
    assert_true(traffic_check(t).ok);
    for (size_t i = 0; i < sizeof steps / sizeof *steps; i++) {
        struct seen s = traffic_set(t, steps[i][0], steps[i][1]);
        assert_true(s.ok);
        wait_share(t, steps[i][0], steps[i][1]);
    }
    const json_t *rules = kube_at(object(t, "httproutes/agent"), "spec.rules");
    assert_int_equal(json_array_size(json_object_get(json_array_get(rules, 1), "filters")),
                     1); /* nothing else was touched */
    assert_null(kube_at(json_array_get(json_object_get(json_array_get(rules, 0), "backendRefs"), 0), "weight"));
}

static void weights_count_when_the_gateway_has_them(void **state)
{
    struct town *t = *state;
    start_route(t);
    wait_share(t, 100, 0);
    control(t, "{'gateways':false}");
    assert_true(traffic_set(t, 50, 50).ok);
    struct seen s = traffic_see(t);
    assert_false(s.ok || s.lasting);
    assert_non_null(strstr(s.text, "gateway public has not taken its present form"));
    control(t, "{'gateways':true,'remove':{'services':['agent-canary']}}");
    int64_t end_ms = clock_mono_ms() + HARNESS_WAIT_MS;
    do
        s = traffic_see(t);
    while (!strstr(s.text, "ResolvedRefs=False") && clock_mono_ms() < end_ms);
    assert_non_null(strstr(s.text, "Service agent-canary not found"));
    t->set.traffic.rule = 0;
    s = traffic_see(t);
    assert_true(!s.ok && s.lasting && strstr(s.text, "`other` as well"));
    t->set.traffic.rule = 7;
    s = traffic_check(t);
    assert_true(!s.ok && s.lasting && strstr(s.text, "has no rule 7"));
    t->set.traffic.rule = 1;
    control(t, "{'denied':['patch httproutes']}");
    s = traffic_set(t, 0, 100);
    assert_true(!s.ok && s.lasting && strstr(s.text, "403"));
    control(t, "{'denied':[],'remove':{'httproutes':['agent']}}");
    s = traffic_see(t);
    assert_true(!s.ok && s.lasting && strstr(s.text, "404"));
}

/* ctx is whether it was closed: what is quick may be told before. */
static void not_after_close(void *ctx, const struct executor_result *r)
{
    if (*(bool *)ctx)
        fail_msg("told after close: %s", r->text);
}

static void no_view_after_close(void *ctx, const struct traffic_view *v)
{
    if (*(bool *)ctx)
        fail_msg("told after close: %s", v->error);
}

static void closed_is_closed(void **state)
{
    struct town *t = *state;
    struct seen s = {0};
    bool nothing = false, closed[10] = {false};
    start_pair(t, 4);
    wait_ready(t, &s, 4, 4);
    for (int i = 0; i < 10; i++) {
        struct traffic_order o = {.job = "j", .share = {i % 2 ? 50 : 25, i % 2 ? 50 : 75}};
        t->tk->set(t->t, &o, not_after_close, &closed[i]);
        t->tk->check(t->t, not_after_close, &closed[i]);
        t->tk->view(t->t, NULL, 0, no_view_after_close, &closed[i]);
        (void)loop_run_until(&t->s.loop, &nothing, i);
        t->tk->close(t->t);
        closed[i] = true;
        t->t = NULL;
        open_traffic(t, &traffic_replicas);
    }
    set_ok(t, 50, 50); /* whatever was cut short is done by asking again */
    forget_seen(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(shares_by_pods, town_setup, town_teardown),
        cmocka_unit_test_setup_teardown(nobody_gets_traffic_who_is_not_ready, town_setup, town_teardown),
        cmocka_unit_test_setup_teardown(what_would_be_blind_is_refused, town_setup, town_teardown),
        cmocka_unit_test_setup_teardown(shares_by_weights, town_setup, town_teardown),
        cmocka_unit_test_setup_teardown(weights_count_when_the_gateway_has_them, town_setup, town_teardown),
        cmocka_unit_test_setup_teardown(closed_is_closed, town_setup, town_teardown),
    };
    return cmocka_run_group_tests(tests, shared_setup, shared_teardown);
}
