/* audit_log.c - appends to the trail. One write and one fdatasync for all that came while the last one was under way. */
#include "audit/audit_log.h"
#include "audit/audit_verify.h"
#include "common/clock.h"
#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define BATCH_RECORDS 1024
#define BATCH_BYTES   (1024 * 1024)

/* A record that waits for its turn. */
struct waiting {
    struct waiting *next;
    audit_log_cb cb;
    void *ctx;
    uint32_t len;
    unsigned char stored[];
};

/* Where the chain stands; moves only when a write is durable. */
struct position {
    uint64_t next_seq;
    uint64_t segment_first;
    off_t segment_size;
    unsigned char hash[AUDIT_HASH_BYTES];
};

/* One trip to the disk, on a thread of libuv's. Touches nothing of the log but what is in here. */
struct trip {
    struct audit_log *a;
    uv_work_t work;
    struct waiting *records; /* oldest first */
    unsigned char *data;
    size_t len;
    off_t at;
    bool new_segment;
    int fd; /* in: the segment; out: the new one if new_segment */
    char name[AUDIT_NAME_MAX];
    struct position after;
    char error[ERR_TEXT_MAX]; /* "" = durable */
    /* or: a checkpoint */
    bool is_checkpoint;
    char text[AUDIT_CHECKPOINT_MAX];
    uint64_t checkpoint_size;
};

struct audit_log {
    struct loop *loop;
    char dir[512];
    int64_t segment_bytes;
    int dir_fd;
    int fd; /* of the last segment */
    struct position pos;
    unsigned char chain[AUDIT_CHAIN_BYTES];
    unsigned char secret[AUDIT_SECRET_BYTES];
    uint64_t checkpoint_size;
    bool writing, checkpointing;
    struct waiting *first, **last;
    size_t n_waiting;
    uint64_t lost_segments; /* deleted under our hands */
    bool closing, last_checkpoint;
    loop_cb closed;
    void *closed_ctx;
};

static void go_on(struct audit_log *a);

/* ---- on libuv's threads ---- */

static int write_all(int fd, const unsigned char *data, size_t len, off_t at)
{
    while (len > 0) {
        ssize_t n = pwrite(fd, data, len, at);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return -1;
        data += n;
        at += n;
        len -= (size_t)n;
    }
    return 0;
}

static void write_records(struct trip *t)
{
    int fd = t->fd;
    if (t->new_segment) {
        fd = openat(t->a->dir_fd, t->name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
        if (fd < 0 && errno == EEXIST) /* a failed beginning of the same segment: nothing in it is durable */
            fd = openat(t->a->dir_fd, t->name, O_RDWR | O_TRUNC | O_CLOEXEC, 0600);
    }
    if (fd < 0 || write_all(fd, t->data, t->len, t->at) || fdatasync(fd) || (t->new_segment && fsync(t->a->dir_fd))) {
        snprintf(t->error, sizeof t->error,
                 "cannot write %s/%s: %s; free space or mend the disk, the record comes again", t->a->dir, t->name,
                 strerror(errno));
        /* What was written in part must not stand before what comes next. */
        if (t->new_segment && fd >= 0) {
            close(fd);
            (void)unlinkat(t->a->dir_fd, t->name, 0);
        } else if (fd >= 0 && ftruncate(fd, t->at)) {
            /* The next write goes to the same place and overwrites it. */
        }
        return;
    }
    t->fd = fd;
}

static int replace_file(int dir_fd, const char *name, const char *text, size_t len, mode_t mode)
{
    char fresh[64];
    snprintf(fresh, sizeof fresh, "%s.new", name);
    int fd = openat(dir_fd, fresh, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, mode);
    if (fd < 0)
        return -1;
    int rc = write_all(fd, (const unsigned char *)text, len, 0) || fsync(fd);
    if (close(fd) || rc || renameat(dir_fd, fresh, dir_fd, name) || fsync(dir_fd))
        return -1;
    return 0;
}

static void on_work(uv_work_t *w)
{
    struct trip *t = w->data;
    if (!t->is_checkpoint)
        write_records(t);
    else if (replace_file(t->a->dir_fd, AUDIT_CHECKPOINT_FILE, t->text, t->len, 0644))
        snprintf(t->error, sizeof t->error, "cannot write the checkpoint: %s", strerror(errno));
}

/* ---- on the loop ---- */

static void on_worked(uv_work_t *w, int status)
{
    struct trip *t = w->data;
    struct audit_log *a = t->a;
    if (status < 0 && !t->error[0])
        snprintf(t->error, sizeof t->error, "the write was cancelled: %s", uv_strerror(status));
    if (t->is_checkpoint) {
        a->checkpointing = false;
        if (!t->error[0])
            a->checkpoint_size = t->checkpoint_size;
    } else {
        a->writing = false;
        uint64_t seq = a->pos.next_seq;
        if (!t->error[0]) {
            if (t->new_segment) {
                if (a->fd >= 0)
                    close(a->fd);
                a->fd = t->fd;
            }
            a->pos = t->after;
        }
        while (t->records) {
            struct waiting *r = t->records;
            t->records = r->next;
            a->n_waiting--;
            r->cb(r->ctx, t->error[0] ? 0 : seq, t->error);
            seq++;
            free(r);
        }
    }
    free(t->data);
    free(t);
    go_on(a);
}

static void begin_segment(struct audit_log *a, struct trip *t)
{
    struct audit_header h = {.first_seq = t->after.next_seq, .created_unix_ms = clock_wall_ms()};
    memcpy(h.chain, a->chain, sizeof h.chain);
    memcpy(h.prev, t->after.hash, sizeof h.prev);
    audit_header_pack(&h, t->data);
    audit_header_hash(t->data, t->after.hash);
    audit_segment_name(h.first_seq, t->name);
    t->len = AUDIT_HEADER_BYTES;
    t->at = 0;
    t->new_segment = true;
    t->after.segment_first = h.first_seq;
    t->after.segment_size = 0;
}

/* A file without a name keeps what is written to it from everybody: the chain goes on in a new one, and verification
 * names what is missing. */
static bool was_deleted(struct audit_log *a)
{
    struct stat st;
    if (fstat(a->fd, &st) || st.st_nlink > 0)
        return false;
    a->lost_segments++;
    return true;
}

static void send_records(struct audit_log *a)
{
    struct trip *t = calloc(1, sizeof *t);
    size_t n = 0, bytes = AUDIT_HEADER_BYTES;
    struct waiting **end = &a->first;
    while (*end && n < BATCH_RECORDS && bytes < BATCH_BYTES) {
        bytes += (*end)->len + (size_t)AUDIT_RECORD_EXTRA;
        n++;
        end = &(*end)->next;
    }
    unsigned char *data = t ? malloc(bytes) : NULL;
    assert(t && data && "out of memory for one batch");
    *t = (struct trip){.a = a, .work.data = t, .data = data, .fd = a->fd, .after = a->pos, .at = a->pos.segment_size};
    t->records = a->first;
    a->first = *end;
    *end = NULL;
    if (!a->first)
        a->last = &a->first;
    audit_segment_name(a->pos.segment_first, t->name);
    if (a->fd < 0 || a->pos.segment_size >= a->segment_bytes || was_deleted(a))
        begin_segment(a, t);
    for (struct waiting *r = t->records; r; r = r->next) {
        audit_record_pack(t->after.hash, t->after.next_seq++, r->stored, r->len, t->data + t->len);
        t->len += r->len + (size_t)AUDIT_RECORD_EXTRA;
    }
    t->after.segment_size += (off_t)t->len;
    a->writing = true;
    int rc = uv_queue_work(&a->loop->uv, &t->work, on_work, on_worked);
    assert(rc == 0);
    (void)rc;
}

void audit_log_checkpoint(struct audit_log *a)
{
    if (a->checkpointing || a->checkpoint_size + 1 == a->pos.next_seq)
        return;
    struct trip *t = calloc(1, sizeof *t);
    if (!t)
        return; /* the next one comes in a few seconds */
    *t = (struct trip){.a = a, .work.data = t, .is_checkpoint = true, .checkpoint_size = a->pos.next_seq - 1};
    struct audit_checkpoint c = {.size = t->checkpoint_size, .at_unix_ms = clock_wall_ms()};
    memcpy(c.chain, a->chain, sizeof c.chain);
    memcpy(c.hash, a->pos.hash, sizeof c.hash);
    t->len = audit_checkpoint_sign(&c, AUDIT_KEY_NAME, a->secret, t->text);
    a->checkpointing = true;
    int rc = uv_queue_work(&a->loop->uv, &t->work, on_work, on_worked);
    assert(rc == 0);
    (void)rc;
}

static void free_log(struct audit_log *a)
{
    if (a->fd >= 0)
        close(a->fd);
    if (a->dir_fd >= 0)
        close(a->dir_fd);
    sodium_memzero(a->secret, sizeof a->secret);
    free(a);
}

static void go_on(struct audit_log *a)
{
    if (a->first && !a->writing)
        send_records(a);
    if (!a->closing || a->writing || a->checkpointing)
        return;
    if (!a->last_checkpoint) {
        a->last_checkpoint = true;
        audit_log_checkpoint(a);
        if (a->checkpointing)
            return;
    }
    loop_defer(a->loop, a->closed, a->closed_ctx);
    free_log(a);
}

void audit_log_append(struct audit_log *a, const void *stored, size_t len, audit_log_cb cb, void *ctx)
{
    assert(len <= AUDIT_STORED_MAX && !a->closing);
    struct waiting *r = malloc(sizeof *r + len);
    assert(r && "out of memory for one record");
    *r = (struct waiting){.cb = cb, .ctx = ctx, .len = (uint32_t)len};
    memcpy(r->stored, stored, len);
    *a->last = r;
    a->last = &r->next;
    a->n_waiting++;
    if (!a->writing)
        send_records(a);
}

void audit_log_status(const struct audit_log *a, struct audit_log_status *ret)
{
    *ret = (struct audit_log_status){.size = a->pos.next_seq - 1,
                                     .checkpoint_size = a->checkpoint_size,
                                     .waiting = a->n_waiting,
                                     .lost_segments = a->lost_segments};
    memcpy(ret->chain, a->chain, sizeof ret->chain);
    memcpy(ret->hash, a->pos.hash, sizeof ret->hash);
}

void audit_log_close(struct audit_log *a, loop_cb done, void *ctx)
{
    a->closing = true;
    a->closed = done;
    a->closed_ctx = ctx;
    go_on(a);
}

/* ---- opening ---- */

static int load_key(struct audit_log *a, struct err *e)
{
    char hex[2 * AUDIT_SECRET_BYTES + 2];
    unsigned char public_key[AUDIT_PUBLIC_BYTES];
    size_t n = 0, bytes = 0;
    if (faccessat(a->dir_fd, AUDIT_SECRET_FILE, F_OK, 0) != 0) {
        crypto_sign_keypair(public_key, a->secret);
        sodium_bin2hex(hex, sizeof hex, a->secret, sizeof a->secret);
        if (replace_file(a->dir_fd, AUDIT_SECRET_FILE, hex, strlen(hex), 0600))
            return err_set(e, "cannot write %s/" AUDIT_SECRET_FILE ": %s", a->dir, strerror(errno));
        sodium_memzero(hex, sizeof hex);
    } else {
        unsigned char *text = audit_read_file(a->dir, AUDIT_SECRET_FILE, 256, &n, e);
        if (!text)
            return -1;
        int bad = sodium_hex2bin(a->secret, sizeof a->secret, (char *)text, n, "\r\n ", &bytes, NULL) ||
                  bytes != sizeof a->secret;
        sodium_memzero(text, n);
        free(text);
        if (bad)
            return err_set(e,
                           "%s/" AUDIT_SECRET_FILE
                           " is not an Ed25519 key of %d bytes in hexadecimal; put the right one back",
                           a->dir, AUDIT_SECRET_BYTES);
        crypto_sign_ed25519_sk_to_pk(public_key, a->secret);
    }
    sodium_bin2hex(hex, sizeof hex, public_key, sizeof public_key);
    if (replace_file(a->dir_fd, AUDIT_PUBLIC_FILE, hex, strlen(hex), 0644))
        return err_set(e, "cannot write %s/" AUDIT_PUBLIC_FILE ": %s", a->dir, strerror(errno));
    return 0;
}

/* Nothing that might be evidence is ever deleted or written to: it is moved away as it is. */
static int set_aside(struct audit_log *a, struct audit_log_found *found, struct err *e)
{
    char name[64];
    snprintf(name, sizeof name, "set-aside-%" PRId64, clock_wall_ms());
    snprintf(found->set_aside, sizeof found->set_aside, "%.440s/%s", a->dir, name);
    if (mkdirat(a->dir_fd, name, 0700))
        return err_set(e, "cannot create %s: %s", found->set_aside, strerror(errno));
    int to = openat(a->dir_fd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *d = opendir(a->dir);
    int rc = to < 0 || !d ? -1 : 0;
    uint64_t first;
    for (struct dirent *f; !rc && (f = readdir(d));)
        if (audit_segment_parse(f->d_name, &first) || strcmp(f->d_name, AUDIT_CHECKPOINT_FILE) == 0)
            rc = renameat(a->dir_fd, f->d_name, to, f->d_name);
    if (rc)
        err_set(e, "cannot move the old trail to %s: %s", found->set_aside, strerror(errno));
    if (d)
        closedir(d);
    if (to >= 0)
        close(to);
    return rc || fsync(a->dir_fd) ? -1 : 0;
}

static int begin_chain(struct audit_log *a, struct audit_log_found *found, struct err *e)
{
    char text[AUDIT_CHECKPOINT_MAX];
    found->fresh = true;
    randombytes_buf(a->chain, sizeof a->chain);
    a->pos = (struct position){.next_seq = 1};
    /* A checkpoint of nothing: from now on a missing one is a finding. */
    struct audit_checkpoint c = {.at_unix_ms = clock_wall_ms()};
    memcpy(c.chain, a->chain, sizeof c.chain);
    size_t n = audit_checkpoint_sign(&c, AUDIT_KEY_NAME, a->secret, text);
    if (replace_file(a->dir_fd, AUDIT_CHECKPOINT_FILE, text, n, 0644))
        return err_set(e, "cannot write %s/" AUDIT_CHECKPOINT_FILE ": %s", a->dir, strerror(errno));
    return 0;
}

static int resume_chain(struct audit_log *a, const struct audit_report *r, struct audit_log_found *found,
                        struct err *e)
{
    char name[AUDIT_NAME_MAX];
    struct stat st;
    audit_segment_name(r->last_first_seq, name);
    memcpy(a->chain, r->chain, sizeof a->chain);
    memcpy(a->pos.hash, r->last_hash, sizeof a->pos.hash);
    a->pos.next_seq = r->last_seq + 1;
    a->pos.segment_first = r->last_first_seq;
    a->checkpoint_size = r->checkpoint.size;
    if ((a->fd = openat(a->dir_fd, name, O_RDWR | O_CLOEXEC)) < 0 || fstat(a->fd, &st))
        return err_set(e, "cannot open %s/%s: %s", a->dir, name, strerror(errno));
    a->pos.segment_size = st.st_size - (off_t)r->torn_bytes;
    found->torn_bytes = r->torn_bytes;
    if (r->torn_bytes && (ftruncate(a->fd, a->pos.segment_size) || fdatasync(a->fd)))
        return err_set(e, "cannot cut the torn end off %s/%s: %s", a->dir, name, strerror(errno));
    return 0;
}

struct old {
    const struct audit_log_opts *o;
};

static void visit_old(void *ctx, const struct audit_record *r, const char *file, uint64_t offset)
{
    const struct old *old = ctx;
    (void)file;
    (void)offset;
    if (old->o->on_old)
        old->o->on_old(old->o->ctx, r->stored, r->len);
}

/* A last segment without a whole header is the beginning of one that a crash cut short: it holds nothing. */
static int drop_headless(struct audit_log *a, struct audit_report *r, const struct audit_log_opts *o, struct err *e)
{
    char name[AUDIT_NAME_MAX];
    struct old old = {o};
    audit_segment_name(r->last_first_seq, name);
    if (unlinkat(a->dir_fd, name, 0))
        return err_set(e, "cannot remove the empty segment %s/%s: %s", a->dir, name, strerror(errno));
    return audit_walk_last(a->dir, r, visit_old, &old, e);
}

static int recover(struct audit_log *a, const struct audit_log_opts *o, struct audit_log_found *found, struct err *e)
{
    struct audit_report *r = malloc(sizeof *r); /* too large for the stack of a careful program */
    if (!r)
        return err_set(e, "out of memory");
    struct old old = {o};
    int rc = audit_walk_last(a->dir, r, visit_old, &old, e);
    while (rc == 0 && r->headless)
        rc = drop_headless(a, r, o, e);
    /* Nothing at all is a new trail; a checkpoint of something without it is a trail that was deleted. */
    bool begun = faccessat(a->dir_fd, AUDIT_CHECKPOINT_FILE, F_OK, 0) == 0;
    if (rc == 1 && (r->segments > 0 || (begun && !r->checkpointed))) {
        snprintf(found->why, sizeof found->why, "%s at byte %" PRIu64 ": %.400s", r->problems[0].file,
                 r->problems[0].offset, r->problems[0].what);
        rc = set_aside(a, found, e) ? -1 : 1;
    }
    if (rc == 1)
        rc = begin_chain(a, found, e);
    else if (rc == 0)
        rc = resume_chain(a, r, found, e);
    free(r);
    return rc;
}

struct audit_log *audit_log_open(struct loop *l, const struct audit_log_opts *o, struct audit_log_found *found,
                                 struct err *e)
{
    struct audit_log *a = calloc(1, sizeof *a);
    if (!a) {
        err_set(e, "out of memory");
        return NULL;
    }
    *a = (struct audit_log){.loop = l, .segment_bytes = o->segment_bytes, .fd = -1, .last = &a->first};
    *found = (struct audit_log_found){0};
    snprintf(a->dir, sizeof a->dir, "%s", o->dir);
    if ((a->dir_fd = open(o->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC)) < 0)
        err_set(e, "cannot open directory %s: %s", o->dir, strerror(errno));
    if (a->dir_fd < 0 || load_key(a, e) || recover(a, o, found, e)) {
        free_log(a);
        return NULL;
    }
    return a;
}
