/* alert_tell.c - an alert to all who are to hear it: at once by one run over all its routes, or put by as a parcel; what is owed then, too. */
#include "alert/alert_room.h"
#include "alert/alert_text.h"
#include "common/clock.h"
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define WHO           "alert" /* the service's own name as a source */
#define LATES_MAX     4096
#define WORDS_MAX     1024 /* ids of what was told: the same again is not */
#define LATE_MS       600000
#define LATE_FRESH_MS 5000 /* not yet counted, perhaps */

/* One run of it; hardly ever more than one: by_routes(). */
struct leg {
    struct alert_telling *telling;
    struct alert_run *run;
    struct leg *next;
};
struct alert_telling {
    struct alert_room *room;
    struct alert_telling_opts o;
    struct leg *legs;
    int open; /* runs, parcels, receipts still to come */
    bool dropped;
    char channel[NAME_MAX_LEN + 1];
    struct alert_telling_end end;
    alert_telling_cb cb;
    void *ctx;
};

/* ---- beginnings that wait in parcels: their ends must not go before them ---- */

struct alert_late {
    enum alert_parcel_reason reason;
    char node[ALERT_PARCEL_TOKEN_MAX + 1];
    int64_t since_ms;
    UT_hash_handle hh;
    char key[];
};

static void late_free(struct alert_room *r, struct alert_late *x)
{
    HASH_DEL(r->lates, x);
    free(x);
}

void alert_lates_free(struct alert_room *r)
{
    while (r->lates)
        late_free(r, r->lates);
}

static void is_late(struct alert_room *r, const char *key, enum alert_parcel_reason reason, const char *node)
{
    struct alert_late *x;
    HASH_FIND_STR(r->lates, key, x);
    if (x)
        late_free(r, x);
    if (HASH_COUNT(r->lates) >= LATES_MAX)
        late_free(r, r->lates); /* the oldest */
    size_t n = strlen(key) + 1;
    x = calloc(1, sizeof *x + n);
    if (!x)
        return;
    x->reason = reason;
    snprintf(x->node, sizeof x->node, "%s", node);
    x->since_ms = clock_mono_ms();
    memcpy(x->key, key, n);
    HASH_ADD_KEYPTR(hh, r->lates, x->key, n - 1, x);
}

/* Where the beginning of this end waits; NULL = it does not, as far as this replica knows. */
static const struct alert_late *late_of(const struct alert_room *r, const PB(Alert) * a)
{
    struct alert_late *x = NULL;
    if (a->resolved)
        HASH_FIND_STR(r->lates, a->dedup_key, x);
    int64_t age_ms = x ? clock_mono_ms() - x->since_ms : INT64_MAX;
    bool waits = age_ms < LATE_FRESH_MS || (age_ms < LATE_MS && alert_parcels_waiting(r->parcels, x->reason) > 0);
    return waits ? x : NULL;
}

/* ---- the end ---- */

static void let_go(struct alert_telling *x)
{
    struct alert_room *r = x->room;
    if (--x->open > 0)
        return;
    if (!x->dropped) {
        x->end.channel = x->channel;
        x->cb(x->ctx, &x->end);
    }
    free(x);
    alert_room_unref(r);
}

static void on_said(void *ctx)
{
    let_go(ctx);
}

static void say(struct alert_telling *x, enum alert_status status, const char *detail)
{
    struct alert_result result = {.detail = detail};
    if (!x->dropped)
        alert_say_message(x->room, x->o.message, NULL, status, 0, &result,
                          &(struct alert_said){.done = on_said, .ctx = x, .count = &x->open});
}

/* ---- parcels ---- */

struct put {
    struct alert_telling *telling;
    enum alert_parcel_reason reason;
    char node[ALERT_PARCEL_TOKEN_MAX + 1];
    bool silent; /* its receipt is said already */
};

static void on_put(void *ctx, int status, const char *error)
{
    struct put *p = ctx;
    struct alert_telling *x = p->telling;
    char detail[200];
    (void)error; /* the parcels have logged it */
    if (status) {
        x->end.lost = true;
    } else {
        x->end.put = true;
        if (!x->dropped && !x->o.alert->resolved &&
            (p->reason == ALERT_PARCEL_OVERFLOW || p->reason == ALERT_PARCEL_OWED))
            is_late(x->room, x->o.alert->dedup_key, p->reason, p->node);
        snprintf(detail, sizeof detail, "%s: waits for %s", alert_parcel_reason_name(p->reason), p->node);
        if (!p->silent)
            say(x, ALERT_STATUS_WAITING, detail);
    }
    free(p);
    let_go(x);
}

static void put_by(struct alert_telling *x, enum alert_parcel_reason reason, const char *node, const char *bucket,
                   bool silent)
{
    struct put *p = calloc(1, sizeof *p);
    assert(p && "out of memory for an alert");
    *p = (struct put){.telling = x, .reason = reason, .silent = silent};
    snprintf(p->node, sizeof p->node, "%s", node);
    x->open++;
    alert_parcels_put(
        x->room->parcels,
        &(struct alert_put){.reason = reason, .node = node, .bucket = bucket, .alert = x->o.alert, .id = x->o.put_id},
        on_put, p);
}

/* ---- at once ---- */

static void by_routes(struct alert_telling *x);

static void on_run(void *ctx, const struct alert_run_end *end)
{
    struct leg *leg = ctx, **at;
    struct alert_telling *x = leg->telling;
    for (at = &x->legs; *at != leg; at = &(*at)->next)
        ;
    *at = leg->next;
    free(leg);
    if (!end->known && x->o.node) { /* not in the settings any more */
        x->o.node = NULL;
        by_routes(x);
    } else if (!end->known) {
        x->end.lost = true;
    } else {
        x->end.told = x->end.told || end->told;
        if (!*x->channel)
            snprintf(x->channel, sizeof x->channel, "%s", end->channel);
        for (size_t i = 0; i < end->n_owed; i++)
            put_by(x, ALERT_PARCEL_OWED, end->owed[i], ALERT_PARCEL_ALL, !end->told);
        for (size_t i = 0; i < end->n_over; i++)
            put_by(x, ALERT_PARCEL_OVERFLOW, end->over[i], ALERT_PARCEL_ALL, true);
    }
    let_go(x);
}

static void run(struct alert_telling *x, const char *const *nodes, size_t n)
{
    const PB(Alert) *a = x->o.alert;
    const struct alert_late *late = late_of(x->room, a);
    struct alert_road *road = n > 1 ? alert_road_of(x->room, nodes, n) : NULL;
    struct alert_run_opts o = {
        .message = x->o.message,
        .critical = a->severity >= REDOUBT__V1__SEVERITY__SEVERITY_CRITICAL,
        .put_by = true,
        .put_by_at = late && late->reason == ALERT_PARCEL_OVERFLOW ? late->node : NULL,
        .left_out = a->source && strcmp(a->source, WHO) == 0 ? subject_tail(a->dedup_key, ALERT_CHANNEL_KEY) : NULL,
        .node = nodes[0],
        .road = road};
    struct leg *leg = malloc(sizeof *leg);
    assert(leg && "out of memory for an alert");
    *leg = (struct leg){.telling = x, .next = x->legs};
    x->legs = leg;
    x->open++;
    leg->run = alert_run_start(x->room, &o, on_run, leg);
    alert_road_unref(road);
}

static const struct set_quiet *quiet_of(const struct set_alert *set, const char *name)
{
    for (size_t i = 0; *name && i < set->quiet.n; i++) {
        const struct set_quiet *q = CONF_AT(set->quiet, struct set_quiet, i);
        if (strcmp(q->name, name) == 0)
            return q;
    }
    return NULL;
}

static struct alert_dial dial_now(void)
{
    time_t now = (time_t)(clock_wall_ms() / 1000);
    struct tm local;
    return localtime_r(&now, &local) ? alert_dial(&local) : (struct alert_dial){0, 0};
}

static void by_routes(struct alert_telling *x)
{
    const struct set_alert *set = &x->room->service->settings->alert;
    const struct alert_late *late = late_of(x->room, x->o.alert);
    char own[64][ALERT_PARCEL_TOKEN_MAX + 1];
    const char *nodes[64];
    size_t n = 0;
    for (size_t i = 0; i < set->routes.n && i < 64; i++) {
        const struct set_route *route = CONF_AT(set->routes, struct set_route, i);
        if (!(x->o.routes & (UINT64_C(1) << i)))
            continue;
        const char *node = alert_route_node(route, own[i]);
        const struct set_quiet *quiet = quiet_of(set, route->quiet);
        struct alert_leg leg =
            alert_route_leg(route, quiet, x->o.alert, x->o.alone, quiet ? dial_now() : (struct alert_dial){0, 0});
        bool there = false;
        for (size_t k = 0; k < n; k++)
            there = there || strcmp(nodes[k], node) == 0;
        if (leg.kind == ALERT_LEG_PUT_BY)
            put_by(x, leg.reason, node, leg.bucket, false);
        else if (leg.kind == ALERT_LEG_AT_ONCE && late && late->reason == ALERT_PARCEL_OWED &&
                 strcmp(late->node, node) == 0)
            put_by(x, ALERT_PARCEL_OWED, node, ALERT_PARCEL_ALL, false); /* behind its beginning */
        else if (leg.kind == ALERT_LEG_AT_ONCE && !there)
            nodes[n++] = node;
    }
    if (n >
        1) { /* together, so that a channel of several routes is told once; but they may be too many for one run */
        struct alert_road *road = alert_road_of(x->room, nodes, n);
        size_t each = road ? n : 1;
        for (size_t i = 0; i < n; i += each)
            run(x, nodes + i, each);
        alert_road_unref(road);
    } else if (n == 1) {
        run(x, nodes, 1);
    } else if (x->o.routes == 0) {
        say(x, ALERT_STATUS_EXHAUSTED, "no route of the settings takes it");
    }
}

static void on_begun(void *ctx)
{
    let_go(ctx);
}

struct alert_telling *alert_telling_start(struct alert_room *r, const struct alert_telling_opts *o,
                                          alert_telling_cb cb, void *ctx)
{
    struct alert_telling *x = calloc(1, sizeof *x);
    assert(x && "out of memory for an alert");
    *x = (struct alert_telling){.room = r, .o = *o, .open = 1, .cb = cb, .ctx = ctx};
    alert_room_ref(r);
    loop_defer(&r->service->loop, on_begun, x);
    if (o->node)
        run(x, &o->node, 1);
    else
        by_routes(x);
    return x;
}

void alert_telling_cancel(struct alert_telling *x)
{
    for (struct leg *l = x->legs; l; l = l->next) /* a run ends later, never from inside */
        alert_run_cancel(l->run);
}

void alert_telling_drop(struct alert_telling *x)
{
    if (!x || x->dropped)
        return;
    x->dropped = true;
    x->open++;
    while (x->legs) {
        struct leg *l = x->legs;
        x->legs = l->next;
        alert_run_drop(l->run);
        free(l);
        x->open--;
    }
    let_go(x);
}

/* ---- told once more, apart from its coming ---- */

struct waiter {
    void (*done)(void *ctx, int status);
    void *ctx;
    struct waiter *next;
};
struct alert_word {
    struct alert_room *room;
    char id[65];
    PB(Alert) * alert; /* NULL once it is told */
    const PB(Alert) * list[1];
    struct alert_message message;
    char *node, *note;
    struct alert_telling *telling;
    struct waiter *waiters;
    UT_hash_handle hh;
};

static void word_strip(struct alert_word *w)
{
    wire_free(w->alert);
    free(w->node);
    free(w->note);
    w->alert = NULL;
    w->node = w->note = NULL;
    w->telling = NULL;
}

static void word_free(struct alert_word *w)
{
    HASH_DEL(w->room->words, w);
    word_strip(w);
    free(w);
}

static void word_over(struct alert_word *w, int status)
{
    struct waiter *all = w->waiters;
    w->waiters = NULL;
    word_strip(w);
    if (status)
        word_free(w); /* may be asked again */
    while (all) {
        struct waiter *next = all->next;
        all->done(all->ctx, status);
        free(all);
        all = next;
    }
}

static void on_word_told(void *ctx, const struct alert_telling_end *end)
{
    word_over(ctx, end->lost ? -1 : 0);
}

struct told_before {
    struct alert_room *room;
    struct waiter waiter;
    int status;
};

static void on_told_before(void *ctx)
{
    struct told_before b = *(struct told_before *)ctx;
    free(ctx);
    b.waiter.done(b.waiter.ctx, b.status);
    alert_room_unref(b.room);
}

static void answer_later(struct alert_room *r, const struct waiter *w, int status)
{
    struct told_before *b = malloc(sizeof *b);
    assert(b && "out of memory for an alert");
    *b = (struct told_before){r, *w, status};
    alert_room_ref(r);
    loop_defer(&r->service->loop, on_told_before, b);
}

static PB(Alert) * copy_of(const PB(Alert) * a)
{
    size_t len;
    struct err e;
    void *data = wire_pack(a, &len, &e);
    PB(Alert) *copy = data ? wire_unpack(PB_DESC(alert), data, len, &e) : NULL;
    free(data);
    return copy;
}

static void forget_words(struct alert_room *r)
{
    struct alert_word *w, *next;
    HASH_ITER(hh, r->words, w, next)
    {
        if (HASH_COUNT(r->words) <= WORDS_MAX)
            break;
        if (!w->alert)
            word_free(w);
    }
}

void alert_tell(struct alert_room *r, const PB(Alert) * a, const char *node, const char *id, const char *note,
                void (*done)(void *ctx, int status), void *ctx)
{
    struct waiter waiter = {done, ctx, NULL};
    struct alert_word *w;
    HASH_FIND_STR(r->words, id, w);
    if (r->closing || (w && !w->alert)) {
        answer_later(r, &waiter, r->closing ? -1 : 0);
        return;
    }
    struct waiter *one = malloc(sizeof *one);
    assert(one && "out of memory for an alert");
    *one = waiter;
    if (w) { /* in hand */
        one->next = w->waiters;
        w->waiters = one;
        return;
    }
    PB(Alert) *copy = strlen(id) <= 64 ? copy_of(a) : NULL;
    w = copy ? calloc(1, sizeof *w) : NULL;
    if (!w) { /* not valid, or memory is out */
        wire_free(copy);
        free(one);
        answer_later(r, &waiter, -1);
        return;
    }
    w->room = r;
    w->alert = copy;
    w->list[0] = copy;
    w->waiters = one;
    w->node = node ? strdup(node) : NULL;
    w->note = note ? strdup(note) : NULL;
    snprintf(w->id, sizeof w->id, "%s", id);
    w->message = alert_message_one(w->list, w->note);
    w->message.id = w->id;
    HASH_ADD_STR(r->words, id, w);
    forget_words(r);
    w->telling = alert_telling_start(r,
                                     &(struct alert_telling_opts){.alert = w->alert,
                                                                  .message = &w->message,
                                                                  .node = w->node,
                                                                  .routes = alert_routes_of(r->routes, copy),
                                                                  .put_id = w->id},
                                     on_word_told, w);
}

void alert_tells_drop(struct alert_room *r)
{
    while (r->words) {
        struct alert_word *w = r->words;
        alert_telling_drop(w->telling);
        if (w->alert)
            word_over(w, -1); /* frees it */
        else
            word_free(w);
    }
}
