/* bus_wait.c - deadlines of the bus in one heap on one timer, and replies by the last token of their inbox. */
#include "common/bus_priv.h"
#include "common/clock.h"
#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void arm(struct bus *b)
{
    struct bus_waits *q = &b->waits;
    if (q->n == 0 || q->heap[0]->due_ms >= q->armed_ms)
        return; /* an early turn of the timer costs less than moving it each time */
    q->armed_ms = q->heap[0]->due_ms;
    loop_timer_start(&q->timer, q->armed_ms - clock_mono_ms(), 0);
}

static void put(struct bus_waits *q, size_t i, struct bus_wait *w)
{
    q->heap[i] = w;
    w->slot = i + 1;
}

static void sift_up(struct bus_waits *q, size_t i)
{
    struct bus_wait *w = q->heap[i];
    for (; i > 0 && q->heap[(i - 1) / 2]->due_ms > w->due_ms; i = (i - 1) / 2)
        put(q, i, q->heap[(i - 1) / 2]);
    put(q, i, w);
}

static void sift_down(struct bus_waits *q, size_t i)
{
    struct bus_wait *w = q->heap[i];
    for (;;) {
        size_t child = 2 * i + 1;
        if (child >= q->n)
            break;
        if (child + 1 < q->n && q->heap[child + 1]->due_ms < q->heap[child]->due_ms)
            child++;
        if (q->heap[child]->due_ms >= w->due_ms)
            break;
        put(q, i, q->heap[child]);
        i = child;
    }
    put(q, i, w);
}

static void take_out(struct bus_waits *q, struct bus_wait *w)
{
    size_t i = w->slot - 1;
    struct bus_wait *last = q->heap[--q->n];
    w->slot = 0;
    if (last == w)
        return;
    put(q, i, last);
    sift_up(q, i);
    sift_down(q, last->slot - 1);
}

static void on_timer(void *ctx)
{
    struct bus *b = ctx;
    struct bus_waits *q = &b->waits;
    int64_t now = clock_mono_ms();
    q->armed_ms = BUS_NEVER;
    /* What becomes due from inside a call has its turn with the next timer: nobody can keep the loop here. */
    size_t turns = q->n;
    while (turns-- > 0 && q->n > 0 && q->heap[0]->due_ms <= now) {
        struct bus_wait *w = q->heap[0];
        take_out(q, w);
        w->on_due(w);
    }
    arm(b);
}

void bus_waits_init(struct bus *b)
{
    b->waits.armed_ms = BUS_NEVER;
    loop_timer_init(b->l, &b->waits.timer, on_timer, b);
}

void bus_wait_at(struct bus *b, struct bus_wait *w, int64_t due_ms)
{
    struct bus_waits *q = &b->waits;
    if (due_ms == BUS_NEVER) {
        if (w->slot)
            take_out(q, w);
        return;
    }
    w->due_ms = due_ms;
    if (w->slot) {
        sift_up(q, w->slot - 1);
        sift_down(q, w->slot - 1);
    } else {
        if (q->n == q->cap) {
            size_t cap = q->cap ? q->cap * 2 : 32;
            struct bus_wait **grown = realloc(q->heap, cap * sizeof(struct bus_wait *));
            assert(grown && "out of memory for deadlines");
            q->heap = grown;
            q->cap = cap;
        }
        q->heap[q->n] = w;
        sift_up(q, q->n++);
    }
    arm(b);
}

const char *bus_wait_inbox(struct bus *b, struct bus_wait *w, char buf[static BUS_INBOX_MAX])
{
    if (w->id == 0) {
        w->id = ++b->waits.last_id;
        HASH_ADD(hh, b->waits.by_id, id, sizeof w->id, w);
    }
    snprintf(buf, BUS_INBOX_MAX, "%s.%" PRIx64, b->inbox, w->id);
    return buf;
}

void bus_wait_end(struct bus *b, struct bus_wait *w)
{
    if (w->slot)
        take_out(&b->waits, w);
    if (w->id) {
        HASH_DEL(b->waits.by_id, w);
        w->id = 0;
    }
}

bool bus_wait_known(struct bus *b, uint64_t id)
{
    struct bus_wait *w;
    HASH_FIND(hh, b->waits.by_id, &id, sizeof id, w);
    return w != NULL;
}

bool bus_wait_dispatch(void *ctx, natsMsg *m)
{
    struct bus *b = ctx;
    const char *token = strrchr(natsMsg_GetSubject(m), '.');
    uint64_t id = token ? strtoull(token + 1, NULL, 16) : 0;
    struct bus_wait *w;
    HASH_FIND(hh, b->waits.by_id, &id, sizeof id, w);
    if (w) /* otherwise an answer that came too late */
        w->on_reply(w, m);
    return false;
}
