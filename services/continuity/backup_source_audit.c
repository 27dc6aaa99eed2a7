/* backup_source_audit.c - trails as a kind of backup: copied while they are written, and checked from the first byte to the last when they are restored.
 *
 * Segments only grow. The checkpoint is copied first, then the segments, so that a copy always holds what its checkpoint signs; what was written meanwhile may end in the middle of
 * a record, which a trail may after a crash, too. A segment that is full never changes again: it only gets a further name. Path i of the source is below `i/`. */
#include "audit/audit_verify.h"
#include "common/tree.h"
#include "common/work.h"
#include "continuity/backup_source.h"
#include "continuity/continuity_shell.h"
#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <fts.h>
#include <limits.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define PATHS 16
#define TRIES 5 /* retention or a change of the key came in between */
#define PIECE (1024 * 1024)

struct making {
    struct work *work;
    backup_made cb;
    void *ctx;
};
struct copying {
    char from[PATHS][PATH_MAX];
    size_t n;
    char to[PATH_MAX];
};

/* ---- copying ---- */

static bool is_segment(const char *name)
{
    size_t n = strlen(name);
    return n > 4 && strcmp(name + n - 4, ".seg") == 0;
}

/* Says what a trail is by more than its own end: a copy in which one of these has changed meanwhile may not fit together. */
static bool is_anchor(const char *name)
{
    static const char *const names[] = {AUDIT_KEYS_FILE, AUDIT_PUBLIC_FILE, AUDIT_PRUNED_FILE, AUDIT_SECRET_FILE};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strcmp(name, names[i]) == 0)
            return true;
    return false;
}

/* As much as there was when it was opened. */
static int pump(int in, int out, off_t size, const atomic_bool *stop)
{
    char *piece = malloc(PIECE);
    assert(piece && "out of memory for a buffer");
    int bad = 0;
    while (!bad && size > 0 && !atomic_load(stop)) {
        ssize_t n = read(in, piece, size < PIECE ? (size_t)size : PIECE);
        if (n <= 0) {
            bad = n < 0;
            break;
        }
        for (ssize_t at = 0, put; !bad && at < n; at += put) {
            put = write(out, piece + at, (size_t)(n - at));
            bad = put <= 0;
            put = bad ? 0 : put;
        }
        size -= n;
    }
    free(piece);
    return bad ? -1 : 0;
}

static int copy_file(const char *from, const char *to, const atomic_bool *stop)
{
    struct stat st;
    int in = open(from, O_RDONLY | O_NOFOLLOW | O_CLOEXEC), out = -1, bad = in < 0 || fstat(in, &st) != 0;
    if (!bad)
        out = open(to, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, st.st_mode & 0777);
    bad = bad || out < 0 || pump(in, out, st.st_size, stop) != 0 ||
          futimens(out, (const struct timespec[]){st.st_atim, st.st_mtim}) != 0;
    int why = errno;
    if (in >= 0)
        close(in);
    if (out >= 0)
        close(out);
    errno = why;
    return bad ? -1 : 0;
}

/* Another file system, or another owner: copied, which only costs time. */
static int name_again(const char *from, const char *to, const atomic_bool *stop)
{
    if (link(from, to) == 0)
        return 0;
    return errno == ENOENT ? -1 : copy_file(from, to, stop);
}

/* In one directory the newest segment is the one that grows. */
static bool is_newest(const char *path)
{
    char dir[PATH_MAX];
    snprintf(dir, sizeof dir, "%s", path);
    char *slash = strrchr(dir, '/');
    if (!slash)
        return true;
    *slash = '\0';
    DIR *d = opendir(dir);
    bool newest = true;
    for (struct dirent *x; d && newest && (x = readdir(d));)
        newest = !is_segment(x->d_name) || strcmp(x->d_name, slash + 1) <= 0;
    if (d)
        closedir(d);
    return newest;
}

enum pass { PASS_NOTES, PASS_SEGMENTS, PASS_LOOK };

static bool same_file(const char *a, const char *b)
{
    size_t n = 0, k = 0;
    char *x = (char *)audit_read_file("", a, 1024 * 1024, &n, NULL),
         *y = (char *)audit_read_file("", b, 1024 * 1024, &k, NULL);
    bool same = x && y && n == k && memcmp(x, y, n) == 0;
    free(x);
    free(y);
    return same;
}

/* 1 = something has changed meanwhile: all over again. */
static int one_file(enum pass pass, const char *from, const char *to, const char *name, const atomic_bool *stop,
                    struct err *e)
{
    bool segment = is_segment(name);
    int bad = 0;
    if (pass == PASS_NOTES && !segment)
        bad = copy_file(from, to, stop);
    else if (pass == PASS_SEGMENTS && segment)
        bad = is_newest(from) ? copy_file(from, to, stop) : name_again(from, to, stop);
    else if (pass == PASS_LOOK && is_anchor(name))
        return same_file(from, to) ? 0 : 1;
    if (!bad)
        return 0;
    if (errno == ENOENT)
        return segment ? 1 : 0; /* a note that is just being replaced, a lock, what waited and was sent */
    return err_set(e, "%.300s cannot be copied: %s", from, strerror(errno));
}

static int walk(enum pass pass, const char *root, const char *to, const atomic_bool *stop, struct err *e)
{
    FTS *f = fts_open((char *const[]){(char *)root, NULL}, FTS_PHYSICAL | FTS_NOCHDIR, NULL);
    size_t skip = strlen(root);
    int bad = f ? 0 : err_set(e, "%.300s: %s", root, strerror(errno));
    for (FTSENT *x; !bad && (x = fts_read(f));) {
        char path[PATH_MAX];
        snprintf(path, sizeof path, "%.2000s%.2000s", to, x->fts_path + skip);
        if (atomic_load(stop))
            bad = err_set(e, "it was cut short");
        else if (x->fts_info == FTS_D && pass == PASS_NOTES)
            bad = mkdir(path, 0700) != 0 ? err_set(e, "%.300s: %s", path, strerror(errno)) : 0;
        else if (x->fts_info == FTS_F)
            bad = one_file(pass, x->fts_path, path, x->fts_name, stop, e);
        else if (x->fts_info == FTS_DNR || x->fts_info == FTS_ERR || (x->fts_info == FTS_NS && x->fts_level == 0))
            bad = err_set(e, "%.300s cannot be read: %s", x->fts_path, strerror(x->fts_errno));
    }
    if (f)
        fts_close(f);
    return bad;
}

static void times_of_dirs(const char *root, const char *to)
{
    FTS *f = fts_open((char *const[]){(char *)root, NULL}, FTS_PHYSICAL | FTS_NOCHDIR, NULL);
    for (FTSENT *x; f && (x = fts_read(f));) {
        char path[PATH_MAX];
        snprintf(path, sizeof path, "%.2000s%.2000s", to, x->fts_path + strlen(root));
        if (x->fts_info == FTS_DP)
            (void)utimensat(AT_FDCWD, path, (const struct timespec[]){x->fts_statp->st_atim, x->fts_statp->st_mtim},
                            0);
    }
    if (f)
        fts_close(f);
}

static int copy_all(void *arg, const atomic_bool *stop, struct err *e)
{
    const struct copying *c = arg;
    int bad = 1;
    for (int tries = 0; bad == 1 && tries < TRIES; tries++) {
        bad = 0;
        for (int pass = PASS_NOTES; !bad && pass <= PASS_LOOK; pass++)
            for (size_t i = 0; !bad && i < c->n; i++) {
                char to[PATH_MAX + 64];
                snprintf(to, sizeof to, "%s/.redoubt-%d-%zu", c->to, tries, i);
                bad = walk((enum pass)pass, c->from[i], to, stop, e);
            }
        for (size_t i = 0; i < c->n && bad >= 0; i++) {
            char at[PATH_MAX + 64], to[PATH_MAX + 64];
            snprintf(at, sizeof at, "%s/.redoubt-%d-%zu", c->to, tries, i);
            snprintf(to, sizeof to, "%s/%zu", c->to, i);
            if (bad == 0 && rename(at, to) == 0)
                times_of_dirs(c->from[i], to);
            else if (bad == 0)
                bad = err_set(e, "%.300s: %s", to, strerror(errno));
            else if (tree_remove(at, false, e))
                bad = -1;
        }
    }
    return bad == 1 ? err_set(e, "the trail has changed again and again while it was copied") : bad;
}

static void on_copied(void *ctx, int status, const struct err *e)
{
    struct making *m = ctx;
    m->cb(m->ctx, status == 0, e->text);
    free(m);
}

static void *make(struct continuity *c, const struct set_backup *set, const char *dir, backup_made cb, void *ctx)
{
    struct making *m = calloc(1, sizeof *m);
    struct copying *what = calloc(1, sizeof *what);
    assert(m && what && "out of memory for a copy");
    for (size_t i = 0; i < set->path.n && i < PATHS; i++)
        snprintf(what->from[what->n++], PATH_MAX, "%.2000s", *CONF_AT(set->path, char *, i));
    snprintf(what->to, sizeof what->to, "%.2000s", dir);
    *m = (struct making){.cb = cb, .ctx = ctx};
    m->work = work_start(&continuity_service_of(c)->loop, copy_all, what, free, on_copied, m);
    return m;
}

static void cancel(void *making)
{
    struct making *m = making;
    work_drop(m->work);
    free(m);
}

/* ---- a copy that was restored ---- */

static bool has(const char *dir, const char *name)
{
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%.3000s/%.200s", dir, name);
    return access(path, F_OK) == 0;
}

static int problem_of(const char *dir, const struct audit_report *r, struct err *e)
{
    const struct audit_problem *p = &r->problems[0];
    return err_set(e, "trail %.100s has %zu problem%s; the first: %.80s at byte %llu: %.200s", strrchr(dir, '/') + 1,
                   r->n_problems, r->n_problems == 1 ? "" : "s", p->file, (unsigned long long)p->offset, p->what);
}

/* A trail whose segments lie in two places: the other is `<host>-audit-<number>` of a later path. */
static size_t others_of(const char *dir, const char *top, char (*ret)[PATH_MAX], size_t max)
{
    size_t n = 0;
    char ends[300];
    snprintf(ends, sizeof ends, "-audit-%.200s", strrchr(dir, '/') + 1);
    for (int i = 0; i < PATHS && n < max; i++) {
        char root[PATH_MAX];
        snprintf(root, sizeof root, "%.2000s/%d", top, i);
        DIR *d = opendir(root);
        for (struct dirent *x; d && n < max && (x = readdir(d));) {
            size_t a = strlen(x->d_name), b = strlen(ends);
            if (a > b && strcmp(x->d_name + a - b, ends) == 0)
                snprintf(ret[n++], PATH_MAX, "%.2000s/%.255s", root, x->d_name);
        }
        if (d)
            closedir(d);
    }
    return n;
}

static int verify_trail(const char *dir, const char *top, struct err *e)
{
    char others[AUDIT_DIRS_MAX - 1][PATH_MAX];
    struct audit_report *r = calloc(1, sizeof *r);
    struct audit_verify_opts o = {.dirs = {dir}, .n_dirs = 1, .threads = 1};
    assert(r && "out of memory for a report");
    size_t n = others_of(dir, top, others, AUDIT_DIRS_MAX - 1);
    for (size_t i = 0; i < n; i++)
        o.dirs[o.n_dirs++] = others[i];
    int found = audit_verify_trail(&o, r, e);
    if (found > 0)
        found = problem_of(dir, r, e);
    else if (found == 0 && r->records > 0 && !r->checkpointed)
        found = err_set(e, "trail %.100s holds no signed checkpoint", strrchr(dir, '/') + 1);
    free(r);
    return found;
}

static int verify(const char *dir, const atomic_bool *stop, struct err *e)
{
    size_t trails = 0;
    int bad = sodium_init() < 0 ? err_set(e, "no source of randomness") : 0;
    FTS *f = fts_open((char *const[]){(char *)dir, NULL}, FTS_PHYSICAL | FTS_NOCHDIR, NULL);
    if (!f)
        return err_set(e, "%.300s: %s", dir, strerror(errno));
    for (FTSENT *x; !bad && (x = fts_read(f));) {
        if (x->fts_info != FTS_D)
            continue;
        if (stop && atomic_load(stop))
            bad = err_set(e, "it was cut short");
        else if (strncmp(x->fts_name, "set-aside-", 10) == 0) /* did not verify already when it was moved there */
            fts_set(f, x, FTS_SKIP);
        else if (has(x->fts_path, AUDIT_PUBLIC_FILE)) {
            bad = verify_trail(x->fts_path, dir, e);
            trails++;
        }
    }
    fts_close(f);
    return !bad && trails == 0 ? err_set(e, "there is no trail in it") : bad;
}

const struct backup_source_kind backup_source_audit = {
    .name = "audit", .make = make, .cancel = cancel, .verify = verify};
