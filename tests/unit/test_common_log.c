/* test_common_log.c - lines as logfmt and JSON: quoting, cutting, limits, many threads. */
#include "common/log.h"
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <limits.h>
#include <math.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static int captured = -1, saved_stderr = -1;

static void capture(void)
{
    char path[] = "/tmp/redoubt-log-XXXXXX";
    captured = mkstemp(path);
    assert_true(captured >= 0);
    unlink(path);
    fcntl(captured, F_SETFL, O_APPEND);
    saved_stderr = dup(STDERR_FILENO);
    dup2(captured, STDERR_FILENO);
}

/* What was written since capture(); ends it. malloc'ed. */
static char *release(void)
{
    dup2(saved_stderr, STDERR_FILENO);
    close(saved_stderr);
    off_t n = lseek(captured, 0, SEEK_END);
    char *text = calloc(1, (size_t)n + 1);
    assert_int_equal(pread(captured, text, (size_t)n, 0), n);
    close(captured);
    return text;
}

static void lines_are_logfmt(void **state)
{
    (void)state;
    log_init("breaker", LOG_LEVEL_INFO, LOG_FORMAT_LOGFMT);
    log_instance("host-breaker-0");
    capture();
    log_debug("not written");
    log_info("breaker opened", F_STR("target", "llm.openai.gpt-4o"), F_INT("epoch", 7), F_DBL("share", 0.5),
             F_STR("why", "a \"quoted\" = \\ text\nwith\ttwo\x01 lines\x7f"), F_STR("empty", ""),
             F_STR("none", NULL));
    log_warn("x", F_DBL("nan", NAN));
    char *text = release();
    char *end = strchr(text, '\n');
    assert_memory_equal(text, "ts=20", 5);
    *end = 0;
    assert_string_equal(text + strlen("ts=2026-01-31T09:05:01.042Z"),
                        " level=info service=breaker instance=host-breaker-0 event=\"breaker opened\" "
                        "target=llm.openai.gpt-4o epoch=7 share=0.5 "
                        "why=\"a \\\"quoted\\\" = \\\\ text\\nwith\\ttwo\\u0001 lines\\u007f\" empty=\"\" none=\"\"");
    assert_non_null(strstr(end + 1, " level=warn "));
    assert_non_null(strstr(end + 1, " event=x nan=nan\n"));
    free(text);
    log_instance(NULL);
}

static char *one_line(enum log_format format, const char *key, const char *value)
{
    log_init("s", LOG_LEVEL_INFO, format);
    capture();
    log_info("e", F_STR(key, value), F_INT("after", 1));
    return release();
}

static void odd_bytes_never_reach_the_terminal(void **state)
{
    (void)state;
    for (int f = 0; f < 2; f++) {
        for (int c = 1; c < 256; c++) {
            char value[4] = {'<', (char)c, '>', 0};
            char *text = one_line(f ? LOG_FORMAT_JSON : LOG_FORMAT_LOGFMT, "v", value);
            assert_ptr_equal(strchr(text, '\n'), text + strlen(text) - 1);
            for (char *p = text; *p && *p != '\n'; p++)
                assert_true(*p >= ' ' && *p <= '~');
            if (f) {
                json_t *j = json_loads(text, 0, NULL);
                assert_non_null(j);
                if (c < 0x80)
                    assert_string_equal(json_string_value(json_object_get(j, "v")), value);
                else
                    assert_string_equal(json_string_value(json_object_get(j, "v")), "<\xef\xbf\xbd>");
                json_decref(j);
            }
            free(text);
        }
    }
    char *text = one_line(LOG_FORMAT_LOGFMT, "v", "caf\xc3\xa9");
    assert_non_null(strstr(text, " v=caf\xc3\xa9 after=1\n"));
    free(text);
    text = one_line(LOG_FORMAT_LOGFMT, "v", "csi\xc2\x9bm");
    assert_non_null(strstr(text, " v=\"csi\\u009bm\" after=1\n"));
    free(text);
    text = one_line(LOG_FORMAT_LOGFMT, "v",
                    "a\xff"
                    "b");
    assert_non_null(strstr(text, " v=\"a\\xffb\" after=1\n"));
    free(text);
}

static void json_lines_parse(void **state)
{
    (void)state;
    log_init("alert", LOG_LEVEL_DEBUG, LOG_FORMAT_JSON);
    log_instance("i\"1");
    capture();
    log_debug("said", F_STR("s", "line\nbreak"), F_INT("min", INT64_MIN), F_DBL("d", 1.25), F_DBL("inf", INFINITY));
    char *text = release();
    json_t *j = json_loads(text, 0, NULL);
    assert_non_null(j);
    assert_string_equal(json_string_value(json_object_get(j, "level")), "debug");
    assert_string_equal(json_string_value(json_object_get(j, "service")), "alert");
    assert_string_equal(json_string_value(json_object_get(j, "instance")), "i\"1");
    assert_string_equal(json_string_value(json_object_get(j, "event")), "said");
    assert_string_equal(json_string_value(json_object_get(j, "s")), "line\nbreak");
    assert_true(json_integer_value(json_object_get(j, "min")) == INT64_MIN);
    assert_true(json_is_null(json_object_get(j, "inf")));
    json_decref(j);
    free(text);
    log_instance(NULL);
}

static void long_lines_are_cut_and_stay_whole(void **state)
{
    (void)state;
    static char big[100000];
    memset(big, 'x', sizeof big - 1);
    for (int f = 0; f < 2; f++) {
        log_init("s", LOG_LEVEL_INFO, f ? LOG_FORMAT_JSON : LOG_FORMAT_LOGFMT);
        capture();
        log_info("e", F_STR("a", big), F_STR("b", big), F_STR("c", big), F_STR("d", big), F_INT("last", 1));
        log_info(big, F_INT("last", 1));
        char *text = release();
        char *end = strchr(text, '\n');
        assert_true(end - text < PIPE_BUF);
        *end = 0;
        assert_non_null(strstr(text, f ? ",\"cut\":true}" : " cut=true"));
        assert_null(strstr(text, "last"));
        assert_non_null(strstr(text, "xxx..."));
        if (f) {
            json_t *j = json_loads(text, 0, NULL);
            assert_non_null(j);
            json_decref(j);
        }
        assert_ptr_equal(strchr(end + 1, '\n'), end + 1 + strlen(end + 1) - 1);
        free(text);
    }
    /* A cut never leaves half a code point, whatever the offset. */
    for (size_t offset = 0; offset < 4; offset++) {
        char value[2000];
        memset(value, 'a', offset);
        for (size_t i = offset; i + 4 < sizeof value; i += 4)
            memcpy(value + i, "\xf0\x9f\x98\x80", 5);
        char *text = one_line(LOG_FORMAT_LOGFMT, "v", value);
        assert_null(strstr(text, "\\x"));
        assert_non_null(strstr(text, "...\" after=1"));
        free(text);
    }
}

static void levels_hold_back(void **state)
{
    (void)state;
    log_init("s", LOG_LEVEL_ERROR, LOG_FORMAT_LOGFMT);
    assert_false(log_enabled(LOG_LEVEL_WARN));
    assert_true(log_enabled(LOG_LEVEL_ERROR));
    capture();
    log_warn("no");
    errno = 77;
    log_error("yes");
    assert_int_equal(errno, 77);
    char *text = release();
    assert_null(strstr(text, "event=no"));
    assert_non_null(strstr(text, "event=yes\n"));
    free(text);
}

static void repeats_are_counted_not_written(void **state)
{
    (void)state;
    struct log_limit l = {0};
    uint64_t held = 99;
    assert_true(log_allowed(&l, 1000, 10000, &held));
    assert_int_equal(held, 0);
    for (int i = 0; i < 5; i++)
        assert_false(log_allowed(&l, 2000 + i, 10000, &held));
    assert_true(log_allowed(&l, 11000, 10000, &held));
    assert_int_equal(held, 5);
    assert_true(log_allowed(&l, 21000, 10000, NULL));
}

#define THREADS 4
#define LINES   500

static void *chatter(void *ctx)
{
    int me = *(int *)ctx;
    for (int i = 0; i < LINES; i++) {
        if (i % 50 == 0)
            log_instance(me % 2 ? "odd" : "even");
        log_info("line", F_INT("thread", me), F_INT("i", i), F_STR("text", "some text that makes the line longer"));
    }
    return NULL;
}

static void threads_do_not_mix_lines(void **state)
{
    (void)state;
    pthread_t t[THREADS];
    int me[THREADS];
    log_init("s", LOG_LEVEL_INFO, LOG_FORMAT_JSON);
    capture();
    for (int i = 0; i < THREADS; i++) {
        me[i] = i;
        pthread_create(&t[i], NULL, chatter, &me[i]);
    }
    for (int i = 0; i < THREADS; i++)
        pthread_join(t[i], NULL);
    char *text = release();
    int lines = 0, next[THREADS] = {0};
    for (char *p = text, *end; (end = strchr(p, '\n')); p = end + 1) {
        *end = 0;
        json_t *j = json_loads(p, 0, NULL);
        assert_non_null(j);
        json_int_t thread = json_integer_value(json_object_get(j, "thread"));
        assert_int_equal(json_integer_value(json_object_get(j, "i")), next[thread]++);
        json_decref(j);
        lines++;
    }
    assert_int_equal(lines, THREADS * LINES);
    free(text);
    log_instance(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lines_are_logfmt),         cmocka_unit_test(odd_bytes_never_reach_the_terminal),
        cmocka_unit_test(json_lines_parse),         cmocka_unit_test(long_lines_are_cut_and_stay_whole),
        cmocka_unit_test(levels_hold_back),         cmocka_unit_test(repeats_are_counted_not_written),
        cmocka_unit_test(threads_do_not_mix_lines),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
