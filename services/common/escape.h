/* escape.h - bytes written in text: \r \n \t \\ and \xHH. */
#ifndef REDOUBT_ESCAPE_H
#define REDOUBT_ESCAPE_H

#include "common/err.h"
#include <stddef.h>

/* Writes at most strlen(text) bytes to `out` (NULL = only checked) and their number to *ret_len. 0, or -1 with what is wrong, where. */
int escape_decode(const char *text, char *out, size_t *ret_len, struct err *e);

#endif
