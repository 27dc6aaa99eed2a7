/* breaker.h - the breaker's policy, pure: (document, rule, event, now) -> (document', result). No I/O, no clock, no allocation.
 *
 * Times are shared milliseconds (clock_shared_ms). A document changes by exactly one epoch per call, or not at all. */
#ifndef REDOUBT_BREAKER_H
#define REDOUBT_BREAKER_H

#include "common/sm.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Numbers as in proto/redoubt/v1/breaker.proto; breaker_doc.c asserts it. */
enum breaker_state {
    BREAKER_NONE, /* no document yet */
    BREAKER_CLOSED,
    BREAKER_OPEN,
    BREAKER_HALF_OPEN,
    BREAKER_PROBATION,
    BREAKER_FORCED_OPEN,
    BREAKER_FORCED_CLOSED,
    BREAKER_METRICS_ONLY,
    BREAKER_STATES
};
enum breaker_reason {
    BREAKER_BY_NOTHING,
    BREAKER_BY_FAILURE_RATIO,
    BREAKER_BY_CONSECUTIVE,
    BREAKER_BY_SLOW_RATIO,
    BREAKER_BY_RETRY_AFTER,
    BREAKER_BY_UNHEALTHY,
    BREAKER_BY_ELAPSED,
    BREAKER_BY_TRIAL_PASSED,
    BREAKER_BY_TRIAL_FAILED,
    BREAKER_BY_PERMIT_EXPIRED,
    BREAKER_BY_RAMP,
    BREAKER_BY_OPERATOR,
    BREAKER_BY_INITIAL,
    BREAKER_BY_PERMIT_GRANTED,
    BREAKER_BY_SCOPE,
    BREAKER_BY_SCOPE_ENDED,
    BREAKER_REASONS
};

/* A Retry-After beyond this is taken as this; rounded up to whole steps, so that many of them make few changes. */
#define BREAKER_RETRY_MAX_MS  (24 * 3600 * 1000)
#define BREAKER_RETRY_STEP_MS 1000
#define BREAKER_HOLDER_MAX    65
#define BREAKER_BUCKETS       10 /* of the window */
#define BREAKER_REPORTERS     32 /* those heard last; of more than that a sample votes */
/* forced_by of a document that the settings (`metrics_only`) have forced. */
#define BREAKER_SETTINGS      "settings"

struct breaker_rule {
    int64_t window_ms;
    uint32_t window_calls;                                          /* the last so many calls instead; 0 = by time */
    uint32_t min_calls, failure_percent, slow_percent, consecutive; /* 0 = that rule is off */
    int64_t slow_ms, slow_first_ms;                                 /* 0 = off */
    int64_t open_ms, open_max_ms, decay_ms, permit_ms, ramp_step_ms;
    uint32_t jitter_percent, min_reporters;
    bool metrics_only;
    uint64_t seed; /* of the jitter: differs between targets */
};

/* What the window says, after a merge. */
struct breaker_totals {
    uint32_t calls, failures, slow;
    uint32_t consecutive;            /* failures since the last success, in order of arrival */
    uint32_t reporters, failing;     /* seen in the window; those of them whose last call was bad (failed or slow) */
    uint8_t runs[BREAKER_REPORTERS]; /* of each reporter: its own failures in a row, up to 255 */
    uint64_t passed;                 /* good calls since the document changed last */
    int64_t first_failure_ms;        /* first failure since the window held none; 0 = holds none */
    int64_t run_since_ms;            /* first of the consecutive failures; 0 = none */
    int64_t retry_until_ms;          /* latest end of a Retry-After reported since the document changed last */
    int64_t began_ms; /* the window began later than the document: was lost, or emptied; 0 = it did not */
};

/* Counts one reporter's vote in. */
void breaker_totals_vote(struct breaker_totals *t, uint8_t run, bool bad);

struct breaker_permit {
    uint64_t id; /* last one given out */
    char holder[BREAKER_HOLDER_MAX];
    int64_t expires_ms; /* 0 = not out */
};

/* The document. Texts belong to the caller and must outlive it. */
struct breaker {
    int state, previous, reason;
    uint64_t epoch; /* 0 = there is no document */
    uint32_t
        maker; /* who made it: two replicas that decide alike in the same moment make two documents; one is stored */
    int64_t changed_ms, since_ms;
    int64_t until_ms; /* end of OPEN or of a forced state; 0 = none */
    uint32_t ramp_percent;
    struct breaker_permit permit;
    struct breaker_totals totals; /* behind the last change */
    uint32_t open_count;
    int64_t evidence_ms;
    const char *forced_by, *forced_why; /* NULL = nobody */
    const char *scope;                  /* OPEN, HALF_OPEN: because of this scope; NULL = on evidence of its own */
};

enum breaker_event_kind {
    BREAKER_EV_INITIAL, /* there is no document: make the first one */
    BREAKER_EV_RULES,   /* the rule is new to this replica */
    BREAKER_EV_TOTALS,  /* the window after a merge; also the tick: time has passed */
    BREAKER_EV_VERDICT, /* the watchers' present verdict is UNHEALTHY */
    BREAKER_EV_OUTCOME, /* a call made under a permit has ended */
    BREAKER_EV_SCOPE,   /* what it shares with others is ill, or is well again */
    BREAKER_EV_ALLOW,   /* may I call? */
    BREAKER_EV_OPEN,    /* a person */
    BREAKER_EV_CLOSE,
    BREAKER_EV_RESET,
    BREAKER_EV_METRICS,
    BREAKER_EVENTS
};
struct breaker_event {
    enum breaker_event_kind kind;
    union {
        struct breaker_totals totals;
        struct {
            int64_t changed_ms, since_ms; /* when it was given; the first evidence behind it */
        } verdict;
        struct {
            uint64_t permit_id;
            bool good, slow, data_path;
            int64_t retry_until_ms;
        } outcome;
        struct {
            const char *name;
            bool ill;
            int64_t until_ms;            /* not to be called until then at most */
            int64_t first_ms, newest_ms; /* evidence of the others: the first of all, of the newest outage */
        } scope;
        struct {
            const char *holder;
            uint32_t draw; /* 0..99, random: who passes while the ramp lets only a share through */
        } allow;
        struct {
            const char *by, *why;
            int64_t duration_ms; /* 0 = until reset */
        } person;
    } u;
};

struct breaker_result {
    bool changed;    /* b is one epoch further: store it, then announce it */
    bool already;    /* a person asked for what is so already */
    bool would_open; /* METRICS_ONLY: an armed breaker would have opened; reason says why */
    int reason;
    bool admitted; /* BREAKER_EV_ALLOW */
    uint64_t permit_id;
    int64_t retry_after_ms; /* if not admitted */
};
struct breaker_result breaker_decide(struct breaker *b, const struct breaker_rule *rule,
                                     const struct breaker_event *ev, int64_t now_ms);

/* Which rule the totals of a window break that began then (BREAKER_BY_NOTHING = none), and how long to stay away the n-th time in a
 * row; `number` makes the jitter differ. */
int breaker_tripped(const struct breaker_rule *rule, const struct breaker_totals *t, int64_t since_ms,
                    int64_t now_ms);
int64_t breaker_open_time_ms(const struct breaker_rule *rule, uint32_t n, uint64_t number);

/* When to look again although nothing happens; 0 = never. began_ms as in the totals. */
int64_t breaker_wake_ms(const struct breaker *b, const struct breaker_rule *rule, int64_t began_ms, int64_t now_ms);
/* Who admits what by this document without asking: a request for leave needs a decision only if this is true. */
bool breaker_needs_permit(const struct breaker *b, int64_t now_ms);

/* What people must be told about a change. */
enum breaker_news { BREAKER_NO_NEWS, BREAKER_RAISE, BREAKER_RESOLVE };
enum breaker_news breaker_news(int previous, int state);
/* True if a trial has failed that was the first evidence of the target's own: so far it was open because of a scope, and nobody was told of
 * it in particular. */
bool breaker_own_evidence(int previous, int reason, int64_t evidence_ms, int64_t changed_ms);

/* How one report counts. Numbers of outcomes as in report.proto. */
enum breaker_class {
    BREAKER_CALL_IGNORED, /* says nothing about the target */
    BREAKER_CALL_GOOD,
    BREAKER_CALL_FAILED,
    BREAKER_CALL_RUNNING /* counted as slow; neither good nor failed */
};
struct breaker_call {
    enum breaker_class class;
    bool slow;
    uint64_t reporter; /* hash of the name */
    int64_t at_ms;     /* when it ended, within the window */
    int64_t retry_until_ms;
};
struct breaker_report {
    int outcome;
    int64_t total_ms, first_token_ms, retry_after_ms, ended_ms;
    bool probe, data_path;
    uint64_t reporter;
};
struct breaker_call breaker_classify(const struct breaker_rule *rule, const struct breaker_report *r, int64_t now_ms);

uint64_t breaker_hash(const void *data, size_t len, uint64_t seed);

extern const struct sm_table breaker_sm;

#endif
