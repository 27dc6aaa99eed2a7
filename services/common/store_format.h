/* store_format.h - in which form the documents in Redis are kept: a later version that writes what this one would misread says so in a key.
 *
 * Of the streams, bus_migrate.h has the same. No such key means 1; who writes a later form sets it first. */
#ifndef REDOUBT_STORE_FORMAT_H
#define REDOUBT_STORE_FORMAT_H

#include "common/err.h"
#include <hiredis/hiredis.h>

#define STORE_FORMAT     1
#define STORE_FORMAT_KEY "redoubt:{suite}:format"

/* From the answer to GET: -1 with the reason if this version must leave alone what is there. */
int store_format_read(const redisReply *r, struct err *e);

#endif
