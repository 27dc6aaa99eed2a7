/* test_alert_routes.c - redoubt-alert with several routes and groups in groups, against channels that fail: who is told, how often, and what is
 * owed. */
#include "alert_town.h"

/* `rest` is what stands below `alert:` behind the channels post, chat and record. */
static void configure(struct town *t, const char *rest)
{
    write_config(t, t->slack.port, "chat", "");
    char text[8192];
    FILE *f = fopen(t->config, "re");
    assert_non_null(f);
    size_t n = fread(text, 1, sizeof text - 1, f);
    fclose(f);
    text[n] = 0;
    char *routes = strstr(text, "  routes:\n");
    assert_non_null(routes);
    *routes = 0;
    f = fopen(t->config, "we");
    fprintf(f, "%s%s", text, rest);
    fclose(f);
    restart_alert(t);
}

#define FANOUT                                                                                                       \
    "  groups:\n    - { name: both, mode: fanout, members: [post, chat] }\n"                                         \
    "  routes:\n    - { name: all, to: both }\n"

static void a_fanout_tells_each_by_itself(void **state)
{
    struct town *t = *state;
    configure(t, FANOUT);
    raise_alert(t, "f1", "f1", SEV(HIGH), false);
    KIT_WAIT(t->k, delivered(t, "f1", "post") && delivered(t, "f1", "chat"));
    assert_int_equal(receipts(t, "f1", NULL, ST(ACCEPTED)), 2);

    /* One hangs: the other has it at once, and once; what is owed is owed to the one alone. */
    mode(t, &t->smtp, "hang");
    raise_alert(t, "f2", "f2", SEV(HIGH), false);
    KIT_WAIT(t->k, delivered(t, "f2", "chat"));
    assert_int_equal(receipts(t, "f2", "post", ST(FAILED)), 0);
    KIT_WAIT(t->k, receipts(t, "f2", NULL, ST(WAITING)) == 1);
    assert_int_equal(receipts(t, "f2", NULL, ST(EXHAUSTED)), 0);
    mend(t, &t->smtp, "post");
    KIT_WAIT_MS(t->k, delivered(t, "f2", "post"), 20000);
    assert_int_equal(receipts(t, "f2", "chat", ST(ACCEPTED)), 1);
    assert_int_equal(told(t, &t->slack, "summary of f2:"), 1);
}

static void a_failover_of_a_fanout_waits_for_all_of_it(void **state)
{
    struct town *t = *state;
    configure(t, "  groups:\n    - { name: day, mode: fanout, members: [chat] }\n"
                 "    - { name: always, members: [day, post, chat] }\n  routes:\n    - { name: all, to: always }\n");
    raise_alert(t, "g1", "g1", SEV(HIGH), false);
    KIT_WAIT(t->k, delivered(t, "g1", "chat"));
    mode(t, &t->slack, "404");
    raise_alert(t, "g2", "g2", SEV(HIGH), false);
    KIT_WAIT(t->k, delivered(t, "g2", "post"));
    assert_int_equal(receipts(t, "g2", "chat", ST(FAILED)), 1); /* twice in the tree, tried once */
    assert_int_equal(receipts(t, "g1", "post", ST(ACCEPTED)), 0);
}

static void several_routes_and_one_telling(void **state)
{
    struct town *t = *state;
    configure(t, "  groups:\n    - { name: both, mode: fanout, members: [post, chat] }\n  routes:\n"
                 "    - { name: first, match: ['dedup_key=~a.*'], channels: [chat, record], continue: true }\n"
                 "    - { name: worst, min_severity: critical, to: both, continue: true }\n"
                 "    - { name: ends, match: ['dedup_key=quiet-end'], to: chat, resolved: false }\n"
                 "    - { name: b, match: ['dedup_key=~b.*'], channels: [post] }\n");
    raise_alert(t, "r1", "a1", SEV(CRITICAL), false); /* both routes want chat: it is told once */
    KIT_WAIT(t->k, delivered(t, "r1", "post") && delivered(t, "r1", "chat"));
    raise_alert(t, "r2", "a2", SEV(INFO), false);
    raise_alert(t, "r3", "b1", SEV(INFO), false);
    raise_alert(t, "r4", "c1", SEV(INFO), false); /* no route takes it: said, and kept on the stream */
    KIT_WAIT(t->k, delivered(t, "r2", "chat") && delivered(t, "r3", "post") &&
                       receipts(t, "r4", NULL, ST(EXHAUSTED)) == 1 && receipts(t, "r4", "", ST(RECORDED)) == 1);
    assert_int_equal(told(t, &t->slack, "summary of r1:"), 1);
    assert_int_equal(receipts(t, "r1", "record", ST(RECORDED)), 1);
    assert_int_equal(receipts(t, "r2", "post", ST(ACCEPTED)), 0);
    assert_int_equal(receipts(t, "r3", "chat", ST(ACCEPTED)), 0);
    /* A route that does not tell ends. */
    raise_alert(t, "e1", "quiet-end", SEV(HIGH), false);
    KIT_WAIT(t->k, delivered(t, "e1", "chat"));
    raise_alert(t, "e2", "quiet-end", SEV(HIGH), true);
    KIT_WAIT(t->k, receipts(t, "e2", "", ST(RECORDED)) == 1);
    assert_int_equal(receipts(t, "e2", NULL, ST(ACCEPTED)), 0);
}

static void groups_wait_but_critical_does_not(void **state)
{
    struct town *t = *state;
    configure(t,
              "  routes:\n    - { name: web, to: chat, group_by: [source], group_wait: 1s, group_interval: 1s }\n");
    char id[16];
    for (int i = 0; i < 8; i++) {
        snprintf(id, sizeof id, "w%d", i);
        raise_alert(t, id, id, SEV(WARNING), false);
    }
    raise_alert(t, "now", "now", SEV(CRITICAL), false);
    KIT_WAIT(t->k, delivered(t, "now", "chat"));
    for (int i = 0; i < 8; i++) {
        snprintf(id, sizeof id, "w%d", i);
        KIT_WAIT_MS(t->k, delivered(t, id, "chat") && receipts(t, id, NULL, ST(WAITING)) == 1, 20000);
        assert_int_equal(receipts(t, id, "chat", ST(ACCEPTED)), 1);
    }
    assert_int_equal(told(t, &t->slack, "summary of now:"), 1);
    const json_t *list = json_object_get(ask(t, &t->slack, "/sim/requests", NULL), "requests");
    assert_true(json_array_size(list) <= 6); /* nine alerts, few messages */
}

static void a_burst_to_dead_channels_is_not_kept_in_hand(void **state)
{
    struct town *t = *state;
    mode(t, &t->smtp, "550");
    mode(t, &t->slack, "404");
    configure(t, FANOUT);
    char id[16];
    for (int i = 0; i < 300; i++) {
        snprintf(id, sizeof id, "k%d", i);
        raise_alert(t, id, id, SEV(WARNING), false);
    }
    for (int i = 0; i < 300; i++) {
        snprintf(id, sizeof id, "k%d", i);
        KIT_WAIT_MS(t->k, receipts(t, id, NULL, ST(EXHAUSTED)) >= 1, 30000);
    }
    struct err e;
    PB(AlertReport) *report = NULL;
    do { /* nothing is in hand, however long the channels stay dead */
        wire_free(report);
        const PB(CommandReply) *r = command(t, "show", NULL);
        report = wire_unpack(PB_DESC(alert_report), r->payload.data, r->payload.len, &e);
        assert_non_null(report);
    } while (report->in_hand > 0);
    wire_free(report);
    mend(t, &t->slack, "chat");
    for (int i = 0; i < 300; i++) {
        snprintf(id, sizeof id, "k%d", i);
        KIT_WAIT_MS(t->k, receipts(t, id, "chat", ST(ACCEPTED)) == 1, 30000);
    }
}

#define TOWN(fn) cmocka_unit_test_setup_teardown(fn, town_setup, town_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TOWN(a_fanout_tells_each_by_itself),
        TOWN(a_failover_of_a_fanout_waits_for_all_of_it),
        TOWN(several_routes_and_one_telling),
        TOWN(groups_wait_but_critical_does_not),
        TOWN(a_burst_to_dead_channels_is_not_kept_in_hand),
    };
    cmocka_set_test_filter(getenv("ONLY"));
    return cmocka_run_group_tests(tests, NULL, NULL);
}
