/* health_paid.c - probes that cost money: once per interval in the whole cluster, and not at all while real calls prove the target well.
 *
 * Before each one a key in Redis says that it is made now; whoever finds another's key that is younger than its own pace leaves the probe
 * out. So a change of owners, or two that both think that they are, costs nothing twice. */
#include "common/clock.h"
#include "common/log.h"
#include "common/metric.h"
#include "health/health_shell.h"
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

METRIC_DEFINE(spared, METRIC_COUNTER, "redoubt_probes_spared_total",
              "Paid probes that were left out because real calls prove the target well.");
METRIC_DEFINE(taken, METRIC_COUNTER, "redoubt_probes_paid_elsewhere_total",
              "Paid probes that were left out because another replica has just made one.");

/* KEYS: the target's key. ARGV: who, lifetime in ms, how old another's must be. Its value is "lifetime who". Answer: 1 = go. */
static struct store_script paid_script = {
    .name = "health paid",
    .body = "local v = redis.call('GET', KEYS[1])\n"
            "if v then\n"
            "  local px, who = string.match(v, '^(%d+) (.+)$')\n"
            "  if px and who ~= ARGV[1] and px - redis.call('PTTL', KEYS[1]) < tonumber(ARGV[3]) then return 0 end\n"
            "end\n"
            "redis.call('SET', KEYS[1], ARGV[2] .. ' ' .. ARGV[1], 'PX', ARGV[2])\n"
            "return 1\n",
};

static void on_asked(void *ctx, enum store_status st, const redisReply *reply)
{
    struct health_watch *t = ctx;
    struct health_watcher *w = t->w;
    t->asking = false;
    /* Without an answer nobody knows; the first of the ranking, which we are, makes the probe. */
    if (st == STORE_OK && reply->type == REDIS_REPLY_INTEGER && reply->integer == 0)
        metric_add(&taken, 1);
    else if (!t->gone && !w->draining && t->probe && health_probes(t))
        health_run_launch(t);
    health_kept(w);
}

bool health_paid_may(struct health_watch *t, bool fast)
{
    struct health_watcher *w = t->w;
    if (!health_owns(t))
        return true; /* for the owner who asks, as another vantage point, or to see whether our own link is well: no key of the owner's */
    if (t->traffic && !fast && t->verdict.state == HEALTH_HEALTHY &&
        health_traffic_spares(t->traffic, t->pace.interval_ms, clock_mono_ms())) {
        metric_add(&spared, 1);
        return false;
    }
    if (t->traffic && fast)
        t->traffic->spared = 0;
    if (!w->store_up)
        return true;
    char key[HEALTH_KEY_MAX], px[24];
    snprintf(key, sizeof key, "redoubt:{h:%s}:paid", t->name);
    snprintf(px, sizeof px, "%" PRId64, (fast ? t->pace.fast_ms : t->pace.interval_ms) * 9 / 10);
    const char *keys[] = {key}, *args[] = {w->s->instance, px, px};
    t->asking = true;
    health_promise(w);
    store_eval(w->s->store, &paid_script, on_asked, t, 1, keys, 3, args, NULL);
    return false;
}

void health_on_traffic(struct service *s, const void *message, const struct bus_msg *m)
{
    struct health_watcher *w = health_watcher_of(s);
    const PB(TrafficSummary) *x = message;
    const char *tail = subject_tail(m->subject, SUBJECT_TRAFFIC);
    if (!tail || strcmp(tail, x->target) != 0 || x->failures > x->calls || x->slow > x->calls) {
        service_bad_input(s, "traffic", m, "its target is not the subject's, or its counts contradict each other");
        return;
    }
    struct health_watch *t = health_find(w, x->target);
    if (!t || !t->probe || !t->probe->paid)
        return;
    if (!t->traffic && !(t->traffic = calloc(1, sizeof *t->traffic)))
        return; /* out of memory: nothing is spared */
    int64_t now = clock_mono_ms();
    if (health_traffic_take(t->traffic, x->calls, x->failures, x->slow, now) && health_owns(t) &&
        health_traffic_asks(t->traffic, t->pace.interval_ms, now))
        health_run_now(t);
}
