/* test_guard_replay.c - the replay's policy: when it waits, what becomes of each outcome; and whole towns of agents, replicas that die and
 * a stream that forgets, by seed: in order, each once, nothing lost, never faster than the rate. */
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "guard/guard_replay.h"
#include "guard/guard_shell.h"

#define PBE(x)    REDOUBT__V1__##x
#define REASON(x) PBE(REFUSAL_REASON__REFUSAL_REASON_##x)
#define T0        INT64_C(1000000000)

static const struct guard_replay_rule rule = {.max_age_ms = 100000, .retry_ms = 100, .dead_after = 3};

static struct guard_position well(void)
{
    return (struct guard_position){.epoch = 7,
                                   .posture = PBE(POSTURE__POSTURE_NORMAL),
                                   .automation = PBE(AUTOMATION_MODE__AUTOMATION_MODE_ENABLED),
                                   .backend = PBE(BACKEND_MODE__BACKEND_MODE_UP),
                                   .link = PBE(LINK_MODE__LINK_MODE_UP),
                                   .resources = PBE(RESOURCE_MODE__RESOURCE_MODE_OK),
                                   .ramp_percent = 100,
                                   .load_percent = 100};
}

struct one {
    struct guard_replay r;
    struct guard_position at;
    struct guard_replay_view v;
};
static void one(struct one *o, uint64_t waiting)
{
    memset(o, 0, sizeof *o);
    o->at = well();
    o->v = (struct guard_replay_view){.held = true, .sure = true, .known = true, .at = &o->at};
    uint64_t counts[GUARD_PRIORITIES] = {0};
    counts[3] = waiting;
    guard_replay_counts(&o->r, counts, T0);
}

static struct guard_replay_message message(uint64_t seq)
{
    return (struct guard_replay_message){.seq = seq, .priority = 3, .sound = true, .epoch = 7, .queued_ms = T0};
}

/* Reads the message and begins to run it. */
static void begin(struct one *o, uint64_t seq, int64_t now)
{
    struct guard_replay_do d = guard_replay_next(&o->r, &o->v, now);
    struct guard_replay_message m = message(seq);
    assert_int_equal(d.what, GUARD_REPLAY_READ);
    assert_int_equal(d.priority, 3);
    d = guard_replay_read(&o->r, &rule, &o->v, &m, now);
    assert_int_equal(d.what, GUARD_REPLAY_RUN);
    assert_int_equal(d.seq, seq);
}

/* ---- tables ---- */

static void it_waits_for_the_position(void **state)
{
    (void)state;
    struct one o;
    one(&o, 1);
    assert_null(guard_replay_waits_for(&o.v));
    struct {
        int *field;
        int value;
    } blocks[] = {
        {&o.at.automation, PBE(AUTOMATION_MODE__AUTOMATION_MODE_FROZEN)},
        {&o.at.automation, PBE(AUTOMATION_MODE__AUTOMATION_MODE_UNSPECIFIED)},
        {&o.at.posture, PBE(POSTURE__POSTURE_FROZEN)},
        {&o.at.backend, PBE(BACKEND_MODE__BACKEND_MODE_DEGRADED)},
        {&o.at.link, PBE(LINK_MODE__LINK_MODE_RESTRICTED)},
        {&o.at.link, PBE(LINK_MODE__LINK_MODE_GONE)},
        {&o.at.resources, PBE(RESOURCE_MODE__RESOURCE_MODE_RESTARTING)},
    };
    for (size_t i = 0; i < sizeof blocks / sizeof blocks[0]; i++) {
        int was = *blocks[i].field;
        *blocks[i].field = blocks[i].value;
        assert_non_null(guard_replay_waits_for(&o.v));
        *blocks[i].field = was;
        assert_null(guard_replay_waits_for(&o.v));
    }
    o.at.llm_waiting = true;
    assert_non_null(guard_replay_waits_for(&o.v));
    o.at.llm_waiting = false;
    o.at.epoch = 0;
    assert_non_null(guard_replay_waits_for(&o.v));
    o.at.epoch = 7;
    o.v.sure = false;
    assert_non_null(guard_replay_waits_for(&o.v));
    o.v.sure = true;
    o.v.known = false;
    assert_non_null(guard_replay_waits_for(&o.v));
    o.v.known = true;
    o.v.at = NULL;
    assert_non_null(guard_replay_waits_for(&o.v));
    o.v.at = &o.at;
    /* On the way back the guard itself lets a share pass. */
    o.at.backend = PBE(BACKEND_MODE__BACKEND_MODE_RECOVERING);
    o.at.link = PBE(LINK_MODE__LINK_MODE_RETURNING);
    o.at.resources = PBE(RESOURCE_MODE__RESOURCE_MODE_SHEDDING);
    assert_null(guard_replay_waits_for(&o.v));
}

/* Nothing at all without the lease; without a position only a look for what has expired. */
static void it_looks_for_the_expired_while_it_waits(void **state)
{
    (void)state;
    struct one o;
    one(&o, 2);
    o.v.held = false;
    assert_int_equal(guard_replay_due(&o.r, &o.v), INT64_MAX);
    assert_int_equal(guard_replay_next(&o.r, &o.v, T0).what, GUARD_REPLAY_NOTHING);
    o.v.held = true;
    o.at.backend = PBE(BACKEND_MODE__BACKEND_MODE_DEGRADED);
    struct guard_replay_do d = guard_replay_next(&o.r, &o.v, T0);
    assert_int_equal(d.what, GUARD_REPLAY_READ);
    assert_int_equal(d.priority, -1);
    struct guard_replay_message m = message(5);
    m.expires_ms = T0 + 700;
    assert_int_equal(guard_replay_read(&o.r, &rule, &o.v, &m, T0).what, GUARD_REPLAY_NOTHING);
    assert_int_equal(guard_replay_due(&o.r, &o.v), T0 + 700);
    assert_int_equal(guard_replay_next(&o.r, &o.v, T0 + 699).what, GUARD_REPLAY_NOTHING);
    assert_int_equal(guard_replay_next(&o.r, &o.v, T0 + 700).what, GUARD_REPLAY_READ);
    assert_int_equal(guard_replay_read(&o.r, &rule, &o.v, &m, T0 + 700).what, GUARD_REPLAY_BURY);
    assert_int_equal(o.r.leaving, GUARD_LEFT_EXPIRED);
    d = guard_replay_buried(&o.r, true, T0 + 700);
    assert_int_equal(d.what, GUARD_REPLAY_REMOVE);
    assert_int_equal(d.seq, 5);
    guard_replay_removed(&o.r, true, T0 + 701);
    assert_int_equal(guard_replay_waiting(&o.r), 1);
    /* The next at once; it is young: by its age at the latest. */
    assert_int_equal(guard_replay_next(&o.r, &o.v, T0 + 701).what, GUARD_REPLAY_READ);
    m = message(6);
    m.queued_ms = T0 - rule.max_age_ms + 1000;
    assert_int_equal(guard_replay_read(&o.r, &rule, &o.v, &m, T0 + 701).what, GUARD_REPLAY_NOTHING);
    assert_int_equal(guard_replay_due(&o.r, &o.v), T0 + 1001);
    /* Back: run at once. */
    o.at.backend = PBE(BACKEND_MODE__BACKEND_MODE_UP);
    guard_replay_moved(&o.r, &o.v, T0 + 702);
    assert_int_equal(guard_replay_due(&o.r, &o.v), T0 + 702);
    begin(&o, 6, T0 + 702);
}

static void each_outcome_has_its_way(void **state)
{
    (void)state;
    static const struct {
        int end, reason;
        bool hold;
        int what, leaving;
        int64_t pause_ms;
    } rows[] = {
        {GUARD_END_DONE, 0, false, GUARD_REPLAY_REMOVE, GUARD_LEFT_DONE, 0},
        {GUARD_END_REJECTED, 0, false, GUARD_REPLAY_BURY, GUARD_LEFT_REJECTED, 0},
        {GUARD_END_PERMITTED, 0, false, GUARD_REPLAY_BURY, GUARD_LEFT_REFUSED, 0},
        {GUARD_END_QUEUE, 0, false, GUARD_REPLAY_NOTHING, 0, 1000},
        {GUARD_END_QUEUE, 0, true, GUARD_REPLAY_NOTHING, 0, 5000},
        {GUARD_END_RETRY, 0, false, GUARD_REPLAY_NOTHING, 0, 100},
        {GUARD_END_REFUSED, REASON(EXPIRED), false, GUARD_REPLAY_BURY, GUARD_LEFT_EXPIRED, 0},
        {GUARD_END_REFUSED, REASON(NOT_ALLOWED), false, GUARD_REPLAY_BURY, GUARD_LEFT_REFUSED, 0},
        {GUARD_END_REFUSED, REASON(INVALID), false, GUARD_REPLAY_BURY, GUARD_LEFT_REFUSED, 0},
        {GUARD_END_REFUSED, REASON(STALE_EPOCH), false, GUARD_REPLAY_BURY, GUARD_LEFT_REFUSED, 0},
        {GUARD_END_REFUSED, REASON(RATE_LIMITED), false, GUARD_REPLAY_NOTHING, 0, 100},
        {GUARD_END_REFUSED, REASON(AUDIT_UNAVAILABLE), false, GUARD_REPLAY_NOTHING, 0, 100},
        {GUARD_END_REFUSED, REASON(STATE_UNKNOWN), false, GUARD_REPLAY_NOTHING, 0, 100},
        {GUARD_END_REFUSED, REASON(IN_PROGRESS), false, GUARD_REPLAY_NOTHING, 0, 100},
        {GUARD_END_REFUSED, REASON(FROZEN), false, GUARD_REPLAY_NOTHING, 0, 100},
        {GUARD_END_REFUSED, REASON(UNKNOWN_AGENT), false, GUARD_REPLAY_NOTHING, 0, 100},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct one o;
        one(&o, 2);
        begin(&o, 1, T0);
        struct guard_replay_outcome out = {.end = rows[i].end, .reason = rows[i].reason, .hold = rows[i].hold};
        struct guard_replay_do d = guard_replay_ran(&o.r, &rule, &out, T0);
        assert_int_equal(d.what, rows[i].what);
        if (d.what == GUARD_REPLAY_NOTHING) {
            assert_int_equal(guard_replay_due(&o.r, &o.v), T0 + rows[i].pause_ms);
            assert_int_equal(guard_replay_waiting(&o.r), 2);
            begin(&o, 1, T0 + rows[i].pause_ms); /* the same one again: nothing overtakes it */
            continue;
        }
        if (d.what == GUARD_REPLAY_BURY)
            d = guard_replay_buried(&o.r, true, T0);
        assert_int_equal(d.what, GUARD_REPLAY_REMOVE);
        assert_int_equal(d.seq, 1);
        guard_replay_removed(&o.r, true, T0);
        assert_int_equal(o.r.left[rows[i].leaving], 1);
        assert_int_equal(guard_replay_waiting(&o.r), 1);
        begin(&o, 2, T0);
    }
}

/* A guard that was killed leaves its keys claimed for longer than all tries take together. */
static void what_is_not_its_fault_is_no_try(void **state)
{
    (void)state;
    static const int reasons[] = {REASON(IN_PROGRESS), REASON(RATE_LIMITED), REASON(AUDIT_UNAVAILABLE)};
    for (size_t i = 0; i < sizeof reasons / sizeof reasons[0]; i++) {
        struct one o;
        int64_t now = T0;
        struct guard_replay_outcome held = {.end = GUARD_END_RETRY, .reason = reasons[i], .retry_after_ms = 40};
        struct guard_replay_outcome done = {.end = GUARD_END_DONE};
        one(&o, 1);
        for (int try = 0; try < 10 * (int)rule.dead_after; try++) {
            begin(&o, 1, now);
            assert_int_equal(guard_replay_ran(&o.r, &rule, &held, now).what, GUARD_REPLAY_NOTHING);
            assert_int_equal(o.r.tries, 0);
            now += 100;
            assert_int_equal(guard_replay_due(&o.r, &o.v), now);
        }
        begin(&o, 1, now);
        assert_int_equal(guard_replay_ran(&o.r, &rule, &done, now).what, GUARD_REPLAY_REMOVE);
    }
}

static void poison_is_buried_in_the_end(void **state)
{
    (void)state;
    struct one o;
    int64_t now = T0;
    struct guard_replay_outcome retry = {.end = GUARD_END_RETRY};
    one(&o, 2);
    for (int i = 0; i < 2; i++) {
        begin(&o, 1, now);
        assert_int_equal(guard_replay_ran(&o.r, &rule, &retry, now).what, GUARD_REPLAY_NOTHING);
        assert_int_equal(guard_replay_due(&o.r, &o.v), now + (100 << i));
        guard_replay_moved(&o.r, &o.v, now); /* a step of a ramp: the pause stays */
        assert_int_equal(guard_replay_due(&o.r, &o.v), now + (100 << i));
        now += 100 << i;
    }
    begin(&o, 1, now);
    assert_int_equal(guard_replay_ran(&o.r, &rule, &retry, now).what, GUARD_REPLAY_BURY);
    assert_int_equal(o.r.leaving, GUARD_LEFT_POISON);
    /* The letter could not be made durable: it is tried again, and buried again. */
    assert_int_equal(guard_replay_buried(&o.r, false, now).what, GUARD_REPLAY_NOTHING);
    now += 1000;
    begin(&o, 1, now);
    assert_int_equal(guard_replay_ran(&o.r, &rule, &retry, now).what, GUARD_REPLAY_BURY);
    assert_int_equal(guard_replay_buried(&o.r, true, now).what, GUARD_REPLAY_REMOVE);
    /* The answer of the removal was lost: only that is done again. */
    guard_replay_removed(&o.r, false, now);
    assert_int_equal(guard_replay_next(&o.r, &o.v, now + 999).what, GUARD_REPLAY_NOTHING);
    struct guard_replay_do d = guard_replay_next(&o.r, &o.v, now + 1000);
    assert_int_equal(d.what, GUARD_REPLAY_REMOVE);
    assert_int_equal(d.seq, 1);
    guard_replay_removed(&o.r, true, now + 1000);
    assert_int_equal(o.r.left[GUARD_LEFT_POISON], 1);
    /* The next has all its tries. */
    begin(&o, 2, now + 1000);
    assert_int_equal(guard_replay_ran(&o.r, &rule, &retry, now).what, GUARD_REPLAY_NOTHING);
    /* An outage is not the action's fault. */
    assert_int_equal(o.r.tries, 1);
    o.at.backend = PBE(BACKEND_MODE__BACKEND_MODE_DEGRADED);
    guard_replay_moved(&o.r, &o.v, now);
    assert_int_equal(o.r.tries, 0);
    /* The pause that the backend asks for counts if it is longer. */
    one(&o, 1);
    begin(&o, 1, T0);
    retry.retry_after_ms = 30000;
    guard_replay_ran(&o.r, &rule, &retry, T0);
    assert_int_equal(guard_replay_due(&o.r, &o.v), T0 + 30000);
    /* Doubling ends at a minute. */
    const struct guard_replay_rule patient = {.max_age_ms = 100000, .retry_ms = 2000, .dead_after = 1000};
    retry.retry_after_ms = 0;
    for (int i = 0; i < 40; i++) {
        struct guard_replay_message m = message(1);
        int64_t at = guard_replay_due(&o.r, &o.v);
        assert_int_equal(guard_replay_next(&o.r, &o.v, at).what, GUARD_REPLAY_READ);
        m.queued_ms = at;
        assert_int_equal(guard_replay_read(&o.r, &patient, &o.v, &m, at).what, GUARD_REPLAY_RUN);
        guard_replay_ran(&o.r, &patient, &retry, at);
        assert_true(guard_replay_due(&o.r, &o.v) <= at + 60000);
    }
}

/* From before a freeze: passed over, told, released. */
static void actions_from_before_a_freeze_are_held(void **state)
{
    (void)state;
    struct one o;
    one(&o, 3);
    o.at.frozen_epoch = 5;
    for (uint64_t seq = 1; seq <= 2; seq++) {
        struct guard_replay_message m = message(seq);
        m.epoch = seq == 1 ? 0 : 5; /* an epoch of 0 is older than any */
        o.v.released_epoch = 0;
        if (seq == 1)
            m.epoch = 3;
        assert_int_equal(guard_replay_next(&o.r, &o.v, T0).what, GUARD_REPLAY_READ);
        assert_int_equal(guard_replay_read(&o.r, &rule, &o.v, &m, T0).what, GUARD_REPLAY_NOTHING);
    }
    assert_int_equal(guard_replay_skipped(&o.r), 2);
    /* Those of later are not kept waiting by them. */
    struct guard_replay_do d = guard_replay_next(&o.r, &o.v, T0);
    assert_int_equal(d.what, GUARD_REPLAY_READ);
    assert_int_equal(d.seq, 3);
    struct guard_replay_message m = message(3);
    m.epoch = 6;
    assert_int_equal(guard_replay_read(&o.r, &rule, &o.v, &m, T0).what, GUARD_REPLAY_RUN);
    guard_replay_ran(&o.r, &rule, &(struct guard_replay_outcome){.end = GUARD_END_DONE}, T0);
    guard_replay_removed(&o.r, true, T0);
    assert_int_equal(guard_replay_waiting(&o.r), 2);
    /* Only a look is left, and it finds the first. */
    d = guard_replay_next(&o.r, &o.v, T0);
    assert_int_equal(d.what, GUARD_REPLAY_READ);
    assert_int_equal(d.priority, -1);
    m = message(1);
    m.epoch = 3;
    assert_int_equal(guard_replay_read(&o.r, &rule, &o.v, &m, T0).what, GUARD_REPLAY_NOTHING);
    assert_int_equal(guard_replay_due(&o.r, &o.v), T0 + GUARD_REPLAY_LOOK_MS);
    /* Released up to that epoch; a later freeze holds again. */
    o.v.released_epoch = 5;
    guard_replay_released(&o.r);
    assert_int_equal(guard_replay_skipped(&o.r), 0);
    begin(&o, 1, T0);
    o.at.frozen_epoch = 9;
    guard_replay_ran(&o.r, &rule, &(struct guard_replay_outcome){.end = GUARD_END_DONE}, T0);
    guard_replay_removed(&o.r, true, T0);
    m = message(2);
    m.epoch = 8;
    guard_replay_next(&o.r, &o.v, T0);
    assert_int_equal(guard_replay_read(&o.r, &rule, &o.v, &m, T0).what, GUARD_REPLAY_NOTHING);
    assert_int_equal(guard_replay_skipped(&o.r), 1);
    /* A person drops it: counts say so. */
    guard_replay_counts(&o.r, (uint64_t[GUARD_PRIORITIES]){0}, T0);
    assert_int_equal(guard_replay_skipped(&o.r), 0);
    assert_int_equal(guard_replay_next(&o.r, &o.v, T0).what, GUARD_REPLAY_READ);
    assert_int_equal(guard_replay_read(&o.r, &rule, &o.v, NULL, T0).what, GUARD_REPLAY_DRAINED);
    assert_int_equal(o.r.left[GUARD_LEFT_DONE], 2);
    guard_replay_said(&o.r);
    assert_int_equal(guard_replay_due(&o.r, &o.v), INT64_MAX);
}

static void priorities_come_first(void **state)
{
    (void)state;
    struct one o;
    one(&o, 4);
    guard_replay_put(&o.r, 9);
    guard_replay_put(&o.r, 0);
    struct guard_replay_do d = guard_replay_next(&o.r, &o.v, T0);
    assert_int_equal(d.priority, 0);
    /* Counted, and not there: the next priority's turn. */
    assert_int_equal(guard_replay_read(&o.r, &rule, &o.v, NULL, T0).what, GUARD_REPLAY_NOTHING);
    d = guard_replay_next(&o.r, &o.v, T0);
    assert_int_equal(d.priority, 3);
    guard_replay_unread(&o.r, T0);
    assert_int_equal(guard_replay_due(&o.r, &o.v), T0 + 1000);
    /* The lease goes while one is read: nothing is run. */
    guard_replay_next(&o.r, &o.v, T0 + 1000);
    o.v.held = false;
    struct guard_replay_message m = message(1);
    assert_int_equal(guard_replay_read(&o.r, &rule, &o.v, &m, T0 + 1000).what, GUARD_REPLAY_NOTHING);
    assert_int_equal(o.r.step, GUARD_REPLAY_REST);
    /* Malformed: buried, whatever it is. */
    o.v.held = true;
    guard_replay_next(&o.r, &o.v, T0 + 1000);
    m = (struct guard_replay_message){.seq = 9, .priority = 77};
    assert_int_equal(guard_replay_read(&o.r, &rule, &o.v, &m, T0 + 1000).what, GUARD_REPLAY_BURY);
    assert_int_equal(o.r.leaving, GUARD_LEFT_MALFORMED);
}

static void the_pace_is_kept(void **state)
{
    (void)state;
    static const struct {
        int64_t rate;
        size_t parts;
    } rows[] = {{50, 32}, {50, 1}, {5000, 16}, {100000, 32}, {1, 32}, {7, 11}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct guard_pace p = {0};
        double per_us = (double)rows[i].rate * (double)rows[i].parts / 32 / 1e6;
        int64_t now = 123456789, began = now, n = 0;
        int64_t span = (int64_t)(2000 / per_us);
        unsigned seed = (unsigned)i;
        while (now < began + span) {
            int64_t wait = guard_pace(&p, rows[i].rate, rows[i].parts, 32, now);
            if (wait == 0)
                n++;
            else
                now += wait + rand_r(&seed) % 1000; /* timers come late */
            double most = ((double)(now - began) + GUARD_PACE_SLACK_US) * per_us + 1.001;
            assert_true((double)n <= most * 1.1); /* whole microseconds: a tenth at most for the fastest */
        }
        /* And it is used, as long as timers are late by less than the slack. */
        assert_true((double)n >= 0.8 * (double)span * per_us);
    }
    struct guard_pace p = {0};
    assert_true(guard_pace(&p, 50, 0, 32, 1) > 0); /* no partition, no replay */
}

/* ---- simulation ---- */

enum { AGENTS = 5, REPLICAS = 3, ACTIONS = 400, STREAM_MAX = 4000 };
struct action {
    uint64_t seq;
    int agent;
    unsigned priority;
    uint64_t epoch;
    int64_t queued_ms, expires_ms;
    int kind;          /* 0 good, 1 poison, 2 rejected, 3 malformed, 4 refused */
    bool there, taken; /* on the stream; taken out of it at some time */
    int executed;      /* at the backend */
    int buried;
    bool running; /* its key is locked */
};
struct guard_sim {
    bool alive;
    struct guard_replay r[AGENTS];
    bool busy[AGENTS]; /* something is under way for r */
    struct guard_replay_do doing[AGENTS];
    struct action *hand[AGENTS];
    uint64_t life; /* answers to an earlier life are lost */
};
struct town {
    unsigned seed;
    int64_t now;
    struct action a[ACTIONS];
    size_t n;
    uint64_t last_seq;
    struct guard_position at[AGENTS];
    uint64_t released[AGENTS];
    int holder[AGENTS];
    struct guard_sim rep[REPLICAS];
    uint64_t last_run[AGENTS][GUARD_PRIORITIES]; /* sequence of the last first execution */
    uint64_t drained;
};

static unsigned dice(struct town *t, unsigned n)
{
    return (unsigned)rand_r(&t->seed) % n;
}

static struct action *find(struct town *t, int agent, int priority, uint64_t from)
{
    for (size_t i = 0; i < t->n; i++)
        if (t->a[i].there && t->a[i].agent == agent && t->a[i].seq >= from &&
            (priority < 0 || (unsigned)priority == t->a[i].priority))
            return &t->a[i];
    return NULL;
}

static struct guard_replay_view view(struct town *t, int rep, int agent)
{
    return (struct guard_replay_view){.held = t->holder[agent] == rep,
                                      .sure = true,
                                      .known = true,
                                      .at = &t->at[agent],
                                      .released_epoch = t->released[agent]};
}

static void recount(struct town *t, int rep, int agent)
{
    uint64_t counts[GUARD_PRIORITIES] = {0};
    for (size_t i = 0; i < t->n; i++)
        if (t->a[i].there && t->a[i].agent == agent)
            counts[t->a[i].priority]++;
    guard_replay_counts(&t->rep[rep].r[agent], counts, t->now);
}

/* What the guard and its backend make of it. */
static struct guard_replay_outcome execute(struct town *t, struct action *x)
{
    struct guard_position *at = &t->at[x->agent];
    struct guard_replay_outcome o = {.end = GUARD_END_DONE};
    if (x->running) {
        o = (struct guard_replay_outcome){.end = GUARD_END_REFUSED, .reason = REASON(IN_PROGRESS)};
        return o;
    }
    if (at->backend == PBE(BACKEND_MODE__BACKEND_MODE_DEGRADED) ||
        at->automation == PBE(AUTOMATION_MODE__AUTOMATION_MODE_FROZEN)) {
        o.end = GUARD_END_QUEUE;
        o.hold = true;
        return o;
    }
    if (x->executed) /* known by its key */
        return o;
    if (x->kind == 1 || dice(t, 20) == 0) {
        o.end = GUARD_END_RETRY;
        return o;
    }
    if (x->kind == 2 || x->kind == 4) {
        o.end = x->kind == 2 ? GUARD_END_REJECTED : GUARD_END_REFUSED;
        o.reason = REASON(NOT_ALLOWED);
        return o;
    }
    uint64_t *last = &t->last_run[x->agent][x->priority];
    if (x->epoch > at->frozen_epoch) { /* released ones come when a person says so */
        if (x->seq <= *last)
            fail_msg("seed: %" PRIu64 " of agent %d ran after %" PRIu64, x->seq, x->agent, *last);
        *last = x->seq;
    }
    x->executed++;
    return o;
}

/* The answer to what this replica does for this agent, and the next thing to do. */
static void answer(struct town *t, int rep, int agent)
{
    struct guard_sim *p = &t->rep[rep];
    struct guard_replay *r = &p->r[agent];
    struct guard_replay_view v = view(t, rep, agent);
    struct guard_replay_do d = p->doing[agent];
    struct action *x = p->hand[agent];
    p->busy[agent] = false;
    switch (d.what) {
    case GUARD_REPLAY_READ: {
        if (dice(t, 50) == 0) {
            guard_replay_unread(r, t->now);
            return;
        }
        x = find(t, agent, d.priority, d.seq);
        p->hand[agent] = x;
        struct guard_replay_message m = {0};
        if (x)
            m = (struct guard_replay_message){.seq = x->seq,
                                              .priority = x->priority,
                                              .sound = x->kind != 3,
                                              .epoch = x->epoch,
                                              .queued_ms = x->queued_ms,
                                              .expires_ms = x->expires_ms};
        d = guard_replay_read(r, &rule, &v, x ? &m : NULL, t->now);
        break;
    }
    case GUARD_REPLAY_RUN: {
        struct guard_replay_outcome o = execute(t, x);
        d = guard_replay_ran(r, &rule, &o, t->now);
        break;
    }
    case GUARD_REPLAY_BURY: {
        bool durable = dice(t, 10) > 0;
        x->buried += durable;
        d = guard_replay_buried(r, durable, t->now);
        break;
    }
    case GUARD_REPLAY_REMOVE: {
        bool heard = dice(t, 20) > 0;
        if (dice(t, 20) > 0) {
            for (size_t i = 0; i < t->n; i++)
                if (t->a[i].seq == d.seq)
                    t->a[i].there = false, t->a[i].taken = true;
        } else {
            heard = false;
        }
        guard_replay_removed(r, heard, t->now);
        return;
    }
    default:
        fail_msg("an answer to nothing");
    }
    if (d.what == GUARD_REPLAY_DRAINED) {
        assert_null(find(t, agent, -1, 0));
        guard_replay_said(r);
        t->drained++;
    } else if (d.what != GUARD_REPLAY_NOTHING) {
        p->doing[agent] = d;
        p->busy[agent] = true;
    }
}

static void put(struct town *t)
{
    if (t->n == ACTIONS)
        return;
    unsigned k = dice(t, 40);
    int agent = (int)dice(t, AGENTS);
    t->a[t->n++] = (struct action){.seq = ++t->last_seq,
                                   .agent = agent,
                                   .priority = dice(t, 3),
                                   .epoch = t->at[agent].epoch,
                                   .queued_ms = t->now,
                                   .expires_ms = dice(t, 30) == 0 ? t->now + 200 : 0,
                                   .kind = k < 5 ? (int)k : 0,
                                   .there = true};
}

static void happen(struct town *t)
{
    int rep = (int)dice(t, REPLICAS), agent = (int)dice(t, AGENTS);
    struct guard_position *at = &t->at[agent];
    switch (dice(t, 60)) {
    case 0: /* a replica dies, and another of that name begins */
        memset(&t->rep[rep], 0, sizeof t->rep[rep]);
        for (int a = 0; a < AGENTS; a++)
            recount(t, rep, a);
        break;
    case 1: /* a lease moves */
        t->holder[agent] = rep;
        recount(t, rep, agent);
        break;
    case 2:
        at->backend = at->backend == PBE(BACKEND_MODE__BACKEND_MODE_DEGRADED)
                          ? PBE(BACKEND_MODE__BACKEND_MODE_UP)
                          : PBE(BACKEND_MODE__BACKEND_MODE_DEGRADED);
        at->epoch++;
        for (int i = 0; i < REPLICAS; i++) {
            struct guard_replay_view v = view(t, i, agent);
            guard_replay_moved(&t->rep[i].r[agent], &v, t->now);
        }
        break;
    case 3: /* frozen, and unfrozen */
        at->frozen_epoch = ++at->epoch;
        at->epoch++;
        break;
    case 4: /* the server died and forgot a removal */
        if (t->n > 0) {
            struct action *x = &t->a[dice(t, (unsigned)t->n)];
            if (x->taken && (x->executed || x->buried))
                x->there = true;
        }
        break;
    case 5:
        t->released[agent] = at->frozen_epoch;
        for (int i = 0; i < REPLICAS; i++)
            guard_replay_released(&t->rep[i].r[agent]);
        break;
    default:
        put(t);
    }
}

static void a_town(unsigned seed)
{
    struct town *t = calloc(1, sizeof *t);
    assert_non_null(t);
    t->seed = seed;
    t->now = T0;
    for (int a = 0; a < AGENTS; a++)
        t->at[a] = well();
    int64_t end = INT64_MAX;
    for (uint64_t turn = 0; t->now < end; turn++) {
        t->now += 1 + dice(t, 20);
        if (t->n < ACTIONS && dice(t, 3) == 0)
            happen(t);
        if (t->n == ACTIONS && end == INT64_MAX) { /* all is well from now on */
            end = t->now + 4 * GUARD_REPLAY_LOOK_MS;
            for (int a = 0; a < AGENTS; a++) {
                t->at[a].backend = PBE(BACKEND_MODE__BACKEND_MODE_UP);
                t->released[a] = t->at[a].epoch;
                t->holder[a] = 0;
                guard_replay_released(&t->rep[0].r[a]);
            }
        }
        if (turn % 50 == 0)
            for (int rep = 0; rep < REPLICAS; rep++)
                for (int a = 0; a < AGENTS; a++)
                    recount(t, rep, a);
        for (int rep = 0; rep < REPLICAS; rep++)
            for (int a = 0; a < AGENTS; a++) {
                struct guard_sim *p = &t->rep[rep];
                if (p->busy[a]) {
                    if (dice(t, 3) > 0)
                        answer(t, rep, a);
                    continue;
                }
                struct guard_replay_view v = view(t, rep, a);
                struct guard_replay_do d = guard_replay_next(&p->r[a], &v, t->now);
                if (d.what != GUARD_REPLAY_NOTHING) {
                    assert_true(v.held);
                    p->doing[a] = d;
                    p->busy[a] = true;
                }
            }
    }
    uint64_t done = 0;
    for (size_t i = 0; i < t->n; i++) {
        struct action *x = &t->a[i];
        if (x->there || (x->executed == 0 && x->buried == 0) || x->executed > 1 || (x->kind != 0 && x->executed > 0))
            fail_msg("seed %u: action %zu of kind %d: there %d, executed %d, buried %d", seed, i, x->kind, x->there,
                     x->executed, x->buried);
        done += x->executed == 1;
    }
    assert_true(done > ACTIONS / 4);
    assert_true(t->drained > 0);
    free(t);
}

static void towns(void **state)
{
    (void)state;
    const char *n = getenv("SEEDS");
    unsigned seeds = n ? (unsigned)atoi(n) : 60;
    for (unsigned seed = 1; seed <= seeds; seed++)
        a_town(seed);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(it_waits_for_the_position),
        cmocka_unit_test(it_looks_for_the_expired_while_it_waits),
        cmocka_unit_test(each_outcome_has_its_way),
        cmocka_unit_test(what_is_not_its_fault_is_no_try),
        cmocka_unit_test(poison_is_buried_in_the_end),
        cmocka_unit_test(actions_from_before_a_freeze_are_held),
        cmocka_unit_test(priorities_come_first),
        cmocka_unit_test(the_pace_is_kept),
        cmocka_unit_test(towns),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
