/* test_common_bus.c - the bus without a network: subjects, acknowledgement subjects, deadlines, the hand-over queue. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka wants those before it. */
#include "common/bus_priv.h"
#include "common/bus_queue.h"
#include "common/clock.h"
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

static void subjects_are_checked(void **state)
{
    (void)state;
    static const char *const good[] = {"a", "a.b", "$JS.API.STREAM.INFO.X", "redoubt.v1.breaker.llm.x-1_2", "a:b"};
    static const char *const bad[] = {"",       ".", "a.",  ".a", "a..b", "a b", "a\tb",
                                      "a\r\nb", "*", "a.*", ">",  "a.>",  "a*"};
    static const char *const wild[] = {"*", "a.*", "a.*.b", ">", "a.>", "*.*.>"};
    static const char *const never[] = {"a*", "*a", "a.>.b", ">>", "a>", "**", "a.*b", ""};
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++)
        assert_true(bus_subject_ok(good[i], false) && bus_subject_ok(good[i], true));
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_false(bus_subject_ok(bad[i], false));
    for (size_t i = 0; i < sizeof wild / sizeof wild[0]; i++)
        assert_true(bus_subject_ok(wild[i], true));
    for (size_t i = 0; i < sizeof never / sizeof never[0]; i++)
        assert_false(bus_subject_ok(never[i], true));
    assert_false(bus_subject_ok(NULL, true));
    char longest[SUBJECT_MAX_LEN + 1];
    memset(longest, 'a', sizeof longest);
    longest[SUBJECT_MAX_LEN - 1] = 0;
    assert_true(bus_subject_ok(longest, false));
    longest[SUBJECT_MAX_LEN - 1] = 'a';
    longest[SUBJECT_MAX_LEN] = 0;
    assert_false(bus_subject_ok(longest, false));
}

static void subjects_match(void **state)
{
    (void)state;
    static const struct {
        const char *filter, *subject;
        bool match, overlap;
    } rows[] = {
        {"a.b", "a.b", true, true},   {"a.b", "a.c", false, false},     {"a.b", "a", false, false},
        {"a", "a.b", false, false},   {"a.*", "a.b", true, true},       {"a.*", "a.b.c", false, false},
        {"a.>", "a.b.c", true, true}, {"a.>", "a", false, false},       {">", "a", true, true},
        {"*.b", "a.b", true, true},   {"a.b.>", "a.>", false, true},    {"a.*.c", "a.b.*", false, true},
        {"a.b", "a.*", false, true},  {"a.b", ">", false, true},        {"ab", "a", false, false},
        {"a", "ab", false, false},    {"a.*.c", "a.b.d", false, false}, {"a.*.c", "a.*.d", false, false},
        {"a.*", "a.*", true, true},   {"*", "a", true, true},           {"a.>", "b.>", false, false},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        assert_int_equal(bus_subject_match(rows[i].filter, rows[i].subject), rows[i].match);
        assert_int_equal(bus_subject_overlap(rows[i].filter, rows[i].subject), rows[i].overlap);
        assert_int_equal(bus_subject_overlap(rows[i].subject, rows[i].filter), rows[i].overlap);
    }
    assert_string_equal(bus_stream_of("redoubt.v1.alert")->name, STREAM_ALERTS);
    assert_string_equal(bus_stream_of("redoubt.v1.breaker.llm.x")->name, STREAM_STATE);
    assert_string_equal(bus_stream_of("redoubt.v1.dead.X")->name, STREAM_DEAD);
    assert_null(bus_stream_of("redoubt.v1.report.llm.x"));
    assert_null(bus_stream_of("redoubt.v1.action.a")); /* request and reply: no stream may answer it */
}

static void view(const char *reply, struct bus_view *v)
{
    natsMsg *m = NULL;
    assert_int_equal(natsMsg_Create(&m, "s", reply, "x", 1), NATS_OK);
    bus_view(v, m);
    natsMsg_Destroy(m);
}

static void acknowledgement_subjects(void **state)
{
    (void)state;
    struct bus_view v;
    view("$JS.ACK.ST.con.3.77.12.1700000000000000000.5", &v);
    assert_string_equal(v.m.stream, "ST");
    assert_int_equal(v.m.deliveries, 3);
    assert_int_equal(v.m.stream_seq, 77);
    assert_int_equal(v.m.pending, 5);
    view("$JS.ACK.hub.ACCHASH.ST.con.4.78.12.1700000000000000000.6", &v);
    assert_string_equal(v.m.stream, "ST");
    assert_int_equal(v.m.deliveries, 4);
    assert_int_equal(v.m.stream_seq, 78);
    assert_int_equal(v.m.pending, 6);
    view("$JS.ACK.hub.ACCHASH.ST.con.4.79.12.1700000000000000000.7.random", &v);
    assert_int_equal(v.m.stream_seq, 79);
    assert_int_equal(v.m.pending, 7);
    static const char *const others[] = {"$JS.ACK.", "$JS.ACK.a.b.c", "$JS.ACK.ST.con.3.77.12.1.5.6", "_INBOX.x",
                                         "$JS.ACK"};
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++) {
        view(others[i], &v);
        assert_null(v.m.stream);
        assert_int_equal(v.m.stream_seq, 0);
    }
    view(NULL, &v);
    assert_null(v.m.reply);
}

/* ---- deadlines ---- */

enum { WAITERS = 500 };
struct waiter {
    struct bus_wait w;
    int64_t due_ms;
    int rang;
};
static int64_t last_due_ms;
static int rang;
static void on_due(struct bus_wait *w)
{
    struct waiter *x = (struct waiter *)w;
    assert_true(x->due_ms >= last_due_ms);
    assert_true(clock_mono_ms() >= x->due_ms);
    last_due_ms = x->due_ms;
    x->rang++;
    rang++;
}

static void deadlines_come_in_order(void **state)
{
    (void)state;
    struct loop l;
    struct bus b = {.l = &l};
    unsigned seed = (unsigned)clock_mono_ns();
    print_message("seed %u\n", seed);
    srand(seed);
    assert_int_equal(loop_init(&l), 0);
    bus_waits_init(&b);
    struct waiter *w = calloc(WAITERS, sizeof *w);
    int64_t now = clock_mono_ms();
    int expected = 0;
    for (int i = 0; i < WAITERS; i++) {
        w[i].w.on_due = on_due;
        w[i].due_ms = now + rand() % 100;
        bus_wait_at(&b, &w[i].w, w[i].due_ms);
    }
    for (int i = 0; i < WAITERS; i++) { /* some are moved, some stopped */
        switch (rand() % 4) {
        case 0:
            w[i].due_ms = now + rand() % 200;
            bus_wait_at(&b, &w[i].w, w[i].due_ms);
            expected++;
            break;
        case 1:
            bus_wait_at(&b, &w[i].w, BUS_NEVER);
            break;
        case 2:
            bus_wait_end(&b, &w[i].w);
            break;
        default:
            expected++;
        }
    }
    last_due_ms = 0;
    rang = 0;
    for (int64_t end = now + 10000; rang < expected && clock_mono_ms() < end;)
        (void)uv_run(&l.uv, UV_RUN_ONCE);
    assert_int_equal(rang, expected);
    for (int i = 0; i < WAITERS; i++)
        assert_in_range(w[i].rang, 0, 1);
    assert_int_equal(b.waits.n, 0);
    free(w);
    free(b.waits.heap);
    loop_timer_close(&b.waits.timer, NULL);
    loop_done(&l);
}

/* ---- the queue ---- */

enum { ITEMS = 200000, QUEUE_MAX = 64 };
static void on_wake(uv_async_t *h)
{
    (void)h;
}

static void produce(void *arg)
{
    for (int i = 1; i <= ITEMS; i++)
        assert_true(bus_queue_push(arg, (struct bus_item){.kind = BUS_ITEM_ERROR, .code = i}));
}

static void block(void *arg)
{
    int pushed = 0;
    while (bus_queue_push(arg, (struct bus_item){.kind = BUS_ITEM_ERROR, .code = ++pushed})) {
    }
    assert_int_equal(pushed, QUEUE_MAX + 1); /* the one for which there was no room */
    bus_queue_push_always(arg, (struct bus_item){.kind = BUS_ITEM_CLOSED});
}

static void the_queue_keeps_order_and_bound(void **state)
{
    (void)state;
    struct loop l;
    uv_async_t wake;
    struct bus_queue q;
    uv_thread_t t;
    struct bus_item i;
    assert_int_equal(loop_init(&l), 0);
    assert_int_equal(uv_async_init(&l.uv, &wake, on_wake), 0);
    assert_int_equal(bus_queue_init(&q, &wake, QUEUE_MAX), 0);
    assert_int_equal(uv_thread_create(&t, produce, &q), 0);
    for (int n = 0; n < ITEMS;) {
        while (bus_queue_next(&q, &i)) {
            assert_int_equal(i.code, ++n);
            assert_in_range(q.in_hand, 1, QUEUE_MAX);
            bus_queue_release(&q, 1);
        }
        (void)uv_run(&l.uv, n < ITEMS ? UV_RUN_ONCE : UV_RUN_NOWAIT);
    }
    uv_thread_join(&t);
    /* Closing lets go whoever waits for room; what must arrive still does. */
    assert_int_equal(uv_thread_create(&t, block, &q), 0);
    size_t waiting = 0;
    while (waiting < QUEUE_MAX) {
        uv_mutex_lock(&q.mu);
        waiting = q.n_in;
        uv_mutex_unlock(&q.mu);
    }
    bus_queue_close(&q);
    uv_thread_join(&t);
    int n = 0, closed = 0;
    while (bus_queue_next(&q, &i)) {
        n++;
        closed += i.kind == BUS_ITEM_CLOSED;
    }
    assert_int_equal(n, QUEUE_MAX + 1);
    assert_int_equal(closed, 1);
    bus_queue_done(&q);
    uv_close((uv_handle_t *)&wake, NULL);
    loop_done(&l);
}

static int start_library(void **state)
{
    (void)state;
    return nats_Open(-1) == NATS_OK ? 0 : -1;
}

static int stop_library(void **state)
{
    (void)state;
    nats_Close();
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(subjects_are_checked),
        cmocka_unit_test(subjects_match),
        cmocka_unit_test(acknowledgement_subjects),
        cmocka_unit_test(deadlines_come_in_order),
        cmocka_unit_test(the_queue_keeps_order_and_bound),
    };
    return cmocka_run_group_tests(tests, start_library, stop_library);
}
