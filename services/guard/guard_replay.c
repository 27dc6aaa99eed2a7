/* guard_replay.c - the replay of one agent's queue, and the pace of all: the policy. */
#include "guard/guard_replay.h"
#include "guard/guard_shell.h"
#include <string.h>

#define RETRY_MAX_MS  60000
#define AGAIN_MS      1000 /* after something that the action is not to blame for */
#define HOLD_MS       5000
#define NOTHING       ((struct guard_replay_do){.what = GUARD_REPLAY_NOTHING})
#define REASON(x)     REDOUBT__V1__REFUSAL_REASON__REFUSAL_REASON_##x
#define LATER(now, x) ((now) > INT64_MAX - (x) ? INT64_MAX : (now) + (x))

/* ---- may it go on? ---- */

const char *guard_replay_waits_for(const struct guard_replay_view *v)
{
    const struct guard_position *p = v->at;
    if (!v->known)
        return "the agent is not in the settings";
    if (!v->sure)
        return "the guard is not sure of anything at the moment";
    if (!p || p->epoch == 0)
        return "no directive was heard of this agent";
    if (p->automation != REDOUBT__V1__AUTOMATION_MODE__AUTOMATION_MODE_ENABLED ||
        p->posture == REDOUBT__V1__POSTURE__POSTURE_FROZEN)
        return "the agent is frozen";
    if (p->backend == REDOUBT__V1__BACKEND_MODE__BACKEND_MODE_DEGRADED)
        return "its backend is away";
    if (p->link == REDOUBT__V1__LINK_MODE__LINK_MODE_RESTRICTED || p->link == REDOUBT__V1__LINK_MODE__LINK_MODE_GONE)
        return "the agent cannot be reached";
    if (p->llm_waiting)
        return "the agent waits for an LLM";
    if (p->resources == REDOUBT__V1__RESOURCE_MODE__RESOURCE_MODE_RESTARTING)
        return "the agent is being restarted";
    return NULL;
}

bool guard_replay_expired(const struct guard_replay_rule *rule, int64_t queued_ms, int64_t expires_ms, int64_t now_ms)
{
    return now_ms - queued_ms > rule->max_age_ms || (expires_ms > 0 && now_ms >= expires_ms);
}

/* When it will have expired. */
static int64_t expiry(const struct guard_replay_rule *rule, const struct guard_replay_message *m)
{
    int64_t by_age = LATER(m->queued_ms, rule->max_age_ms + 1);
    return m->expires_ms > 0 && m->expires_ms < by_age ? m->expires_ms : by_age;
}

/* ---- numbers ---- */

uint64_t guard_replay_waiting(const struct guard_replay *r)
{
    uint64_t n = 0;
    for (int p = 0; p < GUARD_PRIORITIES; p++)
        n += r->waiting[p];
    return n;
}

uint64_t guard_replay_skipped(const struct guard_replay *r)
{
    uint64_t n = 0;
    for (int p = 0; p < GUARD_PRIORITIES; p++)
        n += r->skipped[p];
    return n;
}

/* The first priority that has one to be run; -1 = none. */
static int first(const struct guard_replay *r)
{
    for (int p = 0; p < GUARD_PRIORITIES; p++)
        if (r->waiting[p] > r->skipped[p])
            return p;
    return -1;
}

/* Something left the queue, and nobody was told yet what became of it. */
static bool unsaid(const struct guard_replay *r)
{
    for (int k = 0; k < GUARD_LEFT_KINDS; k++)
        if (r->left[k] > 0)
            return true;
    return false;
}

/* ---- at rest ---- */

bool guard_replay_runs(const struct guard_replay *r, const struct guard_replay_view *v)
{
    return !r->remove && first(r) >= 0 && !guard_replay_waits_for(v);
}

static bool looks(const struct guard_replay *r)
{
    return guard_replay_waiting(r) > 0 || unsaid(r);
}

int64_t guard_replay_due(const struct guard_replay *r, const struct guard_replay_view *v)
{
    if (!v->held || r->step != GUARD_REPLAY_REST)
        return INT64_MAX;
    if (r->remove || guard_replay_runs(r, v))
        return r->wake_ms;
    return looks(r) ? r->look_ms : INT64_MAX;
}

static struct guard_replay_do begin_remove(struct guard_replay *r)
{
    r->step = GUARD_REPLAY_REMOVING;
    r->remove = false;
    return (struct guard_replay_do){.what = GUARD_REPLAY_REMOVE, .seq = r->seq};
}

struct guard_replay_do guard_replay_next(struct guard_replay *r, const struct guard_replay_view *v, int64_t now_ms)
{
    if (guard_replay_due(r, v) > now_ms)
        return NOTHING;
    if (r->remove)
        return begin_remove(r);
    r->looking = !guard_replay_runs(r, v);
    r->step = GUARD_REPLAY_READING;
    if (r->looking)
        return (struct guard_replay_do){.what = GUARD_REPLAY_READ, .priority = -1};
    int p = first(r);
    r->priority = (unsigned)p;
    return (struct guard_replay_do){.what = GUARD_REPLAY_READ, .priority = p, .seq = r->from[p]};
}

static struct guard_replay_do rest(struct guard_replay *r, int64_t wake_ms)
{
    r->step = GUARD_REPLAY_REST;
    r->wake_ms = wake_ms;
    return NOTHING;
}

/* ---- what came of it ---- */

static struct guard_replay_do none_there(struct guard_replay *r, int64_t now_ms)
{
    rest(r, now_ms);
    if (!r->looking) { /* none beyond those that are passed over */
        r->waiting[r->priority] = r->skipped[r->priority];
        if (first(r) < 0)
            r->look_ms = now_ms; /* is that really all? */
        return NOTHING;
    }
    bool say = unsaid(r);
    memset(r->waiting, 0, sizeof r->waiting);
    guard_replay_released(r);
    return (struct guard_replay_do){.what = say ? GUARD_REPLAY_DRAINED : GUARD_REPLAY_NOTHING};
}

static struct guard_replay_do bury(struct guard_replay *r, int kind)
{
    r->step = GUARD_REPLAY_BURYING;
    r->leaving = kind;
    return (struct guard_replay_do){.what = GUARD_REPLAY_BURY, .seq = r->seq};
}

struct guard_replay_do guard_replay_read(struct guard_replay *r, const struct guard_replay_rule *rule,
                                         const struct guard_replay_view *v, const struct guard_replay_message *m,
                                         int64_t now_ms)
{
    if (!v->held) /* the lease went while we read: it is another's now */
        return rest(r, now_ms);
    if (!m)
        return none_there(r, now_ms);
    r->seq = m->seq;
    r->priority = m->priority < GUARD_PRIORITIES ? m->priority : GUARD_PRIORITIES - 1;
    if (r->waiting[r->priority] == 0)
        r->waiting[r->priority] = 1; /* there is one, whatever was counted */
    if (!m->sound)
        return bury(r, GUARD_LEFT_MALFORMED);
    if (guard_replay_expired(rule, m->queued_ms, m->expires_ms, now_ms))
        return bury(r, GUARD_LEFT_EXPIRED);
    if (r->looking || guard_replay_waits_for(v)) {
        int64_t at = expiry(rule, m), latest = LATER(now_ms, GUARD_REPLAY_LOOK_MS);
        r->look_ms = at < latest ? at : latest;
        return rest(r, now_ms);
    }
    if (m->epoch <= v->at->frozen_epoch && m->epoch > v->released_epoch) {
        r->skipped[r->priority]++;
        r->from[r->priority] = m->seq + 1;
        return rest(r, now_ms);
    }
    if (r->tried_seq != m->seq)
        r->tries = 0;
    r->tried_seq = m->seq;
    r->step = GUARD_REPLAY_RUNNING;
    return (struct guard_replay_do){.what = GUARD_REPLAY_RUN, .seq = m->seq};
}

void guard_replay_unread(struct guard_replay *r, int64_t now_ms)
{
    rest(r, LATER(now_ms, AGAIN_MS));
    r->look_ms = LATER(now_ms, AGAIN_MS);
}

static struct guard_replay_do leave(struct guard_replay *r, int kind)
{
    r->leaving = kind;
    return kind == GUARD_LEFT_DONE ? begin_remove(r) : bury(r, kind);
}

static int64_t pause_ms(const struct guard_replay *r, const struct guard_replay_rule *rule)
{
    int64_t ms = rule->retry_ms;
    for (uint32_t i = 1; i < r->tries && ms < RETRY_MAX_MS; i++)
        ms *= 2;
    return ms < RETRY_MAX_MS ? ms : RETRY_MAX_MS;
}

/* Refused by the guard itself: for good, or for a reason that the action is not to blame for. */
static struct guard_replay_do refused(struct guard_replay *r, const struct guard_replay_rule *rule,
                                      const struct guard_replay_outcome *o, int64_t now_ms)
{
    switch (o->reason) {
    case REASON(EXPIRED):
        return leave(r, GUARD_LEFT_EXPIRED);
    case REASON(RATE_LIMITED):
    case REASON(AUDIT_UNAVAILABLE):
    case REASON(STATE_UNKNOWN):
    case REASON(IN_PROGRESS):
    case REASON(QUEUE_FULL):
    case REASON(FROZEN):
    case REASON(UNKNOWN_AGENT):
        return rest(r, LATER(now_ms, o->retry_after_ms > rule->retry_ms ? o->retry_after_ms : rule->retry_ms));
    default:
        return leave(r, GUARD_LEFT_REFUSED);
    }
}

struct guard_replay_do guard_replay_ran(struct guard_replay *r, const struct guard_replay_rule *rule,
                                        const struct guard_replay_outcome *o, int64_t now_ms)
{
    switch (o->end) {
    case GUARD_END_DONE:
        return leave(r, GUARD_LEFT_DONE);
    case GUARD_END_REJECTED:
        return leave(r, GUARD_LEFT_REJECTED);
    case GUARD_END_REFUSED:
        return refused(r, rule, o, now_ms);
    case GUARD_END_PERMITTED: /* the agent that asked for it is not there to execute it */
        return leave(r, GUARD_LEFT_REFUSED);
    case GUARD_END_QUEUE: /* a change of the position comes before */
        return rest(r, LATER(now_ms, o->hold ? HOLD_MS : AGAIN_MS));
    default: {
        if (o->reason) /* the guard's own: nobody was called, so no try is counted */
            return refused(r, rule, o, now_ms);
        r->tries++;
        if (r->tries >= rule->dead_after)
            return leave(r, GUARD_LEFT_POISON);
        int64_t ms = pause_ms(r, rule);
        return rest(r, LATER(now_ms, o->retry_after_ms > ms ? o->retry_after_ms : ms));
    }
    }
}

struct guard_replay_do guard_replay_buried(struct guard_replay *r, bool durable, int64_t now_ms)
{
    if (durable)
        return begin_remove(r);
    if (r->leaving == GUARD_LEFT_POISON && r->tries > 0)
        r->tries--; /* its last try is made again rather than its end forgotten */
    r->look_ms = LATER(now_ms, AGAIN_MS);
    return rest(r, LATER(now_ms, AGAIN_MS));
}

void guard_replay_removed(struct guard_replay *r, bool gone, int64_t now_ms)
{
    if (!gone) {
        r->remove = true;
        rest(r, LATER(now_ms, AGAIN_MS));
        return;
    }
    r->left[r->leaving]++;
    unsigned p = r->priority;
    if (r->waiting[p] > 0)
        r->waiting[p]--;
    if (r->seq < r->from[p] && r->skipped[p] > 0)
        r->skipped[p]--; /* one that was passed over has expired */
    rest(r, now_ms);
    if (r->looking || first(r) < 0)
        r->look_ms = now_ms; /* the next may have expired as well; or this was the last */
}

void guard_replay_said(struct guard_replay *r)
{
    memset(r->left, 0, sizeof r->left);
}

/* ---- meanwhile ---- */

void guard_replay_counts(struct guard_replay *r, const uint64_t waiting[GUARD_PRIORITIES], int64_t now_ms)
{
    bool was = looks(r);
    for (int p = 0; p < GUARD_PRIORITIES; p++) {
        r->waiting[p] = waiting[p];
        if (r->skipped[p] > waiting[p]) { /* somebody dropped some: they are counted anew */
            r->skipped[p] = 0;
            r->from[p] = 0;
        }
    }
    if (!was || (unsaid(r) && guard_replay_waiting(r) == 0))
        r->look_ms = now_ms;
}

void guard_replay_put(struct guard_replay *r, unsigned priority)
{
    r->waiting[priority < GUARD_PRIORITIES ? priority : GUARD_PRIORITIES - 1]++;
}

void guard_replay_moved(struct guard_replay *r, const struct guard_replay_view *v, int64_t now_ms)
{
    bool waits = guard_replay_waits_for(v) != NULL;
    if (waits)
        r->tries = 0; /* it was the backend, not the action */
    if (waits || r->tries == 0)
        r->wake_ms = now_ms;
}

void guard_replay_released(struct guard_replay *r)
{
    memset(r->skipped, 0, sizeof r->skipped);
    memset(r->from, 0, sizeof r->from);
}

/* ---- pace ---- */

int64_t guard_pace(struct guard_pace *p, int64_t rate, size_t parts, size_t parts_all, int64_t now_us)
{
    if (rate <= 0 || parts == 0)
        return 1000000;
    int64_t each_us = INT64_C(1000000) * (int64_t)parts_all / (rate * (int64_t)parts);
    if (each_us < 1)
        each_us = 1;
    if (p->next_us < now_us - GUARD_PACE_SLACK_US)
        p->next_us = now_us - GUARD_PACE_SLACK_US;
    if (p->next_us > now_us)
        return p->next_us - now_us;
    p->next_us += each_us;
    return 0;
}
