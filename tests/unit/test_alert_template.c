/* test_alert_template.c - jq programs that make bodies: right ones, wrong ones, ones that fail, and what they may not. */
#include "alert/alert_json.h"
#include "alert/alert_template.h"
#include <jansson.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static char *run(const char *program, const char *json, bool *ret_json, struct err *e)
{
    struct alert_template *t = alert_template_new(program, e);
    size_t len = 0;
    if (!t)
        return NULL;
    char *body = alert_template_run(t, json, strlen(json), &len, ret_json, e);
    if (body)
        assert_int_equal(body[len], 0);
    alert_template_free(t);
    return body;
}

#define MESSAGE                                                                                                      \
    "{\"title\":\"[HIGH] größer ☂ \\u0001\",\"severity\":\"HIGH\",\"alerts\":[{\"summary\":\"s\",\"labels\":"    \
    "[{\"key\":\"region\",\"value\":\"eu\"}]}]}"

static void good_ones(void **state)
{
    (void)state;
    static const struct {
        const char *program, *body;
        bool json;
    } rows[] = {
        {".title", "[HIGH] größer ☂ \001", false},
        {"\"\"", "", false},
        {"{text: .title}", "{\"text\":\"[HIGH] größer ☂ \\u0001\"}", true},
        {".alerts | length", "1", true},
        {"[.alerts[] | .labels | from_entries | .region]", "[\"eu\"]", true},
        {"# a comment\n  {a: 1,\n   b: \"\\(.severity|ascii_downcase)\"}", "{\"a\":1,\"b\":\"high\"}", true},
        {"def f(x): x + 1; f(.alerts|length)", "2", true},
        {"{(\"import\"): .severity, include: 1}", "{\"import\":\"HIGH\",\"include\":1}", true},
        {"false", "false", true},
        {"\"\\u0000\" | length", "1", true},
        {"@html \"<b>\\(.severity)</b>\"", "<b>HIGH</b>", false},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct err e = {""};
        bool json = !rows[i].json;
        char *body = run(rows[i].program, MESSAGE, &json, &e);
        if (!body)
            fail_msg("%s: %s", rows[i].program, e.text);
        assert_string_equal(body, rows[i].body);
        assert_int_equal(json, rows[i].json);
        free(body);
    }
}

/* The same program again and again, also after it has failed. */
static void again_and_again(void **state)
{
    (void)state;
    struct err e = {""};
    struct alert_template *t = alert_template_new(".a | ascii_upcase", &e);
    assert_non_null(t);
    for (int i = 0; i < 100; i++) {
        size_t len = 0;
        bool json;
        char *body = alert_template_run(t, "{\"a\":\"x\"}", 9, &len, &json, &e);
        assert_non_null(body);
        assert_string_equal(body, "X");
        free(body);
        assert_null(alert_template_run(t, "{\"a\":1}", 7, &len, &json, &e));
        assert_non_null(strstr(e.text, "it fails: "));
        assert_null(alert_template_run(t, "{\"a\":", 5, &len, &json, &e));
        assert_string_equal(e.text, "the message is no JSON");
    }
    alert_template_free(t);
    alert_template_free(NULL);
}

static void wrong_programs(void **state)
{
    (void)state;
    static const struct {
        const char *program, *says;
    } rows[] = {
        {"{text: .title", "line 1"},
        {".a |\n\n nosuch(1)", "nosuch/1 is not defined"},
        {".a | $nosuch", "$nosuch is not defined, line 1"},
        {"import \"x\" as x; x::f", "modules are not there"},
        {"include \"x\"; .", "modules are not there"},
        {" # no\n\timport \"/etc/passwd\" as $p; $p", "modules are not there"},
        {"module {}; import \"a\" as a; .", "modules are not there"},
        {"}{", "line 1"},
        {"\"\\(", "line 1"},
        {"\xff\xfe", ""},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct err e = {""};
        if (alert_template_try(rows[i].program, &e) == 0)
            fail_msg("%s: taken", rows[i].program);
        if (!strstr(e.text, rows[i].says))
            fail_msg("%s: %s", rows[i].program, e.text);
        assert_true(e.text[0]);
        assert_null(strchr(e.text, '\n'));
        assert_null(strstr(e.text, "jq:"));
    }
}

static void what_they_cannot(void **state)
{
    (void)state;
    static const struct {
        const char *program, *says;
    } rows[] = {
        {".title + 1", "it fails: "},
        {"error(\"no\\nway\")", "it fails: no way"},
        {"error({a: 1})", "it fails: {\"a\":1}"},
        {"empty", "it gives no value"},
        {".nothing", "it gives null"},
        {".title, .severity", "more than one value"},
        {"range(infinite)", "more than one value"},
        {".title, error(\"late\")", "it fails: late"},
        {"input", "it fails"},
        {"[inputs] | length | . + 0 | if . == 0 then error(\"none\") else . end", "it fails"},
        {"input_filename | if . == null then error(\"none\") else . end", "it fails: none"},
        {"\"x\" * 70000", "at most 65536"},
        {"[range(40000)]", "at most 65536"},
        {"halt", "it halts"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct err e = {""};
        bool json;
        char *body = run(rows[i].program, MESSAGE, &json, &e);
        if (body)
            fail_msg("%s: gives %s", rows[i].program, body);
        if (!strstr(e.text, rows[i].says))
            fail_msg("%s: %s", rows[i].program, e.text);
    }
    /* The largest there may be. */
    struct err e = {""};
    bool json;
    char *body = run("\"é\" * 32768", MESSAGE, &json, &e);
    assert_non_null(body);
    assert_int_equal(strlen(body), ALERT_TEMPLATE_OUT_MAX);
    free(body);
}

/* Whatever is thrown at the compiler in the check of settings, the service lives. */
static void nothing_breaks_the_compiler(void **state)
{
    (void)state;
    static const char *const pieces[] = {"[",       "{", "(",    "\"\\(",   ".[", "if ",
                                         "def f: ", "-", "try ", "reduce ", "|",  "."};
    for (size_t i = 0; i < sizeof pieces / sizeof *pieces; i++) {
        char *program = calloc(1, 16384 + 16);
        struct err e = {""};
        for (size_t n = strlen(pieces[i]), at = 0; at + n <= 16384; at += n)
            memcpy(program + at, pieces[i], n);
        assert_true(alert_template_try(program, &e) == 0 || e.text[0]);
        free(program);
    }
    /* Deep, and closed again. */
    char deep[16384 + 1];
    memset(deep, '[', 8192);
    memset(deep + 8192, ']', 8192);
    deep[16384] = 0;
    struct err e = {""};
    assert_true(alert_template_try(deep, &e) == 0 || e.text[0]);
    /* A constant that would be made when it is compiled. */
    assert_true(alert_template_try("[range(3)] | . as [$a] | {a: $a}", &e) == 0);
}

static void settings_name_the_key(void **state)
{
    (void)state;
    static const char yaml[] =
        "alert:\n"
        "  channels:\n"
        "    - { name: good, type: webhook, url: \"http://127.0.0.1:1/\", template: \"{text}\" }\n"
        "    - { name: bad, type: webhook, url: \"http://127.0.0.1:1/\", template: \"{text: \" }\n"
        "    - { name: none, type: webhook, url: \"http://127.0.0.1:1/\" }\n"
        "    - { name: worse, type: ntfy, url: \"http://127.0.0.1:1/t\", template: \"nosuch\" }\n";
    struct conf_report r = {0};
    struct settings *s = conf_parse(&settings_schema, "x.yaml", yaml, strlen(yaml), &r);
    for (size_t i = 0; i < r.n; i++)
        print_error("%s\n", r.lines[i]);
    assert_non_null(s);
    assert_int_equal(r.n, 0);
    assert_false(alert_template_check(s, &r));
    assert_int_equal(r.n, 2);
    assert_non_null(strstr(r.lines[0], "alert.channels[1].template: "));
    assert_non_null(strstr(r.lines[0], "(channel bad)"));
    assert_non_null(strstr(r.lines[1], "alert.channels[3].template: "));
    assert_non_null(strstr(r.lines[1], "nosuch/0 is not defined"));
    conf_report_free(&r);
    settings_free(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(good_ones),
        cmocka_unit_test(again_and_again),
        cmocka_unit_test(wrong_programs),
        cmocka_unit_test(what_they_cannot),
        cmocka_unit_test(nothing_breaks_the_compiler),
        cmocka_unit_test(settings_name_the_key),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
