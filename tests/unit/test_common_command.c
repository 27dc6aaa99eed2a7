/* test_common_command.c - commands for Redis are byte by byte what hiredis would send. */
#include "../fuzz/random.h"
#include "common/store_ring.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void same(int argc, const char **argv, const size_t *lens)
{
    char *theirs = NULL;
    size_t len;
    int want = (int)redisFormatCommandArgv(&theirs, argc, argv, lens);
    char *ours = store_command(argc, argv, lens, &len);
    assert_true(want > 0);
    assert_non_null(ours);
    assert_int_equal(len, want);
    assert_memory_equal(ours, theirs, len);
    assert_int_equal(ours[len], 0);
    free(ours);
    redisFreeCommand(theirs);
}

static void texts(void **unused)
{
    (void)unused;
    const char *argv[] = {"HMGET", "redoubt:{b:llm.a}:doc", "", "rev"};
    for (int n = 1; n <= 4; n++)
        same(n, argv, NULL);
}

static void anything(void **unused)
{
    (void)unused;
    enum { ARGS = 64, BYTES = 1 << 20 };
    struct fuzz_random r = {7};
    char *bytes = malloc(BYTES);
    assert_non_null(bytes);
    for (size_t i = 0; i < BYTES; i++)
        bytes[i] = (char)fuzz_next(&r);
    for (int round = 0; round < 2000; round++) {
        const char *argv[ARGS];
        size_t lens[ARGS];
        int argc = 1 + (int)fuzz_below(&r, ARGS);
        for (int i = 0; i < argc; i++) {
            static const size_t most[] = {1, 11, 101, 1001, 100001};
            lens[i] = fuzz_below(&r, most[fuzz_below(&r, fuzz_below(&r, 50) ? 3 : 5)]);
            argv[i] = bytes + fuzz_below(&r, BYTES - lens[i]);
        }
        same(argc, argv, lens);
    }
    free(bytes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(texts), cmocka_unit_test(anything)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
