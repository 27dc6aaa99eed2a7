/* rollback_rest.c - without a job: what a rollback has left has all the traffic, also after the proxy was started again and has forgotten it. Pure.
 *
 * Only where the last job has ended DONE or ABORTED, and one side alone stands: then nobody else can be meant. What does not hold is not fought for: whoever
 * sets it may have reasons, and a person is told. */
#include "rollback/rollback_impl.h"
#include <string.h>

static bool is_over(const struct rollback_doc *d)
{
    return d->job.phase == ROLLBACK_PHASE(DONE) || d->job.phase == ROLLBACK_PHASE(ABORTED);
}

int rollback_rest_side(const struct rollback_doc *d, const struct rollback_rule *rule, const struct rollback_sight *s)
{
    if (!is_over(d) || !rule->gradual || !d->current[0] || !s->executor_known)
        return -1;
    for (int side = 0; side < 2; side++)
        if (s->side[side].ready > 0 && strcmp(s->side[side].version, d->current) == 0 && !s->side[!side].instances)
            return side;
    return -1;
}

bool rollback_set_addresses(const struct rollback_doc *d)
{
    const struct rollback_job *j = &d->job;
    const char *former = rollback_busy(d) ? j->from : d->current;
    for (size_t i = 0; *former && i < d->n_versions; i++)
        if (strcmp(d->versions[i].id, former) == 0 && d->versions[i].by_job[0])
            return true; /* a job has brought it */
    /* The first step is a set only if the traffic was not so before. */
    bool moved = j->weight < 100 || j->wanted < 100 || (j->step > 0 && !j->emergency);
    if (rollback_busy(d))
        return moved && j->phase != ROLLBACK_PHASE(PREPARE);
    return j->phase == ROLLBACK_PHASE(ABORTED) && moved && strcmp(d->current, j->from) == 0;
}

static void right(struct turn *t)
{
    struct rollback_doc *d = t->d;
    if (rollback_over(t, d->watch.steered_ms, ROLLBACK_STEERS_MS))
        d->watch.steers = 0; /* it holds */
    if (!d->watch.right)
        rollback_resolve(t, ROLLBACK_NOTICE_ASTRAY);
    d->watch.right = true;
    d->watch.astray = false;
}

/* May it be set now? After so many that did not hold a person is told, and it is tried again later. */
static bool may(struct turn *t, const struct rollback_side *s, int nobody, int side)
{
    struct rollback_doc *d = t->d;
    if (d->watch.steered_ms > t->now_ms)
        d->watch.steered_ms = t->now_ms; /* the clock went back */
    int64_t since_ms = d->watch.steered_ms;
    if (d->watch.steers > 0 && !rollback_over(t, since_ms, ROLLBACK_STEER_MS))
        return false;
    if (d->watch.steers >= ROLLBACK_STEERS) {
        if (!d->watch.astray)
            rollback_raise(
                t, ROLLBACK_NOTICE_ASTRAY, s[side].share == 0,
                "%s: %s runs alone, and only %d %% of the traffic goes to it (%d %% to the other side, %d %% to "
                "where nothing stands); it was set %d times and did not stay",
                d->deployment, rollback_name(d, d->current), s[side].share, s[!side].share, nobody, ROLLBACK_STEERS);
        d->watch.astray = true;
        d->watch.right = false;
        if (!rollback_over(t, since_ms, ROLLBACK_ASTRAY_MS))
            return false;
        d->watch.steers = 0;
    } else if (d->watch.steers > 0 && rollback_over(t, since_ms, ROLLBACK_STEERS_MS)) {
        d->watch.steers = 0;
    }
    return true;
}

void rollback_rest(struct turn *t, const struct rollback_sight *s)
{
    struct rollback_doc *d = t->d;
    int side = s && s->traffic_known ? rollback_rest_side(d, t->rule, s) : -1;
    if (side < 0 || s->side[side].share < 0)
        return;
    if (s->side[side].share == 100) {
        right(t);
        return;
    }
    /* Traffic that says nothing of either side has nothing to be corrected. */
    if (!t->ev->able || (s->side[!side].share <= 0 && s->nobody <= 0) || !may(t, s->side, s->nobody, side))
        return;
    rollback_record(
        t, "rollback.weight", "policy",
        "no job: %d %% of the traffic was on %s, %d %% on the other side, %d %% went to where nothing stands; "
        "it is set to 100 %%",
        s->side[side].share, rollback_name(d, d->current), s->side[!side].share, s->nobody);
    struct rollback_effect *e = rollback_effect_add(t, ROLLBACK_STEER);
    memcpy(e->version, d->current, sizeof e->version);
    e->side = side;
    e->share[side] = 100;
    d->watch.steers++;
    d->watch.steered_ms = t->now_ms;
    d->watch.right = false;
}
