/* audit_chain.h - the trail's format, on bytes: segment headers and chained records. README.md has it byte by byte. */
#ifndef REDOUBT_AUDIT_CHAIN_H
#define REDOUBT_AUDIT_CHAIN_H

#include "common/err.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define AUDIT_HASH_BYTES   32
#define AUDIT_CHAIN_BYTES  16
#define AUDIT_HEADER_BYTES 112
#define AUDIT_RECORD_HEAD  12 /* length and sequence, before the stored bytes */
#define AUDIT_RECORD_EXTRA (AUDIT_RECORD_HEAD + AUDIT_HASH_BYTES)
#define AUDIT_STORED_MAX   65536
#define AUDIT_NAME_MAX     40 /* "audit-" 20 digits ".seg" */

/* The head of a segment file. */
struct audit_header {
    unsigned char chain[AUDIT_CHAIN_BYTES]; /* random, one per chain */
    uint64_t first_seq;                     /* of this segment; the chain's first is 1 */
    int64_t created_unix_ms;
    unsigned char prev[AUDIT_HASH_BYTES]; /* last hash of the segment before; zeros in the first */
};
void audit_header_pack(const struct audit_header *h, unsigned char out[static AUDIT_HEADER_BYTES]);
/* -1 if the bytes are no header, or its own hash does not fit. */
int audit_header_parse(const unsigned char *in, size_t len, struct audit_header *ret, struct err *e);
/* What the segment's first record is chained to: the hash over its header. */
void audit_header_hash(const unsigned char in[static AUDIT_HEADER_BYTES], unsigned char out[static AUDIT_HASH_BYTES]);

/* BLAKE2b-256(previous hash, sequence, length, stored bytes). */
void audit_record_hash(const unsigned char prev[static AUDIT_HASH_BYTES], uint64_t seq, const void *stored,
                       uint32_t len, unsigned char out[static AUDIT_HASH_BYTES]);
/* Writes AUDIT_RECORD_EXTRA + len bytes; `chain_hash` goes from the previous hash to this record's. */
void audit_record_pack(unsigned char chain_hash[static AUDIT_HASH_BYTES], uint64_t seq, const void *stored,
                       uint32_t len, unsigned char *out);

struct audit_record {
    uint64_t seq;
    const unsigned char *stored;
    uint32_t len;
    unsigned char hash[AUDIT_HASH_BYTES];
    size_t size; /* of the whole record in the file */
};
enum audit_found { AUDIT_RECORD, AUDIT_END, AUDIT_TORN, AUDIT_BROKEN };
/* The record at the start of `in`, checked against what it should be chained to. END: no bytes are left. TORN: the bytes
 * end within the record. BROKEN: length, sequence or hash do not fit (text in e). */
enum audit_found audit_record_parse(const unsigned char *in, size_t len,
                                    const unsigned char prev[static AUDIT_HASH_BYTES], uint64_t expect_seq,
                                    struct audit_record *ret, struct err *e);

/* Names of files in the trail's directory. */
#define AUDIT_CHECKPOINT_FILE "checkpoint"
#define AUDIT_SECRET_FILE     "audit.key"
#define AUDIT_PUBLIC_FILE     "audit.pub"
#define AUDIT_KEYS_FILE       "audit.keys"
#define AUDIT_PRUNED_FILE     "pruned"
#define AUDIT_TREE_FILE       "tree"
void audit_segment_name(uint64_t first_seq, char out[static AUDIT_NAME_MAX]);
bool audit_segment_parse(const char *name, uint64_t *ret_first_seq);

#endif
