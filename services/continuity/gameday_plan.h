/* gameday_plan.h - when a drill is due, whether it may be played, and what it has shown: pure, no I/O and no clock. */
#ifndef REDOUBT_CONTINUITY_GAMEDAY_PLAN_H
#define REDOUBT_CONTINUITY_GAMEDAY_PLAN_H

#include "common/settings.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define GAMEDAY_LATE_MS  3600000 /* a set time that was missed by more than this waits for the next one */
#define GAMEDAY_GRACE_MS 30000   /* a drill that was told to end may take so long */
#define GAMEDAY_SKIPS    2       /* so often in a row is told */

/* ---- when ---- */

/* The first moment after now_ms at which it is due; last_ms = when it began last, 0 = never. */
int64_t gameday_next(const struct set_drill *d, int64_t last_ms, int64_t now_ms);

/* ---- whether ---- */

struct gameday_facts {
    int64_t now_ms, next_ms;
    bool at;         /* it has a set time */
    bool ordered;    /* by a person, now */
    bool forced;     /* although an incident is open */
    bool incident;   /* one is open */
    bool busy;       /* another drill runs */
    bool agent_gone; /* its agent is not in the settings any more */
    bool program;    /* there is one to play it */
};
enum gameday_verdict {
    GAMEDAY_WAIT,     /* not yet, or another one runs */
    GAMEDAY_PLAY,     /* now */
    GAMEDAY_INCIDENT, /* skipped: an incident is open */
    GAMEDAY_MISSED,   /* skipped: nobody was there at its time */
    GAMEDAY_GONE,     /* cannot be played: its agent is gone */
    GAMEDAY_NO_PROGRAM,
};
enum gameday_verdict gameday_decide(const struct gameday_facts *f);

/* ---- what came of it ---- */

struct gameday_result {
    bool valid, passed;
    char why[400];              /* of what has failed, or of an answer that is none */
    bool shown[SET_OBJECTIVES]; /* what a drill that has passed shows ... */
    int64_t ms[SET_OBJECTIVES]; /* ... and how long it took */
};
/* Reads the JSON of `redoubt drill STORY`. validate_ms: what a real incident waits before its clocks stop; a drill on a stack of its own has not, and it is added. */
void gameday_result(const char *story, const char *json, size_t len, int64_t validate_ms, struct gameday_result *ret);

#endif
