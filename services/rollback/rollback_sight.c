/* rollback_sight.c - what executor and traffic say, as the decider sees it: two sides, and what belongs to neither. Pure.
 *
 * A side has one version: the job's if it stands there; otherwise the one with the most ready, then running, then other instances. What the
 * service itself has made for another job and left is nobody's: a stray. What others have deployed is never a stray. */
#include "rollback/rollback_sight.h"
#include <stdio.h>
#include <string.h>

static bool on_side(const struct executor_instance *i, int side)
{
    return i->side == side;
}

static bool ours(const struct executor_instance *i)
{
    return i->job[0];
}

/* Left by a job that is not under way: it counts only when there is no job, because then it is what the last job has brought. */
static bool left_over(const struct executor_instance *i, const struct sight_job *job)
{
    return job->id && ours(i) && strcmp(i->job, job->id) != 0;
}

struct tally {
    unsigned ready, running, all;
};

static struct tally tally(const struct executor_view *v, int side, const char *version)
{
    struct tally t = {0};
    for (size_t i = 0; i < v->n; i++) {
        const struct executor_instance *x = &v->instances[i];
        if (!on_side(x, side) || strcmp(x->version, version) != 0)
            continue;
        t.all++;
        t.running += x->running;
        t.ready += x->running && x->ready;
    }
    return t;
}

static bool more(struct tally a, struct tally b)
{
    if (a.ready != b.ready)
        return a.ready > b.ready;
    if (a.running != b.running)
        return a.running > b.running;
    return a.all > b.all;
}

static const char *version_of(const struct executor_view *v, int side, const struct sight_job *job)
{
    const char *best = "";
    struct tally most = {0};
    if (job->id && job->version[side] && job->version[side][0] && tally(v, side, job->version[side]).all > 0)
        return job->version[side];
    for (size_t i = 0; i < v->n; i++) {
        const struct executor_instance *x = &v->instances[i];
        if (!on_side(x, side) || left_over(x, job))
            continue;
        struct tally t = tally(v, side, x->version);
        if (!best[0] || more(t, most)) {
            best = x->version;
            most = t;
        }
    }
    return best;
}

bool rollback_sight_counts(const struct rollback_sight *s, const struct executor_instance *i)
{
    return (i->side == 0 || i->side == 1) && s->side[i->side].version[0] &&
           strcmp(s->side[i->side].version, i->version) == 0;
}

static void add(struct rollback_side *side, const struct executor_instance *x)
{
    side->instances++;
    side->running += x->running;
    side->ready += x->running && x->ready;
    if (!(x->running && x->ready) && !side->why[0])
        snprintf(side->why, sizeof side->why, "%.60s: %.90s", x->name[0] ? x->name : x->handle,
                 x->why[0]    ? x->why
                 : x->running ? "not ready"
                              : "not running");
    if (!side->job[0])
        snprintf(side->job, sizeof side->job, "%s", x->job);
}

static void explain(struct rollback_sight *out, const struct executor_view *v, const struct traffic_view *t)
{
    const char *a = v->ok ? "" : v->error && *v->error ? v->error : "the executor does not say what stands";
    const char *b = !t || t->ok ? "" : t->error && *t->error ? t->error : "the traffic does not say how it is shared";
    snprintf(out->error, sizeof out->error, "%.*s%s%.*s", *b ? 125 : 255, a, *a && *b ? "; " : "", *a ? 125 : 255, b);
}

void rollback_sight_make(struct rollback_sight *out, const struct executor_view *v, const struct traffic_view *t,
                         const struct sight_job *job)
{
    *out = (struct rollback_sight){.executor_known = v->ok, .traffic_known = t && t->ok};
    out->nobody = out->traffic_known ? t->nobody : 0;
    for (int side = 0; side < 2; side++) {
        out->side[side].share = out->traffic_known ? t->share[side] : -1;
        out->side[side].sessions = out->traffic_known ? t->sessions[side] : 0;
        if (v->ok)
            snprintf(out->side[side].version, sizeof out->side[side].version, "%s", version_of(v, side, job));
    }
    for (size_t i = 0; v->ok && i < v->n; i++) {
        const struct executor_instance *x = &v->instances[i];
        if (rollback_sight_counts(out, x))
            add(&out->side[x->side], x);
        else if (ours(x))
            out->strays++;
    }
    explain(out, v, t);
}

int rollback_sight_current(const struct rollback_sight *s)
{
    const struct rollback_side *a = &s->side[0], *b = &s->side[1];
    bool there[2] = {a->instances > 0, b->instances > 0};
    if (!there[0] || !there[1])
        return there[0] ? 0 : there[1] ? 1 : -1;
    if (s->traffic_known && a->share != b->share)
        return b->share > a->share;
    return b->ready > a->ready;
}
