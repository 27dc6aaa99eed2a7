/* drill_all.c - several drills, one after the other, with one table and one JSON at the end. */
#include "cli/drill_all.h"
#include "cli/drill_file.h"
#include "cli/drill_stack.h"
#include "common/clock.h"
#include "common/loop.h"
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#define TICK_MS   50
#define PATH_TEXT 32

struct all {
    struct cli *c;
    struct loop loop;
    uv_signal_t signals[3];
    bool interrupted;
    pid_t child;
    json_t *results;
};

static void on_signal(uv_signal_t *h, int signum)
{
    struct all *a = h->data;
    (void)signum;
    a->interrupted = true;
    if (a->child > 0)
        (void)kill(a->child, SIGTERM); /* it ends its stack in order */
}

/* The child writes its JSON into `fd`, which has no name that could stay behind. */
static pid_t start(const char *self, const char *name, const char *bin_dir, const char *json_path, bool quiet)
{
    const char *argv[] = {self, "drill", name, "--json", json_path, bin_dir ? "--bin-dir" : NULL, bin_dir, NULL};
    pid_t parent = getpid();
    fflush(NULL);
    pid_t pid = fork();
    if (pid != 0)
        return pid;
    (void)prctl(PR_SET_PDEATHSIG, SIGTERM);
    if (getppid() != parent)
        _exit(127);
    if (quiet) /* our stdout is for the JSON */
        (void)dup2(STDERR_FILENO, STDOUT_FILENO);
    (void)execv(self, (char *const *)argv);
    _exit(127);
}

static json_t *play_one(struct all *a, const char *self, const char *name, const char *bin_dir, bool quiet)
{
    char path[PATH_TEXT];
    int status = 0, fd = memfd_create("redoubt-drill", 0);
    json_t *j = NULL;
    bool never = false;
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    a->child = fd >= 0 ? start(self, name, bin_dir, path, quiet) : -1;
    if (a->child > 0) {
        while (waitpid(a->child, &status, WNOHANG) == 0)
            loop_run_until(&a->loop, &never, TICK_MS);
        a->child = 0;
        j = json_load_file(path, 0, NULL);
    }
    if (fd >= 0)
        close(fd);
    if (!j)
        j = json_pack("{s:s, s:b, s:s}", "drill", name, "ok", 0, "why",
                      WIFEXITED(status) && WEXITSTATUS(status) == 127 ? "it could not be started"
                                                                      : "it left no figures");
    fputc('\n', a->c->out.file);
    return j;
}

static void time_cell(struct term_table *tab, const json_t *measures, const char *key)
{
    char span[32];
    const json_t *ms = json_object_get(measures, key);
    term_cell(tab, TERM_PLAIN, "%s", json_is_integer(ms) ? cli_span(json_integer_value(ms), span, sizeof span) : "-");
}

static void count_cell(struct term_table *tab, const json_t *measures, const char *key)
{
    json_int_t n = json_integer_value(json_object_get(measures, key));
    term_cell(tab, n ? TERM_RED : TERM_PLAIN, "%" JSON_INTEGER_FORMAT, n);
}

static void show(const struct all *a)
{
    static const struct term_column columns[] = {{"DRILL", false},   {"RESULT", false}, {"DETECTION", true},
                                                 {"FALLBACK", true}, {"ACK", true},     {"FIRST ALERT", true},
                                                 {"FAILBACK", true}, {"LOST", true},    {"DOUBLED", true}};
    struct term_table *tab = term_table_begin(columns, sizeof columns / sizeof columns[0]);
    size_t i;
    json_t *r;
    json_array_foreach(a->results, i, r)
    {
        const json_t *m = json_object_get(r, "measures");
        bool ok = json_is_true(json_object_get(r, "ok"));
        term_cell(tab, TERM_BOLD, "%s", json_string_value(json_object_get(r, "drill")));
        term_cell(tab, ok ? TERM_GREEN : TERM_RED, "%s", ok ? "ok" : "FAILED");
        time_cell(tab, m, "detection_ms");
        time_cell(tab, m, "fallback_ms");
        time_cell(tab, m, "ack_ms");
        time_cell(tab, m, "first_alert_ms");
        time_cell(tab, m, "failback_ms");
        count_cell(tab, m, "actions_lost");
        count_cell(tab, m, "actions_doubled");
    }
    term_table_end(tab, &a->c->out, "  ");
}

int drill_all(struct cli *c, const char *const *names, size_t n, const char *bin_dir, const char *json)
{
    static const int caught[3] = {SIGINT, SIGTERM, SIGHUP};
    struct all a = {.c = c, .results = json_array()};
    struct err e = {""};
    char self[DRILL_PATH];
    bool quiet = json && strcmp(json, "-") == 0, ok = true;
    int64_t began_ms = clock_mono_ms();
    if (quiet)
        term_init(&c->out, stderr);
    if (drill_stack_self(self, sizeof self, &e) || loop_init(&a.loop)) {
        json_decref(a.results);
        return cli_fail(c, CLI_FAILED, "%s", *e.text ? e.text : "no event loop");
    }
    for (int i = 0; i < 3; i++) {
        uv_signal_init(&a.loop.uv, &a.signals[i]);
        a.signals[i].data = &a;
        uv_signal_start(&a.signals[i], on_signal, caught[i]);
    }
    for (size_t i = 0; i < n && !a.interrupted; i++) {
        json_t *r = play_one(&a, self, names[i], bin_dir, quiet);
        ok = ok && json_is_true(json_object_get(r, "ok"));
        json_array_append_new(a.results, r);
    }
    loop_done(&a.loop);
    ok = ok && !a.interrupted;
    show(&a);
    char now[CLOCK_TEXT_MAX];
    json_t *whole =
        json_pack("{s:s, s:b, s:s, s:I, s:o}", "drill", "all", "ok", ok, "ended", clock_text(clock_wall_ms(), now),
                  "total_ms", (json_int_t)(clock_mono_ms() - began_ms), "drills", a.results);
    int code = drill_file_store(c, "all", NULL, json, whole);
    if (a.interrupted)
        return cli_fail(c, CLI_FAILED, "interrupted");
    return ok ? code : CLI_FAILED;
}
