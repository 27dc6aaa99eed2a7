/* audit_mirror.c - the thread that keeps the trail's copy in a second directory, and what the loop sees of it. */
#include "audit/audit_mirror.h"
#include "audit/audit_mirror_impl.h"
#include "common/clock.h"
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define RETRY_MS      1000
#define RETRY_TIMES   30
#define CLOSE_LOOK_MS 10
#define CLOSE_MS      2000

struct audit_mirror {
    struct loop *loop;
    struct mirror_work work; /* the thread's own */
    int64_t retry_ms;
    uv_thread_t thread;
    uv_mutex_t lock;
    uv_cond_t wake;
    /* Under the lock: */
    struct mirror_goal goal;
    bool woken, stopping, ended, deaf; /* deaf: the loop's handle is gone */
    struct audit_mirror_status status;
    /* The loop's own: */
    uv_async_t async;
    struct loop_timer look;
    int64_t close_until_ms;
    struct {
        uint64_t size;
        int64_t at_ms;
    } mark; /* a place that the copy has not reached yet, and since when the trail has */
    void (*on_change)(void *ctx);
    void *ctx;
    loop_cb closed;
    void *closed_ctx;
    int to_close;
};

/* ---- the thread ---- */

/* With the lock held. */
static void publish(struct audit_mirror *m, int rc, const struct err *e)
{
    struct audit_mirror_status *s = &m->status;
    struct mirror_work *w = &m->work;
    s->state = rc == 0 ? AUDIT_MIRROR_FOLLOWS : w->source_fault ? AUDIT_MIRROR_SOURCE : AUDIT_MIRROR_AWAY;
    snprintf(s->why, sizeof s->why, "%s", rc == 0 ? "" : e->text);
    if (w->ready) {
        s->size = w->synced;
        s->signed_to = w->signed_to;
        snprintf(s->dir, sizeof s->dir, "%s", w->copy.dir);
    }
    if (s->differing != w->differing) {
        s->differing = w->differing;
        snprintf(s->differs, sizeof s->differs, "%s", w->differs);
    }
    if (!m->deaf)
        uv_async_send(&m->async);
}

static void run(void *arg)
{
    struct audit_mirror *m = arg;
    int64_t wait_ms = 0; /* 0 = until woken */
    uv_mutex_lock(&m->lock);
    for (;;) {
        /* After an error the wait is a wait, however much is new; only the end cuts it short. */
        for (int64_t until_ms = clock_mono_ms() + wait_ms, now_ms;
             wait_ms > 0 && !m->stopping && (now_ms = clock_mono_ms()) < until_ms;)
            (void)uv_cond_timedwait(&m->wake, &m->lock, (uint64_t)(until_ms - now_ms) * 1000000);
        while (wait_ms == 0 && !m->stopping && !m->woken)
            uv_cond_wait(&m->wake, &m->lock);
        if (m->stopping && (!m->woken || wait_ms > 0)) /* the trail's last words are taken along */
            break;
        m->woken = false;
        struct mirror_goal goal = m->goal;
        uv_mutex_unlock(&m->lock);
        struct err e = {""};
        int rc = mirror_work(&m->work, &goal, &e);
        if (rc == 0)
            wait_ms = 0;
        else
            wait_ms = wait_ms == 0 ? m->retry_ms : wait_ms * 2;
        if (wait_ms > RETRY_TIMES * m->retry_ms)
            wait_ms = RETRY_TIMES * m->retry_ms;
        uv_mutex_lock(&m->lock);
        publish(m, rc, &e);
    }
    mirror_work_end(&m->work);
    m->ended = true;
    if (!m->deaf)
        uv_async_send(&m->async);
    uv_mutex_unlock(&m->lock);
}

/* ---- the loop ---- */

static void free_mirror(struct audit_mirror *m)
{
    uv_mutex_destroy(&m->lock);
    uv_cond_destroy(&m->wake);
    free(m);
}

static void one_closed(struct audit_mirror *m)
{
    if (--m->to_close > 0)
        return;
    loop_cb closed = m->closed;
    void *ctx = m->closed_ctx;
    uv_mutex_lock(&m->lock);
    bool ended = m->ended;
    uv_mutex_unlock(&m->lock);
    /* A thread that hangs in its disk still has the memory. */
    if (ended) {
        uv_thread_join(&m->thread);
        free_mirror(m);
    }
    closed(ctx);
}

static void async_closed(uv_handle_t *h)
{
    one_closed(h->data);
}

static void look_closed(void *ctx)
{
    one_closed(ctx);
}

static void let_go(struct audit_mirror *m)
{
    m->to_close = 2;
    uv_mutex_lock(&m->lock);
    m->deaf = true;
    uv_mutex_unlock(&m->lock);
    uv_close((uv_handle_t *)&m->async, async_closed);
    loop_timer_close(&m->look, look_closed);
}

static void on_look(void *ctx)
{
    struct audit_mirror *m = ctx;
    uv_mutex_lock(&m->lock);
    bool ended = m->ended;
    uv_mutex_unlock(&m->lock);
    if (m->to_close == 0 && (ended || clock_mono_ms() >= m->close_until_ms))
        let_go(m);
}

static void on_async(uv_async_t *h)
{
    struct audit_mirror *m = h->data;
    if (!m->closed && m->on_change)
        m->on_change(m->ctx);
}

struct audit_mirror *audit_mirror_open(struct loop *l, const struct audit_mirror_opts *o, struct err *e)
{
    struct audit_mirror *m = calloc(1, sizeof *m);
    if (!m || uv_mutex_init(&m->lock)) {
        free(m);
        err_set(e, "out of memory");
        return NULL;
    }
    if (uv_cond_init(&m->wake)) {
        uv_mutex_destroy(&m->lock);
        free(m);
        err_set(e, "out of memory");
        return NULL;
    }
    m->loop = l;
    m->retry_ms = o->retry_ms ? o->retry_ms : RETRY_MS;
    m->on_change = o->on_change;
    m->ctx = o->ctx;
    mirror_work_begin(&m->work, o);
    if (uv_thread_create(&m->thread, run, m)) {
        free_mirror(m);
        err_set(e, "no thread for the mirror");
        return NULL;
    }
    int rc = uv_async_init(&l->uv, &m->async, on_async);
    assert(rc == 0 && "uv_async_init fails only without descriptors");
    (void)rc;
    m->async.data = m;
    loop_timer_init(l, &m->look, on_look, m);
    return m;
}

void audit_mirror_goal(struct audit_mirror *m, const struct audit_log_status *st)
{
    uv_mutex_lock(&m->lock);
    struct mirror_goal *g = &m->goal;
    memcpy(g->chain, st->chain, sizeof g->chain);
    g->segment_first = st->segment_first;
    g->segment_bytes = st->segment_bytes;
    g->size = st->size;
    if (st->note_len > 0 && st->note_len <= sizeof g->note) {
        memcpy(g->note, st->note, st->note_len);
        g->note_len = st->note_len;
        g->note_size = st->checkpoint_size;
    }
    m->woken = true;
    if (m->mark.size == 0 || m->status.size >= m->mark.size) {
        m->mark.size = g->size;
        m->mark.at_ms = clock_mono_ms();
    }
    uv_cond_signal(&m->wake);
    uv_mutex_unlock(&m->lock);
}

void audit_mirror_status(struct audit_mirror *m, struct audit_mirror_status *ret)
{
    uv_mutex_lock(&m->lock);
    *ret = m->status;
    if (m->status.size < m->mark.size) {
        ret->behind_ms = clock_mono_ms() - m->mark.at_ms;
    } else if (m->status.size < m->goal.size) {
        m->mark.size = m->goal.size;
        m->mark.at_ms = clock_mono_ms();
    }
    uv_mutex_unlock(&m->lock);
}

void audit_mirror_close(struct audit_mirror *m, loop_cb done, void *ctx)
{
    m->closed = done;
    m->closed_ctx = ctx;
    m->close_until_ms = clock_mono_ms() + CLOSE_MS;
    uv_mutex_lock(&m->lock);
    m->stopping = true;
    uv_cond_signal(&m->wake);
    uv_mutex_unlock(&m->lock);
    loop_timer_start(&m->look, 0, CLOSE_LOOK_MS);
}
