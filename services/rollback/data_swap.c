/* data_swap.c - a restored directory takes the place of the present one, which is kept beside it. */
#include "rollback/data_swap.h"
#include "common/tree.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#define BASE_MAX 100 /* bytes of the directory's own name that are taken into others */

/* ---- names ---- */

static bool is_mount_point(const char *path)
{
    struct statx x;
    return statx(AT_FDCWD, path, AT_SYMLINK_NOFOLLOW, STATX_BASIC_STATS, &x) == 0 &&
           (x.stx_attributes_mask & STATX_ATTR_MOUNT_ROOT) && (x.stx_attributes & STATX_ATTR_MOUNT_ROOT);
}

int swap_init(struct swap *s, const char *path, const char *tag, struct err *e)
{
    char dir[PATH_MAX];
    snprintf(dir, sizeof dir, "%s", path);
    char *slash = strrchr(dir, '/');
    if (slash)
        slash[slash == dir] = '\0';
    return swap_init_as(s, path, tag, is_mount_point(path) || access(dir, W_OK | X_OK) != 0, e);
}

int swap_init_as(struct swap *s, const char *path, const char *tag, bool inside, struct err *e)
{
    *s = (struct swap){0};
    const char *slash = strrchr(path, '/');
    size_t len = strlen(path);
    if (!slash || !slash[1] || len + SWAP_TAG + 64 > PATH_MAX || strlen(tag) >= SWAP_TAG)
        return err_set(e, "%.300s cannot be replaced: its path is too long, or the top of all", path);
    memcpy(s->path, path, len + 1);
    memcpy(s->dir, path, len + 1);
    s->dir[slash == path ? 1 : slash - path] = '\0';
    s->inside = inside;
    if (s->inside) {
        memcpy(s->dir, path, len + 1);
        snprintf(s->fresh, sizeof s->fresh, TREE_OURS "new-%s", tag);
        snprintf(s->moving, sizeof s->moving, TREE_OURS "in-%s", tag);
        snprintf(s->part, sizeof s->part, "%.3900s/" TREE_OURS "part-%s", s->dir, tag);
        snprintf(s->replaced, sizeof s->replaced, "%.3900s/" TREE_OURS "replaced-%s", s->dir, tag);
        return 0;
    }
    const char *between = s->dir[1] ? "/" : "";
    snprintf(s->fresh, sizeof s->fresh, TREE_OURS "new-%.*s-%s-", BASE_MAX, slash + 1, tag);
    snprintf(s->part, sizeof s->part, "%.3800s%s" TREE_OURS "part-%.*s-%s", s->dir, between, BASE_MAX, slash + 1,
             tag);
    snprintf(s->replaced, sizeof s->replaced, "%.3800s%s%.*s.replaced-%s", s->dir, between, BASE_MAX, slash + 1, tag);
    return 0;
}

static bool there(const char *path)
{
    struct stat st;
    return lstat(path, &st) == 0;
}

static void join(char *buf, const char *dir, const char *name)
{
    snprintf(buf, PATH_MAX, "%.3800s%s%.255s", dir, dir[1] ? "/" : "", name);
}

/* The entry of dir that begins with the name of a fresh tree; its inode as the name says. */
static bool find_fresh(const struct swap *s, char *buf, uint64_t *ret_ino)
{
    DIR *d = opendir(s->dir);
    struct dirent *x;
    size_t n = strlen(s->fresh);
    bool found = false;
    while (d && !found && (x = readdir(d))) {
        char *end;
        if (strncmp(x->d_name, s->fresh, n) != 0 || !x->d_name[n])
            continue;
        *ret_ino = strtoull(x->d_name + n, &end, 10);
        found = *end == '\0';
        if (found)
            join(buf, s->dir, x->d_name);
    }
    if (d)
        closedir(d);
    return found;
}

enum swap_state swap_state(const struct swap *s, char *buf)
{
    uint64_t ino = 0;
    struct stat st;
    *buf = '\0';
    if (s->inside) {
        char moving[PATH_MAX];
        join(moving, s->dir, s->moving);
        join(buf, s->dir, s->fresh);
        if (there(buf))
            return SWAP_STAGED;
        *buf = '\0';
        return there(moving) ? SWAP_STAGED : there(s->replaced) ? SWAP_DONE : SWAP_NOTHING;
    }
    if (!find_fresh(s, buf, &ino))
        return there(s->replaced) ? SWAP_DONE : SWAP_NOTHING;
    if (lstat(buf, &st) != 0 || st.st_ino != ino)
        *buf = '\0';
    return SWAP_STAGED;
}

/* ---- changes ---- */

static void step(const struct swap *s)
{
    if (s->step)
        s->step(s->ctx);
}

static int move(const struct swap *s, const char *from, const char *to, unsigned flags, struct err *e)
{
    if (renameat2(AT_FDCWD, from, AT_FDCWD, to, flags) != 0)
        return err_set(e, "%.200s cannot be moved to %.200s: %s", from, to, strerror(errno));
    step(s);
    return 0;
}

static int sync_dir(const char *path, struct err *e)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int bad = fd < 0 || fsync(fd) != 0 ? err_set(e, "%.300s cannot be written: %s", path, strerror(errno)) : 0;
    if (fd >= 0)
        close(fd);
    return bad;
}

/* What was restored is on the disk before its name says that it is whole. */
static int sync_all(const char *path, struct err *e)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int bad = fd < 0 || syncfs(fd) != 0 ? err_set(e, "%.300s cannot be written: %s", path, strerror(errno)) : 0;
    if (fd >= 0)
        close(fd);
    return bad;
}

int swap_begin(const struct swap *s, struct err *e)
{
    if (mkdir(s->path, 0700) != 0 && errno != EEXIST)
        return err_set(e, "%.300s cannot be made: %s", s->path, strerror(errno));
    if (tree_remove(s->part, false, e))
        return -1;
    if (mkdir(s->part, 0700) != 0)
        return err_set(e, "%.300s cannot be made: %s", s->part, strerror(errno));
    return 0;
}

int swap_stage(const struct swap *s, const char *tree, struct err *e)
{
    char to[PATH_MAX], name[NAME_MAX + 32];
    struct stat st;
    if (lstat(tree, &st) != 0 || !S_ISDIR(st.st_mode))
        return err_set(e, "%.300s is not a directory", tree);
    if (s->inside)
        snprintf(name, sizeof name, "%s", s->fresh);
    else
        snprintf(name, sizeof name, "%s%" PRIu64, s->fresh, (uint64_t)st.st_ino);
    join(to, s->dir, name);
    /* A name that was left of a tree with the same inode cannot be: the inode is in use. */
    if (sync_all(s->part, e) || move(s, tree, to, RENAME_NOREPLACE, e) || sync_dir(s->dir, e))
        return -1;
    return 0;
}

/* Beside: the two change places at once where the file system can, so that nobody ever finds nothing. */
static int finish_beside(const struct swap *s, struct err *e)
{
    char fresh[PATH_MAX];
    uint64_t ino = 0;
    struct stat st;
    if (!find_fresh(s, fresh, &ino))
        return 0;
    if (lstat(fresh, &st) != 0)
        return err_set(e, "%.300s: %s", fresh, strerror(errno));
    if (st.st_ino == ino && there(s->path)) {
        if (!s->plain && renameat2(AT_FDCWD, fresh, AT_FDCWD, s->path, RENAME_EXCHANGE) == 0) {
            step(s);
            return sync_dir(s->dir, e) ? -1 : move(s, fresh, s->replaced, RENAME_NOREPLACE, e);
        }
        if (!s->plain && errno != EINVAL && errno != ENOSYS)
            return err_set(e, "%.200s and %.200s cannot change places: %s", fresh, s->path, strerror(errno));
        if (move(s, s->path, s->replaced, 0, e))
            return -1;
    }
    return st.st_ino == ino ? move(s, fresh, s->path, 0, e) : move(s, fresh, s->replaced, RENAME_NOREPLACE, e);
}

/* All entries of a directory, but for ours, go to another on the same file system. */
static int move_all(const struct swap *s, const char *from, const char *to, struct err *e)
{
    DIR *d = opendir(from);
    struct dirent *x;
    int bad = d ? 0 : err_set(e, "%.300s: %s", from, strerror(errno));
    char a[PATH_MAX], b[PATH_MAX];
    bool moved = false;
    while (!bad) {
        if (!(x = readdir(d))) {
            if (!moved)
                break;
            rewinddir(d); /* until nothing is left: what is taken out while it is read may hide another */
            moved = false;
            continue;
        }
        if (strcmp(x->d_name, ".") == 0 || strcmp(x->d_name, "..") == 0 ||
            strncmp(x->d_name, TREE_OURS, strlen(TREE_OURS)) == 0)
            continue;
        join(a, from, x->d_name);
        join(b, to, x->d_name);
        bad = move(s, a, b, RENAME_NOREPLACE, e);
        moved = true;
    }
    if (d)
        closedir(d);
    return bad ? -1 : sync_dir(to, e);
}

/* Owner, mode, attributes and time of the top. */
static int dress(const char *path, const char *as, struct err *e)
{
    char names[16384], value[16384];
    struct stat st;
    if (lstat(as, &st) != 0)
        return err_set(e, "%.300s: %s", as, strerror(errno));
    ssize_t n = llistxattr(as, names, sizeof names);
    for (char *s = names; n > 0 && s < names + n; s += strlen(s) + 1) {
        ssize_t len = lgetxattr(as, s, value, sizeof value);
        if (len >= 0)
            (void)lsetxattr(path, s, value, (size_t)len, 0);
    }
    /* Who is not root may only give what is its own; then nothing has to be given. */
    if (lchown(path, st.st_uid, st.st_gid) != 0 && geteuid() == 0)
        return err_set(e, "%.300s cannot be given its owner: %s", path, strerror(errno));
    if (chmod(path, st.st_mode & 07777) != 0)
        return err_set(e, "%.300s cannot be given its mode: %s", path, strerror(errno));
    (void)utimensat(AT_FDCWD, path, (const struct timespec[]){st.st_atim, st.st_mtim}, AT_SYMLINK_NOFOLLOW);
    return 0;
}

static int finish_inside(const struct swap *s, struct err *e)
{
    char fresh[PATH_MAX], moving[PATH_MAX];
    join(fresh, s->dir, s->fresh);
    join(moving, s->dir, s->moving);
    if (there(fresh)) {
        if (mkdir(s->replaced, 0700) != 0 && errno != EEXIST)
            return err_set(e, "%.300s cannot be made: %s", s->replaced, strerror(errno));
        step(s);
        if (move_all(s, s->path, s->replaced, e) || move(s, fresh, moving, RENAME_NOREPLACE, e) ||
            sync_dir(s->dir, e))
            return -1;
    }
    if (there(moving)) {
        if (move_all(s, moving, s->path, e) || dress(s->path, moving, e))
            return -1;
        step(s);
        if (rmdir(moving) != 0)
            return err_set(e, "%.300s cannot be removed: %s", moving, strerror(errno));
        step(s);
    }
    return 0;
}

int swap_finish(const struct swap *s, struct err *e)
{
    if (s->inside ? finish_inside(s, e) : finish_beside(s, e))
        return -1;
    return sync_dir(s->dir, e) ? -1 : tree_remove(s->part, false, e);
}
