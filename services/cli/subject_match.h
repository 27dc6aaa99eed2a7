/* subject_match.h - which subjects a pattern of NATS covers. Pure. */
#ifndef REDOUBT_CLI_SUBJECT_MATCH_H
#define REDOUBT_CLI_SUBJECT_MATCH_H

#include <stdbool.h>

/* Every subject that `other` (a subject or a pattern) stands for is covered by `pattern`. */
bool subject_covers(const char *pattern, const char *other);
/* Some subject is covered by both patterns. */
bool subject_overlaps(const char *a, const char *b);

#endif
