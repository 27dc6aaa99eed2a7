/* alert_parcels_tell.c - one bucket is told: read, put together, sent, taken off the stream.
 *
 * A few go out by themselves, one after the other: the first finds out whether anybody accepts, then up to SINGLES_AT_ONCE at a time, those of one
 * problem in order. Many are tallied in a first pass, and the worst are fetched for the digest in a second: memory is bounded however many there are.
 *
 * Before it is taken off, each alert that the digest stands for without showing it gets a receipt of its own, and what a fan-out leaves owed to some
 * of its members is put by again for those alone. Whatever is told is taken off,
 * if it takes for ever: nobody is to hear it twice while this process lives. */
#include "alert/alert_parcels_priv.h"
#include "common/clock.h"
#include "common/log.h"
#include "common/metric.h"
#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SINGLES_MAX     (ALERT_PARCEL_ALONE_MAX + 1)
#define SINGLES_AT_ONCE 4
#define DIGEST_MAX      1000000 /* parcels of one digest */
#define HAND_ON_AT_ONCE 256     /* read, receipted and put by again at a time */
#define CRITICAL        REDOUBT__V1__SEVERITY__SEVERITY_CRITICAL

METRIC_DEFINE(told_alone, METRIC_COUNTER, "redoubt_alert_parcels_told_alone_total",
              "Alerts that were put by and then told by themselves.");
METRIC_DEFINE(told_in_digests, METRIC_COUNTER, "redoubt_alert_parcels_told_in_digests_total",
              "Alerts that were put by and then told in a digest or group.");
METRIC_DEFINE(digests, METRIC_COUNTER, "redoubt_alert_digests_total", "Digests and groups that were accepted.");
METRIC_DEFINE(failures, METRIC_COUNTER, "redoubt_alert_parcels_failures_total",
              "Times that nobody accepted what was put by; it is tried again.");
METRIC_DEFINE(handed_on, METRIC_COUNTER, "redoubt_alert_parcels_handed_on_total",
              "Alerts of a fan-out that were put by again for a member that had not accepted.");
METRIC_DEFINE(moved, METRIC_COUNTER, "redoubt_alert_parcels_moved_total",
              "Messages to a channel or group that the settings no longer have, told by the default route.");

/* A message on its way: one of a few, or the digest. */
struct going {
    struct parcel_tell *t;
    struct alert_run *run;
    const struct alert_message *message;
    bool moved; /* by the default route, as the settings have its node no more */
    char node[ALERT_PARCEL_TOKEN_MAX + 1];
    char note[ALERT_NOTE_MAX + ALERT_PARCEL_TOKEN_MAX];
    struct alert_message copy; /* with another note */
    char owed[ALERT_OWED_MAX][ALERT_PARCEL_TOKEN_MAX + 1];
    size_t n_owed;
};
struct single {
    struct going go;
    PB(Alert) * alert;
    uint64_t seq;
    const PB(Alert) * list[1];
    struct alert_message message;
    size_t puts; /* by again, not yet safe */
    bool put_failed;
    enum { WAITS, RUNS, TO_HAND_ON, HANDING_ON, TO_REMOVE, REMOVING, DONE, UNTOLD } state;
};
struct parcel_tell {
    struct alert_parcels *p;
    struct parcel_bucket *b; /* NULL once dropped */
    int refs;                /* answers still to come, and one for itself */
    int64_t again_ms;        /* something did not answer: again then; 0 = no */
    bool over;
    /* a few: */
    struct single singles[SINGLES_MAX];
    size_t n, first;
    bool accepted, refused; /* one was, none of them since */
    /* many: */
    struct alert_tally *tally;
    size_t places[ALERT_SHOWN_MAX], n_places, fetching;
    PB(Alert) * shown[ALERT_SHOWN_MAX];
    struct alert_digest *digest;
    struct going go;
    char channel[NAME_MAX_LEN + 1]; /* that has accepted it first */
    int64_t ended_unix_ms;
    bool handing_on, removing;
    uint64_t hand_on_from, page_from;
    size_t puts;
    bool put_failed, page_read;
    enum parcel_read_end page_end;
};

static struct parcel_tell *ref(struct parcel_tell *t)
{
    t->refs++;
    return t;
}

static void unref(struct parcel_tell *t)
{
    if (--t->refs > 0)
        return;
    for (size_t i = 0; i < t->n; i++)
        wire_free(t->singles[i].alert);
    for (size_t i = 0; i < t->n_places; i++)
        wire_free(t->shown[i]);
    alert_digest_free(t->digest);
    free(t->tally);
    alert_parcels_unref(t->p);
    free(t);
}

static void finish(struct parcel_tell *t, enum parcel_told what, uint64_t alerts)
{
    struct parcel_bucket *b = t->b;
    assert(b && !t->over);
    t->over = true;
    if (what == PARCEL_FAILED)
        metric_add(&failures, 1);
    t->b = NULL;
    parcel_told(b, what, alerts);
    unref(t);
}

static struct bus *bus_of(const struct parcel_tell *t)
{
    return t->p->room->service->bus;
}

static void again(struct parcel_tell *t)
{
    t->again_ms = clock_mono_ms() + PARCEL_AGAIN_MS;
    alert_parcels_look(t->p, PARCEL_AGAIN_MS);
}

/* ---- sending ---- */

static void on_end(void *ctx, const struct alert_run_end *end);

/* A channel is not told by itself that it is broken; but that it was, it may. */
static const char *left_out(const struct going *g)
{
    const PB(Alert) *a = g->message->alerts[0];
    if (g->message->kind != ALERT_MESSAGE_ONE || !a->source || strcmp(a->source, "alert") != 0)
        return NULL;
    const char *about = subject_tail(a->dedup_key, ALERT_CHANNEL_KEY);
    return about && strcmp(about, g->node) != 0 ? about : NULL;
}

static bool go(struct going *g)
{
    struct parcel_tell *t = g->t;
    const struct alert_run_opts o = {.node = g->node,
                                     .message = g->message,
                                     .critical = g->message->severity >= (int)CRITICAL && !g->message->resolved,
                                     .record = false, /* that was done when it came */
                                     .left_out = left_out(g)};
    g->run = t->p->ways.start(t->p->room, &o, on_end, g);
    return g->run != NULL;
}

static void begin(struct going *g, struct parcel_tell *t, const struct alert_message *m)
{
    *g = (struct going){.t = t, .message = m};
    snprintf(g->node, sizeof g->node, "%s", t->b->name.node);
}

/* By the default route, and the message says so. False if there is none. */
static bool move(struct going *g)
{
    char node[ALERT_PARCEL_TOKEN_MAX + 1];
    uint64_t held;
    const char *other = alert_parcels_default_node(&g->t->p->room->service->settings->alert, node);
    if (!other || g->moved) {
        if (log_allowed(&g->t->p->nobody, clock_mono_ms(), 60000, &held))
            log_error("alerts wait for a channel or group that the settings no longer have, and there is no route",
                      F_STR("node", g->node), F_INT("held_back", held));
        return false;
    }
    log_warn("alerts for a channel or group that the settings no longer have go by the default route",
             F_STR("node", g->node), F_STR("by", other));
    metric_add(&moved, 1);
    snprintf(g->note, sizeof g->note, "%s%smeant for %s, which the settings no longer have",
             g->message->note ? g->message->note : "", g->message->note ? "; " : "", g->node);
    g->copy = *g->message;
    g->copy.note = g->note;
    g->message = &g->copy;
    g->moved = true;
    snprintf(g->node, sizeof g->node, "%s", other);
    return go(g);
}

/* What is still owed, and by whom. The whole node is not: then nobody was told. */
static void keep_owed(struct going *g, const struct alert_run_end *end)
{
    g->n_owed = 0;
    for (size_t i = 0; i < end->n_owed && g->n_owed < ALERT_OWED_MAX; i++)
        snprintf(g->owed[g->n_owed++], sizeof *g->owed, "%.*s", ALERT_PARCEL_TOKEN_MAX, end->owed[i]);
}

/* ---- a few ---- */

static void singles_go_on(struct parcel_tell *t);

static struct single *single_of(struct going *g)
{
    return (struct single *)((char *)g - offsetof(struct single, go));
}

static void single_ended(struct going *g, const struct alert_run_end *end)
{
    struct single *s = single_of(g);
    struct parcel_tell *t = g->t;
    if (!end->told && !end->known && move(g))
        return;
    if (end->told) {
        keep_owed(g, end);
        t->accepted = true;
        s->state = TO_HAND_ON;
        metric_add(&told_alone, 1);
        if (t->b->clock.critical)
            t->b->clock.alone++;
    } else {
        t->refused = t->refused || !left_out(g); /* what had a channel less to go by says little of the others */
        s->state = UNTOLD;
    }
    singles_go_on(t);
}

static void on_single_put(void *ctx, int status, const char *error)
{
    struct single *s = ctx;
    struct parcel_tell *t = s->go.t;
    (void)error;
    s->put_failed = s->put_failed || status != 0;
    if (--s->puts == 0 && t->b) {
        s->state = s->put_failed ? TO_HAND_ON : TO_REMOVE;
        if (s->put_failed)
            again(t);
        singles_go_on(t);
    }
    unref(t);
}

static void on_single_removed(void *ctx, enum bus_status st)
{
    struct single *s = ctx;
    struct parcel_tell *t = s->go.t;
    if (t->b) {
        s->state = st == BUS_OK ? DONE : TO_REMOVE;
        if (st != BUS_OK)
            again(t);
        singles_go_on(t);
    }
    unref(t);
}

static void single_put_by(struct single *s)
{
    struct parcel_tell *t = s->go.t;
    s->state = s->go.n_owed > 0 ? HANDING_ON : TO_REMOVE;
    s->puts = s->go.n_owed;
    s->put_failed = false;
    for (size_t i = 0; i < s->go.n_owed; i++) {
        ref(t);
        metric_add(&handed_on, 1);
        alert_parcels_put(
            t->p,
            &(struct alert_put){
                .reason = ALERT_PARCEL_OWED, .node = s->go.owed[i], .bucket = ALERT_PARCEL_ALL, .alert = s->alert},
            on_single_put, s);
    }
}

/* Another of the same problem is before it and not through. */
static bool behind(const struct parcel_tell *t, const struct single *s)
{
    for (const struct single *e = t->singles; e < s; e++)
        if ((e->state == WAITS || e->state == RUNS || e->state == UNTOLD) &&
            strcmp(e->alert->dedup_key, s->alert->dedup_key) == 0)
            return true;
    return false;
}

static void singles_go_on(struct parcel_tell *t)
{
    size_t running = 0, told = 0, busy = 0;
    for (size_t i = 0; i < t->n; i++)
        running += t->singles[i].state == RUNS;
    for (size_t k = 0; k < t->n; k++) {
        struct single *s = &t->singles[(t->first + k) % t->n];
        /* Until one has accepted, one at a time; and no more once one was refused and none accepted. */
        bool may = t->accepted ? running < SINGLES_AT_ONCE : running == 0 && !t->refused;
        if (s->state == WAITS && may && !behind(t, s)) {
            s->state = RUNS;
            if (go(&s->go)) {
                running++;
            } else {
                s->state = UNTOLD;
                t->refused = true;
            }
        }
        if (s->state == TO_HAND_ON && t->again_ms == 0)
            single_put_by(s);
        if (s->state == TO_REMOVE && t->again_ms == 0) {
            s->state = REMOVING;
            ref(t);
            bus_remove(bus_of(t), STREAM_PARCELS, s->seq, PARCEL_ANSWER_MS, on_single_removed, s);
        }
        told += s->state == DONE;
        busy += s->state != DONE && s->state != UNTOLD && s->state != WAITS;
    }
    if (busy == 0 && running == 0)
        finish(t, told == t->n ? PARCEL_TOLD : PARCEL_FAILED, told);
}

/* ---- many ---- */

static void digest_remove(struct parcel_tell *t);
static void hand_on(struct parcel_tell *t);

static void digest_failed(struct parcel_tell *t)
{
    struct parcel_bucket *b = t->b;
    if (b->clock.fails + 1 >= ALERT_PARCEL_KEPT_FAILS) { /* a new one next time, of all that waits by then */
        b->fixed_first = b->fixed_last = 0;
        parcel_state_save(b);
    } else if (t->p->n_kept < PARCEL_KEPT_MAX) {
        b->kept = t->digest;
        t->digest = NULL;
        t->p->n_kept++;
    }
    finish(t, PARCEL_FAILED, 0);
}

static void digest_ended(struct going *g, const struct alert_run_end *end)
{
    struct parcel_tell *t = g->t;
    if (!end->told && !end->known && move(g))
        return;
    if (!end->told) {
        digest_failed(t);
        return;
    }
    metric_add(&digests, 1);
    metric_add(&told_in_digests, (int64_t)t->digest->alerts);
    keep_owed(g, end);
    snprintf(t->channel, sizeof t->channel, "%s", end->channel ? end->channel : "");
    t->ended_unix_ms = clock_wall_ms();
    t->hand_on_from = t->digest->first_seq;
    t->handing_on = g->n_owed > 0 || t->digest->alerts > t->digest->n;
    if (t->handing_on)
        hand_on(t);
    else
        digest_remove(t);
}

static void on_purged(void *ctx, enum bus_status st)
{
    struct parcel_tell *t = ctx;
    if (t->b) {
        t->removing = false;
        if (st == BUS_OK) {
            t->b->fixed_first = t->b->fixed_last = 0;
            finish(t, PARCEL_TOLD, t->digest->alerts);
        } else {
            again(t);
        }
    }
    unref(t);
}

static void digest_remove(struct parcel_tell *t)
{
    t->removing = true;
    ref(t);
    bus_purge(bus_of(t), STREAM_PARCELS, t->b->subject, t->digest->last_seq, PARCEL_ANSWER_MS, on_purged, t);
}

/* A page is put by again, as far as it goes. */
static void page_done(struct parcel_tell *t)
{
    if (!t->page_read || t->puts > 0)
        return;
    if (t->put_failed || t->page_end == PARCEL_READ_FAILED) {
        t->hand_on_from = t->page_from;
        again(t);
    } else if (t->page_end == PARCEL_READ_MORE) {
        hand_on(t);
    } else {
        t->handing_on = false;
        digest_remove(t);
    }
}

static void on_page_put(void *ctx, int status, const char *error)
{
    struct parcel_tell *t = ctx;
    (void)error;
    t->puts--;
    t->put_failed = t->put_failed || status != 0;
    if (t->b)
        page_done(t);
    unref(t);
}

static void on_receipt_stored(void *ctx, const struct bus_stored *r)
{
    if (r->status == BUS_REFUSED)
        log_error("stream refused a receipt", F_STR("why", r->error));
    on_page_put(ctx, r->status == BUS_OK || r->status == BUS_REFUSED ? 0 : -1, r->error);
}

static bool shown(const struct alert_digest *d, const PB(Alert) * a)
{
    for (size_t i = 0; i < d->n; i++)
        if (strcmp(d->shown[i]->id, a->id) == 0)
            return true;
    return false;
}

static const char *kind_of(const struct parcel_tell *t)
{
    const struct alert_room *r = t->p->room;
    for (size_t i = 0; i < r->n_channels; i++)
        if (strcmp(r->channels[i]->set.name, t->channel) == 0)
            return r->channels[i]->kind->name;
    return "";
}

/* The run has said what became of those that the message holds; this one it only counts. */
static void receipt(struct parcel_tell *t, const PB(Alert) * a)
{
    char subject[SUBJECT_MAX_LEN], id[192];
    snprintf(subject, sizeof subject, "%s%s", SUBJECT_DELIVERY, a->id);
    snprintf(id, sizeof id, "receipt/%s/%s/accepted", a->id, t->channel);
    PB(DeliveryReceipt) r = REDOUBT__V1__DELIVERY_RECEIPT__INIT;
    r.alert_id = a->id;
    r.dedup_key = a->dedup_key;
    r.channel = t->channel;
    r.channel_kind = (char *)kind_of(t);
    r.status = REDOUBT__V1__DELIVERY_STATUS__DELIVERY_STATUS_ACCEPTED;
    r.detail = (char *)"counted in a digest";
    r.started_unix_ms = r.ended_unix_ms = t->ended_unix_ms;
    r.severity = a->severity;
    r.parcel = t->digest->id;
    r.alerts = (uint32_t)(t->digest->alerts < UINT32_MAX ? t->digest->alerts : UINT32_MAX);
    ref(t);
    t->puts++;
    service_announce(t->p->room->service, subject, id, &r, on_receipt_stored, t);
}

static void on_page_one(void *ctx, PB(Alert) * a, uint64_t seq)
{
    struct parcel_tell *t = ctx;
    if (t->b && !shown(t->digest, a))
        receipt(t, a);
    if (t->b)
        for (size_t i = 0; i < t->go.n_owed; i++) {
            ref(t);
            t->puts++;
            metric_add(&handed_on, 1);
            alert_parcels_put(
                t->p,
                &(struct alert_put){
                    .reason = ALERT_PARCEL_OWED, .node = t->go.owed[i], .bucket = ALERT_PARCEL_ALL, .alert = a},
                on_page_put, t);
        }
    t->hand_on_from = seq + 1;
    wire_free(a);
}

static void on_page_read(void *ctx, enum parcel_read_end how)
{
    struct parcel_tell *t = ctx;
    t->page_read = true;
    t->page_end = how;
    if (t->b)
        page_done(t);
    unref(t);
}

/* All that the digest stands for, from the last page on. If one of a page fails, that page is done again: the same again is put by, and said,
 * once. */
static void hand_on(struct parcel_tell *t)
{
    t->page_read = t->put_failed = false;
    t->page_from = t->hand_on_from;
    ref(t);
    parcel_read(t->p, t->b->subject, t->hand_on_from, t->digest->last_seq, HAND_ON_AT_ONCE, on_page_one, on_page_read,
                t);
}

static void digest_send(struct parcel_tell *t)
{
    begin(&t->go, t, &t->digest->message);
    if (!go(&t->go))
        digest_failed(t);
}

static void make_digest(struct parcel_tell *t)
{
    struct parcel_bucket *b = t->b;
    t->digest = alert_digest_make(&b->name, t->tally, t->places, t->shown, t->n_places);
    t->n_places = 0;
    free(t->tally);
    t->tally = NULL;
    if (!t->digest) { /* all of them are gone meanwhile: somebody has emptied the stream */
        finish(t, PARCEL_LATER, 0);
        return;
    }
    b->fixed_first = t->digest->first_seq;
    b->fixed_last = t->digest->last_seq;
    parcel_state_save(b); /* before it goes: whoever leads next sends the same */
    digest_send(t);
}

struct fetch {
    struct parcel_tell *t;
    size_t i;
};

static void on_fetched(void *ctx, enum bus_status st, const struct bus_msg *m)
{
    struct fetch f = *(struct fetch *)ctx;
    struct parcel_tell *t = f.t;
    struct err e;
    free(ctx);
    if (t->b && st == BUS_OK && m && m->stream_seq == t->tally->problems[t->places[f.i]].seq)
        t->shown[f.i] = wire_unpack(PB_DESC(alert), m->data, m->len, &e);
    if (--t->fetching == 0 && t->b)
        make_digest(t);
    unref(t);
}

static void on_tallied(void *ctx, enum parcel_read_end how)
{
    struct parcel_tell *t = ctx;
    if (!t->b) {
    } else if (how == PARCEL_READ_FAILED) {
        finish(t, PARCEL_LATER, 0);
    } else if (t->tally->alerts == 0) {
        /* What was fixed is told and gone: what is there is new. */
        bool was_fixed = t->b->fixed_last > 0;
        t->b->fixed_first = t->b->fixed_last = 0;
        finish(t, was_fixed ? PARCEL_LATER : PARCEL_NONE, 0);
    } else {
        t->n_places = t->fetching = alert_tally_worst(t->tally, ALERT_SHOWN_MAX, t->places);
        struct bus *bus = bus_of(t);
        for (size_t i = 0; i < t->n_places; i++) {
            struct fetch *f = malloc(sizeof *f);
            assert(f && "out of memory for a request");
            *f = (struct fetch){ref(t), i};
            bus_next(bus, STREAM_PARCELS, t->b->subject, t->tally->problems[t->places[i]].seq, PARCEL_ANSWER_MS,
                     on_fetched, f);
        }
    }
    unref(t);
}

static void on_tally_one(void *ctx, PB(Alert) * a, uint64_t seq)
{
    struct parcel_tell *t = ctx;
    if (t->b)
        alert_tally_add(t->tally, a, seq);
    wire_free(a);
}

static void tally_all(struct parcel_tell *t)
{
    t->tally = malloc(sizeof *t->tally);
    if (!t->tally) {
        finish(t, PARCEL_LATER, 0);
        return;
    }
    alert_tally_clear(t->tally);
    ref(t);
    parcel_read(t->p, t->b->subject, 0, t->b->fixed_last ? t->b->fixed_last : UINT64_MAX, DIGEST_MAX, on_tally_one,
                on_tallied, t);
}

static void on_end(void *ctx, const struct alert_run_end *end)
{
    struct going *g = ctx;
    g->run = NULL;
    if (g == &g->t->go)
        digest_ended(g, end);
    else
        single_ended(g, end);
}

/* ---- the beginning ---- */

static void on_head_one(void *ctx, PB(Alert) * a, uint64_t seq)
{
    struct parcel_tell *t = ctx;
    struct single *s = &t->singles[t->n++];
    s->alert = a;
    s->seq = seq;
}

static void on_head(void *ctx, enum parcel_read_end how)
{
    struct parcel_tell *t = ctx;
    if (!t->b) {
    } else if (how == PARCEL_READ_FAILED) {
        finish(t, PARCEL_LATER, 0);
    } else if (t->n == 0) {
        finish(t, PARCEL_NONE, 0);
    } else {
        size_t alone = alert_parcel_singles(&t->b->clock, t->n);
        while (t->n > alone)
            wire_free(t->singles[--t->n].alert);
        if (alone > 0) {
            t->first = (size_t)t->b->clock.fails % t->n; /* one that nobody ever takes does not keep the others */
            for (size_t i = 0; i < t->n; i++) {
                struct single *s = &t->singles[i];
                s->list[0] = s->alert;
                s->message = alert_message_one(s->list, alert_digest_why(t->b->name.reason));
                begin(&s->go, t, &s->message);
            }
            singles_go_on(t);
        } else {
            tally_all(t);
        }
    }
    unref(t);
}

void parcel_tell_start(struct parcel_bucket *b)
{
    struct parcel_tell *t = calloc(1, sizeof *t);
    if (!t) {
        parcel_told(b, PARCEL_LATER, 0);
        return;
    }
    t->p = alert_parcels_ref(b->p);
    t->b = b;
    t->refs = 1;
    b->tell = t;
    if (b->kept) {
        t->digest = b->kept;
        b->kept = NULL;
        b->p->n_kept--;
        digest_send(t);
    } else if (b->fixed_last > 0) {
        tally_all(t);
    } else {
        ref(t);
        size_t most = b->clock.critical ? SINGLES_MAX : ALERT_PARCEL_FEW + 1;
        parcel_read(b->p, b->subject, 0, UINT64_MAX, most, on_head_one, on_head, t);
    }
}

void parcel_tell_again(struct parcel_tell *t, int64_t now_ms)
{
    if (t->again_ms == 0 || now_ms < t->again_ms)
        return;
    t->again_ms = 0;
    if (!t->digest)
        singles_go_on(t);
    else if (t->handing_on)
        hand_on(t);
    else if (!t->removing)
        digest_remove(t);
}

void parcel_tell_drop(struct parcel_tell *t)
{
    t->b = NULL;
    if (t->go.run)
        t->p->ways.drop(t->go.run);
    for (size_t i = 0; i < t->n; i++)
        if (t->singles[i].go.run)
            t->p->ways.drop(t->singles[i].go.run);
    unref(t);
}
