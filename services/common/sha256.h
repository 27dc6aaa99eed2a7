/* sha256.h - SHA-256 of bytes and of files, in hexadecimal. */
#ifndef REDOUBT_SHA256_H
#define REDOUBT_SHA256_H

#include <stdbool.h>
#include <stddef.h>

#define SHA256_TEXT 65
void sha256_text(const void *data, size_t len, char ret[static SHA256_TEXT]);
/* False (errno says why) if it cannot be read; ret is then "". */
bool sha256_file(const char *path, char ret[static SHA256_TEXT]);

#endif
