/* test_breaker_away.c - Redis is killed, emptied, or hangs, under real agents: calls stop all the same, and nothing is doubled after it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "../harness.h"
#include "breaker/breaker.h"
#include "client/redoubt.h"
#include "common/clock.h"
#include "common/subjects.h"
#include "common/wire.h"
#include <inttypes.h>
#include <nats/nats.h>
#include <unistd.h>

enum { CHANGES_MAX = 512 };

static struct {
    struct harness *h;
    struct harness_proc *nats, *redis, *breaker;
    natsConnection *nc;
    natsSubscription *states, *alerts, *advice;
    redoubt *agent;
    PB(BreakerChanged) * seen[CHANGES_MAX];
    size_t n_seen;
    int raised, resolved, others; /* alerts: of the store, and any other */
    int advices;
    int64_t reported_ms;
} T;

/* ---- the stack ---- */

static enum redoubt_ack on_directive(void *ctx, const redoubt_directive *d, char detail[256])
{
    (void)ctx, (void)d, (void)detail;
    return REDOUBT_APPLIED;
}

static int set_up(void **state)
{
    (void)state;
    char self[400], program[512], config[600];
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    if (n <= 0)
        return -1;
    self[n] = 0;
    for (int up = 0; up < 3; up++)
        *strrchr(self, '/') = 0;
    snprintf(program, sizeof program, "%s/bin/redoubt-breaker", self);
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
    fprintf(
        f,
        "nats: { url: \"%s\" }\nredis: { host: 127.0.0.1, port: %d }\ndata_dir: %s/data\ntilt_hold: 1s\ntargets:\n",
        T.nats->url, T.redis->port, harness_dir(T.h));
    static const char *const targets[] = {"t.killed", "t.hung", "t.blip"};
    for (size_t i = 0; i < sizeof targets / sizeof targets[0]; i++)
        fprintf(f,
                "  - name: %s\n    kind: llm\n    breaker: { window: 3s, min_calls: 10, consecutive: 5, open: 1s, "
                "open_max: 2s, jitter: 0%%, permit: 700ms, ramp_step: 100ms }\n",
                targets[i]);
    fclose(f);
    assert_int_equal(natsConnection_ConnectTo(&T.nc, T.nats->url), NATS_OK);
    assert_int_equal(natsConnection_SubscribeSync(&T.states, T.nc, SUBJECT_BREAKER ">"), NATS_OK);
    assert_int_equal(natsConnection_SubscribeSync(&T.alerts, T.nc, SUBJECT_ALERT), NATS_OK);
    assert_int_equal(natsConnection_SubscribeSync(&T.advice, T.nc, SUBJECT_ADVICE ">"), NATS_OK);
    assert_int_equal(natsConnection_Flush(T.nc), NATS_OK);
    T.breaker = harness_run(T.h, "breaker", 0, (const char *[]){program, "-c", config, NULL});
    const redoubt_options o = {.url = T.nats->url, .agent = "mcp", .on_directive = on_directive};
    char error[256];
    T.agent = redoubt_open(&o, error);
    return T.agent ? 0 : -1;
}

static int tear_down(void **state)
{
    (void)state;
    redoubt_close(T.agent);
    int end = harness_stop(T.breaker);
    for (size_t i = 0; i < T.n_seen; i++)
        wire_free(T.seen[i]);
    natsSubscription_Destroy(T.states);
    natsSubscription_Destroy(T.alerts);
    natsSubscription_Destroy(T.advice);
    natsConnection_Destroy(T.nc);
    nats_Close();
    harness_close(T.h);
    return end;
}

/* ---- seeing ---- */

static natsMsg *next(natsSubscription *sub, int64_t wait_ms)
{
    natsMsg *m = NULL;
    return natsSubscription_NextMsg(&m, sub, wait_ms) == NATS_OK ? m : NULL;
}

static void *unpack(const ProtobufCMessageDescriptor *desc, natsMsg *m)
{
    struct err e;
    void *x = wire_unpack(desc, natsMsg_GetData(m), (size_t)natsMsg_GetDataLength(m), &e);
    if (!x)
        fail_msg("%s: %s", natsMsg_GetSubject(m), e.text);
    natsMsg_Destroy(m);
    return x;
}

/* Each epoch of a target is one document. */
static void take_in(int64_t wait_ms)
{
    for (natsMsg *m; (m = next(T.states, wait_ms)); wait_ms = 1) {
        PB(BreakerChanged) *b = unpack(PB_DESC(breaker_changed), m);
        for (size_t i = 0; i < T.n_seen; i++)
            if (strcmp(T.seen[i]->target, b->target) == 0 && T.seen[i]->epoch == b->epoch) {
                assert_int_equal(T.seen[i]->state, b->state);
                assert_int_equal(T.seen[i]->changed_unix_ms, b->changed_unix_ms);
            }
        assert_true(T.n_seen < CHANGES_MAX);
        T.seen[T.n_seen++] = b;
    }
    for (natsMsg *m; (m = next(T.alerts, 1));) {
        PB(Alert) *a = unpack(PB_DESC(alert), m);
        if (strcmp(a->dedup_key, "store/breaker") == 0)
            a->resolved ? T.resolved++ : T.raised++;
        else
            T.others++;
        wire_free(a);
    }
    for (natsMsg *m; (m = next(T.advice, 1)); T.advices++) {
        PB(BreakerAdvice) *a = unpack(PB_DESC(breaker_advice), m);
        assert_true(a->hold_ms > 0 && a->hold_ms <= 5000 && a->totals->failures > 0 && a->epoch > 0);
        wire_free(a);
    }
}

static const PB(BreakerChanged) * last(const char *target)
{
    const PB(BreakerChanged) *best = NULL;
    for (size_t i = 0; i < T.n_seen; i++)
        if (strcmp(T.seen[i]->target, target) == 0 && (!best || T.seen[i]->epoch > best->epoch))
            best = T.seen[i];
    return best;
}

static int state_of(const char *target)
{
    const PB(BreakerChanged) *b = last(target);
    return b ? (int)b->state : BREAKER_NONE;
}

/* Five calls of the agent's own, at most every 50 ms. */
static void calls(const char *target, enum redoubt_outcome how)
{
    int64_t now_ms = clock_mono_ms();
    if (now_ms - T.reported_ms < 50)
        return;
    T.reported_ms = now_ms;
    for (int i = 0; i < 5; i++)
        (void)redoubt_report(T.agent, target, &(redoubt_call){.outcome = how, .total_ms = 5});
}

static bool admitted(const char *target)
{
    redoubt_admission a = redoubt_admit(T.agent, target);
    if (a.permit_id) /* a trial: it fares well */
        (void)redoubt_report(T.agent, target, &(redoubt_call){.outcome = REDOUBT_SUCCESS, .permit_id = a.permit_id});
    return a.admitted;
}

#define UNTIL(condition, meanwhile)                                                                                  \
    do {                                                                                                             \
        int64_t end_ = clock_mono_ms() + HARNESS_WAIT_MS;                                                            \
        while (take_in(5), !(condition)) {                                                                           \
            meanwhile;                                                                                               \
            if (clock_mono_ms() > end_)                                                                              \
                fail_msg("waited in vain for: " #condition);                                                         \
        }                                                                                                            \
    } while (0)

static void nothing(void)
{
}

static int64_t cpu_ms(void)
{
    char path[64], line[1024] = "";
    unsigned long user = 0, system = 0;
    snprintf(path, sizeof path, "/proc/%d/stat", (int)T.breaker->pid);
    FILE *f = fopen(path, "r");
    assert_non_null(f);
    assert_non_null(fgets(line, sizeof line, f));
    fclose(f);
    const char *rest = strrchr(line, ')');
    assert_non_null(rest);
    assert_int_equal(sscanf(rest + 2, "%*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu", &user, &system), 2);
    return (int64_t)(user + system) * 1000 / sysconf(_SC_CLK_TCK);
}

static int64_t allow_took_ms(const char *target)
{
    struct err e;
    size_t len;
    PB(AllowRequest) r = PB_INIT(ALLOW_REQUEST);
    r.target = (char *)(uintptr_t)target;
    r.holder = "mcp";
    void *data = wire_pack(&r, &len, &e);
    natsMsg *m = NULL;
    int64_t from_ms = clock_mono_ms();
    assert_int_equal(natsConnection_Request(&m, T.nc, SUBJECT_CMD "breaker.allow", data, (int)len, HARNESS_WAIT_MS),
                     NATS_OK);
    int64_t took_ms = clock_mono_ms() - from_ms;
    natsMsg_Destroy(m);
    free(data);
    return took_ms;
}

/* ---- tests ---- */

static void ready(const char *target)
{
    UNTIL(state_of(target) == BREAKER_CLOSED && admitted(target), calls(target, REDOUBT_SUCCESS));
    for (int64_t end = clock_mono_ms() + 500; clock_mono_ms() < end; take_in(5)) /* until the window counts */
        calls(target, REDOUBT_SUCCESS);
    T.raised = T.resolved = T.others = T.advices = 0;
}

/* Down, and up again with nothing in it. Without shared state agents stop all the same; then it is one transition, not two. */
static void test_killed(void **unused)
{
    (void)unused;
    const char *t = "t.killed";
    ready(t);
    uint64_t epoch = last(t)->epoch;
    harness_kill(T.redis);
    UNTIL(!admitted(t), calls(t, REDOUBT_ERROR));
    assert_true(T.advices > 0);
    UNTIL(T.raised > 0, calls(t, REDOUBT_ERROR));
    /* It tries from time to time, and stops again. */
    UNTIL(admitted(t), nothing());
    UNTIL(!admitted(t), calls(t, REDOUBT_ERROR));
    assert_int_equal(last(t)->epoch, epoch); /* no epoch without shared state */
    assert_int_equal(T.raised, 1);
    assert_int_equal(T.others, 0);
    harness_start(T.redis);
    UNTIL(state_of(t) == BREAKER_OPEN, nothing());
    assert_int_equal(last(t)->epoch, epoch + 1);
    assert_false(admitted(t));
    UNTIL(T.resolved > 0, nothing());
    int advices = T.advices;
    UNTIL(state_of(t) == BREAKER_CLOSED && admitted(t), (admitted(t), calls(t, REDOUBT_SUCCESS)));
    assert_int_equal(T.advices, advices); /* it ended with the first word of the shared state */
    assert_int_equal(T.raised, 1);
    assert_int_equal(T.resolved, 1);
}

/* It takes connections and answers nothing: nobody waits for it. */
static void test_hung(void **unused)
{
    (void)unused;
    const char *t = "t.hung";
    ready(t);
    uint64_t epoch = last(t)->epoch;
    int64_t cpu = cpu_ms(), from_ms = clock_mono_ms(), longest_ms = 0;
    harness_freeze(T.redis);
    UNTIL(!admitted(t), {
        calls(t, REDOUBT_ERROR);
        int64_t took_ms = allow_took_ms(t);
        longest_ms = took_ms > longest_ms ? took_ms : longest_ms;
    });
    UNTIL(T.raised > 0, calls(t, REDOUBT_ERROR));
    assert_true(longest_ms < HARNESS_WAIT_MS / 2); /* it answers by what it knows */
    int64_t took_ms = clock_mono_ms() - from_ms;
    cpu = cpu_ms() - cpu;
    print_message("hung for %" PRId64 " ms: %" PRId64 " ms of CPU time, longest answer %" PRId64 " ms\n", took_ms,
                  cpu, longest_ms);
    assert_true(cpu < took_ms / 2); /* no busy loop */
    assert_int_equal(last(t)->epoch, epoch);
    harness_thaw(T.redis);
    UNTIL(state_of(t) == BREAKER_OPEN, nothing());
    assert_int_equal(last(t)->epoch, epoch + 1);
    UNTIL(T.resolved > 0, nothing());
    assert_int_equal(T.raised, 1);
    UNTIL(state_of(t) == BREAKER_CLOSED && admitted(t), (admitted(t), calls(t, REDOUBT_SUCCESS)));
}

/* Away and back many times in a row, while all is well: nothing changes, and nothing spins. */
static void test_blips(void **unused)
{
    (void)unused;
    const char *t = "t.blip";
    ready(t);
    uint64_t epoch = last(t)->epoch;
    int64_t cpu = cpu_ms(), from_ms = clock_mono_ms();
    for (int i = 0; i < 5; i++) {
        harness_kill(T.redis);
        for (int64_t end = clock_mono_ms() + 200; clock_mono_ms() < end; take_in(5))
            calls(t, REDOUBT_SUCCESS);
        harness_start(T.redis);
        for (int64_t end = clock_mono_ms() + 200; clock_mono_ms() < end; take_in(5))
            calls(t, REDOUBT_SUCCESS);
        assert_true(admitted(t));
    }
    int64_t took_ms = clock_mono_ms() - from_ms;
    cpu = cpu_ms() - cpu;
    print_message("blips for %" PRId64 " ms: %" PRId64 " ms of CPU time\n", took_ms, cpu);
    assert_true(cpu < took_ms / 2);
    assert_int_equal(last(t)->epoch, epoch);
    assert_int_equal(T.advices, 0);
    assert_int_equal(T.others, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_killed),
        cmocka_unit_test(test_hung),
        cmocka_unit_test(test_blips),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
