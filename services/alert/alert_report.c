/* alert_report.c - the command `show`: how all channels are doing, what waits, what is wrong, and whether the whole way was tested. */
#include "alert/alert_index.h"
#include "alert/alert_memory.h"
#include "alert/alert_order.h"
#include "common/clock.h"
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define UNAVAILABLE REDOUBT__V1__COMMAND_STATUS__COMMAND_STATUS_UNAVAILABLE
#define PULSE_MS    1000

/* Redis says how many problems there are, STATE when the last test was; then all else is said as it is at that moment. */
struct report {
    struct alert_room *room;
    char reply[ALERT_REPLY_MAX];
    uint64_t problems;
    int64_t pulse_unix_ms;
};

static void fill_channel(PB(ChannelReport) * to, const struct alert_channel *c)
{
    *to = (PB(ChannelReport))REDOUBT__V1__CHANNEL_REPORT__INIT;
    to->name = c->set.name;
    to->kind = (char *)c->kind->name;
    to->circuit = (char *)sm_name(&alert_circuit_table, c->circuit.state);
    to->waiting = (uint32_t)c->n_waiting;
    to->running = (uint32_t)c->n_running;
    to->accepted = c->accepted;
    to->failed = c->failed;
    to->last_accepted_unix_ms = c->last_accepted_unix_ms;
    to->last_error = (char *)c->last_error;
}

static void answer(struct report *x)
{
    struct alert_room *r = x->room;
    PB(ChannelReport) *channels = calloc(r->n_channels + 1, sizeof *channels);
    PB(ChannelReport) **list = calloc(r->n_channels + 1, sizeof *list);
    PB(Label) labels[ALERT_PARCEL_REASONS], *parcels[ALERT_PARCEL_REASONS];
    char numbers[ALERT_PARCEL_REASONS][24], text[200];
    if (!channels || !list) {
        service_reply(r->service, x->reply, UNAVAILABLE, 0, "out of memory");
        goto out;
    }
    PB(AlertReport) report = REDOUBT__V1__ALERT_REPORT__INIT;
    for (size_t i = 0; i < r->n_channels; i++) {
        list[i] = &channels[i];
        fill_channel(list[i], r->channels[i]);
    }
    for (size_t i = 0; i < ALERT_PARCEL_REASONS; i++) {
        uint64_t n = alert_parcels_waiting(r->parcels, (enum alert_parcel_reason)i);
        snprintf(numbers[i], sizeof numbers[i], "%" PRIu64, n);
        labels[i] = (PB(Label))REDOUBT__V1__LABEL__INIT;
        labels[i].key = (char *)alert_parcel_reason_name((enum alert_parcel_reason)i);
        labels[i].value = numbers[i];
        parcels[i] = &labels[i];
        if (i == ALERT_PARCEL_OWED)
            report.paused = n > UINT32_MAX ? UINT32_MAX : (uint32_t)n;
    }
    report.channels = list;
    report.n_channels = r->n_channels;
    report.parcels = parcels;
    report.n_parcels = ALERT_PARCEL_REASONS;
    report.in_hand = (uint32_t)alert_items_in_hand(r);
    report.problems = x->problems > UINT32_MAX ? UINT32_MAX : (uint32_t)x->problems;
    report.silences = (uint32_t)alert_silences_in_force(alert_memory_silences(r->memory), clock_shared_ms());
    report.last_pulse_unix_ms = x->pulse_unix_ms;
    snprintf(text, sizeof text, "%u alerts in hand, %u more that no channel has accepted; %zu channels; %u problems",
             report.in_hand, report.paused, r->n_channels, report.problems);
    alert_reply_payload(r->service, x->reply, &report, text);
out:
    free(channels);
    free(list);
}

static void finish(struct report *x)
{
    struct alert_room *r = x->room;
    if (!r->closing)
        answer(x);
    free(x);
    alert_room_unref(r);
}

static void on_pulse(void *ctx, enum bus_status st, const struct bus_msg *m)
{
    struct report *x = ctx;
    PB(Pulse) *p = st == BUS_OK && m ? wire_unpack(PB_DESC(pulse), m->data, m->len, NULL) : NULL;
    if (p && p->ok)
        x->pulse_unix_ms = p->at_unix_ms;
    wire_free(p);
    finish(x);
}

static void ask_pulse(struct report *x)
{
    struct service *s = x->room->service;
    if (x->room->closing || !bus_up(s->bus)) {
        finish(x);
        return;
    }
    bus_last(s->bus, STREAM_STATE, SUBJECT_PULSE "alert", PULSE_MS, on_pulse, x);
}

static void on_count(void *ctx, const struct alert_page *p)
{
    struct report *x = ctx;
    struct alert_memory *m = x->room->memory;
    x->problems = p->total;
    ask_pulse(x);
    alert_memory_answered(m);
}

void alert_on_show(struct service *s, const void *message, const struct bus_msg *m)
{
    (void)message;
    struct alert_room *r = s->state;
    struct report *x = strlen(m->reply) < ALERT_REPLY_MAX ? calloc(1, sizeof *x) : NULL;
    if (!x) {
        service_reply(s, m->reply, UNAVAILABLE, 0, "out of memory");
        return;
    }
    x->room = r;
    snprintf(x->reply, sizeof x->reply, "%s", m->reply);
    alert_room_ref(r);
    if (!store_up(s->store)) {
        ask_pulse(x);
        return;
    }
    r->memory->asks++;
    alert_index_page(s->store, true, "", on_count, x);
}
