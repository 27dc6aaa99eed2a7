/* status_model.c - what is known of the suite, and what of it is not normal. */
#include "cli/status_model.h"
#include "cli/continuity_view.h"
#include "cli/event_line.h"
#include "cli/rollback_view.h"
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PBE(x)         REDOUBT__V1__##x
#define SERVICE_PREFIX "redoubt-"

const char *const status_services[] = {"health", "breaker", "fallback", "guard",
                                       "alert",  "audit",   "rollback", "continuity"};
const size_t status_services_n = sizeof status_services / sizeof status_services[0];

static void *must(void *p)
{
    if (!p)
        abort();
    return p;
}

void status_clear_instances(struct status_model *s)
{
    for (size_t i = 0; i < s->n_instances; i++) {
        free(s->instances[i].service);
        json_decref(s->instances[i].stats);
    }
    free(s->instances);
    s->instances = NULL;
    s->n_instances = 0;
}

void status_free(struct status_model *s)
{
    status_clear_instances(s);
    for (size_t i = 0; i < s->n_targets; i++) {
        free(s->targets[i].name);
        wire_free(s->targets[i].health);
        wire_free(s->targets[i].breaker);
    }
    free(s->targets);
    for (size_t i = 0; i < s->n_agents; i++) {
        free(s->agents[i].name);
        wire_free(s->agents[i].state);
    }
    free(s->agents);
    for (size_t i = 0; i < s->n_deployments; i++) {
        free(s->deployments[i].name);
        wire_free(s->deployments[i].rollback);
    }
    free(s->deployments);
    wire_free(s->continuity);
    *s = (struct status_model){0};
}

void status_add_instance(struct status_model *s, json_t *stats)
{
    const char *name = json_string_value(json_object_get(stats, "name"));
    const char *id = json_string_value(json_object_get(stats, "id"));
    if (!name || !id || strncmp(name, SERVICE_PREFIX, strlen(SERVICE_PREFIX)) != 0) {
        json_decref(stats);
        return;
    }
    s->instances = must(reallocarray(s->instances, s->n_instances + 1, sizeof *s->instances));
    s->instances[s->n_instances++] =
        (struct status_instance){.service = must(strdup(name + strlen(SERVICE_PREFIX))), .stats = stats};
}

/* Place of `name` in a sorted array whose items begin with their name; *ret_found says whether it is there. */
static size_t place(const void *items, size_t n, size_t size, const char *name, bool *ret_found)
{
    size_t i = 0;
    int order = -1;
    while (i < n && (order = strcmp(*(char *const *)((const char *)items + i * size), name)) < 0)
        i++;
    *ret_found = i < n && order == 0;
    return i;
}

struct status_target *status_target(struct status_model *s, const char *name)
{
    bool found;
    size_t i = place(s->targets, s->n_targets, sizeof *s->targets, name, &found);
    if (!found) {
        s->targets = must(reallocarray(s->targets, s->n_targets + 1, sizeof *s->targets));
        memmove(s->targets + i + 1, s->targets + i, (s->n_targets - i) * sizeof *s->targets);
        s->targets[i] = (struct status_target){.name = must(strdup(name))};
        s->n_targets++;
    }
    return &s->targets[i];
}

struct status_agent *status_agent(struct status_model *s, const char *name)
{
    bool found;
    size_t i = place(s->agents, s->n_agents, sizeof *s->agents, name, &found);
    if (!found) {
        s->agents = must(reallocarray(s->agents, s->n_agents + 1, sizeof *s->agents));
        memmove(s->agents + i + 1, s->agents + i, (s->n_agents - i) * sizeof *s->agents);
        s->agents[i] = (struct status_agent){.name = must(strdup(name))};
        s->n_agents++;
    }
    return &s->agents[i];
}

struct status_deployment *status_deployment(struct status_model *s, const char *name)
{
    bool found;
    size_t i = place(s->deployments, s->n_deployments, sizeof *s->deployments, name, &found);
    if (!found) {
        s->deployments = must(reallocarray(s->deployments, s->n_deployments + 1, sizeof *s->deployments));
        memmove(s->deployments + i + 1, s->deployments + i, (s->n_deployments - i) * sizeof *s->deployments);
        s->deployments[i] = (struct status_deployment){.name = must(strdup(name))};
        s->n_deployments++;
    }
    return &s->deployments[i];
}

bool status_needs(const struct status_model *s, const char *service)
{
    if (strcmp(service, "continuity") == 0)
        return s->continuity != NULL;
    return s->n_deployments > 0 || strcmp(service, "rollback") != 0;
}

bool status_add_health(struct status_model *s, PB(HealthChanged) * m)
{
    struct status_target *t = status_target(s, m->target);
    bool fresh = !t->health || t->health->epoch < m->epoch;
    wire_free(fresh ? t->health : m);
    if (fresh)
        t->health = m;
    return fresh;
}

bool status_add_breaker(struct status_model *s, PB(BreakerChanged) * m)
{
    struct status_target *t = status_target(s, m->target);
    bool fresh = !t->breaker || t->breaker->epoch < m->epoch;
    wire_free(fresh ? t->breaker : m);
    if (fresh)
        t->breaker = m;
    return fresh;
}

bool status_add_agent(struct status_model *s, PB(AgentState) * m)
{
    struct status_agent *a = status_agent(s, m->agent);
    bool fresh = !a->state || a->state->revision < m->revision ||
                 (a->state->revision == m->revision && a->state->epoch < m->epoch);
    wire_free(fresh ? a->state : m);
    if (fresh)
        a->state = m;
    return fresh;
}

bool status_add_rollback(struct status_model *s, PB(RollbackChanged) * m)
{
    struct status_deployment *d = status_deployment(s, m->deployment);
    bool fresh = !d->rollback || d->rollback->epoch < m->epoch;
    wire_free(fresh ? d->rollback : m);
    if (fresh)
        d->rollback = m;
    return fresh;
}

bool status_add_continuity(struct status_model *s, PB(ContinuityStatus) * m)
{
    bool fresh = !s->continuity || s->continuity->at_unix_ms < m->at_unix_ms;
    bool news = !s->continuity || s->continuity->open_incidents != m->open_incidents ||
                s->continuity->breached != m->breached || s->continuity->unknown != m->unknown;
    wire_free(fresh ? s->continuity : m);
    if (fresh)
        s->continuity = m;
    return fresh && news; /* it is said each minute, and asked for every other second */
}

size_t status_replicas(const struct status_model *s, const char *service)
{
    size_t n = 0;
    for (size_t i = 0; i < s->n_instances; i++)
        n += strcmp(s->instances[i].service, service) == 0;
    return n;
}

/* ---- what is not normal ---- */

struct problems {
    void (*fn)(void *ctx, const char *text);
    void *ctx;
    size_t n;
};

__attribute__((format(printf, 2, 3))) static void problem(struct problems *p, const char *fmt, ...)
{
    char text[1024];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    p->n++;
    if (p->fn)
        p->fn(p->ctx, text);
}

static void target_problems(struct problems *p, const struct status_target *t)
{
    const PB(HealthChanged) *h = t->health;
    const PB(BreakerChanged) *b = t->breaker;
    if (!h && !b)
        problem(p, "%s: nothing is known of it yet", t->name);
    /* Maintenance was chosen by a person, with an end. */
    if (h && h->state != PBE(HEALTH_STATE__HEALTH_STATE_HEALTHY) &&
        h->state != PBE(HEALTH_STATE__HEALTH_STATE_MAINTENANCE))
        problem(p, "%s is %s%s%s%s%s", t->name, EVENT_NAME(health_state, h->state), *h->reason ? ": " : "", h->reason,
                *h->suppressed_by ? "; no alerts because of it, as this is down: " : "", h->suppressed_by);
    /* So was counting without opening. */
    if (b && b->state != PBE(BREAKER_STATE__BREAKER_STATE_CLOSED) &&
        b->state != PBE(BREAKER_STATE__BREAKER_STATE_METRICS_ONLY))
        problem(p, "%s: breaker %s%s%s", t->name, EVENT_NAME(breaker_state, b->state), *b->detail ? ": " : "",
                b->detail);
}

static void agent_problems(struct problems *p, const struct status_agent *a)
{
    const PB(AgentState) *s = a->state;
    if (!s) {
        problem(p, "agent %s: nothing is known of it yet", a->name);
        return;
    }
    if (s->posture != PBE(POSTURE__POSTURE_NORMAL))
        problem(p, "agent %s is in posture %s%s%s", a->name, EVENT_NAME(posture, s->posture), *s->reason ? ": " : "",
                s->reason);
    if (s->automation == PBE(AUTOMATION_MODE__AUTOMATION_MODE_FROZEN))
        problem(p, "agent %s is frozen by %s: %s", a->name, *s->frozen_by ? s->frozen_by : "?", s->frozen_why);
    if (s->override_mode > PBE(OVERRIDE_MODE__OVERRIDE_MODE_OFF))
        problem(p, "agent %s: the backend's override is %s", a->name, EVENT_NAME(override_mode, s->override_mode));
    if (s->acked_epoch < s->epoch)
        problem(p, "agent %s has not confirmed directive #%" PRIu64 " (last: #%" PRIu64 ")", a->name, s->epoch,
                s->acked_epoch);
}

static void deployment_problems(struct problems *p, const struct status_deployment *d)
{
    char text[ROLLBACK_VIEW_TEXT];
    if (!d->rollback)
        problem(p, "deployment %s: nothing is known of it yet", d->name);
    else if (rollback_view_problem(d->rollback, text))
        problem(p, "%s", text);
}

static void add_problem(void *ctx, const char *text)
{
    problem(ctx, "%s", text);
}

size_t status_problems(const struct status_model *s, void (*fn)(void *ctx, const char *text), void *ctx)
{
    struct problems p = {.fn = fn, .ctx = ctx};
    for (size_t i = 0; i < status_services_n; i++)
        if (status_needs(s, status_services[i]) && status_replicas(s, status_services[i]) == 0)
            problem(&p, "service %s does not answer: no replica runs, or the bus does not reach it",
                    status_services[i]);
    for (size_t i = 0; i < s->n_targets; i++)
        target_problems(&p, &s->targets[i]);
    for (size_t i = 0; i < s->n_agents; i++)
        agent_problems(&p, &s->agents[i]);
    for (size_t i = 0; i < s->n_deployments; i++)
        deployment_problems(&p, &s->deployments[i]);
    if (s->continuity)
        continuity_view_problems(s->continuity, add_problem, &p);
    return p.n;
}
