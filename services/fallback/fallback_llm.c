/* fallback_llm.c - the LLM chain: which model an agent uses, waits for, or is without. */
#include "fallback/fallback_impl.h"
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define AWAIT_AGAIN_MS 2000  /* an agent without an LLM gets in line again so often */
#define AWAIT_BACK_MS  30000 /* one that only wants a better one */

static bool in_share(const struct turn *t, const struct fallback_target *x)
{
    return fallback_use_of(x)->admits != ADMITS_SHARE || x->ramp_percent > t->rule->rank;
}

/* Position of the model that the agent uses in the chain of today's settings; -1 if it is not there (any more). */
static int present_index(const struct turn *t)
{
    const struct fallback_doc *d = t->d;
    for (int pass = 0; pass < 2; pass++)
        for (size_t i = 0; i < t->rule->n_chain; i++) {
            bool same_target = strcmp(t->rule->chain[i].target, d->llm_target) == 0;
            bool same_model = strcmp(t->rule->chain[i].model, d->llm_model) == 0;
            if (same_target && same_model && (pass == 1 || (int)i == d->llm_index))
                return (int)i;
        }
    return -1;
}

int fallback_first_fit(const struct fallback_rule *rule)
{
    for (size_t i = 0; i < rule->n_chain; i++)
        if (!rule->chain[i].unfit)
            return (int)i;
    return -1;
}

/* May an agent that must leave its LLM be moved to this one, as soon as it is its turn? */
static bool admits(const struct turn *t, size_t i)
{
    const struct fallback_target *x = t->seen.llm[i];
    return !t->rule->chain[i].unfit && fallback_use_of(x)->enter && in_share(t, x) &&
           t->view->intake[i] != FALLBACK_INTAKE_FULL;
}

static int refuge(const struct turn *t, int leaving)
{
    for (size_t i = 0; i < t->rule->n_chain; i++)
        if ((int)i != leaving && admits(t, i))
            return (int)i;
    return -1;
}

/* Gets in line at a model, and again now and then: a line may have been lost. */
static void await(struct turn *t, int index, int64_t again_ms)
{
    if (t->f->run.await_index != index + 1 || t->now_ms >= t->f->run.await_at_ms) {
        fallback_effect_add(t, FALLBACK_AWAIT)->index = index;
        t->f->run.await_index = index + 1;
        t->f->run.await_at_ms = t->now_ms + again_ms;
    }
    fallback_wake(t, t->f->run.await_at_ms);
}

/* The best position before `limit` that has been well for the hold and takes the agent; `otherwise` if there is none (yet). */
static int better(struct turn *t, size_t limit, int otherwise)
{
    int line = -1;
    for (size_t i = 0; i < limit; i++) {
        const struct fallback_target *x = t->seen.llm[i];
        if (t->rule->chain[i].unfit || !fallback_use_of(x)->comes_back || !in_share(t, x) ||
            fallback_health_blocks(x))
            continue;
        int64_t at = x->well_since_ms + t->rule->restore_hold_ms;
        if (t->now_ms < at) {
            fallback_wake(t, at);
            continue;
        }
        if (!t->view->may_loosen)
            continue;
        if (t->view->intake[i] == FALLBACK_INTAKE_OPEN)
            return (int)i;
        fallback_wake(t, t->now_ms + AWAIT_BACK_MS); /* in case that nobody tells when it opens */
        if (t->view->intake[i] != FALLBACK_INTAKE_WAIT || line >= 0)
            continue;
        line = (int)i;
        if (otherwise >= 0)
            break; /* a move to one less good would only be undone */
    }
    if (line >= 0)
        await(t, line, AWAIT_BACK_MS);
    return otherwise;
}

static void go_to(struct turn *t, int index)
{
    t->d->llm_index = index;
    t->d->llm_waiting = false;
    t->d->llm_wanted[0] = '\0';
    fallback_text(t->d->llm_target, sizeof t->d->llm_target, index < 0 ? "" : t->rule->chain[index].target);
    fallback_text(t->d->llm_model, sizeof t->d->llm_model, index < 0 ? "" : t->rule->chain[index].model);
}

static void wait_for(struct turn *t, int index)
{
    go_to(t, -1);
    t->d->llm_waiting = true;
    fallback_text(t->d->llm_wanted, sizeof t->d->llm_wanted, t->rule->chain[index].target);
    t->f->run.await_index = 0;
    await(t, index, AWAIT_AGAIN_MS);
}

/* What keeps an agent away from a model: " OPEN", ": needs tools openai", " full". */
static int say_why(const struct turn *t, size_t i, char *buf, size_t room)
{
    if (t->rule->chain[i].unfit)
        return snprintf(buf, room, "%.60s unfit (%.60s)", t->rule->chain[i].target, t->rule->chain[i].unfit);
    bool full = t->view->intake[i] == FALLBACK_INTAKE_FULL && fallback_use_of(t->seen.llm[i])->enter;
    return snprintf(buf, room, "%.60s %s", t->rule->chain[i].target,
                    full ? "full" : fallback_breaker_name(t->seen.llm[i]->breaker));
}

/* "llm.a OPEN, llm.b full", of the whole chain; or only of those that are passed over; cut where the room ends. */
static void chain_text(const struct turn *t, size_t from, size_t to, char *buf, size_t room)
{
    size_t n = 0;
    buf[0] = '\0';
    for (size_t i = from; i < to && n + 3 < room; i++) {
        int more = snprintf(buf + n, room - n, "%s", n ? ", " : "");
        n += (size_t)more;
        more = say_why(t, i, buf + n, room - n);
        n += more > 0 ? (size_t)more : 0;
    }
}

/* ", past llm.b unfit (...)": those that were passed over on the way down the chain. */
static void passed_text(const struct turn *t, int from, int to, char *buf, size_t room)
{
    char all[160];
    buf[0] = '\0';
    if (to <= from + 1)
        return;
    chain_text(t, (size_t)(from + 1), (size_t)to, all, sizeof all);
    snprintf(buf, room, ", past %s", all);
}

/* Down: from a model that cannot be used (any more), or from the wait for one. */
static void leave(struct turn *t, int from, int to)
{
    const struct fallback_target *x = from < 0 ? NULL : t->seen.llm[from];
    int64_t evidence = x && x->evidence_ms > 0 ? x->evidence_ms : t->now_ms;
    char was[FALLBACK_TARGET_TEXT], why[160], past[192];
    memcpy(was, t->d->llm_waiting ? t->d->llm_wanted : t->d->llm_target, sizeof was);
    if (x)
        say_why(t, (size_t)from, why, sizeof why);
    else
        snprintf(why, sizeof why, "%.100s no longer in the chain", was);
    passed_text(t, from, to, past, sizeof past);
    bool better_one = to == 0 || (to > 0 && to < from);
    if (to < 0) {
        char all[256];
        go_to(t, to);
        chain_text(t, 0, t->rule->n_chain, all, sizeof all);
        fallback_change(t, FALLBACK_STEP_SECURITY, FALLBACK_FAILURE_LLM, was, evidence,
                        "no LLM of the chain is usable: %s", all);
    } else if (t->view->intake[to] == FALLBACK_INTAKE_WAIT || (t->d->llm_waiting && !t->view->may_loosen)) {
        wait_for(t, to);
        fallback_change(t, FALLBACK_STEP_WAIT_LLM, FALLBACK_FAILURE_LLM, was, evidence,
                        "%s: waits for its turn at %s%s", why, t->d->llm_wanted, past);
    } else {
        go_to(t, to);
        fallback_change(t, better_one ? FALLBACK_STEP_RESTORE_LLM : FALLBACK_STEP_SWITCH_LLM, FALLBACK_FAILURE_LLM,
                        was, evidence, "%s: on to %s%s", why, t->d->llm_target, past);
    }
}

/* Position of the model that a waiting agent wants; -1 if it is not in the chain any more, or does not admit it. */
static int wanted_index(const struct turn *t)
{
    for (size_t i = 0; i < t->rule->n_chain; i++)
        if (strcmp(t->rule->chain[i].target, t->d->llm_wanted) == 0 && admits(t, i))
            return (int)i;
    return -1;
}

static int named_index(const struct turn *t)
{
    for (size_t i = 0; i < t->rule->n_chain; i++)
        if (strcmp(t->rule->chain[i].target, t->d->llm_wanted) == 0)
            return (int)i;
    return -1;
}

static void settle_waiting(struct turn *t)
{
    int at = wanted_index(t);
    int to = better(t, at < 0 ? t->rule->n_chain : (size_t)at, -1);
    if (to >= 0) {
        go_to(t, to);
        fallback_change(t, FALLBACK_STEP_RESTORE_LLM, FALLBACK_FAILURE_NONE, t->d->llm_target, 0,
                        "%s is usable again", t->d->llm_target);
    } else if (at < 0) {
        int from = named_index(t);
        leave(t, from, refuge(t, from));
    } else if (t->view->intake[at] == FALLBACK_INTAKE_WAIT || !t->view->may_loosen) {
        await(t, at, AWAIT_AGAIN_MS);
    } else {
        go_to(t, at);
        fallback_change(t, at > 0 ? FALLBACK_STEP_SWITCH_LLM : FALLBACK_STEP_RESTORE_LLM, FALLBACK_FAILURE_LLM,
                        t->d->llm_target, 0, "its turn has come at %s", t->d->llm_target);
    }
}

static void settle_without(struct turn *t)
{
    /* Pretended until now, real from now on: the chain is walked down as if the drill had never been. */
    bool real = t->drill_real == FALLBACK_FAILURE_LLM;
    int to = real && t->view->may_loosen ? refuge(t, 0) : better(t, t->rule->n_chain, -1);
    if (real) {
        leave(t, 0, to);
    } else if (to >= 0) {
        go_to(t, to);
        fallback_change(t, FALLBACK_STEP_RESTORE_LLM, FALLBACK_FAILURE_NONE, t->d->llm_target, 0,
                        "%s is usable again", t->d->llm_target);
    }
}

void fallback_settle_llm(struct turn *t)
{
    if (!t->view->ready)
        return;
    if (t->d->llm_waiting) {
        settle_waiting(t);
        return;
    }
    if (t->d->llm_index < 0) {
        settle_without(t);
        return;
    }
    int at = present_index(t);
    if (at < 0 || t->rule->chain[at].unfit || !fallback_use_of(t->seen.llm[at])->stays) {
        leave(t, at, refuge(t, at));
        return;
    }
    int to = better(t, (size_t)at, at);
    if (to == t->d->llm_index)
        return;
    bool moved = to != at;
    bool looser = to < t->d->llm_index;
    go_to(t, to);
    if (moved)
        fallback_change(t, FALLBACK_STEP_RESTORE_LLM, FALLBACK_FAILURE_NONE, t->d->llm_target, 0, "%s is well again",
                        t->d->llm_target);
    else
        fallback_change(t, looser ? FALLBACK_STEP_RESTORE_LLM : FALLBACK_STEP_SWITCH_LLM, FALLBACK_FAILURE_NONE,
                        t->d->llm_target, 0, "the settings gave %s another place in the chain", t->d->llm_target);
}
