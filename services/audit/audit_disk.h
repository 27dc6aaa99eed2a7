/* audit_disk.h - how the trail writes to a disk: every change that a crash could cut short goes through here. */
#ifndef REDOUBT_AUDIT_DISK_H
#define REDOUBT_AUDIT_DISK_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

/* As the system calls of these names: -1 and errno. `dir` and `file` are descriptors. */
struct audit_disk {
    int (*create)(int dir, const char *name, bool exclusive, mode_t mode); /* truncates unless exclusive */
    ssize_t (*write)(int file, const void *data, size_t len, off_t at);
    int (*truncate)(int file, off_t len);
    int (*sync)(int file);
    int (*rename)(int from_dir, const char *from, int to_dir, const char *to);
    int (*unlink)(int dir, const char *name);
    int (*make_dir)(int dir, const char *name, mode_t mode);
    int (*sync_dir)(int dir);
};
extern const struct audit_disk audit_disk_real;

/* All of it, or -1. */
int audit_disk_write_all(const struct audit_disk *d, int file, const void *data, size_t len, off_t at);
/* The file's new contents, durable when this returns; there is the old or the new file at any moment. */
int audit_disk_replace(const struct audit_disk *d, int dir, const char *name, const void *data, size_t len,
                       mode_t mode);

#endif
