/* health_usage.h - what a process or a cgroup of this host uses and may use: reads /proc and cgroups of version 1 and 2. Reads files of
 * the kernel only, which are in memory; judging is health_resource.c's business. */
#ifndef REDOUBT_HEALTH_USAGE_H
#define REDOUBT_HEALTH_USAGE_H

#include "common/err.h"
#include "health/health_resource.h"

/* Where the kernel shows it; other places in tests. */
struct health_usage_roots {
    const char *proc;    /* "/proc" */
    const char *cgroups; /* "/sys/fs/cgroup" */
};
/* What the last reading saw; zero it at first. CPU is a difference between two readings. */
struct health_usage_seen {
    int64_t at_us; /* monotonic; 0 = not yet */
    uint64_t cpu_us, throttled_us;
    int64_t pid;
    uint64_t started; /* of that process: a number is given out again, a number and a start are not */
};

/* 0, or -1: there is no such process or cgroup, or nothing of it may be read (text in e). */
int health_usage_process(const struct health_usage_roots *roots, const char *pid_file, struct health_usage_seen *seen,
                         int64_t now_us, struct health_usage *ret, struct err *e);
int health_usage_cgroup(const char *dir, struct health_usage_seen *seen, int64_t now_us, struct health_usage *ret,
                        struct err *e);

#endif
