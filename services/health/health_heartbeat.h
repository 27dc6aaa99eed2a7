/* health_heartbeat.h - from an agent's signs of life, and their absence, to results. Pure; times are monotonic milliseconds of this
 * process, because only the time of receipt is trusted.
 *
 * An agent is alive while any of its processes is heard. It is stuck while any process that is heard has stood still for too long,
 * and its means are those of the process that is worst off.
 *
 * When a silence counts: the first heartbeat is missed when phi says so, by the agent's own rhythm; the `fall`-th never later than
 * HEALTH_LATE_PERCENT of an interval after it was due by the settings. An agent with a wild rhythm gets its heartbeats counted
 * as missed late and quickly, one with an exact rhythm one per interval. So the bound on detection holds whatever was learnt. */
#ifndef REDOUBT_HEALTH_HEARTBEAT_H
#define REDOUBT_HEALTH_HEARTBEAT_H

#include "health/health_phi.h"
#include "health/health_resource.h"
#include <stdbool.h>
#include <stdint.h>

/* The last missed heartbeat may be late by this share of its interval (and at least by so many ms) until it counts. */
#define HEALTH_LATE_PERCENT 20
#define HEALTH_LATE_MIN_MS  20
#define HEALTH_PROCESSES_MAX                                                                                         \
    16 /* of one agent that are told apart; of more, the one heard longest ago is forgotten */

struct health_beat_rule {
    int64_t interval_ms;
    uint32_t fall, phi;
    int64_t stuck_ms;
};

struct health_process {
    uint64_t instance; /* hash of its name */
    uint64_t sequence, progress, exceptions;
    int64_t heard_ms;
    int64_t moved_ms; /* when progress was last seen to move, or nothing waited */
    struct health_resource means;
    uint8_t means_fault; /* as it was last judged */
};

struct health_heartbeat {
    int64_t heard_ms; /* last heartbeat, or the start of watching */
    bool ever;        /* one was heard */
    bool rhythmic;    /* nothing kept us from hearing since the last one: the next interval is one of the agent's */
    uint32_t missed;  /* since then, as told by health_heartbeat_tick() */
    int64_t first_ms; /* the silence at which the first one is missed */
    uint32_t n;
    struct health_process processes[HEALTH_PROCESSES_MAX];
    struct health_phi phi;
};

/* A new agent, or one whose rule has changed: what was learnt is forgotten, what was heard is not. */
void health_heartbeat_init(struct health_heartbeat *b, const struct health_beat_rule *rule, int64_t now_ms);
/* Watching starts again after a time in which nothing could be heard: a full grace from now on. */
void health_heartbeat_start(struct health_heartbeat *b, int64_t now_ms);

enum health_beat { HEALTH_BEAT_REPEAT, HEALTH_BEAT_WELL, HEALTH_BEAT_STUCK };
struct health_heard {
    uint64_t instance; /* hash of its name */
    uint64_t sequence, progress, exceptions;
    uint32_t queue_depth;
};
struct health_beat_news {
    struct health_process *who;         /* NULL for a repeat */
    const struct health_process *stuck; /* stands still the longest; NULL = none */
    uint64_t exceptions;                /* new ones of `who` */
};
enum health_beat health_heartbeat_heard(struct health_heartbeat *b, const struct health_beat_rule *rule,
                                        const struct health_heard *h, int64_t now_ms, struct health_beat_news *ret);
/* The live process whose means are worst; NULL if none has any fault. */
const struct health_process *health_heartbeat_worst(const struct health_heartbeat *b,
                                                    const struct health_beat_rule *rule, int64_t now_ms);
/* So long after the last heartbeat the agent is down at the latest. */
int64_t health_heartbeat_bound_ms(const struct health_beat_rule *rule);
/* When to look for the next missed one. */
int64_t health_heartbeat_due_ms(const struct health_heartbeat *b, const struct health_beat_rule *rule);
/* True if one more has been missed by now. */
bool health_heartbeat_tick(struct health_heartbeat *b, const struct health_beat_rule *rule, int64_t now_ms);

#endif
