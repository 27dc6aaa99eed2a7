/* test_continuity_year.c - a year of failures on a virtual clock: 500 agents, providers, backends, frozen and lost agents, damaged data, what people declare and do; late,
 * repeated and changed signals; and a service that is away every few days, for up to half an hour, and goes on from its documents.
 *
 * Afterwards year_reference.h works out from the log alone what must have come of it. Incidents, their phases, each clock's start, end and limit, when people were told of each
 * share, and each agent's time in each condition by month must be the same to the millisecond.
 *
 * That the comparison can fail is shown each time: enum mutation lists what is broken on purpose, and each must be found.
 * SEED=n runs one seed, SEEDS=n so many busy weeks; a failure prints its seed. */
#include "continuity/availability.h"
#include "continuity/board.h"
#include "continuity/objective.h"
#include "year_reference.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#define MINUTE  INT64_C(60000)
#define HOUR    (60 * MINUTE)
#define DAY     (24 * HOUR)
#define BEGIN   INT64_C(1767225600000) /* 2026-01-01 */
#define KEPT_MS (10 * DAY)

enum mutation {
    SOUND,
    CLOCK_RESET,   /* a document comes back with a clock that starts at the restart */
    CLOCK_LATER,   /* ... by a millisecond later */
    CLOCK_GONE,    /* ... without its clocks */
    LIMIT_LOST,    /* ... with the suite's limit */
    TOLD_LOST,     /* ... and people are told again */
    PHASE_AGAIN,   /* ... and its phase begins anew */
    EVIDENCE_LOST, /* a signal is not heard */
    TICK_LATE,     /* the service looks a millisecond too late */
    TIME_LOST,     /* an agent's condition is noted a millisecond late */
    MUTATIONS
};

struct pending {
    struct line l;
};
struct state { /* of the world */
    bool on;
    int condition, failure, severity;
    bool drill;
    int64_t at;
    char cause[48];
};
struct seen { /* what the service has said of an incident, in order of opening */
    char id[INCIDENT_ID];
    int64_t told_at[SET_OBJECTIVES][4];
    unsigned told[SET_OBJECTIVES];
    struct incident *final; /* a copy, when it is forgotten or the story ends */
};
struct world {
    uint64_t rng, order;
    enum mutation mutation;
    int mutated; /* how often it has been done */
    int64_t now;
    struct pending *heap;
    size_t n_heap, heap_room;
    struct line *log;
    size_t n_log, log_room;
    struct state states[SUBJECTS][DIMS];
    char names[SUBJECTS][32];
    int provider[AGENTS], backend[AGENTS];
    bool down;
    struct board *board;
    struct set_continuity set;
    struct availability spent[AGENTS];
    struct seen *seen;
    int n_seen;
    size_t most, restarts;
};
static struct world *the; /* names and limits for the reference */

static uint64_t next(struct world *w)
{
    w->rng ^= w->rng << 13;
    w->rng ^= w->rng >> 7;
    w->rng ^= w->rng << 17;
    return w->rng;
}

static int64_t upto(struct world *w, int64_t n)
{
    return n > 0 ? (int64_t)(next(w) % (uint64_t)n) : 0;
}

static bool chance(struct world *w, int percent)
{
    return upto(w, 100) < percent;
}

/* Mostly short, at times very long. */
static int64_t lasts(struct world *w, int64_t usual)
{
    int64_t t = MINUTE / 4 + upto(w, usual);
    if (chance(w, 15))
        t *= 4;
    if (chance(w, 5))
        t *= 8;
    return t;
}

static int target(int i)
{
    return AGENTS + SOURCES + DECLARED + i;
}

/* ---- what is still to come ---- */

static bool before(const struct line *a, const struct line *b)
{
    return a->t != b->t ? a->t < b->t : a->order < b->order;
}

static void push(struct world *w, struct line l)
{
    if (w->n_heap == w->heap_room) {
        w->heap_room = w->heap_room ? w->heap_room * 2 : 1024;
        w->heap = realloc(w->heap, w->heap_room * sizeof *w->heap);
        assert_non_null(w->heap);
    }
    l.order = ++w->order;
    size_t i = w->n_heap++;
    for (; i > 0 && before(&l, &w->heap[(i - 1) / 2].l); i = (i - 1) / 2)
        w->heap[i] = w->heap[(i - 1) / 2];
    w->heap[i].l = l;
}

static struct line pop(struct world *w)
{
    struct line first = w->heap[0].l, last = w->heap[--w->n_heap].l;
    size_t i = 0;
    for (size_t c; (c = 2 * i + 1) < w->n_heap; i = c) {
        if (c + 1 < w->n_heap && before(&w->heap[c + 1].l, &w->heap[c].l))
            c++;
        if (!before(&w->heap[c].l, &last))
            break;
        w->heap[i] = w->heap[c];
    }
    w->heap[i].l = last;
    return first;
}

static void put_log(struct world *w, const struct line *l)
{
    if (w->n_log == w->log_room) {
        w->log_room = w->log_room ? w->log_room * 2 : 4096;
        w->log = realloc(w->log, w->log_room * sizeof *w->log);
        assert_non_null(w->log);
    }
    w->log[w->n_log++] = *l;
}

/* ---- the service ---- */

static int number_of(struct world *w, const char *id)
{
    for (int i = w->n_seen - 1; i >= 0; i--)
        if (strcmp(w->seen[i].id, id) == 0)
            return i;
    fail_msg("%s was never opened", id);
    return -1;
}

static void later(struct world *w, enum what what, int incident, int64_t in)
{
    push(w, (struct line){.t = w->now + in, .at = w->now + in, .what = what, .incident = incident, .subject = -1});
}

static void on_effect(void *ctx, struct incident *x, const struct incident_effect *e)
{
    struct world *w = ctx;
    if (e->kind == INCIDENT_RECORD && strcmp(e->text, "incident.opened") == 0) {
        w->seen = more(w->seen, w->n_seen, sizeof *w->seen);
        struct seen *s = &w->seen[w->n_seen++];
        memset(s, 0, sizeof *s);
        snprintf(s->id, sizeof s->id, "%s", x->id);
        later(w, TOLD, w->n_seen - 1, chance(w, 10) ? upto(w, 20 * MINUTE) : 1 + upto(w, 20000));
        if (chance(w, 2))
            later(w, CLOSE, w->n_seen - 1, upto(w, 5 * HOUR));
    }
    int i = number_of(w, x->id);
    switch (e->kind) {
    case INCIDENT_CLOCK_TOLD:
        for (int k = 0; k < 4; k++)
            if (x->clocks[e->objective].told & ~w->seen[i].told[e->objective] & (1u << k))
                w->seen[i].told_at[e->objective][k] = w->now;
        if (!(x->clocks[e->objective].told & ~w->seen[i].told[e->objective]))
            w->seen[i].told_at[e->objective][0] = -w->now; /* twice: never right */
        w->seen[i].told[e->objective] |= x->clocks[e->objective].told;
        break;
    case INCIDENT_CHECK:
        later(w, chance(w, 12) ? FAILED : PASSED, i, 1 + upto(w, 3000));
        break;
    case INCIDENT_REPORT:
        later(w, REPORTED, i, 500 + upto(w, 30000));
        break;
    case INCIDENT_RESOLVED:
        later(w, CLOSE, i, DAY + upto(w, 9 * DAY));
        break;
    default:
        break;
    }
}

static void on_condition(void *ctx, const char *agent, unsigned was, unsigned is, bool drill, int64_t at_ms)
{
    struct world *w = ctx;
    (void)was, (void)drill;
    int a = atoi(agent + 6);
    if (w->mutation == TIME_LOST && chance(w, 1) && at_ms < w->now) {
        at_ms++;
        w->mutated++;
    }
    availability_change(&w->spent[a], is, at_ms);
}

static void open_board(struct world *w)
{
    const struct board_hooks hooks = {.effect = on_effect, .condition = on_condition, .ctx = w};
    w->board = board_new(&w->set, &hooks);
    assert_non_null(w->board);
}

static void feed(struct world *w, struct line *l)
{
    struct incident_event ev = {.by = "anna", .text = "because"};
    l->t = w->now;
    if (l->at > l->t)
        l->at = l->t;
    put_log(w, l);
    if (l->what == RAISE || l->what == CLEAR) {
        struct signal s = {.dimension = (enum signal_dimension)l->dim,
                           .subject = w->names[l->subject],
                           .cause = l->cause,
                           .failure = (uint8_t)l->failure,
                           .severity = (uint8_t)l->severity,
                           .condition = (uint8_t)(l->what == RAISE ? l->condition : 0),
                           .drill = l->drill,
                           .at_ms = l->at,
                           .summary = "it is not as it should be"};
        if (w->mutation == EVIDENCE_LOST && chance(w, 1)) {
            w->mutated++;
            return;
        }
        assert_true(board_signal(w->board, &s, w->now));
        return;
    }
    switch (l->what) {
    case TOLD:
        ev.kind = INCIDENT_TOLD;
        break;
    case PASSED:
        ev.kind = INCIDENT_PASSED;
        break;
    case FAILED:
        ev.kind = INCIDENT_FAILED;
        break;
    case REPORTED:
        ev.kind = INCIDENT_REPORTED;
        break;
    case CLOSE:
        ev.kind = INCIDENT_CLOSE;
        break;
    default:
        ev.kind = INCIDENT_ADVANCE;
        ev.phase = INCIDENT_PHASE(VALIDATE);
    }
    struct incident *x = NULL;
    assert_true(board_event(w->board, w->seen[l->incident].id, &ev, w->now, &x));
}

/* What it has become: its clocks and phases, once it is over or the story is. */
static void keep(struct world *w, const struct incident *x)
{
    int i = number_of(w, x->id);
    struct incident *copy = malloc(sizeof *copy);
    assert_non_null(copy);
    *copy = *x;
    copy->phases = malloc(INCIDENT_PHASES * sizeof *copy->phases);
    assert_non_null(copy->phases);
    memcpy(copy->phases, x->phases, x->n_phases * sizeof *copy->phases);
    char *key = strdup(x->key);
    copy->key = key;
    w->seen[i].final = copy;
}

static void forget(struct world *w)
{
    /* board_prune() says ids only: what goes is copied before. */
    for (const struct incident *x = board_next(w->board, NULL, false); x; x = board_next(w->board, x, false))
        if (x->phase == INCIDENT_PHASE(CLOSED) && x->closed_ms < w->now - KEPT_MS)
            keep(w, x);
    board_prune(w->board, w->now - KEPT_MS, NULL, NULL);
}

/* ---- away, and back from documents ---- */

static void spoil(struct world *w, PB(IncidentChanged) * doc)
{
    bool runs = doc->n_clocks > 0 && doc->phase < INCIDENT_PHASE(LEARN) && doc->open_signals > 0;
    if (!runs || w->mutation == SOUND)
        return;
    PB(ObjectiveClock) *c = doc->clocks[doc->n_clocks - 1];
    switch (w->mutation) {
    case CLOCK_RESET:
        c->started_unix_ms = w->now;
        break;
    case CLOCK_LATER:
        c->started_unix_ms++;
        break;
    case CLOCK_GONE:
        doc->n_clocks = 0;
        break;
    case LIMIT_LOST:
        if (c->limit_ms == (uint64_t)w->set.objectives.ms[SET_RTO_FULL])
            return;
        c->limit_ms = (uint64_t)w->set.objectives.ms[SET_RTO_FULL];
        break;
    case TOLD_LOST:
        if (c->told == 0)
            return;
        c->told = 0;
        break;
    case PHASE_AGAIN:
        doc->phases[doc->n_phases - 1]->entered_unix_ms = w->now;
        break;
    default:
        return;
    }
    w->mutated++;
}

static void shuffle(struct world *w, void *list, size_t n, size_t size)
{
    char *p = list, tmp[sizeof(struct line)];
    for (size_t i = n; i > 1; i--) {
        size_t k = (size_t)upto(w, (int64_t)i);
        memcpy(tmp, p + (i - 1) * size, size);
        memmove(p + (i - 1) * size, p + k * size, size);
        memcpy(p + k * size, tmp, size);
    }
}

static void go_down(struct world *w, struct line *l)
{
    put_log(w, l);
    w->down = true;
    w->restarts++;
    size_t n = board_count(w->board), i = 0;
    struct {
        uint8_t *bytes;
        size_t len;
    } *docs = calloc(n + 1, sizeof *docs);
    assert_non_null(docs);
    for (struct incident *x = board_next(w->board, NULL, false); x; x = board_next(w->board, x, false), i++) {
        PB(IncidentChanged) *doc = board_pack(w->board, x, w->now, 1);
        assert_non_null(doc);
        struct err e = {0};
        if (wire_check(doc, &e) < 0)
            fail_msg("%s", e.text);
        docs[i].len = protobuf_c_message_get_packed_size(&doc->base);
        docs[i].bytes = malloc(docs[i].len);
        assert_non_null(docs[i].bytes);
        protobuf_c_message_pack(&doc->base, docs[i].bytes);
        board_pack_done(doc);
    }
    assert_int_equal(i, n);
    board_free(w->board);
    open_board(w);
    int64_t back = w->now + 1 + (chance(w, 30) ? upto(w, 30 * MINUTE) : upto(w, 20000));
    push(w, (struct line){.t = back, .what = UP, .incident = -1, .subject = -1});
    /* Restored now, at its time below: until then nothing happens to it. */
    shuffle(w, docs, n, sizeof *docs);
    int64_t was = w->now;
    w->now = back;
    for (i = 0; i < n; i++) {
        PB(IncidentChanged) *doc = (PB(IncidentChanged) *)protobuf_c_message_unpack(PB_DESC(incident_changed), NULL,
                                                                                    docs[i].len, docs[i].bytes);
        assert_non_null(doc);
        size_t clocks = doc->n_clocks;
        spoil(w, doc);
        assert_true(board_restore(w->board, doc, w->now));
        if (chance(w, 10))
            assert_true(board_restore(w->board, doc, w->now)); /* again: changes nothing */
        doc->n_clocks = clocks; /* all are freed */
        protobuf_c_message_free_unpacked(&doc->base, NULL);
        free(docs[i].bytes);
    }
    w->now = was;
    free(docs);
}

static void come_back(struct world *w, struct line *l)
{
    struct line *lines = calloc(SUBJECTS * DIMS, sizeof *lines);
    size_t n = 0;
    int64_t ended[TARGETS] = {0}; /* of this cause: the last one that did */
    put_log(w, l);
    assert_non_null(lines);
    for (const struct incident *x = board_next(w->board, NULL, false); x; x = board_next(w->board, x, false))
        for (int k = 0; k < TARGETS; k++)
            if (strncmp(w->names[target(k)], x->key, strlen(x->key)) == 0 && x->validated_ms > ended[k])
                ended[k] = x->validated_ms;
    for (int s = 0; s < SUBJECTS; s++)
        for (int d = LLM; d <= TARGET; d++) {
            const struct state *is = &w->states[s][d];
            if (!is->on)
                continue;
            struct line *to = &lines[n++];
            *to = (struct line){.t = w->now,
                                .at = is->at,
                                .what = RAISE,
                                .incident = -1,
                                .subject = s,
                                .dim = (enum dim)d,
                                .failure = is->failure,
                                .severity = is->severity,
                                .condition = is->condition,
                                .drill = is->drill};
            memcpy(to->cause, is->cause, sizeof to->cause);
            /* A message that was repeated for another reason says a later time. */
            bool closed = false;
            for (int k = 0; k < TARGETS; k++)
                closed = closed || (strcmp(is->cause, w->names[target(k)]) == 0 && is->at <= ended[k]);
            if (d <= BACKEND && !closed && chance(w, 40))
                to->at = w->now;
        }
    shuffle(w, lines, n, sizeof *lines);
    for (size_t i = 0; i < n; i++)
        feed(w, &lines[i]);
    free(lines);
    struct line sync = {.t = w->now, .what = SYNC, .incident = -1, .subject = -1};
    put_log(w, &sync);
    w->down = false;
    board_synced(w->board, w->now);
    for (int a = 0; a < AGENTS; a++)
        if (w->spent[a].condition != board_condition(w->board, w->names[a]))
            availability_change(&w->spent[a], board_condition(w->board, w->names[a]), w->now);
}

/* ---- what fails ---- */

static void set(struct world *w, int64_t t, int subject, enum dim d, int condition, int failure, int severity,
                const char *cause, bool drill)
{
    int64_t late = chance(w, 30) ? upto(w, 90000) : upto(w, 50);
    struct line l = {.t = t,
                     .at = t - late,
                     .what = condition ? RAISE : CLEAR,
                     .incident = -1,
                     .subject = subject,
                     .dim = d,
                     .failure = failure,
                     .severity = severity,
                     .condition = condition,
                     .drill = drill};
    snprintf(l.cause, sizeof l.cause, "%s", cause);
    push(w, l);
}

static void outage(struct world *w, bool llm)
{
    int which = (int)upto(w, llm ? 3 : 6), t = target(llm ? which * 2 + (int)upto(w, 2) : 6 + which);
    const char *cause = w->names[t];
    int64_t from = w->now + MINUTE * 2, length = lasts(w, 40 * MINUTE);
    enum dim d = llm ? LLM : BACKEND;
    int share = chance(w, 20) ? 100 : 5 + (int)upto(w, 30);
    bool drill = chance(w, 10);
    set(w, from, t, TARGET, llm ? L : D, llm ? 1 : 2, 2, cause, drill);
    set(w, from + length, t, TARGET, 0, 0, 0, "", drill);
    for (int a = 0; a < AGENTS; a++) {
        if ((llm ? w->provider : w->backend)[a] != which || !chance(w, share))
            continue;
        int64_t at = from + upto(w, MINUTE);
        set(w, at, a, d, llm ? L : D, llm ? 1 : 2, 2, cause, drill);
        if (llm && chance(w, 20)) /* its chain is exhausted, and comes back to a backup */
            set(w, at + upto(w, length), a, d, L | D, 1, 3, cause, drill);
        if (llm && chance(w, 5))
            set(w, at + upto(w, length), a, d, L, 1, 2, cause, drill);
        set(w, from + length + upto(w, 5 * MINUTE), a, d, 0, 0, 0, "", drill);
        if (chance(w, 3)) { /* it comes back */
            set(w, from + length + 6 * MINUTE + upto(w, 2 * MINUTE), a, d, llm ? L : D, llm ? 1 : 2, 2, cause, drill);
            set(w, from + length + 9 * MINUTE + upto(w, HOUR), a, d, 0, 0, 0, "", drill);
        }
    }
}

static void trouble(struct world *w, int a, enum dim d, int64_t from)
{
    int64_t length = lasts(w, d == AUTOMATION ? HOUR : 20 * MINUTE);
    bool gone = chance(w, 60);
    int condition = d == AUTOMATION ? F : d == RESOURCES ? D : gone ? F : D;
    int failure = d == AUTOMATION ? 3 : d == RESOURCES ? 4 : gone ? 6 : 5;
    set(w, from, a, d, condition, failure, condition == F ? 4 : 1 + (int)upto(w, 3), "", false);
    if (d == LINK && !gone && chance(w, 20))
        set(w, from + upto(w, length), a, d, F, 6, 4, "", false);
    set(w, from + length, a, d, 0, 0, 0, "", false);
    if (chance(w, 20)) { /* too early: it fails again while that is looked at */
        set(w, from + length + 1000 + upto(w, MINUTE), a, d, condition, failure, 2, "", false);
        set(w, from + length + 2 * MINUTE + upto(w, HOUR), a, d, 0, 0, 0, "", false);
    }
}

static void fail_somehow(struct world *w)
{
    int64_t soon = w->now + MINUTE * 2;
    int a = (int)upto(w, AGENTS), s;
    switch (upto(w, 16)) {
    case 0:
        outage(w, true);
        break;
    case 1:
        outage(w, false);
        break;
    case 2: /* several go at once */
        for (int i = 0, n = 2 + (int)upto(w, 12); i < n; i++)
            trouble(w, (a + i * 7) % AGENTS, LINK, soon + upto(w, 3 * MINUTE));
        break;
    case 3:
        s = AGENTS + (int)upto(w, SOURCES);
        set(w, soon, s, DATA, D, 3, 3, "", false);
        set(w, soon + lasts(w, 2 * HOUR), s, DATA, 0, 0, 0, "", false);
        break;
    case 4:
        s = AGENTS + SOURCES + (int)upto(w, DECLARED);
        set(w, soon, s, MANUAL, chance(w, 50) ? F : D, 3 + (int)upto(w, 4), 3, "", false);
        break;
    case 5:
    case 6:
    case 7:
        trouble(w, a, AUTOMATION, soon);
        break;
    case 8:
    case 9:
    case 10:
        trouble(w, a, RESOURCES, soon);
        break;
    default:
        trouble(w, a, LINK, soon);
    }
    /* One thing leads to another. */
    if (chance(w, 10))
        trouble(w, a, RESOURCES, soon + upto(w, 5 * MINUTE));
}

/* A line of the world: it changes, and the service hears of it unless it is away. */
static void happen(struct world *w, struct line *l)
{
    struct state *is = &w->states[l->subject][l->dim];
    bool kept = l->dim == DATA || l->dim == MANUAL;
    if (w->down && kept) { /* only the service itself says these */
        l->t += HOUR;
        l->at = l->t;
        push(w, *l);
        return;
    }
    if (l->what == RAISE) {
        if (is->on) { /* the same, or changed; what causes it stays */
            memcpy(l->cause, is->cause, sizeof l->cause);
            if (kept)
                l->at = is->at;
        } else {
            is->at = l->at;
        }
        is->on = true;
        is->at = l->at < is->at ? l->at : is->at;
        is->condition = l->condition;
        is->failure = l->failure;
        is->severity = l->severity;
        is->drill = l->drill;
        memcpy(is->cause, l->cause, sizeof is->cause);
        if (l->dim != MANUAL && chance(w, 15)) { /* said again later, at times as older */
            struct line again = *l;
            again.t = l->t + upto(w, 10 * MINUTE);
            again.at = chance(w, 30) && !kept ? l->at - upto(w, MINUTE) : l->at;
            again.order = 1;
            again.what = RAISE;
            again.incident = -2; /* only if it still is so */
            push(w, again);
        }
    } else {
        is->on = false;
    }
    if (w->down)
        return;
    feed(w, l);
    if (l->dim == MANUAL && l->what == RAISE) {
        const struct incident *x = board_of(w->board, SIGNAL_MANUAL, w->names[l->subject]);
        if (x)
            later(w, chance(w, 80) ? ADVANCE : CLOSE, number_of(w, x->id), 5 * MINUTE + upto(w, 3 * HOUR));
    }
}

static void repeat(struct world *w, struct line *l)
{
    struct state *is = &w->states[l->subject][l->dim];
    if (w->down || !is->on || is->condition != l->condition || l->at > is->at)
        return;
    is->at = l->at;
    l->incident = -1;
    l->failure = is->failure;
    l->severity = is->severity;
    l->drill = is->drill;
    memcpy(l->cause, is->cause, sizeof l->cause);
    feed(w, l);
}

static void answer(struct world *w, struct line *l)
{
    if (w->down) { /* it comes when somebody is there */
        l->t += MINUTE;
        push(w, *l);
        return;
    }
    const struct incident *x = board_find(w->board, w->seen[l->incident].id);
    if (!x)
        return; /* forgotten meanwhile */
    if (l->what == CLOSE || l->what == ADVANCE)
        for (int s = 0; s < SUBJECTS; s++) { /* what was declared is over with it */
            if (board_of(w->board, SIGNAL_MANUAL, w->names[s]) == x)
                w->states[s][MANUAL].on = false;
        }
    feed(w, l);
    if (l->what == ADVANCE && x->phase < INCIDENT_PHASE(VALIDATE))
        later(w, ADVANCE, l->incident, 20 * MINUTE); /* refused: something else is still open */
}

/* ---- the story ---- */

static int64_t limit_for(int subject, int clock)
{
    static const enum set_objective of[CLOCKS] = {SET_MAD_FULL,     SET_MAD_DEGRADED, SET_MAD_LLM_FALLBACK,
                                                  SET_RTO_CRITICAL, SET_RTO_FULL,     SET_RTO_DATA};
    static const int64_t own[CLOCKS] = {3 * HOUR, 0, 20 * MINUTE, 5 * MINUTE, HOUR, 0}; /* of agent-0* */
    bool has = subject >= 0 && strncmp(the->names[subject], "agent-0", 7) == 0 && own[clock] > 0;
    return has ? own[clock] : the->set.objectives.ms[of[clock]];
}

static const char *name_of(int subject)
{
    return the->names[subject];
}

static char *own_glob[] = {(char *)(uintptr_t) "agent-0*"};
static struct set_own_objectives own_row = {
    .agents = {own_glob, 1},
    .ms = {[SET_MAD_FULL] = 3 * HOUR,
           [SET_MAD_LLM_FALLBACK] = 20 * MINUTE,
           [SET_RTO_CRITICAL] = 5 * MINUTE,
           [SET_RTO_FULL] = HOUR},
};

static void begin(struct world *w, uint64_t seed)
{
    w->rng = seed * UINT64_C(0x9E3779B97F4A7C15) + 1;
    for (int i = 0; i < 8; i++)
        next(w);
    w->now = BEGIN;
    w->set = (struct set_continuity){
        .objectives = {.ms = {4 * HOUR, 24 * HOUR, HOUR, 15 * MINUTE, 2 * HOUR, 4 * HOUR, HOUR, 5 * MINUTE,
                              15 * MINUTE}},
        .own = {&own_row, 1},
        .phases = {.respond_ms = 5 * MINUTE,
                   .assess_ms = 15 * MINUTE,
                   .settle_ms = 30000,
                   .validate_ms = MINUTE,
                   .learn_ms = 7 * DAY,
                   .join_ms = MINUTE,
                   .join_tokens = 2,
                   .closes_itself = 2},
    };
    for (int i = 0; i < AGENTS; i++) {
        snprintf(w->names[i], sizeof w->names[i], "agent-%03d", i);
        w->provider[i] = (int)upto(w, 3);
        w->backend[i] = (int)upto(w, 6);
        availability_begin(&w->spent[i], 0, BEGIN);
    }
    for (int i = 0; i < SOURCES; i++)
        snprintf(w->names[AGENTS + i], sizeof w->names[0], "store-%d", i);
    for (int i = 0; i < DECLARED; i++)
        snprintf(w->names[AGENTS + SOURCES + i], sizeof w->names[0], i % 2 ? "agent.agent-%03d" : "site.%d", i * 37);
    for (int i = 0; i < 6; i++)
        snprintf(w->names[target(i)], sizeof w->names[0], "llm.p%d.model-%d", i / 2, i % 2);
    for (int i = 0; i < 6; i++)
        snprintf(w->names[target(6 + i)], sizeof w->names[0], "backend.b%d", i);
    the = w;
    open_board(w);
    board_synced(w->board, w->now);
}

/* To the next line, with each moment that the board has asked for on the way. */
static void run_to(struct world *w, int64_t t)
{
    while (!w->down) {
        int64_t due = board_tick(w->board, w->now);
        if (w->mutation == TICK_LATE && due < INT64_MAX - 1 && chance(w, 5)) {
            due++;
            w->mutated++;
        }
        /* A hook may have put something nearer. */
        if (w->n_heap > 0 && w->heap[0].l.t < t)
            return;
        if (due > t)
            break;
        w->now = due;
    }
    w->now = t;
    if (!w->down)
        board_tick(w->board, w->now);
}

static void story(struct world *w, int64_t length, int64_t every, int64_t restarts)
{
    int64_t end = BEGIN + length, failure = BEGIN + upto(w, every), restart = BEGIN + restarts, settle = BEGIN + DAY;
    for (;;) {
        int64_t t = w->n_heap > 0 ? w->heap[0].l.t : INT64_MAX;
        int64_t other = failure < restart ? failure : restart;
        other = other < settle ? other : settle;
        other = other < end ? other : end;
        if (other < t)
            t = other;
        run_to(w, t);
        if (w->now < t)
            continue; /* something has come up before */
        if (w->n_heap > 0 && w->heap[0].l.t <= t) {
            struct line l = pop(w);
            if (l.what == UP)
                come_back(w, &l);
            else if (l.what == RAISE && l.incident == -2)
                repeat(w, &l);
            else if (l.what == RAISE || l.what == CLEAR)
                happen(w, &l);
            else
                answer(w, &l);
        } else if (t == end) {
            if (!w->down)
                break;
            end += MINUTE;
        } else if (t == failure) {
            fail_somehow(w);
            failure += 1 + upto(w, 2 * every);
        } else if (t == restart) {
            struct line l = {.t = t, .what = DOWN, .incident = -1, .subject = -1};
            if (!w->down)
                go_down(w, &l);
            restart += 1 + upto(w, 2 * restarts);
        } else {
            settle += DAY / 2 + upto(w, DAY);
            if (w->down)
                continue;
            struct line l = {.t = t, .what = SETTLE, .incident = -1, .subject = -1};
            put_log(w, &l);
            for (int a = 0; a < AGENTS; a++)
                availability_settle(&w->spent[a], t);
            forget(w);
        }
        if (!w->down && board_open(w->board) > w->most)
            w->most = board_open(w->board);
    }
    struct line l = {.t = w->now, .what = END, .incident = -1, .subject = -1};
    put_log(w, &l);
    for (int a = 0; a < AGENTS; a++)
        availability_settle(&w->spent[a], w->now);
    for (const struct incident *x = board_next(w->board, NULL, false); x; x = board_next(w->board, x, false))
        keep(w, x);
}

/* ---- comparison: NULL, or what differs ---- */

static char why[512];
#define DIFFER(...) return snprintf(why, sizeof why, __VA_ARGS__), why

static const char *same_incident(const struct world *w, const struct ref_incident *r, const struct incident *x, int i)
{
    static const enum set_objective of[CLOCKS] = {SET_MAD_FULL,     SET_MAD_DEGRADED, SET_MAD_LLM_FALLBACK,
                                                  SET_RTO_CRITICAL, SET_RTO_FULL,     SET_RTO_DATA};
    static const char *const names[CLOCKS] = {"mad_full",     "mad_degraded", "mad_llm_fallback",
                                              "rto_critical", "rto_full",     "rto_data"};
    if (strcmp(x->key, r->several ? "agents" : r->key) != 0)
        DIFFER("incident %d (%s): key %s, reference %s", i, x->id, x->key, r->several ? "agents" : r->key);
    if (x->evidence_ms != r->evidence || x->validated_ms != r->validated || x->closed_ms != r->closed)
        DIFFER("incident %d (%s %s): evidence %lld, validated %lld, closed %lld; reference %lld, %lld, %lld", i,
               x->id, x->key, (long long)x->evidence_ms, (long long)x->validated_ms, (long long)x->closed_ms,
               (long long)r->evidence, (long long)r->validated, (long long)r->closed);
    int severity = r->severity;
    for (int c = 0; c < CLOCKS; c++) /* who has breached is critical */
        if (r->told_at[c][3] >= 0 && r->told_at[c][3] <= w->now)
            severity = 4;
    if (x->phase != r->phase || x->severity != severity || x->drill != r->drill ||
        (int)x->agents_total != r->n_agents)
        DIFFER("incident %d (%s %s): phase %d, severity %d, drill %d, agents %u; reference %d, %d, %d, %d", i, x->id,
               x->key, x->phase, x->severity, x->drill, x->agents_total, r->phase, severity, r->drill, r->n_agents);
    int common = r->n_phases > 27 ? 5 : r->n_phases; /* of many only the last are kept for sure */
    if (common == r->n_phases && x->n_phases != r->n_phases)
        DIFFER("incident %d (%s %s): %d phases, reference %d", i, x->id, x->key, x->n_phases, r->n_phases);
    for (int k = 1; k <= common; k++) {
        const struct incident_phase *p = &x->phases[x->n_phases - k];
        const struct ref_phase *q = &r->phases[r->n_phases - k];
        if (p->phase != q->phase || p->entered_ms != q->in || p->left_ms != q->out || p->overdue != q->overdue)
            DIFFER("incident %d (%s %s): phase %d from %lld to %lld overdue %d; reference %d, %lld, %lld, %d", i,
                   x->id, x->key, p->phase, (long long)p->entered_ms, (long long)p->left_ms, p->overdue, q->phase,
                   (long long)q->in, (long long)q->out, q->overdue);
    }
    for (int c = 0; c < CLOCKS; c++) {
        const struct incident_clock *k = &x->clocks[of[c]];
        const struct ref_piece *p = r->n_pieces[c] > 0 ? &r->pieces[c][r->n_pieces[c] - 1] : NULL;
        if (k->started != (p != NULL) ||
            (p && (k->started_ms != p->start || k->limit_ms != p->limit || k->stopped_ms != r->validated)))
            DIFFER("incident %d (%s %s): %s started %lld, stopped %lld, limit %lld; reference %lld, %lld, %lld", i,
                   x->id, x->key, names[c], (long long)k->started_ms, (long long)k->stopped_ms,
                   (long long)k->limit_ms, (long long)(p ? p->start : 0), (long long)(p ? r->validated : 0),
                   (long long)(p ? p->limit : 0));
        for (int s = 0; s < 4; s++) {
            int64_t told = w->seen[i].told_at[of[c]][s], expected = r->told_at[c][s];
            if (expected > w->now)
                expected = -1; /* after the end of the story */
            if (told != (expected < 0 ? 0 : expected))
                DIFFER("incident %d (%s %s): %s share %d told at %lld, reference %lld", i, x->id, x->key, names[c], s,
                       (long long)told, (long long)expected);
        }
    }
    return NULL;
}

static const char *same_time(const struct world *w, const struct ref *r)
{
    for (int a = 0; a < AGENTS; a++)
        for (int m = 0; m < 13; m++) {
            int year = 2026 + m / 12, month = m % 12 + 1;
            const struct availability_month *is = availability_of(&w->spent[a], (uint32_t)(year * 100 + month));
            int64_t known = ref_spent(r, a, -1, year, month, BEGIN), full = ref_spent(r, a, F, year, month, BEGIN),
                    degraded = ref_spent(r, a, D, year, month, BEGIN), llm = ref_spent(r, a, L, year, month, BEGIN);
            if (known != (is ? is->known_ms : 0) || full != (is ? is->full_ms : 0) ||
                degraded != (is ? is->degraded_ms : 0) || llm != (is ? is->llm_ms : 0))
                DIFFER("agent %d in %d-%02d: known %lld, full %lld, degraded %lld, llm %lld; reference %lld, %lld, "
                       "%lld, %lld",
                       a, year, month, (long long)(is ? is->known_ms : 0), (long long)(is ? is->full_ms : 0),
                       (long long)(is ? is->degraded_ms : 0), (long long)(is ? is->llm_ms : 0), (long long)known,
                       (long long)full, (long long)degraded, (long long)llm);
        }
    return NULL;
}

static const char *compare(const struct world *w, const struct ref *r)
{
    for (int i = 0; i < r->n && i < w->n_seen; i++) {
        const char *differs = same_incident(w, r->incidents[i], w->seen[i].final, i);
        if (differs)
            return differs;
    }
    if (w->n_seen != r->n || r->lost)
        DIFFER("%d incidents, reference %d", w->n_seen, r->n);
    return same_time(w, r);
}

struct figures {
    int incidents, relapsed, breached, told;
    size_t lines, most, restarts;
    int mutated;
};

/* Plays one story: NULL, or what is not as the reference has it. */
static const char *play(uint64_t seed, enum mutation mutation, int64_t length, int64_t every, int64_t restarts,
                        struct figures *f)
{
    struct world *w = calloc(1, sizeof *w);
    assert_non_null(w);
    w->mutation = mutation;
    begin(w, seed);
    story(w, length, every, restarts);
    const struct terms terms = {5 * MINUTE, 15 * MINUTE, 30000, MINUTE, 7 * DAY, MINUTE, 2, limit_for, name_of};
    struct ref *r = ref_of(&terms, w->log, w->n_log);
    const char *differs = compare(w, r);
    *f = (struct figures){
        .incidents = r->n, .lines = w->n_log, .most = w->most, .restarts = w->restarts, .mutated = w->mutated};
    for (int i = 0; i < r->n; i++) {
        f->relapsed += r->incidents[i]->n_phases > 6;
        for (int c = 0; c < CLOCKS; c++)
            for (int s = 0; s < 4; s++) {
                f->told += r->incidents[i]->told_at[c][s] >= 0;
                f->breached += s == 3 && r->incidents[i]->told_at[c][s] >= 0;
            }
    }
    ref_free(r);
    for (int i = 0; i < w->n_seen; i++) {
        struct incident *x = w->seen[i].final;
        free((void *)(uintptr_t)x->key);
        free(x->phases);
        free(x);
    }
    board_free(w->board);
    free(w->seen);
    free(w->log);
    free(w->heap);
    free(w);
    return differs;
}

#if defined __SANITIZE_ADDRESS__ || defined __SANITIZE_THREAD__
#define SHORT true
#else
#define SHORT false
#endif

static void a_year_is_as_the_reference_has_it(void **state)
{
    (void)state;
    struct figures f;
    uint64_t seed = getenv("SEED") ? strtoull(getenv("SEED"), NULL, 10) : 7;
    bool brief = SHORT || getenv("VALGRIND");
    const char *differs = play(seed, SOUND, brief ? 20 * DAY : 366 * DAY, 5 * HOUR, 3 * DAY, &f);
    if (differs)
        fail_msg("seed %llu: %s", (unsigned long long)seed, differs);
    print_message("a year, seed %llu: %d incidents (%d relapsed, %zu open at once), %d shares told, %d breaches, %zu "
                  "lines, %zu restarts\n",
                  (unsigned long long)seed, f.incidents, f.relapsed, f.most, f.told, f.breached, f.lines, f.restarts);
    assert_true(f.incidents > (brief ? 20 : 1000) && f.restarts > 2 && f.breached > 0);
}

static void busy_weeks_are_as_the_reference_has_them(void **state)
{
    (void)state;
    struct figures f;
    uint64_t one = getenv("SEED") ? strtoull(getenv("SEED"), NULL, 10) : 0;
    uint64_t n = getenv("SEEDS") ? strtoull(getenv("SEEDS"), NULL, 10) : SHORT || getenv("VALGRIND") ? 1 : 3;
    for (uint64_t seed = one ? one : 1; seed <= (one ? one : n); seed++) {
        const char *differs = play(seed, SOUND, 7 * DAY, 10 * MINUTE, 3 * HOUR, &f);
        if (differs)
            fail_msg("seed %llu: %s", (unsigned long long)seed, differs);
        print_message("a busy week, seed %llu: %d incidents (%d relapsed, %zu open at once), %d shares told, %zu "
                      "lines, %zu restarts\n",
                      (unsigned long long)seed, f.incidents, f.relapsed, f.most, f.told, f.lines, f.restarts);
    }
}

static void what_is_broken_is_found(void **state)
{
    (void)state;
    struct figures f;
    if (getenv("VALGRIND"))
        return;
    for (enum mutation m = SOUND + 1; m < MUTATIONS; m++) {
        const char *differs = NULL;
        int done = 0;
        for (uint64_t seed = 1; !differs && seed <= 20; seed++) {
            differs = play(seed, m, 3 * DAY, 20 * MINUTE, 3 * HOUR, &f);
            done += f.mutated;
        }
        if (!differs)
            fail_msg("mutation %d was done %d times and not found", m, done);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_year_is_as_the_reference_has_it),
        cmocka_unit_test(busy_weeks_are_as_the_reference_has_them),
        cmocka_unit_test(what_is_broken_is_found),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
