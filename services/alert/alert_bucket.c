/* alert_bucket.c - how many messages a channel takes a minute. */
#include "alert/alert_bucket.h"

#define MINUTE_US INT64_C(60000000)

static int64_t later(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

/* Between two tokens. */
static int64_t every_us(const struct alert_bucket_rule *r)
{
    return r->per_min > 0 ? (MINUTE_US + r->per_min - 1) / r->per_min : 0;
}

int64_t alert_bucket_at(const struct alert_bucket *b, const struct alert_bucket_rule *r, int64_t ahead,
                        int64_t now_ms)
{
    int64_t from_ms = later(now_ms, b->hold_ms), every = every_us(r);
    if (every == 0)
        return from_ms;
    /* While it is held it fills up like in any other time. */
    int64_t full = later(b->full_us, from_ms * 1000), burst = r->burst > 1 ? r->burst : 1;
    int64_t at_us = full + (ahead - (burst - 1)) * every;
    return later(from_ms, (at_us + 999) / 1000);
}

void alert_bucket_take(struct alert_bucket *b, const struct alert_bucket_rule *r, int64_t now_ms)
{
    b->full_us = later(b->full_us, now_ms * 1000) + every_us(r);
}

void alert_bucket_hold(struct alert_bucket *b, int64_t until_ms)
{
    b->hold_ms = later(b->hold_ms, until_ms);
}
