/* audit_log.h - appends to the trail: group commit, rotation, checkpoints, recovery after a crash. For one loop. */
#ifndef REDOUBT_AUDIT_LOG_H
#define REDOUBT_AUDIT_LOG_H

#include "audit/audit_checkpoint.h"
#include "audit/audit_disk.h"
#include "common/loop.h"
#include <stdbool.h>

struct audit_log;

struct audit_log_opts {
    const char *dir;               /* of this replica, locked by its owner */
    const char *second_dir;        /* where new segments go when told so (audit_log_place); NULL or "" = none */
    const char *key_file;          /* NULL or "" = audit.key in dir */
    const char *distrust;          /* NULL, or why the trail that is there is not gone on with: it is set aside */
    bool only_whole;               /* what does not verify is left as it is, and not opened; no chain is begun */
    int64_t segment_bytes;         /* a new segment begins beyond this */
    const struct audit_disk *disk; /* NULL = the real one */
    /* Sees what the last two segments hold already, at open; may be NULL. */
    void (*on_old)(void *ctx, const void *stored, size_t len);
    /* More is durable: audit_log_status says what. May be NULL. */
    void (*on_durable)(void *ctx);
    /* A checkpoint is durable. May be NULL. */
    void (*on_checkpoint)(void *ctx, const struct audit_checkpoint *c, const char *note, size_t len);
    void *ctx;
};
struct audit_log_found { /* what open met; for the log and an alert */
    bool fresh;          /* a new chain was begun */
    uint64_t torn_bytes; /* cut off: a write that a crash cut short */
    bool key_changed;    /* a change of the key that a crash had cut short was brought to its end */
    uint64_t pruned;     /* segments whose deletion a crash had cut short, deleted now */
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
    unsigned char root[AUDIT_ROOT_BYTES]; /* of the tree of all of them */
    uint64_t checkpoint_size;
    int64_t checkpoint_unix_ms;
    const char *note; /* the newest checkpoint, until the next call of anything here */
    size_t note_len;
    unsigned char public_key[AUDIT_PUBLIC_BYTES];
    uint32_t rotations;
    uint64_t segment_first;      /* the one that is written; 0 = none yet */
    uint64_t segment_bytes;      /* of it that are durable */
    bool in_second;              /* it is in the second directory */
    uint64_t pruned;             /* the last record that was deleted by retention */
    size_t waiting;              /* records not yet durable */
    uint64_t lost_segments;      /* that were deleted while they were written: what they held is gone */
    uint64_t failed_checkpoints; /* in a row that could not be written */
};
void audit_log_status(const struct audit_log *a, struct audit_log_status *ret);
/* Signs a checkpoint if anything was appended since the last one. */
void audit_log_checkpoint(struct audit_log *a);

/* Where the next segments go. The present one is left at once if it is in the other directory. */
void audit_log_place(struct audit_log *a, bool second);

/* error "" = done. Once, on the loop, never from inside the call. */
typedef void (*audit_log_done)(void *ctx, const char *error);
/* Signs with a new key from here on; README.md says where it comes from. One at a time. */
void audit_log_rotate_key(struct audit_log *a, audit_log_done cb, void *ctx);
/* Deletes the segments that hold nothing behind record `last`, never the last two, and only what a checkpoint covers: first the
 * signed note that vouches for them, then they. One at a time. */
void audit_log_prune(struct audit_log *a, uint64_t last, audit_log_done cb, void *ctx);

/* Waits for what is being written, signs a last checkpoint, frees; then done(ctx). */
void audit_log_close(struct audit_log *a, loop_cb done, void *ctx);

#endif
