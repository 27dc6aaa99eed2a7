/* health_heartbeat.c - from an agent's signs of life, and their absence, to results. */
#include "health/health_heartbeat.h"

void health_heartbeat_start(struct health_heartbeat *b, int64_t now_ms)
{
    b->heard_ms = now_ms;
    b->moved_ms = now_ms;
    b->missed = 0;
}

enum health_beat health_heartbeat_heard(struct health_heartbeat *b, uint64_t instance, uint64_t sequence,
                                        uint64_t progress, uint32_t queue_depth, int64_t now_ms)
{
    bool same = b->ever && b->instance == instance;
    if (same && sequence == b->sequence && sequence != 0)
        return HEALTH_BEAT_REPEAT;
    /* Another process, or the same one started again, counts from its own beginning. */
    if (!same || progress != b->progress || queue_depth == 0)
        b->moved_ms = now_ms;
    b->ever = true;
    b->instance = instance;
    b->sequence = sequence;
    b->progress = progress;
    b->heard_ms = now_ms;
    b->missed = 0;
    return now_ms - b->moved_ms >= HEALTH_STUCK_MS ? HEALTH_BEAT_STUCK : HEALTH_BEAT_WELL;
}

int64_t health_heartbeat_due_ms(const struct health_heartbeat *b, int64_t interval_ms)
{
    int64_t late_ms = interval_ms * HEALTH_LATE_PERCENT / 100;
    if (late_ms < HEALTH_LATE_MIN_MS)
        late_ms = HEALTH_LATE_MIN_MS;
    return b->heard_ms + interval_ms * ((int64_t)b->missed + 1) + late_ms;
}

bool health_heartbeat_tick(struct health_heartbeat *b, int64_t interval_ms, int64_t now_ms)
{
    if (now_ms < health_heartbeat_due_ms(b, interval_ms) || b->missed == UINT32_MAX)
        return false;
    b->missed++;
    return true;
}
