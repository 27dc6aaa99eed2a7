/* loop.c - the loop: libuv's, with timers that their owners embed and calls that are put off. */
#include "common/loop.h"
#include <assert.h>
#include <stdlib.h>

struct deferred {
    loop_cb fn;
    void *ctx;
    struct deferred *next;
};

/* What struct loop keeps to itself. */
struct loop_priv {
    uv_idle_t idle; /* active while calls are put off: keeps the loop from waiting in poll */
    struct deferred *first, **last;
    uv_timer_t limit; /* of loop_run_until() */
    bool over;
};

static void on_idle(uv_idle_t *h)
{
    struct loop_priv *p = h->data;
    struct deferred *d = p->first;
    p->first = NULL; /* what is put off from here on waits for the next turn */
    p->last = &p->first;
    while (d) {
        struct deferred *next = d->next;
        loop_cb fn = d->fn;
        void *ctx = d->ctx;
        free(d);
        fn(ctx);
        d = next;
    }
    if (!p->first && !uv_is_closing((uv_handle_t *)h))
        uv_idle_stop(h);
}

int loop_init(struct loop *l)
{
    *l = (struct loop){0};
    struct loop_priv *p = calloc(1, sizeof *p);
    if (!p)
        return -1;
    if (uv_loop_init(&l->uv)) {
        free(p);
        return -1;
    }
    p->last = &p->first;
    uv_idle_init(&l->uv, &p->idle);
    uv_timer_init(&l->uv, &p->limit);
    p->idle.data = p->limit.data = p;
    l->priv = p;
    return 0;
}

void loop_run(struct loop *l)
{
    /* Without a handle that could still call, nobody is left who might stop the loop. */
    while (!l->stopping && uv_run(&l->uv, UV_RUN_DEFAULT)) {
    }
}

static void on_limit(uv_timer_t *h)
{
    struct loop_priv *p = h->data;
    p->over = true;
}

bool loop_run_until(struct loop *l, const bool *done, int64_t timeout_ms)
{
    struct loop_priv *p = l->priv;
    p->over = false;
    uv_update_time(&l->uv);
    /* Again and again: libuv looks at timers before it waits, and would wait for ever after the only one. */
    uv_timer_start(&p->limit, on_limit, timeout_ms > 0 ? (uint64_t)timeout_ms : 0, 1);
    while (!*done && !p->over)
        uv_run(&l->uv, UV_RUN_ONCE);
    uv_timer_stop(&p->limit);
    return *done;
}

void loop_stop(struct loop *l)
{
    l->stopping = true;
    uv_stop(&l->uv);
}

static void close_handle(uv_handle_t *h, void *ctx)
{
    (void)ctx;
    if (!uv_is_closing(h))
        uv_close(h, NULL);
}

void loop_done(struct loop *l)
{
    struct loop_priv *p = l->priv;
    if (!p)
        return;
    /* Callbacks of the closing may open handles again, and work on libuv's threads must end first. */
    do {
        uv_walk(&l->uv, close_handle, NULL);
        uv_run(&l->uv, UV_RUN_DEFAULT);
    } while (uv_loop_close(&l->uv) == UV_EBUSY);
    while (p->first) {
        struct deferred *d = p->first;
        p->first = d->next;
        free(d);
    }
    free(p);
    l->priv = NULL;
}

static void on_timer(uv_timer_t *h)
{
    struct loop_timer *t = h->data;
    t->cb(t->ctx);
}

void loop_timer_init(struct loop *l, struct loop_timer *t, loop_cb cb, void *ctx)
{
    *t = (struct loop_timer){.cb = cb, .ctx = ctx};
    uv_timer_init(&l->uv, &t->uv);
    t->uv.data = t;
}

void loop_timer_start(struct loop_timer *t, int64_t after_ms, int64_t repeat_ms)
{
    if (uv_is_closing((uv_handle_t *)&t->uv))
        return;
    /* libuv counts from the start of the present turn: after a long callback the timer would fire too early. */
    uv_update_time(t->uv.loop);
    uv_timer_start(&t->uv, on_timer, after_ms > 0 ? (uint64_t)after_ms : 0, repeat_ms > 0 ? (uint64_t)repeat_ms : 0);
}

void loop_timer_stop(struct loop_timer *t)
{
    uv_timer_stop(&t->uv);
}

bool loop_timer_active(const struct loop_timer *t)
{
    return uv_is_active((const uv_handle_t *)&t->uv);
}

static void on_timer_closed(uv_handle_t *h)
{
    struct loop_timer *t = h->data;
    if (t->closed)
        t->closed(t->ctx);
}

void loop_timer_close(struct loop_timer *t, loop_cb closed)
{
    assert(!uv_is_closing((uv_handle_t *)&t->uv) && "a timer is closed once");
    t->closed = closed;
    uv_close((uv_handle_t *)&t->uv, on_timer_closed);
}

void loop_defer(struct loop *l, loop_cb fn, void *ctx)
{
    struct loop_priv *p = l->priv;
    struct deferred *d = malloc(sizeof *d);
    assert(d && "out of memory for a few words");
    *d = (struct deferred){.fn = fn, .ctx = ctx};
    *p->last = d;
    p->last = &d->next;
    if (!uv_is_closing((uv_handle_t *)&p->idle))
        uv_idle_start(&p->idle, on_idle);
}
