/* guard_say.c - what the guard tells people: its troubles, once each until they are over, and its figures. */
#include "common/clock.h"
#include "common/metric.h"
#include "guard/guard_impl.h"
#include <string.h>

#define REASON(what) [REDOUBT__V1__REFUSAL_REASON__REFUSAL_REASON_##what]
#define N_OF(a)      (sizeof(a) / sizeof((a)[0]))

static const struct {
    const char *key, *bad, *good;
    int severity;
    bool by_hand;
} troubles[] = {
    [GUARD_TROUBLE_STORE] =
        {"guard/shared-state",
         "The guard does without shared state (Redis): limits by this replica's share, keys by its own memory",
         "The guard has shared state (Redis) again", REDOUBT__V1__SEVERITY__SEVERITY_HIGH, false},
    [GUARD_TROUBLE_AUDIT] = {"guard/audit", "The guard cannot record what it does: every action is refused",
                             "The guard records again", REDOUBT__V1__SEVERITY__SEVERITY_CRITICAL, false},
    [GUARD_TROUBLE_BASELINE] = {"guard/baseline", "The security baseline is not trusted: every action is refused",
                                "The security baseline is trusted again", REDOUBT__V1__SEVERITY__SEVERITY_CRITICAL,
                                true},
};

void guard_trouble(struct guard *g, enum guard_trouble t, bool is, const char *detail)
{
    unsigned bit = 1u << t;
    if (is == ((g->troubles & bit) != 0))
        return;
    g->troubles ^= bit;
    PB(Alert) a = PB_INIT(ALERT);
    a.dedup_key = (char *)troubles[t].key;
    a.severity = (Redoubt__V1__Severity)troubles[t].severity;
    a.summary = (char *)(is ? troubles[t].bad : troubles[t].good);
    a.detail = (char *)(is ? detail : "");
    a.manual_intervention_required = is && troubles[t].by_hand;
    a.resolved = !is;
    service_alert(g->s, &a);
}

/* ---- figures ---- */

#define COUNTER(name_, help_)                                                                                        \
    {                                                                                                                \
        .name = "redoubt_guard_" name_ "_total", .help = help_, .kind = METRIC_COUNTER                               \
    }
static struct metric ends[] = {
    [GUARD_END_DONE] = COUNTER("forwarded", "Actions that the backend accepted."),
    [GUARD_END_PERMITTED] = COUNTER("permitted", "Actions that the agent may execute by itself."),
    [GUARD_END_QUEUE] = COUNTER("queued", "Actions that must wait."),
    [GUARD_END_REFUSED] = COUNTER("refused", "Actions that were refused, for all reasons."),
    [GUARD_END_REJECTED] = COUNTER("rejected", "Actions that the backend refused."),
    [GUARD_END_RETRY] = COUNTER("failed", "Actions without an answer of the backend that counts."),
};
static struct metric reasons[] = {
    REASON(UNKNOWN_AGENT) = COUNTER("refused_unknown_agent", "Refused: no such agent."),
    REASON(STALE_EPOCH) = COUNTER("refused_stale_epoch", "Refused: asked for under an older epoch."),
    REASON(FROZEN) = COUNTER("refused_frozen", "Refused: the agent is frozen."),
    REASON(NOT_ALLOWED) = COUNTER("refused_not_allowed", "Refused: not in the baseline for this posture."),
    REASON(INVALID) = COUNTER("refused_invalid", "Refused: wrong parameters or key."),
    REASON(RATE_LIMITED) = COUNTER("refused_rate_limited", "Refused: beyond a limit."),
    REASON(QUEUE_FULL) = COUNTER("refused_queue_full", "Refused: the queue is full."),
    REASON(EXPIRED) = COUNTER("refused_expired", "Refused: its time was over."),
    REASON(AUDIT_UNAVAILABLE) = COUNTER("refused_audit_unavailable", "Refused: it could not be recorded."),
    REASON(STATE_UNKNOWN) = COUNTER("refused_state_unknown", "Refused: the agent's position was not known for sure."),
    REASON(IN_PROGRESS) = COUNTER("refused_in_progress", "Refused: the same key was under way."),
};
METRIC_DEFINE(decisions, METRIC_COUNTER, "redoubt_guard_decisions_total", "Actions decided upon, replays too.");
METRIC_DEFINE(duplicates, METRIC_COUNTER, "redoubt_guard_duplicates_total", "Actions known by their key.");
METRIC_DEFINE(in_hand_now, METRIC_GAUGE, "redoubt_guard_in_hand", "Actions under way.");
METRIC_DEFINE(calls_now, METRIC_GAUGE, "redoubt_guard_calls", "Calls to backends under way.");
METRIC_DEFINE(p50, METRIC_GAUGE, "redoubt_guard_latency_p50_us", "Of the last second, calls to backends included.");
METRIC_DEFINE(p99, METRIC_GAUGE, "redoubt_guard_latency_p99_us", "Of the last second, calls to backends included.");
METRIC_DEFINE(trusted_now, METRIC_GAUGE, "redoubt_guard_baseline_trusted", "1 while the baseline is trusted.");

void guard_count(struct guard *g, const struct guard_act *x)
{
    metric_add(&decisions, 1);
    metric_add(&ends[x->result.end], 1);
    if (x->result.end == GUARD_END_REFUSED && x->result.reason > 0 && (size_t)x->result.reason < N_OF(reasons) &&
        reasons[x->result.reason].name)
        metric_add(&reasons[x->result.reason], 1);
    if (x->result.duplicate)
        metric_add(&duplicates, 1);
    metric_hist_add(&g->latency_us, (clock_mono_ns() - x->begun_ns) / 1000);
}

void guard_figures(struct guard *g)
{
    metric_set(&in_hand_now, (int64_t)g->acts);
    metric_set(&calls_now, (int64_t)g->calls);
    metric_set(&p50, metric_hist_percentile(&g->latency_us, 50));
    metric_set(&p99, metric_hist_percentile(&g->latency_us, 99));
    metric_set(&trusted_now, g->baseline->trusted);
    memset(&g->latency_us, 0, sizeof g->latency_us);
}
