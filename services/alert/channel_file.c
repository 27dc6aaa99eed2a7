/* channel_file.c - the record: one line of JSON per alert, appended and synced before anybody is told.
 *
 * One write at a time on libuv's threads; what comes meanwhile goes out together with the next. The file is opened
 * for each write, so that it may be moved away at any time. */
#include "alert/alert_channel.h"
#include "alert/alert_room.h"
#include "common/wire.h"
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct line {
    struct line *next;
    struct alert_job *job;
    size_t len;
    char text[];
};
struct record {
    struct line *first, **last; /* for the next write */
    bool writing;
};
struct batch {
    uv_work_t work;
    struct alert_channel *channel;
    char *path;
    struct line *lines;
    char error[192]; /* "" = durable */
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

static void write_batch(uv_work_t *w)
{
    struct batch *b = w->data;
    const char *what = "open";
    bool fresh = access(b->path, F_OK) != 0;
    int fd = open(b->path, O_RDWR | O_APPEND | O_CREAT | O_CLOEXEC | O_NOCTTY, 0600);
    bool ok = fd >= 0;
    if (ok) {
        what = "write";
        ok = end_torn_line(fd);
    }
    for (struct line *l = b->lines; ok && l; l = l->next)
        ok = write_all(fd, l->text, l->len);
    if (ok) {
        what = "sync";
        ok = fdatasync(fd) == 0 && (!fresh || sync_directory(b->path));
    }
    if (!ok)
        snprintf(b->error, sizeof b->error, "cannot %s %.100s: %s", what, b->path, strerror(errno));
    if (fd >= 0)
        close(fd);
}

/* ---- on the loop ---- */

static void start_batch(struct alert_channel *c);

static void on_written(uv_work_t *w, int status)
{
    struct batch *b = w->data;
    struct alert_channel *c = b->channel;
    struct record *r = c->priv;
    (void)status; /* never cancelled */
    r->writing = false;
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
        *b = (struct batch){.work.data = b, .channel = c, .path = path, .lines = lines};
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

static void send_file(struct alert_channel *c, struct alert_job *j)
{
    struct record *r = c->priv;
    char *text = NULL;
    size_t len = 0;
    FILE *f = open_memstream(&text, &len);
    bool ok = f != NULL;
    for (size_t i = 0; ok && i < j->message->n; i++) {
        char *json = wire_json(j->message->alerts[i]);
        ok = json && fprintf(f, "%s\n", json) > 0;
        free(json);
    }
    ok = f && fclose(f) == 0 && ok;
    struct line *l = ok ? malloc(sizeof *l + len) : NULL;
    if (!l) {
        free(text);
        alert_job_end(j, &(struct alert_outcome){ALERT_FAULT_OTHER, 0, -1}, "out of memory");
        return;
    }
    *l = (struct line){.job = j, .len = len};
    memcpy(l->text, text, len);
    free(text);
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
