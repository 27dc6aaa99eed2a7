/* fallback_wake.c - when agents are to be looked at again: a binary heap behind one timer. */
#include "common/clock.h"
#include "fallback/fallback_shell.h"
#include <stdlib.h>

#define NEVER INT64_MAX

static void place(struct shell *sh, size_t i, struct agent *a)
{
    sh->heap[i] = a;
    a->heap_at = i;
}

static void settle(struct shell *sh, size_t i)
{
    struct agent *a = sh->heap[i];
    while (i > 0 && sh->heap[(i - 1) / 2]->wake_at_ms > a->wake_at_ms) {
        place(sh, i, sh->heap[(i - 1) / 2]);
        i = (i - 1) / 2;
    }
    for (size_t child; (child = 2 * i + 1) < sh->heap_n; i = child) {
        if (child + 1 < sh->heap_n && sh->heap[child + 1]->wake_at_ms < sh->heap[child]->wake_at_ms)
            child++;
        if (sh->heap[child]->wake_at_ms >= a->wake_at_ms)
            break;
        place(sh, i, sh->heap[child]);
    }
    place(sh, i, a);
}

static void remove_from(struct shell *sh, struct agent *a)
{
    size_t i = a->heap_at;
    struct agent *last = sh->heap[--sh->heap_n];
    if (last != a) {
        place(sh, i, last);
        settle(sh, i);
    }
}

static void add_to(struct shell *sh, struct agent *a)
{
    if (sh->heap_n == sh->heap_cap) {
        size_t cap = sh->heap_cap ? sh->heap_cap * 2 : 64;
        struct agent **heap = realloc(sh->heap, cap * sizeof *heap);
        if (!heap)
            abort(); /* an agent whose time is forgotten would stay where it is for ever */
        sh->heap = heap;
        sh->heap_cap = cap;
    }
    place(sh, sh->heap_n++, a);
}

static void arm(struct shell *sh)
{
    if (sh->heap_n == 0) {
        loop_timer_stop(&sh->wake);
        sh->armed_ms = NEVER;
        return;
    }
    int64_t at_ms = sh->heap[0]->wake_at_ms, in_ms = at_ms - clock_shared_ms();
    if (at_ms == sh->armed_ms)
        return;
    sh->armed_ms = at_ms;
    loop_timer_start(&sh->wake, in_ms > 0 ? in_ms : 0, 0);
}

void agent_wake_at(struct agent *a, int64_t at_ms)
{
    struct shell *sh = a->sh;
    int64_t was_ms = a->wake_at_ms;
    if (at_ms == was_ms)
        return;
    a->wake_at_ms = at_ms;
    if (at_ms == NEVER)
        remove_from(sh, a);
    else if (was_ms == NEVER)
        add_to(sh, a);
    if (at_ms != NEVER)
        settle(sh, a->heap_at);
    if (!sh->waking)
        arm(sh);
}

/* Those who are due now; who wants to be looked at again at once waits for the next turn of the loop. */
void shell_on_wake(void *ctx)
{
    struct shell *sh = ctx;
    int64_t now_ms = clock_shared_ms();
    size_t most = sh->heap_n;
    sh->waking = true;
    sh->armed_ms = NEVER;
    while (most-- > 0 && sh->heap_n > 0 && sh->heap[0]->wake_at_ms <= now_ms) {
        struct agent *a = sh->heap[0];
        agent_wake_at(a, NEVER);
        agent_look_in_turn(a);
    }
    sh->waking = false;
    arm(sh);
}
