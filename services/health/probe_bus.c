/* probe_bus.c - a round trip to NATS: a question that this service itself answers, by way of the server. */
#include "health/probe_trip.h"

#define PING "$SRV.PING.redoubt-health"

static void on_pong(void *ctx, enum bus_status st, const struct bus_msg *m)
{
    struct probe_trip *t = ctx;
    (void)m;
    switch (st) {
    case BUS_OK:
    case BUS_NO_RESPONDERS: /* it is the server that says so: there and back */
        probe_trip_tell(t, HEALTH_FAULT_NONE, "");
        break;
    case BUS_TIMEOUT:
        probe_trip_tell(t, HEALTH_FAULT_TIMEOUT, "no answer in time");
        break;
    case BUS_REFUSED:
        probe_trip_tell(t, HEALTH_FAULT_AUTH, "refused by the server");
        break;
    case BUS_CLOSED:
        probe_trip_tell(t, HEALTH_FAULT_CANCELLED, "");
        break;
    }
    probe_trip_drop(t);
}

static void go(struct probe_trip *t)
{
    if (!bus_up(t->env.bus)) {
        probe_trip_tell(t, HEALTH_FAULT_CONNECT, "not connected");
        return;
    }
    const struct bus_out o = {.subject = PING, .data = "", .len = 0};
    probe_trip_hold(t);
    bus_request(t->env.bus, &o, t->conf->set->timeout_ms, on_pong, t);
}

static void *start(const struct health_probe_env *env, struct health_probe_conf *conf, health_probe_done done,
                   void *ctx)
{
    return probe_trip_start(HEALTH_PROBE_BUS, go, env, conf, done, ctx);
}

const struct health_probe health_probe_bus = {
    .kind = HEALTH_PROBE_BUS, .local = true, .start = start, .cancel = probe_trip_cancel};
