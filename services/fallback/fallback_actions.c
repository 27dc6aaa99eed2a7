/* fallback_actions.c - what was done already when an alert goes out: words for machines, true of the document behind it. */
#include "fallback/fallback.h"

typedef bool (*holds_fn)(const struct fallback_effect *e, const struct fallback_doc *d);

static bool overridden(const struct fallback_effect *e, const struct fallback_doc *d)
{
    (void)d;
    return e->override_activated;
}

static bool has_llm(const struct fallback_effect *e, const struct fallback_doc *d)
{
    (void)e;
    return d->llm_index >= 0;
}

static bool waits_for_llm(const struct fallback_effect *e, const struct fallback_doc *d)
{
    (void)e;
    return d->llm_waiting;
}

static bool monitored(const struct fallback_effect *e, const struct fallback_doc *d)
{
    (void)e;
    return d->monitor_interval_ms > 0;
}

static bool asked_to_restart(const struct fallback_effect *e, const struct fallback_doc *d)
{
    (void)e;
    return d->restart_requested;
}

static bool being_restarted(const struct fallback_effect *e, const struct fallback_doc *d)
{
    (void)e;
    return d->resources == FALLBACK_RESOURCES_RESTARTING;
}

static bool was_restarted(const struct fallback_effect *e, const struct fallback_doc *d)
{
    (void)e;
    return d->n_restarts > 0;
}

static const struct {
    enum fallback_notice notice;
    const char *action;
    holds_fn holds; /* NULL = always, when it is raised */
} rows[] = {
    {FALLBACK_NOTICE_BACKUP_LLM, "llm_switched", has_llm},
    {FALLBACK_NOTICE_BACKUP_LLM, "llm_awaited", waits_for_llm},
    {FALLBACK_NOTICE_SECURITY, "override_activated", overridden},
    {FALLBACK_NOTICE_SECURITY, "increased_monitoring", monitored},
    {FALLBACK_NOTICE_BACKEND, "degraded_mode", NULL},
    {FALLBACK_NOTICE_BACKEND, "increased_monitoring", monitored},
    {FALLBACK_NOTICE_FROZEN, "automation_frozen", NULL},
    {FALLBACK_NOTICE_FROZEN, "increased_monitoring", monitored},
    {FALLBACK_NOTICE_DOWN, "restricted", NULL},
    {FALLBACK_NOTICE_RESOURCES, "load_shed", NULL},
    {FALLBACK_NOTICE_RESOURCES, "restart_requested", asked_to_restart}, /* of the agent itself */
    {FALLBACK_NOTICE_RESOURCES, "restart_ordered", being_restarted},    /* by the executor */
    {FALLBACK_NOTICE_RESTART, "load_shed", NULL},
    {FALLBACK_NOTICE_RESTART, "restart_requested", asked_to_restart},
    {FALLBACK_NOTICE_RESTART, "restart_tried", was_restarted}, /* and failed, or did not help */
    {FALLBACK_NOTICE_LINK, "restricted", NULL},
    {FALLBACK_NOTICE_MONITOR, "monitoring_requested", monitored}, /* it may be what is not done */
    {FALLBACK_NOTICE_ROLLBACK, "restricted", NULL},
    {FALLBACK_NOTICE_ROLLBACK, "rollback_tried", NULL},
};

size_t fallback_actions(const struct fallback_effect *e, const struct fallback_doc *d,
                        const char *out[static FALLBACK_ACTIONS_MAX])
{
    size_t n = 0;
    for (size_t i = 0; !e->resolved && i < sizeof rows / sizeof rows[0] && n < FALLBACK_ACTIONS_MAX; i++)
        if (rows[i].notice == e->notice && (!rows[i].holds || rows[i].holds(e, d)))
            out[n++] = rows[i].action;
    return n;
}
