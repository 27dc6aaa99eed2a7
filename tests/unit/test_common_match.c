/* test_common_match.c - patterns with limits, escapes, host:port, header lines: what is right, and everything that is not. */
#include "common/clock.h"
#include "common/escape.h"
#include "common/hostport.h"
#include "common/http.h"
#include "common/match.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static enum match_result run(const char *pattern, enum match_mode mode, const char *subject, size_t len)
{
    struct err e = {""};
    struct match *m = match_compile(pattern, mode, &e);
    if (!m)
        print_message("%s: %s\n", pattern, e.text);
    assert_non_null(m);
    enum match_result r = match_run(m, subject, len);
    assert_true((strcmp(match_why(m), "it matches") == 0) == (r == MATCH_YES));
    match_free(m);
    return r;
}

static void finds_what_is_there(void **state)
{
    static const struct {
        const char *pattern;
        enum match_mode mode;
        const char *subject;
        enum match_result want;
    } cases[] = {
        {"ok", MATCH_TEXT, "all ok", MATCH_YES},           {"^ok$", MATCH_TEXT, "all ok", MATCH_NO},
        {"(?i)OK", MATCH_TEXT, "ok", MATCH_YES},           {"^\\d{3}$", MATCH_TEXT, "200", MATCH_YES},
        {"^.$", MATCH_TEXT, "\xe2\x82\xac", MATCH_YES}, /* one character */
        {"^...$", MATCH_BYTES, "\xe2\x82\xac", MATCH_YES}, {"^\\xff\\xfe", MATCH_BYTES, "\xff\xfe!", MATCH_YES},
        {"b", MATCH_TEXT, "a\xff\xfe b", MATCH_YES}, /* what is no UTF-8 does no harm */
        {"\\xff", MATCH_TEXT, "a\xff", MATCH_NO},          {"", MATCH_TEXT, "", MATCH_YES},
        {"(a)(b)(c)", MATCH_TEXT, "abc", MATCH_YES}, /* groups that nobody asked for */
        {"(?<=x)y", MATCH_TEXT, "xy", MATCH_YES},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        assert_int_equal(run(cases[i].pattern, cases[i].mode, cases[i].subject, strlen(cases[i].subject)),
                         cases[i].want);
    assert_int_equal(run("a\\0b", MATCH_BYTES, "a\0b", 3), MATCH_YES);
    assert_int_equal(run("^$", MATCH_TEXT, NULL, 0), MATCH_YES);
}

static void a_wrong_pattern_says_where(void **state)
{
    static const struct {
        const char *pattern, *says;
    } cases[] = {
        {"a(b", "missing closing parenthesis, at character 4"},
        {"[a", "missing terminating ]"},
        {"*", "at character"},
        {"a\\Cb", "\\C"},
        {"(*NO_SUCH)", "at character"},
        {"\xff", "UTF-8"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct err e = {""};
        assert_null(match_compile(cases[i].pattern, MATCH_TEXT, &e));
        if (!strstr(e.text, cases[i].says))
            print_message("%s\n", e.text);
        assert_non_null(strstr(e.text, cases[i].says));
    }
    struct err e = {""};
    assert_null(match_compile("(*UTF)a", MATCH_BYTES, &e));
    char *longest = malloc(MATCH_PATTERN_MAX + 2);
    memset(longest, 'a', MATCH_PATTERN_MAX + 1);
    longest[MATCH_PATTERN_MAX + 1] = 0;
    assert_null(match_compile(longest, MATCH_TEXT, &e));
    assert_non_null(strstr(e.text, "longer"));
    longest[MATCH_PATTERN_MAX] = 0;
    struct match *m = match_compile(longest, MATCH_TEXT, &e);
    assert_non_null(m);
    match_free(m);
    match_free(NULL);
    free(longest);
}

static void a_costly_match_ends_at_a_limit(void **state)
{
    static const char *const costly[] = {"(a+)+$",        "(a|aa)+$",          "(.*)*(.*)*[bc]{2}$",
                                         "^(\\w+\\s?)*$", "(a?){40}a{40}[bc]", "(a*)*\\1[cd]"};
    char subject[64];
    (void)state;
    memset(subject, 'a', sizeof subject);
    subject[sizeof subject - 1] = '!';
    for (size_t i = 0; i < sizeof costly / sizeof *costly; i++) {
        int64_t began_ms = clock_mono_ms();
        struct match *m = match_compile(costly[i], MATCH_TEXT, NULL);
        assert_non_null(m);
        enum match_result r = match_run(m, subject, sizeof subject);
        if (r != MATCH_LIMIT)
            print_message("%s: %s\n", costly[i], match_why(m));
        assert_int_equal(r, MATCH_LIMIT);
        assert_non_null(strstr(match_why(m), "limit"));
        assert_true(clock_mono_ms() - began_ms < 5000); /* some milliseconds; without limits it would be hours */
        assert_int_not_equal(match_run(m, "ab", 2), MATCH_LIMIT); /* and the next one is as good as ever */
        match_free(m);
    }
    struct match *deep = match_compile("(a(?1)?)", MATCH_TEXT, NULL);
    char *much = malloc(MATCH_SUBJECT_MAX);
    memset(much, 'a', MATCH_SUBJECT_MAX);
    assert_int_equal(match_run(deep, much, MATCH_SUBJECT_MAX), MATCH_LIMIT); /* depth or memory, not the stack */
    match_free(deep);
    free(much);
}

static void long_subjects_are_read_to_their_end(void **state)
{
    (void)state;
    char *much = malloc(MATCH_SUBJECT_MAX + 16);
    memset(much, 'x', MATCH_SUBJECT_MAX + 16);
    memcpy(much + MATCH_SUBJECT_MAX - 4, "good", 4);
    memcpy(much + MATCH_SUBJECT_MAX, "late", 4);
    assert_int_equal(run("good", MATCH_TEXT, much, MATCH_SUBJECT_MAX + 16), MATCH_YES);
    assert_int_equal(run("[a-w]ood", MATCH_TEXT, much, MATCH_SUBJECT_MAX + 16), MATCH_YES);
    assert_int_equal(run("late", MATCH_TEXT, much, MATCH_SUBJECT_MAX + 16), MATCH_NO); /* past what is looked at */
    free(much);
}

static void escapes_become_bytes(void **state)
{
    char out[64];
    size_t n = 99;
    struct err e = {""};
    (void)state;
    assert_int_equal(escape_decode("PING\\r\\n\\t\\\\\\x00\\xFf.", out, &n, &e), 0);
    assert_int_equal(n, 11);
    assert_memory_equal(out, "PING\r\n\t\\\0\xff.", 11);
    assert_int_equal(escape_decode("", out, &n, &e), 0);
    assert_int_equal(n, 0);
    static const char *const wrong[] = {"a\\", "a\\q", "a\\x", "a\\x1", "a\\xg1", "a\\0"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        assert_int_equal(escape_decode(wrong[i], NULL, NULL, &e), -1);
        assert_non_null(strstr(e.text, "at character 2"));
    }
}

static void hosts_and_ports_are_split(void **state)
{
    static const struct {
        const char *text;
        int usual;
        const char *host; /* NULL = wrong */
        int port;
    } cases[] = {
        {"h:1", 0, "h", 1},
        {"h:65535", 0, "h", 65535},
        {"[::1]:53", 0, "::1", 53},
        {"h", 53, "h", 53},
        {"::1", 53, "::1", 53},
        {"[::1]", 53, "::1", 53},
        {"10.0.0.1:5353", 53, "10.0.0.1", 5353},
        {"h", 0, NULL, 0},
        {"h:", 53, NULL, 0},
        {"h:0", 53, NULL, 0},
        {"h:65536", 53, NULL, 0},
        {"h:123456", 53, NULL, 0},
        {"h:1x", 53, NULL, 0},
        {":1", 53, NULL, 0},
        {"", 53, NULL, 0},
        {"[::1", 53, NULL, 0},
        {"[]:5", 53, NULL, 0},
        {"[::1]5", 53, NULL, 0},
        {"::1", 0, NULL, 0},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char host[HOSTPORT_HOST_MAX];
        int port = -1, rc = hostport_split(cases[i].text, cases[i].usual, host, &port);
        assert_int_equal(rc, cases[i].host ? 0 : -1);
        if (rc == 0) {
            assert_string_equal(host, cases[i].host);
            assert_int_equal(port, cases[i].port);
        }
    }
    char longest[400], host[HOSTPORT_HOST_MAX];
    int port;
    memset(longest, 'a', sizeof longest);
    longest[sizeof longest - 1] = 0;
    assert_int_equal(hostport_split(longest, 53, host, &port), -1);
}

static void header_lines_are_split(void **state)
{
    size_t n;
    const char *value;
    (void)state;
    assert_true(http_header_split("X-Key:  a b", &n, &value));
    assert_int_equal(n, 5);
    assert_string_equal(value, "a b");
    assert_true(http_header_split("X:", &n, &value));
    assert_string_equal(value, "");
    static const char *const wrong[] = {"", ":", "a", "a b: c", " a: c", "a: b\r\nc: d", "a: \x7f", "\xc3\xa9: x"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        assert_false(http_header_split(wrong[i], &n, &value));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(finds_what_is_there),
        cmocka_unit_test(a_wrong_pattern_says_where),
        cmocka_unit_test(a_costly_match_ends_at_a_limit),
        cmocka_unit_test(long_subjects_are_read_to_their_end),
        cmocka_unit_test(escapes_become_bytes),
        cmocka_unit_test(hosts_and_ports_are_split),
        cmocka_unit_test(header_lines_are_split),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
