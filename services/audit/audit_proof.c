/* audit_proof.c - makes and checks the proof that one record is in a trail. */
#include "audit/audit_proof.h"
#include <inttypes.h>
#include <jansson.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FORMAT "redoubt-audit-proof/1"
#define B64    sodium_base64_VARIANT_ORIGINAL

/* ---- making ---- */

struct making {
    struct audit_prover *prover;
    const struct audit_report *r;
    uint64_t seq;
    bool begun, possible;
    char *record; /* base64 */
};

static void on_record(void *ctx, const struct audit_record *rec, const char *file, uint64_t offset)
{
    struct making *m = ctx;
    (void)file;
    (void)offset;
    if (!m->begun) {
        m->begun = true;
        m->possible = m->r->checkpointed && !m->r->checkpoint.former && m->seq > m->r->pruned &&
                      audit_prover_inclusion(m->prover, m->seq - 1, m->r->checkpoint.size);
        if (m->possible)
            audit_prover_pieces(m->prover, &m->r->tree); /* of what was deleted */
    }
    if (!m->possible || rec->seq > m->r->checkpoint.size)
        return;
    if (rec->seq - 1 != m->prover->end) {
        m->possible = false; /* records are missing: said as a problem */
        return;
    }
    unsigned char leaf[AUDIT_ROOT_BYTES];
    audit_merkle_leaf(rec->stored, rec->len, leaf);
    audit_prover_leaf(m->prover, leaf);
    if (rec->seq != m->seq)
        return;
    size_t max = sodium_base64_encoded_len(rec->len, B64);
    if ((m->record = malloc(max)))
        sodium_bin2base64(m->record, max, rec->stored, rec->len, B64);
}

static json_t *b64(const unsigned char *bytes)
{
    char text[48];
    return json_string(sodium_bin2base64(text, sizeof text, bytes, 32, B64));
}

static json_t *rotations(const char *dir, const struct audit_keys *keys)
{
    json_t *list = json_array();
    struct err e;
    size_t n;
    if (keys->n < 2)
        return list;
    unsigned char *file = audit_read_file(dir, AUDIT_KEYS_FILE, AUDIT_KEYS_MAX * 1024, &n, &e);
    for (size_t i = 1; file && i < keys->n && keys->list[i].offset + keys->list[i].len <= n; i++)
        json_array_append_new(list, json_stringn((char *)file + keys->list[i].offset, keys->list[i].len));
    free(file);
    return list;
}

/* The checkpoint that the report is of; it may have been followed by another since. */
static json_t *note_of(const char *const *dirs, size_t n_dirs, const struct audit_report *r)
{
    json_t *note = NULL;
    for (size_t i = 0; !note && i < n_dirs; i++) {
        size_t n;
        struct err e;
        struct audit_checkpoint c;
        unsigned char *text = audit_read_file(dirs[i], AUDIT_CHECKPOINT_FILE, AUDIT_NOTE_MAX, &n, &e);
        if (text && audit_checkpoint_parse((char *)text, n, &c, &e) == 0 && c.size == r->checkpoint.size &&
            memcmp(c.root, r->checkpoint.root, sizeof c.root) == 0)
            note = json_stringn((char *)text, n);
        free(text);
    }
    return note;
}

char *audit_proof_text(const struct audit_proof_parts *p, struct err *e)
{
    char key[2 * AUDIT_PUBLIC_BYTES + 1];
    json_t *list = json_array();
    for (size_t i = 0; i < p->n_path; i++)
        json_array_append_new(list, b64(p->path[i]));
    sodium_bin2hex(key, sizeof key, p->keys->list[p->keys->n - 1].key, AUDIT_PUBLIC_BYTES);
    json_t *j = json_pack("{s:s, s:I, s:s, s:o, s:s, s:o, s:s}", "format", FORMAT, "sequence", (json_int_t)p->seq,
                          "record", p->record, "path", list, "checkpoint", p->note, "keys",
                          rotations(p->dir, p->keys), "public_key", key);
    char *text = j ? json_dumps(j, JSON_INDENT(2)) : NULL;
    json_decref(j);
    if (!text)
        err_set(e, "out of memory");
    return text;
}

static char *write_proof(const struct making *m, const char *const *dirs, size_t n_dirs, struct err *e)
{
    unsigned char(*path)[AUDIT_ROOT_BYTES] = malloc(AUDIT_PATH_MAX * sizeof *path);
    int n = path ? audit_prover_end(m->prover, path) : -1;
    json_t *note = note_of(dirs, n_dirs, m->r);
    char *text = NULL;
    if (n < 0 || !note || !m->record) {
        err_set(e, !note ? "a newer checkpoint was signed meanwhile: ask again" : "out of memory");
    } else {
        struct audit_proof_parts p = {.seq = m->seq,
                                      .record = m->record,
                                      .path = (const unsigned char(*)[AUDIT_ROOT_BYTES])path,
                                      .n_path = (size_t)n,
                                      .note = json_string_value(note),
                                      .dir = dirs[0],
                                      .keys = &m->r->keys};
        text = audit_proof_text(&p, e);
    }
    json_decref(note);
    free(path);
    return text;
}

static void say_why_not(const struct making *m, const struct audit_report *r, struct err *e)
{
    if (r->n_problems)
        err_set(e, "the trail does not verify: %s at byte %" PRIu64 ": %.300s", r->problems[0].file,
                r->problems[0].offset, r->problems[0].what);
    else if (m->seq <= r->pruned && m->seq > 0)
        err_set(e, "record %" PRIu64 " was deleted by retention: the trail begins with %" PRIu64, m->seq,
                r->pruned + 1);
    else if (m->seq == 0 || m->seq > r->last_seq)
        err_set(e, "there is no record %" PRIu64 "; the last one is %" PRIu64, m->seq, r->last_seq);
    else if (r->checkpoint.former)
        err_set(e, "the newest checkpoint is of a former version and names no root: the next one does");
    else
        err_set(e,
                "record %" PRIu64 " is behind the newest checkpoint, of %" PRIu64 " records: the next one covers it",
                m->seq, r->checkpoint.size);
}

char *audit_proof_make(const char *const *dirs, size_t n_dirs, uint64_t seq, struct err *e)
{
    struct audit_prover *prover = calloc(1, sizeof *prover);
    struct audit_report *r = calloc(1, sizeof *r);
    struct making m = {.prover = prover, .r = r, .seq = seq};
    struct audit_verify_opts o = {.n_dirs = n_dirs, .visit = on_record, .ctx = &m};
    char *text = NULL;
    for (size_t i = 0; i < n_dirs && i < AUDIT_DIRS_MAX; i++)
        o.dirs[i] = dirs[i];
    if (!prover || !r || n_dirs == 0 || n_dirs > AUDIT_DIRS_MAX)
        err_set(e, prover && r ? "1 to %d directories" : "out of memory", AUDIT_DIRS_MAX);
    else if (audit_verify_trail(&o, r, e) < 0)
        text = NULL;
    else if (r->n_problems || !m.possible)
        say_why_not(&m, r, e);
    else
        text = write_proof(&m, dirs, n_dirs, e);
    free(m.record);
    free(prover);
    free(r);
    return text;
}

/* ---- checking ---- */

static size_t decode(const char *text, unsigned char *out, size_t max)
{
    size_t n = 0;
    const char *end = NULL;
    if (sodium_base642bin(out, max, text, strlen(text), NULL, &n, &end, B64) || *end)
        return SIZE_MAX;
    return n;
}

static int read_key_chain(const json_t *list, const unsigned char newest[static AUDIT_PUBLIC_BYTES],
                          struct audit_keys *ret, struct err *e)
{
    size_t len = 0, i;
    json_t *note;
    json_array_foreach(list, i, note)
    {
        if (!json_is_string(note) || json_string_length(note) > AUDIT_NOTE_MAX || i >= AUDIT_KEYS_MAX)
            return err_set(e, "`keys` holds what is no note");
        len += json_string_length(note);
    }
    char *all = malloc(len + 1);
    if (!all)
        return err_set(e, "out of memory");
    len = 0;
    json_array_foreach(list, i, note)
    {
        memcpy(all + len, json_string_value(note), json_string_length(note));
        len += json_string_length(note);
    }
    struct err why = {""};
    int rc = audit_keys_parse(all, len, newest, ret, &why) ? err_set(e, "`keys`: %.400s", why.text) : 0;
    free(all);
    return rc;
}

static int check_record(const json_t *path, const char *record, struct audit_proof *p, struct err *e)
{
    unsigned char(*hashes)[AUDIT_ROOT_BYTES] = malloc(AUDIT_PATH_MAX * sizeof *hashes), leaf[AUDIT_ROOT_BYTES];
    size_t n = json_array_size(path), max = strlen(record);
    p->stored = malloc(max + 1);
    if (!hashes || !p->stored) {
        free(hashes);
        return err_set(e, "out of memory");
    }
    int rc = n > AUDIT_PATH_MAX ? -1 : 0;
    for (size_t i = 0; !rc && i < n; i++) {
        const char *text = json_string_value(json_array_get(path, i));
        rc = !text || decode(text, hashes[i], AUDIT_ROOT_BYTES) != AUDIT_ROOT_BYTES ? -1 : 0;
    }
    p->stored_len = decode(record, p->stored, max);
    if (rc || p->stored_len == SIZE_MAX) {
        err_set(e, rc ? "`path` is no list of hashes" : "`record` is not base64");
        rc = -1;
    } else {
        audit_merkle_leaf(p->stored, p->stored_len, leaf);
        if (p->seq == 0 ||
            !audit_merkle_check_inclusion(leaf, p->seq - 1, p->checkpoint.size, hashes, n, p->checkpoint.root))
            rc = err_set(e, "the record is not in the tree that was signed: record, sequence or path was changed");
    }
    free(hashes);
    return rc;
}

static int check(const json_t *j, const unsigned char *trusted, struct audit_proof *p, struct audit_keys *keys,
                 struct err *e)
{
    const char *format = json_string_value(json_object_get(j, "format"));
    const char *record = json_string_value(json_object_get(j, "record"));
    const char *note = json_string_value(json_object_get(j, "checkpoint"));
    const char *hex = json_string_value(json_object_get(j, "public_key"));
    json_t *seq = json_object_get(j, "sequence"), *path = json_object_get(j, "path"),
           *list = json_object_get(j, "keys");
    unsigned char newest[AUDIT_PUBLIC_BYTES];
    const char *end = NULL;
    size_t n = 0;
    if (!format || strcmp(format, FORMAT) != 0)
        return err_set(e, "this is no proof: `format` is not " FORMAT);
    if (!record || !note || !hex || !json_is_integer(seq) || json_integer_value(seq) < 1 || !json_is_array(path) ||
        !json_is_array(list))
        return err_set(
            e, "the proof is not whole: sequence, record, path, checkpoint, keys and public_key belong to it");
    if (sodium_hex2bin(newest, sizeof newest, hex, strlen(hex), NULL, &n, &end) || n != sizeof newest || *end)
        return err_set(e, "`public_key` is not 64 hexadecimal digits");
    p->seq = (uint64_t)json_integer_value(seq);
    if (read_key_chain(list, newest, keys, e))
        return -1;
    if (trusted && audit_keys_find(keys, trusted) < 0)
        return err_set(e, "the key that you trust is none of this proof's: it was signed by another");
    struct err why = {""};
    if (audit_keys_check(keys, note, strlen(note), AUDIT_NOTE_CHECKPOINT, &p->checkpoint, &why))
        return err_set(e, "the checkpoint is not good: %.400s", why.text);
    if (p->checkpoint.former)
        return err_set(e, "the checkpoint is of a former version and names no root");
    memcpy(p->signer, keys->list[p->checkpoint.rotations].key, sizeof p->signer);
    p->trusted = trusted != NULL;
    return check_record(path, record, p, e);
}

int audit_proof_check(const char *json, size_t len, const unsigned char *trusted, struct audit_proof *ret,
                      struct err *e)
{
    json_error_t why;
    *ret = (struct audit_proof){0};
    if (sodium_init() < 0)
        return err_set(e, "no source of randomness");
    json_t *j = json_loadb(json, len, JSON_REJECT_DUPLICATES, &why);
    if (!json_is_object(j)) {
        json_decref(j);
        return err_set(e, "this is no proof: not a JSON object");
    }
    struct audit_keys *keys = malloc(sizeof *keys);
    int rc = keys ? check(j, trusted, ret, keys, e) : err_set(e, "out of memory");
    if (rc) {
        free(ret->stored);
        ret->stored = NULL;
    }
    free(keys);
    json_decref(j);
    return rc;
}
