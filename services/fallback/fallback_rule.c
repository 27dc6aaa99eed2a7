/* fallback_rule.c - from an agent's settings to the decider's rule. */
#include "fallback/fallback_shell.h"
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define UNFIT_TEXT 160

static const char *text(const char *s)
{
    return s ? s : "";
}

/* Why the agent cannot use that model; false if it can. What a model does not say it does not have: a switch to a model that cuts
 * the agent's context, or lets its data leave the country, is worse than none. */
static bool unfit(const struct set_needs *n, const struct set_chain_item *x, char buf[static UNFIT_TEXT])
{
    if (n->context > 0 && x->context < n->context) {
        if (x->context > 0)
            snprintf(buf, UNFIT_TEXT, "its context of %" PRId64 " tokens is less than the %" PRId64 " needed",
                     x->context, n->context);
        else
            snprintf(buf, UNFIT_TEXT, "its context is not said, and %" PRId64 " tokens are needed", n->context);
        return true;
    }
    if (*text(n->tools) && strcmp(n->tools, text(x->tools)) != 0) {
        snprintf(buf, UNFIT_TEXT, "its tool calls are %s%s%s, and %s is needed",
                 *text(x->tools) ? "of the format " : "", *text(x->tools) ? x->tools : "not said", "", n->tools);
        return true;
    }
    for (size_t i = 0; i < n->residency.n; i++)
        if (strcmp(*CONF_AT(n->residency, char *, i), text(x->residency)) == 0)
            return false;
    if (n->residency.n == 0)
        return false;
    if (*text(x->residency))
        snprintf(buf, UNFIT_TEXT, "its data stay in %s, which is not among the places allowed", x->residency);
    else
        snprintf(buf, UNFIT_TEXT, "where its data stay is not said");
    return true;
}

static void set_chain(struct agent *a, const struct set_agent *set)
{
    struct fallback_rule *r = &a->rule;
    char why[FALLBACK_CHAIN_MAX][UNFIT_TEXT];
    bool bad[FALLBACK_CHAIN_MAX] = {false};
    size_t size = 0, at = 0;
    for (size_t i = 0; i < set->chain.n && i < FALLBACK_CHAIN_MAX; i++) {
        const struct set_chain_item *x = CONF_AT(set->chain, struct set_chain_item, i);
        r->chain[i].target = x->target;
        r->chain[i].model = text(x->model);
        if ((bad[i] = unfit(&set->needs, x, why[i])))
            size += strlen(why[i]) + 1;
        r->n_chain = i + 1;
    }
    free(a->fx.unfit);
    a->fx.unfit = size > 0 ? malloc(size) : NULL;
    if (size > 0 && !a->fx.unfit)
        abort(); /* without the texts an unfit model would be used */
    for (size_t i = 0; i < r->n_chain; i++)
        if (bad[i]) {
            size_t n = strlen(why[i]) + 1;
            r->chain[i].unfit = memcpy(a->fx.unfit + at, why[i], n);
            at += n;
        }
}

void rule_set(struct agent *a, const struct set_agent *set)
{
    static const int rollbacks[] = {[SET_GONE_OFFER] = FALLBACK_ROLLBACK_OFFER,
                                    [SET_GONE_ROLLBACK] = FALLBACK_ROLLBACK_START,
                                    [SET_GONE_NOTHING] = FALLBACK_ROLLBACK_NOTHING};
    const struct set_resources *res = &set->resources;
    int64_t per_hour = res->restart.per_hour;
    a->set = set;
    a->rule = (struct fallback_rule){
        .agent = a->name,
        .backend = text(set->backend),
        .override = *text(set->override.url),
        .override_duration_ms = set->override.duration_ms,
        .override_renew_ms = set->override.renew_ms,
        .override_retry_ms = set->override.retry_ms,
        .ack_ms = set->ack_ms,
        .ack_alert_ms = set->ack_alert_ms,
        .restore_hold_ms = set->restore_hold_ms,
        .backend_step_ms = set->backend_step_ms,
        .rank = fallback_rank(a->name),
        .shed_step_ms = res->step_ms,
        .shed_hold_ms = res->hold_ms,
        .may_restart = res->restart.command.n > 0,
        .restarts_per_hour = per_hour < 1                       ? 1
                             : per_hour > FALLBACK_RESTARTS_MAX ? FALLBACK_RESTARTS_MAX
                                                                : (unsigned)per_hour,
        .return_step_ms = set->recovery.step_ms,
        .monitor_interval_ms = (uint32_t)set->monitor_interval_ms,
        .procedure = text(set->recovery.procedure),
        .deployment = text(set->recovery.deployment),
        .rollback = rollbacks[set->recovery.rollback],
        .rollback_after_ms = set->recovery.rollback_after_ms,
        .has_selftest = set->selftest.questions.n > 0,
    };
    set_chain(a, set);
    agent_link_targets(a);
    agent_join_api(a);
}
