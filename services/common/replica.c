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

int replica_claim(struct replica *r, const char *data_dir, const char *service, struct err *e)
{
    char base[REPLICA_PATH - 4];
    int n = snprintf(base, sizeof base, "%s/%s", data_dir, service);
    if (n < 0 || (size_t)n >= sizeof base)
        return err_set(e, "data_dir is too long (%zu bytes, at most %zu): shorten it", strlen(data_dir),
                       sizeof base - strlen(service) - 2);
    if (make_dir(data_dir, e) || make_dir(base, e))
        return -1;
    for (int i = 0; i < REPLICA_MAX; i++) {
        *r = (struct replica){.index = i, .lock_fd = -1};
        snprintf(r->dir, sizeof r->dir, "%s/%d", base, i);
        if (make_dir(r->dir, e))
            return -1;
        int locked = lock_dir(r, true, e);
        if (locked < 0)
            return -1;
        if (locked) {
            name_instance(r, service);
            return 0;
        }
    }
    return err_set(e, "all %d replica directories below %s are taken: run fewer replicas on this volume", REPLICA_MAX,
                   base);
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

bool replica_find_dead(const struct replica *self, struct replica *ret)
{
    size_t base = strlen(self->dir);
    while (base > 0 && self->dir[base - 1] != '/')
        base--;
    for (int i = 0; i < REPLICA_MAX; i++) {
        if (i == self->index)
            continue;
        struct replica r = {.index = i, .lock_fd = -1};
        snprintf(r.dir, sizeof r.dir, "%.*s%d", (int)base, self->dir, i);
        if (holds_outbox(r.dir) && lock_dir(&r, false, NULL) > 0) {
            *ret = r;
            return true;
        }
    }
    return false;
}
