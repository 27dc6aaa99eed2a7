/* template.h - texts with {{names}} that are replaced by JSON values: bodies of calls to other people's APIs. Pure. */
#ifndef REDOUBT_TEMPLATE_H
#define REDOUBT_TEMPLATE_H

#include "common/err.h"
#include <jansson.h>
#include <stddef.h>

/* Replaces each {{name}} of `text` by the value that `values` (an object) has for it, as JSON: texts with their quotes, numbers and objects as they
 * are. Blanks inside the braces do not count. The result is malloc'ed; NULL if a name is unknown, braces are not closed, or the result is not JSON
 * (text in e, with what and where). An empty template gives "". */
char *template_fill(const char *text, const json_t *values, struct err *e);
/* The same for a check of settings, with made-up values for names (NULL-terminated). 0, or -1 with the text in e. */
int template_check(const char *text, const char *const *names, struct err *e);

#endif
