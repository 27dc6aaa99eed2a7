/* health_traffic.h - whether real calls prove a target well enough to spare a paid probe. Pure; times are monotonic milliseconds. */
#ifndef REDOUBT_HEALTH_TRAFFIC_H
#define REDOUBT_HEALTH_TRAFFIC_H

#include <stdbool.h>
#include <stdint.h>

#define HEALTH_TRAFFIC_KEPT 64 /* summaries: a minute of five replicas */
#define HEALTH_SPARE_CALLS  5  /* so many good calls within an interval are as good as a probe */
#define HEALTH_SPARE_ROW    10 /* not more probes than this are spared in a row */

struct health_traffic {
    struct {
        int64_t heard_ms;
        uint32_t calls;
    } kept[HEALTH_TRAFFIC_KEPT]; /* a ring of good summaries */
    uint32_t at, n;
    uint32_t spared; /* in a row */
};
/* True if it is bad news: whatever was good before proves nothing any more. */
bool health_traffic_take(struct health_traffic *t, uint32_t calls, uint32_t failures, uint32_t slow, int64_t now_ms);
/* Asked when a probe is due: true if it is left out (and counted as such). */
bool health_traffic_spares(struct health_traffic *t, int64_t interval_ms, int64_t now_ms);

#endif
