/* backup_copy.h - what copies of NATS' streams and of Redis' keys have in common: how they are asked for, and how they end. */
#ifndef REDOUBT_CONTINUITY_BACKUP_COPY_H
#define REDOUBT_CONTINUITY_BACKUP_COPY_H

#include "common/err.h"
#include "common/loop.h"
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* What a directory holds. */
struct backup_copy_sum {
    uint64_t items; /* messages, keys */
    uint64_t files, bytes;
    int64_t saved_unix_ms; /* when it was begun */
};
struct backup_copy_end { /* valid only inside the callback */
    bool ok;
    bool refused;     /* what is there already spoke against it: nothing was changed, `force` would */
    const char *text; /* one line for people, also if ok */
    struct backup_copy_sum sum;
    uint64_t left_out; /* restore: keys whose time was over, or that were there already */
};
typedef void (*backup_copy_done)(void *ctx, const struct backup_copy_end *r);

/* SHA-256 of a file, in hexadecimal, and its size. Blocks; ends early if *stop (may be NULL). 0, or -1 with the reason. */
int backup_copy_hash(const char *path, const atomic_bool *stop, char hex[static 65], uint64_t *ret_bytes,
                     struct err *e);
/* Writes a file beside and renames it, durable when this returns. Blocks for one fsync. */
int backup_copy_write(const char *dir, const char *name, const void *data, size_t len, struct err *e);

#endif
