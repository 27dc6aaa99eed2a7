/* health_traffic.h - whether real calls prove a target well enough to spare a paid probe. Pure; times are monotonic milliseconds. */
#ifndef REDOUBT_HEALTH_TRAFFIC_H
#define REDOUBT_HEALTH_TRAFFIC_H

#include <stdbool.h>
#include <stdint.h>

#define HEALTH_TRAFFIC_KEPT      64 /* summaries: a minute of five replicas */
#define HEALTH_SPARE_CALLS       5  /* so many good calls within an interval are as good as a probe */
#define HEALTH_SPARE_ROW         10 /* not more probes than this are spared in a row */
#define HEALTH_ASKS_PER_INTERVAL 4

struct health_traffic {
    struct {
        int64_t heard_ms;
        uint32_t calls;
    } kept[HEALTH_TRAFFIC_KEPT]; /* a ring of good summaries */
    uint32_t at, n;
    uint32_t spared;  /* in a row */
    bool bad;         /* the last summary was */
    bool news;        /* it was the first bad one, and nobody has asked yet what follows */
    bool trusted;     /* calls stood for probes until then */
    int64_t asked_ms; /* last probe that bad news brought; 0 = none yet */
};
/* True if it is bad news: whatever was good before proves nothing any more. */
bool health_traffic_take(struct health_traffic *t, uint32_t calls, uint32_t failures, uint32_t slow, int64_t now_ms);
/* After bad news: is a probe due at once, whenever the last one was? A watcher that saw the target well a moment ago would else stand
 * against those whose calls fail now. At the first bad news after good; where calls did not stand for probes, four times an interval at
 * most, since each costs money. */
bool health_traffic_asks(struct health_traffic *t, int64_t interval_ms, int64_t now_ms);
/* Asked when a probe is due: true if it is left out (and counted as such). */
bool health_traffic_spares(struct health_traffic *t, int64_t interval_ms, int64_t now_ms);

#endif
