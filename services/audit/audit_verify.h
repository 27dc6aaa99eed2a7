/* audit_verify.h - checks a trail from the first byte to the last, and names what is wrong and where. */
#ifndef REDOUBT_AUDIT_VERIFY_H
#define REDOUBT_AUDIT_VERIFY_H

#include "audit/audit_checkpoint.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define AUDIT_PROBLEMS_MAX  32
#define AUDIT_DIRS_MAX      4
#define AUDIT_WITNESSES_MAX 16
#define AUDIT_ANCHORS_MAX   8

struct audit_problem {
    char file[AUDIT_NAME_MAX];
    uint64_t offset; /* in the file */
    uint64_t seq;    /* record concerned; 0 = none */
    char what[ERR_TEXT_MAX];
};
struct audit_report {
    uint64_t segments;
    uint64_t records; /* that are whole and in their place */
    uint64_t bytes;
    uint64_t
        pruned; /* the last record that was deleted by retention: a signed note vouches for those up to it; 0 = none */
    uint64_t last_seq;
    uint64_t last_first_seq; /* names the last segment */
    size_t last_dir;         /* which of the directories holds it */
    bool headless; /* the last segment is the beginning of a header, or nothing: a crash while it was begun */
    unsigned char chain[AUDIT_CHAIN_BYTES];
    unsigned char last_hash[AUDIT_HASH_BYTES]; /* of record last_seq */
    unsigned char link[AUDIT_HASH_BYTES];      /* what a further record in the last segment is chained to */
    bool rooted;                               /* `tree` is that of all records up to last_seq */
    struct audit_merkle tree;
    bool checkpointed; /* a checkpoint by a key of the trail was found, and it fits */
    struct audit_checkpoint checkpoint;
    struct audit_keys keys;
    bool trusted;                       /* a key from outside was given, and it is one of the trail's */
    uint64_t trusted_since;             /* it signs from this size on */
    bool cosigned[AUDIT_WITNESSES_MAX]; /* the newest checkpoint, by the witness of this number */
    int64_t cosigned_at_unix_s[AUDIT_WITNESSES_MAX];
    /* Bytes after the last whole record of the last segment, beyond the checkpoint: a write that a crash cut short. Not a
     * problem: nothing acknowledged was in it, and the service takes it away at its next start. */
    uint64_t torn_bytes;
    size_t n_problems; /* found; the first AUDIT_PROBLEMS_MAX of them are in `problems` */
    struct audit_problem problems[AUDIT_PROBLEMS_MAX];
};

/* Sees each whole record in order while the trail is checked; for readers (`redoubt audit tail`) and for recovery. */
typedef void (*audit_visit)(void *ctx, const struct audit_record *r, const char *file, uint64_t offset);

struct audit_verify_opts {
    const char
        *dirs[AUDIT_DIRS_MAX]; /* the trail's own first, then where it went on; a segment may be in any of them */
    size_t n_dirs;
    const unsigned char
        *public_key; /* that is trusted, the present or a former one; NULL = the directory's own audit.pub */
    const char *anchors[AUDIT_ANCHORS_MAX]; /* checkpoints kept elsewhere: the trail must hold at least these */
    size_t n_anchors;
    const struct audit_vkey
        *witnesses; /* looked for on the newest checkpoint; that one is missing is no problem here */
    size_t n_witnesses;
    unsigned threads;  /* 0 = as many as there are processors, up to 8; a visitor makes it 1 */
    audit_visit visit; /* may be NULL */
    void *ctx;
    /* What a writer needs before it goes on: the last two segments only, against the checkpoint. It has a key of its own, and may know the
     * tree of all records up to some place. */
    bool only_last;
    const unsigned char *newest; /* in place of audit.pub */
    const struct audit_merkle *base;
};
/* 0 = the trail is whole, 1 = problems were found, -1 = could not look (text in e). */
int audit_verify_trail(const struct audit_verify_opts *o, struct audit_report *report, struct err *e);

/* The same for one directory. */
int audit_verify(const char *dir, const unsigned char *public_key, struct audit_report *report, struct err *e);
int audit_walk(const char *dir, const unsigned char *public_key, struct audit_report *report, audit_visit visit,
               void *ctx, struct err *e);

/* A signed note with the pieces of a tree, as `tree` and `pruned` are. Parsed only; false: no such note. */
bool audit_read_tree(const char *dir, const char *name, struct audit_checkpoint *ret);

/* Reads a file of at most `max` bytes whole; malloc'ed, NULL with text on error. */
unsigned char *audit_read_file(const char *dir, const char *name, size_t max, size_t *ret_len, struct err *e);

#endif
