/* metric_hist.h - how values are spread: a small histogram of fixed size, for percentiles as gauges. Pure. */
#ifndef REDOUBT_METRIC_HIST_H
#define REDOUBT_METRIC_HIST_H

#include <stdint.h>

/* Up to 16 every value has a place of its own; above, eight share each doubling, so that a percentile is at most an eighth too high. */
#define METRIC_HIST_SLOTS 136

struct metric_hist {
    uint32_t n[METRIC_HIST_SLOTS];
    uint64_t total;
    int64_t max;
};
void metric_hist_add(struct metric_hist *h, int64_t value); /* below 0 counts as 0 */
/* The value that `percent` of all do not exceed; 0 if there are none. Never more than the greatest. */
int64_t metric_hist_percentile(const struct metric_hist *h, unsigned percent);

#endif
