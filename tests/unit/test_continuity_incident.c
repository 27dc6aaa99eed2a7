/* test_continuity_incident.c - the decider of an incident: every phase with every event, gates, limits, clocks, and what must hold whatever comes. */
#include "continuity/incident.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define P(x)    INCIDENT_PHASE(x)
#define T0      INT64_C(1700000000000)
#define MINUTE  INT64_C(60000)
#define HOUR    (60 * MINUTE)
#define DAY     (24 * HOUR)
#define EVENTS  (INCIDENT_TICK + 1)
#define WARNING 2
#define HIGH    3

static const struct incident_rule rule = {.respond_ms = 5 * MINUTE,
                                          .assess_ms = 15 * MINUTE,
                                          .settle_ms = 30000,
                                          .validate_ms = MINUTE,
                                          .learn_ms = 7 * DAY,
                                          .closes_itself = WARNING,
                                          .functions = {{true, CONDITION_FULL},
                                                        {true, CONDITION_FULL | CONDITION_DEGRADED},
                                                        {false, CONDITION_FULL | CONDITION_DEGRADED | CONDITION_LLM}},
                                          .n_functions = 3};
static const int64_t limits[SET_OBJECTIVES] = {4 * HOUR, 24 * HOUR, HOUR, 15 * MINUTE, 2 * HOUR, 4 * HOUR, 1, 1, 1};

struct kit {
    struct incident x;
    struct incident_phase phases[INCIDENT_PHASES];
    struct incident_note notes[INCIDENT_NOTES];
    struct incident_effect out[INCIDENT_EFFECTS];
    size_t n;
};

static void fresh(struct kit *k)
{
    memset(k, 0, sizeof *k);
    k->x.phases = k->phases;
    k->x.notes = k->notes;
    k->x.key = "llm.openai";
}

static void decide(struct kit *k, struct incident_event ev, int64_t now_ms)
{
    uint64_t epoch = k->x.epoch;
    struct incident_clock clocks[SET_OBJECTIVES];
    memcpy(clocks, k->x.clocks, sizeof clocks);
    if (!ev.limits)
        ev.limits = limits;
    k->n = incident_decide(&k->x, &rule, &ev, now_ms, k->out);
    if (k->x.phase == 0)
        return;
    const char *broken = incident_broken(&k->x);
    if (broken)
        fail_msg("%s", broken);
    bool announced = false;
    for (size_t i = 0; i < k->n; i++)
        announced = announced || k->out[i].kind == INCIDENT_ANNOUNCE;
    assert_int_equal(announced, k->x.epoch == epoch + 1);
    assert_true(announced || k->x.epoch == epoch);
    for (int i = 0; i < SET_OBJECTIVES; i++) { /* never reset, stopped twice or shortened */
        const struct incident_clock *a = &clocks[i], *b = &k->x.clocks[i];
        assert_true(!a->started || (b->started && b->started_ms <= a->started_ms && b->limit_ms <= a->limit_ms));
        assert_true(!a->stopped || (b->stopped && b->stopped_ms == a->stopped_ms));
        assert_int_equal(a->told & ~b->told, 0);
    }
    assert_int_equal(k->out[k->n - 1].kind, INCIDENT_WAKE);
    assert_true(k->out[k->n - 1].at_ms > now_ms);
}

static const struct incident_effect *said(const struct kit *k, enum incident_effect_kind kind)
{
    for (size_t i = 0; i < k->n; i++)
        if (k->out[i].kind == kind)
            return &k->out[i];
    return NULL;
}

static struct incident_event evidence(unsigned condition, int severity, int64_t at_ms)
{
    return (struct incident_event){.kind = INCIDENT_EVIDENCE,
                                   .failure = 1,
                                   .severity = (uint8_t)severity,
                                   .condition = (uint8_t)condition,
                                   .at_ms = at_ms,
                                   .new_agent = true,
                                   .agent = 3,
                                   .summary = "s"};
}

#define EVENT(k) ((struct incident_event){.kind = k, .by = "anna", .text = "because"})
#define CLEARED  ((struct incident_event){.kind = INCIDENT_CLEARED, .condition = CONDITION_LLM})

/* Into a phase, the way it comes about. Returns the time. */
static int64_t in_phase(struct kit *k, int phase)
{
    int64_t t = T0;
    fresh(k);
    decide(k, evidence(CONDITION_LLM, HIGH, T0), t);
    if (phase >= P(ASSESS))
        decide(k, EVENT(INCIDENT_TOLD), t += 1000);
    if (phase >= P(RECOVER))
        decide(k, EVENT(INCIDENT_TICK), t = T0 + 30000);
    if (phase >= P(VALIDATE))
        decide(k, CLEARED, t += 1000);
    if (phase >= P(LEARN)) {
        decide(k, EVENT(INCIDENT_PASSED), t += 1000);
        decide(k, EVENT(INCIDENT_TICK), t += MINUTE);
    }
    if (phase >= P(CLOSED))
        decide(k, EVENT(INCIDENT_CLOSE), t += 1000);
    assert_int_equal(k->x.phase, phase);
    return t;
}

static void every_phase_with_every_event(void **state)
{
    (void)state;
    /* One open LLM signal in RESPOND, ASSESS and RECOVER, none behind; the event comes a millisecond later. */
    static const uint8_t goes[P(CLOSED) + 1][EVENTS] = {
        /* NEW: only evidence opens it */
        [0] = {[INCIDENT_EVIDENCE] = P(RESPOND)},
        [P(RESPOND)] = {P(RESPOND), P(VALIDATE), P(ASSESS), P(RESPOND), P(RESPOND), P(RESPOND), P(RESPOND),
                        P(RESPOND), P(ASSESS), P(CLOSED), P(ASSESS), P(ASSESS), P(RESPOND)},
        [P(ASSESS)] = {P(ASSESS), P(VALIDATE), P(ASSESS), P(ASSESS), P(ASSESS), P(ASSESS), P(ASSESS), P(ASSESS),
                       P(RECOVER), P(CLOSED), P(ASSESS), P(ASSESS), P(ASSESS)},
        /* advance into VALIDATE: not while something is open */
        [P(RECOVER)] = {P(RECOVER), P(VALIDATE), P(RECOVER), P(RECOVER), P(RECOVER), P(RECOVER), P(RECOVER),
                        P(RECOVER), P(RECOVER), P(CLOSED), P(RECOVER), P(RECOVER), P(RECOVER)},
        /* evidence and data: a relapse */
        [P(VALIDATE)] = {P(RECOVER), P(VALIDATE), P(VALIDATE), P(VALIDATE), P(VALIDATE), P(RECOVER), P(VALIDATE),
                         P(VALIDATE), P(LEARN), P(CLOSED), P(VALIDATE), P(VALIDATE), P(VALIDATE)},
        [P(LEARN)] = {P(LEARN), P(LEARN), P(LEARN), P(LEARN), P(LEARN), P(LEARN), P(LEARN), P(LEARN), P(CLOSED),
                      P(CLOSED), P(LEARN), P(LEARN), P(LEARN)},
        [P(CLOSED)] = {P(CLOSED), P(CLOSED), P(CLOSED), P(CLOSED), P(CLOSED), P(CLOSED), P(CLOSED), P(CLOSED),
                       P(CLOSED), P(CLOSED), P(CLOSED), P(CLOSED), P(CLOSED)},
    };
    for (int phase = 0; phase <= P(CLOSED); phase++)
        for (int kind = 0; kind < EVENTS; kind++) {
            struct kit k;
            int64_t t = T0;
            if (phase == 0)
                fresh(&k);
            else
                t = in_phase(&k, phase);
            struct incident_event ev = EVENT((enum incident_event_kind)kind);
            if (kind == INCIDENT_EVIDENCE)
                ev = evidence(CONDITION_LLM, HIGH, t + 1);
            if (kind == INCIDENT_CLEARED)
                ev = CLEARED;
            decide(&k, ev, t + 1);
            if (k.x.phase != goes[phase][kind])
                fail_msg("phase %d, event %d: goes to %d, not %d", phase, kind, k.x.phase, goes[phase][kind]);
            if (phase >= P(LEARN) && kind == INCIDENT_EVIDENCE)
                assert_int_equal(k.x.open_signals, 0); /* the board opens another one */
        }
}

static void an_outage_from_beginning_to_end(void **state)
{
    (void)state;
    struct kit k;
    fresh(&k);
    decide(&k, evidence(CONDITION_LLM, WARNING, T0 - 5000), T0);
    assert_string_equal(said(&k, INCIDENT_RECORD)->text, "incident.opened");
    assert_string_equal(said(&k, INCIDENT_ALERT)->text, "opened");
    assert_true(k.x.evidence_ms == T0 - 5000 && k.x.entered_ms == T0 && k.x.agents_total == 1);
    assert_true(k.x.clocks[SET_MAD_LLM_FALLBACK].started && k.x.clocks[SET_RTO_FULL].started);
    assert_false(k.x.clocks[SET_RTO_CRITICAL].started || k.x.clocks[SET_MAD_FULL].started);
    assert_int_equal(k.x.functions_lost, 4);

    /* Its chain is exhausted: the same signal means more. */
    struct incident_event more = evidence(CONDITION_LLM | CONDITION_DEGRADED, HIGH, T0 + 1000);
    more.known = true;
    more.was = CONDITION_LLM;
    more.new_agent = false;
    decide(&k, more, T0 + 1000);
    assert_string_equal(said(&k, INCIDENT_ALERT)->text, "worse");
    assert_true(k.x.open_signals == 1 && k.x.of_condition[1] == 1 && k.x.of_condition[2] == 1);
    assert_int_equal(k.x.clocks[SET_RTO_CRITICAL].started_ms, T0 + 1000);
    assert_int_equal(k.x.functions_lost, 6);

    decide(&k, EVENT(INCIDENT_TOLD), T0 + 2000);
    assert_int_equal(k.x.phase, P(ASSESS));
    assert_int_equal(said(&k, INCIDENT_WAKE)->at_ms, T0 + 1000 + rule.settle_ms);
    decide(&k, EVENT(INCIDENT_TICK), T0 + 31000);
    assert_int_equal(k.x.phase, P(RECOVER));
    struct incident_event over = {
        .kind = INCIDENT_CLEARED, .condition = CONDITION_LLM | CONDITION_DEGRADED, .at_ms = T0 + 39000};
    decide(&k, over, T0 + 40000);
    assert_int_equal(k.x.phase, P(VALIDATE));
    assert_int_equal(k.x.recovered_ms, T0 + 39000);
    assert_non_null(said(&k, INCIDENT_CHECK));
    assert_int_equal(k.x.functions_lost, 0);

    /* A check that fails, is asked again, and passes. */
    decide(&k, EVENT(INCIDENT_FAILED), T0 + 41000);
    assert_string_equal(k.x.failed, "because");
    decide(&k, EVENT(INCIDENT_TICK), T0 + 50000);
    assert_non_null(said(&k, INCIDENT_CHECK));
    decide(&k, EVENT(INCIDENT_TICK), T0 + 40000 + MINUTE);
    assert_int_equal(k.x.phase, P(VALIDATE));
    decide(&k, EVENT(INCIDENT_PASSED), T0 + 41000 + MINUTE);
    assert_int_equal(k.x.phase, P(LEARN));
    assert_true(k.x.validated_ms == T0 + 41000 + MINUTE && k.x.clocks[SET_RTO_FULL].stopped_ms == k.x.validated_ms);
    assert_non_null(said(&k, INCIDENT_RESOLVED));
    assert_non_null(said(&k, INCIDENT_REPORT));
    const struct incident_effect *shown = said(&k, INCIDENT_DEMONSTRATED);
    assert_true(shown && shown->objective == SET_MAD_DEGRADED && shown->took_ms == 40000 + MINUTE);

    /* Too severe to close by itself. */
    decide(&k, EVENT(INCIDENT_REPORTED), T0 + 2 * MINUTE);
    assert_int_equal(k.x.phase, P(LEARN));
    decide(&k, EVENT(INCIDENT_NOTE_ADD), T0 + 3 * MINUTE); /* a lesson: it is written again */
    assert_non_null(said(&k, INCIDENT_REPORT));
    decide(&k, EVENT(INCIDENT_CLOSE), T0 + 4 * MINUTE);
    assert_true(k.x.phase == P(CLOSED) && k.x.closed_ms == T0 + 4 * MINUTE);
    assert_string_equal(k.x.phases[k.x.n_phases - 2].left_by, "anna");
}

static void what_is_over_before_anybody_looks_closes_itself(void **state)
{
    (void)state;
    struct kit k;
    fresh(&k);
    decide(&k, evidence(CONDITION_LLM, WARNING, T0), T0);
    decide(&k, CLEARED, T0 + 1000);
    assert_int_equal(k.x.phase, P(VALIDATE));
    assert_int_equal(k.x.n_phases, 4);
    assert_string_equal(k.x.phases[0].why, "everything has cleared before anybody was told");
    decide(&k, EVENT(INCIDENT_PASSED), T0 + 2000);
    assert_int_equal(said(&k, INCIDENT_WAKE)->at_ms, T0 + 1000 + rule.validate_ms);
    decide(&k, EVENT(INCIDENT_TICK), T0 + 999 + rule.validate_ms);
    assert_int_equal(k.x.phase, P(VALIDATE));
    decide(&k, EVENT(INCIDENT_TICK), T0 + 1000 + rule.validate_ms);
    assert_int_equal(k.x.phase, P(LEARN));
    decide(&k, EVENT(INCIDENT_TICK), T0 + 1000 + rule.validate_ms + 60000);
    assert_non_null(said(&k, INCIDENT_REPORT)); /* it did not come: asked again */
    decide(&k, EVENT(INCIDENT_REPORTED), T0 + 5 * MINUTE);
    assert_int_equal(k.x.phase, P(CLOSED));
    assert_string_equal(k.x.report, "because");
    decide(&k, EVENT(INCIDENT_TICK), T0 + DAY);
    assert_int_equal(k.n, 1); /* nothing but the wake */
    assert_true(said(&k, INCIDENT_WAKE)->at_ms == INT64_MAX);
}

static void shares_are_told_once_and_to_the_millisecond(void **state)
{
    (void)state;
    static const unsigned percent[] = {50, 75, 90, 100};
    struct kit k;
    fresh(&k);
    int64_t own[SET_OBJECTIVES];
    memcpy(own, limits, sizeof own);
    own[SET_MAD_LLM_FALLBACK] = 999; /* not a round one */
    struct incident_event ev = evidence(CONDITION_LLM, WARNING, T0);
    ev.limits = own;
    decide(&k, ev, T0);
    decide(&k, EVENT(INCIDENT_TOLD), T0);
    int64_t t = T0;
    for (int i = 0; i < 4; i++) {
        t = said(&k, INCIDENT_WAKE)->at_ms;
        assert_int_equal(t, T0 + (999 * percent[i] + 99) / 100);
        decide(&k, EVENT(INCIDENT_TICK), t - 1);
        assert_null(said(&k, INCIDENT_CLOCK_TOLD));
        decide(&k, EVENT(INCIDENT_TICK), t);
        const struct incident_effect *e = said(&k, INCIDENT_CLOCK_TOLD);
        assert_true(e && e->objective == SET_MAD_LLM_FALLBACK && e->share == percent[i] && e->took_ms == t - T0);
        decide(&k, EVENT(INCIDENT_TICK), t);
        assert_null(said(&k, INCIDENT_CLOCK_TOLD));
    }
    assert_int_equal(k.x.severity, 4); /* breached: it does not close by itself */
    /* Away for long: of several only the highest. */
    decide(&k, EVENT(INCIDENT_TICK), T0 + 3 * HOUR);
    const struct incident_effect *e = said(&k, INCIDENT_CLOCK_TOLD);
    assert_true(e && e->objective == SET_RTO_FULL && e->share == 100);
    assert_int_equal(k.x.clocks[SET_RTO_FULL].told, 15);
    assert_int_equal(incident_nearest(&k.x, T0 + 3 * HOUR), SET_MAD_LLM_FALLBACK);
}

static void evidence_that_comes_late_lets_clocks_start_earlier_never_later(void **state)
{
    (void)state;
    struct kit k;
    fresh(&k);
    decide(&k, evidence(CONDITION_LLM, WARNING, T0), T0);
    decide(&k, evidence(CONDITION_LLM, WARNING, T0 - 7000), T0 + 1000);
    assert_true(k.x.clocks[SET_RTO_FULL].started_ms == T0 - 7000 && k.x.evidence_ms == T0 - 7000);
    decide(&k, evidence(CONDITION_LLM, WARNING, T0 + 2000), T0 + 3000);
    assert_int_equal(k.x.clocks[SET_RTO_FULL].started_ms, T0 - 7000);
    decide(&k, evidence(CONDITION_LLM, WARNING, T0 + DAY), T0 + 4000); /* from the future: now */
    assert_int_equal(k.x.last_joined_ms, T0 + 4000);
    /* Known already, and older: only the beginning moves. */
    struct incident_event old = evidence(CONDITION_LLM, WARNING, T0 - 9000);
    old.known = true;
    old.was = CONDITION_LLM;
    decide(&k, old, T0 + 5000);
    assert_true(k.x.clocks[SET_RTO_FULL].started_ms == T0 - 9000 && k.x.last_joined_ms == T0 + 4000 &&
                k.x.open_signals == 4);
    /* A tighter limit holds, a wider one does not. */
    int64_t own[SET_OBJECTIVES];
    memcpy(own, limits, sizeof own);
    own[SET_RTO_FULL] = 10 * MINUTE;
    struct incident_event tight = evidence(CONDITION_LLM, WARNING, T0 + 6000);
    tight.limits = own;
    tight.agent = 9;
    decide(&k, tight, T0 + 6000);
    assert_true(k.x.clocks[SET_RTO_FULL].limit_ms == 10 * MINUTE && k.x.clocks[SET_RTO_FULL].agent == 9);
    decide(&k, evidence(CONDITION_LLM, WARNING, T0 + 7000), T0 + 7000);
    assert_true(k.x.clocks[SET_RTO_FULL].limit_ms == 10 * MINUTE && k.x.clocks[SET_RTO_FULL].agent == 9);
}

static void a_relapse_goes_back_and_clocks_run_on(void **state)
{
    (void)state;
    struct kit k;
    int64_t t = in_phase(&k, P(VALIDATE));
    decide(&k, EVENT(INCIDENT_PASSED), t + 1);
    for (int i = 0; i < 40; i++) {
        t += 1000;
        decide(&k, evidence(CONDITION_LLM, HIGH, t), t);
        assert_true(k.x.phase == P(RECOVER) && k.x.recovered_ms == 0 && k.x.checked == INCIDENT_UNCHECKED);
        decide(&k, CLEARED, t += 1000);
        assert_int_equal(k.x.phase, P(VALIDATE));
        assert_int_equal(k.x.clocks[SET_RTO_FULL].started_ms, T0);
    }
    /* The oldest relapses have given way; the first phases and the last are there. */
    assert_true(k.x.n_phases <= INCIDENT_PHASES);
    assert_int_equal(k.phases[0].phase, P(RESPOND));
    assert_int_equal(k.phases[1].phase, P(ASSESS));
    assert_int_equal(k.phases[2].phase, P(RECOVER));
    assert_int_equal(k.phases[2].entered_ms, T0 + 30000);
    assert_int_equal(k.x.phases[k.x.n_phases - 1].entered_ms, t);
    decide(&k, EVENT(INCIDENT_TICK), t + rule.validate_ms);
    assert_int_equal(k.x.phase, P(VALIDATE)); /* it has to pass anew */
    decide(&k, EVENT(INCIDENT_PASSED), t + rule.validate_ms + 1);
    assert_int_equal(k.x.phase, P(LEARN));
}

static void each_phase_is_overdue_once(void **state)
{
    (void)state;
    const struct {
        int phase;
        int64_t limit_ms;
    } rows[] = {{P(RESPOND), rule.respond_ms},
                {P(ASSESS), rule.assess_ms},
                {P(VALIDATE), rule.validate_ms + rule.respond_ms},
                {P(LEARN), rule.learn_ms}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct kit k;
        in_phase(&k, rows[i].phase);
        int64_t due = k.x.entered_ms + rows[i].limit_ms;
        if (rows[i].phase == P(ASSESS)) /* something joins again and again */
            for (int64_t t = k.x.entered_ms; t < due; t += 20000)
                decide(&k, evidence(CONDITION_LLM, HIGH, t), t);
        decide(&k, EVENT(INCIDENT_TICK), due - 1);
        assert_null(said(&k, INCIDENT_OVERDUE));
        decide(&k, EVENT(INCIDENT_TICK), due);
        assert_true(said(&k, INCIDENT_OVERDUE) && said(&k, INCIDENT_OVERDUE)->phase == rows[i].phase);
        assert_true(k.x.phases[k.x.n_phases - 1].overdue);
        decide(&k, EVENT(INCIDENT_TICK), due + 1);
        assert_null(said(&k, INCIDENT_OVERDUE));
    }
    struct kit k;
    in_phase(&k, P(RECOVER)); /* the clocks are its limit */
    decide(&k, EVENT(INCIDENT_TICK), T0 + 300 * DAY);
    assert_null(said(&k, INCIDENT_OVERDUE));
}

static void data_are_a_condition_of_their_own(void **state)
{
    (void)state;
    struct kit k;
    in_phase(&k, P(RECOVER));
    struct incident_event lost = {.kind = INCIDENT_DATA, .at_ms = T0 + 29000};
    decide(&k, lost, T0 + 40000);
    assert_true(k.x.data_affected && k.x.clocks[SET_RTO_DATA].started_ms == T0 + 29000);
    decide(&k, CLEARED, T0 + 41000);
    assert_int_equal(k.x.phase, P(RECOVER)); /* not whole yet */
    decide(&k, EVENT(INCIDENT_DATA_WELL), T0 + 42000);
    assert_true(k.x.phase == P(VALIDATE) && k.x.recovered_ms == T0 + 42000);
    assert_false(k.x.clocks[SET_RTO_DATA].stopped);
}

static void a_person_goes_on_without_gates(void **state)
{
    (void)state;
    struct kit k;
    in_phase(&k, P(RESPOND));
    struct incident_event to = EVENT(INCIDENT_ADVANCE);
    to.phase = P(LEARN); /* nothing more is to be expected, although a signal is open */
    decide(&k, to, T0 + 5000);
    assert_true(k.x.phase == P(LEARN) && k.x.clocks[SET_RTO_FULL].stopped_ms == T0 + 5000);
    assert_null(said(&k, INCIDENT_DEMONSTRATED)); /* a word is no demonstration */
    assert_string_equal(k.x.phases[0].why, "because");
    to.phase = P(ASSESS); /* back: no */
    uint64_t epoch = k.x.epoch;
    decide(&k, to, T0 + 6000);
    assert_true(k.x.phase == P(LEARN) && k.x.epoch == epoch);
    decide(&k, CLEARED, T0 + 7000); /* still counted */
    assert_int_equal(k.x.open_signals, 0);

    in_phase(&k, P(ASSESS));
    to.phase = P(CLOSED); /* only by closing it */
    decide(&k, to, T0 + 5000);
    assert_int_equal(k.x.phase, P(ASSESS));
    struct incident_event owner = {.kind = INCIDENT_ASSIGN, .by = "anna", .text = "ben"};
    decide(&k, owner, T0 + 6000);
    assert_string_equal(k.x.owner, "ben");
}

static void of_notes_the_plain_ones_give_way(void **state)
{
    (void)state;
    struct kit k;
    in_phase(&k, P(RECOVER));
    for (int i = 0; i < INCIDENT_NOTES + 10; i++) {
        struct incident_event note = {
            .kind = INCIDENT_NOTE_ADD, .by = "anna", .text = i == 0 ? "lesson" : "note", .note_kind = i == 0 ? 3 : 1};
        decide(&k, note, T0 + 40000 + i);
    }
    assert_int_equal(k.x.n_notes, INCIDENT_NOTES);
    assert_string_equal(k.notes[0].text, "lesson");
    assert_int_equal(k.notes[1].at_ms, T0 + 40000 + 11);
    decide(&k, EVENT(INCIDENT_TICK), T0 + 50000);
    assert_int_equal(k.x.n_notes, INCIDENT_NOTES); /* only a note needs room */
}

static void what_was_asked_is_asked_again_by_who_leads_next(void **state)
{
    (void)state;
    const struct {
        int phase;
        enum incident_effect_kind kind;
    } rows[] = {{P(RESPOND), INCIDENT_ALERT}, {P(VALIDATE), INCIDENT_CHECK}, {P(LEARN), INCIDENT_REPORT}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct kit k;
        int64_t t = in_phase(&k, rows[i].phase);
        decide(&k, EVENT(INCIDENT_TICK), t + 1);
        assert_null(said(&k, rows[i].kind));
        k.x.asked = false;
        decide(&k, EVENT(INCIDENT_TICK), t + 2);
        assert_non_null(said(&k, rows[i].kind));
    }
}

static void a_drill_is_one_as_long_as_all_evidence_says_so(void **state)
{
    (void)state;
    struct kit k;
    fresh(&k);
    struct incident_event ev = evidence(CONDITION_LLM, WARNING, T0);
    ev.drill = true;
    decide(&k, ev, T0);
    decide(&k, ev, T0 + 1);
    assert_true(k.x.drill);
    ev.drill = false;
    decide(&k, ev, T0 + 2);
    assert_false(k.x.drill);
    ev.drill = true;
    decide(&k, ev, T0 + 3);
    assert_false(k.x.drill);
}

static void people_read_what_it_waits_for(void **state)
{
    (void)state;
    char buf[256];
    for (int phase = P(RESPOND); phase <= P(CLOSED); phase++) {
        struct kit k;
        int64_t t = in_phase(&k, phase);
        assert_true(strlen(incident_gate(&k.x, &rule, t, buf, sizeof buf)) > 10);
    }
    struct kit k;
    int64_t t = in_phase(&k, P(VALIDATE));
    decide(&k, EVENT(INCIDENT_FAILED), t);
    assert_string_equal(incident_gate(&k.x, &rule, t, buf, sizeof buf), "a check must pass: because");
    decide(&k, EVENT(INCIDENT_PASSED), t);
    assert_string_equal(incident_gate(&k.x, &rule, t + 15000, buf, sizeof buf),
                        "everything must stay well for another 45s");
    char tiny[8];
    assert_string_equal(incident_gate(&k.x, &rule, t, tiny, sizeof tiny), "everyth");
}

/* Whatever comes in whatever order: decide() above looks at what must hold after each. */
static void nothing_breaks_it(void **state)
{
    (void)state;
    uint64_t rng = 88172645463325252u;
    int closed = 0, learned = 0;
    for (int story = 0; story < 2000; story++) {
        struct kit k;
        fresh(&k);
        int64_t t = T0;
        for (int i = 0; i < 60; i++) {
            rng ^= rng << 13, rng ^= rng >> 7, rng ^= rng << 17;
            struct incident_event ev = EVENT((enum incident_event_kind)(rng % EVENTS));
            if (ev.kind == INCIDENT_CLOSE && rng % 5)
                ev.kind = INCIDENT_TICK;
            ev.phase = (uint8_t)(rng >> 8 & 7);
            ev.condition = (uint8_t)(rng >> 12 & 7);
            ev.severity = (uint8_t)(1 + (rng >> 24 & 3));
            t += (int64_t)(rng >> 32 & 0x3ffff);
            ev.at_ms = t - (int64_t)(rng >> 40 & 0xffff);
            if (ev.kind == INCIDENT_CLEARED) /* only what was said: all of one kind here */
                ev.condition = k.x.of_condition[0] == k.x.open_signals ? 7 : 0;
            if (ev.kind == INCIDENT_EVIDENCE)
                ev.condition = 7;
            decide(&k, ev, t);
        }
        closed += k.x.phase == P(CLOSED);
        learned += k.x.phase >= P(LEARN);
    }
    assert_true(closed > 100 && learned > closed);
}

static void the_rule_comes_from_settings(void **state)
{
    (void)state;
    struct set_continuity set = {.phases = {1, 2, 3, 4, 5, 6, 2, 3}};
    struct incident_rule r;
    incident_rule_of(&set, &r);
    assert_true(r.n_functions == 4 && r.functions[1].critical && r.functions[1].lost_in == 3 && r.closes_itself == 3);
    assert_int_equal(incident_concerned(&r, CONDITION_LLM, false), 1 << SET_MAD_LLM_FALLBACK | 1 << SET_RTO_FULL);
    assert_int_equal(incident_concerned(&r, CONDITION_DEGRADED, true),
                     1 << SET_MAD_DEGRADED | 1 << SET_RTO_FULL | 1 << SET_RTO_CRITICAL | 1 << SET_RTO_DATA);
    char *names[] = {(char *)(uintptr_t) "llm_fallback", (char *)(uintptr_t) "full"};
    struct set_function own = {.name = names[0], .critical = true, .lost_in = {names, 2}};
    set.functions = (struct conf_list){&own, 1};
    incident_rule_of(&set, &r);
    assert_true(r.n_functions == 1 && r.functions[0].lost_in == (CONDITION_LLM | CONDITION_FULL));
    assert_int_equal(incident_concerned(&r, CONDITION_DEGRADED, false), 1 << SET_MAD_DEGRADED);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_phase_with_every_event),
        cmocka_unit_test(an_outage_from_beginning_to_end),
        cmocka_unit_test(what_is_over_before_anybody_looks_closes_itself),
        cmocka_unit_test(shares_are_told_once_and_to_the_millisecond),
        cmocka_unit_test(evidence_that_comes_late_lets_clocks_start_earlier_never_later),
        cmocka_unit_test(a_relapse_goes_back_and_clocks_run_on),
        cmocka_unit_test(each_phase_is_overdue_once),
        cmocka_unit_test(data_are_a_condition_of_their_own),
        cmocka_unit_test(a_person_goes_on_without_gates),
        cmocka_unit_test(of_notes_the_plain_ones_give_way),
        cmocka_unit_test(what_was_asked_is_asked_again_by_who_leads_next),
        cmocka_unit_test(a_drill_is_one_as_long_as_all_evidence_says_so),
        cmocka_unit_test(people_read_what_it_waits_for),
        cmocka_unit_test(nothing_breaks_it),
        cmocka_unit_test(the_rule_comes_from_settings),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
