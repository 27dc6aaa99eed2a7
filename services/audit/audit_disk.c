/* audit_disk.c - the real disk. */
#include "audit/audit_disk.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

static int real_create(int dir, const char *name, bool exclusive, mode_t mode)
{
    return openat(dir, name, O_RDWR | O_CREAT | (exclusive ? O_EXCL : O_TRUNC) | O_CLOEXEC | O_NOFOLLOW, mode);
}

static ssize_t real_write(int file, const void *data, size_t len, off_t at)
{
    return pwrite(file, data, len, at);
}

static int real_unlink(int dir, const char *name)
{
    return unlinkat(dir, name, 0);
}

const struct audit_disk audit_disk_real = {
    .create = real_create,
    .write = real_write,
    .truncate = ftruncate,
    .sync = fdatasync,
    .rename = renameat,
    .unlink = real_unlink,
    .make_dir = mkdirat,
    .sync_dir = fsync,
};

int audit_disk_write_all(const struct audit_disk *d, int file, const void *data, size_t len, off_t at)
{
    const unsigned char *p = data;
    while (len > 0) {
        ssize_t n = d->write(file, p, len, at);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return -1;
        p += n;
        at += n;
        len -= (size_t)n;
    }
    return 0;
}

int audit_disk_replace(const struct audit_disk *d, int dir, const char *name, const void *data, size_t len,
                       mode_t mode)
{
    char fresh[64];
    snprintf(fresh, sizeof fresh, "%s.tmp", name);
    int fd = d->create(dir, fresh, false, mode);
    if (fd < 0)
        return -1;
    int rc = audit_disk_write_all(d, fd, data, len, 0) || d->sync(fd);
    if (close(fd) || rc || d->rename(dir, fresh, dir, name) || d->sync_dir(dir)) {
        int saved = errno;
        (void)d->unlink(dir, fresh); /* a full disk has no room for leavings */
        errno = saved;
        return -1;
    }
    return 0;
}
