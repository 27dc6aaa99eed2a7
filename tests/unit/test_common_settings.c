/* test_common_settings.c - the suite's own table: its defaults are the mission's, its rules hold, the example file is right. */
#include "common/conf_impl.h"
#include "common/settings.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static struct settings *parse(const char *text)
{
    struct conf_report r = {0};
    struct settings *s = conf_parse(&settings_schema, "s.yaml", text, strlen(text), &r);
    for (size_t i = 0; i < r.n; i++)
        print_message("%s\n", r.lines[i]);
    assert_non_null(s);
    conf_report_free(&r);
    return s;
}

static void wrong(const char *text, const char *line)
{
    struct conf_report r = {0};
    struct settings *s = conf_parse(&settings_schema, "s.yaml", text, strlen(text), &r);
    if (s || r.n != 1 || strncmp(r.lines[0], line, strlen(line)) != 0) {
        print_message("expected: %s\n", line);
        for (size_t i = 0; i < r.n; i++)
            print_message("got:      %s\n", r.lines[i]);
    }
    assert_null(s);
    assert_int_equal(r.n, 1);
    assert_memory_equal(r.lines[0], line, strlen(line));
    conf_report_free(&r);
}

#define TARGETS                                                                                                      \
    "targets:\n"                                                                                                     \
    "  - {name: llm.a, kind: llm, probe: {type: llm, url: 'http://h/v1', model: m}}\n"                               \
    "  - {name: llm.b, kind: llm}\n"                                                                                 \
    "  - {name: back, kind: backend, probe: {type: http, url: 'http://h/x'}}\n"                                      \
    "  - {name: db, kind: other, probe: {type: tcp, url: 'tcp://h:5'}}\n"
#define AGENT "agents:\n  - name: agent-1\n    chain: [{target: llm.a, model: m}, {target: llm.b}]\n"

static void defaults_are_the_missions(void **state)
{
    (void)state;
    struct settings *s = parse(TARGETS AGENT "    backend: back\n");
    const struct set_target *t = settings_target(s, "llm.a");
    assert_string_equal(s->nats.url, "nats://127.0.0.1:4222");
    assert_int_equal(s->redis.port, 6379);
    assert_int_equal(s->redis.timeout_ms, 1000);
    assert_int_equal(s->log.level, LOG_LEVEL_INFO);
    assert_int_equal(s->log.format, LOG_FORMAT_LOGFMT);
    assert_int_equal(s->tilt_hold_ms, 30000);
    assert_int_equal(t->kind, SET_TARGET_LLM);
    assert_int_equal(t->probe.type, SET_PROBE_LLM);
    assert_int_equal(t->probe.interval_ms, 60000); /* paid */
    assert_int_equal(t->probe.fast_interval_ms, 2000);
    assert_int_equal(t->probe.timeout_ms, 5000);
    assert_int_equal(t->probe.fall, 3);
    assert_int_equal(t->probe.rise, 2);
    assert_int_equal(settings_target(s, "back")->probe.interval_ms, 10000);
    assert_int_equal(settings_target(s, "llm.b")->probe.type, SET_PROBE_NONE);
    assert_int_equal(t->breaker.window_ms, 30000);
    assert_int_equal(t->breaker.min_calls, 10);
    assert_int_equal(t->breaker.failure_percent, 50);
    assert_int_equal(t->breaker.slow_percent, 50);
    assert_int_equal(t->breaker.slow_ms, 0);
    assert_int_equal(t->breaker.consecutive, 5);
    assert_int_equal(t->breaker.open_ms, 30000);
    assert_int_equal(t->breaker.open_max_ms, 300000);
    assert_int_equal(t->breaker.jitter_percent, 20);
    assert_int_equal(t->breaker.permit_ms, 10000);
    assert_int_equal(t->breaker.ramp_step_ms, 30000);
    assert_int_equal(t->breaker.min_reporters, 2);
    assert_false(t->breaker.metrics_only);
    const struct set_agent *a = settings_agent(s, "agent-1");
    assert_int_equal(a->chain.n, 2);
    assert_string_equal(CONF_AT(a->chain, struct set_chain_item, 1)->target, "llm.b");
    assert_string_equal(a->backend, "back");
    assert_string_equal(a->override.url, "");
    assert_string_equal(a->override.activate_path, "/api/admin/override/activate");
    assert_int_equal(a->override.duration_ms, 3600000);
    assert_int_equal(a->override.renew_ms, 600000);
    assert_int_equal(a->override.retry_ms, 2000);
    assert_int_equal(a->heartbeat_ms, 1000);
    assert_int_equal(a->heartbeat_fall, 3);
    assert_int_equal(a->ack_ms, 1000);
    assert_int_equal(a->ack_alert_ms, 5000);
    assert_int_equal(a->restore_hold_ms, 30000);
    assert_int_equal(a->backend_step_ms, 30000);
    assert_int_equal(s->fallback.lease_ttl_ms, 3000);
    assert_int_equal(s->audit.segment_bytes, 64 << 20);
    assert_int_equal(s->alert.channels.n, 0);
    assert_null(settings_target(s, "none"));
    assert_null(settings_agent(s, "none"));
    settings_free(s);
    settings_free(NULL);
}

static void settings_that_follow_from_others(void **state)
{
    (void)state;
    struct settings *s = parse("targets:\n  - {name: x, kind: other, probe: {interval: 1s}}\n"
                               "alert:\n  channels:\n    - {name: f, type: file, path: /tmp/f}\n"
                               "    - {name: s, type: slack, url: 'https://h/x', tries: 1}\n");
    assert_int_equal(settings_target(s, "x")->probe.fast_interval_ms, 1000); /* never slower than the usual pace */
    assert_int_equal(s->alert.routes.n, 1);                                  /* all alerts, channels in their order */
    const struct set_route *r = CONF_AT(s->alert.routes, struct set_route, 0);
    assert_int_equal(r->min_severity, 0);
    assert_int_equal(r->channels.n, 2);
    assert_string_equal(*CONF_AT(r->channels, char *, 0), "f");
    assert_string_equal(*CONF_AT(r->channels, char *, 1), "s");
    const struct set_channel *c = CONF_AT(s->alert.channels, struct set_channel, 1);
    assert_int_equal(c->attempt_ms, 10000);
    assert_int_equal(c->tries, 1);
    assert_int_equal(c->deadline_critical_ms, 30000);
    assert_int_equal(c->deadline_ms, 300000);
    settings_free(s);
}

static void what_does_not_fit_together_is_refused(void **state)
{
    (void)state;
    wrong("nats: {url: 'http://x'}", "s.yaml:1: nats.url: found another form");
    wrong("nats: {url: 'nats://a:1, nats://b:1'}", "s.yaml:1: nats.url: found another form");
    wrong("nats: {replicas: 2}", "s.yaml:1: nats.replicas: found 2; allowed: 1, 3 or 5");
    wrong("nats: {token: a, user: b}", "s.yaml:1: nats.token: given together with user");
    wrong("data_dir: here", "s.yaml:1: data_dir: found `here`; allowed: an absolute path");
    wrong(TARGETS "  - {name: db, kind: other}\n", "s.yaml:6: targets[4].name: found `db` for the second time");
    wrong(TARGETS AGENT AGENT, "s.yaml:9: agents: given twice; first in line 7");
    wrong(TARGETS AGENT "  - {name: agent-1, chain: [{target: llm.a}]}\n",
          "s.yaml:9: agents[1].name: found `agent-1` for the second time");
    wrong(TARGETS "  - {name: x, kind: other, parent: y}\n",
          "s.yaml:6: targets[4].parent: found `y`, which is not among `targets`");
    wrong(TARGETS "  - {name: x, kind: other, parent: x}\n",
          "s.yaml:6: targets[4].parent: found `x`, which in the end depends on this one");
    /* A circle is told once for each of its members, and not for those that only lead to it. */
    {
        static const char text[] = TARGETS "  - {name: in, kind: other, parent: x}\n"
                                           "  - {name: x, kind: other, parent: y}\n"
                                           "  - {name: y, kind: other, parent: x}\n";
        struct conf_report r = {0};
        assert_null(conf_parse(&settings_schema, "s.yaml", text, sizeof text - 1, &r));
        assert_int_equal(r.n, 2);
        assert_non_null(strstr(r.lines[0], "s.yaml:7: targets[5].parent: found `y`, which in the end"));
        assert_non_null(strstr(r.lines[1], "s.yaml:8: targets[6].parent: found `x`, which in the end"));
        conf_report_free(&r);
    }
    wrong(TARGETS "agents:\n  - {name: db, chain: [{target: llm.a}]}\n",
          "s.yaml:7: agents[0].name: found `db`, which is a target's name too");
    wrong(TARGETS "agents:\n  - name: a\n    chain:\n      - target: llm.a\n      - target: llm.c\n",
          "s.yaml:10: agents[0].chain[1].target: found `llm.c`, which is not among");
    wrong(TARGETS "agents:\n  - {name: a, chain: [{target: back}]}\n",
          "s.yaml:7: agents[0].chain[0].target: found `back`, which is of another kind");
    wrong(TARGETS "agents:\n  - {name: a, chain: []}\n", "s.yaml:7: agents[0].chain: found 0 items");
    wrong(TARGETS "agents:\n  - {name: a, chain: [{target: llm.a}, {target: llm.a}]}\n",
          "s.yaml:7: agents[0].chain[1]: the same target and model as chain[0]");
    wrong(TARGETS AGENT "    backend: llm.a\n",
          "s.yaml:9: agents[0].backend: found `llm.a`, which is of another kind");
    wrong(TARGETS AGENT "    backend: none\n", "s.yaml:9: agents[0].backend: found `none`, which is not among");
    wrong(TARGETS AGENT "    override: {url: 'http://x', release_path: x}\n",
          "s.yaml:9: agents[0].override.release_path: found `x`; allowed: a path that starts with /");
    wrong(TARGETS AGENT "    override: {url: 'http://x', activate_path: x}\n",
          "s.yaml:9: agents[0].override.activate_path");
    wrong(TARGETS AGENT "    override: {url: 'http://x', activate_body: '{\"d\": {{duration}}}'}\n",
          "s.yaml:9: agents[0].override.activate_body: byte 6: there is no {{duration}}");
    wrong(TARGETS AGENT "    override: {url: 'http://x', release_body: '{\"d\": \"{{key}}\"}'}\n",
          "s.yaml:9: agents[0].override.release_body: byte 7: {{key}} stands between quotes");
    wrong(TARGETS AGENT "    actions: {url: 'http://x', body: '{\"a\": {{justification}}}'}\n",
          "s.yaml:9: agents[0].actions.body: byte 6: there is no {{justification}}");
    wrong(TARGETS AGENT "    override: {url: 'http://x', token: x, auth: basic}\n",
          "s.yaml:9: agents[0].override.token: allowed with `auth: basic`: user:password");
    wrong(TARGETS AGENT "    override: {url: 'http://x', auth_header: 'a: b'}\n",
          "s.yaml:9: agents[0].override.auth_header: found `a: b`; allowed: the name of an HTTP header");
    wrong(TARGETS AGENT "    ack: 10s\n", "s.yaml:7: agents[0].ack_alert: is shorter than ack");
    wrong("targets:\n  - {name: x, kind: llm, probe: {type: llm, url: 'http://h'}}",
          "s.yaml:2: targets[0].probe.model: required for a probe of type llm");
    wrong("targets:\n  - {name: x, kind: llm, probe: {type: http}}",
          "s.yaml:2: targets[0].probe.url: required for a probe of type http");
    wrong("targets:\n  - {name: x, kind: llm, probe: {type: http, url: 'tcp://h:1'}}",
          "s.yaml:2: targets[0].probe.url: found another form; allowed for a probe of type http");
    wrong("targets:\n  - {name: x, kind: llm, probe: {type: tcp, url: 'tcp://h'}}",
          "s.yaml:2: targets[0].probe.url: found no port");
    wrong("targets:\n  - {name: x, kind: llm, probe: {interval: 50ms}}",
          "s.yaml:2: targets[0].probe.interval: found 50ms; allowed: 100ms");
    wrong("targets:\n  - {name: x, kind: llm, probe: {expect_status_min: 300}}",
          "s.yaml:2: targets[0].probe.expect_status_min: is greater");
    wrong("targets:\n  - {name: x, kind: llm, probe: {fall: 0}}", "s.yaml:2: targets[0].probe.fall: found `0`");
    wrong("targets:\n  - {name: x, kind: llm, breaker: {open: 10m}}",
          "s.yaml:2: targets[0].breaker.open: is longer than open_max");
    wrong("targets:\n  - {name: x, kind: llm, breaker: {window_calls: 9}}",
          "s.yaml:2: targets[0].breaker.window_calls: is less than min_calls");
    wrong("targets:\n  - {name: x, kind: planet}",
          "s.yaml:2: targets[0].kind: found `planet`; allowed: one of llm, backend, other");
    wrong("alert: {channels: [{name: m, type: email, from: a@b, to: [c@d]}]}",
          "s.yaml:1: alert.channels[0].url: required for a channel of type email");
    wrong("alert: {channels: [{name: m, type: email, url: 'smtp://h', to: [c@d]}]}",
          "s.yaml:1: alert.channels[0].from: required");
    wrong("alert: {channels: [{name: m, type: email, url: 'smtp://h', from: a@b}]}",
          "s.yaml:1: alert.channels[0].to: required");
    wrong("alert: {channels: [{name: m, type: email, url: 'smtp://h', from: a@b, to: [c@d, 'x <y@z>']}]}",
          "s.yaml:1: alert.channels[0].to[1]: found `x <y@z>`; allowed: a plain address");
    wrong("alert: {channels: [{name: m, type: email, url: 'http://h', from: a@b, to: [c@d]}]}",
          "s.yaml:1: alert.channels[0].url: found *** of another form");
    wrong("alert: {channels: [{name: m, type: slack}]}",
          "s.yaml:1: alert.channels[0].url: required for a channel of type slack");
    wrong("alert: {channels: [{name: m, type: file}]}", "s.yaml:1: alert.channels[0].path: is missing");
    wrong("alert: {channels: [{name: m, type: file, path: x}]}", "s.yaml:1: alert.channels[0].path: is relative");
    wrong("alert:\n  channels:\n  - {name: m, type: file, path: /x}\n  - {name: m, type: file, path: /y}\n",
          "s.yaml:4: alert.channels[1].name: found `m`, which is the name of channels[0] too");
    wrong("alert:\n  routes:\n  - {channels: [gone]}\n",
          "s.yaml:3: alert.routes[0].channels[0]: found `gone`; allowed: the name of a channel");
    wrong("alert:\n  routes:\n  - {min_severity: high}\n", "s.yaml:3: alert.routes[0].channels: required");
    wrong("alert:\n  routes:\n  - {to: g, match: ['agent=a', 'team=b']}\n",
          "s.yaml:3: alert.routes[0].match[1]: `team=b`: `team` is no field");
    wrong("alert:\n  routes:\n  - {to: g, group_by: [agent, label.]}\n",
          "s.yaml:3: alert.routes[0].group_by[1]: found `label.`; allowed: severity");
    wrong("alert:\n  inhibit:\n  - {name: x, source: ['severity>=fatal'], target: ['agent=a']}\n",
          "s.yaml:3: alert.inhibit[0].source[0]: `severity>=fatal`: `fatal` is no severity");
    wrong("alert:\n  inhibit:\n  - {name: x, source: ['agent=a'], target: ['agent=~(']}\n",
          "s.yaml:3: alert.inhibit[0].target[0]: `agent=~(`: missing closing parenthesis");
    wrong("alert:\n  inhibit:\n  - {name: x, source: ['agent=a'], target: ['agent=b'], equal: [cluster]}\n",
          "s.yaml:3: alert.inhibit[0].equal[0]: found `cluster`; allowed: severity");
    wrong("alert:\n  channels: [{name: route-all, type: file, path: /x}]\n",
          "s.yaml:2: alert.routes[0].name: found `all`");
    wrong("alert:\n  channels: [{name: a, type: file, path: /x}]\n  groups: [{name: route-r, members: [a]}]\n"
          "  routes: [{name: r, channels: [a]}]\n",
          "s.yaml:4: alert.routes[0].name: found `r`; allowed: another one");
    wrong("alert:\n  channels: [{name: a, type: file, path: /x}]\n  groups:\n"
          "  - {name: four, members: [a, a, a, a]}\n"
          "  - {name: all, members: [four, four, four, four, four, four, four, four, four, four, four, four, four, "
          "four, "
          "four, four, a]}\n",
          "s.yaml:5: alert.groups[1].members: holds, with the groups in it, more than 64 channels");
    wrong("targts: []", "s.yaml:1: found unknown key `targts`; the nearest known one is `targets`");
}

/* A file of 20,000 targets in one line of descent, the oldest last, and as many agents. */
/* The password of a mounted file, whether `password` is left out, empty, or of an empty variable. */
static void passwords_of_files(void **state)
{
    (void)state;
    char path[] = "/tmp/redoubt-password-XXXXXX", text[512];
    int fd = mkstemp(path);
    assert_true(fd >= 0 && dprintf(fd, "s3cret\nnot this\n") > 0);
    static const char *const forms[] = {"", "password: '', ", "password: '${REDOUBT_TEST_NO_SUCH_NAME:-}', "};
    for (size_t i = 0; i < sizeof forms / sizeof *forms; i++) {
        snprintf(text, sizeof text, "nats: {%spassword_file: %s}\nredis: {%spassword_file: %s}\n", forms[i], path,
                 forms[i], path);
        struct settings *s = parse(text);
        assert_string_equal(s->nats.password, "s3cret");
        assert_string_equal(s->redis.password, "s3cret");
        settings_free(s);
    }
    snprintf(text, sizeof text, "nats: {password: x, password_file: %s}\n", path);
    wrong(text, "s.yaml:1: nats.password_file: given together with password");
    assert_int_equal(ftruncate(fd, 0), 0);
    snprintf(text, sizeof text, "redis: {password_file: %s}\n", path);
    wrong(text, "s.yaml:1: redis.password_file: found /tmp/redoubt-password-");
    close(fd);
    unlink(path);
    wrong(text, "s.yaml:1: redis.password_file: found /tmp/redoubt-password-");
}

static void big_files(void **state)
{
    (void)state;
    enum { N = 20000 };
    char path[] = "/tmp/redoubt-settings-XXXXXX", name[32];
    int fd = mkstemp(path);
    FILE *f = fd >= 0 ? fdopen(fd, "w") : NULL;
    assert_non_null(f);
    fprintf(f, "targets:\n");
    for (int i = N - 1; i > 0; i--)
        fprintf(f, "  - {name: t%d, kind: other, parent: t%d}\n", i, i - 1);
    fprintf(f, "  - {name: t0, kind: llm}\nagents:\n");
    for (int i = 0; i < N; i++)
        fprintf(f, "  - {name: a%d, chain: [{target: t0, model: m}]}\n", i);
    fclose(f);
    struct conf_report r = {0};
    struct settings *s = settings_load(path, &r);
    unlink(path);
    for (size_t i = 0; i < r.n; i++)
        print_message("%s\n", r.lines[i]);
    assert_non_null(s);
    assert_non_null(s->index);
    for (int i = 0; i < N; i++) {
        snprintf(name, sizeof name, "t%d", i);
        assert_ptr_equal(settings_target(s, name), CONF_AT(s->targets, struct set_target, N - 1 - i));
        assert_null(settings_agent(s, name));
        snprintf(name, sizeof name, "a%d", i);
        assert_ptr_equal(settings_agent(s, name), CONF_AT(s->agents, struct set_agent, i));
        assert_null(settings_target(s, name));
    }
    assert_null(settings_target(s, ""));
    assert_null(settings_target(s, "zzz"));
    settings_free(s);
}

static void reload_knows_what_needs_a_restart(void **state)
{
    (void)state;
    static const struct {
        const char *text, *line;
    } rows[] = {
        {"log: {level: debug, format: json}", NULL},
        {"tilt_hold: 1s", NULL},
        {TARGETS AGENT, NULL},
        {"targets: [{name: x, kind: llm, breaker: {open: 1s}}]", NULL},
        {"alert: {channels: [{name: f, type: file, path: /x}]}", NULL},
        {"nats: {url: 'nats://other:4222'}", "nats.url: changed"},
        {"redis: {host: other}", "redis.host: changed"},
        {"data_dir: /elsewhere", "data_dir: changed"},
        {"fallback: {lease_ttl: 9s}", "fallback.lease_ttl: changed"},
        {"audit: {segment: 1MiB}", "audit.segment: changed"},
    };
    struct settings *was = parse("log: {level: info}");
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct conf_report r = {0};
        struct settings *now = parse(rows[i].text);
        assert_int_equal(conf_may_reload(&settings_schema, was, now, &r), rows[i].line == NULL);
        assert_int_equal(r.n, rows[i].line ? 1 : 0);
        if (rows[i].line)
            assert_memory_equal(r.lines[0], rows[i].line, strlen(rows[i].line));
        conf_report_free(&r);
        settings_free(now);
    }
    settings_free(was);
}

struct shown {
    char text[262144];
    size_t n;
};
static void keep_line(void *ctx, const char *line)
{
    struct shown *s = ctx;
    s->n += (size_t)snprintf(s->text + s->n, sizeof s->text - s->n, "%s\n", line);
    assert_true(s->n < sizeof s->text);
    assert_true(strlen(line) <= 124);
}

static void the_example_is_right(void **state)
{
    (void)state;
    static struct shown first, second;
    struct conf_report r = {0};
    static const char *const names[] = {"NATS_URL",    "REDIS_HOST", "REDIS_PORT", "REDOUBT_DATA",
                                        "BACKEND_URL", "SMTP_URL",   "SLACK_URL"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        unsetenv(names[i]);
    struct stat st;
    if (stat("deploy/redoubt.yaml", &st) != 0)
        skip(); /* run from elsewhere */
    struct settings *s = settings_load("deploy/redoubt.yaml", &r);
    for (size_t i = 0; i < r.n; i++)
        print_message("%s\n", r.lines[i]);
    assert_non_null(s);
    assert_int_equal(s->agents.n, 1);
    assert_int_equal(s->targets.n, 3);
    assert_int_equal(s->alert.channels.n, 3);
    assert_int_equal(settings_target(s, "llm.openai.gpt-3.5-turbo")->breaker.consecutive, 5);
    first.n = second.n = 0;
    conf_show(&settings_schema, s, true, keep_line, &first);
    settings_free(s);
    /* With all help it is still the same file, but for the secrets, which do not come back. */
    for (char *p = first.text; (p = strstr(p, "url: \"***\"")); p += 10)
        memcpy(p, "url: \"\"   ", 10);
    s = conf_parse(&settings_schema, "shown", first.text, first.n, &r);
    assert_null(s);
    assert_int_equal(r.n, 2);
    assert_non_null(strstr(r.lines[0], "alert.channels[0].url: required"));
    conf_report_free(&r);
}

static void check_help(const struct conf_schema *s)
{
    for (size_t i = 0; i < s->n; i++) {
        const struct conf_field *f = &s->fields[i];
        assert_non_null(f->help);
        assert_true(strlen(f->help) > 5);
        assert_int_equal(f->help[strlen(f->help) - 1], '.');
        assert_true(f->offset < s->size);
        assert_int_equal(f->schema != NULL, f->type == CONF_OBJECT || f->type == CONF_LIST);
        assert_int_equal(f->type == CONF_ENUM, f->type == CONF_ENUM && f->choices);
        for (size_t k = 0; k < i; k++) {
            assert_string_not_equal(f->key, s->fields[k].key);
            assert_true(f->offset != s->fields[k].offset);
        }
        /* Text of the table is taken as it is, so it has to be allowed. */
        if (conf_is_string(f->type) && f->def && *f->def) {
            struct err e;
            char *text = NULL;
            assert_true(conf_scalar(f, f->type, f->def, &text, &e));
            assert_string_equal(text, f->def);
            free(text);
        }
        if (f->schema)
            check_help(f->schema);
    }
}

static void every_setting_has_help(void **state)
{
    (void)state;
    check_help(&settings_schema);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(defaults_are_the_missions),
        cmocka_unit_test(settings_that_follow_from_others),
        cmocka_unit_test(what_does_not_fit_together_is_refused),
        cmocka_unit_test(passwords_of_files),
        cmocka_unit_test(big_files),
        cmocka_unit_test(reload_knows_what_needs_a_restart),
        cmocka_unit_test(the_example_is_right),
        cmocka_unit_test(every_setting_has_help),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
