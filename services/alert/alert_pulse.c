/* alert_pulse.c - raises a test as any service raises an alert, waits for its receipt, says how it went, and pings whoever listens outside.
 *
 * The ping stands by itself: one that hangs delays no test, and a second is never begun beside it. */
#include "alert/alert_pulse.h"
#include "alert/alert_deadman.h"
#include "alert/alert_room.h"
#include "common/clock.h"
#include "common/log.h"
#include "common/metric.h"
#include "common/subjects.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PING_MS   10000
#define LOOK_MS   1000 /* whether it is on now */
#define SAY_MS    60000
#define KEY       "alert/deadman"
#define STATUS(x) REDOUBT__V1__DELIVERY_STATUS__DELIVERY_STATUS_##x

METRIC_DEFINE(passed, METRIC_COUNTER, "redoubt_alert_deadman_passed_total",
              "Tests of the whole way that a channel has accepted.");
METRIC_DEFINE(failed, METRIC_COUNTER, "redoubt_alert_deadman_failed_total",
              "Tests of the whole way that no channel has accepted in time.");
METRIC_DEFINE(pings, METRIC_COUNTER, "redoubt_alert_deadman_pings_total", "Pings that were answered well.");
METRIC_DEFINE(pings_failed, METRIC_COUNTER, "redoubt_alert_deadman_pings_failed_total",
              "Pings that were not answered well, or not begun because the one before hung.");

struct alert_pulse {
    struct alert_room *room;
    struct alert_deadman d;
    struct loop_timer timer;
    struct bus_watch *watch;  /* of pulses */
    struct bus_sub *receipts; /* of the test under way */
    char id[64];              /* its alert's */
    char channel[NAME_MAX_LEN + 1], detail[256];
    int64_t last_good_unix_ms, last_unix_ms;
    bool pinging, closing;
    struct log_limit say_ping;
};

static const struct set_deadman *set_of(const struct alert_pulse *p)
{
    return &p->room->service->settings->alert.deadman;
}

static void decide(struct alert_pulse *p, const struct alert_deadman_event *ev);

/* ---- the ping ---- */

static void ping_failed(struct alert_pulse *p, const char *why)
{
    uint64_t held = 0;
    metric_add(&pings_failed, 1);
    if (log_allowed(&p->say_ping, clock_mono_ms(), SAY_MS, &held))
        log_warn("the dead-man's ping failed", F_STR("why", why), F_INT("held_back", held));
}

static void on_pinged(void *ctx, const struct http_result *r)
{
    struct alert_pulse *p = ctx;
    char why[64];
    p->pinging = false;
    if (!p->closing) {
        if (r->fault == HTTP_OK && r->status >= 200 && r->status <= 299) {
            metric_add(&pings, 1);
        } else {
            snprintf(why, sizeof why, "HTTP %d", r->status);
            ping_failed(p, r->fault == HTTP_OK ? why : r->error);
        }
    }
    alert_room_unref(p->room);
    if (p->closing)
        free(p);
}

static void ping(struct alert_pulse *p)
{
    const char *url = set_of(p)->url;
    if (!*url)
        return;
    if (p->pinging) {
        ping_failed(p, "the one before has not ended");
        return;
    }
    p->pinging = true;
    alert_room_ref(p->room);
    struct http_request r = {.url = url, .timeout_ms = PING_MS, .max_response = 65536};
    (void)http_start(p->room->service->http, &r, NULL, on_pinged, p);
}

/* ---- what is said ---- */

static void say_pulse(struct alert_pulse *p, bool ok)
{
    struct service *s = p->room->service;
    PB(Pulse) m = REDOUBT__V1__PULSE__INIT;
    m.service = (char *)s->desc->name;
    m.instance = (char *)s->instance;
    m.at_unix_ms = clock_wall_ms();
    m.every_ms = (uint32_t)set_of(p)->every_ms;
    m.channel = p->channel;
    m.took_ms = (uint32_t)(clock_mono_ms() - p->d.since_ms);
    m.ok = ok;
    m.detail = p->detail;
    p->last_unix_ms = m.at_unix_ms;
    if (ok)
        p->last_good_unix_ms = m.at_unix_ms;
    metric_add(ok ? &passed : &failed, 1);
    service_announce(s, SUBJECT_PULSE "alert", NULL, &m, NULL, NULL);
}

static void say_alert(struct alert_pulse *p, bool resolved)
{
    char detail[512];
    snprintf(detail, sizeof detail,
             resolved
                 ? "A test alert by way of %s is accepted again."
                 : "A test alert by way of %s was not accepted: %.300s. Other alerts may not reach anybody either.",
             set_of(p)->to, p->detail);
    PB(Alert) a = REDOUBT__V1__ALERT__INIT;
    a.dedup_key = (char *)KEY;
    a.severity = REDOUBT__V1__SEVERITY__SEVERITY_HIGH;
    a.summary = (char *)(resolved ? "Alerts come through again: the self-test passes"
                                  : "Alerts may not come through: the self-test fails");
    a.detail = detail;
    a.resolved = resolved;
    a.evidence_unix_ms = clock_wall_ms();
    service_alert(p->room->service, &a);
}

/* ---- the test ---- */

static void on_receipt(void *ctx, const struct bus_msg *m)
{
    struct alert_pulse *p = ctx;
    struct err e;
    PB(DeliveryReceipt) *r = wire_unpack(PB_DESC(delivery_receipt), m->data, m->len, &e);
    if (!r) {
        service_bad_input(p->room->service, "receipt", m, e.text);
        return;
    }
    struct alert_deadman_event ev = {.run = p->d.run};
    bool told = r->status == STATUS(ACCEPTED), over = r->status == STATUS(EXHAUSTED) || r->status == STATUS(MUTED);
    if (told)
        snprintf(p->channel, sizeof p->channel, "%s", r->channel);
    if (told || *r->detail)
        snprintf(p->detail, sizeof p->detail, "%s%s%.180s", r->channel, *r->channel && *r->detail ? ": " : "",
                 r->detail);
    ev.kind = told ? ALERT_DEADMAN_ACCEPTED : ALERT_DEADMAN_REFUSED;
    bool ours = strcmp(r->alert_id, p->id) == 0;
    wire_free(r);
    if (ours && (told || over))
        decide(p, &ev);
}

static void test(struct alert_pulse *p)
{
    struct service *s = p->room->service;
    char fresh[48], subject[SUBJECT_MAX_LEN];
    bus_unsubscribe(p->receipts);
    snprintf(p->id, sizeof p->id, "deadman-%s", service_new_id(s, fresh));
    snprintf(p->detail, sizeof p->detail, "no receipt within its time");
    p->channel[0] = 0;
    snprintf(subject, sizeof subject, "%s%s", SUBJECT_DELIVERY, p->id);
    p->receipts = bus_subscribe(s->bus, subject, NULL, on_receipt, p);
    PB(Alert) a = REDOUBT__V1__ALERT__INIT;
    a.id = p->id;
    a.dedup_key = p->id;
    a.severity = REDOUBT__V1__SEVERITY__SEVERITY_INFO;
    a.summary = (char *)"Self-test: alerts come through";
    a.detail = (char *)"Nothing is wrong. The alert service tests by itself that alerts reach this channel.";
    a.self_test = true;
    service_alert(s, &a);
}

static void decide(struct alert_pulse *p, const struct alert_deadman_event *ev)
{
    enum alert_deadman_effect out[ALERT_DEADMAN_EFFECTS_MAX];
    size_t n = alert_deadman_decide(&p->d, ev, clock_mono_ms(), out);
    for (size_t i = 0; i < n; i++) {
        switch (out[i]) {
        case ALERT_DEADMAN_TEST:
            test(p);
            break;
        case ALERT_DEADMAN_PASSED:
            say_pulse(p, true);
            ping(p);
            break;
        case ALERT_DEADMAN_FAILED:
            log_warn("the self-test of alerts failed", F_STR("to", set_of(p)->to), F_STR("why", p->detail));
            say_pulse(p, false);
            break;
        case ALERT_DEADMAN_RAISE:
            say_alert(p, false);
            break;
        case ALERT_DEADMAN_RESOLVE:
            say_alert(p, true);
            break;
        }
    }
}

static void on_timer(void *ctx)
{
    struct alert_pulse *p = ctx;
    const struct set_deadman *set = set_of(p);
    /* Without the bus no receipt could come: then silence is what others go by. */
    bool on = *set->to && alert_leads(p->room->lead) && bus_up(p->room->service->bus) && !p->room->service->draining;
    decide(p, &(struct alert_deadman_event){.kind = ALERT_DEADMAN_TICK, .on = on, .every_ms = set->every_ms});
    if (p->d.state != ALERT_DEADMAN_TESTING && p->receipts) {
        bus_unsubscribe(p->receipts);
        p->receipts = NULL;
    }
    int64_t wait_ms = on ? alert_deadman_due(&p->d) - clock_mono_ms() : LOOK_MS;
    loop_timer_start(&p->timer, wait_ms < 1 ? 1 : wait_ms > LOOK_MS ? LOOK_MS : wait_ms, 0);
}

static void on_pulse(void *ctx, const struct bus_msg *m)
{
    struct alert_pulse *p = ctx;
    struct err e;
    PB(Pulse) *x = wire_unpack(PB_DESC(pulse), m->data, m->len, &e);
    if (!x) {
        service_bad_input(p->room->service, "pulse", m, e.text);
        return;
    }
    if (x->at_unix_ms > p->last_unix_ms) { /* else it is told again, or our own */
        p->last_unix_ms = x->at_unix_ms;
        if (x->ok)
            p->last_good_unix_ms = x->at_unix_ms;
        decide(p, &(struct alert_deadman_event){.kind = ALERT_DEADMAN_HEARD, .ok = x->ok});
    }
    wire_free(x);
}

/* ---- life ---- */

struct alert_pulse *alert_pulse_open(struct alert_room *r)
{
    struct alert_pulse *p = calloc(1, sizeof *p);
    if (!p)
        return NULL;
    p->room = r;
    p->watch = bus_watch(r->service->bus, SUBJECT_PULSE "alert", 0, on_pulse, NULL, p);
    if (!p->watch) {
        free(p);
        return NULL;
    }
    loop_timer_init(&r->service->loop, &p->timer, on_timer, p);
    loop_timer_start(&p->timer, LOOK_MS, 0);
    alert_room_ref(r);
    return p;
}

int64_t alert_pulse_last(const struct alert_pulse *p)
{
    return p ? p->last_good_unix_ms : 0;
}

static void on_timer_closed(void *ctx)
{
    struct alert_pulse *p = ctx;
    struct alert_room *r = p->room;
    p->closing = true;
    if (!p->pinging)
        free(p);
    alert_room_unref(r);
}

void alert_pulse_close(struct alert_pulse *p)
{
    if (!p)
        return;
    bus_unsubscribe(p->receipts);
    bus_watch_close(p->watch);
    loop_timer_close(&p->timer, on_timer_closed);
}
