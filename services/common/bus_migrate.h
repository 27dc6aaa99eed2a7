/* bus_migrate.h - what becomes of a stream or a durable consumer that is there already: of another version, or changed by an operator.
 *
 * Pure: JSON of the server in, JSON for the server out. What a version needs, it adds; what an operator has set beyond that stays; nothing is
 * ever deleted, and nothing that one version needs is taken away by another: both run side by side during an upgrade, so all changes go one way.
 *
 * `format` is the number of the form in which the suite keeps what it shares: streams, documents in Redis. It grows when a version writes what
 * the one before would misread. No mark means 1. */
#ifndef REDOUBT_BUS_MIGRATE_H
#define REDOUBT_BUS_MIGRATE_H

#include "common/bus.h"
#include "common/err.h"
#include <jansson.h>

#define BUS_FORMAT 1

/* Into `description`, where the server keeps it for us, before what others have written there. */
void bus_migrate_mark(json_t *config, int format);
/* -1 with the reason if this version must leave the stream alone: it is of a newer one, or no stream that takes messages. */
int bus_migrate_usable(const json_t *is, int format, struct err *e);
/* The configuration that the stream is updated to; NULL if it has all that the row needs. */
json_t *bus_migrate_stream(const struct bus_stream *row, int replicas, int format, const json_t *is);
/* What the server cannot change, and what it means; NULL if nothing. */
const char *bus_migrate_odd(const struct bus_stream *row, const json_t *is);

struct bus_migrate_wish {
    const char *deliver, *group, *filter;
    int64_t ack_wait_ms;
    int max_ack_pending;
};
/* The configuration that the consumer is updated to; NULL if it has all that is wished. */
json_t *bus_migrate_consumer(const struct bus_migrate_wish *w, const json_t *is);
/* The configuration of a new one. */
json_t *bus_migrate_new_consumer(const struct bus_migrate_wish *w, const char *durable);

#endif
