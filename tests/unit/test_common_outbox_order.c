/* test_common_outbox_order.c - the outbox with real files and a bus of the test's own: order, window, loss, refusal, adoption. */
#include "common/clock.h"
#include "common/outbox.h"
#include "common/outbox_impl.h"
#include "common/subjects.h"
#include <dirent.h>
#include <inttypes.h>
#include <setjmp.h>
#include <sodium.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#define WAIT_MS   10000
#define ITEMS_MAX 4096

/* ---- a bus: keeps what it is given until the test says what becomes of it ---- */

struct given {
    char id[64];
    bus_stored_cb cb;
    void *ctx;
};
struct bus {
    struct loop *l;
    bool up, hold, refuse;
    struct given waiting[ITEMS_MAX]; /* given and not answered yet */
    size_t n_waiting, max_waiting;
    char stored[ITEMS_MAX][64]; /* the stream: index + 1 is the sequence */
    uint64_t stored_n;
    size_t asked;
};

bool bus_up(const struct bus *b)
{
    return b->up;
}

static void answer_first(struct bus *b)
{
    struct given g = b->waiting[0];
    struct bus_stored r = {.status = BUS_OK, .stream = "REDOUBT_AUDIT"};
    memmove(b->waiting, b->waiting + 1, --b->n_waiting * sizeof g);
    if (b->refuse) {
        r.status = BUS_REFUSED;
        r.error = "maximum bytes exceeded";
        g.cb(g.ctx, &r);
        return;
    }
    for (uint64_t i = 0; i < b->stored_n && r.seq == 0; i++)
        if (strcmp(b->stored[i], g.id) == 0)
            r.seq = i + 1;
    r.duplicate = r.seq != 0;
    if (!r.duplicate) {
        assert_true(b->stored_n < ITEMS_MAX);
        strcpy(b->stored[b->stored_n], g.id);
        r.seq = ++b->stored_n;
    }
    g.cb(g.ctx, &r);
}

static void answer_later(void *ctx)
{
    struct bus *b = ctx;
    if (!b->hold && b->n_waiting > 0)
        answer_first(b);
}

void bus_store(struct bus *b, const struct bus_out *o, int64_t give_up_ms, bus_stored_cb cb, void *ctx)
{
    assert_int_equal(give_up_ms, 0);
    assert_true(b->n_waiting < ITEMS_MAX);
    assert_string_equal(o->type, "redoubt.v1.Test");
    assert_int_equal(o->len, strlen(o->id));
    assert_memory_equal(o->data, o->id, o->len);
    struct given *g = &b->waiting[b->n_waiting++];
    snprintf(g->id, sizeof g->id, "%s", o->id);
    g->cb = cb;
    g->ctx = ctx;
    if (b->n_waiting > b->max_waiting)
        b->max_waiting = b->n_waiting;
    loop_defer(b->l, answer_later, b);
}

struct question {
    bus_reply_cb cb;
    void *ctx;
    char text[512];
};

static void reply_later(void *ctx)
{
    struct question *q = ctx;
    struct bus_msg m = {.data = q->text, .len = strlen(q->text)};
    q->cb(q->ctx, BUS_OK, &m);
    free(q);
}

void bus_request(struct bus *b, const struct bus_out *o, int64_t timeout_ms, bus_reply_cb cb, void *ctx)
{
    (void)timeout_ms;
    struct question *q = calloc(1, sizeof *q);
    uint64_t seq;
    char body[64];
    q->cb = cb;
    q->ctx = ctx;
    b->asked++;
    snprintf(body, sizeof body, "%.*s", (int)o->len, (const char *)o->data);
    if (strcmp(o->subject, "$JS.API.STREAM.INFO.REDOUBT_AUDIT") == 0) {
        snprintf(q->text, sizeof q->text, "{\"state\":{\"messages\":1,\"last_seq\":%" PRIu64 "}}", b->stored_n);
    } else {
        assert_string_equal(o->subject, "$JS.API.STREAM.MSG.GET.REDOUBT_AUDIT");
        assert_int_equal(sscanf(body, "{\"seq\":%" SCNu64 "}", &seq), 1);
        if (seq > b->stored_n || !b->stored[seq - 1][0]) {
            strcpy(q->text, "{\"error\":{\"code\":404,\"err_code\":10037,\"description\":\"no message found\"}}");
        } else {
            char head[160], coded[256];
            int n = snprintf(head, sizeof head, "NATS/1.0\r\nce-id: other\r\nNats-Msg-Id: %s\r\n\r\n",
                             b->stored[seq - 1]);
            sodium_bin2base64(coded, sizeof coded, (unsigned char *)head, (size_t)n, sodium_base64_VARIANT_ORIGINAL);
            snprintf(q->text, sizeof q->text, "{\"message\":{\"subject\":\"s\",\"seq\":%" PRIu64 ",\"hdrs\":\"%s\"}}",
                     seq, coded);
        }
    }
    loop_defer(b->l, reply_later, q);
}

/* ---- a place for one test ---- */

struct place {
    char dir[64];
    struct loop l;
    struct bus *bus;
    struct outbox *b;
    size_t done, failed;
    char why[256];
    bool closed;
};

static void remove_files(const char *dir)
{
    DIR *d = opendir(dir);
    for (struct dirent *f; d && (f = readdir(d));)
        if (f->d_name[0] != '.')
            unlinkat(dirfd(d), f->d_name, 0);
    closedir(d);
}

static size_t count_files(const char *dir)
{
    DIR *d = opendir(dir);
    size_t n = 0;
    for (struct dirent *f; d && (f = readdir(d));)
        n += f->d_name[0] != '.';
    closedir(d);
    return n;
}

static int set_up(void **state)
{
    struct place *p = calloc(1, sizeof *p);
    strcpy(p->dir, "/tmp/redoubt-outbox-XXXXXX");
    p->bus = calloc(1, sizeof *p->bus);
    p->bus->l = &p->l;
    p->bus->up = true;
    *state = p;
    return mkdtemp(p->dir) && loop_init(&p->l) == 0 ? 0 : -1;
}

static void on_closed(void *ctx)
{
    ((struct place *)ctx)->closed = true;
}

static void close_box(struct place *p, int64_t timeout_ms)
{
    p->closed = false;
    outbox_close(p->b, timeout_ms, on_closed, p);
    assert_true(loop_run_until(&p->l, &p->closed, WAIT_MS));
    p->b = NULL;
}

static int clean_up(void **state)
{
    struct place *p = *state;
    p->bus->hold = true;
    if (p->b)
        close_box(p, 0);
    p->bus->hold = p->bus->refuse = false;
    while (p->bus->n_waiting > 0)
        answer_first(p->bus); /* nobody waits any more: must do no harm */
    loop_done(&p->l);
    remove_files(p->dir);
    rmdir(p->dir);
    free(p->bus);
    free(p);
    return 0;
}

static void open_box(struct place *p, struct bus *bus, size_t max_bytes)
{
    struct err e;
    p->b = outbox_open(&p->l, &(struct outbox_opts){.dir = p->dir, .max_bytes = max_bytes, .bus = bus}, &e);
    if (!p->b)
        print_message("%s\n", e.text);
    assert_non_null(p->b);
}

static void on_append(void *ctx, int status, const char *error)
{
    struct place *p = ctx;
    if (status == 0)
        p->done++;
    else
        snprintf(p->why, sizeof p->why, "%s", error), p->failed++;
}

static void append_to(struct outbox *b, const char *id, outbox_cb cb, void *ctx)
{
    struct outbox_item i = {
        .subject = "redoubt.v1.audit.test", .id = id, .type = "redoubt.v1.Test", .data = id, .len = strlen(id)};
    outbox_append(b, &i, cb, ctx);
}

static void append_n(struct place *p, size_t from, size_t n)
{
    for (size_t i = from; i < from + n; i++) {
        char id[32];
        snprintf(id, sizeof id, "item-%zu", i);
        append_to(p->b, id, on_append, p);
    }
}

/* Turns the loop until cond holds. */
#define UNTIL(p, cond)                                                                                               \
    do {                                                                                                             \
        int64_t end_ = clock_mono_ms() + WAIT_MS;                                                                    \
        while (!(cond) && clock_mono_ms() < end_)                                                                    \
            loop_run_until(&(p)->l, &(bool){false}, 5);                                                              \
        assert_true(cond);                                                                                           \
    } while (0)

static void expect_stored(const struct place *p, size_t n)
{
    assert_int_equal(p->bus->stored_n, n);
    for (size_t i = 0; i < n; i++) {
        char id[32];
        snprintf(id, sizeof id, "item-%zu", i);
        assert_string_equal(p->bus->stored[i], id);
    }
}

/* ---- tests ---- */

static void appends_are_durable_and_published_in_order(void **state)
{
    struct place *p = *state;
    open_box(p, p->bus, 0);
    assert_true(outbox_ok(p->b));
    append_to(p->b, "item-0", NULL, NULL);
    assert_int_equal(p->done, 0); /* never from inside */
    append_n(p, 1, 999);
    assert_int_equal(outbox_backlog(p->b), 1000);
    UNTIL(p, p->done == 999 && outbox_backlog(p->b) == 0);
    assert_int_equal(p->failed, 0);
    expect_stored(p, 1000);
    close_box(p, 1000);
    open_box(p, p->bus, 0); /* the acknowledgements were written down */
    assert_int_equal(outbox_backlog(p->b), 0);
    UNTIL(p, p->bus->asked > 0); /* and the stream is asked whether it still has the last of them */
    append_n(p, 1000, 1);
    UNTIL(p, outbox_backlog(p->b) == 0);
    expect_stored(p, 1001);
}

static void the_window_is_kept_and_memory_too(void **state)
{
    struct place *p = *state;
    p->bus->hold = true;
    open_box(p, p->bus, 0);
    append_n(p, 0, 3000);
    UNTIL(p, p->done == 3000);
    assert_int_equal(p->bus->n_waiting, OUTBOX_WINDOW);
    assert_int_equal(outbox_backlog(p->b), 3000);
    p->bus->hold = false;
    answer_first(p->bus);
    while (p->bus->n_waiting > 0)
        answer_first(p->bus), loop_run_until(&p->l, &(bool){false}, 1);
    UNTIL(p, outbox_backlog(p->b) == 0);
    assert_true(p->bus->max_waiting <= OUTBOX_WINDOW);
    expect_stored(p, 3000);
}

static void what_an_earlier_process_left_is_published(void **state)
{
    struct place *p = *state;
    open_box(p, NULL, 256 << 10); /* 32 KiB per file: several files */
    append_n(p, 0, 1500);
    UNTIL(p, p->done == 1500);
    close_box(p, 0);
    assert_true(count_files(p->dir) > 3);
    open_box(p, p->bus, 256 << 10);
    assert_int_equal(outbox_backlog(p->b), 1500);
    p->bus->up = false;
    append_n(p, 1500, 100);
    UNTIL(p, p->done == 1600);
    assert_int_equal(p->bus->stored_n, 0);
    p->bus->up = true;
    UNTIL(p, outbox_backlog(p->b) == 0);
    expect_stored(p, 1600);
}

static void old_files_go_and_younger_ones_stay(void **state)
{
    struct place *p = *state;
    open_box(p, p->bus, 256 << 10);
    append_n(p, 0, 1500);
    UNTIL(p, p->done == 1500 && outbox_backlog(p->b) == 0);
    size_t files = count_files(p->dir);
    assert_true(files > 3);
    p->b->shelf.segs[0]->settled_mono_ms -= OUTBOX_KEEP_MS + 1;
    p->b->shelf.segs[2]->settled_mono_ms -= OUTBOX_KEEP_MS + 1; /* not before the one in front of it */
    UNTIL(p, count_files(p->dir) == files - 1);
    for (size_t i = 0; i < p->b->shelf.n; i++)
        p->b->shelf.segs[i]->settled_mono_ms -= OUTBOX_KEEP_MS + 1;
    UNTIL(p, count_files(p->dir) == 0); /* also the one that was written to last */
    append_n(p, 1500, 10);
    UNTIL(p, outbox_backlog(p->b) == 0);
    expect_stored(p, 1510);
}

static void a_stream_that_lost_its_end_gets_it_again(void **state)
{
    struct place *p = *state;
    open_box(p, p->bus, 0);
    append_n(p, 0, 100);
    UNTIL(p, p->done == 100 && outbox_backlog(p->b) == 0);
    /* Power loss: the last 40 are gone, and others have filled their places since. */
    p->bus->up = false;
    UNTIL(p, !p->b->bus_was_up);
    for (size_t i = 60; i < 100; i++)
        snprintf(p->bus->stored[i], sizeof p->bus->stored[i], "foreign-%zu", i);
    p->bus->up = true;
    UNTIL(p, p->bus->stored_n == 140 && outbox_backlog(p->b) == 0);
    for (size_t i = 100; i < 140; i++) {
        char id[32];
        snprintf(id, sizeof id, "item-%zu", i - 40);
        assert_string_equal(p->bus->stored[i], id);
    }
    /* Gone back, with nothing in its place; and the whole stream away. */
    static const uint64_t left[] = {90, 0};
    for (size_t k = 0; k < 2; k++) {
        p->bus->up = false;
        UNTIL(p, !p->b->bus_was_up);
        p->bus->stored_n = left[k];
        p->bus->up = true;
        UNTIL(p, p->bus->stored_n >= 100 && outbox_backlog(p->b) == 0);
        for (size_t i = 60; i < 100; i++) {
            bool found = false;
            char id[32];
            snprintf(id, sizeof id, "item-%zu", i);
            for (size_t j = 0; j < p->bus->stored_n; j++)
                found |= strcmp(p->bus->stored[j], id) == 0;
            assert_true(found);
        }
    }
    /* Expired or consumed is not lost. */
    uint64_t n = p->bus->stored_n;
    p->bus->up = false;
    UNTIL(p, !p->b->bus_was_up);
    p->bus->stored[n - 1][0] = 0;
    size_t asked = p->bus->asked;
    p->bus->up = true;
    UNTIL(p, p->bus->asked >= asked + 2 && !p->b->shelf.streams[1].checking);
    assert_int_equal(outbox_backlog(p->b), 0);
    assert_int_equal(p->bus->stored_n, n);
}

static void a_loss_seen_only_by_the_next_sequence_is_found(void **state)
{
    struct place *p = *state;
    open_box(p, p->bus, 0);
    append_n(p, 0, 50);
    UNTIL(p, p->done == 50 && outbox_backlog(p->b) == 0);
    p->bus->stored_n = 20; /* too quick for anybody to see the connection go */
    append_n(p, 50, 1);
    UNTIL(p, p->bus->stored_n == 51 && outbox_backlog(p->b) == 0);
}

static void refused_items_are_kept_and_tried_again(void **state)
{
    struct place *p = *state;
    p->bus->refuse = true;
    open_box(p, p->bus, 0);
    append_n(p, 0, 10);
    UNTIL(p, p->b->refused == 10);
    assert_int_equal(outbox_backlog(p->b), 10);
    p->bus->refuse = false;
    append_n(p, 10, 1); /* others are not held up */
    UNTIL(p, p->bus->stored_n == 1);
    p->b->refused_until_ms = 0;
    UNTIL(p, outbox_backlog(p->b) == 0);
    assert_int_equal(p->bus->stored_n, 11);
    assert_string_equal(p->bus->stored[1], "item-0");
}

static void full_means_refused_until_there_is_room(void **state)
{
    struct place *p = *state;
    p->bus->hold = true;
    open_box(p, p->bus, 256 << 10);
    size_t n = 0;
    while (p->failed == 0 && n < 4000) {
        append_n(p, n++, 1);
        loop_run_until(&p->l, &(bool){false}, 1);
    }
    UNTIL(p, p->failed > 0);
    assert_non_null(strstr(p->why, "full"));
    assert_false(outbox_ok(p->b));
    UNTIL(p, p->done + p->failed == n);
    size_t good = p->done;
    struct stat st;
    size_t bytes = 0;
    for (size_t i = 0; i < p->b->shelf.n; i++)
        bytes += fstat(p->b->shelf.segs[i]->fd, &st) == 0 ? (size_t)st.st_size : 0;
    assert_true(bytes <= 256 << 10);
    p->bus->hold = false;
    while (p->bus->n_waiting > 0)
        answer_first(p->bus), loop_run_until(&p->l, &(bool){false}, 1);
    UNTIL(p, outbox_backlog(p->b) == 0);
    assert_int_equal(p->bus->stored_n, good);
    assert_true(outbox_ok(p->b)); /* what is only retained makes room */
    append_n(p, n, 100);
    UNTIL(p, p->done == good + 100);
}

static void bad_items_are_refused(void **state)
{
    struct place *p = *state;
    static char longest[MESSAGE_MAX + 1];
    memset(longest, 'x', sizeof longest - 1);
    open_box(p, NULL, 0);
    const struct outbox_item items[] = {
        {.id = "a", .data = "x", .len = 1},
        {.subject = "", .id = "a", .data = "x", .len = 1},
        {.subject = longest, .id = "a", .data = "x", .len = 1},
        {.subject = "s", .data = "x", .len = 1},
        {.subject = "s", .id = longest, .data = "x", .len = 1},
        {.subject = "s", .id = "a", .type = longest, .data = "x", .len = 1},
        {.subject = "s", .id = "a", .data = longest, .len = sizeof longest},
    };
    size_t n = sizeof items / sizeof items[0];
    for (size_t i = 0; i < n; i++)
        outbox_append(p->b, &items[i], on_append, p);
    outbox_append(p->b, &items[0], NULL, NULL);
    assert_int_equal(p->failed, 0);
    UNTIL(p, p->failed == n);
    outbox_append(p->b, &(struct outbox_item){.subject = "s", .id = "a", .data = longest, .len = MESSAGE_MAX},
                  on_append, p);
    outbox_append(p->b, &(struct outbox_item){.subject = "s", .id = "b"}, on_append, p);
    UNTIL(p, p->done == 2);
}

static void append_again(void *ctx, int status, const char *error)
{
    struct place *p = ctx;
    on_append(p, status, error);
    if (p->done < 50)
        append_to(p->b, "item-x", append_again, p);
}

static void callbacks_may_append(void **state)
{
    struct place *p = *state;
    open_box(p, NULL, 0);
    for (int i = 0; i < 20; i++)
        append_to(p->b, "item-x", append_again, p);
    UNTIL(p, p->done >= 69);
    assert_int_equal(p->failed, 0);
    assert_int_equal(outbox_backlog(p->b), p->done);
}

static void close_waits_for_the_backlog_but_not_for_ever(void **state)
{
    struct place *p = *state;
    open_box(p, p->bus, 0);
    append_n(p, 0, 500);
    close_box(p, WAIT_MS); /* right away: nothing is written yet */
    assert_int_equal(p->done, 500);
    assert_int_equal(p->bus->stored_n, 500);
    open_box(p, p->bus, 0);
    assert_int_equal(outbox_backlog(p->b), 0);
    p->bus->hold = true;
    append_n(p, 500, 10);
    int64_t start = clock_mono_ms();
    p->closed = false;
    outbox_close(p->b, 200, on_closed, p);
    append_n(p, 510, 1); /* too late */
    assert_true(loop_run_until(&p->l, &p->closed, WAIT_MS));
    p->b = NULL;
    assert_true(clock_mono_ms() - start >= 200);
    assert_int_equal(p->done, 510);
    assert_int_equal(p->failed, 1);
    open_box(p, NULL, 0);
    assert_int_equal(outbox_backlog(p->b), 10);
}

/* ---- adoption ---- */

static void a_dead_replicas_items_are_taken_over(void **state)
{
    struct place *p = *state, dead = {.l = p->l};
    struct err e;
    strcpy(dead.dir, "/tmp/redoubt-outbox-XXXXXX");
    assert_non_null(mkdtemp(dead.dir));
    char mine[64];
    strcpy(mine, p->dir);
    /* The dead one: 300 items, of which the stream has 100. */
    strcpy(p->dir, dead.dir);
    open_box(p, p->bus, 128 << 10);
    append_n(p, 0, 100);
    UNTIL(p, p->done == 100 && outbox_backlog(p->b) == 0);
    p->bus->hold = true;
    append_n(p, 100, 200);
    UNTIL(p, p->done == 300);
    close_box(p, 0);
    while (p->bus->n_waiting > 0) {
        struct given g = p->bus->waiting[--p->bus->n_waiting];
        g.cb(g.ctx, &(struct bus_stored){.status = BUS_CLOSED}); /* what the bus had in hand died with it */
    }
    p->bus->hold = false;

    strcpy(p->dir, mine);
    open_box(p, p->bus, 128 << 10);
    for (size_t i = 0; i < 50; i++) {
        char id[32];
        snprintf(id, sizeof id, "mine-%zu", i);
        append_to(p->b, id, on_append, p);
    }
    assert_int_equal(outbox_adopt(p->b, "/no/such/dir", &e), -1);
    assert_int_equal(outbox_adopt(p->b, dead.dir, &e), 0); /* in the middle of a write of our own */
    assert_int_equal(count_files(dead.dir), 0);
    assert_int_equal(outbox_adopt(p->b, dead.dir, &e), 0); /* nothing left: nothing happens */
    append_n(p, 300, 50);
    UNTIL(p, p->done == 400 && outbox_backlog(p->b) == 0);
    assert_int_equal(p->bus->stored_n, 400); /* each once: what the stream had was not published again */
    size_t next = 0;
    for (size_t i = 0; i < p->bus->stored_n; i++) {
        char id[32];
        snprintf(id, sizeof id, "item-%zu", next);
        next += strcmp(p->bus->stored[i], id) == 0;
    }
    assert_int_equal(next, 350); /* and in their order */
    close_box(p, 100);
    open_box(p, p->bus, 128 << 10);
    assert_int_equal(outbox_backlog(p->b), 0); /* all acknowledgements were written down, the dead one's too */
    rmdir(dead.dir);
}

int main(void)
{
    log_init("test", LOG_LEVEL_ERROR, LOG_FORMAT_LOGFMT);
#define TEST(fn) cmocka_unit_test_setup_teardown(fn, set_up, clean_up)
    const struct CMUnitTest tests[] = {
        TEST(appends_are_durable_and_published_in_order),
        TEST(the_window_is_kept_and_memory_too),
        TEST(what_an_earlier_process_left_is_published),
        TEST(old_files_go_and_younger_ones_stay),
        TEST(a_stream_that_lost_its_end_gets_it_again),
        TEST(a_loss_seen_only_by_the_next_sequence_is_found),
        TEST(refused_items_are_kept_and_tried_again),
        TEST(full_means_refused_until_there_is_room),
        TEST(bad_items_are_refused),
        TEST(callbacks_may_append),
        TEST(close_waits_for_the_backlog_but_not_for_ever),
        TEST(a_dead_replicas_items_are_taken_over),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
