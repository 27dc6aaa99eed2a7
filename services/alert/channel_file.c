/* channel_file.c - the record: one line of JSON per alert, appended and synced before anybody is told.
 *
 * One write at a time on libuv's threads; what comes meanwhile goes out together with the next. The file is opened
 * for each write, so that it may be moved away at any time. Beyond `max_size` it becomes PATH.1, and so on up to PATH.<keep>. Several replicas
 * may write one file: they turn it over under a lock. A record that cannot be written fails at once. */
#include "alert/alert_channel.h"
#include "alert/alert_room.h"
#include "common/clock.h"
#include "common/log.h"
#include "common/wire.h"
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#define LOCK_TRIES   200
#define LOCK_STEP_MS 5
#define TROUBLE_MS   60000

struct line {
    struct line *next;
    struct alert_job *job;
    size_t len;
    char text[];
};
struct record {
    struct line *first, **last; /* for the next write */
    bool writing;
    struct log_limit troubles;
};
struct batch {
    uv_work_t work;
    struct alert_channel *channel;
    char *path;
    struct line *lines;
    int64_t max_bytes;
    int keep;
    char error[192];   /* "" = durable */
    char trouble[192]; /* durable, but the file could not be turned over: "" if it could */
};

/* ---- on a thread of libuv's ---- */

static bool write_all(int fd, const char *data, size_t len)
{
    while (len > 0) {
        ssize_t n = write(fd, data, len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return false;
        data += n;
        len -= (size_t)n;
    }
    return true;
}

/* A crash may have cut the last line short: then ours begins on a line of its own. */
static bool end_torn_line(int fd)
{
    struct stat st;
    char c = '\n';
    if (fstat(fd, &st) != 0)
        return false;
    if (st.st_size > 0 && pread(fd, &c, 1, st.st_size - 1) != 1)
        return false;
    return c == '\n' || write_all(fd, "\n", 1);
}

static bool sync_directory(const char *path)
{
    char *copy = strdup(path);
    int fd = copy ? open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
    bool ok = fd >= 0 && fsync(fd) == 0;
    if (fd >= 0)
        close(fd);
    free(copy);
    return ok;
}

/* Only a file will do: a FIFO would wait for its reader, a device takes what it likes. -1 with errno, or 0 for the wrong kind. */
static int open_record(const char *path)
{
    struct stat st;
    int fd = open(path, O_RDWR | O_APPEND | O_CREAT | O_CLOEXEC | O_NOCTTY | O_NONBLOCK, 0600);
    if (fd < 0)
        return -1;
    if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode))
        return fd;
    close(fd);
    return 0;
}

/* Who else writes this file holds the lock for as long as a sync takes. Without it the line is written all the same. */
static bool lock(int fd)
{
    for (int i = 0; i < LOCK_TRIES; i++) {
        if (flock(fd, LOCK_EX | LOCK_NB) == 0)
            return true;
        if (errno != EWOULDBLOCK)
            return false;
        usleep(LOCK_STEP_MS * 1000);
    }
    return false;
}

/* PATH.1 becomes PATH.2, ..., PATH becomes PATH.1. What falls off the end is overwritten. */
static bool turn_over(const char *path, int keep)
{
    char from[PATH_MAX], to[PATH_MAX];
    int last = 1;
    for (; last < keep; last++) { /* up to the first gap: what is behind it stays */
        snprintf(to, sizeof to, "%s.%d", path, last);
        if (access(to, F_OK) != 0)
            break;
    }
    for (int i = last; i > 0; i--) {
        snprintf(to, sizeof to, "%s.%d", path, i);
        snprintf(from, sizeof from, i > 1 ? "%s.%d" : "%s", path, i - 1);
        if (rename(from, to) != 0)
            return false;
    }
    return sync_directory(path);
}

/* The file to append to, locked if that is possible; turned over first if these bytes are too many for it. */
static int open_turned(struct batch *b, size_t bytes, bool *ret_locked)
{
    for (int turn = 0;; turn++) {
        struct stat st, now;
        int fd = open_record(b->path);
        if (fd <= 0)
            return fd;
        *ret_locked = lock(fd);
        if (!*ret_locked || turn == 2 || fstat(fd, &st) != 0)
            return fd;
        bool moved = stat(b->path, &now) != 0 || now.st_ino != st.st_ino || now.st_dev != st.st_dev;
        if (!moved && (st.st_size == 0 || (int64_t)bytes <= b->max_bytes - st.st_size))
            return fd;
        if (!moved && !turn_over(b->path, b->keep)) {
            snprintf(b->trouble, sizeof b->trouble, "cannot turn over %.100s: %s", b->path, strerror(errno));
            return fd;
        }
        close(fd); /* another one has turned it over, or we have: the new one */
    }
}

static void write_batch(uv_work_t *w)
{
    struct batch *b = w->data;
    const char *what = "open";
    size_t bytes = 0;
    bool locked = false;
    struct stat before;
    for (const struct line *l = b->lines; l; l = l->next)
        bytes += l->len;
    errno = 0;
    int fd = open_turned(b, bytes, &locked);
    bool ok = fd > 0 && fstat(fd, &before) == 0;
    if (ok) {
        what = "write";
        ok = end_torn_line(fd);
    }
    for (struct line *l = b->lines; ok && l; l = l->next)
        ok = write_all(fd, l->text, l->len);
    if (ok) {
        what = "sync";
        ok = fdatasync(fd) == 0 && (before.st_size > 0 || sync_directory(b->path));
    }
    int why = errno;
    if (!ok && fd == 0)
        snprintf(b->error, sizeof b->error, "cannot write %.100s: it is not a regular file", b->path);
    else if (!ok)
        snprintf(b->error, sizeof b->error, "cannot %s %.100s: %s", what, b->path, strerror(why));
    /* A full disk leaves half a line: nobody else has appended to it while it was locked. */
    if (!ok && fd > 0 && locked && ftruncate(fd, before.st_size) != 0)
        snprintf(b->trouble, sizeof b->trouble, "cannot take back half a line of %.100s: %s", b->path,
                 strerror(errno));
    if (fd > 0)
        close(fd);
}

/* ---- on the loop ---- */

static void start_batch(struct alert_channel *c);

static void on_written(uv_work_t *w, int status)
{
    struct batch *b = w->data;
    struct alert_channel *c = b->channel;
    struct record *r = c->priv;
    uint64_t held = 0;
    (void)status; /* never cancelled */
    r->writing = false;
    if (*b->trouble && log_allowed(&r->troubles, clock_mono_ms(), TROUBLE_MS, &held))
        log_warn("alert record", F_STR("channel", c->set.name), F_STR("why", b->trouble), F_INT("held_back", held));
    for (struct line *l = b->lines; l;) {
        struct line *next = l->next;
        struct alert_outcome o = {*b->error ? ALERT_FAULT_DISK : ALERT_FAULT_NONE, 0, -1};
        alert_job_end(l->job, &o, *b->error ? b->error : b->path);
        free(l);
        l = next;
    }
    free(b->path);
    free(b);
    start_batch(c);
    alert_channel_unref(c);
}

static void start_batch(struct alert_channel *c)
{
    struct record *r = c->priv;
    if (r->writing || !r->first)
        return;
    struct batch *b = calloc(1, sizeof *b);
    char *path = strdup(c->set.path);
    struct line *lines = r->first;
    r->first = NULL;
    r->last = &r->first;
    if (b && path) {
        *b = (struct batch){.work.data = b,
                            .channel = c,
                            .path = path,
                            .lines = lines,
                            .max_bytes = c->set.max_bytes,
                            .keep = (int)c->set.keep};
        if (uv_queue_work(&c->room->service->loop.uv, &b->work, write_batch, on_written) == 0) {
            r->writing = true;
            alert_channel_ref(c);
            return;
        }
    }
    free(b);
    free(path);
    while (lines) {
        struct line *next = lines->next;
        alert_job_end(lines->job, &(struct alert_outcome){ALERT_FAULT_OTHER, 0, -1}, "out of memory");
        free(lines);
        lines = next;
    }
}

/* More by one JSON and its newline; NULL if memory is out: then *l is gone. */
static struct line *add_json(struct line *l, const PB(Alert) * a)
{
    char *json = wire_json(a);
    size_t n = json ? strlen(json) : 0;
    struct line *more = json ? realloc(l, sizeof *l + l->len + n + 1) : NULL;
    if (more) {
        memcpy(more->text + more->len, json, n);
        more->text[more->len + n] = '\n';
        more->len += n + 1;
    } else {
        free(l);
    }
    free(json);
    return more;
}

static void send_file(struct alert_channel *c, struct alert_job *j)
{
    struct record *r = c->priv;
    struct line *l = calloc(1, sizeof *l);
    for (size_t i = 0; l && i < j->message->n; i++)
        l = add_json(l, j->message->alerts[i]);
    if (!l) {
        alert_job_end(j, &(struct alert_outcome){ALERT_FAULT_OTHER, 0, -1}, "out of memory");
        return;
    }
    l->job = j;
    *r->last = l;
    r->last = &l->next;
    start_batch(c);
}

static int open_file(struct alert_channel *c)
{
    struct record *r = calloc(1, sizeof *r);
    if (!r)
        return -1;
    r->last = &r->first;
    c->priv = r;
    return 0;
}

static void close_file(struct alert_channel *c)
{
    free(c->priv); /* its last reference is gone: nothing is being written or waits */
}

const struct alert_kind alert_kind_file = {.name = "file",
                                           .proto = ALERT_PROTO_FILE,
                                           .at_once = 256,
                                           .send = send_file,
                                           .open = open_file,
                                           .close = close_file};
