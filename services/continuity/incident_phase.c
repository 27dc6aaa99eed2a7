/* incident_phase.c - the phases of one incident: what lets each pass, how long it may take, what is asked in it. Pure. */
#include "continuity/incident_impl.h"
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#define CHECK_AGAIN_MS  10000 /* a check that has not passed is asked for again */
#define REPORT_AGAIN_MS 60000 /* likewise a report that does not come */

bool incident_cleared(const struct incident *x)
{
    return x->open_signals == 0 && !x->data_affected;
}

bool incident_takes(const struct incident *x)
{
    return x->phase >= P(RESPOND) && x->phase <= P(VALIDATE);
}

/* ---- gates: what let it pass, or NULL ---- */

static const char *gate_respond(const struct incident *x, const struct incident_rule *rule, int64_t now_ms)
{
    (void)rule, (void)now_ms;
    return x->told               ? "people were told"
           : incident_cleared(x) ? "everything has cleared before anybody was told"
                                 : NULL;
}

static const char *gate_assess(const struct incident *x, const struct incident_rule *rule, int64_t now_ms)
{
    if (incident_cleared(x))
        return "everything has cleared";
    return now_ms - x->last_joined_ms >= rule->settle_ms ? "nothing new has joined" : NULL;
}

static const char *gate_recover(const struct incident *x, const struct incident_rule *rule, int64_t now_ms)
{
    (void)rule, (void)now_ms;
    return incident_cleared(x) ? "all conditions have cleared" : NULL;
}

static const char *gate_validate(const struct incident *x, const struct incident_rule *rule, int64_t now_ms)
{
    bool passed = x->checked == INCIDENT_CHECK_PASSED && now_ms - x->entered_ms >= rule->validate_ms;
    return passed ? "everything stayed well, and the checks have passed" : NULL;
}

static const char *gate_learn(const struct incident *x, const struct incident_rule *rule, int64_t now_ms)
{
    (void)now_ms;
    return x->reported && !x->report_due && x->severity <= rule->closes_itself ? "its report is written" : NULL;
}

static int64_t limit_respond(const struct incident_rule *r)
{
    return r->respond_ms;
}

static int64_t limit_assess(const struct incident_rule *r)
{
    return r->assess_ms;
}

/* Nobody waits for checks that do not pass for longer than for being told. */
static int64_t limit_validate(const struct incident_rule *r)
{
    return r->validate_ms + r->respond_ms;
}

static int64_t limit_learn(const struct incident_rule *r)
{
    return r->learn_ms;
}

static int64_t wake_assess(const struct incident *x, const struct incident_rule *r)
{
    return x->last_joined_ms + r->settle_ms;
}

static int64_t wake_validate(const struct incident *x, const struct incident_rule *r)
{
    return x->entered_ms + r->validate_ms;
}

/* RECOVER has no limit of its own: the clocks are its limit. */
static const struct {
    int next;
    const char *(*gate)(const struct incident *x, const struct incident_rule *rule, int64_t now_ms);
    int64_t (*limit)(const struct incident_rule *r);
    int64_t (*wake)(const struct incident *x, const struct incident_rule *r); /* when the gate may open by time */
} rows[P(CLOSED) + 1] = {
    [P(RESPOND)] = {P(ASSESS), gate_respond, limit_respond, NULL},
    [P(ASSESS)] = {P(RECOVER), gate_assess, limit_assess, wake_assess},
    [P(RECOVER)] = {P(VALIDATE), gate_recover, NULL, NULL},
    [P(VALIDATE)] = {P(LEARN), gate_validate, limit_validate, wake_validate},
    [P(LEARN)] = {P(CLOSED), gate_learn, limit_learn, NULL},
};

/* ---- moving ---- */

static bool by_itself(const char *by)
{
    return strcmp(by, BY_ITSELF) == 0;
}

/* The clocks stop here, and nowhere else. */
static void validated(struct incident_step *s, const char *by)
{
    incident_clocks_stop(s, by_itself(by));
    s->x->validated_ms = s->now_ms;
    incident_say(s, INCIDENT_RESOLVED, NULL);
}

void incident_enter(struct incident_step *s, int phase, const char *by, const char *why)
{
    struct incident *x = s->x;
    if (x->n_phases > 0) {
        struct incident_phase *last = &x->phases[x->n_phases - 1];
        last->left_ms = s->now_ms;
        last->left_by = by;
        last->why = why;
        if (incident_takes(x) && phase >= P(LEARN))
            validated(s, by);
    }
    int is = x->phase;
    sm_move(&incident_sm, &is, phase);
    assert(x->n_phases < INCIDENT_PHASES && "incident_room() was called");
    x->phase = (uint8_t)is;
    x->entered_ms = s->now_ms;
    x->phases[x->n_phases++] = (struct incident_phase){.phase = x->phase, .entered_ms = s->now_ms};
    x->checked = INCIDENT_UNCHECKED;
    x->failed = NULL;
    x->ask_ms = s->now_ms;
    if (phase == P(CLOSED))
        x->closed_ms = s->now_ms;
    /* Once more when a person closes it: with all that was noted until then. */
    if (phase == P(LEARN) || (phase == P(CLOSED) && !by_itself(by)))
        x->report_due = true;
    s->changed = true;
    incident_say(s, INCIDENT_RECORD,
                 phase == P(CLOSED) ? "incident.closed"
                 : x->n_phases == 1 ? "incident.opened"
                                    : "incident.phase");
}

void incident_walk(struct incident_step *s)
{
    struct incident *x = s->x;
    if (x->phase == P(VALIDATE) && !incident_cleared(x))
        incident_enter(s, P(RECOVER), BY_ITSELF, "a condition came back");
    const char *why;
    while (rows[x->phase].gate && (why = rows[x->phase].gate(x, s->rule, s->now_ms)))
        incident_enter(s, rows[x->phase].next, BY_ITSELF, why);
}

/* ---- waiting ---- */

static int64_t overdue_at(const struct incident *x, const struct incident_rule *rule)
{
    int64_t limit = rows[x->phase].limit ? rows[x->phase].limit(rule) : 0;
    return limit > 0 ? x->entered_ms + limit : INT64_MAX;
}

static int64_t ask_again_ms(const struct incident *x)
{
    if (x->phase == P(VALIDATE) && x->checked != INCIDENT_CHECK_PASSED)
        return CHECK_AGAIN_MS;
    return x->report_due ? REPORT_AGAIN_MS : 0;
}

void incident_remind(struct incident_step *s)
{
    struct incident *x = s->x;
    struct incident_phase *last = &x->phases[x->n_phases - 1];
    if (!last->overdue && s->now_ms >= overdue_at(x, s->rule)) {
        last->overdue = true;
        s->changed = true;
        incident_say(s, INCIDENT_OVERDUE, NULL);
    }
    int64_t again = ask_again_ms(x);
    if (again > 0 && (!x->asked || s->now_ms >= x->ask_ms)) {
        x->ask_ms = s->now_ms + again;
        incident_say(s, x->phase == P(VALIDATE) ? INCIDENT_CHECK : INCIDENT_REPORT, NULL);
    }
    if (!x->asked && x->phase == P(RESPOND))
        incident_say(s, INCIDENT_ALERT, "again");
    x->asked = true;
}

static int64_t sooner(int64_t a, int64_t b, int64_t now_ms)
{
    return b > now_ms && b < a ? b : a;
}

int64_t incident_phase_next(const struct incident *x, const struct incident_rule *rule, int64_t now_ms)
{
    int64_t next = INT64_MAX;
    if (rows[x->phase].wake)
        next = sooner(next, rows[x->phase].wake(x, rule), now_ms);
    if (!x->phases[x->n_phases - 1].overdue)
        next = sooner(next, overdue_at(x, rule), now_ms);
    if (ask_again_ms(x) > 0)
        next = sooner(next, x->ask_ms, now_ms);
    return next;
}

/* ---- room ---- */

static void nothing(void *ctx, const char *text)
{
    (void)ctx, (void)text;
}

/* Where the oldest relapse begins: VALIDATE and the RECOVER that came back. The present phase stays. */
static size_t relapse(const struct incident *x)
{
    for (size_t i = 0; i + 2 < x->n_phases; i++)
        if (x->phases[i].phase == P(VALIDATE) && x->phases[i + 1].phase == P(RECOVER))
            return i;
    return 0;
}

static size_t plain_note(const struct incident *x)
{
    for (size_t i = 0; i < x->n_notes; i++)
        if (x->notes[i].kind == REDOUBT__V1__INCIDENT_NOTE_KIND__INCIDENT_NOTE_KIND_NOTE)
            return i;
    return 0;
}

void incident_room(struct incident *x, bool note, void (*drop)(void *ctx, const char *text), void *ctx)
{
    if (!drop)
        drop = nothing;
    while (x->n_phases + INCIDENT_PHASES_ADDED > INCIDENT_PHASES) {
        size_t i = relapse(x);
        for (size_t k = i; k < i + 2; k++) {
            drop(ctx, x->phases[k].left_by);
            drop(ctx, x->phases[k].why);
        }
        x->n_phases = (uint8_t)(x->n_phases - 2);
        memmove(x->phases + i, x->phases + i + 2, (x->n_phases - i) * sizeof x->phases[0]);
    }
    while (note && x->n_notes >= INCIDENT_NOTES) {
        size_t i = plain_note(x);
        drop(ctx, x->notes[i].by);
        drop(ctx, x->notes[i].text);
        x->n_notes--;
        memmove(x->notes + i, x->notes + i + 1, (x->n_notes - i) * sizeof x->notes[0]);
    }
}
