/* test_common_sentinel.c - the store behind real Sentinels: a primary that is killed, frozen, moved by hand; Sentinels that are away, wrong or want
 * a login; a primary with too few replicas. */
#include "../harness.h"
#include "common/clock.h"
#include "common/lease.h"
#include "common/store.h"
#include <inttypes.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define REDISES   3
#define SENTINELS 3
#define DOWN_MS                                                                                                      \
    1500 /* after which a Sentinel takes a server for down: above the lease's TTL, so that no two hold it */
#define TTL_MS       1000
#define FAIL_OVER_MS 60000
#define ASK_AGAIN_MS 12000 /* more than the Sentinels' failover-timeout */
#define KEY          "redoubt:{test}:doc"

struct town {
    struct harness *h;
    struct harness_proc *redis[REDISES], *sentinel[SENTINELS];
    char list[256]; /* of the Sentinels, for the store */
    struct loop loop;
};

/* One replica of a service: a store, a lease, and a document that it counts up by compare-and-set as fast as it can. */
struct worker {
    struct town *t;
    struct store *store;
    struct lease *lease;
    bool up, closed, held;
    int ups, downs, holds;
    uint64_t fence;           /* the last one held */
    uint64_t rev, acked;      /* what it believes; the last that Redis acknowledged since the store came up */
    bool writing, busy, news; /* news: acknowledged since the flag was cleared */
    uint64_t lost_after;      /* acknowledged while up, and gone without a new connection */
};

static void count_up(struct worker *w);

static void on_up(void *ctx)
{
    struct worker *w = ctx;
    w->up = true;
    w->ups++;
    w->acked = 0; /* what the primary before had acknowledged may be lost: replication does not wait */
    count_up(w);
}

static void on_down(void *ctx)
{
    struct worker *w = ctx;
    w->up = false;
    w->downs++;
}

static void on_closed(void *ctx)
{
    ((struct worker *)ctx)->closed = true;
}

static void on_put(void *ctx, enum store_status st, enum store_cas r, const struct store_doc *current)
{
    struct worker *w = ctx;
    w->busy = false;
    if (st == STORE_OK && r == STORE_CAS_WON) {
        w->rev++;
        w->acked = w->rev;
        w->news = true;
    } else if (st == STORE_OK) {
        w->lost_after += current->rev < w->acked;
        w->rev = current->rev;
    }
    if (w->up)
        count_up(w);
}

static void count_up(struct worker *w)
{
    if (!w->writing || w->busy)
        return;
    char text[32];
    snprintf(text, sizeof text, "%" PRIu64, w->rev + 1);
    w->busy = true;
    store_doc_put(w->store, KEY, w->rev, 0, false, text, strlen(text), on_put, w);
}

static void on_held(void *ctx, uint64_t fence)
{
    struct worker *w = ctx;
    assert_true(fence > w->fence);
    w->held = true;
    w->holds++;
    w->fence = fence;
}

static void on_lost(void *ctx)
{
    ((struct worker *)ctx)->held = false;
}

static void open_worker(struct worker *w, struct town *t, const char *sentinels, const char *user,
                        const char *password)
{
    struct err e = {""};
    *w = (struct worker){.t = t};
    w->store = store_open(&t->loop,
                          &(struct store_opts){.sentinels = sentinels,
                                               .sentinel_master = "redoubt",
                                               .user = user,
                                               .password = password,
                                               .command_timeout_ms = 500,
                                               .on_up = on_up,
                                               .on_down = on_down,
                                               .ctx = w},
                          &e);
    if (!w->store)
        fail_msg("%s", e.text);
}

static void open_lease(struct worker *w, const char *holder)
{
    w->lease = lease_open(
        &w->t->loop, w->store,
        &(struct lease_opts){
            .name = "test", .holder = holder, .ttl_ms = TTL_MS, .on_held = on_held, .on_lost = on_lost, .ctx = w});
}

static void wait_flag(struct worker *w, const bool *flag, const char *what)
{
    if (!loop_run_until(&w->t->loop, flag, FAIL_OVER_MS))
        fail_msg("%s: not within %d ms; the store says: %s", what, FAIL_OVER_MS, store_last_error(w->store));
}

static void close_worker(struct worker *w)
{
    w->writing = false;
    if (w->lease) {
        w->closed = false;
        lease_close(w->lease, on_closed, w);
        wait_flag(w, &w->closed, "the lease closes");
    }
    w->closed = false;
    store_close(w->store, on_closed, w);
    w->store = NULL;
    assert_true(loop_run_until(&w->t->loop, &w->closed, HARNESS_WAIT_MS));
}

/* ---- asking the servers themselves ---- */

struct question {
    const char *host;
    int port;
    const char *words[4];
    char answer[512];
};

static void ask(struct question *q)
{
    struct timeval limit = {.tv_sec = 1};
    q->answer[0] = 0;
    redisContext *c = redisConnectWithTimeout("127.0.0.1", q->port, limit);
    if (c && !c->err && redisSetTimeout(c, limit) == REDIS_OK) {
        int n = 0;
        while (n < 4 && q->words[n])
            n++;
        redisReply *r = redisCommandArgv(c, n, (const char **)q->words, NULL);
        const redisReply *first = r && r->type == REDIS_REPLY_ARRAY && r->elements ? r->element[0] : r;
        if (first && first->str)
            snprintf(q->answer, sizeof q->answer, "%s", first->str);
        if (r && r->type == REDIS_REPLY_ARRAY && r->elements > 1 && r->element[1]->str)
            snprintf(q->answer + strlen(q->answer), sizeof q->answer - strlen(q->answer), " %s", r->element[1]->str);
        freeReplyObject(r);
    }
    if (c)
        redisFree(c);
}

static bool role_is(const struct harness_proc *p, const char *role)
{
    struct question q = {.port = p->port, .words = {"ROLE"}};
    ask(&q);
    return strncmp(q.answer, role, strlen(role)) == 0;
}

/* One that says so of itself, and is not `but` (-1 = any): the one before may say so for a while. */
static int primary_but(const struct town *t, int but)
{
    for (int i = 0; i < REDISES; i++)
        if (i != but && t->redis[i]->pid && role_is(t->redis[i], "master"))
            return i;
    return -1;
}

/* With the loop turning meanwhile: the store lives. */
static void wait_role(struct town *t, struct harness_proc *p, const char *role)
{
    bool never = false;
    int64_t end = clock_mono_ms() + FAIL_OVER_MS;
    while (!role_is(p, role)) {
        if (clock_mono_ms() > end)
            fail_msg("%s is not %s", p->name, role);
        (void)loop_run_until(&t->loop, &never, 50);
    }
}

/* All replicas are in step, and every Sentinel knows of them and of the others: only then can it fail over. */
static bool settled(void *ctx)
{
    struct town *t = ctx;
    for (int i = 0; i < SENTINELS; i++) {
        struct question q = {.port = t->sentinel[i]->port, .words = {"SENTINEL", "CKQUORUM", "redoubt"}};
        ask(&q);
        if (strncmp(q.answer, "OK 3 usable", 11) != 0)
            return false;
        q = (struct question){.port = t->sentinel[i]->port, .words = {"INFO", "sentinel"}};
        ask(&q);
        if (!strstr(q.answer, "status=ok") || !strstr(q.answer, "slaves=2,sentinels=3"))
            return false;
    }
    return true;
}

static void write_sentinel(const struct town *t, int i, const char *more, char path[static 600])
{
    snprintf(path, 600, "%s/sentinel-%d.conf", harness_dir(t->h), i);
    FILE *f = fopen(path, "we");
    assert_non_null(f);
    fprintf(f,
            "sentinel monitor redoubt 127.0.0.1 %d 2\n"
            "sentinel down-after-milliseconds redoubt %d\n"
            "sentinel failover-timeout redoubt 5000\n%s\n",
            t->redis[0]->port, DOWN_MS, more ? more : "");
    fclose(f);
}

static void build(struct town *t, const char *more)
{
    t->h = harness_open();
    assert_int_equal(loop_init(&t->loop), 0);
    char port[16];
    const char *first[] = {"--min-replicas-to-write", "1", "--repl-diskless-sync-delay", "0", NULL};
    t->redis[0] = harness_redis(t->h, "redis-0", first);
    snprintf(port, sizeof port, "%d", t->redis[0]->port);
    const char *others[] = {
        "--replicaof", "127.0.0.1", port, "--min-replicas-to-write", "1", "--repl-diskless-sync-delay", "0", NULL};
    for (int i = 1; i < REDISES; i++) {
        char name[16];
        snprintf(name, sizeof name, "redis-%d", i);
        t->redis[i] = harness_redis(t->h, name, others);
    }
    for (int i = 0; i < SENTINELS; i++) {
        char name[16], path[600];
        int at = harness_free_port();
        snprintf(name, sizeof name, "sentinel-%d", i);
        snprintf(port, sizeof port, "%d", at);
        write_sentinel(t, i, more, path);
        const char *argv[] = {"redis-server", path, "--sentinel", "--port", port, "--bind", "127.0.0.1", NULL};
        t->sentinel[i] = harness_run(t->h, name, at, argv);
        snprintf(t->list + strlen(t->list), sizeof t->list - strlen(t->list), "%s127.0.0.1:%d", i ? "," : "", at);
    }
}

static int set_up(void **state)
{
    struct town *t = calloc(1, sizeof *t);
    signal(SIGPIPE, SIG_IGN);
    build(t, NULL);
    if (!harness_until(settled, t, FAIL_OVER_MS))
        fail_msg("the Sentinels do not find each other");
    *state = t;
    return 0;
}

static int tear_down(void **state)
{
    struct town *t = *state;
    loop_done(&t->loop);
    harness_close(t->h);
    free(t);
    return 0;
}

static void follows_every_fail_over(void **state)
{
    struct town *t = *state;
    static struct worker w, other;
    open_worker(&w, t, t->list, NULL, NULL);
    open_worker(&other, t, t->list, NULL, NULL);
    wait_flag(&w, &w.up, "up");
    wait_flag(&other, &other.up, "up");
    w.writing = true;
    count_up(&w);
    wait_flag(&w, &w.news, "a first write");
    open_lease(&w, "w");
    wait_flag(&w, &w.held, "the lease");
    open_lease(&other, "other");

    for (int round = 0; round < 3; round++) {
        int was = primary_but(t, -1);
        assert_in_range(was, 0, REDISES - 1);
        struct harness_proc *old = t->redis[was];
        int ups = w.ups;
        int64_t began = clock_mono_ms(), asked = began;
        if (round == 0) {
            harness_kill(old);
        } else if (round == 1) {
            harness_freeze(old); /* the connection stays, and says nothing */
        } else {
            struct question q = {.port = t->sentinel[0]->port, .words = {"SENTINEL", "FAILOVER", "redoubt"}};
            ask(&q);
            assert_string_equal(q.answer, "OK");
        }
        /* Acknowledged again, by another server. */
        while (w.ups == ups || !w.up || !w.news) {
            bool never = false;
            w.news = w.ups != ups && w.news;
            (void)loop_run_until(&t->loop, &never, 5);
            /* One holder at a time, at every moment. */
            assert_false(lease_fence(w.lease) && lease_fence(other.lease));
            /* A Sentinel gives up what takes it too long, on a busy machine: whoever asked by hand asks again. */
            if (round == 2 && clock_mono_ms() - asked > ASK_AGAIN_MS) {
                struct question q = {.port = t->sentinel[0]->port, .words = {"SENTINEL", "FAILOVER", "redoubt"}};
                ask(&q);
                asked = clock_mono_ms();
            }
            if (clock_mono_ms() - began > FAIL_OVER_MS)
                fail_msg("round %d: nothing is acknowledged; the store says: %s", round, store_last_error(w.store));
        }
        print_message("fail-over %d (%s): acknowledged again after %" PRId64 " ms\n", round,
                      round == 0   ? "killed"
                      : round == 1 ? "frozen"
                                   : "by hand",
                      clock_mono_ms() - began);
        int now = primary_but(t, was);
        assert_true(now >= 0);
        uint64_t seen = w.fence > other.fence ? w.fence : other.fence;
        if (round == 0)
            harness_start(old);
        harness_thaw(old);
        wait_role(t, old, "slave");
        /* Its return moves nobody, and what was acknowledged since is there. */
        w.news = false;
        wait_flag(&w, &w.news, "a write after the return");
        assert_int_equal(primary_but(t, -1), now);
        assert_int_equal(w.lost_after, 0);
        while (!lease_fence(w.lease) && !lease_fence(other.lease)) {
            bool never = false;
            (void)loop_run_until(&t->loop, &never, 20);
        }
        assert_true((w.fence > other.fence ? w.fence : other.fence) >= seen);
        if (!harness_until(settled, t, FAIL_OVER_MS))
            fail_msg("round %d: the Sentinels do not settle", round);
    }
    /* What the document holds is what was acknowledged last. */
    w.writing = false;
    while (w.busy) {
        bool never = false;
        (void)loop_run_until(&t->loop, &never, 5);
    }
    struct question q = {.port = t->redis[primary_but(t, -1)]->port, .words = {"HGET", KEY, "rev"}};
    ask(&q);
    assert_int_equal(strtoull(q.answer, NULL, 10), w.acked);
    close_worker(&w);
    close_worker(&other);
}

/* Sentinels that are not there, that are none, and that know of no such primary: the one that does is found. */
static void any_sentinel_will_do(void **state)
{
    struct town *t = *state;
    char list[512];
    struct harness_proc *plain = harness_redis(t->h, "no-sentinel", NULL);
    struct worker w;
    snprintf(list, sizeof list, "127.0.0.1:%d,127.0.0.1:%d,no-such-name.invalid:26379,%s:%d", harness_free_port(),
             plain->port, harness_localhost(), t->sentinel[1]->port);
    open_worker(&w, t, list, NULL, NULL);
    wait_flag(&w, &w.up, "up by the one good Sentinel");
    w.writing = true;
    count_up(&w);
    wait_flag(&w, &w.news, "a write");
    close_worker(&w);

    /* None: it says which, and why. */
    snprintf(list, sizeof list, "127.0.0.1:%d", plain->port);
    open_worker(&w, t, list, NULL, NULL);
    for (int i = 0; i < 500 && !*store_last_error(w.store); i++) {
        bool never = false;
        (void)loop_run_until(&t->loop, &never, 20);
    }
    assert_non_null(strstr(store_last_error(w.store), "Sentinel at 127.0.0.1"));
    assert_false(store_up(w.store));
    close_worker(&w);
}

/* A Sentinel that names a replica: never used. */
static void a_replica_is_no_primary(void **state)
{
    struct town *t = *state;
    struct worker w;
    int at = harness_free_port();
    char list[64], path[600], port[16];
    struct harness_proc *first =
        harness_redis(t->h, "first", NULL); /* a pair of their own: no other Sentinel corrects this one */
    snprintf(port, sizeof port, "%d", first->port);
    const char *args[] = {"--replicaof", "127.0.0.1", port, NULL};
    struct harness_proc *second = harness_redis(t->h, "second", args);
    snprintf(path, sizeof path, "%s/liar.conf", harness_dir(t->h));
    FILE *f = fopen(path, "we");
    assert_non_null(f);
    fprintf(f, "sentinel monitor redoubt 127.0.0.1 %d 1\n", second->port);
    fclose(f);
    snprintf(port, sizeof port, "%d", at);
    const char *argv[] = {"redis-server", path, "--sentinel", "--port", port, "--bind", "127.0.0.1", NULL};
    harness_run(t->h, "liar", at, argv);
    snprintf(list, sizeof list, "127.0.0.1:%d", at);
    open_worker(&w, t, list, NULL, NULL);
    for (int i = 0; i < 500 && !strstr(store_last_error(w.store), "not the primary"); i++) {
        bool never = false;
        (void)loop_run_until(&t->loop, &never, 20);
    }
    assert_non_null(strstr(store_last_error(w.store), "not the primary: its role is slave"));
    assert_int_equal(w.ups, 0);
    close_worker(&w);
}

/* With too few replicas a primary takes no writes: it is away, until there are enough again. The same without Sentinels. */
static void too_few_replicas(void **state)
{
    struct town *t = *state;
    const char *args[] = {"--min-replicas-to-write", "1", "--min-replicas-max-lag", "2", NULL};
    struct harness_proc *alone = harness_redis(t->h, "alone", args);
    struct err e = {""};
    static struct worker w;
    w = (struct worker){.t = t};
    w.store = store_open(&t->loop,
                         &(struct store_opts){.host = "127.0.0.1",
                                              .port = alone->port,
                                              .command_timeout_ms = 500,
                                              .on_up = on_up,
                                              .on_down = on_down,
                                              .ctx = &w},
                         &e);
    wait_flag(&w, &w.up, "up"); /* nobody has tried to write yet */
    w.writing = true;
    count_up(&w);
    while (w.downs == 0) {
        bool never = false;
        (void)loop_run_until(&t->loop, &never, 5);
    }
    assert_false(w.news);
    bool never = false;
    (void)loop_run_until(&t->loop, &never, 700);
    assert_int_equal(w.ups, 1); /* it does not come and go meanwhile */
    assert_non_null(strstr(store_last_error(w.store), "NOREPLICAS"));
    char port[16];
    snprintf(port, sizeof port, "%d", alone->port);
    const char *second[] = {"--replicaof", "127.0.0.1", port, NULL};
    harness_redis(t->h, "its-replica", second);
    wait_flag(&w, &w.up, "up with a replica");
    wait_flag(&w, &w.news, "a write with a replica");
    close_worker(&w);
}

/* Sentinels and servers that want a login: the same name and password are shown to both. */
static void logins(void **state)
{
    (void)state;
    static struct town t;
    t = (struct town){0};
    t.h = harness_open();
    assert_int_equal(loop_init(&t.loop), 0);
    const char *args[] = {"--user", "health", "on",      ">secret", "~redoubt:*",
                          "+@all",  "--user", "default", "off",     NULL};
    t.redis[0] = harness_redis(t.h, "redis-0", args);
    int at = harness_free_port();
    char path[600], port[16], list[64];
    write_sentinel(&t, 0,
                   "user health on >secret +ping +sentinel|get-master-addr-by-name\n"
                   "user default off\n"
                   "sentinel auth-user redoubt health\nsentinel auth-pass redoubt secret",
                   path);
    snprintf(port, sizeof port, "%d", at);
    const char *argv[] = {"redis-server", path, "--sentinel", "--port", port, "--bind", "127.0.0.1", NULL};
    harness_run(t.h, "sentinel-0", at, argv);
    snprintf(list, sizeof list, "127.0.0.1:%d", at);
    struct worker w;
    open_worker(&w, &t, list, "health", "secret");
    wait_flag(&w, &w.up, "up with a login");
    close_worker(&w);
    open_worker(&w, &t, list, "health", "wrong");
    for (int i = 0; i < 500 && !*store_last_error(w.store); i++) {
        bool never = false;
        (void)loop_run_until(&t.loop, &never, 20);
    }
    assert_non_null(strstr(store_last_error(w.store), "AUTH refused: WRONGPASS"));
    assert_null(strstr(store_last_error(w.store), "wrong "));
    close_worker(&w);
    open_worker(&w, &t, list, NULL, NULL);
    for (int i = 0; i < 500 && !*store_last_error(w.store); i++) {
        bool never = false;
        (void)loop_run_until(&t.loop, &never, 20);
    }
    assert_non_null(strstr(store_last_error(w.store), "wants a login"));
    close_worker(&w);
    loop_done(&t.loop);
    harness_close(t.h);
}

static void wrong_options(void **state)
{
    struct town *t = *state;
    struct err e = {""};
    assert_null(store_open(&t->loop, &(struct store_opts){.sentinels = "a:1"}, &e));
    assert_non_null(strstr(e.text, "name"));
    assert_null(store_open(&t->loop, &(struct store_opts){.sentinels = "a:1,", .sentinel_master = "x"}, &e));
    assert_non_null(strstr(e.text, "wrong Sentinel"));
    assert_null(store_open(&t->loop, &(struct store_opts){.sentinels = ""}, &e));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(follows_every_fail_over),
        cmocka_unit_test(any_sentinel_will_do),
        cmocka_unit_test(a_replica_is_no_primary),
        cmocka_unit_test(too_few_replicas),
        cmocka_unit_test(logins),
        cmocka_unit_test(wrong_options),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
