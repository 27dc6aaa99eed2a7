/* sm.h - a state machine as data: names, allowed transitions, an invariant, and the one function that moves. */
#ifndef REDOUBT_SM_H
#define REDOUBT_SM_H

#include <stdbool.h>
#include <stdint.h>

#define SM_STATES_MAX 32

struct sm_table {
    const char *name;                      /* of the machine, for messages */
    int n;                                 /* states are 0 .. n-1, n <= SM_STATES_MAX */
    const char *const *state_names;        /* n of them; NULL for a number that is no state */
    const uint32_t *allowed;               /* allowed[from] has bit `to` set if from -> to may happen */
    bool (*invariant)(const void *object); /* may be NULL; must hold after each move */
};
#define SM_BIT(state) (1u << (state))

bool sm_may(const struct sm_table *t, int from, int to);
/* Moves *state to `to`. A transition that the table does not allow is a bug: aborts, naming both states. */
void sm_move(const struct sm_table *t, int *state, int to);
/* Aborts, naming the machine and the state, if the invariant does not hold. */
void sm_check(const struct sm_table *t, int state, const void *object);
const char *sm_name(const struct sm_table *t, int state); /* "?" if unknown */
int sm_parse(const struct sm_table *t, const char *name); /* -1 if unknown; case-insensitive */

#endif
