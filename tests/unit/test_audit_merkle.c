/* test_audit_merkle.c - the tree: against the vectors of certificate transparency, and against the definition of RFC 6962 word by word. */
#include "audit/audit_merkle.h"
#include <setjmp.h>
#include <sodium.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define H AUDIT_ROOT_BYTES
#define N 130

/* ---- the definition: recursive, with another SHA-256 ---- */

static unsigned char leaves[N][H];

static void fill_leaves(void)
{
    for (unsigned i = 0; i < N; i++) {
        unsigned char in[3] = {0x00, (unsigned char)i, (unsigned char)(i * 7)};
        crypto_hash_sha256(leaves[i], in, sizeof in);
    }
}

static size_t below(size_t n)
{
    size_t k = 1;
    while (2 * k < n)
        k *= 2;
    return k;
}

static void both(const unsigned char *a, const unsigned char *b, unsigned char *out)
{
    unsigned char in[1 + 2 * H] = {0x01};
    memcpy(in + 1, a, H);
    memcpy(in + 1 + H, b, H);
    crypto_hash_sha256(out, in, sizeof in);
}

static void mth(size_t from, size_t n, unsigned char *out)
{
    if (n == 0) {
        crypto_hash_sha256(out, NULL, 0);
    } else if (n == 1) {
        memcpy(out, leaves[from], H);
    } else {
        unsigned char a[H], b[H];
        size_t k = below(n);
        mth(from, k, a);
        mth(from + k, n - k, b);
        both(a, b, out);
    }
}

/* PATH(m, D[n]) and PROOF(m, D[n]) as they stand there. */
static size_t naive_path(size_t m, size_t from, size_t n, unsigned char (*out)[H])
{
    if (n == 1)
        return 0;
    size_t k = below(n), len;
    if (m < k) {
        len = naive_path(m, from, k, out);
        mth(from + k, n - k, out[len]);
    } else {
        len = naive_path(m - k, from + k, n - k, out);
        mth(from, k, out[len]);
    }
    return len + 1;
}

static size_t naive_growth(size_t m, size_t from, size_t n, bool whole, unsigned char (*out)[H])
{
    if (m == n) {
        if (whole)
            return 0;
        mth(from, n, out[0]);
        return 1;
    }
    size_t k = below(n), len;
    if (m <= k) {
        len = naive_growth(m, from, k, whole, out);
        mth(from + k, n - k, out[len]);
    } else {
        len = naive_growth(m - k, from + k, n - k, false, out);
        mth(from, k, out[len]);
    }
    return len + 1;
}

static void build(struct audit_merkle *m, size_t from, size_t to)
{
    audit_merkle_begin(m, from);
    for (size_t i = from; i < to; i++)
        audit_merkle_append(m, leaves[i]);
}

static void unhex(const char *hex, unsigned char out[static H])
{
    size_t n = 0;
    assert_int_equal(sodium_hex2bin(out, H, hex, strlen(hex), NULL, &n, NULL), 0);
    assert_int_equal(n, H);
}

/* ---- */

static const struct {
    const char *bytes;
    size_t n;
    const char *root; /* with this leaf and all before it */
} ct[] = {
    {"", 0, "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d"},
    {"\x00", 1, "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125"},
    {"\x10", 1, "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77"},
    {"\x20\x21", 2, "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7"},
    {"\x30\x31", 2, "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4"},
    {"\x40\x41\x42\x43", 4, "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef"},
    {"\x50\x51\x52\x53\x54\x55\x56\x57", 8, "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c"},
    {"\x60\x61\x62\x63\x64\x65\x66\x67\x68\x69\x6a\x6b\x6c\x6d\x6e\x6f", 16,
     "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328"},
};

static void test_ct_vectors(void **state)
{
    (void)state;
    struct audit_merkle m;
    struct audit_prover *p = malloc(sizeof *p);
    unsigned char root[H], want[H], leaf[8][H], out[AUDIT_GROWTH_MAX][H];
    assert_non_null(p);
    audit_merkle_begin(&m, 0);
    audit_merkle_root(&m, root);
    unhex("e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855", want);
    assert_memory_equal(root, want, H);
    for (size_t i = 0; i < 8; i++) {
        audit_merkle_leaf(ct[i].bytes, ct[i].n, leaf[i]);
        audit_merkle_append(&m, leaf[i]);
        audit_merkle_root(&m, root);
        unhex(ct[i].root, want);
        assert_memory_equal(root, want, H);
    }
    static const char *const path[] = {"96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
                                       "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
                                       "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4"};
    static const char *const growth[] = {"0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
                                         "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
                                         "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7"};
    for (int which = 0; which < 2; which++) {
        assert_true(which ? audit_prover_growth(p, 6, 8) : audit_prover_inclusion(p, 0, 8));
        for (size_t i = 0; i < 8; i++)
            audit_prover_leaf(p, leaf[i]);
        assert_int_equal(audit_prover_end(p, out), 3);
        for (size_t i = 0; i < 3; i++) {
            unhex(which ? growth[i] : path[i], want);
            assert_memory_equal(out[i], want, H);
        }
    }
    free(p);
}

static void test_roots_and_joins(void **state)
{
    (void)state;
    struct audit_merkle whole, part, left;
    unsigned char want[H], is[H], pieces[64][H];
    for (size_t n = 0; n <= N; n += getenv("VALGRIND") ? 7 : 1) {
        build(&whole, 0, n);
        mth(0, n, want);
        audit_merkle_root(&whole, is);
        assert_memory_equal(is, want, H);
        assert_int_equal(whole.n, audit_merkle_count(n));
        /* Put together from two parts, cut anywhere; and from its pieces alone. */
        for (size_t cut = 0; cut <= n; cut += 1 + n / 40) {
            build(&left, 0, cut);
            build(&part, cut, n);
            audit_merkle_join(&left, &part);
            assert_int_equal(left.n, whole.n);
            audit_merkle_root(&left, is);
            assert_memory_equal(is, want, H);
        }
        for (size_t i = 0; i < whole.n; i++)
            memcpy(pieces[i], whole.pieces[i].hash, H);
        audit_merkle_restore(&left, n, pieces);
        assert_int_equal(left.end, n);
        audit_merkle_root(&left, is);
        assert_memory_equal(is, want, H);
    }
}

/* Every proof of every tree: as the definition says, accepted, and refused after any change. `pruned` records come as pieces. */
static void check_inclusion(struct audit_prover *p, size_t i, size_t n, size_t pruned)
{
    unsigned char want[64][H], is[AUDIT_GROWTH_MAX][H], root[H], wrong[H];
    struct audit_merkle gone;
    assert_true(audit_prover_inclusion(p, i, n));
    build(&gone, 0, pruned);
    audit_prover_pieces(p, &gone);
    for (size_t k = pruned; k < n; k++)
        audit_prover_leaf(p, leaves[k]);
    size_t len = naive_path(i, 0, n, want);
    assert_int_equal(audit_prover_end(p, is), len);
    assert_memory_equal(is, want, len * H);
    mth(0, n, root);
    assert_true(audit_merkle_check_inclusion(leaves[i], i, n, is, len, root));
    assert_false(audit_merkle_check_inclusion(leaves[(i + 1) % N], i, n, is, len, root));
    assert_false(audit_merkle_check_inclusion(leaves[i], i, n, is, len + 1, root));
    if (len) {
        assert_false(audit_merkle_check_inclusion(leaves[i], i, n, is, len - 1, root));
        is[len - 1][3] ^= 4;
        assert_false(audit_merkle_check_inclusion(leaves[i], i, n, is, len, root));
        is[len - 1][3] ^= 4;
        assert_false(audit_merkle_check_inclusion(leaves[i], i ^ 1, n, is, len, root));
    }
    assert_false(audit_merkle_check_inclusion(leaves[i], n, n, is, len, root));
    memcpy(wrong, root, H);
    wrong[0] ^= 1;
    assert_false(audit_merkle_check_inclusion(leaves[i], i, n, is, len, wrong));
}

static void check_growth(struct audit_prover *p, size_t m, size_t n, size_t pruned)
{
    unsigned char want[AUDIT_GROWTH_MAX][H], is[AUDIT_GROWTH_MAX + 1][H], root[H], old[H];
    struct audit_merkle gone;
    assert_true(audit_prover_growth(p, m, n));
    build(&gone, 0, pruned);
    audit_prover_pieces(p, &gone);
    for (size_t k = pruned; k < n; k++)
        audit_prover_leaf(p, leaves[k]);
    size_t len = naive_growth(m, 0, n, true, want);
    assert_int_equal(audit_prover_end(p, is), len);
    assert_memory_equal(is, want, len * H);
    mth(0, n, root);
    mth(0, m, old);
    assert_true(audit_merkle_check_growth(m, old, n, root, is, len));
    memset(is[len], 0, H);
    assert_false(audit_merkle_check_growth(m, old, n, root, is, len + 1));
    for (size_t i = 0; i < len; i++) {
        is[i][5] ^= 1;
        assert_false(audit_merkle_check_growth(m, old, n, root, is, len));
        is[i][5] ^= 1;
    }
    if (len)
        assert_false(audit_merkle_check_growth(m, old, n, root, is, len - 1));
    if (m != n)
        assert_false(audit_merkle_check_growth(m + 1, old, n, root, is, len) &&
                     audit_merkle_check_growth(m, root, n, root, is, len));
    root[31] ^= 1;
    assert_false(audit_merkle_check_growth(m, old, n, root, is, len));
}

static void test_proofs(void **state)
{
    (void)state;
    struct audit_prover *p = malloc(sizeof *p);
    assert_non_null(p);
    size_t most = getenv("VALGRIND") ? 12 : N; /* every size and place takes its time there */
    for (size_t n = 1; n <= most; n += n < 20 ? 1 : 11) {
        for (size_t i = 0; i < n; i++) {
            check_inclusion(p, i, n, 0);
            check_inclusion(p, i, n, i); /* all before it deleted */
            check_inclusion(p, i, n, i / 2);
        }
        for (size_t m = 1; m <= n; m++) {
            check_growth(p, m, n, 0);
            check_growth(p, m, n, m);
            check_growth(p, m, n, m / 3);
        }
    }
    /* Nothing is shown of what is not there, or of what was deleted. */
    unsigned char out[AUDIT_GROWTH_MAX][H];
    struct audit_merkle gone;
    assert_false(audit_prover_inclusion(p, 5, 5));
    assert_false(audit_prover_growth(p, 6, 5));
    assert_false(audit_prover_growth(p, 0, 5));
    assert_true(audit_prover_inclusion(p, 1, 8));
    build(&gone, 0, 4);
    audit_prover_pieces(p, &gone);
    for (size_t i = 4; i < 8; i++)
        audit_prover_leaf(p, leaves[i]);
    assert_int_equal(audit_prover_end(p, out), -1);
    assert_true(audit_prover_inclusion(p, 1, 8)); /* not all went by */
    audit_prover_leaf(p, leaves[0]);
    assert_int_equal(audit_prover_end(p, out), -1);
    free(p);
    /* Out of nothing anything grows. */
    unsigned char none[H], root[H];
    mth(0, 0, none);
    mth(0, 9, root);
    assert_true(audit_merkle_check_growth(0, none, 9, root, out, 0));
    assert_false(audit_merkle_check_growth(0, root, 9, root, out, 0));
    assert_false(audit_merkle_check_growth(0, none, 9, root, out, 1));
    assert_false(audit_merkle_check_growth(9, root, 8, root, out, 0));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ct_vectors),
        cmocka_unit_test(test_roots_and_joins),
        cmocka_unit_test(test_proofs),
    };
    if (sodium_init() < 0)
        return 1;
    fill_leaves();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
