/* bench_breaker.c - how many reports one breaker takes in, beside a subscriber that only decodes and counts; and what each costs.
 *
 * The floor is a process of this program: a nats.c queue subscription with global delivery, a bounded queue to a libuv loop, protobuf-c, a
 * count per target in a hash. The breaker is redoubt-breaker with its windows in Redis. The publisher is a third process, the same
 * for both, on the same servers, in turn. It sends a chunk of messages and then a question for the subscriber's own count, and
 * never has more than WINDOW questions unanswered: so nothing is dropped, and the time is over when the count says that all were
 * processed. Whatever is missing at the end fails the benchmark. */
#include "../harness.h"
#include "bench.h"
#include "common/bus_queue.h"
#include "common/subjects.h"
#include "common/wire.h"
#include <errno.h>
#include <hiredis/hiredis.h>
#include <inttypes.h>
#include <nats/nats.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <uthash.h>
#include <uv.h>

enum {
    TARGETS = 1000,
    REPORTERS = 1000,
    PER_TARGET = 10, /* reporters of one target */
    RING = 20000,    /* messages made beforehand */
    BATCH = 100,
    CHUNK = 2048, /* reports between two questions; of batches, CHUNK_BATCHES messages */
    CHUNK_BATCHES = 64,
    WINDOW = 8, /* questions on their way */
    ROUNDS = 5,
    SINGLES = 500000,
    BATCHED = 2500000,
    PACED_PER_S = 20000, /* for the cost per report */
    COST_ROUNDS = 3,
    PACED = 120000,
    LIMIT_S = 120
};
#define FLOOR_PREFIX  "floor.v1.report."
#define FLOOR_ASK     "floor.count"
#define BREAKER_ASK   "$SRV.STATS.redoubt-breaker"
#define TAKEN         "redoubt_breaker_reports_total"
#define FLUSHES       "redoubt_breaker_flushes_total"
#define FIRST_CHANGES "redoubt_breaker_changes_total"

static void fail(const char *what, const char *why)
{
    fprintf(stderr, "bench: %s: %s\n", what, why);
    exit(1);
}

static void check(const char *what, natsStatus st)
{
    if (st != NATS_OK)
        fail(what, natsStatus_GetText(st));
}

static void nap_ms(int64_t ms)
{
    struct timespec t = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000};
    nanosleep(&t, NULL);
}

/* The number after `"name":` in a text. -1 = it is not there. */
static int64_t number_of(const char *text, const char *name)
{
    const char *at = strstr(text, name);
    at = at ? strchr(at, ':') : NULL;
    return at ? strtoll(at + 1, NULL, 10) : -1;
}

/* ---- the floor: a process of this very program ---- */

struct count {
    char target[TARGET_MAX_LEN + 1];
    uint64_t calls;
    UT_hash_handle hh;
};
static struct {
    struct bus_queue queue;
    uv_async_t wake;
    natsConnection *nc;
    struct count *counts;
    int64_t taken;
    bool batches;
} F;

static void on_floor_message(natsConnection *nc, natsSubscription *sub, natsMsg *m, void *ctx)
{
    (void)nc, (void)sub;
    bus_queue_push(&F.queue, (struct bus_item){.kind = BUS_ITEM_MESSAGE, .feed = ctx, .msg = m});
}

static void count_one(const PB(OutcomeReport) * r)
{
    struct count *c;
    HASH_FIND_STR(F.counts, r->target, c);
    if (!c) {
        c = calloc(1, sizeof *c);
        snprintf(c->target, sizeof c->target, "%s", r->target);
        HASH_ADD_STR(F.counts, target, c);
    }
    c->calls++;
    F.taken++;
}

static void floor_take(natsMsg *m)
{
    const uint8_t *data = (const uint8_t *)natsMsg_GetData(m);
    size_t len = (size_t)natsMsg_GetDataLength(m);
    if (F.batches) {
        PB(OutcomeBatch) *b = redoubt__v1__outcome_batch__unpack(NULL, len, data);
        for (size_t i = 0; b && i < b->n_reports; i++)
            count_one(b->reports[i]);
        redoubt__v1__outcome_batch__free_unpacked(b, NULL);
    } else {
        PB(OutcomeReport) *r = redoubt__v1__outcome_report__unpack(NULL, len, data);
        if (r)
            count_one(r);
        redoubt__v1__outcome_report__free_unpacked(r, NULL);
    }
}

static void floor_answer(natsMsg *m)
{
    char text[96];
    int len = snprintf(text, sizeof text, "{\"" TAKEN "\":%" PRId64 "}", F.taken);
    natsConnection_Publish(F.nc, natsMsg_GetReply(m), text, len);
}

static void on_floor_wake(uv_async_t *h)
{
    (void)h;
    struct bus_item i;
    size_t n = 0;
    while (bus_queue_next(&F.queue, &i)) {
        if (i.feed)
            floor_answer(i.msg);
        else
            floor_take(i.msg);
        natsMsg_Destroy(i.msg);
        if (++n == 256) {
            bus_queue_release(&F.queue, n);
            n = 0;
        }
    }
    bus_queue_release(&F.queue, n);
}

static natsConnection *connect_nats(const char *url, bool asap)
{
    natsOptions *o = NULL;
    natsConnection *nc = NULL;
    check("options", natsOptions_Create(&o));
    natsOptions_SetURL(o, url);
    natsOptions_UseGlobalMessageDelivery(o, true);
    natsOptions_SetSendAsap(o, asap);
    check(url, natsConnection_Connect(&nc, o));
    natsOptions_Destroy(o);
    return nc;
}

static int floor_main(char **argv)
{
    uv_loop_t loop;
    natsSubscription *reports = NULL, *questions = NULL;
    static char asked; /* its address tells questions from reports */
    F.batches = strcmp(argv[3], "batches") == 0;
    nats_Open(-1);
    nats_SetMessageDeliveryPoolSize(1);
    uv_loop_init(&loop);
    uv_async_init(&loop, &F.wake, on_floor_wake);
    bus_queue_init(&F.queue, &F.wake, 65536);
    F.nc = connect_nats(argv[2], true);
    check("floor", natsConnection_QueueSubscribe(&reports, F.nc, FLOOR_PREFIX ">", "floor", on_floor_message, NULL));
    check("floor", natsConnection_Subscribe(&questions, F.nc, FLOOR_ASK, on_floor_message, &asked));
    uv_run(&loop, UV_RUN_DEFAULT);
    return 1;
}

/* ---- the publisher: a process of this very program ---- */

struct message {
    char *subject;
    void *data;
    int len;
};
static struct {
    natsConnection *nc;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    int unanswered;
    int64_t count; /* as told last */
} P = {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};

static void on_answer(natsConnection *nc, natsSubscription *sub, natsMsg *m, void *ctx)
{
    (void)nc, (void)sub, (void)ctx;
    char *text = strndup(natsMsg_GetData(m), (size_t)natsMsg_GetDataLength(m));
    int64_t count = text ? number_of(text, TAKEN) : -1;
    free(text);
    pthread_mutex_lock(&P.lock);
    P.unanswered--;
    P.count = count > P.count ? count : P.count;
    pthread_cond_signal(&P.changed);
    pthread_mutex_unlock(&P.lock);
    natsMsg_Destroy(m);
}

static void wait_answers(int most)
{
    struct timespec end;
    clock_gettime(CLOCK_REALTIME, &end);
    end.tv_sec += LIMIT_S;
    pthread_mutex_lock(&P.lock);
    while (P.unanswered > most)
        if (pthread_cond_timedwait(&P.changed, &P.lock, &end) == ETIMEDOUT)
            fail("publisher", "the subscriber does not answer");
    pthread_mutex_unlock(&P.lock);
}

static void ask(const char *subject, const char *inbox)
{
    pthread_mutex_lock(&P.lock);
    P.unanswered++;
    pthread_mutex_unlock(&P.lock);
    check("question", natsConnection_PublishRequest(P.nc, subject, inbox, "", 0));
}

/* A stream of calls as it would be: 99 of 100 go well, at random. Of a mixed one half fails: nothing of it may wait. */
static int bad_percent = 1;

static void fill(PB(OutcomeReport) * r, char *target, char *reporter, unsigned *seed)
{
    *r = (PB(OutcomeReport))PB_INIT(OUTCOME_REPORT);
    r->target = target;
    r->reporter = reporter;
    bool well = rand_r(seed) % 100 >= bad_percent;
    r->outcome = well ? REDOUBT__V1__OUTCOME__OUTCOME_SUCCESS : REDOUBT__V1__OUTCOME__OUTCOME_ERROR;
    r->status_code = well ? 200 : 500;
    r->total_ms = 100 + (uint32_t)rand_r(seed) % 2000;
    r->first_token_ms = r->total_ms / 2;
    r->ended_unix_ms = (int64_t)time(NULL) * 1000;
    r->data_path = true;
}

static struct message make(const char *prefix, unsigned target, unsigned reporter, bool batch, unsigned *seed)
{
    static PB(OutcomeReport) parts[BATCH];
    static PB(OutcomeReport) * list[BATCH];
    char name[32], who[32];
    struct message m = {0};
    struct err e;
    size_t len;
    PB(OutcomeBatch) all = PB_INIT(OUTCOME_BATCH);
    snprintf(name, sizeof name, "llm.t%u", target);
    snprintf(who, sizeof who, "gateway-%u", reporter);
    for (unsigned i = 0; i < (batch ? BATCH : 1); i++) {
        fill(&parts[i], name, who, seed);
        list[i] = &parts[i];
    }
    all.n_reports = BATCH;
    all.reports = list;
    if (batch)
        m.data = wire_pack(&all, &len, &e);
    else
        m.data = wire_pack(&parts[0], &len, &e);
    if (!m.data)
        fail("report", e.text);
    m.len = (int)len;
    if (asprintf(&m.subject, "%s%s", prefix, name) < 0)
        fail("report", "out of memory");
    return m;
}

static void send_one(const struct message *m, bool batch)
{
    if (!batch) {
        check("publish", natsConnection_Publish(P.nc, m->subject, m->data, m->len));
        return;
    }
    natsMsg *x = NULL;
    check("publish", natsMsg_Create(&x, m->subject, NULL, m->data, m->len));
    check("publish", natsMsgHeader_Set(x, "ce-type", PB_DESC(outcome_batch)->name));
    check("publish", natsConnection_PublishMsg(P.nc, x));
    natsMsg_Destroy(x);
}

/* --publish URL PREFIX QUESTION TARGETS REPORTS singles|mixed|batches PER_SECOND: prints the nanoseconds that it took. */
static int publish_main(char **argv)
{
    const char *prefix = argv[3], *question = argv[4];
    unsigned targets = (unsigned)atoi(argv[5]), seed = 1;
    int64_t reports = atoll(argv[6]), per_s = atoll(argv[8]);
    bool batch = strcmp(argv[7], "batches") == 0;
    bad_percent = strcmp(argv[7], "mixed") == 0 ? 50 : 1;
    natsInbox *inbox = NULL;
    natsSubscription *sub = NULL;
    P.nc = connect_nats(argv[2], false);
    check("inbox", natsInbox_Create(&inbox));
    check("inbox", natsConnection_Subscribe(&sub, P.nc, inbox, on_answer, NULL));
    unsigned made = batch ? RING / 10 : targets > RING ? targets : RING; /* every target gets its share */
    struct message *ring = calloc(made, sizeof *ring);
    for (unsigned i = 0; i < made; i++) {
        unsigned target = i % targets;
        ring[i] = make(prefix, target, (target * PER_TARGET + i / targets % PER_TARGET) % REPORTERS, batch, &seed);
    }
    ask(question, inbox);
    wait_answers(0);
    int64_t messages = batch ? reports / BATCH : reports, want = P.count + messages * (batch ? BATCH : 1);
    /* Paced: of each of a hundred targets one at a time, as what comes in one turn of the loop is flushed as one. */
    int64_t chunk = per_s ? per_s / 200 : batch ? CHUNK_BATCHES : CHUNK;
    int64_t start = bench_ns();
    for (int64_t i = 0; i < messages; i++) {
        send_one(&ring[i % made], batch);
        if ((i + 1) % chunk != 0)
            continue;
        if (per_s) {
            int64_t due = start + (i + 1) * 1000000000 / per_s, now = bench_ns();
            if (due > now)
                nap_ms((due - now) / 1000000);
        }
        if (!per_s || (i + 1) % per_s == 0) {
            ask(question, inbox);
            wait_answers(WINDOW - 1);
        }
    }
    ask(question, inbox);
    wait_answers(0);
    int64_t took = bench_ns() - start;
    if (P.count < want)
        fail("publisher", "reports were lost on the way");
    printf("%" PRId64 "\n", took);
    return 0;
}

/* ---- running them ---- */

static const char *self(void)
{
    static char path[1024];
    ssize_t n = readlink("/proc/self/exe", path, sizeof path - 1);
    path[n > 0 ? n : 0] = 0;
    return path;
}

/* Nanoseconds. */
static double publish(const char *url, const char *prefix, const char *question, int targets, int64_t reports,
                      const char *how, int64_t per_s)
{
    char command[2048], line[64];
    snprintf(command, sizeof command, "'%s' --publish '%s' '%s' '%s' %d %" PRId64 " %s %" PRId64, self(), url, prefix,
             question, targets, reports, how, per_s);
    FILE *f = popen(command, "r");
    bool ok = f && fgets(line, sizeof line, f);
    if (!f || pclose(f) != 0 || !ok)
        fail("publisher", "has failed");
    return strtod(line, NULL);
}

static const char *write_settings(struct harness *h, const char *url, int redis_port, int targets)
{
    static char path[600];
    snprintf(path, sizeof path, "%s/targets-%d.yaml", harness_dir(h), targets);
    FILE *f = fopen(path, "w");
    if (!f)
        fail(path, "cannot be written");
    fprintf(f,
            "nats: { url: \"%s\" }\nredis: { host: 127.0.0.1, port: %d }\ndata_dir: %s/data\nlog: { level: warn }\n"
            "targets:\n",
            url, redis_port, harness_dir(h));
    for (int i = 0; i < targets; i++)
        fprintf(f, "  - { name: llm.t%d, kind: llm, breaker: { min_calls: 1000000, consecutive: 1000000 } }\n", i);
    fclose(f);
    return path;
}

struct stack {
    struct harness *h;
    struct harness_proc *nats, *redis, *breaker;
    natsConnection *nc;
    redisContext *rc;
    int targets;
};

/* A metric of the breaker; -1 = it does not answer, or has none yet. */
static int64_t metric(struct stack *s, const char *name)
{
    natsMsg *m = NULL;
    if (natsConnection_Request(&m, s->nc, BREAKER_ASK, "", 0, 5000) != NATS_OK)
        return -1;
    char *text = strndup(natsMsg_GetData(m), (size_t)natsMsg_GetDataLength(m));
    int64_t v = text ? number_of(text, name) : -1;
    free(text);
    natsMsg_Destroy(m);
    return v;
}

static struct stack open_stack(struct bench *b, int targets)
{
    struct stack s = {.h = harness_open(), .targets = targets};
    s.nats = harness_nats(s.h, "nats", NULL);
    s.redis = harness_redis(s.h, "redis", NULL);
    const char *config = write_settings(s.h, s.nats->url, s.redis->port, targets);
    s.breaker =
        harness_run(s.h, "breaker", 0, (const char *[]){bench_program(b, "redoubt-breaker"), "-c", config, NULL});
    s.nc = connect_nats(s.nats->url, true);
    s.rc = redisConnect("127.0.0.1", s.redis->port);
    if (!s.rc || s.rc->err)
        fail("Redis", "no connection");
    int64_t end = bench_ns() + (int64_t)LIMIT_S * 1000000000;
    while (metric(&s, FIRST_CHANGES) < targets) { /* every target has its first document */
        if (bench_ns() > end)
            fail("breaker", "is not ready in time");
        nap_ms(100);
    }
    nap_ms(6000); /* start-up work is over, its memory trimmed, and every breaker older than a bucket */
    return s;
}

static void close_stack(struct stack *s)
{
    redisFree(s->rc);
    natsConnection_Destroy(s->nc);
    harness_close(s->h);
}

/* ---- figures ---- */

/* Scripts that Redis was asked to run by clients. */
static int64_t scripts(struct stack *s)
{
    int64_t sum = 0;
    redisReply *r = redisCommand(s->rc, "INFO commandstats");
    if (!r || r->type != REDIS_REPLY_STRING)
        fail("Redis", "no INFO");
    static const char *const rows[] = {"cmdstat_evalsha:calls=", "cmdstat_eval:calls="};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        const char *at = strstr(r->str, rows[i]);
        sum += at ? strtoll(at + strlen(rows[i]), NULL, 10) : 0;
    }
    freeReplyObject(r);
    return sum;
}

static void measure_intake(struct bench *b)
{
    static const char *const hows[] = {"singles", "batches"};
    static const char *const names[] = {"breaker, report by report: per report",
                                        "breaker, batches of 100: per report"};
    static const char *const cpu_names[] = {"breaker, report by report: its CPU", "breaker, batches of 100: its CPU"};
    static const int64_t reports[] = {SINGLES, BATCHED};
    struct stack s = open_stack(b, TARGETS);
    double taken = 0, flushed = 0, asked = 0;
    for (int k = 0; k < 2; k++) {
        double ours[ROUNDS], theirs[ROUNDS], ours_cpu[ROUNDS], theirs_cpu[ROUNDS];
        struct harness_proc *floor = harness_run(s.h, k ? "floor-batches" : "floor-singles", 0,
                                                 (const char *[]){self(), "--floor", s.nats->url, hows[k], NULL});
        printf("intake: %" PRId64 " reports (%s) to each of both, %d rounds...\n", reports[k], hows[k], ROUNDS);
        fflush(stdout);
        nap_ms(500);
        for (int i = 0; i < ROUNDS; i++) {
            double n = (double)reports[k], cpu = bench_cpu_s(floor->pid);
            theirs[i] = publish(s.nats->url, FLOOR_PREFIX, FLOOR_ASK, TARGETS, reports[k], hows[k], 0) / n;
            theirs_cpu[i] = (bench_cpu_s(floor->pid) - cpu) * 1e9 / n;
            int64_t flushes = metric(&s, FLUSHES), calls = scripts(&s);
            cpu = bench_cpu_s(s.breaker->pid);
            ours[i] = publish(s.nats->url, SUBJECT_REPORT, BREAKER_ASK, TARGETS, reports[k], hows[k], 0) / n;
            ours_cpu[i] = (bench_cpu_s(s.breaker->pid) - cpu) * 1e9 / n;
            nap_ms(1500); /* the last flushes are answered */
            taken += n;
            flushed += (double)(metric(&s, FLUSHES) - flushes);
            asked += (double)(scripts(&s) - calls);
        }
        bench_row(b, names[k], "ns", bench_percentile(ours, ROUNDS, 50), "decode and count only (floor)",
                  bench_percentile(theirs, ROUNDS, 50), 1 / 0.6);
        bench_row(b, cpu_names[k], "ns", bench_percentile(ours_cpu, ROUNDS, 50), "decode and count only (floor)",
                  bench_percentile(theirs_cpu, ROUNDS, 50), 0);
        harness_kill(floor);
    }
    bench_row(b, "Redis commands per target flushed", "", asked / flushed, "one", 1, 1);
    bench_row(b, "Redis commands per 1,000 reports", "", asked / taken * 1000, "one each", 1000, 0);
    close_stack(&s);
}

/* Of a target that 32 reporters have told of: document and window. */
static double redis_bytes(struct stack *s)
{
    unsigned seed = 2;
    int64_t before = metric(s, TAKEN);
    for (unsigned i = 0; i < 32; i++) {
        struct message m = make(SUBJECT_REPORT, 0, i, false, &seed);
        check("report", natsConnection_Publish(s->nc, m.subject, m.data, m.len));
        free(m.subject);
        free(m.data);
    }
    while (metric(s, TAKEN) < before + 32)
        nap_ms(10);
    nap_ms(1500);
    double sum = 0;
    static const char *const keys[] = {"doc", "w"};
    for (int i = 0; i < 2; i++) {
        redisReply *r = redisCommand(s->rc, "MEMORY USAGE redoubt:{b:llm.t0}:%s", keys[i]);
        if (!r || r->type != REDIS_REPLY_INTEGER)
            fail("Redis", "a target has no document or window");
        sum += (double)r->integer;
        freeReplyObject(r);
    }
    return sum;
}

static double cost_us(struct stack *s, int targets, const char *how)
{
    double cost[COST_ROUNDS];
    for (int i = 0; i < COST_ROUNDS; i++) {
        double cpu = bench_cpu_s(s->breaker->pid);
        publish(s->nats->url, SUBJECT_REPORT, BREAKER_ASK, targets, PACED, how, PACED_PER_S);
        cost[i] = (bench_cpu_s(s->breaker->pid) - cpu) * 1e6 / PACED;
    }
    return bench_percentile(cost, COST_ROUNDS, 50);
}

/* What one report costs, over few targets and over many, at the same rate. Mixed, each goes to Redis by itself however many targets there
 * are: the same work, so that what grows with their number shows. Of successes those of one target go together, and the
 * fewer the targets, the more of them: that gain is shown, not bounded. */
static void measure_cost(struct bench *b)
{
    static const int sizes[] = {100, 1000, 10000, 100000};
    const char *most = getenv("BENCH_TARGETS_MAX");
    double first = 0, first_mixed = 0;
    for (size_t k = 0; k < sizeof sizes / sizeof sizes[0]; k++) {
        if (most && sizes[k] > atoi(most))
            break;
        printf("cost: %d reports per second over %d targets, twice %d rounds...\n", PACED_PER_S, sizes[k],
               COST_ROUNDS);
        fflush(stdout);
        struct stack s = open_stack(b, sizes[k]);
        double each = cost_us(&s, sizes[k], "singles"), mixed = cost_us(&s, sizes[k], "mixed");
        char name[96];
        first = first > 0 ? first : each;
        first_mixed = first_mixed > 0 ? first_mixed : mixed;
        snprintf(name, sizeof name, "breaker, CPU per report over %d targets", sizes[k]);
        bench_row(b, name, "us", mixed, "the same over 100 targets", first_mixed, k ? 1.2 : 0);
        snprintf(name, sizeof name, "breaker, the same of successes over %d targets", sizes[k]);
        bench_row(b, name, "us", each, "the same over 100 targets", first, 0);
        if (k == 0)
            bench_row(b, "Redis memory per target with 32 reporters", "B", redis_bytes(&s), "limit", 1024, 1);
        close_stack(&s);
    }
}

int main(int argc, char **argv)
{
    if (argc == 4 && strcmp(argv[1], "--floor") == 0)
        return floor_main(argv);
    if (argc == 9 && strcmp(argv[1], "--publish") == 0)
        return publish_main(argv);
    struct bench *b = bench_open(argc, argv);
    measure_intake(b);
    measure_cost(b);
    int code = bench_close(b);
    nats_Close();
    return code;
}
