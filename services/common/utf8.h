/* utf8.h - one code point at a time, strictly. */
#ifndef REDOUBT_UTF8_H
#define REDOUBT_UTF8_H

#include <stddef.h>
#include <stdint.h>

/* Length in bytes of the code point at s (1 to 4) with its value in *ret_code, or 0 if the bytes are not UTF-8: cut off,
 * over-long, a surrogate or beyond U+10FFFF. len must be at least 1. */
size_t utf8_next(const char *s, size_t len, uint32_t *ret_code);
/* Offset of the first byte that is not UTF-8, or len. */
size_t utf8_valid_until(const char *s, size_t len);

#endif
