/* outbox_publish.c - from the outbox to the streams: in order, a window at a time, and again when a stream has lost its end. */
#include "common/clock.h"
#include "common/metric.h"
#include "common/outbox_impl.h"
#include <assert.h>
#include <inttypes.h>
#include <jansson.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define HOT_BYTES        (1u << 20)   /* of pending items that memory keeps; the rest is read back */
#define READ_BYTES       (256u << 10) /* at a time */
#define REFUSED_RETRY_MS 10000
#define GIVE_UP_MS       (24 * 3600000) /* a refused item is given up after this, */
#define GIVE_UP_TIGHT_MS 3600000        /* or this while the outbox is more than half full */
#define CHECK_EVERY_MS   60000 /* a stream with retained items is looked at this often: less than OUTBOX_KEEP_MS */
#define CHECK_TIMEOUT_MS 5000
#define SAY_REFUSED_MS   10000

METRIC_DEFINE(published, METRIC_COUNTER, "redoubt_outbox_published_total",
              "Items that their stream has acknowledged.");
METRIC_DEFINE(again, METRIC_COUNTER, "redoubt_outbox_republished_total",
              "Acknowledged items that were published again because their stream had lost them.");
METRIC_DEFINE(refusals, METRIC_COUNTER, "redoubt_outbox_stream_refusals_total",
              "Times that a stream refused an item.");
METRIC_DEFINE(given_up, METRIC_COUNTER, "redoubt_outbox_given_up_total",
              "Items that their stream refused for too long.");
METRIC_DEFINE(unreadable, METRIC_COUNTER, "redoubt_outbox_unreadable_total",
              "Items that could not be read back from disk.");

/* One item in the hands of the bus. Outlives the outbox if that closes first. */
struct outbox_flight {
    struct outbox *b; /* NULL: nobody waits any more */
    struct outbox_flight *next, **link;
    uint64_t seq;
    int64_t wall_ms;
    char id[OUTBOX_ID_MAX + 1];
};

static void on_stored(void *ctx, const struct bus_stored *r);

/* ---- the next items ---- */

/* The first entry in PENDING, NULL if there is none. */
static struct outbox_entry *next_pending(struct outbox *b, struct outbox_segment **ret_seg)
{
    for (; b->at_seg < b->shelf.n; b->at_seg++, b->at_entry = 0) {
        struct outbox_segment *g = b->shelf.segs[b->at_seg];
        for (; b->at_entry < g->n; b->at_entry++) {
            if (g->entries[b->at_entry].state == OUTBOX_PENDING) {
                *ret_seg = g;
                return &g->entries[b->at_entry];
            }
        }
        if (b->at_seg + 1 == b->shelf.n)
            break; /* stays in the last segment: more may come */
    }
    return NULL;
}

static void rewind_to_start(struct outbox *b)
{
    b->at_seg = b->at_entry = 0;
    for (struct outbox_piece *p; (p = outbox_queue_take(&b->hot));)
        free(p);
}

static void launch(struct outbox *b, struct outbox_entry *x, const struct outbox_record *r)
{
    struct outbox_flight *f = malloc(sizeof *f);
    if (!f)
        return; /* the entry stays pending; the next tick tries again */
    *f =
        (struct outbox_flight){.b = b, .seq = x->seq, .wall_ms = r->wall_ms, .next = b->flights, .link = &b->flights};
    snprintf(f->id, sizeof f->id, "%s", r->id);
    if (f->next)
        f->next->link = &f->next;
    b->flights = f;
    b->n_flights++;
    b->pending--;
    x->state = OUTBOX_FLYING;
    struct bus_out o = {
        .subject = r->subject, .id = r->id, .type = *r->type ? r->type : NULL, .data = r->data, .len = r->len};
    bus_store(b->bus, &o, 0, on_stored, f);
}

/* An item whose bytes are gone from the disk: said, and counted, and no longer in the way. */
static void lose(struct outbox *b, struct outbox_segment *g, struct outbox_entry *x)
{
    metric_add(&unreadable, 1);
    log_error("outbox: an item cannot be read back and is lost", F_STR("dir", b->dir), F_INT("sequence", x->seq));
    x->state = OUTBOX_GIVEN_UP;
    if (--g->open == 0)
        g->settled_mono_ms = clock_mono_ms();
    b->pending--;
    b->backlog--;
    outbox_wish_end(b, x->seq, -1, "cannot be read back from disk");
}

/* ---- reading back, on libuv's pool ---- */

struct span {
    int fd;
    uint32_t offset, len;
    uint64_t seq;
    struct outbox_piece *piece; /* NULL: could not be read */
};
struct outbox_reading {
    uv_work_t req;
    struct outbox *b;
    size_t n;
    struct span spans[OUTBOX_WINDOW];
};

static void read_work(uv_work_t *req)
{
    struct outbox_reading *j = req->data;
    for (size_t i = 0; i < j->n; i++) {
        struct span *s = &j->spans[i];
        struct outbox_record r;
        struct outbox_piece *p = malloc(sizeof *p + s->len);
        if (!p)
            continue;
        *p = (struct outbox_piece){.seq = s->seq, .size = s->len};
        if (outbox_read_at(s->fd, p->record, s->len, s->offset) &&
            outbox_record_read(p->record, s->len, &r) == s->len && r.seq == s->seq)
            s->piece = p;
        else
            free(p);
    }
}

static void read_done(uv_work_t *req, int status)
{
    (void)status;
    struct outbox_reading *j = req->data;
    struct outbox *b = j->b;
    b->reading = NULL;
    bool wanted = !b->hot.first; /* else a rewind came in between */
    for (size_t i = 0; i < j->n; i++) {
        struct outbox_segment *g;
        struct outbox_entry *x = outbox_shelf_find(&b->shelf, j->spans[i].seq, &g);
        if (!j->spans[i].piece) {
            if (x && x->state == OUTBOX_PENDING)
                lose(b, g, x);
        } else if (wanted && x && x->state == OUTBOX_PENDING) {
            outbox_queue_put(&b->hot, j->spans[i].piece);
        } else {
            free(j->spans[i].piece);
        }
    }
    free(j);
    outbox_pump(b);
    outbox_maybe_finish(b);
}

/* Reads the next pending items back; called when memory has none of them. */
static void read_back(struct outbox *b)
{
    struct outbox_reading *j = b->reading ? NULL : calloc(1, sizeof *j);
    if (!j)
        return;
    size_t bytes = 0, seg = b->at_seg, entry = b->at_entry;
    for (; seg < b->shelf.n && j->n < OUTBOX_WINDOW && bytes < READ_BYTES; seg++, entry = 0) {
        const struct outbox_segment *g = b->shelf.segs[seg];
        for (; entry < g->n && j->n < OUTBOX_WINDOW && bytes < READ_BYTES; entry++) {
            const struct outbox_entry *x = &g->entries[entry];
            if (x->state != OUTBOX_PENDING)
                continue;
            j->spans[j->n++] = (struct span){.fd = g->fd, .offset = x->offset, .len = x->len, .seq = x->seq};
            bytes += x->len;
        }
    }
    if (j->n == 0) {
        free(j);
        return;
    }
    j->b = b;
    j->req.data = j;
    b->reading = j;
    int rc = uv_queue_work(&b->loop->uv, &j->req, read_work, read_done);
    assert(rc == 0 && "uv_queue_work fails only without a work callback");
    (void)rc;
}

void outbox_publish_new(struct outbox *b, struct outbox_piece *p)
{
    /* Memory holds the *first* pending items: a new one joins only if it is the next after those. It counts as pending already. */
    if (b->bus && b->hot.n + 1 == b->pending && !b->reading && b->hot.bytes + p->size <= HOT_BYTES)
        outbox_queue_put(&b->hot, p);
    else
        free(p);
}

void outbox_pump(struct outbox *b)
{
    if (!b->bus || b->bus_gone || b->freeing || !bus_up(b->bus))
        return;
    while (b->n_flights < OUTBOX_WINDOW) {
        struct outbox_segment *g;
        struct outbox_entry *x = next_pending(b, &g);
        if (!x)
            return;
        struct outbox_piece *p = b->hot.first;
        while (p && p->seq < x->seq) { /* no longer pending */
            free(outbox_queue_take(&b->hot));
            p = b->hot.first;
        }
        if (!p || p->seq != x->seq) {
            if (p)
                rewind_to_start(b);
            read_back(b);
            return;
        }
        struct outbox_record r;
        size_t size = outbox_record_read(p->record, p->size, &r);
        assert(size == p->size && "a record in memory has changed");
        (void)size;
        launch(b, x, &r);
        if (x->state == OUTBOX_PENDING)
            return;
        free(outbox_queue_take(&b->hot));
    }
}

/* ---- what came of it ---- */

static void flight_end(struct outbox_flight *f)
{
    struct outbox *b = f->b;
    *f->link = f->next;
    if (f->next)
        f->next->link = f->link;
    b->n_flights--;
}

static void stored(struct outbox *b, struct outbox_flight *f, struct outbox_segment *g, struct outbox_entry *x,
                   const struct bus_stored *r)
{
    unsigned stream = outbox_shelf_stream(&b->shelf, r->stream);
    /* A new message below what the stream had acknowledged before: its end was lost meanwhile. */
    if (stream != 0 && !r->duplicate && r->seq <= b->shelf.streams[stream].top_seq)
        b->shelf.streams[stream].check_due = true;
    outbox_entry_acked(&b->shelf, g, x, stream, r->seq, f->id, clock_mono_ms());
    outbox_note_ack(b, f->seq, stream, r->seq);
    b->backlog--;
    metric_add(&published, 1);
    outbox_wish_end(b, f->seq, 0, NULL);
}

static void refused(struct outbox *b, const struct outbox_flight *f, struct outbox_segment *g, struct outbox_entry *x,
                    const char *why)
{
    int64_t now = clock_mono_ms(), age_ms = clock_wall_ms() - f->wall_ms;
    bool tight = b->shelf.bytes > b->max_bytes / 2;
    uint64_t held = 0;
    metric_add(&refusals, 1);
    if (age_ms > (tight ? GIVE_UP_TIGHT_MS : GIVE_UP_MS)) {
        metric_add(&given_up, 1);
        log_error("outbox: an item is given up", F_STR("id", f->id), F_STR("why", why), F_INT("age_ms", age_ms));
        x->state = OUTBOX_GIVEN_UP;
        if (--g->open == 0)
            g->settled_mono_ms = now;
        outbox_note_ack(b, f->seq, 0, 0);
        b->backlog--;
        outbox_wish_end(b, f->seq, -1, why);
        return;
    }
    if (log_allowed(&b->said_refused, now, SAY_REFUSED_MS, &held))
        log_error("outbox: the stream refuses an item; it is kept and tried again", F_STR("id", f->id),
                  F_STR("why", why), F_INT("retry_ms", REFUSED_RETRY_MS), F_INT("held_back", held));
    x->state = OUTBOX_REFUSED;
    if (b->refused++ == 0)
        b->refused_until_ms = now + REFUSED_RETRY_MS;
}

static void on_stored(void *ctx, const struct bus_stored *r)
{
    struct outbox_flight *f = ctx;
    struct outbox *b = f->b;
    struct outbox_segment *g;
    if (!b) {
        free(f);
        return;
    }
    flight_end(f);
    struct outbox_entry *x = outbox_shelf_find(&b->shelf, f->seq, &g);
    assert(x && x->state == OUTBOX_FLYING && "a segment goes only when nothing of it is open");
    if (r->status == BUS_OK) {
        stored(b, f, g, x, r);
    } else if (r->status == BUS_REFUSED) {
        refused(b, f, g, x, r->error ? r->error : "no reason given");
    } else {
        /* Closed, or an outcome that is not known: it stays, and goes out again under the same id. */
        x->state = OUTBOX_PENDING;
        b->pending++;
        b->bus_gone |= r->status == BUS_CLOSED;
        rewind_to_start(b);
    }
    free(f);
    outbox_pump(b);
    outbox_maybe_finish(b);
}

/* ---- has a stream lost its end? ----
 *
 * The server acknowledges before it syncs: after a loss of power the newest messages may be gone, and other publishers may
 * have filled their sequences since. So not the stream's last sequence alone is looked at, but whether our newest
 * acknowledged item still stands where it was acknowledged. */

struct outbox_query {
    struct outbox *b; /* NULL: nobody waits any more */
    struct outbox_query *next, **link;
    unsigned stream;
    uint64_t seq;
    char id[OUTBOX_ID_MAX + 1];
};

static struct outbox_query *query_new(struct outbox *b, unsigned stream)
{
    struct outbox_query *q = malloc(sizeof *q);
    if (!q)
        return NULL;
    const struct outbox_stream *t = &b->shelf.streams[stream];
    *q = (struct outbox_query){.b = b, .next = b->queries, .link = &b->queries, .stream = stream, .seq = t->top_seq};
    snprintf(q->id, sizeof q->id, "%s", t->top_id);
    if (q->next)
        q->next->link = &q->next;
    b->queries = q;
    return q;
}

static void query_free(struct outbox_query *q)
{
    if (q->b) {
        *q->link = q->next;
        if (q->next)
            q->next->link = q->link;
    }
    free(q);
}

static void republish(struct outbox *b, unsigned stream)
{
    size_t n = 0;
    for (size_t i = 0; i < b->shelf.n; i++) {
        struct outbox_segment *g = b->shelf.segs[i];
        for (size_t k = 0; k < g->n; k++) {
            struct outbox_entry *x = &g->entries[k];
            if (x->state != OUTBOX_ACKED || x->stream != stream)
                continue;
            x->state = OUTBOX_PENDING;
            g->open++;
            n++;
        }
    }
    struct outbox_stream *t = &b->shelf.streams[stream];
    log_warn("outbox: a stream has lost its newest messages; what is retained is published again under the same ids",
             F_STR("stream", t->name), F_INT("sequence", t->top_seq), F_INT("items", n));
    metric_add(&again, (int64_t)n);
    t->top_seq = 0;
    t->top_id[0] = 0;
    b->pending += n;
    b->backlog += n;
    rewind_to_start(b);
    outbox_pump(b);
}

static void checked(struct outbox_query *q, bool lost)
{
    struct outbox *b = q->b;
    struct outbox_stream *t = &b->shelf.streams[q->stream];
    t->checking = false;
    if (lost && t->top_seq >= q->seq)
        republish(b, q->stream);
    query_free(q);
}

static void check_failed(struct outbox_query *q)
{
    struct outbox_stream *t = &q->b->shelf.streams[q->stream];
    t->checking = false;
    t->check_due = true;
    query_free(q);
}

/* Nothing stands at our sequence: expired or consumed if the stream went on beyond it, lost if it ends before. */
static void on_info(void *ctx, enum bus_status st, const struct bus_msg *reply)
{
    struct outbox_query *q = ctx;
    if (!q->b) {
        query_free(q);
        return;
    }
    json_t *j = st == BUS_OK ? json_loadb(reply->data, reply->len, 0, NULL) : NULL;
    json_int_t last = 0, code = 0;
    if (json_unpack(j, "{s:{s:I}}", "state", "last_seq", &last) == 0)
        checked(q, (uint64_t)last < q->seq);
    else if (json_unpack(j, "{s:{s:I}}", "error", "code", &code) == 0 && code == 404)
        checked(q, true); /* the stream itself is gone: the bus makes a new one, and bus_store() waits for it */
    else
        check_failed(q);
    json_decref(j);
}

static void ask(struct outbox_query *q, const char *what, const char *body, bus_reply_cb cb)
{
    char subject[128];
    snprintf(subject, sizeof subject, "$JS.API.STREAM.%s.%s", what, q->b->shelf.streams[q->stream].name);
    struct bus_out o = {.subject = subject, .data = body, .len = strlen(body)};
    bus_request(q->b->bus, &o, CHECK_TIMEOUT_MS, cb, q);
}

/* Does the header block (base64 of "NATS/1.0\r\nName: value\r\n...") name this message id? */
static bool headers_hold(const char *base64, const char *id)
{
    static const char name[] = "Nats-Msg-Id:";
    size_t len = strlen(base64), n = 0;
    char *text = malloc(len + 1);
    bool found = false;
    if (text && sodium_base642bin((unsigned char *)text, len, base64, len, NULL, &n, NULL,
                                  sodium_base64_VARIANT_ORIGINAL) == 0) {
        text[n] = 0;
        for (char *at = text; !found && (at = strcasestr(at, name)); at += sizeof name - 1) {
            const char *v = at + sizeof name - 1;
            v += strspn(v, " ");
            found = strcspn(v, "\r\n") == strlen(id) && strncmp(v, id, strlen(id)) == 0;
        }
    }
    free(text);
    return found;
}

static void on_message_there(void *ctx, enum bus_status st, const struct bus_msg *reply)
{
    struct outbox_query *q = ctx;
    if (!q->b) {
        query_free(q);
        return;
    }
    json_t *j = st == BUS_OK ? json_loadb(reply->data, reply->len, 0, NULL) : NULL;
    json_t *message = json_object_get(j, "message");
    const char *headers = json_string_value(json_object_get(message, "hdrs"));
    json_int_t code = 0;
    if (message)
        checked(q, !headers || !headers_hold(headers, q->id));
    else if (json_unpack(j, "{s:{s:I}}", "error", "code", &code) == 0 && code == 404)
        ask(q, "INFO", "", on_info);
    else
        check_failed(q);
    json_decref(j);
}

static void check(struct outbox *b, unsigned stream)
{
    struct outbox_stream *t = &b->shelf.streams[stream];
    struct outbox_query *q = query_new(b, stream);
    char body[48];
    if (!q)
        return;
    t->check_due = false;
    t->checking = true;
    snprintf(body, sizeof body, "{\"seq\":%" PRIu64 "}", q->seq);
    ask(q, "MSG.GET", body, on_message_there);
}

/* ---- what time brings ---- */

static void retry_refused(struct outbox *b)
{
    for (size_t i = 0; i < b->shelf.n; i++) {
        struct outbox_segment *g = b->shelf.segs[i];
        for (size_t k = 0; k < g->n; k++)
            if (g->entries[k].state == OUTBOX_REFUSED)
                g->entries[k].state = OUTBOX_PENDING;
    }
    b->pending += b->refused;
    b->refused = 0;
    rewind_to_start(b);
}

static bool retains(const struct outbox *b)
{
    return b->shelf.n > 0;
}

void outbox_publish_tick(struct outbox *b, int64_t now_ms)
{
    if (!b->bus || b->bus_gone)
        return;
    bool up = bus_up(b->bus);
    bool all = retains(b) && ((up && !b->bus_was_up) || now_ms >= b->next_check_ms);
    b->bus_was_up = up;
    if (!up)
        return;
    if (all)
        b->next_check_ms = now_ms + CHECK_EVERY_MS;
    for (unsigned i = 1; i < OUTBOX_STREAMS_MAX; i++) {
        struct outbox_stream *t = &b->shelf.streams[i];
        if (t->top_seq > 0 && !t->checking && retains(b) && (all || t->check_due))
            check(b, i);
    }
    if (b->refused > 0 && now_ms >= b->refused_until_ms)
        retry_refused(b);
}

void outbox_publish_detach(struct outbox *b)
{
    for (struct outbox_flight *f = b->flights; f; f = f->next)
        f->b = NULL;
    for (struct outbox_query *q = b->queries; q; q = q->next)
        q->b = NULL;
}
