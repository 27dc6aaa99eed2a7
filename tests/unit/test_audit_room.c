/* test_audit_room.c - the ladder of a disk that fills: every step up and down, and seeded stories of two disks. */
#include "audit/audit_room.h"
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#define GIB INT64_C(1073741824)
#define T0  INT64_C(1000000)

static const struct audit_room_rule one = {.warn_free = 20, .stop_free = 10};
static const struct audit_room_rule two = {.warn_free = 20, .stop_free = 10, .second = true};

/* Looks at a disk of 100 GiB with so many per mille free. */
static bool look(struct audit_room *r, const struct audit_room_rule *rule, int volume, int per_mille, int64_t now_ms)
{
    struct audit_room_event ev = {
        .kind = AUDIT_ROOM_LOOKED, .volume = volume, .total_bytes = 100 * GIB, .free_bytes = GIB * per_mille / 10};
    bool moved = audit_room_decide(r, rule, &ev, now_ms);
    assert_true(audit_room_sane(r, rule));
    return moved;
}

static bool refuse(struct audit_room *r, const struct audit_room_rule *rule, int volume, int64_t now_ms)
{
    struct audit_room_event ev = {.kind = AUDIT_ROOM_REFUSED, .volume = volume};
    bool moved = audit_room_decide(r, rule, &ev, now_ms);
    assert_true(audit_room_sane(r, rule));
    return moved;
}

static void test_down_and_up_again(void **unused)
{
    (void)unused;
    static const struct {
        int per_mille;
        enum audit_room_step step;
    } way[] = {
        {500, AUDIT_ROOM_OK},     {200, AUDIT_ROOM_OK},   {199, AUDIT_ROOM_WARN},  {219, AUDIT_ROOM_WARN},
        {220, AUDIT_ROOM_OK},     {150, AUDIT_ROOM_WARN}, {100, AUDIT_ROOM_WARN},  {99, AUDIT_ROOM_STRICT},
        {119, AUDIT_ROOM_STRICT}, {120, AUDIT_ROOM_WARN}, {99, AUDIT_ROOM_STRICT}, {0, AUDIT_ROOM_FULL},
        {1, AUDIT_ROOM_STRICT},   {210, AUDIT_ROOM_WARN}, {50, AUDIT_ROOM_STRICT}, {220, AUDIT_ROOM_OK},
    };
    struct audit_room r = {0};
    int64_t now = T0;
    for (size_t i = 0; i < sizeof way / sizeof *way; i++) {
        enum audit_room_step was = r.step;
        bool moved = look(&r, &one, AUDIT_FIRST, way[i].per_mille, now += 1000);
        if (r.step != way[i].step)
            fail_msg("%d per mille free, row %zu: %s instead of %s", way[i].per_mille, i,
                     audit_room_rows[r.step].name, audit_room_rows[way[i].step].name);
        assert_int_equal(moved, r.step != was);
    }
}

static void test_nothing_left(void **unused)
{
    (void)unused;
    struct audit_room r = {0};
    struct audit_room_event ev = {.kind = AUDIT_ROOM_LOOKED, .total_bytes = 100 * GIB};
    ev.free_bytes = AUDIT_ROOM_FLOOR_BYTES;
    assert_true(audit_room_decide(&r, &one, &ev, T0));
    assert_int_equal(r.step, AUDIT_ROOM_STRICT);
    ev.free_bytes = AUDIT_ROOM_FLOOR_BYTES - 1;
    assert_true(audit_room_decide(&r, &one, &ev, T0 + 1));
    assert_int_equal(r.step, AUDIT_ROOM_FULL);
    assert_true(audit_room_rows[r.step].critical);
    ev.free_bytes = 2 * AUDIT_ROOM_FLOOR_BYTES - 1;
    assert_false(audit_room_decide(&r, &one, &ev, T0 + 2));
    ev.free_bytes = 2 * AUDIT_ROOM_FLOOR_BYTES;
    assert_true(audit_room_decide(&r, &one, &ev, T0 + 3));
    assert_int_equal(r.step, AUDIT_ROOM_STRICT);
}

/* A disk that does not say how full it is changes nothing by that: its writes tell. */
static void test_no_answer(void **unused)
{
    (void)unused;
    struct audit_room r = {0};
    struct audit_room_event ev = {.kind = AUDIT_ROOM_LOOKED, .volume = AUDIT_FIRST};
    look(&r, &two, AUDIT_FIRST, 150, T0);
    look(&r, &two, AUDIT_SECOND, 500, T0);
    assert_false(audit_room_decide(&r, &two, &ev, T0 + 1));
    assert_int_equal(r.step, AUDIT_ROOM_WARN);
    assert_true(refuse(&r, &two, AUDIT_FIRST, T0 + 2));
    assert_int_equal(r.step, AUDIT_ROOM_SECOND);
    ev.volume = AUDIT_SECOND; /* but nobody counts on a second one that is away */
    assert_true(audit_room_decide(&r, &two, &ev, T0 + 3));
    assert_int_equal(r.step, AUDIT_ROOM_FULL);
}

static void test_second(void **unused)
{
    (void)unused;
    struct audit_room r = {0};
    look(&r, &two, AUDIT_SECOND, 500, T0);
    assert_true(look(&r, &two, AUDIT_FIRST, 90, T0));
    assert_int_equal(r.step, AUDIT_ROOM_STRICT);
    assert_int_equal(r.volume, AUDIT_FIRST);
    assert_true(refuse(&r, &two, AUDIT_FIRST, T0 + 1000));
    assert_int_equal(r.step, AUDIT_ROOM_SECOND);
    assert_int_equal(r.volume, AUDIT_SECOND);
    assert_false(audit_room_rows[r.step].strict_only);
    /* Room for strict records alone is no reason to go back. */
    assert_false(look(&r, &two, AUDIT_FIRST, 110, T0 + 60000));
    assert_true(look(&r, &two, AUDIT_SECOND, 99, T0 + 60001));
    assert_int_equal(r.step, AUDIT_ROOM_SECOND_STRICT);
    /* Unless the second is full as well. */
    assert_true(look(&r, &two, AUDIT_SECOND, 0, T0 + 60002));
    assert_int_equal(r.step, AUDIT_ROOM_STRICT);
    assert_int_equal(r.volume, AUDIT_FIRST);
    assert_true(look(&r, &two, AUDIT_FIRST, 0, T0 + 60003));
    assert_int_equal(r.step, AUDIT_ROOM_FULL);
    assert_true(look(&r, &two, AUDIT_SECOND, 130, T0 + 60004));
    assert_int_equal(r.step, AUDIT_ROOM_SECOND);
    assert_true(look(&r, &two, AUDIT_FIRST, 130, T0 + 60005));
    assert_int_equal(r.step, AUDIT_ROOM_WARN);
    assert_int_equal(r.volume, AUDIT_FIRST);
}

/* A disk that has room and takes nothing: tried again, ever more seldom; not as often as records come. */
static void test_broken_disk(void **unused)
{
    (void)unused;
    struct audit_room r = {0};
    int64_t now = T0, tries = 0;
    look(&r, &two, AUDIT_SECOND, 500, now);
    refuse(&r, &two, AUDIT_FIRST, now);
    for (int64_t end = now + 24 * INT64_C(3600000); now < end; now += 1000) {
        look(&r, &two, AUDIT_FIRST, 800, now);
        if (r.volume == AUDIT_FIRST) {
            tries++;
            refuse(&r, &two, AUDIT_FIRST, now);
        }
    }
    if (tries < 40 || tries > 70) /* once in half an hour, and some more at first */
        fail_msg("%" PRId64 " tries in a day", tries);
    /* Mended: long after that its first failure is like the first ever. */
    now += AUDIT_ROOM_HOLD_MAX_MS;
    look(&r, &two, AUDIT_FIRST, 800, now);
    assert_int_equal(r.step, AUDIT_ROOM_OK);
    now += 5 * AUDIT_ROOM_HOLD_MAX_MS;
    refuse(&r, &two, AUDIT_FIRST, now);
    assert_int_equal(r.hold_ms[AUDIT_FIRST], AUDIT_ROOM_HOLD_MS);
}

/* With nowhere else to go writes are tried all the time: the wait does not grow by that. */
static void test_full_and_tried(void **unused)
{
    (void)unused;
    struct audit_room r = {0};
    int64_t now = T0;
    look(&r, &one, AUDIT_FIRST, 500, now);
    for (int i = 0; i < 100; i++) {
        refuse(&r, &one, AUDIT_FIRST, now += 1000);
        assert_int_equal(r.step, AUDIT_ROOM_FULL);
    }
    assert_int_equal(r.hold_ms[AUDIT_FIRST], AUDIT_ROOM_HOLD_MS);
    assert_false(look(&r, &one, AUDIT_FIRST, 500, now + AUDIT_ROOM_HOLD_MS - 1));
    assert_true(look(&r, &one, AUDIT_FIRST, 500, now + AUDIT_ROOM_HOLD_MS));
    assert_int_equal(r.step, AUDIT_ROOM_OK);
}

static void test_limits_of_the_settings(void **unused)
{
    (void)unused;
    static const struct audit_room_rule never = {0}, always = {.warn_free = 100, .stop_free = 100};
    struct audit_room r = {0};
    assert_false(look(&r, &never, AUDIT_FIRST, 1, T0));
    assert_int_equal(r.step, AUDIT_ROOM_OK);
    assert_true(look(&r, &always, AUDIT_FIRST, 999, T0));
    assert_int_equal(r.step, AUDIT_ROOM_STRICT);
    assert_true(look(&r, &always, AUDIT_FIRST, 1000, T0));
    assert_int_equal(r.step, AUDIT_ROOM_OK);
}

/* ---- stories ---- */

static uint64_t rng;
static int64_t below(int64_t n)
{
    rng ^= rng << 13;
    rng ^= rng >> 7;
    rng ^= rng << 17;
    return (int64_t)(rng % (uint64_t)n);
}

/* Two disks that fill, empty, break and come back. What holds always: audit_room_sane (in look and refuse), never a full volume in use while the other
 * is not, and a quiet end of room enough is OK. */
static void story(uint64_t seed)
{
    rng = seed * UINT64_C(0x9e3779b97f4a7c15) + 1;
    struct audit_room_rule rule = {.second = below(4) != 0};
    rule.warn_free = below(60);
    rule.stop_free = below(rule.warn_free + 1);
    struct audit_room r = {0};
    int64_t now = T0, free_share[AUDIT_VOLUMES] = {500, 500};
    for (int i = 0; i < 3000; i++) {
        int v = rule.second ? (int)below(2) : 0;
        now += below(3000);
        free_share[v] += below(81) - 40;
        free_share[v] = free_share[v] < 0 ? 0 : free_share[v] > 1000 ? 1000 : free_share[v];
        bool moved;
        enum audit_room_step step = r.step;
        int volume = r.volume;
        if (below(40) == 0)
            moved = refuse(&r, &rule, r.volume, now);
        else
            moved = look(&r, &rule, v, (int)free_share[v], now);
        if (moved != (step != r.step || volume != r.volume))
            fail_msg("seed %" PRIu64 ", step %d: a move that was not said", seed, i);
        if (r.step != AUDIT_ROOM_FULL && r.level[r.volume] == AUDIT_LEVEL_FULL)
            fail_msg("seed %" PRIu64 ", step %d: a full volume in use", seed, i);
    }
    now += 2 * AUDIT_ROOM_HOLD_MAX_MS;
    look(&r, &rule, AUDIT_FIRST, 1000, now);
    if (rule.second)
        look(&r, &rule, AUDIT_SECOND, 1000, now);
    if (r.step != AUDIT_ROOM_OK)
        fail_msg("seed %" PRIu64 ": %s at the end, with all the room there is", seed, audit_room_rows[r.step].name);
}

static void test_stories(void **unused)
{
    (void)unused;
    const char *given = getenv("SEED");
    if (given) {
        story(strtoull(given, NULL, 10));
        return;
    }
    for (uint64_t seed = 1; seed <= 200; seed++)
        story(seed);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_down_and_up_again),
        cmocka_unit_test(test_nothing_left),
        cmocka_unit_test(test_no_answer),
        cmocka_unit_test(test_second),
        cmocka_unit_test(test_broken_disk),
        cmocka_unit_test(test_full_and_tried),
        cmocka_unit_test(test_limits_of_the_settings),
        cmocka_unit_test(test_stories),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
