/* alert_run.h - one message on its way through a channel, a group or a route's channels, until it is told or all have failed.
 *
 * A failover group is told by the first member that accepts; a fanout group tells all members, and is told when one has accepted: what the
 * others owe then is named by itself. Each attempt has its receipt; each channel its tries and its deadline. */
#ifndef REDOUBT_ALERT_RUN_H
#define REDOUBT_ALERT_RUN_H

#include "alert/alert_message.h"
#include "alert/alert_route.h"
#include "common/conf.h"
#include "common/loop.h"
#include "common/subjects.h"

#define ALERT_OWED_MAX ALERT_LEAVES_MAX

struct alert_room;
struct alert_road;
struct alert_run;

struct alert_run_end {
    bool known;                       /* false: the settings have no such node any more */
    bool told;                        /* at least one channel has accepted */
    bool recorded;                    /* at least one file has it */
    const char *channel;              /* the first that has accepted; "" */
    const char *owed[ALERT_OWED_MAX]; /* nodes that have not been told: the whole node if nobody was */
    size_t n_owed;
    const char
        *over[ALERT_WAYS_MAX]; /* opts.put_by: channels that take no more now: to be put by as OVERFLOW of each */
    size_t n_over;
};
/* Called once, on the loop, never from inside alert_run_start(); receipts and audit records are safe by then. */
typedef void (*alert_run_cb)(void *ctx, const struct alert_run_end *end);
struct alert_run_opts {
    const char *node;                    /* a channel, a group, or route-<name> */
    const struct alert_message *message; /* the asker's: valid until `end` or alert_run_drop() */
    bool critical;                       /* shorter deadlines, first in the queues */
    bool record;                         /* files of the node are written, too; before anybody is told */
    const char *left_out;                /* a channel that is not tried: the message is about it; may be NULL */

    struct alert_road *road; /* instead of node: several nodes at once (alert_room.h) */
    bool silent;             /* files are all */
    bool
        put_by; /* a channel that takes no more now is named in `over`, and nobody else tried for it; not if critical */
    const char *put_by_at; /* put_by: a channel that is named in `over` without being asked; may be NULL */
    alert_run_cb
        through; /* called before `end`, when its last attempt is over: receipts may still be on their way; may be NULL */
};
struct alert_run *alert_run_start(struct alert_room *r, const struct alert_run_opts *o, alert_run_cb cb, void *ctx);
/* An attempt under way is its last; `cb` is called all the same, and nothing is owed. */
void alert_run_cancel(struct alert_run *x);
/* Nobody waits for it any more: cb is not called. NULL is fine. */
void alert_run_drop(struct alert_run *x);

/* Tells people of an alert once more, apart from its coming: by `node`, or by its routes if that is NULL (or not known any more). What is owed
 * then is put by (alert_parcels.h). `id` names this telling ([A-Za-z0-9_-], 1 to 64): the same again is told once. `done` is called once, on
 * the loop: 0 = told, or put by durably; -1 = neither, or closing. The alert is copied. */
void alert_tell(struct alert_room *r, const PB(Alert) * a, const char *node, const char *id, const char *note,
                void (*done)(void *ctx, int status), void *ctx);

#endif
