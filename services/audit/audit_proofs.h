/* audit_proofs.h - proofs of many records of one trail, made while it is checked once from its first byte to its last. */
#ifndef REDOUBT_AUDIT_PROOFS_H
#define REDOUBT_AUDIT_PROOFS_H

#include "audit/audit_proof.h"

struct audit_proofs_opts {
    const char *dirs[AUDIT_DIRS_MAX]; /* the trail's own first, then where it went on */
    size_t n_dirs;
    /* Called for each record in order: is its proof wanted? What is wanted is kept until the end (its bytes, and 32 bytes for each level of the tree). */
    bool (*wanted)(void *ctx, const struct audit_record *r);
    /* Called for each that was wanted, in order, after the pass. json is NULL if the newest checkpoint does not cover it yet, or the trail does not
     * verify; valid only inside. */
    void (*proof)(void *ctx, uint64_t seq, const unsigned char leaf[static AUDIT_ROOT_BYTES], const char *json);
    void *ctx;
};
/* As audit_verify_trail: 0, 1 = the trail does not verify and nothing was proven, -1 = could not look (text in e). */
int audit_proofs_make(const struct audit_proofs_opts *o, struct audit_report *report, struct err *e);

#endif
