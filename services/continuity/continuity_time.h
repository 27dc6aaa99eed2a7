/* continuity_time.h - the clock that incidents run by: neither goes back nor jumps, and survives restarts. Pure; the host's clocks come as arguments.
 *
 * Within one boot of the host it goes by CLOCK_BOOTTIME (suspend counts) from an anchor that is kept on disk and on STATE; after another boot, or on another host, it goes on
 * from the latest of the anchors and the wall clock: time that was spent meanwhile is never counted short by a wall clock that was put back, and a clock of this boot never jumps with it. */
#ifndef REDOUBT_CONTINUITY_TIME_H
#define REDOUBT_CONTINUITY_TIME_H

#include <stdbool.h>
#include <stdint.h>

struct time_anchor {
    int64_t time_ms; /* continuity time then; 0 = no anchor */
    int64_t boot_ms, wall_ms;
    char boot_id[40];
};
struct continuity_time {
    struct time_anchor now; /* of this process */
};
/* own: from this host's disk; seen: from STATE (any host's). Either may be empty (time_ms 0). */
void continuity_time_start(struct continuity_time *t, const struct time_anchor *own, const struct time_anchor *seen,
                           const char *boot_id, int64_t boot_ms, int64_t wall_ms);
/* A leader elsewhere is further: go on from there (never back). */
void continuity_time_follow(struct continuity_time *t, const struct time_anchor *seen, int64_t boot_ms);
int64_t continuity_time_at(const struct continuity_time *t, int64_t boot_ms);
struct time_anchor continuity_time_anchor(const struct continuity_time *t, int64_t boot_ms, int64_t wall_ms);

#endif
