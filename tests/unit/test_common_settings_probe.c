/* test_common_settings_probe.c - what a probe expects is checked at `config check`: every wrong setting is named, with its place. */
#include "common/settings.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static struct settings *parse(const char *probe, struct conf_report *r)
{
    char text[4096];
    int n = snprintf(text, sizeof text, "targets: [{name: x, kind: other, probe: {%s}}]\n", probe);
    *r = (struct conf_report){0};
    return conf_parse(&settings_schema, "s.yaml", text, (size_t)n, r);
}

static void right_settings_pass(void **state)
{
    static const char *const right[] = {
        "type: http, url: 'https://h/x', method: POST, body: '{}', headers: ['A: b', 'C:'], expect: '^a', reject: "
        "'b$', "
        "expect_headers: ['X: ^y$'], expect_json: [{path: '$.a[0]', equals: 1}, {path: '$.b', matches: x}, {path: "
        "$}], "
        "tls_ca_file: /dev/null, tls_cert_file: /dev/null, tls_key_file: /dev/null, tls_expiry: 7d",
        "type: http, url: 'http://h', method: HEAD",
        "type: tcp, url: 'tcp://h:1', send: 'a\\r\\n\\x00', expect: '\\xff'",
        "type: tcp, url: 'tcp://[::1]:65535'",
        "type: tcp, url: 'tcp://h:1/'",
        "type: tls, url: 'tcp://h:443', tls_name: www.example.org",
        "type: dns, query: www.example.org., server: '[::1]:53', record: TXT, expect: v=spf1",
        "type: dns, query: ., server: 10.0.0.1, record: NS",
        "type: dns, query: _a._tcp.example.org, server: '10.0.0.1:5353', record: SRV",
    };
    (void)state;
    for (size_t i = 0; i < sizeof right / sizeof *right; i++) {
        struct conf_report r;
        struct settings *s = parse(right[i], &r);
        for (size_t k = 0; k < r.n; k++)
            print_message("%s\n", r.lines[k]);
        assert_non_null(s);
        assert_true(settings_probe_same(&CONF_AT(s->targets, struct set_target, 0)->probe,
                                        &CONF_AT(s->targets, struct set_target, 0)->probe));
        settings_free(s);
        conf_report_free(&r);
    }
}

static void wrong_settings_are_named(void **state)
{
    static const struct {
        const char *probe, *line;
    } wrong[] = {
        {"type: http, url: 'http://h', expect: 'a('", "expect: is no pattern: missing closing parenthesis, at"},
        {"type: http, url: 'http://h', reject: '[a'", "reject: is no pattern: missing terminating ]"},
        {"type: http, url: 'http://h', headers: ['A: b', 'no colon']", "headers[1]: found another form"},
        {"type: http, url: 'http://h', headers: [\"A: b\\r\\nC: d\"]",
         "headers[0]: found ***: byte 4 is a control character"},
        {"type: http, url: 'http://h', expect_headers: ['x']",
         "expect_headers[0]: found `x`; allowed: `Name: pattern`"},
        {"type: http, url: 'http://h', expect_headers: ['X: *']", "expect_headers[0]: is no pattern"},
        {"type: http, url: 'http://h', expect_json: [{path: '$.a'}, {path: '$..b'}]",
         "expect_json[1].path: is no JSONPath of one value: a path leads to one value: .. is not allowed"},
        {"type: http, url: 'http://h', expect_json: [{path: '$.a', matches: '('}]",
         "expect_json[0].matches: is no pattern"},
        {"type: http, url: 'http://h', expect_json: [{path: '$.a', matches: a, equals: b}]",
         "expect_json[0].matches: given together with equals"},
        {"type: http, url: 'http://h', method: get", "method: found `get`; allowed: capital letters"},
        {"type: http, url: 'http://h', method: HEAD, expect: a", "method: HEAD brings no body"},
        {"type: http, url: 'http://h', method: HEAD, body: a", "body: given for the method HEAD"},
        {"type: http, url: 'http://h', tls_ca_file: ca.pem",
         "tls_ca_file: found `ca.pem`; allowed: an absolute path"},
        {"type: http, url: 'http://h', tls_ca_file: /no/such.pem",
         "tls_ca_file: `/no/such.pem` cannot be read: No such"},
        {"type: http, url: 'http://h', tls_key_file: /dev/null", "tls_cert_file: is missing"},
        {"type: tcp, url: 'tcp://h:1', send: 'a\\q'", "send: an unknown escape at character 2"},
        {"type: tcp, url: 'tcp://h:1', expect: '(*UTF)a'", "expect: is no pattern"},
        {"type: tcp, url: 'tcp://h'", "url: found no port"},
        {"type: tcp, url: 'tcp://[::1]'", "url: found no port"},
        {"type: tcp, url: 'tcp://h:0'", "url: found another form"},
        {"type: tls, url: 'tcp://u@h:1'", "url: found another form"},
        {"type: tls, url: 'https://h:1'", "url: found another form; allowed for a probe of type tls"},
        {"type: tls, url: 'tcp://h:1', tls_name: 'a b'", "tls_name: found `a b`"},
        {"type: log, path: /a, patterns: [{match: ok}, {match: '['}]", "patterns[1].match: is no pattern"},
        {"type: dns", "query: required"},
        {"type: dns, query: 'a..b'", "query: found `a..b`"},
        {"type: dns, query: 'a b'", "query: found `a b`"},
        {"type: dns, query: a, server: ns.example.org", "server: found `ns.example.org`; allowed: an address"},
        {"type: dns, query: a, server: '10.0.0.1:0'", "server: found `10.0.0.1:0`"},
        {"type: dns, query: a, server: '10.0.0.256'", "server: found `10.0.0.256`"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        struct conf_report r;
        struct settings *s = parse(wrong[i].probe, &r);
        const char *place = "s.yaml:1: targets[0].probe.";
        bool ok = !s && r.n == 1 && strncmp(r.lines[0], place, strlen(place)) == 0 &&
                  strncmp(r.lines[0] + strlen(place), wrong[i].line, strlen(wrong[i].line)) == 0;
        if (!ok) {
            print_message("expected: %s%s\n", place, wrong[i].line);
            for (size_t k = 0; k < r.n; k++)
                print_message("got:      %s\n", r.lines[k]);
        }
        assert_true(ok);
        conf_report_free(&r);
    }
    /* All of them at once, and no value of a header is shown. */
    struct conf_report r;
    assert_null(
        parse("type: http, url: 'http://h', expect: '(', reject: '(', headers: [s3cret], expect_headers: ['A: ('], "
              "expect_json: [{path: a, matches: '('}], send: '\\', tls_ca_file: a, tls_cert_file: b",
              &r));
    assert_int_equal(r.n, 9);
    for (size_t k = 0; k < r.n; k++)
        assert_null(strstr(r.lines[k], "s3cret"));
    conf_report_free(&r);
}

static void a_change_is_seen(void **state)
{
    static const char *const others[] = {"expect: b",
                                         "expect: a, reject: c",
                                         "expect: a, headers: ['A: b']",
                                         "expect: a, expect_json: [{path: '$.a'}]",
                                         "expect: a, timeout: 1s",
                                         "expect: a, tls_verify: false",
                                         "expect: a, method: POST"};
    (void)state;
    struct conf_report r;
    struct settings *was = parse("type: http, url: 'http://h', expect: a", &r);
    struct settings *same = parse("type: http, url: 'http://h', expect: a", &r);
    const struct set_probe *p = &CONF_AT(was->targets, struct set_target, 0)->probe;
    assert_true(settings_probe_same(p, &CONF_AT(same->targets, struct set_target, 0)->probe));
    settings_free(same);
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        char text[256];
        snprintf(text, sizeof text, "type: http, url: 'http://h', %s", others[i]);
        struct settings *now = parse(text, &r);
        assert_non_null(now);
        assert_false(settings_probe_same(p, &CONF_AT(now->targets, struct set_target, 0)->probe));
        settings_free(now);
    }
    settings_free(was);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(right_settings_pass),
        cmocka_unit_test(wrong_settings_are_named),
        cmocka_unit_test(a_change_is_seen),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
