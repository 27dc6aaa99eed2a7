/* event_line_continuity.c - incidents, objectives, backups and drills as one line for people. */
#include "cli/event_line_continuity.h"
#include "cli/cli.h"
#include "cli/continuity_view.h"
#include "common/clock.h"
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define COMMIT_SHOWN 12

/* Appends to the line's text; what does not fit is cut. */
__attribute__((format(printf, 2, 3))) static void add(struct event_line *l, const char *fmt, ...)
{
    size_t n = strlen(l->text);
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(l->text + n, sizeof l->text - n, fmt, ap);
    va_end(ap);
}

static const char *span(uint64_t ms, char *buf, size_t size)
{
    return cli_span(ms > INT64_MAX ? INT64_MAX : (int64_t)ms, buf, size);
}

void event_line_incident(const void *message, struct event_line *l)
{
    const PB(IncidentChanged) *m = message;
    char text[INCIDENT_VIEW_TEXT];
    l->entity = m->id;
    l->at_unix_ms = m->changed_unix_ms;
    l->colour = incident_view_colour((int)m->severity, (int)m->phase);
    add(l, "%s", incident_view_line(m, text));
}

void event_line_availability(const void *message, struct event_line *l)
{
    const PB(AvailabilityState) *m = message;
    char text[INCIDENT_VIEW_TEXT];
    l->entity = m->agent;
    l->at_unix_ms = m->since_unix_ms;
    l->colour = m->condition ? TERM_YELLOW : TERM_DIM;
    add(l, "%s", continuity_view_condition(m->condition, text));
}

void event_line_shown(const void *message, struct event_line *l)
{
    const PB(Demonstrations) *m = message;
    char text[32];
    l->entity = m->objective;
    l->colour = TERM_CYAN;
    if (*m->scope)
        add(l, "%s: ", m->scope);
    if (m->n_shown == 0) {
        add(l, "nothing is shown");
        return;
    }
    const PB(Demonstration) *d = m->shown[m->n_shown - 1];
    l->at_unix_ms = d->at_unix_ms;
    add(l, "%s shown by %s", span(d->took_ms, text, sizeof text), d->by);
}

void event_line_backup(const void *message, struct event_line *l)
{
    const PB(BackupState) *m = message;
    char text[INCIDENT_VIEW_TEXT], size[32], at[EVENT_TIME_MAX];
    l->entity = m->source;
    l->at_unix_ms = m->saved_unix_ms;
    l->colour = continuity_view_backup_colour(m);
    add(l, "%s %s", EVENT_NAME(backup_kind, m->kind), continuity_view_backup(m, text));
    if (m->saved_unix_ms)
        add(l, "; newest copy %s, %" PRIu64 " files", continuity_view_size(m->bytes, size, sizeof size), m->files);
    if (m->verified_point_unix_ms)
        add(l, "; proven up to %s", event_time(m->verified_point_unix_ms, m->saved_unix_ms, at));
}

void event_line_drill(const void *message, struct event_line *l)
{
    const PB(DrillState) *m = message;
    char text[INCIDENT_VIEW_TEXT];
    l->entity = m->name;
    l->at_unix_ms = m->running ? m->began_unix_ms : m->ended_unix_ms;
    l->colour = continuity_view_drill_colour(m);
    add(l, "%s", continuity_view_drill(m, text));
}

void event_line_config(const void *message, struct event_line *l)
{
    const PB(ConfigState) *m = message;
    l->entity = "settings";
    l->at_unix_ms = m->changed_unix_ms;
    l->colour = TERM_CYAN;
    add(l, "%.*s by %s: %s", COMMIT_SHOWN, *m->commit ? m->commit : "-", m->by, m->reason);
}

void event_line_objectives(const void *message, struct event_line *l)
{
    const PB(ContinuityStatus) *m = message;
    char text[INCIDENT_VIEW_TEXT];
    l->entity = "suite";
    l->at_unix_ms = m->at_unix_ms;
    l->colour = continuity_view_headline_colour(m);
    add(l, "%s", continuity_view_headline(m, text));
}

void event_line_time(const void *message, struct event_line *l)
{
    const PB(ContinuityTime) *m = message;
    char at[CLOCK_TEXT_MAX];
    l->entity = "clock";
    l->at_unix_ms = m->wall_unix_ms;
    l->colour = TERM_DIM;
    add(l, "%s, %+" PRId64 " ms against the wall clock of %s", clock_text(m->time_unix_ms, at),
        m->time_unix_ms - m->wall_unix_ms, m->instance);
}

void event_line_continuity_command(const void *message, struct event_line *l)
{
    const PB(ContinuityCommand) *m = message;
    l->entity = *m->incident ? m->incident : *m->name ? m->name : m->agent;
    l->colour = *m->by ? TERM_CYAN : TERM_DIM;
    if (*m->by)
        add(l, "%s asks: %s", m->by, m->reason);
    else
        add(l, "asked for");
    if (*m->owner)
        add(l, "; owner %s", m->owner);
    if (m->force)
        add(l, "; FORCED");
}
