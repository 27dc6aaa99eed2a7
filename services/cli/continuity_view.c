/* continuity_view.c - objectives, backups, drills and availability in words and tables. */
#include "cli/continuity_view.h"
#include "cli/cli.h"
#include "cli/event_line.h"
#include "continuity/backup_plan.h"
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define VERDICT(x)   REDOUBT__V1__OBJECTIVE_VERDICT__OBJECTIVE_VERDICT_##x
#define COUNT(rows)  (sizeof(rows) / sizeof((rows)[0]))
#define COMMIT_SHOWN 12
#define SPAN         32

/* Appends; what does not fit is cut. */
__attribute__((format(printf, 2, 3))) static void add(char buf[static INCIDENT_VIEW_TEXT], const char *fmt, ...)
{
    size_t n = strlen(buf);
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(buf + n, INCIDENT_VIEW_TEXT - n, fmt, ap);
    va_end(ap);
}

static const char *span(uint64_t ms, char buf[static SPAN])
{
    return cli_span(ms > INT64_MAX ? INT64_MAX : (int64_t)ms, buf, SPAN);
}

/* "3 min", "-" if it never was. */
static const char *ago(int64_t unix_ms, int64_t now, char buf[static SPAN])
{
    if (unix_ms <= 0)
        snprintf(buf, SPAN, "-");
    else
        cli_span(now > unix_ms ? now - unix_ms : 0, buf, SPAN);
    return buf;
}

enum term_colour continuity_view_verdict_colour(int verdict)
{
    return verdict == VERDICT(MET) ? TERM_GREEN : verdict == VERDICT(BREACHED) ? TERM_RED : TERM_YELLOW;
}

/* ---- in a line ---- */

static unsigned percent_running(const PB(ObjectiveStatus) * o)
{
    PB(ObjectiveClock) c = REDOUBT__V1__OBJECTIVE_CLOCK__INIT;
    c.limit_ms = o->target_ms;
    c.elapsed_ms = o->running_ms;
    return o->running_ms ? incident_view_percent(&c) : 0;
}

static int rank(const PB(ObjectiveStatus) * o)
{
    return o->verdict == VERDICT(BREACHED) ? 3 : o->running_ms ? 2 : o->verdict == VERDICT(MET) ? 0 : 1;
}

const PB(ObjectiveStatus) * continuity_view_worst(const PB(ContinuityStatus) * s)
{
    const PB(ObjectiveStatus) *worst = NULL;
    for (size_t i = 0; i < s->n_objectives; i++) {
        const PB(ObjectiveStatus) *o = s->objectives[i];
        if (!worst || rank(o) > rank(worst) ||
            (rank(o) == rank(worst) && percent_running(o) > percent_running(worst)))
            worst = o;
    }
    return worst;
}

/* The open incident whose clock is nearest to its limit. */
static const PB(IncidentLine) * nearest(const PB(ContinuityStatus) * s)
{
    const PB(IncidentLine) *best = NULL;
    for (size_t i = 0; i < s->n_worst; i++) {
        const PB(IncidentLine) *l = s->worst[i];
        bool runs = l->nearest && incident_view_runs(l->nearest);
        if (runs && (!best || incident_view_percent(l->nearest) > incident_view_percent(best->nearest)))
            best = l;
    }
    return best;
}

char *continuity_view_headline(const PB(ContinuityStatus) * s, char buf[static INCIDENT_VIEW_TEXT])
{
    char text[INCIDENT_VIEW_TEXT];
    const PB(IncidentLine) *near = nearest(s);
    const PB(ObjectiveStatus) *worst = continuity_view_worst(s);
    *buf = 0;
    if (s->open_incidents == 0)
        add(buf, "no incident");
    else
        add(buf, "%u incident%s open", s->open_incidents, s->open_incidents == 1 ? "" : "s");
    if (near)
        add(buf, ", nearest clock: %s of %s, %s", near->nearest->objective, near->id,
            incident_view_clock(near->nearest, text));
    add(buf, "; objectives: %u met", s->met);
    if (s->breached) {
        add(buf, ", %u BREACHED", s->breached);
        if (worst && worst->verdict == VERDICT(BREACHED))
            add(buf, " (%s%s%s)", worst->objective, *worst->scope ? " of " : "", worst->scope);
    }
    if (s->unknown)
        add(buf, ", %u not shown yet", s->unknown);
    return buf;
}

enum term_colour continuity_view_headline_colour(const PB(ContinuityStatus) * s)
{
    char text[INCIDENT_VIEW_TEXT];
    if (s->breached)
        return TERM_RED;
    for (size_t i = 0; i < s->n_worst; i++)
        if (incident_view_problem(s->worst[i], text))
            return TERM_YELLOW;
    return s->unknown || s->open_incidents ? TERM_CYAN : TERM_GREEN;
}

void continuity_view_problems(const PB(ContinuityStatus) * s, void (*fn)(void *ctx, const char *text), void *ctx)
{
    char text[INCIDENT_VIEW_TEXT], more[INCIDENT_VIEW_TEXT];
    for (size_t i = 0; i < s->n_worst; i++)
        if (incident_view_problem(s->worst[i], text))
            fn(ctx, text);
    for (size_t i = 0; i < s->n_objectives; i++) {
        const PB(ObjectiveStatus) *o = s->objectives[i];
        /* RTO and MAD: what is beyond them now is an incident above; what was shown once is no fault of today. */
        if (strncmp(o->objective, "rpo_", 4) != 0 || o->verdict != VERDICT(BREACHED))
            continue;
        *text = 0;
        add(text, "recovery point of the %s%s%s is too old: %s", incident_view_objective(o->objective),
            *o->scope ? " of " : "", o->scope, o->why);
        fn(ctx, text);
    }
    for (size_t i = 0; i < s->n_backups; i++) {
        const PB(BackupState) *b = s->backups[i];
        if (!b->open_alerts && !*b->error && !b->suspicious)
            continue;
        *text = 0;
        add(text, "backup %s: %s", b->source, continuity_view_backup(b, more));
        fn(ctx, text);
    }
    for (size_t i = 0; i < s->n_drills; i++) {
        const PB(DrillState) *d = s->drills[i];
        if (d->failures == 0)
            continue;
        *text = 0;
        add(text, "drill %s: %s", d->name, continuity_view_drill(d, more));
        fn(ctx, text);
    }
}

/* ---- single things ---- */

const char *continuity_view_size(uint64_t bytes, char *buf, size_t size)
{
    static const char *const units[] = {"B", "kB", "MB", "GB", "TB", "PB"};
    double v = (double)bytes;
    size_t i = 0;
    while (v >= 999.95 && i + 1 < COUNT(units)) {
        v /= 1000;
        i++;
    }
    snprintf(buf, size, i ? "%.1f %s" : "%.0f %s", v, units[i]);
    return buf;
}

/* What people were told of and is not over, the worst first. What is merely late has no error. */
static const struct {
    uint32_t bit;
    const char *words;
} backup_alerts[] = {
    {BACKUP_DAMAGED, "the repository is damaged"},
    {BACKUP_DIFFERS, "what was restored is not what was saved"},
    {BACKUP_GONE, "a proven copy is no longer in the repository"},
    {BACKUP_EMPTY, "the newest copy is empty"},
    {BACKUP_SHRUNKEN, "the newest copy is much smaller than the one before"},
    {BACKUP_MISSING, "there is no copy yet"},
    {BACKUP_LATE, "no new copy has come for too long"},
    {BACKUP_UNVERIFIED, "copies come, but none is proven to be restorable"},
    {BACKUP_FAILED, "what is tried fails"},
};

static const char *backup_alert(const PB(BackupState) * b)
{
    for (size_t i = 0; i < COUNT(backup_alerts); i++)
        if (b->open_alerts & backup_alerts[i].bit)
            return backup_alerts[i].words;
    return NULL;
}

char *continuity_view_backup(const PB(BackupState) * b, char buf[static INCIDENT_VIEW_TEXT])
{
    const char *told = backup_alert(b);
    *buf = 0;
    if (told)
        add(buf, "%s%s%s", told, *b->error ? ": " : "", b->error);
    else if (*b->error)
        add(buf, "failed%s: %s", b->failures > 1 ? " again and again" : "", b->error);
    else if (b->suspicious)
        add(buf, "the last copy is empty or much smaller than the one before: it does not count");
    else if (!b->saved_unix_ms)
        add(buf, "never copied yet");
    else if (!b->verified_point_unix_ms)
        add(buf, "copied, not proven to be restorable yet");
    else
        add(buf, "ok");
    return buf;
}

enum term_colour continuity_view_backup_colour(const PB(BackupState) * b)
{
    if (b->open_alerts || *b->error || b->suspicious)
        return TERM_RED;
    return b->verified_point_unix_ms ? TERM_GREEN : TERM_YELLOW;
}

char *continuity_view_drill(const PB(DrillState) * d, char buf[static INCIDENT_VIEW_TEXT])
{
    *buf = 0;
    if (d->running)
        add(buf, "runs");
    else if (!d->began_unix_ms && !*d->result)
        add(buf, "not played yet");
    else
        add(buf, "%s%s%s",
            d->passed     ? "passed"
            : d->failures ? "FAILED"
                          : "not played",
            *d->result ? ": " : "", d->result);
    return buf;
}

enum term_colour continuity_view_drill_colour(const PB(DrillState) * d)
{
    return d->running ? TERM_CYAN : d->failures ? TERM_RED : d->passed ? TERM_GREEN : TERM_YELLOW;
}

char *continuity_view_condition(unsigned condition, char buf[static INCIDENT_VIEW_TEXT])
{
    static const char *const names[] = {"full failure", "degraded", "LLM fallback"};
    *buf = 0;
    for (unsigned i = 0; i < COUNT(names); i++)
        if (condition & 1U << i)
            add(buf, "%s%s", *buf ? ", " : "", names[i]);
    if (!*buf)
        add(buf, "normal");
    return buf;
}

/* ---- the whole ---- */

static void print_objectives(const PB(ContinuityStatus) * s, const struct term *t, int64_t now)
{
    static const struct term_column columns[] = {{"OBJECTIVE", false}, {"OF", false},      {"TARGET", true},
                                                 {"ESTIMATE", true},   {"SHOWN", true},    {"AGO", true},
                                                 {"NOW", true},        {"VERDICT", false}, {"WHY", false}};
    char buf[SPAN];
    struct term_table *tab = term_table_begin(columns, COUNT(columns));
    for (size_t i = 0; i < s->n_objectives; i++) {
        const PB(ObjectiveStatus) *o = s->objectives[i];
        bool late = o->running_ms >= o->target_ms;
        term_cell(tab, TERM_BOLD, "%s", o->objective);
        term_cell(tab, TERM_PLAIN, "%s", *o->scope ? o->scope : "the suite");
        term_cell(tab, TERM_PLAIN, "%s", span(o->target_ms, buf));
        term_cell(tab, o->has_estimate ? TERM_PLAIN : TERM_DIM, "%s",
                  o->has_estimate ? span(o->estimate_ms, buf) : "-");
        term_cell(tab, !o->has_demonstrated || o->expired ? TERM_DIM : TERM_PLAIN, "%s",
                  o->has_demonstrated ? span(o->demonstrated_ms, buf) : "-");
        term_cell(tab, o->expired ? TERM_YELLOW : TERM_PLAIN, "%s%s", ago(o->demonstrated_unix_ms, now, buf),
                  o->expired ? " (expired)" : "");
        term_cell(tab,
                  o->running_ms == 0 ? TERM_DIM
                  : late             ? TERM_RED
                                     : TERM_YELLOW,
                  "%s", o->running_ms ? span(o->running_ms, buf) : "-");
        term_cell(tab, continuity_view_verdict_colour((int)o->verdict), "%s",
                  EVENT_NAME(objective_verdict, o->verdict));
        term_cell(tab, TERM_PLAIN, "%s", o->why);
    }
    term_table_end(tab, t, "");
}

static void print_incidents(const PB(ContinuityStatus) * s, const struct term *t)
{
    static const struct term_column columns[] = {
        {"INCIDENT", false}, {"PHASE", false}, {"CLOCK", false}, {"", false}, {"ABOUT", false}};
    char bar[INCIDENT_VIEW_TEXT];
    if (s->n_worst == 0)
        return;
    fputc('\n', t->file);
    struct term_table *tab = term_table_begin(columns, COUNT(columns));
    for (size_t i = 0; i < s->n_worst; i++) {
        const PB(IncidentLine) *l = s->worst[i];
        term_cell(tab, TERM_BOLD, "%s", l->id);
        term_cell(tab, incident_view_colour((int)l->severity, (int)l->phase), "%s",
                  EVENT_NAME(incident_phase, l->phase));
        term_cell(tab, TERM_PLAIN, "%s", l->nearest ? l->nearest->objective : "-");
        term_cell(tab, l->nearest ? incident_view_clock_colour(l->nearest) : TERM_DIM, "%s",
                  l->nearest ? incident_view_bar(l->nearest, bar) : "");
        term_cell(tab, TERM_PLAIN, "%s", incident_view_about(l->key, l->summary, bar));
    }
    term_table_end(tab, t, "");
    if (s->open_incidents > s->n_worst)
        fprintf(t->file, "%zu more: redoubt incident list\n", (size_t)s->open_incidents - s->n_worst);
}

static void print_backups(const PB(ContinuityStatus) * s, const struct term *t, int64_t now)
{
    static const struct term_column columns[] = {
        {"BACKUP", false}, {"KIND", false}, {"PROVEN", true}, {"COPIED", true}, {"FILES", true}, {"SIZE", true},
        {"TESTED", true},  {"TOOK", true},  {"KEPT", true},   {"NEXT", false},  {"STATE", false}};
    char buf[SPAN], text[INCIDENT_VIEW_TEXT], at[EVENT_TIME_MAX];
    if (s->n_backups == 0)
        return;
    fputc('\n', t->file);
    struct term_table *tab = term_table_begin(columns, COUNT(columns));
    for (size_t i = 0; i < s->n_backups; i++) {
        const PB(BackupState) *b = s->backups[i];
        term_cell(tab, TERM_BOLD, "%s", b->source);
        term_cell(tab, TERM_PLAIN, "%s", EVENT_NAME(backup_kind, b->kind));
        term_cell(tab, TERM_PLAIN, "%s", ago(b->verified_point_unix_ms, now, buf));
        term_cell(tab, TERM_PLAIN, "%s", ago(b->saved_unix_ms, now, buf));
        term_cell(tab, TERM_PLAIN, "%" PRIu64, b->files);
        term_cell(tab, TERM_PLAIN, "%s", continuity_view_size(b->bytes, buf, sizeof buf));
        term_cell(tab, TERM_PLAIN, "%s", ago(b->tested_unix_ms, now, buf));
        term_cell(tab, TERM_PLAIN, "%s", b->tested_unix_ms ? span(b->test_took_ms, buf) : "-");
        term_cell(tab, TERM_PLAIN, "%u", b->snapshots);
        term_cell(tab, TERM_PLAIN, "%s", b->next_save_unix_ms ? event_time(b->next_save_unix_ms, now, at) : "-");
        term_cell(tab, continuity_view_backup_colour(b), "%s", continuity_view_backup(b, text));
    }
    term_table_end(tab, t, "");
}

static void print_drills(const PB(ContinuityStatus) * s, const struct term *t, int64_t now)
{
    static const struct term_column columns[] = {
        {"DRILL", false}, {"LAST", true}, {"NEXT", false}, {"RESULT", false}};
    char buf[SPAN], text[INCIDENT_VIEW_TEXT], at[EVENT_TIME_MAX];
    if (s->n_drills == 0)
        return;
    fputc('\n', t->file);
    struct term_table *tab = term_table_begin(columns, COUNT(columns));
    for (size_t i = 0; i < s->n_drills; i++) {
        const PB(DrillState) *d = s->drills[i];
        term_cell(tab, TERM_BOLD, "%s", d->name);
        term_cell(tab, TERM_PLAIN, "%s", ago(d->ended_unix_ms ? d->ended_unix_ms : d->began_unix_ms, now, buf));
        term_cell(tab, TERM_PLAIN, "%s", d->next_unix_ms ? event_time(d->next_unix_ms, now, at) : "-");
        term_cell(tab, continuity_view_drill_colour(d), "%s", continuity_view_drill(d, text));
    }
    term_table_end(tab, t, "");
}

static void print_config(const PB(ContinuityStatus) * s, const struct term *t, int64_t now)
{
    const PB(ConfigState) *c = s->config;
    char buf[SPAN], raw[INCIDENT_VIEW_TEXT] = "", clean[INCIDENT_VIEW_TEXT];
    if (!c || !*c->commit)
        return;
    add(raw, "%.*s by %s, %s ago: %s", COMMIT_SHOWN, c->commit, c->by, ago(c->changed_unix_ms, now, buf), c->reason);
    fprintf(t->file, "\nconfiguration  %s\n", term_clean(raw, 0, clean, sizeof clean));
}

void continuity_view_print(const PB(ContinuityStatus) * s, const struct term *t, int64_t now)
{
    char text[INCIDENT_VIEW_TEXT], clean[INCIDENT_VIEW_TEXT];
    print_objectives(s, t, now);
    print_incidents(s, t);
    print_backups(s, t, now);
    print_drills(s, t, now);
    print_config(s, t, now);
    fputc('\n', t->file);
    term_clean(continuity_view_headline(s, text), 0, clean, sizeof clean);
    term_print(t, continuity_view_headline_colour(s), "%s\n", clean);
    if (s->without_lease)
        term_print(t, TERM_YELLOW, "%s leads without its lease: Redis is away\n",
                   term_clean(s->leader, 0, text, sizeof text));
    else if (*s->leader)
        term_print(t, TERM_DIM, "led by %s\n", term_clean(s->leader, 0, text, sizeof text));
}

/* ---- availability ---- */

const char *continuity_view_share(uint64_t part_ms, uint64_t known_ms, char *buf, size_t size)
{
    if (known_ms == 0) {
        snprintf(buf, size, "-");
        return buf;
    }
    /* In millionths, cut: 100 is said only of what is whole. */
    double exact = (double)part_ms / (double)known_ms * 1e6;
    uint64_t ppm = exact >= 1e6 ? 1000000 : (uint64_t)exact;
    if (part_ms < known_ms && ppm == 1000000)
        ppm = 999999;
    snprintf(buf, size, "%" PRIu64 ".%04" PRIu64, ppm / 10000, ppm % 10000);
    return buf;
}

static uint64_t less(uint64_t a, uint64_t b)
{
    return a > b ? a - b : 0;
}

/* Time in no condition at all. */
static uint64_t whole_ms(const PB(AvailabilityMonth) * m)
{
    return less(less(less(m->known_ms, m->full_ms), m->degraded_ms), m->llm_fallback_ms);
}

static void availability_row(struct term_table *tab, enum term_colour c, const char *name,
                             const PB(AvailabilityMonth) * m)
{
    char buf[SPAN];
    term_cell(tab, c, "%s", name);
    term_cell(tab, m->full_ms ? TERM_YELLOW : TERM_GREEN, "%s",
              continuity_view_share(less(m->known_ms, m->full_ms), m->known_ms, buf, sizeof buf));
    term_cell(tab, TERM_PLAIN, "%s", continuity_view_share(whole_ms(m), m->known_ms, buf, sizeof buf));
    term_cell(tab, TERM_PLAIN, "%s", span(m->full_ms, buf));
    term_cell(tab, TERM_PLAIN, "%s", span(m->degraded_ms, buf));
    term_cell(tab, TERM_PLAIN, "%s", span(m->llm_fallback_ms, buf));
    term_cell(tab, TERM_PLAIN, "%u", m->incidents);
    term_cell(tab, TERM_DIM, "%s", span(m->known_ms, buf));
}

void continuity_view_print_availability(const PB(AvailabilityReport) * r, const struct term *t)
{
    static const struct term_column columns[] = {
        {"AGENT", false},   {"AVAILABLE %", true},  {"FULL FUNCTION %", true}, {"FULL FAILURE", true},
        {"DEGRADED", true}, {"LLM FALLBACK", true}, {"INCIDENTS", true},       {"KNOWN FOR", true}};
    if (r->n_agents == 0) {
        fprintf(t->file, "nothing is known of any agent in %u-%02u\n", r->month / 100, r->month % 100);
        return;
    }
    term_print(t, TERM_BOLD, "%u-%02u\n", r->month / 100, r->month % 100);
    struct term_table *tab = term_table_begin(columns, COUNT(columns));
    for (size_t i = 0; i < r->n_agents; i++)
        if (r->agents[i]->figures)
            availability_row(tab, TERM_PLAIN, r->agents[i]->agent, r->agents[i]->figures);
    if (r->all && r->n_agents > 1)
        availability_row(tab, TERM_BOLD, "all", r->all);
    term_table_end(tab, t, "");
}

void continuity_view_csv_availability(const PB(AvailabilityReport) * r, FILE *f)
{
    char a[SPAN], b[SPAN];
    fputs("month,agent,available_percent,full_function_percent,known_ms,full_failure_ms,degraded_ms,llm_fallback_ms,"
          "incidents\r\n",
          f);
    for (size_t i = 0; i < r->n_agents; i++) {
        const PB(AvailabilityMonth) *m = r->agents[i]->figures;
        if (!m) /* names of agents are tokens: nothing in them needs quotes */
            continue;
        fprintf(f, "%u-%02u,%s,%s,%s,%" PRIu64 ",%" PRIu64 ",%" PRIu64 ",%" PRIu64 ",%u\r\n", r->month / 100,
                r->month % 100, r->agents[i]->agent,
                continuity_view_share(less(m->known_ms, m->full_ms), m->known_ms, a, sizeof a),
                continuity_view_share(whole_ms(m), m->known_ms, b, sizeof b), m->known_ms, m->full_ms, m->degraded_ms,
                m->llm_fallback_ms, m->incidents);
    }
}
