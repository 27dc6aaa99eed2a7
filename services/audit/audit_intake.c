/* audit_intake.c - takes records off the AUDIT stream and acknowledges them when they are durable in the trail. */
#include "audit/audit_impl.h"
#include "audit/audit_segments.h"
#include "common/log.h"
#include "common/metric.h"
#include "common/subjects.h"
#include <inttypes.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <uthash.h>

#define RETRY_MS   1000
#define PUT_OFF_MS 5000
#define NEVER_DEAD UINT64_MAX /* that the disk does not take it is no fault of a record */

METRIC_DEFINE(appended, METRIC_COUNTER, "redoubt_audit_appended_total", "Records that are durable in the trail.");
METRIC_DEFINE(duplicates, METRIC_COUNTER, "redoubt_audit_duplicates_total",
              "Records that were in the trail already.");
METRIC_DEFINE(gaps, METRIC_COUNTER, "redoubt_audit_gaps_total",
              "Gap records: what came and could not be read as a record.");
METRIC_DEFINE(failures, METRIC_COUNTER, "redoubt_audit_write_failures_total",
              "Records that could not be made durable at once.");
METRIC_DEFINE(put_off, METRIC_COUNTER, "redoubt_audit_put_off_total",
              "Times that a message was left on the stream, since the disk has room for strict records only.");
METRIC_DEFINE(written_after_ms, METRIC_GAUGE, "redoubt_audit_written_after_ms",
              "From the newest record's time of writing to its place in the trail.");
METRIC_DEFINE(chain_size, METRIC_GAUGE, "redoubt_audit_chain_records", "Records in the chain.");

/* One message between the stream and the disk: a record, or a batch of them. */
struct pending {
    struct audit *a;
    struct bus_hold *hold; /* NULL: read where it stands */
    size_t left;           /* of its records that are not durable yet */
    bool
        failed; /* one of them could not be made durable: the message comes again, and those that were are known by their ids */
    bool dead; /* goes to the dead letters, with its trace in the trail */
    char why[ERR_TEXT_MAX];
};
struct audit_entry {
    struct pending *p;
    int64_t at_unix_ms;
    char id[80];
    UT_hash_handle hh;
};

/* Said when no disk takes it: until then the room's own alert tells of each step. */
static void tell_failing(struct audit *a, const char *why)
{
    if (a->failing == (why != NULL) || (why && a->room.step != AUDIT_ROOM_FULL))
        return;
    a->failing = why != NULL;
    char detail[ERR_TEXT_MAX + 64];
    snprintf(detail, sizeof detail, "%s: %s", a->s->replica.dir, why ? why : "records are durable again");
    audit_tell(a, "audit/trail", true, !why,
               why ? "The audit trail cannot be written" : "The audit trail is written again", detail);
}

static void look_for_lost(struct audit *a)
{
    struct audit_log_status st;
    audit_log_status(a->log, &st);
    if (st.lost_segments == a->lost)
        return;
    a->lost = st.lost_segments;
    log_error("a segment of the audit trail was deleted; the chain goes on in a new one",
              F_STR("dir", a->s->replica.dir), F_INT("segments", st.lost_segments));
    audit_tell(a, "audit/tampered", true, false, "A segment of the audit trail was deleted while it was written",
               a->s->replica.dir);
}

static void let_go(struct pending *p)
{
    if (!p->hold)
        p->a->past_failed |= p->failed; /* its message comes by itself, some time */
    else if (p->failed)
        bus_nak(p->hold, RETRY_MS, p->why);
    else if (p->dead)
        bus_dead(p->hold, p->why);
    else
        bus_ack(p->hold);
    free(p);
}

static void on_refused(struct audit *a, const char *error)
{
    struct audit_log_status st;
    audit_log_status(a->log, &st);
    struct audit_room_event ev = {.kind = AUDIT_ROOM_REFUSED, .volume = st.in_second ? AUDIT_SECOND : AUDIT_FIRST};
    metric_add(&failures, 1);
    audit_room_moved(a, &ev, error);
    tell_failing(a, error);
}

static void on_appended(void *ctx, uint64_t seq, const char *error)
{
    struct audit_entry *x = ctx;
    struct pending *p = x->p;
    struct audit *a = p->a;
    if (seq == 0) {
        on_refused(a, error);
        p->failed = true;
        snprintf(p->why, sizeof p->why, "%s", error);
    } else {
        tell_failing(a, NULL);
        look_for_lost(a);
        audit_seen_add(&a->seen, x->id);
        metric_add(&appended, 1);
        metric_set(&chain_size, (int64_t)seq);
        if (x->at_unix_ms)
            metric_set(&written_after_ms, clock_wall_ms() - x->at_unix_ms);
    }
    HASH_DEL(a->flying, x);
    free(x);
    if (--p->left == 0)
        let_go(p);
}

/* False: no memory for it. The bytes are copied. */
static bool append(struct pending *p, const char *id, int64_t at_unix_ms, const void *data, size_t len)
{
    struct audit_entry *x = calloc(1, sizeof *x);
    if (!x)
        return false;
    x->p = p;
    x->at_unix_ms = at_unix_ms;
    snprintf(x->id, sizeof x->id, "%s", id);
    p->left++;
    HASH_ADD_STR(p->a->flying, id, x);
    audit_log_append(p->a->log, data, len, on_appended, x);
    return true;
}

/* What cannot be read as a record leaves a gap record: that something came, from where, and what its bytes hash to. */
static void *make_gap(struct service *s, const struct bus_msg *m, const char *id, const char *why, size_t *ret_len)
{
    unsigned char hash[32];
    char hex[65], bytes[24], detail[ERR_TEXT_MAX + 32];
    crypto_generichash(hash, sizeof hash, m->data, m->len, NULL, 0);
    sodium_bin2hex(hex, sizeof hex, hash, sizeof hash);
    snprintf(bytes, sizeof bytes, "%zu", m->len);
    snprintf(detail, sizeof detail, "a message is no audit record: %s", why);
    PB(Label) labels[] = {REDOUBT__V1__LABEL__INIT, REDOUBT__V1__LABEL__INIT, REDOUBT__V1__LABEL__INIT};
    PB(Label) * fields[] = {&labels[0], &labels[1], &labels[2]};
    labels[0].key = (char *)"origin";
    labels[0].value = (char *)m->subject;
    labels[1].key = (char *)"bytes";
    labels[1].value = bytes;
    labels[2].key = (char *)"blake2b256";
    labels[2].value = hex;
    PB(AuditRecord) r = REDOUBT__V1__AUDIT_RECORD__INIT;
    r.id = (char *)id;
    r.at_unix_ms = clock_wall_ms();
    r.at_mono_ns = clock_mono_ns();
    r.service = (char *)s->desc->name;
    r.instance = (char *)s->instance;
    r.audit_class = REDOUBT__V1__AUDIT_CLASS__AUDIT_CLASS_GAP;
    r.action = (char *)"audit.unreadable";
    r.actor = (char *)s->desc->name;
    r.outcome = REDOUBT__V1__AUDIT_OUTCOME__AUDIT_OUTCOME_FAILED;
    r.detail = detail;
    r.fields = fields;
    r.n_fields = sizeof fields / sizeof *fields;
    struct err e;
    void *data = wire_pack(&r, ret_len, &e);
    if (!data)
        log_error("own gap record is not valid", F_STR("why", e.text));
    return data;
}

static void append_gap(struct pending *p, const struct bus_msg *m, const char *id)
{
    size_t len;
    void *gap = make_gap(p->a->s, m, id, p->why, &len);
    metric_add(&gaps, gap != NULL);
    p->dead = true;
    if (gap && !append(p, id, 0, gap, len))
        p->failed = true;
    free(gap);
}

static void append_record(struct pending *p, const PB(AuditRecord) * r, const void *data, size_t len)
{
    struct audit_entry *same;
    HASH_FIND_STR(p->a->flying, r->id, same);
    if (same || audit_seen_has(&p->a->seen, r->id)) { /* if that one fails, its own message comes again */
        metric_add(&duplicates, 1);
    } else if (!append(p, r->id, r->at_unix_ms, data, len)) {
        p->failed = true;
        snprintf(p->why, sizeof p->why, "out of memory");
    }
}

/* Each record of a batch is one of the trail, in their order; some may be there already. */
static void append_batch(struct pending *p, const PB(AuditBatch) * b)
{
    for (size_t i = 0; i < b->n_records && !p->failed; i++) {
        struct err e = {"out of memory"};
        size_t len;
        void *data = wire_pack(b->records[i], &len, &e);
        if (data)
            append_record(p, b->records[i], data, len);
        p->failed = p->failed || !data;
        if (!data)
            snprintf(p->why, sizeof p->why, "%s", e.text);
        free(data);
    }
}

bool audit_intake_waits(const PB(AuditRecord) * r)
{
    return r->audit_class != REDOUBT__V1__AUDIT_CLASS__AUDIT_CLASS_STRICT &&
           r->audit_class != REDOUBT__V1__AUDIT_CLASS__AUDIT_CLASS_GAP;
}

/* While there is room for strict records only: a message without any stays on the stream. */
static bool may_wait(const struct audit *a, bool many, const void *message)
{
    if (!audit_room_rows[a->room.step].strict_only)
        return false;
    if (!many)
        return audit_intake_waits(message);
    const PB(AuditBatch) *b = message;
    for (size_t i = 0; i < b->n_records; i++)
        if (!audit_intake_waits(b->records[i]))
            return false;
    return true;
}

static void take_unreadable(struct pending *p, const struct bus_msg *m, const char *why)
{
    /* The stream's sequence names it: it is the same when the message comes again. */
    char id[80];
    snprintf(id, sizeof id, "unreadable-%" PRIu64, m->stream_seq);
    if (audit_seen_has(&p->a->seen, id)) {
        metric_add(&duplicates, 1);
        return;
    }
    service_bad_input(p->a->s, "audit record", m, why);
    snprintf(p->why, sizeof p->why, "%s", why);
    append_gap(p, m, id);
}

static void on_record(void *ctx, const struct bus_msg *m, struct bus_hold *h)
{
    struct audit *a = ctx;
    struct pending *p = a->phase == AUDIT_RUNS ? calloc(1, sizeof *p) : NULL;
    if (!p) {
        bool draining = a->phase != AUDIT_RUNS;
        bus_nak(h, draining ? 0 : RETRY_MS, draining ? "draining" : "out of memory");
        return;
    }
    if (m->stream_seq > a->top_seq)
        a->top_seq = m->stream_seq;
    *p = (struct pending){.a = a, .hold = h, .left = 1}; /* until all of it is handed over */
    struct err e = {""};
    bool many = m->type && strcmp(m->type, PB_DESC(audit_batch)->name) == 0;
    void *message = wire_unpack(many ? PB_DESC(audit_batch) : PB_DESC(audit_record), m->data, m->len, &e);
    if (!message) {
        take_unreadable(p, m, e.text);
    } else if (may_wait(a, many, message)) {
        a->put_off++;
        metric_add(&put_off, 1);
        bus_nak(h, PUT_OFF_MS, "only strict records are taken");
        free(p);
        wire_free(message);
        audit_past_go(a);
        return;
    } else if (many) {
        append_batch(p, message);
    } else {
        append_record(p, message, m->data, m->len);
    }
    wire_free(message);
    if (--p->left == 0)
        let_go(p);
}

void audit_intake_strict(struct audit *a, const PB(AuditRecord) * r, const void *data, size_t len)
{
    struct pending *p = calloc(1, sizeof *p);
    if (!p)
        return;
    *p = (struct pending){.a = a, .left = 1};
    append_record(p, r, data, len);
    if (--p->left == 0)
        let_go(p);
}

static bool remember(void *ctx, const struct audit_record *rec)
{
    struct audit *a = ctx;
    PB(AuditRecord) *r = wire_unpack(PB_DESC(audit_record), rec->stored, rec->len, NULL);
    if (r)
        audit_seen_add(&a->seen, r->id);
    wire_free(r);
    return false;
}

/* Segments may be small: as many as the memory holds are read, oldest first. */
void audit_intake_remember(struct audit *a)
{
    struct audit_log_status st;
    struct err e = {""};
    const char *dirs[] = {a->s->replica.dir, a->second_dir};
    audit_seen_init(&a->seen);
    audit_log_status(a->log, &st);
    uint64_t from = st.size > AUDIT_SEEN_MIN ? st.size - AUDIT_SEEN_MIN + 1 : 1;
    if (audit_segments_visit(dirs, 2, from, remember, a, &e))
        log_warn("not all ids of the trail's last records are known: some may be in it twice", F_STR("why", e.text));
}

int audit_intake_open(struct audit *a, struct err *e)
{
    struct bus_consumer_opts co = {.stream = STREAM_AUDIT,
                                   .durable = AUDIT_CONSUMER,
                                   .filter = SUBJECT_AUDIT ">",
                                   .max_ack_pending = AUDIT_IN_HAND_MAX,
                                   .dead_after = NEVER_DEAD};
    a->consumer = bus_consume(a->s->bus, &co, on_record, a);
    return a->consumer ? 0 : err_set(e, "cannot consume " STREAM_AUDIT);
}
