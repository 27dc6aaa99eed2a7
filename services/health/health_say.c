/* health_say.c - what people and the trail are told of an announced verdict. */
#include "common/log.h"
#include "health/health_shell.h"
#include <inttypes.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>

static const char *state_name(int state)
{
    return sm_name(&health_sm, state);
}

/* Alerts and records of one verdict have the same ids whoever sends them: who goes on after a crash repeats, not doubles. */
static void id_of(const struct health_watch *t, uint64_t epoch, char buf[static 64])
{
    unsigned char h[12];
    char hex[2 * sizeof h + 1];
    crypto_generichash(h, sizeof h, (const unsigned char *)t->name, strlen(t->name), NULL, 0);
    sodium_bin2hex(hex, sizeof hex, h, sizeof h);
    snprintf(buf, 64, "health-%s-%" PRIu64, hex, epoch);
}

/* The agent that the watch is about; "" if it is a target. */
static const char *agent_of(const struct health_watch *t)
{
    return t->agent ? t->agent->life->name + strlen(HEALTH_AGENT_PREFIX) : "";
}

static void summary_of(const struct health_watch *t, const PB(HealthChanged) * m, bool raise, char *buf, size_t size)
{
    if (!raise)
        snprintf(buf, size, "%s is %s", t->name,
                 (int)m->state == HEALTH_HEALTHY ? "well again" : state_name((int)m->state));
    else if (t->what == HEALTH_WATCH_LIFE && (int)m->state == HEALTH_UNHEALTHY)
        snprintf(buf, size, "agent gone: %s, %s", agent_of(t), m->reason);
    else if (t->what == HEALTH_WATCH_LOGIC && (int)m->state == HEALTH_UNHEALTHY)
        snprintf(buf, size, "agent decides wrongly: %s, %s", agent_of(t), m->reason);
    else
        snprintf(buf, size, "%s is %s: %s", t->name, state_name((int)m->state), m->reason);
}

/* An agent that is gone: whoever of fallback and us is heard first, people learn what to do by hand. */
static void detail_of(const struct health_watch *t, const PB(HealthChanged) * m, bool raise, char *buf, size_t size)
{
    bool gone = raise && t->what == HEALTH_WATCH_LIFE && (int)m->state == HEALTH_UNHEALTHY;
    const struct set_agent *a = gone ? settings_agent(t->w->s->settings, agent_of(t)) : NULL;
    const char *procedure = a && a->recovery.procedure ? a->recovery.procedure : "";
    const char *deployment = a && a->recovery.deployment ? a->recovery.deployment : "";
    bool offer = *deployment && a->recovery.rollback == SET_GONE_OFFER;
    snprintf(buf, size, "%s%s%s%s%.64s%s", m->reason, *procedure ? "; by hand until it is back: " : "", procedure,
             offer ? "; or: redoubt rollback start " : "", offer ? deployment : "",
             offer ? " --by NAME --reason WHY" : "");
}

/* The problem that people are told of. What fallback acts on and tells of as well has its key: one problem, told once, whoever of us
 * is first, and told even if one of us is away. */
static const char *problem_of(const struct health_watch *t, int state, char *buf, size_t size)
{
    const char *ours = NULL;
    if (t->agent && t->what == HEALTH_WATCH_LIFE && state == HEALTH_UNHEALTHY)
        ours = "down";
    else if (t->agent && t->what == HEALTH_WATCH_LOGIC && state == HEALTH_UNHEALTHY)
        ours = "frozen";
    else if (t->agent && t->what == HEALTH_WATCH_MEANS && (state == HEALTH_UNHEALTHY || state == HEALTH_DEGRADED))
        ours = "resources";
    if (ours)
        snprintf(buf, size, "agent/%s/%s", agent_of(t), ours);
    else
        snprintf(buf, size, "health/%s", t->name);
    return buf;
}

/* An agent that decided wrongly stays frozen until a person ends it: then fallback says that it is over, not we. */
static bool a_person_ends_it(const struct health_watch *t, int state)
{
    return t->agent && t->what == HEALTH_WATCH_LOGIC && state == HEALTH_UNHEALTHY;
}

static void send_alert(struct health_watch *t, const PB(HealthChanged) * m, const struct health_notice *n,
                       const char *id, const char *key, bool raise)
{
    char summary[512], detail[2048];
    summary_of(t, m, raise, summary, sizeof summary);
    detail_of(t, m, raise, detail, sizeof detail);
    PB(Alert) a = REDOUBT__V1__ALERT__INIT;
    a.id = (char *)id;
    a.dedup_key = (char *)key;
    a.severity = (Redoubt__V1__Severity)n->severity;
    a.agent = (char *)agent_of(t);
    a.target = t->name;
    a.failure_kind = m->failure_kind;
    a.summary = summary;
    a.detail = detail;
    a.manual_intervention_required = raise && n->manual;
    a.evidence_unix_ms = m->since_unix_ms;
    a.resolved = !raise;
    service_alert(t->w->s, &a);
}

/* What was told of the previous state is over, if it was another problem than the present one. */
static void end_previous(struct health_watch *t, const PB(HealthChanged) * m, int previous_cause, const char *id,
                         const char *now)
{
    char key[255], over[72];
    struct health_notice was =
        health_notice_of(t->rule.kind, (int)m->previous, previous_cause, HEALTH_UNKNOWN, HEALTH_FAULT_NONE);
    problem_of(t, (int)m->previous, key, sizeof key);
    if (was.news != HEALTH_RAISE || a_person_ends_it(t, (int)m->previous) || strcmp(key, now) == 0)
        return;
    snprintf(over, sizeof over, "%s-over", id);
    send_alert(t, m, &was, over, key, false);
}

void health_say(struct health_watch *t, const PB(HealthChanged) * m, int cause, int previous_cause)
{
    char id[64], key[255];
    struct health_notice n = health_notice_of(t->rule.kind, (int)m->state, cause, (int)m->previous, previous_cause);
    id_of(t, m->epoch, id);
    bool raise = n.news == HEALTH_RAISE;
    if (raise && *m->suppressed_by)
        log_info("nobody is alerted: what it depends on is down", F_STR("target", t->name),
                 F_STR("parent", m->suppressed_by));
    else if (raise) {
        end_previous(t, m, previous_cause, id, problem_of(t, (int)m->state, key, sizeof key));
        send_alert(t, m, &n, id, key, true);
    } else if (n.news == HEALTH_RESOLVE && !a_person_ends_it(t, (int)m->previous)) {
        send_alert(t, m, &n, id, problem_of(t, (int)m->previous, key, sizeof key), false);
    }
    char action[64];
    snprintf(action, sizeof action, "health.%s", state_name((int)m->state));
    for (char *c = action; *c; c++)
        *c = *c >= 'A' && *c <= 'Z' ? (char)(*c - 'A' + 'a') : *c;
    PB(Label) labels[] = {REDOUBT__V1__LABEL__INIT, REDOUBT__V1__LABEL__INIT};
    PB(Label) * fields[] = {&labels[0], &labels[1]};
    labels[0].key = (char *)"previous";
    labels[0].value = (char *)state_name((int)m->previous);
    labels[1].key = (char *)"failure";
    labels[1].value = (char *)wire_enum_name(&redoubt__v1__failure_kind__descriptor, (int)m->failure_kind);
    PB(AuditRecord) r = REDOUBT__V1__AUDIT_RECORD__INIT;
    r.id = id;
    r.audit_class = REDOUBT__V1__AUDIT_CLASS__AUDIT_CLASS_CONTINUITY;
    r.action = action;
    r.subject = t->name;
    r.outcome = REDOUBT__V1__AUDIT_OUTCOME__AUDIT_OUTCOME_DONE;
    r.epoch = m->epoch;
    r.detail = m->reason;
    r.fields = fields;
    r.n_fields = sizeof fields / sizeof *fields;
    service_audit(t->w->s, &r, NULL, NULL);
}
