/* traffic_none.c - nothing divides the traffic: what runs has it. What was last set is what is read back. */
#include "rollback/rollback_traffic.h"
#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <utlist.h>

/* An answer that is given on the next turn of the loop. */
struct job {
    struct traffic *t; /* NULL: nobody waits for it any more */
    traffic_view_cb view;
    traffic_cb done;
    void *ctx;
    struct job *prev, *next;
};
struct traffic {
    struct loop *loop;
    struct job *jobs;
    int share[2]; /* both 0: nothing was set by this process, so it cannot say */
};

static void answer(void *ctx)
{
    struct job j = *(struct job *)ctx;
    if (j.t)
        DL_DELETE(j.t->jobs, (struct job *)ctx);
    free(ctx);
    if (j.t && j.view)
        j.view(j.ctx, &(struct traffic_view){.ok = true, .error = "", .share = {j.t->share[0], j.t->share[1]}});
    else if (j.t)
        j.done(j.ctx, &(struct executor_result){.ok = true, .text = ""});
}

static void later(struct traffic *t, traffic_view_cb view, traffic_cb done, void *ctx)
{
    struct job *j = calloc(1, sizeof *j);
    assert(j && "out of memory for a few words");
    *j = (struct job){.t = t, .view = view, .done = done, .ctx = ctx};
    DL_APPEND(t->jobs, j);
    loop_defer(t->loop, answer, j);
}

static struct traffic *none_open(struct service *s, const struct set_deployment *set, struct err *e)
{
    (void)set;
    struct traffic *t = calloc(1, sizeof *t);
    if (t)
        t->loop = &s->loop;
    else
        err_set(e, "out of memory");
    return t;
}

static void none_close(struct traffic *t)
{
    struct job *j, *next;
    DL_FOREACH_SAFE(t->jobs, j, next)
    {
        j->t = NULL;
    }
    free(t);
}

static void none_view(struct traffic *t, const struct executor_instance *at, size_t count, traffic_view_cb cb,
                      void *ctx)
{
    (void)at, (void)count;
    later(t, cb, NULL, ctx);
}

static void none_check(struct traffic *t, traffic_cb cb, void *ctx)
{
    later(t, NULL, cb, ctx);
}

static void none_set(struct traffic *t, const struct traffic_order *o, traffic_cb cb, void *ctx)
{
    memcpy(t->share, o->share, sizeof t->share);
    later(t, NULL, cb, ctx);
}

const struct traffic_kind traffic_none = {
    .name = "none", .open = none_open, .close = none_close, .view = none_view, .check = none_check, .set = none_set};
