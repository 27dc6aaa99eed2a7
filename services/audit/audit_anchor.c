/* audit_anchor.c - what the bus remembers of trails, against what the directory holds. */
#include "audit/audit_anchor.h"
#include <inttypes.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>

bool audit_anchors_add(struct audit_anchors *a, const PB(AuditCheckpoint) * m,
                       const unsigned char chain[static AUDIT_CHAIN_BYTES], const char *instance, struct err *e)
{
    struct audit_checkpoint c;
    char hex[2 * AUDIT_CHAIN_BYTES + 1];
    size_t len = strlen(m->note);
    if (len > AUDIT_NOTE_MAX) {
        err_set(e, "a note of %zu bytes", len);
        return false;
    }
    if (audit_checkpoint_parse(m->note, len, &c, e))
        return false;
    sodium_bin2hex(hex, sizeof hex, c.chain, sizeof c.chain);
    if (c.kind != AUDIT_NOTE_CHECKPOINT || strcmp(hex, m->chain) != 0) {
        err_set(e, "its note is of another chain, or no checkpoint");
        return false;
    }
    if (memcmp(c.chain, chain, sizeof c.chain) == 0 && (!a->own || c.size >= a->own_point.size)) {
        a->own = true;
        a->own_point = c;
        memcpy(a->own_note, m->note, len + 1);
    }
    if (strcmp(m->instance, instance) == 0 && (!a->newest || c.at_unix_ms >= a->newest_point.at_unix_ms)) {
        a->newest = true;
        a->newest_point = c;
        memcpy(a->newest_note, m->note, len + 1);
    }
    return true;
}

static bool is_signed(const struct audit_anchored *t, const char *note)
{
    struct audit_vkey k = {.name = AUDIT_KEY_NAME, .alg = AUDIT_NOTE_ED25519};
    for (size_t i = 0; i < t->keys->n; i++) {
        memcpy(k.key, t->keys->list[i].key, sizeof k.key);
        if (audit_note_verify(note, strlen(note), &k, NULL, NULL) == AUDIT_SIGNED)
            return true;
    }
    return false;
}

enum audit_anchor_verdict audit_anchor_judge(const struct audit_anchors *a, const struct audit_anchored *t,
                                             struct err *why)
{
    const struct audit_checkpoint *c = &a->own_point;
    if (!a->own)
        return AUDIT_ANCHOR_NONE;
    /* A key that came after this copy was made: an old copy cannot know it. */
    bool later_key = c->rotations > t->rotations;
    if (!later_key && !is_signed(t, a->own_note)) {
        err_set(why,
                "the checkpoint of %" PRIu64 " records that the bus keeps of this trail is signed by no key of it",
                c->size);
        return AUDIT_ANCHOR_UNSIGNED;
    }
    if (later_key || c->size > t->size) {
        err_set(why,
                "%" PRIu64 " records of this trail were signed for%s, and %" PRIu64
                " are here: an old copy was put back, or the end was cut off",
                c->size, later_key ? " with a later key" : "", t->size);
        return AUDIT_ANCHOR_BEHIND;
    }
    return c->size == 0 || c->size <= t->pruned ? AUDIT_ANCHOR_FITS : AUDIT_ANCHOR_COMPARE;
}

bool audit_anchor_other(const struct audit_anchors *a, const struct audit_anchored *t, struct err *why)
{
    const struct audit_checkpoint *n = &a->newest_point;
    if (!a->newest || memcmp(n->chain, t->chain, sizeof n->chain) == 0 ||
        (a->own && a->own_point.at_unix_ms >= n->at_unix_ms))
        return false;
    char hex[2 * AUDIT_CHAIN_BYTES + 1];
    sodium_bin2hex(hex, sizeof hex, n->chain, AUDIT_CHAIN_BYTES);
    err_set(why,
            "this replica has written trail %s last, of %" PRIu64 " records, and another one is here: it was taken "
            "away or replaced",
            hex, n->size);
    return true;
}
