/* alert_parcel.h - when what waits goes out, and how: the policy of parcels, pure. No I/O, no clock. */
#ifndef REDOUBT_ALERT_PARCEL_H
#define REDOUBT_ALERT_PARCEL_H

#include "common/subjects.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum alert_parcel_reason {
    ALERT_PARCEL_GROUP,    /* a route's group_by: group_wait after the first, then every group_interval */
    ALERT_PARCEL_QUIET,    /* quiet hours: when they are over */
    ALERT_PARCEL_OVERFLOW, /* more than the channel takes: every digest_every */
    ALERT_PARCEL_OWED,     /* no channel has accepted: when one works again; critical ones by themselves, first */
};
#define ALERT_PARCEL_REASONS (ALERT_PARCEL_OWED + 1)
const char *alert_parcel_reason_name(enum alert_parcel_reason r); /* "group", ... */

/* ---- the name of a bucket: what is in one goes out together ---- */

#define ALERT_PARCEL_TOKEN_MAX 96
#define ALERT_PARCEL_ALL       "all"
#define ALERT_PARCEL_CRITICAL                                                                                        \
    "critical" /* critical ones of OWED and OVERFLOW have their own: nobody looks for them among thousands */
struct alert_parcel_name {
    enum alert_parcel_reason reason;
    char node[ALERT_PARCEL_TOKEN_MAX + 1];
    char bucket[ALERT_PARCEL_TOKEN_MAX + 1];
};
/* 0; -1 = node or bucket is no token ([a-z0-9_-], 1 to ALERT_PARCEL_TOKEN_MAX). */
int alert_parcel_name(struct alert_parcel_name *ret, enum alert_parcel_reason reason, const char *node,
                      const char *bucket);
const char *alert_parcel_subject(const struct alert_parcel_name *n, char buf[static SUBJECT_MAX_LEN]);
int alert_parcel_parse(const char *subject, struct alert_parcel_name *ret); /* 0; -1 = it is no parcel's subject */

/* ---- when ---- */

#define ALERT_PARCEL_PAUSE_MS     5000 /* after nobody has accepted; doubles */
#define ALERT_PARCEL_PAUSE_MAX_MS 300000
struct alert_parcel_rule {
    int64_t group_wait_ms, group_interval_ms; /* of the bucket's route */
    int64_t digest_every_ms;
};
/* How a bucket stands. All times are of one clock. */
struct alert_parcel_clock {
    enum alert_parcel_reason reason;
    bool critical;      /* its bucket is ALERT_PARCEL_CRITICAL */
    int64_t first_ms;   /* since when something waits there */
    bool flushed;       /* it was told before: */
    int64_t flushed_ms; /* at this time, the last time */
    int fails;          /* how often nobody has accepted it since, */
    int64_t tried_ms;   /* at this time, the last time */
    bool back;          /* a channel works again */
    bool quiet;         /* the quiet hours in which it was put by are not over */
    int alone;          /* told one by one since it was last empty */
};
/* When it is to be told; INT64_MIN = now, INT64_MAX = not before quiet hours end. */
int64_t alert_parcel_due(const struct alert_parcel_clock *c, const struct alert_parcel_rule *r);
void alert_parcel_came(struct alert_parcel_clock *c, int64_t now_ms); /* something waits, and nothing did before */
void alert_parcel_begun(
    struct alert_parcel_clock *c); /* it is being told: a channel that comes back from now on is news */
void alert_parcel_failed(struct alert_parcel_clock *c, int64_t now_ms); /* nobody has accepted it */
void alert_parcel_told(struct alert_parcel_clock *c, bool more,
                       int64_t now_ms); /* more: than what was told waits there */
void alert_parcel_back(struct alert_parcel_clock *c);

/* ---- how ---- */

#define ALERT_PARCEL_FEW       3  /* owed ones that go out by themselves */
#define ALERT_PARCEL_ALONE_MAX 20 /* critical ones that do, before the rest of them becomes a digest */
/* How many go out by themselves, the oldest first, if n wait; 0 = all of them in one message. */
size_t alert_parcel_singles(const struct alert_parcel_clock *c, size_t n);
/* A digest that nobody accepts keeps what it holds, and its id, for so many attempts: a channel that has taken it unnoticed knows it again.
 * Then it is made anew, of all that waits by then. */
#define ALERT_PARCEL_KEPT_FAILS 6

#endif
