/* notify_gap.h - audit records that could be put nowhere: how many, when, why; said in the trail as soon as something gets through. Pure. */
#ifndef REDOUBT_NOTIFY_GAP_H
#define REDOUBT_NOTIFY_GAP_H

#include "common/wire.h"
#include <stdbool.h>
#include <stdint.h>

/* Counted in memory: with the process the count is gone, too. All zeros = nothing is missing. */
struct notify_gap {
    uint64_t lost;
    int64_t first_unix_ms, last_unix_ms;
    char why[160]; /* of the last */
    bool saying;   /* its record is on its way */
};
void notify_gap_lost(struct notify_gap *g, uint64_t records, int64_t at_unix_ms, const char *why);
/* Something got through. True if the gap's record is to be made and sent now, which covers all that is lost so far. */
bool notify_gap_due(struct notify_gap *g);
/* The record, whose texts live in `text`. */
struct notify_gap_text {
    char detail[512], lost[24], from[24], to[24];
    PB(Label) labels[3];
    PB(Label) * list[3];
};
void notify_gap_record(const struct notify_gap *g, const char *service, struct notify_gap_text *text,
                       PB(AuditRecord) * ret);
/* The record that covered `records` got through, or did not. */
void notify_gap_said(struct notify_gap *g, uint64_t records, bool through);

#endif
