/* audit_chain.c - segments and records on bytes; the only place that knows them. */
#include "audit/audit_chain.h"
#include <assert.h>
#include <inttypes.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char magic[8] = {'R', 'D', 'B', 'T', 'A', 'U', 'D', '1'};
#define HEADER_HASHED (AUDIT_HEADER_BYTES - AUDIT_HASH_BYTES)

static void put32(unsigned char *p, uint32_t v)
{
    for (int i = 0; i < 4; i++)
        p[i] = (unsigned char)(v >> (8 * i));
}

static void put64(unsigned char *p, uint64_t v)
{
    for (int i = 0; i < 8; i++)
        p[i] = (unsigned char)(v >> (8 * i));
}

static uint32_t get32(const unsigned char *p)
{
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static uint64_t get64(const unsigned char *p)
{
    return (uint64_t)get32(p) | (uint64_t)get32(p + 4) << 32;
}

/* ---- segments ---- */

void audit_header_hash(const unsigned char in[static AUDIT_HEADER_BYTES], unsigned char out[static AUDIT_HASH_BYTES])
{
    crypto_generichash(out, AUDIT_HASH_BYTES, in, HEADER_HASHED, NULL, 0);
}

void audit_header_pack(const struct audit_header *h, unsigned char out[static AUDIT_HEADER_BYTES])
{
    unsigned char *p = out;
    memcpy(p, magic, sizeof magic);
    put32(p + 8, 1); /* version */
    put32(p + 12, AUDIT_HEADER_BYTES);
    memcpy(p + 16, h->chain, AUDIT_CHAIN_BYTES);
    put64(p + 32, h->first_seq);
    put64(p + 40, (uint64_t)h->created_unix_ms);
    memcpy(p + 48, h->prev, AUDIT_HASH_BYTES);
    audit_header_hash(out, out + HEADER_HASHED);
}

int audit_header_parse(const unsigned char *in, size_t len, struct audit_header *ret, struct err *e)
{
    unsigned char hash[AUDIT_HASH_BYTES];
    if (len < AUDIT_HEADER_BYTES)
        return err_set(e, "the file ends within the segment's header (%zu of %d bytes)", len, AUDIT_HEADER_BYTES);
    if (memcmp(in, magic, sizeof magic) != 0)
        return err_set(e, "the file does not begin like an audit segment");
    if (get32(in + 8) != 1 || get32(in + 12) != AUDIT_HEADER_BYTES)
        return err_set(e, "segment version %" PRIu32 " with a header of %" PRIu32 " bytes is not known here",
                       get32(in + 8), get32(in + 12));
    audit_header_hash(in, hash);
    if (memcmp(hash, in + HEADER_HASHED, sizeof hash) != 0)
        return err_set(e, "the segment's header was changed: its hash does not fit");
    memcpy(ret->chain, in + 16, AUDIT_CHAIN_BYTES);
    ret->first_seq = get64(in + 32);
    ret->created_unix_ms = (int64_t)get64(in + 40);
    memcpy(ret->prev, in + 48, AUDIT_HASH_BYTES);
    return 0;
}

void audit_segment_name(uint64_t first_seq, char out[static AUDIT_NAME_MAX])
{
    snprintf(out, AUDIT_NAME_MAX, "audit-%020" PRIu64 ".seg", first_seq);
}

bool audit_segment_parse(const char *name, uint64_t *ret_first_seq)
{
    char again[AUDIT_NAME_MAX];
    if (strncmp(name, "audit-", 6) != 0)
        return false;
    *ret_first_seq = strtoull(name + 6, NULL, 10);
    audit_segment_name(*ret_first_seq, again);
    return strcmp(name, again) == 0;
}

/* ---- records ---- */

void audit_record_hash(const unsigned char prev[static AUDIT_HASH_BYTES], uint64_t seq, const void *stored,
                       uint32_t len, unsigned char out[static AUDIT_HASH_BYTES])
{
    unsigned char head[AUDIT_RECORD_HEAD];
    put64(head, seq);
    put32(head + 8, len);
    crypto_generichash_state s;
    crypto_generichash_init(&s, NULL, 0, AUDIT_HASH_BYTES);
    crypto_generichash_update(&s, prev, AUDIT_HASH_BYTES);
    crypto_generichash_update(&s, head, sizeof head);
    crypto_generichash_update(&s, stored, len);
    crypto_generichash_final(&s, out, AUDIT_HASH_BYTES);
}

void audit_record_pack(unsigned char chain_hash[static AUDIT_HASH_BYTES], uint64_t seq, const void *stored,
                       uint32_t len, unsigned char *out)
{
    assert(len <= AUDIT_STORED_MAX);
    put32(out, len);
    put64(out + 4, seq);
    memcpy(out + AUDIT_RECORD_HEAD, stored, len);
    unsigned char hash[AUDIT_HASH_BYTES];
    audit_record_hash(chain_hash, seq, stored, len, hash);
    memcpy(out + AUDIT_RECORD_HEAD + len, hash, sizeof hash);
    memcpy(chain_hash, hash, sizeof hash);
}

enum audit_found audit_record_parse(const unsigned char *in, size_t len,
                                    const unsigned char prev[static AUDIT_HASH_BYTES], uint64_t expect_seq,
                                    struct audit_record *ret, struct err *e)
{
    if (len == 0)
        return AUDIT_END;
    if (len < AUDIT_RECORD_HEAD)
        return AUDIT_TORN;
    uint32_t n = get32(in);
    uint64_t seq = get64(in + 4);
    if (n > AUDIT_STORED_MAX) {
        err_set(e, "record %" PRIu64 ": its length %" PRIu32 " is more than a record may have", expect_seq, n);
        return AUDIT_BROKEN;
    }
    if (seq != expect_seq) {
        err_set(e, "record %" PRIu64 " stands where %" PRIu64 " should be", seq, expect_seq);
        return AUDIT_BROKEN;
    }
    if (len < (size_t)AUDIT_RECORD_EXTRA + n)
        return AUDIT_TORN;
    *ret = (struct audit_record){
        .seq = seq, .stored = in + AUDIT_RECORD_HEAD, .len = n, .size = (size_t)AUDIT_RECORD_EXTRA + n};
    audit_record_hash(prev, seq, ret->stored, n, ret->hash);
    if (memcmp(ret->hash, in + AUDIT_RECORD_HEAD + n, AUDIT_HASH_BYTES) != 0) {
        err_set(e, "record %" PRIu64 " was changed: its hash does not fit", seq);
        return AUDIT_BROKEN;
    }
    return AUDIT_RECORD;
}
