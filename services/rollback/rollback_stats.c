/* rollback_stats.c - exact tests of counts: how likely is it that this many failures, or more, come about by chance? */
#include "rollback/rollback_stats.h"
#include <math.h>

/* lgamma() writes to a global of the library. */
static double ln_gamma(double x)
{
    int sign;
    return lgamma_r(x, &sign);
}

static double ln_choose(double n, double k)
{
    return ln_gamma(n + 1) - ln_gamma(k + 1) - ln_gamma(n - k + 1);
}

/* A discrete distribution of one peak, by the quotient of neighbours: p(x + 1) / p(x). Terms are summed away from the peak, where they only fall, until
 * they do not count any more: some standard deviations, however large the numbers are. */
struct terms {
    double (*next)(const struct terms *t, double x);
    double a, b, c;
};

static double sum_up(const struct terms *t, double x, double at, double last)
{
    double sum = at;
    for (; x < last && at > sum * 1e-18; x++)
        sum += at *= t->next(t, x);
    return sum;
}

static double sum_down(const struct terms *t, double x, double at, double first)
{
    double sum = at;
    for (; x > first && at > sum * 1e-18; x--)
        sum += at /= t->next(t, x - 1);
    return sum;
}

static double within(double p)
{
    return p < 0 ? 0 : p > 1 ? 1 : p;
}

/* ---- Fisher: of n calls with K failures, b has drawn so many ---- */

static double hyper_next(const struct terms *t, double x)
{
    double failures = t->a, calls = t->b,
           others = t->c; /* others: calls of a that did not fail, if none of b's did */
    return (failures - x) * (calls - x) / ((x + 1) * (others + x + 1));
}

double rollback_fisher(uint64_t a_bad, uint64_t a_all, uint64_t b_bad, uint64_t b_all)
{
    double an = (double)a_all, bn = (double)b_all;
    double ax = fmin((double)a_bad, an), bx = fmin((double)b_bad, bn), k = ax + bx;
    double first = fmax(0, k - an), last = fmin(k, bn);
    if (bx <= first)
        return 1; /* fewer are not possible */
    const struct terms t = {hyper_next, k, bn, an - k};
    double peak = (bn + 1) * (k + 1) / (an + bn + 2), base = ln_choose(an + bn, bn);
    double x = bx > peak ? bx : bx - 1;
    double at = exp(ln_choose(k, x) + ln_choose(an + bn - k, bn - x) - base);
    return within(bx > peak ? sum_up(&t, x, at, last) : 1 - sum_down(&t, x, at, first));
}

/* ---- binomial ---- */

static double binomial_next(const struct terms *t, double x)
{
    return (t->a - x) / (x + 1) * t->b;
}

double rollback_binomial(uint64_t bad, uint64_t all, double share)
{
    double n = (double)all, k = fmin((double)bad, n);
    if (k <= 0 || share >= 1)
        return 1;
    if (!(share > 0))
        return 0;
    const struct terms t = {binomial_next, n, share / (1 - share), 0};
    double peak = (n + 1) * share, x = k > peak ? k : k - 1;
    double at = exp(ln_choose(n, x) + x * log(share) + (n - x) * log1p(-share));
    return within(k > peak ? sum_up(&t, x, at, n) : 1 - sum_down(&t, x, at, 0));
}
