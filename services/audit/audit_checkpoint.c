/* audit_checkpoint.c - the texts that a trail signs, and which key may sign what. */
#include "audit/audit_checkpoint.h"
#include <assert.h>
#include <inttypes.h>
#include <sodium.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ORIGIN   "redoubt/audit/"
#define B64      sodium_base64_VARIANT_ORIGINAL
#define B64_32   44 /* letters of 32 bytes */
#define SIG_LINE (4 + sizeof AUDIT_KEY_NAME - 1 + 1 + 92 + 1)

static_assert(AUDIT_ROOT_BYTES == 32 && AUDIT_HASH_BYTES == 32 && AUDIT_PUBLIC_BYTES == 32, "one decoder for all");

/* ---- text ---- */

struct text {
    char *at;
    size_t left;
};

__attribute__((format(printf, 2, 3))) static void put(struct text *t, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(t->at, t->left, fmt, ap);
    va_end(ap);
    assert(n > 0 && (size_t)n < t->left);
    t->at += n;
    t->left -= (size_t)n;
}

static const char *b64(const unsigned char *bytes, char out[static B64_32 + 1])
{
    return sodium_bin2base64(out, B64_32 + 1, bytes, 32, B64);
}

size_t audit_checkpoint_text(const struct audit_checkpoint *c, char out[static AUDIT_NOTE_MAX])
{
    struct text t = {out, AUDIT_NOTE_MAX};
    char chain[2 * AUDIT_CHAIN_BYTES + 1], a[B64_32 + 1], b[B64_32 + 1];
    sodium_bin2hex(chain, sizeof chain, c->chain, AUDIT_CHAIN_BYTES);
    put(&t, ORIGIN "%s\n%" PRIu64 "\n%s\n", chain, c->size, b64(c->former ? c->hash : c->root, a));
    if (!c->former)
        put(&t, "chain %s\n", b64(c->hash, a));
    put(&t, "time %" PRId64 "\n", c->at_unix_ms);
    if (c->former)
        return (size_t)(t.at - out);
    if (c->rotations)
        put(&t, "rotations %" PRIu32 "\n", c->rotations);
    if (c->kind == AUDIT_NOTE_ROTATION)
        put(&t, "key %s %s\n", b64(c->old_key, a), b64(c->next_key, b));
    for (size_t i = 0; c->kind == AUDIT_NOTE_TREE && i < audit_merkle_count(c->size); i++)
        put(&t, "piece %s\n", b64(c->pieces[i], a));
    return (size_t)(t.at - out);
}

/* ---- parsing: leniently, as the text made of the values again must be the same bytes ---- */

static bool skip(const char **at, const char *word)
{
    size_t n = strlen(word);
    if (strncmp(*at, word, n) != 0)
        return false;
    *at += n;
    return true;
}

static bool bytes32(const char **at, unsigned char out[static 32])
{
    size_t n = 0;
    if (strnlen(*at, B64_32) < B64_32 || sodium_base642bin(out, 32, *at, B64_32, NULL, &n, NULL, B64) || n != 32)
        return false;
    *at += B64_32;
    return true;
}

static bool number(const char **at, uint64_t *ret)
{
    char *end;
    *ret = strtoull(*at, &end, 10);
    bool any = end != *at;
    *at = end;
    return any;
}

static bool parse_text(const char *at, struct audit_checkpoint *c)
{
    uint64_t n;
    size_t bytes = 0;
    *c = (struct audit_checkpoint){0};
    if (!skip(&at, ORIGIN) || strnlen(at, 32) < 32 ||
        sodium_hex2bin(c->chain, sizeof c->chain, at, 32, NULL, &bytes, NULL) || bytes != sizeof c->chain)
        return false;
    at += 32;
    if (!skip(&at, "\n") || !number(&at, &c->size) || !skip(&at, "\n") || !bytes32(&at, c->root) || !skip(&at, "\n"))
        return false;
    c->former = !skip(&at, "chain ");
    if (c->former) {
        memcpy(c->hash, c->root, sizeof c->hash);
        memset(c->root, 0, sizeof c->root);
    } else if (!bytes32(&at, c->hash) || !skip(&at, "\n")) {
        return false;
    }
    if (!skip(&at, "time ") || !number(&at, &n) || n > INT64_MAX || !skip(&at, "\n"))
        return false;
    c->at_unix_ms = (int64_t)n;
    if (skip(&at, "rotations ")) {
        if (!number(&at, &n) || n > UINT32_MAX || !skip(&at, "\n"))
            return false;
        c->rotations = (uint32_t)n;
    }
    if (skip(&at, "key ")) {
        c->kind = AUDIT_NOTE_ROTATION;
        if (!bytes32(&at, c->old_key) || !skip(&at, " ") || !bytes32(&at, c->next_key) || !skip(&at, "\n"))
            return false;
    }
    for (size_t i = 0; i < 64 && skip(&at, "piece "); i++) {
        c->kind = AUDIT_NOTE_TREE;
        if (!bytes32(&at, c->pieces[i]) || !skip(&at, "\n"))
            return false;
    }
    return *at == 0;
}

int audit_checkpoint_parse(const char *note, size_t len, struct audit_checkpoint *ret, struct err *e)
{
    char copy[AUDIT_NOTE_MAX + 1], again[AUDIT_NOTE_MAX];
    size_t body = audit_note_body(note, len, e);
    if (body == 0)
        return -1;
    memcpy(copy, note, body);
    copy[body] = 0;
    if (!parse_text(copy, ret) || audit_checkpoint_text(ret, again) != body || memcmp(again, copy, body) != 0)
        return err_set(e, "the note's text is not of a form that a trail signs");
    if (ret->kind == AUDIT_NOTE_TREE) {
        struct audit_merkle m;
        unsigned char root[AUDIT_ROOT_BYTES];
        audit_merkle_restore(&m, ret->size, ret->pieces);
        audit_merkle_root(&m, root);
        if (memcmp(root, ret->root, sizeof root) != 0)
            return err_set(e, "the pieces of the tree do not make up its root");
    }
    return 0;
}

size_t audit_checkpoint_sign(const struct audit_checkpoint *c, const char *key_name,
                             const unsigned char secret[static AUDIT_SECRET_BYTES],
                             char out[static AUDIT_CHECKPOINT_MAX])
{
    size_t len = audit_checkpoint_text(c, out);
    int rc = audit_note_sign(out, &len, AUDIT_CHECKPOINT_MAX, key_name, secret);
    assert(rc == 0);
    (void)rc;
    return len;
}

static enum audit_signed signed_by(const char *note, size_t len, const char *name,
                                   const unsigned char key[static AUDIT_PUBLIC_BYTES], struct err *e)
{
    struct audit_vkey k = {.alg = AUDIT_NOTE_ED25519};
    snprintf(k.name, sizeof k.name, "%s", name);
    memcpy(k.key, key, sizeof k.key);
    return audit_note_verify(note, len, &k, NULL, e);
}

int audit_checkpoint_check(const char *text, size_t len, const char *key_name,
                           const unsigned char public_key[static AUDIT_PUBLIC_BYTES], struct audit_checkpoint *ret,
                           struct err *e)
{
    if (signed_by(text, len, key_name, public_key, e) != AUDIT_SIGNED)
        return -1;
    return audit_checkpoint_parse(text, len, ret, e);
}

/* ---- keys ---- */

/* Where the note that begins here ends: behind the signature lines that follow its empty line. 0 = it is none. */
static size_t note_length(const char *at, size_t left)
{
    const char *empty = memmem(at, left, "\n\n", 2);
    if (!empty)
        return 0;
    const char *end = at + left, *line = empty + 2;
    while (end - line >= 3 && memcmp(line, "\xe2\x80\x94", 3) == 0) {
        const char *eol = memchr(line, '\n', (size_t)(end - line));
        if (!eol)
            return 0;
        line = eol + 1;
    }
    return (size_t)(line - at);
}

/* Our signatures and no others: all have the same length. */
static bool signatures_are(const char *note, size_t len, size_t n)
{
    return audit_note_body(note, len, NULL) + 1 + n * SIG_LINE == len;
}

static int add_rotation(struct audit_keys *k, const char *note, size_t len, size_t offset, struct err *e)
{
    struct audit_checkpoint c;
    struct err why = {""};
    size_t i = k->n; /* the first note is number 1, when the first key is there */
    if (audit_checkpoint_parse(note, len, &c, &why))
        return err_set(e, "change %zu of the key, at byte %zu: %s", i ? i : 1, offset, why.text);
    if (c.kind != AUDIT_NOTE_ROTATION)
        return err_set(e, "at byte %zu is a note that is no change of the key", offset);
    if (i == 0) {
        memcpy(k->list[0].key, c.old_key, AUDIT_PUBLIC_BYTES);
        memcpy(k->list[0].chain, c.chain, AUDIT_CHAIN_BYTES);
        i = k->n = 1;
    }
    if (c.rotations != i || memcmp(c.old_key, k->list[i - 1].key, AUDIT_PUBLIC_BYTES) != 0)
        return err_set(e, "change %" PRIu32 " of the key stands where change %zu should be", c.rotations, i);
    if (memcmp(c.chain, k->list[0].chain, AUDIT_CHAIN_BYTES) != 0 || c.size < k->list[i - 1].since)
        return err_set(e, "change %zu of the key is of another chain or went back", i);
    if (signed_by(note, len, AUDIT_KEY_NAME, c.old_key, &why) != AUDIT_SIGNED)
        return err_set(e, "change %zu of the key is not vouched for by the key before it: %s", i, why.text);
    if (signed_by(note, len, AUDIT_KEY_NAME, c.next_key, &why) != AUDIT_SIGNED || !signatures_are(note, len, 2))
        return err_set(e, "change %zu of the key is not signed by the new key, and it alone: %s", i, why.text);
    if (i == AUDIT_KEYS_MAX)
        return err_set(e, "more than %d keys", AUDIT_KEYS_MAX);
    memcpy(k->list[i].key, c.next_key, AUDIT_PUBLIC_BYTES);
    memcpy(k->list[i].hash, c.hash, AUDIT_HASH_BYTES);
    memcpy(k->list[i].root, c.root, AUDIT_ROOT_BYTES);
    memcpy(k->list[i].chain, c.chain, AUDIT_CHAIN_BYTES);
    k->list[i].since = c.size;
    k->list[i].at_unix_ms = c.at_unix_ms;
    k->list[i].offset = offset;
    k->list[i].len = len;
    k->n++;
    return 0;
}

int audit_keys_parse(const char *file, size_t len, const unsigned char *newest, struct audit_keys *ret, struct err *e)
{
    *ret = (struct audit_keys){0};
    for (size_t at = 0; at < len;) {
        size_t n = note_length(file + at, len - at);
        if (n == 0)
            return err_set(e, "at byte %zu is no whole note", at);
        if (add_rotation(ret, file + at, n, at, e))
            return -1;
        at += n;
    }
    if (ret->n == 0 && newest) {
        memcpy(ret->list[0].key, newest, AUDIT_PUBLIC_BYTES);
        ret->n = 1;
    }
    if (ret->n == 0)
        return err_set(e, "no key is known");
    if (newest && audit_keys_find(ret, newest) < 0)
        return err_set(e, "the key of " AUDIT_PUBLIC_FILE " is none of those that " AUDIT_KEYS_FILE " leads to");
    return 0;
}

int audit_keys_find(const struct audit_keys *k, const unsigned char key[static AUDIT_PUBLIC_BYTES])
{
    for (size_t i = 0; i < k->n; i++)
        if (memcmp(k->list[i].key, key, AUDIT_PUBLIC_BYTES) == 0)
            return (int)i;
    return -1;
}

static const char *kind_name(enum audit_note_kind kind)
{
    static const char *const names[] = {[AUDIT_NOTE_CHECKPOINT] = "a checkpoint",
                                        [AUDIT_NOTE_ROTATION] = "a change of the key",
                                        [AUDIT_NOTE_TREE] = "a note of where a trail begins"};
    return names[kind];
}

int audit_keys_check(const struct audit_keys *k, const char *note, size_t len, enum audit_note_kind kind,
                     struct audit_checkpoint *ret, struct err *e)
{
    struct err why = {""};
    if (audit_checkpoint_parse(note, len, ret, e))
        return -1;
    if (ret->kind != kind)
        return err_set(e, "it is %s and not %s", kind_name(ret->kind), kind_name(kind));
    if (ret->rotations >= k->n)
        return err_set(e, "it is of key %" PRIu32 ", and only %zu are known: changes of the key are missing",
                       ret->rotations, k->n);
    size_t i = ret->rotations;
    switch (signed_by(note, len, AUDIT_KEY_NAME, k->list[i].key, &why)) {
    case AUDIT_SIGNED:
        break;
    case AUDIT_UNSIGNED:
        return err_set(e, "it was signed with another key than %s",
                       i + 1 == k->n ? AUDIT_PUBLIC_FILE : "the one whose turn it was");
    default:
        return err_set(e, "it was changed: its signature does not fit");
    }
    if (k->n > 1 && memcmp(ret->chain, k->list[0].chain, AUDIT_CHAIN_BYTES) != 0)
        return err_set(e, "it is of another chain than the changes of the key");
    if (kind == AUDIT_NOTE_TREE && !signatures_are(note, len, 1))
        return err_set(e, "it has signatures of others");
    if (kind == AUDIT_NOTE_CHECKPOINT &&
        (ret->size < k->list[i].since || (i + 1 < k->n && ret->size > k->list[i + 1].since)))
        return err_set(e, "it was signed with a key whose turn was not at record %" PRIu64, ret->size);
    return 0;
}
