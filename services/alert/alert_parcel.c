/* alert_parcel.c - when what waits goes out, and how. */
#include "alert/alert_parcel.h"
#include <stdio.h>
#include <string.h>

static const char *const reasons[ALERT_PARCEL_REASONS] = {[ALERT_PARCEL_GROUP] = "group",
                                                          [ALERT_PARCEL_QUIET] = "quiet",
                                                          [ALERT_PARCEL_OVERFLOW] = "overflow",
                                                          [ALERT_PARCEL_OWED] = "owed"};

const char *alert_parcel_reason_name(enum alert_parcel_reason r)
{
    return (unsigned)r < ALERT_PARCEL_REASONS ? reasons[r] : "?";
}

/* ---- names ---- */

/* Copies the token that s begins with; returns its length, 0 if there is none or it is too long. */
static size_t token(const char *s, char out[static ALERT_PARCEL_TOKEN_MAX + 1])
{
    size_t n = strspn(s, "abcdefghijklmnopqrstuvwxyz0123456789_-");
    if (n == 0 || n > ALERT_PARCEL_TOKEN_MAX)
        return 0;
    memcpy(out, s, n);
    out[n] = 0;
    return n;
}

int alert_parcel_name(struct alert_parcel_name *ret, enum alert_parcel_reason reason, const char *node,
                      const char *bucket)
{
    struct alert_parcel_name n = {.reason = reason};
    if ((unsigned)reason >= ALERT_PARCEL_REASONS)
        return -1;
    size_t a = token(node, n.node), b = token(bucket, n.bucket);
    if (a == 0 || node[a] || b == 0 || bucket[b])
        return -1;
    *ret = n;
    return 0;
}

const char *alert_parcel_subject(const struct alert_parcel_name *n, char buf[static SUBJECT_MAX_LEN])
{
    snprintf(buf, SUBJECT_MAX_LEN, SUBJECT_PARCEL "%s.%s.%s", reasons[n->reason], n->node, n->bucket);
    return buf;
}

int alert_parcel_parse(const char *subject, struct alert_parcel_name *ret)
{
    const char *at = subject_tail(subject, SUBJECT_PARCEL);
    for (int r = 0; at && r < ALERT_PARCEL_REASONS; r++) {
        size_t n = strlen(reasons[r]);
        if (strncmp(at, reasons[r], n) != 0 || at[n] != '.')
            continue;
        char node[ALERT_PARCEL_TOKEN_MAX + 1];
        size_t len = token(at + n + 1, node);
        const char *bucket = at + n + 1 + len;
        return len > 0 && *bucket == '.' ? alert_parcel_name(ret, (enum alert_parcel_reason)r, node, bucket + 1) : -1;
    }
    return -1;
}

/* ---- when ---- */

static int64_t later(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

static int64_t pause_ms(int fails)
{
    int64_t ms = ALERT_PARCEL_PAUSE_MS;
    while (--fails > 0 && ms < ALERT_PARCEL_PAUSE_MAX_MS)
        ms *= 2;
    return ms < ALERT_PARCEL_PAUSE_MAX_MS ? ms : ALERT_PARCEL_PAUSE_MAX_MS;
}

int64_t alert_parcel_due(const struct alert_parcel_clock *c, const struct alert_parcel_rule *r)
{
    if (c->quiet && c->reason == ALERT_PARCEL_QUIET)
        return INT64_MAX;
    if (c->back && (c->fails > 0 || c->reason == ALERT_PARCEL_OWED))
        return INT64_MIN;
    if (c->fails > 0)
        return c->tried_ms + pause_ms(c->fails);
    switch (c->reason) {
    case ALERT_PARCEL_GROUP:
        return c->flushed ? later(c->first_ms + r->group_wait_ms, c->flushed_ms + r->group_interval_ms)
                          : c->first_ms + r->group_wait_ms;
    case ALERT_PARCEL_QUIET:
        return INT64_MIN;
    case ALERT_PARCEL_OVERFLOW:
        if (c->critical) /* it goes as soon as there is room */
            return c->first_ms;
        return (c->flushed ? later(c->first_ms, c->flushed_ms) : c->first_ms) + r->digest_every_ms;
    case ALERT_PARCEL_OWED:
        return c->first_ms + ALERT_PARCEL_PAUSE_MS; /* all channels have just failed */
    }
    return INT64_MIN;
}

void alert_parcel_came(struct alert_parcel_clock *c, int64_t now_ms)
{
    c->first_ms = now_ms;
    c->back = false; /* that was before it was put by */
}

void alert_parcel_begun(struct alert_parcel_clock *c)
{
    c->back = false;
}

void alert_parcel_failed(struct alert_parcel_clock *c, int64_t now_ms)
{
    c->tried_ms = now_ms;
    if (c->fails < 1000)
        c->fails++;
}

void alert_parcel_told(struct alert_parcel_clock *c, bool more, int64_t now_ms)
{
    c->fails = 0;
    c->flushed = true;
    c->flushed_ms = now_ms;
    c->first_ms = now_ms;
    c->back = more; /* somebody accepts: what is owed goes on at once */
    if (!more)
        c->alone = 0;
}

void alert_parcel_back(struct alert_parcel_clock *c)
{
    c->back = true;
}

/* ---- how ---- */

size_t alert_parcel_singles(const struct alert_parcel_clock *c, size_t n)
{
    if (c->critical && c->alone < ALERT_PARCEL_ALONE_MAX) {
        size_t left = (size_t)(ALERT_PARCEL_ALONE_MAX - c->alone);
        return n < left ? n : left;
    }
    size_t few = c->critical || c->reason == ALERT_PARCEL_OWED ? ALERT_PARCEL_FEW : 1;
    return n <= few ? n : 0;
}
