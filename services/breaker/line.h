/* line.h - who may go to the store: so many at once, the others wait in line, the urgent ones before the rest. Pure. */
#ifndef REDOUBT_BREAKER_LINE_H
#define REDOUBT_BREAKER_LINE_H

#include <stdbool.h>
#include <stddef.h>

/* Embedded in what waits. */
struct breaker_waiter {
    struct breaker_waiter *prev, *next;
    bool waits, urgent;
};
struct breaker_line {
    struct breaker_waiter *urgent, *rest; /* first come, first served */
    size_t out, most;
};
/* True: go now. False: it waits in line. */
bool breaker_line_enter(struct breaker_line *l, struct breaker_waiter *w, bool urgent);
/* It has become urgent; nothing unless it waits. */
void breaker_line_hurry(struct breaker_line *l, struct breaker_waiter *w);
/* One is back. */
void breaker_line_leave(struct breaker_line *l);
/* The next one that may go now; NULL if there is none. */
struct breaker_waiter *breaker_line_next(struct breaker_line *l);
/* Whoever waits, whether it may go or not; NULL if nobody does. It does not count as out. */
struct breaker_waiter *breaker_line_give_up(struct breaker_line *l);

#endif
