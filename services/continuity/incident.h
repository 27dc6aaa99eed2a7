/* incident.h - one incident's policy, pure: (state, event, now) -> (state', effects). No I/O, no clock, no allocation.
 *
 * All times are the continuity service's own (continuity_time.h): milliseconds since 1970 that neither go back nor jump. */
#ifndef REDOUBT_CONTINUITY_INCIDENT_H
#define REDOUBT_CONTINUITY_INCIDENT_H

#include "common/settings.h"
#include "common/sm.h"
#include "common/wire.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define INCIDENT_PHASE(x) REDOUBT__V1__INCIDENT_PHASE__INCIDENT_PHASE_##x
#define INCIDENT_ID       32
#define INCIDENT_KEY      129
#define INCIDENT_WHO      129
#define INCIDENT_PHASES   32
#define INCIDENT_NOTES    48
#define INCIDENT_CLOCKS   9 /* one per objective; of those of its agents the tightest counts */
#define INCIDENT_EFFECTS  32

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
    uint8_t checked;         /* in VALIDATE: enum incident_checked */
    bool asked;              /* whoever leads now has asked for what the phase waits for */
    uint32_t functions_lost; /* bits, by index in the rule; of all its agents, now */
    uint32_t open_signals, agents_total;
    uint32_t of_condition[3]; /* open signals by condition: full, degraded, llm */
    int64_t evidence_ms;      /* the first */
    int64_t last_joined_ms;   /* time of the newest evidence */
    int64_t entered_ms, recovered_ms, validated_ms, closed_ms, changed_ms;
    int64_t ask_ms; /* when a check or a report is asked for again */
    struct incident_clock clocks[SET_OBJECTIVES];
    struct incident_phase *phases; /* malloc'ed by the board, room for INCIDENT_PHASES when needed */
    struct incident_note *notes;
    uint8_t n_phases, n_notes;
    const char *key, *owner, *cause, *summary, *report;
    const char *failed; /* in VALIDATE: why the last check has failed */
};
enum incident_checked { INCIDENT_UNCHECKED, INCIDENT_CHECK_PASSED, INCIDENT_CHECK_FAILED };

struct incident_rule { /* of the settings; shared by all */
    int64_t respond_ms, assess_ms, settle_ms, validate_ms, learn_ms;
    uint8_t closes_itself; /* Severity; 0 = none */
    struct {
        bool critical;
        uint8_t lost_in; /* conditions */
    } functions[32];
    size_t n_functions;
};

extern const struct sm_table incident_sm; /* the phases */

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
    INCIDENT_NOTE_ADD, /* also when it is closed */
    INCIDENT_ASSIGN,   /* text: whom; empty = nobody */
    INCIDENT_TICK,
};
struct incident_event {
    enum incident_event_kind kind;
    uint8_t failure, severity, condition; /* evidence, cleared: the bits that this signal means */
    uint8_t was;                          /* evidence: the bits that it meant before */
    bool known;                           /* evidence: it counts already (it has changed, or its time is older) */
    int64_t at_ms;                        /* evidence, cleared, data: when; 0 = now */
    bool drill;
    bool again; /* evidence: said once more to who has just begun to lead: what has begun begins no earlier by it */
    bool new_agent;                          /* evidence: the board had not counted this agent */
    const int64_t *limits;                   /* evidence, data: the agent's objectives, SET_OBJECTIVES of them */
    uint32_t agent;                          /* index of its name; 0 = none */
    uint8_t phase, note_kind;                /* advance; note */
    const char *by, *text, *cause, *summary; /* the board's texts */
};
enum incident_effect_kind {
    INCIDENT_ANNOUNCE,     /* stored and announced: something changed */
    INCIDENT_ALERT,        /* text: opened; worse; again, when who had to be told may not have been */
    INCIDENT_CLOCK_TOLD,   /* clock `objective` has reached `share` percent: alert */
    INCIDENT_OVERDUE,      /* the phase takes longer than its limit: alert */
    INCIDENT_RESOLVED,     /* validated: its alerts are over */
    INCIDENT_CHECK,        /* entering or in VALIDATE: ask for INCIDENT_PASSED or _FAILED */
    INCIDENT_DEMONSTRATED, /* clock `objective` stopped after took_ms */
    INCIDENT_REPORT,       /* write (or write again) its report */
    INCIDENT_RECORD,       /* for the trail; text: the action's name */
    INCIDENT_WAKE,         /* at_ms */
};
struct incident_effect {
    enum incident_effect_kind kind;
    uint8_t objective, share, phase;
    int64_t took_ms, at_ms;
    const char *text; /* constant, or the event's */
};
/* Gives way for what one call of incident_decide() may add, at INCIDENT_PHASES and INCIDENT_NOTES: the oldest relapse goes, and if a note comes the oldest plain note.
 * Their texts are handed to drop() (may be NULL). Decide does the same: only who owns the texts calls it before. */
#define INCIDENT_PHASES_ADDED 5
void incident_room(struct incident *x, bool note, void (*drop)(void *ctx, const char *text), void *ctx);
/* The nearest clock to its limit, as objective; -1 = none runs. */
int incident_nearest(const struct incident *x, int64_t now_ms);
/* Which objectives (bits) these conditions concern. */
unsigned incident_concerned(const struct incident_rule *rule, unsigned conditions, bool data);
unsigned incident_functions_lost(const struct incident *x, const struct incident_rule *rule);
/* Evidence may join it: it is open and not validated. */
bool incident_takes(const struct incident *x);
/* What must hold of every incident; NULL, or what does not. */
const char *incident_broken(const struct incident *x);
/* Returns the number of effects. Events that do not fit the phase change nothing. The caller has room in `phases` for
 * INCIDENT_PHASES_ADDED more, and in `notes` for one more, up to INCIDENT_PHASES and INCIDENT_NOTES. */
size_t incident_decide(struct incident *x, const struct incident_rule *rule, const struct incident_event *ev,
                       int64_t now_ms, struct incident_effect out[static INCIDENT_EFFECTS]);
/* What the phase waits for, one line for people. Returns buf. */
const char *incident_gate(const struct incident *x, const struct incident_rule *rule, int64_t now_ms, char *buf,
                          size_t size);
void incident_rule_of(const struct set_continuity *set, struct incident_rule *ret);

#endif
