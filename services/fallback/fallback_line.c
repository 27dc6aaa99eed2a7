/* fallback_line.c - many agents that are to be looked at, in portions, one per turn of the loop.
 *
 * News of a target may concern ten thousand. What is decided in one turn leaves for Redis in one write at its end; between portions leases are
 * renewed and people are answered. Small portions are no gain: what answers bring meanwhile is done before the last directive then, and
 * with 32 at a time the last of 1,000 came twice as late as with all at once. Order is kept. */
#include "fallback/fallback_shell.h"
#include <utlist.h>

#define PORTION 1000 /* decided in some 30 ms */

static bool in_line(const struct agent *a)
{
    return a->look_prev; /* utlist: the first's is the last */
}

void agent_look_in_turn(struct agent *a)
{
    struct shell *sh = a->sh;
    a->look = true; /* whatever comes before its turn decides for it */
    if (in_line(a))
        return;
    DL_APPEND2(sh->to_look, a, look_prev, look_next);
    if (!loop_timer_active(&sh->looks))
        loop_timer_start(&sh->looks, 0, 0);
}

void agent_leave_line(struct agent *a)
{
    if (!in_line(a))
        return;
    DL_DELETE2(a->sh->to_look, a, look_prev, look_next);
    a->look_prev = a->look_next = NULL;
}

/* ---- confirmations, after the directives of others ---- */

#define HEAR_BY_MS 50 /* then, even if directives are still being written */

void agent_hear_soon(struct agent *a)
{
    struct shell *sh = a->sh;
    if (a->hear_prev) /* utlist: the first's is the last */
        return;
    if (!sh->to_hear)
        loop_timer_start(&sh->hear, HEAR_BY_MS, 0);
    DL_APPEND2(sh->to_hear, a, hear_prev, hear_next);
}

void agent_hear_not(struct agent *a)
{
    if (!a->hear_prev)
        return;
    DL_DELETE2(a->sh->to_hear, a, hear_prev, hear_next);
    a->hear_prev = a->hear_next = NULL;
}

void shell_hear(struct shell *sh)
{
    if (sh->to_hear)
        loop_timer_start(&sh->hear, 0, 0);
}

void shell_on_hear(void *ctx)
{
    struct shell *sh = ctx;
    for (int i = 0; i < PORTION && sh->to_hear; i++) {
        struct agent *a = sh->to_hear;
        agent_hear_not(a);
        agent_run(a);
    }
    shell_hear(sh);
}

/* ---- looks ---- */

void shell_on_looks(void *ctx)
{
    struct shell *sh = ctx;
    for (int i = 0; i < PORTION && sh->to_look; i++) {
        struct agent *a = sh->to_look;
        agent_leave_line(a);
        agent_run(a);
    }
    if (sh->to_look)
        loop_timer_start(&sh->looks, 0, 0);
}
