/* alert_parcels_read.c - reads a bucket where it stands: several requests at a time, as long as that pays.
 *
 * The stream tells the next message of a subject from a sequence on. Where a bucket's parcels stand close together, as they do after a burst, asking
 * for the next from s, s+1, ... s+n at once gives n of them in one round trip; where they are far apart, all get the same answer, and it asks for
 * one at a time again. Either way nothing between the first question and the last answer is missed. */
#include "alert/alert_parcels_priv.h"
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

#define WINDOW_MAX 64

struct slot {
    struct reading *r;
    enum bus_status status;
    uint64_t seq; /* 0 = nothing there */
    PB(Alert) * alert;
};
struct reading {
    struct alert_parcels *p;
    char subject[SUBJECT_MAX_LEN];
    uint64_t from, to, max, n;
    size_t window, waiting;
    bool asking; /* all questions of this round are not out yet */
    parcel_one one;
    void (*end)(void *ctx, enum parcel_read_end how);
    void *ctx;
    struct slot slots[WINDOW_MAX];
};

static void ask(struct reading *r);

static void end(struct reading *r, enum parcel_read_end how)
{
    struct alert_parcels *p = r->p;
    for (size_t i = 0; i < r->window; i++)
        wire_free(r->slots[i].alert);
    r->end(r->ctx, how);
    free(r);
    alert_parcels_unref(p);
}

/* All answers of a round are there. */
static void take(struct reading *r)
{
    uint64_t last = 0;
    size_t distinct = 0;
    bool none = false;
    if (!r->p->room) {
        end(r, PARCEL_READ_FAILED);
        return;
    }
    for (size_t i = 0; i < r->window; i++) {
        struct slot *s = &r->slots[i];
        if (s->status != BUS_OK) {
            end(r, PARCEL_READ_FAILED); /* what is before it was told already, and is as good */
            return;
        }
        none = none || s->seq == 0 || s->seq > r->to;
        if (s->seq == 0 || s->seq > r->to || s->seq <= last)
            continue;
        if (r->n == r->max) {
            end(r, PARCEL_READ_MORE);
            return;
        }
        last = s->seq;
        distinct++;
        r->n++;
        if (s->alert)
            r->one(r->ctx, s->alert, s->seq);
        s->alert = NULL;
    }
    if (none || last == 0 || last >= r->to) {
        end(r, PARCEL_READ_ALL);
        return;
    }
    for (size_t i = 0; i < r->window; i++)
        wire_free(r->slots[i].alert);
    r->from = last + 1;
    if (distinct * 2 > r->window)
        r->window = r->window * 2 < WINDOW_MAX ? r->window * 2 : WINDOW_MAX;
    else if (r->window > 1)
        r->window /= 2;
    ask(r);
}

static void on_removed(void *ctx, enum bus_status st)
{
    (void)st; /* found again, and again removed */
    alert_parcels_unref(ctx);
}

static void on_next(void *ctx, enum bus_status st, const struct bus_msg *m)
{
    struct slot *s = ctx;
    struct reading *r = s->r;
    struct err e;
    s->status = st;
    if (st == BUS_OK && m && r->p->room) {
        s->seq = m->stream_seq;
        s->alert = wire_unpack(PB_DESC(alert), m->data, m->len, &e);
        if (!s->alert) { /* nothing that we have put there, and nothing that could ever be told */
            service_bad_input(r->p->room->service, "parcel", m, e.text);
            bus_remove(r->p->room->service->bus, STREAM_PARCELS, m->stream_seq, PARCEL_ANSWER_MS, on_removed,
                       alert_parcels_ref(r->p));
        }
    }
    if (--r->waiting == 0 && !r->asking)
        take(r);
}

static void ask(struct reading *r)
{
    struct bus *bus = r->p->room->service->bus;
    r->asking = true;
    r->waiting = r->window;
    for (size_t i = 0; i < r->window; i++) {
        r->slots[i] = (struct slot){.r = r};
        bus_next(bus, STREAM_PARCELS, r->subject, r->from + i, PARCEL_ANSWER_MS, on_next, &r->slots[i]);
    }
    r->asking = false;
}

void parcel_read(struct alert_parcels *p, const char *subject, uint64_t from, uint64_t to, uint64_t max,
                 parcel_one one, void (*end_)(void *ctx, enum parcel_read_end how), void *ctx)
{
    struct reading *r = calloc(1, sizeof *r);
    assert(r && "out of memory for a request");
    *r = (struct reading){.p = alert_parcels_ref(p),
                          .from = from,
                          .to = to,
                          .max = max,
                          .window = 1,
                          .one = one,
                          .end = end_,
                          .ctx = ctx};
    snprintf(r->subject, sizeof r->subject, "%s", subject);
    ask(r);
}
