/* test_cli_ledger.c - the simulated backend's ledger: what it counts, what it remarks, and that it does not grow. */
#include "cli/sim_ledger.h"
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static json_int_t number(const json_t *j, const char *name)
{
    return json_integer_value(json_object_get(j, name));
}

static void assert_counts(const struct sim_ledger *l, const char *agent, const json_int_t want[5])
{
    static const char *const names[] = {"executed", "repeated", "out_of_order", "older_epoch", "fenced"};
    json_t *j = sim_ledger_json(l), *one = agent ? json_object_get(json_object_get(j, "by_agent"), agent) : j;
    for (int i = 0; i < 5; i++)
        if (number(one, names[i]) != want[i])
            fail_msg("%s: %s is %lld, not %lld", agent ? agent : "all", names[i], (long long)number(one, names[i]),
                     (long long)want[i]);
    json_decref(j);
}

#define COUNTS(l, agent, ...) assert_counts(l, agent, (const json_int_t[5]){__VA_ARGS__})

static void what_is_counted(void **state)
{
    (void)state;
    struct sim_ledger *l = sim_ledger_open();
    assert_true(sim_ledger_take(l, "a", "p-1", 3, 100));
    assert_true(sim_ledger_take(l, "a", "p-3", 3, 101));
    assert_true(sim_ledger_take(l, "a", "q-1", 4, 102)); /* another process of it: an order of its own */
    assert_true(sim_ledger_take(l, "b", "p-2", 9, 103)); /* another agent */
    assert_true(sim_ledger_take(l, "b", "no-number", 9, 104));
    COUNTS(l, NULL, 5, 0, 0, 0, 0);
    assert_false(sim_ledger_take(l, "a", "p-3", 4, 105)); /* done before, whoever asks */
    assert_false(sim_ledger_take(l, "a", "p-2", 4, 106));
    assert_true(sim_ledger_take(l, "a", "p-02", 4, 107)); /* after p-3 */
    assert_true(sim_ledger_take(l, "a", "p-4", 3, 108));  /* after one of epoch 4 */
    COUNTS(l, "a", 5, 2, 1, 1, 0);
    COUNTS(l, "b", 2, 0, 0, 0, 0);
    assert_true(sim_ledger_fence(l, "a", 5));
    assert_true(sim_ledger_fence(l, "a", 4)); /* none goes back */
    assert_true(sim_ledger_take(l, "a", "p-5", 6, 109));
    COUNTS(l, "a", 6, 2, 1, 1, 0);
    assert_true(sim_ledger_take(l, "a", "p-6", 5, 110));
    assert_false(sim_ledger_take(l, "a", "p-6", 0, 111));
    COUNTS(l, "a", 7, 3, 1, 2, 2);
    json_t *j = sim_ledger_json(l), *a = json_object_get(json_object_get(j, "by_agent"), "a");
    assert_int_equal(number(a, "last_epoch"), 5);
    assert_int_equal(number(a, "highest_epoch"), 6);
    assert_int_equal(number(a, "first_unix_ms"), 100);
    assert_int_equal(number(a, "last_unix_ms"), 110);
    const json_t *first = json_array_get(json_object_get(j, "remarks"), 0);
    assert_string_equal(json_string_value(json_object_get(first, "what")), "repeated");
    assert_string_equal(json_string_value(json_object_get(first, "key")), "p-3");
    assert_int_equal(json_array_size(json_object_get(j, "remarks")), 8);
    json_decref(j);
    sim_ledger_close(l);
    sim_ledger_close(NULL);
}

static void it_does_not_grow(void **state)
{
    (void)state;
    uint64_t n = getenv("VALGRIND") ? 20000 : 1200000;
    struct sim_ledger *l = sim_ledger_open();
    char key[64];
    for (uint64_t i = 1; i <= n; i++) {
        snprintf(key, sizeof key, "0123456789abcdef-%" PRIu64, i);
        assert_true(sim_ledger_take(l, "a", key, 1, (int64_t)i));
        if (i > 1000000)
            continue;
        if (i % 500 == 0)
            assert_false(sim_ledger_take(l, "a", key, 1, (int64_t)i));
    }
    uint64_t repeats = (n < 1000000 ? n : 1000000) / 500;
    COUNTS(l, "a", (json_int_t)n, (json_int_t)repeats, 0, 0, 0);
    /* All of the last million are still known. */
    for (uint64_t i = n > 1000000 ? n - 1000000 + 1 : 1; i <= n; i += 997) {
        snprintf(key, sizeof key, "0123456789abcdef-%" PRIu64, i);
        assert_false(sim_ledger_take(l, "a", key, 1, 0));
    }
    json_t *j = sim_ledger_json(l);
    assert_true(json_array_size(json_object_get(j, "remarks")) <= 1000);
    json_decref(j);
    sim_ledger_close(l);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(what_is_counted), cmocka_unit_test(it_does_not_grow)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
