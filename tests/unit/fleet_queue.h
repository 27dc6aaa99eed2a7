/* fleet_queue.h - virtual time for test_breaker_fleet.c: events in one list per millisecond, in the order in which they were made. */
#ifndef REDOUBT_TESTS_FLEET_QUEUE_H
#define REDOUBT_TESTS_FLEET_QUEUE_H

#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* What goes with an event; belongs to its sender's and receivers' count. */
struct parcel;

struct event {
    uint32_t next; /* index + 1; 0 = the last */
    uint8_t kind, who, flags, n;
    uint32_t life; /* of who; answers to an earlier one are void */
    uint32_t target;
    int64_t number;
    struct parcel *parcel;
};

struct queue {
    int64_t now_ms, end_ms; /* nothing happens at or after the end */
    struct {
        uint32_t first, last;
    } * slot;
    struct event *pool;
    uint32_t n_pool, cap_pool, spare;
    uint64_t done;
};

static inline void queue_init(struct queue *q, int64_t end_ms)
{
    *q = (struct queue){.end_ms = end_ms, .cap_pool = 4096};
    q->slot = calloc((size_t)end_ms, sizeof *q->slot);
    q->pool = malloc(q->cap_pool * sizeof *q->pool);
    if (!q->slot || !q->pool)
        abort();
}

static inline void queue_done(struct queue *q)
{
    free(q->slot);
    free(q->pool);
}

/* A new story with the same memory. */
static inline void queue_reset(struct queue *q)
{
    memset(q->slot, 0, (size_t)q->end_ms * sizeof *q->slot);
    q->now_ms = 0;
    q->n_pool = q->spare = 0;
}

/* False: it lies behind the end, so it never happens. An event never happens in the millisecond of its making. */
static inline bool queue_add(struct queue *q, int64_t delay_ms, const struct event *e)
{
    int64_t at_ms = q->now_ms + (delay_ms < 1 ? 1 : delay_ms);
    if (at_ms >= q->end_ms)
        return false;
    uint32_t i = q->spare;
    if (i) {
        q->spare = q->pool[i - 1].next;
    } else {
        if (q->n_pool == q->cap_pool) {
            q->cap_pool *= 2;
            q->pool = realloc(q->pool, q->cap_pool * sizeof *q->pool);
            if (!q->pool)
                abort();
        }
        i = ++q->n_pool;
    }
    q->pool[i - 1] = *e;
    q->pool[i - 1].next = 0;
    if (q->slot[at_ms].last)
        q->pool[q->slot[at_ms].last - 1].next = i;
    else
        q->slot[at_ms].first = i;
    q->slot[at_ms].last = i;
    return true;
}

/* The next event up to `until_ms`; false: none, and now is until. */
static inline bool queue_next(struct queue *q, int64_t until_ms, struct event *ret_e)
{
    if (until_ms >= q->end_ms)
        until_ms = q->end_ms - 1;
    for (; q->now_ms <= until_ms; q->now_ms++) {
        uint32_t i = q->slot[q->now_ms].first;
        if (!i)
            continue;
        *ret_e = q->pool[i - 1];
        if (!(q->slot[q->now_ms].first = ret_e->next))
            q->slot[q->now_ms].last = 0;
        q->pool[i - 1].next = q->spare;
        q->spare = i;
        q->done++;
        return true;
    }
    q->now_ms = until_ms;
    return false;
}

#endif
