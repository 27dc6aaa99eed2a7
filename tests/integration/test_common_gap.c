/* test_common_gap.c - audit records that neither outbox nor bus takes: counted, and said in the trail by the first that gets through. */
#include "bus_kit.h"
#include "common/service.h"

#include <sys/stat.h>
#include <unistd.h>

#define OBSTACLES 40
#define E_(x)     REDOUBT__V1__##x

/* A service's voice, without the rest of it. */
struct voice {
    struct service s;
    struct service_desc desc;
    char dir[600];
    int durable, refused;
    bool closed;
    bool asked;
    int gaps, alerts, others;
    uint64_t next;
    bool more;
    char records[24], detail[600];
};

static void on_done(void *ctx, int status, const char *error)
{
    struct voice *v = ctx;
    (void)error;
    v->durable += status == 0;
    v->refused += status != 0;
}

static void obstacle(const struct voice *v, unsigned i, bool there)
{
    char path[700];
    snprintf(path, sizeof path, "%s/outbox-%08x.log", v->dir, i);
    if (there)
        assert_int_equal(mkdir(path, 0700), 0);
    else
        (void)rmdir(path);
}

static void voice_open(struct kit *k, struct voice *v, struct bus *bus)
{
    *v = (struct voice){.desc = {.name = "tester", .needs = SERVICE_OUTBOX}};
    v->s = (struct service){.desc = &v->desc, .instance = "host-tester-0", .bus = bus};
    snprintf(v->s.boot_id, sizeof v->s.boot_id, "0123456789abcdef");
    snprintf(v->dir, sizeof v->dir, "%s/outbox-%d", harness_dir(k->h), k->open);
    assert_int_equal(mkdir(v->dir, 0700), 0);
}

static void say(struct voice *v, int audit_class)
{
    PB(AuditRecord) r = PB_INIT(AUDIT_RECORD);
    r.audit_class = (Redoubt__V1__AuditClass)audit_class;
    r.action = (char *)"test.said";
    service_audit(&v->s, &r, on_done, v);
}

static void on_next(void *ctx, enum bus_status st, const struct bus_msg *m)
{
    struct voice *v = ctx;
    v->asked = true;
    v->more = st == BUS_OK && m;
    if (!v->more)
        return;
    v->next = m->stream_seq + 1;
    bool many = m->type && strcmp(m->type, "redoubt.v1.AuditBatch") == 0;
    PB(AuditRecord) *r = many ? NULL : wire_unpack(PB_DESC(audit_record), m->data, m->len, NULL);
    if (r && r->audit_class == E_(AUDIT_CLASS__AUDIT_CLASS_GAP)) {
        v->gaps++;
        assert_string_equal(r->action, "audit.gap");
        assert_string_equal(r->fields[0]->key, "records");
        snprintf(v->records, sizeof v->records, "%s", r->fields[0]->value);
        snprintf(v->detail, sizeof v->detail, "%s", r->detail);
    } else {
        v->others++;
    }
    wire_free(r);
}

/* Counts what is on the stream. */
static void count(struct kit *k, struct voice *v, struct kit_bus *bus)
{
    v->gaps = v->others = 0;
    v->next = 1;
    do {
        v->asked = false;
        bus_next(bus->b, STREAM_AUDIT, SUBJECT_AUDIT ">", v->next, 5000, on_next, v);
        KIT_WAIT(k, v->asked);
    } while (v->more);
}

static void on_closed(void *ctx)
{
    ((struct voice *)ctx)->closed = true;
}

static struct outbox *box(struct kit *k, const char *dir, struct bus *bus)
{
    struct err e = {""};
    struct outbox *b = outbox_open(&k->loop, &(struct outbox_opts){.dir = dir, .bus = bus}, &e);
    if (!b)
        fail_msg("outbox_open: %s", e.text);
    return b;
}

/* No disk and no bus: they are counted. The disk comes back: what is said next brings the gap with it. Strict records are no gap. */
static void test_nowhere_and_back(void **state)
{
    struct kit *k = *state;
    struct kit_bus bus;
    struct voice v;
    harness_start(k->nats);
    kit_open_up(k, &bus);
    voice_open(k, &v, NULL);
    v.s.outbox = box(k, v.dir, bus.b);
    for (unsigned i = 0; i < OBSTACLES; i++)
        obstacle(&v, i, true);
    for (int i = 0; i < 5; i++)
        say(&v, E_(AUDIT_CLASS__AUDIT_CLASS_CONTINUITY));
    say(&v, E_(AUDIT_CLASS__AUDIT_CLASS_STRICT));
    KIT_WAIT(k, v.refused == 6);
    assert_int_equal(v.s.gap.lost, 5);
    assert_false(v.s.gap.saying);
    PB(AuditRecord) r[7];
    PB(AuditRecord) * list[7];
    for (int i = 0; i < 7; i++) {
        r[i] = (PB(AuditRecord))PB_INIT(AUDIT_RECORD);
        r[i].action = (char *)"test.said";
        list[i] = &r[i];
    }
    service_audit_batch(&v.s, list, 7, false, on_done, &v);
    KIT_WAIT(k, v.refused == 7);
    assert_int_equal(v.s.gap.lost, 12);
    for (unsigned i = 0; i < OBSTACLES; i++)
        obstacle(&v, i, false);
    for (int said = 0; v.durable == 0; said++) { /* the outbox tries its disk again by itself, in a while */
        int before = v.refused + v.durable;
        say(&v, E_(AUDIT_CLASS__AUDIT_CLASS_STRICT));
        KIT_WAIT(k, v.refused + v.durable > before);
    }
    KIT_WAIT(k, v.s.gap.lost == 0 && !v.s.gap.saying);
    KIT_WAIT(k, outbox_backlog(v.s.outbox) == 0);
    count(k, &v, &bus);
    assert_int_equal(v.gaps, 1);
    assert_string_equal(v.records, "12");
    assert_non_null(strstr(v.detail, "12 audit records of tester from 2"));
    assert_int_equal(v.others, 1);
    /* Once is enough. */
    say(&v, E_(AUDIT_CLASS__AUDIT_CLASS_CONTINUITY));
    KIT_WAIT(k, v.durable == 2 && outbox_backlog(v.s.outbox) == 0);
    count(k, &v, &bus);
    assert_int_equal(v.gaps, 1);
    assert_int_equal(v.others, 2);
    outbox_close(v.s.outbox, 1000, on_closed, &v);
    KIT_WAIT(k, v.closed);
    kit_close(&bus);
}

/* No disk, and the bus takes them by itself: nothing is missing. When the bus has gone as well, what it had not yet taken is. */
static void test_by_the_bus_alone(void **state)
{
    struct kit *k = *state;
    struct kit_bus bus, own;
    struct voice v;
    harness_start(k->nats);
    kit_open_up(k, &bus);
    kit_open(k, &own, (struct bus_opts){0});
    KIT_WAIT(k, own.ups == 1);
    voice_open(k, &v, own.b);
    v.s.outbox = box(k, v.dir, NULL);
    for (unsigned i = 0; i < OBSTACLES; i++)
        obstacle(&v, i, true);
    for (int i = 0; i < 3; i++)
        say(&v, E_(AUDIT_CLASS__AUDIT_CLASS_CONTINUITY));
    do
        count(k, &v, &bus);
    while (v.others < 3);
    assert_int_equal(v.others, 3);
    assert_int_equal(v.s.gap.lost, 0);
    harness_kill(k->nats);
    KIT_WAIT(k, own.downs > 0);
    for (int i = 0; i < 4; i++)
        say(&v, E_(AUDIT_CLASS__AUDIT_CLASS_CONTINUITY));
    KIT_WAIT(k, v.refused == 7);
    assert_int_equal(v.s.gap.lost, 0); /* it may still take them */
    kit_close(&own);
    assert_int_equal(v.s.gap.lost, 4);
    assert_string_equal(v.s.gap.why, bus_status_text(BUS_CLOSED));
    /* A new connection: the gap is said by it as soon as one gets through. */
    harness_start(k->nats);
    kit_open(k, &own, (struct bus_opts){0});
    KIT_WAIT(k, own.ups == 1);
    v.s.bus = own.b;
    say(&v, E_(AUDIT_CLASS__AUDIT_CLASS_CONTINUITY));
    KIT_WAIT(k, v.s.gap.lost == 0);
    KIT_WAIT(k, bus.ups == 2);
    count(k, &v, &bus);
    assert_int_equal(v.gaps, 1);
    assert_string_equal(v.records, "4");
    outbox_close(v.s.outbox, 1000, on_closed, &v);
    KIT_WAIT(k, v.closed);
    kit_close(&own);
    kit_close(&bus);
}

/* The count, by itself. */
static void test_count(void **state)
{
    (void)state;
    struct notify_gap g = {0};
    struct notify_gap_text text;
    PB(AuditRecord) r;
    assert_false(notify_gap_due(&g));
    notify_gap_lost(&g, 3, 1000, "disk");
    notify_gap_lost(&g, 1, 2000, "bus");
    assert_true(notify_gap_due(&g));
    assert_false(notify_gap_due(&g));
    notify_gap_record(&g, "guard", &text, &r);
    assert_string_equal(text.lost, "4");
    assert_string_equal(text.from, "1000");
    assert_string_equal(text.to, "2000");
    assert_non_null(strstr(r.detail, "4 audit records of guard"));
    notify_gap_lost(&g, 2, 3000, "disk"); /* while its record is on its way */
    notify_gap_said(&g, 4, false);
    assert_int_equal(g.lost, 6);
    assert_true(notify_gap_due(&g));
    notify_gap_said(&g, 4, true);
    assert_int_equal(g.lost, 2);
    assert_true(notify_gap_due(&g));
    notify_gap_said(&g, 2, true);
    assert_false(notify_gap_due(&g));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_count),
        cmocka_unit_test_setup_teardown(test_nowhere_and_back, kit_setup, kit_teardown),
        cmocka_unit_test_setup_teardown(test_by_the_bus_alone, kit_setup, kit_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
