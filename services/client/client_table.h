/* client_table.h - the pushed breaker states, readable by any thread without a lock: open addressing, nothing ever moves or goes.
 *
 * A target is entered under the caller's lock; its name is complete before its hash is published. States are written by the
 * loop thread only. */
#ifndef REDOUBT_CLIENT_TABLE_H
#define REDOUBT_CLIENT_TABLE_H

#include "client/redoubt.h"
#include "common/subjects.h"
#include "common/wire.h"
#include <stdatomic.h>

#define CLIENT_SLOTS     4096 /* a power of two */
#define CLIENT_SLOTS_MAX 3072 /* used at most; untouched ones cost no memory */

struct client_slot {
    _Atomic uint32_t hash; /* 0 = free */
    char name[TARGET_MAX_LEN + 1];
    _Atomic uint32_t verdict; /* enum BreakerState | ramp percent << 8; 0 = nothing heard */
    _Atomic int64_t until_unix_ms;
    _Atomic int64_t
        advised_until_ms;  /* monotonic: not to be called until then, whatever the verdict; 0 = no advice */
    _Atomic uint32_t turn; /* calls asked for while ramping */
    _Atomic uint64_t permit;
    _Atomic int64_t permit_until_ms; /* monotonic */
    _Atomic int64_t ask_after_ms;    /* monotonic: when a permit may be asked for again */
    _Atomic bool wanted;             /* a call was refused for want of a permit */
    /* loop thread only */
    uint64_t epoch;
    uint32_t first_report, last_report; /* while reports are sorted */
};
struct client_table {
    struct client_slot *slots;
    _Atomic uint32_t used; /* in `order` */
    uint32_t order[CLIENT_SLOTS_MAX];
};

int client_table_init(struct client_table *t); /* 0 or -1 (memory) */
void client_table_done(struct client_table *t);
/* NULL if it was never entered. Any thread, no lock. */
struct client_slot *client_table_find(const struct client_table *t, const char *target);
/* Finds or enters; NULL if the table is full. One caller at a time. */
struct client_slot *client_table_enter(struct client_table *t, const char *target);
/* Takes over a state if it is newer. True if it was. */
bool client_slot_apply(struct client_slot *s, const PB(BreakerChanged) * b, int64_t now_ms, int64_t now_unix_ms);
/* A breaker replica without shared state advises against it. Only ever stricter; ends by itself, and with the next state. True if it counts. */
bool client_slot_advise(struct client_slot *s, const PB(BreakerAdvice) * a, int64_t now_ms);
/* A permit was granted. */
void client_slot_grant(struct client_slot *s, uint64_t permit, int64_t now_ms);
/* May it be called now? *ret_ask is set if the loop should ask for a permit. */
redoubt_admission client_slot_admit(struct client_slot *s, bool *ret_ask);

#endif
