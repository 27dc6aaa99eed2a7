/* test_audit_care.c - when the trail of a replica that is gone is taken and let go: every state and event, and seeded lives of owners and keepers. */
#include "audit/audit_care.h"
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#define LIVES 3000
#define STEPS 400

static enum care_effect look(struct care *c, bool owned, uint64_t print, int64_t now_ms)
{
    return care_decide(c, &(struct care_event){.kind = CARE_LOOKED, .owned = owned, .print = print}, now_ms);
}
static enum care_effect say(struct care *c, enum care_event_kind kind, int64_t now_ms)
{
    return care_decide(c, &(struct care_event){.kind = kind, .print = 7}, now_ms);
}

static void test_taken_and_let_go(void **unused)
{
    (void)unused;
    struct care c = {0};
    assert_int_equal(look(&c, true, 1, 0), CARE_NOTHING);
    assert_int_equal(c.state, CARE_OWNED);
    assert_int_equal(look(&c, false, 1, 1000), CARE_NOTHING);
    assert_int_equal(c.state, CARE_GONE);
    /* One that is restarted has its own again. */
    assert_int_equal(look(&c, true, 1, 2000), CARE_NOTHING);
    assert_int_equal(look(&c, false, 1, 3000), CARE_NOTHING);
    assert_int_equal(look(&c, false, 1, 3000 + CARE_GONE_MS - 1), CARE_NOTHING);
    assert_int_equal(look(&c, false, 1, 3000 + CARE_GONE_MS), CARE_TAKE);
    assert_int_equal(say(&c, CARE_WORKED, 20000), CARE_JUDGE);
    assert_int_equal(say(&c, CARE_WORKED, 20001), CARE_FINISH);
    assert_int_equal(say(&c, CARE_WORKED, 20002), CARE_CLOSE);
    assert_true(care_locked(&c));
    assert_int_equal(say(&c, CARE_WORKED, 20003), CARE_SERVE);
    assert_int_equal(c.state, CARE_KEPT);
    assert_false(care_locked(&c));
    assert_false(care_asks_owner(&c)); /* asking would be in the way of whoever starts */
    /* As it was left: for ever. */
    assert_int_equal(look(&c, false, 7, 20003 + 100 * CARE_AGAIN_MS), CARE_NOTHING);
    /* An owner was there. */
    assert_int_equal(look(&c, false, 8, 20003 + 100 * CARE_AGAIN_MS), CARE_DROP);
    assert_int_equal(c.state, CARE_OWNED);
}

static void test_retention_comes_back(void **unused)
{
    (void)unused;
    struct care c = {.state = CARE_KEPT, .print = 7, .done = true, .since_ms = 1000};
    struct care_event ev = {.kind = CARE_LOOKED, .print = 7, .keeps = true};
    assert_int_equal(care_decide(&c, &ev, 1000 + CARE_AGAIN_MS - 1), CARE_NOTHING);
    assert_int_equal(care_decide(&c, &ev, 1000 + CARE_AGAIN_MS), CARE_DROP);
    assert_int_equal(care_decide(&c, &ev, 1001 + CARE_AGAIN_MS), CARE_TAKE);
}

static void test_what_fails_and_what_hangs(void **unused)
{
    (void)unused;
    static const struct {
        enum care_state state;
        int64_t limit_ms;
    } rows[] = {{CARE_OPENS, 0}, {CARE_JUDGES, CARE_JUDGE_MS}, {CARE_CATCHES_UP, CARE_CATCH_UP_MS}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct care c = {.state = rows[i].state, .since_ms = 500};
        assert_int_equal(say(&c, CARE_FAILED, 600), CARE_CLOSE);
        assert_int_equal(say(&c, CARE_WORKED, 700), CARE_NOTHING); /* closed */
        assert_int_equal(c.state, CARE_REFUSED);
        assert_int_equal(look(&c, false, 7, 700 + CARE_RETRY_MS - 1), CARE_NOTHING);
        assert_int_equal(look(&c, false, 7, 700 + CARE_RETRY_MS), CARE_DROP);
        assert_int_equal(look(&c, false, 7, 701 + CARE_RETRY_MS), CARE_TAKE);
        if (!rows[i].limit_ms)
            continue;
        c = (struct care){.state = rows[i].state, .since_ms = 500};
        assert_int_equal(look(&c, false, 7, 499 + rows[i].limit_ms), CARE_NOTHING);
        assert_int_equal(look(&c, false, 7, 500 + rows[i].limit_ms), CARE_CLOSE);
    }
}

/* What belongs to no state changes nothing. */
static void test_stray_events(void **unused)
{
    (void)unused;
    static const enum care_state waits[] = {CARE_OWNED, CARE_GONE, CARE_KEPT, CARE_REFUSED};
    for (size_t i = 0; i < sizeof waits / sizeof *waits; i++)
        for (int k = CARE_WORKED; k <= CARE_FAILED; k++) {
            struct care c = {.state = waits[i], .since_ms = 5, .print = 9, .done = waits[i] == CARE_KEPT};
            assert_int_equal(say(&c, (enum care_event_kind)k, 50), CARE_NOTHING);
            assert_int_equal(c.state, waits[i]);
            assert_int_equal(c.since_ms, 5);
            assert_true(care_ok(&c));
        }
    struct care c = {.state = CARE_CLOSES};
    assert_int_equal(say(&c, CARE_FAILED, 50), CARE_NOTHING);
    assert_int_equal(c.state, CARE_CLOSES);
    for (int s = 0; s < CARE_STATES; s++)
        assert_non_null(care_state_name((enum care_state)s));
}

static uint64_t draw(uint64_t *rng, uint64_t below)
{
    *rng ^= *rng << 13;
    *rng ^= *rng >> 7;
    *rng ^= *rng << 17;
    return (*rng >> 11) % below;
}

/* An owner that comes and goes, work that ends, fails or hangs: never taken while there is an owner or sooner than it may come back, never without an end. */
static void test_lives(void **unused)
{
    (void)unused;
    for (uint64_t life = 1; life <= LIVES; life++) {
        uint64_t rng = life * 0x9e3779b97f4a7c15u | 1, print = 1;
        struct care c = {0};
        int64_t now_ms = 0, gone_ms = -1;
        bool owner = false;
        for (int i = 0; i < STEPS; i++) {
            now_ms += (int64_t)draw(&rng, 4) * 700;
            if (draw(&rng, 12) == 0 && !care_locked(&c)) {
                owner = !owner;
                gone_ms = owner ? -1 : now_ms;
                print += owner;
            }
            enum care_event_kind kind = draw(&rng, 3) ? CARE_LOOKED : draw(&rng, 4) ? CARE_WORKED : CARE_FAILED;
            struct care_event ev = {.kind = kind, .owned = owner, .print = print, .keeps = draw(&rng, 2) == 0};
            struct care was = c;
            enum care_effect effect = care_decide(&c, &ev, now_ms);
            if (!care_ok(&c))
                fail_msg("life %" PRIu64 " step %d: %s is not whole", life, i, care_state_name(c.state));
            if (effect == CARE_TAKE && (owner || (gone_ms >= 0 && was.state != CARE_GONE)))
                fail_msg("life %" PRIu64 " step %d: taken from %s", life, i, care_state_name(was.state));
            if (effect == CARE_TAKE)
                assert_true(kind == CARE_LOOKED && care_locked(&c));
            if (care_locked(&was) && !care_locked(&c))
                assert_true(was.state == CARE_CLOSES && kind == CARE_WORKED);
            if (effect == CARE_SERVE)
                assert_true(was.done && c.print == print);
            if (was.state == CARE_KEPT && kind == CARE_LOOKED && print != was.print)
                assert_int_equal(effect, CARE_DROP);
        }
        /* Left alone, with work that ends, it is kept in the end. */
        owner = false;
        for (int i = 0; i < 400 && c.state != CARE_KEPT; i++) {
            now_ms += 1000;
            struct care_event ev = {.kind = care_locked(&c) ? CARE_WORKED : CARE_LOOKED, .print = print};
            (void)care_decide(&c, &ev, now_ms);
        }
        assert_int_equal(c.state, CARE_KEPT);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_taken_and_let_go),
        cmocka_unit_test(test_retention_comes_back),
        cmocka_unit_test(test_what_fails_and_what_hangs),
        cmocka_unit_test(test_stray_events),
        cmocka_unit_test(test_lives),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
