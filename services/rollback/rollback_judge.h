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

/* What is remembered of a check; journaled with the job. What is "not journaled" a new holder of the job learns anew. */
struct rollback_check_state {
    char name[65];
    unsigned in_a_row;
    int outcome;                       /* CheckOutcome of the contract */
    bool seen;                         /* it has said something in this step, and still does */
    bool counting;                     /* base holds counters */
    uint64_t base_bad[2], base_all[2]; /* when it began to count in this step */
    int64_t at_ms;
    char detail[200];
    /* The former version while it had traffic in this job: what the other one is compared with once it has none. */
    uint64_t former_bad, former_all;
    double former_value;
    bool former_known; /* former_value is */
    /* Not journaled. */
    bool counted[2], absent[2];          /* last_* are known; there were no counters at the last look */
    uint64_t last_bad[2], last_all[2];   /* counters as they were seen last */
    uint64_t carry_bad[2], carry_all[2]; /* of this step, from before a counter began anew */
    unsigned silent;                     /* looks without data, in a row */
    unsigned steps;                      /* differences between successive looks that `noise` sums up */
    double noise, last_apart;            /* of values: sum of squares; the last distance between the versions */
    bool apart;                          /* last_apart is known */
};
struct rollback_judge {
    size_t n;
    /* Set by who takes samples, each time: that side has no traffic by plan. Of a target without traffic no calls are waited for; a former
     * version without traffic is compared with as it was. */
    bool quiet[2];
    struct rollback_check_state checks[ROLLBACK_CHECKS];
};

enum rollback_verdict {
    ROLLBACK_WELL,   /* nothing speaks against it, and every check has said something in this step */
    ROLLBACK_SILENT, /* nothing speaks against it, but some check has not said anything yet */
    ROLLBACK_WORSE,  /* a regression */
};
/* A person has decided to go on in spite of a regression: failures in a row are forgotten; those to come are not. Begins a step, too. */
void rollback_judge_forgive(struct rollback_judge *j, const struct rollback_judge_rule *r);
/* A step begins: what was seen is forgotten, failures in a row go on counting (a regression does not pass by a change of step). */
void rollback_judge_step(struct rollback_judge *j, const struct rollback_judge_rule *r);
/* Takes samples; the verdict so far. On WORSE *ret_check is the check that shows it, on SILENT the first one that is missing.
 * suite: all checks must have spoken, not only those of every step. */
enum rollback_verdict rollback_judge_take(struct rollback_judge *j, const struct rollback_judge_rule *r,
                                          const struct rollback_sample *s, size_t n, bool suite, int64_t now_ms,
                                          size_t *ret_check);
/* The one-sided probability that b_bad of b_all or more come about if b is no worse than a (Fisher's exact test). */
double rollback_fisher(uint64_t a_bad, uint64_t a_all, uint64_t b_bad, uint64_t b_all);

#endif
