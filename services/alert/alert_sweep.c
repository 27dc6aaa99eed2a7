/* alert_sweep.c - goes through all problems, slowly, and mends what crashes and losses have left between Redis and STATE.
 *
 * Two walks, one problem after the other, never both at once: the restore reads STATE from its first to its last problem and has Redis mended by
 * each; the round reads Redis' index, has the other indexes mended, and says on STATE what STATE lacks. */
#include "alert/alert_sweep.h"
#include "alert/alert_index.h"
#include "alert/alert_memory.h"
#include "common/clock.h"
#include "common/metric.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ROUND_MS 60000 /* between two rounds */
#define FIRST_MS 1000  /* after the start */
#define RETRY_MS 5000  /* after a restore that failed */
#define ASK_MS   2000

METRIC_DEFINE(restores, METRIC_COUNTER, "redoubt_alert_restores_total",
              "Times that Redis was given the problems that STATE has.");
METRIC_DEFINE(said_again, METRIC_COUNTER, "redoubt_alert_problems_said_again_total",
              "Problems that STATE lacked and was told of again.");

struct alert_sweep {
    struct alert_memory *memory;
    bool busy;    /* one problem or page is under way */
    bool restore; /* wanted, or under way */
    int64_t not_before_ms;
    uint64_t seq; /* of STATE: the next one to be read; 0 = a restore has not begun */
    size_t restored;
    int64_t round_ms; /* when the next round begins */
    bool rounding;
    struct alert_page page; /* of the round */
    size_t at;
    bool last_page;
    char after[ALERT_ID_LEN + 1];
};

static void go_on(struct alert_sweep *x);

static void answered(struct alert_sweep *x)
{
    alert_memory_answered(x->memory);
}

/* ---- STATE to Redis ---- */

static void restore_failed(struct alert_sweep *x)
{
    x->busy = false;
    x->not_before_ms = clock_mono_ms() + RETRY_MS; /* goes on where it was */
}

static void on_mended(void *ctx, const struct alert_changed *r)
{
    struct alert_sweep *x = ctx;
    struct alert_memory *m = x->memory;
    x->busy = false;
    if (r->status == ALERT_CHANGE_UNSAFE)
        restore_failed(x);
    else
        x->seq++;
    if (r->status != ALERT_CHANGE_UNSAFE && !m->closed)
        go_on(x);
    answered(x);
}

static void on_next(void *ctx, enum bus_status st, const struct bus_msg *msg)
{
    struct alert_sweep *x = ctx;
    struct alert_memory *m = x->memory;
    if (st != BUS_OK || m->closed) {
        restore_failed(x);
    } else if (!msg) {
        x->busy = x->restore = false;
        metric_add(&restores, 1);
        alert_index_mark(m->store);
        if (x->restored > 0)
            log_info("Redis has the problems that the stream knows", F_INT("problems", x->restored));
        alert_due_wake(m->due);
    } else {
        struct alert_problem p;
        PB(ProblemChanged) *d = wire_unpack(PB_DESC(problem_changed), msg->data, msg->len, NULL);
        x->seq = msg->stream_seq;
        if (d && alert_doc_read(d, &p)) {
            x->restored++;
            m->asks++;
            alert_memory_change(m, &(struct alert_change){.kind = ALERT_CHANGE_MEND, .id = d->id, .given = d},
                                on_mended, x);
        } else { /* the watch counts and logs it */
            x->busy = false;
            x->seq++;
            go_on(x);
        }
        wire_free(d);
    }
    answered(x);
}

void alert_sweep_restore(struct alert_sweep *x)
{
    if (x->restore)
        return;
    x->restore = true;
    x->seq = 1;
    x->restored = 0;
    x->not_before_ms = 0;
}

/* ---- Redis to STATE ---- */

struct checked {
    struct alert_sweep *sweep;
    PB(ProblemChanged) * problem;
};

static void on_last(void *ctx, enum bus_status st, const struct bus_msg *msg)
{
    struct checked *c = ctx;
    struct alert_sweep *x = c->sweep;
    struct alert_memory *m = x->memory;
    PB(ProblemChanged) *d =
        msg && st == BUS_OK ? wire_unpack(PB_DESC(problem_changed), msg->data, msg->len, NULL) : NULL;
    bool lacks = st == BUS_REFUSED || (st == BUS_OK && (!d || d->revision < c->problem->revision));
    /* Repeats are counted in Redis only: a later revision alone is no news. */
    struct alert_problem there, here;
    if (lacks && d && alert_doc_read(d, &there) && alert_doc_read(c->problem, &here))
        lacks = there.state != here.state || there.severity != here.severity || there.escalated != here.escalated ||
                there.acked_until_ms != here.acked_until_ms || there.first_ms != here.first_ms ||
                there.telling != here.telling;
    if (lacks && !m->closed) {
        char subject[SUBJECT_MAX_LEN];
        snprintf(subject, sizeof subject, "%s%s", SUBJECT_PROBLEM, c->problem->id);
        metric_add(&said_again, 1);
        service_announce(m->room->service, subject, NULL, c->problem, NULL,
                         NULL); /* under a new id: the old one may be taken for known */
    }
    wire_free(d);
    wire_free(c->problem);
    free(c);
    x->busy = false;
    if (!m->closed)
        go_on(x);
    answered(x);
}

static void on_got(void *ctx, const struct alert_changed *r)
{
    struct alert_sweep *x = ctx;
    struct alert_memory *m = x->memory;
    struct bus *bus = m->room->service->bus;
    struct checked *c = NULL;
    if (r->status == ALERT_CHANGE_DONE && r->problem && r->in_store && !m->closed && bus_up(bus) &&
        (c = calloc(1, sizeof *c))) {
        size_t len = 0;
        void *data = wire_pack(r->problem, &len, NULL);
        c->sweep = x;
        c->problem = data ? wire_unpack(PB_DESC(problem_changed), data, len, NULL) : NULL;
        free(data);
    }
    if (c && c->problem) {
        char subject[SUBJECT_MAX_LEN];
        snprintf(subject, sizeof subject, "%s%s", SUBJECT_PROBLEM, c->problem->id);
        m->asks++;
        bus_last(bus, STREAM_STATE, subject, ASK_MS, on_last, c);
    } else {
        free(c);
        x->busy = false; /* goes on at the next tick */
    }
    answered(x);
}

static void on_page(void *ctx, const struct alert_page *p)
{
    struct alert_sweep *x = ctx;
    x->busy = false;
    if (!p->ok) {
        x->rounding = false;
        x->round_ms = clock_mono_ms() + ROUND_MS;
    } else {
        x->page = *p;
        x->at = 0;
        x->last_page = p->n < ALERT_PAGE_MAX;
    }
    answered(x);
}

static void round_on(struct alert_sweep *x)
{
    struct alert_memory *m = x->memory;
    if (x->at < x->page.n) {
        const char *id = x->page.ids[x->at++];
        memcpy(x->after, id, sizeof x->after);
        x->busy = true;
        m->asks++;
        alert_memory_change(m, &(struct alert_change){.kind = ALERT_CHANGE_MEND, .id = id}, on_got, x);
    } else if (x->last_page) {
        x->rounding = false;
        x->round_ms = clock_mono_ms() + ROUND_MS;
    }
}

/* ---- both ---- */

static void go_on(struct alert_sweep *x)
{
    struct alert_memory *m = x->memory;
    if (x->busy || m->closed || !store_up(m->store) || !bus_up(m->room->service->bus))
        return;
    if (x->restore) {
        if (clock_mono_ms() < x->not_before_ms)
            return;
        x->busy = true;
        m->asks++;
        bus_next(m->room->service->bus, STREAM_STATE, SUBJECT_PROBLEM ">", x->seq, ASK_MS, on_next, x);
    } else if (x->rounding) {
        round_on(x);
    }
}

/* A page of a round each time, so that 100,000 problems are a light load. */
void alert_sweep_tick(struct alert_sweep *x)
{
    struct alert_memory *m = x->memory;
    if (!x->busy && !x->restore && !x->rounding && clock_mono_ms() >= x->round_ms) {
        x->rounding = true;
        x->last_page = false;
        x->page.n = x->at = 0;
        x->after[0] = 0;
    }
    if (!x->busy && !x->restore && x->rounding && x->at == x->page.n && !x->last_page && store_up(m->store)) {
        x->busy = true;
        m->asks++;
        alert_index_page(m->store, false, x->after, on_page, x);
        return;
    }
    go_on(x);
}

struct alert_sweep *alert_sweep_open(struct alert_memory *m)
{
    struct alert_sweep *x = calloc(1, sizeof *x);
    if (x) {
        x->memory = m;
        x->round_ms = clock_mono_ms() + FIRST_MS;
    }
    return x;
}

void alert_sweep_free(struct alert_sweep *x)
{
    free(x);
}
