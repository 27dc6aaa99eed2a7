/* store_trouble.h - people are told once that a service cannot use the shared state, and once that it can again. */
#ifndef REDOUBT_STORE_TROUBLE_H
#define REDOUBT_STORE_TROUBLE_H

#include "common/service.h"

/* Zero-initialise. */
struct store_trouble {
    int64_t since_mono_ms; /* 0 = there is none */
    bool told;
};
/* At each tick: is there trouble, be it that Redis is away or that it holds what cannot be read or written? The alert is
 * `<service>/shared-state`; `means` says what the service does not do meanwhile. */
void store_trouble_now(struct service *s, struct store_trouble *t, bool trouble, int64_t now_mono_ms,
                       const char *means);

#endif
