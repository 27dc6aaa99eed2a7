/* test_fallback_service.c - redoubt-fallback as two processes on a real NATS and Redis, with a real HTTP backend.
 *
 * The test plays everybody else: breakers and health (STATE messages), agents (acknowledgements), operators, the backend. */
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

#define E(x) REDOUBT__V1__##x
/* One agent per test: they run in any order, on one stack. */
static const char *const agents[] = {"a-first",   "a-switch",  "a-override", "a-retry",   "a-crash",
                                     "a-silent",  "a-freeze",  "a-empty",    "a-damage",  "a-away",
                                     "a-backend", "a-verdict", "a-failover", "a-shared1", "a-shared2"};
enum { AGENTS = sizeof agents / sizeof agents[0] };
#define LIMIT_MS  (3 * HARNESS_WAIT_MS) /* sanitised, and with others on the same cores */
#define SEEN_MAX  2048
#define CALLS_MAX 256

struct seen {
    char agent[NAME_MAX_LEN + 1], id[128];
    void *data;
    size_t len;
    PB(Directive) * d;
};
struct api_call {
    char agent[NAME_MAX_LEN + 1], path[128], key[160], auth[64], type[64];
    char body[1024];
    int64_t at_ms;
};

static struct {
    struct harness *h;
    struct harness_proc *nats, *redis, *replica[2];
    natsConnection *nc;
    natsSubscription *directives, *alerts, *audits;
    char config[600], program[512];
    struct seen seen[SEEN_MAX];
    size_t n_seen;
    PB(Alert) * alert[SEEN_MAX];
    size_t n_alerts;
    PB(AuditRecord) * record[SEEN_MAX];
    size_t n_records;
    uint64_t epoch;    /* of breakers and verdicts */
    bool mute[AGENTS]; /* do not confirm */
    struct MHD_Daemon *backend;
    int backend_port;
    pthread_mutex_t lock; /* of what follows: the backend has a thread of its own */
    struct api_call call[CALLS_MAX];
    size_t n_calls;
    int status[AGENTS]; /* the backend's answer; 0 = 200 */
} T = {.lock = PTHREAD_MUTEX_INITIALIZER};

static size_t index_of(const char *agent)
{
    for (size_t i = 0; i < AGENTS; i++)
        if (strcmp(agents[i], agent) == 0)
            return i;
    fail_msg("no agent %s", agent);
    return 0;
}

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
    struct api_call *x = *ctx;
    if (!x) {
        if (!(*ctx = x = calloc(1, sizeof *x)))
            return MHD_NO;
        /* /<agent>/api/admin/override/... */
        const char *slash = strchr(url + 1, '/');
        snprintf(x->agent, sizeof x->agent, "%.*s", slash ? (int)(slash - url - 1) : 0, url + 1);
        copy(x->path, sizeof x->path, slash);
        copy(x->key, sizeof x->key, MHD_lookup_connection_value(c, MHD_HEADER_KIND, "Idempotency-Key"));
        copy(x->auth, sizeof x->auth, MHD_lookup_connection_value(c, MHD_HEADER_KIND, "Authorization"));
        copy(x->type, sizeof x->type, MHD_lookup_connection_value(c, MHD_HEADER_KIND, "Content-Type"));
        return MHD_YES;
    }
    if (*len) {
        size_t n = strlen(x->body), room = sizeof x->body - 1 - n, take = *len < room ? *len : room;
        memcpy(x->body + n, data, take);
        *len = 0;
        return MHD_YES;
    }
    pthread_mutex_lock(&T.lock);
    int status = strcmp(method, "POST") == 0 ? 200 : 405;
    for (size_t i = 0; i < AGENTS; i++)
        if (strcmp(agents[i], x->agent) == 0 && T.status[i])
            status = T.status[i];
    x->at_ms = clock_mono_ms();
    if (T.n_calls < CALLS_MAX)
        T.call[T.n_calls++] = *x;
    pthread_mutex_unlock(&T.lock);
    struct MHD_Response *r = MHD_create_response_from_buffer(2, (void *)"{}", MHD_RESPMEM_PERSISTENT);
    enum MHD_Result result = MHD_queue_response(c, (unsigned)status, r);
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

static void set_status(const char *agent, int status)
{
    pthread_mutex_lock(&T.lock);
    T.status[index_of(agent)] = status;
    pthread_mutex_unlock(&T.lock);
}

/* The n-th call for this agent whose path ends like that (0 = first); false if there were fewer. */
static bool api_call(const char *agent, const char *end, size_t n, struct api_call *ret)
{
    bool found = false;
    pthread_mutex_lock(&T.lock);
    for (size_t i = 0; i < T.n_calls && !found; i++) {
        struct api_call *x = &T.call[i];
        size_t len = strlen(x->path);
        if (strcmp(x->agent, agent) != 0 || len < strlen(end) || strcmp(x->path + len - strlen(end), end) != 0)
            continue;
        if (n-- == 0) {
            *ret = *x;
            found = true;
        }
    }
    pthread_mutex_unlock(&T.lock);
    return found;
}
#define ACTIVATE "/activate"
#define RELEASE  "/deactivate"

/* ---- the stack ---- */

static void write_settings(size_t n)
{
    FILE *f = fopen(T.config, "w");
    assert_non_null(f);
    fprintf(f,
            "nats: { url: \"%s\" }\nredis: { host: 127.0.0.1, port: %d }\ndata_dir: %s/data\ntilt_hold: 1s\n"
            "fallback: { lease_ttl: 1s, member_ttl: 1s, fence: 1500ms }\ntargets:\n",
            T.nats->url, T.redis->port, harness_dir(T.h));
    for (size_t i = 0; i < AGENTS; i++)
        fprintf(f,
                "  - { name: %s.p, kind: llm }\n  - { name: %s.b, kind: llm }\n  - { name: %s.x, kind: backend }\n",
                agents[i], agents[i], agents[i]);
    fprintf(f, "agents:\n");
    for (size_t i = 0; i < n; i++) {
        bool shared = strncmp(agents[i], "a-shared", 8) == 0;
        fprintf(
            f,
            "  - name: %s\n    chain: [ { target: %s.p, model: big }, { target: %s.b, model: small } ]\n"
            "    backend: %s.x\n"
            "    override: { url: \"http://127.0.0.1:%d/%s\", token: s3cret, retry: 100ms }\n"
            "    ack: 200ms\n    ack_alert: %s\n    restore_hold: 100ms\n    backend_step: 50ms\n",
            agents[i], agents[i], agents[i], agents[i], T.backend_port, shared ? "a-shared1" : agents[i],
            /* Who stays silent for so long is restricted: where that is not the matter, no slow machine may do it. */
            strcmp(agents[i], "a-silent") == 0 ? "1s" : "1m");
    }
    fclose(f);
}

static natsSubscription *listen_to(const char *subject)
{
    natsSubscription *s = NULL;
    assert_int_equal(natsConnection_SubscribeSync(&s, T.nc, subject), NATS_OK);
    return s;
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
    T.backend_port = harness_free_port();
    T.backend = MHD_start_daemon(MHD_USE_INTERNAL_POLLING_THREAD, (uint16_t)T.backend_port, NULL, NULL, on_request,
                                 NULL, MHD_OPTION_NOTIFY_COMPLETED, on_request_over, NULL, MHD_OPTION_END);
    if (!T.backend)
        return -1;
    write_settings(AGENTS - 2); /* the shared ones come by a reload */
    assert_int_equal(natsConnection_ConnectTo(&T.nc, T.nats->url), NATS_OK);
    T.directives = listen_to(SUBJECT_DIRECTIVE "*");
    T.alerts = listen_to(SUBJECT_ALERT);
    T.audits = listen_to(SUBJECT_AUDIT "fallback");
    assert_int_equal(natsConnection_Flush(T.nc), NATS_OK);
    for (int i = 0; i < 2; i++) {
        const char *argv[] = {T.program, "-c", T.config, NULL};
        T.replica[i] = harness_run(T.h, i ? "fallback-1" : "fallback-0", 0, argv);
    }
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    int ends[2];
    for (int i = 0; i < 2; i++)
        ends[i] = harness_stop(T.replica[i]);
    for (size_t i = 0; i < T.n_seen; i++) {
        free(T.seen[i].data);
        wire_free(T.seen[i].d);
    }
    for (size_t i = 0; i < T.n_alerts; i++)
        wire_free(T.alert[i]);
    for (size_t i = 0; i < T.n_records; i++)
        wire_free(T.record[i]);
    natsSubscription_Destroy(T.directives);
    natsSubscription_Destroy(T.alerts);
    natsSubscription_Destroy(T.audits);
    natsConnection_Destroy(T.nc);
    nats_Close();
    MHD_stop_daemon(T.backend);
    harness_close(T.h);
    return ends[0] == 0 && ends[1] == 0 ? 0 : -1; /* drained */
}

/* ---- saying ---- */

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

static void confirm(const char *agent, uint64_t epoch, int status)
{
    char subject[128];
    PB(DirectiveAck) a = PB_INIT(DIRECTIVE_ACK);
    a.agent = (char *)agent;
    a.instance = (char *)"test";
    a.epoch = epoch;
    a.status = (PB(AckStatus))status;
    snprintf(subject, sizeof subject, SUBJECT_ACK "%s", agent);
    say(subject, &a);
}

/* target: p, b or x. */
static void breaker(const char *agent, char which, int state, uint32_t ramp)
{
    char target[128], subject[256];
    snprintf(target, sizeof target, "%s.%c", agent, which);
    snprintf(subject, sizeof subject, SUBJECT_BREAKER "%s", target);
    PB(BreakerChanged) b = PB_INIT(BREAKER_CHANGED);
    b.target = target;
    b.epoch = ++T.epoch;
    b.state = (PB(BreakerState))state;
    b.ramp_percent = ramp;
    b.since_unix_ms = b.changed_unix_ms = clock_wall_ms();
    b.evidence_unix_ms = state == E(BREAKER_STATE__BREAKER_STATE_OPEN) ? clock_wall_ms() - 50 : 0;
    say(subject, &b);
}
#define OPEN(agent, which)   breaker(agent, which, E(BREAKER_STATE__BREAKER_STATE_OPEN), 0)
#define CLOSED(agent, which) breaker(agent, which, E(BREAKER_STATE__BREAKER_STATE_CLOSED), 100)

static void verdict(const char *agent, int state, int failure)
{
    char target[128], subject[256];
    /* Its judgement has a verdict of its own. */
    bool logic = failure == E(FAILURE_KIND__FAILURE_KIND_LOGIC_ERROR);
    snprintf(target, sizeof target, "agent.%s%s", agent, logic ? ".logic" : "");
    snprintf(subject, sizeof subject, SUBJECT_HEALTH "%s", target);
    PB(HealthChanged) h = PB_INIT(HEALTH_CHANGED);
    h.target = target;
    h.epoch = ++T.epoch;
    h.state = (PB(HealthState))state;
    h.failure_kind = (PB(FailureKind))failure;
    h.reason = (char *)"self-test failed";
    h.since_unix_ms = h.changed_unix_ms = clock_wall_ms();
    say(subject, &h);
}

/* ---- seeing ---- */

static void take_directive(natsMsg *m)
{
    struct err e;
    size_t len = (size_t)natsMsg_GetDataLength(m);
    PB(Directive) *d = wire_unpack(PB_DESC(directive), natsMsg_GetData(m), len, &e);
    const char *id = "";
    natsMsgHeader_Get(m, "ce-id", &id);
    if (!d)
        fail_msg("%s: %s", natsMsg_GetSubject(m), e.text);
    char expected[160];
    snprintf(expected, sizeof expected, "directive/%s/%" PRIu64, d->state->agent, d->state->epoch);
    assert_string_equal(id, expected);
    /* One epoch, one directive, to the byte. */
    for (size_t i = 0; i < T.n_seen; i++)
        if (strcmp(T.seen[i].id, id) == 0) {
            assert_int_equal(T.seen[i].len, len);
            assert_memory_equal(T.seen[i].data, natsMsg_GetData(m), len);
        }
    assert_true(T.n_seen < SEEN_MAX);
    struct seen *s = &T.seen[T.n_seen++];
    copy(s->agent, sizeof s->agent, d->state->agent);
    copy(s->id, sizeof s->id, id);
    s->data = malloc(len);
    s->len = len;
    memcpy(s->data, natsMsg_GetData(m), len);
    s->d = d;
    if (!T.mute[index_of(d->state->agent)])
        confirm(d->state->agent, d->state->epoch, E(ACK_STATUS__ACK_STATUS_APPLIED));
}

static void *unpacked(natsMsg *m, const ProtobufCMessageDescriptor *desc)
{
    struct err e;
    void *x = wire_unpack(desc, natsMsg_GetData(m), (size_t)natsMsg_GetDataLength(m), &e);
    if (!x)
        fail_msg("%s: %s", natsMsg_GetSubject(m), e.text);
    return x;
}

static void take_in(void)
{
    natsMsg *m = NULL;
    int64_t wait_ms = 5;
    while (natsSubscription_NextMsg(&m, T.directives, wait_ms) == NATS_OK) {
        take_directive(m);
        natsMsg_Destroy(m);
        wait_ms = 1;
    }
    while (natsSubscription_NextMsg(&m, T.alerts, 1) == NATS_OK) {
        assert_true(T.n_alerts < SEEN_MAX);
        T.alert[T.n_alerts++] = unpacked(m, PB_DESC(alert));
        natsMsg_Destroy(m);
    }
    while (natsSubscription_NextMsg(&m, T.audits, 1) == NATS_OK) {
        assert_true(T.n_records < SEEN_MAX);
        T.record[T.n_records++] = unpacked(m, PB_DESC(audit_record));
        natsMsg_Destroy(m);
    }
}

static const PB(Directive) * last(const char *agent)
{
    const PB(Directive) *best = NULL;
    for (size_t i = 0; i < T.n_seen; i++)
        if (strcmp(T.seen[i].agent, agent) == 0 && (!best || T.seen[i].d->state->epoch > best->state->epoch))
            best = T.seen[i].d;
    return best;
}

static size_t times_seen(const char *agent, uint64_t epoch)
{
    size_t n = 0;
    for (size_t i = 0; i < T.n_seen; i++)
        n += strcmp(T.seen[i].agent, agent) == 0 && T.seen[i].d->state->epoch == epoch;
    return n;
}

#define WAIT(cond)                                                                                                   \
    do {                                                                                                             \
        int64_t end_ms_ = clock_mono_ms() + LIMIT_MS;                                                                \
        while (take_in(), !(cond))                                                                                   \
            if (clock_mono_ms() > end_ms_)                                                                           \
                fail_msg("waited in vain for: %s", #cond);                                                           \
    } while (0)

static int posture_of(const char *agent)
{
    const PB(Directive) *d = last(agent);
    return d ? (int)d->state->posture : 0;
}
#define POSTURE(p) (int)E(POSTURE__POSTURE_##p)

static const PB(Alert) * alert_of(const char *agent, const char *kind, bool resolved, const char *text)
{
    char key[128];
    snprintf(key, sizeof key, "agent/%s/%s", agent, kind);
    for (size_t i = 0; i < T.n_alerts; i++)
        if (strcmp(T.alert[i]->dedup_key, key) == 0 && !T.alert[i]->resolved == !resolved &&
            strstr(T.alert[i]->summary, text))
            return T.alert[i];
    return NULL;
}

static bool did(const PB(Alert) * a, const char *action)
{
    for (size_t i = 0; a && i < a->n_actions_taken; i++)
        if (strcmp(a->actions_taken[i], action) == 0)
            return true;
    return false;
}

static bool recorded(const char *agent, const char *action, int outcome, int class)
{
    for (size_t i = 0; i < T.n_records; i++)
        if (strcmp(T.record[i]->subject, agent) == 0 && strcmp(T.record[i]->action, action) == 0 &&
            (int)T.record[i]->outcome == outcome && (int)T.record[i]->audit_class == class)
            return true;
    return false;
}
#define INTENDED (int)E(AUDIT_OUTCOME__AUDIT_OUTCOME_INTENDED)
#define DONE     (int)E(AUDIT_OUTCOME__AUDIT_OUTCOME_DONE)
#define STRICT   (int)E(AUDIT_CLASS__AUDIT_CLASS_STRICT)

/* NULL: no answer. Goes on as everybody else meanwhile: agents that confirm nothing while the test waits would be restricted. Asks once more
 * where nobody serves yet, or where who was asked has died since. */
static natsMsg *ask(const char *subject, const void *data, size_t len)
{
    natsInbox *inbox = NULL;
    natsSubscription *answers = NULL;
    natsMsg *m = NULL;
    assert_int_equal(natsInbox_Create(&inbox), NATS_OK);
    assert_int_equal(natsConnection_SubscribeSync(&answers, T.nc, inbox), NATS_OK);
    for (int64_t end = clock_mono_ms() + LIMIT_MS, again = 0; !m && clock_mono_ms() < end;) {
        if (clock_mono_ms() >= again) {
            assert_int_equal(natsConnection_PublishRequest(T.nc, subject, inbox, data, (int)len), NATS_OK);
            again = clock_mono_ms() + HARNESS_WAIT_MS;
        }
        take_in();
        if (natsSubscription_NextMsg(&m, answers, 1) == NATS_NO_RESPONDERS)
            again = 0;
    }
    natsSubscription_Destroy(answers);
    natsInbox_Destroy(inbox);
    return m;
}

/* Asks like an operator; the caller frees. */
static PB(CommandReply) * command(const char *verb, const char *agent, const char *by, const char *reason)
{
    PB(AgentCommand) c = PB_INIT(AGENT_COMMAND);
    c.agent = (char *)agent;
    c.by = (char *)by;
    c.reason = (char *)reason;
    c.without_selftest = true; /* none of these has questions */
    struct err e;
    size_t len;
    void *data = wire_pack(&c, &len, &e);
    assert_non_null(data);
    char subject[128];
    snprintf(subject, sizeof subject, SUBJECT_CMD "fallback.%s", verb);
    natsMsg *m = ask(subject, data, len);
    free(data);
    if (!m)
        fail_msg("%s %s: no answer", verb, agent);
    PB(CommandReply) *r = unpacked(m, PB_DESC(command_reply));
    natsMsg_Destroy(m);
    return r;
}

static int order(const char *verb, const char *agent, const char *by, const char *reason)
{
    PB(CommandReply) *r = command(verb, agent, by, reason);
    int status = (int)r->status;
    wire_free(r);
    return status;
}
#define STATUS(s) (int)E(COMMAND_STATUS__COMMAND_STATUS_##s)

static bool state_is(const char *agent, int override_mode, bool confirmed)
{
    PB(CommandReply) *r = command("state", agent, "", "");
    struct err e;
    PB(AgentState) *s =
        r->payload.len ? wire_unpack(PB_DESC(agent_state), r->payload.data, r->payload.len, &e) : NULL;
    bool is = s && (int)s->override_mode == override_mode && (!confirmed || s->acked_epoch == s->epoch);
    wire_free(s);
    wire_free(r);
    return is;
}
#define OVERRIDE(m) (int)E(OVERRIDE_MODE__OVERRIDE_MODE_##m)

static redisReply *redis(const char *fmt, const char *a)
{
    redisContext *c = redisConnect("127.0.0.1", T.redis->port);
    assert_true(c && !c->err);
    redisReply *r = redisCommand(c, fmt, a);
    assert_non_null(r);
    redisFree(c);
    return r;
}

static bool field_is(const char *agent, const char *field, const char *expected)
{
    char key[128];
    snprintf(key, sizeof key, "HGET redoubt:{a:%s}:doc %%s", agent);
    redisReply *r = redis(key, field);
    bool same = r->type == REDIS_REPLY_STRING && strcmp(r->str, expected) == 0;
    freeReplyObject(r);
    return same;
}

/* ---- tests ---- */

static void every_agent_has_a_first_directive(void **state)
{
    (void)state;
    for (size_t i = 0; i < AGENTS - 2; i++) {
        WAIT(last(agents[i]));
        assert_true(last(agents[i])->state->epoch >= 1);
    }
    const PB(Directive) *d = last("a-first");
    assert_int_equal(d->state->epoch, 1);
    assert_int_equal(d->step, E(STEP__STEP_INITIAL));
    assert_int_equal(d->state->posture, POSTURE(NORMAL));
    assert_string_equal(d->state->llm_target, "a-first.p");
    assert_string_equal(d->state->llm_model, "big");
    assert_int_equal(d->ack_within_ms, 200);
    WAIT(state_is("a-first", OVERRIDE(OFF), true));
}

static void switch_and_restore(void **state)
{
    (void)state;
    const char *a = "a-switch";
    WAIT(posture_of(a) == POSTURE(NORMAL));
    OPEN(a, 'p');
    WAIT(posture_of(a) == POSTURE(BACKUP_LLM));
    const PB(Directive) *d = last(a);
    assert_int_equal(d->step, E(STEP__STEP_SWITCH_LLM));
    assert_string_equal(d->state->llm_target, "a-switch.b");
    assert_string_equal(d->cause, "a-switch.p");
    assert_int_equal(d->failure_kind, E(FAILURE_KIND__FAILURE_KIND_LLM_OUTAGE));
    WAIT(alert_of(a, "backup-llm", false, ""));
    assert_int_equal(alert_of(a, "backup-llm", false, "")->severity, E(SEVERITY__SEVERITY_WARNING));
    CLOSED(a, 'p');
    WAIT(posture_of(a) == POSTURE(NORMAL));
    assert_int_equal(last(a)->step, E(STEP__STEP_RESTORE_LLM));
    WAIT(alert_of(a, "backup-llm", true, ""));
    WAIT(recorded(a, "directive.issued", DONE, (int)E(AUDIT_CLASS__AUDIT_CLASS_CONTINUITY)));
}

static void override_is_activated_and_released(void **state)
{
    (void)state;
    const char *a = "a-override";
    struct api_call c;
    WAIT(posture_of(a) == POSTURE(NORMAL));
    OPEN(a, 'p');
    OPEN(a, 'b');
    WAIT(posture_of(a) == POSTURE(SECURITY_FALLBACK));
    WAIT(api_call(a, ACTIVATE, 0, &c));
    assert_string_equal(c.path, "/api/admin/override/activate");
    assert_string_equal(c.auth, "Bearer s3cret");
    assert_string_equal(c.type, "application/json");
    assert_string_equal(c.key, last(a)->state->override_key);
    json_t *j = json_loads(c.body, 0, NULL);
    assert_non_null(j);
    assert_int_equal(json_integer_value(json_object_get(j, "duration")), 3600000);
    assert_true(strlen(json_string_value(json_object_get(j, "justification"))) > 10);
    assert_int_equal(json_object_size(j), 2);
    json_decref(j);
    WAIT(alert_of(a, "security-fallback", false, ""));
    const PB(Alert) *al = alert_of(a, "security-fallback", false, "");
    assert_int_equal(al->severity, E(SEVERITY__SEVERITY_HIGH));
    assert_true(did(al, "override_activated") && did(al, "increased_monitoring"));
    WAIT(recorded(a, "override.activate", INTENDED, STRICT));
    WAIT(recorded(a, "override.activate", DONE, STRICT));

    /* Back: not released before the agent has confirmed. */
    WAIT(state_is(a, OVERRIDE(ACTIVE), true));
    T.mute[index_of(a)] = true;
    CLOSED(a, 'b');
    WAIT(last(a)->step == E(STEP__STEP_RESTORE_LLM));
    WAIT(times_seen(a, last(a)->state->epoch) >= 3); /* sent again and again: time has passed */
    assert_false(api_call(a, RELEASE, 0, &c));
    T.mute[index_of(a)] = false;
    WAIT(api_call(a, RELEASE, 0, &c));
    WAIT(state_is(a, OVERRIDE(OFF), true));
    WAIT(recorded(a, "override.release", DONE, STRICT));
    WAIT(alert_of(a, "security-fallback", true, ""));
    assert_false(api_call(a, ACTIVATE, 1, &c));
}

static void failing_override_is_said_and_tried_again(void **state)
{
    (void)state;
    const char *a = "a-retry";
    struct api_call first, c;
    WAIT(posture_of(a) == POSTURE(NORMAL));
    set_status(a, 503);
    OPEN(a, 'p');
    OPEN(a, 'b');
    WAIT(alert_of(a, "security-fallback", false, "NOT"));
    assert_false(did(alert_of(a, "security-fallback", false, "NOT"), "override_activated"));
    WAIT(api_call(a, ACTIVATE, 2, &c));
    set_status(a, 0);
    WAIT(state_is(a, OVERRIDE(ACTIVE), false));
    WAIT(did(alert_of(a, "security-fallback", false, "are active"), "override_activated"));
    assert_true(api_call(a, ACTIVATE, 0, &first));
    for (size_t i = 1; api_call(a, ACTIVATE, i, &c); i++)
        assert_string_equal(c.key, first.key); /* one activation, however often it is asked for */
    CLOSED(a, 'p');
    WAIT(state_is(a, OVERRIDE(OFF), true));
}

static void kill_all(void)
{
    for (int i = 0; i < 2; i++)
        harness_kill(T.replica[i]);
}

static void start_all(void)
{
    for (int i = 0; i < 2; i++)
        harness_start(T.replica[i]);
}

/* Sixteen starts of both replicas take long with a sanitizer, whose own matter is the same at every point: every second will do. */
#if defined __SANITIZE_ADDRESS__ || defined __SANITIZE_THREAD__
#define CRASH_STEP 2
#else
#define CRASH_STEP 1
#endif

/* kill -9 at points that walk over the whole reaction; take_directive() checks that no epoch is used twice. */
static void crashes_at_any_point(void **state)
{
    (void)state;
    const char *a = "a-crash";
    struct api_call c;
    WAIT(posture_of(a) == POSTURE(NORMAL));
    char key[160] = "";
    size_t activations = 0;
    for (int round = 0; round < 8; round += CRASH_STEP) {
        OPEN(a, 'p');
        OPEN(a, 'b');
        int64_t at = clock_mono_ms() + round; /* ms after the fact */
        while (clock_mono_ms() < at)
            take_in();
        kill_all();
        start_all();
        WAIT(posture_of(a) == POSTURE(SECURITY_FALLBACK));
        WAIT(state_is(a, OVERRIDE(ACTIVE), true));
        /* Neither forgotten nor doubled: a new activation has one key, however many calls it took. */
        size_t n = 0;
        while (api_call(a, ACTIVATE, activations + n, &c)) {
            if (n == 0)
                assert_string_not_equal(c.key, key);
            else
                assert_string_equal(c.key, key);
            copy(key, sizeof key, c.key);
            n++;
        }
        assert_true(n >= 1);
        activations += n;
        CLOSED(a, 'p');
        CLOSED(a, 'b');
        at = clock_mono_ms() + 100 + round; /* the hold is 100 ms */
        while (clock_mono_ms() < at)
            take_in();
        kill_all();
        start_all();
        WAIT(posture_of(a) == POSTURE(NORMAL));
        WAIT(state_is(a, OVERRIDE(OFF), true));
        char epoch[24];
        snprintf(epoch, sizeof epoch, "%" PRIu64, last(a)->state->epoch);
    }
    WAIT(alert_of(a, "security-fallback", true, ""));
}

static void silence_is_resent_then_alerted(void **state)
{
    (void)state;
    const char *a = "a-silent";
    WAIT(posture_of(a) == POSTURE(NORMAL));
    WAIT(state_is(a, OVERRIDE(OFF), true));
    T.mute[index_of(a)] = true;
    OPEN(a, 'p');
    WAIT(posture_of(a) == POSTURE(BACKUP_LLM));
    uint64_t epoch = last(a)->state->epoch;
    WAIT(times_seen(a, epoch) >= 4);
    /* Then it is restricted, by a directive of its own. */
    WAIT(alert_of(a, "link", false, ""));
    assert_int_equal(alert_of(a, "link", false, "")->severity, E(SEVERITY__SEVERITY_HIGH));
    assert_true(did(alert_of(a, "link", false, ""), "restricted"));
    assert_null(alert_of(a, "unconfirmed", false, ""));
    WAIT(posture_of(a) == POSTURE(DEGRADED));
    epoch = last(a)->state->epoch;
    /* Confirmations that cannot be: it is sent again as before. */
    size_t before = times_seen(a, epoch);
    confirm(a, epoch + 100, E(ACK_STATUS__ACK_STATUS_APPLIED));
    PB(DirectiveAck) other = PB_INIT(DIRECTIVE_ACK);
    other.agent = (char *)"a-first";
    other.epoch = epoch;
    other.status = E(ACK_STATUS__ACK_STATUS_APPLIED);
    say(SUBJECT_ACK "a-silent", &other);
    say(SUBJECT_ACK "nobody", &other);
    assert_int_equal(natsConnection_PublishString(T.nc, SUBJECT_ACK "a-silent", "\xff\xff nonsense"), NATS_OK);
    WAIT(times_seen(a, epoch) >= before + 3);
    assert_false(state_is(a, OVERRIDE(OFF), true));
    confirm(a, epoch, E(ACK_STATUS__ACK_STATUS_APPLIED));
    WAIT(alert_of(a, "link", true, ""));
    WAIT(posture_of(a) == POSTURE(BACKUP_LLM));
    T.mute[index_of(a)] = false;
    confirm(a, last(a)->state->epoch, E(ACK_STATUS__ACK_STATUS_APPLIED));
    WAIT(state_is(a, OVERRIDE(OFF), true));
}

static void people_freeze_and_unfreeze(void **state)
{
    (void)state;
    const char *a = "a-freeze";
    WAIT(posture_of(a) == POSTURE(NORMAL));
    assert_int_equal(order("freeze", a, "", "why"), STATUS(INVALID));
    assert_int_equal(order("freeze", a, "eve", "  "), STATUS(INVALID));
    assert_int_equal(order("freeze", "nobody", "eve", "why"), STATUS(INVALID));
    assert_int_equal(order("unfreeze", a, "eve", "why"), STATUS(ALREADY));
    for (int i = 0; i < 4; i++) { /* whichever replica takes it */
        uint64_t epoch = last(a)->state->epoch;
        assert_int_equal(order("freeze", a, "eve", "blocks the office"), STATUS(OK));
        WAIT(posture_of(a) == POSTURE(FROZEN));
        assert_int_equal(last(a)->state->epoch, epoch + 1);
        assert_string_equal(last(a)->state->frozen_by, "eve");
        assert_int_equal(order("freeze", a, "bob", "me too"), STATUS(ALREADY));
        if (i == 0) {
            WAIT(alert_of(a, "frozen", false, "manual intervention"));
            const PB(Alert) *al = alert_of(a, "frozen", false, "");
            assert_int_equal(al->severity, E(SEVERITY__SEVERITY_CRITICAL));
            assert_true(al->manual_intervention_required);
        }
        assert_int_equal(order("unfreeze", a, "eve", "rule fixed"), STATUS(OK));
        WAIT(posture_of(a) == POSTURE(NORMAL));
    }
    WAIT(recorded(a, "agent.freeze", INTENDED, STRICT) && recorded(a, "agent.freeze", DONE, STRICT));
    WAIT(recorded(a, "agent.unfreeze", INTENDED, STRICT) && recorded(a, "agent.unfreeze", DONE, STRICT));
    uint64_t epoch = last(a)->state->epoch;
    size_t before = times_seen(a, epoch);
    assert_int_equal(order("resync", a, "eve", "looks stale"), STATUS(OK));
    WAIT(times_seen(a, epoch) > before);
}

static void verdict_freezes_until_a_person_ends_it(void **state)
{
    (void)state;
    const char *a = "a-verdict";
    WAIT(posture_of(a) == POSTURE(NORMAL));
    verdict(a, E(HEALTH_STATE__HEALTH_STATE_UNHEALTHY), E(FAILURE_KIND__FAILURE_KIND_LOGIC_ERROR));
    WAIT(posture_of(a) == POSTURE(FROZEN));
    WAIT(alert_of(a, "frozen", false, ""));
    assert_int_equal(alert_of(a, "frozen", false, "")->failure_kind, E(FAILURE_KIND__FAILURE_KIND_LOGIC_ERROR));
    kill_all();
    start_all();
    verdict(a, E(HEALTH_STATE__HEALTH_STATE_HEALTHY), 0);
    WAIT(state_is(a, OVERRIDE(OFF), true));
    WAIT(order("unfreeze", a, "eve", "fixed") == STATUS(OK));
    WAIT(posture_of(a) == POSTURE(NORMAL));
    verdict(a, E(HEALTH_STATE__HEALTH_STATE_UNHEALTHY), E(FAILURE_KIND__FAILURE_KIND_AGENT_DOWN));
    WAIT(alert_of(a, "down", false, ""));
    assert_true(did(alert_of(a, "down", false, ""), "restricted"));
    verdict(a, E(HEALTH_STATE__HEALTH_STATE_HEALTHY), 0);
    WAIT(alert_of(a, "down", true, ""));
}

static void backend_degrades_and_ramps(void **state)
{
    (void)state;
    const char *a = "a-backend";
    WAIT(posture_of(a) == POSTURE(NORMAL));
    OPEN(a, 'x');
    WAIT(posture_of(a) == POSTURE(DEGRADED));
    WAIT(alert_of(a, "backend", false, ""));
    assert_int_equal(last(a)->failure_kind, E(FAILURE_KIND__FAILURE_KIND_BACKEND_FAILURE));
    breaker(a, 'x', E(BREAKER_STATE__BREAKER_STATE_PROBATION), 10);
    WAIT(posture_of(a) == POSTURE(RECOVERING));
    assert_int_equal(last(a)->state->ramp_percent, 10);
    OPEN(a, 'x');
    WAIT(posture_of(a) == POSTURE(DEGRADED));
    WAIT(alert_of(a, "backend", false, "recovery"));
    CLOSED(a, 'x');
    WAIT(posture_of(a) == POSTURE(NORMAL));
    WAIT(alert_of(a, "backend", true, "recovery successful"));
}

static void emptied_redis_is_filled_again(void **state)
{
    (void)state;
    const char *a = "a-empty";
    struct api_call c;
    WAIT(posture_of(a) == POSTURE(NORMAL));
    OPEN(a, 'p');
    OPEN(a, 'b');
    WAIT(state_is(a, OVERRIDE(ACTIVE), true));
    uint64_t epoch = last(a)->state->epoch;
    /* While it runs, and while it does not. */
    for (int dead = 0; dead <= 1; dead++) {
        if (dead)
            kill_all();
        freeReplyObject(redis("FLUSHALL%s", ""));
        if (dead)
            start_all();
        WAIT(state_is(a, OVERRIDE(ACTIVE), true));
        /* Those who read only Redis see it as well. */
        char text[24];
        snprintf(text, sizeof text, "%" PRIu64, epoch);
        WAIT(field_is(a, "epoch", text) && field_is(a, "posture", "SECURITY_FALLBACK"));
        WAIT(state_is("a-first", OVERRIDE(OFF), true));
        assert_int_equal(last(a)->state->epoch, epoch);
        assert_int_equal(posture_of(a), POSTURE(SECURITY_FALLBACK));
    }
    assert_false(api_call(a, RELEASE, 0, &c));
    CLOSED(a, 'p');
    CLOSED(a, 'b');
    WAIT(posture_of(a) == POSTURE(NORMAL));
    assert_true(last(a)->state->epoch > epoch);
    WAIT(state_is(a, OVERRIDE(OFF), true));
}

static size_t store_alerts(bool resolved)
{
    size_t n = 0;
    for (size_t i = 0; i < T.n_alerts; i++)
        n += strcmp(T.alert[i]->dedup_key, "fallback/shared-state") == 0 && !T.alert[i]->resolved == !resolved;
    return n;
}

static void damaged_document_is_repaired(void **state)
{
    (void)state;
    const char *a = "a-damage", *key = "redoubt:{a:a-damage}:doc";
    WAIT(posture_of(a) == POSTURE(NORMAL));
    uint64_t epoch = last(a)->state->epoch;
    freeReplyObject(redis("HSET %s doc garbage", key));
    OPEN(a, 'p'); /* compare-and-set still fits: the writer does not even notice */
    WAIT(posture_of(a) == POSTURE(BACKUP_LLM));
    assert_int_equal(last(a)->state->epoch, epoch + 1);
    WAIT(state_is(a, OVERRIDE(OFF), true));
    freeReplyObject(redis("HSET %s doc garbage rev 77", key));
    OPEN(a, 'b');
    WAIT(posture_of(a) == POSTURE(SECURITY_FALLBACK));
    assert_int_equal(last(a)->state->epoch, epoch + 2);
    WAIT(state_is(a, OVERRIDE(ACTIVE), true));
    /* Something else altogether under our key: nothing moves until it is gone. */
    freeReplyObject(redis("DEL %s", key));
    freeReplyObject(redis("SET %s something", key));
    size_t told = store_alerts(false);
    CLOSED(a, 'p');
    WAIT(order("resync", a, "eve", "why") == STATUS(UNAVAILABLE));
    WAIT(store_alerts(false) > told);
    assert_int_equal(last(a)->state->epoch, epoch + 2);
    freeReplyObject(redis("DEL %s", key));
    WAIT(posture_of(a) == POSTURE(NORMAL));
    assert_int_equal(last(a)->state->epoch, epoch + 3);
    WAIT(state_is(a, OVERRIDE(OFF), true));
}

static void without_redis_nothing_moves_and_then_it_does(void **state)
{
    (void)state;
    const char *a = "a-away";
    WAIT(posture_of(a) == POSTURE(NORMAL));
    size_t told = store_alerts(false), over = store_alerts(true);
    harness_kill(T.redis);
    OPEN(a, 'p');
    WAIT(store_alerts(false) > told);
    assert_int_equal(order("freeze", a, "eve", "now"), STATUS(UNAVAILABLE));
    /* What can still be known is told. */
    PB(CommandReply) *r = command("state", a, "", "");
    assert_int_equal(r->status, STATUS(OK));
    assert_non_null(strstr(r->message, "last directive"));
    wire_free(r);
    assert_int_equal(posture_of(a), POSTURE(NORMAL));
    harness_start(T.redis); /* without persistence: it is empty */
    WAIT(posture_of(a) == POSTURE(BACKUP_LLM));
    WAIT(store_alerts(true) > over);
    CLOSED(a, 'p');
    WAIT(posture_of(a) == POSTURE(NORMAL));
}

static uint64_t epoch_on_stream(const char *agent)
{
    jsCtx *js = NULL;
    natsMsg *m = NULL;
    char subject[128];
    uint64_t epoch = 0;
    snprintf(subject, sizeof subject, SUBJECT_DIRECTIVE "%s", agent);
    assert_int_equal(natsConnection_JetStream(&js, T.nc, NULL), NATS_OK);
    if (js_GetLastMsg(&m, js, STREAM_STATE, subject, NULL, NULL) == NATS_OK) {
        PB(Directive) *d = unpacked(m, PB_DESC(directive));
        epoch = d->state->epoch;
        wire_free(d);
        natsMsg_Destroy(m);
    }
    jsCtx_Destroy(js);
    return epoch;
}

static void stream_that_forgot_is_told_again(void **state)
{
    (void)state;
    const char *a = "a-first";
    WAIT(posture_of(a) == POSTURE(NORMAL));
    uint64_t epoch = last(a)->state->epoch;
    WAIT(epoch_on_stream(a) == epoch);
    harness_kill(T.nats);
    harness_forget(T.nats);
    harness_start(T.nats);
    WAIT(epoch_on_stream(a) == epoch);
    assert_int_equal(last(a)->state->epoch, epoch);
}

static void another_replica_goes_on(void **state)
{
    (void)state;
    const char *a = "a-failover";
    WAIT(posture_of(a) == POSTURE(NORMAL));
    for (int i = 0; i < 4; i++) {
        harness_kill(T.replica[i % 2]);
        OPEN(a, 'p');
        WAIT(posture_of(a) == POSTURE(BACKUP_LLM));
        harness_start(T.replica[i % 2]);
        /* Paused past its lease, then going on: its writes are refused. */
        harness_freeze(T.replica[(i + 1) % 2]);
        CLOSED(a, 'p');
        WAIT(posture_of(a) == POSTURE(NORMAL));
        harness_thaw(T.replica[(i + 1) % 2]);
        WAIT(state_is(a, OVERRIDE(OFF), true));
    }
}

/* Two agents of one backend, added while the suite runs: one's way back must not take the other's protection away. */
static void shared_override_is_released_by_the_last(void **state)
{
    (void)state;
    struct api_call c;
    write_settings(AGENTS);
    for (int i = 0; i < 2; i++)
        kill(T.replica[i]->pid, SIGHUP);
    WAIT(posture_of("a-shared1") == POSTURE(NORMAL) && posture_of("a-shared2") == POSTURE(NORMAL));
    for (int i = 1; i <= 2; i++) {
        const char *a = i == 1 ? "a-shared1" : "a-shared2";
        OPEN(a, 'p');
        OPEN(a, 'b');
        WAIT(state_is(a, OVERRIDE(ACTIVE), true));
    }
    CLOSED("a-shared1", 'p');
    WAIT(posture_of("a-shared1") == POSTURE(NORMAL));
    WAIT(state_is("a-shared1", OVERRIDE(ACTIVE), true)); /* confirmed, and still held */
    assert_false(api_call("a-shared1", RELEASE, 0, &c));
    CLOSED("a-shared2", 'p');
    WAIT(state_is("a-shared1", OVERRIDE(OFF), true) && state_is("a-shared2", OVERRIDE(OFF), true));
    assert_true(api_call("a-shared1", RELEASE, 1, &c));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_agent_has_a_first_directive),
        cmocka_unit_test(switch_and_restore),
        cmocka_unit_test(override_is_activated_and_released),
        cmocka_unit_test(failing_override_is_said_and_tried_again),
        cmocka_unit_test(silence_is_resent_then_alerted),
        cmocka_unit_test(people_freeze_and_unfreeze),
        cmocka_unit_test(verdict_freezes_until_a_person_ends_it),
        cmocka_unit_test(backend_degrades_and_ramps),
        cmocka_unit_test(emptied_redis_is_filled_again),
        cmocka_unit_test(damaged_document_is_repaired),
        cmocka_unit_test(without_redis_nothing_moves_and_then_it_does),
        cmocka_unit_test(stream_that_forgot_is_told_again),
        cmocka_unit_test(another_replica_goes_on),
        cmocka_unit_test(crashes_at_any_point),
        cmocka_unit_test(shared_override_is_released_by_the_last),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
