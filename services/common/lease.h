/* lease.h - who may act: a named lease in Redis with a fencing token that only grows.
 *
 * A holder renews every ttl/3 and treats the lease as lost on its own monotonic clock ttl/6 before Redis would expire it,
 * counted from when the last successful renewal was *sent*. Writers pass the token to store_doc_put(), which refuses an
 * older one: a holder that was paused past its lease can do no harm. */
#ifndef REDOUBT_LEASE_H
#define REDOUBT_LEASE_H

#include "common/loop.h"
#include "common/store.h"

struct lease;
struct lease_opts {
    const char *name;   /* key becomes redoubt:{lease:<name>} */
    const char *holder; /* instance */
    int64_t ttl_ms;     /* 0 = 3,000 */
    int64_t ask_ms;     /* while another holds it: asked for this often; 0 = ttl/3 */
    void (*on_held)(void *ctx, uint64_t fence);
    void (*on_lost)(void *ctx);
    void *ctx;
};
/* Tries for ever to get and keep it. Close it before its store: a closed store ends its commands with STORE_CLOSED for good. on_lost
 * is not called by lease_close(). NULL if memory is out. */
struct lease *lease_open(struct loop *l, struct store *s, const struct lease_opts *o);
/* The token while held, 0 otherwise, also before on_lost had a chance to run. Cheap: ask before each act. */
uint64_t lease_fence(const struct lease *x);
/* Gives it back at once (so that another need not wait for the TTL) and frees. done may be NULL. */
void lease_close(struct lease *x, loop_cb done, void *ctx);

#endif
