/* report_words.c - what enumerations, objectives and records are called in reports, and what records say of how an incident was met: tables. */
#include "continuity/report.h"
#include <fnmatch.h>
#include <stdio.h>
#include <string.h>

#define OUTCOME(NAME) REDOUBT__V1__AUDIT_OUTCOME__AUDIT_OUTCOME_##NAME
#define ANY           0

const char report_lessons_form[] = "- What went well, and should stay as it is?\n"
                                   "- What went wrong, or only by luck?\n"
                                   "- What did we learn late that we could have known earlier?\n"
                                   "- Which objective was close to its limit, and why?\n";
const char report_follow_ups_form[] = "| What | Who | Until | Done |\n"
                                      "|---|---|---|---|\n"
                                      "|  |  |  |  |\n";

static const char *of(const char *const *list, size_t n, int i)
{
    return i >= 0 && (size_t)i < n && list[i] ? list[i] : "unknown";
}

const char *report_kind_words(int failure_kind)
{
    static const char *const list[] = {"Not said",         "LLM outage",      "Backend failure", "Agent logic error",
                                       "Out of resources", "Network trouble", "Agent gone"};
    return of(list, sizeof list / sizeof *list, failure_kind);
}

const char *report_severity_words(int severity)
{
    static const char *const list[] = {"not said", "info", "warning", "high", "critical"};
    return of(list, sizeof list / sizeof *list, severity);
}

const char *report_phase_words(int phase)
{
    static const char *const list[] = {"Not said", "Respond", "Assess", "Recover", "Validate", "Learn", "Closed"};
    return of(list, sizeof list / sizeof *list, phase);
}

static const struct {
    const char *name, *words, *brief;
} objectives[] = {{"mad_full", "Downtime, full failure (MAD)", "MAD full failure"},
                  {"mad_degraded", "Downtime, degraded (MAD)", "MAD degraded"},
                  {"mad_llm_fallback", "Downtime, LLM fallback (MAD)", "MAD LLM fallback"},
                  {"rto_critical", "Recovery, critical functions (RTO)", "RTO critical"},
                  {"rto_full", "Recovery, all functions (RTO)", "RTO all functions"},
                  {"rto_data", "Recovery, data (RTO)", "RTO data"},
                  {"rpo_learning", "Recovery point, learning data (RPO)", "RPO learning data"},
                  {"rpo_audit", "Recovery point, audit trail (RPO)", "RPO audit trail"},
                  {"rpo_config", "Recovery point, configuration (RPO)", "RPO configuration"}};

const char *report_objective_words(const char *objective)
{
    for (size_t i = 0; i < sizeof objectives / sizeof *objectives; i++)
        if (strcmp(objectives[i].name, objective) == 0)
            return objectives[i].words;
    return objective;
}

const char *report_objective_brief(const char *objective)
{
    for (size_t i = 0; i < sizeof objectives / sizeof *objectives; i++)
        if (strcmp(objectives[i].name, objective) == 0)
            return objectives[i].brief;
    return objective;
}

unsigned report_worst(unsigned condition)
{
    return condition & 1 ? 1 : condition & 2 ? 2 : condition & 4;
}

const char *report_condition_words(unsigned condition)
{
    return condition & 1   ? "full failure"
           : condition & 2 ? "degraded"
           : condition & 4 ? "LLM fallback"
                           : "full function";
}

/* ---- records ---- */

static const struct row {
    const char *action; /* a glob */
    int outcome;
    const char *posture; /* of its fields; NULL = any */
    bool good;
    const char *words;
} rows[] = {
    {"directive.issued", ANY, "BACKUP_LLM", true, "Agents were moved to a backup model"},
    {"directive.issued", ANY, "SECURITY_FALLBACK", true, "Agents went to security fallback: strict default policies"},
    {"directive.issued", ANY, "DEGRADED", true, "Agents went to degraded mode: monitoring went on, actions waited"},
    {"directive.issued", ANY, "RECOVERING", true, "Full function came back step by step"},
    {"directive.issued", ANY, "NORMAL", true, "Agents were brought back to full function"},
    {"override.activate", OUTCOME(DONE), NULL, true, "The security override was activated at the backend"},
    {"override.activate", OUTCOME(FAILED), NULL, false, "The security override could not be activated"},
    {"override.release", OUTCOME(DONE), NULL, true, "The security override was released again"},
    {"override.dropped", ANY, NULL, false, "A security override was given up"},
    {"agent.freeze", OUTCOME(DONE), NULL, true, "Automated actions were frozen"},
    {"agent.unfreeze", OUTCOME(DONE), NULL, true, "Automation was released by a person"},
    {"agent.fenced", ANY, NULL, true, "An agent that could not be reached was fenced off"},
    {"agent.restart", OUTCOME(DONE), NULL, true, "Agents were restarted"},
    {"agent.restart", OUTCOME(FAILED), NULL, false, "A restart failed"},
    {"breaker.open", ANY, NULL, true, "A circuit breaker opened and kept calls away"},
    {"breaker.closed", ANY, NULL, true, "A circuit breaker closed after its tests passed"},
    {"queue.drained", ANY, NULL, true, "A queue of waiting actions was replayed"},
    {"queue.dead", ANY, NULL, false, "Queued actions could not be replayed: they are dead letters"},
    {"action.queued", OUTCOME(DONE), NULL, true, "Actions were kept in the durable queue"},
    {"action.refused", ANY, NULL, true, "Actions were refused by the gate"},
    {"action.failed", ANY, NULL, false, "Actions failed at the backend"},
    {"action.rejected", ANY, NULL, false, "Actions were rejected by the backend"},
    {"alert.delivered", ANY, NULL, true, "People were told"},
    {"alert.acknowledged", OUTCOME(DONE), NULL, true, "People acknowledged an alert"},
    {"alert.channel_failed", ANY, NULL, false, "An alert channel failed; the next one was used"},
    {"alert.exhausted", ANY, NULL, false, "No channel accepted an alert"},
    {"alert.escalated", ANY, NULL, false, "An alert was escalated: nobody had acknowledged it"},
    {"rollback.done", ANY, NULL, true, "A rollback was completed"},
    {"rollback.aborted", ANY, NULL, false, "A rollback was aborted"},
    {"rollback.hold", OUTCOME(DONE), NULL, false, "A rollback was held"},
    {"backup.tested", OUTCOME(DONE), NULL, true, "A backup was restored and compared"},
    {"backup.failed", ANY, NULL, false, "A backup failed"},
    {"config.rolled_back", OUTCOME(DONE), NULL, true, "The configuration was rolled back"},
    {"objective.breached", ANY, NULL, false, "An objective was breached"},
    {"audit.gap", ANY, NULL, false, "Records are missing from the trail, as a signed gap record says"},
    {"*", OUTCOME(FAILED), NULL, false, "An act failed"},
};

static const char *field(const PB(AuditRecord) * r, const char *key)
{
    for (size_t i = 0; i < r->n_fields; i++)
        if (strcmp(r->fields[i]->key, key) == 0)
            return r->fields[i]->value;
    return "";
}

const char *report_finding_words(const PB(AuditRecord) * r, bool *ret_good)
{
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        const struct row *w = &rows[i];
        if (fnmatch(w->action, r->action, 0) != 0 || (w->outcome && w->outcome != (int)r->outcome) ||
            (w->posture && strcmp(w->posture, field(r, "posture")) != 0))
            continue;
        *ret_good = w->good;
        return w->words;
    }
    return NULL;
}

const char *report_line_words(const PB(AuditRecord) * r, char buf[static 1024])
{
    if (strncmp(r->action, "alert.", 6) == 0 && *field(r, "channel"))
        snprintf(buf, 1024, "by %.64s (%.32s): %.500s%s%.200s", field(r, "channel"), field(r, "channel_kind"),
                 r->detail, *field(r, "answer") ? "; answer: " : "", field(r, "answer"));
    else if (strncmp(r->action, "action.", 7) == 0)
        snprintf(buf, 1024, "%.64s, key %.128s%s%.64s%s%.500s", field(r, "action"), field(r, "key"),
                 *field(r, "reason") ? ", reason " : "", field(r, "reason"), *r->detail ? ": " : "", r->detail);
    else
        snprintf(buf, 1024, "%.1000s", r->detail);
    return buf;
}
