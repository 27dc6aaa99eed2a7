/* audit_keep.c - which segments may be deleted. */
#include "audit/audit_keep.h"
#include <stdbool.h>

/* A clock that is behind the trail's own times is wrong: nothing is judged by it. */
static bool clock_fits(const struct audit_keep_facts *f, const struct audit_keep_segment *s, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (s[i].created_unix_ms > f->now_unix_ms)
            return false;
    return true;
}

size_t audit_keep_decide(const struct audit_keep_rule *rule, const struct audit_keep_facts *facts,
                         const struct audit_keep_segment *segments, size_t n)
{
    if (n <= AUDIT_KEEP_LEAST)
        return 0;
    int64_t bytes = 0;
    for (size_t i = 0; i < n; i++) {
        /* Out of order, or not what follows the deleted ones: something is wrong here, and nothing goes. */
        if (i == 0 ? segments[i].first_seq != facts->last_pruned + 1
                   : segments[i].first_seq <= segments[i - 1].first_seq)
            return 0;
        bytes += segments[i].bytes;
    }
    uint64_t safe = facts->mirrored < facts->checkpoint ? facts->mirrored : facts->checkpoint;
    bool by_age = rule->keep_ms > 0 && clock_fits(facts, segments, n);
    size_t may = 0;
    while (may < n - AUDIT_KEEP_LEAST) {
        const struct audit_keep_segment *next = &segments[may + 1];
        bool old = by_age && facts->now_unix_ms - next->created_unix_ms > rule->keep_ms;
        bool over = rule->keep_bytes > 0 && bytes > rule->keep_bytes;
        if (next->first_seq - 1 > safe || (!old && !over))
            break;
        bytes -= segments[may++].bytes;
    }
    return may;
}
