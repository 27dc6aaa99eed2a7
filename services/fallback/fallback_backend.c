/* fallback_backend.c - the backend, as a level: 0 = degraded, 1..100 = a share of the calls, FULL = up. */
#include "fallback/fallback_impl.h"

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
    static const uint32_t limit[] = {[ADMITS_NONE] = 0, [ADMITS_ALL] = FULL};
    enum fallback_admits a = fallback_use_of(x)->admits;
    return a == ADMITS_UNSAID ? level : a == ADMITS_SHARE ? x->ramp_percent : limit[a];
}

static void set_level(struct turn *t, uint32_t level, uint32_t was)
{
    const struct fallback_target *x = t->seen.backend;
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
    const struct fallback_target *x = t->seen.backend;
    uint32_t was = level_of(t->d);
    if (!x) {
        if (was != FULL && t->view->may_loosen)
            set_level(t, FULL, was);
        return;
    }
    if (!t->view->ready)
        return;
    if (t->drill_real == FALLBACK_FAILURE_BACKEND && was == 0) {
        set_level(t, 0, FULL); /* people and agent must know that it is no drill any more */
        return;
    }
    uint32_t limit = allowed(x, was);
    if (limit < was) {
        set_level(t, limit, was);
        return;
    }
    if (limit == was || !t->view->may_loosen || fallback_health_blocks(x))
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
