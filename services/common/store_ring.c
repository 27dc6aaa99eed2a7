/* store_ring.c - the store's queues: rings that grow, and shrink after a burst. */
#include "common/store_ring.h"
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#define RING_KEEP 1024 /* places kept when empty */

struct store_item *store_ring_push(struct store_ring *r)
{
    if (r->n == r->cap) {
        size_t cap = r->cap ? r->cap * 2 : 16;
        struct store_item *at = calloc(cap, sizeof *at);
        if (!at)
            abort();
        for (size_t i = 0; i < r->n; i++)
            at[i] = r->at[(r->first + i) % r->cap];
        free(r->at);
        *r = (struct store_ring){.at = at, .cap = cap, .n = r->n};
    }
    struct store_item *c = &r->at[(r->first + r->n++) % r->cap];
    memset(c, 0, sizeof *c);
    return c;
}

struct store_item store_ring_pop(struct store_ring *r)
{
    assert(r->n > 0);
    struct store_item c = r->at[r->first];
    r->first = (r->first + 1) % r->cap;
    if (--r->n == 0 && r->cap > RING_KEEP) { /* what a burst needed goes back */
        free(r->at);
        *r = (struct store_ring){0};
    }
    return c;
}

void store_item_done(struct store_item *c)
{
    free(c->evalsha);
    c->evalsha = NULL;
}
