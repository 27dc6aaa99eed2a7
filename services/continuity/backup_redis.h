/* backup_redis.h - the suite's keys of Redis in one file, and back.
 *
 * Every key `redoubt:*` but leases and members, which are of processes that may be gone: DUMP and the time that it has left. Keys are saved one by one while
 * the suite runs; each is whole, as each is one document. Redis is no record: what is newer on the bus overrules it, so an older copy is safe. */
#ifndef REDOUBT_CONTINUITY_BACKUP_REDIS_H
#define REDOUBT_CONTINUITY_BACKUP_REDIS_H

#include "common/store.h"
#include "continuity/backup_copy.h"

#define BACKUP_REDIS_FILE "redis.dump"

struct backup_redis_opts {
    struct loop *loop;
    struct store *store;
    const char
        *dir; /* save: made if it is missing; the file of an earlier save is replaced when the new one is whole */
    /* Restore only: keys that are there are replaced. Without: if any of the suite's keys is there, nothing is done at all. */
    bool force;
};
/* Everything in o is copied. done comes exactly once, later, on the loop. */
struct backup_redis;
struct backup_redis *backup_redis_save(const struct backup_redis_opts *o, backup_copy_done done, void *ctx);
struct backup_redis *backup_redis_restore(const struct backup_redis_opts *o, backup_copy_done done, void *ctx);
/* done does not come any more. Before the store is closed, and the loop goes on after it. NULL is fine. */
void backup_redis_drop(struct backup_redis *x);

/* Reads the file and its hash. Blocks: for worker threads and commands; ends early if *stop (may be NULL). 0, or -1 with the reason. */
int backup_redis_verify(const char *dir, const atomic_bool *stop, struct backup_copy_sum *ret, struct err *e);
/* Is this one of the keys that are saved? */
bool backup_redis_wants(const char *key, size_t len);

#endif
