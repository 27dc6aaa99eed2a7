/* bus_queue.c - a bounded queue from the library's threads to the loop. */
#include "common/bus_queue.h"
#include "common/metric.h"
#include <assert.h>
#include <stdlib.h>

#define SMALL 256 /* what is kept when idle */

METRIC_DEFINE(waits, METRIC_COUNTER, "redoubt_bus_queue_waits_total",
              "Times that the delivery thread waited because the loop had too many messages in hand.");

int bus_queue_init(struct bus_queue *q, uv_async_t *wake, size_t max)
{
    *q = (struct bus_queue){.wake = wake, .max = max};
    if (uv_mutex_init(&q->mu))
        return -1;
    if (uv_cond_init(&q->room)) {
        uv_mutex_destroy(&q->mu);
        return -1;
    }
    return 0;
}

void bus_queue_done(struct bus_queue *q)
{
    assert(q->n_in == 0 && q->next_out == q->n_out && "somebody is still being served");
    free(q->in);
    free(q->out);
    uv_cond_destroy(&q->room);
    uv_mutex_destroy(&q->mu);
}

static void append(struct bus_queue *q, struct bus_item i)
{
    if (q->n_in == q->cap_in) {
        size_t cap = q->cap_in ? q->cap_in * 2 : SMALL;
        struct bus_item *grown = realloc(q->in, cap * sizeof *grown);
        assert(grown && "out of memory for messages in hand");
        q->in = grown;
        q->cap_in = cap;
    }
    q->in[q->n_in++] = i;
    /* The loop empties the queue whole: only the first item must wake it. */
    if (q->n_in == 1 && q->wake)
        uv_async_send(q->wake);
}

bool bus_queue_push(struct bus_queue *q, struct bus_item i)
{
    uv_mutex_lock(&q->mu);
    if (!q->closing && q->n_in + q->in_hand >= q->max)
        metric_add(&waits, 1);
    while (!q->closing && q->n_in + q->in_hand >= q->max)
        uv_cond_wait(&q->room, &q->mu);
    bool ok = !q->closing;
    if (ok)
        append(q, i);
    uv_mutex_unlock(&q->mu);
    return ok;
}

void bus_queue_push_always(struct bus_queue *q, struct bus_item i)
{
    uv_mutex_lock(&q->mu);
    append(q, i);
    uv_mutex_unlock(&q->mu);
}

bool bus_queue_next(struct bus_queue *q, struct bus_item *ret)
{
    if (q->next_out == q->n_out) {
        struct bus_item *was = q->out;
        size_t cap = q->cap_out;
        if (cap > 16 * SMALL) { /* a burst is over */
            free(was);
            was = NULL;
            cap = 0;
        }
        uv_mutex_lock(&q->mu);
        q->out = q->in;
        q->n_out = q->n_in;
        q->cap_out = q->cap_in;
        q->in = was;
        q->cap_in = cap;
        q->in_hand += q->n_in;
        q->n_in = 0;
        uv_mutex_unlock(&q->mu);
        q->next_out = 0;
        if (q->n_out == 0)
            return false;
    }
    *ret = q->out[q->next_out++];
    return true;
}

void bus_queue_release(struct bus_queue *q, size_t n)
{
    if (n == 0)
        return;
    uv_mutex_lock(&q->mu);
    assert(q->in_hand >= n);
    q->in_hand -= n;
    uv_cond_broadcast(&q->room);
    uv_mutex_unlock(&q->mu);
}

void bus_queue_close(struct bus_queue *q)
{
    uv_mutex_lock(&q->mu);
    q->closing = true;
    uv_cond_broadcast(&q->room);
    uv_mutex_unlock(&q->mu);
}
