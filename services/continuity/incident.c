/* incident.c - the decider of an incident: which event does what, and what must hold. Pure; see incident.h. */
#include "continuity/incident.h"
#include "continuity/incident_impl.h"
#include <assert.h>
#include <string.h>

static bool invariant(const void *object)
{
    return !incident_broken(object);
}

#define FORWARD_FROM_RECOVER SM_BIT(P(VALIDATE)) | SM_BIT(P(LEARN)) | SM_BIT(P(CLOSED))
#define FORWARD_FROM_ASSESS  SM_BIT(P(RECOVER)) | FORWARD_FROM_RECOVER
const struct sm_table incident_sm = {
    .name = "incident",
    .n = P(CLOSED) + 1,
    .state_names = (const char *const[P(CLOSED) + 1]){[P(UNSPECIFIED)] = "NEW",
                                                      [P(RESPOND)] = "RESPOND",
                                                      [P(ASSESS)] = "ASSESS",
                                                      [P(RECOVER)] = "RECOVER",
                                                      [P(VALIDATE)] = "VALIDATE",
                                                      [P(LEARN)] = "LEARN",
                                                      [P(CLOSED)] = "CLOSED"},
    /* One after the other; a person may leave some out. Back only from VALIDATE, when a condition comes back. */
    .allowed =
        (const uint32_t[P(CLOSED) + 1]){
            [P(UNSPECIFIED)] = SM_BIT(P(RESPOND)),
            [P(RESPOND)] = SM_BIT(P(ASSESS)) | FORWARD_FROM_ASSESS,
            [P(ASSESS)] = FORWARD_FROM_ASSESS,
            [P(RECOVER)] = FORWARD_FROM_RECOVER,
            [P(VALIDATE)] = SM_BIT(P(RECOVER)) | SM_BIT(P(LEARN)) | SM_BIT(P(CLOSED)),
            [P(LEARN)] = SM_BIT(P(CLOSED)),
        },
    .invariant = invariant,
};

static const char *clock_broken(const struct incident_clock *c, bool ended)
{
    if (!c->started)
        return c->stopped || c->started_ms || c->stopped_ms ? "a clock stands that never started" : NULL;
    if (c->started_ms <= 0 || c->limit_ms <= 0)
        return "a clock runs without a beginning or a limit";
    if (c->stopped != ended)
        return ended ? "a clock runs on behind validation" : "a clock was stopped before validation";
    return c->stopped && c->stopped_ms < c->started_ms ? "a clock stopped before it started" : NULL;
}

const char *incident_broken(const struct incident *x)
{
    if (x->phase < P(RESPOND) || x->phase > P(CLOSED))
        return "it is in no phase";
    bool ended = x->phase >= P(LEARN);
    if (ended != (x->validated_ms > 0))
        return "validated is not what its phase says";
    if ((x->phase == P(CLOSED)) != (x->closed_ms > 0))
        return "closed is not what its phase says";
    if (x->phase == P(VALIDATE) && !incident_cleared(x))
        return "conditions are left in VALIDATE";
    if (x->evidence_ms <= 0)
        return "there was no evidence";
    if (x->n_phases == 0 || x->n_phases > INCIDENT_PHASES || x->n_notes > INCIDENT_NOTES)
        return "too few or too many phases or notes";
    const struct incident_phase *last = &x->phases[x->n_phases - 1];
    if (last->phase != x->phase || last->left_ms != 0 || last->entered_ms != x->entered_ms)
        return "the last phase is not the present one";
    for (int i = 0; i < 3; i++)
        if (x->of_condition[i] > x->open_signals)
            return "more conditions than signals";
    for (int i = 0; i < SET_OBJECTIVES; i++) {
        const char *broken = clock_broken(&x->clocks[i], ended);
        if (broken)
            return broken;
        if (x->clocks[i].started && x->clocks[i].started_ms < x->evidence_ms)
            return "a clock has started before the first evidence";
    }
    return NULL;
}

struct incident_effect *incident_say(struct incident_step *s, enum incident_effect_kind kind, const char *text)
{
    assert(s->n < INCIDENT_EFFECTS && "the bound is that of all effects of one call");
    struct incident_effect *e = &s->out[s->n++];
    *e = (struct incident_effect){.kind = kind, .phase = s->x->phase, .text = text};
    return e;
}

/* ---- events ---- */

static void earliest(struct incident_step *s)
{
    if (s->x->evidence_ms != 0 && (s->ev->again || s->at_ms >= s->x->evidence_ms))
        return;
    s->x->evidence_ms = s->at_ms;
    s->changed = true;
}

static void open_up(struct incident_step *s)
{
    const struct incident_event *ev = s->ev;
    struct incident *x = s->x;
    x->kind = ev->failure;
    x->severity = ev->severity;
    x->drill = ev->drill;
    x->cause = ev->cause;
    x->summary = ev->summary;
    x->asked = true;
    x->evidence_ms = s->at_ms;
    incident_enter(s, P(RESPOND), BY_ITSELF, NULL);
    incident_say(s, INCIDENT_ALERT, "opened");
}

static void grow_worse(struct incident_step *s)
{
    struct incident *x = s->x;
    if (s->ev->severity <= x->severity)
        return;
    x->severity = s->ev->severity;
    if (s->ev->summary)
        x->summary = s->ev->summary;
    s->changed = true;
    incident_say(s, INCIDENT_ALERT, "worse");
}

static void count(struct incident_step *s, unsigned was, unsigned is)
{
    for (unsigned i = 0; i < 3; i++) {
        uint32_t *n = &s->x->of_condition[i];
        if ((is & ~was) & (1u << i))
            ++*n;
        else if ((was & ~is) & (1u << i) && *n > 0)
            --*n;
    }
    if (was != is)
        s->changed = true;
    s->x->functions_lost = incident_functions_lost(s->x, s->rule);
}

/* Something is new: the scope is not known yet. What is known already and only older moves nothing but the beginning. */
static void joined(struct incident_step *s)
{
    if (s->at_ms > s->x->last_joined_ms)
        s->x->last_joined_ms = s->at_ms;
    s->x->recovered_ms = 0;
    s->changed = true;
}

static void evidence(struct incident_step *s)
{
    const struct incident_event *ev = s->ev;
    struct incident *x = s->x;
    unsigned was = ev->known ? ev->was : 0;
    if (x->phase == P(UNSPECIFIED))
        open_up(s);
    else if (!incident_takes(x))
        return;
    else
        grow_worse(s);
    if (!ev->known)
        x->open_signals++;
    if (ev->new_agent)
        x->agents_total++;
    if (!ev->known || (ev->condition & ~was))
        joined(s);
    if (x->drill && !ev->drill) {
        x->drill = false;
        s->changed = true;
    }
    earliest(s);
    count(s, was, ev->condition);
    incident_clocks_start(s, ev->condition, false);
}

static void now_clear(struct incident_step *s)
{
    if (incident_cleared(s->x) && incident_takes(s->x))
        s->x->recovered_ms = s->at_ms;
}

static void cleared(struct incident_step *s)
{
    if (s->x->open_signals == 0)
        return;
    s->x->open_signals--;
    s->changed = true;
    count(s, s->ev->condition, 0);
    now_clear(s);
}

static void told(struct incident_step *s)
{
    if (s->x->told || !incident_takes(s->x))
        return;
    s->x->told = true;
    s->changed = true;
}

static void checked(struct incident_step *s)
{
    struct incident *x = s->x;
    bool failed = s->ev->kind == INCIDENT_FAILED;
    uint8_t is = failed ? INCIDENT_CHECK_FAILED : INCIDENT_CHECK_PASSED;
    if (x->phase != P(VALIDATE))
        return;
    const char *text = failed ? s->ev->text ? s->ev->text : "a check has failed" : NULL;
    bool same = x->checked == is && (!failed || (x->failed && strcmp(x->failed, text) == 0));
    if (same)
        return;
    x->checked = is;
    x->failed = text;
    s->changed = true;
}

static void data(struct incident_step *s)
{
    if (!incident_takes(s->x))
        return;
    s->x->data_affected = true;
    joined(s);
    earliest(s);
    incident_clocks_start(s, 0, true);
}

static void data_well(struct incident_step *s)
{
    if (!s->x->data_affected)
        return;
    s->x->data_affected = false;
    s->changed = true;
    now_clear(s);
}

static void reported(struct incident_step *s)
{
    struct incident *x = s->x;
    x->report = s->ev->text;
    s->changed = true;
    if (x->phase < P(LEARN))
        return; /* one that was asked for meanwhile */
    x->reported = true;
    x->report_due = false;
}

/* A person's word. What is not over cannot be validated; but a person may say that nothing more is to be expected. */
static void advance(struct incident_step *s)
{
    const struct incident_event *ev = s->ev;
    struct incident *x = s->x;
    int to = ev->phase ? ev->phase : x->phase + 1;
    if (ev->kind == INCIDENT_CLOSE)
        to = P(CLOSED);
    if (to <= x->phase || to > P(CLOSED) || (to == P(CLOSED) && ev->kind != INCIDENT_CLOSE && x->phase != P(LEARN)))
        return;
    if (to == P(VALIDATE) && !incident_cleared(x))
        return;
    x->told = true;
    incident_enter(s, to, ev->by ? ev->by : "?", ev->text);
}

static void note(struct incident_step *s)
{
    struct incident *x = s->x;
    x->notes[x->n_notes++] =
        (struct incident_note){.kind = s->ev->note_kind, .at_ms = s->now_ms, .by = s->ev->by, .text = s->ev->text};
    x->told = true;
    s->changed = true;
    if (x->phase < P(LEARN))
        return;
    x->report_due = true;
    x->ask_ms = s->now_ms;
}

static void assign(struct incident_step *s)
{
    s->x->owner = s->ev->text;
    s->x->told = true;
    s->changed = true;
}

static void tick(struct incident_step *s)
{
    (void)s;
}

static void (*const handlers[])(struct incident_step *s) = {
    [INCIDENT_EVIDENCE] = evidence,   [INCIDENT_CLEARED] = cleared,   [INCIDENT_TOLD] = told,
    [INCIDENT_PASSED] = checked,      [INCIDENT_FAILED] = checked,    [INCIDENT_DATA] = data,
    [INCIDENT_DATA_WELL] = data_well, [INCIDENT_REPORTED] = reported, [INCIDENT_ADVANCE] = advance,
    [INCIDENT_CLOSE] = advance,       [INCIDENT_NOTE_ADD] = note,     [INCIDENT_ASSIGN] = assign,
    [INCIDENT_TICK] = tick,
};

size_t incident_decide(struct incident *x, const struct incident_rule *rule, const struct incident_event *ev,
                       int64_t now_ms, struct incident_effect out[static INCIDENT_EFFECTS])
{
    struct incident_step s = {.x = x, .rule = rule, .ev = ev, .now_ms = now_ms, .at_ms = ev->at_ms, .out = out};
    if (s.at_ms <= 0 || s.at_ms > now_ms)
        s.at_ms = now_ms;
    if (x->phase == P(UNSPECIFIED) && ev->kind != INCIDENT_EVIDENCE)
        return 0;
    incident_room(x, ev->kind == INCIDENT_NOTE_ADD, NULL, NULL);
    handlers[ev->kind](&s);
    incident_clocks_tell(&s);
    incident_walk(&s);
    incident_remind(&s);
    if (s.changed) {
        x->epoch++;
        x->changed_ms = now_ms;
        incident_say(&s, INCIDENT_ANNOUNCE, NULL);
    }
    int64_t next = incident_clocks_next(x, now_ms), phase = incident_phase_next(x, rule, now_ms);
    incident_say(&s, INCIDENT_WAKE, NULL)->at_ms = phase < next ? phase : next;
    sm_check(&incident_sm, x->phase, x);
    return s.n;
}

/* ---- settings ---- */

static uint8_t conditions_of(const struct conf_list *names)
{
    static const struct {
        const char *name;
        uint8_t bit;
    } known[] = {{"full", CONDITION_FULL}, {"degraded", CONDITION_DEGRADED}, {"llm_fallback", CONDITION_LLM}};
    uint8_t bits = 0;
    for (size_t i = 0; i < names->n; i++)
        for (size_t k = 0; k < sizeof known / sizeof known[0]; k++)
            if (strcmp(*CONF_AT(*names, char *, i), known[k].name) == 0)
                bits |= known[k].bit;
    return bits;
}

void incident_rule_of(const struct set_continuity *set, struct incident_rule *ret)
{
    const struct set_phases *p = &set->phases;
    *ret = (struct incident_rule){.respond_ms = p->respond_ms,
                                  .assess_ms = p->assess_ms,
                                  .settle_ms = p->settle_ms,
                                  .validate_ms = p->validate_ms,
                                  .learn_ms = p->learn_ms,
                                  .closes_itself = (uint8_t)p->closes_itself,
                                  /* The mission's four: threat detection, blocking, learning, orchestration. */
                                  .functions = {{true, CONDITION_FULL},
                                                {true, CONDITION_FULL | CONDITION_DEGRADED},
                                                {false, CONDITION_FULL | CONDITION_DEGRADED | CONDITION_LLM},
                                                {false, CONDITION_FULL | CONDITION_DEGRADED | CONDITION_LLM}},
                                  .n_functions = 4};
    if (set->functions.n == 0)
        return;
    memset(ret->functions, 0, sizeof ret->functions);
    ret->n_functions = 0;
    for (size_t i = 0; i < set->functions.n && i < sizeof ret->functions / sizeof ret->functions[0]; i++) {
        const struct set_function *f = CONF_AT(set->functions, struct set_function, i);
        ret->functions[i].critical = f->critical;
        ret->functions[i].lost_in = conditions_of(&f->lost_in);
        ret->n_functions++;
    }
}
