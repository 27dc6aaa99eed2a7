/* availability.h - how long each agent was in which condition, by month, pure: exact to the millisecond.
 *
 * Months are UTC. An interval that crosses their border is split there. Time in several conditions counts once, for the worst of them. Time in a drill's
 * condition counts as well. */
#ifndef REDOUBT_CONTINUITY_AVAILABILITY_H
#define REDOUBT_CONTINUITY_AVAILABILITY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define AVAILABILITY_MONTHS 14
struct availability_month {
    uint32_t month; /* 202611 */
    int64_t known_ms, full_ms, degraded_ms, llm_ms;
    uint32_t incidents;
};
struct availability {
    int64_t known_ms;             /* since when; 0 = not begun */
    int64_t since_ms, settled_ms; /* of the condition; up to when it is counted */
    unsigned condition;
    struct availability_month months[AVAILABILITY_MONTHS]; /* oldest first */
    size_t n;
};
uint32_t availability_month_of(int64_t unix_ms);
int64_t availability_month_start(uint32_t month); /* of 202613 and the like: of the next year's */
void availability_begin(struct availability *a, unsigned condition, int64_t now_ms);
/* Time before settled_ms is not counted twice: at_ms may be in the past, then it counts from settled_ms. */
void availability_change(struct availability *a, unsigned condition, int64_t at_ms);
void availability_settle(struct availability *a, int64_t now_ms);
void availability_incident(struct availability *a, int64_t at_ms);
const struct availability_month *availability_of(const struct availability *a,
                                                 uint32_t month); /* NULL = nothing known */
void availability_add(struct availability_month *sum, const struct availability_month *m);
/* Shares of known_ms in millionths: available = not in full failure; full function = in no condition. */
uint32_t availability_ppm(const struct availability_month *m, bool full_function);

#endif
