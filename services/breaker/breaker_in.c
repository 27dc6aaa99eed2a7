/* breaker_in.c - what comes in: reports of calls, the watchers' verdicts, and the breakers as the stream has them. */
#include "breaker/breaker_shell.h"
#include "common/clock.h"
#include "common/metric.h"
#include <string.h>

METRIC_DEFINE(reports, METRIC_COUNTER, "redoubt_breaker_reports_total", "Reports of calls taken in.");

/* ---- reports ---- */

static void take(struct node *n, const PB(OutcomeReport) * r)
{
    struct breaker_report in = {.outcome = (int)r->outcome,
                                .total_ms = r->total_ms,
                                .first_token_ms = r->first_token_ms,
                                .retry_after_ms = r->retry_after_ms,
                                .ended_ms = r->ended_unix_ms,
                                .probe = r->probe,
                                .data_path = r->data_path,
                                .reporter = breaker_hash(r->reporter, strlen(r->reporter), 0)};
    breaker_target_report(&n->t, &in, r->permit_id);
}

static struct node *find(struct service *s, const struct bus_msg *m)
{
    const char *target = subject_tail(m->subject, SUBJECT_REPORT);
    struct node *n = target ? breaker_node(s->state, target) : NULL;
    if (!n)
        service_bad_input(s, "report for an unknown target", m, "the settings have no such target");
    return n;
}

static void on_batch(struct service *s, struct node *n, const struct bus_msg *m)
{
    struct err e;
    PB(OutcomeBatch) *batch = wire_unpack(PB_DESC(outcome_batch), m->data, m->len, &e);
    if (!batch) {
        service_bad_input(s, "batch of reports", m, e.text);
        return;
    }
    /* The whole batch or nothing. */
    for (size_t i = 0; i < batch->n_reports; i++)
        if (strcmp(batch->reports[i]->target, n->name) != 0 ||
            strcmp(batch->reports[i]->reporter, batch->reports[0]->reporter) != 0) {
            service_bad_input(s, "batch of reports", m, "a report is of another target or reporter");
            wire_free(batch);
            return;
        }
    for (size_t i = 0; i < batch->n_reports; i++)
        take(n, batch->reports[i]);
    metric_add(&reports, (int64_t)batch->n_reports);
    wire_free(batch);
    breaker_target_kick(&n->t);
}

void breaker_on_report(struct service *s, const void *message, const struct bus_msg *m)
{
    (void)message;
    struct node *n = find(s, m);
    if (!n)
        return;
    if (m->type && strcmp(m->type, PB_DESC(outcome_batch)->name) == 0) {
        on_batch(s, n, m);
        return;
    }
    struct err e;
    PB(OutcomeReport) *r = wire_unpack(PB_DESC(outcome_report), m->data, m->len, &e);
    if (!r) {
        service_bad_input(s, "report", m, e.text);
        return;
    }
    if (strcmp(r->target, n->name) != 0) {
        service_bad_input(s, "report", m, "its target is not the subject's");
    } else {
        take(n, r);
        metric_add(&reports, 1);
        breaker_target_kick(&n->t);
    }
    wire_free(r);
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
