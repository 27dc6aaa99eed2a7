/* notify_impl.h - what notify*.c share. Private to them and to service.c. */
#ifndef REDOUBT_NOTIFY_IMPL_H
#define REDOUBT_NOTIFY_IMPL_H

#include "common/service.h"

/* An own message, packed; NULL if it breaks the contract (counted and logged: a bug) or memory is out. */
void *notify_pack(const void *message, size_t *len);

/* NULL if memory is out. */
struct notify_alerts *notify_alerts_open(struct service *s);
/* After the outbox; the bus still stands. NULL is fine. */
void notify_alerts_close(struct notify_alerts *x, loop_cb closed, void *ctx);

#endif
