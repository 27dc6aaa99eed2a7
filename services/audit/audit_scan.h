/* audit_scan.h - one segment by itself: its header, its records, its part of the tree. Many can be looked at side by side. Pure. */
#ifndef REDOUBT_AUDIT_SCAN_H
#define REDOUBT_AUDIT_SCAN_H

#include "audit/audit_verify.h"

/* At most one write is not durable when a crash comes: as much of the end, and no more, can be torn. */
#define AUDIT_BATCH_BYTES (1024 * 1024)

/* A place in the chain that a note speaks of. */
struct audit_mark {
    struct audit_checkpoint c;
    char file[AUDIT_NAME_MAX]; /* of the note */
    size_t offset;             /* in that */
    bool seen;                 /* the trail has a record of this number: */
    unsigned char hash[AUDIT_HASH_BYTES];
    bool rooted; /* and up to it the tree is known: */
    unsigned char root[AUDIT_ROOT_BYTES];
    struct audit_merkle part; /* of the segment that holds it, up to it */
};

struct audit_scan {
    /* in */
    char name[AUDIT_NAME_MAX];
    uint64_t number; /* the first sequence, of its name */
    const unsigned char *data;
    size_t len;
    bool last;                /* of the trail */
    uint64_t covered;         /* a note vouches for this many records: what is missing of them is no crash's doing */
    bool trees;               /* make the tree */
    uint64_t tree_from;       /* of records behind this one */
    struct audit_mark *marks; /* those within this segment, by size */
    size_t n_marks;
    audit_visit visit; /* may be NULL */
    void *ctx;
    /* out */
    bool headed; /* the header is whole */
    struct audit_header header;
    uint64_t records;
    uint64_t next_seq;
    unsigned char hash[AUDIT_HASH_BYTES]; /* of the last whole record, or the header's */
    struct audit_merkle tree;
    bool headless;
    uint64_t torn_bytes;
    bool bad; /* one problem at most: what follows it cannot be trusted to be in place */
    struct audit_problem problem;
};
void audit_scan(struct audit_scan *s);

#endif
