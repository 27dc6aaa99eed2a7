/* test_breaker_scope.c - what targets share: when it counts as ill, whom that opens, and how they come back. */
#include "breaker/scope.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define T0 INT64_C(1700000000000)
static const struct breaker_rule rule = {.window_ms = 10000,
                                         .min_calls = 10,
                                         .failure_percent = 50,
                                         .consecutive = 5,
                                         .open_ms = 1000,
                                         .open_max_ms = 4000,
                                         .decay_ms = 60000,
                                         .permit_ms = 1500,
                                         .ramp_step_ms = 500,
                                         .jitter_percent = 20,
                                         .min_reporters = 1,
                                         .seed = 5};

/* ---- judging: letters stand for members ---- */

/* C closed and called, c closed and never called, u closed and not known; O, H open, half open on evidence of its own; o, h because of
 * the scope; P on the ramp; F forced open, f forced closed, M metrics only; - no document. */
static struct breaker_scope judged(const char *members)
{
    struct breaker_scope s = {0};
    for (const char *p = members; *p; p++) {
        struct breaker b = {.since_ms = T0, .evidence_ms = T0 - 100 + (p - members), .until_ms = 0};
        enum breaker_called called = BREAKER_CALLED_UNKNOWN;
        switch (*p) {
        case 'C':
        case 'c':
        case 'u':
            b.state = BREAKER_CLOSED;
            called = *p == 'C' ? BREAKER_CALLED_YES : *p == 'c' ? BREAKER_CALLED_NO : BREAKER_CALLED_UNKNOWN;
            break;
        case 'O':
        case 'o':
            b.state = BREAKER_OPEN;
            b.until_ms = T0 + 1000 + (p - members);
            break;
        case 'H':
        case 'h':
            b.state = BREAKER_HALF_OPEN;
            break;
        case 'P':
            b.state = BREAKER_PROBATION;
            break;
        case 'F':
            b.state = BREAKER_FORCED_OPEN;
            break;
        case 'f':
            b.state = BREAKER_FORCED_CLOSED;
            break;
        case 'M':
            b.state = BREAKER_METRICS_ONLY;
            break;
        default:
            b.state = BREAKER_NONE;
        }
        b.scope = *p == 'o' || *p == 'h' ? "account" : NULL;
        breaker_scope_add(&s, &b, called);
    }
    return s;
}

static void test_judge(void **unused)
{
    (void)unused;
    static const struct {
        const char *members;
        bool ill, unsure;
    } rows[] = {
        {"", false, false},        {"OCC", false, false},   {"O", false, false},
        {"Occccc", false, false}, /* one bad model never opens the account, even if it is the only one called */
        {"Ouuuuu", false, false},  {"OO", true, false},     {"OOC", true, false},
        {"OOCC", false, false},    {"OOOCC", true, false},  {"OOcccccc", true, false},
        {"OHC", true, false},      {"HHC", true, false},    {"OOP", true, false},
        {"OPP", false, false},     {"OPC", false, false},   {"OOuu", false, true},
        {"OOu", true, false}, /* whatever that one is */
        {"OOCuu", false, true},    {"OOCCu", false, false}, {"Oooooo", false, false},
        {"OOoooCC", false, false}, {"OOoooC", true, false}, {"Oooooo", false, false},
        {"FFFF", false, false},    {"OFFFF", false, false}, {"OOfffMMM", true, false},
        {"ooohhh", false, false},  {"OO----", true, false}, {"hhhO", false, false},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct breaker_scope s = judged(rows[i].members);
        if (breaker_scope_ill(&s) != rows[i].ill || breaker_scope_unsure(&s) != rows[i].unsure)
            fail_msg("%s: ill %d, unsure %d", rows[i].members, breaker_scope_ill(&s), breaker_scope_unsure(&s));
    }
    struct breaker_scope s = judged("CoOHO");
    assert_int_equal(s.until_ms, T0 + 1004); /* not that of what was opened because of it */
    assert_int_equal(s.first_ms, T0 - 98);
    assert_int_equal(s.newest_ms, T0 - 96);
}

/* ---- one member ---- */

static struct breaker closed(void)
{
    struct breaker b = {0};
    breaker_decide(&b, &rule, &(struct breaker_event){.kind = BREAKER_EV_INITIAL}, T0);
    return b;
}

static struct breaker_result scope(struct breaker *b, const char *name, bool ill, int64_t until_ms, int64_t newest_ms,
                                   int64_t now_ms)
{
    struct breaker_event ev = {
        .kind = BREAKER_EV_SCOPE,
        .u.scope = {.name = name, .ill = ill, .until_ms = until_ms, .first_ms = T0 + 3, .newest_ms = newest_ms}};
    return breaker_decide(b, &rule, &ev, now_ms);
}

static void test_member(void **unused)
{
    (void)unused;
    struct breaker b = closed();
    assert_true(scope(&b, "account", true, T0 + 5000, T0 + 50, T0 + 100).changed);
    assert_int_equal(b.state, BREAKER_OPEN);
    assert_int_equal(b.reason, BREAKER_BY_SCOPE);
    assert_int_equal(b.until_ms, T0 + 5000);
    assert_int_equal(b.evidence_ms, T0 + 3);
    assert_string_equal(b.scope, "account");
    /* Said again, or by another scope of it: no epoch. */
    assert_false(scope(&b, "account", true, T0 + 9000, T0 + 60, T0 + 200).changed);
    assert_false(scope(&b, "provider", false, 0, 0, T0 + 300).changed);
    assert_true(scope(&b, "account", false, 0, 0, T0 + 400).changed);
    assert_int_equal(b.state, BREAKER_HALF_OPEN);
    assert_int_equal(b.reason, BREAKER_BY_SCOPE_ENDED);
    assert_string_equal(b.scope, "account"); /* until its own trial says more */
    assert_false(scope(&b, "account", false, 0, 0, T0 + 500).changed);
    /* Its trial fails: now the evidence is its own, and people are told. */
    struct breaker_event ask = {.kind = BREAKER_EV_ALLOW, .u.allow = {.holder = "mcp"}};
    breaker_decide(&b, &rule, &ask, T0 + 600);
    struct breaker passed = b;
    struct breaker_event end = {.kind = BREAKER_EV_OUTCOME,
                                .u.outcome = {.permit_id = b.permit.id, .data_path = true}};
    breaker_decide(&b, &rule, &end, T0 + 700);
    assert_int_equal(b.state, BREAKER_OPEN);
    assert_null(b.scope);
    assert_int_equal(b.evidence_ms, T0 + 700);
    assert_true(breaker_own_evidence(b.previous, b.reason, b.evidence_ms, b.changed_ms));
    /* It passes: the ramp, and closed; the same outage does not open it again, a new one does. */
    end.u.outcome.good = true;
    b = passed;
    breaker_decide(&b, &rule, &end, T0 + 700);
    assert_int_equal(b.state, BREAKER_PROBATION);
    assert_null(b.scope);
    struct breaker_event totals = {.kind = BREAKER_EV_TOTALS, .u.totals = {.calls = 1, .passed = 1}};
    for (int i = 1; i <= 4; i++)
        breaker_decide(&b, &rule, &totals, T0 + 700 + i * 500);
    assert_int_equal(b.state, BREAKER_CLOSED);
    assert_false(scope(&b, "account", true, T0 + 50000, T0 + 60, T0 + 3000).changed);
    assert_true(scope(&b, "account", true, T0 + 50000, T0 + 2900, T0 + 3000).changed);
    /* Left alone it is tried as any other when its time is over. */
    breaker_decide(&b, &rule, &(struct breaker_event){.kind = BREAKER_EV_TOTALS}, T0 + 50000);
    assert_int_equal(b.state, BREAKER_HALF_OPEN);
    assert_int_equal(b.reason, BREAKER_BY_ELAPSED);
    /* An ordinary failed trial raises nothing anew. */
    b = closed();
    totals.u.totals =
        (struct breaker_totals){.calls = 5, .failures = 5, .consecutive = 5, .reporters = 1, .failing = 1};
    breaker_decide(&b, &rule, &totals, T0 + 100);
    breaker_decide(&b, &rule, &(struct breaker_event){.kind = BREAKER_EV_TOTALS}, b.until_ms);
    breaker_decide(&b, &rule, &ask, b.changed_ms + 1);
    end.u.outcome.permit_id = b.permit.id;
    end.u.outcome.good = false;
    breaker_decide(&b, &rule, &end, b.changed_ms + 1);
    assert_int_equal(b.state, BREAKER_OPEN);
    assert_false(breaker_own_evidence(b.previous, b.reason, b.evidence_ms, b.changed_ms));
}

/* ---- many members, at random ---- */

static uint64_t rng;

static uint64_t rnd(uint64_t n)
{
    rng ^= rng << 13;
    rng ^= rng >> 7;
    rng ^= rng << 17;
    return rng % n;
}

enum { MEMBERS = 9 };
struct world {
    struct breaker b[MEMBERS];
    bool called[MEMBERS], down[MEMBERS];
    int64_t now_ms;
    uint64_t seed, widened;
};

#define REQUIRE(w, what)                                                                                             \
    do {                                                                                                             \
        if (!(what))                                                                                                 \
            fail_msg("seed %llu at %lld ms: %s", (unsigned long long)(w)->seed, (long long)((w)->now_ms - T0),       \
                     #what);                                                                                         \
    } while (0)

static struct breaker_result decide(struct world *w, int i, struct breaker_event ev)
{
    struct breaker was = w->b[i];
    struct breaker_result r = breaker_decide(&w->b[i], &rule, &ev, w->now_ms);
    REQUIRE(w, breaker_sm.invariant(&w->b[i]));
    if (ev.kind == BREAKER_EV_SCOPE && r.changed) {
        REQUIRE(w, was.state == BREAKER_CLOSED || was.scope);
        REQUIRE(w, w->b[i].state == BREAKER_HALF_OPEN || w->b[i].scope);
    }
    return r;
}

static void one_step(struct world *w, int i)
{
    struct breaker *b = &w->b[i];
    bool good = !w->down[i];
    struct breaker_event totals = {.kind = BREAKER_EV_TOTALS};
    if (w->called[i] && (b->state == BREAKER_CLOSED || b->state == BREAKER_PROBATION)) {
        uint32_t n = good ? 0 : 6;
        totals.u.totals = (struct breaker_totals){.calls = 6,
                                                  .failures = n,
                                                  .consecutive = n,
                                                  .reporters = 1,
                                                  .failing = n > 0,
                                                  .passed = 6 - n,
                                                  .run_since_ms = n ? w->now_ms - 5 : 0,
                                                  .first_failure_ms = n ? w->now_ms - 5 : 0};
    }
    if (b->state != BREAKER_NONE)
        decide(w, i, totals);
    if (b->state == BREAKER_HALF_OPEN && rnd(3) == 0) {
        uint64_t id =
            decide(w, i, (struct breaker_event){.kind = BREAKER_EV_ALLOW, .u.allow = {.holder = "mcp"}}).permit_id;
        if (id)
            decide(w, i,
                   (struct breaker_event){.kind = BREAKER_EV_OUTCOME,
                                          .u.outcome = {.permit_id = id, .good = good, .data_path = true}});
    }
}

static bool judge(struct world *w)
{
    struct breaker_scope s = {0};
    uint32_t own = 0;
    for (int i = 0; i < MEMBERS; i++) {
        breaker_scope_add(&s, &w->b[i], w->called[i] ? BREAKER_CALLED_YES : BREAKER_CALLED_NO);
        own += (w->b[i].state == BREAKER_OPEN || w->b[i].state == BREAKER_HALF_OPEN) && !w->b[i].scope;
    }
    bool ill = breaker_scope_ill(&s);
    REQUIRE(w, !ill || own >= 2);
    for (int i = 0; i < MEMBERS; i++) {
        struct breaker_event ev = {.kind = BREAKER_EV_SCOPE,
                                   .u.scope = {.name = "account",
                                               .ill = ill,
                                               .until_ms = s.until_ms,
                                               .first_ms = s.first_ms,
                                               .newest_ms = s.newest_ms}};
        if (decide(w, i, ev).changed && ill) {
            w->widened++;
            REQUIRE(w, w->b[i].until_ms <= s.until_ms);
        }
        /* What is well for all: nobody stays away because of it. */
        REQUIRE(w, ill || !(w->b[i].state == BREAKER_OPEN && w->b[i].scope));
    }
    return ill;
}

static uint64_t story(uint64_t seed)
{
    rng = seed * UINT64_C(0x9e3779b97f4a7c15) + 1;
    struct world w = {.now_ms = T0, .seed = seed};
    int n_down = (int)rnd(MEMBERS + 1), forced = (int)rnd(MEMBERS);
    for (int i = 0; i < MEMBERS; i++) {
        decide(&w, i, (struct breaker_event){.kind = BREAKER_EV_INITIAL});
        w.called[i] = rnd(4) != 0;
    }
    bool by_person = rnd(2);
    if (by_person)
        decide(&w, forced,
               (struct breaker_event){.kind = rnd(2) ? BREAKER_EV_OPEN : BREAKER_EV_CLOSE,
                                      .u.person = {.by = "eve", .why = "drift"}});
    uint64_t epoch = w.b[forced].epoch;
    int called_down = 0;
    for (int i = 0; i < n_down; i++) {
        w.down[i] = true;
        called_down += w.called[i] && !(by_person && i == forced);
    }
    for (int step = 0; step < 200; step++) {
        w.now_ms += (int64_t)rnd(200);
        one_step(&w, (int)rnd(MEMBERS));
        if (rnd(2))
            judge(&w);
    }
    REQUIRE(&w, called_down >= 2 || w.widened == 0); /* one bad model never opens the account */
    REQUIRE(&w, !by_person || w.b[forced].epoch == epoch);
    /* All is well again: everything that may closes, the scope is well, and nothing was opened for long. */
    memset(w.down, 0, sizeof w.down);
    for (int step = 0; step < 3000; step++) {
        w.now_ms += (int64_t)rnd(100);
        int i = (int)rnd(MEMBERS);
        w.called[i] |= w.b[i].state != BREAKER_CLOSED; /* somebody tries */
        one_step(&w, i);
        judge(&w);
    }
    REQUIRE(&w, !judge(&w));
    for (int i = 0; i < MEMBERS; i++)
        REQUIRE(&w, w.b[i].state == BREAKER_CLOSED || (by_person && i == forced));
    return w.widened;
}

static void test_stories(void **unused)
{
    (void)unused;
    uint64_t widened = 0;
    const char *one = getenv("SEED");
    if (one) {
        story(strtoull(one, NULL, 10));
        return;
    }
    for (uint64_t seed = 1; seed <= 1000; seed++)
        widened += story(seed);
    print_message("1000 stories: %llu members opened because of their scope\n", (unsigned long long)widened);
    assert_true(widened > 100);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_judge), cmocka_unit_test(test_member),
                                       cmocka_unit_test(test_stories)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
