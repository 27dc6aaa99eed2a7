/* rollback_event.c - one deployment's events: they wait in a queue, are decided one at a time, and what strict records come with a decision are
 * durable before its document is written.
 *
 * After a gap in time (tilt) nothing is begun: the world is looked at when it is over. Who wants to stop something may. */
#include "common/log.h"
#include "common/metric.h"
#include "rollback/rollback_shell.h"
#include <assert.h>
#include <stdlib.h>
#include <string.h>

METRIC_DEFINE(decided, METRIC_COUNTER, "redoubt_rollback_decisions_total", "Events decided upon.");
METRIC_DEFINE(broken_own, METRIC_COUNTER, "redoubt_rollback_broken_total",
              "Decisions that would have broken the document: bugs; they are not taken.");

#define QUEUE_MAX 64 /* events of one deployment that wait while Redis is slow */

#define UNAVAILABLE REDOUBT__V1__COMMAND_STATUS__COMMAND_STATUS_UNAVAILABLE

/* ---- events that wait ---- */

void rollback_queued_free(struct queued *q)
{
    if (q && q->kind == ROLLBACK_SAMPLES)
        free(q->u.checked.samples);
    if (q && q->kind == ROLLBACK_KEPT)
        free(q->u.kept.finding);
    free(q);
}

void deployment_refuse(struct deployment *d, struct queued *q, const char *why)
{
    if (q->reply[0])
        service_reply(d->room->s, q->reply, UNAVAILABLE, d->doc ? d->doc->epoch : 0, "%s", why);
    rollback_queued_free(q);
}

static void put_first(struct deployment *d, struct queued *q)
{
    q->next = d->queue;
    d->queue = q;
    if (!q->next)
        d->queue_end = &q->next;
}

static struct queued *pop(struct deployment *d)
{
    struct queued *q = d->queue;
    d->queue = q->next;
    if (!d->queue)
        d->queue_end = &d->queue;
    q->next = NULL;
    return q;
}

void deployment_refuse_all(struct deployment *d, const char *why)
{
    while (d->queue)
        deployment_refuse(d, pop(d), why);
}

void deployment_drop_all(struct deployment *d)
{
    while (d->queue)
        rollback_queued_free(pop(d));
}

void deployment_event(struct deployment *d, struct queued *q)
{
    size_t n = 0;
    for (const struct queued *x = d->queue; x; x = x->next)
        n++;
    q->next = NULL;
    if ((n >= QUEUE_MAX && q->kind != ROLLBACK_DID) || !deployment_decided(d)) {
        char why[160];
        /* What the world says is asked again; an operator is told. */
        snprintf(why, sizeof why, "the state of %s is being read or written; try again", d->name);
        deployment_refuse(d, q, why);
        return;
    }
    *d->queue_end = q;
    d->queue_end = &q->next;
    deployment_run(d);
}

static struct queued *plain(enum rollback_event_kind kind)
{
    struct queued *q = calloc(1, sizeof *q);
    if (!q)
        abort(); /* a deployment that is not looked at again stands still for ever */
    q->kind = kind;
    return q;
}

void deployment_taken(struct deployment *d)
{
    d->turned++;
    put_first(d, plain(ROLLBACK_TAKEN));
    deployment_run(d);
}

void deployment_tick(struct deployment *d)
{
    d->tick = true;
    deployment_run(d);
}

/* ---- a decision ---- */

void deployment_drop_decision(struct deployment *d)
{
    free(d->next);
    d->next = NULL;
    rollback_bytes_free(&d->next_packed);
    free(d->held);
    d->held = NULL;
    d->n_held = 0;
    d->records = 0;
    d->unrecorded = false;
}

static void fill(const struct deployment *d, struct rollback_event *ev, const struct queued *q)
{
    *ev = (struct rollback_event){.kind = q->kind};
    switch (q->kind) {
    case ROLLBACK_START:
    case ROLLBACK_HOLD_IT:
    case ROLLBACK_RESUME:
    case ROLLBACK_ABORT:
    case ROLLBACK_EMERGENCY:
        ev->u.order = (struct rollback_order){.by = q->u.order.by,
                                              .reason = q->u.order.reason,
                                              .job = q->u.order.job,
                                              .to = q->u.order.to,
                                              .emergency = q->u.order.emergency,
                                              .force = q->u.order.force,
                                              .tainted = q->u.order.tainted,
                                              .snapshot = q->u.order.snapshot,
                                              .tainted_since_ms = q->u.order.tainted_since_ms};
        break;
    case ROLLBACK_SIGHT:
        ev->able = deployment_may_steer(d);
        ev->u.sight = &q->u.sight;
        break;
    case ROLLBACK_DID:
        ev->u.did = &q->u.did;
        break;
    case ROLLBACK_SAMPLES:
        ev->u.checked.samples = q->u.checked.samples;
        ev->u.checked.n = q->u.checked.n;
        ev->u.checked.suite = q->u.checked.suite;
        break;
    case ROLLBACK_SEEN:
        ev->able = deployment_may_steer(d);
        ev->u.seen.version = &q->u.seen.version;
        ev->u.seen.healthy = q->u.seen.healthy;
        ev->u.seen.checks_passed = q->u.seen.passed;
        ev->u.seen.worse = q->u.seen.worse;
        ev->u.seen.why = q->u.seen.why;
        ev->u.seen.sight = &q->u.seen.sight;
        break;
    case ROLLBACK_KEPT:
        ev->u.kept.finding = q->u.kept.finding;
        ev->u.kept.n = q->u.kept.n;
        break;
    case ROLLBACK_TAKEN:
    case ROLLBACK_TICK:
        break;
    }
}

static bool waits_for_tilt(struct deployment *d, struct queued *q)
{
    if (!service_tilted(d->room->s))
        return false;
    switch (q->kind) {
    case ROLLBACK_HOLD_IT:
    case ROLLBACK_ABORT:
    case ROLLBACK_DID:
        return false;
    default:
        deployment_refuse(
            d, q, "this replica was suspended or its clock has jumped: it begins nothing for a moment; try again");
        return true;
    }
}

void deployment_finish(struct deployment *d)
{
    struct queued *q = d->deciding;
    struct rollback_effect *effects = d->held;
    size_t n = d->n_held;
    d->deciding = NULL;
    d->held = NULL;
    d->n_held = 0;
    bool was = d->running; /* what is carried out may end at once: its event waits its turn */
    d->running = true;
    uint64_t generation = d->generation;
    deployment_carry_out(d, q, effects, n);
    free(effects);
    rollback_queued_free(q);
    if (d->generation == generation)
        d->running = was;
}

static void recorded_all(struct deployment *d)
{
    if (d->next) {
        deployment_write(d);
    } else {
        deployment_move(d, HERE);
        deployment_finish(d);
        deployment_run(d);
    }
}

void deployment_recorded(struct deployment *d, bool durable, const char *why)
{
    if (d->place != RECORDING || d->records == 0)
        return;
    if (!durable) {
        d->unrecorded = true;
        snprintf(d->unrecorded_why, sizeof d->unrecorded_why, "%s", why);
    }
    if (--d->records == 0)
        recorded_all(d);
}

static void decide(struct deployment *d, struct queued *q)
{
    struct rollback_effect effects[ROLLBACK_EFFECTS];
    struct rollback_event ev;
    size_t n = 0;
    struct rollback_doc *next = malloc(sizeof *next);
    if (!next)
        abort();
    *next = *d->doc;
    fill(d, &ev, q);
    bool changed = rollback_decide(next, &d->rule, &ev, clock_shared_ms(), effects, &n);
    assert(n <= ROLLBACK_EFFECTS);
    metric_add(&decided, 1);
    if (changed && next->epoch == d->doc->epoch)
        next->epoch++; /* every document is announced once, under its epoch */
    const char *broken = changed ? rollback_broken(next) : NULL;
    if (broken) {
        metric_add(&broken_own, 1);
        log_error("a decision would break the document; not taken", F_STR("deployment", d->name),
                  F_INT("event", q->kind), F_STR("why", broken));
        free(next);
        deployment_refuse(d, q, "this cannot be done: it would break the document (a bug; the log has more)");
        return;
    }
    d->deciding = q;
    d->unrecorded = false;
    d->held = n > 0 ? malloc(n * sizeof *d->held) : NULL;
    if (n > 0 && !d->held)
        abort();
    if (n > 0)
        memcpy(d->held, effects, n * sizeof *effects);
    d->n_held = n;
    if (changed)
        d->next = next;
    bool acts = false;
    for (size_t i = 0; i < n; i++)
        acts |= effects[i].kind == ROLLBACK_DO || effects[i].kind == ROLLBACK_STEER;
    for (size_t i = 0; i < n; i++)
        d->records += effects[i].kind == ROLLBACK_RECORD && effects[i].strict;
    deployment_move(d, RECORDING);
    for (size_t i = 0; i < n; i++)
        if (effects[i].kind == ROLLBACK_RECORD && effects[i].strict)
            deployment_audit(d, next, &effects[i], q, acts);
    if (!changed) { /* what is remembered without being stored */
        free(d->doc);
        d->doc = next;
    }
    if (d->records == 0)
        recorded_all(d);
}

/* What was being decided is decided anew, on what is read. */
void deployment_decide_again(struct deployment *d)
{
    deployment_drop_decision(d);
    if (d->deciding && d->deciding->kind != ROLLBACK_TICK)
        put_first(d, d->deciding);
    else
        rollback_queued_free(d->deciding);
    d->deciding = NULL;
}

void deployment_run(struct deployment *d)
{
    if (d->running)
        return;
    d->running = true;
    uint64_t generation = d->generation;
    while (d->place == HERE && !d->room->s->draining) {
        if (d->restored) {
            deployment_move(d, STORING);
            deployment_put(d);
        } else if (d->queue) {
            struct queued *q = pop(d);
            if (!waits_for_tilt(d, q))
                decide(d, q);
        } else if (d->tick) {
            d->tick = false;
            if (!service_tilted(d->room->s))
                decide(d, plain(ROLLBACK_TICK));
        } else {
            break;
        }
    }
    if (d->generation == generation)
        d->running = false;
}
