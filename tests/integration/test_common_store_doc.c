/* test_common_store_doc.c - documents in a real Redis: compare-and-set, fences, repeats, damage. */
#include "../harness.h"
#include "common/store.h"
#include "common/subjects.h"
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define KEY "redoubt:{a:x}:doc"

struct env {
    struct harness *h;
    struct harness_proc *redis;
    struct loop loop;
    struct store *store[2];
    bool up[2], closed;
};

struct result {
    bool done;
    int calls;
    enum store_status st;
    enum store_cas cas;
    bool found, pending;
    uint64_t rev;
    char data[256], error[256];
};

static void on_up(void *ctx)
{
    *(bool *)ctx = true;
}

static int set_up(void **state)
{
    struct env *v = calloc(1, sizeof *v);
    signal(SIGPIPE, SIG_IGN);
    v->h = harness_open();
    v->redis = harness_redis(v->h, "redis", NULL);
    loop_init(&v->loop);
    for (int i = 0; i < 2; i++) {
        v->store[i] = store_open(
            &v->loop,
            &(struct store_opts){.host = "127.0.0.1", .port = v->redis->port, .on_up = on_up, .ctx = &v->up[i]},
            NULL);
        assert_true(loop_run_until(&v->loop, &v->up[i], HARNESS_WAIT_MS));
    }
    *state = v;
    return 0;
}

static int tear_down(void **state)
{
    struct env *v = *state;
    for (int i = 0; i < 2; i++) {
        v->closed = false;
        store_close(v->store[i], on_up, &v->closed);
        assert_true(loop_run_until(&v->loop, &v->closed, HARNESS_WAIT_MS));
    }
    loop_done(&v->loop);
    harness_close(v->h);
    free(v);
    return 0;
}

static void note(struct result *r, enum store_status st, const struct store_doc *d)
{
    assert_non_null(d);
    assert_non_null(d->error);
    r->done = true;
    r->calls++;
    r->st = st;
    r->found = d->found;
    r->rev = d->rev;
    r->pending = d->pending;
    snprintf(r->data, sizeof r->data, "%.*s", (int)d->len, d->len ? (const char *)d->data : "");
    snprintf(r->error, sizeof r->error, "%s", d->error);
}

static void on_doc(void *ctx, enum store_status st, const struct store_doc *d)
{
    note(ctx, st, d);
}

static void on_cas(void *ctx, enum store_status st, enum store_cas cas, const struct store_doc *d)
{
    ((struct result *)ctx)->cas = cas;
    note(ctx, st, d);
}

static void on_cmd(void *ctx, enum store_status st, const redisReply *reply)
{
    struct result *r = ctx;
    r->done = true;
    r->calls++;
    r->st = st;
    r->rev = reply && reply->type == REDIS_REPLY_INTEGER ? (uint64_t)reply->integer : 0;
}

static void wait_for(struct env *v, struct result *r)
{
    assert_true(loop_run_until(&v->loop, &r->done, HARNESS_WAIT_MS));
    assert_int_equal(r->calls, 1);
}

static struct result get(struct env *v, const char *key)
{
    struct result r = {0};
    store_doc_get(v->store[0], key, on_doc, &r);
    wait_for(v, &r);
    return r;
}

static struct result put(struct env *v, uint64_t rev, uint64_t fence, bool pending, const char *data)
{
    struct result r = {0};
    store_doc_put(v->store[0], KEY, rev, fence, pending, data, strlen(data), on_cas, &r);
    wait_for(v, &r);
    return r;
}

static void check_field(struct env *v, const char *name, const char *expected)
{
    /* Compared by Redis: 1 if it is that. */
    struct result r = {0};
    const char *argv[] = {
        "EVAL", "return redis.call('HGET', KEYS[1], ARGV[1]) == ARGV[2] and 1 or 0", "1", KEY, name, expected};
    store_cmd(v->store[0], on_cmd, &r, 6, argv, NULL);
    wait_for(v, &r);
    assert_int_equal(r.st, STORE_OK);
    if (r.rev != 1)
        fail_msg("%s is not %s", name, expected);
}

/* Plain fields are written in the same step as the document, or not at all. */
static void plain_fields(void **state)
{
    struct env *v = *state;
    const char *one[] = {"epoch", "1", "posture", "NORMAL"}, *two[] = {"epoch", "2", "posture", "FROZEN"};
    struct result r = {0};
    store_doc_put_fields(v->store[0], KEY, 0, 5, false, "a", 1, 2, one, on_cas, &r);
    wait_for(v, &r);
    assert_int_equal(r.cas, STORE_CAS_WON);
    check_field(v, "epoch", "1");
    check_field(v, "doc", "a");
    r = (struct result){0};
    store_doc_put_fields(v->store[0], KEY, 1, 4, false, "b", 1, 2, two, on_cas, &r);
    wait_for(v, &r);
    assert_int_equal(r.cas, STORE_CAS_FENCED);
    r = (struct result){0};
    store_doc_put_fields(v->store[0], KEY, 7, 5, false, "b", 1, 2, two, on_cas, &r);
    wait_for(v, &r);
    assert_int_equal(r.cas, STORE_CAS_LOST);
    check_field(v, "epoch", "1");
    r = (struct result){0};
    store_doc_put_fields(v->store[0], KEY, 1, 5, true, "b", 1, 2, two, on_cas, &r);
    wait_for(v, &r);
    assert_int_equal(r.cas, STORE_CAS_WON);
    check_field(v, "epoch", "2");
    check_field(v, "posture", "FROZEN");
    check_field(v, "rev", "2");
    assert_int_equal(put(v, 2, 5, false, "c").cas, STORE_CAS_WON);
    check_field(v, "epoch", "2"); /* not touched by who does not know of it */
}

static struct result announced(struct env *v, uint64_t rev)
{
    struct result r = {0};
    store_doc_announced(v->store[0], KEY, rev, on_cmd, &r);
    wait_for(v, &r);
    assert_int_equal(r.st, STORE_OK);
    return r;
}

static void command(struct env *v, int argc, const char *const *argv)
{
    struct result r = {0};
    store_cmd(v->store[0], on_cmd, &r, argc, argv, NULL);
    wait_for(v, &r);
    assert_int_equal(r.st, STORE_OK);
}

static void written_and_read(void **state)
{
    struct env *v = *state;
    struct result r = get(v, KEY);
    assert_int_equal(r.st, STORE_OK);
    assert_false(r.found);
    r = put(v, 0, 0, true, "one");
    assert_int_equal(r.cas, STORE_CAS_WON);
    r = get(v, KEY);
    assert_true(r.found && r.pending && r.rev == 1);
    assert_string_equal(r.data, "one");
    assert_int_equal(announced(v, 7).rev, 0); /* not the one that is there: stays pending */
    assert_true(get(v, KEY).pending);
    assert_int_equal(announced(v, 1).rev, 1);
    assert_false(get(v, KEY).pending);

    r = put(v, 0, 0, true, "other"); /* somebody was first */
    assert_int_equal(r.st, STORE_OK);
    assert_int_equal(r.cas, STORE_CAS_LOST);
    assert_true(r.found && r.rev == 1);
    assert_string_equal(r.data, "one");
    r = put(v, 0, 0, true, "one"); /* the very same again: a repeat after an unknown end */
    assert_int_equal(r.cas, STORE_CAS_WON);
    assert_int_equal(get(v, KEY).rev, 1);
    r = put(v, 1, 0, false, "two");
    assert_int_equal(r.cas, STORE_CAS_WON);
    assert_int_equal(get(v, KEY).rev, 2);
    r = put(v, 5, 0, false, "six"); /* Redis knows less than we do */
    assert_int_equal(r.cas, STORE_CAS_LOST);
    assert_int_equal(r.rev, 2);
}

static void fences(void **state)
{
    struct env *v = *state;
    assert_int_equal(put(v, 0, 9, false, "a").cas, STORE_CAS_WON);
    assert_int_equal(put(v, 1, 10, false, "b").cas, STORE_CAS_WON); /* 10 > 9: by number, not by letter */
    struct result r = put(v, 2, 9, false, "c");
    assert_int_equal(r.cas, STORE_CAS_FENCED);
    assert_int_equal(r.rev, 2);
    assert_string_equal(r.data, "b");
    assert_int_equal(put(v, 2, 0, false, "c").cas, STORE_CAS_FENCED);
    assert_int_equal(put(v, 2, UINT64_MAX, false, "c").cas, STORE_CAS_WON); /* exact beyond 2^53 */
    assert_int_equal(put(v, 3, UINT64_MAX - 1, false, "d").cas, STORE_CAS_FENCED);
    assert_int_equal(put(v, 3, UINT64_MAX, false, "d").cas, STORE_CAS_WON);
}

static void large_revisions(void **state)
{
    struct env *v = *state;
    command(v, 8, (const char *[]){"HSET", KEY, "rev", "18446744073709551613", "doc", "x", "fence", "0"});
    assert_int_equal(put(v, UINT64_MAX - 2, 0, false, "y").cas, STORE_CAS_WON);
    assert_true(get(v, KEY).rev == UINT64_MAX - 1);
    assert_int_equal(put(v, UINT64_MAX - 2, 0, false, "z").cas, STORE_CAS_LOST);
}

/* Two connections write in turns as fast as they can; each success is one step, none is lost or doubled. */
struct racer {
    struct env *v;
    int who, won, lost;
    uint64_t rev;
    bool done;
};
#define RACE_TO 300

static void race(struct racer *x);

static void on_race(void *ctx, enum store_status st, enum store_cas cas, const struct store_doc *d)
{
    struct racer *x = ctx;
    assert_int_equal(st, STORE_OK);
    if (cas == STORE_CAS_WON) {
        x->won++;
        x->rev++;
    } else {
        assert_int_equal(cas, STORE_CAS_LOST);
        x->lost++;
        assert_true(d->rev > x->rev);
        x->rev = d->rev;
    }
    if (x->rev < RACE_TO)
        race(x);
    else
        x->done = true;
}

static void race(struct racer *x)
{
    char data[32];
    int n = snprintf(data, sizeof data, "%d from %d", (int)x->rev, x->who);
    store_doc_put(x->v->store[x->who], KEY, x->rev, 0, false, data, (size_t)n, on_race, x);
}

static void races(void **state)
{
    struct env *v = *state;
    struct racer a = {.v = v, .who = 0}, b = {.v = v, .who = 1};
    race(&a);
    race(&b);
    assert_true(loop_run_until(&v->loop, &a.done, HARNESS_WAIT_MS));
    assert_true(loop_run_until(&v->loop, &b.done, HARNESS_WAIT_MS));
    uint64_t end = get(v, KEY).rev;
    assert_int_equal((uint64_t)(a.won + b.won), end);
    assert_true(end >= RACE_TO && end <= RACE_TO + 1);
    assert_true(a.lost + b.lost > 0);
}

static void somebody_elses_data(void **state)
{
    struct env *v = *state;
    command(v, 3, (const char *[]){"SET", KEY, "a string"});
    struct result r = get(v, KEY);
    assert_int_equal(r.st, STORE_ERROR);
    assert_non_null(strstr(r.error, "WRONGTYPE"));
    assert_false(r.found);
    r = put(v, 0, 0, false, "x");
    assert_int_equal(r.st, STORE_ERROR);
    assert_non_null(strstr(r.error, "WRONGTYPE"));

    static const char *const damaged[][4] = {{"rev", "abc", "doc", "x"},
                                             {"rev", "-1", "doc", "x"},
                                             {"rev", "99999999999999999999", "doc", "x"},
                                             {"rev", "", "doc", "x"},
                                             {"rev", "3", "other", "x"}};
    for (size_t i = 0; i < sizeof damaged / sizeof *damaged; i++) {
        command(v, 2, (const char *[]){"DEL", KEY});
        command(v, 6, (const char *[]){"HSET", KEY, damaged[i][0], damaged[i][1], damaged[i][2], damaged[i][3]});
        r = get(v, KEY);
        assert_int_equal(r.st, STORE_ERROR);
        assert_non_null(strstr(r.error, "damaged"));
        r = put(v, 0, 0, false, "x");
        assert_true(r.st == STORE_ERROR); /* nothing is written over what cannot be understood */
    }
    command(v, 2, (const char *[]){"DEL", KEY});
    char *big = malloc(MESSAGE_MAX + 2);
    memset(big, 'x', MESSAGE_MAX + 1);
    big[MESSAGE_MAX + 1] = '\0';
    command(v, 6, (const char *[]){"HSET", KEY, "rev", "1", "doc", big});
    free(big);
    assert_int_equal(get(v, KEY).st, STORE_ERROR);
}

static void without_redis(void **state)
{
    struct env *v = *state;
    harness_kill(v->redis);
    struct result r = get(v, KEY);
    assert_true(r.st == STORE_UNKNOWN || r.st == STORE_DOWN);
    r = put(v, 0, 0, false, "x");
    assert_true(r.st == STORE_UNKNOWN || r.st == STORE_DOWN);
    assert_false(r.found);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
    const struct CMUnitTest tests[] = {T(written_and_read),    T(fences),       T(large_revisions), T(races),
                                       T(somebody_elses_data), T(plain_fields), T(without_redis)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
