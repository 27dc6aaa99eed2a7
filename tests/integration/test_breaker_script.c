/* test_breaker_script.c - the flush script in a real Redis does what window.c does, on many random histories. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "../harness.h"
#include "breaker/breaker_shell.h"
#include <inttypes.h>

#define T0   INT64_C(1700000000000)
#define KEYS "redoubt:{b:x}:doc", "redoubt:{b:x}:w"

static struct harness *h;
static redisContext *redis;
static uint64_t rng;

static uint64_t rnd(uint64_t n)
{
    rng ^= rng << 13;
    rng ^= rng >> 7;
    rng ^= rng << 17;
    return rng % n;
}

static int set_up(void **state)
{
    (void)state;
    h = harness_open();
    struct harness_proc *p = harness_redis(h, "redis", NULL);
    redis = redisConnect("127.0.0.1", p->port);
    return redis && !redis->err ? 0 : -1;
}

static int tear_down(void **state)
{
    (void)state;
    redisFree(redis);
    harness_close(h);
    return 0;
}

static redisReply *command(const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    redisReply *r = redisvCommand(redis, fmt, ap);
    va_end(ap);
    assert_non_null(r);
    return r;
}

static void run(const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    redisReply *r = redisvCommand(redis, fmt, ap);
    va_end(ap);
    assert_non_null(r);
    if (r->type == REDIS_REPLY_ERROR)
        fail_msg("%s: %s", fmt, r->str);
    freeReplyObject(r);
}

static redisReply *flush_by(const struct breaker_rule *rule, const struct breaker_delta *d, uint64_t have,
                            int64_t now_ms)
{
    static const struct breaker_delta nothing;
    struct breaker_flush_args a;
    const char *argv[24] = {"EVAL", breaker_state_flush_body(), "2", KEYS};
    size_t lens[24];
    char now[24];
    for (int i = 0; i < 5; i++)
        lens[i] = strlen(argv[i]);
    int n = breaker_state_args(&a, rule, d ? d : &nothing, have);
    a.args[1] = now; /* not Redis' own clock */
    a.lens[1] = (size_t)snprintf(now, sizeof now, "%" PRId64, now_ms);
    memcpy(argv + 5, a.args, (size_t)n * sizeof *argv);
    memcpy(lens + 5, a.lens, (size_t)n * sizeof *lens);
    redisReply *r = redisCommandArgv(redis, n + 5, argv, lens);
    assert_non_null(r);
    if (r->type == REDIS_REPLY_ERROR)
        fail_msg("script: %s", r->str);
    assert_int_equal(r->type, REDIS_REPLY_ARRAY);
    assert_int_equal(r->elements, 14);
    return r;
}

static redisReply *flush(const struct breaker_delta *d, uint64_t have, int64_t now_ms)
{
    static const struct breaker_rule rule = {.window_ms = 30000};
    return flush_by(&rule, d, have, now_ms);
}

static void same(const redisReply *r, const struct breaker_totals *t, uint64_t seed, int step)
{
    struct breaker_totals is;
    breaker_state_totals(r, &is);
    const int64_t c[] = {
        t->calls,           t->failures,         t->slow,         t->consecutive,   t->reporters, t->failing,
        (int64_t)t->passed, t->first_failure_ms, t->run_since_ms, t->retry_until_ms};
    const int64_t lua[] = {
        is.calls,           is.failures,         is.slow,         is.consecutive,   is.reporters, is.failing,
        (int64_t)is.passed, is.first_failure_ms, is.run_since_ms, is.retry_until_ms};
    for (size_t i = 0; i < sizeof c / sizeof c[0]; i++)
        if (lua[i] != c[i])
            fail_msg("seed %" PRIu64 " step %d: value %zu is %" PRId64 " in Redis, %" PRId64 " in C", seed, step, i,
                     lua[i], c[i]);
    assert_memory_equal(is.runs, t->runs, sizeof is.runs);
}

static struct breaker_delta gather(const struct breaker_rule *rule, int64_t now_ms, uint64_t most, uint64_t reporters)
{
    struct breaker_delta d = {0};
    for (uint64_t n = rnd(most); n > 0; n--) {
        struct breaker_report r = {.outcome = 1 + (int)rnd(8),
                                   .total_ms = (int64_t)rnd(150),
                                   .retry_after_ms = rnd(20) ? 0 : (int64_t)rnd(90000),
                                   .ended_ms = now_ms - (int64_t)rnd(100),
                                   .data_path = true,
                                   .reporter = breaker_hash(&(uint64_t){rnd(reporters)}, 8, 0)};
        if (rnd(2))
            r.outcome = 1;
        struct breaker_call c = breaker_classify(rule, &r, now_ms);
        breaker_delta_add(&d, &c);
    }
    return d;
}

static void story(uint64_t seed)
{
    rng = seed * UINT64_C(0x9e3779b97f4a7c15) + 1;
    struct breaker_window w = {0};
    int64_t now_ms = T0 + (int64_t)rnd(100000), bucket_ms = 1 + (int64_t)rnd(5000);
    uint64_t epoch = 0, reporters = 1 + rnd(50), scale = rnd(4) ? 1 : 1 + rnd(2000000);
    run("DEL redoubt:{b:x}:doc redoubt:{b:x}:w");
    struct breaker_rule rule = {.window_ms = bucket_ms * 10, .slow_ms = 100};
    if (seed % 2)
        rule.window_calls = rnd(3) ? 1 + (uint32_t)rnd(300) : 1 + (uint32_t)rnd(1000000);
    for (int step = 0; step < 120; step++) {
        switch (rnd(12)) {
        case 0: /* another document */
            epoch += 1 + rnd(3);
            run("HSET redoubt:{b:x}:doc rev %llu pending 0 doc any", (unsigned long long)epoch);
            break;
        case 1:
            now_ms += bucket_ms * (int64_t)rnd(30);
            break;
        case 2: /* Redis' clock was stepped back */
            now_ms -= bucket_ms * (int64_t)rnd(15);
            break;
        default:
            now_ms += (int64_t)rnd((uint64_t)bucket_ms * 2);
        }
        struct breaker_delta d = gather(&rule, now_ms, 60, reporters);
        d.calls *= (uint32_t)scale; /* up to where a bucket is full */
        d.failures *= (uint32_t)scale;
        d.slow *= (uint32_t)scale;
        if (rnd(4) == 0)
            breaker_delta_late(&d);
        bool any = d.calls > 0;
        struct breaker_window copy = w; /* what only looks changes nothing */
        struct breaker_totals t =
            breaker_window_merge(any ? &w : &copy, epoch, breaker_span_of(&rule), now_ms, any ? &d : NULL);
        redisReply *r = flush_by(&rule, any ? &d : NULL, epoch, now_ms);
        assert_int_equal(r->element[3]->integer, 0);
        same(r, &t, seed, step);
        freeReplyObject(r);
    }
}

static void test_same_as_in_c(void **unused)
{
    (void)unused;
    for (uint64_t seed = 1; seed <= 150; seed++)
        story(seed);
}

static void test_documents(void **unused)
{
    (void)unused;
    run("DEL redoubt:{b:x}:doc redoubt:{b:x}:w");
    redisReply *r = flush(NULL, 0, T0);
    assert_string_equal(r->element[0]->str, "0");
    assert_int_equal(r->element[1]->len, 0);
    freeReplyObject(r);
    run("HSET redoubt:{b:x}:doc rev 9007199254740991 fence 0 pending 1 doc bytes");
    r = flush(NULL, 7, T0);
    assert_string_equal(r->element[0]->str, "9007199254740991");
    assert_string_equal(r->element[1]->str, "bytes");
    assert_string_equal(r->element[2]->str, "1");
    freeReplyObject(r);
    r = flush(NULL, INT64_C(9007199254740991), T0); /* known: not sent again */
    assert_int_equal(r->element[1]->len, 0);
    freeReplyObject(r);
    /* What only looks leaves nothing behind. */
    r = command("EXISTS redoubt:{b:x}:w");
    assert_int_equal(r->integer, 0);
    freeReplyObject(r);
}

static void test_damage(void **unused)
{
    (void)unused;
    static const char *const docs[] = {"SET redoubt:{b:x}:doc nonsense", "HSET redoubt:{b:x}:doc rev abc doc y",
                                       "LPUSH redoubt:{b:x}:doc y", "HSET redoubt:{b:x}:doc rev -1 doc y"};
    for (size_t i = 0; i < sizeof docs / sizeof docs[0]; i++) {
        run("DEL redoubt:{b:x}:doc redoubt:{b:x}:w");
        run(docs[i]);
        redisReply *r = flush(NULL, 3, T0);
        assert_int_equal(r->element[3]->integer, 1);
        freeReplyObject(r);
    }
    static const char *const windows[] = {"SET redoubt:{b:x}:w short", "HSET redoubt:{b:x}:w a b"};
    for (size_t i = 0; i < sizeof windows / sizeof windows[0]; i++) {
        run("DEL redoubt:{b:x}:doc redoubt:{b:x}:w");
        run(windows[i]);
        struct breaker_delta d = {.calls = 1, .passed = 1};
        redisReply *r = flush(&d, 0, T0);
        assert_int_equal(r->element[3]->integer, 2);
        assert_int_equal(r->element[4]->integer, 1);
        freeReplyObject(r);
        r = flush(&d, 0, T0); /* put right by the merge */
        assert_int_equal(r->element[3]->integer, 0);
        assert_int_equal(r->element[4]->integer, 2);
        freeReplyObject(r);
    }
}

/* A window as the version before has packed it is no damage, and nothing to go by. */
static void test_older_window(void **unused)
{
    (void)unused;
    char old[196 + 12 * 3] = {0};
    run("DEL redoubt:{b:x}:doc redoubt:{b:x}:w");
    run("SET redoubt:{b:x}:w %b", old, sizeof old);
    struct breaker_delta d = {.calls = 3, .passed = 3};
    for (int i = 1; i <= 2; i++) {
        redisReply *r = flush(&d, 0, T0);
        assert_int_equal(r->element[3]->integer, 0);
        assert_int_equal(r->element[4]->integer, 3 * i);
        freeReplyObject(r);
    }
    run("SETRANGE redoubt:{b:x}:w 22 %b", "\x0b", (size_t)1); /* a bucket that there is not */
    redisReply *r = flush(&d, 0, T0);
    assert_int_equal(r->element[3]->integer, 2);
    freeReplyObject(r);
}

static void ages(const struct breaker_rule *rule, const struct breaker_delta *d, uint64_t epoch, int64_t now_ms,
                 int64_t age_ms)
{
    redisReply *r = flush_by(rule, d, epoch, now_ms);
    assert_int_equal(r->element[13]->integer, age_ms);
    freeReplyObject(r);
}

/* A window that is younger than its document says so, until the next document. */
static void test_window_that_began_later(void **unused)
{
    (void)unused;
    struct breaker_rule rule = {.window_ms = 30000}, other = {.window_ms = 60000};
    struct breaker_delta d = {.calls = 1, .passed = 1};
    run("DEL redoubt:{b:x}:doc redoubt:{b:x}:w");
    ages(&rule, &d, 0, T0, -1); /* no document, no window: they begin together */
    run("HSET redoubt:{b:x}:doc rev 1 pending 0 doc any");
    ages(&rule, &d, 1, T0 + 10, -1); /* another document, another window */
    ages(&rule, &d, 1, T0 + 20, -1);
    run("DEL redoubt:{b:x}:w"); /* nobody has called it for long */
    ages(&rule, &d, 1, T0 + 30, -1);
    ages(&other, NULL, 1, T0 + 40, -1); /* to look at it by other settings changes nothing */
    ages(&rule, &d, 1, T0 + 50, -1);
    ages(&other, &d, 1, T0 + 60, 0); /* other settings */
    ages(&other, NULL, 1, T0 + 100, 40);
    ages(&other, &d, 1, T0 + 2060, 2000);
    ages(&other, &d, 1, T0 + 59, -1); /* the clock was stepped back: nothing is known */
    run("HDEL redoubt:{b:x}:doc began");
    ages(&other, &d, 1, T0 + 3000, -1);
    run("SET redoubt:{b:x}:w damaged");
    ages(&other, &d, 1, T0 + 4000, 0);
    ages(&other, &d, 1, T0 + 4001, 1);
    char old[196] = {0};
    run("SET redoubt:{b:x}:w %b", old, sizeof old); /* of an earlier version */
    ages(&other, &d, 1, T0 + 5000, 0);
    run("HSET redoubt:{b:x}:doc began nonsense");
    ages(&other, &d, 1, T0 + 5001, -1);
    run("DEL redoubt:{b:x}:doc");
    run("SET redoubt:{b:x}:doc damaged"); /* never written to */
    run("SET redoubt:{b:x}:w damaged");
    redisReply *r = flush(&d, 1, T0);
    assert_int_equal(r->element[3]->integer, 3);
    assert_int_equal(r->element[13]->integer, -1);
    freeReplyObject(r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_same_as_in_c),
        cmocka_unit_test(test_documents),
        cmocka_unit_test(test_damage),
        cmocka_unit_test(test_older_window),
        cmocka_unit_test(test_window_that_began_later),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
