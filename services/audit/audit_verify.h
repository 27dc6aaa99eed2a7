/* audit_verify.h - checks a trail's directory from the first byte to the last, and names what is wrong and where. */
#ifndef REDOUBT_AUDIT_VERIFY_H
#define REDOUBT_AUDIT_VERIFY_H

#include "audit/audit_chain.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define AUDIT_PROBLEMS_MAX 32

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
    uint64_t last_seq;
    uint64_t last_first_seq; /* names the last segment */
    bool headless; /* the last segment is the beginning of a header, or nothing: a crash while it was begun */
    unsigned char chain[AUDIT_CHAIN_BYTES];
    unsigned char last_hash[AUDIT_HASH_BYTES];
    bool checkpointed; /* a checkpoint by the directory's key was found, and it fits */
    struct audit_checkpoint checkpoint;
    /* Bytes after the last whole record of the last segment, beyond the checkpoint: a write that a crash cut short. Not a
     * problem: nothing acknowledged was in it, and the service cuts it off at its next start. */
    uint64_t torn_bytes;
    size_t n_problems; /* found; the first AUDIT_PROBLEMS_MAX of them are in `problems` */
    struct audit_problem problems[AUDIT_PROBLEMS_MAX];
};
/* 0 = the trail is whole, 1 = problems were found, -1 = could not look (text in e). public_key NULL = the directory's own
 * audit.pub; give the one that you trust to be safe against a replaced key. */
int audit_verify(const char *dir, const unsigned char *public_key, struct audit_report *report, struct err *e);

/* Sees each whole record in order while the directory is checked; for readers (`redoubt audit tail`) and for recovery. */
typedef void (*audit_visit)(void *ctx, const struct audit_record *r, const char *file, uint64_t offset);
int audit_walk(const char *dir, const unsigned char *public_key, struct audit_report *report, audit_visit visit,
               void *ctx, struct err *e);

/* The same for the last two segments only, against the checkpoint: what a writer needs before it goes on. */
int audit_walk_last(const char *dir, struct audit_report *report, audit_visit visit, void *ctx, struct err *e);

/* Reads a file of at most `max` bytes whole; malloc'ed, NULL with text on error. */
unsigned char *audit_read_file(const char *dir, const char *name, size_t max, size_t *ret_len, struct err *e);

#endif
