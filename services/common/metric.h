/* metric.h - named counters and gauges of one service, read by $SRV.STATS and, later, the console. */
#ifndef REDOUBT_METRIC_H
#define REDOUBT_METRIC_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Define one static object per metric; it registers itself at its first use. Names follow Prometheus:
 * redoubt_<room>_<what>_total for counters, with the unit in the name. */
struct metric {
    const char *name;
    const char *help;
    enum { METRIC_COUNTER, METRIC_GAUGE } kind;
    _Atomic int64_t value;
    struct metric *_Atomic next;
    _Atomic bool registered;
};
#define METRIC_DEFINE(var, kind_, name_, help_)                                                                      \
    static struct metric var = {.name = (name_), .help = (help_), .kind = (kind_)}

void metric_add(struct metric *m, int64_t n); /* safe from any thread */
void metric_set(struct metric *m, int64_t v);
int64_t metric_get(const struct metric *m);
/* All metrics used so far, in order of name. */
void metric_each(void (*fn)(const struct metric *m, void *ctx), void *ctx);

#endif
