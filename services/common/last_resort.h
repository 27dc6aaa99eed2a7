/* last_resort.h - where an alert goes that cannot be handed to the alert service: a file of the replica's own, and one webhook.
 *
 * Never in anybody's way: the file is written on libuv's threads, the webhook is called by an HTTP handle of its own, what waits is bounded, and
 * what is beyond that is counted and said. A webhook is tried 3 times; whatever it answers, the alert goes its normal way as well. */
#ifndef REDOUBT_LAST_RESORT_H
#define REDOUBT_LAST_RESORT_H

#include "common/loop.h"
#include <stddef.h>

#define LAST_RESORT_FILE      "last-resort.jsonl" /* in the replica's directory; full, it becomes last-resort.jsonl.1 */
#define LAST_RESORT_FILE_MAX  (16 << 20)
#define LAST_RESORT_TRIES     3
#define LAST_RESORT_POSTS_MAX 256 /* that wait or are under way */

struct last_resort;
/* dir is the replica's own directory. NULL if memory is out. */
struct last_resort *last_resort_open(struct loop *l, const char *dir);

struct last_resort_alert {
    const char *id;    /* the alert's: its key for whoever may get it twice */
    const char *alert; /* as JSON, in one line */
    const char *service, *instance;
    const char *why;          /* why it goes this way */
    const char *url, *secret; /* of the settings; "" = none */
};
/* Everything is copied. */
void last_resort_tell(struct last_resort *x, const struct last_resort_alert *a);
/* Waits up to timeout_ms for calls, and for the file as long as it takes; then done (may be NULL). NULL is fine. */
void last_resort_close(struct last_resort *x, int64_t timeout_ms, loop_cb done, void *ctx);

#endif
