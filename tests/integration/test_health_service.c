/* test_health_service.c - redoubt-health itself, on a real NATS and Redis, with an LLM API, a backend and an agent played here. */
#include "../harness.h"
#include "common/bus.h"
#include "common/clock.h"
#include "common/store.h"
#include "common/subjects.h"
#include "common/wire.h"
#include <microhttpd.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <sodium.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define LLM     "llm.test"
#define BACKEND "backend.test"
#define SOCKET  "other.socket"
#define AGENT   "tester"
#define SELF    "agent." AGENT
#define KEPT    256
#define E_(x)   REDOUBT__V1__##x

enum { OK_MODE, OVERLOADED, QUOTA, KEY, HANG, CUT, GARBAGE, WHOLE, NEW_LIMIT };

struct seen {
    char target[TARGET_MAX_LEN + 1];
    uint64_t epoch;
    int state, failure, fault;
    int64_t since_ms, changed_ms;
    char id[200];
};
struct env {
    struct harness *h;
    struct harness_proc *nats, *redis, *health, *health2;
    struct MHD_Daemon *http;
    pthread_mutex_t hung_lock;
    struct MHD_Connection *hung[64];
    size_t n_hung;
    int http_port;
    _Atomic int llm_mode, backend_mode;
    _Atomic int llm_calls, backend_calls;
    struct loop loop;
    struct bus *bus;
    struct store *store;
    bool bus_up, store_up, closed;
    struct bus_watch *watch;
    struct seen seen[KEPT];
    size_t n_seen;
    struct {
        char target[TARGET_MAX_LEN + 1];
        int outcome;
        uint64_t permit_id;
        bool probe, data_path;
        uint32_t retry_after_ms;
    } reports[4 * KEPT];
    size_t n_reports;
    size_t n_alerts, n_resolved, n_audit, n_allow;
    char alert_summary[512];
    int alert_severity;
    uint64_t beats;
    uint64_t grant;
    bool beating;
    struct loop_timer beat;
    const void *want; /* of the condition being waited for */
    int wanted_outcome;
    int64_t until_ms;
};

/* ---- the world ---- */

static enum MHD_Result answer(struct MHD_Connection *c, unsigned status, const char *type, const char *text,
                              const char *retry)
{
    struct MHD_Response *r =
        MHD_create_response_from_buffer(strlen(text), (void *)(uintptr_t)text, MHD_RESPMEM_MUST_COPY);
    MHD_add_response_header(r, "Content-Type", type);
    if (retry)
        MHD_add_response_header(r, "Retry-After", retry);
    enum MHD_Result ok = MHD_queue_response(c, status, r);
    MHD_destroy_response(r);
    return ok;
}

#define STREAM                                                                                                       \
    "data: {\"choices\":[{\"delta\":{\"content\":\"pong\"},\"finish_reason\":\"length\"}]}\n\ndata: [DONE]\n\n"

static enum MHD_Result serve(void *ctx, struct MHD_Connection *c, const char *url, const char *method,
                             const char *version, const char *data, size_t *size, void **req)
{
    struct env *e = ctx;
    (void)version;
    static int started;
    static _Thread_local char body[4096];
    static _Thread_local size_t len;
    if (!*req) {
        *req = &started;
        len = 0;
        return MHD_YES;
    }
    if (*size) {
        size_t n = *size < sizeof body - 1 - len ? *size : sizeof body - 1 - len;
        memcpy(body + len, data, n);
        len += n;
        *size = 0;
        return MHD_YES;
    }
    body[len] = 0;
    bool llm = strcmp(method, "POST") == 0 && strcmp(url, "/v1/chat/completions") == 0;
    int mode = atomic_load(llm ? &e->llm_mode : &e->backend_mode);
    atomic_fetch_add(llm ? &e->llm_calls : &e->backend_calls, 1);
    const char *auth = MHD_lookup_connection_value(c, MHD_HEADER_KIND, "Authorization");
    if (llm && (!auth || strcmp(auth, "Bearer sesame") != 0))
        mode = KEY;
    switch (mode) {
    case OVERLOADED:
        return answer(c, 503, "application/json", "{\"error\":{\"message\":\"too much\"}}", NULL);
    case QUOTA:
        return answer(c, 429, "application/json", "{}", "1");
    case KEY:
        return answer(c, 401, "application/json", "{\"error\":{\"message\":\"Incorrect API key: sesame\"}}", NULL);
    case HANG:
        pthread_mutex_lock(&e->hung_lock);
        assert_true(e->n_hung < sizeof e->hung / sizeof *e->hung);
        e->hung[e->n_hung++] = c;
        MHD_suspend_connection(c);
        pthread_mutex_unlock(&e->hung_lock);
        return MHD_YES;
    case CUT:
        return answer(c, 200, "text/event-stream", "data: {\"choices\":[]}\n\n", NULL);
    case GARBAGE:
        return answer(c, 200, "application/json", "\x01{{", NULL);
    case WHOLE:
        return answer(c, 200, "application/json", "{\"choices\":[{\"message\":{\"content\":\"x\"}}]}", NULL);
    case NEW_LIMIT:
        if (!strstr(body, "max_completion_tokens"))
            return answer(c, 400, "application/json", "{\"error\":{\"message\":\"use max_completion_tokens\"}}",
                          NULL);
        break;
    default:
        break;
    }
    return llm ? answer(c, 200, "text/event-stream", STREAM, NULL) : answer(c, 200, "text/plain", "ok", NULL);
}

static void open_http(struct env *e)
{
    e->http = MHD_start_daemon(MHD_USE_INTERNAL_POLLING_THREAD | MHD_ALLOW_SUSPEND_RESUME, 0, NULL, NULL, serve, e,
                               MHD_OPTION_SOCK_ADDR,
                               &(struct sockaddr_in){.sin_family = AF_INET,
                                                     .sin_port = htons((uint16_t)e->http_port),
                                                     .sin_addr.s_addr = htonl(INADDR_LOOPBACK)},
                               MHD_OPTION_LISTENING_ADDRESS_REUSE, 1u, MHD_OPTION_END);
    assert_non_null(e->http);
}

static void close_http(struct env *e)
{
    pthread_mutex_lock(&e->hung_lock);
    while (e->n_hung)
        MHD_resume_connection(e->hung[--e->n_hung]);
    pthread_mutex_unlock(&e->hung_lock);
    MHD_stop_daemon(e->http);
}

/* ---- what the service says ---- */

static void on_verdict(void *ctx, const struct bus_msg *m)
{
    struct env *e = ctx;
    PB(HealthChanged) *h = wire_unpack(PB_DESC(health_changed), m->data, m->len, NULL);
    assert_non_null(h);
    for (size_t i = 0; i < e->n_seen; i++)
        if (strcmp(e->seen[i].target, h->target) == 0 && e->seen[i].epoch == h->epoch) {
            assert_int_equal(e->seen[i].state, h->state); /* one epoch, one verdict */
            assert_int_equal(e->seen[i].changed_ms, h->changed_unix_ms);
            wire_free(h);
            return;
        }
    assert_true(e->n_seen < KEPT);
    struct seen *s = &e->seen[e->n_seen++];
    snprintf(s->target, sizeof s->target, "%s", h->target);
    s->epoch = h->epoch;
    s->state = (int)h->state;
    s->failure = (int)h->failure_kind;
    s->fault = h->n_evidence ? (int)h->evidence[0]->fault : 0;
    s->since_ms = h->since_unix_ms;
    s->changed_ms = h->changed_unix_ms;
    if (m->id)
        snprintf(s->id, sizeof s->id, "%s", m->id);
    assert_true(h->since_unix_ms > 0 && h->since_unix_ms <= h->changed_unix_ms);
    wire_free(h);
}

static void on_report(void *ctx, const struct bus_msg *m)
{
    struct env *e = ctx;
    PB(OutcomeReport) *r = wire_unpack(PB_DESC(outcome_report), m->data, m->len, NULL);
    assert_non_null(r);
    if (e->n_reports < sizeof e->reports / sizeof *e->reports) {
        size_t i = e->n_reports++;
        snprintf(e->reports[i].target, sizeof e->reports[i].target, "%s", r->target);
        e->reports[i].outcome = (int)r->outcome;
        e->reports[i].permit_id = r->permit_id;
        e->reports[i].probe = r->probe;
        e->reports[i].data_path = r->data_path;
        e->reports[i].retry_after_ms = r->retry_after_ms;
    }
    wire_free(r);
}

static void on_alert(void *ctx, const struct bus_msg *m)
{
    struct env *e = ctx;
    PB(Alert) *a = wire_unpack(PB_DESC(alert), m->data, m->len, NULL);
    assert_non_null(a);
    e->n_alerts += a->resolved ? 0 : 1;
    e->n_resolved += a->resolved ? 1 : 0;
    e->alert_severity = (int)a->severity;
    snprintf(e->alert_summary, sizeof e->alert_summary, "%s", a->summary);
    wire_free(a);
}

static void on_audit(void *ctx, const struct bus_msg *m)
{
    struct env *e = ctx;
    PB(AuditRecord) *r = wire_unpack(PB_DESC(audit_record), m->data, m->len, NULL);
    assert_non_null(r);
    e->n_audit += strncmp(r->action, "health.", 7) == 0;
    wire_free(r);
}

/* The breaker: gives the permit to whoever asks. */
static void on_allow(void *ctx, const struct bus_msg *m)
{
    struct env *e = ctx;
    PB(AllowRequest) *q = wire_unpack(PB_DESC(allow_request), m->data, m->len, NULL);
    assert_non_null(q);
    e->n_allow++;
    PB(AllowReply) r = E_(ALLOW_REPLY__INIT);
    r.admitted = e->grant != 0;
    r.permit_id = e->grant;
    r.state = E_(BREAKER_STATE__BREAKER_STATE_HALF_OPEN);
    size_t len;
    void *data = wire_pack(&r, &len, NULL);
    struct bus_out o = {.subject = m->reply, .data = data, .len = len};
    (void)bus_publish(e->bus, &o, NULL);
    free(data);
    wire_free(q);
}

static void store_message(struct env *e, const char *prefix, const char *name, const char *id, const void *message)
{
    char subject[SUBJECT_MAX_LEN];
    size_t len;
    struct err er = {""};
    void *data = wire_pack(message, &len, &er);
    if (!data)
        fail_msg("%s", er.text);
    snprintf(subject, sizeof subject, "%s%s", prefix, name);
    struct bus_out o = {.subject = subject, .id = id, .type = wire_type(message), .data = data, .len = len};
    if (id)
        bus_store(e->bus, &o, 0, NULL, NULL);
    else
        (void)bus_publish(e->bus, &o, NULL);
    free(data);
}

static void breaker_is(struct env *e, const char *target, uint64_t epoch, int state)
{
    char id[200];
    PB(BreakerChanged) b = E_(BREAKER_CHANGED__INIT);
    b.target = (char *)target;
    b.epoch = epoch;
    b.state = (Redoubt__V1__BreakerState)state;
    snprintf(id, sizeof id, "breaker/%s/%d", target, (int)epoch);
    store_message(e, SUBJECT_BREAKER, target, id, &b);
}

static void on_beat(void *ctx)
{
    struct env *e = ctx;
    if (!e->beating || !e->bus_up)
        return;
    PB(Heartbeat) h = E_(HEARTBEAT__INIT);
    h.agent = (char *)AGENT;
    h.instance = (char *)"here-1";
    h.sequence = ++e->beats;
    h.progress = e->beats;
    h.interval_ms = 200;
    store_message(e, SUBJECT_HEARTBEAT, AGENT, NULL, &h);
}

/* ---- the fixture ---- */

static void on_bus_up(void *ctx)
{
    ((struct env *)ctx)->bus_up = true;
}
static void on_bus_down(void *ctx)
{
    ((struct env *)ctx)->bus_up = false;
}
static void on_store_up(void *ctx)
{
    ((struct env *)ctx)->store_up = true;
}
static void on_store_down(void *ctx)
{
    ((struct env *)ctx)->store_up = false;
}
static void on_closed(void *ctx)
{
    ((struct env *)ctx)->closed = true;
}
static void nothing(void *ctx)
{
    (void)ctx;
}

static bool wait_for(struct env *e, bool (*holds)(struct env *e), int64_t limit_ms)
{
    static const bool never = false;
    int64_t end_ms = clock_mono_ms() + limit_ms;
    while (!holds(e)) {
        if (clock_mono_ms() > end_ms)
            return false;
        loop_run_until(&e->loop, &never, 10);
    }
    return true;
}
#define UNTIL(e, holds)                                                                                              \
    do {                                                                                                             \
        if (!wait_for(e, holds, 3 * HARNESS_WAIT_MS))                                                                \
            fail_msg("waited in vain for " #holds);                                                                  \
    } while (0)

static bool both_up(struct env *e)
{
    return e->bus_up && e->store_up;
}

static struct harness_proc *start_health(struct env *e, const char *name)
{
    char self[512], program[600], conf[600];
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    assert_true(n > 0);
    self[n] = 0;
    for (int i = 0; i < 3; i++) /* tests/integration/test_health_service */
        *strrchr(self, '/') = 0;
    snprintf(program, sizeof program, "%s/bin/redoubt-health", self);
    snprintf(conf, sizeof conf, "%s/redoubt.yaml", harness_dir(e->h));
    return harness_run(e->h, name, 0, (const char *const[]){program, "-c", conf, NULL});
}

static int setup(void **state)
{
    struct env *e = calloc(1, sizeof *e);
    assert_non_null(e);
    *state = e;
    assert_true(sodium_init() >= 0);
    e->h = harness_open();
    e->nats = harness_nats(e->h, "nats", NULL);
    e->redis = harness_redis(e->h, "redis", NULL);
    pthread_mutex_init(&e->hung_lock, NULL);
    e->http_port = harness_free_port();
    open_http(e);
    char conf[600];
    snprintf(conf, sizeof conf, "%s/redoubt.yaml", harness_dir(e->h));
    FILE *f = fopen(conf, "w");
    assert_non_null(f);
    fprintf(f,
            "nats: { url: \"%s\" }\n"
            "redis: { host: 127.0.0.1, port: %d, timeout: 500ms }\n"
            "data_dir: \"%s/data\"\n"
            "tilt_hold: 2s\n"
            "targets:\n"
            "  - { name: " LLM ", kind: llm, probe: { type: llm, url: \"http://127.0.0.1:%d/v1\", model: m, api_key: "
            "sesame, interval: 500ms, fast_interval: 100ms, timeout: 1s } }\n"
            "  - { name: " BACKEND ", kind: backend, probe: { type: http, url: \"http://127.0.0.1:%d/health\", "
            "interval: 500ms, fast_interval: 100ms, timeout: 1s } }\n"
            "  - { name: " SOCKET ", kind: other, probe: { type: tcp, url: \"tcp://%s:%d\", interval: 500ms, "
            "fast_interval: 100ms, timeout: 1s } }\n"
            "agents:\n"
            "  - { name: " AGENT ", chain: [ { target: " LLM
            ", model: m } ], heartbeat: 200ms, heartbeat_fall: 3 }\n",
            e->nats->url, e->redis->port, harness_dir(e->h), e->http_port, e->http_port, harness_localhost(),
            e->http_port);
    fclose(f);
    assert_int_equal(loop_init(&e->loop), 0);
    struct err er = {""};
    struct bus_opts bo = {.url = e->nats->url,
                          .name = "test",
                          .inbox_prefix = "_INBOX_test",
                          .on_up = on_bus_up,
                          .on_down = on_bus_down,
                          .ctx = e};
    struct store_opts so = {
        .host = "127.0.0.1", .port = e->redis->port, .on_up = on_store_up, .on_down = on_store_down, .ctx = e};
    e->bus = bus_open(&e->loop, &bo, &er);
    e->store = store_open(&e->loop, &so, &er);
    assert_non_null(e->bus);
    assert_non_null(e->store);
    e->watch = bus_watch(e->bus, SUBJECT_HEALTH ">", 0, on_verdict, nothing, e);
    bus_subscribe(e->bus, SUBJECT_REPORT ">", NULL, on_report, e);
    bus_subscribe(e->bus, SUBJECT_ALERT, NULL, on_alert, e);
    bus_subscribe(e->bus, SUBJECT_AUDIT ">", NULL, on_audit, e);
    bus_subscribe(e->bus, SUBJECT_CMD "breaker.allow", NULL, on_allow, e);
    loop_timer_init(&e->loop, &e->beat, on_beat, e);
    loop_timer_start(&e->beat, 100, 100);
    e->beating = true;
    UNTIL(e, both_up);
    e->health = start_health(e, "health");
    return 0;
}

static int teardown(void **state)
{
    struct env *e = *state;
    if (e->health && harness_alive(e->health))
        assert_int_equal(harness_stop(e->health), 0);
    loop_timer_close(&e->beat, NULL);
    e->closed = false;
    store_close(e->store, on_closed, e);
    assert_true(loop_run_until(&e->loop, &e->closed, HARNESS_WAIT_MS));
    e->closed = false;
    bus_close(e->bus, 1000, on_closed, e);
    assert_true(loop_run_until(&e->loop, &e->closed, HARNESS_WAIT_MS));
    loop_done(&e->loop);
    close_http(e);
    harness_close(e->h);
    free(e);
    return 0;
}

/* ---- conditions ---- */

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

#define VERDICT(name, target, what)                                                                                  \
    static bool name(struct env *e)                                                                                  \
    {                                                                                                                \
        return is(e, target, E_(HEALTH_STATE__HEALTH_STATE_##what));                                                 \
    }
VERDICT(llm_healthy, LLM, HEALTHY)
VERDICT(llm_unhealthy, LLM, UNHEALTHY)
VERDICT(llm_degraded, LLM, DEGRADED)
VERDICT(backend_healthy, BACKEND, HEALTHY)
VERDICT(backend_unhealthy, BACKEND, UNHEALTHY)
VERDICT(socket_healthy, SOCKET, HEALTHY)
VERDICT(socket_unhealthy, SOCKET, UNHEALTHY)
VERDICT(renamed_healthy, "other.socker", HEALTHY)
VERDICT(agent_healthy, SELF, HEALTHY)
VERDICT(agent_unhealthy, SELF, UNHEALTHY)

static bool all_healthy(struct env *e)
{
    return llm_healthy(e) && backend_healthy(e) && socket_healthy(e) && agent_healthy(e);
}

static bool redis_has(struct env *e, const char *target, uint64_t epoch);

static bool one_alert(struct env *e)
{
    return e->n_alerts >= 1;
}
static bool resolved(struct env *e)
{
    return e->n_resolved >= 1;
}
static bool permit_reported(struct env *e)
{
    for (size_t i = 0; i < e->n_reports; i++)
        if (e->reports[i].permit_id == e->grant && e->reports[i].data_path && e->reports[i].probe &&
            strcmp(e->reports[i].target, e->want) == 0)
            return true;
    return false;
}

static bool outcome_reported(struct env *e)
{
    for (size_t i = 0; i < e->n_reports; i++)
        if (e->reports[i].outcome == e->wanted_outcome)
            return true;
    return false;
}

static bool both_reported(struct env *e)
{
    bool llm = false, backend = false;
    for (size_t i = 0; i < e->n_reports; i++) {
        llm = llm || strcmp(e->reports[i].target, LLM) == 0;
        backend = backend || strcmp(e->reports[i].target, BACKEND) == 0;
    }
    return llm && backend;
}

struct got {
    bool done;
    uint64_t rev, epoch;
    bool pending;
};

static void on_got(void *ctx, enum store_status st, const struct store_doc *d)
{
    struct got *g = ctx;
    g->done = true;
    if (st != STORE_OK || !d->found)
        return;
    PB(HealthChanged) *m = wire_unpack(PB_DESC(health_changed), d->data, d->len, NULL);
    g->rev = d->rev;
    g->epoch = m ? m->epoch : 0;
    g->pending = d->pending;
    wire_free(m);
}

static bool redis_has(struct env *e, const char *target, uint64_t epoch)
{
    char key[200];
    struct got g = {0};
    snprintf(key, sizeof key, "redoubt:{h:%s}:doc", target);
    store_doc_get(e->store, key, on_got, &g);
    assert_true(loop_run_until(&e->loop, &g.done, HARNESS_WAIT_MS));
    return g.epoch == epoch && !g.pending;
}

static bool marked(struct env *e)
{
    const struct seen *s = last_of(e, LLM);
    return s && redis_has(e, LLM, s->epoch);
}

/* ---- the tests ---- */

static void test_verdicts(void **state)
{
    struct env *e = *state;
    UNTIL(e, all_healthy);
    assert_int_equal(last_of(e, LLM)->epoch, 1);
    assert_string_equal(last_of(e, LLM)->id, "health/" LLM "/1");
    UNTIL(e, marked);
    /* LLM probes go the way of calls; a backend's health page does not. */
    UNTIL(e, both_reported);
    for (size_t i = 0; i < e->n_reports; i++) {
        assert_true(e->reports[i].probe);
        assert_int_equal(e->reports[i].data_path, strcmp(e->reports[i].target, LLM) == 0);
        assert_int_equal(e->reports[i].outcome, E_(OUTCOME__OUTCOME_SUCCESS));
    }
    static const struct {
        int mode, fault, outcome;
    } rows[] = {
        {OVERLOADED, E_(PROBE_FAULT__PROBE_FAULT_OVERLOAD), E_(OUTCOME__OUTCOME_OVERLOADED)},
        {CUT, E_(PROBE_FAULT__PROBE_FAULT_CUT), E_(OUTCOME__OUTCOME_ERROR)},
        {HANG, E_(PROBE_FAULT__PROBE_FAULT_TIMEOUT), E_(OUTCOME__OUTCOME_TIMEOUT)},
        {GARBAGE, E_(PROBE_FAULT__PROBE_FAULT_SCHEMA), E_(OUTCOME__OUTCOME_ERROR)},
    };
    size_t audited = e->n_audit;
    for (size_t i = 0; i < sizeof rows / sizeof *rows;
         i++) { /* so many may be FLAPPING for a while, and rightly so */
        atomic_store(&e->llm_mode, rows[i].mode);
        UNTIL(e, llm_unhealthy);
        const struct seen *s = last_of(e, LLM);
        assert_int_equal(s->fault, rows[i].fault);
        assert_int_equal(s->failure, E_(FAILURE_KIND__FAILURE_KIND_LLM_OUTAGE));
        e->wanted_outcome = rows[i].outcome;
        UNTIL(e, outcome_reported);
        atomic_store(&e->llm_mode, i % 2 ? WHOLE : NEW_LIMIT); /* well in other ways */
        UNTIL(e, llm_healthy);
    }
    assert_true(e->n_audit > audited);
    assert_int_equal(e->n_alerts, 0); /* outages of LLMs are told by those who act on them */
}

static void test_wrong_key(void **state)
{
    struct env *e = *state;
    UNTIL(e, llm_healthy);
    atomic_store(&e->llm_mode, KEY);
    UNTIL(e, llm_degraded);
    assert_int_equal(last_of(e, LLM)->fault, E_(PROBE_FAULT__PROBE_FAULT_AUTH));
    UNTIL(e, one_alert);
    assert_null(strstr(e->alert_summary, "sesame")); /* the server repeats the key; we don't */
    for (size_t i = 0; i < e->n_reports; i++)
        if (strcmp(e->reports[i].target, LLM) == 0)
            assert_true(e->reports[i].outcome == E_(OUTCOME__OUTCOME_SUCCESS) ||
                        e->reports[i].outcome == E_(OUTCOME__OUTCOME_IGNORED));
    atomic_store(&e->llm_mode, OK_MODE);
    UNTIL(e, llm_healthy);
    UNTIL(e, resolved);
}

static void test_permits(void **state)
{
    struct env *e = *state;
    UNTIL(e, all_healthy);
    e->grant = 41;
    e->want = LLM;
    breaker_is(e, LLM, 1, E_(BREAKER_STATE__BREAKER_STATE_HALF_OPEN));
    UNTIL(e, permit_reported);
    e->grant = 42;
    e->want = BACKEND;
    breaker_is(e, BACKEND, 1, E_(BREAKER_STATE__BREAKER_STATE_HALF_OPEN));
    UNTIL(e, permit_reported);
    /* In probation a backend's probe counts as a call, and probes go fast. */
    breaker_is(e, BACKEND, 2, E_(BREAKER_STATE__BREAKER_STATE_PROBATION));
    e->grant = 0;
    e->n_reports = 0;
    UNTIL(e, permit_reported);
}

static void test_agent_gone(void **state)
{
    struct env *e = *state;
    UNTIL(e, agent_healthy);
    e->beating = false;
    UNTIL(e, agent_unhealthy);
    const struct seen *s = last_of(e, SELF);
    assert_int_equal(s->failure, E_(FAILURE_KIND__FAILURE_KIND_AGENT_DOWN));
    assert_true(s->changed_ms > s->since_ms); /* since the first one missed */
    UNTIL(e, one_alert);
    assert_int_equal(e->alert_severity, E_(SEVERITY__SEVERITY_CRITICAL));
    assert_non_null(strstr(e->alert_summary, "agent gone"));
    e->beating = true;
    UNTIL(e, agent_healthy);
    UNTIL(e, resolved);
}

static void test_never_seen(void **state)
{
    struct env *e = *state;
    e->beating = false; /* perhaps one or two were heard already */
    UNTIL(e, agent_unhealthy);
}

static void test_plain_target(void **state)
{
    struct env *e = *state;
    UNTIL(e, all_healthy);
    close_http(e); /* LLM, backend and socket at once */
    UNTIL(e, socket_unhealthy);
    assert_int_equal(last_of(e, SOCKET)->fault, E_(PROBE_FAULT__PROBE_FAULT_CONNECT));
    UNTIL(e, llm_unhealthy);
    UNTIL(e, backend_unhealthy);
    assert_int_equal(last_of(e, BACKEND)->failure, E_(FAILURE_KIND__FAILURE_KIND_BACKEND_FAILURE));
    UNTIL(e, one_alert);
    assert_int_equal(e->alert_severity, E_(SEVERITY__SEVERITY_WARNING));
    open_http(e);
    UNTIL(e, all_healthy);
    UNTIL(e, resolved);
}

static void test_nats_away(void **state)
{
    struct env *e = *state;
    UNTIL(e, all_healthy);
    harness_kill(e->nats);
    int calls = atomic_load(&e->llm_calls);
    atomic_store(&e->llm_mode, OVERLOADED);
    static const bool never = false;
    for (int64_t end = clock_mono_ms() + HARNESS_WAIT_MS;
         atomic_load(&e->llm_calls) < calls + 5 && clock_mono_ms() < end;)
        loop_run_until(&e->loop, &never, 20);
    assert_true(atomic_load(&e->llm_calls) >= calls + 5); /* probes go on */
    harness_start(e->nats);
    UNTIL(e, llm_unhealthy);
    UNTIL(e, marked);
    assert_true(agent_healthy(e)); /* deaf is not silent */
    assert_true(harness_alive(e->health));
}

static void test_redis_emptied(void **state)
{
    struct env *e = *state;
    UNTIL(e, all_healthy);
    UNTIL(e, marked);
    harness_kill(e->redis);
    int calls = atomic_load(&e->llm_calls);
    atomic_store(&e->llm_mode, OVERLOADED);
    static const bool never = false;
    for (int64_t end = clock_mono_ms() + HARNESS_WAIT_MS;
         atomic_load(&e->llm_calls) < calls + 6 && clock_mono_ms() < end;)
        loop_run_until(&e->loop, &never, 20);
    assert_true(atomic_load(&e->llm_calls) >= calls + 6);
    assert_true(llm_healthy(e)); /* formed, but no epoch could be taken */
    harness_forget(e->redis);
    harness_start(e->redis);
    UNTIL(e, llm_unhealthy);
    assert_int_equal(last_of(e, LLM)->epoch, 2); /* goes on where the stream stands */
    UNTIL(e, marked);
    assert_true(backend_healthy(e)); /* nothing else was announced anew */
    assert_int_equal(last_of(e, BACKEND)->epoch, 1);
}

static bool restored(struct env *e)
{
    return redis_has(e, BACKEND, 1);
}

static void test_document_lost(void **state)
{
    struct env *e = *state;
    UNTIL(e, all_healthy);
    UNTIL(e, restored);
    store_cmd(e->store, NULL, NULL, 2, (const char *[]){"DEL", "redoubt:{h:" BACKEND "}:doc"}, NULL);
    UNTIL(e, restored); /* by the sweep */
    /* Something else under its key: a clear line, and mended when it is gone. */
    store_cmd(e->store, NULL, NULL, 3, (const char *[]){"SET", "redoubt:{h:" LLM "}:doc", "not a document"}, NULL);
    atomic_store(&e->llm_mode, OVERLOADED);
    store_cmd(e->store, NULL, NULL, 8,
              (const char *[]){"HSET", "redoubt:{h:" BACKEND "}:doc", "doc", "garbage", "rev", "7", "pending", "0"},
              NULL);
    UNTIL(e, restored); /* damaged is as good as gone: the stream knows better */
    store_cmd(e->store, NULL, NULL, 2, (const char *[]){"DEL", "redoubt:{h:" LLM "}:doc"}, NULL);
    UNTIL(e, llm_unhealthy);
    assert_int_equal(last_of(e, LLM)->epoch, 2);
    assert_true(harness_alive(e->health));
}

static bool took_over(struct env *e)
{
    return atomic_load(&e->llm_calls) > 5;
}

/* Both run: before that SIGTERM would end them the short way. */
static bool both_said_so(struct env *e)
{
    size_t said = 0;
    const struct harness_proc *const procs[] = {e->health, e->health2};
    for (int i = 0; i < 2; i++) {
        char path[600], line[2048];
        snprintf(path, sizeof path, "%s/%s.log", harness_dir(e->h), procs[i]->name);
        FILE *f = fopen(path, "r");
        while (f && fgets(line, sizeof line, f))
            said += strstr(line, "started") != NULL;
        if (f)
            fclose(f);
    }
    return said == 5; /* 2 starts, 3 of them again */
}

static void test_replicas(void **state)
{
    struct env *e = *state;
    UNTIL(e, all_healthy);
    e->health2 = start_health(e, "health2");
    /* Killed again and again: each time the other one goes on, and no epoch is used twice (on_verdict checks). */
    for (int round = 0; round < 3; round++) {
        struct harness_proc *dies = round % 2 ? e->health2 : e->health;
        atomic_store(&e->llm_mode, round % 2 ? OK_MODE : OVERLOADED);
        harness_kill(dies);
        atomic_store(&e->llm_calls, 0);
        UNTIL(e, took_over);
        if (round % 2)
            UNTIL(e, llm_healthy);
        else
            UNTIL(e, llm_unhealthy);
        harness_start(dies);
    }
    UNTIL(e, both_said_so);
    assert_int_equal(harness_stop(e->health2), 0);
    uint64_t epochs = 0;
    for (size_t i = 0; i < e->n_seen; i++)
        epochs += strcmp(e->seen[i].target, LLM) == 0;
    assert_int_equal(epochs, last_of(e, LLM)->epoch); /* none skipped, none twice */
}

static bool later(struct env *e)
{
    return clock_mono_ms() >= e->until_ms;
}

static bool said(struct env *e, const char *text)
{
    char path[600], line[2048];
    bool found = false;
    snprintf(path, sizeof path, "%s/health.log", harness_dir(e->h));
    FILE *f = fopen(path, "r");
    while (f && fgets(line, sizeof line, f))
        found = found || strstr(line, text);
    if (f)
        fclose(f);
    return found;
}
static bool said_tilt(struct env *e)
{
    return said(e, "tilt");
}
static bool said_reloaded(struct env *e)
{
    return said(e, "settings reloaded");
}

/* Stopped for longer than every time-out while all was well: what it missed is nobody's fault but its own. */
static void test_pause(void **state)
{
    struct env *e = *state;
    UNTIL(e, all_healthy);
    size_t seen = e->n_seen;
    harness_freeze(e->health);
    e->until_ms = clock_mono_ms() + 3500;
    UNTIL(e, later);
    harness_thaw(e->health);
    UNTIL(e, said_tilt);
    /* While tilted it announces nothing; afterwards it does. */
    atomic_store(&e->llm_mode, OVERLOADED);
    UNTIL(e, llm_unhealthy);
    assert_int_equal(e->n_seen, seen + 1);
    assert_true(agent_healthy(e));
    assert_int_equal(e->n_alerts, 0);
}

struct shown {
    bool done;
    enum bus_status st;
    int status;
    size_t payload;
};
static void on_shown(void *ctx, enum bus_status st, const struct bus_msg *m)
{
    struct shown *x = ctx;
    x->done = true;
    x->st = st;
    PB(CommandReply) *r = st == BUS_OK ? wire_unpack(PB_DESC(command_reply), m->data, m->len, NULL) : NULL;
    x->status = r ? (int)r->status : 0;
    x->payload = r ? r->payload.len : 0;
    wire_free(r);
}

static struct shown show(struct env *e, const char *target)
{
    struct shown x = {0};
    PB(HealthCommand) q = E_(HEALTH_COMMAND__INIT);
    q.target = (char *)target;
    size_t len;
    void *data = wire_pack(&q, &len, NULL);
    struct bus_out o = {.subject = SUBJECT_CMD "health.show", .type = wire_type(&q), .data = data, .len = len};
    bus_request(e->bus, &o, 5000, on_shown, &x);
    free(data);
    assert_true(loop_run_until(&e->loop, &x.done, HARNESS_WAIT_MS));
    return x;
}

static void test_show(void **state)
{
    struct env *e = *state;
    UNTIL(e, all_healthy);
    struct shown x = show(e, LLM);
    assert_int_equal(x.status, E_(COMMAND_STATUS__COMMAND_STATUS_OK));
    assert_true(x.payload > 0);
    assert_int_equal(show(e, SELF).status, E_(COMMAND_STATUS__COMMAND_STATUS_OK));
    assert_int_equal(show(e, "llm.unknown").status, E_(COMMAND_STATUS__COMMAND_STATUS_INVALID));
}

/* Read again while it runs: what is new is watched, what is gone is not, the rest goes on as if nothing had been. */
static void test_reload(void **state)
{
    struct env *e = *state;
    UNTIL(e, all_healthy);
    char path[600], *text = calloc(1, 8192);
    assert_non_null(text);
    snprintf(path, sizeof path, "%s/redoubt.yaml", harness_dir(e->h));
    FILE *f = fopen(path, "r");
    assert_non_null(f);
    assert_true(fread(text, 1, 8191, f) > 0);
    fclose(f);
    char *name = strstr(text, SOCKET);
    assert_non_null(name);
    memcpy(name, "other.socker", strlen(SOCKET));
    f = fopen(path, "w");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
    free(text);
    size_t seen = e->n_seen;
    kill(e->health->pid, SIGHUP);
    UNTIL(e, said_reloaded);
    UNTIL(e, renamed_healthy);
    assert_int_equal(e->n_seen, seen + 1);
    assert_int_equal(show(e, SOCKET).status, E_(COMMAND_STATUS__COMMAND_STATUS_INVALID));
    atomic_store(&e->llm_mode, OVERLOADED);
    UNTIL(e, llm_unhealthy);
}

/* In the file, one text for another of the same length, in the backend's row. */
static void edit_backend(struct env *e, const char *was, const char *now)
{
    char path[600], text[8192] = "";
    snprintf(path, sizeof path, "%s/redoubt.yaml", harness_dir(e->h));
    FILE *f = fopen(path, "r");
    assert_non_null(f);
    assert_true(fread(text, 1, sizeof text - 1, f) > 0);
    fclose(f);
    char *at = strstr(strstr(text, BACKEND), was);
    assert_non_null(at);
    memcpy(at, now, strlen(was));
    f = fopen(path, "w");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
    kill(e->health->pid, SIGHUP);
}

/* What a target must answer is read again, too: the patterns of the old settings are forgotten, while probes are under way. */
static void test_reload_expectation(void **state)
{
    struct env *e = *state;
    UNTIL(e, all_healthy);
    edit_backend(e, "timeout: 1s", "reject: '^'");
    UNTIL(e, backend_unhealthy);
    assert_int_equal(last_of(e, BACKEND)->fault, E_(PROBE_FAULT__PROBE_FAULT_MISMATCH));
    edit_backend(e, "reject: '^'", "reject: '~'");
    UNTIL(e, all_healthy);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_verdicts, setup, teardown),
        cmocka_unit_test_setup_teardown(test_wrong_key, setup, teardown),
        cmocka_unit_test_setup_teardown(test_permits, setup, teardown),
        cmocka_unit_test_setup_teardown(test_agent_gone, setup, teardown),
        cmocka_unit_test_setup_teardown(test_never_seen, setup, teardown),
        cmocka_unit_test_setup_teardown(test_plain_target, setup, teardown),
        cmocka_unit_test_setup_teardown(test_nats_away, setup, teardown),
        cmocka_unit_test_setup_teardown(test_redis_emptied, setup, teardown),
        cmocka_unit_test_setup_teardown(test_document_lost, setup, teardown),
        cmocka_unit_test_setup_teardown(test_replicas, setup, teardown),
        cmocka_unit_test_setup_teardown(test_pause, setup, teardown),
        cmocka_unit_test_setup_teardown(test_reload, setup, teardown),
        cmocka_unit_test_setup_teardown(test_reload_expectation, setup, teardown),
        cmocka_unit_test_setup_teardown(test_show, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
