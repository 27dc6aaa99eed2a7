/* health_usage.c - what a process or a cgroup of this host uses and may use: reads /proc and cgroups of version 1 and 2. */
#include "health/health_usage.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define FILE_MAX_LEN 8192
#define PATH_LEN     1200
#define NO_LIMIT     (UINT64_C(1) << 60) /* version 1 writes a number as large as this for "none" */
#define STALE_MS     2000 /* a process that began so long after its number was written down is another one */

/* ---- files ---- */

/* The beginning of a file as text; -1 if it cannot be read. */
static int slurp(const char *dir, const char *file, char text[static FILE_MAX_LEN])
{
    char path[PATH_LEN];
    if (snprintf(path, sizeof path, "%s/%s", dir, file) >= (int)sizeof path)
        return -1;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd < 0)
        return -1;
    size_t len = 0;
    ssize_t n;
    while (len < FILE_MAX_LEN - 1 && (n = read(fd, text + len, FILE_MAX_LEN - 1 - len)) != 0) {
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0) {
            close(fd);
            return -1;
        }
        len += (size_t)n;
    }
    close(fd);
    text[len] = 0;
    return 0;
}

/* A file that holds one number; "max" and what is as good as that is `none`. False if it is not there or holds no number. */
static bool number_in(const char *dir, const char *file, uint64_t none, uint64_t *ret)
{
    char text[FILE_MAX_LEN], *end;
    if (slurp(dir, file, text) < 0)
        return false;
    if (strncmp(text, "max", 3) == 0 || *text == '-') {
        *ret = none;
        return true;
    }
    errno = 0;
    unsigned long long n = strtoull(text, &end, 10);
    if (end == text || errno)
        return false;
    *ret = n >= NO_LIMIT ? none : n;
    return true;
}

/* The number after a word at the beginning of a line, as in "oom_kill 3". */
static bool number_of(const char *text, const char *word, uint64_t *ret)
{
    size_t n = strlen(word);
    for (const char *at = text; at && *at; at = strchr(at, '\n'), at = at ? at + 1 : NULL)
        if (strncmp(at, word, n) == 0 && (at[n] == ' ' || at[n] == '\t')) {
            char *end;
            unsigned long long x = strtoull(at + n, &end, 10);
            if (end == at + n)
                return false;
            *ret = x;
            return true;
        }
    return false;
}

static bool number_of_in(const char *dir, const char *file, const char *word, uint64_t *ret)
{
    char text[FILE_MAX_LEN];
    return slurp(dir, file, text) == 0 && number_of(text, word, ret);
}

/* ---- CPU ---- */

static uint64_t host_permille(void)
{
    long n = sysconf(_SC_NPROCESSORS_ONLN);
    return n > 0 ? (uint64_t)n * 1000 : 1000;
}

/* From totals to what was used since the last reading. */
static void take_cpu(struct health_usage_seen *seen, uint64_t cpu_us, uint64_t throttled_us, int64_t now_us,
                     struct health_usage *u)
{
    if (seen->at_us && now_us > seen->at_us && cpu_us >= seen->cpu_us) {
        u->of[HEALTH_MEANS_CPU].used = health_cpu_permille(cpu_us - seen->cpu_us, now_us - seen->at_us);
        if (throttled_us >= seen->throttled_us)
            u->throttled_permille = health_cpu_permille(throttled_us - seen->throttled_us, now_us - seen->at_us);
    }
    seen->at_us = now_us;
    seen->cpu_us = cpu_us;
    seen->throttled_us = throttled_us;
}

/* ---- cgroups ---- */

/* In version 1 each kind of means has a tree of its own: the place of the same cgroup in another tree. */
static void sibling(const char *dir, const char *tree, char buf[static PATH_LEN])
{
    static const char *const trees[] = {"/memory/", "/cpu,cpuacct/", "/cpuacct/", "/cpu/", "/pids/"};
    for (size_t i = 0; i < sizeof trees / sizeof *trees; i++) {
        const char *at = strstr(dir, trees[i]);
        if (at) {
            snprintf(buf, PATH_LEN, "%.*s/%s/%s", (int)(at - dir), dir, tree, at + strlen(trees[i]));
            return;
        }
    }
    snprintf(buf, PATH_LEN, "%s", dir); /* all files in one place */
}

static void add_limit(struct health_usage *u, int what, uint64_t limit)
{
    if (limit && (u->of[what].limit == 0 || limit < u->of[what].limit))
        u->of[what].limit = limit;
}

/* The cache of files is given back when memory is short: it is not used up by it. */
static uint64_t without_cache(uint64_t used, const char *dir, const char *word)
{
    uint64_t cache = 0;
    (void)number_of_in(dir, "memory.stat", word, &cache);
    return cache < used ? used - cache : 0;
}

struct totals {
    bool any; /* something of a cgroup was found */
    bool memory, cpu;
    uint64_t memory_used, cpu_us, throttled_us;
};

static void read_v2(const char *dir, struct health_usage *u, struct totals *t)
{
    char text[FILE_MAX_LEN];
    uint64_t n = 0, quota = 0, period = 0;
    if (number_in(dir, "memory.current", 0, &t->memory_used)) {
        t->any = t->memory = true;
        t->memory_used = without_cache(t->memory_used, dir, "inactive_file");
    }
    if (number_in(dir, "memory.max", 0, &n))
        add_limit(u, HEALTH_MEANS_MEMORY, n);
    if (number_of_in(dir, "memory.events", "oom_kill", &u->oom_kills))
        t->any = u->oom_known = true;
    if (slurp(dir, "cpu.stat", text) == 0 && number_of(text, "usage_usec", &t->cpu_us)) {
        t->any = t->cpu = true;
        (void)number_of(text, "throttled_usec", &t->throttled_us);
    }
    if (slurp(dir, "cpu.max", text) == 0 && sscanf(text, "%" SCNu64 " %" SCNu64, &quota, &period) == 2 && period > 0)
        add_limit(u, HEALTH_MEANS_CPU, quota > UINT64_MAX / 1000 ? 0 : quota * 1000 / period);
    if (number_in(dir, "pids.current", 0, &u->of[HEALTH_MEANS_TASKS].used))
        t->any = true;
    if (number_in(dir, "pids.max", 0, &n))
        add_limit(u, HEALTH_MEANS_TASKS, n);
}

static void read_v1(const char *dir, struct health_usage *u, struct totals *t)
{
    char at[PATH_LEN];
    uint64_t n = 0, quota = 0, period = 0;
    sibling(dir, "memory", at);
    if (number_in(at, "memory.usage_in_bytes", 0, &t->memory_used)) {
        t->any = t->memory = true;
        t->memory_used = without_cache(t->memory_used, at, "total_inactive_file");
    }
    if (number_in(at, "memory.limit_in_bytes", 0, &n))
        add_limit(u, HEALTH_MEANS_MEMORY, n);
    if (number_of_in(at, "memory.oom_control", "oom_kill", &u->oom_kills))
        t->any = u->oom_known = true;
    static const char *const trees[] = {"cpu,cpuacct", "cpuacct", "cpu"};
    for (size_t i = 0; i < sizeof trees / sizeof *trees; i++) {
        sibling(dir, trees[i], at);
        if (!t->cpu && number_in(at, "cpuacct.usage", 0, &n)) {
            t->any = t->cpu = true;
            t->cpu_us = n / 1000; /* nanoseconds */
        }
        if (number_of_in(at, "cpu.stat", "throttled_time", &n))
            t->throttled_us = n / 1000;
        if (number_in(at, "cpu.cfs_quota_us", 0, &quota) && number_in(at, "cpu.cfs_period_us", 0, &period) && quota &&
            period && quota <= UINT64_MAX / 1000)
            add_limit(u, HEALTH_MEANS_CPU, quota * 1000 / period);
    }
    sibling(dir, "pids", at);
    if (number_in(at, "pids.current", 0, &u->of[HEALTH_MEANS_TASKS].used))
        t->any = true;
    if (number_in(at, "pids.max", 0, &n))
        add_limit(u, HEALTH_MEANS_TASKS, n);
}

static void read_cgroup(const char *dir, struct health_usage *u, struct totals *t)
{
    read_v2(dir, u, t);
    if (!t->any)
        read_v1(dir, u, t);
}

int health_usage_cgroup(const char *dir, struct health_usage_seen *seen, int64_t now_us, struct health_usage *ret,
                        struct err *e)
{
    struct health_usage u = {0};
    struct totals t = {0};
    uint64_t populated = 1;
    read_cgroup(dir, &u, &t);
    if (!t.any)
        return err_set(e, "%.200s: %s", dir,
                       access(dir, R_OK) < 0 ? strerror(errno) : "holds no files of a cgroup, version 1 or 2");
    if (number_of_in(dir, "cgroup.events", "populated", &populated) && populated == 0)
        return err_set(e, "%.200s: no process is in it", dir);
    u.of[HEALTH_MEANS_MEMORY].used = t.memory_used;
    if (t.cpu) {
        take_cpu(seen, t.cpu_us, t.throttled_us, now_us, &u);
        add_limit(&u, HEALTH_MEANS_CPU, host_permille());
    }
    *ret = u;
    return 0;
}

/* ---- processes ---- */

static int read_pid(const char *pid_file, int64_t *ret_pid, int64_t *ret_written_ms, struct err *e)
{
    char text[FILE_MAX_LEN], *end;
    struct stat st;
    const char *slash = strrchr(pid_file, '/');
    char dir[PATH_LEN];
    snprintf(dir, sizeof dir, "%.*s", slash ? (int)(slash - pid_file) : 1, slash ? pid_file : ".");
    if (stat(pid_file, &st) < 0 || slurp(dir, slash ? slash + 1 : pid_file, text) < 0)
        return err_set(e, "%.200s: %s", pid_file, strerror(errno));
    errno = 0;
    long long pid = strtoll(text, &end, 10);
    if (end == text || errno || pid < 1 || pid > INT32_MAX)
        return err_set(e, "%.200s holds no number of a process", pid_file);
    *ret_pid = pid;
    *ret_written_ms = (int64_t)st.st_mtim.tv_sec * 1000 + st.st_mtim.tv_nsec / 1000000;
    return 0;
}

struct process {
    char state;
    uint64_t user_ticks, system_ticks, started_ticks, rss_pages;
};

/* The name may hold anything, so what follows its last bracket is read. */
static bool read_stat(const char *dir, struct process *p)
{
    char text[FILE_MAX_LEN];
    if (slurp(dir, "stat", text) < 0)
        return false;
    const char *at = strrchr(text, ')');
    return at && sscanf(at + 1,
                        " %c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %" SCNu64 " %" SCNu64
                        " %*d %*d %*d %*d %*d %*d %" SCNu64 " %*u %" SCNu64,
                        &p->state, &p->user_ticks, &p->system_ticks, &p->started_ticks, &p->rss_pages) == 5;
}

/* Wall time at which the process began; 0 = not known. */
static int64_t started_ms(const char *proc, const struct process *p, long hz)
{
    uint64_t boot_s = 0;
    if (!number_of_in(proc, "stat", "btime", &boot_s))
        return 0;
    return (int64_t)boot_s * 1000 + (int64_t)(p->started_ticks * 1000 / (uint64_t)hz);
}

static void read_fds(const char *dir, struct health_usage *u)
{
    char path[PATH_LEN], text[FILE_MAX_LEN];
    snprintf(path, sizeof path, "%s/fd", dir);
    DIR *d = opendir(path);
    if (!d)
        return; /* another user's: not known */
    uint64_t n = 0;
    for (const struct dirent *x; (x = readdir(d));)
        n += x->d_name[0] != '.';
    closedir(d);
    u->of[HEALTH_MEANS_FDS].used = n;
    uint64_t limit = 0;
    if (slurp(dir, "limits", text) == 0 && number_of(text, "Max open files", &limit))
        add_limit(u, HEALTH_MEANS_FDS, limit);
}

/* The directories of the process's cgroup: of version 2, or of version 1 in the tree for memory. */
static void read_own_cgroup(const struct health_usage_roots *roots, const char *dir, struct health_usage *u,
                            struct totals *t)
{
    char text[FILE_MAX_LEN], path[PATH_LEN], *save = NULL;
    if (slurp(dir, "cgroup", text) < 0)
        return;
    for (char *line = strtok_r(text, "\n", &save); line && !t->any; line = strtok_r(NULL, "\n", &save)) {
        char *kinds = strchr(line, ':'), *where = kinds ? strchr(kinds + 1, ':') : NULL;
        if (!where || where[1] != '/')
            continue;
        *where++ = 0;
        if (kinds[1] == 0)
            snprintf(path, sizeof path, "%s%s", roots->cgroups, where);
        else if (strcmp(kinds + 1, "memory") == 0)
            snprintf(path, sizeof path, "%s/memory%s", roots->cgroups, where);
        else
            continue;
        read_cgroup(path, u, t);
    }
}

int health_usage_process(const struct health_usage_roots *roots, const char *pid_file, struct health_usage_seen *seen,
                         int64_t now_us, struct health_usage *ret, struct err *e)
{
    char dir[PATH_LEN];
    struct health_usage u = {0};
    struct process p;
    int64_t pid = 0, written_ms = 0;
    long hz = sysconf(_SC_CLK_TCK);
    hz = hz > 0 ? hz : 100;
    if (read_pid(pid_file, &pid, &written_ms, e) < 0)
        return -1;
    snprintf(dir, sizeof dir, "%s/%" PRId64, roots->proc, pid);
    if (!read_stat(dir, &p))
        return err_set(e, "process %" PRId64 " is gone", pid);
    if (p.state == 'Z' || p.state == 'X')
        return err_set(e, "process %" PRId64 " has ended", pid);
    int64_t began_ms = started_ms(roots->proc, &p, hz);
    if (began_ms > written_ms + STALE_MS)
        return err_set(e, "process %" PRId64 " is gone; its number belongs to another one now", pid);
    if (seen->pid != pid || seen->started != p.started_ticks)
        *seen = (struct health_usage_seen){.pid = pid, .started = p.started_ticks};
    struct totals t = {0};
    read_own_cgroup(roots, dir, &u, &t); /* what the group uses is not the process's; its limits and its kills are */
    u.of[HEALTH_MEANS_TASKS].used = u.of[HEALTH_MEANS_TASKS].limit = 0;
    u.of[HEALTH_MEANS_MEMORY].used = p.rss_pages * (uint64_t)sysconf(_SC_PAGESIZE);
    take_cpu(seen, (p.user_ticks + p.system_ticks) * (UINT64_C(1000000) / (uint64_t)hz), t.throttled_us, now_us, &u);
    add_limit(&u, HEALTH_MEANS_CPU, host_permille());
    read_fds(dir, &u);
    *ret = u;
    return 0;
}
