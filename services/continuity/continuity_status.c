/* continuity_status.c - objectives and how they stand: announced when a verdict changes and every minute, told when asked, alerted when an RPO is breached. */
#include "common/clock.h"
#include "common/log.h"
#include "continuity/continuity_impl.h"
#include <stdlib.h>
#include <string.h>

#define STATUS_MS   60000
#define JUDGE_MS    5000
#define ROWS_MAX    100
#define WORST_MAX   10
#define BACKUPS_MAX 64
#define DRILLS_MAX  32
#define BREACHED    REDOUBT__V1__OBJECTIVE_VERDICT__OBJECTIVE_VERDICT_BREACHED
#define UNKNOWN     REDOUBT__V1__OBJECTIVE_VERDICT__OBJECTIVE_VERDICT_UNKNOWN
#define MET         REDOUBT__V1__OBJECTIVE_VERDICT__OBJECTIVE_VERDICT_MET

/* The worst clock of each objective that runs now. */
struct running {
    int64_t ms[SET_OBJECTIVES], left_ms[SET_OBJECTIVES];
    const char *incident[SET_OBJECTIVES];
};
struct worst {
    const struct incident *x;
    int64_t left_ms; /* to its nearest limit */
};
struct seen {
    struct running running;
    struct worst worst[WORST_MAX];
    size_t n;
    uint32_t open;
};

static int64_t left_of(const struct incident *x, int64_t now_ms, int *ret_objective)
{
    int64_t best = INT64_MAX;
    *ret_objective = -1;
    for (int i = 0; i < SET_OBJECTIVES; i++) {
        const struct incident_clock *k = &x->clocks[i];
        if (!k->started || k->stopped)
            continue;
        int64_t left = k->limit_ms - incident_clock_elapsed(k, now_ms);
        if (left < best) {
            best = left;
            *ret_objective = i;
        }
    }
    return best;
}

static void keep_worst(struct seen *v, const struct incident *x, int64_t left_ms)
{
    size_t at = v->n;
    while (at > 0 && v->worst[at - 1].left_ms > left_ms)
        at--;
    if (at == WORST_MAX)
        return;
    size_t moved = v->n < WORST_MAX ? v->n - at : WORST_MAX - 1 - at;
    memmove(v->worst + at + 1, v->worst + at, moved * sizeof v->worst[0]);
    v->worst[at] = (struct worst){x, left_ms};
    v->n += v->n < WORST_MAX;
}

/* One pass over all that is open. agent NULL = of all agents. */
static void look(const struct continuity *c, int64_t now_ms, struct seen *v)
{
    *v = (struct seen){0};
    for (const struct incident *x = board_next(c->board, NULL, true); x; x = board_next(c->board, x, true)) {
        int nearest;
        v->open++;
        keep_worst(v, x, left_of(x, now_ms, &nearest));
        for (int i = 0; i < SET_OBJECTIVES; i++) {
            const struct incident_clock *k = &x->clocks[i];
            int64_t ms = k->started && !k->stopped && !x->drill ? incident_clock_elapsed(k, now_ms) : 0;
            if (ms > v->running.ms[i]) {
                v->running.ms[i] = ms;
                v->running.incident[i] = x->id;
            }
        }
    }
}

/* ---- verdicts ---- */

static bool is_rpo(enum set_objective o)
{
    return o >= SET_RPO_LEARNING;
}

/* What nobody copies by a source of its own may be copied all the same: the trail by its service, the configuration by its history. */
static void measure(const struct continuity *c, struct objective_facts *f, int64_t now_ms)
{
    const PB(ConfigState) *config = parts_config(c);
    f->measured = parts_point(c, f->objective, &f->point_ms, &f->expected_ms, &f->point_by);
    if (f->measured)
        return;
    if (f->objective == SET_RPO_AUDIT)
        f->measured = in_rpo_audit(c, &f->point_ms, &f->point_by);
    if (f->objective == SET_RPO_CONFIG && config && config->verified_point_unix_ms > 0) {
        f->measured = true;
        f->point_by = "history of the configuration";
        /* Nothing has changed since: nothing is missing. */
        f->point_ms =
            config->verified_point_unix_ms >= config->changed_unix_ms ? now_ms : config->verified_point_unix_ms;
    }
}

static const struct shown *shown_by_name(const struct continuity *c, enum set_objective o, const char *scope)
{
    const struct shown *h;
    char subject[SUBJECT_MAX_LEN];
    snprintf(subject, sizeof subject, SUBJECT_CONTINUITY_DEMONSTRATED "%s%s%s", settings_objectives[o],
             *scope ? "." : "", scope);
    HASH_FIND_STR(c->shown, subject, h);
    return h;
}

/* What was shown of all is true of one. Data come back when the slowest of their sources does: each shows it by its test restores. */
static const struct shown *shown_of(const struct continuity *c, enum set_objective o, const char *scope)
{
    const struct shown *h = shown_by_name(c, o, scope), *worst = NULL;
    if (h && (*scope || o != SET_RTO_DATA))
        return h;
    if (o != SET_RTO_DATA)
        return shown_by_name(c, o, "");
    for (h = c->shown; h; h = h->hh.next)
        if (h->objective == o && h->history.n > 0 &&
            (!worst ||
             h->history.shown[h->history.n - 1].took_ms > worst->history.shown[worst->history.n - 1].took_ms))
            worst = h;
    return worst;
}

static struct objective_view judge(const struct continuity *c, enum set_objective o, const char *scope,
                                   int64_t target_ms, const struct running *r, int64_t now_ms)
{
    struct objective_view v;
    const struct shown *h = shown_of(c, o, scope);
    struct objective_facts f = {.objective = o,
                                .target_ms = target_ms,
                                .expire_ms = continuity_set(c)->expire_ms,
                                .history = h ? &h->history : NULL,
                                .running_ms = r->ms[o],
                                .running_incident = r->incident[o]};
    if (is_rpo(o))
        measure(c, &f, now_ms);
    objective_judge(&f, now_ms, &v);
    return v;
}

/* ---- the message ---- */

struct rows {
    PB(ContinuityStatus) m;
    PB(ObjectiveStatus) row[ROWS_MAX], *list[ROWS_MAX];
    struct objective_view view[ROWS_MAX];
    char by[ROWS_MAX][129];
    PB(IncidentLine) line[WORST_MAX], *lines[WORST_MAX];
    PB(ObjectiveClock) clock[WORST_MAX];
    const PB(BackupState) * backups[BACKUPS_MAX];
    const PB(DrillState) * drills[DRILLS_MAX];
    struct seen seen;
};

static void add_row(struct rows *r, enum set_objective o, const char *scope, int64_t target_ms,
                    const struct objective_view *v, const struct running *run)
{
    size_t i = r->m.n_objectives;
    if (i == ROWS_MAX)
        return;
    r->view[i] = *v;
    PB(ObjectiveStatus) *s = &r->row[i];
    *s = (PB(ObjectiveStatus))PB_INIT(OBJECTIVE_STATUS);
    s->objective = (char *)settings_objectives[o];
    s->scope = (char *)scope;
    s->target_ms = (uint64_t)target_ms;
    s->has_estimate = v->has_estimate;
    s->estimate_ms = v->has_estimate ? (uint64_t)v->estimate_ms : 0;
    s->has_demonstrated = v->has_demonstrated;
    s->demonstrated_ms = v->has_demonstrated ? (uint64_t)v->demonstrated_ms : 0;
    s->demonstrated_unix_ms = v->has_demonstrated ? v->demonstrated_at_ms : 0;
    s->demonstrated_by = (char *)room_text(r->by[i], sizeof r->by[i], v->demonstrated_by);
    s->expired = v->expired;
    s->verdict = (Redoubt__V1__ObjectiveVerdict)v->verdict;
    s->why = r->view[i].why;
    s->running_ms = (uint64_t)run->ms[o];
    s->running_incident = (char *)(run->incident[o] ? run->incident[o] : "");
    r->list[i] = s;
    r->m.n_objectives++;
}

static int badness(const PB(ObjectiveStatus) * s)
{
    return s->verdict == BREACHED ? 0 : s->verdict == UNKNOWN ? 1 : 2;
}

/* Those that are breached or unknown first; otherwise as they are. */
static void sort_rows(struct rows *r)
{
    PB(ObjectiveStatus) * sorted[ROWS_MAX];
    size_t n = 0;
    for (int bad = 0; bad < 3; bad++)
        for (size_t i = 0; i < r->m.n_objectives; i++)
            if (badness(r->list[i]) == bad)
                sorted[n++] = r->list[i];
    memcpy(r->list, sorted, n * sizeof sorted[0]);
}

static void add_scope(struct continuity *c, struct rows *r, const char *agent, const struct running *run, bool all,
                      int64_t now_ms)
{
    int64_t suite[SET_OBJECTIVES], own[SET_OBJECTIVES];
    objective_targets(continuity_set(c), NULL, suite);
    objective_targets(continuity_set(c), *agent ? agent : NULL, own);
    for (int i = 0; i < SET_OBJECTIVES; i++) {
        if (!all && own[i] == suite[i])
            continue;
        struct objective_view v = judge(c, (enum set_objective)i, agent, own[i], run, now_ms);
        add_row(r, (enum set_objective)i, agent, own[i], &v, run);
    }
}

/* Of one agent: the clocks of incidents that concern it. */
static void look_at_agent(struct continuity *c, const char *agent, int64_t now_ms, struct running *r)
{
    *r = (struct running){0};
    for (int d = SIGNAL_LLM; d <= SIGNAL_LINK; d++) {
        const struct incident *x = board_of(c->board, (enum signal_dimension)d, agent);
        for (int i = 0; x && !x->drill && i < SET_OBJECTIVES; i++) {
            const struct incident_clock *k = &x->clocks[i];
            int64_t ms = k->started && !k->stopped ? incident_clock_elapsed(k, now_ms) : 0;
            if (ms > r->ms[i]) {
                r->ms[i] = ms;
                r->incident[i] = x->id;
            }
        }
    }
}

static void add_own(struct continuity *c, struct rows *r, int64_t now_ms)
{
    const struct settings *set = c->s->settings;
    if (set->continuity.own.n == 0)
        return;
    for (size_t i = 0; i < set->agents.n && r->m.n_objectives < ROWS_MAX; i++) {
        const char *name = CONF_AT(set->agents, struct set_agent, i)->name;
        struct running run;
        if (objective_own(&set->continuity, name) < 0)
            continue;
        look_at_agent(c, name, now_ms, &run);
        add_scope(c, r, name, &run, false, now_ms);
    }
}

static const char *cut(const char *text)
{
    return text ? text : "";
}

void status_line(PB(IncidentLine) * l, PB(ObjectiveClock) * clock, const struct continuity *c,
                 const struct incident *x, int64_t now_ms)
{
    int nearest;
    *l = (PB(IncidentLine))PB_INIT(INCIDENT_LINE);
    l->id = (char *)x->id;
    l->key = (char *)cut(x->key);
    l->phase = (Redoubt__V1__IncidentPhase)x->phase;
    l->failure_kind = (Redoubt__V1__FailureKind)x->kind;
    l->severity = (Redoubt__V1__Severity)x->severity;
    l->summary = (char *)cut(x->summary);
    l->owner = (char *)cut(x->owner);
    l->agents_total = x->agents_total;
    l->open_signals = x->open_signals;
    l->evidence_unix_ms = x->evidence_ms;
    l->closed_unix_ms = x->closed_ms;
    l->drill = x->drill;
    l->drill = x->drill;
    (void)left_of(x, now_ms, &nearest);
    if (nearest < 0)
        return;
    const struct incident_clock *k = &x->clocks[nearest];
    *clock = (PB(ObjectiveClock))PB_INIT(OBJECTIVE_CLOCK);
    clock->objective = (char *)settings_objectives[nearest];
    clock->limit_ms = (uint64_t)k->limit_ms;
    clock->elapsed_ms = (uint64_t)incident_clock_elapsed(k, now_ms);
    clock->breached = clock->elapsed_ms >= clock->limit_ms;
    clock->started_unix_ms = k->started_ms;
    clock->told = k->told;
    clock->agent = (char *)(k->agent ? cut(board_agent_name(c->board, k->agent)) : "");
    l->nearest = clock;
}

static void fill(struct continuity *c, struct rows *r, const char *agent, int64_t now_ms)
{
    struct running run;
    r->m = (PB(ContinuityStatus))PB_INIT(CONTINUITY_STATUS);
    r->m.objectives = r->list;
    look(c, now_ms, &r->seen);
    if (*agent) {
        look_at_agent(c, agent, now_ms, &run);
        add_scope(c, r, agent, &run, true, now_ms);
    } else {
        add_scope(c, r, "", &r->seen.running, true, now_ms);
        add_own(c, r, now_ms);
    }
    for (size_t i = 0; i < r->m.n_objectives; i++) {
        r->m.breached += r->list[i]->verdict == BREACHED;
        r->m.unknown += r->list[i]->verdict == UNKNOWN;
        r->m.met += r->list[i]->verdict == MET;
    }
    sort_rows(r);
    for (size_t i = 0; i < r->seen.n; i++) {
        status_line(&r->line[i], &r->clock[i], c, r->seen.worst[i].x, now_ms);
        r->lines[i] = &r->line[i];
    }
    r->m.n_worst = r->seen.n;
    r->m.worst = r->lines;
    r->m.open_incidents = r->seen.open;
    r->m.n_backups = parts_backups(c, r->backups, BACKUPS_MAX);
    r->m.backups = (PB(BackupState) **)r->backups;
    r->m.n_drills = parts_drills(c, r->drills, DRILLS_MAX);
    r->m.drills = (PB(DrillState) **)r->drills;
    r->m.config = (PB(ConfigState) *)parts_config(c);
    r->m.leader = c->leader;
    r->m.at_unix_ms = now_ms;
    r->m.without_lease = c->without_lease;
}

void status_command(struct continuity *c, const PB(ContinuityCommand) * cmd, const char *reply, const char *note)
{
    if (*cmd->agent && !settings_agent(c->s->settings, cmd->agent)) {
        cmd_answer(c, reply, REDOUBT__V1__COMMAND_STATUS__COMMAND_STATUS_INVALID,
                   "there is no such agent in the settings", 0, NULL);
        return;
    }
    struct rows *r = calloc(1, sizeof *r);
    if (!r) {
        cmd_answer(c, reply, REDOUBT__V1__COMMAND_STATUS__COMMAND_STATUS_UNAVAILABLE, "out of memory", 0, NULL);
        return;
    }
    fill(c, r, cmd->agent, continuity_now_ms(c));
    cmd_answer(c, reply, REDOUBT__V1__COMMAND_STATUS__COMMAND_STATUS_OK, note, c->fence, &r->m);
    free(r);
}

/* ---- each few seconds ---- */

static void alert_rpo(struct continuity *c, enum set_objective o, const struct objective_view *v)
{
    struct verdict *known = &c->verdicts[o];
    bool breached = v->verdict == BREACHED;
    char what[64], summary[400];
    if (breached == known->alerted || (!breached && v->verdict != MET))
        return;
    snprintf(what, sizeof what, "rpo/%s", settings_objectives[o]);
    snprintf(summary, sizeof summary,
             breached ? "recovery point objective %s is breached: %s"
                      : "recovery point objective %s is met again: %s",
             settings_objectives[o], v->why);
    continuity_alert(c, what, REDOUBT__V1__SEVERITY__SEVERITY_HIGH, !breached, "", summary,
                     "`redoubt continuity status` shows the sources of backups and what is wrong with them");
    continuity_record(c, breached ? "objective.breached" : "objective.met", c->s->desc->name, settings_objectives[o],
                      REDOUBT__V1__AUDIT_OUTCOME__AUDIT_OUTCOME_DONE, v->why);
    known->alerted = breached;
}

void status_tick(struct continuity *c, int64_t now_ms)
{
    int64_t mono = clock_mono_ms();
    bool due = c->status_mono_ms == 0 || mono - c->status_mono_ms >= STATUS_MS;
    if (!due && mono - c->judged_mono_ms < JUDGE_MS)
        return;
    c->judged_mono_ms = mono;
    struct rows *r = calloc(1, sizeof *r);
    if (!r)
        return; /* in a moment again */
    fill(c, r, "", now_ms);
    for (size_t i = 0; i < r->m.n_objectives; i++) {
        const PB(ObjectiveStatus) *s = &r->row[i];
        if (*s->scope)
            continue;
        for (int o = 0; o < SET_OBJECTIVES; o++) {
            if (s->objective != settings_objectives[o])
                continue;
            due = due || c->verdicts[o].said != (int)s->verdict;
            c->verdicts[o].said = (int)s->verdict;
            if (is_rpo((enum set_objective)o))
                alert_rpo(c, (enum set_objective)o, &r->view[i]);
        }
    }
    if (due) {
        c->status_mono_ms = mono;
        continuity_announce(c, SUBJECT_CONTINUITY_STATUS, (uint64_t)now_ms, &r->m);
    }
    free(r);
}
