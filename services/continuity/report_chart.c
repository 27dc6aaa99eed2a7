/* report_chart.c - an incident as a picture: phases as bands, agents or how many of them as lanes, alerts and people's decisions as marks, clocks with
 * their limits, one axis of time. Inline SVG; the page's style colours it, also in the dark. */
#include "continuity/report.h"
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define WIDTH     1080
#define LEFT      190
#define RIGHT     1050
#define LANE      22
#define LANES_MAX 12 /* agents with a lane of their own; more are counted */
#define STACK     120
#define COLUMNS   430
#define LABEL_MAX 24
#define MARKS_MAX 200

struct chart {
    const struct report *r;
    struct report_text *o;
    int y;
};

static double x_of(const struct chart *c, int64_t at_ms)
{
    int64_t from = c->r->begin_ms, to = c->r->end_ms;
    at_ms = at_ms < from ? from : at_ms > to ? to : at_ms;
    return LEFT + (double)(at_ms - from) * (RIGHT - LEFT) / (double)(to - from);
}

static const char *class_of(unsigned condition)
{
    return condition & 1 ? "c-full" : condition & 2 ? "c-degraded" : "c-llm";
}

static void label(struct chart *c, int y, const char *text)
{
    report_addf(c->o, "<text class=\"l\" x=\"%d\" y=\"%d\" text-anchor=\"end\">", LEFT - 12, y);
    report_html(c->o, text, LABEL_MAX);
    report_add(c->o, "</text>");
}

static void bar(struct chart *c, const char *class, int64_t from_ms, int64_t to_ms, int y, int height)
{
    double x = x_of(c, from_ms), w = x_of(c, to_ms) - x;
    report_addf(c->o, "<rect class=\"%s\" x=\"%.1f\" y=\"%d\" width=\"%.1f\" height=\"%d\" rx=\"3\">", class, x, y,
                w < 2 ? 2 : w, height);
}

static void span_title(struct chart *c, const char *what, int64_t from_ms, int64_t to_ms)
{
    char a[REPORT_TIME_MAX], b[REPORT_TIME_MAX], took[REPORT_TIME_MAX];
    report_add(c->o, "<title>");
    report_html(c->o, what, 120);
    report_addf(c->o, ": %s to %s, %s</title></rect>\n", report_clock(from_ms, a), report_clock(to_ms, b),
                report_took(to_ms - from_ms, took));
}

/* ---- the axis ---- */

static int64_t step_of(int64_t span_ms)
{
    static const int steps_s[] = {1,    2,    5,    10,    15,    30,    60,    120,    300,    600,     900,
                                  1800, 3600, 7200, 10800, 21600, 43200, 86400, 172800, 604800, 1209600, 2592000};
    size_t n = sizeof steps_s / sizeof *steps_s;
    for (size_t i = 0; i < n; i++)
        if (span_ms / (steps_s[i] * INT64_C(1000)) <= 8)
            return steps_s[i] * INT64_C(1000);
    return (span_ms / 8 / 86400000 + 1) * 86400000;
}

static void axis(struct chart *c, int top)
{
    int64_t step = step_of(c->r->end_ms - c->r->begin_ms);
    char text[32] = "", day[32] = "", was[32] = "";
    for (int64_t at = (c->r->begin_ms / step + 1) * step; at <= c->r->end_ms; at += step) {
        time_t s = (time_t)(at / 1000);
        struct tm tm;
        double x = x_of(c, at);
        if (!gmtime_r(&s, &tm))
            continue;
        strftime(day, sizeof day, "%e %b %Y", &tm);
        if (step >= 86400000)
            strftime(text, sizeof text, "%e %b", &tm);
        else if (step < 60000)
            strftime(text, sizeof text, "%H:%M:%S", &tm);
        else
            strftime(text, sizeof text, "%H:%M", &tm);
        report_addf(c->o,
                    "<line class=\"grid\" x1=\"%.1f\" x2=\"%.1f\" y1=\"%d\" y2=\"%d\"/>"
                    "<text class=\"t\" x=\"%.1f\" y=\"%d\" text-anchor=\"middle\">%s</text>\n",
                    x, x, top, c->y, x, c->y + 18, text);
        if (step < 86400000 && strcmp(day, was) != 0)
            report_addf(c->o, "<text class=\"t\" x=\"%.1f\" y=\"%d\" text-anchor=\"middle\">%s</text>\n", x,
                        c->y + 33, day);
        memcpy(was, day, sizeof was);
    }
    report_addf(c->o, "<line class=\"axis\" x1=\"%d\" x2=\"%d\" y1=\"%d\" y2=\"%d\"/>\n", LEFT, RIGHT, c->y, c->y);
    label(c, c->y + 18, "UTC");
    c->y += 44;
}

/* ---- lanes ---- */

static void phases(struct chart *c)
{
    static const char *const classes[] = {"p0", "p1", "p2", "p3", "p4", "p5", "p5"};
    const PB(IncidentChanged) *d = c->r->in->doc;
    label(c, c->y + 17, "Phases");
    for (size_t i = 0; i < d->n_phases; i++) {
        const PB(IncidentPhaseTime) *p = d->phases[i];
        int64_t to = p->left_unix_ms ? p->left_unix_ms : c->r->end_ms;
        size_t k = (size_t)p->phase;
        const char *words = report_phase_words((int)p->phase);
        if (p->entered_unix_ms >= c->r->end_ms)
            continue;
        double x = x_of(c, p->entered_unix_ms), w = x_of(c, to) - x;
        bar(c, classes[k < 7 ? k : 0], p->entered_unix_ms, to, c->y, 26);
        span_title(c, words, p->entered_unix_ms, to);
        if (w > 9.0 * (double)strlen(words))
            report_addf(c->o, "<text class=\"in\" x=\"%.1f\" y=\"%d\" text-anchor=\"middle\">%s</text>\n", x + w / 2,
                        c->y + 17, words);
    }
    c->y += 38;
}

static void agent_lanes(struct chart *c)
{
    const struct report *r = c->r;
    for (size_t i = 0; i < r->n_agents && i < LANES_MAX; i++) {
        const struct report_agent *a = &r->agents[i];
        if (!a->full_ms && !a->degraded_ms && !a->llm_ms)
            continue;
        label(c, c->y + 14, a->name);
        report_addf(c->o, "<rect class=\"lane\" x=\"%d\" y=\"%d\" width=\"%d\" height=\"%d\" rx=\"3\"/>\n", LEFT,
                    c->y + 2, RIGHT - LEFT, LANE - 6);
        for (size_t k = 0; k < r->n_spans; k++) {
            const struct report_span *s = &r->spans[k];
            if (s->agent != a->index)
                continue;
            bar(c, class_of(s->condition), s->from_ms, s->to_ms, c->y + 2, LANE - 6);
            span_title(c, report_condition_words(s->condition), s->from_ms, s->to_ms);
        }
        c->y += LANE;
    }
    c->y += 10;
}

static int column(const struct chart *c, int64_t at_ms)
{
    int at = (int)((x_of(c, at_ms) - LEFT) * COLUMNS / (RIGHT - LEFT));
    return at < 0 ? 0 : at >= COLUMNS ? COLUMNS - 1 : at;
}

static void path(struct chart *c, const char *class, const int *low, const int *high, int most)
{
    const double w = (double)(RIGHT - LEFT) / COLUMNS, h = (double)(STACK - 10) / most;
    report_addf(c->o, "<path class=\"%s\" d=\"M%d %d", class, LEFT, c->y + STACK);
    for (int i = 0; i < COLUMNS; i++)
        if (i == 0 || high[i] != high[i - 1])
            report_addf(c->o, "H%.1fV%.1f", LEFT + i * w, c->y + STACK - high[i] * h);
    report_addf(c->o, "H%d", RIGHT);
    for (int i = COLUMNS - 1; i >= 0; i--)
        if (i == COLUMNS - 1 || low[i] != low[i + 1])
            report_addf(c->o, "H%.1fV%.1f", LEFT + (i + 1) * w, c->y + STACK - low[i] * h);
    report_addf(c->o, "H%dZ\"/>\n", LEFT);
}

/* Many agents: how many are in which condition, one upon the other. */
static void stack(struct chart *c)
{
    static const unsigned bits[] = {1, 2, 4};
    static const int zero[COLUMNS];
    int edge[3][COLUMNS + 1] = {{0}}, high[3][COLUMNS], most = 1;
    char text[64];
    for (size_t i = 0; i < c->r->n_spans; i++) {
        const struct report_span *s = &c->r->spans[i];
        int k = s->condition & 1 ? 0 : s->condition & 2 ? 1 : 2;
        int from = column(c, s->from_ms), to = column(c, s->to_ms);
        edge[k][from]++;
        edge[k][to > from ? to : from + 1]--; /* what is short is seen all the same */
    }
    for (int k = 0; k < 3; k++)
        for (int i = 0, sum = 0; i < COLUMNS; i++) {
            sum += edge[k][i];
            high[k][i] = sum + (k ? high[k - 1][i] : 0);
            most = high[k][i] > most ? high[k][i] : most;
        }
    label(c, c->y + 18, "Agents concerned");
    snprintf(text, sizeof text, "up to %zu at once", (size_t)most < c->r->n_agents ? (size_t)most : c->r->n_agents);
    label(c, c->y + 34, text);
    report_addf(c->o, "<rect class=\"lane\" x=\"%d\" y=\"%d\" width=\"%d\" height=\"%d\" rx=\"3\"/>\n", LEFT, c->y,
                RIGHT - LEFT, STACK);
    for (int k = 0; k < 3; k++)
        path(c, class_of(bits[k]), k ? high[k - 1] : zero, high[k], most);
    c->y += STACK + 14;
}

/* No records of agents: what the clocks know. */
static void condition_lanes(struct chart *c)
{
    static const struct {
        const char *objective;
        unsigned condition;
    } rows[] = {{"mad_full", 1}, {"mad_degraded", 2}, {"mad_llm_fallback", 4}};
    const PB(IncidentChanged) *d = c->r->in->doc;
    for (size_t k = 0; k < 3; k++)
        for (size_t i = 0; i < d->n_clocks; i++) {
            const PB(ObjectiveClock) *x = d->clocks[i];
            if (strcmp(x->objective, rows[k].objective) != 0)
                continue;
            int64_t to = x->stopped_unix_ms ? x->stopped_unix_ms : c->r->over_ms;
            label(c, c->y + 14, report_condition_words(rows[k].condition));
            bar(c, class_of(rows[k].condition), x->started_unix_ms, to, c->y + 2, LANE - 6);
            span_title(c, report_condition_words(rows[k].condition), x->started_unix_ms, to);
            c->y += LANE;
        }
    c->y += 10;
}

static int severity_of(const char *name)
{
    static const char *const names[] = {"", "info", "warning", "high", "critical"};
    for (int i = 1; i < 5; i++)
        if (strcasecmp(names[i], name) == 0)
            return i;
    return 2;
}

static void alerts(struct chart *c)
{
    char at[REPORT_TIME_MAX];
    label(c, c->y + 14, "People told");
    for (size_t i = 0; i < c->r->n_told && i < MARKS_MAX; i++) {
        const struct report_told *t = &c->r->told[i];
        double x = x_of(c, t->at_ms);
        report_addf(c->o,
                    t->accepted ? "<circle class=\"s%d\" cx=\"%.1f\" cy=\"%d\" r=\"5\">"
                                : "<circle class=\"s%d miss\" cx=\"%.1f\" cy=\"%d\" r=\"5\">",
                    severity_of(t->severity), x, c->y + 10);
        report_addf(c->o, "<title>%s ", report_clock(t->at_ms, at));
        report_html(c->o, t->channel, 64);
        report_addf(c->o, ", %s: ", t->result);
        report_html(c->o, *t->summary ? t->summary : t->key, 160);
        report_add(c->o, "</title></circle>\n");
    }
    c->y += 26;
}

static void notes(struct chart *c)
{
    const PB(IncidentChanged) *d = c->r->in->doc;
    char at[REPORT_TIME_MAX];
    if (d->n_notes == 0)
        return;
    label(c, c->y + 14, "Decisions, notes");
    for (size_t i = 0; i < d->n_notes; i++) {
        double x = x_of(c, d->notes[i]->at_unix_ms);
        report_addf(c->o, "<path class=\"note\" d=\"M%.1f %dl6 6l-6 6l-6 -6Z\"><title>%s ", x, c->y + 4,
                    report_clock(d->notes[i]->at_unix_ms, at));
        report_html(c->o, d->notes[i]->by, 64);
        report_add(c->o, ": ");
        report_html(c->o, d->notes[i]->text, 160);
        report_add(c->o, "</title></path>\n");
    }
    c->y += 26;
}

static void clock_lane(struct chart *c, const PB(ObjectiveClock) * x)
{
    int64_t to = x->stopped_unix_ms ? x->stopped_unix_ms : c->r->over_ms,
            limit = x->started_unix_ms + (int64_t)x->limit_ms;
    char text[160], a[REPORT_TIME_MAX], b[REPORT_TIME_MAX];
    bool breached = x->breached || x->elapsed_ms > x->limit_ms;
    label(c, c->y + 14, report_objective_brief(x->objective));
    bar(c, breached ? "k bad" : "k", x->started_unix_ms, to, c->y + 4, LANE - 10);
    span_title(c, report_objective_words(x->objective), x->started_unix_ms, to);
    if (limit <= c->r->end_ms) {
        report_addf(c->o, "<line class=\"limit\" x1=\"%.1f\" x2=\"%.1f\" y1=\"%d\" y2=\"%d\"/>\n", x_of(c, limit),
                    x_of(c, limit), c->y + 1, c->y + LANE - 3);
        if (limit > to)
            report_addf(c->o, "<text class=\"t\" x=\"%.1f\" y=\"%d\">limit</text>\n", x_of(c, limit) + 5, c->y + 14);
    }
    snprintf(text, sizeof text, "%s of %s", report_took((int64_t)x->elapsed_ms, a),
             report_took((int64_t)x->limit_ms, b));
    double from = x_of(c, x->started_unix_ms), end = x_of(c, to), width = 6.4 * (double)strlen(text);
    bool inside = end - from > width + 16;
    double at = inside ? from + 8 : end + 8 + width < RIGHT ? end + 8 : from - 8;
    report_addf(c->o, "<text class=\"%s\" x=\"%.1f\" y=\"%d\" text-anchor=\"%s\">%s</text>\n", inside ? "in" : "t",
                at, c->y + 14, at < from ? "end" : "start", text);
    c->y += LANE;
}

void report_chart_write(const struct report *r, struct report_text *out)
{
    struct chart c = {.r = r, .y = 8};
    struct report_text body = {0};
    const PB(IncidentChanged) *d = r->in->doc;
    char from[REPORT_TIME_MAX], took[REPORT_TIME_MAX];
    size_t lanes = 0;
    c.o = &body;
    phases(&c);
    for (size_t i = 0; i < r->n_agents; i++)
        lanes += r->agents[i].full_ms || r->agents[i].degraded_ms || r->agents[i].llm_ms;
    if (lanes == 0)
        condition_lanes(&c);
    else if (lanes <= LANES_MAX)
        agent_lanes(&c);
    else
        stack(&c);
    alerts(&c);
    notes(&c);
    for (size_t i = 0; i < d->n_clocks; i++)
        clock_lane(&c, d->clocks[i]);
    c.y += 6;
    struct report_text grid = {0};
    c.o = &grid;
    axis(&c, 4);
    report_addf(out,
                "<svg viewBox=\"0 0 %d %d\" role=\"img\" aria-labelledby=\"chart-title chart-desc\" "
                "xmlns=\"http://www.w3.org/2000/svg\">\n<title id=\"chart-title\">Timeline of incident ",
                WIDTH, c.y);
    report_html(out, d->id, 64);
    report_addf(out,
                "</title>\n<desc id=\"chart-desc\">From the first evidence at %s UTC, %s: %zu phases, %zu agents "
                "concerned, %zu alerts, %zu clocks. The tables below say the same.</desc>\n",
                report_when(d->evidence_unix_ms, from), report_took(r->over_ms - d->evidence_unix_ms, took),
                d->n_phases, lanes ? lanes : (size_t)d->agents_total, r->n_told, d->n_clocks);
    report_add(out, grid.s ? grid.s : "");
    report_add(out, body.s ? body.s : "");
    report_add(out, "</svg>\n");
    out->failed = out->failed || grid.failed || body.failed;
    free(grid.s);
    free(body.s);
}
