/* rollback.c - the decider of a rollback: which event goes where, when to look again, and what must hold of every document. Pure; see rollback.h. */
#include "rollback/rollback.h"
#include "rollback/rollback_impl.h"
#include <stdio.h>
#include <string.h>

#define P(x) ROLLBACK_PHASE(x)

static bool invariant(const void *object)
{
    const struct rollback_job *j = object;
    bool holds = j->phase == P(HOLD);
    return holds == (j->hold != 0) && holds == (j->held_phase != 0) && j->weight >= 0 && j->weight <= 100 &&
           j->wanted >= 0 && j->wanted <= 100 && (j->from_side == 0 || j->from_side == 1);
}

/* From each phase under way a person may hold or abort. */
#define ANY SM_BIT(P(HOLD)) | SM_BIT(P(ABORTING))
const struct sm_table rollback_sm = {
    .name = "rollback",
    .n = P(REFUSED) + 1,
    .state_names = (const char *const[P(REFUSED) + 1]){[P(PREPARE)] = "PREPARE",
                                                       [P(SNAPSHOT)] = "SNAPSHOT",
                                                       [P(TARGET_UP)] = "TARGET_UP",
                                                       [P(SHIFT)] = "SHIFT",
                                                       [P(DRAIN)] = "DRAIN",
                                                       [P(STOP)] = "STOP",
                                                       [P(VERIFY)] = "VERIFY",
                                                       [P(DONE)] = "DONE",
                                                       [P(HOLD)] = "HOLD",
                                                       [P(ABORTED)] = "ABORTED",
                                                       [P(ABORTING)] = "ABORTING",
                                                       [P(IDLE)] = "IDLE",
                                                       [P(REFUSED)] = "REFUSED"},
    .allowed =
        (const uint32_t[P(REFUSED) + 1]){
            [P(IDLE)] = SM_BIT(P(PREPARE)),
            [P(PREPARE)] = SM_BIT(P(SNAPSHOT)) | SM_BIT(P(REFUSED)) | SM_BIT(P(ABORTED)) | SM_BIT(P(HOLD)),
            [P(SNAPSHOT)] = SM_BIT(P(TARGET_UP)) | ANY,
            [P(TARGET_UP)] = SM_BIT(P(SHIFT)) | SM_BIT(P(VERIFY)) | ANY,
            [P(SHIFT)] = SM_BIT(P(DRAIN)) | ANY,
            [P(DRAIN)] = SM_BIT(P(STOP)) | ANY,
            [P(STOP)] = SM_BIT(P(VERIFY)) | ANY,
            [P(VERIFY)] = SM_BIT(P(DONE)) | ANY,
            /* Back to where it was; or to SHIFT, when the traffic went back meanwhile; or to STOP, when what was stopped runs again. */
            [P(HOLD)] = SM_BIT(P(PREPARE)) | SM_BIT(P(SNAPSHOT)) | SM_BIT(P(TARGET_UP)) | SM_BIT(P(SHIFT)) |
                        SM_BIT(P(DRAIN)) | SM_BIT(P(STOP)) | SM_BIT(P(VERIFY)) | SM_BIT(P(ABORTING)) |
                        SM_BIT(P(ABORTED)),
            [P(ABORTING)] = SM_BIT(P(ABORTED)) | SM_BIT(P(HOLD)),
        },
    .invariant = invariant,
};

void rollback_doc_init(struct rollback_doc *d, const char *deployment)
{
    memset(d, 0, sizeof *d);
    snprintf(d->deployment, sizeof d->deployment, "%s", deployment);
    d->job.phase = d->job.previous = P(IDLE);
}

bool rollback_busy(const struct rollback_doc *d)
{
    switch (d->job.phase) {
    case P(PREPARE):
    case P(SNAPSHOT):
    case P(TARGET_UP):
    case P(SHIFT):
    case P(DRAIN):
    case P(STOP):
    case P(VERIFY):
    case P(HOLD):
    case P(ABORTING):
        return true;
    default:
        return false;
    }
}

/* ---- what must hold ---- */

static bool has_version(const struct rollback_doc *d, const char *id)
{
    for (size_t i = 0; i < d->n_versions; i++)
        if (strcmp(d->versions[i].id, id) == 0)
            return true;
    return false;
}

static const char *broken_versions(const struct rollback_doc *d)
{
    if (d->n_versions > ROLLBACK_VERSIONS || d->n_lineage > ROLLBACK_LINEAGE || d->n_history > ROLLBACK_HISTORY)
        return "it has more versions, snapshots or ended jobs than there is room for";
    for (size_t i = 0; i < d->n_versions; i++) {
        const struct rollback_version *v = &d->versions[i];
        if (!v->id[0])
            return "a version has no id";
        if (v->state < VERSION_STATE(RECORDED) || v->state > VERSION_STATE(REJECTED))
            return "a version has a state that does not exist";
        for (size_t k = 0; k < i; k++)
            if (strcmp(v->id, d->versions[k].id) == 0)
                return "a version is there twice";
    }
    if (d->current[0] && !has_version(d, d->current))
        return "the current version is not among the known ones";
    for (size_t i = 0; i < d->n_lineage; i++)
        if (!d->lineage[i].snapshot[0])
            return "a snapshot has no id";
    return NULL;
}

static const char *broken_plan(const struct rollback_plan *p)
{
    if (p->n_steps == 0 || p->n_steps > ROLLBACK_STEPS || p->weight[p->n_steps - 1] != 0)
        return "the plan has no steps, or does not end at 0 %";
    for (size_t i = 0; i < p->n_steps; i++)
        if (p->weight[i] < 0 || p->weight[i] > 100 || (i > 0 && p->weight[i] >= p->weight[i - 1]))
            return "the steps of the plan do not fall";
    if (p->data < ROLLBACK_DATA_NONE || p->data > ROLLBACK_DATA_MIGRATE)
        return "the plan's data are neither kept, restored nor migrated";
    return p->data == ROLLBACK_DATA_RESTORE && !p->snapshot[0] ? "the plan restores no snapshot" : NULL;
}

static const char *broken_job(const struct rollback_doc *d)
{
    const struct rollback_job *j = &d->job;
    bool busy = rollback_busy(d);
    if (j->phase <= 0 || j->phase > P(REFUSED))
        return "the phase does not exist";
    if (!invariant(j))
        return "hold, weights or side do not fit the phase";
    if (j->op < 0 || j->op > ROLLBACK_OP(REMOVE) || (j->op && !busy))
        return "an act is in hand that does not exist, or without a job";
    if (j->phase == P(IDLE))
        return j->id[0] ? "there is no job, but it has an id" : NULL;
    if (!j->id[0] || !j->by[0] || !j->why[0] || !j->started_ms)
        return "the job has no id, or nobody has started it";
    if (busy == (j->ended_ms != 0))
        return busy ? "the job has ended, and is under way" : "the job is over, and has no end";
    if (!busy)
        return NULL;
    if (!has_version(d, j->from) || !has_version(d, j->to) || strcmp(j->from, j->to) == 0)
        return "the job's versions are not known, or one and the same";
    if (j->step > j->plan.n_steps)
        return "the step is beyond the plan";
    if (j->hold < 0 || j->hold > ROLLBACK_HOLD(CHANGED) || (j->phase == P(HOLD) && !j->reason[0]))
        return "it holds without a reason";
    return broken_plan(&j->plan);
}

const char *rollback_broken(const struct rollback_doc *d)
{
    const char *why = d->deployment[0] ? broken_versions(d) : "it has no name";
    return why ? why : broken_job(d);
}

/* ---- events ---- */

void rollback_act(struct turn *t)
{
    static void (*const acts[])(struct turn * t) = {
        [P(PREPARE)] = rollback_prepare, [P(SNAPSHOT)] = rollback_snapshot, [P(TARGET_UP)] = rollback_target_up,
        [P(SHIFT)] = rollback_shift,     [P(DRAIN)] = rollback_drain,       [P(STOP)] = rollback_stop,
        [P(VERIFY)] = rollback_verify,   [P(HOLD)] = rollback_holding,      [P(ABORTING)] = rollback_aborting,
    };
    acts[t->j->phase](t);
}

/* Whoever had the job in hand before is gone, and so may be what he had asked for: it is looked, and decided by what stands. */
static void on_taken(struct turn *t)
{
    struct rollback_job *j = t->j;
    memset(&t->d->watch, 0, sizeof t->d->watch);
    memset(&j->live, 0, sizeof j->live);
    struct rollback_version *v = rollback_find(t->d, t->d->current);
    if (v && v->state == VERSION_STATE(RECORDED) && v->healthy_since_ms) {
        v->healthy_since_ms = 0; /* nobody has watched it */
        t->changed = true;
    }
    if (!rollback_busy(t->d))
        return;
    if (j->op) {
        j->op = 0;
        t->changed = true;
    }
    t->look = t->check = true;
}

static bool due(int64_t asked_ms, int64_t every_ms, int64_t now_ms)
{
    return asked_ms == 0 || asked_ms > now_ms || now_ms - asked_ms >= every_ms;
}

/* When to look, when to check, and when to wake up. */
static void schedule(struct turn *t)
{
    struct rollback_job *j = t->j;
    if (!rollback_busy(t->d))
        return;
    bool waits_long = j->phase == P(HOLD) || (j->stage == ROLLBACK_STAGE(OBSERVE) && j->phase != P(ABORTING));
    int64_t every_ms = waits_long ? t->rule->check_every_ms : ROLLBACK_POLL_MS, wake_ms = INT64_MAX;
    if (j->op) {
        wake_ms = j->op_since_ms + t->rule->op_ms;
    } else {
        bool again = j->again_ms && t->now_ms >= j->again_ms && j->live.looked_ms < j->again_ms;
        if (t->look || again || due(j->live.looked_ms, every_ms, t->now_ms)) {
            rollback_effect_add(t, ROLLBACK_LOOK);
            j->live.looked_ms = t->now_ms;
        }
        wake_ms = j->live.looked_ms + every_ms;
        if (j->again_ms > t->now_ms && j->again_ms < wake_ms)
            wake_ms = j->again_ms;
        if (j->phase == P(DRAIN) && j->phase_since_ms + t->rule->drain_ms < wake_ms)
            wake_ms = j->phase_since_ms + t->rule->drain_ms;
    }
    int64_t check_ms;
    bool suite;
    if (rollback_checking(t, &check_ms, &suite)) {
        /* The last check of a step is made at its end, not up to one round later. */
        int64_t step_ms = j->phase == P(VERIFY) ? t->rule->watch_ms : t->rule->step_ms;
        int64_t end_ms = j->stage == ROLLBACK_STAGE(OBSERVE) ? j->stage_since_ms + step_ms : INT64_MAX;
        bool ends = t->now_ms >= end_ms && j->live.checked_ms < end_ms;
        if (t->check || ends || due(j->live.checked_ms, check_ms, t->now_ms)) {
            rollback_effect_add(t, ROLLBACK_CHECK)->suite = suite;
            j->live.checked_ms = t->now_ms;
        }
        int64_t next_ms = j->live.checked_ms + check_ms;
        if (end_ms > t->now_ms && end_ms < next_ms)
            next_ms = end_ms;
        if (next_ms < wake_ms)
            wake_ms = next_ms;
    }
    rollback_effect_add(t, ROLLBACK_WAKE)->at_ms = wake_ms > t->now_ms ? wake_ms : t->now_ms + 1;
}

bool rollback_decide(struct rollback_doc *d, const struct rollback_rule *rule, const struct rollback_event *ev,
                     int64_t now_ms, struct rollback_effect out[static ROLLBACK_EFFECTS], size_t *ret_n)
{
    struct turn turn = {.d = d, .j = &d->job, .rule = rule, .ev = ev, .now_ms = now_ms, .out = out}, *t = &turn;
    switch (ev->kind) {
    case ROLLBACK_START:
    case ROLLBACK_HOLD_IT:
    case ROLLBACK_RESUME:
    case ROLLBACK_ABORT:
    case ROLLBACK_EMERGENCY:
        rollback_on_order(t);
        break;
    case ROLLBACK_TAKEN:
        on_taken(t);
        break;
    case ROLLBACK_SIGHT:
        t->sight = ev->u.sight;
        if (!rollback_busy(d))
            rollback_rest(t, ev->u.sight);
        else if (!d->job.op)
            rollback_act(t);
        break;
    case ROLLBACK_DID:
        rollback_on_did(t);
        break;
    case ROLLBACK_SAMPLES:
        rollback_on_samples(t);
        break;
    case ROLLBACK_SEEN:
        rollback_on_seen(t);
        break;
    case ROLLBACK_KEPT:
        rollback_on_kept(t);
        break;
    default:
        if (rollback_busy(d))
            rollback_on_time(t);
    }
    schedule(t);
    if (t->changed) {
        d->epoch++;
        d->job.changed_ms = now_ms;
    }
    *ret_n = t->n;
    return t->changed;
}
