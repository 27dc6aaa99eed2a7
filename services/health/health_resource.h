/* health_resource.h - when the means of a process (memory, CPU, files, queue, tasks) count as used up. Pure.
 *
 * Over the mark it is used up, and stays so until it is clearly below it: a value that dances around its mark is one fault, not
 * many. A kill by the kernel for want of memory is remembered for a while, because the process that comes after it looks well. */
#ifndef REDOUBT_HEALTH_RESOURCE_H
#define REDOUBT_HEALTH_RESOURCE_H

#include "health/health.h"

#define HEALTH_MEANS_BACK_PERCENT 90 /* of the mark: below it the fault is over */
#define HEALTH_OOM_HOLD_MS        60000

enum health_means {
    HEALTH_MEANS_MEMORY, /* bytes */
    HEALTH_MEANS_CPU,    /* thousandths of a core */
    HEALTH_MEANS_FDS,
    HEALTH_MEANS_QUEUE,
    HEALTH_MEANS_TASKS,
    HEALTH_MEANS
};

struct health_usage {
    struct {
        uint64_t used, limit; /* limit 0 = none, or not known */
    } of[HEALTH_MEANS];
    uint64_t oom_kills;          /* since the cgroup exists */
    bool oom_known;              /* it was read */
    uint32_t throttled_permille; /* CPU: of the time since the last reading; 0 = not known */
};
struct health_resource_rule {
    uint32_t mark_percent[HEALTH_MEANS]; /* 0 = not looked at */
    uint64_t memory_bytes;               /* a limit beside the kernel's; 0 = none */
};

struct health_resource {
    uint8_t over; /* bit per enum health_means */
    bool oom_seen;
    uint64_t oom_kills;   /* at the last look */
    uint32_t oom_news;    /* killed since the fault began */
    int64_t oom_until_ms; /* 0 = none */
};

/* Fills in the fault (NONE, EXHAUSTED, OOM) and the detail. */
void health_resource_judge(struct health_resource *s, const struct health_resource_rule *rule,
                           const struct health_usage *u, int64_t now_ms, struct health_result *r);

/* Thousandths of one core, of CPU time used between two readings. */
uint32_t health_cpu_permille(uint64_t used_us, int64_t span_us);

#endif
