/* audit_merkle.h - the tree of RFC 6962 over a trail's records: roots, proofs that a record is in it, proofs that it only grew. Pure. */
#ifndef REDOUBT_AUDIT_MERKLE_H
#define REDOUBT_AUDIT_MERKLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define AUDIT_ROOT_BYTES    32
#define AUDIT_PATH_MAX      64  /* hashes of a proof that a record is in the tree */
#define AUDIT_GROWTH_MAX    65  /* hashes of a proof that a tree grew into another */
#define AUDIT_MERKLE_PIECES 126 /* perfect subtrees that any range is made of */

/* The hash of a leaf: SHA-256(0x00, stored bytes). */
void audit_merkle_leaf(const void *stored, size_t len, unsigned char out[static AUDIT_ROOT_BYTES]);

/* The hash of a subtree from those of its halves: SHA-256(0x01, left, right). out may be one of them. */
void audit_merkle_node(const unsigned char left[static AUDIT_ROOT_BYTES],
                       const unsigned char right[static AUDIT_ROOT_BYTES],
                       unsigned char out[static AUDIT_ROOT_BYTES]);

/* Records first to end - 1 (the chain's first is 0) as the fewest perfect subtrees. What a root is made of is all that is kept. */
struct audit_merkle {
    uint64_t first, end;
    size_t n;
    struct audit_merkle_piece {
        uint64_t start; /* a multiple of 2^level */
        unsigned level; /* covers 2^level records */
        unsigned char hash[AUDIT_ROOT_BYTES];
    } pieces[AUDIT_MERKLE_PIECES]; /* in order */
};
void audit_merkle_begin(struct audit_merkle *m, uint64_t first);
void audit_merkle_append(struct audit_merkle *m, const unsigned char leaf[static AUDIT_ROOT_BYTES]);
/* `next` begins where m ends. */
void audit_merkle_join(struct audit_merkle *m, const struct audit_merkle *next);
/* The root of a tree that is kept from its first record on; of nothing: SHA-256 of no bytes. */
void audit_merkle_root(const struct audit_merkle *m, unsigned char out[static AUDIT_ROOT_BYTES]);
/* The tree of `size` records from its pieces' hashes alone, largest first: as many as `size` has bits set. */
size_t audit_merkle_count(uint64_t size);
void audit_merkle_restore(struct audit_merkle *m, uint64_t size, const unsigned char (*hashes)[AUDIT_ROOT_BYTES]);

/* Collects the hashes of a proof while the records go by once, in order, as leaves or as pieces (of what was deleted). */
struct audit_prover {
    size_t n;
    uint64_t end; /* the next record expected */
    bool broken;  /* a piece was too large to be taken apart: what is asked for lies in what was deleted */
    struct audit_prover_span {
        uint64_t first, end;
        struct audit_merkle made;
    } spans[AUDIT_GROWTH_MAX]; /* in the proof's order */
};
/* False: no such record or size. The prover is large: not for the stack. */
bool audit_prover_inclusion(struct audit_prover *p, uint64_t index, uint64_t size);
bool audit_prover_growth(struct audit_prover *p, uint64_t old_size, uint64_t size);
void audit_prover_leaf(struct audit_prover *p, const unsigned char leaf[static AUDIT_ROOT_BYTES]);
void audit_prover_pieces(struct audit_prover *p, const struct audit_merkle *m);
/* The number of hashes, or -1 if not all records went by. */
int audit_prover_end(const struct audit_prover *p, unsigned char (*out)[AUDIT_ROOT_BYTES]);

bool audit_merkle_check_inclusion(const unsigned char leaf[static AUDIT_ROOT_BYTES], uint64_t index, uint64_t size,
                                  const unsigned char (*path)[AUDIT_ROOT_BYTES], size_t n,
                                  const unsigned char root[static AUDIT_ROOT_BYTES]);
bool audit_merkle_check_growth(uint64_t old_size, const unsigned char old_root[static AUDIT_ROOT_BYTES],
                               uint64_t size, const unsigned char root[static AUDIT_ROOT_BYTES],
                               const unsigned char (*proof)[AUDIT_ROOT_BYTES], size_t n);

#endif
