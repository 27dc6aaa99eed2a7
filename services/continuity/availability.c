/* availability.c - how long each agent was in which condition, by month. Pure, exact to the millisecond; see availability.h. */
#include "continuity/availability.h"
#include "continuity/incident.h"
#include <string.h>

#define DAY_MS      INT64_C(86400000)
#define TIME_MAX_MS INT64_C(253402300799999) /* the end of the year 9999 */

/* Days since 1970-01-01 of the first of a month, by the calendar's own period of 400 years; years begin in March there, so that the leap day is the last one. */
static int64_t days_of(int64_t year, int64_t month)
{
    year -= month <= 2;
    int64_t era = year / 400, of_era = year % 400;
    int64_t of_year = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5;
    return era * 146097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719468;
}

uint32_t availability_month_of(int64_t unix_ms)
{
    if (unix_ms < 0)
        unix_ms = 0;
    if (unix_ms > TIME_MAX_MS)
        unix_ms = TIME_MAX_MS;
    int64_t days = unix_ms / DAY_MS, year = 1970 + days / 366, month = 1;
    while (days_of(year + 1, 1) <= days)
        year++;
    while (month < 12 && days_of(year, month + 1) <= days)
        month++;
    return (uint32_t)(year * 100 + month);
}

int64_t availability_month_start(uint32_t month)
{
    int64_t year = month / 100, m = month % 100;
    if (m == 0)
        m = 1;
    year += (m - 1) / 12;
    m = (m - 1) % 12 + 1;
    return days_of(year, m) * DAY_MS;
}

/* The month's row, made if need be. NULL: it is older than all that is kept. */
static struct availability_month *row(struct availability *a, uint32_t month)
{
    size_t at = a->n;
    while (at > 0 && a->months[at - 1].month >= month)
        at--;
    if (at < a->n && a->months[at].month == month)
        return &a->months[at];
    if (a->n == AVAILABILITY_MONTHS) {
        if (at == 0)
            return NULL;
        memmove(a->months, a->months + 1, --a->n * sizeof a->months[0]);
        at--;
    }
    memmove(a->months + at + 1, a->months + at, (a->n++ - at) * sizeof a->months[0]);
    a->months[at] = (struct availability_month){.month = month};
    return &a->months[at];
}

void availability_begin(struct availability *a, unsigned condition, int64_t now_ms)
{
    if (now_ms < 1)
        now_ms = 1;
    *a = (struct availability){.known_ms = now_ms, .since_ms = now_ms, .settled_ms = now_ms, .condition = condition};
}

void availability_settle(struct availability *a, int64_t now_ms)
{
    if (a->known_ms == 0)
        return;
    if (now_ms > TIME_MAX_MS)
        now_ms = TIME_MAX_MS;
    while (a->settled_ms < now_ms) {
        uint32_t month = availability_month_of(a->settled_ms);
        int64_t end = availability_month_start(month + 1);
        if (end > now_ms)
            end = now_ms;
        int64_t took = end - a->settled_ms;
        struct availability_month *m = row(a, month);
        a->settled_ms = end;
        if (!m)
            continue;
        m->known_ms += took;
        if (a->condition & CONDITION_FULL)
            m->full_ms += took;
        else if (a->condition & CONDITION_DEGRADED)
            m->degraded_ms += took;
        else if (a->condition & CONDITION_LLM)
            m->llm_ms += took;
    }
}

void availability_change(struct availability *a, unsigned condition, int64_t at_ms)
{
    if (a->known_ms == 0) {
        availability_begin(a, condition, at_ms);
        return;
    }
    if (condition == a->condition)
        return; /* not counted yet: a change that comes late may lie before */
    availability_settle(a, at_ms);
    a->condition = condition;
    a->since_ms = a->settled_ms;
}

void availability_incident(struct availability *a, int64_t at_ms)
{
    struct availability_month *m = row(a, availability_month_of(at_ms));
    if (m)
        m->incidents++;
}

const struct availability_month *availability_of(const struct availability *a, uint32_t month)
{
    for (size_t i = 0; i < a->n; i++)
        if (a->months[i].month == month)
            return &a->months[i];
    return NULL;
}

void availability_add(struct availability_month *sum, const struct availability_month *m)
{
    sum->known_ms += m->known_ms;
    sum->full_ms += m->full_ms;
    sum->degraded_ms += m->degraded_ms;
    sum->llm_ms += m->llm_ms;
    sum->incidents += m->incidents;
}

uint32_t availability_ppm(const struct availability_month *m, bool full_function)
{
    int64_t away = m->full_ms + (full_function ? m->degraded_ms + m->llm_ms : 0);
    if (m->known_ms <= 0 || away >= m->known_ms)
        return 0;
    /* In thousands of seconds a sum over many agents could overflow; rounded down, so that 100 % means all of it. */
    return (uint32_t)((__int128)(m->known_ms - away) * 1000000 / m->known_ms);
}
