/* drill_ledger.h - what became of each action, pure: asked for, accepted or refused, and whether the backend has it once. */
#ifndef REDOUBT_CLI_DRILL_LEDGER_H
#define REDOUBT_CLI_DRILL_LEDGER_H

#include "common/wire.h"
#include <jansson.h>
#include <stdbool.h>

struct drill_action;
/* Zeroes are an empty one. */
struct drill_ledger {
    struct drill_action *actions;
    unsigned queued; /* so many have waited */
};
struct drill_count {
    unsigned asked;        /* different keys */
    unsigned accepted;     /* passed on or queued: somebody counts on it */
    unsigned queued;       /* of them: have waited */
    unsigned refused;      /* never accepted */
    unsigned executed;     /* by the backend, different keys */
    unsigned lost;         /* accepted, and not at the backend */
    unsigned doubled;      /* executed more than once */
    unsigned repeated;     /* came again under their key; the backend did them once */
    unsigned out_of_order; /* of those that waited: executed before one that had waited longer */
};
/* Takes note of a message of the bus; others than actions and their answers are nothing to it. */
void drill_ledger_note(struct drill_ledger *l, const void *message);
/* Epoch under which an action was asked for last; 0 = it never was. */
uint64_t drill_ledger_epoch(const struct drill_ledger *l, const char *key);
/* `backend` is the page of the simulated backend; NULL = nothing is known of it. */
void drill_ledger_count(const struct drill_ledger *l, const json_t *backend, struct drill_count *ret);
void drill_ledger_free(struct drill_ledger *l);

#endif
