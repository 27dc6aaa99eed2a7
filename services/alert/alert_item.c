/* alert_item.c - one alert in hand, from its coming until it is acknowledged: memory, record, order within its problem, telling.
 *
 * It is recorded whatever the memory says, so both are done at the same time; people are told when both are through. Only one that has come before
 * waits for the memory first: it may be on record already.
 * It is acknowledged to the stream when it is told or put by durably and its receipts and audit records are safe. A process that dies leaves its
 * alerts unacknowledged: the server gives them out again, and the memory says how far they were. */
#include "alert/alert_room.h"
#include "common/clock.h"
#include "common/log.h"
#include "common/metric.h"
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define AGAIN_MS 5000 /* what could neither be told nor put by */

METRIC_DEFINE(repeated, METRIC_COUNTER, "redoubt_alert_repeats_total", "Alerts that people knew of already.");
METRIC_DEFINE(known, METRIC_COUNTER, "redoubt_alert_redelivered_total",
              "Alerts that came again after they were delivered.");
METRIC_DEFINE(in_hand, METRIC_GAUGE, "redoubt_alert_in_hand", "Alerts not yet acknowledged.");

/* Every state has a way out: DECIDING by the memory's answer (bounded by the store's time-out), RECORDING and TELLING by the end of a run, HELD when
 * those before it are over. */
enum item_state {
    ITEM_DECIDING,  /* its record may be under way, or written */
    ITEM_RECORDING, /* decided; waits for its record */
    ITEM_HELD,      /* recorded; waits until an earlier alert of its problem is through */
    ITEM_TELLING,
    ITEM_OVER, /* nothing more will be done; waits for what is unsaid */
};
static const char *const names[] = {[ITEM_DECIDING] = "DECIDING",
                                    [ITEM_RECORDING] = "RECORDING",
                                    [ITEM_HELD] = "HELD",
                                    [ITEM_TELLING] = "TELLING",
                                    [ITEM_OVER] = "OVER"};
#define B(s) SM_BIT(ITEM_##s)
static const uint32_t allowed[] = {
    [ITEM_DECIDING] = B(RECORDING) | B(TELLING) | B(OVER), /* at once to TELLING: a self-test */
    [ITEM_RECORDING] = B(HELD) | B(TELLING) | B(OVER),
    [ITEM_HELD] = B(TELLING) | B(OVER),
    [ITEM_TELLING] = B(OVER),
    [ITEM_OVER] = 0,
};
static const struct sm_table item_table = {
    .name = "alert in hand", .n = ITEM_OVER + 1, .state_names = names, .allowed = allowed};

struct alert_item {
    struct alert_room *room;
    PB(Alert) * alert;
    struct bus_hold **holds; /* more than one if the server has given it out again meanwhile */
    size_t n_holds;
    uint64_t routes; /* that take it, by the settings of: */
    unsigned settings_no;
    int state;
    bool notify;              /* people are to hear of it */
    bool cancelled;           /* a later alert has made it pointless */
    bool recording;           /* its record has begun, */
    bool record_over;         /* and is written, or has failed, or there is none */
    bool recorded;            /* a file has it */
    bool gone;                /* given back to the stream */
    struct alert_run *record; /* of its files, or of a self-test */
    struct alert_telling *telling;
    int unsaid; /* receipts, and runs that still have some: acknowledged only after them */
    char note[ALERT_NOTE_MAX];
    const PB(Alert) * list[1];
    struct alert_message message;
    struct alert_line *line;
    struct alert_item *earlier, *later; /* in its line */
    UT_hash_handle hh;                  /* by alert->id */
};
/* Those of one problem that people are to hear of, in order of coming. */
struct alert_line {
    struct alert_item *first, *last;
    UT_hash_handle hh;
    char key[];
};

/* ---- order within one problem ---- */

static void join_line(struct alert_item *i)
{
    struct alert_room *r = i->room;
    struct alert_line *l;
    HASH_FIND_STR(r->lines, i->alert->dedup_key, l);
    if (!l) {
        size_t n = strlen(i->alert->dedup_key) + 1;
        l = calloc(1, sizeof *l + n);
        if (!l)
            return; /* then it waits for nobody */
        memcpy(l->key, i->alert->dedup_key, n);
        HASH_ADD_KEYPTR(hh, r->lines, l->key, n - 1, l);
    }
    i->line = l;
    i->earlier = l->last;
    if (l->last)
        l->last->later = i;
    else
        l->first = i;
    l->last = i;
}

static void leave_line(struct alert_item *i)
{
    struct alert_line *l = i->line;
    if (!l)
        return;
    if (i->earlier)
        i->earlier->later = i->later;
    else
        l->first = i->later;
    if (i->later)
        i->later->earlier = i->earlier;
    else
        l->last = i->earlier;
    i->line = NULL;
    if (!l->first) {
        HASH_DEL(i->room->lines, l);
        free(l);
    }
}

static bool must_wait(const struct alert_item *i)
{
    for (const struct alert_item *e = i->line ? i->earlier : NULL; e; e = e->earlier)
        if (!alert_overtakes(e->alert->resolved, i->alert->resolved))
            return true;
    return false;
}

static uint64_t routes_of(struct alert_item *i)
{
    if (i->settings_no != i->room->settings_no) {
        i->settings_no = i->room->settings_no;
        i->routes = alert_routes_of(i->room->routes, i->alert);
    }
    return i->routes;
}

/* ---- the end ---- */

static void item_free(struct alert_item *i)
{
    struct alert_room *r = i->room;
    wire_free(i->alert);
    free(i->holds);
    free(i);
    alert_room_unref(r);
}

static void let_go(struct alert_item *i)
{
    struct alert_room *r = i->room;
    if (i->state != ITEM_OVER || i->unsaid > 0)
        return;
    if (!i->gone) {
        for (size_t k = 0; k < i->n_holds; k++)
            bus_ack(i->holds[k]);
        HASH_DEL(r->items, i);
        metric_set(&in_hand, HASH_COUNT(r->items));
    }
    item_free(i);
}

static void on_said(void *ctx)
{
    struct alert_item *i = ctx;
    i->unsaid--;
    let_go(i);
}

static void say(struct alert_item *i, const struct alert_channel *c, enum alert_status status, const char *detail)
{
    struct alert_result result = {.detail = detail};
    alert_say_message(i->room, &i->message, c, status, 0, &result,
                      &(struct alert_said){.done = on_said, .ctx = i, .count = &i->unsaid});
}

static void tell(struct alert_item *i);

/* Those that have waited for this one. What one does may end another: so from the start again after each. */
static void release_line(struct alert_room *r, const char *key)
{
    struct alert_item *next;
    do {
        struct alert_line *l;
        HASH_FIND_STR(r->lines, key, l);
        for (next = l ? l->first : NULL; next; next = next->later)
            if (next->state == ITEM_HELD && !must_wait(next))
                break;
        if (next)
            tell(next);
    } while (next && !r->closing && !r->service->draining);
}

static void over(struct alert_item *i)
{
    struct alert_room *r = i->room;
    char key[256];
    snprintf(key, sizeof key, "%s", i->alert->dedup_key);
    bool in_line = i->line != NULL;
    sm_move(&item_table, &i->state, ITEM_OVER);
    leave_line(i);
    let_go(i);
    if (in_line && !r->closing && !r->service->draining)
        release_line(r, key);
}

/* It comes again, and finds what is done already. */
static void give_back(struct alert_item *i, int64_t after_ms, const char *why)
{
    for (size_t k = 0; k < i->n_holds; k++)
        bus_nak(i->holds[k], after_ms, why);
    HASH_DEL(i->room->items, i);
    metric_set(&in_hand, HASH_COUNT(i->room->items));
    i->gone = true;
}

static void finish(struct alert_item *i, const char *channel)
{
    bool told = *channel != 0;
    if (!i->recorded && !told) /* nobody has it but the stream, which keeps it: say so */
        say(i, NULL, ALERT_STATUS_RECORDED, "");
    alert_memory_delivered(i->room->memory, i->alert, channel);
    over(i);
}

/* ---- telling ---- */

static void on_told(void *ctx, const struct alert_telling_end *end)
{
    struct alert_item *i = ctx;
    i->telling = NULL;
    if (end->lost) {
        give_back(i, AGAIN_MS, "neither told nor put by");
        over(i);
    } else {
        finish(i, end->channel);
    }
}

static void tell(struct alert_item *i)
{
    sm_move(&item_table, &i->state, ITEM_TELLING);
    i->telling = alert_telling_start(
        i->room, &(struct alert_telling_opts){.alert = i->alert, .message = &i->message, .routes = routes_of(i)},
        on_told, i);
}

/* ---- the record ---- */

static void after_record(struct alert_item *i)
{
    if (!i->notify || i->cancelled) {
        finish(i, "");
    } else if (must_wait(i)) {
        sm_move(&item_table, &i->state, ITEM_HELD);
    } else {
        tell(i);
    }
}

/* Its receipts may still be on their way: nobody waits for them but the acknowledgement. */
static void on_recorded(void *ctx, const struct alert_run_end *end)
{
    struct alert_item *i = ctx;
    i->recorded = end->recorded;
    i->record_over = true;
    if (i->state == ITEM_RECORDING)
        after_record(i);
}

static void on_record_said(void *ctx, const struct alert_run_end *end)
{
    struct alert_item *i = ctx;
    (void)end;
    i->record = NULL;
    on_said(i);
}

static void begin_record(struct alert_item *i)
{
    uint64_t routes = routes_of(i);
    struct alert_road *files = routes ? alert_road_files(i->room, routes) : NULL;
    i->recording = true;
    i->record_over = !files || files->plan.n == 0;
    if (!i->record_over) {
        i->unsaid++;
        i->record = alert_run_start(i->room,
                                    &(struct alert_run_opts){.road = files,
                                                             .message = &i->message,
                                                             .critical = i->message.severity >= ALERT_CRITICAL,
                                                             .record = true,
                                                             .silent = true,
                                                             .through = on_recorded},
                                    on_record_said, i);
    }
    alert_road_unref(files);
}

static void record(struct alert_item *i)
{
    sm_move(&item_table, &i->state, ITEM_RECORDING);
    if (!i->recording)
        begin_record(i);
    if (i->record_over)
        after_record(i);
}

/* ---- a self-test: one way, and nothing is kept of it ---- */

static void on_tested(void *ctx, const struct alert_run_end *end)
{
    struct alert_item *i = ctx;
    (void)end; /* its receipt is what the dead-man goes by */
    i->record = NULL;
    i->unsaid--;
    over(i);
}

static void self_test(struct alert_item *i)
{
    const char *to = i->room->service->settings->alert.deadman.to;
    sm_move(&item_table, &i->state, ITEM_TELLING);
    if (!*to) {
        over(i);
        return;
    }
    i->unsaid++;
    i->record = alert_run_start(i->room, &(struct alert_run_opts){.node = to, .message = &i->message}, on_tested, i);
}

/* ---- the beginning ---- */

/* Ends what this alert makes pointless. Each end may end others of the line: so from the start again. */
static void cancel_outdated(const struct alert_item *i)
{
    struct alert_line *l;
    struct alert_item *e;
    do {
        HASH_FIND_STR(i->room->lines, i->alert->dedup_key, l);
        for (e = l ? l->first : NULL; e; e = e->later)
            if (e != i && !e->cancelled && alert_outdates(e->alert->resolved, i->alert->resolved))
                break;
        if (!e)
            break;
        e->cancelled = true;
        if (e->state == ITEM_HELD)
            finish(e, "");
        else if (e->telling)
            alert_telling_cancel(e->telling);
    } while (e);
}

static void on_recall(void *ctx, const struct alert_recall *recall)
{
    struct alert_item *i = ctx;
    struct alert_room *r = i->room;
    i->unsaid--;
    if (i->gone) { /* closing: its holds are given back already */
        i->state = ITEM_OVER;
        let_go(i);
        return;
    }
    if (recall->delivered) {
        metric_add(&known, 1);
        say(i, alert_room_channel(r, recall->channel),
            *recall->channel ? ALERT_STATUS_ACCEPTED : ALERT_STATUS_RECORDED,
            "delivered before; only the acknowledgement was lost");
        over(i);
        return;
    }
    i->notify = recall->verdict == ALERT_NOTIFY;
    if (recall->verdict == ALERT_MUTED)
        say(i, NULL, ALERT_STATUS_MUTED, recall->why);
    else if (!i->notify)
        metric_add(&repeated, 1);
    else if (recall->over)
        snprintf(i->note, sizeof i->note, "told late: it is over meanwhile");
    else if (recall->repeats > 0)
        snprintf(i->note, sizeof i->note, "was repeated %" PRIu32 " times since people were last told",
                 recall->repeats);
    cancel_outdated(i);
    if (i->notify)
        join_line(i);
    record(i);
}

static bool add_hold(struct alert_item *i, struct bus_hold *h)
{
    struct bus_hold **more = realloc(i->holds, (i->n_holds + 1) * sizeof *more);
    if (!more)
        return false;
    i->holds = more;
    i->holds[i->n_holds++] = h;
    return true;
}

static const struct set_route *first_route(const struct alert_room *r, uint64_t routes)
{
    size_t n = 0;
    while (routes && !(routes & (UINT64_C(1) << n)))
        n++;
    return routes ? CONF_AT(r->service->settings->alert.routes, struct set_route, n) : NULL;
}

void alert_item_new(struct alert_room *r, PB(Alert) * a, bool again, struct bus_hold *h)
{
    struct alert_item *i;
    HASH_FIND_STR(r->items, a->id, i);
    if (i) { /* given out again while it is in hand */
        wire_free(a);
        if (!add_hold(i, h))
            bus_nak(h, AGAIN_MS, "out of memory");
        return;
    }
    i = calloc(1, sizeof *i);
    if (!i || !add_hold(i, h)) {
        free(i);
        wire_free(a);
        bus_nak(h, AGAIN_MS, "out of memory");
        return;
    }
    i->room = r;
    i->alert = a;
    i->list[0] = a;
    i->message = alert_message_one(i->list, i->note);
    alert_room_ref(r);
    HASH_ADD_KEYPTR(hh, r->items, i->alert->id, strlen(i->alert->id), i);
    metric_set(&in_hand, HASH_COUNT(r->items));
    if (a->self_test) {
        self_test(i);
        return;
    }
    i->settings_no = r->settings_no;
    i->routes = alert_routes_of(r->routes, a);
    i->unsaid++; /* before the record begins, so that it does not end here */
    if (!again)
        begin_record(i);
    alert_memory_decide(r->memory, a, first_route(r, i->routes), on_recall, i);
}

size_t alert_items_in_hand(const struct alert_room *r)
{
    return HASH_COUNT(r->items);
}

void alert_items_give_back(struct alert_room *r)
{
    while (r->items) {
        struct alert_item *i = r->items;
        give_back(i, 0, "shutting down");
        leave_line(i);
        if (i->record) {
            alert_run_drop(i->record);
            i->record = NULL;
            i->unsaid--;
        }
        alert_telling_drop(i->telling);
        i->telling = NULL;
        if (i->state == ITEM_DECIDING)
            continue; /* freed when the memory answers */
        i->state = ITEM_OVER;
        let_go(i); /* or when its last receipt is out */
    }
}
