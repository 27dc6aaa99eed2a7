/* rollback_judge.c - is the version that is gone back to worse? Classes, failures in a row, tests of counts and values. */
#include "rollback/rollback_judge.h"
#include <string.h>

void rollback_judge_step(struct rollback_judge *j, const struct rollback_judge_rule *r)
{
    (void)r;
    for (size_t i = 0; i < j->n; i++)
        j->checks[i].seen = false;
}

void rollback_judge_forgive(struct rollback_judge *j, const struct rollback_judge_rule *r)
{
    for (size_t i = 0; i < j->n; i++)
        j->checks[i].in_a_row = 0;
    rollback_judge_step(j, r);
}

enum rollback_verdict rollback_judge_take(struct rollback_judge *j, const struct rollback_judge_rule *r, const struct rollback_sample *s, size_t n,
                                          bool suite, int64_t now_ms, size_t *ret_check)
{
    (void)j, (void)s, (void)n, (void)suite, (void)now_ms, (void)ret_check;
    return r->n > 0 ? ROLLBACK_SILENT : ROLLBACK_WELL;
}

double rollback_fisher(uint64_t a_bad, uint64_t a_all, uint64_t b_bad, uint64_t b_all)
{
    (void)a_bad, (void)a_all, (void)b_bad, (void)b_all;
    return 1;
}
