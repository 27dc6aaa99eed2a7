/* bus.c - the bus: its connection over time, subscriptions, publishing, requests, the end. */
#include "common/bus_priv.h"
#include "common/clock.h"
#include "common/metric.h"
#include <assert.h>
#include <ctype.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#define HELD_BYTES_MAX  (8 * 1024 * 1024)
#define HELD_OVERHEAD   256 /* of a message in memory, about */
#define REOPEN_FIRST_MS 250
#define REOPEN_MAX_MS   5000
#define CLOSE_LEAST_MS  50 /* for the library's threads to end, even if there is no time left */

METRIC_DEFINE(published, METRIC_COUNTER, "redoubt_bus_published_total", "Messages published, all kinds.");
METRIC_DEFINE(held_back, METRIC_COUNTER, "redoubt_bus_held_total",
              "Messages that waited for the connection to come back.");
METRIC_DEFINE(dropped, METRIC_COUNTER, "redoubt_bus_publish_refused_total",
              "Publications refused: wrong, too large, or no connection and no room to wait.");
METRIC_DEFINE(sent_on, METRIC_COUNTER, "redoubt_bus_sent_on_total",
              "Messages dropped because somebody had JetStream send them to a subject of the suite.");
METRIC_DEFINE(requests, METRIC_COUNTER, "redoubt_bus_requests_total", "Requests sent.");
METRIC_DEFINE(request_timeouts, METRIC_COUNTER, "redoubt_bus_request_timeouts_total",
              "Requests without an answer in time.");
METRIC_DEFINE(losses, METRIC_COUNTER, "redoubt_bus_connection_losses_total", "Times that the connection was lost.");
METRIC_DEFINE(reopened, METRIC_COUNTER, "redoubt_bus_reopened_total",
              "Connections that had to be opened anew because the old one would not come back.");

bool bus_up(const struct bus *b)
{
    return b->up;
}

const char *bus_status_text(enum bus_status s)
{
    static const char *const text[] = {[BUS_OK] = "ok",
                                       [BUS_TIMEOUT] = "no answer in time",
                                       [BUS_NO_RESPONDERS] = "nobody serves that subject",
                                       [BUS_REFUSED] = "refused",
                                       [BUS_CLOSED] = "the bus was closed"};
    return (size_t)s < sizeof text / sizeof text[0] ? text[s] : "?";
}

void bus_error(struct bus *b, const char *fmt, ...)
{
    char text[ERR_TEXT_MAX];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    if (b->o.on_error && !b->closing)
        b->o.on_error(b->o.ctx, text);
}

/* ---- subscriptions ---- */

static bool on_message(void *ctx, natsMsg *m)
{
    struct bus_sub *s = ctx;
    s->received++;
    if (s->raw)
        return s->raw(s->ctx, m);
    struct bus_view v;
    bus_view(&v, m);
    if ((v.delivered || v.copied) && subject_tail(s->subject, SUBJECT_PREFIX)) {
        metric_add(&sent_on, 1);
        bus_error(s->b, "a message of a stream was sent on to %.100s: it counts for nothing there", s->subject);
        return false;
    }
    s->fn(s->ctx, &v.m); /* s may be gone from here on */
    return false;
}

static void sub_attach(struct bus_sub *s)
{
    s->feed = bus_link_subscribe(s->b->link, s->subject, s->queue, on_message, s);
    if (!s->feed)
        bus_error(s->b, "cannot subscribe to %s", s->subject);
}

static void sub_free(struct bus_sub *s)
{
    DL_DELETE(s->b->subs, s);
    free(s->subject);
    free(s->queue);
    free(s);
}

static struct bus_sub *subscribe(struct bus *b, const char *subject, const char *queue, bus_handler fn,
                                 bus_feed_fn raw, void *ctx)
{
    if (!bus_subject_ok(subject, true) || (queue && (!*queue || strpbrk(queue, " \t\r\n"))))
        return NULL;
    struct bus_sub *s = calloc(1, sizeof *s);
    if (!s)
        return NULL;
    *s = (struct bus_sub){.b = b, .fn = fn, .raw = raw, .ctx = ctx};
    s->subject = strdup(subject);
    s->queue = queue ? strdup(queue) : NULL;
    DL_APPEND(b->subs, s);
    if (!s->subject || (queue && !s->queue)) {
        sub_free(s);
        return NULL;
    }
    if (b->connected && bus_link_up(b->link))
        sub_attach(s);
    return s;
}

struct bus_sub *bus_subscribe(struct bus *b, const char *subject, const char *queue, bus_handler fn, void *ctx)
{
    return subscribe(b, subject, queue, fn, NULL, ctx);
}

struct bus_sub *bus_subscribe_raw(struct bus *b, const char *subject, const char *queue, bus_feed_fn raw, void *ctx)
{
    return subscribe(b, subject, queue, NULL, raw, ctx);
}

void bus_unsubscribe_rest(struct bus_sub *s, bus_feed_fn rest)
{
    if (!s)
        return;
    if (s->feed)
        bus_feed_end(s->feed, rest, s->b);
    sub_free(s);
}

void bus_unsubscribe(struct bus_sub *s)
{
    bus_unsubscribe_rest(s, NULL);
}

/* ---- publishing ---- */

int bus_send_now(struct bus *b, const struct bus_out *o, const char *reply, int64_t time_ms, struct err *e)
{
    if (!b->connected || !bus_link_up(b->link))
        return -1;
    metric_add(&published, 1);
    if (!o->id && !o->type && !o->traceparent)
        return bus_link_publish(b->link, o->subject, reply, o->data, o->len, e);
    natsMsg *m = bus_message(b, o, reply, time_ms);
    if (!m) {
        err_set(e, "cannot publish to %s: out of memory", o->subject);
        return -2;
    }
    int r = bus_link_publish_msg(b->link, m, e);
    bus_link_release(b->link, m);
    return r;
}

static void held_free(struct bus *b, struct bus_held *h)
{
    DL_DELETE(b->held, h);
    b->held_bytes -= h->bytes;
    natsMsg_Destroy(h->m);
    free(h);
}

static int hold(struct bus *b, const struct bus_out *o, const char *reply, uint64_t wait_id, struct err *e)
{
    size_t bytes = o->len + HELD_OVERHEAD;
    if (b->held_bytes + bytes > HELD_BYTES_MAX)
        return err_set(e, "not connected to NATS, and %d bytes wait already", HELD_BYTES_MAX);
    struct bus_held *h = calloc(1, sizeof *h);
    natsMsg *m = h ? bus_message(b, o, reply, clock_wall_ms()) : NULL;
    if (!m) {
        free(h);
        return err_set(e, "cannot publish to %s: out of memory", o->subject);
    }
    *h = (struct bus_held){.m = m, .bytes = bytes, .wait_id = wait_id};
    b->held_bytes += bytes;
    DL_APPEND(b->held, h);
    metric_add(&held_back, 1);
    return 0;
}

static void send_held(struct bus *b)
{
    struct err e;
    while (b->held && bus_link_up(b->link)) {
        struct bus_held *h = b->held;
        if (h->wait_id == 0 || bus_wait_known(b, h->wait_id)) {
            int r = bus_link_publish_msg(b->link, h->m, &e);
            if (r == -1)
                return; /* at the next up */
            if (r == -2)
                bus_error(b, "%s", e.text);
            else
                metric_add(&published, 1);
        }
        held_free(b, h);
    }
}

/* Sends, or holds it until the connection is there. */
static int send_or_hold(struct bus *b, const struct bus_out *o, const char *reply, uint64_t wait_id, struct err *e)
{
    int r = b->held ? -1 : bus_send_now(b, o, reply, clock_wall_ms(), e); /* never past what waits already */
    return r == -1 ? hold(b, o, reply, wait_id, e) : r;
}

int bus_publish(struct bus *b, const struct bus_out *o, struct err *e)
{
    if (b->closing) {
        metric_add(&dropped, 1);
        return err_set(e, "cannot publish to %s: the bus is being closed", o->subject);
    }
    if (bus_out_check(b, o, e) || send_or_hold(b, o, o->reply, 0, e)) {
        metric_add(&dropped, 1);
        return -1;
    }
    return 0;
}

/* ---- requests ---- */

static void request_end(struct bus_request *r, enum bus_status st, const struct bus_msg *m)
{
    bus_wait_end(r->b, &r->w);
    DL_DELETE(r->b->requests, r);
    r->cb(r->ctx, st, m);
    free(r);
}

static void request_due(struct bus_wait *w)
{
    struct bus_request *r = (struct bus_request *)w;
    if (r->due_status == BUS_TIMEOUT)
        metric_add(&request_timeouts, 1);
    request_end(r, r->due_status, NULL);
}

static void request_reply(struct bus_wait *w, natsMsg *m)
{
    struct bus_request *r = (struct bus_request *)w;
    if (natsMsg_IsNoResponders(m)) {
        request_end(r, BUS_NO_RESPONDERS, NULL);
        return;
    }
    struct bus_view v;
    bus_view(&v, m);
    request_end(r, BUS_OK, &v.m);
}

void bus_request(struct bus *b, const struct bus_out *o, int64_t timeout_ms, bus_reply_cb cb, void *ctx)
{
    struct bus_request *r = calloc(1, sizeof *r);
    assert(r && "out of memory for a request");
    *r = (struct bus_request){.b = b,
                              .cb = cb,
                              .ctx = ctx,
                              .due_status = BUS_TIMEOUT,
                              .w = {.on_due = request_due, .on_reply = request_reply}};
    DL_APPEND(b->requests, r);
    char inbox[BUS_INBOX_MAX];
    struct err e = {""};
    bus_wait_inbox(b, &r->w, inbox);
    metric_add(&requests, 1);
    if (b->closing)
        r->due_status = BUS_CLOSED;
    else if (bus_out_check(b, o, &e) || send_or_hold(b, o, inbox, r->w.id, &e))
        r->due_status = BUS_REFUSED;
    if (r->due_status == BUS_REFUSED)
        bus_error(b, "%s", e.text);
    bus_wait_at(b, &r->w, clock_mono_ms() + (r->due_status == BUS_TIMEOUT ? timeout_ms : 0));
}

/* ---- the connection over time ---- */

static void on_up(void *ctx)
{
    struct bus *b = ctx;
    b->connected = true;
    b->open_delay_ms = 0;
    b->max_payload = bus_link_max_payload(b->link);
    struct bus_sub *s, *next;
    DL_FOREACH_SAFE(b->subs, s, next)
    {
        if (!s->feed && bus_link_up(b->link))
            sub_attach(s);
    }
    send_held(b);
    bus_stores_pump(b);
    if (!b->closing)
        bus_streams_connected(b);
}

void bus_went_up(struct bus *b)
{
    bool was_up = b->up;
    b->up = true;
    bus_stores_again(b);
    bus_consumers_up(b);
    bus_watches_up(b);
    if (!was_up && b->o.on_up)
        b->o.on_up(b->o.ctx);
}

static void on_down(void *ctx)
{
    struct bus *b = ctx;
    bool was_up = b->up;
    b->connected = b->up = false;
    metric_add(&losses, 1);
    bus_streams_lost(b);
    bus_consumers_down(b);
    bus_watches_down(b);
    if (was_up && b->o.on_down && !b->closing)
        b->o.on_down(b->o.ctx);
}

static void on_turn(void *ctx)
{
    struct bus *b = ctx;
    if (b->o.on_turn && !b->closing)
        b->o.on_turn(b->o.ctx);
}

static void on_link_error(void *ctx, const char *what)
{
    bus_error(ctx, "NATS: %s", what);
}

static void finish_if_closed(struct bus *b);

static void on_link_closed(void *ctx)
{
    struct bus_old *old = ctx;
    old->k = NULL;
    finish_if_closed(old->b);
}

/* The present link goes; it closes by itself. False if too many are closing already. */
static bool drop_link(struct bus *b, int64_t flush_ms)
{
    size_t i = 0;
    while (i < BUS_OLD_MAX && b->old[i].k)
        i++;
    if (i == BUS_OLD_MAX)
        return false;
    struct bus_sub *s;
    DL_FOREACH(b->subs, s)
    s->feed = NULL;
    b->old[i] = (struct bus_old){.b = b, .k = b->link};
    b->link = NULL;
    bus_link_close(b->old[i].k, flush_ms, on_link_closed, &b->old[i]);
    return true;
}

static void reopen_later(struct bus *b)
{
    b->open_delay_ms = b->open_delay_ms ? b->open_delay_ms * 2 : REOPEN_FIRST_MS;
    if (b->open_delay_ms > REOPEN_MAX_MS)
        b->open_delay_ms = REOPEN_MAX_MS;
    bus_wait_at(b, &b->reopen, clock_mono_ms() + b->open_delay_ms);
}

static void on_dead(void *ctx, const char *why)
{
    struct bus *b = ctx;
    bus_error(b, "the connection to NATS is given up, another one is opened: %s", why);
    reopen_later(b);
}

static void on_reopen(struct bus_wait *w)
{
    struct bus *b = (struct bus *)((char *)w - offsetof(struct bus, reopen));
    struct err e;
    if (b->closing)
        return;
    if (b->link && !drop_link(b, 0)) {
        reopen_later(b);
        return;
    }
    metric_add(&reopened, 1);
    b->link = bus_link_open(b->l, &b->o, &b->ev, b, &e);
    if (!b->link) {
        bus_error(b, "cannot open a connection to NATS: %s", e.text);
        reopen_later(b);
    }
}

/* ---- start ---- */

static int copy_options(struct bus *b, const struct bus_opts *o, struct err *e)
{
    b->o = *o;
    struct {
        const char **to;
        const char *from;
    } text[] = {{&b->o.url, o->url},
                {&b->o.name, o->name ? o->name : "redoubt"},
                {&b->o.user, o->user},
                {&b->o.password, o->password},
                {&b->o.token, o->token},
                {&b->o.tls_ca_file, o->tls_ca_file},
                {&b->o.inbox_prefix, o->inbox_prefix}};
    size_t n = sizeof text / sizeof text[0];
    for (size_t i = 0; i < n; i++)
        *text[i].to = NULL;
    for (size_t i = 0; i < n; i++)
        if (text[i].from && !(*text[i].to = strdup(text[i].from)))
            return err_set(e, "out of memory");
    return 0;
}

static void free_options(struct bus *b)
{
    const char *text[] = {b->o.url,   b->o.name,        b->o.user,        b->o.password,
                          b->o.token, b->o.tls_ca_file, b->o.inbox_prefix};
    for (size_t i = 0; i < sizeof text / sizeof text[0]; i++)
        free((char *)text[i]);
}

static void free_bus(struct bus *b)
{
    while (b->subs)
        sub_free(b->subs);
    while (b->held)
        held_free(b, b->held);
    assert(HASH_COUNT(b->waits.by_id) == 0 && "somebody still waits for an answer");
    free(b->waits.heap);
    free_options(b);
    free(b);
}

struct bus *bus_open(struct loop *l, const struct bus_opts *o, struct err *e)
{
    if (!o->url || !*o->url || !o->inbox_prefix || !bus_subject_ok(o->inbox_prefix, false) ||
        strlen(o->inbox_prefix) > BUS_PREFIX_MAX) {
        err_set(e, "the bus needs a url and an inbox prefix (a subject of up to %d bytes)", BUS_PREFIX_MAX);
        return NULL;
    }
    if (o->stream_replicas < 0 || o->stream_replicas > 5) {
        err_set(e, "stream replicas are %d; 1 to 5 are allowed", o->stream_replicas);
        return NULL;
    }
    uint64_t random;
    if (getrandom(&random, sizeof random, 0) != (ssize_t)sizeof random) {
        err_set(e, "no source of randomness");
        return NULL;
    }
    struct bus *b = calloc(1, sizeof *b);
    if (!b || copy_options(b, o, e)) {
        if (b)
            free_options(b);
        free(b);
        return NULL;
    }
    b->l = l;
    b->ev = (struct bus_link_events){
        .up = on_up, .down = on_down, .turn = on_turn, .dead = on_dead, .error = on_link_error};
    b->reopen.on_due = on_reopen;
    b->random = random;
    snprintf(b->inbox, sizeof b->inbox, "%s.%016" PRIx64, o->inbox_prefix, random);
    char all[BUS_INBOX_MAX];
    snprintf(all, sizeof all, "%s.*", b->inbox);
    b->inbox_sub = bus_subscribe_raw(b, all, NULL, bus_wait_dispatch, b);
    b->link = b->inbox_sub ? bus_link_open(l, &b->o, &b->ev, b, e) : NULL;
    if (!b->link) {
        free_bus(b);
        return NULL;
    }
    bus_waits_init(b);
    return b;
}

/* ---- the end ---- */

static void on_timer_closed(void *ctx)
{
    struct bus *b = ctx;
    loop_cb done = b->done;
    void *done_ctx = b->done_ctx;
    free_bus(b);
    if (done)
        done(done_ctx);
}

static void finish(struct bus *b)
{
    if (b->finished)
        return;
    b->finished = true;
    /* Callbacks of the last answers may have asked again: they are told the same. */
    while (b->requests || b->stores.n > 0) {
        bus_stores_fail(b);
        while (b->requests)
            request_end(b->requests, BUS_CLOSED, NULL);
    }
    bus_wait_end(b, &b->close_due);
    bus_wait_end(b, &b->reopen);
    loop_timer_close(&b->waits.timer, on_timer_closed);
}

static void finish_if_closed(struct bus *b)
{
    for (size_t i = 0; i < BUS_OLD_MAX; i++)
        if (b->old[i].k)
            return;
    if (b->closing && !b->link)
        finish(b);
}

static void on_close_overdue(struct bus_wait *w)
{
    struct bus *b = (struct bus *)((char *)w - offsetof(struct bus, close_due));
    for (size_t i = 0; i < BUS_OLD_MAX; i++)
        if (b->old[i].k)
            bus_link_forget(b->old[i].k); /* ends by itself */
    finish(b);
}

/* All is said, or the time for it is over. */
static void on_close_due(struct bus_wait *w)
{
    struct bus *b = (struct bus *)((char *)w - offsetof(struct bus, close_due));
    bus_stores_fail(b);
    int64_t left_ms = b->close_by_ms - clock_mono_ms();
    w->on_due = on_close_overdue;
    bus_wait_at(b, w, clock_mono_ms() + (left_ms > CLOSE_LEAST_MS ? left_ms : CLOSE_LEAST_MS));
    if (b->link && !drop_link(b, left_ms > 1 ? left_ms : 1)) {
        bus_link_close(b->link, 0, NULL, NULL);
        b->link = NULL;
    }
    finish_if_closed(b);
}

void bus_close_soon(struct bus *b)
{
    if (b->close_due.on_due == on_close_due)
        bus_wait_at(b, &b->close_due, clock_mono_ms());
}

void bus_close(struct bus *b, int64_t timeout_ms, loop_cb done, void *ctx)
{
    assert(!b->closing && "a bus is closed once");
    while (b->consumers)
        bus_consumer_close(b->consumers); /* gives back what it holds: before closing is set */
    while (b->watches)
        bus_watch_close(b->watches);
    bus_serve_end(b);
    bus_streams_lost(b);
    b->closing = true;
    b->done = done;
    b->done_ctx = ctx;
    int64_t now = clock_mono_ms();
    b->close_by_ms = now + timeout_ms;
    struct bus_sub *s, *next;
    DL_FOREACH_SAFE(b->subs, s, next)
    {
        if (s != b->inbox_sub)
            bus_unsubscribe(s);
    }
    struct bus_request *r;
    DL_FOREACH(b->requests, r)
    {
        r->due_status = BUS_CLOSED;
        bus_wait_at(b, &r->w, now);
    }
    /* What is on its way to a stream gets the first half of the time. */
    b->close_due.on_due = on_close_due;
    bus_wait_at(b, &b->close_due, b->up && b->stores.n > 0 ? now + timeout_ms / 2 : now);
}
