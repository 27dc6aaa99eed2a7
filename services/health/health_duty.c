/* health_duty.c - who does what among the replicas of redoubt-health. */
#include "health/health_duty.h"
#include <string.h>

#define HOST_MAX 23 /* of a host's name, in the name of a replica */

struct health_duty health_duty_at(bool store_up, int64_t known_ms, int64_t opened_ms, int64_t ttl_ms, int64_t now_ms)
{
    bool told = known_ms != INT64_MIN;
    int64_t age_ms = told ? now_ms - known_ms : 0;
    return (struct health_duty){
        .known = told || now_ms - opened_ms >= ttl_ms,
        .shared = told && age_ms < HEALTH_SHARE_TTLS * ttl_ms,
        /* Less than the lifetime that Redis has given: our clock and its may run at different speeds. */
        .sure = store_up && told && age_ms < ttl_ms - ttl_ms / 6,
    };
}

bool health_duty_owns(const struct health_duty *d, uint32_t place)
{
    return d->known && place == 0;
}

bool health_duty_probes(const struct health_duty *d, uint32_t place, uint32_t vantage, bool paid)
{
    if (!d->known)
        return false;
    if (paid) /* money is spent once, whatever happens: by the first of the ranking as it was last known */
        return place == 0 || (d->shared && place < vantage);
    return !d->shared || place < (vantage > 1 ? vantage : 1);
}

bool health_duty_announces(const struct health_duty *d, uint32_t place)
{
    return d->sure && place == 0;
}

bool health_duty_on_host(const char *instance, const char *host)
{
    size_t n = strnlen(host, HOST_MAX);
    return strncmp(instance, host, n) == 0 && strncmp(instance + n, "-health-", 8) == 0;
}
