/* test_continuity_backup_plan.c - when backups are due and what is wrong with them: every outcome in every state, a table of stories, and a seeded simulation. */
#include "common/wire.h"
#include "continuity/backup_plan.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define MINUTE INT64_C(60000)
#define HOUR   (60 * MINUTE)
#define DAY    (24 * HOUR)
#define BEGIN  INT64_C(1795683280000)

static const struct backup_rule rule = {.period_ms = {[BACKUP_SAVE] = 30 * MINUTE,
                                                      [BACKUP_TEST] = 7 * DAY,
                                                      [BACKUP_CHECK] = DAY,
                                                      [BACKUP_READ] = DAY,
                                                      [BACKUP_FORGET] = DAY},
                                        .late_ms = 60 * MINUTE,
                                        .min_bytes = 1,
                                        .shrunk_percent = 50};

static const struct backup_outcome good = {.ok = true, .verified = true, .bytes = 1000};

static bool ended(struct backup_plan *p, enum backup_act a, struct backup_outcome o, int64_t at)
{
    o.point_ms = at;
    return backup_plan_ended(p, &rule, a, &o, at, at + 1000);
}

/* ---- the settings ---- */

static void rules_follow_the_objectives(void **state)
{
    (void)state;
    struct set_continuity set = {0};
    static const struct {
        int kind;
        int64_t every_ms, late_ms, is_every_ms, is_late_ms;
    } rows[] = {
        {SET_BACKUP_LEARNING, 0, 0, 30 * MINUTE, 60 * MINUTE},
        {SET_BACKUP_AUDIT, 0, 0, 150000, 300000},
        {SET_BACKUP_CONFIG, 0, 0, 450000, 900000},
        {SET_BACKUP_NATS, 0, 0, 15 * MINUTE, 30 * MINUTE},
        {SET_BACKUP_REDIS, 0, 0, 15 * MINUTE, 30 * MINUTE},
        {SET_BACKUP_FILES, 0, 0, 15 * MINUTE, 30 * MINUTE},
        {SET_BACKUP_LEARNING, 5000, 0, 5000, 10000},
        {SET_BACKUP_FILES, HOUR, 5 * HOUR, HOUR, 5 * HOUR},
    };
    set.objectives.ms[SET_RPO_LEARNING] = HOUR;
    set.objectives.ms[SET_RPO_AUDIT] = 5 * MINUTE;
    set.objectives.ms[SET_RPO_CONFIG] = 15 * MINUTE;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct backup_rule r;
        const struct set_backup b = {.kind = rows[i].kind,
                                     .every_ms = rows[i].every_ms,
                                     .late_ms = rows[i].late_ms,
                                     .check_ms = DAY,
                                     .read_ms = 2 * DAY,
                                     .test_ms = 7 * DAY,
                                     .shrunk_percent = 50,
                                     .min_bytes = 1};
        backup_rule_of(&set, &b, &r);
        assert_int_equal(r.period_ms[BACKUP_SAVE], rows[i].is_every_ms);
        assert_int_equal(r.late_ms, rows[i].is_late_ms);
        assert_int_equal(r.period_ms[BACKUP_CHECK], DAY);
        assert_int_equal(r.period_ms[BACKUP_READ], 2 * DAY);
        assert_int_equal(r.period_ms[BACKUP_TEST], 7 * DAY);
    }
}

static void every_problem_has_its_words(void **state)
{
    (void)state;
    unsigned all = 0;
    for (size_t i = 0; i < BACKUP_PROBLEMS; i++) {
        const struct backup_problem_text *t = &backup_problem_texts[i];
        assert_int_equal(all & t->bit, 0);
        all |= t->bit;
        assert_true(*t->name && *t->summary && *t->advice && t->severity > 0);
    }
    assert_int_equal(all, (1u << BACKUP_PROBLEMS) - 1);
}

/* ---- stories ---- */

static void the_first_copy_comes_at_once_and_is_tested(void **state)
{
    (void)state;
    struct backup_plan p;
    backup_plan_begin(&p, &rule, 7, BEGIN);
    assert_true(p.next_ms[BACKUP_SAVE] >= BEGIN && p.next_ms[BACKUP_SAVE] < BEGIN + 30000);
    /* Nothing to test, check or remove before there is something. */
    for (int64_t t = BEGIN; t < BEGIN + 30 * DAY; t += HOUR)
        assert_true(backup_plan_due(&p, t) == BACKUP_SAVE || backup_plan_due(&p, t) == BACKUP_ACTS);
    assert_true(ended(&p, BACKUP_SAVE, good, BEGIN));
    assert_int_equal(p.point_ms, BEGIN);
    assert_int_equal(backup_plan_due(&p, BEGIN + 1000), BACKUP_TEST);
    assert_false(ended(&p, BACKUP_TEST, good, BEGIN + 2000));
    assert_int_equal(backup_plan_due(&p, p.next_ms[BACKUP_SAVE]) == BACKUP_ACTS, 0);
    assert_int_equal(p.next_ms[BACKUP_SAVE], BEGIN + 30 * MINUTE); /* from its beginning: it does not drift */
    assert_int_equal(backup_plan_problems(&p, &rule, BEGIN + 3000), 0);
}

static void late_is_judged_by_the_clock(void **state)
{
    (void)state;
    struct backup_plan p;
    backup_plan_begin(&p, &rule, 7, BEGIN);
    assert_int_equal(backup_plan_problems(&p, &rule, BEGIN + rule.late_ms), 0);
    assert_int_equal(backup_plan_problems(&p, &rule, BEGIN + rule.late_ms + 1), BACKUP_MISSING);
    (void)ended(&p, BACKUP_SAVE, good, BEGIN + 2 * HOUR);
    assert_int_equal(backup_plan_problems(&p, &rule, BEGIN + 2 * HOUR + rule.late_ms), 0);
    assert_int_equal(backup_plan_problems(&p, &rule, BEGIN + 2 * HOUR + rule.late_ms + 1), BACKUP_LATE);
    /* Copies that come, but are not proven. */
    struct backup_outcome moving = good;
    moving.verified = false;
    assert_false(ended(&p, BACKUP_SAVE, moving, BEGIN + 4 * HOUR));
    assert_int_equal(p.point_ms, BEGIN + 2 * HOUR);
    assert_int_equal(backup_plan_problems(&p, &rule, BEGIN + 4 * HOUR + 2000), BACKUP_UNVERIFIED);
    assert_true(ended(&p, BACKUP_SAVE, good, BEGIN + 5 * HOUR));
    assert_int_equal(backup_plan_problems(&p, &rule, BEGIN + 5 * HOUR + 2000), 0);
}

static void small_copies_wait_for_a_person_or_a_full_one(void **state)
{
    (void)state;
    static const struct {
        uint64_t bytes;
        bool force, moves;
        unsigned problems;
        uint64_t before; /* that is compared with from then on */
    } rows[] = {
        {1000, false, true, 0, 1000},
        {500, false, true, 0, 500}, /* half is not less than half */
        {249, false, false, BACKUP_SHRUNKEN, 500},
        {100, false, false, BACKUP_SHRUNKEN, 500}, /* not compared with the small one before it */
        {0, false, false, BACKUP_EMPTY, 500},
        {251, false, true, 0, 251}, /* a full one again */
        {0, false, false, BACKUP_EMPTY, 251},
        {0, true, true, 0, 0}, /* accepted */
        {5, false, true, 0, 5},
        {2, false, false, BACKUP_SHRUNKEN, 5},
        {2, true, true, 0, 2},
        {2, false, true, 0, 2},
    };
    struct backup_plan p;
    int64_t at = BEGIN;
    backup_plan_begin(&p, &rule, 7, BEGIN);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++, at += 30 * MINUTE) {
        struct backup_outcome o = good;
        o.bytes = rows[i].bytes;
        o.force = rows[i].force;
        int64_t was = p.point_ms;
        if (ended(&p, BACKUP_SAVE, o, at) != rows[i].moves ||
            backup_plan_problems(&p, &rule, at + 1000) != rows[i].problems)
            fail_msg("row %zu: problems %x", i, backup_plan_problems(&p, &rule, at + 1000));
        assert_int_equal(p.point_ms, rows[i].moves ? at : was);
        assert_int_equal(p.suspicious ? p.bytes_before : p.bytes, rows[i].before);
    }
    /* Very large ones do not overflow. */
    struct backup_outcome o = good;
    o.bytes = UINT64_MAX;
    assert_true(ended(&p, BACKUP_SAVE, o, at));
    o.bytes = UINT64_MAX / 2 - 1;
    assert_false(ended(&p, BACKUP_SAVE, o, at + 1));
}

static void failures_are_tried_again_and_told(void **state)
{
    (void)state;
    struct backup_plan p;
    struct backup_outcome bad = {.ok = false};
    int64_t at = BEGIN, wait = 10000;
    backup_plan_begin(&p, &rule, 7, BEGIN);
    (void)ended(&p, BACKUP_SAVE, good, at);
    for (int i = 1; i < 12; i++) {
        at += HOUR / 60;
        assert_false(ended(&p, BACKUP_SAVE, bad, at));
        int64_t after = p.next_ms[BACKUP_SAVE] - (at + 1000);
        assert_true(after >= wait && after <= wait + wait / 4 + 1);
        wait = 2 * wait < 10 * MINUTE ? 2 * wait : 10 * MINUTE;
        assert_int_equal(!!(backup_plan_problems(&p, &rule, at) & BACKUP_FAILED), i >= 3);
    }
    (void)ended(&p, BACKUP_SAVE, good, at);
    assert_int_equal(backup_plan_problems(&p, &rule, at), 0);
    bad.lasting = true; /* a wrong password: nobody waits for a third time */
    (void)ended(&p, BACKUP_CHECK, bad, at);
    assert_int_equal(backup_plan_problems(&p, &rule, at), BACKUP_FAILED);
    (void)ended(&p, BACKUP_READ, good, at); /* looks at the structure, too */
    assert_int_equal(backup_plan_problems(&p, &rule, at), 0);
    struct backup_outcome gone = {.vanished = true, .lasting = true};
    (void)ended(&p, BACKUP_SAVE, gone, at);
    assert_int_equal(backup_plan_problems(&p, &rule, at), BACKUP_FAILED | BACKUP_EMPTY);
    (void)ended(&p, BACKUP_SAVE, bad, at); /* not known to be back */
    assert_true(backup_plan_problems(&p, &rule, at) & BACKUP_EMPTY);
    (void)ended(&p, BACKUP_SAVE, good, at);
    assert_int_equal(backup_plan_problems(&p, &rule, at), 0);
}

static void what_cannot_be_restored_is_no_point(void **state)
{
    (void)state;
    struct backup_plan p;
    struct backup_outcome differs = {.differs = true, .lasting = true}, damaged = {.damaged = true, .lasting = true};
    int64_t at = BEGIN;
    backup_plan_begin(&p, &rule, 7, BEGIN);
    (void)ended(&p, BACKUP_SAVE, good, at);
    (void)ended(&p, BACKUP_TEST, good, at);
    (void)ended(&p, BACKUP_TEST, differs, at += HOUR);
    assert_int_equal(p.point_ms, 0);
    assert_true(backup_plan_problems(&p, &rule, at + 1000) & BACKUP_DIFFERS);
    assert_true(backup_plan_problems(&p, &rule, at + 1000) & BACKUP_UNVERIFIED || at - BEGIN <= rule.late_ms);
    assert_true(p.next_ms[BACKUP_SAVE] <= at + 20000); /* another one soon */
    assert_true(ended(&p, BACKUP_SAVE, good, at += MINUTE));
    assert_true(backup_plan_problems(&p, &rule, at + 1000) & BACKUP_DIFFERS); /* until a test passes */
    (void)ended(&p, BACKUP_TEST, good, at += MINUTE);
    assert_int_equal(backup_plan_problems(&p, &rule, at + 1000), 0);
    /* A part of the repository is damaged: a test says whether the point holds, and only reading all of it that it is well. */
    (void)ended(&p, BACKUP_READ, damaged, at += MINUTE);
    assert_true(p.point_ms > 0 && p.next_ms[BACKUP_TEST] <= at + 20000);
    (void)ended(&p, BACKUP_TEST, good, at += MINUTE);
    (void)ended(&p, BACKUP_READ, good, at += MINUTE);
    (void)ended(&p, BACKUP_CHECK, good, at += MINUTE);
    assert_true(backup_plan_problems(&p, &rule, at + 1000) & BACKUP_DAMAGED);
    struct backup_outcome whole = good;
    whole.whole = true;
    (void)ended(&p, BACKUP_READ, whole, at += MINUTE);
    assert_int_equal(backup_plan_problems(&p, &rule, at + 1000), 0);
    /* The proven one was deleted; the next one stands for it, and is tested. */
    struct backup_outcome gone = good;
    gone.gone = true;
    assert_true(ended(&p, BACKUP_SAVE, gone, at += MINUTE));
    assert_int_equal(p.point_ms, at);
    assert_true(backup_plan_problems(&p, &rule, at + 1000) & BACKUP_GONE);
    (void)ended(&p, BACKUP_TEST, good, at += MINUTE);
    assert_int_equal(backup_plan_problems(&p, &rule, at + 1000), 0);
}

static void settings_that_become_shorter_count_at_once(void **state)
{
    (void)state;
    struct backup_plan p;
    struct backup_rule shorter = rule;
    backup_plan_begin(&p, &rule, 7, BEGIN);
    (void)ended(&p, BACKUP_SAVE, good, BEGIN);
    shorter.period_ms[BACKUP_SAVE] = MINUTE;
    shorter.period_ms[BACKUP_CHECK] = MINUTE;
    backup_plan_fit(&p, &shorter, BEGIN + 2000);
    assert_true(p.next_ms[BACKUP_SAVE] <= BEGIN + 2000 + MINUTE && p.next_ms[BACKUP_CHECK] <= BEGIN + 2000 + MINUTE);
    /* A record from a clock that was ahead puts nothing off for longer than its period. */
    p.known_ms = BEGIN + DAY;
    p.next_ms[BACKUP_SAVE] = BEGIN + 400 * DAY;
    backup_plan_fit(&p, &rule, BEGIN + 3000);
    assert_int_equal(p.next_ms[BACKUP_SAVE], BEGIN + 3000 + rule.period_ms[BACKUP_SAVE]);
    assert_int_equal(p.known_ms, BEGIN + 3000);
    backup_plan_ask(&p, BACKUP_SAVE, BEGIN + 3000);
    assert_int_equal(backup_plan_due(&p, BEGIN + 3000) == BACKUP_ACTS, 0);
}

static void one_at_a_time_for_a_repository(void **state)
{
    (void)state;
    struct backup_plan a, b, c;
    enum backup_act act = BACKUP_ACTS;
    backup_plan_begin(&a, &rule, 1, BEGIN);
    b = c = a;
    a.next_ms[BACKUP_SAVE] = BEGIN + 2;
    b.next_ms[BACKUP_SAVE] = BEGIN + 1;
    c.next_ms[BACKUP_SAVE] = BEGIN + 3;
    struct backup_slot slots[] = {{&a, 0, false}, {&b, 0, false}, {&c, 2, false}};
    assert_int_equal(backup_plan_pick(slots, 3, BEGIN, &act), 3);
    assert_int_equal(backup_plan_pick(slots, 3, BEGIN + 9, &act), 1); /* has waited longest */
    assert_int_equal(act, BACKUP_SAVE);
    slots[1].busy = true;
    assert_int_equal(backup_plan_pick(slots, 3, BEGIN + 9, &act), 2); /* a has the same repository */
    slots[2].busy = true;
    assert_int_equal(backup_plan_pick(slots, 3, BEGIN + 9, &act), 3);
    slots[1].busy = false;
    slots[0].busy = true;
    assert_int_equal(backup_plan_pick(slots, 3, BEGIN + 9, &act), 3);
    assert_int_equal(backup_plan_pick(slots, 0, BEGIN + 9, &act), 0);
}

/* ---- every outcome in every state ---- */

static void any_outcome_in_any_state_keeps_the_rules(void **state)
{
    (void)state;
    size_t seen = 0;
    for (unsigned s = 0; s < 64; s++)
        for (int act = 0; act < BACKUP_ACTS; act++)
            for (unsigned f = 0; f < 512; f++) {
                struct backup_plan p = {.known_ms = BEGIN,
                                        .point_ms = s & 1 ? BEGIN + 1 : 0,
                                        .saved_ms = s & 3 ? BEGIN + 1 : 0,
                                        .bytes = s & 4 ? 1000 : 100,
                                        .bytes_before = 1000,
                                        .suspicious = s & 8,
                                        .marks = s & 16 ? BACKUP_DAMAGED : 0,
                                        .vanished = s & 32,
                                        .last = BACKUP_ACTS,
                                        .random = s};
                const struct backup_outcome o = {.ok = f & 1,
                                                 .lasting = f & 2,
                                                 .verified = f & 4,
                                                 .force = f & 8,
                                                 .differs = f & 16,
                                                 .damaged = f & 32,
                                                 .gone = f & 64,
                                                 .whole = f & 128,
                                                 .vanished = f & 256,
                                                 .point_ms = BEGIN + DAY,
                                                 .bytes = f & 2 ? 10 : 1000};
                const struct backup_plan was = p;
                bool moved = backup_plan_ended(&p, &rule, (enum backup_act)act, &o, BEGIN + DAY, BEGIN + DAY + 5);
                /* The point is that of a proven copy that was accepted, the one before, or none. */
                assert_true(p.point_ms == 0 || p.point_ms == was.point_ms || moved);
                if (moved)
                    assert_true(act == BACKUP_SAVE && o.ok && o.verified && !p.suspicious &&
                                p.point_ms == o.point_ms);
                else
                    assert_true(p.point_ms != o.point_ms);
                if (o.gone && !moved)
                    assert_int_equal(p.point_ms, 0);
                if (act == BACKUP_TEST && !o.ok && (o.differs || o.damaged))
                    assert_int_equal(p.point_ms, 0);
                if (act != BACKUP_SAVE)
                    assert_true(p.saved_ms == was.saved_ms && p.bytes == was.bytes && p.suspicious == was.suspicious);
                assert_int_equal(p.failures[act], o.ok ? 0 : 1);
                assert_true(p.next_ms[act] >= 0 && p.next_ms[act] <= BEGIN + DAY + 5 + 8 * DAY);
                if (act == BACKUP_TEST && o.ok)
                    assert_int_equal(p.marks & (BACKUP_DIFFERS | BACKUP_GONE), 0);
                else
                    assert_int_equal(p.marks & was.marks & ~(unsigned)BACKUP_DAMAGED,
                                     was.marks & ~(unsigned)BACKUP_DAMAGED);
                if ((was.marks & BACKUP_DAMAGED) && !(p.marks & BACKUP_DAMAGED))
                    assert_true(act == BACKUP_READ && o.ok && o.whole);
                /* Nothing is removed while it is not sure what stays. */
                for (int64_t t = BEGIN; t < BEGIN + 3 * DAY; t += DAY)
                    if (backup_plan_due(&p, t) == BACKUP_FORGET)
                        assert_true(p.point_ms > 0 && !p.suspicious && p.marks == 0);
                seen++;
            }
    assert_int_equal(seen, 64 * BACKUP_ACTS * 512);
}

/* ---- a simulation: several sources on few repositories, with failures ---- */

static uint64_t dice;
static uint64_t roll(uint64_t below)
{
    dice ^= dice << 13;
    dice ^= dice >> 7;
    dice ^= dice << 17;
    return dice % below;
}

struct sim_source {
    struct backup_plan p;
    struct backup_rule r;
    size_t repository;
    bool busy;
    enum backup_act act;
    int64_t began, ends, point, last_done[BACKUP_ACTS], failed_since;
    uint64_t accepted, size; /* as this test counts them */
    bool small;
};

static uint64_t failing; /* said if something does not hold */
static int say_seed(void **state)
{
    (void)state;
    if (failing)
        print_message("SEED=%llu\n", (unsigned long long)failing);
    return 0;
}

static void simulate(uint64_t seed)
{
    enum { MAX = 6 };
    struct sim_source s[MAX] = {0};
    struct backup_slot slots[MAX];
    int64_t now = BEGIN, end = BEGIN + 40 * DAY;
    size_t n = 1 + seed % MAX, repositories = 1 + seed % 3, runs[BACKUP_ACTS] = {0};
    dice = seed * 2654435761u + 1;
    for (size_t i = 0; i < n; i++) {
        s[i].r = rule;
        s[i].r.period_ms[BACKUP_SAVE] = (int64_t)(5 + roll(60)) * MINUTE;
        s[i].r.late_ms = 2 * s[i].r.period_ms[BACKUP_SAVE];
        s[i].repository = i % repositories;
        s[i].size = 1000 + roll(1000000);
        backup_plan_begin(&s[i].p, &s[i].r, roll(UINT64_MAX), now);
        for (int a = 0; a < BACKUP_ACTS; a++)
            s[i].last_done[a] = now;
    }
    for (; now < end; now += 10000) {
        for (size_t i = 0; i < n; i++) {
            struct sim_source *x = &s[i];
            if (!x->busy || x->ends > now)
                continue;
            struct backup_outcome o = {
                .ok = roll(20) > 0, .lasting = roll(4) == 0, .verified = roll(10) > 0, .point_ms = x->began};
            if (roll(50) == 0)
                x->size = roll(3) ? x->size / 4 + 1 : 0; /* lost */
            else if (roll(20) == 0)
                x->size = 1000 + roll(1000000);
            o.bytes = x->size;
            o.force = roll(40) == 0;
            o.differs = x->act == BACKUP_TEST && !o.ok && roll(2);
            x->busy = false;
            runs[x->act]++;
            bool moved = backup_plan_ended(&x->p, &x->r, x->act, &o, x->began, now);
            /* The reference. */
            bool lost = o.bytes == 0 || 2 * o.bytes < x->accepted;
            if (x->act == BACKUP_SAVE && o.ok) {
                assert_int_equal(moved, (!lost || o.force) && o.verified);
                x->small = x->p.suspicious;
                x->accepted = x->small ? x->accepted : o.bytes;
                x->point = moved ? x->began : x->point;
            }
            if (o.differs)
                x->point = 0;
            assert_int_equal(x->p.point_ms, x->point);
            if (o.ok)
                x->last_done[x->act] = now;
            if (x->act == BACKUP_READ && o.ok)
                x->last_done[BACKUP_CHECK] = now;
        }
        for (;;) {
            enum backup_act act = BACKUP_ACTS;
            for (size_t i = 0; i < n; i++)
                slots[i] = (struct backup_slot){&s[i].p, s[i].repository, s[i].busy};
            size_t at = backup_plan_pick(slots, n, now, &act);
            if (at == n)
                break;
            for (size_t i = 0; i < n; i++)
                assert_false(s[i].busy && s[i].repository == s[at].repository);
            assert_false(act == BACKUP_TEST && s[at].point == 0);
            assert_false(act == BACKUP_FORGET && (s[at].small || s[at].point == 0));
            s[at].busy = true;
            s[at].act = act;
            s[at].began = now;
            s[at].ends = now + 10000 + (int64_t)roll(act == BACKUP_SAVE ? 40000 : 180000);
        }
        for (size_t i = 0; i < n; i++) {
            struct sim_source *x = &s[i];
            unsigned is = backup_plan_problems(&x->p, &x->r, now);
            bool late = now - (x->p.saved_ms ? x->p.saved_ms : BEGIN) > x->r.late_ms;
            assert_int_equal(!!(is & (BACKUP_LATE | BACKUP_MISSING)), late);
            assert_int_equal(!!(is & (BACKUP_EMPTY | BACKUP_SHRUNKEN)), x->small);
            /* Nothing starves: failures are tried again, and saves do not keep the rest away. */
            if (x->last_done[BACKUP_SAVE] < now - x->r.period_ms[BACKUP_SAVE] - HOUR)
                assert_true(x->p.failures[BACKUP_SAVE] > 0);
            if (x->point > 0 && x->last_done[BACKUP_CHECK] < now - 3 * DAY)
                assert_true(x->p.failures[BACKUP_CHECK] + x->p.failures[BACKUP_READ] > 0);
        }
    }
    for (size_t i = 0; i < n; i++)
        assert_true(s[i].last_done[BACKUP_CHECK] > BEGIN && s[i].last_done[BACKUP_READ] > BEGIN &&
                    s[i].last_done[BACKUP_TEST] > BEGIN && s[i].last_done[BACKUP_FORGET] > BEGIN);
    for (int a = 0; a < BACKUP_ACTS; a++)
        assert_true(runs[a] > 3);
}

static void a_simulated_month(void **state)
{
    (void)state;
    const char *one = getenv("SEED");
    uint64_t seeds = getenv("VALGRIND") ? 2 : 24;
    for (uint64_t seed = one ? strtoull(one, NULL, 10) : 1; seed <= (one ? strtoull(one, NULL, 10) : seeds); seed++) {
        failing = seed;
        simulate(seed);
    }
    failing = 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rules_follow_the_objectives),
        cmocka_unit_test(every_problem_has_its_words),
        cmocka_unit_test(the_first_copy_comes_at_once_and_is_tested),
        cmocka_unit_test(late_is_judged_by_the_clock),
        cmocka_unit_test(small_copies_wait_for_a_person_or_a_full_one),
        cmocka_unit_test(failures_are_tried_again_and_told),
        cmocka_unit_test(what_cannot_be_restored_is_no_point),
        cmocka_unit_test(settings_that_become_shorter_count_at_once),
        cmocka_unit_test(one_at_a_time_for_a_repository),
        cmocka_unit_test(any_outcome_in_any_state_keeps_the_rules),
        cmocka_unit_test_teardown(a_simulated_month, say_seed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
