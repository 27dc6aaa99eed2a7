/* bus_store.c - publishing to streams: kept at until the stream has it.
 *
 * A store waits in `queued`, is SENT (an answer is awaited), or has its turn later (BACKOFF). A window bounds what is sent at once,
 * so that a write never waits for the server. All attempts carry the same message id and listen at the same inbox: an answer
 * to any of them will do. On a work queue the order of a subject is kept: a later store waits for the end of the one before. */
#include "common/bus_priv.h"
#include "common/clock.h"
#include "common/metric.h"
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#define WINDOW       1024
#define WINDOW_BYTES (1024 * 1024)
#define ANSWER_MS    1000 /* the first time; doubled with each attempt */
#define BACKOFF_MS   250
#define WAIT_MAX_MS  5000

METRIC_DEFINE(stored, METRIC_COUNTER, "redoubt_bus_stored_total", "Messages acknowledged by their stream.");
METRIC_DEFINE(repeated, METRIC_COUNTER, "redoubt_bus_store_repeats_total",
              "Messages sent to their stream once more.");
METRIC_DEFINE(timeouts, METRIC_COUNTER, "redoubt_bus_store_timeouts_total", "Streams that did not answer in time.");
METRIC_DEFINE(not_now, METRIC_COUNTER, "redoubt_bus_store_refused_for_now_total",
              "Times that a stream was full, away or out of resources; tried again.");
METRIC_DEFINE(refused, METRIC_COUNTER, "redoubt_bus_store_refused_total", "Messages that a stream refused for good.");
METRIC_DEFINE(superseded, METRIC_COUNTER, "redoubt_bus_store_superseded_total",
              "Messages not repeated because a later one for the same subject was on its way.");
METRIC_DEFINE(pending, METRIC_GAUGE, "redoubt_bus_store_pending",
              "Messages that their stream has not acknowledged yet.");

struct bus_stored_item {
    struct bus_wait w; /* first: cast */
    struct bus *b;
    enum {
        QUEUED,
        SENT,
        BACKOFF,
        FOLLOWING, /* ends with `newer`; on a work queue: waits for the end of `older` */
        SAYING_NO, /* refused at the door; said at the next turn */
    } state;
    uint64_t order;
    struct bus_out o; /* strings and data are in `copy` */
    size_t bytes;
    int attempts;
    int64_t give_up_at_ms; /* BUS_NEVER = never */
    int64_t said_wall_ms;
    bus_stored_cb cb;
    void *ctx;
    enum bus_status verdict; /* SAYING_NO */
    char *why;               /* malloc'ed */
    /* The others for this subject, if its stream keeps only the last, or is a work queue. */
    struct bus_stored_item *older, *newer;
    bool chained;
    bool in_order; /* work queue */
    UT_hash_handle by_subject;
    struct bus_stored_item *prev, *next;
    char copy[];
};

/* ---- where it is ---- */

static void leave(struct bus_stored_item *s)
{
    struct bus_stores *t = &s->b->stores;
    if (s->state == QUEUED)
        DL_DELETE(t->queued, s);
    else
        DL_DELETE(t->others, s);
    if (s->state == SENT) {
        t->in_flight--;
        t->in_flight_bytes -= s->bytes;
    }
}

static void enter(struct bus_stored_item *s, int state)
{
    struct bus_stores *t = &s->b->stores;
    s->state = (unsigned)state;
    if (state == QUEUED) {
        /* In order of call. What comes back is older than nearly all, what is new goes last. */
        struct bus_stored_item *at = t->queued;
        if (!at || t->queued->prev->order < s->order) {
            DL_APPEND(t->queued, s);
            return;
        }
        while (at->order < s->order)
            at = at->next;
        DL_PREPEND_ELEM(t->queued, at, s);
        return;
    }
    DL_APPEND(t->others, s);
    if (state == SENT) {
        t->in_flight++;
        t->in_flight_bytes += s->bytes;
    }
}

/* The moment for `at_ms`, or to give up if that is before. */
static void wake_at(struct bus_stored_item *s, int64_t at_ms)
{
    bus_wait_at(s->b, &s->w, at_ms < s->give_up_at_ms ? at_ms : s->give_up_at_ms);
}

static int64_t delay(const struct bus_stored_item *s, int64_t first_ms)
{
    int64_t ms = first_ms;
    for (int i = 1; i < s->attempts && ms < WAIT_MAX_MS; i++)
        ms *= 2;
    return ms < WAIT_MAX_MS ? ms : WAIT_MAX_MS;
}

/* ---- subjects on which it matters what is before what ---- */

/* s is the latest of its subject now. */
static void follow_up(struct bus_stored_item *s)
{
    struct bus_stores *t = &s->b->stores;
    struct bus_stored_item *was;
    size_t len = strlen(s->o.subject);
    HASH_FIND(by_subject, t->latest, s->o.subject, len, was);
    if (was) {
        HASH_DELETE(by_subject, t->latest, was);
        was->newer = s;
        s->older = was;
    }
    s->chained = true;
    HASH_ADD_KEYPTR(by_subject, t->latest, s->o.subject, len, s);
}

/* Again in the queue; or, if a later one for the same subject is pending, never sent again: it would overwrite it. */
static void requeue(struct bus_stored_item *s)
{
    leave(s);
    bool follow = s->in_order ? s->older != NULL : s->newer && s->attempts > 0;
    if (follow && !s->in_order && s->state != FOLLOWING)
        metric_add(&superseded, 1);
    enter(s, follow ? FOLLOWING : QUEUED);
    wake_at(s, BUS_NEVER);
}

static void unchain(struct bus_stored_item *s)
{
    struct bus_stores *t = &s->b->stores;
    struct bus_stored_item *older = s->older, *newer = s->newer;
    if (!s->chained)
        return;
    if (older)
        older->newer = newer;
    if (newer)
        newer->older = older;
    if (!newer) {
        HASH_DELETE(by_subject, t->latest, s);
        if (older)
            HASH_ADD_KEYPTR(by_subject, t->latest, older->o.subject, strlen(older->o.subject), older);
    }
    s->older = s->newer = NULL;
    if (s->in_order && newer && !older && newer->state == FOLLOWING)
        requeue(newer); /* nobody before it any more */
    if (!s->in_order && older && !newer && older->state == FOLLOWING)
        requeue(older); /* nobody to follow any more: its own turn */
}

/* ---- ends ---- */

static void end(struct bus_stored_item *s, const struct bus_stored *r)
{
    struct bus *b = s->b;
    struct bus_stored_item *done = NULL;
    while (s) { /* the stream has s: those before it for the same subject are as good as there */
        struct bus_stored_item *older = r->status == BUS_OK ? s->older : NULL;
        unchain(s);
        leave(s);
        bus_wait_end(b, &s->w);
        b->stores.n--;
        s->next = done;
        done = s;
        s = older;
    }
    metric_set(&pending, (int64_t)b->stores.n);
    while (done) {
        s = done;
        done = s->next;
        metric_add(&stored, r->status == BUS_OK);
        metric_add(&refused, r->status == BUS_REFUSED);
        if (s->cb)
            s->cb(s->ctx, r);
        free(s->why);
        free(s);
    }
    if (b->closing && b->stores.n == 0)
        bus_close_soon(b);
}

static void say_no(struct bus_stored_item *s, enum bus_status verdict, const char *why)
{
    leave(s);
    enter(s, SAYING_NO);
    s->verdict = verdict;
    s->why = why ? strdup(why) : NULL;
    bus_wait_at(s->b, &s->w, clock_mono_ms());
}

static void back_off(struct bus_stored_item *s)
{
    metric_add(&not_now, 1);
    if (s->state == SENT) { /* otherwise a late answer to an earlier attempt */
        leave(s);
        enter(s, BACKOFF);
        wake_at(s, clock_mono_ms() + delay(s, BACKOFF_MS));
    }
    bus_stores_pump(s->b);
}

static void on_due(struct bus_wait *w)
{
    struct bus_stored_item *s = (struct bus_stored_item *)w;
    struct bus *b = s->b;
    if (s->state == SAYING_NO) {
        end(s, &(struct bus_stored){.status = s->verdict, .error = s->why ? s->why : ""});
        bus_stores_pump(b); /* one behind it may have waited for its end */
        return;
    }
    if (clock_mono_ms() >= s->give_up_at_ms) {
        end(s, &(struct bus_stored){.status = BUS_TIMEOUT, .error = "no stream took it in time"});
        bus_stores_pump(b);
        return;
    }
    if (s->state == SENT) {
        metric_add(&timeouts, 1);
        bus_streams_check(b);
    }
    requeue(s);
    bus_stores_pump(b);
}

static void on_reply(struct bus_wait *w, natsMsg *m)
{
    struct bus_stored_item *s = (struct bus_stored_item *)w;
    struct bus *b = s->b;
    if (s->state == SAYING_NO)
        return;
    if (natsMsg_IsNoResponders(m)) {
        bus_streams_check(b);
        back_off(s);
        return;
    }
    json_t *json = json_loadb(natsMsg_GetData(m), (size_t)natsMsg_GetDataLength(m), 0, NULL);
    json_t *error = json_object_get(json, "error");
    const char *stream = json_string_value(json_object_get(json, "stream"));
    if (error) {
        const char *text = json_string_value(json_object_get(error, "description"));
        /* 400: the message itself is wrong for the stream. All else (503 full, no resources, no leader; 409) may pass. */
        if (json_integer_value(json_object_get(error, "code")) == 400) {
            end(s, &(struct bus_stored){.status = BUS_REFUSED, .error = text ? text : "no reason given"});
            bus_stores_pump(b);
        } else {
            back_off(s);
        }
    } else if (stream && json_is_true(json_object_get(json, "duplicate")) &&
               json_integer_value(json_object_get(json, "seq")) == 0) {
        back_off(s); /* a cluster's leader has seen it, but too few have it yet: it would be lost with that leader */
    } else if (stream) { /* otherwise somebody else's answer */
        end(s, &(struct bus_stored){.status = BUS_OK,
                                    .stream = stream,
                                    .seq = (uint64_t)json_integer_value(json_object_get(json, "seq")),
                                    .duplicate = json_is_true(json_object_get(json, "duplicate")),
                                    .error = ""});
        bus_stores_pump(b);
    }
    json_decref(json);
}

/* ---- sending ---- */

static void send_one(struct bus_stored_item *s)
{
    char inbox[BUS_INBOX_MAX];
    struct err e = {""};
    metric_add(&repeated, s->attempts > 0);
    leave(s);
    enter(s, SENT);
    s->attempts++;
    wake_at(s, clock_mono_ms() + delay(s, ANSWER_MS));
    /* -1: the connection is away. The next up, or the deadline, brings it back into the queue. */
    if (bus_send_now(s->b, &s->o, bus_wait_inbox(s->b, &s->w, inbox), s->said_wall_ms, &e) == -2)
        say_no(s, BUS_REFUSED, e.text);
}

void bus_stores_pump(struct bus *b)
{
    struct bus_stores *t = &b->stores;
    while (t->queued && b->connected && bus_link_up(b->link) && t->in_flight < WINDOW &&
           (t->in_flight == 0 || t->in_flight_bytes + t->queued->bytes <= WINDOW_BYTES))
        send_one(t->queued);
}

void bus_stores_again(struct bus *b)
{
    struct bus_stored_item *s, *next;
    DL_FOREACH_SAFE(b->stores.others, s, next)
    {
        if (s->state == SENT || s->state == BACKOFF) {
            s->attempts = 1; /* new luck: short limits again */
            requeue(s);
        }
    }
    bus_stores_pump(b);
}

void bus_stores_fail(struct bus *b)
{
    static const struct bus_stored closed = {.status = BUS_CLOSED, .error = "the bus was closed"};
    size_t n = b->stores.n; /* what callbacks add is failed by another call */
    while (n-- > 0 && b->stores.n > 0)
        end(b->stores.queued ? b->stores.queued : b->stores.others, &closed);
}

/* Copies text into s->copy; NULL stays NULL. */
static const char *keep(char **at, const char *text)
{
    if (!text)
        return NULL;
    char *kept = *at;
    size_t n = strlen(text) + 1;
    memcpy(kept, text, n);
    *at += n;
    return kept;
}

static size_t space(const char *text)
{
    return text ? strlen(text) + 1 : 0;
}

void bus_store(struct bus *b, const struct bus_out *o, int64_t give_up_ms, bus_stored_cb cb, void *ctx)
{
    assert(o->id && *o->id && "a store without an id could not be repeated");
    struct err e = {""};
    bool ok = bus_out_check(b, o, &e) == 0;
    size_t text = space(o->subject) + space(o->id) + space(o->type) + space(o->traceparent);
    size_t len = ok ? o->len : 0;
    struct bus_stored_item *s = malloc(sizeof *s + text + len);
    assert(s && "out of memory for a message");
    *s = (struct bus_stored_item){
        .b = b,
        .cb = cb,
        .ctx = ctx,
        .order = ++b->stores.last_order,
        .bytes = len + text,
        .give_up_at_ms = give_up_ms > 0 ? clock_mono_ms() + give_up_ms : BUS_NEVER,
        .said_wall_ms = clock_wall_ms(),
        .w = {.on_due = on_due, .on_reply = on_reply},
    };
    char *at = s->copy;
    s->o = (struct bus_out){.subject = keep(&at, o->subject),
                            .id = keep(&at, o->id),
                            .type = keep(&at, o->type),
                            .traceparent = keep(&at, o->traceparent),
                            .data = at,
                            .len = len};
    if (len)
        memcpy(at, o->data, len);
    b->stores.n++;
    metric_set(&pending, (int64_t)b->stores.n);
    enter(s, QUEUED);
    if (!ok || b->closing) {
        say_no(s, ok ? BUS_CLOSED : BUS_REFUSED, ok ? "the bus was closed" : e.text);
        return;
    }
    wake_at(s, BUS_NEVER);
    const struct bus_stream *row = bus_stream_of(s->o.subject);
    if (row && (row->max_per_subject == 1 || row->work_queue))
        follow_up(s);
    if (row && row->work_queue) {
        s->in_order = true;
        requeue(s);
    }
    bus_stores_pump(b);
}
