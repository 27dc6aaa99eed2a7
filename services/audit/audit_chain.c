/* audit_chain.c - the trail's format on bytes; the only place that knows it. */
#include "audit/audit_chain.h"
#include <assert.h>
#include <inttypes.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char magic[8] = {'R', 'D', 'B', 'T', 'A', 'U', 'D', '1'};
#define HEADER_HASHED (AUDIT_HEADER_BYTES - AUDIT_HASH_BYTES)
#define ORIGIN_PREFIX "redoubt/audit/"
#define KEY_ID_BYTES  4

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

/* ---- checkpoints: https://c2sp.org/signed-note, body as in tlog-checkpoint ---- */

static void key_id(const char *name, const unsigned char public_key[static AUDIT_PUBLIC_BYTES],
                   unsigned char out[static KEY_ID_BYTES])
{
    static const unsigned char sep_and_alg[2] = {'\n', 0x01}; /* 0x01 = Ed25519 */
    unsigned char hash[crypto_hash_sha256_BYTES];
    crypto_hash_sha256_state s;
    crypto_hash_sha256_init(&s);
    crypto_hash_sha256_update(&s, (const unsigned char *)name, strlen(name));
    crypto_hash_sha256_update(&s, sep_and_alg, sizeof sep_and_alg);
    crypto_hash_sha256_update(&s, public_key, AUDIT_PUBLIC_BYTES);
    crypto_hash_sha256_final(&s, hash);
    memcpy(out, hash, KEY_ID_BYTES);
}

static size_t body_text(const struct audit_checkpoint *c, char *out, size_t max)
{
    char chain[2 * AUDIT_CHAIN_BYTES + 1], hash[64];
    sodium_bin2hex(chain, sizeof chain, c->chain, AUDIT_CHAIN_BYTES);
    sodium_bin2base64(hash, sizeof hash, c->hash, AUDIT_HASH_BYTES, sodium_base64_VARIANT_ORIGINAL);
    int n = snprintf(out, max, ORIGIN_PREFIX "%s\n%" PRIu64 "\n%s\ntime %" PRId64 "\n", chain, c->size, hash,
                     c->at_unix_ms);
    assert(n > 0 && (size_t)n < max);
    return (size_t)n;
}

#define SIGNED_BYTES (KEY_ID_BYTES + crypto_sign_BYTES)

size_t audit_checkpoint_sign(const struct audit_checkpoint *c, const char *key_name,
                             const unsigned char secret[static AUDIT_SECRET_BYTES],
                             char out[static AUDIT_CHECKPOINT_MAX])
{
    unsigned char public_key[AUDIT_PUBLIC_BYTES], raw[SIGNED_BYTES];
    char text[sodium_base64_ENCODED_LEN(SIGNED_BYTES, sodium_base64_VARIANT_ORIGINAL)];
    size_t n = body_text(c, out, AUDIT_CHECKPOINT_MAX);
    crypto_sign_ed25519_sk_to_pk(public_key, secret);
    key_id(key_name, public_key, raw);
    crypto_sign_detached(raw + KEY_ID_BYTES, NULL, (const unsigned char *)out, n, secret);
    sodium_bin2base64(text, sizeof text, raw, sizeof raw, sodium_base64_VARIANT_ORIGINAL);
    int more = snprintf(out + n, AUDIT_CHECKPOINT_MAX - n, "\n\xe2\x80\x94 %s %s\n", key_name, text);
    assert(more > 0 && n + (size_t)more < AUDIT_CHECKPOINT_MAX);
    return n + (size_t)more;
}

/* The body again from its parsed values must be the same bytes: one form only, nothing hidden. */
static int parse_body(const char *text, size_t len, struct audit_checkpoint *ret)
{
    char chain[2 * AUDIT_CHAIN_BYTES + 1], hash[48], again[512], copy[512];
    if (len >= sizeof copy)
        return -1;
    memcpy(copy, text, len);
    copy[len] = 0;
    if (sscanf(copy, ORIGIN_PREFIX "%32[0-9a-f]\n%" SCNu64 "\n%47[A-Za-z0-9+/=]\ntime %" SCNd64 "\n", chain,
               &ret->size, hash, &ret->at_unix_ms) != 4)
        return -1;
    size_t n = 0;
    if (sodium_hex2bin(ret->chain, sizeof ret->chain, chain, strlen(chain), NULL, &n, NULL) ||
        n != AUDIT_CHAIN_BYTES ||
        sodium_base642bin(ret->hash, sizeof ret->hash, hash, strlen(hash), NULL, &n, NULL,
                          sodium_base64_VARIANT_ORIGINAL) ||
        n != AUDIT_HASH_BYTES)
        return -1;
    return body_text(ret, again, sizeof again) == len && memcmp(again, copy, len) == 0 ? 0 : -1;
}

int audit_checkpoint_check(const char *text, size_t len, const char *key_name,
                           const unsigned char public_key[static AUDIT_PUBLIC_BYTES], struct audit_checkpoint *ret,
                           struct err *e)
{
    char copy[AUDIT_CHECKPOINT_MAX + 1], prefix[128];
    unsigned char raw[SIGNED_BYTES], id[KEY_ID_BYTES];
    if (len == 0 || len > AUDIT_CHECKPOINT_MAX || memchr(text, 0, len))
        return err_set(e, "the checkpoint is no signed note: %zu bytes", len);
    memcpy(copy, text, len);
    copy[len] = 0;
    snprintf(prefix, sizeof prefix, "\n\n\xe2\x80\x94 %s ", key_name);
    char *sig = strstr(copy, prefix);
    if (!sig || copy[len - 1] != '\n')
        return err_set(e, "the checkpoint is not signed by %s", key_name);
    size_t body = (size_t)(sig - copy) + 1;
    sig += strlen(prefix);
    copy[len - 1] = 0;
    size_t n = 0;
    char again[sodium_base64_ENCODED_LEN(SIGNED_BYTES, sodium_base64_VARIANT_ORIGINAL)];
    bool readable =
        sodium_base642bin(raw, sizeof raw, sig, strlen(sig), NULL, &n, NULL, sodium_base64_VARIANT_ORIGINAL) == 0 &&
        n == sizeof raw;
    /* The decoder takes some bytes beyond ASCII for letters: only the one proper spelling is accepted. */
    if (!readable ||
        strcmp(sodium_bin2base64(again, sizeof again, raw, sizeof raw, sodium_base64_VARIANT_ORIGINAL), sig) != 0)
        return err_set(e, "the checkpoint's signature is not readable");
    key_id(key_name, public_key, id);
    if (memcmp(id, raw, sizeof id) != 0)
        return err_set(e, "the checkpoint was signed with another key than " AUDIT_PUBLIC_FILE);
    if (crypto_sign_verify_detached(raw + KEY_ID_BYTES, (const unsigned char *)text, body, public_key))
        return err_set(e, "the checkpoint was changed: its signature does not fit");
    if (parse_body(text, body, ret))
        return err_set(e, "the checkpoint's text is not of the form that this version writes");
    return 0;
}
