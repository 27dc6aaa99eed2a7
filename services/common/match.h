/* match.h - patterns (PCRE2) with a limit on what one match may cost: a pathological pattern ends as a result, never as a hang.
 *
 * A pattern is compiled once and may then be matched any number of times, by one thread at a time. The limit of steps grows with the
 * subject, so that long texts are read to their end and short ones cannot be made to take long. */
#ifndef REDOUBT_MATCH_H
#define REDOUBT_MATCH_H

#include "common/err.h"
#include <stdbool.h>
#include <stddef.h>

#define MATCH_PATTERN_MAX 4096
#define MATCH_SUBJECT_MAX (1 << 20) /* bytes; of a longer subject only these are looked at */

struct match;

enum match_mode {
    MATCH_TEXT,  /* UTF-8; bytes of the subject that are none match nothing, and do no harm */
    MATCH_BYTES, /* every byte is a character: \xff is the byte 0xff */
    MATCH_WHOLE, /* as TEXT, and the pattern fits the whole subject or not at all */
};

enum match_result {
    MATCH_NO,
    MATCH_YES,
    MATCH_LIMIT, /* it would have cost more than a match may: steps, depth or memory */
};

/* NULL, and the reason with its place in the pattern. */
struct match *match_compile(const char *pattern, enum match_mode mode, struct err *e);
enum match_result match_run(struct match *m, const char *subject, size_t len);
/* "no match", or which limit was hit, for the detail of a result: of the last match_run(). */
const char *match_why(const struct match *m);
void match_free(struct match *m); /* NULL is fine */

#endif
