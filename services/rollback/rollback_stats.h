/* rollback_stats.h - exact tests of counts. Pure; good for numbers from 0 to 1e9. */
#ifndef REDOUBT_ROLLBACK_STATS_H
#define REDOUBT_ROLLBACK_STATS_H

#include "rollback/rollback_judge.h" /* rollback_fisher() */

/* The probability of `bad` failures of `all` calls, or more, if each fails with probability `share`. */
double rollback_binomial(uint64_t bad, uint64_t all, double share);

#endif
