/* alert_shell.c - the alert service's life: alerts off the ALERTS stream, channels of the settings, what is due, start and stop. */
#include "alert/alert_room.h"
#include "common/clock.h"
#include "common/log.h"
#include "common/metric.h"
#include "common/subjects.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define STORE_WAIT_MS 1000 /* at the start: for the memory in Redis, so that nothing is told twice */
#define NAK_MS        1000
#define DEAD_AFTER    1000 /* restarts give alerts back often; a poisonous one ends all the same */

METRIC_DEFINE(received, METRIC_COUNTER, "redoubt_alert_received_total", "Alerts taken off the stream.");
METRIC_DEFINE(broken, METRIC_GAUGE, "redoubt_alert_channels_broken", "Channels that do not accept anything now.");

static struct alert_room *room_of(struct service *s)
{
    return s->state;
}

/* ---- channels ---- */

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
        r->back = true; /* what is owed is tried now */
        alert_room_settle(r);
    }
    /* Who waits in the queue of a channel that has just failed goes on at once. One that was only passed by says nothing new, and the
     * one in the queue may be the probe. */
    if (c->circuit.state == ALERT_CIRCUIT_BROKEN && !(why && why->outcome.fault == ALERT_FAULT_SKIPPED))
        alert_channel_flush(c);
}

/* ---- what comes, and what is due ---- */

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
    alert_item_new(r, a, m->deliveries > 1, h);
}

static bool idle(const struct alert_room *r)
{
    for (const struct alert_channel *c = r->all; c; c = c->next)
        if (c->n_running > 0)
            return false;
    return r->sayings == 0;
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
        alert_parcels_back(r->parcels);
    }
    int64_t now = clock_mono_ms(), next = r->service->draining ? INT64_MAX : alert_runs_wake(r, now);
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
    if (r->next_wake_ms < next)
        next = r->next_wake_ms;
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
    alert_lead_store(r->lead, true);
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

static void on_lead(void *ctx)
{
    struct alert_room *r = ctx;
    if (!r->closing)
        alert_parcels_up(r->parcels);
}

/* Everything that is opened here is closed in alert_stop(), in the opposite order. */
int alert_start(struct service *s, struct err *e)
{
    struct alert_room *r = calloc(1, sizeof *r);
    if (!r)
        return err_set(e, "out of memory");
    s->state = r;
    r->service = s;
    r->refs = 1;
    r->next_wake_ms = INT64_MAX;
    loop_timer_init(&s->loop, &r->wake, on_wake, r);
    loop_timer_init(&s->loop, &r->begin, on_begin, r);
    loop_timer_start(&r->begin, STORE_WAIT_MS, 0);
    struct alert_lead_opts lead = {
        .instance = s->instance, .lease_ttl_ms = s->settings->alert.lease_ttl_ms, .on_lead = on_lead, .ctx = r};
    if (!(r->routes = alert_routes_new(&s->settings->alert, e)))
        return -1;
    if (!(r->trail = alert_trail_open(r)) || load_channels(r) || !(r->memory = alert_memory_open(r)) ||
        !(r->lead = alert_lead_open(&s->loop, s->store, &lead)) || !(r->parcels = alert_parcels_open(r)) ||
        !(r->pulse = alert_pulse_open(r)))
        return err_set(e, "out of memory");
    if (s->settings->alert.routes.n == 0)
        log_warn("no alert channels are set: alerts are kept on the stream only",
                 F_STR("set", "alert.channels and alert.routes"));
    return 0;
}

void alert_on_reload(struct service *s, const struct settings *was)
{
    struct alert_room *r = room_of(s);
    struct err e;
    (void)was;
    if (load_channels(r))
        log_error("channels not reloaded", F_STR("why", "out of memory"));
    struct alert_routes *routes = alert_routes_new(&s->settings->alert, &e);
    if (!routes) {
        log_error("routes not reloaded", F_STR("why", e.text));
        abort(); /* those of before stand on settings that go now; the next start reads these */
    }
    alert_routes_free(r->routes);
    r->routes = routes;
    r->settings_no++;
    alert_roads_forget(r);
    alert_memory_reload(r->memory);
    alert_parcels_reload(r->parcels);
    r->back = true; /* what waits for a channel may have one now */
    alert_room_settle(r);
}

void alert_on_bus_up(struct service *s)
{
    alert_parcels_up(room_of(s)->parcels);
}

void alert_on_store_down(struct service *s)
{
    alert_lead_store(room_of(s)->lead, false);
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
    alert_items_give_back(r);
    bus_consumer_close(r->consumer);
    alert_parcels_close(r->parcels);
    alert_tells_drop(r);
    alert_lates_free(r);
    if (r->lead)
        alert_lead_close(r->lead, NULL, NULL);
    alert_roads_forget(r);
    for (struct alert_channel *c = r->all, *next; c; c = next) {
        alert_channel_ref(c);
        if (c->kind->stop)
            c->kind->stop(c);
        next = c->next;
        alert_channel_unref(c);
    }
    alert_pulse_close(r->pulse);
    for (size_t k = 0; k < r->n_channels; k++)
        alert_channel_unref(r->channels[k]);
    r->n_channels = 0;
    alert_memory_close(r->memory);
    alert_trail_close(r->trail);
    r->trail = NULL;
    alert_routes_free(r->routes);
    alert_room_ref(r);
    loop_timer_close(&r->begin, on_timer_closed);
    loop_timer_close(&r->wake, on_timer_closed); /* the last one for the service itself */
}
