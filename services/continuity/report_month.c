/* report_month.c - a month's figures, and the same in Markdown and CSV. */
#include "continuity/report_month.h"
#include "continuity/report.h"
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DAY_MS INT64_C(86400000)

/* Room for one more in a list that doubles at powers of two; NULL if memory is out. */
static void *more(void *list, size_t n, size_t size)
{
    return n & (n - 1) ? list : realloc(list, (n ? 2 * n : 1) * size);
}

bool report_month_add(struct report_month *m, const char *agent, const struct availability_month *a)
{
    struct month_agent *list = more(m->agents, m->n_agents, sizeof *list);
    if (!list)
        return false;
    m->agents = list;
    struct month_agent *x = &list[m->n_agents++];
    *x = (struct month_agent){.m = *a};
    snprintf(x->name, sizeof x->name, "%s", agent);
    return true;
}

static void add_clocks(struct report_month *m, const PB(IncidentChanged) * d, struct month_incident *x)
{
    for (size_t i = 0; i < d->n_clocks; i++) {
        const PB(ObjectiveClock) *c = d->clocks[i];
        bool breached = c->breached || c->elapsed_ms > c->limit_ms;
        x->breached += breached;
        for (int k = 0; k < SET_OBJECTIVES; k++) {
            struct month_objective *o = &m->objectives[k];
            if (strcmp(settings_objectives[k], c->objective) != 0)
                continue;
            o->clocks++;
            o->breached += breached;
            o->running += c->stopped_unix_ms == 0;
            if ((int64_t)c->elapsed_ms >= o->worst_ms) {
                o->worst_ms = (int64_t)c->elapsed_ms;
                o->worst_limit_ms = (int64_t)c->limit_ms;
            }
        }
    }
}

bool report_month_incident(struct report_month *m, const PB(IncidentChanged) * d)
{
    int64_t over = d->validated_unix_ms ? d->validated_unix_ms : d->closed_unix_ms;
    if (d->evidence_unix_ms >= m->to_ms || (over && over < m->from_ms))
        return true;
    struct month_incident *list = more(m->incidents, m->n_incidents, sizeof *list);
    if (!list)
        return false;
    m->incidents = list;
    struct month_incident *x = &list[m->n_incidents++];
    *x = (struct month_incident){.kind = (int)d->failure_kind,
                                 .severity = (int)d->severity,
                                 .drill = d->drill,
                                 .evidence_ms = d->evidence_unix_ms,
                                 .validated_ms = over,
                                 .agents = d->agents_total};
    snprintf(x->id, sizeof x->id, "%s", d->id);
    snprintf(x->summary, sizeof x->summary, "%s", d->summary);
    add_clocks(m, d, x);
    return true;
}

bool report_month_backup(struct report_month *m, const PB(BackupState) * b)
{
    struct month_backup *list = more(m->backups, m->n_backups, sizeof *list);
    if (!list)
        return false;
    m->backups = list;
    struct month_backup *x = &list[m->n_backups++];
    *x = (struct month_backup){.kind = (int)b->kind,
                               .verified_ms = b->verified_point_unix_ms,
                               .tested_ms = b->tested_unix_ms,
                               .test_took_ms = (int64_t)b->test_took_ms,
                               .failures = b->failures,
                               .suspicious = b->suspicious};
    snprintf(x->source, sizeof x->source, "%s", b->source);
    snprintf(x->error, sizeof x->error, "%s", b->error);
    return true;
}

bool report_month_drill(struct report_month *m, const PB(DrillState) * d)
{
    if (d->ended_unix_ms < m->from_ms || d->ended_unix_ms >= m->to_ms)
        return true;
    struct month_drill *list = more(m->drills, m->n_drills, sizeof *list);
    if (!list)
        return false;
    m->drills = list;
    struct month_drill *x = &list[m->n_drills++];
    *x = (struct month_drill){.ended_ms = d->ended_unix_ms, .passed = d->passed};
    snprintf(x->name, sizeof x->name, "%s", d->name);
    snprintf(x->result, sizeof x->result, "%s", d->result);
    return true;
}

/* ---- figures ---- */

static int least_available(const void *a, const void *b)
{
    const struct month_agent *x = a, *y = b;
#define ORDER(l, r)                                                                                                  \
    if ((l) != (r))                                                                                                  \
    return (l) < (r) ? -1 : 1
    ORDER(availability_ppm(&x->m, false), availability_ppm(&y->m, false));
    ORDER(availability_ppm(&x->m, true), availability_ppm(&y->m, true));
    return strcmp(x->name, y->name);
}

static int incident_by_time(const void *a, const void *b)
{
    const struct month_incident *x = a, *y = b;
    ORDER(x->evidence_ms, y->evidence_ms);
    return strcmp(x->id, y->id);
#undef ORDER
}

static void mark_days(struct report_month *m, const struct month_incident *x)
{
    int64_t from = x->evidence_ms > m->from_ms ? x->evidence_ms : m->from_ms,
            to = x->validated_ms && x->validated_ms < m->to_ms ? x->validated_ms : m->to_ms - 1;
    if (to > m->written_ms)
        to = m->written_ms;
    for (int64_t day = (from - m->from_ms) / DAY_MS; day <= (to - m->from_ms) / DAY_MS && day < 31; day++) {
        if (x->severity > m->worst_of_day[day])
            m->worst_of_day[day] = (uint8_t)x->severity;
        m->incidents_of_day[day]++;
    }
}

void report_month_settle(struct report_month *m)
{
    int64_t repair_ms = 0;
    uint32_t begun = 0;
    m->sum = (struct availability_month){.month = m->month};
    for (size_t i = 0; i < m->n_agents; i++)
        availability_add(&m->sum, &m->agents[i].m);
    if (m->n_agents)
        qsort(m->agents, m->n_agents, sizeof *m->agents, least_available);
    if (m->n_incidents)
        qsort(m->incidents, m->n_incidents, sizeof *m->incidents, incident_by_time);
    m->days = (int)((m->to_ms - m->from_ms + DAY_MS - 1) / DAY_MS);
    for (size_t i = 0; i < m->n_incidents; i++) {
        const struct month_incident *x = &m->incidents[i];
        if (x->drill) {
            m->n_drill++;
            continue;
        }
        m->n_real++;
        begun += x->evidence_ms >= m->from_ms;
        mark_days(m, x);
        if (x->validated_ms) {
            m->n_repaired++;
            repair_ms += x->validated_ms - x->evidence_ms;
        }
    }
    m->mttr_ms = m->n_repaired ? repair_ms / m->n_repaired : -1;
    int64_t to = m->partial && m->written_ms < m->to_ms ? m->written_ms : m->to_ms;
    m->mtbf_ms = begun ? (to - m->from_ms) / begun : -1;
}

void report_month_done(struct report_month *m)
{
    free(m->agents);
    free(m->incidents);
    free(m->backups);
    free(m->drills);
    *m = (struct report_month){0};
}

/* ---- words ---- */

const char *report_month_name(uint32_t month, char buf[static 32])
{
    static const char *const names[] = {"January", "February", "March",     "April",   "May",      "June",
                                        "July",    "August",   "September", "October", "November", "December"};
    snprintf(buf, 32, "%s %u", names[(month % 100 + 11) % 12], month / 100);
    return buf;
}

const char *report_share(const struct availability_month *m, bool full_function, char buf[static 32])
{
    if (m->known_ms <= 0)
        snprintf(buf, 32, "—");
    else {
        uint32_t ppm = availability_ppm(m, full_function);
        snprintf(buf, 32, "%u.%04u %%", ppm / 10000, ppm % 10000);
    }
    return buf;
}

const char *report_backup_kind(int kind)
{
    static const char *const names[] = {"not said", "learning data", "audit trail", "configuration",
                                        "NATS",     "Redis",         "files"};
    return kind >= 0 && kind < 7 ? names[kind] : "unknown";
}

/* ---- Markdown ---- */

static void cell(struct report_text *o, const char *text, size_t max)
{
    report_add(o, " ");
    report_md(o, text, max);
    report_add(o, " |");
}

static const char *took_or(int64_t ms, char buf[static REPORT_TIME_MAX])
{
    return ms > 0 ? report_took(ms, buf) : "–";
}

static void md_head(const struct report_month *m, struct report_text *o)
{
    char name[32], share[32], a[REPORT_TIME_MAX];
    report_addf(o, "# Availability: %s\n\n", report_month_name(m->month, name));
    if (m->partial)
        report_add(o, "> The month is not over: these are its figures so far.\n\n");
    report_addf(o, "|  |  |\n|---|---|\n| Availability (not in full failure) | %s |\n",
                report_share(&m->sum, false, share));
    report_addf(o, "| Full function (in no condition) | %s |\n", report_share(&m->sum, true, share));
    report_addf(o, "| Agents | %zu |\n| Incidents | %u, and %u drills |\n", m->n_agents, m->n_real, m->n_drill);
    report_addf(o, "| Mean time to recovery, validation included | %s |\n",
                m->mttr_ms < 0 ? "—" : report_took(m->mttr_ms, a));
    report_addf(o, "| Mean time between incidents | %s |\n", m->mtbf_ms < 0 ? "—" : report_took(m->mtbf_ms, a));
    report_addf(o, "| Written | %s UTC, by", report_when(m->written_ms, a));
    cell(o, m->leader, 128);
    report_add(o, "\n");
}

static void md_objectives(const struct report_month *m, struct report_text *o)
{
    char a[REPORT_TIME_MAX], b[REPORT_TIME_MAX];
    report_add(o, "\n## Objectives\n\nClocks of the month's incidents and drills.\n\n| Objective | Clocks | Met | "
                  "Breached | Running | Worst | Of |\n|---|--:|--:|--:|--:|--:|--:|\n");
    for (int i = 0; i < SET_OBJECTIVES; i++) {
        const struct month_objective *x = &m->objectives[i];
        if (x->clocks)
            report_addf(o, "| %s | %u | %u | %u | %u | %s | %s |\n", report_objective_words(settings_objectives[i]),
                        x->clocks,
                        x->clocks - x->breached - (x->running > x->breached ? x->running - x->breached : 0),
                        x->breached, x->running, report_took(x->worst_ms, a), report_took(x->worst_limit_ms, b));
    }
}

static void md_agents(const struct report_month *m, struct report_text *o)
{
    char s[2][32], a[3][REPORT_TIME_MAX];
    report_add(o,
               "\n## Agents\n\nThe least available first.\n\n| Agent | Availability | Full function | Full failure | "
               "Degraded | LLM fallback | Incidents |\n|---|--:|--:|--:|--:|--:|--:|\n");
    for (size_t i = 0; i < m->n_agents && i < MONTH_AGENTS_SHOWN; i++) {
        const struct month_agent *x = &m->agents[i];
        report_add(o, "|");
        cell(o, x->name, 64);
        report_addf(o, " %s | %s | %s | %s | %s | %u |\n", report_share(&x->m, false, s[0]),
                    report_share(&x->m, true, s[1]), took_or(x->m.full_ms, a[0]), took_or(x->m.degraded_ms, a[1]),
                    took_or(x->m.llm_ms, a[2]), x->m.incidents);
    }
    if (m->n_agents > MONTH_AGENTS_SHOWN)
        report_addf(o, "\n%zu more agents are in the CSV file.\n", m->n_agents - MONTH_AGENTS_SHOWN);
}

static void md_incidents(const struct report_month *m, struct report_text *o)
{
    char a[REPORT_TIME_MAX], b[REPORT_TIME_MAX];
    report_add(o, "\n## Incidents\n\n");
    if (m->n_incidents == 0) {
        report_add(o, "None.\n");
        return;
    }
    report_add(o, "| Incident | First evidence (UTC) | Took | Kind | Severity | Agents | Breached | Summary |\n"
                  "|---|---|--:|---|---|--:|--:|---|\n");
    for (size_t i = 0; i < m->n_incidents && i < MONTH_INCIDENTS_SHOWN; i++) {
        const struct month_incident *x = &m->incidents[i];
        report_add(o, "|");
        cell(o, x->id, 32);
        report_addf(o, " %s | %s | %s%s | %s | %u | %u |", report_when(x->evidence_ms, a),
                    x->validated_ms ? report_took(x->validated_ms - x->evidence_ms, b) : "open",
                    report_kind_words(x->kind), x->drill ? " (drill)" : "", report_severity_words(x->severity),
                    x->agents, x->breached);
        cell(o, x->summary, 160);
        report_add(o, "\n");
    }
    if (m->n_incidents > MONTH_INCIDENTS_SHOWN)
        report_addf(o, "\n%zu more are not listed.\n", m->n_incidents - MONTH_INCIDENTS_SHOWN);
}

static void md_proofs_of_care(const struct report_month *m, struct report_text *o)
{
    char a[REPORT_TIME_MAX], b[REPORT_TIME_MAX], c[REPORT_TIME_MAX];
    report_add(o, "\n## Backups\n\n");
    report_add(
        o,
        m->n_backups
            ? "As they stand now.\n\n| Source | Kind | Newest verified point (UTC) | Test restore | Took | State |\n"
              "|---|---|---|---|--:|---|\n"
            : "None are set.\n");
    for (size_t i = 0; i < m->n_backups; i++) {
        const struct month_backup *x = &m->backups[i];
        report_add(o, "|");
        cell(o, x->source, 64);
        report_addf(o, " %s | %s | %s | %s |", report_backup_kind(x->kind), report_when(x->verified_ms, a),
                    report_when(x->tested_ms, b), took_or(x->test_took_ms, c));
        cell(o, *x->error ? x->error : x->suspicious ? "suspicious" : "good", 128);
        report_add(o, "\n");
    }
    report_add(o, "\n## Drills\n\n");
    report_add(o, m->n_drills ? "| Drill | Ended (UTC) | Result | What came of it |\n|---|---|---|---|\n"
                              : "None ended in this month.\n");
    for (size_t i = 0; i < m->n_drills; i++) {
        const struct month_drill *x = &m->drills[i];
        report_add(o, "|");
        cell(o, x->name, 64);
        report_addf(o, " %s | %s |", report_when(x->ended_ms, a), x->passed ? "passed" : "**failed**");
        cell(o, x->result, 128);
        report_add(o, "\n");
    }
}

void report_month_md(const struct report_month *m, struct report_text *out)
{
    md_head(m, out);
    md_objectives(m, out);
    md_agents(m, out);
    md_incidents(m, out);
    md_proofs_of_care(m, out);
}

/* ---- CSV ---- */

void report_month_csv(const struct report_month *m, struct report_text *out)
{
    report_add(out, "agent,month,known_ms,full_failure_ms,degraded_ms,llm_fallback_ms,incidents,availability_ppm,"
                    "full_function_ppm\r\n");
    for (size_t i = 0; i < m->n_agents; i++) {
        const struct availability_month *a = &m->agents[i].m;
        report_csv(out, m->agents[i].name, true);
        report_addf(out, ",%u-%02u,%" PRId64 ",%" PRId64 ",%" PRId64 ",%" PRId64 ",%u,%u,%u\r\n", m->month / 100,
                    m->month % 100, a->known_ms, a->full_ms, a->degraded_ms, a->llm_ms, a->incidents,
                    availability_ppm(a, false), availability_ppm(a, true));
    }
}
