/* test_audit_kill.c - redoubt-audit is killed again and again while records pour in: what lies there verifies each time, and in the end each record
 * is in the trail once. */
#include "../harness.h"
#include "audit/audit_verify.h"
#include "common/bus.h"
#include "common/clock.h"
#include "common/subjects.h"
#include "common/wire.h"
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

#define RECORDS   6000
#define BATCH     20 /* every second message is one of so many */
#define KILLS     16
#define IN_FLIGHT 400
#define E_(x)     REDOUBT__V1__##x

struct env {
    struct harness *h;
    struct harness_proc *nats, *audit;
    char dir[600];
    struct loop loop;
    struct bus *bus;
    bool bus_up, closed;
    int sent, may_send; /* records */
    size_t n_messages, stored;
    uint64_t rng, grown_to;
    unsigned char times[RECORDS];
    size_t records;
};

static uint64_t draw(struct env *e, uint64_t below)
{
    e->rng ^= e->rng << 13;
    e->rng ^= e->rng >> 7;
    e->rng ^= e->rng << 17;
    return (e->rng >> 11) % below;
}

static void on_up(void *ctx)
{
    ((struct env *)ctx)->bus_up = true;
}

static void on_down(void *ctx)
{
    ((struct env *)ctx)->bus_up = false;
}

static void on_closed(void *ctx)
{
    ((struct env *)ctx)->closed = true;
}

static void on_stored(void *ctx, const struct bus_stored *r)
{
    assert_int_equal(r->status, BUS_OK);
    ((struct env *)ctx)->stored++;
}

static void store(struct env *e, const char *id, void *message)
{
    size_t len;
    struct err er;
    void *data = wire_pack(message, &len, &er);
    if (!data)
        fail_msg("%s", er.text);
    struct bus_out o = {
        .subject = SUBJECT_AUDIT "test", .id = id, .type = wire_type(message), .data = data, .len = len};
    e->n_messages++;
    bus_store(e->bus, &o, 0, on_stored, e);
    free(data);
}

static void fill(PB(AuditRecord) * r, char id[static 32], int i)
{
    *r = (PB(AuditRecord))E_(AUDIT_RECORD__INIT);
    snprintf(id, 32, "record-%d", i);
    r->id = id;
    r->at_unix_ms = clock_wall_ms();
    r->service = (char *)"test";
    r->audit_class = i % 3 ? E_(AUDIT_CLASS__AUDIT_CLASS_CONTINUITY) : E_(AUDIT_CLASS__AUDIT_CLASS_STRICT);
    r->action = (char *)"test.made";
    r->detail = (char *)"written while the service that keeps it is killed at any moment";
}

/* Keeps the stream ahead of the service. */
static void pour(struct env *e)
{
    while (e->bus_up && e->sent < e->may_send && e->n_messages - e->stored < IN_FLIGHT) {
        PB(AuditRecord) r[BATCH], *list[BATCH];
        char ids[BATCH][32], id[32];
        int n = e->n_messages % 2 ? BATCH : 1;
        if (n > e->may_send - e->sent)
            n = e->may_send - e->sent;
        for (int i = 0; i < n; i++) {
            fill(&r[i], ids[i], e->sent++);
            list[i] = &r[i];
        }
        if (n == 1) {
            store(e, ids[0], &r[0]);
            continue;
        }
        PB(AuditBatch) b = E_(AUDIT_BATCH__INIT);
        b.n_records = (size_t)n;
        b.records = list;
        snprintf(id, sizeof id, "batch-%zu", e->n_messages);
        store(e, id, &b);
    }
}

static void wait_for(struct env *e, bool (*holds)(struct env *e), const char *what)
{
    static const bool never = false;
    int64_t end_ms = clock_mono_ms() + 6 * HARNESS_WAIT_MS;
    while (!holds(e)) {
        if (clock_mono_ms() > end_ms)
            fail_msg("waited in vain for %s: %d sent, %zu in the trail", what, e->sent, e->records);
        pour(e);
        loop_run_until(&e->loop, &never, 3);
    }
}

static bool is_up(struct env *e)
{
    return e->bus_up;
}

static uint64_t bytes_of(const struct env *e)
{
    uint64_t sum = 0, first;
    DIR *d = opendir(e->dir);
    struct stat st;
    for (struct dirent *f; d && (f = readdir(d));)
        if (audit_segment_parse(f->d_name, &first) && fstatat(dirfd(d), f->d_name, &st, 0) == 0)
            sum += (uint64_t)st.st_size;
    if (d)
        closedir(d);
    return sum;
}

static bool has_grown(struct env *e)
{
    return bytes_of(e) >= e->grown_to;
}

static void on_visit(void *ctx, const struct audit_record *rec, const char *file, uint64_t offset)
{
    struct env *e = ctx;
    (void)file;
    (void)offset;
    PB(AuditRecord) *r = wire_unpack(PB_DESC(audit_record), rec->stored, rec->len, NULL);
    int i;
    assert_non_null(r);
    if (sscanf(r->id, "record-%d", &i) == 1 && i >= 0 && i < RECORDS) {
        e->records += e->times[i] == 0;
        e->times[i]++;
    }
    wire_free(r);
}

static int look(struct env *e, struct audit_report *r)
{
    struct err er = {""};
    memset(e->times, 0, sizeof e->times);
    e->records = 0;
    return audit_walk(e->dir, NULL, r, on_visit, e, &er);
}

static bool has_all(struct env *e)
{
    struct audit_report *r = calloc(1, sizeof *r);
    assert_non_null(r);
    (void)look(e, r);
    free(r);
    return e->records == RECORDS;
}

static int setup(void **state)
{
    struct env *e = calloc(1, sizeof *e);
    assert_non_null(e);
    *state = e;
    assert_true(sodium_init() >= 0);
    e->rng = 88172645463325252u;
    e->h = harness_open();
    e->nats = harness_nats(e->h, "nats", NULL);
    char self[512], program[600], conf[600];
    snprintf(conf, sizeof conf, "%s/redoubt.yaml", harness_dir(e->h));
    snprintf(e->dir, sizeof e->dir, "%s/data/audit/0", harness_dir(e->h));
    FILE *f = fopen(conf, "w");
    assert_non_null(f);
    fprintf(f, "nats: { url: \"%s\" }\ndata_dir: \"%s/data\"\naudit: { segment: 32KiB, checkpoint: 100ms }\n",
            e->nats->url, harness_dir(e->h));
    fclose(f);
    assert_int_equal(loop_init(&e->loop), 0);
    struct bus_opts bo = {.url = e->nats->url,
                          .name = "test",
                          .inbox_prefix = "_INBOX_test",
                          .on_up = on_up,
                          .on_down = on_down,
                          .ctx = e};
    e->bus = bus_open(&e->loop, &bo, NULL);
    assert_non_null(e->bus);
    wait_for(e, is_up, "the bus");
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    assert_true(n > 0);
    self[n] = 0;
    for (int i = 0; i < 3; i++)
        *strrchr(self, '/') = 0;
    snprintf(program, sizeof program, "%s/bin/redoubt-audit", self);
    e->audit = harness_run(e->h, "audit", 0, (const char *const[]){program, "-c", conf, NULL});
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

static void test_killed_under_load(void **state)
{
    struct env *e = *state;
    struct audit_report *r = calloc(1, sizeof *r);
    assert_non_null(r);
    uint64_t last = 0;
    for (int i = 0; i < KILLS; i++) {
        /* So much more is written: a moment that no clock decides, and that falls anywhere in a write. */
        e->may_send = RECORDS / KILLS * (i + 1); /* more than what is waited for */
        e->grown_to = bytes_of(e) + 1 + draw(e, 40000);
        wait_for(e, has_grown, "records in the trail");
        harness_kill(e->audit);
        if (look(e, r))
            fail_msg("kill %d: %s at byte %" PRIu64 ": %s", i, r->problems[0].file, r->problems[0].offset,
                     r->problems[0].what);
        assert_true(r->last_seq >= last);
        last = r->last_seq;
        harness_start(e->audit);
    }
    e->may_send = RECORDS;
    wait_for(e, has_all, "every record");
    assert_int_equal(e->sent, RECORDS);
    harness_kill(e->audit);
    assert_int_equal(look(e, r), 0);
    for (int i = 0; i < RECORDS; i++)
        if (e->times[i] != 1)
            fail_msg("record %d is in the trail %d times", i, e->times[i]);
    free(r);
    char cmd[700]; /* no crash of ours is taken for tampering */
    snprintf(cmd, sizeof cmd, "! ls -d '%s'/set-aside-* 2>/dev/null", e->dir);
    assert_int_equal(system(cmd), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_killed_under_load, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
