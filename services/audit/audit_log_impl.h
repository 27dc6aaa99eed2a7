/* audit_log_impl.h - what the files of the log share: its state, and the trips to the disk. */
#ifndef REDOUBT_AUDIT_LOG_IMPL_H
#define REDOUBT_AUDIT_LOG_IMPL_H

#include "audit/audit_key.h"
#include "audit/audit_log.h"

/* A record that waits for its turn. */
struct audit_waiting {
    struct audit_waiting *next;
    audit_log_cb cb;
    void *ctx;
    uint32_t len;
    unsigned char stored[];
};

/* Where the chain stands; moves only when a write is durable. */
struct audit_position {
    uint64_t next_seq;
    uint64_t segment_first; /* 0 = no segment yet */
    off_t segment_size;
    bool second;                               /* the segment is in the second directory */
    unsigned char link[AUDIT_HASH_BYTES];      /* what the next record of the segment is chained to */
    unsigned char last_hash[AUDIT_HASH_BYTES]; /* of the last record */
    struct audit_merkle tree;                  /* of all records */
};

struct audit_dir {
    char path[512]; /* "" = there is none */
    int fd;
};

struct audit_log {
    struct loop *loop;
    struct audit_log_opts o; /* texts in it are the opener's: not used after opening */
    const struct audit_disk *disk;
    struct audit_dir dirs[2];
    int fd; /* of the last segment */
    bool want_second;
    struct audit_position pos;
    unsigned char chain[AUDIT_CHAIN_BYTES];
    struct audit_key key;
    uint32_t rotations;
    bool untaken; /* the key is not in its file yet, but beside it */
    uint64_t pruned;
    /* the newest checkpoint */
    uint64_t checkpoint_size;
    int64_t checkpoint_unix_ms;
    char note[AUDIT_NOTE_MAX];
    size_t note_len;
    uint64_t failed_checkpoints;
    uint64_t tree_segment; /* file `tree` is of this one */
    /* what a failed write may have left, to be taken away before the next one */
    bool dirty;     /* behind the end of the segment */
    uint64_t stray; /* a segment begun in vain: its number; 0 = none */
    bool stray_second;

    struct audit_waiting *first, **last;
    size_t n_waiting;
    uint64_t lost_segments; /* deleted under our hands */
    bool writing;
    /* Beside the records: one thing at a time. */
    bool busy;
    bool want_checkpoint, force_checkpoint;
    audit_log_done rotate_cb, prune_cb;
    void *rotate_ctx, *prune_ctx;
    uint64_t prune_last;
    bool closing, last_checkpoint;
    loop_cb closed;
    void *closed_ctx;
};

static inline struct audit_key_place audit_log_place_of(const struct audit_log *a)
{
    return (struct audit_key_place){a->dirs[0].path, a->dirs[0].fd, a->disk};
}

/* audit_side.c: checkpoints, changes of the key, pruning. Begins what is wanted, unless something is under way. */
void audit_side_go_on(struct audit_log *a);
void audit_log_go_on(struct audit_log *a); /* audit_log.c */

/* audit_open.c: finds out where the chain stands, or begins one. */
int audit_log_recover(struct audit_log *a, struct audit_log_found *found, struct err *e);

/* audit_prune.c, on a thread of its own: the last record deleted so far in *pruned. */
struct audit_prune {
    struct audit_key_place place;
    struct audit_dir dirs[2];
    const struct audit_key *key;
    unsigned char chain[AUDIT_CHAIN_BYTES];
    uint32_t rotations;
    uint64_t last, covered; /* nothing behind either of them goes */
};
int audit_prune(const struct audit_prune *p, uint64_t *pruned, struct err *e);
/* Deletes what `pruned` says is deleted: a crash came in between. */
int audit_prune_finish(const struct audit_prune *p, uint64_t pruned, uint64_t *ret_segments, struct err *e);

#endif
