/* test_cli_incident.c - an incident in words: clocks against their limits, phases, what a person can do; whatever the texts in it are. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "cli/event_line.h"
#include "cli/incident_view.h"
#include <locale.h>

#define PHASE(x) REDOUBT__V1__INCIDENT_PHASE__INCIDENT_PHASE_##x
#define BEGAN    INT64_C(1700000000000)
#define MINUTE   UINT64_C(60000)
#define N(a)     (sizeof(a) / sizeof((a)[0]))

/* An LLM outage of two agents with two clocks; every test changes its own copy. */
struct fixture {
    PB(IncidentChanged) m;
    PB(ObjectiveClock) clocks[2];
    PB(ObjectiveClock) * clock_list[2];
    char *agents[2];
};

static void make(struct fixture *f)
{
    *f = (struct fixture){.m = REDOUBT__V1__INCIDENT_CHANGED__INIT, .agents = {"mcp-1", "mcp-2"}};
    for (size_t i = 0; i < 2; i++) {
        f->clocks[i] = (PB(ObjectiveClock))REDOUBT__V1__OBJECTIVE_CLOCK__INIT;
        f->clock_list[i] = &f->clocks[i];
        f->clocks[i].started_unix_ms = BEGAN;
    }
    f->clocks[0].objective = (char *)"mad_llm_fallback";
    f->clocks[0].limit_ms = 60 * MINUTE;
    f->clocks[0].elapsed_ms = 12 * MINUTE;
    f->clocks[1].objective = (char *)"rto_full";
    f->clocks[1].limit_ms = 120 * MINUTE;
    f->clocks[1].elapsed_ms = 12 * MINUTE;
    f->m.id = (char *)"i1";
    f->m.epoch = 3;
    f->m.key = (char *)"llm.openai";
    f->m.cause = (char *)"llm.openai.gpt-4o";
    f->m.summary = (char *)"LLM outage";
    f->m.gate = (char *)"2 conditions are not over";
    f->m.phase = PHASE(RECOVER);
    f->m.previous = PHASE(ASSESS);
    f->m.severity = REDOUBT__V1__SEVERITY__SEVERITY_HIGH;
    f->m.failure_kind = REDOUBT__V1__FAILURE_KIND__FAILURE_KIND_LLM_OUTAGE;
    f->m.evidence_unix_ms = f->m.changed_unix_ms = BEGAN;
    f->m.agents = f->agents;
    f->m.n_agents = f->m.agents_total = 2;
    f->m.open_signals = 2;
    f->m.clocks = f->clock_list;
    f->m.n_clocks = 2;
}

static void bars_show_how_much_of_the_limit_is_over(void **state)
{
    (void)state;
    struct fixture f;
    char buf[INCIDENT_VIEW_TEXT];
    make(&f);
    PB(ObjectiveClock) *c = &f.clocks[0];
    assert_string_equal(incident_view_bar(c, buf), "[####--------------------]  20 %");
    c->elapsed_ms = 0;
    assert_string_equal(incident_view_bar(c, buf), "[------------------------]   0 %");
    c->elapsed_ms = 1; /* little is not nothing, and almost all is not all */
    assert_string_equal(incident_view_bar(c, buf), "[#-----------------------]   0 %");
    c->elapsed_ms = 60 * MINUTE - 1;
    assert_string_equal(incident_view_bar(c, buf), "[#######################-]  99 %");
    c->elapsed_ms = 60 * MINUTE;
    assert_string_equal(incident_view_bar(c, buf), "[########################] 100 %");
    c->elapsed_ms = 150 * MINUTE;
    assert_string_equal(incident_view_bar(c, buf), "[########################] 250 %");
    c->elapsed_ms = UINT64_MAX; /* whatever came over the bus */
    assert_int_equal(incident_view_percent(c), 9999);
    c->limit_ms = 0;
    assert_int_equal(incident_view_percent(c), 9999);
    c->elapsed_ms = 0;
    assert_int_equal(incident_view_percent(c), 0);
    for (uint64_t e = 0; e <= 120; e++) {
        c->limit_ms = 60 * MINUTE;
        c->elapsed_ms = e * MINUTE;
        assert_int_equal(strlen(incident_view_bar(c, buf)), INCIDENT_VIEW_BAR + strlen("[] 100 %"));
    }
}

static void clocks_say_what_is_left_and_how_they_ended(void **state)
{
    (void)state;
    struct fixture f;
    char buf[INCIDENT_VIEW_TEXT];
    make(&f);
    PB(ObjectiveClock) *c = &f.clocks[0];
    assert_string_equal(incident_view_clock(c, buf), "12 min of 1 h, 48 min left");
    assert_int_equal(incident_view_clock_colour(c), TERM_PLAIN);
    c->elapsed_ms = 30 * MINUTE;
    assert_int_equal(incident_view_clock_colour(c), TERM_YELLOW);
    c->elapsed_ms = 61 * MINUTE;
    c->breached = true;
    assert_string_equal(incident_view_clock(c, buf), "1 h 1 min of 1 h: BREACHED, 1 min over");
    assert_int_equal(incident_view_clock_colour(c), TERM_RED);
    c->stopped_unix_ms = BEGAN + 1;
    assert_string_equal(incident_view_clock(c, buf), "stopped after 1 h 1 min of 1 h: BREACHED");
    c->breached = false;
    c->elapsed_ms = 12 * MINUTE;
    assert_string_equal(incident_view_clock(c, buf), "stopped after 12 min of 1 h: met");
    assert_int_equal(incident_view_clock_colour(c), TERM_GREEN);
    c->elapsed_ms = c->limit_ms = UINT64_MAX;
    assert_non_null(strstr(incident_view_clock(c, buf), "met"));
}

static void the_nearest_clock_is_the_one_that_runs_out_first(void **state)
{
    (void)state;
    struct fixture f;
    make(&f);
    assert_int_equal(incident_view_nearest(&f.m), 0);
    f.clocks[1].elapsed_ms = 119 * MINUTE;
    assert_int_equal(incident_view_nearest(&f.m), 1);
    f.clocks[1].stopped_unix_ms = BEGAN + 1; /* one that has stopped runs out no more */
    assert_int_equal(incident_view_nearest(&f.m), 0);
    f.clocks[0].stopped_unix_ms = BEGAN + 1;
    assert_int_equal(incident_view_nearest(&f.m), 1);
    f.m.n_clocks = 0;
    assert_int_equal(incident_view_nearest(&f.m), 0);
}

static void agents_are_named_up_to_a_number(void **state)
{
    (void)state;
    struct fixture f;
    char buf[INCIDENT_VIEW_TEXT];
    make(&f);
    assert_string_equal(incident_view_agents(&f.m, 12, buf), "mcp-1, mcp-2");
    f.m.agents_total = 500;
    assert_string_equal(incident_view_agents(&f.m, 12, buf), "mcp-1, mcp-2 and 498 more");
    assert_string_equal(incident_view_agents(&f.m, 1, buf), "mcp-1 and 499 more");
    assert_string_equal(incident_view_agents(&f.m, 0, buf), "500");
    f.m.n_agents = f.m.agents_total = 0;
    assert_string_equal(incident_view_agents(&f.m, 12, buf), "none");
}

static void a_change_is_one_line(void **state)
{
    (void)state;
    struct fixture f;
    struct event_line l;
    make(&f);
    assert_true(event_line(&f.m, &l));
    assert_string_equal(l.kind, "incident");
    assert_string_equal(l.entity, "i1");
    assert_int_equal(l.at_unix_ms, BEGAN);
    assert_int_equal(l.colour, TERM_RED);
    assert_string_equal(
        l.text, "ASSESS -> RECOVER HIGH (LLM_OUTAGE) llm.openai: LLM outage [2 agents]; mad_llm_fallback 12 min of "
                "1 h, 48 min left; 2 conditions are not over");
    f.m.phase = PHASE(CLOSED);
    f.m.previous = PHASE(LEARN);
    f.m.drill = true;
    f.m.owner = (char *)"eve";
    f.m.agents_total = 1;
    assert_true(event_line(&f.m, &l));
    assert_string_equal(l.text,
                        "LEARN -> CLOSED HIGH DRILL (LLM_OUTAGE) llm.openai: LLM outage [1 agent]; owner eve");
    assert_int_equal(l.colour, TERM_DIM);
}

static void what_is_not_over_is_a_problem(void **state)
{
    (void)state;
    struct fixture f;
    char buf[INCIDENT_VIEW_TEXT];
    PB(IncidentLine) l = REDOUBT__V1__INCIDENT_LINE__INIT;
    make(&f);
    l.id = (char *)"i1";
    l.key = (char *)"llm.openai";
    l.summary = (char *)"LLM outage";
    l.nearest = &f.clocks[0];
    static const int wrong[] = {PHASE(RESPOND), PHASE(ASSESS), PHASE(RECOVER), PHASE(VALIDATE)};
    for (size_t i = 0; i < N(wrong); i++) {
        l.phase = (Redoubt__V1__IncidentPhase)wrong[i];
        assert_true(incident_view_problem(&l, buf));
    }
    assert_string_equal(buf, "incident i1 (llm.openai) is in VALIDATE, mad_llm_fallback 12 min of 1 h, 48 min left: "
                             "LLM outage; nobody owns it");
    l.owner = (char *)"eve";
    l.nearest = NULL;
    l.summary = (char *)"";
    assert_true(incident_view_problem(&l, buf));
    assert_string_equal(buf, "incident i1 (llm.openai) is in VALIDATE");
    l.drill = true; /* pretended: nothing is wrong */
    assert_false(incident_view_problem(&l, buf));
    l.drill = false;
    l.phase = PHASE(LEARN); /* only lessons are left */
    assert_false(incident_view_problem(&l, buf));
    l.phase = PHASE(CLOSED);
    assert_false(incident_view_problem(&l, buf));
}

static void a_person_is_told_how_to_go_on(void **state)
{
    (void)state;
    struct fixture f;
    char buf[INCIDENT_VIEW_TEXT];
    size_t n = 0;
    make(&f);
    assert_true(incident_view_next(&f.m, 0, buf));
    assert_non_null(strstr(buf, "redoubt incident assign i1 WHO"));
    assert_true(incident_view_next(&f.m, 1, buf));
    assert_non_null(strstr(buf, "redoubt incident note i1 TEXT"));
    assert_true(incident_view_next(&f.m, 2, buf));
    assert_non_null(strstr(buf, "redoubt incident advance i1"));
    assert_false(incident_view_next(&f.m, 3, buf));
    f.m.owner = (char *)"eve";
    f.m.phase = PHASE(LEARN);
    assert_true(incident_view_next(&f.m, 0, buf));
    assert_non_null(strstr(buf, "--lesson"));
    assert_true(incident_view_next(&f.m, 1, buf));
    assert_non_null(strstr(buf, "redoubt incident close i1"));
    assert_false(incident_view_next(&f.m, 2, buf));
    f.m.id = (char *)"i1; rm -rf /"; /* what comes over the bus is pasted into a shell */
    for (size_t i = 0; incident_view_next(&f.m, i, buf); i++, n++)
        assert_null(strchr(buf, '/'));
    assert_int_equal(n, 2);
    f.m.phase = PHASE(CLOSED);
    assert_false(incident_view_next(&f.m, 0, buf));
}

static void options_take_the_contracts_words(void **state)
{
    (void)state;
    const ProtobufCEnumDescriptor *phases = &redoubt__v1__incident_phase__descriptor;
    const ProtobufCEnumDescriptor *kinds = &redoubt__v1__failure_kind__descriptor;
    assert_int_equal(incident_view_word(phases, "recover"), PHASE(RECOVER));
    assert_int_equal(incident_view_word(phases, "LEARN"), PHASE(LEARN));
    assert_int_equal(incident_view_word(kinds, "llm-outage"), REDOUBT__V1__FAILURE_KIND__FAILURE_KIND_LLM_OUTAGE);
    assert_int_equal(incident_view_word(kinds, "agent_down"), REDOUBT__V1__FAILURE_KIND__FAILURE_KIND_AGENT_DOWN);
    static const char *const wrong[] = {"",           "unspecified", "recove", "recovery",
                                        "llm outage", "-",           "\xff",   "re\ncover"};
    for (size_t i = 0; i < N(wrong); i++) {
        assert_int_equal(incident_view_word(phases, wrong[i]), -1);
        assert_int_equal(incident_view_word(kinds, wrong[i]), -1);
    }
}

/* Texts of any length, in every field at once: cut, never beyond the buffer. */
static void long_texts_are_cut(void **state)
{
    (void)state;
    struct fixture f;
    struct event_line l;
    char buf[INCIDENT_VIEW_TEXT];
    char *text = malloc(20001);
    memset(text, 'x', 20000);
    text[20000] = 0;
    make(&f);
    f.m.summary = f.m.gate = f.m.owner = f.m.id = f.m.key = f.m.cause = f.agents[0] = f.clocks[0].objective = text;
    assert_int_equal(strlen(incident_view_line(&f.m, buf)), sizeof buf - 1);
    assert_int_equal(strlen(incident_view_agents(&f.m, 2, buf)), sizeof buf - 1);
    assert_int_equal(strlen(incident_view_where(&f.m, buf)), sizeof buf - 1);
    for (size_t i = 0; i < 4; i++)
        assert_true(!incident_view_next(&f.m, i, buf) || strlen(buf) < 300);
    assert_true(event_line(&f.m, &l));
    assert_true(strlen(l.text) < sizeof l.text);
    free(text);
}

int main(void)
{
    setlocale(LC_ALL, "C.UTF-8");
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bars_show_how_much_of_the_limit_is_over),
        cmocka_unit_test(clocks_say_what_is_left_and_how_they_ended),
        cmocka_unit_test(the_nearest_clock_is_the_one_that_runs_out_first),
        cmocka_unit_test(agents_are_named_up_to_a_number),
        cmocka_unit_test(a_change_is_one_line),
        cmocka_unit_test(what_is_not_over_is_a_problem),
        cmocka_unit_test(a_person_is_told_how_to_go_on),
        cmocka_unit_test(options_take_the_contracts_words),
        cmocka_unit_test(long_texts_are_cut),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
