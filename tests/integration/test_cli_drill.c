/* test_cli_drill.c - the drill on real parts: it succeeds, and however it ends nothing of it stays behind. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "../harness.h"
#include <dirent.h>
#include <fcntl.h>
#include <jansson.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define PIDS_MAX 64
#define GONE_MS  10000

static struct {
    struct harness *h;
    char program[512];
    char tmp[512]; /* $TMPDIR of the drills: what is in it is theirs */
} T;

struct drill {
    pid_t pid;
    char dir[1024]; /* of its stack */
    pid_t pids[PIDS_MAX];
    size_t n;
};

static int set_up(void **state)
{
    (void)state;
    char self[400];
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    assert_true(n > 0);
    self[n] = 0;
    for (int up = 0; up < 3; up++)
        *strrchr(self, '/') = 0;
    snprintf(T.program, sizeof T.program, "%s/bin/redoubt", self);
    if (access(T.program, X_OK) != 0) {
        fprintf(stderr, "%s is not built: run `make all` first\n", T.program);
        return -1;
    }
    T.h = harness_open();
    snprintf(T.tmp, sizeof T.tmp, "%s/tmp", harness_dir(T.h));
    if (mkdir(T.tmp, 0700))
        return -1;
    setenv("TMPDIR", T.tmp, 1);
    setenv("XDG_STATE_HOME", harness_dir(T.h), 1); /* where figures are kept */
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    harness_close(T.h);
    return 0;
}

static pid_t start_drill(const char *const *args)
{
    char log[600];
    const char *argv[16] = {T.program, "drill"};
    for (size_t i = 0; args[i]; i++)
        argv[2 + i] = args[i];
    snprintf(log, sizeof log, "%s/drill.log", harness_dir(T.h));
    pid_t pid = fork();
    if (pid == 0) {
        int o = open(log, O_CREAT | O_TRUNC | O_WRONLY | O_APPEND, 0600);
        dup2(o, 1);
        dup2(o, 2);
        unsetenv("KEEP"); /* that one is for the harness */
        execv(T.program, (char *const *)argv);
        _exit(127);
    }
    return pid;
}

static void fail_with_log(const char *what)
{
    static char text[65536];
    char log[600];
    snprintf(log, sizeof log, "%s/drill.log", harness_dir(T.h));
    FILE *f = fopen(log, "r");
    text[f ? fread(text, 1, sizeof text - 1, f) : 0] = 0;
    if (f)
        fclose(f);
    fail_msg("%s\n%s", what, text);
}

static bool tmp_empty(void *ctx)
{
    (void)ctx;
    DIR *d = opendir(T.tmp);
    size_t n = 0;
    for (struct dirent *f; (f = readdir(d));)
        n += f->d_name[0] != '.';
    closedir(d);
    return n == 0;
}

/* The drill has started its agent, which is its last process. */
static bool all_started(void *ctx)
{
    struct drill *r = ctx;
    DIR *d = opendir(T.tmp);
    for (struct dirent *f; (f = readdir(d));)
        if (f->d_name[0] != '.')
            snprintf(r->dir, sizeof r->dir, "%s/%s", T.tmp, f->d_name);
    closedir(d);
    char path[1100], line[128];
    snprintf(path, sizeof path, "%s/pids", r->dir);
    FILE *f = *r->dir ? fopen(path, "r") : NULL;
    bool agent = false;
    for (r->n = 0; f && r->n < PIDS_MAX && fgets(line, sizeof line, f);) {
        char name[64];
        if (sscanf(line, "%d %*u %63s", &r->pids[r->n], name) == 2) {
            r->n++;
            agent = agent || strcmp(name, "agent") == 0;
        }
    }
    if (f)
        fclose(f);
    return agent;
}

/* Not counting what only waits to be collected: in a container nobody may do that. */
static size_t alive(const struct drill *r)
{
    size_t n = 0;
    for (size_t i = 0; i < r->n; i++) {
        char path[64], text[512];
        snprintf(path, sizeof path, "/proc/%d/stat", (int)r->pids[i]);
        FILE *f = fopen(path, "r");
        text[f ? fread(text, 1, sizeof text - 1, f) : 0] = 0;
        if (f)
            fclose(f);
        const char *name_end = strrchr(text, ')');
        n += name_end && name_end[2] != 'Z' && name_end[2] != 'X';
    }
    return n;
}

static bool none_alive(void *ctx)
{
    return alive(ctx) == 0;
}

static void nothing_stays_after(int signum)
{
    struct drill r = {0};
    const char *args[] = {"llm-outage", NULL};
    int status;
    r.pid = start_drill(args);
    if (!harness_until(all_started, &r, HARNESS_WAIT_MS))
        fail_with_log("the drill did not start its processes");
    assert_true(r.n >= 13);
    kill(r.pid, signum);
    assert_int_equal(waitpid(r.pid, &status, 0), r.pid);
    if (signum == SIGKILL)
        assert_true(WIFSIGNALED(status));
    else if (!WIFEXITED(status) || WEXITSTATUS(status) != 1)
        fail_with_log("an interrupted drill ends with 1");
    if (!harness_until(none_alive, &r, GONE_MS))
        fail_with_log("processes stay behind");
    if (!harness_until(tmp_empty, NULL, GONE_MS))
        fail_with_log("its directory stays behind");
}

static void nothing_stays_after_ctrl_c(void **state)
{
    (void)state;
    nothing_stays_after(SIGINT);
}

static void nothing_stays_after_sigterm(void **state)
{
    (void)state;
    nothing_stays_after(SIGTERM);
}

static void nothing_stays_after_kill_9(void **state)
{
    (void)state;
    nothing_stays_after(SIGKILL);
}

static void the_whole_story_happens(void **state)
{
    (void)state;
    char json[600];
    snprintf(json, sizeof json, "%s/drill.json", harness_dir(T.h));
    const char *args[] = {"llm-outage", "--json", json, NULL};
    int status;
    pid_t pid = start_drill(args);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
        fail_with_log("the drill failed");
    assert_true(tmp_empty(NULL));
    json_t *j = json_load_file(json, 0, NULL);
    assert_non_null(j);
    assert_true(json_is_true(json_object_get(j, "ok")));
    assert_true(json_integer_value(json_object_get(j, "total_ms")) < 70000);
    size_t i;
    json_t *figure;
    assert_true(json_array_size(json_object_get(j, "figures")) >= 8);
    json_array_foreach(json_object_get(j, "figures"), i, figure)
    {
        const json_t *ms = json_object_get(figure, "ms");
        if (!json_is_integer(ms))
            fail_with_log(json_string_value(json_object_get(figure, "key")));
    }
    json_decref(j);
}

static int run(const char *const *args)
{
    int status;
    pid_t pid = start_drill(args);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

static void what_makes_no_sense_is_refused(void **state)
{
    (void)state;
    static const char *const bad[][10] = {
        {"dance"},
        {"all", "dance"},
        {"llm-outage", "--target", "a"},                          /* only with --live */
        {"llm-outage", "--nats", "nats://127.0.0.1:1"},           /* likewise */
        {"llm-outage", "--live", "--nats", "nats://127.0.0.1:1"}, /* of whom, by whom, why? */
        {"llm-outage", "--live", "--target", "a", "--by", "b", "--reason", "c", "--keep"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_int_equal(run(bad[i]), 2);
    const char *nobody[] = {"llm-outage", "--live", "--target",           "a",         "--by",  "b", "--reason",
                            "c",          "--nats", "nats://127.0.0.1:1", "--timeout", "300ms", NULL};
    assert_int_equal(run(nobody), 3);
    const char *nowhere[] = {"restart", T.tmp, "agent", NULL};
    assert_int_equal(run(nowhere), 1);
    assert_true(tmp_empty(NULL));
}

static void a_kept_stack_stays_until_it_is_stopped(void **state)
{
    (void)state;
    struct drill r = {0};
    const char *args[] = {"llm-outage", "--keep", NULL};
    int status;
    r.pid = start_drill(args);
    if (!harness_until(all_started, &r, HARNESS_WAIT_MS))
        fail_with_log("the drill did not start its processes");
    kill(r.pid, SIGINT); /* early, for the test's time: kept is kept */
    assert_int_equal(waitpid(r.pid, &status, 0), r.pid);
    assert_int_equal(alive(&r), r.n);
    const char *stop[] = {"stop", r.dir, NULL};
    pid_t pid = start_drill(stop);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
        fail_with_log("drill stop failed");
    if (!harness_until(none_alive, &r, GONE_MS))
        fail_with_log("processes stay behind");
    assert_true(tmp_empty(NULL));
    /* Only what a drill has made is ever removed. */
    const char *wrong[] = {"stop", T.tmp, NULL};
    pid = start_drill(wrong);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(WEXITSTATUS(status), 1);
    assert_int_equal(access(T.tmp, F_OK), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_stays_after_ctrl_c), cmocka_unit_test(nothing_stays_after_sigterm),
        cmocka_unit_test(nothing_stays_after_kill_9), cmocka_unit_test(a_kept_stack_stays_until_it_is_stopped),
        cmocka_unit_test(the_whole_story_happens),    cmocka_unit_test(what_makes_no_sense_is_refused),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
