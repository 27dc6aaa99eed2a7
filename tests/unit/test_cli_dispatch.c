/* test_cli_dispatch.c - the command line: rows are found, options filled in, wrong usage refused with exit code 2. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "cli/cli.h"

struct opts {
    bool flag;
    const char *text;
    int64_t number, time_ms;
};
static const struct opts defaults = {.text = "as it was", .number = 7};
static const struct cli_opt opts_rows[] = {
    {"flag", 'f', CLI_FLAG, NULL, offsetof(struct opts, flag), 0, 0, "a flag"},
    {"text", 't', CLI_TEXT, "TEXT", offsetof(struct opts, text), 0, 0, "a text"},
    {"number", 0, CLI_INT, "N", offsetof(struct opts, number), 1, 100, "a number"},
    {"time", 0, CLI_DURATION, "TIME", offsetof(struct opts, time_ms), 1000, 3600000, "a time"},
};

/* What the last run got. */
static struct {
    int runs, argc, raw_argc;
    char first[64], path[64], nats[64], text[64];
    struct opts o;
} got;

static int run(struct cli *c, const void *o, int argc, char **argv)
{
    got.runs++;
    got.argc = argc;
    snprintf(got.first, sizeof got.first, "%s", argc ? argv[0] : "");
    snprintf(got.path, sizeof got.path, "%s", c->row->path);
    snprintf(got.nats, sizeof got.nats, "%s", c->nats_url ? c->nats_url : "");
    if (c->row->opts_size) {
        got.o = *(const struct opts *)o;
        snprintf(got.text, sizeof got.text, "%s", got.o.text);
    }
    return CLI_REFUSED;
}

static int raw(int argc, char **argv)
{
    got.raw_argc = argc;
    snprintf(got.first, sizeof got.first, "%s", argv[argc - 1]);
    return CLI_OK;
}

static const struct cli_row rows[] = {
    {.path = "one",
     .args = "[X]",
     .max_args = 1,
     .summary = "first",
     .connects = true,
     .run = run,
     .opts = opts_rows,
     .n_opts = 4,
     .opts_size = sizeof(struct opts),
     .defaults = &defaults},
    {.path = "two", .summary = "a group"},
    {.path = "two a", .args = "X Y", .min_args = 2, .max_args = 2, .summary = "below", .run = run},
    {.path = "two b", .summary = "raw", .raw = raw},
};

/* Runs `redoubt ...`; the outputs go to files so that tests can read them. */
static char out_text[16384], err_text[16384];

static void slurp(FILE *f, char *buf, size_t size)
{
    rewind(f);
    buf[fread(buf, 1, size - 1, f)] = 0;
    fclose(f);
}

static int cli(const char *line)
{
    char copy[512], *argv[32] = {(char *)"redoubt"};
    int argc = 1;
    snprintf(copy, sizeof copy, "%s", line);
    for (char *save = NULL, *w = strtok_r(copy, " ", &save); w; w = strtok_r(NULL, " ", &save))
        argv[argc++] = w;
    memset(&got, 0, sizeof got);
    fflush(NULL);
    FILE *out = tmpfile(), *err = tmpfile();
    int was_out = dup(1), was_err = dup(2);
    assert_non_null(out);
    assert_non_null(err);
    dup2(fileno(out), 1);
    dup2(fileno(err), 2);
    int code = cli_main(rows, sizeof rows / sizeof rows[0], argc, argv);
    fflush(NULL);
    dup2(was_out, 1);
    dup2(was_err, 2);
    close(was_out);
    close(was_err);
    slurp(out, out_text, sizeof out_text);
    slurp(err, err_text, sizeof err_text);
    return code;
}

static void finds_rows_and_fills_options(void **state)
{
    (void)state;
    assert_int_equal(cli("one"), CLI_REFUSED);
    assert_int_equal(got.runs, 1);
    assert_string_equal(got.path, "one");
    assert_string_equal(got.text, "as it was");
    assert_int_equal(got.o.number, 7);
    assert_int_equal(cli("one x -f -t word --number 100 --time 2m"), CLI_REFUSED);
    assert_string_equal(got.first, "x");
    assert_true(got.o.flag);
    assert_string_equal(got.text, "word");
    assert_int_equal(got.o.number, 100);
    assert_int_equal(got.o.time_ms, 120000);
    /* Options may stand behind arguments, and the bus before the command. */
    assert_int_equal(cli("--nats nats://a:1 one --text=w x"), CLI_REFUSED);
    assert_string_equal(got.nats, "nats://a:1");
    assert_string_equal(got.first, "x");
    assert_int_equal(cli("two a 1 2"), CLI_REFUSED);
    assert_string_equal(got.path, "two a");
    assert_int_equal(got.argc, 2);
    assert_int_equal(cli("two b --whatever 9"), CLI_OK);
    assert_int_equal(got.raw_argc, 3);
    assert_string_equal(got.first, "9");
}

static void refuses_wrong_usage(void **state)
{
    (void)state;
    static const struct {
        const char *line, *says;
    } wrong[] = {
        {"", "usage"},
        {"three", "no command `three`"},
        {"on", "no command"},
        {"two", "usage: redoubt two COMMAND"},
        {"two c", "no command `c`"},
        {"two a 1", "something is missing: X Y"},
        {"two a 1 2 3", "unexpected argument `3`"},
        {"one --nosuch", "try: redoubt help one"},
        {"one --number 0", "allowed: a number from 1 to 100"},
        {"one --number 101", "found `101`"},
        {"one --number 5x", "found `5x`"},
        {"one --number", "try: redoubt help one"},
        {"one --time 5", "time"},
        {"one --time 2parsecs", "time"},
        {"one --time 999ms", "time"},
        {"one --time 2h", "time"},
        {"one --time a:b", "is not a duration"},
        {"two a --nats x 1 2", "try: redoubt help two a"},
        {"--number 3 one", "try: redoubt help"},
        {"help nosuch", "no command `nosuch`"},
        {"help two nosuch", "no command `nosuch`"},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        int code = cli(wrong[i].line);
        if (code != CLI_USAGE || got.runs || !strstr(err_text, wrong[i].says))
            fail_msg("`redoubt %s`: code %d, ran %d times, said:\n%s", wrong[i].line, code, got.runs, err_text);
        assert_string_equal(out_text, "");
    }
}

static void helps_on_every_level(void **state)
{
    (void)state;
    static const struct {
        const char *line, *says;
    } help[] = {
        {"help", "two a|b"},
        {"--help", "usage: redoubt COMMAND"},
        {"-h",
         "exit codes: 0 ok, 1 failed, or not healthy, 2 wrong usage or settings, 3 suite unreachable, 4 refused"},
        {"help one", "-t, --text TEXT"},
        {"one --help", "--nats URL"},
        {"one -h", "exit codes: 0"},
        {"help two", "usage: redoubt two COMMAND"},
        {"two --help", "a X Y"},
        {"two a --help", "usage: redoubt two a X Y [OPTIONS]"},
        {"--version", "redoubt " REDOUBT_VERSION},
    };
    for (size_t i = 0; i < sizeof help / sizeof help[0]; i++) {
        int code = cli(help[i].line);
        if (code != CLI_OK || got.runs || !strstr(out_text, help[i].says))
            fail_msg("`redoubt %s`: code %d, ran %d times, said:\n%s", help[i].line, code, got.runs, out_text);
        assert_string_equal(err_text, "");
    }
    /* A row that reads its own options writes its own help. */
    assert_int_equal(cli("help two b"), CLI_OK);
    assert_string_equal(got.first, "--help");
}

static void spans_read_well(void **state)
{
    (void)state;
    static const struct {
        int64_t ms;
        const char *text;
    } rows_[] = {{-5, "0 ms"},
                 {0, "0 ms"},
                 {999, "999 ms"},
                 {1000, "1.0 s"},
                 {59999, "59.9 s"},
                 {60000, "1 min"},
                 {61000, "1 min 1 s"},
                 {3600000, "1 h"},
                 {15000000, "4 h 10 min"},
                 {86400000, "1 d"},
                 {INT64_MAX, "106751991167 d 7 h"}};
    char buf[64];
    for (size_t i = 0; i < sizeof rows_ / sizeof rows_[0]; i++)
        assert_string_equal(cli_span(rows_[i].ms, buf, sizeof buf), rows_[i].text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(finds_rows_and_fills_options),
        cmocka_unit_test(refuses_wrong_usage),
        cmocka_unit_test(helps_on_every_level),
        cmocka_unit_test(spans_read_well),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
