/* audit_proof.h - that one record is in a trail, shown by one small JSON text that needs neither the trail nor the service. */
#ifndef REDOUBT_AUDIT_PROOF_H
#define REDOUBT_AUDIT_PROOF_H

#include "audit/audit_verify.h"

struct audit_proof {
    uint64_t seq;
    unsigned char *stored; /* free() it */
    size_t stored_len;
    struct audit_checkpoint checkpoint;
    unsigned char signer[AUDIT_PUBLIC_BYTES];
    bool trusted; /* a key from outside was given, and it vouches for the signer */
};
/* Of record `seq` in the trail in these directories; covered by its newest checkpoint. Checks the trail on the way: what does not verify
 * gets no proof. JSON, malloc'ed; NULL with text in e. */
char *audit_proof_make(const char *const *dirs, size_t n_dirs, uint64_t seq, struct err *e);
/* The same text from its parts, for who collects them in another way (audit_proofs.h). */
struct audit_proof_parts {
    uint64_t seq;
    const char *record; /* its stored bytes, base64 */
    const unsigned char (*path)[AUDIT_ROOT_BYTES];
    size_t n_path;
    const char *note; /* the checkpoint, as it is signed */
    const char *dir;  /* of audit.keys */
    const struct audit_keys *keys;
};
char *audit_proof_text(const struct audit_proof_parts *p, struct err *e);
/* 0: the record was in the trail when the checkpoint was signed. -1: not shown (text in e). */
int audit_proof_check(const char *json, size_t len, const unsigned char *trusted, struct audit_proof *ret,
                      struct err *e);

#endif
