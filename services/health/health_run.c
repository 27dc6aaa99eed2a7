/* health_run.c - probes of targets: when they begin, what becomes of their results, reports and permits for the breaker.
 *
 * The happy path: the timer fires -> a probe begins -> its result goes into the verdict and, as a report, to the breaker -> the timer
 * is armed anew. While the breaker is half open, the fleet's one permit is asked for first, and the probe is the trial. */
#include "common/clock.h"
#include "common/log.h"
#include "common/metric.h"
#include "health/health_shell.h"
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <utlist.h>

#define AT_ONCE_MAX 256 /* probes under way, of all targets */
#define ASK_MS      1000

METRIC_DEFINE(probes, METRIC_COUNTER, "redoubt_probes_total", "Probes begun.");
METRIC_DEFINE(bad, METRIC_COUNTER, "redoubt_probes_failed_total", "Probes that found a fault.");
METRIC_DEFINE(
    not_counted, METRIC_COUNTER, "redoubt_probes_not_counted_total",
    "Results that count for nothing: late failures, broken-off probes, and all while the clock is not trusted.");
METRIC_DEFINE(under_way, METRIC_GAUGE, "redoubt_probes_under_way", "Probes under way.");
METRIC_DEFINE(delayed, METRIC_COUNTER, "redoubt_probes_delayed_total",
              "Probes that had to wait because too many were under way.");
METRIC_DEFINE(late, METRIC_GAUGE, "redoubt_probe_lateness_ms",
              "By how much the latest probe of the last 10 s began after it was due.");
METRIC_DEFINE(reports, METRIC_COUNTER, "redoubt_probe_reports_total", "Results reported to the breaker.");
METRIC_DEFINE(reports_dropped, METRIC_COUNTER, "redoubt_probe_reports_dropped_total",
              "Results that could not be reported to the breaker: the bus was away.");
METRIC_DEFINE(permits, METRIC_COUNTER, "redoubt_probe_permits_total",
              "Permits for a half-open breaker that were got.");

struct health_run {
    struct health_watch *t;
    void *handle;
    uint64_t permit_id;
    int64_t began_ms;        /* monotonic */
    int64_t began_shared_ms; /* shared */
    struct health_run *prev, *next;
};

uint32_t health_random(void)
{
    return randombytes_random();
}

/* ---- the breaker ---- */

/* A probe beside the data path speaks for it only as the trial of a breaker that is not closed. */
static bool on_data_path(const struct health_watch *t, const struct health_run *x)
{
    return t->probe->data_path ||
           (t->probe->may_try &&
            (x->permit_id != 0 || t->breaker == REDOUBT__V1__BREAKER_STATE__BREAKER_STATE_PROBATION));
}

static void report(struct health_watch *t, const struct health_run *x, const struct health_result *r)
{
    struct health_watcher *w = t->w;
    int outcome = health_outcome_of(r);
    if (outcome == HEALTH_OUTCOME_NONE || !health_owns(t) || (!x->permit_id && !health_vote_trusts(t, r)))
        return;
    char subject[SUBJECT_MAX_LEN];
    PB(OutcomeReport) m = REDOUBT__V1__OUTCOME_REPORT__INIT;
    m.target = t->name;
    m.reporter = (char *)w->s->instance;
    m.outcome = (Redoubt__V1__Outcome)outcome;
    m.status_code = r->status;
    m.total_ms = r->total_ms;
    m.first_token_ms = r->first_token_ms;
    m.retry_after_ms = r->retry_after_ms;
    m.ended_unix_ms = clock_wall_ms();
    m.permit_id = x->permit_id;
    m.probe = true;
    m.data_path = on_data_path(t, x);
    struct err e = {""};
    size_t len;
    void *data = wire_pack(&m, &len, &e);
    snprintf(subject, sizeof subject, SUBJECT_REPORT "%s", t->name);
    struct bus_out o = {.subject = subject, .type = wire_type(&m), .data = data, .len = len};
    /* An old report is worse than none: without a connection it is not kept. */
    if (data && bus_up(w->s->bus) && bus_publish(w->s->bus, &o, &e) == 0)
        metric_add(&reports, 1);
    else
        metric_add(&reports_dropped, 1);
    free(data);
}

/* ---- one probe ---- */

static void let_next_begin(struct health_watcher *w);

/* What is under way still reads the memory. */
static void forget_if_idle(struct health_watch *t)
{
    if (!t->forgets || t->runs)
        return;
    if (t->forgets->forget)
        t->forgets->forget(&t->conf);
    t->conf.memory = NULL;
    t->forgets = NULL;
}

static void on_result(void *ctx, const struct health_result *result)
{
    struct health_run *x = ctx;
    struct health_watch *t = x->t;
    struct health_watcher *w = t->w;
    struct health_result r = *result;
    r.started_ms = x->began_shared_ms;
    r.ended_ms = clock_shared_ms();
    w->under_way--;
    metric_set(&under_way, (int64_t)w->under_way);
    DL_DELETE(t->runs, x);
    t->flight.n--;
    t->flight.oldest_ms = t->runs ? t->runs->began_ms : 0; /* they are in order of beginning */
    forget_if_idle(t);
    if (r.fault == HEALTH_FAULT_CANCELLED || t->gone || w->draining || !health_may_act(w)) {
        metric_add(&not_counted, 1);
    } else {
        if (r.fault != HEALTH_FAULT_NONE)
            metric_add(&bad, 1);
        report(t, x, &r);
        health_schedule_answered(&t->schedule, r.fault == HEALTH_FAULT_NONE, r.total_ms);
        health_schedule_retry_after(&t->schedule, r.retry_after_ms, clock_mono_ms());
        health_take_result(t, &r);
    }
    free(x);
    if (!t->gone && !w->draining)
        health_run_arm(t);
    let_next_begin(w);
    health_kept(w);
}

static void launch(struct health_watch *t, uint64_t permit_id)
{
    struct health_watcher *w = t->w;
    struct health_run *x = w->draining || t->gone || t->forgets ? NULL : calloc(1, sizeof *x);
    if (!x)
        return;
    struct health_probe_env env = {.loop = &w->s->loop, .http = w->s->http, .bus = w->s->bus, .store = w->s->store};
    *x = (struct health_run){
        .t = t, .permit_id = permit_id, .began_ms = clock_mono_ms(), .began_shared_ms = clock_shared_ms()};
    if (!(x->handle = t->probe->start(&env, &t->conf, on_result, x))) {
        free(x);
        return;
    }
    DL_APPEND(t->runs, x);
    t->flight.n++;
    t->flight.oldest_ms = t->runs->began_ms;
    w->under_way++;
    health_promise(w);
    metric_add(&probes, 1);
    metric_set(&under_way, (int64_t)w->under_way);
}

void health_run_launch(struct health_watch *t)
{
    launch(t, 0);
    if (!t->gone && !t->w->draining)
        health_run_arm(t);
}

/* ---- permits ---- */

struct asked {
    struct health_watch *t;
};

static void on_allowed(void *ctx, enum bus_status st, const struct bus_msg *m)
{
    struct health_watch *t = ((struct asked *)ctx)->t;
    struct health_watcher *w = t->w;
    free(ctx);
    t->asking = false;
    uint64_t permit_id = 0;
    struct err e = {""};
    PB(AllowReply) *reply = st == BUS_OK ? wire_unpack(PB_DESC(allow_reply), m->data, m->len, &e) : NULL;
    if (st == BUS_OK && !reply)
        service_bad_input(w->s, "answer to a request for a permit", m, e.text);
    if (reply && reply->admitted)
        permit_id = reply->permit_id;
    wire_free(reply);
    if (permit_id)
        metric_add(&permits, 1);
    /* Without the permit the probe is made all the same: for the verdict, not as the trial. */
    launch(t, health_may_act(w) ? permit_id : 0);
    if (!t->gone && !w->draining)
        health_run_arm(t);
    health_kept(w);
}

static bool wants_permit(const struct health_watch *t)
{
    if (t->breaker != REDOUBT__V1__BREAKER_STATE__BREAKER_STATE_HALF_OPEN || !t->probe->may_try || !health_owns(t) ||
        !bus_up(t->w->s->bus) || !health_may_act(t->w) || t->permit_until_ms > clock_shared_ms())
        return false;
    for (const struct health_run *x = t->runs; x; x = x->next)
        if (x->permit_id)
            return false;
    return true;
}

static bool ask(struct health_watch *t)
{
    struct asked *a = malloc(sizeof *a);
    PB(AllowRequest) q = REDOUBT__V1__ALLOW_REQUEST__INIT;
    q.target = t->name;
    q.holder = (char *)t->w->s->instance;
    size_t len;
    void *data = wire_pack(&q, &len, NULL);
    if (!a || !data) {
        free(a);
        free(data);
        return false;
    }
    *a = (struct asked){t};
    t->asking = true;
    health_promise(t->w);
    struct bus_out o = {.subject = SUBJECT_CMD "breaker.allow", .type = wire_type(&q), .data = data, .len = len};
    bus_request(t->w->s->bus, &o, ASK_MS, on_allowed, a);
    free(data);
    return true;
}

void health_on_breaker(struct service *s, const void *message, const struct bus_msg *m)
{
    const PB(BreakerChanged) *b = message;
    const char *tail = subject_tail(m->subject, SUBJECT_BREAKER);
    if (!tail || strcmp(tail, b->target) != 0) {
        service_bad_input(s, "breaker on another's subject", m, b->target);
        return;
    }
    struct health_watch *t = health_find(health_watcher_of(s), b->target);
    if (!t || !t->probe || b->epoch <= t->breaker_epoch)
        return;
    bool moved = t->breaker != (int)b->state;
    t->breaker_epoch = b->epoch;
    t->breaker = (int)b->state;
    t->permit_until_ms = b->permit ? b->permit->expires_unix_ms : 0;
    if (wants_permit(t) && !t->asking)
        health_run_now(t);
    else if (moved)
        health_run_arm(t);
}

/* ---- when ---- */

static bool goes_fast(const struct health_watch *t)
{
    switch (t->breaker) {
    case REDOUBT__V1__BREAKER_STATE__BREAKER_STATE_OPEN: /* the way back begins with the verdict */
    case REDOUBT__V1__BREAKER_STATE__BREAKER_STATE_HALF_OPEN:
    case REDOUBT__V1__BREAKER_STATE__BREAKER_STATE_PROBATION: /* each step of the ramp needs calls that pass */
        return true;
    default:
        return health_vote_answers(t) || health_in_transition(&t->verdict, &t->rule);
    }
}

bool health_run_fast(const struct health_watch *t)
{
    return goes_fast(t);
}

static void begin(struct health_watch *t, int64_t due_ms)
{
    struct health_watcher *w = t->w;
    int64_t now_ms = clock_mono_ms();
    if (now_ms - due_ms > w->late_ms)
        w->late_ms = now_ms - due_ms;
    /* The rhythm goes by when it was due, unless that was missed by far. */
    health_schedule_probed(&t->schedule, now_ms - due_ms < t->pace.fast_ms ? due_ms : now_ms, health_random());
    if (!t->asking && !(wants_permit(t) && ask(t)) && (!t->probe->paid || health_paid_may(t, goes_fast(t))))
        launch(t, 0);
    health_run_arm(t);
}

static void on_due(void *ctx)
{
    struct health_watch *t = ctx;
    struct health_watcher *w = t->w;
    if (w->draining || t->gone || t->queued)
        return;
    if (!health_probes(t)) {
        health_schedule_probed(&t->schedule, clock_mono_ms(), health_random());
        health_run_arm(t);
        return;
    }
    if (w->under_way >= AT_ONCE_MAX) {
        metric_add(&delayed, 1);
        t->queued = true;
        t->next_queued = NULL;
        *w->queue_end = t;
        w->queue_end = &t->next_queued;
        return;
    }
    begin(t, t->due_ms);
}

static void let_next_begin(struct health_watcher *w)
{
    while (w->queue && w->under_way < AT_ONCE_MAX) {
        struct health_watch *t = w->queue;
        w->queue = t->next_queued;
        if (!w->queue)
            w->queue_end = &w->queue;
        t->queued = false;
        if (!w->draining && !t->gone)
            begin(t, t->due_ms);
    }
}

void health_run_arm(struct health_watch *t)
{
    if (t->queued)
        return;
    int64_t now_ms = clock_mono_ms();
    t->due_ms = health_schedule_due_ms(&t->schedule, &t->pace, goes_fast(t), &t->flight);
    if (t->due_ms == INT64_MAX) {
        loop_timer_stop(&t->timer);
        return;
    }
    loop_timer_start(&t->timer, t->due_ms > now_ms ? t->due_ms - now_ms : 0, 0);
}

void health_run_now(struct health_watch *t)
{
    if (t->queued || t->w->draining || t->gone || !health_probes(t))
        return;
    t->due_ms = clock_mono_ms();
    loop_timer_start(&t->timer, 0, 0);
}

void health_run_start(struct health_watch *t)
{
    loop_timer_init(&t->w->s->loop, &t->timer, on_due, t);
    health_schedule_start(&t->schedule, &t->pace, (uint32_t)t->w->n, health_random(), clock_mono_ms());
    health_run_arm(t);
}

void health_run_stop(struct health_watch *t)
{
    loop_timer_stop(&t->timer);
    for (struct health_run *x = t->runs, *next; x; x = next) {
        next = x->next;
        t->probe->cancel(x->handle);
    }
}

void health_run_forget(struct health_watch *t)
{
    health_run_stop(t);
    t->forgets = t->probe;
    forget_if_idle(t);
}

void health_on_lateness(struct service *s)
{
    struct health_watcher *w = health_watcher_of(s);
    metric_set(&late, w->late_ms);
    w->late_ms = 0;
}
