/* alert_group.h - alerts with one dedup_key are one problem: which of them do people hear of? Pure. */
#ifndef REDOUBT_ALERT_GROUP_H
#define REDOUBT_ALERT_GROUP_H

#include <stdbool.h>
#include <stdint.h>

#define ALERT_GROUP_INTERVAL_MS 30000 /* a repeat of the same severity within this time is counted, not sent */

/* A problem. Times are shared time: replicas read it. */
struct alert_group {
    bool known;       /* false: nothing is remembered of it */
    bool firing;      /* people were told, or are being told, that it is there */
    int severity;     /* that they were told */
    int64_t told_ms;  /* when that was decided */
    uint32_t repeats; /* since then */
};

enum alert_verdict {
    ALERT_NOTIFY,
    ALERT_REPEAT, /* known to people already: recorded and counted */
    ALERT_STRAY,  /* the end of a problem that nobody was told of: recorded */
    ALERT_MUTED,  /* silenced, inhibited or acknowledged: recorded; alert_recall.why says by what */
};
/* `sure` is false if the shared memory of problems could not be asked: then rather once too often than not at all. */
enum alert_verdict alert_group_decide(struct alert_group *g, int severity, bool resolved, bool sure, int64_t now_ms);

/* Order within one problem: may the later of two alerts go out while the earlier one is still under way? Like may overtake like
 * (a second, worse firing must not wait for the first); a change between firing and resolved may not, so that the last that
 * people hear is how it is. */
bool alert_group_overtakes(bool earlier_resolved, bool later_resolved);
/* Is the earlier one worth sending at all once the later one is there? An end is not, when it fires again; a firing always is. */
bool alert_group_outdates(bool earlier_resolved, bool later_resolved);

#endif
