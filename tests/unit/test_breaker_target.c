/* test_breaker_target.c - when the engine flushes: failures at once, successes when they may make a difference; and who waits in line. */
#include "breaker/line.h"
#include "breaker/target.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define T0 INT64_C(1700000000000)
static const struct breaker_rule rule = {.window_ms = 30000,
                                         .min_calls = 10,
                                         .failure_percent = 50,
                                         .consecutive = 5,
                                         .slow_ms = 1000,
                                         .open_ms = 1000,
                                         .open_max_ms = 4000,
                                         .permit_ms = 1500,
                                         .ramp_step_ms = 1000,
                                         .min_reporters = 2};

/* A store in memory that answers when it is told to, and counts what it is asked. */
static struct {
    int64_t now_ms, wake_ms;
    int flushes, puts, hurries, announced;
    struct breaker_window window;
    struct breaker doc, next;
    struct breaker_delta sent;
    uint64_t asked;
    int advices;
    char scope[32], by[32]; /* as announced */
    bool found, up;
} W;

static void io_flush(struct breaker_target *t, const struct breaker_delta *d, uint64_t have)
{
    (void)t;
    W.flushes++;
    W.sent = *d;
    W.asked = have;
}

static void io_put(struct breaker_target *t, const struct breaker *b, bool over, bool pending)
{
    (void)t, (void)over, (void)pending;
    W.puts++;
    W.next = *b;
}

static void io_announce(struct breaker_target *t, const struct breaker *b)
{
    (void)t;
    W.announced++;
    snprintf(W.scope, sizeof W.scope, "%s", b->scope ? b->scope : "");
    snprintf(W.by, sizeof W.by, "%s", b->forced_by ? b->forced_by : "");
}

static void io_pending(struct breaker_target *t, bool first_sight)
{
    (void)t, (void)first_sight;
}

static void io_answer(struct breaker_target *t, struct breaker_request *q, enum breaker_answer a,
                      const struct breaker_result *r)
{
    (void)t, (void)a, (void)r;
    free(q); /* the shell's: its texts go with it */
}

static void io_wake_at(struct breaker_target *t, int64_t at_ms)
{
    (void)t;
    W.wake_ms = at_ms;
}

static void io_would_open(struct breaker_target *t, int reason)
{
    (void)t, (void)reason;
}

static int64_t io_now(struct breaker_target *t)
{
    (void)t;
    return W.now_ms;
}

static bool io_up(struct breaker_target *t)
{
    (void)t;
    return W.up;
}

static bool io_yes(struct breaker_target *t)
{
    (void)t;
    return true;
}

static void io_hurry(struct breaker_target *t)
{
    (void)t;
    W.hurries++;
}

static const struct breaker_io io = {.flush = io_flush,
                                     .put = io_put,
                                     .announce = io_announce,
                                     .pending = io_pending,
                                     .answer = io_answer,
                                     .wake_at = io_wake_at,
                                     .would_open = io_would_open,
                                     .now_ms = io_now,
                                     .up = io_up,
                                     .may_act = io_yes,
                                     .synced = io_yes};
static void io_advise(struct breaker_target *t)
{
    (void)t;
    W.advices++;
}

static const struct breaker_hooks hooks = {.hurry = io_hurry, .advise = io_advise};

static void answer(struct breaker_target *t)
{
    if (t->phase == BREAKER_PUTTING) {
        W.doc = W.next;
        W.found = true;
        breaker_target_stored(t, BREAKER_PUT_WON, NULL);
        return;
    }
    struct breaker_flushed f = {
        .ok = true,
        .found = !W.found                 ? BREAKER_FOUND_NONE
                 : W.doc.epoch == W.asked ? BREAKER_FOUND_SAME
                                          : BREAKER_FOUND_OTHER,
        .doc = &W.doc,
        .totals = breaker_window_merge(&W.window, W.found ? W.doc.epoch : 0, (struct breaker_span){.per_ms = 3000},
                                       W.now_ms, W.sent.calls ? &W.sent : NULL),
    };
    breaker_target_flushed(t, &f);
}

static void settle(struct breaker_target *t)
{
    while (!breaker_target_idle(t))
        answer(t);
}

static void report(struct breaker_target *t, int outcome, int64_t total_ms, uint64_t permit)
{
    struct breaker_report r = {
        .outcome = outcome, .total_ms = total_ms, .ended_ms = W.now_ms, .data_path = true, .reporter = 1};
    breaker_target_report(t, &r, permit);
    breaker_target_kick(t);
}

/* A closed breaker whose window counts. */
static struct breaker_target *ready(void)
{
    struct breaker_target *t = calloc(1, sizeof *t);
    assert_non_null(t);
    memset(&W, 0, sizeof W);
    W.now_ms = T0;
    W.up = true;
    breaker_target_init(t, &io, NULL, &rule);
    t->hooks = &hooks;
    breaker_target_wake(t);
    settle(t);
    assert_int_equal(t->doc.state, BREAKER_CLOSED);
    W.now_ms += 5000;
    return t;
}

static void done(struct breaker_target *t)
{
    settle(t);
    breaker_target_done(t);
    free(t);
}

enum { SUCCESS = 1, ERROR = 2 };

static void test_successes_wait(void **unused)
{
    (void)unused;
    struct breaker_target *t = ready();
    report(t, SUCCESS, 1, 0); /* nothing is known of the window for a while: this one looks */
    assert_int_equal(t->phase, BREAKER_FLUSHING);
    settle(t);
    int before = W.flushes;
    for (int i = 0; i < 100; i++)
        for (int k = 0; k < 10; k++, W.now_ms += k % 2)
            report(t, SUCCESS, 1, 0);
    int flushes = W.flushes - before; /* 500 ms have passed */
    assert_in_range(flushes, 0, 1);
    settle(t);
    /* Their turn comes by itself. */
    report(t, SUCCESS, 1, 0);
    assert_true(W.wake_ms > W.now_ms && W.wake_ms <= W.now_ms + 500);
    W.now_ms = W.wake_ms;
    before = W.flushes;
    breaker_target_wake(t);
    settle(t);
    assert_int_equal(W.flushes, before + 1);
    assert_int_equal(W.window.calls, 1 + 1000 + 1);
    done(t);
}

static void test_what_does_not_wait(void **unused)
{
    (void)unused;
    struct breaker_target *t = ready();
    report(t, SUCCESS, 1, 0);
    settle(t);
    report(t, ERROR, 1, 0); /* a failure */
    assert_int_equal(t->phase, BREAKER_FLUSHING);
    settle(t);
    report(t, SUCCESS, 1, 0); /* a success that ends a run */
    assert_int_equal(t->phase, BREAKER_FLUSHING);
    settle(t);
    assert_int_equal(W.window.consecutive, 0);
    W.now_ms += 40000; /* the failure is forgotten */
    report(t, SUCCESS, 1, 0);
    settle(t);
    report(t, SUCCESS, 1, 0);
    assert_int_equal(t->phase, BREAKER_IDLE);
    report(t, SUCCESS, 5000, 0); /* slow: with what waited */
    assert_int_equal(t->phase, BREAKER_FLUSHING);
    assert_int_equal(W.sent.calls, 2);
    settle(t);
    W.now_ms += 40000;
    report(t, SUCCESS, 1, 0);
    settle(t);
    report(t, SUCCESS, 1, 7); /* under a permit */
    assert_int_equal(t->phase, BREAKER_FLUSHING);
    settle(t);
    report(t, SUCCESS, 1, 0);
    assert_int_equal(t->phase, BREAKER_IDLE);
    breaker_target_drain(t); /* the end */
    assert_int_equal(t->phase, BREAKER_FLUSHING);
    settle(t);
    report(t, SUCCESS, 1, 0);
    assert_int_equal(t->phase, BREAKER_FLUSHING);
    done(t);
}

static void test_trials_do_not_wait(void **unused)
{
    (void)unused;
    struct breaker_target *t = ready();
    for (int i = 0; i < 5; i++)
        report(t, ERROR, 1, 0);
    settle(t);
    assert_int_equal(t->doc.state, BREAKER_OPEN);
    assert_int_equal(W.announced, 2);
    for (int i = 0; i < 3; i++) {
        report(t, SUCCESS, 1, 0);
        assert_int_equal(t->phase, BREAKER_FLUSHING);
        settle(t);
    }
    W.now_ms = t->doc.until_ms;
    breaker_target_wake(t);
    settle(t);
    assert_int_equal(t->doc.state, BREAKER_HALF_OPEN);
    report(t, SUCCESS, 1, 0);
    assert_int_equal(t->phase, BREAKER_FLUSHING);
    done(t);
}

/* A trial that is good but slow; and told twice and differently, the stricter word holds, in whichever order it comes. */
static void test_slow_trial(void **unused)
{
    (void)unused;
    static const struct {
        int outcome[2];
        int64_t total_ms[2];
        int to;
    } told[] = {{{SUCCESS, SUCCESS}, {1, 1}, BREAKER_PROBATION},
                {{SUCCESS, SUCCESS}, {1, 1000}, BREAKER_OPEN},
                {{SUCCESS, SUCCESS}, {1000, 1}, BREAKER_OPEN},
                {{SUCCESS, ERROR}, {1, 1}, BREAKER_OPEN},
                {{ERROR, SUCCESS}, {1, 1000}, BREAKER_OPEN}};
    for (size_t i = 0; i < sizeof told / sizeof told[0]; i++) {
        struct breaker_target *t = ready();
        t->rule.slow_percent = 50;
        for (int k = 0; k < 5; k++)
            report(t, ERROR, 1, 0);
        settle(t);
        W.now_ms = t->doc.until_ms;
        breaker_target_wake(t);
        settle(t);
        struct breaker_request *q = calloc(1, sizeof *q);
        assert_non_null(q);
        q->ev = (struct breaker_event){.kind = BREAKER_EV_ALLOW, .u.allow = {.holder = "one"}};
        breaker_target_request(t, q);
        settle(t);
        assert_int_equal(t->doc.permit.id, 1);
        for (int k = 0; k < 2; k++) {
            struct breaker_report r = {
                .outcome = told[i].outcome[k], .total_ms = told[i].total_ms[k], .ended_ms = W.now_ms, .reporter = 1};
            breaker_target_report(t, &r, 1);
        }
        breaker_target_kick(t);
        settle(t);
        assert_int_equal(t->doc.state, told[i].to);
        done(t);
    }
}

/* What comes while a flush waits for its turn goes along with it; a failure makes it go before others. */
static void test_top_up(void **unused)
{
    (void)unused;
    struct breaker_target *t = ready();
    report(t, SUCCESS, 1, 0);
    assert_false(breaker_target_urgent(t));
    report(t, ERROR, 1, 0);
    assert_int_equal(W.hurries, 1);
    report(t, ERROR, 1, 0);
    breaker_target_top_up(t);
    assert_true(breaker_target_urgent(t));
    assert_int_equal(t->flying.calls, 3);
    assert_int_equal(t->flying.lead + t->flying.tail, 2);
    W.sent = t->flying;
    int before = W.flushes;
    settle(t);
    assert_int_equal(W.flushes, before); /* nothing is left to go round again for */
    assert_int_equal(W.window.calls, 3);
    done(t);
}

/* ---- the store is away ---- */

static void as(struct breaker_target *t, uint64_t reporter, int outcome, int n)
{
    for (; n > 0; n--) {
        struct breaker_report r = {
            .outcome = outcome, .total_ms = 1, .ended_ms = W.now_ms, .data_path = true, .reporter = reporter};
        breaker_target_report(t, &r, 0);
        breaker_target_kick(t);
    }
}

/* Nothing moves while it is away; what this replica has seen makes it advise, try, and at last merge. */
static void test_away(void **unused)
{
    (void)unused;
    struct breaker_target *t = ready();
    report(t, SUCCESS, 1, 0);
    settle(t);
    W.up = false;
    int flushes = W.flushes;
    uint64_t epoch = t->doc.epoch;
    as(t, 1, ERROR, 4);
    assert_int_equal(W.advices, 0);
    as(t, 1, ERROR, 10); /* who reports first is not all there is */
    assert_int_equal(W.advices, 0);
    W.now_ms += 3000;
    breaker_target_wake(t);
    assert_int_equal(W.advices, 1);
    assert_true(breaker_away_holds(t->away, W.now_ms));
    assert_int_equal(t->away->reason, BREAKER_BY_CONSECUTIVE);
    assert_int_equal(t->away->until_ms, W.now_ms + 1000);
    assert_int_equal(W.wake_ms, t->away->until_ms);
    as(t, 1, ERROR, 100); /* no change, no end that moves */
    assert_int_equal(W.advices, 1);
    /* Its time over: a try. It fails: longer. */
    for (int n = 2; n <= 6; n++) {
        W.now_ms = t->away->until_ms;
        breaker_target_wake(t);
        assert_int_equal(t->away->state, BREAKER_AWAY_TRIES);
        as(t, 1, ERROR, 20);
        W.now_ms += 3000;
        breaker_target_wake(t);
        assert_int_equal(t->away->state, BREAKER_AWAY_HOLDS);
        assert_int_equal(t->away->until_ms - W.now_ms, n < 4 ? n * 1000 : 4000);
    }
    /* It passes: as the document says. */
    W.now_ms = t->away->until_ms;
    breaker_target_wake(t);
    as(t, 1, SUCCESS, 20);
    W.now_ms += 30000;
    breaker_target_wake(t);
    assert_int_equal(t->away->state, BREAKER_AWAY_FOLLOWS);
    assert_int_equal(t->away->holds, 0);
    assert_int_equal(W.flushes, flushes);
    assert_int_equal(W.puts, 1); /* the first document */
    assert_int_equal(t->doc.epoch, epoch);
    /* Bad again, and it is back: all of it counts, and the advice ends. */
    as(t, 1, ERROR, 20);
    W.now_ms += 3000;
    breaker_target_wake(t);
    assert_int_equal(t->away->state, BREAKER_AWAY_HOLDS);
    int advices = W.advices;
    W.up = true;
    breaker_target_wake(t);
    assert_null(t->away);
    assert_int_equal(W.advices, advices + 1);
    settle(t);
    assert_int_equal(t->doc.state, BREAKER_OPEN);
    assert_int_equal(t->doc.epoch, epoch + 1);
    done(t);
}

static void test_away_votes(void **unused)
{
    (void)unused;
    struct breaker_target *t = ready();
    as(t, 1, SUCCESS, 1);
    as(t, 2, SUCCESS, 1);
    settle(t);
    W.up = false;
    as(t, 1, ERROR, 500); /* the other one reports to another replica */
    W.now_ms += 3000;
    breaker_target_wake(t);
    assert_int_equal(W.advices, 0);
    as(t, 2, SUCCESS, 1);
    as(t, 1, ERROR, 500); /* one of two */
    assert_int_equal(W.advices, 0);
    as(t, 2, ERROR, 5);
    assert_int_equal(W.advices, 1);
    /* A later word of the shared state, by whoever reaches it, ends it. */
    struct breaker later = t->doc;
    later.epoch++;
    breaker_target_seen(t, &later);
    assert_int_equal(W.advices, 2);
    assert_false(breaker_away_holds(t->away, W.now_ms));
    W.up = true;
    W.doc = later;
    done(t);
}

static void test_away_people(void **unused)
{
    (void)unused;
    /* What a person has closed stays as it was said; what is open needs no advice. */
    static const enum breaker_event_kind kinds[] = {BREAKER_EV_CLOSE, BREAKER_EV_OPEN, BREAKER_EV_METRICS};
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        struct breaker_target *t = ready();
        struct breaker forced = t->doc;
        struct breaker_event ev = {.kind = kinds[i], .u.person = {.by = "eve", .why = "drift"}};
        breaker_decide(&forced, &rule, &ev, W.now_ms);
        breaker_target_seen(t, &forced);
        W.up = false;
        as(t, 1, ERROR, 50);
        W.now_ms += 5000;
        breaker_target_wake(t);
        assert_int_equal(W.advices, 0);
        breaker_target_done(t);
        free(t);
    }
}

/* ---- texts: who asked may be gone, and the document may be another, before the store answers ---- */

struct person {
    struct breaker_request q; /* first */
    char by[8];
};

static void test_texts(void **unused)
{
    (void)unused;
    struct breaker_target *t = ready();
    char name[] = "account";
    struct breaker_scope ill = {.open = 2, .until_ms = W.now_ms + 9000, .first_ms = W.now_ms, .newest_ms = W.now_ms};
    breaker_target_scope(t, name, true, &ill);
    memset(name, 'x', sizeof name - 1);
    settle(t);
    assert_int_equal(t->doc.reason, BREAKER_BY_SCOPE);
    assert_string_equal(t->doc.scope, "account");
    assert_string_equal(W.scope, "account");
    breaker_target_scope(t, "account", false, &ill);
    settle(t);
    assert_int_equal(t->doc.reason, BREAKER_BY_SCOPE_ENDED);
    assert_string_equal(W.scope, "account");
    /* A person's order is on its way when all that wait are told that it is over. */
    struct person *x = calloc(1, sizeof *x);
    assert_non_null(x);
    memcpy(x->by, "eve", 4);
    x->q.ev = (struct breaker_event){.kind = BREAKER_EV_OPEN, .u.person = {.by = x->by, .why = x->by}};
    breaker_target_request(t, &x->q);
    while (t->phase != BREAKER_PUTTING)
        answer(t);
    breaker_target_refuse_all(t);
    breaker_target_stored(t, BREAKER_PUT_WON, NULL);
    assert_int_equal(t->doc.state, BREAKER_FORCED_OPEN);
    assert_string_equal(t->doc.forced_by, "eve");
    assert_string_equal(W.by, "eve");
    W.doc = t->doc;
    W.doc.forced_by = W.doc.forced_why = NULL;
    done(t);
}

static void test_line(void **unused)
{
    (void)unused;
    enum { N = 8 };
    struct breaker_line l = {.most = 2};
    struct breaker_waiter w[N] = {0};
    assert_true(breaker_line_enter(&l, &w[0], false));
    assert_true(breaker_line_enter(&l, &w[1], false));
    for (int i = 2; i < N; i++)
        assert_false(breaker_line_enter(&l, &w[i], i == 5));
    breaker_line_hurry(&l, &w[3]);
    breaker_line_hurry(&l, &w[3]);
    breaker_line_hurry(&l, &w[0]); /* it does not wait: nothing */
    assert_null(breaker_line_next(&l));
    static const int order[] = {5, 3, 2, 4, 6};
    for (size_t i = 0; i < sizeof order / sizeof order[0]; i++) {
        breaker_line_leave(&l);
        assert_ptr_equal(breaker_line_next(&l), &w[order[i]]);
        assert_null(breaker_line_next(&l));
    }
    assert_ptr_equal(breaker_line_give_up(&l), &w[7]);
    assert_null(breaker_line_give_up(&l));
    breaker_line_leave(&l);
    breaker_line_leave(&l);
    assert_int_equal(l.out, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_successes_wait),
        cmocka_unit_test(test_what_does_not_wait),
        cmocka_unit_test(test_trials_do_not_wait),
        cmocka_unit_test(test_slow_trial),
        cmocka_unit_test(test_top_up),
        cmocka_unit_test(test_away),
        cmocka_unit_test(test_away_votes),
        cmocka_unit_test(test_away_people),
        cmocka_unit_test(test_texts),
        cmocka_unit_test(test_line),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
