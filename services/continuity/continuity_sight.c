/* continuity_sight.c - what the other services say, as signals for the board: pure but for memory.
 *
 * An agent has five dimensions, of which each is one signal at most; a target and a deployment's data have one each. What misses an agent when it is on another LLM is the
 * first of its chain, whatever has moved it last: so that a restart, which sees the last message only, files it where it was. */
#include "continuity/continuity_sight.h"
#include <stdlib.h>
#include <string.h>
#include <uthash.h>

#define EVIDENCE_MAX_MS (INT64_C(366) * 24 * 3600 * 1000)
#define CAUSE_TEXT      (TARGET_MAX_LEN + 1)
#define AGENT_PREFIX    "agent."
#define LOGIC_SUFFIX    ".logic"

enum { AGENT_DIMENSIONS = SIGNAL_LINK + 1 };
#define SEVERITY(x) ((uint8_t)REDOUBT__V1__SEVERITY__SEVERITY_##x)
#define FAILURE(x)  ((uint8_t)REDOUBT__V1__FAILURE_KIND__FAILURE_KIND_##x)

/* One signal as it was said last. */
struct told {
    uint8_t failure, condition;
    bool drill;
    int64_t at_ms;
    char cause[CAUSE_TEXT];
};
struct agent {
    char name[NAME_MAX_LEN + 1];
    uint64_t epoch, acked;
    int64_t changed_ms, issued_ms, ack_within_ms;
    uint8_t link;
    bool seen; /* a directive of it */
    bool ill;  /* its judgement, by its self-tests among others */
    uint64_t logic_epoch;
    struct told told[AGENT_DIMENSIONS];
    UT_hash_handle hh;
};
struct target {
    char name[TARGET_MAX_LEN + 1];
    enum sight_target kind;
    uint64_t health_epoch, breaker_epoch;
    bool ill, open;
    int64_t ill_since_ms, open_since_ms; /* evidence, continuity time */
    char parent[TARGET_MAX_LEN + 1];
    struct told told;
    UT_hash_handle hh;
};
struct data {
    char name[NAME_MAX_LEN + 1];
    uint64_t epoch;
    struct told told;
    UT_hash_handle hh;
};
struct sight {
    struct agent *agents;
    struct target *targets;
    struct data *data;
};

struct sight *sight_new(void)
{
    return calloc(1, sizeof(struct sight));
}

void sight_free(struct sight *x)
{
    if (!x)
        return;
    for (struct agent *a = x->agents, *next; a; a = next) {
        next = a->hh.next;
        HASH_DEL(x->agents, a);
        free(a);
    }
    for (struct target *t = x->targets, *next; t; t = next) {
        next = t->hh.next;
        HASH_DEL(x->targets, t);
        free(t);
    }
    for (struct data *d = x->data, *next; d; d = next) {
        next = d->hh.next;
        HASH_DEL(x->data, d);
        free(d);
    }
    free(x);
}

static struct agent *agent_of(struct sight *x, const char *name)
{
    struct agent *a;
    HASH_FIND_STR(x->agents, name, a);
    if (a || strlen(name) > NAME_MAX_LEN || !(a = calloc(1, sizeof *a)))
        return a;
    memcpy(a->name, name, strlen(name) + 1);
    HASH_ADD_STR(x->agents, name, a);
    return a;
}

static struct target *target_of(struct sight *x, const char *name)
{
    struct target *t;
    HASH_FIND_STR(x->targets, name, t);
    if (t || strlen(name) > TARGET_MAX_LEN || !(t = calloc(1, sizeof *t)))
        return t;
    memcpy(t->name, name, strlen(name) + 1);
    HASH_ADD_STR(x->targets, name, t);
    return t;
}

static struct data *data_of(struct sight *x, const char *name)
{
    struct data *d;
    HASH_FIND_STR(x->data, name, d);
    if (d || strlen(name) > NAME_MAX_LEN || !(d = calloc(1, sizeof *d)))
        return d;
    memcpy(d->name, name, strlen(name) + 1);
    HASH_ADD_STR(x->data, name, d);
    return d;
}

/* A point of a message's wall clock in continuity time. */
static int64_t evidence(const struct sight_time *t, int64_t unix_ms)
{
    if (unix_ms <= 0)
        return t->now_ms;
    int64_t at = unix_ms + t->offset_ms;
    if (at > t->now_ms)
        return t->now_ms;
    return at < t->now_ms - EVIDENCE_MAX_MS ? t->now_ms - EVIDENCE_MAX_MS : at;
}

static uint8_t severity_of(unsigned condition)
{
    if (condition & CONDITION_FULL)
        return SEVERITY(CRITICAL);
    if (condition & CONDITION_DEGRADED)
        return SEVERITY(HIGH);
    return SEVERITY(WARNING);
}

static const char *summary_of(enum signal_dimension d, unsigned condition)
{
    switch (d) {
    case SIGNAL_LLM:
        return condition & CONDITION_DEGRADED ? "no LLM is usable" : "on a backup LLM";
    case SIGNAL_BACKEND:
        return "its backend cannot be used";
    case SIGNAL_AUTOMATION:
        return "its automation is frozen";
    case SIGNAL_RESOURCES:
        return "it sheds load, or is restarted";
    case SIGNAL_LINK:
        return condition & CONDITION_FULL ? "its process is gone or silent" : "it cannot be reached fully";
    case SIGNAL_TARGET:
        return "failed calls or probes: it cannot be used";
    case SIGNAL_DATA:
        return "learning data are being put back";
    default:
        return "";
    }
}

static struct signal signal_of(enum signal_dimension d, const char *subject, const struct told *t)
{
    return (struct signal){.dimension = d,
                           .subject = subject,
                           .cause = t->cause,
                           .failure = t->failure,
                           .severity = severity_of(t->condition),
                           .condition = t->condition,
                           .drill = t->drill,
                           .at_ms = t->at_ms,
                           .summary = summary_of(d, t->condition)};
}

static void text(char *to, size_t size, const char *from)
{
    size_t n = from ? strlen(from) : 0;
    if (n >= size)
        n = 0; /* not a name */
    if (n > 0)
        memcpy(to, from, n);
    to[n] = '\0';
}

/* What is known already is not said again. A signal that goes on keeps its cause; its time is when its present condition began. */
static void tell(struct told *was, const struct told *is, enum signal_dimension d, const char *subject, sight_fn fn,
                 void *ctx)
{
    if (was->condition == is->condition &&
        (is->condition == 0 || (was->drill == is->drill && was->failure == is->failure)))
        return;
    bool goes_on = was->condition != 0 && is->condition != 0;
    struct told next = *is;
    if (goes_on || is->condition == 0)
        memcpy(next.cause, was->cause, sizeof next.cause);
    if (is->condition == 0) {
        next.failure = was->failure;
        next.drill = was->drill;
    }
    *was = next;
    struct signal s = signal_of(d, subject, was);
    fn(ctx, &s);
}

/* ---- agents ---- */

#define LLM_MODE(s) ((s)->llm_index != 0 || (s)->llm_waiting)

static unsigned condition_of(const PB(AgentState) * s, enum signal_dimension d)
{
    switch (d) {
    case SIGNAL_LLM:
        if (!LLM_MODE(s))
            return 0;
        return s->llm_index < 0 || s->llm_waiting ? CONDITION_LLM | CONDITION_DEGRADED : CONDITION_LLM;
    case SIGNAL_BACKEND:
        return s->backend == REDOUBT__V1__BACKEND_MODE__BACKEND_MODE_DEGRADED ||
                       s->backend == REDOUBT__V1__BACKEND_MODE__BACKEND_MODE_RECOVERING
                   ? CONDITION_DEGRADED
                   : 0;
    case SIGNAL_AUTOMATION:
        return s->automation == REDOUBT__V1__AUTOMATION_MODE__AUTOMATION_MODE_FROZEN ? CONDITION_FULL : 0;
    case SIGNAL_RESOURCES:
        return s->resources == REDOUBT__V1__RESOURCE_MODE__RESOURCE_MODE_SHEDDING ||
                       s->resources == REDOUBT__V1__RESOURCE_MODE__RESOURCE_MODE_RESTARTING
                   ? CONDITION_DEGRADED
                   : 0;
    case SIGNAL_LINK:
        if (s->link == REDOUBT__V1__LINK_MODE__LINK_MODE_GONE)
            return CONDITION_FULL;
        /* On its way back it takes a share of its work only. */
        return s->link == REDOUBT__V1__LINK_MODE__LINK_MODE_RESTRICTED ||
                       s->link == REDOUBT__V1__LINK_MODE__LINK_MODE_RETURNING
                   ? CONDITION_DEGRADED
                   : 0;
    default:
        return 0;
    }
}

static uint8_t failure_of(const PB(Directive) * d, enum signal_dimension dim, const struct told *was)
{
    const PB(AgentState) *s = d->state;
    switch (dim) {
    case SIGNAL_LLM:
        return FAILURE(LLM_OUTAGE);
    case SIGNAL_BACKEND:
        return FAILURE(BACKEND_FAILURE);
    case SIGNAL_RESOURCES:
        return FAILURE(RESOURCE_EXHAUSTION);
    case SIGNAL_LINK:
        if (s->link == REDOUBT__V1__LINK_MODE__LINK_MODE_GONE)
            return FAILURE(AGENT_DOWN);
        return was->condition && was->failure == FAILURE(AGENT_DOWN) ? FAILURE(AGENT_DOWN) : FAILURE(NETWORK);
    default: /* frozen: for its judgement, unless the freeze says otherwise */
        if (was->condition)
            return was->failure;
        return d->step == REDOUBT__V1__STEP__STEP_FREEZE && d->failure_kind != 0 ? (uint8_t)d->failure_kind
                                                                                 : FAILURE(LOGIC_ERROR);
    }
}

/* When a dimension that is new went. The position's first evidence is that of its only dimension; among several each has its own time, as far as the
 * message tells them apart. */
static int64_t began(const PB(Directive) * d, enum signal_dimension dim, bool alone, bool first_seen,
                     const struct sight_time *t)
{
    const PB(AgentState) *s = d->state;
    int64_t unix_ms = s->since_unix_ms;
    if (alone || (first_seen && dim != SIGNAL_LINK && dim != SIGNAL_RESOURCES))
        unix_ms = s->evidence_unix_ms ? s->evidence_unix_ms : s->since_unix_ms;
    else if (dim == SIGNAL_LINK)
        unix_ms = s->link_since_unix_ms;
    else if (dim == SIGNAL_RESOURCES)
        unix_ms = s->resources_since_unix_ms;
    else
        unix_ms = d->issued_unix_ms;
    return evidence(t, unix_ms ? unix_ms : d->issued_unix_ms);
}

bool sight_directive(struct sight *x, const PB(Directive) * d, const struct sight_agent *set,
                     const struct sight_time *t, sight_fn fn, void *ctx)
{
    const PB(AgentState) *s = d->state;
    struct agent *a = agent_of(x, s->agent);
    if (!a)
        return false;
    if (a->seen && s->epoch < a->epoch)
        return true;
    bool first_seen = !a->seen, again = a->seen && s->epoch == a->epoch;
    unsigned raised = 0, were = 0;
    for (int i = 0; i < AGENT_DIMENSIONS; i++) {
        raised += condition_of(s, (enum signal_dimension)i) != 0;
        were += a->told[i].condition != 0;
    }
    a->seen = true;
    a->epoch = s->epoch;
    a->link = (uint8_t)s->link;
    a->issued_ms = evidence(t, d->issued_unix_ms);
    a->ack_within_ms = d->ack_within_ms;
    if (s->acked_epoch > a->acked)
        a->acked = s->acked_epoch;
    if (!again)
        a->changed_ms = a->issued_ms;
    for (int i = 0; i < AGENT_DIMENSIONS; i++) {
        enum signal_dimension dim = (enum signal_dimension)i;
        struct told *was = &a->told[i], is = {.condition = (uint8_t)condition_of(s, dim)};
        if (is.condition) {
            is.failure = failure_of(d, dim, was);
            is.drill = s->drill_failure ? (uint8_t)s->drill_failure == is.failure
                                        : s->drill_was != 0 && (uint8_t)s->drill_was == is.failure;
            is.at_ms =
                was->condition ? a->issued_ms : began(d, dim, raised == 1 && were == 0, first_seen || were == 0, t);
            const char *cause = dim == SIGNAL_LLM ? set->llm : dim == SIGNAL_BACKEND ? set->backend : "";
            if ((dim == SIGNAL_LLM || dim == SIGNAL_BACKEND) && (!cause || !*cause))
                cause = d->cause;
            text(is.cause, sizeof is.cause, cause);
        } else {
            is.at_ms = a->issued_ms;
        }
        tell(was, &is, dim, a->name, fn, ctx);
    }
    return true;
}

bool sight_ack(struct sight *x, const PB(DirectiveAck) * k)
{
    struct agent *a = agent_of(x, k->agent);
    if (a && k->status != REDOUBT__V1__ACK_STATUS__ACK_STATUS_FAILED && k->epoch > a->acked)
        a->acked = k->epoch;
    return a;
}

const char *sight_agent_ill(const struct sight *x, const char *agent, int64_t now_ms)
{
    struct agent *a;
    HASH_FIND_STR(x->agents, agent, a);
    if (!a || !a->seen)
        return NULL; /* nothing was ever said of it */
    if (a->ill)
        return "its self-test or judgement is failed";
    if (a->link != REDOUBT__V1__LINK_MODE__LINK_MODE_UP && a->link != 0)
        return "it cannot be reached";
    /* The fallback service restricts who does not confirm in time: after that time its link says so. */
    if (a->acked < a->epoch && now_ms - a->issued_ms < a->ack_within_ms)
        return "it has not confirmed its last directive";
    return NULL;
}

int64_t sight_agent_changed(const struct sight *x, const char *agent)
{
    struct agent *a;
    HASH_FIND_STR(x->agents, agent, a);
    return a ? a->changed_ms : 0;
}

/* ---- targets ---- */

static void judge_target(struct target *t, sight_fn fn, void *ctx)
{
    struct told is = {0};
    if (t->kind != SIGHT_TARGET_OTHER && (t->ill || t->open)) {
        bool llm = t->kind == SIGHT_TARGET_LLM;
        is.condition = llm ? CONDITION_LLM : CONDITION_DEGRADED;
        is.failure = llm ? FAILURE(LLM_OUTAGE) : FAILURE(BACKEND_FAILURE);
        is.at_ms = !t->open || (t->ill && t->ill_since_ms < t->open_since_ms) ? t->ill_since_ms : t->open_since_ms;
        text(is.cause, sizeof is.cause, *t->parent ? t->parent : t->name);
    } else {
        is.at_ms = t->ill_since_ms > t->open_since_ms ? t->ill_since_ms : t->open_since_ms;
    }
    tell(&t->told, &is, SIGNAL_TARGET, t->name, fn, ctx);
}

/* `agent.<name>.logic`: the agent's own judgement. True if it was one. */
static bool take_logic(struct sight *x, const PB(HealthChanged) * h, bool *ret_ok)
{
    size_t n = strlen(h->target), prefix = strlen(AGENT_PREFIX), suffix = strlen(LOGIC_SUFFIX);
    char name[NAME_MAX_LEN + 1];
    if (strncmp(h->target, AGENT_PREFIX, prefix) != 0)
        return false;
    if (n <= prefix + suffix || strcmp(h->target + n - suffix, LOGIC_SUFFIX) != 0 ||
        n - prefix - suffix >= sizeof name)
        return true;
    memcpy(name, h->target + prefix, n - prefix - suffix);
    name[n - prefix - suffix] = '\0';
    struct agent *a = agent_of(x, name);
    *ret_ok = a;
    if (a && h->epoch > a->logic_epoch) {
        a->logic_epoch = h->epoch;
        a->ill = h->state == REDOUBT__V1__HEALTH_STATE__HEALTH_STATE_UNHEALTHY;
    }
    return true;
}

bool sight_health(struct sight *x, const PB(HealthChanged) * h, enum sight_target kind, const struct sight_time *t,
                  sight_fn fn, void *ctx)
{
    bool ok = true;
    if (take_logic(x, h, &ok))
        return ok;
    struct target *g = target_of(x, h->target);
    if (!g)
        return false;
    if (h->epoch <= g->health_epoch && g->kind == kind)
        return true;
    g->kind = kind;
    if (h->epoch > g->health_epoch) {
        g->health_epoch = h->epoch;
        switch ((int)h->state) {
        case REDOUBT__V1__HEALTH_STATE__HEALTH_STATE_UNHEALTHY:
            g->ill = true;
            g->ill_since_ms = evidence(t, h->since_unix_ms ? h->since_unix_ms : h->changed_unix_ms);
            text(g->parent, sizeof g->parent, h->suppressed_by);
            break;
        case REDOUBT__V1__HEALTH_STATE__HEALTH_STATE_UNKNOWN:
        case REDOUBT__V1__HEALTH_STATE__HEALTH_STATE_FLAPPING:
            break; /* says nothing either way */
        default:
            g->ill = false;
            g->ill_since_ms = evidence(t, h->changed_unix_ms);
            g->parent[0] = '\0';
        }
    }
    judge_target(g, fn, ctx);
    return true;
}

bool sight_breaker(struct sight *x, const PB(BreakerChanged) * b, enum sight_target kind, const struct sight_time *t,
                   sight_fn fn, void *ctx)
{
    struct target *g = target_of(x, b->target);
    if (!g)
        return false;
    if (b->epoch <= g->breaker_epoch && g->kind == kind)
        return true;
    g->kind = kind;
    if (b->epoch > g->breaker_epoch) {
        /* On its way back it is not well yet. One that a person has opened is no evidence of a failure. */
        bool open = b->state == REDOUBT__V1__BREAKER_STATE__BREAKER_STATE_OPEN ||
                    b->state == REDOUBT__V1__BREAKER_STATE__BREAKER_STATE_HALF_OPEN ||
                    b->state == REDOUBT__V1__BREAKER_STATE__BREAKER_STATE_PROBATION;
        g->breaker_epoch = b->epoch;
        if (open && !g->open)
            g->open_since_ms = evidence(t, b->evidence_unix_ms ? b->evidence_unix_ms : b->since_unix_ms);
        if (!open)
            g->open_since_ms = evidence(t, b->changed_unix_ms);
        g->open = open;
    }
    judge_target(g, fn, ctx);
    return true;
}

/* ---- learning data ---- */

/* While a job goes on: what it puts back, or has put back and not verified yet, is not to be relied on. */
static bool data_at_stake(const PB(RollbackChanged) * r)
{
    switch ((int)r->phase) {
    case REDOUBT__V1__ROLLBACK_PHASE__ROLLBACK_PHASE_DONE:
    case REDOUBT__V1__ROLLBACK_PHASE__ROLLBACK_PHASE_ABORTED:
    case REDOUBT__V1__ROLLBACK_PHASE__ROLLBACK_PHASE_REFUSED:
    case REDOUBT__V1__ROLLBACK_PHASE__ROLLBACK_PHASE_IDLE:
        return false;
    default:
        return r->data_replaced || r->op == REDOUBT__V1__ROLLBACK_OP__ROLLBACK_OP_RESTORE;
    }
}

bool sight_rollback(struct sight *x, const PB(RollbackChanged) * r, const struct sight_time *t, sight_fn fn,
                    void *ctx)
{
    struct data *d = data_of(x, r->deployment);
    if (!d)
        return false;
    if (r->epoch <= d->epoch)
        return true;
    d->epoch = r->epoch;
    struct told is = {0};
    if (data_at_stake(r)) {
        bool restoring = r->op == REDOUBT__V1__ROLLBACK_OP__ROLLBACK_OP_RESTORE && r->op_since_unix_ms;
        is.condition = CONDITION_DEGRADED;
        is.at_ms = evidence(t, restoring ? r->op_since_unix_ms : r->phase_since_unix_ms);
    } else {
        is.at_ms = evidence(t, r->changed_unix_ms);
    }
    tell(&d->told, &is, SIGNAL_DATA, d->name, fn, ctx);
    return true;
}

/* ---- what holds now ---- */

static void each_of_agent(const struct agent *a, sight_fn fn, void *ctx)
{
    for (int i = 0; i < AGENT_DIMENSIONS; i++)
        if (a->told[i].condition) {
            struct signal s = signal_of((enum signal_dimension)i, a->name, &a->told[i]);
            fn(ctx, &s);
        }
}

static void each_of_one(const struct told *t, enum signal_dimension d, const char *subject, sight_fn fn, void *ctx)
{
    if (!t->condition)
        return;
    struct signal s = signal_of(d, subject, t);
    fn(ctx, &s);
}

void sight_each(const struct sight *x, sight_fn fn, void *ctx)
{
    for (const struct target *t = x->targets; t; t = t->hh.next)
        each_of_one(&t->told, SIGNAL_TARGET, t->name, fn, ctx);
    for (const struct agent *a = x->agents; a; a = a->hh.next)
        each_of_agent(a, fn, ctx);
    for (const struct data *d = x->data; d; d = d->hh.next)
        each_of_one(&d->told, SIGNAL_DATA, d->name, fn, ctx);
}

void sight_each_of(const struct sight *x, const char *subject, sight_fn fn, void *ctx)
{
    struct target *t;
    struct agent *a;
    struct data *d;
    HASH_FIND_STR(x->targets, subject, t);
    HASH_FIND_STR(x->agents, subject, a);
    HASH_FIND_STR(x->data, subject, d);
    if (t)
        each_of_one(&t->told, SIGNAL_TARGET, t->name, fn, ctx);
    if (a)
        each_of_agent(a, fn, ctx);
    if (d)
        each_of_one(&d->told, SIGNAL_DATA, d->name, fn, ctx);
}
