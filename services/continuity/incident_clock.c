/* incident_clock.c - the clocks of one incident: when each starts, what it counts, which shares of its limit people are told of. Pure. */
#include "continuity/incident_impl.h"

static const unsigned shares[] = {50, 75, 90, 100}; /* bits of `told`, in order */
#define SHARES (sizeof shares / sizeof shares[0])

int64_t incident_clock_elapsed(const struct incident_clock *c, int64_t now_ms)
{
    if (!c->started)
        return 0;
    int64_t until = c->stopped ? c->stopped_ms : now_ms;
    return until > c->started_ms ? until - c->started_ms : 0;
}

unsigned incident_clock_reached(const struct incident_clock *c, int64_t now_ms)
{
    unsigned bits = 0;
    if (!c->started || c->limit_ms <= 0)
        return 0;
    int64_t elapsed = incident_clock_elapsed(c, now_ms);
    for (size_t i = 0; i < SHARES; i++)
        if ((__int128)elapsed * 100 >= (__int128)c->limit_ms * shares[i])
            bits |= 1u << i;
    return bits;
}

int64_t incident_clock_next(const struct incident_clock *c, int64_t now_ms)
{
    if (!c->started || c->stopped || c->limit_ms <= 0)
        return INT64_MAX;
    for (size_t i = 0; i < SHARES; i++) {
        __int128 at = c->started_ms + ((__int128)c->limit_ms * shares[i] + 99) / 100;
        if (at > now_ms)
            return at < INT64_MAX ? (int64_t)at : INT64_MAX;
    }
    return INT64_MAX;
}

int incident_nearest(const struct incident *x, int64_t now_ms)
{
    int best = -1;
    int64_t left = 0;
    for (int i = 0; i < SET_OBJECTIVES; i++) {
        const struct incident_clock *c = &x->clocks[i];
        if (!c->started || c->stopped)
            continue;
        int64_t mine = c->limit_ms - incident_clock_elapsed(c, now_ms);
        if (best < 0 || mine < left) {
            best = i;
            left = mine;
        }
    }
    return best;
}

/* Starts it, or lets it have started earlier: never later. The tightest limit of those concerned holds. */
static void start(struct incident_step *s, enum set_objective o)
{
    struct incident_clock *c = &s->x->clocks[o];
    int64_t limit = s->ev->limits ? s->ev->limits[o] : 0;
    if (c->stopped || (c->limit_ms == 0 && limit <= 0))
        return; /* without any limit there is nothing to count to */
    if (!c->started || (s->at_ms < c->started_ms && !s->ev->again)) {
        c->started = true;
        c->started_ms = s->at_ms;
        s->changed = true;
    }
    if (limit > 0 && (c->limit_ms == 0 || limit < c->limit_ms)) {
        c->limit_ms = limit;
        c->agent = s->ev->agent;
        s->changed = true;
    }
}

unsigned incident_concerned(const struct incident_rule *rule, unsigned conditions, bool data)
{
    unsigned o = data ? 1u << SET_RTO_DATA : 0;
    if (conditions & CONDITION_FULL)
        o |= 1u << SET_MAD_FULL;
    if (conditions & CONDITION_DEGRADED)
        o |= 1u << SET_MAD_DEGRADED;
    if (conditions & CONDITION_LLM)
        o |= 1u << SET_MAD_LLM_FALLBACK;
    for (size_t i = 0; i < rule->n_functions; i++)
        if (rule->functions[i].lost_in & conditions)
            o |= 1u << SET_RTO_FULL | (rule->functions[i].critical ? 1u << SET_RTO_CRITICAL : 0);
    return o;
}

void incident_clocks_start(struct incident_step *s, unsigned conditions, bool data)
{
    unsigned concerned = incident_concerned(s->rule, conditions, data);
    for (int o = 0; o < SET_OBJECTIVES; o++)
        if (concerned & (1u << o))
            start(s, (enum set_objective)o);
}

/* Each share once. Of several that are reached at once (the service was away, or evidence came late) only the highest is said. */
void incident_clocks_tell(struct incident_step *s)
{
    for (uint8_t o = 0; o < SET_OBJECTIVES; o++) {
        struct incident_clock *c = &s->x->clocks[o];
        unsigned fresh = c->stopped ? 0 : incident_clock_reached(c, s->now_ms) & ~(unsigned)c->told;
        if (!fresh)
            continue;
        size_t highest = SHARES - 1;
        while (!(fresh & (1u << highest)))
            highest--;
        bool told_of_more = c->told >> highest != 0; /* its limit was put up since */
        c->told |= (uint8_t)fresh;
        s->changed = true;
        if (told_of_more)
            continue;
        struct incident_effect *e = incident_say(s, INCIDENT_CLOCK_TOLD, NULL);
        e->objective = o;
        e->share = (uint8_t)shares[highest];
        e->took_ms = incident_clock_elapsed(c, s->now_ms);
        /* Who is in breach has lessons to write: it does not close by itself. */
        if (e->share == 100)
            s->x->severity = REDOUBT__V1__SEVERITY__SEVERITY_CRITICAL;
    }
}

void incident_clocks_stop(struct incident_step *s, bool demonstrated)
{
    for (uint8_t o = 0; o < SET_OBJECTIVES; o++) {
        struct incident_clock *c = &s->x->clocks[o];
        if (!c->started || c->stopped)
            continue;
        c->stopped = true;
        c->stopped_ms = s->now_ms;
        if (!demonstrated)
            continue;
        struct incident_effect *e = incident_say(s, INCIDENT_DEMONSTRATED, NULL);
        e->objective = o;
        e->took_ms = incident_clock_elapsed(c, s->now_ms);
    }
}

int64_t incident_clocks_next(const struct incident *x, int64_t now_ms)
{
    int64_t next = INT64_MAX;
    for (int o = 0; o < SET_OBJECTIVES; o++) {
        int64_t at = incident_clock_next(&x->clocks[o], now_ms);
        if (at < next)
            next = at;
    }
    return next;
}

/* By what its agents are in now, taken together. */
unsigned incident_functions_lost(const struct incident *x, const struct incident_rule *rule)
{
    unsigned conditions = 0, lost = 0;
    for (unsigned i = 0; i < 3; i++)
        if (x->of_condition[i] > 0)
            conditions |= 1u << i;
    for (size_t i = 0; i < rule->n_functions; i++)
        if (rule->functions[i].lost_in & conditions)
            lost |= 1u << i;
    return lost;
}
