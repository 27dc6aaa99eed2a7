/* probe_store.c - a round trip to Redis: PING. While it fails, no verdict can be announced: this one waits with the others, and is
 * seen meanwhile in `show` and in the log. */
#include "health/probe_trip.h"
#include <string.h>

static void on_pong(void *ctx, enum store_status st, const redisReply *reply)
{
    struct probe_trip *t = ctx;
    switch (st) {
    case STORE_OK:
        probe_trip_tell(t, HEALTH_FAULT_NONE, "");
        break;
    case STORE_DOWN:
        probe_trip_tell(t, HEALTH_FAULT_CONNECT, "not connected");
        break;
    case STORE_UNKNOWN:
        probe_trip_tell(t, HEALTH_FAULT_TIMEOUT, "no answer in time");
        break;
    case STORE_ERROR: /* LOADING, MASTERDOWN, NOAUTH, ... */
        probe_trip_tell(t,
                        strncmp(reply->str, "LOADING", 7) == 0 || strncmp(reply->str, "BUSY", 4) == 0
                            ? HEALTH_FAULT_OVERLOAD
                        : strncmp(reply->str, "NO", 2) == 0 ? HEALTH_FAULT_AUTH
                                                            : HEALTH_FAULT_STATUS,
                        reply->str);
        break;
    case STORE_CLOSED:
        probe_trip_tell(t, HEALTH_FAULT_CANCELLED, "");
        break;
    }
    probe_trip_drop(t);
}

static void go(struct probe_trip *t)
{
    static const char *const ping[] = {"PING"};
    if (!store_up(t->env.store)) {
        const char *why = store_last_error(t->env.store);
        probe_trip_tell(t, HEALTH_FAULT_CONNECT, *why ? why : "not connected");
        return;
    }
    probe_trip_hold(t);
    store_cmd(t->env.store, on_pong, t, 1, ping, NULL);
}

static void *start(const struct health_probe_env *env, struct health_probe_conf *conf, health_probe_done done,
                   void *ctx)
{
    return probe_trip_start(HEALTH_PROBE_STORE, go, env, conf, done, ctx);
}

const struct health_probe health_probe_store = {
    .kind = HEALTH_PROBE_STORE, .local = true, .start = start, .cancel = probe_trip_cancel};
