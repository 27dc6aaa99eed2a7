/* board_pack.c - an incident as the document that is announced and kept; all of it in one piece of memory. */
#include "common/subjects.h"
#include "continuity/board_impl.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define GATE 256

/* The document with all that hangs on it. */
struct parcel {
    PB(IncidentChanged) doc; /* first */
    PB(ObjectiveClock) clock[SET_OBJECTIVES], *clocks[SET_OBJECTIVES];
    PB(IncidentPhaseTime) phase[INCIDENT_PHASES], *phases[INCIDENT_PHASES];
    PB(IncidentNote) note[INCIDENT_NOTES], *notes[INCIDENT_NOTES];
    PB(IncidentSignal) kept_one[BOARD_KEPT_MAX], *kept[BOARD_KEPT_MAX];
    char gate[GATE];
    char *agents[];
};

/* The generated types have no const; nothing writes there. */
static char *text(const char *s)
{
    return (char *)(uintptr_t)(s ? s : "");
}

static void clocks(struct board *b, struct parcel *p, const struct incident *x, int64_t now_ms)
{
    for (int o = 0; o < SET_OBJECTIVES; o++) {
        const struct incident_clock *c = &x->clocks[o];
        if (!c->started)
            continue;
        PB(ObjectiveClock) *to = &p->clock[p->doc.n_clocks];
        *to = (PB(ObjectiveClock))PB_INIT(OBJECTIVE_CLOCK);
        to->objective = text(settings_objectives[o]);
        to->limit_ms = (uint64_t)c->limit_ms;
        to->elapsed_ms = (uint64_t)incident_clock_elapsed(c, now_ms);
        to->breached = incident_clock_reached(c, now_ms) & 8;
        to->started_unix_ms = c->started_ms;
        to->stopped_unix_ms = c->stopped_ms;
        to->told = c->told;
        to->agent = text(board_agent_name(b, c->agent));
        p->clocks[p->doc.n_clocks++] = to;
    }
    p->doc.clocks = p->clocks;
}

static void phases(struct parcel *p, const struct incident *x)
{
    for (size_t i = 0; i < x->n_phases; i++) {
        const struct incident_phase *from = &x->phases[i];
        PB(IncidentPhaseTime) *to = p->phases[i] = &p->phase[i];
        *to = (PB(IncidentPhaseTime))PB_INIT(INCIDENT_PHASE_TIME);
        to->phase = from->phase;
        to->entered_unix_ms = from->entered_ms;
        to->left_unix_ms = from->left_ms;
        to->left_by = text(from->left_by);
        to->why = text(from->why);
        to->overdue = from->overdue;
    }
    p->doc.n_phases = x->n_phases;
    p->doc.phases = p->phases;
    if (x->n_phases > 1)
        p->doc.previous = x->phases[x->n_phases - 2].phase;
}

static void notes(struct parcel *p, const struct incident *x)
{
    for (size_t i = 0; i < x->n_notes; i++) {
        PB(IncidentNote) *to = p->notes[i] = &p->note[i];
        *to = (PB(IncidentNote))PB_INIT(INCIDENT_NOTE);
        to->at_unix_ms = x->notes[i].at_ms;
        to->by = text(x->notes[i].by && *x->notes[i].by ? x->notes[i].by : "?");
        to->text = text(x->notes[i].text && *x->notes[i].text ? x->notes[i].text : "-");
        to->kind = x->notes[i].kind;
    }
    p->doc.n_notes = x->n_notes;
    p->doc.notes = p->notes;
}

/* What nobody would say again after a restart. */
static void kept(struct parcel *p, const struct board_entry *e)
{
    const struct board_signal *s;
    for (s = e->signals; s; s = s->next) {
        if ((s->dimension != SIGNAL_MANUAL && s->dimension != SIGNAL_DATA) || p->doc.n_kept == BOARD_KEPT_MAX)
            continue;
        PB(IncidentSignal) *to = p->kept[p->doc.n_kept] = &p->kept_one[p->doc.n_kept];
        *to = (PB(IncidentSignal))PB_INIT(INCIDENT_SIGNAL);
        to->kind = s->dimension == SIGNAL_DATA ? REDOUBT__V1__INCIDENT_SIGNAL_KIND__INCIDENT_SIGNAL_KIND_DATA
                                               : REDOUBT__V1__INCIDENT_SIGNAL_KIND__INCIDENT_SIGNAL_KIND_DECLARED;
        to->subject = s->of->name;
        to->condition = s->condition;
        to->since_unix_ms = s->at_ms;
        p->doc.n_kept++;
    }
    p->doc.kept = p->kept;
}

static bool has_open(const struct board *b, const struct board_entry *e, uint32_t agent)
{
    const struct board_subject *s = b->of_index[agent];
    for (int d = SIGNAL_LLM; d <= SIGNAL_LINK; d++)
        if (s->signals[d] && s->signals[d]->in == e)
            return true;
    return false;
}

/* As many as fit: of the list, and of the message with all else in it. Those with open conditions first: after a restart they belong here. */
static void agents(struct board *b, struct parcel *p, const struct board_entry *e, size_t room)
{
    size_t bytes = 0;
    p->doc.agents = p->agents;
    for (int open = 1; open >= 0; open--) {
        for (size_t i = 0; i < e->n_members && p->doc.n_agents < room; i++) {
            const char *name = board_agent_name(b, e->members[i].agent);
            if (has_open(b, e, e->members[i].agent) != (open == 1))
                continue;
            bytes += strlen(name);
            if (bytes > BOARD_AGENT_BYTES_MAX)
                break;
            p->agents[p->doc.n_agents++] = text(name);
        }
        if (open)
            p->doc.agents_open = (uint32_t)p->doc.n_agents;
    }
    while (p->doc.n_agents > 0 && protobuf_c_message_get_packed_size(&p->doc.base) > MESSAGE_MAX)
        p->doc.n_agents /= 2;
    if (p->doc.agents_open > p->doc.n_agents)
        p->doc.agents_open = (uint32_t)p->doc.n_agents;
}

PB(IncidentChanged) * board_pack(struct board *b, const struct incident *x, int64_t now_ms, uint64_t fence)
{
    struct board_entry *e = (struct board_entry *)(uintptr_t)x;
    size_t n = e->n_members < BOARD_AGENTS_MAX ? e->n_members : BOARD_AGENTS_MAX;
    struct parcel *p = calloc(1, sizeof *p + (n + 1) * sizeof(char *));
    if (!p)
        return NULL;
    PB(IncidentChanged) *doc = &p->doc;
    *doc = (PB(IncidentChanged))PB_INIT(INCIDENT_CHANGED);
    doc->id = text(x->id);
    doc->epoch = x->epoch;
    doc->phase = x->phase;
    doc->failure_kind = x->kind;
    doc->severity = x->severity;
    doc->cause = text(x->cause);
    doc->summary = text(x->summary);
    doc->evidence_unix_ms = x->evidence_ms;
    doc->changed_unix_ms = x->changed_ms;
    doc->key = text(x->key);
    doc->owner = text(x->owner);
    doc->fence = fence;
    doc->agents_total = x->agents_total;
    doc->open_signals = x->open_signals;
    doc->data_affected = x->data_affected;
    doc->recovered_unix_ms = x->recovered_ms;
    doc->validated_unix_ms = x->validated_ms;
    doc->closed_unix_ms = x->closed_ms;
    doc->report = text(x->report);
    doc->drill = x->drill;
    doc->joined_unix_ms = x->last_joined_ms;
    doc->gate = p->gate;
    incident_gate(x, &b->rule, now_ms, p->gate, sizeof p->gate);
    clocks(b, p, x, now_ms);
    phases(p, x);
    notes(p, x);
    kept(p, e);
    agents(b, p, e, n);
    if (fence > 0) {
        e->seen_epoch = x->epoch;
        e->seen_fence = fence;
    }
    return doc;
}

void board_pack_done(PB(IncidentChanged) * doc)
{
    free(doc); /* the parcel begins with it */
}
