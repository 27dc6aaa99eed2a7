/* alert_parcels.c - parcels: put by on their stream, and known by bucket. */
#include "alert/alert_parcels_priv.h"
#include "alert/alert_quiet.h"
#include "common/clock.h"
#include "common/log.h"
#include "common/metric.h"
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* Longer than a restart of the server; after it the alert is given back to its own stream, which has it all the while. */
#define PUT_LIMIT_MS   30000
#define LOOK_MAX_MS    1000 /* who leads, quiet hours: looked at as often */
#define COUNT_EVERY_MS 60000
#define COUNT_SOON_MS  5000
#define COUNT_LIMIT_MS 5000
#define LONG_MS        (INT64_C(24) * 3600 * 1000) /* longer than a group waits */
#define REMEMBER_MS    3600000                     /* when a group was told last; beyond that Redis knows */

#define PER_REASON(var, kind_, name_, help_)                                                                         \
    static struct metric var[ALERT_PARCEL_REASONS] = {                                                               \
        {.name = "redoubt_alert_parcels_group" name_, .help = help_ " (groups).", .kind = (kind_)},                  \
        {.name = "redoubt_alert_parcels_quiet" name_, .help = help_ " (quiet hours).", .kind = (kind_)},             \
        {.name = "redoubt_alert_parcels_overflow" name_,                                                             \
         .help = help_ " (more than a channel takes).",                                                              \
         .kind = (kind_)},                                                                                           \
        {.name = "redoubt_alert_parcels_owed" name_, .help = help_ " (no channel has accepted).", .kind = (kind_)}}
PER_REASON(put, METRIC_COUNTER, "_total", "Alerts put by to go out later");
PER_REASON(waiting_now, METRIC_GAUGE, "_waiting", "Alerts that wait to go out, as far as this replica knows");
METRIC_DEFINE(foreign, METRIC_COUNTER, "redoubt_alert_parcels_foreign_total",
              "Times that a subject of the parcels' stream was seen that is of no bucket; left alone.");
METRIC_DEFINE(put_failed, METRIC_COUNTER, "redoubt_alert_parcels_refused_total",
              "Alerts that could not be put by; they stay on their own stream and come again.");

/* ---- putting by ---- */

struct putting {
    struct alert_parcels *p;
    enum alert_parcel_reason reason;
    outbox_cb done;
    void *ctx;
    char error[160];
    char subject[SUBJECT_MAX_LEN];
};

static struct parcel_bucket *bucket_of(struct alert_parcels *p, const char *subject);
static void note(struct alert_parcels *p, const char *subject, uint64_t n, bool live);

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
    struct putting *x = ctx;
    /* Those who lead hear of it live; this is for a message that was lost on the way to us. */
    if (r->status == BUS_OK && x->p->room && !bucket_of(x->p, x->subject))
        note(x->p, x->subject, 1, true);
    put_end(x, r->status == BUS_OK ? 0 : -1, r->status == BUS_OK ? "" : r->error);
}

static void on_refused(void *ctx)
{
    struct putting *x = ctx;
    put_end(x, -1, x->error);
}

void alert_parcels_put(struct alert_parcels *p, const struct alert_put *what, outbox_cb done, void *ctx)
{
    struct alert_parcel_name name;
    char id[SUBJECT_MAX_LEN];
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
              &(struct bus_out){.subject = alert_parcel_subject(&name, x->subject),
                                .id = id,
                                .type = wire_type(what->alert),
                                .data = data,
                                .len = len},
              p->put_limit_ms, on_put, x);
    free(data);
}

uint64_t alert_parcels_waiting(const struct alert_parcels *p, enum alert_parcel_reason reason)
{
    return p->waiting[reason];
}

/* ---- buckets ---- */

/* Since when it waits is not known: long enough. */
static int64_t long_ago(void)
{
    return clock_mono_ms() - LONG_MS;
}

static const struct set_quiet *quiet_of(const struct parcel_bucket *b)
{
    const struct conf_list *list = &b->p->room->service->settings->alert.quiet;
    for (size_t i = 0; b->name.reason == ALERT_PARCEL_QUIET && i < list->n; i++)
        if (strcmp(CONF_AT(*list, struct set_quiet, i)->name, b->name.bucket) == 0)
            return CONF_AT(*list, struct set_quiet, i);
    return NULL;
}

/* The day on which the quiet hours began that are in force; by the settings of now, so that new ones count at once. */
static int quiet_day(const struct parcel_bucket *b)
{
    const struct set_quiet *q = quiet_of(b);
    time_t t = (time_t)(clock_wall_ms() / 1000);
    struct tm local;
    return q && localtime_r(&t, &local) ? alert_quiet_day(q, alert_dial(&local)) : ALERT_QUIET_OFF;
}

static struct parcel_bucket *bucket_of(struct alert_parcels *p, const char *subject)
{
    struct parcel_bucket *b;
    HASH_FIND_STR(p->buckets, subject, b);
    return b;
}

static void bucket_free(struct parcel_bucket *b);

/* One that is only remembered goes: Redis remembers it, too. */
static bool make_room(struct alert_parcels *p)
{
    struct parcel_bucket *b = p->buckets;
    while (b && (b->count > 0 || b->tell || b->loading))
        b = b->hh.next;
    if (b)
        bucket_free(b);
    return b != NULL;
}

static struct parcel_bucket *bucket_new(struct alert_parcels *p, const char *subject)
{
    struct alert_parcel_name name;
    if (alert_parcel_parse(subject, &name)) { /* the subject is ours alone, by the contract */
        metric_add(&foreign, 1);
        if (log_allowed(&p->foreign, clock_mono_ms(), 600000, NULL))
            log_warn("somebody has put a message among the parcels; it is left alone", F_STR("subject", subject));
        return NULL;
    }
    if (HASH_COUNT(p->buckets) >= PARCEL_BUCKETS_MAX && !make_room(p)) {
        p->more = true;
        return NULL;
    }
    struct parcel_bucket *b = calloc(1, sizeof *b);
    if (!b)
        return NULL;
    b->p = p;
    b->name = name;
    snprintf(b->subject, sizeof b->subject, "%s", subject);
    b->clock.reason = name.reason;
    b->clock.critical = (name.reason == ALERT_PARCEL_OWED || name.reason == ALERT_PARCEL_OVERFLOW) &&
                        strcmp(name.bucket, ALERT_PARCEL_CRITICAL) == 0;
    HASH_ADD_STR(p->buckets, subject, b);
    return b;
}

static void forget_digest(struct parcel_bucket *b)
{
    if (b->kept)
        b->p->n_kept--;
    alert_digest_free(b->kept);
    b->kept = NULL;
}

static void bucket_free(struct parcel_bucket *b)
{
    assert(!b->tell);
    forget_digest(b);
    HASH_DEL(b->p->buckets, b);
    free(b);
}

/* n more are there: just now (live), or found. */
static void note(struct alert_parcels *p, const char *subject, uint64_t n, bool live)
{
    struct parcel_bucket *b = bucket_of(p, subject);
    if (!b && !(b = bucket_new(p, subject)))
        return;
    if (b->count == 0 && n > 0) {
        alert_parcel_came(&b->clock, live ? clock_mono_ms() : long_ago());
        b->quiet_day = quiet_day(b);
        b->was_off = false;
    }
    b->count += n;
    if (b->count == n)
        alert_parcels_look(p, 0);
}

static void on_live(void *ctx, const struct bus_msg *m)
{
    note(ctx, m->subject, 1, true);
}

/* ---- counting what is there: at the start, when we begin to lead, and now and then for what was missed ---- */

static void on_count(void *ctx, const char *subject, uint64_t n)
{
    struct alert_parcels *p = ctx;
    struct parcel_bucket *b = p->room ? bucket_of(p, subject) : NULL;
    if (b)
        b->counting = n;
    else if (p->room)
        note(p, subject, n, false);
    if (!b && p->room && (b = bucket_of(p, subject)))
        b->counting = n;
}

static void on_counted(void *ctx, enum bus_status st, const struct bus_stock *stock)
{
    struct alert_parcels *p = ctx;
    (void)stock;
    p->counting = false;
    if (p->room) {
        struct parcel_bucket *b, *next;
        HASH_ITER(hh, p->buckets, b, next)
        {
            /* What came or went meanwhile: the next count has it. A bucket with nothing in it is found empty when it is read. */
            if (st == BUS_OK && !b->tell && b->counting > b->count)
                note(p, b->subject, b->counting - b->count, false);
            else if (st == BUS_OK && !b->tell && (b->counting > 0 || !p->led))
                b->count = b->counting;
        }
        p->count_ms = clock_mono_ms() + (st == BUS_OK && !p->more ? COUNT_EVERY_MS : COUNT_SOON_MS);
        alert_parcels_look(p, 0);
    }
    alert_parcels_unref(p);
}

static void count(struct alert_parcels *p)
{
    struct parcel_bucket *b, *next;
    HASH_ITER(hh, p->buckets, b, next)
    b->counting = 0;
    p->counting = true;
    p->more = false;
    bus_counts(p->room->service->bus, STREAM_PARCELS, SUBJECT_PARCEL ">", COUNT_LIMIT_MS, on_count, on_counted,
               alert_parcels_ref(p));
}

/* ---- what is due ---- */

/* A group's bucket is named by its route, and a hash. */
static const struct set_route *route_of(const struct parcel_bucket *b)
{
    const struct conf_list *routes = &b->p->room->service->settings->alert.routes;
    const char *hash = strrchr(b->name.bucket, '-');
    for (size_t i = 0; hash && i < routes->n; i++) {
        const struct set_route *r = CONF_AT(*routes, struct set_route, i);
        size_t len = (size_t)(hash - b->name.bucket);
        if (strlen(r->name) == len && strncmp(r->name, b->name.bucket, len) == 0)
            return r;
    }
    return NULL;
}

static int64_t due(struct parcel_bucket *b)
{
    struct alert_parcel_rule rule = {.digest_every_ms = b->p->room->service->settings->alert.digest_every_ms};
    if (b->name.reason == ALERT_PARCEL_GROUP) {
        const struct set_route *r = route_of(b); /* gone: what waits for it waits no longer */
        rule.group_wait_ms = r ? r->group_wait_ms : 0;
        rule.group_interval_ms = r ? r->group_interval_ms : 0;
    }
    if (b->name.reason == ALERT_PARCEL_QUIET) {
        int day = quiet_day(b);
        if (day == ALERT_QUIET_OFF) {
            b->was_off = true;
        } else if (b->was_off) { /* nobody has accepted it all day: in the next night it waits again */
            b->was_off = false;
            b->quiet_day = day;
        }
        b->clock.quiet = day != ALERT_QUIET_OFF && day == b->quiet_day;
    }
    return alert_parcel_due(&b->clock, &rule);
}

const char *alert_parcels_default_node(const struct set_alert *set, char buf[static ALERT_PARCEL_TOKEN_MAX + 1])
{
    const struct set_route *found = NULL;
    for (size_t i = 0; i < set->routes.n; i++) {
        const struct set_route *r = CONF_AT(set->routes, struct set_route, i);
        if (!found || (r->match.n == 0 && (found->match.n > 0 || r->min_severity <= found->min_severity)))
            found = r;
    }
    if (!found)
        return NULL;
    snprintf(buf, ALERT_PARCEL_TOKEN_MAX + 1, "%s%s", *found->to ? "" : ALERT_ROUTE_NODE,
             *found->to ? found->to : found->name);
    return buf;
}

/* One bucket of a node at a time: they go through the same channels. Groups have nothing to do with each other, and may be many. */
static bool node_busy(const struct parcel_bucket *of)
{
    const struct alert_parcels *p = of->p;
    size_t seen = 0, busy = 0;
    for (const struct parcel_bucket *b = p->buckets; b && seen < p->n_busy; b = b->hh.next) {
        seen += b->tell != NULL;
        busy += b->tell && strcmp(b->name.node, of->name.node) == 0;
    }
    return busy >= (of->name.reason == ALERT_PARCEL_GROUP && of->clock.fails == 0 ? PARCEL_GROUPS_MAX : 1);
}

void parcel_told(struct parcel_bucket *b, enum parcel_told what, uint64_t alerts)
{
    struct alert_parcels *p = b->p;
    int64_t now = clock_mono_ms();
    b->tell = NULL;
    p->n_busy--;
    b->count = b->count > alerts ? b->count - alerts : 0;
    switch (what) {
    case PARCEL_TOLD:
        alert_parcel_told(&b->clock, b->count > 0, now);
        b->quiet_day = quiet_day(b); /* what has come meanwhile may be of the next night */
        b->was_off = false;
        parcel_state_save(b);
        break;
    case PARCEL_FAILED:
        alert_parcel_failed(&b->clock, now);
        if (b->count == 0)
            b->count = 1; /* some are there, whatever was reckoned */
        break;
    case PARCEL_NONE:
        b->count = 0;
        b->clock.fails = b->clock.alone = 0;
        break;
    case PARCEL_LATER:
        b->clock.tried_ms = now;
        p->count_ms = now; /* and what is there now? */
        b->count = b->count > 0 ? b->count : 1;
        if (b->clock.fails == 0)
            alert_parcel_failed(&b->clock, now);
        break;
    }
    alert_parcels_look(p, 0);
}

/* Starts it if it may; returns when to look at it again. */
static int64_t consider(struct parcel_bucket *b, int64_t now)
{
    struct alert_parcels *p = b->p;
    if (b->tell || b->count == 0)
        return now + LOOK_MAX_MS;
    int64_t at = due(b);
    if (at > now)
        return at;
    if (!b->loaded) {
        if (!b->loading)
            parcel_state_load(b);
        if (!b->loaded)
            return now + LOOK_MAX_MS;
    }
    if (p->n_busy >= PARCEL_BUSY_MAX || node_busy(b))
        return now + LOOK_MAX_MS; /* or when one of those is through */
    p->n_busy++;
    alert_parcel_begun(&b->clock);
    parcel_tell_start(b);
    return now + LOOK_MAX_MS;
}

/* Nothing in it, and nothing to be remembered of it. */
static bool idle(const struct parcel_bucket *b, int64_t now)
{
    bool paced = b->name.reason == ALERT_PARCEL_GROUP || b->name.reason == ALERT_PARCEL_OVERFLOW;
    return b->count == 0 && !b->tell && !b->loading &&
           !(paced && b->clock.flushed && now - b->clock.flushed_ms < REMEMBER_MS);
}

static void begin_to_lead(struct alert_parcels *p)
{
    struct parcel_bucket *b, *next;
    p->count_ms = clock_mono_ms();
    HASH_ITER(hh, p->buckets, b, next)
    {
        if (!b->tell) /* others may have told it meanwhile */
            forget_digest(b);
        b->loaded = b->loaded && b->tell;
    }
}

static void tidy(struct alert_parcels *p, int64_t now)
{
    struct parcel_bucket *b, *next;
    uint64_t waiting[ALERT_PARCEL_REASONS] = {0};
    HASH_ITER(hh, p->buckets, b, next)
    {
        waiting[b->name.reason] += b->count;
        if (idle(b, now))
            bucket_free(b);
    }
    for (int r = 0; r < ALERT_PARCEL_REASONS; r++) {
        p->waiting[r] = waiting[r];
        metric_set(&waiting_now[r], (int64_t)waiting[r]);
    }
}

static void look(void *ctx)
{
    struct alert_parcels *p = ctx;
    struct parcel_bucket *b, *next;
    int64_t now = clock_mono_ms(), at = now + LOOK_MAX_MS;
    if (!p->room)
        return;
    tidy(p, now);
    bool up = bus_up(p->room->service->bus) && !p->room->service->draining, lead = up && alert_leads(p->room->lead);
    if (lead && !p->led)
        begin_to_lead(p);
    p->led = lead;
    if (up && !p->counting && now >= p->count_ms)
        count(p);
    HASH_ITER(hh, p->buckets, b, next)
    if (up && b->tell) /* whoever leads: what is begun is ended */
        parcel_tell_again(b->tell, now);
    for (int critical = 1; lead && critical >= 0; critical--) {
        HASH_ITER(hh, p->buckets, b, next)
        {
            if (b->clock.critical != critical)
                continue;
            int64_t when = consider(b, now);
            at = when < at ? when : at;
        }
    }
    if (!loop_timer_active(&p->timer)) /* somebody may have asked for an earlier one meanwhile */
        alert_parcels_look(p, at > now ? at - now : 1);
}

void alert_parcels_look(struct alert_parcels *p, int64_t after_ms)
{
    if (!p->room)
        return;
    int64_t left = loop_timer_active(&p->timer) ? p->look_ms - clock_mono_ms() : INT64_MAX;
    if (left <= after_ms)
        return;
    p->look_ms = clock_mono_ms() + after_ms;
    loop_timer_start(&p->timer, after_ms, 0);
}

/* ---- what others tell ---- */

void alert_parcels_reload(struct alert_parcels *p)
{
    alert_parcels_back(p); /* a channel may have been mended */
}

void alert_parcels_back(struct alert_parcels *p)
{
    struct parcel_bucket *b, *next;
    HASH_ITER(hh, p->buckets, b, next)
    alert_parcel_back(&b->clock);
    alert_parcels_look(p, 0);
}

void alert_parcels_up(struct alert_parcels *p)
{
    p->count_ms = clock_mono_ms();
    alert_parcels_look(p, 0);
}

/* ---- life ---- */

struct alert_parcels *alert_parcels_make(struct alert_room *r, const struct alert_parcels_ways *ways)
{
    struct alert_parcels *p = calloc(1, sizeof *p);
    if (!p)
        return NULL;
    *p = (struct alert_parcels){
        .room = r, .loop = &r->service->loop, .ways = *ways, .refs = 1, .put_limit_ms = PUT_LIMIT_MS};
    loop_timer_init(p->loop, &p->timer, look, p);
    p->sub = bus_subscribe(r->service->bus, SUBJECT_PARCEL ">", NULL, on_live, p);
    alert_parcels_look(p, 0);
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
    bus_unsubscribe(p->sub);
    struct parcel_bucket *b, *next;
    HASH_ITER(hh, p->buckets, b, next)
    {
        if (b->tell)
            parcel_tell_drop(b->tell);
        b->tell = NULL;
        bucket_free(b);
    }
    p->room = NULL;
    loop_timer_close(&p->timer, on_timer_closed);
}
