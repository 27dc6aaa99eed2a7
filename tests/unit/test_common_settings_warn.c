/* test_common_settings_warn.c - objectives that contradict each other are pointed out, and secrets that stand in a file are found. */
#include "common/settings.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

/* How many warnings there are; the one with `has` must be among them (NULL = any). */
static size_t warnings(const char *continuity, const char *has)
{
    struct conf_report problems = {0}, found = {0};
    char text[1000];
    int n = snprintf(text, sizeof text, "continuity: {%s}\n", continuity);
    struct settings *s = conf_parse(&settings_schema, "test", text, (size_t)n, &problems);
    if (!s)
        fail_msg("%s: %s", text, problems.n ? problems.lines[0] : "?");
    settings_warn(s, &found);
    bool there = !has;
    for (size_t i = 0; i < found.n; i++)
        there = there || strstr(found.lines[i], has);
    if (!there)
        fail_msg("%s: not said: %s (said: %s)", continuity, has, found.n ? found.lines[0] : "nothing");
    n = (int)found.n;
    conf_report_free(&found);
    settings_free(s);
    return (size_t)n;
}

static void contradictions_are_pointed_out(void **state)
{
    (void)state;
    /* The defaults are those that were asked for: one of them leaves no time to validate. */
    assert_int_equal(warnings("", "objectives.rto_data: 4h is equal to mad_full (4h)"), 1);
#define WELL "objectives: {rto_data: 3h"
    assert_int_equal(warnings(WELL "}", NULL), 0);
    assert_int_equal(warnings("objectives: {rto_data: 5h}", "rto_data: 5h is longer than mad_full (4h)"), 1);
    assert_int_equal(warnings(WELL ", rto_full: 4h}", "rto_full: 4h is equal to mad_full"), 1);
    assert_int_equal(warnings(WELL ", rto_critical: 2h}", NULL), 0);
    assert_int_equal(warnings(WELL ", rto_critical: 3h}", "rto_critical: 3h is longer than rto_full"), 1);
    assert_int_equal(warnings(WELL ", mad_full: 25h}", "mad_full: 25h is longer than mad_degraded"), 1);
    assert_int_equal(warnings(WELL ", mad_llm_fallback: 2d}", "mad_llm_fallback: 2d is longer than"), 1);
    assert_int_equal(warnings(WELL "}, phases: {validate: 20m}", "rto_critical: 15m can never be met"), 1);
    assert_int_equal(warnings(WELL "}, phases: {respond: 15m}", "rto_critical: 15m is over before"), 1);
    assert_int_equal(warnings(WELL "}, own: [{agents: [a], mad_full: 3h}]", "own[0].rto_data: 3h is equal to"), 1);
    assert_int_equal(warnings(WELL "}, own: [{agents: [a], rpo_audit: 1m}]", NULL), 0);
}

static void copies_and_drills_that_cannot_do_are_pointed_out(void **state)
{
    (void)state;
#define COPY(more) WELL "}, repository: {repository: /r, password_file: /p}, backups: [{name: b, " more "}]"
    assert_int_equal(warnings(COPY("kind: config"), NULL), 0);
    assert_int_equal(warnings(COPY("kind: config, every: 15m"), "backups.b.every: 15m cannot keep rpo_config (15m)"),
                     1);
    assert_int_equal(warnings(COPY("kind: config, late: 20m"), "backups.b.late"), 1);
    assert_int_equal(warnings(COPY("kind: learning, path: [/d], agent: a, every: 30m"), NULL), 0);
    assert_int_equal(warnings(COPY("kind: learning, path: [/d], agent: a, every: 30m") ", own: [{agents: [\"?\"], "
                                                                                       "rpo_learning: 10m}]",
                              "rpo_learning (10m)"),
                     1);
    assert_int_equal(warnings(COPY("kind: nats, every: 1d"), NULL), 0);
    assert_int_equal(warnings(COPY("kind: nats, test: 60d"), "backups.b.test"), 1);
    assert_int_equal(warnings(WELL "}, backups: [{name: b, kind: nats}]", "has no repository"), 1);
    assert_int_equal(warnings(WELL "}, drills: [{name: d, drill: agent-loss}]", NULL), 0);
    assert_int_equal(warnings(WELL "}, drills: [{name: d, drill: agent-loss, agent: x}]", "there is no agent `x`"),
                     1);
    assert_int_equal(warnings(WELL "}, drills: [{name: d, drill: agent-loss, every: 60d}]", "drills.d.every"), 1);
    assert_int_equal(warnings(WELL "}, drills: [{name: d, drill: agent-loss, every: 5m}]", "drills.d.limit"), 1);
}

static size_t literals(const char *text, const char *has)
{
    struct conf_report r = {0};
    conf_literals(&settings_schema, "new", text, strlen(text), &r);
    size_t n = r.n;
    if (n && (!has || !strstr(r.lines[0], has)))
        fail_msg("%s: %s", text, r.lines[0]);
    conf_report_free(&r);
    return n;
}

static void secrets_in_a_file_are_found(void **state)
{
    (void)state;
    assert_int_equal(literals("nats: {password: hunter2}", "new:1: nats.password"), 1);
    assert_int_equal(literals("nats: {password: \"a${X:-}\"}", NULL), 0);
    assert_int_equal(literals("nats: {password: \"$${X}\"}", "nats.password"), 1); /* that is no reference */
    assert_int_equal(literals("nats: {password: \"\"}", NULL), 0);
    assert_int_equal(literals("nats: {user: me}", NULL), 0);
    const struct {
        const char *type, *url;
        size_t n;
    } rows[] = {{"slack", "https://hooks.example/T0/x", 1}, {"slack", "${HOOK:-https://hooks.example/T0/x}", 0},
                {"email", "smtp://mail.example:25", 0},     {"email", "smtp://me:pass@mail.example:25", 1},
                {"webhook", "http://127.0.0.1:9", 0},       {"webhook", "http://127.0.0.1:9/hook", 1}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        char text[300];
        snprintf(text, sizeof text, "alert: {channels: [{name: c, type: %s, url: \"%s\"}]}", rows[i].type,
                 rows[i].url);
        assert_int_equal(literals(text, "alert.channels[0].url"), rows[i].n);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(contradictions_are_pointed_out),
        cmocka_unit_test(copies_and_drills_that_cannot_do_are_pointed_out),
        cmocka_unit_test(secrets_in_a_file_are_found),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
