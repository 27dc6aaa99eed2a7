/* alert_deadman.c - one test at a time, each with an end; people hear of the first that fails and of the first that passes again. */
#include "alert/alert_deadman.h"

struct out {
    enum alert_deadman_effect *effects;
    size_t n;
};

static void put(struct out *o, enum alert_deadman_effect e)
{
    o->effects[o->n++] = e;
}

static void fail(struct alert_deadman *d, struct out *o)
{
    d->state = ALERT_DEADMAN_REST;
    put(o, ALERT_DEADMAN_FAILED);
    if (!d->failing)
        put(o, ALERT_DEADMAN_RAISE);
    d->failing = true;
}

static void pass(struct alert_deadman *d, struct out *o)
{
    d->state = ALERT_DEADMAN_REST;
    put(o, ALERT_DEADMAN_PASSED);
    if (d->failing)
        put(o, ALERT_DEADMAN_RESOLVE);
    d->failing = false;
}

static void tick(struct alert_deadman *d, const struct alert_deadman_event *ev, int64_t now_ms, struct out *o)
{
    if (!ev->on) { /* whoever leads now begins anew; a receipt of ours that is still to come is nobody's */
        d->state = ALERT_DEADMAN_REST;
        d->next_ms = now_ms;
        return;
    }
    if (d->state == ALERT_DEADMAN_TESTING && now_ms >= d->next_ms)
        fail(d, o);
    if (d->state == ALERT_DEADMAN_TESTING || now_ms < d->next_ms)
        return;
    d->state = ALERT_DEADMAN_TESTING;
    d->run++;
    d->since_ms = now_ms;
    d->next_ms = now_ms + ev->every_ms;
    put(o, ALERT_DEADMAN_TEST);
}

size_t alert_deadman_decide(struct alert_deadman *d, const struct alert_deadman_event *ev, int64_t now_ms,
                            enum alert_deadman_effect out[static ALERT_DEADMAN_EFFECTS_MAX])
{
    struct out o = {out, 0};
    bool ours = d->state == ALERT_DEADMAN_TESTING && ev->run == d->run;
    switch (ev->kind) {
    case ALERT_DEADMAN_TICK:
        tick(d, ev, now_ms, &o);
        break;
    case ALERT_DEADMAN_ACCEPTED:
        if (ours)
            pass(d, &o);
        break;
    case ALERT_DEADMAN_REFUSED:
        if (ours)
            fail(d, &o);
        break;
    case ALERT_DEADMAN_HEARD:
        d->failing = !ev->ok;
        break;
    }
    return o.n;
}

int64_t alert_deadman_due(const struct alert_deadman *d)
{
    return d->next_ms;
}
