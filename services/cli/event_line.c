/* event_line.c - a message of the contract as one line for people; a row per kind of message. */
#include "cli/event_line.h"
#include "cli/event_line_continuity.h"
#include "cli/rollback_view.h"
#include "common/clock.h"
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define PBE(x) REDOUBT__V1__##x

/* Appends to the line's text; what does not fit is cut. */
__attribute__((format(printf, 2, 3))) static void add(struct event_line *l, const char *fmt, ...)
{
    size_t n = strlen(l->text);
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(l->text + n, sizeof l->text - n, fmt, ap);
    va_end(ap);
}

const char *event_time(int64_t unix_ms, int64_t now_unix_ms, char buf[static EVENT_TIME_MAX])
{
    char now[CLOCK_TEXT_MAX], full[CLOCK_TEXT_MAX];
    clock_text(unix_ms, full);
    clock_text(now_unix_ms, now);
    snprintf(buf, EVENT_TIME_MAX, "%s", strncmp(full, now, 11) == 0 ? full + 11 : full);
    return buf;
}

enum term_colour event_health_colour(int s)
{
    switch (s) {
    case PBE(HEALTH_STATE__HEALTH_STATE_HEALTHY):
        return TERM_GREEN;
    case PBE(HEALTH_STATE__HEALTH_STATE_UNHEALTHY):
        return TERM_RED;
    case PBE(HEALTH_STATE__HEALTH_STATE_MAINTENANCE):
        return TERM_CYAN;
    default:
        return TERM_YELLOW;
    }
}

enum term_colour event_breaker_colour(int s)
{
    switch (s) {
    case PBE(BREAKER_STATE__BREAKER_STATE_CLOSED):
        return TERM_GREEN;
    case PBE(BREAKER_STATE__BREAKER_STATE_OPEN):
    case PBE(BREAKER_STATE__BREAKER_STATE_FORCED_OPEN):
        return TERM_RED;
    default:
        return TERM_YELLOW;
    }
}

enum term_colour event_posture_colour(int p)
{
    switch (p) {
    case PBE(POSTURE__POSTURE_NORMAL):
        return TERM_GREEN;
    case PBE(POSTURE__POSTURE_SECURITY_FALLBACK):
    case PBE(POSTURE__POSTURE_FROZEN):
        return TERM_RED;
    default:
        return TERM_YELLOW;
    }
}

static enum term_colour severity_colour(int s)
{
    return s >= PBE(SEVERITY__SEVERITY_HIGH)      ? TERM_RED
           : s == PBE(SEVERITY__SEVERITY_WARNING) ? TERM_YELLOW
                                                  : TERM_PLAIN;
}

/* ---- a function per kind of message ---- */

static void health(const void *message, struct event_line *l)
{
    const PB(HealthChanged) *m = message;
    l->entity = m->target;
    l->at_unix_ms = m->changed_unix_ms;
    l->colour = event_health_colour((int)m->state);
    if (m->previous != PBE(HEALTH_STATE__HEALTH_STATE_UNSPECIFIED) && m->previous != m->state)
        add(l, "%s -> ", EVENT_NAME(health_state, m->previous));
    add(l, "%s", EVENT_NAME(health_state, m->state));
    if (m->failure_kind != PBE(FAILURE_KIND__FAILURE_KIND_UNSPECIFIED))
        add(l, " (%s)", EVENT_NAME(failure_kind, m->failure_kind));
    if (*m->reason)
        add(l, ": %s", m->reason);
    size_t bad = 0;
    for (size_t i = 0; i < m->n_votes; i++)
        bad += m->votes[i]->state == PBE(HEALTH_STATE__HEALTH_STATE_UNHEALTHY) ||
               m->votes[i]->state == PBE(HEALTH_STATE__HEALTH_STATE_FLAPPING);
    if (m->n_votes)
        add(l, " [%zu of %zu watchers]", bad, m->n_votes);
    if (*m->suppressed_by)
        add(l, " [no alerts while %s is down]", m->suppressed_by);
}

static void breaker(const void *message, struct event_line *l)
{
    const PB(BreakerChanged) *m = message;
    char until[EVENT_TIME_MAX];
    l->entity = m->target;
    l->at_unix_ms = m->changed_unix_ms;
    l->colour = event_breaker_colour((int)m->state);
    if (m->previous != PBE(BREAKER_STATE__BREAKER_STATE_UNSPECIFIED) && m->previous != m->state)
        add(l, "%s -> ", EVENT_NAME(breaker_state, m->previous));
    add(l, "%s", EVENT_NAME(breaker_state, m->state));
    if (m->state == PBE(BREAKER_STATE__BREAKER_STATE_PROBATION))
        add(l, " %u %%", m->ramp_percent);
    add(l, " by %s", EVENT_NAME(breaker_reason, m->reason));
    if (m->until_unix_ms > 0)
        add(l, " until %s", event_time(m->until_unix_ms, m->changed_unix_ms, until));
    if (*m->detail)
        add(l, ": %s", m->detail);
    if (*m->forced_by)
        add(l, " [%s: %s]", m->forced_by, m->forced_why);
}

static void directive(const void *message, struct event_line *l)
{
    const PB(Directive) *m = message;
    const PB(AgentState) *a = m->state;
    l->at_unix_ms = m->issued_unix_ms;
    if (!a)
        return;
    l->entity = a->agent;
    l->colour = event_posture_colour((int)a->posture);
    add(l, "#%" PRIu64 " %s: be %s, LLM %s", a->epoch, EVENT_NAME(step, m->step), EVENT_NAME(posture, a->posture),
        *a->llm_target ? a->llm_target : "none");
    if (*a->llm_model)
        add(l, " (%s)", a->llm_model);
    if (*m->reason)
        add(l, ": %s", m->reason);
    if (*m->cause)
        add(l, " [%s]", m->cause);
}

static void ack(const void *message, struct event_line *l)
{
    const PB(DirectiveAck) *m = message;
    l->entity = m->agent;
    l->at_unix_ms = m->applied_unix_ms;
    l->colour = m->status == PBE(ACK_STATUS__ACK_STATUS_FAILED) ? TERM_RED : TERM_GREEN;
    add(l, "#%" PRIu64 " %s, uses %s", m->epoch, EVENT_NAME(ack_status, m->status),
        *m->llm_target ? m->llm_target : "no LLM");
    if (*m->detail)
        add(l, ": %s", m->detail);
}

static void alert(const void *message, struct event_line *l)
{
    const PB(Alert) *m = message;
    l->entity = *m->agent ? m->agent : m->target;
    l->at_unix_ms = m->raised_unix_ms;
    l->colour = m->resolved ? TERM_GREEN : severity_colour((int)m->severity);
    add(l, "%s%s: %s", m->resolved ? "resolved, was " : "", EVENT_NAME(severity, m->severity), m->summary);
    for (size_t i = 0; i < m->n_actions_taken; i++)
        add(l, "%s%s", i ? ", " : " [done: ", m->actions_taken[i]);
    if (m->n_actions_taken)
        add(l, "]");
    if (m->manual_intervention_required)
        add(l, " - a person must act");
}

static void delivery(const void *message, struct event_line *l)
{
    const PB(DeliveryReceipt) *m = message;
    l->entity = m->channel;
    l->at_unix_ms = m->ended_unix_ms;
    switch (m->status) {
    case PBE(DELIVERY_STATUS__DELIVERY_STATUS_ACCEPTED):
        l->colour = TERM_GREEN;
        break;
    case PBE(DELIVERY_STATUS__DELIVERY_STATUS_RECORDED):
    case PBE(DELIVERY_STATUS__DELIVERY_STATUS_WAITING):
    case PBE(DELIVERY_STATUS__DELIVERY_STATUS_MUTED):
        l->colour = TERM_PLAIN;
        break;
    case PBE(DELIVERY_STATUS__DELIVERY_STATUS_RETRYING):
        l->colour = TERM_YELLOW;
        break;
    default:
        l->colour = TERM_RED;
    }
    add(l, "%s (%s, attempt %u", EVENT_NAME(delivery_status, m->status), m->channel_kind, m->attempt);
    if (m->code)
        add(l, ", code %u", m->code);
    add(l, ") %s", m->dedup_key);
    if (*m->detail)
        add(l, ": %s", m->detail);
}

static void problem(const void *message, struct event_line *l)
{
    const PB(ProblemChanged) *m = message;
    char until[EVENT_TIME_MAX];
    if (!m->alert)
        return;
    bool quiet = m->state == PBE(PROBLEM_STATE__PROBLEM_STATE_ACKNOWLEDGED) ||
                 m->state == PBE(PROBLEM_STATE__PROBLEM_STATE_MUTED);
    l->entity = m->alert->dedup_key;
    l->at_unix_ms = m->changed_unix_ms;
    l->colour = m->state == PBE(PROBLEM_STATE__PROBLEM_STATE_RESOLVED) ? TERM_GREEN
                : quiet                                                ? TERM_CYAN
                                                                       : severity_colour((int)m->alert->severity);
    add(l, "%s %s", EVENT_NAME(severity, m->alert->severity), EVENT_NAME(problem_state, m->state));
    if (m->state == PBE(PROBLEM_STATE__PROBLEM_STATE_ACKNOWLEDGED))
        add(l, " by %s until %s", m->acked_by, event_time(m->acked_until_unix_ms, m->changed_unix_ms, until));
    if (*m->muted_by)
        add(l, " by %s", m->muted_by);
    if (m->escalated)
        add(l, ", %u steps escalated", m->escalated);
    add(l, ": %s", m->alert->summary);
}

static void silence(const void *message, struct event_line *l)
{
    const PB(Silence) *m = message;
    char from[EVENT_TIME_MAX], until[EVENT_TIME_MAX];
    l->entity = m->id;
    l->colour = TERM_CYAN;
    if (*m->ended_by)
        add(l, "ended by %s", m->ended_by);
    else
        add(l, "%s until %s by %s: %s", event_time(m->starts_unix_ms, m->starts_unix_ms, from),
            event_time(m->ends_unix_ms, m->starts_unix_ms, until), m->by, m->reason);
    for (size_t i = 0; i < m->n_matchers; i++)
        add(l, "%s%s", i ? " " : " [", m->matchers[i]);
    if (m->n_matchers)
        add(l, "]");
}

static void pulse(const void *message, struct event_line *l)
{
    const PB(Pulse) *m = message;
    l->entity = m->service;
    l->at_unix_ms = m->at_unix_ms;
    l->colour = m->ok ? TERM_DIM : TERM_RED;
    add(l, "self-test %s by %s in %u ms, says %s", m->ok ? "passed" : "FAILED",
        *m->channel ? m->channel : "no channel", m->took_ms, m->instance);
    if (*m->detail)
        add(l, ": %s", m->detail);
}

static void checkpoint(const void *message, struct event_line *l)
{
    const PB(AuditCheckpoint) *m = message;
    l->entity = m->chain;
    l->at_unix_ms = m->at_unix_ms;
    l->colour = TERM_DIM;
    add(l, "%" PRIu64 " records, %" PRIu64 " of them mirrored, lag %u ms, by %s", m->size, m->mirrored, m->lag_ms,
        m->instance);
}

static void alert_command(const void *message, struct event_line *l)
{
    const PB(AlertCommand) *m = message;
    l->entity = *m->problem ? m->problem : *m->silence ? m->silence : m->channel;
    l->colour = *m->by ? TERM_CYAN : TERM_DIM;
    if (*m->by)
        add(l, "%s asks: %s", m->by, m->reason);
    else
        add(l, "asked for");
    for (size_t i = 0; i < m->n_matchers; i++)
        add(l, "%s%s", i ? " " : " [", m->matchers[i]);
    if (m->n_matchers)
        add(l, "]");
}

static void audit(const void *message, struct event_line *l)
{
    const PB(AuditRecord) *m = message;
    l->entity = m->subject;
    l->at_unix_ms = m->at_unix_ms;
    l->colour = m->outcome == PBE(AUDIT_OUTCOME__AUDIT_OUTCOME_FAILED) ||
                        m->outcome == PBE(AUDIT_OUTCOME__AUDIT_OUTCOME_REFUSED)
                    ? TERM_YELLOW
                    : TERM_PLAIN;
    add(l, "%s %s by %s (%s)", m->action, EVENT_NAME(audit_outcome, m->outcome), m->actor,
        *m->instance ? m->instance : m->service);
    if (m->audit_class == PBE(AUDIT_CLASS__AUDIT_CLASS_GAP))
        add(l, " GAP");
    if (*m->detail)
        add(l, ": %s", m->detail);
}

static void report(const void *message, struct event_line *l)
{
    const PB(OutcomeReport) *m = message;
    l->entity = m->target;
    l->at_unix_ms = m->ended_unix_ms;
    bool good = m->outcome == PBE(OUTCOME__OUTCOME_SUCCESS) || m->outcome == PBE(OUTCOME__OUTCOME_IGNORED);
    l->colour = good ? TERM_PLAIN : TERM_YELLOW;
    add(l, "%s after %u ms, says %s%s", EVENT_NAME(outcome, m->outcome), m->total_ms, m->reporter,
        m->probe ? " (probe)" : "");
    if (m->status_code)
        add(l, ", status %u", m->status_code);
    if (m->retry_after_ms)
        add(l, ", retry after %u ms", m->retry_after_ms);
}

static void batch(const void *message, struct event_line *l)
{
    const PB(OutcomeBatch) *m = message;
    size_t good = 0;
    for (size_t i = 0; i < m->n_reports; i++)
        good += m->reports[i]->outcome == PBE(OUTCOME__OUTCOME_SUCCESS);
    l->colour = good == m->n_reports ? TERM_PLAIN : TERM_YELLOW;
    if (m->n_reports == 0) {
        add(l, "empty batch");
        return;
    }
    const PB(OutcomeReport) *last = m->reports[m->n_reports - 1];
    l->entity = last->target;
    l->at_unix_ms = last->ended_unix_ms;
    add(l, "%zu reports, %zu successes, says %s", m->n_reports, good, last->reporter);
}

static void heartbeat(const void *message, struct event_line *l)
{
    const PB(Heartbeat) *m = message;
    l->entity = m->agent;
    l->at_unix_ms = m->sent_unix_ms;
    l->colour = TERM_DIM;
    add(l, "no. %" PRIu64 " from %s, %s by #%" PRIu64 ", progress %" PRIu64 ", uses %s", m->sequence, m->instance,
        EVENT_NAME(posture, m->posture), m->epoch, m->progress, *m->llm_target ? m->llm_target : "no LLM");
}

static void dead(const void *message, struct event_line *l)
{
    const PB(DeadLetter) *m = message;
    l->entity = m->stream;
    l->at_unix_ms = m->died_unix_ms;
    l->colour = TERM_RED;
    add(l, "%s gave up %s (number %" PRIu64 ") after %u deliveries: %s", m->service, m->subject, m->stream_sequence,
        m->deliveries, m->reason);
}

static void breaker_command(const void *message, struct event_line *l)
{
    const PB(BreakerCommand) *m = message;
    l->entity = m->target;
    l->colour = TERM_CYAN;
    add(l, "%s asks: %s", m->by, m->reason);
}

static void agent_command(const void *message, struct event_line *l)
{
    const PB(AgentCommand) *m = message;
    l->entity = m->agent;
    l->colour = *m->by ? TERM_CYAN : TERM_DIM;
    if (*m->by)
        add(l, "%s asks: %s", m->by, m->reason);
    else
        add(l, "asked for");
}

static void health_command(const void *message, struct event_line *l)
{
    const PB(HealthCommand) *m = message;
    l->entity = m->target;
    l->colour = *m->by ? TERM_CYAN : TERM_DIM;
    add(l, "%s%s%s", *m->by ? m->by : "asked for", *m->by ? " asks: " : "", m->reason);
}

static void allow(const void *message, struct event_line *l)
{
    const PB(AllowRequest) *m = message;
    l->entity = m->target;
    l->colour = TERM_DIM;
    add(l, "%s asks: may I call?", m->holder);
}

static void observation(const void *message, struct event_line *l)
{
    const PB(Observation) *m = message;
    l->entity = m->target;
    l->at_unix_ms = m->seen_unix_ms;
    l->colour = TERM_DIM;
    add(l, "%s sees it as %s", m->observer, EVENT_NAME(health_state, m->state));
    if (m->fault > PBE(PROBE_FAULT__PROBE_FAULT_NONE))
        add(l, " (%s)", EVENT_NAME(probe_fault, m->fault));
    if (*m->detail)
        add(l, ": %s", m->detail);
    if (m->asks)
        add(l, "; what do others see?");
}

static void traffic(const void *message, struct event_line *l)
{
    const PB(TrafficSummary) *m = message;
    l->entity = m->target;
    l->at_unix_ms = m->sent_unix_ms;
    l->colour = m->failures || m->slow ? TERM_YELLOW : TERM_DIM;
    add(l, "%u calls in %u ms, %u failures, %u slow, says %s", m->calls, m->span_ms, m->failures, m->slow,
        m->observer);
}

static void advice(const void *message, struct event_line *l)
{
    const PB(BreakerAdvice) *m = message;
    l->entity = m->target;
    l->colour = TERM_RED;
    add(l, "%s, without shared state: do not call for %u ms, by %s", m->observer, m->hold_ms,
        EVENT_NAME(breaker_reason, m->reason));
}

static void decision(const void *message, struct event_line *l)
{
    const PB(Decision) *m = message;
    l->entity = m->agent;
    l->at_unix_ms = m->decided_unix_ms;
    l->colour = m->outcome == PBE(DECISION_OUTCOME__DECISION_OUTCOME_DONE) ? TERM_DIM : TERM_YELLOW;
    add(l, "%s: %s is %s", EVENT_NAME(decision_outcome, m->outcome), m->event_key,
        *m->verdict ? m->verdict : "not judged");
    if (*m->action)
        add(l, ", %s %s", m->action, m->object);
    if (*m->detail)
        add(l, ": %s", m->detail);
}

static void decisions(const void *message, struct event_line *l)
{
    const PB(DecisionBatch) *m = message;
    size_t done = 0;
    for (size_t i = 0; i < m->n_decisions; i++)
        done += m->decisions[i]->outcome == PBE(DECISION_OUTCOME__DECISION_OUTCOME_DONE);
    l->colour = done == m->n_decisions ? TERM_DIM : TERM_YELLOW;
    if (m->n_decisions) {
        l->entity = m->decisions[m->n_decisions - 1]->agent;
        l->at_unix_ms = m->decisions[m->n_decisions - 1]->decided_unix_ms;
    }
    add(l, "%zu decisions, %zu done", m->n_decisions, done);
}

static void rollback(const void *message, struct event_line *l)
{
    const PB(RollbackChanged) *m = message;
    char text[ROLLBACK_VIEW_TEXT];
    l->entity = m->deployment;
    l->at_unix_ms = m->changed_unix_ms;
    l->colour = rollback_view_colour(m);
    add(l, "%s", rollback_view_line(m, text));
}

static void version(const void *message, struct event_line *l)
{
    const PB(VersionRecord) *m = message;
    char digest[ROLLBACK_VIEW_NAME];
    l->entity = m->deployment;
    if (!m->version)
        return;
    l->at_unix_ms = m->version->recorded_unix_ms;
    add(l, "%s (%s) is recorded: %s, %zu bytes of spec", m->version->name, m->version->id,
        rollback_view_digest(m->version->digest, digest), m->spec.len);
    for (size_t i = 0; i < m->n_gaps; i++)
        add(l, "%s%s", i ? "; " : ", cannot be made again: ", m->gaps[i]);
    if (m->n_gaps)
        l->colour = TERM_YELLOW;
}

static void share(const void *message, struct event_line *l)
{
    const PB(WorkShare) *m = message;
    l->entity = m->deployment;
    l->at_unix_ms = m->changed_unix_ms;
    l->colour = TERM_CYAN;
    add(l, "#%" PRIu64 " the work:", m->epoch);
    for (size_t i = 0; i < m->n_shares; i++)
        add(l, "%s %s %u %%", i ? "," : "", *m->shares[i]->name ? m->shares[i]->name : m->shares[i]->id,
            m->shares[i]->percent);
}

static void shared(const void *message, struct event_line *l)
{
    const PB(WorkShared) *m = message;
    l->entity = m->deployment;
    l->colour = TERM_DIM;
    add(l, "#%" PRIu64 " %s (%s) takes %u %%, has %u in hand", m->epoch, m->instance, m->version, m->percent,
        m->in_hand);
}

static void rollback_command(const void *message, struct event_line *l)
{
    const PB(RollbackCommand) *m = message;
    l->entity = m->deployment;
    l->colour = *m->by ? TERM_CYAN : TERM_DIM;
    if (*m->by)
        add(l, "%s asks: %s", m->by, m->reason);
    else
        add(l, "asked for");
    if (*m->to_version)
        add(l, "; to %s", m->to_version);
    if (m->force)
        add(l, "; FORCED");
}

static void selftest(const void *message, struct event_line *l)
{
    const PB(SelftestQuestion) *m = message;
    l->entity = m->agent;
    l->colour = TERM_DIM;
    add(l, "asked %s", m->name);
}

static const struct {
    const ProtobufCMessageDescriptor *desc;
    const char *kind;
    void (*fn)(const void *message, struct event_line *l);
} rows[] = {
    {PB_DESC(health_changed), "health", health},
    {PB_DESC(breaker_changed), "breaker", breaker},
    {PB_DESC(directive), "directive", directive},
    {PB_DESC(directive_ack), "ack", ack},
    {PB_DESC(alert), "alert", alert},
    {PB_DESC(delivery_receipt), "delivery", delivery},
    {PB_DESC(problem_changed), "problem", problem},
    {PB_DESC(silence), "silence", silence},
    {PB_DESC(pulse), "pulse", pulse},
    {PB_DESC(audit_checkpoint), "checkpoint", checkpoint},
    {PB_DESC(audit_record), "audit", audit},
    {PB_DESC(rollback_changed), "rollback", rollback},
    {PB_DESC(version_record), "version", version},
    {PB_DESC(work_share), "share", share},
    {PB_DESC(work_shared), "shared", shared},
    {PB_DESC(rollback_command), "command", rollback_command},
    {PB_DESC(incident_changed), "incident", event_line_incident},
    {PB_DESC(continuity_status), "objectives", event_line_objectives},
    {PB_DESC(demonstrations), "shown", event_line_shown},
    {PB_DESC(backup_state), "backup", event_line_backup},
    {PB_DESC(drill_state), "drill", event_line_drill},
    {PB_DESC(config_state), "config", event_line_config},
    {PB_DESC(availability_state), "condition", event_line_availability},
    {PB_DESC(continuity_time), "time", event_line_time},
    {PB_DESC(continuity_command), "command", event_line_continuity_command},
    {PB_DESC(outcome_report), "report", report},
    {PB_DESC(outcome_batch), "report", batch},
    {PB_DESC(heartbeat), "heartbeat", heartbeat},
    {PB_DESC(dead_letter), "dead", dead},
    {PB_DESC(breaker_command), "command", breaker_command},
    {PB_DESC(agent_command), "command", agent_command},
    {PB_DESC(health_command), "command", health_command},
    {PB_DESC(alert_command), "command", alert_command},
    {PB_DESC(allow_request), "command", allow},
    {PB_DESC(observation), "observation", observation},
    {PB_DESC(traffic_summary), "traffic", traffic},
    {PB_DESC(breaker_advice), "advice", advice},
    {PB_DESC(decision), "decision", decision},
    {PB_DESC(decision_batch), "decision", decisions},
    {PB_DESC(selftest_question), "selftest", selftest},
};

bool event_line(const void *message, struct event_line *ret)
{
    const ProtobufCMessage *m = message;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        if (rows[i].desc == m->descriptor) {
            *ret = (struct event_line){.kind = rows[i].kind, .entity = ""};
            rows[i].fn(message, ret);
            return true;
        }
    }
    return false;
}
