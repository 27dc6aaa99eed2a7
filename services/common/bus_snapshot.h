/* bus_snapshot.h - a stream as bytes, by JetStream's own snapshots: out of one server, and into another that has not got it.
 *
 * The bytes hold messages with their sequences, and consumers with what they have acknowledged. What they look like is the server's business.
 * All callbacks run on the loop, never from inside the call that asked for them. Drop what still runs before the bus is closed. */
#ifndef REDOUBT_BUS_SNAPSHOT_H
#define REDOUBT_BUS_SNAPSHOT_H

#include "common/bus.h"
#include <jansson.h>

struct bus_snapshot_end { /* valid only inside the callback */
    /* BUS_OK; BUS_REFUSED: the server said no, or the own side could not go on; BUS_TIMEOUT: it fell silent. */
    enum bus_status status;
    int err_code;                 /* the server's; 0 = none */
    const char *error;            /* "" with BUS_OK */
    const json_t *config, *state; /* of the stream; NULL unless BUS_OK */
    uint64_t bytes;
};
typedef void (*bus_snapshot_done)(void *ctx, const struct bus_snapshot_end *r);

/* Pieces come in order; -1 with a text ends it (done comes, BUS_REFUSED). The server waits for whoever is slow. silence_ms: the longest
 * time between two pieces. */
struct bus_snapshot;
typedef int (*bus_snapshot_piece)(void *ctx, const void *data, size_t len, struct err *e);
struct bus_snapshot *bus_snapshot(struct bus *b, const char *stream, int64_t silence_ms, bus_snapshot_piece piece,
                                  bus_snapshot_done done, void *ctx);
void bus_snapshot_drop(struct bus_snapshot *s); /* done does not come; NULL is fine */

/* The server must not have the stream. read gives the next bytes, up to size: how many, 0 = that was all, -1 with a text. finish_ms: for the
 * server to make the stream of them. Nothing is there if it fails before that. */
struct bus_restore;
typedef int64_t (*bus_restore_read)(void *ctx, void *buf, size_t size, struct err *e);
struct bus_restore *bus_restore(struct bus *b, const char *stream, const json_t *config, const json_t *state,
                                int64_t silence_ms, int64_t finish_ms, bus_restore_read read, bus_snapshot_done done,
                                void *ctx);
void bus_restore_drop(struct bus_restore *r); /* done does not come; NULL is fine */

#endif
