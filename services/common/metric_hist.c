/* metric_hist.c - how values are spread. */
#include "common/metric_hist.h"

#define EXACT 16 /* values below have a slot each */
#define PARTS 8  /* slots of each doubling above */

static unsigned slot_of(int64_t v)
{
    if (v < EXACT)
        return (unsigned)v;
    unsigned bits = 63 - (unsigned)__builtin_clzll((uint64_t)v);
    unsigned slot = EXACT + (bits - 4) * PARTS + (unsigned)(v >> (bits - 3) & (PARTS - 1));
    return slot < METRIC_HIST_SLOTS ? slot : METRIC_HIST_SLOTS - 1;
}

/* The greatest value of a slot. */
static int64_t top_of(unsigned slot)
{
    if (slot < EXACT)
        return slot;
    unsigned bits = 4 + (slot - EXACT) / PARTS, part = (slot - EXACT) % PARTS;
    return (int64_t)((UINT64_C(1) << bits) + ((uint64_t)part + 1) * (UINT64_C(1) << (bits - 3))) - 1;
}

void metric_hist_add(struct metric_hist *h, int64_t value)
{
    value = value > 0 ? value : 0;
    h->n[slot_of(value)]++;
    h->total++;
    h->max = value > h->max ? value : h->max;
}

int64_t metric_hist_percentile(const struct metric_hist *h, unsigned percent)
{
    uint64_t want = (h->total * percent + 99) / 100, seen = 0;
    for (unsigned i = 0; i < METRIC_HIST_SLOTS - 1; i++) {
        seen += h->n[i];
        if (seen >= want && seen > 0)
            return top_of(i) < h->max ? top_of(i) : h->max;
    }
    return h->max;
}
