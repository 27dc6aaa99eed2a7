/* test_common_share.c - what a small service does with its share of the partitions and says of the shared state, on a real NATS and Redis: the test program
 * itself started again. Leases last longer than any wait here, so whatever changes hands was given back. */
#include "bus_kit.h"

#include "common/share.h"
#include "common/store_trouble.h"
#include "common/wire.h"
#include <unistd.h>

#define SEEN       "test.share."
#define LEASE_MS   60000
#define MEMBER_MS  1000
#define TICK_MS    50
#define LOG_EVENT  "acting for a share of the parcels"
#define KEY        "carrier/shared-state"
#define QUIET_MS   1000 /* for Redis to be away without an alert */
#define ALERT_MS   2000 /* for one */
#define ALERTS_MAX 8

/* ---- the service ---- */

METRIC_DEFINE(held_now, METRIC_GAUGE, "redoubt_carrier_partitions", "Partitions that this replica acts for.");

static const char *my_name;
static struct carrier {
    struct partitions *partitions;
    struct share_said said;
    struct store_trouble trouble;
    unsigned held; /* by on_held and on_lost */
} C;

static void on_held(void *ctx, unsigned partition, uint64_t fence)
{
    struct carrier *c = ctx;
    if (partition < PARTITIONS && fence > 0)
        c->held++;
}

static void on_lost(void *ctx, unsigned partition)
{
    struct carrier *c = ctx;
    (void)partition;
    c->held--;
}

static void on_store_up(struct service *s)
{
    share_take(
        s, &C.partitions,
        (struct partition_opts){
            .lease_ttl_ms = LEASE_MS, .member_ttl_ms = MEMBER_MS, .on_held = on_held, .on_lost = on_lost, .ctx = &C},
        "no partitions");
}

static void tick(struct service *s)
{
    char subject[64], text[64];
    share_say(C.partitions, &C.said, &held_now, LOG_EVENT);
    store_trouble_now(s, &C.trouble, !store_up(s->store), clock_mono_ms(), "parcels wait");
    snprintf(subject, sizeof subject, SEEN "%s", my_name);
    snprintf(text, sizeof text, "%u %d", C.held, (int)metric_get(&held_now));
    struct bus_out o = {.subject = subject, .data = text, .len = strlen(text)};
    (void)bus_publish(s->bus, &o, NULL);
}

static int start(struct service *s, struct err *e)
{
    (void)e;
    s->state = &C;
    return 0;
}

static void drain(struct service *s)
{
    share_give_back(s, &C.partitions);
}

static void stop(struct service *s)
{
    s->state = NULL;
}

static int carrier_main(int argc, char **argv)
{
    static const struct service_timer timers[] = {{TICK_MS, tick}};
    static const struct service_desc desc = {.name = "carrier",
                                             .description = "carries parcels",
                                             .needs = SERVICE_STORE | SERVICE_OUTBOX,
                                             SERVICE_TABLE(timers),
                                             .start = start,
                                             .on_store_up = on_store_up,
                                             .drain = drain,
                                             .stop = stop};
    return service_main(argc, argv, &desc);
}

/* ---- the test ---- */

static struct {
    struct kit *k;
    struct kit_bus bus;
    struct harness_proc *redis, *carrier[2];
    struct kit_box seen[2];
    PB(Alert) * alert[ALERTS_MAX];
    size_t alerts;
} T;

static void on_alert(void *ctx, const struct bus_msg *m)
{
    (void)ctx;
    assert_true(T.alerts < ALERTS_MAX);
    T.alert[T.alerts] = wire_unpack(PB_DESC(alert), m->data, m->len, NULL);
    assert_non_null(T.alert[T.alerts]);
    T.alerts++;
}

static int set_up(void **state)
{
    static const char *const names[] = {"one", "two"};
    char self[512] = "", config[600];
    if (kit_setup(state))
        return -1;
    memset(&T, 0, sizeof T);
    T.k = *state;
    assert_true(readlink("/proc/self/exe", self, sizeof self - 1) > 0);
    harness_start(T.k->nats);
    T.redis = harness_redis_later(T.k->h, "redis", NULL);
    snprintf(config, sizeof config, "%s/carrier.yaml", harness_dir(T.k->h));
    FILE *f = fopen(config, "w");
    assert_non_null(f);
    fprintf(f, "nats: { url: \"%s\" }\nredis: { host: 127.0.0.1, port: %d }\ndata_dir: %s/data\n", T.k->nats->url,
            T.redis->port, harness_dir(T.k->h));
    fclose(f);
    kit_open_up(T.k, &T.bus);
    bus_subscribe(T.bus.b, SUBJECT_ALERT, NULL, on_alert, NULL);
    for (int i = 0; i < 2; i++) {
        const char *argv[] = {self, "--carrier", names[i], "-c", config, NULL};
        char subject[64];
        snprintf(subject, sizeof subject, SEEN "%s", names[i]);
        bus_subscribe(T.bus.b, subject, NULL, kit_box, &T.seen[i]);
        T.carrier[i] = harness_run_later(T.k->h, names[i], 0, argv);
    }
    return 0;
}

static int tear_down(void **state)
{
    kit_close(&T.bus);
    for (size_t i = 0; i < T.alerts; i++)
        wire_free(T.alert[i]);
    return kit_teardown(state);
}

/* How many partitions it acts for, as it last said; -1 if what it was told of and the metric differ still. */
static int held(int i)
{
    unsigned told = 0;
    int metric = -1;
    return sscanf(T.seen[i].data, "%u %d", &told, &metric) == 2 && (int)told == metric ? metric : -1;
}

static int lines(int i, const char *text)
{
    char path[700], line[4096];
    int n = 0;
    snprintf(path, sizeof path, "%s/%s.log", harness_dir(T.k->h), T.carrier[i]->name);
    FILE *f = fopen(path, "r");
    assert_non_null(f);
    while (fgets(line, sizeof line, f))
        n += strstr(line, text) != NULL;
    fclose(f);
    return n;
}

static void turn_for(int64_t ms)
{
    for (int64_t end_ms = clock_mono_ms() + ms; clock_mono_ms() < end_ms;)
        kit_turn(T.k);
}

static void a_share_is_taken_told_and_given_back(void **state)
{
    (void)state;
    harness_start(T.redis);
    harness_start(T.carrier[0]);
    KIT_WAIT(T.k, held(0) == PARTITIONS);
    harness_start(T.carrier[1]);
    KIT_WAIT(T.k, held(0) > 0 && held(1) > 0 && held(0) + held(1) == PARTITIONS);
    int n = lines(1, LOG_EVENT), before = T.seen[1].n;
    assert_true(n > 0 && lines(0, LOG_EVENT) > 0);
    KIT_WAIT(T.k, T.seen[1].n >= before + 10);
    assert_in_range(lines(1, LOG_EVENT), n, n + 1); /* only what is new */
    assert_int_equal(harness_stop(T.carrier[0]), 0);
    KIT_WAIT(T.k, held(1) == PARTITIONS);
    assert_int_equal(harness_stop(T.carrier[1]), 0);
    assert_int_equal(T.alerts, 0);
}

static void who_never_had_one_ends_as_well(void **state)
{
    (void)state;
    harness_start(T.carrier[0]); /* there is no Redis */
    KIT_WAIT(T.k, T.seen[0].n > 0);
    assert_int_equal(held(0), 0);
    assert_int_equal(lines(0, LOG_EVENT), 0);
    assert_int_equal(harness_stop(T.carrier[0]), 0);
}

static void trouble_is_told_once_and_so_is_its_end(void **state)
{
    (void)state;
    harness_start(T.redis);
    harness_start(T.carrier[0]);
    KIT_WAIT(T.k, held(0) == PARTITIONS);
    harness_kill(T.redis);
    int64_t gone_ms = clock_mono_ms();
    turn_for(QUIET_MS);
    assert_int_equal(T.alerts, 0); /* a restart is no news */
    KIT_WAIT(T.k, T.alerts == 1);
    assert_true(clock_mono_ms() - gone_ms >= ALERT_MS);
    assert_string_equal(T.alert[0]->dedup_key, KEY);
    assert_string_equal(T.alert[0]->summary, "shared state (Redis) cannot be used by carrier: parcels wait");
    assert_int_equal(T.alert[0]->severity, REDOUBT__V1__SEVERITY__SEVERITY_HIGH);
    assert_false(T.alert[0]->resolved);
    assert_true(T.alert[0]->detail[0]);
    int before = T.seen[0].n;
    KIT_WAIT(T.k, T.seen[0].n >= before + 10);
    assert_int_equal(T.alerts, 1);
    harness_start(T.redis);
    KIT_WAIT(T.k, T.alerts == 2);
    assert_string_equal(T.alert[1]->dedup_key, KEY);
    assert_string_equal(T.alert[1]->summary, "shared state (Redis) can be used by carrier again");
    assert_true(T.alert[1]->resolved);
    KIT_WAIT(T.k, held(0) == PARTITIONS);
    assert_int_equal(harness_stop(T.carrier[0]), 0);
    assert_int_equal(T.alerts, 2);
}

int main(int argc, char **argv)
{
    if (argc > 2 && strcmp(argv[1], "--carrier") == 0) {
        my_name = argv[2];
        argv[2] = argv[0];
        return carrier_main(argc - 2, argv + 2);
    }
#define T_(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        T_(a_share_is_taken_told_and_given_back),
        T_(who_never_had_one_ends_as_well),
        T_(trouble_is_told_once_and_so_is_its_end),
    };
    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
