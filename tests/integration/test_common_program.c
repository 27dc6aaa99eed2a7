/* test_common_program.c - programs that are run: what they get, what they say, how they end, and what is left of them. */
#include "common/program.h"
#include <errno.h>
#include <fcntl.h>
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

#define WAIT_MS 20000

struct said {
    bool came;
    enum program_end end;
    int code;
    char *out;
    size_t len;
    char err[3000], first[300], text[3000];
};
static struct loop loop;

static void on_done(void *ctx, const struct program_result *r)
{
    struct said *s = ctx;
    assert_false(s->came);
    s->came = true;
    s->end = r->end;
    s->code = r->code;
    free(s->out);
    s->out = malloc(r->out_len + 1);
    memcpy(s->out, r->out, r->out_len + 1);
    s->len = r->out_len;
    assert_true(r->took_ms >= 0);
    snprintf(s->err, sizeof s->err, "%s", r->err);
    snprintf(s->first, sizeof s->first, "%s", r->first);
    snprintf(s->text, sizeof s->text, "%s", r->text);
}

static void run(struct said *s, const char *script, struct program_opts o)
{
    const char *const argv[] = {"/bin/sh", "-c", script, NULL};
    s->came = false;
    if (!o.argv)
        o.argv = argv;
    assert_non_null(program_run(&loop, &o, on_done, s));
    assert_false(s->came); /* later */
    assert_true(loop_run_until(&loop, &s->came, WAIT_MS));
}

/* Gone, or dead and not collected by whoever inherited it. */
static bool dead(int pid)
{
    char path[64], line[256] = "";
    snprintf(path, sizeof path, "/proc/%d/stat", pid);
    FILE *f = fopen(path, "re");
    bool read = f && fgets(line, sizeof line, f);
    if (f)
        fclose(f);
    const char *after = strrchr(line, ')');
    return !read || (after && after[1] && after[2] == 'Z');
}

static bool dies(int pid)
{
    bool never = false;
    assert_true(pid > 1);
    for (int i = 0; i < 1000 && !dead(pid); i++)
        loop_run_until(&loop, &never, 10);
    return dead(pid);
}

static void it_gets_what_it_should_and_no_more(void **state)
{
    (void)state;
    struct said s = {0};
    setenv("SECRET_OF_OURS", "x", 1);
    int fd = open("/dev/null", O_RDONLY); /* not closed on exec: the child must not have it */
    const char *const env[] = {"ONE=1", "TWO=a b", NULL};
    const char *const argv[] = {"/usr/bin/env", NULL};
    run(&s, NULL, (struct program_opts){.argv = argv, .env = env});
    assert_string_equal(
        s.out, "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\nLANG=C.UTF-8\nONE=1\nTWO=a b\n");
    assert_int_equal(s.end, PROGRAM_EXITED);
    assert_int_equal(s.code, 0);
    assert_string_equal(s.text, "ended with 0");
    run(&s,
        "ls /proc/self/fd | wc -l; pwd; read pid name state parent group more < /proc/$$/stat; test $group = $$ && "
        "echo own; read x || echo no input",
        (struct program_opts){0});
    assert_string_equal(s.out, "4\n/\nown\nno input\n"); /* three, and that of ls itself */
    const char *const odd[] = {"/bin/echo", "$HOME; `x` *", "", "\xff", NULL};
    run(&s, NULL, (struct program_opts){.argv = odd});
    assert_string_equal(s.out, "$HOME; `x` *  \xff\n");
    close(fd);
    free(s.out);
}

static void input_of_any_size_need_not_be_read(void **state)
{
    (void)state;
    struct said s = {0};
    size_t n = 3 << 20;
    char *big = malloc(n);
    for (size_t i = 0; i < n; i++)
        big[i] = (char)('a' + i % 26);
    run(&s, "cat", (struct program_opts){.input = big, .input_len = n, .max_output = n});
    assert_int_equal(s.len, n);
    assert_memory_equal(s.out, big, n);
    run(&s, "exit 0", (struct program_opts){.input = big, .input_len = n});
    assert_int_equal(s.end, PROGRAM_EXITED);
    run(&s, "exec <&-; echo x", (struct program_opts){.input = big, .input_len = n});
    assert_string_equal(s.out, "x\n");
    run(&s, "wc -c", (struct program_opts){.input = "", .input_len = 0});
    assert_int_equal(atoi(s.out), 0);
    free(big);
    free(s.out);
}

static void how_it_ends_is_told(void **state)
{
    (void)state;
    static const struct {
        const char *script;
        struct program_opts o;
        enum program_end end;
        int code;
        const char *out, *err, *first, *text;
    } rows[] = {
        {"echo out; echo no such >&2; echo thing >&2; exit 3",
         {0},
         PROGRAM_EXITED,
         3,
         "out\n",
         "no such|thing",
         "no such",
         "ended with 3: no such|thing"},
        {"kill -9 $$", {0}, PROGRAM_SIGNALLED, 9, "", "", "", "ended by signal 9"},
        {"printf '\\n\\na\\377\\001b\\303\\251\\n\\n' >&2; exit 255",
         {0},
         PROGRAM_EXITED,
         255,
         "",
         "||a  b\xc3\xa9",
         "a\xff\x01"
         "b\xc3\xa9",
         "ended with 255: ||a  b\xc3\xa9"},
        {"sleep 300",
         {.timeout_ms = 200},
         PROGRAM_TIMEOUT,
         9,
         "",
         "",
         "",
         "killed, since it had not ended after 200 ms"},
        {"trap '' TERM; echo begun >&2; while :; do sleep 1; done",
         {.timeout_ms = 1000},
         PROGRAM_TIMEOUT,
         9,
         "",
         "begun",
         "begun",
         "killed, since it had not ended after 1000 ms: begun"},
        {"printf 12345", {.max_output = 5}, PROGRAM_EXITED, 0, "12345", "", "", "ended with 0"},
        {"printf 123456; sleep 300",
         {.max_output = 5},
         PROGRAM_TOO_MUCH,
         9,
         "",
         "",
         "",
         "killed, since it said more than 5 bytes"},
        {"printf 123456; exit 4", {.max_output = 5, .cut = true}, PROGRAM_EXITED, 4, "12345", "", "", "ended with 4"},
        {"echo a; echo b >&2; exit 5", {.merge = true}, PROGRAM_EXITED, 5, "", NULL, NULL, NULL},
    };
    struct said s = {0};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        run(&s, rows[i].script, rows[i].o);
        assert_int_equal(s.end, rows[i].end);
        assert_int_equal(s.code, rows[i].code);
        assert_string_equal(s.out, rows[i].out);
        if (rows[i].err) {
            assert_string_equal(s.err, rows[i].err);
            assert_string_equal(s.first, rows[i].first);
            assert_string_equal(s.text, rows[i].text);
        } else {
            assert_true(strcmp(s.err, "a|b") == 0 || strcmp(s.err, "b|a") == 0);
        }
    }
    /* Of what is complained of at length, the end, from the begin of a character on. */
    run(&s, "i=0; while [ $i -lt 3000 ]; do printf '\\303\\251'; i=$((i+1)); done >&2; echo end >&2; exit 1",
        (struct program_opts){0});
    assert_true(strlen(s.err) > 2000 && strlen(s.err) <= 2048);
    assert_memory_equal(s.err, "\xc3\xa9", 2);
    assert_string_equal(s.err + strlen(s.err) - 3, "end");
    free(s.out);
}

static void what_cannot_be_run_is_told_as_well(void **state)
{
    (void)state;
    static const struct {
        const char *program, *text;
    } rows[] = {
        {"/nowhere/it", "No such file"},
        {"sh", "not an absolute one"},
        {"/tmp", "it is not a program"},
        {"/etc/passwd", "it is not a program"},
    };
    struct said s = {0};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        const char *const argv[] = {rows[i].program, NULL};
        run(&s, NULL, (struct program_opts){.argv = argv});
        assert_int_equal(s.end, PROGRAM_NOT_STARTED);
        assert_non_null(strstr(s.text, rows[i].text));
        assert_non_null(strstr(s.text, rows[i].program));
    }
    /* One that others may write, and one that the kernel cannot run. */
    char path[] = "/tmp/redoubt-program-XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, "#!/nowhere/sh\n", 14), 14);
    close(fd);
    const char *const argv[] = {path, NULL};
    assert_int_equal(chmod(path, 0702), 0);
    run(&s, NULL, (struct program_opts){.argv = argv});
    assert_int_equal(s.end, PROGRAM_NOT_STARTED);
    assert_non_null(strstr(s.text, "may write it"));
    assert_int_equal(chmod(path, 0700), 0);
    run(&s, NULL, (struct program_opts){.argv = argv});
    assert_int_equal(s.end, PROGRAM_NOT_STARTED);
    assert_non_null(strstr(s.text, "cannot be started: "));
    unlink(path);
    free(s.out);
}

static void nothing_is_left_unless_it_may(void **state)
{
    (void)state;
    struct said s = {0};
    run(&s, "sleep 300 & echo $!", (struct program_opts){0}); /* holds the output, too */
    assert_int_equal(s.end, PROGRAM_EXITED);
    assert_true(dies(atoi(s.out)));
    run(&s, "sleep 300 >/dev/null 2>&1 & echo $!", (struct program_opts){.leave = true});
    int left = atoi(s.out);
    assert_false(dead(left));
    assert_int_equal(kill(left, SIGKILL), 0);
    assert_true(dies(left));
    run(&s, "sleep 300 >/dev/null 2>&1 & echo $!; wait", (struct program_opts){.leave = true, .timeout_ms = 300});
    assert_int_equal(s.end, PROGRAM_TIMEOUT);
    assert_true(dies(atoi(s.out)));
    free(s.out);
}

static int start(struct said *s, struct program **p)
{
    const char *const argv[] = {"/bin/sleep", "300", NULL};
    *s = (struct said){0};
    *p = program_run(&loop, &(struct program_opts){.argv = argv}, on_done, s);
    assert_non_null(*p);
    return program_pid(*p);
}

static void it_can_be_called_off(void **state)
{
    (void)state;
    struct said s;
    struct program *p;
    int pid = start(&s, &p);
    program_cancel(p);
    assert_false(s.came);
    assert_true(loop_run_until(&loop, &s.came, WAIT_MS));
    assert_int_equal(s.end, PROGRAM_CANCELLED);
    assert_true(dead(pid));
    free(s.out);
    pid = start(&s, &p);
    program_drop(p, true);
    assert_int_equal(kill(pid, 0), -1); /* not even a zombie */
    assert_int_equal(errno, ESRCH);
    pid = start(&s, &p);
    program_drop(p, false);
    bool never = false;
    loop_run_until(&loop, &never, 50);
    assert_false(dead(pid));
    assert_int_equal(kill(pid, SIGKILL), 0);
    assert_true(dies(pid));
    /* One that never began. */
    const char *const argv[] = {"/nowhere/it", NULL};
    p = program_run(&loop, &(struct program_opts){.argv = argv}, on_done, &s);
    assert_int_equal(program_pid(p), 0);
    program_drop(p, true);
    loop_run_until(&loop, &never, 50);
    assert_false(s.came);
    p = program_run(&loop, &(struct program_opts){.argv = argv}, on_done, &s);
    program_cancel(p); /* its end comes anyway */
    assert_true(loop_run_until(&loop, &s.came, WAIT_MS));
    assert_int_equal(s.end, PROGRAM_NOT_STARTED);
    free(s.out);
    program_cancel(NULL);
    program_drop(NULL, true);
}

/* The callback may drop what has ended, and start another. */
static struct program *again;
static void on_first(void *ctx, const struct program_result *r)
{
    const char *const argv[] = {"/bin/echo", "second", NULL};
    (void)r;
    program_cancel(again);
    program_drop(again, true);
    again = program_run(&loop, &(struct program_opts){.argv = argv}, on_done, ctx);
}

static void many_at_a_time(void **state)
{
    (void)state;
    struct said s[20] = {0};
    for (int i = 0; i < 20; i++) {
        char script[64];
        snprintf(script, sizeof script, "echo %d; exit %d", i, i);
        const char *const argv[] = {"/bin/sh", "-c", script, NULL};
        assert_non_null(program_run(&loop, &(struct program_opts){.argv = argv}, on_done, &s[i]));
    }
    for (int i = 0; i < 20; i++) {
        assert_true(loop_run_until(&loop, &s[i].came, WAIT_MS));
        assert_int_equal(s[i].code, i);
        assert_int_equal(atoi(s[i].out), i);
        free(s[i].out);
    }
    struct said last = {0};
    const char *const argv[] = {"/bin/true", NULL};
    again = program_run(&loop, &(struct program_opts){.argv = argv}, on_first, &last);
    assert_true(loop_run_until(&loop, &last.came, WAIT_MS));
    assert_string_equal(last.out, "second\n");
    free(last.out);
}

static int open_loop(void **state)
{
    (void)state;
    signal(SIGPIPE, SIG_IGN);
    return loop_init(&loop);
}

static int close_loop(void **state)
{
    (void)state;
    bool never = false;
    loop_run_until(&loop, &never, 10);
    loop_done(&loop);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(it_gets_what_it_should_and_no_more),
        cmocka_unit_test(input_of_any_size_need_not_be_read),
        cmocka_unit_test(how_it_ends_is_told),
        cmocka_unit_test(what_cannot_be_run_is_told_as_well),
        cmocka_unit_test(nothing_is_left_unless_it_may),
        cmocka_unit_test(it_can_be_called_off),
        cmocka_unit_test(many_at_a_time),
    };
    return cmocka_run_group_tests(tests, open_loop, close_loop);
}
