/* jsonpath.h - one value out of a JSON document, by a singular query of RFC 9535: $.db.nodes[0]['state'], [-1] = the last.
 *
 * No wildcards, slices, filters or descendants: a path finds one value or none. Pure. */
#ifndef REDOUBT_JSONPATH_H
#define REDOUBT_JSONPATH_H

#include "common/err.h"
#include <jansson.h>
#include <stdbool.h>

#define JSONPATH_TEXT_MAX  512
#define JSONPATH_STEPS_MAX 64

struct jsonpath;

/* NULL, and the reason with its place in the path. */
struct jsonpath *jsonpath_compile(const char *text, struct err *e);
/* The value, which belongs to the document; NULL = there is none. */
const json_t *jsonpath_find(const struct jsonpath *p, const json_t *document);
void jsonpath_free(struct jsonpath *p); /* NULL is fine */

/* A value as text, malloc'ed: a string as it is, numbers in their shortest form, true, false, null, the rest as compact JSON. NULL:
 * memory is out. */
char *jsonpath_text(const json_t *value);
/* Is the value what the text says? Numbers are compared as numbers: 3, 3.0 and 3e0 are the same. */
bool jsonpath_equals(const json_t *value, const char *text);

#endif
