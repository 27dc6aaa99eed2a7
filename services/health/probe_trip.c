/* probe_trip.c - what the probes of the suite's own bus and store share: one question on a connection that is open anyway. */
#include "health/probe_trip.h"
#include "common/clock.h"
#include <stdlib.h>

void probe_trip_hold(struct probe_trip *t)
{
    t->holds++;
}

static void on_limit_closed(void *ctx)
{
    free(ctx);
}

void probe_trip_drop(struct probe_trip *t)
{
    if (--t->holds == 0)
        loop_timer_close(&t->limit, on_limit_closed);
}

void probe_trip_tell(struct probe_trip *t, int fault, const char *detail)
{
    if (t->told)
        return;
    struct health_result r = {.probe = (uint8_t)t->kind,
                              .fault = (uint8_t)(t->cancelled ? HEALTH_FAULT_CANCELLED : fault),
                              .total_ms = (uint32_t)(clock_mono_ms() - t->began_ms)};
    health_detail(&r, "%s", detail);
    t->told = true;
    loop_timer_stop(&t->limit);
    t->done(t->ctx, &r);
    probe_trip_drop(t);
}

static void on_limit(void *ctx)
{
    probe_trip_tell(ctx, HEALTH_FAULT_TIMEOUT, "no answer in time");
}

static void on_turn(void *ctx)
{
    struct probe_trip *t = ctx;
    if (t->cancelled || !t->conf->set) {
        t->cancelled = true;
        probe_trip_tell(t, HEALTH_FAULT_CANCELLED, "");
    } else if (!t->told) {
        t->began_ms = clock_mono_ms();
        loop_timer_start(&t->limit, t->conf->set->timeout_ms, 0);
        t->go(t);
    }
    probe_trip_drop(t);
}

static void on_cancelled(void *ctx)
{
    struct probe_trip *t = ctx;
    probe_trip_tell(t, HEALTH_FAULT_CANCELLED, "");
    probe_trip_drop(t);
}

void *probe_trip_start(int kind, void (*go)(struct probe_trip *t), const struct health_probe_env *env,
                       struct health_probe_conf *conf, health_probe_done done, void *ctx)
{
    struct probe_trip *t = malloc(sizeof *t);
    if (!t)
        return NULL;
    *t = (struct probe_trip){.env = *env,
                             .conf = conf,
                             .done = done,
                             .ctx = ctx,
                             .go = go,
                             .began_ms = clock_mono_ms(),
                             .kind = kind,
                             .holds = 2}; /* until it is told, and until the first turn */
    loop_timer_init(env->loop, &t->limit, on_limit, t);
    loop_defer(env->loop, on_turn, t);
    return t;
}

void probe_trip_cancel(void *run)
{
    struct probe_trip *t = run;
    if (t->cancelled)
        return;
    t->cancelled = true;
    probe_trip_hold(t);
    loop_defer(t->env.loop, on_cancelled, t);
}
