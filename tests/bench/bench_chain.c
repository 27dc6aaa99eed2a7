/* bench_chain.c - how long from the report that crosses the threshold to the directive in the agent's hands, beside the same
 * chain without logic; and what an idle service costs.
 *
 * The chain: report -> breaker (flush: Redis; change: Redis) -> BreakerChanged -> fallback (Redis) -> directive. The floor: two relays,
 * plain nats.c and hiredis, that do three hops and three Redis round trips with payloads of the same size and nothing
 * else. Both run on the same servers, one iteration of each in turn. */
#include "../harness.h"
#include "bench.h"
#include "client/redoubt.h"
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

enum { AGENTS = 400, WARM_UP = 40, TARGETS = 2 * AGENTS, PAYLOAD = 300 };
#define SETTLE_MS                                                                                                    \
    12 /* between iterations: what one leaves behind (fsyncs, acknowledgements) is not measured in the next */
#define IDLE_MS    12000
#define ADMISSIONS 20000000
#define LIMIT_MS   10000

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
    const char *to;
    int trips;
};

static void on_relay(natsConnection *nc, natsSubscription *sub, natsMsg *m, void *ctx)
{
    (void)sub;
    struct relay *r = ctx;
    const char *data = natsMsg_GetData(m);
    size_t len = (size_t)natsMsg_GetDataLength(m);
    for (int i = 0; i < r->trips; i++)
        freeReplyObject(redisCommand(r->redis, "SET floor:%d %b", i, data, len));
    natsConnection_Publish(nc, r->to, data, (int)len);
    natsMsg_Destroy(m);
}

static int relay_main(char **argv)
{
    struct relay r = {.redis = connect_redis(atoi(argv[3])), .to = argv[5], .trips = atoi(argv[6])};
    natsConnection *nc = connect_nats(argv[2]);
    natsSubscription *sub = NULL;
    if (natsConnection_Subscribe(&sub, nc, argv[4], on_relay, &r) != NATS_OK)
        return 1;
    for (;;)
        pause();
}

/* ---- arrival of messages, stamped on the library's thread ---- */

static struct {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    natsConnection *nc;
    struct {
        uint64_t epoch;
        int64_t ns;
        bool moved; /* to the second of its chain */
    } agent[AGENTS];
    int64_t opened_ns[AGENTS]; /* BreakerChanged OPEN of its first target */
    size_t directives, breakers;
    int64_t floor_breaker_ns, floor_directive_ns;
} A = {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};

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
    natsMsg *m = NULL;
    snprintf(subject, sizeof subject, SUBJECT_ACK "%s", s->agent);
    snprintf(id, sizeof id, "ack/%s/%" PRIu64, s->agent, s->epoch);
    natsMsg_Create(&m, subject, NULL, data, (int)len);
    natsMsgHeader_Set(m, "ce-id", id);
    natsMsgHeader_Set(m, "Nats-Msg-Id", id);
    natsMsgHeader_Set(m, "ce-type", wire_type(&a));
    natsConnection_PublishMsg(A.nc, m);
    natsMsg_Destroy(m);
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
        if (d->state->epoch > A.agent[i].epoch) {
            A.directives += A.agent[i].epoch == 0;
            A.agent[i].epoch = d->state->epoch;
            A.agent[i].ns = now;
            A.agent[i].moved = d->state->llm_index == 1;
        }
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
    int64_t now = bench_ns();
    struct err e;
    PB(BreakerChanged) *b =
        wire_unpack(PB_DESC(breaker_changed), natsMsg_GetData(m), (size_t)natsMsg_GetDataLength(m), &e);
    unsigned i;
    char which[8];
    if (b && sscanf(b->target, "llm.t%u.%7s", &i, which) == 2 && i < AGENTS) {
        pthread_mutex_lock(&A.lock);
        A.breakers += b->epoch == 1;
        if (strcmp(which, "a") == 0 && b->state == REDOUBT__V1__BREAKER_STATE__BREAKER_STATE_OPEN)
            A.opened_ns[i] = now;
        pthread_cond_broadcast(&A.changed);
        pthread_mutex_unlock(&A.lock);
    }
    wire_free(b);
    natsMsg_Destroy(m);
}

static void on_floor(natsConnection *nc, natsSubscription *sub, natsMsg *m, void *ctx)
{
    (void)nc, (void)sub;
    int64_t now = bench_ns();
    pthread_mutex_lock(&A.lock);
    *(int64_t *)ctx = now;
    pthread_cond_broadcast(&A.changed);
    pthread_mutex_unlock(&A.lock);
    natsMsg_Destroy(m);
}

/* Called and returns with the lock held. */
static void await_(bool (*done)(unsigned i), unsigned i, const char *what)
{
    struct timespec end;
    clock_gettime(CLOCK_REALTIME, &end);
    end.tv_sec += LIMIT_MS / 1000;
    while (!done(i))
        if (pthread_cond_timedwait(&A.changed, &A.lock, &end))
            fail(what, "did not happen in time");
}

static bool started(unsigned i)
{
    (void)i;
    return A.breakers >= TARGETS;
}

static bool directed(unsigned i)
{
    (void)i;
    return A.directives >= AGENTS;
}

static bool moved(unsigned i)
{
    return A.agent[i].moved && A.opened_ns[i];
}

static bool floored(unsigned i)
{
    (void)i;
    return A.floor_directive_ns && A.floor_breaker_ns;
}

/* ---- settings ---- */

static const char *write_settings(struct harness *h, const char *name, const char *url, int redis_port, bool chain)
{
    static char path[600];
    snprintf(path, sizeof path, "%s/%s.yaml", harness_dir(h), name);
    FILE *f = fopen(path, "w");
    if (!f)
        fail(path, "cannot be written");
    fprintf(
        f,
        "nats: { url: \"%s\" }\nredis: { host: 127.0.0.1, port: %d }\ndata_dir: %s/data-%s\nlog: { level: warn }\n",
        url, redis_port, harness_dir(h), name);
    fprintf(f,
            "alert:\n  channels:\n    - { name: record, type: file, path: %s/%s.jsonl }\n  routes:\n    - { "
            "min_severity: "
            "info, channels: [record] }\n",
            harness_dir(h), name);
    fprintf(f, "targets:\n");
    for (int i = 0; chain && i < AGENTS; i++)
        for (const char *p = "ab"; *p; p++)
            fprintf(f,
                    "  - { name: llm.t%d.%c, kind: llm, breaker: { window: 10s, consecutive: 5, open: 1h, open_max: "
                    "1h } }\n",
                    i, *p);
    if (!chain) /* what a small installation watches, at the usual pace */
        fprintf(f,
                "  - { name: llm.a, kind: llm, probe: { type: tcp, url: \"tcp://127.0.0.1:%d\" } }\n"
                "  - { name: llm.b, kind: llm, probe: { type: tcp, url: \"tcp://127.0.0.1:%d\" } }\n",
                redis_port, redis_port);
    fprintf(f, "agents:\n");
    for (int i = 0; chain && i < AGENTS; i++)
        fprintf(
            f,
            "  - { name: agent-%d, chain: [ { target: llm.t%d.a, model: m }, { target: llm.t%d.b, model: n } ] }\n",
            i, i, i);
    if (!chain)
        fprintf(f, "  - { name: agent-0, chain: [ { target: llm.a, model: m }, { target: llm.b, model: n } ] }\n");
    fclose(f);
    return path;
}

/* ---- the chain ---- */

static void report(unsigned i)
{
    static void *data;
    static size_t len;
    char target[32], subject[96];
    struct err e;
    PB(OutcomeReport) r = PB_INIT(OUTCOME_REPORT);
    snprintf(target, sizeof target, "llm.t%u.a", i);
    snprintf(subject, sizeof subject, SUBJECT_REPORT "%s", target);
    r.target = target;
    r.reporter = "bench";
    r.outcome = REDOUBT__V1__OUTCOME__OUTCOME_ERROR;
    r.total_ms = 100;
    r.data_path = true;
    free(data);
    data = wire_pack(&r, &len, &e);
    if (!data)
        fail("report", e.text);
    natsConnection_Publish(A.nc, subject, data, (int)len);
}

/* The calls counted in a target's window: a number at a known place of the packed string. */
static uint32_t merged(redisContext *c, unsigned i)
{
    uint32_t calls = 0;
    redisReply *r = redisCommand(c, "GETRANGE redoubt:{b:llm.t%u.a}:w 23 26", i);
    if (r && r->type == REDIS_REPLY_STRING && r->len == 4)
        for (unsigned k = 0; k < 4; k++)
            calls |= (uint32_t)(unsigned char)r->str[k] << (8 * k);
    freeReplyObject(r);
    return calls;
}

struct samples {
    double breaker[AGENTS], directive[AGENTS];
    size_t n;
};

static void real_iteration(struct samples *s, redisContext *redis, unsigned i)
{
    for (int k = 0; k < 4; k++)
        report(i);
    int64_t end = bench_ns() + (int64_t)LIMIT_MS * 1000000;
    while (merged(redis, i) < 4) {
        if (bench_ns() > end)
            fail("reports", "were not merged in time");
        nap(1);
    }
    nap(SETTLE_MS);
    int64_t start = bench_ns();
    report(i);
    pthread_mutex_lock(&A.lock);
    await_(moved, i, "directive");
    if (i >= WARM_UP) {
        s->breaker[s->n] = (double)(A.opened_ns[i] - start) / 1000;
        s->directive[s->n++] = (double)(A.agent[i].ns - start) / 1000;
    }
    pthread_mutex_unlock(&A.lock);
    nap(SETTLE_MS);
}

static void floor_iteration(struct samples *s, unsigned i)
{
    static char payload[PAYLOAD];
    memset(payload, 'x', sizeof payload);
    A.floor_breaker_ns = A.floor_directive_ns = 0;
    int64_t start = bench_ns();
    natsConnection_Publish(A.nc, "floor.report", payload, sizeof payload);
    pthread_mutex_lock(&A.lock);
    await_(floored, 0, "floor");
    if (i >= WARM_UP) {
        s->breaker[s->n] = (double)(A.floor_breaker_ns - start) / 1000;
        s->directive[s->n++] = (double)(A.floor_directive_ns - start) / 1000;
    }
    pthread_mutex_unlock(&A.lock);
    nap(SETTLE_MS);
}

static void run_relay(struct harness *h, const char *name, const char *url, int redis_port, const char *from,
                      const char *to, const char *trips)
{
    static char self[1024];
    char port[16];
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    self[n > 0 ? n : 0] = 0;
    snprintf(port, sizeof port, "%d", redis_port);
    harness_run(h, name, 0, (const char *[]){self, "--relay", url, port, from, to, trips, NULL});
}

static void rows(struct bench *b, const char *what, double *value, double *reference, size_t n, size_t ref_n,
                 const char *reference_name, double bound50, double bound99)
{
    char name[96];
    snprintf(name, sizeof name, "%s, p50", what);
    bench_row(b, name, "us", bench_percentile(value, n, 50), reference_name, bench_percentile(reference, ref_n, 50),
              bound50);
    snprintf(name, sizeof name, "%s, p99", what);
    bench_row(b, name, "us", bench_percentile(value, n, 99), reference_name, bench_percentile(reference, ref_n, 99),
              bound99);
}

static void measure_chain(struct bench *b)
{
    struct harness *h = harness_open();
    struct harness_proc *nats = harness_nats(h, "nats", NULL), *redis = harness_redis(h, "redis", NULL);
    const char *config = write_settings(h, "chain", nats->url, redis->port, true);
    natsSubscription *subs[4] = {0};
    A.nc = connect_nats(nats->url);
    natsConnection_Subscribe(&subs[0], A.nc, SUBJECT_DIRECTIVE ">", on_directive, NULL);
    natsConnection_Subscribe(&subs[1], A.nc, SUBJECT_BREAKER ">", on_breaker, NULL);
    natsConnection_Subscribe(&subs[2], A.nc, "floor.breaker", on_floor, &A.floor_breaker_ns);
    natsConnection_Subscribe(&subs[3], A.nc, "floor.directive", on_floor, &A.floor_directive_ns);
    run_relay(h, "relay-1", nats->url, redis->port, "floor.report", "floor.breaker", "2");
    run_relay(h, "relay-2", nats->url, redis->port, "floor.breaker", "floor.directive", "1");
    harness_run(h, "breaker", 0, (const char *[]){bench_program(b, "redoubt-breaker"), "-c", config, NULL});
    harness_run(h, "fallback", 0, (const char *[]){bench_program(b, "redoubt-fallback"), "-c", config, NULL});
    printf("chain: %d agents with two targets each, one crossing each...\n", AGENTS);
    fflush(stdout);
    pthread_mutex_lock(&A.lock);
    await_(started, 0, "first breakers");
    await_(directed, 0, "first directives");
    pthread_mutex_unlock(&A.lock);
    nap(6000); /* all breakers are older than a bucket, and start-up work is over (trimmed pages come back in the warm-up) */

    struct samples *real = calloc(1, sizeof *real), *ground = calloc(1, sizeof *ground);
    redisContext *rc = connect_redis(redis->port);
    for (unsigned i = 0; i < AGENTS; i++) {
        real_iteration(real, rc, i);
        floor_iteration(ground, i);
    }
    rows(b, "crossing report to directive at the agent", real->directive, ground->directive, real->n, ground->n,
         "3 NATS hops + 3 Redis round trips", 2.0, 4.0);
    rows(b, "crossing report to BreakerChanged", real->breaker, ground->breaker, real->n, ground->n,
         "2 NATS hops + 2 Redis round trips", 2.0, 0);
    redisFree(rc);
    free(real);
    free(ground);
    for (int i = 0; i < 4; i++)
        natsSubscription_Destroy(subs[i]);
    natsConnection_Destroy(A.nc);
    harness_close(h);
}

/* ---- idle ---- */

static void measure_idle(struct bench *b)
{
    static const char *const names[] = {"audit", "alert", "breaker", "fallback", "health"};
    enum { N = sizeof names / sizeof names[0] };
    struct harness *h = harness_open();
    struct harness_proc *nats = harness_nats(h, "nats", NULL), *redis = harness_redis(h, "redis", NULL);
    const char *config = write_settings(h, "idle", nats->url, redis->port, false);
    struct harness_proc *p[N];
    double cpu[N];
    for (int i = 0; i < N; i++) {
        char program[64];
        snprintf(program, sizeof program, "redoubt-%s", names[i]);
        p[i] = harness_run(h, names[i], 0, (const char *[]){bench_program(b, program), "-c", config, NULL});
    }
    printf("idle: five services, %d s...\n", IDLE_MS / 1000);
    fflush(stdout);
    nap(8000); /* started, and settled */
    int64_t start = bench_ns();
    for (int i = 0; i < N; i++)
        cpu[i] = bench_cpu_s(p[i]->pid);
    nap(IDLE_MS);
    for (int i = 0; i < N; i++) {
        char name[96];
        if (!harness_alive(p[i]))
            fail(names[i], "has ended");
        double used = bench_cpu_s(p[i]->pid) - cpu[i], elapsed = (double)(bench_ns() - start) / 1e9;
        snprintf(name, sizeof name, "idle memory of redoubt-%s", names[i]);
        bench_row(b, name, "MB", bench_rss(p[i]->pid) / 1e6, "limit", 10, 1);
        snprintf(name, sizeof name, "idle CPU of redoubt-%s", names[i]);
        bench_row(b, name, "%", used / elapsed * 100, "limit", 0.5, 1);
    }
    harness_close(h);
}

/* ---- local admission ---- */

static enum redoubt_ack take(void *ctx, const redoubt_directive *d, char detail[256])
{
    (void)ctx, (void)d, (void)detail;
    return REDOUBT_APPLIED;
}

static void measure_admission(struct bench *b)
{
    struct harness *h = harness_open();
    struct harness_proc *nats = harness_nats(h, "nats", NULL);
    char error[256];
    redoubt_options o = {.url = nats->url, .agent = "bench", .on_directive = take};
    redoubt *r = redoubt_open(&o, error);
    if (!r)
        fail("libredoubt", error);
    int64_t end = bench_ns() + (int64_t)LIMIT_MS * 1000000;
    while (!redoubt_admit(r, "llm.t0.a").admitted) {
        if (bench_ns() > end)
            fail("libredoubt", "never connected");
        nap(1);
    }
    printf("admission: %d calls...\n", ADMISSIONS);
    fflush(stdout);
    double best = 1e9;
    unsigned admitted = 0;
    for (int round = 0; round < 5; round++) {
        int64_t start = bench_ns();
        for (int i = 0; i < ADMISSIONS / 5; i++)
            admitted += redoubt_admit(r, "llm.t0.a").admitted;
        double each = (double)(bench_ns() - start) / (ADMISSIONS / 5);
        best = each < best ? each : best;
    }
    if (admitted == 0)
        fail("libredoubt", "admitted nothing");
    bench_row(b, "local admission in libredoubt", "ns", best, "limit", 100, 1);
    redoubt_close(r);
    harness_close(h);
}

int main(int argc, char **argv)
{
    if (argc == 7 && strcmp(argv[1], "--relay") == 0)
        return relay_main(argv);
    struct bench *b = bench_open(argc, argv);
    measure_chain(b);
    measure_idle(b);
    measure_admission(b);
    int code = bench_close(b);
    nats_Close();
    return code;
}
