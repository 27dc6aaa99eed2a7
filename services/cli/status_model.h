/* status_model.h - what is known of the suite, and what of it is not normal. No I/O; messages come in decoded. */
#ifndef REDOUBT_CLI_STATUS_MODEL_H
#define REDOUBT_CLI_STATUS_MODEL_H

#include "common/wire.h"
#include <jansson.h>
#include <stdbool.h>

struct status_instance {
    char *service; /* "breaker" */
    json_t *stats; /* its answer to $SRV.STATS */
};
struct status_target {
    char *name;
    PB(HealthChanged) * health;   /* NULL = nothing known */
    PB(BreakerChanged) * breaker; /* NULL = nothing known */
};
struct status_agent {
    char *name;
    PB(AgentState) * state; /* NULL = nothing known */
};
struct status_deployment {
    char *name;
    PB(RollbackChanged) * rollback; /* NULL = nothing known */
};
struct status_model {
    struct status_instance *instances;
    size_t n_instances;
    struct status_target *targets; /* in order of name */
    size_t n_targets;
    struct status_agent *agents; /* in order of name */
    size_t n_agents;
    struct status_deployment *deployments; /* in order of name */
    size_t n_deployments;
    PB(ContinuityStatus) * continuity; /* NULL = nothing known */
};
/* The services that a suite has. */
extern const char *const status_services[];
extern const size_t status_services_n;
/* Is a suite without this service not whole? Rollback is needed only where something can be rolled back,
 * continuity where it has ever been. */
bool status_needs(const struct status_model *s, const char *service);

void status_free(struct status_model *s);
void status_clear_instances(struct status_model *s);
/* Takes over `stats`. Answers of programs that are not of the suite, and nonsense, are dropped. */
void status_add_instance(struct status_model *s, json_t *stats);
/* Take over the message; an older one than what is known is dropped. True if something changed. */
bool status_add_health(struct status_model *s, PB(HealthChanged) * m);
bool status_add_breaker(struct status_model *s, PB(BreakerChanged) * m);
/* By revision, then epoch: a directive's state may be older than the document's. */
bool status_add_agent(struct status_model *s, PB(AgentState) * m);
bool status_add_rollback(struct status_model *s, PB(RollbackChanged) * m);
/* The one said last counts. */
bool status_add_continuity(struct status_model *s, PB(ContinuityStatus) * m);
/* Names from the settings, so that what nothing is known of is seen, too. */
struct status_target *status_target(struct status_model *s, const char *name);
struct status_agent *status_agent(struct status_model *s, const char *name);
struct status_deployment *status_deployment(struct status_model *s, const char *name);

size_t status_replicas(const struct status_model *s, const char *service);
/* Calls fn with one line for each thing that is not normal; returns how many. fn may be NULL. */
size_t status_problems(const struct status_model *s, void (*fn)(void *ctx, const char *text), void *ctx);

#endif
