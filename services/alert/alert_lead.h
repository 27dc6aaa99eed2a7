/* alert_lead.h - which replica does what time brings: digests, repeats, escalations, the dead-man's test. */
#ifndef REDOUBT_ALERT_LEAD_H
#define REDOUBT_ALERT_LEAD_H

#include "common/loop.h"
#include "common/store.h"
#include <stdbool.h>

struct alert_lead;
struct alert_lead_opts {
    const char *instance; /* kept by reference */
    int64_t lease_ttl_ms;
    void (*on_lead)(void *ctx); /* we lead from now on; may come again */
    void *ctx;
};
/* NULL if memory is out. */
struct alert_lead *alert_lead_open(struct loop *l, struct store *s, const struct alert_lead_opts *o);
/* True while we hold the lease. Also while Redis has been away for twice the lease's lifetime: then each replica leads for itself, as what
 * is told twice is better than what is not told. Cheap: ask before each act. */
bool alert_leads(const struct alert_lead *x);
void alert_lead_store(struct alert_lead *x, bool up); /* Redis is back, or away */
void alert_lead_close(struct alert_lead *x, loop_cb done,
                      void *ctx); /* gives the lease back at once; frees, then done (may be NULL) */

#endif
