/* health_selftest.c - which question is next, and what a run of wrong answers means. */
#include "health/health_selftest.h"
#include <stdio.h>

uint32_t health_selftest_next(struct health_selftest *s, uint32_t n)
{
    uint32_t i = s->next % n; /* the settings may have fewer now */
    s->next = (i + 1) % n;
    return i;
}

bool health_selftest_take(struct health_selftest *s, uint32_t fall, enum health_selftest_end end,
                          const char *question, const char *why)
{
    if (end == HEALTH_SELFTEST_NOT_ASKED)
        return false;
    if (end == HEALTH_SELFTEST_RIGHT) {
        s->wrong = 0;
        s->right += s->right < UINT32_MAX;
        if (s->fault <= HEALTH_FAULT_NONE || s->right >= HEALTH_SELFTEST_RISE) {
            s->fault = HEALTH_FAULT_NONE;
            snprintf(s->detail, sizeof s->detail, "%.40s answered rightly", question);
        }
        return true;
    }
    s->right = 0;
    s->wrong += s->wrong < UINT32_MAX;
    if (s->wrong >= fall) {
        s->fault = end == HEALTH_SELFTEST_WRONG ? HEALTH_FAULT_WRONG_ANSWER : HEALTH_FAULT_TIMEOUT;
        snprintf(s->detail, sizeof s->detail, "%u in a row, the last %.40s: %s", s->wrong, question, why);
    }
    return true;
}
