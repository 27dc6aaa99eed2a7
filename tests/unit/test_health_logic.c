/* test_health_logic.c - an agent's judgement by its decisions: each mark, the way back, bounded tables, a seeded simulation. */
#include "health/health_logic.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define WINDOW 300000

static uint64_t rng = 1;
static uint32_t draw(void)
{
    rng = rng * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(rng >> 32);
}

static const struct health_logic_rule usual = {.window_ms = WINDOW,
                                               .min_decisions = 20,
                                               .malformed_percent = 10,
                                               .contradictory_percent = 5,
                                               .denied_percent = 50,
                                               .repeats = 10,
                                               .exceptions = 5};

static struct health_logic *fresh(void)
{
    struct health_logic *l = malloc(sizeof *l);
    assert_non_null(l);
    health_logic_init(l);
    return l;
}

static void take(struct health_logic *l, const char *event, const char *verdict, const char *action,
                 const char *object, int outcome, int64_t now)
{
    struct health_decision d = {event, verdict, action, object, "said the agent", outcome};
    health_logic_take(l, &usual, &d, now);
}

static int fault_at(struct health_logic *l, int64_t now, struct health_result *r)
{
    struct health_result own;
    r = r ? r : &own;
    memset(r, 0, sizeof *r);
    (void)health_logic_judge(l, &usual, now, r);
    return r->fault;
}

/* n good decisions, each about another event and with another object. */
static void good(struct health_logic *l, uint32_t n, int64_t now)
{
    static uint32_t number;
    for (uint32_t i = 0; i < n; i++) {
        char event[32], object[32];
        snprintf(event, sizeof event, "event-%u", ++number);
        snprintf(object, sizeof object, "10.%u.%u.%u", number >> 16 & 255, number >> 8 & 255, number & 255);
        take(l, event, "malicious", "block_ip", object, HEALTH_DECISION_DONE, now);
    }
}

static void test_shares(void **state)
{
    (void)state;
    static const struct {
        int outcome, fault, at_mark; /* of 100 decisions */
    } rows[] = {{HEALTH_DECISION_MALFORMED, HEALTH_FAULT_MALFORMED, 10},
                {HEALTH_DECISION_DENIED, HEALTH_FAULT_DENIED, 50}};
    for (size_t k = 0; k < 2; k++)
        for (int bad = 0; bad <= 100; bad++) {
            struct health_logic *l = fresh();
            good(l, (uint32_t)(100 - bad), 1000000);
            for (int i = 0; i < bad; i++) {
                char event[32];
                snprintf(event, sizeof event, "bad-%d", i);
                take(l, event, "", "block_ip", event, rows[k].outcome, 1000000);
            }
            struct health_result r;
            assert_int_equal(fault_at(l, 1000001, &r), bad >= rows[k].at_mark ? rows[k].fault : HEALTH_FAULT_NONE);
            if (bad == 60 && k == 0)
                assert_string_equal(r.detail, "60 of 100 decisions within 300 s; bad-59: said the agent");
            free(l);
        }
    /* Too few to say anything about shares. */
    struct health_logic *l = fresh();
    for (int i = 0; i < 19; i++)
        take(l, "e", "", "", "", HEALTH_DECISION_MALFORMED, 1000000);
    assert_int_equal(fault_at(l, 1000001, NULL), HEALTH_FAULT_NONE);
    take(l, "e", "", "", "", HEALTH_DECISION_MALFORMED, 1000000);
    assert_int_equal(fault_at(l, 1000001, NULL), HEALTH_FAULT_MALFORMED);
    free(l);
    /* Denied counts among actions, not among decisions: one that acts on little is not hidden by what it only looks at. */
    l = fresh();
    for (int i = 0; i < 500; i++) {
        char event[32];
        snprintf(event, sizeof event, "seen-%d", i);
        take(l, event, "benign", "", "", HEALTH_DECISION_DONE, 1000000);
    }
    for (int i = 0; i < 20; i++) {
        char event[32];
        snprintf(event, sizeof event, "act-%d", i);
        take(l, event, "malicious", "block_ip", event, HEALTH_DECISION_DENIED, 1000000);
    }
    assert_int_equal(fault_at(l, 1000001, NULL), HEALTH_FAULT_DENIED);
    free(l);
}

static void test_contradictions(void **state)
{
    (void)state;
    struct health_logic *l = fresh();
    /* Said again is not contradicted. */
    for (int i = 0; i < 50; i++)
        take(l, "same", "malicious", "block_ip", "10.0.0.1", HEALTH_DECISION_DONE, 1000000 + i * 40000);
    assert_int_equal(health_logic_counts(l, &usual, 1000000 + 50 * 40000).contradictory, 0);
    free(l);
    /* Each of the three makes another decision; what could not be used is none. */
    static const char *const three[4][3] = {
        {"malicious", "block_ip", "a"}, {"benign", "block_ip", "a"}, {"benign", "", "a"}, {"benign", "", "b"}};
    l = fresh();
    for (int i = 0; i < 4; i++)
        take(l, "e", three[i][0], three[i][1], three[i][2], HEALTH_DECISION_DONE, 1000000);
    take(l, "e", "x", "", "", HEALTH_DECISION_MALFORMED, 1000000);
    take(l, "e", "y", "", "", HEALTH_DECISION_EXCEPTION, 1000000);
    take(l, "e", "benign", "", "b", HEALTH_DECISION_DENIED, 1000000);
    assert_int_equal(health_logic_counts(l, &usual, 1000000).contradictory, 3);
    good(l, 20, 1000000);
    struct health_result r;
    assert_int_equal(fault_at(l, 1000001, &r), HEALTH_FAULT_CONTRADICTION);
    assert_non_null(strstr(r.detail, "3 of 27 decisions"));
    assert_non_null(strstr(r.detail, "e: now benign"));
    /* A day later the world is another one. */
    take(l, "e", "malicious", "block_ip", "a", HEALTH_DECISION_DONE, 1000000 + 86400000);
    assert_int_equal(health_logic_counts(l, &usual, 1000000 + 86400000).contradictory, 0);
    free(l);
}

static void test_repetition(void **state)
{
    (void)state;
    struct health_logic *l = fresh();
    for (int i = 0; i < 9; i++) {
        char event[32];
        snprintf(event, sizeof event, "event-%d", i);
        take(l, event, "malicious", "block_ip", "10.0.0.1", HEALTH_DECISION_DONE, 1000000 + i);
        take(l, event, "malicious", "", "10.0.0.1", HEALTH_DECISION_DONE, 1000000 + i); /* nothing is done */
    }
    good(l, 200, 1000100);
    assert_true(fault_at(l, 1000200, NULL) != HEALTH_FAULT_REPETITION);
    take(l, "one more", "malicious", "block_ip", "10.0.0.1", HEALTH_DECISION_DONE, 1000201);
    good(l, 1000, 1000202); /* very many others push none of the frequent ones out */
    struct health_result r;
    assert_int_equal(fault_at(l, 1000203, &r), HEALTH_FAULT_REPETITION);
    assert_non_null(strstr(r.detail, "10 times within 300 s; block_ip on 10.0.0.1"));
    free(l);
    /* The same, but spread over more than a window: never. */
    l = fresh();
    for (int i = 0; i < 100; i++) {
        char event[32];
        snprintf(event, sizeof event, "event-%d", i);
        take(l, event, "malicious", "block_ip", "10.0.0.1", HEALTH_DECISION_DONE, 1000000 + i * WINDOW / 9);
        assert_int_equal(fault_at(l, 1000000 + i * WINDOW / 9, NULL), HEALTH_FAULT_NONE);
    }
    free(l);
}

static void test_exceptions(void **state)
{
    (void)state;
    /* Those that the heartbeats count and those that decisions tell of may be the very same ones. */
    struct health_logic *l = fresh();
    for (int i = 0; i < 4; i++) {
        take(l, "e", "", "", "", HEALTH_DECISION_EXCEPTION, 1000000);
        health_logic_beat(l, &usual, 1, 1000000);
    }
    assert_int_equal(fault_at(l, 1000001, NULL), HEALTH_FAULT_NONE);
    health_logic_beat(l, &usual, 1, 1000000);
    struct health_result r = {0};
    assert_true(health_logic_judge(l, &usual, 1000001, &r));
    assert_int_equal(r.fault, HEALTH_FAULT_EXCEPTIONS);
    /* An agent that says nothing of its decisions: its heartbeats clear it, and that is said. */
    int64_t now = 1000001;
    for (; now < 1000001 + 3 * WINDOW && r.fault != HEALTH_FAULT_NONE; now += 1000) {
        health_logic_beat(l, &usual, 0, now);
        memset(&r, 0, sizeof r);
        assert_true(health_logic_judge(l, &usual, now, &r));
    }
    assert_in_range(now, 1000001 + WINDOW, 1000001 + 2 * WINDOW + 2000);
    health_logic_beat(l, &usual, UINT64_MAX, now); /* nonsense does not wrap */
    health_logic_beat(l, &usual, UINT64_MAX, now);
    assert_int_equal(health_logic_counts(l, &usual, now).counted_exceptions, UINT32_MAX);
    free(l);
}

static void test_way_back(void **state)
{
    (void)state;
    struct health_logic *l = fresh();
    int64_t now = 1000000;
    struct health_result r = {0};
    assert_false(health_logic_judge(l, &usual, now, &r)); /* nothing heard, nothing said */
    for (int i = 0; i < 30; i++)
        take(l, "e", "", "", "", HEALTH_DECISION_MALFORMED, now);
    assert_int_equal(fault_at(l, now, NULL), HEALTH_FAULT_MALFORMED);
    /* It was stopped: silence does not make it well, however long. */
    assert_int_equal(fault_at(l, now + 10 * WINDOW, NULL), HEALTH_FAULT_MALFORMED);
    assert_false(health_logic_judge(l, &usual, now + 10 * WINDOW, &r));
    /* A whole window below the mark does; a relapse on the way begins it anew. */
    now += 10 * WINDOW;
    for (int relapses = 0; relapses < 2; relapses++) {
        int64_t began = now, relapse = relapses ? now + WINDOW / 2 : 0;
        do {
            now += 1000;
            good(l, 1, now);
            if (now == relapse)
                for (int i = 0; i < 200; i++)
                    take(l, "e", "", "", "", HEALTH_DECISION_MALFORMED, now);
            if (now == began + 10000 && !relapses) {
                (void)fault_at(l, now, &r);
                assert_non_null(strstr(r.detail, "below its mark for"));
            }
        } while (fault_at(l, now, &r) != HEALTH_FAULT_NONE && now < began + 5 * WINDOW);
        /* The relapse is itself in the window for as long as that. */
        assert_in_range(now - (relapses ? relapse : began), WINDOW, relapses ? 2 * WINDOW + 1000 : WINDOW + 1000);
        for (int i = 0; i < 400; i++)
            take(l, "e", "", "", "", HEALTH_DECISION_MALFORMED, now);
        assert_int_equal(fault_at(l, now, NULL), HEALTH_FAULT_MALFORMED);
        now += 2 * WINDOW;
    }
    free(l);
    /* A mark that is taken out of the settings frees at once. */
    l = fresh();
    for (int i = 0; i < 30; i++)
        take(l, "e", "", "", "", HEALTH_DECISION_MALFORMED, now);
    assert_int_equal(fault_at(l, now, NULL), HEALTH_FAULT_MALFORMED);
    struct health_logic_rule off = usual;
    off.malformed_percent = 0;
    (void)health_logic_judge(l, &off, now, &r);
    assert_int_equal(r.fault, HEALTH_FAULT_NONE);
    free(l);
}

/* Agents of all kinds, with known shares. What is far beyond a mark is found within a window; what is far below is never accused. */
static void test_simulation(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 400; seed++) {
        rng = seed * 0x9e3779b97f4a7c15u;
        struct health_logic *l = fresh();
        struct health_logic_rule rule = usual;
        rule.window_ms = 10000 + draw() % 600000;
        int sick = (int)(seed % 6) - 1; /* enum health_logic_kind; -1: well */
        int64_t now = 1 + draw(), began = now, every = rule.window_ms / (100 + draw() % 400), found = 0;
        for (uint32_t i = 0; now - began < 4 * rule.window_ms; i++, now += every) {
            /* Faults that happen to everyone: at most a third of the mark. */
            uint32_t dice = draw() % 100;
            char event[32], object[32];
            snprintf(event, sizeof event, "e%u", draw() % 100000);
            snprintf(object, sizeof object, "o%u", draw() % 5000);
            struct health_decision d = {event, "malicious", "block", object, "", HEALTH_DECISION_DONE};
            if (dice < (sick == HEALTH_LOGIC_MALFORMED ? 30 : 1))
                d.outcome = HEALTH_DECISION_MALFORMED;
            else if (dice < (sick == HEALTH_LOGIC_DENIED ? 90 : 15))
                d.outcome = HEALTH_DECISION_DENIED;
            else if (sick == HEALTH_LOGIC_EXCEPTIONS && dice > 80)
                d.outcome = HEALTH_DECISION_EXCEPTION;
            if (sick == HEALTH_LOGIC_REPETITION && draw() % 4 == 0)
                d.object = "the one";
            if (sick == HEALTH_LOGIC_CONTRADICTION && draw() % 3 == 0) {
                d.event_key = draw() % 2 ? "again" : "and again";
                d.verdict = draw() % 2 ? "malicious" : "benign";
            }
            health_logic_take(l, &rule, &d, now);
            if (sick == HEALTH_LOGIC_EXCEPTIONS && i % 7 == 0)
                health_logic_beat(l, &rule, 1, now);
            struct health_result r = {0};
            assert_true(health_logic_judge(l, &rule, now, &r));
            if (r.fault != HEALTH_FAULT_NONE && !found)
                found = now;
            static const int faults[] = {HEALTH_FAULT_MALFORMED, HEALTH_FAULT_CONTRADICTION, HEALTH_FAULT_EXCEPTIONS,
                                         HEALTH_FAULT_REPETITION, HEALTH_FAULT_DENIED};
            if (r.fault != HEALTH_FAULT_NONE && (sick < 0 || r.fault != faults[sick])) {
                /* Chance events: a well agent's 1 % may look like a lot while there are only 20 decisions. */
                struct health_logic_counts c = health_logic_counts(l, &rule, now);
                if (c.decisions > 60)
                    fail_msg("seed %d: kind %d was accused of %s: %s", (int)seed, sick, health_fault_text(r.fault),
                             r.detail);
                free(l);
                l = fresh();
                found = 0;
            }
        }
        if (sick >= 0 && (!found || found - began > rule.window_ms))
            fail_msg("seed %d: kind %d was %s", (int)seed, sick, found ? "found late" : "not found");
        struct health_logic_counts c = health_logic_counts(l, &rule, now);
        assert_true(c.decisions <= (uint32_t)(rule.window_ms / every) + 1);
        free(l);
    }
}

/* Any text, any number, any order of time: no crash, and counts that add up. */
static void test_nonsense(void **state)
{
    (void)state;
    struct health_logic *l = fresh();
    for (int i = 0; i < 300000; i++) {
        char text[5][70];
        for (int k = 0; k < 5; k++) {
            size_t n = draw() % 69;
            for (size_t c = 0; c < n; c++)
                text[k][c] = (char)(1 + draw() % 255);
            text[k][n] = 0;
        }
        struct health_logic_rule rule = {.window_ms = 1 + draw() % 100000,
                                         .min_decisions = draw() % 50,
                                         .malformed_percent = draw() % 101,
                                         .contradictory_percent = draw() % 101,
                                         .denied_percent = draw() % 101,
                                         .repeats = draw() % 20,
                                         .exceptions = draw() % 20};
        struct health_decision d = {text[0], text[1], text[2], text[3], text[4], (int)(draw() % 7)};
        int64_t now = draw() % 1000000;
        health_logic_take(l, &rule, &d, now);
        struct health_result r = {0};
        (void)health_logic_judge(l, &rule, now, &r);
        assert_true(r.fault == HEALTH_FAULT_NONE ||
                    (r.fault >= HEALTH_FAULT_MALFORMED && r.fault <= HEALTH_FAULT_EXCEPTIONS));
        struct health_logic_counts c = health_logic_counts(l, &rule, now);
        assert_true(c.malformed + c.exceptions <= c.decisions && c.denied <= c.actions && c.actions <= c.decisions);
    }
    free(l);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_shares),     cmocka_unit_test(test_contradictions), cmocka_unit_test(test_repetition),
        cmocka_unit_test(test_exceptions), cmocka_unit_test(test_way_back),       cmocka_unit_test(test_simulation),
        cmocka_unit_test(test_nonsense),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
