/* outbox_file.c - the outbox's records and segments on disk: write, read back, find damage. No loop, no bus. */
#include "common/clock.h"
#include "common/outbox_impl.h"
#include "common/subjects.h"
#include <assert.h>
#include <dirent.h>
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- records ---- */

#define MAGIC          0x314f4252u /* "RBO1": the last digit is the version */
#define FILE_BYTES_MAX (64u << 20) /* segments end at a few MiB */

struct header {
    uint32_t magic;
    uint8_t kind, unused;
    uint16_t subject_len, id_len, type_len; /* with their NUL */
    uint32_t data_len;
    uint64_t seq;
    int64_t wall_ms;
};
_Static_assert(sizeof(struct header) == OUTBOX_HEADER, "no padding");

static size_t total(const struct header *h)
{
    return OUTBOX_HEADER + (size_t)le16toh(h->subject_len) + le16toh(h->id_len) + le16toh(h->type_len) +
           (size_t)le32toh(h->data_len) + OUTBOX_SUM;
}

static size_t with_nul(const char *s)
{
    return s ? strlen(s) + 1 : 1;
}

size_t outbox_record_size(const struct outbox_record *r)
{
    return OUTBOX_HEADER + with_nul(r->subject) + with_nul(r->id) + with_nul(r->type) + r->len + OUTBOX_SUM;
}

static unsigned char *put(unsigned char *to, const void *from, size_t n)
{
    if (n)
        memcpy(to, from, n);
    return to + n;
}

void outbox_record_write(unsigned char *to, const struct outbox_record *r)
{
    struct header h = {.magic = htole32(MAGIC),
                       .kind = (uint8_t)r->kind,
                       .subject_len = htole16((uint16_t)with_nul(r->subject)),
                       .id_len = htole16((uint16_t)with_nul(r->id)),
                       .type_len = htole16((uint16_t)with_nul(r->type)),
                       .data_len = htole32((uint32_t)r->len),
                       .wall_ms = (int64_t)htole64((uint64_t)r->wall_ms)};
    to = put(to, &h, sizeof h);
    to = put(to, r->subject ? r->subject : "", with_nul(r->subject));
    to = put(to, r->id ? r->id : "", with_nul(r->id));
    to = put(to, r->type ? r->type : "", with_nul(r->type));
    put(to, r->data, r->len);
}

void outbox_record_seal(unsigned char *record, size_t size, uint64_t seq)
{
    uint64_t le = htole64(seq);
    memcpy(record + offsetof(struct header, seq), &le, sizeof le);
    crypto_generichash(record + size - OUTBOX_SUM, OUTBOX_SUM, record, size - OUTBOX_SUM, NULL, 0);
}

/* A string of n bytes with its NUL at the end and nowhere else. */
static const char *get_string(const unsigned char **from, size_t n)
{
    const char *s = (const char *)*from;
    *from += n;
    return n > 0 && memchr(s, 0, n) == s + n - 1 ? s : NULL;
}

size_t outbox_record_read(const unsigned char *from, size_t len, struct outbox_record *ret)
{
    struct header h;
    if (len < OUTBOX_HEADER + OUTBOX_SUM)
        return 0;
    memcpy(&h, from, sizeof h);
    size_t size = total(&h);
    if (le32toh(h.magic) != MAGIC || size > len || size > OUTBOX_RECORD_MAX)
        return 0;
    unsigned char sum[OUTBOX_SUM];
    crypto_generichash(sum, sizeof sum, from, size - OUTBOX_SUM, NULL, 0);
    if (memcmp(sum, from + size - OUTBOX_SUM, OUTBOX_SUM) != 0)
        return 0;
    const unsigned char *at = from + OUTBOX_HEADER;
    struct outbox_record r = {
        .kind = h.kind, .seq = le64toh(h.seq), .wall_ms = (int64_t)le64toh((uint64_t)h.wall_ms)};
    r.subject = get_string(&at, le16toh(h.subject_len));
    r.id = get_string(&at, le16toh(h.id_len));
    r.type = get_string(&at, le16toh(h.type_len));
    r.data = at;
    r.len = le32toh(h.data_len);
    if (!r.subject || !r.id || !r.type)
        return 0;
    *ret = r;
    return size;
}

bool outbox_read_at(int fd, void *to, size_t len, uint64_t at)
{
    for (size_t n = 0; n < len;) {
        ssize_t got = pread(fd, (char *)to + n, len - n, (off_t)(at + n));
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0) {
            if (got == 0)
                errno = EIO; /* shorter than we left it */
            return false;
        }
        n += (size_t)got;
    }
    return true;
}

bool outbox_write_at(int fd, const void *from, size_t len, uint64_t at)
{
    for (size_t n = 0; n < len;) {
        ssize_t put_n = pwrite(fd, (const char *)from + n, len - n, (off_t)(at + n));
        if (put_n < 0 && errno == EINTR)
            continue;
        if (put_n <= 0) {
            if (put_n == 0)
                errno = ENOSPC;
            return false;
        }
        n += (size_t)put_n;
    }
    return true;
}

/* ---- segments in memory ---- */

void outbox_segment_name(uint32_t number, char buf[static 32])
{
    snprintf(buf, 32, "outbox-%08x.log", number);
}

static void segment_free(struct outbox_segment *g)
{
    if (g->fd >= 0)
        close(g->fd);
    free(g->entries);
    free(g);
}

struct outbox_segment *outbox_shelf_add(struct outbox_shelf *s, uint32_t number)
{
    if (s->n == s->room) {
        size_t room = s->room ? s->room * 2 : 8;
        struct outbox_segment **bigger = realloc(s->segs, room * sizeof *bigger);
        if (!bigger)
            return NULL;
        s->segs = bigger;
        s->room = room;
    }
    struct outbox_segment *g = calloc(1, sizeof *g);
    if (!g)
        return NULL;
    g->number = number;
    g->fd = -1;
    s->segs[s->n++] = g;
    if (number > s->top_number)
        s->top_number = number;
    return g;
}

void outbox_shelf_drop(struct outbox_shelf *s, size_t i, int dir_fd)
{
    struct outbox_segment *g = s->segs[i];
    char name[32];
    outbox_segment_name(g->number, name);
    unlinkat(dir_fd, name, 0); /* if it stays, its items are published again after a restart: harmless */
    s->bytes -= (size_t)g->size;
    segment_free(g);
    memmove(s->segs + i, s->segs + i + 1, (s->n - i - 1) * sizeof *s->segs);
    s->n--;
}

void outbox_shelf_free(struct outbox_shelf *s)
{
    for (size_t i = 0; i < s->n; i++)
        segment_free(s->segs[i]);
    free(s->segs);
    *s = (struct outbox_shelf){0};
}

bool outbox_segment_reserve(struct outbox_segment *g, size_t more)
{
    if (g->n + more <= g->room)
        return true;
    size_t room = g->room ? g->room * 2 : 16;
    while (room < g->n + more)
        room *= 2;
    struct outbox_entry *bigger = realloc(g->entries, room * sizeof *bigger);
    if (!bigger)
        return false;
    g->entries = bigger;
    g->room = room;
    return true;
}

struct outbox_entry *outbox_shelf_find(struct outbox_shelf *s, uint64_t seq, struct outbox_segment **ret_seg)
{
    for (size_t i = s->n; i-- > 0;) {
        struct outbox_segment *g = s->segs[i];
        if (g->n == 0 || g->entries[0].seq > seq)
            continue;
        size_t lo = 0, hi = g->n;
        while (lo < hi) {
            size_t mid = lo + (hi - lo) / 2;
            if (g->entries[mid].seq < seq)
                lo = mid + 1;
            else
                hi = mid;
        }
        if (lo == g->n || g->entries[lo].seq != seq)
            return NULL;
        *ret_seg = g;
        return &g->entries[lo];
    }
    return NULL;
}

unsigned outbox_shelf_stream(struct outbox_shelf *s, const char *name)
{
    if (!name || !*name || strlen(name) >= sizeof s->streams[0].name)
        return 0;
    for (unsigned i = 1; i < OUTBOX_STREAMS_MAX; i++) {
        if (!s->streams[i].name[0])
            snprintf(s->streams[i].name, sizeof s->streams[i].name, "%s", name);
        if (strcmp(s->streams[i].name, name) == 0)
            return i;
    }
    return 0;
}

void outbox_entry_acked(struct outbox_shelf *s, struct outbox_segment *g, struct outbox_entry *x, unsigned stream,
                        uint64_t stream_seq, const char *id, int64_t now_mono_ms)
{
    if (x->state != OUTBOX_ACKED && x->state != OUTBOX_GIVEN_UP && --g->open == 0)
        g->settled_mono_ms = now_mono_ms;
    x->state = OUTBOX_ACKED;
    x->stream = stream & 0x1f;
    x->stream_seq = stream_seq;
    struct outbox_stream *t = &s->streams[stream];
    if (stream != 0 && stream_seq > t->top_seq) {
        t->top_seq = stream_seq;
        snprintf(t->top_id, sizeof t->top_id, "%s", id ? id : "");
    }
}

/* ---- loading ---- */

static int add_item(struct outbox_shelf *s, struct outbox_segment *g, const struct outbox_record *r, size_t offset,
                    size_t size)
{
    if (r->seq <= s->top_seq)
        return 0; /* seen before: a copy of an old block; sequences only grow */
    if (!outbox_segment_reserve(g, 1))
        return -1;
    g->entries[g->n++] = (struct outbox_entry){
        .seq = r->seq, .offset = (uint32_t)offset, .len = size & 0xffffff, .state = OUTBOX_PENDING};
    g->open++;
    s->top_seq = r->seq;
    return 0;
}

static void apply_acks(struct outbox_shelf *s, const struct outbox_record *r, int64_t now_mono_ms)
{
    unsigned stream = outbox_shelf_stream(s, r->subject);
    for (size_t at = 0; at + 16 <= r->len; at += 16) {
        uint64_t pair[2];
        struct outbox_segment *g;
        memcpy(pair, (const char *)r->data + at, sizeof pair);
        struct outbox_entry *x = outbox_shelf_find(s, le64toh(pair[0]), &g);
        if (x)
            outbox_entry_acked(s, g, x, stream, le64toh(pair[1]), NULL, now_mono_ms);
    }
}

/* A record as a later version would begin it: no damage, but nothing that could be read, or cut off, here. Not one of ours with a bit flipped. */
static bool newer(const unsigned char *at, size_t len)
{
    struct outbox_record r;
    if (len < 4 || memcmp(at, "RBO", 3) != 0 || at[3] <= '1' || at[3] > '9')
        return false;
    size_t n = len < OUTBOX_RECORD_MAX ? len : OUTBOX_RECORD_MAX;
    unsigned char *ours = malloc(n);
    if (!ours)
        return true; /* nothing is cut off without having looked */
    memcpy(ours, at, n);
    ours[3] = '1';
    bool flipped = outbox_record_read(ours, n, &r) > 0;
    free(ours);
    return !flipped;
}

/* Reads one file's records. Damage in the middle costs only the records that it hit: the next whole one is searched for. */
static int scan(struct outbox_shelf *s, struct outbox_segment *g, const unsigned char *buf, size_t len,
                int64_t now_mono_ms, struct err *e)
{
    static const unsigned char first = MAGIC & 0xff;
    size_t at = 0, good_end = 0;
    bool damaged = false;
    while (at < len) {
        struct outbox_record r;
        size_t size = buf[at] == first ? outbox_record_read(buf + at, len - at, &r) : 0;
        if (size == 0 && !damaged && newer(buf + at, len - at))
            return err_set(e,
                           "version %c of the outbox is not known here: a newer Redoubt wrote it. Run that one "
                           "until it has sent what is in it, or move the file away",
                           buf[at + 3]);
        if (size == 0) {
            s->damaged_places += !damaged;
            s->damaged_bytes++;
            damaged = true;
            at++;
            continue;
        }
        damaged = false;
        if (r.kind == OUTBOX_ITEM) {
            if (add_item(s, g, &r, at, size))
                return err_set(e, "out of memory");
        } else if (r.kind == OUTBOX_ACKS) {
            apply_acks(s, &r, now_mono_ms);
        }
        at += size;
        good_end = at;
    }
    g->size = good_end;
    return 0;
}

static int load_segment(struct outbox_shelf *s, int dir_fd, const char *dir, uint32_t number, bool keep,
                        struct err *e)
{
    char name[32];
    struct stat st;
    unsigned char *buf = NULL;
    int rc = -1;
    outbox_segment_name(number, name);
    struct outbox_segment *g = outbox_shelf_add(s, number);
    if (!g)
        return err_set(e, "%s/%s: out of memory", dir, name);
    g->fd = openat(dir_fd, name, O_RDWR | O_CLOEXEC);
    if (g->fd < 0 || fstat(g->fd, &st) != 0) {
        err_set(e, "cannot open %s/%s: %s", dir, name, strerror(errno));
        goto out;
    }
    if (!S_ISREG(st.st_mode) || st.st_size > FILE_BYTES_MAX) {
        err_set(e, "%s/%s is not a file of the outbox; move it away", dir, name);
        goto out;
    }
    size_t len = (size_t)st.st_size;
    buf = malloc(len + 1);
    if (!buf || !outbox_read_at(g->fd, buf, len, 0)) {
        err_set(e, "cannot read %s/%s: %s", dir, name, buf ? strerror(errno) : "out of memory");
        goto out;
    }
    int64_t now = clock_mono_ms();
    g->settled_mono_ms = now;
    struct err why = {""};
    if (scan(s, g, buf, len, now, &why)) {
        err_set(e, "%s/%s: %s", dir, name, why.text);
        goto out;
    }
    if (!keep && g->size < len && ftruncate(g->fd, (off_t)g->size) != 0) {
        err_set(e, "cannot cut the damaged end of %s/%s: %s", dir, name, strerror(errno));
        goto out;
    }
    s->bytes += (size_t)g->size;
    rc = 0;
out:
    free(buf);
    return rc;
}

static int by_number(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return x < y ? -1 : x > y;
}

/* Numbers of the segment files, in order; malloc'ed. */
static uint32_t *list(int dir_fd, size_t *ret_n, struct err *e)
{
    int fd = openat(dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *d = fd >= 0 ? fdopendir(fd) : NULL;
    uint32_t *numbers = malloc(sizeof *numbers);
    size_t n = 0, room = 1;
    if (!d || !numbers) {
        err_set(e, "cannot list the outbox: %s", strerror(errno));
        if (fd >= 0 && !d)
            close(fd);
        free(numbers);
        numbers = NULL;
        goto out;
    }
    for (struct dirent *f; (f = readdir(d));) {
        unsigned number;
        char name[32];
        if (sscanf(f->d_name, "outbox-%8x.log", &number) != 1)
            continue;
        outbox_segment_name(number, name);
        if (strcmp(name, f->d_name) != 0)
            continue;
        if (n == room) {
            uint32_t *bigger = realloc(numbers, (room *= 2) * sizeof *numbers);
            if (!bigger) {
                err_set(e, "out of memory");
                free(numbers);
                numbers = NULL;
                goto out;
            }
            numbers = bigger;
        }
        numbers[n++] = number;
    }
    qsort(numbers, n, sizeof *numbers, by_number);
    *ret_n = n;
out:
    if (d)
        closedir(d);
    return numbers;
}

/* The id of each stream's top item: stands in the item's record, which may lie in an earlier file than its acknowledgement. */
static void find_top_ids(struct outbox_shelf *s)
{
    for (size_t i = 0; i < s->n; i++) {
        for (size_t k = 0; k < s->segs[i]->n; k++) {
            const struct outbox_entry *x = &s->segs[i]->entries[k];
            struct outbox_stream *t = &s->streams[x->stream];
            if (x->state != OUTBOX_ACKED || x->stream == 0 || x->stream_seq != t->top_seq)
                continue;
            unsigned char *buf = malloc(x->len);
            struct outbox_record r;
            if (buf && outbox_read_at(s->segs[i]->fd, buf, x->len, x->offset) && outbox_record_read(buf, x->len, &r))
                snprintf(t->top_id, sizeof t->top_id, "%s", r.id);
            free(buf);
        }
    }
}

int outbox_shelf_load(struct outbox_shelf *s, int dir_fd, const char *dir, bool keep, struct err *e)
{
    *s = (struct outbox_shelf){0};
    size_t n = 0;
    uint32_t *numbers = list(dir_fd, &n, e);
    int rc = numbers ? 0 : -1;
    for (size_t i = 0; rc == 0 && i < n; i++)
        rc = load_segment(s, dir_fd, dir, numbers[i], keep, e);
    free(numbers);
    if (rc == 0)
        find_top_ids(s);
    else
        outbox_shelf_free(s);
    return rc;
}

/* ---- copying (adoption) ---- */

/* A name that loading does not see: a copy that was cut short leaves nothing but this. */
#define COPY_NAME "adopt.tmp"

void outbox_shelf_clean(int dir_fd)
{
    unlinkat(dir_fd, COPY_NAME, 0);
}

struct copy {
    struct outbox_shelf *to;
    int dir_fd;
    struct outbox_segment *seg; /* NULL between segments */
    int64_t now_mono_ms;
};

static bool copy_begin(struct copy *c)
{
    c->seg = outbox_shelf_add(c->to, c->to->top_number + 1);
    if (!c->seg)
        return false;
    c->seg->settled_mono_ms = c->now_mono_ms;
    c->seg->fd = openat(c->dir_fd, COPY_NAME, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    return c->seg->fd >= 0;
}

static bool copy_end(struct copy *c)
{
    char name[32];
    if (!c->seg)
        return true;
    outbox_segment_name(c->seg->number, name);
    bool ok =
        fdatasync(c->seg->fd) == 0 && renameat(c->dir_fd, COPY_NAME, c->dir_fd, name) == 0 && fsync(c->dir_fd) == 0;
    c->seg = NULL;
    return ok;
}

static bool copy_item(struct copy *c, const struct outbox_shelf *from, const struct outbox_segment *g,
                      const struct outbox_entry *x)
{
    struct outbox_segment *mine = c->seg;
    unsigned char *buf = malloc(x->len);
    bool ok = buf && outbox_read_at(g->fd, buf, x->len, x->offset) && outbox_segment_reserve(mine, 1);
    if (ok) {
        outbox_record_seal(buf, x->len, ++c->to->top_seq);
        ok = outbox_write_at(mine->fd, buf, x->len, mine->size);
    }
    free(buf);
    if (!ok)
        return false;
    struct outbox_entry *y = &mine->entries[mine->n++];
    *y = (struct outbox_entry){
        .seq = c->to->top_seq, .offset = (uint32_t)mine->size, .len = x->len, .state = OUTBOX_PENDING};
    mine->open++;
    mine->size += x->len;
    c->to->bytes += x->len;
    if (x->state == OUTBOX_ACKED) {
        const struct outbox_stream *t = &from->streams[x->stream];
        outbox_entry_acked(c->to, mine, y, outbox_shelf_stream(c->to, t->name), x->stream_seq,
                           x->stream_seq == t->top_seq ? t->top_id : NULL, c->now_mono_ms);
    }
    return true;
}

int outbox_shelf_copy(struct outbox_shelf *to, int dir_fd, const struct outbox_shelf *from, size_t segment_bytes,
                      struct err *e)
{
    struct copy c = {.to = to, .dir_fd = dir_fd, .now_mono_ms = clock_mono_ms()};
    size_t before = to->n;
    bool ok = true;
    for (size_t i = 0; ok && i < from->n; i++) {
        for (size_t k = 0; ok && k < from->segs[i]->n; k++) {
            if (c.seg && c.seg->size >= segment_bytes)
                ok = copy_end(&c);
            ok = ok && (c.seg || copy_begin(&c)) && copy_item(&c, from, from->segs[i], &from->segs[i]->entries[k]);
        }
    }
    if (ok && copy_end(&c))
        return 0;
    err_set(e, "cannot copy the items: %s", strerror(errno));
    unlinkat(dir_fd, COPY_NAME, 0);
    while (to->n > before)
        outbox_shelf_drop(to, to->n - 1, dir_fd);
    return -1;
}
