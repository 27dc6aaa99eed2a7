/* selftest.h - questions with one right decision: is an answer right. Pure. */
#ifndef REDOUBT_SELFTEST_H
#define REDOUBT_SELFTEST_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

/* True if every field of `expect` is in `answer` with the same value, however deep; numbers go by value (1 is 1.0), lists item by
 * item. If not, `why` names the first field that differs, what was expected and what came. */
bool selftest_same(const json_t *expect, const json_t *answer, char *why, size_t size);

#endif
