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

#define ASK_MS         1000
#define STOOD_STILL_MS 1000 /* a timer that is as late as that was not held up by other probes */

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
METRIC_DEFINE(late_p50, METRIC_GAUGE, "redoubt_probe_lateness_p50_ms", "Half of those probes began later than this.");
METRIC_DEFINE(late_p99, METRIC_GAUGE, "redoubt_probe_lateness_p99_ms",
              "One in a hundred of those probes began later than this.");
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
    bool suspect;            /* began as one that may hang */
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

/* What does not speak for calls the breaker leaves out of account: of such results only those that are news are told, for who listens.
 * It would cost more than the probe to tell each. */
static void report(struct health_watch *t, const struct health_run *x, const struct health_result *r)
{
    struct health_watcher *w = t->w;
    int outcome = health_outcome_of(r);
    if (outcome == HEALTH_OUTCOME_NONE || !health_owns(t) || (!x->permit_id && !health_vote_trusts(t, r)))
        return;
    bool speaks_for_calls = on_data_path(t, x);
    if (!speaks_for_calls && outcome == t->told_outcome)
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
    m.data_path = speaks_for_calls;
    struct err e = {""};
    size_t len;
    void *data = wire_pack(&m, &len, &e);
    snprintf(subject, sizeof subject, SUBJECT_REPORT "%s", t->name);
    struct bus_out o = {.subject = subject, .type = wire_type(&m), .data = data, .len = len};
    /* An old report is worse than none: without a connection it is not kept. */
    if (data && bus_up(w->s->bus) && bus_publish(w->s->bus, &o, &e) == 0) {
        metric_add(&reports, 1);
        t->told_outcome = speaks_for_calls ? HEALTH_OUTCOME_NONE : outcome;
    } else {
        metric_add(&reports_dropped, 1);
    }
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
    w->suspects -= x->suspect;
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

/* One that did not answer last time, or has not answered yet. */
static bool suspect(const struct health_watch *t)
{
    return t->flight.n > 0 || t->verdict.bad.n > 0;
}

static void launch(struct health_watch *t, uint64_t permit_id)
{
    struct health_watcher *w = t->w;
    struct health_run *x = w->draining || t->gone || t->forgets ? NULL : calloc(1, sizeof *x);
    if (!x)
        return;
    struct health_probe_env env = {.loop = &w->s->loop, .http = w->s->http, .bus = w->s->bus, .store = w->s->store};
    *x = (struct health_run){.t = t,
                             .permit_id = permit_id,
                             .began_ms = clock_mono_ms(),
                             .began_shared_ms = clock_shared_ms(),
                             .suspect = suspect(t)};
    if (!(x->handle = t->probe->start(&env, &t->conf, on_result, x))) {
        free(x);
        return;
    }
    DL_APPEND(t->runs, x);
    t->flight.n++;
    t->flight.oldest_ms = t->runs->began_ms;
    w->under_way++;
    w->suspects += x->suspect;
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
    if (wants_permit(t) && !t->asking) {
        health_run_now(t);
    } else if (moved) {
        /* A scope that fails opens many at once. */
        health_schedule_spread(&t->schedule, (uint32_t)t->w->n, t->pace.fast_ms, clock_mono_ms());
        health_run_arm(t);
    }
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

static void begin(struct health_watch *t, int64_t due_ms)
{
    struct health_watcher *w = t->w;
    int64_t now_ms = clock_mono_ms();
    metric_hist_add(&w->late, now_ms - due_ms);
    /* The rhythm goes by when it was due, unless that was missed by far. */
    health_schedule_probed(&t->schedule, now_ms - due_ms < t->pace.fast_ms ? due_ms : now_ms,
                           health_schedule_draw(&t->schedule));
    if (!t->asking && !(wants_permit(t) && ask(t)) && (!t->probe->paid || health_paid_may(t, goes_fast(t))))
        launch(t, 0);
    health_run_arm(t);
}

static bool has_place(const struct health_watcher *w, bool is_suspect)
{
    uint32_t at_once = (uint32_t)w->s->settings->health.at_once;
    return w->under_way < at_once && (!is_suspect || w->suspects < health_schedule_places(at_once, true));
}

static void on_due(void *ctx)
{
    struct health_watch *t = ctx;
    struct health_watcher *w = t->w;
    int64_t now_ms = clock_mono_ms();
    if (w->draining || t->gone || t->queued)
        return;
    if (!health_probes(t)) {
        health_schedule_probed(&t->schedule, now_ms, health_schedule_draw(&t->schedule));
        health_run_arm(t);
        return;
    }
    /* The process stood still: so many are overdue that they would all go out in one burst, and in all rounds to come. */
    if (now_ms - t->due_ms > t->pace.fast_ms && now_ms - t->due_ms > STOOD_STILL_MS) {
        metric_hist_add(&w->late, now_ms - t->due_ms);
        health_schedule_spread(&t->schedule, (uint32_t)w->n, t->pace.interval_ms, now_ms);
        health_run_arm(t);
        return;
    }
    bool is_suspect = suspect(t);
    if (!has_place(w, is_suspect)) {
        struct health_lane *lane = &w->lanes[is_suspect];
        metric_add(&delayed, 1);
        t->queued = true;
        t->next_queued = NULL;
        *lane->end = t;
        lane->end = &t->next_queued;
        return;
    }
    begin(t, t->due_ms);
}

/* The lane whose first may begin; of both, the one that has waited longer. NULL = nobody may. */
static struct health_lane *next_lane(struct health_watcher *w)
{
    struct health_lane *best = NULL;
    for (int i = 0; i < 2; i++) {
        struct health_lane *lane = &w->lanes[i];
        if (lane->first && has_place(w, i == 1) && (!best || lane->first->due_ms < best->first->due_ms))
            best = lane;
    }
    return best;
}

static void let_next_begin(struct health_watcher *w)
{
    for (struct health_lane *lane; (lane = next_lane(w));) {
        struct health_watch *t = lane->first;
        lane->first = t->next_queued;
        if (!lane->first)
            lane->end = &lane->first;
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
    /* To start beside one that hangs is for finding an outage early: this one is known. */
    bool alone = t->flight.n > 0 && t->verdict.state == HEALTH_UNHEALTHY && !goes_fast(t);
    t->due_ms = alone ? INT64_MAX : health_schedule_due_ms(&t->schedule, &t->pace, goes_fast(t), &t->flight);
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
    metric_set(&late, w->late.max);
    metric_set(&late_p50, metric_hist_percentile(&w->late, 50));
    metric_set(&late_p99, metric_hist_percentile(&w->late, 99));
    w->late = (struct metric_hist){.total = 0};
}
