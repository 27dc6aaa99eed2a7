/* store_trouble.c - one alert for all that keeps a service from the shared state, and its end. */
#include "common/store_trouble.h"
#include <stdio.h>

#define ALERT_MS 2000 /* a restart of Redis is no news */

static void tell(struct service *s, bool trouble, const char *means)
{
    char key[64], summary[512];
    const char *name = s->desc->name;
    PB(Alert) a = PB_INIT(ALERT);
    snprintf(key, sizeof key, "%s/shared-state", name);
    if (trouble)
        snprintf(summary, sizeof summary, "shared state (Redis) cannot be used by %s: %s", name, means);
    else
        snprintf(summary, sizeof summary, "shared state (Redis) can be used by %s again", name);
    a.dedup_key = key;
    a.severity = REDOUBT__V1__SEVERITY__SEVERITY_HIGH;
    a.failure_kind = REDOUBT__V1__FAILURE_KIND__FAILURE_KIND_NETWORK;
    a.summary = summary;
    a.detail = (char *)store_last_error(s->store);
    a.resolved = !trouble;
    service_alert(s, &a);
}

void store_trouble_now(struct service *s, struct store_trouble *t, bool trouble, int64_t now_mono_ms,
                       const char *means)
{
    if (!trouble)
        t->since_mono_ms = 0;
    else if (t->since_mono_ms == 0)
        t->since_mono_ms = now_mono_ms;
    if (trouble ? !t->told && now_mono_ms - t->since_mono_ms >= ALERT_MS : t->told) {
        tell(s, trouble, means);
        t->told = trouble;
    }
}
