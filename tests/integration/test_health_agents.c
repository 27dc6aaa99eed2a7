/* test_health_agents.c - redoubt-health watching agents and its own host: a real NATS and Redis, agents on libredoubt, a child process, a
 * log that is rotated. */
#include "../harness.h"
#include "client/redoubt.h"
#include "common/bus.h"
#include "common/clock.h"
#include "common/subjects.h"
#include "common/wire.h"
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define AGENT     "tester"
#define SELF      "agent." AGENT
#define LOGIC     SELF ".logic"
#define RAW       "agent.raw"
#define MEANS     RAW ".resources"
#define PROCESS   "host.process"
#define ELSEWHERE "elsewhere.process" /* of a host on which no watcher runs */
#define LOG       "host.log"
#define KEPT      512
#define E_(x)     REDOUBT__V1__##x
#define IS(x)     E_(HEALTH_STATE__HEALTH_STATE_##x)
#define FAULT(x)  E_(PROBE_FAULT__PROBE_FAULT_##x)

struct seen {
    char target[TARGET_MAX_LEN + 1], detail[300], observer[129];
    uint64_t epoch;
    int state, failure, fault, kind;
};
struct env {
    struct harness *h;
    struct harness_proc *nats, *redis, *health;
    char conf[600], log[600], pid_file[600];
    struct loop loop;
    struct bus *bus;
    bool up, closed, replied;
    struct seen seen[KEPT];
    size_t n_seen;
    struct {
        char key[256], summary[512], agent[65];
        int severity;
        bool manual, resolved;
    } alerts[KEPT];
    size_t n_alerts;
    char shown[600];
    /* the agent */
    redoubt *_Atomic agent; /* its callbacks look, too */
    _Atomic uint64_t progress, exceptions;
    _Atomic uint32_t waiting;
    _Atomic bool moves;
    _Atomic int answers; /* what it says to questions */
    _Atomic unsigned asked;
    uint64_t raw_beats, decided;
    uint64_t rss, oom_kills;
    bool beating, decides;
    struct loop_timer pace;
};
enum { RIGHT, WRONG, NO_JSON, SILENT };

/* ---- the agent ---- */

static enum redoubt_ack on_directive(void *ctx, const redoubt_directive *d, char detail[256])
{
    (void)ctx;
    (void)d;
    (void)detail;
    return REDOUBT_APPLIED;
}

static void on_heartbeat(void *ctx, uint64_t *progress, uint64_t *exceptions, uint32_t *queue_depth)
{
    struct env *e = ctx;
    *progress = atomic_load(&e->moves) ? atomic_fetch_add(&e->progress, 1) : atomic_load(&e->progress);
    *exceptions = atomic_load(&e->exceptions);
    *queue_depth = atomic_load(&e->waiting);
}

static void on_selftest(void *ctx, const redoubt_selftest *q)
{
    struct env *e = ctx;
    atomic_fetch_add(&e->asked, 1);
    static const char *const says[] = {
        [RIGHT] = "{\"verdict\":\"malicious\",\"score\":9.0,\"why\":\"many logins\"}",
        [WRONG] = "{\"verdict\":\"benign\",\"score\":9}",
        [NO_JSON] = "I think that this is malicious.",
    };
    int mode = atomic_load(&e->answers);
    if (mode != SILENT)
        (void)redoubt_selftest_answer(e->agent, q->id, says[mode], NULL);
}

static void open_agent(struct env *e, bool serves)
{
    char error[256] = "";
    atomic_store(&e->moves, true);
    e->agent = redoubt_open(&(redoubt_options){.url = e->nats->url,
                                               .agent = AGENT,
                                               .instance = "box-1",
                                               .heartbeat_ms = 200,
                                               .on_directive = on_directive,
                                               .on_heartbeat = on_heartbeat,
                                               .on_selftest = serves ? on_selftest : NULL,
                                               .ctx = e},
                            error);
    assert_string_equal(error, "");
}

static void decide(struct env *e, const char *event, const char *verdict, const char *action, const char *object,
                   enum redoubt_decided outcome)
{
    const redoubt_decision_t d = {event, verdict, action, object, "said the agent", outcome};
    assert_int_equal(redoubt_decision(e->agent, &d), 0);
}

static void decide_well(struct env *e)
{
    char event[32], object[32];
    snprintf(event, sizeof event, "event-%d", (int)++e->decided);
    snprintf(object, sizeof object, "10.0.%d.%d", (int)(e->decided >> 8 & 255), (int)(e->decided & 255));
    decide(e, event, "malicious", "block_ip", object, REDOUBT_DECIDED_DONE);
}

/* ---- the suite's other services ---- */

static void publish(struct env *e, const char *subject, const char *type, const void *data, size_t len)
{
    const struct bus_out o = {.subject = subject, .type = type, .data = data, .len = len};
    assert_int_equal(bus_publish(e->bus, &o, NULL), 0);
}

static void say(struct env *e, const char *subject, const void *message)
{
    size_t len;
    struct err er = {""};
    void *data = wire_pack(message, &len, &er);
    if (!data)
        fail_msg("%s", er.text);
    publish(e, subject, wire_type(message), data, len);
    free(data);
}

/* An agent that speaks the contract itself, and whose means are what the test wants. */
static void on_pace(void *ctx)
{
    struct env *e = ctx;
    if (e->agent && e->decides)
        decide_well(e);
    if (!e->beating || !e->up)
        return;
    PB(ResourceUsage) u = E_(RESOURCE_USAGE__INIT);
    PB(Heartbeat) h = E_(HEARTBEAT__INIT);
    h.agent = (char *)"raw";
    h.instance = (char *)"here-1";
    h.sequence = ++e->raw_beats;
    h.progress = e->raw_beats;
    h.interval_ms = 200;
    h.resources = &u;
    u.rss_bytes = e->rss;
    u.rss_limit_bytes = 1000 << 20;
    u.oom_kills = e->oom_kills;
    say(e, SUBJECT_HEARTBEAT "raw", &h);
}

static void on_verdict(void *ctx, const struct bus_msg *m)
{
    struct env *e = ctx;
    PB(HealthChanged) *h = wire_unpack(PB_DESC(health_changed), m->data, m->len, NULL);
    assert_non_null(h);
    for (size_t i = 0; i < e->n_seen; i++)
        if (strcmp(e->seen[i].target, h->target) == 0 && e->seen[i].epoch == h->epoch) {
            wire_free(h);
            return;
        }
    assert_true(e->n_seen < KEPT);
    struct seen *s = &e->seen[e->n_seen++];
    snprintf(s->target, sizeof s->target, "%s", h->target);
    s->epoch = h->epoch;
    s->state = (int)h->state;
    s->failure = (int)h->failure_kind;
    if (h->n_evidence) {
        s->fault = (int)h->evidence[0]->fault;
        s->kind = (int)h->evidence[0]->kind;
        snprintf(s->detail, sizeof s->detail, "%s", h->evidence[0]->detail);
        snprintf(s->observer, sizeof s->observer, "%s", h->evidence[0]->observer);
    }
    wire_free(h);
}

static void on_alert(void *ctx, const struct bus_msg *m)
{
    struct env *e = ctx;
    PB(Alert) *a = wire_unpack(PB_DESC(alert), m->data, m->len, NULL);
    assert_non_null(a);
    assert_true(e->n_alerts < KEPT);
    size_t i = e->n_alerts++;
    snprintf(e->alerts[i].key, sizeof e->alerts[i].key, "%s", a->dedup_key);
    snprintf(e->alerts[i].summary, sizeof e->alerts[i].summary, "%s", a->summary);
    snprintf(e->alerts[i].agent, sizeof e->alerts[i].agent, "%s", a->agent);
    e->alerts[i].severity = (int)a->severity;
    e->alerts[i].manual = a->manual_intervention_required;
    e->alerts[i].resolved = a->resolved;
    wire_free(a);
}

static void on_shown(void *ctx, enum bus_status st, const struct bus_msg *m)
{
    struct env *e = ctx;
    e->replied = true;
    e->shown[0] = 0;
    PB(CommandReply) *r = st == BUS_OK ? wire_unpack(PB_DESC(command_reply), m->data, m->len, NULL) : NULL;
    if (r)
        snprintf(e->shown, sizeof e->shown, "%s", r->message);
    wire_free(r);
}

/* What the service itself thinks, announced or not. */
static const char *show(struct env *e, const char *target)
{
    PB(HealthCommand) q = E_(HEALTH_COMMAND__INIT);
    q.target = (char *)(uintptr_t)target;
    size_t len;
    void *data = wire_pack(&q, &len, NULL);
    assert_non_null(data);
    const struct bus_out o = {.subject = SUBJECT_CMD "health.show", .type = wire_type(&q), .data = data, .len = len};
    e->replied = false;
    bus_request(e->bus, &o, 2000, on_shown, e);
    free(data);
    assert_true(loop_run_until(&e->loop, &e->replied, HARNESS_WAIT_MS));
    return e->shown;
}

/* ---- the fixture ---- */

static void on_up(void *ctx)
{
    ((struct env *)ctx)->up = true;
}
static void on_down(void *ctx)
{
    ((struct env *)ctx)->up = false;
}
static void on_closed(void *ctx)
{
    ((struct env *)ctx)->closed = true;
}
static void nothing(void *ctx)
{
    (void)ctx;
}

static const struct seen *last_of(const struct env *e, const char *target)
{
    const struct seen *s = NULL;
    for (size_t i = 0; i < e->n_seen; i++)
        if (strcmp(e->seen[i].target, target) == 0 && (!s || e->seen[i].epoch > s->epoch))
            s = &e->seen[i];
    return s;
}

static bool is(const struct env *e, const char *target, int state)
{
    const struct seen *s = last_of(e, target);
    return s && s->state == state;
}

static bool is_for(const struct env *e, const char *target, int state, int fault)
{
    const struct seen *s = last_of(e, target);
    return s && s->state == state && s->fault == fault;
}

/* By the problem's key, which is fallback's as well. */
static bool alerted(const struct env *e, const char *target, bool resolved)
{
    const char *key = strcmp(target, SELF) == 0    ? "agent/" AGENT "/down"
                      : strcmp(target, LOGIC) == 0 ? "agent/" AGENT "/frozen"
                                                   : "agent/raw/resources";
    for (size_t i = 0; i < e->n_alerts; i++)
        if (strcmp(e->alerts[i].key, key) == 0 && e->alerts[i].resolved == resolved)
            return true;
    return false;
}

#define UNTIL(e, expr)                                                                                               \
    do {                                                                                                             \
        int64_t end_ = clock_mono_ms() + 3 * HARNESS_WAIT_MS;                                                        \
        bool never_ = false;                                                                                         \
        while (!(expr)) {                                                                                            \
            if (clock_mono_ms() > end_)                                                                              \
                fail_msg("waited in vain: %s", #expr);                                                               \
            (void)loop_run_until(&(e)->loop, &never_, 10);                                                           \
        }                                                                                                            \
    } while (0)

static void write_file(const char *path, int flags, const char *text)
{
    int fd = open(path, O_WRONLY | O_CREAT | flags, 0600);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), strlen(text));
    close(fd);
}

static void write_conf(struct env *e, const char *more)
{
    FILE *f = fopen(e->conf, "w");
    assert_non_null(f);
    fprintf(f,
            "nats: { url: \"%s\" }\n"
            "redis: { host: 127.0.0.1, port: %d, timeout: 500ms }\n"
            "data_dir: \"%s/data\"\n"
            "tilt_hold: 1s\n"
            "targets:\n"
            "  - { name: llm.x, kind: llm }\n"
            "  - { name: suite.bus, kind: other, probe: { type: bus, interval: 300ms, fast_interval: 100ms, timeout: "
            "1s } }\n"
            "  - { name: suite.store, kind: other, probe: { type: store, interval: 300ms, fast_interval: 100ms, "
            "timeout: 1s } }\n"
            "  - { name: " PROCESS ", kind: other, probe: { type: resource, pid_file: \"%s\", interval: 300ms, "
            "fast_interval: 100ms, limits: { memory_bytes: 64MiB } } }\n"
            "  - { name: " ELSEWHERE ", kind: other, probe: { type: resource, pid_file: \"/run/none.pid\", host: "
            "elsewhere, interval: 300ms, fast_interval: 100ms } }\n"
            "  - { name: " LOG ", kind: other, probe: { type: log, path: \"%s\", interval: 200ms, fast_interval: "
            "100ms, window: 2s, quiet: 20s, patterns: [ { match: \"^FATAL\" }, { match: \"(?i)error\", most: 2 } ] } "
            "}\n"
            "agents:\n"
            "  - name: " AGENT "\n"
            "    chain: [ { target: llm.x, model: m } ]\n"
            "    heartbeat: 200ms\n"
            "    stuck: 1s\n"
            "    logic: { window: 3s, min_decisions: 10 }\n"
            "%s"
            "  - { name: raw, chain: [ { target: llm.x, model: m } ], heartbeat: 200ms }\n",
            e->nats->url, e->redis->port, harness_dir(e->h), e->pid_file, e->log, more);
    fclose(f);
}

#define QUESTIONS                                                                                                    \
    "    selftest:\n"                                                                                                \
    "      interval: 200ms\n"                                                                                        \
    "      timeout: 1s\n"                                                                                            \
    "      questions:\n"                                                                                             \
    "        - { name: logins, event: '{\"logins\":40}', expect: '{\"verdict\":\"malicious\",\"score\":9}' }\n"      \
    "        - { name: again, event: '{\"logins\":41}', expect: '{\"verdict\":\"malicious\"}' }\n"

static void start_health(struct env *e)
{
    char self[512], program[600];
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    assert_true(n > 0);
    self[n] = 0;
    for (int i = 0; i < 3; i++) /* tests/integration/test_health_agents */
        *strrchr(self, '/') = 0;
    snprintf(program, sizeof program, "%s/bin/redoubt-health", self);
    e->health = harness_run(e->h, "health", 0, (const char *const[]){program, "-c", e->conf, NULL});
}

static int set_up_with(void **state, const char *more)
{
    struct env *e = calloc(1, sizeof *e);
    assert_non_null(e);
    *state = e;
    signal(SIGPIPE, SIG_IGN);
    e->h = harness_open();
    e->nats = harness_nats(e->h, "nats", NULL);
    e->redis = harness_redis(e->h, "redis", NULL);
    snprintf(e->conf, sizeof e->conf, "%s/redoubt.yaml", harness_dir(e->h));
    snprintf(e->log, sizeof e->log, "%s/app.log", harness_dir(e->h));
    snprintf(e->pid_file, sizeof e->pid_file, "%s/app.pid", harness_dir(e->h));
    write_conf(e, more);
    write_file(e->log, O_TRUNC, "FATAL: from before our time\n");
    e->rss = 100 << 20;
    assert_int_equal(loop_init(&e->loop), 0);
    struct err er = {""};
    e->bus = bus_open(&e->loop,
                      &(struct bus_opts){.url = e->nats->url,
                                         .name = "test",
                                         .inbox_prefix = "_INBOX_test",
                                         .on_up = on_up,
                                         .on_down = on_down,
                                         .ctx = e},
                      &er);
    assert_non_null(e->bus);
    (void)bus_watch(e->bus, SUBJECT_HEALTH ">", 0, on_verdict, nothing, e);
    (void)bus_subscribe(e->bus, SUBJECT_ALERT, NULL, on_alert, e);
    loop_timer_init(&e->loop, &e->pace, on_pace, e);
    loop_timer_start(&e->pace, 100, 100);
    UNTIL(e, e->up);
    start_health(e);
    return 0;
}

static int set_up(void **state)
{
    return set_up_with(state, "");
}

static int set_up_questions(void **state)
{
    return set_up_with(state, QUESTIONS);
}

static int set_up_simulated(void **state)
{
    return set_up_with(state, "    selftest: { interval: 200ms, timeout: 1s, questions: [ { name: logins, event: "
                              "'{\"source\":\"10.1.1.1\",\"failed_logins\":40}', expect: "
                              "'{\"verdict\":\"malicious\",\"object\":\"10.1.1.1\"}' } ] }\n");
}

static int tear_down(void **state)
{
    struct env *e = *state;
    redoubt_close(e->agent);
    e->agent = NULL;
    assert_true(harness_alive(e->health));
    assert_int_equal(harness_stop(e->health), 0);
    loop_timer_close(&e->pace, NULL);
    bus_close(e->bus, 1000, on_closed, e);
    assert_true(loop_run_until(&e->loop, &e->closed, HARNESS_WAIT_MS));
    loop_done(&e->loop);
    harness_close(e->h);
    free(e);
    return 0;
}

/* ---- life ---- */

static void test_life(void **state)
{
    struct env *e = *state;
    open_agent(e, false);
    UNTIL(e, is(e, SELF, IS(HEALTHY)));
    /* Alive, work waits, and nothing is done. */
    atomic_store(&e->moves, false);
    atomic_store(&e->waiting, 7);
    UNTIL(e, is_for(e, SELF, IS(DEGRADED), FAULT(STUCK)));
    assert_non_null(strstr(last_of(e, SELF)->detail, "box-1 7 wait"));
    atomic_store(&e->moves, true);
    UNTIL(e, is(e, SELF, IS(HEALTHY)));
    redoubt_close(e->agent);
    e->agent = NULL;
    UNTIL(e, is_for(e, SELF, IS(UNHEALTHY), FAULT(SILENT)));
    assert_int_equal(last_of(e, SELF)->failure, E_(FAILURE_KIND__FAILURE_KIND_AGENT_DOWN));
    UNTIL(e, alerted(e, SELF, false));
    open_agent(e, false);
    UNTIL(e, is(e, SELF, IS(HEALTHY)));
    UNTIL(e, alerted(e, SELF, true));
    /* Nothing was ever said of its judgement: it has shown none. */
    assert_null(last_of(e, LOGIC));
}

/* ---- means ---- */

static void test_means(void **state)
{
    struct env *e = *state;
    e->beating = true;
    UNTIL(e, is(e, RAW, IS(HEALTHY)) && is(e, MEANS, IS(HEALTHY)));
    e->rss = 950 << 20;
    UNTIL(e, is_for(e, MEANS, IS(DEGRADED), FAULT(EXHAUSTED)));
    assert_string_equal(last_of(e, MEANS)->detail, "here-1: memory 950 MiB of 1000 MiB (95 %, mark 90 %)");
    assert_int_equal(last_of(e, MEANS)->failure, E_(FAILURE_KIND__FAILURE_KIND_RESOURCE_EXHAUSTION));
    UNTIL(e, alerted(e, MEANS, false));
    assert_string_equal(e->alerts[e->n_alerts - 1].agent, "raw");
    assert_true(is(e, RAW, IS(HEALTHY))); /* its life is another matter */
    /* A little less is not better yet. */
    e->rss = 850 << 20;
    uint64_t beats = e->raw_beats;
    UNTIL(e, e->raw_beats > beats + 10);
    assert_true(is(e, MEANS, IS(DEGRADED)));
    e->rss = 500 << 20;
    UNTIL(e, is(e, MEANS, IS(HEALTHY)));
    UNTIL(e, alerted(e, MEANS, true));
    e->oom_kills++;
    UNTIL(e, is_for(e, MEANS, IS(UNHEALTHY), FAULT(OOM)));
}

/* ---- judgement ---- */

static void test_decisions(void **state)
{
    struct env *e = *state;
    open_agent(e, false);
    UNTIL(e, is(e, SELF, IS(HEALTHY)));
    e->decides = true;
    UNTIL(e, is(e, LOGIC, IS(HEALTHY)));
    assert_int_equal(last_of(e, LOGIC)->kind, E_(PROBE_KIND__PROBE_KIND_DECISIONS));
    for (int i = 0; i < 20; i++)
        decide(e, "odd", "", "", "", REDOUBT_DECIDED_MALFORMED);
    UNTIL(e, is_for(e, LOGIC, IS(UNHEALTHY), FAULT(MALFORMED)));
    assert_int_equal(last_of(e, LOGIC)->failure, E_(FAILURE_KIND__FAILURE_KIND_LOGIC_ERROR));
    assert_non_null(strstr(last_of(e, LOGIC)->detail, "odd: said the agent"));
    UNTIL(e, alerted(e, LOGIC, false));
    const size_t at = e->n_alerts - 1;
    assert_int_equal(e->alerts[at].severity, E_(SEVERITY__SEVERITY_CRITICAL));
    assert_true(e->alerts[at].manual);
    assert_string_equal(e->alerts[at].agent, AGENT);
    assert_non_null(strstr(e->alerts[at].summary, "agent decides wrongly: " AGENT));
    /* It goes on with good ones, and is trusted again. */
    UNTIL(e, is(e, LOGIC, IS(HEALTHY)));
    for (int i = 0; i < 10; i++) {
        char event[16];
        snprintf(event, sizeof event, "again-%d", i);
        decide(e, event, "malicious", "block_ip", "198.51.100.1", REDOUBT_DECIDED_DONE);
    }
    UNTIL(e, is_for(e, LOGIC, IS(UNHEALTHY), FAULT(REPETITION)));
    assert_false(alerted(e, LOGIC, true)); /* that it was well meanwhile ended nothing: a person does */
    assert_non_null(strstr(last_of(e, LOGIC)->detail, "block_ip on 198.51.100.1"));
    UNTIL(e, is(e, LOGIC, IS(HEALTHY)));
    for (int i = 0; i < 20; i++)
        decide(e, "both", i % 2 ? "malicious" : "benign", "", "", REDOUBT_DECIDED_DONE);
    UNTIL(e, is_for(e, LOGIC, IS(UNHEALTHY), FAULT(CONTRADICTION)));
    UNTIL(e, is(e, LOGIC, IS(HEALTHY)));
    atomic_fetch_add(&e->exceptions, 6); /* told by heartbeats only */
    UNTIL(e, is_for(e, LOGIC, IS(UNHEALTHY), FAULT(EXCEPTIONS)));
    UNTIL(e, is(e, LOGIC, IS(HEALTHY)));
    for (int i = 0; i < 60; i++) {
        char event[16];
        snprintf(event, sizeof event, "denied-%d", i);
        decide(e, event, "malicious", "block_ip", event, REDOUBT_DECIDED_DENIED);
    }
    UNTIL(e, is_for(e, LOGIC, IS(UNHEALTHY), FAULT(DENIED)));
    /* All the while it was alive and well. */
    for (size_t i = 0; i < e->n_seen; i++)
        assert_true(strcmp(e->seen[i].target, SELF) != 0 || e->seen[i].state == IS(HEALTHY));
}

static void test_bad_decisions_change_nothing(void **state)
{
    struct env *e = *state;
    open_agent(e, false);
    UNTIL(e, is(e, SELF, IS(HEALTHY)));
    PB(Decision) d = E_(DECISION__INIT), *list[30];
    PB(DecisionBatch) b = E_(DECISION_BATCH__INIT);
    for (int i = 0; i < 30; i++)
        list[i] = &d;
    d.agent = (char *)"another";
    d.instance = (char *)"x";
    d.event_key = (char *)"e";
    d.outcome = E_(DECISION_OUTCOME__DECISION_OUTCOME_MALFORMED);
    b.decisions = list;
    b.n_decisions = 30;
    for (int i = 0; i < 30; i++)
        say(e, SUBJECT_DECISION AGENT, &d); /* on another's subject */
    say(e, SUBJECT_DECISION AGENT, &b);
    say(e, SUBJECT_DECISION "another", &b); /* of nobody that is watched */
    for (int i = 0; i < 30; i++) {
        publish(e, SUBJECT_DECISION AGENT, NULL, "\xff\xff\xff", 3);
        publish(e, SUBJECT_DECISION AGENT, "redoubt.v1.DecisionBatch", "", 0);
        publish(e, SUBJECT_DECISION AGENT, "redoubt.v1.Alert", "x", 1);
    }
    d.agent = (char *)AGENT;
    list[29] = &(PB(Decision))E_(DECISION__INIT); /* one bad one spoils the batch */
    size_t len = protobuf_c_message_get_packed_size(&b.base);
    unsigned char *data = malloc(len);
    assert_non_null(data);
    protobuf_c_message_pack(&b.base, data);
    publish(e, SUBJECT_DECISION AGENT, "redoubt.v1.DecisionBatch", data, len);
    free(data);
    /* What comes after them is taken, so they have been looked at. */
    for (int i = 0; i < 3; i++)
        decide_well(e);
    UNTIL(e, is(e, LOGIC, IS(HEALTHY)));
    assert_int_equal(last_of(e, LOGIC)->epoch, 1);
}

static void test_selftests(void **state)
{
    struct env *e = *state;
    open_agent(e, true);
    UNTIL(e, is(e, LOGIC, IS(HEALTHY)) && atomic_load(&e->asked) > 1);
    assert_int_equal(last_of(e, LOGIC)->kind, E_(PROBE_KIND__PROBE_KIND_SELFTEST));
    atomic_store(&e->answers, WRONG);
    UNTIL(e, is_for(e, LOGIC, IS(UNHEALTHY), FAULT(WRONG_ANSWER)));
    assert_int_equal(last_of(e, LOGIC)->failure, E_(FAILURE_KIND__FAILURE_KIND_LOGIC_ERROR));
    assert_non_null(strstr(last_of(e, LOGIC)->detail, "verdict: expected \"malicious\", got \"benign\""));
    UNTIL(e, alerted(e, LOGIC, false));
    assert_true(e->alerts[e->n_alerts - 1].manual);
    /* Good decisions do not hide it. */
    e->decides = true;
    unsigned asked = atomic_load(&e->asked);
    UNTIL(e, atomic_load(&e->asked) > asked + 10);
    assert_true(is(e, LOGIC, IS(UNHEALTHY)));
    e->decides = false;
    atomic_store(&e->answers, RIGHT);
    UNTIL(e, is(e, LOGIC, IS(HEALTHY)));
    atomic_store(&e->answers, NO_JSON);
    UNTIL(e, is_for(e, LOGIC, IS(UNHEALTHY), FAULT(WRONG_ANSWER)));
    assert_non_null(strstr(last_of(e, LOGIC)->detail, "not a JSON object"));
    atomic_store(&e->answers, RIGHT);
    UNTIL(e, is(e, LOGIC, IS(HEALTHY)));
    atomic_store(&e->answers, SILENT);
    UNTIL(e, is_for(e, LOGIC, IS(UNHEALTHY), FAULT(TIMEOUT)));
    assert_int_equal(last_of(e, LOGIC)->failure, E_(FAILURE_KIND__FAILURE_KIND_LOGIC_ERROR));
    atomic_store(&e->answers, RIGHT);
    UNTIL(e, is(e, LOGIC, IS(HEALTHY)));
    /* Down: that is said of its life; of its judgement nothing is known, so nothing is said. */
    uint64_t epoch = last_of(e, LOGIC)->epoch;
    redoubt_close(e->agent);
    e->agent = NULL;
    UNTIL(e, is(e, SELF, IS(UNHEALTHY)));
    /* Back, but it takes no questions any more: no fault of its judgement either, though people are told by the log. */
    open_agent(e, false);
    UNTIL(e, is(e, SELF, IS(HEALTHY)));
    e->decides = true;
    uint64_t decided = e->decided;
    UNTIL(e, e->decided > decided + 20);
    assert_int_equal(last_of(e, LOGIC)->epoch, epoch);
}

/* The simulated agent, which misbehaves in each way that it knows, and then behaves. */
static void test_simulated(void **state)
{
    struct env *e = *state;
    char program[600];
    snprintf(program, sizeof program, "%.*s/redoubt", (int)(strrchr(e->health->argv[0], '/') - e->health->argv[0]),
             e->health->argv[0]);
    static const struct {
        const char *ways, *target;
        int state, fault;
    } rows[] = {{"stuck,memory", SELF, IS(DEGRADED), FAULT(STUCK)},
                {"malformed", LOGIC, IS(UNHEALTHY), FAULT(MALFORMED)},
                {"contradictory", LOGIC, IS(UNHEALTHY), FAULT(CONTRADICTION)},
                {"denied", LOGIC, IS(UNHEALTHY), FAULT(DENIED)},
                {"exceptions", LOGIC, IS(UNHEALTHY), FAULT(EXCEPTIONS)},
                {"selftest", LOGIC, IS(UNHEALTHY), FAULT(WRONG_ANSWER)}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char name[32];
        snprintf(name, sizeof name, "sim-%d", (int)i);
        struct harness_proc *sim =
            harness_run(e->h, name, 0,
                        (const char *const[]){program, "-c", e->conf, "sim", "agent", AGENT, "--rate", "20",
                                              "--misbehave", rows[i].ways, NULL});
        UNTIL(e, is_for(e, rows[i].target, rows[i].state, rows[i].fault));
        kill(sim->pid, SIGUSR1);
        UNTIL(e, is(e, rows[i].target, IS(HEALTHY)));
        assert_int_equal(harness_stop(sim), 0);
    }
}

/* ---- this host ---- */

static pid_t start_child(struct env *e, size_t bytes)
{
    int ready[2];
    assert_int_equal(pipe(ready), 0);
    pid_t child = fork();
    if (child == 0) {
        char *held = bytes ? malloc(bytes) : NULL;
        if (held)
            memset(held, 1, bytes);
        (void)!write(ready[1], held ? held : "x", 1);
        while (getppid() != 1)
            usleep(20000);
        _exit(0);
    }
    assert_true(child > 0);
    char c, text[32];
    assert_int_equal(read(ready[0], &c, 1), 1);
    close(ready[0]);
    close(ready[1]);
    snprintf(text, sizeof text, "%d\n", (int)child);
    write_file(e->pid_file, O_TRUNC, text);
    return child;
}

static void end_child(pid_t child)
{
    kill(child, SIGKILL);
    assert_int_equal(waitpid(child, NULL, 0), child);
}

static void test_process(void **state)
{
    struct env *e = *state;
    UNTIL(e, is_for(e, PROCESS, IS(UNHEALTHY), FAULT(CONNECT))); /* there is no such file */
    pid_t child = start_child(e, 0);
    UNTIL(e, is(e, PROCESS, IS(HEALTHY)));
    end_child(child);
    UNTIL(e, is_for(e, PROCESS, IS(UNHEALTHY), FAULT(CONNECT)));
    assert_non_null(strstr(last_of(e, PROCESS)->detail, "is gone"));
    child = start_child(e, 80 << 20);
    UNTIL(e, is_for(e, PROCESS, IS(DEGRADED), FAULT(EXHAUSTED)));
    assert_null(last_of(e, ELSEWHERE)); /* whoever is not there says nothing of it */
    assert_non_null(strstr(last_of(e, PROCESS)->detail, "of 64 MiB"));
    end_child(child);
}

static void test_log(void **state)
{
    struct env *e = *state;
    char old[700];
    snprintf(old, sizeof old, "%s.1", e->log);
    UNTIL(e, is(e, LOG, IS(HEALTHY))); /* what was there before is not read */
    write_file(e->log, O_APPEND, "FATAL: disk \x01 full\nmore\n");
    UNTIL(e, is_for(e, LOG, IS(UNHEALTHY), FAULT(PATTERN)));
    assert_string_equal(last_of(e, LOG)->detail, "1 lines like ^FATAL, newest: FATAL: disk   full");
    UNTIL(e, is(e, LOG, IS(HEALTHY))); /* a window later */
    /* Two errors are allowed, three are not; one line comes in two parts, and one stays in the file that is rotated away. */
    write_file(e->log, O_APPEND, "an Error\nand an err");
    assert_int_equal(rename(e->log, old), 0);
    write_file(old, O_APPEND, "or\n");
    write_file(e->log, O_EXCL, "the third ERROR\n");
    UNTIL(e, is_for(e, LOG, IS(UNHEALTHY), FAULT(PATTERN)));
    assert_non_null(strstr(last_of(e, LOG)->detail, "3 lines like (?i)error"));
    UNTIL(e, is(e, LOG, IS(HEALTHY)));
    /* Copied and truncated; what is written then is longer than what was there before. */
    write_file(e->log, O_TRUNC, "FATAL: this line is longer than all that the file held before it was cut\n");
    UNTIL(e, is_for(e, LOG, IS(UNHEALTHY), FAULT(PATTERN)));
    UNTIL(e, is(e, LOG, IS(HEALTHY)));
    /* Removed, and there again: read from its beginning. */
    assert_int_equal(unlink(e->log), 0);
    write_file(e->log, O_EXCL, "FATAL: first words\n");
    UNTIL(e, is_for(e, LOG, IS(UNHEALTHY), FAULT(PATTERN)));
    assert_non_null(strstr(last_of(e, LOG)->detail, "first words"));
    UNTIL(e, is(e, LOG, IS(HEALTHY)));
    /* Gone for good is a fault; back, all is well. */
    assert_int_equal(unlink(e->log), 0);
    UNTIL(e, is_for(e, LOG, IS(UNHEALTHY), FAULT(CONNECT)));
    write_file(e->log, O_EXCL, "fine\n");
    UNTIL(e, is(e, LOG, IS(HEALTHY)));
}

/* A flood of long lines without an end: the service answers all the while, and what matters is found all the same. */
static void test_log_flood(void **state)
{
    struct env *e = *state;
    UNTIL(e, is(e, LOG, IS(HEALTHY)));
    size_t size = 8 << 20;
    char *text = malloc(size + 1);
    assert_non_null(text);
    memset(text, 'x', size);
    text[size] = 0;
    write_file(e->log, O_APPEND, text);
    for (size_t i = 1000; i < size; i += 1000)
        text[i] = '\n';
    for (int i = 0; i < 4; i++)
        write_file(e->log, O_APPEND, text);
    free(text);
    write_file(e->log, O_APPEND, "\nFATAL: at last\n");
    UNTIL(e, is_for(e, LOG, IS(UNHEALTHY), FAULT(PATTERN)));
    assert_non_null(strstr(show(e, LOG), "at last"));
}

/* A reload with the same settings forgets nothing: what is being followed goes on. */
static void test_reload(void **state)
{
    struct env *e = *state;
    UNTIL(e, is(e, LOG, IS(HEALTHY)));
    write_file(e->log, O_APPEND, "begun, FA");
    write_conf(e, QUESTIONS); /* and the agent is tested now */
    open_agent(e, true);
    UNTIL(e, is(e, SELF, IS(HEALTHY)));
    assert_int_equal(atomic_load(&e->asked), 0);
    kill(e->health->pid, SIGHUP);
    UNTIL(e, atomic_load(&e->asked) > 2);
    UNTIL(e, is(e, LOGIC, IS(HEALTHY)));
    write_file(e->log, O_APPEND, "\nFATAL: after the reload\n");
    UNTIL(e, is_for(e, LOG, IS(UNHEALTHY), FAULT(PATTERN)));
    /* And the agent is taken out again, while questions are on their way. */
    FILE *f = fopen(e->conf, "w");
    assert_non_null(f);
    fprintf(f,
            "nats: { url: \"%s\" }\nredis: { host: 127.0.0.1, port: %d, timeout: 500ms }\ndata_dir: \"%s/data\"\n"
            "tilt_hold: 1s\n",
            e->nats->url, e->redis->port, harness_dir(e->h));
    fclose(f);
    kill(e->health->pid, SIGHUP);
    UNTIL(e, strstr(show(e, SELF), "is not watched"));
    assert_non_null(strstr(show(e, LOGIC), "is not watched"));
    assert_non_null(strstr(show(e, LOG), "is not watched"));
}

static void test_bus_and_store(void **state)
{
    struct env *e = *state;
    UNTIL(e, is(e, "suite.bus", IS(HEALTHY)) && is(e, "suite.store", IS(HEALTHY)));
    harness_freeze(e->redis);
    UNTIL(e, strncmp(show(e, "suite.store"), "UNHEALTHY", 9) == 0);
    harness_thaw(e->redis);
    UNTIL(e, strncmp(show(e, "suite.store"), "HEALTHY", 7) == 0);
    harness_kill(e->redis);
    UNTIL(e, strncmp(show(e, "suite.store"), "UNHEALTHY", 9) == 0);
    assert_non_null(strstr(e->shown, "cannot connect"));
    harness_start(e->redis);
    UNTIL(e, strncmp(show(e, "suite.store"), "HEALTHY", 7) == 0);
    assert_int_equal(strncmp(show(e, "suite.bus"), "HEALTHY", 7), 0);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        T(test_life),
        T(test_means),
        T(test_decisions),
        T(test_bad_decisions_change_nothing),
        cmocka_unit_test_setup_teardown(test_selftests, set_up_questions, tear_down),
        cmocka_unit_test_setup_teardown(test_simulated, set_up_simulated, tear_down),
        T(test_process),
        T(test_log),
        T(test_log_flood),
        T(test_reload),
        T(test_bus_and_store),
    };
    if (getenv("ONLY"))
        cmocka_set_test_filter(getenv("ONLY"));
    return cmocka_run_group_tests(tests, NULL, NULL);
}
