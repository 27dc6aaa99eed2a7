/* continuity_alerts.c - what people are told of incidents, their clocks, and what the parts have to say.
 *
 * One problem per incident, one per clock of it, one for a phase that takes too long. Ids say what they are about: whoever says it again says it under the same. */
#include "common/log.h"
#include "continuity/continuity_impl.h"
#include <inttypes.h>
#include <string.h>

#define SEVERITY(x) REDOUBT__V1__SEVERITY__SEVERITY_##x
#define ID_TEXT     65
#define KEY_TEXT    160
#define LINE_TEXT   400
#define PHASE(x)    wire_enum_name(&redoubt__v1__incident_phase__descriptor, (x))

static const struct {
    uint8_t share;
    int severity;
} shares[] = {{50, SEVERITY(WARNING)}, {75, SEVERITY(HIGH)}, {90, SEVERITY(HIGH)}, {100, SEVERITY(CRITICAL)}};
#define SHARES (sizeof shares / sizeof shares[0])

struct alert {
    char id[ID_TEXT], key[KEY_TEXT];
    int severity;
    bool resolved;
    const char *summary, *detail;
};

static void tell(struct continuity *c, const struct incident *x, const struct alert *t)
{
    char summary[512], detail[1024];
    PB(Label) label = PB_INIT(LABEL), *labels[] = {&label};
    label.key = (char *)"incident";
    label.value = (char *)x->id;
    PB(Alert) a = PB_INIT(ALERT);
    a.id = (char *)t->id;
    a.dedup_key = (char *)t->key;
    a.severity = (Redoubt__V1__Severity)t->severity;
    a.failure_kind = (Redoubt__V1__FailureKind)x->kind;
    a.summary = (char *)room_text(summary, sizeof summary, t->summary);
    a.detail = (char *)room_text(detail, sizeof detail, t->detail);
    a.target = (char *)(x->cause && name_target_ok(x->cause) ? x->cause : "");
    a.evidence_unix_ms = x->evidence_ms;
    a.resolved = t->resolved;
    a.n_labels = 1;
    a.labels = labels;
    service_alert_durable(c->s, &a, NULL, NULL);
}

static const char *drill_text(const struct incident *x)
{
    return x->drill ? "drill: " : "";
}

/* ---- incidents ---- */

static const char *scope_text(const struct incident *x, char buf[static LINE_TEXT])
{
    snprintf(buf, LINE_TEXT,
             "%s; agents concerned: %" PRIu32 ", conditions open: %" PRIu32
             "; phase %s; see it with `redoubt incident show %s`",
             x->cause && *x->cause ? x->cause : x->key, x->agents_total, x->open_signals, PHASE(x->phase), x->id);
    return buf;
}

void alerts_incident(struct continuity *c, const struct incident *x, struct file *f)
{
    if (f->alerted >= x->severity)
        return; /* by this leader, and as bad */
    f->alerted = x->severity;
    char summary[LINE_TEXT], detail[LINE_TEXT];
    struct alert a = {.severity = x->severity, .summary = summary, .detail = scope_text(x, detail)};
    snprintf(a.id, sizeof a.id, "%s-open-%d", x->id, x->severity);
    snprintf(a.key, sizeof a.key, "incident/%s", x->id);
    snprintf(summary, sizeof summary, "%sincident %s: %.200s (%.100s)", drill_text(x), x->id,
             x->summary ? x->summary : "", x->key);
    tell(c, x, &a);
}

void alerts_resolved(struct continuity *c, const struct incident *x)
{
    char summary[LINE_TEXT], detail[LINE_TEXT];
    struct alert a = {.severity = x->severity, .resolved = true, .summary = summary, .detail = scope_text(x, detail)};
    snprintf(a.id, sizeof a.id, "%s-over", x->id);
    snprintf(a.key, sizeof a.key, "incident/%s", x->id);
    snprintf(summary, sizeof summary, "%sincident %s is over and validated: %.200s", drill_text(x), x->id,
             x->summary ? x->summary : "");
    tell(c, x, &a);
    for (int i = 0; i < SET_OBJECTIVES; i++) {
        if (!x->clocks[i].told)
            continue;
        snprintf(a.id, sizeof a.id, "%s-%s-over", x->id, settings_objectives[i]);
        snprintf(a.key, sizeof a.key, "incident/%s/%s", x->id, settings_objectives[i]);
        snprintf(summary, sizeof summary, "%sincident %s: the clock of %s has stopped", drill_text(x), x->id,
                 settings_objectives[i]);
        tell(c, x, &a);
    }
}

/* ---- clocks ---- */

void alerts_clock(struct continuity *c, const struct incident *x, uint8_t objective, uint8_t share)
{
    char summary[LINE_TEXT], detail[LINE_TEXT], took[OBJECTIVE_TEXT], limit[OBJECTIVE_TEXT];
    const struct incident_clock *k = &x->clocks[objective];
    const char *name = settings_objectives[objective];
    bool breached = share >= 100;
    struct alert a = {.severity = SEVERITY(CRITICAL), .summary = summary, .detail = scope_text(x, detail)};
    for (size_t i = 0; i < SHARES; i++)
        if (shares[i].share == share)
            a.severity = shares[i].severity;
    snprintf(a.id, sizeof a.id, "%s-%s-%u", x->id, name, share);
    snprintf(a.key, sizeof a.key, "incident/%s/%s", x->id, name);
    objective_text(incident_clock_elapsed(k, continuity_now_ms(c)), took);
    objective_text(k->limit_ms, limit);
    if (breached)
        snprintf(summary, sizeof summary, "%sincident %s: objective %s is breached: %s of %s", drill_text(x), x->id,
                 name, took, limit);
    else
        snprintf(summary, sizeof summary, "%sincident %s: %u %% of objective %s: %s of %s", drill_text(x), x->id,
                 share, name, took, limit);
    tell(c, x, &a);
    continuity_record(c, breached ? "objective.breached" : "objective.share", c->s->desc->name, x->id,
                      REDOUBT__V1__AUDIT_OUTCOME__AUDIT_OUTCOME_DONE, summary);
}

/* ---- phases that take too long ---- */

static void overdue(struct continuity *c, const struct incident *x, unsigned place, bool over)
{
    char summary[LINE_TEXT], detail[LINE_TEXT];
    const struct incident_phase *p = &x->phases[place];
    struct alert a = {.severity = x->severity > SEVERITY(HIGH) ? SEVERITY(HIGH) : x->severity,
                      .resolved = over,
                      .summary = summary,
                      .detail = scope_text(x, detail)};
    snprintf(a.id, sizeof a.id, "%s-late-%" PRId64 "%s", x->id, p->entered_ms, over ? "-o" : "");
    snprintf(a.key, sizeof a.key, "incident/%s/overdue", x->id);
    if (over)
        snprintf(summary, sizeof summary, "%sincident %s: phase %s has passed", drill_text(x), x->id,
                 PHASE(p->phase));
    else
        snprintf(summary, sizeof summary, "%sincident %s: phase %s takes longer than it may", drill_text(x), x->id,
                 PHASE(p->phase));
    tell(c, x, &a);
}

void alerts_overdue(struct continuity *c, const struct incident *x, struct file *f)
{
    overdue(c, x, x->n_phases - 1u, false);
    f->late_ms = x->phases[x->n_phases - 1].entered_ms;
}

/* Who has begun to lead does not know which were told: the last that is overdue and over is said to be over once more. */
void alerts_overdue_over(struct continuity *c, const struct incident *x, struct file *f)
{
    const struct incident_phase *now = &x->phases[x->n_phases - 1];
    if (now->overdue || f->late_ms == now->entered_ms || f->checked_ms == now->entered_ms)
        return;
    bool told = f->late_ms != 0 || f->checked_ms == 0;
    f->checked_ms = now->entered_ms;
    f->late_ms = 0;
    if (!told)
        return;
    for (size_t i = x->n_phases - 1u; i-- > 0;)
        if (x->phases[i].overdue) {
            overdue(c, x, (unsigned)i, true);
            break;
        }
}

/* ---- parts ---- */

void continuity_alert(struct continuity *c, const char *what, int severity, bool resolved, const char *agent,
                      const char *summary, const char *detail)
{
    char key[KEY_TEXT], line[512], more[1024];
    PB(Alert) a = PB_INIT(ALERT);
    snprintf(key, sizeof key, "continuity/%s", what);
    a.dedup_key = key;
    a.severity = (Redoubt__V1__Severity)severity;
    a.agent = (char *)(agent ? agent : "");
    a.summary = (char *)room_text(line, sizeof line, summary);
    a.detail = (char *)room_text(more, sizeof more, detail);
    a.resolved = resolved;
    a.evidence_unix_ms = continuity_now_ms(c);
    service_alert_durable(c->s, &a, NULL, NULL);
}
