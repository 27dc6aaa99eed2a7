/* health_heartbeat.h - from an agent's signs of life, and their absence, to results. Pure; times are monotonic milliseconds of this
 * process, because only the time of receipt is trusted.
 *
 * An agent is alive while any of its processes is heard. Its progress is that of the process that was heard last. */
#ifndef REDOUBT_HEALTH_HEARTBEAT_H
#define REDOUBT_HEALTH_HEARTBEAT_H

#include <stdbool.h>
#include <stdint.h>

/* Alive, work waits, and not one unit done for this long: stuck. Longer than any single LLM call may take. */
#define HEALTH_STUCK_MS     60000
/* A heartbeat may be late by this share of its interval (and at least by so many ms) until it counts as missed. */
#define HEALTH_LATE_PERCENT 20
#define HEALTH_LATE_MIN_MS  20

struct health_heartbeat {
    int64_t heard_ms;  /* last heartbeat, or the start of watching */
    bool ever;         /* one was heard */
    uint32_t missed;   /* since then, as told by health_heartbeat_tick() */
    uint64_t instance; /* hash of its name */
    uint64_t sequence, progress;
    int64_t moved_ms; /* when progress was last seen to move, or nothing waited */
};

/* Watching starts, or starts again after a time in which nothing could be heard: a full grace from now on. */
void health_heartbeat_start(struct health_heartbeat *b, int64_t now_ms);

enum health_beat { HEALTH_BEAT_REPEAT, HEALTH_BEAT_WELL, HEALTH_BEAT_STUCK };
enum health_beat health_heartbeat_heard(struct health_heartbeat *b, uint64_t instance, uint64_t sequence,
                                        uint64_t progress, uint32_t queue_depth, int64_t now_ms);
/* When to look for the next missed one. */
int64_t health_heartbeat_due_ms(const struct health_heartbeat *b, int64_t interval_ms);
/* True if one more has been missed by now. */
bool health_heartbeat_tick(struct health_heartbeat *b, int64_t interval_ms, int64_t now_ms);

#endif
