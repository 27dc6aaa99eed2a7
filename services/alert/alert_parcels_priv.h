/* alert_parcels_priv.h - what the files of the parcels share. Private to alert_parcels*.c. */
#ifndef REDOUBT_ALERT_PARCELS_PRIV_H
#define REDOUBT_ALERT_PARCELS_PRIV_H

#include "alert/alert_parcels.h"
#include "alert/alert_room.h"

/* How a message is sent on its way: alert_run.h; tests have ways of their own. */
struct alert_parcels_ways {
    struct alert_run *(*start)(struct alert_room *r, const struct alert_run_opts *o, alert_run_cb cb, void *ctx);
    void (*drop)(struct alert_run *x);
};
struct alert_parcels *alert_parcels_make(struct alert_room *r, const struct alert_parcels_ways *ways);

struct alert_parcels {
    struct alert_room *room; /* NULL once closed */
    struct loop *loop;
    struct alert_parcels_ways ways;
    struct loop_timer timer;
    int refs; /* answers still to come, and one for the timer */
    struct log_limit refused;
    uint64_t waiting[ALERT_PARCEL_REASONS];
};
void alert_parcels_unref(struct alert_parcels *p);

#endif
