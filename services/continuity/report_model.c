/* report_model.c - puts an incident's report together: impact, who was told, what worked and what did not. Pure. */
#include "continuity/report.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *field(const PB(AuditRecord) * r, const char *key)
{
    for (size_t i = 0; i < r->n_fields; i++)
        if (strcmp(r->fields[i]->key, key) == 0)
            return r->fields[i]->value;
    return "";
}

/* ---- impact ---- */

static void add_span(struct report *r, uint32_t agent, unsigned condition, int64_t from_ms, int64_t to_ms)
{
    struct report_agent *a = &r->agents[agent];
    unsigned worst = report_worst(condition);
    a->seen |= condition;
    if (!worst || to_ms <= from_ms)
        return;
    *(worst == 1 ? &a->full_ms : worst == 2 ? &a->degraded_ms : &a->llm_ms) += to_ms - from_ms;
    struct report_span *last = r->n_spans ? &r->spans[r->n_spans - 1] : NULL;
    if (last && last->agent == agent && last->condition == worst && last->to_ms == from_ms)
        last->to_ms = to_ms;
    else
        r->spans[r->n_spans++] =
            (struct report_span){.agent = agent, .condition = worst, .from_ms = from_ms, .to_ms = to_ms};
}

static void add_spans(struct report *r)
{
    const struct report_trail *t = r->in->trail;
    for (size_t i = 0; i < t->n_turns;) {
        uint32_t agent = t->turns[i].agent;
        unsigned is[REPORT_SOURCES] = {0};
        int64_t since = t->turns[i].at_ms;
        for (; i < t->n_turns && t->turns[i].agent == agent; i++) {
            const struct report_turn *x = &t->turns[i];
            int64_t at = x->at_ms < r->over_ms ? x->at_ms : r->over_ms;
            add_span(r, agent, is[REPORT_POSTURE] | is[REPORT_HEALTH], since, at);
            since = at;
            is[x->source] = x->condition;
        }
        add_span(r, agent, is[REPORT_POSTURE] | is[REPORT_HEALTH], since, r->over_ms);
    }
}

static int most_affected(const void *a, const void *b)
{
    const struct report_agent *x = a, *y = b;
#define ORDER(field)                                                                                                 \
    if (x->field != y->field)                                                                                        \
    return x->field > y->field ? -1 : 1
    ORDER(full_ms);
    ORDER(degraded_ms);
    ORDER(llm_ms);
#undef ORDER
    return strcmp(x->name, y->name);
}

static void impact(struct report *r)
{
    const struct report_input *in = r->in;
    for (size_t i = 0; i < in->n_agents; i++) {
        r->agents[i].name = in->agents[i];
        r->agents[i].index = (uint32_t)i;
        if (in->trail->of_agent)
            r->agents[i].tally = in->trail->of_agent[i];
    }
    r->n_agents = in->n_agents;
    add_spans(r);
    for (size_t i = 0; i < in->n_agents; i++) {
        r->sum.full_ms += r->agents[i].full_ms;
        r->sum.degraded_ms += r->agents[i].degraded_ms;
        r->sum.llm_ms += r->agents[i].llm_ms;
        r->sum.seen |= r->agents[i].seen;
    }
    r->sum.tally = in->trail->all;
    if (r->n_agents)
        qsort(r->agents, r->n_agents, sizeof *r->agents, most_affected);
    /* The clocks know, also where records are missing. */
    static const struct {
        const char *objective;
        unsigned condition;
    } rows[] = {{"mad_full", 1}, {"mad_degraded", 2}, {"mad_llm_fallback", 4}};
    for (size_t i = 0; i < in->doc->n_clocks; i++) {
        const PB(ObjectiveClock) *c = in->doc->clocks[i];
        r->n_clocks++;
        r->n_breached += c->breached || c->elapsed_ms > c->limit_ms;
        for (size_t k = 0; k < 3; k++)
            if (strcmp(c->objective, rows[k].objective) == 0)
                r->sum.seen |= rows[k].condition;
    }
    for (size_t i = 0; i < in->n_functions && i < sizeof r->lost / sizeof *r->lost; i++)
        r->lost[i] = (in->functions[i].lost_in & r->sum.seen) != 0;
}

/* ---- who was told ---- */

static const struct {
    const char *action, *result;
    bool accepted;
} told_rows[] = {{"alert.delivered", "accepted", true},
                 {"alert.channel_failed", "failed", false},
                 {"alert.exhausted", "no channel left", false},
                 {"alert.muted", "muted", false}};

static void told_by_records(struct report *r)
{
    const struct report_trail *t = r->in->trail;
    for (size_t i = 0; i < t->n; i++) {
        const PB(AuditRecord) *a = t->lines[i].r;
        for (size_t k = 0; k < sizeof told_rows / sizeof *told_rows; k++) {
            if (strcmp(told_rows[k].action, a->action) != 0)
                continue;
            if (r->n_told == REPORT_TOLD_MAX) {
                r->told_left_out++;
                continue;
            }
            r->told[r->n_told++] = (struct report_told){.at_ms = a->at_unix_ms,
                                                        .accepted = told_rows[k].accepted,
                                                        .result = told_rows[k].result,
                                                        .severity = field(a, "severity"),
                                                        .channel = field(a, "channel"),
                                                        .kind = field(a, "channel_kind"),
                                                        .key = field(a, "dedup_key"),
                                                        .summary = a->detail,
                                                        .answer = field(a, "answer")};
        }
    }
}

/* Receipts are heard at once, records of them may be out of reach. */
static void told_by_receipts(struct report *r)
{
    static const char *const results[] = {"?",  "accepted",        NULL,      "failed",
                                          NULL, "no channel left", "waiting", "muted"};
    for (size_t i = 0; i < r->in->n_receipts; i++) {
        const PB(DeliveryReceipt) *d = r->in->receipts[i];
        size_t s = (size_t)d->status;
        if (s >= sizeof results / sizeof *results || !results[s])
            continue;
        if (r->n_told == REPORT_TOLD_MAX) {
            r->told_left_out++;
            continue;
        }
        r->told[r->n_told++] =
            (struct report_told){.at_ms = d->ended_unix_ms,
                                 .accepted = d->status == REDOUBT__V1__DELIVERY_STATUS__DELIVERY_STATUS_ACCEPTED,
                                 .result = results[s],
                                 .severity = report_severity_words((int)d->severity),
                                 .channel = d->channel,
                                 .kind = d->channel_kind,
                                 .key = d->dedup_key,
                                 .summary = "",
                                 .answer = d->detail};
    }
}

static int told_by_time(const void *a, const void *b)
{
    const struct report_told *x = a, *y = b;
    return (x->at_ms > y->at_ms) - (x->at_ms < y->at_ms);
}

static void told(struct report *r)
{
    told_by_records(r);
    if (r->n_told == 0)
        told_by_receipts(r);
    if (r->n_told)
        qsort(r->told, r->n_told, sizeof *r->told, told_by_time);
    for (size_t i = 0; i < r->n_told && !r->first_told_ms; i++)
        if (r->told[i].accepted)
            r->first_told_ms = r->told[i].at_ms;
}

/* ---- what worked, what did not ---- */

static void find(struct report *r, bool good, const char *words, int64_t at_ms, uint64_t n, const char *example)
{
    for (size_t i = 0; i < r->n_findings; i++)
        if (r->findings[i].words == words) {
            r->findings[i].n += n;
            return;
        }
    if (r->n_findings == sizeof r->findings / sizeof *r->findings)
        return;
    struct report_finding *f = &r->findings[r->n_findings++];
    *f = (struct report_finding){.good = good, .n = n, .first_ms = at_ms, .words = words};
    snprintf(f->example, sizeof f->example, "%s", example);
}

static void mark_more(struct report *r, const char *words)
{
    for (size_t i = 0; i < r->n_findings; i++)
        r->findings[i].more = r->findings[i].more || r->findings[i].words == words;
}

/* Single actions are counted all, also those that are not listed. */
static void count_actions(struct report *r)
{
    const struct report_tally *t = &r->sum.tally;
    const struct {
        const char *action;
        uint64_t n;
    } rows[] = {{"action.queued", t->queued}, {"action.refused", t->refused}, {"queue.dead", t->dead}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        PB(AuditRecord) a = PB_INIT(AUDIT_RECORD);
        bool good;
        a.action = (char *)rows[i].action;
        a.outcome = REDOUBT__V1__AUDIT_OUTCOME__AUDIT_OUTCOME_DONE;
        const char *words = report_finding_words(&a, &good);
        for (size_t k = 0; k < r->n_findings; k++)
            if (r->findings[k].words == words) {
                r->findings[k].n = rows[i].n;
                r->findings[k].more = false;
            }
    }
}

static void findings(struct report *r)
{
    const struct report_trail *t = r->in->trail;
    char text[1024];
    for (size_t i = 0; i < t->n; i++) {
        bool good = false;
        const char *words = report_finding_words(t->lines[i].r, &good);
        if (words)
            find(r, good, words, t->lines[i].r->at_unix_ms, 1, report_line_words(t->lines[i].r, text));
        for (size_t k = 0; words && k < t->n_others; k++)
            if (strcmp(t->others[k].action, t->lines[i].r->action) == 0)
                mark_more(r, words);
    }
    count_actions(r);
    static const char overdue[] = "A phase took longer than its limit", breached[] = "An objective was breached";
    for (size_t i = 0; i < r->in->doc->n_phases; i++) {
        const PB(IncidentPhaseTime) *p = r->in->doc->phases[i];
        if (p->overdue)
            find(r, false, overdue, p->entered_unix_ms, 1, report_phase_words((int)p->phase));
    }
    bool said = false;
    for (size_t i = 0; i < r->n_findings; i++)
        said = said || strcmp(r->findings[i].words, breached) == 0;
    for (size_t i = 0; i < r->in->doc->n_clocks && !said; i++) {
        const PB(ObjectiveClock) *c = r->in->doc->clocks[i];
        if (c->breached)
            find(r, false, breached, c->started_unix_ms + (int64_t)c->limit_ms, 1,
                 report_objective_words(c->objective));
    }
    if (r->n_told && !r->first_told_ms)
        find(r, false, "Nobody was told: no channel accepted an alert about it", r->told[0].at_ms, 1, "");
}

/* ---- the whole ---- */

static void times(struct report *r)
{
    const PB(IncidentChanged) *d = r->in->doc;
    r->begin_ms = d->evidence_unix_ms > 0 ? d->evidence_unix_ms : r->in->written_ms;
    r->running = d->validated_unix_ms == 0 && d->closed_unix_ms == 0;
    r->over_ms = d->validated_unix_ms ? d->validated_unix_ms
                 : d->closed_unix_ms  ? d->closed_unix_ms
                                      : r->in->written_ms;
    if (r->over_ms < r->begin_ms)
        r->over_ms = r->begin_ms;
    int64_t room = (r->over_ms - r->begin_ms) / 25;
    room = room < 1000 ? 1000 : room;
    r->end_ms = r->over_ms + room;
    r->begin_ms -= room;
}

struct report *report_make(const struct report_input *in)
{
    struct report *r = calloc(1, sizeof *r);
    if (!r)
        return NULL;
    r->in = in;
    r->agents = calloc(in->n_agents + 1, sizeof *r->agents);
    r->spans = calloc(2 * in->trail->n_turns + 1, sizeof *r->spans);
    r->told = calloc(REPORT_TOLD_MAX, sizeof *r->told);
    if (!r->agents || !r->spans || !r->told) {
        report_free(r);
        return NULL;
    }
    times(r);
    impact(r);
    told(r);
    findings(r);
    return r;
}

void report_free(struct report *r)
{
    if (!r)
        return;
    free(r->agents);
    free(r->spans);
    free(r->told);
    free(r);
}
