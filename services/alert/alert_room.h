/* alert_room.h - what the shell's files share: the alerts in hand, the channels, the memory. Private to services/alert. */
#ifndef REDOUBT_ALERT_ROOM_H
#define REDOUBT_ALERT_ROOM_H

#include "alert/alert.h"
#include "alert/alert_channel.h"
#include "alert/alert_group.h"
#include "alert/alert_lead.h"
#include "alert/alert_parcels.h"
#include "alert/alert_pulse.h"
#include "alert/alert_run.h"
#include "alert/alert_state.h"
#include "common/service.h"
#include <uthash.h>

#define ALERT_IN_HAND_MAX  256
#define ALERT_CHANNEL_KEY  "channel/" /* dedup_key of a channel's own alerts: + its name */
#define ALERT_NOTE_MAX     160
#define ALERT_DURABLE_NAME "redoubt-alert"

/* One alert in hand: from its coming until it is acknowledged. */
struct alert_item {
    struct alert_room *room;
    PB(Alert) * alert;
    struct bus_hold **holds; /* more than one if the server has given it out again meanwhile */
    size_t n_holds;
    struct alert_delivery d;
    struct alert_plan plan;
    struct alert_channel *ways[ALERT_WAYS_MAX];
    struct alert_job *job; /* the attempt under way */
    bool decided;          /* d has begun */
    bool rouse;            /* a channel is back: to be tried again now */
    bool over;             /* nothing more will be done; waits for `unsaid` */
    int unsaid;            /* receipts and audit records not yet safe: acknowledged only after them */
    char note[ALERT_NOTE_MAX];
    const PB(Alert) * list[1];
    struct alert_message message;
    struct alert_item *prev, *next; /* in order of coming */
    UT_hash_handle hh;              /* by alert->id */
};

struct alert_room {
    struct service *service;
    struct bus_consumer *consumer;
    struct alert_channel *all;
    struct alert_channel **channels; /* of the present settings */
    size_t n_channels;
    struct alert_item *by_id;
    struct alert_item *first, *last;
    struct alert_memory *memory;
    struct alert_lead *lead;       /* alert_lead.h */
    struct alert_parcels *parcels; /* alert_parcels.h */
    struct alert_pulse *pulse;     /* alert_pulse.h */
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

/* alert_say.c: a receipt, with an audit record where it is one of a final step. `done` (may be NULL) is called when it is safe. */
void alert_say_receipt(struct alert_room *r, const PB(Alert) * a, const struct alert_channel *c,
                       enum alert_status status, int attempt, const struct alert_result *result, loop_cb done,
                       void *ctx);
/* An alert about the channel itself; or that it works again. */
void alert_say_channel(struct alert_room *r, const struct alert_channel *c, bool broken, const char *why);

/* alert_cmd.c */
void alert_on_test(struct service *s, const void *message, const struct bus_msg *m);
void alert_on_show(struct service *s, const void *message, const struct bus_msg *m);

/* alert_shell.c */
int alert_start(struct service *s, struct err *e);
void alert_on_store_up(struct service *s);
void alert_on_reload(struct service *s, const struct settings *was);
void alert_drain(struct service *s);
void alert_stop(struct service *s);

#endif
