/* incident_view.c - an incident in words. */
#include "cli/incident_view.h"
#include "cli/cli.h"
#include "cli/event_line.h"
#include <ctype.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define PHASE(x)    REDOUBT__V1__INCIDENT_PHASE__INCIDENT_PHASE_##x
#define SEVERITY(x) REDOUBT__V1__SEVERITY__SEVERITY_##x
#define PERCENT_MAX 9999
#define ID_SHOWN    64

static const struct {
    const char *name, *words;
} objectives[] = {
    {"mad_full", "full failure"},         {"mad_degraded", "degraded mode"},
    {"mad_llm_fallback", "LLM fallback"}, {"rto_critical", "critical functions back"},
    {"rto_full", "all functions back"},   {"rto_data", "data back"},
    {"rpo_learning", "learning data"},    {"rpo_audit", "audit trail"},
    {"rpo_config", "configuration"},
};

/* Appends; what does not fit is cut. */
__attribute__((format(printf, 2, 3))) static void add(char buf[static INCIDENT_VIEW_TEXT], const char *fmt, ...)
{
    size_t n = strlen(buf);
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(buf + n, INCIDENT_VIEW_TEXT - n, fmt, ap);
    va_end(ap);
}

const char *incident_view_objective(const char *objective)
{
    for (size_t i = 0; i < sizeof objectives / sizeof objectives[0]; i++)
        if (strcmp(objectives[i].name, objective) == 0)
            return objectives[i].words;
    return objective;
}

enum term_colour incident_view_colour(int severity, int phase)
{
    if (phase == PHASE(CLOSED))
        return TERM_DIM;
    if (phase == PHASE(LEARN))
        return TERM_CYAN;
    return severity >= SEVERITY(HIGH) ? TERM_RED : TERM_YELLOW;
}

/* ---- clocks ---- */

bool incident_view_runs(const PB(ObjectiveClock) * c)
{
    return c->stopped_unix_ms == 0;
}

unsigned incident_view_percent(const PB(ObjectiveClock) * c)
{
    if (c->limit_ms == 0)
        return c->elapsed_ms > 0 ? PERCENT_MAX : 0;
    /* Elapsed may be anything in a message: no product that could overflow. */
    double p = (double)c->elapsed_ms * 100.0 / (double)c->limit_ms;
    return p >= PERCENT_MAX ? PERCENT_MAX : (unsigned)p;
}

enum term_colour incident_view_clock_colour(const PB(ObjectiveClock) * c)
{
    if (c->breached)
        return TERM_RED;
    if (!incident_view_runs(c))
        return TERM_GREEN;
    return incident_view_percent(c) >= 50 ? TERM_YELLOW : TERM_PLAIN;
}

char *incident_view_bar(const PB(ObjectiveClock) * c, char buf[static INCIDENT_VIEW_TEXT])
{
    unsigned p = incident_view_percent(c), shown = p > 100 ? 100 : p;
    unsigned full = shown * INCIDENT_VIEW_BAR / 100;
    if (full == 0 && c->elapsed_ms > 0)
        full = 1; /* little is not nothing */
    if (full == INCIDENT_VIEW_BAR && p < 100)
        full--;
    *buf = 0;
    add(buf, "[");
    for (unsigned i = 0; i < INCIDENT_VIEW_BAR; i++)
        add(buf, "%c", i < full ? '#' : '-');
    add(buf, "] %3u %%", p);
    return buf;
}

static int64_t signed_ms(uint64_t ms)
{
    return ms > INT64_MAX ? INT64_MAX : (int64_t)ms;
}

char *incident_view_clock(const PB(ObjectiveClock) * c, char buf[static INCIDENT_VIEW_TEXT])
{
    char took[32], limit[32], rest[32];
    bool over = c->elapsed_ms > c->limit_ms;
    cli_span(signed_ms(over ? c->elapsed_ms - c->limit_ms : c->limit_ms - c->elapsed_ms), rest, sizeof rest);
    cli_span(signed_ms(c->elapsed_ms), took, sizeof took);
    cli_span(signed_ms(c->limit_ms), limit, sizeof limit);
    *buf = 0;
    if (!incident_view_runs(c))
        add(buf, "stopped after %s of %s: %s", took, limit, c->breached ? "BREACHED" : "met");
    else if (over)
        add(buf, "%s of %s: BREACHED, %s over", took, limit, rest);
    else
        add(buf, "%s of %s, %s left", took, limit, rest);
    return buf;
}

size_t incident_view_nearest(const PB(IncidentChanged) * m)
{
    size_t best = m->n_clocks;
    for (size_t i = 0; i < m->n_clocks; i++) {
        const PB(ObjectiveClock) *c = m->clocks[i], *b = best < m->n_clocks ? m->clocks[best] : NULL;
        bool better =
            !b || (incident_view_runs(c) && !incident_view_runs(b)) ||
            (incident_view_runs(c) == incident_view_runs(b) && incident_view_percent(c) > incident_view_percent(b));
        if (better)
            best = i;
    }
    return best;
}

/* ---- the whole ---- */

char *incident_view_about(const char *key, const char *summary, char buf[static INCIDENT_VIEW_TEXT])
{
    *buf = 0;
    add(buf, "%s%s%s", key, *key && *summary ? ": " : "", summary);
    return buf;
}

char *incident_view_where(const PB(IncidentChanged) * m, char buf[static INCIDENT_VIEW_TEXT])
{
    *buf = 0;
    add(buf, "%s", EVENT_NAME(incident_phase, m->phase));
    if (*m->gate && m->phase != PHASE(CLOSED))
        add(buf, ": %s", m->gate);
    return buf;
}

char *incident_view_agents(const PB(IncidentChanged) * m, size_t most, char buf[static INCIDENT_VIEW_TEXT])
{
    size_t shown = m->n_agents < most ? m->n_agents : most;
    size_t all = m->agents_total > m->n_agents ? m->agents_total : m->n_agents;
    *buf = 0;
    for (size_t i = 0; i < shown; i++)
        add(buf, "%s%s", i ? ", " : "", m->agents[i]);
    if (all > shown)
        add(buf, shown ? " and %zu more" : "%zu", all - shown);
    if (all == 0)
        add(buf, "none");
    return buf;
}

char *incident_view_line(const PB(IncidentChanged) * m, char buf[static INCIDENT_VIEW_TEXT])
{
    char text[INCIDENT_VIEW_TEXT];
    size_t at = incident_view_nearest(m);
    *buf = 0;
    if (m->previous != PHASE(UNSPECIFIED) && m->previous != m->phase)
        add(buf, "%s -> ", EVENT_NAME(incident_phase, m->previous));
    add(buf, "%s %s%s", EVENT_NAME(incident_phase, m->phase), EVENT_NAME(severity, m->severity),
        m->drill ? " DRILL" : "");
    if (m->failure_kind != REDOUBT__V1__FAILURE_KIND__FAILURE_KIND_UNSPECIFIED)
        add(buf, " (%s)", EVENT_NAME(failure_kind, m->failure_kind));
    if (*m->key || *m->summary)
        add(buf, " %s", incident_view_about(m->key, m->summary, text));
    if (m->agents_total > 0)
        add(buf, " [%u agent%s]", m->agents_total, m->agents_total == 1 ? "" : "s");
    if (at < m->n_clocks && m->phase != PHASE(CLOSED))
        add(buf, "; %s %s", m->clocks[at]->objective, incident_view_clock(m->clocks[at], text));
    if (*m->gate && m->phase != PHASE(CLOSED))
        add(buf, "; %s", m->gate);
    if (*m->owner)
        add(buf, "; owner %s", m->owner);
    return buf;
}

static bool over(int phase)
{
    return phase == PHASE(LEARN) || phase == PHASE(CLOSED);
}

bool incident_view_problem(const PB(IncidentLine) * l, char buf[static INCIDENT_VIEW_TEXT])
{
    char text[INCIDENT_VIEW_TEXT];
    *buf = 0;
    if (over((int)l->phase) || l->drill)
        return false;
    add(buf, "incident %s (%s) is in %s", l->id, l->key, EVENT_NAME(incident_phase, l->phase));
    if (l->nearest)
        add(buf, ", %s %s", l->nearest->objective, incident_view_clock(l->nearest, text));
    if (*l->summary)
        add(buf, ": %s", l->summary);
    if (!*l->owner)
        add(buf, "; nobody owns it");
    return true;
}

/* ---- how to go on ---- */

static const char *plain_id(const PB(IncidentChanged) * m, char buf[static ID_SHOWN + 1])
{
    size_t n = strspn(m->id, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-");
    snprintf(buf, ID_SHOWN + 1, "%.*s", (int)(n < ID_SHOWN ? n : ID_SHOWN), m->id);
    return buf;
}

bool incident_view_next(const PB(IncidentChanged) * m, size_t i, char buf[static INCIDENT_VIEW_TEXT])
{
    char id[ID_SHOWN + 1];
    bool learns = m->phase == PHASE(LEARN);
    plain_id(m, id);
    *buf = 0;
    if (m->phase == PHASE(CLOSED) || *id == 0)
        return false;
    if (!*m->owner && i-- == 0)
        add(buf, "redoubt incident assign %s WHO --by NAME --reason TEXT    nobody owns it", id);
    else if (i == 0 && learns)
        add(buf,
            "redoubt incident note %s TEXT --lesson --by NAME    what was learned; --follow-up: what is to be done",
            id);
    else if (i == 0)
        add(buf, "redoubt incident note %s TEXT --by NAME    write down what is known; --decision: what was decided",
            id);
    else if (i == 1 && learns)
        add(buf, "redoubt incident close %s --by NAME --reason TEXT    when nothing is left to be learned", id);
    else if (i == 1)
        add(buf, "redoubt incident advance %s --by NAME --reason TEXT    go on without what it waits for", id);
    return *buf != 0;
}

int incident_view_word(const ProtobufCEnumDescriptor *desc, const char *word)
{
    for (unsigned i = 0; i < desc->n_values; i++) {
        const char *name = wire_enum_name(desc, desc->values[i].value);
        size_t k = 0;
        if (desc->values[i].value == 0 || strcmp(name, "UNSPECIFIED") == 0)
            continue;
        while (word[k] && name[k] &&
               (toupper((unsigned char)word[k]) == name[k] || (word[k] == '-' && name[k] == '_')))
            k++;
        if (!word[k] && !name[k] && k > 0)
            return desc->values[i].value;
    }
    return -1;
}
