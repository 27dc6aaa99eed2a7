/* check_tally.c - one pair of counters that only grows, out of those of many processes that come, go and begin anew. */
#include "rollback/check_tally.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void check_tally_done(struct check_tally *t)
{
    free(t->version);
    free(t->ones);
    *t = (struct check_tally){0};
}

static struct check_tally_one *place(struct check_tally *t, const char *id)
{
    size_t oldest = 0;
    for (size_t i = 0; i < t->n; i++) {
        if (strncmp(t->ones[i].id, id, sizeof t->ones[i].id - 1) == 0)
            return &t->ones[i];
        if (t->ones[i].turn < t->ones[oldest].turn)
            oldest = i;
    }
    if (t->n == t->room && t->room < CHECK_TALLY_MAX) {
        size_t room = t->room ? 2 * t->room : 8;
        struct check_tally_one *more = realloc(t->ones, room * sizeof *more);
        if (!more)
            return NULL;
        t->ones = more;
        t->room = room;
    }
    struct check_tally_one *one = t->n < t->room ? &t->ones[t->n++] : &t->ones[oldest];
    *one = (struct check_tally_one){.turn = t->turn};
    snprintf(one->id, sizeof one->id, "%s", id);
    return one;
}

bool check_tally_take(struct check_tally *t, const char *version, const char *id, uint64_t bad, uint64_t all)
{
    if (!t->version || strcmp(t->version, version) != 0) {
        check_tally_done(t);
        if (!(t->version = strdup(version)))
            return false;
    }
    t->turn++;
    struct check_tally_one *one = place(t, id);
    if (!one)
        return false;
    if (bad < one->bad || all < one->all) /* it has started again, from zero */
        one->bad = one->all = 0;
    t->bad += bad - one->bad;
    t->all += all - one->all;
    one->bad = bad;
    one->all = all;
    one->turn = t->turn;
    return true;
}
