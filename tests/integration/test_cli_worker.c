/* test_cli_worker.c - redoubt sim worker as a process: works, learns, is paused, is worse than it should be, refuses newer data, ends without losing work. */
#include "bus_kit.h"
#include "cli/sim.h"
#include "common/http.h"
#include <jansson.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

struct town {
    struct harness *h;
    struct loop loop;
    struct http *http;
    pid_t pid;
    int port;
    char data[600];
    bool done, closed;
    int status;
    char body[4096];
};

static int town_setup(void **state)
{
    struct town *t = calloc(1, sizeof *t);
    struct err e;
    t->h = harness_open();
    snprintf(t->data, sizeof t->data, "%s/data", harness_dir(t->h));
    if (mkdir(t->data, 0700) || loop_init(&t->loop) || !(t->http = http_open(&t->loop, &e)))
        return -1;
    *state = t;
    return 0;
}

static void on_closed(void *ctx)
{
    ((struct town *)ctx)->closed = true;
}

static int town_teardown(void **state)
{
    struct town *t = *state;
    if (t->pid > 0) {
        kill(t->pid, SIGKILL);
        waitpid(t->pid, NULL, 0);
    }
    http_close(t->http, on_closed, t);
    loop_run_until(&t->loop, &t->closed, HARNESS_WAIT_MS);
    loop_done(&t->loop);
    harness_close(t->h);
    free(t);
    return 0;
}

/* False: it has ended before it listened. */
static bool start(struct town *t, const char *version, const char *schema, const char *regress)
{
    int fds[2];
    char line[128];
    const char *argv[16] = {"worker",   "--version", version,     "--data", t->data,
                            "--schema", schema,      "--slow-ms", "300"};
    int argc = 9;
    if (regress) {
        argv[argc++] = "--regress";
        argv[argc++] = regress;
    }
    assert_int_equal(pipe(fds), 0);
    pid_t parent = getpid();
    t->pid = fork();
    if (t->pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (getppid() != parent)
            _exit(1);
        dup2(fds[1], STDOUT_FILENO);
        close(fds[0]);
        close(fds[1]);
        exit(sim_worker_main(argc, (char **)argv));
    }
    close(fds[1]);
    FILE *f = fdopen(fds[0], "r");
    bool listens = fgets(line, sizeof line, f) && sscanf(line, "listening 127.0.0.1:%d", &t->port) == 1 &&
                   fgets(line, sizeof line, f);
    fclose(f);
    return listens;
}

static int ended(struct town *t)
{
    int status = 0;
    assert_int_equal(waitpid(t->pid, &status, 0), t->pid);
    t->pid = 0;
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void on_done(void *ctx, const struct http_result *r)
{
    struct town *t = ctx;
    t->done = true;
    t->status = r->fault == HTTP_OK ? r->status : -1;
    snprintf(t->body, sizeof t->body, "%s", r->body);
}

static void ask(struct town *t, const char *method, const char *path, const char *body)
{
    char url[200];
    snprintf(url, sizeof url, "http://127.0.0.1:%d%s", t->port, path);
    t->done = false;
    http_start(t->http,
               &(struct http_request){
                   .method = method, .url = url, .body = body, .body_len = body ? strlen(body) : 0, .fresh = true},
               NULL, on_done, t);
}

static int call(struct town *t, const char *method, const char *path, const char *body)
{
    ask(t, method, path, body);
    assert_true(loop_run_until(&t->loop, &t->done, HARNESS_WAIT_MS));
    return t->status;
}

static json_int_t stat_of(struct town *t, const char *name)
{
    assert_int_equal(call(t, "GET", "/stats", NULL), 200);
    json_t *root = json_loads(t->body, 0, NULL);
    json_int_t n = json_integer_value(json_object_get(root, name));
    json_decref(root);
    return n;
}

static size_t lines(const struct town *t, const char *version)
{
    char path[700], line[300];
    size_t n = 0;
    snprintf(path, sizeof path, "%s/learned.log", t->data);
    FILE *f = fopen(path, "re");
    while (f && fgets(line, sizeof line, f))
        n += strncmp(line, version, strlen(version)) == 0 && line[strlen(line) - 1] == '\n';
    if (f)
        fclose(f);
    return n;
}

static void test_works_and_learns(void **state)
{
    struct town *t = *state;
    assert_true(start(t, "v1", "2", NULL));
    assert_int_equal(call(t, "GET", "/health", NULL), 200);
    for (int i = 0; i < 5; i++)
        assert_int_equal(call(t, "POST", "/work", "{}"), 200);
    assert_non_null(strstr(t->body, "\"version\":\"v1\""));
    assert_int_equal(lines(t, "v1 "), 5);
    assert_int_equal(call(t, "POST", "/pause", NULL), 200);
    assert_int_equal(call(t, "POST", "/work", NULL), 200); /* works on, and learns nothing */
    assert_int_equal(lines(t, "v1 "), 5);
    assert_int_equal(call(t, "POST", "/resume", NULL), 200);
    assert_int_equal(call(t, "POST", "/work", NULL), 200);
    assert_int_equal(lines(t, "v1 "), 6);
    assert_int_equal(stat_of(t, "requests"), 7);
    assert_int_equal(stat_of(t, "skipped"), 1);
    assert_int_equal(call(t, "POST", "/decide", "{\"type\": \"port_scan\"}"), 200);
    assert_non_null(strstr(t->body, "\"verdict\":\"block\""));
    assert_int_equal(call(t, "POST", "/selftest", "{\"type\": \"login\"}"), 200);
    assert_non_null(strstr(t->body, "\"verdict\":\"allow\""));
    assert_int_equal(call(t, "POST", "/decide", "{}"), 400);
    assert_int_equal(call(t, "GET", "/work", NULL), 405);
    assert_int_equal(call(t, "GET", "/nowhere", NULL), 404);
    assert_int_equal(call(t, "GET", "/metrics", NULL), 200);
    assert_non_null(strstr(t->body, "redoubt_worker_requests_total{version=\"v1\"} 7\n"));
    assert_non_null(strstr(t->body, "redoubt_worker_errors_total{version=\"v1\"} 0\n"));
    kill(t->pid, SIGTERM);
    assert_int_equal(ended(t), 0);
    /* An older schema cannot read what is there; the same can, and goes on behind it. */
    assert_false(start(t, "v0", "1", NULL));
    assert_int_equal(ended(t), 1);
    assert_true(start(t, "v2", "2", NULL));
    assert_int_equal(call(t, "POST", "/work", NULL), 200);
    assert_int_equal(lines(t, "v1 "), 6);
    assert_int_equal(lines(t, "v2 "), 1);
}

static void test_is_worse(void **state)
{
    struct town *t = *state;
    assert_true(start(t, "v1", "1", "security"));
    assert_int_equal(call(t, "POST", "/decide", "{\"type\": \"port_scan\"}"), 200);
    assert_non_null(strstr(t->body, "\"verdict\":\"allow\""));
    assert_int_equal(call(t, "POST", "/sim/mode", "{\"mode\": \"errors\"}"), 200);
    int failed = 0;
    for (int i = 0; i < 9; i++)
        failed += call(t, "POST", "/work", NULL) == 500;
    assert_int_equal(failed, 3);
    assert_int_equal(stat_of(t, "errors"), 3);
    assert_int_equal(call(t, "GET", "/health", NULL), 200);
    kill(t->pid, SIGTERM);
    assert_int_equal(ended(t), 0);
    assert_false(start(t, "v1", "1", "nonsense"));
    assert_int_equal(ended(t), 1);
}

/* SIGTERM while work is in hand: it is answered, and then the process is gone. */
static void test_ends_well(void **state)
{
    struct town *t = *state;
    assert_true(start(t, "v1", "1", "slow"));
    ask(t, "POST", "/work", NULL);
    for (int64_t end = clock_mono_ms() + 100; clock_mono_ms() < end && !t->done;)
        loop_run_until(&t->loop, &t->done, 5); /* on its way, and not answered for 300 ms */
    kill(t->pid, SIGTERM);
    assert_true(loop_run_until(&t->loop, &t->done, HARNESS_WAIT_MS));
    assert_int_equal(t->status, 200);
    assert_int_equal(ended(t), 0);
    assert_int_equal(lines(t, "v1 "), 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_works_and_learns, town_setup, town_teardown),
        cmocka_unit_test_setup_teardown(test_is_worse, town_setup, town_teardown),
        cmocka_unit_test_setup_teardown(test_ends_well, town_setup, town_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
