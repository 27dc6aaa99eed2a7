/* test_common_bus_js.c - JetStream: stores that survive, streams, durable consumers, dead letters, watches. */
#include "bus_kit.h"
#include "common/wire.h"

static void store(struct kit_bus *kb, struct kit_stored *s, const char *subject, const char *id, const char *text)
{
    struct bus_out o = kit_out(subject, id, text);
    o.type = "redoubt.v1.Test";
    bus_store(kb->b, &o, 0, kit_stored, s);
}

static long stream_number(struct kit_bus *kb, const char *stream, const char *key)
{
    struct kit_answer a;
    char subject[128];
    snprintf(subject, sizeof subject, "$JS.API.STREAM.INFO.%s", stream);
    return kit_number(kit_ask(kb, &a, subject, ""), key);
}

/* ---- streams ---- */

static void streams_are_made(void **state)
{
    struct kit *k = *state;
    struct kit_bus a;
    struct kit_answer r;
    harness_start(k->nats);
    kit_open_up(k, &a);
    const char *info = kit_ask(&a, &r, "$JS.API.STREAM.INFO." STREAM_STATE, "");
    assert_non_null(strstr(info, "\"redoubt.v1.directive.\\u003e\""));
    assert_int_equal(kit_number(info, "max_msgs_per_subject"), 1);
    assert_non_null(strstr(info, "\"storage\":\"file\""));
    assert_non_null(strstr(info, "\"allow_direct\":true"));
    info = kit_ask(&a, &r, "$JS.API.STREAM.INFO." STREAM_ALERTS, "");
    assert_non_null(strstr(info, "\"discard\":\"new\""));
    assert_int_equal(kit_number(info, "max_bytes"), 1 << 30);
    assert_int_equal(kit_number(info, "duplicate_window"), 120000000000);
    info = kit_ask(&a, &r, "$JS.API.STREAM.INFO." STREAM_ACTIONS, "");
    assert_non_null(strstr(info, "\"retention\":\"workqueue\""));
    info = kit_ask(&a, &r, "$JS.API.STREAM.INFO." STREAM_AUDIT, "");
    assert_int_equal(kit_number(info, "max_age"), 90L * 24 * 3600 * 1000000000);
    /* A second bus finds them as they are. */
    struct kit_bus b;
    int64_t made = kit_metric("redoubt_bus_streams_created_total");
    kit_open_up(k, &b);
    assert_int_equal(kit_metric("redoubt_bus_streams_created_total"), made);
    kit_close(&a);
    kit_close(&b);
}

static void what_a_user_set_stays(void **state)
{
    struct kit *k = *state;
    struct kit_bus a;
    struct kit_answer r;
    harness_start(k->nats);
    kit_open_up(k, &a);
    /* A larger limit, and a subject missing. */
    const char *reply = kit_ask(&a, &r, "$JS.API.STREAM.UPDATE." STREAM_EVENTS,
                                "{\"name\":\"" STREAM_EVENTS "\",\"subjects\":[\"redoubt.v1.ack.>\",\"mine.>\"],"
                                "\"max_bytes\":2147483648,\"max_age\":0,\"storage\":\"file\",\"num_replicas\":1,"
                                "\"max_consumers\":-1,\"max_msgs\":-1,\"retention\":\"limits\",\"discard\":\"old\"}");
    assert_null(strstr(reply, "\"error\""));
    kit_close(&a);
    kit_open_up(k, &a);
    const char *info = kit_ask(&a, &r, "$JS.API.STREAM.INFO." STREAM_EVENTS, "");
    assert_non_null(strstr(info, "mine."));
    assert_non_null(strstr(info, "redoubt.v1.delivery."));
    assert_non_null(strstr(info, "redoubt.v1.incident."));
    assert_int_equal(kit_number(info, "max_bytes"), 2147483648);
    kit_close(&a);
}

/* A server that cannot reserve as much as the rows ask for. */
static void a_small_server_is_enough(void **state)
{
    struct kit *k = *state;
    struct kit_bus a;
    struct kit_answer r;
    char conf[700];
    snprintf(conf, sizeof conf, "jetstream { store_dir: \"%s/small.data\", max_file_store: 50MB }",
             harness_dir(k->h));
    struct harness_proc *small = harness_nats(k->h, "small", conf);
    kit_open(k, &a, (struct bus_opts){.url = small->url});
    KIT_WAIT(k, a.ups == 1);
    assert_true(kit_metric("redoubt_bus_streams_without_byte_limit_total") >= 5);
    assert_int_equal(kit_number(kit_ask(&a, &r, "$JS.API.STREAM.INFO." STREAM_AUDIT, ""), "max_bytes"), -1);
    struct kit_stored s = {0};
    store(&a, &s, "redoubt.v1.audit.x", "1", "x");
    KIT_WAIT(k, s.ok == 1);
    kit_close(&a);
}

/* Without JetStream: no up, but core NATS works; with it, all catches up. */
static void jetstream_comes_late(void **state)
{
    struct kit *k = *state;
    struct kit_bus a;
    struct kit_box x = {0};
    struct kit_stored s = {0}, given_up = {0};
    char path[600], conf[700];
    snprintf(path, sizeof path, "%s.conf", k->nats->data);
    FILE *f = fopen(path, "w");
    fprintf(f, "listen: \"127.0.0.1:%d\"\n", k->nats->port);
    fclose(f);
    harness_start(k->nats);
    kit_open(k, &a, (struct bus_opts){0});
    bus_subscribe(a.b, "redoubt.v1.breaker.>", NULL, kit_box, &x);
    store(&a, &s, "redoubt.v1.breaker.t", "breaker/t/1", "one");
    store(&a, &s, "redoubt.v1.alert", "alert-1", "one");
    struct bus_out o = kit_out("redoubt.v1.alert", "alert-2", "two");
    bus_store(a.b, &o, 300, kit_stored, &given_up);
    KIT_WAIT(k, x.n >= 1 && given_up.timeout == 1 && k->errors > 0);
    assert_int_equal(s.n, 0);
    assert_int_equal(a.ups, 0);
    harness_kill(k->nats);
    snprintf(conf, sizeof conf, "listen: \"127.0.0.1:%d\"\njetstream { store_dir: \"%s\" }\n", k->nats->port,
             k->nats->data);
    f = fopen(path, "w");
    fputs(conf, f);
    fclose(f);
    harness_start(k->nats);
    KIT_WAIT(k, a.ups == 1 && s.ok == 2);
    kit_close(&a);
}

/* ---- store ---- */

static void stores(void **state)
{
    struct kit *k = *state;
    struct kit_bus a;
    struct kit_stored s = {0};
    struct kit_answer r = {0};
    harness_start(k->nats);
    kit_open_up(k, &a);
    store(&a, &s, "redoubt.v1.alert", "a1", "hello");
    assert_int_equal(s.n, 0);
    KIT_WAIT(k, s.ok == 1);
    assert_string_equal(s.stream, STREAM_ALERTS);
    assert_int_equal(s.last_seq, 1);
    store(&a, &s, "redoubt.v1.alert", "a1", "hello");
    KIT_WAIT(k, s.ok == 2);
    assert_int_equal(s.duplicate, 1);
    bus_last(a.b, STREAM_ALERTS, "redoubt.v1.alert", 2000, kit_answer, &r);
    KIT_WAIT(k, r.n == 1);
    assert_int_equal(r.st, BUS_OK);
    assert_string_equal(r.data, "hello");
    assert_string_equal(r.subject, "redoubt.v1.alert");
    assert_string_equal(r.id, "a1");
    assert_int_equal(r.seq, 1);
    struct kit_answer none = {0};
    bus_last(a.b, STREAM_STATE, "redoubt.v1.breaker.none", 2000, kit_answer, &none);
    KIT_WAIT(k, none.n == 1);
    assert_int_equal(none.st, BUS_REFUSED);
    kit_close(&a);
}

static void refused_for_good(void **state)
{
    struct kit *k = *state;
    struct kit_bus a;
    struct kit_answer r;
    struct kit_stored s = {0};
    harness_start(k->nats);
    kit_open_up(k, &a);
    const char *reply =
        kit_ask(&a, &r, "$JS.API.STREAM.CREATE.TINY",
                "{\"name\":\"TINY\",\"subjects\":[\"tiny\"],\"max_msg_size\":100,\"storage\":\"file\"}");
    assert_null(strstr(reply, "\"error\""));
    char text[200];
    memset(text, 'x', sizeof text - 1);
    text[sizeof text - 1] = 0;
    store(&a, &s, "tiny", "1", text);
    KIT_WAIT(k, s.refused == 1);
    assert_non_null(strstr(s.error, "maximum allowed"));
    kit_close(&a);
}

/* A full stream that drops nothing: stores wait until there is room. */
static void a_full_stream_is_waited_for(void **state)
{
    struct kit *k = *state;
    struct kit_bus a;
    struct kit_answer r;
    struct kit_stored s = {0};
    harness_start(k->nats);
    kit_open_up(k, &a);
    const char *reply = kit_ask(&a, &r, "$JS.API.STREAM.CREATE.FULL",
                                "{\"name\":\"FULL\",\"subjects\":[\"full\"],\"max_msgs\":2,\"discard\":\"new\","
                                "\"storage\":\"file\"}");
    assert_null(strstr(reply, "\"error\""));
    int64_t before = kit_metric("redoubt_bus_store_refused_for_now_total");
    for (int i = 0; i < 4; i++) {
        char id[8];
        snprintf(id, sizeof id, "%d", i);
        store(&a, &s, "full", id, "x");
    }
    KIT_WAIT(k, s.ok == 2 && kit_metric("redoubt_bus_store_refused_for_now_total") >= before + 2);
    assert_int_equal(s.n, 2);
    kit_ask(&a, &r, "$JS.API.STREAM.PURGE.FULL", "");
    KIT_WAIT(k, s.ok == 4);
    kit_close(&a);
}

struct many {
    struct kit_bus *kb;
    int next, total;
    struct kit_stored done;
};

static void store_next(struct many *m, int n)
{
    for (; n > 0 && m->next < m->total; n--, m->next++) {
        char id[32];
        snprintf(id, sizeof id, "id-%d", m->next);
        store(m->kb, &m->done, "redoubt.v1.audit.test", id, id);
    }
}

/* kill -9 in the middle, three times: nothing lost, nothing twice. */
static void nothing_is_lost_when_the_server_dies(void **state)
{
    enum { N = 6000, STEP = 20 };
    struct kit *k = *state;
    struct kit_bus a;
    harness_start(k->nats);
    kit_open_up(k, &a);
    struct many m = {.kb = &a, .total = N};
    for (int kills = 0; m.next < N;) {
        store_next(&m, STEP);
        kit_turn(k);
        if (m.next >= (kills + 1) * N / 4 && kills < 3) {
            harness_kill(k->nats); /* with answers on their way */
            store_next(&m, 10 * STEP);
            kit_turn(k);
            harness_start(k->nats);
            kills++;
        }
    }
    KIT_WAIT_MS(k, m.done.ok == N, 3 * HARNESS_WAIT_MS);
    assert_int_equal(m.done.n, N);
    assert_int_equal(stream_number(&a, STREAM_AUDIT, "messages"), N);
    assert_true(kit_metric("redoubt_bus_store_repeats_total") > 0);
    kit_close(&a);
}

/* A store that must be repeated never overwrites a later one of the same STATE subject. */
static void the_last_value_is_the_latest(void **state)
{
    struct kit *k = *state;
    struct kit_bus a;
    struct kit_stored s = {0};
    struct kit_answer r = {0};
    harness_start(k->nats);
    kit_open_up(k, &a);
    for (int round = 0; round < 3; round++) {
        char id[64];
        snprintf(id, sizeof id, "directive/a/%d", 10 * round);
        store(&a, &s, "redoubt.v1.directive.a", id, id); /* on its way when the server dies */
        harness_kill(k->nats);
        for (int i = 1; i < 4; i++) {
            snprintf(id, sizeof id, "directive/a/%d", 10 * round + i);
            store(&a, &s, "redoubt.v1.directive.a", id, id);
        }
        harness_start(k->nats);
        KIT_WAIT(k, s.ok == 4 * (round + 1));
        r.n = 0;
        bus_last(a.b, STREAM_STATE, "redoubt.v1.directive.a", 2000, kit_answer, &r);
        KIT_WAIT(k, r.n == 1);
        assert_string_equal(r.data, id);
    }
    kit_close(&a);
}

/* ---- reading, counting and taking out, without a consumer ---- */

struct counted {
    int n, done;
    uint64_t sum, of_b;
    enum bus_status st;
    struct bus_stock stock;
};
static void on_count(void *ctx, const char *subject, uint64_t messages)
{
    struct counted *c = ctx;
    c->n++;
    c->sum += messages;
    if (strcmp(subject, SUBJECT_QUEUE "b.5") == 0)
        c->of_b = messages;
}
static void on_stock(void *ctx, enum bus_status st, const struct bus_stock *stock)
{
    struct counted *c = ctx;
    c->done++;
    c->st = st;
    if (stock)
        c->stock = *stock;
}
static void count(struct kit_bus *kb, struct counted *c, const char *filter)
{
    *c = (struct counted){0};
    bus_counts(kb->b, STREAM_ACTIONS, filter, 5000, on_count, on_stock, c);
    assert_int_equal(c->n + c->done, 0);
    KIT_WAIT(kb->k, c->done == 1);
}

struct removed {
    int n;
    enum bus_status st;
};
static void on_removed(void *ctx, enum bus_status st)
{
    struct removed *r = ctx;
    r->n++;
    r->st = st;
}
static enum bus_status remove_one(struct kit_bus *kb, uint64_t seq)
{
    struct removed r = {0};
    bus_remove(kb->b, STREAM_ACTIONS, seq, 5000, on_removed, &r);
    assert_int_equal(r.n, 0);
    KIT_WAIT(kb->k, r.n == 1);
    return r.st;
}

static const struct kit_answer *next(struct kit_bus *kb, const char *filter, uint64_t from)
{
    static struct kit_answer a;
    a = (struct kit_answer){0};
    bus_next(kb->b, STREAM_ACTIONS, filter, from, 5000, kit_answer, &a);
    KIT_WAIT(kb->k, a.n == 1);
    return &a;
}

static void a_queue_is_read_where_it_stands(void **state)
{
    struct kit *k = *state;
    struct kit_bus a;
    struct kit_stored s = {0};
    struct counted c;
    harness_start(k->nats);
    kit_open_up(k, &a);
    for (int i = 0; i < 30; i++) {
        char subject[64], id[32];
        snprintf(subject, sizeof subject, SUBJECT_QUEUE "%c.%d", 'a' + i % 3, i % 2 ? 5 : 0);
        snprintf(id, sizeof id, "q/%d", i);
        store(&a, &s, subject, id, id);
    }
    KIT_WAIT(k, s.ok == 30);
    count(&a, &c, SUBJECT_QUEUE ">");
    assert_int_equal(c.st, BUS_OK);
    assert_int_equal(c.n, 6);
    assert_int_equal(c.sum, 30);
    assert_int_equal(c.of_b, 5);
    assert_int_equal(c.stock.messages, 30);
    assert_int_equal(c.stock.subjects, 6);
    assert_int_equal(c.stock.max_bytes, 1 << 30);
    assert_true(c.stock.bytes > 0 && c.stock.last_seq >= 30);
    count(&a, &c, SUBJECT_QUEUE "b.*");
    assert_int_equal(c.n, 2);
    assert_int_equal(c.sum, 10);
    count(&a, &c, SUBJECT_QUEUE "nobody.*");
    assert_int_equal(c.n, 0);
    assert_int_equal(c.st, BUS_OK);
    assert_int_equal(c.stock.messages, 30);

    /* b: 1 4 7 10 ... of 30; those with an odd number have priority 5. */
    const struct kit_answer *m = next(&a, SUBJECT_QUEUE "b.5", 0);
    assert_string_equal(m->data, "q/1");
    assert_string_equal(m->id, "q/1");
    assert_string_equal(m->subject, SUBJECT_QUEUE "b.5");
    uint64_t first = m->seq;
    m = next(&a, SUBJECT_QUEUE "b.5", first + 1);
    assert_string_equal(m->data, "q/7");
    m = next(&a, SUBJECT_QUEUE "b.*", first + 1);
    assert_string_equal(m->data, "q/4");
    assert_string_equal(next(&a, SUBJECT_QUEUE "b.5", 0)->data, "q/1"); /* reading takes nothing */

    assert_int_equal(remove_one(&a, first), BUS_OK);
    assert_int_equal(remove_one(&a, first), BUS_OK); /* gone already */
    assert_int_equal(remove_one(&a, 1000000), BUS_OK);
    assert_string_equal(next(&a, SUBJECT_QUEUE "b.5", 0)->data, "q/7");
    for (;;) {
        m = next(&a, SUBJECT_QUEUE "b.*", 0);
        assert_int_equal(m->st, BUS_OK);
        if (m->seq == 0)
            break; /* none left: an answer without a message */
        assert_int_equal(remove_one(&a, m->seq), BUS_OK);
    }
    count(&a, &c, SUBJECT_QUEUE ">");
    assert_int_equal(c.sum, 20);
    assert_int_equal(c.of_b, 0);

    /* What is said when it cannot be known. */
    struct removed r = {0};
    struct kit_answer lost = {0};
    harness_freeze(k->nats);
    bus_remove(a.b, STREAM_ACTIONS, 1, 100, on_removed, &r);
    bus_next(a.b, STREAM_ACTIONS, SUBJECT_QUEUE ">", 0, 100, kit_answer, &lost);
    c = (struct counted){0};
    bus_counts(a.b, STREAM_ACTIONS, SUBJECT_QUEUE ">", 100, on_count, on_stock, &c);
    KIT_WAIT(k, r.n == 1 && lost.n == 1 && c.done == 1);
    assert_int_equal(r.st, BUS_TIMEOUT);
    assert_int_equal(lost.st, BUS_TIMEOUT);
    assert_int_equal(c.st, BUS_TIMEOUT);
    harness_thaw(k->nats);
    bus_next(a.b, "NO_SUCH_STREAM", SUBJECT_QUEUE ">", 0, 5000, kit_answer, &lost);
    bus_remove(a.b, "NO_SUCH_STREAM", 1, 5000, on_removed, &r);
    bus_counts(a.b, "NO_SUCH_STREAM", ">", 5000, on_count, on_stock, &c);
    KIT_WAIT(k, r.n == 2 && lost.n == 2 && c.done == 2);
    assert_int_equal(r.st, BUS_REFUSED);
    assert_int_equal(lost.st, BUS_REFUSED);
    assert_int_equal(c.st, BUS_REFUSED);
    kit_close(&a);
}

/* Some are taken out at once: those of a subject, up to a sequence, and no others. */
static void a_part_is_taken_out(void **state)
{
    struct kit *k = *state;
    struct kit_bus a;
    struct kit_stored s = {0};
    struct counted c;
    harness_start(k->nats);
    kit_open_up(k, &a);
    for (int i = 0; i < 3000; i++) { /* a, b, c, a, b, c ...: sequences from 1 */
        char subject[64], id[32];
        snprintf(subject, sizeof subject, SUBJECT_QUEUE "%c.0", 'a' + i % 3);
        snprintf(id, sizeof id, "p/%d", i);
        store(&a, &s, subject, id, id);
    }
    KIT_WAIT(k, s.ok == 3000);
    struct removed r = {0};
    bus_purge(a.b, STREAM_ACTIONS, SUBJECT_QUEUE "a.0", 1501, 5000, on_removed, &r);
    assert_int_equal(r.n, 0);
    KIT_WAIT(k, r.n == 1);
    assert_int_equal(r.st, BUS_OK);
    count(&a, &c, SUBJECT_QUEUE "a.0"); /* 1, 4, ... 1501 are gone */
    assert_int_equal(c.sum, 1000 - 501);
    assert_int_equal(next(&a, SUBJECT_QUEUE "a.0", 0)->seq, 1504);
    count(&a, &c, SUBJECT_QUEUE ">");
    assert_int_equal(c.sum, 3000 - 501);
    assert_int_equal(next(&a, SUBJECT_QUEUE "b.0", 0)->seq, 2);
    /* Again, and with nothing there: the same. */
    bus_purge(a.b, STREAM_ACTIONS, SUBJECT_QUEUE "a.0", 1501, 5000, on_removed, &r);
    bus_purge(a.b, STREAM_ACTIONS, SUBJECT_QUEUE "nobody.0", UINT64_MAX, 5000, on_removed, &r);
    KIT_WAIT(k, r.n == 3);
    assert_int_equal(r.st, BUS_OK);
    count(&a, &c, SUBJECT_QUEUE ">");
    assert_int_equal(c.sum, 3000 - 501);
    /* What is gone stays gone when the server stops in good order. */
    harness_stop(k->nats);
    harness_start(k->nats);
    KIT_WAIT(k, a.ups == 2);
    count(&a, &c, SUBJECT_QUEUE ">");
    assert_int_equal(c.sum, 3000 - 501);
    bus_purge(a.b, STREAM_ACTIONS, SUBJECT_QUEUE "a.0", UINT64_MAX, 5000, on_removed, &r);
    KIT_WAIT(k, r.n == 4);
    count(&a, &c, SUBJECT_QUEUE ">");
    assert_int_equal(c.sum, 2000);
    bus_purge(a.b, "NO_SUCH_STREAM", ">", 1, 5000, on_removed, &r);
    KIT_WAIT(k, r.n == 5);
    assert_int_equal(r.st, BUS_REFUSED);
    kit_close(&a);
}

/* More subjects than the server tells of at once. */
static void counts_come_in_pages(void **state)
{
    struct kit *k = *state;
    struct kit_bus a;
    struct kit_answer r;
    struct counted c = {0};
    enum { SUBJECTS = 100500 }; /* a page is 100,000 */
    harness_start(k->nats);
    kit_open_up(k, &a);
    assert_null(strstr(kit_ask(&a, &r, "$JS.API.STREAM.CREATE.WIDE",
                               "{\"name\":\"WIDE\",\"subjects\":[\"wide.*\"],\"storage\":\"memory\"}"),
                       "\"error\""));
    for (int i = 0; i < SUBJECTS; i++) {
        char subject[32];
        snprintf(subject, sizeof subject, "wide.%d", i);
        kit_publish(&a, subject, "x");
        if (i % 1000 == 0)
            kit_turn(k);
    }
    KIT_WAIT_MS(k, stream_number(&a, "WIDE", "messages") == SUBJECTS, 3 * HARNESS_WAIT_MS);
    bus_counts(a.b, "WIDE", "wide.>", 10000, on_count, on_stock, &c);
    KIT_WAIT_MS(k, c.done == 1, 3 * HARNESS_WAIT_MS);
    assert_int_equal(c.st, BUS_OK);
    assert_int_equal(c.n, SUBJECTS);
    assert_int_equal(c.sum, SUBJECTS);
    kit_close(&a);
}

/* A work queue that is full for a while: what is stored then stands in it in the order of the calls. */
static void a_work_queue_keeps_its_order(void **state)
{
    enum { N = 40 };
    struct kit *k = *state;
    struct kit_bus a;
    struct kit_answer r;
    struct kit_stored s = {0}, other = {0};
    harness_start(k->nats);
    kit_open_up(k, &a);
    assert_null(strstr(kit_ask(&a, &r, "$JS.API.STREAM.UPDATE." STREAM_ACTIONS,
                               "{\"name\":\"" STREAM_ACTIONS "\",\"subjects\":[\"" SUBJECT_QUEUE ">\"],"
                               "\"max_msgs\":5,\"max_bytes\":-1,\"discard\":\"new\",\"retention\":\"workqueue\","
                               "\"storage\":\"file\",\"num_replicas\":1,\"max_consumers\":-1}"),
                       "\"error\""));
    for (int i = 0; i < N; i++) {
        char id[32];
        snprintf(id, sizeof id, "%d", i);
        store(&a, &s, SUBJECT_QUEUE "a.0", id, id);
    }
    KIT_WAIT(k, s.ok == 5 && kit_metric("redoubt_bus_store_refused_for_now_total") > 0);
    for (int i = 0; i < N; i++) { /* takes the first out; the next one finds room at a time of its own */
        const struct kit_answer *m;
        for (;;) {
            m = next(&a, SUBJECT_QUEUE "a.0", 0);
            if (m->seq == 0)
                continue;
            if (atoi(m->data) >= i || i <= 20)
                break;
            /* The server forgot in its death what had been taken out last. */
            assert_int_equal(remove_one(&a, m->seq), BUS_OK);
        }
        assert_int_equal(atoi(m->data), i);
        assert_int_equal(remove_one(&a, m->seq), BUS_OK);
        if (i == 20) { /* with some on their way */
            harness_kill(k->nats);
            harness_start(k->nats);
            KIT_WAIT(k, a.ups == 2);
        }
    }
    KIT_WAIT(k, s.ok == N);
    /* One that is given up or refused lets those behind it through. */
    for (int i = 0; i < 5; i++) {
        char id[32];
        snprintf(id, sizeof id, "full-%d", i);
        store(&a, &other, SUBJECT_QUEUE "b.0", id, id);
    }
    KIT_WAIT(k, other.ok == 5);
    struct bus_out o = kit_out(SUBJECT_QUEUE "a.0", "given-up", "x");
    bus_store(a.b, &o, 300, kit_stored, &other);
    store(&a, &s, SUBJECT_QUEUE "a.0", "behind", "behind");
    KIT_WAIT(k, other.timeout == 1);
    assert_int_equal(remove_one(&a, next(&a, SUBJECT_QUEUE "b.0", 0)->seq), BUS_OK);
    KIT_WAIT(k, s.ok == N + 1);
    assert_string_equal(next(&a, SUBJECT_QUEUE "a.0", 0)->data, "behind");
    kit_close(&a);
}

/* ---- consumers ---- */

struct worker {
    struct kit_bus *kb;
    struct bus_consumer *c;
    int n, redelivered;
    uint64_t last_deliveries;
    char data[128];
    struct bus_hold *held[64];
    int n_held;
    enum { ACK, HOLD, NAK, CLOSE } what;
};

static void work(void *ctx, const struct bus_msg *m, struct bus_hold *h)
{
    struct worker *w = ctx;
    w->n++;
    w->redelivered += m->deliveries > 1;
    w->last_deliveries = m->deliveries;
    snprintf(w->data, sizeof w->data, "%.*s", (int)m->len, (const char *)m->data);
    switch (w->what) {
    case ACK:
        bus_ack(h);
        break;
    case NAK:
        bus_nak(h, 0, "not today");
        break;
    case HOLD:
        assert_true(w->n_held < 64);
        w->held[w->n_held++] = h;
        break;
    case CLOSE:
        bus_consumer_close(w->c);
        w->c = NULL;
        bus_ack(h);
    }
}

static void consume(struct kit_bus *kb, struct worker *w, int64_t ack_wait_ms, uint64_t dead_after)
{
    struct bus_consumer_opts o = {.stream = STREAM_ALERTS,
                                  .durable = "worker",
                                  .filter = "redoubt.v1.alert",
                                  .ack_wait_ms = ack_wait_ms,
                                  .dead_after = dead_after};
    w->kb = kb;
    w->c = bus_consume(kb->b, &o, work, w);
    assert_non_null(w->c);
}

static long ack_pending(struct kit_bus *kb)
{
    struct kit_answer a;
    return kit_number(kit_ask(kb, &a, "$JS.API.CONSUMER.INFO." STREAM_ALERTS ".worker", ""), "num_ack_pending");
}

static void store_alerts(struct kit_bus *kb, int from, int n)
{
    struct kit_stored s = {0};
    for (int i = from; i < from + n; i++) {
        char id[32];
        snprintf(id, sizeof id, "alert-%d", i);
        store(kb, &s, "redoubt.v1.alert", id, id);
    }
    KIT_WAIT(kb->k, s.ok == n);
}

static void replicas_share_the_work(void **state)
{
    struct kit *k = *state;
    struct kit_bus a, b;
    struct worker x = {0}, y = {0};
    harness_start(k->nats);
    kit_open_up(k, &a);
    kit_open_up(k, &b);
    store_alerts(&a, 0, 10); /* before there is a consumer */
    consume(&a, &x, 0, 0);
    KIT_WAIT(k, x.n == 10);
    consume(&b, &y, 0, 0);
    struct kit_answer r;
    kit_ask(&b, &r, "$JS.API.STREAM.INFO." STREAM_ALERTS, ""); /* y's subscription is known */
    store_alerts(&a, 10, 200);
    KIT_WAIT(k, x.n + y.n == 210);
    assert_true(x.n > 10 && y.n > 0);
    KIT_WAIT(k, ack_pending(&a) == 0);
    kit_close(&a);
    kit_close(&b);
}

/* While it is held, it stays ours: longer than ack_wait. */
static void a_hold_is_prolonged(void **state)
{
    struct kit *k = *state;
    struct kit_bus a;
    struct worker x = {.what = HOLD};
    harness_start(k->nats);
    kit_open_up(k, &a);
    store_alerts(&a, 0, 3);
    consume(&a, &x, 500, 0);
    KIT_WAIT(k, x.n == 3);
    int64_t end = clock_mono_ms() + 2000;
    KIT_WAIT(k, clock_mono_ms() >= end);
    assert_int_equal(x.n, 3);
    assert_int_equal(ack_pending(&a), 3);
    for (int i = 0; i < 3; i++)
        bus_ack(x.held[i]);
    KIT_WAIT(k, ack_pending(&a) == 0);
    assert_int_equal(x.n, 3);
    kit_close(&a);
}

/* A consumer that dies with messages in hand: another one gets them after ack_wait. One that closes: at once. */
static void a_dead_worker_s_messages_come_again(void **state)
{
    struct kit *k = *state;
    struct kit_bus a, b;
    struct worker x = {.what = HOLD}, y = {0};
    harness_start(k->nats);
    kit_open_up(k, &a);
    kit_open_up(k, &b);
    store_alerts(&a, 0, 5);
    consume(&b, &x, 2000, 0);
    KIT_WAIT(k, x.n_held == 5);
    consume(&a, &y, 2000, 0);
    int64_t at = clock_mono_ms();
    bus_consumer_close(x.c); /* gives back */
    KIT_WAIT(k, y.n == 5);
    assert_true(clock_mono_ms() - at < 1500);
    assert_int_equal(y.redelivered, 5);
    for (int i = 0; i < 5; i++) /* its owner may still let go: nothing happens */
        bus_ack(x.held[i]);
    KIT_WAIT(k, ack_pending(&a) == 0);
    kit_close(&a);
    kit_close(&b);
}

/* A process with messages in hand that is killed says nothing: they come again after ack_wait. */
static void a_silent_worker_s_messages_come_again(void **state)
{
    struct kit *k = *state;
    struct kit_bus a;
    struct worker y = {0};
    harness_start(k->nats);
    kit_open_up(k, &a);
    store_alerts(&a, 0, 4);
    consume(&a, &y, 1000, 0);
    y.what = HOLD;
    KIT_WAIT(k, y.n == 4);
    /* The server dies and comes back: the holds of before are the same messages still. */
    harness_kill(k->nats);
    bus_ack(y.held[0]); /* said while away: sent when the consumer is known to be the same */
    KIT_WAIT(k, a.downs == 1);
    bus_ack(y.held[1]);
    harness_start(k->nats);
    KIT_WAIT(k, a.ups == 2);
    y.what = ACK;
    bus_ack(y.held[2]);
    bus_ack(y.held[3]);
    KIT_WAIT(k, ack_pending(&a) == 0);
    kit_close(&a);
}

static void closing_inside_the_handler(void **state)
{
    struct kit *k = *state;
    struct kit_bus a;
    struct worker x = {.what = CLOSE}, y = {0};
    harness_start(k->nats);
    kit_open_up(k, &a);
    store_alerts(&a, 0, 20);
    consume(&a, &x, 1000, 0);
    KIT_WAIT(k, x.n == 1);
    consume(&a, &y, 1000, 0);
    KIT_WAIT(k, y.n == 20); /* x gave back the one in its hands; those on their way to it come again after ack_wait */
    assert_int_equal(x.n, 1);
    kit_close(&a);
}

static void the_undeliverable_ends_as_a_dead_letter(void **state)
{
    struct kit *k = *state;
    struct kit_bus a;
    struct worker x = {.what = NAK};
    struct kit_answer r = {0};
    harness_start(k->nats);
    kit_open_up(k, &a);
    struct kit_stored s = {0};
    store(&a, &s, "redoubt.v1.alert", "bad", "what is this");
    consume(&a, &x, 0, 3);
    KIT_WAIT(k, stream_number(&a, STREAM_DEAD, "messages") == 1);
    assert_int_equal(x.n, 3);
    KIT_WAIT(k, ack_pending(&a) == 0);
    bus_last(a.b, STREAM_DEAD, "redoubt.v1.dead." STREAM_ALERTS, 2000, kit_answer, &r);
    KIT_WAIT(k, r.n == 1);
    assert_int_equal(r.st, BUS_OK);
    assert_int_equal(strncmp(r.id, "dead/" STREAM_ALERTS "/worker/", 5 + sizeof STREAM_ALERTS), 0);
    kit_close(&a);
}

/* The largest message with many headers still fits into a letter; and what the letter says. */
static void letter(void *ctx, const struct bus_msg *m)
{
    struct err e = {""};
    PB(DeadLetter) *d = wire_unpack(PB_DESC(dead_letter), m->data, m->len, &e);
    if (!d)
        fail_msg("%s", e.text);
    assert_string_equal(d->stream, STREAM_ALERTS);
    assert_string_equal(d->subject, "redoubt.v1.alert");
    assert_string_equal(d->service, "test");
    assert_string_equal(d->reason, "hopeless ?");
    assert_int_equal(d->payload.len, 49152);
    assert_int_equal(d->deliveries, 1);
    assert_true(d->n_headers >= 3);
    (*(int *)ctx)++;
    wire_free(d);
}

static void a_large_dead_letter(void **state)
{
    struct kit *k = *state;
    struct kit_bus a;
    struct worker x = {.what = HOLD};
    struct kit_stored s = {0};
    int letters = 0;
    harness_start(k->nats);
    kit_open_up(k, &a);
    bus_subscribe(a.b, "redoubt.v1.dead.>", NULL, letter, &letters);
    char *big = malloc(MESSAGE_MAX), id[1500];
    memset(big, 0xfe, MESSAGE_MAX);
    memset(id, 'i', sizeof id - 1);
    id[sizeof id - 1] = 0;
    struct bus_out o = {.subject = "redoubt.v1.alert", .id = id, .type = "t", .data = big, .len = MESSAGE_MAX};
    bus_store(a.b, &o, 0, kit_stored, &s);
    free(big);
    consume(&a, &x, 0, 3);
    KIT_WAIT(k, x.n_held == 1);
    bus_dead(x.held[0], "hopeless \xff");
    KIT_WAIT(k, letters == 1 && ack_pending(&a) == 0);
    kit_close(&a);
}

/* ---- watches ---- */

struct synced {
    struct kit_box box;
    int n;
};
static void on_synced(void *ctx)
{
    ((struct synced *)ctx)->n++;
}

static void the_present_and_the_live(void **state)
{
    struct kit *k = *state;
    struct kit_bus a;
    struct kit_stored s = {0};
    struct synced w = {0}, empty = {0}, all = {0};
    harness_start(k->nats);
    kit_open_up(k, &a);
    for (int i = 0; i < 300; i++) {
        char subject[64], id[32];
        snprintf(subject, sizeof subject, "redoubt.v1.breaker.t%d", i % 100);
        snprintf(id, sizeof id, "b/%d", i);
        store(&a, &s, subject, id, id);
    }
    KIT_WAIT(k, s.ok == 300);
    struct bus_watch *watch = bus_watch(a.b, "redoubt.v1.breaker.>", 0, kit_box, on_synced, &w);
    bus_watch(a.b, "redoubt.v1.health.>", 0, kit_box, on_synced, &empty);
    bus_watch(a.b, "redoubt.v1.>", 0, kit_box, on_synced, &all); /* wider than the stream */
    assert_int_equal(w.n, 0);
    KIT_WAIT(k, w.n == 1 && empty.n == 1 && all.n == 1);
    assert_int_equal(w.box.n, 100); /* one per subject */
    assert_int_equal(empty.box.n, 0);
    assert_int_equal(all.box.n, 100);
    assert_string_equal(w.box.id, "b/299");
    store(&a, &s, "redoubt.v1.breaker.t1", "b/live", "live");
    KIT_WAIT(k, w.box.n == 101 && s.ok == 301);
    assert_string_equal(w.box.data, "live");
    /* After a reconnect the present comes again. */
    harness_kill(k->nats);
    KIT_WAIT(k, a.downs == 1);
    harness_start(k->nats);
    KIT_WAIT(k, w.n == 2 && empty.n == 2);
    assert_int_equal(w.box.n, 201);
    bus_watch_close(watch);
    store(&a, &s, "redoubt.v1.breaker.t1", "b/unseen", "unseen");
    KIT_WAIT(k, s.ok == 302);
    assert_int_equal(w.box.n, 201);
    kit_close(&a);
}

static void a_watch_is_repeated(void **state)
{
    struct kit *k = *state;
    struct kit_bus a;
    struct kit_stored s = {0};
    struct synced w = {0};
    harness_start(k->nats);
    kit_open_up(k, &a);
    store(&a, &s, "redoubt.v1.health.t", "h/1", "one");
    KIT_WAIT(k, s.ok == 1);
    bus_watch(a.b, "redoubt.v1.health.>", 100, kit_box, on_synced, &w);
    KIT_WAIT(k, w.box.n >= 4);
    assert_int_equal(w.n, 1); /* told once per connection */
    /* Closed from inside the replay. */
    struct synced c = {.box.stop_at = 1};
    c.box.watch = bus_watch(a.b, "redoubt.v1.health.>", 100, kit_box, on_synced, &c);
    KIT_WAIT(k, c.box.n == 1 && c.box.watch == NULL);
    kit_close(&a);
    assert_int_equal(c.n, 0);
}

/* Replays while the subjects change all the time: ends, and with the latest. */
static void a_watch_under_change(void **state)
{
    struct kit *k = *state;
    struct kit_bus a, b;
    struct kit_stored s = {0};
    struct synced w = {0};
    harness_start(k->nats);
    kit_open_up(k, &a);
    kit_open_up(k, &b);
    int sent = 0;
    bus_watch(b.b, "redoubt.v1.breaker.>", 50, kit_box, on_synced, &w);
    int64_t end = clock_mono_ms() + 2000;
    int64_t replays = kit_metric("redoubt_bus_replays_total");
    while (clock_mono_ms() < end) {
        for (int i = 0; i < 10; i++, sent++) {
            char subject[64], id[32];
            snprintf(subject, sizeof subject, "redoubt.v1.breaker.t%d", sent % 50);
            snprintf(id, sizeof id, "b/%d", sent);
            store(&a, &s, subject, id, id);
        }
        kit_turn(k);
    }
    KIT_WAIT(k, w.n == 1 && s.ok == sent);
    assert_true(kit_metric("redoubt_bus_replays_total") > replays + 3);
    kit_close(&a);
    kit_close(&b);
}

/* ---- a server that has forgotten all ---- */

static void an_emptied_server_is_furnished_again(void **state)
{
    struct kit *k = *state;
    struct kit_bus a;
    struct worker x = {0};
    struct synced w = {0};
    harness_start(k->nats);
    kit_open_up(k, &a);
    consume(&a, &x, 1000, 0);
    bus_watch(a.b, "redoubt.v1.breaker.>", 0, kit_box, on_synced, &w);
    store_alerts(&a, 0, 3);
    KIT_WAIT(k, x.n == 3);
    x.what = HOLD;
    store_alerts(&a, 3, 1);
    KIT_WAIT(k, x.n_held == 1 && w.n == 1);
    harness_kill(k->nats);
    harness_forget(k->nats);
    harness_start(k->nats);
    KIT_WAIT(k, a.ups == 2 && w.n == 2);
    assert_int_equal(stream_number(&a, STREAM_ALERTS, "messages"), 0);
    int64_t stale = kit_metric("redoubt_bus_stale_acks_total");
    x.n = 0;
    store_alerts(&a, 10, 5);
    KIT_WAIT(k, x.n == 5);
    assert_int_equal(ack_pending(&a), 5);
    bus_ack(x.held[0]); /* sequence 4 of the stream that is gone: must not swallow the new number 4 */
    assert_int_equal(kit_metric("redoubt_bus_stale_acks_total"), stale + 1);
    assert_int_equal(ack_pending(&a), 5);
    for (int i = 1; i <= 5; i++)
        bus_ack(x.held[i]);
    KIT_WAIT(k, ack_pending(&a) == 0);
    kit_close(&a);
}

/* A stream deleted while connected comes back as soon as somebody misses it. */
static void a_deleted_stream_comes_back(void **state)
{
    struct kit *k = *state;
    struct kit_bus a;
    struct kit_answer r;
    struct kit_stored s = {0};
    struct worker x = {0};
    harness_start(k->nats);
    kit_open_up(k, &a);
    consume(&a, &x, 0, 0);
    store_alerts(&a, 0, 1);
    KIT_WAIT(k, x.n == 1);
    assert_null(strstr(kit_ask(&a, &r, "$JS.API.STREAM.DELETE." STREAM_ALERTS, ""), "\"error\""));
    store(&a, &s, "redoubt.v1.alert", "after", "after");
    KIT_WAIT(k, s.ok == 1 && x.n == 2);
    assert_string_equal(x.data, "after");
    kit_close(&a);
}

int main(int argc, char **argv)
{
#define TEST(fn) cmocka_unit_test_setup_teardown(fn, kit_setup, kit_teardown)
    const struct CMUnitTest tests[] = {
        TEST(streams_are_made),
        TEST(what_a_user_set_stays),
        TEST(a_small_server_is_enough),
        TEST(jetstream_comes_late),
        TEST(stores),
        TEST(refused_for_good),
        TEST(a_full_stream_is_waited_for),
        TEST(nothing_is_lost_when_the_server_dies),
        TEST(the_last_value_is_the_latest),
        TEST(a_queue_is_read_where_it_stands),
        TEST(a_part_is_taken_out),
        TEST(counts_come_in_pages),
        TEST(a_work_queue_keeps_its_order),
        TEST(replicas_share_the_work),
        TEST(a_hold_is_prolonged),
        TEST(a_dead_worker_s_messages_come_again),
        TEST(a_silent_worker_s_messages_come_again),
        TEST(closing_inside_the_handler),
        TEST(the_undeliverable_ends_as_a_dead_letter),
        TEST(a_large_dead_letter),
        TEST(the_present_and_the_live),
        TEST(a_watch_is_repeated),
        TEST(a_watch_under_change),
        TEST(an_emptied_server_is_furnished_again),
        TEST(a_deleted_stream_comes_back),
    };
    if (argc > 1) /* only the tests of that name; * and ? are wildcards */
        cmocka_set_test_filter(argv[1]);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
