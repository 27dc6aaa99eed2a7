/* health_duty.h - who does what among the replicas of redoubt-health. Pure.
 *
 * Replicas share the targets by the ranking of common/rank.h over those that are alive. The first in a target's ranking owns it: it
 * probes, speaks to the breaker and announces; with several vantage points the next ones probe, too. */
#ifndef REDOUBT_HEALTH_DUTY_H
#define REDOUBT_HEALTH_DUTY_H

#include "common/rank.h"
#include <stdbool.h>

/* So many lifetimes of a membership the last known members go on sharing while the store is away. After that a replica that died
 * meanwhile would leave its targets unwatched, so everybody probes what costs nothing. */
#define HEALTH_SHARE_TTLS 3

struct health_duty {
    bool known;  /* who the members are was told at least once, or nobody can tell: we take ourselves for alone */
    bool shared; /* it was told not too long ago */
    bool sure;   /* our own membership holds now: we may announce */
};
/* known_ms: when the last refresh that was answered had been sent, INT64_MIN = none was. opened_ms: when we began to ask. */
struct health_duty health_duty_at(bool store_up, int64_t known_ms, int64_t opened_ms, int64_t ttl_ms, int64_t now_ms);

/* place: ours in the target's ranking. */
bool health_duty_owns(const struct health_duty *d, uint32_t place);
bool health_duty_probes(const struct health_duty *d, uint32_t place, uint32_t vantage, bool paid);
bool health_duty_announces(const struct health_duty *d, uint32_t place);
/* Does this replica, by its name `<host>-health-<n>`, run on that host? A file or a process is seen by the watchers of its host alone. */
bool health_duty_on_host(const char *instance, const char *host);

#endif
