/* settings_warn.c - what a settings file may say but hardly means: objectives of continuity that contradict each other.
 *
 * Services start with them all the same: a contradiction in what is to be reached is no reason not to protect. */
#include "common/conf_impl.h"
#include "common/settings_impl.h"
#include <fnmatch.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

struct warn {
    struct conf_report *r;
    const struct set_continuity *set;
    const char *where; /* continuity.objectives, or continuity.own[2] */
    int64_t ms[SET_OBJECTIVES];
    bool own[SET_OBJECTIVES]; /* set there */
};

__attribute__((format(printf, 2, 3))) static void say(struct conf_report *r, const char *fmt, ...)
{
    char *line = NULL;
    va_list ap;
    va_start(ap, fmt);
    if (vasprintf(&line, fmt, ap) < 0)
        line = NULL;
    va_end(ap);
    conf_report_add(r, line);
}

/* `lesser` must be below `greater`, or not above it. */
static const struct rule {
    enum set_objective lesser, greater;
    bool below;
    const char *why, *what;
} rules[] = {
    {SET_RTO_DATA, SET_MAD_FULL, true, "leaves no time to validate what was restored",
     "set it lower, such as three quarters of it"},
    {SET_RTO_FULL, SET_MAD_FULL, true, "leaves no time between the goal and what can be borne at most",
     "set it lower"},
    {SET_RTO_CRITICAL, SET_RTO_FULL, false, "means that all functions are back before the critical ones are",
     "set it to that at most"},
    {SET_MAD_FULL, SET_MAD_DEGRADED, false, "means that an agent may be gone for longer than it may be degraded",
     "set it to that at most"},
    {SET_MAD_LLM_FALLBACK, SET_MAD_DEGRADED, false,
     "means that an agent may be in security fallback for longer than in degraded mode, which is milder",
     "set it to that at most"},
};

static void check_rules(const struct warn *w)
{
    char a[32], b[32];
    for (size_t i = 0; i < N_OF(rules); i++) {
        const struct rule *x = &rules[i];
        int64_t lesser = w->ms[x->lesser], greater = w->ms[x->greater];
        if ((!w->own[x->lesser] && !w->own[x->greater]) || lesser < greater || (!x->below && lesser == greater))
            continue;
        say(w->r, "%s.%s: %s is %s %s (%s): that %s; %s", w->where, settings_objectives[x->lesser],
            conf_duration_text(lesser, a, sizeof a), lesser == greater ? "equal to" : "longer than",
            settings_objectives[x->greater], conf_duration_text(greater, b, sizeof b), x->why, x->what);
    }
}

/* Clocks stop when validation has passed, and people are told at the end of `respond` at the latest. */
static void check_phases(const struct warn *w)
{
    const struct set_phases *p = &w->set->phases;
    char a[32], b[32];
    for (size_t i = SET_MAD_FULL; i <= SET_RTO_DATA; i++)
        if (w->own[i] && p->validate_ms >= w->ms[i])
            say(w->r, "%s.%s: %s can never be met: continuity.phases.validate alone takes %s; set that lower",
                w->where, settings_objectives[i], conf_duration_text(w->ms[i], a, sizeof a),
                conf_duration_text(p->validate_ms, b, sizeof b));
    if (w->own[SET_RTO_CRITICAL] && p->respond_ms >= w->ms[SET_RTO_CRITICAL])
        say(w->r,
            "%s.rto_critical: %s is over before continuity.phases.respond (%s) is overdue: nobody need know yet; set "
            "that lower",
            w->where, conf_duration_text(w->ms[SET_RTO_CRITICAL], a, sizeof a),
            conf_duration_text(p->respond_ms, b, sizeof b));
}

static void check_objectives(const struct set_continuity *c, struct conf_report *r)
{
    char where[64];
    struct warn w = {.r = r, .set = c, .where = "continuity.objectives"};
    memcpy(w.ms, c->objectives.ms, sizeof w.ms);
    for (size_t i = 0; i < SET_OBJECTIVES; i++)
        w.own[i] = true;
    check_rules(&w);
    check_phases(&w);
    w.where = where;
    for (size_t k = 0; k < c->own.n; k++) {
        const struct set_own_objectives *o = CONF_AT(c->own, struct set_own_objectives, k);
        snprintf(where, sizeof where, "continuity.own[%zu]", k);
        for (size_t i = 0; i < SET_OBJECTIVES; i++) {
            w.own[i] = o->ms[i] != 0;
            w.ms[i] = w.own[i] ? o->ms[i] : c->objectives.ms[i];
        }
        check_rules(&w);
        check_phases(&w);
    }
}

/* ---- backups, drills ---- */

static int64_t objective_of(const struct set_continuity *c, const char *agent, enum set_objective i)
{
    for (size_t k = 0; *agent && k < c->own.n; k++) {
        const struct set_own_objectives *o = CONF_AT(c->own, struct set_own_objectives, k);
        for (size_t n = 0; n < o->agents.n; n++)
            if (fnmatch(*CONF_AT(o->agents, char *, n), agent, 0) == 0)
                return o->ms[i] ? o->ms[i] : c->objectives.ms[i];
    }
    return c->objectives.ms[i];
}

static void check_backup(const struct set_continuity *c, const struct set_backup *b, struct conf_report *r)
{
    static const int rpo[] = {[SET_BACKUP_LEARNING] = SET_RPO_LEARNING,
                              [SET_BACKUP_AUDIT] = SET_RPO_AUDIT,
                              [SET_BACKUP_CONFIG] = SET_RPO_CONFIG,
                              [SET_BACKUP_NATS] = -1,
                              [SET_BACKUP_REDIS] = -1,
                              [SET_BACKUP_FILES] = -1};
    char x[32], y[32];
    if (!*b->deployment && !*b->to.repository && !*c->repository.repository)
        say(r, "continuity.backups.%s: has no repository: nothing is ever saved; set `to`, or continuity.repository",
            b->name);
    if (b->test_ms > c->expire_ms)
        say(r,
            "continuity.backups.%s.test: every %s is rarer than what it shows counts (continuity.expire: %s); set it "
            "lower",
            b->name, conf_duration_text(b->test_ms, x, sizeof x), conf_duration_text(c->expire_ms, y, sizeof y));
    if (rpo[b->kind] < 0)
        return;
    int64_t target = objective_of(c, b->agent, (enum set_objective)rpo[b->kind]);
    const char *name = settings_objectives[rpo[b->kind]];
    if (b->every_ms >= target)
        say(r,
            "continuity.backups.%s.every: %s cannot keep %s (%s): there is no copy that young at each moment; set it "
            "to "
            "half of that",
            b->name, conf_duration_text(b->every_ms, x, sizeof x), name, conf_duration_text(target, y, sizeof y));
    else if (b->late_ms > target)
        say(r, "continuity.backups.%s.late: %s tells of a missing copy after %s (%s) is breached; set it lower",
            b->name, conf_duration_text(b->late_ms, x, sizeof x), name, conf_duration_text(target, y, sizeof y));
}

static void check_drill(const struct settings *s, const struct set_drill *d, struct conf_report *r)
{
    char x[32], y[32];
    if (*d->agent && !settings_agent(s, d->agent))
        say(r, "continuity.drills.%s.agent: there is no agent `%s`: it is never played; name another, or remove it",
            d->name, d->agent);
    if (d->every_ms > s->continuity.expire_ms)
        say(r,
            "continuity.drills.%s.every: %s is rarer than what it shows counts (continuity.expire: %s); set it lower",
            d->name, conf_duration_text(d->every_ms, x, sizeof x),
            conf_duration_text(s->continuity.expire_ms, y, sizeof y));
    if (d->limit_ms > d->every_ms)
        say(r,
            "continuity.drills.%s.limit: %s is longer than `every` (%s): one would run into the next; set it lower",
            d->name, conf_duration_text(d->limit_ms, x, sizeof x), conf_duration_text(d->every_ms, y, sizeof y));
}

void settings_warn(const struct settings *s, struct conf_report *r)
{
    const struct set_continuity *c = &s->continuity;
    check_objectives(c, r);
    for (size_t i = 0; i < c->backups.n; i++)
        check_backup(c, CONF_AT(c->backups, struct set_backup, i), r);
    for (size_t i = 0; i < c->drills.n; i++)
        check_drill(s, CONF_AT(c->drills, struct set_drill, i), r);
}
