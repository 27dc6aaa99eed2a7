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
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

METRIC_DEFINE(races, METRIC_COUNTER, "redoubt_rollback_races_total",
              "Writes that somebody else was ahead of, or whose answer never came.");
METRIC_DEFINE(repaired, METRIC_COUNTER, "redoubt_rollback_repaired_total",
              "Documents that Redis had lost or damaged, filled from memory or stream.");
METRIC_DEFINE(invalid_own, METRIC_COUNTER, "redoubt_rollback_invalid_total",
              "Own documents that could not be packed: bugs; the decision is not taken.");

#define TROUBLE_EVERY_MS 10000
#define AGAIN_MS         200 /* a write without an answer is repeated */

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

void deployment_move(struct deployment *d, int to)
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

/* ---- a write ---- */

static void loaded(struct deployment *d, enum store_status st, const struct store_doc *doc);

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
    d->restored = d->fresh = false;
    if (d->next) {
        d->doc = d->next;
        d->next = NULL;
        rollback_bytes_free(&d->packed);
        d->packed = d->next_packed;
        d->next_packed = (struct rollback_bytes){0};
        d->pending = true;
    }
    deployment_move(d, HERE);
    deployment_announce(d);
    if (was && was != d->doc)
        deployment_say_change(d, was, d->doc);
    if (was != d->doc)
        free(was);
    if (d->deciding)
        deployment_finish(d);
    if (d->place != HERE)
        return;
    cmd_rollback_progress(d);
    records_prune(d);
    deployment_settle_settings(d);
    deployment_run(d);
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
        deployment_decide_again(d);
        deployment_move(d, LOADING);
        loaded(d, STORE_OK, current);
    } else if (st == STORE_OK) {
        trouble(d, "our lease is older than the writer before us", "another replica acts for it", "given up");
        deployment_forget(d);
    } else if (st == STORE_ERROR) {
        trouble(d, "document not written", current->error[0] ? current->error : store_status_text(st), "read again");
        deployment_decide_again(d);
        deployment_move(d, HURT);
    } else {
        trouble(d, "document not written", store_status_text(st), "written again until there is an answer");
        loop_timer_start(&d->again, AGAIN_MS, 0);
    }
}

void deployment_put(struct deployment *d)
{
    uint64_t fence = deployment_fence(d);
    const struct rollback_bytes *b = d->next ? &d->next_packed : &d->packed;
    if (fence == 0) { /* the lease is gone: on_lost is about to come, or we are it */
        deployment_decide_again(d);
        deployment_move(d, HURT);
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
        deployment_put(d);
}

void deployment_write(struct deployment *d)
{
    struct err e;
    if (d->next) {
        d->next_packed = rollback_doc_pack(d->next, &d->rule, &e);
        if (!d->next_packed.data) {
            metric_add(&invalid_own, 1);
            log_error("own document is not valid; the decision is not taken", F_STR("deployment", d->name),
                      F_STR("why", e.text));
            struct queued *q = d->deciding;
            d->deciding = NULL;
            deployment_drop_decision(d);
            deployment_move(d, HERE);
            deployment_refuse(d, q, "this cannot be done: the document would not be valid (a bug; the log has more)");
            return;
        }
    }
    deployment_move(d, STORING);
    deployment_put(d);
}

/* ---- a read ---- */

static void begin(struct deployment *d)
{
    struct err e;
    deployment_move(d, HERE);
    if (!d->packed.data) {
        d->packed = rollback_doc_pack(d->doc, &d->rule, &e);
        if (!d->packed.data) { /* it was unpacked, or initialised, a moment ago */
            log_error("own document is not valid", F_STR("deployment", d->name), F_STR("why", e.text));
            deployment_move(d, LOADING);
            deployment_move(d, HURT);
            return;
        }
    }
    deployment_open(d);
    deployment_settle_settings(d);
    if (d->place != HERE)
        return;
    d->raised = d->fresh ? 0 : ~0U; /* by whoever acted before: it is said once that it is over */
    if (d->doc->job.holds == 0)
        d->raised &= ~(1U << ROLLBACK_NOTICE_HOLD);
    deployment_keep_all(d);
    deployment_alert_again(d);
    if (d->pending && !d->restored && d->announcing == 0)
        deployment_announce(d);
    pace_start(d);
    loop_timer_start(&d->glance, 0, 0);
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
        if (d->fresh) { /* nothing was lost: it had not been stored yet */
            begin(d);
            return;
        }
    } else if (streamed) {
        take_doc(d, streamed);
        d->fresh = false;
    } else if (!d->room->ever_synced) {
        deployment_move(d, HURT); /* the stream may know more: read again when it was replayed */
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
        d->fresh = true;
        begin(d);
        return;
    }
    metric_add(&repaired, 1);
    log_debug("document restored", F_STR("deployment", d->name), F_INT("epoch", d->doc->epoch), F_STR("why", why));
    if (d->room->restored++ == 0) {
        snprintf(d->room->restored_first, sizeof d->room->restored_first, "%s", d->name);
        snprintf(d->room->restored_why, sizeof d->room->restored_why, "%s", why);
    }
    begin(d);
}

static void loaded(struct deployment *d, enum store_status st, const struct store_doc *doc)
{
    if (st != STORE_OK && st != STORE_ERROR) {
        deployment_move(d, HURT);
        trouble(d, "document not read", store_status_text(st), "read again");
        return;
    }
    if (st == STORE_ERROR) {
        deployment_move(d, HURT);
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
    d->restored = d->fresh = false;
    d->pending = doc->pending;
    begin(d);
}

static void on_got(void *ctx, enum store_status st, const struct store_doc *doc)
{
    uint64_t op;
    struct service *s = ((struct ticket *)ctx)->s;
    struct deployment *d = rollback_ticket_back(ctx, &op);
    if (d && d->op == op && d->place == LOADING)
        loaded(d, st, doc);
    if (s->state)
        pace_loaded(s->state);
}

void deployment_load(struct deployment *d)
{
    if (d->place == LOADING || d->place == RECORDING || d->place == STORING)
        return;
    deployment_move(d, LOADING);
    pace_load(d);
}

void deployment_read(struct deployment *d)
{
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
    d->running = d->stopping = false;
    pace_forget(d);
    deployment_close(d);
    deployment_drop_decision(d);
    deployment_move(d, AWAY);
    loop_timer_stop(&d->wake);
    loop_timer_stop(&d->observe);
    loop_timer_stop(&d->glance);
    loop_timer_stop(&d->again);
    d->wake_at_ms = INT64_MAX;
    d->announcing = 0;
    d->tick = false;
    d->n_unkept = 0;
    cmd_rollback_not_started(d, why);
    if (d->deciding)
        deployment_refuse(d, d->deciding, why);
    d->deciding = NULL;
    deployment_refuse_all(d, why);
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

static void close_glance(void *ctx)
{
    struct deployment *d = ctx;
    loop_timer_close(&d->glance, close_again);
}

static void close_observe(void *ctx)
{
    struct deployment *d = ctx;
    loop_timer_close(&d->observe, close_glance);
}

void deployment_free(struct deployment *d)
{
    pace_forget(d);
    deployment_settings_free(d);
    deployment_drop_decision(d);
    rollback_queued_free(d->deciding);
    deployment_drop_all(d);
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
