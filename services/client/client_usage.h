/* client_usage.h - what this process uses and may use, from /proc/self, rlimits and its cgroup. */
#ifndef REDOUBT_CLIENT_USAGE_H
#define REDOUBT_CLIENT_USAGE_H

#include "common/wire.h"

struct client_usage {
    uint64_t rss_limit_bytes; /* read once; 0 = none */
    uint32_t cpu_limit_permille;
    int64_t cpu_us, at_ms; /* of the last reading */
};
void client_usage_init(struct client_usage *u);
/* Fills in all but the queue. What cannot be read stays 0. */
void client_usage_read(struct client_usage *u, PB(ResourceUsage) * r);

#endif
