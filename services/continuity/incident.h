/* incident.h - one incident's policy, pure: (state, event, now) -> (state', effects). No I/O, no clock, no allocation.
 *
 * All times are the continuity service's own (continuity_time.h): milliseconds since 1970 that neither go back nor jump. */
#ifndef REDOUBT_CONTINUITY_INCIDENT_H
#define REDOUBT_CONTINUITY_INCIDENT_H

#include "common/settings.h"
#include "common/wire.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define INCIDENT_ID      32
#define INCIDENT_KEY     129
#define INCIDENT_WHO     129
#define INCIDENT_PHASES  32
#define INCIDENT_NOTES   48
#define INCIDENT_CLOCKS  9 /* one per objective; of those of its agents the tightest counts */
#define INCIDENT_EFFECTS 24

/* Conditions of an agent, as bits; the worst counts where one must be named. */
enum { CONDITION_FULL = 1, CONDITION_DEGRADED = 2, CONDITION_LLM = 4 };

/* One objective that runs or ran. It starts with the first evidence of what it measures and stops when validation has passed; a relapse before that changes
 * nothing, one after it is another incident. */
struct incident_clock {
    bool started, stopped;
    uint8_t told; /* bits: 50, 75, 90, 100 % */
    int64_t started_ms, stopped_ms;
    int64_t limit_ms;
    uint32_t agent; /* index for continuity_board's names: whose objective is the tightest; 0 = the suite's */
};
int64_t incident_clock_elapsed(const struct incident_clock *c, int64_t now_ms);
/* The shares of the limit that are reached: the same bits as `told`. */
unsigned incident_clock_reached(const struct incident_clock *c, int64_t now_ms);
/* When the next share is reached; INT64_MAX = never. */
int64_t incident_clock_next(const struct incident_clock *c, int64_t now_ms);

struct incident_phase {
    uint8_t phase; /* IncidentPhase */
    bool overdue;
    int64_t entered_ms, left_ms;
    const char *left_by, *why; /* the board's texts */
};
struct incident_note {
    uint8_t kind;
    int64_t at_ms;
    const char *by, *text;
};

/* Small where it is the same for all: there may be 10,000 open. Texts belong to the board. */
struct incident {
    char id[INCIDENT_ID];
    uint64_t epoch;
    uint8_t phase, kind, severity;
    bool drill, data_affected, told; /* told: a channel has accepted its alert, or a person has touched it */
    bool report_due, reported;
    uint8_t functions_lost; /* bits, by index in the rule; of all its agents, now */
    uint32_t open_signals, agents_total;
    uint32_t of_condition[3]; /* open signals by condition: full, degraded, llm */
    int64_t evidence_ms, last_joined_ms, entered_ms, recovered_ms, validated_ms, closed_ms, changed_ms;
    struct incident_clock clocks[SET_OBJECTIVES];
    struct incident_phase *phases; /* malloc'ed by the board, room for INCIDENT_PHASES when needed */
    struct incident_note *notes;
    uint8_t n_phases, n_notes;
    const char *key, *owner, *cause, *summary, *report;
};

struct incident_rule { /* of the settings; shared by all */
    int64_t respond_ms, assess_ms, settle_ms, validate_ms, learn_ms;
    uint8_t closes_itself; /* Severity; 0 = none */
    struct {
        bool critical;
        uint8_t lost_in; /* conditions */
    } functions[32];
    size_t n_functions;
};

enum incident_event_kind {
    INCIDENT_EVIDENCE, /* a condition joins; the first one opens it */
    INCIDENT_CLEARED,  /* a condition is over */
    INCIDENT_TOLD,     /* its alert was accepted by a channel, or a person has acknowledged it */
    INCIDENT_PASSED,   /* what validation asks of agents: no self-test is failed, the trail goes on */
    INCIDENT_FAILED,   /* ... it is not so: stays in VALIDATE, `why` */
    INCIDENT_DATA,     /* learning data were lost or replaced */
    INCIDENT_DATA_WELL,
    INCIDENT_REPORTED, /* the report stands */
    INCIDENT_ADVANCE,  /* a person, with a reason */
    INCIDENT_CLOSE,    /* a person */
    INCIDENT_NOTE_ADD,
    INCIDENT_ASSIGN,
    INCIDENT_TICK,
};
struct incident_event {
    enum incident_event_kind kind;
    uint8_t failure, severity, condition; /* evidence, cleared: the bits that this signal means */
    bool drill;
    bool new_agent;                          /* evidence: the board had not counted this agent */
    const int64_t *limits;                   /* evidence: the agent's objectives, SET_OBJECTIVES of them */
    uint32_t agent;                          /* index of its name; 0 = none */
    uint8_t phase, note_kind;                /* advance; note */
    const char *by, *text, *cause, *summary; /* the board's texts */
};
enum incident_effect_kind {
    INCIDENT_ANNOUNCE,     /* stored and announced: something changed */
    INCIDENT_ALERT,        /* opened; raised again when it grows worse */
    INCIDENT_CLOCK_TOLD,   /* clock `objective` has reached `share` percent: alert */
    INCIDENT_OVERDUE,      /* the phase takes longer than its limit: alert */
    INCIDENT_RESOLVED,     /* validated: its alerts are over */
    INCIDENT_CHECK,        /* entering or in VALIDATE: ask for INCIDENT_PASSED or _FAILED */
    INCIDENT_DEMONSTRATED, /* clock `objective` stopped after took_ms */
    INCIDENT_REPORT,       /* write (or write again) its report */
    INCIDENT_RECORD,       /* for the trail: opened, phase, note, ... */
    INCIDENT_WAKE,         /* at_ms */
};
struct incident_effect {
    enum incident_effect_kind kind;
    uint8_t objective, share, phase;
    int64_t took_ms, at_ms;
    const char *text; /* constant, or the event's */
};
/* Returns the number of effects. Events that do not fit the phase change nothing. */
size_t incident_decide(struct incident *x, const struct incident_rule *rule, const struct incident_event *ev,
                       int64_t now_ms, struct incident_effect out[static INCIDENT_EFFECTS]);
/* What the phase waits for, one line for people. Returns buf. */
const char *incident_gate(const struct incident *x, const struct incident_rule *rule, int64_t now_ms, char *buf,
                          size_t size);
void incident_rule_of(const struct set_continuity *set, struct incident_rule *ret);

#endif
