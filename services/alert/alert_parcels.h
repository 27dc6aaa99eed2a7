/* alert_parcels.h - alerts that wait to go out together: put by on stream PARCELS, read there when their time has come, told in one message.
 *
 * Subject `redoubt.v1.parcel.<reason>.<node>.<bucket>`; what is in one bucket goes out together. The replica that leads (alert_lead.h) does it.
 * A parcel is removed from the stream when it is told; until then it is tried again and again. */
#ifndef REDOUBT_ALERT_PARCELS_H
#define REDOUBT_ALERT_PARCELS_H

#include "alert/alert_parcel.h"
#include "common/outbox.h"
#include "common/wire.h"

struct alert_room;
struct alert_parcels;
struct alert_put {
    enum alert_parcel_reason reason;
    const char *node; /* as for alert_run */
    const char
        *bucket; /* a token: of a group the route and a hash of its values; of quiet hours their name; else "all" */
    const PB(Alert) * alert;
    const char
        *id; /* the same again for the same node and reason is put by once; NULL = the alert's. Up to 64 bytes */
};
struct alert_parcels *alert_parcels_open(struct alert_room *r); /* NULL if memory is out */
void alert_parcels_close(struct alert_parcels *p);              /* NULL is fine */
void alert_parcels_reload(struct alert_parcels *p);             /* the settings are new */
void alert_parcels_back(struct alert_parcels *p);               /* a channel works again: what is owed is tried now */
void alert_parcels_up(struct alert_parcels *p);                 /* the bus is back */
/* done (may be NULL) is called once: 0 = the stream has it. Until then it is tried again; -1 = closing, or refused for good. Everything is copied. */
void alert_parcels_put(struct alert_parcels *p, const struct alert_put *what, outbox_cb done, void *ctx);
/* Alerts that wait for a reason, as far as this replica knows. */
uint64_t alert_parcels_waiting(const struct alert_parcels *p, enum alert_parcel_reason reason);

#endif
