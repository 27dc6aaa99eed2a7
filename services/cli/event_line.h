/* event_line.h - a message of the contract as one line for people: when, what, about whom, what happened. */
#ifndef REDOUBT_CLI_EVENT_LINE_H
#define REDOUBT_CLI_EVENT_LINE_H

#include "cli/term.h"
#include "common/wire.h"

struct event_line {
    int64_t at_unix_ms; /* from the message itself; 0 = it does not say */
    const char *kind;   /* "breaker" */
    const char *entity; /* target, agent, ...; points into the message */
    char text[1024];    /* not yet cleaned for a terminal */
    enum term_colour colour;
};
/* False if there is no line for this kind of message: show its JSON instead. */
bool event_line(const void *message, struct event_line *ret);

/* Colours that status and events share. */
enum term_colour event_health_colour(int health_state);
enum term_colour event_breaker_colour(int breaker_state);
enum term_colour event_posture_colour(int posture);

/* Time of day in UTC, with the date only if it is not that of now_unix_ms: "09:05:01.042Z". Returns buf. */
#define EVENT_TIME_MAX 32
const char *event_time(int64_t unix_ms, int64_t now_unix_ms, char buf[static EVENT_TIME_MAX]);

/* Short names of enum values. */
#define EVENT_NAME(enum_name, value) wire_enum_name(&redoubt__v1__##enum_name##__descriptor, (int)(value))

#endif
