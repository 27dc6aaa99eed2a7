/* check_tally.h - one pair of counters that only grows, out of those of many processes that come, go and begin anew.
 *
 * Without it a process that is missed once and comes back would look like thousands of new calls. Pure but for memory. */
#ifndef REDOUBT_CHECK_TALLY_H
#define REDOUBT_CHECK_TALLY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CHECK_TALLY_MAX 1024 /* processes; who was not heard of for the longest time makes room */

struct check_tally {
    char *version; /* whose; another one begins anew */
    uint64_t bad, all;
    uint64_t turn;
    size_t n, room;
    struct check_tally_one {
        char id[129];
        uint64_t bad, all, turn;
    } * ones;
};
/* Counters of one process, by its id. A process that was not known counts whole: it has begun with this version, or was missed. False if memory is out. */
bool check_tally_take(struct check_tally *t, const char *version, const char *id, uint64_t bad, uint64_t all);
void check_tally_done(struct check_tally *t);

#endif
