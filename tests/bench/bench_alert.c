/* bench_alert.c - how fast an alert is told, how many a second, and in how much memory; beside prometheus-alertmanager on the same machine.
 *
 * Redoubt: the producer's outbox (synced), stream, redoubt-alert with its record (synced) and a webhook. Alertmanager: POST /api/v2/alerts as
 * Prometheus does it, each alert a group of its own, group_wait 0, the same webhook. For latencies one of each in turn; for throughput
 * Alertmanager gets batches of 64, as Prometheus sends them. Then a burst of alerts to a channel that is dead. */
#include "../integration/bus_kit.h"
#include "alert_receiver.h"
#include "bench.h"
#include "common/outbox.h"
#include "common/wire.h"
#include <inttypes.h>
#include <netdb.h>
#include <sys/stat.h>

enum { WARM_UP = 50, SINGLES = 400, MANY = 20000, MANY_AM = 6000, BURST = 100000, BATCH = 64, AHEAD = 2000 };
#define LIMIT_MS  240000
#define SETTLE_MS 10

static struct {
    struct bench *b;
    struct kit *k;
    struct kit_bus bus;
    struct harness_proc *redis, *alert, *manager, *receiver;
    struct outbox *outbox;
    struct receiver_seen *seen;
    char dir[512], self[1024];
    int hook, manager_port, manager_fd;
    unsigned next;
    size_t durable, stored;
} T;

static void give_up(const char *what, const char *why)
{
    fprintf(stderr, "bench: %s: %s\n", what, why);
    exit(1);
}

static void turn(int64_t ms)
{
    bool never = false;
    (void)loop_run_until(&T.k->loop, &never, ms);
}

static void await_seen(uint64_t n, const char *what)
{
    int64_t end = clock_mono_ms() + LIMIT_MS;
    while (atomic_load(&T.seen->alerts) < n) {
        turn(1);
        if (clock_mono_ms() > end)
            give_up(what, "did not come in time");
    }
}

/* ---- Redoubt's producer ---- */

static void on_durable(void *ctx, int status, const char *error)
{
    (void)ctx;
    if (status)
        give_up("outbox", error);
    T.durable++;
}

static void on_stored(void *ctx, int status, const char *error)
{
    (void)ctx;
    if (status)
        give_up("stream", error ? error : "refused");
    T.stored++;
}

static void raise_alert(void)
{
    char id[32], key[64], summary[128];
    struct err e;
    size_t len;
    snprintf(id, sizeof id, RECEIVER_NAME "%06u", T.next++);
    snprintf(key, sizeof key, "agent/%s/llm", id);
    snprintf(summary, sizeof summary, "%s: no LLM of the chain answers; security fallback is on", id);
    PB(Alert) a = PB_INIT(ALERT);
    a.id = id;
    a.dedup_key = key;
    a.severity = REDOUBT__V1__SEVERITY__SEVERITY_HIGH;
    a.source = (char *)"fallback";
    a.agent = (char *)"mcp-security-agent";
    a.target = (char *)"llm.openai.gpt-4o";
    a.summary = summary;
    a.detail = (char *)"5 calls in a row have failed; the last one: connection refused.";
    a.raised_unix_ms = a.evidence_unix_ms = clock_wall_ms();
    void *data = wire_pack(&a, &len, &e);
    if (!data)
        give_up("alert", e.text);
    struct outbox_item i = {.subject = SUBJECT_ALERT, .id = id, .type = wire_type(&a), .data = data, .len = len};
    outbox_append_stored(T.outbox, &i, on_durable, on_stored, NULL);
    free(data);
}

/* ---- Alertmanager's ---- */

static void manager_connect(void)
{
    struct sockaddr_in a = {.sin_family = AF_INET,
                            .sin_port = htons((uint16_t)T.manager_port),
                            .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int one = 1;
    T.manager_fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (T.manager_fd < 0 || connect(T.manager_fd, (struct sockaddr *)&a, sizeof a) < 0)
        give_up("Alertmanager", "cannot connect");
    setsockopt(T.manager_fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
}

static void manager_post(unsigned n)
{
    static char body[BATCH * 700], request[BATCH * 700 + 300];
    char answer[4096];
    size_t len = (size_t)snprintf(body, sizeof body, "[");
    for (unsigned i = 0; i < n; i++) {
        char id[32];
        snprintf(id, sizeof id, RECEIVER_NAME "%06u", T.next++);
        len +=
            (size_t)snprintf(body + len, sizeof body - len,
                             "%s{\"labels\":{\"alertname\":\"%s\",\"severity\":\"high\",\"source\":\"fallback\","
                             "\"agent\":\"mcp-security-agent\","
                             "\"target\":\"llm.openai.gpt-4o\"},\"annotations\":{\"summary\":\"no LLM of the chain "
                             "answers; security fallback is "
                             "on\",\"detail\":\"5 calls in a row have failed; the last one: connection refused.\"}}",
                             i ? "," : "", id);
    }
    len += (size_t)snprintf(body + len, sizeof body - len, "]");
    size_t all = (size_t)snprintf(request, sizeof request,
                                  "POST /api/v2/alerts HTTP/1.1\r\nHost: localhost\r\nContent-Type: "
                                  "application/json\r\nContent-Length: %zu\r\n\r\n%s",
                                  len, body);
    for (size_t at = 0; at < all;) {
        ssize_t w = write(T.manager_fd, request + at, all - at);
        if (w <= 0)
            give_up("Alertmanager", "connection lost");
        at += (size_t)w;
    }
    size_t got = 0;
    while (!memmem(answer, got, "\r\n\r\n", 4)) {
        ssize_t r = read(T.manager_fd, answer + got, sizeof answer - 1 - got);
        if (r <= 0)
            give_up("Alertmanager", "connection lost");
        got += (size_t)r;
    }
    answer[got] = 0;
    if (strncmp(answer, "HTTP/1.1 200", 12) != 0)
        give_up("Alertmanager", answer);
}

/* ---- the stack ---- */

static const char *write_settings(const char *name, int hook)
{
    static char path[600];
    snprintf(path, sizeof path, "%s/%s.yaml", T.dir, name);
    FILE *f = fopen(path, "w");
    if (!f)
        give_up(path, "cannot be written");
    fprintf(
        f,
        "nats: { url: \"%s\" }\nredis: { host: 127.0.0.1, port: %d }\ndata_dir: %s/data-%s\nlog: { level: error }\n"
        "alert:\n  channels:\n"
        "    - { name: hook, type: webhook, url: \"http://127.0.0.1:%d/hook\", at_once: 64 }\n"
        "    - { name: record, type: file, path: %s/%s.jsonl, max_size: 1GiB }\n"
        "  routes:\n    - { channels: [hook, record] }\n",
        T.k->nats->url, T.redis->port, T.dir, name, hook, T.dir, name);
    fclose(f);
    return path;
}

static void start_receiver(int port)
{
    char file[600], text[16];
    snprintf(file, sizeof file, "%s/seen", T.dir);
    snprintf(text, sizeof text, "%d", port);
    T.seen = receiver_map(file);
    T.receiver = harness_run(T.k->h, "receiver", port, (const char *[]){T.self, "--receive", file, text, NULL});
}

static void start_manager(void)
{
    char config[600], data[600], listen_on[64];
    snprintf(config, sizeof config, "%s/alertmanager.yaml", T.dir);
    snprintf(data, sizeof data, "--storage.path=%s/alertmanager", T.dir);
    T.manager_port = harness_free_port();
    snprintf(listen_on, sizeof listen_on, "--web.listen-address=127.0.0.1:%d", T.manager_port);
    FILE *f = fopen(config, "w");
    if (!f)
        give_up(config, "cannot be written");
    fprintf(f,
            "route: { receiver: hook, group_by: ['...'], group_wait: 0s, group_interval: 1m, repeat_interval: 4h }\n"
            "receivers:\n  - name: hook\n    webhook_configs: [ { url: 'http://127.0.0.1:%d/hook', send_resolved: "
            "false } ]\n",
            T.hook);
    fclose(f);
    char file[640];
    snprintf(file, sizeof file, "--config.file=%s", config);
    T.manager = harness_run(T.k->h, "alertmanager", T.manager_port,
                            (const char *[]){"prometheus-alertmanager", file, data, listen_on,
                                             "--cluster.listen-address=", "--log.level=error", NULL});
    manager_connect();
}

static void start_stack(void)
{
    void *kit = NULL;
    if (kit_setup(&kit))
        give_up("start", "no loop");
    T.k = kit;
    harness_start(T.k->nats);
    T.redis = harness_redis(T.k->h, "redis", NULL);
    snprintf(T.dir, sizeof T.dir, "%s", harness_dir(T.k->h));
    T.hook = harness_free_port();
    start_receiver(T.hook);
    kit_open(T.k, &T.bus, (struct bus_opts){0});
    while (T.bus.ups == 0)
        turn(5);
    char dir[600];
    struct err e;
    snprintf(dir, sizeof dir, "%s/outbox", T.dir);
    if (mkdir(dir, 0700) ||
        !(T.outbox = outbox_open(&T.k->loop, &(struct outbox_opts){.dir = dir, .bus = T.bus.b}, &e)))
        give_up("outbox", "cannot be opened");
    T.alert = harness_run(
        T.k->h, "alert", 0,
        (const char *[]){bench_program(T.b, "redoubt-alert"), "-c", write_settings("alert", T.hook), NULL});
    start_manager();
}

/* ---- what is measured ---- */

static void latency(void)
{
    static double ours[SINGLES], theirs[SINGLES];
    printf("alert: %d alerts one at a time, beside Alertmanager...\n", SINGLES);
    fflush(stdout);
    for (int i = -WARM_UP; i < SINGLES; i++) {
        unsigned n = T.next;
        int64_t start = bench_ns();
        raise_alert();
        while (atomic_load(&T.seen->ns[n]) == 0)
            turn(1);
        if (i >= 0)
            ours[i] = (double)(atomic_load(&T.seen->ns[n]) - start) / 1e3;
        turn(SETTLE_MS);
        n = T.next;
        start = bench_ns();
        manager_post(1);
        while (atomic_load(&T.seen->ns[n]) == 0)
            turn(1);
        if (i >= 0)
            theirs[i] = (double)(atomic_load(&T.seen->ns[n]) - start) / 1e3;
        turn(SETTLE_MS);
    }
    bench_row(T.b, "alert: producer to webhook, p50", "us", bench_percentile(ours, SINGLES, 50),
              "Alertmanager, group_wait 0", bench_percentile(theirs, SINGLES, 50), 1.0);
    bench_row(T.b, "alert: producer to webhook, p99", "us", bench_percentile(ours, SINGLES, 99),
              "Alertmanager, group_wait 0", bench_percentile(theirs, SINGLES, 99), 0);
}

/* Alerts a second, from the first that is raised to the last that has come. */
static double many(bool manager, unsigned n)
{
    uint64_t before = atomic_load(&T.seen->alerts);
    unsigned first = T.next, sent = 0;
    size_t stored = T.stored;
    int64_t start = bench_ns();
    while (sent < n) {
        if (manager) {
            unsigned batch = n - sent < BATCH ? n - sent : BATCH;
            manager_post(batch);
            sent += batch;
            continue;
        }
        for (; sent < n && sent - (T.stored - stored) < AHEAD; sent++)
            raise_alert();
        turn(1);
    }
    await_seen(before + n, manager ? "alerts of Alertmanager" : "alerts");
    int64_t last = 0;
    for (unsigned i = first; i < first + n; i++)
        last = atomic_load(&T.seen->ns[i]) > last ? atomic_load(&T.seen->ns[i]) : last;
    return n / ((double)(last - start) / 1e9);
}

static void throughput(void)
{
    enum { ROUNDS = 3 };
    double ours[ROUNDS], theirs[ROUNDS];
    for (int i = 0; i < ROUNDS; i++) {
        printf("alert: %d alerts as fast as they go, and %d by Alertmanager...\n", MANY, MANY_AM);
        fflush(stdout);
        theirs[i] = many(true, MANY_AM);
        ours[i] = many(false, MANY);
        turn(500);
    }
    double their = bench_percentile(theirs, ROUNDS, 50), our = bench_percentile(ours, ROUNDS, 50);
    /* The bound is on the inverse: at least three times as many. */
    bench_row(T.b, "alert: time per alert, many at once", "us", 1e6 / our, "Alertmanager, batches of 64", 1e6 / their,
              1 / 3.0);
    bench_row(T.b, "alert: told per second", "/s", our, "Alertmanager, batches of 64", their, 0);
    bench_row(T.b, "alert: memory after it", "MB", bench_rss(T.alert->pid) / 1e6, "Alertmanager",
              bench_rss(T.manager->pid) / 1e6, 0);
    bench_row(T.b, "alert: memory after it, limit", "MB", bench_rss(T.alert->pid) / 1e6, "limit", 32, 1);
}

static void on_stock(void *ctx, enum bus_status st, const struct bus_stock *stock)
{
    *(int64_t *)ctx = st == BUS_OK ? (int64_t)stock->messages : -1;
}

static int64_t parcels(void)
{
    int64_t n = -2;
    bus_counts(T.bus.b, STREAM_PARCELS, "nothing", 5000, NULL, on_stock, &n);
    while (n == -2)
        turn(2);
    return n;
}

/* To a channel where nobody listens; then somebody does. */
static void burst(void)
{
    harness_stop(T.manager);
    harness_stop(T.alert);
    harness_stop(T.receiver);
    uint64_t alerts = atomic_load(&T.seen->alerts);
    unsigned first = T.next;
    size_t stored = T.stored;
    printf("alert: a burst of %d to a dead channel...\n", BURST);
    fflush(stdout);
    harness_start(T.alert);
    int64_t end = clock_mono_ms() + LIMIT_MS;
    double worst = 0;
    for (unsigned sent = 0; T.stored - stored < BURST; turn(1)) {
        for (; sent < BURST && sent - (T.stored - stored) < AHEAD; sent++)
            raise_alert();
        double rss = bench_rss(T.alert->pid);
        worst = rss > worst ? rss : worst;
        if (clock_mono_ms() > end)
            give_up("burst", "was not taken by the stream in time");
    }
    int64_t waiting = 0;
    while (waiting < BURST) { /* every one of them is put by: the stream of alerts is free again */
        turn(100);
        waiting = parcels();
        double rss = bench_rss(T.alert->pid);
        worst = rss > worst ? rss : worst;
        if (clock_mono_ms() > end)
            give_up("burst", "was not put by in time");
    }
    harness_start(T.receiver);
    int64_t back = bench_ns();
    while (parcels() > 0) {
        turn(100);
        double rss = bench_rss(T.alert->pid);
        worst = rss > worst ? rss : worst;
        if (clock_mono_ms() > end + LIMIT_MS)
            give_up("burst", "was not told in time");
    }
    double told_s = (double)(bench_ns() - back) / 1e9;
    uint64_t digested = atomic_load(&T.seen->digested), single = 0;
    for (unsigned i = first; i < T.next; i++)
        single += atomic_load(&T.seen->ns[i]) != 0;
    printf("alert: %" PRIu64 " digests stand for %" PRIu64 "; %" PRIu64
           " alerts came by name; %.1f s after the channel was back\n",
           atomic_load(&T.seen->digests), digested, single, told_s);
    (void)alerts;
    bench_row(T.b, "alert: burst to a dead channel, in digests", "", (double)digested, "raised", BURST, 0);
    bench_row(T.b, "alert: burst, not told", "", digested >= BURST ? 0 : (double)(BURST - digested),
              "allowed: singles", 20, 1);
    bench_row(T.b, "alert: memory in the burst", "MB", worst / 1e6, "limit", 32, 1);
}

/* BENCH_ONLY=latency|throughput|burst: this part alone. */
static bool wanted(const char *part)
{
    const char *only = getenv("BENCH_ONLY");
    return !only || !*only || strcmp(only, part) == 0;
}

static void on_outbox_closed(void *ctx)
{
    *(bool *)ctx = true;
}

int main(int argc, char **argv)
{
    if (argc == 4 && strcmp(argv[1], "--receive") == 0)
        return receiver_main(argv + 2);
    ssize_t n = readlink("/proc/self/exe", T.self, sizeof T.self - 1);
    T.self[n > 0 ? n : 0] = 0;
    T.b = bench_open(argc, argv);
    start_stack();
    if (wanted("latency"))
        latency();
    if (wanted("throughput"))
        throughput();
    if (wanted("burst"))
        burst();
    bool closed = false;
    outbox_close(T.outbox, 5000, on_outbox_closed, &closed);
    while (!closed)
        turn(5);
    kit_close(&T.bus);
    int code = bench_close(T.b);
    close(T.manager_fd);
    harness_close(T.k->h);
    return code;
}
