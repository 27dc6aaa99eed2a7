/* test_client_try.c - actions that wait for their guard: every answer, every position, and a seeded world that loses messages. */
#include "client/client_share.h"
#include "client/client_try.h"
#include "client/redoubt.h"
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#define DEADLINE 15000

static const struct client_where well = {.connected = true, .directed = true, .posture = REDOUBT_NORMAL, .epoch = 7};

static struct client_heard answer(int decision, int refusal)
{
    return (struct client_heard){.kind = CLIENT_HEARD_ANSWER, .epoch = 7, .decision = decision, .refusal = refusal};
}

/* One that was sent once, at 0. */
static void begin(struct client_try *t)
{
    client_try_init(t, 0, DEADLINE, false);
    assert_int_equal(client_try_turn(t, &well, 0).kind, CLIENT_TRY_SEND);
    struct client_next n = client_try_turn(t, &well, 0);
    assert_int_equal(n.kind, CLIENT_TRY_WAIT);
    assert_int_equal(n.at_ms, 2000);
}

static void assert_end(struct client_next n, int result, int refusal)
{
    assert_int_equal(n.kind, CLIENT_TRY_END);
    assert_int_equal(n.result, result);
    assert_int_equal(n.refusal, refusal);
}

static void an_answer_ends_it(void **state)
{
    (void)state;
    static const int ends[] = {REDOUBT_ACT_FORWARDED, REDOUBT_ACT_QUEUED, REDOUBT_ACT_DUPLICATE,
                               REDOUBT_ACT_PERMITTED, REDOUBT_ACT_FAILED};
    struct client_try t;
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++) {
        begin(&t);
        struct client_heard h = answer(ends[i], 0);
        assert_end(client_try_heard(&t, &well, &h, 5), ends[i], 0);
    }
}

/* Every reason that the contract knows, and one that it does not: over, or asked again, and when. */
static void every_refusal(void **state)
{
    (void)state;
    for (int reason = 0; reason <= 12; reason++) {
        bool later = reason == REDOUBT_REFUSED_STATE_UNKNOWN || reason == REDOUBT_REFUSED_IN_PROGRESS;
        bool stale = reason == REDOUBT_REFUSED_STALE_EPOCH;
        struct client_try t;
        begin(&t);
        struct client_heard h = answer(REDOUBT_ACT_REFUSED, reason);
        struct client_next n = client_try_heard(&t, &well, &h, 10);
        if (!later && !stale) {
            assert_end(n, REDOUBT_ACT_REFUSED, reason);
            continue;
        }
        assert_int_equal(n.kind, CLIENT_TRY_WAIT);
        assert_int_equal(n.at_ms, stale ? 3010 : 110);
        assert_int_equal(client_try_turn(&t, &well, n.at_ms - 1).kind, CLIENT_TRY_WAIT);
        n = client_try_turn(&t, &well, n.at_ms);
        if (stale)
            assert_end(n, REDOUBT_ACT_REFUSED, reason);
        else
            assert_int_equal(n.kind, CLIENT_TRY_SEND);
    }
}

static void the_pause_grows_and_may_be_asked_for(void **state)
{
    (void)state;
    static const int64_t pauses[] = {100, 200, 400, 800, 1600, 2000, 2000};
    struct client_try t;
    begin(&t);
    struct client_heard h = answer(REDOUBT_ACT_REFUSED, REDOUBT_REFUSED_STATE_UNKNOWN);
    int64_t now = 0;
    for (size_t i = 0; i < 7; i++) {
        struct client_next n = client_try_heard(&t, &well, &h, now);
        assert_int_equal(n.at_ms, now + pauses[i]);
        now = n.at_ms;
        assert_int_equal(client_try_turn(&t, &well, now).kind, CLIENT_TRY_SEND);
    }
    begin(&t);
    h.retry_after_ms = 700;
    assert_int_equal(client_try_heard(&t, &well, &h, 0).at_ms, 700);
    assert_int_equal(client_try_turn(&t, &well, 700).kind, CLIENT_TRY_SEND);
    h.retry_after_ms = 3600000; /* no guard can make us wait for ever */
    assert_int_equal(client_try_heard(&t, &well, &h, 700).at_ms, 5700);
}

/* A guard that was asked and is silent may have done it: from then on, no refusal is the whole truth. */
static void silence_makes_it_unknown(void **state)
{
    (void)state;
    struct client_try t;
    begin(&t);
    assert_int_equal(client_try_turn(&t, &well, 2000).kind, CLIENT_TRY_SEND); /* again, under the same key */
    struct client_heard h = answer(REDOUBT_ACT_REFUSED, REDOUBT_REFUSED_RATE_LIMITED);
    struct client_try copy = t;
    assert_end(client_try_heard(&copy, &well, &h, 2010), REDOUBT_ACT_UNKNOWN, REDOUBT_REFUSED_RATE_LIMITED);
    h = answer(REDOUBT_ACT_DUPLICATE, 0);
    copy = t;
    assert_end(client_try_heard(&copy, &well, &h, 2010), REDOUBT_ACT_DUPLICATE, 0);
    struct client_where frozen = well;
    frozen.posture = REDOUBT_FROZEN;
    copy = t;
    assert_end(client_try_turn(&copy, &frozen, 2010), REDOUBT_ACT_UNKNOWN, REDOUBT_REFUSED_FROZEN);
    /* Ever less often, and no longer than the deadline. */
    assert_int_equal(client_try_turn(&t, &well, 5999).kind, CLIENT_TRY_WAIT);
    assert_int_equal(client_try_turn(&t, &well, 6000).kind, CLIENT_TRY_SEND);
    assert_int_equal(client_try_turn(&t, &well, 6000).at_ms, 14000);
    assert_int_equal(client_try_turn(&t, &well, 14000).kind, CLIENT_TRY_SEND);
    assert_int_equal(client_try_turn(&t, &well, 14000).at_ms, DEADLINE);
    assert_end(client_try_turn(&t, &well, DEADLINE), REDOUBT_ACT_UNKNOWN, REDOUBT_REFUSED_UNREACHABLE);
    /* "Under way" says the same: an earlier sending is being carried out. */
    begin(&t);
    h = answer(REDOUBT_ACT_REFUSED, REDOUBT_REFUSED_IN_PROGRESS);
    assert_int_equal(client_try_heard(&t, &well, &h, 0).kind, CLIENT_TRY_WAIT);
    assert_end(client_try_turn(&t, &well, DEADLINE), REDOUBT_ACT_UNKNOWN, REDOUBT_REFUSED_IN_PROGRESS);
    /* And an answer that cannot be read. */
    begin(&t);
    h = (struct client_heard){.kind = CLIENT_HEARD_GARBAGE, .epoch = 7};
    assert_int_equal(client_try_heard(&t, &well, &h, 0).at_ms, 100);
    assert_end(client_try_turn(&t, &well, DEADLINE), REDOUBT_ACT_UNKNOWN, REDOUBT_REFUSED_UNREACHABLE);
}

static void nobody_there_is_certain(void **state)
{
    (void)state;
    struct client_try t;
    begin(&t);
    struct client_heard h = {.kind = CLIENT_HEARD_NOBODY, .epoch = 7};
    struct client_next n = client_try_heard(&t, &well, &h, 0);
    assert_int_equal(n.at_ms, 100);
    assert_end(client_try_turn(&t, &well, DEADLINE), REDOUBT_ACT_REFUSED, REDOUBT_REFUSED_UNREACHABLE);
    /* Its own end instead of the caller's patience. */
    client_try_init(&t, 0, 500, true);
    assert_end(client_try_turn(&t, &well, 500), REDOUBT_ACT_REFUSED, REDOUBT_REFUSED_EXPIRED);
}

static void not_sent_from_where_it_may_not(void **state)
{
    (void)state;
    static const struct {
        struct client_where w;
        int refusal;
    } rows[] = {
        {{.connected = true, .directed = true, .posture = REDOUBT_FROZEN, .epoch = 3}, REDOUBT_REFUSED_FROZEN},
        {{.connected = true, .directed = true, .posture = 0, .epoch = 3}, REDOUBT_REFUSED_FROZEN},
        {{.connected = true, .posture = REDOUBT_FROZEN}, REDOUBT_REFUSED_NO_DIRECTIVE},
        {{.posture = REDOUBT_FROZEN}, REDOUBT_REFUSED_NO_DIRECTIVE},
        {{.out_of_touch = true, .directed = true, .posture = REDOUBT_FROZEN, .epoch = 3},
         REDOUBT_REFUSED_OUT_OF_TOUCH},
        {{.out_of_touch = true, .posture = REDOUBT_FROZEN}, REDOUBT_REFUSED_OUT_OF_TOUCH},
        {{.connected = true, .out_of_touch = true, .directed = true, .posture = REDOUBT_NORMAL, .epoch = 3},
         REDOUBT_REFUSED_OUT_OF_TOUCH},
    };
    struct client_try t;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        client_try_init(&t, 0, DEADLINE, false);
        assert_end(client_try_turn(&t, &rows[i].w, 0), REDOUBT_ACT_REFUSED, rows[i].refusal);
        assert_int_equal(t.epoch, 0); /* it never left */
    }
    for (int posture = REDOUBT_NORMAL; posture < REDOUBT_FROZEN; posture++) { /* the guard's baseline has the word */
        struct client_where w = well;
        w.posture = posture;
        client_try_init(&t, 0, DEADLINE, false);
        assert_int_equal(client_try_turn(&t, &w, 0).kind, CLIENT_TRY_SEND);
    }
    /* Away for a moment: it waits. */
    struct client_where away = well;
    away.connected = false;
    client_try_init(&t, 0, DEADLINE, false);
    assert_int_equal(client_try_turn(&t, &away, 0).at_ms, DEADLINE);
    assert_int_equal(client_try_turn(&t, &well, 1).kind, CLIENT_TRY_SEND);
}

static void a_newer_directive_is_waited_for(void **state)
{
    (void)state;
    struct client_where newer = well;
    newer.epoch = 8;
    struct client_try t;
    struct client_heard stale = answer(REDOUBT_ACT_REFUSED, REDOUBT_REFUSED_STALE_EPOCH);
    begin(&t); /* the guard knows it before us */
    assert_int_equal(client_try_heard(&t, &well, &stale, 10).kind, CLIENT_TRY_WAIT);
    assert_int_equal(client_try_turn(&t, &newer, 40).kind, CLIENT_TRY_SEND);
    assert_int_equal(t.epoch, 8);
    stale.epoch = 8; /* and refused again: not for ever */
    assert_int_equal(client_try_heard(&t, &newer, &stale, 50).kind, CLIENT_TRY_WAIT);
    assert_end(client_try_turn(&t, &newer, 3050), REDOUBT_ACT_REFUSED, REDOUBT_REFUSED_STALE_EPOCH);
    begin(&t); /* ours came while the answer was on its way: at once */
    stale.epoch = 7;
    assert_int_equal(client_try_heard(&t, &newer, &stale, 10).kind, CLIENT_TRY_SEND);
    /* A late answer to the sending of old says nothing of the new one. */
    begin(&t);
    assert_int_equal(client_try_turn(&t, &newer, 2000).kind, CLIENT_TRY_SEND);
    assert_int_equal(client_try_heard(&t, &newer, &stale, 2010).at_ms, 6000);
}

static void a_share_is_spread_evenly(void **state)
{
    (void)state;
    for (unsigned percent = 0; percent <= 100; percent++) {
        for (uint32_t from = UINT32_MAX - 300; from != 0; from += 37) { /* also past the end of the counter */
            int taken = 0;
            for (uint32_t i = 0; i < 100 && from + 99 > from; i++)
                taken += client_share(from + i, percent);
            if (from + 99 > from)
                assert_int_equal(taken, percent);
            if (from > UINT32_MAX - 37)
                break;
        }
        unsigned run = 0; /* in no ten in a row more than one above or below their share */
        for (uint32_t i = 0; i < 10; i++)
            run += client_share(i, percent);
        assert_in_range(run, percent / 10, percent / 10 + 1);
    }
}

/* ---- a world that loses messages ---- */

static uint64_t seed;

static uint32_t pick(uint32_t below) /* xorshift64* */
{
    seed ^= seed >> 12;
    seed ^= seed << 25;
    seed ^= seed >> 27;
    return (uint32_t)((seed * UINT64_C(2685821657736338717)) >> 32) % below;
}

#define FLIGHTS 64
struct flight {
    enum { NONE, TO_GUARD, TO_CLIENT } way;
    int64_t at_ms;
    struct client_heard h;
};
struct world {
    struct flight flights[FLIGHTS];
    int in_the_air;
    struct client_where w;
    uint64_t guard_epoch;
    bool guard_frozen, guard_sure, guard_allows, guard_there;
    int64_t busy_until_ms; /* it executes; 0 = it does not */
    int executed, sendings;
};

static void fly(struct world *x, int way, int64_t at_ms, struct client_heard h)
{
    for (int i = 0; i < FLIGHTS; i++)
        if (x->flights[i].way == NONE) {
            x->flights[i] = (struct flight){way, at_ms, h};
            x->in_the_air++;
            return;
        }
    fail_msg("more than %d messages under way", FLIGHTS);
}

/* What the guard does with a request; its answer. */
static struct client_heard guard(struct world *x, uint64_t epoch, int64_t now, int64_t *ret_took)
{
    struct client_heard h = answer(REDOUBT_ACT_REFUSED, 0);
    h.epoch = epoch;
    *ret_took = 1 + pick(5);
    if (!x->guard_sure || epoch > x->guard_epoch)
        h.refusal = REDOUBT_REFUSED_STATE_UNKNOWN;
    else if (epoch < x->guard_epoch)
        h.refusal = REDOUBT_REFUSED_STALE_EPOCH;
    else if (x->guard_frozen)
        h.refusal = REDOUBT_REFUSED_FROZEN;
    else if (x->executed && now < x->busy_until_ms)
        h.refusal = REDOUBT_REFUSED_IN_PROGRESS;
    else if (x->executed)
        h.decision = REDOUBT_ACT_DUPLICATE;
    else if (!x->guard_allows)
        h.refusal = REDOUBT_REFUSED_NOT_ALLOWED;
    else {
        x->executed++;
        *ret_took = pick(4) ? 1 + pick(50) : 1 + pick(5000);
        x->busy_until_ms = now + *ret_took;
        h.decision = REDOUBT_ACT_FORWARDED;
    }
    return h;
}

static void change_something(struct world *x)
{
    switch (pick(9)) {
    case 0: /* the suite decides; the agent hears of it later */
        x->guard_epoch++;
        x->guard_frozen = pick(6) == 0;
        break;
    case 1:
    case 2:
        if (x->w.connected) {
            x->w.epoch = x->guard_epoch;
            x->w.posture = x->guard_frozen ? REDOUBT_FROZEN : REDOUBT_NORMAL;
        }
        break;
    case 3:
        x->w.connected = !x->w.connected;
        break;
    case 4:
        x->w.connected = true;
        break;
    case 5:
        x->guard_sure = pick(3) != 0;
        break;
    case 6:
        x->guard_there = pick(3) != 0;
        break;
    case 7:
        x->guard_allows = pick(3) != 0;
        break;
    default:
        break;
    }
}

/* Plays one action; returns how it ended. */
static struct client_next play(struct world *x, unsigned loss_percent)
{
    struct client_try t;
    struct client_next next = {.kind = CLIENT_TRY_WAIT, .at_ms = 0}, ended = {.kind = CLIENT_TRY_WAIT};
    client_try_init(&t, 0, DEADLINE, false);
    for (int64_t now = 0; now < 2 * DEADLINE; now++) {
        for (int i = 0; x->in_the_air > 0 && i < FLIGHTS; i++) {
            struct flight f = x->flights[i];
            if (f.way == NONE || f.at_ms > now)
                continue;
            x->flights[i].way = NONE;
            x->in_the_air--;
            if (f.way == TO_CLIENT) {
                if (ended.kind != CLIENT_TRY_END)
                    next = client_try_heard(&t, &x->w, &f.h, now);
            } else if (!x->guard_there) {
                f.h.kind = CLIENT_HEARD_NOBODY;
                fly(x, TO_CLIENT, now + 1, f.h);
            } else {
                int64_t took;
                struct client_heard h = guard(x, f.h.epoch, now, &took);
                if (pick(40) == 0)
                    h.kind = CLIENT_HEARD_GARBAGE;
                if (pick(100) >= loss_percent)
                    fly(x, TO_CLIENT, now + took + pick(20), h);
            }
            if (next.kind == CLIENT_TRY_END && ended.kind != CLIENT_TRY_END)
                ended = next;
        }
        bool changed = pick(300) == 0;
        if (changed)
            change_something(x);
        for (int i = 0;
             ended.kind != CLIENT_TRY_END && (changed || next.kind == CLIENT_TRY_SEND || now >= next.at_ms); i++) {
            assert_true(i < 3); /* one sending at a time */
            if (next.kind == CLIENT_TRY_SEND) {
                assert_true(x->w.connected && x->w.posture == REDOUBT_NORMAL && t.epoch == x->w.epoch);
                assert_true(now < DEADLINE);
                x->sendings++;
                /* What is lost on the way to the guard, or comes to it much later. */
                if (pick(100) >= loss_percent)
                    fly(x, TO_GUARD, now + 1 + (pick(20) ? pick(3) : pick(9000)),
                        (struct client_heard){.epoch = t.epoch});
            }
            next = client_try_turn(&t, &x->w, now);
            changed = false;
            if (next.kind == CLIENT_TRY_END)
                ended = next;
            else if (next.kind == CLIENT_TRY_WAIT)
                assert_true(next.at_ms > now && next.at_ms <= DEADLINE);
        }
        if (now > DEADLINE)
            assert_int_equal(ended.kind, CLIENT_TRY_END);
    }
    return ended;
}

static void what_it_ends_with_is_true(void **state)
{
    (void)state;
    const char *given = getenv("SEED");
    uint64_t first = given ? strtoull(given, NULL, 10) : (uint64_t)time(NULL) * 1000, rounds = given ? 1 : 1500;
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    rounds = given ? 1 : 100;
#endif
    if (getenv("VALGRIND"))
        rounds = 20;
    int results[8] = {0}, sendings = 0;
    for (uint64_t k = 0; k < rounds; k++) {
        seed = (first + k) * UINT64_C(0x9E3779B97F4A7C15) | 1;
        struct world x = {
            .w = well, .guard_epoch = 7, .guard_sure = pick(2), .guard_allows = pick(2), .guard_there = pick(2)};
        struct client_next n = play(&x, (unsigned)(first + k) % 4 * 20);
        bool ok = x.executed <= 1;
        if (n.result == REDOUBT_ACT_REFUSED)
            ok = ok && x.executed == 0; /* also when what was under way has arrived */
        if (n.result == REDOUBT_ACT_FORWARDED || n.result == REDOUBT_ACT_DUPLICATE)
            ok = ok && x.executed == 1;
        if (!ok)
            fail_msg("SEED=%" PRIu64 ": ended with %d, refusal %d, executed %d times", first + k, n.result, n.refusal,
                     x.executed);
        results[n.result]++;
        sendings += x.sendings;
    }
    print_message("%" PRIu64 " actions, %d sendings: %d forwarded, %d refused, %d duplicate, %d unknown\n", rounds,
                  sendings, results[1], results[3], results[4], results[7]);
    if (rounds >= 1000)
        assert_true(results[1] > 0 && results[3] > 0 && results[4] > 0 && results[7] > 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_answer_ends_it),
        cmocka_unit_test(every_refusal),
        cmocka_unit_test(the_pause_grows_and_may_be_asked_for),
        cmocka_unit_test(silence_makes_it_unknown),
        cmocka_unit_test(nobody_there_is_certain),
        cmocka_unit_test(not_sent_from_where_it_may_not),
        cmocka_unit_test(a_newer_directive_is_waited_for),
        cmocka_unit_test(a_share_is_spread_evenly),
        cmocka_unit_test(what_it_ends_with_is_true),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
