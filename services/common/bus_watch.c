/* bus_watch.c - the present of a filter from its stream, and its future from core NATS. */
#include "common/bus_priv.h"
#include "common/clock.h"
#include "common/metric.h"
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define RESYNC_MS    60000
#define RETRY_MS     1000
#define QUIET_MS     500   /* nothing came for so long: ask whether that was all */
#define REPLAY_MS    10000 /* a replay that takes longer is begun anew */
#define INACTIVE_MS  5000  /* the server drops the replay's consumer after its subscription is gone */
#define NOT_A_SUBSET 10093

METRIC_DEFINE(replays, METRIC_COUNTER, "redoubt_bus_replays_total", "Replays of the present that ended well.");
METRIC_DEFINE(replayed, METRIC_COUNTER, "redoubt_bus_replayed_total", "Messages got from replays.");
METRIC_DEFINE(restarts, METRIC_COUNTER, "redoubt_bus_replay_restarts_total", "Replays that had to be begun anew.");

struct bus_watch {
    struct bus *b;
    char *filter;
    const char *stream;
    int64_t resync_ms;
    bus_handler fn;
    loop_cb synced;
    void *ctx;
    struct bus_sub *live;
    struct bus_sub *replay; /* while replaying */
    struct bus_api api;
    struct bus_wait due;
    char consumer[128]; /* its name; "" until the server has said so */
    int64_t began_ms, came_ms;
    uint64_t came;     /* messages of this replay */
    bool whole_stream; /* the filter is wider than the stream: the server cannot filter */
    bool told;         /* synced() was called since the last up */
    bool busy, closed; /* inside fn; closed there */
    struct bus_watch *prev, *next;
};

static void begin(struct bus_watch *w);

static void stop_replay(struct bus_watch *w)
{
    bus_unsubscribe(w->replay);
    w->replay = NULL;
    bus_api_cancel(&w->api);
}

static void later(struct bus_watch *w, int64_t ms)
{
    bus_wait_at(w->b, &w->due, clock_mono_ms() + ms);
}

static void begin_anew(struct bus_watch *w)
{
    metric_add(&restarts, 1);
    stop_replay(w);
    later(w, RETRY_MS);
}

static void complete(struct bus_watch *w)
{
    stop_replay(w);
    metric_add(&replays, 1);
    later(w, w->resync_ms);
    bool first = !w->told;
    w->told = true;
    if (first && w->synced)
        w->synced(w->ctx); /* w may be gone from here on */
}

static void watch_free(struct bus_watch *w)
{
    free(w->filter);
    free(w);
}

static bool on_replayed(void *ctx, natsMsg *m)
{
    struct bus_watch *w = ctx;
    struct bus_view v;
    bus_view(&v, m);
    if (!v.m.stream)
        return false;
    w->came++;
    w->came_ms = clock_mono_ms();
    metric_add(&replayed, 1);
    bool last = v.m.pending == 0;
    if (!w->whole_stream || bus_subject_match(w->filter, v.m.subject)) {
        w->busy = true;
        w->fn(w->ctx, &v.m);
        w->busy = false;
    }
    if (w->closed)
        watch_free(w);
    else if (last && w->replay)
        complete(w);
    return false;
}

static void on_created(void *ctx, const struct bus_answer *a)
{
    struct bus_watch *w = ctx;
    if (a->status == BUS_REFUSED && a->err_code == NOT_A_SUBSET && !w->whole_stream) {
        w->whole_stream = true;
        begin(w);
        return;
    }
    if (a->status != BUS_OK) {
        bus_error(w->b, "replay of %s from %s: %s (error %d); trying again", w->filter, w->stream, a->error,
                  a->err_code);
        if (a->status == BUS_REFUSED)
            bus_streams_check(w->b);
        begin_anew(w);
        return;
    }
    const char *name = json_string_value(json_object_get(a->json, "name"));
    snprintf(w->consumer, sizeof w->consumer, "%s", name ? name : "");
    json_int_t pending = json_integer_value(json_object_get(a->json, "num_pending"));
    json_int_t sent = json_integer_value(json_object_get(json_object_get(a->json, "delivered"), "consumer_seq"));
    if (pending == 0 && sent <= 0)
        complete(w); /* there is nothing */
}

/* Nothing came for a while: was that all? */
static void on_info(void *ctx, const struct bus_answer *a)
{
    struct bus_watch *w = ctx;
    if (a->status != BUS_OK) {
        begin_anew(w);
        return;
    }
    json_int_t pending = json_integer_value(json_object_get(a->json, "num_pending"));
    json_int_t sent = json_integer_value(json_object_get(json_object_get(a->json, "delivered"), "consumer_seq"));
    if (pending == 0 && sent >= 0 && (uint64_t)sent <= w->came)
        complete(w);
}

static void on_due(struct bus_wait *due)
{
    struct bus_watch *w = (struct bus_watch *)((char *)due - offsetof(struct bus_watch, due));
    int64_t now = clock_mono_ms();
    if (!w->replay) {
        begin(w);
        return;
    }
    if (now - w->began_ms >= REPLAY_MS && now - w->came_ms >= QUIET_MS) {
        begin_anew(w);
        return;
    }
    if (*w->consumer && !bus_api_busy(&w->api) && now - w->came_ms >= QUIET_MS)
        bus_api_call(w->b, &w->api, NULL, on_info, w, "$JS.API.CONSUMER.INFO.%s.%s", w->stream, w->consumer);
    later(w, QUIET_MS);
}

static void begin(struct bus_watch *w)
{
    struct bus *b = w->b;
    char inbox[BUS_INBOX_MAX];
    stop_replay(w);
    if (!b->up)
        return;
    w->came = 0;
    w->consumer[0] = 0;
    w->began_ms = w->came_ms = clock_mono_ms();
    snprintf(inbox, sizeof inbox, "%s.watch.%016" PRIx64 ".%" PRIu64, b->o.inbox_prefix, b->random,
             ++b->watch_inboxes);
    w->replay = bus_subscribe_raw(b, inbox, NULL, on_replayed, w);
    if (!w->replay) {
        later(w, RETRY_MS);
        return;
    }
    json_t *config = json_pack("{s:s, s:s, s:s, s:s, s:b, s:i, s:o}", "deliver_subject", inbox, "deliver_policy",
                               "last_per_subject", "ack_policy", "none", "replay_policy", "instant", "mem_storage", 1,
                               "num_replicas", 1, "inactive_threshold", bus_json_ns(INACTIVE_MS));
    /* JetStream wants a filter with this policy; ">" takes all that the stream has. */
    json_object_set_new(config, "filter_subject", json_string(w->whole_stream ? ">" : w->filter));
    json_t *body = json_pack("{s:s, s:o}", "stream_name", w->stream, "config", config);
    bus_api_call(b, &w->api, body, on_created, w, "$JS.API.CONSUMER.CREATE.%s", w->stream);
    later(w, QUIET_MS);
}

void bus_watches_up(struct bus *b)
{
    struct bus_watch *w;
    DL_FOREACH(b->watches, w)
    later(w, 0);
}

void bus_watches_down(struct bus *b)
{
    struct bus_watch *w;
    DL_FOREACH(b->watches, w)
    {
        w->told = false;
        stop_replay(w);
        bus_wait_at(b, &w->due, BUS_NEVER);
    }
}

struct bus_watch *bus_watch(struct bus *b, const char *filter, int64_t resync_ms, bus_handler fn, loop_cb synced,
                            void *ctx)
{
    if (!bus_subject_ok(filter, true))
        return NULL;
    struct bus_watch *w = calloc(1, sizeof *w);
    if (!w)
        return NULL;
    const struct bus_stream *row = bus_stream_of(filter);
    *w = (struct bus_watch){.b = b,
                            .filter = strdup(filter),
                            .stream = row ? row->name : STREAM_STATE,
                            .resync_ms = resync_ms > 0 ? resync_ms : RESYNC_MS,
                            .fn = fn,
                            .synced = synced,
                            .ctx = ctx,
                            .due.on_due = on_due};
    w->live = w->filter ? bus_subscribe(b, filter, NULL, fn, ctx) : NULL;
    if (!w->live) {
        watch_free(w);
        return NULL;
    }
    DL_APPEND(b->watches, w);
    if (b->up)
        later(w, 0);
    return w;
}

void bus_watch_close(struct bus_watch *w)
{
    if (!w)
        return;
    stop_replay(w);
    bus_wait_end(w->b, &w->due);
    bus_unsubscribe(w->live);
    DL_DELETE(w->b->watches, w);
    if (w->busy)
        w->closed = true;
    else
        watch_free(w);
}
