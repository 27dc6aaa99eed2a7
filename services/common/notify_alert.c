/* notify_alert.c - alerts on their way: outbox, bus, and the last resort if neither takes them in time.
 *
 * The happy path: appended to the outbox -> durable, the asker is told -> the stream has it. An alert that the outbox refuses goes to the bus
 * directly and the last way at once; one that the stream has not acknowledged after `alert.last_resort.after` goes the last way, too, and stays in
 * the outbox: whoever is told twice knows it by its id. */
#include "common/clock.h"
#include "common/last_resort.h"
#include "common/log.h"
#include "common/metric.h"
#include "common/notify_impl.h"
#include "common/service.h"
#include "common/subjects.h"
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define WATCHED_MAX 4096 /* whose text is kept for the last way; beyond it the oldest goes that way before its time */
#define FLUSH_MS    2000
#define DIRECT_MS   60000

METRIC_DEFINE(raised, METRIC_COUNTER, "redoubt_alerts_raised_total", "Alerts raised by this service.");
METRIC_DEFINE(not_durable, METRIC_COUNTER, "redoubt_alerts_not_durable_total",
              "Alerts that the outbox could not make durable; sent to the bus directly instead, and the last way.");

/* One alert. */
struct way {
    struct service *s;
    struct notify_alerts *all; /* NULL: a service without a last way */
    struct way *prev, *next;   /* while it is watched, oldest first */
    bool watched;
    int64_t since_ms;
    outbox_cb done;
    void *ctx;
    const char *type; /* of the message on the bus */
    char id[72];
    char *json; /* for the last way; NULL once it is not needed any more */
    size_t len;
    unsigned char data[];
};
struct notify_alerts {
    struct service *s;
    struct last_resort *last;
    struct way *first, *newest;
    size_t n;
    struct loop_timer timer;
    loop_cb closed;
    void *ctx;
};

/* ---- the last way ---- */

static void unwatch(struct way *w)
{
    struct notify_alerts *x = w->all;
    if (!w->watched)
        return;
    w->watched = false;
    if (w->prev)
        w->prev->next = w->next;
    else
        x->first = w->next;
    if (w->next)
        w->next->prev = w->prev;
    else
        x->newest = w->prev;
    x->n--;
}

static void go_last(struct way *w, const char *why)
{
    struct notify_alerts *x = w->all;
    const struct set_last_resort *set = x ? &x->s->settings->alert.last_resort : NULL;
    unwatch(w);
    if (w->json && x)
        last_resort_tell(x->last, &(struct last_resort_alert){.id = w->id,
                                                              .alert = w->json,
                                                              .service = x->s->desc->name,
                                                              .instance = x->s->instance,
                                                              .why = why,
                                                              .url = set->url,
                                                              .secret = set->secret});
    free(w->json);
    w->json = NULL;
}

static void on_timer(void *ctx)
{
    struct notify_alerts *x = ctx;
    int64_t after_ms = x->s->settings->alert.last_resort.after_ms, now = clock_mono_ms();
    while (x->first && now - x->first->since_ms >= after_ms)
        go_last(x->first, "the bus has not taken it in time");
    if (x->first)
        loop_timer_start(&x->timer, x->first->since_ms + after_ms - now, 0);
}

static void watch(struct notify_alerts *x, struct way *w)
{
    w->watched = true;
    w->since_ms = clock_mono_ms();
    w->prev = x->newest;
    if (w->prev)
        w->prev->next = w;
    else
        x->first = w;
    x->newest = w;
    if (++x->n > WATCHED_MAX)
        go_last(x->first, "too many alerts wait for the bus");
    if (!loop_timer_active(&x->timer))
        on_timer(x);
}

/* ---- the way ---- */

static void way_free(struct way *w)
{
    unwatch(w);
    free(w->json);
    free(w);
}

static void on_direct(void *ctx, const struct bus_stored *r)
{
    if (r->status == BUS_REFUSED)
        log_error("stream refused a message", F_STR("why", r->error));
    way_free(ctx);
}

static void on_durable(void *ctx, int status, const char *error)
{
    struct way *w = ctx;
    struct service *s = w->s;
    outbox_cb done = w->done;
    void *done_ctx = w->ctx;
    if (status != 0) {
        metric_add(&not_durable, 1);
        log_error("outbox refused a message", F_STR("subject", SUBJECT_ALERT), F_STR("id", w->id),
                  F_STR("why", error));
        go_last(w, error);
        struct bus_out o = {.subject = SUBJECT_ALERT, .id = w->id, .type = w->type, .data = w->data, .len = w->len};
        if (s->bus)
            bus_store(s->bus, &o, DIRECT_MS, on_direct, w);
        else
            way_free(w);
    }
    if (done)
        done(done_ctx, status, error);
}

static void on_stored(void *ctx, int status, const char *error)
{
    struct way *w = ctx;
    if (status != 0)
        go_last(w, error && *error ? error : "the service ends before the bus has taken it");
    way_free(w);
}

struct refused {
    outbox_cb done;
    void *ctx;
};

static void refused_later(void *ctx)
{
    struct refused r = *(struct refused *)ctx;
    free(ctx);
    r.done(r.ctx, -1, "the alert itself is not valid");
}

static void refuse(struct service *s, outbox_cb done, void *ctx)
{
    struct refused *r = done ? malloc(sizeof *r) : NULL;
    if (!r)
        return;
    *r = (struct refused){done, ctx};
    loop_defer(&s->loop, refused_later, r);
}

static bool given(const char *text)
{
    return text && *text;
}

static void raise_alert(struct service *s, PB(Alert) * a, const char *last_why, outbox_cb done, void *ctx)
{
    assert((s->desc->needs & SERVICE_OUTBOX) && "a service that raises alerts asks for SERVICE_OUTBOX");
    char id[48];
    size_t len;
    if (!given(a->id))
        a->id = (char *)service_new_id(s, id);
    if (!given(a->source))
        a->source = (char *)s->desc->name;
    if (a->raised_unix_ms == 0)
        a->raised_unix_ms = clock_wall_ms();
    metric_add(&raised, 1);
    /* On stderr first: it is there even when disk and bus are not. The alert service's tests of itself are no news. */
    LOG_AT(a->self_test                                          ? LOG_LEVEL_DEBUG
           : a->severity >= REDOUBT__V1__SEVERITY__SEVERITY_HIGH ? LOG_LEVEL_ERROR
                                                                 : LOG_LEVEL_WARN,
           "alert", F_STR("severity", wire_enum_name(&redoubt__v1__severity__descriptor, (int)a->severity)),
           F_STR("key", a->dedup_key), F_STR("summary", a->summary), F_INT("resolved", a->resolved));
    void *data = notify_pack(a, &len);
    struct way *w = data ? malloc(sizeof *w + len) : NULL;
    if (!w) {
        free(data);
        refuse(s, done, ctx);
        return;
    }
    *w = (struct way){.s = s, .all = s->alerts, .done = done, .ctx = ctx, .type = wire_type(a), .len = len};
    snprintf(w->id, sizeof w->id, "%s", a->id);
    memcpy(w->data, data, len);
    free(data);
    if (!s->outbox) { /* the service ends, and its outbox has ended before: the bus is all that is left */
        w->all = NULL;
        w->json = NULL;
        w->done = NULL;
        struct bus_out o = {.subject = SUBJECT_ALERT, .id = w->id, .type = w->type, .data = w->data, .len = len};
        if (s->bus)
            bus_store(s->bus, &o, DIRECT_MS, on_direct, w);
        else
            way_free(w);
        refuse(s, done, ctx);
        return;
    }
    /* A test that does not come through is said by whoever waits for it. */
    w->json = a->self_test || !w->all ? NULL : wire_json(a);
    if (w->json)
        watch(w->all, w);
    if (last_why)
        go_last(w, last_why);
    struct outbox_item i = {.subject = SUBJECT_ALERT, .id = w->id, .type = w->type, .data = w->data, .len = len};
    outbox_append_stored(s->outbox, &i, on_durable, on_stored, w);
}

void service_alert(struct service *s, PB(Alert) * a)
{
    raise_alert(s, a, NULL, NULL, NULL);
}

void service_alert_durable(struct service *s, PB(Alert) * a, outbox_cb done, void *ctx)
{
    raise_alert(s, a, NULL, done, ctx);
}

void service_alert_last(struct service *s, PB(Alert) * a, const char *why)
{
    raise_alert(s, a, why, NULL, NULL);
}

/* ---- start and end ---- */

struct notify_alerts *notify_alerts_open(struct service *s)
{
    struct notify_alerts *x = calloc(1, sizeof *x);
    if (!x || !(x->last = last_resort_open(&s->loop, s->replica.dir))) {
        free(x);
        return NULL;
    }
    x->s = s;
    loop_timer_init(&s->loop, &x->timer, on_timer, x);
    return x;
}

static void on_timer_closed(void *ctx)
{
    struct notify_alerts *x = ctx;
    loop_cb closed = x->closed;
    void *closed_ctx = x->ctx;
    free(x);
    closed(closed_ctx);
}

static void on_last_closed(void *ctx)
{
    struct notify_alerts *x = ctx;
    loop_timer_close(&x->timer, on_timer_closed);
}

void notify_alerts_close(struct notify_alerts *x, loop_cb closed, void *ctx)
{
    if (!x) {
        closed(ctx);
        return;
    }
    x->closed = closed;
    x->ctx = ctx;
    while (x->first)
        go_last(x->first, "the service ends before the bus has taken it");
    last_resort_close(x->last, FLUSH_MS, on_last_closed, x);
}
