/* bus_link.h - one connection of nats.c with its hand-over queue. Private to the bus.
 *
 * The library holds its connection's lock while it tries to reconnect, for as long as a connect may take. So the loop thread
 * calls the library only while connected; connecting and closing run on libuv's worker threads. */
#ifndef REDOUBT_BUS_LINK_H
#define REDOUBT_BUS_LINK_H

#include "common/bus.h"
#include <nats/nats.h>

struct bus_link;
struct bus_feed;

struct bus_link_events {
    void (*up)(void *ctx);
    void (*down)(void *ctx);
    void (*turn)(void *ctx);                  /* messages were handled: no more of them before the loop has turned */
    void (*dead)(void *ctx, const char *why); /* it will not come back by itself: close it, open another */
    void (*error)(void *ctx, const char *what);
};
/* NULL on wrong options. */
struct bus_link *bus_link_open(struct loop *l, const struct bus_opts *o, const struct bus_link_events *ev, void *ctx,
                               struct err *e);
bool bus_link_up(const struct bus_link *k);
int64_t bus_link_max_payload(const struct bus_link *k); /* of the server; 0 = not known yet */
/* Closes on a worker thread, after waiting flush_ms at most for what was published. No event, no message comes after this
 * call; closed(ctx) is the last. */
void bus_link_close(struct bus_link *k, int64_t flush_ms, loop_cb closed, void *ctx);
void bus_link_forget(struct bus_link *k); /* closed() will not be called */

/* A subscription. fn returns true if it keeps m (and frees it later). Only while up. NULL if the library says no. */
typedef bool (*bus_feed_fn)(void *ctx, natsMsg *m);
struct bus_feed *bus_link_subscribe(struct bus_link *k, const char *subject, const char *queue, bus_feed_fn fn,
                                    void *ctx);
/* The owner lets go. What is queued already goes to `rest` (NULL = dropped). */
void bus_feed_end(struct bus_feed *f, bus_feed_fn rest, void *ctx);

/* Only while up. 0; -1 = not sent because the connection is gone, try again after the next up; -2 = refused, text in *e. */
int bus_link_publish(struct bus_link *k, const char *subject, const char *reply, const void *data, size_t len,
                     struct err *e);
int bus_link_publish_msg(struct bus_link *k, natsMsg *m, struct err *e); /* m stays the caller's */
/* Takes a message that is needed no more, published or received; it is destroyed soon. */
void bus_link_release(struct bus_link *k, natsMsg *m);

#endif
