/* test_health_log.c - bytes into lines, however they are cut; counts of a window against a plain model. */
#include "health/health_log.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static uint64_t rng = 1;
static uint32_t draw(void)
{
    rng = rng * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(rng >> 32);
}

/* ---- lines ---- */

struct got {
    char text[1 << 20];
    size_t len, lines, longest;
};

static void on_line(void *ctx, const char *line, size_t len)
{
    struct got *g = ctx;
    assert_true(len <= HEALTH_LINE_MAX);
    assert_null(memchr(line, '\n', len));
    if (g->len + len + 1 < sizeof g->text) {
        memcpy(g->text + g->len, line, len);
        g->len += len;
        g->text[g->len++] = '|';
    }
    g->lines++;
    g->longest = len > g->longest ? len : g->longest;
}

static void test_lines(void **state)
{
    (void)state;
    struct health_lines *l = calloc(1, sizeof *l);
    struct got *g = calloc(1, sizeof *g);
    assert_true(l && g);
    static const char text[] = "one\ntwo\r\n\n\r\nthree\rstill\nfo\0ur\nthe end";
    const size_t len = sizeof text - 1;
    static const char want[] = "one|two|||three\rstill|fo\0ur|the end|";
    /* However it is cut, it is the same. */
    for (size_t a = 0; a <= len; a++)
        for (size_t b = a; b <= len; b++) {
            g->len = g->lines = 0;
            health_lines_feed(l, text, a, on_line, g);
            health_lines_feed(l, text + a, b - a, on_line, g);
            health_lines_feed(l, text + b, len - b, on_line, g);
            assert_int_equal(g->lines, 6);
            health_lines_end(l, on_line, g);
            health_lines_end(l, on_line, g);
            assert_int_equal(g->len, sizeof want - 1);
            assert_memory_equal(g->text, want, sizeof want - 1);
        }
    /* Begun, and not the beginning of what comes next. */
    g->len = 0;
    health_lines_feed(l, "half", 4, on_line, g);
    health_lines_reset(l);
    health_lines_feed(l, "whole\n", 6, on_line, g);
    assert_int_equal(g->len, 6);
    assert_memory_equal(g->text, "whole|", 6);
    free(g);
    free(l);
}

/* Lines without an end: bounded, and the next line is whole again; whether they come at once or byte by byte. */
static void test_long_lines(void **state)
{
    (void)state;
    size_t size = 3 * HEALTH_LINE_MAX;
    char *text = malloc(size);
    struct health_lines *l = calloc(1, sizeof *l);
    struct got *g = calloc(1, sizeof *g);
    assert_true(text && l && g);
    memset(text, 'x', size);
    for (size_t step = 1; step <= size; step = step * 7 + 1) {
        g->len = g->lines = g->longest = 0;
        for (size_t at = 0; at < size; at += step)
            health_lines_feed(l, text + at, size - at < step ? size - at : step, on_line, g);
        assert_int_equal(g->lines, 0);
        health_lines_feed(l, "\nnext\n", 6, on_line, g);
        assert_int_equal(g->lines, 2);
        assert_int_equal(g->longest, HEALTH_LINE_MAX);
        assert_memory_equal(g->text + g->len - 6, "|next|", 6);
    }
    /* Whole in one piece, and longer than what is looked at. */
    g->len = g->lines = g->longest = 0;
    text[size - 1] = '\n';
    health_lines_feed(l, text, size, on_line, g);
    assert_true(g->lines == 1 && g->longest == HEALTH_LINE_MAX);
    free(text);
    free(g);
    free(l);
}

/* ---- windows ---- */

static void test_against_model(void **state)
{
    (void)state;
    enum { TIMES = 4000 };
    static int64_t at[HEALTH_LOG_PATTERNS_MAX][TIMES];
    for (uint64_t seed = 1; seed <= 60; seed++) {
        rng = seed * 0x9e3779b97f4a7c15u;
        struct health_log *l = malloc(sizeof *l);
        assert_non_null(l);
        struct health_log_rule rule = {.window_ms = 1000 + draw() % 100000,
                                       .n = 1 + draw() % HEALTH_LOG_PATTERNS_MAX};
        const char *names[HEALTH_LOG_PATTERNS_MAX];
        size_t n[HEALTH_LOG_PATTERNS_MAX] = {0};
        for (size_t i = 0; i < rule.n; i++) {
            names[i] = "pattern";
            rule.most[i] = draw() % 20;
        }
        int64_t now = draw(), span = rule.window_ms / HEALTH_LOG_BUCKETS;
        health_log_init(l, now);
        for (int step = 0; step < 2000; step++) {
            now += draw() % 8 ? draw() % (uint32_t)span : draw() % (uint32_t)(3 * rule.window_ms);
            size_t i = draw() % rule.n;
            for (uint32_t k = draw() % 4; k > 0 && n[i] < TIMES; k--) {
                health_log_match(l, &rule, i, "line", 4, now);
                at[i][n[i]++] = now;
            }
            /* The window is this bucket and the nine before it. */
            int fault = HEALTH_FAULT_NONE;
            for (size_t p = 0; p < rule.n; p++) {
                uint32_t inside = 0;
                for (size_t k = n[p]; k > 0 && now / span - at[p][k - 1] / span < HEALTH_LOG_BUCKETS; k--)
                    inside++;
                if (inside > rule.most[p])
                    fault = HEALTH_FAULT_PATTERN;
            }
            struct health_result r = {0};
            health_log_judge(l, &rule, names, now, &r);
            if (r.fault != fault)
                fail_msg("seed %d, step %d: %d instead of %d", (int)seed, step, r.fault, fault);
        }
        free(l);
    }
}

static void test_quiet(void **state)
{
    (void)state;
    struct health_log l;
    struct health_log_rule rule = {.window_ms = 60000, .quiet_ms = 5000};
    struct health_result r = {0};
    health_log_init(&l, 1000);
    health_log_judge(&l, &rule, NULL, 5999, &r);
    assert_int_equal(r.fault, HEALTH_FAULT_NONE);
    health_log_judge(&l, &rule, NULL, 6000, &r);
    assert_int_equal(r.fault, HEALTH_FAULT_QUIET);
    assert_string_equal(r.detail, "no line for 5 s; 5 s are allowed");
    health_log_line(&l, 6000);
    health_log_judge(&l, &rule, NULL, 6001, &r);
    assert_int_equal(r.fault, HEALTH_FAULT_NONE);
    rule.quiet_ms = 0;
    health_log_judge(&l, &rule, NULL, 1000000000, &r);
    assert_int_equal(r.fault, HEALTH_FAULT_NONE);
}

static void test_newest(void **state)
{
    (void)state;
    struct health_log l;
    struct health_log_rule rule = {.window_ms = 60000, .n = 2, .most = {1, 0}};
    const char *const names[] = {"warn", "a name that is longer than what goes into a line"};
    struct health_result r = {0};
    health_log_init(&l, 1000);
    health_log_match(&l, &rule, 0, "warn 1", 6, 2000);
    health_log_judge(&l, &rule, names, 2000, &r);
    assert_int_equal(r.fault, HEALTH_FAULT_NONE);
    health_log_match(&l, &rule, 0, "warn\0 \x1b[31m 2", 13, 3000);
    health_log_judge(&l, &rule, names, 3000, &r);
    assert_string_equal(r.detail, "2 lines like warn, newest: warn   [31m 2"); /* nothing that a terminal obeys */
    rule.most[0] = 9;
    char text[200];
    memset(text, 'x', sizeof text);
    health_log_match(&l, &rule, 1, text, sizeof text, 3000);
    health_log_judge(&l, &rule, names, 3000, &r);
    assert_non_null(strstr(r.detail, "1 lines like a name that is longer th, newest: xxx"));
    /* Very many are many, not few. */
    for (int i = 0; i < 1000; i++)
        health_log_match(&l, &rule, 1, "y", 1, 4000);
    health_log_judge(&l, &rule, names, 4000, &r);
    assert_non_null(strstr(r.detail, "1001 lines"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lines), cmocka_unit_test(test_long_lines), cmocka_unit_test(test_against_model),
        cmocka_unit_test(test_quiet), cmocka_unit_test(test_newest),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
