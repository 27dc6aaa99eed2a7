/* test_breaker_sim.c - several replicas' engines on one store in memory, with a virtual clock and everything going wrong.
 *
 * One seed is one story: 1 to 4 replicas with clocks that differ, 1 to 6 reporters of which a minority may be blind, a watcher, and a
 * target that goes down and comes back; at times one reporter floods with successes whatever happens; windows are of time or of calls; reports
 * and events are lost, doubled and late, answers of the store get lost, the store goes away and comes back (at times emptied), replicas stop,
 * restart and tilt. Must hold in each:
 *  - no epoch stands for two documents, and the store's epoch grows by one;
 *  - never two permits at once, and their ids only grow;
 *  - within one state a deadline only moves later;
 *  - a minority never opens the breaker of a healthy target;
 *  - an outage is found within its bound;
 *  - it always finds its way back to CLOSED.
 * SEED=n runs one seed and tells the story; SEEDS=n runs so many (default 2,000; fewer when sanitised). */
#include "breaker/target.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#if defined __SANITIZE_ADDRESS__ || defined __SANITIZE_THREAD__
#define SEEDS_HERE 300
#else
#define SEEDS_HERE 2000
#endif

#include <cmocka.h>

enum { REPLICAS = 4, REPORTERS = 6, WATCHER = REPORTERS, CALLERS, EPOCHS = 4096, EVENTS = 4096 };
#define START INT64_C(1700000000000)
#define SKEW  40 /* replicas' clocks differ by up to this, either way */

static struct breaker_rule rule = {.window_ms = 10000,
                                   .min_calls = 10,
                                   .failure_percent = 50,
                                   .slow_percent = 50,
                                   .consecutive = 5,
                                   .open_ms = 1000,
                                   .open_max_ms = 4000,
                                   .decay_ms = 60000,
                                   .permit_ms = 1500,
                                   .ramp_step_ms = 1000,
                                   .jitter_percent = 20,
                                   .min_reporters = 2,
                                   .seed = 3};

struct sim;
struct event {
    int64_t at;
    uint64_t order;
    void (*fn)(struct sim *s, struct event *e);
    int who, instance;
    bool flag, flag2;
    enum breaker_put_result put;
    struct breaker doc;
    struct breaker_flushed flushed;
    struct breaker_delta delta;
    struct breaker_report report;
    uint64_t number;
    struct breaker_request *request;
};
struct replica {
    struct breaker_target t;
    struct sim *s;
    int index, instance; /* answers to an earlier life are void */
    bool alive, linked, tilted;
    int64_t skew;
    int64_t wake;
    uint64_t wake_order;
};
struct caller {
    int64_t period;
    bool blind;          /* fails whatever the target does */
    bool liar;           /* floods with successes, whatever the target does */
    struct breaker seen; /* the pushed state */
    uint64_t permit;
};
struct sim {
    uint64_t seed, rng, order;
    int64_t now, end;
    struct event *heap[EVENTS];
    size_t heap_n;
    struct replica r[REPLICAS];
    int n_replicas;
    struct caller c[CALLERS];
    int n_reporters, n_blind;
    bool lied_to;
    /* the store */
    bool store_up, found, pending;
    struct breaker doc;
    struct breaker_window window;
    /* the stream: what was announced; and every document ever written */
    struct breaker last;
    struct breaker written[EPOCHS];
    /* permits */
    uint64_t permit_id;
    /* the world */
    bool target_up, stormy;
    int64_t loss, dup, delay;
    int64_t outage_since, calm_since;
    bool found_outage;
    uint64_t changes, grants, lost_races, opened;
    bool tell;
};

static uint64_t rnd(struct sim *s, uint64_t n)
{
    uint64_t x = s->rng += UINT64_C(0x9e3779b97f4a7c15);
    x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
    return (x ^ (x >> 31)) % n;
}

static bool chance(struct sim *s, int64_t percent)
{
    return (int64_t)rnd(s, 100) < percent;
}

#define REQUIRE(s, what, ...)                                                                                        \
    do {                                                                                                             \
        if (!(what)) {                                                                                               \
            print_message("seed %llu at %lld ms: %s: ", (unsigned long long)(s)->seed,                               \
                          (long long)((s)->now - START), #what);                                                     \
            fail_msg(__VA_ARGS__);                                                                                   \
        }                                                                                                            \
    } while (0)
#define TELL(s, ...)                                                                                                 \
    do {                                                                                                             \
        if ((s)->tell) {                                                                                             \
            printf("%8lld ", (long long)((s)->now - START));                                                         \
            printf(__VA_ARGS__);                                                                                     \
            printf("\n");                                                                                            \
        }                                                                                                            \
    } while (0)

/* ---- events ---- */

static bool before(const struct event *a, const struct event *b)
{
    return a->at < b->at || (a->at == b->at && a->order < b->order);
}

static struct event *at(struct sim *s, int64_t delay, void (*fn)(struct sim *, struct event *), int who)
{
    struct event *e = calloc(1, sizeof *e);
    assert_non_null(e);
    assert_true(s->heap_n < EVENTS);
    e->at = s->now + delay;
    e->order = s->order++;
    e->fn = fn;
    e->who = who;
    if (who < REPLICAS)
        e->instance = s->r[who].instance;
    size_t i = s->heap_n++;
    for (; i > 0 && before(e, s->heap[(i - 1) / 2]); i = (i - 1) / 2)
        s->heap[i] = s->heap[(i - 1) / 2];
    s->heap[i] = e;
    return e;
}

static struct event *pop(struct sim *s)
{
    struct event *first = s->heap[0], *e = s->heap[--s->heap_n];
    size_t i = 0;
    for (size_t c; (c = 2 * i + 1) < s->heap_n; i = c) {
        if (c + 1 < s->heap_n && before(s->heap[c + 1], s->heap[c]))
            c++;
        if (!before(s->heap[c], e))
            break;
        s->heap[i] = s->heap[c];
    }
    s->heap[i] = e;
    return first;
}

static int64_t trip(struct sim *s)
{
    return (int64_t)rnd(s, (uint64_t)s->delay) + 1;
}

/* ---- the store ---- */

static bool same_doc(const struct breaker *a, const struct breaker *b)
{
    return a->state == b->state && a->previous == b->previous && a->reason == b->reason &&
           a->changed_ms == b->changed_ms && a->since_ms == b->since_ms && a->until_ms == b->until_ms &&
           a->ramp_percent == b->ramp_percent && a->permit.id == b->permit.id &&
           a->permit.expires_ms == b->permit.expires_ms && strcmp(a->permit.holder, b->permit.holder) == 0 &&
           a->open_count == b->open_count && a->evidence_ms == b->evidence_ms;
}

static void written(struct sim *s, const struct breaker *b)
{
    REQUIRE(s, b->epoch < EPOCHS, "too many changes");
    struct breaker *w = &s->written[b->epoch];
    REQUIRE(s, w->epoch == 0 || same_doc(w, b), "epoch %llu stands for two documents: %s and %s",
            (unsigned long long)b->epoch, sm_name(&breaker_sm, w->state), sm_name(&breaker_sm, b->state));
    *w = *b;
    REQUIRE(s, breaker_sm.invariant(b), "no such breaker");
}

static void deliver_flush(struct sim *s, struct event *e)
{
    struct replica *r = &s->r[e->who];
    if (r->instance == e->instance) {
        e->flushed.doc = &e->doc;
        breaker_target_flushed(&r->t, &e->flushed);
    }
}

static void do_flush(struct sim *s, struct event *e)
{
    struct event *answer = at(s, trip(s), deliver_flush, e->who);
    answer->instance = e->instance;
    if (!s->store_up || (s->stormy && chance(s, 1)))
        return; /* ok = false */
    struct breaker_totals t = breaker_window_merge(&s->window, s->found ? s->doc.epoch : 0, breaker_span_of(&rule),
                                                   s->now, e->delta.calls ? &e->delta : NULL);
    answer->flushed = (struct breaker_flushed){.ok = true, .totals = t, .pending = s->pending};
    answer->doc = s->doc;
    answer->flushed.found = !s->found                   ? BREAKER_FOUND_NONE
                            : s->doc.epoch == e->number ? BREAKER_FOUND_SAME
                                                        : BREAKER_FOUND_OTHER;
    if (s->stormy && chance(s, 1)) /* done, but the answer got lost */
        answer->flushed = (struct breaker_flushed){0};
}

static void io_flush(struct breaker_target *t, const struct breaker_delta *d, uint64_t have)
{
    struct replica *r = t->ctx;
    struct event *e = at(r->s, trip(r->s), do_flush, r->index);
    e->delta = *d;
    e->number = have;
}

static void deliver_put(struct sim *s, struct event *e)
{
    struct replica *r = &s->r[e->who];
    if (r->instance == e->instance)
        breaker_target_stored(&r->t, e->put, e->flag ? &e->doc : NULL);
}

static void do_put(struct sim *s, struct event *e)
{
    struct event *answer = at(s, trip(s), deliver_put, e->who);
    answer->instance = e->instance;
    answer->put = BREAKER_PUT_FAILED;
    if (!s->store_up || (s->stormy && chance(s, 1)))
        return;
    uint64_t have = s->found ? s->doc.epoch : 0;
    /* Two replicas may come to the very same document within the same millisecond: only one of them has made it. */
    bool same = e->flag && s->found && have == e->doc.epoch && same_doc(&s->doc, &e->doc);
    if (same) {
        answer->put = BREAKER_PUT_WON;
    } else if (e->flag ? have < e->doc.epoch : have == e->doc.epoch - 1) {
        if (s->found && s->doc.state == BREAKER_OPEN && e->doc.state == BREAKER_OPEN && !e->flag)
            REQUIRE(s, e->doc.until_ms >= s->doc.until_ms, "the deadline moves earlier");
        if (s->found && e->doc.permit.id != s->doc.permit.id && !e->flag) {
            REQUIRE(s, e->doc.permit.id == s->doc.permit.id + 1, "permits are not given out in order");
            REQUIRE(s, s->doc.permit.expires_ms <= s->now + SKEW, "two permits at once");
        }
        written(s, &e->doc);
        s->doc = e->doc;
        s->found = true;
        s->pending = e->flag2;
        s->changes++;
        TELL(s, "replica %d stores epoch %llu %s (%d) until %lld", e->who, (unsigned long long)s->doc.epoch,
             sm_name(&breaker_sm, s->doc.state), s->doc.reason,
             (long long)(s->doc.until_ms ? s->doc.until_ms - START : 0));
        if (s->doc.state == BREAKER_OPEN && s->doc.previous != BREAKER_OPEN) {
            s->opened++;
            /* A blind minority, everybody else well: this must not be. */
            REQUIRE(s,
                    s->outage_since || s->n_reporters - s->n_blind < s->n_blind || s->n_blind == 0 ||
                        s->now < s->calm_since,
                    "a minority has opened it");
        }
        answer->put = BREAKER_PUT_WON;
    } else {
        s->lost_races++;
        answer->put = BREAKER_PUT_LOST;
        answer->flag = s->found;
        answer->doc = s->doc;
    }
    if (s->stormy && chance(s, 1))
        answer->put = BREAKER_PUT_FAILED;
}

static void io_put(struct breaker_target *t, const struct breaker *b, bool over, bool pending)
{
    struct replica *r = t->ctx;
    struct event *e = at(r->s, trip(r->s), do_put, r->index);
    e->doc = *b;
    e->doc.forced_by = b->forced_by ? "x" : NULL;
    e->doc.forced_why = b->forced_why ? "x" : NULL;
    e->flag = over;
    e->flag2 = pending;
}

/* ---- the bus ---- */

static void hear(struct sim *s, struct event *e)
{
    if (e->who < REPLICAS) {
        struct replica *r = &s->r[e->who];
        if (r->alive && r->instance == e->instance)
            breaker_target_seen(&r->t, &e->doc);
    } else if (e->doc.epoch > s->c[e->who - REPLICAS].seen.epoch) {
        s->c[e->who - REPLICAS].seen = e->doc;
    }
}

static void announce(struct sim *s, const struct breaker *b)
{
    written(s, b);
    if (b->epoch > s->last.epoch) {
        s->last = *b;
        s->last.forced_by = s->last.forced_why = NULL;
    }
    if (s->found && s->doc.epoch == b->epoch)
        s->pending = false;
    for (int who = 0; who < REPLICAS + CALLERS; who++)
        for (int n = chance(s, s->dup) ? 2 : 1; n > 0; n--)
            if (!chance(s, s->loss) && s->heap_n < EVENTS - 64) {
                struct event *e = at(s, trip(s), hear, who);
                e->doc = *b;
                e->doc.forced_by = e->doc.forced_why = NULL;
            }
}

static void io_announce(struct breaker_target *t, const struct breaker *b)
{
    announce(((struct replica *)t->ctx)->s, b);
}

static void io_pending(struct breaker_target *t, bool first_sight)
{
    if (first_sight)
        io_announce(t, &t->doc);
}

/* What was lost on the way is read again from the stream; and a sweep finds what a dead replica left. */
static void resync(struct sim *s, struct event *e)
{
    (void)e;
    if (s->found && s->pending && s->store_up)
        announce(s, &s->doc);
    for (int who = 0; s->last.epoch && who < REPLICAS + CALLERS; who++) {
        struct event *h = at(s, trip(s), hear, who);
        h->doc = s->last;
    }
    at(s, 2000, resync, 0);
}

static void wake(struct sim *s, struct event *e)
{
    struct replica *r = &s->r[e->who];
    if (r->alive && r->instance == e->instance && r->wake_order == e->number)
        breaker_target_wake(&r->t);
}

static void io_wake_at(struct breaker_target *t, int64_t at_ms)
{
    struct replica *r = t->ctx;
    r->wake_order++;
    if (at_ms == 0)
        return;
    int64_t delay = at_ms - (r->s->now + r->skew);
    struct event *e = at(r->s, delay < 1 ? 1 : delay, wake, r->index);
    e->number = r->wake_order;
}

static int64_t io_now(struct breaker_target *t)
{
    struct replica *r = t->ctx;
    return r->s->now + r->skew;
}

static bool io_up(struct breaker_target *t)
{
    return ((struct replica *)t->ctx)->linked;
}

static bool io_may_act(struct breaker_target *t)
{
    return !((struct replica *)t->ctx)->tilted;
}

static bool io_synced(struct breaker_target *t)
{
    (void)t;
    return true;
}

static void io_would_open(struct breaker_target *t, int reason)
{
    (void)t, (void)reason;
}

/* ---- callers ---- */

static void make_call(struct sim *s, int who);

static void leave_granted(struct sim *s, struct event *e)
{
    struct caller *c = &s->c[e->who - REPLICAS];
    c->permit = e->number;
    if (!chance(s, 15)) /* else it dies with its permit */
        make_call(s, e->who - REPLICAS);
    c->permit = 0;
}

struct asked {
    struct breaker_request q;
    int who;
    char holder[16];
};

static void io_answer(struct breaker_target *t, struct breaker_request *q, enum breaker_answer a,
                      const struct breaker_result *res)
{
    struct replica *r = t->ctx;
    struct sim *s = r->s;
    struct asked *x = (struct asked *)q;
    if (a == BREAKER_ANSWER_DONE && res->admitted && res->permit_id) {
        TELL(s, "replica %d grants permit %llu to %s", r->index, (unsigned long long)res->permit_id, x->holder);
        REQUIRE(s, res->permit_id > s->permit_id, "permit %llu after %llu", (unsigned long long)res->permit_id,
                (unsigned long long)s->permit_id);
        s->permit_id = res->permit_id;
        s->grants++;
        if (!chance(s, s->loss)) {
            struct event *e = at(s, trip(s), leave_granted, REPLICAS + x->who);
            e->number = res->permit_id;
        }
    }
    free(x);
}

static const struct breaker_io io = {io_flush,      io_put, io_announce, io_pending, io_answer, io_wake_at,
                                     io_would_open, io_now, io_up,       io_may_act, io_synced};

static int some_replica(struct sim *s)
{
    for (int tries = 0; tries < 8; tries++) {
        int i = (int)rnd(s, (uint64_t)s->n_replicas);
        if (s->r[i].alive)
            return i;
    }
    return -1;
}

static void report(struct sim *s, struct event *e)
{
    int i = some_replica(s);
    if (i < 0)
        return;
    breaker_target_report(&s->r[i].t, &e->report, e->number);
    breaker_target_kick(&s->r[i].t);
}

static void ask(struct sim *s, struct event *e)
{
    int i = some_replica(s);
    struct asked *x = calloc(1, sizeof *x);
    assert_non_null(x);
    if (i < 0) {
        free(x);
        return;
    }
    x->who = e->who - REPLICAS;
    snprintf(x->holder, sizeof x->holder, "caller-%d", x->who);
    x->q.ev = (struct breaker_event){.kind = BREAKER_EV_ALLOW,
                                     .u.allow = {.holder = x->holder, .draw = (uint32_t)rnd(s, 100)}};
    breaker_target_request(&s->r[i].t, &x->q);
}

static void make_call(struct sim *s, int who)
{
    struct caller *c = &s->c[who];
    bool good = c->liar || (s->target_up && !c->blind);
    for (int n = chance(s, s->dup) ? 2 : 1; n > 0; n--) {
        if (chance(s, s->loss))
            continue;
        struct event *e = at(s, trip(s), report, REPLICAS + who);
        e->report = (struct breaker_report){.outcome = good ? 1 : 2,
                                            .ended_ms = s->now,
                                            .total_ms = 10,
                                            .probe = who == WATCHER,
                                            .data_path = true,
                                            .reporter = (uint64_t)who + 1};
        if (!good && !s->lied_to && chance(s, 5)) { /* no Retry-After: by runs and shares alone */
            e->report.outcome = 4;
            e->report.retry_after_ms = 1500;
        }
        e->number = c->permit;
    }
}

static void call(struct sim *s, struct event *e)
{
    int who = e->who - REPLICAS;
    struct caller *c = &s->c[who];
    at(s, c->period / 2 + (int64_t)rnd(s, (uint64_t)c->period), call, e->who);
    bool watcher = who == WATCHER;
    switch (c->seen.state) {
    case BREAKER_HALF_OPEN:
        if (watcher || chance(s, 30))
            at(s, trip(s), ask, e->who);
        break;
    case BREAKER_PROBATION:
        if (watcher || chance(s, c->seen.ramp_percent))
            make_call(s, who);
        break;
    case BREAKER_OPEN:
        break;
    default:
        if (!watcher)
            make_call(s, who);
    }
}

/* ---- the world ---- */

static void boot(struct sim *s, int i)
{
    struct replica *r = &s->r[i];
    r->instance++;
    r->alive = true;
    r->linked = s->store_up;
    r->tilted = false;
    r->s = s;
    r->index = i;
    breaker_target_init(&r->t, &io, r, &rule);
    if (s->last.epoch)
        breaker_target_seen(&r->t, &s->last);
    breaker_target_wake(&r->t);
}

static void halt(struct sim *s, int i)
{
    struct replica *r = &s->r[i];
    if (!r->alive)
        return;
    breaker_target_refuse_all(&r->t);
    r->t.phase = BREAKER_IDLE;
    breaker_target_done(&r->t);
    r->alive = false;
    r->instance++;
}

static void relink(struct sim *s, struct event *e)
{
    struct replica *r = &s->r[e->who];
    if (!r->alive || r->instance != e->instance)
        return;
    r->linked = s->store_up;
    r->tilted = false;
    if (r->linked)
        breaker_target_wake(&r->t);
}

static void store_back(struct sim *s, struct event *e)
{
    (void)e;
    s->store_up = true;
    for (int i = 0; i < s->n_replicas; i++)
        at(s, trip(s), relink, i);
}

static void restart(struct sim *s, struct event *e)
{
    if (!s->r[e->who].alive)
        boot(s, e->who);
}

static void trouble(struct sim *s, struct event *e)
{
    (void)e;
    if (!s->stormy)
        return;
    at(s, 500 + (int64_t)rnd(s, 3000), trouble, 0);
    int i = (int)rnd(s, (uint64_t)s->n_replicas);
    switch (rnd(s, 4)) {
    case 0:
        TELL(s, "replica %d dies", i);
        halt(s, i);
        at(s, 100 + (int64_t)rnd(s, 2000), restart, i);
        break;
    case 1:
        if (!s->store_up)
            break;
        s->store_up = false;
        TELL(s, "the store goes away");
        for (int k = 0; k < s->n_replicas; k++)
            s->r[k].linked = false;
        if (s->n_blind == 0 && chance(s, 40) && !s->pending && s->last.epoch == s->doc.epoch) {
            TELL(s, "and forgets everything");
            s->found = false;
            memset(&s->window, 0, sizeof s->window);
        }
        at(s, 50 + (int64_t)rnd(s, 2500), store_back, 0);
        break;
    case 2:
        s->r[i].tilted = true;
        at(s, 1000, relink, i);
        break;
    default: /* one replica's link to the store */
        s->r[i].linked = false;
        at(s, 300, relink, i);
        break;
    }
}

static void run_until(struct sim *s, int64_t until, bool (*done)(struct sim *s))
{
    while (s->heap_n > 0 && s->heap[0]->at <= until && !(done && done(s))) {
        struct event *e = pop(s);
        s->now = e->at;
        e->fn(s, e);
        free(e);
    }
    if (s->heap_n == 0 || (s->heap[0]->at > until && !(done && done(s))))
        s->now = until;
}

static void calm(struct sim *s)
{
    s->stormy = false;
    s->loss = s->dup = 0;
    s->delay = 3;
    if (!s->store_up)
        store_back(s, NULL);
    for (int i = 0; i < s->n_replicas; i++) {
        if (!s->r[i].alive)
            boot(s, i);
        at(s, 5, relink, i);
    }
}

static bool is_open(struct sim *s)
{
    return s->doc.state == BREAKER_OPEN || s->doc.state == BREAKER_HALF_OPEN;
}

static bool is_closed(struct sim *s)
{
    return s->doc.state == BREAKER_CLOSED;
}

struct sums {
    uint64_t changes, grants, lost_races, opened;
};

static void story(uint64_t seed, bool tell, struct sums *sums)
{
    struct sim *s = calloc(1, sizeof *s);
    assert_non_null(s);
    *s = (struct sim){.seed = seed, .rng = seed, .now = START, .store_up = true, .target_up = true, .tell = tell};
    s->n_replicas = 1 + (int)rnd(s, REPLICAS);
    s->n_reporters = 1 + (int)rnd(s, REPORTERS);
    /* A minority: fewer than half, and at least two see the truth. Where one is blind, nothing else is lost in healthy times. */
    s->n_blind = s->n_reporters >= 3 && chance(s, 50) ? 1 + (int)rnd(s, (uint64_t)(s->n_reporters - 1) / 2) : 0;
    if (s->n_blind * 2 >= s->n_reporters)
        s->n_blind = 0;
    s->delay = 1 + (int64_t)rnd(s, 20);
    rule.window_calls = seed % 3 == 0 ? 60 : 0;
    s->lied_to = s->n_blind == 0 && s->n_reporters >= 4 && chance(s, 50);
    for (int i = 0; i < s->n_replicas; i++) {
        s->r[i].skew = (int64_t)rnd(s, 2 * SKEW) - SKEW;
        boot(s, i);
    }
    for (int i = 0; i < CALLERS; i++)
        if (i < s->n_reporters || i == WATCHER) {
            s->c[i].period = i == WATCHER ? 200 : 50 + (int64_t)rnd(s, 200);
            s->c[i].blind = i < s->n_blind;
            s->c[i].liar = s->lied_to && i == 0;
            if (s->c[i].liar)
                s->c[i].period = 10;
            at(s, (int64_t)rnd(s, 500), call, REPLICAS + i);
        }
    at(s, 2000, resync, 0);

    /* Healthy, with a blind minority: it stays closed. */
    run_until(s, s->now + 4000, NULL);
    s->calm_since = s->now;
    run_until(s, s->now + 6000, NULL);
    REQUIRE(s, s->n_blind == 0 || is_closed(s), "state %s of a healthy target", sm_name(&breaker_sm, s->doc.state));

    /* Storm, and the target fails somewhere in it. */
    s->calm_since = INT64_MAX;
    s->stormy = true;
    s->loss = (int64_t)rnd(s, 20);
    s->dup = (int64_t)rnd(s, 20);
    at(s, (int64_t)rnd(s, 1000), trouble, 0);
    run_until(s, s->now + (int64_t)rnd(s, 4000), NULL);
    s->target_up = false;
    s->outage_since = s->now;
    TELL(s, "the target fails");
    run_until(s, s->now + 6000 + (int64_t)rnd(s, 8000), NULL);

    /* All else is well again: the outage is found within its bound. Every reporter calls at least each 300 ms; a trial that
     * was lucky is undone by the next step. The window still holds what was good before. */
    calm(s);
    run_until(s, s->now + 12000, is_open);
    REQUIRE(s, is_open(s), "outage not found: %s", sm_name(&breaker_sm, s->doc.state));

    /* It stays away while it lasts, trials apart. */
    run_until(s, s->now + 2000, NULL);

    /* Back, in another storm; then calm: it closes, and stays so. */
    s->stormy = true;
    s->loss = (int64_t)rnd(s, 20);
    at(s, 1, trouble, 0);
    s->target_up = true;
    TELL(s, "the target is back");
    run_until(s, s->now + (int64_t)rnd(s, 6000), NULL);
    calm(s);
    int64_t bound = (4000 * 12 / 10 + 1500 * 3 + 2000 + 4 * 1000) * 6;
    run_until(s, s->now + bound, is_closed);
    REQUIRE(s, is_closed(s), "it does not find its way back: %s, epoch %llu", sm_name(&breaker_sm, s->doc.state),
            (unsigned long long)s->doc.epoch);
    run_until(s, s->now + 3000, NULL);
    s->outage_since = 0;
    s->calm_since = s->now;
    run_until(s, s->now + 5000, NULL);
    REQUIRE(s, is_closed(s), "healthy, but %s", sm_name(&breaker_sm, s->doc.state));
    for (int i = 0; i < s->n_replicas; i++)
        REQUIRE(s, s->r[i].t.doc.epoch == s->doc.epoch, "replica %d knows epoch %llu of %llu", i,
                (unsigned long long)s->r[i].t.doc.epoch, (unsigned long long)s->doc.epoch);
    sums->changes += s->changes;
    sums->grants += s->grants;
    sums->lost_races += s->lost_races;
    sums->opened += s->opened;

    for (int i = 0; i < s->n_replicas; i++)
        halt(s, i);
    while (s->heap_n > 0)
        free(pop(s));
    free(s);
}

static void test_stories(void **unused)
{
    (void)unused;
    const char *one = getenv("SEED"), *many = getenv("SEEDS");
    struct sums sums = {0};
    if (one) {
        story(strtoull(one, NULL, 10), true, &sums);
        return;
    }
    uint64_t n = many ? strtoull(many, NULL, 10) : getenv("VALGRIND") ? 40 : SEEDS_HERE;
    for (uint64_t seed = 1; seed <= n; seed++)
        story(seed, false, &sums);
    print_message("%llu stories: %llu changes, opened %llu times, %llu permits, %llu races lost\n",
                  (unsigned long long)n, (unsigned long long)sums.changes, (unsigned long long)sums.opened,
                  (unsigned long long)sums.grants, (unsigned long long)sums.lost_races);
    assert_true(sums.lost_races > 0 && sums.grants > 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_stories)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
