/* fallback_resources.c - what an agent still has to work with: work is shed by rungs, a restart asked for, then made; and back.
 *
 * Down: at once when it gets worse anew, else one rung for each `shed_step` that it stays exhausted. Up: one rung for each `shed_hold`
 * that it is well. What is neither (unknown, flapping, just above the low mark) holds the rung. */
#include "fallback/fallback_impl.h"
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define HOUR_MS 3600000

/* The ladder, from well to worst. */
enum rung { R_ALL, R_HALF, R_QUARTER, R_TENTH, R_ASKED, R_RESTARTING, RUNGS };
static const struct {
    int mode;
    uint32_t percent;
    bool asked; /* the agent is asked to restart itself */
    int step;   /* of the directive, going down */
} rungs[RUNGS] = {
    [R_ALL] = {FALLBACK_RESOURCES_OK, 100, false, FALLBACK_STEP_NONE},
    [R_HALF] = {FALLBACK_RESOURCES_SHEDDING, 50, false, FALLBACK_STEP_SHED_LOAD},
    [R_QUARTER] = {FALLBACK_RESOURCES_SHEDDING, 25, false, FALLBACK_STEP_SHED_LOAD},
    [R_TENTH] = {FALLBACK_RESOURCES_SHEDDING, 10, false, FALLBACK_STEP_SHED_LOAD},
    [R_ASKED] = {FALLBACK_RESOURCES_SHEDDING, 10, true, FALLBACK_STEP_REQUEST_RESTART},
    [R_RESTARTING] = {FALLBACK_RESOURCES_RESTARTING, 10, false, FALLBACK_STEP_RESTART},
};

static enum rung rung_of(const struct fallback_doc *d)
{
    if (d->resources == FALLBACK_RESOURCES_RESTARTING)
        return R_RESTARTING;
    if (d->restart_requested)
        return R_ASKED;
    enum rung r = R_ALL;
    while (r < R_TENTH && rungs[r].percent > d->shed_percent)
        r++;
    return r;
}

static void set_rung(struct turn *t, enum rung r)
{
    struct fallback_doc *d = t->d;
    d->resources = rungs[r].mode;
    d->shed_percent = rungs[r].percent;
    d->restart_requested = rungs[r].asked;
    d->resources_since_ms = t->now_ms;
    if (r != R_RESTARTING)
        d->restart_id[0] = '\0';
}

/* Health calls it DEGRADED while a resource is over its mark, and UNHEALTHY when the agent was killed for it. Of its life only the latter counts:
 * one that is stuck is DEGRADED as well, and less work would not help it. */
static bool used_up(const struct fallback_verdict *v)
{
    return v && v->epoch > 0 && v->failure == FALLBACK_FAILURE_RESOURCE &&
           (v->health == FALLBACK_HEALTH_UNHEALTHY || v->health == FALLBACK_HEALTH_DEGRADED);
}

/* The verdict that says that it is exhausted; NULL = none does. */
static const struct fallback_verdict *exhausted(const struct fallback_verdict *resources,
                                                const struct fallback_verdict *life)
{
    return used_up(resources) ? resources : fallback_verdict_is(life, FALLBACK_FAILURE_RESOURCE) ? life : NULL;
}

bool fallback_no_resources(const struct fallback_view *v)
{
    return exhausted(v->resources, v->verdict) != NULL;
}

/* Since when it is well; 0 = it is not, or not for sure. The verdict on its resources counts; without one, that on its life. */
static int64_t well_since(const struct turn *t)
{
    const struct fallback_verdict *v =
        t->seen.resources && t->seen.resources->epoch > 0 ? t->seen.resources : t->view->verdict;
    if (!v || v->epoch == 0 || v->health != FALLBACK_HEALTH_HEALTHY)
        return 0;
    return v->since_ms > 0 ? v->since_ms : 1;
}

/* ---- restarts ---- */

static void forget_old_restarts(struct turn *t)
{
    struct fallback_doc *d = t->d;
    size_t old = 0;
    while (old < d->n_restarts && d->restarts_ms[old] <= t->now_ms - HOUR_MS)
        old++;
    d->n_restarts -= old;
    memmove(d->restarts_ms, d->restarts_ms + old, d->n_restarts * sizeof *d->restarts_ms);
    memset(d->restarts_ms + d->n_restarts, 0, old * sizeof *d->restarts_ms);
}

static void people_must(struct turn *t, const char *why)
{
    if (!fallback_told(t, FALLBACK_NOTICE_RESTART))
        fallback_raise(t, FALLBACK_NOTICE_RESTART, "%s must be restarted by hand, its resources are used up: %.300s",
                       t->rule->agent, why);
}

static void restart(struct turn *t, int64_t since_ms)
{
    struct fallback_doc *d = t->d;
    char why[160];
    if (fallback_drilled(t, FALLBACK_FAILURE_RESOURCE))
        return; /* a drill goes no further than asking the agent */
    if (!t->rule->may_restart || t->rule->restarts_per_hour == 0) {
        people_must(t, "it did not restart itself, and no executor is allowed to");
        return;
    }
    forget_old_restarts(t);
    if (d->n_restarts >= t->rule->restarts_per_hour || d->n_restarts >= FALLBACK_RESTARTS_MAX) {
        snprintf(why, sizeof why, "restarted %zu times within the last hour, which did not help", d->n_restarts);
        people_must(t, why);
        fallback_wake(t, d->restarts_ms[d->n_restarts - t->rule->restarts_per_hour] + HOUR_MS);
        return;
    }
    set_rung(t, R_RESTARTING);
    d->restarts_ms[d->n_restarts++] = t->now_ms;
    snprintf(d->restart_id, sizeof d->restart_id, "%s-restart-%" PRIu64, t->rule->agent, d->epoch + 1);
    t->f->run.restarting = true;
    struct fallback_effect *e = fallback_effect_add(t, FALLBACK_RESTART);
    snprintf(e->key, sizeof e->key, "%s", d->restart_id);
    fallback_record(t, "agent.restart", true, NULL, "restart %zu within the hour, id %s", d->n_restarts,
                    d->restart_id);
    fallback_change(
        t, FALLBACK_STEP_RESTART, FALLBACK_FAILURE_RESOURCE, "", since_ms,
        "still exhausted with 10 %% of its work, and it did not restart itself: restarted by the executor");
    fallback_raise(t, FALLBACK_NOTICE_RESOURCES,
                   "%s has no resources left: it is being restarted (%zu of %u an hour)", t->rule->agent,
                   d->n_restarts, t->rule->restarts_per_hour);
}

/* What follows a restart: the agent's resources tell whether it helped. */
static void restarted(struct turn *t, bool failed, const char *how)
{
    struct fallback_doc *d = t->d;
    char id[FALLBACK_KEY_TEXT];
    memcpy(id, d->restart_id, sizeof id);
    bool strict = failed || !t->view->may_loosen;
    t->f->run.restarting = false;
    set_rung(t, strict ? R_ASKED : R_TENTH);
    fallback_record(t, "agent.restart", true, NULL, "restart %s %.300s", id, how);
    fallback_change(t, strict ? FALLBACK_STEP_REQUEST_RESTART : FALLBACK_STEP_SHED_LOAD, FALLBACK_FAILURE_RESOURCE,
                    "", 0, "the restart %.300s", how);
    if (failed)
        people_must(t, how);
}

void fallback_on_restarted(struct turn *t)
{
    char how[FALLBACK_REASON_TEXT];
    if (t->d->resources != FALLBACK_RESOURCES_RESTARTING || strcmp(t->ev->key, t->d->restart_id) != 0)
        return; /* of one that is history */
    snprintf(how, sizeof how, "has failed: %.280s", t->ev->detail);
    restarted(t, t->ev->failed, t->ev->failed ? how : "was made");
}

/* ---- down and up ---- */

static void shed(struct turn *t, enum rung r, const struct fallback_verdict *v)
{
    set_rung(t, r);
    if (r == R_ASKED) {
        fallback_change(t, rungs[r].step, FALLBACK_FAILURE_RESOURCE, "", v->since_ms,
                        "still exhausted with 10 %% of its work: it shall restart itself");
        fallback_raise(t, FALLBACK_NOTICE_RESOURCES,
                       "%s has no resources left (%.250s): it was asked to restart itself", t->rule->agent,
                       v->reason);
    } else {
        fallback_change(t, rungs[r].step, FALLBACK_FAILURE_RESOURCE, "", v->since_ms,
                        "resources used up: it takes on %u %% of its work (%.200s)", rungs[r].percent, v->reason);
        fallback_raise(t, FALLBACK_NOTICE_RESOURCES, "%s has no resources left (%.250s): its work is cut to %u %%",
                       t->rule->agent, v->reason, rungs[r].percent);
    }
}

static void worse(struct turn *t, enum rung r, const struct fallback_verdict *v)
{
    struct fallback_doc *d = t->d;
    int64_t since = v->since_ms < t->now_ms ? v->since_ms : t->now_ms; /* another clock may be ahead */
    /* Who was asked to restart is given its time for it. */
    bool relapse = r == R_ALL || (r < R_ASKED && since > d->resources_since_ms);
    int64_t at = relapse ? t->now_ms : d->resources_since_ms + t->rule->shed_step_ms;
    if (t->now_ms < at) {
        fallback_wake(t, at);
        return;
    }
    if (r == R_ASKED)
        restart(t, since);
    else
        shed(t, r + 1, v);
    if (t->learn)
        fallback_wake(t, t->now_ms + t->rule->shed_step_ms);
}

static void better(struct turn *t, enum rung r, int64_t since_ms)
{
    struct fallback_doc *d = t->d;
    int64_t from = since_ms > d->resources_since_ms ? since_ms : d->resources_since_ms;
    int64_t at = r == R_ASKED ? t->now_ms : from + t->rule->shed_hold_ms;
    if (t->now_ms < at) {
        fallback_wake(t, at);
        return;
    }
    if (!t->view->may_loosen)
        return;
    set_rung(t, r - 1);
    fallback_resolve(t, FALLBACK_NOTICE_RESTART, "%s has resources again", t->rule->agent);
    if (d->resources == FALLBACK_RESOURCES_OK) {
        fallback_change(t, FALLBACK_STEP_RESTORE_LOAD, FALLBACK_FAILURE_NONE, "", 0,
                        "recovery successful: it takes on all of its work again");
        fallback_resolve(t, FALLBACK_NOTICE_RESOURCES, "%s: recovery successful, it takes on all of its work again",
                         t->rule->agent);
    } else {
        fallback_change(t, FALLBACK_STEP_RESTORE_LOAD, FALLBACK_FAILURE_RESOURCE, "", 0,
                        "resources are well again: it takes on %u %% of its work", d->shed_percent);
        fallback_wake(t, t->now_ms + t->rule->shed_hold_ms);
    }
}

void fallback_settle_resources(struct turn *t)
{
    struct fallback_doc *d = t->d;
    enum rung r = rung_of(d);
    const struct fallback_verdict *bad = exhausted(t->seen.resources, t->view->verdict);
    int64_t well = well_since(t);
    if (t->drill_real == FALLBACK_FAILURE_RESOURCE && bad && r != R_ALL) {
        shed(t, r < R_RESTARTING ? r : R_TENTH, bad); /* people and agent must know that it is no drill any more */
        return;
    }
    if (r == R_RESTARTING) {
        int64_t at = d->resources_since_ms + t->rule->shed_step_ms;
        if (t->f->run.restarting)
            return; /* its end will be told */
        if (t->now_ms >= at)
            restarted(t, false, "was under way when this service was restarted: how it ended is not known");
        else
            fallback_wake(t, at);
    } else if (bad) {
        worse(t, r, bad);
    } else if (well > 0 && r != R_ALL) {
        better(t, r, well);
    }
}

void fallback_settle_load(struct turn *t)
{
    struct fallback_doc *d = t->d;
    d->load_percent = d->shed_percent < d->return_percent ? d->shed_percent : d->return_percent;
}
