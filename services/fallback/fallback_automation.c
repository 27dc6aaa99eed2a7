/* fallback_automation.c - whether an agent may act by itself: frozen by people, by the verdict on its judgement, or by a drill. */
#include "fallback/fallback_impl.h"
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* Every guard confirms that nothing older is in hand; an answer after it is worth something only then. */
static void fence(struct turn *t)
{
    fallback_effect_add(t, FALLBACK_FENCE)->epoch = t->d->frozen_epoch;
}

void fallback_freeze(struct turn *t, const char *by, const char *why, int failure, int64_t evidence_ms)
{
    struct fallback_doc *d = t->d;
    d->automation = FALLBACK_AUTOMATION_FROZEN;
    d->frozen_epoch = d->epoch + 1; /* of the directive that this becomes */
    fallback_text(d->frozen_by, sizeof d->frozen_by, by);
    fallback_text(d->frozen_why, sizeof d->frozen_why, why);
    fallback_change(t, FALLBACK_STEP_FREEZE, failure, "", evidence_ms, "frozen by %s: %s", d->frozen_by,
                    d->frozen_why);
    fallback_raise(t, FALLBACK_NOTICE_FROZEN,
                   "automated actions of %s are frozen by %s, manual intervention required: %.300s", t->rule->agent,
                   d->frozen_by, d->frozen_why);
    fence(t);
}

void fallback_thaw(struct turn *t, const char *by, const char *why)
{
    struct fallback_doc *d = t->d;
    d->automation = FALLBACK_AUTOMATION_ENABLED;
    d->frozen_by[0] = d->frozen_why[0] = '\0';
    fallback_change(t, FALLBACK_STEP_UNFREEZE, FALLBACK_FAILURE_NONE, "", 0, "unfrozen by %s: %s", by, why);
    fallback_resolve(t, FALLBACK_NOTICE_FROZEN, "%s is unfrozen by %s: %.300s", t->rule->agent, by, why);
}

void fallback_on_freeze(struct turn *t)
{
    struct fallback_doc *d = t->d;
    if (d->drill_failure == FALLBACK_FAILURE_LOGIC) {
        fallback_drill_end(t, t->ev->by, "it is frozen in earnest", true);
    } else if (d->automation == FALLBACK_AUTOMATION_FROZEN) {
        if (d->frozen_epoch == 0) { /* frozen by an older version */
            d->frozen_epoch = d->epoch;
            t->store = true;
        }
        fence(t); /* whoever froze it may have died before the guards had confirmed */
        fallback_answer(t, FALLBACK_ALREADY, "%s is frozen already, by %s: %.300s", t->rule->agent, d->frozen_by,
                        d->frozen_why);
        return;
    }
    fallback_freeze(t, t->ev->by, t->ev->detail, FALLBACK_FAILURE_NONE, t->now_ms);
    fallback_record(t, "agent.freeze", true, t->ev->by, "%.400s", t->ev->detail);
    fallback_answer(t, FALLBACK_DONE, "%s is frozen", t->rule->agent);
}

void fallback_on_unfreeze(struct turn *t)
{
    struct fallback_doc *d = t->d;
    if (d->automation == FALLBACK_AUTOMATION_ENABLED) {
        fallback_answer(t, FALLBACK_ALREADY, "%s is not frozen", t->rule->agent);
        return;
    }
    if (!t->view->may_loosen) {
        fallback_answer(
            t, FALLBACK_NOT_NOW,
            "%s stays frozen: this replica has just started, lost the bus or does not trust its clock; try again",
            t->rule->agent);
        return;
    }
    if (t->view->verdict && t->view->verdict->epoch > d->verdict_epoch)
        d->verdict_epoch = t->view->verdict->epoch; /* the person knows of it */
    if (t->view->judgement && t->view->judgement->epoch > d->judgement_epoch)
        d->judgement_epoch = t->view->judgement->epoch;
    if (d->drill_failure == FALLBACK_FAILURE_LOGIC)
        fallback_drill_end(t, t->ev->by, t->ev->detail, false); /* and with it the freeze */
    else
        fallback_thaw(t, t->ev->by, t->ev->detail);
    const char *test = t->ev->waived           ? "without a self-test"
                       : t->rule->has_selftest ? "after a passed self-test"
                                               : "no self-test is set";
    fallback_record(t, "agent.unfreeze", true, t->ev->by, "%s: %.400s", test, t->ev->detail);
    fallback_answer(t, FALLBACK_DONE, "%s is unfrozen", t->rule->agent);
}

/* A judgement that is gone freezes the agent, once for each verdict; only a person ends it. */
static void settle_judgement(struct turn *t, const struct fallback_verdict *v, uint64_t *acted_epoch)
{
    if (!fallback_verdict_is(v, FALLBACK_FAILURE_LOGIC) || v->epoch <= *acted_epoch)
        return;
    *acted_epoch = v->epoch;
    t->store = true;
    if (t->d->drill_failure == FALLBACK_FAILURE_LOGIC)
        fallback_drill_end(t, "health", "it has become real", true);
    else if (t->d->automation != FALLBACK_AUTOMATION_ENABLED)
        return;
    fallback_freeze(t, "health", *v->reason ? v->reason : "logic error", FALLBACK_FAILURE_LOGIC, v->since_ms);
    fallback_record(t, "agent.freeze", true, NULL, "logic error: %.400s", v->reason);
}

void fallback_settle_automation(struct turn *t)
{
    settle_judgement(t, t->view->judgement, &t->d->judgement_epoch);
    settle_judgement(t, t->view->verdict, &t->d->verdict_epoch);
}
