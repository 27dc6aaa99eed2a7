/* alert_problem.h - how a problem stands with people: alerts with one dedup_key are one problem. Pure: (problem, event, now) -> (problem',
 * what people are to hear). No I/O, no clock, no allocation.
 *
 * A problem is told when it begins, when it is worse, and again while it is there: after `repeat`, when an acknowledgement or a mute has ended, and to
 * others step by step as long as nobody acknowledges. Its end is told to those who were told of it.
 *
 * What people hear without a new alert is first kept as `telling`, so that it is told again if who does it dies, and cleared when that is durable. */
#ifndef REDOUBT_ALERT_PROBLEM_H
#define REDOUBT_ALERT_PROBLEM_H

#include "common/sm.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define ALERT_PROBLEM_WINDOW_MS 30000 /* a repeat of the same severity within this time is counted, not sent */
#define ALERT_PROBLEM_RETRY_MS  30000 /* a telling that nobody has confirmed is done again after this long */
#define ALERT_PROBLEM_POLL_MS                                                                                        \
    300000 /* a mute without an end of its own is looked at so often, besides being told of */
#define ALERT_PROBLEM_KEEP_MS                                                                                        \
    86400000 /* one that is over is remembered so long; one of severity INFO after its last telling, too */
#define ALERT_STEPS_MAX 16

/* Numbers as in the contract. */
enum alert_problem_state {
    ALERT_PROBLEM_UNKNOWN,
    ALERT_PROBLEM_FIRING,
    ALERT_PROBLEM_ACKNOWLEDGED,
    ALERT_PROBLEM_MUTED,
    ALERT_PROBLEM_RESOLVED,
};
extern const struct sm_table alert_problem_table;

/* What people hear without a new alert; numbers as in the contract. */
enum alert_tell_kind {
    ALERT_TELL_NOTHING,
    ALERT_TELL_REPEAT,     /* still there */
    ALERT_TELL_ACK_ENDED,  /* ... and the acknowledgement is over */
    ALERT_TELL_MUTE_ENDED, /* ... and nothing mutes it any more */
    ALERT_TELL_UNACKED,    /* ... and who had taken it on has given it back */
    ALERT_TELL_WORSE,      /* it had become worse while something muted it */
    ALERT_TELL_STEP,       /* nobody has acknowledged: the next step of the escalation */
};

/* Times are shared time: replicas read it. */
struct alert_problem {
    int state;              /* enum alert_problem_state */
    int severity;           /* of its last alert */
    int told_severity;      /* the worst that people were told; 0 = they were told nothing */
    int64_t first_ms;       /* this outbreak's beginning */
    int64_t changed_ms;     /* the state's */
    int64_t told_ms;        /* when it was last decided to tell; 0 = never in this outbreak */
    uint32_t repeats;       /* alerts since then */
    int64_t acked_until_ms; /* ACKNOWLEDGED */
    uint32_t escalated;     /* steps done since it is FIRING */
    int64_t escalated_ms;   /* the last of them, or the beginning */
    int telling;            /* enum alert_tell_kind: not confirmed yet */
    int64_t telling_ms;     /* when it was begun, or begun again */
    int64_t due_ms;         /* to be looked at then; 0 = never */
};

/* What its route wants. */
struct alert_problem_rule {
    int64_t repeat_ms; /* 0 = never */
    size_t n_steps;
    int64_t after_ms[ALERT_STEPS_MAX];
    int64_t again_ms; /* the last step again; 0 = never */
};

enum alert_problem_event_kind {
    ALERT_PROBLEM_RAISE,   /* an alert: severity, mute, sure */
    ALERT_PROBLEM_RESOLVE, /* an alert that says it is over: severity, sure */
    ALERT_PROBLEM_ACK,     /* until_ms */
    ALERT_PROBLEM_UNACK,   /* mute */
    ALERT_PROBLEM_LOOK,    /* time has passed, or what mutes is different: mute */
    ALERT_PROBLEM_TOLD,    /* what was being told is durable */
};
struct alert_problem_event {
    enum alert_problem_event_kind kind;
    int severity;
    bool sure;  /* false: the shared memory could not be asked: then rather once too often than not at all */
    bool muted; /* something mutes it now ... */
    int64_t mute_until_ms; /* ... until then; 0 = that has no end of its own */
    int64_t until_ms;
};

enum alert_verdict {
    ALERT_NOTIFY,
    ALERT_REPEAT, /* known to people already: recorded and counted */
    ALERT_STRAY,  /* the end of a problem that nobody was told of: recorded */
    ALERT_MUTED,  /* silenced, inhibited or acknowledged: recorded */
};
struct alert_problem_result {
    enum alert_verdict verdict; /* RAISE, RESOLVE */
    uint32_t repeats;           /* alerts since people were last told, before this */
    enum alert_tell_kind tell;  /* LOOK, UNACK: to be told now, to the end or to the step `step` */
    bool again;                 /* ... which was begun before, under an earlier revision */
    size_t step;                /* ALERT_TELL_STEP: its number, from 0 */
    bool refused;               /* ACK, UNACK: it is not there, or not acknowledged */
    bool changed;               /* others must hear of it: state, severity, acknowledgement, escalation */
    bool touched;               /* anything is different: to be written */
    bool forget;                /* LOOK: it has been over for long, or asked nothing of anybody */
};
struct alert_problem_result alert_problem_decide(struct alert_problem *p, const struct alert_problem_rule *rule,
                                                 const struct alert_problem_event *ev, int64_t now_ms);

/* False for what alert_problem_decide() cannot have made: a damaged document. */
bool alert_problem_sound(const struct alert_problem *p);
bool alert_problem_same(const struct alert_problem *a, const struct alert_problem *b);
static inline bool alert_problem_open(const struct alert_problem *p)
{
    return p->state >= ALERT_PROBLEM_FIRING && p->state <= ALERT_PROBLEM_MUTED;
}

#endif
