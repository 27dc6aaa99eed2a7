/* audit_merkle.c - RFC 6962's tree. OpenSSL's SHA-256, as it uses the processor's instructions: a third of libsodium's time. */
#define OPENSSL_SUPPRESS_DEPRECATED /* these functions: a state on the stack, no allocation, nothing that can fail */
#include "audit/audit_merkle.h"
#include <assert.h>
#include <openssl/sha.h>
#include <string.h>

void audit_merkle_leaf(const void *stored, size_t len, unsigned char out[static AUDIT_ROOT_BYTES])
{
    static const unsigned char prefix = 0x00;
    SHA256_CTX s;
    SHA256_Init(&s);
    SHA256_Update(&s, &prefix, 1);
    SHA256_Update(&s, stored, len);
    SHA256_Final(out, &s);
}

/* out may be left or right. */
static void node(const unsigned char *left, const unsigned char *right, unsigned char *out)
{
    unsigned char both[1 + 2 * AUDIT_ROOT_BYTES];
    both[0] = 0x01;
    memcpy(both + 1, left, AUDIT_ROOT_BYTES);
    memcpy(both + 1 + AUDIT_ROOT_BYTES, right, AUDIT_ROOT_BYTES);
    SHA256_CTX s;
    SHA256_Init(&s);
    SHA256_Update(&s, both, sizeof both);
    SHA256_Final(out, &s);
}

/* ---- ranges ---- */

void audit_merkle_node(const unsigned char left[static AUDIT_ROOT_BYTES],
                       const unsigned char right[static AUDIT_ROOT_BYTES], unsigned char out[static AUDIT_ROOT_BYTES])
{
    node(left, right, out);
}

void audit_merkle_begin(struct audit_merkle *m, uint64_t first)
{
    m->first = m->end = first;
    m->n = 0;
}

static void add_piece(struct audit_merkle *m, unsigned level, const unsigned char *hash)
{
    struct audit_merkle_piece *p = &m->pieces[m->n];
    assert(m->n < AUDIT_MERKLE_PIECES && m->end % (UINT64_C(1) << level) == 0);
    p->start = m->end;
    p->level = level;
    memcpy(p->hash, hash, AUDIT_ROOT_BYTES);
    m->n++;
    m->end += UINT64_C(1) << level;
    /* Two that stand side by side under one parent become that parent. */
    while (m->n >= 2) {
        struct audit_merkle_piece *a = &m->pieces[m->n - 2], *b = a + 1;
        if (a->level != b->level || (a->start >> a->level) % 2)
            break;
        node(a->hash, b->hash, a->hash);
        a->level++;
        m->n--;
    }
}

void audit_merkle_append(struct audit_merkle *m, const unsigned char leaf[static AUDIT_ROOT_BYTES])
{
    add_piece(m, 0, leaf);
}

void audit_merkle_join(struct audit_merkle *m, const struct audit_merkle *next)
{
    assert(next->first == m->end);
    for (size_t i = 0; i < next->n; i++)
        add_piece(m, next->pieces[i].level, next->pieces[i].hash);
}

void audit_merkle_root(const struct audit_merkle *m, unsigned char out[static AUDIT_ROOT_BYTES])
{
    if (m->n == 0) {
        SHA256_CTX s;
        SHA256_Init(&s);
        SHA256_Final(out, &s);
        return;
    }
    memcpy(out, m->pieces[m->n - 1].hash, AUDIT_ROOT_BYTES);
    for (size_t i = m->n - 1; i-- > 0;)
        node(m->pieces[i].hash, out, out);
}

size_t audit_merkle_count(uint64_t size)
{
    return (size_t)__builtin_popcountll(size);
}

void audit_merkle_restore(struct audit_merkle *m, uint64_t size, const unsigned char (*hashes)[AUDIT_ROOT_BYTES])
{
    audit_merkle_begin(m, 0);
    for (unsigned level = 64; level-- > 0;)
        if (size >> level & 1)
            add_piece(m, level, *hashes++);
}

/* ---- making proofs: which ranges' roots they consist of (RFC 6962, 2.1.1 and 2.1.2), and the roots as records go by ---- */

/* The largest power of two below n. */
static uint64_t split(uint64_t n)
{
    return UINT64_C(1) << (63 - __builtin_clzll(n - 1));
}

static void add_span(struct audit_prover *p, uint64_t first, uint64_t end)
{
    struct audit_prover_span *s = &p->spans[p->n++];
    s->first = first;
    s->end = end;
    audit_merkle_begin(&s->made, first);
}

/* Found from the root down; a proof has them from the leaf up. */
static void turn(struct audit_prover *p)
{
    for (size_t i = 0; i < p->n / 2; i++) {
        struct audit_prover_span *a = &p->spans[i], *b = &p->spans[p->n - 1 - i];
        uint64_t first = a->first, end = a->end;
        a->first = b->first;
        a->end = b->end;
        b->first = first;
        b->end = end;
        audit_merkle_begin(&a->made, a->first);
        audit_merkle_begin(&b->made, b->first);
    }
}

bool audit_prover_inclusion(struct audit_prover *p, uint64_t index, uint64_t size)
{
    p->n = 0;
    p->end = 0;
    p->broken = false;
    if (index >= size || size > UINT64_C(1) << 62)
        return false;
    for (uint64_t first = 0, end = size; end - first > 1;) {
        uint64_t k = first + split(end - first);
        if (index < k) {
            add_span(p, k, end);
            end = k;
        } else {
            add_span(p, first, k);
            first = k;
        }
    }
    turn(p);
    return true;
}

bool audit_prover_growth(struct audit_prover *p, uint64_t old_size, uint64_t size)
{
    p->n = 0;
    p->end = 0;
    p->broken = false;
    if (old_size == 0 || old_size > size || size > UINT64_C(1) << 62)
        return false;
    uint64_t first = 0, end = size;
    while (old_size != end) {
        uint64_t k = first + split(end - first);
        if (old_size <= k) {
            add_span(p, k, end);
            end = k;
        } else {
            add_span(p, first, k);
            first = k;
        }
    }
    if (first > 0) /* else it is the old root, which the reader has */
        add_span(p, first, end);
    turn(p);
    return true;
}

static void give(struct audit_prover *p, unsigned level, const unsigned char *hash)
{
    uint64_t first = p->end, end = first + (UINT64_C(1) << level);
    for (size_t i = 0; i < p->n; i++) {
        struct audit_prover_span *s = &p->spans[i];
        if (end <= s->first || first >= s->end)
            continue;
        if (first < s->first || end > s->end)
            p->broken = true;
        else
            add_piece(&s->made, level, hash);
    }
    p->end = end;
}

void audit_prover_leaf(struct audit_prover *p, const unsigned char leaf[static AUDIT_ROOT_BYTES])
{
    give(p, 0, leaf);
}

void audit_prover_pieces(struct audit_prover *p, const struct audit_merkle *m)
{
    assert(p->end == m->first);
    for (size_t i = 0; i < m->n; i++)
        give(p, m->pieces[i].level, m->pieces[i].hash);
}

int audit_prover_end(const struct audit_prover *p, unsigned char (*out)[AUDIT_ROOT_BYTES])
{
    if (p->broken)
        return -1;
    for (size_t i = 0; i < p->n; i++) {
        if (p->spans[i].made.end != p->spans[i].end)
            return -1;
        audit_merkle_root(&p->spans[i].made, out[i]);
    }
    return (int)p->n;
}

/* ---- checking proofs: RFC 9162, 2.1.3.2 and 2.1.4.2, which write down what RFC 6962 leaves to the reader ---- */

bool audit_merkle_check_inclusion(const unsigned char leaf[static AUDIT_ROOT_BYTES], uint64_t index, uint64_t size,
                                  const unsigned char (*path)[AUDIT_ROOT_BYTES], size_t n,
                                  const unsigned char root[static AUDIT_ROOT_BYTES])
{
    unsigned char r[AUDIT_ROOT_BYTES];
    if (index >= size)
        return false;
    uint64_t at = index, last = size - 1;
    memcpy(r, leaf, sizeof r);
    for (size_t i = 0; i < n; i++) {
        if (last == 0)
            return false;
        if (at % 2 || at == last) {
            node(path[i], r, r);
            while (at % 2 == 0 && at != 0) {
                at >>= 1;
                last >>= 1;
            }
        } else {
            node(r, path[i], r);
        }
        at >>= 1;
        last >>= 1;
    }
    return last == 0 && memcmp(r, root, sizeof r) == 0;
}

bool audit_merkle_check_growth(uint64_t old_size, const unsigned char old_root[static AUDIT_ROOT_BYTES],
                               uint64_t size, const unsigned char root[static AUDIT_ROOT_BYTES],
                               const unsigned char (*proof)[AUDIT_ROOT_BYTES], size_t n)
{
    unsigned char was[AUDIT_ROOT_BYTES], is[AUDIT_ROOT_BYTES];
    if (old_size > size)
        return false;
    if (old_size == size)
        return n == 0 && memcmp(old_root, root, AUDIT_ROOT_BYTES) == 0;
    if (old_size == 0) { /* anything grows out of nothing: there is nothing to show */
        struct audit_merkle nothing;
        audit_merkle_begin(&nothing, 0);
        audit_merkle_root(&nothing, was);
        return n == 0 && memcmp(old_root, was, AUDIT_ROOT_BYTES) == 0;
    }
    uint64_t at = old_size - 1, last = size - 1;
    while (at % 2) {
        at >>= 1;
        last >>= 1;
    }
    size_t i = 0;
    const unsigned char *seed = old_root; /* a perfect tree is its own first hash */
    if (at) {
        if (n == 0)
            return false;
        seed = proof[i++];
    }
    memcpy(was, seed, sizeof was);
    memcpy(is, seed, sizeof is);
    for (; i < n; i++) {
        if (last == 0)
            return false;
        if (at % 2 || at == last) {
            node(proof[i], was, was);
            node(proof[i], is, is);
            while (at % 2 == 0 && at != 0) {
                at >>= 1;
                last >>= 1;
            }
        } else {
            node(is, proof[i], is);
        }
        at >>= 1;
        last >>= 1;
    }
    return last == 0 && memcmp(was, old_root, sizeof was) == 0 && memcmp(is, root, sizeof is) == 0;
}
