/* replica.c - a replica's own directory under a file lock. */
#include "common/replica.h"
#include "common/subjects.h"
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

/* The lock is flock(2) on a file in the directory: the kernel gives it back when its owner dies, however it dies. */
#define LOCK_FILE "owner.lock"
#define LOOK_US   50000 /* longer than anybody holds a lock only to look */

static int make_dir(const char *path, struct err *e)
{
    if (mkdir(path, 0700) == 0 || errno == EEXIST)
        return 0;
    return err_set(e, "cannot create directory %s: %s; create it, or let the service's user write to its parent",
                   path, strerror(errno));
}

/* Locks the directory at r->dir. 1 = locked, 0 = somebody owns it, -1 = cannot. */
static int lock_dir(struct replica *r, bool create, struct err *e)
{
    char path[REPLICA_PATH + sizeof LOCK_FILE + 1];
    snprintf(path, sizeof path, "%s/%s", r->dir, LOCK_FILE);
    int fd = open(path, O_RDWR | O_CLOEXEC | (create ? O_CREAT : 0), 0600);
    if (fd < 0)
        return err_set(e, "cannot open %s: %s; the service's user needs to read and write it", path, strerror(errno));
    if (flock(fd, LOCK_EX | LOCK_NB) != 0) {
        int busy = errno == EWOULDBLOCK;
        if (!busy)
            err_set(e, "cannot lock %s: %s; the data directory must be on a file system with flock", path,
                    strerror(errno));
        close(fd);
        return busy ? 0 : -1;
    }
    r->lock_fd = fd;
    return 1;
}

static void name_instance(struct replica *r, const char *service)
{
    char host[24] = "host";
    (void)gethostname(host, sizeof host);
    host[sizeof host - 1] = 0;
    for (char *p = host; *p; p++) {
        unsigned char c = (unsigned char)*p;
        *p = (char)(isalnum(c) ? tolower(c) : '-');
    }
    snprintf(r->instance, sizeof r->instance, "%.23s-%.24s-%d", host, service, r->index);
}

/* Tries the directories below `base` from `from` up to, not including, `to`. 1 = *r is one, 0 = all are taken, -1 = cannot. */
static int claim_lowest(struct replica *r, const char *base, int from, int to, struct err *e)
{
    for (int i = from; i < to; i++) {
        *r = (struct replica){.index = i, .lock_fd = -1};
        snprintf(r->dir, sizeof r->dir, "%s/%d", base, i);
        int locked = make_dir(r->dir, e) ? -1 : lock_dir(r, true, e);
        if (locked)
            return locked;
    }
    return 0;
}

int replica_claim(struct replica *r, const char *data_dir, const char *service, struct err *e)
{
    char base[REPLICA_PATH - 4];
    int n = snprintf(base, sizeof base, "%s/%s", data_dir, service);
    if (n < 0 || (size_t)n >= sizeof base)
        return err_set(e, "data_dir is too long (%zu bytes, at most %zu): shorten it", strlen(data_dir),
                       sizeof base - strlen(service) - 2);
    if (make_dir(data_dir, e) || make_dir(base, e))
        return -1;
    int got = claim_lowest(r, base, 0, REPLICA_MAX, e);
    if (got > 0 && r->index > 0) {
        /* Those below may have been held for a moment only, by one who looks whether their owner is gone. */
        struct replica lower;
        (void)usleep(LOOK_US);
        if (claim_lowest(&lower, base, 0, r->index, e) > 0) {
            replica_release(r);
            *r = lower;
        }
    }
    if (got > 0)
        name_instance(r, service);
    if (got == 0)
        err_set(e, "all %d replica directories below %s are taken: run fewer replicas on this volume", REPLICA_MAX,
                base);
    return got > 0 ? 0 : -1;
}

void replica_release(struct replica *r)
{
    if (r->lock_fd >= 0)
        close(r->lock_fd);
    r->lock_fd = -1;
}

static bool holds_outbox(const char *dir)
{
    DIR *d = opendir(dir);
    if (!d)
        return false;
    bool found = false;
    for (struct dirent *f; !found && (f = readdir(d));)
        found = strncmp(f->d_name, "outbox-", 7) == 0;
    closedir(d);
    return found;
}

static bool sibling(const struct replica *self, int index, struct replica *ret)
{
    size_t base = strlen(self->dir);
    while (base > 0 && self->dir[base - 1] != '/')
        base--;
    *ret = (struct replica){.index = index, .lock_fd = -1};
    snprintf(ret->dir, sizeof ret->dir, "%.*s%d", (int)base, self->dir, index);
    return index != self->index;
}

bool replica_lock_dead(const struct replica *self, int index, struct replica *ret)
{
    struct replica r;
    if (!sibling(self, index, &r) || lock_dir(&r, false, NULL) <= 0)
        return false;
    *ret = r;
    return true;
}

bool replica_find_dead(const struct replica *self, int from, struct replica *ret)
{
    for (int i = from; i < REPLICA_MAX; i++) {
        struct replica r;
        if (sibling(self, i, &r) && holds_outbox(r.dir) && replica_lock_dead(self, i, ret))
            return true;
    }
    return false;
}

int replica_say(const struct replica *r, const char *service, const char *path, struct err *e)
{
    if (!path || !*path)
        return 0;
    FILE *f = fopen(path, "we");
    bool ok = f && fprintf(f, "redoubt-%s.%s\n", service, r->instance) > 0;
    if ((f && fclose(f)) || !ok)
        return err_set(e, "cannot write %s: %s; the service's user needs to write there", path, strerror(errno));
    return 0;
}
