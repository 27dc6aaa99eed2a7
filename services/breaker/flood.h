/* flood.h - how many reports one reporter may send of one target, and who is named for sending more. Pure.
 *
 * A bucket per reporter, in a table that a target gets only while all its reporters together are above the limit of one: before that
 * nobody can be. A bucket is one number, the time when it will be full again. One that is nearly full holds little that is worth
 * keeping, so the table is small however many report. Only if BREAKER_FLOOD_SLOTS of them are more than half empty at once, a newcomer
 * takes over the fullest as it is: new names do not bring new reports. */
#ifndef REDOUBT_BREAKER_FLOOD_H
#define REDOUBT_BREAKER_FLOOD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define BREAKER_FLOOD_SLOTS    16
/* A bucket holds the reports of one second. What says something new may take as much again from a reserve. */
#define BREAKER_FLOOD_BURST_NS INT64_C(1000000000)

struct breaker_flood {
    struct breaker_bucket {
        uint64_t reporter;
        int64_t full_ns;
    } slot[BREAKER_FLOOD_SLOTS];
    uint16_t bad; /* by slot: its last report that was taken was a bad one */
};

/* All reporters of a target: takes n reports of *full_ns, true if that is more than one reporter's limit. */
bool breaker_flood_busy(int64_t *full_ns, uint32_t rate, size_t n, int64_t now_ns);

enum breaker_weight {
    BREAKER_NEUTRAL, /* says nothing about the target */
    BREAKER_GOOD,
    BREAKER_BAD,
    BREAKER_AWAITED /* the outcome of the one permitted call: always taken */
};
/* May this report be taken? One whose weight is not that of the reporter's last is something new: an outage, and its end, are seen at once even
 * of a reporter that is at its limit. */
bool breaker_flood_take(struct breaker_flood *f, uint32_t rate, uint64_t reporter, enum breaker_weight w,
                        int64_t now_ns);
/* All buckets are full: the table may go. */
bool breaker_flood_over(const struct breaker_flood *f, int64_t now_ns);

/* ---- who is named ---- */

#define BREAKER_FLOODERS_MAX  64
#define BREAKER_FLOOD_CALM_MS (5 * 60 * 1000)
#define BREAKER_FLOODER_NAME  65

struct breaker_flooders {
    size_t n;
    struct breaker_flooder {
        char name[BREAKER_FLOODER_NAME];
        int64_t last_ms;
    } at[BREAKER_FLOODERS_MAX];
};
/* Reports of this reporter were dropped. True if it is to be named now: it was not named already, and there is room for its name. */
bool breaker_flooders_note(struct breaker_flooders *f, const char *name, size_t len, int64_t now_ms);
/* Takes out one that has kept within its limits for BREAKER_FLOOD_CALM_MS; false if there is none. */
bool breaker_flooders_calm(struct breaker_flooders *f, int64_t now_ms, char ret_name[static BREAKER_FLOODER_NAME]);

#endif
