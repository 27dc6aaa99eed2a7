/* rollback_state.c - one deployment's document: loaded, decided upon, stored, then carried out.
 *
 * The happy path: an event is decided on a copy; its strict records are made durable; the copy is written by compare-and-set; when it has won,
 * it is the document, it is announced, and the effects follow. What came meanwhile waits in the queue.
 *
 * Lost: the document is read again, the world is looked at, and the same event is decided anew. Fenced: another replica acts, so everything is
 * dropped. No answer from the store: the same write is repeated until there is one, or until the lease is gone; nothing is carried out before.
 *
 * An emptied or damaged Redis is filled from what this process knows, or from the last announcement on the stream, whichever has the higher
 * epoch; only if the stream was replayed and knows nothing does a deployment start anew. */
#include "common/clock.h"
#include "common/log.h"
#include "common/metric.h"
#include "rollback/rollback_shell.h"
#include <assert.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

METRIC_DEFINE(decided, METRIC_COUNTER, "redoubt_rollback_decisions_total", "Events decided upon.");
METRIC_DEFINE(races, METRIC_COUNTER, "redoubt_rollback_races_total",
              "Writes that somebody else was ahead of, or whose answer never came.");
METRIC_DEFINE(repaired, METRIC_COUNTER, "redoubt_rollback_repaired_total",
              "Documents that Redis had lost or damaged, filled from memory or stream.");
METRIC_DEFINE(broken_own, METRIC_COUNTER, "redoubt_rollback_broken_total",
              "Decisions that would have broken the document: bugs; they are not taken.");

#define TROUBLE_EVERY_MS 10000
#define AGAIN_MS         200 /* a write without an answer is repeated */
#define QUEUE_MAX        64  /* events of one deployment that wait while Redis is slow */

#define UNAVAILABLE REDOUBT__V1__COMMAND_STATUS__COMMAND_STATUS_UNAVAILABLE

const struct sm_table rollback_place_sm = {
    .name = "deployment's document",
    .n = PLACES,
    .state_names = (const char *const[]){"away", "loading", "here", "recording", "storing", "hurt"},
    .allowed = (const uint32_t[]){
        [AWAY] = SM_BIT(LOADING),
        [LOADING] = SM_BIT(HERE) | SM_BIT(HURT) | SM_BIT(AWAY),
        [HERE] = SM_BIT(RECORDING) | SM_BIT(STORING) | SM_BIT(LOADING) | SM_BIT(AWAY),
        [RECORDING] = SM_BIT(HERE) | SM_BIT(STORING) | SM_BIT(LOADING) | SM_BIT(HURT) | SM_BIT(AWAY),
        [STORING] = SM_BIT(HERE) | SM_BIT(LOADING) | SM_BIT(HURT) | SM_BIT(AWAY),
        [HURT] = SM_BIT(LOADING) | SM_BIT(AWAY),
    }};

static void move(struct deployment *d, int to)
{
    sm_move(&rollback_place_sm, &d->place, to);
}

struct ticket *rollback_ticket(struct deployment *d, uint64_t n)
{
    struct ticket *t = calloc(1, sizeof *t);
    if (!t)
        abort(); /* the way back of a callback that is promised */
    t->s = d->room->s;
    t->generation = d->generation;
    t->n = n;
    memcpy(t->deployment, d->name, sizeof t->deployment);
    return t;
}

struct deployment *rollback_ticket_back(struct ticket *t, uint64_t *ret_n)
{
    struct deployment *d = t->s->state ? rollback_room_find(t->s->state, t->deployment) : NULL;
    if (d && d->generation != t->generation)
        d = NULL;
    if (ret_n)
        *ret_n = t->n;
    free(t);
    return d;
}

/* Redis did something else than what was asked. Said once for all deployments in a while. */
static void trouble(struct deployment *d, const char *what, const char *why, const char *next)
{
    uint64_t held;
    if (log_allowed(&d->room->trouble, clock_mono_ms(), TROUBLE_EVERY_MS, &held))
        log_warn(what, F_STR("deployment", d->name), F_STR("why", why), F_INT("held_back", held),
                 F_STR("next", next));
}

bool deployment_decided(const struct deployment *d)
{
    return d->place == HERE || d->place == RECORDING || d->place == STORING;
}

/* ---- events that wait ---- */

void rollback_queued_free(struct queued *q)
{
    if (q && q->kind == ROLLBACK_SAMPLES)
        free(q->u.checked.samples);
    free(q);
}

static void refuse(struct deployment *d, struct queued *q, const char *why)
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

void deployment_event(struct deployment *d, struct queued *q)
{
    size_t n = 0;
    for (const struct queued *x = d->queue; x; x = x->next)
        n++;
    q->next = NULL;
    if (n >= QUEUE_MAX || !deployment_decided(d)) {
        char why[160];
        /* What the world says is asked again; an operator is told. */
        snprintf(why, sizeof why, "the state of %s is being read or written; try again", d->name);
        refuse(d, q, why);
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

static void drop_decision(struct deployment *d)
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

static void fill(struct rollback_event *ev, const struct queued *q)
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
        ev->u.seen.version = &q->u.seen.version;
        ev->u.seen.healthy = q->u.seen.healthy;
        ev->u.seen.checks_passed = q->u.seen.passed;
        ev->u.seen.worse = q->u.seen.worse;
        ev->u.seen.why = q->u.seen.why;
        ev->u.seen.sight = &q->u.seen.sight;
        break;
    case ROLLBACK_TAKEN:
    case ROLLBACK_TICK:
        break;
    }
}

/* After a gap in time nothing is begun: the world is looked at when it is over. Who wants to stop something may. */
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
        refuse(d, q, "this replica was suspended or its clock has jumped: it begins nothing for a moment; try again");
        return true;
    }
}

static void write_next(struct deployment *d);

static void finish(struct deployment *d)
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
        write_next(d);
    } else {
        move(d, HERE);
        finish(d);
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
    fill(&ev, q);
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
        refuse(d, q, "this cannot be done: it would break the document (a bug; the log has more)");
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
        acts |= effects[i].kind == ROLLBACK_DO;
    for (size_t i = 0; i < n; i++)
        d->records += effects[i].kind == ROLLBACK_RECORD && effects[i].strict;
    move(d, RECORDING);
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

/* ---- a write ---- */

static void loaded(struct deployment *d, enum store_status st, const struct store_doc *doc);
static void put(struct deployment *d);

static void on_marked(void *ctx, enum store_status st, const redisReply *reply)
{
    (void)ctx; /* if it did not work, the next holder announces once more under the same id */
    (void)st;
    (void)reply;
}

static void won(struct deployment *d)
{
    struct rollback_doc *was = d->doc;
    d->rev++;
    d->restored = false;
    if (d->next) {
        d->doc = d->next;
        d->next = NULL;
        rollback_bytes_free(&d->packed);
        d->packed = d->next_packed;
        d->next_packed = (struct rollback_bytes){0};
        d->pending = true;
    }
    move(d, HERE);
    deployment_announce(d);
    if (was && was != d->doc)
        deployment_say_change(d, was, d->doc);
    if (was != d->doc)
        free(was);
    if (d->deciding)
        finish(d);
    if (d->place != HERE)
        return;
    cmd_rollback_progress(d);
    records_prune(d);
    deployment_settle_settings(d);
    deployment_run(d);
}

/* What was being decided is decided anew, on what is read. */
static void decide_again(struct deployment *d)
{
    drop_decision(d);
    if (d->deciding && d->deciding->kind != ROLLBACK_TICK)
        put_first(d, d->deciding);
    else
        rollback_queued_free(d->deciding);
    d->deciding = NULL;
}

static void on_put(void *ctx, enum store_status st, enum store_cas r, const struct store_doc *current)
{
    uint64_t op;
    struct deployment *d = rollback_ticket_back(ctx, &op);
    if (!d || d->op != op || d->place != STORING)
        return;
    if (st == STORE_OK && r == STORE_CAS_WON) {
        won(d);
        return;
    }
    metric_add(&races, 1);
    if (st == STORE_OK && r == STORE_CAS_LOST) {
        decide_again(d);
        move(d, LOADING);
        loaded(d, STORE_OK, current);
    } else if (st == STORE_OK) {
        trouble(d, "our lease is older than the writer before us", "another replica acts for it", "given up");
        deployment_forget(d);
    } else if (st == STORE_ERROR) {
        trouble(d, "document not written", current->error[0] ? current->error : store_status_text(st), "read again");
        decide_again(d);
        move(d, HURT);
    } else {
        trouble(d, "document not written", store_status_text(st), "written again until there is an answer");
        loop_timer_start(&d->again, AGAIN_MS, 0);
    }
}

static void put(struct deployment *d)
{
    uint64_t fence = deployment_fence(d);
    const struct rollback_bytes *b = d->next ? &d->next_packed : &d->packed;
    if (fence == 0) { /* the lease is gone: on_lost is about to come, or we are it */
        decide_again(d);
        move(d, HURT);
        return;
    }
    const struct rollback_doc *doc = d->next ? d->next : d->doc;
    char epoch[24];
    snprintf(epoch, sizeof epoch, "%" PRIu64, doc->epoch);
    const char *plain_fields[] = {"epoch", epoch, "phase",
                                  wire_enum_name(&redoubt__v1__rollback_phase__descriptor, doc->job.phase)};
    d->op++;
    store_doc_put_fields(d->room->s->store, d->key, d->rev, fence, true, b->data, b->len, 2, plain_fields, on_put,
                         rollback_ticket(d, d->op));
}

void rollback_put_again(void *ctx)
{
    struct deployment *d = ctx;
    if (d->place == STORING)
        put(d);
}

static void write_next(struct deployment *d)
{
    struct err e;
    if (d->next) {
        d->next_packed = rollback_doc_pack(d->next, &d->rule, &e);
        if (!d->next_packed.data) {
            metric_add(&broken_own, 1);
            log_error("own document is not valid; the decision is not taken", F_STR("deployment", d->name),
                      F_STR("why", e.text));
            struct queued *q = d->deciding;
            d->deciding = NULL;
            drop_decision(d);
            move(d, HERE);
            refuse(d, q, "this cannot be done: the document would not be valid (a bug; the log has more)");
            return;
        }
    }
    move(d, STORING);
    put(d);
}

void deployment_run(struct deployment *d)
{
    if (d->running)
        return;
    d->running = true;
    uint64_t generation = d->generation;
    while (d->place == HERE) {
        if (d->restored) {
            move(d, STORING);
            put(d);
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

/* ---- a read ---- */

static void begin(struct deployment *d)
{
    struct err e;
    move(d, HERE);
    if (!d->packed.data) {
        d->packed = rollback_doc_pack(d->doc, &d->rule, &e);
        if (!d->packed.data) { /* it was unpacked, or initialised, a moment ago */
            log_error("own document is not valid", F_STR("deployment", d->name), F_STR("why", e.text));
            move(d, LOADING);
            move(d, HURT);
            return;
        }
    }
    deployment_open(d);
    deployment_settle_settings(d);
    if (d->place != HERE)
        return;
    deployment_keep_all(d);
    deployment_alert_again(d);
    if (d->pending && !d->restored && d->announcing == 0)
        deployment_announce(d);
    loop_timer_start(&d->observe, 0, 0);
    deployment_taken(d);
}

static struct rollback_doc *doc_new(void)
{
    struct rollback_doc *doc = calloc(1, sizeof *doc);
    if (!doc)
        abort();
    return doc;
}

static void take_doc(struct deployment *d, struct rollback_doc *doc)
{
    free(d->doc);
    d->doc = doc;
    rollback_bytes_free(&d->packed);
}

/* Redis has no document, or none that can be used: the best that is known elsewhere becomes the document again. */
static void restore(struct deployment *d, uint64_t rev, const char *why)
{
    struct err e = {""};
    struct rollback_doc *streamed = d->seen.data ? doc_new() : NULL;
    if (streamed && rollback_doc_unpack(streamed, d->name, d->seen.data, d->seen.len, &e)) {
        log_error("the last announcement on the stream cannot be used", F_STR("deployment", d->name),
                  F_STR("why", e.text));
        free(streamed);
        streamed = NULL;
    }
    d->rev = rev;
    d->restored = true;
    if (d->doc && (!streamed || d->doc->epoch >= streamed->epoch)) {
        free(streamed);
    } else if (streamed) {
        take_doc(d, streamed);
    } else if (!d->room->ever_synced) {
        move(d, HURT); /* the stream may know more: read again when it was replayed */
        return;
    } else {
        if (rev > 0)
            log_error("the document is damaged and nothing else is known: starting anew",
                      F_STR("deployment", d->name), F_STR("why", why));
        struct rollback_doc *doc = doc_new();
        rollback_doc_init(doc, d->name);
        if (doc->epoch == 0)
            doc->epoch = 1;
        take_doc(d, doc);
        begin(d);
        return;
    }
    metric_add(&repaired, 1);
    log_warn("document restored", F_STR("deployment", d->name), F_INT("epoch", d->doc->epoch), F_STR("why", why));
    begin(d);
}

static void loaded(struct deployment *d, enum store_status st, const struct store_doc *doc)
{
    if (st != STORE_OK && st != STORE_ERROR) {
        move(d, HURT);
        trouble(d, "document not read", store_status_text(st), "read again");
        return;
    }
    if (st == STORE_ERROR) {
        move(d, HURT);
        trouble(d, "document not read", doc->error,
                "read again; a key that holds something else must be removed by hand");
        return;
    }
    struct err e = {"it is gone"};
    struct rollback_doc *x = doc_new();
    bool good = doc->found && rollback_doc_unpack(x, d->name, doc->data, doc->len, &e) == 0;
    if (!good || d->seen_epoch > x->epoch) {
        free(x);
        restore(d, doc->rev, good ? "the stream has a later epoch" : e.text);
        return;
    }
    take_doc(d, x);
    rollback_bytes_copy(&d->packed, doc->data, doc->len);
    d->rev = doc->rev;
    d->restored = false;
    d->pending = doc->pending;
    begin(d);
}

static void on_got(void *ctx, enum store_status st, const struct store_doc *doc)
{
    uint64_t op;
    struct deployment *d = rollback_ticket_back(ctx, &op);
    if (d && d->op == op && d->place == LOADING)
        loaded(d, st, doc);
}

void deployment_load(struct deployment *d)
{
    if (d->place == LOADING || d->place == RECORDING || d->place == STORING)
        return;
    move(d, LOADING);
    d->op++;
    store_doc_get(d->room->s->store, d->key, on_got, rollback_ticket(d, d->op));
}

void deployment_forget(struct deployment *d)
{
    if (d->place == AWAY)
        return;
    char why[200];
    snprintf(why, sizeof why, "this replica does not act for %s any more; look at its state and try again", d->name);
    d->generation++;
    d->op++;
    d->running = false;
    deployment_close(d);
    drop_decision(d);
    move(d, AWAY);
    loop_timer_stop(&d->wake);
    loop_timer_stop(&d->observe);
    loop_timer_stop(&d->again);
    d->wake_at_ms = INT64_MAX;
    d->announcing = 0;
    d->tick = false;
    d->n_unkept = 0;
    cmd_rollback_not_started(d, why);
    if (d->deciding)
        refuse(d, d->deciding, why);
    d->deciding = NULL;
    while (d->queue)
        refuse(d, pop(d), why);
}

static void free_closed(void *ctx)
{
    free(ctx);
}

static void close_starting(void *ctx)
{
    struct deployment *d = ctx;
    loop_timer_close(&d->starting_limit, free_closed);
}

static void close_again(void *ctx)
{
    struct deployment *d = ctx;
    loop_timer_close(&d->again, close_starting);
}

static void close_observe(void *ctx)
{
    struct deployment *d = ctx;
    loop_timer_close(&d->observe, close_again);
}

void deployment_free(struct deployment *d)
{
    deployment_settings_free(d);
    drop_decision(d);
    rollback_queued_free(d->deciding);
    while (d->queue)
        rollback_queued_free(pop(d));
    free(d->doc);
    rollback_bytes_free(&d->packed);
    rollback_bytes_free(&d->seen);
    records_free(d);
    free(d->unkept);
    if (d->timers)
        loop_timer_close(&d->wake, close_observe);
    else
        free(d);
}

void deployment_marked(struct deployment *d)
{
    d->pending = false;
    if (d->place == HERE)
        store_doc_announced(d->room->s->store, d->key, d->rev, on_marked, NULL);
    /* While it is written the mark would be for a revision that is history: it follows the write, which is announced itself. */
}
