/* client_usage.c - what this process uses and may use, from /proc/self, rlimits and its cgroup. */
#include "client/client_usage.h"
#include "common/clock.h"
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

static bool read_line(const char *path, char *buf, size_t cap)
{
    FILE *f = fopen(path, "re");
    if (!f)
        return false;
    bool ok = fgets(buf, (int)cap, f) != NULL;
    fclose(f);
    return ok;
}

/* A limit file of our own cgroup: below the path in /proc/self/cgroup, or at the root as a container sees it. */
static bool read_cgroup(const char *file, char *buf, size_t cap)
{
    char line[512], path[640];
    if (read_line("/proc/self/cgroup", line, sizeof line) && strncmp(line, "0::/", 4) == 0) {
        line[strcspn(line, "\n")] = '\0';
        snprintf(path, sizeof path, "/sys/fs/cgroup%s/%s", line + 3, file);
        if (read_line(path, buf, cap))
            return true;
    }
    snprintf(path, sizeof path, "/sys/fs/cgroup/%s", file);
    return read_line(path, buf, cap);
}

static int64_t cpu_us(void)
{
    struct rusage u;
    if (getrusage(RUSAGE_SELF, &u) < 0)
        return 0;
    return (int64_t)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) * 1000000 + u.ru_utime.tv_usec + u.ru_stime.tv_usec;
}

void client_usage_init(struct client_usage *u)
{
    char text[128];
    struct rlimit as;
    unsigned long long quota, period;
    *u = (struct client_usage){.cpu_us = cpu_us(), .at_ms = clock_mono_ms()};
    if (read_cgroup("memory.max", text, sizeof text))
        u->rss_limit_bytes = strtoull(text, NULL, 10); /* "max" = 0 = none */
    if (getrlimit(RLIMIT_AS, &as) == 0 && as.rlim_cur != RLIM_INFINITY &&
        (u->rss_limit_bytes == 0 || as.rlim_cur < u->rss_limit_bytes))
        u->rss_limit_bytes = as.rlim_cur;
    if (read_cgroup("cpu.max", text, sizeof text) && sscanf(text, "%llu %llu", &quota, &period) == 2 && period > 0)
        u->cpu_limit_permille = (uint32_t)(quota * 1000 / period);
}

static uint32_t count_fds(void)
{
    DIR *d = opendir("/proc/self/fd");
    uint32_t n = 0;
    if (!d)
        return 0;
    for (const struct dirent *e; (e = readdir(d));)
        n += e->d_name[0] != '.';
    closedir(d);
    return n ? n - 1 : 0; /* without the one that this took */
}

/* "oom_kill N" in a file of our cgroup: version 2, or 1 below its tree for memory; as the host or as a container sees it. */
static bool kills_in(const char *path, uint64_t *ret)
{
    char line[128];
    unsigned long long n;
    bool found = false;
    FILE *f = fopen(path, "re");
    while (f && !found && fgets(line, sizeof line, f))
        if ((found = sscanf(line, "oom_kill %llu", &n) == 1))
            *ret = n;
    if (f)
        fclose(f);
    return found;
}

static uint64_t count_kills(void)
{
    char line[512], path[640];
    uint64_t n = 0;
    bool found = false;
    FILE *f = fopen("/proc/self/cgroup", "re");
    while (f && !found && fgets(line, sizeof line, f)) {
        line[strcspn(line, "\n")] = '\0';
        const char *v1 = strstr(line, ":memory:/");
        if (strncmp(line, "0::/", 4) == 0)
            snprintf(path, sizeof path, "/sys/fs/cgroup%s/memory.events", line + 3);
        else if (v1)
            snprintf(path, sizeof path, "/sys/fs/cgroup/memory%s/memory.oom_control", v1 + 8);
        else
            continue;
        found = kills_in(path, &n);
    }
    if (f)
        fclose(f);
    if (!found && !kills_in("/sys/fs/cgroup/memory.events", &n))
        (void)kills_in("/sys/fs/cgroup/memory/memory.oom_control", &n);
    return n;
}

void client_usage_read(struct client_usage *u, PB(ResourceUsage) * r)
{
    char text[128];
    unsigned long long size, resident;
    struct rlimit fds;
    int64_t cpu = cpu_us(), now = clock_mono_ms();
    if (read_line("/proc/self/statm", text, sizeof text) && sscanf(text, "%llu %llu", &size, &resident) == 2)
        r->rss_bytes = resident * (uint64_t)sysconf(_SC_PAGESIZE);
    r->rss_limit_bytes = u->rss_limit_bytes;
    if (now > u->at_ms)
        r->cpu_permille = (uint32_t)((cpu - u->cpu_us) / (now - u->at_ms)); /* us per ms = thousandths of a core */
    r->cpu_limit_permille = u->cpu_limit_permille;
    u->cpu_us = cpu;
    u->at_ms = now;
    r->open_fds = count_fds();
    r->oom_kills = count_kills();
    if (getrlimit(RLIMIT_NOFILE, &fds) == 0 && fds.rlim_cur != RLIM_INFINITY)
        r->fds_limit = (uint32_t)fds.rlim_cur;
}
