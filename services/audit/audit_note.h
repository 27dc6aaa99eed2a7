/* audit_note.h - signed notes (https://c2sp.org/signed-note): text, an empty line, signatures; and cosignatures of witnesses. Pure. */
#ifndef REDOUBT_AUDIT_NOTE_H
#define REDOUBT_AUDIT_NOTE_H

#include "common/err.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define AUDIT_PUBLIC_BYTES  32
#define AUDIT_SECRET_BYTES  64
#define AUDIT_NOTE_MAX      4096
#define AUDIT_NOTE_SIGS_MAX 32
#define AUDIT_VKEY_NAME_MAX 128

enum audit_note_alg {
    AUDIT_NOTE_ED25519 = 0x01,
    AUDIT_NOTE_COSIGNATURE = 0x04, /* https://c2sp.org/tlog-cosignature, Ed25519: says when, too */
};

/* Who is believed: a C2SP verifier key, NAME+ID+KEY. */
struct audit_vkey {
    char name[AUDIT_VKEY_NAME_MAX];
    enum audit_note_alg alg;
    unsigned char key[AUDIT_PUBLIC_BYTES];
};
int audit_vkey_parse(const char *text, struct audit_vkey *ret, struct err *e);
#define AUDIT_VKEY_TEXT_MAX (AUDIT_VKEY_NAME_MAX + 64)
void audit_vkey_text(const struct audit_vkey *k, char out[static AUDIT_VKEY_TEXT_MAX]);

/* Length of the note's text with its last line feed. 0 if this is no note: not UTF-8, control characters, no signature, a signature
 * line of another form (text in e). */
size_t audit_note_body(const char *note, size_t len, struct err *e);

/* Adds a signature to a text (which ends in a line feed), or to a note. -1 if it does not fit in `max`. */
int audit_note_sign(char *note, size_t *len, size_t max, const char *name,
                    const unsigned char secret[static AUDIT_SECRET_BYTES]);
int audit_note_cosign(char *note, size_t *len, size_t max, const char *name,
                      const unsigned char secret[static AUDIT_SECRET_BYTES], int64_t at_unix_s);

enum audit_signed {
    AUDIT_SIGNED,   /* by this key */
    AUDIT_UNSIGNED, /* no signature of this key is there */
    AUDIT_FORGED,   /* one that says it is, and does not fit */
    AUDIT_NO_NOTE,
};
/* ret_at_unix_s (may be NULL): of a cosignature. */
enum audit_signed audit_note_verify(const char *note, size_t len, const struct audit_vkey *k, int64_t *ret_at_unix_s,
                                    struct err *e);

#endif
