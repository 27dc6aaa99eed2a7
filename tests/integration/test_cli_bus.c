/* test_cli_bus.c - the operator's command against a real NATS server with stand-ins for the services: what it says, and with
 * which exit code it ends. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "../harness.h"
#include "cli/cli.h"
#include "common/bus.h"
#include "common/subjects.h"
#include "common/wire.h"
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#define PBE(x) REDOUBT__V1__##x

static struct {
    struct harness *h;
    struct harness_proc *nats;
    struct loop loop;
    struct bus *bus;
    bool up, stored;
    char program[512]; /* build/bin/redoubt */
    /* What the stand-ins do and saw. */
    bool services_answer, fallback_silent;
    int command_status;
    char command[SUBJECT_MAX_LEN], by[128], reason[128];
    uint64_t duration_ms;
    bool without_selftest;
    size_t reports, batches;
    int last_outcome;
} T;

/* ---- running the command ---- */

struct ran {
    int code;
    char out[65536], err[16384];
};
static struct ran R;

static void read_back(const char *name, char *buf, size_t size)
{
    char path[600];
    snprintf(path, sizeof path, "%s/%s", harness_dir(T.h), name);
    FILE *f = fopen(path, "r");
    buf[f ? fread(buf, 1, size - 1, f) : 0] = 0;
    if (f)
        fclose(f);
}

static pid_t start_command(const char *const *args)
{
    char out[600], err[600];
    const char *argv[32] = {T.program};
    size_t n = 1;
    for (; args[n - 1]; n++)
        argv[n] = args[n - 1];
    snprintf(out, sizeof out, "%s/out", harness_dir(T.h));
    snprintf(err, sizeof err, "%s/err", harness_dir(T.h));
    pid_t pid = fork();
    if (pid == 0) {
        int o = open(out, O_CREAT | O_TRUNC | O_WRONLY | O_APPEND, 0600);
        int e = open(err, O_CREAT | O_TRUNC | O_WRONLY | O_APPEND, 0600);
        dup2(o, 1);
        dup2(e, 2);
        execv(T.program, (char *const *)argv);
        _exit(127);
    }
    return pid;
}

static bool wait_command(pid_t pid, int64_t limit_ms)
{
    int status = 0;
    for (int64_t until = clock_mono_ms() + limit_ms; waitpid(pid, &status, WNOHANG) != pid;) {
        bool never = false;
        loop_run_until(&T.loop, &never, 5); /* the stand-ins answer meanwhile */
        if (clock_mono_ms() > until) {
            kill(pid, SIGKILL);
            waitpid(pid, &status, 0);
            return false;
        }
    }
    R.code = WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
    read_back("out", R.out, sizeof R.out);
    read_back("err", R.err, sizeof R.err);
    return true;
}

/* Runs `redoubt ARGS...` to its end. */
#define redoubt(...) run((const char *const[]){__VA_ARGS__, NULL})
static int run(const char *const *args)
{
    if (!wait_command(start_command(args), HARNESS_WAIT_MS))
        fail_msg("`redoubt %s` did not end", args[0]);
    return R.code;
}

static void expect_text(const char *where, const char *text)
{
    if (!strstr(where, text))
        fail_msg("`%s` is missing; code %d, out:\n%s\nerr:\n%s", text, R.code, R.out, R.err);
}

static json_t *out_json(void)
{
    json_error_t e;
    json_t *j = json_loads(R.out, 0, &e);
    if (!j)
        fail_msg("no JSON: %s\n%s\n%s", e.text, R.out, R.err);
    return j;
}

/* ---- the stand-ins ---- */

static void set_true(void *ctx)
{
    *(bool *)ctx = true;
}

static void send_message(const char *subject, const char *reply, const void *message)
{
    struct err e;
    size_t len;
    void *data = wire_pack(message, &len, &e);
    if (!data)
        fail_msg("%s", e.text);
    (void)reply;
    struct bus_out o = {.subject = subject, .type = wire_type(message), .data = data, .len = len};
    assert_int_equal(bus_publish(T.bus, &o, &e), 0);
    free(data);
}

static void on_stored(void *ctx, const struct bus_stored *r)
{
    (void)ctx;
    if (r->status != BUS_OK)
        fail_msg("not stored: %s", r->error ? r->error : bus_status_text(r->status));
    T.stored = true;
}

static void store_message(const char *subject, const char *id, const void *message)
{
    struct err e;
    size_t len;
    void *data = wire_pack(message, &len, &e);
    if (!data)
        fail_msg("%s", e.text);
    struct bus_out o = {.subject = subject, .id = id, .type = wire_type(message), .data = data, .len = len};
    T.stored = false;
    bus_store(T.bus, &o, HARNESS_WAIT_MS, on_stored, NULL);
    free(data);
    assert_true(loop_run_until(&T.loop, &T.stored, HARNESS_WAIT_MS));
}

static void on_stats(void *ctx, const struct bus_msg *m)
{
    static const char *const names[] = {"health", "breaker", "fallback", "guard", "alert", "audit"};
    (void)ctx;
    for (size_t i = 0; T.services_answer && m->reply && i < sizeof names / sizeof *names; i++) {
        char text[512];
        int n = snprintf(text, sizeof text,
                         "{\"name\":\"redoubt-%s\",\"id\":\"host-%s-0\",\"version\":\"9.8.7\",\"type\":"
                         "\"io.nats.micro.v1.stats_response\",\"started\":\"2026-01-31T09:00:00Z\",\"endpoints\":[]}",
                         names[i], names[i]);
        struct bus_out o = {.subject = m->reply, .data = text, .len = (size_t)n};
        assert_int_equal(bus_publish(T.bus, &o, NULL), 0);
    }
}

static PB(AgentState) an_agent(void)
{
    PB(AgentState) a = REDOUBT__V1__AGENT_STATE__INIT;
    a.agent = (char *)"guard-1";
    a.epoch = a.acked_epoch = 3;
    a.revision = 9;
    a.posture = PBE(POSTURE__POSTURE_NORMAL);
    a.llm_target = (char *)"llm.a";
    a.llm_model = (char *)"m";
    a.backend = PBE(BACKEND_MODE__BACKEND_MODE_UP);
    a.automation = PBE(AUTOMATION_MODE__AUTOMATION_MODE_ENABLED);
    a.override_mode = PBE(OVERRIDE_MODE__OVERRIDE_MODE_OFF);
    a.step = PBE(STEP__STEP_INITIAL);
    a.since_unix_ms = clock_wall_ms() - 5000;
    return a;
}

static PB(HealthChanged) a_verdict(void)
{
    PB(HealthChanged) h = REDOUBT__V1__HEALTH_CHANGED__INIT;
    h.target = (char *)"llm.a";
    h.epoch = 1;
    h.state = PBE(HEALTH_STATE__HEALTH_STATE_HEALTHY);
    h.previous = PBE(HEALTH_STATE__HEALTH_STATE_UNKNOWN);
    h.observer = (char *)"host-health-0";
    h.reason = (char *)"answers";
    h.since_unix_ms = h.changed_unix_ms = clock_wall_ms();
    return h;
}

static void on_command(void *ctx, const struct bus_msg *m)
{
    (void)ctx;
    PB(CommandReply) r = REDOUBT__V1__COMMAND_REPLY__INIT;
    void *state = NULL;
    snprintf(T.command, sizeof T.command, "%s", m->subject);
    if (strcmp(m->subject, SUBJECT_CMD "fallback.state") == 0) {
        if (T.fallback_silent)
            return;
        PB(AgentState) a = an_agent();
        r.status = PBE(COMMAND_STATUS__COMMAND_STATUS_OK);
        r.message = (char *)"state";
        r.payload.data = state = wire_pack(&a, &r.payload.len, NULL);
        assert_non_null(state);
    } else if (strncmp(m->subject, SUBJECT_CMD "breaker.", 19) == 0) {
        PB(BreakerCommand) *c = wire_unpack(PB_DESC(breaker_command), m->data, m->len, NULL);
        assert_non_null(c);
        snprintf(T.by, sizeof T.by, "%s", c->by);
        snprintf(T.reason, sizeof T.reason, "%s", c->reason);
        T.duration_ms = c->duration_ms;
        wire_free(c);
        r.message = (char *)"so be it\033[31m";
        r.status = (Redoubt__V1__CommandStatus)T.command_status;
    } else if (strncmp(m->subject, SUBJECT_CMD "health.", 18) == 0) {
        PB(HealthCommand) *c = wire_unpack(PB_DESC(health_command), m->data, m->len, NULL);
        assert_non_null(c);
        snprintf(T.by, sizeof T.by, "%s", c->by);
        T.duration_ms = c->duration_ms;
        bool known = strcmp(c->target, "llm.a") == 0;
        wire_free(c);
        PB(HealthVote) vote = REDOUBT__V1__HEALTH_VOTE__INIT;
        PB(HealthVote) * votes[] = {&vote};
        PB(HealthChanged) h = a_verdict();
        vote.observer = (char *)"host-health-1";
        vote.state = PBE(HEALTH_STATE__HEALTH_STATE_UNHEALTHY);
        vote.fault = PBE(PROBE_FAULT__PROBE_FAULT_CONNECT);
        h.state = PBE(HEALTH_STATE__HEALTH_STATE_UNHEALTHY);
        h.votes = votes;
        h.n_votes = 1;
        h.suppressed_by = (char *)"other.router";
        r.message = (char *)"as heard\033[31m";
        r.status = known ? (Redoubt__V1__CommandStatus)T.command_status : PBE(COMMAND_STATUS__COMMAND_STATUS_INVALID);
        if (known && strcmp(m->subject, SUBJECT_CMD "health.show") == 0)
            r.payload.data = state = wire_pack(&h, &r.payload.len, NULL);
    } else {
        if (strcmp(m->subject, SUBJECT_CMD "fallback.unfreeze") == 0) {
            PB(AgentCommand) *c = wire_unpack(PB_DESC(agent_command), m->data, m->len, NULL);
            assert_non_null(c);
            T.without_selftest = c->without_selftest;
            wire_free(c);
        }
        r.message = (char *)"frozen";
        r.status = (Redoubt__V1__CommandStatus)T.command_status;
    }
    send_message(m->reply, NULL, &r);
    free(state);
}

static void on_report(void *ctx, const struct bus_msg *m)
{
    (void)ctx;
    void *message = wire_unpack(wire_by_name(m->type), m->data, m->len, NULL);
    assert_non_null(message);
    if (((ProtobufCMessage *)message)->descriptor == PB_DESC(outcome_batch)) {
        T.batches++;
        T.reports += ((PB(OutcomeBatch) *)message)->n_reports;
    } else {
        T.reports++;
        T.last_outcome = (int)((PB(OutcomeReport) *)message)->outcome;
    }
    wire_free(message);
}

static PB(BreakerChanged) a_breaker(int state, uint64_t epoch)
{
    PB(BreakerChanged) b = REDOUBT__V1__BREAKER_CHANGED__INIT;
    b.target = (char *)"llm.a";
    b.epoch = epoch;
    b.state = (Redoubt__V1__BreakerState)state;
    b.previous = PBE(BREAKER_STATE__BREAKER_STATE_CLOSED);
    b.reason = PBE(BREAKER_REASON__BREAKER_REASON_CONSECUTIVE);
    b.detail = (char *)"five in a row";
    b.ramp_percent = state == PBE(BREAKER_STATE__BREAKER_STATE_CLOSED) ? 100 : 0;
    b.changed_unix_ms = b.since_unix_ms = clock_wall_ms();
    if (state == PBE(BREAKER_STATE__BREAKER_STATE_OPEN)) {
        b.until_unix_ms = clock_wall_ms() + 30000;
        b.evidence_unix_ms = clock_wall_ms();
    }
    return b;
}

static void store_breaker(int state, uint64_t epoch)
{
    char id[64];
    PB(BreakerChanged) b = a_breaker(state, epoch);
    snprintf(id, sizeof id, "breaker/llm.a/%d", (int)epoch);
    store_message(SUBJECT_BREAKER "llm.a", id, &b);
}

static void store_directive(void)
{
    PB(AgentState) a = an_agent();
    PB(Directive) d = REDOUBT__V1__DIRECTIVE__INIT;
    d.state = &a;
    d.step = PBE(STEP__STEP_INITIAL);
    d.issued_unix_ms = clock_wall_ms();
    d.ack_within_ms = 1000;
    /* As it was when it was issued: not yet confirmed. */
    a.acked_epoch = 2;
    a.revision = 8;
    store_message(SUBJECT_DIRECTIVE "guard-1", "directive/guard-1/3", &d);
}

static void store_health(void)
{
    PB(HealthChanged) h = a_verdict();
    store_message(SUBJECT_HEALTH "llm.a", "health/llm.a/1", &h);
}

static int set_up(void **state)
{
    (void)state;
    char self[400];
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    assert_true(n > 0);
    self[n] = 0;
    for (int up = 0; up < 3; up++) /* <build>/tests/integration/test_cli_bus -> <build>/bin/redoubt */
        *strrchr(self, '/') = 0;
    snprintf(T.program, sizeof T.program, "%s/bin/redoubt", self);
    if (access(T.program, X_OK) != 0) {
        fprintf(stderr, "%s is not built: run `make all` first\n", T.program);
        return -1;
    }
    T.h = harness_open();
    T.nats = harness_nats(T.h, "nats", NULL);
    setenv("REDOUBT_NATS", T.nats->url, 1);
    unsetenv("REDOUBT_CONFIG");
    unsetenv("NO_COLOR");
    assert_int_equal(loop_init(&T.loop), 0);
    struct err e;
    struct bus_opts o = {.url = T.nats->url, .inbox_prefix = "_INBOX_test", .on_up = set_true, .ctx = &T.up};
    T.bus = bus_open(&T.loop, &o, &e);
    assert_non_null(T.bus);
    assert_true(loop_run_until(&T.loop, &T.up, HARNESS_WAIT_MS));
    assert_non_null(bus_subscribe(T.bus, "$SRV.STATS", NULL, on_stats, NULL));
    assert_non_null(bus_subscribe(T.bus, SUBJECT_CMD "breaker.*", NULL, on_command, NULL));
    assert_non_null(bus_subscribe(T.bus, SUBJECT_CMD "fallback.*", NULL, on_command, NULL));
    assert_non_null(bus_subscribe(T.bus, SUBJECT_CMD "health.*", NULL, on_command, NULL));
    assert_non_null(bus_subscribe(T.bus, SUBJECT_REPORT ">", NULL, on_report, NULL));
    T.services_answer = true;
    T.command_status = PBE(COMMAND_STATUS__COMMAND_STATUS_OK);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    bool closed = false;
    bus_close(T.bus, 1000, set_true, &closed);
    loop_run_until(&T.loop, &closed, 3000);
    loop_done(&T.loop);
    harness_close(T.h);
    return 0;
}

/* ---- tests ---- */

static void an_unreachable_bus_is_code_3(void **state)
{
    (void)state;
    static const char *const commands[][4] = {{"status"},          {"tail"},          {"report", "llm.a", "success"},
                                              {"breaker", "show"}, {"agent", "show"}, {"audit", "tail"}};
    char url[64];
    snprintf(url, sizeof url, "nats://127.0.0.1:%d", harness_free_port());
    for (size_t i = 0; i < sizeof commands / sizeof commands[0]; i++) {
        const char *args[16] = {"--nats", url, "--timeout", "300ms"};
        for (size_t k = 0; k < 4 && commands[i][k]; k++)
            args[4 + k] = commands[i][k];
        if (run(args) != CLI_UNREACHABLE)
            fail_msg("%s: code %d\n%s%s", commands[i][0], R.code, R.out, R.err);
        expect_text(R.err, "no NATS server with JetStream answers");
    }
    /* A login in the URL is never shown. */
    char secret[96];
    snprintf(secret, sizeof secret, "nats://user:hunter2@127.0.0.1:%d", harness_free_port());
    assert_int_equal(redoubt("status", "--nats", secret, "--timeout", "200ms"), CLI_UNREACHABLE);
    assert_null(strstr(R.err, "hunter2"));
}

static void settings_and_usage_are_code_2(void **state)
{
    (void)state;
    assert_int_equal(redoubt("status", "-c", "/nonexistent.yaml"), CLI_USAGE);
    expect_text(R.err, "/nonexistent.yaml");
    assert_int_equal(redoubt("report", "llm.a", "splendid"), CLI_USAGE);
    expect_text(R.err, "`splendid` is no outcome");
    assert_int_equal(redoubt("report", "LLM A", "success"), CLI_USAGE);
    assert_int_equal(redoubt("breaker", "open", "llm.a"), CLI_USAGE);
    expect_text(R.err, "--by NAME and --reason TEXT are required");
    assert_int_equal(redoubt("tail", "breaker..x"), CLI_USAGE);
    assert_int_equal(redoubt("status", "--nats", "gopher://x"), CLI_USAGE);
}

static void status_says_what_is_normal_and_what_not(void **state)
{
    (void)state;
    store_breaker(PBE(BREAKER_STATE__BREAKER_STATE_CLOSED), 1);
    store_health();
    store_directive();
    assert_int_equal(redoubt("status"), CLI_OK);
    expect_text(R.out, "everything is normal");
    expect_text(R.out, "host-breaker-0");
    expect_text(R.out, "9.8.7");
    expect_text(R.out, "guard-1");
    assert_null(strchr(R.out, '\033')); /* no colour into a file */
    assert_int_equal(redoubt("status", "--json"), CLI_OK);
    json_t *j = out_json();
    assert_true(json_is_true(json_object_get(j, "normal")));
    assert_int_equal(json_array_size(json_object_get(j, "services")), 6);
    json_t *agent = json_object_get(json_array_get(json_object_get(j, "agents"), 0), "state");
    assert_int_equal(json_integer_value(json_object_get(agent, "ackedEpoch")),
                     3); /* the document's, not the directive's */
    json_decref(j);

    /* Without the orchestrator's word the directive is all there is: not confirmed. */
    T.fallback_silent = true;
    assert_int_equal(redoubt("status"), CLI_FAILED);
    expect_text(R.out, "has not confirmed directive #3");
    T.fallback_silent = false;

    T.services_answer = false;
    assert_int_equal(redoubt("status"), CLI_FAILED);
    expect_text(R.out, "6 open problems");
    expect_text(R.out, "service guard does not answer");
    expect_text(R.out, "service audit does not answer");
    T.services_answer = true;

    store_breaker(PBE(BREAKER_STATE__BREAKER_STATE_OPEN), 2);
    assert_int_equal(redoubt("status"), CLI_FAILED);
    expect_text(R.out, "llm.a: breaker OPEN: five in a row");
    assert_int_equal(redoubt("breaker", "show", "llm.a", "--json"), CLI_OK);
    j = out_json();
    assert_int_equal(json_integer_value(json_object_get(j, "epoch")), 2);
    json_decref(j);
    assert_int_equal(redoubt("breaker", "show", "llm.nowhere"), CLI_REFUSED);
    assert_int_equal(redoubt("agent", "show", "guard-1"), CLI_OK);
    expect_text(R.out, "NORMAL");
    assert_int_equal(redoubt("agent", "show", "nobody"), CLI_REFUSED);
}

static void orders_are_carried_over_with_who_and_why(void **state)
{
    (void)state;
    assert_int_equal(redoubt("breaker", "open", "llm.a", "--by", "ada", "--reason", "maintenance", "--for", "10m"),
                     CLI_OK);
    assert_string_equal(T.command, SUBJECT_CMD "breaker.open");
    assert_string_equal(T.by, "ada");
    assert_string_equal(T.reason, "maintenance");
    assert_int_equal(T.duration_ms, 600000);
    assert_string_equal(R.out, "so be it?[31m\n");
    assert_int_equal(redoubt("breaker", "reset", "llm.a", "--by=ada", "--reason=done"), CLI_OK);
    assert_string_equal(T.command, SUBJECT_CMD "breaker.reset");
    assert_int_equal(redoubt("health", "maintain", "llm.a", "--by=ada", "--reason=upgrade"), CLI_USAGE);
    expect_text(R.err, "always has an end");
    assert_int_equal(redoubt("health", "maintain", "llm.a", "--for=30m"), CLI_USAGE);
    assert_int_equal(redoubt("health", "maintain", "llm.a", "--by=eve", "--reason=upgrade", "--for=30m"), CLI_OK);
    assert_string_equal(T.command, SUBJECT_CMD "health.maintain");
    assert_string_equal(T.by, "eve");
    assert_int_equal(T.duration_ms, 1800000);
    assert_int_equal(redoubt("health", "resume", "llm.a", "--by=ada", "--reason=done"), CLI_OK);
    assert_string_equal(T.command, SUBJECT_CMD "health.resume");
    assert_int_equal(redoubt("health", "probe", "llm.a"), CLI_OK);
    assert_string_equal(T.command, SUBJECT_CMD "health.probe");
    assert_int_equal(redoubt("health", "show", "llm.a"), CLI_OK);
    expect_text(R.out, "vote of host-health-1");
    expect_text(R.out, "nobody is alerted because of it while other.router is down");
    expect_text(R.out, "thinks: as heard?[31m");
    assert_int_equal(redoubt("health", "show", "llm.a", "--json"), CLI_OK);
    expect_text(R.out, "\"suppressedBy\":\"other.router\"");
    assert_int_equal(redoubt("health", "show", "llm.nowhere"), CLI_REFUSED);
    assert_int_equal(redoubt("health", "show"), CLI_OK);
    assert_int_equal(redoubt("freeze", "guard-1", "--by=ada", "--reason=odd"), CLI_OK);
    assert_string_equal(T.command, SUBJECT_CMD "fallback.freeze");
    T.command_status = PBE(COMMAND_STATUS__COMMAND_STATUS_ALREADY);
    assert_int_equal(redoubt("unfreeze", "guard-1", "--by=ada", "--reason=fine", "--without-selftest"), CLI_OK);
    assert_true(T.without_selftest);
    assert_int_equal(redoubt("unfreeze", "guard-1", "--by=ada", "--reason=fine"), CLI_OK);
    assert_false(T.without_selftest);
    T.command_status = PBE(COMMAND_STATUS__COMMAND_STATUS_INVALID);
    assert_int_equal(redoubt("breaker", "close", "llm.a", "--by=ada", "--reason=x"), CLI_REFUSED);
    expect_text(R.err, "refused: so be it");
    T.command_status = PBE(COMMAND_STATUS__COMMAND_STATUS_UNAVAILABLE);
    assert_int_equal(redoubt("freeze", "guard-1", "--by=ada", "--reason=x"), CLI_REFUSED);
    T.command_status = PBE(COMMAND_STATUS__COMMAND_STATUS_OK);
    /* What breaks the contract never leaves. */
    char long_name[200];
    memset(long_name, 'x', sizeof long_name - 1);
    long_name[sizeof long_name - 1] = 0;
    *T.command = 0;
    assert_int_equal(redoubt("freeze", "guard-1", "--by", long_name, "--reason=x"), CLI_USAGE);
    assert_string_equal(T.command, "");
}

static void reports_arrive_one_by_one_and_in_batches(void **state)
{
    (void)state;
    T.reports = T.batches = 0;
    assert_int_equal(redoubt("report", "llm.a", "rate-limited", "--status", "429", "--retry-after-ms", "2000"),
                     CLI_OK);
    for (int64_t until = clock_mono_ms() + HARNESS_WAIT_MS; T.reports < 1 && clock_mono_ms() < until;)
        loop_run_until(&T.loop, &T.stored, 5);
    assert_int_equal(T.reports, 1);
    assert_int_equal(T.last_outcome, PBE(OUTCOME__OUTCOME_RATE_LIMITED));
    assert_int_equal(redoubt("report", "llm.a", "ERROR", "-n", "1001"), CLI_OK);
    expect_text(R.out, "sent 1001 reports of llm.a");
    bool never = false;
    for (int64_t until = clock_mono_ms() + HARNESS_WAIT_MS; T.reports < 1002 && clock_mono_ms() < until;)
        loop_run_until(&T.loop, &never, 5);
    assert_int_equal(T.reports, 1002);
    assert_true(T.batches >= 2);
}

static void tail_decodes_what_comes(void **state)
{
    (void)state;
    const char *args[] = {"tail", "--json", "--count", "3", NULL};
    pid_t pid = start_command(args);
    PB(BreakerChanged) b = a_breaker(PBE(BREAKER_STATE__BREAKER_STATE_OPEN), 7);
    PB(Heartbeat) h = REDOUBT__V1__HEARTBEAT__INIT;
    h.agent = (char *)"guard-1";
    h.instance = (char *)"i";
    h.sequence = 1;
    h.posture = PBE(POSTURE__POSTURE_NORMAL);
    h.interval_ms = 1000;
    h.sent_unix_ms = clock_wall_ms();
    int status, shown = 0;
    /* Sent again until it has seen three: it may still be connecting. */
    for (int64_t until = clock_mono_ms() + HARNESS_WAIT_MS; clock_mono_ms() < until; shown++) {
        struct bus_out bad = {.subject = SUBJECT_HEALTH "llm.bad", .data = "\xff\xff", .len = 2};
        send_message(SUBJECT_HEARTBEAT "guard-1", NULL, &h); /* left out unless asked for */
        send_message(SUBJECT_BREAKER "llm.a", NULL, &b);
        assert_int_equal(bus_publish(T.bus, &bad, NULL), 0);
        bool never = false;
        loop_run_until(&T.loop, &never, 50);
        if (waitpid(pid, &status, WNOHANG) == pid)
            break;
    }
    read_back("out", R.out, sizeof R.out);
    int lines = 0, bad_lines = 0;
    for (char *save = NULL, *line = strtok_r(R.out, "\n", &save); line; line = strtok_r(NULL, "\n", &save), lines++) {
        json_t *j = json_loads(line, 0, NULL);
        assert_non_null(j);
        const char *subject = json_string_value(json_object_get(j, "subject"));
        bad_lines += json_object_get(j, "error") != NULL;
        assert_null(strstr(subject, "heartbeat"));
        if (strcmp(subject, SUBJECT_BREAKER "llm.a") == 0)
            assert_string_equal(json_string_value(json_object_get(json_object_get(j, "message"), "state")), "OPEN");
        json_decref(j);
    }
    assert_int_equal(lines, 3);
    assert_true(bad_lines >= 1);
}

static void tail_replays_the_past_in_order(void **state)
{
    (void)state;
    PB(Alert) a = REDOUBT__V1__ALERT__INIT;
    PB(AuditRecord) r = REDOUBT__V1__AUDIT_RECORD__INIT;
    a.dedup_key = (char *)"k";
    a.severity = PBE(SEVERITY__SEVERITY_HIGH);
    a.source = (char *)"test";
    r.service = (char *)"test";
    r.instance = (char *)"test-0";
    r.audit_class = PBE(AUDIT_CLASS__AUDIT_CLASS_CONTINUITY);
    r.action = (char *)"test.done";
    r.actor = (char *)"test";
    r.subject = (char *)"x";
    r.outcome = PBE(AUDIT_OUTCOME__AUDIT_OUTCOME_DONE);
    /* Alternating between two streams: only the time says which was first. */
    for (int i = 0; i < 6; i++) {
        char id[32], text[32];
        snprintf(id, sizeof id, "past-%d", i);
        snprintf(text, sizeof text, "number %d", i);
        a.id = r.id = id;
        a.summary = r.detail = text;
        a.raised_unix_ms = r.at_unix_ms = clock_wall_ms();
        r.at_mono_ns = clock_mono_ns();
        if (i % 2)
            store_message(SUBJECT_ALERT, id, &a);
        else
            store_message(SUBJECT_AUDIT "test", id, &r);
    }
    assert_int_equal(redoubt("tail", "--replay", "--for", "300ms"), CLI_OK);
    const char *at = R.out;
    for (int i = 0; i < 6; i++) {
        char text[32];
        snprintf(text, sizeof text, "number %d", i);
        const char *next = strstr(at, text);
        if (!next)
            fail_msg("`%s` is missing or out of order in:\n%s\n%s", text, R.out, R.err);
        at = next;
    }
    /* And only what was asked for. */
    assert_int_equal(redoubt("audit", "tail", "test", "--replay", "--for", "300ms"), CLI_OK);
    expect_text(R.out, "number 4");
    assert_null(strstr(R.out, "number 5"));
    assert_int_equal(redoubt("audit", "tail", "other", "--replay", "--for", "300ms"), CLI_OK);
    assert_string_equal(R.out, "");
}

static void watching_ends_in_order(void **state)
{
    (void)state;
    const char *args[] = {"status", "--watch", "--json", NULL};
    pid_t pid = start_command(args);
    for (int64_t until = clock_mono_ms() + HARNESS_WAIT_MS; clock_mono_ms() < until;) {
        bool never = false;
        loop_run_until(&T.loop, &never, 20);
        read_back("out", R.out, sizeof R.out);
        if (strchr(R.out, '\n'))
            break;
    }
    uint64_t epoch = 100;
    store_breaker(PBE(BREAKER_STATE__BREAKER_STATE_PROBATION), epoch);
    for (int64_t until = clock_mono_ms() + HARNESS_WAIT_MS; clock_mono_ms() < until;) {
        bool never = false;
        loop_run_until(&T.loop, &never, 20);
        read_back("out", R.out, sizeof R.out);
        if (strstr(R.out, "PROBATION"))
            break;
    }
    expect_text(R.out, "PROBATION");
    kill(pid, SIGINT);
    assert_true(wait_command(pid, HARNESS_WAIT_MS));
    assert_int_equal(R.code, CLI_FAILED); /* by what it saw last */
}

static void services_that_do_not_run_are_code_3(void **state)
{
    (void)state;
    struct harness_proc *other = harness_nats(T.h, "empty", NULL);
    assert_int_equal(redoubt("--nats", other->url, "freeze", "guard-1", "--by=a", "--reason=b"), CLI_UNREACHABLE);
    expect_text(R.err, "redoubt-fallback does not run");
    harness_freeze(other);
    assert_int_equal(redoubt("--nats", other->url, "--timeout", "300ms", "status"), CLI_UNREACHABLE);
    harness_thaw(other);
    harness_kill(other);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_unreachable_bus_is_code_3),
        cmocka_unit_test(settings_and_usage_are_code_2),
        cmocka_unit_test(status_says_what_is_normal_and_what_not),
        cmocka_unit_test(orders_are_carried_over_with_who_and_why),
        cmocka_unit_test(reports_arrive_one_by_one_and_in_batches),
        cmocka_unit_test(tail_decodes_what_comes),
        cmocka_unit_test(tail_replays_the_past_in_order),
        cmocka_unit_test(watching_ends_in_order),
        cmocka_unit_test(services_that_do_not_run_are_code_3),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
