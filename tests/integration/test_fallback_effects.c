/* test_fallback_effects.c - what redoubt-fallback does beyond directives, as a process on a real NATS, Redis and HTTP: override bodies, self-tests,
 * fences, restarts, rollbacks, basic monitoring.
 *
 * The test plays everybody else: breakers, health, agents, guards, the rollback service, the backend. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "../harness.h"
#include "common/clock.h"
#include "common/subjects.h"
#include "common/wire.h"
#include <hiredis/hiredis.h>
#include <inttypes.h>
#include <jansson.h>
#include <microhttpd.h>
#include <nats/nats.h>
#include <pthread.h>
#include <signal.h>
#include <unistd.h>

#define E(x)    REDOUBT__V1__##x
#define ALL_MAX 8192

/* Everything that was said on the bus, decoded, in order. */
struct said {
    char subject[SUBJECT_MAX_LEN];
    void *message;
};
struct api_call {
    char path[128], auth[128], api_key[64], body[2048];
};
static struct {
    struct harness *h;
    struct harness_proc *nats, *redis, *fallback;
    natsConnection *nc;
    natsSubscription *all, *questions, *fences, *rollbacks;
    char config[600], program[512], baseline[600];
    uint64_t epoch;
    struct MHD_Daemon *backend;
    int backend_port;
    pthread_mutex_t lock; /* of what follows */
    struct said said[ALL_MAX];
    size_t n_said;
    struct api_call call[64];
    size_t n_calls;
    int answers; /* to the second question: 0 none, 1 wrong, 2 right */
    int guards;  /* how many of them answer */
    char job[65];
    int jobs;
} T = {.lock = PTHREAD_MUTEX_INITIALIZER};

static void locked(bool on)
{
    if (on)
        pthread_mutex_lock(&T.lock);
    else
        pthread_mutex_unlock(&T.lock);
}

static int64_t end_of_wait(void)
{
    return clock_mono_ms() + 2 * HARNESS_WAIT_MS;
}
#define WAIT(condition)                                                                                              \
    do {                                                                                                             \
        int64_t end_ = end_of_wait();                                                                                \
        while (!(condition)) {                                                                                       \
            if (clock_mono_ms() > end_)                                                                              \
                fail_msg("waited in vain for: %s", #condition);                                                      \
            usleep(5000);                                                                                            \
        }                                                                                                            \
    } while (0)

/* ---- the bus: everybody else ---- */

static void on_said(natsConnection *nc, natsSubscription *s, natsMsg *m, void *ctx)
{
    (void)nc;
    (void)s;
    (void)ctx;
    const ProtobufCMessageDescriptor *d = wire_by_subject(natsMsg_GetSubject(m));
    struct err e;
    void *message = d ? wire_unpack(d, natsMsg_GetData(m), (size_t)natsMsg_GetDataLength(m), &e) : NULL;
    locked(true);
    if (message && T.n_said < ALL_MAX) {
        snprintf(T.said[T.n_said].subject, SUBJECT_MAX_LEN, "%s", natsMsg_GetSubject(m));
        T.said[T.n_said++].message = message;
        message = NULL;
    }
    locked(false);
    wire_free(message);
    natsMsg_Destroy(m);
}

static void answer(natsConnection *nc, const char *to, const void *message)
{
    struct err e;
    size_t len;
    void *data = wire_pack(message, &len, &e);
    if (data && to)
        natsConnection_Publish(nc, to, data, (int)len);
    free(data);
}

static void on_question(natsConnection *nc, natsSubscription *s, natsMsg *m, void *ctx)
{
    (void)s;
    (void)ctx;
    struct err e;
    PB(SelftestQuestion) *q =
        wire_unpack(PB_DESC(selftest_question), natsMsg_GetData(m), (size_t)natsMsg_GetDataLength(m), &e);
    locked(true);
    int mode = T.answers;
    locked(false);
    if (q) {
        PB(SelftestAnswer) a = PB_INIT(SELFTEST_ANSWER);
        a.id = q->id;
        bool first = strcmp(q->name, "first") == 0;
        a.answer_json =
            (char *)(first || mode == 2 ? "{\"verdict\":\"block\",\"score\":1.0}" : "{\"verdict\":\"allow\"}");
        if (first || mode > 0)
            answer(nc, natsMsg_GetReply(m), &a);
    }
    wire_free(q);
    natsMsg_Destroy(m);
}

static void on_fence(natsConnection *nc, natsSubscription *s, natsMsg *m, void *ctx)
{
    (void)s;
    (void)ctx;
    struct err e;
    PB(Fence) *f = wire_unpack(PB_DESC(fence), natsMsg_GetData(m), (size_t)natsMsg_GetDataLength(m), &e);
    locked(true);
    int guards = T.guards;
    locked(false);
    for (int i = 0; f && i < guards; i++) {
        char to[SUBJECT_MAX_LEN], name[32];
        snprintf(to, sizeof to, SUBJECT_FENCED "%s", f->agent);
        snprintf(name, sizeof name, "guard-%d", i);
        PB(Fenced) a = PB_INIT(FENCED);
        a.agent = f->agent;
        a.epoch = f->epoch;
        a.id = f->id;
        a.instance = name;
        answer(nc, to, &a);
    }
    wire_free(f);
    natsMsg_Destroy(m);
}

static void on_rollback(natsConnection *nc, natsSubscription *s, natsMsg *m, void *ctx)
{
    (void)s;
    (void)ctx;
    struct err e;
    PB(RollbackCommand) *c =
        wire_unpack(PB_DESC(rollback_command), natsMsg_GetData(m), (size_t)natsMsg_GetDataLength(m), &e);
    if (c) {
        PB(CommandReply) r = PB_INIT(COMMAND_REPLY);
        bool no = strcmp(c->deployment, "refused") == 0;
        r.status = no ? E(COMMAND_STATUS__COMMAND_STATUS_INVALID) : E(COMMAND_STATUS__COMMAND_STATUS_OK);
        r.message = (char *)(no ? "no version is verified" : "job begun");
        answer(nc, natsMsg_GetReply(m), &r);
    }
    locked(true);
    if (c && strcmp(c->deployment, "web") == 0) {
        snprintf(T.job, sizeof T.job, "%s", c->job_id);
        T.jobs++;
    }
    locked(false);
    wire_free(c);
    natsMsg_Destroy(m);
}

static void say(const char *subject, const void *message)
{
    struct err e;
    size_t len;
    void *data = wire_pack(message, &len, &e);
    if (!data)
        fail_msg("%s", e.text);
    assert_int_equal(natsConnection_Publish(T.nc, subject, data, (int)len), NATS_OK);
    free(data);
    assert_int_equal(natsConnection_Flush(T.nc), NATS_OK);
}

static void breaker(const char *agent, const char *what, bool open)
{
    char target[128], subject[SUBJECT_MAX_LEN];
    snprintf(target, sizeof target, "%s.%s", agent, what);
    snprintf(subject, sizeof subject, SUBJECT_BREAKER "%s", target);
    PB(BreakerChanged) b = PB_INIT(BREAKER_CHANGED);
    b.target = target;
    b.epoch = ++T.epoch;
    b.state = open ? E(BREAKER_STATE__BREAKER_STATE_OPEN) : E(BREAKER_STATE__BREAKER_STATE_CLOSED);
    b.ramp_percent = open ? 0 : 100;
    b.since_unix_ms = b.changed_unix_ms = clock_wall_ms();
    say(subject, &b);
}

static void health(const char *target, int state, int failure)
{
    char subject[SUBJECT_MAX_LEN];
    snprintf(subject, sizeof subject, SUBJECT_HEALTH "%s", target);
    PB(HealthChanged) h = PB_INIT(HEALTH_CHANGED);
    h.target = (char *)target;
    h.epoch = ++T.epoch;
    h.state = (PB(HealthState))state;
    h.failure_kind = (PB(FailureKind))failure;
    h.reason = (char *)"as seen";
    h.since_unix_ms = h.changed_unix_ms = clock_wall_ms();
    say(subject, &h);
}
#define BAD(kind)  (int)E(HEALTH_STATE__HEALTH_STATE_UNHEALTHY), (int)E(FAILURE_KIND__FAILURE_KIND_##kind)
#define WELL       (int)E(HEALTH_STATE__HEALTH_STATE_HEALTHY), 0
#define POSTURE(p) (int)E(POSTURE__POSTURE_##p)

static PB(CommandReply) * command(const char *verb, const char *agent, bool without_selftest)
{
    PB(AgentCommand) c = PB_INIT(AGENT_COMMAND);
    c.agent = (char *)agent;
    c.by = (char *)"eve";
    c.reason = (char *)"a test";
    c.without_selftest = without_selftest;
    struct err e;
    size_t len;
    void *data = wire_pack(&c, &len, &e);
    assert_non_null(data);
    char subject[SUBJECT_MAX_LEN];
    snprintf(subject, sizeof subject, SUBJECT_CMD "fallback.%s", verb);
    natsMsg *m = NULL;
    natsStatus st = natsConnection_Request(&m, T.nc, subject, data, (int)len, 2 * HARNESS_WAIT_MS);
    free(data);
    if (st != NATS_OK)
        fail_msg("%s %s: %s", verb, agent, natsStatus_GetText(st));
    PB(CommandReply) *r =
        wire_unpack(PB_DESC(command_reply), natsMsg_GetData(m), (size_t)natsMsg_GetDataLength(m), &e);
    natsMsg_Destroy(m);
    assert_non_null(r);
    return r;
}

/* The order's outcome must hold this text. */
static void order(const char *verb, const char *agent, bool without_selftest, int status, const char *text)
{
    PB(CommandReply) *r = command(verb, agent, without_selftest);
    if ((int)r->status != status || !strstr(r->message, text))
        fail_msg("%s %s: status %d, %s; expected %d, %s", verb, agent, (int)r->status, r->message, status, text);
    wire_free(r);
}
#define STATUS(s) (int)E(COMMAND_STATUS__COMMAND_STATUS_##s)

/* ---- what was said; valid until the end ---- */

static const void *nth_said(const char *subject, size_t n)
{
    const void *found = NULL;
    locked(true);
    for (size_t i = T.n_said; i-- > 0 && !found;)
        if (strcmp(T.said[i].subject, subject) == 0 && n-- == 0)
            found = T.said[i].message;
    locked(false);
    return found;
}

static int posture_of(const char *agent)
{
    char subject[SUBJECT_MAX_LEN];
    snprintf(subject, sizeof subject, SUBJECT_DIRECTIVE "%s", agent);
    const PB(Directive) *d = nth_said(subject, 0);
    return d ? (int)d->state->posture : 0;
}

static const PB(Alert) * alert_of(const char *key, bool resolved)
{
    const PB(Alert) *a = NULL;
    for (size_t n = 0; (a = nth_said(SUBJECT_ALERT, n)); n++)
        if (strcmp(a->dedup_key, key) == 0)
            return a->resolved == resolved ? a : NULL; /* the last word counts */
    return NULL;
}

static const PB(AuditRecord) * record_of(const char *agent, const char *action, int outcome, const char *text)
{
    const PB(AuditRecord) *r = NULL;
    for (size_t n = 0; (r = nth_said(SUBJECT_AUDIT "fallback", n)); n++)
        if (strcmp(r->subject, agent) == 0 && strcmp(r->action, action) == 0 && (int)r->outcome == outcome &&
            strstr(r->detail, text))
            return r;
    return NULL;
}
#define OUTCOME(x) (int)E(AUDIT_OUTCOME__AUDIT_OUTCOME_##x)

/* ---- the backend ---- */

static void copy(char *to, size_t room, const char *from)
{
    snprintf(to, room, "%s", from ? from : "");
}

static enum MHD_Result on_request(void *cls, struct MHD_Connection *c, const char *url, const char *method,
                                  const char *version, const char *data, size_t *len, void **ctx)
{
    (void)cls;
    (void)version;
    (void)method;
    struct api_call *x = *ctx;
    if (!x) {
        if (!(*ctx = x = calloc(1, sizeof *x)))
            return MHD_NO;
        copy(x->path, sizeof x->path, url);
        copy(x->auth, sizeof x->auth, MHD_lookup_connection_value(c, MHD_HEADER_KIND, "Authorization"));
        copy(x->api_key, sizeof x->api_key, MHD_lookup_connection_value(c, MHD_HEADER_KIND, "X-Key"));
        return MHD_YES;
    }
    if (*len) {
        size_t n = strlen(x->body), room = sizeof x->body - 1 - n, take = *len < room ? *len : room;
        memcpy(x->body + n, data, take);
        *len = 0;
        return MHD_YES;
    }
    locked(true);
    if (T.n_calls < sizeof T.call / sizeof *T.call)
        T.call[T.n_calls++] = *x;
    locked(false);
    struct MHD_Response *r = MHD_create_response_from_buffer(2, (void *)"{}", MHD_RESPMEM_PERSISTENT);
    enum MHD_Result result = MHD_queue_response(c, 200, r);
    MHD_destroy_response(r);
    return result;
}

static void on_request_over(void *cls, struct MHD_Connection *c, void **ctx, enum MHD_RequestTerminationCode why)
{
    (void)cls;
    (void)c;
    (void)why;
    free(*ctx);
}

static bool called(const char *path, struct api_call *ret)
{
    bool found = false;
    locked(true);
    for (size_t i = T.n_calls; i-- > 0 && !found;)
        if (strcmp(T.call[i].path, path) == 0) {
            *ret = T.call[i];
            found = true;
        }
    locked(false);
    return found;
}

/* ---- the stack ---- */

static const char *const agents[] = {"e-plain",  "e-basic",   "e-header",  "e-test",   "e-untested",
                                     "e-fence",  "e-run",     "e-late",    "e-absent", "e-rolled",
                                     "e-denied", "e-monitor", "e-baseline"};
enum { AGENTS = sizeof agents / sizeof agents[0] };

static const char *extra(const char *agent, char *buf, size_t size)
{
    if (strcmp(agent, "e-basic") == 0)
        snprintf(buf, size,
                 "    override: { url: \"http://127.0.0.1:%d/e-basic\", auth: basic, token: \"user:pa:ss\",\n"
                 "      activate_body: '{\"who\": {{agent}}, \"n\": [{{epoch}}, {{duration_ms}}], \"key\": {{key}}, "
                 "\"baseline\": { \"version\": {{baseline_version}}, \"sha256\": {{ baseline_sha256 }} }, \"why\": "
                 "{{justification}} }' }\n",
                 T.backend_port);
    else if (strcmp(agent, "e-header") == 0)
        snprintf(buf, size,
                 "    override: { url: \"http://127.0.0.1:%d/e-header\", auth: header, auth_header: X-Key, token: "
                 "k3y, activate_body: \"\" }\n",
                 T.backend_port);
    else if (strcmp(agent, "e-plain") == 0 || strcmp(agent, "e-baseline") == 0)
        snprintf(buf, size, "    override: { url: \"http://127.0.0.1:%d/%s\", token: s3cret }\n", T.backend_port,
                 agent);
    else if (strcmp(agent, "e-test") == 0)
        snprintf(buf, size,
                 "    selftest: { timeout: 500ms, questions: [\n"
                 "      { name: first, event: '{\"n\":1}', expect: '{\"verdict\":\"block\"}' },\n"
                 "      { name: second, event: '{\"n\":2}', expect: '{\"verdict\":\"block\",\"score\":1}' } ] }\n");
    else if (strcmp(agent, "e-run") == 0)
        snprintf(buf, size, "    resources: { step: 50ms, hold: 50ms, restart: { command: [ /usr/bin/env ] } }\n");
    else if (strcmp(agent, "e-late") == 0)
        snprintf(buf, size,
                 "    resources: { step: 50ms, hold: 50ms, restart: { timeout: 300ms, per_hour: 1, command: [ "
                 "/bin/sh, -c, "
                 "'echo begun; sleep 1000 & echo child $!; wait' ] } }\n");
    else if (strcmp(agent, "e-absent") == 0)
        snprintf(buf, size,
                 "    resources: { step: 50ms, hold: 50ms, restart: { command: [ /nowhere/restart-it ] } }\n");
    else if (strcmp(agent, "e-rolled") == 0)
        snprintf(buf, size, "    recovery: { rollback: start, deployment: web, rollback_after: 50ms }\n");
    else if (strcmp(agent, "e-denied") == 0)
        snprintf(buf, size, "    recovery: { rollback: start, deployment: refused, rollback_after: 50ms }\n");
    else if (strcmp(agent, "e-monitor") == 0)
        snprintf(buf, size, "    monitor_interval: 1s\n    watch: [ e-monitor.log ]\n");
    else
        *buf = 0;
    return buf;
}

static void write_settings(void)
{
    FILE *f = fopen(T.config, "w");
    assert_non_null(f);
    fprintf(f,
            "nats: { url: \"%s\" }\nredis: { host: 127.0.0.1, port: %d }\ndata_dir: %s/data\ntilt_hold: 1s\n"
            "fallback: { lease_ttl: 1s, fence: 1500ms }\nbaseline: { path: \"%s\", check: 100ms }\ntargets:\n",
            T.nats->url, T.redis->port, harness_dir(T.h), T.baseline);
    for (size_t i = 0; i < AGENTS; i++)
        fprintf(f,
                "  - { name: %s.p, kind: llm }\n  - { name: %s.b, kind: llm }\n  - { name: %s.x, kind: backend }\n"
                "  - { name: %s.log, kind: other }\n",
                agents[i], agents[i], agents[i], agents[i]);
    fprintf(f, "agents:\n");
    for (size_t i = 0; i < AGENTS; i++) {
        char more[1024];
        fprintf(
            f,
            "  - name: %s\n    chain: [ { target: %s.p, model: big }, { target: %s.b, model: small } ]\n"
            "    backend: %s.x\n    ack: 1m\n    ack_alert: 1h\n    restore_hold: 100ms\n    backend_step: 50ms\n%s",
            agents[i], agents[i], agents[i], agents[i], extra(agents[i], more, sizeof more));
    }
    fclose(f);
}

/* Two guards that answer as T.guards says, in the list of members until far away. */
static void list_guards(int n)
{
    redisContext *r = redisConnect("127.0.0.1", T.redis->port);
    assert_true(r && !r->err);
    freeReplyObject(redisCommand(r, "DEL redoubt:{guard}:members"));
    for (int i = 0; i < n; i++)
        freeReplyObject(redisCommand(r, "ZADD redoubt:{guard}:members 9007199254740991 guard-%d", i));
    redisFree(r);
}

static void set_int(int *at, int value)
{
    locked(true);
    *at = value;
    locked(false);
}

static void write_baseline(const char *action)
{
    char command_line[1300];
    FILE *f = fopen(T.baseline, "w");
    assert_non_null(f);
    fprintf(f, "version: \"7\"\nactions:\n  - name: %s\n    postures: [normal]\n", action);
    fclose(f);
    /* As an operator would. */
    snprintf(command_line, sizeof command_line, "%.*s/redoubt baseline sign --by ada %s >/dev/null",
             (int)(strrchr(T.program, '/') - T.program), T.program, T.baseline);
    assert_int_equal(system(command_line), 0);
}

static int set_up(void **state)
{
    (void)state;
    char self[400];
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    if (n <= 0)
        return -1;
    self[n] = 0;
    for (int up = 0; up < 3; up++)
        *strrchr(self, '/') = 0;
    snprintf(T.program, sizeof T.program, "%s/bin/redoubt-fallback", self);
    if (access(T.program, X_OK) != 0) {
        fprintf(stderr, "%s is not built: run `make all` first\n", T.program);
        return -1;
    }
    T.h = harness_open();
    T.nats = harness_nats(T.h, "nats", NULL);
    T.redis = harness_redis(T.h, "redis", NULL);
    snprintf(T.config, sizeof T.config, "%s/redoubt.yaml", harness_dir(T.h));
    snprintf(T.baseline, sizeof T.baseline, "%s/baseline.yaml", harness_dir(T.h));
    T.backend_port = harness_free_port();
    T.backend = MHD_start_daemon(MHD_USE_INTERNAL_POLLING_THREAD, (uint16_t)T.backend_port, NULL, NULL, on_request,
                                 NULL, MHD_OPTION_NOTIFY_COMPLETED, on_request_over, NULL, MHD_OPTION_END);
    if (!T.backend)
        return -1;
    write_baseline("block_ip");
    write_settings();
    assert_int_equal(natsConnection_ConnectTo(&T.nc, T.nats->url), NATS_OK);
    assert_int_equal(natsConnection_Subscribe(&T.all, T.nc, SUBJECT_PREFIX ">", on_said, NULL), NATS_OK);
    assert_int_equal(natsConnection_Subscribe(&T.questions, T.nc, SUBJECT_SELFTEST "e-test", on_question, NULL),
                     NATS_OK);
    assert_int_equal(natsConnection_Subscribe(&T.fences, T.nc, SUBJECT_FENCE "*", on_fence, NULL), NATS_OK);
    assert_int_equal(natsConnection_Subscribe(&T.rollbacks, T.nc, SUBJECT_CMD "rollback.start", on_rollback, NULL),
                     NATS_OK);
    assert_int_equal(natsConnection_Flush(T.nc), NATS_OK);
    const char *argv[] = {T.program, "-c", T.config, NULL};
    T.fallback = harness_run(T.h, "fallback", 0, argv);
    for (size_t i = 0; i < AGENTS; i++) {
        WAIT(posture_of(agents[i]) == POSTURE(NORMAL));
        char subject[SUBJECT_MAX_LEN];
        PB(DirectiveAck) a = PB_INIT(DIRECTIVE_ACK);
        a.agent = (char *)agents[i];
        a.instance = (char *)"test";
        a.epoch = 1;
        a.status = E(ACK_STATUS__ACK_STATUS_APPLIED);
        snprintf(subject, sizeof subject, SUBJECT_ACK "%s", agents[i]);
        say(subject, &a);
    }
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    int end = harness_stop(T.fallback);
    natsSubscription_Destroy(T.all);
    natsSubscription_Destroy(T.questions);
    natsSubscription_Destroy(T.fences);
    natsSubscription_Destroy(T.rollbacks);
    natsConnection_Destroy(T.nc);
    nats_Close();
    for (size_t i = 0; i < T.n_said; i++)
        wire_free(T.said[i].message);
    MHD_stop_daemon(T.backend);
    harness_close(T.h);
    return end == 0 ? 0 : -1; /* drained */
}

/* ---- the override ---- */

static void override_bodies_go_by_their_templates(void **state)
{
    (void)state;
    struct api_call c;
    for (int i = 0; i < 3; i++) {
        breaker(agents[i], "p", true);
        breaker(agents[i], "b", true);
    }
    WAIT(called("/e-plain/api/admin/override/activate", &c));
    json_t *j = json_loads(c.body, 0, NULL);
    assert_int_equal(json_object_size(j), 2);
    assert_int_equal(json_integer_value(json_object_get(j, "duration")), 3600000);
    assert_non_null(strstr(json_string_value(json_object_get(j, "justification")), "Redoubt, agent e-plain, epoch "));
    assert_non_null(strstr(json_string_value(json_object_get(j, "justification")), "; security baseline 7 (sha256 "));
    assert_string_equal(c.auth, "Bearer s3cret");
    json_decref(j);
    WAIT(called("/e-basic/api/admin/override/activate", &c));
    assert_string_equal(c.auth, "Basic dXNlcjpwYTpzcw==");
    j = json_loads(c.body, 0, NULL);
    const char *key = json_string_value(json_object_get(j, "key"));
    assert_non_null(key);
    assert_string_equal(json_string_value(json_object_get(j, "who")), "e-basic");
    assert_int_equal(json_integer_value(json_array_get(json_object_get(j, "n"), 1)), 3600000);
    assert_true(json_integer_value(json_array_get(json_object_get(j, "n"), 0)) > 1);
    assert_int_equal(strncmp(key, "e-basic-", 8), 0);
    json_t *b = json_object_get(j, "baseline");
    assert_string_equal(json_string_value(json_object_get(b, "version")), "7");
    assert_int_equal(strlen(json_string_value(json_object_get(b, "sha256"))), 64);
    json_decref(j);
    WAIT(called("/e-header/api/admin/override/activate", &c));
    assert_string_equal(c.auth, "");
    assert_string_equal(c.api_key, "k3y");
    assert_string_equal(c.body, ""); /* an empty template */
}

static void an_untrusted_baseline_is_said(void **state)
{
    (void)state;
    struct api_call c;
    FILE *f = fopen(T.baseline, "a");
    assert_non_null(f);
    fprintf(f, "# changed after its sign-off\n");
    fclose(f);
    WAIT(alert_of("fallback/baseline", false));
    assert_int_equal(alert_of("fallback/baseline", false)->severity, E(SEVERITY__SEVERITY_CRITICAL));
    breaker("e-baseline", "p", true);
    breaker("e-baseline", "b", true);
    WAIT(called("/e-baseline/api/admin/override/activate", &c));
    assert_non_null(strstr(c.body, "the security baseline is NOT trusted"));
    write_baseline("close_session");
    WAIT(alert_of("fallback/baseline", true));
}

/* ---- unfreezing ---- */

static void unfrozen_after_a_self_test_that_is_passed(void **state)
{
    (void)state;
    const char *a = "e-test";
    order("freeze", a, false, STATUS(OK), "");
    order("unfreeze", a, false, STATUS(UNAVAILABLE), "question second (2 of 2): no answer within 500 ms");
    set_int(&T.answers, 1);
    order("unfreeze", a, false, STATUS(UNAVAILABLE), "second (2 of 2): verdict: expected \"block\", got \"allow\"");
    assert_int_equal(posture_of(a), POSTURE(FROZEN));
    WAIT(record_of(a, "agent.unfreeze", OUTCOME(REFUSED), "expected \"block\", got \"allow\""));
    assert_null(record_of(a, "agent.unfreeze", OUTCOME(INTENDED), ""));
    set_int(&T.answers, 2);
    order("unfreeze", a, false, STATUS(OK), "");
    WAIT(posture_of(a) == POSTURE(NORMAL));
    WAIT(record_of(a, "agent.unfreeze", OUTCOME(INTENDED), "a test"));
    order("unfreeze", a, false, STATUS(ALREADY), "not frozen"); /* nothing is asked */
    a = "e-untested";
    order("freeze", a, false, STATUS(OK), "");
    order("unfreeze", a, false, STATUS(UNAVAILABLE), "--without-selftest");
    assert_int_equal(posture_of(a), POSTURE(FROZEN));
    order("unfreeze", a, true, STATUS(OK), "");
    WAIT(posture_of(a) == POSTURE(NORMAL));
    WAIT(record_of(a, "agent.unfreeze", OUTCOME(INTENDED), "self-test waived"));
}

/* ---- the fence ---- */

static void a_freeze_is_confirmed_by_every_guard(void **state)
{
    (void)state;
    const char *a = "e-fence";
    list_guards(0);
    order("freeze", a, false, STATUS(OK), "there is no guard");
    order("unfreeze", a, true, STATUS(OK), "");
    list_guards(2);
    set_int(&T.guards, 2);
    order("freeze", a, false, STATUS(OK), "confirmed by 2 guards in ");
    WAIT(record_of(a, "agent.fenced", OUTCOME(DONE), "confirmed by 2 guards"));
    order("unfreeze", a, true, STATUS(OK), "");
    set_int(&T.guards, 1);
    int64_t began_ms = clock_mono_ms();
    order("freeze", a, false, STATUS(OK), "confirmed by 1 of 2 guards; silent for ");
    assert_true(clock_mono_ms() - began_ms >= 1400); /* the whole time-out of the fence */
    WAIT(record_of(a, "agent.fenced", OUTCOME(FAILED), "guard-1"));
    order("unfreeze", a, true, STATUS(OK), "");
    list_guards(0);
}

/* ---- restarts ---- */

static void exhausted(const char *agent, bool is)
{
    char target[128];
    snprintf(target, sizeof target, "agent.%s.resources", agent);
    if (is && strcmp(agent, "e-run") == 0) /* as health says while it is over its mark */
        health(target, (int)E(HEALTH_STATE__HEALTH_STATE_DEGRADED),
               (int)E(FAILURE_KIND__FAILURE_KIND_RESOURCE_EXHAUSTION));
    else if (is) /* killed for it */
        health(target, BAD(RESOURCE_EXHAUSTION));
    else
        health(target, WELL);
}

/* The process is gone, or dead and not collected by whoever inherited it. */
static bool dead(int pid)
{
    char path[64], line[256] = "";
    snprintf(path, sizeof path, "/proc/%d/stat", pid);
    FILE *f = fopen(path, "r");
    bool read = f && fgets(line, sizeof line, f);
    if (f)
        fclose(f);
    const char *after = strrchr(line, ')');
    return !read || (after && after[1] && after[2] == 'Z');
}

static void the_executor_restarts(void **state)
{
    (void)state;
    exhausted("e-run", true);
    WAIT(record_of("e-run", "agent.restart", OUTCOME(DONE), "exit status 0"));
    const PB(AuditRecord) *r = record_of("e-run", "agent.restart", OUTCOME(DONE), "exit status 0");
    /* Nothing but these four in its environment. */
    const char *tail = strstr(r->detail, ": ");
    assert_non_null(tail);
    assert_non_null(strstr(r->detail, "PATH=/usr/local/sbin"));
    assert_non_null(strstr(r->detail, "LANG=C.UTF-8"));
    assert_non_null(strstr(r->detail, "REDOUBT_AGENT=e-run"));
    assert_non_null(strstr(r->detail, "REDOUBT_RESTART_ID=e-run-restart-"));
    size_t lines = 1;
    for (const char *c = tail; *c; c++)
        lines += *c == '|';
    assert_int_equal(lines, 4);
    assert_non_null(record_of("e-run", "agent.restart", OUTCOME(INTENDED), ""));
    exhausted("e-run", false);
    WAIT(posture_of("e-run") == POSTURE(NORMAL));
}

static void a_restart_that_does_not_end_is_killed_whole(void **state)
{
    (void)state;
    exhausted("e-late", true);
    WAIT(record_of("e-late", "agent.restart", OUTCOME(FAILED), "killed, since it had not ended"));
    const PB(AuditRecord) *r = record_of("e-late", "agent.restart", OUTCOME(FAILED), "killed");
    assert_non_null(strstr(r->detail, "begun|child "));
    int child = atoi(strstr(r->detail, "child ") + 6);
    assert_true(child > 1);
    WAIT(dead(child));
    WAIT(alert_of("agent/e-late/restart", false));
    exhausted("e-late", false);
    WAIT(alert_of("agent/e-late/restart", true));
    exhausted("e-absent", true);
    WAIT(record_of("e-absent", "agent.restart", OUTCOME(FAILED), "not started: "));
    WAIT(alert_of("agent/e-absent/restart", false));
    exhausted("e-absent", false);
}

/* ---- rollbacks ---- */

static void a_rollback_is_asked_for_once(void **state)
{
    (void)state;
    health("agent.e-rolled", BAD(AGENT_DOWN));
    health("agent.e-denied", BAD(AGENT_DOWN));
    WAIT(record_of("e-rolled", "agent.rollback", OUTCOME(DONE), "job begun"));
    assert_non_null(record_of("e-rolled", "agent.rollback", OUTCOME(INTENDED), ""));
    WAIT(alert_of("agent/e-denied/rollback", false));
    assert_non_null(strstr(alert_of("agent/e-denied/rollback", false)->summary, "no version is verified"));
    locked(true);
    assert_int_equal(T.jobs, 1);
    assert_true(T.job[0]);
    locked(false);
    assert_null(alert_of("agent/e-rolled/rollback", false));
}

/* ---- basic monitoring ---- */

static void monitored(bool well, const char *detail)
{
    PB(MonitorCheck) c[] = {PB_INIT(MONITOR_CHECK), PB_INIT(MONITOR_CHECK)};
    PB(MonitorCheck) * list[] = {&c[0], &c[1]};
    c[0].name = (char *)"disk";
    c[0].ok = true;
    c[1].name = (char *)"auth_log";
    c[1].ok = well;
    c[1].detail = (char *)detail;
    PB(MonitorReport) m = PB_INIT(MONITOR_REPORT);
    m.agent = (char *)"e-monitor";
    m.instance = (char *)"test";
    m.checks = list;
    m.n_checks = 2;
    m.by_agent = true;
    m.seen_unix_ms = clock_wall_ms();
    say(SUBJECT_MONITOR "e-monitor", &m);
}

/* The last of the suite's own reports whose check of that name says so. */
static bool seen(const char *name, bool ok)
{
    const PB(MonitorReport) *m = NULL;
    for (size_t n = 0; (m = nth_said(SUBJECT_MONITOR "e-monitor", n)); n++)
        if (!m->by_agent)
            break;
    for (size_t i = 0; m && i < m->n_checks; i++)
        if (strcmp(m->checks[i]->name, name) == 0)
            return m->checks[i]->ok == ok;
    return false;
}

static bool saying(const char *detail, bool well, bool resolved, const char *text)
{
    monitored(well, detail);
    usleep(100000);
    const PB(Alert) *a = alert_of("agent/e-monitor/monitoring", resolved);
    return a && (strstr(a->summary, text) || strstr(a->detail, text));
}

static void basic_monitoring_goes_on_without_the_backend(void **state)
{
    (void)state;
    assert_false(seen("agent", true)); /* nothing while all is well */
    breaker("e-monitor", "x", true);
    WAIT(posture_of("e-monitor") == POSTURE(DEGRADED));
    WAIT(seen("agent", true) && seen("e-monitor.log", true));
    WAIT(record_of("e-monitor", "agent.monitored", OUTCOME(DONE), "nothing found by 4 checks"));
    health("e-monitor.log", BAD(UNSPECIFIED));
    WAIT(seen("e-monitor.log", false));
    WAIT(record_of("e-monitor", "agent.monitored", OUTCOME(DONE), "e-monitor.log: UNHEALTHY"));
    WAIT(saying("40 logins failed", false, false, "40 logins failed"));
    WAIT(saying("", true, true, ""));
    WAIT(alert_of("agent/e-monitor/monitoring", false)); /* it falls silent: 2.5 intervals */
    breaker("e-monitor", "x", false);
    WAIT(alert_of("agent/e-monitor/monitoring", true));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(override_bodies_go_by_their_templates),
        cmocka_unit_test(an_untrusted_baseline_is_said),
        cmocka_unit_test(unfrozen_after_a_self_test_that_is_passed),
        cmocka_unit_test(a_freeze_is_confirmed_by_every_guard),
        cmocka_unit_test(the_executor_restarts),
        cmocka_unit_test(a_restart_that_does_not_end_is_killed_whole),
        cmocka_unit_test(a_rollback_is_asked_for_once),
        cmocka_unit_test(basic_monitoring_goes_on_without_the_backend),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
