/* audit_shell.c - takes records off the AUDIT stream and acknowledges them when they are durable in the trail. */
#include "audit/audit_shell.h"
#include "audit/audit_log.h"
#include "audit/audit_seen.h"
#include "common/log.h"
#include "common/metric.h"
#include "common/subjects.h"
#include <inttypes.h>
#include <jansson.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <uthash.h>

#define RETRY_MS    1000
#define ALERT_KEY   "audit/trail"
#define IN_HAND_MAX 1000
#define CONSUMER    "redoubt-audit"

METRIC_DEFINE(appended, METRIC_COUNTER, "redoubt_audit_appended_total", "Records that are durable in the trail.");
METRIC_DEFINE(duplicates, METRIC_COUNTER, "redoubt_audit_duplicates_total",
              "Records that were in the trail already.");
METRIC_DEFINE(gaps, METRIC_COUNTER, "redoubt_audit_gaps_total",
              "Gap records: what came and could not be read as a record.");
METRIC_DEFINE(failures, METRIC_COUNTER, "redoubt_audit_write_failures_total",
              "Records that could not be made durable at once.");
METRIC_DEFINE(lag_ms, METRIC_GAUGE, "redoubt_audit_lag_ms",
              "From the newest record's time of writing to its place in the trail.");
METRIC_DEFINE(chain_size, METRIC_GAUGE, "redoubt_audit_chain_records", "Records in the chain.");

struct entry;
struct audit {
    struct audit_log *log;
    struct entry *flying; /* by id: on their way to the disk */
    struct bus_consumer *consumer;
    struct audit_seen seen;
    bool failing;  /* alerted, not yet resolved */
    uint64_t lost; /* segments that were deleted, and told */
    bool draining; /* what comes now is for another replica */
};

/* One message between the stream and the disk: a record, or a batch of them. */
struct pending {
    struct service *s;
    struct bus_hold *hold;
    size_t left; /* of its records that are not durable yet */
    bool
        failed; /* one of them could not be made durable: the message comes again, and those that were are known by their ids */
    bool dead; /* goes to the dead letters, with its trace in the trail */
    char why[ERR_TEXT_MAX];
};
struct entry {
    struct pending *p;
    int64_t at_unix_ms;
    char id[80];
    UT_hash_handle hh;
};

static struct audit *state(struct service *s)
{
    return s->state;
}

static void tell_failing(struct service *s, const char *why)
{
    if (state(s)->failing == (why != NULL))
        return;
    state(s)->failing = why != NULL;
    char detail[ERR_TEXT_MAX + 64];
    snprintf(detail, sizeof detail, "%s: %s", s->replica.dir, why ? why : "records are durable again");
    PB(Alert) a = REDOUBT__V1__ALERT__INIT;
    a.dedup_key = (char *)ALERT_KEY;
    a.severity = REDOUBT__V1__SEVERITY__SEVERITY_CRITICAL;
    a.summary = (char *)(why ? "The audit trail cannot be written" : "The audit trail is written again");
    a.detail = detail;
    a.resolved = !why;
    service_alert(s, &a);
}

static void tell_tampered(struct service *s, const char *summary, const char *detail)
{
    PB(Alert) a = REDOUBT__V1__ALERT__INIT;
    a.dedup_key = (char *)"audit/tampered";
    a.severity = REDOUBT__V1__SEVERITY__SEVERITY_CRITICAL;
    a.manual_intervention_required = true;
    a.summary = (char *)summary;
    a.detail = (char *)detail;
    service_alert(s, &a);
}

static void look_for_lost(struct service *s)
{
    struct audit_log_status st;
    audit_log_status(state(s)->log, &st);
    if (st.lost_segments == state(s)->lost)
        return;
    state(s)->lost = st.lost_segments;
    log_error("a segment of the audit trail was deleted; the chain goes on in a new one",
              F_STR("dir", s->replica.dir), F_INT("segments", st.lost_segments));
    tell_tampered(s, "A segment of the audit trail was deleted while it was written", s->replica.dir);
}

static void let_go(struct pending *p)
{
    if (p->failed)
        bus_nak(p->hold, RETRY_MS, p->why);
    else if (p->dead)
        bus_dead(p->hold, p->why);
    else
        bus_ack(p->hold);
    free(p);
}

static void on_appended(void *ctx, uint64_t seq, const char *error)
{
    struct entry *x = ctx;
    struct pending *p = x->p;
    struct service *s = p->s;
    if (seq == 0) {
        metric_add(&failures, 1);
        tell_failing(s, error);
        p->failed = true;
        snprintf(p->why, sizeof p->why, "%s", error);
    } else {
        tell_failing(s, NULL);
        look_for_lost(s);
        audit_seen_add(&state(s)->seen, x->id);
        metric_add(&appended, 1);
        metric_set(&chain_size, (int64_t)seq);
        if (x->at_unix_ms)
            metric_set(&lag_ms, clock_wall_ms() - x->at_unix_ms);
    }
    HASH_DEL(state(s)->flying, x);
    free(x);
    if (--p->left == 0)
        let_go(p);
}

/* False: no memory for it. The bytes are copied. */
static bool append(struct pending *p, const char *id, int64_t at_unix_ms, const void *data, size_t len)
{
    struct entry *x = calloc(1, sizeof *x);
    if (!x)
        return false;
    x->p = p;
    x->at_unix_ms = at_unix_ms;
    snprintf(x->id, sizeof x->id, "%s", id);
    p->left++;
    HASH_ADD_STR(state(p->s)->flying, id, x);
    audit_log_append(state(p->s)->log, data, len, on_appended, x);
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

static void append_gap(struct service *s, struct pending *p, const struct bus_msg *m, const char *id)
{
    size_t len;
    void *gap = make_gap(s, m, id, p->why, &len);
    metric_add(&gaps, gap != NULL);
    p->dead = true;
    if (gap && !append(p, id, 0, gap, len))
        p->failed = true;
    free(gap);
}

static void append_record(struct pending *p, const PB(AuditRecord) * r, const void *data, size_t len)
{
    struct entry *same;
    HASH_FIND_STR(state(p->s)->flying, r->id, same);
    if (same || audit_seen_has(&state(p->s)->seen, r->id)) { /* if that one fails, its own message comes again */
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

static void on_record(void *ctx, const struct bus_msg *m, struct bus_hold *h)
{
    struct service *s = ctx;
    struct audit *a = state(s);
    struct pending *p = a->draining ? NULL : calloc(1, sizeof *p);
    if (!p) {
        bus_nak(h, a->draining ? 0 : RETRY_MS, a->draining ? "draining" : "out of memory");
        return;
    }
    p->s = s;
    p->hold = h;
    p->left = 1; /* until all of it is handed over */
    struct err e = {""};
    bool many = m->type && strcmp(m->type, PB_DESC(audit_batch)->name) == 0;
    void *message = wire_unpack(many ? PB_DESC(audit_batch) : PB_DESC(audit_record), m->data, m->len, &e);
    if (!message) {
        /* The stream's sequence names it: it is the same when the message comes again. */
        char id[80];
        snprintf(id, sizeof id, "unreadable-%" PRIu64, m->stream_seq);
        if (audit_seen_has(&a->seen, id)) {
            metric_add(&duplicates, 1);
        } else {
            service_bad_input(s, "audit record", m, e.text);
            snprintf(p->why, sizeof p->why, "%s", e.text);
            append_gap(s, p, m, id);
        }
    } else if (many) {
        append_batch(p, message);
    } else {
        append_record(p, message, m->data, m->len);
    }
    wire_free(message);
    if (--p->left == 0)
        let_go(p);
}

static void on_old(void *ctx, const void *stored, size_t len)
{
    struct audit *a = ctx;
    PB(AuditRecord) *r = wire_unpack(PB_DESC(audit_record), stored, len, NULL);
    if (r)
        audit_seen_add(&a->seen, r->id);
    wire_free(r);
}

int audit_start(struct service *s, struct err *e)
{
    struct audit *a = calloc(1, sizeof *a);
    if (!a)
        return err_set(e, "out of memory");
    s->state = a;
    audit_seen_init(&a->seen);
    struct audit_log_found found;
    struct audit_log_opts lo = {
        .dir = s->replica.dir, .segment_bytes = s->settings->audit.segment_bytes, .on_old = on_old, .ctx = a};
    if (!(a->log = audit_log_open(&s->loop, &lo, &found, e)))
        return -1;
    if (found.torn_bytes)
        log_warn("a write that a crash cut short was removed from the trail's end; nothing acknowledged was in it",
                 F_INT("bytes", found.torn_bytes));
    if (found.fresh)
        log_info("new audit chain", F_STR("dir", s->replica.dir));
    if (found.set_aside[0]) {
        log_error("the audit trail does not verify; it was set aside and a new chain was begun",
                  F_STR("why", found.why), F_STR("where", found.set_aside));
        tell_tampered(s, "The audit trail was damaged or tampered with; it was set aside as evidence", found.why);
    }
    struct bus_consumer_opts co = {
        .stream = STREAM_AUDIT, .durable = CONSUMER, .filter = SUBJECT_AUDIT ">", .max_ack_pending = IN_HAND_MAX};
    a->consumer = bus_consume(s->bus, &co, on_record, s);
    return a->consumer ? 0 : err_set(e, "cannot consume " STREAM_AUDIT);
}

void audit_on_checkpoint(struct service *s)
{
    audit_log_checkpoint(state(s)->log);
}

static void on_log_closed(void *ctx)
{
    struct service *s = ctx;
    state(s)->log = NULL;
    bus_consumer_close(state(s)->consumer); /* only now: what was in hand has been acknowledged */
    state(s)->consumer = NULL;
    service_drained(s);
}

void audit_drain(struct service *s)
{
    struct audit *a = state(s);
    bus_consumer_close(
        a->consumer); /* what is in hand goes back to the stream and comes again: ids make that harmless */
    a->consumer = NULL;
    audit_log_close(a->log, on_log_closed, s);
}

void audit_stop(struct service *s)
{
    free(s->state);
    s->state = NULL;
}

/* `redoubt.v1.cmd.audit.status`: JSON in the payload. */
void audit_on_status(struct service *s, const void *message, const struct bus_msg *m)
{
    (void)message;
    struct audit_log_status st;
    char chain[2 * AUDIT_CHAIN_BYTES + 1], hash[2 * AUDIT_HASH_BYTES + 1];
    audit_log_status(state(s)->log, &st);
    sodium_bin2hex(chain, sizeof chain, st.chain, sizeof st.chain);
    sodium_bin2hex(hash, sizeof hash, st.hash, sizeof st.hash);
    json_t *j = json_pack("{s:s, s:s, s:I, s:s, s:I, s:I, s:I}", "dir", s->replica.dir, "chain", chain, "size",
                          (json_int_t)st.size, "hash", hash, "checkpoint_size", (json_int_t)st.checkpoint_size,
                          "waiting", (json_int_t)st.waiting, "lag_ms", (json_int_t)metric_get(&lag_ms));
    char *text = j ? json_dumps(j, JSON_COMPACT) : NULL;
    PB(CommandReply) reply = REDOUBT__V1__COMMAND_REPLY__INIT;
    reply.status = REDOUBT__V1__COMMAND_STATUS__COMMAND_STATUS_OK;
    reply.payload.data = (uint8_t *)text;
    reply.payload.len = text ? strlen(text) : 0;
    service_reply_message(s, m->reply, &reply);
    free(text);
    json_decref(j);
}
