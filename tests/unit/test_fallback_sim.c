/* test_fallback_sim.c - two replicas, one agent, a Redis, a backend: a seeded simulation with a virtual clock.
 *
 * Breakers, verdicts, models that are full, drills and people do as they like, several failures at once; acks, call results and the ends
 * of restarts get lost; replicas crash between any two steps, or go on with a lease that is over. Nothing may get looser
 * without its reason, and once all is well, everything must come back. Fails with the seed; `test_fallback_sim SEED [-v]` runs that one
 * alone. */
#include "fallback/fallback.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define RUNS       400 /* SEEDS in the environment asks for another number */
#define RUNS_SLOW  30  /* where each costs a lot */
#define STEPS      600
#define CHAIN      3
#define EPOCHS_MAX 4096
#define CALLS_MAX  64
#define DURATION   60000
#define HOUR       3600000
#define RESTARTS   2 /* an hour */
#define SEEN       (FALLBACK_STEPS + FALLBACK_FAILURE_AGENT_DOWN + 1)

static uint64_t only_seed;
static bool verbose;

struct call {
    bool used;
    enum fallback_call_kind kind;
    char key[FALLBACK_KEY_TEXT + 32];
    char activation[FALLBACK_KEY_TEXT];
    int64_t arrives_ms, began_ms;
    bool counts; /* the caller still lives when the answer comes */
};

/* The executor's, of one replica: its end is told unless that replica has died. */
struct restart {
    char id[FALLBACK_KEY_TEXT];
    int64_t ends_ms; /* 0 = none under way */
    bool counts;
};

struct replica {
    bool loaded;
    uint64_t fence; /* of the lease it believes to hold; 0 = none */
    struct fallback f;
    uint64_t rev;
    int64_t wake_ms;
    struct call calls[CALLS_MAX];
    struct restart restart;
    char roll[FALLBACK_ID_TEXT]; /* asked for, not answered yet */
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
    struct fallback_verdict verdict, judgement, resources;
    int intake[CHAIN];      /* what each model says to whoever comes */
    int64_t turn_ms[CHAIN]; /* the agent is in line, and its turn comes then; 0 = it is not */
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
    /* what was done */
    char restarts[256][FALLBACK_KEY_TEXT];
    int64_t restarted_ms[256];
    size_t n_restarts;
    char rolls[256][FALLBACK_ID_TEXT];
    size_t n_rolls, n_gone;
    /* Directives by step, and drills by kind: a way that is never taken is not tested. */
    size_t seen[SEEN];
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
        s->seen[d->step]++;
        if (verbose)
            printf("%" PRId64 " epoch %" PRIu64 " %s %s: %s\n", s->now, d->epoch, fallback_step_name(d->step),
                   fallback_posture_name(d->posture), d->reason);
    }
    /* One epoch, one directive: what the agent must learn is the same every time. */
    CHECK(s, said->posture == d->posture && said->llm_index == d->llm_index && said->backend == d->backend &&
                 said->ramp_percent == d->ramp_percent && said->automation == d->automation &&
                 said->step == d->step && said->link == d->link && said->load_percent == d->load_percent &&
                 said->restart_requested == d->restart_requested && said->llm_waiting == d->llm_waiting &&
                 said->monitor_interval_ms == d->monitor_interval_ms &&
                 strcmp(said->llm_target, d->llm_target) == 0 && strcmp(said->reason, d->reason) == 0);
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
        CHECK(s, !fallback_without_llm(&s->doc) || (s->doc.override_mode == FALLBACK_OVERRIDE_ACTIVATING &&
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
    r->restart.counts = false;
    r->roll[0] = '\0';
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
    CHECK(s, e->call != FALLBACK_CALL_RELEASE || !fallback_without_llm(&s->doc));
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

/* The executor: once for each id, and not too often. */
static void start_restart(struct sim *s, struct replica *r, const struct fallback_effect *e)
{
    CHECK(s, s->n_restarts < 256);
    for (size_t i = 0; i < s->n_restarts; i++)
        CHECK(s, strcmp(s->restarts[i], e->key) != 0);
    size_t lately = 0;
    for (size_t i = 0; i < s->n_restarts; i++)
        lately += s->restarted_ms[i] > s->now - HOUR;
    CHECK(s, lately < RESTARTS);
    CHECK(s, s->rule.may_restart);
    s->restarted_ms[s->n_restarts] = s->now;
    snprintf(s->restarts[s->n_restarts++], sizeof s->restarts[0], "%s", e->key);
    r->restart = (struct restart){.ends_ms = s->now + 1 + (int64_t)(next_random(s) % 200), .counts = true};
    snprintf(r->restart.id, sizeof r->restart.id, "%s", e->key);
}

/* The rollback service: asked as often as you like, but for one job each time that it is gone. */
static void ask_rollback(struct sim *s, struct replica *r, const struct fallback_effect *e)
{
    bool known = false;
    for (size_t i = 0; i < s->n_rolls; i++)
        known |= strcmp(s->rolls[i], e->key) == 0;
    CHECK(s, r->f.doc.link == FALLBACK_LINK_GONE && s->rule.rollback == FALLBACK_ROLLBACK_START);
    if (!known) {
        CHECK(s, s->n_rolls < 256);
        snprintf(s->rolls[s->n_rolls++], sizeof s->rolls[0], "%s", e->key);
    }
    CHECK(s, s->n_rolls <= s->n_gone);
    snprintf(r->roll, sizeof r->roll, "%s", e->key);
}

static int link_strictness(int link)
{
    return link == FALLBACK_LINK_UP           ? 0
           : link == FALLBACK_LINK_RETURNING  ? 1
           : link == FALLBACK_LINK_RESTRICTED ? 2
                                              : 3;
}

static bool is(const struct fallback_verdict *v, int failure)
{
    return v->epoch > 0 && v->health == FALLBACK_HEALTH_UNHEALTHY && v->failure == failure;
}

/* What one decision may do to a document, whatever the event. */
static void check_move(struct sim *s, const struct fallback_doc *was, const struct fallback_doc *is_now,
                       const struct fallback_event *ev, const struct fallback_effect *e, size_t n)
{
    bool maintained = s->verdict.health == FALLBACK_HEALTH_MAINTENANCE;
    bool fenced = false;
    for (size_t i = 0; i < n; i++) {
        if (e[i].kind == FALLBACK_FENCE) {
            CHECK(s, e[i].epoch == is_now->frozen_epoch && is_now->automation == FALLBACK_AUTOMATION_FROZEN);
            fenced = true;
        }
        /* No freeze is confirmed to anybody before the fence. */
        if (e[i].kind == FALLBACK_ANSWER && ev->kind == FALLBACK_FREEZE)
            CHECK(s, fenced);
    }
    if (was->automation == FALLBACK_AUTOMATION_FROZEN && is_now->automation == FALLBACK_AUTOMATION_ENABLED)
        CHECK(s, ev->kind == FALLBACK_UNFREEZE || was->drill_failure == FALLBACK_FAILURE_LOGIC);
    if (was->epoch && was->automation == FALLBACK_AUTOMATION_ENABLED &&
        is_now->automation == FALLBACK_AUTOMATION_FROZEN)
        CHECK(s, fenced && is_now->frozen_epoch == is_now->epoch);
    /* What is seen is acted upon, in the same decision. */
    if (is_now->acked_epoch > 0 && !maintained) {
        if (is(&s->verdict, FALLBACK_FAILURE_AGENT_DOWN))
            CHECK(s, is_now->link == FALLBACK_LINK_GONE);
        if (is(&s->verdict, FALLBACK_FAILURE_NETWORK))
            CHECK(s, is_now->link == FALLBACK_LINK_RESTRICTED || is_now->link == FALLBACK_LINK_GONE);
    }
    if (is(&s->verdict, FALLBACK_FAILURE_RESOURCE) || is(&s->resources, FALLBACK_FAILURE_RESOURCE))
        CHECK(s, is_now->shed_percent < 100);
    if (is_now->llm_index >= 0)
        CHECK(s, !s->rule.chain[is_now->llm_index].unfit);
    /* A drill hides nothing, and there is one only of who was well. */
    if (is_now->drill_failure && !was->drill_failure)
        s->seen[FALLBACK_STEPS + is_now->drill_failure]++;
    if (is_now->drill_failure && !was->drill_failure)
        CHECK(s, was->posture == FALLBACK_NORMAL && was->acked_epoch == was->epoch && ev->kind == FALLBACK_DRILL);
    if (is_now->drill_failure == FALLBACK_FAILURE_LLM)
        CHECK(s, stays(&s->truth[0]));
    if (is_now->drill_failure == FALLBACK_FAILURE_BACKEND)
        CHECK(s, stays(&s->truth[CHAIN]));
    if (is_now->drill_failure == FALLBACK_FAILURE_NETWORK || is_now->drill_failure == FALLBACK_FAILURE_AGENT_DOWN)
        CHECK(s, !is(&s->verdict, FALLBACK_FAILURE_NETWORK) && !is(&s->verdict, FALLBACK_FAILURE_AGENT_DOWN));
    if (!was->epoch)
        return;
    /* A way back needs its reason. */
    if (was->link == FALLBACK_LINK_GONE && is_now->link != FALLBACK_LINK_GONE) {
        CHECK(s, is_now->link == FALLBACK_LINK_RETURNING && is_now->return_percent == 10);
        CHECK(s, was->acked_epoch == was->epoch || ev->kind == FALLBACK_ACK);
        CHECK(s, s->verdict.health == FALLBACK_HEALTH_HEALTHY || (is_now->drill_was == FALLBACK_FAILURE_AGENT_DOWN &&
                                                                  s->verdict.health <= FALLBACK_HEALTH_UNKNOWN));
        CHECK(s, !s->rule.has_selftest || s->judgement.health == FALLBACK_HEALTH_HEALTHY ||
                     is_now->drill_was == FALLBACK_FAILURE_AGENT_DOWN);
    }
    if (was->link == FALLBACK_LINK_RESTRICTED && is_now->link == FALLBACK_LINK_UP)
        CHECK(s, (was->acked_epoch == was->epoch || ev->kind == FALLBACK_ACK) &&
                     s->verdict.health != FALLBACK_HEALTH_FLAPPING);
    if (is_now->shed_percent > was->shed_percent)
        CHECK(s, s->resources.health == FALLBACK_HEALTH_HEALTHY ||
                     (s->resources.health <= FALLBACK_HEALTH_UNKNOWN &&
                      (s->resources.epoch == 0 || is_now->drill_was == FALLBACK_FAILURE_RESOURCE ||
                       was->drill_was == FALLBACK_FAILURE_RESOURCE)));
    if (was->link != FALLBACK_LINK_GONE && is_now->link == FALLBACK_LINK_GONE)
        CHECK(s, !is_now->rollback_id[0] || s->rule.rollback_after_ms == 0);
    /* What is said to be the matter is so. */
    if (is_now->epoch > was->epoch) {
        bool llm = is_now->llm_index != 0, backend = is_now->backend != FALLBACK_BACKEND_UP;
        bool link = is_now->link != FALLBACK_LINK_UP, load = is_now->resources != FALLBACK_RESOURCES_OK;
        const bool so[] = {[FALLBACK_FAILURE_NONE] = true,
                           [FALLBACK_FAILURE_LLM] = llm,
                           [FALLBACK_FAILURE_BACKEND] = backend,
                           [FALLBACK_FAILURE_LOGIC] = is_now->automation == FALLBACK_AUTOMATION_FROZEN,
                           [FALLBACK_FAILURE_RESOURCE] = load,
                           [FALLBACK_FAILURE_NETWORK] = link,
                           [FALLBACK_FAILURE_AGENT_DOWN] = link};
        CHECK(s, so[is_now->failure]);
        CHECK(s, is_now->posture != FALLBACK_NORMAL || is_now->failure == FALLBACK_FAILURE_NONE);
        CHECK(s, (is_now->monitor_interval_ms > 0) ==
                     (is_now->posture >= FALLBACK_DEGRADED && is_now->posture <= FALLBACK_FROZEN));
    }
    if (s->view.may_loosen)
        return;
    CHECK(s, link_strictness(is_now->link) >= link_strictness(was->link));
    CHECK(s, is_now->return_percent <= was->return_percent || is_now->link == FALLBACK_LINK_GONE);
    CHECK(s, is_now->shed_percent <= was->shed_percent);
    CHECK(s,
          !was->restart_requested || is_now->restart_requested || is_now->resources == FALLBACK_RESOURCES_RESTARTING);
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
    check_move(s, &r->f.doc, &next.doc, ev, e, n);
    if (fallback_without_llm(&next.doc))
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
    s->n_gone += store && next.doc.link == FALLBACK_LINK_GONE && r->f.doc.link != FALLBACK_LINK_GONE;
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
        else if (e[i].kind == FALLBACK_RESTART && r->fence == s->lease_fence)
            start_restart(s, r, &e[i]);
        else if (e[i].kind == FALLBACK_ROLL)
            ask_rollback(s, r, &e[i]);
        else if (e[i].kind == FALLBACK_AWAIT && s->turn_ms[e[i].index] == 0)
            s->turn_ms[e[i].index] = s->now + 1 + (int64_t)(next_random(s) % 500);
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

static void new_verdict(struct sim *s, struct fallback_verdict *v, int failure)
{
    static const int healths[] = {FALLBACK_HEALTH_UNKNOWN,   FALLBACK_HEALTH_HEALTHY,   FALLBACK_HEALTH_HEALTHY,
                                  FALLBACK_HEALTH_HEALTHY,   FALLBACK_HEALTH_DEGRADED,  FALLBACK_HEALTH_UNHEALTHY,
                                  FALLBACK_HEALTH_UNHEALTHY, FALLBACK_HEALTH_UNHEALTHY, FALLBACK_HEALTH_FLAPPING};
    v->epoch++;
    v->health = healths[next_random(s) % (sizeof healths / sizeof healths[0])];
    v->failure = failure;
    v->since_ms = s->now + (chance(s, 10) ? 40 : 0); /* of a clock that is ahead */
}

static void verdict(struct sim *s)
{
    static const int failures[] = {FALLBACK_FAILURE_AGENT_DOWN, FALLBACK_FAILURE_AGENT_DOWN, FALLBACK_FAILURE_NETWORK,
                                   FALLBACK_FAILURE_RESOURCE, FALLBACK_FAILURE_LOGIC};
    unsigned which = (unsigned)(next_random(s) % 10);
    if (which < 5) {
        new_verdict(s, &s->verdict, failures[next_random(s) % (sizeof failures / sizeof failures[0])]);
        if (chance(s, 8))
            s->verdict.health = FALLBACK_HEALTH_MAINTENANCE;
    } else if (which < 9) {
        new_verdict(s, &s->resources, FALLBACK_FAILURE_RESOURCE);
    } else {
        new_verdict(s, &s->judgement, FALLBACK_FAILURE_LOGIC);
    }
    look(s);
}

/* All at once are well: the agent gets the time to become NORMAL, so that drills can begin. */
static void all_well(struct sim *s)
{
    struct fallback_verdict *all[] = {&s->verdict, &s->judgement, &s->resources};
    for (size_t i = 0; i < 3; i++) {
        all[i]->epoch++;
        all[i]->health = FALLBACK_HEALTH_HEALTHY;
        all[i]->since_ms = s->now;
    }
    for (int i = 0; i <= CHAIN; i++)
        if (s->truth[i].breaker != FALLBACK_BREAKER_UNKNOWN || s->calm)
            change_target(s, i, FALLBACK_BREAKER_CLOSED);
    look(s);
}

static void drill(struct sim *s)
{
    struct replica *r = &s->r[s->leader];
    int failure = (int)(next_random(s) % (FALLBACK_FAILURE_AGENT_DOWN + 1));
    if (r->loaded)
        give(s, r,
             &(struct fallback_event){.kind = FALLBACK_DRILL,
                                      .failure = failure,
                                      .until_ms = s->now + (int64_t)(next_random(s) % 1500),
                                      .by = "dan",
                                      .detail = "monthly"});
}

static void look_into(struct sim *s, bool bad)
{
    struct replica *r = &s->r[s->leader];
    if (r->loaded)
        give(s, r, &(struct fallback_event){.kind = FALLBACK_MONITORED, .failed = bad, .detail = "disk is full"});
}

/* Turns come, restarts end, the rollback service answers. */
static void others_act(struct sim *s)
{
    for (int i = 0; i < CHAIN; i++) {
        bool turn = s->turn_ms[i] > 0 && s->now >= s->turn_ms[i];
        uint8_t says = s->intake[i] == FALLBACK_INTAKE_WAIT && turn ? FALLBACK_INTAKE_OPEN : (uint8_t)s->intake[i];
        bool news = says != s->view.intake[i];
        s->view.intake[i] = says;
        if (turn && (says != FALLBACK_INTAKE_OPEN || s->now > s->turn_ms[i] + 300))
            s->turn_ms[i] = 0; /* not taken in time */
        if (news)
            look(s);
    }
    for (int i = 0; i < 2; i++) {
        struct replica *r = &s->r[i];
        if (r->restart.ends_ms > 0 && s->now >= r->restart.ends_ms) {
            struct fallback_event ev = {.kind = FALLBACK_RESTARTED, .failed = chance(s, 30), .detail = "exit 1"};
            snprintf(ev.key, sizeof ev.key, "%s", r->restart.id);
            bool counts = r->restart.counts && r->loaded;
            r->restart = (struct restart){0};
            if (counts)
                give(s, r, &ev);
        }
        if (r->roll[0] && r->loaded && chance(s, 20)) {
            struct fallback_event ev = {.kind = FALLBACK_ROLLED, .failed = chance(s, 30), .detail = "no answer"};
            snprintf(ev.key, sizeof ev.key, "%s", r->roll);
            r->roll[0] = '\0';
            give(s, r, &ev);
        }
    }
}

static void pass(struct sim *s, int64_t ms)
{
    int64_t end = s->now + ms;
    while (s->now < end) {
        s->now += 10;
        calls_arrive(s);
        others_act(s);
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
    if (what < 28)
        any_target(s);
    else if (what < 56)
        ack(s);
    else if (what < 58)
        change_leader(s);
    else if (what < 60)
        crash(&s->r[next_random(s) % 2]);
    else if (what < 72)
        verdict(s);
    else if (what < 74)
        drill(s);
    else if (what < 75)
        s->intake[next_random(s) % CHAIN] = (int)(next_random(s) % 3);
    else if (what < 76)
        look_into(s, chance(s, 50));
    else if (what < 77) {
        all_well(s);
        for (int i = 0; i < 30; i++) {
            pass(s, 50);
            ack(s);
        }
        if (chance(s, 70))
            drill(s);
    } else if (what < 78)
        person(s, FALLBACK_FREEZE);
    else if (what < 81)
        person(s, FALLBACK_UNFREEZE);
    else if (what < 82)
        s->view.may_loosen = s->view.may_loosen ? chance(s, 50) : true;
    else if (what < 83)
        s->view.bus_up = s->view.bus_up ? chance(s, 50) : true;
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
    for (int i = 0; i < CHAIN; i++)
        s->intake[i] = chance(s, 50) ? FALLBACK_INTAKE_OPEN : FALLBACK_INTAKE_WAIT;
    all_well(s);
    for (int i = 0; i < 100; i++) {
        pass(s, 100);
        ack(s);
    }
    /* All but the freeze came back by itself. */
    CHECK(s, s->doc.posture == FALLBACK_NORMAL || s->doc.posture == FALLBACK_FROZEN);
    if (s->doc.posture == FALLBACK_FROZEN && s->rule.monitor_interval_ms)
        look_into(s, false);
    person(s, FALLBACK_UNFREEZE);
    for (int i = 0; i < 20; i++) {
        pass(s, 100);
        ack(s);
    }
    CHECK(s, s->doc.posture == FALLBACK_NORMAL);
    CHECK(s, s->doc.llm_index == 0 && !s->doc.llm_waiting);
    CHECK(s, s->doc.resources == FALLBACK_RESOURCES_OK && s->doc.link == FALLBACK_LINK_UP);
    CHECK(s, s->doc.load_percent == 100 && !s->doc.restart_requested);
    CHECK(s, s->doc.drill_failure == FALLBACK_FAILURE_NONE && s->doc.drill_was == FALLBACK_FAILURE_NONE);
    CHECK(s, s->doc.failure == FALLBACK_FAILURE_NONE && s->doc.monitor_interval_ms == 0);
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

static void run(uint64_t seed, size_t seen[static SEEN])
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
                                     .rank = (unsigned)(seed % 100),
                                     .shed_step_ms = 100,
                                     .shed_hold_ms = 80,
                                     .may_restart = seed % 4 != 0,
                                     .restarts_per_hour = RESTARTS,
                                     .return_step_ms = 60,
                                     .monitor_interval_ms = 60000,
                                     .procedure = "by hand",
                                     .deployment = "agents",
                                     .rollback = (int)(seed % 3),
                                     .rollback_after_ms = 100,
                                     .has_selftest = seed % 2 == 0};
    if (seed % 5 == 0)
        s->rule.chain[1].unfit = "needs 200000 tokens";
    for (int i = 0; i < CHAIN; i++)
        s->view.llm[i] = &s->truth[i];
    s->view.backend = &s->truth[CHAIN];
    s->view.verdict = &s->verdict;
    s->view.judgement = &s->judgement;
    s->view.resources = &s->resources;
    s->view.ready = s->view.bus_up = s->view.may_loosen = true;
    change_leader(s);
    for (int i = 0; i < STEPS; i++)
        step(s);
    calm_down(s);
    for (size_t i = 0; i < SEEN; i++)
        seen[i] += s->seen[i];
    free(s);
}

static void simulation(void **state)
{
    (void)state;
    size_t seen[SEEN] = {0};
    if (only_seed) {
        run(only_seed, seen);
        return;
    }
    const char *asked = getenv("SEEDS");
    bool slow = getenv("VALGRIND");
#if defined __SANITIZE_ADDRESS__ || defined __SANITIZE_THREAD__
    slow = true;
#endif
    uint64_t runs = asked ? strtoull(asked, NULL, 10) : slow ? RUNS_SLOW : RUNS;
    for (uint64_t seed = 1; seed <= runs; seed++)
        run(seed, seen);
    for (int i = 0; i < (int)SEEN; i++) {
        if (i == FALLBACK_STEP_NONE || i == FALLBACK_STEPS + FALLBACK_FAILURE_NONE)
            continue;
        if (seen[i] < runs / 10) {
            printf("%s was hardly ever seen: %zu times\n",
                   i < FALLBACK_STEPS ? fallback_step_name(i) : fallback_failure_name(i - FALLBACK_STEPS), seen[i]);
            fail();
        }
    }
}

int main(int argc, char **argv)
{
    verbose = argc > 2;
    only_seed = argc > 1 ? strtoull(argv[1], NULL, 10) : 0;
    const struct CMUnitTest tests[] = {cmocka_unit_test(simulation)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
