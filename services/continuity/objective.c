/* objective.c - each objective's verdict from what is known, and which targets are an agent's. Pure; see objective.h. */
#include "continuity/objective.h"
#include <fnmatch.h>
#include <stdio.h>
#include <string.h>

#define VERDICT(x) REDOUBT__V1__OBJECTIVE_VERDICT__OBJECTIVE_VERDICT_##x

const char *objective_text(int64_t ms, char buf[static OBJECTIVE_TEXT])
{
    static const struct {
        const char *name;
        int64_t ms;
    } units[] = {{"d", 86400000}, {"h", 3600000}, {"m", 60000}, {"s", 1000}, {"ms", 1}};
    const size_t n = sizeof units / sizeof units[0];
    const char *sign = ms < 0 ? "-" : "";
    if (ms < 0)
        ms = ms == INT64_MIN ? INT64_MAX : -ms;
    size_t i = 0;
    while (i + 1 < n && ms < units[i].ms)
        i++;
    int64_t whole = ms / units[i].ms, rest = i + 1 < n ? ms % units[i].ms / units[i + 1].ms : 0;
    /* Milliseconds behind seconds are noise. */
    if (rest > 0 && i + 2 < n)
        snprintf(buf, OBJECTIVE_TEXT, "%s%lld%s %lld%s", sign, (long long)whole, units[i].name, (long long)rest,
                 units[i + 1].name);
    else
        snprintf(buf, OBJECTIVE_TEXT, "%s%lld%s", sign, (long long)whole, units[i].name);
    return buf;
}

void objective_add(struct objective_history *h, int64_t at_ms, int64_t took_ms, const char *by)
{
    if (h->n == OBJECTIVE_SHOWN)
        memmove(h->shown, h->shown + 1, --h->n * sizeof h->shown[0]);
    struct objective_shown *s = &h->shown[h->n++];
    s->at_ms = at_ms;
    s->took_ms = took_ms < 0 ? 0 : took_ms;
    snprintf(s->by, sizeof s->by, "%s", by);
}

static void recovery_point(const struct objective_facts *f, int64_t now_ms, struct objective_view *v)
{
    char a[OBJECTIVE_TEXT], b[OBJECTIVE_TEXT];
    if (!f->measured) {
        snprintf(v->why, sizeof v->why, "nothing is backed up for it: name a source in `backups`");
        return;
    }
    v->has_estimate = f->expected_ms > 0;
    v->estimate_ms = f->expected_ms;
    if (f->point_ms <= 0) {
        snprintf(v->why, sizeof v->why, "%s has no copy yet whose restore is proven",
                 f->point_by ? f->point_by : "the source");
        return;
    }
    v->has_demonstrated = true;
    v->demonstrated_at_ms = f->point_ms;
    v->demonstrated_ms = now_ms > f->point_ms ? now_ms - f->point_ms : 0;
    v->demonstrated_by = f->point_by;
    bool late = v->demonstrated_ms > f->target_ms;
    v->verdict = late ? VERDICT(BREACHED) : VERDICT(MET);
    snprintf(v->why, sizeof v->why, "the newest copy that is proven is %s old, %s %s",
             objective_text(v->demonstrated_ms, a), late ? "allowed is" : "within", objective_text(f->target_ms, b));
}

/* RTO and MAD: what incidents, drills and test restores have shown. */
static void shown(const struct objective_facts *f, int64_t now_ms, struct objective_view *v)
{
    char a[OBJECTIVE_TEXT], b[OBJECTIVE_TEXT];
    const struct objective_history *h = f->history;
    if (!h || h->n == 0) {
        snprintf(v->why, sizeof v->why, "never demonstrated: no incident, drill or test restore has shown it");
        return;
    }
    for (size_t i = 0; i < h->n; i++)
        if (h->shown[i].took_ms > v->estimate_ms)
            v->estimate_ms = h->shown[i].took_ms;
    const struct objective_shown *last = &h->shown[h->n - 1];
    v->has_estimate = v->has_demonstrated = true;
    v->demonstrated_ms = last->took_ms;
    v->demonstrated_at_ms = last->at_ms;
    v->demonstrated_by = last->by;
    v->expired = now_ms - last->at_ms > f->expire_ms;
    if (v->expired) {
        snprintf(v->why, sizeof v->why, "last demonstrated %s ago, by %.128s; counts for %s",
                 objective_text(now_ms - last->at_ms, a), last->by, objective_text(f->expire_ms, b));
        return;
    }
    bool late = last->took_ms > f->target_ms;
    v->verdict = late ? VERDICT(BREACHED) : VERDICT(MET);
    snprintf(v->why, sizeof v->why, "took %s, %s %s, by %.128s", objective_text(last->took_ms, a),
             late ? "allowed is" : "within", objective_text(f->target_ms, b), last->by);
}

void objective_judge(const struct objective_facts *f, int64_t now_ms, struct objective_view *ret)
{
    char a[OBJECTIVE_TEXT], b[OBJECTIVE_TEXT];
    *ret = (struct objective_view){.verdict = VERDICT(UNKNOWN)};
    if (f->objective >= SET_RPO_LEARNING)
        recovery_point(f, now_ms, ret);
    else
        shown(f, now_ms, ret);
    /* The same bound as the alert at 100 %: who is told that it is breached finds it so. */
    if (f->running_ms > 0 && f->running_ms >= f->target_ms) {
        ret->verdict = VERDICT(BREACHED);
        snprintf(ret->why, sizeof ret->why, "runs for %s, allowed is %s, in incident %s",
                 objective_text(f->running_ms, a), objective_text(f->target_ms, b),
                 f->running_incident ? f->running_incident : "?");
    }
}

/* ---- targets ---- */

int objective_own(const struct set_continuity *set, const char *agent)
{
    for (size_t i = 0; agent && i < set->own.n; i++) {
        const struct set_own_objectives *own = CONF_AT(set->own, struct set_own_objectives, i);
        for (size_t k = 0; k < own->agents.n; k++)
            if (fnmatch(*CONF_AT(own->agents, char *, k), agent, 0) == 0)
                return (int)i;
    }
    return -1;
}

void objective_targets_of(const struct set_continuity *set, int own, int64_t ret[static SET_OBJECTIVES])
{
    const struct set_own_objectives *o =
        own >= 0 && (size_t)own < set->own.n ? CONF_AT(set->own, struct set_own_objectives, own) : NULL;
    for (int i = 0; i < SET_OBJECTIVES; i++)
        ret[i] = o && o->ms[i] > 0 ? o->ms[i] : set->objectives.ms[i];
}

void objective_targets(const struct set_continuity *set, const char *agent, int64_t ret[static SET_OBJECTIVES])
{
    objective_targets_of(set, objective_own(set, agent), ret);
}
