/* bus_queue.h - what the library's threads hand over to the loop. Private to the bus. */
#ifndef REDOUBT_BUS_QUEUE_H
#define REDOUBT_BUS_QUEUE_H

#include <stdbool.h>
#include <stddef.h>
#include <uv.h>

struct bus_feed;

struct bus_item {
    enum {
        BUS_ITEM_MESSAGE,   /* msg for feed */
        BUS_ITEM_FEED_DONE, /* the library is done with feed: nothing comes for it any more */
        BUS_ITEM_UP,        /* connected */
        BUS_ITEM_DOWN,      /* connection lost */
        BUS_ITEM_CLOSED,    /* the library has given the connection up, or was told to */
        BUS_ITEM_ERROR,     /* code = natsStatus */
    } kind;
    int code;
    struct bus_feed *feed;
    void *msg;
};

struct bus_queue {
    uv_mutex_t mu;
    uv_cond_t room;
    uv_async_t *wake;    /* NULL once the loop has left */
    struct bus_item *in; /* grows up to max, so that an idle process stays small */
    size_t n_in, cap_in;
    size_t in_hand; /* taken by the loop, not handled yet: counts against max too */
    size_t max;
    bool closing; /* messages are refused instead of waiting for room */
    /* loop thread only: */
    struct bus_item *out;
    size_t n_out, cap_out, next_out;
};
int bus_queue_init(struct bus_queue *q, uv_async_t *wake, size_t max);
void bus_queue_done(struct bus_queue *q); /* must be empty */
/* From any thread. Waits while the queue is full; false if it is closing. */
bool bus_queue_push(struct bus_queue *q, struct bus_item i);
/* From any thread: never waits, never refuses. For the few items that must arrive. */
void bus_queue_push_always(struct bus_queue *q, struct bus_item i);
/* Loop thread. False = empty. Each item got must be followed by a call of bus_queue_release() sooner or later. */
bool bus_queue_next(struct bus_queue *q, struct bus_item *ret);
void bus_queue_release(struct bus_queue *q, size_t n);
/* Wakes whoever waits for room, for ever. */
void bus_queue_close(struct bus_queue *q);

#endif
