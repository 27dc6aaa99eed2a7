/* bus_streams.c - the suite's streams as rows, ensured on each connect. */
#include "common/bus_migrate.h"
#include "common/bus_priv.h"
#include "common/clock.h"
#include "common/metric.h"
#include <stdio.h>
#include <string.h>

#define DAY_MS         (INT64_C(24) * 3600 * 1000)
#define GIB            (INT64_C(1) << 30)
#define DUPLICATES_MS  (INT64_C(2) * 60 * 1000)
#define RETRY_FIRST_MS 250
#define RETRY_MAX_MS   5000
#define CHECK_EVERY_MS 1000 /* at most, when somebody misses a stream */
#define ELSEWHERE_MS   10000 /* JetStream has not answered for so long: another server of the cluster may know better */

/* Error codes of JetStream. */
enum {
    STREAM_NOT_FOUND = 10059,
    CLUSTER_NOT_AVAIL = 10008,
    NAME_IN_USE = 10058,
    NO_RESOURCES = 10023,
    NO_MEMORY_RESOURCES = 10028,
    NO_STORAGE_RESOURCES = 10047,
    STREAM_BYTES_OVER_LIMIT = 10122,
};

METRIC_DEFINE(made, METRIC_COUNTER, "redoubt_bus_streams_created_total",
              "Streams that were not there and were created.");
METRIC_DEFINE(updated, METRIC_COUNTER, "redoubt_bus_streams_updated_total", "Streams whose settings were updated.");
METRIC_DEFINE(unlimited, METRIC_COUNTER, "redoubt_bus_streams_without_byte_limit_total",
              "Streams created without a limit in bytes because the server cannot reserve as much.");
METRIC_DEFINE(failures, METRIC_COUNTER, "redoubt_bus_streams_failures_total",
              "Attempts to ensure the streams that failed and were repeated.");

const struct bus_stream bus_streams[] = {
    {.name = STREAM_STATE,
     .subjects = {SUBJECT_HEALTH ">", SUBJECT_BREAKER ">", SUBJECT_DIRECTIVE ">", SUBJECT_ROLLBACK ">",
                  SUBJECT_VERSION ">", SUBJECT_SHARE ">", SUBJECT_PROBLEM ">", SUBJECT_SILENCE ">", SUBJECT_PULSE ">",
                  SUBJECT_CHECKPOINT ">", SUBJECT_CONTINUITY ">"},
     .max_per_subject = 1},
    {.name = STREAM_EVENTS,
     .subjects = {SUBJECT_ACK ">", SUBJECT_DELIVERY ">", SUBJECT_INCIDENT ">", SUBJECT_MONITOR ">"},
     .max_age_ms = 30 * DAY_MS,
     .max_bytes = GIB},
    {.name = STREAM_ALERTS,
     .subjects = {SUBJECT_ALERT},
     .max_age_ms = 30 * DAY_MS,
     .max_bytes = GIB,
     .discard_new = true},
    {.name = STREAM_AUDIT,
     .subjects = {SUBJECT_AUDIT ">"},
     .max_age_ms = 90 * DAY_MS,
     .max_bytes = 4 * GIB,
     .discard_new = true},
    {.name = STREAM_ACTIONS,
     .subjects = {SUBJECT_QUEUE ">"},
     .max_bytes = GIB,
     .discard_new = true,
     .work_queue = true},
    {.name = STREAM_PARCELS, .subjects = {SUBJECT_PARCEL ">"}, .max_bytes = GIB, .discard_new = true},
    {.name = STREAM_DEAD, .subjects = {SUBJECT_DEAD ">"}, .max_age_ms = 90 * DAY_MS, .max_bytes = GIB},
};
const size_t bus_streams_n = sizeof bus_streams / sizeof bus_streams[0];

const struct bus_stream *bus_stream_of(const char *subject)
{
    for (size_t i = 0; i < bus_streams_n; i++)
        for (const char *const *f = bus_streams[i].subjects; *f; f++)
            if (bus_subject_overlap(*f, subject))
                return &bus_streams[i];
    return NULL;
}

/* ---- one stream after the other: INFO, then CREATE or UPDATE if need be ---- */

static void ask(struct bus *b);

static void next(struct bus *b)
{
    b->ensure.i++;
    b->ensure.mute_ms = 0;
    b->ensure.without_bytes = false;
    ask(b);
}

static void fail(struct bus *b, const char *what, const struct bus_answer *a)
{
    metric_add(&failures, 1);
    b->ensure.delay_ms = b->ensure.delay_ms ? b->ensure.delay_ms * 2 : RETRY_FIRST_MS;
    if (b->ensure.delay_ms > RETRY_MAX_MS)
        b->ensure.delay_ms = RETRY_MAX_MS;
    bus_error(b, "stream %s: %s: %s (error %d); trying again", bus_streams[b->ensure.i].name, what, a->error,
              a->err_code);
    int64_t now = clock_mono_ms();
    bus_wait_at(b, &b->ensure.retry, now + b->ensure.delay_ms);
    /* A server that is cut off from the others keeps its clients, and answers nothing. */
    bool mute = a->status == BUS_TIMEOUT || a->status == BUS_NO_RESPONDERS || a->err_code == CLUSTER_NOT_AVAIL;
    if (!mute || b->ensure.mute_ms == 0)
        b->ensure.mute_ms = mute ? now : 0;
    else if (now - b->ensure.mute_ms >= ELSEWHERE_MS && strchr(b->o.url, ','))
        bus_elsewhere(b);
}

static int replicas(const struct bus *b)
{
    return b->o.stream_replicas ? b->o.stream_replicas : 1;
}

static json_t *config_of(const struct bus *b, const struct bus_stream *r)
{
    json_t *subjects = json_array();
    for (const char *const *f = r->subjects; *f; f++)
        json_array_append_new(subjects, json_string(*f));
    json_t *c =
        json_pack("{s:s, s:o, s:s, s:s, s:s, s:i, s:i, s:i, s:b}", "name", r->name, "subjects", subjects, "retention",
                  r->work_queue ? "workqueue" : "limits", "discard", r->discard_new ? "new" : "old", "storage",
                  "file", "max_consumers", -1, "max_msgs", -1, "num_replicas", replicas(b), "allow_direct", 1);
    bool bytes = r->max_bytes > 0 && !b->ensure.without_bytes;
    json_object_set_new(c, "max_bytes", json_integer(bytes ? (json_int_t)r->max_bytes : -1));
    json_object_set_new(c, "max_age", bus_json_ns(r->max_age_ms));
    json_object_set_new(c, "max_msgs_per_subject", json_integer(r->max_per_subject ? r->max_per_subject : -1));
    json_object_set_new(c, "duplicate_window", bus_json_ns(DUPLICATES_MS));
    bus_migrate_mark(c, BUS_FORMAT);
    return c;
}

static void on_updated(void *ctx, const struct bus_answer *a)
{
    struct bus *b = ctx;
    if (a->status != BUS_OK) {
        fail(b, "cannot be updated", a);
        return;
    }
    metric_add(&updated, 1);
    next(b);
}

static void on_created(void *ctx, const struct bus_answer *a)
{
    struct bus *b = ctx;
    const struct bus_stream *r = &bus_streams[b->ensure.i];
    switch (a->status == BUS_REFUSED ? a->err_code : 0) {
    case NAME_IN_USE: /* somebody was faster, with other settings */
        ask(b);
        return;
    case NO_RESOURCES:
    case NO_MEMORY_RESOURCES:
    case NO_STORAGE_RESOURCES:
    case STREAM_BYTES_OVER_LIMIT:
        if (r->max_bytes > 0 && !b->ensure.without_bytes) {
            b->ensure.without_bytes = true;
            metric_add(&unlimited, 1);
            bus_api_call(b, &b->ensure.api, config_of(b, r), on_created, b, "$JS.API.STREAM.CREATE.%s", r->name);
            return;
        }
    }
    if (a->status != BUS_OK) {
        fail(b, "cannot be created", a);
        return;
    }
    metric_add(&made, 1);
    b->ensure.made = true;
    next(b);
}

static void on_info(void *ctx, const struct bus_answer *a)
{
    struct bus *b = ctx;
    const struct bus_stream *r = &bus_streams[b->ensure.i];
    if (a->status == BUS_OK) {
        const json_t *is = json_object_get(a->json, "config");
        struct bus_answer no = {.status = BUS_REFUSED};
        struct err e;
        if (bus_migrate_usable(is, BUS_FORMAT, &e)) {
            no.error = e.text;
            fail(b, "cannot be used", &no);
            return;
        }
        const char *odd = bus_migrate_odd(r, is);
        if (odd && !(b->ensure.said_odd & (1u << b->ensure.i))) /* once: the server cannot change it */
            bus_error(b, "stream %s %s", r->name, odd);
        if (odd)
            b->ensure.said_odd |= 1u << b->ensure.i;
        json_t *want = bus_migrate_stream(r, replicas(b), BUS_FORMAT, is);
        if (want)
            bus_api_call(b, &b->ensure.api, want, on_updated, b, "$JS.API.STREAM.UPDATE.%s", r->name);
        else
            next(b);
    } else if (a->status == BUS_REFUSED && a->err_code == STREAM_NOT_FOUND) {
        bus_api_call(b, &b->ensure.api, config_of(b, r), on_created, b, "$JS.API.STREAM.CREATE.%s", r->name);
    } else {
        fail(b, "is not known", a);
    }
}

static void ask(struct bus *b)
{
    if (b->ensure.i < bus_streams_n) {
        bus_api_call(b, &b->ensure.api, NULL, on_info, b, "$JS.API.STREAM.INFO.%s", bus_streams[b->ensure.i].name);
        return;
    }
    b->ensure.delay_ms = 0;
    b->ensure.running = false;
    b->ensure.done_ms = clock_mono_ms();
    bool news = !b->up || b->ensure.made;
    b->ensure.made = false;
    if (news)
        bus_went_up(b);
}

static void on_retry(struct bus_wait *w)
{
    ask((struct bus *)((char *)w - offsetof(struct bus, ensure.retry)));
}

void bus_streams_connected(struct bus *b)
{
    bus_streams_lost(b);
    b->ensure.running = true;
    b->ensure.retry.on_due = on_retry;
    if (b->o.guest)
        b->ensure.i = bus_streams_n; /* nothing to ask for */
    ask(b);
}

void bus_streams_lost(struct bus *b)
{
    bus_api_cancel(&b->ensure.api);
    bus_wait_end(b, &b->ensure.retry);
    b->ensure.i = 0;
    b->ensure.delay_ms = b->ensure.mute_ms = 0;
    b->ensure.running = b->ensure.made = b->ensure.without_bytes = false;
}

void bus_streams_check(struct bus *b)
{
    if (b->o.guest || b->closing || !b->connected || b->ensure.running ||
        clock_mono_ms() - b->ensure.done_ms < CHECK_EVERY_MS)
        return;
    b->ensure.i = 0;
    b->ensure.running = true;
    ask(b);
}
