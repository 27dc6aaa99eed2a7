/* report_html.c - an incident's report as one page that needs nothing else: no script, no address, every text escaped. */
#include "common/clock.h"
#include "continuity/report.h"
#include "continuity/report_page.h"
#include <inttypes.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>

#define PROOFS_INLINE (1024 * 1024) /* of the page; all of them are in the file beside it */
#define TEXT          1024

struct page {
    const struct report *r;
    struct report_text *o;
};

/* ---- the head ---- */

static void head(struct page *p)
{
    const PB(IncidentChanged) *d = p->r->in->doc;
    report_page_begin(p->o, "Incident report", *d->summary ? d->summary : d->id);
    report_addf(p->o, "<p class=\"meta\"><span class=\"badge sev%d\">%s</span><span class=\"badge\">%s</span>",
                (int)d->severity, report_severity_words((int)d->severity), report_kind_words((int)d->failure_kind));
    report_addf(p->o, "<span class=\"badge\">%s</span>", report_phase_words((int)d->phase));
    if (d->drill)
        report_add(p->o, "<span class=\"badge\">drill</span>");
    report_add(p->o, "<code>");
    report_html(p->o, d->id, 64);
    report_add(p->o, "</code><span>about <code>");
    report_html(p->o, d->key, 128);
    report_add(p->o, "</code></span>");
    if (*d->owner) {
        report_add(p->o, "<span>owner ");
        report_html(p->o, d->owner, 128);
        report_add(p->o, "</span>");
    }
    report_add(p->o, "</p>\n");
}

static void notices(struct page *p)
{
    const struct report_trail *t = p->r->in->trail;
    if (t->from_bus) {
        report_add(p->o, "<p class=\"notice\"><strong>No proofs yet.</strong> The audit trail could not be read (");
        report_html(p->o, t->why, 300);
        report_add(p->o, "): the timeline comes from the stream of records. This report is written again when the "
                         "trail can be read.</p>\n");
    } else if (t->unproven)
        report_add(p->o, "<p class=\"notice\">The newest records are not covered by a signed checkpoint yet. This "
                         "report is written again when they are.</p>\n");
    for (size_t i = 0; i < t->n_chains; i++)
        if (!t->chains[i].whole) {
            report_add(p->o, "<p class=\"notice\"><strong>A trail does not verify.</strong> Chain <code>");
            report_html(p->o, t->chains[i].id, 64);
            report_add(p->o, "</code>: ");
            report_html(p->o, t->chains[i].problem, 300);
            report_add(p->o, ". Nothing of it is proven here.</p>\n");
        }
    if (p->r->running)
        report_add(p->o, "<p class=\"notice\">The incident is not over: clocks run.</p>\n");
}

static void cards(struct page *p)
{
    const struct report *r = p->r;
    const PB(IncidentChanged) *d = r->in->doc;
    char a[REPORT_TIME_MAX], b[REPORT_TIME_MAX];
    size_t proven = 0;
    for (size_t i = 0; i < r->in->trail->n; i++)
        proven += r->in->trail->lines[i].proof != NULL;
    report_add(p->o, "<dl class=\"cards\">\n");
    report_addf(p->o, "<div><dt>Duration</dt><dd>%s<small>first evidence to %s</small></dd></div>\n",
                report_took(r->over_ms - d->evidence_unix_ms, a), r->running ? "this report" : "validation");
    report_addf(p->o,
                "<div><dt>Agents concerned</dt><dd>%s<small>%s agent time not in full function</small></dd></div>\n",
                report_number(d->agents_total ? d->agents_total : r->n_agents, a),
                report_took(r->sum.full_ms + r->sum.degraded_ms + r->sum.llm_ms, b));
    report_addf(p->o, "<div><dt>People told</dt><dd>%s<small>%s</small></dd></div>\n",
                r->first_told_ms ? report_took(r->first_told_ms - d->evidence_unix_ms, a) : "—",
                r->first_told_ms ? "after the first evidence" : "no delivery on record");
    report_addf(p->o, "<div><dt>Objectives met</dt><dd>%zu of %zu<small>%s</small></dd></div>\n",
                r->n_clocks - r->n_breached, r->n_clocks,
                r->n_breached ? "breached: see the clocks" : "none breached");
    const struct report_tally *t = &r->sum.tally;
    report_addf(p->o,
                "<div><dt>Actions that waited</dt><dd>%s<small>%" PRIu64 " replayed, %" PRIu64
                " refused</small></dd></div>\n",
                report_number(t->queued, a), t->replayed, t->refused);
    report_addf(p->o, "<div><dt>Proven records</dt><dd>%s<small>of %zu listed</small></dd></div>\n</dl>\n",
                report_number(proven, a), r->in->trail->n);
}

/* ---- sections ---- */

static void chart(struct page *p)
{
    report_page_section(p->o, "glance", "At a glance");
    report_add(p->o, "<figure class=\"scroll\">\n");
    report_chart_write(p->r, p->o);
    report_add(p->o,
               "<figcaption><span style=\"--c:var(--full)\">full failure</span><span "
               "style=\"--c:var(--degraded)\">degraded</span><span style=\"--c:var(--llm)\">LLM fallback</span>"
               "<span style=\"--c:var(--note)\">notes and decisions</span><span style=\"--c:var(--p1)\">clocks, "
               "with their limits</span></figcaption></figure>\n");
}

static void phases(struct page *p)
{
    const PB(IncidentChanged) *d = p->r->in->doc;
    char a[REPORT_TIME_MAX], b[REPORT_TIME_MAX];
    report_page_section(p->o, "phases", "Phases");
    static const char *const columns[] = {"Phase", "Entered", "Took", "Passed by", "Why"};
    report_page_table(p->o, "How the incident was walked through. Times are UTC.", columns, 5, 0);
    for (size_t i = 0; i < d->n_phases; i++) {
        const PB(IncidentPhaseTime) *x = d->phases[i];
        report_addf(p->o, "<tr><th scope=\"row\">%s</th><td class=\"w\">%s</td><td class=\"w\">%s%s</td><td>",
                    report_phase_words((int)x->phase), report_when(x->entered_unix_ms, a),
                    x->left_unix_ms ? report_took(x->left_unix_ms - x->entered_unix_ms, b) : "present",
                    x->overdue ? " <span class=\"badge sev3\">overdue</span>" : "");
        report_html(p->o, x->left_by, 128);
        report_add(p->o, "</td><td>");
        report_html(p->o, x->why, TEXT);
        report_add(p->o, "</td></tr>\n");
    }
    report_page_table_end(p->o);
}

static void clocks(struct page *p)
{
    const PB(IncidentChanged) *d = p->r->in->doc;
    char a[REPORT_TIME_MAX], b[REPORT_TIME_MAX], c[REPORT_TIME_MAX];
    report_page_section(p->o, "clocks", "Clocks against objectives");
    static const char *const columns[] = {"Objective", "Started", "Ran for", "Limit", "Share", "Result"};
    report_page_table(p->o, "Clocks start at the first evidence and stop when validation has passed.", columns, 6, 0);
    for (size_t i = 0; i < d->n_clocks; i++) {
        const PB(ObjectiveClock) *x = d->clocks[i];
        bool breached = x->breached || x->elapsed_ms > x->limit_ms;
        double share = x->limit_ms ? (double)x->elapsed_ms * 100 / (double)x->limit_ms : 0;
        report_add(p->o, "<tr><th scope=\"row\">");
        report_html(p->o, report_objective_words(x->objective), 64);
        if (*x->agent) {
            report_add(p->o, "<br><small>of ");
            report_html(p->o, x->agent, 64);
            report_add(p->o, "</small>");
        }
        report_addf(
            p->o,
            "</th><td class=\"w\">%s</td><td class=\"w\">%s</td><td class=\"w\">%s</td><td>%.0f&nbsp;%%<span "
            "class=\"meter%s\"><i style=\"width:%.1f%%\"></i></span></td><td><span class=\"badge %s\">%s</span>"
            "</td></tr>\n",
            report_when(x->started_unix_ms, a), report_took((int64_t)x->elapsed_ms, b),
            report_took((int64_t)x->limit_ms, c), share,
            breached      ? " bad"
            : share >= 50 ? " warn"
                          : "",
            share > 100 ? 100.0 : share,
            breached             ? "no"
            : x->stopped_unix_ms ? "yes"
                                 : "",
            breached             ? "breached"
            : x->stopped_unix_ms ? "met"
                                 : "runs");
    }
    report_page_table_end(p->o);
}

static void impact(struct page *p)
{
    const struct report *r = p->r;
    char a[REPORT_TIME_MAX], b[REPORT_TIME_MAX], c[REPORT_TIME_MAX];
    report_page_section(p->o, "impact", "Impact");
    report_add(p->o, "<p>Functions that were lost: ");
    bool any = false;
    for (size_t i = 0; i < r->in->n_functions && i < 32; i++)
        if (r->lost[i]) {
            report_add(p->o, any ? ", " : "");
            report_add(p->o, "<strong>");
            report_html(p->o, r->in->functions[i].name, 64);
            report_addf(p->o, "</strong>%s", r->in->functions[i].critical ? " (critical)" : "");
            any = true;
        }
    report_add(p->o, any ? ".</p>\n" : "none.</p>\n");
    const struct report_tally *t = &r->sum.tally;
    report_addf(p->o,
                "<p>Actions, as the gate has recorded them: %" PRIu64 " executed, %" PRIu64 " queued, %" PRIu64
                " replayed, %" PRIu64 " refused, %" PRIu64 " failed, %" PRIu64
                " never replayed (dead letters).</p>\n",
                t->executed, t->queued, t->replayed, t->refused, t->failed, t->dead);
    static const char *const columns[] = {"Agent",    "Full failure", "Degraded", "LLM fallback",
                                          "Executed", "Queued",       "Replayed", "Refused"};
    report_page_table(p->o,
                      "How long each agent was in which condition (the worst counts), the most affected first; and "
                      "what became of its actions.",
                      columns, 8, 0xfe);
    for (size_t i = 0; i < r->n_agents && i < REPORT_AGENTS_MAX; i++) {
        const struct report_agent *x = &r->agents[i];
        report_add(p->o, "<tr><th scope=\"row\">");
        report_html(p->o, x->name, 64);
        report_addf(
            p->o,
            "</th><td class=\"n\">%s</td><td class=\"n\">%s</td><td class=\"n\">%s</td><td class=\"n\">%" PRIu64
            "</td><td class=\"n\">%" PRIu64 "</td><td class=\"n\">%" PRIu64 "</td><td class=\"n\">%" PRIu64
            "</td></tr>\n",
            x->full_ms ? report_took(x->full_ms, a) : "–", x->degraded_ms ? report_took(x->degraded_ms, b) : "–",
            x->llm_ms ? report_took(x->llm_ms, c) : "–", x->tally.executed, x->tally.queued, x->tally.replayed,
            x->tally.refused);
    }
    report_page_table_end(p->o);
    size_t all = r->in->doc->agents_total > r->n_agents ? r->in->doc->agents_total : r->n_agents;
    size_t shown = r->n_agents < REPORT_AGENTS_MAX ? r->n_agents : REPORT_AGENTS_MAX;
    if (all > shown)
        report_addf(p->o, "<p>%zu more agents were concerned.</p>\n", all - shown);
}

static void told(struct page *p)
{
    const struct report *r = p->r;
    char a[REPORT_TIME_MAX], b[REPORT_TIME_MAX];
    report_page_section(p->o, "alerts", "Alerts: who was told when");
    if (r->n_told == 0) {
        report_add(p->o, "<p>No alert about it is on record.</p>\n");
        return;
    }
    static const char *const columns[] = {"When", "After", "Channel", "Result", "Severity", "Alert"};
    report_page_table(p->o, "One line for each channel that answered. A channel that accepts has told people.",
                      columns, 6, 0);
    for (size_t i = 0; i < r->n_told; i++) {
        const struct report_told *t = &r->told[i];
        report_addf(p->o, "<tr><td class=\"w\">%s</td><td class=\"w\">%s</td><th scope=\"row\">",
                    report_when(t->at_ms, a), report_took(t->at_ms - r->in->doc->evidence_unix_ms, b));
        report_html(p->o, t->channel, 64);
        report_add(p->o, " <small>");
        report_html(p->o, t->kind, 32);
        report_addf(p->o, "</small></th><td><span class=\"badge %s\">%s</span></td><td>", t->accepted ? "yes" : "no",
                    t->result);
        report_html(p->o, t->severity, 16);
        report_add(p->o, "</td><td>");
        report_html(p->o, *t->summary ? t->summary : t->key, 512);
        if (*t->answer) {
            report_add(p->o, "<br><small>");
            report_html(p->o, t->answer, 200);
            report_add(p->o, "</small>");
        }
        report_add(p->o, "</td></tr>\n");
    }
    report_page_table_end(p->o);
    if (r->told_left_out)
        report_addf(p->o, "<p>%" PRIu64 " more deliveries are in the trail.</p>\n", r->told_left_out);
}

static void findings(struct page *p)
{
    char a[REPORT_TIME_MAX];
    report_add(p->o, "<div class=\"cols\">\n");
    for (int good = 1; good >= 0; good--) {
        size_t n = 0;
        report_add(p->o, "<div>\n");
        report_page_section(p->o, good ? "worked" : "failed", good ? "What worked" : "What did not");
        report_addf(p->o, "<ul class=\"find %s\">\n", good ? "good" : "bad");
        for (size_t i = 0; i < p->r->n_findings; i++) {
            const struct report_finding *f = &p->r->findings[i];
            if (f->good != good)
                continue;
            n++;
            report_addf(p->o, "<li>%s", f->words);
            if (f->n > 1)
                report_addf(p->o, f->more ? " (%" PRIu64 " times and more)" : " (%" PRIu64 " times)", f->n);
            report_addf(p->o, "<small>%s%s", report_clock(f->first_ms, a), *f->example ? " " : "");
            report_html(p->o, f->example, 180);
            report_add(p->o, "</small></li>\n");
        }
        report_add(p->o, n ? "</ul>\n</div>\n" : "</ul>\n<p>Nothing on record.</p>\n</div>\n");
    }
    report_add(p->o, "</div>\n");
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
        report_add(p->o, "<blockquote>");
        report_html_lines(p->o, x->text, 512);
        report_addf(p->o, "<footer>%s%s, ", also_plain ? plain ? "note, " : "decision, " : "",
                    report_when(x->at_unix_ms, a));
        report_html(p->o, x->by, 128);
        report_add(p->o, "</footer></blockquote>\n");
    }
    return n;
}

static void people(struct page *p, const struct report_kept *kept)
{
    report_page_section(p->o, "decisions", "Decisions and notes");
    if (notes_of(p, REDOUBT__V1__INCIDENT_NOTE_KIND__INCIDENT_NOTE_KIND_DECISION, true) == 0)
        report_add(p->o, "<p>None were written down.</p>\n");
    static const struct {
        const char *id, *title, *form;
        int kind;
    } rows[] = {
        {"lessons", "Lessons", report_lessons_form, REDOUBT__V1__INCIDENT_NOTE_KIND__INCIDENT_NOTE_KIND_LESSON},
        {"follow-ups", "Follow-ups", report_follow_ups_form,
         REDOUBT__V1__INCIDENT_NOTE_KIND__INCIDENT_NOTE_KIND_FOLLOW_UP}};
    for (size_t i = 0; i < 2; i++) {
        const char *text = i ? kept->follow_ups : kept->lessons;
        report_page_section(p->o, rows[i].id, rows[i].title);
        size_t n = notes_of(p, rows[i].kind, false);
        if (text) {
            report_add(p->o, "<div class=\"fill\">");
            report_html_lines(p->o, text, 65536);
            report_add(p->o, "</div>\n");
        } else if (n == 0)
            report_addf(p->o,
                        "<p>Still to be written: in the Markdown file beside this page, or with <code>redoubt "
                        "incident note --%s</code>.</p>\n",
                        i ? "follow-up" : "lesson");
    }
}

static void proof(struct page *p, const struct report_line *l, size_t *room)
{
    const struct report_trail *t = p->r->in->trail;
    const struct report_chain *c = l->trail < t->n_chains ? &t->chains[l->trail] : NULL;
    char leaf[65];
    if (!l->seq || !c) {
        report_add(p->o, "none");
        return;
    }
    sodium_bin2hex(leaf, sizeof leaf, l->leaf, sizeof l->leaf);
    report_addf(p->o,
                "<details><summary>#%" PRIu64
                "%s</summary><dl><dt>Chain</dt><dd><code>%s</code></dd><dt>Sequence</dt><dd>%" PRIu64
                "</dd><dt>Leaf</dt><dd><code>%s</code></dd></dl>",
                l->seq, l->proof ? "" : " (not yet)", c->id, l->seq, leaf);
    if (l->proof && strlen(l->proof) <= *room) {
        *room -= strlen(l->proof);
        report_add(p->o, "<pre>");
        report_html_lines(p->o, l->proof, SIZE_MAX / 2);
        report_add(p->o, "</pre>");
    } else if (l->proof)
        report_add(p->o, "<p>Its proof is in the file <code>.proofs.json</code> beside this page.</p>");
    report_add(p->o, "</details>");
}

static void timeline(struct page *p)
{
    const struct report_trail *t = p->r->in->trail;
    char at[CLOCK_TEXT_MAX], text[1024], a[REPORT_TIME_MAX];
    size_t room = PROOFS_INLINE;
    report_page_section(p->o, "timeline", "Timeline");
    static const char *const columns[] = {"Time (UTC)", "Service", "What", "On", "By", "In detail", "Proof"};
    report_page_table(p->o, "From the audit trail, by time; each line with its place in the signed trail.", columns,
                      7, 0);
    for (size_t i = 0; i < t->n; i++) {
        const PB(AuditRecord) *r = t->lines[i].r;
        clock_text(r->at_unix_ms, at);
        report_addf(p->o, "<tr><td><time datetime=\"%s\">%s.%03d</time></td><td class=\"w\">", at,
                    report_clock(r->at_unix_ms, a), (int)(r->at_unix_ms % 1000));
        report_html(p->o, r->service, 64);
        report_add(p->o, "</td><th scope=\"row\">");
        report_html(p->o, r->action, 64);
        if (r->outcome != REDOUBT__V1__AUDIT_OUTCOME__AUDIT_OUTCOME_DONE)
            report_addf(p->o, " <span class=\"badge%s\">%s</span>",
                        r->outcome == REDOUBT__V1__AUDIT_OUTCOME__AUDIT_OUTCOME_INTENDED ? "" : " no",
                        report_outcome_words((int)r->outcome));
        report_add(p->o, "</th><td>");
        report_html(p->o, strncmp(r->action, "alert.", 6) == 0 ? "" : r->subject, 128);
        report_add(p->o, "</td><td>");
        report_html(p->o, r->actor, 128);
        report_add(p->o, "</td><td class=\"d\">");
        report_html(p->o, report_line_words(r, text), 700);
        report_add(p->o, "</td><td>");
        proof(p, &t->lines[i], &room);
        report_add(p->o, "</td></tr>\n");
    }
    report_page_table_end(p->o);
    if (t->left_out) {
        report_addf(p->o, "<p>%s more records are not listed one by one:", report_number(t->left_out, a));
        for (size_t i = 0; i < t->n_others; i++) {
            report_addf(p->o, "%s %s × ", i ? "," : "", report_number(t->others[i].n, a));
            report_html(p->o, t->others[i].action, 64);
        }
        report_add(p->o, ". <code>redoubt audit search</code> shows them.</p>\n");
    }
}

static void evidence(struct page *p)
{
    const struct report_trail *t = p->r->in->trail;
    report_page_section(p->o, "evidence", "How to check this");
    report_add(
        p->o,
        "<p>Each line's proof shows that its record is in the tree that a signed checkpoint names. Save it "
        "to a file and run <code>redoubt audit proof --check FILE</code>; neither this suite nor its trail is needed "
        "for that. All proofs are in the file <code>.proofs.json</code> beside this page.</p>\n");
    if (t->n_chains == 0)
        return;
    static const char *const columns[] = {"Chain", "Directory", "Records", "Covered by its checkpoint", "Verified"};
    report_page_table(p->o, "Trails that were read, each from its first byte to its last.", columns, 5, 0x0c);
    for (size_t i = 0; i < t->n_chains; i++) {
        const struct report_chain *c = &t->chains[i];
        report_addf(p->o, "<tr><th scope=\"row\"><code>%s</code></th><td><code>", c->id);
        report_html(p->o, c->dir, 256);
        report_addf(p->o,
                    "</code></td><td class=\"n\">%" PRIu64 "</td><td class=\"n\">%" PRIu64
                    "</td><td><span class=\"badge %s\">%s</span></td></tr>\n",
                    c->records, c->covered, c->whole ? "yes" : "no", c->whole ? "whole" : "not whole");
    }
    report_page_table_end(p->o);
}

void report_html_write(const struct report *r, const struct report_kept *kept, struct report_text *out)
{
    struct page p = {r, out};
    char text[200], at[REPORT_TIME_MAX];
    head(&p);
    notices(&p);
    cards(&p);
    report_add(out, "</header>\n<main>\n");
    chart(&p);
    findings(&p);
    clocks(&p);
    phases(&p);
    impact(&p);
    told(&p);
    people(&p, kept);
    timeline(&p);
    evidence(&p);
    snprintf(text, sizeof text, "Written %s UTC by %.64s.", report_when(r->in->written_ms, at), r->in->leader);
    report_page_end(out, text);
}
