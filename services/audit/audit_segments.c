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

static int hash_in_file(int fd, uint64_t first, uint64_t seq, unsigned char *hash, struct err *e)
{
    unsigned char *in = malloc(CHUNK_BYTES);
    uint64_t next = first;
    struct audit_header h;
    struct audit_record r;
    int rc = in ? 1 : err_set(e, "out of memory");
    for (off_t at = 0; rc > 0;) {
        ssize_t n = pread(fd, in, CHUNK_BYTES, at);
        size_t used = 0;
        if (n <= 0) {
            rc = err_set(e, "the segment ends before record %" PRIu64, seq);
            break;
        }
        if (at == 0) {
            if (audit_header_parse(in, (size_t)n, &h, e))
                rc = -1;
            audit_header_hash(in, hash);
            used = AUDIT_HEADER_BYTES;
        }
        enum audit_found found = AUDIT_RECORD;
        while (rc > 0 &&
               (found = audit_record_parse(in + used, (size_t)n - used, hash, next, &r, e)) == AUDIT_RECORD) {
            memcpy(hash, r.hash, AUDIT_HASH_BYTES);
            used += r.size;
            rc = next++ == seq ? 0 : 1;
        }
        if (rc > 0 && (found == AUDIT_BROKEN || used == 0))
            rc = found == AUDIT_BROKEN ? -1 : err_set(e, "the segment ends before record %" PRIu64, seq);
        at += (off_t)used;
    }
    free(in);
    return rc;
}

int audit_segments_hash(const char *const *dirs, int n_dirs, uint64_t seq, unsigned char ret[static AUDIT_HASH_BYTES],
                        struct err *e)
{
    struct audit_segments have;
    char path[4096], name[AUDIT_NAME_MAX];
    if (audit_segments_list(dirs, n_dirs, &have, e))
        return -1;
    size_t i = have.n;
    while (i > 0 && have.list[i - 1].first > seq)
        i--;
    int rc = -1, fd = -1;
    if (i == 0) {
        err_set(e, "no segment holds record %" PRIu64, seq);
    } else {
        audit_segment_name(have.list[i - 1].first, name);
        snprintf(path, sizeof path, "%s/%s", dirs[have.list[i - 1].dir], name);
        if ((fd = open(path, O_RDONLY | O_CLOEXEC)) < 0)
            err_set(e, "cannot read %s: %s", path, strerror(errno));
        else
            rc = hash_in_file(fd, have.list[i - 1].first, seq, ret, e);
    }
    if (fd >= 0)
        close(fd);
    audit_segments_free(&have);
    return rc;
}

void audit_segments_free(struct audit_segments *s)
{
    free(s->list);
    *s = (struct audit_segments){0};
}
