/* breaker_heap.c - the targets' deadlines as a binary heap: one timer serves thousands. */
#include "breaker/breaker_shell.h"
#include <stdlib.h>

static void place(struct shell *sh, size_t i, struct node *n)
{
    sh->heap[i] = n;
    n->heap_at = i;
}

static void settle(struct shell *sh, size_t i)
{
    struct node *n = sh->heap[i];
    while (i > 0 && sh->heap[(i - 1) / 2]->wake_ms > n->wake_ms) {
        place(sh, i, sh->heap[(i - 1) / 2]);
        i = (i - 1) / 2;
    }
    for (size_t child; (child = 2 * i + 1) < sh->heap_n; i = child) {
        if (child + 1 < sh->heap_n && sh->heap[child + 1]->wake_ms < sh->heap[child]->wake_ms)
            child++;
        if (sh->heap[child]->wake_ms >= n->wake_ms)
            break;
        place(sh, i, sh->heap[child]);
    }
    place(sh, i, n);
}

void breaker_heap_set(struct shell *sh, struct node *n, int64_t at_ms)
{
    if (at_ms == n->wake_ms)
        return;
    bool was = n->wake_ms != 0;
    n->wake_ms = at_ms;
    if (was && at_ms == 0) {
        size_t i = n->heap_at;
        struct node *last = sh->heap[--sh->heap_n];
        if (last != n) {
            place(sh, i, last);
            settle(sh, i);
        }
        return;
    }
    if (!was) {
        if (sh->heap_n == sh->heap_cap) {
            size_t cap = sh->heap_cap ? sh->heap_cap * 2 : 64;
            struct node **heap = realloc(sh->heap, cap * sizeof *heap);
            if (!heap)
                abort(); /* a breaker whose deadline is forgotten would stay as it is for ever */
            sh->heap = heap;
            sh->heap_cap = cap;
        }
        place(sh, sh->heap_n++, n);
    }
    settle(sh, n->heap_at);
}

struct node *breaker_heap_first(const struct shell *sh)
{
    return sh->heap_n > 0 ? sh->heap[0] : NULL;
}
