/* test_alert_pulse.c - the dead-man's test through the real service: pulses, pings, its failure, and the silence that others notice. */
#include "alert_town.h"
#include "common/last_resort.h"

struct pulses {
    int good, bad;
    char channel[65], detail[256];
    int silent, heard, failing, passing; /* alerts of alert/silent and alert/deadman, and their ends */
};
static struct pulses seen;

static void on_pulse(void *ctx, const struct bus_msg *m)
{
    struct err e;
    PB(Pulse) *p = wire_unpack(PB_DESC(pulse), m->data, m->len, &e);
    (void)ctx;
    if (!p)
        fail_msg("a pulse is not valid: %s", e.text);
    if (p->ok)
        seen.good++;
    else
        seen.bad++;
    assert_string_equal(p->service, "alert");
    assert_int_equal(p->every_ms, 1000);
    snprintf(seen.channel, sizeof seen.channel, "%s", p->channel);
    snprintf(seen.detail, sizeof seen.detail, "%s", p->detail);
    wire_free(p);
}

static void on_news(void *ctx, const struct bus_msg *m)
{
    struct err e;
    PB(Alert) *a = wire_unpack(PB_DESC(alert), m->data, m->len, &e);
    (void)ctx;
    if (a && strcmp(a->dedup_key, "alert/silent") == 0)
        *(a->resolved ? &seen.heard : &seen.silent) += 1;
    if (a && strcmp(a->dedup_key, "alert/deadman") == 0)
        *(a->resolved ? &seen.passing : &seen.failing) += 1;
    wire_free(a);
}

/* Slack is the dead-man's way, mail is everybody's; `hook` is where pings and the last resort's calls go. */
static void configure(struct town *t, int hook)
{
    FILE *f = fopen(t->config, "we");
    assert_non_null(f);
    fprintf(f,
            "nats: { url: \"%s\" }\nredis: { host: 127.0.0.1, port: %d }\ndata_dir: %s/data\nalert:\n  channels:\n"
            "    - { name: post, type: email, url: \"smtp://127.0.0.1:%d\", from: r@example.org, to: "
            "[ops@example.org] }\n"
            "    - { name: chat, type: slack, url: \"http://127.0.0.1:%d/hook\", attempt: 500ms, tries: 1, deadline: "
            "1s }\n"
            "  routes:\n    - { channels: [post] }\n"
            "  deadman: { to: chat, url: \"http://127.0.0.1:%d/ping\", every: 1s }\n"
            "  last_resort: { url: \"http://127.0.0.1:%d/last\", after: 2s }\n",
            t->k->nats->url, t->redis->port, harness_dir(t->k->h), t->smtp.port, t->slack.port, hook, hook);
    fclose(f);
}

/* How often a path of the hook was called; `text` is in the body. */
static int calls(struct town *t, const struct sim *hook, const char *path, const char *text)
{
    const json_t *list = json_object_get(ask(t, hook, "/sim/requests", NULL), "requests"), *r;
    int n = 0;
    size_t k;
    json_array_foreach((json_t *)list, k, r)
    {
        const char *at = json_string_value(json_object_get(r, "path"));
        const char *body = json_string_value(json_object_get(r, "body"));
        n += at && strcmp(at, path) == 0 && (!*text || (body && strstr(body, text)));
    }
    return n;
}

static void the_whole_way_again_and_again(void **state)
{
    struct town *t = *state;
    struct sim hook;
    seen = (struct pulses){0};
    start_sim(t, &hook, "hook");
    bus_subscribe(t->kb.b, SUBJECT_PULSE "alert", NULL, on_pulse, NULL);
    bus_subscribe(t->kb.b, SUBJECT_ALERT, NULL, on_news, NULL);
    configure(t, hook.port);
    restart_alert(t);
    KIT_WAIT_MS(t->k, seen.good >= 3, 30000);
    assert_string_equal(seen.channel, "chat");
    KIT_WAIT(t->k, calls(t, &hook, "/ping", "") >= 2);
    assert_true(told(t, &t->slack, "Self-test: alerts come through") >= 3);
    assert_int_equal(seen.bad + seen.failing + seen.silent, 0);
    assert_int_equal(told(t, &t->smtp, "Self-test"), 0);

    /* The way is broken: no ping, people hear of it once by the normal way. */
    mode(t, &t->slack, "500");
    KIT_WAIT_MS(t->k, seen.bad >= 3, 30000);
    int pings = calls(t, &hook, "/ping", "");
    assert_int_equal(seen.failing, 1);
    KIT_WAIT(t->k, told(t, &t->smtp, "the self-test fails") == 1);
    KIT_WAIT_MS(t->k, seen.bad >= 5, 30000);
    assert_int_equal(calls(t, &hook, "/ping", ""), pings);
    assert_int_equal(seen.failing, 1);
    mode(t, &t->slack, "ok");
    KIT_WAIT_MS(t->k, seen.passing == 1, 30000);
    KIT_WAIT(t->k, told(t, &t->smtp, "the self-test passes") == 1);
    KIT_WAIT(t->k, calls(t, &hook, "/ping", "") > pings);

    /* Whoever is pinged hangs: tests go on. */
    mode(t, &hook, "hang");
    int good = seen.good;
    KIT_WAIT_MS(t->k, seen.good >= good + 3, 30000);
    mode(t, &hook, "ok");
    harness_stop(hook.proc);
}

static void silence_is_noticed(void **state)
{
    struct town *t = *state;
    struct sim hook;
    seen = (struct pulses){0};
    start_sim(t, &hook, "hook");
    bus_subscribe(t->kb.b, SUBJECT_PULSE "alert", NULL, on_pulse, NULL);
    bus_subscribe(t->kb.b, SUBJECT_ALERT, NULL, on_news, NULL);
    configure(t, hook.port);
    const char *argv[] = {bin("redoubt-health"), "-c", t->config, NULL};
    struct harness_proc *health = harness_run(t->k->h, "health", 0, argv);
    restart_alert(t);
    KIT_WAIT_MS(t->k, seen.good >= 2, 30000);
    harness_freeze(t->alert); /* it is there, and does nothing */
    KIT_WAIT_MS(t->k, seen.silent == 1, 30000);
    KIT_WAIT(t->k, calls(t, &hook, "/last", "The alert service is silent") == 1);
    char path[700], text[8192] = "";
    snprintf(path, sizeof path, "%s/data/health/0/%s", harness_dir(t->k->h), LAST_RESORT_FILE);
    FILE *f = fopen(path, "re");
    assert_non_null(f);
    (void)!fread(text, 1, sizeof text - 1, f);
    fclose(f);
    assert_non_null(strstr(text, "alert/silent"));
    harness_thaw(t->alert);
    KIT_WAIT_MS(t->k, seen.heard == 1, 30000);
    KIT_WAIT(t->k, calls(t, &hook, "/last", "The alert service is heard again") == 1);
    assert_int_equal(seen.silent, 1);
    /* When it works again it tells what was raised meanwhile, also that it was silent. */
    KIT_WAIT_MS(t->k, told(t, &t->smtp, "The alert service is silent") + told(t, &t->smtp, "is heard again") >= 1,
                30000);
    assert_int_equal(harness_stop(health), 0);
    harness_stop(hook.proc);
}

#define TOWN(fn) cmocka_unit_test_setup_teardown(fn, town_setup, town_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TOWN(the_whole_way_again_and_again),
        TOWN(silence_is_noticed),
    };
    cmocka_set_test_filter(getenv("ONLY"));
    return cmocka_run_group_tests(tests, NULL, NULL);
}
