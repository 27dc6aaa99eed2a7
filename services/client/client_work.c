/* client_work.c - which share of the work this version takes while two stand side by side, and that it has taken it. */
#include "client/client_priv.h"
#include "client/client_share.h"
#include "common/metric.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PARTS  10000
#define SAY_MS 10000 /* part of the contract: who is silent for three of these is gone */

METRIC_DEFINE(bad, METRIC_COUNTER, "redoubt_client_share_bad_total", "Shares of work that break the contract.");

static void take_range(redoubt *r, uint32_t from, uint32_t to, uint32_t percent)
{
    atomic_store(&r->work.range, (uint64_t)from << 32 | to);
    atomic_store(&r->work.percent, percent);
}

/* The first version has the parts from the bottom, the second those up to the top: when together they have more than all, which is the moment in which
 * work moves, what is in the middle is taken by both. More than two have theirs one behind the other. A version that is not named takes everything. */
static void apply(redoubt *r, const PB(WorkShare) * w)
{
    uint32_t below = 0;
    for (size_t i = 0; i < w->n_shares; i++) {
        const PB(VersionShare) *x = w->shares[i];
        uint32_t part = x->percent * (PARTS / 100);
        uint32_t from = w->n_shares == 2 && i == 1 ? PARTS - part : below;
        uint32_t to = from + part < PARTS ? from + part : PARTS;
        if (strcmp(x->name, r->work.version) == 0 || strcmp(x->id, r->work.version) == 0) {
            take_range(r, from, to, x->percent);
            return;
        }
        below = to;
    }
    take_range(r, 0, PARTS, 100);
}

static void on_share(void *ctx, const struct bus_msg *m)
{
    redoubt *r = ctx;
    PB(WorkShare) *w = wire_unpack(PB_DESC(work_share), m->data, m->len, NULL);
    if (!w || strcmp(w->deployment, r->work.deployment) != 0) {
        metric_add(&bad, 1);
    } else if (w->epoch > r->work.epoch) {
        r->work.epoch = w->epoch;
        apply(r, w);
        client_work_say(r);
    }
    wire_free(w);
}

static void on_timer(void *ctx)
{
    client_work_say(ctx);
}

void client_work_init(redoubt *r, const redoubt_options *o)
{
    take_range(r, 0, PARTS, 100);
    loop_timer_init(&r->loop, &r->work.timer, on_timer, r);
    if (!o->deployment)
        return;
    snprintf(r->work.deployment, sizeof r->work.deployment, "%s", o->deployment);
    snprintf(r->work.version, sizeof r->work.version, "%s", o->version);
    snprintf(r->work.subject, sizeof r->work.subject, SUBJECT_SHARED "%s", o->deployment);
}

int client_work_open(redoubt *r, struct err *e)
{
    char subject[SUBJECT_MAX_LEN];
    if (!*r->work.deployment)
        return 0;
    snprintf(subject, sizeof subject, SUBJECT_SHARE "%s", r->work.deployment);
    /* Once the present is known it is said, also that there is none. */
    if (!bus_watch(r->bus, subject, 0, on_share, on_timer, r))
        return err_set(e, "cannot watch shares of work: out of memory");
    loop_timer_start(&r->work.timer, SAY_MS, SAY_MS);
    return 0;
}

void client_work_say(redoubt *r)
{
    size_t len;
    PB(WorkShared) s = REDOUBT__V1__WORK_SHARED__INIT;
    if (!*r->work.deployment || !r->gate.up)
        return;
    s.deployment = r->work.deployment;
    s.epoch = r->work.epoch;
    s.instance = r->instance;
    s.version = r->work.version;
    s.percent = atomic_load(&r->work.percent);
    s.in_hand = atomic_load(&r->work.in_hand);
    void *data = wire_pack(&s, &len, NULL);
    const struct bus_out out = {.subject = r->work.subject, .type = wire_type(&s), .data = data, .len = len};
    if (data)
        (void)bus_publish(r->bus, &out, NULL); /* the next one follows */
    else
        metric_add(&bad, 1);
    free(data);
}

void client_work_flush(redoubt *r)
{
    if (atomic_exchange(&r->work.ended, false))
        client_work_say(r);
}

void client_work_stop(redoubt *r)
{
    loop_timer_stop(&r->work.timer);
}

bool redoubt_take_share(redoubt *r, const char *key)
{
    bool mine;
    if (key) {
        uint64_t range = atomic_load_explicit(&r->work.range, memory_order_relaxed);
        uint32_t part = client_share_part(key);
        mine = part >= range >> 32 && part < (uint32_t)range;
    } else {
        uint32_t turn = atomic_fetch_add_explicit(&r->work.turn, 1, memory_order_relaxed);
        mine = client_share(turn, atomic_load_explicit(&r->work.percent, memory_order_relaxed));
    }
    if (mine)
        atomic_fetch_add(&r->work.in_hand, 1);
    return mine;
}

void redoubt_share_done(redoubt *r)
{
    uint32_t left = atomic_load(&r->work.in_hand);
    while (left && !atomic_compare_exchange_weak(&r->work.in_hand, &left, left - 1)) {
    }
    if (left == 1 && atomic_load(&r->work.percent) == 0) { /* who waits for this is told at once */
        atomic_store(&r->work.ended, true);
        uv_async_send(&r->wake);
    }
}
