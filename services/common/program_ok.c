/* program_ok.c - may this program be run? Looks at it, and at every directory above it. */
#include "common/program.h"
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static bool trusted_owner(const struct stat *st)
{
    return st->st_uid == 0 || st->st_uid == geteuid();
}

/* In a directory with the sticky bit (/tmp) others cannot replace what is not theirs. */
static bool only_ours(const struct stat *st)
{
    bool shared = st->st_mode & (S_IWGRP | S_IWOTH);
    return trusted_owner(st) && (!shared || (S_ISDIR(st->st_mode) && (st->st_mode & S_ISVTX)));
}

static bool say(char *why, size_t size, const char *path, const char *what)
{
    snprintf(why, size, "%.180s is not run: %s", path, what);
    return false;
}

/* `path` and all that is above it. */
static bool way_ok(const char *path, char *why, size_t size)
{
    char at[PATH_MAX];
    struct stat st;
    if (snprintf(at, sizeof at, "%s", path) >= (int)sizeof at)
        return say(why, size, path, "its path is too long");
    for (;;) {
        if (stat(at, &st) != 0)
            return say(why, size, at, strerror(errno));
        if (!only_ours(&st))
            return say(why, size, at, "others than root and this service's user may write it");
        char *slash = strrchr(at, '/');
        if (!slash || !at[1])
            return true;
        slash[slash == at] = 0; /* "/a" becomes "/" */
    }
}

bool program_ok(const char *path, char *why, size_t size)
{
    char real[PATH_MAX];
    struct stat st;
    if (*path != '/')
        return say(why, size, path, "its path is not an absolute one");
    if (!realpath(path, real) || stat(real, &st) != 0)
        return say(why, size, path, strerror(errno));
    if (!S_ISREG(st.st_mode) || access(real, X_OK) != 0)
        return say(why, size, path, "it is not a program");
    /* By a link, both ways must be safe: to the link, and to what it names. */
    return way_ok(path, why, size) && way_ok(real, why, size);
}
