/* fallback_drill.c - a failure that is pretended for a while: what dimensions see instead of what is so, and how it ends.
 *
 * A drill needs an agent that is well, ends by itself, and never hides anything: as soon as the same failure is there in truth, it is
 * over. Nothing that cannot be taken back is done for its sake: no restart, no rollback. The ways back are the usual ones,
 * and what must hold for a while counts from the drill's end. */
#include "fallback/fallback_impl.h"
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define MARK "DRILL: "

bool fallback_drilled(const struct turn *t, int failure)
{
    return failure != FALLBACK_FAILURE_NONE && t->d->drill_failure == failure;
}

bool fallback_really(const struct turn *t, int failure)
{
    const struct fallback_view *v = t->view;
    switch (failure) {
    case FALLBACK_FAILURE_LLM:
        return t->rule->chain[0].unfit || !fallback_breaker_stays(v->llm[0]);
    case FALLBACK_FAILURE_BACKEND:
        return v->backend && !fallback_breaker_stays(v->backend);
    case FALLBACK_FAILURE_RESOURCE:
        return fallback_no_resources(v);
    case FALLBACK_FAILURE_NETWORK:
    case FALLBACK_FAILURE_AGENT_DOWN:
        return t->overdue || fallback_verdict_is(v->verdict, FALLBACK_FAILURE_NETWORK) ||
               fallback_verdict_is(v->verdict, FALLBACK_FAILURE_AGENT_DOWN);
    default:
        return false; /* a logic error freezes by itself, and ends the drill there */
    }
}

const char *fallback_drill_mark(const struct turn *t, int failure)
{
    bool over = failure != FALLBACK_FAILURE_NONE && t->d->drill_was == failure && !fallback_really(t, failure);
    return over || fallback_drilled(t, failure) ? MARK : "";
}

void fallback_drill_end(struct turn *t, const char *by, const char *why, bool real)
{
    struct fallback_doc *d = t->d;
    int kind = d->drill_failure;
    bool person = by == t->ev->by;
    fallback_record(t, "drill.end", true, person ? by : NULL, MARK "%s of %s, begun by %s, is over: %.200s",
                    fallback_failure_name(kind), t->rule->agent, d->drill_by, why);
    d->drill_failure = FALLBACK_FAILURE_NONE;
    d->drill_until_ms = 0;
    d->drill_by[0] = '\0';
    if (real)
        return;
    d->drill_was = kind;
    d->drill_ended_ms = t->now_ms;
    if (kind == FALLBACK_FAILURE_LOGIC)
        fallback_thaw(t, by, why);
}

/* Why no drill can begin now; NULL = it can. */
static const char *objection(const struct turn *t)
{
    const struct fallback_doc *d = t->d;
    const struct fallback_event *ev = t->ev;
    const struct {
        bool holds;
        const char *what;
    } all[] = {
        {ev->failure < FALLBACK_FAILURE_LLM || ev->failure > FALLBACK_FAILURE_AGENT_DOWN,
         "there is no drill of this kind"},
        {!*ev->by, "nobody answers for it"},
        {ev->until_ms <= t->now_ms, "it would be over already"},
        {d->drill_failure != FALLBACK_FAILURE_NONE, "another drill is under way"},
        {d->drill_was != FALLBACK_FAILURE_NONE, "it is on its way back from a drill"},
        {d->posture != FALLBACK_NORMAL, "it is not in its normal position"},
        {d->acked_epoch < d->epoch, "it has not confirmed its last directive yet"},
        {!t->view->may_loosen || !t->view->ready, "it could not be ended: this replica does not trust its view"},
        {ev->failure == FALLBACK_FAILURE_BACKEND && !t->view->backend, "it has no backend"},
        {fallback_really(t, ev->failure), "the failure is there in truth"},
    };
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
        if (all[i].holds)
            return all[i].what;
    return NULL;
}

static void end_by_person(struct turn *t)
{
    struct fallback_doc *d = t->d;
    if (d->drill_failure == FALLBACK_FAILURE_NONE) {
        fallback_answer(t, FALLBACK_ALREADY, "there is no drill of %s", t->rule->agent);
    } else if (d->drill_failure == FALLBACK_FAILURE_LOGIC && !t->view->may_loosen) {
        fallback_answer(t, FALLBACK_NOT_NOW, "%s stays frozen: this replica does not trust its view; try again",
                        t->rule->agent);
    } else {
        fallback_drill_end(t, t->ev->by, *t->ev->detail ? t->ev->detail : "ended by hand", false);
        fallback_answer(t, FALLBACK_DONE, "the drill of %s is over", t->rule->agent);
    }
}

void fallback_on_drill(struct turn *t)
{
    struct fallback_doc *d = t->d;
    const struct fallback_event *ev = t->ev;
    if (ev->failure == FALLBACK_FAILURE_NONE) {
        end_by_person(t);
        return;
    }
    if (fallback_drilled(t, ev->failure) && strcmp(d->drill_by, ev->by) == 0 && ev->until_ms > t->now_ms) {
        d->drill_until_ms = ev->until_ms;
        t->store = true;
        fallback_answer(t, FALLBACK_DONE, "the drill of %s goes on", t->rule->agent);
        return;
    }
    const char *no = objection(t);
    if (no) {
        fallback_answer(t, FALLBACK_NOT_NOW, "no drill of %s now: %s", t->rule->agent, no);
        return;
    }
    d->drill_failure = ev->failure;
    d->drill_until_ms = ev->until_ms;
    fallback_text(d->drill_by, sizeof d->drill_by, ev->by);
    fallback_record(t, "drill.start", true, ev->by, MARK "%s of %s is pretended for %" PRId64 " ms: %.300s",
                    fallback_failure_name(ev->failure), t->rule->agent, ev->until_ms - t->now_ms, ev->detail);
    if (ev->failure == FALLBACK_FAILURE_LOGIC) {
        char by[FALLBACK_WHO_TEXT + 16];
        snprintf(by, sizeof by, "drill by %s", ev->by);
        fallback_freeze(t, by, *ev->detail ? ev->detail : "logic error", FALLBACK_FAILURE_LOGIC, t->now_ms);
    }
    fallback_answer(t, FALLBACK_DONE, "%s: %s is pretended", t->rule->agent, fallback_failure_name(ev->failure));
}

/* ---- what dimensions see ---- */

/* During: refused. After: well since the drill's end at the earliest; never heard of is no ground to stay away. */
static const struct fallback_target *target(const struct turn *t, struct fallback_target *copy,
                                            const struct fallback_target *x, bool during)
{
    *copy = *x;
    if (during) {
        copy->breaker = FALLBACK_BREAKER_OPEN;
        copy->evidence_ms = t->now_ms;
        copy->well_since_ms = 0;
        return copy;
    }
    if (copy->breaker == FALLBACK_BREAKER_UNKNOWN)
        copy->breaker = FALLBACK_BREAKER_CLOSED;
    if (fallback_breaker_stays(copy) && copy->well_since_ms < t->d->drill_ended_ms)
        copy->well_since_ms = t->d->drill_ended_ms;
    return copy;
}

static const struct fallback_verdict *verdict(const struct turn *t, struct fallback_verdict *copy,
                                              const struct fallback_verdict *x, int failure, bool during)
{
    *copy = x ? *x : (struct fallback_verdict){0};
    if (during) {
        copy->health = FALLBACK_HEALTH_UNHEALTHY;
        copy->failure = failure;
        copy->since_ms = 1; /* no relapse: steps take their time */
        snprintf(copy->reason, sizeof copy->reason, "%s is pretended", fallback_failure_name(failure));
    } else if (copy->epoch == 0 || copy->health <= FALLBACK_HEALTH_UNKNOWN) {
        copy->health = FALLBACK_HEALTH_HEALTHY; /* as before the drill: nothing bad is known */
    }
    if (!during && copy->since_ms < t->d->drill_ended_ms)
        copy->since_ms = t->d->drill_ended_ms;
    copy->epoch = copy->epoch ? copy->epoch : 1;
    return copy;
}

static void pretend(struct turn *t)
{
    const struct fallback_view *v = t->view;
    bool during = t->d->drill_failure != FALLBACK_FAILURE_NONE;
    int kind = during ? t->d->drill_failure : t->d->drill_was;
    t->seen = *v;
    switch (kind) {
    case FALLBACK_FAILURE_LLM:
        for (size_t i = 0; i < t->rule->n_chain; i++)
            t->seen.llm[i] = target(t, &t->pretended.llm[i], v->llm[i], during);
        break;
    case FALLBACK_FAILURE_BACKEND:
        if (v->backend)
            t->seen.backend = target(t, &t->pretended.backend, v->backend, during);
        break;
    case FALLBACK_FAILURE_RESOURCE:
        t->seen.resources = verdict(t, &t->pretended.resources, v->resources, kind, during);
        break;
    case FALLBACK_FAILURE_NETWORK:
        if (during)
            t->seen.verdict = verdict(t, &t->pretended.verdict, v->verdict, kind, true);
        break;
    case FALLBACK_FAILURE_AGENT_DOWN:
        t->seen.verdict = verdict(t, &t->pretended.verdict, v->verdict, kind, during);
        if (!during && t->rule->has_selftest)
            t->seen.judgement = verdict(t, &t->pretended.judgement, v->judgement, kind, false);
        break;
    default:
        break;
    }
}

void fallback_settle_drill(struct turn *t)
{
    struct fallback_doc *d = t->d;
    int kind = d->drill_failure;
    if (kind != FALLBACK_FAILURE_NONE) {
        if (fallback_really(t, kind)) {
            t->drill_real = kind;
            fallback_drill_end(t, "fallback", "it has become real", true);
        } else if (t->now_ms < d->drill_until_ms) {
            fallback_wake(t, d->drill_until_ms);
        } else if (kind != FALLBACK_FAILURE_LOGIC || t->view->may_loosen) {
            fallback_drill_end(t, "fallback", "its time is over", false);
        }
    }
    pretend(t);
}

/* Once the agent is back where it was, nothing is left of the drill. */
void fallback_settle_drill_over(struct turn *t)
{
    struct fallback_doc *d = t->d;
    if (d->drill_was == FALLBACK_FAILURE_NONE || d->posture != FALLBACK_NORMAL ||
        d->override_mode != FALLBACK_OVERRIDE_OFF)
        return;
    d->drill_was = FALLBACK_FAILURE_NONE;
    d->drill_ended_ms = 0;
    t->store = true;
}
