/* test_rollback_judge_sim.c - whole jobs before the judge, by seed: planted regressions are caught, noise stops next to none.
 *
 * A job is five steps of six looks (100, 50, 25, 10, 0 % on the former version) and a watch of 24 looks, with eight checks: two plain ones of security, one
 * of security by counts with none allowed, one of security compared, two values that fluctuate, two shares of failures. Traffic, shares and noise are drawn per seed.
 * Must hold:
 *  - without a regression at most 1 of 100 jobs is stopped, and no security check of the plain kind ever is one that stops it;
 *  - a planted security regression is caught in the first look that shows it, in every job;
 *  - regressions of errors and performance of a stated size are caught as soon, and as often, as README.md says.
 * SEED=n runs one seed and tells; JOBS=n runs so many of each kind. */
#include "rollback/rollback_judge.h"
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#if defined __SANITIZE_ADDRESS__ || defined __SANITIZE_THREAD__
#define JOBS_HERE 300
#else
#define JOBS_HERE 3000
#endif
#define JOBS_VALGRIND 20
#define JOBS_PLANTED  100
#define LOOKS         6
#define WATCH         24
#define LOOK_S        5
static const int weights[] = {100, 50, 25, 10, 0};
enum { STEPS = sizeof weights / sizeof weights[0] };
enum { FORMER, TARGET };

enum check { HEALTH, SELFTEST, LEAKS, DENIED, LATENCY, MEMORY, ERRORS, TIMEOUTS, CHECKS };
static const struct rollback_check_rule rules[CHECKS] = {
    [HEALTH] = {.name = "health", .check_class = ROLLBACK_SECURITY, .most = -1},
    [SELFTEST] = {.name = "selftest", .check_class = ROLLBACK_SECURITY, .most = -1},
    [LEAKS] = {.name = "leaks", .check_class = ROLLBACK_SECURITY, .most = 0, .min_samples = 20},
    [DENIED] = {.name = "denied", .check_class = ROLLBACK_SECURITY, .most = -1, .compare = true, .min_samples = 20},
    [LATENCY] = {.name = "latency",
                 .check_class = ROLLBACK_PERFORMANCE,
                 .limit = 3,
                 .most = -1,
                 .compare = true,
                 .worse = 0.2},
    [MEMORY] = {.name = "memory",
                .check_class = ROLLBACK_PERFORMANCE,
                .limit = 3,
                .most = -1,
                .compare = true,
                .worse = 0.2},
    [ERRORS] = {.name = "errors",
                .check_class = ROLLBACK_ERRORS,
                .limit = 4,
                .most = -1,
                .compare = true,
                .min_samples = 20},
    [TIMEOUTS] = {.name = "timeouts",
                  .check_class = ROLLBACK_ERRORS,
                  .limit = 4,
                  .most = 0.05,
                  .compare = true,
                  .min_samples = 20},
};
static const struct rollback_judge_rule rule = {CHECKS, rules};

struct job {
    uint64_t rng;
    double per_s;         /* calls, of both sides together */
    double share[CHECKS]; /* of calls that fail, of either version */
    double noise[CHECKS]; /* of values: standard deviation of their logarithm */
    uint64_t bad[2][CHECKS], all[2][CHECKS];
    struct rollback_judge judge;
    /* What is planted: check, from this look on (over all steps), how much worse. */
    int planted;
    unsigned from_look;
    double times, plus;
    unsigned look;
};

static uint64_t next(uint64_t *x)
{
    uint64_t z = *x += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

static double uniform(struct job *j)
{
    return (double)(next(&j->rng) >> 11) * 0x1p-53;
}

static double normal(struct job *j)
{
    return sqrt(-2 * log(1 - uniform(j))) * cos(6.283185307179586 * uniform(j));
}

/* How many of n calls fail. */
static uint64_t failures(struct job *j, uint64_t n, double share)
{
    uint64_t k = 0;
    /* From one failure to the next. */
    for (double at = 0; share > 0;) {
        at += share < 1 ? 1 + floor(log(1 - uniform(j)) / log1p(-share)) : 1;
        if (at > (double)n)
            break;
        k++;
    }
    return k;
}

static struct job job_of(uint64_t seed)
{
    struct job j = {.rng = seed * 7919 + 17, .planted = CHECKS};
    j.per_s = exp(log(20) + uniform(&j) * log(25));             /* 20 to 500 */
    j.share[DENIED] = exp(log(0.001) + uniform(&j) * log(200)); /* 0.1 to 20 % */
    j.share[ERRORS] = exp(log(0.001) + uniform(&j) * log(50));
    j.share[TIMEOUTS] = exp(log(0.001) + uniform(&j) * log(40)); /* up to 4 %, with 5 % allowed */
    j.noise[LATENCY] = 0.02 + 0.18 * uniform(&j);
    j.noise[MEMORY] = 0.005 + 0.02 * uniform(&j);
    for (int i = 0; i < CHECKS; i++)
        j.all[FORMER][i] = 100000 + next(&j.rng) % 100000;
    return j;
}

static void sample_of(struct job *j, int check, int weight, struct rollback_sample *s)
{
    bool planted = check == j->planted && j->look >= j->from_look;
    *s = (struct rollback_sample){.check = (size_t)check, .data = {true, true}};
    switch (check) {
    case HEALTH:
    case SELFTEST:
        s->kind = ROLLBACK_PLAIN;
        s->failed[TARGET] = planted;
        break;
    case LATENCY:
    case MEMORY:
        s->kind = ROLLBACK_VALUE;
        for (int side = 0; side < 2; side++)
            s->value[side] = 0.2 * exp(j->noise[check] * normal(j)) * (planted && side == TARGET ? j->times : 1);
        s->data[TARGET] = weight < 100;
        s->data[FORMER] = weight > 0;
        break;
    default:
        s->kind = ROLLBACK_COUNTS;
        for (int side = 0; side < 2; side++) {
            double part = side == FORMER ? weight / 100.0 : 1 - weight / 100.0, share = j->share[check];
            uint64_t n = (uint64_t)(j->per_s * LOOK_S * part * (0.7 + 0.6 * uniform(j)) + 0.5);
            if (planted && side == TARGET)
                share = share * j->times + j->plus;
            j->all[side][check] += n;
            j->bad[side][check] += failures(j, n, share < 1 ? share : 1);
            s->all[side] = j->all[side][check];
            s->bad[side] = j->bad[side][check];
        }
    }
}

struct end {
    bool stopped;
    unsigned look; /* over all steps; the watch is the last */
    size_t check;
    unsigned silent; /* steps that ended without all checks having spoken */
};

static struct end run(struct job *j)
{
    struct end e = {.check = CHECKS};
    for (int step = 0; step <= STEPS; step++) {
        int weight = step < STEPS ? weights[step] : 0;
        enum rollback_verdict v = ROLLBACK_SILENT;
        rollback_judge_step(&j->judge, &rule);
        j->judge.quiet[TARGET] = weight == 100;
        j->judge.quiet[FORMER] = weight == 0;
        for (int look = 0; look < (step < STEPS ? LOOKS : WATCH); look++, j->look++) {
            struct rollback_sample s[CHECKS];
            for (int i = 0; i < CHECKS; i++)
                sample_of(j, i, weight, &s[i]);
            v = rollback_judge_take(&j->judge, &rule, s, CHECKS, false, 0, &e.check);
            if (v == ROLLBACK_WORSE) {
                e.stopped = true;
                e.look = j->look;
                return e;
            }
        }
        e.silent += v != ROLLBACK_WELL;
    }
    return e;
}

static unsigned jobs(unsigned usual)
{
    const char *n = getenv("JOBS");
    if (n)
        return (unsigned)atoi(n);
    return getenv("VALGRIND") ? JOBS_VALGRIND : usual;
}

static void tell(const struct job *j, uint64_t seed, const struct end *e)
{
    print_message("seed %llu: %.0f calls/s: %s at look %u: %s: %s\n", (unsigned long long)seed, j->per_s,
                  e->stopped ? "stopped" : "done", e->look, e->check < CHECKS ? rules[e->check].name : "",
                  e->check < CHECKS ? j->judge.checks[e->check].detail : "");
}

/* ---- noise ---- */

static void test_noise_stops_next_to_none(void **unused)
{
    (void)unused;
    unsigned stopped = 0, n = jobs(JOBS_HERE), silent = 0;
    const char *one = getenv("SEED");
    for (uint64_t seed = one ? (uint64_t)atoll(one) : 1, last = one ? seed : n; seed <= last; seed++) {
        struct job j = job_of(seed);
        struct end e = run(&j);
        if (e.stopped || one)
            tell(&j, seed, &e);
        if (e.stopped && e.check <= LEAKS)
            fail_msg("seed %llu: a security check without a failure has stopped a job", (unsigned long long)seed);
        stopped += e.stopped;
        silent += e.silent > 0;
    }
    print_message("%u of %u jobs without a regression were stopped\n", stopped, n);
    assert_true(stopped * 100 <= n);
    assert_int_equal(silent, 0); /* 20 calls/s are enough for every step */
}

/* ---- security ---- */

static void test_security_is_caught_at_once(void **unused)
{
    (void)unused;
    unsigned n = jobs(JOBS_PLANTED);
    for (int check = HEALTH; check <= LEAKS; check++) {
        for (uint64_t seed = 1; seed <= n; seed++) {
            struct job j = job_of(seed);
            j.planted = check;
            j.from_look = (unsigned)(next(&j.rng) % (STEPS * LOOKS + WATCH));
            j.times = 1;
            j.plus = 0.05;
            unsigned shows = j.from_look;
            if (check ==
                LEAKS) { /* seen when it happens: the first look whose calls hold one; none while the target has no traffic */
                struct job copy = j;
                struct rollback_sample s;
                shows = UINT32_MAX;
                for (unsigned look = 0; look < STEPS * LOOKS + WATCH && shows == UINT32_MAX; look++) {
                    copy.look = look;
                    int step = (int)(look / LOOKS), weight = step < STEPS ? weights[step] : 0;
                    for (int i = 0; i < CHECKS; i++) {
                        sample_of(&copy, i, weight, &s);
                        if (i == LEAKS && s.bad[TARGET] > 0)
                            shows = look;
                    }
                }
                assert_true(shows != UINT32_MAX);
            }
            struct end e = run(&j);
            if (!e.stopped || e.look != shows || e.check != (size_t)check) {
                tell(&j, seed, &e);
                fail_msg("%s: shown at look %u, not caught there", rules[check].name, shows);
            }
        }
    }
}

/* ---- power: how often a regression of some size is caught ---- */

static const struct {
    int check;
    double calls, share, noise, times,
        plus;        /* calls per second of both sides; the former's share; of values their noise */
    unsigned of_100; /* that are caught within `looks` of their coming, in step 50 % */
    unsigned looks;
} powers[] = {
    {.check = ERRORS, .calls = 20, .share = 0.01, .times = 1, .plus = 0.5, .of_100 = 99, .looks = 6},
    {.check = ERRORS, .calls = 20, .share = 0.01, .times = 1, .plus = 0.2, .of_100 = 95, .looks = 12},
    {.check = ERRORS, .calls = 100, .share = 0.01, .times = 1, .plus = 0.1, .of_100 = 99, .looks = 6},
    {.check = ERRORS, .calls = 100, .share = 0.01, .times = 1, .plus = 0.06, .of_100 = 95, .looks = 18},
    {.check = ERRORS, .calls = 500, .share = 0.01, .times = 2, .plus = 0.01, .of_100 = 95, .looks = 12},
    {.check = TIMEOUTS, .calls = 100, .share = 0.01, .times = 1, .plus = 0.1, .of_100 = 99, .looks = 6},
    {.check = DENIED, .calls = 100, .share = 0.05, .times = 1, .plus = 0.15, .of_100 = 99, .looks = 6},
    {.check = LATENCY, .noise = 0.05, .times = 1.5, .of_100 = 95, .looks = 12},
    {.check = LATENCY, .noise = 0.1, .times = 2, .of_100 = 90, .looks = 12},
    {.check = LATENCY, .noise = 0.2, .times = 3, .of_100 = 80, .looks = 18},
};

static void test_what_is_caught(void **unused)
{
    (void)unused;
    unsigned n = jobs(JOBS_PLANTED * 2);
    for (size_t p = 0; p < sizeof powers / sizeof powers[0]; p++) {
        unsigned caught = 0;
        for (uint64_t seed = 1; seed <= n; seed++) {
            struct job j = job_of(seed);
            j.planted = powers[p].check;
            j.from_look = LOOKS; /* it comes with the first traffic */
            j.per_s = powers[p].calls > 0 ? powers[p].calls : j.per_s;
            j.share[powers[p].check] = powers[p].share;
            j.noise[powers[p].check] = powers[p].noise;
            j.times = powers[p].times;
            j.plus = powers[p].plus;
            struct end e = run(&j);
            caught += e.stopped && e.check == (size_t)powers[p].check && e.look < j.from_look + powers[p].looks;
        }
        print_message("%s, %.0f calls/s, share %g, noise %g, x %g + %g: %u of %u within %u looks\n",
                      rules[powers[p].check].name, powers[p].calls, powers[p].share, powers[p].noise, powers[p].times,
                      powers[p].plus, caught, n, powers[p].looks);
        if (n >= 100)
            assert_true(caught * 100 >= n * powers[p].of_100);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_noise_stops_next_to_none),
        cmocka_unit_test(test_security_is_caught_at_once),
        cmocka_unit_test(test_what_is_caught),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
