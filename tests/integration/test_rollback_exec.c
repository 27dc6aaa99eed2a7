/* test_rollback_exec.c - the exec executor with real programs: a world in a directory, and what goes wrong with it. */
#include "../harness.h"
#include "common/log.h"
#include "rollback/rollback_executor.h"
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

struct town {
    struct harness *h;
    const char *dir;
    struct service s;
    struct executor *x;
};
static struct town town;

struct seen {
    bool came, ok, lasting;
    char text[600];
    size_t n, n_versions;
    struct executor_instance first;
    struct rollback_version version;
    char spec[256];
};

#define KIT_DIR town.dir
#include "file_kit.h"

static void on_result(void *ctx, const struct executor_result *r)
{
    struct seen *s = ctx;
    assert_false(s->came);
    s->came = true;
    s->ok = r->ok;
    s->lasting = r->lasting;
    snprintf(s->text, sizeof s->text, "%s", r->text);
}

static void on_view(void *ctx, const struct executor_view *v)
{
    struct seen *s = ctx;
    assert_false(s->came);
    *s = (struct seen){.came = true, .ok = v->ok, .lasting = v->lasting, .n = v->n, .n_versions = v->n_versions};
    snprintf(s->text, sizeof s->text, "%s", v->error);
    if (v->n > 0)
        s->first = v->instances[0];
    if (v->n_versions > 0) {
        s->version = v->versions[0].v;
        snprintf(s->spec, sizeof s->spec, "%s", v->versions[0].spec);
    }
}

static void await(struct seen *s)
{
    assert_true(loop_run_until(&town.s.loop, &s->came, 20000));
}

static struct seen view(void)
{
    struct seen s = {0};
    executor_exec.view(town.x, on_view, &s);
    assert_false(s.came);
    await(&s);
    return s;
}

static const struct executor_order order = {.job = "job-1",
                                            .version = "0123456789abcdef",
                                            .name = "v1; touch evil",
                                            .image = "agent:v1",
                                            .digest = "sha256:1",
                                            .spec = "{\"a\":1}",
                                            .spec_len = 7,
                                            .side = 1,
                                            .count = 3};
typedef void (*act_fn)(struct executor *x, const struct executor_order *o, executor_cb cb, void *ctx);

static struct seen act(act_fn fn)
{
    struct seen s = {0};
    fn(town.x, &order, on_result, &s);
    assert_false(s.came);
    await(&s);
    return s;
}

static void close_executor(void)
{
    bool never = false;
    if (town.x)
        executor_exec.close(town.x);
    town.x = NULL;
    loop_run_until(&town.s.loop, &never, 5);
    if (town.s.settings)
        settings_free(town.s.settings);
    town.s.settings = NULL;
}

/* Rows of `exec` besides those that must be there. */
static int open_executor(const char *allowed, const char *more, struct err *e)
{
    struct conf_report r = {0};
    char text[6000];
    close_executor();
    snprintf(text, sizeof text,
             "rollback:\n"
             "  exec_allowed: [ %s ]\n"
             "  deployments:\n"
             "    - name: agent\n"
             "      executor: exec\n"
             "      exec:\n"
             "        view: [ %s/view ]\n"
             "        up: [ %s/act, up, \"{{version}}\", \"{{digest}}\", \"{{image}}\", \"{{id}}\", \"{{job}}\", "
             "\"{{side}}\", \"{{count}}\", "
             "\"{{deployment}}\" ]\n"
             "        stop: [ %s/act, stop, \"{{ version }}\" ]\n"
             "        start: [ %s/act, start, \"--count={{count}}\" ]\n"
             "        remove: [ %s/act, remove, \"{{id}}\" ]\n"
             "%s",
             allowed, town.dir, town.dir, town.dir, town.dir, town.dir, more);
    write_file("redoubt.yaml", text, 0600);
    town.s.settings = settings_load(path_of("redoubt.yaml"), &r);
    if (!town.s.settings) {
        err_set(e, "%s", r.lines[0]);
        conf_report_free(&r);
        return -1;
    }
    conf_report_free(&r);
    town.x = executor_exec.open(&town.s, CONF_AT(town.s.settings->rollback.deployments, struct set_deployment, 0), e);
    return town.x ? 0 : -1;
}

static void open_usual(const char *more)
{
    char allowed[2200];
    struct err e = {""};
    snprintf(allowed, sizeof allowed, "%s, %s", path_of("view"), path_of("act"));
    if (open_executor(allowed, more, &e))
        fail_msg("%s", e.text);
}

static int open_town(void **state)
{
    (void)state;
    char text[2200];
    signal(SIGPIPE, SIG_IGN);
    log_init("redoubt", LOG_LEVEL_ERROR, LOG_FORMAT_LOGFMT);
    town.h = harness_open();
    town.dir = harness_dir(town.h);
    assert_int_equal(loop_init(&town.s.loop), 0);
    snprintf(text, sizeof text, "#!/bin/sh\ncat '%s/world'\n", town.dir);
    write_file("view", text, 0700);
    snprintf(text, sizeof text,
             "#!/bin/sh\nprintf '%%s\\n' \"$@\" > '%s/args'\ncat > '%s/input'\necho done with $1\n[ -e '%s/code' ] "
             "&& { echo because >&2; exit $(cat "
             "'%s/code'); }\n[ ! -e '%s/hang' ] || sleep 300\nexit 0\n",
             town.dir, town.dir, town.dir, town.dir, town.dir);
    write_file("act", text, 0700);
    return 0;
}

static int close_town(void **state)
{
    (void)state;
    close_executor();
    loop_done(&town.s.loop);
    harness_close(town.h);
    return 0;
}

static void what_stands_is_seen(void **state)
{
    (void)state;
    open_usual("");
    write_file("world",
               "{\"versions\": [{\"name\": \"v2\", \"digest\": \"sha256:2\", \"image\": \"agent:v2\", \"schema\": 4, "
               "\"spec\": {\"memory\": \"1g\"}}],\n"
               " \"instances\": [{\"handle\": \"a1\", \"version\": \"v2\", \"address\": \"127.0.0.1:8080\", "
               "\"running\": true, \"ready\": true}]}\n",
               0600);
    struct seen s = view();
    assert_true(s.ok);
    assert_int_equal(s.n, 1);
    assert_int_equal(s.n_versions, 1);
    assert_string_equal(s.first.version, s.version.id);
    assert_string_equal(s.first.address, "127.0.0.1:8080");
    assert_string_equal(s.version.name, "v2");
    assert_string_equal(s.spec, "{\"memory\":\"1g\"}");
    write_file("world", "{\"versions\": []}", 0600);
    s = view();
    assert_false(s.ok);
    assert_true(s.lasting);
    assert_non_null(strstr(s.text, "what exec.view of deployment agent prints cannot be used"));
    assert_int_equal(s.n, 0);
}

static void orders_reach_the_programs(void **state)
{
    (void)state;
    open_usual("");
    struct seen s = act(executor_exec.up);
    assert_true(s.ok);
    assert_string_equal(s.text, "done with up");
    assert_string_equal(read_file("args"),
                        "up\nv1; touch evil\nsha256:1\nagent:v1\n0123456789abcdef\njob-1\n1\n3\nagent\n");
    assert_string_equal(read_file("input"), "{\"a\":1}");
    s = act(executor_exec.stop);
    assert_true(s.ok);
    assert_string_equal(read_file("args"), "stop\nv1; touch evil\n");
    assert_string_equal(read_file("input"), "");
    assert_true(act(executor_exec.start).ok);
    assert_string_equal(read_file("args"), "start\n--count=3\n");
    assert_true(act(executor_exec.remove).ok);
    assert_string_equal(read_file("args"), "remove\n0123456789abcdef\n");
    assert_int_not_equal(access(path_of("evil"), F_OK), 0);
    /* What need not be set is nothing to do, but for a run. */
    unlink(path_of("args"));
    assert_true(act(executor_exec.check).ok);
    assert_true(act(executor_exec.settle).ok);
    s = (struct seen){0};
    executor_exec.keep(town.x, &order, true, on_result, &s);
    await(&s);
    assert_true(s.ok);
    s = (struct seen){0};
    executor_exec.run(town.x, &order, (const char *const[]){"migrate", NULL}, on_result, &s);
    await(&s);
    assert_false(s.ok);
    assert_true(s.lasting);
    assert_non_null(strstr(s.text, "exec.run is not set"));
    assert_int_not_equal(access(path_of("args"), F_OK), 0);
    char more[3000];
    snprintf(more, sizeof more,
             "        check: [ %s, check ]\n        keep: [ %s, keep, \"{{keep}}\" ]\n        run: [ %s, run, "
             "\"{{version}}\" ]\n",
             path_of("act"), path_of("act"), path_of("act"));
    open_usual(more);
    assert_true(act(executor_exec.check).ok);
    assert_string_equal(read_file("input"), "{\"a\":1}");
    s = (struct seen){0};
    executor_exec.keep(town.x, &order, false, on_result, &s);
    await(&s);
    assert_string_equal(read_file("args"), "keep\nfalse\n");
    s = (struct seen){0};
    executor_exec.run(town.x, &order, (const char *const[]){"migrate", "--to=\"3\"", NULL}, on_result, &s);
    await(&s);
    assert_true(s.ok);
    assert_string_equal(read_file("input"), "[\"migrate\",\"--to=\\\"3\\\"\"]");
}

static void failures_say_whether_they_last(void **state)
{
    (void)state;
    static const struct {
        const char *code;
        bool lasting;
        const char *text;
    } rows[] = {
        {"1", true, "exec.up of deployment agent ended with 1: done with up|because"},
        {"75", false, "exec.up of deployment agent ended with 75"},
        {"255", true, "ended with 255"},
    };
    open_usual("        timeout: 300ms\n");
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        CONF_AT(town.s.settings->rollback.deployments, struct set_deployment, 0)->exec.timeout_ms = 20000;
        write_file("code", rows[i].code, 0600);
        struct seen s = act(executor_exec.up);
        assert_false(s.ok);
        assert_int_equal(s.lasting, rows[i].lasting);
        assert_non_null(strstr(s.text, rows[i].text));
    }
    unlink(path_of("code"));
    write_file("hang", "", 0600);
    CONF_AT(town.s.settings->rollback.deployments, struct set_deployment, 0)->exec.timeout_ms = 300;
    struct seen s = act(executor_exec.up);
    assert_false(s.ok || s.lasting);
    assert_non_null(strstr(s.text, "had not ended after 300 ms"));
    CONF_AT(town.s.settings->rollback.deployments, struct set_deployment, 0)->exec.timeout_ms = 20000;
    /* Closed in the middle: no answer comes any more. */
    struct seen never = {0}, too = {0};
    unlink(path_of("args"));
    executor_exec.up(town.x, &order, on_result, &never);
    executor_exec.settle(town.x, &order, on_result, &too);
    bool no = false;
    for (int i = 0; i < 2000 && access(path_of("args"), F_OK) != 0; i++)
        loop_run_until(&town.s.loop, &no, 5);
    executor_exec.settle(town.x, &order, on_result, &(struct seen){0});
    close_executor();
    loop_run_until(&town.s.loop, &no, 50);
    assert_false(never.came);
    unlink(path_of("hang"));
    open_usual("");
    assert_int_equal(chmod(path_of("act"), 0720), 0);
    s = act(executor_exec.up);
    assert_false(s.ok);
    assert_true(s.lasting);
    assert_non_null(strstr(s.text, "may write it"));
    assert_int_equal(chmod(path_of("act"), 0700), 0);
    /* A value that a program would take for an option. */
    struct executor_order evil = order;
    evil.name = "--force";
    s = (struct seen){0};
    executor_exec.stop(town.x, &evil, on_result, &s);
    await(&s);
    assert_false(s.ok);
    assert_true(s.lasting);
    assert_non_null(strstr(s.text, "would be taken for an option"));
}

static void settings_that_do_not_fit_are_refused(void **state)
{
    (void)state;
    struct err e = {""};
    assert_int_equal(open_executor(path_of("view"), "", &e), -1);
    assert_non_null(strstr(e.text, "not among rollback.exec_allowed"));
    char allowed[2200], more[1200];
    snprintf(allowed, sizeof allowed, "%s, %s", path_of("view"), path_of("act"));
    snprintf(more, sizeof more, "        check: [ %s, \"{{versoin}}\" ]\n", path_of("act"));
    assert_int_equal(open_executor(allowed, more, &e), -1);
    assert_non_null(strstr(e.text, "there is no {{versoin}}"));
    assert_string_equal(executor_exec.name, "exec");
    assert_true(executor_exec.gradual);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_stands_is_seen),
        cmocka_unit_test(orders_reach_the_programs),
        cmocka_unit_test(failures_say_whether_they_last),
        cmocka_unit_test(settings_that_do_not_fit_are_refused),
    };
    return cmocka_run_group_tests(tests, open_town, close_town);
}
