/* test_health_resource.c - means against their limits, and reading them: made-up trees of cgroups of both versions, and this machine's
 * own /proc with a real child. */
#include "../harness.h"
#include "common/clock.h"
#include "health/health_resource.h"
#include "health/health_usage.h"
#include <fcntl.h>
#include <inttypes.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

/* ---- judging ---- */

static const struct health_resource_rule usual = {.mark_percent = {90, 95, 90, 90, 90}};

static int judge(struct health_resource *s, const struct health_usage *u, int64_t now, struct health_result *r)
{
    struct health_result own;
    r = r ? r : &own;
    memset(r, 0, sizeof *r);
    health_resource_judge(s, &usual, u, now, r);
    return r->fault;
}

static void test_marks(void **state)
{
    (void)state;
    for (int what = 0; what < HEALTH_MEANS; what++) {
        uint32_t mark = usual.mark_percent[what];
        struct health_resource s = {0};
        /* Up and down again: the fault begins at the mark, and ends clearly below it. */
        for (uint64_t n = 0; n <= 1500; n++) {
            struct health_usage u = {0};
            u.of[what].used = n;
            u.of[what].limit = 1000;
            assert_int_equal(judge(&s, &u, 1, NULL), n >= 10 * mark ? HEALTH_FAULT_EXHAUSTED : HEALTH_FAULT_NONE);
        }
        for (uint64_t n = 1500; n > 0; n--) {
            struct health_usage u = {0};
            u.of[what].used = n;
            u.of[what].limit = 1000;
            assert_int_equal(judge(&s, &u, 1, NULL), n >= 9 * mark ? HEALTH_FAULT_EXHAUSTED : HEALTH_FAULT_NONE);
        }
        /* No limit, no fault; and no overflow. */
        struct health_usage u = {0};
        u.of[what].used = UINT64_MAX;
        assert_int_equal(judge(&s, &u, 1, NULL), HEALTH_FAULT_NONE);
        u.of[what].limit = UINT64_MAX;
        assert_int_equal(judge(&s, &u, 1, NULL), HEALTH_FAULT_EXHAUSTED);
        u.of[what].limit = 1;
        assert_int_equal(judge(&s, &u, 1, NULL), HEALTH_FAULT_EXHAUSTED);
        u.of[what].used = 0;
        assert_int_equal(judge(&s, &u, 1, NULL), HEALTH_FAULT_NONE);
    }
    /* The worst one is named; a limit of one's own counts if it is the lower one. */
    struct health_resource s = {0};
    struct health_result r;
    struct health_usage u = {
        .of = {[HEALTH_MEANS_MEMORY] = {95 << 20, 100 << 20}, [HEALTH_MEANS_FDS] = {1020, 1024}}};
    assert_int_equal(judge(&s, &u, 1, &r), HEALTH_FAULT_EXHAUSTED);
    assert_string_equal(r.detail, "open files 1020 of 1024 (99 %, mark 90 %)");
    struct health_resource_rule rule = usual;
    rule.memory_bytes = 50 << 20;
    memset(&r, 0, sizeof r);
    health_resource_judge(&s, &rule, &u, 1, &r);
    assert_string_equal(r.detail, "memory 95 MiB of 50 MiB (190 %, mark 90 %)");
    /* Not looked at. */
    rule = (struct health_resource_rule){0};
    health_resource_judge(&s, &rule, &u, 1, &r);
    assert_int_equal(r.fault, HEALTH_FAULT_NONE);
}

static void test_oom(void **state)
{
    (void)state;
    struct health_resource s = {0};
    struct health_usage u = {.oom_kills = 7, .oom_known = true};
    struct health_result r;
    assert_int_equal(judge(&s, &u, 1000, NULL), HEALTH_FAULT_NONE); /* from before our time */
    u.oom_kills = 9;
    assert_int_equal(judge(&s, &u, 2000, &r), HEALTH_FAULT_OOM);
    assert_non_null(strstr(r.detail, "2 killed"));
    u.oom_known = false; /* not readable for once: nothing is forgotten */
    assert_int_equal(judge(&s, &u, 3000, NULL), HEALTH_FAULT_OOM);
    u.oom_known = true;
    assert_int_equal(judge(&s, &u, 2000 + HEALTH_OOM_HOLD_MS - 1, NULL), HEALTH_FAULT_OOM);
    assert_int_equal(judge(&s, &u, 2000 + HEALTH_OOM_HOLD_MS, NULL), HEALTH_FAULT_NONE);
    u.oom_kills = 1; /* a new cgroup counts from its own beginning */
    assert_int_equal(judge(&s, &u, 200000, NULL), HEALTH_FAULT_NONE);
    u.oom_kills = 2;
    assert_int_equal(judge(&s, &u, 201000, &r), HEALTH_FAULT_OOM);
    assert_non_null(strstr(r.detail, "1 killed"));
}

static void test_cpu(void **state)
{
    (void)state;
    assert_int_equal(health_cpu_permille(500000, 1000000), 500);
    assert_int_equal(health_cpu_permille(4000000, 1000000), 4000);
    assert_int_equal(health_cpu_permille(1, 0), 0);
    assert_int_equal(health_cpu_permille(UINT64_MAX, 1), UINT32_MAX);
}

/* ---- reading ---- */

static void make_dirs(const char *path)
{
    char p[1200];
    snprintf(p, sizeof p, "%s", path);
    for (char *c = p + 1; *c; c++)
        if (*c == '/') {
            *c = 0;
            (void)mkdir(p, 0700);
            *c = '/';
        }
}

static void put(const char *dir, const char *file, const char *fmt, ...)
{
    char path[1100];
    snprintf(path, sizeof path, "%s/%s", dir, file);
    make_dirs(path);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    va_list ap;
    va_start(ap, fmt);
    vfprintf(f, fmt, ap);
    va_end(ap);
    assert_int_equal(fclose(f), 0);
}

static int open_dir(void **state)
{
    *state = harness_open();
    return 0;
}
static pid_t running; /* a child that a failed test has left behind would keep the harness waiting */

static int close_dir(void **state)
{
    if (running > 0) {
        kill(running, SIGKILL);
        waitpid(running, NULL, 0);
    }
    running = 0;
    harness_close(*state);
    return 0;
}

static void test_cgroup_2(void **state)
{
    char d[600];
    snprintf(d, sizeof d, "%s/cg", harness_dir(*state));
    struct health_usage_seen seen = {0};
    struct health_usage u;
    struct err e = {""};
    assert_int_equal(health_usage_cgroup(d, &seen, 1000, &u, &e), -1);
    assert_non_null(strstr(e.text, "No such file"));
    put(d, "nothing", "");
    assert_int_equal(health_usage_cgroup(d, &seen, 1000, &u, &e), -1);
    assert_non_null(strstr(e.text, "no files of a cgroup"));
    put(d, "memory.current", "104857600\n");
    put(d, "memory.stat", "anon 1\nfile 2\ninactive_file 4857600\nactive_file 3\n");
    put(d, "memory.max", "max\n");
    put(d, "memory.events", "low 0\nhigh 0\nmax 5\noom 1\noom_kill 3\noom_group_kill 0\n");
    put(d, "cpu.stat", "usage_usec 1000000\nuser_usec 1\nsystem_usec 1\nnr_throttled 1\nthrottled_usec 10\n");
    put(d, "cpu.max", "150000 100000\n");
    put(d, "pids.current", "12\n");
    put(d, "pids.max", "100\n");
    assert_int_equal(health_usage_cgroup(d, &seen, 1000000, &u, &e), 0);
    assert_int_equal(u.of[HEALTH_MEANS_MEMORY].used, 100000000); /* without what is given back anyway */
    assert_int_equal(u.of[HEALTH_MEANS_MEMORY].limit, 0);
    assert_true(u.oom_known && u.oom_kills == 3);
    assert_int_equal(u.of[HEALTH_MEANS_CPU].used, 0); /* not known before the second reading */
    assert_int_equal(u.of[HEALTH_MEANS_CPU].limit, sysconf(_SC_NPROCESSORS_ONLN) > 1 ? 1500 : 1000);
    assert_int_equal(u.of[HEALTH_MEANS_TASKS].used, 12);
    assert_int_equal(u.of[HEALTH_MEANS_TASKS].limit, 100);
    put(d, "memory.max", "209715200\n");
    put(d, "cpu.stat", "usage_usec 2500000\nthrottled_usec 500010\n");
    put(d, "cpu.max", "max 100000\n");
    assert_int_equal(health_usage_cgroup(d, &seen, 2000000, &u, &e), 0);
    assert_int_equal(u.of[HEALTH_MEANS_MEMORY].limit, 209715200);
    assert_int_equal(u.of[HEALTH_MEANS_CPU].used, 1500);
    assert_int_equal(u.throttled_permille, 500);
    assert_int_equal(u.of[HEALTH_MEANS_CPU].limit, sysconf(_SC_NPROCESSORS_ONLN) * 1000);
    put(d, "cgroup.events", "populated 0\nfrozen 0\n");
    assert_int_equal(health_usage_cgroup(d, &seen, 3000000, &u, &e), -1);
    assert_non_null(strstr(e.text, "no process"));
    put(d, "cgroup.events", "populated 1\n");
    /* Files that say nonsense are as good as none; what is left is used. */
    put(d, "memory.current", "lots\n");
    put(d, "cpu.stat", "usage_usec\n");
    put(d, "cpu.max", "\n");
    put(d, "pids.max", "99999999999999999999999999\n");
    put(d, "memory.events", "oom_kill x\n");
    assert_int_equal(health_usage_cgroup(d, &seen, 4000000, &u, &e), 0);
    assert_int_equal(u.of[HEALTH_MEANS_MEMORY].used, 0);
    assert_false(u.oom_known);
    assert_int_equal(u.of[HEALTH_MEANS_TASKS].used, 12);
    assert_int_equal(u.of[HEALTH_MEANS_TASKS].limit, 0);
}

static void test_cgroup_1(void **state)
{
    char root[600], d[700], other[700];
    snprintf(root, sizeof root, "%s/v1", harness_dir(*state));
    snprintf(d, sizeof d, "%s/memory/docker/abc", root);
    put(d, "memory.usage_in_bytes", "3000000\n");
    put(d, "memory.stat", "cache 1\ntotal_inactive_file 1000000\n");
    put(d, "memory.limit_in_bytes", "9223372036854771712\n");
    put(d, "memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 4\n");
    snprintf(other, sizeof other, "%s/cpu,cpuacct/docker/abc", root);
    put(other, "cpuacct.usage", "5000000000\n");
    put(other, "cpu.cfs_quota_us", "50000\n");
    put(other, "cpu.cfs_period_us", "100000\n");
    put(other, "cpu.stat", "nr_periods 1\nnr_throttled 0\nthrottled_time 0\n");
    snprintf(other, sizeof other, "%s/pids/docker/abc", root);
    put(other, "pids.current", "3\n");
    put(other, "pids.max", "max\n");
    struct health_usage_seen seen = {0};
    struct health_usage u;
    struct err e = {""};
    assert_int_equal(health_usage_cgroup(d, &seen, 1000000, &u, &e), 0);
    assert_int_equal(u.of[HEALTH_MEANS_MEMORY].used, 2000000);
    assert_int_equal(u.of[HEALTH_MEANS_MEMORY].limit, 0); /* so large that it is none */
    assert_true(u.oom_known && u.oom_kills == 4);
    assert_int_equal(u.of[HEALTH_MEANS_CPU].limit, 500);
    assert_int_equal(u.of[HEALTH_MEANS_TASKS].used, 3);
    put(d, "memory.limit_in_bytes", "4000000\n");
    snprintf(other, sizeof other, "%s/cpu,cpuacct/docker/abc", root);
    put(other, "cpuacct.usage", "5250000000\n");
    put(other, "cpu.stat", "throttled_time 100000000\n");
    assert_int_equal(health_usage_cgroup(d, &seen, 1500000, &u, &e), 0);
    assert_int_equal(u.of[HEALTH_MEANS_MEMORY].limit, 4000000);
    assert_int_equal(u.of[HEALTH_MEANS_CPU].used, 500);
    assert_int_equal(u.throttled_permille, 200);
}

/* A made-up /proc: what the kernel writes, with a name that tries to confuse. */
static void test_process_made_up(void **state)
{
    char proc[600], cgroups[600], pid_file[700], dir[700];
    snprintf(proc, sizeof proc, "%s/proc", harness_dir(*state));
    snprintf(cgroups, sizeof cgroups, "%s/cgroups", harness_dir(*state));
    snprintf(pid_file, sizeof pid_file, "%s/agent.pid", harness_dir(*state));
    snprintf(dir, sizeof dir, "%s/4242", proc);
    const struct health_usage_roots roots = {proc, cgroups};
    struct health_usage_seen seen = {0};
    struct health_usage u;
    struct err e = {""};
    long hz = sysconf(_SC_CLK_TCK), page = sysconf(_SC_PAGESIZE);
    const char *stat_fmt = "4242 (a) R 1 2) %c 1 4242 4242 0 -1 4194304 1 0 0 0 %ld %ld 0 0 20 0 4 0 %ld 1000000 "
                           "2500 18446744073709551615 0\n";
    assert_int_equal(health_usage_process(&roots, pid_file, &seen, 1, &u, &e), -1);
    put(harness_dir(*state), "agent.pid", "none\n");
    assert_int_equal(health_usage_process(&roots, pid_file, &seen, 1, &u, &e), -1);
    assert_non_null(strstr(e.text, "no number"));
    put(harness_dir(*state), "agent.pid", "-1\n");
    assert_int_equal(health_usage_process(&roots, pid_file, &seen, 1, &u, &e), -1);
    put(harness_dir(*state), "agent.pid", "4242\n");
    assert_int_equal(health_usage_process(&roots, pid_file, &seen, 1, &u, &e), -1);
    assert_non_null(strstr(e.text, "4242 is gone"));
    struct stat written;
    assert_int_equal(stat(pid_file, &written), 0);
    put(proc, "stat", "cpu 1 2 3\nbtime %lld\n", (long long)written.st_mtim.tv_sec - 1000);
    put(dir, "stat", stat_fmt, 'S', 3 * hz, hz, 990 * hz);
    put(dir, "limits",
        "Limit  Soft  Hard  Units\nMax open files            1024                 4096                 files\n");
    put(dir, "fd/0", "");
    put(dir, "fd/1", "");
    put(dir, "fd/2", "");
    put(dir, "cgroup", "12:cpu,cpuacct:/x\n4:memory:/nothing\n0::/system.slice/agent.service\n");
    char cg[700];
    snprintf(cg, sizeof cg, "%s/system.slice/agent.service", cgroups);
    put(cg, "memory.current", "1\n");
    put(cg, "memory.max", "20480000\n");
    put(cg, "memory.events", "oom_kill 2\n");
    assert_int_equal(health_usage_process(&roots, pid_file, &seen, 1000000, &u, &e), 0);
    assert_int_equal(u.of[HEALTH_MEANS_MEMORY].used, 2500 * page);
    assert_int_equal(u.of[HEALTH_MEANS_MEMORY].limit, 20480000);
    assert_int_equal(u.of[HEALTH_MEANS_FDS].used, 3);
    assert_int_equal(u.of[HEALTH_MEANS_FDS].limit, 1024);
    assert_true(u.oom_known && u.oom_kills == 2);
    put(dir, "stat", stat_fmt, 'R', 3 * hz + hz / 2, hz, 990 * hz);
    assert_int_equal(health_usage_process(&roots, pid_file, &seen, 2000000, &u, &e), 0);
    assert_int_equal(u.of[HEALTH_MEANS_CPU].used, 500);
    /* Started again under the same number, and written down again: measured anew. */
    put(dir, "stat", stat_fmt, 'R', 0L, 0L, 995 * hz);
    assert_int_equal(health_usage_process(&roots, pid_file, &seen, 3000000, &u, &e), 0);
    assert_int_equal(u.of[HEALTH_MEANS_CPU].used, 0);
    /* The number is another process's now: it began long after it was written down. */
    put(dir, "stat", stat_fmt, 'R', 0L, 0L, 1010 * hz);
    assert_int_equal(health_usage_process(&roots, pid_file, &seen, 4000000, &u, &e), -1);
    assert_non_null(strstr(e.text, "belongs to another one"));
    put(dir, "stat", stat_fmt, 'Z', 0L, 0L, 990 * hz);
    assert_int_equal(health_usage_process(&roots, pid_file, &seen, 5000000, &u, &e), -1);
    put(dir, "stat", "4242 (cut");
    assert_int_equal(health_usage_process(&roots, pid_file, &seen, 6000000, &u, &e), -1);
}

/* A child of ours that holds memory and files, burns CPU, and dies. */
/* Sanitised, every byte has bytes beside it. */
#if defined __SANITIZE_ADDRESS__ || defined __SANITIZE_THREAD__
#define MOST_BYTES (1 << 30)
#else
#define MOST_BYTES (200 << 20)
#endif

static void test_process_real(void **state)
{
    char pid_file[700];
    snprintf(pid_file, sizeof pid_file, "%s/child.pid", harness_dir(*state));
    int ready[2];
    assert_int_equal(pipe(ready), 0);
    pid_t child = running = fork();
    if (child == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        size_t size = 48 << 20;
        char *held = malloc(size);
        for (int i = 0; i < 40; i++)
            (void)!dup(ready[0]);
        if (!held)
            _exit(1);
        memset(held, 1, size);
        (void)!write(ready[1], "x", 1);
        for (volatile uint64_t n = 0;; n++)
            if (getppid() == 1 || held[n % size] != 1)
                _exit(0);
    }
    assert_true(child > 0);
    close(ready[1]); /* a child that dies early ends the reading below */
    put(harness_dir(*state), "child.pid", "%d\n", (int)child);
    char c;
    assert_int_equal(read(ready[0], &c, 1), 1);
    const struct health_usage_roots roots = {"/proc", "/sys/fs/cgroup"};
    struct health_usage_seen seen = {0};
    struct health_usage u;
    struct err e = {""};
    if (health_usage_process(&roots, pid_file, &seen, clock_mono_ns() / 1000, &u, &e) < 0)
        fail_msg("%s", e.text);
    assert_in_range(u.of[HEALTH_MEANS_MEMORY].used, 48 << 20, MOST_BYTES);
    assert_in_range(u.of[HEALTH_MEANS_FDS].used, 42, 1000);
    assert_true(u.of[HEALTH_MEANS_FDS].limit >= 256);
    assert_true(u.of[HEALTH_MEANS_CPU].limit >= 1);
    int64_t end = clock_mono_ms() + HARNESS_WAIT_MS;
    do {
        usleep(50000);
        assert_int_equal(health_usage_process(&roots, pid_file, &seen, clock_mono_ns() / 1000, &u, &e), 0);
    } while (u.of[HEALTH_MEANS_CPU].used == 0 && clock_mono_ms() < end);
    assert_true(u.of[HEALTH_MEANS_CPU].used > 0);
    kill(child, SIGKILL);
    siginfo_t info;
    assert_int_equal(waitid(P_PID, (id_t)child, &info, WEXITED | WNOWAIT), 0);
    assert_int_equal(health_usage_process(&roots, pid_file, &seen, clock_mono_ns() / 1000, &u, &e),
                     -1); /* a zombie */
    assert_int_equal(waitpid(child, NULL, 0), child);
    running = 0;
    assert_int_equal(health_usage_process(&roots, pid_file, &seen, clock_mono_ns() / 1000, &u, &e), -1);
    close(ready[0]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_marks),
        cmocka_unit_test(test_oom),
        cmocka_unit_test(test_cpu),
        cmocka_unit_test_setup_teardown(test_cgroup_2, open_dir, close_dir),
        cmocka_unit_test_setup_teardown(test_cgroup_1, open_dir, close_dir),
        cmocka_unit_test_setup_teardown(test_process_made_up, open_dir, close_dir),
        cmocka_unit_test_setup_teardown(test_process_real, open_dir, close_dir),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
