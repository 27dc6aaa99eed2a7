/* rollback_side.c - what a sight means to a job: who stands where, who can carry how much, and what is not as it was left. */
#include "rollback/rollback_impl.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SHARE_POINTS 5 /* of the plan; some traffic moves by whole instances */

int rollback_to_side(const struct turn *t)
{
    return t->rule->gradual ? !t->j->from_side : t->j->from_side;
}

/* Nothing of it stands there. */
static const struct rollback_side nothing = {.share = -1};

static const struct rollback_side *side_of(const struct turn *t, int side, const char *version)
{
    const struct rollback_side *s = &t->sight->side[side];
    return t->sight->executor_known && strcmp(s->version, version) == 0 ? s : &nothing;
}

const struct rollback_side *rollback_from(const struct turn *t)
{
    return side_of(t, t->j->from_side, t->j->from);
}

const struct rollback_side *rollback_to(const struct turn *t)
{
    return side_of(t, rollback_to_side(t), t->j->to);
}

const char *rollback_why_not(const struct rollback_side *s)
{
    return s->why[0] ? s->why : s->instances == 0 ? "nothing stands there" : "not ready yet";
}

static bool same_share(int share, int weight)
{
    if (share < 0)
        return true;
    if (weight == 0 || weight == 100)
        return share == weight;
    return share > 0 && share < 100 && abs(share - weight) <= SHARE_POINTS;
}

bool rollback_shows(const struct turn *t, int weight)
{
    return t->sight->traffic_known && same_share(t->sight->side[t->j->from_side].share, weight) &&
           same_share(t->sight->side[!t->j->from_side].share, 100 - weight);
}

static bool is_one_of(const char *version, const char *a, const char *b)
{
    return !*version || strcmp(version, a) == 0 || strcmp(version, b) == 0;
}

bool rollback_fits(struct turn *t, char *why, size_t size)
{
    const struct rollback_job *j = t->j;
    int to_side = rollback_to_side(t);
    if (!t->sight->executor_known)
        return true;
    for (int side = 0; side < 2; side++) {
        const char *found = t->sight->side[side].version;
        const char *a = side == j->from_side ? j->from : j->to, *b = side == to_side ? j->to : j->from;
        if (!t->rule->gradual && side != j->from_side)
            continue;
        if (!is_one_of(found, a, b)) {
            snprintf(why, size, "%s stands on side %d, where %s was: somebody else has deployed",
                     rollback_name(t->d, found), side, rollback_name(t->d, a));
            return false;
        }
    }
    return true;
}

static unsigned part_of(unsigned instances, int percent)
{
    return (unsigned)(((uint64_t)instances * (unsigned)percent + 99) / 100);
}

unsigned rollback_needs_from(const struct rollback_plan *p, int weight)
{
    return part_of(p->instances, weight);
}

int rollback_carries(const struct rollback_plan *p, unsigned ready)
{
    return ready >= p->instances ? 100 : (int)((uint64_t)ready * 100 / p->instances);
}

static bool moving(const struct rollback_job *j)
{
    return j->stage == ROLLBACK_STAGE(SET) || j->stage == ROLLBACK_STAGE(READ_BACK);
}

bool rollback_lost_to(const struct turn *t)
{
    bool has = t->j->weight < 100 || (moving(t->j) && t->j->wanted < 100);
    return has && t->sight->executor_known && rollback_to(t)->ready == 0;
}

bool rollback_lost_from(const struct turn *t)
{
    bool has = t->j->weight > 0 || (moving(t->j) && t->j->wanted > 0);
    return has && t->sight->executor_known && rollback_from(t)->ready == 0;
}

bool rollback_insecure(const struct turn *t)
{
    const struct rollback_judge_rule *r = &t->rule->judge;
    for (size_t i = 0; i < t->j->judge.n; i++) {
        const struct rollback_check_state *c = &t->j->judge.checks[i];
        for (size_t k = 0; k < r->n; k++)
            if (strcmp(r->checks[k].name, c->name) == 0 && r->checks[k].check_class == ROLLBACK_SECURITY &&
                c->in_a_row > 0 && c->in_a_row >= r->checks[k].limit)
                return true;
    }
    return false;
}

static bool may_ask(const struct turn *t)
{
    int64_t up_ms = t->j->live.up_ms;
    return up_ms == 0 || up_ms > t->now_ms || rollback_over(t, up_ms, ROLLBACK_UP_AGAIN_MS);
}

void rollback_want_to(struct turn *t)
{
    if (may_ask(t) && rollback_do(t, ROLLBACK_OP(UP), t->j->to, rollback_to_side(t), t->j->plan.instances))
        t->j->live.up_ms = t->now_ms;
}

void rollback_want_from(struct turn *t, unsigned count)
{
    const struct rollback_side *from = rollback_from(t);
    bool stopped = t->j->from_stopped && from->instances >= count && from->running == 0;
    if (may_ask(t) &&
        rollback_do(t, stopped ? ROLLBACK_OP(START) : ROLLBACK_OP(UP), t->j->from, t->j->from_side, count))
        t->j->live.up_ms = t->now_ms;
}

int rollback_share(const struct turn *t)
{
    int share = t->sight->traffic_known ? t->sight->side[t->j->from_side].share : -1;
    return share >= 0 ? share : t->j->weight;
}

/* Whoever gets more must be able to carry it, unless the other one is dead. */
bool rollback_can_take(struct turn *t, int weight)
{
    const struct rollback_job *j = t->j;
    const struct rollback_side *from = rollback_from(t), *to = rollback_to(t);
    bool to_from = rollback_share(t) < weight;
    const struct rollback_side *gains = to_from ? from : to, *loses = to_from ? to : from;
    unsigned needs = to_from ? rollback_needs_from(&j->plan, weight) : rollback_needs(&j->plan, weight);
    if (!t->sight->executor_known)
        return false;
    if (rollback_share(t) == weight || gains->ready >= needs || loses->ready == 0)
        return true;
    rollback_say(t, "%d %% of the traffic is on %s; it stays until %u instances of %s are ready: %s",
                 rollback_share(t), rollback_name(t->d, j->from), needs,
                 rollback_name(t->d, to_from ? j->from : j->to), rollback_why_not(gains));
    if (to_from)
        rollback_want_from(t, j->plan.instances);
    else
        rollback_want_to(t);
    return false;
}

bool rollback_reassert(struct turn *t, int weight)
{
    struct rollback_job *j = t->j;
    if (!t->rule->gradual || !t->sight->traffic_known || rollback_shows(t, weight)) {
        j->live.off = false;
        return false;
    }
    j->live.off = true;
    const struct rollback_side *s = t->sight->side;
    const char *lost = t->sight->nobody > 0 ? " (the rest goes to where nothing stands)" : "";
    bool again = j->live.odd_ms && j->live.odd_ms <= t->now_ms && !rollback_over(t, j->live.odd_ms, ROLLBACK_ODD_MS);
    if (again && j->tries == 0) {
        /* What was set needs its time to show. */
        if (rollback_over(t, j->live.odd_ms, ROLLBACK_READ_BACK_MS))
            rollback_hold(
                t, ROLLBACK_HOLD(CHANGED),
                "traffic is at %d %% to %d %%%s, not at %d %% on %s, for the second time: somebody else sets it",
                s[j->from_side].share, s[!j->from_side].share, lost, weight, rollback_name(t->d, j->from));
        return true;
    }
    if (!rollback_can_take(t, weight))
        return true;
    if (rollback_do_weight(t, weight)) {
        j->live.odd_ms = t->now_ms;
        rollback_say(t, "traffic was at %d %% to %d %%%s, and is set to %d %% on %s again", s[j->from_side].share,
                     s[!j->from_side].share, lost, weight, rollback_name(t->d, j->from));
    }
    return true;
}
