/* health_duty.c - who does what among the replicas of redoubt-health. */
#include "health/health_duty.h"

bool health_duty_probes(const struct health_duty *d, bool paid)
{
    return !paid || d->held || !d->store_up;
}

bool health_duty_announces(const struct health_duty *d)
{
    return d->held && d->store_up;
}
