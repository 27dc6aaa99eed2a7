/* test_health_decide.c - the verdict: every rule by itself, then a seeded simulation against a plain model. */
#include "health/health.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const struct health_rule plain = {.kind = HEALTH_TARGET_LLM, .fall = 3, .rise = 2, .slow_ms = 1000};
static int64_t now_ms;

static enum health_taken feed_at(struct health *h, const struct health_rule *rule, int fault, int64_t started_ms)
{
    struct health_result r = {
        .fault = (uint8_t)fault, .started_ms = started_ms, .ended_ms = now_ms, .probe = HEALTH_PROBE_HTTP};
    return health_take(h, rule, &r, now_ms);
}

static enum health_taken feed(struct health *h, int fault)
{
    now_ms += 1000;
    return feed_at(h, &plain, fault, now_ms);
}

static void begin(struct health *h)
{
    now_ms = 1000000;
    health_init(h, now_ms);
}

static void make(struct health *h, int state)
{
    begin(h);
    static const int with[] = {[HEALTH_HEALTHY] = HEALTH_FAULT_NONE,
                               [HEALTH_DEGRADED] = HEALTH_FAULT_SLOW,
                               [HEALTH_UNHEALTHY] = HEALTH_FAULT_CONNECT};
    while (h->state != state)
        feed(h, with[state]);
}

static void test_first_verdicts(void **state)
{
    (void)state;
    struct health h;
    begin(&h);
    assert_int_equal(h.state, HEALTH_UNKNOWN);
    assert_true(health_in_transition(&h, &plain));
    assert_int_equal(feed(&h, HEALTH_FAULT_NONE), HEALTH_COUNTED);
    assert_int_equal(feed(&h, HEALTH_FAULT_NONE), HEALTH_CHANGED);
    assert_int_equal(h.state, HEALTH_HEALTHY);
    assert_int_equal(h.failure, HEALTH_FAILURE_NONE);
    assert_int_equal(h.since_ms, 1001000); /* the first good one, not the verdict */
    assert_false(health_in_transition(&h, &plain));

    begin(&h);
    for (int i = 0; i < 2; i++)
        assert_int_equal(feed(&h, HEALTH_FAULT_TIMEOUT), HEALTH_COUNTED);
    assert_int_equal(feed(&h, HEALTH_FAULT_CONNECT), HEALTH_CHANGED);
    assert_int_equal(h.state, HEALTH_UNHEALTHY);
    assert_int_equal(h.failure, HEALTH_FAILURE_LLM);
    assert_int_equal(h.cause, HEALTH_FAULT_CONNECT);
    assert_int_equal(h.since_ms, 1001000);
    assert_int_equal(h.changed_ms, 1003000);

    begin(&h); /* works, but never quite well */
    feed(&h, HEALTH_FAULT_SLOW);
    feed(&h, HEALTH_FAULT_AUTH);
    assert_int_equal(h.state, HEALTH_DEGRADED);
    assert_int_equal(h.cause, HEALTH_FAULT_AUTH);
}

static void test_fall_and_rise(void **state)
{
    (void)state;
    struct health h;
    make(&h, HEALTH_HEALTHY);
    feed(&h, HEALTH_FAULT_CUT);
    feed(&h, HEALTH_FAULT_CUT);
    assert_true(health_in_transition(&h, &plain));
    assert_int_equal(h.state, HEALTH_HEALTHY);
    feed(&h, HEALTH_FAULT_NONE); /* two in a row are not three */
    feed(&h, HEALTH_FAULT_CUT);
    feed(&h, HEALTH_FAULT_CUT);
    assert_int_equal(h.state, HEALTH_HEALTHY);
    int64_t first_ms = now_ms - 1000;
    feed(&h, HEALTH_FAULT_CUT);
    assert_int_equal(h.state, HEALTH_UNHEALTHY);
    assert_int_equal(h.previous, HEALTH_HEALTHY);
    assert_int_equal(h.since_ms, first_ms);
    assert_false(health_in_transition(&h, &plain));
    feed(&h, HEALTH_FAULT_NONE);
    assert_int_equal(h.state, HEALTH_UNHEALTHY);
    assert_true(health_in_transition(&h, &plain));
    feed(&h, HEALTH_FAULT_NONE);
    assert_int_equal(h.state, HEALTH_HEALTHY);
}

static void test_slow_and_keys(void **state)
{
    (void)state;
    struct health h;
    make(&h, HEALTH_HEALTHY);
    struct health_result r = {.fault = HEALTH_FAULT_NONE, .total_ms = 1001, .probe = HEALTH_PROBE_LLM};
    for (int i = 0; i < 3; i++) {
        now_ms += 1000;
        r.fault = HEALTH_FAULT_NONE;
        r.started_ms = r.ended_ms = now_ms;
        health_take(&h, &plain, &r, now_ms);
        assert_int_equal(r.fault, HEALTH_FAULT_SLOW);
    }
    assert_int_equal(h.state, HEALTH_DEGRADED);
    assert_int_equal(h.cause, HEALTH_FAULT_SLOW);
    assert_false(health_in_transition(&h, &plain)); /* steadily slow needs no hurry */
    /* Then the key is withdrawn: the same state for another reason is news, once it is steady. */
    assert_int_equal(feed(&h, HEALTH_FAULT_AUTH), HEALTH_COUNTED);
    assert_int_equal(feed(&h, HEALTH_FAULT_AUTH), HEALTH_COUNTED);
    assert_int_equal(feed(&h, HEALTH_FAULT_AUTH), HEALTH_CHANGED);
    assert_int_equal(h.state, HEALTH_DEGRADED);
    assert_int_equal(h.cause, HEALTH_FAULT_AUTH);
    for (int i = 0; i < 100; i++) /* a wrong key is never an outage */
        assert_int_equal(feed(&h, HEALTH_FAULT_AUTH), HEALTH_COUNTED);
    feed(&h, HEALTH_FAULT_NONE);
    assert_true(health_in_transition(&h, &plain));
    feed(&h, HEALTH_FAULT_NONE);
    assert_int_equal(h.state, HEALTH_HEALTHY);
    /* From an outage to slowness: it is up again, in part. */
    make(&h, HEALTH_UNHEALTHY);
    feed(&h, HEALTH_FAULT_SLOW);
    feed(&h, HEALTH_FAULT_SLOW);
    assert_int_equal(h.state, HEALTH_DEGRADED);
}

/* Every fault, for every kind of target: is it an outage, and of which kind. */
static void test_every_fault(void **state)
{
    (void)state;
    for (int kind = HEALTH_TARGET_LLM; kind <= HEALTH_TARGET_AGENT; kind++) {
        for (int fault = HEALTH_FAULT_NONE; fault < HEALTH_FAULTS; fault++) {
            struct health_rule rule = {.kind = (enum health_target_kind)kind, .fall = 3, .rise = 2};
            struct health h;
            begin(&h);
            for (int i = 0; i < 10; i++) {
                now_ms += 1000;
                feed_at(&h, &rule, fault, now_ms);
            }
            bool off = fault == HEALTH_FAULT_AUTH || fault == HEALTH_FAULT_SLOW || fault == HEALTH_FAULT_STUCK ||
                       fault == HEALTH_FAULT_EXHAUSTED || fault == HEALTH_FAULT_REFUSED ||
                       fault == HEALTH_FAULT_EXPIRING;
            assert_int_equal(h.state, fault == HEALTH_FAULT_NONE ? HEALTH_HEALTHY
                                      : off                      ? HEALTH_DEGRADED
                                                                 : HEALTH_UNHEALTHY);
            if (fault == HEALTH_FAULT_NONE)
                continue;
            assert_int_equal(h.cause, fault);
            assert_true(h.failure >= HEALTH_FAILURE_LLM && h.failure <= HEALTH_FAILURE_AGENT_DOWN);
            if (kind == HEALTH_TARGET_LLM)
                assert_int_equal(h.failure, HEALTH_FAILURE_LLM);
            if (kind == HEALTH_TARGET_BACKEND)
                assert_int_equal(h.failure, HEALTH_FAILURE_BACKEND);
            if (kind == HEALTH_TARGET_AGENT)
                assert_int_equal(h.failure, fault == HEALTH_FAULT_SILENT         ? HEALTH_FAILURE_AGENT_DOWN
                                            : fault >= HEALTH_FAULT_WRONG_ANSWER ? HEALTH_FAILURE_LOGIC
                                            : fault == HEALTH_FAULT_TIMEOUT      ? HEALTH_FAILURE_LOGIC
                                                                                 : HEALTH_FAILURE_RESOURCE);
            char reason[256];
            assert_non_null(strstr(health_reason(&h, reason, sizeof reason), health_fault_text(fault)));
        }
    }
}

static void test_late_failures(void **state)
{
    (void)state;
    struct health h;
    make(&h, HEALTH_UNHEALTHY);
    now_ms += 1000;
    int64_t hung_ms = now_ms; /* began now, ends below */
    feed(&h, HEALTH_FAULT_NONE);
    feed(&h, HEALTH_FAULT_NONE);
    assert_int_equal(h.state, HEALTH_HEALTHY);
    for (int i = 0; i < 5; i++)
        assert_int_equal(feed_at(&h, &plain, HEALTH_FAULT_TIMEOUT, hung_ms), HEALTH_STALE);
    assert_int_equal(h.state, HEALTH_HEALTHY);
    assert_int_equal(health_evidence(&h, 0)->fault, HEALTH_FAULT_NONE);
}

/* Details are kept beside: the last few different ones, and never one under another's result. */
static void test_evidence_details(void **state)
{
    (void)state;
    struct health h;
    make(&h, HEALTH_HEALTHY);
    for (int i = 0; i < 1000; i++) {
        struct health_result r = {.fault = HEALTH_FAULT_CONNECT, .started_ms = ++now_ms, .ended_ms = now_ms};
        int kind = i % 7 % 5; /* 0 = no detail */
        if (kind)
            health_detail(&r, "detail %d", kind);
        r.total_ms = (uint32_t)kind;
        health_take(&h, &plain, &r, now_ms);
        assert_string_equal(health_evidence_detail(&h, 0), r.detail);
        for (size_t k = 0; k < h.n_evidence; k++) {
            char text[32] = "";
            const char *kept = health_evidence_detail(&h, k);
            if (health_evidence(&h, k)->total_ms)
                snprintf(text, sizeof text, "detail %u", health_evidence(&h, k)->total_ms);
            assert_true(*kept == 0 || strcmp(kept, text) == 0);
        }
        char reason[256];
        if (*r.detail)
            assert_non_null(
                strstr(health_reason(&h, reason, sizeof reason), h.state == HEALTH_UNHEALTHY ? r.detail : ""));
    }
    /* One cause: all twenty have its text. */
    for (int i = 0; i < HEALTH_EVIDENCE_MAX; i++) {
        struct health_result r = {.fault = HEALTH_FAULT_CONNECT, .started_ms = ++now_ms, .ended_ms = now_ms};
        health_detail(&r, "refused");
        health_take(&h, &plain, &r, now_ms);
    }
    for (size_t k = 0; k < HEALTH_EVIDENCE_MAX; k++)
        assert_string_equal(health_evidence_detail(&h, k), "refused");
    assert_true(sizeof h <= 1536); /* times the number of targets */
}

static void test_flapping(void **state)
{
    (void)state;
    struct health h;
    make(&h, HEALTH_HEALTHY);
    int changes = 0;
    while (h.state != HEALTH_FLAPPING) {
        feed(&h, ++changes % 2 ? HEALTH_FAULT_CONNECT : HEALTH_FAULT_NONE);
        assert_true(changes < 10);
    }
    assert_true(health_flap_percent(&h) >= HEALTH_FLAP_HIGH);
    assert_true(changes >= 5 && changes <= 7); /* 30 % of 20, weighted */
    assert_true(health_in_transition(&h, &plain));
    /* Steady again: the old changes move out of the window, and the end comes below 25 %. */
    int good = 0;
    while (h.state == HEALTH_FLAPPING) {
        feed(&h, HEALTH_FAULT_NONE);
        assert_true(++good < 25);
    }
    assert_int_equal(h.state, HEALTH_HEALTHY);
    assert_true(health_flap_percent(&h) < HEALTH_FLAP_LOW);
    assert_true(good > 5);
    /* The same into an outage. */
    for (int i = 0; i < 9; i++)
        feed(&h, i % 2 ? HEALTH_FAULT_NONE : HEALTH_FAULT_CONNECT);
    assert_int_equal(h.state, HEALTH_FLAPPING);
    for (int i = 0; i < 25; i++)
        feed(&h, HEALTH_FAULT_CONNECT);
    assert_int_equal(h.state, HEALTH_UNHEALTHY);
    /* One outage and its end is no flapping. */
    make(&h, HEALTH_HEALTHY);
    for (int i = 0; i < 5; i++)
        feed(&h, HEALTH_FAULT_CONNECT);
    for (int i = 0; i < 5; i++)
        feed(&h, HEALTH_FAULT_NONE);
    assert_int_equal(h.state, HEALTH_HEALTHY);
}

static void test_maintenance(void **state)
{
    (void)state;
    struct health h;
    make(&h, HEALTH_HEALTHY);
    assert_true(health_maintain(&h, now_ms + 10000, now_ms));
    assert_false(health_maintain(&h, now_ms + 10000, now_ms));
    assert_int_equal(h.state, HEALTH_MAINTENANCE);
    for (int i = 0; i < 9; i++)
        assert_int_equal(feed(&h, HEALTH_FAULT_CONNECT), HEALTH_COUNTED);
    assert_false(health_tick(&h, now_ms));
    assert_false(health_in_transition(&h, &plain));
    assert_int_equal(feed(&h, HEALTH_FAULT_CONNECT), HEALTH_CHANGED); /* it is over, and the outage was seen */
    assert_int_equal(h.state, HEALTH_UNHEALTHY);
    assert_true(health_maintain(&h, now_ms + 5, now_ms));
    assert_true(health_tick(&h, now_ms + 5));
    assert_int_equal(h.state, HEALTH_UNKNOWN);
    assert_false(health_tick(&h, now_ms + 5));
    assert_false(health_maintain(&h, 0, now_ms + 5));
}

static void test_adopted(void **state)
{
    (void)state;
    for (int s = HEALTH_NONE; s < HEALTH_STATES; s++) {
        struct health h;
        now_ms = 5000;
        health_adopt(&h, s, HEALTH_FAILURE_NONE, HEALTH_FAULT_NONE, 0, now_ms);
        bool taken = s == HEALTH_HEALTHY || s == HEALTH_DEGRADED || s == HEALTH_UNHEALTHY || s == HEALTH_FLAPPING;
        assert_int_equal(h.state, taken ? s : HEALTH_UNKNOWN);
        health_adopt(&h, s, HEALTH_FAILURE_LLM, HEALTH_FAULT_QUOTA, 4000, 5000);
        if (taken && s != HEALTH_HEALTHY)
            assert_int_equal(h.cause, HEALTH_FAULT_QUOTA);
        /* It is confirmed without a change, and overturned by the same rules as any other. */
        if (s == HEALTH_UNHEALTHY) {
            assert_int_equal(feed(&h, HEALTH_FAULT_QUOTA), HEALTH_COUNTED);
            assert_int_equal(feed(&h, HEALTH_FAULT_NONE), HEALTH_COUNTED);
            assert_int_equal(feed(&h, HEALTH_FAULT_NONE), HEALTH_CHANGED);
        }
    }
}

static void test_outcomes(void **state)
{
    (void)state;
    struct health_result r = {.fault = HEALTH_FAULT_STATUS, .status = 500};
    assert_int_equal(health_outcome_of(&r), HEALTH_OUTCOME_ERROR);
    r.status = 404;
    assert_int_equal(health_outcome_of(&r), HEALTH_OUTCOME_IGNORED);
    r.status = 302;
    assert_int_equal(health_outcome_of(&r), HEALTH_OUTCOME_ERROR);
    static const struct {
        int fault, outcome;
    } rows[] = {
        {HEALTH_FAULT_NONE, HEALTH_OUTCOME_SUCCESS},        {HEALTH_FAULT_SLOW, HEALTH_OUTCOME_SUCCESS},
        {HEALTH_FAULT_QUOTA, HEALTH_OUTCOME_RATE_LIMITED},  {HEALTH_FAULT_OVERLOAD, HEALTH_OUTCOME_OVERLOADED},
        {HEALTH_FAULT_AUTH, HEALTH_OUTCOME_IGNORED},        {HEALTH_FAULT_TIMEOUT, HEALTH_OUTCOME_TIMEOUT},
        {HEALTH_FAULT_CONNECT, HEALTH_OUTCOME_UNREACHABLE}, {HEALTH_FAULT_CUT, HEALTH_OUTCOME_ERROR},
        {HEALTH_FAULT_SCHEMA, HEALTH_OUTCOME_ERROR},        {HEALTH_FAULT_SILENT, HEALTH_OUTCOME_NONE}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        r = (struct health_result){.fault = (uint8_t)rows[i].fault};
        assert_int_equal(health_outcome_of(&r), rows[i].outcome);
    }
}

static void test_notices(void **state)
{
    (void)state;
    struct health_notice n = health_notice_of(HEALTH_TARGET_AGENT, HEALTH_UNHEALTHY, HEALTH_FAULT_SILENT,
                                              HEALTH_HEALTHY, HEALTH_FAULT_NONE);
    assert_int_equal(n.news, HEALTH_RAISE);
    assert_int_equal(n.severity, 4);
    assert_true(n.manual);
    n = health_notice_of(HEALTH_TARGET_AGENT, HEALTH_HEALTHY, HEALTH_FAULT_NONE, HEALTH_UNHEALTHY,
                         HEALTH_FAULT_SILENT);
    assert_int_equal(n.news, HEALTH_RESOLVE);
    /* Whose judgement is gone is as good as gone; who was killed for want of memory is started again by its host. */
    for (int fault = HEALTH_FAULT_WRONG_ANSWER; fault <= HEALTH_FAULT_EXCEPTIONS; fault++) {
        n = health_notice_of(HEALTH_TARGET_AGENT, HEALTH_UNHEALTHY, fault, HEALTH_HEALTHY, HEALTH_FAULT_NONE);
        assert_true(n.news == HEALTH_RAISE && n.severity == 4 && n.manual);
    }
    n = health_notice_of(HEALTH_TARGET_AGENT, HEALTH_UNHEALTHY, HEALTH_FAULT_OOM, HEALTH_HEALTHY, HEALTH_FAULT_NONE);
    assert_true(n.news == HEALTH_RAISE && n.severity == 3 && !n.manual);
    n = health_notice_of(HEALTH_TARGET_AGENT, HEALTH_DEGRADED, HEALTH_FAULT_EXHAUSTED, HEALTH_HEALTHY, 0);
    assert_true(n.news == HEALTH_RAISE && n.severity == 3 && !n.manual); /* as fallback's, which acts on it */
    /* Those who act on LLMs and backends tell of their outages; here only what they do not see: a wrong key. */
    for (int kind = HEALTH_TARGET_LLM; kind <= HEALTH_TARGET_BACKEND; kind++) {
        enum health_target_kind k = (enum health_target_kind)kind;
        assert_int_equal(
            health_notice_of(k, HEALTH_UNHEALTHY, HEALTH_FAULT_CONNECT, HEALTH_HEALTHY, HEALTH_FAULT_NONE).news,
            HEALTH_NO_NEWS);
        assert_int_equal(
            health_notice_of(k, HEALTH_DEGRADED, HEALTH_FAULT_AUTH, HEALTH_HEALTHY, HEALTH_FAULT_NONE).news,
            HEALTH_RAISE);
        assert_int_equal(
            health_notice_of(k, HEALTH_DEGRADED, HEALTH_FAULT_SLOW, HEALTH_HEALTHY, HEALTH_FAULT_NONE).news,
            HEALTH_NO_NEWS);
        assert_int_equal(
            health_notice_of(k, HEALTH_UNHEALTHY, HEALTH_FAULT_CONNECT, HEALTH_DEGRADED, HEALTH_FAULT_AUTH).news,
            HEALTH_RESOLVE);
        assert_int_equal(
            health_notice_of(k, HEALTH_HEALTHY, HEALTH_FAULT_NONE, HEALTH_DEGRADED, HEALTH_FAULT_SLOW).news,
            HEALTH_NO_NEWS);
    }
    n = health_notice_of(HEALTH_TARGET_OTHER, HEALTH_UNHEALTHY, HEALTH_FAULT_CONNECT, HEALTH_HEALTHY, 0);
    assert_int_equal(n.news, HEALTH_RAISE);
    assert_int_equal(n.severity, 2);
    assert_int_equal(health_notice_of(HEALTH_TARGET_OTHER, HEALTH_HEALTHY, 0, HEALTH_UNKNOWN, 0).news,
                     HEALTH_NO_NEWS);
}

static void test_detail(void **state)
{
    (void)state;
    struct health_result r;
    health_detail(&r, "a\nb\x01 %s", "\xc3\xa4\xff\xc3");
    assert_string_equal(r.detail, "a b  \xc3\xa4??");
    char text[3 * HEALTH_DETAIL_MAX] = {0};
    for (size_t i = 0; i + 2 < sizeof text; i += 2)
        memcpy(text + i, "\xc3\xa4", 2);
    health_detail(&r, "%s", text);
    assert_int_equal(strlen(r.detail), HEALTH_DETAIL_MAX - 2); /* cut between characters, not within one */
    health_detail(&r, "%s", "");
    assert_string_equal(r.detail, "");
}

/* ---- simulation: a target that has outages, slow times and flapping, watched with probes that overlap ---- */

static uint64_t rng;
static uint32_t draw(uint32_t n)
{
    rng = rng * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(rng >> 33) % n;
}

#define CHECK(cond)                                                                                                  \
    do {                                                                                                             \
        if (!(cond))                                                                                                 \
            fail_msg("seed %llu, step %d: %s", (unsigned long long)seed, step, #cond);                               \
    } while (0)

static void simulate(uint64_t seed)
{
    static const int bad[] = {HEALTH_FAULT_CONNECT, HEALTH_FAULT_TIMEOUT, HEALTH_FAULT_QUOTA, HEALTH_FAULT_SCHEMA};
    static const int off[] = {HEALTH_FAULT_SLOW, HEALTH_FAULT_AUTH, HEALTH_FAULT_REFUSED};
    rng = seed * 0x9e3779b97f4a7c15u + 1;
    struct health h;
    struct health_rule rule = {.kind = (enum health_target_kind)draw(4), .fall = 1 + draw(5), .rise = 1 + draw(4)};
    now_ms = 1 + draw(1000000);
    health_init(&h, now_ms);
    int mode = 0;
    uint32_t left = 0, bad_row = 0, good_row = 0;
    bool ups[64] = {0};
    int n_ups = 0;
    for (int step = 0; step < 400; step++) {
        if (left == 0) {
            mode = (int)draw(4);
            left = 1 + draw(40);
        }
        left--;
        int fault = mode == 0   ? HEALTH_FAULT_NONE
                    : mode == 1 ? bad[draw(4)]
                    : mode == 2 ? off[draw(3)]
                    : draw(2)   ? HEALTH_FAULT_NONE
                                : bad[draw(4)];
        now_ms += 1 + draw(3000);
        struct health was = h;
        bool late = draw(10) == 0;
        int64_t started_ms = late ? now_ms - 5000 : now_ms;
        struct health_result r = {.fault = (uint8_t)fault, .started_ms = started_ms, .ended_ms = now_ms};
        enum health_taken taken = health_take(&h, &rule, &r, now_ms);
        if (taken == HEALTH_STALE) {
            CHECK(memcmp(&was, &h, sizeof h) == 0);
            CHECK(started_ms < h.newest_up_started_ms);
            continue;
        }
        bool up = fault == HEALTH_FAULT_NONE || mode == 2;
        bad_row = up ? 0 : bad_row + 1;
        good_row = fault == HEALTH_FAULT_NONE ? good_row + 1 : 0;
        memmove(ups + 1, ups, sizeof ups - sizeof *ups);
        ups[0] = up;
        n_ups += n_ups < 64;
        int changes = 0;
        for (int i = 0; i + 1 < n_ups && i < HEALTH_FLAP_WINDOW; i++)
            changes += ups[i] != ups[i + 1];
        /* The verdict follows from what was seen, and from nothing else. */
        CHECK((h.state != was.state) == (taken == HEALTH_CHANGED) ||
              (h.state == HEALTH_DEGRADED && h.cause != was.cause));
        if (h.state == HEALTH_HEALTHY && was.state != HEALTH_HEALTHY)
            CHECK(good_row >= rule.rise);
        if (h.state == HEALTH_UNHEALTHY && was.state != HEALTH_UNHEALTHY)
            CHECK(bad_row >= rule.fall);
        if (bad_row >= rule.fall)
            CHECK(h.state == HEALTH_UNHEALTHY || (h.state == HEALTH_FLAPPING && changes >= 4));
        if (good_row >= rule.rise)
            CHECK(h.state == HEALTH_HEALTHY || (h.state == HEALTH_FLAPPING && changes >= 4));
        if (h.state == HEALTH_FLAPPING && was.state != HEALTH_FLAPPING)
            CHECK(changes >= 5);
        if (changes == 0 && n_ups > HEALTH_FLAP_WINDOW)
            CHECK(h.state != HEALTH_FLAPPING);
        CHECK(h.since_ms <= h.changed_ms && h.changed_ms <= now_ms);
        CHECK(h.n_evidence <= HEALTH_EVIDENCE_MAX && health_evidence(&h, 0)->ended_ms == now_ms);
        if (h.state == HEALTH_UNHEALTHY && h.bad.n > 0)
            CHECK(h.cause > HEALTH_FAULT_NONE && h.failure > HEALTH_FAILURE_NONE);
        if (h.state == HEALTH_HEALTHY && h.off.n > 0)
            CHECK(health_in_transition(&h, &rule));
    }
}

static void test_simulation(void **state)
{
    (void)state;
    const char *only = getenv("SEED");
    if (only) {
        simulate(strtoull(only, NULL, 10));
        return;
    }
    for (uint64_t seed = 1; seed <= 3000; seed++)
        simulate(seed);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_first_verdicts), cmocka_unit_test(test_fall_and_rise),
        cmocka_unit_test(test_slow_and_keys),  cmocka_unit_test(test_every_fault),
        cmocka_unit_test(test_late_failures),  cmocka_unit_test(test_evidence_details),
        cmocka_unit_test(test_flapping),       cmocka_unit_test(test_maintenance),
        cmocka_unit_test(test_adopted),        cmocka_unit_test(test_outcomes),
        cmocka_unit_test(test_notices),        cmocka_unit_test(test_detail),
        cmocka_unit_test(test_simulation),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
