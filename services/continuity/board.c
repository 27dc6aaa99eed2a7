/* board.c - all incidents in memory: what is decided, by whom it is held, and when each is looked at again. Pure but for memory; see board.h. */
#include "continuity/board.h"
#include "continuity/board_impl.h"
#include "continuity/objective.h"
#include <assert.h>
#include <stdlib.h>
#include <string.h>

/* ---- entries ---- */

struct board_entry *board_entry_new(struct board *b, const char *id, const char *key)
{
    struct board_entry *e = board_wake_room(b) ? calloc(1, sizeof *e) : NULL;
    if (!e)
        return NULL;
    e->x.key = board_text(b, key, INCIDENT_KEY - 1);
    if (!e->x.key || !board_grow(e)) {
        board_text_drop(b, e->x.key);
        free(e);
        return NULL;
    }
    memcpy(e->x.id, id, strnlen(id, INCIDENT_ID - 1));
    e->wake_ms = INT64_MAX;
    HASH_ADD_KEYPTR(by_id, b->ids, e->x.id, strlen(e->x.id), e);
    DL_APPEND(b->list, e);
    return e;
}

bool board_grow(struct board_entry *e)
{
    unsigned phases = e->x.n_phases + INCIDENT_PHASES_ADDED, notes = e->x.n_notes + 1u;
    if (phases > e->phases_room && e->phases_room < INCIDENT_PHASES) {
        unsigned room = phases > INCIDENT_PHASES ? INCIDENT_PHASES : phases;
        struct incident_phase *p = realloc(e->x.phases, room * sizeof *p);
        if (!p)
            return false;
        e->x.phases = p;
        e->phases_room = (uint8_t)room;
    }
    /* Most incidents have none: the first one comes with the first note. */
    if (e->x.notes ? notes > e->notes_room && e->notes_room < INCIDENT_NOTES : false) {
        unsigned room = notes * 2 > INCIDENT_NOTES ? INCIDENT_NOTES : notes * 2;
        struct incident_note *n = realloc(e->x.notes, room * sizeof *n);
        if (!n)
            return false;
        e->x.notes = n;
        e->notes_room = (uint8_t)room;
    }
    return true;
}

static bool note_room(struct board_entry *e)
{
    if (e->x.notes)
        return true; /* board_grow() sees to it */
    e->x.notes = calloc(1, sizeof *e->x.notes);
    e->notes_room = e->x.notes ? 1 : 0;
    return e->x.notes != NULL;
}

void board_entry_free(struct board *b, struct board_entry *e)
{
    struct incident *x = &e->x;
    board_unindex(b, e);
    board_wake(b, e, INT64_MAX);
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
    while (e->signals) { /* the condition lasts, its incident is history */
        struct board_signal *s = e->signals;
        DL_DELETE(e->signals, s);
        s->in = NULL;
    }
    board_members_drop(b, e);
    HASH_DELETE(by_id, b->ids, e);
    DL_DELETE(b->list, e);
    if (x->phase != 0 && x->phase != INCIDENT_PHASE(CLOSED))
        b->n_open--;
    free(x->phases);
    free(x->notes);
    free(e);
}

int64_t board_opened_ms(const struct board_entry *e)
{
    return e->x.n_phases > 0 ? e->x.phases[0].entered_ms : e->x.evidence_ms;
}

struct board_signal *board_signal_add(struct board *b, struct board_entry *e, struct board_subject *s,
                                      unsigned dimension, unsigned condition, const char *cause, int64_t at_ms)
{
    struct board_signal *sig = calloc(1, sizeof *sig);
    if (!sig)
        return NULL;
    *sig = (struct board_signal){.in = e,
                                 .of = s,
                                 .at_ms = at_ms,
                                 .dimension = (uint8_t)dimension,
                                 .condition = (uint8_t)condition,
                                 .cause = board_text(b, cause, 128)};
    s->signals[dimension] = sig;
    board_subject_hold(s);
    DL_APPEND(e->signals, sig);
    return sig;
}

void board_signal_drop(struct board *b, struct board_signal *s)
{
    if (s->in)
        DL_DELETE(s->in->signals, s);
    s->of->signals[s->dimension] = NULL;
    board_text_drop(b, s->cause);
    board_subject_drop(b, s->of);
    free(s);
}

void board_recount(struct board *b, struct board_entry *e)
{
    struct incident *x = &e->x;
    struct board_signal *s;
    x->open_signals = e->ghost;
    memset(x->of_condition, 0, sizeof x->of_condition);
    for (s = e->signals; s; s = s->next) {
        x->open_signals++;
        for (int i = 0; i < 3 && s->dimension != SIGNAL_DATA; i++)
            if (s->condition & (1u << i))
                x->of_condition[i]++;
    }
    x->functions_lost = incident_functions_lost(x, &b->rule);
}

/* ---- one decision ---- */

/* Texts that the decider has put in become the board's own, and those that it took out are let go. */
struct held {
    const char **slot, *before;
    size_t max;
};

static void hold(struct board *b, struct held *h)
{
    if (*h->slot == h->before)
        return;
    *h->slot = board_text(b, *h->slot, h->max);
    board_text_drop(b, h->before);
}

static void hold_new(struct board *b, struct incident *x, size_t phases, size_t notes)
{
    for (size_t i = phases > 0 ? phases - 1 : 0; i + 1 < x->n_phases; i++) {
        x->phases[i].left_by = board_text(b, x->phases[i].left_by, 128);
        x->phases[i].why = board_text(b, x->phases[i].why, 256);
    }
    for (size_t i = notes; i < x->n_notes; i++) {
        x->notes[i].by = board_text(b, x->notes[i].by, 128);
        x->notes[i].text = board_text(b, x->notes[i].text, 512);
    }
}

bool board_apply(struct board *b, struct board_entry *e, const struct incident_event *ev, int64_t now_ms)
{
    struct incident_effect effects[INCIDENT_EFFECTS];
    struct incident *x = &e->x;
    bool note = ev->kind == INCIDENT_NOTE_ADD;
    incident_room(x, note, board_text_drop, b);
    if ((note && !note_room(e)) || !board_grow(e))
        return false;
    struct held held[] = {{&x->owner, x->owner, 128},
                          {&x->cause, x->cause, 256},
                          {&x->summary, x->summary, 512},
                          {&x->report, x->report, 128},
                          {&x->failed, x->failed, 256}};
    size_t phases = x->n_phases, notes = x->n_notes;
    int64_t joined = x->last_joined_ms;
    bool took = incident_takes(x), was_open = x->phase != 0 && x->phase != INCIDENT_PHASE(CLOSED);

    size_t n = incident_decide(x, &b->rule, ev, now_ms, effects);

    for (size_t i = 0; i < sizeof held / sizeof held[0]; i++)
        hold(b, &held[i]);
    if (x->n_phases != phases || x->n_notes != notes)
        hold_new(b, x, phases, notes);
    bool is_open = x->phase != 0 && x->phase != INCIDENT_PHASE(CLOSED);
    b->n_open = b->n_open + is_open - was_open;
    if (took != incident_takes(x) || (joined != x->last_joined_ms && board_kin_of(x) >= 0))
        board_index(b, e);
    for (size_t i = 0; i < n; i++)
        if (effects[i].kind == INCIDENT_WAKE)
            board_wake(b, e, effects[i].at_ms > now_ms ? effects[i].at_ms : now_ms + 1);
    /* Last: a hook may come back with another event. */
    for (size_t i = 0; i < n && b->hooks.effect; i++)
        if (effects[i].kind != INCIDENT_WAKE)
            b->hooks.effect(b->hooks.ctx, x, &effects[i]);
    return true;
}

/* ---- the board ---- */

static bool take_settings(struct board *b, const struct set_continuity *set)
{
    int64_t(*limits)[SET_OBJECTIVES] = calloc(set->own.n + 1, sizeof *limits);
    if (!limits)
        return false;
    for (int i = -1; i < (int)set->own.n; i++)
        objective_targets_of(set, i, limits[i + 1]);
    free(b->limits);
    b->limits = limits;
    b->set = set;
    incident_rule_of(set, &b->rule);
    return true;
}

struct board *board_new(const struct set_continuity *set, const struct board_hooks *hooks)
{
    struct board *b = calloc(1, sizeof *b);
    if (!b || !take_settings(b, set)) {
        free(b);
        return NULL;
    }
    if (hooks)
        b->hooks = *hooks;
    return b;
}

void board_free(struct board *b)
{
    if (!b)
        return;
    struct board_subject *s, *next;
    while (b->list)
        board_entry_free(b, b->list);
    HASH_ITER(hh, b->subjects, s, next)
    {
        board_subject_hold(s); /* until its last signal is gone */
        for (int d = 0; d < SIGNAL_DIMENSIONS; d++)
            if (s->signals[d])
                board_signal_drop(b, s->signals[d]);
        board_subject_drop(b, s);
    }
    assert(!b->texts && "each text is let go by who holds it");
    free(b->of_index);
    free(b->unused);
    free(b->limits);
    free(b->heap);
    free(b);
}

/* The tightest of all whom the clock concerns, by the new settings. */
static int64_t limit_of(struct board *b, const struct board_entry *e, int o, uint32_t *ret_agent)
{
    int64_t limit = e->suite_clocks & (1u << o) ? b->limits[0][o] : INT64_MAX;
    *ret_agent = 0;
    for (uint32_t i = 0; i < e->n_members; i++) {
        const struct board_member *m = &e->members[i];
        if (!(m->clocks & (1u << o)))
            continue;
        int64_t own = board_limits(b, b->of_index[m->agent])[o];
        if (own >= limit)
            continue;
        limit = own;
        *ret_agent = m->agent;
    }
    return limit;
}

bool board_reload(struct board *b, const struct set_continuity *set)
{
    struct board_subject *s, *next;
    struct board_entry *e;
    if (!take_settings(b, set))
        return false;
    HASH_ITER(hh, b->subjects, s, next)
    {
        s->own = -2;
    }
    for (e = b->list; e; e = e->next) {
        for (int o = 0; o < SET_OBJECTIVES; o++) {
            struct incident_clock *c = &e->x.clocks[o];
            uint32_t agent = 0;
            int64_t limit = c->started && !c->stopped ? limit_of(b, e, o, &agent) : INT64_MAX;
            if (limit == INT64_MAX)
                continue;
            c->limit_ms = limit;
            c->agent = agent;
        }
        if (b->synced && e->x.phase != INCIDENT_PHASE(CLOSED))
            board_wake(b, e, 0); /* shares, gates and limits are looked at with the next tick */
    }
    return true;
}

static void rejoin_all(struct board *b, int64_t now_ms)
{
    struct board_subject *s, *next;
    if (!b->homeless)
        return;
    b->homeless = false;
    HASH_ITER(hh, b->subjects, s, next)
    {
        board_subject_hold(s);
        for (int d = 0; d < SIGNAL_DIMENSIONS; d++)
            if (s->signals[d] && s->signals[d]->homeless)
                board_rejoin(b, s->signals[d], now_ms);
        board_subject_drop(b, s);
    }
}

static int by_opening(const struct board_entry *a, const struct board_entry *b)
{
    int64_t x = board_opened_ms(a), y = board_opened_ms(b);
    return x < y ? -1 : x > y;
}

void board_synced(struct board *b, int64_t now_ms)
{
    static const struct incident_event cleared = {.kind = INCIDENT_CLEARED}, tick = {.kind = INCIDENT_TICK};
    static const struct incident_effect announce = {.kind = INCIDENT_ANNOUNCE};
    struct board_subject *s, *next_subject;
    struct board_entry *e, *next;
    b->synced = true;
    while (b->late)
        board_unindex(b, b->late);
    DL_SORT(b->list, by_opening);
    HASH_ITER(hh, b->subjects, s, next_subject)
    {
        s->restored = NULL;
    }
    rejoin_all(b, now_ms);
    board_conditions(b);
    for (e = b->list; e; e = next) {
        next = e->next;
        e->x.asked = false;
        bool ghost = e->ghost;
        e->ghost = false;
        uint64_t epoch = e->x.epoch;
        board_apply(b, e, ghost ? &cleared : &tick, now_ms);
        bool said = e->x.epoch != epoch || (e->seen_epoch == e->x.epoch && e->seen_fence > 0);
        if (!said && b->hooks.effect)
            b->hooks.effect(b->hooks.ctx, &e->x, &announce);
    }
}

int64_t board_tick(struct board *b, int64_t now_ms)
{
    static const struct incident_event tick = {.kind = INCIDENT_TICK};
    if (!b->synced)
        return INT64_MAX;
    rejoin_all(b, now_ms);
    while (b->n_heap > 0 && b->heap[0]->wake_ms <= now_ms) {
        struct board_entry *e = b->heap[0];
        if (!board_apply(b, e, &tick, now_ms))
            board_wake(b, e, now_ms + 1000); /* no memory now */
    }
    return b->n_heap > 0 ? b->heap[0]->wake_ms : INT64_MAX;
}

/* What a person has declared is over when a person goes on behind recovery. */
static void declared_over(struct board *b, struct board_entry *e, const struct incident_event *ev)
{
    int to = ev->kind == INCIDENT_CLOSE ? INCIDENT_PHASE(CLOSED) : ev->phase ? ev->phase : e->x.phase + 1;
    struct board_signal *s, *next;
    uint32_t others = 0;
    if ((ev->kind != INCIDENT_ADVANCE && ev->kind != INCIDENT_CLOSE) || to < INCIDENT_PHASE(VALIDATE))
        return;
    for (s = e->signals; s; s = s->next)
        others += s->dimension != SIGNAL_MANUAL;
    if (to == INCIDENT_PHASE(VALIDATE) && (others > 0 || e->x.data_affected))
        return;
    for (s = e->signals; s; s = next) {
        next = s->next;
        if (s->dimension == SIGNAL_MANUAL)
            board_signal_drop(b, s);
    }
    board_recount(b, e);
}

bool board_event(struct board *b, const char *id, const struct incident_event *ev, int64_t now_ms,
                 struct incident **ret)
{
    struct incident *x = board_find(b, id);
    if (ret)
        *ret = x;
    if (!x)
        return false;
    struct board_entry *e = (struct board_entry *)(void *)x;
    struct incident_event mine = *ev;
    if (!mine.limits)
        mine.limits = b->limits[0];
    if (mine.kind == INCIDENT_DATA && mine.agent == 0)
        e->suite_clocks |= incident_concerned(&b->rule, 0, true);
    declared_over(b, e, &mine);
    return board_apply(b, e, &mine, now_ms);
}

struct incident *board_find(struct board *b, const char *id)
{
    struct board_entry *e = NULL;
    HASH_FIND(by_id, b->ids, id, strlen(id), e);
    return e ? &e->x : NULL;
}

static bool shown(const struct board_entry *e, bool open_only)
{
    return !open_only || e->x.phase != INCIDENT_PHASE(CLOSED);
}

struct incident *board_next(const struct board *b, const struct incident *after, bool open_only)
{
    const struct board_entry *from = (const struct board_entry *)(const void *)after;
    struct board_entry *e = from ? from->next : b->list;
    while (e && !shown(e, open_only))
        e = e->next;
    return e ? &e->x : NULL;
}

struct incident *board_prev(const struct board *b, const struct incident *before, bool open_only)
{
    const struct board_entry *from = (const struct board_entry *)(const void *)before;
    if (!b->list || from == b->list)
        return NULL;
    /* Before the first comes the last, as the list has it. */
    struct board_entry *e = from ? from->prev : b->list->prev;
    while (!shown(e, open_only)) {
        if (e == b->list)
            return NULL;
        e = e->prev;
    }
    return &e->x;
}

size_t board_open(const struct board *b)
{
    return b->n_open;
}

size_t board_count(const struct board *b)
{
    return HASH_CNT(by_id, b->ids);
}

void board_prune(struct board *b, int64_t closed_before_ms, void (*each)(void *ctx, const char *id), void *ctx)
{
    struct board_entry *e, *next;
    DL_FOREACH_SAFE(b->list, e, next)
    {
        if (e->x.phase != INCIDENT_PHASE(CLOSED) || e->x.closed_ms >= closed_before_ms)
            continue;
        if (each)
            each(ctx, e->x.id);
        board_entry_free(b, e);
    }
}
