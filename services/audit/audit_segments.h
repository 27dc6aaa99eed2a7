/* audit_segments.h - the segments of a trail that lies in one directory or two. */
#ifndef REDOUBT_AUDIT_SEGMENTS_H
#define REDOUBT_AUDIT_SEGMENTS_H

#include "audit/audit_verify.h"

struct audit_segment_at {
    uint64_t first; /* record */
    int dir;        /* which of the directories */
};
struct audit_segments {
    struct audit_segment_at *list; /* in order */
    size_t n;
};
/* A directory that is NULL or "" or, after the first, not there has none. -1: a directory cannot be read. */
int audit_segments_list(const char *const *dirs, int n_dirs, struct audit_segments *ret, struct err *e);
const struct audit_segment_at *audit_segments_find(const struct audit_segments *s, uint64_t first); /* NULL if none */
/* Which directory holds that segment; 0 if none does. */
int audit_segments_dir(const char *const *dirs, int n_dirs, uint64_t first);
/* The records from the head of the segment that holds `from_seq` on, each checked against the one before it, until see() is true. */
int audit_segments_visit(const char *const *dirs, int n_dirs, uint64_t from_seq,
                         bool (*see)(void *ctx, const struct audit_record *r), void *ctx, struct err *e);
/* The chain's hash at record `seq`, read from the head of its segment on. -1: it is not here, or does not verify up to there. */
int audit_segments_hash(const char *const *dirs, int n_dirs, uint64_t seq, unsigned char ret[static AUDIT_HASH_BYTES],
                        struct err *e);
void audit_segments_free(struct audit_segments *s);

#endif
