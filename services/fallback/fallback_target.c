/* fallback_target.c - what breaker states mean for agents: two dimensions, the LLM chain and the backend. */
#include "fallback/fallback_impl.h"
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* A row per breaker state. */
enum admits { NONE, SHARE, ALL, UNSAID };
struct use {
    const char *name;
    enum admits admits;
    bool stays; /* may an agent that uses it go on? */
    bool enter; /* may an agent that has to leave another be moved here (by its rank, if only a share is admitted)? */
    bool comes_back; /* may an agent come back here after the hold (by its rank, likewise)? */
};
/* Never heard of: nothing bad is known, so an agent may stay or flee there; but a way back needs a good word. */
static const struct use uses[FALLBACK_BREAKERS] = {
    [FALLBACK_BREAKER_UNKNOWN] = {"UNKNOWN", UNSAID, true, true, false},
    [FALLBACK_BREAKER_CLOSED] = {"CLOSED", ALL, true, true, true},
    [FALLBACK_BREAKER_OPEN] = {"OPEN", NONE, false, false, false},
    [FALLBACK_BREAKER_HALF_OPEN] = {"HALF_OPEN", NONE, false, false, false},
    [FALLBACK_BREAKER_PROBATION] = {"PROBATION", SHARE, true, true, true},
    [FALLBACK_BREAKER_FORCED_OPEN] = {"FORCED_OPEN", NONE, false, false, false},
    [FALLBACK_BREAKER_FORCED_CLOSED] = {"FORCED_CLOSED", ALL, true, true, true},
    [FALLBACK_BREAKER_METRICS_ONLY] = {"METRICS_ONLY", ALL, true, true, true},
};

static const struct use *use_of(const struct fallback_target *x)
{
    return &uses[x->breaker >= 0 && x->breaker < FALLBACK_BREAKERS ? x->breaker : FALLBACK_BREAKER_OPEN];
}

const char *fallback_breaker_name(int breaker)
{
    return breaker >= 0 && breaker < FALLBACK_BREAKERS ? uses[breaker].name : "?";
}

bool fallback_target_breaker(struct fallback_target *t, uint64_t epoch, int breaker, uint32_t ramp_percent,
                             int64_t since_ms, int64_t evidence_ms)
{
    if (epoch <= t->breaker_epoch || breaker <= FALLBACK_BREAKER_UNKNOWN || breaker >= FALLBACK_BREAKERS)
        return false;
    enum admits now = uses[breaker].admits, before = use_of(t)->admits;
    bool went_on = t->well_since_ms > 0 && before != NONE;
    if (now == NONE)
        t->well_since_ms = 0;
    else if (!went_on)
        t->well_since_ms = since_ms > 0 ? since_ms : 1;
    /* While calls pass there is no present opening: what the last one was caused by is of no concern any more. */
    t->evidence_ms = now == NONE && evidence_ms == 0 ? since_ms : evidence_ms;
    t->breaker_epoch = epoch;
    t->breaker = breaker;
    t->ramp_percent = now == ALL ? 100 : now == NONE ? 0 : ramp_percent > 100 ? 100 : ramp_percent;
    return true;
}

bool fallback_target_health(struct fallback_target *t, uint64_t epoch, int health)
{
    if (epoch <= t->health_epoch)
        return false;
    t->health_epoch = epoch;
    t->health = health;
    return true;
}

/* The watchers' bad word blocks a way back, never a way to safety. */
static bool health_blocks(const struct fallback_target *x)
{
    return x->health == FALLBACK_HEALTH_UNHEALTHY || x->health == FALLBACK_HEALTH_FLAPPING;
}

/* ---- the LLM chain ---- */

static bool in_share(const struct turn *t, const struct fallback_target *x)
{
    return use_of(x)->admits != SHARE || x->ramp_percent > t->rule->rank;
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

static int refuge(const struct turn *t, int leaving)
{
    for (size_t i = 0; i < t->rule->n_chain; i++)
        if ((int)i != leaving && use_of(t->view->llm[i])->enter && in_share(t, t->view->llm[i]))
            return (int)i;
    return -1;
}

/* The best position before `limit` that has been well for the hold; `otherwise` if there is none (yet). */
static int better(struct turn *t, size_t limit, int otherwise)
{
    for (size_t i = 0; i < limit; i++) {
        const struct fallback_target *x = t->view->llm[i];
        if (!use_of(x)->comes_back || !in_share(t, x) || health_blocks(x))
            continue;
        int64_t at = x->well_since_ms + t->rule->restore_hold_ms;
        if (t->now_ms >= at && t->view->may_loosen)
            return (int)i;
        if (t->now_ms < at)
            fallback_wake(t, at);
    }
    return otherwise;
}

static void go_to(struct turn *t, int index)
{
    t->d->llm_index = index;
    fallback_text(t->d->llm_target, sizeof t->d->llm_target, index < 0 ? "" : t->rule->chain[index].target);
    fallback_text(t->d->llm_model, sizeof t->d->llm_model, index < 0 ? "" : t->rule->chain[index].model);
}

/* "llm.a OPEN, llm.b HALF_OPEN", cut where the room ends. */
static void chain_text(const struct turn *t, char *buf, size_t room)
{
    size_t n = 0;
    buf[0] = '\0';
    for (size_t i = 0; i < t->rule->n_chain && n < room; i++) {
        int more = snprintf(buf + n, room - n, "%s%.60s %s", i ? ", " : "", t->rule->chain[i].target,
                            fallback_breaker_name(t->view->llm[i]->breaker));
        n += more > 0 ? (size_t)more : 0;
    }
}

static void leave(struct turn *t, int from, int to)
{
    const struct fallback_target *x = from < 0 ? NULL : t->view->llm[from];
    int64_t evidence = x && x->evidence_ms > 0 ? x->evidence_ms : t->now_ms;
    char was[FALLBACK_TARGET_TEXT];
    memcpy(was, t->d->llm_target, sizeof was);
    const char *why = x ? fallback_breaker_name(x->breaker) : "no longer in the chain";
    bool better_one = from >= 0 && to >= 0 && to < from;
    go_to(t, to);
    if (to < 0) {
        char all[256];
        chain_text(t, all, sizeof all);
        fallback_change(t, FALLBACK_STEP_SECURITY, FALLBACK_FAILURE_LLM, was, evidence,
                        "no LLM of the chain is usable: %s", all);
    } else {
        fallback_change(t, better_one ? FALLBACK_STEP_RESTORE_LLM : FALLBACK_STEP_SWITCH_LLM, FALLBACK_FAILURE_LLM,
                        was, evidence, "%s is %s: on to %s", was, why, t->d->llm_target);
    }
}

void fallback_settle_llm(struct turn *t)
{
    if (!t->view->ready)
        return;
    if (t->d->llm_index < 0) {
        int to = better(t, t->rule->n_chain, -1);
        if (to >= 0) {
            go_to(t, to);
            fallback_change(t, FALLBACK_STEP_RESTORE_LLM, FALLBACK_FAILURE_NONE, t->d->llm_target, 0,
                            "%s is usable again", t->d->llm_target);
        }
        return;
    }
    int at = present_index(t);
    if (at < 0 || !use_of(t->view->llm[at])->stays) {
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

/* ---- the backend, as a level: 0 = degraded, 1..100 = a share of the calls, FULL = up ---- */

enum { FULL = 101 };
static const uint32_t ladder[] = {10, 25, 50, 100};
enum { RUNGS = sizeof ladder / sizeof ladder[0] };

uint32_t fallback_ramp(int64_t elapsed_ms, int64_t step_ms)
{
    int64_t rung = elapsed_ms < 0 ? 0 : step_ms > 0 ? elapsed_ms / step_ms : RUNGS;
    return rung >= RUNGS ? 0 : ladder[rung];
}

static uint32_t level_of(const struct fallback_doc *d)
{
    return d->backend == FALLBACK_BACKEND_UP ? FULL : d->backend == FALLBACK_BACKEND_DEGRADED ? 0 : d->ramp_percent;
}

/* What the breaker allows; `level` if it says nothing. */
static uint32_t allowed(const struct fallback_target *x, uint32_t level)
{
    static const uint32_t limit[] = {[NONE] = 0, [ALL] = FULL};
    enum admits a = use_of(x)->admits;
    return a == UNSAID ? level : a == SHARE ? x->ramp_percent : limit[a];
}

static void set_level(struct turn *t, uint32_t level, uint32_t was)
{
    const struct fallback_target *x = t->view->backend;
    const char *name = t->rule->backend;
    const char *state = x ? fallback_breaker_name(x->breaker) : "";
    int64_t evidence = x && x->evidence_ms > 0 ? x->evidence_ms : t->now_ms;
    t->d->backend = level == FULL ? FALLBACK_BACKEND_UP
                    : level       ? FALLBACK_BACKEND_RECOVERING
                                  : FALLBACK_BACKEND_DEGRADED;
    t->d->ramp_percent = level < FULL ? level : 0;
    if (level == FULL) {
        fallback_change(
            t, FALLBACK_STEP_RESTORE_BACKEND, FALLBACK_FAILURE_NONE, name, 0,
            x ? "recovery successful: %s is in full use again" : "the settings name no backend any more%s", name);
        fallback_resolve(t, FALLBACK_NOTICE_BACKEND, "backend of %s: recovery successful", t->rule->agent);
    } else if (level == 0) {
        bool failed = was < FULL;
        fallback_change(t, FALLBACK_STEP_DEGRADE_BACKEND, FALLBACK_FAILURE_BACKEND, name, evidence,
                        failed ? "recovery failed: %s is %s again, degraded mode remains" : "%s is %s: degraded mode",
                        name, state);
        fallback_raise(t, FALLBACK_NOTICE_BACKEND,
                       failed ? "%s remains in degraded mode: the recovery of %s failed (%s)"
                              : "%s is in degraded mode: %s cannot be used (%s)",
                       t->rule->agent, name, state);
    } else {
        fallback_change(t, FALLBACK_STEP_RAMP_BACKEND, FALLBACK_FAILURE_BACKEND, name, evidence,
                        "%u %% of the calls to %s pass", level, name);
    }
}

void fallback_settle_backend(struct turn *t)
{
    const struct fallback_target *x = t->view->backend;
    uint32_t was = level_of(t->d);
    if (!x) {
        if (was != FULL && t->view->may_loosen)
            set_level(t, FULL, was);
        return;
    }
    if (!t->view->ready)
        return;
    uint32_t limit = allowed(x, was);
    if (limit < was) {
        set_level(t, limit, was);
        return;
    }
    if (limit == was || !t->view->may_loosen || health_blocks(x))
        return;
    int64_t elapsed = t->now_ms - x->well_since_ms;
    uint32_t rung = fallback_ramp(elapsed, t->rule->backend_step_ms), level = rung ? rung : FULL;
    if (level > limit)
        level = limit;
    if (level > was)
        set_level(t, level, was);
    if (rung)
        fallback_wake(t, t->now_ms + t->rule->backend_step_ms -
                             (elapsed > 0 ? elapsed % t->rule->backend_step_ms : elapsed));
}
