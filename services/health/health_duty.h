/* health_duty.h - who does what among the replicas of redoubt-health. Pure.
 *
 * Every replica watches what costs nothing, so that each has a verdict of its own. What costs money is probed by the holder
 * of the lease `health` alone, and it alone announces. With the store away nobody can know who holds it: then everyone watches
 * everything, and nobody announces. Sharing of targets by live leases and quorums will come by these two questions. */
#ifndef REDOUBT_HEALTH_DUTY_H
#define REDOUBT_HEALTH_DUTY_H

#include <stdbool.h>

struct health_duty {
    bool store_up;
    bool held; /* the lease */
};
bool health_duty_probes(const struct health_duty *d, bool paid);
bool health_duty_announces(const struct health_duty *d);

#endif
