/* rollback_kept.c - kept versions: could they still be brought up? What is due, what was found, what is said about it. Pure.
 *
 * Marks protect what is kept only from those who heed them. What has been taken all the same is found while there is time to get it back, and not when it
 * is needed. A version that could not be brought up is not chosen by itself; by its name it is tried, and PREPARE decides. */
#include "rollback/rollback_impl.h"
#include <stdio.h>
#include <string.h>

#define AGAIN_MS 60000 /* what was not known is asked again */

/* Kept for the way back: not what runs. */
static bool stands_by(const struct rollback_doc *d, const struct rollback_version *v)
{
    return v->kept && strcmp(v->id, d->current) != 0;
}

bool rollback_kept_due(const struct rollback_doc *d, const struct rollback_rule *rule, int64_t now_ms)
{
    bool any = false, over = false;
    if (rollback_busy(d))
        return false;
    for (size_t i = 0; i < d->n_versions; i++) {
        const struct rollback_version *v = &d->versions[i];
        any |= stands_by(d, v);
        over |= v->broken[0] && (!stands_by(d, v) || rule->check_kept_ms <= 0);
    }
    if (over)
        return true; /* nothing is to be asked, but it is to be told */
    int64_t wait_ms = d->watch.kept_due_ms - now_ms;
    return any && rule->check_kept_ms > 0 && (wait_ms <= 0 || wait_ms > rule->check_kept_ms);
}

size_t rollback_kept_list(const struct rollback_doc *d, const struct rollback_rule *rule,
                          struct rollback_finding out[static ROLLBACK_VERSIONS])
{
    size_t n = 0;
    for (size_t i = 0; i < d->n_versions && rule->check_kept_ms > 0; i++) {
        const struct rollback_version *v = &d->versions[i];
        if (!stands_by(d, v))
            continue;
        const struct rollback_lineage *l = rollback_snapshot_of(d, v->id, INT64_MAX);
        out[n] = (struct rollback_finding){.snapshot_known = !l};
        memcpy(out[n].version, v->id, sizeof out[n].version);
        snprintf(out[n].snapshot, sizeof out[n].snapshot, "%s", l ? l->snapshot : "");
        n++;
    }
    return n;
}

/* Something that is not known now is as it was. */
static void take(struct turn *t, struct rollback_version *v, const struct rollback_finding *f)
{
    char broken[ROLLBACK_BROKEN] = "";
    bool was_start = v->broken[0] && !v->snapshot_gone, data_only = false;
    if (f->known ? f->broken : was_start) {
        snprintf(broken, sizeof broken, "%s", f->known ? *f->why ? f->why : "it cannot be brought up" : v->broken);
    } else if (f->snapshot_known ? f->snapshot_gone : v->snapshot_gone) {
        data_only = true;
        if (f->snapshot_known)
            snprintf(broken, sizeof broken,
                     "its snapshot %.12s is not in the repository any more: its data could not be restored, only "
                     "kept as they "
                     "are. Get it back, or save again while this version runs",
                     f->snapshot);
        else
            memcpy(broken, v->broken, sizeof broken);
    }
    if (strcmp(broken, v->broken) == 0 && data_only == v->snapshot_gone)
        return;
    memcpy(v->broken, broken, sizeof v->broken);
    v->snapshot_gone = data_only;
    t->changed = true;
}

static void forget(struct turn *t, struct rollback_version *v)
{
    t->changed |= v->broken[0] || v->snapshot_gone;
    v->broken[0] = '\0';
    v->snapshot_gone = false;
}

static bool none_left(const struct rollback_doc *d)
{
    for (size_t i = 0; i < d->n_versions; i++)
        if (stands_by(d, &d->versions[i]) && !rollback_version_broken(&d->versions[i]))
            return false;
    return true;
}

bool rollback_version_broken(const struct rollback_version *v)
{
    return v->broken[0] && !v->snapshot_gone;
}

/* Alerts go by names: the newest broken version of that name. NULL if none is. */
static const struct rollback_version *broken_of(const struct rollback_version *all, size_t n, const char *name)
{
    for (size_t i = n; i-- > 0;)
        if (all[i].broken[0] && strcmp(all[i].name, name) == 0)
            return &all[i];
    return NULL;
}

static bool is_first_of_name(const struct rollback_doc *d, size_t at)
{
    for (size_t i = 0; i < at; i++)
        if (strcmp(d->versions[i].name, d->versions[at].name) == 0)
            return false;
    return true;
}

static bool name_stands_by(const struct rollback_doc *d, const char *name)
{
    for (size_t i = 0; i < d->n_versions; i++)
        if (strcmp(d->versions[i].name, name) == 0 && stands_by(d, &d->versions[i]))
            return true;
    return false;
}

static void say(struct turn *t, const struct rollback_version *x, bool high)
{
    rollback_raise(t, ROLLBACK_NOTICE_KEPT, false, "%s: kept version %.128s %s%s: %s", t->d->deployment, x->name,
                   x->snapshot_gone ? "has lost its data" : "cannot be brought up any more",
                   high ? ", and no other one is left to go back to" : "", x->broken);
    t->out[t->n - 1].high = high;
    memcpy(t->out[t->n - 1].version, x->id, sizeof x->id);
}

void rollback_on_kept(struct turn *t)
{
    struct rollback_doc *d = t->d;
    struct rollback_version was[ROLLBACK_VERSIONS];
    bool told = d->watch.kept_told, again = false;
    size_t n = d->n_versions;
    if (rollback_busy(d))
        return; /* asked anew after it */
    memcpy(was, d->versions, n * sizeof was[0]);
    for (size_t i = 0; i < n; i++)
        if (!stands_by(d, &d->versions[i]) || t->rule->check_kept_ms <= 0)
            forget(t, &d->versions[i]);
    for (size_t i = 0; i < t->ev->u.kept.n; i++) {
        const struct rollback_finding *f = &t->ev->u.kept.finding[i];
        struct rollback_version *v = rollback_find(d, f->version);
        if (v && stands_by(d, v))
            take(t, v, f);
        again |= !f->known || !f->snapshot_known;
    }
    bool high = none_left(d);
    for (size_t i = 0; i < n; i++) {
        const char *name = d->versions[i].name;
        if (!is_first_of_name(d, i))
            continue;
        const struct rollback_version *is = broken_of(d->versions, n, name), *before = broken_of(was, n, name);
        if (is && (!told || !before || strcmp(is->broken, before->broken) != 0 || high != d->watch.kept_high)) {
            say(t, is, high);
        } else if (!is && (before || (!told && name_stands_by(d, name)))) {
            rollback_resolve(t, ROLLBACK_NOTICE_KEPT);
            memcpy(t->out[t->n - 1].version, d->versions[i].id, sizeof d->versions[i].id);
        }
    }
    d->watch.kept_told = true;
    d->watch.kept_high = high;
    int64_t in_ms = again && t->rule->check_kept_ms > AGAIN_MS ? AGAIN_MS : t->rule->check_kept_ms;
    if (t->ev->u.kept.n > 0)
        d->watch.kept_due_ms = t->now_ms + in_ms;
}
