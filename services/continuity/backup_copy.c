/* backup_copy.c - files of copies: their hash, and how a small one is written so that it is whole or not there. */
#include "continuity/backup_copy.h"
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <openssl/evp.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

int backup_copy_hash(const char *path, const atomic_bool *stop, char hex[static 65], uint64_t *ret_bytes,
                     struct err *e)
{
    unsigned char buf[65536], hash[EVP_MAX_MD_SIZE];
    unsigned len = 0;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0)
        return err_set(e, "cannot read %.300s: %s", path, strerror(errno));
    EVP_MD_CTX *md = EVP_MD_CTX_new();
    bool good = md && EVP_DigestInit_ex(md, EVP_sha256(), NULL);
    ssize_t n = 0;
    *ret_bytes = 0;
    bool stopped = false;
    while (good && !(stopped = stop && atomic_load(stop)) && (n = read(fd, buf, sizeof buf)) > 0) {
        *ret_bytes += (uint64_t)n;
        good = EVP_DigestUpdate(md, buf, (size_t)n);
    }
    int failed = errno;
    good = good && EVP_DigestFinal_ex(md, hash, &len) && len == 32;
    EVP_MD_CTX_free(md);
    close(fd);
    if (stopped)
        return err_set(e, "broken off while %.300s was read", path);
    if (n < 0)
        return err_set(e, "cannot read %.300s: %s", path, strerror(failed));
    if (!good)
        return err_set(e, "cannot hash %.300s: the library says no", path);
    sodium_bin2hex(hex, 65, hash, 32);
    return 0;
}

int backup_copy_write(const char *dir, const char *name, const void *data, size_t len, struct err *e)
{
    char path[PATH_MAX], beside[PATH_MAX];
    if (snprintf(path, sizeof path, "%s/%s", dir, name) >= (int)sizeof path ||
        snprintf(beside, sizeof beside, "%s/.%s.new", dir, name) >= (int)sizeof beside)
        return err_set(e, "the path of %.200s is too long", name);
    int fd = open(beside, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
    bool good = fd >= 0;
    for (size_t done = 0; good && done < len;) {
        ssize_t n = write(fd, (const char *)data + done, len - done);
        if (n > 0)
            done += (size_t)n;
        else
            good = n < 0 && errno == EINTR;
    }
    good = good && fsync(fd) == 0;
    int failed = errno;
    if (fd >= 0 && close(fd) && good) {
        failed = errno;
        good = false;
    }
    if (good && rename(beside, path)) {
        failed = errno;
        good = false;
    }
    if (good)
        return 0;
    unlink(beside);
    return err_set(e, "cannot write %.300s: %s", path, strerror(failed));
}
