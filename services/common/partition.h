/* partition.h - which replica of a service acts for which agent: a fixed number of partitions, each under a fenced lease.
 *
 * An agent belongs to one partition for ever (a hash of its name). Each replica wants the partitions that rendezvous hashing over the live
 * members gives it, takes their leases, and gives back those that now belong to another; of a replica that dies the leases end by themselves
 * and its heirs take them. Whoever acts passes the token of the agent's partition to store_doc_put(). */
#ifndef REDOUBT_PARTITION_H
#define REDOUBT_PARTITION_H

#include "common/loop.h"
#include "common/store.h"

#define PARTITIONS 32

struct partitions;
struct partition_opts {
    const char
        *service; /* kept by reference. "fallback": leases `<service>-<n>`, members `redoubt:{<service>}:members` */
    const char *instance; /* kept by reference */
    int64_t lease_ttl_ms, member_ttl_ms;
    void (*on_held)(void *ctx, unsigned partition, uint64_t fence);
    void (*on_lost)(void *ctx, unsigned partition);
    void (*on_members)(void *ctx, size_t members); /* how many replicas are alive; may be NULL */
    void *ctx;
};
/* Opens no lease before the first list of members is known. NULL if memory is out. */
struct partitions *partitions_open(struct loop *l, struct store *s, const struct partition_opts *o);
unsigned partition_of(const char *agent);
/* The token while held, 0 otherwise, also before on_lost had a chance to run. Cheap: ask before each act. */
uint64_t partition_fence(const struct partitions *p, unsigned partition);
bool partition_holds(const struct partitions *p, const char *agent);
size_t partitions_held(const struct partitions *p);
size_t partitions_members(const struct partitions *p); /* live replicas as last told; 0 = never told */
void partitions_refresh(struct partitions *p);         /* at once: the store is back */
/* Gives everything back at once, leaves the list, frees. on_lost is not called. done may be NULL. */
void partitions_close(struct partitions *p, loop_cb done, void *ctx);

#endif
