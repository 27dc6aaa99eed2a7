/* test_fallback_sim.c - two replicas, one agent, a Redis, a backend: a seeded simulation with a virtual clock.
 *
 * Breakers, verdicts and people do as they like; acks and call results get lost; replicas crash between any two steps, or
 * go on with a lease that is over. Fails with the seed; `test_fallback_sim SEED` runs that one alone. */
#include "fallback/fallback.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define RUNS       400
#define STEPS      600
#define CHAIN      3
#define EPOCHS_MAX 4096
#define CALLS_MAX  64
#define DURATION   60000

static uint64_t only_seed;

struct call {
    bool used;
    enum fallback_call_kind kind;
    char key[FALLBACK_KEY_TEXT + 32];
    char activation[FALLBACK_KEY_TEXT];
    int64_t arrives_ms, began_ms;
    bool counts; /* the caller still lives when the answer comes */
};

struct replica {
    bool loaded;
    uint64_t fence; /* of the lease it believes to hold; 0 = none */
    struct fallback f;
    uint64_t rev;
    int64_t wake_ms;
    struct call calls[CALLS_MAX];
};

struct sim {
    uint64_t seed, rng;
    int64_t now;
    /* Redis */
    bool stored;
    struct fallback_doc doc;
    uint64_t rev, doc_fence;
    bool pending;
    uint64_t lease_fence; /* newest token */
    int leader;           /* who really holds it */
    /* the world */
    struct fallback_target truth[CHAIN + 1];
    struct fallback_verdict verdict;
    struct fallback_view view;
    struct fallback_rule rule;
    struct replica r[2];
    uint64_t target_epoch;
    bool calm; /* nothing goes wrong any more */
    /* the agent */
    uint64_t agent_epoch;
    int agent_llm;
    /* what was announced, by epoch */
    struct fallback_doc said[EPOCHS_MAX];
    uint64_t said_n;
    /* the backend */
    bool strict, late;
    int64_t strict_until_ms;
    char keys[512][FALLBACK_KEY_TEXT + 32];
    size_t n_keys;
    bool open_notice[FALLBACK_NOTICES];
};

static uint64_t next_random(struct sim *s)
{
    s->rng ^= s->rng << 13;
    s->rng ^= s->rng >> 7;
    s->rng ^= s->rng << 17;
    return s->rng;
}

static bool chance(struct sim *s, unsigned percent)
{
    return next_random(s) % 100 < percent;
}

#define CHECK(s, c)                                                                                                  \
    do {                                                                                                             \
        if (!(c)) {                                                                                                  \
            printf("seed %" PRIu64 ", time %" PRId64 ": does not hold: %s\n", (s)->seed, (s)->now, #c);              \
            fail();                                                                                                  \
        }                                                                                                            \
    } while (0)

static bool stays(const struct fallback_target *t)
{
    return t->breaker != FALLBACK_BREAKER_OPEN && t->breaker != FALLBACK_BREAKER_HALF_OPEN &&
           t->breaker != FALLBACK_BREAKER_FORCED_OPEN;
}

/* ---- the agent and the stream ---- */

static void announce(struct sim *s, const struct fallback_doc *d)
{
    CHECK(s, d->epoch < EPOCHS_MAX);
    struct fallback_doc *said = &s->said[d->epoch];
    if (said->epoch == 0) {
        *said = *d;
        s->said_n = d->epoch > s->said_n ? d->epoch : s->said_n;
    }
    /* One epoch, one directive: what the agent must learn is the same every time. */
    CHECK(s, said->posture == d->posture && said->llm_index == d->llm_index && said->backend == d->backend &&
                 said->ramp_percent == d->ramp_percent && said->automation == d->automation &&
                 said->step == d->step && strcmp(said->llm_target, d->llm_target) == 0 &&
                 strcmp(said->reason, d->reason) == 0);
    if (!s->calm && chance(s, 20))
        return; /* did not arrive */
    if (d->epoch > s->agent_epoch) {
        s->agent_epoch = d->epoch;
        s->agent_llm = d->llm_index;
    }
}

/* ---- the backend ---- */

static void arrive(struct sim *s, const struct call *c)
{
    if (c->kind == FALLBACK_CALL_RELEASE) {
        /* Never released while the agent has no LLM. A release that was under way when the last LLM went is followed by an
         * activation under another key. */
        CHECK(s, s->doc.llm_index >= 0 || (s->doc.override_mode == FALLBACK_OVERRIDE_ACTIVATING &&
                                           strcmp(s->doc.override_key, c->activation) != 0));
        s->strict = false;
        return;
    }
    for (size_t i = 0; i < s->n_keys; i++)
        if (strcmp(s->keys[i], c->key) == 0)
            return; /* idempotent: neither doubled nor extended */
    CHECK(s, s->n_keys < 512);
    snprintf(s->keys[s->n_keys++], sizeof s->keys[0], "%s", c->key);
    s->strict = true;
    /* From a replica that is dead by now, after its successor has released: stricter than needed, until it lapses. */
    s->late = strcmp(s->doc.override_key, c->activation) != 0 || s->doc.override_mode == FALLBACK_OVERRIDE_RELEASING;
    s->strict_until_ms = s->now + DURATION;
}

/* ---- a replica ---- */

static void crash(struct replica *r)
{
    r->loaded = false;
    r->fence = 0;
    for (int i = 0; i < CALLS_MAX; i++)
        r->calls[i].counts = false;
}

static void give(struct sim *s, struct replica *r, const struct fallback_event *ev);

static void load(struct sim *s, struct replica *r)
{
    memset(&r->f, 0, sizeof r->f);
    r->loaded = true;
    r->rev = s->rev;
    if (!s->stored) {
        give(s, r, &(struct fallback_event){.kind = FALLBACK_START});
        return;
    }
    r->f.doc = s->doc;
    if (s->pending) { /* what a dead one left */
        announce(s, &s->doc);
        s->pending = false;
    }
    give(s, r, &(struct fallback_event){.kind = FALLBACK_LOADED});
}

/* Compare-and-set under a fence. */
static bool put(struct sim *s, struct replica *r, const struct fallback_doc *d, bool issue)
{
    if (r->fence < s->doc_fence || r->rev != s->rev)
        return false;
    if (s->stored) {
        CHECK(s, d->epoch == s->doc.epoch + (issue ? 1 : 0));
    } else {
        CHECK(s, d->epoch == 1);
    }
    s->doc = *d;
    s->stored = true;
    s->rev = ++r->rev;
    s->doc_fence = r->fence;
    s->pending = s->pending || issue;
    return true;
}

static void start_call(struct sim *s, struct replica *r, const struct fallback_effect *e)
{
    if (r->fence != s->lease_fence)
        return; /* the lease is looked at before each call */
    CHECK(s, e->call != FALLBACK_CALL_RELEASE || s->doc.llm_index >= 0);
    for (int i = 0; i < CALLS_MAX; i++) {
        struct call *c = &r->calls[i];
        if (c->used)
            continue;
        *c = (struct call){.used = true,
                           .kind = e->call,
                           .counts = true,
                           .began_ms = s->now,
                           .arrives_ms = s->now + (int64_t)(next_random(s) % 50)};
        /* The shell lets no activation overtake a release of its own, nor the other way round. */
        for (int k = 0; k < CALLS_MAX; k++)
            if (r->calls[k].used && r->calls[k].counts && r->calls[k].arrives_ms >= c->arrives_ms)
                c->arrives_ms = r->calls[k].arrives_ms + 1;
        snprintf(c->key, sizeof c->key, "%s", e->key);
        snprintf(c->activation, sizeof c->activation, "%s", r->f.doc.override_key);
        return;
    }
    CHECK(s, false && "a call is free");
}

static void give(struct sim *s, struct replica *r, const struct fallback_event *ev)
{
    struct fallback_effect e[FALLBACK_EFFECTS_MAX];
    struct fallback next = r->f;
    size_t n = fallback_decide(&next, &s->rule, &s->view, ev, s->now, e);
    bool store = false, issue = false;
    for (size_t i = 0; i < n; i++) {
        store |= e[i].kind == FALLBACK_STORE;
        issue |= e[i].kind == FALLBACK_ISSUE;
    }
    /* Never looser than any dimension asks for, as far as the view goes. */
    if (next.doc.llm_index >= 0)
        CHECK(s, stays(&s->truth[next.doc.llm_index]));
    if (next.doc.backend != FALLBACK_BACKEND_DEGRADED)
        CHECK(s, stays(&s->truth[CHAIN]));
    if (next.doc.backend == FALLBACK_BACKEND_UP)
        CHECK(s, s->truth[CHAIN].breaker != FALLBACK_BREAKER_PROBATION);
    if (next.doc.llm_index < 0)
        CHECK(s, next.doc.override_mode == FALLBACK_OVERRIDE_ACTIVATING ||
                     next.doc.override_mode == FALLBACK_OVERRIDE_ACTIVE);
    if (!s->view.may_loosen && r->f.doc.epoch) {
        /* Each dimension by itself: what was strict stays so. */
        CHECK(s, next.doc.automation >= r->f.doc.automation);
        CHECK(s, r->f.doc.llm_index >= 0 || next.doc.llm_index < 0);
        CHECK(s, r->f.doc.backend != FALLBACK_BACKEND_DEGRADED || next.doc.backend == FALLBACK_BACKEND_DEGRADED);
        CHECK(s, next.doc.override_mode != FALLBACK_OVERRIDE_RELEASING ||
                     r->f.doc.override_mode == FALLBACK_OVERRIDE_RELEASING);
    }
    if (store && !put(s, r, &next.doc, issue)) {
        if (r->fence < s->doc_fence)
            crash(r); /* fenced: its lease is over */
        else
            load(s, r);
        return;
    }
    /* What is told is owed by the document itself, so that it survives every crash from here on. */
    for (size_t i = 0; i < n; i++)
        if (e[i].kind == FALLBACK_TELL) {
            CHECK(s, !e[i].resolved || s->open_notice[e[i].notice]); /* nothing is over that was never said */
            s->open_notice[e[i].notice] = !e[i].resolved;
        }
    if (store && !s->calm && chance(s, 5)) { /* between the write and all that follows */
        crash(r);
        return;
    }
    r->f = next;
    r->wake_ms = INT64_MAX;
    if (issue) {
        announce(s, &r->f.doc);
        if (s->calm || !chance(s, 5))
            s->pending = false;
    }
    for (size_t i = 0; i < n; i++) {
        if (e[i].kind == FALLBACK_RESEND)
            announce(s, &r->f.doc);
        else if (e[i].kind == FALLBACK_CALL)
            start_call(s, r, &e[i]);
        else if (e[i].kind == FALLBACK_WAKE_AT)
            r->wake_ms = e[i].at_ms;
        if (!s->calm && chance(s, 1)) {
            crash(r);
            return;
        }
    }
}

static void look(struct sim *s)
{
    for (int i = 0; i < 2; i++)
        if (s->r[i].loaded)
            give(s, &s->r[i], &(struct fallback_event){.kind = FALLBACK_LOOK});
}

/* ---- what happens ---- */

static void change_target(struct sim *s, int i, int state)
{
    uint32_t ramp = state == FALLBACK_BREAKER_PROBATION ? (uint32_t[]){10, 25, 50, 100}[next_random(s) % 4] : 100;
    fallback_target_breaker(&s->truth[i], ++s->target_epoch, state, ramp, s->now, s->now - 3);
    look(s);
}

static void any_target(struct sim *s)
{
    /* Weighted to the bad, so that the whole chain goes down often. */
    static const int states[] = {FALLBACK_BREAKER_OPEN,          FALLBACK_BREAKER_OPEN,
                                 FALLBACK_BREAKER_OPEN,          FALLBACK_BREAKER_HALF_OPEN,
                                 FALLBACK_BREAKER_PROBATION,     FALLBACK_BREAKER_CLOSED,
                                 FALLBACK_BREAKER_CLOSED,        FALLBACK_BREAKER_FORCED_OPEN,
                                 FALLBACK_BREAKER_FORCED_CLOSED, FALLBACK_BREAKER_METRICS_ONLY};
    change_target(s, (int)(next_random(s) % (CHAIN + 1)),
                  states[next_random(s) % (sizeof states / sizeof states[0])]);
}

/* Another replica gets the lease; the old one may not know yet. */
static void change_leader(struct sim *s)
{
    int was = s->leader;
    s->leader = (int)(next_random(s) % 2);
    struct replica *r = &s->r[s->leader];
    s->lease_fence++;
    if (was != s->leader && chance(s, 50))
        crash(&s->r[was]);
    crash(r);
    r->fence = s->lease_fence;
    load(s, r);
}

static void ack(struct sim *s)
{
    if (!s->calm && chance(s, 30))
        return;
    for (int i = 0; i < 2; i++)
        if (s->r[i].loaded)
            give(s, &s->r[i], &(struct fallback_event){.kind = FALLBACK_ACK, .epoch = s->agent_epoch});
}

/* The call that arrives first by now; NULL = none. */
static struct call *next_call(struct sim *s, int *ret_replica)
{
    struct call *first = NULL;
    for (int i = 0; i < 2; i++)
        for (int k = 0; k < CALLS_MAX; k++) {
            struct call *c = &s->r[i].calls[k];
            if (c->used && c->arrives_ms <= s->now && (!first || c->arrives_ms < first->arrives_ms)) {
                first = c;
                *ret_replica = i;
            }
        }
    return first;
}

static void calls_arrive(struct sim *s)
{
    int i;
    for (struct call *c; (c = next_call(s, &i));) {
        struct call x = *c;
        c->used = false;
        bool lost = !s->calm && chance(s, 15), refused = !s->calm && chance(s, 15);
        /* A replica that loses its lease cancels the release that it has under way. */
        bool cancelled = x.kind == FALLBACK_CALL_RELEASE && (!x.counts || s->r[i].fence != s->lease_fence);
        if (!refused && !cancelled)
            arrive(s, &x);
        if (!x.counts || !s->r[i].loaded)
            continue;
        struct fallback_event ev = {.kind = FALLBACK_CALLED,
                                    .call = x.kind,
                                    .failed = lost || refused || cancelled,
                                    .called_at_ms = x.began_ms};
        snprintf(ev.key, sizeof ev.key, "%s", x.activation);
        give(s, &s->r[i], &ev);
    }
}

static void person(struct sim *s, enum fallback_event_kind kind)
{
    struct replica *r = &s->r[s->leader];
    if (r->loaded)
        give(s, r, &(struct fallback_event){.kind = kind, .by = "eve", .detail = "reason"});
}

static void verdict(struct sim *s)
{
    s->verdict.epoch++;
    s->verdict.health = chance(s, 60) ? FALLBACK_HEALTH_HEALTHY : FALLBACK_HEALTH_UNHEALTHY;
    s->verdict.failure = chance(s, 20) ? FALLBACK_FAILURE_LOGIC : FALLBACK_FAILURE_AGENT_DOWN;
    look(s);
}

static void pass(struct sim *s, int64_t ms)
{
    int64_t end = s->now + ms;
    while (s->now < end) {
        s->now += 10;
        calls_arrive(s);
        for (int i = 0; i < 2; i++)
            if (s->r[i].loaded && s->r[i].wake_ms <= s->now)
                give(s, &s->r[i], &(struct fallback_event){.kind = FALLBACK_LOOK});
        if (!s->r[s->leader].loaded && (s->calm || chance(s, 20)))
            change_leader(s);
    }
}

static void step(struct sim *s)
{
    unsigned what = (unsigned)(next_random(s) % 100);
    if (what < 35)
        any_target(s);
    else if (what < 60)
        ack(s);
    else if (what < 63)
        change_leader(s);
    else if (what < 66)
        crash(&s->r[next_random(s) % 2]);
    else if (what < 70)
        verdict(s);
    else if (what < 73)
        person(s, FALLBACK_FREEZE);
    else if (what < 77)
        person(s, FALLBACK_UNFREEZE);
    else if (what < 80)
        s->view.may_loosen = !s->view.may_loosen;
    else if (what < 83)
        s->view.bus_up = !s->view.bus_up;
    else if (what < 84)
        pass(s, DURATION / 2);
    else
        pass(s, (int64_t)(next_random(s) % 400));
}

/* All is well, and stays so: everything must come back by itself, but for what only a person ends. */
static void calm_down(struct sim *s)
{
    s->calm = true;
    s->view.may_loosen = s->view.bus_up = true;
    for (int i = 0; i < 2; i++)
        crash(&s->r[i]);
    change_leader(s);
    s->verdict.epoch++;
    s->verdict.health = FALLBACK_HEALTH_HEALTHY;
    for (int i = 0; i <= CHAIN; i++)
        change_target(s, i, FALLBACK_BREAKER_CLOSED);
    for (int i = 0; i < 100; i++) {
        pass(s, 100);
        ack(s);
    }
    person(s, FALLBACK_UNFREEZE);
    for (int i = 0; i < 20; i++) {
        pass(s, 100);
        ack(s);
    }
    CHECK(s, s->doc.posture == FALLBACK_NORMAL);
    CHECK(s, s->doc.llm_index == 0);
    CHECK(s, s->doc.override_mode == FALLBACK_OVERRIDE_OFF);
    CHECK(s, !s->strict || s->late || s->now >= s->strict_until_ms);
    CHECK(s, s->doc.acked_epoch == s->doc.epoch);
    CHECK(s, s->doc.open_alerts == 0);
    for (int k = 0; k < FALLBACK_NOTICES; k++)
        CHECK(s, !s->open_notice[k]);
    CHECK(s, s->agent_epoch == s->doc.epoch && s->agent_llm == 0);
    CHECK(s, !s->pending);
    for (uint64_t e = 1; e <= s->said_n; e++)
        CHECK(s, s->said[e].epoch == e || s->said[e].epoch == 0);
}

static void run(uint64_t seed)
{
    struct sim *s = calloc(1, sizeof *s);
    assert_non_null(s);
    s->seed = seed;
    s->rng = seed * UINT64_C(0x9e3779b97f4a7c15) + 1;
    s->now = 1000000;
    s->rule = (struct fallback_rule){.agent = "agent-1",
                                     .n_chain = CHAIN,
                                     .chain = {{"llm.a", "a"}, {"llm.b", "b"}, {"llm.c", "c"}},
                                     .backend = "backend.x",
                                     .override = true,
                                     .override_duration_ms = DURATION,
                                     .override_renew_ms = DURATION / 4,
                                     .override_retry_ms = 50,
                                     .ack_ms = 100,
                                     .ack_alert_ms = 500,
                                     .restore_hold_ms = (int64_t)(seed % 5) * 100,
                                     .backend_step_ms = 50,
                                     .rank = (unsigned)(seed % 100)};
    for (int i = 0; i < CHAIN; i++)
        s->view.llm[i] = &s->truth[i];
    s->view.backend = &s->truth[CHAIN];
    s->view.verdict = &s->verdict;
    s->view.ready = s->view.bus_up = s->view.may_loosen = true;
    change_leader(s);
    for (int i = 0; i < STEPS; i++)
        step(s);
    calm_down(s);
    free(s);
}

static void simulation(void **state)
{
    (void)state;
    if (only_seed) {
        run(only_seed);
        return;
    }
    for (uint64_t seed = 1; seed <= RUNS; seed++)
        run(seed);
}

int main(int argc, char **argv)
{
    only_seed = argc > 1 ? strtoull(argv[1], NULL, 10) : 0;
    const struct CMUnitTest tests[] = {cmocka_unit_test(simulation)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
