/* ping.h - what `redoubt ping` reads: who to ask, and what came back. No I/O. */
#ifndef REDOUBT_CLI_PING_H
#define REDOUBT_CLI_PING_H

#include "common/subjects.h"
#include <stddef.h>
#include <stdint.h>

struct ping_answer {
    char name[NAME_MAX_LEN + 16]; /* redoubt-breaker */
    char id[NAME_MAX_LEN];        /* its instance */
    char version[32];
    int64_t us; /* round trip */
};
/* An answer to $SRV.PING. 0, or -1: not of the suite, or nonsense. */
int ping_read(const void *data, size_t len, struct ping_answer *ret);

/* Subject of the replica that the first line of $REDOUBT_INSTANCE_FILE names ("redoubt-breaker.redoubt-breaker-0"). 0, or -1: it is no such
 * line. */
int ping_subject_of(const char *line, char ret[static SUBJECT_MAX_LEN]);
/* Of all, of a service ("breaker"), or of one of its replicas; NULL = any. 0, or -1: that cannot be a name. */
int ping_subject(const char *service, const char *instance, char ret[static SUBJECT_MAX_LEN]);

#endif
