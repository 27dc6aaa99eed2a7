/* test_common_bus.c - core NATS: connection over time, subscriptions, requests, limits, the service protocol. */
#include "bus_kit.h"

/* ---- the happy path ---- */

static void publishes_and_receives(void **state)
{
    struct kit *k = *state;
    struct kit_bus a;
    struct kit_box x = {0};
    harness_start(k->nats);
    kit_open_up(k, &a);
    struct bus_sub *s = bus_subscribe(a.b, "t.*.x", NULL, kit_box, &x);
    assert_non_null(s);
    struct err e;
    struct bus_out o = {.subject = "t.1.x",
                        .id = "id-1",
                        .type = "redoubt.v1.Alert",
                        .traceparent = "00-1-2-01",
                        .data = "hello",
                        .len = 5};
    assert_int_equal(bus_publish(a.b, &o, &e), 0);
    assert_int_equal(x.n, 0); /* never from inside the call */
    KIT_WAIT(k, x.n == 1);
    assert_string_equal(x.subject, "t.1.x");
    assert_string_equal(x.data, "hello");
    assert_string_equal(x.id, "id-1");
    assert_string_equal(x.type, "redoubt.v1.Alert");
    assert_string_equal(x.source, "redoubt/test");
    assert_string_equal(x.traceparent, "00-1-2-01");
    assert_string_equal(x.stream, "");
    kit_publish(&a, "t.2.x", "bare");
    KIT_WAIT(k, x.n == 2);
    assert_string_equal(x.id, "");
    assert_string_equal(x.type, "");
    bus_unsubscribe(s);
    kit_close(&a);
    assert_int_equal(a.downs, 0); /* closing is no loss */
}

static void queue_group_shares(void **state)
{
    struct kit *k = *state;
    struct kit_bus a;
    struct kit_box x = {0}, y = {0}, all = {0};
    harness_start(k->nats);
    kit_open_up(k, &a);
    bus_subscribe(a.b, "q", "workers", kit_box, &x);
    bus_subscribe(a.b, "q", "workers", kit_box, &y);
    bus_subscribe(a.b, "q", NULL, kit_box, &all);
    for (int i = 0; i < 200; i++)
        kit_publish(&a, "q", "w");
    KIT_WAIT(k, all.n == 200 && x.n + y.n == 200);
    assert_true(x.n > 0 && y.n > 0);
    kit_close(&a);
}

static void wrong_options_and_subjects(void **state)
{
    struct kit *k = *state;
    struct err e;
    struct bus_opts good = {.url = k->nats->url, .inbox_prefix = "_INBOX_test"}, o;
    static const char *const urls[] = {NULL, "", "http://127.0.0.1:1", "nats://", ",,", "nats://127.0.0.1:1,ftp://x"};
    for (size_t i = 0; i < sizeof urls / sizeof urls[0]; i++) {
        o = good;
        o.url = urls[i];
        assert_null(bus_open(&k->loop, &o, &e));
        assert_true(strlen(e.text) > 10);
    }
    static const char *const prefixes[] = {NULL, "", "a b", "a.*", "a..b", ".a", "a."};
    for (size_t i = 0; i < sizeof prefixes / sizeof prefixes[0]; i++) {
        o = good;
        o.inbox_prefix = prefixes[i];
        assert_null(bus_open(&k->loop, &o, &e));
    }
    o = good;
    o.tls_ca_file = "/nonexistent/ca.pem";
    assert_null(bus_open(&k->loop, &o, &e));
    assert_non_null(strstr(e.text, "/nonexistent/ca.pem"));

    struct kit_bus a;
    struct kit_box x = {0};
    harness_start(k->nats);
    kit_open_up(k, &a);
    static const char *const subjects[] = {NULL, "", "a b", "a..b", ".a", "a.", "a\nb", "a.>.b", "a>", "a.b*"};
    for (size_t i = 0; i < sizeof subjects / sizeof subjects[0]; i++) {
        assert_null(bus_subscribe(a.b, subjects[i], NULL, kit_box, &x));
        struct bus_out out = {.subject = subjects[i], .data = "", .len = 0};
        assert_int_equal(bus_publish(a.b, &out, &e), -1);
        assert_non_null(strstr(e.text, "wrong subject"));
    }
    assert_null(bus_subscribe(a.b, "a", "", kit_box, &x));
    struct bus_out wild = {.subject = "a.*", .data = "", .len = 0}, inject = {.subject = "a", .id = "x\r\ny: z"};
    assert_int_equal(bus_publish(a.b, &wild, &e), -1);
    assert_int_equal(bus_publish(a.b, &inject, &e), -1);
    kit_close(&a);
}

static void too_large_is_refused(void **state)
{
    struct kit *k = *state;
    struct kit_bus a;
    struct kit_box x = {0};
    struct kit_stored stored = {0};
    struct kit_answer answer = {0};
    struct err e;
    harness_start(k->nats);
    kit_open_up(k, &a);
    bus_subscribe(a.b, "big", NULL, kit_box, &x);
    char *big = calloc(1, MESSAGE_MAX + 1);
    struct bus_out o = {.subject = "big", .id = "1", .data = big, .len = MESSAGE_MAX};
    assert_int_equal(bus_publish(a.b, &o, &e), 0);
    o.len++;
    assert_int_equal(bus_publish(a.b, &o, &e), -1);
    assert_non_null(strstr(e.text, "65537 bytes"));
    bus_store(a.b, &o, 0, kit_stored, &stored);
    bus_request(a.b, &o, 1000, kit_answer, &answer);
    assert_int_equal(stored.n + answer.n, 0);
    KIT_WAIT(k, stored.n == 1 && answer.n == 1 && x.n == 1);
    assert_int_equal(stored.refused, 1);
    assert_non_null(strstr(stored.error, "65537 bytes"));
    assert_int_equal(answer.st, BUS_REFUSED);
    assert_int_equal(x.len, MESSAGE_MAX);
    free(big);
    kit_close(&a);
}

/* ---- requests ---- */

static void echo(void *ctx, const struct bus_msg *m)
{
    struct kit_bus *kb = ctx;
    struct bus_out o = {.subject = m->reply, .id = "r", .type = "t", .data = m->data, .len = m->len};
    struct err e;
    assert_int_equal(bus_publish(kb->b, &o, &e), 0);
}

static void requests(void **state)
{
    struct kit *k = *state;
    struct kit_bus a;
    struct kit_box sink = {0};
    struct kit_answer r = {0}, nobody = {0}, silent = {0};
    harness_start(k->nats);
    kit_open_up(k, &a);
    bus_subscribe(a.b, "echo", NULL, echo, &a);
    bus_subscribe(a.b, "silent", NULL, kit_box, &sink);
    struct bus_out o = kit_out("echo", NULL, "ping"), n = kit_out("nobody", NULL, "x"),
                   s = kit_out("silent", NULL, "x");
    int64_t before = clock_mono_ms();
    bus_request(a.b, &o, 5000, kit_answer, &r);
    bus_request(a.b, &n, 5000, kit_answer, &nobody);
    bus_request(a.b, &s, 200, kit_answer, &silent);
    assert_int_equal(r.n + nobody.n + silent.n, 0);
    KIT_WAIT(k, r.n == 1 && nobody.n == 1 && silent.n == 1);
    assert_int_equal(r.st, BUS_OK);
    assert_string_equal(r.data, "ping");
    assert_string_equal(r.id, "r");
    assert_int_equal(nobody.st, BUS_NO_RESPONDERS);
    assert_int_equal(silent.st, BUS_TIMEOUT);
    assert_in_range(clock_mono_ms() - before, 200, 4000);
    kit_close(&a);
}

static void unanswered_end_with_the_bus(void **state)
{
    struct kit *k = *state;
    struct kit_bus a;
    struct kit_box sink = {0};
    struct kit_answer r = {0};
    struct kit_stored s = {0};
    harness_start(k->nats);
    kit_open_up(k, &a);
    bus_subscribe(a.b, "silent", NULL, kit_box, &sink);
    struct bus_out o = kit_out("silent", "i", "x");
    bus_request(a.b, &o, 60000, kit_answer, &r);
    bus_store(a.b, &o, 0, kit_stored, &s); /* a subject without a stream */
    bus_close(a.b, 400, kit_closed, &a);
    assert_int_equal(r.n + s.n, 0);
    KIT_WAIT(k, a.closed);
    assert_int_equal(r.n, 1);
    assert_int_equal(r.st, BUS_CLOSED);
    assert_int_equal(s.closed, 1);
}

/* ---- connection over time ---- */

static void server_started_late(void **state)
{
    struct kit *k = *state;
    struct kit_bus a;
    struct kit_box x = {0};
    struct kit_answer r = {0}, late = {0};
    kit_open(k, &a, (struct bus_opts){0});
    bus_subscribe(a.b, "t", NULL, kit_box, &x);
    bus_subscribe(a.b, "echo", NULL, echo, &a);
    for (int i = 0; i < 100; i++)
        kit_publish(&a, "t", "early");
    struct bus_out o = kit_out("echo", NULL, "q");
    bus_request(a.b, &o, 100, kit_answer, &r);
    KIT_WAIT(k, r.n == 1);
    assert_int_equal(r.st, BUS_TIMEOUT);
    assert_false(bus_up(a.b));
    bus_request(a.b, &o, HARNESS_WAIT_MS, kit_answer, &late);
    harness_start(k->nats);
    KIT_WAIT(k, x.n == 100 && late.n == 1 && a.ups == 1);
    assert_int_equal(late.st, BUS_OK);
    assert_int_equal(r.n, 1);
    kit_close(&a);
}

static void closes_without_a_server(void **state)
{
    struct kit *k = *state;
    struct kit_bus a;
    kit_open(k, &a, (struct bus_opts){0});
    kit_publish(&a, "t", "never");
    kit_close(&a); /* while it connects for the first time */
    kit_open(k, &a, (struct bus_opts){0});
    int64_t end = clock_mono_ms() + 300;
    KIT_WAIT(k, clock_mono_ms() >= end); /* while it retries */
    kit_close(&a);
    assert_int_equal(a.ups, 0);
}

static void reconnects(void **state)
{
    struct kit *k = *state;
    struct kit_bus a;
    struct kit_box x = {0}, y = {0}, gone = {0};
    harness_start(k->nats);
    kit_open_up(k, &a);
    bus_subscribe(a.b, "t", NULL, kit_box, &x);
    struct bus_sub *left = bus_subscribe(a.b, "t", NULL, kit_box, &gone);
    for (int round = 1; round <= 3; round++) {
        harness_kill(k->nats);
        KIT_WAIT(k, a.downs == round);
        assert_false(bus_up(a.b));
        if (round == 1) {
            bus_subscribe(a.b, "t", NULL, kit_box, &y); /* while away */
            bus_unsubscribe(left);
        }
        kit_publish(&a, "t", "held");
        harness_start(k->nats);
        KIT_WAIT(k, a.ups == round + 1);
        KIT_WAIT(k, x.n == round && y.n == round);
    }
    assert_int_equal(gone.n, 0);
    kit_close(&a);
}

/* The library closes for good when the same login is refused twice; the bus goes on with a new connection. */
static void survives_a_refused_login(void **state)
{
    struct kit *k = *state;
    struct kit_bus a;
    struct kit_box x = {0};
    harness_start(k->nats);
    struct harness_proc *locked =
        harness_nats(k->h, "locked", "authorization { user: \"u\", password: \"right\" }\n");
    kit_open(k, &a, (struct bus_opts){.url = locked->url, .user = "u", .password = "wrong"});
    bus_subscribe(a.b, "t", NULL, kit_box, &x);
    int64_t before = kit_metric("redoubt_bus_reopened_total");
    KIT_WAIT(k, kit_metric("redoubt_bus_reopened_total") >= before + 2);
    assert_true(k->errors > 0);
    assert_int_equal(a.ups, 0);
    /* The password is changed to ours. */
    char path[600];
    snprintf(path, sizeof path, "%s.conf", locked->data);
    harness_kill(locked);
    FILE *f = fopen(path, "w");
    fprintf(f,
            "listen: \"127.0.0.1:%d\"\njetstream { store_dir: \"%s\" }\nauthorization { user: u, password: wrong }\n",
            locked->port, locked->data);
    fclose(f);
    harness_start(locked);
    KIT_WAIT(k, a.ups == 1);
    kit_publish(&a, "t", "x");
    KIT_WAIT(k, x.n == 1);
    kit_close(&a);
}

/* A server that does not answer any more, but whose sockets live: the loop must not stand still. */
static void a_frozen_server_does_not_stop_the_loop(void **state)
{
    struct kit *k = *state;
    struct kit_bus a;
    harness_start(k->nats);
    kit_open_up(k, &a);
    harness_freeze(k->nats);
    char *block = calloc(1, MESSAGE_MAX);
    struct err e;
    struct bus_out o = {.subject = "t", .data = block, .len = MESSAGE_MAX};
    int64_t longest = 0, end = clock_mono_ms() + 8000;
    int sent = 0;
    while (a.downs == 0 && clock_mono_ms() < end) {
        int64_t at = clock_mono_ms();
        for (int i = 0; i < 4; i++)
            sent += bus_publish(a.b, &o, &e) == 0;
        kit_turn(k);
        if (clock_mono_ms() - at > longest)
            longest = clock_mono_ms() - at;
    }
    assert_int_equal(a.downs, 1);
    assert_true(sent > 0);
    assert_true(longest < TILT_GAP_MS);
    /* While away, what is held is bounded. */
    for (int i = 0; i < 300; i++)
        (void)bus_publish(a.b, &o, &e);
    assert_int_equal(bus_publish(a.b, &o, &e), -1);
    assert_non_null(strstr(e.text, "not connected"));
    harness_thaw(k->nats);
    KIT_WAIT(k, a.ups == 2);
    assert_int_equal(bus_publish(a.b, &o, &e), 0);
    free(block);
    kit_close(&a);
}

/* ---- many messages ---- */

static void hundred_thousand_arrive(void **state)
{
    enum { N = 100000, BATCH = 5000 };
    struct kit *k = *state;
    struct kit_bus a, b;
    struct kit_box x = {0};
    harness_start(k->nats);
    kit_open_up(k, &a);
    kit_open_up(k, &b);
    bus_subscribe(b.b, "many", NULL, kit_box, &x);
    bus_subscribe(a.b, "echo", NULL, echo, &a);
    struct kit_answer r;
    kit_ask(&b, &r, "echo", "x"); /* the server knows b's subscription now */
    for (int i = 0; i < N; i++) {
        kit_publish(&a, "many", "0123456789012345678901234567890123456789012345678901234567890123");
        if (i % BATCH == BATCH - 1)
            kit_turn(k);
    }
    KIT_WAIT_MS(k, x.n == N, 3 * HARNESS_WAIT_MS);
    assert_int_equal(kit_metric("redoubt_bus_slow_consumer_total"), 0);
    kit_close(&a);
    kit_close(&b);
}

/* A loop that does not turn: the library's thread waits, and nothing is lost. */
static void a_full_queue_waits(void **state)
{
    enum { N = 5000 };
    struct kit *k = *state;
    struct kit_bus a;
    struct kit_box x = {0};
    harness_start(k->nats);
    kit_open(k, &a, (struct bus_opts){.queue_max = 16});
    KIT_WAIT(k, a.ups == 1);
    bus_subscribe(a.b, "t", NULL, kit_box, &x);
    int64_t waits = kit_metric("redoubt_bus_queue_waits_total");
    for (int i = 0; i < N; i++)
        kit_publish(&a, "t", "x");
    KIT_WAIT(k, x.n == N);
    assert_true(kit_metric("redoubt_bus_queue_waits_total") > waits);
    /* And closing frees a thread that waits for room. */
    for (int i = 0; i < N; i++)
        kit_publish(&a, "t", "x");
    kit_close(&a);
}

static int ticks;
static void tick(void *ctx)
{
    (void)ctx;
    ticks++;
}

/* Timers have their turn while messages pour in without end. */
static void again(void *ctx, const struct bus_msg *m)
{
    struct kit_bus *kb = ctx;
    struct bus_out o = {.subject = m->subject, .data = m->data, .len = m->len};
    struct err e;
    (void)bus_publish(kb->b, &o, &e);
}

static void timers_live_under_load(void **state)
{
    struct kit *k = *state;
    struct kit_bus a;
    harness_start(k->nats);
    kit_open_up(k, &a);
    bus_subscribe(a.b, "loop", NULL, again, &a);
    for (int i = 0; i < 500; i++)
        kit_publish(&a, "loop", "x");
    struct loop_timer t;
    ticks = 0;
    loop_timer_init(&k->loop, &t, tick, NULL);
    loop_timer_start(&t, 10, 10);
    KIT_WAIT(k, ticks >= 30);
    loop_timer_close(&t, NULL);
    kit_close(&a);
}

/* ---- unsubscribe ---- */

static void no_call_after_unsubscribe(void **state)
{
    struct kit *k = *state;
    struct kit_bus a;
    harness_start(k->nats);
    kit_open_up(k, &a);
    for (int round = 0; round < 50; round++) {
        struct kit_box *x = calloc(1, sizeof *x), *y = calloc(1, sizeof *y), all = {0};
        x->stop_at = 3; /* from inside the handler, with others queued behind it */
        x->sub = bus_subscribe(a.b, "u", NULL, kit_box, x);
        y->sub = bus_subscribe(a.b, "u", NULL, kit_box, y);
        struct bus_sub *s = bus_subscribe(a.b, "u", NULL, kit_box, &all);
        for (int i = 0; i < 40; i++)
            kit_publish(&a, "u", "x");
        KIT_WAIT(k, x->n == 3);
        int seen = y->n;
        bus_unsubscribe(y->sub); /* with messages on their way */
        assert_in_range(seen, 0, 40);
        free(x); /* the sanitizer sees any call that comes too late */
        free(y);
        KIT_WAIT(k, all.n == 40);
        bus_unsubscribe(s);
    }
    kit_close(&a);
}

/* ---- the service protocol ---- */

static void answers_the_service_protocol(void **state)
{
    struct kit *k = *state;
    struct kit_bus a;
    struct kit_answer r;
    struct kit_box x = {0};
    harness_start(k->nats);
    kit_open_up(k, &a);
    bus_subscribe(a.b, "redoubt.v1.cmd.demo.show", "demo", kit_box, &x);
    static const char *const endpoints[] = {"redoubt.v1.cmd.demo.show", "redoubt.v1.report.>", NULL};
    static const struct bus_service s = {
        .name = "redoubt-demo", .version = "1.2.3", .description = "a demo", .id = "demo-0", .endpoints = endpoints};
    assert_int_equal(bus_serve(a.b, &s), 0);
    for (int i = 0; i < 3; i++)
        kit_publish(&a, "redoubt.v1.cmd.demo.show", "x");
    KIT_WAIT(k, x.n == 3);
    static const char *const subjects[] = {"$SRV.PING", "$SRV.PING.redoubt-demo", "$SRV.PING.redoubt-demo.demo-0"};
    for (size_t i = 0; i < 3; i++) {
        const char *ping = kit_ask(&a, &r, subjects[i], "");
        assert_non_null(strstr(ping, "\"type\":\"io.nats.micro.v1.ping_response\""));
        assert_non_null(strstr(ping, "\"name\":\"redoubt-demo\""));
        assert_non_null(strstr(ping, "\"id\":\"demo-0\""));
        assert_non_null(strstr(ping, "\"version\":\"1.2.3\""));
    }
    const char *info = kit_ask(&a, &r, "$SRV.INFO.redoubt-demo", "");
    assert_non_null(strstr(info, "io.nats.micro.v1.info_response"));
    assert_non_null(strstr(info, "\"description\":\"a demo\""));
    assert_non_null(strstr(info, "\"name\":\"cmd-demo-show\",\"subject\":\"redoubt.v1.cmd.demo.show\""));
    assert_non_null(strstr(info, "\"queue_group\":\"demo\""));
    const char *stats = kit_ask(&a, &r, "$SRV.STATS", "");
    assert_non_null(strstr(stats, "io.nats.micro.v1.stats_response"));
    assert_non_null(strstr(stats, "\"num_requests\":3"));
    assert_true(kit_number(stats, "redoubt_bus_received_total") > 0);
    assert_non_null(strstr(stats, "\"started\":\"20"));
    struct kit_answer none = {0};
    struct bus_out o = kit_out("$SRV.PING.redoubt-other", NULL, "");
    bus_request(a.b, &o, 2000, kit_answer, &none);
    KIT_WAIT(k, none.n == 1);
    assert_int_equal(none.st, BUS_NO_RESPONDERS);
    kit_close(&a);
}

struct turns {
    int handled, since; /* messages; those after the last turn's end */
    int turns, empty;
};

static void count_one(void *ctx, const struct bus_msg *m)
{
    (void)m;
    struct turns *t = ctx;
    t->handled++;
    t->since++;
}

static void end_turn(void *ctx)
{
    struct turns *t = ((struct kit_bus *)ctx)->user;
    t->turns++;
    t->empty += t->since == 0;
    t->since = 0;
}

/* Every message is followed by the end of its turn, and many messages share one. */
static void turns_end(void **state)
{
    struct kit *k = *state;
    struct kit_bus a;
    struct turns t = {0};
    struct err e;
    enum { MANY = 20000 };
    harness_start(k->nats);
    kit_open(k, &a, (struct bus_opts){.on_turn = end_turn});
    a.user = &t;
    KIT_WAIT(k, a.ups == 1);
    assert_non_null(bus_subscribe(a.b, "turn", NULL, count_one, &t));
    struct bus_out out = {.subject = "turn", .data = "x", .len = 1};
    assert_int_equal(bus_publish(a.b, &out, &e), 0);
    KIT_WAIT(k, t.handled == 1);
    assert_int_equal(t.since, 0);
    for (int i = 0; i < MANY; i++)
        assert_int_equal(bus_publish(a.b, &out, &e), 0);
    KIT_WAIT(k, t.handled == MANY + 1);
    assert_int_equal(t.since, 0);
    assert_true(t.turns - t.empty < MANY / 2);
    kit_close(&a);
}

int main(int argc, char **argv)
{
#define TEST(fn) cmocka_unit_test_setup_teardown(fn, kit_setup, kit_teardown)
    const struct CMUnitTest tests[] = {
        TEST(publishes_and_receives),
        TEST(queue_group_shares),
        TEST(wrong_options_and_subjects),
        TEST(too_large_is_refused),
        TEST(requests),
        TEST(unanswered_end_with_the_bus),
        TEST(server_started_late),
        TEST(closes_without_a_server),
        TEST(reconnects),
        TEST(survives_a_refused_login),
        TEST(a_frozen_server_does_not_stop_the_loop),
        TEST(hundred_thousand_arrive),
        TEST(a_full_queue_waits),
        TEST(timers_live_under_load),
        TEST(turns_end),
        TEST(no_call_after_unsubscribe),
        TEST(answers_the_service_protocol),
    };
    if (argc > 1) /* only the tests of that name; * and ? are wildcards */
        cmocka_set_test_filter(argv[1]);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
