/* audit_log.h - appends to the trail: group commit, rotation, checkpoints, recovery after a crash. For one loop. */
#ifndef REDOUBT_AUDIT_LOG_H
#define REDOUBT_AUDIT_LOG_H

#include "audit/audit_chain.h"
#include "common/loop.h"
#include <stdbool.h>

struct audit_log;

struct audit_log_opts {
    const char *dir;       /* of this replica, locked by its owner */
    int64_t segment_bytes; /* a new segment begins beyond this */
    /* Sees what the last two segments hold already, at open; may be NULL. */
    void (*on_old)(void *ctx, const void *stored, size_t len);
    void *ctx;
};
struct audit_log_found { /* what open met; for the log and an alert */
    bool fresh;          /* a new chain was begun */
    uint64_t torn_bytes; /* cut off: a write that a crash cut short */
    /* The old files do not verify: they were moved to this directory, untouched, and a new chain was begun. "" = no. */
    char set_aside[512];
    char why[ERR_TEXT_MAX];
};
struct audit_log *audit_log_open(struct loop *l, const struct audit_log_opts *o, struct audit_log_found *found,
                                 struct err *e);

/* seq 0 = could not be made durable (text). Called exactly once, on the loop, never from inside audit_log_append. */
typedef void (*audit_log_cb)(void *ctx, uint64_t seq, const char *error);
void audit_log_append(struct audit_log *a, const void *stored, size_t len, audit_log_cb cb, void *ctx);

struct audit_log_status {
    unsigned char chain[AUDIT_CHAIN_BYTES];
    uint64_t size; /* records that are durable */
    unsigned char hash[AUDIT_HASH_BYTES];
    uint64_t checkpoint_size;
    size_t waiting;         /* records not yet durable */
    uint64_t lost_segments; /* that were deleted while they were written: what they held is gone */
};
void audit_log_status(const struct audit_log *a, struct audit_log_status *ret);
/* Signs a checkpoint if anything was appended since the last one. */
void audit_log_checkpoint(struct audit_log *a);
/* Waits for what is being written, signs a last checkpoint, frees; then done(ctx). */
void audit_log_close(struct audit_log *a, loop_cb done, void *ctx);

#endif
