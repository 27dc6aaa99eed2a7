/* notify.c - what every service says: events on streams, audit records. Alerts: notify_alert.c. */
#include "common/clock.h"
#include "common/log.h"
#include "common/metric.h"
#include "common/notify_impl.h"
#include "common/service.h"
#include "common/subjects.h"
#include <assert.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

METRIC_DEFINE(audit_said, METRIC_COUNTER, "redoubt_audit_records_total", "Audit records written by this service.");
METRIC_DEFINE(not_durable, METRIC_COUNTER, "redoubt_outbox_refused_total",
              "Audit records that the outbox could not make durable; sent to the bus directly instead.");
METRIC_DEFINE(audit_lost, METRIC_COUNTER, "redoubt_audit_lost_total",
              "Audit records that could be put nowhere; a gap record says so.");
METRIC_DEFINE(invalid_out, METRIC_COUNTER, "redoubt_invalid_out_total",
              "Messages of our own that broke the contract: bugs.");

const char *service_new_id(struct service *s, char buf[static 48])
{
    static _Atomic uint64_t counter;
    snprintf(buf, 48, "%s-%" PRIu64, s->boot_id, atomic_fetch_add(&counter, 1) + 1);
    return buf;
}

void *notify_pack(const void *message, size_t *len)
{
    struct err e;
    void *data = wire_pack(message, len, &e);
    if (!data) {
        metric_add(&invalid_out, 1);
        log_error("own message is not valid", F_STR("type", wire_type(message)), F_STR("why", e.text));
    }
    return data;
}

static void ignore_stored(void *ctx, const struct bus_stored *r)
{
    (void)ctx;
    if (r->status == BUS_REFUSED)
        log_error("stream refused a message", F_STR("why", r->error));
}

void service_announce(struct service *s, const char *subject, const char *id, const void *message, bus_stored_cb cb,
                      void *ctx)
{
    char fresh[48];
    size_t len;
    void *data = notify_pack(message, &len);
    if (!data) {
        if (cb)
            cb(ctx, &(struct bus_stored){.status = BUS_REFUSED, .error = "own message is not valid"});
        return;
    }
    struct bus_out o = {.subject = subject,
                        .id = id ? id : service_new_id(s, fresh),
                        .type = wire_type(message),
                        .data = data,
                        .len = len};
    bus_store(s->bus, &o, 0, cb ? cb : ignore_stored, ctx);
    free(data);
}

/* One message on its way into the outbox; kept packed so that it can go to the bus directly if the disk fails. */
struct durable {
    struct service *s;
    outbox_cb done;
    void *ctx;
    const char *type;
    bool direct;      /* if the outbox refuses, try the bus by itself */
    uint64_t records; /* of the trail, that are missing if it goes nowhere */
    uint64_t gap;     /* it is a gap's record, of so many */
    int64_t at_unix_ms;
    char id[72];
    char subject[SUBJECT_MAX_LEN];
    size_t len;
    unsigned char data[];
};
#define DIRECT_MS 60000

static void say_gap(struct service *s);

/* It is where it must be, or nowhere. */
static void durable_end(struct durable *d, bool through, const char *why)
{
    struct service *s = d->s;
    if (d->gap)
        notify_gap_said(&s->gap, d->gap, through);
    if (!through && d->records) {
        metric_add(&audit_lost, (int64_t)d->records);
        notify_gap_lost(&s->gap, d->records, d->at_unix_ms, why);
    }
    free(d);
    if (through)
        say_gap(s);
}

static void direct_done(void *ctx, const struct bus_stored *r)
{
    durable_end(ctx, r->status == BUS_OK, r->error && *r->error ? r->error : bus_status_text(r->status));
}

static void durable_done(void *ctx, int status, const char *error)
{
    struct durable *d = ctx;
    if (d->done)
        d->done(d->ctx, status, error);
    if (status == 0) {
        durable_end(d, true, NULL);
        return;
    }
    metric_add(&not_durable, 1);
    log_error("outbox refused a message", F_STR("subject", d->subject), F_STR("id", d->id), F_STR("why", error));
    if (d->direct && d->s->bus) {
        struct bus_out o = {.subject = d->subject, .id = d->id, .type = d->type, .data = d->data, .len = d->len};
        bus_store(d->s->bus, &o, DIRECT_MS, direct_done, d);
    } else {
        durable_end(d, false, error);
    }
}

struct refused {
    outbox_cb done;
    void *ctx;
};

static void refused_later(void *ctx)
{
    struct refused r = *(struct refused *)ctx;
    free(ctx);
    r.done(r.ctx, -1, "the record itself is not valid");
}

/* The service ends, and its outbox has ended before: the bus is all that is left. */
static void too_late(void *ctx)
{
    durable_done(ctx, -1, "the service ends");
}

/* NULL: not valid, or no memory; done is told. */
static struct durable *say_durably(struct service *s, const char *subject, const char *id, const void *message,
                                   bool direct, outbox_cb done, void *ctx)
{
    assert((s->desc->needs & SERVICE_OUTBOX) && "a service that raises alerts or audits asks for SERVICE_OUTBOX");
    size_t len;
    void *data = notify_pack(message, &len);
    struct durable *d = data ? malloc(sizeof *d + len) : NULL;
    if (!d) {
        free(data);
        struct refused *r = done ? malloc(sizeof *r) : NULL;
        if (r) {
            *r = (struct refused){done, ctx};
            loop_defer(&s->loop, refused_later, r);
        }
        return NULL;
    }
    *d = (struct durable){.s = s,
                          .done = done,
                          .ctx = ctx,
                          .type = wire_type(message),
                          .direct = direct,
                          .at_unix_ms = clock_wall_ms(),
                          .len = len};
    snprintf(d->id, sizeof d->id, "%s", id);
    snprintf(d->subject, sizeof d->subject, "%s", subject);
    memcpy(d->data, data, len);
    free(data);
    struct outbox_item i = {.subject = d->subject, .id = d->id, .type = d->type, .data = d->data, .len = len};
    if (s->outbox)
        outbox_append(s->outbox, &i, durable_done, d); /* calls back later, never from inside */
    else
        loop_defer(&s->loop, too_late, d);
    return d;
}

static bool given(const char *text)
{
    return text && *text;
}

static void fill_record(struct service *s, PB(AuditRecord) * r, char id[static 48])
{
    if (!given(r->id))
        r->id = (char *)service_new_id(s, id);
    r->service = (char *)s->desc->name;
    r->instance = (char *)s->instance;
    if (!given(r->actor))
        r->actor = (char *)s->desc->name;
    if (r->at_unix_ms == 0)
        r->at_unix_ms = clock_wall_ms();
    r->at_mono_ns = clock_mono_ns();
    if (r->audit_class == REDOUBT__V1__AUDIT_CLASS__AUDIT_CLASS_UNSPECIFIED)
        r->audit_class = REDOUBT__V1__AUDIT_CLASS__AUDIT_CLASS_CONTINUITY;
    metric_add(&audit_said, 1);
}

/* A continuity record that goes nowhere leaves a gap, which is said. */
static void may_be_missed(struct service *s, struct durable *d, uint64_t records)
{
    if (d)
        d->records = records;
    else
        notify_gap_lost(&s->gap, records, clock_wall_ms(), "the record itself is not valid");
}

void service_audit(struct service *s, PB(AuditRecord) * r, outbox_cb done, void *ctx)
{
    char id[48], subject[SUBJECT_MAX_LEN];
    fill_record(s, r, id);
    snprintf(subject, sizeof subject, "%s%s", SUBJECT_AUDIT, s->desc->name);
    bool strict = r->audit_class == REDOUBT__V1__AUDIT_CLASS__AUDIT_CLASS_STRICT;
    struct durable *d = say_durably(s, subject, r->id, r, !strict, done, ctx);
    if (!strict)
        may_be_missed(s, d, 1);
}

/* The gap's own record, and people are told. */
static void say_gap(struct service *s)
{
    char id[48], subject[SUBJECT_MAX_LEN], key[64];
    if (!s->outbox || !notify_gap_due(&s->gap)) /* no outbox: the service ends */
        return;
    PB(AuditRecord) r;
    struct notify_gap_text text;
    notify_gap_record(&s->gap, s->desc->name, &text, &r);
    fill_record(s, &r, id);
    snprintf(subject, sizeof subject, "%s%s", SUBJECT_AUDIT, s->desc->name);
    struct durable *d = say_durably(s, subject, r.id, &r, true, NULL, NULL);
    if (!d) {
        notify_gap_said(&s->gap, 0, false);
        return;
    }
    d->gap = s->gap.lost;
    snprintf(key, sizeof key, "audit/gap/%s", s->desc->name);
    PB(Alert) a = PB_INIT(ALERT);
    a.dedup_key = key;
    a.severity = REDOUBT__V1__SEVERITY__SEVERITY_HIGH;
    a.summary = (char *)"Audit records are missing: they could be put nowhere";
    a.detail = text.detail;
    service_alert(s, &a);
}

void service_audit_batch(struct service *s, PB(AuditRecord) * *records, size_t n, bool strict, outbox_cb done,
                         void *ctx)
{
    char ids[100][48], id[48], subject[SUBJECT_MAX_LEN];
    PB(AuditBatch) b = REDOUBT__V1__AUDIT_BATCH__INIT;
    assert(n > 0 && n <= sizeof ids / sizeof ids[0]);
    for (size_t i = 0; i < n; i++)
        fill_record(s, records[i], ids[i]);
    b.n_records = n;
    b.records = records;
    snprintf(subject, sizeof subject, "%s%s", SUBJECT_AUDIT, s->desc->name);
    struct durable *d = say_durably(s, subject, service_new_id(s, id), &b, !strict, done, ctx);
    if (!strict)
        may_be_missed(s, d, n);
}
