/* reports_bus.c - the timeline from the stream of audit records, when no trail can be read: without proofs, and bounded.
 *
 * The stream knows no times: where the incident's records begin is found by halving, then they are read one by one. */
#include "continuity/reports_impl.h"
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define ASK_MS    5000
#define READ_MAX  20000 /* messages */
#define HALVE_MAX 64
#define SLACK_MS  60000 /* services hand over late: records are about in order */
#define FILTER    SUBJECT_AUDIT ">"

struct reports_bus {
    struct reports_job *j;
    loop_cb then;
    void *ctx;
    bool closed;
    uint64_t low, high, last, asked; /* the first that is wanted lies in [low, high] */
    unsigned halved, read;
    bool reading;
};

static void ask(struct reports_bus *b, uint64_t seq);

static void finish(struct reports_bus *b)
{
    report_trail_sort(&b->j->trail);
    b->j->bus = NULL;
    loop_cb then = b->then;
    void *ctx = b->ctx;
    free(b);
    then(ctx);
}

static void take(struct reports_bus *b, PB(AuditRecord) * r, size_t bytes)
{
    struct reports_job *j = b->j;
    if (!report_wants(&j->scope, r) || !report_trail_take(&j->trail, &j->scope, r, bytes, 0, 0))
        wire_free(r);
}

/* A record of a batch, as a message of its own. */
static PB(AuditRecord) * copy_of(const PB(AuditRecord) * r, size_t *ret_len)
{
    void *data = wire_pack(r, ret_len, NULL);
    PB(AuditRecord) *copy = data ? wire_unpack(PB_DESC(audit_record), data, *ret_len, NULL) : NULL;
    free(data);
    return copy;
}

/* Its time, 0 if it is none of ours. keep: its records are taken. */
static int64_t look(struct reports_bus *b, const struct bus_msg *m, bool keep)
{
    int64_t at = 0;
    if (m->type && strcmp(m->type, "redoubt.v1.AuditBatch") == 0) {
        PB(AuditBatch) *batch = wire_unpack(PB_DESC(audit_batch), m->data, m->len, NULL);
        for (size_t i = 0; batch && i < batch->n_records; i++) {
            size_t len = 0;
            PB(AuditRecord) *r =
                keep && report_wants(&b->j->scope, batch->records[i]) ? copy_of(batch->records[i], &len) : NULL;
            at = batch->records[i]->at_unix_ms;
            if (r)
                take(b, r, len);
        }
        wire_free(batch);
        return at;
    }
    PB(AuditRecord) *r = wire_unpack(PB_DESC(audit_record), m->data, m->len, NULL);
    if (!r)
        return 0;
    at = r->at_unix_ms;
    if (keep)
        take(b, r, m->len);
    else
        wire_free(r);
    return at;
}

static void begin_reading(struct reports_bus *b)
{
    b->reading = true;
    ask(b, b->low);
}

static void halve(struct reports_bus *b)
{
    if (b->low >= b->high || ++b->halved > HALVE_MAX)
        begin_reading(b);
    else
        ask(b, b->low + (b->high - b->low) / 2);
}

static void on_message(void *ctx, enum bus_status st, const struct bus_msg *m)
{
    struct reports_bus *b = ctx;
    if (b->closed) {
        free(b);
        return;
    }
    if (st != BUS_OK || !m) {
        if (!b->reading && st == BUS_OK) { /* nothing from there on */
            b->high = b->asked;
            if (b->low >= b->high)
                begin_reading(b);
            else
                halve(b);
            return;
        }
        if (st != BUS_OK)
            snprintf(b->j->trail.why + strlen(b->j->trail.why), sizeof b->j->trail.why - strlen(b->j->trail.why),
                     "; the stream " STREAM_AUDIT " could not be read to its end: %s", bus_status_text(st));
        finish(b);
        return;
    }
    int64_t at = look(b, m, b->reading);
    if (!b->reading) {
        if (at && at < b->j->scope.from_ms - SLACK_MS)
            b->low = m->stream_seq + 1;
        else
            b->high = b->asked;
        halve(b);
    } else if (at > b->j->scope.to_ms + SLACK_MS || ++b->read >= READ_MAX || m->stream_seq >= b->last)
        finish(b);
    else
        ask(b, m->stream_seq + 1);
}

static void ask(struct reports_bus *b, uint64_t seq)
{
    b->asked = seq;
    bus_next(b->j->s->bus, STREAM_AUDIT, FILTER, seq, ASK_MS, on_message, b);
}

static void on_stock(void *ctx, enum bus_status st, const struct bus_stock *stock)
{
    struct reports_bus *b = ctx;
    if (b->closed)
        free(b);
    else if (st != BUS_OK || !stock || stock->last_seq == 0) {
        if (st != BUS_OK)
            snprintf(b->j->trail.why + strlen(b->j->trail.why), sizeof b->j->trail.why - strlen(b->j->trail.why),
                     "; nor can the stream " STREAM_AUDIT ": %s", bus_status_text(st));
        finish(b);
    } else {
        b->low = 1;
        b->high = b->last = stock->last_seq;
        halve(b);
    }
}

static void on_count(void *ctx, const char *subject, uint64_t messages)
{
    (void)ctx;
    (void)subject;
    (void)messages;
}

struct reports_bus *reports_bus_open(struct reports_job *j, loop_cb then, void *ctx)
{
    struct reports_bus *b = calloc(1, sizeof *b);
    if (!b)
        return NULL;
    *b = (struct reports_bus){.j = j, .then = then, .ctx = ctx};
    bus_counts(j->s->bus, STREAM_AUDIT, FILTER, ASK_MS, on_count, on_stock, b);
    return b;
}

void reports_bus_close(struct reports_bus *b)
{
    if (b)
        b->closed = true; /* freed by the answer */
}
