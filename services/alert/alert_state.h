/* alert_state.h - what is remembered of problems and alerts: in Redis for all replicas and restarts, on stream STATE as the record, here for
 * when both are away. */
#ifndef REDOUBT_ALERT_STATE_H
#define REDOUBT_ALERT_STATE_H

#include "alert/alert_doc.h"
#include "alert/alert_silence.h"
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

/* ---- alerts ---- */

struct alert_recall {
    bool delivered; /* before: by `channel`, "" = it was only to be recorded, and was */
    char channel[NAME_MAX_LEN + 1];
    enum alert_verdict verdict;
    uint32_t repeats;        /* of the problem, since people were told */
    bool over;               /* it was to be told, was not, and its problem has ended meanwhile */
    char why[ALERT_WHY_MAX]; /* MUTED: by what, `silence/<id>`, `inhibit/<rule>`, `ack/<by>`; else "" */
};
/* Decides what is to be done with an alert, and remembers that. `route` is the first that has taken it (its repeat and escalation count); may be
 * NULL; used only inside the call; the alert must stay until the callback. Never called for a self-test. One problem's alerts are decided in
 * order of the calls. The callback comes exactly once, perhaps from inside. */
typedef void (*alert_recall_cb)(void *ctx, const struct alert_recall *r);
void alert_memory_decide(struct alert_memory *m, const PB(Alert) * a, const struct set_route *route,
                         alert_recall_cb cb, void *ctx);
/* It is through: a redelivery will find it so. */
void alert_memory_delivered(struct alert_memory *m, const PB(Alert) * a, const char *channel);
/* Were people told that this problem is there, and not yet that it is over? Also called exactly once, perhaps from inside. */
typedef void (*alert_firing_cb)(void *ctx, bool firing);
void alert_memory_firing(struct alert_memory *m, const char *dedup_key, alert_firing_cb cb, void *ctx);

/* ---- problems ---- */

enum alert_change_kind {
    ALERT_CHANGE_GET,   /* only look it up */
    ALERT_CHANGE_MEND,  /* Redis must have the newest there is, `given` among it, and its indexes must fit */
    ALERT_CHANGE_ACK,   /* by, reason, until_ms */
    ALERT_CHANGE_UNACK, /* by, reason */
    ALERT_CHANGE_LOOK,  /* what does time bring? */
    ALERT_CHANGE_TOLD,  /* what was begun to be told under `revision` is durable */
};
struct alert_change {
    enum alert_change_kind kind;
    const char *id; /* of the problem */
    const char *by, *reason;
    int64_t until_ms;
    uint64_t revision;
    const PB(ProblemChanged) * given;
};
enum alert_change_status {
    ALERT_CHANGE_DONE,
    ALERT_CHANGE_UNKNOWN, /* there is no such problem */
    ALERT_CHANGE_REFUSED, /* not in this state */
    ALERT_CHANGE_UNSAFE,  /* neither Redis nor STATE has it */
};
struct alert_changed {
    enum alert_change_status status;
    const PB(ProblemChanged) * problem; /* as it is now; NULL if there is none. Valid inside the callback */
    bool in_store;                      /* Redis was asked, and has it so */
    struct alert_problem_result result;
};
typedef void (*alert_changed_cb)(void *ctx, const struct alert_changed *r);
/* Everything is copied; the callback comes exactly once, perhaps from inside. */
void alert_memory_change(struct alert_memory *m, const struct alert_change *c, alert_changed_cb cb, void *ctx);

/* ---- what mutes ---- */

struct alert_mute {
    char by[ALERT_WHY_MAX]; /* `silence/<id>`, `inhibit/<rule>`; "" = nothing */
    int64_t until_ms;       /* 0 = no end of its own */
};
struct alert_mute alert_memory_mute(const struct alert_memory *m, const PB(Alert) * a, const char *id,
                                    int64_t first_ms, int64_t now_ms);
struct alert_silences *alert_memory_silences(struct alert_memory *m);

#endif
