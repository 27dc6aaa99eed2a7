/* breaker_traffic.c - sums of real calls, told to the watchers: what traffic proves need not be probed for money. */
#include "breaker/breaker_shell.h"
#include "common/clock.h"
#include "common/metric.h"
#include <stdio.h>
#include <stdlib.h>
#include <utlist.h>

METRIC_DEFINE(summaries, METRIC_COUNTER, "redoubt_breaker_traffic_summaries_total",
              "Summaries of real calls published.");

static bool listed(const struct node *n)
{
    return n->flow.traffic_prev != NULL; /* DL lists: the first one's is the last one */
}

static void unlist(struct node *n)
{
    DL_DELETE2(n->sh->traffics, n, flow.traffic_prev, flow.traffic_next);
    n->flow.traffic_prev = n->flow.traffic_next = NULL;
}

void breaker_traffic_count(struct node *n, const struct breaker_report *r)
{
    if (r->probe)
        return;
    int64_t now_ms = clock_shared_ms();
    struct breaker_call c = breaker_classify(&n->t.rule, r, now_ms);
    breaker_traffic_add(&n->flow.traffic, &c, now_ms);
    if (n->flow.traffic.calls == 0)
        return;
    if (!listed(n))
        DL_APPEND2(n->sh->traffics, n, flow.traffic_prev, flow.traffic_next);
    n->sh->traffic_due |= breaker_traffic_due(&n->flow.traffic, now_ms);
}

static void publish(struct node *n, const struct breaker_traffic_summary *sum, int64_t now_ms)
{
    struct service *s = n->sh->s;
    char subject[SUBJECT_MAX_LEN];
    struct err e;
    size_t len;
    PB(TrafficSummary) m = PB_INIT(TRAFFIC_SUMMARY);
    m.target = n->name;
    m.observer = (char *)s->instance;
    m.span_ms = sum->span_ms;
    m.calls = sum->calls;
    m.failures = sum->failures;
    m.slow = sum->slow;
    m.sent_unix_ms = now_ms;
    void *data = wire_pack(&m, &len, &e);
    if (!data) {
        log_error("own summary is not valid", F_STR("target", n->name), F_STR("why", e.text));
        return;
    }
    snprintf(subject, sizeof subject, SUBJECT_TRAFFIC "%s", n->name);
    struct bus_out o = {.subject = subject, .type = wire_type(&m), .data = data, .len = len};
    if (bus_publish(s->bus, &o, &e) == 0) /* a lost one costs a probe, no more */
        metric_add(&summaries, 1);
    free(data);
}

void breaker_traffic_say(struct shell *sh)
{
    int64_t now_ms = clock_shared_ms();
    struct node *n, *next;
    sh->traffic_due = false;
    DL_FOREACH_SAFE2(sh->traffics, n, next, flow.traffic_next)
    {
        if (!n->gone && n->flow.spares && !breaker_traffic_due(&n->flow.traffic, now_ms))
            continue;
        unlist(n);
        struct breaker_traffic_summary sum = breaker_traffic_take(&n->flow.traffic, now_ms);
        if (!n->gone && n->flow.spares)
            publish(n, &sum, now_ms);
    }
}

void breaker_traffic_done(struct node *n)
{
    if (listed(n))
        unlist(n);
}
