/* audit_mirror_impl.h - one round of the mirror's work, without thread or loop. */
#ifndef REDOUBT_AUDIT_MIRROR_IMPL_H
#define REDOUBT_AUDIT_MIRROR_IMPL_H

#include "audit/audit_copy.h"
#include "audit/audit_mirror.h"

struct mirror_goal { /* what is durable in the trail */
    unsigned char chain[AUDIT_CHAIN_BYTES];
    uint64_t segment_first, segment_bytes, size;
    uint64_t note_size;
    size_t note_len;
    char note[AUDIT_NOTE_MAX];
};
struct mirror_work {
    char sources[2][512];
    char parent[512]; /* <root>/<instance> */
    char root[512];
    bool ready; /* `copy` is open and agrees with the trail up to where it is */
    struct audit_copy copy;
    uint64_t oldest; /* the copy's first segment */
    uint64_t synced; /* records */
    uint64_t signed_to;
    size_t note_len; /* of the checkpoint that is there */
    char note[AUDIT_NOTE_MAX];
    bool source_fault;                      /* the last error was the trail's, not the copy's */
    unsigned char chain[AUDIT_CHAIN_BYTES]; /* whose copies were looked at last */
    int looked_past;                        /* so many of them differ, and were told */
    uint64_t differing;
    char differs[ERR_TEXT_MAX];
};
void mirror_work_begin(struct mirror_work *w, const struct audit_mirror_opts *o);
/* Copies what is missing, syncs it, then the small files. 0, or -1: it begins again from what is on the disk. */
int mirror_work(struct mirror_work *w, const struct mirror_goal *g, struct err *e);
void mirror_work_end(struct mirror_work *w);

#endif
