/* rollback_judge.c - is the version that is gone back to worse? Failures in a row by class, tests of counts and of values. */
#include "rollback/rollback_judge.h"
#include "redoubt/v1/rollback.pb-c.h"
#include "rollback/rollback_stats.h"
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define OUTCOME(x) REDOUBT__V1__CHECK_OUTCOME__CHECK_OUTCOME_##x

enum { FORMER = 0, TARGET = 1 };

/* So unlikely must counts be, if the version is no worse, to fail. Each look at each check is one more chance to be wrong, and the looks of one step see
 * the same calls again: with 8 checks and 60 looks (five steps and the watch) all chances together are 480 times this, whatever depends on what. Hence
 * not even one look fails by chance in more than 1 of 200 jobs, and there must be as many in a row as the class says. */
static const double unlikely = 1e-5;
/* Differences between looks that must be known before a value is called worse than its own noise. */
enum { NOISE_MIN = 3 };
/* Looks of the former version that its value is the mean of, once it has no traffic. */
enum { FORMER_LOOKS = 6 };

/* What one look at one check came to. */
enum look {
    LOOK_WELL,
    LOOK_WORSE,
    LOOK_SAME,    /* it says what was said before: no more, and no less */
    LOOK_FEW,     /* too few calls so far */
    LOOK_NOTHING, /* there was no answer */
    LOOK_EXCUSED, /* there can be no answer: by plan this side has no traffic, or there is nothing to compare with */
};

static unsigned limit_of(const struct rollback_check_rule *r)
{
    return r->limit > 1 ? r->limit : 1;
}

__attribute__((format(printf, 2, 3))) static void say(struct rollback_check_state *c, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(c->detail, sizeof c->detail, fmt, ap);
    va_end(ap);
}

/* ---- states by the rule's order ---- */

static const struct rollback_check_state *find(const struct rollback_judge *j, const char *name)
{
    for (size_t i = 0; i < j->n; i++)
        if (strncmp(j->checks[i].name, name, sizeof j->checks[i].name - 1) == 0)
            return &j->checks[i];
    return NULL;
}

static size_t checks_of(const struct rollback_judge_rule *r)
{
    return r->n < ROLLBACK_CHECKS ? r->n : ROLLBACK_CHECKS;
}

/* Settings may have changed: what is known of a check goes with its name. */
static void arrange(struct rollback_judge *j, const struct rollback_judge_rule *r)
{
    size_t n = checks_of(r), same = 0;
    while (same < n && same < j->n &&
           strncmp(j->checks[same].name, r->checks[same].name, sizeof j->checks[same].name - 1) == 0)
        same++;
    if (same == n && j->n == n)
        return;
    struct rollback_check_state now[ROLLBACK_CHECKS];
    memset(now, 0, sizeof now);
    for (size_t i = 0; i < n; i++) {
        const struct rollback_check_state *was = find(j, r->checks[i].name);
        if (was)
            now[i] = *was;
        snprintf(now[i].name, sizeof now[i].name, "%s", r->checks[i].name);
    }
    memcpy(j->checks, now, sizeof now);
    j->n = n;
}

/* ---- counts ---- */

/* Calls of one side: of this step, and since the look before. */
struct calls {
    uint64_t bad, all, new_bad, new_all;
};

/* Taken over from another replica: the bases came along, what was last seen did not. */
static void take_up(struct rollback_check_state *c)
{
    if (!c->counting || c->counted[FORMER] || c->counted[TARGET])
        return;
    for (int i = 0; i < 2; i++) {
        c->counted[i] = true;
        c->last_bad[i] = c->base_bad[i];
        c->last_all[i] = c->base_all[i];
    }
}

/* A process that starts again counts from zero: what was counted before stays. What it counts since is not known of a sum over several, some of which went
 * on, so it is left out, except for security: there a failure would be lost. */
static void restarted(struct rollback_check_state *c, int side, const struct rollback_sample *s, bool security)
{
    c->carry_bad[side] += c->last_bad[side] - c->base_bad[side];
    c->carry_all[side] += c->last_all[side] - c->base_all[side];
    c->base_bad[side] = c->last_bad[side] = security ? 0 : s->bad[side];
    c->base_all[side] = c->last_all[side] = security ? 0 : s->all[side];
}

static struct calls count(struct rollback_check_state *c, int side, const struct rollback_sample *s, bool security)
{
    if (!c->counted[side]) {
        /* A security counter that was not there and comes while we watch has begun with this version: its first failure counts, too. */
        bool from_zero = security && c->absent[side];
        c->counted[side] = true;
        c->base_bad[side] = c->last_bad[side] = from_zero ? 0 : s->bad[side];
        c->base_all[side] = c->last_all[side] = from_zero ? 0 : s->all[side];
    }
    if (s->bad[side] < c->last_bad[side] || s->all[side] < c->last_all[side])
        restarted(c, side, s, security);
    struct calls n = {.new_bad = s->bad[side] - c->last_bad[side], .new_all = s->all[side] - c->last_all[side]};
    c->last_bad[side] = s->bad[side];
    c->last_all[side] = s->all[side];
    n.bad = c->carry_bad[side] + s->bad[side] - c->base_bad[side];
    n.all = c->carry_all[side] + s->all[side] - c->base_all[side];
    /* The two counters were not read in the same instant. */
    if (n.new_bad > n.new_all)
        n.new_all = n.new_bad;
    if (n.bad > n.all)
        n.all = n.bad;
    return n;
}

static double percent(uint64_t bad, uint64_t all)
{
    return all > 0 ? 100.0 * (double)bad / (double)all : 0;
}

/* The calls of the former version that stand against the target's: of the same step if they are enough, otherwise of the whole job. */
static bool opposite(const struct rollback_check_state *c, const struct rollback_check_rule *r,
                     const struct calls *former, struct calls *ret)
{
    if (former->all >= r->min_samples)
        *ret = *former;
    else
        *ret = (struct calls){.bad = c->former_bad, .all = c->former_all};
    return ret->all >= r->min_samples && ret->all > 0;
}

/* Security has no benefit of the doubt: more failures than `most` allows of these calls (of at least min_samples) are too many. */
static bool too_many(const struct rollback_check_rule *r, const struct calls *t)
{
    uint64_t of = t->all > r->min_samples ? t->all : r->min_samples;
    return r->most >= 0 && (double)t->bad > r->most * (double)of;
}

static enum look look_at_share(struct rollback_check_state *c, const struct rollback_check_rule *r,
                               const struct calls *t)
{
    if (r->most < 0 || rollback_binomial(t->bad, t->all, r->most) > unlikely)
        return LOOK_WELL;
    say(c, "%llu of %llu calls failed (%.3g %%), more than %.3g %%", (unsigned long long)t->bad,
        (unsigned long long)t->all, percent(t->bad, t->all), 100 * r->most);
    return (double)t->new_bad > r->most * (double)t->new_all ? LOOK_WORSE : LOOK_SAME;
}

static enum look compare_shares(struct rollback_check_state *c, const struct calls *f, const struct calls *t)
{
    say(c, "%llu of %llu calls failed (%.3g %%), of the former version %llu of %llu (%.3g %%)",
        (unsigned long long)t->bad, (unsigned long long)t->all, percent(t->bad, t->all), (unsigned long long)f->bad,
        (unsigned long long)f->all, percent(f->bad, f->all));
    if (rollback_fisher(f->bad, f->all, t->bad, t->all) > unlikely)
        return LOOK_WELL;
    return (double)t->new_bad * (double)f->all > (double)f->bad * (double)t->new_all ? LOOK_WORSE : LOOK_SAME;
}

/* All calls of the step say it is worse. Do those since the last look, too? A burst that is over is not counted again and again. */
static enum look borne_out(enum look look, const struct rollback_check_rule *r, const struct calls *t)
{
    if (look != LOOK_SAME)
        return look;
    if (r->check_class == ROLLBACK_SECURITY)
        return LOOK_WORSE;
    return t->new_all > 0 && t->new_all >= r->min_samples ? LOOK_WELL : LOOK_SAME;
}

static enum look judge_counts(struct rollback_check_state *c, const struct rollback_check_rule *r,
                              const struct calls *former, const struct calls *t, const bool quiet[2])
{
    struct calls f;
    if (r->check_class == ROLLBACK_SECURITY && too_many(r, t)) {
        say(c, "%llu of %llu calls failed; allowed: %.3g %%", (unsigned long long)t->bad, (unsigned long long)t->all,
            100 * r->most);
        return LOOK_WORSE;
    }
    if (t->all < r->min_samples || t->all == 0) {
        say(c, "%llu calls so far, %llu failed; %llu are needed", (unsigned long long)t->all,
            (unsigned long long)t->bad, (unsigned long long)r->min_samples);
        return quiet[TARGET] ? LOOK_EXCUSED : LOOK_FEW;
    }
    say(c, "%llu of %llu calls failed (%.3g %%)", (unsigned long long)t->bad, (unsigned long long)t->all,
        percent(t->bad, t->all));
    bool doubt = r->check_class != ROLLBACK_SECURITY; /* the others' `most` is judged by the test */
    enum look by_share = doubt ? borne_out(look_at_share(c, r, t), r, t) : LOOK_WELL;
    if (by_share != LOOK_WELL || !r->compare)
        return by_share;
    if (opposite(c, r, former, &f))
        return borne_out(compare_shares(c, &f, t), r, t);
    if (!quiet[FORMER]) {
        say(c, "the former version: %llu calls so far; %llu are needed", (unsigned long long)former->all,
            (unsigned long long)r->min_samples);
        return LOOK_FEW;
    }
    if (r->most >= 0)
        return LOOK_WELL;
    say(c, "nothing to compare with: no calls of the former version were seen");
    return LOOK_EXCUSED;
}

static enum look look_at_counts(struct rollback_check_state *c, const struct rollback_check_rule *r,
                                const struct rollback_sample *s, const bool quiet[2])
{
    bool security = r->check_class == ROLLBACK_SECURITY;
    struct calls n[2] = {{0}, {0}};
    take_up(c);
    for (int i = 0; i < 2; i++) {
        if (s->data[i])
            n[i] = count(c, i, s, security);
        c->absent[i] = !s->data[i];
    }
    c->counting = c->counted[FORMER] && c->counted[TARGET];
    if (s->data[FORMER] && !quiet[FORMER]) {
        c->former_bad += n[FORMER].new_bad;
        c->former_all += n[FORMER].new_all;
    }
    if (!s->data[TARGET])
        return quiet[TARGET] ? LOOK_EXCUSED : LOOK_NOTHING;
    return judge_counts(c, r, &n[FORMER], &n[TARGET], quiet);
}

/* ---- values ---- */

static bool number(const struct rollback_sample *s, int side)
{
    return s->data[side] && isfinite(s->value[side]);
}

/* How far apart two values must be, in standard deviations of that distance, to be so in 1 of 50 looks by chance (Student's distribution, fitted): a
 * value must be so in each of several looks. The deviation is of successive differences, so that a shift does not hide itself in it; those share their
 * values, hence the degrees of freedom. */
static double beyond(unsigned steps)
{
    double free = 2.0 * steps / 3;
    return 2.05 + 2.5 / free + 6.25 / (free * free);
}

static bool noise_known(const struct rollback_check_state *c)
{
    return c->steps >= NOISE_MIN;
}

static double noise_of(const struct rollback_check_state *c)
{
    return c->steps > 0 ? sqrt(c->noise / (2.0 * c->steps)) : 0;
}

static void learn_noise(struct rollback_check_state *c, double apart)
{
    double step = apart - c->last_apart;
    if (c->apart && isfinite(step * step)) {
        c->noise += step * step;
        c->steps++;
    }
    c->apart = true;
    c->last_apart = apart;
}

/* The former version's value; false = there is none. */
static bool former_value(struct rollback_check_state *c, const struct rollback_sample *s, bool quiet, double *ret)
{
    if (!quiet) {
        if (!number(s, FORMER))
            return false;
        double v = s->value[FORMER];
        c->former_value = c->former_known ? c->former_value + (v - c->former_value) / FORMER_LOOKS : v;
        c->former_known = true;
        *ret = v;
        return true;
    }
    *ret = c->former_value;
    return c->former_known;
}

static enum look compare_values(struct rollback_check_state *c, const struct rollback_check_rule *r, double former,
                                double target)
{
    double apart = target - former, allowed = fabs(former) * r->worse, noise = noise_of(c);
    bool known = noise_known(c), worse = apart > allowed;
    /* No benefit of the doubt for security. */
    bool loud = r->check_class == ROLLBACK_SECURITY || !known || apart > beyond(c->steps) * noise;
    say(c, "%.6g, of the former version %.6g%s", target, former,
        !worse  ? ""
        : !loud ? ": worse, and within its noise"
                : ": worse by more than is allowed");
    learn_noise(c, apart);
    return worse && loud ? LOOK_WORSE : LOOK_WELL;
}

static enum look look_at_value(struct rollback_check_state *c, const struct rollback_check_rule *r,
                               const struct rollback_sample *s, const bool quiet[2])
{
    double former = 0; /* set whenever former_value() says so: not every compiler sees it */
    bool opposed = former_value(c, s, quiet[FORMER], &former);
    if (!number(s, TARGET))
        return quiet[TARGET] ? LOOK_EXCUSED : LOOK_NOTHING;
    double target = s->value[TARGET];
    say(c, "%.6g", target);
    if (r->most >= 0 && target > r->most) {
        say(c, "%.6g; allowed: %.6g", target, r->most);
        return LOOK_WORSE;
    }
    if (!r->compare || quiet[TARGET]) /* without load it would be compared with one under load */
        return !r->compare || r->most >= 0 ? LOOK_WELL : LOOK_EXCUSED;
    if (opposed) {
        enum look look = compare_values(c, r, former, target);
        /* Until its noise is known, it counts, and does not decide. */
        bool decides = r->check_class == ROLLBACK_SECURITY || c->steps > NOISE_MIN;
        if (look == LOOK_WORSE && !decides && c->in_a_row + 1 >= limit_of(r))
            return LOOK_SAME;
        return look;
    }
    if (!quiet[FORMER]) {
        say(c, "%.6g, and nothing of the former version", target);
        return LOOK_NOTHING;
    }
    if (r->most >= 0)
        return LOOK_WELL;
    say(c, "%.6g, and nothing to compare with", target);
    return LOOK_EXCUSED;
}

/* ---- plain ---- */

static enum look look_at_plain(struct rollback_check_state *c, const struct rollback_sample *s)
{
    if (!s->data[TARGET])
        return LOOK_NOTHING;
    say(c, "%s", s->failed[TARGET] ? "failed" : "passed");
    return s->failed[TARGET] ? LOOK_WORSE : LOOK_WELL;
}

/* ---- all together ---- */

static void conclude(struct rollback_check_state *c, const struct rollback_check_rule *r, enum look look,
                     const char *detail)
{
    switch (look) {
    case LOOK_WELL:
        c->in_a_row = 0;
        c->outcome = OUTCOME(PASSED);
        break;
    case LOOK_WORSE:
        if (c->in_a_row < UINT32_MAX)
            c->in_a_row++;
        c->outcome = OUTCOME(FAILED);
        break;
    case LOOK_SAME:
        break;
    default:
        c->outcome = OUTCOME(NO_DATA);
    }
    if (look == LOOK_NOTHING) {
        /* Silence is borne for as many looks as failures would be; then what the check has said before counts no more. */
        if (!c->detail[0])
            say(c, "no answer");
        if (++c->silent >= limit_of(r))
            c->seen = false;
    } else if (look != LOOK_FEW) {
        c->silent = 0;
        c->seen = true;
    }
    size_t len = strlen(c->detail);
    if (*detail && len + 3 < sizeof c->detail)
        snprintf(c->detail + len, sizeof c->detail - len, "%s%s", len > 0 ? ": " : "", detail);
}

static void take(struct rollback_judge *j, const struct rollback_judge_rule *r, const struct rollback_sample *s,
                 int64_t now_ms)
{
    if (s->check >= j->n)
        return;
    struct rollback_check_state *c = &j->checks[s->check];
    const struct rollback_check_rule *rule = &r->checks[s->check];
    enum look look;
    if (s->kind != ROLLBACK_PLAIN && s->kind != ROLLBACK_VALUE && s->kind != ROLLBACK_COUNTS)
        return;
    c->detail[0] = '\0';
    c->at_ms = now_ms;
    switch (s->kind) {
    case ROLLBACK_PLAIN:
        look = look_at_plain(c, s);
        break;
    case ROLLBACK_VALUE:
        look = look_at_value(c, rule, s, j->quiet);
        break;
    default:
        look = look_at_counts(c, rule, s, j->quiet);
    }
    conclude(c, rule, look, s->detail);
}

static enum rollback_verdict verdict(const struct rollback_judge *j, const struct rollback_judge_rule *r, bool suite,
                                     size_t *ret_check)
{
    size_t worst = j->n, silent = j->n;
    for (size_t i = 0; i < j->n; i++) {
        const struct rollback_check_rule *rule = &r->checks[i];
        bool worse = j->checks[i].in_a_row >= limit_of(rule);
        if (worse && (worst == j->n || rule->check_class < r->checks[worst].check_class))
            worst = i;
        if (silent == j->n && !j->checks[i].seen && (suite || !rule->suite))
            silent = i;
    }
    if (worst == j->n && silent == j->n)
        return ROLLBACK_WELL;
    *ret_check = worst < j->n ? worst : silent;
    return worst < j->n ? ROLLBACK_WORSE : ROLLBACK_SILENT;
}

enum rollback_verdict rollback_judge_take(struct rollback_judge *j, const struct rollback_judge_rule *r,
                                          const struct rollback_sample *s, size_t n, bool suite, int64_t now_ms,
                                          size_t *ret_check)
{
    arrange(j, r);
    for (size_t i = 0; i < n; i++)
        take(j, r, &s[i], now_ms);
    return verdict(j, r, suite, ret_check);
}

void rollback_judge_step(struct rollback_judge *j, const struct rollback_judge_rule *r)
{
    arrange(j, r);
    for (size_t i = 0; i < j->n; i++) {
        struct rollback_check_state *c = &j->checks[i];
        c->seen = false;
        c->silent = 0;
        for (int k = 0; k < 2; k++) {
            c->base_bad[k] = c->counted[k] ? c->last_bad[k] : 0;
            c->base_all[k] = c->counted[k] ? c->last_all[k] : 0;
            c->carry_bad[k] = c->carry_all[k] = 0;
        }
        c->counting = c->counted[FORMER] && c->counted[TARGET];
    }
}

void rollback_judge_forgive(struct rollback_judge *j, const struct rollback_judge_rule *r)
{
    arrange(j, r);
    for (size_t i = 0; i < j->n; i++)
        j->checks[i].in_a_row = 0;
    rollback_judge_step(j, r);
}
