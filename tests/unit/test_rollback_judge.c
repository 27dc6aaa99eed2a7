/* test_rollback_judge.c - the judge, rule by rule: classes, failures in a row, silence, counters, values, sides without traffic; and the exact tests. */
#include "redoubt/v1/rollback.pb-c.h"
#include "rollback/rollback_judge.h"
#include "rollback/rollback_stats.h"
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#define OUTCOME(x) REDOUBT__V1__CHECK_OUTCOME__CHECK_OUTCOME_##x
#define T0         INT64_C(1700000000000)
enum { FORMER, TARGET };
enum { PASS, FAIL, NONE };

/* ---- exact tests ---- */

typedef unsigned __int128 wide;

static wide choose(unsigned n, unsigned k)
{
    wide c = 1;
    if (k > n)
        return 0;
    for (unsigned i = 0; i < k; i++)
        c = c * (n - i) / (i + 1); /* exact: i + 1 numbers in a row */
    return c;
}

/* By whole numbers alone. */
static double fisher_slowly(unsigned ab, unsigned an, unsigned bb, unsigned bn)
{
    unsigned k = ab + bb;
    wide tail = 0;
    for (unsigned x = bb; x <= bn && x <= k; x++)
        tail += choose(k, x) * choose(an + bn - k, bn - x);
    return (double)((long double)tail / (long double)choose(an + bn, bn));
}

static void near_enough(double got, double want, double tolerance, const uint64_t in[4])
{
    if (!(fabs(got - want) <= tolerance * want))
        fail_msg("%llu of %llu, %llu of %llu: %.17g instead of %.17g", (unsigned long long)in[0],
                 (unsigned long long)in[1], (unsigned long long)in[2], (unsigned long long)in[3], got, want);
}

static void test_fisher_of_every_small_table(void **unused)
{
    (void)unused;
    for (unsigned an = 0; an <= 12; an++)
        for (unsigned bn = 0; bn <= 12; bn++)
            for (unsigned ab = 0; ab <= an; ab++)
                for (unsigned bb = 0; bb <= bn; bb++)
                    near_enough(rollback_fisher(ab, an, bb, bn), fisher_slowly(ab, an, bb, bn), 1e-11,
                                (const uint64_t[]){ab, an, bb, bn});
    for (unsigned ab = 0; ab <= 30; ab += 3)
        for (unsigned bb = 0; bb <= 30; bb++)
            near_enough(rollback_fisher(ab, 30, bb, 30), fisher_slowly(ab, 30, bb, 30), 1e-11,
                        (const uint64_t[]){ab, 30, bb, 30});
}

/* Worked out with whole numbers of any length, and with 60 digits. */
static void test_fisher_of_large_tables(void **unused)
{
    (void)unused;
    static const struct {
        uint64_t in[4];
        double p;
    } rows[] = {
        {{0, 20, 5, 20}, 0.02356202356202356},
        {{3, 310, 12, 300}, 0.014045428581632467},
        {{10, 1000, 30, 1000}, 0.0010041667809150049},
        {{100, 10000, 170, 10000}, 1.0698387788102417e-05},
        {{0, 100000, 14, 20000}, 1.2712628689776383e-11},
        {{50, 50000, 120, 50000}, 3.9124453267688506e-08},
        {{200, 200000, 260, 200000}, 2.9277724531139573e-03},
        {{7, 40, 7, 40}, 6.1523449765588079e-01},
        {{30, 60, 2, 60}, 9.9999999994914224e-01},
        {{1000, 1000000, 1000, 1000000}, 5.0892396867220135e-01},
        {{1000, 1000000, 1200, 1000000}, 1.0795513964348431e-05},
        {{10, 1000000, 60, 1000000}, 3.9999426160876567e-10},
        {{0, 1000000, 20, 1000000}, 9.5358372076624357e-07},
        {{500000, 1000000, 503000, 1000000}, 1.1113990346235432e-05},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        near_enough(rollback_fisher(rows[i].in[0], rows[i].in[1], rows[i].in[2], rows[i].in[3]), rows[i].p, 1e-6,
                    rows[i].in);
    /* Whatever comes in: a probability. */
    static const uint64_t odd[][4] = {{0, 0, 0, 0},
                                      {0, 0, 5, 5},
                                      {5, 5, 0, 0},
                                      {9, 3, 9, 3},
                                      {UINT64_MAX, UINT64_MAX, UINT64_MAX, UINT64_MAX},
                                      {0, UINT64_MAX, UINT64_MAX, UINT64_MAX},
                                      {0, 1, UINT64_MAX, 1}};
    for (size_t i = 0; i < sizeof odd / sizeof odd[0]; i++) {
        double p = rollback_fisher(odd[i][0], odd[i][1], odd[i][2], odd[i][3]);
        assert_true(p >= 0 && p <= 1);
    }
}

static void test_binomial(void **unused)
{
    (void)unused;
    static const struct {
        uint64_t bad, all;
        double share, p;
    } rows[] = {
        {1, 20, 0.01, 0.18209306240276912},
        {5, 20, 0.01, 1.367798632893411e-06},
        {12, 300, 0.01, 6.292191267817833e-05},
        {60, 3000, 0.01, 7.951970880722257e-07},
        {3, 10, 0.5, 0.9453125},
        {0, 10, 0.5, 1},
        {10, 10, 0.5, 1.0 / 1024},
        {1, 1000000, 0, 0},
        {0, 0, 0, 1},
        {5, 5, 1, 1},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        near_enough(rollback_binomial(rows[i].bad, rows[i].all, rows[i].share), rows[i].p, 1e-9,
                    (const uint64_t[]){rows[i].bad, rows[i].all, (uint64_t)(rows[i].share * 1e6), 0});
}

/* ---- the judge ---- */

static const struct rollback_check_rule plain_rules[] = {
    {.name = "health", .check_class = ROLLBACK_SECURITY, .limit = 0, .most = -1},
    {.name = "latency", .check_class = ROLLBACK_PERFORMANCE, .limit = 3, .most = -1},
    {.name = "answers", .check_class = ROLLBACK_ERRORS, .limit = 4, .most = -1},
};
static const struct rollback_judge_rule plain = {3, plain_rules};

static struct rollback_sample plain_sample(size_t check, int what)
{
    struct rollback_sample s = {.check = check, .kind = ROLLBACK_PLAIN};
    s.data[TARGET] = what != NONE;
    s.failed[TARGET] = what == FAIL;
    return s;
}

static int look(struct rollback_judge *j, int a, int b, int c)
{
    const struct rollback_sample s[] = {plain_sample(0, a), plain_sample(1, b), plain_sample(2, c)};
    size_t check = 99;
    return (int)rollback_judge_take(j, &plain, s, 3, false, T0, &check);
}

static void test_limits_of_the_classes(void **unused)
{
    (void)unused;
    struct rollback_judge j = {0};
    assert_int_equal(look(&j, PASS, FAIL, FAIL), ROLLBACK_WELL);
    assert_int_equal(look(&j, PASS, FAIL, FAIL), ROLLBACK_WELL);
    assert_int_equal(look(&j, PASS, PASS, FAIL), ROLLBACK_WELL); /* a pass ends the row */
    assert_int_equal(look(&j, PASS, FAIL, FAIL), ROLLBACK_WORSE);
    assert_int_equal(j.checks[2].in_a_row, 4);
    assert_int_equal(look(&j, PASS, FAIL, PASS), ROLLBACK_WELL);
    assert_int_equal(look(&j, PASS, FAIL, PASS), ROLLBACK_WORSE);
    struct rollback_judge k = {0};
    assert_int_equal(look(&k, FAIL, PASS, PASS), ROLLBACK_WORSE);
    assert_int_equal(k.checks[0].outcome, OUTCOME(FAILED));
    assert_int_equal(k.checks[1].outcome, OUTCOME(PASSED));
}

static void test_which_check_is_named(void **unused)
{
    (void)unused;
    struct rollback_judge j = {0};
    size_t check = 99;
    for (int i = 0; i < 4; i++)
        look(&j, PASS, FAIL, FAIL);
    const struct rollback_sample security = plain_sample(0, FAIL);
    assert_int_equal(rollback_judge_take(&j, &plain, NULL, 0, false, T0, &check), ROLLBACK_WORSE);
    assert_int_equal(check, 1);
    assert_int_equal(rollback_judge_take(&j, &plain, &security, 1, false, T0, &check), ROLLBACK_WORSE);
    assert_int_equal(check, 0); /* security before the others */
    struct rollback_judge k = {0};
    const struct rollback_sample first = plain_sample(0, PASS);
    assert_int_equal(rollback_judge_take(&k, &plain, &first, 1, false, T0, &check), ROLLBACK_SILENT);
    assert_int_equal(check, 1);
}

/* argo-rollouts 3850: an analysis without a result was promoted. */
static void test_silence_is_never_a_pass(void **unused)
{
    (void)unused;
    struct rollback_judge j = {0};
    size_t check;
    assert_int_equal(rollback_judge_take(&j, &plain, NULL, 0, false, T0, &check), ROLLBACK_SILENT);
    for (int i = 0; i < 100; i++)
        assert_int_equal(look(&j, NONE, NONE, NONE), ROLLBACK_SILENT);
    assert_int_equal(look(&j, NONE, PASS, PASS), ROLLBACK_SILENT);
    assert_int_equal(look(&j, PASS, NONE, NONE), ROLLBACK_WELL); /* the others have spoken in this step */
    /* Neither a failure nor its end: the row goes on where it was. */
    for (int i = 0; i < 3; i++)
        assert_int_equal(look(&j, PASS, PASS, FAIL), ROLLBACK_WELL);
    for (int i = 0; i < 3; i++)
        assert_int_equal(look(&j, PASS, PASS, NONE), ROLLBACK_WELL);
    assert_int_equal(j.checks[2].in_a_row, 3);
    assert_int_equal(j.checks[2].outcome, OUTCOME(NO_DATA));
    assert_int_equal(look(&j, PASS, PASS, FAIL), ROLLBACK_WORSE);
    /* A regression stays one until something else is seen. */
    assert_int_equal(look(&j, NONE, NONE, NONE), ROLLBACK_WORSE);
}

/* What has fallen silent does not pass a step by what it said at its beginning. */
static void test_who_falls_silent(void **unused)
{
    (void)unused;
    struct rollback_judge j = {0};
    assert_int_equal(look(&j, PASS, PASS, PASS), ROLLBACK_WELL);
    assert_int_equal(look(&j, NONE, PASS, PASS), ROLLBACK_SILENT); /* security: at once */
    assert_int_equal(look(&j, PASS, NONE, PASS), ROLLBACK_WELL);
    assert_int_equal(look(&j, PASS, NONE, PASS), ROLLBACK_WELL);
    assert_int_equal(look(&j, PASS, NONE, PASS), ROLLBACK_SILENT); /* performance: as many as failures would be */
    assert_int_equal(look(&j, PASS, PASS, PASS), ROLLBACK_WELL);
    for (int i = 0; i < 3; i++)
        assert_int_equal(look(&j, PASS, PASS, NONE), ROLLBACK_WELL);
    assert_int_equal(look(&j, PASS, PASS, NONE), ROLLBACK_SILENT);
}

static void test_steps(void **unused)
{
    (void)unused;
    struct rollback_judge j = {0};
    for (int i = 0; i < 3; i++)
        assert_int_equal(look(&j, PASS, PASS, FAIL), ROLLBACK_WELL);
    rollback_judge_step(&j, &plain);
    assert_int_equal(look(&j, PASS, PASS, NONE), ROLLBACK_SILENT); /* what was said before is of another step */
    assert_int_equal(look(&j, PASS, PASS, FAIL), ROLLBACK_WORSE);  /* and the row goes on */
    rollback_judge_step(&j, &plain);
    assert_int_equal(look(&j, NONE, NONE, NONE), ROLLBACK_WORSE);
    /* A person goes on: what was does not count, what comes does. */
    rollback_judge_forgive(&j, &plain);
    assert_int_equal(look(&j, NONE, NONE, NONE), ROLLBACK_SILENT);
    for (int i = 0; i < 3; i++)
        assert_int_equal(look(&j, PASS, PASS, FAIL), ROLLBACK_WELL);
    assert_int_equal(look(&j, PASS, PASS, FAIL), ROLLBACK_WORSE);
    assert_int_equal(look(&j, FAIL, PASS, PASS), ROLLBACK_WORSE);
}

static void test_the_suite(void **unused)
{
    (void)unused;
    static const struct rollback_check_rule rules[] = {
        {.name = "health", .check_class = ROLLBACK_SECURITY, .most = -1},
        {.name = "long", .check_class = ROLLBACK_SECURITY, .most = -1, .suite = true},
    };
    static const struct rollback_judge_rule rule = {2, rules};
    struct rollback_judge j = {0};
    struct rollback_sample s[] = {plain_sample(0, PASS), plain_sample(1, PASS)};
    size_t check = 99;
    assert_int_equal(rollback_judge_take(&j, &rule, s, 1, false, T0, &check), ROLLBACK_WELL);
    assert_int_equal(rollback_judge_take(&j, &rule, s, 1, true, T0, &check), ROLLBACK_SILENT);
    assert_int_equal(check, 1);
    assert_int_equal(rollback_judge_take(&j, &rule, s, 2, true, T0, &check), ROLLBACK_WELL);
    s[1].failed[TARGET] = true;
    assert_int_equal(rollback_judge_take(&j, &rule, s, 2, true, T0, &check), ROLLBACK_WORSE);
    assert_int_equal(check, 1);
}

/* Settings change in the middle: what is known goes by name. */
static void test_other_settings(void **unused)
{
    (void)unused;
    static const struct rollback_check_rule rules[] = {
        {.name = "new", .check_class = ROLLBACK_ERRORS, .limit = 4, .most = -1},
        {.name = "answers", .check_class = ROLLBACK_ERRORS, .limit = 4, .most = -1},
    };
    static const struct rollback_judge_rule rule = {2, rules};
    struct rollback_judge j = {0};
    size_t check;
    for (int i = 0; i < 3; i++)
        assert_int_equal(look(&j, PASS, PASS, FAIL), ROLLBACK_WELL);
    struct rollback_sample s[] = {plain_sample(0, PASS), plain_sample(1, FAIL)};
    assert_int_equal(rollback_judge_take(&j, &rule, s, 2, false, T0, &check), ROLLBACK_WORSE);
    assert_int_equal(check, 1);
    assert_int_equal(j.n, 2);
    assert_string_equal(j.checks[0].name, "new");
    assert_int_equal(j.checks[1].in_a_row, 4);
    /* Samples of another time: no such check, no such kind. */
    s[0].check = 7;
    s[1].kind = 99;
    assert_int_equal(rollback_judge_take(&j, &rule, s, 2, false, T0, &check), ROLLBACK_WORSE);
    assert_int_equal(j.checks[1].in_a_row, 4);
    static const struct rollback_judge_rule none = {0, NULL};
    assert_int_equal(rollback_judge_take(&j, &none, s, 2, false, T0, &check), ROLLBACK_WELL);
    assert_int_equal(j.n, 0);
}

/* ---- counts ---- */

struct counted {
    struct rollback_judge j;
    struct rollback_check_rule rule;
    uint64_t bad[2], all[2];
};

static struct counted counts(int check_class, unsigned limit, double most, bool compare)
{
    return (struct counted){.rule = {.name = "calls",
                                     .check_class = check_class,
                                     .limit = limit,
                                     .most = most,
                                     .compare = compare,
                                     .min_samples = 20},
                            .bad = {1000, 50},
                            .all = {50000, 3000}};
}

static int ask(struct counted *c, const struct rollback_sample *s)
{
    struct rollback_judge_rule rule = {1, &c->rule};
    size_t check;
    return (int)rollback_judge_take(&c->j, &rule, s, 1, false, T0, &check);
}

static void step(struct counted *c)
{
    struct rollback_judge_rule rule = {1, &c->rule};
    rollback_judge_step(&c->j, &rule);
}

/* So many calls more, and how many of them failed. */
static int calls(struct counted *c, uint64_t f_bad, uint64_t f_all, uint64_t t_bad, uint64_t t_all)
{
    c->bad[FORMER] += f_bad;
    c->all[FORMER] += f_all;
    c->bad[TARGET] += t_bad;
    c->all[TARGET] += t_all;
    struct rollback_sample s = {.kind = ROLLBACK_COUNTS, .data = {true, true}};
    memcpy(s.bad, c->bad, sizeof s.bad);
    memcpy(s.all, c->all, sizeof s.all);
    return ask(c, &s);
}

static const struct rollback_check_state *state(const struct counted *c)
{
    return &c->j.checks[0];
}

static void test_counts_are_of_the_step(void **unused)
{
    (void)unused;
    struct counted c = counts(ROLLBACK_ERRORS, 4, -1, true);
    assert_int_equal(calls(&c, 0, 0, 0, 0), ROLLBACK_SILENT);    /* what was before does not count: 2 % and 1.7 % */
    assert_int_equal(calls(&c, 0, 100, 0, 19), ROLLBACK_SILENT); /* one too few */
    assert_int_equal(state(&c)->outcome, OUTCOME(NO_DATA));
    assert_int_equal(calls(&c, 0, 0, 0, 1), ROLLBACK_WELL);
    assert_int_equal(state(&c)->outcome, OUTCOME(PASSED));
    assert_int_equal(calls(&c, 0, 100, 40, 100), ROLLBACK_WELL);
    assert_int_equal(state(&c)->in_a_row, 1);
    assert_int_equal(calls(&c, 0, 100, 40, 100), ROLLBACK_WELL);
    assert_int_equal(calls(&c, 0, 100, 40, 100), ROLLBACK_WELL);
    step(&c);
    assert_int_equal(calls(&c, 0, 0, 0, 0), ROLLBACK_SILENT); /* neither failed nor passed: the row stays */
    assert_int_equal(state(&c)->in_a_row, 3);
    assert_int_equal(calls(&c, 0, 100, 40, 100), ROLLBACK_WORSE);
    assert_non_null(strstr(state(&c)->detail, "40 of 100"));
    assert_non_null(strstr(state(&c)->detail, "0 of 100"));
}

static void test_as_bad_as_the_former(void **unused)
{
    (void)unused;
    struct counted c = counts(ROLLBACK_ERRORS, 4, -1, true);
    calls(&c, 0, 0, 0, 0);
    for (int i = 0; i < 50; i++)
        assert_int_equal(calls(&c, 50, 100, 25, 50), ROLLBACK_WELL); /* it is not the target that is bad */
    for (int i = 0; i < 50; i++)
        assert_int_equal(calls(&c, 50, 100, 0, 50), ROLLBACK_WELL);
}

/* A burst that is over is one failure, not as many as there are looks at the same step. */
static void test_a_burst(void **unused)
{
    (void)unused;
    struct counted c = counts(ROLLBACK_ERRORS, 4, -1, true);
    calls(&c, 0, 0, 0, 0);
    assert_int_equal(calls(&c, 0, 100, 80, 100), ROLLBACK_WELL);
    assert_int_equal(state(&c)->in_a_row, 1);
    for (int i = 0; i < 20; i++)
        assert_int_equal(calls(&c, 0, 100, 0, 100), ROLLBACK_WELL);
    assert_int_equal(state(&c)->in_a_row, 0);
    /* So few calls that they say nothing by themselves neither count nor end the row. */
    struct counted d = counts(ROLLBACK_ERRORS, 4, -1, true);
    calls(&d, 0, 0, 0, 0);
    assert_int_equal(calls(&d, 0, 100, 80, 100), ROLLBACK_WELL);
    assert_int_equal(calls(&d, 0, 5, 0, 5), ROLLBACK_WELL);
    assert_int_equal(calls(&d, 0, 5, 0, 0), ROLLBACK_WELL);
    assert_int_equal(state(&d)->in_a_row, 1);
    assert_int_equal(calls(&d, 0, 5, 4, 5), ROLLBACK_WELL);
    assert_int_equal(state(&d)->in_a_row, 2);
}

static void test_a_share_that_is_the_most(void **unused)
{
    (void)unused;
    struct counted c = counts(ROLLBACK_ERRORS, 4, 0.01, false);
    calls(&c, 0, 0, 0, 0);
    /* One of twenty is more than 1 %, and no wonder: one needs luck for none. */
    assert_int_equal(calls(&c, 0, 0, 1, 20), ROLLBACK_WELL);
    assert_int_equal(state(&c)->in_a_row, 0);
    for (int i = 0; i < 3; i++)
        assert_int_equal(calls(&c, 0, 0, 10, 100), ROLLBACK_WELL);
    assert_int_equal(calls(&c, 0, 0, 10, 100), ROLLBACK_WORSE);
    /* `most` counts also where the former version is as bad. */
    struct counted d = counts(ROLLBACK_PERFORMANCE, 3, 0.01, true);
    calls(&d, 0, 0, 0, 0);
    calls(&d, 10, 100, 10, 100);
    calls(&d, 10, 100, 10, 100);
    assert_int_equal(calls(&d, 10, 100, 10, 100), ROLLBACK_WORSE);
}

static void test_security_by_counts(void **unused)
{
    (void)unused;
    /* None at all: the first one is a regression, however few calls there were. */
    struct counted c = counts(ROLLBACK_SECURITY, 0, 0, false);
    assert_int_equal(calls(&c, 0, 0, 0, 0), ROLLBACK_SILENT);
    assert_int_equal(calls(&c, 0, 0, 0, 3), ROLLBACK_SILENT);
    assert_int_equal(calls(&c, 0, 0, 1, 1), ROLLBACK_WORSE);
    assert_int_equal(calls(&c, 0, 0, 0, 1000), ROLLBACK_WORSE); /* it has happened, in this step */
    /* Up to 1 %: of 20 calls, as they are the fewest that count, that is less than one. */
    struct counted d = counts(ROLLBACK_SECURITY, 0, 0.01, false);
    calls(&d, 0, 0, 0, 0);
    assert_int_equal(calls(&d, 0, 0, 0, 100), ROLLBACK_WELL);
    assert_int_equal(calls(&d, 0, 0, 1, 0), ROLLBACK_WELL); /* 1 of 100 is 1 % */
    assert_int_equal(calls(&d, 0, 0, 1, 0), ROLLBACK_WORSE);
    /* Compared: one look that chance cannot explain. */
    struct counted e = counts(ROLLBACK_SECURITY, 0, -1, true);
    calls(&e, 0, 0, 0, 0);
    assert_int_equal(calls(&e, 1, 100, 5, 100), ROLLBACK_WELL);
    assert_int_equal(calls(&e, 1, 100, 40, 100), ROLLBACK_WORSE);
}

static void test_counters_that_begin_anew(void **unused)
{
    (void)unused;
    struct counted c = counts(ROLLBACK_ERRORS, 4, -1, true);
    calls(&c, 0, 0, 0, 0);
    for (int i = 0; i < 3; i++)
        assert_int_equal(calls(&c, 0, 100, 40, 100), ROLLBACK_WELL);
    /* The target starts again: it is no failure by itself, and what was counted in this step is not lost. */
    c.bad[TARGET] = 2;
    c.all[TARGET] = 10;
    assert_int_equal(calls(&c, 0, 0, 0, 0), ROLLBACK_WELL);
    assert_int_equal(state(&c)->in_a_row, 3);
    assert_int_equal(calls(&c, 0, 100, 40, 100), ROLLBACK_WORSE);
    assert_non_null(strstr(state(&c)->detail, "160 of 400"));
    /* The former one does. */
    c.bad[FORMER] = c.all[FORMER] = 0;
    assert_int_equal(calls(&c, 0, 50, 0, 100), ROLLBACK_WELL);
    /* Of security what is counted after the start counts whole. */
    struct counted d = counts(ROLLBACK_SECURITY, 0, 0, false);
    calls(&d, 0, 0, 0, 0);
    assert_int_equal(calls(&d, 0, 0, 0, 30), ROLLBACK_WELL);
    d.bad[TARGET] = 1;
    d.all[TARGET] = 5;
    assert_int_equal(calls(&d, 0, 0, 0, 0), ROLLBACK_WORSE);
}

static void test_a_counter_that_appears(void **unused)
{
    (void)unused;
    struct rollback_sample nothing = {.kind = ROLLBACK_COUNTS};
    struct counted c = counts(ROLLBACK_SECURITY, 0, 0, false);
    assert_int_equal(ask(&c, &nothing), ROLLBACK_SILENT);
    c.bad[TARGET] = 0;
    c.all[TARGET] = 0;
    assert_int_equal(calls(&c, 0, 0, 1, 40), ROLLBACK_WORSE); /* it has begun while we watched */
    struct counted d = counts(ROLLBACK_ERRORS, 4, -1, true);
    assert_int_equal(ask(&d, &nothing), ROLLBACK_SILENT);
    assert_int_equal(calls(&d, 0, 0, 0, 0), ROLLBACK_SILENT); /* of whom that is not known */
}

/* Two counters that are not read in the same instant. */
static void test_more_failures_than_calls(void **unused)
{
    (void)unused;
    struct counted c = counts(ROLLBACK_ERRORS, 4, 0.5, true);
    calls(&c, 0, 0, 0, 0);
    for (int i = 0; i < 3; i++)
        assert_int_not_equal(calls(&c, 0, 100, 60, 30), ROLLBACK_WORSE);
    assert_int_equal(calls(&c, 0, 100, 60, 30), ROLLBACK_WORSE);
    assert_non_null(strstr(state(&c)->detail, "of 240 calls"));
}

static void test_sides_without_traffic(void **unused)
{
    (void)unused;
    struct rollback_sample none = {.kind = ROLLBACK_COUNTS, .data = {true, false}, .all = {50000, 0}};
    struct counted c = counts(ROLLBACK_ERRORS, 4, -1, true);
    c.bad[FORMER] = 0;
    /* The first step: the target has no calls by plan, perhaps no counters. */
    assert_int_equal(ask(&c, &none), ROLLBACK_SILENT);
    c.j.quiet[TARGET] = true;
    assert_int_equal(ask(&c, &none), ROLLBACK_WELL);
    assert_int_equal(state(&c)->outcome, OUTCOME(NO_DATA)); /* nobody says that it passed */
    c.all[TARGET] = c.bad[TARGET] = 0;
    assert_int_equal(calls(&c, 5, 500, 0, 3), ROLLBACK_WELL);
    step(&c);
    c.j.quiet[TARGET] = false;
    assert_int_equal(calls(&c, 0, 0, 0, 0), ROLLBACK_SILENT);
    assert_int_equal(calls(&c, 5, 500, 5, 500), ROLLBACK_WELL);
    /* The last step: it is compared with what the former one was. */
    step(&c);
    c.j.quiet[FORMER] = true;
    assert_int_equal(calls(&c, 0, 0, 0, 0), ROLLBACK_SILENT);
    for (int i = 0; i < 3; i++)
        assert_int_equal(calls(&c, 0, 0, 60, 500), ROLLBACK_WELL);
    assert_int_equal(calls(&c, 0, 0, 60, 500), ROLLBACK_WORSE);
    assert_non_null(strstr(state(&c)->detail, "10 of 1000"));
    /* Nobody knows the former one: `most` alone counts; without it there is nothing to wait for. */
    struct counted d = counts(ROLLBACK_ERRORS, 4, -1, true), e = counts(ROLLBACK_ERRORS, 4, 0.01, true);
    d.j.quiet[FORMER] = e.j.quiet[FORMER] = true;
    calls(&d, 0, 0, 0, 0);
    assert_int_equal(calls(&d, 0, 0, 50, 100), ROLLBACK_WELL);
    assert_int_equal(state(&d)->outcome, OUTCOME(NO_DATA));
    calls(&e, 0, 0, 0, 0);
    assert_int_equal(calls(&e, 0, 0, 0, 100), ROLLBACK_WELL);
    assert_int_equal(state(&e)->outcome, OUTCOME(PASSED));
    for (int i = 0; i < 3; i++)
        assert_int_equal(calls(&e, 0, 0, 50, 100), ROLLBACK_WELL);
    assert_int_equal(calls(&e, 0, 0, 50, 100), ROLLBACK_WORSE);
}

/* The share of the former version is small in the last steps: then its calls of the whole job stand against the target's. */
static void test_few_calls_of_the_former(void **unused)
{
    (void)unused;
    struct counted c = counts(ROLLBACK_ERRORS, 4, -1, true);
    calls(&c, 0, 0, 0, 0);
    assert_int_equal(calls(&c, 2, 200, 2, 200), ROLLBACK_WELL);
    step(&c);
    assert_int_equal(calls(&c, 0, 3, 2, 200), ROLLBACK_WELL);
    assert_non_null(strstr(state(&c)->detail, "2 of 203"));
    /* A former one that has hardly any calls says nothing. */
    struct counted d = counts(ROLLBACK_ERRORS, 4, -1, true);
    calls(&d, 0, 0, 0, 0);
    assert_int_equal(calls(&d, 0, 3, 2, 200), ROLLBACK_SILENT);
}

/* Another replica goes on with what is in the journal. */
static void test_taken_over(void **unused)
{
    (void)unused;
    struct counted c = counts(ROLLBACK_ERRORS, 4, -1, true);
    calls(&c, 0, 0, 0, 0);
    for (int i = 0; i < 3; i++)
        assert_int_equal(calls(&c, 0, 100, 40, 100), ROLLBACK_WELL);
    const struct rollback_check_state was = c.j.checks[0];
    struct rollback_check_state now = {.in_a_row = was.in_a_row,
                                       .outcome = was.outcome,
                                       .seen = was.seen,
                                       .counting = was.counting,
                                       .former_bad = was.former_bad,
                                       .former_all = was.former_all};
    memcpy(now.name, was.name, sizeof now.name);
    memcpy(now.base_bad, was.base_bad, sizeof now.base_bad);
    memcpy(now.base_all, was.base_all, sizeof now.base_all);
    c.j.checks[0] = now;
    assert_int_equal(calls(&c, 0, 100, 40, 100), ROLLBACK_WORSE);
    assert_non_null(strstr(state(&c)->detail, "160 of 400"));
}

/* ---- values ---- */

static int value(struct counted *c, double former, double target)
{
    struct rollback_sample s = {.kind = ROLLBACK_VALUE, .data = {true, true}, .value = {former, target}};
    return ask(c, &s);
}

static void test_values(void **unused)
{
    (void)unused;
    struct counted c = counts(ROLLBACK_PERFORMANCE, 3, -1, true);
    c.rule.worse = 0.2;
    static const double wave[] = {100, 110, 95, 105, 90, 100};
    for (int i = 0; i < 24; i++)
        assert_int_equal(value(&c, 100, wave[i % 6]), ROLLBACK_WELL);
    assert_int_equal(value(&c, 100, 200), ROLLBACK_WELL);
    assert_int_equal(value(&c, 100, 200), ROLLBACK_WELL);
    assert_int_equal(state(&c)->in_a_row, 2);
    assert_int_equal(value(&c, 100, 200), ROLLBACK_WORSE);
    assert_int_equal(value(&c, 100, 119), ROLLBACK_WELL);
    /* Both become slow together. */
    for (int i = 0; i < 6; i++)
        assert_int_equal(value(&c, 300, 310), ROLLBACK_WELL);
    /* Above `most` it does not matter how the former one is. */
    c.rule.most = 250;
    value(&c, 300, 300);
    value(&c, 300, 300);
    assert_int_equal(value(&c, 300, 300), ROLLBACK_WORSE);
}

static void test_values_and_their_noise(void **unused)
{
    (void)unused;
    struct counted c = counts(ROLLBACK_PERFORMANCE, 3, -1, true);
    c.rule.worse = 0.2;
    /* Worse by a quarter three times in a row, and that is how it always jumps. */
    static const double jumps[] = {60, 125, 70, 150, 90, 125, 125, 125, 80, 130};
    for (int i = 0; i < 10; i++)
        assert_int_equal(value(&c, 100, jumps[i]), ROLLBACK_WELL);
    for (int i = 0; i < 2; i++)
        assert_int_equal(value(&c, 100, 500), ROLLBACK_WELL);
    assert_int_equal(value(&c, 100, 500), ROLLBACK_WORSE);
    /* A steady value that is worse from the beginning: as soon as it is known to be steady. */
    struct counted d = counts(ROLLBACK_PERFORMANCE, 3, -1, true);
    d.rule.worse = 0.2;
    int looks = 1;
    while (value(&d, 100, 150) != ROLLBACK_WORSE && looks < 20)
        looks++;
    assert_int_equal(looks, 5); /* after three differences */
    /* Nothing against something: zero has no fifth. */
    struct counted e = counts(ROLLBACK_PERFORMANCE, 3, -1, true);
    e.rule.worse = 0.2;
    for (int i = 0; i < 4; i++)
        assert_int_not_equal(value(&e, 0, 2), ROLLBACK_WORSE);
    assert_int_equal(value(&e, 0, 2), ROLLBACK_WORSE);
    for (int i = 0; i < 9; i++)
        assert_int_equal(value(&e, 0, 0), ROLLBACK_WELL);
    /* Security: at once. */
    struct counted f = counts(ROLLBACK_SECURITY, 0, -1, true);
    f.rule.worse = 0.2;
    assert_int_equal(value(&f, 100, 120), ROLLBACK_WELL);
    assert_int_equal(value(&f, 100, 120.1), ROLLBACK_WORSE);
}

static void test_values_that_are_missing(void **unused)
{
    (void)unused;
    struct counted c = counts(ROLLBACK_PERFORMANCE, 3, -1, true);
    c.rule.worse = 0.2;
    assert_int_equal(value(&c, 100, (double)NAN), ROLLBACK_SILENT);
    assert_int_equal(value(&c, (double)NAN, 100), ROLLBACK_SILENT);
    assert_int_equal(value(&c, 100, (double)INFINITY), ROLLBACK_SILENT);
    assert_int_equal(state(&c)->outcome, OUTCOME(NO_DATA));
    assert_int_equal(value(&c, 100, 100), ROLLBACK_WELL);
    /* The target without load is not compared with one under load, and not waited for. */
    struct counted d = counts(ROLLBACK_PERFORMANCE, 3, -1, true);
    d.rule.worse = 0.2;
    d.j.quiet[TARGET] = true;
    assert_int_equal(value(&d, 100, (double)NAN), ROLLBACK_WELL);
    for (int i = 0; i < 9; i++)
        assert_int_equal(value(&d, 100, 400), ROLLBACK_WELL);
    d.rule.most = 300; /* of memory, say */
    value(&d, 100, 400);
    value(&d, 100, 400);
    assert_int_equal(value(&d, 100, 400), ROLLBACK_WORSE);
    /* The former one without load is compared with as it was. */
    struct counted e = counts(ROLLBACK_PERFORMANCE, 3, -1, true);
    e.rule.worse = 0.2;
    for (int i = 0; i < 6; i++)
        assert_int_equal(value(&e, 100, 101), ROLLBACK_WELL);
    e.j.quiet[FORMER] = true;
    step(&e);
    assert_int_equal(value(&e, 1, 101), ROLLBACK_WELL);
    assert_int_equal(value(&e, (double)NAN, 150), ROLLBACK_WELL);
    assert_int_equal(value(&e, 1, 150), ROLLBACK_WELL);
    assert_int_equal(value(&e, 1, 150), ROLLBACK_WORSE);
    /* Never seen: nothing to compare with. */
    struct counted f = counts(ROLLBACK_PERFORMANCE, 3, -1, true);
    f.j.quiet[FORMER] = true;
    assert_int_equal(value(&f, 1, 100), ROLLBACK_WELL);
    assert_int_equal(state(&f)->outcome, OUTCOME(NO_DATA));
}

/* Details are cut, never spilled. */
static void test_long_details(void **unused)
{
    (void)unused;
    struct counted c = counts(ROLLBACK_ERRORS, 4, -1, true);
    struct rollback_sample s = {.kind = ROLLBACK_COUNTS, .data = {true, true}, .all = {UINT64_MAX, UINT64_MAX}};
    memset(s.detail, 'x', sizeof s.detail - 1);
    for (int i = 0; i < 3; i++) {
        (void)ask(&c, &s);
        assert_true(strlen(state(&c)->detail) < sizeof state(&c)->detail);
        s.all[TARGET] = s.all[FORMER] = i ? UINT64_MAX : 5;
    }
    assert_int_equal(state(&c)->at_ms, T0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_fisher_of_every_small_table),
        cmocka_unit_test(test_fisher_of_large_tables),
        cmocka_unit_test(test_binomial),
        cmocka_unit_test(test_limits_of_the_classes),
        cmocka_unit_test(test_which_check_is_named),
        cmocka_unit_test(test_silence_is_never_a_pass),
        cmocka_unit_test(test_who_falls_silent),
        cmocka_unit_test(test_steps),
        cmocka_unit_test(test_the_suite),
        cmocka_unit_test(test_other_settings),
        cmocka_unit_test(test_counts_are_of_the_step),
        cmocka_unit_test(test_as_bad_as_the_former),
        cmocka_unit_test(test_a_burst),
        cmocka_unit_test(test_a_share_that_is_the_most),
        cmocka_unit_test(test_security_by_counts),
        cmocka_unit_test(test_counters_that_begin_anew),
        cmocka_unit_test(test_a_counter_that_appears),
        cmocka_unit_test(test_more_failures_than_calls),
        cmocka_unit_test(test_sides_without_traffic),
        cmocka_unit_test(test_few_calls_of_the_former),
        cmocka_unit_test(test_taken_over),
        cmocka_unit_test(test_values),
        cmocka_unit_test(test_values_and_their_noise),
        cmocka_unit_test(test_values_that_are_missing),
        cmocka_unit_test(test_long_details),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
