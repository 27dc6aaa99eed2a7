/* report_month_html.c - a month's availability as a page with two pictures: its days, and the agents that had the least. */
#include "continuity/report.h"
#include "continuity/report_month.h"
#include "continuity/report_page.h"
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define WIDTH 1080
#define LEFT  190
#define RIGHT 940

/* ---- pictures ---- */

static void days(const struct report_month *m, struct report_text *o)
{
    const double w = (double)(WIDTH - 20) / 31;
    char name[32];
    report_addf(
        o,
        "<figure class=\"scroll\"><svg viewBox=\"0 0 %d 62\" role=\"img\" aria-labelledby=\"days-title "
        "days-desc\" xmlns=\"http://www.w3.org/2000/svg\">\n<title id=\"days-title\">Days of %s</title><desc "
        "id=\"days-desc\">One square for each day, by the worst incident that was open. The table of incidents "
        "says the same.</desc>\n",
        WIDTH, report_month_name(m->month, name));
    for (int i = 0; i < m->days && i < 31; i++) {
        bool ahead = m->partial && m->from_ms + i * INT64_C(86400000) > m->written_ms;
        char class[16];
        snprintf(class, sizeof class, m->worst_of_day[i] ? "s%d" : ahead ? "lane" : "good", m->worst_of_day[i]);
        report_addf(o, "<rect class=\"%s\" x=\"%.1f\" y=\"4\" width=\"%.1f\" height=\"34\" rx=\"5\"><title>", class,
                    10 + i * w, w - 4);
        if (m->incidents_of_day[i])
            report_addf(o, "%d: %u incidents, the worst %s", i + 1, m->incidents_of_day[i],
                        report_severity_words(m->worst_of_day[i]));
        else
            report_addf(o, "%d: %s", i + 1, ahead ? "still to come" : "no incident");
        report_addf(o, "</title></rect><text class=\"t\" x=\"%.1f\" y=\"56\" text-anchor=\"middle\">%d</text>\n",
                    10 + i * w + (w - 4) / 2, i + 1);
    }
    report_add(o, "</svg><figcaption><span style=\"--c:var(--good)\">no incident</span><span "
                  "style=\"--c:var(--llm)\">info</span><span style=\"--c:#d9a92c\">warning</span><span "
                  "style=\"--c:var(--degraded)\">high</span><span style=\"--c:var(--full)\">critical</span>"
                  "</figcaption></figure>\n");
}

static void bars(const struct report_month *m, struct report_text *o)
{
    int64_t most = 1;
    int n = 0;
    char a[REPORT_TIME_MAX], share[32];
    for (size_t i = 0; i < m->n_agents && n < MONTH_BARS; i++) {
        const struct availability_month *x = &m->agents[i].m;
        int64_t sum = x->full_ms + x->degraded_ms + x->llm_ms;
        most = sum > most ? sum : most;
        n += sum > 0;
    }
    if (n == 0) {
        report_add(o, "<p>Every agent was in full function all the time that is known.</p>\n");
        return;
    }
    report_addf(
        o,
        "<figure class=\"scroll\"><svg viewBox=\"0 0 %d %d\" role=\"img\" aria-labelledby=\"bars-title "
        "bars-desc\" xmlns=\"http://www.w3.org/2000/svg\">\n<title id=\"bars-title\">Agents with the least "
        "availability</title><desc id=\"bars-desc\">Time in each condition; the longest bar is %s. The table of "
        "agents says the same.</desc>\n",
        WIDTH, 12 + 26 * n, report_took(most, a));
    int y = 4;
    for (size_t i = 0; i < m->n_agents && n > 0; i++) {
        const struct availability_month *x = &m->agents[i].m;
        const struct {
            int64_t ms;
            const char *class, *words;
        } parts[] = {{x->full_ms, "c-full", "full failure"},
                     {x->degraded_ms, "c-degraded", "degraded"},
                     {x->llm_ms, "c-llm", "LLM fallback"}};
        double at = LEFT;
        if (x->full_ms + x->degraded_ms + x->llm_ms == 0)
            continue;
        n--;
        report_addf(o, "<text class=\"l\" x=\"%d\" y=\"%d\" text-anchor=\"end\">", LEFT - 12, y + 15);
        report_html(o, m->agents[i].name, 24);
        report_addf(o, "</text><rect class=\"lane\" x=\"%d\" y=\"%d\" width=\"%d\" height=\"18\" rx=\"3\"/>", LEFT,
                    y + 2, RIGHT - LEFT);
        for (size_t k = 0; k < 3; k++) {
            double w = (double)parts[k].ms * (RIGHT - LEFT) / (double)most;
            if (parts[k].ms == 0)
                continue;
            report_addf(o,
                        "<rect class=\"%s\" x=\"%.1f\" y=\"%d\" width=\"%.1f\" height=\"18\" rx=\"2\"><title>%s: "
                        "%s</title></rect>",
                        parts[k].class, at, y + 2, w < 1 ? 1 : w, parts[k].words, report_took(parts[k].ms, a));
            at += w;
        }
        report_addf(o, "<text class=\"t\" x=\"%d\" y=\"%d\">%s</text>\n", RIGHT + 12, y + 15,
                    report_share(x, false, share));
        y += 26;
    }
    report_add(o, "</svg><figcaption><span style=\"--c:var(--full)\">full failure</span><span "
                  "style=\"--c:var(--degraded)\">degraded</span><span style=\"--c:var(--llm)\">LLM fallback</span>"
                  "</figcaption></figure>\n");
}

/* ---- sections ---- */

static void cards(const struct report_month *m, struct report_text *o)
{
    char s[32], a[REPORT_TIME_MAX];
    uint32_t clocks = 0, breached = 0;
    for (int i = 0; i < SET_OBJECTIVES; i++) {
        clocks += m->objectives[i].clocks;
        breached += m->objectives[i].breached;
    }
    report_addf(
        o, "<dl class=\"cards\">\n<div><dt>Availability</dt><dd>%s<small>not in full failure</small></dd></div>\n",
        report_share(&m->sum, false, s));
    report_addf(o, "<div><dt>Full function</dt><dd>%s<small>in no condition</small></dd></div>\n",
                report_share(&m->sum, true, s));
    report_addf(o, "<div><dt>Incidents</dt><dd>%u<small>and %u drills; %zu agents</small></dd></div>\n", m->n_real,
                m->n_drill, m->n_agents);
    report_addf(o, "<div><dt>Mean recovery</dt><dd>%s<small>validation included</small></dd></div>\n",
                m->mttr_ms < 0 ? "—" : report_took(m->mttr_ms, a));
    report_addf(o, "<div><dt>Between incidents</dt><dd>%s<small>mean</small></dd></div>\n",
                m->mtbf_ms < 0 ? "—" : report_took(m->mtbf_ms, a));
    report_addf(o,
                "<div><dt>Objectives</dt><dd>%u of %u<small>clocks within their limits</small></dd></div>\n</dl>\n",
                clocks - breached, clocks);
}

static void objectives(const struct report_month *m, struct report_text *o)
{
    static const char *const columns[] = {"Objective", "Clocks", "Breached", "Running", "Worst", "Limit", "Result"};
    char a[REPORT_TIME_MAX], b[REPORT_TIME_MAX];
    report_page_section(o, "objectives", "Objectives");
    report_page_table(o, "Clocks of the month's incidents and drills.", columns, 7, 0x3e);
    for (int i = 0; i < SET_OBJECTIVES; i++) {
        const struct month_objective *x = &m->objectives[i];
        if (!x->clocks)
            continue;
        report_addf(
            o,
            "<tr><th scope=\"row\">%s</th><td class=\"n\">%u</td><td class=\"n\">%u</td><td class=\"n\">%u</td>"
            "<td class=\"n\">%s</td><td class=\"n\">%s</td><td><span class=\"badge %s\">%s</span></td></tr>\n",
            report_objective_words(settings_objectives[i]), x->clocks, x->breached, x->running,
            report_took(x->worst_ms, a), report_took(x->worst_limit_ms, b), x->breached ? "no" : "yes",
            x->breached ? "breached" : "met");
    }
    report_page_table_end(o);
}

static void agents(const struct report_month *m, struct report_text *o)
{
    static const char *const columns[] = {"Agent",    "Availability", "Full function", "Full failure",
                                          "Degraded", "LLM fallback", "Incidents"};
    char s[2][32], a[3][REPORT_TIME_MAX];
    report_page_section(o, "agents", "Agents");
    report_page_table(o, "The least available first. An agent in several conditions counts once, for the worst.",
                      columns, 7, 0x7e);
    for (size_t i = 0; i < m->n_agents && i < MONTH_AGENTS_SHOWN; i++) {
        const struct month_agent *x = &m->agents[i];
        report_add(o, "<tr><th scope=\"row\">");
        report_html(o, x->name, 64);
        report_addf(
            o,
            "</th><td class=\"n\">%s</td><td class=\"n\">%s</td><td class=\"n\">%s</td><td class=\"n\">%s</td>"
            "<td class=\"n\">%s</td><td class=\"n\">%u</td></tr>\n",
            report_share(&x->m, false, s[0]), report_share(&x->m, true, s[1]),
            x->m.full_ms ? report_took(x->m.full_ms, a[0]) : "–",
            x->m.degraded_ms ? report_took(x->m.degraded_ms, a[1]) : "–",
            x->m.llm_ms ? report_took(x->m.llm_ms, a[2]) : "–", x->m.incidents);
    }
    report_page_table_end(o);
    if (m->n_agents > MONTH_AGENTS_SHOWN)
        report_addf(o, "<p>%zu more agents are in the CSV file beside this page.</p>\n",
                    m->n_agents - MONTH_AGENTS_SHOWN);
}

static void incidents(const struct report_month *m, struct report_text *o)
{
    static const char *const columns[] = {"Incident", "First evidence (UTC)", "Took", "Kind", "Severity", "Agents",
                                          "Breached"};
    char a[REPORT_TIME_MAX], b[REPORT_TIME_MAX];
    report_page_section(o, "incidents", "Incidents");
    if (m->n_incidents == 0) {
        report_add(o, "<p>None.</p>\n");
        return;
    }
    report_page_table(o, "Those that were open in this month, drills included.", columns, 7, 0x60);
    for (size_t i = 0; i < m->n_incidents && i < MONTH_INCIDENTS_SHOWN; i++) {
        const struct month_incident *x = &m->incidents[i];
        report_add(o, "<tr><th scope=\"row\">");
        report_html(o, *x->summary ? x->summary : x->id, 160);
        report_add(o, "<br><small><code>");
        report_html(o, x->id, 32);
        report_addf(o,
                    "</code></small></th><td class=\"w\">%s</td><td class=\"w\">%s</td><td>%s%s</td><td><span "
                    "class=\"badge sev%d\">%s</span></td><td class=\"n\">%u</td><td class=\"n\">%u</td></tr>\n",
                    report_when(x->evidence_ms, a),
                    x->validated_ms ? report_took(x->validated_ms - x->evidence_ms, b) : "open",
                    report_kind_words(x->kind), x->drill ? " (drill)" : "", x->severity,
                    report_severity_words(x->severity), x->agents, x->breached);
    }
    report_page_table_end(o);
    if (m->n_incidents > MONTH_INCIDENTS_SHOWN)
        report_addf(o, "<p>%zu more are not listed.</p>\n", m->n_incidents - MONTH_INCIDENTS_SHOWN);
}

static void backups(const struct report_month *m, struct report_text *o)
{
    static const char *const columns[] = {"Source",       "Kind", "Newest verified point (UTC)",
                                          "Test restore", "Took", "State"};
    char a[REPORT_TIME_MAX], b[REPORT_TIME_MAX], c[REPORT_TIME_MAX];
    report_page_section(o, "backups", "Backups");
    if (m->n_backups == 0) {
        report_add(o, "<p>None are set.</p>\n");
        return;
    }
    report_page_table(o, "As they stand when this is written.", columns, 6, 0x10);
    for (size_t i = 0; i < m->n_backups; i++) {
        const struct month_backup *x = &m->backups[i];
        bool good = !*x->error && !x->suspicious;
        report_add(o, "<tr><th scope=\"row\">");
        report_html(o, x->source, 64);
        report_addf(o,
                    "</th><td>%s</td><td class=\"w\">%s</td><td class=\"w\">%s</td><td class=\"n\">%s</td><td><span "
                    "class=\"badge %s\">%s</span> ",
                    report_backup_kind(x->kind), report_when(x->verified_ms, a), report_when(x->tested_ms, b),
                    x->test_took_ms > 0 ? report_took(x->test_took_ms, c) : "–", good ? "yes" : "no",
                    *x->error ? "failing"
                    : good    ? "good"
                              : "suspicious");
        report_html(o, x->error, 128);
        report_add(o, "</td></tr>\n");
    }
    report_page_table_end(o);
}

static void drills(const struct report_month *m, struct report_text *o)
{
    static const char *const columns[] = {"Drill", "Ended (UTC)", "Result", "What came of it"};
    char a[REPORT_TIME_MAX];
    report_page_section(o, "drills", "Drills");
    if (m->n_drills == 0) {
        report_add(o, "<p>None ended in this month.</p>\n");
        return;
    }
    report_page_table(o, "Game days.", columns, 4, 0);
    for (size_t i = 0; i < m->n_drills; i++) {
        const struct month_drill *x = &m->drills[i];
        report_add(o, "<tr><th scope=\"row\">");
        report_html(o, x->name, 64);
        report_addf(o, "</th><td class=\"w\">%s</td><td><span class=\"badge %s\">%s</span></td><td>",
                    report_when(x->ended_ms, a), x->passed ? "yes" : "no", x->passed ? "passed" : "failed");
        report_html(o, x->result, 128);
        report_add(o, "</td></tr>\n");
    }
    report_page_table_end(o);
}

void report_month_html(const struct report_month *m, struct report_text *o)
{
    char title[64], name[32], text[256], at[REPORT_TIME_MAX];
    snprintf(title, sizeof title, "Availability in %s", report_month_name(m->month, name));
    report_page_begin(o, "Monthly report", title);
    if (m->partial)
        report_add(o, "<p class=\"notice\">The month is not over: these are its figures so far.</p>\n");
    cards(m, o);
    report_add(o, "</header>\n<main>\n");
    report_page_section(o, "days", "Day by day");
    days(m, o);
    report_page_section(o, "least", "Agents with the least");
    bars(m, o);
    objectives(m, o);
    incidents(m, o);
    backups(m, o);
    drills(m, o);
    agents(m, o);
    snprintf(text, sizeof text, "Written %s UTC by %.128s.", report_when(m->written_ms, at), m->leader);
    report_page_end(o, text);
}
