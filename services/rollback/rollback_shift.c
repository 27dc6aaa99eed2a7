/* rollback_shift.c - traffic moves by steps: gate, set, read back, observe. What happens to either version meanwhile. */
#include "rollback/rollback_impl.h"
#include <string.h>

static int step_weight(const struct rollback_job *j)
{
    return j->emergency ? 0 : j->plan.weight[j->step];
}

void rollback_shift_begin(struct turn *t)
{
    struct rollback_job *j = t->j;
    j->step = j->emergency ? j->plan.n_steps - 1 : 0;
    rollback_move(t, ROLLBACK_PHASE(SHIFT));
    rollback_stage(t, ROLLBACK_STAGE(GATE));
}

void rollback_step_over(struct turn *t)
{
    struct rollback_job *j = t->j;
    j->live.step_over_ms = t->now_ms;
    j->live.gate_ms = 0;
    j->live.odd_ms = 0;
    if (j->step + 1 >= j->plan.n_steps) {
        rollback_move(t, ROLLBACK_PHASE(DRAIN));
        return;
    }
    j->step++;
    rollback_stage(t, ROLLBACK_STAGE(GATE));
}

static void observe_begin(struct turn *t)
{
    struct rollback_job *j = t->j;
    if (j->live.step_over_ms) {
        int64_t took_ms = t->now_ms - j->live.step_over_ms;
        j->overhead_ms = took_ms > 0 ? took_ms : 0;
        j->live.step_over_ms = 0;
    }
    j->observed_ms = 0;
    rollback_stage(t, ROLLBACK_STAGE(OBSERVE));
    rollback_say(t, "%d %% on %s, %d %% on %s: both are observed", j->weight, rollback_name(t->d, j->from),
                 100 - j->weight, rollback_name(t->d, j->to));
    rollback_judge_step(&j->judge, &t->rule->judge);
    t->check = true;
}

/* What was set arrives late, or was set by the replica before this one. */
static void settle_weight(struct turn *t)
{
    struct rollback_job *j = t->j;
    if (j->wanted != j->weight && rollback_shows(t, j->wanted)) {
        j->weight = j->wanted;
        t->changed = true;
    }
}

static void set(struct turn *t, int weight)
{
    if (!rollback_do_weight(t, weight))
        return;
    rollback_stage(t, ROLLBACK_STAGE(SET));
    rollback_say(t, "%d %% for %s is set", weight, rollback_name(t->d, t->j->from));
}

static void gate_opens(struct turn *t, int weight)
{
    struct rollback_job *j = t->j;
    if (j->live.gate_ms && j->live.step_over_ms) /* what was waited for is not our own time */
        j->live.step_over_ms += t->now_ms - j->live.gate_ms;
    j->live.gate_ms = 0;
    if (j->weight == weight && rollback_shows(t, weight)) {
        if (j->emergency)
            rollback_move(t, ROLLBACK_PHASE(DRAIN));
        else
            observe_begin(t);
    } else if (rollback_can_take(t, weight)) {
        set(t, weight);
    } else if (rollback_over(t, j->stage_since_ms, t->rule->capacity_ms)) {
        rollback_hold(t, ROLLBACK_HOLD(CAPACITY), "%.400s", j->reason);
    }
}

static void gate(struct turn *t)
{
    struct rollback_job *j = t->j;
    settle_weight(t);
    int weight = step_weight(j);
    const struct rollback_side *to = rollback_to(t);
    unsigned needs = rollback_needs(&j->plan, weight);
    if (needs == 0)
        needs = 1; /* nothing can be observed of what does not stand */
    bool known = t->sight->executor_known && t->sight->traffic_known;
    if (known && to->ready >= needs) {
        gate_opens(t, weight);
        return;
    }
    if (!j->live.gate_ms)
        j->live.gate_ms = t->now_ms;
    if (!known)
        rollback_say(t, "waits: %s", t->sight->error);
    else
        rollback_say(t, "waits for capacity: %u instances of %s must be ready for %d %% of the traffic, %u are: %s",
                     needs, rollback_name(t->d, j->to), 100 - weight, to->ready, rollback_why_not(to));
    if (rollback_over(t, j->stage_since_ms, t->rule->capacity_ms)) {
        rollback_hold(t, ROLLBACK_HOLD(CAPACITY), "%u of %u instances of %s are ready: %s", to->ready, needs,
                      rollback_name(t->d, j->to), known ? rollback_why_not(to) : t->sight->error);
        return;
    }
    /* The former version is dead: what the target can carry is better than nothing. */
    int carried = 100 - rollback_carries(&j->plan, to->ready);
    if (rollback_lost_from(t) && carried < rollback_share(t))
        set(t, carried);
    else if (t->sight->executor_known && to->running < j->plan.instances)
        rollback_want_to(t);
}

/* True when it was read back; j->weight is what stands then. */
static bool read_back(struct turn *t)
{
    struct rollback_job *j = t->j;
    const struct rollback_side *s = t->sight->side;
    if (!t->sight->traffic_known) {
        rollback_say(t, "the weights cannot be read back: %s", t->sight->error);
        if (rollback_over(t, j->stage_since_ms, t->rule->capacity_ms))
            rollback_hold(t, ROLLBACK_HOLD(FAILED), "the weights could not be read back: %s", t->sight->error);
        return false;
    }
    if (rollback_shows(t, j->wanted)) {
        if (j->weight != j->wanted)
            j->weight = j->wanted;
        t->changed = true;
        return true;
    }
    if (!rollback_over(t, j->stage_since_ms, ROLLBACK_READ_BACK_MS))
        return false;
    if (j->live.odd_ms && !rollback_over(t, j->live.odd_ms, ROLLBACK_ODD_MS)) {
        rollback_hold(t, ROLLBACK_HOLD(CHANGED),
                      "%d %% on %s was set twice, but the traffic is at %d %% to %d %%: somebody else sets it, or it "
                      "cannot do this",
                      j->wanted, rollback_name(t->d, j->from), s[j->from_side].share, s[!j->from_side].share);
        return false;
    }
    j->live.odd_ms = t->now_ms;
    rollback_stage(t, ROLLBACK_STAGE(GATE)); /* set again */
    return false;
}

static void target_lost(struct turn *t)
{
    struct rollback_job *j = t->j;
    const char *from = rollback_name(t->d, j->from), *to = rollback_name(t->d, j->to);
    char why[160];
    memcpy(why, rollback_to(t)->why, sizeof why);
    if (rollback_from(t)->ready > 0 || j->weight == 0)
        rollback_hold(t, ROLLBACK_HOLD(TARGET_LOST), "%s has died (%s)%s%s", to,
                      why[0] ? why : "nothing of it is ready", j->weight < 100 ? ": traffic goes back to " : "",
                      j->weight < 100 ? from : "");
    else
        rollback_hold(t, ROLLBACK_HOLD(BOTH_LOST), "neither %s nor %s is ready (%s)", from, to, why);
    rollback_holding(t);
}

/* The former version has died, and the target is well: everything goes there at once, as far as it can carry it. */
static void former_lost(struct turn *t)
{
    struct rollback_job *j = t->j;
    j->emergency = true;
    t->changed = true;
    rollback_record(t, "rollback.emergency", "policy", "%s has died with %d %% of the traffic",
                    rollback_name(t->d, j->from), j->weight);
    rollback_raise(t, ROLLBACK_NOTICE_STARTED, true,
                   "%s: %s has died in the middle of the rollback; all its traffic goes to %s at once",
                   t->d->deployment, rollback_name(t->d, j->from), rollback_name(t->d, j->to));
    j->step = j->plan.n_steps - 1;
    if (j->stage != ROLLBACK_STAGE(READ_BACK))
        rollback_stage(t, ROLLBACK_STAGE(GATE));
}

/* Something happened to one of the versions; true if the turn is over. */
static bool trouble(struct turn *t)
{
    struct rollback_job *j = t->j;
    char why[ROLLBACK_WHY];
    if (!rollback_fits(t, why, sizeof why)) {
        rollback_hold(t, ROLLBACK_HOLD(CHANGED), "%s", why);
        return true;
    }
    bool dead = t->sight->executor_known && rollback_to(t)->ready == 0;
    if (rollback_lost_to(t) || (j->stage == ROLLBACK_STAGE(OBSERVE) && dead)) {
        target_lost(t);
        return true;
    }
    if (!j->emergency && rollback_lost_from(t) && !dead)
        former_lost(t);
    return false;
}

void rollback_shift(struct turn *t)
{
    struct rollback_job *j = t->j;
    settle_weight(t);
    if (trouble(t))
        return;
    switch (j->stage) {
    case ROLLBACK_STAGE(READ_BACK):
        if (!read_back(t))
            return;
        if (j->weight != step_weight(j))
            rollback_stage(t, ROLLBACK_STAGE(GATE));
        else if (j->emergency)
            rollback_move(t, ROLLBACK_PHASE(DRAIN));
        else
            observe_begin(t);
        return;
    case ROLLBACK_STAGE(OBSERVE):
        if (rollback_reassert(t, j->weight)) {
            if (j->phase == ROLLBACK_PHASE(SHIFT) && j->op)
                rollback_stage(t, ROLLBACK_STAGE(SET)); /* the step is observed anew */
        } else if (t->rule->judge.n == 0 && rollback_over(t, j->stage_since_ms, t->rule->step_ms)) {
            rollback_step_over(t);
        }
        return;
    default: /* also SET without anything in hand: it failed, or whoever had it in hand is gone */
        gate(t);
    }
}

/* ---- the way back, in ABORTING: the same steps mirrored ---- */

static int mirrored(const struct rollback_job *j)
{
    int next = 100;
    for (size_t i = 0; i < j->plan.n_steps; i++)
        if (j->plan.weight[i] > j->weight && j->plan.weight[i] < next)
            next = j->plan.weight[i];
    return next;
}

static void abort_gate(struct turn *t)
{
    struct rollback_job *j = t->j;
    if (j->weight == 100 && rollback_shows(t, 100)) {
        rollback_stage(t, 0);
        return;
    }
    const struct rollback_side *from = rollback_from(t), *to = rollback_to(t);
    bool at_once = j->emergency || to->ready == 0 || rollback_insecure(t);
    int weight = at_once ? 100 : mirrored(j);
    unsigned needs = rollback_needs_from(&j->plan, weight);
    int carried = rollback_carries(&j->plan, from->ready);
    if (from->ready >= needs) {
        set(t, weight);
        return;
    }
    rollback_say(t, "waits for capacity on the way back: %u instances of %s must be ready for %d %%, %u are: %s",
                 needs, rollback_name(t->d, j->from), weight, from->ready, rollback_why_not(from));
    if (to->ready == 0 && carried > rollback_share(t))
        set(t, carried);
    else if (rollback_over(t, j->stage_since_ms, t->rule->capacity_ms))
        rollback_hold(t, ROLLBACK_HOLD(CAPACITY), "on the way back %u of %u instances of %s are ready: %s",
                      from->ready, needs, rollback_name(t->d, j->from), rollback_why_not(from));
    else if (from->running < j->plan.instances)
        rollback_want_from(t, j->plan.instances);
}

/* What the target has in hand may end, then it is removed. */
static bool drained(const struct turn *t)
{
    const struct rollback_side *to = rollback_to(t);
    return to->ready == 0 || (t->j->live.sessions && t->sight->traffic_known && to->sessions == 0) ||
           rollback_over(t, t->j->stage_since_ms, t->rule->drain_ms);
}

static void abort_observe(struct turn *t)
{
    struct rollback_job *j = t->j;
    if (rollback_to(t)->sessions > 0 && t->sight->traffic_known)
        j->live.sessions = true;
    if (rollback_reassert(t, j->weight)) {
        if (j->phase == ROLLBACK_PHASE(ABORTING) && j->op)
            rollback_stage(t, ROLLBACK_STAGE(SET));
    } else if (j->weight == 100) {
        if (drained(t))
            rollback_stage(t, 0);
    } else if (j->emergency || rollback_to(t)->ready == 0 || rollback_over(t, j->stage_since_ms, t->rule->step_ms)) {
        rollback_stage(t, ROLLBACK_STAGE(GATE));
    }
}

/* The way back begins where the traffic really is. */
static void adopt_weight(struct turn *t)
{
    struct rollback_job *j = t->j;
    if (rollback_shows(t, j->weight))
        return;
    j->weight = j->wanted = rollback_share(t);
    t->changed = true;
}

bool rollback_abort_shift(struct turn *t)
{
    struct rollback_job *j = t->j;
    if (j->stage == 0)
        return true;
    if (j->stage == ROLLBACK_STAGE(GATE) || j->stage == ROLLBACK_STAGE(SET))
        adopt_weight(t);
    if (rollback_lost_from(t) && rollback_to(t)->ready > 0 && j->weight > 0) {
        rollback_hold(t, ROLLBACK_HOLD(CAPACITY), "%s has died on the way back", rollback_name(t->d, j->from));
        rollback_holding(t);
        return false;
    }
    switch (j->stage) {
    case ROLLBACK_STAGE(READ_BACK):
        if (read_back(t)) {
            rollback_stage(t, ROLLBACK_STAGE(OBSERVE));
            rollback_say(t, "on the way back: %d %% on %s", j->weight, rollback_name(t->d, j->from));
        }
        break;
    case ROLLBACK_STAGE(OBSERVE):
        abort_observe(t);
        break;
    default:
        abort_gate(t);
    }
    return false;
}
