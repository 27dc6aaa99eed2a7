/* rollback_did.c - acts that have ended, or did not end in their time; checks that were made; what has been waited for too long. */
#include "rollback/rollback_impl.h"
#include <stdio.h>
#include <string.h>

static const char *const words[] = {
    [ROLLBACK_OP(PREFLIGHT)] = "looking whether it is possible",
    [ROLLBACK_OP(SNAPSHOT)] = "saving the learning data",
    [ROLLBACK_OP(RESTORE)] = "putting the learning data back",
    [ROLLBACK_OP(MIGRATE)] = "migrating the learning data down",
    [ROLLBACK_OP(RESUME_WRITER)] = "having the writer go on",
    [ROLLBACK_OP(UP)] = "starting",
    [ROLLBACK_OP(WEIGHT)] = "setting the weights",
    [ROLLBACK_OP(STOP)] = "stopping the former version",
    [ROLLBACK_OP(START)] = "starting what was stopped",
    [ROLLBACK_OP(SETTLE)] = "taking the deployment's place",
    [ROLLBACK_OP(REMOVE)] = "removing",
};

static int64_t backoff_ms(unsigned tries)
{
    int64_t ms = 1000;
    for (unsigned i = 1; i < tries && ms < ROLLBACK_BACKOFF_MS; i++)
        ms *= 2;
    return ms;
}

static void failed(struct turn *t, int op, bool lasting, const char *text)
{
    struct rollback_job *j = t->j;
    const char *what = words[op];
    j->tries++;
    t->changed = true;
    j->live.up_ms = 0;
    if (op == ROLLBACK_OP(WEIGHT) && j->phase == ROLLBACK_PHASE(HOLD))
        j->wanted = j->weight;
    bool enough = lasting || j->tries >= ROLLBACK_TRIES;
    if (enough && rollback_leaving(j)) {
        rollback_end(t, ROLLBACK_PHASE(ABORTED),
                     "by force, left as it is. The writer of the learning data could not be "
                     "told to go on, do it by hand: %s",
                     text);
        return;
    }
    if (enough && j->phase == ROLLBACK_PHASE(PREPARE)) {
        rollback_end(t, ROLLBACK_PHASE(REFUSED), "%s. Nothing was changed", text);
        return;
    }
    if (enough && j->phase != ROLLBACK_PHASE(HOLD)) {
        rollback_hold(t, ROLLBACK_HOLD(FAILED), "%s: %s", what, text);
        return;
    }
    j->again_ms = t->now_ms + backoff_ms(j->tries);
    if (j->phase != ROLLBACK_PHASE(HOLD))
        rollback_say(t, "%s did not work, and is tried again (%u of %d): %s", what, j->tries, ROLLBACK_TRIES, text);
    /* The weights may be anything now: the gate looks. */
    bool moving = j->phase == ROLLBACK_PHASE(SHIFT) || j->phase == ROLLBACK_PHASE(ABORTING);
    if (op == ROLLBACK_OP(WEIGHT) && moving && j->stage == ROLLBACK_STAGE(SET))
        rollback_stage(t, ROLLBACK_STAGE(GATE));
}

static void saved(struct turn *t, const struct rollback_did *did)
{
    struct rollback_job *j = t->j;
    rollback_lineage_add(t, &did->lineage);
    if (j->phase == ROLLBACK_PHASE(ABORTING) && j->op_since_ms > j->phase_since_ms) {
        j->data_done = false; /* what the target wrote is safe */
        return;
    }
    if (!j->snapshot[0])
        snprintf(j->snapshot, sizeof j->snapshot, "%s", did->lineage.snapshot);
}

/* An act of the way back, not one that was in hand when the abort was ordered. */
static bool of_abort(const struct rollback_job *j)
{
    return j->phase == ROLLBACK_PHASE(ABORTING) && j->op_since_ms > j->phase_since_ms;
}

static void succeeded(struct turn *t, int op, const struct rollback_did *did)
{
    struct rollback_job *j = t->j;
    switch (op) {
    case ROLLBACK_OP(PREFLIGHT):
        if (j->phase == ROLLBACK_PHASE(PREPARE))
            rollback_move(t, ROLLBACK_PHASE(SNAPSHOT));
        break;
    case ROLLBACK_OP(SNAPSHOT):
        saved(t, did);
        break;
    case ROLLBACK_OP(RESTORE):
    case ROLLBACK_OP(MIGRATE):
        if (of_abort(j))
            j->data_replaced = j->data_done = false;
        else
            j->data_done = true;
        break;
    case ROLLBACK_OP(RESUME_WRITER):
        j->writer_paused = false;
        break;
    case ROLLBACK_OP(START):
        j->from_stopped = false;
        break;
    case ROLLBACK_OP(UP):
        if (j->phase == ROLLBACK_PHASE(ABORTING) || j->phase == ROLLBACK_PHASE(HOLD))
            j->from_stopped = false;
        break;
    case ROLLBACK_OP(WEIGHT):
        if ((j->phase == ROLLBACK_PHASE(SHIFT) || j->phase == ROLLBACK_PHASE(ABORTING)) &&
            j->stage == ROLLBACK_STAGE(SET))
            rollback_stage(t, ROLLBACK_STAGE(READ_BACK));
        break;
    case ROLLBACK_OP(SETTLE):
        if (j->phase == ROLLBACK_PHASE(VERIFY) && rollback_clearing(j))
            rollback_done(t);
        break;
    default:
        break;
    }
}

void rollback_on_did(struct turn *t)
{
    struct rollback_job *j = t->j;
    const struct rollback_did *did = t->ev->u.did;
    if (!j->op || did->serial != j->serial || did->op != j->op)
        return; /* of an earlier life */
    int op = j->op;
    bool saves = op == ROLLBACK_OP(SNAPSHOT), ok = did->ok;
    const char *text = did->text[0] ? did->text : "no reason was given";
    if (saves && ok && (!did->lineage.verified || !did->lineage.snapshot[0])) {
        ok = false;
        text = "the snapshot is not verified";
    }
    j->op = 0;
    j->live.did_ms = t->now_ms;
    t->changed = t->look = true;
    if (saves || op == ROLLBACK_OP(RESTORE) || op == ROLLBACK_OP(MIGRATE))
        j->writer_paused = did->paused || (!saves && j->writer_paused);
    if (!ok) {
        failed(t, op, did->lasting, text);
        return;
    }
    j->tries = 0;
    j->again_ms = 0;
    succeeded(t, op, did);
}

/* ---- checks ---- */

bool rollback_checking(const struct turn *t, int64_t *ret_every_ms, bool *ret_suite)
{
    const struct rollback_job *j = t->j;
    int phase = j->phase == ROLLBACK_PHASE(HOLD) ? j->held_phase : j->phase;
    *ret_every_ms = t->rule->check_every_ms;
    *ret_suite = j->phase == ROLLBACK_PHASE(VERIFY) && j->stage == ROLLBACK_STAGE(GATE);
    if (t->rule->judge.n == 0 || rollback_clearing(j))
        return false;
    return phase == ROLLBACK_PHASE(SHIFT) || phase == ROLLBACK_PHASE(DRAIN) || phase == ROLLBACK_PHASE(STOP) ||
           phase == ROLLBACK_PHASE(VERIFY);
}

static const char *silent_check(const struct turn *t, bool suite)
{
    const struct rollback_judge_rule *r = &t->rule->judge;
    for (size_t k = 0; k < r->n; k++) {
        bool spoke = r->checks[k].suite && !suite;
        for (size_t i = 0; i < t->j->judge.n; i++)
            spoke |= t->j->judge.checks[i].seen && strcmp(t->j->judge.checks[i].name, r->checks[k].name) == 0;
        if (!spoke)
            return r->checks[k].name;
    }
    return "a check";
}

static void regression(struct turn *t, size_t check)
{
    struct rollback_job *j = t->j;
    const char *name = check < t->rule->judge.n ? t->rule->judge.checks[check].name : "?", *detail = "";
    for (size_t i = 0; i < j->judge.n; i++)
        if (strcmp(j->judge.checks[i].name, name) == 0)
            detail = j->judge.checks[i].detail;
    if (j->phase == ROLLBACK_PHASE(HOLD) &&
        (j->hold == ROLLBACK_HOLD(REGRESSION) || j->hold == ROLLBACK_HOLD(TARGET_LOST) ||
         j->hold == ROLLBACK_HOLD(BOTH_LOST)))
        return;
    rollback_hold(t, ROLLBACK_HOLD(REGRESSION), "%s shows that %s is worse: %s", name, rollback_name(t->d, j->to),
                  *detail ? detail : "see the check");
}

static void no_data(struct turn *t, bool suite, int64_t limit_ms)
{
    if (rollback_over(t, t->j->stage_since_ms, limit_ms))
        rollback_hold(t, ROLLBACK_HOLD(NO_DATA), "%s has not said enough in %lld s: what is not known is not passed",
                      silent_check(t, suite), (long long)((t->now_ms - t->j->stage_since_ms) / 1000));
}

static void well(struct turn *t, bool suite, bool all)
{
    struct rollback_job *j = t->j;
    const struct rollback_rule *r = t->rule;
    if (j->live.off)
        return; /* it is not what was to be observed */
    if (j->phase == ROLLBACK_PHASE(SHIFT) && j->stage == ROLLBACK_STAGE(OBSERVE)) {
        j->observed_ms = t->now_ms - j->stage_since_ms;
        if (all && rollback_over(t, j->stage_since_ms, r->step_ms))
            rollback_step_over(t);
        else
            no_data(t, false, 2 * r->step_ms);
    } else if (j->phase == ROLLBACK_PHASE(VERIFY) && j->stage == ROLLBACK_STAGE(GATE)) {
        if (suite && all) {
            rollback_stage(t, ROLLBACK_STAGE(OBSERVE));
            rollback_judge_step(&j->judge, &r->judge);
            rollback_say(t, "every check of %s has passed; it is watched", rollback_name(t->d, j->to));
        } else if (suite) {
            no_data(t, true, 2 * r->watch_ms);
        }
    } else if (j->phase == ROLLBACK_PHASE(VERIFY) && j->stage == ROLLBACK_STAGE(OBSERVE)) {
        if (all && rollback_over(t, j->stage_since_ms, r->watch_ms))
            rollback_verified(t);
        else
            no_data(t, false, 2 * r->watch_ms);
    }
}

void rollback_on_samples(struct turn *t)
{
    struct rollback_job *j = t->j;
    int64_t every_ms;
    bool wanted_suite;
    if (!rollback_checking(t, &every_ms, &wanted_suite))
        return;
    size_t check = 0;
    bool suite = t->ev->u.checked.suite;
    j->judge.quiet[0] = j->weight == 0;
    j->judge.quiet[1] = j->weight == 100;
    int v = rollback_judge_take(&j->judge, &t->rule->judge, t->ev->u.checked.samples, t->ev->u.checked.n, suite,
                                t->now_ms, &check);
    t->changed = true;
    /* Everything goes to the target, come what may; VERIFY says what the checks say before anything is removed. */
    if (j->emergency && j->phase != ROLLBACK_PHASE(VERIFY) && j->phase != ROLLBACK_PHASE(HOLD))
        return;
    if (v == ROLLBACK_WORSE)
        regression(t, check);
    else
        well(t, suite, v == ROLLBACK_WELL);
}

/* ---- time ---- */

#define GRACE_MS 60000 /* looks and checks that do not answer at all */

static void waited(struct turn *t)
{
    struct rollback_job *j = t->j;
    const struct rollback_rule *r = t->rule;
    bool none = r->judge.n == 0 && !j->live.off;
    int64_t suite_ms = 2 * r->watch_ms > ROLLBACK_SUITE_MS ? 2 * r->watch_ms : ROLLBACK_SUITE_MS;
    bool observes = j->stage == ROLLBACK_STAGE(OBSERVE);
    if (j->phase == ROLLBACK_PHASE(HOLD))
        return;
    if (j->phase == ROLLBACK_PHASE(PREPARE)) {
        if (rollback_over(t, j->phase_since_ms, ROLLBACK_PREPARE_MS + GRACE_MS))
            rollback_end(t, ROLLBACK_PHASE(REFUSED), "what stands was not seen in time. Nothing was changed");
    } else if (j->phase == ROLLBACK_PHASE(SHIFT) && observes) {
        if (none && rollback_over(t, j->stage_since_ms, r->step_ms))
            rollback_step_over(t);
        else if (r->judge.n > 0)
            no_data(t, false, 2 * r->step_ms + r->check_every_ms + GRACE_MS);
    } else if (j->phase == ROLLBACK_PHASE(VERIFY) && observes) {
        if (none && rollback_over(t, j->stage_since_ms, r->watch_ms))
            rollback_verified(t);
        else if (r->judge.n > 0)
            no_data(t, false, 2 * r->watch_ms + r->check_every_ms + GRACE_MS);
    } else if (j->phase == ROLLBACK_PHASE(VERIFY) && j->stage == ROLLBACK_STAGE(GATE)) {
        no_data(t, true, suite_ms);
    } else if (j->phase == ROLLBACK_PHASE(DRAIN)) {
        if (rollback_over(t, j->phase_since_ms, r->drain_ms))
            rollback_move(t, ROLLBACK_PHASE(STOP));
    } else {
        int64_t drain_ms = j->phase == ROLLBACK_PHASE(ABORTING) && observes ? r->drain_ms + r->step_ms : 0;
        if (j->phase == ROLLBACK_PHASE(VERIFY))
            drain_ms = r->drain_ms;
        if (rollback_waits(t, r->capacity_ms + drain_ms + GRACE_MS))
            rollback_hold(t, ROLLBACK_HOLD(FAILED), "it did not go on in time: %.400s", j->reason);
    }
}

void rollback_on_time(struct turn *t)
{
    struct rollback_job *j = t->j;
    if (!j->op) {
        if (t->now_ms >= j->again_ms)
            waited(t);
        return;
    }
    if (!rollback_over(t, j->op_since_ms, t->rule->op_ms))
        return;
    int op = j->op;
    j->op = 0;
    t->changed = t->look = true;
    char text[96];
    snprintf(text, sizeof text, "no answer in %lld s", (long long)(t->rule->op_ms / 1000));
    failed(t, op, false, text);
}
