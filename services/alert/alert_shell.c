/* alert_shell.c - takes alerts off the ALERTS stream, sends them through their channels, and acknowledges what is through.
 *
 * An alert is held from its coming until a channel has accepted it (or it was only to be recorded) and its receipts and audit
 * records are safe. A process that dies leaves its alerts unacknowledged: the server gives them out again, and the memory in
 * Redis says how far they were. */
#include "alert/alert_room.h"
#include "common/clock.h"
#include "common/log.h"
#include "common/metric.h"
#include "common/subjects.h"
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define STORE_WAIT_MS 1000 /* at the start: for the memory in Redis, so that nothing is told twice */
#define NAK_MS        1000
#define DEAD_AFTER    1000    /* restarts give alerts back often; a poisonous one ends all the same */
#define WHO           "alert" /* the service's own name as a source */

METRIC_DEFINE(received, METRIC_COUNTER, "redoubt_alert_received_total", "Alerts taken off the stream.");
METRIC_DEFINE(repeated, METRIC_COUNTER, "redoubt_alert_repeats_total", "Alerts that people knew of already.");
METRIC_DEFINE(known, METRIC_COUNTER, "redoubt_alert_redelivered_total",
              "Alerts that came again after they were delivered.");
METRIC_DEFINE(in_hand, METRIC_GAUGE, "redoubt_alert_in_hand", "Alerts not yet acknowledged.");
METRIC_DEFINE(broken, METRIC_GAUGE, "redoubt_alert_channels_broken", "Channels that do not accept anything now.");

static struct alert_room *room_of(struct service *s)
{
    return s->state;
}

/* ---- the end of an alert ---- */

static void item_free(struct alert_item *i)
{
    struct alert_room *r = i->room;
    for (size_t k = 0; k < i->plan.n; k++)
        alert_channel_unref(i->ways[k]);
    wire_free(i->alert);
    free(i->holds);
    free(i);
    alert_room_unref(r);
}

static void item_leave(struct alert_item *i)
{
    struct alert_room *r = i->room;
    HASH_DEL(r->by_id, i);
    if (i->prev)
        i->prev->next = i->next;
    else
        r->first = i->next;
    if (i->next)
        i->next->prev = i->prev;
    else
        r->last = i->prev;
    metric_set(&in_hand, HASH_COUNT(r->by_id));
}

static void item_settle(struct alert_item *i)
{
    if (!i->over || i->unsaid > 0)
        return;
    if (!i->room->closing) {
        for (size_t k = 0; k < i->n_holds; k++)
            bus_ack(i->holds[k]);
        item_leave(i);
        alert_room_settle(i->room);
    }
    item_free(i);
}

static void on_said(void *ctx)
{
    struct alert_item *i = ctx;
    i->unsaid--;
    item_settle(i);
}

static void item_receipt(struct alert_item *i, const struct alert_channel *c, enum alert_status status, int attempt,
                         const struct alert_result *result)
{
    i->unsaid += 2; /* the receipt and the audit record */
    alert_say_receipt(i->room, i->alert, c, status, attempt, result, on_said, i);
}

/* ---- effects ---- */

static void apply(struct alert_item *i, const struct alert_event *ev, const struct alert_result *result);

static void on_attempt(void *ctx, const struct alert_result *r)
{
    struct alert_item *i = ctx;
    i->job = NULL;
    apply(i, &(struct alert_event){.kind = ALERT_RESULT, .outcome = r->outcome}, r);
}

static void refuse_now(struct alert_item *i, enum alert_fault fault)
{
    struct alert_result r = {.outcome = {fault, 0, -1}, .detail = alert_fault_text(fault)};
    apply(i, &(struct alert_event){.kind = ALERT_RESULT, .outcome = r.outcome}, &r);
}

static void item_send(struct alert_item *i, const struct alert_effect *e)
{
    struct alert_channel *c = i->ways[e->way];
    if (!alert_circuit_admit(&c->circuit, clock_mono_ms())) {
        refuse_now(i, ALERT_FAULT_SKIPPED);
        return;
    }
    i->job = alert_channel_send(c, &i->message, i->d.critical, e->timeout_ms, e->start_by_ms, on_attempt, i);
    if (!i->job)
        refuse_now(i, ALERT_FAULT_OTHER);
}

static void item_end(struct alert_item *i, const struct alert_result *result)
{
    const struct alert_room *r = i->room;
    bool told = i->d.state == ALERT_DONE && i->d.notify && result &&
                alert_classify(i->plan.ways[i->d.way].proto, &result->outcome) == ALERT_CLASS_ACCEPTED &&
                !i->plan.ways[i->d.way].record;
    if (!i->d.recorded && !told) /* nobody has it but the stream, which keeps it: say so */
        item_receipt(i, NULL, ALERT_STATUS_RECORDED, 0, NULL);
    alert_memory_delivered(r->memory, i->alert, told ? i->ways[i->d.way]->set.name : "");
    i->over = true;
    alert_room_settle(i->room); /* those that had to wait for it are looked at there */
}

static void apply(struct alert_item *i, const struct alert_event *ev, const struct alert_result *result)
{
    struct alert_effect out[ALERT_EFFECTS_MAX];
    struct alert_room *r = i->room;
    if (r->closing)
        return;
    i->unsaid++; /* kept while effects are carried out */
    size_t n = alert_decide(&i->d, &i->plan, ev, clock_mono_ms(), out);
    for (size_t k = 0; k < n; k++) {
        const struct alert_effect *e = &out[k];
        switch (e->kind) {
        case ALERT_SEND:
            item_send(i, e);
            break;
        case ALERT_RECEIPT:
            if (e->status == ALERT_STATUS_EXHAUSTED)
                item_receipt(i, NULL, e->status, 0, NULL);
            else
                item_receipt(i, i->ways[e->way], e->status, e->attempt, result);
            break;
        case ALERT_TOLD:
            alert_room_told(r, i->ways[e->way], e->class, result);
            break;
        case ALERT_WAKE_AT:
            alert_room_settle(r);
            break;
        case ALERT_END:
            item_end(i, result);
            break;
        }
    }
    i->unsaid--;
    item_settle(i);
}

void alert_room_told(struct alert_room *r, struct alert_channel *c, enum alert_class class,
                     const struct alert_result *why)
{
    bool record = c->kind->proto == ALERT_PROTO_FILE;
    struct alert_outcome none = {ALERT_FAULT_NONE, 0, -1};
    enum alert_circuit_news news =
        alert_circuit_told(&c->circuit, class, why ? &why->outcome : &none, record, clock_mono_ms());
    if (news == ALERT_CIRCUIT_RAISE) {
        char text[320];
        snprintf(text, sizeof text, "%s (%.200s)", alert_fault_text(why ? why->outcome.fault : ALERT_FAULT_OTHER),
                 why ? why->detail : "its time was over");
        alert_say_channel(r, c, true, text);
    } else if (news == ALERT_CIRCUIT_RESOLVE) {
        alert_say_channel(r, c, false, "it has accepted an alert");
        r->back = true;
        alert_room_settle(r);
    }
    /* Who waits in the queue of a channel that has just failed goes on at once. One that was only passed by says nothing new, and the
     * one in the queue may be the probe. */
    if (c->circuit.state == ALERT_CIRCUIT_BROKEN && !(why && why->outcome.fault == ALERT_FAULT_SKIPPED))
        alert_channel_flush(c);
}

/* ---- order within one problem ---- */

static bool same_problem(const struct alert_item *a, const struct alert_item *b)
{
    return strcmp(a->alert->dedup_key, b->alert->dedup_key) == 0;
}

static bool in_the_way(const struct alert_item *earlier, const struct alert_item *later)
{
    return earlier->decided && !earlier->over && earlier->d.notify && same_problem(earlier, later) &&
           !alert_group_overtakes(earlier->alert->resolved, later->alert->resolved);
}

static bool must_wait(const struct alert_item *i)
{
    for (const struct alert_item *e = i->prev; e; e = e->prev)
        if (in_the_way(e, i))
            return true;
    return false;
}

/* Ends what this alert makes pointless. Each end may end others of the list: so from the start again. */
static void cancel_outdated(const struct alert_item *i)
{
    struct alert_item *e = i->prev;
    while (e) {
        bool now =
            in_the_way(e, i) && !e->d.cancelled && alert_group_outdates(e->alert->resolved, i->alert->resolved);
        if (now) {
            apply(e, &(struct alert_event){.kind = ALERT_CANCEL}, NULL);
            e = i->prev;
        } else {
            e = e->prev;
        }
    }
}

/* ---- the beginning ---- */

static const struct set_route *route_of(const struct set_alert *set, int severity)
{
    for (size_t k = 0; k < set->routes.n; k++) {
        const struct set_route *route = CONF_AT(set->routes, struct set_route, k);
        if (severity >= route->min_severity + ALERT_INFO)
            return route;
    }
    return NULL;
}

/* By the present settings. What is recorded already stays so. */
static void item_plan(struct alert_item *i)
{
    struct alert_room *r = i->room;
    struct alert_channel *was[ALERT_WAYS_MAX];
    size_t n_was = i->plan.n;
    uint32_t recorded = i->d.recorded;
    memcpy(was, i->ways, sizeof was);
    i->plan.n = 0;
    i->d.recorded = 0;
    const struct set_route *route = route_of(&r->service->settings->alert, (int)i->alert->severity);
    const char *about = i->alert->source && strcmp(i->alert->source, WHO) == 0
                            ? subject_tail(i->alert->dedup_key, ALERT_CHANNEL_KEY)
                            : NULL;
    for (size_t k = 0; route && k < route->channels.n && i->plan.n < ALERT_WAYS_MAX; k++) {
        struct alert_channel *c = alert_room_channel(r, *CONF_AT(route->channels, char *, k));
        if (!c)
            continue;
        size_t at = i->plan.n++;
        alert_channel_ref(c);
        i->ways[at] = c;
        i->plan.ways[at] = (struct alert_way){.proto = c->kind->proto,
                                              .record = c->kind->proto == ALERT_PROTO_FILE,
                                              .left_out = about && strcmp(about, c->set.name) == 0,
                                              .tries = (int)c->set.tries,
                                              .attempt_ms = c->set.attempt_ms,
                                              .deadline_ms = c->set.deadline_ms,
                                              .deadline_critical_ms = c->set.deadline_critical_ms};
        for (size_t w = 0; w < n_was; w++)
            if ((recorded & (1u << w)) && strcmp(was[w]->set.name, c->set.name) == 0)
                i->d.recorded |= 1u << at;
    }
    for (size_t w = 0; w < n_was; w++)
        alert_channel_unref(was[w]);
}

static void on_recall(void *ctx, const struct alert_recall *recall)
{
    struct alert_item *i = ctx;
    struct alert_room *r = i->room;
    i->decided = true;
    if (r->closing) { /* its holds are given back already */
        item_free(i);
        return;
    }
    if (recall->delivered) {
        metric_add(&known, 1);
        struct alert_channel *c = alert_room_channel(r, recall->channel);
        struct alert_result result = {.detail = "delivered before; only the acknowledgement was lost"};
        i->unsaid++;
        item_receipt(i, c, *recall->channel ? ALERT_STATUS_ACCEPTED : ALERT_STATUS_RECORDED, 0, &result);
        i->over = true;
        i->unsaid--;
        item_settle(i);
        return;
    }
    bool notify = recall->verdict == ALERT_NOTIFY;
    if (!notify)
        metric_add(&repeated, 1);
    else if (recall->repeats > 0)
        snprintf(i->note, sizeof i->note, "was repeated %" PRIu32 " times since people were last told",
                 recall->repeats);
    item_plan(i);
    cancel_outdated(i);
    apply(i,
          &(struct alert_event){.kind = ALERT_START,
                                .notify = notify,
                                .hold = notify && must_wait(i),
                                .critical = i->alert->severity >= REDOUBT__V1__SEVERITY__SEVERITY_CRITICAL},
          NULL);
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

static void on_alert(void *ctx, const struct bus_msg *m, struct bus_hold *h)
{
    struct alert_room *r = ctx;
    struct err e;
    if (r->service->draining) {
        bus_nak(h, NAK_MS, "draining");
        return;
    }
    PB(Alert) *a = wire_unpack(PB_DESC(alert), m->data, m->len, &e);
    if (!a) {
        service_bad_input(r->service, "alert", m, e.text);
        bus_dead(h, e.text);
        return;
    }
    metric_add(&received, 1);
    struct alert_item *i;
    HASH_FIND_STR(r->by_id, a->id, i);
    if (i) { /* given out again while it is in hand */
        wire_free(a);
        if (!add_hold(i, h))
            bus_nak(h, NAK_MS, "out of memory");
        return;
    }
    i = calloc(1, sizeof *i);
    if (!i || !add_hold(i, h)) {
        free(i);
        wire_free(a);
        bus_nak(h, NAK_MS, "out of memory");
        return;
    }
    i->room = r;
    i->alert = a;
    i->list[0] = a;
    i->message = alert_message_one(i->list, i->note);
    alert_room_ref(r);
    HASH_ADD_KEYPTR(hh, r->by_id, i->alert->id, strlen(i->alert->id), i);
    i->prev = r->last;
    if (r->last)
        r->last->next = i;
    else
        r->first = i;
    r->last = i;
    metric_set(&in_hand, HASH_COUNT(r->by_id));
    alert_memory_decide(r->memory, a, on_recall, i);
}

/* ---- time ---- */

/* The first alert that something is due for now, with its event. */
static struct alert_item *next_due(struct alert_room *r, int64_t now_ms, struct alert_event *ret)
{
    for (struct alert_item *i = r->first; i; i = i->next) {
        if (!i->decided || i->over)
            continue;
        bool waits = i->d.state == ALERT_BACKOFF || i->d.state == ALERT_PAUSED;
        if (i->d.state == ALERT_HELD && !must_wait(i))
            *ret = (struct alert_event){.kind = ALERT_GO};
        else if (waits && now_ms >= i->d.wake_ms)
            *ret = (struct alert_event){.kind = ALERT_WAKE};
        else
            continue;
        return i;
    }
    return NULL;
}

static void wake_paused(struct alert_room *r)
{
    for (struct alert_item *i = r->first; i; i = i->next)
        i->rouse = i->decided && !i->over && i->d.state == ALERT_PAUSED;
    /* What one alert does may end another one: from the start again after each. */
    for (struct alert_item *i = r->first; i;) {
        if (!i->rouse) {
            i = i->next;
            continue;
        }
        i->rouse = false;
        item_plan(i);
        apply(i, &(struct alert_event){.kind = ALERT_BACK}, NULL);
        i = r->first;
    }
}

static bool idle(const struct alert_room *r)
{
    for (const struct alert_channel *c = r->all; c; c = c->next)
        if (c->n_running > 0)
            return false;
    for (const struct alert_item *i = r->first; i; i = i->next)
        if (i->unsaid > 0)
            return false;
    return true;
}

static void settle(void *ctx)
{
    struct alert_room *r = ctx;
    r->settling = false;
    if (r->closing) {
        alert_room_unref(r);
        return;
    }
    if (r->back) {
        r->back = false;
        wake_paused(r);
    }
    int64_t now = clock_mono_ms(), next = INT64_MAX;
    struct alert_event ev;
    for (struct alert_item *i; !r->service->draining && (i = next_due(r, now, &ev));) {
        if (i->d.state == ALERT_PAUSED)
            item_plan(i);
        apply(i, &ev, NULL);
    }
    int n_broken = 0;
    for (struct alert_channel *c = r->all, *after; c; c = after) {
        alert_channel_ref(c);
        int64_t at = alert_channel_tick(c, now);
        next = at < next ? at : next;
        n_broken += c->circuit.state == ALERT_CIRCUIT_BROKEN;
        after = c->next;
        alert_channel_unref(c);
    }
    metric_set(&broken, n_broken);
    for (const struct alert_item *i = r->first; i; i = i->next)
        if (i->decided && !i->over && (i->d.state == ALERT_BACKOFF || i->d.state == ALERT_PAUSED) &&
            i->d.wake_ms < next)
            next = i->d.wake_ms;
    if (r->service->draining) {
        if (idle(r))
            service_drained(r->service);
    } else if (next != INT64_MAX) {
        loop_timer_start(&r->wake, next > now ? next - now : 1, 0);
    }
    alert_room_unref(r);
}

void alert_room_settle(struct alert_room *r)
{
    if (r->settling || r->closing)
        return;
    r->settling = true;
    alert_room_ref(r);
    loop_defer(&r->service->loop, settle, r);
}

static void on_wake(void *ctx)
{
    alert_room_settle(ctx);
}

/* ---- start, reload, stop ---- */

struct alert_channel *alert_room_channel(const struct alert_room *r, const char *name)
{
    for (size_t k = 0; k < r->n_channels; k++)
        if (strcmp(r->channels[k]->set.name, name) == 0)
            return r->channels[k];
    return NULL;
}

/* Makes the channels of the present settings; those that did not change are kept. -1 = memory is out, nothing is changed. */
static int load_channels(struct alert_room *r)
{
    const struct conf_list *set = &r->service->settings->alert.channels;
    struct alert_channel **fresh = calloc(set->n + 1, sizeof *fresh);
    if (!fresh)
        return -1;
    for (size_t k = 0; k < set->n; k++) {
        const struct set_channel *s = CONF_AT(*set, struct set_channel, k);
        struct alert_channel *was = alert_room_channel(r, s->name);
        if (was && alert_channel_same(was, s)) {
            alert_channel_ref(was);
            fresh[k] = was;
            continue;
        }
        fresh[k] = alert_channel_new(r, s);
        if (!fresh[k]) {
            for (size_t u = 0; u < k; u++)
                alert_channel_unref(fresh[u]);
            free(fresh);
            return -1;
        }
        if (was && was->circuit.state != ALERT_CIRCUIT_OK)
            alert_circuit_recall(&fresh[k]->circuit); /* repaired, perhaps: tried at once, and people hear of it */
    }
    for (size_t k = 0; k < r->n_channels; k++)
        alert_channel_unref(r->channels[k]);
    free(r->channels);
    r->channels = fresh;
    r->n_channels = set->n;
    return 0;
}

static void consume(struct alert_room *r)
{
    if (r->consumer || r->closing || r->service->draining)
        return;
    struct bus_consumer_opts o = {.stream = STREAM_ALERTS,
                                  .durable = ALERT_DURABLE_NAME,
                                  .filter = SUBJECT_ALERT,
                                  .max_ack_pending = ALERT_IN_HAND_MAX,
                                  .dead_after = DEAD_AFTER};
    r->consumer = bus_consume(r->service->bus, &o, on_alert, r);
    if (!r->consumer)
        log_error("cannot consume alerts", F_STR("stream", STREAM_ALERTS));
}

static void on_begin(void *ctx)
{
    consume(ctx);
}

struct circuit_ask {
    struct alert_room *room;
    char name[NAME_MAX_LEN + 1];
};

static void on_circuit(void *ctx, bool firing)
{
    struct circuit_ask *a = ctx;
    struct alert_channel *c = a->room->closing ? NULL : alert_room_channel(a->room, a->name);
    if (c && firing)
        alert_circuit_recall(&c->circuit);
    alert_room_unref(a->room);
    free(a);
}

/* An earlier process may have told people that a channel is broken: they are to hear that it works, too. */
void alert_on_store_up(struct service *s)
{
    struct alert_room *r = room_of(s);
    for (size_t k = 0; k < r->n_channels; k++) {
        char key[NAME_MAX_LEN + sizeof ALERT_CHANNEL_KEY];
        struct circuit_ask *a = malloc(sizeof *a);
        if (!a)
            break;
        a->room = r;
        alert_room_ref(r);
        snprintf(a->name, sizeof a->name, "%s", r->channels[k]->set.name);
        snprintf(key, sizeof key, "%s%s", ALERT_CHANNEL_KEY, a->name);
        alert_memory_firing(r->memory, key, on_circuit, a);
    }
    consume(r);
}

int alert_start(struct service *s, struct err *e)
{
    struct alert_room *r = calloc(1, sizeof *r);
    if (!r || !(r->memory = alert_memory_open(s->store))) {
        free(r);
        return err_set(e, "out of memory");
    }
    s->state = r;
    r->service = s;
    r->refs = 1;
    loop_timer_init(&s->loop, &r->wake, on_wake, r);
    loop_timer_init(&s->loop, &r->begin, on_begin, r);
    loop_timer_start(&r->begin, STORE_WAIT_MS, 0);
    if (load_channels(r) || !(r->pulse = alert_pulse_open(r)))
        return err_set(e, "out of memory");
    if (s->settings->alert.routes.n == 0)
        log_warn("no alert channels are set: alerts are kept on the stream only",
                 F_STR("set", "alert.channels and alert.routes"));
    return 0;
}

void alert_on_reload(struct service *s, const struct settings *was)
{
    struct alert_room *r = room_of(s);
    (void)was;
    if (load_channels(r))
        log_error("channels not reloaded", F_STR("why", "out of memory"));
    r->back = true; /* what waits for a channel may have one now */
    alert_room_settle(r);
}

void alert_drain(struct service *s)
{
    alert_room_settle(room_of(s)); /* attempts under way end; what waits goes back to the stream */
}

static void on_timer_closed(void *ctx)
{
    alert_room_unref(ctx);
}

void alert_room_unref(struct alert_room *r)
{
    if (--r->refs > 0)
        return;
    free(r->channels);
    free(r);
}

void alert_stop(struct service *s)
{
    struct alert_room *r = room_of(s);
    r->closing = true;
    for (struct alert_item *i = r->first, *next; i; i = next) {
        next = i->next;
        alert_job_drop(i->job);
        for (size_t k = 0; k < i->n_holds; k++)
            bus_nak(i->holds[k], 0, "shutting down");
        HASH_DEL(r->by_id, i);
        i->over = true;
        if (i->decided)
            item_settle(i); /* or when its last receipt is out */
    }
    r->first = r->last = NULL;
    for (struct alert_channel *c = r->all, *next; c; c = next) {
        alert_channel_ref(c);
        if (c->kind->stop)
            c->kind->stop(c);
        next = c->next;
        alert_channel_unref(c);
    }
    bus_consumer_close(r->consumer);
    alert_pulse_close(r->pulse);
    for (size_t k = 0; k < r->n_channels; k++)
        alert_channel_unref(r->channels[k]);
    r->n_channels = 0;
    alert_memory_close(r->memory);
    alert_room_ref(r);
    loop_timer_close(&r->begin, on_timer_closed);
    loop_timer_close(&r->wake, on_timer_closed); /* the last one for the service itself */
}
