/* line.c - who may go to the store, and who waits; see line.h. */
#include "breaker/line.h"
#include <assert.h>
#include <utlist.h>

static void append(struct breaker_line *l, struct breaker_waiter *w)
{
    if (w->urgent)
        DL_APPEND(l->urgent, w);
    else
        DL_APPEND(l->rest, w);
}

static void take_out(struct breaker_line *l, struct breaker_waiter *w)
{
    if (w->urgent)
        DL_DELETE(l->urgent, w);
    else
        DL_DELETE(l->rest, w);
}

bool breaker_line_enter(struct breaker_line *l, struct breaker_waiter *w, bool urgent)
{
    assert(!w->waits);
    if (l->out < l->most) {
        l->out++;
        return true;
    }
    *w = (struct breaker_waiter){.waits = true, .urgent = urgent};
    append(l, w);
    return false;
}

void breaker_line_hurry(struct breaker_line *l, struct breaker_waiter *w)
{
    if (!w->waits || w->urgent)
        return;
    take_out(l, w);
    w->urgent = true;
    append(l, w);
}

void breaker_line_leave(struct breaker_line *l)
{
    assert(l->out > 0);
    l->out--;
}

struct breaker_waiter *breaker_line_give_up(struct breaker_line *l)
{
    struct breaker_waiter *w = l->urgent ? l->urgent : l->rest;
    if (w) {
        take_out(l, w);
        w->waits = false;
    }
    return w;
}

struct breaker_waiter *breaker_line_next(struct breaker_line *l)
{
    struct breaker_waiter *w = l->out < l->most ? breaker_line_give_up(l) : NULL;
    l->out += w != NULL;
    return w;
}
