/* rollback_finish.c - the phases after the last step: what is in hand ends, the former version is stopped, the target is verified, and only then is
 * anything removed. */
#include "rollback/rollback_impl.h"
#include <stdio.h>
#include <string.h>

/* Somebody else's version, or the target has died: true, and the turn is over. */
static bool trouble(struct turn *t)
{
    struct rollback_job *j = t->j;
    char why[ROLLBACK_WHY];
    if (!rollback_fits(t, why, sizeof why)) {
        rollback_hold(t, ROLLBACK_HOLD(CHANGED), "%s", why);
        return true;
    }
    if (rollback_lost_to(t)) {
        rollback_hold(t, ROLLBACK_HOLD(TARGET_LOST), "%s has died with all the traffic: %s",
                      rollback_name(t->d, j->to), rollback_why_not(rollback_to(t)));
        rollback_holding(t);
        return true;
    }
    return rollback_reassert(t, 0);
}

/* Can the target carry everything? If not: waits, asks for what is missing, and holds in the end. */
static bool carried(struct turn *t, const struct rollback_side *to, int side)
{
    struct rollback_job *j = t->j;
    if (t->sight->executor_known && to->ready >= j->plan.instances)
        return true;
    const char *why = t->sight->executor_known ? rollback_why_not(to) : t->sight->error;
    rollback_say(t, "waits: %u of %u instances of %s are ready: %s", to->ready, j->plan.instances,
                 rollback_name(t->d, j->to), why);
    if (rollback_over(t, j->stage_since_ms, t->rule->capacity_ms))
        rollback_hold(t, ROLLBACK_HOLD(CAPACITY), "%u of %u instances of %s are ready: %s", to->ready,
                      j->plan.instances, rollback_name(t->d, j->to), why);
    else if (t->sight->executor_known && to->running < j->plan.instances && side == rollback_to_side(t))
        rollback_want_to(t);
    return false;
}

void rollback_drain(struct turn *t)
{
    struct rollback_job *j = t->j;
    if (trouble(t))
        return;
    unsigned sessions = rollback_from(t)->sessions;
    if (t->sight->traffic_known && sessions > 0)
        j->live.sessions = true;
    /* 0 says something only of traffic that can count. */
    bool empty = j->live.sessions && t->sight->traffic_known && sessions == 0;
    if (empty || rollback_from(t)->running == 0 || rollback_over(t, j->phase_since_ms, t->rule->drain_ms))
        rollback_move(t, ROLLBACK_PHASE(STOP));
    else
        rollback_say(t, "%s has no new traffic; what it has in hand may end", rollback_name(t->d, j->from));
}

void rollback_stop(struct turn *t)
{
    struct rollback_job *j = t->j;
    const struct rollback_side *from = rollback_from(t);
    if (trouble(t) || !carried(t, rollback_to(t), rollback_to_side(t)))
        return;
    if (!t->sight->traffic_known) {
        rollback_say(t, "waits: %s", t->sight->error);
        if (rollback_waits(t, t->rule->capacity_ms))
            rollback_hold(t, ROLLBACK_HOLD(FAILED), "the weights could not be read: %s", t->sight->error);
        return;
    }
    if (from->running > 0 || (from->instances > 0 && !j->from_stopped)) {
        if (rollback_do(t, ROLLBACK_OP(STOP), j->from, j->from_side, j->plan.instances))
            rollback_say(t, "%s is stopped", rollback_name(t->d, j->from));
        return;
    }
    j->from_stopped = true;
    if (j->writer_paused)
        rollback_do(t, ROLLBACK_OP(RESUME_WRITER), j->to, rollback_to_side(t), j->plan.instances);
    else
        rollback_verify_begin(t);
}

/* ---- VERIFY ---- */

bool rollback_clearing(const struct rollback_job *j)
{
    bool here = j->phase == ROLLBACK_PHASE(VERIFY) ||
                (j->phase == ROLLBACK_PHASE(HOLD) && j->held_phase == ROLLBACK_PHASE(VERIFY));
    return here && j->plan.n_steps > 0 && j->step >= j->plan.n_steps;
}

void rollback_verify_begin(struct turn *t)
{
    struct rollback_job *j = t->j;
    rollback_move(t, ROLLBACK_PHASE(VERIFY));
    rollback_judge_step(&j->judge, &t->rule->judge);
    j->step = j->plan.n_steps - 1;
    rollback_stage(t, t->rule->judge.n > 0 ? ROLLBACK_STAGE(GATE) : ROLLBACK_STAGE(OBSERVE));
    rollback_say(t, "all checks are made of %s", rollback_name(t->d, j->to));
    t->check = true;
}

void rollback_verified(struct turn *t)
{
    struct rollback_job *j = t->j;
    j->step = j->plan.n_steps;
    rollback_stage(t, ROLLBACK_STAGE(SET));
    rollback_say(t, "%s is verified; what is left of %s is removed", rollback_name(t->d, j->to),
                 rollback_name(t->d, j->from));
}

void rollback_verify(struct turn *t)
{
    struct rollback_job *j = t->j;
    if (rollback_clearing(j)) {
        rollback_clear_up(t);
        return;
    }
    if (trouble(t))
        return;
    if (j->stage == ROLLBACK_STAGE(OBSERVE) && t->rule->judge.n == 0 &&
        rollback_over(t, j->stage_since_ms, t->rule->watch_ms))
        rollback_verified(t);
}

/* ---- clearing up: nothing goes back from here, and nothing is lost by that: it is verified ---- */

static void settle(struct turn *t, int side)
{
    if (rollback_do(t, ROLLBACK_OP(SETTLE), t->j->to, side, t->j->plan.instances))
        rollback_say(t, "%s takes the deployment's place", rollback_name(t->d, t->j->to));
}

/* The target moves to side 0, where the former version was: up beside itself, traffic, and away from side 1. */
static void go_home(struct turn *t)
{
    struct rollback_job *j = t->j;
    const struct rollback_side *s = t->sight->side;
    unsigned n = j->plan.instances;
    bool home = strcmp(s[0].version, j->to) == 0;
    if (!home && strcmp(s[0].version, j->from) == 0) {
        if (!rollback_reassert(t, 0) && carried(t, &s[1], 1))
            rollback_do(t, ROLLBACK_OP(REMOVE), j->from, 0, n);
    } else if (!home && s[0].version[0]) {
        rollback_hold(
            t, ROLLBACK_HOLD(CHANGED),
            "%s stands on side 0: somebody else has deployed; resume by force ends the job without clearing up",
            rollback_name(t->d, s[0].version));
    } else if (!home || s[0].running < n) {
        rollback_say(t, "%s is started in the deployment's own place", rollback_name(t->d, j->to));
        if (!j->live.up_ms || rollback_over(t, j->live.up_ms, ROLLBACK_UP_AGAIN_MS)) {
            if (rollback_do(t, ROLLBACK_OP(UP), j->to, 0, n))
                j->live.up_ms = t->now_ms;
        } else if (rollback_over(t, j->stage_since_ms, t->rule->capacity_ms)) {
            carried(t, &s[0], 0);
        }
    } else if (!carried(t, &s[0], 0)) {
        return;
    } else if (s[0].share >= 0 && s[0].share != 100) {
        struct rollback_effect *e = rollback_do(t, ROLLBACK_OP(WEIGHT), j->to, 0, n);
        if (e)
            e->share[0] = 100;
    } else if (s[1].instances > 0) {
        if (j->stage != ROLLBACK_STAGE(READ_BACK))
            rollback_stage(t, ROLLBACK_STAGE(READ_BACK)); /* what side 1 has in hand may end */
        else if (rollback_over(t, j->stage_since_ms, t->rule->drain_ms))
            rollback_do(t, ROLLBACK_OP(REMOVE), j->to, 1, n);
    } else {
        settle(t, 0);
    }
}

void rollback_clear_up(struct turn *t)
{
    struct rollback_job *j = t->j;
    char why[ROLLBACK_WHY];
    if (!t->sight->executor_known) {
        rollback_say(t, "waits: %s", t->sight->error);
        if (rollback_waits(t, t->rule->capacity_ms))
            rollback_hold(t, ROLLBACK_HOLD(FAILED), "what stands could not be seen: %s", t->sight->error);
    } else if (!t->rule->gradual) {
        settle(t, j->from_side);
    } else if (!t->sight->traffic_known) {
        rollback_say(t, "waits: %s", t->sight->error);
        if (rollback_waits(t, t->rule->capacity_ms))
            rollback_hold(t, ROLLBACK_HOLD(FAILED), "the weights could not be read: %s", t->sight->error);
    } else if (t->rule->goes_home && rollback_to_side(t) == 1) {
        go_home(t);
    } else if (!rollback_fits(t, why, sizeof why)) {
        rollback_hold(t, ROLLBACK_HOLD(CHANGED), "%s; resume by force ends the job without clearing up", why);
    } else if (rollback_reassert(t, 0)) {
        return;
    } else if (rollback_from(t)->instances > 0) {
        if (carried(t, rollback_to(t), rollback_to_side(t)))
            rollback_do(t, ROLLBACK_OP(REMOVE), j->from, j->from_side, j->plan.instances);
    } else {
        settle(t, rollback_to_side(t));
    }
}

void rollback_done(struct turn *t)
{
    struct rollback_doc *d = t->d;
    struct rollback_job *j = t->j;
    struct rollback_version *from = rollback_find(d, j->from), *to = rollback_find(d, j->to);
    if (from) {
        from->state = VERSION_STATE(REJECTED);
        from->verified_ms = 0;
        from->healthy_since_ms = 0;
        snprintf(from->reason, sizeof from->reason, "rolled back by %s: %.350s", j->by, j->why);
    }
    if (to) {
        /* Where a person has passed over what the checks say, it is verified as any other: by what is seen from now on. */
        if (!j->forced || to->state == VERSION_STATE(VERIFIED)) {
            to->state = VERSION_STATE(VERIFIED);
            to->verified_ms = t->now_ms;
            to->reason[0] = '\0';
        }
        to->healthy_since_ms = t->now_ms;
        snprintf(to->by_job, sizeof to->by_job, "%s", j->id);
    }
    snprintf(d->current, sizeof d->current, "%s", j->to);
    rollback_watch_anew(
        t); /* what was said of the former version must not keep silent what is to be said of this one */
    rollback_end(t, ROLLBACK_PHASE(DONE), "%s carries all the traffic%s", rollback_name(d, j->to),
                 j->forced ? "" : ", and is verified");
}
