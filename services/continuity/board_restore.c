/* board_restore.c - an incident from its document: after a restart, or from another leader. No clock of it is reset, stopped or shortened by that. */
#include "continuity/board_impl.h"
#include <stdlib.h>
#include <string.h>

static int objective_of(const char *name)
{
    for (int o = 0; o < SET_OBJECTIVES; o++)
        if (strcmp(settings_objectives[o], name) == 0)
            return o;
    return -1;
}

static bool time_ok(int64_t ms)
{
    return ms >= 0 && ms <= INT64_C(253402300799999);
}

static bool clock_from(struct incident *x, const PB(ObjectiveClock) * from)
{
    int o = objective_of(from->objective);
    if (o < 0)
        return true; /* a newer one's: not ours to count */
    if (x->clocks[o].started || from->limit_ms > INT64_MAX / 200 || !time_ok(from->started_unix_ms) ||
        !time_ok(from->stopped_unix_ms))
        return false;
    x->clocks[o] = (struct incident_clock){.started = true,
                                           .stopped = from->stopped_unix_ms > 0,
                                           .told = (uint8_t)(from->told & 15u),
                                           .started_ms = from->started_unix_ms,
                                           .stopped_ms = from->stopped_unix_ms,
                                           .limit_ms = (int64_t)from->limit_ms};
    return true;
}

/* What the document says, without texts: into a fresh one, so that a bad document changes nothing. phases has room for INCIDENT_PHASES. */
static bool numbers(struct incident *x, const PB(IncidentChanged) * doc, struct incident_phase *to)
{
    if (!doc->id || !*doc->id || strlen(doc->id) >= INCIDENT_ID || strlen(doc->key) >= INCIDENT_KEY || !*doc->key ||
        doc->epoch == 0 || doc->n_phases > INCIDENT_PHASES || doc->n_notes > INCIDENT_NOTES ||
        doc->n_kept > BOARD_KEPT_MAX || doc->failure_kind < 0 || doc->failure_kind > UINT8_MAX || doc->severity < 0 ||
        doc->severity > UINT8_MAX || doc->phase < 0 || doc->phase > INCIDENT_PHASE(CLOSED))
        return false;
    const int64_t times[] = {doc->evidence_unix_ms,  doc->changed_unix_ms, doc->recovered_unix_ms,
                             doc->validated_unix_ms, doc->closed_unix_ms,  doc->joined_unix_ms};
    for (size_t i = 0; i < sizeof times / sizeof times[0]; i++)
        if (!time_ok(times[i]))
            return false;
    for (size_t i = 0; i < doc->n_phases; i++) {
        const PB(IncidentPhaseTime) *p = doc->phases[i];
        if (p->phase < INCIDENT_PHASE(RESPOND) || p->phase > INCIDENT_PHASE(CLOSED) || !time_ok(p->entered_unix_ms) ||
            !time_ok(p->left_unix_ms))
            return false;
        to[i] = (struct incident_phase){.phase = (uint8_t)p->phase,
                                        .overdue = p->overdue,
                                        .entered_ms = p->entered_unix_ms,
                                        .left_ms = p->left_unix_ms};
    }
    x->epoch = doc->epoch;
    x->phase = (uint8_t)doc->phase;
    x->kind = (uint8_t)doc->failure_kind;
    x->severity = (uint8_t)doc->severity;
    x->drill = doc->drill;
    x->data_affected = doc->data_affected;
    x->told = x->phase > INCIDENT_PHASE(RESPOND);
    x->agents_total = doc->agents_total;
    x->evidence_ms = doc->evidence_unix_ms;
    x->last_joined_ms = doc->joined_unix_ms > 0 ? doc->joined_unix_ms : doc->evidence_unix_ms;
    x->recovered_ms = doc->recovered_unix_ms;
    x->validated_ms = doc->validated_unix_ms;
    x->closed_ms = doc->closed_unix_ms;
    x->changed_ms = doc->changed_unix_ms;
    x->phases = to;
    x->n_phases = (uint8_t)doc->n_phases;
    x->entered_ms = x->n_phases > 0 ? to[x->n_phases - 1].entered_ms : 0;
    for (size_t i = 0; i < doc->n_clocks; i++)
        if (!clock_from(x, doc->clocks[i]))
            return false;
    for (int o = 0; o < SET_OBJECTIVES; o++)
        if (x->clocks[o].started && x->clocks[o].started_ms < x->evidence_ms)
            x->evidence_ms = x->clocks[o].started_ms;
    return !incident_broken(x);
}

/* What is known here may be older evidence: a clock starts at the earlier one. One that the document does not have yet runs on; it ends where the incident did. */
static void merge_clocks(struct incident *x, const struct incident *known)
{
    for (int o = 0; o < SET_OBJECTIVES; o++) {
        struct incident_clock *c = &x->clocks[o];
        const struct incident_clock *k = &known->clocks[o];
        if (!k->started)
            continue;
        if (!c->started) {
            if (!incident_takes(x) && k->started_ms > x->validated_ms)
                continue;
            *c = *k;
            c->stopped = !incident_takes(x);
            c->stopped_ms = c->stopped ? x->validated_ms : 0;
        } else if (k->started_ms < c->started_ms) {
            c->started_ms = k->started_ms;
        }
        c->told |= k->told;
        if (c->started_ms < x->evidence_ms)
            x->evidence_ms = c->started_ms;
    }
    if (known->evidence_ms > 0 && known->evidence_ms < x->evidence_ms)
        x->evidence_ms = known->evidence_ms;
}

/* ---- texts ---- */

static void let_go(struct board *b, struct incident *x)
{
    for (size_t i = 0; i < x->n_phases; i++) {
        board_text_drop(b, x->phases[i].left_by);
        board_text_drop(b, x->phases[i].why);
    }
    for (size_t i = 0; i < x->n_notes; i++) {
        board_text_drop(b, x->notes[i].by);
        board_text_drop(b, x->notes[i].text);
    }
    const char *const texts[] = {x->key, x->owner, x->cause, x->summary, x->report, x->failed};
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++)
        board_text_drop(b, texts[i]);
}

static const char *text(struct board *b, const char *s, size_t max)
{
    return s && *s ? board_text(b, s, max) : NULL;
}

static void texts_from(struct board *b, struct incident *x, const PB(IncidentChanged) * doc)
{
    x->key = board_text(b, doc->key, INCIDENT_KEY - 1);
    x->owner = text(b, doc->owner, 128);
    x->cause = text(b, doc->cause, 256);
    x->summary = text(b, doc->summary, 512);
    x->report = text(b, doc->report, 128);
    for (size_t i = 0; i + 1 < doc->n_phases; i++) {
        x->phases[i].left_by = text(b, doc->phases[i]->left_by, 128);
        x->phases[i].why = text(b, doc->phases[i]->why, 256);
    }
    for (size_t i = 0; i < doc->n_notes; i++)
        x->notes[i] = (struct incident_note){.kind = (uint8_t)doc->notes[i]->kind,
                                             .at_ms = doc->notes[i]->at_unix_ms,
                                             .by = board_text(b, doc->notes[i]->by, 128),
                                             .text = board_text(b, doc->notes[i]->text, 512)};
    x->n_notes = (uint8_t)doc->n_notes;
    x->reported = x->report && x->phase >= INCIDENT_PHASE(LEARN);
    x->report_due = !x->reported && x->phase >= INCIDENT_PHASE(LEARN);
}

/* ---- whom it is about ---- */

static void members_from(struct board *b, struct board_entry *e, const PB(IncidentChanged) * doc)
{
    bool agents = strcmp(doc->key, "agents") == 0 || strncmp(doc->key, "agent.", 6) == 0;
    for (size_t i = 0; i < doc->n_agents; i++) {
        struct board_subject *s = board_subject_make(b, doc->agents[i]);
        if (!s)
            continue;
        board_subject_hold(s);
        board_member(e, s, 0);
        bool rather = !s->restored || incident_takes(&e->x) ||
                      (!incident_takes(&s->restored->x) && e->x.validated_ms > s->restored->x.validated_ms);
        if (!b->synced && agents && i < doc->agents_open && rather)
            s->restored = e;
        board_subject_drop(b, s);
    }
    for (size_t i = 0; i < doc->n_clocks; i++) {
        int o = objective_of(doc->clocks[i]->objective);
        const char *agent = doc->clocks[i]->agent;
        struct board_subject *s = o >= 0 && *agent ? board_subject_make(b, agent) : NULL;
        if (s) {
            board_subject_hold(s);
            board_member(e, s, 1u << o);
            e->x.clocks[o].agent = s->index;
            board_subject_drop(b, s);
        } else if (o >= 0) {
            e->suite_clocks |= 1u << o;
        }
    }
    if (e->n_members > e->x.agents_total)
        e->x.agents_total = e->n_members;
}

static bool listed(const PB(IncidentChanged) * doc, const struct board_signal *s)
{
    for (size_t i = 0; i < doc->n_kept; i++)
        if ((doc->kept[i]->kind == REDOUBT__V1__INCIDENT_SIGNAL_KIND__INCIDENT_SIGNAL_KIND_DATA) ==
                (s->dimension == SIGNAL_DATA) &&
            strcmp(doc->kept[i]->subject, s->of->name) == 0)
            return true;
    return false;
}

/* What no service repeats is as the document has it. */
static void kept_from(struct board *b, struct board_entry *e, const PB(IncidentChanged) * doc)
{
    struct board_signal *sig, *next;
    for (sig = e->signals; sig; sig = next) {
        next = sig->next;
        if ((sig->dimension == SIGNAL_DATA || sig->dimension == SIGNAL_MANUAL) && !listed(doc, sig))
            board_signal_drop(b, sig);
    }
    for (size_t i = 0; i < doc->n_kept; i++) {
        const PB(IncidentSignal) *k = doc->kept[i];
        bool data = k->kind == REDOUBT__V1__INCIDENT_SIGNAL_KIND__INCIDENT_SIGNAL_KIND_DATA;
        unsigned dimension = data ? SIGNAL_DATA : SIGNAL_MANUAL;
        struct board_subject *s = *k->subject && k->condition ? board_subject_make(b, k->subject) : NULL;
        if (!s)
            continue;
        board_subject_hold(s);
        if (!s->signals[dimension])
            board_signal_add(b, e, s, dimension, k->condition & 255u, NULL, k->since_unix_ms);
        board_subject_drop(b, s);
    }
}

/* It has ended, and knew of no open condition: what is still attached to it here is about to clear, or another leader's next incident. */
static void set_free(struct board *b, struct board_entry *e, const PB(IncidentChanged) * doc)
{
    struct board_signal *sig;
    while (!incident_takes(&e->x) && doc->open_signals == 0 && (sig = e->signals)) {
        DL_DELETE(e->signals, sig);
        sig->in = NULL;
        sig->homeless = b->homeless = true;
    }
}

/* ---- which one ---- */

/* Opened here by the same evidence, but said by nobody yet: another leader was first, and its name holds. */
static struct board_entry *same_one(struct board *b, const PB(IncidentChanged) * doc, const struct incident *x)
{
    struct board_entry *e = NULL;
    if (!incident_takes(x))
        return NULL;
    HASH_FIND(by_key, b->keys, doc->key, strlen(doc->key), e);
    if (e && e->seen_fence == 0)
        return e;
    bool agents = strcmp(doc->key, "agents") == 0 || strncmp(doc->key, "agent.", 6) == 0;
    for (size_t i = 0; agents && i < doc->n_agents; i++) {
        const struct board_subject *s = board_subject(b, doc->agents[i]);
        for (int d = SIGNAL_AUTOMATION; s && d <= SIGNAL_LINK; d++) {
            e = s->signals[d] ? s->signals[d]->in : NULL;
            if (e && e->seen_fence == 0 && e->x.kind == x->kind && board_kin_of(&e->x) >= 0)
                return e;
        }
    }
    return NULL;
}

static void rename_to(struct board *b, struct board_entry *e, const char *id)
{
    HASH_DELETE(by_id, b->ids, e);
    memset(e->x.id, 0, sizeof e->x.id);
    memcpy(e->x.id, id, strlen(id));
    HASH_ADD_KEYPTR(by_id, b->ids, e->x.id, strlen(e->x.id), e);
}

static bool is_open(const struct incident *x)
{
    return x->phase != 0 && x->phase != INCIDENT_PHASE(CLOSED);
}

/* By its time of opening among the others; before all is synced that is done for all at once. */
static void place(struct board *b, struct board_entry *e)
{
    if (!b->synced)
        return;
    DL_DELETE(b->list, e);
    struct board_entry *at = b->list ? b->list->prev : NULL;
    while (at && at != b->list && board_opened_ms(at) > board_opened_ms(e))
        at = at->prev;
    if (!at || board_opened_ms(at) > board_opened_ms(e))
        DL_PREPEND(b->list, e);
    else
        DL_APPEND_ELEM(b->list, at, e);
}

bool board_restore(struct board *b, const PB(IncidentChanged) * doc, int64_t now_ms)
{
    struct incident_phase phases[INCIDENT_PHASES];
    struct incident fresh = {0};
    struct board_entry *e = NULL;
    if (!numbers(&fresh, doc, phases))
        return false;
    HASH_FIND(by_id, b->ids, doc->id, strlen(doc->id), e);
    if (e && (doc->fence < e->seen_fence || (doc->fence == e->seen_fence && doc->epoch <= e->seen_epoch)))
        return true;
    if (!e && (e = same_one(b, doc, &fresh)))
        rename_to(b, e, doc->id);
    bool made = !e;
    if (!e && !(e = board_entry_new(b, doc->id, doc->key)))
        return false;
    size_t room = doc->n_phases + INCIDENT_PHASES_ADDED < INCIDENT_PHASES ? doc->n_phases + INCIDENT_PHASES_ADDED
                                                                          : INCIDENT_PHASES;
    struct incident_phase *own = calloc(room, sizeof *own);
    struct incident_note *notes = doc->n_notes > 0 ? calloc(doc->n_notes, sizeof *notes) : NULL;
    if (!own || (doc->n_notes > 0 && !notes)) {
        free(own);
        free(notes);
        if (made)
            board_entry_free(b, e);
        return false;
    }

    /* All is there: nothing fails from here on. */
    struct incident old = e->x;
    board_unindex(b, e);
    memcpy(own, phases, doc->n_phases * sizeof *own);
    fresh.phases = own;
    fresh.notes = notes;
    memcpy(fresh.id, old.id, sizeof fresh.id);
    fresh.asked = true; /* until board_synced() */
    fresh.checked = fresh.phase == old.phase ? old.checked : INCIDENT_UNCHECKED;
    fresh.ask_ms = now_ms;
    merge_clocks(&fresh, &old);
    e->x = fresh;
    texts_from(b, &e->x, doc);
    e->phases_room = (uint8_t)room;
    e->notes_room = (uint8_t)doc->n_notes;
    let_go(b, &old);
    free(old.phases);
    free(old.notes);
    e->seen_epoch = doc->epoch;
    e->seen_fence = doc->fence;
    b->n_open = b->n_open + is_open(&e->x) - is_open(&old);
    members_from(b, e, doc);
    kept_from(b, e, doc);
    set_free(b, e, doc);
    /* Its other signals are still to come: until then one of them stands for all. */
    e->ghost = !b->synced && e->x.phase < INCIDENT_PHASE(VALIDATE);
    board_recount(b, e);
    if (!b->synced && !incident_takes(&e->x))
        e->x.open_signals = doc->open_signals;
    board_index(b, e);
    if (!b->synced && !incident_takes(&e->x))
        board_recount(b, e);
    place(b, e);
    board_wake(b, e, is_open(&e->x) || e->x.report_due ? now_ms : INT64_MAX);
    return true;
}
