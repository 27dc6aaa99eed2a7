/* board_wake.c - when each incident is looked at again: a binary heap by time, so that ten thousand cost nothing while they wait. */
#include "continuity/board_impl.h"
#include <stdlib.h>

static void heap_set(struct board *b, size_t i, struct board_entry *e)
{
    b->heap[i] = e;
    e->heap_at = i + 1;
}

static size_t heap_up(struct board *b, size_t i)
{
    struct board_entry *e = b->heap[i];
    for (; i > 0 && b->heap[(i - 1) / 2]->wake_ms > e->wake_ms; i = (i - 1) / 2)
        heap_set(b, i, b->heap[(i - 1) / 2]);
    heap_set(b, i, e);
    return i;
}

static void heap_down(struct board *b, size_t i)
{
    struct board_entry *e = b->heap[i];
    for (size_t child; (child = 2 * i + 1) < b->n_heap; i = child) {
        if (child + 1 < b->n_heap && b->heap[child + 1]->wake_ms < b->heap[child]->wake_ms)
            child++;
        if (b->heap[child]->wake_ms >= e->wake_ms)
            break;
        heap_set(b, i, b->heap[child]);
    }
    heap_set(b, i, e);
}

static void heap_remove(struct board *b, struct board_entry *e)
{
    if (e->heap_at == 0)
        return;
    size_t i = e->heap_at - 1;
    e->heap_at = 0;
    if (i == --b->n_heap)
        return;
    heap_set(b, i, b->heap[b->n_heap]);
    heap_down(b, heap_up(b, i));
}

/* There is room for each entry: board_entry_new() has made it. */
void board_wake(struct board *b, struct board_entry *e, int64_t at_ms)
{
    e->wake_ms = at_ms;
    if (at_ms == INT64_MAX) {
        heap_remove(b, e);
        return;
    }
    if (e->heap_at == 0)
        heap_set(b, b->n_heap++, e);
    heap_down(b, heap_up(b, e->heap_at - 1));
}

bool board_wake_room(struct board *b)
{
    if (HASH_CNT(by_id, b->ids) < b->heap_room)
        return true;
    size_t room = b->heap_room ? b->heap_room * 2 : 64;
    struct board_entry **heap = realloc(b->heap, room * sizeof(struct board_entry *));
    if (!heap)
        return false;
    b->heap = heap;
    b->heap_room = room;
    return true;
}
