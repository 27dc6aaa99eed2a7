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
