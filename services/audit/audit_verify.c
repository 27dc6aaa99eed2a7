/* audit_verify.c - checks a trail's directory: segments in order, each record's hash, and the signed checkpoint. */
#include "audit/audit_verify.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <sodium.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

struct walk {
    const char *dir;
    struct audit_report *r;
    audit_visit visit;
    void *ctx;
    bool only_last; /* begin with the last segments, and believe what the first of them says of those before */
    uint64_t next_seq;
    unsigned char hash[AUDIT_HASH_BYTES]; /* of the last record so far */
    bool have_checkpoint;
    bool checkpoint_met; /* the hash at the checkpoint's size was the checkpoint's */
};

__attribute__((format(printf, 5, 6))) static void problem(struct walk *w, const char *file, uint64_t offset,
                                                          uint64_t seq, const char *fmt, ...)
{
    struct audit_report *r = w->r;
    if (r->n_problems < AUDIT_PROBLEMS_MAX) {
        struct audit_problem *p = &r->problems[r->n_problems];
        snprintf(p->file, sizeof p->file, "%s", file);
        p->offset = offset;
        p->seq = seq;
        va_list ap;
        va_start(ap, fmt);
        vsnprintf(p->what, sizeof p->what, fmt, ap);
        va_end(ap);
    }
    r->n_problems++;
}

unsigned char *audit_read_file(const char *dir, const char *name, size_t max, size_t *ret_len, struct err *e)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    FILE *f = fopen(path, "rb");
    if (!f) {
        err_set(e, "cannot read %s: %s", path, strerror(errno));
        return NULL;
    }
    unsigned char *data = malloc(max + 1);
    size_t n = data ? fread(data, 1, max + 1, f) : 0;
    bool bad = !data || ferror(f) || n > max;
    fclose(f);
    if (bad) {
        err_set(e, "cannot read %s: it is not readable or has more than %zu bytes", path, max);
        free(data);
        return NULL;
    }
    *ret_len = n;
    return data;
}

static int by_number(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

static int list_segments(const char *dir, uint64_t **ret, size_t *ret_n, struct err *e)
{
    DIR *d = opendir(dir);
    if (!d)
        return err_set(e, "cannot read directory %s: %s; give the directory that holds audit-*.seg", dir,
                       strerror(errno));
    uint64_t *list = NULL, first;
    size_t n = 0;
    for (struct dirent *f; (f = readdir(d));) {
        if (!audit_segment_parse(f->d_name, &first))
            continue;
        uint64_t *more = realloc(list, (n + 1) * sizeof *list);
        if (!more) {
            free(list);
            closedir(d);
            return err_set(e, "out of memory");
        }
        list = more;
        list[n++] = first;
    }
    closedir(d);
    if (n)
        qsort(list, n, sizeof *list, by_number);
    *ret = list;
    *ret_n = n;
    return 0;
}

static void note_checkpoint(struct walk *w, uint64_t seq)
{
    struct audit_report *r = w->r;
    if (w->have_checkpoint && r->checkpoint.size == seq)
        w->checkpoint_met = memcmp(r->checkpoint.hash, w->hash, AUDIT_HASH_BYTES) == 0;
}

/* Checks the records behind a header. Ends at the first that does not fit: what follows cannot be trusted to be in place. */
static void walk_records(struct walk *w, const char *name, const unsigned char *data, size_t len, bool last)
{
    struct audit_report *r = w->r;
    for (size_t at = AUDIT_HEADER_BYTES;;) {
        struct audit_record rec;
        struct err e;
        switch (audit_record_parse(data + at, len - at, w->hash, w->next_seq, &rec, &e)) {
        case AUDIT_END:
            return;
        case AUDIT_TORN:
            /* A crash leaves a torn record only at the very end, and never within what a checkpoint covers. */
            if (last && !(w->have_checkpoint && r->checkpoint.size >= w->next_seq))
                r->torn_bytes = len - at;
            else
                problem(w, name, at, w->next_seq, "the file ends within record %" PRIu64 ": %zu bytes are left",
                        w->next_seq, len - at);
            return;
        case AUDIT_BROKEN:
            problem(w, name, at, w->next_seq, "%s", e.text);
            return;
        case AUDIT_RECORD:
            break;
        }
        memcpy(w->hash, rec.hash, AUDIT_HASH_BYTES);
        r->records++;
        r->last_seq = rec.seq;
        w->next_seq = rec.seq + 1;
        note_checkpoint(w, rec.seq);
        if (w->visit)
            w->visit(w->ctx, &rec, name, at);
        at += rec.size;
    }
}

static void walk_segment(struct walk *w, const char *name, const unsigned char *data, size_t len, bool last)
{
    struct audit_report *r = w->r;
    struct audit_header h;
    struct err e;
    if (last && len < AUDIT_HEADER_BYTES && !(w->have_checkpoint && r->checkpoint.size >= w->next_seq)) {
        r->torn_bytes = len; /* a crash while the segment was begun */
        r->headless = true;
        return;
    }
    if (audit_header_parse(data, len, &h, &e)) {
        problem(w, name, 0, w->next_seq, "%s", e.text);
        return;
    }
    if (r->segments == 0)
        memcpy(r->chain, h.chain, AUDIT_CHAIN_BYTES);
    else if (memcmp(r->chain, h.chain, AUDIT_CHAIN_BYTES) != 0)
        problem(w, name, 0, h.first_seq, "this segment belongs to another chain");
    if (w->only_last && r->segments == 0) {
        w->next_seq = h.first_seq; /* what came before is not looked at */
        memcpy(w->hash, h.prev, AUDIT_HASH_BYTES);
        r->last_seq = h.first_seq - 1;
        note_checkpoint(w, r->last_seq);
        w->checkpoint_met |= w->have_checkpoint && r->checkpoint.size < r->last_seq;
    }
    if (h.first_seq != w->next_seq)
        problem(w, name, 0, w->next_seq,
                "the segment begins with record %" PRIu64 " where %" PRIu64 " should come: records are missing",
                h.first_seq, w->next_seq);
    else if (memcmp(h.prev, w->hash, AUDIT_HASH_BYTES) != 0)
        problem(w, name, 48, h.first_seq,
                "the segment does not continue the one before it: its previous hash is another");
    w->next_seq = h.first_seq;
    audit_header_hash(data, w->hash);
    walk_records(w, name, data, len, last);
}

/* A file is mapped, not read: trails are larger than memory. */
static void walk_file(struct walk *w, uint64_t first, bool last)
{
    char name[AUDIT_NAME_MAX], path[4096];
    audit_segment_name(first, name);
    snprintf(path, sizeof path, "%s/%s", w->dir, name);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    struct stat st;
    if (fd < 0 || fstat(fd, &st)) {
        problem(w, name, 0, 0, "cannot be read: %s", strerror(errno));
    } else if (st.st_size == 0) {
        if (!last)
            problem(w, name, 0, first, "the segment is empty");
        else
            w->r->headless = true;
    } else {
        size_t len = (size_t)st.st_size;
        void *data = mmap(NULL, len, PROT_READ, MAP_PRIVATE, fd, 0);
        if (data == MAP_FAILED) {
            problem(w, name, 0, 0, "cannot be read: %s", strerror(errno));
        } else {
            walk_segment(w, name, data, len, last);
            munmap(data, len);
        }
        w->r->bytes += len;
    }
    if (fd >= 0)
        close(fd);
    w->r->segments++;
}

static void read_checkpoint(struct walk *w, const unsigned char *public_key)
{
    struct err e;
    unsigned char own[AUDIT_PUBLIC_BYTES];
    size_t n;
    unsigned char *text;
    if (!public_key) {
        unsigned char *hex = audit_read_file(w->dir, AUDIT_PUBLIC_FILE, 256, &n, &e);
        size_t bytes = 0;
        if (hex && sodium_hex2bin(own, sizeof own, (const char *)hex, n, "\r\n ", &bytes, NULL) == 0 &&
            bytes == sizeof own)
            public_key = own;
        else
            problem(w, AUDIT_PUBLIC_FILE, 0, 0, "the public key is missing or unreadable; give one with --key");
        free(hex);
    }
    if (!public_key)
        return;
    if (!(text = audit_read_file(w->dir, AUDIT_CHECKPOINT_FILE, AUDIT_CHECKPOINT_MAX, &n, &e))) {
        problem(w, AUDIT_CHECKPOINT_FILE, 0, 0,
                "the checkpoint is missing: that nothing was cut off the end cannot be shown");
        return;
    }
    if (audit_checkpoint_check((const char *)text, n, AUDIT_KEY_NAME, public_key, &w->r->checkpoint, &e))
        problem(w, AUDIT_CHECKPOINT_FILE, 0, 0, "%s", e.text);
    else
        w->have_checkpoint = true;
    free(text);
}

static void judge_checkpoint(struct walk *w)
{
    struct audit_report *r = w->r;
    if (!w->have_checkpoint)
        return;
    const struct audit_checkpoint *c = &r->checkpoint;
    if (memcmp(c->chain, r->chain, AUDIT_CHAIN_BYTES) != 0)
        problem(w, AUDIT_CHECKPOINT_FILE, 0, 0, "the checkpoint is of another chain");
    else if (c->size > r->last_seq)
        problem(w, AUDIT_CHECKPOINT_FILE, 0, c->size,
                "the checkpoint covers %" PRIu64 " records, and only %" PRIu64 " are here: the end was cut off",
                c->size, r->last_seq);
    else if (c->size > 0 && !w->checkpoint_met)
        problem(w, AUDIT_CHECKPOINT_FILE, 0, c->size,
                "record %" PRIu64 " is not the one that was signed: the chain was rewritten", c->size);
    else
        r->checkpointed = true;
}

/* No segment at all: a chain that holds nothing yet, or one that was deleted. */
static void judge_nothing(struct walk *w, const unsigned char *public_key)
{
    struct audit_report *r = w->r;
    read_checkpoint(w, public_key);
    r->checkpointed = w->have_checkpoint && r->checkpoint.size == 0;
    if (w->have_checkpoint && r->checkpoint.size > 0)
        problem(w, AUDIT_CHECKPOINT_FILE, 0, r->checkpoint.size,
                "the checkpoint covers %" PRIu64 " records, and no segment is here: the trail was deleted",
                r->checkpoint.size);
    else
        problem(w, "", 0, 0, "no segment (audit-*.seg) is here");
}

static int walk_dir(struct walk *w, const unsigned char *public_key, struct err *e)
{
    uint64_t *list = NULL;
    size_t n = 0;
    *w->r = (struct audit_report){0};
    if (sodium_init() < 0)
        return err_set(e, "no source of randomness");
    if (list_segments(w->dir, &list, &n, e))
        return -1;
    if (n == 0) {
        judge_nothing(w, public_key);
    } else {
        read_checkpoint(w, public_key);
        for (size_t i = w->only_last && n > 2 ? n - 2 : 0; i < n; i++)
            walk_file(w, list[i], i + 1 == n);
        judge_checkpoint(w);
        w->r->last_first_seq = list[n - 1];
    }
    memcpy(w->r->last_hash, w->hash, AUDIT_HASH_BYTES);
    free(list);
    return w->r->n_problems ? 1 : 0;
}

int audit_walk(const char *dir, const unsigned char *public_key, struct audit_report *report, audit_visit visit,
               void *ctx, struct err *e)
{
    struct walk w = {.dir = dir, .r = report, .visit = visit, .ctx = ctx, .next_seq = 1};
    return walk_dir(&w, public_key, e);
}

int audit_walk_last(const char *dir, struct audit_report *report, audit_visit visit, void *ctx, struct err *e)
{
    struct walk w = {.dir = dir, .r = report, .visit = visit, .ctx = ctx, .next_seq = 1, .only_last = true};
    return walk_dir(&w, NULL, e);
}

int audit_verify(const char *dir, const unsigned char *public_key, struct audit_report *report, struct err *e)
{
    return audit_walk(dir, public_key, report, NULL, NULL, e);
}
