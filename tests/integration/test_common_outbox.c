/* test_common_outbox.c - the outbox with a real nats-server: started late, killed, emptied; nothing lost, order kept. */
#include "bus_kit.h"
#include "common/log.h"
#include "common/outbox.h"
#include <dirent.h>
#include <unistd.h>

#define SUBJECT SUBJECT_AUDIT "test"

struct box {
    struct kit *k;
    struct outbox *b;
    char dir[64];
    size_t done, failed, in_stream, not_in_stream;
    bool closed;
};

static void on_append(void *ctx, int status, const char *error)
{
    struct box *x = ctx;
    if (status != 0)
        print_message("refused: %s\n", error);
    x->done += status == 0;
    x->failed += status != 0;
}

static void box_open(struct kit *k, struct box *x, struct kit_bus *bus)
{
    struct err e;
    char dir[64];
    snprintf(dir, sizeof dir, "%s", x->dir);
    *x = (struct box){.k = k};
    snprintf(x->dir, sizeof x->dir, "%s", dir[0] ? dir : "/tmp/redoubt-outbox-XXXXXX");
    if (!dir[0])
        assert_non_null(mkdtemp(x->dir));
    x->b = outbox_open(&k->loop, &(struct outbox_opts){.dir = x->dir, .bus = bus->b}, &e);
    assert_non_null(x->b);
}

static void on_closed(void *ctx)
{
    ((struct box *)ctx)->closed = true;
}

static void box_close(struct box *x, int64_t timeout_ms)
{
    x->closed = false;
    outbox_close(x->b, timeout_ms, on_closed, x);
    KIT_WAIT(x->k, x->closed);
}

static void box_remove(struct box *x)
{
    DIR *d = opendir(x->dir);
    for (struct dirent *f; d && (f = readdir(d));)
        if (f->d_name[0] != '.')
            unlinkat(dirfd(d), f->d_name, 0);
    closedir(d);
    rmdir(x->dir);
}

static void append_n(struct box *x, size_t from, size_t n)
{
    for (size_t i = from; i < from + n; i++) {
        char id[32];
        snprintf(id, sizeof id, "item-%zu", i);
        struct outbox_item item = {
            .subject = SUBJECT, .id = id, .type = "redoubt.v1.AuditRecord", .data = id, .len = strlen(id)};
        outbox_append(x->b, &item, on_append, x);
    }
}

static long stream_count(struct kit_bus *a)
{
    struct kit_answer answer;
    return kit_number(kit_ask(a, &answer, "$JS.API.STREAM.INFO." STREAM_AUDIT, ""), "messages");
}

/* What a consumer reads from the whole stream. */
struct seen {
    size_t n, distinct, backwards;
    size_t last;
    bool has[8192];
};

static void see(void *ctx, const struct bus_msg *m, struct bus_hold *h)
{
    struct seen *s = ctx;
    size_t number;
    char id[64];
    snprintf(id, sizeof id, "%.*s", (int)m->len, (const char *)m->data);
    assert_string_equal(m->id, id);
    assert_int_equal(sscanf(id, "item-%zu", &number), 1);
    assert_true(number < sizeof s->has);
    s->backwards += s->n > 0 && number < s->last;
    s->distinct += !s->has[number];
    s->has[number] = true;
    s->last = number;
    s->n++;
    bus_ack(h);
}

static struct seen seen;

/* Reads the stream: items 0 .. n-1 are all there. */
static void expect_items(struct kit_bus *a, size_t n)
{
    static int readers;
    char durable[32];
    snprintf(durable, sizeof durable, "reader-%d", readers++);
    seen = (struct seen){0};
    long count = stream_count(a);
    struct bus_consumer_opts o = {.stream = STREAM_AUDIT, .durable = durable, .filter = SUBJECT_AUDIT ">"};
    struct bus_consumer *c = bus_consume(a->b, &o, see, &seen);
    KIT_WAIT(a->k, seen.n >= (size_t)count);
    bus_consumer_close(c);
    assert_int_equal(seen.distinct, n);
    for (size_t i = 0; i < n; i++)
        assert_true(seen.has[i]);
}

static void a_server_that_comes_late_gets_all_in_order(void **state)
{
    struct kit *k = *state;
    struct kit_bus a;
    struct box x = {0};
    kit_open(k, &a, (struct bus_opts){0});
    box_open(k, &x, &a);
    append_n(&x, 0, 2000);
    KIT_WAIT(k, x.done == 2000); /* durable without any server */
    assert_int_equal(outbox_backlog(x.b), 2000);
    assert_true(outbox_ok(x.b));
    harness_start(k->nats);
    KIT_WAIT(k, outbox_backlog(x.b) == 0);
    append_n(&x, 2000, 500);
    KIT_WAIT(k, x.done == 2500 && outbox_backlog(x.b) == 0);
    expect_items(&a, 2500);
    assert_int_equal(seen.n, 2500);
    assert_int_equal(seen.backwards, 0);
    box_close(&x, 1000);
    kit_close(&a);
    box_remove(&x);
}

static void a_killed_server_costs_nothing(void **state)
{
    struct kit *k = *state;
    struct kit_bus a;
    struct box x = {0};
    size_t n = 0;
    harness_start(k->nats);
    kit_open_up(k, &a);
    box_open(k, &x, &a);
    for (int round = 0; round < 3; round++) {
        append_n(&x, n, 700);
        n += 700;
        size_t goal = outbox_backlog(x.b) / 2;
        KIT_WAIT(k, outbox_backlog(x.b) <= goal + 100);
        harness_kill(k->nats);
        append_n(&x, n, 50);
        n += 50;
        KIT_WAIT(k, x.done == n);
        harness_start(k->nats);
        KIT_WAIT(k, outbox_backlog(x.b) == 0);
    }
    assert_int_equal(x.failed, 0);
    expect_items(&a, n);
    assert_int_equal(seen.n, n); /* repeats were recognised by their id */
    box_close(&x, 1000);
    kit_close(&a);
    box_remove(&x);
}

static void on_in_stream(void *ctx, int status, const char *error)
{
    struct box *x = ctx;
    x->in_stream += status == 0;
    x->not_in_stream += status != 0;
    assert_true(status == 0 || *error);
    assert_true(x->in_stream + x->not_in_stream <= x->done); /* durable first */
}

static void append_and_wait(struct box *x, size_t from, size_t n)
{
    for (size_t i = from; i < from + n; i++) {
        char id[32];
        snprintf(id, sizeof id, "item-%zu", i);
        struct outbox_item item = {.subject = SUBJECT_QUEUE "a.0", .id = id, .data = id, .len = strlen(id)};
        outbox_append_stored(x->b, &item, on_append, on_in_stream, x);
    }
}

static void whoever_wants_hears_of_the_stream(void **state)
{
    struct kit *k = *state;
    struct kit_bus a;
    struct box x = {0};
    harness_start(k->nats);
    kit_open_up(k, &a);
    box_open(k, &x, &a);
    append_and_wait(&x, 0, 300);
    assert_int_equal(x.done + x.in_stream, 0);
    KIT_WAIT(k, x.in_stream == 300);
    assert_int_equal(x.done, 300);
    harness_kill(k->nats);
    append_and_wait(&x, 300, 100);
    KIT_WAIT(k, x.done == 400);
    assert_int_equal(x.in_stream, 300);
    harness_start(k->nats);
    KIT_WAIT(k, x.in_stream == 400);
    /* Closed before the stream has them: said, too. */
    harness_freeze(k->nats);
    append_and_wait(&x, 400, 50);
    KIT_WAIT(k, x.done == 450);
    box_close(&x, 100);
    harness_thaw(k->nats);
    assert_int_equal(x.in_stream + x.not_in_stream, 450);
    assert_int_equal(x.not_in_stream, 50);
    kit_close(&a);
    box_remove(&x);
}

static void a_process_that_ends_leaves_its_items_to_the_next(void **state)
{
    struct kit *k = *state;
    struct kit_bus a;
    struct box x = {0};
    harness_start(k->nats);
    kit_open_up(k, &a);
    harness_freeze(k->nats);
    box_open(k, &x, &a);
    append_n(&x, 0, 300);
    KIT_WAIT(k, x.done == 300);
    box_close(&x, 100); /* nothing was acknowledged */
    harness_thaw(k->nats);
    box_open(k, &x, &a);
    assert_int_equal(outbox_backlog(x.b), 300);
    KIT_WAIT(k, outbox_backlog(x.b) == 0);
    expect_items(&a, 300);
    assert_int_equal(seen.n, 300);
    box_close(&x, 1000);
    kit_close(&a);
    box_remove(&x);
}

static void a_server_that_lost_its_data_gets_the_newest_again(void **state)
{
    struct kit *k = *state;
    struct kit_bus a;
    struct box x = {0};
    harness_start(k->nats);
    kit_open_up(k, &a);
    box_open(k, &x, &a);
    append_n(&x, 0, 400);
    KIT_WAIT(k, x.done == 400 && outbox_backlog(x.b) == 0);
    harness_kill(k->nats);
    harness_forget(k->nats);
    harness_start(k->nats);
    KIT_WAIT(k, a.ups == 2 && stream_count(&a) == 400);
    expect_items(&a, 400);
    assert_true(kit_metric("redoubt_outbox_republished_total") >= 400);
    /* And when the process itself was restarted in between. */
    KIT_WAIT(k, outbox_backlog(x.b) == 0);
    box_close(&x, 1000);
    harness_kill(k->nats);
    harness_forget(k->nats);
    harness_start(k->nats);
    KIT_WAIT(k, a.ups == 3);
    box_open(k, &x, &a);
    KIT_WAIT(k, stream_count(&a) == 400 && outbox_backlog(x.b) == 0);
    expect_items(&a, 400);
    box_close(&x, 1000);
    kit_close(&a);
    box_remove(&x);
}

int main(void)
{
    log_init("test", LOG_LEVEL_ERROR, LOG_FORMAT_LOGFMT);
#define TEST(fn) cmocka_unit_test_setup_teardown(fn, kit_setup, kit_teardown)
    const struct CMUnitTest tests[] = {
        TEST(a_server_that_comes_late_gets_all_in_order),
        TEST(a_killed_server_costs_nothing),
        TEST(whoever_wants_hears_of_the_stream),
        TEST(a_process_that_ends_leaves_its_items_to_the_next),
        TEST(a_server_that_lost_its_data_gets_the_newest_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
