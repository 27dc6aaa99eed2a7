/* breaker_in.c - what comes in: reports of calls, the watchers' verdicts, and the breakers as the stream has them. */
#include "breaker/breaker_shell.h"
#include "common/clock.h"
#include "common/metric.h"
#include "common/settings.h"
#include "common/wire_report.h"
#include <string.h>
#include <utlist.h>

METRIC_DEFINE(reports, METRIC_COUNTER, "redoubt_breaker_reports_total", "Reports of calls taken in.");

/* ---- reports ----
 *
 * Messages come in turns of the loop, up to some thousands in each. What a turn brings for one target is gathered, and flushed when
 * it is over: under load that is one merge for many messages, and when idle it is still at once. */

void breaker_flow_turn(struct service *s)
{
    struct shell *sh = s->state;
    struct node *n, *next;
    sh->turn_ns = 0;
    DL_FOREACH_SAFE2(sh->kicks, n, next, flow.kick_next)
    {
        DL_DELETE2(sh->kicks, n, flow.kick_prev, flow.kick_next);
        n->flow.kick_due = false;
        if (!n->gone)
            breaker_target_kick(&n->t);
    }
    if (sh->traffic_due)
        breaker_traffic_say(sh);
}

/* The time at which this turn's first report came: good enough for all of them. */
static int64_t turn_ns(struct shell *sh)
{
    if (sh->turn_ns == 0)
        sh->turn_ns = clock_mono_ns();
    return sh->turn_ns;
}

static void take(struct node *n, const struct wire_reports *r)
{
    uint64_t reporter = breaker_hash(r->reporter, r->reporter_len, 0);
    int64_t now_ns = turn_ns(n->sh);
    bool busy = n->flow.rate > 0 && breaker_flood_busy(&n->flow.full_ns, n->flow.rate, r->n, now_ns);
    size_t taken = 0;
    for (size_t i = 0; i < r->n; i++) {
        const struct wire_report *w = &r->at[i];
        struct breaker_report in = {.outcome = w->outcome,
                                    .total_ms = w->total_ms,
                                    .first_token_ms = w->first_token_ms,
                                    .retry_after_ms = w->retry_after_ms,
                                    .ended_ms = w->ended_unix_ms,
                                    .probe = w->probe,
                                    .data_path = w->data_path,
                                    .reporter = reporter};
        if ((busy || n->flow.flood) && !breaker_flood_admits(n, &in, w->permit_id, now_ns))
            continue;
        breaker_target_report(&n->t, &in, w->permit_id);
        if (n->flow.spares)
            breaker_traffic_count(n, &in);
        taken++;
    }
    if (taken > 0) {
        metric_add(&reports, (int64_t)taken);
        if (!n->flow.kick_due)
            DL_APPEND2(n->sh->kicks, n, flow.kick_prev, flow.kick_next);
        n->flow.kick_due = true;
    }
    if (taken < r->n)
        breaker_flood_dropped(n, r->reporter, r->reporter_len, r->n - taken);
}

static struct wire_report plain(const PB(OutcomeReport) * r)
{
    return (struct wire_report){.permit_id = r->permit_id,
                                .ended_unix_ms = r->ended_unix_ms,
                                .status_code = r->status_code,
                                .total_ms = r->total_ms,
                                .first_token_ms = r->first_token_ms,
                                .retry_after_ms = r->retry_after_ms,
                                .outcome = (uint8_t)r->outcome,
                                .probe = r->probe,
                                .data_path = r->data_path};
}

/* What the quick reader has left: mistakes, and messages of newer senders. The message, to be freed; NULL if it is refused. */
static void *read_with_care(struct service *s, const struct node *n, const struct bus_msg *m, bool batch,
                            struct wire_reports *ret)
{
    struct err e;
    const char *what = batch ? "batch of reports" : "report";
    void *message = wire_unpack(batch ? PB_DESC(outcome_batch) : PB_DESC(outcome_report), m->data, m->len, &e);
    if (!message) {
        service_bad_input(s, what, m, e.text);
        return NULL;
    }
    PB(OutcomeReport) *single = message;
    PB(OutcomeReport) **list = batch ? ((PB(OutcomeBatch) *)message)->reports : &single;
    ret->n = batch ? ((PB(OutcomeBatch) *)message)->n_reports : 1;
    ret->reporter = list[0]->reporter;
    ret->reporter_len = strlen(ret->reporter);
    /* The whole batch or nothing. */
    for (size_t i = 0; i < ret->n; i++) {
        if (strcmp(list[i]->target, n->name) != 0 || strcmp(list[i]->reporter, ret->reporter) != 0) {
            service_bad_input(
                s, what, m, batch ? "a report is of another target or reporter" : "its target is not the subject's");
            wire_free(message);
            return NULL;
        }
        ret->at[i] = plain(list[i]);
    }
    return message;
}

void breaker_on_report(struct service *s, const void *message, const struct bus_msg *m)
{
    (void)message;
    const char *target = subject_tail(m->subject, SUBJECT_REPORT);
    struct node *n = target ? breaker_node(s->state, target) : NULL;
    if (!n) {
        service_bad_input(s, "report for an unknown target", m, "the settings have no such target");
        return;
    }
    bool batch = m->type && strcmp(m->type, PB_DESC(outcome_batch)->name) == 0;
    struct wire_reports r;
    void *unpacked = NULL;
    if (!wire_reports_read(m->data, m->len, batch, n->name, n->flow.name_len, &r) &&
        !(unpacked = read_with_care(s, n, m, batch, &r)))
        return;
    take(n, &r);
    wire_free(unpacked);
}

void breaker_flow_settings(struct node *n, const struct set_target *set)
{
    n->flow.name_len = strlen(set->name);
    n->flow.rate = (uint32_t)set->breaker.reporter_rate;
    n->flow.spares = set->kind == SET_TARGET_LLM && set->probe.type == SET_PROBE_LLM;
}

void breaker_flow_done(struct node *n)
{
    if (n->flow.kick_due)
        DL_DELETE2(n->sh->kicks, n, flow.kick_prev, flow.kick_next);
    breaker_flood_done(n);
    breaker_traffic_done(n);
}

void breaker_flow_tick(struct service *s)
{
    breaker_flood_tick(s->state);
    breaker_traffic_say(s->state);
}

/* ---- verdicts ---- */

void breaker_on_health(struct service *s, const void *message, const struct bus_msg *m)
{
    const PB(HealthChanged) *h = message;
    const char *target = subject_tail(m->subject, SUBJECT_HEALTH);
    if (!target || strcmp(target, h->target) != 0) {
        service_bad_input(s, "verdict", m, "its target is not the subject's");
        return;
    }
    struct node *n = breaker_node(s->state, target);
    if (!n)
        return; /* an agent, or a target that we are not told of */
    if (h->epoch <= n->health_epoch)
        return;
    n->health_epoch = h->epoch;
    n->t.watched = h->state == REDOUBT__V1__HEALTH_STATE__HEALTH_STATE_HEALTHY ||
                   h->state == REDOUBT__V1__HEALTH_STATE__HEALTH_STATE_DEGRADED;
    if (h->state == REDOUBT__V1__HEALTH_STATE__HEALTH_STATE_UNHEALTHY)
        breaker_target_unhealthy(&n->t, h->changed_unix_ms, h->since_unix_ms);
    else
        breaker_target_well(&n->t);
}

/* ---- breakers, as announced by all replicas ---- */

void breaker_on_breaker(struct service *s, const void *message, const struct bus_msg *m)
{
    const char *target = subject_tail(m->subject, SUBJECT_BREAKER);
    struct node *n = target ? breaker_node(s->state, target) : NULL;
    if (!n)
        return; /* a target that has left the settings */
    struct breaker b;
    struct err e;
    if (breaker_doc_read(&b, message, n->name, &e)) {
        service_bad_input(s, "breaker", m, e.text);
        return;
    }
    if (b.epoch > n->streamed)
        n->streamed = b.epoch;
    n->behind = b.epoch < n->t.doc.epoch;
    breaker_target_seen(&n->t, &b);
}
