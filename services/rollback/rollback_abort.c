/* rollback_abort.c - ABORTING: everything that the job has changed is undone, in the order that never leaves less capacity than needed. */
#include "rollback/rollback_impl.h"
#include <stdio.h>

bool rollback_leaving(const struct rollback_job *j)
{
    bool here = j->phase == ROLLBACK_PHASE(ABORTING) ||
                (j->phase == ROLLBACK_PHASE(HOLD) && j->held_phase == ROLLBACK_PHASE(ABORTING));
    return here && j->plan.n_steps > 0 && j->step >= j->plan.n_steps;
}

void rollback_abort_begin(struct turn *t)
{
    struct rollback_job *j = t->j;
    rollback_move(t, ROLLBACK_PHASE(ABORTING));
    j->tries = 0;
    j->again_ms = 0;
    j->live.odd_ms = 0;
    if (t->rule->gradual && (j->target_made || j->weight < 100 || j->wanted < 100))
        rollback_stage(t, ROLLBACK_STAGE(GATE));
}

/* The executor moves everything by itself: the former version is brought up in its place again. */
static bool moved_back(struct turn *t)
{
    struct rollback_job *j = t->j;
    const struct rollback_side *from = rollback_from(t);
    unsigned n = j->plan.instances;
    if (!j->target_made)
        return true;
    if (from->running >= n && from->ready >= n) {
        j->target_made = false;
        j->weight = j->wanted = 100;
        t->changed = true;
        return true;
    }
    rollback_say(t, "%u of %u instances of %s are ready: %s", from->ready, n, rollback_name(t->d, j->from),
                 rollback_why_not(from));
    if (rollback_over(t, j->stage_since_ms, t->rule->capacity_ms))
        rollback_hold(t, ROLLBACK_HOLD(CAPACITY), "on the way back %u of %u instances of %s are ready: %s",
                      from->ready, n, rollback_name(t->d, j->from), rollback_why_not(from));
    else if (from->running < n || j->live.up_ms == 0)
        rollback_want_from(t, n);
    return false;
}

/* The target has no traffic any more. */
static bool target_gone(struct turn *t)
{
    struct rollback_job *j = t->j;
    if (!j->target_made)
        return true;
    if (rollback_to(t)->instances > 0) {
        if (rollback_do(t, ROLLBACK_OP(REMOVE), j->to, rollback_to_side(t), j->plan.instances))
            rollback_say(t, "%s has no traffic, and is removed", rollback_name(t->d, j->to));
        return false;
    }
    j->target_made = false;
    t->changed = true;
    return true;
}

/* What has been written since is saved, too, before the data that this job found are put back. */
static bool data_back(struct turn *t)
{
    struct rollback_job *j = t->j;
    struct rollback_effect *e;
    if (!j->data_replaced)
        return true;
    if (j->data_done) {
        e = rollback_do(t, ROLLBACK_OP(SNAPSHOT), j->from, j->from_side, j->plan.instances);
        if (e) {
            e->keep = true;
            snprintf(e->snapshot, sizeof e->snapshot, "abort");
            rollback_say(t, "the learning data are saved before those of the beginning are put back");
        }
        return false;
    }
    e = rollback_do(t, ROLLBACK_OP(RESTORE), j->from, j->from_side, j->plan.instances);
    if (e) {
        snprintf(e->snapshot, sizeof e->snapshot, "%s", j->snapshot);
        rollback_say(t, "the learning data that this rollback found are put back");
    }
    return false;
}

static void writer_back(struct turn *t)
{
    struct rollback_job *j = t->j;
    if (j->writer_paused)
        rollback_do(t, ROLLBACK_OP(RESUME_WRITER), j->from, j->from_side, j->plan.instances);
    else if (rollback_leaving(j))
        rollback_end(t, ROLLBACK_PHASE(ABORTED), "by force, left as it is: %d %% of the traffic on %s, %d %% on %s",
                     j->weight, rollback_name(t->d, j->from), 100 - j->weight, rollback_name(t->d, j->to));
    else
        rollback_end(t, ROLLBACK_PHASE(ABORTED), "%s carries all the traffic again", rollback_name(t->d, j->from));
}

void rollback_aborting(struct turn *t)
{
    struct rollback_job *j = t->j;
    char why[ROLLBACK_WHY];
    if (rollback_leaving(j)) {
        writer_back(t);
        return;
    }
    if (!t->sight->executor_known || (t->rule->gradual && !t->sight->traffic_known)) {
        rollback_say(t, "the way back waits: %s", t->sight->error);
        if (rollback_waits(t, t->rule->capacity_ms))
            rollback_hold(t, ROLLBACK_HOLD(FAILED), "what stands could not be seen: %s", t->sight->error);
        return;
    }
    if (!rollback_fits(t, why, sizeof why)) {
        rollback_hold(t, ROLLBACK_HOLD(CHANGED), "%s; abort by force leaves everything as it is", why);
        return;
    }
    if (t->rule->gradual ? !rollback_abort_shift(t) : !moved_back(t))
        return;
    if (t->rule->gradual && rollback_reassert(t, 100))
        return;
    if (t->rule->gradual && !target_gone(t))
        return;
    if (data_back(t))
        writer_back(t);
}
