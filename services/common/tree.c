/* tree.c - what a directory tree holds, as a hash; and removing one of ours. */
#include "common/tree.h"
#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <fts.h>
#include <inttypes.h>
#include <openssl/evp.h>
#include <search.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#define PIECE     (256 * 1024)
#define HOLE      (64 * 1024) /* the least that is worth a hole */
#define XATTR_MAX (64 * 1024)

/* ---- hashes ---- */

static EVP_MD_CTX *hash_new(void)
{
    EVP_MD_CTX *h = EVP_MD_CTX_new();
    int ok = h && EVP_DigestInit_ex(h, EVP_sha256(), NULL);
    assert(ok && "out of memory for a hash");
    return h;
}

static void hash_add(EVP_MD_CTX *h, const void *data, size_t n)
{
    int ok = EVP_DigestUpdate(h, data, n);
    assert(ok);
}

/* With its end, so that no two rows of texts look alike. */
static void hash_text(EVP_MD_CTX *h, const char *text)
{
    hash_add(h, text, strlen(text) + 1);
}

static void hash_end(EVP_MD_CTX *h, char hex[static 65])
{
    unsigned char raw[EVP_MAX_MD_SIZE];
    unsigned n = 0;
    int ok = EVP_DigestFinal_ex(h, raw, &n);
    assert(ok && n == 32);
    for (size_t i = 0; i < 64; i++)
        hex[i] = "0123456789abcdef"[i % 2 ? raw[i / 2] & 15 : raw[i / 2] >> 4];
    hex[64] = '\0';
    EVP_MD_CTX_free(h);
}

/* ---- hard links: the first name of each is where the others point to ---- */

struct link {
    dev_t dev;
    ino_t ino;
    char *first;
};

static int by_inode(const void *a, const void *b)
{
    const struct link *x = a, *y = b;
    if (x->dev != y->dev)
        return x->dev < y->dev ? -1 : 1;
    return x->ino < y->ino ? -1 : x->ino > y->ino;
}

static void link_free(void *p)
{
    free(((struct link *)p)->first);
    free(p);
}

/* The name under which this file was seen first; NULL: it is the first. */
static const char *link_seen(void **links, const struct stat *st, const char *name)
{
    struct link key = {st->st_dev, st->st_ino, NULL};
    struct link **found = tfind(&key, links, by_inode);
    if (found)
        return (*found)->first;
    struct link *l = malloc(sizeof *l);
    assert(l && "out of memory for a link");
    *l = (struct link){st->st_dev, st->st_ino, strdup(name)};
    void *put = l->first ? tsearch(l, links, by_inode) : NULL;
    assert(put && "out of memory for a link");
    return NULL;
}

/* ---- a walk ---- */

struct walk {
    const struct tree_opts *o;
    EVP_MD_CTX *content, *meta; /* of all */
    void *links;
    struct tree_sum *sum;
    char *piece;
    size_t root; /* index of the one that is walked */
    struct err *e;
};

static bool stopped(const struct tree_opts *o)
{
    return o->stop && atomic_load(o->stop);
}

static int wrong(const struct walk *w, const char *path, const char *what)
{
    return err_set(w->e, "%.300s: %s: %s", path, what, strerror(errno));
}

static bool all_zero(const char *p, size_t n)
{
    return n > 0 && *p == 0 && memcmp(p, p + 1, n - 1) == 0;
}

/* Its content has been read: what is nothing but zeros takes no room. Its times stay as they are. */
static void dig(int fd, const struct stat *st, off_t from, size_t n)
{
    if (fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, from, (off_t)n) == 0)
        (void)futimens(fd, (const struct timespec[]){st->st_atim, st->st_mtim});
}

static int read_file(struct walk *w, const char *path, const struct stat *st, char hex[static 65], bool *ret_gone)
{
    int fd = open(path, (w->o->dig ? O_RDWR : O_RDONLY) | O_NOFOLLOW | O_CLOEXEC | O_NOATIME);
    if (fd < 0 && (errno == EPERM || errno == EACCES || errno == EROFS || errno == ETXTBSY))
        fd = open(path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0) {
        *ret_gone = w->o->moving && errno == ENOENT;
        return *ret_gone ? 0 : wrong(w, path, "cannot be read");
    }
    EVP_MD_CTX *h = hash_new();
    off_t at = 0;
    ssize_t n = 0;
    while (!stopped(w->o) && (n = read(fd, w->piece, PIECE)) > 0) {
        hash_add(h, w->piece, (size_t)n);
        if (w->o->dig && at % HOLE == 0)
            for (ssize_t i = 0; i + HOLE <= n; i += HOLE)
                if (all_zero(w->piece + i, HOLE))
                    dig(fd, st, at + i, HOLE);
        at += n;
        w->sum->bytes += (uint64_t)n;
    }
    hash_end(h, hex);
    int bad = n < 0 ? wrong(w, path, "cannot be read") : 0;
    close(fd);
    return bad;
}

static int by_text(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Those that a snapshot keeps: the user's, access lists, capabilities. */
static bool attribute_kept(const char *name)
{
    return strncmp(name, "user.", 5) == 0 || strncmp(name, "system.posix_acl_", 17) == 0 ||
           strcmp(name, "security.capability") == 0;
}

static int hash_attributes(struct walk *w, EVP_MD_CTX *h, const char *path)
{
    char *list = w->piece, *value = w->piece + XATTR_MAX, *names[256];
    size_t n_names = 0;
    ssize_t n = llistxattr(path, list, XATTR_MAX);
    if (n < 0)
        return errno == ENOTSUP || errno == ENOENT ? 0 : wrong(w, path, "its attributes cannot be read");
    for (char *s = list; s < list + n && n_names < 256; s += strlen(s) + 1)
        if (attribute_kept(s))
            names[n_names++] = s;
    qsort(names, n_names, sizeof *names, by_text);
    for (size_t i = 0; i < n_names; i++) {
        ssize_t len = lgetxattr(path, names[i], value, XATTR_MAX);
        if (len < 0)
            continue; /* gone meanwhile */
        hash_text(h, names[i]);
        hash_add(h, &len, sizeof len);
        hash_add(h, value, (size_t)len);
    }
    return 0;
}

static char kind_of(const struct stat *st)
{
    switch (st->st_mode & S_IFMT) {
    case S_IFREG:
        return 'f';
    case S_IFDIR:
        return 'd';
    case S_IFLNK:
        return 'l';
    case S_IFIFO:
        return 'p';
    case S_IFCHR:
        return 'c';
    case S_IFBLK:
        return 'b';
    default:
        return 's';
    }
}

/* What one entry is: "f <hash of its bytes>", "l <where to>", ... */
static int describe(struct walk *w, const char *path, const char *name, const struct stat *st, char *buf, size_t size,
                    bool *ret_gone)
{
    char kind = kind_of(st), hex[65] = "";
    if (kind == 'f') {
        const char *first = st->st_nlink > 1 ? link_seen(&w->links, st, name) : NULL;
        if (first) {
            snprintf(buf, size, "= %s", first);
        } else {
            if (w->o->known && w->o->known(w->o->ctx, w->root, name, st, hex))
                w->sum->bytes += (uint64_t)st->st_size;
            else if (read_file(w, path, st, hex, ret_gone))
                return -1;
            snprintf(buf, size, "f %s", hex);
        }
        w->sum->files++;
    } else if (kind == 'l') {
        ssize_t n = readlink(path, w->piece, PIECE - 1);
        if (n < 0) {
            *ret_gone = w->o->moving && errno == ENOENT;
            return *ret_gone ? 0 : wrong(w, path, "cannot be read");
        }
        w->piece[n] = '\0';
        snprintf(buf, size, "l %s", w->piece);
    } else if (kind == 'c' || kind == 'b') {
        snprintf(buf, size, "%c %u:%u", kind, major(st->st_rdev), minor(st->st_rdev));
    } else {
        snprintf(buf, size, "%c", kind);
    }
    return 0;
}

static int take(struct walk *w, const char *path, const char *name, const struct stat *st)
{
    char what[8192], meta[65], text[160];
    bool gone = false;
    if (describe(w, path, name, st, what, sizeof what, &gone))
        return -1;
    if (gone)
        return 0;
    if (w->o->seen)
        w->o->seen(w->o->ctx, w->root, name, what, st);
    EVP_MD_CTX *h = hash_new();
    snprintf(text, sizeof text, "%o %u %u", st->st_mode & 07777, st->st_uid, st->st_gid);
    hash_text(h, text);
    if (*name) { /* not the top, which is touched by what a restore keeps in it */
        snprintf(text, sizeof text, "%" PRId64 ".%09ld", (int64_t)st->st_mtim.tv_sec, st->st_mtim.tv_nsec);
        hash_text(h, text);
    }
    int bad = hash_attributes(w, h, path);
    hash_end(h, meta);
    if (bad)
        return -1;
    hash_text(w->content, name);
    hash_text(w->content, what);
    hash_text(w->meta, name);
    hash_text(w->meta, meta);
    if (w->o->manifest)
        fprintf(w->o->manifest, "%s%c%s%c%s%c", name, 0, what, 0, meta, 0);
    return 0;
}

static int by_name(const FTSENT **a, const FTSENT **b)
{
    return strcmp((*a)->fts_name, (*b)->fts_name);
}

static int walk_root(struct walk *w, const char *root)
{
    char *const roots[] = {(char *)root, NULL};
    size_t skip = strlen(root);
    FTSENT *x;
    int bad = 0;
    FTS *f = fts_open(roots, FTS_PHYSICAL | FTS_NOCHDIR, by_name);
    if (!f)
        return wrong(w, root, "cannot be walked");
    errno = 0;
    while (!bad && (x = fts_read(f))) {
        const char *name = x->fts_path + skip;
        bool ours = x->fts_level == 1 && strncmp(x->fts_name, TREE_OURS, strlen(TREE_OURS)) == 0;
        if (stopped(w->o)) {
            bad = err_set(w->e, "%s: not read to its end", root);
        } else if (ours || x->fts_info == FTS_DP || (x->fts_statp && S_ISSOCK(x->fts_statp->st_mode))) {
            if (ours)
                fts_set(f, x, FTS_SKIP);
        } else if (x->fts_info == FTS_NS || x->fts_info == FTS_ERR || x->fts_info == FTS_DNR) {
            errno = x->fts_errno;
            if (!(w->o->moving && errno == ENOENT && x->fts_level > 0))
                bad = wrong(w, x->fts_path, "cannot be read");
        } else {
            bad = take(w, x->fts_path, name, x->fts_statp);
        }
        errno = 0;
    }
    if (!bad && errno)
        bad = wrong(w, root, "cannot be walked");
    fts_close(f);
    return bad;
}

int tree_sum(const char *const *roots, size_t n, const struct tree_opts *o, struct tree_sum *ret, struct err *e)
{
    struct tree_sum sum = {"", "", 0, 0};
    struct walk w = {.o = o, .content = hash_new(), .meta = hash_new(), .sum = &sum, .piece = malloc(PIECE), .e = e};
    int bad = 0;
    assert(w.piece && "out of memory for a buffer");
    for (size_t i = 0; !bad && i < n; i++) {
        char text[32];
        snprintf(text, sizeof text, "#%zu", i);
        hash_text(w.content, text);
        hash_text(w.meta, text);
        w.root = i;
        bad = walk_root(&w, roots[i]);
    }
    hash_end(w.content, sum.content);
    hash_end(w.meta, sum.meta);
    tdestroy(w.links, link_free);
    free(w.piece);
    if (!bad && o->manifest && fflush(o->manifest) != 0)
        bad = err_set(e, "the list of files cannot be written: %s", strerror(errno));
    if (!bad)
        *ret = sum;
    return bad;
}

/* ---- differences ---- */

struct record {
    char *field[3]; /* name, what, meta */
    size_t size[3];
};

static bool next_record(FILE *f, struct record *r)
{
    for (size_t i = 0; i < 3; i++)
        if (getdelim(&r->field[i], &r->size[i], 0, f) < 0)
            return false;
    return true;
}

bool tree_differs(FILE *was, FILE *is, bool content, char *buf, size_t size)
{
    struct record a = {0}, b = {0};
    bool differs = false;
    while (!differs) {
        bool more = next_record(was, &a), too = next_record(is, &b);
        if (!more && !too)
            break;
        differs = true;
        if (!more || !too)
            snprintf(buf, size, "%.200s %s", (more ? a : b).field[0], more ? "is missing" : "is too many");
        else if (strcmp(a.field[0], b.field[0]) != 0)
            snprintf(buf, size, "%.200s stands where %.200s was", b.field[0], a.field[0]);
        else if (strcmp(a.field[1], b.field[1]) != 0)
            snprintf(buf, size, "%.200s: its content differs", *a.field[0] ? a.field[0] : "/");
        else if (!content && strcmp(a.field[2], b.field[2]) != 0)
            snprintf(buf, size, "%.200s: owner, mode, time or attributes differ", *a.field[0] ? a.field[0] : "/");
        else
            differs = false;
    }
    for (size_t i = 0; i < 3; i++) {
        free(a.field[i]);
        free(b.field[i]);
    }
    return differs;
}

/* ---- sizes, and removing ---- */

int tree_size(const char *const *roots, size_t n, const atomic_bool *stop, uint64_t *ret_files, uint64_t *ret_bytes,
              struct err *e)
{
    uint64_t files = 0, bytes = 0;
    for (size_t i = 0; i < n; i++) {
        FTS *f = fts_open((char *const[]){(char *)roots[i], NULL}, FTS_PHYSICAL | FTS_NOCHDIR, NULL);
        FTSENT *x;
        int bad = f ? 0 : err_set(e, "%.300s: %s", roots[i], strerror(errno));
        while (!bad && !(stop && atomic_load(stop)) && (x = fts_read(f))) {
            if (x->fts_level == 1 && strncmp(x->fts_name, TREE_OURS, strlen(TREE_OURS)) == 0) {
                fts_set(f, x, FTS_SKIP);
            } else if (x->fts_info == FTS_F && S_ISREG(x->fts_statp->st_mode)) {
                files++;
                bytes += (uint64_t)x->fts_statp->st_size;
            } else if (x->fts_info == FTS_DNR || x->fts_info == FTS_ERR ||
                       (x->fts_info == FTS_NS && x->fts_level == 0)) {
                bad = err_set(e, "%.300s cannot be read: %s", x->fts_path, strerror(x->fts_errno));
            }
        }
        if (f)
            fts_close(f);
        if (bad)
            return -1;
    }
    *ret_files = files;
    *ret_bytes = bytes;
    return 0;
}

bool tree_is_empty(const char *path)
{
    DIR *d = opendir(path);
    struct dirent *x;
    bool empty = d != NULL;
    while (empty && (x = readdir(d)))
        empty = strcmp(x->d_name, ".") == 0 || strcmp(x->d_name, "..") == 0;
    if (d)
        closedir(d);
    return empty;
}

int tree_remove(const char *path, bool keep_top, struct err *e)
{
    const char *slash = strrchr(path, '/');
    if (!slash || strncmp(slash + 1, TREE_OURS, strlen(TREE_OURS)) != 0)
        return err_set(e, "%.300s is not ours to remove", path);
    FTS *f = fts_open((char *const[]){(char *)path, NULL}, FTS_PHYSICAL | FTS_NOCHDIR | FTS_XDEV, NULL);
    if (!f)
        return err_set(e, "%.300s: %s", path, strerror(errno));
    FTSENT *x;
    int bad = 0;
    while (!bad && (x = fts_read(f))) {
        bool dir = x->fts_info == FTS_DP || x->fts_info == FTS_DNR;
        if (x->fts_info == FTS_D) {
            /* One without rights for its owner could not be emptied. */
            if ((x->fts_statp->st_mode & S_IRWXU) != S_IRWXU)
                (void)chmod(x->fts_accpath, S_IRWXU);
            continue;
        }
        if ((x->fts_level == 0 && keep_top) || (x->fts_info == FTS_NS && x->fts_errno == ENOENT))
            continue;
        if ((dir ? rmdir(x->fts_accpath) : unlink(x->fts_accpath)) != 0 && errno != ENOENT)
            bad = err_set(e, "%.300s cannot be removed: %s", x->fts_path, strerror(errno));
    }
    fts_close(f);
    return bad;
}
