/* fallback_target.c - what is known of a target, and what its breaker's state means for agents. */
#include "fallback/fallback_impl.h"

/* A row per breaker state. */
/* Never heard of: nothing bad is known, so an agent may stay or flee there; but a way back needs a good word. */
static const struct fallback_use uses[FALLBACK_BREAKERS] = {
    [FALLBACK_BREAKER_UNKNOWN] = {"UNKNOWN", ADMITS_UNSAID, true, true, false},
    [FALLBACK_BREAKER_CLOSED] = {"CLOSED", ADMITS_ALL, true, true, true},
    [FALLBACK_BREAKER_OPEN] = {"OPEN", ADMITS_NONE, false, false, false},
    [FALLBACK_BREAKER_HALF_OPEN] = {"HALF_OPEN", ADMITS_NONE, false, false, false},
    [FALLBACK_BREAKER_PROBATION] = {"PROBATION", ADMITS_SHARE, true, true, true},
    [FALLBACK_BREAKER_FORCED_OPEN] = {"FORCED_OPEN", ADMITS_NONE, false, false, false},
    [FALLBACK_BREAKER_FORCED_CLOSED] = {"FORCED_CLOSED", ADMITS_ALL, true, true, true},
    [FALLBACK_BREAKER_METRICS_ONLY] = {"METRICS_ONLY", ADMITS_ALL, true, true, true},
};

const struct fallback_use *fallback_use_of(const struct fallback_target *x)
{
    return &uses[x->breaker >= 0 && x->breaker < FALLBACK_BREAKERS ? x->breaker : FALLBACK_BREAKER_OPEN];
}

const char *fallback_breaker_name(int breaker)
{
    return breaker >= 0 && breaker < FALLBACK_BREAKERS ? uses[breaker].name : "?";
}

bool fallback_breaker_stays(const struct fallback_target *x)
{
    return fallback_use_of(x)->stays;
}

bool fallback_target_breaker(struct fallback_target *t, uint64_t epoch, int breaker, uint32_t ramp_percent,
                             int64_t since_ms, int64_t evidence_ms)
{
    if (epoch <= t->breaker_epoch || breaker <= FALLBACK_BREAKER_UNKNOWN || breaker >= FALLBACK_BREAKERS)
        return false;
    enum fallback_admits now = uses[breaker].admits, before = fallback_use_of(t)->admits;
    bool went_on = t->well_since_ms > 0 && before != ADMITS_NONE;
    if (now == ADMITS_NONE)
        t->well_since_ms = 0;
    else if (!went_on)
        t->well_since_ms = since_ms > 0 ? since_ms : 1;
    /* While calls pass there is no present opening: what the last one was caused by is of no concern any more. */
    t->evidence_ms = now == ADMITS_NONE && evidence_ms == 0 ? since_ms : evidence_ms;
    t->breaker_epoch = epoch;
    t->breaker = breaker;
    t->ramp_percent = now == ADMITS_ALL ? 100 : now == ADMITS_NONE ? 0 : ramp_percent > 100 ? 100 : ramp_percent;
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
bool fallback_health_blocks(const struct fallback_target *x)
{
    return x->health == FALLBACK_HEALTH_UNHEALTHY || x->health == FALLBACK_HEALTH_FLAPPING;
}
