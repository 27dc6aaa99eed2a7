/* test_audit_keep.c - which segments may be deleted: by age, by size, and never what must stay; seeded trails against the rules in other words. */
#include "audit/audit_keep.h"
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#define DAY INT64_C(86400000)
#define NOW (INT64_C(20000) * DAY)

/* Five segments of 100 records and 1,000 bytes, one a day; the last was begun a day ago. */
static const struct audit_keep_segment five[] = {
    {1, 1000, NOW - 5 * DAY},   {101, 1000, NOW - 4 * DAY}, {201, 1000, NOW - 3 * DAY},
    {301, 1000, NOW - 2 * DAY}, {401, 1000, NOW - 1 * DAY},
};

static size_t may(struct audit_keep_rule rule, struct audit_keep_facts facts)
{
    facts.now_unix_ms = facts.now_unix_ms ? facts.now_unix_ms : NOW;
    return audit_keep_decide(&rule, &facts, five, 5);
}

static void test_age(void **unused)
{
    (void)unused;
    const struct audit_keep_facts all = {.mirrored = 450, .checkpoint = 450};
    assert_int_equal(may((struct audit_keep_rule){0}, all), 0);
    /* A segment is as young as its youngest record, which came before the next was begun. */
    assert_int_equal(may((struct audit_keep_rule){.keep_ms = 4 * DAY}, all), 0);
    assert_int_equal(may((struct audit_keep_rule){.keep_ms = 4 * DAY - 1}, all), 1);
    assert_int_equal(may((struct audit_keep_rule){.keep_ms = 3 * DAY - 1}, all), 2);
    /* The last two stay. */
    assert_int_equal(may((struct audit_keep_rule){.keep_ms = 1}, all), 3);
}

static void test_size(void **unused)
{
    (void)unused;
    const struct audit_keep_facts all = {.mirrored = 450, .checkpoint = 450};
    assert_int_equal(may((struct audit_keep_rule){.keep_bytes = 5000}, all), 0);
    assert_int_equal(may((struct audit_keep_rule){.keep_bytes = 4999}, all), 1);
    assert_int_equal(may((struct audit_keep_rule){.keep_bytes = 3000}, all), 2);
    assert_int_equal(may((struct audit_keep_rule){.keep_bytes = 1}, all), 3);
    assert_int_equal(may((struct audit_keep_rule){.keep_ms = 4 * DAY - 1, .keep_bytes = 3000}, all), 2);
}

static void test_only_what_is_safe(void **unused)
{
    (void)unused;
    const struct audit_keep_rule most = {.keep_ms = 1, .keep_bytes = 1};
    static const struct {
        uint64_t mirrored, checkpoint;
        size_t may;
    } rows[] = {{0, 450, 0}, {450, 0, 0}, {99, 450, 0}, {100, 450, 1}, {450, 199, 1}, {200, 200, 2}, {300, 299, 2}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        assert_int_equal(
            may(most, (struct audit_keep_facts){.mirrored = rows[i].mirrored, .checkpoint = rows[i].checkpoint}),
            rows[i].may);
}

static void test_a_wrong_clock(void **unused)
{
    (void)unused;
    const struct audit_keep_facts back = {.now_unix_ms = NOW - 2 * DAY, .mirrored = 450, .checkpoint = 450};
    assert_int_equal(may((struct audit_keep_rule){.keep_ms = 1}, back), 0);
    assert_int_equal(may((struct audit_keep_rule){.keep_bytes = 3000}, back), 2); /* size asks no clock */
}

static void test_what_does_not_fit(void **unused)
{
    (void)unused;
    const struct audit_keep_rule most = {.keep_ms = 1, .keep_bytes = 1};
    struct audit_keep_facts facts = {.now_unix_ms = NOW, .mirrored = 450, .checkpoint = 450, .last_pruned = 100};
    assert_int_equal(audit_keep_decide(&most, &facts, five, 5), 0); /* record 1 was deleted already */
    assert_int_equal(audit_keep_decide(&most, &facts, five + 1, 4), 2);
    const struct audit_keep_segment disorder[] = {{101, 1, 1}, {101, 1, 1}, {301, 1, 1}};
    assert_int_equal(audit_keep_decide(&most, &facts, disorder, 3), 0);
    assert_int_equal(audit_keep_decide(&most, &facts, five, 0), 0);
}

static uint64_t rng;
static int64_t below(int64_t n)
{
    rng ^= rng << 13;
    rng ^= rng >> 7;
    rng ^= rng << 17;
    return (int64_t)(rng % (uint64_t)n);
}

static void story(uint64_t seed)
{
    rng = seed * UINT64_C(0x9e3779b97f4a7c15) + 1;
    struct audit_keep_segment s[12];
    size_t n = (size_t)below(13);
    uint64_t pruned = (uint64_t)below(1000), seq = pruned + 1;
    int64_t at = NOW - 20 * DAY, all = 0;
    for (size_t i = 0; i < n; i++) {
        s[i] = (struct audit_keep_segment){seq, 100 + below(5000), at};
        seq += 1 + (uint64_t)below(500);
        at += below(2 * DAY);
        all += s[i].bytes;
    }
    struct audit_keep_rule rule = {.keep_ms = below(3) ? below(20 * DAY) : 0,
                                   .keep_bytes = below(3) ? below(20000) : 0};
    struct audit_keep_facts f = {.now_unix_ms = NOW + 10 * DAY,
                                 .mirrored = (uint64_t)below((int64_t)seq + 100),
                                 .checkpoint = (uint64_t)below((int64_t)seq + 100),
                                 .last_pruned = pruned};
    size_t got = audit_keep_decide(&rule, &f, s, n);
    if (got > 0 && got + AUDIT_KEEP_LEAST > n)
        fail_msg("seed %" PRIu64 ": %zu of %zu go", seed, got, n);
    int64_t left = all;
    for (size_t i = 0; i < got; i++) {
        uint64_t last = s[i + 1].first_seq - 1;
        bool wanted = (rule.keep_ms && f.now_unix_ms - s[i + 1].created_unix_ms > rule.keep_ms) ||
                      (rule.keep_bytes && left > rule.keep_bytes);
        if (!wanted || last > f.mirrored || last > f.checkpoint)
            fail_msg("seed %" PRIu64 ": segment %zu of %zu goes, and must not", seed, i, n);
        left -= s[i].bytes;
    }
    /* And no more could have gone. */
    if (got + AUDIT_KEEP_LEAST < n) {
        uint64_t last = s[got + 1].first_seq - 1;
        bool wanted = (rule.keep_ms && f.now_unix_ms - s[got + 1].created_unix_ms > rule.keep_ms) ||
                      (rule.keep_bytes && left > rule.keep_bytes);
        if (wanted && last <= f.mirrored && last <= f.checkpoint)
            fail_msg("seed %" PRIu64 ": segment %zu of %zu stays, and should not", seed, got, n);
    }
}

static void test_stories(void **unused)
{
    (void)unused;
    const char *given = getenv("SEED");
    if (given) {
        story(strtoull(given, NULL, 10));
        return;
    }
    for (uint64_t seed = 1; seed <= 20000; seed++)
        story(seed);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_age),
        cmocka_unit_test(test_size),
        cmocka_unit_test(test_only_what_is_safe),
        cmocka_unit_test(test_a_wrong_clock),
        cmocka_unit_test(test_what_does_not_fit),
        cmocka_unit_test(test_stories),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
