/* test_continuity_board.c - the board: which signals belong together, what a restart and another leader change, and what ten thousand incidents cost. */
#include "continuity/board.h"
#include <malloc.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define P(x)    INCIDENT_PHASE(x)
#define T0      INT64_C(1767225600000)
#define MINUTE  INT64_C(60000)
#define HOUR    (60 * MINUTE)
#define DAY     (24 * HOUR)
#define WARNING 2
#define DOWN    REDOUBT__V1__FAILURE_KIND__FAILURE_KIND_AGENT_DOWN
#define NETWORK REDOUBT__V1__FAILURE_KIND__FAILURE_KIND_NETWORK

static struct set_continuity settings(void)
{
    return (struct set_continuity){.objectives = {.ms = {4 * HOUR, 24 * HOUR, HOUR, 15 * MINUTE, 2 * HOUR, 4 * HOUR,
                                                         HOUR, 5 * MINUTE, 15 * MINUTE}},
                                   .phases = {.respond_ms = 5 * MINUTE,
                                              .assess_ms = 15 * MINUTE,
                                              .settle_ms = 30000,
                                              .validate_ms = MINUTE,
                                              .learn_ms = 7 * DAY,
                                              .join_ms = MINUTE,
                                              .join_tokens = 2,
                                              .closes_itself = WARNING}};
}

struct kit {
    struct set_continuity set;
    struct board *b;
    int of[INCIDENT_WAKE + 1]; /* effects by kind */
    char opened[INCIDENT_ID];  /* the last one */
    unsigned is;               /* the last condition that was said */
    int64_t is_at;
    bool answers; /* checks pass at once, from inside of the hook */
    int64_t now;
};

static void on_effect(void *ctx, struct incident *x, const struct incident_effect *e)
{
    struct kit *k = ctx;
    k->of[e->kind]++;
    if (e->kind == INCIDENT_RECORD && strcmp(e->text, "incident.opened") == 0)
        snprintf(k->opened, sizeof k->opened, "%s", x->id);
    struct incident_event ev = {
        .kind = e->kind == INCIDENT_CHECK ? INCIDENT_PASSED : INCIDENT_REPORTED, .by = "it", .text = "r"};
    if (k->answers && (e->kind == INCIDENT_CHECK || e->kind == INCIDENT_REPORT))
        assert_true(board_event(k->b, x->id, &ev, k->now, NULL));
}

static void on_condition(void *ctx, const char *agent, unsigned was, unsigned is, bool drill, int64_t at_ms)
{
    struct kit *k = ctx;
    (void)agent, (void)was, (void)drill;
    k->is = is;
    k->is_at = at_ms;
}

static void begin(struct kit *k, bool synced)
{
    *k = (struct kit){.set = settings(), .now = T0};
    const struct board_hooks hooks = {on_effect, on_condition, k};
    k->b = board_new(&k->set, &hooks);
    assert_non_null(k->b);
    if (synced)
        board_synced(k->b, T0);
}

static struct incident *put(struct kit *k, enum signal_dimension d, const char *subject, const char *cause,
                            unsigned condition, int failure, int64_t at_ms)
{
    struct signal s = {.dimension = d,
                       .subject = subject,
                       .cause = cause,
                       .failure = (uint8_t)failure,
                       .severity = WARNING,
                       .condition = (uint8_t)condition,
                       .at_ms = at_ms,
                       .summary = "it fails"};
    if (at_ms > k->now)
        k->now = at_ms;
    assert_true(board_signal(k->b, &s, k->now));
    return board_of(k->b, d, subject);
}

static struct incident *llm(struct kit *k, const char *agent, const char *cause, int64_t at_ms)
{
    return put(k, SIGNAL_LLM, agent, cause, CONDITION_LLM, 1, at_ms);
}

static bool act(struct kit *k, struct incident *x, enum incident_event_kind kind, int phase)
{
    struct incident_event ev = {
        .kind = kind, .phase = (uint8_t)phase, .by = "anna", .text = "because", .note_kind = 1};
    struct incident *ret = NULL;
    return board_event(k->b, x->id, &ev, k->now, &ret) && ret == x;
}

static void tick(struct kit *k, int64_t now_ms)
{
    k->now = now_ms;
    int64_t next = board_tick(k->b, now_ms);
    assert_true(next > now_ms);
}

static void one_outage_is_one_incident(void **state)
{
    (void)state;
    struct kit k;
    char name[32];
    begin(&k, true);
    struct incident *x = put(&k, SIGNAL_TARGET, "llm.openai.gpt-4o", "", CONDITION_LLM, 1, T0);
    assert_string_equal(x->key, "llm.openai");
    for (int i = 0; i < 500; i++) {
        snprintf(name, sizeof name, "agent-%d", i);
        assert_ptr_equal(llm(&k, name, i % 2 ? "llm.openai.gpt-4o" : "llm.openai.o1", T0 + i), x);
    }
    assert_true(board_open(k.b) == 1 && x->agents_total == 500 && x->open_signals == 501);
    assert_ptr_not_equal(llm(&k, "other", "llm.anthropic.opus", T0), x);
    assert_ptr_not_equal(put(&k, SIGNAL_BACKEND, "agent-1", "backend.main", CONDITION_DEGRADED, 2, T0), x);
    assert_int_equal(board_open(k.b), 3);
    assert_int_equal(board_condition(k.b, "agent-1"), CONDITION_LLM | CONDITION_DEGRADED);
    assert_int_equal(k.is, CONDITION_LLM | CONDITION_DEGRADED);
    const char *names[3];
    assert_int_equal(board_agents(k.b, x, names, 3), 3);
    assert_string_equal(names[2], "agent-2");

    /* What is known changes nothing. */
    uint64_t epoch = x->epoch;
    assert_ptr_equal(llm(&k, "agent-7", "llm.openai.o1", T0 + 100), x);
    assert_int_equal(x->epoch, epoch);
    /* ... but what says more; and stays with the one that has it, whatever the cause. */
    assert_ptr_equal(
        put(&k, SIGNAL_LLM, "agent-7", "llm.anthropic.opus", CONDITION_LLM | CONDITION_DEGRADED, 1, T0 + 200), x);
    assert_true(x->epoch == epoch + 1 && x->of_condition[1] == 1 && x->open_signals == 501);
    board_free(k.b);
}

static void agents_that_go_together_are_one(void **state)
{
    (void)state;
    struct kit k;
    begin(&k, true);
    struct incident *x = put(&k, SIGNAL_LINK, "a", "", CONDITION_FULL, DOWN, T0);
    assert_string_equal(x->key, "agent.a");
    assert_ptr_equal(put(&k, SIGNAL_LINK, "b", "", CONDITION_FULL, DOWN, T0 + MINUTE), x);
    assert_string_equal(x->key, "agents");
    assert_ptr_not_equal(put(&k, SIGNAL_LINK, "c", "", CONDITION_DEGRADED, NETWORK, T0 + MINUTE),
                         x);                                                                      /* another kind */
    assert_ptr_not_equal(put(&k, SIGNAL_AUTOMATION, "d", "", CONDITION_FULL, 3, T0 + MINUTE), x); /* its own logic */
    assert_ptr_equal(put(&k, SIGNAL_LINK, "e", "", CONDITION_FULL, DOWN, T0 + 2 * MINUTE), x);
    struct incident *y = put(&k, SIGNAL_LINK, "f", "", CONDITION_FULL, DOWN, T0 + 3 * MINUTE + 1); /* too late */
    assert_ptr_not_equal(y, x);
    assert_string_equal(y->key, "agent.f");
    /* All that an agent itself has is one. */
    assert_ptr_equal(put(&k, SIGNAL_RESOURCES, "b", "", CONDITION_DEGRADED, 4, T0 + 4 * MINUTE), x);
    assert_ptr_equal(put(&k, SIGNAL_AUTOMATION, "f", "", CONDITION_FULL, 3, T0 + 5 * MINUTE), y);
    board_free(k.b);
}

static void an_ended_one_takes_nothing_new(void **state)
{
    (void)state;
    struct kit k;
    begin(&k, true);
    k.answers = true;
    struct incident *x = llm(&k, "a", "llm.openai.o1", T0);
    put(&k, SIGNAL_LLM, "a", "", 0, 0, T0 + 1000);
    assert_int_equal(x->phase, P(VALIDATE));
    tick(&k, T0 + 1000 + MINUTE);
    assert_int_equal(x->phase, P(CLOSED)); /* report and all from inside of the hooks */
    assert_true(board_open(k.b) == 0 && board_count(k.b) == 1 && !board_of(k.b, SIGNAL_LLM, "a"));
    struct incident *y = llm(&k, "a", "llm.openai.o1", T0 + 5 * MINUTE);
    assert_ptr_not_equal(y, x);
    assert_ptr_equal(board_find(k.b, x->id), x);
    assert_true(board_next(k.b, NULL, false) == x && board_next(k.b, x, false) == y && !board_next(k.b, y, false));
    assert_true(board_prev(k.b, NULL, false) == y && board_prev(k.b, y, false) == x && !board_prev(k.b, x, false));
    assert_true(board_next(k.b, NULL, true) == y && board_prev(k.b, NULL, true) == y && !board_prev(k.b, y, true));

    /* A person closes it although it lasts: that is said again and again, and nothing new; more of it is. */
    assert_true(act(&k, y, INCIDENT_CLOSE, 0));
    llm(&k, "a", "llm.openai.o1", T0 + 6 * MINUTE);
    assert_int_equal(board_open(k.b), 0);
    struct incident *z =
        put(&k, SIGNAL_LLM, "a", "llm.openai.o1", CONDITION_LLM | CONDITION_DEGRADED, 1, T0 + 7 * MINUTE);
    assert_true(z && z != y && z->evidence_ms == T0 + 7 * MINUTE && y->open_signals == 0);
    /* Forgotten, the rest is as it was. */
    board_prune(k.b, T0 + DAY, NULL, NULL);
    assert_true(board_count(k.b) == 1 && board_next(k.b, NULL, false) == z);
    assert_int_equal(board_condition(k.b, "a"), CONDITION_LLM | CONDITION_DEGRADED);
    board_free(k.b);
}

static void what_a_person_declares_ends_by_a_person(void **state)
{
    (void)state;
    struct kit k;
    begin(&k, true);
    struct incident *x = put(&k, SIGNAL_MANUAL, "agent.mcp", "", CONDITION_FULL, 3, T0);
    const char *name;
    assert_true(board_agents(k.b, x, &name, 1) == 1 && strcmp(name, "mcp") == 0);
    assert_ptr_equal(put(&k, SIGNAL_LINK, "mcp", "", CONDITION_FULL, DOWN, T0 + 1000), x);
    act(&k, x, INCIDENT_TOLD, 0);
    tick(&k, T0 + MINUTE);
    assert_int_equal(x->phase, P(RECOVER));
    act(&k, x, INCIDENT_ADVANCE, P(VALIDATE)); /* the link is still open */
    assert_true(x->phase == P(RECOVER) && x->open_signals == 2);
    put(&k, SIGNAL_LINK, "mcp", "", 0, 0, T0 + MINUTE);
    assert_int_equal(x->phase, P(RECOVER));
    act(&k, x, INCIDENT_ADVANCE, 0);
    assert_true(x->phase == P(VALIDATE) && x->open_signals == 0 && !board_of(k.b, SIGNAL_MANUAL, "agent.mcp"));
    assert_string_equal(x->phases[x->n_phases - 2].left_by, "anna");
    assert_false(act(&k, &(struct incident){.id = "nobody"}, INCIDENT_CLOSE, 0));
    board_free(k.b);
}

/* ---- documents ---- */

static PB(IncidentChanged) * copy(struct kit *k, const struct incident *x, uint64_t fence)
{
    PB(IncidentChanged) *doc = board_pack(k->b, x, k->now, fence);
    struct err e = {0};
    size_t n = 0;
    assert_non_null(doc);
    void *bytes = wire_pack(doc, &n, &e);
    if (!bytes)
        fail_msg("%s", e.text);
    board_pack_done(doc);
    PB(IncidentChanged) *ret = wire_unpack(PB_DESC(incident_changed), bytes, n, &e);
    if (!ret)
        fail_msg("%s", e.text);
    free(bytes);
    return ret;
}

static void move(struct kit *from, struct kit *to, uint64_t fence)
{
    for (const struct incident *x = board_next(from->b, NULL, false); x; x = board_next(from->b, x, false)) {
        PB(IncidentChanged) *doc = copy(from, x, fence);
        assert_true(board_restore(to->b, doc, from->now));
        wire_free(doc);
    }
    to->now = from->now;
}

static void a_restart_resets_nothing(void **state)
{
    (void)state;
    struct kit a, b;
    begin(&a, true);
    struct incident *x = llm(&a, "mcp", "llm.openai.o1", T0);
    put(&a, SIGNAL_DATA, "store", "", CONDITION_DEGRADED, 3, T0 + 10);
    put(&a, SIGNAL_MANUAL, "site", "", CONDITION_FULL, 3, T0 + 20);
    act(&a, x, INCIDENT_NOTE_ADD, 0);
    act(&a, x, INCIDENT_ASSIGN, 0);
    tick(&a, T0 + 70 * MINUTE);
    assert_int_equal(x->clocks[SET_MAD_LLM_FALLBACK].told, 15);

    begin(&b, false);
    move(&a, &b, 3);
    b.now += 5 * MINUTE;
    assert_int_equal(board_tick(b.b, b.now), INT64_MAX); /* not all is in */
    /* Said again as of now: the clock has the older beginning. */
    struct incident *y = llm(&b, "mcp", "llm.openai.o1", b.now);
    assert_string_equal(y->id, x->id);
    board_synced(b.b, b.now);
    assert_true(y->clocks[SET_MAD_LLM_FALLBACK].started_ms == T0 && y->clocks[SET_MAD_LLM_FALLBACK].told == 15);
    assert_true(y->phase == P(RECOVER) && y->open_signals == 1 && y->n_notes == 1 && y->n_phases == x->n_phases);
    assert_string_equal(y->owner, "because");
    assert_string_equal(board_agent_name(b.b, y->clocks[SET_RTO_FULL].agent), "mcp");
    assert_int_equal(b.of[INCIDENT_CLOCK_TOLD], 0);
    assert_true(b.is == CONDITION_LLM && b.is_at == b.now);
    /* Nobody repeats these: the documents have them. */
    struct incident *data = board_of(b.b, SIGNAL_DATA, "store"), *site = board_of(b.b, SIGNAL_MANUAL, "site");
    assert_true(data && data->data_affected && data->open_signals == 1 &&
                data->clocks[SET_RTO_DATA].started_ms == T0 + 10);
    assert_true(site && site->open_signals == 1 && site->of_condition[0] == 1);
    put(&b, SIGNAL_DATA, "store", "", 0, 0, b.now);
    assert_int_equal(data->phase, P(VALIDATE));
    board_free(a.b);
    board_free(b.b);
}

static void what_is_not_said_again_has_cleared(void **state)
{
    (void)state;
    struct kit a, b;
    begin(&a, true);
    llm(&a, "x", "llm.openai.o1", T0);
    llm(&a, "y", "llm.openai.o1", T0);
    struct incident *x = llm(&a, "z", "llm.anthropic.opus", T0);
    begin(&b, false);
    move(&a, &b, 1);
    struct incident *openai = llm(&b, "y", "llm.openai.o1", T0);
    struct incident *other = board_find(b.b, x->id);
    assert_int_equal(openai->phase, P(RESPOND));
    put(&b, SIGNAL_LLM, "y", "", 0, 0, b.now); /* while it is not known yet what else is open */
    assert_int_equal(openai->phase, P(RESPOND));
    llm(&b, "y", "llm.openai.o1", b.now);
    board_synced(b.b, b.now + 1000);
    assert_true(openai->phase == P(RESPOND) && openai->open_signals == 1);
    assert_true(other->phase == P(VALIDATE) && other->recovered_ms == b.now + 1000);
    assert_int_equal(b.of[INCIDENT_ALERT], 1); /* who waits to be told is told again */
    assert_int_equal(b.of[INCIDENT_CHECK], 1);
    board_free(a.b);
    board_free(b.b);
}

static void agents_come_back_to_the_incident_they_were_open_in(void **state)
{
    (void)state;
    struct kit a, b;
    begin(&a, true);
    put(&a, SIGNAL_LINK, "x", "", CONDITION_FULL, DOWN, T0);
    struct incident *x = put(&a, SIGNAL_LINK, "y", "", CONDITION_FULL, DOWN, T0 + 1000);
    put(&a, SIGNAL_LINK, "x", "", 0, 0, T0 + 2000);
    begin(&b, false);
    move(&a, &b, 1);
    struct incident *y = put(&b, SIGNAL_LINK, "y", "", CONDITION_FULL, DOWN, T0 + HOUR); /* as if an hour later */
    assert_string_equal(y->id, x->id);
    assert_ptr_not_equal(put(&b, SIGNAL_RESOURCES, "x", "", CONDITION_DEGRADED, 4, T0 + HOUR),
                         y); /* that had cleared */
    board_free(a.b);
    board_free(b.b);
}

static void what_a_person_has_closed_stays_closed_over_a_restart(void **state)
{
    (void)state;
    struct kit a, b;
    begin(&a, true);
    struct incident *x = llm(&a, "x", "llm.openai.o1", T0);
    a.now = T0 + MINUTE;
    act(&a, x, INCIDENT_CLOSE, 0);
    begin(&b, false);
    move(&a, &b, 1);
    llm(&b, "x", "llm.openai.o1", T0);
    board_synced(b.b, b.now);
    assert_int_equal(board_open(b.b), 0);
    put(&b, SIGNAL_LLM, "x", "", 0, 0, b.now);
    assert_int_equal(board_find(b.b, x->id)->open_signals, 0);
    assert_non_null(llm(&b, "x", "llm.openai.o1", b.now + 1));
    board_free(a.b);
    board_free(b.b);
}

static void another_leaders_word_counts(void **state)
{
    (void)state;
    struct kit a, b;
    begin(&a, true);
    begin(&b, true);
    /* Both see it, by different evidence first: the one that is announced gives the name. */
    struct incident *x = llm(&a, "x", "llm.openai.o1", T0), *y = llm(&b, "y", "llm.openai.o1", T0 - 5000);
    assert_string_not_equal(x->id, y->id);
    llm(&a, "y", "llm.openai.o1", T0 - 5000);
    move(&a, &b, 1);
    assert_string_equal(x->id, y->id);
    assert_true(board_count(b.b) == 1 && board_find(b.b, x->id) == y && y->evidence_ms == T0 - 5000);
    assert_ptr_equal(llm(&b, "x", "llm.openai.o1", T0), y);

    /* The same evidence has the same name anywhere. */
    struct incident *p = put(&a, SIGNAL_LINK, "p", "", CONDITION_FULL, DOWN, T0 + 77),
                    *q = put(&b, SIGNAL_LINK, "p", "", CONDITION_FULL, DOWN, T0 + 77);
    assert_string_equal(p->id, q->id);

    /* Older ones are ignored: by fence, then by epoch. */
    act(&a, x, INCIDENT_ASSIGN, 0);
    PB(IncidentChanged) *older = copy(&a, x, 2);
    act(&a, x, INCIDENT_NOTE_ADD, 0);
    PB(IncidentChanged) *newer = copy(&a, x, 2);
    assert_true(board_restore(b.b, newer, T0) && y->n_notes == 1);
    assert_true(board_restore(b.b, older, T0) && y->n_notes == 1);
    newer->fence = 1;
    newer->epoch += 100;
    assert_true(board_restore(b.b, newer, T0) && y->epoch == newer->epoch - 100);
    wire_free(older);
    wire_free(newer);

    /* It has ended there while here a signal is attached: that is the next one's. */
    board_free(a.b);
    begin(&a, true);
    a.answers = true;
    a.now = T0 + 20 * MINUTE;
    PB(IncidentChanged) *doc = copy(&b, y, 2);
    assert_true(board_restore(a.b, doc, a.now));
    wire_free(doc);
    struct incident *there = board_find(a.b, x->id);
    llm(&a, "x", "llm.openai.o1", T0);
    act(&a, there, INCIDENT_TOLD, 0);
    put(&a, SIGNAL_LLM, "x", "", 0, 0, a.now);
    tick(&a, a.now + 2 * MINUTE);
    assert_int_equal(there->phase, P(CLOSED));
    doc = copy(&a, there, 3);
    assert_true(board_restore(b.b, doc, a.now));
    wire_free(doc);
    assert_true(y->phase == P(CLOSED) && y->open_signals == 0);
    tick(&b, a.now + 1); /* it leads now: those two signals last */
    struct incident *z = board_of(b.b, SIGNAL_LLM, "x");
    assert_true(z && z != y && z == board_of(b.b, SIGNAL_LLM, "y") && z->evidence_ms == T0 - 5000);
    board_free(a.b);
    board_free(b.b);
}

static void a_bad_document_changes_nothing(void **state)
{
    (void)state;
    struct kit a, b;
    begin(&a, true);
    begin(&b, true);
    struct incident *x = llm(&a, "x", "llm.openai.o1", T0);
    act(&a, x, INCIDENT_NOTE_ADD, 0);
    for (int i = 0; i < 15; i++) {
        PB(IncidentChanged) *doc = copy(&a, x, 1);
        switch (i) {
        case 0:
            doc->id[0] = '\0';
            break;
        case 1:
            doc->key[0] = '\0';
            break;
        case 2:
            doc->phase = 0;
            break;
        case 3:
            doc->phase = P(VALIDATE);
            break;
        case 4:
            doc->phase = 99;
            break;
        case 5:
            doc->evidence_unix_ms = 0;
            break;
        case 6:
            doc->clocks[0]->started_unix_ms = -1;
            break;
        case 7:
            doc->clocks[0]->limit_ms = UINT64_MAX;
            break;
        case 8:
            doc->clocks[0]->limit_ms = 0;
            break;
        case 9:
            doc->clocks[0]->stopped_unix_ms = T0 + 5; /* before validation */
            break;
        case 10:
            doc->phases[0]->phase = 77;
            break;
        case 11:
            doc->phases[doc->n_phases - 1]->left_unix_ms = T0;
            break;
        case 12:
            doc->validated_unix_ms = T0;
            break;
        case 13:
            doc->severity = -1;
            break;
        default:
            doc->epoch = 0;
        }
        if (board_restore(b.b, doc, T0))
            fail_msg("document %d was taken", i);
        assert_int_equal(board_count(b.b), 0);
        wire_free(doc);
    }
    /* An objective that only a newer one knows is no harm. */
    PB(IncidentChanged) *doc = copy(&a, x, 1);
    doc->clocks[0]->objective[0] = 'X';
    assert_true(board_restore(b.b, doc, T0));
    wire_free(doc);
    board_free(a.b);
    board_free(b.b);
}

static void a_document_is_never_too_large(void **state)
{
    (void)state;
    struct kit k;
    char name[65], text[600];
    begin(&k, true);
    struct incident *x = NULL;
    for (int i = 0; i < 1500; i++) {
        snprintf(name, sizeof name, "%0*d", i % 3 ? 64 : 20, i);
        x = llm(&k, name, "llm.openai.o1", T0);
    }
    memset(text, 'x', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    memcpy(text + 510, "\xc3\xa9", 2); /* cut in the middle of it */
    for (int i = 0; i < 60; i++) {
        struct incident_event ev = {.kind = INCIDENT_NOTE_ADD, .by = text + 300, .text = text, .note_kind = 3};
        assert_true(board_event(k.b, x->id, &ev, T0, NULL));
    }
    PB(IncidentChanged) *doc = copy(&k, x, 1); /* packs and checks it */
    assert_true(doc->agents_total == 1500 && doc->n_agents > 100 && doc->n_agents <= 1000 &&
                doc->n_notes == INCIDENT_NOTES);
    assert_true(strlen(doc->notes[0]->text) == 512 && doc->agents_open == doc->n_agents);
    struct kit b;
    begin(&b, true);
    assert_true(board_restore(b.b, doc, T0));
    assert_int_equal(board_find(b.b, x->id)->agents_total, 1500);
    wire_free(doc);
    board_free(b.b);
    board_free(k.b);
}

static void new_settings_hold_for_what_runs(void **state)
{
    (void)state;
    struct kit k;
    begin(&k, true);
    struct incident *x = llm(&k, "mcp", "llm.openai.o1", T0);
    tick(&k, T0 + 50 * MINUTE);
    assert_int_equal(x->clocks[SET_MAD_LLM_FALLBACK].told, 3);
    char *globs[] = {(char *)(uintptr_t) "m*"};
    struct set_own_objectives own = {.agents = {globs, 1},
                                     .ms = {[SET_MAD_LLM_FALLBACK] = 2 * HOUR, [SET_RTO_FULL] = HOUR}};
    struct set_continuity next = k.set;
    next.own = (struct conf_list){&own, 1};
    assert_true(board_reload(k.b, &next));
    assert_true(x->clocks[SET_MAD_LLM_FALLBACK].limit_ms == 2 * HOUR &&
                x->clocks[SET_MAD_LLM_FALLBACK].started_ms == T0);
    int told = k.of[INCIDENT_CLOCK_TOLD];
    tick(&k, T0 + 50 * MINUTE); /* 50 of 60 minutes of rto_full: 75 % */
    assert_int_equal(k.of[INCIDENT_CLOCK_TOLD], told + 1);
    tick(&k, T0 + 100 * MINUTE); /* 75 % was told before: not again */
    assert_int_equal(x->clocks[SET_MAD_LLM_FALLBACK].told, 3);
    tick(&k, T0 + 108 * MINUTE);
    assert_int_equal(x->clocks[SET_MAD_LLM_FALLBACK].told, 7);
    board_free(k.b);
}

/* ---- what it costs ---- */

static size_t in_use(void)
{
    return mallinfo2().uordblks + mallinfo2().hblkhd;
}

static void ten_thousand_incidents_are_small_and_a_million_past_ones_leave_nothing(void **state)
{
    (void)state;
#if defined __SANITIZE_ADDRESS__ || defined __SANITIZE_THREAD__
    const int open = 500, past = 5000;
#else
    const int open = getenv("VALGRIND") ? 100 : 10000,
              past = getenv("VALGRIND") ? 500 : 250000; /* four events each */
#endif
    struct kit k;
    char agent[32], target[64];
    size_t before = in_use();
    begin(&k, true);
    for (int i = 0; i < open; i++) {
        snprintf(target, sizeof target, "llm.provider-%d.model", i);
        put(&k, SIGNAL_TARGET, target, "", CONDITION_LLM, 1, T0);
        for (int a = 0; a < 2; a++) {
            snprintf(agent, sizeof agent, "agent-%d", i * 2 + a);
            llm(&k, agent, target, T0 + a);
        }
        struct incident *x = board_of(k.b, SIGNAL_TARGET, target);
        act(&k, x, INCIDENT_TOLD, 0);
    }
    tick(&k, T0 + MINUTE);
    assert_int_equal(board_open(k.b), (size_t)open);
    size_t held = in_use() - before;
    print_message("%d open incidents with %d agents: %.1f MB\n", open, open * 2, (double)held / 1e6);
#if !defined __SANITIZE_ADDRESS__ && !defined __SANITIZE_THREAD__
    assert_true(getenv("VALGRIND") || held < 40000000);
#endif

    k.answers = true;
    size_t after_some = 0;
    for (int i = 0; i < past; i++) {
        int64_t at = T0 + HOUR + i * INT64_C(2000);
        snprintf(agent, sizeof agent, "past-%d", i);
        k.now = at;
        put(&k, SIGNAL_LLM, agent, "llm.past.model", CONDITION_LLM, 1, at);
        struct incident *x = board_of(k.b, SIGNAL_LLM, agent);
        put(&k, SIGNAL_LLM, agent, "", 0, 0, at + 500);
        k.now = at + 600;
        act(&k, x, INCIDENT_CLOSE, 0);
        if (i % 100 == 99)
            board_prune(k.b, at + 1000, NULL, NULL);
        if (i == past / 10)
            after_some = in_use();
    }
    board_prune(k.b, INT64_MAX, NULL, NULL);
    assert_int_equal(board_count(k.b), (size_t)open);
#if !defined __SANITIZE_ADDRESS__ && !defined __SANITIZE_THREAD__
    assert_true(in_use() <= after_some + 200000);
#else
    (void)after_some;
#endif
    board_free(k.b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_outage_is_one_incident),
        cmocka_unit_test(agents_that_go_together_are_one),
        cmocka_unit_test(an_ended_one_takes_nothing_new),
        cmocka_unit_test(what_a_person_declares_ends_by_a_person),
        cmocka_unit_test(a_restart_resets_nothing),
        cmocka_unit_test(what_is_not_said_again_has_cleared),
        cmocka_unit_test(agents_come_back_to_the_incident_they_were_open_in),
        cmocka_unit_test(what_a_person_has_closed_stays_closed_over_a_restart),
        cmocka_unit_test(another_leaders_word_counts),
        cmocka_unit_test(a_bad_document_changes_nothing),
        cmocka_unit_test(a_document_is_never_too_large),
        cmocka_unit_test(new_settings_hold_for_what_runs),
        cmocka_unit_test(ten_thousand_incidents_are_small_and_a_million_past_ones_leave_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
