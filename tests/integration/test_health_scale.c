/* test_health_scale.c - redoubt-health with a thousand targets of which a hundred hang: the others are probed in time all the same. */
#include "../bench/http_server.h"
#include "../harness.h"
#include "common/subjects.h"
#include "common/wire.h"
#include <jansson.h>
#include <nats/nats.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

enum { TARGETS = 1000, EVERY = 10 /* one in so many hangs */, HANGING = TARGETS / EVERY, AT_ONCE = 128 };
enum { INTERVAL_MS = 5000, TIMEOUT_MS = 2000, OPEN_MAX = 4096 };
#define LIMIT_MS (9 * HARNESS_WAIT_MS)

/* Takes every connection and never says anything. */
struct tarpit {
    int fd, port;
    pthread_t thread;
    _Atomic bool ends;
    _Atomic unsigned most; /* connections open at the same time */
};
struct env {
    struct harness *h;
    struct harness_proc *nats, *redis, *server, *health;
    int server_port;
    struct http_server_counts *counts;
    struct tarpit tarpit;
    natsConnection *nc;
    natsSubscription *sub;
    _Atomic int verdicts[TARGETS];
    uint64_t wanted; /* requests at the server */
};

/* ---- the world ---- */

static void *sit_in_tarpit(void *ctx)
{
    struct tarpit *t = ctx;
    static struct pollfd fds[OPEN_MAX];
    unsigned n = 1;
    fds[0] = (struct pollfd){.fd = t->fd, .events = POLLIN};
    while (!atomic_load(&t->ends)) {
        if (poll(fds, n, 50) <= 0)
            continue;
        int fd;
        char buf[4096];
        while (n < OPEN_MAX && (fd = accept4(t->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0)
            fds[n++] = (struct pollfd){.fd = fd, .events = POLLIN};
        /* Who went before one of these came is seen to have gone now: nobody counts who was not there at the same time. */
        for (unsigned i = n - 1; i > 0; i--) {
            while (recv(fds[i].fd, buf, sizeof buf, 0) > 0) {
            }
            if (recv(fds[i].fd, buf, 1, 0) == 0 || (errno != EAGAIN && errno != EINTR)) {
                close(fds[i].fd);
                fds[i] = fds[--n];
            }
        }
        if (n - 1 > atomic_load(&t->most))
            atomic_store(&t->most, n - 1);
    }
    while (n > 1)
        close(fds[--n].fd);
    return NULL;
}

static void open_tarpit(struct tarpit *t)
{
    t->port = harness_free_port();
    struct sockaddr_in a = {
        .sin_family = AF_INET, .sin_port = htons((uint16_t)t->port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    t->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    setsockopt(t->fd, SOL_SOCKET, SO_REUSEADDR, &(int){1}, sizeof(int));
    assert_true(t->fd >= 0 && bind(t->fd, (struct sockaddr *)&a, sizeof a) == 0 && listen(t->fd, 1024) == 0);
    assert_int_equal(pthread_create(&t->thread, NULL, sit_in_tarpit, t), 0);
}

static void close_tarpit(struct tarpit *t)
{
    atomic_store(&t->ends, true);
    pthread_join(t->thread, NULL);
    close(t->fd);
}

static void on_verdict(natsConnection *nc, natsSubscription *sub, natsMsg *m, void *ctx)
{
    (void)nc, (void)sub;
    struct env *e = ctx;
    unsigned i;
    PB(HealthChanged) *v =
        wire_unpack(PB_DESC(health_changed), natsMsg_GetData(m), (size_t)natsMsg_GetDataLength(m), NULL);
    if (v && sscanf(v->target, "t%u", &i) == 1 && i < TARGETS)
        atomic_store(&e->verdicts[i], (int)v->state);
    wire_free(v);
    natsMsg_Destroy(m);
}

static bool hangs(unsigned i)
{
    return i % EVERY == 0;
}

static int64_t metric(struct env *e, const char *name)
{
    natsMsg *m = NULL;
    int64_t value = -1;
    if (natsConnection_Request(&m, e->nc, "$SRV.STATS.redoubt-health", "", 0, 1000) != NATS_OK)
        return -1;
    json_t *j = json_loadb(natsMsg_GetData(m), (size_t)natsMsg_GetDataLength(m), 0, NULL);
    json_t *v = json_object_get(json_object_get(json_array_get(json_object_get(j, "endpoints"), 0), "data"), name);
    if (json_is_integer(v))
        value = json_integer_value(v);
    json_decref(j);
    natsMsg_Destroy(m);
    return value;
}

static int setup(void **state)
{
    static struct env e;
    *state = &e;
    e.h = harness_open();
    e.nats = harness_nats(e.h, "nats", NULL);
    e.redis = harness_redis(e.h, "redis", NULL);
    open_tarpit(&e.tarpit);
    char path[600], counts[600], port[16], program[1024];
    ssize_t n = readlink("/proc/self/exe", program, sizeof program - 1);
    assert_true(n > 0);
    program[n] = 0;
    snprintf(counts, sizeof counts, "%s/counts", harness_dir(e.h));
    e.counts = http_server_counts(counts);
    e.server_port = harness_free_port();
    snprintf(port, sizeof port, "%d", e.server_port);
    e.server = harness_run(e.h, "server", 0, (const char *const[]){program, "--serve", counts, "1", port, NULL});
    snprintf(path, sizeof path, "%s/redoubt.yaml", harness_dir(e.h));
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fprintf(f,
            "nats: { url: \"%s\" }\nredis: { host: 127.0.0.1, port: %d }\ndata_dir: \"%s/data\"\n"
            "log: { level: error }\nhealth: { at_once: %d }\ntargets:\n",
            e.nats->url, e.redis->port, harness_dir(e.h), AT_ONCE);
    for (unsigned i = 0; i < TARGETS; i++) {
        char address[32] = "127.0.0.1";
        if (!hangs(i))
            http_server_address(0, address);
        fprintf(f,
                "  - { name: t%u, kind: other, probe: { type: http, url: \"http://%s:%d/%u\", interval: %dms, "
                "fast_interval: 1s, timeout: %dms } }\n",
                i, address, hangs(i) ? e.tarpit.port : e.server_port, i, INTERVAL_MS, TIMEOUT_MS);
    }
    fclose(f);
    assert_int_equal(natsConnection_ConnectTo(&e.nc, e.nats->url), NATS_OK);
    assert_int_equal(natsConnection_Subscribe(&e.sub, e.nc, SUBJECT_HEALTH ">", on_verdict, &e), NATS_OK);
    assert_int_equal(natsConnection_Flush(e.nc), NATS_OK);
    char *end = strstr(program, "/tests/");
    assert_non_null(end);
    snprintf(end, sizeof program - (size_t)(end - program), "/bin/redoubt-health");
    e.health = harness_run(e.h, "health", 0, (const char *const[]){program, "-c", path, NULL});
    return 0;
}

static int teardown(void **state)
{
    struct env *e = *state;
    natsSubscription_Destroy(e->sub);
    natsConnection_Destroy(e->nc);
    close_tarpit(&e->tarpit);
    harness_close(e->h);
    nats_Close();
    return 0;
}

/* ---- the tests ---- */

static bool all_judged(void *ctx)
{
    struct env *e = ctx;
    for (unsigned i = 0; i < TARGETS; i++)
        if (atomic_load(&e->verdicts[i]) != (hangs(i) ? REDOUBT__V1__HEALTH_STATE__HEALTH_STATE_UNHEALTHY
                                                      : REDOUBT__V1__HEALTH_STATE__HEALTH_STATE_HEALTHY))
            return false;
    return true;
}

static bool requests_came(void *ctx)
{
    struct env *e = ctx;
    assert_true(harness_alive(e->health));
    return atomic_load(&e->counts->requests[0]) >= e->wanted;
}

static bool never_judged_ill(const struct env *e)
{
    for (unsigned i = 0; i < TARGETS; i++)
        if (!hangs(i) && atomic_load(&e->verdicts[i]) != REDOUBT__V1__HEALTH_STATE__HEALTH_STATE_HEALTHY)
            return false;
    return true;
}

static void test_who_hangs_delays_nobody(void **state)
{
    struct env *e = *state;
    assert_true(harness_until(all_judged, e, LIMIT_MS));
    /* From here on four intervals' worth of probes; twice the time is allowed. */
    e->wanted = atomic_load(&e->counts->requests[0]) + 4 * (TARGETS - HANGING);
    assert_true(harness_until(requests_came, e, 2 * 4 * INTERVAL_MS));
    assert_true(never_judged_ill(e));
    assert_true(metric(e, "redoubt_probe_lateness_p99_ms") >= 0);
    assert_in_range(metric(e, "redoubt_probe_lateness_p50_ms"), 0, INTERVAL_MS / 2);
    assert_in_range(atomic_load(&e->tarpit.most), 1, AT_ONCE);
    assert_in_range(metric(e, "redoubt_probes_under_way"), 0, AT_ONCE);
    assert_true(metric(e, "redoubt_verdicts_total") >= TARGETS);
}

/* Reports of pings, which the breaker leaves out of account, are told only when they are news. */
static void test_no_report_for_each_ping(void **state)
{
    struct env *e = *state;
    int64_t reports = metric(e, "redoubt_probe_reports_total"), probes = metric(e, "redoubt_probes_total");
    assert_true(reports >= TARGETS - HANGING);
    assert_true(probes > 4 * TARGETS && reports < 2 * TARGETS);
}

int main(int argc, char **argv)
{
    if (argc == 5 && strcmp(argv[1], "--serve") == 0)
        return http_server_main(argc - 2, argv + 2);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_who_hangs_delays_nobody),
        cmocka_unit_test(test_no_report_for_each_ping),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
