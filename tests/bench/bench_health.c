/* bench_health.c - what a probe costs redoubt-health, beside bare libcurl and HAProxy's check; and 10,000 targets on one replica.
 *
 * Costs are CPU time of the process per request that the server counted. All that is compared runs at the same time, at the same
 * rate, against the same server, so that a busy machine burdens all alike; each figure is the median of several windows. */
#include "../harness.h"
#include "bench.h"
#include "http_prober.h"
#include "http_server.h"
#include <jansson.h>
#include <nats/nats.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { TARGETS = 200, EVERY_MS = 100, WINDOWS = 5, WINDOW_MS = 2000, SETTLE_MS = 6000 };
enum { MANY = 10000, MANY_EVERY_S = 10, MANY_SETTLE_MS = 25000, MANY_WINDOWS = 2, LATENESS_MS = 10000 };

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

static const char *self(void)
{
    static char path[1024];
    ssize_t n = readlink("/proc/self/exe", path, sizeof path - 1);
    path[n > 0 ? n : 0] = 0;
    return path;
}

/* ---- the world ---- */

/* Ports of the server: each prober has its own, so that each one's requests are counted. */
enum port { BARE, OURS, PEER, BARE_FRESH, OURS_FRESH, PORTS };
struct world {
    struct bench *b;
    struct harness *h;
    struct harness_proc *nats, *redis;
    struct http_server_counts *counts;
    int ports[PORTS];
};

static void open_server(struct world *w, unsigned addresses)
{
    char counts[300], n[16], ports[PORTS][16];
    const char *argv[5 + PORTS + 1] = {self(), "--serve", counts, n};
    snprintf(counts, sizeof counts, "%s/counts", harness_dir(w->h));
    snprintf(n, sizeof n, "%u", addresses);
    for (int i = 0; i < PORTS; i++) {
        w->ports[i] = harness_free_port();
        snprintf(ports[i], sizeof ports[i], "%s%d", i == BARE_FRESH || i == OURS_FRESH ? "-" : "", w->ports[i]);
        argv[4 + i] = ports[i];
    }
    w->counts = http_server_counts(counts);
    harness_run(w->h, "server", 0, argv);
    nap(300);
}

static struct world open_world(struct bench *b, unsigned addresses)
{
    struct world w = {.b = b, .h = harness_open()};
    w.nats = harness_nats(w.h, "nats", NULL);
    w.redis = harness_redis(w.h, "redis", NULL);
    open_server(&w, addresses);
    return w;
}

/* Settings of `n` targets with a probe each. Anchors keep the file short, as they would a person's. */
static const char *write_settings(struct world *w, const char *name, unsigned n, unsigned addresses, int port,
                                  const char *every)
{
    static char path[600];
    char address[32];
    snprintf(path, sizeof path, "%s/%s.yaml", harness_dir(w->h), name);
    FILE *f = fopen(path, "w");
    if (!f)
        fail(path, "cannot be written");
    fprintf(
        f,
        "nats: { url: \"%s\" }\nredis: { host: 127.0.0.1, port: %d }\ndata_dir: %s/data-%s\nlog: { level: warn }\n"
        "targets:\n",
        w->nats ? w->nats->url : "nats://127.0.0.1:4222", w->redis ? w->redis->port : 6379, harness_dir(w->h), name);
    for (unsigned i = 0; i < n; i++)
        fprintf(
            f,
            "  - { name: site.t%u, kind: other, probe: { type: http, url: \"http://%s:%d/%s%u\", interval: %s } }\n",
            i, http_server_address(i % addresses, address), port, "healthz?", i, every);
    fclose(f);
    return path;
}

static struct harness_proc *start_health(struct world *w, const char *name, const char *config)
{
    return harness_run(w->h, name, 0, (const char *[]){bench_program(w->b, "redoubt-health"), "-c", config, NULL});
}

static struct harness_proc *start_bare(struct world *w, const char *name, enum port port)
{
    char n[16], every[16], at[16];
    snprintf(n, sizeof n, "%d", TARGETS);
    snprintf(every, sizeof every, "%d", EVERY_MS);
    snprintf(at, sizeof at, "%d", w->ports[port]);
    return harness_run(w->h, name, 0, (const char *[]){self(), "--probe", n, every, at, NULL});
}

static struct harness_proc *start_haproxy(struct world *w)
{
    char path[600], address[32];
    int port = harness_free_port();
    snprintf(path, sizeof path, "%s/haproxy.cfg", harness_dir(w->h));
    FILE *f = fopen(path, "w");
    if (!f)
        fail(path, "cannot be written");
    fprintf(f,
            "global\n  maxconn 100\ndefaults\n  mode http\n  timeout connect 5s\n  timeout client 5s\n  timeout "
            "server 5s\n"
            "frontend f\n  bind 127.0.0.1:%d\n  default_backend b\nbackend b\n  option httpchk GET /healthz\n",
            port);
    for (unsigned i = 0; i < TARGETS; i++)
        fprintf(f, "  server s%u %s:%d check inter %dms\n", i, http_server_address(i, address), w->ports[PEER],
                EVERY_MS);
    fclose(f);
    return harness_run(w->h, "haproxy", port, (const char *[]){"haproxy", "-db", "-f", path, NULL});
}

/* ---- the cost of a probe ---- */

struct measured {
    struct harness_proc *p;
    enum port port;
    double us[WINDOWS], per_s[WINDOWS];
    double cpu;
    uint64_t requests;
};

static void measure(struct world *w, struct measured *m, size_t n)
{
    for (int k = 0; k < WINDOWS; k++) {
        int64_t start = bench_ns();
        for (size_t i = 0; i < n; i++) {
            m[i].cpu = bench_cpu_s(m[i].p->pid);
            m[i].requests = atomic_load(&w->counts->requests[m[i].port]);
        }
        nap(WINDOW_MS);
        for (size_t i = 0; i < n; i++) {
            if (!harness_alive(m[i].p))
                fail(m[i].p->name, "has ended");
            uint64_t probes = atomic_load(&w->counts->requests[m[i].port]) - m[i].requests;
            if (probes == 0)
                fail(m[i].p->name, "probed nothing");
            m[i].us[k] = (bench_cpu_s(m[i].p->pid) - m[i].cpu) * 1e6 / (double)probes;
            m[i].per_s[k] = (double)probes * 1e9 / (double)(bench_ns() - start);
        }
    }
    for (size_t i = 0; i < n; i++)
        printf("  %-14s %6.0f probes/s, %6.1f us each, %5.1f MB\n", m[i].p->name,
               bench_percentile(m[i].per_s, WINDOWS, 50), bench_percentile(m[i].us, WINDOWS, 50),
               bench_rss(m[i].p->pid) / 1e6);
    fflush(stdout);
}

static double cost(struct measured *m)
{
    return bench_percentile(m->us, WINDOWS, 50);
}

static void measure_kept(struct world *w)
{
    struct measured m[] = {
        {.p = start_bare(w, "libcurl", BARE), .port = BARE},
        {.p = start_health(w, "health", write_settings(w, "kept", TARGETS, TARGETS, w->ports[OURS], "100ms")),
         .port = OURS},
        {.p = start_haproxy(w), .port = PEER},
    };
    printf("kept connections: %d targets each, every %d ms...\n", TARGETS, EVERY_MS);
    fflush(stdout);
    nap(SETTLE_MS);
    measure(w, m, 3);
    bench_row(w->b, "HTTP probe, kept connection, CPU", "us", cost(&m[1]), "bare libcurl multi on libuv", cost(&m[0]),
              1.5);
    bench_row(w->b, "HTTP probe, kept connection, CPU vs. a peer", "us", cost(&m[1]), "HAProxy check", cost(&m[2]),
              1);
    for (size_t i = 0; i < 3; i++)
        harness_stop(m[i].p);
}

static void measure_fresh(struct world *w)
{
    struct measured m[] = {
        {.p = start_bare(w, "libcurl-fresh", BARE_FRESH), .port = BARE_FRESH},
        {.p = start_health(w, "health-fresh",
                           write_settings(w, "fresh", TARGETS, TARGETS, w->ports[OURS_FRESH], "100ms")),
         .port = OURS_FRESH},
    };
    printf("fresh connections: %d targets each, every %d ms...\n", TARGETS, EVERY_MS);
    fflush(stdout);
    nap(SETTLE_MS);
    measure(w, m, 2);
    bench_row(w->b, "HTTP probe, fresh connection, CPU", "us", cost(&m[1]), "bare libcurl multi on libuv",
              cost(&m[0]), 1.5);
    for (size_t i = 0; i < 2; i++)
        harness_stop(m[i].p);
}

/* ---- many targets ---- */

/* A metric of a running service, by NATS' own service protocol. */
static double metric(struct world *w, const char *name)
{
    natsConnection *nc = NULL;
    natsMsg *m = NULL;
    double value = -1;
    if (natsConnection_ConnectTo(&nc, w->nats->url) != NATS_OK ||
        natsConnection_Request(&m, nc, "$SRV.STATS.redoubt-health", "", 0, 5000) != NATS_OK)
        fail("metrics", "no answer");
    json_t *j = json_loadb(natsMsg_GetData(m), (size_t)natsMsg_GetDataLength(m), 0, NULL);
    json_t *data = json_object_get(json_array_get(json_object_get(j, "endpoints"), 0), "data");
    if (json_is_number(json_object_get(data, name)))
        value = json_number_value(json_object_get(data, name));
    json_decref(j);
    natsMsg_Destroy(m);
    natsConnection_Destroy(nc);
    return value;
}

static void measure_many(struct bench *b)
{
    struct world w = open_world(b, TARGETS);
    char every[16];
    snprintf(every, sizeof every, "%ds", MANY_EVERY_S);
    struct harness_proc *p =
        start_health(&w, "many", write_settings(&w, "many", MANY, TARGETS, w.ports[OURS], every));
    printf("many: %d targets every %d s...\n", MANY, MANY_EVERY_S);
    fflush(stdout);
    nap(LATENESS_MS + 4000);
    double at_start = metric(&w, "redoubt_probe_lateness_p99_ms");
    nap(MANY_SETTLE_MS - LATENESS_MS - 4000);
    double p99[MANY_WINDOWS], rss = 0;
    double cpu = bench_cpu_s(p->pid);
    uint64_t before = atomic_load(&w.counts->requests[OURS]);
    for (int i = 0; i < MANY_WINDOWS; i++) {
        nap(LATENESS_MS);
        p99[i] = metric(&w, "redoubt_probe_lateness_p99_ms");
        double now = bench_rss(p->pid);
        rss = now > rss ? now : rss;
    }
    cpu = bench_cpu_s(p->pid) - cpu;
    double probes = (double)(atomic_load(&w.counts->requests[OURS]) - before);
    double announced = metric(&w, "redoubt_verdicts_total");
    printf("  %.0f probes/s, %.1f us CPU each, %.0f of %d announced\n", probes * 1000 / (MANY_WINDOWS * LATENESS_MS),
           cpu * 1e6 / probes, announced, MANY);
    if (announced < MANY)
        fail("many", "not every target has a verdict");
    bench_row(b, "10,000 targets, lateness of probes, p99", "ms", bench_percentile(p99, MANY_WINDOWS, 50), "limit",
              50, 1);
    bench_row(b, "10,000 targets, the same in the first 10 s", "ms", at_start, "limit", 50, 1);
    bench_row(b, "10,000 targets, memory", "MB", rss / 1e6, "limit", 64, 1);
    bench_row(b, "10,000 targets, CPU of one core", "%", cpu * 1e5 / (MANY_WINDOWS * LATENESS_MS), "one core", 100,
              0);
    harness_close(w.h);
}

/* ---- settings ---- */

static void measure_settings(struct bench *b, unsigned n, double limit_s)
{
    struct world w = {.b = b, .h = harness_open()};
    const char *config = write_settings(&w, "big", n, TARGETS, 80, "10s");
    char name[96];
    struct rusage use;
    int status;
    pid_t pid = fork();
    if (pid == 0) {
        execl(bench_program(b, "redoubt-health"), "redoubt-health", "-c", config, "--check", (char *)NULL);
        _exit(127);
    }
    if (pid < 0 || wait4(pid, &status, 0, &use) != pid || status != 0)
        fail("settings", "are refused");
    double cpu = (double)(use.ru_utime.tv_sec + use.ru_stime.tv_sec) +
                 (double)(use.ru_utime.tv_usec + use.ru_stime.tv_usec) / 1e6;
    snprintf(name, sizeof name, "settings of %u targets, load and check, CPU", n);
    bench_row(b, name, "s", cpu, "limit", limit_s, 1);
    printf("settings of %u targets: %.1f MB at most while loading\n", n, (double)use.ru_maxrss / 1e3);
    harness_close(w.h);
}

int main(int argc, char **argv)
{
    if (argc > 4 && strcmp(argv[1], "--serve") == 0)
        return http_server_main(argc - 2, argv + 2);
    if (argc == 5 && strcmp(argv[1], "--probe") == 0)
        return http_prober_main(argv + 2);
    struct bench *b = bench_open(argc, argv);
    struct world w = open_world(b, TARGETS);
    measure_kept(&w);
    measure_fresh(&w);
    harness_close(w.h);
    measure_many(b);
    measure_settings(b, 10000, 1);
    measure_settings(b, 100000, 10);
    int code = bench_close(b);
    nats_Close();
    return code;
}
