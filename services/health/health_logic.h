/* health_logic.h - an agent's judgement by what it decides: rates of decisions that go wrong, over a window. Pure; bounded memory: fixed
 * tables of hashes, where the newest or the most frequent stay. Times are monotonic milliseconds: only the time of receipt counts.
 *
 * A fault begins when its share or number reaches the mark, and ends when it has been below for a whole window in which something was
 * heard: an agent that was stopped because of it has not thereby become well. */
#ifndef REDOUBT_HEALTH_LOGIC_H
#define REDOUBT_HEALTH_LOGIC_H

#include "health/health.h"

#define HEALTH_LOGIC_BUCKETS     10 /* of a window; it holds at least nine tenths of it */
#define HEALTH_LOGIC_EVENTS      512
#define HEALTH_LOGIC_ACTS        128
#define HEALTH_LOGIC_WAYS        4 /* places that one key may have in a table */
#define HEALTH_LOGIC_EXAMPLE_MAX 64

/* As in decision.proto. */
enum health_decision_outcome {
    HEALTH_DECISION_DONE = 1,
    HEALTH_DECISION_DENIED,
    HEALTH_DECISION_MALFORMED,
    HEALTH_DECISION_EXCEPTION,
};
struct health_decision {
    const char *event_key, *verdict, *action, *object, *detail;
    int outcome;
};

struct health_logic_rule {
    int64_t window_ms;
    uint32_t min_decisions;
    uint32_t malformed_percent, contradictory_percent, denied_percent; /* 0 = not looked at */
    uint32_t repeats, exceptions;                                      /* the same */
};

enum health_logic_kind { /* in order of weight: the first one that holds is named */
                         HEALTH_LOGIC_MALFORMED,
                         HEALTH_LOGIC_CONTRADICTION,
                         HEALTH_LOGIC_EXCEPTIONS,
                         HEALTH_LOGIC_REPETITION,
                         HEALTH_LOGIC_DENIED,
                         HEALTH_LOGIC_KINDS
};

struct health_logic_counts {
    uint32_t decisions, actions, malformed, contradictory, denied;
    uint32_t exceptions;         /* decisions that ended in one */
    uint32_t counted_exceptions; /* that heartbeats tell of: perhaps the very same ones, so the larger number holds */
    uint32_t beats;
};
struct health_logic {
    int64_t at; /* number of the newest bucket */
    struct health_logic_counts buckets[HEALTH_LOGIC_BUCKETS];
    struct {
        uint64_t key, decision; /* key 0 = free */
        int64_t ms;
    } events[HEALTH_LOGIC_EVENTS];
    struct health_logic_act {
        uint64_t key; /* 0 = free */
        int64_t at;
        uint32_t n[HEALTH_LOGIC_BUCKETS];
    } acts[HEALTH_LOGIC_ACTS];
    struct {
        bool on;
        int64_t over_ms; /* last time that it was at its mark */
        char example[HEALTH_LOGIC_EXAMPLE_MAX];
    } kinds[HEALTH_LOGIC_KINDS];
};

void health_logic_init(struct health_logic *l);
void health_logic_take(struct health_logic *l, const struct health_logic_rule *rule, const struct health_decision *d,
                       int64_t now_ms);
/* A heartbeat, with so many new exceptions. */
void health_logic_beat(struct health_logic *l, const struct health_logic_rule *rule, uint64_t exceptions,
                       int64_t now_ms);
/* Fills in fault and detail. False: nothing was heard for a window, so nothing is to be said but what was said before. */
bool health_logic_judge(struct health_logic *l, const struct health_logic_rule *rule, int64_t now_ms,
                        struct health_result *r);
/* The counts of the window, for evidence and tests. */
struct health_logic_counts health_logic_counts(struct health_logic *l, const struct health_logic_rule *rule,
                                               int64_t now_ms);

#endif
