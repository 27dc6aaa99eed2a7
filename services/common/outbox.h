/* outbox.h - what must not be lost: appended to an fsynced local file, then published to its stream, kept for a while.
 *
 * Group commit: an append is synced at once when idle, and together with others while a sync is in flight. Published by
 * bus_store() in order of append. Kept OUTBOX_KEEP_MS after its acknowledgement, because nats-server 2.9 acknowledges before it
 * syncs; when a stream's last sequence has gone back, what was acknowledged beyond it is published again under the same id. */
#ifndef REDOUBT_OUTBOX_H
#define REDOUBT_OUTBOX_H

#include "common/bus.h"
#include "common/err.h"
#include "common/loop.h"
#include <stddef.h>
#include <stdint.h>

#define OUTBOX_KEEP_MS 150000

struct outbox;

struct outbox_opts {
    const char *dir;  /* the replica's own directory, locked by its owner (see replica.h); required */
    size_t max_bytes; /* 0 = 256 MiB; full = appends are refused */
    struct bus *bus;  /* may be NULL: nothing is published (tests) */
};
/* Reads what an earlier process left; damaged tails are cut off, said and counted. NULL on error. */
struct outbox *outbox_open(struct loop *l, const struct outbox_opts *o, struct err *e);

struct outbox_item {
    const char *subject;
    const char *id;   /* unique; message id on the bus */
    const char *type; /* ce-type */
    const void *data;
    size_t len;
};
/* status 0 = durable here; -1 = refused or disk failed (text). Called exactly once, on the loop, never from inside. cb may be NULL. */
typedef void (*outbox_cb)(void *ctx, int status, const char *error);
void outbox_append(struct outbox *b, const struct outbox_item *i, outbox_cb cb, void *ctx);
/* The same; once it is durable, stored(ctx) is called exactly once as well, after cb: 0 = its stream has acknowledged it, -1 = given up, or the
 * outbox closes before (it is published by whoever reads these files next). Not called for what never became durable. */
void outbox_append_stored(struct outbox *b, const struct outbox_item *i, outbox_cb cb, outbox_cb stored, void *ctx);
/* Items not yet acknowledged by their stream. */
size_t outbox_backlog(const struct outbox *b);
/* True if appends can be made durable now (last sync succeeded, not full). */
bool outbox_ok(const struct outbox *b);
/* Takes over the files of a replica that is gone; its items are published by b. 0 or -1. */
int outbox_adopt(struct outbox *b, const char *dead_dir, struct err *e);
/* Waits up to timeout_ms for the backlog, syncs, closes; done is called on the loop. */
void outbox_close(struct outbox *b, int64_t timeout_ms, loop_cb done, void *ctx);

#endif
