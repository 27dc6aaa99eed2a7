/* test_audit_service.c - redoubt-audit itself on a real NATS: every record once, through kills, repeats and nonsense. */
#include "../harness.h"
#include "audit/audit_verify.h"
#include "common/bus.h"
#include "common/clock.h"
#include "common/subjects.h"
#include "common/wire.h"
#include <setjmp.h>
#include <signal.h>
#include <sodium.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define RECORDS   400
#define BATCH_MAX 100
#define E_(x)     REDOUBT__V1__##x

struct env {
    struct harness *h;
    struct harness_proc *nats, *audit;
    char dir[600];
    struct loop loop;
    struct bus *bus;
    bool bus_up, closed;
    size_t stored, want_stored;
    unsigned times[RECORDS]; /* in the trail */
    size_t gaps, records, disorder;
    int last;
    size_t want;
    size_t n_dead, n_alerts;
    bool replied;
    size_t starts;
    char status[1024];
};

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
static void on_dead(void *ctx, const struct bus_msg *m)
{
    (void)m;
    ((struct env *)ctx)->n_dead++;
}
static void on_alert(void *ctx, const struct bus_msg *m)
{
    (void)m;
    ((struct env *)ctx)->n_alerts++;
}

static bool wait_for(struct env *e, bool (*holds)(struct env *e))
{
    static const bool never = false;
    int64_t end_ms = clock_mono_ms() + 3 * HARNESS_WAIT_MS;
    while (!holds(e)) {
        if (clock_mono_ms() > end_ms)
            return false;
        loop_run_until(&e->loop, &never, 10);
    }
    return true;
}
#define UNTIL(e, holds)                                                                                              \
    do {                                                                                                             \
        if (!wait_for(e, holds))                                                                                     \
            fail_msg("waited in vain for " #holds ": %zu records, %zu gaps", e->records, e->gaps);                   \
    } while (0)

static bool is_up(struct env *e)
{
    return e->bus_up;
}

static int setup(void **state)
{
    struct env *e = calloc(1, sizeof *e);
    assert_non_null(e);
    *state = e;
    assert_true(sodium_init() >= 0);
    e->h = harness_open();
    e->nats = harness_nats(e->h, "nats", NULL);
    char self[512], program[600], conf[600];
    snprintf(conf, sizeof conf, "%s/redoubt.yaml", harness_dir(e->h));
    snprintf(e->dir, sizeof e->dir, "%s/data/audit/0", harness_dir(e->h));
    FILE *f = fopen(conf, "w");
    assert_non_null(f);
    fprintf(f, "nats: { url: \"%s\" }\ndata_dir: \"%s/data\"\naudit: { segment: 64KiB }\n", e->nats->url,
            harness_dir(e->h));
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
    bus_subscribe(e->bus, SUBJECT_DEAD ">", NULL, on_dead, e);
    bus_subscribe(e->bus, SUBJECT_ALERT, NULL, on_alert, e);
    UNTIL(e, is_up);
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    assert_true(n > 0);
    self[n] = 0;
    for (int i = 0; i < 3; i++)
        *strrchr(self, '/') = 0;
    snprintf(program, sizeof program, "%s/bin/redoubt-audit", self);
    e->starts = 1;
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

static void on_stored(void *ctx, const struct bus_stored *r)
{
    struct env *e = ctx;
    assert_int_equal(r->status, BUS_OK);
    e->stored++;
}

static void publish(struct env *e, int i)
{
    char id[32];
    PB(AuditRecord) r = E_(AUDIT_RECORD__INIT);
    snprintf(id, sizeof id, "record-%d", i);
    r.id = id;
    r.at_unix_ms = clock_wall_ms();
    r.service = (char *)"test";
    r.audit_class = E_(AUDIT_CLASS__AUDIT_CLASS_CONTINUITY);
    r.action = (char *)"test.made";
    r.detail = (char *)"a record of some length, so that segments are filled and another one is begun now and then";
    size_t len;
    void *data = wire_pack(&r, &len, NULL);
    assert_non_null(data);
    struct bus_out o = {.subject = SUBJECT_AUDIT "test", .id = id, .type = wire_type(&r), .data = data, .len = len};
    e->want_stored++;
    bus_store(e->bus, &o, 0, on_stored, e);
    free(data);
}

static void publish_noise(struct env *e, const char *id, const void *data, size_t len)
{
    struct bus_out o = {
        .subject = SUBJECT_AUDIT "test", .id = id, .type = "redoubt.v1.AuditRecord", .data = data, .len = len};
    e->want_stored++;
    bus_store(e->bus, &o, 0, on_stored, e);
}

/* As one message: n records from `first` on, and `again` is in it twice. */
static void publish_batch(struct env *e, const char *id, int first, int n, int again)
{
    PB(AuditRecord) records[BATCH_MAX];
    PB(AuditRecord) * list[BATCH_MAX];
    char ids[BATCH_MAX][32];
    PB(AuditBatch) b = E_(AUDIT_BATCH__INIT);
    assert_true(n + 1 <= BATCH_MAX);
    for (int i = 0; i <= n; i++) {
        records[i] = (PB(AuditRecord))E_(AUDIT_RECORD__INIT);
        snprintf(ids[i], sizeof ids[i], "record-%d", i < n ? first + i : again);
        records[i].id = ids[i];
        records[i].at_unix_ms = clock_wall_ms();
        records[i].service = (char *)"test";
        records[i].audit_class = E_(AUDIT_CLASS__AUDIT_CLASS_STRICT);
        records[i].action = (char *)"test.made";
        list[i] = &records[i];
    }
    b.n_records = (size_t)n + 1;
    b.records = list;
    size_t len;
    void *data = wire_pack(&b, &len, NULL);
    assert_non_null(data);
    struct bus_out o = {.subject = SUBJECT_AUDIT "test", .id = id, .type = wire_type(&b), .data = data, .len = len};
    e->want_stored++;
    bus_store(e->bus, &o, 0, on_stored, e);
    free(data);
}

static bool all_stored(struct env *e)
{
    return e->stored == e->want_stored;
}

/* ---- the trail ---- */

static void on_visit(void *ctx, const struct audit_record *rec, const char *file, uint64_t offset)
{
    struct env *e = ctx;
    (void)file;
    (void)offset;
    PB(AuditRecord) *r = wire_unpack(PB_DESC(audit_record), rec->stored, rec->len, NULL);
    assert_non_null(r);
    int i;
    e->records++;
    if (r->audit_class == E_(AUDIT_CLASS__AUDIT_CLASS_GAP))
        e->gaps++;
    else if (sscanf(r->id, "record-%d", &i) == 1 && i >= 0 && i < RECORDS)
        e->disorder += i / 50 == e->last / 50 && i < e->last, e->last = i, e->times[i]++;
    wire_free(r);
}

/* While it is written the end may be torn for a moment: only a problem counts. */
static int look(struct env *e)
{
    struct audit_report *r = calloc(1, sizeof *r);
    struct err er = {""};
    assert_non_null(r);
    memset(e->times, 0, sizeof e->times);
    e->records = e->gaps = e->disorder = 0;
    e->last = 0;
    int rc = audit_walk(e->dir, NULL, r, on_visit, e, &er);
    free(r);
    return rc;
}

static bool whole(struct env *e)
{
    if (access(e->dir, R_OK) || look(e) < 0)
        return false;
    size_t n = 0;
    for (size_t i = 0; i < RECORDS; i++)
        n += e->times[i] > 0;
    return n == e->want;
}

/* As often as it was begun: before that SIGTERM would end it the short way. */
static bool said_started(struct env *e)
{
    char path[600], line[2048];
    size_t said = 0;
    snprintf(path, sizeof path, "%s/audit.log", harness_dir(e->h));
    FILE *f = fopen(path, "r");
    while (f && fgets(line, sizeof line, f))
        said += strstr(line, "event=started") != NULL;
    if (f)
        fclose(f);
    return said == e->starts;
}

static void check_ended(struct env *e, size_t want)
{
    e->want = want;
    UNTIL(e, whole);
    UNTIL(e, said_started);
    assert_int_equal(harness_stop(e->audit), 0);
    assert_int_equal(look(e), 0);
    for (size_t i = 0; i < want; i++)
        assert_int_equal(e->times[i], 1);
}

static void test_every_record_once(void **state)
{
    struct env *e = *state;
    for (int i = 0; i < RECORDS; i++)
        publish(e, i);
    UNTIL(e, all_stored);
    check_ended(e, RECORDS);
}

static void test_kills(void **state)
{
    struct env *e = *state;
    for (int round = 0; round < 8; round++) {
        for (int i = 0; i < RECORDS / 8; i++)
            publish(e, round * (RECORDS / 8) + i);
        if (round % 2) /* killed while it reads, or with everything still on its way */
            UNTIL(e, all_stored);
        bool bus = round == 5;
        if (!bus) /* each of its lives has begun: kills before that would prove nothing */
            UNTIL(e, said_started);
        harness_kill(bus ? e->nats : e->audit);
        harness_start(bus ? e->nats : e->audit);
        e->starts += bus ? 0 : 1;
    }
    UNTIL(e, all_stored);
    check_ended(e, RECORDS);
}

/* Batches of 50, each also with a record of the one before, kills between: each record once, and those of a batch in their order. */
static void test_batches(void **state)
{
    struct env *e = *state;
    char id[32];
    for (int i = 0; i < RECORDS; i += 50) {
        snprintf(id, sizeof id, "batch-%d", i);
        publish_batch(e, id, i, 50, i > 0 ? i - 1 : 0);
        if (i % 100 == 50) {
            UNTIL(e, all_stored);
            UNTIL(e, said_started);
            harness_kill(e->audit);
            harness_start(e->audit);
            e->starts++;
        }
    }
    UNTIL(e, all_stored);
    check_ended(e, RECORDS);
    assert_int_equal(e->disorder, 0);
    assert_int_equal(e->gaps, 0);
}

static bool two_gaps(struct env *e)
{
    (void)look(e);
    return e->gaps == 2 && e->n_dead >= 2;
}

static void on_status(void *ctx, enum bus_status st, const struct bus_msg *m)
{
    struct env *e = ctx;
    assert_int_equal(st, BUS_OK);
    PB(CommandReply) *r = wire_unpack(PB_DESC(command_reply), m->data, m->len, NULL);
    assert_non_null(r);
    snprintf(e->status, sizeof e->status, "%.*s", (int)r->payload.len, (const char *)r->payload.data);
    wire_free(r);
    e->replied = true;
}

static void test_nonsense(void **state)
{
    struct env *e = *state;
    publish(e, 0);
    publish_noise(e, "noise-1", "\xff\xff\xff\xff", 4);
    publish_noise(e, "noise-2", "", 0);
    publish(e, 1);
    UNTIL(e, all_stored);
    UNTIL(e, two_gaps);
    struct bus_out o = {.subject = SUBJECT_CMD "audit.status", .data = "", .len = 0};
    bus_request(e->bus, &o, 5000, on_status, e);
    assert_true(loop_run_until(&e->loop, &e->replied, HARNESS_WAIT_MS));
    assert_non_null(strstr(e->status, "\"size\":4"));
    assert_non_null(strstr(e->status, "\"chain\":\""));
    check_ended(e, 2);
    assert_int_equal(e->gaps, 2);
}

static bool has_the_last(struct env *e)
{
    return look(e) >= 0 && e->times[20] > 0;
}

static bool alerted(struct env *e)
{
    return e->n_alerts > 0;
}

/* The trail is changed while nobody writes it: at the next start it is set aside, and people are told. */
static void test_tampered(void **state)
{
    struct env *e = *state;
    for (int i = 0; i < 20; i++)
        publish(e, i);
    UNTIL(e, all_stored);
    check_ended(e, 20);
    char path[700], name[AUDIT_NAME_MAX];
    audit_segment_name(1, name);
    snprintf(path, sizeof path, "%s/%s", e->dir, name);
    FILE *f = fopen(path, "r+b");
    assert_non_null(f);
    fseek(f, AUDIT_HEADER_BYTES + 30, SEEK_SET);
    fputc('!', f);
    fclose(f);
    harness_start(e->audit);
    e->starts++;
    UNTIL(e, alerted);
    publish(e, 20);
    UNTIL(e, all_stored);
    UNTIL(
        e,
        has_the_last); /* others may come again: that they were acknowledged was perhaps still on its way when it ended */
    assert_int_equal(harness_stop(e->audit), 0);
    assert_int_equal(look(e), 0);
    assert_int_equal(e->times[20], 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_every_record_once, setup, teardown),
        cmocka_unit_test_setup_teardown(test_kills, setup, teardown),
        cmocka_unit_test_setup_teardown(test_batches, setup, teardown),
        cmocka_unit_test_setup_teardown(test_nonsense, setup, teardown),
        cmocka_unit_test_setup_teardown(test_tampered, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
