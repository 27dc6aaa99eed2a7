/* audit_segments.c - the segments of a trail that lies in one directory or two. */
#include "audit/audit_segments.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define CHUNK_BYTES (1024 * 1024) /* more than a record may have */

static int by_first(const void *a, const void *b)
{
    uint64_t x = ((const struct audit_segment_at *)a)->first, y = ((const struct audit_segment_at *)b)->first;
    return (x > y) - (x < y);
}

static int add_dir(struct audit_segments *s, const char *dir, int i, struct err *e)
{
    DIR *d = opendir(dir);
    if (!d && i > 0 && errno == ENOENT)
        return 0;
    if (!d)
        return err_set(e, "cannot read directory %s: %s", dir, strerror(errno));
    uint64_t first;
    int rc = 0;
    for (struct dirent *f; !rc && (f = readdir(d));) {
        if (!audit_segment_parse(f->d_name, &first))
            continue;
        if ((s->n & (s->n - 1)) == 0) { /* doubled at every power of two */
            struct audit_segment_at *more = realloc(s->list, (s->n ? 2 * s->n : 1) * sizeof *more);
            if (!more)
                rc = err_set(e, "out of memory");
            else
                s->list = more;
        }
        if (!rc)
            s->list[s->n++] = (struct audit_segment_at){first, i};
    }
    closedir(d);
    return rc;
}

int audit_segments_list(const char *const *dirs, int n_dirs, struct audit_segments *ret, struct err *e)
{
    struct audit_segments s = {0};
    for (int i = 0; i < n_dirs; i++) {
        if (dirs[i] && *dirs[i] && add_dir(&s, dirs[i], i, e)) {
            audit_segments_free(&s);
            return -1;
        }
    }
    if (s.n > 1)
        qsort(s.list, s.n, sizeof *s.list, by_first);
    *ret = s;
    return 0;
}

const struct audit_segment_at *audit_segments_find(const struct audit_segments *s, uint64_t first)
{
    struct audit_segment_at key = {.first = first};
    return s->n ? bsearch(&key, s->list, s->n, sizeof key, by_first) : NULL;
}

int audit_segments_dir(const char *const *dirs, int n_dirs, uint64_t first)
{
    char path[4096], name[AUDIT_NAME_MAX];
    audit_segment_name(first, name);
    for (int i = 1; i < n_dirs; i++) {
        if (!dirs[i] || !*dirs[i])
            continue;
        snprintf(path, sizeof path, "%s/%s", dirs[i], name);
        if (access(path, F_OK) == 0)
            return i;
    }
    return 0;
}

/* Sees the records of one file in order, until see() says that it is enough. 1 = enough, 0 = the end, -1 = does not verify. */
static int walk_file(int fd, uint64_t first, bool (*see)(void *ctx, const struct audit_record *r), void *ctx,
                     struct err *e)
{
    unsigned char *in = malloc(CHUNK_BYTES), hash[AUDIT_HASH_BYTES];
    uint64_t next = first;
    struct audit_header h;
    struct audit_record r;
    bool more = in != NULL;
    int rc = in ? 0 : err_set(e, "out of memory");
    for (off_t at = 0; more;) {
        ssize_t n = pread(fd, in, CHUNK_BYTES, at);
        size_t used = 0;
        if (n < 0)
            rc = err_set(e, "cannot read: %s", strerror(errno));
        if (n <= 0)
            break;
        if (at == 0) {
            if (audit_header_parse(in, (size_t)n, &h, e)) {
                rc = -1;
                break;
            }
            audit_header_hash(in, hash);
            used = AUDIT_HEADER_BYTES;
        }
        enum audit_found found;
        while ((found = audit_record_parse(in + used, (size_t)n - used, hash, next, &r, e)) == AUDIT_RECORD) {
            memcpy(hash, r.hash, AUDIT_HASH_BYTES);
            used += r.size;
            next++;
            if (see(ctx, &r)) {
                rc = 1;
                break;
            }
        }
        if (found == AUDIT_BROKEN)
            rc = -1;
        more = rc == 0 && used > 0;
        at += (off_t)used;
    }
    free(in);
    return rc;
}

int audit_segments_visit(const char *const *dirs, int n_dirs, uint64_t from_seq,
                         bool (*see)(void *ctx, const struct audit_record *r), void *ctx, struct err *e)
{
    struct audit_segments have;
    char path[4096], name[AUDIT_NAME_MAX];
    if (audit_segments_list(dirs, n_dirs, &have, e))
        return -1;
    size_t i = have.n;
    while (i > 0 && have.list[i - 1].first > from_seq)
        i--;
    int rc = 0;
    for (i = i > 0 ? i - 1 : 0; i < have.n && rc == 0; i++) {
        audit_segment_name(have.list[i].first, name);
        snprintf(path, sizeof path, "%s/%s", dirs[have.list[i].dir], name);
        int fd = open(path, O_RDONLY | O_CLOEXEC);
        rc = fd < 0 ? err_set(e, "cannot read %s: %s", path, strerror(errno))
                    : walk_file(fd, have.list[i].first, see, ctx, e);
        if (fd >= 0)
            close(fd);
    }
    audit_segments_free(&have);
    return rc < 0 ? -1 : 0;
}

struct sought {
    uint64_t seq;
    bool found;
    unsigned char *hash;
};

static bool is_sought(void *ctx, const struct audit_record *r)
{
    struct sought *s = ctx;
    if (r->seq < s->seq)
        return false;
    s->found = r->seq == s->seq;
    memcpy(s->hash, r->hash, AUDIT_HASH_BYTES);
    return true;
}

int audit_segments_hash(const char *const *dirs, int n_dirs, uint64_t seq, unsigned char ret[static AUDIT_HASH_BYTES],
                        struct err *e)
{
    struct sought s = {.seq = seq, .hash = ret};
    if (audit_segments_visit(dirs, n_dirs, seq, is_sought, &s, e))
        return -1;
    return s.found ? 0 : err_set(e, "record %" PRIu64 " is not here", seq);
}

void audit_segments_free(struct audit_segments *s)
{
    free(s->list);
    *s = (struct audit_segments){0};
}
