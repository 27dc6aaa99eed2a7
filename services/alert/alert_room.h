/* alert_room.h - what the shell's files share: the alerts in hand, the channels, the memory. Private to services/alert. */
#ifndef REDOUBT_ALERT_ROOM_H
#define REDOUBT_ALERT_ROOM_H

#include "alert/alert.h"
#include "alert/alert_channel.h"
#include "alert/alert_lead.h"
#include "alert/alert_parcels.h"
#include "alert/alert_pulse.h"
#include "alert/alert_route.h"
#include "alert/alert_run.h"
#include "alert/alert_state.h"
#include "common/service.h"
#include <uthash.h>

#define ALERT_IN_HAND_MAX  1000
#define ALERT_CHANNEL_KEY  "channel/" /* dedup_key of a channel's own alerts: + its name */
#define ALERT_NOTE_MAX     160
#define ALERT_DURABLE_NAME "redoubt-alert"

/* What a name of the settings, or several together, stands for. Made once, kept until the settings change, shared. */
struct alert_road {
    int refs;
    char *key;
    struct alert_plan plan;
    struct alert_channel *ways[ALERT_WAYS_MAX];
    char **names; /* of the tree's nodes; "" of one that only holds several together */
    UT_hash_handle hh;
};
/* alert_road.c; with a reference for the caller. NULL: there is no such node, or memory is out. */
struct alert_road *alert_road_of(struct alert_room *r, const char *const *nodes, size_t n);
/* The files of these routes, each once, and nobody to be told. */
struct alert_road *alert_road_files(struct alert_room *r, uint64_t routes);
void alert_road_unref(struct alert_road *x); /* NULL is fine */
void alert_roads_forget(struct alert_room *r);

struct alert_item; /* alert_item.c: one alert in hand, from its coming until it is acknowledged */
struct alert_line; /* ... those of one problem */
struct alert_word; /* alert_tell.c: alert_tell() in hand */
struct alert_late; /* alert_tell.c: a beginning that waits in a parcel */
struct alert_trail;

struct alert_room {
    struct service *service;
    struct bus_consumer *consumer;
    struct alert_channel *all;
    struct alert_channel **channels; /* of the present settings */
    size_t n_channels;
    struct alert_routes *routes; /* alert_route.h; of the present settings */
    unsigned settings_no;        /* grows with each reload */
    struct alert_road *roads;    /* by key */
    struct alert_item *items;    /* by id */
    struct alert_line *lines;    /* by dedup_key */
    struct alert_run *waiting_runs;
    int64_t next_wake_ms; /* of those; INT64_MAX = none */
    struct alert_word *words;
    struct alert_late *lates;
    struct alert_memory *memory;
    struct alert_lead *lead;       /* alert_lead.h */
    struct alert_parcels *parcels; /* alert_parcels.h */
    struct alert_pulse *pulse;     /* alert_pulse.h */
    struct alert_trail *trail;     /* alert_trail.c */
    int sayings;                   /* receipts and audit records on their way */
    struct loop_timer wake, begin;
    bool settling; /* a look at everything is put off already */
    bool back;     /* ... and a channel works again */
    bool closing;
    int refs; /* callbacks still to come; and one for the service */
};

static inline void alert_room_ref(struct alert_room *r)
{
    r->refs++;
}
void alert_room_unref(struct alert_room *r);
/* Looks, later in this turn of the loop, at what is due: timers, queues, drain. */
void alert_room_settle(struct alert_room *r);
struct alert_channel *alert_room_channel(const struct alert_room *r, const char *name); /* NULL if none */
/* Feeds a channel's circuit with how a delivery ended there, and says what follows from it. */
void alert_room_told(struct alert_room *r, struct alert_channel *c, enum alert_class class,
                     const struct alert_result *why);

/* alert_run.c: wakes those whose time has come; returns when to look again. */
int64_t alert_runs_wake(struct alert_room *r, int64_t now_ms);

/* alert_say.c: receipts, with audit records where they are of a final step. */
struct alert_said {
    loop_cb done; /* called once for each of them, when it is safe; may be NULL */
    void *ctx;
    int *count; /* how many times that will be: each adds one before it is said; may be NULL */
};
void alert_say_message(struct alert_room *r, const struct alert_message *m, const struct alert_channel *c,
                       enum alert_status status, int attempt, const struct alert_result *result,
                       const struct alert_said *then);
/* Of one alert; `then` may be NULL. */
void alert_say_receipt(struct alert_room *r, const PB(Alert) * a, const struct alert_channel *c,
                       enum alert_status status, int attempt, const struct alert_result *result,
                       const struct alert_said *then);
/* An alert about the channel itself; or that it works again. */
void alert_say_channel(struct alert_room *r, const struct alert_channel *c, bool broken, const char *why);

/* alert_trail.c */
struct alert_trail *alert_trail_open(struct alert_room *r); /* NULL if memory is out */
/* One record; `done` (may be NULL) is called when it is safe. It is copied. */
void alert_trail_add(struct alert_room *r, const PB(AuditRecord) * record, loop_cb done, void *ctx);
void alert_trail_close(struct alert_trail *t); /* writes out what is left; NULL is fine */

/* alert_tell.c: an alert to all who are to hear it, by all its routes or by a node: at once, or put by as a parcel. */
struct alert_telling;
struct alert_telling_opts {
    const PB(Alert) * alert;             /* this and the next: the asker's, valid until the end */
    const struct alert_message *message; /* of that alert */
    const char *node;                    /* NULL = by its routes */
    uint64_t routes;                     /* of the present settings */
    const char *put_id;                  /* of parcels; NULL = the alert's */
    bool alone;                          /* not in groups */
};
struct alert_telling_end {
    bool told;           /* somebody has accepted it */
    const char *channel; /* who, "" */
    bool put;            /* it waits in parcels */
    bool lost;           /* it could not be put by: it must come again */
};
typedef void (*alert_telling_cb)(void *ctx, const struct alert_telling_end *end);
/* cb comes once, never from inside, when all are told, or it is put by durably. */
struct alert_telling *alert_telling_start(struct alert_room *r, const struct alert_telling_opts *o,
                                          alert_telling_cb cb, void *ctx);
void alert_telling_cancel(struct alert_telling *x);
void alert_telling_drop(struct alert_telling *x); /* NULL is fine */
void alert_tells_drop(struct alert_room *r);      /* all that alert_tell() has begun: their `done` gets -1 */
void alert_lates_free(struct alert_room *r);

/* alert_item.c */
/* Takes the alert. `again`: the stream has given it out before. */
void alert_item_new(struct alert_room *r, PB(Alert) * a, bool again, struct bus_hold *h);
size_t alert_items_in_hand(const struct alert_room *r);
void alert_items_give_back(struct alert_room *r); /* all, to the stream */

/* alert_cmd.c */
void alert_on_test(struct service *s, const void *message, const struct bus_msg *m);
void alert_on_show(struct service *s, const void *message, const struct bus_msg *m);

/* alert_shell.c */
int alert_start(struct service *s, struct err *e);
void alert_on_bus_up(struct service *s);
void alert_on_store_up(struct service *s);
void alert_on_store_down(struct service *s);
void alert_on_reload(struct service *s, const struct settings *was);
void alert_drain(struct service *s);
void alert_stop(struct service *s);

#endif
