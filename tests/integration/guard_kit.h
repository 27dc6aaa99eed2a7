/* guard_kit.h - for tests of redoubt-guard: a stack with a backend of our own, agents with directives, questions and answers. */
#ifndef REDOUBT_TESTS_GUARD_KIT_H
#define REDOUBT_TESTS_GUARD_KIT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "../harness.h"
#include "common/baseline.h"
#include "common/clock.h"
#include "common/subjects.h"
#include "common/wire.h"
#include <hiredis/hiredis.h>
#include <inttypes.h>
#include <microhttpd.h>
#include <nats/nats.h>
#include <pthread.h>
#include <sys/stat.h>
#include <unistd.h>

#define E(x)           REDOUBT__V1__##x
#define DECISION(what) E(ACTION_DECISION__ACTION_DECISION_##what)
#define REASON(what)   E(REFUSAL_REASON__REFUSAL_REASON_##what)
enum { KIT_AGENTS = 16, KIT_CALLS = 4096, KIT_FENCE_MS = 3000 };

struct kit_call {
    char agent[NAME_MAX_LEN + 1], key[160], path[128], body[512];
    uint64_t epoch;
};
static struct {
    struct harness *h;
    struct harness_proc *nats, *redis, *guard[2];
    natsConnection *nc;
    char config[600], program[512], baseline[600], data[600];
    uint64_t epoch[KIT_AGENTS];
    int keys;
    struct MHD_Daemon *backend;
    int backend_port;
    pthread_mutex_t lock; /* of what follows: the backend has threads of its own */
    struct kit_call call[KIT_CALLS];
    size_t n_calls;
    int status, delay_ms;
} K = {.lock = PTHREAD_MUTEX_INITIALIZER};

static inline void kit_agent(int i, char out[static 16])
{
    snprintf(out, 16, "agent-%d", i);
}

/* ---- the backend ---- */

static enum MHD_Result kit_on_request(void *cls, struct MHD_Connection *c, const char *url, const char *method,
                                      const char *version, const char *data, size_t *len, void **ctx)
{
    (void)cls, (void)version, (void)method;
    struct kit_call *x = *ctx;
    if (!x) {
        const char *key = MHD_lookup_connection_value(c, MHD_HEADER_KIND, "Idempotency-Key");
        const char *epoch = MHD_lookup_connection_value(c, MHD_HEADER_KIND, "Redoubt-Epoch");
        const char *agent = MHD_lookup_connection_value(c, MHD_HEADER_KIND, "Redoubt-Agent");
        if (!(*ctx = x = calloc(1, sizeof *x)))
            return MHD_NO;
        snprintf(x->key, sizeof x->key, "%s", key ? key : "");
        snprintf(x->agent, sizeof x->agent, "%s", agent ? agent : "");
        snprintf(x->path, sizeof x->path, "%s", url);
        x->epoch = epoch ? strtoull(epoch, NULL, 10) : 0;
        return MHD_YES;
    }
    if (*len) {
        size_t n = strlen(x->body), room = sizeof x->body - 1 - n;
        memcpy(x->body + n, data, *len < room ? *len : room);
        *len = 0;
        return MHD_YES;
    }
    pthread_mutex_lock(&K.lock);
    int status = K.status ? K.status : 200, delay_ms = K.delay_ms;
    if (K.n_calls < KIT_CALLS)
        K.call[K.n_calls++] = *x;
    pthread_mutex_unlock(&K.lock);
    if (delay_ms)
        usleep((useconds_t)delay_ms * 1000);
    struct MHD_Response *r = MHD_create_response_from_buffer(2, (void *)"{}", MHD_RESPMEM_PERSISTENT);
    enum MHD_Result result = MHD_queue_response(c, (unsigned)status, r);
    MHD_destroy_response(r);
    return result;
}

static void kit_on_over(void *cls, struct MHD_Connection *c, void **ctx, enum MHD_RequestTerminationCode why)
{
    (void)cls, (void)c, (void)why;
    free(*ctx);
}

static inline void kit_backend_up(void)
{
    K.backend =
        MHD_start_daemon(MHD_USE_INTERNAL_POLLING_THREAD | MHD_USE_THREAD_PER_CONNECTION, (uint16_t)K.backend_port,
                         NULL, NULL, kit_on_request, NULL, MHD_OPTION_NOTIFY_COMPLETED, kit_on_over, NULL,
                         MHD_OPTION_LISTENING_ADDRESS_REUSE, 1u, MHD_OPTION_END);
    assert_non_null(K.backend);
}
static inline void kit_backend_down(void)
{
    if (K.backend)
        MHD_stop_daemon(K.backend);
    K.backend = NULL;
}
static inline void kit_backend(int status, int delay_ms)
{
    pthread_mutex_lock(&K.lock);
    K.status = status;
    K.delay_ms = delay_ms;
    pthread_mutex_unlock(&K.lock);
}
/* Calls that carried this key (NULL = of this agent). */
static inline size_t kit_calls(const char *agent, const char *key, struct kit_call *ret)
{
    char full[160];
    size_t n = 0;
    snprintf(full, sizeof full, "%s/%s", agent, key ? key : "");
    pthread_mutex_lock(&K.lock);
    for (size_t i = 0; i < K.n_calls; i++)
        if (key ? strcmp(K.call[i].key, full) == 0 : strcmp(K.call[i].agent, agent) == 0) {
            n++;
            if (ret)
                *ret = K.call[i];
        }
    pthread_mutex_unlock(&K.lock);
    return n;
}

/* ---- the stack ---- */

static const char kit_baseline[] =
    "version: \"1\"\nactions:\n"
    "  - name: block_ip\n    postures: [normal, backup_llm, recovering, degraded]\n    queue: yes\n"
    "    parameters: [{name: ip, type: ip, required: yes}]\n"
    "  - name: close_session\n    postures: [normal, backup_llm]\n    path: /api/sessions/close\n"
    "  - name: raise_alert\n    postures: [normal, backup_llm, recovering, degraded, security_fallback]\n"
    "  - name: collect_logs\n    postures: [normal, backup_llm, recovering, degraded, security_fallback]\n"
    "    execute: agent\n"
    "  - name: limited\n    postures: [normal]\n    execute: agent\n    per_minute: 6\n    burst: 3\n";

static inline void kit_write(const char *path, const char *text)
{
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    assert_int_equal(fwrite(text, 1, strlen(text), f), strlen(text));
    fclose(f);
}

static inline void kit_sign(const char *text)
{
    struct err e = {""};
    kit_write(K.baseline, text);
    if (baseline_sign(K.baseline, "test", NULL, &e))
        fail_msg("%s", e.text);
}

static inline natsConnection *kit_connect(void)
{
    natsOptions *o = NULL;
    natsConnection *nc = NULL;
    assert_int_equal(natsOptions_Create(&o), NATS_OK);
    natsOptions_SetURL(o, K.nats->url);
    natsOptions_SetSendAsap(o, true);
    natsOptions_SetMaxReconnect(o, -1);
    natsOptions_SetReconnectWait(o, 50);
    assert_int_equal(natsConnection_Connect(&nc, o), NATS_OK);
    natsOptions_Destroy(o);
    return nc;
}

/* Deaf to SIGXFSZ: a limit on the size of its files is then a disk that is full. */
static inline struct harness_proc *kit_guard(const char *name)
{
    return harness_run(
        K.h, name, 0,
        (const char *const[]){"sh", "-c", "trap '' XFSZ; exec \"$0\" -c \"$1\"", K.program, K.config, NULL});
}

static inline void kit_open(int guards)
{
    char self[512], agent[16];
    K.h = harness_open();
    K.nats = harness_nats(K.h, "nats", NULL);
    K.redis = harness_redis(K.h, "redis", NULL);
    K.backend_port = harness_free_port();
    kit_backend_up();
    snprintf(K.config, sizeof K.config, "%s/redoubt.yaml", harness_dir(K.h));
    snprintf(K.baseline, sizeof K.baseline, "%s/baseline.yaml", harness_dir(K.h));
    snprintf(K.data, sizeof K.data, "%s/data", harness_dir(K.h));
    kit_sign(kit_baseline);
    FILE *f = fopen(K.config, "w");
    assert_non_null(f);
    fprintf(f,
            "nats: { url: \"%s\" }\nredis: { host: 127.0.0.1, port: %d, timeout: 300ms }\ndata_dir: \"%s\"\n"
            "tilt_hold: 2s\ntargets:\n  - { name: llm.a, kind: llm }\nbaseline: { path: \"%s\", check: 50ms }\n"
            "fallback: { fence: %dms }\nguard: { member_ttl: 1s, lease_ttl: 1s }\nagents:\n",
            K.nats->url, K.redis->port, K.data, K.baseline, KIT_FENCE_MS);
    for (int i = 0; i < KIT_AGENTS; i++) {
        kit_agent(i, agent);
        fprintf(
            f,
            "  - { name: %s, chain: [{ target: llm.a }], actions: { url: \"http://127.0.0.1:%d\", timeout: 1s } }\n",
            agent, K.backend_port);
    }
    fclose(f);
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    assert_true(n > 0);
    self[n] = 0;
    for (int i = 0; i < 3; i++)
        *strrchr(self, '/') = 0;
    snprintf(K.program, sizeof K.program, "%s/bin/redoubt-guard", self);
    K.nc = kit_connect();
    for (int i = 0; i < guards; i++) {
        char name[16];
        snprintf(name, sizeof name, "guard-%d", i);
        K.guard[i] = kit_guard(name);
    }
}

static inline void kit_close(void)
{
    natsConnection_Destroy(K.nc);
    harness_close(K.h);
    kit_backend_down();
    nats_Close();
}

/* ---- directives ---- */

enum kit_posture { KIT_NORMAL, KIT_BACKUP, KIT_RECOVERING, KIT_DEGRADED, KIT_SECURITY, KIT_FROZEN, KIT_POSTURES };

/* On the stream, as fallback would; the epoch grows. */
static inline void kit_direct(int agent, enum kit_posture p, uint32_t ramp)
{
    char name[16], subject[128];
    PB(AgentState) a = PB_INIT(AGENT_STATE);
    PB(Directive) d = PB_INIT(DIRECTIVE);
    kit_agent(agent, name);
    a.agent = name;
    a.epoch = ++K.epoch[agent];
    a.posture = (Redoubt__V1__Posture)(p + 1);
    a.automation =
        p == KIT_FROZEN ? E(AUTOMATION_MODE__AUTOMATION_MODE_FROZEN) : E(AUTOMATION_MODE__AUTOMATION_MODE_ENABLED);
    a.backend = p == KIT_DEGRADED     ? E(BACKEND_MODE__BACKEND_MODE_DEGRADED)
                : p == KIT_RECOVERING ? E(BACKEND_MODE__BACKEND_MODE_RECOVERING)
                                      : E(BACKEND_MODE__BACKEND_MODE_UP);
    a.ramp_percent = p == KIT_RECOVERING ? ramp : 0;
    a.override_mode = E(OVERRIDE_MODE__OVERRIDE_MODE_OFF);
    a.llm_index = p == KIT_SECURITY ? -1 : 0;
    a.llm_target = (char *)(p == KIT_SECURITY ? "" : "llm.a");
    a.frozen_epoch = p == KIT_FROZEN ? a.epoch : 0;
    d.state = &a;
    d.step = E(STEP__STEP_RESTORE_BACKEND);
    struct err e = {""};
    size_t len;
    void *data = wire_pack(&d, &len, &e);
    if (!data)
        fail_msg("%s", e.text);
    snprintf(subject, sizeof subject, SUBJECT_DIRECTIVE "%s", name);
    jsCtx *js = NULL;
    jsPubAck *ack = NULL;
    natsStatus st = NATS_ERR;
    assert_int_equal(natsConnection_JetStream(&js, K.nc, NULL), NATS_OK);
    int64_t end = clock_mono_ms() + 6 * HARNESS_WAIT_MS;
    while (st != NATS_OK && clock_mono_ms() < end) { /* the stream is made by the first service that starts */
        st = js_Publish(&ack, js, subject, data, (int)len, NULL, NULL);
        jsPubAck_Destroy(ack);
        ack = NULL;
        if (st != NATS_OK)
            usleep(100000);
    }
    assert_int_equal(st, NATS_OK);
    jsCtx_Destroy(js);
    free(data);
}

/* ---- questions ---- */

struct kit_answer {
    int decision, reason, status; /* decision 0 = no answer came */
    int64_t retry_ms;
    char detail[256];
};

static inline struct kit_answer kit_ask_with(int agent, const char *action, const char *key, uint64_t epoch,
                                             const char *instance, int64_t timeout_ms)
{
    struct kit_answer a = {0};
    char name[16], subject[128];
    PB(ActionRequest) r = PB_INIT(ACTION_REQUEST);
    PB(Label) ip = PB_INIT(LABEL);
    PB(Label) * list[] = {&ip};
    kit_agent(agent, name);
    r.agent = name;
    r.epoch = epoch;
    r.idempotency_key = (char *)key;
    r.action = (char *)action;
    r.instance = (char *)instance;
    ip.key = (char *)"ip";
    ip.value = (char *)"192.0.2.1";
    if (strcmp(action, "block_ip") == 0) {
        r.parameters = list;
        r.n_parameters = 1;
    }
    struct err e = {""};
    size_t len;
    void *data = wire_pack(&r, &len, &e);
    if (!data)
        fail_msg("%s", e.text);
    snprintf(subject, sizeof subject, SUBJECT_ACTION "%s", name);
    natsMsg *m = NULL;
    if (natsConnection_Request(&m, K.nc, subject, data, (int)len, timeout_ms) == NATS_OK) {
        PB(ActionReply) *reply =
            wire_unpack(PB_DESC(action_reply), natsMsg_GetData(m), (size_t)natsMsg_GetDataLength(m), &e);
        if (!reply)
            fail_msg("%s", e.text);
        a.decision = (int)reply->decision;
        a.reason = (int)reply->refusal;
        a.status = (int)reply->status_code;
        a.retry_ms = reply->retry_after_ms;
        snprintf(a.detail, sizeof a.detail, "%s", reply->detail);
        assert_string_equal(reply->idempotency_key, key);
        wire_free(reply);
        natsMsg_Destroy(m);
    }
    free(data);
    return a;
}

static inline struct kit_answer kit_ask(int agent, const char *action, const char *key)
{
    return kit_ask_with(agent, action, key, K.epoch[agent], "one", 5000);
}

static inline const char *kit_key(char buf[static 32])
{
    snprintf(buf, 32, "key-%d", ++K.keys);
    return buf;
}

/* Asks until the guard goes by the newest directive (it answers in another way than "not known for sure"), with fresh keys of `raise_alert`, or
 * `collect_logs` which calls nobody. */
static inline void kit_settled(int agent)
{
    int64_t end = clock_mono_ms() + 2 * HARNESS_WAIT_MS;
    char key[32];
    for (;;) {
        struct kit_answer a = kit_ask_with(agent, "collect_logs", kit_key(key), K.epoch[agent], "one", 1000);
        if (a.decision && a.reason != REASON(STATE_UNKNOWN) && a.reason != REASON(STALE_EPOCH))
            return;
        if (clock_mono_ms() > end)
            fail_msg("the guard does not settle: %d %d %s", a.decision, a.reason, a.detail);
        usleep(20000);
    }
}

#endif
