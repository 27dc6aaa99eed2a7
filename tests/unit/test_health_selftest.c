/* test_health_selftest.c - questions with one right answer: what counts as the same, and what a run of wrong ones means. */
#include "common/selftest.h"
#include "health/health_selftest.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const struct {
    const char *expect, *answer, *why; /* why NULL: the same */
} rows[] = {
    {"{}", "{\"anything\":1}", NULL},
    {"{\"a\":1}", "{\"a\":1,\"b\":2}", NULL},
    {"{\"a\":1}", "{\"a\":1.0}", NULL},
    {"{\"a\":1.5}", "{\"a\":15e-1}", NULL},
    {"{\"a\":\"x\",\"b\":true,\"c\":null}", "{\"c\":null,\"b\":true,\"a\":\"x\"}", NULL},
    {"{\"a\":{\"b\":{\"c\":[1,{\"d\":2}]}}}", "{\"a\":{\"z\":0,\"b\":{\"c\":[1,{\"e\":1,\"d\":2}]}}}", NULL},
    {"{\"a\":[]}", "{\"a\":[]}", NULL},
    {"{\"a\":1}", "{}", "a: expected 1, got nothing"},
    {"{\"a\":null}", "{}", "a: expected null, got nothing"},
    {"{\"a\":1}", "{\"a\":\"1\"}", "a: expected 1, got \"1\""},
    {"{\"a\":true}", "{\"a\":false}", "a: expected true, got false"},
    {"{\"a\":1}", "{\"a\":2}", "a: expected 1, got 2"},
    {"{\"a\":9007199254740993}", "{\"a\":9007199254740992}", "a: expected 9007199254740993, got 9007199254740992"},
    {"{\"v\":\"malicious\"}", "{\"v\":\"Malicious\"}", "v: expected \"malicious\", got \"Malicious\""},
    {"{\"a\":{\"b\":[1,2,3]}}", "{\"a\":{\"b\":[1,2]}}", "a.b: expected a list of 3, got a list of 2"},
    {"{\"a\":{\"b\":[1,{\"c\":2}]}}", "{\"a\":{\"b\":[1,{\"c\":3}]}}", "a.b[1].c: expected 2, got 3"},
    {"{\"a\":{}}", "{\"a\":[]}", "a: expected an object, got a list of 0"},
    {"{\"a\":\"x\"}",
     "{\"a\":\"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\"}",
     "a: expected \"x\", got \"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx..."},
};

static void test_same(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        json_t *expect = json_loads(rows[i].expect, 0, NULL), *answer = json_loads(rows[i].answer, 0, NULL);
        char why[HEALTH_DETAIL_MAX];
        assert_true(expect && answer);
        assert_int_equal(selftest_same(expect, answer, why, sizeof why), rows[i].why == NULL);
        assert_string_equal(why, rows[i].why ? rows[i].why : "");
        json_decref(expect);
        json_decref(answer);
    }
    /* A NUL in a text hides nothing. */
    json_t *expect = json_loads("{\"a\":\"x\"}", 0, NULL);
    json_t *answer = json_loads("{\"a\":\"x\\u0000y\"}", JSON_ALLOW_NUL, NULL);
    char why[HEALTH_DETAIL_MAX];
    assert_true(expect && answer);
    assert_false(selftest_same(expect, answer, why, sizeof why));
    json_decref(expect);
    json_decref(answer);
}

/* A deep path is cut, not overrun; the other answer's depth does not matter. */
static void test_deep(void **state)
{
    (void)state;
    char text[2][8192];
    for (int k = 0; k < 2; k++) {
        size_t n = 0;
        for (int i = 0; i < 500; i++)
            n += (size_t)snprintf(text[k] + n, sizeof text[k] - n, "{\"step%d\":", i);
        n += (size_t)snprintf(text[k] + n, sizeof text[k] - n, "%d", k);
        for (int i = 0; i < 500; i++)
            n += (size_t)snprintf(text[k] + n, sizeof text[k] - n, "}");
    }
    json_t *a = json_loads(text[0], 0, NULL), *b = json_loads(text[1], 0, NULL);
    assert_true(a && b);
    char why[HEALTH_DETAIL_MAX];
    assert_true(selftest_same(a, a, why, sizeof why));
    assert_false(selftest_same(a, b, why, sizeof why));
    assert_int_equal(strncmp(why, "step0.step1.step2", 17), 0);
    assert_non_null(strstr(why, "expected 0, got 1"));
    json_decref(a);
    json_decref(b);
}

static void test_runs(void **state)
{
    (void)state;
    /* Every course of seven answers, with every fall: the fault holds from the fall-th wrong one in a row to the second right one. */
    for (uint32_t fall = 1; fall <= 4; fall++)
        for (uint32_t course = 0; course < 1u << 14; course++) {
            struct health_selftest s = {0};
            uint32_t wrong = 0, right = 0;
            int fault = HEALTH_FAULT_CANCELLED;
            for (int i = 0; i < 7; i++) {
                enum health_selftest_end end = (enum health_selftest_end)(course >> 2 * i & 3);
                bool says = health_selftest_take(&s, fall, end, "login", "label: expected 1, got 2");
                assert_int_equal(says, end != HEALTH_SELFTEST_NOT_ASKED);
                if (end == HEALTH_SELFTEST_RIGHT) {
                    right++;
                    wrong = 0;
                    if (fault <= HEALTH_FAULT_NONE || right >= HEALTH_SELFTEST_RISE)
                        fault = HEALTH_FAULT_NONE;
                } else if (end != HEALTH_SELFTEST_NOT_ASKED) {
                    wrong++;
                    right = 0;
                    if (wrong >= fall)
                        fault = end == HEALTH_SELFTEST_WRONG ? HEALTH_FAULT_WRONG_ANSWER : HEALTH_FAULT_TIMEOUT;
                }
                assert_int_equal(s.fault, fault);
            }
        }
    struct health_selftest s = {0};
    for (int i = 0; i < 2; i++)
        health_selftest_take(&s, 2, HEALTH_SELFTEST_WRONG, "login", "label: expected 1, got 2");
    assert_string_equal(s.detail, "2 in a row, the last login: label: expected 1, got 2");
    /* One after the other, also when the settings have fewer now. */
    for (uint32_t i = 0; i < 7; i++)
        assert_int_equal(health_selftest_next(&s, 3), i % 3);
    assert_int_equal(health_selftest_next(&s, 1), 0);
    s.next = 60;
    assert_in_range(health_selftest_next(&s, 7), 0, 6);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_same), cmocka_unit_test(test_deep),
                                       cmocka_unit_test(test_runs)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
