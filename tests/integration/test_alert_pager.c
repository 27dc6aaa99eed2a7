/* test_alert_pager.c - PagerDuty's incidents: what many alerts in one message, their ends and acknowledgements make of them, by `redoubt sim hook`. */
#include "channel_kit.h"
#include <jansson.h>

#define KEY "0123456789abcdef0123456789abcdef"

struct pager {
    int port, control;
    bool answered;
    json_t *answer;
};
static struct pager pager;

static const char *program(void)
{
    static char path[4200];
    char exe[4096];
    const char *dir = getenv("REDOUBT_BIN");
    if (dir) {
        snprintf(path, sizeof path, "%s/redoubt", dir);
        return path;
    }
    ssize_t n = readlink("/proc/self/exe", exe, sizeof exe - 1);
    exe[n > 0 ? n : 0] = 0;
    for (int up = 0; up < 3; up++) /* tests/integration/test_x */
        *strrchr(exe, '/') = 0;
    snprintf(path, sizeof path, "%s/bin/redoubt", exe);
    return path;
}

static int pager_setup(void **state)
{
    if (town_setup(state))
        return -1;
    struct town *t = *state;
    char port[16], control[16];
    pager = (struct pager){.port = harness_free_port(), .control = harness_free_port()};
    snprintf(port, sizeof port, "%d", pager.port);
    snprintf(control, sizeof control, "%d", pager.control);
    harness_run(t->h, "hook", pager.control,
                (const char *[]){program(), "sim", "hook", "--port", port, "--control", control, NULL});
    town_channel(t, "", "type: pagerduty, token: " KEY ", url: \"http://127.0.0.1:%d/v2/enqueue\", attempt: 5s",
                 pager.port);
    return 0;
}

static int pager_teardown(void **state)
{
    json_decref(pager.answer);
    return town_teardown(state);
}

static void on_answer(void *ctx, const struct http_result *r)
{
    (void)ctx;
    json_decref(pager.answer);
    pager.answer = json_loadb(r->body, r->len, 0, NULL);
    pager.answered = true;
}

static const json_t *ask(struct town *t, const char *path, const char *body)
{
    char url[128];
    snprintf(url, sizeof url, "http://127.0.0.1:%d%s", pager.control, path);
    pager.answered = false;
    (void)http_start(t->s.http, &(struct http_request){.url = url, .body = body, .body_len = body ? strlen(body) : 0},
                     NULL, on_answer, NULL);
    TOWN_WAIT(t, pager.answered);
    assert_non_null(pager.answer);
    return pager.answer;
}

/* How many incidents are in this state. */
static int incidents(struct town *t, const char *state)
{
    json_t *all = json_object_get(ask(t, "/sim/state", NULL), "incidents"), *is;
    const char *key;
    int n = 0;
    json_object_foreach(all, key, is) n += strcmp(json_string_value(is), state) == 0;
    return n;
}

/* A message of n problems; with `ends` from the nth on over. */
static struct attempt tell(struct town *t, enum alert_message_kind kind, size_t n, size_t total, size_t ends)
{
    static PB(Alert) rows[ALERT_SHOWN_MAX];
    static const PB(Alert) * list[ALERT_SHOWN_MAX];
    static char ids[ALERT_SHOWN_MAX][16];
    struct attempt x;
    for (size_t i = 0; i < n; i++) {
        snprintf(ids[i], sizeof ids[i], "p%zu", i);
        rows[i] = town_alert(ids[i]);
        rows[i].dedup_key = ids[i];
        rows[i].resolved = i >= ends;
        list[i] = &rows[i];
    }
    struct alert_message m = alert_message_one(list, NULL);
    m.kind = kind;
    m.id = "whole";
    m.n = n;
    m.total = total;
    m.title = "many";
    m.resolved = ends == 0;
    town_begin(t, &x, &m);
    town_end(t, &x);
    return x;
}

static void a_group_opens_and_closes_each(void **state)
{
    struct town *t = *state;
    struct attempt x = tell(t, ALERT_MESSAGE_GROUP, 5, 5, 5);
    assert_int_equal(x.class, ALERT_CLASS_ACCEPTED);
    assert_int_equal(incidents(t, "triggered"), 5);
    x = tell(t, ALERT_MESSAGE_GROUP, 5, 5, 2); /* three are over, two still there */
    assert_int_equal(x.class, ALERT_CLASS_ACCEPTED);
    assert_int_equal(incidents(t, "triggered"), 2);
    assert_int_equal(incidents(t, "resolved"), 3);
    x = tell(t, ALERT_MESSAGE_GROUP, 5, 5, 0);
    assert_int_equal(x.class, ALERT_CLASS_ACCEPTED);
    assert_int_equal(incidents(t, "resolved"), 5);
}

static void more_is_one_incident(void **state)
{
    struct town *t = *state;
    assert_int_equal(tell(t, ALERT_MESSAGE_GROUP, 21, 21, 21).class, ALERT_CLASS_ACCEPTED);
    assert_int_equal(incidents(t, "triggered"), 1);
    /* The same digest after a restart has the same key: no second incident. */
    assert_int_equal(tell(t, ALERT_MESSAGE_DIGEST, 3, 5000, 3).class, ALERT_CLASS_ACCEPTED);
    assert_int_equal(incidents(t, "triggered"), 1);
}

static void half_of_a_group_is_no_group(void **state)
{
    struct town *t = *state;
    ask(t, "/sim/mode", "{\"mode\":\"500\",\"count\":1}");
    struct attempt x = tell(t, ALERT_MESSAGE_GROUP, 3, 3, 3);
    assert_int_equal(x.class, ALERT_CLASS_AGAIN);
    assert_non_null(strstr(x.detail, "0 of 3 events taken"));
    assert_int_equal(tell(t, ALERT_MESSAGE_GROUP, 3, 3, 3).class, ALERT_CLASS_ACCEPTED);
    assert_int_equal(incidents(t, "triggered"), 3);
    ask(t, "/sim/mode", "{\"mode\":\"hang\"}");
    t->c->set.attempt_ms = 300;
    x = tell(t, ALERT_MESSAGE_GROUP, 3, 3, 3);
    assert_int_equal(x.outcome.fault, ALERT_FAULT_TIMEOUT);
    assert_true(x.took_ms >= 290);
}

static void whoever_takes_it_on_is_known_there(void **state)
{
    struct town *t = *state;
    PB(Alert) a = town_alert("p0");
    a.dedup_key = (char *)"p0";
    struct alert_channel *list[] = {t->c};
    t->r.channels = list;
    t->r.n_channels = 1;
    /* What nobody knows there changes nothing. */
    alert_channels_acked(&t->r, &a, "eve");
    TOWN_WAIT(t, json_integer_value(json_object_get(ask(t, "/sim/state", NULL), "kept")) == 1);
    assert_int_equal(incidents(t, "acknowledged"), 0);
    assert_int_equal(tell(t, ALERT_MESSAGE_GROUP, 2, 2, 2).class, ALERT_CLASS_ACCEPTED);
    alert_channels_acked(&t->r, &a, "eve");
    TOWN_WAIT(t, incidents(t, "acknowledged") == 1);
    assert_int_equal(incidents(t, "triggered"), 1);
    /* One that fails costs nothing: it is logged. */
    ask(t, "/sim/mode", "{\"mode\":\"500\"}");
    int refs = t->c->refs;
    alert_channels_acked(&t->r, &a, "eve");
    assert_int_equal(t->c->refs, refs + 1);
    TOWN_WAIT(t, t->c->refs == refs);
    t->r.n_channels = 0;
}

#define PAGER(f) cmocka_unit_test_setup_teardown(f, pager_setup, pager_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        PAGER(a_group_opens_and_closes_each),
        PAGER(more_is_one_incident),
        PAGER(half_of_a_group_is_no_group),
        PAGER(whoever_takes_it_on_is_known_there),
    };
    cmocka_set_test_filter(getenv("ONLY"));
    return cmocka_run_group_tests(tests, NULL, NULL);
}
