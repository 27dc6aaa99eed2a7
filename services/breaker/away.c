/* away.c - one replica's own verdict while the shared state is out of reach; see away.h. */
#include "breaker/away.h"

void breaker_away_init(struct breaker_away *a, uint32_t voters, int64_t now_ms)
{
    *a = (struct breaker_away){.since_ms = now_ms, .voters = voters, .turn = 1};
}

static void move(struct breaker_away *a, int state, int64_t now_ms)
{
    a->state = state;
    a->since_ms = now_ms;
    a->turn++;
}

/* Where the last word lets calls pass on evidence. What a person has said stands, and what is open needs no advice. */
static bool may_be_stricter(const struct breaker *doc)
{
    return doc->state == BREAKER_NONE || doc->state == BREAKER_CLOSED || doc->state == BREAKER_PROBATION;
}

static int tripped(const struct breaker_away *a, const struct breaker_rule *rule, const struct breaker_totals *t,
                   int64_t now_ms)
{
    if (rule->min_reporters > 1 && t->reporters <= 1 && a->voters > 1)
        return BREAKER_BY_NOTHING; /* the others report to other replicas */
    return breaker_tripped(rule, t, a->since_ms, now_ms);
}

static void hold(struct breaker_away *a, const struct breaker_rule *rule, const struct breaker_totals *t, int reason,
                 int64_t now_ms)
{
    move(a, BREAKER_AWAY_HOLDS, now_ms);
    a->holds += a->holds < UINT32_MAX;
    a->reason = reason;
    a->totals = *t;
    a->until_ms = now_ms + breaker_open_time_ms(rule, a->holds, a->turn);
    if (t->retry_until_ms > a->until_ms)
        a->until_ms = t->retry_until_ms < now_ms + rule->open_max_ms ? t->retry_until_ms : now_ms + rule->open_max_ms;
}

static void decide(struct breaker_away *a, const struct breaker_rule *rule, const struct breaker_totals *t,
                   int64_t now_ms)
{
    int why;
    switch (a->state) {
    case BREAKER_AWAY_HOLDS:
        if (now_ms >= a->until_ms)
            move(a, BREAKER_AWAY_TRIES, now_ms);
        break;
    case BREAKER_AWAY_TRIES:
        if ((why = tripped(a, rule, t, now_ms)) != BREAKER_BY_NOTHING)
            hold(a, rule, t, why, now_ms);
        else if (now_ms >= a->since_ms + rule->window_ms && t->passed > 0) {
            move(a, BREAKER_AWAY_FOLLOWS, now_ms);
            a->holds = 0;
        }
        break;
    default:
        if ((why = tripped(a, rule, t, now_ms)) != BREAKER_BY_NOTHING)
            hold(a, rule, t, why, now_ms);
    }
}

bool breaker_away_decide(struct breaker_away *a, const struct breaker *doc, const struct breaker_rule *rule,
                         const struct breaker_delta *d, bool act, int64_t now_ms)
{
    struct breaker_span span = breaker_span_of(rule);
    const struct breaker_delta *any = d->calls > 0 ? d : NULL;
    breaker_window_merge(&a->all, 1, span, now_ms, any);
    struct breaker_totals t = breaker_window_merge(&a->own, a->turn, span, now_ms, any);
    bool was = a->state == BREAKER_AWAY_HOLDS;
    if (!may_be_stricter(doc) && a->state != BREAKER_AWAY_FOLLOWS)
        move(a, BREAKER_AWAY_FOLLOWS, now_ms);
    else if (act && may_be_stricter(doc))
        decide(a, rule, &t, now_ms);
    return was != (a->state == BREAKER_AWAY_HOLDS);
}

bool breaker_away_follow(struct breaker_away *a, int64_t now_ms)
{
    bool held = a->state == BREAKER_AWAY_HOLDS;
    move(a, BREAKER_AWAY_FOLLOWS, now_ms);
    a->holds = 0;
    return held;
}

bool breaker_away_holds(const struct breaker_away *a, int64_t now_ms)
{
    return a->state == BREAKER_AWAY_HOLDS && now_ms < a->until_ms;
}

int64_t breaker_away_wake_ms(const struct breaker_away *a, const struct breaker_rule *rule, int64_t now_ms)
{
    int64_t at_ms = a->state == BREAKER_AWAY_HOLDS   ? a->until_ms
                    : a->state == BREAKER_AWAY_TRIES ? a->since_ms + rule->window_ms
                                                     : 0;
    int64_t counts_ms = a->since_ms + rule->window_ms / BREAKER_BUCKETS; /* from then on votes are taken */
    if (a->state != BREAKER_AWAY_HOLDS && counts_ms > now_ms)
        return counts_ms;
    return at_ms > now_ms ? at_ms : 0;
}
