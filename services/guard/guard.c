/* guard.c - may this action be taken now, as tables: each dimension of an agent's position says how far the gate is open. */
#include "guard/guard.h"
#include "common/rank.h"
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define IS(what)     REDOUBT__V1__##what
#define REASON(what) REDOUBT__V1__REFUSAL_REASON__REFUSAL_REASON_##what

/* From open to shut: the highest that any dimension asks for counts. A value that no row knows is UNSURE, the strictest. */
enum gate {
    OPEN,
    SHARE,  /* some pass, the others wait */
    AWAY,   /* none pass, they wait */
    CUT,    /* none pass, and nobody may act by himself */
    SHUT,   /* frozen */
    UNSURE, /* not known: nothing is done */
};

static const unsigned char by_posture[] = {
    [IS(POSTURE__POSTURE_UNSPECIFIED)] = UNSURE,
    [IS(POSTURE__POSTURE_NORMAL)] = OPEN,
    [IS(POSTURE__POSTURE_BACKUP_LLM)] = OPEN,
    [IS(POSTURE__POSTURE_RECOVERING)] = SHARE,
    [IS(POSTURE__POSTURE_DEGRADED)] = AWAY,
    [IS(POSTURE__POSTURE_SECURITY_FALLBACK)] = OPEN, /* what is on the list for it */
    [IS(POSTURE__POSTURE_FROZEN)] = SHUT,
};
static const unsigned char by_automation[] = {
    [IS(AUTOMATION_MODE__AUTOMATION_MODE_UNSPECIFIED)] = UNSURE,
    [IS(AUTOMATION_MODE__AUTOMATION_MODE_ENABLED)] = OPEN,
    [IS(AUTOMATION_MODE__AUTOMATION_MODE_FROZEN)] = SHUT,
};
static const unsigned char by_backend[] = {
    [IS(BACKEND_MODE__BACKEND_MODE_UNSPECIFIED)] = UNSURE,
    [IS(BACKEND_MODE__BACKEND_MODE_UP)] = OPEN,
    [IS(BACKEND_MODE__BACKEND_MODE_DEGRADED)] = AWAY,
    [IS(BACKEND_MODE__BACKEND_MODE_RECOVERING)] = SHARE,
};
static const unsigned char by_link[] = {
    [IS(LINK_MODE__LINK_MODE_UNSPECIFIED)] = UNSURE, [IS(LINK_MODE__LINK_MODE_UP)] = OPEN,
    [IS(LINK_MODE__LINK_MODE_RESTRICTED)] = CUT,     [IS(LINK_MODE__LINK_MODE_GONE)] = CUT,
    [IS(LINK_MODE__LINK_MODE_RETURNING)] = SHARE,
};
static const unsigned char by_resources[] = {
    [IS(RESOURCE_MODE__RESOURCE_MODE_UNSPECIFIED)] = UNSURE,
    [IS(RESOURCE_MODE__RESOURCE_MODE_OK)] = OPEN,
    [IS(RESOURCE_MODE__RESOURCE_MODE_SHEDDING)] = SHARE,
    [IS(RESOURCE_MODE__RESOURCE_MODE_RESTARTING)] = AWAY,
};

static enum gate look(const unsigned char *table, size_t n, int value)
{
    return value >= 0 && (size_t)value < n ? (enum gate)table[value] : UNSURE;
}
#define LOOK(table, value) look(table, sizeof(table), value)

static enum gate gate_of(const struct guard_position *p)
{
    enum gate asked[] = {
        LOOK(by_posture, p->posture),     LOOK(by_automation, p->automation),
        LOOK(by_backend, p->backend),     LOOK(by_link, p->link),
        LOOK(by_resources, p->resources), p->llm_waiting || p->restart_requested ? AWAY : OPEN,
    };
    enum gate highest = OPEN;
    for (size_t i = 0; i < sizeof asked / sizeof asked[0]; i++)
        if (asked[i] > highest)
            highest = asked[i];
    return highest;
}

/* Of an agent's own work, and of the calls to its backend: the smaller one. */
static uint32_t share_of(const struct guard_position *p)
{
    uint32_t share = p->load_percent < 100 ? p->load_percent : 100;
    if (p->backend == IS(BACKEND_MODE__BACKEND_MODE_RECOVERING) && p->ramp_percent < share)
        share = p->ramp_percent;
    return share;
}

bool guard_share_has(const char *key, uint32_t percent)
{
    return rank_hash(key) % 100 < percent; /* similar keys spread */
}

__attribute__((format(printf, 3, 4))) static void refuse(struct guard_choice *c, int reason, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(c->detail, sizeof c->detail, fmt, ap);
    va_end(ap);
    c->verdict = GUARD_REFUSE;
    c->reason = reason;
}

/* What cannot be done now: a new action is refused; one that has waited waits on, as its time may come. */
__attribute__((format(printf, 4, 5))) static void not_now(struct guard_choice *c, bool replay, int reason,
                                                          const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(c->detail, sizeof c->detail, fmt, ap);
    va_end(ap);
    c->verdict = replay ? GUARD_QUEUE : GUARD_REFUSE;
    c->reason = replay ? REASON(UNSPECIFIED) : reason;
    c->hold = replay;
}

/* Printable, as it becomes part of headers and message ids. */
static bool key_ok(const char *key)
{
    for (const char *c = key; *c; c++)
        if (*c <= 0x20 || *c >= 0x7f)
            return false;
    return *key;
}

static const PB(Label) * given(const PB(ActionRequest) * r, const char *name)
{
    for (size_t i = 0; i < r->n_parameters; i++)
        if (strcmp(r->parameters[i]->key, name) == 0)
            return r->parameters[i];
    return NULL;
}

static const struct baseline_parameter *known(const struct baseline_action *a, const char *name)
{
    for (size_t i = 0; i < a->parameters.n; i++)
        if (strcmp(CONF_AT(a->parameters, struct baseline_parameter, i)->name, name) == 0)
            return CONF_AT(a->parameters, struct baseline_parameter, i);
    return NULL;
}

static bool parameters_ok(const struct baseline_action *a, const PB(ActionRequest) * r, struct guard_choice *c)
{
    char buf[256];
    for (size_t i = 0; i < r->n_parameters; i++) {
        const PB(Label) *x = r->parameters[i];
        const struct baseline_parameter *p = known(a, x->key);
        const char *wrong = !p                      ? "is not among the parameters of this action"
                            : given(r, x->key) != x ? "is given twice"
                                                    : baseline_check_value(p, x->value, buf);
        if (wrong) {
            refuse(c, REASON(INVALID), "%.64s %.180s", x->key, wrong);
            return false;
        }
    }
    for (size_t i = 0; i < a->parameters.n; i++) {
        const struct baseline_parameter *p = CONF_AT(a->parameters, struct baseline_parameter, i);
        if (p->required && !given(r, p->name)) {
            refuse(c, REASON(INVALID), "%.64s is required", p->name);
            return false;
        }
    }
    return true;
}

static bool expired(const struct guard_view *v, const PB(ActionRequest) * r, int64_t queued_ms, int64_t now_ms,
                    const struct baseline_action *a)
{
    if (r->expires_unix_ms > 0 && now_ms >= r->expires_unix_ms)
        return true;
    if (queued_ms <= 0)
        return false;
    int64_t age = v->max_age_ms;
    if (a && a->expires_ms > 0 && (age <= 0 || a->expires_ms < age))
        age = a->expires_ms;
    return age > 0 && now_ms - queued_ms >= age;
}

/* Is it for this agent, at this epoch? */
static bool epoch_ok(const struct guard_view *v, const PB(ActionRequest) * r, bool replay, struct guard_choice *c)
{
    unsigned long long asked = r->epoch, now = v->at->epoch;
    if (r->epoch > v->at->epoch) {
        not_now(c, replay, REASON(STATE_UNKNOWN), "asked for under epoch %llu, the guard knows %llu", asked, now);
        return false;
    }
    if (!replay && r->epoch < v->at->epoch) {
        refuse(c, REASON(STALE_EPOCH), "asked for under epoch %llu, the agent is at %llu", asked, now);
        return false;
    }
    if (replay && v->at->frozen_epoch > 0 && r->epoch <= v->at->frozen_epoch && r->epoch > v->released_epoch) {
        not_now(c, true, 0, "the agent was frozen after it was asked for: a person must release or drop it");
        return false;
    }
    return true;
}

/* The agent may act, and the action is on the list: by which way? */
static void route(const struct guard_view *v, const PB(ActionRequest) * r, bool replay, enum gate gate,
                  struct guard_choice *c)
{
    const struct baseline_action *a = c->action;
    bool by_agent = a->execute == BASELINE_BY_AGENT;
    if (by_agent && replay) {
        refuse(c, REASON(NOT_ALLOWED), "%.64s is carried out by the agent itself: there is nothing to replay",
               a->name);
        return;
    }
    if (!by_agent && !v->has_backend) {
        refuse(c, REASON(NOT_ALLOWED), "the settings name no backend for this agent's actions");
        return;
    }
    /* A replay has its own rate: it is not held to the share, only to there being one. What an agent does by itself needs no backend: for
     * that only the share of its own work counts. */
    bool passes = by_agent ? gate <= AWAY && guard_share_has(r->idempotency_key, v->at->load_percent)
                  : gate == SHARE
                      ? (replay && share_of(v->at) > 0) || guard_share_has(r->idempotency_key, share_of(v->at))
                      : gate == OPEN;
    if (passes) {
        c->verdict = by_agent ? GUARD_PERMIT : GUARD_FORWARD;
        return;
    }
    c->verdict = a->queue && !by_agent ? GUARD_QUEUE : GUARD_REFUSE;
    c->hold = replay;
    bool share = gate == SHARE || (by_agent && gate == AWAY);
    const char *why = share          ? "beyond the share of its work that the agent may take on now"
                      : gate == AWAY ? "the backend is away, or the agent waits or restarts"
                                     : "the agent cannot be reached for sure";
    if (c->verdict == GUARD_REFUSE)
        refuse(c, share ? REASON(RATE_LIMITED) : REASON(NOT_ALLOWED), "%s, and %.64s does not wait", why, a->name);
    else
        snprintf(c->detail, sizeof c->detail, "%s", why);
}

void guard_judge(const struct guard_view *v, const PB(ActionRequest) * r, int64_t queued_ms, int64_t now_ms,
                 struct guard_choice *ret)
{
    bool replay = queued_ms > 0;
    struct guard_choice *c = ret;
    *c = (struct guard_choice){.verdict = GUARD_REFUSE, .action = baseline_action(v->baseline, r->action)};
    if (!v->known) {
        refuse(c, REASON(UNKNOWN_AGENT), "no such agent in the settings");
        return;
    }
    if (!key_ok(r->idempotency_key)) {
        refuse(c, REASON(INVALID), "idempotency_key: allowed are printable characters without blanks");
        return;
    }
    if (expired(v, r, queued_ms, now_ms, c->action)) {
        refuse(c, REASON(EXPIRED), "its time is over");
        return;
    }
    if (!v->sure || !v->at || v->at->epoch == 0) {
        not_now(c, replay, REASON(STATE_UNKNOWN), "the agent's position is not known for sure");
        return;
    }
    enum gate gate = gate_of(v->at);
    if (gate == UNSURE) {
        not_now(c, replay, REASON(STATE_UNKNOWN), "the agent's position is of a kind that this guard does not know");
        return;
    }
    if (!epoch_ok(v, r, replay, c))
        return;
    if (gate == SHUT) {
        not_now(c, replay, REASON(FROZEN), "automated actions of this agent are frozen");
        return;
    }
    if (!v->baseline->trusted) { /* nothing that waits is thrown away for that: the file may be put right */
        not_now(c, replay, REASON(NOT_ALLOWED), "no baseline is trusted: %.200s", v->baseline->error);
        return;
    }
    if (!c->action) {
        refuse(c, REASON(NOT_ALLOWED), "%.64s is not in the baseline", r->action);
        return;
    }
    if (!parameters_ok(c->action, r, c))
        return;
    if (!(c->action->posture_bits & 1u << v->at->posture)) {
        not_now(c, replay, REASON(NOT_ALLOWED), "%.64s is not allowed in this posture", r->action);
        return;
    }
    route(v, r, replay, gate, c);
}

void guard_position_take(struct guard_position *p, const PB(AgentState) * m)
{
    *p = (struct guard_position){
        .epoch = m->epoch,
        .posture = (int)m->posture,
        .automation = (int)m->automation,
        .backend = (int)m->backend,
        /* Older versions do not say these. */
        .link = m->link ? (int)m->link : IS(LINK_MODE__LINK_MODE_UP),
        .resources = m->resources ? (int)m->resources : IS(RESOURCE_MODE__RESOURCE_MODE_OK),
        .ramp_percent = m->ramp_percent,
        .load_percent = m->load_percent ? m->load_percent : 100,
        .llm_waiting = m->llm_waiting,
        .restart_requested = m->restart_requested,
        .frozen_epoch = m->frozen_epoch,
    };
}
