/* bench_fallback.c - a crossing that concerns 1,000 agents at once: from the report that crosses the threshold to the directives in the
 * agents' hands, beside the same traffic without logic.
 *
 * The chain: report -> breaker -> BreakerChanged -> fallback: 1,000 decisions, 1,000 documents in Redis, 1,000 directives -> 1,000 agents, each
 * of which confirms. The floor: two relays, plain nats.c and hiredis: two Redis round trips, a hop, then 1,000 writes of the same size in one
 * pipeline, each followed by its message, and a write for each confirmation. One crossing of each in turn, on the same servers. */
#include "../harness.h"
#include "bench.h"
#include "common/subjects.h"
#include "common/wire.h"
#include <hiredis/hiredis.h>
#include <inttypes.h>
#include <nats/nats.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { AGENTS = 1000, CHAIN = 16, WARM_UP = 4, ROUNDS = CHAIN - 1 - WARM_UP, REPORT = 300 };
enum { DOCUMENT = 2048, DIRECTIVE = 512, CONFIRMATION = 64 }; /* bytes, about as the real ones are */
#define LIMIT_MS  30000
#define SETTLE_MS 1500 /* between crossings: alerts and audit records of the last one are not measured in the next */

static void fail(const char *what, const char *why)
{
    fprintf(stderr, "bench: %s: %s\n", what, why);
    exit(1);
}

static void nap(int64_t ms)
{
    struct timespec t = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000};
    nanosleep(&t, NULL);
}

static natsConnection *connect_nats(const char *url)
{
    natsOptions *o = NULL;
    natsConnection *nc = NULL;
    natsOptions_Create(&o);
    natsOptions_SetURL(o, url);
    natsOptions_SetSendAsap(o, true);
    natsStatus st = natsConnection_Connect(&nc, o);
    natsOptions_Destroy(o);
    if (st != NATS_OK)
        fail(url, natsStatus_GetText(st));
    return nc;
}

static redisContext *connect_redis(int port)
{
    redisContext *c = redisConnect("127.0.0.1", port);
    if (!c || c->err)
        fail("Redis", c ? c->errstr : "out of memory");
    return c;
}

/* ---- the floor's relays: processes of this very program ---- */

struct relay {
    redisContext *redis;
    bool first;
};

static void on_relay(natsConnection *nc, natsSubscription *sub, natsMsg *m, void *ctx)
{
    static char document[DOCUMENT], directive[DIRECTIVE];
    (void)sub;
    struct relay *r = ctx;
    const char *data = natsMsg_GetData(m);
    size_t len = (size_t)natsMsg_GetDataLength(m);
    if (r->first) {
        for (int i = 0; i < 2; i++)
            freeReplyObject(redisCommand(r->redis, "SET floor:%d %b", i, data, len));
        natsConnection_Publish(nc, "floor.breaker", data, (int)len);
    } else {
        for (int i = 0; i < AGENTS; i++)
            redisAppendCommand(r->redis, "SET floor:a:%d %b", i, document, sizeof document);
        for (int i = 0; i < AGENTS; i++) {
            void *reply = NULL;
            char subject[64];
            if (redisGetReply(r->redis, &reply) != REDIS_OK)
                fail("floor", "Redis is gone");
            freeReplyObject(reply);
            snprintf(subject, sizeof subject, "floor.directive.%d", i);
            natsConnection_Publish(nc, subject, directive, sizeof directive);
        }
    }
    natsMsg_Destroy(m);
}

static void on_floor_ack(natsConnection *nc, natsSubscription *sub, natsMsg *m, void *ctx)
{
    static char document[DOCUMENT];
    (void)nc, (void)sub;
    struct relay *r = ctx;
    freeReplyObject(redisCommand(r->redis, "SET %s %b", natsMsg_GetSubject(m), document, sizeof document));
    natsMsg_Destroy(m);
}

static int relay_main(char **argv)
{
    struct relay r = {.redis = connect_redis(atoi(argv[3])), .first = strcmp(argv[4], "1") == 0};
    struct relay acks = {.redis = connect_redis(atoi(argv[3]))};
    natsConnection *nc = connect_nats(argv[2]);
    natsSubscription *sub = NULL, *sub_acks = NULL;
    if (natsConnection_Subscribe(&sub, nc, r.first ? "floor.report" : "floor.breaker", on_relay, &r) != NATS_OK ||
        (!r.first && natsConnection_Subscribe(&sub_acks, nc, "floor.ack.*", on_floor_ack, &acks) != NATS_OK))
        return 1;
    for (;;)
        pause();
}

/* ---- the agents: one connection, everything is stamped on the library's thread ---- */

static struct {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    natsConnection *nc;
    struct agent {
        uint64_t epoch;
        int64_t ns;
    } agent[AGENTS];
    int want; /* position in the chain that they are to move to */
    size_t there, floor_there, breakers;
    int64_t floor_ns[AGENTS];
} A = {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};

static void publish(const char *subject, const char *id, const char *type, const void *data, size_t len)
{
    natsMsg *m = NULL;
    natsMsg_Create(&m, subject, NULL, data, (int)len);
    natsMsgHeader_Set(m, "ce-id", id);
    natsMsgHeader_Set(m, "Nats-Msg-Id", id);
    natsMsgHeader_Set(m, "ce-type", type);
    natsConnection_PublishMsg(A.nc, m);
    natsMsg_Destroy(m);
}

static void acknowledge(const PB(AgentState) * s)
{
    struct err e;
    size_t len;
    char subject[128], id[96];
    PB(DirectiveAck) a = PB_INIT(DIRECTIVE_ACK);
    a.agent = s->agent;
    a.instance = "bench";
    a.epoch = s->epoch;
    a.status = REDOUBT__V1__ACK_STATUS__ACK_STATUS_APPLIED;
    void *data = wire_pack(&a, &len, &e);
    snprintf(subject, sizeof subject, SUBJECT_ACK "%s", s->agent);
    snprintf(id, sizeof id, "ack/%s/%" PRIu64, s->agent, s->epoch);
    publish(subject, id, wire_type(&a), data, len);
    free(data);
}

static void on_directive(natsConnection *nc, natsSubscription *sub, natsMsg *m, void *ctx)
{
    (void)nc, (void)sub, (void)ctx;
    int64_t now = bench_ns();
    struct err e;
    PB(Directive) *d = wire_unpack(PB_DESC(directive), natsMsg_GetData(m), (size_t)natsMsg_GetDataLength(m), &e);
    unsigned i;
    if (d && sscanf(d->state->agent, "agent-%u", &i) == 1 && i < AGENTS) {
        pthread_mutex_lock(&A.lock);
        bool newer = d->state->epoch > A.agent[i].epoch;
        if (newer) {
            A.agent[i] = (struct agent){d->state->epoch, now};
            A.there += d->state->llm_index == A.want;
        }
        if (A.there == AGENTS)
            pthread_cond_broadcast(&A.changed);
        pthread_mutex_unlock(&A.lock);
        acknowledge(d->state);
    }
    wire_free(d);
    natsMsg_Destroy(m);
}

static void on_breaker(natsConnection *nc, natsSubscription *sub, natsMsg *m, void *ctx)
{
    (void)nc, (void)sub, (void)ctx;
    pthread_mutex_lock(&A.lock);
    A.breakers++;
    pthread_cond_broadcast(&A.changed);
    pthread_mutex_unlock(&A.lock);
    natsMsg_Destroy(m);
}

static void on_floor(natsConnection *nc, natsSubscription *sub, natsMsg *m, void *ctx)
{
    static char confirmation[CONFIRMATION];
    (void)nc, (void)sub, (void)ctx;
    int64_t now = bench_ns();
    unsigned i;
    char subject[64];
    if (sscanf(natsMsg_GetSubject(m), "floor.directive.%u", &i) == 1 && i < AGENTS) {
        pthread_mutex_lock(&A.lock);
        A.floor_ns[i] = now;
        if (++A.floor_there == AGENTS)
            pthread_cond_broadcast(&A.changed);
        pthread_mutex_unlock(&A.lock);
        snprintf(subject, sizeof subject, "floor.ack.%u", i);
        publish(subject, subject, "floor", confirmation, sizeof confirmation);
    }
    natsMsg_Destroy(m);
}

static void await_(const size_t *n, size_t wanted, const char *what)
{
    struct timespec end;
    clock_gettime(CLOCK_REALTIME, &end);
    end.tv_sec += LIMIT_MS / 1000;
    pthread_mutex_lock(&A.lock);
    while (*n < wanted)
        if (pthread_cond_timedwait(&A.changed, &A.lock, &end))
            fail(what, "did not happen in time");
    pthread_mutex_unlock(&A.lock);
}

/* ---- the chain ---- */

static const char *write_settings(struct harness *h, const char *url, int redis_port)
{
    static char path[600];
    snprintf(path, sizeof path, "%s/redoubt.yaml", harness_dir(h));
    FILE *f = fopen(path, "w");
    if (!f)
        fail(path, "cannot be written");
    fprintf(f,
            "nats: { url: \"%s\" }\nredis: { host: 127.0.0.1, port: %d }\ndata_dir: %s/data\nlog: { level: warn }\n",
            url, redis_port, harness_dir(h));
    fprintf(f, "targets:\n");
    for (int i = 0; i < CHAIN; i++)
        fprintf(
            f, "  - { name: llm.t%d, kind: llm, breaker: { window: 10s, consecutive: 5, open: 1h, open_max: 1h } }\n",
            i);
    fprintf(f, "agents:\n");
    for (int i = 0; i < AGENTS; i++) {
        fprintf(f, "  - name: agent-%d\n    chain: [ ", i);
        for (int k = 0; k < CHAIN; k++)
            fprintf(f, "%s{ target: llm.t%d, model: m%d }", k ? ", " : "", k, k);
        fprintf(f, " ]\n");
    }
    fclose(f);
    return path;
}

static void report(int target)
{
    char name[32], subject[96];
    struct err e;
    size_t len;
    PB(OutcomeReport) r = PB_INIT(OUTCOME_REPORT);
    snprintf(name, sizeof name, "llm.t%d", target);
    snprintf(subject, sizeof subject, SUBJECT_REPORT "%s", name);
    r.target = name;
    r.reporter = "bench";
    r.outcome = REDOUBT__V1__OUTCOME__OUTCOME_ERROR;
    r.total_ms = 100;
    r.data_path = true;
    void *data = wire_pack(&r, &len, &e);
    if (!data)
        fail("report", e.text);
    natsConnection_Publish(A.nc, subject, data, (int)len);
    free(data);
}

/* How many documents say that their agent has confirmed its last directive. */
static int confirmed(redisContext *c, size_t *ret_bytes)
{
    int n = 0;
    for (int i = 0; i < AGENTS; i++)
        redisAppendCommand(c, "HGET redoubt:{a:agent-%d}:doc doc", i);
    for (int i = 0; i < AGENTS; i++) {
        redisReply *r = NULL;
        struct err e;
        if (redisGetReply(c, (void **)&r) != REDIS_OK)
            fail("Redis", "is gone");
        PB(AgentState) *s =
            r->type == REDIS_REPLY_STRING ? wire_unpack(PB_DESC(agent_state), r->str, r->len, &e) : NULL;
        n += s && s->epoch == A.agent[i].epoch && s->acked_epoch == s->epoch;
        *ret_bytes = r->len;
        wire_free(s);
        freeReplyObject(r);
    }
    return n;
}

static int64_t await_confirmed(redisContext *c, int64_t start)
{
    size_t bytes;
    while (confirmed(c, &bytes) < AGENTS) {
        if (bench_ns() - start > (int64_t)LIMIT_MS * 1000000)
            fail("confirmations", "were not all stored in time");
        nap(5);
    }
    return bench_ns() - start;
}

struct round {
    double p50, p99, all_stored;
};

static struct round real_round(redisContext *c, int from)
{
    double us[AGENTS];
    for (int i = 0; i < 4; i++)
        report(from);
    nap(SETTLE_MS); /* they are in the window */
    pthread_mutex_lock(&A.lock);
    A.want = from + 1;
    A.there = 0;
    pthread_mutex_unlock(&A.lock);
    int64_t start = bench_ns();
    report(from);
    await_(&A.there, AGENTS, "directives");
    for (int i = 0; i < AGENTS; i++)
        us[i] = (double)(A.agent[i].ns - start) / 1000;
    struct round r = {.all_stored = (double)await_confirmed(c, start) / 1e6};
    r.p50 = bench_percentile(us, AGENTS, 50);
    r.p99 = bench_percentile(us, AGENTS, 99);
    return r;
}

static struct round floor_round(void)
{
    static char payload[REPORT];
    double us[AGENTS];
    A.floor_there = 0;
    int64_t start = bench_ns();
    natsConnection_Publish(A.nc, "floor.report", payload, sizeof payload);
    await_(&A.floor_there, AGENTS, "floor");
    for (int i = 0; i < AGENTS; i++)
        us[i] = (double)(A.floor_ns[i] - start) / 1000;
    return (struct round){.p50 = bench_percentile(us, AGENTS, 50), .p99 = bench_percentile(us, AGENTS, 99)};
}

static void run_relay(struct harness *h, const char *name, const char *url, int redis_port, const char *which)
{
    static char self[1024];
    char port[16];
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    self[n > 0 ? n : 0] = 0;
    snprintf(port, sizeof port, "%d", redis_port);
    harness_run(h, name, 0, (const char *[]){self, "--relay", url, port, which, NULL});
}

int main(int argc, char **argv)
{
    if (argc == 5 && strcmp(argv[1], "--relay") == 0)
        return relay_main(argv);
    struct bench *b = bench_open(argc, argv);
    struct harness *h = harness_open();
    struct harness_proc *nats = harness_nats(h, "nats", NULL), *redis = harness_redis(h, "redis", NULL);
    const char *config = write_settings(h, nats->url, redis->port);
    natsSubscription *subs[3] = {0};
    A.nc = connect_nats(nats->url);
    natsConnection_Subscribe(&subs[0], A.nc, SUBJECT_DIRECTIVE ">", on_directive, NULL);
    natsConnection_Subscribe(&subs[1], A.nc, SUBJECT_BREAKER ">", on_breaker, NULL);
    natsConnection_Subscribe(&subs[2], A.nc, "floor.directive.*", on_floor, NULL);
    run_relay(h, "relay-1", nats->url, redis->port, "1");
    run_relay(h, "relay-2", nats->url, redis->port, "2");
    harness_run(h, "breaker", 0, (const char *[]){bench_program(b, "redoubt-breaker"), "-c", config, NULL});
    struct harness_proc *fallback =
        harness_run(h, "fallback", 0, (const char *[]){bench_program(b, "redoubt-fallback"), "-c", config, NULL});
    printf("fallback: %d agents, %d crossings that concern them all...\n", AGENTS, ROUNDS);
    fflush(stdout);
    await_(&A.breakers, CHAIN, "first breakers");
    await_(&A.there, AGENTS, "first directives");
    redisContext *c = connect_redis(redis->port);
    await_confirmed(c, bench_ns());
    nap(SETTLE_MS);

    double p50[ROUNDS], p99[ROUNDS], floor50[ROUNDS], floor99[ROUNDS], stored[ROUNDS];
    for (int i = 0; i < WARM_UP + ROUNDS; i++) {
        struct round real = real_round(c, i);
        nap(SETTLE_MS);
        struct round ground = floor_round();
        nap(SETTLE_MS / 3);
        int k = i - WARM_UP;
        if (k < 0)
            continue;
        p50[k] = real.p50, p99[k] = real.p99, stored[k] = real.all_stored;
        floor50[k] = ground.p50, floor99[k] = ground.p99;
    }
    const char *floor_name = "the same traffic without logic";
    bench_row(b, "crossing of 1,000 agents to directive, p50", "us", bench_percentile(p50, ROUNDS, 50), floor_name,
              bench_percentile(floor50, ROUNDS, 50), 4.0);
    bench_row(b, "crossing of 1,000 agents to directive, p99", "us", bench_percentile(p99, ROUNDS, 50), floor_name,
              bench_percentile(floor99, ROUNDS, 50), 4.0);
    bench_row(b, "all of 1,000 confirmed, and that stored", "ms", bench_percentile(stored, ROUNDS, 50), "limit", 2000,
              1);
    bench_row(b, "memory of redoubt-fallback with 1,000 agents", "MB", bench_rss(fallback->pid) / 1e6, "limit", 40,
              1);
    size_t bytes;
    (void)confirmed(c, &bytes);
    bench_row(b, "an agent's document in Redis", "B", (double)bytes, "floor's", DOCUMENT, 0);
    redisFree(c);
    for (int i = 0; i < 3; i++)
        natsSubscription_Destroy(subs[i]);
    natsConnection_Destroy(A.nc);
    nats_Close();
    harness_close(h);
    return bench_close(b);
}
