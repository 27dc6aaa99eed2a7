/* test_guard_rate.c - GCRA against its definition, its shares, and the memory of keys: nothing that only we know is forgotten. */
#include "guard/guard_memory.h"
#include "guard/guard_rate.h"
#include <setjmp.h>
#include <sodium.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define SECOND_US INT64_C(1000000)

static void no_limit(void **state)
{
    (void)state;
    int64_t tat = 0;
    struct guard_rate r = guard_rate_make(0, 5, 3);
    for (int i = 0; i < 1000; i++)
        assert_int_equal(guard_rate_ask(&tat, r, 0), 0);
}

static void bursts_then_evenly(void **state)
{
    (void)state;
    int64_t tat = 0, now = 5 * SECOND_US;
    struct guard_rate r = guard_rate_make(60, 3, 1);
    for (int i = 0; i < 3; i++)
        assert_int_equal(guard_rate_ask(&tat, r, now), 0);
    assert_int_equal(guard_rate_ask(&tat, r, now), SECOND_US);
    assert_int_equal(guard_rate_ask(&tat, r, now), SECOND_US); /* to ask costs nothing */
    assert_int_equal(guard_rate_ask(&tat, r, now + SECOND_US - 1), 1);
    assert_int_equal(guard_rate_ask(&tat, r, now + SECOND_US), 0);
    assert_true(guard_rate_ask(&tat, r, now + SECOND_US) > 0);
}

/* At random times, over any stretch: no more pass than the burst and what the stretch allows; and all replicas together no more than one. */
static void never_more_than_the_limit(void **state)
{
    (void)state;
    static int64_t at[4][4000];
    for (int64_t members = 1; members <= 4; members++) {
        unsigned seed = 7;
        struct guard_rate r = guard_rate_make(120, 8, members);
        size_t n = 0;
        int64_t tat[4] = {0}, now = 0;
        for (int i = 0; i < 8000 && n < 4000; i++) {
            now += rand_r(&seed) % 200000;
            if (guard_rate_ask(&tat[i % members], r, now) == 0)
                at[members - 1][n++] = now;
        }
        assert_true(n > 500);
        for (size_t i = 0; i < n; i++)
            for (size_t k = i; k < n && k < i + 200; k++)
                assert_true((int64_t)(k - i + 1) <=
                            8 + (at[members - 1][k] - at[members - 1][i]) * 2 / SECOND_US + members);
    }
}

/* What passed by Redis leaves no second burst here, and no debt beyond one. */
static void notes(void **state)
{
    (void)state;
    int64_t tat = 0, now = 9 * SECOND_US;
    struct guard_rate r = guard_rate_make(60, 4, 2);
    for (int i = 0; i < 100; i++)
        guard_rate_note(&tat, r, now);
    int64_t wait = guard_rate_ask(&tat, r, now);
    assert_true(wait > 0 && wait <= r.interval_us);
    assert_int_equal(guard_rate_ask(&tat, r, now + wait), 0);
}

static void remembers(void **state)
{
    (void)state;
    enum { N = 256 };
    assert_true(sodium_init() >= 0);
    struct guard_memory *m = guard_memory_new(N);
    unsigned char id[GUARD_MEMORY_ID], other[GUARD_MEMORY_ID];
    char key[32];
    assert_non_null(m);
    guard_memory_id(m, "a", "bc", id);
    guard_memory_id(m, "ab", "c", other);
    assert_memory_not_equal(id, other, sizeof id);
    /* Filled with what Redis knows: the oldest go. */
    for (int i = 0; i < 3 * N; i++) {
        snprintf(key, sizeof key, "k%d", i);
        guard_memory_id(m, "a", key, id);
        assert_null(guard_memory_find(m, id, i, 100000));
        struct guard_mark *x = guard_memory_add(m, id, i, 100000);
        assert_non_null(x);
        x->state = GUARD_MARK_DONE;
        assert_ptr_equal(guard_memory_find(m, id, i, 100000), x);
    }
    /* Filled with what only we know: nothing goes before its time. */
    int kept = 0;
    for (int i = 0; i < 3 * N; i++) {
        snprintf(key, sizeof key, "l%d", i);
        guard_memory_id(m, "a", key, id);
        struct guard_mark *x = guard_memory_add(m, id, 1000, 100000);
        if (!x)
            continue;
        x->state = GUARD_MARK_DONE;
        x->ours_alone = true;
        kept++;
    }
    assert_int_equal(kept, N);
    for (int i = 0; i < N; i++) {
        snprintf(key, sizeof key, "l%d", i);
        guard_memory_id(m, "a", key, id);
        assert_non_null(guard_memory_find(m, id, 100999, 100000));
        assert_null(guard_memory_find(m, id, 101000, 100000)); /* its time is over */
    }
    assert_non_null(guard_memory_add(m, id, 200000, 100000));
    guard_memory_free(m);
}

static void forgets_what_is_dropped(void **state)
{
    (void)state;
    struct guard_memory *m = guard_memory_new(8);
    unsigned char id[GUARD_MEMORY_ID];
    char key[16];
    assert_non_null(m);
    for (int round = 0; round < 50; round++)
        for (int i = 0; i < 8; i++) {
            snprintf(key, sizeof key, "%d", i * 7 % 8);
            guard_memory_id(m, "a", key, id);
            struct guard_mark *x = guard_memory_find(m, id, 0, 10);
            if (x) {
                guard_memory_drop(m, x);
                assert_null(guard_memory_find(m, id, 0, 10));
                guard_memory_drop(m, x); /* twice is fine */
            }
            assert_non_null(guard_memory_add(m, id, 0, 10));
            assert_non_null(guard_memory_find(m, id, 0, 10));
        }
    guard_memory_free(m);
    guard_memory_free(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(no_limit), cmocka_unit_test(bursts_then_evenly), cmocka_unit_test(never_more_than_the_limit),
        cmocka_unit_test(notes),    cmocka_unit_test(remembers),          cmocka_unit_test(forgets_what_is_dropped),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
