/* report_md.c - an incident's report in Markdown: the version that people complete; and all proofs as one JSON document. */
#include "common/clock.h"
#include "continuity/report.h"
#include "continuity/report_page.h"
#include <inttypes.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>

struct page {
    const struct report *r;
    struct report_text *o;
};

static void cell(struct page *p, const char *text, size_t max)
{
    report_add(p->o, " ");
    report_md(p->o, text, max);
    report_add(p->o, " |");
}

static void head(struct page *p)
{
    const struct report *r = p->r;
    const PB(IncidentChanged) *d = r->in->doc;
    const struct report_trail *t = r->in->trail;
    char a[REPORT_TIME_MAX], b[REPORT_TIME_MAX];
    report_add(p->o, "# Incident report: ");
    report_md(p->o, *d->summary ? d->summary : d->id, 512);
    report_add(p->o, "\n\n");
    if (t->from_bus) {
        report_add(p->o, "> **No proofs yet.** The audit trail could not be read (");
        report_md(p->o, t->why, 300);
        report_add(p->o, "): the timeline comes from the stream of records. This report is written again when the "
                         "trail can be read.\n\n");
    } else if (t->unproven)
        report_add(p->o, "> The newest records are not covered by a signed checkpoint yet. This report is written "
                         "again when they are.\n\n");
    for (size_t i = 0; i < t->n_chains; i++)
        if (!t->chains[i].whole) {
            report_addf(p->o, "> **A trail does not verify.** Chain `%s`: ", t->chains[i].id);
            report_md(p->o, t->chains[i].problem, 300);
            report_add(p->o, ". Nothing of it is proven here.\n\n");
        }
    if (r->running)
        report_add(p->o, "> The incident is not over: clocks run.\n\n");
    report_add(p->o, "|  |  |\n|---|---|\n| Incident |");
    cell(p, d->id, 64);
    report_add(p->o, "\n| About |");
    cell(p, d->key, 128);
    report_addf(p->o, "\n| Kind | %s%s |\n| Severity | %s |\n| Phase | %s |\n",
                report_kind_words((int)d->failure_kind), d->drill ? " (drill)" : "",
                report_severity_words((int)d->severity), report_phase_words((int)d->phase));
    report_add(p->o, "| Cause |");
    cell(p, d->cause, 512);
    report_add(p->o, "\n| Owner |");
    cell(p, *d->owner ? d->owner : "nobody", 128);
    report_addf(p->o, "\n| First evidence | %s UTC |\n", report_when(d->evidence_unix_ms, a));
    report_addf(p->o, "| Recovered | %s |\n", report_when(d->recovered_unix_ms, a));
    report_addf(p->o, "| Validated | %s |\n", report_when(d->validated_unix_ms, a));
    report_addf(p->o, "| Duration | %s |\n", report_took(r->over_ms - d->evidence_unix_ms, a));
    if (r->first_told_ms)
        report_addf(p->o, "| People told | %s UTC, %s after the first evidence |\n", report_when(r->first_told_ms, a),
                    report_took(r->first_told_ms - d->evidence_unix_ms, b));
    else
        report_add(p->o, "| People told | no delivery on record |\n");
    report_addf(p->o, "| Objectives | %zu of %zu met |\n", r->n_clocks - r->n_breached, r->n_clocks);
    report_addf(p->o, "| Written | %s UTC, by", report_when(r->in->written_ms, a));
    cell(p, r->in->leader, 64);
    report_add(p->o, "\n");
}

static void phases(struct page *p)
{
    const PB(IncidentChanged) *d = p->r->in->doc;
    char a[REPORT_TIME_MAX], b[REPORT_TIME_MAX];
    report_add(p->o, "\n## Phases\n\n| Phase | Entered (UTC) | Took | Passed by | Why |\n|---|---|---|---|---|\n");
    for (size_t i = 0; i < d->n_phases; i++) {
        const PB(IncidentPhaseTime) *x = d->phases[i];
        report_addf(p->o, "| %s | %s | %s%s |", report_phase_words((int)x->phase), report_when(x->entered_unix_ms, a),
                    x->left_unix_ms ? report_took(x->left_unix_ms - x->entered_unix_ms, b) : "present",
                    x->overdue ? " **overdue**" : "");
        cell(p, x->left_by, 128);
        cell(p, x->why, 1024);
        report_add(p->o, "\n");
    }
}

static void clocks(struct page *p)
{
    const PB(IncidentChanged) *d = p->r->in->doc;
    char a[REPORT_TIME_MAX], b[REPORT_TIME_MAX], c[REPORT_TIME_MAX];
    report_add(p->o, "\n## Clocks against objectives\n\n| Objective | Of | Started (UTC) | Ran for | Limit | Share | "
                     "Result |\n|---|---|---|--:|--:|--:|---|\n");
    for (size_t i = 0; i < d->n_clocks; i++) {
        const PB(ObjectiveClock) *x = d->clocks[i];
        bool breached = x->breached || x->elapsed_ms > x->limit_ms;
        report_add(p->o, "|");
        cell(p, report_objective_words(x->objective), 64);
        cell(p, *x->agent ? x->agent : "the suite", 64);
        report_addf(p->o, " %s | %s | %s | %.0f %% | %s |\n", report_when(x->started_unix_ms, a),
                    report_took((int64_t)x->elapsed_ms, b), report_took((int64_t)x->limit_ms, c),
                    x->limit_ms ? (double)x->elapsed_ms * 100 / (double)x->limit_ms : 0.0,
                    breached             ? "**breached**"
                    : x->stopped_unix_ms ? "met"
                                         : "runs");
    }
}

static void impact(struct page *p)
{
    const struct report *r = p->r;
    const struct report_tally *t = &r->sum.tally;
    char a[REPORT_TIME_MAX], b[REPORT_TIME_MAX], c[REPORT_TIME_MAX];
    bool any = false;
    report_add(p->o, "\n## Impact\n\nFunctions that were lost: ");
    for (size_t i = 0; i < r->in->n_functions && i < sizeof r->lost / sizeof *r->lost; i++)
        if (r->lost[i]) {
            report_add(p->o, any ? ", " : "");
            report_md(p->o, r->in->functions[i].name, 64);
            report_add(p->o, r->in->functions[i].critical ? " (critical)" : "");
            any = true;
        }
    report_addf(p->o,
                "%s.\n\nActions, as the gate has recorded them: %" PRIu64 " executed, %" PRIu64 " queued, %" PRIu64
                " replayed, %" PRIu64 " refused, %" PRIu64 " failed, %" PRIu64 " never replayed (dead letters).\n\n",
                any ? "" : "none", t->executed, t->queued, t->replayed, t->refused, t->failed, t->dead);
    report_add(p->o, "| Agent | Full failure | Degraded | LLM fallback | Executed | Queued | Replayed | Refused |\n"
                     "|---|--:|--:|--:|--:|--:|--:|--:|\n");
    size_t shown = 0;
    for (; shown < r->n_agents && shown < REPORT_AGENTS_MAX; shown++) {
        const struct report_agent *x = &r->agents[shown];
        report_add(p->o, "|");
        cell(p, x->name, 64);
        report_addf(p->o, " %s | %s | %s | %" PRIu64 " | %" PRIu64 " | %" PRIu64 " | %" PRIu64 " |\n",
                    x->full_ms ? report_took(x->full_ms, a) : "–",
                    x->degraded_ms ? report_took(x->degraded_ms, b) : "–",
                    x->llm_ms ? report_took(x->llm_ms, c) : "–", x->tally.executed, x->tally.queued,
                    x->tally.replayed, x->tally.refused);
    }
    report_addf(p->o, "| **All** | %s | %s | %s | %" PRIu64 " | %" PRIu64 " | %" PRIu64 " | %" PRIu64 " |\n",
                report_took(r->sum.full_ms, a), report_took(r->sum.degraded_ms, b), report_took(r->sum.llm_ms, c),
                t->executed, t->queued, t->replayed, t->refused);
    size_t all = r->in->doc->agents_total > r->n_agents ? r->in->doc->agents_total : r->n_agents;
    if (all > shown)
        report_addf(p->o, "\n%zu more agents were concerned.\n", all - shown);
}

static void told(struct page *p)
{
    const struct report *r = p->r;
    char a[REPORT_TIME_MAX], b[REPORT_TIME_MAX];
    report_add(p->o, "\n## Alerts: who was told when\n\n");
    if (r->n_told == 0) {
        report_add(p->o, "No alert about it is on record.\n");
        return;
    }
    report_add(p->o, "| When (UTC) | After | Channel | Result | Severity | Alert |\n|---|--:|---|---|---|---|\n");
    for (size_t i = 0; i < r->n_told; i++) {
        const struct report_told *t = &r->told[i];
        report_addf(p->o, "| %s | %s |", report_when(t->at_ms, a),
                    report_took(t->at_ms - r->in->doc->evidence_unix_ms, b));
        cell(p, t->channel, 64);
        report_addf(p->o, " %s |", t->result);
        cell(p, t->severity, 16);
        cell(p, *t->summary ? t->summary : t->key, 512);
        report_add(p->o, "\n");
    }
    if (r->told_left_out)
        report_addf(p->o, "\n%" PRIu64 " more deliveries are in the trail.\n", r->told_left_out);
}

static void findings(struct page *p)
{
    char a[REPORT_TIME_MAX];
    for (int good = 1; good >= 0; good--) {
        size_t n = 0;
        report_add(p->o, good ? "\n## What worked\n\n" : "\n## What did not\n\n");
        for (size_t i = 0; i < p->r->n_findings; i++) {
            const struct report_finding *f = &p->r->findings[i];
            if (f->good != good)
                continue;
            n++;
            report_addf(p->o, "- %s", f->words);
            if (f->n > 1)
                report_addf(p->o, f->more ? " (%" PRIu64 " times and more)" : " (%" PRIu64 " times)", f->n);
            report_addf(p->o, "; first at %s", report_clock(f->first_ms, a));
            if (*f->example) {
                report_add(p->o, ": ");
                report_md(p->o, f->example, 180);
            }
            report_add(p->o, "\n");
        }
        if (n == 0)
            report_add(p->o, "Nothing on record.\n");
    }
}

static size_t notes_of(struct page *p, int kind, bool also_plain)
{
    const PB(IncidentChanged) *d = p->r->in->doc;
    char a[REPORT_TIME_MAX];
    size_t n = 0;
    for (size_t i = 0; i < d->n_notes; i++) {
        const PB(IncidentNote) *x = d->notes[i];
        bool plain = (int)x->kind <= (int)REDOUBT__V1__INCIDENT_NOTE_KIND__INCIDENT_NOTE_KIND_NOTE;
        if ((int)x->kind != kind && !(also_plain && plain))
            continue;
        n++;
        report_addf(p->o, "- %s%s, ", also_plain && !plain ? "**Decision** " : "", report_when(x->at_unix_ms, a));
        report_md(p->o, x->by, 128);
        report_add(p->o, ": ");
        report_md(p->o, x->text, 512);
        report_add(p->o, "\n");
    }
    return n;
}

static void form(struct page *p, const char *begin, const char *text, const char *end)
{
    report_addf(p->o, "%s\n", begin);
    report_add(p->o, text);
    report_addf(p->o, "%s%s\n", *text && text[strlen(text) - 1] == '\n' ? "" : "\n", end);
}

static void people(struct page *p, const struct report_kept *kept)
{
    report_add(p->o, "\n## Decisions and notes\n\n");
    if (notes_of(p, REDOUBT__V1__INCIDENT_NOTE_KIND__INCIDENT_NOTE_KIND_DECISION, true) == 0)
        report_add(p->o, "None were written down.\n");
    report_add(p->o, "\n## Lessons\n\n");
    if (notes_of(p, REDOUBT__V1__INCIDENT_NOTE_KIND__INCIDENT_NOTE_KIND_LESSON, false))
        report_add(p->o, "\n");
    form(p, REPORT_LESSONS_BEGIN, kept->lessons ? kept->lessons : report_lessons_form, REPORT_LESSONS_END);
    report_add(p->o, "\n## Follow-ups\n\n");
    if (notes_of(p, REDOUBT__V1__INCIDENT_NOTE_KIND__INCIDENT_NOTE_KIND_FOLLOW_UP, false))
        report_add(p->o, "\n");
    form(p, REPORT_FOLLOW_UPS_BEGIN, kept->follow_ups ? kept->follow_ups : report_follow_ups_form,
         REPORT_FOLLOW_UPS_END);
}

static void timeline(struct page *p)
{
    const struct report_trail *t = p->r->in->trail;
    char at[CLOCK_TEXT_MAX], text[1024], a[REPORT_TIME_MAX], leaf[65];
    report_add(
        p->o,
        "\n## Timeline\n\nFrom the audit trail, by time. `#` is the record's place in its chain; with the "
        "leaf's hash it is what the proof in the file `.proofs.json` beside this one is about.\n\n"
        "| Time (UTC) | Service | What | On | By | In detail | # | Leaf |\n|---|---|---|---|---|---|--:|---|\n");
    for (size_t i = 0; i < t->n; i++) {
        const struct report_line *l = &t->lines[i];
        const PB(AuditRecord) *r = l->r;
        report_addf(p->o, "| %s |", clock_text(r->at_unix_ms, at));
        cell(p, r->service, 64);
        report_add(p->o, " ");
        report_md(p->o, r->action, 64);
        if (r->outcome != REDOUBT__V1__AUDIT_OUTCOME__AUDIT_OUTCOME_DONE)
            report_addf(p->o, " (%s)", report_outcome_words((int)r->outcome));
        report_add(p->o, " |");
        cell(p, r->subject, 128);
        cell(p, r->actor, 128);
        cell(p, report_line_words(r, text), 700);
        if (l->seq) {
            sodium_bin2hex(leaf, sizeof leaf, l->leaf, sizeof l->leaf);
            report_addf(p->o, " %" PRIu64 "%s | `%.16s` |\n", l->seq, l->proof ? "" : " (no proof yet)", leaf);
        } else
            report_add(p->o, " – | no proof |\n");
    }
    if (t->left_out) {
        report_addf(p->o, "\n%s more records are not listed one by one:", report_number(t->left_out, a));
        for (size_t i = 0; i < t->n_others; i++) {
            report_addf(p->o, "%s %s × ", i ? "," : "", report_number(t->others[i].n, a));
            report_md(p->o, t->others[i].action, 64);
        }
        report_add(p->o, ". `redoubt audit search` shows them.\n");
    }
    if (t->n_chains)
        report_add(p->o, "\n## Trails that were read\n\n| Chain | Directory | Records | Covered | Verified |\n"
                         "|---|---|--:|--:|---|\n");
    for (size_t i = 0; i < t->n_chains; i++) {
        const struct report_chain *c = &t->chains[i];
        report_addf(p->o, "| `%s` |", c->id);
        cell(p, c->dir, 256);
        report_addf(p->o, " %" PRIu64 " | %" PRIu64 " | %s |\n", c->records, c->covered,
                    c->whole ? "whole" : "**not whole**");
    }
}

void report_md_write(const struct report *r, const struct report_kept *kept, struct report_text *out)
{
    struct page p = {r, out};
    head(&p);
    findings(&p);
    clocks(&p);
    phases(&p);
    impact(&p);
    told(&p);
    people(&p, kept);
    timeline(&p);
}

/* ---- proofs ---- */

/* Proofs are JSON already: they are put in as they are. */
void report_proofs_write(const struct report *r, struct report_text *out)
{
    const struct report_trail *t = r->in->trail;
    char leaf[65];
    bool any = false;
    report_add(out, "{\n\"format\": \"redoubt-incident-proofs/1\",\n\"incident\": \"");
    report_add(out, r->in->doc->id); /* a token */
    report_add(out, "\",\n\"proofs\": [");
    for (size_t i = 0; i < t->n; i++) {
        const struct report_line *l = &t->lines[i];
        if (!l->proof || l->trail >= t->n_chains)
            continue;
        sodium_bin2hex(leaf, sizeof leaf, l->leaf, sizeof l->leaf);
        report_addf(out, "%s\n{\"chain\": \"%s\", \"sequence\": %" PRIu64 ", \"leaf\": \"%s\", \"proof\":\n",
                    any ? "," : "", t->chains[l->trail].id, l->seq, leaf);
        report_add(out, l->proof);
        report_add(out, "}");
        any = true;
    }
    report_add(out, "]\n}\n");
}
