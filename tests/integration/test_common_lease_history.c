/* test_common_lease_history.c - leases of real processes under kill and pause: what was recorded is in order of the fencing tokens.
 *
 * Four holders, each a process, want one lease and write to one document with their token; they are killed, stopped beyond their lease and
 * restarted, and Redis is stopped. Half of them are careless: they go on writing with the token that they had. Each notes every call and
 * answer with times of one clock (CLOCK_MONOTONIC is the same for all processes of a machine). Must hold in the history:
 *  - a token belongs to one holder, and for each holder tokens only grow;
 *  - one write is accepted per revision, and accepted writes are in order of their tokens: no older holder's write comes after a newer one's;
 *  - revisions fit real time: a write that was answered before another was sent has the smaller one.
 * Since each accepted write carries its place (the revision), this is all of linearizability: no search is needed. */
#include "../harness.h"
#include "common/clock.h"
#include "common/lease.h"
#include <fcntl.h>
#include <inttypes.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define HOLDERS    4
#define TTL_MS     400
#define STORM_MS   6000
#define RECORDS    60000
#define WRITE_EACH 5 /* ms */

struct record {
    char what; /* 'h' held; 'w' won, 'l' lost, 'f' fenced, '?' unknown */
    int holder;
    uint64_t token, rev;
    int64_t call_ns, ret_ns;
};

/* ---- judging ---- */

static int by_rev(const void *a, const void *b)
{
    const struct record *x = a, *y = b;
    return x->rev < y->rev ? -1 : x->rev > y->rev;
}

/* NULL, or what is wrong. Sorts. */
static const char *judge(struct record *r, size_t n, char why[static 160])
{
    size_t won = 0;
    for (size_t i = 0; i < n; i++)
        for (size_t k = 0; k < i && r[i].what == 'h'; k++)
            if (r[k].what == 'h' && r[k].token == r[i].token) {
                snprintf(why, 160, "token %" PRIu64 " was given to %d and to %d", r[i].token, r[k].holder,
                         r[i].holder);
                return why;
            } else if (r[k].what == 'h' && r[k].holder == r[i].holder && r[k].token > r[i].token) {
                snprintf(why, 160, "holder %d got token %" PRIu64 " after %" PRIu64, r[i].holder, r[i].token,
                         r[k].token);
                return why;
            }
    for (size_t i = 0; i < n; i++)
        if (r[i].what == 'w') {
            struct record swap = r[won];
            r[won++] = r[i];
            r[i] = swap;
        }
    qsort(r, won, sizeof *r, by_rev);
    int64_t latest_call_ns = 0;
    for (size_t i = 0; i < won; i++) {
        if (i > 0 && r[i].rev == r[i - 1].rev) {
            snprintf(why, 160, "revision %" PRIu64 " was written by %d and by %d", r[i].rev, r[i - 1].holder,
                     r[i].holder);
            return why;
        }
        if (i > 0 && r[i].token < r[i - 1].token) {
            snprintf(why, 160, "token %" PRIu64 " wrote revision %" PRIu64 " after token %" PRIu64, r[i].token,
                     r[i].rev, r[i - 1].token);
            return why;
        }
        if (r[i].ret_ns < latest_call_ns) {
            snprintf(why, 160, "revision %" PRIu64 " was answered before an earlier one was sent", r[i].rev);
            return why;
        }
        if (r[i].call_ns > latest_call_ns)
            latest_call_ns = r[i].call_ns;
    }
    return NULL;
}

static void judged(void **unused)
{
    (void)unused;
    char why[160];
    struct record right[] = {{'h', 0, 1, 0, 1, 1},   {'w', 0, 1, 1, 2, 3},  {'h', 1, 2, 0, 9, 9},
                             {'w', 1, 2, 3, 12, 13}, {'w', 0, 1, 2, 4, 14}, {'f', 0, 1, 4, 15, 16},
                             {'?', 1, 2, 4, 17, 0}};
    assert_null(judge(right, sizeof right / sizeof right[0], why));
    struct record twice[] = {{'h', 0, 1, 0, 1, 1}, {'h', 1, 1, 0, 2, 2}};
    assert_non_null(judge(twice, 2, why));
    struct record back[] = {{'h', 0, 2, 0, 1, 1}, {'h', 0, 1, 0, 2, 2}};
    assert_non_null(judge(back, 2, why));
    struct record one_revision[] = {{'w', 0, 1, 1, 2, 3}, {'w', 1, 2, 1, 2, 3}};
    assert_non_null(judge(one_revision, 2, why));
    struct record late[] = {{'w', 1, 2, 1, 2, 3}, {'w', 0, 1, 2, 4, 5}};
    assert_non_null(judge(late, 2, why));
    struct record time[] = {{'w', 0, 1, 2, 1, 2}, {'w', 0, 1, 1, 5, 6}};
    assert_non_null(judge(time, 2, why));
}

/* ---- a holder: this program, called with --holder N PORT FILE ---- */

struct holder {
    struct loop loop;
    struct store *store;
    struct lease *lease;
    struct loop_timer timer;
    int number, file;
    bool careless, up, writing;
    uint64_t token, rev;
    int64_t call_ns;
    uint64_t sent_token, n;
};

/* One write call, so that a line is whole or not there. */
static void note(struct holder *x, char what, uint64_t token, uint64_t rev, int64_t call_ns)
{
    char line[160];
    int n = snprintf(line, sizeof line, "%c %d %" PRIu64 " %" PRIu64 " %" PRId64 " %" PRId64 "\n", what, x->number,
                     token, rev, call_ns, clock_mono_ns());
    if (write(x->file, line, (size_t)n) != n)
        abort();
}

static void on_held(void *ctx, uint64_t fence)
{
    struct holder *x = ctx;
    x->token = fence;
    note(x, 'h', fence, 0, clock_mono_ns());
}

static void on_lost(void *ctx)
{
    (void)ctx;
}

static void on_up(void *ctx)
{
    ((struct holder *)ctx)->up = true;
}

static void on_put(void *ctx, enum store_status st, enum store_cas cas, const struct store_doc *now)
{
    struct holder *x = ctx;
    char what = st != STORE_OK ? '?' : cas == STORE_CAS_WON ? 'w' : cas == STORE_CAS_FENCED ? 'f' : 'l';
    note(x, what, x->sent_token, x->rev + 1, x->call_ns);
    if (st == STORE_OK)
        x->rev = what == 'w' ? x->rev + 1 : now->rev;
    x->writing = false;
}

static void on_timer(void *ctx)
{
    struct holder *x = ctx;
    uint64_t token = x->careless ? x->token : lease_fence(x->lease);
    if (token == 0 || x->writing || !x->up)
        return;
    char data[64];
    int n = snprintf(data, sizeof data, "%d %d %" PRIu64, x->number, (int)getpid(), ++x->n);
    x->writing = true;
    x->sent_token = token;
    x->call_ns = clock_mono_ns();
    store_doc_put(x->store, "redoubt:{history}:doc", x->rev, token, false, data, (size_t)n, on_put, x);
}

static int hold(char **argv)
{
    static struct holder x; /* of this process, which is killed at the end */
    char name[16];
    signal(SIGPIPE, SIG_IGN);
    x.number = atoi(argv[2]);
    x.careless = x.number % 2;
    x.file = open(argv[4], O_WRONLY | O_CREAT | O_APPEND, 0600);
    snprintf(name, sizeof name, "holder-%d", x.number);
    loop_init(&x.loop);
    x.store = store_open(
        &x.loop,
        &(struct store_opts){
            .host = "127.0.0.1", .port = atoi(argv[3]), .command_timeout_ms = 300, .on_up = on_up, .ctx = &x},
        NULL);
    x.lease = lease_open(
        &x.loop, x.store,
        &(struct lease_opts){
            .name = "history", .holder = name, .ttl_ms = TTL_MS, .on_held = on_held, .on_lost = on_lost, .ctx = &x});
    loop_timer_init(&x.loop, &x.timer, on_timer, &x);
    loop_timer_start(&x.timer, 1, WRITE_EACH);
    bool never = false;
    while (!loop_run_until(&x.loop, &never, 60000))
        ;
    return 0;
}

/* ---- the storm ---- */

static size_t read_all(struct harness *h, struct record *r)
{
    size_t n = 0;
    for (int i = 0; i < HOLDERS; i++) {
        char path[600];
        snprintf(path, sizeof path, "%s/history-%d", harness_dir(h), i);
        FILE *f = fopen(path, "r");
        if (!f)
            continue;
        while (n < RECORDS && fscanf(f, " %c %d %" SCNu64 " %" SCNu64 " %" SCNd64 " %" SCNd64, &r[n].what,
                                     &r[n].holder, &r[n].token, &r[n].rev, &r[n].call_ns, &r[n].ret_ns) == 6)
            n++;
        fclose(f);
    }
    return n;
}

static size_t count(const struct record *r, size_t n, char what)
{
    size_t c = 0;
    for (size_t i = 0; i < n; i++)
        c += r[i].what == what;
    return c;
}

/* Who has the lease, most likely; those are the ones to disturb. */
static int newest_holder(const struct record *r, size_t n)
{
    uint64_t token = 0;
    int holder = 0;
    for (size_t i = 0; i < n; i++)
        if (r[i].what == 'h' && r[i].token > token) {
            token = r[i].token;
            holder = r[i].holder;
        }
    return holder;
}

static void pause_ms(int64_t ms)
{
    usleep((useconds_t)ms * 1000);
}

static void under_kill_and_pause(void **unused)
{
    (void)unused;
    struct harness *h = harness_open();
    struct harness_proc *redis = harness_redis(h, "redis", NULL), *p[HOLDERS];
    const char *seed_text = getenv("SEED");
    unsigned seed = seed_text ? (unsigned)atoi(seed_text) : (unsigned)getpid();
    char self[400], number[HOLDERS][8], port[16], path[HOLDERS][600], name[16];
    ssize_t len = readlink("/proc/self/exe", self, sizeof self - 1);
    assert_true(len > 0);
    self[len] = 0;
    snprintf(port, sizeof port, "%d", redis->port);
    for (int i = 0; i < HOLDERS; i++) {
        snprintf(number[i], sizeof number[i], "%d", i);
        snprintf(path[i], sizeof path[i], "%s/history-%d", harness_dir(h), i);
        snprintf(name, sizeof name, "holder-%d", i);
        const char *argv[] = {self, "--holder", number[i], port, path[i], NULL};
        p[i] = harness_run(h, name, 0, argv);
    }
    print_message("seed %u\n", seed);
    struct record *r = calloc(RECORDS, sizeof *r);
    assert_non_null(r);
    /* As long as it takes for everything to have happened, and not shorter than the storm. */
    int64_t end_ms = clock_mono_ms() + STORM_MS, give_up_ms = clock_mono_ms() + 60000;
    size_t n = 0;
    for (;;) {
        n = read_all(h, r);
        struct harness_proc *x = p[rand_r(&seed) % 3 ? newest_holder(r, n) : (int)(rand_r(&seed) % HOLDERS)];
        switch (rand_r(&seed) % 4) {
        case 0:
            harness_kill(x);
            pause_ms(rand_r(&seed) % 100);
            harness_start(x);
            break;
        case 1:
            harness_freeze(redis);
            pause_ms(rand_r(&seed) % 500);
            harness_thaw(redis);
            break;
        default:
            harness_freeze(x);
            pause_ms(rand_r(&seed) % (3 * TTL_MS));
            harness_thaw(x);
        }
        pause_ms(rand_r(&seed) % 200);
        if (clock_mono_ms() < end_ms)
            continue;
        n = read_all(h, r);
        bool enough = count(r, n, 'h') >= 5 && count(r, n, 'w') >= 100 && count(r, n, 'f') > 0;
        if (enough || clock_mono_ms() > give_up_ms)
            break;
    }
    for (int i = 0; i < HOLDERS; i++)
        harness_kill(p[i]);
    n = read_all(h, r);
    print_message("%zu leases, %zu writes accepted, %zu fenced off, %zu lost, %zu unknown\n", count(r, n, 'h'),
                  count(r, n, 'w'), count(r, n, 'f'), count(r, n, 'l'), count(r, n, '?'));
    assert_true(count(r, n, 'h') >= 5 && count(r, n, 'w') >= 100 && count(r, n, 'f') > 0);
    char why[160];
    const char *wrong = judge(r, n, why);
    if (wrong)
        fail_msg("%s", wrong);
    free(r);
    harness_close(h);
}

int main(int argc, char **argv)
{
    if (argc == 5 && strcmp(argv[1], "--holder") == 0)
        return hold(argv);
    const struct CMUnitTest tests[] = {cmocka_unit_test(judged), cmocka_unit_test(under_kill_and_pause)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
