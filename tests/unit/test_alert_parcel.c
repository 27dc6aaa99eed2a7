/* test_alert_parcel.c - when what waits goes out and how, its names, and what many alerts come to. */
#include "alert/alert_parcel.h"
#include "alert/alert_tally.h"
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const struct alert_parcel_rule rule = {30000, 300000, 60000};

static struct alert_parcel_clock clock_of(enum alert_parcel_reason reason, bool critical, int64_t now)
{
    struct alert_parcel_clock c = {.reason = reason, .critical = critical};
    alert_parcel_came(&c, now);
    return c;
}

/* ---- names ---- */

static void names_there_and_back(void **state)
{
    (void)state;
    struct alert_parcel_name n, m;
    char subject[SUBJECT_MAX_LEN];
    char longest[ALERT_PARCEL_TOKEN_MAX + 2];
    memset(longest, 'x', sizeof longest - 1);
    longest[sizeof longest - 1] = 0;
    for (int r = 0; r < ALERT_PARCEL_REASONS; r++) {
        assert_int_equal(alert_parcel_name(&n, (enum alert_parcel_reason)r, "route-all", "ops-0af3"), 0);
        assert_int_equal(alert_parcel_parse(alert_parcel_subject(&n, subject), &m), 0);
        assert_int_equal(m.reason, r);
        assert_string_equal(m.node, "route-all");
        assert_string_equal(m.bucket, "ops-0af3");
        assert_non_null(strstr(subject, alert_parcel_reason_name((enum alert_parcel_reason)r)));
    }
    assert_int_equal(alert_parcel_name(&n, ALERT_PARCEL_OWED, longest, "all"), -1);
    longest[ALERT_PARCEL_TOKEN_MAX] = 0;
    assert_int_equal(alert_parcel_name(&n, ALERT_PARCEL_OVERFLOW, longest, longest), 0);
    assert_true(strlen(alert_parcel_subject(&n, subject)) < SUBJECT_MAX_LEN - 1);
    assert_int_equal(alert_parcel_parse(subject, &m), 0);
    assert_string_equal(m.bucket, longest);
    static const char *const bad[] = {"", "a b", "a.b", "A", "a*", ">", "\xc3\xa4", "a\n"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_int_equal(alert_parcel_name(&n, ALERT_PARCEL_OWED, bad[i], "all"), -1);
        assert_int_equal(alert_parcel_name(&n, ALERT_PARCEL_OWED, "all", bad[i]), -1);
    }
    static const char *const subjects[] = {"",
                                           "redoubt.v1.parcel",
                                           "redoubt.v1.parcel.",
                                           "redoubt.v1.parcel.owed",
                                           "redoubt.v1.parcel.owed.a",
                                           "redoubt.v1.parcel.owed.a.",
                                           "redoubt.v1.parcel.owed..b",
                                           "redoubt.v1.parcel.owed.a.b.c",
                                           "redoubt.v1.parcel.owe.a.b",
                                           "redoubt.v1.parcel.group.a.B",
                                           "redoubt.v1.parcels.group.a.b",
                                           "redoubt.v1.alert"};
    for (size_t i = 0; i < sizeof subjects / sizeof *subjects; i++)
        assert_int_equal(alert_parcel_parse(subjects[i], &m), -1);
}

/* ---- when ---- */

static void a_group_waits_once_then_every_interval(void **state)
{
    (void)state;
    struct alert_parcel_clock c = clock_of(ALERT_PARCEL_GROUP, false, 1000);
    assert_int_equal(alert_parcel_due(&c, &rule), 31000);
    alert_parcel_told(&c, false, 31000);
    alert_parcel_came(&c, 40000); /* soon after: not before the interval is over */
    assert_int_equal(alert_parcel_due(&c, &rule), 331000);
    alert_parcel_told(&c, true, 331000);
    assert_int_equal(alert_parcel_due(&c, &rule), 631000);
    alert_parcel_told(&c, false, 631000);
    alert_parcel_came(&c, 5000000); /* long after: like the first */
    assert_int_equal(alert_parcel_due(&c, &rule), 5030000);
    c.quiet = true; /* means nothing here */
    assert_int_equal(alert_parcel_due(&c, &rule), 5030000);
}

static void quiet_hours_end_when_they_end(void **state)
{
    (void)state;
    struct alert_parcel_clock c = clock_of(ALERT_PARCEL_QUIET, false, 1000);
    c.quiet = true;
    assert_int_equal(alert_parcel_due(&c, &rule), INT64_MAX);
    alert_parcel_back(&c); /* a channel that works is no reason to wake anybody */
    assert_int_equal(alert_parcel_due(&c, &rule), INT64_MAX);
    c.quiet = false;
    assert_int_equal(alert_parcel_due(&c, &rule), INT64_MIN);
    alert_parcel_begun(&c);
    alert_parcel_failed(&c, 2000);
    assert_int_equal(alert_parcel_due(&c, &rule), 7000);
    c.quiet = true; /* the next night has begun: then in the morning */
    assert_int_equal(alert_parcel_due(&c, &rule), INT64_MAX);
}

static void overflow_comes_every_so_often(void **state)
{
    (void)state;
    struct alert_parcel_clock c = clock_of(ALERT_PARCEL_OVERFLOW, false, 1000);
    assert_int_equal(alert_parcel_due(&c, &rule), 61000);
    alert_parcel_told(&c, true, 61000);
    assert_int_equal(alert_parcel_due(&c, &rule),
                     121000); /* that a channel takes it is no reason to hurry: it was too much */
    alert_parcel_told(&c, false, 121000);
    alert_parcel_came(&c, 122000);
    assert_int_equal(alert_parcel_due(&c, &rule), 182000);
    struct alert_parcel_clock critical = clock_of(ALERT_PARCEL_OVERFLOW, true, 1000);
    assert_int_equal(alert_parcel_due(&critical, &rule), 1000);
    alert_parcel_failed(&critical, 1000);
    assert_int_equal(alert_parcel_due(&critical, &rule), 6000);
}

static void owed_ones_back_off_and_come_at_once_when_a_channel_is_back(void **state)
{
    (void)state;
    static const int64_t pauses[] = {5, 10, 20, 40, 80, 160, 300, 300, 300};
    struct alert_parcel_clock c = clock_of(ALERT_PARCEL_OWED, false, 0);
    int64_t now = 5000;
    assert_int_equal(alert_parcel_due(&c, &rule), now);
    for (size_t i = 0; i < sizeof pauses / sizeof *pauses; i++) {
        alert_parcel_failed(&c, now);
        assert_int_equal(alert_parcel_due(&c, &rule), now + pauses[i] * 1000);
        now += pauses[i] * 1000;
    }
    for (int i = 0; i < 5000; i++) /* for weeks: never longer, never an overflow */
        alert_parcel_failed(&c, now);
    assert_int_equal(alert_parcel_due(&c, &rule), now + 300000);
    alert_parcel_back(&c);
    assert_int_equal(alert_parcel_due(&c, &rule), INT64_MIN);
    alert_parcel_begun(&c);
    alert_parcel_failed(&c, now); /* it was a false hope */
    assert_int_equal(alert_parcel_due(&c, &rule), now + 300000);
    alert_parcel_begun(&c);
    alert_parcel_back(&c); /* while it is being tried: at once again, whatever comes of it */
    alert_parcel_failed(&c, now);
    assert_int_equal(alert_parcel_due(&c, &rule), INT64_MIN);
    alert_parcel_told(&c, true, now); /* more waits: at once, as somebody accepts */
    assert_int_equal(alert_parcel_due(&c, &rule), INT64_MIN);
    alert_parcel_told(&c, false, now);
    alert_parcel_came(&c, now + 1000);
    assert_int_equal(alert_parcel_due(&c, &rule), now + 6000);
}

static void every_reason_backs_off_when_nobody_accepts(void **state)
{
    (void)state;
    for (int r = 0; r < ALERT_PARCEL_REASONS; r++)
        for (int critical = 0; critical < 2; critical++) {
            struct alert_parcel_clock c = clock_of((enum alert_parcel_reason)r, critical, 0);
            alert_parcel_failed(&c, 100000);
            assert_int_equal(alert_parcel_due(&c, &rule), 105000);
            alert_parcel_back(&c);
            assert_int_equal(alert_parcel_due(&c, &rule), INT64_MIN);
            alert_parcel_told(&c, false, 200000);
            assert_int_equal(c.fails, 0);
        }
}

/* ---- how ---- */

static void few_go_by_themselves(void **state)
{
    (void)state;
    struct alert_parcel_clock owed = clock_of(ALERT_PARCEL_OWED, false, 0);
    for (size_t n = 0; n <= 3; n++)
        assert_int_equal(alert_parcel_singles(&owed, n), n);
    assert_int_equal(alert_parcel_singles(&owed, 4), 0);
    static const enum alert_parcel_reason others[] = {ALERT_PARCEL_GROUP, ALERT_PARCEL_QUIET, ALERT_PARCEL_OVERFLOW};
    for (size_t i = 0; i < 3; i++) {
        struct alert_parcel_clock c = clock_of(others[i], false, 0);
        assert_int_equal(alert_parcel_singles(&c, 1), 1);
        assert_int_equal(alert_parcel_singles(&c, 2), 0);
    }
    struct alert_parcel_clock critical = clock_of(ALERT_PARCEL_OWED, true, 0);
    assert_int_equal(alert_parcel_singles(&critical, 7), 7);
    assert_int_equal(alert_parcel_singles(&critical, 5000), 20);
    critical.alone = 18;
    assert_int_equal(alert_parcel_singles(&critical, 5000), 2);
    critical.alone = 20;
    assert_int_equal(alert_parcel_singles(&critical, 5000), 0);
    assert_int_equal(alert_parcel_singles(&critical, 2), 2);
    alert_parcel_told(&critical, true, 0);
    assert_int_equal(critical.alone, 20); /* the same outage */
    alert_parcel_told(&critical, false, 0);
    assert_int_equal(alert_parcel_singles(&critical, 5000), 20); /* another one */
}

/* ---- what they come to ---- */

static PB(Alert) alert_of(const char *key, int severity, bool resolved, int64_t raised)
{
    PB(Alert) a = REDOUBT__V1__ALERT__INIT;
    a.dedup_key = (char *)key;
    a.severity = (Redoubt__V1__Severity)severity;
    a.resolved = resolved;
    a.raised_unix_ms = raised;
    return a;
}
static void add(struct alert_tally *t, const char *key, int severity, bool resolved, uint64_t seq)
{
    PB(Alert) a = alert_of(key, severity, resolved, (int64_t)seq * 10);
    alert_tally_add(t, &a, seq);
}

static void the_last_word_of_each_problem(void **state)
{
    (void)state;
    static struct alert_tally t;
    alert_tally_clear(&t);
    assert_false(alert_tally_resolved(&t));
    add(&t, "a", 3, false, 11);
    add(&t, "b", 4, false, 12);
    add(&t, "a", 2, false, 13);
    add(&t, "b", 4, true, 14);
    add(&t, "c", 1, false, 20);
    add(&t, "d", 2, false, 21);
    size_t worst[10];
    assert_int_equal(alert_tally_worst(&t, 10, worst), 4);
    static const uint64_t seqs[] = {13, 21, 20,
                                    14}; /* there: warning, older first; info; over: last, however bad it was */
    for (size_t i = 0; i < 4; i++)
        assert_int_equal(t.problems[worst[i]].seq, seqs[i]);
    assert_int_equal(t.problems[worst[0]].alerts, 2);
    assert_int_equal(alert_tally_worst(&t, 2, worst), 2);
    assert_int_equal(alert_tally_over(&t), 1);
    assert_int_equal(alert_tally_severity(&t), 2);
    assert_int_equal(t.alerts, 6);
    assert_int_equal(t.first_seq, 11);
    assert_int_equal(t.last_seq, 21);
    assert_int_equal(t.from_unix_ms, 110);
    assert_int_equal(t.to_unix_ms, 210);
    assert_int_equal(t.by_level[2], 2);
    assert_int_equal(t.by_level[4], 1); /* its end is none */
    alert_tally_clear(&t);
    add(&t, "a", 3, true, 1);
    assert_true(alert_tally_resolved(&t));
    assert_int_equal(alert_tally_severity(&t), 3);
    add(&t, "a", 3, false, 2); /* there again */
    assert_false(alert_tally_resolved(&t));
}

/* A hundred thousand problems: the worst are kept whenever they come, no alert is forgotten, and the time stays in bounds. */
static void more_problems_than_are_told_apart(void **state)
{
    (void)state;
    static struct alert_tally t;
    alert_tally_clear(&t);
    char key[32];
    uint64_t seq = 0, critical = 0;
    for (int i = 0; i < 100000; i++) {
        snprintf(key, sizeof key, "k%d", i);
        int severity = i % 10000 == 9999 ? 4 : i % 100 == 99 ? 3 : 1 + i % 2;
        critical += severity == 4;
        add(&t, key, severity, false, ++seq);
    }
    assert_int_equal(t.n, ALERT_TALLY_KEYS);
    assert_int_equal(t.alerts, 100000);
    assert_int_equal(t.untold_apart, 100000 - ALERT_TALLY_KEYS);
    assert_int_equal(t.by_level[4], critical);
    size_t worst[100];
    assert_int_equal(alert_tally_worst(&t, 100, worst), 100);
    for (size_t i = 0; i < 100; i++)
        assert_int_equal(t.problems[worst[i]].severity, i < critical ? 4 : 3);
    assert_int_equal(t.problems[worst[0]].seq, 10000);
    assert_int_equal(alert_tally_severity(&t), 4);
    /* What was there from the first is found still. */
    for (size_t i = 0; i < 100; i++) {
        uint64_t was = t.problems[worst[i]].seq;
        snprintf(key, sizeof key, "k%" PRIu64, was - 1);
        add(&t, key, 3, true, ++seq);
        assert_int_equal(t.problems[worst[i]].seq, seq);
        assert_true(t.problems[worst[i]].resolved);
    }
    assert_false(alert_tally_resolved(&t)); /* nobody knows of those that are not told apart */
}

/* Against a plain list that forgets nothing, as long as there is room. */
static void as_a_plain_list_would(void **state)
{
    (void)state;
    static struct alert_tally t;
    for (uint64_t seed = 1; seed <= 20; seed++) {
        uint64_t rng = seed * 0x9e3779b97f4a7c15u;
        struct {
            int severity, alerts;
            bool resolved;
            uint64_t first, last;
        } plain[300] = {{0}};
        alert_tally_clear(&t);
        for (uint64_t seq = 1; seq <= 3000; seq++) {
            rng = rng * 6364136223846793005u + 1442695040888963407u;
            size_t k = (rng >> 33) % 300;
            char key[16];
            snprintf(key, sizeof key, "p%zu", k);
            plain[k].severity = (int)(1 + (rng >> 20) % 4);
            plain[k].resolved = (rng >> 50) % 3 == 0;
            plain[k].alerts++;
            plain[k].last = seq;
            if (!plain[k].first)
                plain[k].first = seq;
            add(&t, key, plain[k].severity, plain[k].resolved, seq);
        }
        size_t places[ALERT_TALLY_KEYS], n = alert_tally_worst(&t, ALERT_TALLY_KEYS, places), seen = 0, over = 0;
        int worst = 0;
        for (size_t k = 0; k < 300; k++) {
            seen += plain[k].alerts > 0;
            over += plain[k].resolved;
            if (!plain[k].resolved && plain[k].severity > worst)
                worst = plain[k].severity;
        }
        assert_int_equal(n, seen);
        assert_int_equal(alert_tally_over(&t), over);
        assert_int_equal(alert_tally_severity(&t), worst);
        for (size_t i = 0; i < n; i++) {
            const struct alert_tally_problem *p = &t.problems[places[i]];
            size_t k = 0;
            while (plain[k].last != p->seq)
                k++;
            assert_int_equal(p->first_seq, plain[k].first);
            assert_int_equal(p->alerts, plain[k].alerts);
            assert_int_equal(p->severity, plain[k].severity);
            assert_int_equal(p->resolved, plain[k].resolved);
            if (i > 0) {
                const struct alert_tally_problem *q = &t.problems[places[i - 1]];
                assert_true(
                    q->resolved < p->resolved ||
                    (q->resolved == p->resolved &&
                     (q->severity > p->severity || (q->severity == p->severity && q->first_seq < p->first_seq))));
            }
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_there_and_back),
        cmocka_unit_test(a_group_waits_once_then_every_interval),
        cmocka_unit_test(quiet_hours_end_when_they_end),
        cmocka_unit_test(overflow_comes_every_so_often),
        cmocka_unit_test(owed_ones_back_off_and_come_at_once_when_a_channel_is_back),
        cmocka_unit_test(every_reason_backs_off_when_nobody_accepts),
        cmocka_unit_test(few_go_by_themselves),
        cmocka_unit_test(the_last_word_of_each_problem),
        cmocka_unit_test(more_problems_than_are_told_apart),
        cmocka_unit_test(as_a_plain_list_would),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
