/* alert_state.h - what is remembered of problems and alerts: in Redis for all replicas and restarts, here for when it is away. */
#ifndef REDOUBT_ALERT_STATE_H
#define REDOUBT_ALERT_STATE_H

#include "alert/alert_group.h"
#include "common/settings.h"
#include "common/store.h"
#include "common/subjects.h"
#include "common/wire.h"

struct alert_room;
struct alert_memory;
/* The room's service must be set; the rest of it is used from the next turn of the loop on. NULL if memory is out. */
struct alert_memory *alert_memory_open(struct alert_room *r);
void alert_memory_reload(struct alert_memory *m); /* the settings are new */
/* Asks that are under way end with their callback when the store is closed. Keeps a reference to the room until then. NULL is fine. */
void alert_memory_close(struct alert_memory *m);

struct alert_recall {
    bool delivered; /* before: by `channel`, "" = it was only to be recorded, and was */
    char channel[NAME_MAX_LEN + 1];
    enum alert_verdict verdict;
    uint32_t repeats; /* of the problem, since people were told */
    char why[192];    /* MUTED: by what, `silence/<id>`, `inhibit/<rule>`, `ack/<by>`; else "" */
};
/* Decides what is to be done with an alert, and remembers that. `route` is the first that has taken it (its repeat and escalation count); may be
 * NULL; used only inside the call. Never called for a self-test. One problem's alerts are decided in order of the calls. The callback
 * comes exactly once, perhaps from inside. */
typedef void (*alert_recall_cb)(void *ctx, const struct alert_recall *r);
void alert_memory_decide(struct alert_memory *m, const PB(Alert) * a, const struct set_route *route, alert_recall_cb cb,
                         void *ctx);
/* It is through: a redelivery will find it so. */
void alert_memory_delivered(struct alert_memory *m, const PB(Alert) * a, const char *channel);
/* Were people told that this problem is there, and not yet that it is over? Also called exactly once, perhaps from inside. */
typedef void (*alert_firing_cb)(void *ctx, bool firing);
void alert_memory_firing(struct alert_memory *m, const char *dedup_key, alert_firing_cb cb, void *ctx);

#endif
