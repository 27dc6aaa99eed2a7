/* health_selftest.h - questions with one right answer: which one is next, and what a run of wrong answers means (whether one is
 * right: common/selftest.h). Pure. */
#ifndef REDOUBT_HEALTH_SELFTEST_H
#define REDOUBT_HEALTH_SELFTEST_H

#include "health/health.h"

#define HEALTH_SELFTEST_RISE 2 /* right answers in a row until the judgement is trusted again */

enum health_selftest_end {
    HEALTH_SELFTEST_RIGHT,
    HEALTH_SELFTEST_WRONG,
    HEALTH_SELFTEST_NO_ANSWER, /* asked, and nothing came in time: as bad as a wrong one */
    HEALTH_SELFTEST_NOT_ASKED, /* nobody was there to be asked: says nothing about the judgement */
};
struct health_selftest {
    uint32_t wrong, right; /* in a row */
    uint32_t next;         /* question */
    uint8_t fault;         /* what holds now: NONE, WRONG_ANSWER or TIMEOUT; CANCELLED = nothing known yet */
    char detail[HEALTH_DETAIL_MAX];
};
/* The number of the question to ask, of n > 0. */
uint32_t health_selftest_next(struct health_selftest *s, uint32_t n);
/* Takes the end of an asking. True if it says something about the judgement. */
bool health_selftest_take(struct health_selftest *s, uint32_t fall, enum health_selftest_end end,
                          const char *question, const char *why);

#endif
