/* scope.c - when what several targets share counts as ill; see scope.h. */
#include "breaker/scope.h"

static int64_t later(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

void breaker_scope_add(struct breaker_scope *s, const struct breaker *b, enum breaker_called called)
{
    switch (b->state) {
    case BREAKER_OPEN:
    case BREAKER_HALF_OPEN:
        if (b->scope)
            return;
        s->open++;
        s->until_ms = later(s->until_ms, b->until_ms);
        s->newest_ms = later(s->newest_ms, b->evidence_ms);
        if (s->first_ms == 0 || b->evidence_ms < s->first_ms)
            s->first_ms = b->evidence_ms;
        return;
    case BREAKER_PROBATION:
        s->well++;
        return;
    case BREAKER_CLOSED:
        s->well += called == BREAKER_CALLED_YES;
        s->unknown += called == BREAKER_CALLED_UNKNOWN;
        return;
    default:
        return;
    }
}

static bool most(const struct breaker_scope *s, uint64_t well)
{
    return s->open >= 2 && s->open > well; /* more than half of both */
}

bool breaker_scope_ill(const struct breaker_scope *s)
{
    return most(s, (uint64_t)s->well + s->unknown);
}

bool breaker_scope_unsure(const struct breaker_scope *s)
{
    return most(s, s->well) && !breaker_scope_ill(s);
}
