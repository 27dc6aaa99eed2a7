/* audit_mirror_work.c - the mirror's work: finds the copy that agrees with the trail, or begins one, and copies byte for byte. */
#include "audit/audit_mirror_impl.h"
#include "audit/audit_segments.h"
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define CHUNK_BYTES (1024 * 1024)
#define COPIES_MAX  99 /* beside one another */

void mirror_work_begin(struct mirror_work *w, const struct audit_mirror_opts *o)
{
    *w = (struct mirror_work){.copy = {.dir_fd = -1, .fd = -1}};
    for (int i = 0; i < 2; i++)
        snprintf(w->sources[i], sizeof w->sources[i], "%s", o->sources[i] ? o->sources[i] : "");
    snprintf(w->root, sizeof w->root, "%s", o->root);
    snprintf(w->parent, sizeof w->parent, "%.400s/%.100s", o->root, o->instance);
}

static int source_error(struct mirror_work *w, struct err *e, const char *name)
{
    w->source_fault = true;
    return err_set(e, "cannot read %s of the trail: %s", name, strerror(errno));
}

static int list_sources(struct mirror_work *w, struct audit_segments *ret, struct err *e)
{
    const char *dirs[2] = {w->sources[0], w->sources[1]};
    w->source_fault = true;
    if (audit_segments_list(dirs, 2, ret, e))
        return -1;
    w->source_fault = false;
    return 0;
}

static int open_source(struct mirror_work *w, const struct audit_segment_at *s, off_t *ret_size, struct err *e)
{
    char path[600], name[AUDIT_NAME_MAX];
    struct stat st;
    audit_segment_name(s->first, name);
    snprintf(path, sizeof path, "%s/%s", w->sources[s->dir], name);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &st)) {
        source_error(w, e, path);
        if (fd >= 0)
            close(fd);
        return -1;
    }
    *ret_size = st.st_size;
    return fd;
}

/* ---- is what is there a copy of this trail ---- */

enum verdict { AGREES, DIFFERS, FAILED };

static ssize_t read_at(int fd, void *to, size_t len, off_t at)
{
    size_t n = 0;
    while (n < len) {
        ssize_t got = pread(fd, (char *)to + n, len - n, at + (off_t)n);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return -1;
        if (got == 0)
            break;
        n += (size_t)got;
    }
    return (ssize_t)n;
}

/* A closed segment: head and end are the same, and so is the length; the hashes in there cover what is between. Of the bits between,
 * `redoubt audit verify` of the copy tells. */
static enum verdict compare_closed(int ours, off_t size, int theirs, off_t their_size, struct err *e)
{
    unsigned char a[AUDIT_HEADER_BYTES], b[AUDIT_HEADER_BYTES];
    if (their_size != size) {
        err_set(e, "it has %jd bytes, the trail's %jd", (intmax_t)their_size, (intmax_t)size);
        return DIFFERS;
    }
    for (int end = 0; end < 2; end++) {
        off_t at = end ? size - AUDIT_HASH_BYTES : 0;
        size_t n = end ? AUDIT_HASH_BYTES : sizeof a;
        if (size < (off_t)sizeof a || read_at(ours, a, n, at) != (ssize_t)n ||
            read_at(theirs, b, n, at) != (ssize_t)n) {
            err_set(e, "it cannot be read: %s", strerror(errno));
            return FAILED;
        }
        if (memcmp(a, b, n) != 0) {
            err_set(e, "its %s is not the trail's", end ? "last hash" : "header");
            return DIFFERS;
        }
    }
    return AGREES;
}

/* What a segment of the copy holds in whole records, read from its beginning; the trail's own bytes beside it. */
struct compared {
    uint64_t bytes, next_seq;
    unsigned char chain[AUDIT_CHAIN_BYTES], hash[AUDIT_HASH_BYTES], link[AUDIT_HASH_BYTES];
};

/* The copy's last segment, byte by byte. Behind the last whole record it may be torn, beyond what its checkpoint covers. */
static enum verdict compare_open(int ours, off_t size, int theirs, off_t their_size, uint64_t covered,
                                 struct compared *ret, struct err *e)
{
    enum verdict v = FAILED;
    struct audit_header h;
    unsigned char *a = malloc(2 * CHUNK_BYTES), *b = a ? a + CHUNK_BYTES : NULL;
    uint64_t at = 0;
    err_set(e, "it cannot be read: %s", a ? strerror(errno) : "out of memory");
    while (a) {
        ssize_t n = read_at(theirs, b, CHUNK_BYTES, (off_t)at), used = 0;
        if (n < 0)
            break;
        if (at == 0) {
            if (audit_header_parse(b, (size_t)n, &h, e)) {
                v = DIFFERS;
                break;
            }
            memcpy(ret->chain, h.chain, sizeof ret->chain);
            memcpy(ret->hash, h.prev, sizeof ret->hash);
            audit_header_hash(b, ret->link);
            ret->next_seq = h.first_seq;
            used = AUDIT_HEADER_BYTES;
        }
        struct audit_record r;
        enum audit_found found;
        while ((found = audit_record_parse(b + used, (size_t)(n - used), ret->link, ret->next_seq, &r, e)) ==
               AUDIT_RECORD) {
            memcpy(ret->hash, r.hash, sizeof ret->hash);
            memcpy(ret->link, r.hash, sizeof ret->link);
            ret->next_seq = r.seq + 1;
            used += (ssize_t)r.size;
        }
        if (used > 0 && (read_at(ours, a, (size_t)used, (off_t)at) < used || (off_t)(at + (uint64_t)used) > size ||
                         memcmp(a, b, (size_t)used) != 0)) {
            err_set(e, "it is not what the trail has, somewhere from byte %" PRIu64 " on", at);
            v = DIFFERS;
            break;
        }
        at += (uint64_t)used;
        ret->bytes = at;
        bool end = at + (uint64_t)(n - used) >= (uint64_t)their_size;
        if (used > 0 && !end && found != AUDIT_BROKEN)
            continue;
        v = AGREES;
        if (found != AUDIT_END && covered >= ret->next_seq) {
            if (found == AUDIT_TORN)
                err_set(e, "it ends within record %" PRIu64 ", which its checkpoint covers", ret->next_seq);
            v = DIFFERS;
        }
        break;
    }
    free(a);
    return v;
}

/* Of a copy's own checkpoint; nobody's word but its own is needed for what a crash may have torn. */
static uint64_t covered_by_its_checkpoint(const char *dir)
{
    size_t n;
    struct audit_checkpoint c;
    unsigned char *text = audit_read_file(dir, AUDIT_CHECKPOINT_FILE, AUDIT_NOTE_MAX, &n, NULL);
    bool ok = text && audit_checkpoint_parse((const char *)text, n, &c, NULL) == 0;
    free(text);
    return ok ? c.size : 0;
}

static enum verdict compare_one(struct mirror_work *w, const struct mirror_goal *g, const char *dir,
                                const struct audit_segments *have, const struct audit_segment_at *it, bool last,
                                struct compared *ret, struct err *e)
{
    char path[600], name[AUDIT_NAME_MAX];
    struct stat st;
    audit_segment_name(it->first, name);
    snprintf(path, sizeof path, "%.540s/%s", dir, name);
    const struct audit_segment_at *s = audit_segments_find(have, it->first);
    if (!s && have->n > 0 && it->first < have->list[0].first && !last)
        return AGREES; /* retention has deleted it in the trail */
    if (!s) {
        err_set(e, "the trail has no such segment");
        return DIFFERS;
    }
    off_t size = 0;
    int ours = open_source(w, s, &size, e);
    if (ours < 0)
        return FAILED;
    int theirs = open(path, O_RDONLY | O_CLOEXEC);
    enum verdict v = FAILED;
    if (it->first == g->segment_first)
        size = (off_t)g->segment_bytes;
    if (theirs < 0 || fstat(theirs, &st))
        err_set(e, "cannot read %s: %s", path, strerror(errno));
    else if (!last)
        v = compare_closed(ours, size, theirs, st.st_size, e);
    else
        v = compare_open(ours, size, theirs, st.st_size, covered_by_its_checkpoint(dir), ret, e);
    close(ours);
    if (theirs >= 0)
        close(theirs);
    return v;
}

/* A last segment without a whole header is what a crash left of its beginning. */
static int drop_headless(const char *dir, struct audit_segments *there, struct err *e)
{
    char path[600], name[AUDIT_NAME_MAX];
    struct stat st;
    if (there->n == 0)
        return 0;
    audit_segment_name(there->list[there->n - 1].first, name);
    snprintf(path, sizeof path, "%.540s/%s", dir, name);
    if (stat(path, &st) == 0 && st.st_size >= AUDIT_HEADER_BYTES)
        return 0;
    if (unlink(path))
        return err_set(e, "cannot remove the empty %s: %s", path, strerror(errno));
    there->n--;
    return 0;
}

static enum verdict compare(struct mirror_work *w, const struct mirror_goal *g, const char *dir, struct err *e)
{
    struct audit_segments have = {0}, there = {0};
    struct compared end = {0};
    enum verdict v = FAILED;
    if (list_sources(w, &have, e) == 0 && audit_segments_list(&dir, 1, &there, e) == 0 &&
        drop_headless(dir, &there, e) == 0) {
        v = AGREES;
        for (size_t i = 0; i < there.n && v == AGREES; i++) {
            struct err what = {""};
            v = compare_one(w, g, dir, &have, &there.list[i], i + 1 == there.n, &end, &what);
            if (v != AGREES) {
                char name[AUDIT_NAME_MAX];
                audit_segment_name(there.list[i].first, name);
                err_set(e, "%.200s/%s: %.250s", dir, name, what.text);
            }
        }
    }
    if (v == AGREES && there.n > 0 &&
        audit_copy_resume(&w->copy, there.list[there.n - 1].first, end.bytes, end.next_seq, end.chain, end.hash,
                          end.link, e))
        v = FAILED;
    w->oldest = there.n > 0 ? there.list[0].first : 0;
    audit_segments_free(&have);
    audit_segments_free(&there);
    return v;
}

/* The first of <chain>, <chain>.2, ... that agrees with the trail, or is not there yet. */
static int find_copy(struct mirror_work *w, const struct mirror_goal *g, struct err *e)
{
    char chain[2 * AUDIT_CHAIN_BYTES + 1], dir[600], suffix[16] = "";
    struct stat st;
    if (stat(w->root, &st) || !S_ISDIR(st.st_mode))
        return err_set(e, "there is no directory %s: create it, or mount its disk", w->root);
    if (mkdir(w->parent, 0700) && errno != EEXIST)
        return err_set(e, "cannot create %s: %s", w->parent, strerror(errno));
    sodium_bin2hex(chain, sizeof chain, g->chain, sizeof g->chain);
    if (memcmp(w->chain, g->chain, sizeof w->chain) != 0) {
        memcpy(w->chain, g->chain, sizeof w->chain);
        w->looked_past = 0;
    }
    for (int i = 1; i <= COPIES_MAX; i++) {
        if (i > 1)
            snprintf(suffix, sizeof suffix, ".%d", i);
        snprintf(dir, sizeof dir, "%s/%s%s", w->parent, chain, suffix);
        if (audit_copy_open(&w->copy, dir, e))
            return -1;
        struct err why = {""};
        switch (compare(w, g, dir, &why)) {
        case AGREES:
            w->ready = true;
            return 0;
        case DIFFERS:
            if (i > w->looked_past) {
                w->looked_past = i;
                w->differing++;
                snprintf(w->differs, sizeof w->differs, "%s", why.text);
            }
            audit_copy_close(&w->copy);
            break;
        case FAILED:
            return err_set(e, "%s", why.text);
        }
    }
    return err_set(e, "%d copies in %s differ from the trail: look into it, and move them away", COPIES_MAX,
                   w->parent);
}

/* ---- copying ---- */

static int copy_segment(struct mirror_work *w, struct audit_copy *c, const struct mirror_goal *g,
                        const struct audit_segment_at *s, struct err *e)
{
    off_t size = 0;
    int fd = open_source(w, s, &size, e), rc = fd < 0 ? -1 : 0;
    if (s->first == g->segment_first)
        size = (off_t)g->segment_bytes;
    unsigned char *chunk = malloc(CHUNK_BYTES);
    if (!chunk)
        rc = err_set(e, "out of memory");
    while (!rc && audit_copy_at(c) < (uint64_t)size) {
        uint64_t left = (uint64_t)size - audit_copy_at(c);
        size_t want = left < CHUNK_BYTES ? (size_t)left : CHUNK_BYTES;
        ssize_t n = read_at(fd, chunk, want, (off_t)audit_copy_at(c));
        if (n <= 0) {
            errno = n < 0 ? errno : ENODATA;
            rc = source_error(w, e, "a segment");
        } else if (audit_copy_feed(c, chunk, (size_t)n, e)) {
            w->source_fault = c->fork;
            rc = -1;
        }
    }
    free(chunk);
    if (fd >= 0)
        close(fd);
    if (!rc && c->rest_len > 0) {
        w->source_fault = true;
        rc = err_set(e, "the trail's segment of record %" PRIu64 " ends within record %" PRIu64, s->first,
                     c->next_seq);
    }
    if (!rc && memcmp(c->chain, g->chain, sizeof c->chain) != 0) {
        w->source_fault = true;
        rc = err_set(e, "the trail's segment of record %" PRIu64 " belongs to another chain", s->first);
    }
    return rc;
}

/* A segment that somebody took from among the others of the copy: the trail still has it. */
static int fill(struct mirror_work *w, const struct mirror_goal *g, const struct audit_segment_at *s, struct err *e)
{
    char path[600], name[AUDIT_NAME_MAX];
    struct audit_copy c;
    audit_segment_name(s->first, name);
    snprintf(path, sizeof path, "%.540s/%s", w->copy.dir, name);
    if (access(path, F_OK) == 0)
        return 0;
    if (audit_copy_open(&c, w->copy.dir, e))
        return -1;
    int rc = audit_copy_begin(&c, s->first, e) || copy_segment(w, &c, g, s, e) || audit_copy_sync(&c, e) ? -1 : 0;
    audit_copy_close(&c);
    if (rc)
        (void)unlink(path);
    if (!rc && s->first < w->oldest)
        w->oldest = s->first;
    return rc;
}

static int copy_segments(struct mirror_work *w, const struct mirror_goal *g, struct err *e)
{
    struct audit_segments have = {0};
    /* As long as the segment is the same there is nothing to look for. */
    if (w->copy.first == g->segment_first && w->synced > 0) {
        const char *dirs[2] = {w->sources[0], w->sources[1]};
        struct audit_segment_at s = {g->segment_first, audit_segments_dir(dirs, 2, g->segment_first)};
        return copy_segment(w, &w->copy, g, &s, e) || audit_copy_sync(&w->copy, e) ? -1 : 0;
    }
    int rc = list_sources(w, &have, e);
    for (size_t i = 0; !rc && i < have.n && have.list[i].first <= g->segment_first; i++) {
        const struct audit_segment_at *s = &have.list[i];
        if (s->first < w->copy.first) {
            rc = fill(w, g, s, e);
            continue;
        }
        if (s->first > w->copy.first && (rc = audit_copy_begin(&w->copy, s->first, e)))
            w->source_fault = w->copy.fork;
        if (w->oldest == 0)
            w->oldest = s->first;
        rc = rc ? rc : copy_segment(w, &w->copy, g, s, e);
        rc = rc ? rc : audit_copy_sync(&w->copy, e);
        if (!rc)
            w->synced = w->copy.next_seq - 1;
    }
    audit_segments_free(&have);
    return rc;
}

/* Copies a small file of the trail's first directory if the copy has another or none. One that the trail has not is no error. */
static int copy_file(struct mirror_work *w, const char *name, size_t max, struct err *e)
{
    size_t n, m;
    unsigned char *ours = audit_read_file(w->sources[0], name, max, &n, NULL);
    unsigned char *theirs = ours ? audit_read_file(w->copy.dir, name, max, &m, NULL) : NULL;
    int rc = 0;
    if (ours && (!theirs || n != m || memcmp(ours, theirs, n) != 0))
        rc = audit_copy_note(&w->copy, name, ours, n, e);
    free(ours);
    free(theirs);
    return rc;
}

/* Keys first: a checkpoint is signed by one of them. */
static int copy_notes(struct mirror_work *w, const struct mirror_goal *g, struct err *e)
{
    char path[600];
    if (g->note_len == 0 || g->note_size > w->synced ||
        (g->note_len == w->note_len && memcmp(g->note, w->note, g->note_len) == 0))
        return 0;
    snprintf(path, sizeof path, "%.540s/" AUDIT_PRUNED_FILE, w->copy.dir);
    if (copy_file(w, AUDIT_KEYS_FILE, AUDIT_KEYS_MAX * AUDIT_NOTE_MAX, e) ||
        copy_file(w, AUDIT_PUBLIC_FILE, 256, e) ||
        /* Where the copy begins later than the chain, and only then: the trail's own beginning may move on. */
        (w->oldest > 1 && access(path, F_OK) != 0 && copy_file(w, AUDIT_PRUNED_FILE, AUDIT_NOTE_MAX, e)) ||
        audit_copy_note(&w->copy, AUDIT_CHECKPOINT_FILE, g->note, g->note_len, e))
        return -1;
    memcpy(w->note, g->note, g->note_len);
    w->note_len = g->note_len;
    w->signed_to = g->note_size;
    return 0;
}

int mirror_work(struct mirror_work *w, const struct mirror_goal *g, struct err *e)
{
    w->source_fault = false;
    if (w->ready && w->copy.chained && memcmp(w->copy.chain, g->chain, sizeof g->chain) != 0)
        mirror_work_end(w);
    if (g->segment_first == 0)
        return 0;
    /* Its directory may have been moved away, or its disk: what is written into a file without a name is lost. */
    struct stat st;
    if (w->ready && (fstat(w->copy.fd < 0 ? w->copy.dir_fd : w->copy.fd, &st) || st.st_nlink == 0))
        mirror_work_end(w);
    if ((w->ready || find_copy(w, g, e) == 0) && copy_segments(w, g, e) == 0) {
        w->synced = w->copy.next_seq - 1;
        if (copy_notes(w, g, e) == 0)
            return 0;
    }
    mirror_work_end(w);
    return -1;
}

void mirror_work_end(struct mirror_work *w)
{
    audit_copy_close(&w->copy);
    w->ready = false;
    w->note_len = 0;
    w->signed_to = w->synced = w->oldest = 0;
}
