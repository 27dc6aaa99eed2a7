/* scope.h - when what several targets share (a provider, an account, a key) counts as ill. Pure.
 *
 * By the members that have evidence of their own: open or being tried because of it, on the ramp, or closed and called (or watched). Ill =
 * at least two of these are open or still to pass their trial, and that is more than half. What was opened because of the scope says
 * nothing about it, nor what a person holds, nor what nobody calls. There is no memory: every replica comes to the same from the same
 * documents, also after a restart. */
#ifndef REDOUBT_BREAKER_SCOPE_H
#define REDOUBT_BREAKER_SCOPE_H

#include "breaker/breaker.h"

enum breaker_called { BREAKER_CALLED_UNKNOWN, BREAKER_CALLED_NO, BREAKER_CALLED_YES };

struct breaker_scope {
    uint32_t open, well, unknown;
    int64_t until_ms;            /* latest end of those that are open; 0 = none has one */
    int64_t first_ms, newest_ms; /* evidence behind those that are open: the first of all, the newest outage */
};
/* `called`: whether the window holds calls, or watchers have a verdict; asked only of what is closed. */
void breaker_scope_add(struct breaker_scope *s, const struct breaker *b, enum breaker_called called);
bool breaker_scope_ill(const struct breaker_scope *s);
/* It may be: it depends on those of whom it is not known. Until then they count as well. */
bool breaker_scope_unsure(const struct breaker_scope *s);

#endif
