/* test_common_base.c - the small rooms: errors, clock and tilt, metrics, state machines, names, UTF-8. */
#include "common/clock.h"
#include "common/err.h"
#include "common/metric.h"
#include "common/metric_hist.h"
#include "common/sm.h"
#include "common/subjects.h"
#include "common/utf8.h"
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

static void errors_hold_what_fits(void **state)
{
    (void)state;
    struct err e;
    char much[2 * ERR_TEXT_MAX];
    memset(much, 'x', sizeof much - 1);
    much[sizeof much - 1] = 0;
    assert_int_equal(err_set(&e, "%s: %d", "line", 7), -1);
    assert_string_equal(e.text, "line: 7");
    assert_int_equal(err_set(&e, "%s", much), -1);
    assert_int_equal(strlen(e.text), ERR_TEXT_MAX - 1);
    assert_int_equal(err_set(NULL, "nobody listens"), -1);
}

static void times_are_written_as_rfc_3339(void **state)
{
    (void)state;
    static const struct {
        int64_t ms;
        const char *text;
    } rows[] = {
        {0, "1970-01-01T00:00:00.000Z"},
        {1, "1970-01-01T00:00:00.001Z"},
        {-1, "1969-12-31T23:59:59.999Z"},
        {1769850301042, "2026-01-31T09:05:01.042Z"},
        {951782400000, "2000-02-29T00:00:00.000Z"},
        {253402300799999, "9999-12-31T23:59:59.999Z"},
        {INT64_MAX, "9999-12-31T23:59:59.999Z"},
        {-62167219200000, "0000-01-01T00:00:00.000Z"},
        {INT64_MIN, "0000-01-01T00:00:00.000Z"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        char buf[CLOCK_TEXT_MAX];
        assert_string_equal(clock_text(rows[i].ms, buf), rows[i].text);
    }
}

static void clocks_agree(void **state)
{
    (void)state;
    int64_t mono = clock_mono_ms(), ns = clock_mono_ns();
    assert_true(ns / 1000000 - mono < 1000 && ns / 1000000 >= mono);
    clock_shared_anchor();
    assert_true(llabs(clock_shared_ms() - clock_wall_ms()) < 1000);
    int64_t a = clock_shared_ms(), b = clock_shared_ms();
    assert_true(b >= a);
}

static void tilt_starts_at_gaps_and_jumps_and_ends(void **state)
{
    (void)state;
    struct tilt t = {0};
    assert_false(tilt_on(&t, 1000));
    assert_false(tilt_beat(&t, 1000, 500000, TILT_HOLD_MS)); /* the first beat compares with nothing */
    assert_false(tilt_beat(&t, 1500, 500500, TILT_HOLD_MS));
    assert_false(tilt_beat(&t, 3499, 502499, TILT_HOLD_MS)); /* 1,999 ms */
    assert_true(tilt_beat(&t, 5499, 504499, TILT_HOLD_MS));  /* 2,000 ms */
    assert_true(tilt_on(&t, 5499));
    assert_true(tilt_on(&t, 5499 + TILT_HOLD_MS - 1));
    assert_false(tilt_on(&t, 5499 + TILT_HOLD_MS));
    assert_false(tilt_beat(&t, 5999, 504999, TILT_HOLD_MS));
    assert_true(tilt_beat(&t, 6499, 504999 + 2500, TILT_HOLD_MS)); /* the wall clock jumped ahead */
    assert_true(tilt_on(&t, 6499 + TILT_HOLD_MS - 1));
    assert_true(tilt_beat(&t, 6999, 100, 1000)); /* and back; a shorter hold shortens nothing */
    assert_true(tilt_on(&t, 6499 + TILT_HOLD_MS - 1));
    assert_false(tilt_on(&t, 6499 + TILT_HOLD_MS));
}

METRIC_DEFINE(counter_b, METRIC_COUNTER, "redoubt_test_b_total", "B.");
METRIC_DEFINE(counter_a, METRIC_COUNTER, "redoubt_test_a_total", "A.");
METRIC_DEFINE(gauge, METRIC_GAUGE, "redoubt_test_gauge", "G.");
METRIC_DEFINE(never, METRIC_GAUGE, "redoubt_test_never", "N.");

static void *count(void *unused)
{
    for (int i = 0; i < 10000; i++) {
        metric_add(&counter_a, 1);
        metric_add(&counter_b, 2);
    }
    return unused;
}

static void collect(const struct metric *m, void *ctx)
{
    char *names = ctx;
    strcat(strcat(names, m->name + strlen("redoubt_test_")), " ");
}

static void metrics_count_from_many_threads(void **state)
{
    (void)state;
    pthread_t t[4];
    for (int i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&t[i], NULL, count, NULL), 0);
    metric_set(&gauge, -5);
    for (int i = 0; i < 4; i++)
        pthread_join(t[i], NULL);
    assert_int_equal(metric_get(&counter_a), 40000);
    assert_int_equal(metric_get(&counter_b), 80000);
    assert_int_equal(metric_get(&gauge), -5);
    assert_int_equal(metric_get(&never), 0);
    char names[128] = "";
    metric_each(collect, names);
    assert_string_equal(names, "a_total b_total gauge ");
}

enum { OFF, ON, BROKEN, STATES };
static const char *const state_names[STATES] = {"OFF", "ON", "BROKEN"};
static const uint32_t allowed[STATES] = {[OFF] = SM_BIT(ON), [ON] = SM_BIT(OFF) | SM_BIT(BROKEN), [BROKEN] = 0};
static bool is_positive(const void *object)
{
    return *(const int *)object > 0;
}
static const struct sm_table table = {"lamp", STATES, state_names, allowed, is_positive};

/* What fn() writes to stderr before it aborts. */
static void expect_abort(void (*fn)(void), const char *text)
{
    int fds[2], status;
    char said[256] = "";
    assert_int_equal(pipe(fds), 0);
    pid_t pid = fork();
    if (pid == 0) {
        dup2(fds[1], STDERR_FILENO);
        fn();
        _exit(0);
    }
    close(fds[1]);
    ssize_t n = read(fds[0], said, sizeof said - 1);
    close(fds[0]);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(n > 0);
    assert_non_null(strstr(said, text));
    assert_false(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

static void move_wrongly(void)
{
    int s = OFF;
    sm_move(&table, &s, BROKEN);
}

static void move_nowhere(void)
{
    int s = OFF;
    sm_move(&table, &s, 17);
}

static void check_wrongly(void)
{
    int value = 0;
    sm_check(&table, ON, &value);
}

/* Beside the exact answer: sorted values of several sorts. */
static void percentiles_are_near_and_never_too_low(void **state)
{
    (void)state;
    static int64_t values[4000];
    struct metric_hist none = {.total = 0};
    assert_int_equal(metric_hist_percentile(&none, 99), 0);
    for (int round = 0; round < 40; round++) {
        struct metric_hist h = {.total = 0};
        uint64_t x = (uint64_t)round + 1;
        size_t n = 1 + (size_t)round * 97;
        for (size_t i = 0; i < n; i++) {
            x = x * 6364136223846793005u + 1442695040888963407u;
            int64_t v = (int64_t)(x >> 33) % (INT64_C(1) << (1 + round % 18));
            size_t k = i;
            metric_hist_add(&h, v);
            for (; k > 0 && values[k - 1] > v; k--)
                values[k] = values[k - 1];
            values[k] = v;
        }
        static const unsigned percents[] = {1, 50, 90, 99, 100};
        for (size_t i = 0; i < sizeof percents / sizeof *percents; i++) {
            int64_t exact = values[(n * percents[i] + 99) / 100 - 1];
            int64_t got = metric_hist_percentile(&h, percents[i]);
            assert_true(got >= exact && got <= exact + exact / 8 && got <= values[n - 1]);
        }
        assert_int_equal(h.max, values[n - 1]);
    }
    struct metric_hist odd = {.total = 0};
    metric_hist_add(&odd, -5);
    metric_hist_add(&odd, INT64_MAX);
    assert_int_equal(metric_hist_percentile(&odd, 50), 0);
    assert_true(metric_hist_percentile(&odd, 100) == INT64_MAX);
}

static void machines_move_along_their_table_only(void **state)
{
    (void)state;
    int s = OFF, value = 1;
    sm_move(&table, &s, ON);
    assert_int_equal(s, ON);
    sm_check(&table, s, &value);
    for (int from = -1; from <= STATES; from++)
        for (int to = -1; to <= STATES; to++)
            assert_int_equal(sm_may(&table, from, to),
                             (from == OFF && to == ON) || (from == ON && (to == OFF || to == BROKEN)));
    assert_string_equal(sm_name(&table, BROKEN), "BROKEN");
    assert_string_equal(sm_name(&table, -1), "?");
    assert_string_equal(sm_name(&table, STATES), "?");
    assert_int_equal(sm_parse(&table, "broken"), BROKEN);
    assert_int_equal(sm_parse(&table, "dim"), -1);
    expect_abort(move_wrongly, "lamp: transition OFF (0) -> BROKEN (2) is not allowed");
    expect_abort(move_nowhere, "? (17)");
    expect_abort(check_wrongly, "lamp: invariant does not hold in state ON (1)");
}

static void names_follow_the_contract(void **state)
{
    (void)state;
    char longest[TARGET_MAX_LEN + 2];
    assert_true(name_token_ok("mcp-security_agent-1"));
    assert_false(name_token_ok(""));
    assert_false(name_token_ok("Agent"));
    assert_false(name_token_ok("a.b"));
    assert_false(name_token_ok("a b"));
    assert_false(name_token_ok("a*"));
    assert_false(name_token_ok("caf\xc3\xa9"));
    memset(longest, 'a', sizeof longest);
    longest[NAME_MAX_LEN] = 0;
    assert_true(name_token_ok(longest));
    longest[NAME_MAX_LEN] = 'a';
    longest[NAME_MAX_LEN + 1] = 0;
    assert_false(name_token_ok(longest));
    assert_false(name_target_ok(longest));

    assert_true(name_target_ok("llm.openai.gpt-4o"));
    assert_true(name_target_ok("agent"));
    static const char *const wrong[] = {"", ".", "a.", ".a", "a..b", "a.*", "a.>", "A", "a b", "a\n"};
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++)
        assert_false(name_target_ok(wrong[i]));
    memset(longest, 'a', sizeof longest);
    longest[50] = longest[100] = '.';
    longest[TARGET_MAX_LEN] = 0;
    assert_true(name_target_ok(longest));
    longest[TARGET_MAX_LEN] = 'a';
    longest[TARGET_MAX_LEN + 1] = 0;
    assert_false(name_target_ok(longest));

    assert_string_equal(subject_tail("redoubt.v1.report.llm.x", SUBJECT_REPORT), "llm.x");
    assert_null(subject_tail("redoubt.v1.report.", SUBJECT_REPORT));
    assert_null(subject_tail("redoubt.v1.alert", SUBJECT_REPORT));
}

static void utf8_is_strict(void **state)
{
    (void)state;
    static const char *const good[] = {
        "", "plain", "\xc3\xa9", "\xe2\x82\xac", "\xf0\x9f\x98\x80", "\xf4\x8f\xbf\xbf"};
    static const struct {
        const char *text;
        size_t until;
    } bad[] = {
        {"\x80", 0},
        {"a\xc3", 1},
        {"a\xc0\x80", 1},
        {"\xc1\xbf", 0},
        {"\xe0\x80\x80", 0},
        {"\xed\xa0\x80", 0}, /* a surrogate */
        {"\xf0\x80\x80\x80", 0},
        {"\xf4\x90\x80\x80", 0},
        {"\xf5\x80\x80\x80", 0},
        {"ok\xff", 2},
        {"\xe2\x82", 0},
        {"\xe2(\xac", 0},
    };
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++)
        assert_int_equal(utf8_valid_until(good[i], strlen(good[i])), strlen(good[i]));
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_int_equal(utf8_valid_until(bad[i].text, strlen(bad[i].text)), bad[i].until);
    /* Every code point, written by hand and read back. */
    for (uint32_t c = 0; c <= 0x10ffff; c++) {
        char s[4];
        size_t n = c < 0x80 ? 1 : c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
        static const unsigned char lead[] = {0, 0, 0xc0, 0xe0, 0xf0};
        for (size_t i = n; i-- > 1;)
            s[i] = (char)(0x80 | ((c >> (6 * (n - 1 - i))) & 0x3f));
        s[0] = (char)(n == 1 ? c : lead[n] | (c >> (6 * (n - 1))));
        uint32_t back = 0;
        size_t got = utf8_next(s, n, &back);
        if (c >= 0xd800 && c <= 0xdfff)
            assert_int_equal(got, 0);
        else
            assert_true(got == n && back == c);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(errors_hold_what_fits),
        cmocka_unit_test(times_are_written_as_rfc_3339),
        cmocka_unit_test(clocks_agree),
        cmocka_unit_test(tilt_starts_at_gaps_and_jumps_and_ends),
        cmocka_unit_test(metrics_count_from_many_threads),
        cmocka_unit_test(percentiles_are_near_and_never_too_low),
        cmocka_unit_test(machines_move_along_their_table_only),
        cmocka_unit_test(names_follow_the_contract),
        cmocka_unit_test(utf8_is_strict),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
