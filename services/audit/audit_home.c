/* audit_home.c - what a trail's directories elsewhere are called. */
#include "audit/audit_home.h"
#include "audit/audit_disk.h"
#include "audit/audit_verify.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* A name is one level of a path, and no way out of it. */
static bool is_name(const char *text, size_t len)
{
    static const char allowed[] = "abcdefghijklmnopqrstuvwxyz0123456789-_";
    return len > 0 && len < AUDIT_HOME_MAX && strspn(text, allowed) == len;
}

/* 1 = read, 0 = there is none, -1 = it is no name (text in e). */
static int read_name(const char *dir, char ret[static AUDIT_HOME_MAX], struct err *e)
{
    char path[600];
    size_t n = 0;
    snprintf(path, sizeof path, "%.500s/" AUDIT_HOME_FILE, dir);
    if (access(path, F_OK))
        return 0;
    char *text = (char *)audit_read_file(dir, AUDIT_HOME_FILE, AUDIT_HOME_MAX, &n, e);
    if (!text)
        return -1;
    char copy[AUDIT_HOME_MAX + 1];
    snprintf(copy, sizeof copy, "%.*s", (int)n, text);
    free(text);
    copy[strcspn(copy, "\n")] = 0;
    if (!is_name(copy, strlen(copy)))
        return err_set(e, "%s holds no name; write the one that this trail has in the mirror and in audit.second_dir",
                       path);
    memcpy(ret, copy, strlen(copy) + 1);
    return 1;
}

/* Versions before had no such file: the name was the replica's, with its host in it. A trail that went on in the second directory under another host's
 * name would look cut. */
static int check_second(const char *dir, const char *root, const char *instance, struct err *e)
{
    char path[700];
    snprintf(path, sizeof path, "%.500s/" AUDIT_CHECKPOINT_FILE, dir);
    bool begun = access(path, F_OK) == 0;
    snprintf(path, sizeof path, "%.500s/%s", root, instance);
    if (!begun || !*root || access(path, F_OK) == 0)
        return 0;
    const char *tail = strrchr(instance, '-'); /* the index */
    size_t n = tail ? strlen(tail) : 0;
    DIR *d = opendir(root);
    int rc = 0;
    for (struct dirent *f; n && d && !rc && (f = readdir(d));) {
        size_t len = strlen(f->d_name);
        if (len > n && strcmp(f->d_name + len - n, tail) == 0 && is_name(f->d_name, len))
            rc =
                err_set(e,
                        "a part of the trail in %s may be in %s/%s, written under another host name: write `%s` into "
                        "%s/" AUDIT_HOME_FILE " if it is, or create %s if it is not",
                        dir, root, f->d_name, f->d_name, dir, path);
    }
    if (d)
        closedir(d);
    return rc;
}

int audit_home_open(const char *dir, const char *second_root, const char *instance, char ret[static AUDIT_HOME_MAX],
                    struct err *e)
{
    int rc = read_name(dir, ret, e);
    if (rc)
        return rc > 0 ? 0 : -1;
    if (check_second(dir, second_root, instance, e))
        return -1;
    char line[AUDIT_HOME_MAX + 1];
    int n = snprintf(line, sizeof line, "%.63s\n", instance);
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    /* On a disk without room it is written at a later start: the name is the same as long as the host's is. */
    if (fd < 0 || (audit_disk_replace(&audit_disk_real, fd, AUDIT_HOME_FILE, line, (size_t)n, 0644) &&
                   errno != ENOSPC && errno != EDQUOT))
        rc = err_set(e, "cannot write %s/" AUDIT_HOME_FILE ": %s", dir, strerror(errno));
    if (fd >= 0)
        close(fd);
    snprintf(ret, AUDIT_HOME_MAX, "%s", instance);
    return rc;
}

void audit_home_of(const char *dir, int index, const char *instance, char ret[static AUDIT_HOME_MAX])
{
    struct err e;
    if (read_name(dir, ret, &e) > 0)
        return;
    const char *tail = strrchr(instance, '-');
    snprintf(ret, AUDIT_HOME_MAX, "%.*s-%d", tail ? (int)(tail - instance) : 0, instance, index);
}
