/* bus_link.c - one connection of nats.c, made and ended on worker threads, heard on the loop. */
#include "common/bus_link.h"
#include "common/bus_queue.h"
#include "common/metric.h"
#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/random.h>
#include <utlist.h>

#define QUEUE_MAX         65536
#define TURN_MAX          4096 /* messages per turn of the loop, so that timers and sockets live */
#define RELEASE_EVERY     256
#define USED_MAX          64
#define USED_BYTES        65536
#define CONNECT_MS        1000 /* also how long the library may hold its lock; well below tilt */
#define WRITE_MS          1000
#define PING_MS           2000
#define PINGS_OUT         2
#define RECONNECT_WAIT_MS 250
#define RECONNECT_JITTER  100
#define PENDING_BYTES     (1024 * 1024) /* only for the moment before the loop knows that the connection is gone */
#define SERVERS_MAX       16

METRIC_DEFINE(received, METRIC_COUNTER, "redoubt_bus_received_total", "Messages handed over to the loop.");
METRIC_DEFINE(connects, METRIC_COUNTER, "redoubt_bus_connects_total", "Connections made, the first one included.");
METRIC_DEFINE(slow, METRIC_COUNTER, "redoubt_bus_slow_consumer_total",
              "Times that the library began to drop messages because they were not taken fast enough.");
METRIC_DEFINE(errors, METRIC_COUNTER, "redoubt_bus_errors_total",
              "Errors told by the server or the library, such as permission violations.");
METRIC_DEFINE(write_stalls, METRIC_COUNTER, "redoubt_bus_write_stalls_total",
              "Connections given up because the server did not read.");

/* nats.c before 3.6.1 uses a subscription without holding it while its reading thread handles a message: who destroys one at
 * that moment crashes that thread. So a subscription is first only ended, and destroyed once a mark that was published
 * after that has come back: then the reading thread has handled all that was before. */
struct bus_feed {
    struct bus_link *k;
    natsSubscription *sub; /* NULL once destroyed or about to be */
    bus_feed_fn fn;
    void *ctx;
    bool ended, watched; /* watched: the library will say when it is done */
    uint64_t mark;       /* destroyed when this one has come back; 0 = not ended at the library yet */
    struct bus_feed *prev, *next;
};

struct bus_link {
    struct loop *l;
    struct bus_link_events ev;
    void *ctx;
    natsOptions *options;
    natsConnection *nc; /* loop thread, except while `working` */
    struct bus_queue q;
    uv_async_t wake;
    uv_work_t work;
    bool working;      /* a worker thread has nc */
    natsStatus result; /* of connecting */
    bool sick;         /* the server does not read: dead at the next turn */
    bool said_dead;    /* dead() was called */
    int level;         /* ups minus downs: up while positive. They may come in any order */
    bool was_up;       /* up() was called last, not down() */
    bool over;         /* the library's last callback came */
    int64_t max_payload;
    size_t watched;
    struct bus_feed *feeds;
    char mark_subject[96];
    struct bus_feed *marks;
    uint64_t mark, mark_away; /* the last one given out; the one that is on its way, 0 = none */
    natsMsg *used[USED_MAX];  /* see bus_link_release() */
    size_t n_used, used_bytes;
    /* closing: */
    bool closing, gone; /* gone: nc is destroyed */
    int64_t flush_ms;
    natsSubscription **subs; /* to be destroyed with nc */
    size_t n_subs;
    loop_cb closed;
    void *closed_ctx;
};

/* ---- on the library's threads ---- */

static void on_message(natsConnection *nc, natsSubscription *sub, natsMsg *m, void *closure)
{
    (void)nc;
    (void)sub;
    struct bus_feed *f = closure;
    if (!bus_queue_push(&f->k->q, (struct bus_item){.kind = BUS_ITEM_MESSAGE, .feed = f, .msg = m}))
        natsMsg_Destroy(m);
}

static void on_feed_done(void *closure)
{
    struct bus_feed *f = closure;
    bus_queue_push_always(&f->k->q, (struct bus_item){.kind = BUS_ITEM_FEED_DONE, .feed = f});
}

static void on_up(natsConnection *nc, void *closure)
{
    (void)nc;
    struct bus_link *k = closure;
    bus_queue_push_always(&k->q, (struct bus_item){.kind = BUS_ITEM_UP});
}

static void on_down(natsConnection *nc, void *closure)
{
    (void)nc;
    struct bus_link *k = closure;
    bus_queue_push_always(&k->q, (struct bus_item){.kind = BUS_ITEM_DOWN});
}

static void on_closed(natsConnection *nc, void *closure)
{
    (void)nc;
    struct bus_link *k = closure;
    bus_queue_push_always(&k->q, (struct bus_item){.kind = BUS_ITEM_CLOSED});
}

static void on_error(natsConnection *nc, natsSubscription *sub, natsStatus s, void *closure)
{
    (void)nc;
    (void)sub;
    struct bus_link *k = closure;
    bus_queue_push_always(&k->q, (struct bus_item){.kind = BUS_ITEM_ERROR, .code = (int)s});
}

/* ---- on libuv's worker threads ---- */

static void work_connect(uv_work_t *w)
{
    struct bus_link *k = w->data;
    k->result = natsConnection_Connect(&k->nc, k->options);
    if (k->result == NATS_OK) /* otherwise the library goes on by itself and calls on_up() */
        bus_queue_push_always(&k->q, (struct bus_item){.kind = BUS_ITEM_UP});
    nats_ReleaseThreadMemory();
}

static void work_close(uv_work_t *w)
{
    struct bus_link *k = w->data;
    if (k->flush_ms > 0)
        natsConnection_FlushTimeout(k->nc, k->flush_ms);
    natsConnection_Destroy(k->nc);
    for (size_t i = 0; i < k->n_subs; i++)
        natsSubscription_Destroy(k->subs[i]);
    nats_ReleaseThreadMemory();
}

/* ---- on the loop ---- */

static void drain(struct bus_link *k);

static void free_feed(struct bus_feed *f)
{
    DL_DELETE(f->k->feeds, f);
    free(f);
}

static void release_all(struct bus_link *k)
{
    for (size_t i = 0; i < k->n_used; i++)
        natsMsg_Destroy(k->used[i]);
    k->n_used = k->used_bytes = 0;
}

/* The library frees messages on a thread of its own and wakes that for each: so several at once, with the next that come. */
void bus_link_release(struct bus_link *k, natsMsg *m)
{
    k->used[k->n_used++] = m;
    k->used_bytes += (size_t)natsMsg_GetDataLength(m);
    if (k->n_used == USED_MAX || k->used_bytes > USED_BYTES)
        release_all(k);
}

static void on_wake_closed(uv_handle_t *h)
{
    struct bus_link *k = h->data;
    struct bus_item i;
    release_all(k);
    while (bus_queue_next(&k->q, &i))
        if (i.kind == BUS_ITEM_MESSAGE)
            natsMsg_Destroy(i.msg);
    while (k->feeds)
        free_feed(k->feeds);
    bus_queue_done(&k->q);
    natsOptions_Destroy(k->options);
    free(k->subs);
    if (k->closed)
        k->closed(k->closed_ctx);
    free(k);
}

static void finish_if_over(struct bus_link *k)
{
    if (!k->closing || !k->gone || !k->over || k->watched > 0 || uv_is_closing((uv_handle_t *)&k->wake))
        return;
    uv_close((uv_handle_t *)&k->wake, on_wake_closed);
}

static void on_work_closed(uv_work_t *w, int status)
{
    (void)status;
    struct bus_link *k = w->data;
    k->working = false;
    k->gone = true;
    k->nc = NULL;
    drain(k);
}

static void start_close(struct bus_link *k)
{
    if (!k->nc) {
        k->gone = true;
        drain(k);
        return;
    }
    size_t n = 0;
    struct bus_feed *f;
    DL_COUNT(k->feeds, f, n);
    k->subs = calloc(n + 1, sizeof *k->subs);
    assert(k->subs && "out of memory for a few words");
    DL_FOREACH(k->feeds, f)
    {
        if (f->sub)
            k->subs[k->n_subs++] = f->sub;
        f->sub = NULL;
    }
    if (k->level <= 0)
        k->flush_ms = 0;
    k->working = true;
    uv_queue_work(&k->l->uv, &k->work, work_close, on_work_closed);
}

static void on_work_connected(uv_work_t *w, int status)
{
    (void)status;
    struct bus_link *k = w->data;
    k->working = false;
    if (k->result != NATS_OK && k->result != NATS_NOT_YET_CONNECTED) {
        k->nc = NULL;
        k->over = true;
    }
    if (k->closing) {
        start_close(k);
    } else if (!k->nc) {
        k->said_dead = true;
        k->ev.dead(k->ctx, natsStatus_GetText(k->result));
    } else {
        drain(k); /* what came before nc was ours */
    }
}

/* ---- the end of subscriptions ---- */

static void send_mark(struct bus_link *k)
{
    char text[24];
    struct err e;
    if (!k->marks || k->mark_away > 0 || !bus_link_up(k))
        return; /* that one first; or at the next up */
    snprintf(text, sizeof text, "%" PRIu64, k->mark);
    if (bus_link_publish(k, k->mark_subject, NULL, text, strlen(text), &e) == 0)
        k->mark_away = k->mark;
}

static void end_at_library(struct bus_feed *f)
{
    (void)natsSubscription_Unsubscribe(f->sub);
    f->mark = ++f->k->mark;
}

static bool on_mark(void *ctx, natsMsg *m)
{
    struct bus_link *k = ctx;
    uint64_t back = strtoull(natsMsg_GetData(m), NULL, 10);
    struct bus_feed *f, *next;
    if (back != k->mark_away) /* of a connection before */
        return false;
    k->mark_away = 0;
    DL_FOREACH_SAFE(k->feeds, f, next)
    {
        if (!f->sub || f->mark == 0 || f->mark > back)
            continue;
        natsSubscription_Destroy(f->sub);
        f->sub = NULL;
        if (!f->watched)
            free_feed(f);
    }
    if (back < k->mark)
        send_mark(k);
    return false;
}

/* What was ended while the connection was away, or whose mark was lost with the one before. */
static void settle_feeds(struct bus_link *k)
{
    struct bus_feed *f;
    bool any = false;
    if (!k->marks)
        k->marks = bus_link_subscribe(k, k->mark_subject, NULL, on_mark, k);
    DL_FOREACH(k->feeds, f)
    {
        if (!f->ended || !f->sub)
            continue;
        if (f->mark == 0)
            end_at_library(f);
        any = true;
    }
    k->mark_away = 0;
    if (any)
        send_mark(k);
}

/* Messages that were handled. The library frees them on a thread of its own and wakes that for each, which costs more than handling a
 * small one: so they are handed back many at once. */
struct spent {
    natsMsg *msg[RELEASE_EVERY];
    size_t n, items; /* messages; all that was taken from the queue */
};

static void hand_back(struct bus_link *k, struct spent *x)
{
    for (size_t i = 0; i < x->n; i++)
        natsMsg_Destroy(x->msg[i]);
    bus_queue_release(&k->q, x->items);
    x->n = x->items = 0;
}

static void handle(struct bus_link *k, const struct bus_item *i, struct spent *spent)
{
    struct bus_feed *f = i->feed;
    switch (i->kind) {
    case BUS_ITEM_MESSAGE:
        if (!f->fn || !f->fn(f->ctx, i->msg))
            spent->msg[spent->n++] = i->msg;
        break;
    case BUS_ITEM_FEED_DONE:
        k->watched--;
        f->watched = false;
        if (f->ended && !f->sub)
            free_feed(f);
        break;
    case BUS_ITEM_UP:
        k->level++;
        metric_add(&connects, 1);
        break;
    case BUS_ITEM_DOWN:
        k->level--;
        break;
    case BUS_ITEM_CLOSED:
        k->over = true;
        break;
    case BUS_ITEM_ERROR:
        metric_add(i->code == NATS_SLOW_CONSUMER ? &slow : &errors, 1);
        if (!k->closing)
            k->ev.error(k->ctx, natsStatus_GetText((natsStatus)i->code));
        break;
    }
}

/* Says what has changed. Only here, so that up and down always take turns. */
static void tell(struct bus_link *k)
{
    if (k->closing || k->said_dead || !k->nc)
        return;
    bool up = k->level > 0 && !k->over && !k->sick;
    if (k->was_up && !up) {
        k->was_up = false;
        k->ev.down(k->ctx);
    } else if (!k->was_up && up) {
        k->was_up = true;
        k->max_payload = natsConnection_GetMaxPayload(k->nc);
        settle_feeds(k);
        k->ev.up(k->ctx);
    }
    if (!k->closing && (k->over || k->sick)) {
        k->said_dead = true;
        k->ev.dead(k->ctx, k->sick ? "the server does not read" : "the server ended the connection for good");
    }
}

static void drain(struct bus_link *k)
{
    struct bus_item i;
    struct spent spent = {.n = 0};
    size_t n = 0;
    int64_t messages = 0;
    /* Items that came before natsConnection_Connect() returned wait for it: handlers may want to publish. */
    if (k->working && !k->closing)
        return;
    while (n < TURN_MAX && bus_queue_next(&k->q, &i)) {
        n++;
        messages += i.kind == BUS_ITEM_MESSAGE;
        handle(k, &i, &spent);
        if (i.kind != BUS_ITEM_MESSAGE)
            tell(k);
        if (++spent.items == RELEASE_EVERY)
            hand_back(k, &spent);
    }
    if (messages > 0 && !k->closing)
        k->ev.turn(k->ctx); /* first: somebody waits for it */
    hand_back(k, &spent);
    release_all(k);
    metric_add(&received, messages);
    tell(k); /* sick */
    if (n == TURN_MAX)
        uv_async_send(&k->wake);
    else
        finish_if_over(k);
}

static void on_wake(uv_async_t *h)
{
    drain(h->data);
}

/* ---- options ---- */

static int set_servers(natsOptions *n, const char *url, bool *ret_tls, struct err *e)
{
    char *copy = strdup(url), *save = NULL;
    const char *list[SERVERS_MAX];
    int count = 0, result = 0;
    if (!copy)
        return err_set(e, "out of memory");
    for (char *s = strtok_r(copy, ", ", &save); s && !result; s = strtok_r(NULL, ", ", &save)) {
        const char *scheme_end = strstr(s, "://");
        bool tls = strncasecmp(s, "tls://", 6) == 0;
        *ret_tls |= tls;
        if (count == SERVERS_MAX)
            result = err_set(e, "more than %d servers in the NATS url", SERVERS_MAX);
        else if (scheme_end && !tls && strncasecmp(s, "nats://", 7) != 0)
            result = err_set(e, "wrong NATS url %.100s: it must start with nats:// or tls://", s);
        else if (!*(scheme_end ? scheme_end + 3 : s))
            result = err_set(e, "wrong NATS url %.100s: there is no host", s);
        else
            list[count++] = s;
    }
    if (!result && count == 0)
        result = err_set(e, "no NATS url");
    if (!result && natsOptions_SetServers(n, list, count) != NATS_OK)
        result = err_set(e, "the NATS client refuses the url");
    free(copy);
    return result;
}

static int set_options(struct bus_link *k, const struct bus_opts *o, struct err *e)
{
    natsOptions *n = k->options;
    bool tls = o->tls_ca_file && *o->tls_ca_file;
    if (set_servers(n, o->url, &tls, e))
        return -1;
    natsStatus s = natsOptions_UseGlobalMessageDelivery(n, true);
#define SET(call) s = s == NATS_OK ? (call) : s
    SET(natsOptions_SetName(n, o->name ? o->name : "redoubt"));
    SET(natsOptions_SetMaxReconnect(n, -1));
    SET(natsOptions_SetRetryOnFailedConnect(n, true, on_up, k));
    SET(natsOptions_SetReconnectedCB(n, on_up, k));
    SET(natsOptions_SetDisconnectedCB(n, on_down, k));
    SET(natsOptions_SetClosedCB(n, on_closed, k));
    SET(natsOptions_SetErrorHandler(n, on_error, k));
    SET(natsOptions_SetReconnectWait(n, RECONNECT_WAIT_MS));
    SET(natsOptions_SetReconnectJitter(n, RECONNECT_JITTER, RECONNECT_JITTER));
    SET(natsOptions_SetReconnectBufSize(n, PENDING_BYTES));
    SET(natsOptions_SetTimeout(n, CONNECT_MS));
    SET(natsOptions_SetWriteDeadline(n, WRITE_MS));
    SET(natsOptions_SetPingInterval(n, PING_MS));
    SET(natsOptions_SetMaxPingsOut(n, PINGS_OUT));
    SET(natsOptions_SetSendAsap(n, true));
    SET(natsOptions_SetNoEcho(n, false));
    SET(natsOptions_SetCustomInboxPrefix(n, o->inbox_prefix));
    if (o->user && *o->user)
        SET(natsOptions_SetUserInfo(n, o->user, o->password ? o->password : ""));
    if (o->token && *o->token)
        SET(natsOptions_SetToken(n, o->token));
    if (tls)
        SET(natsOptions_SetSecure(n, true));
    if (s == NATS_OK && o->tls_ca_file && *o->tls_ca_file &&
        natsOptions_LoadCATrustedCertificates(n, o->tls_ca_file) != NATS_OK)
        return err_set(e, "cannot read the certificates in %s", o->tls_ca_file);
#undef SET
    if (s != NATS_OK)
        return err_set(e, "the NATS client refuses an option: %s", natsStatus_GetText(s));
    return 0;
}

struct bus_link *bus_link_open(struct loop *l, const struct bus_opts *o, const struct bus_link_events *ev, void *ctx,
                               struct err *e)
{
    uint64_t random;
    if (nats_Open(-1) != NATS_OK || getrandom(&random, sizeof random, 0) != (ssize_t)sizeof random) {
        err_set(e, "the NATS client cannot start");
        return NULL;
    }
    nats_SetMessageDeliveryPoolSize(1);
    struct bus_link *k = calloc(1, sizeof *k);
    if (!k || natsOptions_Create(&k->options) != NATS_OK) {
        err_set(e, "out of memory");
        free(k);
        return NULL;
    }
    *k = (struct bus_link){.l = l, .ev = *ev, .ctx = ctx, .options = k->options};
    snprintf(k->mark_subject, sizeof k->mark_subject, "%s.%016" PRIx64 ".0", o->inbox_prefix, random);
    if (set_options(k, o, e)) {
        natsOptions_Destroy(k->options);
        free(k);
        return NULL;
    }
    if (uv_async_init(&l->uv, &k->wake, on_wake) ||
        bus_queue_init(&k->q, &k->wake, o->queue_max ? o->queue_max : QUEUE_MAX)) {
        /* Out of descriptors at the start: the process cannot go on, so a few bytes may stay behind. */
        err_set(e, "cannot make the hand-over queue: out of descriptors");
        return NULL;
    }
    k->wake.data = k->work.data = k;
    k->working = true;
    uv_queue_work(&l->uv, &k->work, work_connect, on_work_connected);
    return k;
}

bool bus_link_up(const struct bus_link *k)
{
    return k->was_up && !k->closing && !k->sick;
}

int64_t bus_link_max_payload(const struct bus_link *k)
{
    return k->max_payload;
}

void bus_link_close(struct bus_link *k, int64_t flush_ms, loop_cb closed, void *ctx)
{
    assert(!k->closing && "a link is closed once");
    k->closing = true;
    k->flush_ms = flush_ms;
    k->closed = closed;
    k->closed_ctx = ctx;
    struct bus_feed *f;
    DL_FOREACH(k->feeds, f)
    {
        f->fn = NULL;
        f->ended = true;
    }
    bus_queue_close(&k->q);
    uv_async_send(&k->wake); /* what is queued is dropped there */
    if (!k->working)
        start_close(k);
}

void bus_link_forget(struct bus_link *k)
{
    k->closed = NULL;
}

/* ---- subscriptions ---- */

struct bus_feed *bus_link_subscribe(struct bus_link *k, const char *subject, const char *queue, bus_feed_fn fn,
                                    void *ctx)
{
    assert(bus_link_up(k));
    struct bus_feed *f = calloc(1, sizeof *f);
    if (!f)
        return NULL;
    *f = (struct bus_feed){.k = k, .fn = fn, .ctx = ctx};
    natsStatus s = queue ? natsConnection_QueueSubscribe(&f->sub, k->nc, subject, queue, on_message, f)
                         : natsConnection_Subscribe(&f->sub, k->nc, subject, on_message, f);
    if (s != NATS_OK) {
        free(f);
        return NULL;
    }
    DL_APPEND(k->feeds, f);
    /* Fails only if the connection was closed for good just now; then f lives as long as the link. */
    f->watched = natsSubscription_SetOnCompleteCB(f->sub, on_feed_done, f) == NATS_OK;
    if (f->watched)
        k->watched++;
    return f;
}

void bus_feed_end(struct bus_feed *f, bus_feed_fn rest, void *ctx)
{
    struct bus_link *k = f->k;
    f->ended = true;
    f->fn = rest;
    f->ctx = ctx;
    if (f->sub && bus_link_up(k)) { /* otherwise when up again, or with the link */
        end_at_library(f);
        send_mark(k);
    }
}

/* ---- publishing ---- */

static int published(struct bus_link *k, natsStatus s, const char *subject, struct err *e)
{
    switch (s) {
    case NATS_OK:
        return 0;
    case NATS_TIMEOUT:
        /* A part may have left: the next byte would be misread. Nothing more goes over this connection. */
        metric_add(&write_stalls, 1);
        k->sick = true;
        uv_async_send(&k->wake);
        return -1;
    case NATS_IO_ERROR:
    case NATS_SSL_ERROR:
    case NATS_CONNECTION_CLOSED:
    case NATS_CONNECTION_DISCONNECTED:
    case NATS_INSUFFICIENT_BUFFER:
    case NATS_STALE_CONNECTION:
        return -1; /* down follows */
    default:
        err_set(e, "cannot publish to %s: %s", subject, natsStatus_GetText(s));
        return -2;
    }
}

int bus_link_publish(struct bus_link *k, const char *subject, const char *reply, const void *data, size_t len,
                     struct err *e)
{
    assert(bus_link_up(k));
    natsStatus s = reply ? natsConnection_PublishRequest(k->nc, subject, reply, data, (int)len)
                         : natsConnection_Publish(k->nc, subject, data, (int)len);
    return published(k, s, subject, e);
}

int bus_link_publish_msg(struct bus_link *k, natsMsg *m, struct err *e)
{
    assert(bus_link_up(k));
    return published(k, natsConnection_PublishMsg(k->nc, m), natsMsg_GetSubject(m), e);
}
