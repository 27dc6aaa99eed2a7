/* health_quorum.c - from what several watchers see of a target to what is said of it. */
#include "health/health_quorum.h"
#include "health/health.h"

static struct health_vote *find(struct health_poll *p, uint64_t who)
{
    for (uint32_t i = 0; i < p->n; i++)
        if (p->votes[i].who == who)
            return &p->votes[i];
    return NULL;
}

void health_poll_ask(struct health_poll *p, const uint64_t *who, size_t n, int64_t answer_ms, int64_t silent_ms,
                     int64_t now_ms)
{
    struct health_poll was = *p;
    *p = (struct health_poll){
        .asked_ms = now_ms, .until_ms = now_ms + answer_ms, .silent_ms = now_ms + answer_ms + silent_ms};
    for (size_t i = 0; i < n && p->n < HEALTH_VOTERS_MAX; i++) {
        const struct health_vote *v = find(&was, who[i]);
        p->votes[p->n++] = v && v->ballot == HEALTH_BALLOT_BAD ? *v : (struct health_vote){.who = who[i]};
    }
}

void health_poll_keep(struct health_poll *p, const uint64_t *alive, size_t n)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < p->n; i++) {
        bool here = false;
        for (size_t k = 0; k < n && !here; k++)
            here = alive[k] == p->votes[i].who;
        if (here)
            p->votes[kept++] = p->votes[i];
    }
    p->n = kept;
}

bool health_poll_vote(struct health_poll *p, uint64_t who, enum health_ballot ballot, int state, int fault,
                      int64_t now_ms)
{
    struct health_vote *v = find(p, who);
    if (!v && p->n == HEALTH_VOTERS_MAX)
        return false;
    if (!v)
        v = &p->votes[p->n++];
    *v = (struct health_vote){
        .who = who, .heard_ms = now_ms, .ballot = (uint8_t)ballot, .state = (uint8_t)state, .fault = (uint8_t)fault};
    return true;
}

enum health_poll_end health_poll_end(const struct health_poll *p, enum health_ballot own, int64_t fresh_ms,
                                     int64_t now_ms)
{
    uint32_t count[] = {[HEALTH_BALLOT_NONE] = 0, [HEALTH_BALLOT_ABSTAIN] = 0};
    if (p->n == 0)
        return HEALTH_POLL_ALONE;
    for (uint32_t i = 0; i < p->n; i++) {
        const struct health_vote *v = &p->votes[i];
        bool old = fresh_ms > 0 && now_ms - v->heard_ms > fresh_ms;
        count[old ? HEALTH_BALLOT_NONE : v->ballot]++;
    }
    uint32_t silent = count[HEALTH_BALLOT_NONE], others = p->n - silent;
    count[own]++;
    uint32_t bad = count[HEALTH_BALLOT_BAD], well = count[HEALTH_BALLOT_WELL];
    /* As soon as those who are still silent cannot change it. */
    if (bad > well + silent)
        return HEALTH_POLL_BAD;
    if (well >= bad + silent && well > 0)
        return HEALTH_POLL_WELL;
    if (now_ms < p->until_ms)
        return HEALTH_POLL_OPEN;
    if (others == 0)
        return now_ms < p->silent_ms ? HEALTH_POLL_OPEN : HEALTH_POLL_UNHEARD;
    if (bad + well == 0)
        return HEALTH_POLL_ALONE;
    return bad > well ? HEALTH_POLL_BAD : HEALTH_POLL_WELL;
}

enum health_say health_quorum_say(bool own_bad, bool announced_bad, bool standing, enum health_poll_end end)
{
    if (!own_bad)
        return standing && end == HEALTH_POLL_BAD ? HEALTH_SAY_OVERRULED : HEALTH_SAY_OWN;
    if (announced_bad || end == HEALTH_POLL_BAD || end == HEALTH_POLL_ALONE)
        return HEALTH_SAY_OWN;
    return HEALTH_SAY_HOLD;
}

bool health_quorum_blames_link(enum health_poll_end end, int fault)
{
    switch (fault) {
    case HEALTH_FAULT_RESOLVE:
    case HEALTH_FAULT_CONNECT:
    case HEALTH_FAULT_TLS:
    case HEALTH_FAULT_TIMEOUT:
    case HEALTH_FAULT_CUT:
    case HEALTH_FAULT_SILENT:
        return end == HEALTH_POLL_WELL || end == HEALTH_POLL_UNHEARD;
    default:
        return end == HEALTH_POLL_UNHEARD;
    }
}
