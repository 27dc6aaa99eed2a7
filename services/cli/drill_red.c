/* drill_red.c - drills on a real suite: which failure each pretends, what is its own, and what ends it. */
#include "cli/drill_red.h"
#include "cli/event_line.h"
#include <stdio.h>
#include <string.h>

#define PBE(x) REDOUBT__V1__##x

const struct drill_kind drill_kinds[] = {
    {"llm-outage",
     PBE(FAILURE_KIND__FAILURE_KIND_LLM_OUTAGE),
     {"backup-llm", "security-fallback", "override", "override-release"},
     "it gets another LLM or, without one, the backend's strict default policies are activated"},
    {"backend-outage",
     PBE(FAILURE_KIND__FAILURE_KIND_BACKEND_FAILURE),
     {"backend"},
     "it goes to degraded mode: its actions are queued"},
    {"logic-error", PBE(FAILURE_KIND__FAILURE_KIND_LOGIC_ERROR), {"frozen"}, "its automated actions are frozen"},
    {"resource-exhaustion",
     PBE(FAILURE_KIND__FAILURE_KIND_RESOURCE_EXHAUSTION),
     {"resources", "restart"},
     "it sheds load, and may be asked to restart"},
    {"partition",
     PBE(FAILURE_KIND__FAILURE_KIND_NETWORK),
     {"link", "unconfirmed"},
     "it is restricted: its actions are queued"},
    {"agent-loss",
     PBE(FAILURE_KIND__FAILURE_KIND_AGENT_DOWN),
     {"down", "rollback"},
     "it is treated as gone: its actions are queued, and it comes back by steps"},
};
const size_t drill_kinds_n = sizeof drill_kinds / sizeof drill_kinds[0];

const struct drill_kind *drill_kind(const char *name)
{
    for (size_t i = 0; i < drill_kinds_n; i++)
        if (strcmp(drill_kinds[i].name, name) == 0)
            return &drill_kinds[i];
    return NULL;
}

bool drill_red_ours(const struct drill_kind *k, const char *agent, const PB(Alert) * a)
{
    char key[512];
    for (const char *const *n = k->notices; *n; n++) {
        snprintf(key, sizeof key, "agent/%s/%s", agent, *n);
        if (strcmp(a->dedup_key, key) == 0)
            return true;
    }
    return false;
}

static bool health(const struct drill_kind *k, const char *agent, const PB(HealthChanged) * h, char *text,
                   size_t size)
{
    char self[256];
    snprintf(self, sizeof self, "agent.%s", agent);
    if (h->state != PBE(HEALTH_STATE__HEALTH_STATE_UNHEALTHY) && h->state != PBE(HEALTH_STATE__HEALTH_STATE_FLAPPING))
        return false;
    /* A restart is part of that drill, and while it lasts the process is gone. */
    if (k->failure == PBE(FAILURE_KIND__FAILURE_KIND_RESOURCE_EXHAUSTION) && strcmp(h->target, self) == 0)
        return false;
    snprintf(text, size, "%s is %s: %s", h->target, EVENT_NAME(health_state, h->state), h->reason);
    return true;
}

static bool breaker(const PB(BreakerChanged) * b, char *text, size_t size)
{
    if (b->state != PBE(BREAKER_STATE__BREAKER_STATE_OPEN) &&
        b->state != PBE(BREAKER_STATE__BREAKER_STATE_FORCED_OPEN))
        return false;
    snprintf(text, size, "the breaker of %s is %s: %s", b->target, EVENT_NAME(breaker_state, b->state), b->detail);
    return true;
}

static bool directive(const struct drill_kind *k, const char *agent, const PB(AgentState) * s, char *text,
                      size_t size)
{
    if (!s)
        return false;
    if (strcmp(s->agent, agent) == 0) {
        if (s->automation != PBE(AUTOMATION_MODE__AUTOMATION_MODE_FROZEN) ||
            k->failure == PBE(FAILURE_KIND__FAILURE_KIND_LOGIC_ERROR))
            return false;
        snprintf(text, size, "%s was frozen by %s: %s", s->agent, s->frozen_by, s->frozen_why);
        return true;
    }
    if (s->posture == PBE(POSTURE__POSTURE_NORMAL))
        return false;
    snprintf(text, size, "agent %s is in posture %s: %s", s->agent, EVENT_NAME(posture, s->posture), s->reason);
    return true;
}

static bool alert(const struct drill_kind *k, const char *agent, const PB(Alert) * a, char *text, size_t size)
{
    if (a->resolved || a->severity < PBE(SEVERITY__SEVERITY_HIGH) || drill_red_ours(k, agent, a))
        return false;
    snprintf(text, size, "alert %s: %s", EVENT_NAME(severity, a->severity), a->summary);
    return true;
}

bool drill_red(const struct drill_kind *k, const char *agent, const void *message, char *text, size_t size)
{
    const ProtobufCMessageDescriptor *desc = ((const ProtobufCMessage *)message)->descriptor;
    if (desc == PB_DESC(health_changed))
        return health(k, agent, message, text, size);
    if (desc == PB_DESC(breaker_changed))
        return breaker(message, text, size);
    if (desc == PB_DESC(directive))
        return directive(k, agent, ((const PB(Directive) *)message)->state, text, size);
    if (desc == PB_DESC(alert))
        return alert(k, agent, message, text, size);
    if (desc == PB_DESC(delivery_receipt)) {
        const PB(DeliveryReceipt) *r = message;
        if (r->status != PBE(DELIVERY_STATUS__DELIVERY_STATUS_EXHAUSTED))
            return false;
        snprintf(text, size, "an alert could not be delivered by any channel: %s", r->dedup_key);
        return true;
    }
    if (desc == PB_DESC(incident_changed)) {
        const PB(IncidentChanged) *i = message;
        bool whole = i->n_agents == 1 && strcmp(i->agents[0], agent) == 0 && (int)i->failure_kind == k->failure;
        if (whole || i->phase == PBE(INCIDENT_PHASE__INCIDENT_PHASE_CLOSED))
            return false; /* the drill's own, or over */
        snprintf(text, size, "incident %s: %s", i->id, i->summary);
        return true;
    }
    return false;
}

struct first {
    char *text;
    size_t size;
    bool any;
};

static void keep_first(void *ctx, const char *line)
{
    struct first *f = ctx;
    if (!f->any)
        snprintf(f->text, f->size, "%s", line);
    f->any = true;
}

bool drill_red_begin(const struct status_model *m, const char *agent, char *text, size_t size)
{
    struct first f = {.text = text, .size = size};
    const PB(AgentState) *s = NULL;
    for (size_t i = 0; i < m->n_agents; i++)
        if (strcmp(m->agents[i].name, agent) == 0)
            s = m->agents[i].state;
    if (!s)
        snprintf(text, size, "nothing is known of an agent %s", agent);
    else if (s->drill_failure != PBE(FAILURE_KIND__FAILURE_KIND_UNSPECIFIED))
        snprintf(text, size, "a drill of %s is under way on %s already", s->drill_by, agent);
    else if (s->posture != PBE(POSTURE__POSTURE_NORMAL))
        snprintf(text, size, "%s is not NORMAL but %s: %s", agent, EVENT_NAME(posture, s->posture), s->reason);
    else
        return status_problems(m, keep_first, &f) == 0;
    return false;
}

bool drill_red_services(const size_t *was, const struct status_model *m, char *text, size_t size)
{
    for (size_t i = 0; i < status_services_n; i++) {
        if (was[i] == 0 || status_replicas(m, status_services[i]) > 0)
            continue;
        snprintf(text, size, "service %s does not answer any more", status_services[i]);
        return true;
    }
    return false;
}
