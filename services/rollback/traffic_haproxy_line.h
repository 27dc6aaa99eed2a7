/* traffic_haproxy_line.h - one question to HAProxy's runtime API: a connection, a line, everything that it answers. */
#ifndef REDOUBT_TRAFFIC_HAPROXY_LINE_H
#define REDOUBT_TRAFFIC_HAPROXY_LINE_H

#include "common/loop.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define TRAFFIC_LINE_MAX 4096 /* HAProxy's own limit is its buffer, 16 KiB */

/* error NULL: answer is whole, zero-terminated after len bytes. Otherwise what, where and what to do; lasting: it will not become better by itself. Valid only
 * inside. */
typedef void (*traffic_line_cb)(void *ctx, const char *answer, size_t len, const char *error, bool lasting);

struct traffic_line;
/* address: unix:///path or tcp://host:port. line: commands joined by `;`, without the end of line. The callback comes once, later. */
struct traffic_line *traffic_line_ask(struct loop *l, const char *address, const char *line, int64_t timeout_ms,
                                      traffic_line_cb cb, void *ctx);
void traffic_line_cancel(struct traffic_line *x); /* before its callback came: it does not come any more */

#endif
