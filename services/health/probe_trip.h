/* probe_trip.h - what the probes of the suite's own bus and store share: one question on a connection that is open anyway. */
#ifndef REDOUBT_HEALTH_PROBE_TRIP_H
#define REDOUBT_HEALTH_PROBE_TRIP_H

#include "health/health_probe.h"

/* One run. It is told of once, by whoever comes first: the answer, the time-out or the cancellation; the memory goes when nobody will
 * call back any more. */
struct probe_trip {
    struct health_probe_env env;
    const struct health_probe_conf *conf;
    health_probe_done done;
    void *ctx;
    void (*go)(struct probe_trip *t); /* asks; must hold the trip until its answer */
    struct loop_timer limit;
    int64_t began_ms;
    int kind;
    bool cancelled, told;
    int holds;
};

void *probe_trip_start(int kind, void (*go)(struct probe_trip *t), const struct health_probe_env *env,
                       struct health_probe_conf *conf, health_probe_done done, void *ctx);
void probe_trip_cancel(void *run);
/* Says how it ended; nothing if that was said already. */
void probe_trip_tell(struct probe_trip *t, int fault, const char *detail);
void probe_trip_hold(struct probe_trip *t);
void probe_trip_drop(struct probe_trip *t);

#endif
