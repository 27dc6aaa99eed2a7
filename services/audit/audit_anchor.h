/* audit_anchor.h - what the bus remembers of trails, against what the directory holds: an old copy that was put back, a trail that was cut. Pure. */
#ifndef REDOUBT_AUDIT_ANCHOR_H
#define REDOUBT_AUDIT_ANCHOR_H

#include "audit/audit_checkpoint.h"
#include "common/wire.h"

/* The last checkpoints that STATE holds: of this chain, and the newest that this replica has said of any chain. */
struct audit_anchors {
    bool own, newest;
    struct audit_checkpoint own_point, newest_point;
    char own_note[AUDIT_NOTE_MAX + 1], newest_note[AUDIT_NOTE_MAX + 1];
};
/* False: it is no checkpoint of the chain that it says it is (text in e). */
bool audit_anchors_add(struct audit_anchors *a, const PB(AuditCheckpoint) * m,
                       const unsigned char chain[static AUDIT_CHAIN_BYTES], const char *instance, struct err *e);

/* The trail as it was found. */
struct audit_anchored {
    unsigned char chain[AUDIT_CHAIN_BYTES];
    uint64_t size, pruned;
    uint32_t rotations;
    const struct audit_keys *keys;
};
enum audit_anchor_verdict {
    AUDIT_ANCHOR_NONE,     /* nothing is known of it */
    AUDIT_ANCHOR_COMPARE,  /* record `size` of the note is here: its hash must be the note's */
    AUDIT_ANCHOR_FITS,     /* the note is of no records, or of ones that retention has deleted */
    AUDIT_ANCHOR_BEHIND,   /* the trail is shorter than what was signed: not to be gone on with */
    AUDIT_ANCHOR_UNSIGNED, /* a note that no key of the trail has signed: people are told */
};
/* why: one line for people, for the last two. */
enum audit_anchor_verdict audit_anchor_judge(const struct audit_anchors *a, const struct audit_anchored *t,
                                             struct err *why);
/* True if this replica has written another chain after this one: it was taken away or replaced, and people are told. */
bool audit_anchor_other(const struct audit_anchors *a, const struct audit_anchored *t, struct err *why);

#endif
