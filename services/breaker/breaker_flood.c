/* breaker_flood.c - reports above a reporter's limit: dropped, counted, and their sender named. */
#include "breaker/breaker_shell.h"
#include "common/clock.h"
#include "common/metric.h"
#include <stdio.h>
#include <stdlib.h>
#include <utlist.h>

METRIC_DEFINE(flooding, METRIC_COUNTER, "redoubt_breaker_reports_flooding_total",
              "Reports dropped because their reporter sends more than `reporter_rate` per second of a target.");
METRIC_DEFINE(flooders_now, METRIC_GAUGE, "redoubt_breaker_flooders",
              "Reporters that have sent too much within the last five minutes.");

#define FLOOD_LOG_MS 10000

/* The one permitted call's outcome moves the breaker, and there is no other: it is waited for. */
static bool awaited(const struct node *n, uint64_t permit_id)
{
    return permit_id != 0 && n->t.doc.state == BREAKER_HALF_OPEN && permit_id == n->t.doc.permit.id;
}

bool breaker_flood_admits(struct node *n, const struct breaker_report *r, uint64_t permit_id, int64_t now_ns)
{
    struct shell *sh = n->sh;
    if (n->flow.rate == 0)
        return true; /* switched off meanwhile */
    if (!n->flow.flood) {
        if (!(n->flow.flood = calloc(1, sizeof *n->flow.flood)))
            return true;
        DL_APPEND2(sh->floods, n, flow.flood_prev, flow.flood_next);
    }
    struct breaker_call c = breaker_classify(&n->t.rule, r, clock_shared_ms());
    enum breaker_weight w = awaited(n, permit_id)                      ? BREAKER_AWAITED
                            : c.class == BREAKER_CALL_IGNORED          ? BREAKER_NEUTRAL
                            : c.class == BREAKER_CALL_FAILED || c.slow ? BREAKER_BAD
                                                                       : BREAKER_GOOD;
    return breaker_flood_take(n->flow.flood, n->flow.rate, r->reporter, w, now_ns);
}

static void alert(struct shell *sh, const char *reporter, const char *detail)
{
    char key[32 + BREAKER_FLOODER_NAME], summary[96 + BREAKER_FLOODER_NAME];
    PB(Alert) a = PB_INIT(ALERT);
    snprintf(key, sizeof key, "breaker/flood/%s", reporter);
    snprintf(summary, sizeof summary, "reporter %s %s", reporter,
             detail ? "floods the circuit breakers with reports" : "keeps within its limits again");
    a.dedup_key = key;
    a.severity = REDOUBT__V1__SEVERITY__SEVERITY_WARNING;
    a.summary = summary;
    a.detail = detail ? (char *)detail : "";
    a.resolved = !detail;
    service_alert(sh->s, &a);
    metric_set(&flooders_now, (int64_t)sh->flooders.n);
}

void breaker_flood_dropped(struct node *n, const char *reporter, size_t len, size_t reports)
{
    struct shell *sh = n->sh;
    int64_t now_ms = clock_mono_ms();
    uint64_t held = 0;
    metric_add(&flooding, (int64_t)reports);
    bool first = breaker_flooders_note(&sh->flooders, reporter, len, now_ms);
    bool allowed = log_allowed(&sh->flooding, now_ms, FLOOD_LOG_MS, &held);
    if (first || allowed) {
        char name[BREAKER_FLOODER_NAME];
        snprintf(name, sizeof name, "%.*s", (int)len, reporter);
        log_warn("a reporter floods: reports above its limit are dropped", F_STR("reporter", name),
                 F_STR("target", n->name), F_INT("limit_per_s", n->flow.rate), F_INT("held_back", held));
        char detail[TARGET_MAX_LEN + 192];
        snprintf(detail, sizeof detail,
                 "It sends more than %u reports per second of %s. Those above are dropped and counted; setting: "
                 "targets[].breaker.reporter_rate.",
                 (unsigned)n->flow.rate, n->name);
        if (first)
            alert(sh, name, detail);
    }
}

void breaker_flood_tick(struct shell *sh)
{
    char name[BREAKER_FLOODER_NAME];
    int64_t now_ns = clock_mono_ns();
    struct node *n, *next;
    while (breaker_flooders_calm(&sh->flooders, now_ns / 1000000, name))
        alert(sh, name, NULL);
    DL_FOREACH_SAFE2(sh->floods, n, next, flow.flood_next)
    {
        bool calm = n->flow.full_ns < now_ns + BREAKER_FLOOD_BURST_NS / 2;
        if (n->flow.rate == 0 || (calm && breaker_flood_over(n->flow.flood, now_ns)))
            breaker_flood_done(n);
    }
}

void breaker_flood_done(struct node *n)
{
    if (!n->flow.flood)
        return;
    DL_DELETE2(n->sh->floods, n, flow.flood_prev, flow.flood_next);
    free(n->flow.flood);
    n->flow.flood = NULL;
}
