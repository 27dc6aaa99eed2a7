/* breaker_advice.c - while Redis is away: what this replica itself would not call is told to all, again and again while it holds. */
#include "breaker/breaker_shell.h"
#include "common/clock.h"
#include "common/metric.h"
#include <stdlib.h>

METRIC_DEFINE(advised, METRIC_COUNTER, "redoubt_breaker_advice_total",
              "Times that this replica began to advise against a target while Redis was away.");
METRIC_DEFINE(advising, METRIC_GAUGE, "redoubt_breaker_advising",
              "Targets that this replica advises against at present.");

#define HOLD_MS 5000 /* an advice that is not repeated, because its sender is gone, ends after this */
#define LOG_MS  10000

static bool holds(const struct node *n, int64_t now_ms)
{
    return n->t.away && breaker_away_holds(n->t.away, now_ms);
}

static void publish(struct node *n, int64_t now_ms)
{
    const struct breaker_away *a = n->t.away;
    struct service *s = n->sh->s;
    int64_t left_ms = a->until_ms - now_ms;
    PB(BreakerAdvice) m = PB_INIT(BREAKER_ADVICE);
    PB(BreakerTotals) totals = PB_INIT(BREAKER_TOTALS);
    m.target = n->name;
    m.observer = (char *)(uintptr_t)s->instance;
    m.epoch = n->t.doc.epoch;
    m.until_unix_ms = a->until_ms;
    m.reason = (PB(BreakerReason))a->reason;
    m.hold_ms = (uint32_t)(left_ms < HOLD_MS ? left_ms : HOLD_MS);
    breaker_doc_totals(&totals, &a->totals);
    m.totals = &totals;
    struct err e = {""};
    size_t len;
    void *data = wire_pack(&m, &len, &e);
    const struct bus_out out = {.subject = n->advice_subject, .type = wire_type(&m), .data = data, .len = len};
    if (!data || bus_publish(s->bus, &out, &e) < 0)
        log_warn("advice not sent; it is repeated", F_STR("target", n->name), F_STR("why", e.text));
    free(data);
}

void breaker_advice_changed(struct breaker_target *t)
{
    struct node *n = t->ctx;
    struct shell *sh = n->sh;
    int64_t now_ms = clock_shared_ms();
    bool is = holds(n, now_ms);
    if (is != n->advised) {
        n->advised = is;
        sh->advised += is ? 1 : (size_t)-1;
        metric_set(&advising, (int64_t)sh->advised);
    }
    if (!is || sh->stopped)
        return;
    metric_add(&advised, 1);
    if (log_allowed(&sh->advice, clock_mono_ms(), LOG_MS, NULL))
        log_warn("advising against a target, as Redis is away", F_STR("target", n->name),
                 F_STR("reason", wire_enum_name(&redoubt__v1__breaker_reason__descriptor, t->away->reason)),
                 F_INT("for_ms", t->away->until_ms - now_ms));
    publish(n, now_ms);
}

void breaker_advice_repeat(struct service *s)
{
    struct shell *sh = s->state;
    int64_t now_ms = clock_shared_ms();
    for (size_t i = 0; sh->advised > 0 && i < sh->n; i++)
        if (sh->order[i]->advised && holds(sh->order[i], now_ms))
            publish(sh->order[i], now_ms);
}
