/* test_health_quorum.c - when several watchers agree: every rule by itself, then a seeded simulation of ten replicas.
 *
 * The simulation plays watchers that die, come back, are cut off from the target, from each other or from the shared state, lose messages
 * and have clocks of their own, and checks: a minority of the watchers never takes a target away that is well (consul 5567, uptime-kuma
 * 3845); an outage is found within its bound; a link at fault is named. */
#include "common/rank.h"
#include "health/health.h"
#include "health/health_quorum.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const uint64_t who[] = {11, 12, 13, 14, 15};

static struct health_poll ask(size_t n)
{
    struct health_poll p = {0};
    health_poll_ask(&p, who, n, 1000, 4000, 100);
    return p;
}

/* Every combination of up to four others' answers, before and after the time is up. */
static void test_majority(void **state)
{
    (void)state;
    for (size_t n = 1; n <= 4; n++)
        for (unsigned code = 0; code < 1u << (2 * n); code++)
            for (int own_bad = 0; own_bad < 2; own_bad++) {
                struct health_poll p = ask(n);
                size_t bad = own_bad ? 1 : 0, well = own_bad ? 0 : 1, silent = 0;
                for (size_t i = 0; i < n; i++) {
                    unsigned b = code >> (2 * i) & 3;
                    if (b != HEALTH_BALLOT_NONE)
                        assert_true(health_poll_vote(&p, who[i], (enum health_ballot)b, 0, 0, 200));
                    bad += b == HEALTH_BALLOT_BAD;
                    well += b == HEALTH_BALLOT_WELL;
                    silent += b == HEALTH_BALLOT_NONE;
                }
                enum health_ballot own = own_bad ? HEALTH_BALLOT_BAD : HEALTH_BALLOT_WELL;
                enum health_poll_end early = health_poll_end(&p, own, 0, 1099),
                                     late = health_poll_end(&p, own, 0, 1100),
                                     last = health_poll_end(&p, own, 0, 5100);
                if (early == HEALTH_POLL_BAD)
                    assert_true(bad > well + silent); /* whatever the silent ones will say */
                else if (early == HEALTH_POLL_WELL)
                    assert_true(well >= bad + silent);
                else
                    assert_int_equal(early, HEALTH_POLL_OPEN);
                if (silent == 0)
                    assert_int_not_equal(early, HEALTH_POLL_OPEN); /* all is said: nothing to wait for */
                if (early != HEALTH_POLL_OPEN) {
                    assert_int_equal(late, early);
                    assert_int_equal(last, early);
                } else if (silent == n) {
                    assert_int_equal(late, HEALTH_POLL_OPEN);
                    assert_int_equal(last, HEALTH_POLL_UNHEARD);
                } else {
                    assert_int_equal(late, bad > well ? HEALTH_POLL_BAD : HEALTH_POLL_WELL);
                    assert_int_equal(last, late);
                }
            }
    struct health_poll none = {0}, mute = ask(2);
    assert_int_equal(health_poll_end(&none, HEALTH_BALLOT_BAD, 0, 0), HEALTH_POLL_ALONE);
    health_poll_vote(&mute, who[0], HEALTH_BALLOT_ABSTAIN, 0, 0, 200);
    assert_int_equal(health_poll_end(&mute, HEALTH_BALLOT_ABSTAIN, 0, 1100), HEALTH_POLL_ALONE);
}

static void test_rounds(void **state)
{
    (void)state;
    struct health_poll p = ask(3);
    health_poll_vote(&p, who[0], HEALTH_BALLOT_BAD, 0, 0, 200);
    health_poll_vote(&p, who[1], HEALTH_BALLOT_WELL, 0, 0, 200);
    health_poll_ask(&p, who, 3, 1000, 4000, 5000); /* a good word is from before */
    assert_int_equal(p.votes[0].ballot, HEALTH_BALLOT_BAD);
    assert_int_equal(p.votes[1].ballot, HEALTH_BALLOT_NONE);
    /* The dead cannot answer. */
    health_poll_keep(&p, who + 1, 1);
    assert_int_equal(p.n, 1);
    health_poll_keep(&p, who, 0);
    assert_int_equal(health_poll_end(&p, HEALTH_BALLOT_BAD, 0, 5001), HEALTH_POLL_ALONE);
    /* Old votes are void where they stand for long. */
    p = ask(1);
    health_poll_vote(&p, who[0], HEALTH_BALLOT_BAD, 0, 0, 200);
    assert_int_equal(health_poll_end(&p, HEALTH_BALLOT_BAD, 500, 700), HEALTH_POLL_BAD);
    assert_int_equal(health_poll_end(&p, HEALTH_BALLOT_BAD, 500, 701), HEALTH_POLL_OPEN);
    /* More than there is room for. */
    p = ask(0);
    for (uint64_t i = 1; i <= HEALTH_VOTERS_MAX; i++)
        assert_true(health_poll_vote(&p, i, HEALTH_BALLOT_WELL, 0, 0, 200));
    assert_false(health_poll_vote(&p, 99, HEALTH_BALLOT_BAD, 0, 0, 200));
    assert_true(health_poll_vote(&p, 1, HEALTH_BALLOT_BAD, 0, 0, 200));
}

static void test_what_is_said(void **state)
{
    (void)state;
    for (int end = HEALTH_POLL_OPEN; end <= HEALTH_POLL_UNHEARD; end++) {
        bool agreed = end == HEALTH_POLL_BAD || end == HEALTH_POLL_ALONE;
        for (int standing = 0; standing < 2; standing++) {
            assert_int_equal(health_quorum_say(true, true, standing, end), HEALTH_SAY_OWN);
            assert_int_equal(health_quorum_say(true, false, standing, end),
                             agreed ? HEALTH_SAY_OWN : HEALTH_SAY_HOLD);
            assert_int_equal(health_quorum_say(false, true, standing, end),
                             standing && end == HEALTH_POLL_BAD ? HEALTH_SAY_OVERRULED : HEALTH_SAY_OWN);
        }
        for (int fault = HEALTH_FAULT_NONE; fault < HEALTH_FAULTS; fault++)
            if (agreed || end == HEALTH_POLL_OPEN)
                assert_false(health_quorum_blames_link(end, fault));
        assert_int_equal(health_quorum_blames_link(end, HEALTH_FAULT_CONNECT),
                         end == HEALTH_POLL_WELL || end == HEALTH_POLL_UNHEARD);
        /* Who was answered, be it wrongly, was reached. */
        assert_int_equal(health_quorum_blames_link(end, HEALTH_FAULT_OVERLOAD), end == HEALTH_POLL_UNHEARD);
    }
}

/* ---- simulation: one target, ten watchers ---- */

#define WATCHERS   10
#define CONFIRMERS 4
#define STEP_MS    50
#define FAST_MS    200
#define SLOW_MS    1000
#define PROBE_MS   100 /* a probe that fails */
#define ANSWER_MS  600
#define TTL_MS     900
#define FALL       3
/* For each owner in turn: the first probe that meets it, the rest of the run, the question, the silence of those who died, and the
 * hand-over. With so many ill watchers, the one after them is well. */
#define ILL_MAX    4
#define BOUND_MS   ((ILL_MAX + 1) * (SLOW_MS + FALL * (FAST_MS + PROBE_MS) + ANSWER_MS + 2 * TTL_MS))

static uint64_t rng;
static uint32_t draw(uint32_t n)
{
    rng = rng * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(rng >> 33) % n;
}

struct message {
    int64_t at_ms;
    int from, to;
    bool asks;
    enum health_ballot ballot;
};
struct watcher {
    bool alive, blind, mute; /* mute: its messages to the others are lost */
    bool cut;                /* from the shared state and from the others */
    int64_t skew_ms;         /* its clock against the others' */
    bool rests;              /* it has said so */
    int64_t member_until_ms; /* in the shared state */
    int64_t next_ms, refresh_ms;
    struct health h;
    struct health_poll poll;
    bool polling, of_verdict, owner;
    int64_t well_ms; /* when the others were found to see it well */
    int64_t answer_to_ms;
    uint64_t view[WATCHERS];
    size_t n_view;
    int64_t view_ms;
    bool named;
    int64_t ill_ms; /* when it last was, or the target was down: what it saw then still counts for a while */
};
struct world {
    uint64_t seed;
    int64_t now_ms;
    struct watcher w[WATCHERS];
    struct message mail[4096];
    size_t n_mail;
    bool down;
    int announced;
    uint64_t target;
    size_t faults_named, outages_found;
};

#define CHECK(x, cond)                                                                                               \
    do {                                                                                                             \
        if (!(cond))                                                                                                 \
            fail_msg("seed %llu, at %lld ms: %s", (unsigned long long)(x)->seed, (long long)(x)->now_ms, #cond);     \
    } while (0)

static uint64_t id_of(int i)
{
    return rank_hash((char[]){'w', (char)('0' + i), 0});
}

static void post(struct world *x, int from, bool asks, enum health_ballot b)
{
    if (x->w[from].mute || x->w[from].cut)
        return;
    for (int to = 0; to < WATCHERS; to++)
        if (to != from && draw(100) >= 10 && x->n_mail < sizeof x->mail / sizeof *x->mail) /* one in ten is lost */
            x->mail[x->n_mail++] = (struct message){x->now_ms + draw(80), from, to, asks, b};
}

static size_t members(const struct world *x, bool counting, uint64_t *ret)
{
    size_t n = 0;
    for (int i = 0; i < WATCHERS; i++)
        if (x->w[i].member_until_ms > x->now_ms && (!counting || !x->w[i].rests))
            ret[n++] = id_of(i);
    return n;
}

static void refresh(struct world *x, int i)
{
    struct watcher *w = &x->w[i];
    if (w->cut || x->now_ms < w->refresh_ms)
        return;
    w->refresh_ms = x->now_ms + TTL_MS / 3;
    w->member_until_ms = x->now_ms + TTL_MS;
    w->view_ms = x->now_ms;
    w->n_view = members(x, true, w->view);
    if (w->n_view == 0)
        w->n_view = members(x, false, w->view);
    if (w->polling)
        health_poll_keep(&w->poll, w->view, w->n_view);
}

static uint32_t place_of(const struct watcher *w, int i, uint64_t target)
{
    for (size_t k = 0; k < w->n_view; k++)
        if (w->view[k] == id_of(i))
            return rank_place(w->view, w->n_view, target, k);
    return RANK_UNPLACED;
}

static bool bad(const struct watcher *w)
{
    return w->h.state == HEALTH_UNHEALTHY || w->h.state == HEALTH_FLAPPING;
}

static size_t asked_by(const struct world *x, int i, uint64_t *ret)
{
    const struct watcher *w = &x->w[i];
    uint32_t first[CONFIRMERS + 1];
    size_t n = 0, found = rank_first(w->view, w->n_view, x->target, CONFIRMERS + 1, first);
    for (size_t k = 0; k < found && n < CONFIRMERS; k++)
        if (w->view[first[k]] != id_of(i))
            ret[n++] = w->view[first[k]];
    return n;
}

static void judge(struct world *x, int i)
{
    struct watcher *w = &x->w[i];
    uint64_t others[CONFIRMERS];
    bool near = w->h.bad.n >= FALL - 1;
    if (!w->owner || (!bad(w) && !near)) {
        w->polling = false;
        if (w->owner && !bad(w) && w->h.state != HEALTH_UNKNOWN && !w->cut && x->now_ms - w->view_ms < TTL_MS)
            x->announced = w->h.state;
        return;
    }
    if (!w->polling || (bad(w) && !w->of_verdict)) {
        size_t n = asked_by(x, i, others);
        if (!w->polling)
            w->poll = (struct health_poll){0};
        health_poll_ask(&w->poll, others, n, ANSWER_MS, TTL_MS * 4 / 3, x->now_ms);
        w->polling = true;
        w->of_verdict = bad(w);
        w->well_ms = 0;
        post(x, i, true, HEALTH_BALLOT_BAD);
    }
    enum health_poll_end end = health_poll_end(&w->poll, HEALTH_BALLOT_BAD, 0, x->now_ms);
    if (end == HEALTH_POLL_OPEN) {
        if ((x->now_ms - w->poll.asked_ms) % 200 == 150)
            post(x, i, true, HEALTH_BALLOT_BAD); /* again: messages get lost */
        return;
    }
    if (!bad(w))
        return;
    if (health_quorum_say(true, x->announced == HEALTH_UNHEALTHY, false, end) == HEALTH_SAY_OWN) {
        if (w->cut || x->now_ms - w->view_ms >= TTL_MS - TTL_MS / 6)
            return; /* it cannot write */
        if (x->announced != HEALTH_UNHEALTHY) {
            x->announced = HEALTH_UNHEALTHY;
            x->outages_found += x->down;
            CHECK(x, x->down); /* a minority never takes away a target that is well */
        }
    } else if (end == HEALTH_POLL_WELL && w->well_ms == 0) {
        w->well_ms = x->now_ms;
        w->next_ms = x->now_ms + STEP_MS;
    } else if (health_quorum_blames_link(end, w->h.cause) &&
               (end == HEALTH_POLL_UNHEARD || (w->h.newest_bad_started_ms - w->skew_ms > w->well_ms))) {
        w->rests = true;
        w->refresh_ms = 0;
        w->polling = false;
        x->faults_named += !w->named;
        w->named = true;
        /* Nobody is blamed who sees right and is heard. */
        CHECK(x, x->now_ms - w->ill_ms <= SLOW_MS + ANSWER_MS + 2 * TTL_MS);
    }
}

static void probe(struct world *x, int i)
{
    struct watcher *w = &x->w[i];
    struct health_rule rule = {.kind = HEALTH_TARGET_OTHER, .fall = FALL, .rise = 2};
    bool fails = w->blind || x->down;
    struct health_result r = {.probe = HEALTH_PROBE_TCP,
                              .fault = fails ? HEALTH_FAULT_CONNECT : HEALTH_FAULT_NONE,
                              .started_ms = x->now_ms + w->skew_ms,
                              .ended_ms = x->now_ms + w->skew_ms};
    health_take(&w->h, &rule, &r, x->now_ms + w->skew_ms);
    if (w->answer_to_ms > x->now_ms) {
        w->answer_to_ms = 0;
        post(x, i, false, fails ? HEALTH_BALLOT_BAD : HEALTH_BALLOT_WELL);
    }
    if (w->rests && !bad(w)) {
        w->rests = false; /* well again: it counts from now on */
        w->named = false;
        w->refresh_ms = 0;
    }
    judge(x, i);
    w->next_ms =
        x->now_ms + (health_in_transition(&w->h, &rule) ? FAST_MS : SLOW_MS - draw(50)) + (fails ? PROBE_MS : 0);
}

static void deliver(struct world *x)
{
    size_t kept = 0;
    for (size_t k = 0; k < x->n_mail; k++) {
        struct message m = x->mail[k];
        struct watcher *w = &x->w[m.to];
        if (m.at_ms > x->now_ms) {
            x->mail[kept++] = m;
            continue;
        }
        if (!w->alive || w->cut)
            continue;
        if (w->polling && place_of(w, m.from, x->target) != RANK_UNPLACED) {
            health_poll_vote(&w->poll, id_of(m.from), m.ballot, 0, HEALTH_FAULT_CONNECT, x->now_ms);
            judge(x, m.to);
        }
        if (m.asks && !w->rests && w->answer_to_ms <= x->now_ms && place_of(w, m.to, x->target) <= CONFIRMERS) {
            w->answer_to_ms = x->now_ms + ANSWER_MS;
            w->next_ms = x->now_ms;
        }
    }
    x->n_mail = kept;
}

static void step(struct world *x)
{
    x->now_ms += STEP_MS;
    deliver(x);
    for (int i = 0; i < WATCHERS; i++) {
        struct watcher *w = &x->w[i];
        if (w->blind || w->mute || w->cut || !w->alive || x->down)
            w->ill_ms = x->now_ms;
        if (!w->alive)
            continue;
        refresh(x, i);
        bool was = w->owner;
        w->owner = place_of(w, i, x->target) == 0;
        if (w->owner && !was && !w->rests) { /* begins with what is announced */
            health_init(&w->h, x->now_ms + w->skew_ms);
            health_adopt(&w->h, x->announced, HEALTH_FAILURE_NETWORK, HEALTH_FAULT_CONNECT, x->now_ms + w->skew_ms,
                         x->now_ms + w->skew_ms);
            w->polling = false;
            w->next_ms = x->now_ms + draw(FAST_MS);
        }
        bool looks = w->owner || w->rests || w->answer_to_ms > x->now_ms;
        if (looks && x->now_ms >= w->next_ms)
            probe(x, i);
        else if (w->polling)
            judge(x, i);
    }
}

static void heal(struct world *x)
{
    for (int i = 0; i < WATCHERS; i++) {
        struct watcher *w = &x->w[i];
        w->blind = w->mute = w->cut = false;
        if (!w->alive) {
            w->alive = true;
            w->owner = w->polling = w->rests = w->named = false;
            health_init(&w->h, x->now_ms + w->skew_ms);
        }
    }
}

static void run(struct world *x, int64_t ms)
{
    for (int64_t end = x->now_ms + ms; x->now_ms < end;)
        step(x);
}

static void simulate(uint64_t seed, size_t *faults, size_t *outages)
{
    struct world *x = calloc(1, sizeof *x);
    assert_non_null(x);
    rng = seed * 0x9e3779b97f4a7c15u + 1;
    x->seed = seed;
    x->now_ms = 1000000;
    x->announced = HEALTH_HEALTHY;
    x->target = rank_hash("other.t") + seed;
    for (int i = 0; i < WATCHERS; i++) {
        x->w[i].skew_ms = (int64_t)draw(120000) - 60000;
        health_init(&x->w[i].h, x->now_ms + x->w[i].skew_ms);
    }
    heal(x);
    run(x, 5000);
    for (int round = 0; round < 8; round++) {
        /* Up to four of ten are ill, each in its own way; of those who are asked, at most one is blind: a minority. */
        size_t ill = 1 + draw(ILL_MAX);
        uint64_t all[WATCHERS];
        size_t n = members(x, true, all);
        uint32_t order[WATCHERS];
        n = rank_first(all, n, x->target, n, order);
        for (size_t k = 0; k < ill && n > 0; k++) {
            int i = (int)draw(WATCHERS);
            uint64_t owner = all[order[0]];
            if (k == 0) /* the worst is the owner's illness */
                for (i = 0; i < WATCHERS - 1 && id_of(i) != owner; i++)
                    ;
            switch (k == 0 ? draw(4) : 1 + draw(3)) {
            case 0:
                x->w[i].blind = true;
                break;
            case 1:
                x->w[i].alive = false;
                break;
            case 2:
                x->w[i].mute = true;
                break;
            default:
                x->w[i].cut = true;
                break;
            }
        }
        run(x, 8000);
        CHECK(x, x->announced == HEALTH_HEALTHY);
        for (int i = 0; i < WATCHERS; i++) /* who is blind and would be the owner knows it, and does not count */
            if (x->w[i].alive && x->w[i].blind && !x->w[i].cut)
                CHECK(x, x->w[i].rests || !x->w[i].owner);
        if (draw(2) == 0) { /* an outage while they are ill */
            x->down = true;
            run(x, BOUND_MS);
            CHECK(x, x->announced == HEALTH_UNHEALTHY);
            x->down = false;
            run(x, BOUND_MS);
            CHECK(x, x->announced == HEALTH_HEALTHY);
        }
        heal(x);
        run(x, 6000);
        CHECK(x, x->announced == HEALTH_HEALTHY);
        for (int i = 0; i < WATCHERS; i++)
            CHECK(x, !x->w[i].rests);
    }
    *faults += x->faults_named;
    *outages += x->outages_found;
    free(x);
}

static void test_simulation(void **state)
{
    (void)state;
    size_t faults = 0, outages = 0;
    const char *one = getenv("SEED");
    for (uint64_t seed = 1; seed <= 300; seed++)
        simulate(one ? strtoull(one, NULL, 10) : seed, &faults, &outages);
    assert_true(faults > 300 && outages > 300); /* it did happen */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_majority),
        cmocka_unit_test(test_rounds),
        cmocka_unit_test(test_what_is_said),
        cmocka_unit_test(test_simulation),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
