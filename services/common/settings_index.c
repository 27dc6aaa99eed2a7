/* settings_index.c - finds targets and agents by name. */
#include "common/settings_impl.h"
#include <stdlib.h>
#include <string.h>

/* Pointers into the lists, in order of name; of two with one name the first of the file comes first. */
struct settings_index {
    const struct set_target **targets;
    const struct set_agent **agents;
};

/* Both structs begin with their name. */
static const char *name_of(const void *entry)
{
    return *(char *const *)entry;
}
_Static_assert(offsetof(struct set_target, name) == 0 && offsetof(struct set_agent, name) == 0, "name comes first");

static int by_name(const void *a, const void *b)
{
    const void *x = *(const void *const *)a, *y = *(const void *const *)b;
    int order = strcmp(name_of(x), name_of(y));
    return order ? order : (x > y) - (x < y);
}

static bool sorted(const struct conf_list *list, size_t size, void *ret)
{
    const void **at = malloc((list->n + 1) * sizeof *at);
    if (!at)
        return false;
    for (size_t i = 0; i < list->n; i++)
        at[i] = (const char *)list->items + i * size;
    qsort(at, list->n, sizeof *at, by_name);
    memcpy(ret, &at, sizeof at);
    return true;
}

bool settings_index_make(struct settings *s)
{
    struct settings_index *x = calloc(1, sizeof *x);
    if (x && sorted(&s->targets, sizeof(struct set_target), &x->targets) &&
        sorted(&s->agents, sizeof(struct set_agent), &x->agents)) {
        settings_index_free(s);
        s->index = x;
        return true;
    }
    if (x) {
        free(x->targets);
        free(x->agents);
    }
    free(x);
    return false;
}

void settings_index_free(struct settings *s)
{
    if (!s->index)
        return;
    free(s->index->targets);
    free(s->index->agents);
    free(s->index);
    s->index = NULL;
}

/* The first entry whose name is not before `name`. */
static const void *find(const void *const *at, size_t n, const char *name)
{
    size_t low = 0, high = n;
    while (low < high) {
        size_t mid = low + (high - low) / 2;
        if (strcmp(name_of(at[mid]), name) < 0)
            low = mid + 1;
        else
            high = mid;
    }
    return low < n && strcmp(name_of(at[low]), name) == 0 ? at[low] : NULL;
}

static const void *look_through(const struct conf_list *list, size_t size, const char *name)
{
    for (size_t i = 0; i < list->n; i++) {
        const char *entry = (const char *)list->items + i * size;
        if (strcmp(name_of(entry), name) == 0)
            return entry;
    }
    return NULL;
}

const struct set_target *settings_target(const struct settings *s, const char *name)
{
    return s->index ? find((const void *const *)s->index->targets, s->targets.n, name)
                    : look_through(&s->targets, sizeof(struct set_target), name);
}

const struct set_agent *settings_agent(const struct settings *s, const char *name)
{
    return s->index ? find((const void *const *)s->index->agents, s->agents.n, name)
                    : look_through(&s->agents, sizeof(struct set_agent), name);
}
