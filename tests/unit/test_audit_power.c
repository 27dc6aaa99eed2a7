/* test_audit_power.c - the power goes at every write, sync and rename of a trail's life. What was not synced is there in part, or not, in any
 * combination. Whatever is left verifies, is gone on with, and holds all that was promised. */
#include "audit/audit_log.h"
#include "audit/audit_verify.h"
#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <setjmp.h>
#include <sodium.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#define SECTOR  512
#define OPS_MAX 8192
#define FILES   1024
#define RECORDS 2048
#define SEGMENT 1500
#define NOTES   256

enum kind { WRITE, TRUNCATE, SYNC, CREATE, RENAME, UNLINK, SYNC_DIR, ACK, NOTED, ROTATED, PRUNED };

/* What was done to the disk, in order; and what was promised on the strength of it. */
struct op {
    enum kind kind;
    size_t file; /* an inode of ours */
    int dir, to_dir;
    char name[64], to[64];
    size_t at, len;
    unsigned char *data;
    uint64_t n; /* ACK: record; NOTED: index of the note; ROTATED, PRUNED: as many */
};

struct journal {
    struct op ops[OPS_MAX];
    size_t n_ops;
    ino_t inodes[FILES]; /* of our numbers, on the real disk */
    size_t n_files;
    ino_t dirs[2];
};

static struct {
    pthread_mutex_t lock;
    struct journal *j; /* NULL = nothing is noted */
    bool storing;      /* records and checkpoints, too */
    enum { HONEST, LIES_OF_FILES, LIES_OF_NAMES } disk;
    /* What was appended, by sequence; and the checkpoints that were told. */
    char records[RECORDS][512];
    size_t record_len[RECORDS];
    char notes[NOTES][AUDIT_NOTE_MAX];
    size_t n_notes;
    size_t writes, fail_at; /* the n-th write fails half-way; 0 = none */
} g = {.lock = PTHREAD_MUTEX_INITIALIZER};

static uint64_t rng;
static uint64_t draw(uint64_t below)
{
    rng ^= rng << 13;
    rng ^= rng >> 7;
    rng ^= rng << 17;
    return below ? (rng >> 11) % below : 0;
}

/* ---- a disk that remembers what was done to it ---- */

static struct op *add(enum kind kind)
{
    assert(g.j->n_ops < OPS_MAX);
    struct op *o = &g.j->ops[g.j->n_ops++];
    *o = (struct op){.kind = kind};
    return o;
}

static size_t file_of(int fd)
{
    struct stat st;
    assert(fstat(fd, &st) == 0);
    for (size_t i = g.j->n_files; i-- > 0;) /* the newest: numbers are used again */
        if (g.j->inodes[i] == st.st_ino)
            return i;
    assert(!"a file that nobody has created");
    return 0;
}

static int dir_of(int fd)
{
    struct stat st;
    assert(fstat(fd, &st) == 0);
    for (int i = 0; i < 2; i++)
        if (g.j->dirs[i] == st.st_ino)
            return i;
    assert(!"another directory");
    return -1;
}

static size_t new_file(int fd)
{
    struct stat st;
    assert(fstat(fd, &st) == 0 && g.j->n_files < FILES);
    g.j->inodes[g.j->n_files] = st.st_ino;
    return g.j->n_files++;
}

static int rec_create(int dir, const char *name, bool exclusive, mode_t mode)
{
    pthread_mutex_lock(&g.lock);
    bool there = faccessat(dir, name, F_OK, 0) == 0;
    int fd = audit_disk_real.create(dir, name, exclusive, mode);
    if (fd >= 0 && g.j) {
        size_t file = there ? file_of(fd) : new_file(fd);
        struct op *o = add(there ? TRUNCATE : CREATE);
        o->file = file;
        o->dir = dir_of(dir);
        snprintf(o->name, sizeof o->name, "%s", name);
    }
    pthread_mutex_unlock(&g.lock);
    return fd;
}

static ssize_t rec_write(int file, const void *data, size_t len, off_t at)
{
    pthread_mutex_lock(&g.lock);
    bool fails = ++g.writes == g.fail_at;
    size_t n = fails ? len / 2 : len;
    ssize_t done = n ? pwrite(file, data, n, at) : 0;
    if (g.j && n) {
        struct op *o = add(WRITE);
        o->file = file_of(file);
        o->at = (size_t)at;
        o->len = n;
        o->data = malloc(n);
        assert(o->data);
        memcpy(o->data, data, n);
    }
    pthread_mutex_unlock(&g.lock);
    if (fails)
        errno = ENOSPC;
    return fails ? -1 : done;
}

static int rec_truncate(int file, off_t len)
{
    pthread_mutex_lock(&g.lock);
    int rc = ftruncate(file, len);
    if (g.j) {
        struct op *o = add(TRUNCATE);
        o->file = file_of(file);
        o->len = (size_t)len;
    }
    pthread_mutex_unlock(&g.lock);
    return rc;
}

static int rec_sync(int file)
{
    pthread_mutex_lock(&g.lock);
    if (g.j && g.disk != LIES_OF_FILES)
        add(SYNC)->file = file_of(file);
    pthread_mutex_unlock(&g.lock);
    return 0;
}

static int rec_rename(int from_dir, const char *from, int to_dir, const char *to)
{
    pthread_mutex_lock(&g.lock);
    int fd = openat(from_dir, from, O_RDONLY), rc = renameat(from_dir, from, to_dir, to);
    if (rc == 0 && g.j) {
        struct op *o = add(RENAME);
        o->file = file_of(fd);
        o->dir = dir_of(from_dir);
        o->to_dir = dir_of(to_dir);
        snprintf(o->name, sizeof o->name, "%s", from);
        snprintf(o->to, sizeof o->to, "%s", to);
    }
    int saved = errno;
    if (fd >= 0)
        close(fd);
    pthread_mutex_unlock(&g.lock);
    errno = saved;
    return rc;
}

static int rec_unlink(int dir, const char *name)
{
    pthread_mutex_lock(&g.lock);
    int fd = openat(dir, name, O_RDONLY), rc = unlinkat(dir, name, 0), saved = errno;
    if (rc == 0 && g.j) {
        struct op *o = add(UNLINK);
        o->file = file_of(fd);
        o->dir = dir_of(dir);
        snprintf(o->name, sizeof o->name, "%s", name);
    }
    if (fd >= 0)
        close(fd);
    pthread_mutex_unlock(&g.lock);
    errno = saved;
    return rc;
}

static int rec_sync_dir(int dir)
{
    pthread_mutex_lock(&g.lock);
    if (g.j && g.disk != LIES_OF_NAMES)
        add(SYNC_DIR)->dir = dir_of(dir);
    pthread_mutex_unlock(&g.lock);
    return 0;
}

/* Nothing of a trail that only lost its power may ever be set aside. */
static int no_make_dir(int dir, const char *name, mode_t mode)
{
    (void)dir;
    (void)mode;
    (void)name;
    errno = EPERM;
    return -1;
}

static const struct audit_disk recorder = {.create = rec_create,
                                           .write = rec_write,
                                           .truncate = rec_truncate,
                                           .sync = rec_sync,
                                           .rename = rec_rename,
                                           .unlink = rec_unlink,
                                           .make_dir = no_make_dir,
                                           .sync_dir = rec_sync_dir};

static void promise(enum kind kind, uint64_t n)
{
    pthread_mutex_lock(&g.lock);
    if (g.j)
        add(kind)->n = n;
    pthread_mutex_unlock(&g.lock);
}

/* ---- a disk as it is found after the power went ---- */

struct bytes {
    unsigned char *p;
    size_t n;
};

struct file {
    struct bytes old, now; /* synced, and with all that came since */
};

struct name {
    char name[64];
    size_t file;
    bool there;
};

struct disk {
    struct file files[FILES];
    struct name names[2][FILES];
    size_t n_names[2];
};

static void set_size(struct bytes *b, size_t n)
{
    b->p = realloc(b->p, n + 1);
    assert(b->p);
    if (n > b->n)
        memset(b->p + b->n, 0, n - b->n);
    b->n = n;
}

static void copy_bytes(struct bytes *to, const struct bytes *from)
{
    set_size(to, from->n);
    if (from->n)
        memcpy(to->p, from->p, from->n);
}

static struct name *find(struct disk *d, int dir, const char *name)
{
    for (size_t i = 0; i < d->n_names[dir]; i++)
        if (strcmp(d->names[dir][i].name, name) == 0)
            return &d->names[dir][i];
    assert(d->n_names[dir] < FILES);
    struct name *n = &d->names[dir][d->n_names[dir]++];
    snprintf(n->name, sizeof n->name, "%s", name);
    n->there = false;
    return n;
}

static void apply_name(struct disk *d, const struct op *o)
{
    struct name *n = find(d, o->dir, o->name);
    if (o->kind == CREATE) {
        n->file = o->file;
        n->there = true;
        return;
    }
    if (n->there && n->file == o->file)
        n->there = false;
    if (o->kind == RENAME) {
        n = find(d, o->to_dir, o->to);
        n->file = o->file;
        n->there = true;
    }
}

/* Which of the names' changes since the last sync have come through: all before some moment, or any of them. A rename is one change. */
static void lose_names(struct disk *d, size_t from, size_t crash, int dir)
{
    size_t n = 0, any = draw(2);
    for (size_t i = from; i < crash; i++)
        n += (g.j->ops[i].kind == CREATE || g.j->ops[i].kind == RENAME || g.j->ops[i].kind == UNLINK) &&
             g.j->ops[i].dir == dir;
    size_t keep = draw(n + 1);
    for (size_t i = from; i < crash; i++) {
        const struct op *o = &g.j->ops[i];
        if ((o->kind != CREATE && o->kind != RENAME && o->kind != UNLINK) || o->dir != dir)
            continue;
        if (any ? draw(2) : keep > 0)
            apply_name(d, o);
        keep -= keep > 0;
    }
}

/* Sector by sector the old or the new, and any size between. */
static void lose_bytes(struct file *f)
{
    uint64_t way = draw(4);
    if (way == 0)
        return;
    if (way == 1) {
        copy_bytes(&f->old, &f->now);
        return;
    }
    size_t low = f->old.n < f->now.n ? f->old.n : f->now.n, high = f->old.n < f->now.n ? f->now.n : f->old.n;
    size_t size = way == 2 ? high : low + draw(high - low + 1);
    struct bytes now = {0};
    copy_bytes(&now, &f->now);
    set_size(&now, size);
    size_t old_n = f->old.n;
    set_size(&f->old, size);
    for (size_t at = 0; at < size; at += SECTOR) {
        size_t n = size - at < SECTOR ? size - at : SECTOR;
        if (at >= f->now.n && at < old_n)
            continue;
        if (draw(3))
            memcpy(f->old.p + at, now.p + at, n);
    }
    free(now.p);
}

/* The operations before `crash`; what the disk had not been told to keep is lost as chance wills. */
static void replay(struct disk *d, size_t crash)
{
    size_t synced[2] = {0, 0}; /* names of the directory are safe before this */
    for (size_t i = 0; i < crash; i++)
        if (g.j->ops[i].kind == SYNC_DIR)
            synced[g.j->ops[i].dir] = i;
    for (size_t i = 0; i < crash; i++) {
        const struct op *o = &g.j->ops[i];
        struct file *f = &d->files[o->file];
        switch (o->kind) {
        case WRITE:
            if (o->at + o->len > f->now.n)
                set_size(&f->now, o->at + o->len);
            if (o->len)
                memcpy(f->now.p + o->at, o->data, o->len);
            break;
        case TRUNCATE:
            set_size(&f->now, o->len);
            break;
        case SYNC:
            copy_bytes(&f->old, &f->now);
            break;
        case CREATE:
        case RENAME:
        case UNLINK:
            if (i < synced[o->dir])
                apply_name(d, o);
            break;
        default:
            break;
        }
    }
    for (int dir = 0; dir < 2; dir++)
        lose_names(d, synced[dir], crash, dir);
    for (size_t i = 0; i < g.j->n_files; i++)
        lose_bytes(&d->files[i]);
}

static void write_out(const struct disk *d, const char *const dirs[2])
{
    for (int dir = 0; dir < 2; dir++) {
        for (size_t i = 0; i < d->n_names[dir]; i++) {
            const struct name *n = &d->names[dir][i];
            char path[512];
            if (!n->there)
                continue;
            snprintf(path, sizeof path, "%s/%s", dirs[dir], n->name);
            int fd = open(path, O_WRONLY | O_CREAT | O_EXCL, strstr(n->name, ".key") ? 0600 : 0644);
            const struct bytes *b = &d->files[n->file].old;
            assert_true(fd >= 0 && write(fd, b->p, b->n) == (ssize_t)b->n);
            close(fd);
        }
    }
}

static void free_disk(struct disk *d)
{
    for (size_t i = 0; i < FILES; i++) {
        free(d->files[i].old.p);
        free(d->files[i].now.p);
    }
    free(d);
}

static void empty(const char *dir)
{
    DIR *d = opendir(dir);
    assert_non_null(d);
    for (struct dirent *f; (f = readdir(d));)
        if (*f->d_name != '.')
            unlinkat(dirfd(d), f->d_name, 0);
    closedir(d);
}

/* ---- a trail's life ---- */

struct life {
    struct loop *loop;
    struct audit_log *log;
    size_t out; /* answers that are awaited */
    bool idle;
    size_t failed;
};

struct sent {
    struct life *l;
    char text[512];
    size_t len;
};

static void came(struct life *l)
{
    l->idle = --l->out == 0;
}

static void on_append(void *ctx, uint64_t seq, const char *error)
{
    struct sent *s = ctx;
    (void)error;
    s->l->failed += seq == 0;
    if (seq && g.storing) {
        assert_true(seq < RECORDS);
        memcpy(g.records[seq], s->text, s->len);
        g.record_len[seq] = s->len;
        promise(ACK, seq);
    }
    came(s->l);
    free(s);
}

static void on_checkpoint(void *ctx, const struct audit_checkpoint *c, const char *note, size_t len)
{
    (void)ctx;
    (void)c;
    if (!g.storing)
        return;
    assert_true(g.n_notes < NOTES);
    memcpy(g.notes[g.n_notes], note, len);
    g.notes[g.n_notes][len] = 0;
    promise(NOTED, g.n_notes++);
}

static void on_rotated(void *ctx, const char *error)
{
    struct life *l = ctx;
    struct audit_log_status st;
    audit_log_status(l->log, &st);
    l->failed += *error != 0;
    if (!*error)
        promise(ROTATED, st.rotations);
    came(l);
}

static void on_pruned(void *ctx, const char *error)
{
    struct life *l = ctx;
    struct audit_log_status st;
    audit_log_status(l->log, &st);
    l->failed += *error != 0;
    promise(PRUNED, st.pruned);
    came(l);
}

static void on_closed(void *ctx)
{
    *(bool *)ctx = true;
}

static void append(struct life *l, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        struct sent *s = calloc(1, sizeof *s);
        assert_non_null(s);
        s->l = l;
        s->len = 1 + (size_t)draw(draw(5) ? 60 : 500);
        for (size_t k = 0; k < s->len; k++)
            s->text[k] = (char)(draw(3) ? draw(256) : 0); /* zeros, too: as what was never written looks */
        l->out++;
        audit_log_append(l->log, s->text, s->len, on_append, s);
    }
}

static void settle(struct life *l)
{
    l->idle = l->out == 0;
    assert_true(l->idle || loop_run_until(l->loop, &l->idle, 30000));
}

static struct audit_log *open_log(struct life *l, const char *const dirs[2], const struct audit_disk *disk,
                                  struct audit_log_found *found)
{
    struct err e = {""};
    struct audit_log_opts o = {.dir = dirs[0],
                               .second_dir = dirs[1],
                               .segment_bytes = SEGMENT,
                               .disk = disk,
                               .on_checkpoint = on_checkpoint};
    l->log = audit_log_open(l->loop, &o, found, &e);
    return l->log;
}

static void close_log(struct life *l)
{
    bool done = false;
    settle(l);
    audit_log_close(l->log, on_closed, &done);
    assert_true(loop_run_until(l->loop, &done, 30000));
    l->log = NULL;
}

/* Some of everything, much of it at the same time. */
static void live(struct life *l, const char *const dirs[2], size_t steps)
{
    struct audit_log_found found;
    struct audit_log_status st;
    assert_non_null(open_log(l, dirs, &recorder, &found));
    for (size_t i = 0; i < steps; i++) {
        append(l, 1 + (size_t)draw(6));
        switch (draw(9)) {
        case 0:
        case 1:
            audit_log_checkpoint(l->log);
            break;
        case 2:
            settle(l);
            l->out++;
            audit_log_rotate_key(l->log, on_rotated, l);
            break;
        case 3:
            settle(l);
            audit_log_status(l->log, &st);
            l->out++;
            audit_log_prune(l->log, st.size - draw(st.size / 2 + 1), on_pruned, l);
            break;
        case 4:
            audit_log_place(l->log, draw(2));
            break;
        default:
            break;
        }
        if (draw(3))
            settle(l);
    }
    close_log(l);
}

/* ---- what must hold ---- */

/* The first promise that was broken; "" = none. */
static char broken[1024];
static const char *moment = "";
__attribute__((format(printf, 1, 2))) static void breaks(const char *fmt, ...)
{
    if (broken[0])
        return;
    size_t n = (size_t)snprintf(broken, sizeof broken, "%s: ", moment);
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(broken + n, sizeof broken - n, fmt, ap);
    va_end(ap);
}

struct promised {
    uint64_t acked, rotations, pruned;
    const char *note;
    uint64_t seen; /* by the visitor */
};

static struct promised promised_until(size_t crash)
{
    struct promised p = {0};
    for (size_t i = 0; i < crash; i++) {
        const struct op *o = &g.j->ops[i];
        if (o->kind == ACK)
            p.acked = o->n;
        else if (o->kind == ROTATED)
            p.rotations = o->n;
        else if (o->kind == PRUNED)
            p.pruned = o->n;
        else if (o->kind == NOTED)
            p.note = g.notes[o->n];
    }
    return p;
}

static void visit(void *ctx, const struct audit_record *r, const char *file, uint64_t offset)
{
    struct promised *p = ctx;
    (void)file;
    (void)offset;
    if (r->seq > p->acked)
        return;
    if (r->len != g.record_len[r->seq] || memcmp(r->stored, g.records[r->seq], r->len) != 0)
        breaks("record %" PRIu64 " is another than was acknowledged", r->seq);
    p->seen = r->seq;
}

static void check(const char *const dirs[2], struct promised p)
{
    struct err e = {""};
    struct audit_report *r = calloc(1, sizeof *r);
    assert_non_null(r);
    struct audit_verify_opts v = {.dirs = {dirs[0], dirs[1]}, .n_dirs = 2, .visit = visit, .ctx = &p};
    if (p.note)
        v.anchors[v.n_anchors++] = p.note;
    int rc = audit_verify_trail(&v, r, &e);
    /* Before anything was written there is no trail yet. */
    bool nothing = rc == 1 && r->segments == 0 && p.acked == 0;
    if (rc && !nothing)
        breaks("%s at byte %" PRIu64 ": %s", rc < 0 ? "" : r->problems[0].file, r->problems[0].offset,
               rc < 0 ? e.text : r->problems[0].what);
    else if (p.acked > r->pruned && p.seen < p.acked)
        breaks("record %" PRIu64 " of %" PRIu64 " is lost", p.seen + 1, p.acked);
    else if (!nothing && (r->keys.n - 1 < p.rotations || r->pruned < p.pruned))
        breaks("%zu changes of the key of %" PRIu64 ", pruned to %" PRIu64 " of %" PRIu64, r->keys.n - 1, p.rotations,
               r->pruned, p.pruned);
    free(r);
}

#define PLACES 6
struct fixture {
    char root[128];
    char paths[PLACES]
              [160]; /* two directories each: of the life, of what the power left, of what it left the second time */
    struct loop loop;
    struct journal life, again;
};

static ino_t inode_of(const char *path)
{
    struct stat st;
    assert_int_equal(stat(path, &st), 0);
    return st.st_ino;
}

static void begin_journal(struct journal *j, const char *const dirs[2])
{
    for (size_t i = 0; i < j->n_ops; i++)
        free(j->ops[i].data);
    j->n_ops = j->n_files = 0;
    j->dirs[0] = inode_of(dirs[0]);
    j->dirs[1] = inode_of(dirs[1]);
}

static void power_goes(const char *const dirs[2], size_t crash)
{
    struct disk *d = calloc(1, sizeof *d);
    assert_non_null(d);
    replay(d, crash);
    write_out(d, dirs);
    free_disk(d);
}

/* It opens, goes on, and what was promised is there. */
static void comes_back(struct fixture *f, const char *const dirs[2], struct promised p)
{
    struct life l = {.loop = &f->loop};
    struct audit_log_found found;
    struct audit_log_status st;
    if (p.acked || p.note) /* as it lies there */
        check(dirs, p);
    if (!open_log(&l, dirs, &recorder, &found)) {
        breaks("not opened: %.400s", found.why);
        return;
    }
    audit_log_status(l.log, &st);
    if (st.size < p.acked)
        breaks("%" PRIu64 " of %" PRIu64 " records", st.size, p.acked);
    append(&l, 3);
    close_log(&l);
    if (l.failed)
        breaks("%zu failed", l.failed);
    check(dirs, p);
}

/* What lies there is a journal's beginning. */
static void note_disk(const char *const dirs[2])
{
    for (int i = 0; i < 2; i++) {
        DIR *d = opendir(dirs[i]);
        assert_non_null(d);
        for (struct dirent *e; (e = readdir(d));) {
            int fd = *e->d_name == '.' ? -1 : openat(dirfd(d), e->d_name, O_RDONLY);
            struct stat st;
            if (fd < 0)
                continue;
            assert_int_equal(fstat(fd, &st), 0);
            size_t file = new_file(fd);
            struct op *o = add(CREATE);
            o->file = file;
            o->dir = i;
            snprintf(o->name, sizeof o->name, "%.63s", e->d_name);
            o = add(WRITE);
            o->file = file;
            o->len = (size_t)st.st_size;
            o->data = malloc(o->len + 1);
            assert_non_null(o->data);
            assert_int_equal(pread(fd, o->data, o->len, 0), o->len);
            add(SYNC)->file = file;
            close(fd);
        }
        closedir(d);
        add(SYNC_DIR)->dir = i;
    }
}

static void clear(struct fixture *f, int from)
{
    for (int i = from; i < PLACES; i++)
        empty(f->paths[i]);
}

/* The power goes, and once more while the trail comes back. */
static void lose_power(struct fixture *f, size_t crash, bool twice)
{
    const char *const dirs[2] = {f->paths[2], f->paths[3]}, *const more[2] = {f->paths[4], f->paths[5]};
    g.j = &f->life;
    power_goes(dirs, crash);
    struct promised p = promised_until(crash);
    g.j = twice ? &f->again : NULL;
    if (twice) {
        begin_journal(g.j, dirs);
        note_disk(dirs);
    }
    size_t begin = twice ? g.j->n_ops : 0;
    comes_back(f, dirs, p);
    for (size_t i = begin; twice && i <= f->again.n_ops; i++) {
        g.j = &f->again;
        power_goes(more, i);
        g.j = NULL;
        comes_back(f, more, p);
        clear(f, 4);
    }
    g.j = NULL;
    clear(f, 2);
}

/* A trail's life of so many steps, and the power goes at each `stride`th moment of it. */
static void one_world(struct fixture *f, uint64_t seed, size_t steps, size_t fail_at, size_t stride)
{
    static char name[128];
    const char *const dirs[2] = {f->paths[0], f->paths[1]};
    struct life l = {.loop = &f->loop};
    broken[0] = 0;
    begin_journal(&f->life, dirs);
    g.n_notes = g.writes = 0;
    rng = seed * 0x9e3779b97f4a7c15;
    g.fail_at = fail_at;
    g.j = &f->life;
    g.storing = true;
    live(&l, dirs, steps);
    g.storing = false;
    g.j = NULL;
    g.fail_at = 0;
    moment = name;
    size_t ops = f->life.n_ops;
    assert_true(ops > steps);
    for (size_t crash = 0; crash <= ops && !broken[0]; crash += stride) {
        snprintf(name, sizeof name, "seed %" PRIu64 ", power gone before operation %zu of %zu", seed, crash, ops);
        rng = seed * 0x9e3779b97f4a7c15 + crash + 1;
        lose_power(f, crash, crash % 61 == 5);
    }
    clear(f, 0);
}

static bool few(void)
{
#if defined __SANITIZE_ADDRESS__ || defined __SANITIZE_THREAD__
    return true;
#else
    return getenv("VALGRIND") != NULL;
#endif
}

static void test_every_moment(void **state)
{
    for (uint64_t seed = 1; seed <= (few() ? 1 : 2); seed++) {
        one_world(*state, seed * 7919, few() ? 12 : 30, 0, few() ? 7 : 1);
        if (broken[0])
            fail_msg("%s", broken);
    }
}

/* And the disk was full for a moment, some time before: nothing that a failed write left is in the way later. */
static void test_failed_write_before(void **state)
{
    for (uint64_t seed = 1; seed <= (few() ? 1 : 3); seed++) {
        one_world(*state, seed * 104729, few() ? 8 : 14, 5 + 11 * seed, few() ? 9 : 1);
        if (broken[0])
            fail_msg("%s", broken);
    }
}

/* A disk that says it has kept what it has not: that this is noticed shows that the two above could fail. */
static void test_lying_disk(void **state)
{
    for (int lie = LIES_OF_FILES; lie <= LIES_OF_NAMES; lie++) {
        size_t found = 0;
        for (uint64_t seed = 1; seed <= 6 && !found; seed++) {
            g.disk = lie;
            one_world(*state, seed, 10, 0, 3);
            found += broken[0] != 0;
        }
        g.disk = HONEST;
        assert_true(found > 0);
    }
}

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    const char *tmp = getenv("TMPDIR");
    if (!f || sodium_init() < 0)
        return -1;
    char root[128];
    snprintf(root, sizeof root, "%s/redoubt-power-XXXXXX", tmp ? tmp : "/tmp");
    if (!mkdtemp(root) || loop_init(&f->loop))
        return -1;
    memcpy(f->root, root, sizeof root);
    for (int i = 0; i < PLACES; i++) {
        snprintf(f->paths[i], sizeof f->paths[i], "%s/%d", root, i);
        if (mkdir(f->paths[i], 0700))
            return -1;
    }
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    clear(f, 0);
    const char *const dirs[2] = {f->paths[0], f->paths[1]};
    begin_journal(&f->life, dirs);
    begin_journal(&f->again, dirs);
    for (int i = 0; i < PLACES; i++)
        rmdir(f->paths[i]);
    rmdir(f->root);
    loop_done(&f->loop);
    free(f);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_every_moment, setup, teardown),
        cmocka_unit_test_setup_teardown(test_failed_write_before, setup, teardown),
        cmocka_unit_test_setup_teardown(test_lying_disk, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
