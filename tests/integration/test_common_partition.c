/* test_common_partition.c - replicas that share the partitions, in a real Redis: all of them held, none twice; pauses, leaving, joining. */
#include "../harness.h"
#include "common/clock.h"
#include "common/members.h"
#include "common/partition.h"
#include <inttypes.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define REPLICAS 4
#define TTL_MS   600

struct env;
/* Each has a loop of its own: not running it is what a stopped process is like. */
struct replica {
    struct env *v;
    char name[16];
    struct loop loop;
    struct store *store;
    struct partitions *p;
    bool up, paused, closed;
    bool told[PARTITIONS]; /* by on_held and on_lost */
    size_t members;
    unsigned lost;
};

struct env {
    struct harness *h;
    struct harness_proc *redis;
    struct replica r[REPLICAS];
    uint64_t token[PARTITIONS]; /* the last one of each, over all replicas */
    unsigned grants;
};

static void on_up(void *ctx)
{
    struct replica *r = ctx;
    r->up = true;
    if (r->p)
        partitions_refresh(r->p);
}

static void on_down(void *ctx)
{
    ((struct replica *)ctx)->up = false;
}

static void on_held(void *ctx, unsigned i, uint64_t fence)
{
    struct replica *r = ctx;
    assert_true(i < PARTITIONS && !r->told[i]);
    assert_true(partition_fence(r->p, i) == fence);
    if (fence <= r->v->token[i])
        fail_msg("partition %u: token %" PRIu64 " after %" PRIu64, i, fence, r->v->token[i]);
    r->v->token[i] = fence;
    r->v->grants++;
    r->told[i] = true;
}

static void on_lost(void *ctx, unsigned i)
{
    struct replica *r = ctx;
    assert_true(i < PARTITIONS && r->told[i]);
    assert_true(partition_fence(r->p, i) == 0);
    r->told[i] = false;
    r->lost++;
}

static void on_members(void *ctx, size_t n)
{
    ((struct replica *)ctx)->members = n;
}

static void on_closed(void *ctx)
{
    ((struct replica *)ctx)->closed = true;
}

static void open_store(struct replica *r)
{
    r->store = store_open(&r->loop,
                          &(struct store_opts){.host = "127.0.0.1",
                                               .port = r->v->redis->port,
                                               .command_timeout_ms = 300,
                                               .on_up = on_up,
                                               .on_down = on_down,
                                               .ctx = r},
                          NULL);
    assert_non_null(r->store);
}

static struct replica *join(struct env *v, int i)
{
    struct replica *r = &v->r[i];
    *r = (struct replica){.v = v};
    snprintf(r->name, sizeof r->name, "replica-%d", i);
    loop_init(&r->loop);
    open_store(r);
    r->p = partitions_open(&r->loop, r->store,
                           &(struct partition_opts){.service = "test",
                                                    .instance = r->name,
                                                    .lease_ttl_ms = TTL_MS,
                                                    .member_ttl_ms = TTL_MS,
                                                    .on_held = on_held,
                                                    .on_lost = on_lost,
                                                    .on_members = on_members,
                                                    .ctx = r});
    assert_non_null(r->p);
    assert_int_equal(partitions_members(r->p), 0);
    return r;
}

/* Every loop that is not paused turns; at no moment does a partition have two holders. */
static void turn(struct env *v)
{
    bool never = false;
    for (int i = 0; i < REPLICAS; i++)
        if (v->r[i].p && !v->r[i].paused)
            (void)loop_run_until(&v->r[i].loop, &never, 3);
    for (unsigned n = 0; n < PARTITIONS; n++) {
        int holders = 0;
        for (int i = 0; i < REPLICAS; i++)
            holders += v->r[i].p && partition_fence(v->r[i].p, n) != 0;
        if (holders > 1)
            fail_msg("partition %u has %d holders at once", n, holders);
    }
}

static bool shared_by(struct env *v, size_t replicas)
{
    size_t held = 0;
    for (int i = 0; i < REPLICAS; i++) {
        struct replica *r = &v->r[i];
        if (!r->p || r->paused)
            continue;
        if (partitions_members(r->p) != replicas || partitions_held(r->p) == 0)
            return false;
        for (unsigned n = 0; n < PARTITIONS; n++)
            if (r->told[n] != (partition_fence(r->p, n) != 0))
                return false;
        held += partitions_held(r->p);
    }
    return held == PARTITIONS;
}

/* Until all partitions are held by those who are there, and each of them knows it; how long that took. */
static int64_t settle(struct env *v, size_t replicas)
{
    int64_t began = clock_mono_ms();
    while (!shared_by(v, replicas)) {
        turn(v);
        if (clock_mono_ms() - began > HARNESS_WAIT_MS)
            fail_msg("not shared by %zu replicas in time", replicas);
    }
    return clock_mono_ms() - began;
}

static void turn_for(struct env *v, int64_t ms)
{
    for (int64_t end = clock_mono_ms() + ms; clock_mono_ms() < end;)
        turn(v);
}

static void leave(struct replica *r)
{
    unsigned lost = r->lost;
    struct partitions *p = r->p;
    r->closed = false;
    partitions_close(p, on_closed, r);
    r->p = NULL;
    assert_true(loop_run_until(&r->loop, &r->closed, HARNESS_WAIT_MS));
    assert_int_equal(r->lost, lost); /* who closes knows it */
    r->closed = false;
    store_close(r->store, on_closed, r);
    assert_true(loop_run_until(&r->loop, &r->closed, HARNESS_WAIT_MS));
    loop_done(&r->loop);
}

static void leave_all(struct env *v)
{
    for (int i = 0; i < REPLICAS; i++)
        if (v->r[i].p)
            leave(&v->r[i]);
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

static void one_takes_all(void **state)
{
    struct env *v = *state;
    struct replica *a = join(v, 0);
    settle(v, 1);
    assert_int_equal(partitions_held(a->p), PARTITIONS);
    assert_true(partition_holds(a->p, "soc-1"));
    assert_int_equal(partition_fence(a->p, PARTITIONS), 0);
    leave_all(v);
}

static void shared_and_moved(void **state)
{
    struct env *v = *state;
    struct replica *a = join(v, 0), *b = join(v, 1), *c;
    settle(v, 2);
    bool was_b[PARTITIONS];
    for (unsigned n = 0; n < PARTITIONS; n++)
        was_b[n] = b->told[n];
    /* A joiner gets its share, from both, and nothing moves between those who were there. */
    unsigned lost = a->lost + b->lost;
    c = join(v, 2);
    settle(v, 3);
    assert_true(partitions_held(c->p) >= PARTITIONS / 8);
    assert_true(partitions_held(a->p) >= PARTITIONS / 8 && partitions_held(b->p) >= PARTITIONS / 8);
    for (unsigned n = 0; n < PARTITIONS; n++)
        assert_true(c->told[n] || b->told[n] == was_b[n]);
    assert_int_equal(a->lost + b->lost - lost, partitions_held(c->p));
    /* Leaving is no matter of a TTL: its leases are free when it is gone, and the others ask at their next look. */
    leave(c);
    int64_t took = settle(v, 2);
    assert_true(took < 2 * TTL_MS);
    for (unsigned n = 0; n < PARTITIONS; n++)
        assert_true(b->told[n] == was_b[n]);
    leave_all(v);
}

static void one_is_paused(void **state)
{
    struct env *v = *state;
    struct replica *a = join(v, 0), *b = join(v, 1);
    settle(v, 2);
    unsigned had = (unsigned)partitions_held(a->p), lost = a->lost;
    a->paused = true;
    settle(v, 1); /* b has all of them; turn() saw that a held none of them still */
    assert_int_equal(partitions_held(b->p), PARTITIONS);
    assert_int_equal(partitions_held(a->p), 0); /* by its own clock: its loop has not turned */
    a->paused = false;
    settle(v, 2);
    assert_true(a->lost - lost >= had); /* told that it had lost them */
    leave_all(v);
}

static void redis_is_away(void **state)
{
    struct env *v = *state;
    struct replica *a = join(v, 0), *b = join(v, 1);
    settle(v, 2);
    harness_kill(v->redis); /* it has no persistence: members and tokens are gone with it */
    for (int64_t end = clock_mono_ms() + HARNESS_WAIT_MS; partitions_held(a->p) + partitions_held(b->p) > 0;) {
        turn(v);
        assert_true(clock_mono_ms() < end);
    }
    assert_int_equal(partitions_members(a->p), 2); /* as last told */
    harness_start(v->redis);
    settle(v, 2);
    leave_all(v);
}

/* Without members there are no leases: the list is no list. */
static void a_damaged_list(void **state)
{
    struct env *v = *state;
    struct replica *a = join(v, 0);
    settle(v, 1);
    store_cmd(a->store, NULL, NULL, 3, (const char *[]){"SET", "redoubt:{test}:members", "x"}, NULL);
    struct replica *b = join(v, 1);
    turn_for(v, 3 * TTL_MS);
    assert_int_equal(partitions_held(b->p), 0);
    assert_int_equal(partitions_members(b->p), 0);
    assert_int_equal(partitions_held(a->p), PARTITIONS); /* what it has it keeps */
    store_cmd(a->store, NULL, NULL, 2, (const char *[]){"DEL", "redoubt:{test}:members"}, NULL);
    settle(v, 2);
    leave_all(v);
}

/* ---- who of another service is alive ---- */

struct heard {
    bool done;
    enum store_status st;
    size_t n;
    char names[4][MEMBER_MAX];
    char error[128];
};

static void on_read(void *ctx, enum store_status st, size_t n, const char *const names[], const char *error)
{
    struct heard *x = ctx;
    *x = (struct heard){.done = true, .st = st, .n = n};
    for (size_t i = 0; i < n && i < 4; i++)
        snprintf(x->names[i], sizeof x->names[i], "%s", names[i]);
    snprintf(x->error, sizeof x->error, "%s", error);
}

static struct heard read_from(struct replica *r, const char *service)
{
    struct heard x = {0};
    members_read(r->store, service, on_read, &x);
    assert_true(loop_run_until(&r->loop, &x.done, HARNESS_WAIT_MS));
    return x;
}

static void anothers_members(void **state)
{
    struct env *v = *state;
    struct replica *a = join(v, 0), *b = join(v, 1);
    settle(v, 2);
    struct heard x = read_from(a, "nobody");
    assert_int_equal(x.st, STORE_OK);
    assert_int_equal(x.n, 0);
    x = read_from(a, "test");
    assert_int_equal(x.st, STORE_OK);
    assert_int_equal(x.n, 2);
    assert_string_equal(x.names[0], "replica-0");
    assert_string_equal(x.names[1], "replica-1");
    assert_string_equal(x.error, "");
    /* Ended, not cleaned up yet, and nobody's names. */
    const char *add[] = {
        "ZADD",    "redoubt:{other}:members", "1",    "old", "99999999999999", "!rests", "99999999999999",
        "No Name", "99999999999999",          "rests"};
    store_cmd(a->store, NULL, NULL, 10, add, NULL);
    x = read_from(a, "other");
    assert_int_equal(x.n, 1);
    assert_string_equal(x.names[0], "rests");
    store_cmd(a->store, NULL, NULL, 3, (const char *[]){"SET", "redoubt:{other}:members", "x"}, NULL);
    x = read_from(a, "other");
    assert_int_equal(x.st, STORE_ERROR);
    assert_non_null(strstr(x.error, "WRONGTYPE"));
    harness_kill(v->redis);
    x = read_from(b, "test");
    assert_true(x.st == STORE_DOWN || x.st == STORE_UNKNOWN);
    assert_true(x.n == 0 && x.error[0]);
    leave_all(v);
}

/* ---- a storm ---- */

/* Replicas are paused, leave and come, and Redis stands still, in the order of a seed; turn() and on_held() watch. Redis is not emptied:
 * with its keys the leases are gone while their holders still go by them. Their writes to one document fence each other off even then. */
static void in_a_storm(void **state)
{
    struct env *v = *state;
    const char *text = getenv("SEED");
    unsigned seed = text ? (unsigned)atoi(text) : (unsigned)clock_wall_ms();
    print_message("seed %u\n", seed);
    join(v, 0);
    for (int64_t end = clock_mono_ms() + 6000; clock_mono_ms() < end;) {
        struct replica *r = &v->r[rand_r(&seed) % REPLICAS];
        switch (rand_r(&seed) % 8) {
        case 0:
            harness_freeze(v->redis);
            turn_for(v, rand_r(&seed) % TTL_MS);
            harness_thaw(v->redis);
            break;
        case 1:
        case 2:
            if (r->p) {
                r->paused = false;
                leave(r);
            }
            break;
        case 3:
            r->paused = r->p && !r->paused;
            break;
        default:
            if (!r->p)
                join(v, (int)(r - v->r));
        }
        turn_for(v, rand_r(&seed) % TTL_MS);
    }
    size_t alive = 0;
    for (int i = 0; i < REPLICAS; i++) {
        v->r[i].paused = false;
        alive += v->r[i].p != NULL;
    }
    if (alive == 0) {
        join(v, 0);
        alive = 1;
    }
    settle(v, alive);
    print_message("%zu replicas at the end, %u leases granted\n", alive, v->grants);
    assert_true(v->grants >= PARTITIONS);
    leave_all(v);
}

static void agents_are_spread(void **state)
{
    (void)state;
    unsigned n[PARTITIONS] = {0};
    for (int i = 0; i < 3200; i++) {
        char name[32];
        snprintf(name, sizeof name, "agent-%d", i);
        unsigned p = partition_of(name);
        assert_true(p < PARTITIONS);
        n[p]++;
    }
    for (unsigned i = 0; i < PARTITIONS; i++)
        assert_true(n[i] >= 60 && n[i] <= 140);
    assert_int_equal(partition_of("soc-1"), partition_of("soc-1"));
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
    const struct CMUnitTest tests[] = {cmocka_unit_test(agents_are_spread),
                                       T(one_takes_all),
                                       T(shared_and_moved),
                                       T(one_is_paused),
                                       T(redis_is_away),
                                       T(a_damaged_list),
                                       T(anothers_members),
                                       T(in_a_storm)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
