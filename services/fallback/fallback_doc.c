/* fallback_doc.c - an agent's document and directive as bytes. */
#include "fallback/fallback_doc.h"
#include "common/subjects.h"
#include "fallback/fallback_impl.h"
#include <stdlib.h>
#include <string.h>

#define SAME(ours, theirs) _Static_assert((int)(ours) == (int)REDOUBT__V1__##theirs, "the contract's number differs")
SAME(FALLBACK_NORMAL, POSTURE__POSTURE_NORMAL);
SAME(FALLBACK_BACKUP_LLM, POSTURE__POSTURE_BACKUP_LLM);
SAME(FALLBACK_RECOVERING, POSTURE__POSTURE_RECOVERING);
SAME(FALLBACK_DEGRADED, POSTURE__POSTURE_DEGRADED);
SAME(FALLBACK_SECURITY, POSTURE__POSTURE_SECURITY_FALLBACK);
SAME(FALLBACK_FROZEN, POSTURE__POSTURE_FROZEN);
SAME(FALLBACK_BACKEND_UP, BACKEND_MODE__BACKEND_MODE_UP);
SAME(FALLBACK_BACKEND_DEGRADED, BACKEND_MODE__BACKEND_MODE_DEGRADED);
SAME(FALLBACK_BACKEND_RECOVERING, BACKEND_MODE__BACKEND_MODE_RECOVERING);
SAME(FALLBACK_AUTOMATION_ENABLED, AUTOMATION_MODE__AUTOMATION_MODE_ENABLED);
SAME(FALLBACK_AUTOMATION_FROZEN, AUTOMATION_MODE__AUTOMATION_MODE_FROZEN);
SAME(FALLBACK_OVERRIDE_OFF, OVERRIDE_MODE__OVERRIDE_MODE_OFF);
SAME(FALLBACK_OVERRIDE_ACTIVATING, OVERRIDE_MODE__OVERRIDE_MODE_ACTIVATING);
SAME(FALLBACK_OVERRIDE_ACTIVE, OVERRIDE_MODE__OVERRIDE_MODE_ACTIVE);
SAME(FALLBACK_OVERRIDE_RELEASING, OVERRIDE_MODE__OVERRIDE_MODE_RELEASING);
SAME(FALLBACK_STEP_INITIAL, STEP__STEP_INITIAL);
SAME(FALLBACK_STEP_SWITCH_LLM, STEP__STEP_SWITCH_LLM);
SAME(FALLBACK_STEP_SECURITY, STEP__STEP_SECURITY_FALLBACK);
SAME(FALLBACK_STEP_RESTORE_LLM, STEP__STEP_RESTORE_LLM);
SAME(FALLBACK_STEP_DEGRADE_BACKEND, STEP__STEP_DEGRADE_BACKEND);
SAME(FALLBACK_STEP_RAMP_BACKEND, STEP__STEP_RAMP_BACKEND);
SAME(FALLBACK_STEP_RESTORE_BACKEND, STEP__STEP_RESTORE_BACKEND);
SAME(FALLBACK_STEP_FREEZE, STEP__STEP_FREEZE);
SAME(FALLBACK_STEP_UNFREEZE, STEP__STEP_UNFREEZE);
SAME(FALLBACK_STEP_RESTRICT, STEP__STEP_RESTRICT);
SAME(FALLBACK_STEP_RECONNECT, STEP__STEP_RECONNECT);
SAME(FALLBACK_STEP_SHED_LOAD, STEP__STEP_SHED_LOAD);
SAME(FALLBACK_STEP_REQUEST_RESTART, STEP__STEP_REQUEST_RESTART);
SAME(FALLBACK_STEP_RESTART, STEP__STEP_RESTART);
SAME(FALLBACK_STEP_RESTORE_LOAD, STEP__STEP_RESTORE_LOAD);
SAME(FALLBACK_STEP_WAIT_LLM, STEP__STEP_WAIT_LLM);
SAME(FALLBACK_RESOURCES_OK, RESOURCE_MODE__RESOURCE_MODE_OK);
SAME(FALLBACK_RESOURCES_SHEDDING, RESOURCE_MODE__RESOURCE_MODE_SHEDDING);
SAME(FALLBACK_RESOURCES_RESTARTING, RESOURCE_MODE__RESOURCE_MODE_RESTARTING);
SAME(FALLBACK_LINK_UP, LINK_MODE__LINK_MODE_UP);
SAME(FALLBACK_LINK_RESTRICTED, LINK_MODE__LINK_MODE_RESTRICTED);
SAME(FALLBACK_LINK_GONE, LINK_MODE__LINK_MODE_GONE);
SAME(FALLBACK_LINK_RETURNING, LINK_MODE__LINK_MODE_RETURNING);
SAME(FALLBACK_FAILURE_LLM, FAILURE_KIND__FAILURE_KIND_LLM_OUTAGE);
SAME(FALLBACK_FAILURE_BACKEND, FAILURE_KIND__FAILURE_KIND_BACKEND_FAILURE);
SAME(FALLBACK_FAILURE_LOGIC, FAILURE_KIND__FAILURE_KIND_LOGIC_ERROR);
SAME(FALLBACK_FAILURE_RESOURCE, FAILURE_KIND__FAILURE_KIND_RESOURCE_EXHAUSTION);
SAME(FALLBACK_FAILURE_NETWORK, FAILURE_KIND__FAILURE_KIND_NETWORK);
SAME(FALLBACK_FAILURE_AGENT_DOWN, FAILURE_KIND__FAILURE_KIND_AGENT_DOWN);
SAME(FALLBACK_BREAKER_CLOSED, BREAKER_STATE__BREAKER_STATE_CLOSED);
SAME(FALLBACK_BREAKER_OPEN, BREAKER_STATE__BREAKER_STATE_OPEN);
SAME(FALLBACK_BREAKER_HALF_OPEN, BREAKER_STATE__BREAKER_STATE_HALF_OPEN);
SAME(FALLBACK_BREAKER_PROBATION, BREAKER_STATE__BREAKER_STATE_PROBATION);
SAME(FALLBACK_BREAKER_FORCED_OPEN, BREAKER_STATE__BREAKER_STATE_FORCED_OPEN);
SAME(FALLBACK_BREAKER_FORCED_CLOSED, BREAKER_STATE__BREAKER_STATE_FORCED_CLOSED);
SAME(FALLBACK_BREAKER_METRICS_ONLY, BREAKER_STATE__BREAKER_STATE_METRICS_ONLY);
SAME(FALLBACK_HEALTH_UNKNOWN, HEALTH_STATE__HEALTH_STATE_UNKNOWN);
SAME(FALLBACK_HEALTH_HEALTHY, HEALTH_STATE__HEALTH_STATE_HEALTHY);
SAME(FALLBACK_HEALTH_DEGRADED, HEALTH_STATE__HEALTH_STATE_DEGRADED);
SAME(FALLBACK_HEALTH_UNHEALTHY, HEALTH_STATE__HEALTH_STATE_UNHEALTHY);
SAME(FALLBACK_HEALTH_FLAPPING, HEALTH_STATE__HEALTH_STATE_FLAPPING);
SAME(FALLBACK_HEALTH_MAINTENANCE, HEALTH_STATE__HEALTH_STATE_MAINTENANCE);

void bytes_free(struct bytes *b)
{
    free(b->data);
    *b = (struct bytes){0};
}

bool bytes_copy(struct bytes *to, const void *data, size_t len)
{
    bytes_free(to);
    if (len == 0)
        return true;
    to->data = malloc(len);
    if (!to->data)
        return false;
    memcpy(to->data, data, len);
    to->len = len;
    return true;
}

#define ENUM(type, value) ((Redoubt__V1__##type)(value))

void fallback_doc_fill(PB(AgentState) * m, const char *agent, const struct fallback_doc *d)
{
    *m = (PB(AgentState))PB_INIT(AGENT_STATE);
    m->agent = (char *)agent;
    m->epoch = d->epoch;
    m->posture = ENUM(Posture, d->posture);
    m->llm_index = d->llm_index;
    m->llm_target = (char *)d->llm_target;
    m->llm_model = (char *)d->llm_model;
    m->backend = ENUM(BackendMode, d->backend);
    m->ramp_percent = d->ramp_percent;
    m->automation = ENUM(AutomationMode, d->automation);
    m->frozen_by = (char *)d->frozen_by;
    m->frozen_why = (char *)d->frozen_why;
    m->override_mode = ENUM(OverrideMode, d->override_mode);
    m->override_until_unix_ms = d->override_until_ms;
    m->override_key = (char *)d->override_key;
    m->acked_epoch = d->acked_epoch;
    m->evidence_unix_ms = d->evidence_ms;
    m->since_unix_ms = d->since_ms;
    m->revision = d->revision;
    m->step = ENUM(Step, d->step);
    m->reason = (char *)d->reason;
    m->failure_kind = ENUM(FailureKind, d->failure);
    m->cause = (char *)d->cause;
    m->open_alerts = d->open_alerts;
    m->verdict_epoch = d->verdict_epoch;
    m->judgement_epoch = d->judgement_epoch;
    m->resources = ENUM(ResourceMode, d->resources);
    m->link = ENUM(LinkMode, d->link);
    m->load_percent = d->load_percent;
    m->restart_requested = d->restart_requested;
    m->llm_waiting = d->llm_waiting;
    m->llm_wanted = (char *)d->llm_wanted;
    m->n_restarts_unix_ms = d->n_restarts;
    m->restarts_unix_ms = (int64_t *)d->restarts_ms;
    m->restart_id = (char *)d->restart_id;
    m->resources_since_unix_ms = d->resources_since_ms;
    m->link_since_unix_ms = d->link_since_ms;
    m->monitor_interval_ms = d->monitor_interval_ms;
    m->frozen_epoch = d->frozen_epoch;
    m->drill_failure = ENUM(FailureKind, d->drill_failure);
    m->drill_until_unix_ms = d->drill_until_ms;
    m->drill_by = (char *)d->drill_by;
    m->rollback_id = (char *)d->rollback_id;
    m->shed_percent = d->shed_percent;
    m->return_percent = d->return_percent;
    m->drill_was = ENUM(FailureKind, d->drill_was);
    m->drill_ended_unix_ms = d->drill_ended_ms;
}

/* Fields that are packed one after the other are one message: what is packed already need not be looked at again. */
#define OWED_TAG       26
#define OWED_ROOM      7 /* tag and length */
#define LENGTH_DELIMED 2

static unsigned char *put_varint(unsigned char *p, size_t v)
{
    for (; v > 0x7f; v >>= 7)
        *p++ = (unsigned char)(v | 0x80);
    *p++ = (unsigned char)v;
    return p;
}

bool fallback_doc_owe(struct bytes *doc, const struct bytes *const owed[], size_t n, struct err *e)
{
    size_t room = doc->len;
    for (size_t i = 0; i < n; i++)
        room += owed[i]->len + OWED_ROOM;
    unsigned char *data = n > 0 ? realloc(doc->data, room) : doc->data;
    if (!data) {
        err_set(e, "out of memory");
        return false;
    }
    unsigned char *p = data + doc->len;
    for (size_t i = 0; i < n; i++) {
        p = put_varint(put_varint(p, OWED_TAG << 3 | LENGTH_DELIMED), owed[i]->len);
        memcpy(p, owed[i]->data, owed[i]->len);
        p += owed[i]->len;
    }
    doc->data = data;
    doc->len = (size_t)(p - data);
    if (doc->len > MESSAGE_MAX) {
        err_set(e, "with what it owes it has %zu bytes; allowed: at most %d", doc->len, MESSAGE_MAX);
        return false;
    }
    return true;
}

int fallback_doc_take(struct fallback_doc *d, const char *agent, const PB(AgentState) * m, struct err *e)
{
    if (strcmp(m->agent, agent) != 0)
        return err_set(e, "it is of another agent: %s", m->agent);
    struct fallback_doc x = {
        .epoch = m->epoch,
        .revision = m->revision,
        .posture = (int)m->posture,
        .llm_index = m->llm_index,
        .backend = (int)m->backend,
        .ramp_percent = m->ramp_percent,
        .automation = (int)m->automation,
        .override_mode = (int)m->override_mode,
        .override_until_ms = m->override_until_unix_ms,
        .acked_epoch = m->acked_epoch,
        .evidence_ms = m->evidence_unix_ms,
        .since_ms = m->since_unix_ms,
        .step = (int)m->step,
        .failure = (int)m->failure_kind,
        .open_alerts = m->open_alerts,
        .verdict_epoch = m->verdict_epoch,
        .judgement_epoch = m->judgement_epoch,
        /* A document of an older version does not say these. */
        .resources = m->resources ? (int)m->resources : FALLBACK_RESOURCES_OK,
        .link = m->link ? (int)m->link : FALLBACK_LINK_UP,
        .load_percent = m->load_percent ? m->load_percent : 100,
        .restart_requested = m->restart_requested,
        .llm_waiting = m->llm_waiting,
        .n_restarts = m->n_restarts_unix_ms < FALLBACK_RESTARTS_MAX ? m->n_restarts_unix_ms : FALLBACK_RESTARTS_MAX,
        .resources_since_ms = m->resources_since_unix_ms,
        .link_since_ms = m->link_since_unix_ms,
        .monitor_interval_ms = m->monitor_interval_ms,
        .frozen_epoch = m->frozen_epoch,
        .drill_failure = (int)m->drill_failure,
        .drill_until_ms = m->drill_until_unix_ms,
        .shed_percent = m->shed_percent ? m->shed_percent : 100,
        .return_percent = m->return_percent ? m->return_percent : 100,
        .drill_was = (int)m->drill_was,
        .drill_ended_ms = m->drill_ended_unix_ms,
    };
    if (x.n_restarts > 0)
        memcpy(x.restarts_ms, m->restarts_unix_ms, x.n_restarts * sizeof *x.restarts_ms);
    fallback_text(x.llm_wanted, sizeof x.llm_wanted, m->llm_wanted);
    fallback_text(x.restart_id, sizeof x.restart_id, m->restart_id);
    fallback_text(x.drill_by, sizeof x.drill_by, m->drill_by);
    fallback_text(x.rollback_id, sizeof x.rollback_id, m->rollback_id);
    fallback_text(x.llm_target, sizeof x.llm_target, m->llm_target);
    fallback_text(x.llm_model, sizeof x.llm_model, m->llm_model);
    fallback_text(x.frozen_by, sizeof x.frozen_by, m->frozen_by);
    fallback_text(x.frozen_why, sizeof x.frozen_why, m->frozen_why);
    fallback_text(x.override_key, sizeof x.override_key, m->override_key);
    fallback_text(x.reason, sizeof x.reason, m->reason);
    fallback_text(x.cause, sizeof x.cause, m->cause);
    const char *broken = fallback_invariant(&x);
    if (broken)
        return err_set(e, "it does not hold that %s", broken);
    *d = x;
    return 0;
}

struct bytes fallback_directive_pack(const char *agent, const struct fallback_doc *d, uint64_t fence,
                                     int64_t now_unix_ms, int64_t ack_ms, struct err *e)
{
    PB(AgentState) state;
    fallback_doc_fill(&state, agent, d);
    state.fence = fence;
    PB(Directive) m = PB_INIT(DIRECTIVE);
    m.state = &state;
    m.step = state.step;
    m.reason = state.reason;
    m.failure_kind = state.failure_kind;
    m.cause = state.cause;
    m.issued_unix_ms = now_unix_ms;
    m.ack_within_ms = (uint32_t)ack_ms;
    struct bytes b = {0};
    b.data = wire_pack(&m, &b.len, e);
    return b;
}
