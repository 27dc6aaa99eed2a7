/* alert_parcels.c - parcels: put by on their stream, and known by bucket. */
#include "alert/alert_parcels_priv.h"
#include "common/clock.h"
#include "common/log.h"
#include "common/metric.h"
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Longer than a restart of the server; after it the alert is given back to its own stream, which has it all the while. */
#define PUT_LIMIT_MS 30000

#define PER_REASON(var, kind_, name_, help_)                                                                         \
    static struct metric var[ALERT_PARCEL_REASONS] = {                                                               \
        {.name = "redoubt_alert_parcels_group" name_, .help = help_ " (groups).", .kind = (kind_)},                  \
        {.name = "redoubt_alert_parcels_quiet" name_, .help = help_ " (quiet hours).", .kind = (kind_)},             \
        {.name = "redoubt_alert_parcels_overflow" name_,                                                             \
         .help = help_ " (more than a channel takes).",                                                              \
         .kind = (kind_)},                                                                                           \
        {.name = "redoubt_alert_parcels_owed" name_, .help = help_ " (no channel has accepted).", .kind = (kind_)}}
PER_REASON(put, METRIC_COUNTER, "_total", "Alerts put by to go out later");
METRIC_DEFINE(put_failed, METRIC_COUNTER, "redoubt_alert_parcels_refused_total",
              "Alerts that could not be put by; they stay on their own stream and come again.");

/* ---- putting by ---- */

struct putting {
    struct alert_parcels *p;
    enum alert_parcel_reason reason;
    outbox_cb done;
    void *ctx;
    char error[160];
};

static void put_end(struct putting *x, int status, const char *error)
{
    struct alert_parcels *p = x->p;
    if (status == 0) {
        metric_add(&put[x->reason], 1);
    } else {
        uint64_t held;
        metric_add(&put_failed, 1);
        if (p->room && log_allowed(&p->refused, clock_mono_ms(), 10000, &held))
            log_error("cannot put an alert by; it stays on its own stream",
                      F_STR("reason", alert_parcel_reason_name(x->reason)), F_STR("why", error),
                      F_INT("held_back", held));
    }
    if (x->done)
        x->done(x->ctx, status, error);
    free(x);
    alert_parcels_unref(p);
}

static void on_put(void *ctx, const struct bus_stored *r)
{
    put_end(ctx, r->status == BUS_OK ? 0 : -1, r->status == BUS_OK ? "" : r->error);
}

static void on_refused(void *ctx)
{
    struct putting *x = ctx;
    put_end(x, -1, x->error);
}

void alert_parcels_put(struct alert_parcels *p, const struct alert_put *what, outbox_cb done, void *ctx)
{
    struct alert_parcel_name name;
    char subject[SUBJECT_MAX_LEN], id[SUBJECT_MAX_LEN];
    struct err e = {""};
    struct putting *x = calloc(1, sizeof *x);
    assert(x && "out of memory for an alert");
    *x = (struct putting){.p = p, .reason = what->reason, .done = done, .ctx = ctx};
    p->refs++;
    const char *bucket = what->bucket;
    if (what->reason == ALERT_PARCEL_OWED || what->reason == ALERT_PARCEL_OVERFLOW)
        bucket = what->alert->severity >= REDOUBT__V1__SEVERITY__SEVERITY_CRITICAL ? ALERT_PARCEL_CRITICAL
                                                                                   : ALERT_PARCEL_ALL;
    size_t len = 0;
    void *data = NULL;
    if (!p->room)
        err_set(&e, "closing");
    else if (alert_parcel_name(&name, what->reason, what->node, bucket))
        err_set(&e, "`%.80s` or `%.80s` is no token", what->node, bucket);
    else
        data = wire_pack(what->alert, &len, &e);
    if (!data) {
        snprintf(x->error, sizeof x->error, "%.*s", (int)sizeof x->error - 1, e.text);
        loop_defer(p->loop, on_refused, x);
        return;
    }
    snprintf(id, sizeof id, "%s/%s/%s", what->id ? what->id : what->alert->id, alert_parcel_reason_name(name.reason),
             name.node);
    bus_store(p->room->service->bus,
              &(struct bus_out){.subject = alert_parcel_subject(&name, subject),
                                .id = id,
                                .type = wire_type(what->alert),
                                .data = data,
                                .len = len},
              PUT_LIMIT_MS, on_put, x);
    free(data);
}

uint64_t alert_parcels_waiting(const struct alert_parcels *p, enum alert_parcel_reason reason)
{
    return p->waiting[reason];
}

/* ---- life ---- */

static void on_look(void *ctx)
{
    (void)ctx;
}

void alert_parcels_reload(struct alert_parcels *p)
{
    (void)p;
}
void alert_parcels_back(struct alert_parcels *p)
{
    (void)p;
}
void alert_parcels_up(struct alert_parcels *p)
{
    (void)p;
}

struct alert_parcels *alert_parcels_make(struct alert_room *r, const struct alert_parcels_ways *ways)
{
    struct alert_parcels *p = calloc(1, sizeof *p);
    if (!p)
        return NULL;
    *p = (struct alert_parcels){.room = r, .loop = &r->service->loop, .ways = *ways, .refs = 1};
    loop_timer_init(p->loop, &p->timer, on_look, p);
    return p;
}

void alert_parcels_unref(struct alert_parcels *p)
{
    if (--p->refs == 0)
        free(p);
}

static void on_timer_closed(void *ctx)
{
    alert_parcels_unref(ctx);
}

void alert_parcels_close(struct alert_parcels *p)
{
    if (!p)
        return;
    p->room = NULL;
    loop_timer_close(&p->timer, on_timer_closed);
}
