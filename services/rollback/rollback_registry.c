/* rollback_registry.c - the versions of a deployment: recorded, verified, kept, chosen; and the snapshots of its learning data. Pure. */
#include "rollback/rollback_impl.h"
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define KEEPS_A_TURN 4 /* the rest follows with the next look */

struct rollback_version *rollback_find(struct rollback_doc *d, const char *id)
{
    for (size_t i = 0; *id && i < d->n_versions; i++)
        if (strcmp(d->versions[i].id, id) == 0)
            return &d->versions[i];
    return NULL;
}

static const struct rollback_version *find(const struct rollback_doc *d, const char *id)
{
    for (size_t i = 0; *id && i < d->n_versions; i++)
        if (strcmp(d->versions[i].id, id) == 0)
            return &d->versions[i];
    return NULL;
}

const char *rollback_name(const struct rollback_doc *d, const char *id)
{
    const struct rollback_version *v = find(d, id);
    return v && v->name[0] ? v->name : *id ? id : "nothing";
}

/* By id, or the newest of that name. */
static const struct rollback_version *by_name(const struct rollback_doc *d, const char *name)
{
    const struct rollback_version *v = find(d, name);
    for (size_t i = d->n_versions; !v && i-- > 0;)
        if (strcmp(d->versions[i].name, name) == 0)
            v = &d->versions[i];
    return v;
}

/* ---- choosing ---- */

static bool is_listed(const struct rollback_rule *rule, const struct rollback_version *v)
{
    for (size_t i = 0; i < rule->n_rejected; i++)
        if (strcmp(rule->rejected[i], v->id) == 0 || strcmp(rule->rejected[i], v->name) == 0)
            return true;
    return false;
}

static bool has_floor(const struct rollback_rule *rule)
{
    return rule->floor && *rule->floor;
}

__attribute__((format(printf, 3, 4))) static bool no(char *why, size_t size, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(why, size, fmt, ap);
    va_end(ap);
    return false;
}

/* Would it be gone back to without force? */
static bool fit(const struct rollback_doc *d, const struct rollback_rule *rule, const struct rollback_version *v,
                char *why, size_t size)
{
    const struct rollback_version *floor = has_floor(rule) ? by_name(d, rule->floor) : NULL;
    if (has_floor(rule) && !floor)
        return no(why, size,
                  "the floor `%s` is not among the known versions, so nobody can say what is below it: correct "
                  "`floor`, or force it with a reason",
                  rule->floor);
    if (floor && v != floor && v->recorded_ms < floor->recorded_ms)
        return no(why, size,
                  "%s is below the floor %s (the minimum secure version): choose a later one, or force it with "
                  "a reason",
                  v->name, floor->name);
    if (is_listed(rule, v))
        return no(why, size, "%s is one of the `rejected` versions: choose another, or force it with a reason",
                  v->name);
    if (v->state == VERSION_STATE(REJECTED))
        return no(why, size, "%s is rejected (%.200s): choose another, or force it with a reason", v->name,
                  v->reason);
    if (v->state != VERSION_STATE(VERIFIED))
        return no(why, size, "%s was never verified: choose another, or force it with a reason", v->name);
    if (v->gaps)
        return no(why, size,
                  "something of %s could not be recorded (versions shows what): it would not come back as it was; "
                  "choose another, or force it with a reason",
                  v->name);
    return true;
}

static void list_known(const struct rollback_doc *d, char *buf, size_t size)
{
    size_t n = 0;
    buf[0] = '\0';
    for (size_t i = d->n_versions; i-- > 0 && n < size;) {
        int len = snprintf(buf + n, size - n, "%s%s (%s)", n ? ", " : "", d->versions[i].name, d->versions[i].id);
        n += len > 0 ? (size_t)len : 0;
    }
}

/* What a person means by an id or a name: of several with one name the newest that can be gone back to, since a change of the configuration on its own, and be it
 * one that was seen half made, gives a version of its own. If none can, the newest: what is against it is said. */
static const struct rollback_version *meant(const struct rollback_doc *d, const struct rollback_rule *rule,
                                            const char *name)
{
    char why[ROLLBACK_WHY];
    const struct rollback_version *v = find(d, name);
    for (size_t i = d->n_versions; !v && i-- > 0;) {
        const struct rollback_version *x = &d->versions[i];
        if (strcmp(x->name, name) == 0 && strcmp(x->id, d->current) != 0 && fit(d, rule, x, why, sizeof why))
            v = x;
    }
    return v ? v : by_name(d, name);
}

const struct rollback_version *rollback_choose(const struct rollback_doc *d, const struct rollback_rule *rule,
                                               const char *name, bool force, char *why, size_t size)
{
    char known[320], reason[ROLLBACK_WHY] = "";
    if (*name) {
        const struct rollback_version *v = meant(d, rule, name);
        if (!v) {
            list_known(d, known, sizeof known);
            no(why, size, "no version `%.128s` is known; known are: %s", name, *known ? known : "none yet");
            return NULL;
        }
        if (strcmp(v->id, d->current) == 0) {
            no(why, size, "%s is what runs now: choose another", v->name);
            return NULL;
        }
        return force || fit(d, rule, v, why, size) ? v : NULL;
    }
    const struct rollback_version *best = NULL;
    for (size_t i = 0; i < d->n_versions; i++) {
        const struct rollback_version *v = &d->versions[i];
        if (strcmp(v->id, d->current) == 0 || !fit(d, rule, v, reason, sizeof reason))
            continue;
        if (rollback_version_broken(v))
            no(reason, sizeof reason, "%s cannot be brought up (%s)", v->name, v->broken);
        else if (!best || v->verified_ms >= best->verified_ms)
            best = v;
    }
    if (!best)
        no(why, size, "there is no verified version to go back to%s%s: name one, and force it with a reason",
           reason[0] ? ": " : "", reason);
    return best;
}

/* ---- keeping ---- */

static bool to_be_kept(const struct rollback_doc *d, const struct rollback_rule *rule,
                       const struct rollback_version *v)
{
    unsigned newer = 0;
    if (v->state != VERSION_STATE(VERIFIED))
        return false;
    if (strcmp(v->id, d->current) == 0)
        return true;
    for (size_t i = 0; i < d->n_versions; i++) {
        const struct rollback_version *o = &d->versions[i];
        newer += o != v && o->state == VERSION_STATE(VERIFIED) && strcmp(o->id, d->current) != 0 &&
                 (o->verified_ms > v->verified_ms || (o->verified_ms == v->verified_ms && o > v));
    }
    return newer < rule->keep;
}

void rollback_keep(struct turn *t)
{
    struct rollback_doc *d = t->d;
    unsigned n = 0;
    if (rollback_busy(d))
        return; /* what a job needs is not taken from it */
    for (size_t i = 0; i < d->n_versions && n < KEEPS_A_TURN; i++) {
        struct rollback_version *v = &d->versions[i];
        bool keep = to_be_kept(d, t->rule, v);
        if (keep == v->kept)
            continue;
        const struct rollback_lineage *l = keep ? rollback_snapshot_of(d, v->id, INT64_MAX) : NULL;
        struct rollback_effect *e = rollback_effect_add(t, ROLLBACK_KEEP);
        snprintf(e->version, sizeof e->version, "%s", v->id);
        snprintf(e->snapshot, sizeof e->snapshot, "%s", l ? l->snapshot : "");
        e->keep = v->kept = keep;
        d->watch.kept_due_ms = 0;
        t->changed = true;
        n++;
    }
}

/* Room for one more: the oldest goes that is neither kept, nor runs, nor is the floor. */
static bool make_room(struct turn *t)
{
    struct rollback_doc *d = t->d;
    const struct rollback_version *floor = has_floor(t->rule) ? by_name(d, t->rule->floor) : NULL;
    size_t i = 0;
    if (d->n_versions < ROLLBACK_VERSIONS)
        return true;
    while (i < d->n_versions && (d->versions[i].kept || to_be_kept(d, t->rule, &d->versions[i]) ||
                                 strcmp(d->versions[i].id, d->current) == 0 || &d->versions[i] == floor))
        i++;
    if (i == d->n_versions)
        return false;
    memmove(&d->versions[i], &d->versions[i + 1], (d->n_versions - i - 1) * sizeof d->versions[0]);
    d->n_versions--;
    return true;
}

/* ---- what runs now ---- */

static struct rollback_version *record(struct turn *t, const struct rollback_version *found)
{
    struct rollback_doc *d = t->d;
    if (!make_room(t))
        return NULL;
    struct rollback_version *v = &d->versions[d->n_versions++];
    *v = (struct rollback_version){.data_schema = found->data_schema,
                                   .state = VERSION_STATE(RECORDED),
                                   .recorded_ms = t->now_ms,
                                   .gaps = found->gaps};
    memcpy(v->id, found->id, sizeof v->id);
    snprintf(v->name, sizeof v->name, "%s", found->name[0] ? found->name : found->id);
    memcpy(v->digest, found->digest, sizeof v->digest);
    memcpy(v->config_hash, found->config_hash, sizeof v->config_hash);
    t->changed = true;
    return v;
}

/* Others have deployed. What they deploy is theirs, and has a chance, also if a rollback brought it or left it before. */
void rollback_watch_anew(struct turn *t)
{
    if (t->d->watch.worse)
        rollback_resolve(t, ROLLBACK_NOTICE_REGRESSION);
    t->d->watch.worse = t->d->watch.well = false;
}

static void becomes_current(struct turn *t, struct rollback_version *v)
{
    struct rollback_doc *d = t->d;
    struct rollback_version *last = rollback_find(d, d->current);
    if (last) {
        last->healthy_since_ms = 0;
        if (last->state == VERSION_STATE(RECORDED) && last->verified_ms)
            last->state = VERSION_STATE(VERIFIED); /* it had been, before it was deployed for the last time */
    }
    memcpy(d->current, v->id, sizeof d->current);
    v->state = VERSION_STATE(RECORDED);
    v->healthy_since_ms = 0;
    v->by_job[0] = v->reason[0] = '\0';
    rollback_watch_anew(t);
    t->changed = true;
}

static void verify(struct turn *t, struct rollback_version *v, bool well)
{
    if (!well) {
        if (v->healthy_since_ms && v->state != VERSION_STATE(VERIFIED)) {
            v->healthy_since_ms = 0; /* in a row */
            t->changed = true;
        }
        return;
    }
    if (!v->healthy_since_ms || v->healthy_since_ms > t->now_ms) {
        v->healthy_since_ms = t->now_ms;
        t->changed = true;
    }
    if (v->state == VERSION_STATE(RECORDED) && rollback_over(t, v->healthy_since_ms, t->rule->settle_ms)) {
        v->state = VERSION_STATE(VERIFIED);
        v->verified_ms = t->now_ms;
        t->changed = true;
    }
}

static void strays(struct turn *t)
{
    const struct rollback_sight *s = t->ev->u.seen.sight;
    struct rollback_doc *d = t->d;
    if (!s || !s->executor_known)
        return;
    unsigned beside = 0;
    for (int i = 0; i < 2; i++)
        if (s->side[i].instances && strcmp(s->side[i].version, d->current) != 0)
            beside += s->side[i].instances;
    if (s->strays + beside > 0 && !d->watch.strays) {
        rollback_raise(t, ROLLBACK_NOTICE_STRAYS, false,
                       "%s: %u instances stand beside what runs, and no job needs them: remove them", d->deployment,
                       s->strays + beside);
        d->watch.strays = true;
        d->watch.no_strays = false;
    } else if (s->strays + beside == 0 && !d->watch.no_strays) {
        rollback_resolve(t, ROLLBACK_NOTICE_STRAYS);
        d->watch.strays = false;
        d->watch.no_strays = true;
    }
}

/* Deployed by others, and not long ago. */
static bool is_new(const struct turn *t, const struct rollback_version *v)
{
    if (v->by_job[0])
        return false;
    return v->state == VERSION_STATE(RECORDED) ||
           (v->state == VERSION_STATE(VERIFIED) && !rollback_over(t, v->verified_ms, t->rule->automatic_ms));
}

static void regress(struct turn *t, const struct rollback_version *v)
{
    struct rollback_doc *d = t->d;
    const char *what = t->ev->u.seen.why && *t->ev->u.seen.why ? t->ev->u.seen.why : "its checks";
    char why[ROLLBACK_WHY] = "", reason[ROLLBACK_WHY];
    if (!t->ev->u.seen.worse) {
        if (t->ev->u.seen.checks_passed && !d->watch.well) {
            rollback_resolve(t, ROLLBACK_NOTICE_REGRESSION);
            d->watch.well = true;
            d->watch.worse = false;
        }
        return;
    }
    bool told = d->watch.worse;
    d->watch.well = false;
    if (t->rule->automatic && is_new(t, v)) {
        snprintf(reason, sizeof reason, "regression of %s: %.300s", v->name, what);
        if (rollback_start_by_policy(t, reason, why, sizeof why))
            return; /* the job says it; if it comes to nothing, it is told then */
    }
    d->watch.worse = true;
    if (!told)
        rollback_raise(t, ROLLBACK_NOTICE_REGRESSION, false, "%s: %s is worse than it should be: %.250s%s%s",
                       d->deployment, v->name, what, why[0] ? ". No rollback was started: " : "", why);
}

void rollback_on_seen(struct turn *t)
{
    struct rollback_doc *d = t->d;
    const struct rollback_version *found = t->ev->u.seen.version;
    if (rollback_busy(d) || !found || !found->id[0])
        return;
    struct rollback_version *v = rollback_find(d, found->id);
    if (!v)
        v = record(t, found);
    if (!v)
        return;
    if (strcmp(d->current, v->id) != 0)
        becomes_current(t, v);
    if (v->gaps != found->gaps) {
        v->gaps = found->gaps;
        t->changed = true;
    }
    verify(t, v, t->ev->u.seen.healthy && t->ev->u.seen.checks_passed);
    strays(t);
    rollback_keep(t);
    regress(t, v);
    if (!rollback_busy(d))
        rollback_rest(t, t->ev->u.seen.sight);
}

/* ---- learning data ---- */

const struct rollback_lineage *rollback_snapshot_of(const struct rollback_doc *d, const char *version,
                                                    int64_t before_ms)
{
    const struct rollback_lineage *best = NULL;
    for (size_t i = 0; i < d->n_lineage; i++) {
        const struct rollback_lineage *l = &d->lineage[i];
        if (l->verified && l->taken_ms < before_ms && (!version || strcmp(l->version, version) == 0) &&
            (!best || l->taken_ms > best->taken_ms))
            best = l;
    }
    return best;
}

/* The last one that goes, when there is no room: not the only one that a known version can be restored from. */
static size_t to_forget(const struct rollback_doc *d)
{
    for (size_t i = d->n_lineage; i-- > 0;) {
        const struct rollback_lineage *l = &d->lineage[i];
        if (!find(d, l->version) || rollback_snapshot_of(d, l->version, INT64_MAX) != l)
            return i;
    }
    return d->n_lineage - 1;
}

void rollback_lineage_add(struct turn *t, const struct rollback_lineage *l)
{
    struct rollback_doc *d = t->d;
    struct rollback_effect *e;
    for (size_t i = 0; i < d->n_lineage; i++)
        if (strcmp(d->lineage[i].snapshot, l->snapshot) == 0)
            return; /* found again after a crash */
    if (d->n_lineage == ROLLBACK_LINEAGE) {
        size_t i = to_forget(d);
        e = rollback_effect_add(t, ROLLBACK_KEEP);
        memcpy(e->snapshot, d->lineage[i].snapshot, sizeof e->snapshot);
        memmove(&d->lineage[i], &d->lineage[i + 1], (d->n_lineage - i - 1) * sizeof d->lineage[0]);
        d->n_lineage--;
    }
    memmove(&d->lineage[1], &d->lineage[0], d->n_lineage * sizeof d->lineage[0]);
    d->lineage[0] = *l;
    d->n_lineage++;
    if (!d->lineage[0].version[0]) {
        const struct rollback_version *from = find(d, t->j->from);
        memcpy(d->lineage[0].version, t->j->from, sizeof d->lineage[0].version);
        snprintf(d->lineage[0].name, sizeof d->lineage[0].name, "%s", rollback_name(d, t->j->from));
        d->lineage[0].data_schema = from ? from->data_schema : 0;
    }
    if (!d->lineage[0].job[0])
        memcpy(d->lineage[0].job, t->j->id, sizeof d->lineage[0].job);
    e = rollback_effect_add(t, ROLLBACK_KEEP);
    memcpy(e->snapshot, l->snapshot, sizeof e->snapshot);
    e->keep = true;
    t->changed = true;
}
