/* test_common_adopt.c - replicas of every service are killed with full outboxes: one that lives publishes all of it, each item once. A service without a living
 * replica keeps them until one is started. */
#include "../harness.h"
#include "common/bus.h"
#include "common/clock.h"
#include "common/outbox.h"
#include "common/replica.h"
#include "common/subjects.h"
#include "common/wire.h"
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define DEAD  4
#define ITEMS 40

static const char *const services[] = {"health", "breaker", "fallback", "guard",
                                       "alert",  "audit",   "rollback", "continuity"};
#define SERVICES (sizeof services / sizeof *services)

struct env {
    struct harness *h;
    struct harness_proc *nats, *redis;
    char conf[600], bin[600];
    struct loop loop;
    struct bus *bus;
    bool bus_up, closed, asked;
    uint64_t next;
    unsigned char times[SERVICES][DEAD][ITEMS];
    size_t found, doubled;
};

static void on_up(void *ctx)
{
    ((struct env *)ctx)->bus_up = true;
}
static void on_closed(void *ctx)
{
    ((struct env *)ctx)->closed = true;
}

/* ---- a replica that is killed with a full outbox ---- */

static void on_durable(void *ctx, int status, const char *error)
{
    (void)error;
    if (status != 0)
        _exit(3);
    ++*(size_t *)ctx;
}

static void die_full(const struct env *e, const char *service, int dead)
{
    struct replica r;
    struct loop l;
    size_t durable = 0;
    char data[600];
    snprintf(data, sizeof data, "%s/data", harness_dir(e->h));
    if (replica_claim(&r, data, service, NULL) || loop_init(&l))
        _exit(1);
    struct outbox_opts o = {.dir = r.dir};
    struct outbox *b = outbox_open(&l, &o, NULL);
    if (!b)
        _exit(2);
    for (int i = 0; i < ITEMS; i++) {
        char id[64];
        size_t len;
        PB(AuditRecord) rec = PB_INIT(AUDIT_RECORD);
        snprintf(id, sizeof id, "left-%s-%d-%d", service, dead, i);
        rec.id = id;
        rec.at_unix_ms = clock_wall_ms();
        rec.service = (char *)service;
        rec.audit_class = REDOUBT__V1__AUDIT_CLASS__AUDIT_CLASS_STRICT;
        rec.action = (char *)"test.left";
        void *data_ = wire_pack(&rec, &len, NULL);
        outbox_append(
            b,
            &(struct outbox_item){
                .subject = SUBJECT_AUDIT "test", .id = id, .type = wire_type(&rec), .data = data_, .len = len},
            on_durable, &durable);
        free(data_);
    }
    static const bool never = false;
    for (int64_t end_ms = clock_mono_ms() + HARNESS_WAIT_MS; durable < ITEMS && clock_mono_ms() < end_ms;)
        loop_run_until(&l, &never, 5);
    if (durable == ITEMS)
        raise(SIGKILL);
    _exit(4);
}

/* All of one service at the same time, so that each has a directory of its own. */
static void leave_full(const struct env *e, const char *service)
{
    struct replica held[DEAD];
    pid_t pids[DEAD];
    char data[600];
    snprintf(data, sizeof data, "%s/data", harness_dir(e->h));
    for (int d = 0; d < DEAD; d++) {
        pids[d] = fork();
        assert_true(pids[d] >= 0);
        if (pids[d] == 0)
            die_full(e, service, d);
        int how;
        assert_int_equal(waitpid(pids[d], &how, 0), pids[d]);
        if (!WIFSIGNALED(how) || WTERMSIG(how) != SIGKILL)
            fail_msg("%s: the one to be killed ended with %d", service, WEXITSTATUS(how));
        /* Its place is kept, as it were, until all are gone. */
        assert_int_equal(replica_claim(&held[d], data, service, NULL), 0);
        assert_int_equal(held[d].index, d);
    }
    for (int d = 0; d < DEAD; d++)
        replica_release(&held[d]);
}

/* ---- what the stream has ---- */

static void on_next(void *ctx, enum bus_status st, const struct bus_msg *m)
{
    struct env *e = ctx;
    e->asked = false;
    if (st != BUS_OK || !m)
        return;
    e->next = m->stream_seq + 1;
    char service[32];
    int d, i;
    PB(AuditRecord) *r = m->type && strcmp(m->type, PB_DESC(audit_record)->name) == 0
                             ? wire_unpack(PB_DESC(audit_record), m->data, m->len, NULL)
                             : NULL;
    if (r && sscanf(r->id, "left-%31[a-z]-%d-%d", service, &d, &i) == 3)
        for (size_t s = 0; s < SERVICES; s++)
            if (strcmp(services[s], service) == 0 && d >= 0 && d < DEAD && i >= 0 && i < ITEMS) {
                e->found += e->times[s][d][i] == 0;
                e->doubled += e->times[s][d][i]++ > 0;
            }
    wire_free(r);
}

static void read_until(struct env *e, size_t n)
{
    static const bool never = false;
    int64_t end_ms = clock_mono_ms() + 9 * HARNESS_WAIT_MS;
    while (e->found < n) {
        if (clock_mono_ms() > end_ms)
            for (size_t s = 0; s < SERVICES; s++)
                for (int d = 0; d < DEAD; d++)
                    for (int i = 0; i < ITEMS; i++)
                        if (!e->times[s][d][i])
                            fail_msg("%zu of %zu are on the stream; missing: replica %d of %s, item %d", e->found, n,
                                     d, services[s], i);
        if (!e->asked && e->bus_up) {
            e->asked = true;
            bus_next(e->bus, STREAM_AUDIT, SUBJECT_AUDIT ">", e->next, 2000, on_next, e);
        }
        loop_run_until(&e->loop, &never, 2);
    }
}

static int setup(void **state)
{
    struct env *e = calloc(1, sizeof *e);
    assert_non_null(e);
    *state = e;
    e->next = 1;
    e->h = harness_open();
    for (size_t s = 0; s < SERVICES; s++)
        leave_full(e, services[s]); /* before there is a thread: children of a fork have none */
    e->nats = harness_nats(e->h, "nats", NULL);
    e->redis = harness_redis(e->h, "redis", NULL);
    snprintf(e->conf, sizeof e->conf, "%s/redoubt.yaml", harness_dir(e->h));
    FILE *f = fopen(e->conf, "w");
    assert_non_null(f);
    fprintf(f, "nats: { url: \"%s\" }\nredis: { host: 127.0.0.1, port: %d }\ndata_dir: \"%s/data\"\n", e->nats->url,
            e->redis->port, harness_dir(e->h));
    fclose(f);
    ssize_t n = readlink("/proc/self/exe", e->bin, sizeof e->bin - 8);
    assert_true(n > 0);
    e->bin[n] = 0;
    for (int i = 0; i < 3; i++)
        *strrchr(e->bin, '/') = 0;
    snprintf(e->bin + strlen(e->bin), 8, "/bin");
    assert_int_equal(loop_init(&e->loop), 0);
    struct bus_opts bo = {
        .url = e->nats->url, .name = "test", .inbox_prefix = "_INBOX_test", .on_up = on_up, .ctx = e};
    e->bus = bus_open(&e->loop, &bo, NULL);
    assert_non_null(e->bus);
    return 0;
}

static int teardown(void **state)
{
    struct env *e = *state;
    bus_close(e->bus, 1000, on_closed, e);
    assert_true(loop_run_until(&e->loop, &e->closed, HARNESS_WAIT_MS));
    loop_done(&e->loop);
    harness_close(e->h);
    free(e);
    return 0;
}

static void start(struct env *e, const char *service)
{
    char program[700];
    snprintf(program, sizeof program, "%s/redoubt-%s", e->bin, service);
    harness_run(e->h, service, 0, (const char *const[]){program, "-c", e->conf, NULL});
}

static void test_one_publishes_all(void **state)
{
    struct env *e = *state;
    /* Of all but the last: that has nobody yet, and what it holds waits. */
    for (size_t s = 0; s + 1 < SERVICES; s++)
        start(e, services[s]);
    read_until(e, (SERVICES - 1) * DEAD * ITEMS);
    for (int d = 0; d < DEAD; d++)
        assert_int_equal(e->times[SERVICES - 1][d][0], 0);
    start(e, services[SERVICES - 1]);
    read_until(e, SERVICES * DEAD * ITEMS);
    assert_int_equal(e->doubled, 0);
    /* Nothing is left to adopt. */
    char cmd[900];
    snprintf(cmd, sizeof cmd, "ls -d '%s'/data/*/[1-9]/outbox-* 2>/dev/null", harness_dir(e->h));
    assert_int_not_equal(system(cmd), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_one_publishes_all, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
