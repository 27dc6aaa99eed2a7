/* backup_list.c - what is saved, entry by entry, with the hash of each file. */
#include "continuity/backup_list.h"
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define RACY_NS                                                                                                      \
    INT64_C(2000000000) /* what was changed so shortly before it was read may change again and look the same */

struct listing {
    struct backup_list *is;
    const struct backup_list *was;
    bool links;
};

static int64_t ns_of(const struct timespec *t)
{
    return (int64_t)t->tv_sec * 1000000000 + t->tv_nsec;
}

static struct backup_entry entry_of(size_t root, const struct stat *st)
{
    return (struct backup_entry){.root = root,
                                 .dev = (uint64_t)st->st_dev,
                                 .ino = (uint64_t)st->st_ino,
                                 .size = (uint64_t)st->st_size,
                                 .mtime_ns = ns_of(&st->st_mtim),
                                 .ctime_ns = ns_of(&st->st_ctim)};
}

static bool known(void *ctx, size_t root, const char *name, const struct stat *st, char hex[static 65])
{
    const struct listing *l = ctx;
    const struct backup_entry *was = l->was ? backup_list_find(l->was, root, name) : NULL;
    struct backup_entry is = entry_of(root, st);
    if (!was || strncmp(was->what, "f ", 2) != 0 || strlen(was->what) != 66 || was->dev != is.dev ||
        was->ino != is.ino || was->size != is.size || was->mtime_ns != is.mtime_ns ||
        (!l->links && was->ctime_ns != is.ctime_ns) || l->was->listed_ns - was->mtime_ns < RACY_NS)
        return false;
    memcpy(hex, was->what + 2, 65);
    return true;
}

static void seen(void *ctx, size_t root, const char *name, const char *what, const struct stat *st)
{
    struct backup_list *l = ((struct listing *)ctx)->is;
    if (l->n == l->room) {
        l->room = l->room ? 2 * l->room : 256;
        l->entries = realloc(l->entries, l->room * sizeof *l->entries);
        assert(l->entries && "out of memory for a list of files");
    }
    struct backup_entry *e = &l->entries[l->n++];
    *e = entry_of(root, st);
    e->name = strdup(name);
    e->what = strdup(what);
    assert(e->name && e->what && "out of memory for a list of files");
}

static int by_place(const void *a, const void *b)
{
    const struct backup_entry *x = a, *y = b;
    if (x->root != y->root)
        return x->root < y->root ? -1 : 1;
    return strcmp(x->name, y->name);
}

struct backup_list *backup_list_of(const char *const *roots, size_t n, const struct backup_list *was, bool links,
                                   bool moving, const atomic_bool *stop, struct err *e)
{
    struct timespec now;
    struct backup_list *l = calloc(1, sizeof *l);
    assert(l && "out of memory for a list of files");
    clock_gettime(CLOCK_REALTIME, &now);
    l->refs = 1;
    l->listed_ns = ns_of(&now);
    struct listing ctx = {.is = l, .was = was, .links = links};
    const struct tree_opts o = {.stop = stop, .moving = moving, .known = known, .seen = seen, .ctx = &ctx};
    if (tree_sum(roots, n, &o, &l->sum, e)) {
        backup_list_unref(l);
        return NULL;
    }
    if (l->n > 0)
        qsort(l->entries, l->n, sizeof *l->entries, by_place);
    return l;
}

struct backup_list *backup_list_ref(struct backup_list *l)
{
    if (l)
        l->refs++;
    return l;
}

void backup_list_unref(struct backup_list *l)
{
    if (!l || --l->refs > 0)
        return;
    for (size_t i = 0; i < l->n; i++) {
        free(l->entries[i].name);
        free(l->entries[i].what);
    }
    free(l->entries);
    free(l);
}

const struct backup_entry *backup_list_find(const struct backup_list *l, size_t root, const char *name)
{
    const struct backup_entry key = {.root = root, .name = (char *)name};
    return l->n > 0 ? bsearch(&key, l->entries, l->n, sizeof *l->entries, by_place) : NULL;
}

static const char *shown(const struct backup_entry *e)
{
    return *e->name ? e->name : "/";
}

bool backup_list_same(const struct backup_list *was, const struct backup_list *is, char *buf, size_t size)
{
    size_t i = 0, k = 0;
    *buf = '\0';
    while (i < was->n || k < is->n) {
        int order = i == was->n ? 1 : k == is->n ? -1 : by_place(&was->entries[i], &is->entries[k]);
        if (order < 0)
            snprintf(buf, size, "%.200s is missing", shown(&was->entries[i]));
        else if (order > 0)
            snprintf(buf, size, "%.200s is too many", shown(&is->entries[k]));
        else if (strcmp(was->entries[i].what, is->entries[k].what) != 0)
            snprintf(buf, size, "%.200s: its content differs", shown(&is->entries[k]));
        if (*buf)
            return false;
        i++;
        k++;
    }
    return true;
}

size_t backup_list_changed(const struct backup_list *was, const struct backup_list *is, size_t *ret, size_t max,
                           uint64_t *ret_bytes, bool *ret_linked)
{
    size_t n = 0;
    *ret_bytes = 0;
    *ret_linked = false;
    for (size_t i = 0; i < is->n; i++) {
        const struct backup_entry *e = &is->entries[i], *old = was ? backup_list_find(was, e->root, e->name) : NULL;
        if ((*e->what != 'f' && *e->what != '=') || (old && strcmp(old->what, e->what) == 0))
            continue;
        *ret_linked = *ret_linked || *e->what == '=';
        *ret_bytes += e->size;
        if (n < max)
            ret[n] = i;
        n++;
    }
    return n;
}
