/* audit_checkpoint.h - what a trail signs: how long it is, its root, its last hash; the keys' changes; where a pruned trail begins. Pure. */
#ifndef REDOUBT_AUDIT_CHECKPOINT_H
#define REDOUBT_AUDIT_CHECKPOINT_H

#include "audit/audit_chain.h"
#include "audit/audit_merkle.h"
#include "audit/audit_note.h"

#define AUDIT_CHECKPOINT_MAX AUDIT_NOTE_MAX
#define AUDIT_KEY_NAME       "redoubt-audit"
#define AUDIT_KEYS_MAX       64 /* of one trail */

enum audit_note_kind {
    AUDIT_NOTE_CHECKPOINT,
    AUDIT_NOTE_ROTATION, /* names the next key; signed by the old and the new one */
    AUDIT_NOTE_TREE,     /* with the pieces of the tree: files `pruned` and `tree` */
};
struct audit_checkpoint {
    unsigned char chain[AUDIT_CHAIN_BYTES];
    uint64_t size; /* records in the chain */
    bool former;   /* written before there was a tree: `root` is not there */
    unsigned char root[AUDIT_ROOT_BYTES];
    unsigned char hash[AUDIT_HASH_BYTES]; /* of the last record */
    int64_t at_unix_ms;
    uint32_t rotations; /* of the key, until then; of a rotation: with this one */
    enum audit_note_kind kind;
    unsigned char old_key[AUDIT_PUBLIC_BYTES];  /* ROTATION */
    unsigned char next_key[AUDIT_PUBLIC_BYTES]; /* ROTATION */
    unsigned char pieces[64][AUDIT_ROOT_BYTES]; /* TREE: audit_merkle_count(size) of them */
};
/* The text to sign; its length. */
size_t audit_checkpoint_text(const struct audit_checkpoint *c, char out[static AUDIT_NOTE_MAX]);
/* Of a note; looks at no signature. One form only: the same text comes out of audit_checkpoint_text again. */
int audit_checkpoint_parse(const char *note, size_t len, struct audit_checkpoint *ret, struct err *e);
/* The whole note, signed by one key. Returns its length. */
size_t audit_checkpoint_sign(const struct audit_checkpoint *c, const char *key_name,
                             const unsigned char secret[static AUDIT_SECRET_BYTES],
                             char out[static AUDIT_CHECKPOINT_MAX]);
/* Parsed and signed by this very key, whatever its rotations say. */
int audit_checkpoint_check(const char *text, size_t len, const char *key_name,
                           const unsigned char public_key[static AUDIT_PUBLIC_BYTES], struct audit_checkpoint *ret,
                           struct err *e);

/* The public keys of a trail, oldest first: file `audit.keys` (notes of rotation, oldest first) and the newest key. */
struct audit_keys {
    size_t n;
    struct {
        unsigned char key[AUDIT_PUBLIC_BYTES];
        uint64_t since; /* counts for checkpoints of this size and more; 0 = from the beginning */
        unsigned char hash[AUDIT_HASH_BYTES]; /* of record `since` */
        unsigned char root[AUDIT_ROOT_BYTES];
        unsigned char chain[AUDIT_CHAIN_BYTES];
        int64_t at_unix_ms;
        size_t offset, len; /* of its note in the file; the first key has none */
    } list[AUDIT_KEYS_MAX];
};
/* Each change signed by the key before and the key after it. `newest` (may be NULL) is the only one if nothing was changed, and must be one
 * of them otherwise: the last, or one before it where a crash came between the note and audit.pub. */
int audit_keys_parse(const char *file, size_t len, const unsigned char *newest, struct audit_keys *ret,
                     struct err *e);
/* -1 if it is none of them. */
int audit_keys_find(const struct audit_keys *k, const unsigned char key[static AUDIT_PUBLIC_BYTES]);
/* A note by the key whose turn it was. */
int audit_keys_check(const struct audit_keys *k, const char *note, size_t len, enum audit_note_kind kind,
                     struct audit_checkpoint *ret, struct err *e);

#endif
