/* audit_log.c - appends to the trail. One write and one fdatasync for all that came while the last one was under way. */
#include "audit/audit_log.h"
#include "audit/audit_log_impl.h"
#include "audit/audit_scan.h"
#include "common/clock.h"
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define BATCH_RECORDS 1024

/* One trip to the disk, on a thread of libuv's. Touches nothing of the log but what is in here, and what does not change. */
struct trip {
    struct audit_log *a;
    uv_work_t work;
    struct audit_waiting *records; /* oldest first */
    size_t n_records;
    bool new_segment;
    int64_t at_unix_ms;
    bool dirty; /* in: cut the segment to its size first; out: a failed write may have left something behind it */
    uint64_t stray;
    bool stray_second;
    int fd; /* in: the segment; out: the new one if new_segment */
    char name[AUDIT_NAME_MAX];
    struct audit_position before, after;
    unsigned char *data;
    size_t len;
    char error[ERR_TEXT_MAX]; /* "" = durable */
};

/* ---- on libuv's threads ---- */

static void begin_segment(struct trip *t)
{
    struct audit_header h = {.first_seq = t->after.next_seq, .created_unix_ms = t->at_unix_ms};
    memcpy(h.chain, t->a->chain, sizeof h.chain);
    memcpy(h.prev, t->after.last_hash, sizeof h.prev);
    audit_header_pack(&h, t->data);
    audit_header_hash(t->data, t->after.link);
    t->len = AUDIT_HEADER_BYTES;
    t->after.segment_first = h.first_seq;
    t->after.segment_size = 0;
}

static void pack(struct trip *t)
{
    struct audit_position *p = &t->after;
    if (t->new_segment)
        begin_segment(t);
    for (struct audit_waiting *r = t->records; r; r = r->next) {
        unsigned char leaf[AUDIT_ROOT_BYTES];
        audit_record_pack(p->link, p->next_seq++, r->stored, r->len, t->data + t->len);
        t->len += r->len + (size_t)AUDIT_RECORD_EXTRA;
        audit_merkle_leaf(r->stored, r->len, leaf);
        audit_merkle_append(&p->tree, leaf);
    }
    memcpy(p->last_hash, p->link, sizeof p->last_hash);
    p->segment_size += (off_t)t->len;
    audit_segment_name(p->segment_first, t->name);
}

static int drop(struct trip *t, uint64_t number, bool second)
{
    char name[AUDIT_NAME_MAX];
    audit_segment_name(number, name);
    const struct audit_disk *disk = t->a->disk;
    if (disk->unlink(t->a->dirs[second].fd, name) && errno != ENOENT)
        return -1;
    return disk->sync_dir(t->a->dirs[second].fd);
}

/* What a write that failed has left must not stand before what comes next. A disk that does not even let go of it does not keep the trail from
 * going on in another directory: then verification names what is there. */
static int tidy(struct trip *t)
{
    const struct audit_disk *disk = t->a->disk;
    bool elsewhere = t->new_segment && t->after.second != t->before.second;
    if (t->dirty && t->fd >= 0 && (disk->truncate(t->fd, t->before.segment_size) || disk->sync(t->fd)) && !elsewhere)
        return -1;
    t->dirty = false;
    if (t->stray && drop(t, t->stray, t->stray_second) && t->stray_second == t->after.second)
        return -1;
    t->stray = 0;
    /* The segment that is left holds nothing: a crash had cut off all that was in it. The next has its name. */
    if (t->new_segment && t->before.segment_first == t->before.next_seq &&
        drop(t, t->before.segment_first, t->before.second))
        return -1;
    return 0;
}

static int write_records(struct trip *t)
{
    const struct audit_disk *disk = t->a->disk;
    int dir = t->a->dirs[t->after.second].fd, fd = t->fd;
    if (t->new_segment) {
        fd = disk->create(dir, t->name, true, 0600);
        if (fd < 0 && errno == EEXIST) /* a failed beginning of the same segment: nothing in it is durable */
            fd = disk->create(dir, t->name, false, 0600);
    }
    off_t at = t->new_segment ? 0 : t->before.segment_size;
    if (fd >= 0 && !audit_disk_write_all(disk, fd, t->data, t->len, at) && !disk->sync(fd) &&
        (!t->new_segment || !disk->sync_dir(dir))) {
        t->fd = fd;
        return 0;
    }
    int saved = errno;
    if (t->new_segment) {
        if (fd >= 0)
            close(fd);
        if (fd >= 0 && drop(t, t->after.segment_first, t->after.second)) {
            t->stray = t->after.segment_first;
            t->stray_second = t->after.second;
        }
    } else {
        t->dirty = disk->truncate(fd, at) || disk->sync(fd);
    }
    errno = saved;
    return -1;
}

static void on_work(uv_work_t *w)
{
    struct trip *t = w->data;
    pack(t);
    if (tidy(t) || write_records(t))
        snprintf(t->error, sizeof t->error,
                 "cannot write %s/%s: %s; free space or mend the disk, the record comes again",
                 t->a->dirs[t->after.second].path, t->name, strerror(errno));
}

/* ---- on the loop ---- */

static void on_worked(uv_work_t *w, int status)
{
    struct trip *t = w->data;
    struct audit_log *a = t->a;
    if (status < 0 && !t->error[0])
        snprintf(t->error, sizeof t->error, "the write was cancelled: %s", uv_strerror(status));
    bool durable = !t->error[0];
    uint64_t seq = a->pos.next_seq;
    a->writing = false;
    a->dirty = t->dirty;
    a->stray = t->stray;
    a->stray_second = t->stray_second;
    if (durable) {
        if (t->new_segment) {
            if (a->fd >= 0)
                close(a->fd);
            a->fd = t->fd;
        }
        a->pos = t->after;
    }
    while (t->records) {
        struct audit_waiting *r = t->records;
        t->records = r->next;
        a->n_waiting--;
        r->cb(r->ctx, durable ? seq : 0, t->error);
        seq++;
        free(r);
    }
    if (durable && a->o.on_durable)
        a->o.on_durable(a->o.ctx);
    free(t->data);
    free(t);
    audit_log_go_on(a);
}

/* A file without a name keeps what is written to it from everybody: the chain goes on in a new one, and verification
 * names what is missing. */
static bool was_deleted(struct audit_log *a)
{
    struct stat st;
    if (fstat(a->fd, &st) || st.st_nlink > 0)
        return false;
    a->lost_segments += a->pos.segment_first < a->pos.next_seq; /* else it held nothing */
    return true;
}

static void send_records(struct audit_log *a)
{
    struct trip *t = calloc(1, sizeof *t);
    size_t n = 0, bytes = AUDIT_HEADER_BYTES;
    struct audit_waiting **end = &a->first;
    /* No more at once than recovery takes for one write that a crash cut short. */
    while (*end && n < BATCH_RECORDS &&
           (n == 0 || bytes + (*end)->len + (size_t)AUDIT_RECORD_EXTRA <= AUDIT_BATCH_BYTES)) {
        bytes += (*end)->len + (size_t)AUDIT_RECORD_EXTRA;
        n++;
        end = &(*end)->next;
    }
    unsigned char *data = t ? malloc(bytes) : NULL;
    assert(t && data && "out of memory for one batch");
    *t = (struct trip){.a = a,
                       .work.data = t,
                       .data = data,
                       .n_records = n,
                       .fd = a->fd,
                       .before = a->pos,
                       .after = a->pos,
                       .at_unix_ms = clock_wall_ms(),
                       .dirty = a->dirty,
                       .stray = a->stray,
                       .stray_second = a->stray_second};
    t->records = a->first;
    a->first = *end;
    *end = NULL;
    if (!a->first)
        a->last = &a->first;
    t->new_segment =
        a->fd < 0 || a->pos.segment_size >= a->o.segment_bytes || a->pos.second != a->want_second || was_deleted(a);
    if (t->new_segment)
        t->after.second = a->want_second;
    a->writing = true;
    int rc = uv_queue_work(&a->loop->uv, &t->work, on_work, on_worked);
    assert(rc == 0);
    (void)rc;
}

static void free_log(struct audit_log *a)
{
    if (a->fd >= 0)
        close(a->fd);
    for (size_t i = 0; i < 2; i++)
        if (a->dirs[i].fd >= 0)
            close(a->dirs[i].fd);
    sodium_memzero(&a->key, sizeof a->key);
    free(a);
}

void audit_log_go_on(struct audit_log *a)
{
    if (a->first && !a->writing)
        send_records(a);
    audit_side_go_on(a);
    if (!a->closing || a->writing || a->busy)
        return;
    if (!a->last_checkpoint) {
        a->last_checkpoint = true;
        audit_log_checkpoint(a);
        if (a->busy)
            return;
    }
    loop_defer(a->loop, a->closed, a->closed_ctx);
    free_log(a);
}

void audit_log_append(struct audit_log *a, const void *stored, size_t len, audit_log_cb cb, void *ctx)
{
    assert(len <= AUDIT_STORED_MAX && !a->closing);
    struct audit_waiting *r = malloc(sizeof *r + len);
    assert(r && "out of memory for one record");
    *r = (struct audit_waiting){.cb = cb, .ctx = ctx, .len = (uint32_t)len};
    memcpy(r->stored, stored, len);
    *a->last = r;
    a->last = &r->next;
    a->n_waiting++;
    if (!a->writing)
        send_records(a);
}

void audit_log_place(struct audit_log *a, bool second)
{
    a->want_second = second && a->dirs[1].fd >= 0;
}

void audit_log_status(const struct audit_log *a, struct audit_log_status *ret)
{
    *ret = (struct audit_log_status){.size = a->pos.next_seq - 1,
                                     .checkpoint_size = a->checkpoint_size,
                                     .checkpoint_unix_ms = a->checkpoint_unix_ms,
                                     .note = a->note,
                                     .note_len = a->note_len,
                                     .rotations = a->rotations,
                                     .segment_first = a->pos.segment_first,
                                     .segment_bytes = (uint64_t)a->pos.segment_size,
                                     .in_second = a->pos.second,
                                     .pruned = a->pruned,
                                     .waiting = a->n_waiting,
                                     .lost_segments = a->lost_segments,
                                     .failed_checkpoints = a->failed_checkpoints};
    memcpy(ret->chain, a->chain, sizeof ret->chain);
    memcpy(ret->hash, a->pos.last_hash, sizeof ret->hash);
    memcpy(ret->public_key, a->key.public_key, sizeof ret->public_key);
    audit_merkle_root(&a->pos.tree, ret->root);
}

void audit_log_close(struct audit_log *a, loop_cb done, void *ctx)
{
    a->closing = true;
    a->closed = done;
    a->closed_ctx = ctx;
    audit_log_go_on(a);
}

struct audit_log *audit_log_open(struct loop *l, const struct audit_log_opts *o, struct audit_log_found *found,
                                 struct err *e)
{
    struct audit_log *a = calloc(1, sizeof *a);
    if (!a) {
        err_set(e, "out of memory");
        return NULL;
    }
    *a = (struct audit_log){.loop = l,
                            .o = *o,
                            .disk = o->disk ? o->disk : &audit_disk_real,
                            .dirs = {{.fd = -1}, {.fd = -1}},
                            .fd = -1,
                            .last = &a->first};
    *found = (struct audit_log_found){0};
    const char *const paths[] = {o->dir, o->second_dir};
    bool open_ok = true;
    for (size_t i = 0; open_ok && i < 2; i++) {
        if (!paths[i] || !*paths[i])
            continue;
        snprintf(a->dirs[i].path, sizeof a->dirs[i].path, "%s", paths[i]);
        a->dirs[i].fd = open(paths[i], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        open_ok = a->dirs[i].fd >= 0;
        if (!open_ok)
            err_set(e, "cannot open directory %s: %s", paths[i], strerror(errno));
    }
    struct audit_key_place p = audit_log_place_of(a);
    if (!open_ok || audit_key_open(&p, o->key_file, &a->key, &found->key_changed, e) ||
        audit_log_recover(a, found, e) || audit_key_publish(&p, &a->key, e)) {
        free_log(a);
        return NULL;
    }
    a->want_second = a->pos.second;
    return a;
}
