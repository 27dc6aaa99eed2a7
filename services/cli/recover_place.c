/* recover_place.c - where restored things are put: never over something that is there. */
#include "cli/recover.h"
#include "common/clock.h"
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

int recover_parents(const char *path, struct err *e)
{
    char part[PATH_MAX];
    if (snprintf(part, sizeof part, "%s", path) >= (int)sizeof part)
        return err_set(e, "the path %.200s is too long", path);
    for (char *slash = strchr(part + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        if (mkdir(part, 0755) && errno != EEXIST)
            return err_set(e, "cannot make %.300s: %s", part, strerror(errno));
        *slash = '/';
    }
    return 0;
}

void recover_beside(const char *to, char *buf, size_t size)
{
    const char *slash = strrchr(to, '/');
    snprintf(buf, size, "%.*s/" RECOVER_SCRATCH, slash ? (int)(slash - to) : 1, slash ? to : ".");
}

/* A missing place, or an empty directory. */
static bool is_free(const char *to, struct stat *st)
{
    return lstat(to, st) != 0 ? errno == ENOENT : S_ISDIR(st->st_mode) && tree_is_empty(to);
}

int recover_free(const char *to, bool force, struct err *e)
{
    struct stat st;
    if (is_free(to, &st) || force)
        return 0;
    return err_set(e, "%.300s is there already: nothing was changed. Move it away, or let --force move it aside", to);
}

int recover_place(const char *from, const char *to, bool force, char *note, size_t size, struct err *e)
{
    char aside[PATH_MAX];
    struct stat st;
    *note = '\0';
    if (recover_free(to, force, e) || recover_parents(to, e))
        return -1;
    if (!is_free(to, &st)) {
        if (snprintf(aside, sizeof aside, "%s.before-%" PRId64, to, clock_wall_ms()) >= (int)sizeof aside ||
            rename(to, aside))
            return err_set(e, "cannot move %.300s aside: %s", to, strerror(errno));
        snprintf(note, size, "; what was there is %.300s", aside);
    } else if (lstat(to, &st) == 0 && rmdir(to)) {
        return err_set(e, "cannot replace the empty %.300s: %s", to, strerror(errno));
    }
    return rename(from, to) ? err_set(e, "cannot move %.200s to %.200s: %s", from, to, strerror(errno)) : 0;
}
