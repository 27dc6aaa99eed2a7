/* work.c - reading and moving files on a thread, for the loop. */
#include "common/work.h"
#include <assert.h>
#include <stdlib.h>

struct work {
    uv_work_t uv;
    work_fn fn;
    work_cb cb; /* NULL: nobody waits for it */
    void *arg, *ctx;
    void (*arg_free)(void *arg);
    atomic_bool stop;
    int status;
    struct err e;
};

static void on_thread(uv_work_t *uv)
{
    struct work *w = uv->data;
    w->status = w->fn(w->arg, &w->stop, &w->e);
}

static void on_done(uv_work_t *uv, int cancelled)
{
    struct work *w = uv->data;
    if (cancelled)
        w->status = err_set(&w->e, "it was not begun");
    if (w->cb)
        w->cb(w->ctx, w->status, &w->e);
    w->arg_free(w->arg);
    free(w);
}

struct work *work_start(struct loop *l, work_fn fn, void *arg, void (*arg_free)(void *arg), work_cb cb, void *ctx)
{
    struct work *w = calloc(1, sizeof *w);
    assert(w && "out of memory for some work");
    *w = (struct work){.fn = fn, .arg = arg, .arg_free = arg_free, .cb = cb, .ctx = ctx};
    w->uv.data = w;
    atomic_init(&w->stop, false);
    int bad = uv_queue_work(&l->uv, &w->uv, on_thread, on_done);
    assert(!bad && "work is always taken");
    return w;
}

void work_cancel(struct work *w)
{
    if (w)
        atomic_store(&w->stop, true);
}

void work_drop(struct work *w)
{
    if (!w)
        return;
    w->cb = NULL;
    atomic_store(&w->stop, true);
    (void)uv_cancel((uv_req_t *)&w->uv);
}
