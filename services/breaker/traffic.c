/* traffic.c - sums of real calls; see traffic.h. */
#include "breaker/traffic.h"

#define SPAN_MAX_MS 3600000 /* by the contract */

static void add32(uint32_t *a, uint32_t b)
{
    if (__builtin_add_overflow(*a, b, a))
        *a = UINT32_MAX;
}

void breaker_traffic_add(struct breaker_traffic *t, const struct breaker_call *c, int64_t now_ms)
{
    if (c->class == BREAKER_CALL_IGNORED)
        return;
    if (t->calls == 0)
        t->since_ms = now_ms;
    add32(&t->calls, 1);
    add32(&t->failures, c->class == BREAKER_CALL_FAILED);
    add32(&t->slow, c->slow);
}

bool breaker_traffic_due(const struct breaker_traffic *t, int64_t now_ms)
{
    if (t->calls == 0)
        return false;
    return !t->said || now_ms - t->said_ms >= BREAKER_TRAFFIC_EVERY_MS || (t->failures > 0 && !t->said_bad);
}

struct breaker_traffic_summary breaker_traffic_take(struct breaker_traffic *t, int64_t now_ms)
{
    int64_t span_ms = now_ms - t->since_ms;
    struct breaker_traffic_summary s = {.span_ms = span_ms > SPAN_MAX_MS ? SPAN_MAX_MS : (uint32_t)span_ms,
                                        .calls = t->calls,
                                        .failures = t->failures,
                                        .slow = t->slow};
    *t = (struct breaker_traffic){.said = true, .said_bad = t->failures > 0, .said_ms = now_ms};
    return s;
}
