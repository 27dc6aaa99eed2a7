/* metric.c - counters and gauges that register themselves at their first use. */
#include "common/metric.h"
#include <stdlib.h>
#include <string.h>

/* The process' list of metrics: the one permitted global. Objects are only ever added, at the head. */
static struct metric *_Atomic first;

static void register_once(struct metric *m)
{
    /* Looked at first: a counter in a hot path is registered already, and must not pay for asking. */
    if (atomic_load_explicit(&m->registered, memory_order_relaxed) || atomic_exchange(&m->registered, true))
        return;
    struct metric *head = atomic_load(&first);
    do {
        atomic_store(&m->next, head);
    } while (!atomic_compare_exchange_weak(&first, &head, m));
}

void metric_add(struct metric *m, int64_t n)
{
    register_once(m);
    atomic_fetch_add_explicit(&m->value, n, memory_order_relaxed);
}

void metric_set(struct metric *m, int64_t v)
{
    register_once(m);
    atomic_store_explicit(&m->value, v, memory_order_relaxed);
}

int64_t metric_get(const struct metric *m)
{
    return atomic_load_explicit(&m->value, memory_order_relaxed);
}

static int by_name(const void *a, const void *b)
{
    const struct metric *const *x = a, *const *y = b;
    return strcmp((*x)->name, (*y)->name);
}

void metric_each(void (*fn)(const struct metric *m, void *ctx), void *ctx)
{
    struct metric *head = atomic_load(&first); /* what registers from here on is not seen this time */
    size_t n = 0;
    for (struct metric *m = head; m; m = atomic_load(&m->next))
        n++;
    struct metric **sorted = n ? malloc(n * sizeof *sorted) : NULL;
    if (!sorted)
        return;
    size_t i = 0;
    for (struct metric *m = head; m; m = atomic_load(&m->next))
        sorted[i++] = m;
    qsort(sorted, n, sizeof *sorted, by_name);
    for (i = 0; i < n; i++)
        fn(sorted[i], ctx);
    free(sorted);
}
