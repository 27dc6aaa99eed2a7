/* rollback_hold.c - HOLD: a person decides. Until then weights stay as they are, and what dies is replaced by what lives. */
#include "rollback/rollback_impl.h"

static bool has_two_sides(const struct turn *t)
{
    const struct rollback_job *j = t->j;
    switch (j->held_phase) {
    case ROLLBACK_PHASE(SHIFT):
    case ROLLBACK_PHASE(DRAIN):
    case ROLLBACK_PHASE(STOP):
    case ROLLBACK_PHASE(VERIFY):
    case ROLLBACK_PHASE(ABORTING):
        return t->rule->gradual && !rollback_clearing(j) && !rollback_leaving(j);
    default:
        return false; /* nothing has moved yet */
    }
}

/* The target has died: as much as the former version can carry goes back there; it is started if it was stopped. */
static void to_former(struct turn *t)
{
    struct rollback_job *j = t->j;
    const struct rollback_side *from = rollback_from(t);
    int carried = rollback_carries(&j->plan, from->ready);
    bool both = from->ready == 0 && (j->weight > 0 || rollback_over(t, j->phase_since_ms, t->rule->capacity_ms));
    if (both && j->hold != ROLLBACK_HOLD(BOTH_LOST))
        rollback_hold(t, ROLLBACK_HOLD(BOTH_LOST), "neither %s nor %s is ready (%s)", rollback_name(t->d, j->from),
                      rollback_name(t->d, j->to), rollback_why_not(from));
    else if (j->hold != ROLLBACK_HOLD(TARGET_LOST) && j->hold != ROLLBACK_HOLD(BOTH_LOST))
        rollback_hold(t, ROLLBACK_HOLD(TARGET_LOST), "%s has died (%s): traffic goes back to %s",
                      rollback_name(t->d, j->to), rollback_why_not(rollback_to(t)), rollback_name(t->d, j->from));
    if (carried > rollback_share(t))
        rollback_do_weight(t, carried);
    else if (from->running < j->plan.instances)
        rollback_want_from(t, j->plan.instances);
}

/* The former version has died: the target gets what it can carry, unless a security check stands against it. */
static void to_target(struct turn *t)
{
    struct rollback_job *j = t->j;
    const struct rollback_side *to = rollback_to(t);
    int left = 100 - rollback_carries(&j->plan, to->ready);
    if (rollback_insecure(t)) {
        if (j->hold != ROLLBACK_HOLD(BOTH_LOST))
            rollback_hold(t, ROLLBACK_HOLD(BOTH_LOST),
                          "%s has died, and a security check speaks against %s: it gets no more by itself",
                          rollback_name(t->d, j->from), rollback_name(t->d, j->to));
        return;
    }
    if (left < rollback_share(t)) {
        if (rollback_do_weight(t, left))
            rollback_raise(t, ROLLBACK_NOTICE_HOLD, true,
                           "%s: %s has died while the rollback holds; its traffic goes to %s", t->d->deployment,
                           rollback_name(t->d, j->from), rollback_name(t->d, j->to));
    } else if (to->running < j->plan.instances) {
        rollback_want_to(t);
    }
}

void rollback_holding(struct turn *t)
{
    struct rollback_job *j = t->j;
    char why[ROLLBACK_WHY];
    if (!has_two_sides(t) || !t->sight->executor_known || j->hold == ROLLBACK_HOLD(CHANGED) ||
        !rollback_fits(t, why, sizeof why))
        return;
    if (j->wanted != j->weight && rollback_shows(t, j->wanted)) {
        j->weight = j->wanted;
        t->changed = true;
    }
    bool target_dead = rollback_to(t)->ready == 0, former_dead = rollback_from(t)->ready == 0;
    if (j->weight < 100 && target_dead) {
        to_former(t);
    } else if (j->weight > 0 && former_dead && !target_dead) {
        to_target(t);
    } else {
        if (j->wanted != j->weight && rollback_shows(t, j->weight)) {
            j->wanted = j->weight;
            t->changed = true;
        }
        rollback_reassert(t, j->weight);
    }
}
