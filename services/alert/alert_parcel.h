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

#endif
