/* fallback_monitor.c - basic monitoring: while an agent cannot work in full, what its watchers see is put together for it, and what it
 * reports of itself is looked at.
 *
 * Needs no backend and no LLM. Our own report only tells: the watchers' verdicts have alerts of their own. The agent's own reports move
 * something: a check that fails, or no report for two and a half intervals while it can be reached, is told to the decider. An agent that
 * has never sent a report does not do this by itself: said once, in the log, and then left at that. */
#include "common/log.h"
#include "common/metric.h"
#include "fallback/fallback_shell.h"
#include <inttypes.h>
#include <string.h>

METRIC_DEFINE(made, METRIC_COUNTER, "redoubt_fallback_monitor_reports_total",
              "Reports of basic monitoring put together for agents.");
METRIC_DEFINE(heard, METRIC_COUNTER, "redoubt_fallback_monitor_heard_total",
              "Reports of basic monitoring by the agents themselves.");

#define CHECKS_MAX 40 /* life, resources, judgement, and 32 targets */
#define NAME_TEXT  65
#define TEXT_MAX   257

enum { TOLD_NOTHING, TOLD_WELL, TOLD_BAD };

static uint64_t hash_add(uint64_t h, const char *text)
{
    for (; *text; text++)
        h = (h ^ (unsigned char)*text) * UINT64_C(0x100000001b3);
    return (h ^ 0xff) * UINT64_C(0x100000001b3);
}
#define HASH_BEGIN UINT64_C(0xcbf29ce484222325)

/* ---- what we see ---- */

struct checks {
    PB(MonitorCheck) check[CHECKS_MAX];
    PB(MonitorCheck) * list[CHECKS_MAX];
    char name[CHECKS_MAX][NAME_TEXT];
    char detail[CHECKS_MAX][TEXT_MAX];
    size_t n;
};

/* Nothing known is not a fault: there may be no watcher of that kind. */
static void add(struct checks *c, const char *name, int health, const char *reason)
{
    static const char *const names[] = {"never heard of", "UNKNOWN",  "HEALTHY",    "DEGRADED",
                                        "UNHEALTHY",      "FLAPPING", "MAINTENANCE"};
    if (c->n == CHECKS_MAX)
        return;
    size_t i = c->n++, len = strlen(name);
    c->check[i] = (PB(MonitorCheck))PB_INIT(MONITOR_CHECK);
    snprintf(c->name[i], NAME_TEXT, "%s",
             len < NAME_TEXT ? name : name + len - (NAME_TEXT - 1)); /* the end tells more */
    snprintf(c->detail[i], TEXT_MAX, "%s%s%.200s", names[health], *reason ? ": " : "", reason);
    c->check[i].name = c->name[i];
    c->check[i].detail = c->detail[i];
    c->check[i].ok = health != FALLBACK_HEALTH_UNHEALTHY && health != FALLBACK_HEALTH_FLAPPING;
    c->list[i] = &c->check[i];
}

static void look(struct agent *a, struct checks *c)
{
    c->n = 0;
    add(c, "agent", a->verdict.health, a->verdict.reason);
    add(c, "resources", a->resources.health, a->resources.reason);
    add(c, "logic", a->judgement.health, a->judgement.reason);
    for (size_t i = 0; i < a->set->watch.n; i++) {
        const char *name = *CONF_AT(a->set->watch, char *, i);
        const struct target *t = shell_target(a->sh, name);
        add(c, name, t ? t->view.health : FALLBACK_HEALTH_UNHEARD, "");
    }
}

/* In the trail when what is found changes, not each time. */
static void record(struct agent *a, const struct checks *c)
{
    uint64_t found = HASH_BEGIN;
    char text[600] = "";
    size_t n = 0, bad = 0;
    for (size_t i = 0; i < c->n; i++) {
        found = hash_add(hash_add(found, c->name[i]), c->check[i].ok ? "1" : "0");
        if (c->check[i].ok)
            continue;
        if (n < sizeof text)
            n += (size_t)snprintf(text + n, sizeof text - n, "%s%s: %s", bad ? "; " : "", c->name[i], c->detail[i]);
        bad++;
    }
    if (found == a->fx.monitor.found)
        return;
    a->fx.monitor.found = found;
    if (bad == 0)
        snprintf(text, sizeof text, "nothing found by %zu checks", c->n);
    PB(AuditRecord) r = PB_INIT(AUDIT_RECORD);
    r.action = (char *)"agent.monitored";
    r.audit_class = REDOUBT__V1__AUDIT_CLASS__AUDIT_CLASS_CONTINUITY;
    r.outcome = REDOUBT__V1__AUDIT_OUTCOME__AUDIT_OUTCOME_DONE;
    r.subject = a->name;
    r.epoch = a->f.doc.epoch;
    r.detail = text;
    service_audit(a->sh->s, &r, NULL, NULL);
}

static void report(struct agent *a)
{
    struct checks c;
    char subject[SUBJECT_MAX_LEN];
    look(a, &c);
    record(a, &c);
    if (a->sh->bus_up_mono_ms == 0)
        return; /* the next one will do */
    PB(MonitorReport) m = PB_INIT(MONITOR_REPORT);
    m.agent = a->name;
    m.instance = (char *)a->sh->s->instance;
    m.epoch = a->f.doc.epoch;
    m.checks = c.list;
    m.n_checks = c.n;
    m.seen_unix_ms = clock_wall_ms();
    snprintf(subject, sizeof subject, "%s%s", SUBJECT_MONITOR, a->name);
    metric_add(&made, 1);
    service_announce(a->sh->s, subject, NULL, &m, NULL, NULL);
}

/* ---- what the agent reports ---- */

static void tell(struct agent *a, bool bad, const char *text)
{
    int now = bad ? TOLD_BAD : TOLD_WELL;
    uint64_t what = bad ? hash_add(HASH_BEGIN, text) : 0;
    if (!agent_decided(a) || (a->fx.monitor.told == now && a->fx.monitor.told_what == what))
        return;
    struct fallback_event ev = {.kind = FALLBACK_MONITORED, .failed = bad};
    snprintf(ev.detail, sizeof ev.detail, "%s", text);
    a->fx.monitor.told = now;
    a->fx.monitor.told_what = what;
    agent_event(a, &ev, NULL);
}

static bool asked_for(const struct agent *a)
{
    return agent_decided(a) && a->f.doc.monitor_interval_ms > 0;
}

void in_monitor(struct service *s, const void *message, const struct bus_msg *m)
{
    const PB(MonitorReport) *r = message;
    struct shell *sh = s->state;
    const char *tail = subject_tail(m->subject, SUBJECT_MONITOR);
    if (!tail || strcmp(tail, r->agent) != 0) {
        service_bad_input(s, "monitor report", m, "the subject does not fit the message");
        return;
    }
    if (!r->by_agent)
        return; /* ours, or another replica's */
    struct agent *a = shell_agent(sh, r->agent);
    if (!a) {
        service_bad_input(s, "monitor report", m, "no such agent in the settings");
        return;
    }
    metric_add(&heard, 1);
    a->fx.monitor.ever = true;
    a->fx.monitor.unserved = false;
    a->fx.monitor.heard_mono_ms = clock_mono_ms();
    if (!asked_for(a))
        return;
    char text[FALLBACK_WHY_TEXT] = "";
    size_t n = 0, bad = 0;
    for (size_t i = 0; i < r->n_checks; i++) {
        if (r->checks[i]->ok)
            continue;
        if (n < sizeof text)
            n += (size_t)snprintf(text + n, sizeof text - n, "%s%s: %s", bad ? "; " : "", r->checks[i]->name,
                                  r->checks[i]->detail);
        bad++;
    }
    tell(a, bad > 0, bad > 0 ? text : "all checks of its own are well");
}

static void miss(struct agent *a, int64_t now_mono_ms)
{
    int64_t last = a->fx.monitor.heard_mono_ms > a->fx.monitor.since_mono_ms ? a->fx.monitor.heard_mono_ms
                                                                             : a->fx.monitor.since_mono_ms;
    int64_t most_ms = (int64_t)a->f.doc.monitor_interval_ms * 5 / 2;
    if (a->f.doc.link != FALLBACK_LINK_UP || a->sh->bus_up_mono_ms == 0 || service_tilted(a->sh->s)) {
        a->fx.monitor.since_mono_ms = now_mono_ms; /* it could not be heard: counted anew */
        return;
    }
    if (now_mono_ms - last <= most_ms)
        return;
    if (a->fx.monitor.ever) {
        char text[128];
        snprintf(text, sizeof text, "no report of its own within %" PRId64 " ms: basic monitoring is not done",
                 most_ms);
        tell(a, true, text);
    } else if (!a->fx.monitor.unserved) {
        a->fx.monitor.unserved = true;
        log_warn("the agent sends no reports of basic monitoring: it is watched from outside only",
                 F_STR("agent", a->name),
                 F_STR("next", "let it send redoubt.v1.monitor.<agent> while its directive "
                               "has monitor_interval_ms"));
    }
}

void monitor_tick(struct agent *a, int64_t now_mono_ms)
{
    int64_t interval_ms = a->f.doc.monitor_interval_ms;
    if (interval_ms == 0) {
        a->fx.monitor.due_mono_ms = 0;
        a->fx.monitor.told = TOLD_NOTHING;
        return;
    }
    if (a->fx.monitor.due_mono_ms == 0) {
        a->fx.monitor.due_mono_ms = a->fx.monitor.since_mono_ms = now_mono_ms;
        a->fx.monitor.found = 0;
    }
    if (now_mono_ms >= a->fx.monitor.due_mono_ms) {
        a->fx.monitor.due_mono_ms = now_mono_ms + interval_ms;
        report(a);
    }
    miss(a, now_mono_ms);
}
