/* alert_bucket.h - how many messages a channel takes a minute: a token bucket with a pause, pure (GCRA: one number is the whole state). */
#ifndef REDOUBT_ALERT_BUCKET_H
#define REDOUBT_ALERT_BUCKET_H

#include <stdint.h>

struct alert_bucket_rule {
    int64_t per_min; /* 0 = no limit */
    int64_t burst;   /* so many at once; at least 1 */
};
struct alert_bucket {
    int64_t full_us; /* when it will be full again */
    int64_t hold_ms; /* nothing before: the channel has said so (Retry-After) */
};
/* When the (ahead + 1)th message from now may go: now_ms if at once. */
int64_t alert_bucket_at(const struct alert_bucket *b, const struct alert_bucket_rule *r, int64_t ahead,
                        int64_t now_ms);
/* One goes now, which alert_bucket_at() allows. */
void alert_bucket_take(struct alert_bucket *b, const struct alert_bucket_rule *r, int64_t now_ms);
/* Nothing goes before until_ms. An earlier time changes nothing: it only ever moves later. */
void alert_bucket_hold(struct alert_bucket *b, int64_t until_ms);

#endif
