/* test_fallback_waves.c - a fleet whose primary fails: the backup takes it in by waves, never faster than its rate, never more than its cap.
 *
 * redoubt-fallback is two processes on a real NATS and Redis, which share rate and cap; the test plays the breakers and counts directives. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "../harness.h"
#include "common/clock.h"
#include "common/partition.h"
#include "common/subjects.h"
#include "common/wire.h"
#include <hiredis/hiredis.h>
#include <inttypes.h>
#include <nats/nats.h>
#include <unistd.h>

#define E(x)   REDOUBT__V1__##x
#define AGENTS 200
enum { RATE = 50, WAVE = 10, CAP = 120 };

/* Where an agent is by its last directive, and when that was issued. */
struct at {
    uint64_t epoch;
    char llm[32];
    bool waiting;
    int posture;
    int64_t moved_ms; /* issued that sent it to the backup; 0 = never */
};
static struct {
    struct harness *h;
    struct harness_proc *nats, *redis, *fallback[2];
    natsConnection *nc;
    natsSubscription *directives;
    struct at at[AGENTS];
    uint64_t epoch;
    size_t waited;
} T;

static void breaker(const char *target, bool open)
{
    char subject[SUBJECT_MAX_LEN];
    struct err e;
    size_t len;
    snprintf(subject, sizeof subject, SUBJECT_BREAKER "%s", target);
    PB(BreakerChanged) b = PB_INIT(BREAKER_CHANGED);
    b.target = (char *)target;
    b.epoch = ++T.epoch;
    b.state = open ? E(BREAKER_STATE__BREAKER_STATE_OPEN) : E(BREAKER_STATE__BREAKER_STATE_CLOSED);
    b.ramp_percent = open ? 0 : 100;
    b.since_unix_ms = b.changed_unix_ms = clock_wall_ms();
    void *data = wire_pack(&b, &len, &e);
    assert_non_null(data);
    assert_int_equal(natsConnection_Publish(T.nc, subject, data, (int)len), NATS_OK);
    free(data);
    assert_int_equal(natsConnection_Flush(T.nc), NATS_OK);
}

static void take_in(void)
{
    natsMsg *m = NULL;
    while (natsSubscription_NextMsg(&m, T.directives, 1) == NATS_OK) {
        struct err e;
        PB(Directive) *d = wire_unpack(PB_DESC(directive), natsMsg_GetData(m), (size_t)natsMsg_GetDataLength(m), &e);
        natsMsg_Destroy(m);
        assert_non_null(d);
        unsigned i = 0;
        assert_int_equal(sscanf(d->state->agent, "w-%u", &i), 1);
        assert_true(i < AGENTS);
        struct at *x = &T.at[i];
        if (d->state->epoch > x->epoch) {
            bool backup = strcmp(d->state->llm_target, "backup") == 0;
            if (backup && strcmp(x->llm, "backup") != 0)
                x->moved_ms = d->issued_unix_ms;
            T.waited += d->state->llm_waiting && !x->waiting;
            x->epoch = d->state->epoch;
            x->waiting = d->state->llm_waiting;
            x->posture = (int)d->state->posture;
            snprintf(x->llm, sizeof x->llm, "%s", d->state->llm_target);
        }
        wire_free(d);
    }
}

static size_t on(const char *llm)
{
    size_t n = 0;
    take_in();
    for (size_t i = 0; i < AGENTS; i++)
        n += T.at[i].epoch > 0 && strcmp(T.at[i].llm, llm) == 0;
    return n;
}

#define WAIT(condition)                                                                                              \
    do {                                                                                                             \
        int64_t end_ = clock_mono_ms() + 3 * HARNESS_WAIT_MS;                                                        \
        while (!(condition))                                                                                         \
            if (clock_mono_ms() > end_)                                                                              \
                fail_msg("waited in vain for: %s; primary %zu, backup %zu, last %zu", #condition, on("primary"),     \
                         on("backup"), on("last"));                                                                  \
    } while (0)

static int by_time(const void *a, const void *b)
{
    const int64_t *x = a, *y = b;
    return (*x > *y) - (*x < *y);
}

/* In no stretch of time more than a wave and the rate for as long as it lasts. */
static void never_faster_than_allowed(void)
{
    int64_t moved[AGENTS];
    size_t n = 0;
    for (size_t i = 0; i < AGENTS; i++)
        if (T.at[i].moved_ms > 0)
            moved[n++] = T.at[i].moved_ms;
    qsort(moved, n, sizeof *moved, by_time);
    for (size_t i = 0; i < n; i++)
        for (size_t k = i; k < n; k++) /* the stamps are whole milliseconds of another clock call: 2 ms of doubt */
            if ((int64_t)(k - i + 1) > WAVE + 2 + RATE * (moved[k] - moved[i] + 2) / 1000)
                fail_msg("%zu agents were moved within %" PRId64 " ms", k - i + 1, moved[k] - moved[i]);
}

/* Every partition has a holder, and both replicas have some. */
static bool both_share(void)
{
    int n[2] = {0};
    redisContext *r = redisConnect("127.0.0.1", T.redis->port);
    assert_true(r && !r->err);
    for (int p = 0; p < PARTITIONS; p++) {
        redisReply *x = redisCommand(r, "GET redoubt:{lease:fallback-%d}", p);
        if (x && x->type == REDIS_REPLY_STRING)
            n[strstr(x->str, "fallback-1") != NULL]++;
        freeReplyObject(x);
    }
    redisFree(r);
    usleep(20000);
    return n[0] > 0 && n[1] > 0 && n[0] + n[1] == PARTITIONS;
}

static int set_up(void **state)
{
    (void)state;
    char self[400], config[600], program[512];
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    if (n <= 0)
        return -1;
    self[n] = 0;
    for (int up = 0; up < 3; up++)
        *strrchr(self, '/') = 0;
    snprintf(program, sizeof program, "%s/bin/redoubt-fallback", self);
    if (access(program, X_OK) != 0) {
        fprintf(stderr, "%s is not built: run `make all` first\n", program);
        return -1;
    }
    T.h = harness_open();
    T.nats = harness_nats(T.h, "nats", NULL);
    T.redis = harness_redis(T.h, "redis", NULL);
    snprintf(config, sizeof config, "%s/redoubt.yaml", harness_dir(T.h));
    FILE *f = fopen(config, "w");
    assert_non_null(f);
    fprintf(f,
            "nats: { url: \"%s\" }\nredis: { host: 127.0.0.1, port: %d }\ndata_dir: %s/data\ntilt_hold: 1s\n"
            "fallback: { lease_ttl: 1s }\ntargets:\n"
            "  - { name: primary, kind: llm }\n"
            "  - { name: backup, kind: llm, intake: { rate: %d, wave: %d, cap: %d } }\n"
            "  - { name: narrow, kind: llm }\n"
            "  - { name: last, kind: llm }\nagents:\n",
            T.nats->url, T.redis->port, harness_dir(T.h), RATE, WAVE, CAP);
    /* `narrow` is unfit for all of them: it must never be used. */
    for (int i = 0; i < AGENTS; i++)
        fprintf(f,
                "  - name: w-%d\n    needs: { context: 32000, tools: openai, residency: [ eu, ch ] }\n    chain:\n"
                "      - { target: primary, context: 128000, tools: openai, residency: eu }\n"
                "      - { target: backup, context: 32000, tools: openai, residency: ch }\n"
                "      - { target: narrow, context: 8000, tools: openai, residency: eu }\n"
                "      - { target: last, context: 64000, tools: openai, residency: eu }\n"
                "    ack: 1m\n    ack_alert: 1h\n    restore_hold: 100ms\n",
                i);
    fclose(f);
    assert_int_equal(natsConnection_ConnectTo(&T.nc, T.nats->url), NATS_OK);
    assert_int_equal(natsConnection_SubscribeSync(&T.directives, T.nc, SUBJECT_DIRECTIVE "*"), NATS_OK);
    assert_int_equal(natsConnection_Flush(T.nc), NATS_OK);
    const char *argv[] = {program, "-c", config, NULL};
    T.fallback[0] = harness_run(T.h, "fallback-0", 0, argv);
    T.fallback[1] = harness_run(T.h, "fallback-1", 0, argv);
    WAIT(on("primary") == AGENTS);
    WAIT(both_share());
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    int end = harness_stop(T.fallback[0]) | harness_stop(T.fallback[1]);
    natsSubscription_Destroy(T.directives);
    natsConnection_Destroy(T.nc);
    nats_Close();
    harness_close(T.h);
    return end == 0 ? 0 : -1;
}

static void a_fleet_moves_by_waves(void **state)
{
    (void)state;
    int64_t began_ms = clock_mono_ms();
    breaker("primary", true);
    WAIT(on("backup") + on("last") == AGENTS);
    assert_true(on("backup") <= CAP &&
                on("backup") >= CAP * 3 / 4); /* a replica may have fewer agents than its part of the cap */
    assert_int_equal(on("narrow"), 0);
    assert_true(T.waited >= AGENTS - WAVE - RATE); /* most of them had to */
    assert_true(clock_mono_ms() - began_ms >= (CAP * 3 / 4 - WAVE) * 1000 / RATE - 100);
    never_faster_than_allowed();
    for (size_t i = 0; i < AGENTS; i++)
        assert_int_equal(T.at[i].posture, E(POSTURE__POSTURE_BACKUP_LLM));
}

/* The last model fails as well: the backup is full, so those who were there have none. When an agent leaves the backup there is room again. */
static void the_cap_holds_and_room_is_used(void **state)
{
    (void)state;
    size_t most = on("backup");
    breaker("last", true);
    WAIT(on("") == AGENTS - most);
    assert_int_equal(on("backup"), most);
    for (size_t i = 0; i < AGENTS; i++)
        if (!*T.at[i].llm)
            assert_int_equal(T.at[i].posture, E(POSTURE__POSTURE_SECURITY_FALLBACK));
    breaker("primary", false);
    WAIT(on("primary") == AGENTS);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_fleet_moves_by_waves),
        cmocka_unit_test(the_cap_holds_and_room_is_used),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
