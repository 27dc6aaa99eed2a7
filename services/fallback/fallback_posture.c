/* fallback_posture.c - what follows from a document alone: its posture, what must hold of it, what still holds the agent. */
#include "fallback/fallback_impl.h"
#include <stdio.h>
#include <string.h>

/* What a directive is named after when several things changed at once: the strictest. */
const int fallback_step_weight[FALLBACK_STEPS] = {
    [FALLBACK_STEP_NONE] = 0,
    [FALLBACK_STEP_UNFREEZE] = 1,
    [FALLBACK_STEP_RESTORE_LLM] = 2,
    [FALLBACK_STEP_RESTORE_BACKEND] = 3,
    [FALLBACK_STEP_RESTORE_LOAD] = 4,
    [FALLBACK_STEP_RECONNECT] = 5,
    [FALLBACK_STEP_RAMP_BACKEND] = 6,
    [FALLBACK_STEP_SHED_LOAD] = 7,
    [FALLBACK_STEP_REQUEST_RESTART] = 8,
    [FALLBACK_STEP_SWITCH_LLM] = 9,
    [FALLBACK_STEP_WAIT_LLM] = 10,
    [FALLBACK_STEP_RESTART] = 11,
    [FALLBACK_STEP_RESTRICT] = 12,
    [FALLBACK_STEP_DEGRADE_BACKEND] = 13,
    [FALLBACK_STEP_SECURITY] = 14,
    [FALLBACK_STEP_FREEZE] = 15,
    [FALLBACK_STEP_INITIAL] = 16,
};

static const char *const posture_names[] = {
    "?", "NORMAL", "BACKUP_LLM", "RECOVERING", "DEGRADED", "SECURITY_FALLBACK", "FROZEN"};
static const char *const step_names[FALLBACK_STEPS] = {
    "?",           "INITIAL",         "SWITCH_LLM",   "SECURITY_FALLBACK",
    "RESTORE_LLM", "DEGRADE_BACKEND", "RAMP_BACKEND", "RESTORE_BACKEND",
    "FREEZE",      "UNFREEZE",        "RESTRICT",     "RECONNECT",
    "SHED_LOAD",   "REQUEST_RESTART", "RESTART",      "RESTORE_LOAD",
    "WAIT_LLM"};
static const char *const failure_names[] = {
    "NONE", "LLM_OUTAGE", "BACKEND_FAILURE", "LOGIC_ERROR", "RESOURCE_EXHAUSTION", "NETWORK", "AGENT_DOWN"};

const char *fallback_posture_name(int p)
{
    return posture_names[p >= FALLBACK_NORMAL && p <= FALLBACK_FROZEN ? p : 0];
}

const char *fallback_step_name(int s)
{
    return step_names[s >= FALLBACK_STEP_INITIAL && s < FALLBACK_STEPS ? s : 0];
}

const char *fallback_failure_name(int f)
{
    return failure_names[f >= FALLBACK_FAILURE_NONE && f <= FALLBACK_FAILURE_AGENT_DOWN ? f : 0];
}

int fallback_step_failure(int step)
{
    static const int about[FALLBACK_STEPS] = {
        [FALLBACK_STEP_SWITCH_LLM] = FALLBACK_FAILURE_LLM,
        [FALLBACK_STEP_SECURITY] = FALLBACK_FAILURE_LLM,
        [FALLBACK_STEP_RESTORE_LLM] = FALLBACK_FAILURE_LLM,
        [FALLBACK_STEP_WAIT_LLM] = FALLBACK_FAILURE_LLM,
        [FALLBACK_STEP_DEGRADE_BACKEND] = FALLBACK_FAILURE_BACKEND,
        [FALLBACK_STEP_RAMP_BACKEND] = FALLBACK_FAILURE_BACKEND,
        [FALLBACK_STEP_RESTORE_BACKEND] = FALLBACK_FAILURE_BACKEND,
        [FALLBACK_STEP_FREEZE] = FALLBACK_FAILURE_LOGIC,
        [FALLBACK_STEP_UNFREEZE] = FALLBACK_FAILURE_LOGIC,
        [FALLBACK_STEP_SHED_LOAD] = FALLBACK_FAILURE_RESOURCE,
        [FALLBACK_STEP_REQUEST_RESTART] = FALLBACK_FAILURE_RESOURCE,
        [FALLBACK_STEP_RESTART] = FALLBACK_FAILURE_RESOURCE,
        [FALLBACK_STEP_RESTORE_LOAD] = FALLBACK_FAILURE_RESOURCE,
    };
    return about[step];
}

bool fallback_without_llm(const struct fallback_doc *d)
{
    return d->llm_index < 0 && !d->llm_waiting;
}

/* ---- what each dimension asks for ---- */

enum dimension { AUTOMATION, LLM, LINK, BACKEND, RESOURCES, DIMENSIONS }; /* of two as strict, the first is named */

static int asks(const struct fallback_doc *d, enum dimension x)
{
    static const int by_backend[] = {[FALLBACK_BACKEND_UP] = FALLBACK_NORMAL,
                                     [FALLBACK_BACKEND_DEGRADED] = FALLBACK_DEGRADED,
                                     [FALLBACK_BACKEND_RECOVERING] = FALLBACK_RECOVERING};
    static const int by_link[] = {[FALLBACK_LINK_UP] = FALLBACK_NORMAL,
                                  [FALLBACK_LINK_RESTRICTED] = FALLBACK_DEGRADED,
                                  [FALLBACK_LINK_GONE] = FALLBACK_DEGRADED,
                                  [FALLBACK_LINK_RETURNING] = FALLBACK_RECOVERING};
    switch (x) {
    case AUTOMATION:
        return d->automation == FALLBACK_AUTOMATION_FROZEN ? FALLBACK_FROZEN : FALLBACK_NORMAL;
    case LLM:
        return d->llm_waiting     ? FALLBACK_DEGRADED
               : d->llm_index < 0 ? FALLBACK_SECURITY
               : d->llm_index > 0 ? FALLBACK_BACKUP_LLM
                                  : FALLBACK_NORMAL;
    case LINK:
        return by_link[d->link];
    case BACKEND:
        return by_backend[d->backend];
    case RESOURCES:
        return d->resources == FALLBACK_RESOURCES_OK                                   ? FALLBACK_NORMAL
               : d->resources == FALLBACK_RESOURCES_RESTARTING || d->restart_requested ? FALLBACK_DEGRADED
                                                                                       : FALLBACK_RECOVERING;
    case DIMENSIONS:
        break;
    }
    return FALLBACK_FROZEN; /* not reached: no dimension is worse than none */
}

int fallback_posture(const struct fallback_doc *d)
{
    int strictest = FALLBACK_NORMAL;
    for (enum dimension x = 0; x < DIMENSIONS; x++)
        if (asks(d, x) > strictest)
            strictest = asks(d, x);
    return strictest;
}

/* ---- what still holds the agent ---- */

static void stands(const struct turn *t, enum dimension x, int *failure, const char **cause, char *text, size_t room)
{
    const struct fallback_doc *d = t->d;
    static const char *const link[] = {[FALLBACK_LINK_UP] = "",
                                       [FALLBACK_LINK_RESTRICTED] = "cannot be reached",
                                       [FALLBACK_LINK_GONE] = "is gone",
                                       [FALLBACK_LINK_RETURNING] = "returns step by step"};
    *cause = "";
    switch (x) {
    case AUTOMATION:
        /* By a person: no failure is known to be behind it. */
        *failure = strcmp(d->frozen_by, "health") == 0 || fallback_drilled(t, FALLBACK_FAILURE_LOGIC)
                       ? FALLBACK_FAILURE_LOGIC
                       : FALLBACK_FAILURE_NONE;
        snprintf(text, room, "frozen by %s: %.200s", d->frozen_by, d->frozen_why);
        break;
    case LLM:
        *failure = FALLBACK_FAILURE_LLM;
        *cause = t->rule->chain[0].target;
        snprintf(text, room, "%s",
                 d->llm_waiting     ? "waits for its turn at another LLM"
                 : d->llm_index < 0 ? "no LLM of the chain is usable"
                                    : "uses a backup LLM");
        break;
    case LINK:
        *failure = d->link == FALLBACK_LINK_RESTRICTED ? FALLBACK_FAILURE_NETWORK : FALLBACK_FAILURE_AGENT_DOWN;
        snprintf(text, room, "%s %s", t->rule->agent, link[d->link]);
        break;
    case BACKEND:
        *failure = FALLBACK_FAILURE_BACKEND;
        *cause = t->rule->backend;
        if (d->backend == FALLBACK_BACKEND_DEGRADED)
            snprintf(text, room, "%s cannot be used", t->rule->backend);
        else
            snprintf(text, room, "%u %% of the calls to %s pass", d->ramp_percent, t->rule->backend);
        break;
    case RESOURCES:
    case DIMENSIONS:
        *failure = FALLBACK_FAILURE_RESOURCE;
        if (d->resources == FALLBACK_RESOURCES_RESTARTING || d->restart_requested)
            snprintf(text, room, "its resources are used up, a restart is %s",
                     d->restart_requested ? "asked for" : "under way");
        else
            snprintf(text, room, "it takes on %u %% of its work", d->shed_percent);
        break;
    }
}

bool fallback_standing(const struct turn *t, int *ret_failure, const char **ret_cause, char *text, size_t room)
{
    int p = fallback_posture(t->d);
    if (p == FALLBACK_NORMAL)
        return false;
    for (enum dimension x = 0; x < DIMENSIONS; x++)
        if (asks(t->d, x) == p) {
            stands(t, x, ret_failure, ret_cause, text, room);
            return true;
        }
    return false;
}

/* ---- what must hold ---- */

const char *fallback_invariant(const struct fallback_doc *d)
{
    bool off = d->override_mode == FALLBACK_OVERRIDE_OFF;
    uint32_t least = d->shed_percent < d->return_percent ? d->shed_percent : d->return_percent;
    const struct {
        bool holds;
        const char *what;
    } all[] = {
        {d->epoch > 0, "there is an epoch"},
        {d->backend >= FALLBACK_BACKEND_UP && d->backend <= FALLBACK_BACKEND_RECOVERING, "the backend mode is one"},
        {d->automation == FALLBACK_AUTOMATION_ENABLED || d->automation == FALLBACK_AUTOMATION_FROZEN,
         "the automation mode is one"},
        {d->override_mode >= FALLBACK_OVERRIDE_OFF && d->override_mode <= FALLBACK_OVERRIDE_RELEASING,
         "the override mode is one"},
        {d->resources >= FALLBACK_RESOURCES_OK && d->resources <= FALLBACK_RESOURCES_RESTARTING,
         "the resource mode is one"},
        {d->link >= FALLBACK_LINK_UP && d->link <= FALLBACK_LINK_RETURNING, "the link mode is one"},
        {d->shed_percent >= 1 && d->shed_percent <= 100 && d->return_percent >= 1 && d->return_percent <= 100,
         "the share of work is a share"},
        {d->load_percent == least, "the share of work is the least that is asked for"},
        {(d->shed_percent == 100) == (d->resources == FALLBACK_RESOURCES_OK), "work is shed for a reason"},
        {d->return_percent == 100 || d->link == FALLBACK_LINK_RETURNING, "a way back is walked by who returns"},
        {!d->restart_requested || d->resources == FALLBACK_RESOURCES_SHEDDING,
         "a restart is asked for with a reason"},
        {(d->resources == FALLBACK_RESOURCES_RESTARTING) == (d->restart_id[0] != '\0'),
         "a restart has an id exactly while it is under way"},
        {d->n_restarts <= FALLBACK_RESTARTS_MAX, "the restarts can be counted"},
        {!d->llm_waiting || d->llm_index < 0, "who waits for an LLM has none"},
        {d->llm_waiting == (d->llm_wanted[0] != '\0'), "who waits for an LLM knows which"},
        {d->frozen_epoch <= d->epoch, "no freeze of the future"},
        {d->drill_failure >= FALLBACK_FAILURE_NONE && d->drill_failure <= FALLBACK_FAILURE_AGENT_DOWN &&
             d->drill_was >= FALLBACK_FAILURE_NONE && d->drill_was <= FALLBACK_FAILURE_AGENT_DOWN,
         "a drill is of a kind of failure"},
        {(d->drill_failure == FALLBACK_FAILURE_NONE) == (d->drill_until_ms == 0), "a drill has an end"},
        {(d->drill_failure == FALLBACK_FAILURE_NONE) == (d->drill_by[0] == '\0'), "a drill is somebody's"},
        {(d->drill_was == FALLBACK_FAILURE_NONE) == (d->drill_ended_ms == 0), "a drill that is over has ended"},
        {d->drill_was == FALLBACK_FAILURE_NONE || d->drill_failure == FALLBACK_FAILURE_NONE, "one drill at a time"},
        {d->rollback_id[0] == '\0' || d->link == FALLBACK_LINK_GONE, "a rollback is asked for while it is gone"},
        {d->llm_index >= -1 && d->llm_index < FALLBACK_CHAIN_MAX, "the LLM index is in the chain"},
        {(d->llm_index < 0) == (d->llm_target[0] == '\0'), "an LLM is named exactly if there is one"},
        {(d->backend == FALLBACK_BACKEND_RECOVERING) == (d->ramp_percent > 0) && d->ramp_percent <= 100,
         "there is a ramp exactly while recovering"},
        {(d->automation == FALLBACK_AUTOMATION_FROZEN) == (d->frozen_by[0] != '\0'),
         "somebody froze it exactly if it is frozen"},
        {d->drill_failure != FALLBACK_FAILURE_LOGIC || d->automation == FALLBACK_AUTOMATION_FROZEN,
         "a drill of a logic error is a freeze"},
        {off == (d->override_key[0] == '\0'), "an activation has a key"},
        {off == (d->override_until_ms == 0), "an activation has an end"},
        {d->acked_epoch <= d->epoch, "nothing is confirmed that was not said"},
        {d->open_alerts < 1u << FALLBACK_NOTICES, "the open alerts are known kinds"},
    };
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
        if (!all[i].holds)
            return all[i].what;
    /* Only now are the dimensions known to be in range. */
    if (d->posture != fallback_posture(d))
        return "the posture is the strictest that is asked for";
    return (d->evidence_ms == 0) == (d->posture == FALLBACK_NORMAL) ? NULL
                                                                    : "there is evidence exactly if not NORMAL";
}
