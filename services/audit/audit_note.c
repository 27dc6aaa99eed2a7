/* audit_note.c - C2SP signed notes and cosignatures. A note is read strictly: every byte of it has one spelling. */
#include "audit/audit_note.h"
#include "common/utf8.h"
#include <inttypes.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>

#define ID_BYTES    4
#define DASH        "\xe2\x80\x94 "
#define B64         sodium_base64_VARIANT_ORIGINAL
#define RAW_MAX     (ID_BYTES + 8 + crypto_sign_BYTES)
#define B64_MAX     sodium_base64_ENCODED_LEN(RAW_MAX, B64)
#define COSIGN_HEAD "cosignature/v1\ntime "

static void key_id(const struct audit_vkey *k, unsigned char out[static ID_BYTES])
{
    unsigned char hash[crypto_hash_sha256_BYTES], sep_and_alg[2] = {'\n', (unsigned char)k->alg};
    crypto_hash_sha256_state s;
    crypto_hash_sha256_init(&s);
    crypto_hash_sha256_update(&s, (const unsigned char *)k->name, strlen(k->name));
    crypto_hash_sha256_update(&s, sep_and_alg, sizeof sep_and_alg);
    crypto_hash_sha256_update(&s, k->key, sizeof k->key);
    crypto_hash_sha256_final(&s, hash);
    memcpy(out, hash, ID_BYTES);
}

/* The decoder takes some bytes beyond ASCII for letters: only the one proper spelling is accepted. Returns the bytes, 0 if it is none. */
static size_t unbase64(const char *text, size_t len, unsigned char *out, size_t max)
{
    char again[B64_MAX + 256];
    size_t n = 0;
    const char *end = NULL;
    if (sodium_base642bin(out, max, text, len, NULL, &n, &end, B64) || end != text + len ||
        sodium_base64_encoded_len(n, B64) > sizeof again || sodium_base64_encoded_len(n, B64) != len + 1)
        return 0;
    sodium_bin2base64(again, sizeof again, out, n, B64);
    return memcmp(again, text, len) == 0 ? n : 0;
}

/* ---- verifier keys ---- */

static bool name_ok(const char *name, size_t len)
{
    if (len == 0 || len >= AUDIT_VKEY_NAME_MAX)
        return false;
    for (size_t i = 0; i < len; i++) /* all that we name: no need for the spaces of Unicode */
        if (name[i] <= ' ' || name[i] > '~' || name[i] == '+')
            return false;
    return true;
}

int audit_vkey_parse(const char *text, struct audit_vkey *ret, struct err *e)
{
    unsigned char raw[1 + AUDIT_PUBLIC_BYTES + 1], id[ID_BYTES];
    char hex[2 * ID_BYTES + 1];
    const char *a = strchr(text, '+'), *b = a ? strchr(a + 1, '+') : NULL;
    *ret = (struct audit_vkey){.alg = AUDIT_NOTE_ED25519};
    if (!b || !name_ok(text, (size_t)(a - text)) || b - a - 1 != 2 * ID_BYTES)
        return err_set(e, "found `%.100s`; allowed: a verifier key as NAME+ID+KEY", text);
    if (unbase64(b + 1, strlen(b + 1), raw, sizeof raw) != 1 + AUDIT_PUBLIC_BYTES ||
        (raw[0] != AUDIT_NOTE_ED25519 && raw[0] != AUDIT_NOTE_COSIGNATURE))
        return err_set(e, "found `%.100s`; allowed: a key of Ed25519 (byte 1) or of cosignatures (byte 4), base64",
                       text);
    memcpy(ret->name, text, (size_t)(a - text));
    ret->alg = raw[0] == AUDIT_NOTE_ED25519 ? AUDIT_NOTE_ED25519 : AUDIT_NOTE_COSIGNATURE;
    memcpy(ret->key, raw + 1, sizeof ret->key);
    key_id(ret, id);
    sodium_bin2hex(hex, sizeof hex, id, sizeof id);
    if (memcmp(hex, a + 1, 2 * ID_BYTES) != 0)
        return err_set(e, "found `%.100s`; its id is not that of its name and key: one of them was changed", text);
    return 0;
}

void audit_vkey_text(const struct audit_vkey *k, char out[static AUDIT_VKEY_TEXT_MAX])
{
    unsigned char raw[1 + AUDIT_PUBLIC_BYTES], id[ID_BYTES];
    char hex[2 * ID_BYTES + 1], key[sodium_base64_ENCODED_LEN(sizeof raw, B64)];
    raw[0] = (unsigned char)k->alg;
    memcpy(raw + 1, k->key, sizeof k->key);
    key_id(k, id);
    sodium_bin2hex(hex, sizeof hex, id, sizeof id);
    sodium_bin2base64(key, sizeof key, raw, sizeof raw, B64);
    snprintf(out, AUDIT_VKEY_TEXT_MAX, "%s+%s+%s", k->name, hex, key);
}

/* ---- reading ---- */

struct sig {
    const char *name;
    size_t name_len;
    unsigned char raw[RAW_MAX];
    size_t n;
};

/* One signature line from `at` on; the place behind it, or NULL. Longer signatures than ours are another's algorithm: their form is looked
 * at, their bytes are not kept. */
static const char *next_sig(const char *at, const char *end, struct sig *ret)
{
    unsigned char raw[AUDIT_NOTE_MAX];
    const char *eol = memchr(at, '\n', (size_t)(end - at));
    if (!eol || (size_t)(eol - at) <= strlen(DASH) || memcmp(at, DASH, strlen(DASH)) != 0)
        return NULL;
    ret->name = at + strlen(DASH);
    const char *space = memchr(ret->name, ' ', (size_t)(eol - ret->name));
    if (!space || space == ret->name || memchr(ret->name, '+', (size_t)(space - ret->name)))
        return NULL;
    ret->name_len = (size_t)(space - ret->name);
    const char *text = space + 1;
    size_t len = (size_t)(eol - text);
    if (len < sodium_base64_encoded_len(RAW_MAX, B64)) {
        ret->n = unbase64(text, len, ret->raw, sizeof ret->raw);
    } else {
        size_t n = 0;
        const char *stop = NULL;
        if (sodium_base642bin(raw, sizeof raw, text, len, NULL, &n, &stop, B64) || stop != eol)
            return NULL;
        ret->n = n > RAW_MAX ? RAW_MAX + 1 : 0;
        memcpy(ret->raw, raw, ID_BYTES);
    }
    return ret->n > ID_BYTES ? eol + 1 : NULL;
}

size_t audit_note_body(const char *note, size_t len, struct err *e)
{
    if (len < 4 || len > AUDIT_NOTE_MAX || note[len - 1] != '\n') {
        err_set(e, "no signed note: %zu bytes", len);
        return 0;
    }
    for (size_t i = 0; i < len; i++) {
        if ((unsigned char)note[i] < ' ' && note[i] != '\n') {
            err_set(e, "no signed note: a control character at byte %zu", i);
            return 0;
        }
    }
    if (utf8_valid_until(note, len) < len) {
        err_set(e, "no signed note: not UTF-8");
        return 0;
    }
    size_t body = len - 1; /* the last empty line parts text and signatures */
    while (body > 1 && !(note[body - 1] == '\n' && note[body] == '\n'))
        body--;
    size_t n = 0;
    struct sig s;
    const char *at = note + body + 1, *end = note + len;
    while (body > 1 && at && at < end && n <= AUDIT_NOTE_SIGS_MAX) {
        at = next_sig(at, end, &s);
        n++;
    }
    if (body <= 1 || !at || n == 0 || n > AUDIT_NOTE_SIGS_MAX) {
        err_set(e, body <= 1 || n == 0 ? "the note has no signature" : "the note's signature %zu is not readable", n);
        return 0;
    }
    return body;
}

static bool fits(const struct sig *s, const struct audit_vkey *k, const char *note, size_t body, int64_t *ret_at)
{
    if (k->alg == AUDIT_NOTE_ED25519)
        return s->n == ID_BYTES + crypto_sign_BYTES &&
               crypto_sign_verify_detached(s->raw + ID_BYTES, (const unsigned char *)note, body, k->key) == 0;
    if (s->n != ID_BYTES + 8 + crypto_sign_BYTES)
        return false;
    uint64_t at = 0;
    for (int i = 0; i < 8; i++)
        at = at << 8 | s->raw[ID_BYTES + i];
    char text[AUDIT_NOTE_MAX + 64];
    int head = snprintf(text, sizeof text, COSIGN_HEAD "%" PRIu64 "\n", at);
    memcpy(text + head, note, body);
    if (at > INT64_MAX ||
        crypto_sign_verify_detached(s->raw + ID_BYTES + 8, (const unsigned char *)text, (size_t)head + body, k->key))
        return false;
    if (ret_at)
        *ret_at = (int64_t)at;
    return true;
}

enum audit_signed audit_note_verify(const char *note, size_t len, const struct audit_vkey *k, int64_t *ret_at_unix_s,
                                    struct err *e)
{
    unsigned char id[ID_BYTES];
    size_t body = audit_note_body(note, len, e);
    if (body == 0)
        return AUDIT_NO_NOTE;
    key_id(k, id);
    enum audit_signed found = AUDIT_UNSIGNED;
    struct sig s;
    for (const char *at = note + body + 1, *end = note + len; at && at < end;) {
        at = next_sig(at, end, &s);
        if (!at || s.name_len != strlen(k->name) || memcmp(s.name, k->name, s.name_len) != 0 ||
            memcmp(s.raw, id, sizeof id) != 0)
            continue;
        if (!fits(&s, k, note, body, ret_at_unix_s)) {
            err_set(e, "the signature of %s does not fit: the note was changed", k->name);
            return AUDIT_FORGED;
        }
        found = AUDIT_SIGNED;
    }
    if (found == AUDIT_UNSIGNED)
        err_set(e, "the note is not signed by %s with the key given", k->name);
    return found;
}

/* ---- signing ---- */

static int add_line(char *note, size_t *len, size_t max, const char *name, const unsigned char *raw, size_t n)
{
    char text[B64_MAX];
    struct err e;
    sodium_bin2base64(text, sizeof text, raw, n, B64);
    bool first = audit_note_body(note, *len, &e) == 0;
    int more = snprintf(note + *len, max - *len, "%s" DASH "%s %s\n", first ? "\n" : "", name, text);
    if (more < 0 || (size_t)more >= max - *len)
        return -1;
    *len += (size_t)more;
    return 0;
}

/* What is signed: all of a text, or a note's text. */
static size_t to_sign(const char *note, size_t len)
{
    struct err e;
    size_t body = audit_note_body(note, len, &e);
    return body ? body : len;
}

int audit_note_sign(char *note, size_t *len, size_t max, const char *name,
                    const unsigned char secret[static AUDIT_SECRET_BYTES])
{
    struct audit_vkey k = {.alg = AUDIT_NOTE_ED25519};
    unsigned char raw[ID_BYTES + crypto_sign_BYTES];
    snprintf(k.name, sizeof k.name, "%s", name);
    crypto_sign_ed25519_sk_to_pk(k.key, secret);
    key_id(&k, raw);
    crypto_sign_detached(raw + ID_BYTES, NULL, (const unsigned char *)note, to_sign(note, *len), secret);
    return add_line(note, len, max, name, raw, sizeof raw);
}

int audit_note_cosign(char *note, size_t *len, size_t max, const char *name,
                      const unsigned char secret[static AUDIT_SECRET_BYTES], int64_t at_unix_s)
{
    struct audit_vkey k = {.alg = AUDIT_NOTE_COSIGNATURE};
    unsigned char raw[RAW_MAX];
    char text[AUDIT_NOTE_MAX + 64];
    size_t body = to_sign(note, *len);
    if (body > AUDIT_NOTE_MAX || at_unix_s < 0)
        return -1;
    snprintf(k.name, sizeof k.name, "%s", name);
    crypto_sign_ed25519_sk_to_pk(k.key, secret);
    key_id(&k, raw);
    for (int i = 0; i < 8; i++)
        raw[ID_BYTES + i] = (unsigned char)((uint64_t)at_unix_s >> (56 - 8 * i));
    int head = snprintf(text, sizeof text, COSIGN_HEAD "%" PRId64 "\n", at_unix_s);
    memcpy(text + head, note, body);
    crypto_sign_detached(raw + ID_BYTES + 8, NULL, (const unsigned char *)text, (size_t)head + body, secret);
    return add_line(note, len, max, name, raw, sizeof raw);
}
