/* test_breaker_flow.c - the flow of reports through redoubt-breaker as a process: floods, summaries, batches, bad input. */
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
#include "common/clock.h"
#include "common/subjects.h"
#include "common/wire.h"
#include <inttypes.h>
#include <nats/nats.h>
#include <unistd.h>

#define RATE 50 /* reports per second of one reporter */
/* One target per test. `free` has no limit; `dear` and `plain` are told of in summaries, or not. */
static const char *const targets[] = {"t.loud", "t.hush",  "t.trial", "t.even", "t.free",
                                      "t.dear", "t.plain", "t.care",  "t.order"};

enum { SUCCESS = 1, ERROR = 2, IGNORED = 8 };

static struct {
    struct harness *h;
    struct harness_proc *nats, *redis, *breaker;
    natsConnection *nc;
    natsSubscription *states, *traffic, *alerts;
    uint64_t epoch[sizeof targets / sizeof targets[0]];
    PB(BreakerState) state[sizeof targets / sizeof targets[0]];
} T;

/* ---- the stack ---- */

static void write_settings(char path[600])
{
    snprintf(path, 600, "%s/redoubt.yaml", harness_dir(T.h));
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fprintf(f,
            "nats: { url: \"%s\" }\nredis: { host: 127.0.0.1, port: %d }\ndata_dir: %s/data\ntilt_hold: 1s\n"
            "targets:\n",
            T.nats->url, T.redis->port, harness_dir(T.h));
    for (size_t i = 0; i < sizeof targets / sizeof targets[0]; i++) {
        const char *name = targets[i] + 2;
        bool dear = strcmp(name, "dear") == 0;
        fprintf(
            f,
            "  - name: %s\n    kind: llm\n    breaker: { window: 10s, consecutive: 5, open: 300ms, open_max: 300ms, "
            "jitter: 0%%, ramp_step: 100ms, reporter_rate: %d }\n",
            targets[i], strcmp(name, "free") == 0 || dear ? 0 : RATE);
        if (dear)
            fprintf(f, "    probe: { type: llm, url: \"http://127.0.0.1:1/v1\", model: m }\n");
    }
    fclose(f);
}

static natsSubscription *listen_to(const char *subject)
{
    natsSubscription *s = NULL;
    assert_int_equal(natsConnection_SubscribeSync(&s, T.nc, subject), NATS_OK);
    return s;
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
    write_settings(config);
    assert_int_equal(natsConnection_ConnectTo(&T.nc, T.nats->url), NATS_OK);
    T.states = listen_to(SUBJECT_BREAKER ">");
    T.traffic = listen_to(SUBJECT_TRAFFIC ">");
    T.alerts = listen_to(SUBJECT_ALERT);
    assert_int_equal(natsConnection_Flush(T.nc), NATS_OK);
    T.breaker = harness_run(T.h, "breaker", 0, (const char *[]){program, "-c", config, NULL});
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    int end = harness_stop(T.breaker);
    natsSubscription_Destroy(T.states);
    natsSubscription_Destroy(T.traffic);
    natsSubscription_Destroy(T.alerts);
    natsConnection_Destroy(T.nc);
    nats_Close();
    harness_close(T.h);
    return end;
}

/* ---- seeing ---- */

/* The next message, unpacked; NULL after wait_ms. */
static void *next(natsSubscription *s, const ProtobufCMessageDescriptor *desc, int64_t wait_ms)
{
    natsMsg *m = NULL;
    struct err e;
    if (natsSubscription_NextMsg(&m, s, wait_ms) != NATS_OK)
        return NULL;
    void *x = wire_unpack(desc, natsMsg_GetData(m), (size_t)natsMsg_GetDataLength(m), &e);
    if (!x)
        fail_msg("%s: %s", natsMsg_GetSubject(m), e.text);
    natsMsg_Destroy(m);
    return x;
}

static size_t index_of(const char *target)
{
    for (size_t i = 0; i < sizeof targets / sizeof targets[0]; i++)
        if (strcmp(targets[i], target) == 0)
            return i;
    fail_msg("no such target: %s", target);
    return 0;
}

static int state_of(const char *target)
{
    PB(BreakerChanged) * b;
    for (int64_t wait_ms = 5; (b = next(T.states, PB_DESC(breaker_changed), wait_ms)); wait_ms = 1) {
        size_t i = index_of(b->target);
        if (b->epoch > T.epoch[i]) {
            T.epoch[i] = b->epoch;
            T.state[i] = b->state;
        }
        wire_free(b);
    }
    return (int)T.state[index_of(target)];
}

#define WAIT_FOR(condition)                                                                                          \
    do {                                                                                                             \
        int64_t end_ = clock_mono_ms() + HARNESS_WAIT_MS;                                                            \
        while (!(condition))                                                                                         \
            if (clock_mono_ms() > end_)                                                                              \
                fail_msg("waited in vain for: " #condition);                                                         \
    } while (0)

static int64_t metric(const char *name)
{
    natsMsg *m = NULL;
    if (natsConnection_Request(&m, T.nc, "$SRV.STATS.redoubt-breaker", "", 0, 5000) != NATS_OK)
        return 0;
    char *text = strndup(natsMsg_GetData(m), (size_t)natsMsg_GetDataLength(m)), key[96];
    snprintf(key, sizeof key, "\"%s\"", name);
    const char *at = strstr(text, key);
    int64_t v = at ? strtoll(strchr(at, ':') + 1, NULL, 10) : 0;
    free(text);
    natsMsg_Destroy(m);
    return v;
}
#define TAKEN   metric("redoubt_breaker_reports_total")
#define DROPPED metric("redoubt_breaker_reports_flooding_total")
#define BAD     metric("redoubt_bad_input_total")

/* How often an alert of this key was raised (or resolved) within wait_ms. */
static int alerts(const char *key, int64_t wait_ms)
{
    PB(Alert) * a;
    int n = 0;
    while ((a = next(T.alerts, PB_DESC(alert), wait_ms))) {
        if (strcmp(a->dedup_key, key) == 0) {
            assert_int_equal(a->severity, REDOUBT__V1__SEVERITY__SEVERITY_WARNING);
            assert_false(a->resolved);
            n++;
        }
        wire_free(a);
    }
    return n;
}

/* Closed, and long enough that evidence counts (a tenth of 10 s). */
static void wait_ready(const char *target)
{
    WAIT_FOR(state_of(target) == BREAKER_CLOSED);
    int64_t end = clock_mono_ms() + 1100;
    while (clock_mono_ms() < end)
        (void)state_of(target);
}

/* ---- saying ---- */

static void send_raw(const char *target, const void *data, size_t len, const char *type)
{
    char subject[160];
    natsMsg *m = NULL;
    snprintf(subject, sizeof subject, SUBJECT_REPORT "%s", target);
    assert_int_equal(natsMsg_Create(&m, subject, NULL, data, (int)len), NATS_OK);
    if (type)
        natsMsgHeader_Set(m, "ce-type", type);
    assert_int_equal(natsConnection_PublishMsg(T.nc, m), NATS_OK);
    natsMsg_Destroy(m);
}

static PB(OutcomeReport) outcome(const char *target, const char *reporter, int how)
{
    PB(OutcomeReport) r = PB_INIT(OUTCOME_REPORT);
    r.target = (char *)target;
    r.reporter = (char *)reporter;
    r.outcome = (PB(Outcome))how;
    r.ended_unix_ms = clock_wall_ms();
    r.data_path = true;
    return r;
}

static void say(const char *target, const void *message)
{
    struct err e;
    size_t len;
    void *data = wire_pack(message, &len, &e);
    if (!data)
        fail_msg("%s", e.text);
    send_raw(target, data, len, wire_type(message));
    free(data);
}

static void report(const char *target, const char *reporter, int how, uint64_t permit_id)
{
    PB(OutcomeReport) r = outcome(target, reporter, how);
    r.permit_id = permit_id;
    say(target, &r);
}

static void flood(const char *target, const char *reporter, int how, int n)
{
    for (int i = 0; i < n; i++)
        report(target, reporter, how, 0);
    assert_int_equal(natsConnection_Flush(T.nc), NATS_OK);
}

/* ---- tests ---- */

/* One reporter that cries failure without end, beside three that say how it is. */
static void test_flood_of_failures(void **unused)
{
    (void)unused;
    const char *t = "t.loud";
    wait_ready(t);
    int64_t taken = TAKEN, dropped = DROPPED;
    (void)alerts("", 1);
    int64_t end = clock_mono_ms() + 2000, turn = 0;
    int sent = 0;
    while (clock_mono_ms() < end) {
        if (clock_mono_ms() >= turn) { /* well below their limit */
            turn = clock_mono_ms() + 100;
            report(t, "fine-1", SUCCESS, 0);
            report(t, "fine-2", SUCCESS, 0);
            report(t, "fine-3", SUCCESS, 0);
            sent += 3;
        }
        flood(t, "loud", ERROR, 100);
        sent += 100;
        assert_int_equal(state_of(t), BREAKER_CLOSED);
    }
    WAIT_FOR(TAKEN - taken + DROPPED - dropped == sent);
    assert_true(DROPPED > dropped);
    assert_int_equal(alerts("breaker/flood/loud", 500), 1); /* named, once */
    assert_int_equal(metric("redoubt_breaker_flooders"), 1);
    assert_int_equal(alerts("breaker/flood/fine-1", 1), 0);
    assert_int_equal(state_of(t), BREAKER_CLOSED);
}

/* One reporter that cries success without end cannot drown what three others see: what it may send is less than what they do. */
static void test_flood_of_successes(void **unused)
{
    (void)unused;
    const char *t = "t.hush";
    wait_ready(t);
    int64_t dropped = DROPPED, start = clock_mono_ms(), said = 0;
    while (state_of(t) == BREAKER_CLOSED) {
        int64_t elapsed = clock_mono_ms() - start;
        assert_true(elapsed < HARNESS_WAIT_MS);
        for (; said < elapsed * (RATE - 10) / 1000; said++) {
            report(t, "true-1", ERROR, 0);
            report(t, "true-2", ERROR, 0);
            report(t, "true-3", ERROR, 0);
        }
        flood(t, "hush", SUCCESS, 100);
    }
    assert_int_equal(state_of(t), BREAKER_OPEN);
    assert_true(DROPPED > dropped);
    assert_int_equal(alerts("breaker/flood/true-1", 1), 0);
}

/* The outcome of the one permitted call counts, however loud its reporter is. */
static void test_flooder_holds_the_permit(void **unused)
{
    (void)unused;
    const char *t = "t.trial";
    wait_ready(t);
    flood(t, "loud-2", ERROR, 500);
    WAIT_FOR(state_of(t) == BREAKER_HALF_OPEN);
    flood(t, "loud-2", ERROR, 1000); /* far beyond its limit and the reserve */
    PB(AllowRequest) q = PB_INIT(ALLOW_REQUEST);
    struct err e;
    size_t len;
    q.target = (char *)t;
    q.holder = "loud-2";
    void *data = wire_pack(&q, &len, &e);
    assert_non_null(data);
    uint64_t permit = 0;
    int64_t end = clock_mono_ms() + HARNESS_WAIT_MS;
    while (permit == 0) {
        natsMsg *m = NULL;
        assert_true(clock_mono_ms() < end);
        assert_int_equal(natsConnection_Request(&m, T.nc, SUBJECT_CMD "breaker.allow", data, (int)len, 5000),
                         NATS_OK);
        PB(AllowReply) *a =
            wire_unpack(PB_DESC(allow_reply), natsMsg_GetData(m), (size_t)natsMsg_GetDataLength(m), &e);
        assert_non_null(a);
        permit = a->permit_id;
        wire_free(a);
        natsMsg_Destroy(m);
    }
    free(data);
    int64_t dropped = DROPPED;
    flood(t, "loud-2", ERROR, 200);
    WAIT_FOR(DROPPED > dropped); /* it is at its limit right now */
    report(t, "loud-2", SUCCESS, permit);
    WAIT_FOR(state_of(t) == BREAKER_PROBATION || state_of(t) == BREAKER_CLOSED);
}

/* At its limit, yet heard: an outage that begins while a gateway sends more than it may. */
static void test_news_of_a_busy_reporter(void **unused)
{
    (void)unused;
    const char *t = "t.even";
    wait_ready(t);
    int64_t dropped = DROPPED;
    flood(t, "busy", SUCCESS, 10 * RATE);
    WAIT_FOR(DROPPED > dropped);
    int64_t end = clock_mono_ms() + HARNESS_WAIT_MS;
    while (state_of(t) == BREAKER_CLOSED) { /* what is taken of it are failures, from the first on */
        assert_true(clock_mono_ms() < end);
        flood(t, "busy", ERROR, 20);
    }
    assert_int_equal(state_of(t), BREAKER_OPEN);
}

static void test_no_limit(void **unused)
{
    (void)unused;
    wait_ready("t.free");
    int64_t taken = TAKEN, dropped = DROPPED;
    flood("t.free", "gateway", SUCCESS, 5000);
    WAIT_FOR(TAKEN == taken + 5000);
    assert_int_equal(DROPPED, dropped);
}

static PB(TrafficSummary) * summary(int64_t wait_ms)
{
    PB(TrafficSummary) *s = next(T.traffic, PB_DESC(traffic_summary), wait_ms);
    if (s)
        assert_string_equal(s->target, "t.dear");
    return s;
}

/* Summaries of real calls, at once when good turns bad, otherwise every 5 s; only for what is dear to probe. */
static void test_summaries(void **unused)
{
    (void)unused;
    const char *t = "t.dear";
    wait_ready(t);
    wait_ready("t.plain");
    flood("t.plain", "gateway", SUCCESS, 3);
    PB(OutcomeReport) probe = outcome(t, "watcher", SUCCESS);
    probe.probe = true;
    say(t, &probe);
    report(t, "gateway", IGNORED, 0);
    assert_null(summary(300)); /* neither other targets nor probes */

    report(t, "gateway", SUCCESS, 0);
    PB(TrafficSummary) *s = summary(HARNESS_WAIT_MS);
    assert_non_null(s);
    assert_int_equal(s->calls, 1);
    assert_int_equal(s->failures, 0);
    assert_true(s->observer[0]);
    assert_true(llabs(s->sent_unix_ms - clock_wall_ms()) < HARNESS_WAIT_MS);
    int64_t said_ms = s->sent_unix_ms;
    wire_free(s);
    uint32_t calls = 0, failures = 0;
    for (int i = 0; i < 10; i++)
        report(t, "gateway", SUCCESS, 0);
    report(t, "gateway", ERROR, 0);
    while (failures == 0) { /* the good news are void: said at once */
        assert_non_null(s = summary(HARNESS_WAIT_MS));
        calls += s->calls;
        failures += s->failures;
        assert_true(s->failures == 0 || s->sent_unix_ms - said_ms < 5000);
        assert_true(s->span_ms <= s->sent_unix_ms - said_ms);
        said_ms = s->sent_unix_ms;
        wire_free(s);
    }
    for (int i = 0; i < 10; i++)
        report(t, "gateway", i % 4 ? SUCCESS : ERROR, 0);
    while (calls < 21) { /* the rest can wait, and loses nothing */
        assert_non_null(s = summary(HARNESS_WAIT_MS));
        calls += s->calls;
        failures += s->failures;
        assert_true(s->sent_unix_ms - said_ms >= 5000);
        said_ms = s->sent_unix_ms;
        wire_free(s);
    }
    assert_int_equal(calls, 21);
    assert_int_equal(failures, 4);
    assert_null(summary(300));
}

/* What is out of the ordinary is read as it always was; what is wrong is counted and changes nothing. */
static void test_read_with_care(void **unused)
{
    (void)unused;
    const char *t = "t.care";
    wait_ready(t);
    int64_t taken = TAKEN, bad = BAD;
    PB(OutcomeReport)
    r = outcome(t, "agent", SUCCESS), other = outcome(t, "another", SUCCESS),
    elsewhere = outcome("t.order", "agent", SUCCESS);
    struct err e;
    size_t len;
    unsigned char *data = wire_pack(&r, &len, &e);
    assert_non_null(data);
    unsigned char *longer = malloc(len + 8);
    memcpy(longer, data, len);
    memcpy(longer + len, "\x98\x06\x05", 3); /* a field of a newer sender */
    send_raw(t, longer, len + 3, NULL);
    memcpy(longer + len, "\x18\x01", 2); /* a field given twice */
    send_raw(t, longer, len + 2, NULL);
    send_raw(t, data, len - 1, NULL);
    send_raw(t, data, 0, NULL);
    say(t, &elsewhere);
    PB(OutcomeReport) * mixed[] = {&r, &other}, *fine[] = {&r, &r, &r}, *astray[] = {&r, &elsewhere};
    PB(OutcomeBatch) batch = PB_INIT(OUTCOME_BATCH);
    batch.n_reports = 2;
    batch.reports = mixed;
    say(t, &batch);
    batch.reports = astray;
    say(t, &batch);
    send_raw(t, data, len, "redoubt.v1.OutcomeBatch"); /* not what its header says */
    batch.n_reports = 3;
    batch.reports = fine;
    say(t, &batch);
    WAIT_FOR(TAKEN == taken + 4);
    WAIT_FOR(BAD >= bad + 7);
    assert_int_equal(BAD, bad + 7);
    assert_int_equal(TAKEN, taken + 4);
    free(longer);
    free(data);
    assert_int_equal(state_of(t), BREAKER_CLOSED);
}

/* What a turn of the loop brings is merged in the order in which it came: a success between ends the run of failures. */
static void test_order_is_kept(void **unused)
{
    (void)unused;
    const char *t = "t.order";
    wait_ready(t);
    int64_t taken = TAKEN;
    static const int story[] = {ERROR, ERROR, ERROR, ERROR, SUCCESS, ERROR, ERROR, ERROR, ERROR};
    for (int i = 0; i < 10; i++)
        report(t, "agent", SUCCESS, 0);
    for (size_t i = 0; i < sizeof story / sizeof story[0]; i++)
        report(t, "agent", story[i], 0);
    WAIT_FOR(TAKEN == taken + 19);
    int64_t end = clock_mono_ms() + 300;
    while (clock_mono_ms() < end)
        assert_int_equal(state_of(t), BREAKER_CLOSED);
    report(t, "agent", ERROR, 0); /* the fifth in a row */
    WAIT_FOR(state_of(t) == BREAKER_OPEN);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_flood_of_failures),
        cmocka_unit_test(test_flood_of_successes),
        cmocka_unit_test(test_flooder_holds_the_permit),
        cmocka_unit_test(test_news_of_a_busy_reporter),
        cmocka_unit_test(test_no_limit),
        cmocka_unit_test(test_summaries),
        cmocka_unit_test(test_read_with_care),
        cmocka_unit_test(test_order_is_kept),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
