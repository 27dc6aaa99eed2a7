/* work.h - reading and moving files on a thread, for the loop. */
#ifndef REDOUBT_WORK_H
#define REDOUBT_WORK_H

#include "common/err.h"
#include "common/loop.h"
#include <stdatomic.h>

struct work;
typedef int (*work_fn)(void *arg, const atomic_bool *stop, struct err *e); /* on a thread */
typedef void (*work_cb)(void *ctx, int status, const struct err *e);
/* arg_free(arg) is called after cb, or without it. */
struct work *work_start(struct loop *l, work_fn fn, void *arg, void (*arg_free)(void *arg), work_cb cb, void *ctx);
void work_cancel(struct work *w); /* asked to end early; cb comes. NULL is fine */
void work_drop(struct work *w);   /* the same; cb does not come. NULL is fine */

#endif
