/* rollback_begin.c - the phases before traffic moves: is it possible, are the data safe, does the target stand? */
#include "rollback/rollback_impl.h"
#include <stdio.h>
#include <string.h>

/* ---- PREPARE: nothing is changed ---- */

/* The side of the former version; -1 with a refusal in why. */
static int find_side(const struct turn *t, char *why, size_t size)
{
    const struct rollback_side *s = t->sight->side;
    const char *from = t->j->from, *to = t->j->to, *name = rollback_name(t->d, from);
    bool is[2] = {strcmp(s[0].version, from) == 0, strcmp(s[1].version, from) == 0};
    if (is[0] && is[1]) {
        snprintf(why, size,
                 "%s stands on both sides: an earlier job has left it; remove the instances without traffic", name);
        return -1;
    }
    if (!is[0] && !is[1]) {
        bool target[2] = {strcmp(s[0].version, to) == 0, strcmp(s[1].version, to) == 0};
        if ((s[0].version[0] && !target[0]) || (s[1].version[0] && !target[1])) {
            snprintf(why, size, "%s should run, but %s does: somebody has just deployed; wait until it is recorded",
                     name, rollback_name(t->d, s[0].version[0] && !target[0] ? s[0].version : s[1].version));
            return -1;
        }
        return target[0]; /* nothing is left of it: an outage, and all the more a reason to go back */
    }
    int side = is[1];
    const char *other = s[!side].version;
    if (t->rule->gradual && *other && strcmp(other, to) != 0) {
        snprintf(why, size, "%s stands where %s would be started: remove it first", rollback_name(t->d, other),
                 rollback_name(t->d, to));
        return -1;
    }
    return side;
}

void rollback_prepare(struct turn *t)
{
    struct rollback_job *j = t->j;
    char why[ROLLBACK_WHY];
    if (!t->sight->executor_known) {
        rollback_say(t, "what stands is not known: %s", t->sight->error);
        if (rollback_over(t, j->phase_since_ms, ROLLBACK_PREPARE_MS))
            rollback_end(t, ROLLBACK_PHASE(REFUSED), "what stands could not be seen: %s. Nothing was changed",
                         t->sight->error);
        return;
    }
    int side = find_side(t, why, sizeof why);
    if (side < 0) {
        rollback_end(t, ROLLBACK_PHASE(REFUSED), "%s. Nothing was changed", why);
        return;
    }
    if (t->sight->strays && !j->live.strays) {
        j->live.strays = true;
        rollback_raise(t, ROLLBACK_NOTICE_STRAYS, false,
                       "%s: %u instances belong to no side: an earlier job has left them", t->d->deployment,
                       t->sight->strays);
    }
    j->from_side = side;
    unsigned n = rollback_from(t)->instances;
    j->plan.instances = n > 0 ? n : 1;
    j->weight = j->wanted = 100;
    if (rollback_do(t, ROLLBACK_OP(PREFLIGHT), j->to, rollback_to_side(t), j->plan.instances))
        rollback_say(t, "is it possible? Executor, traffic and data are asked");
}

/* ---- SNAPSHOT: the data are safe before anything else ---- */

void rollback_snapshot(struct turn *t)
{
    struct rollback_job *j = t->j;
    bool replace = j->plan.data == ROLLBACK_DATA_RESTORE || j->plan.data == ROLLBACK_DATA_MIGRATE;
    struct rollback_effect *e;
    if (j->plan.data == ROLLBACK_DATA_NONE) {
        rollback_move(t, ROLLBACK_PHASE(TARGET_UP));
    } else if (!j->snapshot[0]) {
        e = rollback_do(t, ROLLBACK_OP(SNAPSHOT), j->from, j->from_side, j->plan.instances);
        if (e) {
            e->keep = replace;
            rollback_say(t, "the learning data are saved%s", replace ? "; learning pauses" : "");
        }
    } else if (replace && !j->data_done) {
        int op = j->plan.data == ROLLBACK_DATA_RESTORE ? ROLLBACK_OP(RESTORE) : ROLLBACK_OP(MIGRATE);
        bool restore = op == ROLLBACK_OP(RESTORE);
        e = rollback_do(t, op, restore ? j->to : j->from, j->from_side, j->plan.instances);
        if (e) {
            snprintf(e->snapshot, sizeof e->snapshot, "%s", restore ? j->plan.snapshot : "");
            rollback_say(t,
                         restore ? "the learning data of snapshot %.12s are put back"
                                 : "the learning data are migrated down%s",
                         restore ? j->plan.snapshot : "");
        }
    } else if (!replace && j->writer_paused) {
        rollback_do(t, ROLLBACK_OP(RESUME_WRITER), j->from, j->from_side, j->plan.instances);
    } else {
        rollback_move(t, ROLLBACK_PHASE(TARGET_UP));
    }
}

/* ---- TARGET_UP ---- */

/* The executor moves everything by itself: when the target is ready, it has the traffic. */
static void moved(struct turn *t)
{
    struct rollback_job *j = t->j;
    if (j->weight != 0) {
        j->weight = j->wanted = 0;
        t->changed = true;
    }
    if (j->writer_paused)
        rollback_do(t, ROLLBACK_OP(RESUME_WRITER), j->to, rollback_to_side(t), j->plan.instances);
    else
        rollback_verify_begin(t);
}

void rollback_target_up(struct turn *t)
{
    struct rollback_job *j = t->j;
    char why[ROLLBACK_WHY];
    if (!t->sight->executor_known || (t->rule->gradual && !t->sight->traffic_known)) {
        rollback_say(t, "waits: %s", t->sight->error);
        if (rollback_waits(t, t->rule->capacity_ms))
            rollback_hold(t, ROLLBACK_HOLD(FAILED), "what stands could not be seen: %s", t->sight->error);
        return;
    }
    if (!rollback_fits(t, why, sizeof why)) {
        rollback_hold(t, ROLLBACK_HOLD(CHANGED), "%s", why);
        return;
    }
    const struct rollback_side *to = rollback_to(t);
    unsigned n = j->plan.instances;
    /* First of all nothing goes to where nothing stands yet. */
    if (t->rule->gradual && j->live.up_ms == 0 && j->live.odd_ms == 0 && !rollback_shows(t, 100) &&
        rollback_from(t)->ready > 0) {
        if (rollback_can_take(t, 100) && rollback_do_weight(t, 100))
            j->live.odd_ms = t->now_ms;
        return;
    }
    if (to->running >= n && to->ready >= n) {
        j->live.odd_ms = 0;
        if (t->rule->gradual)
            rollback_shift_begin(t);
        else
            moved(t);
        return;
    }
    rollback_say(t, "%u of %u instances of %s are ready: %s", to->ready, n, rollback_name(t->d, j->to),
                 rollback_why_not(to));
    if (rollback_over(t, j->stage_since_ms, t->rule->capacity_ms))
        rollback_hold(t, ROLLBACK_HOLD(CAPACITY), "%s did not become ready: %u of %u instances are, %s",
                      rollback_name(t->d, j->to), to->ready, n, rollback_why_not(to));
    else if (to->running < n || j->live.up_ms == 0)
        rollback_want_to(t);
}
