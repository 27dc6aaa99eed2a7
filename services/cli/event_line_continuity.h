/* event_line_continuity.h - the lines of continuity's messages, for the table of event_line.c alone. */
#ifndef REDOUBT_CLI_EVENT_LINE_CONTINUITY_H
#define REDOUBT_CLI_EVENT_LINE_CONTINUITY_H

#include "cli/event_line.h"

void event_line_incident(const void *message, struct event_line *l);
void event_line_availability(const void *message, struct event_line *l);
void event_line_shown(const void *message, struct event_line *l);
void event_line_backup(const void *message, struct event_line *l);
void event_line_drill(const void *message, struct event_line *l);
void event_line_config(const void *message, struct event_line *l);
void event_line_objectives(const void *message, struct event_line *l);
void event_line_time(const void *message, struct event_line *l);
void event_line_continuity_command(const void *message, struct event_line *l);

#endif
