/* store_uv.h - one Redis connection: a non-blocking hiredis context on a libuv loop. Private to the store.
 *
 * Why not hiredis' own async context: it ends the process on an answer that nobody asked for (an assert), frees itself
 * at times of its own choosing, and keeps its queue of callbacks where no deadline can see it. The plain context,
 * its reader and its formatter do all that is needed, and leave TLS (redisInitiateSSL, hiredis 1.0+) open. */
#ifndef REDOUBT_STORE_UV_H
#define REDOUBT_STORE_UV_H

#include "common/err.h"
#include "common/loop.h"
#include <hiredis/hiredis.h>
#include <stddef.h>

struct store_link;
/* None of them is called from inside a function below, except store_link_pull(). */
struct store_link_events {
    void (*connected)(void *ctx);
    /* The reply is freed after the call. The link may be closed inside. */
    void (*reply)(void *ctx, const redisReply *reply);
    /* The connection could not be made or is over; nothing else comes. The link must still be closed. */
    void (*lost)(void *ctx, const char *why);
    void (*closed)(void *ctx); /* the memory is gone; the last call of all */
};
/* Starts to connect to a numeric address. NULL with the text in *e. */
struct store_link *store_link_open(struct loop *l, const char *ip, int port, const struct store_link_events *ev,
                                   void *ctx, struct err *e);
/* Queues a formatted command; all that is queued in one turn of the loop leaves in one write. 0 or -1 (out of memory). */
int store_link_send(struct store_link *x, const char *cmd, size_t len);
/* Reads what has come already, without waiting: reply and lost may be called from inside. */
void store_link_pull(struct store_link *x);
/* Closes now; `closed` comes later. */
void store_link_close(struct store_link *x);

#endif
