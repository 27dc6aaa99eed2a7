/* alert_memory.h - what the files of the memory share. Private to it: alert_state.c, alert_due.c, alert_sweep.c, alert_list.c. */
#ifndef REDOUBT_ALERT_MEMORY_H
#define REDOUBT_ALERT_MEMORY_H

#include "alert/alert_due.h"
#include "alert/alert_inhibit.h"
#include "alert/alert_local.h"
#include "alert/alert_room.h"
#include "alert/alert_state.h"
#include "common/log.h"

struct alert_list;
enum { ALERT_SYNC_SILENCES = 1, ALERT_SYNC_PROBLEMS = 2 };
struct alert_memory {
    struct alert_room *room;
    struct store *store;
    struct store_script read, write, drop;
    struct alert_local local;
    struct alert_silences *silences;
    struct alert_inhibits *inhibits;
    struct alert_due *due;
    struct bus_watch *watch; /* problems, as all replicas say them */
    struct log_limit refused, damaged;
    int asks; /* answers still to come; alert_due.c's among them */
    /* Until silences and problems have come from STATE, nothing is decided: else what is muted would be told. */
    unsigned unsynced; /* ALERT_SYNC_... */
    bool ready;
    int64_t opened_ms;
    struct alert_ask *early, **early_last;
    struct alert_list *lists; /* answers under way: alert_list.c */
    bool marked;              /* Redis was not emptied: it still has our mark */
    bool closed;
};

extern const struct store_script alert_read_script, alert_write_script, alert_drop_script; /* alert_state.c */
/* Those that wait for the bus end without an answer. */
void alert_lists_drop(struct alert_memory *m);
/* Begins with what was asked so far. */
void alert_memory_go(struct alert_memory *m);
/* Ends all asks of a list. */
void alert_memory_drop_asks(struct alert_ask **first);

/* After each answer: frees the memory if it is closed and this was the last. */
static inline void alert_memory_answered(struct alert_memory *m)
{
    m->asks--;
    if (m->closed && m->asks == 0)
        alert_memory_close(m);
}

#endif
