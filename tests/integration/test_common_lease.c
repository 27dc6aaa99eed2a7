/* test_common_lease.c - leases in a real Redis: two holders, a paused one, an emptied Redis, a restarted holder. */
#include "../harness.h"
#include "common/lease.h"
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define TTL_MS 600

/* Each holder has a loop of its own: not running it is what a stopped process is like. */
struct holder {
    struct loop loop;
    struct store *store;
    struct lease *lease;
    bool up, held, lost, closed;
    int holds, losses;
    uint64_t fence;
};

struct env {
    struct harness *h;
    struct harness_proc *redis;
};

static void on_up(void *ctx)
{
    ((struct holder *)ctx)->up = true;
}

static void on_down(void *ctx)
{
    ((struct holder *)ctx)->up = false;
}

static void on_held(void *ctx, uint64_t fence)
{
    struct holder *x = ctx;
    x->held = true;
    x->lost = false;
    x->holds++;
    x->fence = fence;
    assert_true(lease_fence(x->lease) == fence);
}

static void on_lost(void *ctx)
{
    struct holder *x = ctx;
    x->held = false;
    x->lost = true;
    x->losses++;
    assert_true(lease_fence(x->lease) == 0);
}

static void on_closed(void *ctx)
{
    ((struct holder *)ctx)->closed = true;
}

static void open_lease(struct holder *x, const char *name)
{
    x->lease = lease_open(
        &x->loop, x->store,
        &(struct lease_opts){
            .name = "test", .holder = name, .ttl_ms = TTL_MS, .on_held = on_held, .on_lost = on_lost, .ctx = x});
    assert_non_null(x->lease);
}

static void open_holder(struct env *v, struct holder *x, const char *name)
{
    *x = (struct holder){0};
    loop_init(&x->loop);
    x->store = store_open(&x->loop,
                          &(struct store_opts){.host = "127.0.0.1",
                                               .port = v->redis->port,
                                               .command_timeout_ms = 300,
                                               .on_up = on_up,
                                               .on_down = on_down,
                                               .ctx = x},
                          NULL);
    assert_true(loop_run_until(&x->loop, &x->up, HARNESS_WAIT_MS));
    open_lease(x, name);
}

static void wait_flag(struct holder *x, const bool *flag)
{
    assert_true(loop_run_until(&x->loop, flag, HARNESS_WAIT_MS));
}

static void run_for(struct holder *x, int64_t ms)
{
    bool never = false;
    (void)loop_run_until(&x->loop, &never, ms);
}

static void close_lease(struct holder *x)
{
    x->closed = false;
    lease_close(x->lease, on_closed, x);
    x->lease = NULL;
    wait_flag(x, &x->closed);
}

static void close_holder(struct holder *x)
{
    if (x->lease)
        close_lease(x);
    x->closed = false;
    store_close(x->store, on_closed, x);
    wait_flag(x, &x->closed);
    loop_done(&x->loop);
}

static int set_up(void **state)
{
    struct env *v = calloc(1, sizeof *v);
    signal(SIGPIPE, SIG_IGN);
    v->h = harness_open();
    v->redis = harness_redis(v->h, "redis", NULL);
    *state = v;
    return 0;
}

static int tear_down(void **state)
{
    struct env *v = *state;
    harness_close(v->h);
    free(v);
    return 0;
}

struct any_result {
    bool done;
    enum store_status st;
};

static void on_any(void *ctx, enum store_status st, const redisReply *r)
{
    (void)r;
    *(struct any_result *)ctx = (struct any_result){true, st};
}

static void command(struct holder *x, int argc, const char *const *argv)
{
    struct any_result r = {0};
    store_cmd(x->store, on_any, &r, argc, argv, NULL);
    wait_flag(x, &r.done);
    assert_int_equal(r.st, STORE_OK);
}

static void held_and_given_back(void **state)
{
    struct env *v = *state;
    struct holder a, b;
    uint64_t began_ms = (uint64_t)clock_wall_ms();
    open_holder(v, &a, "a");
    wait_flag(&a, &a.held);
    uint64_t first = a.fence;
    assert_true(first >= began_ms); /* Redis' time, and this host's, is the least that a token is */
    open_holder(v, &b, "b");
    for (int i = 0; i < 12; i++) { /* over several TTLs the one keeps it and the other waits */
        run_for(&a, TTL_MS / 6);
        run_for(&b, TTL_MS / 6);
    }
    assert_true(lease_fence(a.lease) == first);
    assert_int_equal(a.losses, 0);
    assert_true(lease_fence(b.lease) == 0);
    close_lease(&a);
    int64_t start = clock_mono_ms();
    wait_flag(&b, &b.held);
    assert_true(clock_mono_ms() - start < TTL_MS / 2);
    assert_true(b.fence > first);
    close_holder(&a);
    close_holder(&b);
}

struct put_result {
    bool done;
    enum store_status st;
    enum store_cas cas;
};

static void on_put(void *ctx, enum store_status st, enum store_cas cas, const struct store_doc *d)
{
    (void)d;
    *(struct put_result *)ctx = (struct put_result){true, st, cas};
}

static struct put_result put(struct holder *x, uint64_t rev, uint64_t fence, const char *data)
{
    struct put_result r = {0};
    store_doc_put(x->store, "redoubt:{x}:doc", rev, fence, false, data, strlen(data), on_put, &r);
    wait_flag(x, &r.done);
    return r;
}

static void a_paused_holder_is_fenced(void **state)
{
    struct env *v = *state;
    struct holder a, b;
    open_holder(v, &a, "a");
    wait_flag(&a, &a.held);
    uint64_t old = a.fence;
    assert_int_equal(put(&a, 0, old, "from a").cas, STORE_CAS_WON);
    open_holder(v, &b, "b");
    wait_flag(&b, &b.held); /* a's loop stands still meanwhile */
    assert_true(b.fence > old);
    assert_true(lease_fence(a.lease) == 0); /* by its own clock, before its loop has turned */
    assert_int_equal(a.losses, 0);
    assert_int_equal(put(&b, 1, b.fence, "from b").cas, STORE_CAS_WON);
    assert_int_equal(put(&a, 2, old, "late from a").cas, STORE_CAS_FENCED);
    run_for(&a, 50);
    assert_int_equal(a.losses, 1);
    assert_false(a.held);
    run_for(&b, 10);
    close_holder(&b);
    wait_flag(&a, &a.held);
    assert_true(a.fence > b.fence);
    close_holder(&a);
}

static void an_emptied_redis_goes_on_above(void **state)
{
    struct env *v = *state;
    struct holder a, b;
    uint64_t last = 0;
    for (int i = 0; i < 3; i++) { /* the token grows with each holder */
        open_holder(v, &b, "b");
        wait_flag(&b, &b.held);
        assert_true(b.fence > last);
        last = b.fence;
        close_holder(&b);
    }
    open_holder(v, &a, "a");
    wait_flag(&a, &a.held);
    assert_true(a.fence > last);
    last = a.fence;
    harness_kill(v->redis); /* it has no persistence */
    harness_start(v->redis);
    a.held = false;
    wait_flag(&a, &a.held);
    assert_int_equal(a.losses, 1);
    assert_true(a.fence > last);
    last = a.fence;
    close_holder(&a);
    harness_kill(v->redis);
    harness_start(v->redis);
    open_holder(v, &b, "b"); /* it has seen no token before */
    wait_flag(&b, &b.held);
    assert_true(b.fence > last);
    close_holder(&b);
}

/* A clock that went back, or a counter that is ahead of it: what was given or seen counts more than the time. */
static void a_counter_ahead_of_the_clock(void **state)
{
    struct env *v = *state;
    struct holder a;
    open_holder(v, &a, "a");
    command(&a, 3,
            (const char *[]){"SET", "redoubt:{lease:test}:fence", "9007199254740993"}); /* no double holds it */
    wait_flag(&a, &a.held);
    close_lease(&a);
    a.held = false;
    open_lease(&a, "a");
    wait_flag(&a, &a.held);
    assert_true(a.fence > 9007199254740993);
    uint64_t last = a.fence;
    harness_kill(v->redis);
    harness_start(v->redis);
    a.held = false;
    wait_flag(&a, &a.held); /* by what this process has seen */
    assert_true(a.fence > last);
    close_holder(&a);
}

static void a_restarted_holder_takes_its_own(void **state)
{
    struct env *v = *state;
    struct holder a, again;
    open_holder(v, &a, "a");
    wait_flag(&a, &a.held);
    int64_t start = clock_mono_ms();
    open_holder(v, &again, "a"); /* the first is dead, as it were */
    wait_flag(&again, &again.held);
    assert_true(clock_mono_ms() - start < TTL_MS / 2);
    assert_true(again.fence > a.fence);
    run_for(&a, TTL_MS / 2); /* its renewal is refused: the token is another */
    assert_int_equal(a.losses, 1);
    close_holder(&a);
    close_holder(&again);
}

static void lost_while_redis_is_frozen(void **state)
{
    struct env *v = *state;
    struct holder a;
    open_holder(v, &a, "a");
    wait_flag(&a, &a.held);
    harness_freeze(v->redis);
    int64_t start = clock_mono_ms();
    wait_flag(&a, &a.lost);
    assert_true(clock_mono_ms() - start < TTL_MS); /* before Redis would give it to another */
    harness_thaw(v->redis);
    wait_flag(&a, &a.held);
    assert_true(a.fence > 0);
    harness_freeze(v->redis);
    close_lease(&a); /* ends although Redis does not answer */
    harness_thaw(v->redis);
    close_holder(&a);
}

static void somebody_elses_keys(void **state)
{
    struct env *v = *state;
    struct holder a;
    open_holder(v, &a, "a");
    wait_flag(&a, &a.held);
    command(&a, 3, (const char *[]){"SET", "redoubt:{lease:test}", "nonsense without an end"});
    a.held = false;
    wait_flag(&a, &a.lost);
    wait_flag(&a, &a.held); /* it was given an end, and ended */
    command(&a, 3, (const char *[]){"SET", "redoubt:{lease:test}:fence", "nonsense"});
    command(&a, 2, (const char *[]){"DEL", "redoubt:{lease:test}"});
    wait_flag(&a, &a.lost);
    run_for(&a, TTL_MS); /* refused, tried again, refused: no token, no lease */
    assert_true(lease_fence(a.lease) == 0);
    uint64_t before = a.fence;
    command(&a, 2, (const char *[]){"DEL", "redoubt:{lease:test}:fence"});
    wait_flag(&a, &a.held);
    assert_true(a.fence > before);
    close_holder(&a);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        T(held_and_given_back),          T(a_paused_holder_is_fenced),        T(an_emptied_redis_goes_on_above),
        T(a_counter_ahead_of_the_clock), T(a_restarted_holder_takes_its_own), T(lost_while_redis_is_frozen),
        T(somebody_elses_keys)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
