/* traffic.h - what real calls tell about a target that is dear to probe, summed up now and then. Pure. */
#ifndef REDOUBT_BREAKER_TRAFFIC_H
#define REDOUBT_BREAKER_TRAFFIC_H

#include "breaker/breaker.h"

#define BREAKER_TRAFFIC_EVERY_MS 5000

struct breaker_traffic {
    int64_t since_ms; /* of the counts: the first call in them */
    uint32_t calls, failures, slow;
    int64_t said_ms;
    bool said, said_bad; /* said: at least once; said_bad: the last summary had failures */
};
struct breaker_traffic_summary {
    uint32_t span_ms, calls, failures, slow;
};
/* Counts a real call. */
void breaker_traffic_add(struct breaker_traffic *t, const struct breaker_call *c, int64_t now_ms);
/* Is it time to say what was counted? Every BREAKER_TRAFFIC_EVERY_MS while there are calls; at once when the first failure comes after a summary without
 * any, so that nobody goes on relying on that one. */
bool breaker_traffic_due(const struct breaker_traffic *t, int64_t now_ms);
/* What was counted; counting begins anew. */
struct breaker_traffic_summary breaker_traffic_take(struct breaker_traffic *t, int64_t now_ms);

#endif
