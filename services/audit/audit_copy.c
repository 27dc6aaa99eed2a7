/* audit_copy.c - a trail's copy that grows. */
#include "audit/audit_copy.h"
#include "audit/audit_disk.h"
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static int disk_error(struct audit_copy *c, struct err *e, const char *what, const char *name)
{
    c->fork = false;
    return err_set(e, "cannot %s %s/%s: %s", what, c->dir, name, strerror(errno));
}

int audit_copy_open(struct audit_copy *c, const char *dir, struct err *e)
{
    *c = (struct audit_copy){.dir_fd = -1, .fd = -1};
    snprintf(c->dir, sizeof c->dir, "%s", dir);
    if (mkdir(dir, 0700) && errno != EEXIST)
        return disk_error(c, e, "create", "");
    if ((c->dir_fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC)) < 0)
        return disk_error(c, e, "open", "");
    return 0;
}

int audit_copy_resume(struct audit_copy *c, uint64_t first, uint64_t bytes, uint64_t next_seq,
                      const unsigned char chain[static AUDIT_CHAIN_BYTES],
                      const unsigned char hash[static AUDIT_HASH_BYTES],
                      const unsigned char link[static AUDIT_HASH_BYTES], struct err *e)
{
    char name[AUDIT_NAME_MAX];
    struct stat st;
    audit_segment_name(first, name);
    c->fd = openat(c->dir_fd, name, O_RDWR | O_CLOEXEC);
    if (c->fd < 0 || fstat(c->fd, &st))
        return disk_error(c, e, "open", name);
    /* A write that a crash cut short. */
    if ((uint64_t)st.st_size > bytes && (ftruncate(c->fd, (off_t)bytes) || fdatasync(c->fd)))
        return disk_error(c, e, "cut the torn end off", name);
    c->first = first;
    c->bytes = bytes;
    c->next_seq = next_seq;
    c->chained = true;
    memcpy(c->chain, chain, sizeof c->chain);
    memcpy(c->hash, hash, sizeof c->hash);
    memcpy(c->link, link, sizeof c->link);
    return 0;
}

int audit_copy_sync(struct audit_copy *c, struct err *e)
{
    char name[AUDIT_NAME_MAX];
    if (!c->dirty)
        return 0;
    audit_segment_name(c->first, name);
    if (fdatasync(c->fd))
        return disk_error(c, e, "sync", name);
    c->dirty = false;
    return 0;
}

int audit_copy_begin(struct audit_copy *c, uint64_t first, struct err *e)
{
    char name[AUDIT_NAME_MAX];
    if (c->rest_len > 0) {
        c->fork = true;
        return err_set(e, "the segment ends within record %" PRIu64, c->next_seq);
    }
    if (c->chained && first != c->next_seq) {
        c->fork = true;
        return err_set(e, "a segment begins with record %" PRIu64 " where %" PRIu64 " should come", first,
                       c->next_seq);
    }
    if (audit_copy_sync(c, e))
        return -1;
    audit_segment_name(first, name);
    int fd = openat(c->dir_fd, name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0 || fsync(c->dir_fd)) {
        disk_error(c, e, "create", name);
        if (fd >= 0)
            close(fd);
        return -1;
    }
    if (c->fd >= 0)
        close(c->fd);
    c->fd = fd;
    c->first = c->next_seq = first;
    c->bytes = 0;
    return 0;
}

/* The header at the beginning of `in`. Its size, 0 = more bytes are needed, -1 = it does not fit. */
static int take_header(struct audit_copy *c, const unsigned char *in, size_t len, struct err *e)
{
    struct audit_header h;
    if (len < AUDIT_HEADER_BYTES)
        return 0;
    c->fork = true;
    if (audit_header_parse(in, len, &h, e))
        return -1;
    if (h.first_seq != c->first)
        return err_set(e, "the segment of record %" PRIu64 " says that it begins with %" PRIu64, c->first,
                       h.first_seq);
    if (c->chained && memcmp(h.chain, c->chain, sizeof h.chain) != 0)
        return err_set(e, "the segment of record %" PRIu64 " belongs to another chain", c->first);
    if (c->chained && memcmp(h.prev, c->hash, sizeof h.prev) != 0)
        return err_set(e, "the segment of record %" PRIu64 " does not continue the one before it", c->first);
    memcpy(c->chain, h.chain, sizeof c->chain);
    memcpy(c->hash, h.prev, sizeof c->hash);
    audit_header_hash(in, c->link);
    c->chained = true;
    c->fork = false;
    return AUDIT_HEADER_BYTES;
}

/* How many bytes of `in` are whole and fit; -1 = they do not fit. */
static int64_t take(struct audit_copy *c, const unsigned char *in, size_t len, struct err *e)
{
    size_t at = 0;
    if (c->bytes == 0) {
        int n = take_header(c, in, len, e);
        if (n <= 0)
            return n;
        at = (size_t)n;
    }
    for (;;) {
        struct audit_record r;
        if (c->limit && c->next_seq > c->limit)
            return (int64_t)at;
        switch (audit_record_parse(in + at, len - at, c->link, c->next_seq, &r, e)) {
        case AUDIT_END:
        case AUDIT_TORN:
            return (int64_t)at;
        case AUDIT_BROKEN:
            c->fork = true;
            return -1;
        case AUDIT_RECORD:
            break;
        }
        memcpy(c->hash, r.hash, sizeof c->hash);
        memcpy(c->link, r.hash, sizeof c->link);
        c->next_seq = r.seq + 1;
        if (c->on_record)
            c->on_record(c->ctx, &r);
        at += r.size;
    }
}

/* On an error of the disk the copy's memory is ahead of its file: it is closed and opened again by whoever feeds it. */
int audit_copy_feed(struct audit_copy *c, const void *data, size_t len, struct err *e)
{
    const unsigned char *in = data;
    unsigned char *joined = NULL;
    c->fork = false;
    if (c->rest_len > 0) {
        unsigned char *more = realloc(c->rest, c->rest_len + len + 1);
        if (!more)
            return err_set(e, "out of memory");
        memcpy(more + c->rest_len, data, len);
        len += c->rest_len;
        joined = more;
        c->rest = NULL;
        c->rest_len = 0;
        in = joined;
    }
    int64_t n = take(c, in, len, e);
    if (n > 0 && audit_disk_write_all(&audit_disk_real, c->fd, in, (size_t)n, (off_t)c->bytes)) {
        char name[AUDIT_NAME_MAX];
        audit_segment_name(c->first, name);
        n = disk_error(c, e, "write", name);
    }
    if (n >= 0) {
        c->bytes += (uint64_t)n;
        c->dirty |= n > 0;
        size_t left = len - (size_t)n;
        if (left > 0 && !(c->rest = malloc(left)))
            n = err_set(e, "out of memory");
        else if (left > 0)
            memcpy(c->rest, in + n, left);
        c->rest_len = n >= 0 ? left : 0;
    }
    free(joined);
    return n < 0 ? -1 : 0;
}

uint64_t audit_copy_at(const struct audit_copy *c)
{
    return c->bytes + c->rest_len;
}

void audit_copy_forget(struct audit_copy *c)
{
    free(c->rest);
    c->rest = NULL;
    c->rest_len = 0;
}

int audit_copy_note(struct audit_copy *c, const char *name, const void *data, size_t len, struct err *e)
{
    if (audit_disk_replace(&audit_disk_real, c->dir_fd, name, data, len, 0644))
        return disk_error(c, e, "write", name);
    return 0;
}

void audit_copy_close(struct audit_copy *c)
{
    if (c->fd >= 0)
        close(c->fd);
    if (c->dir_fd >= 0)
        close(c->dir_fd);
    free(c->rest);
    c->fd = c->dir_fd = -1;
    c->rest = NULL;
    c->rest_len = 0;
}
