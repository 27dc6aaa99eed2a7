/* bench_guard.c - how many decisions one guard makes, with limits in Redis and each on record, beside a service that only decodes, asks Redis
 * once, appends as much to its outbox and replies; and what a forwarded action costs beside the bare HTTP call.
 *
 * The floor is a process of this program on the same skeleton: same queue group, same libraries, a script that touches as many keys. The asker is
 * this process: it has at most WINDOW questions unanswered, and counts what was decided; an unexpected decision fails the benchmark. */
#include "../harness.h"
#include "bench.h"
#include "common/baseline.h"
#include "common/service.h"
#include "common/subjects.h"
#include "http_server.h"
#include <curl/curl.h>
#include <errno.h>
#include <inttypes.h>
#include <nats/nats.h>
#include <pthread.h>
#include <time.h>

enum { AGENTS = 1000, WINDOW = 2048, ROUNDS = 3, DECISIONS = 60000, ONE_BY_ONE = 1500, LIMIT_S = 120 };
#define FLOOR_SUBJECT "floor.v1.action."

static void fail(const char *what, const char *why)
{
    fprintf(stderr, "bench: %s: %s\n", what, why);
    exit(1);
}

/* ---- the floor: a service of this very program ---- */

static struct store_script floor_script = {
    .name = "floor",
    .body = "redis.call('HGET', KEYS[1], 'epoch')\n"
            "redis.call('TIME')\n"
            "redis.call('GET', KEYS[3])\n"
            "redis.call('HMGET', KEYS[2], 'all', ARGV[7])\n"
            "redis.call('HSET', KEYS[2], 'all', ARGV[8], ARGV[7], ARGV[10])\n"
            "redis.call('SET', KEYS[3], ARGV[3], 'PX', ARGV[6])\n"
            "return {0, 0}\n",
};
struct floor_ask {
    struct service *s;
    PB(ActionRequest) * r;
    char id[48], reply[];
};

static void floor_kept(void *ctx, int status, const char *error)
{
    struct floor_ask *q = ctx;
    (void)status, (void)error;
    PB(ActionReply) m = PB_INIT(ACTION_REPLY);
    m.idempotency_key = q->r->idempotency_key;
    m.decision = REDOUBT__V1__ACTION_DECISION__ACTION_DECISION_PERMITTED;
    service_reply_message(q->s, q->reply, &m);
    wire_free(q->r);
    free(q);
}

static void floor_answered(void *ctx, enum store_status st, const redisReply *reply)
{
    static const char record[300];
    struct floor_ask *q = ctx;
    (void)st, (void)reply;
    struct outbox_item i = {
        .subject = SUBJECT_AUDIT "guard", .id = q->id, .type = "floor", .data = record, .len = sizeof record};
    outbox_append(q->s->outbox, &i, floor_kept, q);
}

static void floor_take(struct service *s, const void *message, const struct bus_msg *m)
{
    (void)message;
    PB(ActionRequest) *r = wire_unpack(PB_DESC(action_request), m->data, m->len, NULL);
    struct floor_ask *q = r && m->reply ? malloc(sizeof *q + strlen(m->reply) + 1) : NULL;
    if (!q)
        fail("floor", "an odd message");
    q->s = s;
    q->r = r;
    strcpy(q->reply, m->reply);
    service_new_id(s, q->id);
    char doc[128], rates[128], key[256];
    snprintf(doc, sizeof doc, "floor:{a:%s}:doc", r->agent);
    snprintf(rates, sizeof rates, "floor:{a:%s}:rates", r->agent);
    snprintf(key, sizeof key, "floor:{a:%s}:k:%s", r->agent, r->idempotency_key);
    const char *keys[] = {doc, rates, key};
    const char *args[] = {"1",
                          "A",
                          "0123456789abcdef A 0123456789abcdef 0",
                          "0123456789abcdef",
                          "16000",
                          "86400000",
                          "x:permitted",
                          "1000000",
                          "99",
                          "1000000",
                          "99"};
    store_eval(s->store, &floor_script, floor_answered, q, 3, keys, 11, args, NULL);
}

static int floor_main(const char *config)
{
    static const struct service_sub subs[] = {{FLOOR_SUBJECT "*", SERVICE_SUB_QUEUE, NULL, floor_take}};
    static const struct service_desc floor = {.name = "floor",
                                              .description = "decodes, asks Redis, appends, replies",
                                              .needs = SERVICE_STORE | SERVICE_OUTBOX,
                                              .subs = subs,
                                              .n_subs = 1};
    char *argv[] = {(char *)"floor", (char *)"-c", (char *)config, NULL};
    return service_main(3, argv, &floor);
}

/* ---- asking ---- */

static struct {
    natsConnection *nc;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    int64_t answered, expected;
    int expect;
    uint64_t keys;
    char odd[300];
} Q = {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};

static void on_answer(natsConnection *nc, natsSubscription *sub, natsMsg *m, void *ctx)
{
    (void)nc, (void)sub, (void)ctx;
    PB(ActionReply) *r = redoubt__v1__action_reply__unpack(NULL, (size_t)natsMsg_GetDataLength(m),
                                                           (const uint8_t *)natsMsg_GetData(m));
    pthread_mutex_lock(&Q.lock);
    Q.answered++;
    if (r && (int)r->decision == Q.expect)
        Q.expected++;
    else
        snprintf(Q.odd, sizeof Q.odd, "decision %d, reason %d, %.200s", r ? (int)r->decision : -1,
                 r ? (int)r->refusal : -1, r ? r->detail : "not readable");
    pthread_cond_signal(&Q.changed);
    pthread_mutex_unlock(&Q.lock);
    redoubt__v1__action_reply__free_unpacked(r, NULL);
    natsMsg_Destroy(m);
}

static void *make(const char *prefix, const char *action, unsigned agent, char subject[static 128], size_t *len)
{
    char name[24], key[40];
    PB(ActionRequest) r = PB_INIT(ACTION_REQUEST);
    snprintf(name, sizeof name, "agent-%u", agent % AGENTS);
    snprintf(key, sizeof key, "key-%" PRIu64, ++Q.keys);
    snprintf(subject, 128, "%s%s", prefix, name);
    r.agent = name;
    r.epoch = 1;
    r.idempotency_key = key;
    r.action = (char *)action;
    r.instance = (char *)"one";
    void *data = wire_pack(&r, len, NULL);
    if (!data)
        fail("request", "not valid");
    return data;
}

/* Nanoseconds for n decisions. */
static double ask_many(const char *prefix, const char *action, int expect, int64_t n)
{
    natsInbox *inbox = NULL;
    natsSubscription *sub = NULL;
    natsInbox_Create(&inbox);
    natsConnection_Subscribe(&sub, Q.nc, inbox, on_answer, NULL);
    Q.answered = Q.expected = 0;
    Q.expect = expect;
    int64_t start = bench_ns();
    for (int64_t i = 0; i <= n; i++) {
        char subject[128];
        size_t len;
        struct timespec end;
        clock_gettime(CLOCK_REALTIME, &end);
        end.tv_sec += LIMIT_S;
        pthread_mutex_lock(&Q.lock);
        while (i < n ? i - Q.answered >= WINDOW : Q.answered < n)
            if (pthread_cond_timedwait(&Q.changed, &Q.lock, &end) == ETIMEDOUT)
                fail(action, "answers are missing");
        pthread_mutex_unlock(&Q.lock);
        if (i == n)
            break;
        void *data = make(prefix, action, (unsigned)i, subject, &len);
        natsConnection_PublishRequest(Q.nc, subject, inbox, data, (int)len);
        free(data);
    }
    double took = (double)(bench_ns() - start);
    natsSubscription_Destroy(sub);
    natsInbox_Destroy(inbox);
    if (Q.expected != n)
        fail(action, Q.odd);
    return took;
}

static double ask_one(const char *prefix, const char *action, unsigned agent, int *ret_decision)
{
    char subject[128];
    size_t len;
    natsMsg *m = NULL;
    void *data = make(prefix, action, agent, subject, &len);
    int64_t start = bench_ns();
    natsStatus st = natsConnection_Request(&m, Q.nc, subject, data, (int)len, 5000);
    double took = (double)(bench_ns() - start);
    free(data);
    *ret_decision = 0;
    if (st == NATS_OK) {
        PB(ActionReply) *r =
            wire_unpack(PB_DESC(action_reply), natsMsg_GetData(m), (size_t)natsMsg_GetDataLength(m), NULL);
        *ret_decision = r ? (int)r->decision : 0;
        wire_free(r);
        natsMsg_Destroy(m);
    }
    return took;
}

/* Microseconds, one at a time. */
static void one_by_one(const char *prefix, const char *action, int expect, double us[static ONE_BY_ONE])
{
    for (unsigned i = 0; i < ONE_BY_ONE; i++) {
        int decision;
        us[i] = ask_one(prefix, action, i, &decision) / 1000;
        if (decision != expect)
            fail(action, "an unexpected decision");
    }
}

static size_t swallow(char *data, size_t size, size_t n, void *ctx)
{
    (void)data, (void)ctx;
    return size * n;
}

static void bare_calls(int port, double us[static ONE_BY_ONE])
{
    char url[64];
    CURL *c = curl_easy_init();
    snprintf(url, sizeof url, "http://127.0.1.1:%d/api/actions", port);
    curl_easy_setopt(c, CURLOPT_URL, url);
    curl_easy_setopt(c, CURLOPT_POSTFIELDS,
                     "{\"action\": \"forwarded\", \"parameters\": {}, \"agent\": \"agent-1\"}");
    curl_easy_setopt(c, CURLOPT_WRITEFUNCTION, swallow);
    for (int i = 0; i < ONE_BY_ONE; i++) {
        int64_t start = bench_ns();
        if (curl_easy_perform(c) != CURLE_OK)
            fail("HTTP", "the bare call failed");
        us[i] = (double)(bench_ns() - start) / 1000;
    }
    curl_easy_cleanup(c);
}

/* ---- the stack ---- */

static const char *self(void)
{
    static char path[512];
    ssize_t n = readlink("/proc/self/exe", path, sizeof path - 1);
    if (n <= 0)
        fail("self", "no path");
    path[n] = 0;
    return path;
}

static const char *write_settings(struct harness *h, const char *url, int redis_port, int http_port)
{
    static char path[512], baseline[512];
    static const char all[] = "[normal]";
    struct err e = {""};
    snprintf(baseline, sizeof baseline, "%s/baseline.yaml", harness_dir(h));
    FILE *f = fopen(baseline, "w");
    if (!f)
        fail(baseline, "cannot be written");
    fprintf(f,
            "version: bench\nper_minute: 10000000\nburst: 1000000\nactions:\n"
            "  - { name: permitted, postures: %s, execute: agent, per_minute: 1000000, burst: 1000000 }\n"
            "  - { name: forwarded, postures: %s, per_minute: 1000000, burst: 1000000 }\n",
            all, all);
    fclose(f);
    if (baseline_sign(baseline, "bench", NULL, &e))
        fail("baseline", e.text);
    snprintf(path, sizeof path, "%s/bench.yaml", harness_dir(h));
    if (!(f = fopen(path, "w")))
        fail(path, "cannot be written");
    fprintf(f,
            "nats: { url: \"%s\" }\nredis: { host: 127.0.0.1, port: %d }\ndata_dir: %s/data\nlog: { level: warn }\n"
            "targets: [{ name: llm.a, kind: llm }]\nbaseline: { path: %s }\nagents:\n",
            url, redis_port, harness_dir(h), baseline);
    for (int i = 0; i < AGENTS; i++)
        fprintf(f, "  - { name: agent-%d, chain: [{ target: llm.a }], actions: { url: \"http://127.0.1.1:%d\" } }\n",
                i, http_port);
    fclose(f);
    return path;
}

static void direct_all(void)
{
    for (int i = 0; i < AGENTS; i++) {
        char name[24], subject[128];
        PB(AgentState) a = PB_INIT(AGENT_STATE);
        PB(Directive) d = PB_INIT(DIRECTIVE);
        snprintf(name, sizeof name, "agent-%d", i);
        snprintf(subject, sizeof subject, SUBJECT_DIRECTIVE "%s", name);
        a.agent = name;
        a.epoch = 1;
        a.posture = REDOUBT__V1__POSTURE__POSTURE_NORMAL;
        a.automation = REDOUBT__V1__AUTOMATION_MODE__AUTOMATION_MODE_ENABLED;
        a.backend = REDOUBT__V1__BACKEND_MODE__BACKEND_MODE_UP;
        a.override_mode = REDOUBT__V1__OVERRIDE_MODE__OVERRIDE_MODE_OFF;
        a.llm_target = (char *)"llm.a";
        d.state = &a;
        d.step = REDOUBT__V1__STEP__STEP_RESTORE_BACKEND;
        size_t len;
        void *data = wire_pack(&d, &len, NULL);
        if (!data)
            fail("directive", "not valid");
        natsConnection_Publish(Q.nc, subject, data, (int)len);
        free(data);
    }
    natsConnection_Flush(Q.nc);
}

static void wait_ready(const char *prefix, const char *action, int expect)
{
    int64_t end = bench_ns() + (int64_t)LIMIT_S * 1000000000;
    for (unsigned agent = 0; agent < AGENTS;) {
        int decision;
        (void)ask_one(prefix, action, agent, &decision);
        agent += decision == expect;
        if (bench_ns() > end)
            fail(prefix, "is not ready in time");
        if (decision != expect) {
            direct_all();
            nanosleep(&(struct timespec){.tv_nsec = 100000000}, NULL);
        }
    }
}

int main(int argc, char **argv)
{
    if (argc == 3 && strcmp(argv[1], "--floor") == 0)
        return floor_main(argv[2]);
    if (argc == 5 && strcmp(argv[1], "--http") == 0)
        return http_server_main(argc - 2, argv + 2);
    enum {
        PERMITTED = REDOUBT__V1__ACTION_DECISION__ACTION_DECISION_PERMITTED,
        FORWARDED = REDOUBT__V1__ACTION_DECISION__ACTION_DECISION_FORWARDED,
        REFUSED = REDOUBT__V1__ACTION_DECISION__ACTION_DECISION_REFUSED
    };
    struct bench *b = bench_open(argc, argv);
    struct harness *h = harness_open();
    struct harness_proc *nats = harness_nats(h, "nats", NULL), *redis = harness_redis(h, "redis", NULL);
    char counts[512], port_text[16];
    int port = harness_free_port();
    snprintf(counts, sizeof counts, "%s/counts", harness_dir(h));
    snprintf(port_text, sizeof port_text, "%d", port);
    harness_run(h, "http", 0, (const char *[]){self(), "--http", counts, "1", port_text, NULL});
    const char *config = write_settings(h, nats->url, redis->port, port);
    struct harness_proc *guard =
        harness_run(h, "guard", 0, (const char *[]){bench_program(b, "redoubt-guard"), "-c", config, NULL});
    struct harness_proc *floor = harness_run(h, "floor", 0, (const char *[]){self(), "--floor", config, NULL});
    natsOptions *o = NULL;
    natsOptions_Create(&o);
    natsOptions_SetURL(o, nats->url);
    natsOptions_SetSendAsap(o, true);
    if (natsConnection_Connect(&Q.nc, o) != NATS_OK)
        fail("NATS", "no connection");
    natsOptions_Destroy(o);
    wait_ready(SUBJECT_ACTION, "permitted", PERMITTED);
    wait_ready(FLOOR_SUBJECT, "permitted", PERMITTED);

    double ours[ROUNDS], theirs[ROUNDS], refused[ROUNDS], cpu[ROUNDS], floor_cpu[ROUNDS];
    printf("decisions: %d to each, %d rounds, at most %d on their way...\n", DECISIONS, ROUNDS, WINDOW);
    fflush(stdout);
    for (int i = 0; i < ROUNDS; i++) {
        double was = bench_cpu_s(floor->pid);
        theirs[i] = ask_many(FLOOR_SUBJECT, "permitted", PERMITTED, DECISIONS) / DECISIONS / 1000;
        floor_cpu[i] = (bench_cpu_s(floor->pid) - was) * 1e6 / DECISIONS;
        was = bench_cpu_s(guard->pid);
        ours[i] = ask_many(SUBJECT_ACTION, "permitted", PERMITTED, DECISIONS) / DECISIONS / 1000;
        cpu[i] = (bench_cpu_s(guard->pid) - was) * 1e6 / DECISIONS;
        refused[i] = ask_many(SUBJECT_ACTION, "other", REFUSED, DECISIONS) / DECISIONS / 1000;
    }
    double each = bench_percentile(ours, ROUNDS, 50), floor_each = bench_percentile(theirs, ROUNDS, 50);
    bench_row(b, "guard, limits in Redis and on record: per decision", "us", each, "20,000 decisions a second", 50,
              1);
    bench_row(b, "guard, the same beside the floor", "us", each, "decode, Redis, outbox, reply (floor)", floor_each,
              2);
    bench_row(b, "guard, its CPU per decision", "us", bench_percentile(cpu, ROUNDS, 50), "the floor's",
              bench_percentile(floor_cpu, ROUNDS, 50), 0);
    bench_row(b, "guard, refused at once and on record: per decision", "us", bench_percentile(refused, ROUNDS, 50),
              "20,000 decisions a second", 50, 1);
    bench_row(b, "guard, memory", "MB", bench_rss(guard->pid) / 1e6, "the floor's", bench_rss(floor->pid) / 1e6, 0);

    static double us[ONE_BY_ONE], bare[ONE_BY_ONE];
    printf("latency: %d one after the other...\n", ONE_BY_ONE);
    fflush(stdout);
    one_by_one(FLOOR_SUBJECT, "permitted", PERMITTED, us);
    double floor_p50 = bench_percentile(us, ONE_BY_ONE, 50), floor_p99 = bench_percentile(us, ONE_BY_ONE, 99);
    one_by_one(SUBJECT_ACTION, "permitted", PERMITTED, us);
    bench_row(b, "guard, a permit, p50", "us", bench_percentile(us, ONE_BY_ONE, 50), "floor p50", floor_p50, 2);
    bench_row(b, "guard, a permit, p99", "us", bench_percentile(us, ONE_BY_ONE, 99), "floor p99", floor_p99, 0);
    bare_calls(port, bare);
    one_by_one(SUBJECT_ACTION, "forwarded", FORWARDED, us);
    double bare_p50 = bench_percentile(bare, ONE_BY_ONE, 50), passed_p50 = bench_percentile(us, ONE_BY_ONE, 50);
    bench_row(b, "guard, added to a forwarded action, p50", "us", passed_p50 - bare_p50, "1 ms", 1000, 1);
    bench_row(b, "guard, a forwarded action, p50", "us", passed_p50, "the bare HTTP call", bare_p50, 0);
    natsConnection_Destroy(Q.nc);
    harness_close(h);
    int code = bench_close(b);
    nats_Close();
    return code;
}
