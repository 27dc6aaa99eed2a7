/* data_restore.c - a snapshot takes the place of the learning data, which are kept beside it.
 *
 * All directories are restored beside their places, hashed and compared with the snapshot's tags; only then the first of them is replaced. What was begun before
 * a crash is told by names (data_swap.h) and gone on with. */
#include "rollback/data_impl.h"
#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>

/* ---- what is to be done ---- */

static void step_look_up(struct data_op *o)
{
    if (o->half) /* nothing of the repository is needed any more */
        data_next(o);
    else
        step_list(o);
}

static void step_found(struct data_op *o)
{
    if (o->half)
        data_next(o);
    else if (!o->is_found)
        data_fail(o, true, "there is no snapshot %.64s in the repository: look at `redoubt rollback lineage`",
                  o->snapshot);
    else if (!o->paths_fit)
        data_fail(o, true,
                  "snapshot %.8s holds other directories than data.path names: set data.path as it was, or restore "
                  "it by hand",
                  o->found.id);
    else
        data_next(o);
}

/* Names of files: letters, digits, and a few that are safe. */
static void make_tag(const struct data_op *o, char tag[static SWAP_TAG])
{
    int n = snprintf(tag, SWAP_TAG, "%.64s-%.8s", o->job, o->snapshot);
    for (int i = 0; i < n; i++)
        if (!strchr("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_", tag[i]))
            tag[i] = '_';
}

static bool room_for(struct data_op *o, const struct swap *s)
{
    struct statvfs v;
    uint64_t need = o->found.sum.bytes + o->found.sum.bytes / 20, have;
    if (statvfs(s->dir, &v) != 0 || (have = (uint64_t)v.f_bavail * v.f_frsize) >= need)
        return true;
    data_fail(o, true, "restoring beside %.200s needs %" PRIu64 " MiB, and %" PRIu64 " are free. Make room there",
              s->path, need >> 20, have >> 20);
    return false;
}

static void step_swaps(struct data_op *o)
{
    char tag[SWAP_TAG], at[PATH_MAX];
    struct err e = {""};
    make_tag(o, tag);
    for (size_t i = 0; i < o->n_paths; i++) {
        if (swap_init(&o->swaps[i], o->paths[i].real, tag, &e)) {
            data_fail(o, true, "%s", e.text);
            return;
        }
        /* One that is being swapped says that all were whole. */
        enum swap_state st = swap_state(&o->swaps[i], at);
        o->half |= st == SWAP_DONE || (st == SWAP_STAGED && !*at);
    }
    data_next(o);
}

/* ---- restoring beside ---- */

static struct swap *next_missing(struct data_op *o)
{
    char at[PATH_MAX];
    for (; o->i < o->n_paths; o->i++)
        if (swap_state(&o->swaps[o->i], at) == SWAP_NOTHING)
            return &o->swaps[o->i];
    return NULL;
}

static int begin(void *arg, const atomic_bool *stop, struct err *e)
{
    (void)stop;
    return swap_begin(arg, e);
}

static void on_restored(void *ctx, const struct restic_result *r)
{
    struct data_op *o = ctx;
    o->restic = NULL;
    if (!r->ok) {
        data_fail(o, r->lasting, "%s", r->text);
        return;
    }
    o->i++;
    o->at--; /* the next directory */
    data_next(o);
}

static void on_begun(void *ctx, int status, const struct err *e)
{
    struct data_op *o = ctx;
    const struct swap *s = &o->swaps[o->i];
    char target[PATH_MAX + 16], pattern[2 * PATH_MAX + 16];
    o->work = NULL;
    if (status != 0) {
        data_fail(o, true, "%s", e->text);
        return;
    }
    snprintf(target, sizeof target, "--target=%s", s->part);
    int n = snprintf(pattern, sizeof pattern, "--include=");
    restic_pattern(s->path, pattern + n, sizeof pattern - (size_t)n);
    data_restic(o, (const char *const[]){"restore", o->found.id, target, pattern, NULL}, o->d->set->data.timeout_ms,
                on_restored);
}

static void step_restore(struct data_op *o)
{
    const struct swap *s = o->half ? NULL : next_missing(o);
    if (!s) {
        data_next(o);
        return;
    }
    if (!room_for(o, s))
        return;
    struct swap *copy = malloc(sizeof *copy);
    assert(copy && "out of memory for some work");
    *copy = *s;
    data_work(o, begin, copy, on_begun);
}

/* Where the restored directory is now. */
static void restored_at(const struct swap *s, char buf[static PATH_MAX])
{
    if (swap_state(s, buf) == SWAP_NOTHING)
        snprintf(buf, PATH_MAX, "%.2000s%.2000s", s->part, s->path);
}

static void on_compared(void *ctx, int status, const struct err *e)
{
    struct data_op *o = ctx;
    const struct hashing *h = o->hashing;
    const struct tree_sum *was = &o->found.sum;
    o->work = NULL;
    o->hashing = NULL;
    if (status != 0)
        data_fail(o, false, "%s", e->text);
    else if (*was->content && strcmp(h->sum.content, was->content) != 0)
        data_fail(o, true,
                  "what was restored of snapshot %.8s is not what was saved: nothing was replaced. Check the "
                  "repository (`restic check --read-data`)",
                  o->found.id);
    else if (*was->meta && strcmp(h->sum.meta, was->meta) != 0)
        data_fail(o, true,
                  "owners, modes, times or attributes of snapshot %.8s cannot be brought back by this service's "
                  "user: nothing was replaced. Run it as "
                  "the owner of the files, or as root",
                  o->found.id);
    else
        data_next(o);
}

static void step_compare(struct data_op *o)
{
    if (o->half) {
        data_next(o);
        return;
    }
    struct hashing *h = hashing_new(o, "");
    for (size_t i = 0; i < o->n_paths; i++)
        restored_at(&o->swaps[i], h->path[i]);
    h->dig = true;
    data_hash(o, h, on_compared);
}

/* ---- taking the place ---- */

struct placing {
    struct swap swaps[DATA_PATHS];
    size_t n;
};

static struct placing *placing_of(const struct data_op *o)
{
    struct placing *p = calloc(1, sizeof *p);
    assert(p && "out of memory for some work");
    memcpy(p->swaps, o->swaps, sizeof p->swaps);
    p->n = o->n_paths;
    return p;
}

static int stage(void *arg, const atomic_bool *stop, struct err *e)
{
    const struct placing *p = arg;
    char at[PATH_MAX];
    for (size_t i = 0; i < p->n; i++) {
        if (atomic_load(stop))
            return err_set(e, "it was cut short");
        if (swap_state(&p->swaps[i], at) != SWAP_NOTHING)
            continue;
        restored_at(&p->swaps[i], at);
        if (swap_stage(&p->swaps[i], at, e))
            return -1;
    }
    return 0;
}

static void step_stage(struct data_op *o)
{
    if (o->half)
        data_next(o);
    else
        data_work(o, stage, placing_of(o), data_worked);
}

static int place(void *arg, const atomic_bool *stop, struct err *e)
{
    const struct placing *p = arg;
    (void)stop; /* a few renames: they are done, whatever else ends */
    for (size_t i = 0; i < p->n; i++)
        if (swap_finish(&p->swaps[i], e))
            return -1;
    return 0;
}

static void step_place(struct data_op *o)
{
    o->half = true;
    data_work(o, place, placing_of(o), data_worked);
}

const data_step data_restore_steps[] = {step_paths, step_swaps,     step_look_up, step_found,
                                        step_pause, step_unlimited, step_restore, step_compare,
                                        step_stage, step_place,     data_end,     NULL};
