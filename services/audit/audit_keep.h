/* audit_keep.h - which segments may be deleted, pure: never one that is nowhere else, never one that is not signed for, never the end. */
#ifndef REDOUBT_AUDIT_KEEP_H
#define REDOUBT_AUDIT_KEEP_H

#include <stddef.h>
#include <stdint.h>

#define AUDIT_KEEP_LEAST 2 /* the last segments, which recovery reads, stay whatever their age */

struct audit_keep_segment { /* in order, without gaps */
    uint64_t first_seq;
    int64_t bytes;
    int64_t created_unix_ms; /* of the segment: all in the one before it is older */
};
struct audit_keep_rule {
    int64_t keep_ms;    /* 0 = for ever */
    int64_t keep_bytes; /* 0 = no limit */
};
struct audit_keep_facts {
    int64_t now_unix_ms;
    uint64_t mirrored;    /* records that the mirror has durably */
    uint64_t checkpoint;  /* records that a signed checkpoint covers, here and in the mirror */
    uint64_t last_pruned; /* records deleted so far */
};
/* How many of the oldest segments may go. */
size_t audit_keep_decide(const struct audit_keep_rule *rule, const struct audit_keep_facts *facts,
                         const struct audit_keep_segment *segments, size_t n);

#endif
