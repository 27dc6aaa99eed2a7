/* alert_lead.c - one lease for all timed work. */
#include "alert/alert_lead.h"
#include "common/clock.h"
#include "common/lease.h"
#include "common/log.h"
#include <stdlib.h>

#define LEASE_NAME "alert"

struct alert_lead {
    struct alert_lead_opts o;
    struct lease *lease;
    bool store_up;
    int64_t away_ms; /* since when Redis is away */
    struct loop_timer alone;
    bool closing;
    loop_cb done;
    void *done_ctx;
};

static void on_held(void *ctx, uint64_t fence)
{
    struct alert_lead *x = ctx;
    log_info("leads: digests, repeats and escalations are done here", F_INT("fence", (int64_t)fence));
    x->o.on_lead(x->o.ctx);
}

static void on_lost(void *ctx)
{
    (void)ctx; /* alert_leads() says so */
}

static bool alone(const struct alert_lead *x)
{
    return !x->store_up && clock_mono_ms() - x->away_ms >= 2 * x->o.lease_ttl_ms;
}

static void on_alone(void *ctx)
{
    struct alert_lead *x = ctx;
    if (!alone(x) || x->closing)
        return;
    log_warn("Redis is away: every replica does the timed work for itself", F_STR("means", "some may be told twice"));
    x->o.on_lead(x->o.ctx);
}

struct alert_lead *alert_lead_open(struct loop *l, struct store *s, const struct alert_lead_opts *o)
{
    struct alert_lead *x = calloc(1, sizeof *x);
    if (!x)
        return NULL;
    x->o = *o;
    x->away_ms = clock_mono_ms();
    x->lease = lease_open(l, s,
                          &(struct lease_opts){.name = LEASE_NAME,
                                               .holder = o->instance,
                                               .ttl_ms = o->lease_ttl_ms,
                                               .on_held = on_held,
                                               .on_lost = on_lost,
                                               .ctx = x});
    if (!x->lease) {
        free(x);
        return NULL;
    }
    loop_timer_init(l, &x->alone, on_alone, x);
    alert_lead_store(x, store_up(s));
    return x;
}

bool alert_leads(const struct alert_lead *x)
{
    return x && !x->closing && (lease_fence(x->lease) > 0 || alone(x));
}

void alert_lead_store(struct alert_lead *x, bool up)
{
    if (!up && x->store_up)
        x->away_ms = clock_mono_ms();
    x->store_up = up;
    if (up)
        loop_timer_stop(&x->alone);
    else
        loop_timer_start(&x->alone, 2 * x->o.lease_ttl_ms + 1, 0);
}

static void on_timer_closed(void *ctx)
{
    struct alert_lead *x = ctx;
    loop_cb done = x->done;
    void *done_ctx = x->done_ctx;
    free(x);
    if (done)
        done(done_ctx);
}

static void on_lease_closed(void *ctx)
{
    struct alert_lead *x = ctx;
    loop_timer_close(&x->alone, on_timer_closed);
}

void alert_lead_close(struct alert_lead *x, loop_cb done, void *ctx)
{
    x->closing = true;
    x->done = done;
    x->done_ctx = ctx;
    lease_close(x->lease, on_lease_closed, x);
}
