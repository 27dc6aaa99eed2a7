/* sm.c - moves a state machine along its table; what the table does not allow is a bug. */
#include "common/sm.h"
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

static bool known(const struct sm_table *t, int state)
{
    return state >= 0 && state < t->n && state < SM_STATES_MAX && t->state_names[state];
}

bool sm_may(const struct sm_table *t, int from, int to)
{
    return known(t, from) && known(t, to) && (t->allowed[from] & SM_BIT(to));
}

void sm_move(const struct sm_table *t, int *state, int to)
{
    if (!sm_may(t, *state, to)) {
        fprintf(stderr, "%s: transition %s (%d) -> %s (%d) is not allowed\n", t->name, sm_name(t, *state), *state,
                sm_name(t, to), to);
        abort();
    }
    *state = to;
}

void sm_check(const struct sm_table *t, int state, const void *object)
{
    if (known(t, state) && (!t->invariant || t->invariant(object)))
        return;
    fprintf(stderr, "%s: invariant does not hold in state %s (%d)\n", t->name, sm_name(t, state), state);
    abort();
}

const char *sm_name(const struct sm_table *t, int state)
{
    return known(t, state) ? t->state_names[state] : "?";
}

int sm_parse(const struct sm_table *t, const char *name)
{
    for (int i = 0; i < t->n; i++)
        if (known(t, i) && strcasecmp(t->state_names[i], name) == 0)
            return i;
    return -1;
}
