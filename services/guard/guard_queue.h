/* guard_queue.h - what the queue's files share. Private to guard_queue*.c.
 *
 * The queue itself is the stream; memory holds one record per agent that has something in it, never its actions. */
#ifndef REDOUBT_GUARD_QUEUE_H
#define REDOUBT_GUARD_QUEUE_H

#include "guard/guard_replay.h"
#include "guard/guard_shell.h"
#include <utlist.h>

#define GUARD_QUEUE_ANSWER_MS 3000 /* JetStream's, to one question */

struct guard_op;
struct guard_put;
/* What callbacks of others hold of the queue: it outlives it. */
struct guard_tie {
    struct guard_queue *q; /* NULL: closed */
    unsigned holders;
};
/* An agent with actions that wait. */
struct guard_waiter {
    char name[NAME_MAX_LEN + 1];
    struct guard_queue *q;
    unsigned partition;
    struct guard_replay r;
    struct guard_op *op; /* what is under way for it; NULL = nothing */
    enum { GUARD_UNLISTED, GUARD_TO_RUN, GUARD_TO_LOOK } list;
    struct guard_waiter *prev, *next;
    uint64_t unsaved;                 /* durable here, or on the way to be, and not in the stream yet */
    uint64_t fresh[GUARD_PRIORITIES]; /* of the count under way */
    uint64_t counted;                 /* the last count that found it */
    uint64_t want_count; /* nothing is run before this one has ended: others may have put what is to be first */
    bool passed;         /* its position let actions pass when it was looked at last */
    uint64_t released_epoch;
    enum { GUARD_RELEASE_UNKNOWN, GUARD_RELEASE_ASKED, GUARD_RELEASE_KNOWN } release;
    int64_t release_asked_ms;
    unsigned alerted; /* 1 << enum guard_left: people were told */
    UT_hash_handle hh;
};

/* Called when a count that began after the asking has ended. */
typedef void (*guard_counted)(void *ctx, bool ok);
struct guard_count_wish {
    guard_counted fn;
    void *ctx;
    struct guard_count_wish *next;
};

struct guard_queue {
    struct guard *g;
    struct guard_tie *tie;
    struct guard_waiter *waiters;
    struct guard_waiter *to_run, *to_look; /* in order of their turn */
    size_t n_ops;                          /* under way */
    struct guard_pace pace;
    struct loop_timer wake; /* the next one that is due by time, or by the pace */
    int64_t wake_ms;        /* INT64_MAX = not armed */
    /* counting */
    bool counting, count_again;
    uint64_t count, count_done; /* number of the count under way, or of the last one; of the last that ended well */
    int64_t next_count_ms;
    struct guard_count_wish *wishes, *wishes_next; /* of the count under way; of the one after it */
    struct bus_stock stock;
    /* putting */
    struct guard_put *puts; /* without an answer yet, in order of their limit */
    uint64_t unsaved, unsaved_bytes;
    struct loop_timer patience;
    int alert; /* percent at which people were told: 0, 70, 100 */
    struct log_limit said;
};

/* ---- guard_queue.c ---- */

struct guard_tie *guard_tie(struct guard_queue *q); /* one holder more */
/* One holder less; the queue, or NULL if it is closed. */
struct guard_queue *guard_untie(struct guard_tie *t);

struct guard_waiter *guard_waiter(struct guard_queue *q,
                                  const char *agent); /* made if need be; NULL = out of memory */
struct guard_waiter *guard_waiter_find(const struct guard_queue *q, const char *agent);
struct guard_replay_view guard_waiter_view(const struct guard_waiter *w);
struct guard_replay_rule guard_queue_rule(const struct guard_queue *q);
/* Counts at once, or once more after the count under way. fn may be NULL. */
void guard_queue_count(struct guard_queue *q, guard_counted fn, void *ctx);
/* Agent and priority of a queue subject; false if it is none. */
bool guard_queue_subject(const char *subject, char agent[static NAME_MAX_LEN + 1], unsigned *ret_priority);

/* ---- guard_queue_put.c ---- */

void guard_puts_open(struct guard_queue *q);
void guard_puts_close(struct guard_queue *q, loop_cb closed);
void guard_puts_counted(struct guard_queue *q); /* how full is it? */

/* ---- guard_queue_run.c ---- */

/* Its turn, if it is due; otherwise its moment is remembered. */
void guard_waiter_schedule(struct guard_waiter *w);
void guard_waiter_unlist(struct guard_waiter *w);
void guard_queue_pump(struct guard_queue *q);
void guard_queue_schedule_all(struct guard_queue *q);
/* Reads again up to which epoch its actions were released. */
void guard_waiter_ask_release(struct guard_waiter *w);
void guard_waiter_released(struct guard_waiter *w, uint64_t epoch);
void guard_waiter_settle(struct guard_waiter *w); /* its queue is empty: open alerts are resolved */

#endif
