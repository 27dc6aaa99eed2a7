/* test_continuity_gameday.c - drills that are really started: passed, failed, refused, too long, in an incident, without their agent. */
#include "../harness.h"
#include "common/clock.h"
#include "continuity/continuity_shell.h"
#include "continuity/gameday_plan.h"
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define DAY INT64_C(86400000)

struct continuity {
    struct service s;
    struct gamedays *g;
    int64_t now_ms;
    bool incident;
    PB(DrillState) * state;
    unsigned announced, raised, resolved, shown, strict;
    int64_t shown_ms;
    char alert[128], scope[65];
    int status;
    char answer[600];
};
static struct continuity town;
static struct harness *harness;
#define KIT_DIR harness_dir(harness)
#include "file_kit.h"

struct service *continuity_service_of(struct continuity *c)
{
    return &c->s;
}
const struct set_continuity *continuity_set(const struct continuity *c)
{
    return &c->s.settings->continuity;
}
int64_t continuity_now_ms(const struct continuity *c)
{
    return c->now_ms;
}
uint64_t continuity_fence(const struct continuity *c)
{
    (void)c;
    return 3;
}
bool continuity_leads(const struct continuity *c)
{
    (void)c;
    return true;
}
bool continuity_incident_open(const struct continuity *c, const char **ret_id)
{
    *ret_id = "i-1";
    return c->incident;
}
void continuity_announce(struct continuity *c, const char *subject, uint64_t revision, const void *message)
{
    struct err e = {""};
    size_t len;
    void *data = wire_pack(message, &len, &e);
    if (!data)
        fail_msg("%s", e.text);
    assert_true(revision > 0 && strncmp(subject, SUBJECT_CONTINUITY_DRILL, strlen(SUBJECT_CONTINUITY_DRILL)) == 0);
    wire_free(c->state);
    c->state = wire_unpack(PB_DESC(drill_state), data, len, &e);
    assert_non_null(c->state);
    free(data);
    c->announced++;
}
void continuity_alert(struct continuity *c, const char *what, int severity, bool resolved, const char *agent,
                      const char *summary, const char *detail)
{
    assert_true(severity > 0 && agent && *summary && detail);
    c->raised += !resolved;
    c->resolved += resolved;
    snprintf(c->alert, sizeof c->alert, "%s", what);
}
void continuity_record(struct continuity *c, const char *action, const char *actor, const char *subject, int outcome,
                       const char *detail)
{
    (void)c, (void)detail;
    assert_true(*action && *actor && *subject && outcome > 0);
}
static outbox_cb then;
static void *then_ctx;
static void on_strict(void *ctx)
{
    (void)ctx;
    then(then_ctx, 0, "");
}
void continuity_record_strict(struct continuity *c, const char *action, const char *actor, const char *subject,
                              const char *detail, outbox_cb cb, void *ctx)
{
    assert_true(*action && *actor && *subject && *detail);
    c->strict++;
    then = cb;
    then_ctx = ctx;
    loop_defer(&c->s.loop, on_strict, NULL);
}
void continuity_demonstrated(struct continuity *c, enum set_objective o, const char *scope, int64_t took_ms,
                             const char *by)
{
    assert_true(o < SET_OBJECTIVES && strncmp(by, "drill ", 6) == 0);
    c->shown++;
    c->shown_ms = took_ms;
    snprintf(c->scope, sizeof c->scope, "%s", scope);
}
void service_reply(struct service *s, const char *reply_to, int command_status, uint64_t epoch, const char *fmt, ...)
{
    (void)s, (void)reply_to, (void)epoch;
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(town.answer, sizeof town.answer, fmt, ap);
    va_end(ap);
    town.status = command_status;
}
const char *service_config_path(const struct service *s)
{
    (void)s;
    return "/dev/null";
}

/* ---- the town ---- */

static void tick(int64_t ms)
{
    bool never = false;
    town.now_ms += ms;
    gamedays_tick(town.g, town.now_ms);
    loop_run_until(&town.s.loop, &never, 10);
}

#define UNTIL(what)                                                                                                  \
    do {                                                                                                             \
        int64_t until_ = clock_mono_ms() + 20000;                                                                    \
        while (!(what)) {                                                                                            \
            tick(1);                                                                                                 \
            if (clock_mono_ms() > until_)                                                                            \
                fail_msg("never: %s (result: %s)", #what, town.state ? town.state->result : "");                     \
        }                                                                                                            \
    } while (0)

static void load(const char *drills)
{
    struct conf_report report = {0};
    char text[1000];
    int n = snprintf(text, sizeof text,
                     "targets: [{name: llm.a, kind: llm}]\nagents: [{name: sentinel, chain: [{target: llm.a, model: "
                     "m}]}]\ncontinuity: {drills: [%s]}\n",
                     drills);
    struct settings *s = conf_parse(&settings_schema, "test", text, (size_t)n, &report);
    if (!s)
        fail_msg("%s", report.n ? report.lines[0] : "?");
    settings_free(town.s.settings);
    town.s.settings = s;
}

/* What `redoubt` does when it is called. */
static void program(const char *script)
{
    char text[2000];
    snprintf(text, sizeof text, "#!/bin/sh\n%s\n", script);
    write_file("redoubt", text, 0755);
    gamedays_use(town.g, path_of("redoubt"));
}
#define PASSES                                                                                                       \
    "echo '{\"drill\":\"agent-loss\",\"live\":true,\"ok\":true,\"why\":\"\",\"total_ms\":4000,\"steps\":[]}'; "      \
    "echo story >&2; echo \"$*\" > $(dirname $0)/called"
#define FAILS "echo '{\"drill\":\"agent-loss\",\"live\":false,\"ok\":false,\"why\":\"no ack\"}'; exit 1"

static int town_open(void **state)
{
    struct err e = {""};
    (void)state;
    harness = harness_open();
    town = (struct continuity){.now_ms = 1000 * DAY};
    assert_int_equal(loop_init(&town.s.loop), 0);
    load("{name: loss, drill: agent-loss, every: 1d}");
    town.g = gamedays_open(&town, &e);
    assert_non_null(town.g);
    program(PASSES);
    tick(1);
    assert_int_equal(town.announced, 1);
    assert_int_equal(town.state->next_unix_ms, town.now_ms + DAY);
    return 0;
}

static int town_close(void **state)
{
    bool never = false;
    (void)state;
    gamedays_close(town.g);
    loop_run_until(&town.s.loop, &never, 10);
    wire_free(town.state);
    settings_free(town.s.settings);
    loop_done(&town.s.loop);
    harness_close(harness);
    return 0;
}

static void one_that_passes_is_shown(void **state)
{
    (void)state;
    tick(DAY);
    assert_true(town.state->running);
    UNTIL(!town.state->running);
    assert_true(town.state->passed);
    assert_string_equal(town.state->result, "passed");
    assert_int_equal(town.shown, 3);
    assert_string_equal(town.scope, "");
    assert_int_equal(town.shown_ms, 4000);
    assert_int_equal(town.raised, 0);
    assert_string_equal(read_file("called"), "drill agent-loss --json -\n");
    assert_true(town.state->next_unix_ms > town.now_ms);
}

static void one_that_fails_is_an_alert_until_it_passes(void **state)
{
    (void)state;
    program(FAILS);
    for (unsigned i = 1; i <= 2; i++) {
        tick(DAY);
        UNTIL(town.state->failures == i);
        assert_false(town.state->passed);
        assert_string_equal(town.state->result, "failed: no ack");
        assert_int_equal(town.raised, 1); /* once */
    }
    assert_string_equal(town.alert, "drill/loss/failed");
    program("echo nonsense; exit 0");
    tick(DAY);
    UNTIL(town.state->failures == 3);
    program("kill -9 $$");
    tick(DAY);
    UNTIL(town.state->failures == 4);
    assert_non_null(strstr(town.state->result, "signal 9"));
    assert_int_equal(town.shown, 0);
    program(PASSES);
    tick(DAY);
    UNTIL(town.state->passed);
    assert_int_equal(town.resolved, 1);
    assert_int_equal(town.state->open_alerts, 0);
}

static void none_is_played_in_an_incident(void **state)
{
    (void)state;
    town.incident = true;
    tick(DAY);
    assert_non_null(strstr(town.state->result, "skipped: incident i-1"));
    assert_int_equal(town.raised, 0);
    tick(DAY);
    assert_int_equal(town.raised, 1); /* twice in a row */
    assert_string_equal(town.alert, "drill/loss/skipped");
    assert_int_equal(access(path_of("called"), F_OK), -1);

    PB(ContinuityCommand) m = PB_INIT(CONTINUITY_COMMAND);
    m.name = "loss";
    gamedays_command(town.g, &m, "reply"); /* by whom? */
    assert_int_equal(town.status, REDOUBT__V1__COMMAND_STATUS__COMMAND_STATUS_INVALID);
    m.by = "ada";
    m.reason = "to see";
    gamedays_command(town.g, &m, "reply");
    assert_int_equal(town.status, REDOUBT__V1__COMMAND_STATUS__COMMAND_STATUS_UNAVAILABLE);
    assert_int_equal(town.strict, 0);
    m.force = true;
    gamedays_command(town.g, &m, "reply");
    UNTIL(town.state->passed);
    assert_int_equal(town.status, REDOUBT__V1__COMMAND_STATUS__COMMAND_STATUS_OK);
    assert_int_equal(town.strict, 1);
    assert_int_equal(town.resolved, 1);
    m.name = "another";
    gamedays_command(town.g, &m, "reply");
    assert_int_equal(town.status, REDOUBT__V1__COMMAND_STATUS__COMMAND_STATUS_INVALID);
}

static void what_takes_too_long_is_ended(void **state)
{
    (void)state;
    program(
        "trap 'echo ended > $(dirname $0)/ended; exit 1' TERM; echo > $(dirname $0)/called; while :; do sleep 0.05; "
        "done");
    tick(DAY);
    UNTIL(access(path_of("called"), F_OK) == 0);
    tick(11 * 60000); /* its limit is 10 minutes */
    UNTIL(town.state->failures == 1);
    assert_non_null(strstr(town.state->result, "longer than its limit"));
    assert_string_equal(read_file("ended"), "ended\n"); /* it was told, and not only killed */
}

static void an_agent_that_is_gone_is_said_once(void **state)
{
    (void)state;
    load("{name: loss, drill: agent-loss, every: 1d, agent: sentinel}");
    gamedays_reload(town.g);
    tick(DAY);
    UNTIL(town.state->passed);
    assert_string_equal(read_file("called"),
                        "drill agent-loss --live --target sentinel --by continuity --reason game "
                        "day loss --yes --json - -c /dev/null\n");
    assert_string_equal(town.scope, "sentinel");
    assert_int_equal(town.shown_ms, 4000);

    load("{name: loss, drill: agent-loss, every: 1d, agent: somebody}");
    gamedays_reload(town.g);
    for (int i = 0; i < 3; i++)
        tick(DAY);
    assert_int_equal(town.raised, 1);
    assert_string_equal(town.alert, "drill/loss/agent");
    load(""); /* and it can be removed */
    gamedays_reload(town.g);
    assert_int_equal(town.resolved, 1);
    assert_string_equal(town.state->result, "removed from the settings");
    const PB(DrillState) * left[4];
    assert_int_equal(gamedays_states(town.g, left, 4), 0);
}

static void the_suites_no_is_a_skip(void **state)
{
    (void)state;
    program("echo 'it does not begin: red' >&2; exit 4");
    tick(DAY);
    UNTIL(strncmp(town.state->result, "skipped:", 8) == 0 && !town.state->running);
    assert_int_equal(town.state->failures, 0);
    assert_non_null(strstr(town.state->result, "it does not begin"));
}

static void what_a_dead_leader_has_begun_is_waited_for(void **state)
{
    (void)state;
    PB(DrillState) s = PB_INIT(DRILL_STATE);
    s.name = "loss";
    s.running = true;
    s.began_unix_ms = town.now_ms;
    s.next_unix_ms = town.now_ms + 1000;
    gamedays_seen(town.g, &s);
    tick(5 * 60000);
    assert_int_equal(town.announced, 1); /* it may still run */
    tick(6 * 60000);
    assert_non_null(strstr(town.state->result, "is gone"));
    assert_false(town.state->passed);
    UNTIL(!town.state->running);
}

static void closing_ends_what_runs(void **state)
{
    (void)state;
    struct err e = {""};
    program(
        "trap 'echo ended > $(dirname $0)/ended; exit 1' TERM; echo > $(dirname $0)/called; while :; do sleep 0.05; "
        "done");
    tick(DAY);
    UNTIL(access(path_of("called"), F_OK) == 0);
    gamedays_close(town.g);
    town.g = gamedays_open(&town, &e);
    UNTIL(access(path_of("ended"), F_OK) == 0);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, town_open, town_close)
int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(one_that_passes_is_shown),
        TEST(one_that_fails_is_an_alert_until_it_passes),
        TEST(none_is_played_in_an_incident),
        TEST(what_takes_too_long_is_ended),
        TEST(an_agent_that_is_gone_is_said_once),
        TEST(the_suites_no_is_a_skip),
        TEST(what_a_dead_leader_has_begun_is_waited_for),
        TEST(closing_ends_what_runs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
