/* subject_match.h - which subjects a pattern of NATS covers, and which one a person means. Pure. */
#ifndef REDOUBT_CLI_SUBJECT_MATCH_H
#define REDOUBT_CLI_SUBJECT_MATCH_H

#include <stdbool.h>
#include <stddef.h>

/* Every subject that `other` (a subject or a pattern) stands for is covered by `pattern`. */
bool subject_covers(const char *pattern, const char *other);
/* Some subject is covered by both patterns. */
bool subject_overlaps(const char *a, const char *b);
/* The subject that a person means: `breaker` is redoubt.v1.breaker.>, `breaker.llm.a` is redoubt.v1.breaker.llm.a. */
void subject_meant(const char *given, char *buf, size_t size);

#endif
