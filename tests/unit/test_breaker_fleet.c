/* test_breaker_fleet.c - 10 replicas, 1,000 reporters and 10,000 targets on one store and one bus in memory, with everything going wrong.
 *
 * One seed is one story: some of the targets fail, are slow, are misjudged by a blind minority of their reporters or forced by a person; all
 * others are called now and then and are well. Meanwhile replicas die and restart without memory, stand still, have clocks that jump (they tilt),
 * are cut off from the store or from the bus; reporters are cut off; messages are lost, doubled, late and out of order; the store goes away,
 * forgets everything at times, and its answers get lost. Must hold at each write, grant and announcement:
 *  - no epoch stands for two documents, and what is announced is what was stored;
 *  - never two permits at once, their ids only grow, and none is given out that is over already;
 *  - within one state a deadline only moves later, and no state ends before its deadline;
 *  - no opening by evidence before the window is a tenth of its time old, also that of a document put back into an emptied store;
 *  - a healthy target is not opened, unless in the storm those who know better were not heard, or fewer;
 * and at the end of its time:
 *  - every outage is found within its bound (found_bound_ms), counted from its beginning or from when all else was well again, and stays
 *    found until it is over: but for trials nobody is let in, also where it is slow and does not fail;
 *  - every target finds its way back to CLOSED, every change is announced, and every replica and reporter knows the last one.
 *
 * What is not promised, and not tried: announcements that a connected replica does not get (a connection that loses one is closed, and what was
 * missed is read again), and the same epochs after the store has lost a document that nobody had announced yet.
 *
 * That the checks can fail is shown each time: enum mutation lists what is broken on purpose, and each must be found.
 * SEED=n runs one seed and tells the story; SEEDS=n runs so many. */
#include "fleet_world.h"
#include <stddef.h>

#include <cmocka.h>

#if defined __SANITIZE_ADDRESS__ || defined __SANITIZE_THREAD__
#define SEEDS_HERE 100
#else
#define SEEDS_HERE 1000
#endif
#define SEEDS_VALGRIND 3
#define SEEDS_MUTATION 500 /* by then a mutation must have been found: it takes one or two stories, or a dozen */
#define TILT_HOLD_MS   3000
#define SWEEP_EVERY_MS 200 /* one replica after another, so each once in 2 s */
#define ROUNDS         12  /* a way back may fail so often: a blind caller may get the permit */

static const struct breaker_rule rule = {.window_ms = 10000,
                                         .min_calls = 10,
                                         .failure_percent = 50,
                                         .slow_percent = 50,
                                         .consecutive = 5,
                                         .slow_ms = 500,
                                         .open_ms = 1000,
                                         .open_max_ms = 4000,
                                         .decay_ms = 60000,
                                         .permit_ms = 1500,
                                         .ramp_step_ms = 1000,
                                         .jitter_percent = 20,
                                         .min_reporters = 2};

enum kind {
    DO_FLUSH,
    FLUSHED,
    DO_PUT,
    STORED,
    HEAR,
    PUSHED,
    WAKE,
    TICK,
    REPORT,
    ASK,
    GRANTED,
    QUIET_CALL,
    ORDER,
    DISTURB,
    RELINK,
    STORE_BACK,
    RESTART,
    SYNC,
    BUS_BACK,
    REPORTERS_BACK,
    CLOCK_RIGHT,
    TILT_OVER,
    SWEEP,
    RESYNC,
    DOWN,
    VERDICT,
    CHECK_FOUND,
    BACK,
    CHECK_CLOSED,
    KINDS
};
enum { CALL_GOOD, CALL_FAILED, CALL_RETRY, CALL_SLOW }; /* event.n of a report */

static void later(struct world *w, int64_t delay_ms, enum kind kind, uint8_t who, uint32_t target)
{
    struct event e = {
        .kind = (uint8_t)kind, .who = who, .target = target, .life = who < REPLICAS ? w->r[who].life : 0};
    queue_add(&w->q, delay_ms, &e);
}

/* With a parcel, which is dropped if it never arrives. */
static void send(struct world *w, int64_t delay_ms, struct event e, struct parcel *p)
{
    e.parcel = p;
    if (!queue_add(&w->q, delay_ms, &e))
        parcel_drop(w, p);
}

static bool paused(const struct world *w, const struct replica *r)
{
    return w->q.now_ms < r->paused_until_ms;
}

static bool tilted(const struct world *w, const struct replica *r)
{
    return w->q.now_ms < r->tilted_until_ms;
}

static int64_t clock_of(const struct world *w, const struct replica *r)
{
    return START + w->q.now_ms + r->skew_ms + r->jump_ms;
}

/* ---- the bounds ---- */

/* From CLOSED: the window must be a tenth old; each reporter calls once in 1.5 periods, a sole one must fail `consecutive` times; a flush may
 * have to be tried again; and a reporter that believes the target open does not call until it is told. From any other state what was good
 * before must leave the window first. Slow calls open by share, so there it is so always. */
static int64_t found_bound_ms(const struct world *w, const struct target *t)
{
    int64_t bound_ms = rule.window_ms / BREAKER_BUCKETS + (int64_t)rule.consecutive * PERIOD_MS * 3 / 2 + RETRY_MS +
                       RESYNC_MS + LATE_MS + LAZY_MS + 12 * w->trip_ms + 2 * SKEW_MS;
    if (t->trouble == SLOW)
        bound_ms += (int64_t)rule.min_calls * PERIOD_MS * 3 / 2;
    return t->doc.state == BREAKER_CLOSED && t->trouble != SLOW ? bound_ms : bound_ms + rule.window_ms;
}

/* A round: the longest opening, a permit whose holder goes silent, and the ramp with a call in each step. */
static int64_t back_bound_ms(void)
{
    int64_t round_ms = rule.open_max_ms * (100 + rule.jitter_percent) / 100 + 2 * rule.permit_ms + RESYNC_MS +
                       4 * (rule.ramp_step_ms + PERIOD_MS);
    return round_ms * ROUNDS;
}

/* ---- documents ---- */

static uint64_t hash_of(const struct breaker *b)
{
    const int64_t f[] = {b->state,
                         b->previous,
                         b->reason,
                         (int64_t)b->epoch,
                         b->changed_ms,
                         b->since_ms,
                         b->until_ms,
                         b->open_count,
                         b->ramp_percent,
                         (int64_t)b->permit.id,
                         b->permit.expires_ms,
                         b->evidence_ms,
                         b->forced_by != NULL,
                         (int64_t)b->maker};
    uint64_t h = breaker_hash(f, sizeof f, 7);
    return breaker_hash(b->permit.holder, strlen(b->permit.holder), h) | 1;
}

static uint64_t *written(struct world *w, struct target *t, uint64_t epoch)
{
    REQUIRE(w, epoch < EPOCHS, "target %u changes for ever", t->id);
    if (epoch >= t->n_written) {
        uint32_t n = epoch < 4 ? 4 : epoch < 64 ? 64 : EPOCHS;
        t->written = realloc(t->written, n * sizeof *t->written);
        if (!t->written)
            abort();
        memset(t->written + t->n_written, 0, (n - t->n_written) * sizeof *t->written);
        t->n_written = n;
    }
    return &t->written[epoch];
}

/* ---- targets and engines ---- */

static const struct breaker_io fleet_io;

static struct target *target_of(struct world *w, uint32_t id)
{
    if (w->target[id])
        return w->target[id];
    struct target **spare = &w->spare_target[w->n_touched];
    if (!*spare && !(*spare = malloc(sizeof **spare)))
        abort();
    **spare = (struct target){.id = id, .up = true};
    w->touched[w->n_touched++] = id;
    return w->target[id] = *spare;
}

static struct engine *engine_of(struct world *w, uint8_t i, uint32_t id)
{
    struct engine *e = w->engine[i][id];
    if (e)
        return e;
    struct replica *r = &w->r[i];
    if ((e = w->engines))
        w->engines = e->next;
    else if (!(e = malloc(sizeof *e)))
        abort();
    e->w = w;
    e->target = id;
    e->replica = i;
    e->wake_ms = e->queued_ms = 0;
    e->fair = false;
    e->next = r->engines;
    r->engines = e;
    w->engine[i][id] = e;
    w->sums->engines++;
    struct breaker_rule mine = rule;
    mine.seed = id;
    if (w->mutation == MUTATE_VOTES)
        mine.min_reporters = 1;
    breaker_target_init(&e->t, &fleet_io, e, &mine);
    e->t.maker = w->mutation == MUTATE_TWINS ? 0 : i + UINT32_C(1);
    const struct target *t = target_of(w, id);
    if (t->last && r->on_bus && r->synced)
        breaker_target_seen(&e->t, &t->last->doc);
    return e;
}

static struct engine *alive_engine(struct world *w, const struct event *e)
{
    return w->r[e->who].life == e->life ? w->engine[e->who][e->target] : NULL;
}

/* A replica that stands still does it all when it goes on: first what it is told, which waits in its own queue; what it asks for then takes
 * another trip. True: it has been put off. */
static bool put_off(struct world *w, const struct event *e)
{
    const struct replica *r = &w->r[e->who];
    if (!paused(w, r) || r->life != e->life)
        return false;
    send(w, r->paused_until_ms - w->q.now_ms + (e->kind != HEAR), *e, e->parcel);
    return true;
}

/* ---- the store: the window ---- */

static struct breaker_totals merge_window(struct target *t, int64_t now_ms, const struct breaker_delta *d)
{
    return breaker_window_merge(&t->window, t->found ? t->doc.epoch : 0, breaker_span_of(&rule), now_ms, d);
}

/* Who was heard, by the truth: those that see the target as it is, and those that do not. */
static void note_votes(struct world *w, struct target *t, const struct breaker_delta *d)
{
    for (uint32_t i = 0; i < d->n_reporters; i++)
        for (uint8_t c = 0; c < t->n_callers; c++)
            if (t->c[c].reporter + UINT64_C(1) == (d->votes[i].low | (uint64_t)d->votes[i].high << 32))
                t->c[c].heard_ms = w->q.now_ms;
}

static bool is_fair(const struct world *w, const struct target *t)
{
    int64_t surely_ms = w->q.now_ms - rule.window_ms * 9 / 10; /* in the window, wherever its buckets begin */
    uint32_t know = 0, blind = 0;
    for (uint8_t c = 0; c < t->n_callers; c++)
        if (t->c[c].heard_ms >= t->changed_ms && t->c[c].heard_ms > 0) {
            know += !t->c[c].blind && t->c[c].heard_ms > t->changed_ms && t->c[c].heard_ms > surely_ms;
            blind += t->c[c].blind;
        }
    return know > 0 && know >= blind;
}

/* A command to the store is done or not, if the link breaks while it is on its way. */
static bool arrives(struct world *w, const struct replica *r)
{
    return w->store_up && (r->linked || chance(w, 50)) && !(w->stormy && chance(w, 1));
}

static bool answered(struct world *w, const struct replica *r, const struct event *e)
{
    return r->linked && r->life == e->life && !(w->stormy && chance(w, 1));
}

static void on_do_flush(struct world *w, struct event *e)
{
    struct replica *r = &w->r[e->who];
    struct target *t = w->target[e->target];
    struct parcel *p = e->parcel;
    struct event answer = {.kind = FLUSHED, .who = e->who, .life = e->life, .target = e->target};
    p->flushed = (struct breaker_flushed){0};
    if (arrives(w, r)) {
        bool deaf = w->mutation == MUTATE_EVIDENCE && p->delta.failures > 0;
        struct breaker_totals totals =
            merge_window(t, START + w->q.now_ms, p->delta.calls && !deaf ? &p->delta : NULL);
        note_votes(w, t, &p->delta);
        p->fair = is_fair(w, t);
        p->age_ms = t->restored && w->mutation != MUTATE_GRACE ? w->q.now_ms - t->changed_ms : -1;
        if (answered(w, r, e)) {
            p->flushed =
                (struct breaker_flushed){.ok = true, .totals = totals, .pending = t->pending, .doc = &p->doc};
            p->flushed.found = !t->found                             ? BREAKER_FOUND_NONE
                               : t->doc.epoch == (uint64_t)e->number ? BREAKER_FOUND_SAME
                                                                     : BREAKER_FOUND_OTHER;
            p->doc = t->doc;
        }
    }
    send(w, trip(w), answer, p);
}

static void on_flushed(struct world *w, struct event *e)
{
    if (put_off(w, e))
        return;
    struct engine *x = alive_engine(w, e);
    if (x) {
        x->fair = e->parcel->fair;
        if (e->parcel->flushed.ok && e->parcel->age_ms >= 0)
            e->parcel->flushed.totals.began_ms = clock_of(w, &w->r[e->who]) - e->parcel->age_ms;
        breaker_target_flushed(&x->t, &e->parcel->flushed);
    }
    parcel_drop(w, e->parcel);
}

/* ---- the store: the document ---- */

static bool by_evidence(const struct breaker *b)
{
    bool from = b->previous == BREAKER_CLOSED || b->previous == BREAKER_PROBATION;
    return b->state == BREAKER_OPEN && from &&
           (b->reason == BREAKER_BY_FAILURE_RATIO || b->reason == BREAKER_BY_CONSECUTIVE ||
            b->reason == BREAKER_BY_SLOW_RATIO || b->reason == BREAKER_BY_RETRY_AFTER ||
            b->reason == BREAKER_BY_TRIAL_FAILED);
}

/* What must hold between a document and the one that it replaces. */
static void check_step(struct world *w, const struct target *t, const struct breaker *b, bool fair)
{
    const struct breaker *was = &t->doc;
    int64_t true_ms = START + w->q.now_ms;
    bool healthy = t->up && !t->slow && t->back_ms == 0;
    if (b->state == was->state && was->until_ms > 0)
        REQUIRE(w, b->until_ms == 0 || b->until_ms >= was->until_ms, "target %u: the deadline moves earlier", t->id);
    if (b->state != was->state && b->reason == BREAKER_BY_ELAPSED)
        REQUIRE(w, was->until_ms <= true_ms + SKEW_MS, "target %u: %s ends before its deadline", t->id,
                sm_name(&breaker_sm, was->state));
    REQUIRE(w, b->permit.id == was->permit.id || b->permit.id == was->permit.id + 1,
            "target %u: permit %llu after %llu", t->id, (unsigned long long)b->permit.id,
            (unsigned long long)was->permit.id);
    if (b->permit.id != was->permit.id)
        REQUIRE(w, was->permit.expires_ms <= true_ms + SKEW_MS, "target %u: two permits at once", t->id);
    /* Also where the document is old, but was put back into an emptied store: its window is not older than that. */
    REQUIRE(w,
            !by_evidence(b) || w->mutation == MUTATE_VOTES ||
                w->q.now_ms - t->changed_ms >= rule.window_ms / BREAKER_BUCKETS - 2 * SKEW_MS,
            "target %u: opened before its window counts", t->id);
    /* Who was put off by the storm could not be heard. When nothing is lost any more there is no such excuse, whatever the store has lost. */
    bool excused = !fair && w->q.now_ms < CALM_MS + LATE_MS;
    REQUIRE(w, !(by_evidence(b) && healthy) || excused, "target %u: a minority has opened it", t->id);
    REQUIRE(w, !t->outage_found || (t->up && !t->slow) || b->state == BREAKER_OPEN || b->state == BREAKER_HALF_OPEN,
            "target %u: let in although it still %s: %s", t->id, t->slow ? "is slow" : "fails",
            sm_name(&breaker_sm, b->state));
    REQUIRE(w, t->trouble != QUIET || b->state == BREAKER_CLOSED, "target %u: all is well, but %s", t->id,
            sm_name(&breaker_sm, b->state));
}

static void take_document(struct world *w, struct target *t, const struct event *e, bool over, bool pending)
{
    const struct breaker *b = &e->parcel->doc;
    uint64_t *known = written(w, t, b->epoch), hash = hash_of(b);
    REQUIRE(w, breaker_sm.invariant(b), "target %u: no such breaker", t->id);
    REQUIRE(w, *known == 0 || *known == hash, "target %u: epoch %llu stands for two documents", t->id,
            (unsigned long long)b->epoch);
    if (!over && t->found)
        check_step(w, t, b, e->parcel->fair);
    REQUIRE(w, b->permit.id >= t->permit_id || *known == hash, "target %u: ids of permits go back", t->id);
    *known = hash;
    t->permit_id = b->permit.id > t->permit_id ? b->permit.id : t->permit_id;
    bool opened = b->state == BREAKER_OPEN && (!t->found || t->doc.state != BREAKER_OPEN);
    t->outage_found |= opened && (!t->up || t->slow);
    w->sums->opened += opened;
    w->sums->changes++;
    w->sums->restored += over && b->epoch > 1;
    if (b->state != BREAKER_CLOSED || t->doc.state != BREAKER_CLOSED)
        t->quiet_since_ms = w->q.now_ms;
    t->doc = *b;
    t->found = true;
    t->restored = over;
    t->changed_ms = w->q.now_ms;
    if (pending && !t->listed) {
        t->listed = true;
        w->unsaid[w->n_unsaid++] = t->id;
    }
    t->pending = pending;
    TELL(w, "%5u: replica %d (%s) stores epoch %llu %s (%d), %u of %u reporters%s", t->id, e->who,
         e->parcel->fair ? "fair" : "unfair", (unsigned long long)b->epoch, sm_name(&breaker_sm, b->state), b->reason,
         b->totals.failing, b->totals.reporters, over ? ", over what there is" : "");
}

enum { PUT_OVER = 1, PUT_PENDING = 2 };

static void on_do_put(struct world *w, struct event *e)
{
    struct replica *r = &w->r[e->who];
    struct target *t = w->target[e->target];
    struct parcel *p = e->parcel;
    struct event answer = {
        .kind = STORED, .who = e->who, .life = e->life, .target = e->target, .n = BREAKER_PUT_FAILED};
    if (arrives(w, r)) {
        const struct breaker *b = &p->doc;
        uint64_t have = t->found ? t->doc.epoch : 0;
        if (w->mutation == MUTATE_DEADLINE && t->found && b->state == BREAKER_OPEN && t->doc.state == BREAKER_OPEN)
            p->doc.until_ms = t->doc.until_ms - 1;
        bool over = e->flags & PUT_OVER;
        bool same = t->found && have == b->epoch && hash_of(&t->doc) == hash_of(b);
        /* Who puts back what is there already has done no harm; who has made what is there already has lost all the same: another was first. */
        if (same && (over || w->mutation == MUTATE_TWINS)) {
            answer.n = BREAKER_PUT_WON;
        } else if (w->mutation == MUTATE_REV || (over ? have < b->epoch : have == b->epoch - 1)) {
            take_document(w, t, e, over, e->flags & PUT_PENDING);
            answer.n = BREAKER_PUT_WON;
        } else {
            w->sums->lost_races++;
            answer.n = BREAKER_PUT_LOST;
            answer.flags = t->found;
            p->doc = t->doc;
        }
        if (!answered(w, r, e))
            answer.n = BREAKER_PUT_FAILED;
    }
    send(w, trip(w), answer, p);
}

static void on_stored(struct world *w, struct event *e)
{
    if (put_off(w, e))
        return;
    struct engine *x = alive_engine(w, e);
    if (x)
        breaker_target_stored(&x->t, e->n, e->n == BREAKER_PUT_LOST && e->flags ? &e->parcel->doc : NULL);
    parcel_drop(w, e->parcel);
}

/* ---- the bus ---- */

static void take_pushed(struct world *w, struct caller *c, struct parcel *p)
{
    if (c->seen && c->seen->doc.epoch >= p->doc.epoch)
        return;
    parcel_drop(w, c->seen);
    p->refs++;
    c->seen = p;
}

static void publish(struct world *w, uint8_t from, uint32_t id, struct parcel *p)
{
    struct target *t = w->target[id];
    const struct replica *r = &w->r[from];
    if (!t->last || p->doc.epoch > t->last->doc.epoch) {
        parcel_drop(w, t->last);
        p->refs++;
        t->last = p;
    }
    if (w->store_up && r->linked && t->found && t->doc.epoch == p->doc.epoch)
        t->pending = false;
    for (uint8_t i = 0; i < REPLICAS; i++) {
        bool hears = w->r[i].alive && w->r[i].on_bus && (t->trouble != QUIET || w->engine[i][id]);
        for (int n = chance(w, w->dup) ? 2 : 1; hears && n > 0; n--) {
            p->refs++;
            send(w, w->stormy && chance(w, 1) ? LATE_MS : trip(w),
                 (struct event){.kind = HEAR, .who = i, .life = w->r[i].life, .target = id}, p);
        }
    }
    for (uint8_t c = 0; c < t->n_callers; c++)
        for (int n = chance(w, w->dup) ? 2 : 1; n > 0; n--)
            if (!w->reporter_off[t->c[c].reporter] && !chance(w, w->loss)) {
                p->refs++;
                send(w, trip(w), (struct event){.kind = PUSHED, .who = c, .target = id}, p);
            }
}

static void announce(struct world *w, uint8_t from, uint32_t id, const struct breaker *b, bool again)
{
    struct target *t = w->target[id];
    struct replica *r = &w->r[from];
    struct parcel *p = parcel_of(w, b);
    w->sums->repeats += again;
    if (again && w->mutation == MUTATE_EDIT)
        p->doc.until_ms++;
    uint64_t stored = *written(w, t, b->epoch);
    if (stored != hash_of(&p->doc)) {
        parcel_drop(w, p);
        REQUIRE(w, !stored, "target %u: epoch %llu is announced with another content", id,
                (unsigned long long)b->epoch);
        REQUIRE(w, stored, "target %u: epoch %llu is announced, but was never stored", id,
                (unsigned long long)b->epoch);
    }
    if (r->on_bus) {
        publish(w, from, id, p);
        parcel_drop(w, p);
    } else if (r->n_outbox < sizeof r->outbox / sizeof r->outbox[0]) {
        p->target = id;
        r->outbox[r->n_outbox++] = p;
    } else {
        parcel_drop(w, p);
    }
}

static void on_hear(struct world *w, struct event *e)
{
    if (put_off(w, e))
        return;
    const struct replica *r = &w->r[e->who];
    if (r->alive && r->life == e->life && r->on_bus)
        breaker_target_seen(&engine_of(w, e->who, e->target)->t, &e->parcel->doc);
    parcel_drop(w, e->parcel);
}

static void on_pushed(struct world *w, struct event *e)
{
    take_pushed(w, &w->target[e->target]->c[e->who], e->parcel);
    parcel_drop(w, e->parcel);
}

/* What a reporter has missed is read again. */
static void on_resync(struct world *w, struct event *e)
{
    (void)e;
    for (int i = 0; i < TROUBLED && w->mutation != MUTATE_SWEEP; i++) {
        struct target *t = w->target[w->troubled[i]];
        for (uint8_t c = 0; t->last && c < t->n_callers; c++)
            if (!w->reporter_off[t->c[c].reporter])
                take_pushed(w, &t->c[c], t->last);
    }
    later(w, RESYNC_MS, RESYNC, REPLICAS, 0);
}

/* Announces what a dead replica left, and looks at what has changed without our noticing. */
static void on_sweep(struct world *w, struct event *e)
{
    (void)e;
    uint8_t i = w->sweeper++ % REPLICAS;
    struct replica *r = &w->r[i];
    later(w, SWEEP_EVERY_MS, SWEEP, REPLICAS, 0);
    bool able = r->alive && r->linked && r->on_bus && r->synced && !paused(w, r) && !tilted(w, r) &&
                w->mutation != MUTATE_SWEEP;
    uint32_t kept = 0;
    for (uint32_t k = 0; k < w->n_unsaid; k++) {
        struct target *t = w->target[w->unsaid[k]];
        if (!(t->listed = t->pending))
            continue;
        w->unsaid[kept++] = t->id;
        if (!able || w->q.now_ms - t->changed_ms < LATE_MS)
            continue;
        struct engine *x = engine_of(w, i, t->id);
        if (t->found && x->t.doc.epoch == t->doc.epoch)
            announce(w, i, t->id, &x->t.doc, true);
        else
            breaker_target_wake(&x->t);
    }
    w->n_unsaid = kept;
    for (int k = 0; able && k < TROUBLED; k++) {
        const struct target *t = w->target[w->troubled[k]];
        struct engine *x = w->engine[i][t->id];
        if (x && t->found && x->t.doc.epoch != t->doc.epoch)
            breaker_target_wake(&x->t);
    }
}

/* ---- the engine's view of the world ---- */

static void io_flush(struct breaker_target *bt, const struct breaker_delta *d, uint64_t have)
{
    struct engine *x = bt->ctx;
    struct world *w = x->w;
    struct parcel *p = parcel_new(w);
    p->delta = *d;
    target_of(w, x->target);
    send(w, trip(w),
         (struct event){.kind = DO_FLUSH,
                        .who = x->replica,
                        .life = w->r[x->replica].life,
                        .target = x->target,
                        .number = (int64_t)have},
         p);
}

static void io_put(struct breaker_target *bt, const struct breaker *b, bool over, bool pending)
{
    struct engine *x = bt->ctx;
    struct world *w = x->w;
    struct parcel *p = parcel_of(w, b);
    p->fair = x->fair;
    send(w, trip(w),
         (struct event){.kind = DO_PUT,
                        .who = x->replica,
                        .life = w->r[x->replica].life,
                        .target = x->target,
                        .flags = (uint8_t)((over ? PUT_OVER : 0) | (pending ? PUT_PENDING : 0))},
         p);
}

static void io_announce(struct breaker_target *bt, const struct breaker *b)
{
    struct engine *x = bt->ctx;
    announce(x->w, x->replica, x->target, b, false);
}

static void io_pending(struct breaker_target *bt, bool first_sight)
{
    struct engine *x = bt->ctx;
    if (first_sight && x->w->mutation != MUTATE_SWEEP)
        announce(x->w, x->replica, x->target, &bt->doc, true);
}

static void wake_at(struct world *w, struct engine *x, int64_t at_ms)
{
    if (x->queued_ms && x->queued_ms <= at_ms)
        return; /* when that comes, it sees that it is too early */
    x->queued_ms = at_ms;
    later(w, at_ms - w->q.now_ms, WAKE, x->replica, x->target);
}

static void io_wake_at(struct breaker_target *bt, int64_t at_ms)
{
    struct engine *x = bt->ctx;
    struct world *w = x->w;
    x->wake_ms = 0;
    if (at_ms == 0 || w->mutation == MUTATE_TIMERS)
        return;
    at_ms -= clock_of(w, &w->r[x->replica]);
    x->wake_ms = w->q.now_ms + (at_ms < 1 ? 1 : at_ms);
    wake_at(w, x, x->wake_ms);
}

static void on_wake(struct world *w, struct event *e)
{
    struct engine *x = alive_engine(w, e);
    if (!x || put_off(w, e))
        return;
    if (x->queued_ms <= w->q.now_ms)
        x->queued_ms = 0;
    if (x->wake_ms == 0)
        return;
    if (x->wake_ms > w->q.now_ms) {
        wake_at(w, x, x->wake_ms);
        return;
    }
    x->wake_ms = 0;
    breaker_target_wake(&x->t);
}

static int64_t io_now(struct breaker_target *bt)
{
    struct engine *x = bt->ctx;
    bool hurry = x->w->mutation == MUTATE_PERMIT && bt->requests && bt->doc.permit.expires_ms > 0;
    return clock_of(x->w, &x->w->r[x->replica]) + (hurry ? rule.permit_ms : 0);
}

static bool io_up(struct breaker_target *bt)
{
    struct engine *x = bt->ctx;
    return x->w->r[x->replica].linked;
}

static bool io_may_act(struct breaker_target *bt)
{
    struct engine *x = bt->ctx;
    return !tilted(x->w, &x->w->r[x->replica]) || x->w->mutation == MUTATE_TILT;
}

static bool io_synced(struct breaker_target *bt)
{
    struct engine *x = bt->ctx;
    return x->w->r[x->replica].synced && x->w->r[x->replica].on_bus;
}

static void io_would_open(struct breaker_target *bt, int reason)
{
    (void)bt, (void)reason;
}

/* ---- callers ---- */

struct asked {
    struct breaker_request q; /* first: the engine gives it back */
    uint8_t caller;
    char holder[16];
};

static void io_answer(struct breaker_target *bt, struct breaker_request *q, enum breaker_answer a,
                      const struct breaker_result *r)
{
    struct engine *x = bt->ctx;
    struct world *w = x->w;
    struct asked *asked = (struct asked *)q;
    bool ordered = q->ev.kind != BREAKER_EV_ALLOW;
    uint8_t caller = asked->caller;
    free(asked);
    w->sums->orders += ordered && a == BREAKER_ANSWER_DONE;
    if (ordered || a != BREAKER_ANSWER_DONE || !r->admitted || r->permit_id == 0)
        return;
    struct target *t = w->target[x->target];
    REQUIRE(w, r->permit_id <= t->permit_id, "target %u: permit %llu was never stored", t->id,
            (unsigned long long)r->permit_id);
    REQUIRE(w, r->permit_id > t->granted_id, "target %u: permit %llu after %llu", t->id,
            (unsigned long long)r->permit_id, (unsigned long long)t->granted_id);
    t->granted_id = r->permit_id;
    w->sums->grants++;
    if (!chance(w, w->loss))
        send(w, trip(w),
             (struct event){.kind = GRANTED, .who = caller, .target = x->target, .number = (int64_t)r->permit_id},
             NULL);
}

static const struct breaker_io fleet_io = {.flush = io_flush,
                                           .put = io_put,
                                           .announce = io_announce,
                                           .pending = io_pending,
                                           .answer = io_answer,
                                           .wake_at = io_wake_at,
                                           .would_open = io_would_open,
                                           .now_ms = io_now,
                                           .up = io_up,
                                           .may_act = io_may_act,
                                           .synced = io_synced};

/* The bus hands a request or a report to one of those that are connected; -1: nobody is. */
static int some_replica(struct world *w)
{
    uint8_t first = (uint8_t)rnd(w, REPLICAS);
    for (uint8_t k = 0; k < REPLICAS; k++) {
        const struct replica *r = &w->r[(first + k) % REPLICAS];
        if (r->alive && r->on_bus && r->synced)
            return (first + k) % REPLICAS;
    }
    return -1;
}

static void on_report(struct world *w, struct event *e)
{
    if (e->who >= REPLICAS) { /* just arrived at the bus; e->flags is who called */
        int i = some_replica(w);
        if (i < 0)
            return;
        e->who = (uint8_t)i;
        e->life = w->r[i].life;
    }
    if (put_off(w, e))
        return;
    const struct replica *r = &w->r[e->who];
    if (!r->alive || r->life != e->life) /* it died with it in its hands */
        return;
    struct engine *x = engine_of(w, e->who, e->target);
    const struct target *t = w->target[e->target];
    bool quiet = t->trouble == QUIET, slow = e->n == CALL_SLOW && !(e->number && w->mutation == MUTATE_SLOW);
    struct breaker_report report = {.outcome = e->n == CALL_RETRY    ? 4
                                               : e->n == CALL_FAILED ? 2
                                                                     : 1,
                                    .total_ms = slow ? rule.slow_ms + 100 : 10,
                                    .retry_after_ms = e->n == CALL_RETRY ? 1500 : 0,
                                    .ended_ms = START + w->q.now_ms,
                                    .probe = !quiet && t->c[e->flags].watcher,
                                    .data_path = true,
                                    .reporter = UINT64_C(1) + (quiet ? (uint64_t)e->flags : t->c[e->flags].reporter)};
    breaker_target_report(&x->t, &report, (uint64_t)e->number);
    breaker_target_kick(&x->t);
}

static void call(struct world *w, struct target *t, uint8_t c, uint64_t permit)
{
    bool good = t->up && !t->c[c].blind;
    uint8_t how = good ? (t->slow ? CALL_SLOW : CALL_GOOD) : chance(w, 5) ? CALL_RETRY : CALL_FAILED;
    struct event e = {
        .kind = REPORT, .who = REPLICAS, .flags = c, .n = how, .target = t->id, .number = (int64_t)permit};
    if (w->reporter_off[t->c[c].reporter])
        return;
    for (int n = chance(w, w->dup) ? 2 : 1; n > 0; n--)
        if (!chance(w, w->loss))
            send(w, w->stormy && chance(w, 2) ? LATE_MS : trip(w), e, NULL);
}

static void on_granted(struct world *w, struct event *e)
{
    if (!chance(w, 15)) /* else it dies with its permit */
        call(w, w->target[e->target], e->who, (uint64_t)e->number);
}

static void ask(struct world *w, struct target *t, uint8_t caller, const struct breaker_event *ev)
{
    int i = some_replica(w);
    if (i < 0 || paused(w, &w->r[i])) /* its time-out says no */
        return;
    struct asked *a = calloc(1, sizeof *a);
    if (!a)
        abort();
    a->caller = caller;
    a->q.ev = *ev;
    if (ev->kind == BREAKER_EV_ALLOW) {
        snprintf(a->holder, sizeof a->holder,
                 "agent"); /* one name for all of them, as the processes of one agent have */
        a->q.ev.u.allow.holder = a->holder;
        a->q.ev.u.allow.draw = (uint32_t)rnd(w, 100);
    }
    breaker_target_request(&engine_of(w, (uint8_t)i, t->id)->t, &a->q);
}

static void on_ask(struct world *w, struct event *e)
{
    ask(w, w->target[e->target], e->who, &(struct breaker_event){.kind = BREAKER_EV_ALLOW});
}

static void on_tick(struct world *w, struct event *e)
{
    struct target *t = w->target[e->target];
    struct caller *c = &t->c[e->who];
    if (t->settled)
        return;
    send(w, c->period_ms / 2 + (int64_t)rnd(w, (uint64_t)c->period_ms), *e, NULL);
    const struct breaker *b = c->seen ? &c->seen->doc : NULL;
    switch (b ? b->state : BREAKER_CLOSED) {
    case BREAKER_HALF_OPEN:
        if (!w->reporter_off[c->reporter] && (c->watcher || chance(w, 30)))
            send(w, trip(w), (struct event){.kind = ASK, .who = e->who, .target = t->id}, NULL);
        break;
    case BREAKER_PROBATION:
        if (c->watcher || chance(w, b->ramp_percent))
            call(w, t, e->who, 0);
        break;
    case BREAKER_OPEN:
    case BREAKER_FORCED_OPEN:
        break;
    default:
        if (!c->watcher)
            call(w, t, e->who, 0);
    }
}

/* A reporter calls one of the many that are well; now and then a single call fails. */
static void on_quiet_call(struct world *w, struct event *e)
{
    uint16_t reporter = (uint16_t)e->number;
    uint32_t id = (uint32_t)rnd(w, TARGETS);
    send(w, 1000 + (int64_t)rnd(w, 6000), *e, NULL);
    if (w->q.now_ms > CALM_MS + 4000 || target_of(w, id)->trouble != QUIET || w->reporter_off[reporter] ||
        chance(w, w->loss))
        return;
    struct event r = {.kind = REPORT, .who = REPLICAS, .flags = (uint8_t)reporter, .target = id};
    r.n = chance(w, 2) ? CALL_FAILED : CALL_GOOD;
    send(w, trip(w), r, NULL);
}

static void on_order(struct world *w, struct event *e)
{
    static const enum breaker_event_kind kinds[] = {BREAKER_EV_OPEN, BREAKER_EV_CLOSE, BREAKER_EV_METRICS,
                                                    BREAKER_EV_RESET};
    struct target *t = w->target[e->target];
    if (w->q.now_ms >= CALM_MS)
        return;
    later(w, 500 + (int64_t)rnd(w, 4000), ORDER, REPLICAS, t->id);
    struct breaker_event ev = {
        .kind = kinds[rnd(w, 4)],
        .u.person = {.by = "eve", .why = "because", .duration_ms = 300 + (int64_t)rnd(w, 3000)}};
    ask(w, t, 0, &ev);
}

/* ---- replicas ---- */

static void halt(struct world *w, uint8_t i)
{
    struct replica *r = &w->r[i];
    r->alive = false;
    r->life++;
    while (r->engines) {
        struct engine *x = r->engines;
        r->engines = x->next;
        breaker_target_refuse_all(&x->t);
        x->t.phase = BREAKER_IDLE;
        breaker_target_done(&x->t);
        w->engine[i][x->target] = NULL;
        x->next = w->engines;
        w->engines = x;
    }
    for (; r->n_outbox > 0; r->n_outbox--)
        parcel_drop(w, r->outbox[r->n_outbox - 1]);
}

static void boot(struct world *w, uint8_t i)
{
    struct replica *r = &w->r[i];
    r->alive = r->on_bus = true;
    r->linked = w->store_up;
    r->synced = false;
    r->jump_ms = r->tilted_until_ms = r->paused_until_ms = 0;
    later(w, 2 * trip(w), SYNC, i, 0);
}

static void wake_all(struct world *w, struct replica *r)
{
    (void)w;
    for (struct engine *x = r->engines; x; x = x->next)
        breaker_target_wake(&x->t);
}

/* The stream has been read up to the present. */
static void catch_up(struct world *w, uint8_t i)
{
    struct replica *r = &w->r[i];
    r->synced = true;
    for (int k = 0; k < TROUBLED; k++)
        if (w->target[w->troubled[k]]->last)
            engine_of(w, i, w->troubled[k]);
    for (struct engine *x = r->engines; x; x = x->next)
        if (w->target[x->target]->last)
            breaker_target_seen(&x->t, &w->target[x->target]->last->doc);
}

static void on_sync(struct world *w, struct event *e)
{
    struct replica *r = &w->r[e->who];
    if (!r->alive || r->life != e->life)
        return;
    catch_up(w, e->who);
    wake_all(w, r);
}

static void on_relink(struct world *w, struct event *e)
{
    struct replica *r = &w->r[e->who];
    if (!r->alive || r->life != e->life || put_off(w, e) || r->linked)
        return;
    r->linked = w->store_up;
    if (r->linked)
        wake_all(w, r);
}

static void on_bus_back(struct world *w, struct event *e)
{
    struct replica *r = &w->r[e->who];
    if (!r->alive || r->life != e->life || r->on_bus)
        return;
    r->on_bus = true;
    catch_up(w, e->who);
    for (uint32_t k = 0; k < r->n_outbox; k++) {
        publish(w, e->who, r->outbox[k]->target, r->outbox[k]);
        parcel_drop(w, r->outbox[k]);
    }
    r->n_outbox = 0;
}

static void on_restart(struct world *w, struct event *e)
{
    if (!w->r[e->who].alive)
        boot(w, e->who);
}

static void on_clock_right(struct world *w, struct event *e)
{
    if (w->r[e->who].life == e->life)
        w->r[e->who].jump_ms = 0;
}

static void on_tilt_over(struct world *w, struct event *e)
{
    struct replica *r = &w->r[e->who];
    if (r->alive && r->life == e->life && !put_off(w, e) && !tilted(w, r))
        wake_all(w, r);
}

static void tilt(struct world *w, uint8_t i, int64_t from_ms)
{
    struct replica *r = &w->r[i];
    r->tilted_until_ms = from_ms + TILT_HOLD_MS;
    later(w, r->tilted_until_ms - w->q.now_ms, TILT_OVER, i, 0);
}

/* ---- trouble ---- */

static void on_store_back(struct world *w, struct event *e)
{
    (void)e;
    w->store_up = true;
    for (uint8_t i = 0; i < REPLICAS; i++)
        later(w, trip(w), RELINK, i, 0);
}

static void on_reporters_back(struct world *w, struct event *e)
{
    (void)e;
    memset(w->reporter_off, 0, sizeof w->reporter_off);
}

static void store_away(struct world *w)
{
    if (!w->store_up)
        return;
    w->store_up = false;
    for (uint8_t i = 0; i < REPLICAS; i++)
        w->r[i].linked = false;
    bool forgets = chance(w, 40);
    TELL(w, "the store goes away%s", forgets ? " and forgets" : "");
    w->sums->emptied += forgets;
    for (uint32_t k = 0; forgets && k < w->n_touched; k++) {
        struct target *t = w->target[w->touched[k]];
        bool known = t->last && t->last->doc.epoch == t->doc.epoch && !t->pending;
        if (known || w->mutation == MUTATE_FORGET) {
            t->found = t->pending = false;
            memset(&t->window, 0, sizeof t->window);
        }
    }
    later(w, LATE_MS + 100 + (int64_t)rnd(w, 2500), STORE_BACK, REPLICAS, 0);
}

static void disturb(struct world *w, uint8_t i)
{
    struct replica *r = &w->r[i];
    int64_t for_ms = 200 + (int64_t)rnd(w, 4000);
    switch (rnd(w, 9)) {
    case 0:
    case 1:
        TELL(w, "replica %d dies", i);
        w->sums->deaths += r->alive;
        halt(w, i);
        later(w, for_ms, RESTART, i, 0);
        break;
    case 2:
        store_away(w);
        break;
    case 3:
    case 4:
        TELL(w, "replica %d loses the store", i);
        r->linked = false;
        later(w, for_ms, RELINK, i, 0);
        break;
    case 5:
        TELL(w, "replica %d loses the bus", i);
        r->on_bus = false;
        later(w, for_ms, BUS_BACK, i, 0);
        break;
    case 6:
        r->jump_ms = (int64_t)rnd(w, 40000) - 20000;
        r->jump_ms += r->jump_ms < 0 ? -2000 : 2000;
        TELL(w, "the clock of replica %d jumps by %lld ms", i, (long long)r->jump_ms);
        w->sums->jumps++;
        tilt(w, i, w->q.now_ms);
        later(w, (int64_t)rnd(w, TILT_HOLD_MS), CLOCK_RIGHT, i, 0);
        break;
    case 7:
        TELL(w, "replica %d stands still for %lld ms", i, (long long)for_ms);
        w->sums->pauses++;
        r->paused_until_ms = w->q.now_ms + for_ms < CALM_MS ? w->q.now_ms + for_ms : CALM_MS - 1;
        if (for_ms >= 2000) /* it sees that, but not always before it has done what was ready to be done */
            tilt(w, i, r->paused_until_ms + (int64_t)rnd(w, 2) * (int64_t)rnd(w, 50));
        break;
    default:
        for (uint64_t n = rnd(w, 400); n > 0; n--)
            w->reporter_off[rnd(w, REPORTERS)] = true;
        later(w, for_ms, REPORTERS_BACK, REPLICAS, 0);
    }
}

static void calm(struct world *w)
{
    w->stormy = false;
    w->loss = w->dup = 0;
    on_reporters_back(w, NULL);
    if (!w->store_up)
        on_store_back(w, NULL);
    for (uint8_t i = 0; i < REPLICAS; i++) {
        struct replica *r = &w->r[i];
        if (!r->alive)
            boot(w, i);
        r->jump_ms = r->tilted_until_ms = 0;
        later(w, 1, RELINK, i, 0);
        later(w, 1, BUS_BACK, i, 0);
        later(w, 1, TILT_OVER, i, 0);
    }
}

static void on_disturb(struct world *w, struct event *e)
{
    (void)e;
    if (w->q.now_ms >= CALM_MS) {
        calm(w);
        return;
    }
    w->stormy = true;
    int64_t next_ms = 100 + (int64_t)rnd(w, 900);
    later(w, w->q.now_ms + next_ms > CALM_MS ? CALM_MS - w->q.now_ms : next_ms, DISTURB, REPLICAS, 0);
    disturb(w, (uint8_t)rnd(w, REPLICAS));
}

/* ---- the targets' fates ---- */

static void on_down(struct world *w, struct event *e)
{
    struct target *t = w->target[e->target];
    t->up = t->trouble == SLOW;
    t->slow = t->trouble == SLOW;
    t->down_ms = w->q.now_ms;
    t->outage_found = false;
    TELL(w, "%5u: %s", t->id, t->slow ? "becomes slow" : "fails");
    if (w->q.now_ms >= CALM_MS) {
        t->found_by_ms = w->q.now_ms + found_bound_ms(w, t);
        later(w, found_bound_ms(w, t), CHECK_FOUND, REPLICAS, t->id);
    } else { /* where it stands is not known until all else is well */
        later(w, CALM_MS - w->q.now_ms, DOWN, REPLICAS, t->id);
    }
    if (t->trouble == OUTAGE && t->id % 4 == 0)
        later(w, 500 + (int64_t)rnd(w, 2000), VERDICT, REPLICAS, t->id);
}

/* The watchers' verdict reaches those that are connected; it is told again until the target is back. */
static void on_verdict(struct world *w, struct event *e)
{
    struct target *t = w->target[e->target];
    bool well = t->up && !t->slow;
    for (uint8_t i = 0; i < REPLICAS; i++) {
        struct engine *x = w->engine[i][t->id];
        if (!x || !w->r[i].on_bus || paused(w, &w->r[i]))
            continue;
        if (well)
            breaker_target_well(&x->t);
        else
            breaker_target_unhealthy(&x->t, START + t->down_ms, START + t->down_ms);
    }
    if (!t->settled)
        later(w, 1000, VERDICT, REPLICAS, t->id);
}

static void on_check_found(struct world *w, struct event *e)
{
    struct target *t = w->target[e->target];
    bool found = t->doc.state == BREAKER_OPEN || t->doc.state == BREAKER_HALF_OPEN;
    REQUIRE(w, found, "target %u: its outage is not found: %s, epoch %llu", t->id, sm_name(&breaker_sm, t->doc.state),
            (unsigned long long)t->doc.epoch);
    w->sums->outages++;
    later(w, 500 + (int64_t)rnd(w, 3000), BACK, REPLICAS, t->id);
}

static void on_back(struct world *w, struct event *e)
{
    struct target *t = w->target[e->target];
    t->up = true;
    t->slow = false;
    t->back_ms = w->q.now_ms;
    TELL(w, "%5u: is well", t->id);
    later(w, back_bound_ms(), CHECK_CLOSED, REPLICAS, t->id);
}

static void on_check_closed(struct world *w, struct event *e)
{
    const struct target *t = w->target[e->target];
    REQUIRE(w, t->settled, "target %u does not find its way back: %s, epoch %llu", t->id,
            sm_name(&breaker_sm, t->doc.state), (unsigned long long)t->doc.epoch);
}

static void (*const handle[KINDS])(struct world *w, struct event *e) = {[DO_FLUSH] = on_do_flush,
                                                                        [FLUSHED] = on_flushed,
                                                                        [DO_PUT] = on_do_put,
                                                                        [STORED] = on_stored,
                                                                        [HEAR] = on_hear,
                                                                        [PUSHED] = on_pushed,
                                                                        [WAKE] = on_wake,
                                                                        [TICK] = on_tick,
                                                                        [REPORT] = on_report,
                                                                        [ASK] = on_ask,
                                                                        [GRANTED] = on_granted,
                                                                        [QUIET_CALL] = on_quiet_call,
                                                                        [ORDER] = on_order,
                                                                        [DISTURB] = on_disturb,
                                                                        [RELINK] = on_relink,
                                                                        [STORE_BACK] = on_store_back,
                                                                        [RESTART] = on_restart,
                                                                        [SYNC] = on_sync,
                                                                        [BUS_BACK] = on_bus_back,
                                                                        [REPORTERS_BACK] = on_reporters_back,
                                                                        [CLOCK_RIGHT] = on_clock_right,
                                                                        [TILT_OVER] = on_tilt_over,
                                                                        [SWEEP] = on_sweep,
                                                                        [RESYNC] = on_resync,
                                                                        [DOWN] = on_down,
                                                                        [VERDICT] = on_verdict,
                                                                        [CHECK_FOUND] = on_check_found,
                                                                        [BACK] = on_back,
                                                                        [CHECK_CLOSED] = on_check_closed};

/* ---- stories ---- */

static enum trouble choose(struct world *w)
{
    static const enum trouble of_ten[] = {OUTAGE, OUTAGE, OUTAGE, BLIND_OUTAGE, BLIND_OUTAGE,
                                          BLIND,  BLIND,  BLIND,  SLOW,         ORDERED};
    return of_ten[rnd(w, 10)];
}

static void make_troubled(struct world *w, int k)
{
    uint32_t id;
    do
        id = (uint32_t)rnd(w, TARGETS);
    while (w->target[id]);
    struct target *t = target_of(w, id);
    w->troubled[k] = id;
    t->trouble = (uint8_t)choose(w);
    bool blind = t->trouble == BLIND || t->trouble == BLIND_OUTAGE;
    uint8_t n = (uint8_t)((blind ? 3 : 1) + rnd(w, blind ? CALLERS - 3 : CALLERS - 1));
    /* A minority: fewer than half. With an outage only one, so that the way back has a bound. */
    t->n_blind = t->trouble == BLIND ? (uint8_t)(1 + rnd(w, (uint64_t)(n - 1) / 2)) : t->trouble == BLIND_OUTAGE;
    t->n_callers = (uint8_t)(n + 1);
    uint16_t first = (uint16_t)rnd(w, REPORTERS);
    for (uint8_t c = 0; c < t->n_callers; c++) {
        t->c[c] = (struct caller){.reporter = (uint16_t)((first + c * 37) % REPORTERS),
                                  .blind = c < t->n_blind,
                                  .watcher = c == n,
                                  .period_ms = c == n ? 300 : PERIOD_MS / 3 + (int64_t)rnd(w, PERIOD_MS * 2 / 3)};
        struct event e = {.kind = TICK, .who = c, .target = id};
        send(w, 1 + (int64_t)rnd(w, 1000), e, NULL);
    }
    int64_t begins_ms = STORM_MS + (int64_t)rnd(w, CALM_MS);
    if (t->trouble == OUTAGE || t->trouble == BLIND_OUTAGE || t->trouble == SLOW)
        later(w, begins_ms, DOWN, REPLICAS, id);
    else
        later(w, CALM_MS + 8000, BACK, REPLICAS, id);
    if (t->trouble == ORDERED)
        later(w, begins_ms / 2, ORDER, REPLICAS, id);
}

static void begin(struct world *w)
{
    queue_reset(&w->q);
    w->rng = w->seed;
    w->store_up = true;
    w->stormy = false;
    w->n_touched = w->n_unsaid = 0;
    w->sweeper = 0;
    memset(w->reporter_off, 0, sizeof w->reporter_off);
    w->trip_ms = 1 + (int64_t)rnd(w, 20);
    w->loss = (int64_t)rnd(w, 20);
    w->dup = (int64_t)rnd(w, 20);
    for (uint8_t i = 0; i < REPLICAS; i++) {
        w->r[i] = (struct replica){.skew_ms = (int64_t)rnd(w, 2 * SKEW_MS) - SKEW_MS, .life = w->r[i].life + 1};
        boot(w, i);
    }
    for (int k = 0; k < TROUBLED; k++)
        make_troubled(w, k);
    for (int i = 0; i < REPORTERS; i++)
        send(w, 1 + (int64_t)rnd(w, 6000), (struct event){.kind = QUIET_CALL, .number = i}, NULL);
    later(w, STORM_MS, DISTURB, REPLICAS, 0);
    later(w, SWEEP_EVERY_MS, SWEEP, REPLICAS, 0);
    later(w, RESYNC_MS, RESYNC, REPLICAS, 0);
}

/* Closed and left alone for as long as a window says anything. */
static bool all_settled(struct world *w)
{
    bool all = w->q.now_ms > CALM_MS + 12000;
    for (int k = 0; k < TROUBLED; k++) {
        struct target *t = w->target[w->troubled[k]];
        int64_t since_ms = t->quiet_since_ms > t->back_ms ? t->quiet_since_ms : t->back_ms;
        t->settled |= t->back_ms > 0 && t->doc.state == BREAKER_CLOSED && w->q.now_ms - since_ms > 3000;
        all &= t->settled;
    }
    return all;
}

static void run_until(struct world *w, int64_t until_ms)
{
    struct event e;
    while (queue_next(&w->q, until_ms, &e))
        handle[e.kind](w, &e);
}

static void check_end(struct world *w)
{
    for (uint32_t k = 0; k < w->n_touched; k++) {
        const struct target *t = w->target[w->touched[k]];
        REQUIRE(w, t->trouble == QUIET || t->settled, "target %u does not find its way back", t->id);
        if (!t->found) /* nobody has called it since the store forgot it, or at all */
            continue;
        REQUIRE(w, !t->pending && t->last && t->last->doc.epoch >= t->doc.epoch,
                "target %u: epoch %llu was never announced", t->id, (unsigned long long)t->doc.epoch);
        for (int i = 0; t->trouble != QUIET && i < REPLICAS; i++)
            REQUIRE(w, w->engine[i][t->id] && w->engine[i][t->id]->t.doc.epoch == t->doc.epoch,
                    "target %u: replica %d does not know epoch %llu", t->id, i, (unsigned long long)t->doc.epoch);
        for (int c = 0; c < t->n_callers; c++)
            REQUIRE(w, t->c[c].seen && t->c[c].seen->doc.epoch == t->doc.epoch,
                    "target %u: reporter %d does not know epoch %llu", t->id, c, (unsigned long long)t->doc.epoch);
    }
}

/* Also in the middle of a story: whatever is on its way is dropped. */
static void clean_up(struct world *w)
{
    for (uint8_t i = 0; i < REPLICAS; i++)
        halt(w, i);
    for (uint32_t k = 0; k < w->n_touched; k++) {
        free(w->target[w->touched[k]]->written);
        w->target[w->touched[k]] = NULL;
    }
    w->parcels = NULL;
    for (struct parcel *p = w->all_parcels; p; p = p->also) {
        p->next = w->parcels;
        w->parcels = p;
    }
}

/* True: all that must hold did; otherwise w->broken says what did not. */
static bool story(struct world *w, uint64_t seed, enum mutation m)
{
    w->seed = seed;
    w->mutation = m;
    w->broken[0] = 0;
    if (setjmp(w->out) == 0) {
        begin(w);
        while (w->q.now_ms < STORY_MS - 1 && !all_settled(w))
            run_until(w, w->q.now_ms + 500);
        run_until(w, w->q.now_ms + RESYNC_MS + 3 * SWEEP_EVERY_MS * REPLICAS);
        check_end(w);
    }
    clean_up(w);
    w->sums->stories++;
    w->sums->events += w->q.done;
    w->q.done = 0;
    return w->broken[0] == 0;
}

static struct world *world_new(struct sums *sums)
{
    struct world *w = calloc(1, sizeof *w);
    assert_non_null(w);
    queue_init(&w->q, STORY_MS);
    w->sums = sums;
    return w;
}

static void world_free(struct world *w)
{
    for (struct parcel *p = w->all_parcels, *next; p; p = next) {
        next = p->also;
        free(p);
    }
    for (struct engine *x = w->engines, *next; x; x = next) {
        next = x->next;
        free(x);
    }
    for (int i = 0; i < TARGETS; i++)
        free(w->spare_target[i]);
    queue_done(&w->q);
    free(w);
}

static uint64_t number(const char *name, uint64_t otherwise)
{
    const char *s = getenv(name);
    return s ? strtoull(s, NULL, 10) : otherwise;
}

static void test_stories(void **unused)
{
    (void)unused;
    struct sums s = {0};
    struct world *w = world_new(&s);
    uint64_t one = number("SEED", 0), n = number("SEEDS", getenv("VALGRIND") ? SEEDS_VALGRIND : SEEDS_HERE);
    w->tell = one > 0;
    for (uint64_t seed = one ? one : 1; seed <= (one ? one : n); seed++)
        if (!story(w, seed, SOUND))
            fail_msg("%s", w->broken);
    world_free(w);
#define N(x) (unsigned long long)(s.x)
    print_message("%llu stories, %llu events, %llu engines: %llu changes, opened %llu times, %llu permits, %llu "
                  "races lost, %llu outages "
                  "found within their bounds, %llu orders; %llu deaths, %llu pauses, %llu clock jumps, the store "
                  "emptied %llu times, "
                  "%llu documents put back, %llu announced again\n",
                  N(stories), N(events), N(engines), N(changes), N(opened), N(grants), N(lost_races), N(outages),
                  N(orders), N(deaths), N(pauses), N(jumps), N(emptied), N(restored), N(repeats));
    if (one || n < SEEDS_VALGRIND)
        return;
    /* What the stories are about did happen in them. */
    assert_true(s.outages >= 10 * s.stories && s.opened >= s.outages && s.grants >= s.outages);
    assert_true(s.lost_races > 0 && s.orders > 0 && s.deaths > 0 && s.pauses > 0 && s.jumps > 0 && s.repeats > 0);
    assert_true(s.emptied > 0 && s.restored > 0);
}

static void test_mutations(void **unused)
{
    (void)unused;
    static const struct {
        const char *name, *found_as; /* any of these, parted by | */
    } expect[MUTATIONS] = {
        [MUTATE_REV] = {"the store takes every document", "stands for two documents|permit|deadline"},
        [MUTATE_VOTES] = {"no votes", "a minority has opened it"},
        [MUTATE_TILT] = {"acts although its clock has jumped", "before its deadline|two permits|earlier"},
        [MUTATE_EVIDENCE] = {"no failure counts", "its outage is not found"},
        [MUTATE_TIMERS] = {"no deadline wakes", "way back|is not found"},
        [MUTATE_SWEEP] = {"nothing is swept or read again", "never announced|does not know|way back"},
        [MUTATE_EDIT] = {"a repeat says something else", "with another content"},
        [MUTATE_DEADLINE] = {"the earlier deadline is kept", "moves earlier"},
        [MUTATE_PERMIT] = {"a permit ends before its time", "two permits at once"},
        [MUTATE_FORGET] = {"what was not announced is lost", "stands for two documents"},
        [MUTATE_SLOW] = {"a slow trial is a good one", "let in although it still is slow"},
        [MUTATE_GRACE] = {"a window put back counts at once", "before its window counts"},
        [MUTATE_TWINS] = {"two that decide alike are one", "permit"}};
    if (getenv("SEED"))
        skip();
    struct sums s = {0};
    struct world *w = world_new(&s);
    for (enum mutation m = SOUND + 1; m < MUTATIONS; m++) {
        uint64_t seed = 1;
        while (seed <= (getenv("VALGRIND") ? 1 : SEEDS_MUTATION) && story(w, seed, m))
            seed++;
        if (!w->broken[0] && !getenv("VALGRIND"))
            fail_msg("'%s' was not found in %d stories", expect[m].name, SEEDS_MUTATION);
        bool as_expected = !w->broken[0];
        char list[120], *rest = list;
        snprintf(list, sizeof list, "%s", expect[m].found_as);
        for (char *part; (part = strsep(&rest, "|"));)
            as_expected |= strstr(w->broken, part) != NULL;
        print_message("broken on purpose: %s: %s\n", expect[m].name,
                      w->broken[0] ? w->broken : "not in so few stories");
        assert_true(as_expected);
    }
    world_free(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_stories), cmocka_unit_test(test_mutations)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
