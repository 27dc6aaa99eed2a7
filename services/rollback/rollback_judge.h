/* rollback_judge.h - is the version that is gone back to worse? Pure: samples of checks in, a verdict out.
 *
 * Shares (failures of calls) of both versions over the same time are compared by an exact test; values by a ratio; plain checks by themselves. A class says how
 * many failures in a row are a regression: security the first, performance 3, errors 4. README.md has the bounds on wrong verdicts. */
#ifndef REDOUBT_ROLLBACK_JUDGE_H
#define REDOUBT_ROLLBACK_JUDGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define ROLLBACK_CHECKS 32

enum rollback_class { ROLLBACK_SECURITY, ROLLBACK_PERFORMANCE, ROLLBACK_ERRORS };

struct rollback_check_rule {
    const char *name;
    int check_class; /* enum rollback_class */
    unsigned limit;  /* so many in a row are a regression; 0 and 1 = the first */
    bool compare;
    bool suite;   /* only in the final verification */
    double most;  /* < 0 = none */
    double worse; /* 0.2: values may be worse by a fifth */
    uint64_t min_samples;
};
struct rollback_judge_rule {
    size_t n;
    const struct rollback_check_rule *checks;
};

enum rollback_sample_kind {
    ROLLBACK_PLAIN,  /* passed or failed by itself */
    ROLLBACK_VALUE,  /* a number of each side, more is worse */
    ROLLBACK_COUNTS, /* counters of each side: failures of calls since some beginning of their own */
};
/* One answer of one check. */
struct rollback_sample {
    size_t check; /* index into the rule */
    int kind;     /* enum rollback_sample_kind */
    bool data[2]; /* [0] the former version, [1] the one that is gone back to: there is an answer */
    bool failed[2];
    double value[2];
    uint64_t bad[2], all[2];
    char detail[200]; /* what was seen, for people */
};

/* What is remembered; journaled with the job. */
struct rollback_check_state {
    char name[65];
    unsigned in_a_row;
    int outcome;   /* CheckOutcome of the contract */
    bool seen;     /* data came in this step */
    bool counting; /* base holds counters */
    uint64_t base_bad[2], base_all[2];
    int64_t at_ms;
    char detail[200];
};
struct rollback_judge {
    size_t n;
    struct rollback_check_state checks[ROLLBACK_CHECKS];
};

enum rollback_verdict {
    ROLLBACK_WELL,   /* nothing speaks against it, and every check has said something in this step */
    ROLLBACK_SILENT, /* nothing speaks against it, but some check has not said anything yet */
    ROLLBACK_WORSE,  /* a regression */
};
/* A step begins: what was seen is forgotten, failures in a row go on counting (a regression does not pass by a change of step). */
void rollback_judge_step(struct rollback_judge *j, const struct rollback_judge_rule *r);
/* Takes samples; the verdict so far. On WORSE *ret_check is the check that shows it. suite: all checks must have spoken, not only those of every step. */
enum rollback_verdict rollback_judge_take(struct rollback_judge *j, const struct rollback_judge_rule *r,
                                          const struct rollback_sample *s, size_t n, bool suite, int64_t now_ms,
                                          size_t *ret_check);
/* The one-sided probability that b_bad of b_all or more come about if b is no worse than a (Fisher's exact test). */
double rollback_fisher(uint64_t a_bad, uint64_t a_all, uint64_t b_bad, uint64_t b_all);

#endif
