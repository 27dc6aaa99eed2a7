/* test_alert_problem.c - how a problem stands with people: every state with every event, and a seeded simulation whose checks know nothing of how
 * it is decided, only of what people were told, when, and what they had asked for. */
#include "alert/alert_doc.h"
#include "alert/alert_problem.h"
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

enum { INFO = 1, WARNING, HIGH, CRITICAL };
#define MINUTE INT64_C(60000)
#define T0     INT64_C(1700000000000)

static const struct alert_problem_rule ladder = {
    .repeat_ms = 240 * MINUTE, .n_steps = 2, .after_ms = {5 * MINUTE, 10 * MINUTE}, .again_ms = 30 * MINUTE};
static const struct alert_problem_rule quiet;

static struct alert_problem_result raise_at(struct alert_problem *p, int severity, int64_t at)
{
    return alert_problem_decide(
        p, &ladder, &(struct alert_problem_event){.kind = ALERT_PROBLEM_RAISE, .severity = severity, .sure = true},
        at);
}

static struct alert_problem_result raise_muted(struct alert_problem *p, int severity, int64_t at, int64_t until)
{
    return alert_problem_decide(
        p, &ladder,
        &(struct alert_problem_event){
            .kind = ALERT_PROBLEM_RAISE, .severity = severity, .sure = true, .muted = true, .mute_until_ms = until},
        at);
}

static struct alert_problem_result end_at(struct alert_problem *p, int64_t at, bool sure)
{
    return alert_problem_decide(
        p, &ladder, &(struct alert_problem_event){.kind = ALERT_PROBLEM_RESOLVE, .severity = HIGH, .sure = sure}, at);
}

static struct alert_problem_result event(struct alert_problem *p, enum alert_problem_event_kind kind, int64_t at,
                                         bool muted, int64_t until)
{
    return alert_problem_decide(
        p, &ladder,
        &(struct alert_problem_event){.kind = kind, .muted = muted, .mute_until_ms = until, .until_ms = until}, at);
}

/* ---- what is decided, case by case ---- */

static void repeats_are_counted_and_worse_is_told_at_once(void **state)
{
    (void)state;
    struct alert_problem p = {0};
    struct alert_problem_result r = raise_at(&p, HIGH, T0);
    assert_int_equal(r.verdict, ALERT_NOTIFY);
    assert_true(r.changed);
    assert_int_equal(p.state, ALERT_PROBLEM_FIRING);
    r = raise_at(&p, HIGH, T0 + 1);
    assert_int_equal(r.verdict, ALERT_REPEAT);
    assert_int_equal(r.repeats, 1);
    assert_false(r.changed); /* a mere repeat is no news for others */
    assert_true(r.touched);
    assert_int_equal(raise_at(&p, HIGH, T0 + 29999).verdict, ALERT_REPEAT);
    r = raise_at(&p, CRITICAL, T0 + 2);
    assert_int_equal(r.verdict, ALERT_NOTIFY);
    assert_int_equal(r.repeats, 2);
    assert_int_equal(p.told_severity, CRITICAL);
    assert_int_equal(raise_at(&p, CRITICAL, T0 + 30002).verdict, ALERT_NOTIFY);
    assert_int_equal(raise_at(&p, CRITICAL, T0).verdict, ALERT_NOTIFY); /* the clock was set back */
    assert_int_equal(raise_at(&p, WARNING, T0 + 1).verdict, ALERT_NOTIFY);
    assert_int_equal(p.told_severity, CRITICAL); /* the worst */
    assert_int_equal(end_at(&p, T0 + 3, true).verdict, ALERT_NOTIFY);
    assert_int_equal(end_at(&p, T0 + 4, true).verdict, ALERT_STRAY);
    assert_int_equal(raise_at(&p, CRITICAL, T0 + 5).verdict, ALERT_NOTIFY); /* a new outbreak */
    assert_int_equal(p.first_ms, T0 + 5);
}

static void an_unknown_end(void **state)
{
    (void)state;
    struct alert_problem never = {0}, unsure = {0};
    assert_int_equal(end_at(&never, T0, true).verdict, ALERT_STRAY);
    assert_int_equal(end_at(&unsure, T0, false).verdict, ALERT_NOTIFY);
    assert_int_equal(end_at(&unsure, T0, false).verdict, ALERT_STRAY);
}

static void acknowledged(void **state)
{
    (void)state;
    struct alert_problem p = {0};
    assert_true(event(&p, ALERT_PROBLEM_ACK, T0, false, T0 + MINUTE).refused); /* there is nothing */
    (void)raise_at(&p, HIGH, T0);
    assert_true(event(&p, ALERT_PROBLEM_ACK, T0 + 1, false, T0 + 1).refused); /* it would be over already */
    assert_true(event(&p, ALERT_PROBLEM_UNACK, T0 + 1, false, 0).refused);
    struct alert_problem_result r = event(&p, ALERT_PROBLEM_ACK, T0 + 1, false, T0 + 30 * MINUTE);
    assert_false(r.refused);
    assert_true(r.changed);
    assert_int_equal(p.due_ms, T0 + 30 * MINUTE);
    assert_int_equal(raise_at(&p, HIGH, T0 + 20 * MINUTE).verdict, ALERT_MUTED);
    assert_int_equal(raise_at(&p, WARNING, T0 + 21 * MINUTE).verdict, ALERT_MUTED);
    assert_int_equal(event(&p, ALERT_PROBLEM_LOOK, T0 + 29 * MINUTE, false, 0).tell, ALERT_TELL_NOTHING);
    /* Its end, while it is still there: told, and the ladder begins anew. */
    r = event(&p, ALERT_PROBLEM_LOOK, T0 + 30 * MINUTE, false, 0);
    assert_int_equal(r.tell, ALERT_TELL_ACK_ENDED);
    assert_int_equal(r.repeats, 2);
    assert_int_equal(p.state, ALERT_PROBLEM_FIRING);
    assert_int_equal(p.escalated_ms, T0 + 30 * MINUTE);
    (void)event(&p, ALERT_PROBLEM_TOLD, T0 + 30 * MINUTE + 1, false, 0);
    assert_int_equal(p.repeats, 0);
    assert_int_equal(p.due_ms, T0 + 35 * MINUTE);
    /* Worse ends it at once. */
    (void)event(&p, ALERT_PROBLEM_ACK, T0 + 31 * MINUTE, false, T0 + 90 * MINUTE);
    assert_int_equal(raise_at(&p, CRITICAL, T0 + 32 * MINUTE).verdict, ALERT_NOTIFY);
    assert_int_equal(p.state, ALERT_PROBLEM_FIRING);
    /* Given back: others hear of it. */
    (void)event(&p, ALERT_PROBLEM_ACK, T0 + 33 * MINUTE, false, T0 + 90 * MINUTE);
    assert_int_equal(event(&p, ALERT_PROBLEM_UNACK, T0 + 34 * MINUTE, false, 0).tell, ALERT_TELL_UNACKED);
    /* An end goes to those who were told, acknowledged or not. */
    (void)event(&p, ALERT_PROBLEM_ACK, T0 + 35 * MINUTE, false, T0 + 90 * MINUTE);
    assert_int_equal(end_at(&p, T0 + 36 * MINUTE, true).verdict, ALERT_NOTIFY);
    assert_true(event(&p, ALERT_PROBLEM_ACK, T0 + 37 * MINUTE, false, T0 + 90 * MINUTE).refused);
}

static void muted(void **state)
{
    (void)state;
    struct alert_problem p = {0};
    assert_int_equal(raise_muted(&p, HIGH, T0, T0 + MINUTE).verdict, ALERT_MUTED);
    assert_int_equal(p.due_ms, T0 + MINUTE);
    assert_int_equal(raise_muted(&p, CRITICAL, T0 + 1, T0 + MINUTE).verdict, ALERT_MUTED);
    assert_int_equal(event(&p, ALERT_PROBLEM_LOOK, T0 + 2, true, T0 + MINUTE).tell, ALERT_TELL_NOTHING);
    struct alert_problem over = p;
    assert_int_equal(end_at(&over, T0 + 3, true).verdict, ALERT_STRAY); /* nobody was told */
    assert_int_equal(event(&p, ALERT_PROBLEM_LOOK, T0 + MINUTE, false, 0).tell, ALERT_TELL_MUTE_ENDED);
    assert_int_equal(p.told_severity, CRITICAL);
    (void)event(&p, ALERT_PROBLEM_TOLD, T0 + MINUTE, false, 0);
    /* Told before, muted then: no repeats, no steps, but the end is told. */
    (void)event(&p, ALERT_PROBLEM_LOOK, T0 + 2 * MINUTE, true, T0 + 600 * MINUTE);
    assert_int_equal(p.state, ALERT_PROBLEM_MUTED);
    assert_int_equal(event(&p, ALERT_PROBLEM_LOOK, T0 + 300 * MINUTE, true, T0 + 600 * MINUTE).tell,
                     ALERT_TELL_NOTHING);
    over = p;
    assert_int_equal(end_at(&over, T0 + 301 * MINUTE, true).verdict, ALERT_NOTIFY);
    /* An alert that comes before anybody has looked does the same. */
    over = p;
    assert_int_equal(raise_at(&over, CRITICAL, T0 + 302 * MINUTE).verdict, ALERT_NOTIFY);
    /* Muted without an end of its own: looked at again and again. */
    (void)event(&p, ALERT_PROBLEM_LOOK, T0 + 303 * MINUTE, true, 0);
    assert_int_equal(p.due_ms, T0 + 303 * MINUTE + ALERT_PROBLEM_POLL_MS);
    /* A person may take on what is muted. Muted at its end: it goes back to be muted, and nobody is told. */
    assert_false(event(&p, ALERT_PROBLEM_ACK, T0 + 304 * MINUTE, true, T0 + 310 * MINUTE).refused);
    assert_int_equal(event(&p, ALERT_PROBLEM_LOOK, T0 + 310 * MINUTE, true, 0).tell, ALERT_TELL_NOTHING);
    assert_int_equal(p.state, ALERT_PROBLEM_MUTED);
}

static void worse_while_acknowledged_and_muted(void **state)
{
    (void)state;
    struct alert_problem p = {0};
    (void)raise_at(&p, HIGH, T0);
    (void)event(&p, ALERT_PROBLEM_ACK, T0 + 1, false, T0 + 60 * MINUTE);
    assert_int_equal(raise_muted(&p, CRITICAL, T0 + 2, T0 + 10 * MINUTE).verdict, ALERT_MUTED);
    assert_int_equal(p.state, ALERT_PROBLEM_ACKNOWLEDGED);
    assert_int_equal(p.due_ms, T0 + 10 * MINUTE); /* not only when the acknowledgement ends */
    assert_int_equal(event(&p, ALERT_PROBLEM_LOOK, T0 + 10 * MINUTE, false, 0).tell, ALERT_TELL_WORSE);
}

static void the_ladder(void **state)
{
    (void)state;
    struct alert_problem p = {0};
    (void)raise_at(&p, HIGH, T0);
    assert_int_equal(p.due_ms, T0 + 5 * MINUTE);
    assert_int_equal(event(&p, ALERT_PROBLEM_LOOK, T0 + 5 * MINUTE - 1, false, 0).tell, ALERT_TELL_NOTHING);
    static const struct {
        int64_t at;
        size_t step;
    } rows[] = {{5, 0}, {15, 1}, {45, 1}, {75, 1}, {105, 1}, {135, 1}, {165, 1}, {195, 1}, {225, 1}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        assert_int_equal(p.due_ms, T0 + rows[i].at * MINUTE);
        struct alert_problem_result r = event(&p, ALERT_PROBLEM_LOOK, p.due_ms, false, 0);
        assert_int_equal(r.tell, ALERT_TELL_STEP);
        assert_int_equal(r.step, rows[i].step);
        assert_false(r.again);
        /* Nobody has confirmed it: again, the same, and not earlier. */
        assert_int_equal(p.due_ms, T0 + rows[i].at * MINUTE + ALERT_PROBLEM_RETRY_MS);
        assert_int_equal(event(&p, ALERT_PROBLEM_LOOK, p.due_ms - 1, false, 0).tell, ALERT_TELL_NOTHING);
        if (i == 1) {
            r = event(&p, ALERT_PROBLEM_LOOK, p.due_ms, false, 0);
            assert_int_equal(r.tell, ALERT_TELL_STEP);
            assert_int_equal(r.step, rows[i].step);
            assert_true(r.again);
        }
        /* An alert meanwhile goes to the route; the step still goes to its own. */
        if (i == 2) {
            (void)raise_at(&p, HIGH, T0 + rows[i].at * MINUTE + 1);
            assert_int_equal(p.telling, ALERT_TELL_STEP);
        }
        (void)event(&p, ALERT_PROBLEM_TOLD, T0 + rows[i].at * MINUTE + 2, false, 0);
    }
    /* 240 min after people were last told (at 45 min). */
    p.due_ms = 0;
    struct alert_problem_result r = event(&p, ALERT_PROBLEM_LOOK, T0 + 254 * MINUTE, false, 0);
    assert_int_equal(r.tell, ALERT_TELL_NOTHING);
    (void)event(&p, ALERT_PROBLEM_LOOK, T0 + 255 * MINUTE, false, 0);
    (void)event(&p, ALERT_PROBLEM_TOLD, T0 + 255 * MINUTE, false, 0);
    assert_int_equal(p.due_ms,
                     T0 + 285 * MINUTE); /* the step of 285 and the repeat of 285 min: one after the other */
    assert_int_equal(event(&p, ALERT_PROBLEM_LOOK, T0 + 286 * MINUTE, false, 0).tell, ALERT_TELL_STEP);
    (void)event(&p, ALERT_PROBLEM_TOLD, T0 + 286 * MINUTE, false, 0);
    assert_int_equal(event(&p, ALERT_PROBLEM_LOOK, T0 + 286 * MINUTE, false, 0).tell, ALERT_TELL_REPEAT);
}

static void settings_with_fewer_steps_do_no_harm(void **state)
{
    (void)state;
    struct alert_problem p = {0};
    (void)raise_at(&p, HIGH, T0);
    (void)event(&p, ALERT_PROBLEM_LOOK, T0 + 5 * MINUTE, false, 0);
    struct alert_problem_result r =
        alert_problem_decide(&p, &quiet, &(struct alert_problem_event){.kind = ALERT_PROBLEM_LOOK}, T0 + 6 * MINUTE);
    assert_int_equal(r.tell, ALERT_TELL_STEP);
    assert_int_equal(r.step, 0);
    (void)alert_problem_decide(&p, &quiet, &(struct alert_problem_event){.kind = ALERT_PROBLEM_TOLD},
                               T0 + 7 * MINUTE);
    assert_int_equal(p.due_ms, 0); /* nothing will come of time alone */
}

static void what_is_over_is_forgotten(void **state)
{
    (void)state;
    struct alert_problem p = {0};
    (void)raise_at(&p, HIGH, T0);
    (void)end_at(&p, T0 + 1, true);
    assert_int_equal(p.due_ms, T0 + 1 + ALERT_PROBLEM_KEEP_MS);
    assert_false(event(&p, ALERT_PROBLEM_LOOK, p.due_ms - 1, false, 0).forget);
    assert_true(event(&p, ALERT_PROBLEM_LOOK, p.due_ms, false, 0).forget);
    /* INFO asks nothing of anybody: not repeated, and forgotten without an end. */
    struct alert_problem info = {0};
    static const struct alert_problem_rule repeats = {.repeat_ms = 60 * MINUTE};
    struct alert_problem_event ev = {.kind = ALERT_PROBLEM_RAISE, .severity = INFO, .sure = true};
    (void)alert_problem_decide(&info, &repeats, &ev, T0);
    assert_int_equal(info.due_ms, T0 + ALERT_PROBLEM_KEEP_MS);
    ev.kind = ALERT_PROBLEM_LOOK;
    assert_int_equal(alert_problem_decide(&info, &repeats, &ev, T0 + 61 * MINUTE).tell, ALERT_TELL_NOTHING);
    assert_true(alert_problem_decide(&info, &repeats, &ev, info.due_ms).forget);
}

static void documents_and_back(void **state)
{
    (void)state;
    struct alert_problem p = {0}, q;
    PB(Alert) a = REDOUBT__V1__ALERT__INIT;
    PB(ProblemChanged) d = REDOUBT__V1__PROBLEM_CHANGED__INIT;
    a.severity = REDOUBT__V1__SEVERITY__SEVERITY_HIGH;
    assert_false(alert_doc_read(&d, &q)); /* no alert */
    d.alert = &a;
    assert_false(alert_doc_read(&d, &q)); /* no state */
    (void)raise_at(&p, HIGH, T0);
    alert_doc_set(&d, &p);
    assert_true(alert_doc_read(&d, &q));
    assert_true(alert_problem_same(&p, &q));
    (void)event(&p, ALERT_PROBLEM_LOOK, T0 + 5 * MINUTE, false, 0);
    alert_doc_set(&d, &p);
    assert_true(alert_doc_read(&d, &q));
    assert_true(alert_problem_same(&p, &q));
    (void)event(&p, ALERT_PROBLEM_ACK, T0 + 6 * MINUTE, false, T0 + 60 * MINUTE);
    alert_doc_set(&d, &p);
    assert_true(alert_doc_read(&d, &q));
    assert_true(alert_problem_same(&p, &q));
    /* The last acknowledgement stays to be read; it is in force in its state only. */
    (void)event(&p, ALERT_PROBLEM_LOOK, T0 + 60 * MINUTE, false, 0);
    alert_doc_set(&d, &p);
    assert_int_equal(d.acked_until_unix_ms, T0 + 60 * MINUTE);
    d.acked_by = (char *)"eve";
    char note[ALERT_TELL_MAX];
    assert_string_equal(alert_doc_note(&d, ALERT_TELL_ACK_ENDED, 0, 3, T0 + 60 * MINUTE, note),
                        "acknowledged by eve until 2023-11-14T23:13:20.000Z; still there, for 60 min now; repeated 3 "
                        "times since people were last told");
    assert_string_equal(alert_doc_note(&d, ALERT_TELL_STEP, 1, 0, T0 + 65 * MINUTE, note),
                        "nobody has acknowledged it for 5 min (step 2 of its escalation)");
    /* What contradicts itself is not ours. */
    d.told_unix_ms = 0;
    assert_false(alert_doc_read(&d, &q));

    char id[ALERT_ID_LEN + 1], same[ALERT_ID_LEN + 1];
    alert_doc_id("llm/primary", id);
    assert_string_equal(alert_doc_named("llm/primary", same), id);
    assert_string_equal(alert_doc_named(id, same), id);
}

/* ---- simulation ---- */

static uint64_t seed, rng;
static uint32_t rnd(uint32_t below)
{
    rng ^= rng << 13;
    rng ^= rng >> 7;
    rng ^= rng << 17;
    return (uint32_t)((rng >> 11) % below);
}

#define CHECK(x)                                                                                                     \
    do {                                                                                                             \
        if (!(x)) {                                                                                                  \
            fprintf(stderr, "seed %" PRIu64 ": %s (line %d, %" PRId64 " ms)\n", seed, #x, __LINE__, w->now - T0);    \
            abort();                                                                                                 \
        }                                                                                                            \
    } while (0)

/* What a bystander sees: what was raised, what people were told, what they asked for. */
struct world {
    struct alert_problem p;
    struct alert_problem_rule rule;
    int64_t now;
    bool there, told;         /* in this outbreak */
    int severity, worst_told; /* as last raised; as told */
    int64_t ack_until;        /* 0 = not acknowledged */
    int64_t mute_until;       /* 0 = not muted; INT64_MAX = somebody else ends it */
    int64_t mute_known;       /* as the decider is told: 0 = no end */
    int64_t heard_ms;         /* when people on the route last heard anything in this outbreak */
    int64_t free_ms;          /* since when it is there, not muted and not acknowledged */
    int64_t step_ms;          /* the last step, or the ladder's beginning */
    uint32_t steps;
    int notified_severity; /* of the last alert that went out, while nothing else came between; 0 = none */
    int64_t notified_ms;
    bool unconfirmed;
    uint64_t heard_total;
};

static bool is_muted(const struct world *w)
{
    return w->mute_until > w->now;
}

static bool is_acked(const struct world *w)
{
    return w->ack_until > w->now;
}

static struct alert_problem_event an_event(const struct world *w, enum alert_problem_event_kind kind)
{
    return (struct alert_problem_event){.kind = kind,
                                        .severity = w->severity,
                                        .sure = true,
                                        .muted = is_muted(w),
                                        .mute_until_ms = is_muted(w) ? w->mute_known : 0};
}

static struct alert_problem_result apply(struct world *w, const struct alert_problem_event *ev)
{
    struct alert_problem was = w->p;
    struct alert_problem_result r = alert_problem_decide(&w->p, &w->rule, ev, w->now);
    CHECK(w->p.state == ALERT_PROBLEM_UNKNOWN || alert_problem_sound(&w->p));
    CHECK(r.touched || alert_problem_same(&was, &w->p));
    CHECK(r.touched || !r.changed);
    return r;
}

static void heard(struct world *w)
{
    w->told = true;
    w->heard_ms = w->now;
    w->heard_total++;
    if (w->severity > w->worst_told)
        w->worst_told = w->severity;
}

static void becomes_free(struct world *w)
{
    w->free_ms = w->step_ms = w->now;
    w->steps = 0;
}

static void do_raise(struct world *w)
{
    w->severity = WARNING + (int)rnd(3);
    bool new = !w->there;
    if (new) {
        w->there = true;
        w->told = false;
        w->worst_told = 0;
        w->ack_until = 0;
        w->notified_severity = 0;
    }
    bool was_acked = w->ack_until != 0;
    struct alert_problem_event ev = an_event(w, ALERT_PROBLEM_RAISE);
    bool was_firing = w->p.state == ALERT_PROBLEM_FIRING;
    struct alert_problem_result r = apply(w, &ev);
    CHECK(r.verdict != ALERT_STRAY);
    if (is_muted(w)) {
        CHECK(r.verdict == ALERT_MUTED);
    } else if (is_acked(w) && w->severity <= w->worst_told) {
        CHECK(r.verdict == ALERT_MUTED);
    } else if (new || w->severity > w->worst_told || was_acked) {
        CHECK(r.verdict == ALERT_NOTIFY);
    }
    if (r.verdict == ALERT_NOTIFY) {
        CHECK(!(w->notified_severity == w->severity && w->now - w->notified_ms < 30000));
        w->ack_until = 0;
        w->notified_severity = w->severity;
        w->notified_ms = w->now;
        heard(w);
        if (!was_firing)
            becomes_free(w);
    } else if (r.verdict == ALERT_REPEAT) {
        CHECK(w->told && w->now - w->heard_ms < 30000);
    }
}

static void do_end(struct world *w)
{
    struct alert_problem_event ev = an_event(w, ALERT_PROBLEM_RESOLVE);
    ev.severity = w->severity ? w->severity : HIGH;
    struct alert_problem_result r = apply(w, &ev);
    CHECK(r.verdict == (w->there && w->told ? ALERT_NOTIFY : ALERT_STRAY)); /* muted or not, acknowledged or not */
    CHECK(!alert_problem_open(&w->p));
    w->there = w->told = w->unconfirmed = false;
    w->ack_until = 0;
    w->notified_severity = 0;
}

static void took(struct world *w, const struct alert_problem_result *r)
{
    if (r->tell == ALERT_TELL_NOTHING)
        return;
    CHECK(w->there && !is_muted(w));
    CHECK(!is_acked(w) || (r->tell == ALERT_TELL_WORSE && w->severity > w->worst_told));
    w->notified_severity = 0;
    w->heard_total++;
    if (r->again) {
        CHECK(w->unconfirmed);
    } else if (r->tell == ALERT_TELL_STEP) {
        size_t step = w->steps < w->rule.n_steps ? w->steps : w->rule.n_steps - 1;
        int64_t after = w->steps < w->rule.n_steps ? w->rule.after_ms[step] : w->rule.again_ms;
        CHECK(r->step == step && after > 0);
        CHECK(w->now >= w->step_ms + after);
        w->steps++;
        w->step_ms = w->now;
    } else {
        if (r->tell == ALERT_TELL_REPEAT)
            CHECK(w->now >= w->heard_ms + w->rule.repeat_ms && w->rule.repeat_ms > 0);
        else
            becomes_free(w);
        heard(w);
        w->ack_until = 0;
    }
    w->unconfirmed = rnd(4) == 0; /* who told it has died before it was noted */
    if (!w->unconfirmed) {
        struct alert_problem_event ev = an_event(w, ALERT_PROBLEM_TOLD);
        (void)apply(w, &ev);
    }
}

static void do_look(struct world *w)
{
    struct alert_problem_event ev = an_event(w, ALERT_PROBLEM_LOOK);
    struct alert_problem_result r = apply(w, &ev);
    if (is_muted(w) && w->p.state != ALERT_PROBLEM_ACKNOWLEDGED)
        w->unconfirmed = false;
    if (w->ack_until != 0 && !is_acked(w) && is_muted(w))
        w->ack_until = 0;
    took(w, &r);
    if (!r.forget && !r.refused && w->p.due_ms != 0 && w->p.state == ALERT_PROBLEM_FIRING)
        CHECK(w->p.due_ms > w->now || r.tell != ALERT_TELL_NOTHING);
}

static void do_ack(struct world *w)
{
    struct alert_problem_event ev = an_event(w, ALERT_PROBLEM_ACK);
    ev.until_ms = w->now + 1000 + rnd(7200000);
    struct alert_problem_result r = apply(w, &ev);
    CHECK(r.refused == !w->there);
    if (r.refused)
        return;
    w->ack_until = ev.until_ms;
    w->unconfirmed = false;
    w->notified_severity = 0;
    if (w->severity > w->worst_told)
        w->worst_told = w->severity;
}

static void do_unack(struct world *w)
{
    struct alert_problem_event ev = an_event(w, ALERT_PROBLEM_UNACK);
    bool was = w->p.state == ALERT_PROBLEM_ACKNOWLEDGED;
    struct alert_problem_result r = apply(w, &ev);
    CHECK(r.refused == !was);
    if (r.refused)
        return;
    w->ack_until = 0;
    CHECK((r.tell == ALERT_TELL_UNACKED) == !is_muted(w)); /* it is nobody's now: others hear of it */
    took(w, &r);
}

/* With looks at each due time and at nothing else, nobody stays uninformed for long. */
static void nobody_is_uninformed(struct world *w)
{
    if (!w->there || is_muted(w) || is_acked(w) || w->unconfirmed)
        return;
    CHECK(w->told && w->p.state == ALERT_PROBLEM_FIRING);
    CHECK(w->worst_told >= w->severity);
    if (w->rule.repeat_ms > 0)
        CHECK(w->now - w->heard_ms <= w->rule.repeat_ms + 2 * ALERT_PROBLEM_RETRY_MS * 20);
    if (w->steps < w->rule.n_steps)
        CHECK(w->now - w->step_ms <= w->rule.after_ms[w->steps] + 2 * ALERT_PROBLEM_RETRY_MS * 20);
}

static void one_world(uint64_t of_seed)
{
    seed = of_seed;
    rng = of_seed * UINT64_C(0x9e3779b97f4a7c15) + 1;
    static struct world world;
    struct world *w = &world;
    *w = (struct world){.now = T0};
    w->rule.repeat_ms = rnd(3) ? 600000 + (int64_t)rnd(14400000) : 0;
    w->rule.n_steps = rnd(4);
    for (size_t i = 0; i < w->rule.n_steps; i++)
        w->rule.after_ms[i] = 1000 + rnd(1800000);
    w->rule.again_ms = rnd(2) ? 60000 + (int64_t)rnd(3600000) : 0;
    int64_t next_ms = T0;
    for (int n = 0; n < 400;) {
        /* Time goes to whatever comes first: what happens, a mute's end, or what is due. */
        int64_t due = w->p.due_ms ? w->p.due_ms : INT64_MAX, ends = is_muted(w) ? w->mute_until : INT64_MAX;
        int64_t to = next_ms < due ? next_ms : due;
        to = to < ends ? to : ends;
        w->now = to > w->now ? to : w->now;
        if (to == ends && !is_muted(w)) {
            w->mute_until = 0;
            do_look(w); /* who mutes says so */
        } else if (to == due && due != INT64_MAX && due <= w->now) {
            do_look(w);
            if (!alert_problem_open(&w->p))
                w->p.due_ms = 0; /* forgotten: not of interest here */
        } else {
            n++;
            next_ms = w->now + 1 + (rnd(3) ? (int64_t)rnd(40000) : (int64_t)rnd(5400000));
            switch (rnd(12)) {
            case 0:
                do_end(w);
                break;
            case 1:
            case 2:
                do_ack(w);
                break;
            case 3:
                do_unack(w);
                break;
            case 4:
                w->mute_until = w->now + 1000 + rnd(3600000);
                w->mute_known = rnd(2) ? w->mute_until : 0;
                do_look(w);
                break;
            case 5:
                w->mute_until = 0;
                do_look(w);
                break;
            default:
                do_raise(w);
            }
        }
        nobody_is_uninformed(w);
    }
    CHECK(w->heard_total > 0);
}

static void nobody_uninformed_and_nobody_bothered(void **state)
{
    (void)state;
    const char *given = getenv("SEED");
    if (given) {
        one_world(strtoull(given, NULL, 10));
        return;
    }
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    const uint64_t n = 200;
#else
    const uint64_t n = getenv("VALGRIND") ? 20 : 2000;
#endif
    uint64_t base = (uint64_t)time(NULL);
    for (uint64_t i = 0; i < n; i++)
        one_world(base * 10000 + i);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(repeats_are_counted_and_worse_is_told_at_once),
        cmocka_unit_test(an_unknown_end),
        cmocka_unit_test(acknowledged),
        cmocka_unit_test(muted),
        cmocka_unit_test(worse_while_acknowledged_and_muted),
        cmocka_unit_test(the_ladder),
        cmocka_unit_test(settings_with_fewer_steps_do_no_harm),
        cmocka_unit_test(what_is_over_is_forgotten),
        cmocka_unit_test(documents_and_back),
        cmocka_unit_test(nobody_uninformed_and_nobody_bothered),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
