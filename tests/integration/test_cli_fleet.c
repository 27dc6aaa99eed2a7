/* test_cli_fleet.c - the simulated agents as processes, one and many: the test plays the suite on a real NATS server. */
#include "../harness.h"
#include "cli/cli.h"
#include "common/bus.h"
#include "common/clock.h"
#include "common/subjects.h"
#include "common/wire.h"
#include <inttypes.h>
#include <jansson.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define AGENTS 200

struct seen { /* of one agent of the fleet */
    int applied[8], already, beats, actions, actions_when_frozen;
    uint64_t epoch; /* the last one acknowledged */
    bool frozen;    /* and what it said */
    uint64_t told;  /* the last one told */
};
struct env {
    struct harness *h;
    struct harness_proc *nats;
    char program[512];
    struct loop loop;
    struct bus *bus;
    bool up, closed;
    int stores, acks, repeats, beats, reports, actions, monitor_reports, ack_last_status;
    uint64_t frozen_from; /* epoch whose acknowledgement means frozen */
    struct seen fleet[AGENTS + 1];
    uint64_t ack_epoch, action_epoch;
    char monitor[256], answer[256];
};

static struct seen *seen(struct env *v, const char *name)
{
    unsigned n = 0;
    if (sscanf(name, "f-%u", &n) != 1 || n < 1 || n > AGENTS)
        return &v->fleet[AGENTS];
    return &v->fleet[n - 1];
}

/* ---- the suite's side ---- */

static void on_ack(void *ctx, const struct bus_msg *m)
{
    struct env *v = ctx;
    PB(DirectiveAck) *a = wire_unpack(PB_DESC(directive_ack), m->data, m->len, NULL);
    assert_non_null(a);
    struct seen *s = seen(v, a->agent);
    assert_true(a->epoch < 8);
    if (a->status == REDOUBT__V1__ACK_STATUS__ACK_STATUS_APPLIED)
        s->applied[a->epoch]++;
    else
        v->repeats++;
    s->epoch = a->epoch;
    s->frozen = v->frozen_from && a->epoch >= v->frozen_from;
    v->ack_epoch = a->epoch;
    v->ack_last_status = (int)a->status;
    v->acks++;
    wire_free(a);
}

static void on_beat(void *ctx, const struct bus_msg *m)
{
    struct env *v = ctx;
    PB(Heartbeat) *h = wire_unpack(PB_DESC(heartbeat), m->data, m->len, NULL);
    assert_non_null(h);
    seen(v, h->agent)->beats++;
    v->beats++;
    wire_free(h);
}

static void on_report(void *ctx, const struct bus_msg *m)
{
    struct env *v = ctx;
    (void)m;
    v->reports++;
}

static void on_action(void *ctx, const struct bus_msg *m)
{
    struct env *v = ctx;
    size_t len;
    PB(ActionRequest) *q = wire_unpack(PB_DESC(action_request), m->data, m->len, NULL);
    assert_non_null(q);
    struct seen *s = seen(v, q->agent);
    s->actions++;
    if (s->frozen)
        s->actions_when_frozen++;
    v->actions++;
    v->action_epoch = q->epoch;
    assert_string_equal(q->action, "block_ip");
    assert_true(q->n_parameters == 1 && strcmp(q->parameters[0]->key, "ip") == 0);
    PB(ActionReply) a = REDOUBT__V1__ACTION_REPLY__INIT;
    a.idempotency_key = q->idempotency_key;
    a.decision = REDOUBT__V1__ACTION_DECISION__ACTION_DECISION_FORWARDED;
    a.status_code = 202;
    void *data = wire_pack(&a, &len, NULL);
    bus_publish(v->bus, &(struct bus_out){.subject = m->reply, .type = wire_type(&a), .data = data, .len = len},
                NULL);
    free(data);
    wire_free(q);
}

static void on_monitor(void *ctx, const struct bus_msg *m)
{
    struct env *v = ctx;
    PB(MonitorReport) *r = wire_unpack(PB_DESC(monitor_report), m->data, m->len, NULL);
    assert_non_null(r);
    size_t n = 0;
    v->monitor[0] = 0;
    for (size_t i = 0; i < r->n_checks && n < 200; i++)
        n += (size_t)snprintf(v->monitor + n, sizeof v->monitor - n, "%s=%d ", r->checks[i]->name, r->checks[i]->ok);
    v->monitor_reports++;
    wire_free(r);
}

static void on_answer(void *ctx, enum bus_status st, const struct bus_msg *m)
{
    struct env *v = ctx;
    PB(SelftestAnswer) *a = st == BUS_OK ? wire_unpack(PB_DESC(selftest_answer), m->data, m->len, NULL) : NULL;
    snprintf(v->answer, sizeof v->answer, "%s%s", a ? a->answer_json : bus_status_text(st), a ? a->error : "");
    wire_free(a);
}

static void on_up(void *ctx)
{
    ((struct env *)ctx)->up = true;
}

static void set_true(void *ctx)
{
    *(bool *)ctx = true;
}

static void on_stored(void *ctx, const struct bus_stored *r)
{
    assert_int_equal(r->status, BUS_OK);
    ((struct env *)ctx)->stores++;
}

#define UNTIL(v, expr)                                                                                               \
    do {                                                                                                             \
        int64_t end_ = clock_mono_ms() + 2 * HARNESS_WAIT_MS;                                                        \
        bool never_ = false;                                                                                         \
        while (!(expr)) {                                                                                            \
            if (clock_mono_ms() > end_)                                                                              \
                fail_msg("waited in vain: %s", #expr);                                                               \
            (void)loop_run_until(&(v)->loop, &never_, 10);                                                           \
        }                                                                                                            \
    } while (0)

static int set_up(void **state)
{
    struct env *v = calloc(1, sizeof *v);
    struct err e = {""};
    char self[400];
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    assert_true(n > 0);
    self[n] = 0;
    for (int up = 0; up < 3; up++)
        *strrchr(self, '/') = 0;
    snprintf(v->program, sizeof v->program, "%s/bin/redoubt", self);
    if (access(v->program, X_OK) != 0) {
        fprintf(stderr, "%s is not built: run `make all` first\n", v->program);
        return -1;
    }
    signal(SIGPIPE, SIG_IGN);
    v->h = harness_open();
    v->nats = harness_nats(v->h, "nats", NULL);
    loop_init(&v->loop);
    v->bus = bus_open(
        &v->loop, &(struct bus_opts){.url = v->nats->url, .inbox_prefix = "_INBOX_suite", .on_up = on_up, .ctx = v},
        &e);
    assert_non_null(v->bus);
    assert_non_null(bus_subscribe(v->bus, SUBJECT_ACK ">", NULL, on_ack, v));
    assert_non_null(bus_subscribe(v->bus, SUBJECT_HEARTBEAT ">", NULL, on_beat, v));
    assert_non_null(bus_subscribe(v->bus, SUBJECT_REPORT ">", NULL, on_report, v));
    assert_non_null(bus_subscribe(v->bus, SUBJECT_MONITOR ">", NULL, on_monitor, v));
    assert_non_null(bus_subscribe(v->bus, SUBJECT_ACTION ">", "guard", on_action, v));
    assert_true(loop_run_until(&v->loop, &v->up, HARNESS_WAIT_MS));
    *state = v;
    return 0;
}

static int tear_down(void **state)
{
    struct env *v = *state;
    bus_close(v->bus, 1000, set_true, &v->closed);
    assert_true(loop_run_until(&v->loop, &v->closed, HARNESS_WAIT_MS));
    loop_done(&v->loop);
    harness_close(v->h);
    free(v);
    return 0;
}

static void direct(struct env *v, const char *agent, PB(AgentState) s, PB(Step) step)
{
    char id[128], subject[SUBJECT_MAX_LEN];
    size_t len;
    struct err e = {""};
    PB(Directive) d = REDOUBT__V1__DIRECTIVE__INIT;
    s.agent = (char *)(uintptr_t)agent;
    s.automation = s.posture == REDOUBT__V1__POSTURE__POSTURE_FROZEN
                       ? REDOUBT__V1__AUTOMATION_MODE__AUTOMATION_MODE_FROZEN
                       : REDOUBT__V1__AUTOMATION_MODE__AUTOMATION_MODE_ENABLED;
    d.state = &s;
    d.step = step;
    d.issued_unix_ms = clock_wall_ms();
    snprintf(id, sizeof id, "directive/%s/%" PRIu64, agent, s.epoch);
    snprintf(subject, sizeof subject, SUBJECT_DIRECTIVE "%s", agent);
    void *data = wire_pack(&d, &len, &e);
    if (!data)
        fail_msg("%s", e.text);
    bus_store(v->bus,
              &(struct bus_out){.subject = subject, .id = id, .type = wire_type(&d), .data = data, .len = len},
              HARNESS_WAIT_MS, on_stored, v);
    free(data);
}

static void direct_fleet(struct env *v, int from, int to, uint64_t epoch, PB(Posture) posture)
{
    char name[32];
    PB(AgentState) s = REDOUBT__V1__AGENT_STATE__INIT;
    s.epoch = epoch;
    s.posture = posture;
    s.llm_target = "llm.a";
    s.llm_model = "m";
    for (int i = from; i < to; i++) {
        snprintf(name, sizeof name, "f-%05d", i + 1);
        direct(v, name, s, REDOUBT__V1__STEP__STEP_INITIAL);
    }
}

/* ---- what the programs print ---- */

/* The newest line of that event, or NULL; how many there are in *ret_n. A new reference. */
static json_t *line_of(struct env *v, const char *name, const char *event, int *ret_n)
{
    char path[600], line[8192];
    json_t *last = NULL;
    int n = 0;
    snprintf(path, sizeof path, "%s/%s.log", harness_dir(v->h), name);
    FILE *f = fopen(path, "r");
    while (f && fgets(line, sizeof line, f)) {
        json_t *j = strchr(line, '\n') ? json_loads(line, 0, NULL) : NULL;
        const char *what = json_string_value(json_object_get(j, "event"));
        if (what && strcmp(what, event) == 0) {
            json_decref(last);
            last = json_incref(j);
            n++;
        }
        json_decref(j);
    }
    if (f)
        fclose(f);
    if (ret_n)
        *ret_n = n;
    return last;
}

static json_int_t number(const json_t *j, const char *outer, const char *name)
{
    const json_t *at = outer ? json_object_get(j, outer) : j;
    return json_integer_value(json_object_get(at, name));
}

/* Does the newest line of that event say so? */
static bool says(struct env *v, const char *name, const char *event, const char *outer, const char *field,
                 json_int_t value)
{
    json_t *j = line_of(v, name, event, NULL);
    bool yes = j && number(j, outer, field) == value;
    json_decref(j);
    return yes;
}

static int lines(struct env *v, const char *name, const char *event)
{
    int n;
    json_decref(line_of(v, name, event, &n));
    return n;
}

/* ---- tests ---- */

static bool all_applied(const struct env *v, int from, int to, uint64_t epoch)
{
    for (int i = from; i < to; i++)
        if (v->fleet[i].applied[epoch] == 0)
            return false;
    return true;
}

static void a_fleet(void **state)
{
    struct env *v = *state;
    char n[16];
    snprintf(n, sizeof n, "%d", AGENTS);
    direct_fleet(v, 0, AGENTS / 2, 1, REDOUBT__V1__POSTURE__POSTURE_NORMAL); /* half of them before it comes */
    UNTIL(v, v->stores == AGENTS / 2);
    const char *argv[] = {v->program,       "sim", "fleet",         "--nats", v->nats->url, "--prefix", "f-", "-n", n,
                          "--heartbeat-ms", "500", "--report-rate", "50",     "--act-rate", "400",      NULL};
    struct harness_proc *p = harness_run(v->h, "fleet", 0, argv);
    direct_fleet(v, AGENTS / 2, AGENTS, 1, REDOUBT__V1__POSTURE__POSTURE_NORMAL);
    UNTIL(v, all_applied(v, 0, AGENTS, 1));
    UNTIL(v, says(v, "fleet", "fleet", NULL, "acked", AGENTS) &&
                 says(v, "fleet", "fleet", "postures", "NORMAL", AGENTS));
    UNTIL(v, v->reports > 10 && v->actions > 2 * AGENTS);
    for (int i = 0; i < AGENTS; i++)
        UNTIL(v, v->fleet[i].beats >= 2);
    assert_int_equal(v->fleet[AGENTS].beats, 0); /* nobody else */

    /* Self-tests find a judgement. */
    static const struct {
        char *event;
        const char *answer;
    } questions[] = {
        {"{\"source\":\"203.0.113.7\",\"failed_logins\":40}",
         "{\"verdict\":\"malicious\",\"action\":\"block_ip\",\"object\":\"203.0.113.7\"}"},
        {"{\"source\":\"203.0.113.7\",\"failed_logins\":1}",
         "{\"verdict\":\"benign\",\"action\":\"\",\"object\":\"\"}"},
        {"{\"source\":7}", "the event has no integer failed_logins"},
    };
    for (size_t i = 0; i < 3; i++) {
        PB(SelftestQuestion) q = REDOUBT__V1__SELFTEST_QUESTION__INIT;
        size_t len;
        q.agent = "f-00002";
        q.id = "q1";
        q.name = "one";
        q.event_json = questions[i].event;
        void *data = wire_pack(&q, &len, NULL);
        assert_non_null(data);
        v->answer[0] = 0;
        bus_request(v->bus, &(struct bus_out){.subject = SUBJECT_SELFTEST "f-00002", .data = data, .len = len},
                    HARNESS_WAIT_MS, on_answer, v);
        free(data);
        UNTIL(v, v->answer[0] != 0);
        assert_string_equal(v->answer, questions[i].answer);
    }

    /* A new mark, then half of it is frozen: each epoch once, and from the acknowledgement on no action. */
    assert_int_equal(kill(p->pid, SIGUSR1), 0);
    UNTIL(v, lines(v, "fleet", "mark") == 1);
    v->frozen_from = 2;
    direct_fleet(v, 0, AGENTS / 2, 2, REDOUBT__V1__POSTURE__POSTURE_FROZEN);
    UNTIL(v, all_applied(v, 0, AGENTS / 2, 2));
    int before = v->actions, rest = v->fleet[AGENTS - 1].actions;
    UNTIL(v, v->actions > before + 2 * AGENTS && v->fleet[AGENTS - 1].actions > rest + 1);
    UNTIL(v, says(v, "fleet", "fleet", "postures", "FROZEN", AGENTS / 2));
    UNTIL(v, says(v, "fleet", "fleet", NULL, "acked", AGENTS)); /* the stream has them all, by its own word */
    for (int i = 0; i < AGENTS / 2; i++)
        assert_int_equal(v->fleet[i].actions_when_frozen, 0);
    json_t *j = line_of(v, "fleet", "fleet", NULL);
    const json_t *since = json_object_get(j, "since_mark");
    assert_int_equal(number(j, NULL, "acked"), AGENTS);
    assert_int_equal(number(since, NULL, "directives"), AGENTS / 2);
    assert_int_equal(number(since, "ack_ms", "n"), AGENTS / 2);
    assert_true(number(since, "ack_ms", "p50") <= number(since, "ack_ms", "p99"));
    assert_true(number(since, "ack_ms", "p99") <= number(since, "ack_ms", "max"));
    assert_true(number(j, "actions", "FORWARDED") > 0 && number(j, "actions", "refused_here") > 0);
    json_decref(j);

    /* A repeat is confirmed again, an older one is left alone. */
    int repeats = v->repeats, acks = v->acks;
    PB(AgentState) s = REDOUBT__V1__AGENT_STATE__INIT;
    PB(Directive) d = REDOUBT__V1__DIRECTIVE__INIT;
    s.agent = "f-00001";
    s.posture = REDOUBT__V1__POSTURE__POSTURE_NORMAL;
    d.state = &s;
    d.step = REDOUBT__V1__STEP__STEP_INITIAL;
    for (s.epoch = 1; s.epoch <= 2; s.epoch++) {
        size_t len;
        void *data = wire_pack(&d, &len, NULL);
        assert_non_null(data);
        bus_publish(v->bus, &(struct bus_out){.subject = SUBJECT_DIRECTIVE "f-00001", .data = data, .len = len},
                    NULL);
        free(data);
    }
    bus_publish(v->bus, &(struct bus_out){.subject = SUBJECT_DIRECTIVE "f-00001", .data = "junk", .len = 4}, NULL);
    UNTIL(v, v->repeats == repeats + 1);
    UNTIL(v, says(v, "fleet", "fleet", "since_mark", "old", 1) && says(v, "fleet", "fleet", "since_mark", "bad", 1));
    assert_int_equal(v->acks, acks + 1);

    /* The bus goes and comes back: everybody confirms once more, nobody is given anything again. */
    harness_kill(v->nats);
    harness_start(v->nats);
    /* By its own count, as this test may be back later. The junk is now the last of that one agent on the stream. */
    UNTIL(v, says(v, "fleet", "fleet", "since_mark", "repeats", 1 + AGENTS - 1));
    assert_true(says(v, "fleet", "fleet", "since_mark", "directives", AGENTS / 2));
    for (int i = 0; i < AGENTS; i++)
        assert_int_equal(v->fleet[i].applied[1] + v->fleet[i].applied[2], i < AGENTS / 2 ? 2 : 1);
    assert_int_equal(harness_stop(p), 0);
    assert_int_equal(lines(v, "fleet", "end"), 1);
}

/* Its code; 124 if it did not end in time. */
static int run(struct env *v, const char *args, const char *out)
{
    char line[2048];
    snprintf(line, sizeof line, "timeout -k 5 %d %s %s > %s/%s 2>&1", 2 * HARNESS_WAIT_MS / 1000, v->program, args,
             harness_dir(v->h), out);
    int status = system(line);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void settings_for_a_fleet(void **state)
{
    struct env *v = *state;
    char text[1200];
    assert_int_equal(run(v,
                         "sim fleet --print-settings -n 300 --backend backend.sim --actions-url http://127.0.0.1:1",
                         "agents.yaml"),
                     0);
    snprintf(text, sizeof text, "%s/all.yaml", harness_dir(v->h));
    FILE *f = fopen(text, "w");
    fprintf(f,
            "nats: {url: \"%s\"}\ntargets:\n"
            "  - {name: llm.sim.primary, kind: llm, probe: {type: llm, url: \"http://127.0.0.1:1/v1\", model: a}}\n"
            "  - {name: llm.sim.backup, kind: llm, probe: {type: llm, url: \"http://127.0.0.1:1/v1\", model: b}}\n"
            "  - {name: backend.sim, kind: backend, probe: {type: http, url: \"http://127.0.0.1:1/health\"}}\n",
            v->nats->url);
    fclose(f);
    snprintf(text, sizeof text, "cat %s/agents.yaml >> %s/all.yaml", harness_dir(v->h), harness_dir(v->h));
    assert_int_equal(system(text), 0);
    snprintf(text, sizeof text, "config check %s/all.yaml", harness_dir(v->h));
    assert_int_equal(run(v, text, "check.out"), 0);
    /* The fleet of that file. */
    snprintf(text, sizeof text, "sim fleet -c %s/all.yaml --for 1500ms", harness_dir(v->h));
    assert_int_equal(run(v, text, "short.log"), 0);
    assert_true(says(v, "short", "end", NULL, "agents", 300));
    assert_true(says(v, "short", "end", NULL, "undirected", 300));
    snprintf(text, sizeof text, "sim fleet -c %s/all.yaml -n 301", harness_dir(v->h));
    assert_int_equal(run(v, text, "wrong.out"), CLI_USAGE);
    static const char *const wrong[] = {"sim fleet --print-settings --chain llm.a",
                                        "sim fleet --print-settings --chain ''",
                                        "sim fleet --print-settings --chain 'NO=m'",
                                        "sim fleet --print-settings --chain 'a=b\"'",
                                        "sim fleet --print-settings --backend NO",
                                        "sim fleet --nats nats://127.0.0.1:1 --prefix NO -n 2",
                                        "sim fleet -n 0"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        assert_int_equal(run(v, wrong[i], "wrong.out"), CLI_USAGE);
}

/* One agent with everything. */
static const char *agent_settings(struct env *v)
{
    static char path[600];
    snprintf(path, sizeof path, "%s/one.yaml", harness_dir(v->h));
    FILE *f = fopen(path, "w");
    fprintf(f,
            "nats: {url: \"%s\"}\ntargets:\n"
            "  - {name: llm.a, kind: llm, probe: {type: llm, url: \"http://127.0.0.1:1/v1\", model: a}}\n"
            "agents:\n  - {name: mcp, heartbeat: 500ms, chain: [{target: llm.a, model: a}]}\n",
            v->nats->url);
    fclose(f);
    return path;
}

static void direct_agent(struct env *v, uint64_t epoch, PB(Posture) posture, unsigned load, bool restart)
{
    PB(AgentState) s = REDOUBT__V1__AGENT_STATE__INIT;
    s.epoch = epoch;
    s.posture = posture;
    s.llm_target = "llm.a";
    s.llm_model = "a";
    s.load_percent = load;
    s.restart_requested = restart;
    s.monitor_interval_ms = posture == REDOUBT__V1__POSTURE__POSTURE_DEGRADED ? 200 : 0;
    direct(v, "mcp", s, restart ? REDOUBT__V1__STEP__STEP_REQUEST_RESTART : REDOUBT__V1__STEP__STEP_INITIAL);
    UNTIL(v, v->ack_epoch == epoch);
}

static void an_agent_that_does_it_all(void **state)
{
    struct env *v = *state;
    const char *settings = agent_settings(v);
    const char *argv[] = {v->program, "sim",    "agent", "mcp",         "-c",     settings, "--act-rate",
                          "50",       "--rate", "20",    "--misbehave", "memory", NULL};
    struct harness_proc *p = harness_run(v->h, "agent", 0, argv);
    UNTIL(v, v->beats > 0);
    direct_agent(v, 1, REDOUBT__V1__POSTURE__POSTURE_NORMAL, 100, false);
    UNTIL(v, v->actions > 20 && v->action_epoch == 1);
    UNTIL(v, lines(v, "agent", "action") >= 1 && lines(v, "agent", "actions") >= 1);
    /* Of its work it takes on what it may. */
    direct_agent(v, 2, REDOUBT__V1__POSTURE__POSTURE_RECOVERING, 10, false);
    UNTIL(v, v->action_epoch == 2);
    /* Degraded: it monitors. It holds too much memory, and sees it. */
    direct_agent(v, 3, REDOUBT__V1__POSTURE__POSTURE_DEGRADED, 100, false);
    UNTIL(v, v->monitor_reports >= 2 && lines(v, "agent", "monitor") >= 2);
    assert_non_null(strstr(v->monitor, "memory=0 disk="));
    /* Asked to restart, it does: the same process, and nothing of the memory. */
    pid_t pid = p->pid;
    direct_agent(v, 4, REDOUBT__V1__POSTURE__POSTURE_DEGRADED, 100, true);
    UNTIL(v, lines(v, "agent", "restarted") == 1);
    assert_true(harness_alive(p) && p->pid == pid);
    UNTIL(v, strstr(v->monitor, "memory=1 disk=") != NULL);
    assert_int_equal(lines(v, "agent", "restart_asked"), 1);
    direct_agent(v, 5, REDOUBT__V1__POSTURE__POSTURE_NORMAL, 100, false);
    UNTIL(v, v->action_epoch == 5);
    /* Frozen: it says so, and nothing leaves it. */
    direct_agent(v, 6, REDOUBT__V1__POSTURE__POSTURE_FROZEN, 100, false);
    int before = v->actions;
    json_t *j = NULL;
    UNTIL(v, (json_decref(j), j = line_of(v, "agent", "action", NULL)) &&
                 strcmp(json_string_value(json_object_get(j, "refusal")), "FROZEN") == 0);
    json_decref(j);
    assert_int_equal(harness_stop(p), 0);
    assert_int_equal(v->actions, before);
    assert_true(lines(v, "agent", "end") == 2); /* one by each process */
}

static void an_agent_that_ends_to_be_restarted(void **state)
{
    struct env *v = *state;
    const char *settings = agent_settings(v);
    const char *argv[] = {v->program, "sim", "agent", "-c", settings, "--restart", "exit", NULL};
    char line[1200];
    struct harness_proc *p = harness_run(v->h, "exits", 0, argv);
    UNTIL(v, v->beats > 0);
    direct_agent(v, 1, REDOUBT__V1__POSTURE__POSTURE_NORMAL, 100, false);
    direct_agent(v, 2, REDOUBT__V1__POSTURE__POSTURE_DEGRADED, 100, true);
    UNTIL(v, !harness_alive(p));
    UNTIL(v, lines(v, "exits", "end") == 1);
    /* Its code says so: the same once more, by a shell that tells it. */
    snprintf(line, sizeof line,
             "%s sim agent -c %s --restart exit > %s/again.log 2>&1; echo \"{\\\"event\\\": \\\"code\\\", "
             "\\\"code\\\": $?}\"",
             v->program, settings, harness_dir(v->h));
    const char *shell[] = {"sh", "-c", line, NULL};
    p = harness_run(v->h, "shell", 0, shell);
    UNTIL(v, v->ack_epoch == 2 && lines(v, "again", "directive") == 1); /* restarted: it is not asked again */
    direct_agent(v, 3, REDOUBT__V1__POSTURE__POSTURE_DEGRADED, 100, true);
    UNTIL(v, says(v, "shell", "code", NULL, "code", 75));
    UNTIL(v, !harness_alive(p));
    snprintf(line, sizeof line, "sim agent -c %s --restart sometimes", settings);
    assert_int_equal(run(v, line, "wrong.out"), CLI_USAGE);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
    const struct CMUnitTest tests[] = {T(a_fleet), T(settings_for_a_fleet), T(an_agent_that_does_it_all),
                                       T(an_agent_that_ends_to_be_restarted)};
    cmocka_set_test_filter(getenv("ONLY"));
    return cmocka_run_group_tests(tests, NULL, NULL);
}
