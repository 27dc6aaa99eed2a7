/* test_audit_note.c - signed notes, against vectors of others; checkpoints and keys: every changed bit is refused. */
#include "audit/audit_checkpoint.h"
#include <setjmp.h>
#include <sodium.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* From golang.org/x/mod/sumdb/note, which the specification was written from. */
#define NEUMANN "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
#define ENOCH   "EnochRoot+af0cfe78+ATtqJ7zOtqQtYqOo0CpvDXNlMhV3HeJDpjrASKGLWdop"
static const char text[] = "If you think cryptography is the answer to your problem,\n"
                           "then you don't know what your problem is.\n";
#define SIG_NEUMANN                                                                                                  \
    "\xe2\x80\x94 PeterNeumann "                                                                                     \
    "x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n"
#define SIG_ENOCH                                                                                                    \
    "\xe2\x80\x94 EnochRoot "                                                                                        \
    "rwz+eBzmZa0SO3NbfRGzPCpDckykFXSdeX+MNtCOXm2/5n2tiOHp+vAF1aGrQ5ovTG01oOTGwnWLox33WWd1RvMc+QQ=\n"

/* Every bit, or under valgrind one in so many: there a signature takes its time. */
static size_t step(void)
{
    return getenv("VALGRIND") ? 29 : 1;
}

static enum audit_signed signed_by(const char *note, size_t len, const char *vkey)
{
    struct audit_vkey k;
    struct err e;
    assert_int_equal(audit_vkey_parse(vkey, &k, &e), 0);
    return audit_note_verify(note, len, &k, NULL, &e);
}

static void test_vectors(void **state)
{
    (void)state;
    char note[1024], again[AUDIT_VKEY_TEXT_MAX];
    struct audit_vkey k;
    struct err e;
    int n = snprintf(note, sizeof note, "%s\n" SIG_NEUMANN SIG_ENOCH, text);
    assert_int_equal(audit_note_body(note, (size_t)n, &e), strlen(text));
    assert_int_equal(signed_by(note, (size_t)n, NEUMANN), AUDIT_SIGNED);
    assert_int_equal(signed_by(note, (size_t)n, ENOCH), AUDIT_SIGNED);
    assert_int_equal(audit_vkey_parse(ENOCH, &k, &e), 0);
    audit_vkey_text(&k, again);
    assert_string_equal(again, ENOCH);
    n = snprintf(note, sizeof note, "%s\n" SIG_NEUMANN, text);
    assert_int_equal(signed_by(note, (size_t)n, ENOCH), AUDIT_UNSIGNED);
    note[3] ^= 1;
    assert_int_equal(signed_by(note, (size_t)n, NEUMANN), AUDIT_FORGED);
    /* The example of the specification has a cosignature of 76 bytes: its form is known. */
    static const char example[] =
        "example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n\n"
        "\xe2\x80\x94 example.com/behind-the-sofa "
        "Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5/Zhcyv2q1gGzGku9nTo+zyWE+xeMcTOAYQ8=\n"
        "\xe2\x80\x94 witness.example.com/w1 "
        "jWbPPwAAAABkGFDLEZMHwSRaJNiIDoe9DYn/zXcrtPHeolMI5OWXEhZCB9dlrDJsX3b2oyin1nPZqhf5nNo0xUe+mbIUBkBIfZ+qnA==\n";
    assert_int_equal(audit_note_body(example, sizeof example - 1, &e), 82);
}

static void test_vkeys(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "",
        "PeterNeumann",
        "PeterNeumann+c74f20a3",
        "+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
        "Peter Neumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
        "PeterNeumann+c74f20a4+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
        "PeterNeumann+C74F20A3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
        "PeterNeumanm+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
        "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10T",
        "PeterNeumann+c74f20a3+AhpcWQcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
        "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TWAAAA",
        "PeterNeumann+c74f20a3+",
    };
    struct audit_vkey k;
    struct err e;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        if (audit_vkey_parse(bad[i], &k, &e) == 0)
            fail_msg("taken: %s", bad[i]);
}

static void test_form(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "",
        "\n",
        "text\n",
        "text\n\n",
        "text\n\nno dash\n",
        "text\n\n\xe2\x80\x94 name\n",
        "text\n\n\xe2\x80\x94  AAAAAAAA\n",
        "text\n\n\xe2\x80\x94 na+me AAAAAAAA\n",
        "text\n\n\xe2\x80\x94 name AAAA\n",
        "text\n\n\xe2\x80\x94 name AAAAAAB\n",
        "text\n\n\xe2\x80\x94 name AAAAAAA=",
        "text\n\n\xe2\x80\x94 name AAAA!AAA\n",
        "te\rxt\n\n\xe2\x80\x94 name AAAAAAA=\n",
        "te\xffxt\n\n\xe2\x80\x94 name AAAAAAA=\n",
        "text\n\n\xe2\x80\x94 name AAAAAAA=\nmore\n",
        "text\n\n\xe2\x80\x94 name AAAAAAA=\n\n",
        "text\n\n\xe2\x80\x94 name AAAAAAB=\n" /* a bit that no encoder sets */
    };
    struct err e;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        if (audit_note_body(bad[i], strlen(bad[i]), &e) != 0)
            fail_msg("taken: number %zu", i);
    static const char good[] = "two\n\nparts\n\n\xe2\x80\x94 name AAAAAAA=\n";
    assert_int_equal(audit_note_body(good, sizeof good - 1, &e), 11);
    /* No more signatures than anybody needs. */
    char many[4096];
    size_t len = (size_t)snprintf(many, sizeof many, "text\n\n");
    for (int i = 0; i < AUDIT_NOTE_SIGS_MAX; i++)
        len += (size_t)snprintf(many + len, sizeof many - len, "\xe2\x80\x94 name AAAAAAA=\n");
    assert_int_equal(audit_note_body(many, len, &e), 5);
    len += (size_t)snprintf(many + len, sizeof many - len, "\xe2\x80\x94 name AAAAAAA=\n");
    assert_int_equal(audit_note_body(many, len, &e), 0);
}

struct pair {
    unsigned char secret[AUDIT_SECRET_BYTES], key[AUDIT_PUBLIC_BYTES];
};

static struct pair make_pair(unsigned char seed)
{
    struct pair p;
    unsigned char s[crypto_sign_SEEDBYTES] = {seed};
    crypto_sign_seed_keypair(p.key, p.secret, s);
    return p;
}

static struct audit_checkpoint make_checkpoint(uint64_t size)
{
    struct audit_checkpoint c = {.size = size, .at_unix_ms = 1764000000000};
    memset(c.chain, 0x5a, sizeof c.chain);
    memset(c.hash, 0x11, sizeof c.hash);
    memset(c.root, 0x22, sizeof c.root);
    return c;
}

static void test_cosignature(void **state)
{
    (void)state;
    struct pair log = make_pair(1), witness = make_pair(2);
    struct audit_checkpoint c = make_checkpoint(20), back;
    struct audit_vkey k = {.name = "witness.example.org/w1", .alg = AUDIT_NOTE_COSIGNATURE};
    char note[AUDIT_NOTE_MAX], message[AUDIT_NOTE_MAX], line[256];
    struct err e;
    memcpy(k.key, witness.key, sizeof k.key);
    size_t len = audit_checkpoint_sign(&c, AUDIT_KEY_NAME, log.secret, note), before = len;
    assert_int_equal(audit_note_cosign(note, &len, sizeof note, k.name, witness.secret, 1764000123), 0);
    int64_t at = 0;
    assert_int_equal(audit_note_verify(note, len, &k, &at, &e), AUDIT_SIGNED);
    assert_true(at == 1764000123);
    assert_int_equal(audit_checkpoint_check(note, len, AUDIT_KEY_NAME, log.key, &back, &e), 0);
    /* The message by hand, as tlog-cosignature says. */
    unsigned char raw[4 + 8 + 64];
    size_t n = 0, body = audit_note_body(note, len, &e);
    assert_true(sscanf(note + before, "\xe2\x80\x94 witness.example.org/w1 %200s", line) == 1);
    assert_int_equal(
        sodium_base642bin(raw, sizeof raw, line, strlen(line), NULL, &n, NULL, sodium_base64_VARIANT_ORIGINAL), 0);
    assert_int_equal(n, sizeof raw);
    static const unsigned char stamp[8] = {0, 0, 0, 0, 0x69, 0x24, 0x81, 0x7b};
    assert_memory_equal(raw + 4, stamp, 8);
    size_t m = (size_t)snprintf(message, sizeof message, "cosignature/v1\ntime 1764000123\n%.*s", (int)body, note);
    assert_true(crypto_sign_verify_detached(raw + 12, (unsigned char *)message, m, witness.key) == 0);
    /* Any bit of it. */
    for (size_t bit = before * 8; bit < len * 8; bit += step()) {
        note[bit / 8] ^= (char)(1u << (bit % 8));
        assert_int_not_equal(audit_note_verify(note, len, &k, &at, &e), AUDIT_SIGNED);
        note[bit / 8] ^= (char)(1u << (bit % 8));
    }
    /* A key of the one kind is none of the other. */
    k.alg = AUDIT_NOTE_ED25519;
    assert_int_equal(audit_note_verify(note, len, &k, &at, &e), AUDIT_UNSIGNED);
    /* No room: nothing is written. */
    size_t full = len;
    assert_int_equal(audit_note_cosign(note, &full, len + 20, "w2", witness.secret, 5), -1);
    assert_int_equal(full, len);
}

static void flip_all(const char *note, size_t len, const struct audit_keys *k, enum audit_note_kind kind)
{
    struct audit_checkpoint c;
    struct err e;
    char copy[AUDIT_NOTE_MAX];
    memcpy(copy, note, len);
    assert_int_equal(audit_keys_check(k, copy, len, kind, &c, &e), 0);
    for (size_t bit = 0; bit < len * 8; bit += step()) {
        copy[bit / 8] ^= (char)(1u << (bit % 8));
        if (audit_keys_check(k, copy, len, kind, &c, &e) == 0)
            fail_msg("bit %zu of the note flipped, and it is taken", bit);
        copy[bit / 8] ^= (char)(1u << (bit % 8));
    }
    for (size_t n = 0; n < len; n += step())
        assert_int_equal(audit_keys_check(k, copy, n, kind, &c, &e), -1);
    for (int other = 0; other < 3; other++)
        if (other != (int)kind)
            assert_int_equal(audit_keys_check(k, copy, len, (enum audit_note_kind)other, &c, &e), -1);
}

static void test_checkpoints(void **state)
{
    (void)state;
    struct pair key = make_pair(3);
    struct audit_keys *k = malloc(sizeof *k);
    struct audit_checkpoint c = make_checkpoint(1234567), back;
    struct audit_merkle m;
    struct err e;
    char note[AUDIT_NOTE_MAX];
    assert_non_null(k);
    assert_int_equal(audit_keys_parse("", 0, key.key, k, &e), 0);
    size_t len = audit_checkpoint_sign(&c, AUDIT_KEY_NAME, key.secret, note);
    assert_int_equal(audit_checkpoint_check(note, len, AUDIT_KEY_NAME, key.key, &back, &e), 0);
    assert_memory_equal(back.root, c.root, sizeof c.root);
    assert_memory_equal(back.hash, c.hash, sizeof c.hash);
    assert_int_equal(back.size, c.size);
    assert_int_equal(back.at_unix_ms, c.at_unix_ms);
    assert_false(back.former);
    flip_all(note, len, k, AUDIT_NOTE_CHECKPOINT);
    c.former = true; /* as earlier versions wrote it */
    len = audit_checkpoint_sign(&c, AUDIT_KEY_NAME, key.secret, note);
    assert_null(strstr(note, "chain "));
    assert_int_equal(audit_checkpoint_check(note, len, AUDIT_KEY_NAME, key.key, &back, &e), 0);
    assert_true(back.former);
    assert_memory_equal(back.hash, c.hash, sizeof c.hash);
    flip_all(note, len, k, AUDIT_NOTE_CHECKPOINT);
    /* With its pieces; as many as fit. */
    static const uint64_t sizes[] = {0, 1, 6, 0x7fffffffffffffff};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        c = make_checkpoint(sizes[i]);
        c.kind = AUDIT_NOTE_TREE;
        for (size_t p = 0; p < audit_merkle_count(sizes[i]); p++)
            memset(c.pieces[p], (int)p + 1, AUDIT_ROOT_BYTES);
        audit_merkle_restore(&m, sizes[i], c.pieces);
        audit_merkle_root(&m, c.root);
        len = audit_checkpoint_sign(&c, AUDIT_KEY_NAME, key.secret, note);
        assert_int_equal(audit_checkpoint_check(note, len, AUDIT_KEY_NAME, key.key, &back, &e), 0);
        if (sizes[i] == 6)
            flip_all(note, len, k, AUDIT_NOTE_TREE);
        if (sizes[i]) { /* signed, but not of one piece with itself */
            c.pieces[0][0] ^= 1;
            len = audit_checkpoint_sign(&c, AUDIT_KEY_NAME, key.secret, note);
            assert_int_equal(audit_checkpoint_check(note, len, AUDIT_KEY_NAME, key.key, &back, &e), -1);
        }
    }
    free(k);
}

/* Other spellings of the same, properly signed. */
static void test_one_spelling(void **state)
{
    (void)state;
    struct pair key = make_pair(4);
    struct audit_checkpoint c = make_checkpoint(77), back;
    struct err e;
    char body[AUDIT_NOTE_MAX], note[AUDIT_NOTE_MAX];
    size_t n = audit_checkpoint_text(&c, body);
    body[n] = 0;
    static const struct {
        const char *is, *instead;
    } ways[] = {{"\n77\n", "\n077\n"},
                {"\n77\n", "\n 77\n"},
                {"\n77\n", "\n+77\n"},
                {"\n77\n", "\n77 \n"},
                {"time 1", "time 01"},
                {"time ", "time  "},
                {"chain ", "chain  "},
                {"redoubt/", "Redoubt/"},
                {"5a5a", "5A5a"},
                {"\n77\n", "\n77\nmore\n"},
                {"000\n", "000\nrotations 0\n"},
                {"000\n", "000\nmore\n"},
                {"time 1764", "time -1764"},
                {"\n77\n", "\n99999999999999999999\n"}};
    for (size_t i = 0; i < sizeof ways / sizeof *ways; i++) {
        char *at = strstr(body, ways[i].is);
        assert_non_null(at);
        size_t len = (size_t)snprintf(note, sizeof note, "%.*s%s%s", (int)(at - body), body, ways[i].instead,
                                      at + strlen(ways[i].is));
        assert_int_equal(audit_note_sign(note, &len, sizeof note, AUDIT_KEY_NAME, key.secret), 0);
        if (audit_checkpoint_check(note, len, AUDIT_KEY_NAME, key.key, &back, &e) == 0)
            fail_msg("taken: `%s` for `%s`", ways[i].instead, ways[i].is);
    }
}

static size_t change(char *file, size_t at, const struct audit_checkpoint *c, uint32_t number, const struct pair *old,
                     const struct pair *next)
{
    struct audit_checkpoint r = *c;
    r.kind = AUDIT_NOTE_ROTATION;
    r.rotations = number;
    memcpy(r.old_key, old->key, sizeof r.old_key);
    memcpy(r.next_key, next->key, sizeof r.next_key);
    size_t n = audit_checkpoint_sign(&r, AUDIT_KEY_NAME, old->secret, file + at);
    assert_int_equal(audit_note_sign(file + at, &n, AUDIT_NOTE_MAX, AUDIT_KEY_NAME, next->secret), 0);
    assert_true(n <= 512); /* what the contract sends it in */
    return at + n;
}

static void test_keys(void **state)
{
    (void)state;
    struct pair p[4];
    struct audit_checkpoint at10 = make_checkpoint(10), at30 = make_checkpoint(30), back;
    struct audit_keys *k = malloc(sizeof *k);
    static char file[4 * AUDIT_NOTE_MAX], copy[4 * AUDIT_NOTE_MAX];
    char note[AUDIT_NOTE_MAX];
    struct err e;
    assert_non_null(k);
    for (unsigned char i = 0; i < 4; i++)
        p[i] = make_pair((unsigned char)(10 + i));
    size_t one = change(file, 0, &at10, 1, &p[0], &p[1]), two = change(file, one, &at30, 2, &p[1], &p[2]);
    assert_int_equal(audit_keys_parse(file, two, p[2].key, k, &e), 0);
    assert_int_equal(k->n, 3);
    for (int i = 0; i < 3; i++)
        assert_int_equal(audit_keys_find(k, p[i].key), i);
    assert_int_equal(audit_keys_find(k, p[3].key), -1);
    assert_int_equal(k->list[1].since, 10);
    assert_int_equal(k->list[2].since, 30);
    assert_int_equal(k->list[2].offset, one);
    /* Which key may sign what. */
    static const struct {
        int key;
        uint64_t size;
        bool good;
    } turns[] = {{0, 0, true},   {0, 10, true},  {0, 11, false}, {1, 9, false},   {1, 10, true},   {1, 30, true},
                 {1, 31, false}, {2, 29, false}, {2, 30, true},  {2, 1000, true}, {3, 1000, false}};
    for (size_t i = 0; i < sizeof turns / sizeof *turns; i++) {
        struct audit_checkpoint c = make_checkpoint(turns[i].size);
        c.rotations = (uint32_t)turns[i].key;
        size_t n = audit_checkpoint_sign(&c, AUDIT_KEY_NAME, p[turns[i].key].secret, note);
        assert_int_equal(audit_keys_check(k, note, n, AUDIT_NOTE_CHECKPOINT, &back, &e), turns[i].good ? 0 : -1);
        c.rotations = (c.rotations + 1) % 3; /* says another key than signs it */
        n = audit_checkpoint_sign(&c, AUDIT_KEY_NAME, p[turns[i].key].secret, note);
        assert_int_equal(audit_keys_check(k, note, n, AUDIT_NOTE_CHECKPOINT, &back, &e), -1);
    }
    /* Every bit, every cut; a note left out, doubled, moved; a key that the one before did not vouch for. */
    for (size_t bit = 0; bit < two * 8; bit += step()) {
        memcpy(copy, file, two);
        copy[bit / 8] ^= (char)(1u << (bit % 8));
        if (audit_keys_parse(copy, two, p[2].key, k, &e) == 0)
            fail_msg("bit %zu of the keys flipped, and nothing was found", bit);
    }
    for (size_t n = 0; n < two; n += step())
        assert_true(audit_keys_parse(file, n, p[2].key, k, &e) == -1 ||
                    n == 0); /* no change at all is a trail of one key */
    assert_int_equal(audit_keys_parse(file + one, two - one, p[2].key, k, &e), -1);
    memcpy(copy, file, one);
    memcpy(copy + one, file, one);
    assert_int_equal(audit_keys_parse(copy, 2 * one, p[1].key, k, &e), -1);
    memcpy(copy, file + one, two - one);
    memcpy(copy + two - one, file, one);
    assert_int_equal(audit_keys_parse(copy, two, p[2].key, k, &e), -1);
    size_t forged = change(copy, 0, &at10, 1, &p[3], &p[1]);
    memcpy(copy + forged, file + one, two - one);
    assert_int_equal(audit_keys_parse(copy, forged + two - one, p[2].key, k, &e), 0); /* whole in itself, */
    assert_int_equal(audit_keys_find(k, p[0].key), -1); /* but not with the key one knows */
    size_t back_again = change(copy, 0, &at30, 1, &p[0], &p[1]);
    back_again = change(copy, back_again, &at10, 2, &p[1], &p[2]);
    assert_int_equal(audit_keys_parse(copy, back_again, p[2].key, k, &e), -1);
    free(k);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_vectors),     cmocka_unit_test(test_vkeys),       cmocka_unit_test(test_form),
        cmocka_unit_test(test_cosignature), cmocka_unit_test(test_checkpoints), cmocka_unit_test(test_one_spelling),
        cmocka_unit_test(test_keys),
    };
    if (sodium_init() < 0)
        return 1;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
