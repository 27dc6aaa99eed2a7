/* rollback_world.h - a deployment in memory for tests of the rollback decider: executor, traffic, data and checks, a journal, and who acts on it.
 *
 * Time is virtual. Whoever acts stores the document before he carries out what came with it, and can die between any two things. With every decision and
 * every act it is checked that nobody is sent to what cannot carry him, that nothing with traffic is stopped or removed, and that no data are lost;
 * the first thing that is wrong is kept in `broken`. */
#ifndef ROLLBACK_WORLD_H
#define ROLLBACK_WORLD_H

#include "redoubt/v1/command.pb-c.h"
#include "rollback/rollback_doc.h"
#include "rollback/rollback_impl.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define T0        INT64_C(1700000000000)
#define V1        "00000000000000a1"
#define V2        "00000000000000b2"
#define V3        "00000000000000c3"
#define MAX       6 /* instances of a side */
#define EVENTS    64
#define STATUS(x) REDOUBT__V1__COMMAND_STATUS__COMMAND_STATUS_##x

struct instance {
    char version[ROLLBACK_ID];
    bool there, running;
    int64_t ready_ms; /* from then on, if it runs */
    int64_t again_ms; /* starts again by itself; 0 = does not */
};
enum happening { ACT_APPLIES, ACT_ENDS, LOOKED, CHECKED, WAKES, TAKES_OVER };
struct happens {
    int64_t at_ms;
    enum happening kind;
    unsigned life; /* of who acts; what was his dies with him */
    struct rollback_effect e;
    struct rollback_did did;
};
/* Contents of the learning data: what they began with, and how much was learnt since. */
struct data {
    unsigned base, learnt;
};
struct world {
    int64_t now_ms;
    uint64_t rng;
    struct rollback_rule rule;
    struct rollback_check_rule checks[3];
    /* who acts */
    struct rollback_doc doc;
    struct rollback_doc stored;
    unsigned life;
    bool alive;
    struct happens q[EVENTS];
    size_t n_q;
    int64_t wake_ms;
    struct rollback_sight sight; /* the last one that was given */
    /* what stands */
    struct instance side[2][MAX];
    int share[2];
    unsigned sessions[2];
    bool has_writer, paused;
    struct data data, snapshots[ROLLBACK_LINEAGE * 4];
    size_t n_snapshots;
    bool half_restored;
    /* what goes wrong */
    bool executor_away, traffic_away, counts_sessions;
    int fails_percent, lasting_percent, deaf_percent, slow_ms, start_ms;
    bool bad_target, bad_errors, silent; /* checks */
    int bad_from_weight; /* the security check of the target fails once so little is left on the former version; -1 = never */
    int crash_in; /* dies before so many further stores, between store and act; 0 = does not */
    bool quiet;   /* nothing of this world is broken by others: capacity is never short */
    /* what came of it */
    char broken[400];
    unsigned acts, weights, stores, crashes, holds, done, aborted, refused, replies;
    struct rollback_effect reply, raised, last_do;
    bool did_reply;
    int64_t seen_ms, others_ms; /* it was last seen what stands; others have last set the traffic */
    int most_moved;             /* least weight that the former version had in this job */
};

static inline uint64_t rnd(struct world *w)
{
    uint64_t z = w->rng += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

static inline unsigned below(struct world *w, unsigned n)
{
    return (unsigned)(rnd(w) % n);
}

static inline bool chance(struct world *w, int percent)
{
    return percent > 0 && below(w, 100) < (unsigned)percent;
}

__attribute__((format(printf, 2, 3))) static inline void broke(struct world *w, const char *fmt, ...)
{
    if (w->broken[0])
        return;
    va_list ap;
    va_start(ap, fmt);
    int n = snprintf(w->broken, sizeof w->broken, "at %" PRId64 " ms in %s/%d, step %zu, weight %d: ", w->now_ms - T0,
                     sm_name(&rollback_sm, w->doc.job.phase), w->doc.job.stage, w->doc.job.step, w->doc.job.weight);
    vsnprintf(w->broken + n, sizeof w->broken - (size_t)n, fmt, ap);
    va_end(ap);
}

/* ---- what stands ---- */

static inline bool is_ready(const struct world *w, const struct instance *i)
{
    return i->there && i->running && w->now_ms >= i->ready_ms;
}

static inline unsigned count_of(const struct world *w, int side, const char *version, bool ready)
{
    unsigned n = 0;
    for (int i = 0; i < MAX; i++)
        n += w->side[side][i].there && (!version || strcmp(w->side[side][i].version, version) == 0) &&
             (!ready || is_ready(w, &w->side[side][i]));
    return n;
}

static inline void put(struct world *w, int side, const char *version, unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        struct instance *x = &w->side[side][i];
        *x = (struct instance){.there = true, .running = true, .ready_ms = w->now_ms};
        snprintf(x->version, sizeof x->version, "%s", version);
    }
}

static inline void look(const struct world *w, struct rollback_sight *s)
{
    memset(s, 0, sizeof *s);
    s->executor_known = !w->executor_away;
    s->traffic_known = !w->traffic_away;
    snprintf(s->error, sizeof s->error, "%s",
             w->executor_away  ? "the executor is away"
             : w->traffic_away ? "the traffic is away"
                               : "");
    for (int side = 0; side < 2; side++) {
        struct rollback_side *r = &s->side[side];
        r->share = w->traffic_away ? -1 : w->share[side];
        r->sessions = w->traffic_away || !w->counts_sessions ? 0 : w->sessions[side];
        for (int i = 0; i < MAX && !w->executor_away; i++) {
            const struct instance *x = &w->side[side][i];
            if (!x->there)
                continue;
            snprintf(r->version, sizeof r->version, "%s", x->version);
            r->instances++;
            r->running += x->running;
            r->ready += is_ready(w, x);
            if (!is_ready(w, x))
                snprintf(r->why, sizeof r->why, "instance %d does not answer", i);
        }
    }
}

/* ---- time ---- */

static inline void later(struct world *w, int64_t in_ms, const struct happens *h)
{
    if (w->n_q == EVENTS) {
        broke(w, "more is asked for than is answered");
        return;
    }
    w->q[w->n_q] = *h;
    w->q[w->n_q].at_ms = w->now_ms + in_ms;
    w->q[w->n_q++].life = w->life;
}

static inline void decide(struct world *w, const struct rollback_event *ev);

/* The holder dies: what he had asked for may still happen, or not; somebody else takes over. */
static inline void crash(struct world *w)
{
    size_t n = 0;
    w->crashes++;
    w->alive = false;
    for (size_t i = 0; i < w->n_q; i++)
        if (w->q[i].kind == ACT_APPLIES && chance(w, 50)) {
            w->q[n] = w->q[i];
            if (w->q[n].at_ms > w->now_ms + 2000)
                w->q[n].at_ms = w->now_ms + 2000;
            n++;
        }
    w->n_q = n;
    w->life++;
    w->wake_ms = INT64_MAX;
    later(w, 3000, &(struct happens){.kind = TAKES_OVER});
}

static inline void take_over(struct world *w)
{
    struct err e;
    struct rollback_bytes b = rollback_doc_pack(&w->stored, &w->rule, &e);
    if (!b.data || rollback_doc_unpack(&w->doc, w->stored.deployment, b.data, b.len, &e) != 0)
        broke(w, "the journal cannot be read: %s", e.text);
    rollback_bytes_free(&b);
    w->alive = true;
    decide(w, &(struct rollback_event){.kind = ROLLBACK_TAKEN});
}

/* ---- acts ---- */

static inline void act_weight(struct world *w, const struct rollback_effect *e)
{
    const struct rollback_side *s = w->sight.side;
    unsigned n = w->doc.job.plan.instances;
    w->weights++;
    if (e->share[0] + e->share[1] != 100 || e->share[0] < 0 || e->share[1] < 0)
        broke(w, "shares %d and %d", e->share[0], e->share[1]);
    for (int i = 0; i < 2; i++) {
        unsigned needs = (n * (unsigned)e->share[i] + 99) / 100;
        if (e->share[i] > s[i].share && s[i].ready < needs && s[!i].ready > 0)
            broke(w, "side %d gets %d %% (of %d %%) with %u ready of %u needed", i, e->share[i], s[i].share,
                  s[i].ready, needs);
    }
}

/* Is it allowed by what its decision was made from? */
static inline void judge_act(struct world *w, const struct rollback_effect *e)
{
    const struct rollback_job *j = &w->doc.job;
    const struct rollback_side *s = w->sight.side;
    switch (e->op) {
    case ROLLBACK_OP(WEIGHT):
        act_weight(w, e);
        break;
    case ROLLBACK_OP(STOP):
    case ROLLBACK_OP(REMOVE):
        if (s[e->side].share != 0 && w->rule.gradual)
            broke(w, "side %d has %d %% and is stopped or removed", e->side, s[e->side].share);
        if (s[!e->side].ready < j->plan.instances && j->phase != ROLLBACK_PHASE(ABORTING))
            broke(w, "side %d is stopped or removed, and only %u of %u are ready on the other", e->side,
                  s[!e->side].ready, j->plan.instances);
        break;
    case ROLLBACK_OP(UP):
        if (s[e->side].instances && strcmp(s[e->side].version, e->version) != 0 && w->rule.gradual)
            broke(w, "%s is started over %s", e->version, s[e->side].version);
        if (j->plan.data != ROLLBACK_DATA_NONE && !j->snapshot[0])
            broke(w, "something is started before the data are safe");
        break;
    case ROLLBACK_OP(RESTORE):
        if (!e->snapshot[0] || (!w->paused && w->has_writer))
            broke(w, "data are put back of `%s` while the writer %s", e->snapshot,
                  w->paused ? "is paused" : "writes");
        break;
    default:
        break;
    }
}

static inline bool saved_as(const struct world *w, struct data d)
{
    for (size_t i = 0; i < w->n_snapshots; i++)
        if (w->snapshots[i].base == d.base && w->snapshots[i].learnt == d.learnt)
            return true;
    return false;
}

static inline size_t save(struct world *w)
{
    w->snapshots[w->n_snapshots] = w->data;
    return w->n_snapshots++;
}

static inline void apply(struct world *w, const struct rollback_effect *e)
{
    struct instance *side = w->side[e->side];
    switch (e->op) {
    case ROLLBACK_OP(WEIGHT):
        if (!chance(w, w->deaf_percent)) /* or it says that it was done, and was not */
            memcpy(w->share, e->share, sizeof w->share);
        break;
    case ROLLBACK_OP(UP):
        for (unsigned i = 0; i < e->count; i++) {
            if (side[i].there && side[i].running && strcmp(side[i].version, e->version) == 0)
                continue;
            memset(&side[i], 0, sizeof side[i]);
            side[i].there = side[i].running = true;
            side[i].ready_ms = w->now_ms + w->start_ms;
            snprintf(side[i].version, sizeof side[i].version, "%s", e->version);
        }
        break;
    case ROLLBACK_OP(START):
        for (int i = 0; i < MAX; i++)
            if (side[i].there && !side[i].running) {
                side[i].running = true;
                side[i].ready_ms = w->now_ms + w->start_ms;
            }
        break;
    case ROLLBACK_OP(STOP):
        for (int i = 0; i < MAX; i++)
            if (strcmp(side[i].version, e->version) == 0) {
                side[i].running = false;
                side[i].again_ms = 0;
            }
        break;
    case ROLLBACK_OP(REMOVE):
        for (int i = 0; i < MAX; i++)
            if (strcmp(side[i].version, e->version) == 0)
                memset(&side[i], 0, sizeof side[i]);
        break;
    case ROLLBACK_OP(SNAPSHOT):
        w->paused = w->has_writer;
        break;
    case ROLLBACK_OP(RESTORE):
    case ROLLBACK_OP(MIGRATE):
        if (!w->half_restored && !saved_as(w, w->data))
            broke(w, "data are replaced that nobody has saved");
        w->half_restored = true;
        break;
    case ROLLBACK_OP(RESUME_WRITER):
        w->paused = false;
        break;
    default:
        break;
    }
}

/* Its end, seen by whoever asked for it. */
static inline void finish(struct world *w, struct happens *h)
{
    struct rollback_did *did = &h->did;
    const struct rollback_effect *e = &h->e;
    *did = (struct rollback_did){.serial = e->serial, .op = e->op, .ok = true};
    if (chance(w, w->fails_percent)) {
        did->ok = false;
        did->lasting = chance(w, w->lasting_percent);
        snprintf(did->text, sizeof did->text, "no such luck");
    }
    if (e->op == ROLLBACK_OP(SNAPSHOT)) {
        did->paused = e->keep && did->ok && w->has_writer;
        w->paused = did->paused;
        if (did->ok) {
            struct rollback_lineage *l = &did->lineage;
            snprintf(l->snapshot, sizeof l->snapshot, "snapshot-%zu", save(w));
            snprintf(l->version, sizeof l->version, "%s", e->version);
            l->taken_ms = w->now_ms;
            l->verified = true;
        }
    } else if (e->op == ROLLBACK_OP(RESTORE) || e->op == ROLLBACK_OP(MIGRATE)) {
        did->paused = w->paused;
        if (did->ok) {
            unsigned i = (unsigned)strtoul(e->snapshot + strlen("snapshot-"), NULL, 10);
            if (e->op == ROLLBACK_OP(RESTORE) && i < w->n_snapshots)
                w->data = w->snapshots[i];
            else
                w->data.base += 1000;
            w->half_restored = false;
            if (e->op == ROLLBACK_OP(MIGRATE))
                save(w); /* made from what is saved: it can be made again */
        }
    }
    decide(w, &(struct rollback_event){.kind = ROLLBACK_DID, .u.did = did});
}

/* ---- decisions ---- */

static inline void carry_out(struct world *w, const struct rollback_effect *e)
{
    struct happens h = {.e = *e};
    int64_t took_ms = 5 + (w->slow_ms ? below(w, (unsigned)w->slow_ms) : 0);
    switch (e->kind) {
    case ROLLBACK_DO:
        w->acts++;
        w->last_do = *e;
        for (size_t i = 0; i < w->n_q; i++)
            if (w->q[i].kind == ACT_ENDS && w->q[i].life == w->life)
                broke(w, "two acts are in hand at once");
        judge_act(w, e);
        h.kind = ACT_APPLIES;
        later(w, e->op == ROLLBACK_OP(WEIGHT) ? took_ms % 1000 / 2 : took_ms / 2, &h);
        h.kind = ACT_ENDS;
        later(w, took_ms, &h);
        break;
    case ROLLBACK_LOOK:
        h.kind = LOOKED;
        for (size_t i = 0; i < w->n_q; i++)
            if (w->q[i].kind == LOOKED)
                w->q[i--] = w->q[--w->n_q];
        later(w, 1 + below(w, 20), &h);
        break;
    case ROLLBACK_CHECK:
        h.kind = CHECKED;
        for (size_t i = 0; i < w->n_q; i++)
            if (w->q[i].kind == CHECKED)
                return; /* they are being made */
        later(w, 1 + below(w, 40), &h);
        break;
    case ROLLBACK_WAKE:
        if (e->at_ms <= w->now_ms)
            broke(w, "wakes in the past");
        w->wake_ms = e->at_ms;
        break;
    case ROLLBACK_RAISE:
        w->raised = *e;
        if (!e->text[0])
            broke(w, "an alert without words");
        break;
    case ROLLBACK_REPLY:
        w->did_reply = true;
        w->reply = *e;
        break;
    case ROLLBACK_RECORD:
        if (!e->action || !e->strict || !e->text[0])
            broke(w, "a record without action or words");
        break;
    default:
        break;
    }
}

static inline void decide(struct world *w, const struct rollback_event *ev)
{
    static struct rollback_effect out[ROLLBACK_EFFECTS];
    size_t n = 0;
    int was = w->doc.job.phase, stage = w->doc.job.stage;
    uint64_t epoch = w->doc.epoch;
    bool busy = rollback_busy(&w->doc);
    if (ev->kind == ROLLBACK_SIGHT) {
        w->sight = *ev->u.sight;
        w->seen_ms = w->now_ms;
    }
    bool changed = rollback_decide(&w->doc, &w->rule, ev, w->now_ms, out, &n);
    if (n > ROLLBACK_EFFECTS || changed != (w->doc.epoch == epoch + 1))
        broke(w, "%zu effects, epoch %" PRIu64 " after %" PRIu64 ", changed %d", n, w->doc.epoch, epoch, changed);
    const char *wrong = rollback_broken(&w->doc);
    if (wrong)
        broke(w, "the document: %s", wrong);
    if (!changed && w->doc.job.phase != was)
        broke(w, "a change that is not stored");
    if (changed) {
        w->stores++;
        if (w->crash_in > 0 && --w->crash_in == 0) {
            if (chance(w, 50))
                w->stored = w->doc; /* stored, and nothing of it carried out */
            crash(w);
            return;
        }
        w->stored = w->doc;
    }
    const struct rollback_job *j = &w->doc.job;
    if (j->stage == ROLLBACK_STAGE(OBSERVE) && j->stage != stage && w->rule.gradual &&
        (j->phase == ROLLBACK_PHASE(SHIFT) || j->phase == ROLLBACK_PHASE(ABORTING)) &&
        abs(w->sight.side[j->from_side].share - j->weight) > 5)
        broke(w, "%d %% are observed as %d %%", w->sight.side[j->from_side].share, j->weight);
    if (w->doc.job.weight < w->most_moved)
        w->most_moved = w->doc.job.weight;
    w->holds += was != ROLLBACK_PHASE(HOLD) && w->doc.job.phase == ROLLBACK_PHASE(HOLD);
    w->done += busy && w->doc.job.phase == ROLLBACK_PHASE(DONE);
    w->aborted += busy && w->doc.job.phase == ROLLBACK_PHASE(ABORTED);
    w->refused += busy && w->doc.job.phase == ROLLBACK_PHASE(REFUSED);
    if (!rollback_busy(&w->doc))
        w->wake_ms = INT64_MAX;
    bool wakes = false;
    for (size_t i = 0; i < n; i++) {
        wakes |= out[i].kind == ROLLBACK_WAKE;
        carry_out(w, &out[i]);
    }
    if (rollback_busy(&w->doc) && !wakes)
        broke(w, "nothing will wake it");
}

/* ---- checks ---- */

static inline void check(struct world *w, bool suite)
{
    struct rollback_sample s[3];
    size_t n = 0;
    const struct rollback_job *j = &w->doc.job;
    for (size_t i = 0; i < w->rule.judge.n; i++) {
        if (w->checks[i].suite && !suite)
            continue;
        bool bad = i == 0 ? w->bad_target || j->weight <= w->bad_from_weight : i == 1 && w->bad_errors;
        s[n] = (struct rollback_sample){.check = i, .kind = ROLLBACK_PLAIN};
        s[n].data[0] = s[n].data[1] = !w->silent || i != 1;
        s[n].failed[1] = bad;
        snprintf(s[n].detail, sizeof s[n].detail, "%s", bad ? "it let the attack through" : "as it should be");
        n++;
    }
    decide(w,
           &(struct rollback_event){.kind = ROLLBACK_SAMPLES, .u.checked = {.samples = s, .n = n, .suite = suite}});
}

/* ---- running ---- */

static inline void happen(struct world *w, struct happens *h)
{
    struct rollback_sight s;
    if (h->kind == ACT_APPLIES) {
        apply(w, &h->e);
        return;
    }
    if (h->kind == TAKES_OVER) {
        take_over(w);
        return;
    }
    if (h->life != w->life || !w->alive)
        return;
    switch (h->kind) {
    case ACT_ENDS:
        finish(w, h);
        break;
    case LOOKED:
        look(w, &s);
        decide(w, &(struct rollback_event){.kind = ROLLBACK_SIGHT, .u.sight = &s});
        break;
    case CHECKED:
        check(w, h->e.suite);
        break;
    default:
        break;
    }
}

static inline void live_on(struct world *w)
{
    bool writes = false;
    for (int side = 0; side < 2; side++) {
        w->sessions[side] = w->share[side] > 0 ? 3 : w->sessions[side] > 0 ? w->sessions[side] - 1 : 0;
        for (int i = 0; i < MAX; i++) {
            struct instance *x = &w->side[side][i];
            if (x->there && !x->running && x->again_ms && w->now_ms >= x->again_ms) {
                x->running = true;
                x->again_ms = 0;
                x->ready_ms = w->now_ms + w->start_ms;
            }
            writes |= is_ready(w, x);
        }
    }
    if (writes && w->has_writer && !w->paused)
        w->data.learnt++;
    for (int side = 0; w->quiet && side < 2; side++) {
        unsigned needs = (w->doc.job.plan.instances * (unsigned)w->share[side] + 99) / 100;
        if (rollback_busy(&w->doc) && w->share[side] > 0 && count_of(w, side, NULL, true) < needs)
            broke(w, "side %d has %d %% and %u ready of %u needed", side, w->share[side],
                  count_of(w, side, NULL, true), needs);
    }
}

/* The next thing that happens; false if nothing will, or not before until_ms: then it is that time. */
static inline bool step(struct world *w, int64_t until_ms)
{
    struct happens *next = NULL;
    for (size_t i = 0; i < w->n_q; i++)
        if (!next || w->q[i].at_ms < next->at_ms)
            next = &w->q[i];
    int64_t at_ms = next ? next->at_ms : INT64_MAX;
    bool tick = !next || (w->alive && w->wake_ms < at_ms);
    if (tick)
        at_ms = w->alive ? w->wake_ms : INT64_MAX;
    if (at_ms > until_ms || w->broken[0]) {
        if (w->now_ms < until_ms)
            w->now_ms = until_ms;
        return false;
    }
    if (at_ms > w->now_ms)
        w->now_ms = at_ms;
    live_on(w);
    if (tick) {
        w->wake_ms = INT64_MAX;
        decide(w, &(struct rollback_event){.kind = ROLLBACK_TICK});
    } else {
        struct happens h = *next;
        *next = w->q[--w->n_q];
        happen(w, &h);
    }
    return true;
}

static inline void run(struct world *w, int64_t for_ms)
{
    int64_t until_ms = w->now_ms + for_ms;
    while (step(w, until_ms))
        ;
}

/* ---- orders ---- */

static inline int order(struct world *w, enum rollback_event_kind kind, const char *job, bool force, bool emergency)
{
    struct rollback_event ev = {.kind = kind,
                                .u.order = {.by = "ann",
                                            .reason = "it lets attacks through",
                                            .job = job,
                                            .to = "",
                                            .snapshot = "",
                                            .force = force,
                                            .emergency = emergency}};
    w->did_reply = false;
    decide(w, &ev);
    if (!w->did_reply && w->alive)
        broke(w, "an order without an answer");
    return w->reply.status;
}

static inline struct rollback_version *add_version(struct rollback_doc *d, const char *id, const char *name,
                                                   int state, int64_t at_ms)
{
    struct rollback_version *v = &d->versions[d->n_versions++];
    memset(v, 0, sizeof *v);
    snprintf(v->id, sizeof v->id, "%s", id);
    snprintf(v->name, sizeof v->name, "%s", name);
    v->state = state;
    v->recorded_ms = at_ms;
    v->verified_ms = state == VERSION_STATE(VERIFIED) ? at_ms : 0;
    return v;
}

/* v2 runs with all the traffic; v1 ran before. */
static inline void world_init(struct world *w, uint64_t seed, unsigned instances)
{
    memset(w, 0, sizeof *w);
    w->rng = seed;
    w->now_ms = T0;
    w->life = 1;
    w->alive = true;
    w->wake_ms = INT64_MAX;
    w->start_ms = 1500;
    w->bad_from_weight = -1;
    w->counts_sessions = true;
    w->has_writer = true;
    w->checks[0] = (struct rollback_check_rule){.name = "selftest", .check_class = ROLLBACK_SECURITY, .most = -1};
    w->checks[1] =
        (struct rollback_check_rule){.name = "errors", .check_class = ROLLBACK_ERRORS, .limit = 4, .most = -1};
    w->checks[2] =
        (struct rollback_check_rule){.name = "suite", .check_class = ROLLBACK_SECURITY, .suite = true, .most = -1};
    w->rule = (struct rollback_rule){.n_steps = 5,
                                     .weight = {100, 50, 25, 10, 0},
                                     .step_ms = 5000,
                                     .check_every_ms = 1000,
                                     .capacity_ms = 30000,
                                     .drain_ms = 3000,
                                     .watch_ms = 10000,
                                     .settle_ms = 1000,
                                     .op_ms = 60000,
                                     .keep = 3,
                                     .floor = "",
                                     .gradual = true,
                                     .has_data = true,
                                     .judge = {3, NULL}};
    w->rule.judge.checks = w->checks;
    rollback_doc_init(&w->doc, "sentinel");
    w->doc.epoch = 1;
    add_version(&w->doc, V1, "v1", VERSION_STATE(VERIFIED), T0 - 2000000);
    add_version(&w->doc, V2, "v2", VERSION_STATE(VERIFIED), T0 - 1000000);
    snprintf(w->doc.current, sizeof w->doc.current, V2);
    w->stored = w->doc;
    put(w, 0, V2, instances);
    w->share[0] = 100;
    w->data = (struct data){1, 0};
    w->most_moved = 100;
}

/* What must be so when a job is over. */
static inline void check_end(struct world *w, unsigned instances)
{
    const struct rollback_job *j = &w->doc.job;
    int from = w->rule.goes_home && j->phase == ROLLBACK_PHASE(DONE) ? 1 : j->from_side;
    int lives = w->rule.gradual ? (j->phase == ROLLBACK_PHASE(DONE) ? !from : from) : j->from_side;
    const char *version = j->phase == ROLLBACK_PHASE(DONE) ? j->to : j->from;
    if (count_of(w, lives, version, false) != instances || count_of(w, lives, NULL, false) != instances)
        broke(w, "%u instances of %s stand at the end, not %u", count_of(w, lives, version, false), version,
              instances);
    if (count_of(w, !lives, NULL, false) != 0)
        broke(w, "%u instances are left on the other side", count_of(w, !lives, NULL, false));
    if (w->rule.gradual && w->share[lives] != 100 && w->others_ms < w->seen_ms)
        broke(w, "%d %% of the traffic at the end", w->share[lives]);
    if (w->paused)
        broke(w, "the writer is left paused");
    if (strcmp(w->doc.current, version) != 0)
        broke(w, "current is %s", w->doc.current);
    if (w->half_restored)
        broke(w, "data are half replaced");
}

#endif
