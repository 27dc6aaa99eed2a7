/* rollback_order.c - what people order: start, hold, resume, abort, emergency; each in every phase, with an answer that says what to do. */
#include "redoubt/v1/command.pb-c.h"
#include "rollback/rollback_impl.h"
#include <stdio.h>
#include <string.h>

#define OK          REDOUBT__V1__COMMAND_STATUS__COMMAND_STATUS_OK
#define ALREADY     REDOUBT__V1__COMMAND_STATUS__COMMAND_STATUS_ALREADY
#define INVALID     REDOUBT__V1__COMMAND_STATUS__COMMAND_STATUS_INVALID
#define UNAVAILABLE REDOUBT__V1__COMMAND_STATUS__COMMAND_STATUS_UNAVAILABLE

static const char *or_empty(const char *s)
{
    return s ? s : "";
}

static const char *phase_name(const struct rollback_job *j)
{
    return sm_name(&rollback_sm, j->phase);
}

/* True if it may be looked at at all; otherwise the answer is given. */
static bool is_said(struct turn *t)
{
    const struct rollback_order *o = &t->ev->u.order;
    size_t by = strlen(or_empty(o->by)), why = strlen(or_empty(o->reason));
    if (by == 0 || by >= ROLLBACK_WHO)
        rollback_reply(t, INVALID, "say who orders it, in 1 to %d bytes", ROLLBACK_WHO - 1);
    else if (why == 0 || why >= sizeof t->j->why)
        rollback_reply(t, INVALID, "say why, in 1 to %zu bytes", sizeof t->j->why - 1);
    else if (strlen(or_empty(o->job)) >= ROLLBACK_JOB)
        rollback_reply(t, INVALID, "the id of a job has %d bytes at most", ROLLBACK_JOB - 1);
    else
        return true;
    return false;
}

static const struct rollback_ended *ended(const struct rollback_doc *d, const char *job)
{
    for (size_t i = 0; i < d->n_history; i++)
        if (strcmp(d->history[i].job, job) == 0)
            return &d->history[i];
    return NULL;
}

/* ---- start ---- */

static void begin(struct turn *t, const struct rollback_order *o, const struct rollback_version *to,
                  const struct rollback_plan *plan)
{
    struct rollback_job *j = t->j;
    uint64_t serial = j->serial; /* goes on: an answer to an earlier job is never taken for one to this */
    memset(j, 0, sizeof *j);
    j->serial = serial;
    j->phase = ROLLBACK_PHASE(IDLE);
    snprintf(j->id, sizeof j->id, "%s", o->job);
    snprintf(j->from, sizeof j->from, "%s", t->d->current);
    snprintf(j->to, sizeof j->to, "%s", to->id);
    snprintf(j->by, sizeof j->by, "%s", o->by);
    snprintf(j->why, sizeof j->why, "%s", o->reason);
    j->plan = *plan;
    j->weight = j->wanted = 100;
    j->emergency = o->emergency;
    j->forced = o->force;
    j->automatic = o->automatic;
    j->started_ms = t->now_ms;
    rollback_move(t, ROLLBACK_PHASE(PREPARE));
    rollback_say(t, "what stands is looked at");
    const char *from = rollback_name(t->d, j->from), *name = rollback_name(t->d, j->to);
    rollback_record(t, "rollback.start", NULL, "%s from %s to %s%s%s: %.400s", j->id, from, name,
                    j->emergency ? ", emergency" : "", j->forced ? ", forced" : "", j->why);
    rollback_resolve(t, ROLLBACK_NOTICE_FAILED);
    rollback_resolve(t, ROLLBACK_NOTICE_DONE);
    rollback_raise(t, ROLLBACK_NOTICE_STARTED, false, "%s: %s%srollback from %s to %s, started by %s: %.300s",
                   t->d->deployment, j->forced ? "forced " : "", j->emergency ? "emergency " : "", from, name, j->by,
                   j->why);
}

/* What speaks against a start; OK if nothing does. */
static int refusal(struct turn *t, const struct rollback_order *o, const struct rollback_version **ret_to,
                   struct rollback_plan *ret_plan, char *why, size_t size)
{
    struct rollback_doc *d = t->d;
    struct rollback_job *j = t->j;
    const char *id = or_empty(o->job);
    if (!*id) {
        snprintf(why, size, "give the job an id: the same id starts one job at most");
        return INVALID;
    }
    if (strcmp(id, j->id) == 0) {
        snprintf(why, size, "job %s has been started already; it is in %s", id, phase_name(j));
        return ALREADY;
    }
    const struct rollback_ended *h = ended(d, id);
    if (h) {
        snprintf(why, size, "job %s has ended already: %s, %.300s", id, sm_name(&rollback_sm, h->phase), h->reason);
        return ALREADY;
    }
    if (rollback_busy(d)) {
        snprintf(why, size, "job %s of %s is under way (%s to %s, %s): wait for its end, or abort it", j->id, j->by,
                 rollback_name(d, j->from), rollback_name(d, j->to), phase_name(j));
        return UNAVAILABLE;
    }
    const struct rollback_version *current = rollback_find(d, d->current);
    if (!current) {
        snprintf(why, size, "it is not known yet what runs now: wait until it is recorded (status shows it)");
        return UNAVAILABLE;
    }
    if (o->automatic && current->by_job[0]) {
        snprintf(why, size, "%s was brought by rollback %s, and a rollback is never rolled back by itself",
                 current->name, current->by_job);
        return UNAVAILABLE;
    }
    /* Aborted or refused: it would only be tried again and again. */
    if (o->automatic && strcmp(j->from, current->id) == 0) {
        snprintf(why, size, "a rollback from %s has ended without it (%.200s): a person decides", current->name,
                 j->reason);
        return UNAVAILABLE;
    }
    *ret_to = rollback_choose(d, t->rule, or_empty(o->to), o->force, why, size);
    if (!*ret_to || rollback_make_plan(d, t->rule, o, 0, ret_plan, why, size) != 0)
        return INVALID;
    return OK;
}

static void on_start(struct turn *t)
{
    const struct rollback_order *o = &t->ev->u.order;
    const struct rollback_version *to;
    struct rollback_plan plan;
    char why[ROLLBACK_WHY];
    int status = refusal(t, o, &to, &plan, why, sizeof why);
    if (status != OK) {
        rollback_reply(t, status, "%s", why);
        return;
    }
    begin(t, o, to, &plan);
    rollback_reply(t, OK, "rollback %s from %s to %s is started", t->j->id, rollback_name(t->d, t->j->from),
                   rollback_name(t->d, t->j->to));
}

bool rollback_start_by_policy(struct turn *t, const char *reason, char *why, size_t size)
{
    char id[ROLLBACK_JOB];
    snprintf(id, sizeof id, "policy-%lld", (long long)t->now_ms);
    struct rollback_order o = {
        .by = "policy", .reason = reason, .job = id, .to = "", .snapshot = "", .automatic = true};
    const struct rollback_version *to;
    struct rollback_plan plan;
    if (refusal(t, &o, &to, &plan, why, size) != OK)
        return false;
    begin(t, &o, to, &plan);
    return true;
}

/* ---- hold, resume, abort, emergency ---- */

/* True if the order is about the job under way; otherwise the answer is given. */
static bool is_meant(struct turn *t, bool to_abort)
{
    const struct rollback_job *j = t->j;
    const char *id = or_empty(t->ev->u.order.job);
    if (rollback_busy(t->d) && (!*id || strcmp(id, j->id) == 0))
        return true;
    bool known = *id ? strcmp(id, j->id) == 0 || ended(t->d, id) : j->id[0];
    if (*id && !known)
        rollback_reply(t, INVALID, "no job %s is known%s%s", id, rollback_busy(t->d) ? "; under way is " : "",
                       rollback_busy(t->d) ? j->id : "");
    else if (rollback_busy(t->d))
        rollback_reply(t, UNAVAILABLE, "job %s is over; under way is %s", id, j->id);
    else if (to_abort && j->phase == ROLLBACK_PHASE(ABORTED) && known)
        rollback_reply(t, ALREADY, "it was aborted: %.300s", j->reason);
    else if (known)
        rollback_reply(t, UNAVAILABLE, "it is over (%s): start another rollback", phase_name(j));
    else
        rollback_reply(t, UNAVAILABLE, "there is no rollback: start one");
    return false;
}

static void on_hold(struct turn *t)
{
    const struct rollback_order *o = &t->ev->u.order;
    struct rollback_job *j = t->j;
    if (!is_meant(t, false))
        return;
    if (j->phase == ROLLBACK_PHASE(HOLD)) {
        rollback_reply(t, ALREADY, "it holds already: %.400s", j->reason);
        return;
    }
    rollback_hold(t, ROLLBACK_HOLD(OPERATOR), "ordered by %s: %.300s", o->by, o->reason);
    rollback_reply(t, OK, "it holds with %d %% on %s", j->weight, rollback_name(t->d, j->from));
}

/* The first step that is not behind the present weight. */
static size_t step_of(const struct rollback_job *j)
{
    size_t i = 0;
    while (i + 1 < j->plan.n_steps && j->plan.weight[i] > j->weight)
        i++;
    return i;
}

static void resume_shift(struct turn *t, bool passed)
{
    struct rollback_job *j = t->j;
    j->step = j->emergency ? j->plan.n_steps - 1 : step_of(j);
    rollback_move(t, ROLLBACK_PHASE(SHIFT));
    if (passed && j->plan.weight[j->step] == j->weight)
        rollback_step_over(t); /* a person has decided */
    else
        rollback_stage(t, ROLLBACK_STAGE(GATE));
}

static void resume(struct turn *t, bool passed)
{
    struct rollback_job *j = t->j;
    int held = j->held_phase;
    bool moved = held == ROLLBACK_PHASE(DRAIN) || held == ROLLBACK_PHASE(STOP) || held == ROLLBACK_PHASE(VERIFY);
    if (rollback_clearing(j)) {
        rollback_move(t, held);
        rollback_stage(t, ROLLBACK_STAGE(SET));
    } else if (held == ROLLBACK_PHASE(SHIFT) || (t->rule->gradual && moved && j->weight > 0)) {
        resume_shift(t, passed);
    } else if (held == ROLLBACK_PHASE(VERIFY) && t->rule->gradual && !j->from_stopped) {
        rollback_move(t, ROLLBACK_PHASE(STOP)); /* it was started again meanwhile */
    } else if (held == ROLLBACK_PHASE(VERIFY)) {
        rollback_verify_begin(t);
        if (passed)
            rollback_verified(t);
    } else if (held == ROLLBACK_PHASE(ABORTING)) {
        bool leaving = rollback_leaving(j);
        rollback_move(t, held);
        if (!leaving && t->rule->gradual)
            rollback_stage(t, ROLLBACK_STAGE(GATE));
    } else {
        rollback_move(t, held);
    }
}

static void on_resume(struct turn *t)
{
    const struct rollback_order *o = &t->ev->u.order;
    struct rollback_job *j = t->j;
    if (!is_meant(t, false))
        return;
    if (j->phase != ROLLBACK_PHASE(HOLD)) {
        rollback_reply(t, ALREADY, "it does not hold: it is in %s", phase_name(j));
        return;
    }
    bool worse = j->hold == ROLLBACK_HOLD(REGRESSION);
    bool passed = o->force && (worse || j->hold == ROLLBACK_HOLD(NO_DATA));
    if (worse && !o->force) {
        rollback_reply(t, INVALID, "it holds because of a regression (%.300s): abort it, or resume with force",
                       j->reason);
        return;
    }
    rollback_record(t, "rollback.resume", o->by, "in %s with %d %% on %s%s: %.300s",
                    sm_name(&rollback_sm, j->held_phase), j->weight, rollback_name(t->d, j->from),
                    o->force ? ", by force" : "", o->reason);
    rollback_resolve(t, ROLLBACK_NOTICE_HOLD);
    j->forced |= o->force;
    j->tries = 0;
    j->again_ms = 0;
    j->live.odd_ms = 0;
    rollback_judge_forgive(&j->judge, &t->rule->judge);
    if (o->force && rollback_clearing(j)) {
        rollback_move(t, ROLLBACK_PHASE(VERIFY));
        rollback_done(t); /* what is left of the former version is left to people */
    } else {
        resume(t, passed);
    }
    rollback_reply(t, OK, "it goes on in %s", phase_name(j));
}

static void on_abort(struct turn *t)
{
    const struct rollback_order *o = &t->ev->u.order;
    struct rollback_job *j = t->j;
    if (!is_meant(t, true))
        return;
    int phase = j->phase == ROLLBACK_PHASE(HOLD) ? j->held_phase : j->phase;
    if (rollback_clearing(j)) {
        rollback_reply(t, UNAVAILABLE,
                       "%s is verified, and what is left of %s is being removed: start a rollback to %s "
                       "instead%s",
                       rollback_name(t->d, j->to), rollback_name(t->d, j->from), rollback_name(t->d, j->from),
                       j->phase == ROLLBACK_PHASE(HOLD) ? "; resume (by force: without clearing up) ends this one"
                                                        : "");
        return;
    }
    if (j->phase == ROLLBACK_PHASE(ABORTING) && !(o->emergency && !j->emergency) && !o->force) {
        rollback_reply(t, ALREADY, "it is being aborted: %d %% on %s", j->weight, rollback_name(t->d, j->from));
        return;
    }
    rollback_record(t, "rollback.abort", o->by, "in %s with %d %% on %s%s: %.300s", sm_name(&rollback_sm, phase),
                    j->weight, rollback_name(t->d, j->from), o->force ? ", by force: left as it is" : "", o->reason);
    if (j->phase == ROLLBACK_PHASE(HOLD))
        rollback_resolve(t, ROLLBACK_NOTICE_HOLD);
    if (phase == ROLLBACK_PHASE(PREPARE)) {
        j->op = 0; /* it only looks */
        rollback_end(t, ROLLBACK_PHASE(ABORTED), "aborted by %s before anything was changed: %.300s", o->by,
                     o->reason);
        rollback_reply(t, OK, "aborted; nothing was changed");
        return;
    }
    if (j->phase != ROLLBACK_PHASE(ABORTING))
        rollback_abort_begin(t);
    j->emergency = o->emergency;
    if (o->force)
        j->step = j->plan.n_steps; /* left as it is */
    else if (j->step >= j->plan.n_steps)
        j->step = j->plan.n_steps - 1;
    j->again_ms = 0;
    t->changed = t->look = true;
    rollback_say(t, "aborted by %s: %.300s", o->by, o->reason);
    rollback_reply(t, OK, o->force ? "it ends as it is with %d %% on %s" : "it goes back: %d %% on %s now", j->weight,
                   rollback_name(t->d, j->from));
}

/* False: there is no way to the target from here. */
static bool emergency_from_hold(struct turn *t)
{
    struct rollback_job *j = t->j;
    bool before = j->held_phase == ROLLBACK_PHASE(PREPARE) || j->held_phase == ROLLBACK_PHASE(SNAPSHOT) ||
                  j->held_phase == ROLLBACK_PHASE(TARGET_UP);
    if (rollback_clearing(j) || rollback_leaving(j) || (!before && !t->rule->gradual) ||
        (j->held_phase == ROLLBACK_PHASE(ABORTING) && (j->weight == 100 || !j->target_made)))
        return false;
    rollback_resolve(t, ROLLBACK_NOTICE_HOLD);
    j->emergency = true;
    j->tries = 0;
    j->again_ms = 0;
    j->live.odd_ms = 0;
    rollback_judge_forgive(&j->judge, &t->rule->judge);
    if (before)
        rollback_move(t, j->held_phase);
    else
        resume_shift(t, false);
    return true;
}

static void on_emergency(struct turn *t)
{
    const struct rollback_order *o = &t->ev->u.order;
    struct rollback_job *j = t->j;
    if (!is_meant(t, false))
        return;
    int phase = j->phase == ROLLBACK_PHASE(HOLD) ? j->held_phase : j->phase, weight = j->weight;
    if (j->phase == ROLLBACK_PHASE(HOLD)) {
        if (!emergency_from_hold(t)) {
            rollback_reply(t, UNAVAILABLE, "from %s nothing goes faster: resume or abort it",
                           sm_name(&rollback_sm, phase));
            return;
        }
    } else if (j->phase == ROLLBACK_PHASE(ABORTING)) {
        rollback_reply(t, UNAVAILABLE,
                       "it is being aborted: hold it first, or start another rollback when it is over");
        return;
    } else if (j->emergency || phase == ROLLBACK_PHASE(DRAIN) || phase == ROLLBACK_PHASE(STOP) ||
               phase == ROLLBACK_PHASE(VERIFY)) {
        rollback_reply(t, ALREADY, "it goes as fast as it can: it is in %s with %d %% on %s", phase_name(j),
                       j->weight, rollback_name(t->d, j->from));
        return;
    } else {
        j->emergency = true;
        if (phase == ROLLBACK_PHASE(SHIFT)) {
            j->step = j->plan.n_steps - 1;
            if (j->stage == ROLLBACK_STAGE(GATE) || j->stage == ROLLBACK_STAGE(OBSERVE))
                rollback_stage(t, ROLLBACK_STAGE(GATE));
        }
    }
    t->changed = t->look = true;
    rollback_record(t, "rollback.emergency", o->by, "in %s with %d %% on %s: %.300s", sm_name(&rollback_sm, phase),
                    weight, rollback_name(t->d, j->from), o->reason);
    rollback_reply(t, OK, "everything goes to %s as soon as it can carry it", rollback_name(t->d, j->to));
}

void rollback_on_order(struct turn *t)
{
    static void (*const orders[])(struct turn * t) = {
        [ROLLBACK_START] = on_start, [ROLLBACK_HOLD_IT] = on_hold,        [ROLLBACK_RESUME] = on_resume,
        [ROLLBACK_ABORT] = on_abort, [ROLLBACK_EMERGENCY] = on_emergency,
    };
    if (is_said(t))
        orders[t->ev->kind](t);
}
