/* test_alert_inhibit.c - which problems mute which, and that in no ring of them everybody is mute. */
#include "alert/alert_doc.h"
#include "alert/alert_inhibit.h"
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#define PS(n) REDOUBT__V1__PROBLEM_STATE__PROBLEM_STATE_##n

static char *source_a[] = {(char *)"agent=a"}, *target_b[] = {(char *)"agent=b"}, *same_target[] = {(char *)"target"};
static char *source_b[] = {(char *)"agent=b"}, *target_a[] = {(char *)"agent=a"};
static char *source_c[] = {(char *)"agent=c"}, *target_c[] = {(char *)"agent=c"};

static struct alert_inhibits *with(struct set_inhibit *rules, size_t n)
{
    struct err e;
    struct set_alert set = {.inhibit = {rules, n}};
    struct alert_inhibits *x = alert_inhibits_new(&set, &e);
    if (!x)
        fail_msg("%s", e.text);
    return x;
}

/* A problem of an agent; `id` also makes its alert's key. */
struct thing {
    PB(Alert) alert;
    PB(ProblemChanged) problem;
    char id[40];
};
static void thing(struct thing *t, const char *id, const char *agent, const char *target, int64_t first_ms)
{
    *t = (struct thing){.alert = REDOUBT__V1__ALERT__INIT, .problem = REDOUBT__V1__PROBLEM_CHANGED__INIT};
    snprintf(t->id, sizeof t->id, "%s", id);
    t->alert.dedup_key = t->id;
    t->alert.agent = (char *)agent;
    t->alert.target = (char *)target;
    t->alert.severity = REDOUBT__V1__SEVERITY__SEVERITY_HIGH;
    t->problem.id = t->id;
    t->problem.alert = &t->alert;
    t->problem.state = PS(FIRING);
    t->problem.first_unix_ms = first_ms;
}

static const char *by(const struct alert_inhibits *x, const struct thing *t)
{
    return alert_inhibits_by(x, &t->alert, t->id, t->problem.first_unix_ms);
}

static void a_source_mutes_while_it_is_there(void **state)
{
    (void)state;
    struct set_inhibit rule = {
        .name = (char *)"r", .source = {source_a, 1}, .target = {target_b, 1}, .equal = {same_target, 1}};
    struct alert_inhibits *x = with(&rule, 1);
    struct thing a, b, other;
    thing(&a, "a", "a", "llm.one", 10);
    thing(&b, "b", "b", "llm.one", 5);
    thing(&other, "other", "b", "llm.two", 20);
    assert_null(by(x, &b));
    assert_true(alert_inhibits_feed(x, &a.problem));
    assert_false(alert_inhibits_feed(x, &a.problem)); /* nothing new */
    assert_string_equal(by(x, &b), "r");              /* also what was there before it */
    assert_null(by(x, &other));                       /* another target */
    assert_null(by(x, &a));
    a.problem.state = PS(ACKNOWLEDGED); /* still there */
    assert_false(alert_inhibits_feed(x, &a.problem));
    assert_string_equal(by(x, &b), "r");
    b.alert.severity = REDOUBT__V1__SEVERITY__SEVERITY_CRITICAL;
    assert_string_equal(by(x, &b), "r");
    b.alert.manual_intervention_required = true; /* a person must act: never */
    assert_null(by(x, &b));
    b.alert.manual_intervention_required = false;
    a.problem.state = PS(RESOLVED);
    assert_true(alert_inhibits_feed(x, &a.problem));
    assert_null(by(x, &b));
    assert_int_equal(alert_inhibits_sources(x), 0);
    alert_inhibits_free(x);
}

static void never_by_itself(void **state)
{
    (void)state;
    struct set_inhibit rule = {.name = (char *)"r", .source = {source_a, 1}, .target = {target_a, 1}};
    struct alert_inhibits *x = with(&rule, 1);
    struct thing one, two;
    thing(&one, "one", "a", "", 10);
    thing(&two, "two", "a", "", 11);
    (void)alert_inhibits_feed(x, &one.problem);
    assert_null(by(x, &one));
    (void)alert_inhibits_feed(x, &two.problem);
    assert_null(by(x, &one)); /* it was first */
    assert_string_equal(by(x, &two), "r");
    alert_inhibits_free(x);
}

static void of_two_the_first_one_wins(void **state)
{
    (void)state;
    struct set_inhibit rules[] = {{.name = (char *)"ab", .source = {source_a, 1}, .target = {target_b, 1}},
                                  {.name = (char *)"ba", .source = {source_b, 1}, .target = {target_a, 1}}};
    struct alert_inhibits *x = with(rules, 2);
    struct thing a, b;
    thing(&a, "a", "a", "", 10);
    thing(&b, "b", "b", "", 11);
    (void)alert_inhibits_feed(x, &a.problem);
    (void)alert_inhibits_feed(x, &b.problem);
    assert_null(by(x, &a));
    assert_string_equal(by(x, &b), "ab");
    b.problem.state = PS(MUTED);
    b.problem.muted_by = (char *)"inhibit/ab";
    (void)alert_inhibits_feed(x, &b.problem);
    assert_null(by(x, &a));
    assert_string_equal(by(x, &b), "ab");
    /* At one moment: one of them, always the same. */
    thing(&b, "b", "b", "", 10);
    (void)alert_inhibits_feed(x, &b.problem);
    assert_null(by(x, &a));
    assert_string_equal(by(x, &b), "ab");
    alert_inhibits_free(x);
}

static void no_source_of_a_wrong_rule(void **state)
{
    (void)state;
    char *wrong[] = {(char *)"colour=red"};
    struct err e;
    struct set_inhibit rule = {.name = (char *)"r", .source = {wrong, 1}, .target = {target_b, 1}};
    struct set_alert set = {.inhibit = {&rule, 1}};
    assert_null(alert_inhibits_new(&set, &e));
    assert_non_null(strstr(e.text, "colour"));
}

static void too_many_sources_mute_no_more(void **state)
{
    (void)state;
    struct set_inhibit rule = {.name = (char *)"r", .source = {source_a, 1}, .target = {target_b, 1}};
    struct alert_inhibits *x = with(&rule, 1);
    struct thing t;
    char id[40];
    for (int i = 0; i < ALERT_SOURCES_MAX + 10; i++) {
        snprintf(id, sizeof id, "a%d", i);
        thing(&t, id, "a", "", i);
        (void)alert_inhibits_feed(x, &t.problem);
    }
    assert_int_equal(alert_inhibits_sources(x), ALERT_SOURCES_MAX);
    alert_inhibits_free(x);
}

/* Rings and every other tangle: whatever mutes whatever, looked at again and again in any order, somebody of those that are there is told; and once all have
 * been looked at often enough, nothing changes any more. */
static void somebody_is_always_told(void **state)
{
    (void)state;
    enum { N = 8, ROUNDS = 60 };
    char **sides[] = {source_a, source_b, source_c}, **targets[] = {target_a, target_b, target_c};
    static const char *const agents[] = {"a", "b", "c"};
    uint64_t seed = getenv("SEED") ? strtoull(getenv("SEED"), NULL, 10) : (uint64_t)time(NULL);
    srandom((unsigned)seed);
    for (int world = 0; world < 300; world++) {
        struct set_inhibit rules[9];
        char names[9][8];
        size_t n = 0;
        for (size_t s = 0; s < 3; s++)
            for (size_t t = 0; t < 3; t++)
                if (random() % 2) {
                    snprintf(names[n], sizeof names[n], "r%zu", n);
                    rules[n] =
                        (struct set_inhibit){.name = names[n], .source = {sides[s], 1}, .target = {targets[t], 1}};
                    n++;
                }
        struct alert_inhibits *x = with(rules, n);
        struct thing things[N];
        char id[8];
        for (int i = 0; i < N; i++) {
            snprintf(id, sizeof id, "p%d", i);
            thing(&things[i], id, agents[random() % 3], "", random() % 5);
            (void)alert_inhibits_feed(x, &things[i].problem);
        }
        int last_change = 0;
        for (int turn = 0; turn < ROUNDS * N; turn++) {
            struct thing *t = &things[turn < ROUNDS * N / 2 ? random() % N : turn % N];
            const char *rule = by(x, t);
            int to = rule ? PS(MUTED) : PS(FIRING);
            if ((int)t->problem.state != to)
                last_change = turn;
            t->problem.state = (PB(ProblemState))to;
            t->problem.muted_by = (char *)(rule ? "inhibit/r" : "");
            (void)alert_inhibits_feed(x, &t->problem);
        }
        int told = 0;
        for (int i = 0; i < N; i++)
            told += things[i].problem.state == PS(FIRING);
        if (told == 0 || last_change >= ROUNDS * N - 2 * N)
            fail_msg("seed %" PRIu64 ", world %d: %d told, last change at turn %d", seed, world, told, last_change);
        alert_inhibits_free(x);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_source_mutes_while_it_is_there), cmocka_unit_test(never_by_itself),
        cmocka_unit_test(of_two_the_first_one_wins),        cmocka_unit_test(no_source_of_a_wrong_rule),
        cmocka_unit_test(too_many_sources_mute_no_more),    cmocka_unit_test(somebody_is_always_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
