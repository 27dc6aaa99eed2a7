/* sha256.c - SHA-256 of bytes and of files, in hexadecimal. */
#include "common/sha256.h"
#include <errno.h>
#include <fcntl.h>
#include <sodium.h>
#include <unistd.h>

#define PIECE 16384

void sha256_text(const void *data, size_t len, char ret[static SHA256_TEXT])
{
    unsigned char raw[crypto_hash_sha256_BYTES];
    static const unsigned char nothing;
    crypto_hash_sha256(raw, len ? data : &nothing, len);
    sodium_bin2hex(ret, SHA256_TEXT, raw, sizeof raw);
}

bool sha256_file(const char *path, char ret[static SHA256_TEXT])
{
    unsigned char raw[crypto_hash_sha256_BYTES], piece[PIECE];
    crypto_hash_sha256_state s;
    ssize_t n = -1;
    ret[0] = '\0';
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd < 0)
        return false;
    crypto_hash_sha256_init(&s);
    while ((n = read(fd, piece, sizeof piece)) > 0 || (n < 0 && errno == EINTR))
        if (n > 0)
            crypto_hash_sha256_update(&s, piece, (unsigned long long)n);
    int why = errno;
    (void)close(fd);
    errno = why;
    if (n < 0)
        return false;
    crypto_hash_sha256_final(&s, raw);
    sodium_bin2hex(ret, SHA256_TEXT, raw, sizeof raw);
    return true;
}
