/* cmd_incident.c - redoubt incident list, show, note, assign, advance, close, open. */
#include "cli/cmd.h"
#include "cli/continuity_ask.h"
#include "cli/event_line.h"
#include "cli/incident_view.h"
#include "cli/status_view.h"
#include "common/clock.h"
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#define COUNT(rows)  (sizeof(rows) / sizeof((rows)[0]))
#define PHASE(x)     REDOUBT__V1__INCIDENT_PHASE__INCIDENT_PHASE_##x
#define NOTE(x)      REDOUBT__V1__INCIDENT_NOTE_KIND__INCIDENT_NOTE_KIND_##x
#define AGENTS_SHOWN 12
#define WHO_REQUIRED "--by NAME and --reason TEXT are required: they land in the audit trail"

static void print_json(json_t *j)
{
    json_dumpf(j, stdout, JSON_COMPACT);
    putchar('\n');
    json_decref(j);
}

static const char *ago(int64_t unix_ms, int64_t now, char *buf, size_t size)
{
    if (unix_ms <= 0)
        snprintf(buf, size, "-");
    else
        cli_span(now > unix_ms ? now - unix_ms : 0, buf, size);
    return buf;
}

/* On stderr if nobody answered: what follows may be old, and clocks have run on. */
static void say_live(const struct cli *c, bool live)
{
    if (!live)
        cli_fail(c, 0, "redoubt-continuity does not answer: this is what it announced last");
}

/* ---- list ---- */

static void print_lines(const struct incident_lines *l, const struct term *t, bool all)
{
    static const struct term_column columns[] = {{"ID", false},    {"SEVERITY", false}, {"PHASE", false},
                                                 {"AGE", true},    {"AGENTS", true},    {"OWNER", false},
                                                 {"CLOCK", false}, {"", false},         {"ABOUT", false}};
    int64_t now = clock_wall_ms();
    char span[32], bar[INCIDENT_VIEW_TEXT];
    if (l->n == 0) {
        printf("%s\n", all ? "no incident is known" : "no incident is open");
        return;
    }
    struct term_table *tab = term_table_begin(columns, COUNT(columns));
    for (size_t i = 0; i < l->n; i++) {
        const PB(IncidentLine) *x = l->at[i];
        term_cell(tab, TERM_BOLD, "%s", x->id);
        term_cell(tab, incident_view_colour((int)x->severity, (int)x->phase), "%s%s",
                  EVENT_NAME(severity, x->severity), x->drill ? " drill" : "");
        term_cell(tab, incident_view_colour((int)x->severity, (int)x->phase), "%s",
                  EVENT_NAME(incident_phase, x->phase));
        term_cell(tab, TERM_PLAIN, "%s", ago(x->evidence_unix_ms, now, span, sizeof span));
        term_cell(tab, TERM_PLAIN, "%u", x->agents_total);
        term_cell(tab, *x->owner || x->phase == PHASE(CLOSED) ? TERM_PLAIN : TERM_YELLOW, "%s",
                  *x->owner ? x->owner : "nobody");
        term_cell(tab, TERM_PLAIN, "%s", x->nearest ? x->nearest->objective : "-");
        term_cell(tab, x->nearest ? incident_view_clock_colour(x->nearest) : TERM_DIM, "%s",
                  x->nearest ? incident_view_bar(x->nearest, bar) : "");
        term_cell(tab, TERM_PLAIN, "%s", incident_view_about(x->key, x->summary, bar));
    }
    term_table_end(tab, t, "");
    if (l->more)
        printf("there are more: -n N shows as many (%u open, %u in all)\n", l->open, l->in_all);
}

int cmd_incident_list(struct cli *c, const void *opts, int argc, char **argv)
{
    (void)argc, (void)argv;
    const struct opts_incident *o = opts;
    struct incident_lines l = {0};
    struct cli_link link;
    int code = cli_link_open(&link, c);
    if (code == CLI_OK && (code = incident_ask_lines(&link, o->all, (size_t)o->count, &l)) == CLI_OK) {
        say_live(c, l.live);
        if (o->json) {
            json_t *list = json_array();
            for (size_t i = 0; i < l.n; i++)
                json_array_append_new(list, status_message_json(l.at[i]));
            print_json(json_pack("{s:I, s:I, s:b, s:b, s:o}", "open", (json_int_t)l.open, "inAll",
                                 (json_int_t)l.in_all, "more", l.more, "live", l.live, "incidents", list));
        } else {
            print_lines(&l, &c->out, o->all);
        }
    }
    incident_lines_free(&l);
    cli_link_close(&link);
    return code;
}

/* ---- show ---- */

__attribute__((format(printf, 2, 3))) static void line(const char *what, const char *fmt, ...)
{
    char raw[2 * INCIDENT_VIEW_TEXT], clean[2 * INCIDENT_VIEW_TEXT];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(raw, sizeof raw, fmt, ap);
    va_end(ap);
    if (*raw)
        printf("%-11s %s\n", what, term_clean(raw, 0, clean, sizeof clean));
}

static void print_clocks(const PB(IncidentChanged) * m, const struct term *t)
{
    static const struct term_column columns[] = {{"CLOCK", false},   {"", false},   {"", false},
                                                 {"STARTED", false}, {"OF", false}, {"WHAT", false}};
    int64_t now = clock_wall_ms();
    char text[INCIDENT_VIEW_TEXT], at[EVENT_TIME_MAX];
    if (m->n_clocks == 0)
        return;
    putchar('\n');
    struct term_table *tab = term_table_begin(columns, COUNT(columns));
    for (size_t i = 0; i < m->n_clocks; i++) {
        const PB(ObjectiveClock) *k = m->clocks[i];
        term_cell(tab, TERM_BOLD, "%s", k->objective);
        term_cell(tab, incident_view_clock_colour(k), "%s", incident_view_bar(k, text));
        term_cell(tab, incident_view_clock_colour(k), "%s", incident_view_clock(k, text));
        term_cell(tab, TERM_PLAIN, "%s", event_time(k->started_unix_ms, now, at));
        term_cell(tab, TERM_PLAIN, "%s", *k->agent ? k->agent : "the suite");
        term_cell(tab, TERM_DIM, "%s", incident_view_objective(k->objective));
    }
    term_table_end(tab, t, "");
}

static void print_phases(const PB(IncidentChanged) * m, const struct term *t)
{
    static const struct term_column columns[] = {
        {"PHASE", false}, {"ENTERED", false}, {"TOOK", true}, {"BY", false}, {"WHY", false}};
    int64_t now = clock_wall_ms();
    char span[32], at[EVENT_TIME_MAX];
    if (m->n_phases == 0)
        return;
    putchar('\n');
    struct term_table *tab = term_table_begin(columns, COUNT(columns));
    for (size_t i = 0; i < m->n_phases; i++) {
        const PB(IncidentPhaseTime) *p = m->phases[i];
        int64_t until = p->left_unix_ms ? p->left_unix_ms : now;
        term_cell(tab, p->left_unix_ms ? TERM_PLAIN : TERM_BOLD, "%s%s", EVENT_NAME(incident_phase, p->phase),
                  p->overdue ? " (overdue)" : "");
        term_cell(tab, TERM_PLAIN, "%s", event_time(p->entered_unix_ms, now, at));
        term_cell(tab, p->overdue ? TERM_RED : TERM_PLAIN, "%s",
                  cli_span(until > p->entered_unix_ms ? until - p->entered_unix_ms : 0, span, sizeof span));
        term_cell(tab, TERM_PLAIN, "%s", *p->left_by ? p->left_by : "-");
        term_cell(tab, TERM_PLAIN, "%s",
                  p->left_unix_ms || m->phase == PHASE(CLOSED) ? p->why
                  : *m->gate                                   ? m->gate
                                                               : p->why);
    }
    term_table_end(tab, t, "");
}

static void print_notes(const PB(IncidentChanged) * m, const struct term *t)
{
    static const struct term_column columns[] = {{"NOTED", false}, {"BY", false}, {"KIND", false}, {"TEXT", false}};
    int64_t now = clock_wall_ms();
    char at[EVENT_TIME_MAX];
    if (m->n_notes == 0)
        return;
    putchar('\n');
    struct term_table *tab = term_table_begin(columns, COUNT(columns));
    for (size_t i = 0; i < m->n_notes; i++) {
        const PB(IncidentNote) *n = m->notes[i];
        term_cell(tab, TERM_DIM, "%s", event_time(n->at_unix_ms, now, at));
        term_cell(tab, TERM_BOLD, "%s", n->by);
        term_cell(tab, n->kind == NOTE(NOTE) ? TERM_PLAIN : TERM_CYAN, "%s", EVENT_NAME(incident_note_kind, n->kind));
        term_cell(tab, TERM_PLAIN, "%s", n->text);
    }
    term_table_end(tab, t, "");
}

static void print_incident(const PB(IncidentChanged) * m, const struct term *t)
{
    int64_t now = clock_wall_ms();
    char text[INCIDENT_VIEW_TEXT], at[EVENT_TIME_MAX], span[32];
    char summary[INCIDENT_VIEW_TEXT];
    enum term_colour colour = incident_view_colour((int)m->severity, (int)m->phase);
    term_print(t, TERM_BOLD, "%s", m->id);
    term_print(t, colour, "  %s %s%s", EVENT_NAME(severity, m->severity), EVENT_NAME(incident_phase, m->phase),
               m->drill ? " (drill)" : "");
    printf("  %s\n", term_clean(incident_view_about(m->key, m->summary, text), 0, summary, sizeof summary));
    if (m->failure_kind != REDOUBT__V1__FAILURE_KIND__FAILURE_KIND_UNSPECIFIED)
        line("kind", "%s", EVENT_NAME(failure_kind, m->failure_kind));
    line("cause", "%s", m->cause);
    line("evidence", "%s, %s ago", event_time(m->evidence_unix_ms, now, at),
         ago(m->evidence_unix_ms, now, span, sizeof span));
    line("agents", "%s", incident_view_agents(m, AGENTS_SHOWN, text));
    if (m->data_affected)
        line("data", "learning data were lost or replaced");
    if (m->phase != PHASE(CLOSED)) {
        line("owner", "%s", *m->owner ? m->owner : "nobody");
        line("not over", "%u condition%s", m->open_signals, m->open_signals == 1 ? "" : "s");
        line("waits for", "%s", m->gate);
    } else {
        line("owner", "%s", m->owner);
    }
    if (m->recovered_unix_ms)
        line("recovered", "%s, after %s", event_time(m->recovered_unix_ms, now, at),
             ago(m->evidence_unix_ms, m->recovered_unix_ms, span, sizeof span));
    if (m->validated_unix_ms)
        line("validated", "%s, after %s", event_time(m->validated_unix_ms, now, at),
             ago(m->evidence_unix_ms, m->validated_unix_ms, span, sizeof span));
    if (m->closed_unix_ms)
        line("closed", "%s", event_time(m->closed_unix_ms, now, at));
    if (*m->report)
        line("report", "%s: `redoubt continuity report %s --print`", m->report, m->id);
    print_clocks(m, t);
    print_phases(m, t);
    print_notes(m, t);
    for (size_t i = 0; incident_view_next(m, i, text); i++)
        term_print(t, TERM_DIM, "%s  %s\n", i ? "" : "\n", text);
}

int cmd_incident_show(struct cli *c, const void *opts, int argc, char **argv)
{
    (void)argc;
    const struct opts_incident *o = opts;
    PB(IncidentChanged) *m = NULL;
    struct cli_link link;
    bool live = true;
    int code = cli_link_open(&link, c);
    if (code == CLI_OK && (code = incident_ask_one(&link, argv[0], &m, &live)) == CLI_OK) {
        say_live(c, live);
        if (o->json)
            print_json(status_message_json(m));
        else
            print_incident(m, &c->out);
    }
    wire_free(m);
    cli_link_close(&link);
    return code;
}

/* ---- orders ---- */

/* Fills in the incident and gives the order. */
static int give(struct cli *c, const char *which, const char *verb, PB(ContinuityCommand) * m)
{
    char id[INCIDENT_ASK_ID] = "";
    struct cli_link link;
    int code = cli_link_open(&link, c);
    if (code == CLI_OK && which)
        code = incident_ask_id(&link, which, id);
    m->incident = id;
    if (code == CLI_OK)
        code = cli_order(&link, "continuity", verb, m);
    cli_link_close(&link);
    return code;
}

int cmd_incident_note(struct cli *c, const void *opts, int argc, char **argv)
{
    (void)argc;
    const struct opts_incident *o = opts;
    PB(ContinuityCommand) m = REDOUBT__V1__CONTINUITY_COMMAND__INIT;
    if (!o->by)
        return cli_fail(c, CLI_USAGE, "--by NAME is required: it lands in the audit trail");
    if ((int)o->decision + o->lesson + o->follow_up > 1)
        return cli_fail(c, CLI_USAGE, "--decision, --lesson, --follow-up: give one of them");
    m.by = (char *)o->by;
    m.reason = argv[1];
    m.note_kind = o->decision    ? NOTE(DECISION)
                  : o->lesson    ? NOTE(LESSON)
                  : o->follow_up ? NOTE(FOLLOW_UP)
                                 : NOTE(NOTE);
    return give(c, argv[0], "note", &m);
}

int cmd_incident_order(struct cli *c, const void *opts, int argc, char **argv)
{
    const struct opts_incident *o = opts;
    PB(ContinuityCommand) m = REDOUBT__V1__CONTINUITY_COMMAND__INIT;
    if (!o->by || !o->reason)
        return cli_fail(c, CLI_USAGE, WHO_REQUIRED);
    m.by = (char *)o->by;
    m.reason = (char *)o->reason;
    if (argc > 1) /* assign */
        m.owner = strcmp(argv[1], "-") == 0 ? "" : argv[1];
    int phase = o->to ? incident_view_word(&redoubt__v1__incident_phase__descriptor, o->to) : PHASE(UNSPECIFIED);
    if (phase < 0 || (o->to && (phase <= PHASE(RESPOND) || phase >= PHASE(CLOSED))))
        return cli_fail(c, CLI_USAGE, "--to: found `%s`; allowed: assess, recover, validate, learn", o->to);
    m.phase = (Redoubt__V1__IncidentPhase)phase;
    return give(c, argv[0], strrchr(c->row->path, ' ') + 1, &m);
}

int cmd_incident_open(struct cli *c, const void *opts, int argc, char **argv)
{
    (void)argc, (void)argv;
    const struct opts_incident *o = opts;
    PB(ContinuityCommand) m = REDOUBT__V1__CONTINUITY_COMMAND__INIT;
    if (!o->by || !o->reason)
        return cli_fail(c, CLI_USAGE, WHO_REQUIRED);
    if (!o->agent == !o->key)
        return cli_fail(c, CLI_USAGE, "give --agent AGENT or --key KEY: what is it about?");
    int severity = incident_view_word(&redoubt__v1__severity__descriptor, o->severity);
    int kind = o->kind ? incident_view_word(&redoubt__v1__failure_kind__descriptor, o->kind) : -1;
    if (severity < 0)
        return cli_fail(c, CLI_USAGE, "--severity: found `%s`; allowed: info, warning, high, critical", o->severity);
    if (kind < 0)
        return cli_fail(c, CLI_USAGE,
                        "--kind: found `%s`; allowed: llm-outage, backend-failure, logic-error, "
                        "resource-exhaustion, network, agent-down",
                        o->kind ? o->kind : "");
    m.by = (char *)o->by;
    m.reason = (char *)o->reason;
    m.agent = (char *)(o->agent ? o->agent : "");
    m.name = (char *)(o->key ? o->key : "");
    m.severity = (Redoubt__V1__Severity)severity;
    m.failure_kind = (Redoubt__V1__FailureKind)kind;
    return give(c, NULL, "open", &m);
}
