/* audit_kin.c - follows the trails of the other replicas on this volume. */
#include "audit/audit_kin.h"
#include "audit/audit_home.h"
#include "audit/audit_seen.h"
#include "audit/audit_segments.h"
#include "common/clock.h"
#include "common/replica.h"
#include "common/wire.h"
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define CHUNK_BYTES (256 * 1024) /* more than a record may have */
#define FAILED_MS   10000

/* A file as it was looked at last: replaced, it is another. */
struct print {
    ino_t inode;
    off_t size;
    struct timespec changed;
};
struct open {
    uint64_t id, check; /* hash of the id; the beginning of the record's own hash */
};
/* Another's trail, read up to here. */
struct kin {
    char dirs[2][600];
    struct print points[2]; /* of its two checkpoint files */
    unsigned char chain[AUDIT_CHAIN_BYTES];
    uint64_t covered; /* records, by its newest checkpoint */
    unsigned char covered_hash[AUDIT_HASH_BYTES];
    uint64_t settled;     /* of these the very records that the checkpoint covers were read */
    uint64_t first, next; /* the segment that is read, and the record after what was read; 0 = not begun */
    unsigned char hash[AUDIT_HASH_BYTES];
    off_t at;
    int fd;
    struct audit_seen *seen; /* NULL = it has no trail */
    int64_t failed_ms;       /* it could not be made sense of then; 0 = it could */
    struct open *open;       /* what was read beyond `settled`: the records before `next` */
    size_t n_open, room;
};
struct audit_kin {
    char base[REPLICA_PATH], second_root[512], instance[AUDIT_HOME_MAX];
    int index;
    unsigned char key[crypto_shorthash_KEYBYTES];
    struct kin list[REPLICA_MAX];
    unsigned char buf[CHUNK_BYTES];
};

struct audit_kin *audit_kin_open(const struct audit_kin_opts *o)
{
    struct audit_kin *k = calloc(1, sizeof *k);
    if (!k)
        return NULL;
    size_t base = strlen(o->dir);
    while (base > 0 && o->dir[base - 1] != '/')
        base--;
    snprintf(k->base, sizeof k->base, "%.*s", (int)base, o->dir);
    snprintf(k->second_root, sizeof k->second_root, "%s", o->second_root);
    snprintf(k->instance, sizeof k->instance, "%s", o->instance);
    k->index = o->index;
    crypto_shorthash_keygen(k->key);
    for (int i = 0; i < REPLICA_MAX; i++)
        k->list[i].fd = -1;
    return k;
}

static uint64_t hash_of(const struct audit_kin *k, const char *id)
{
    unsigned char out[crypto_shorthash_BYTES];
    uint64_t h;
    crypto_shorthash(out, (const unsigned char *)id, strlen(id), k->key);
    memcpy(&h, out, sizeof h);
    return h;
}

/* ---- one trail ---- */

static void forget(struct kin *n)
{
    if (n->fd >= 0)
        close(n->fd);
    free(n->seen);
    free(n->open);
    *n = (struct kin){.fd = -1};
}

/* What was read is not what stands there now: it is read again from the beginning. */
static void begin_again(struct kin *n)
{
    struct kin was = *n;
    forget(n);
    memcpy(n->dirs, was.dirs, sizeof n->dirs);
    memcpy(n->points, was.points, sizeof n->points);
    memcpy(n->chain, was.chain, sizeof n->chain);
    memcpy(n->covered_hash, was.covered_hash, sizeof n->covered_hash);
    n->covered = was.covered;
    n->seen = calloc(1, sizeof *n->seen); /* pages that hold nothing take no memory */
    assert(n->seen && "out of memory for the ids of a trail");
    randombytes_buf(n->seen->key, sizeof n->seen->key);
}

/* The newest checkpoint of the two directories; false: there is none. Read again only where a file is another. */
static bool look_at_points(struct kin *n, bool *ret_other)
{
    struct print now[2];
    bool same = true;
    for (int i = 0; i < 2; i++) {
        char path[700];
        struct stat st = {0};
        snprintf(path, sizeof path, "%s/" AUDIT_CHECKPOINT_FILE, n->dirs[i]);
        if (!n->dirs[i][0] || stat(path, &st))
            st = (struct stat){0};
        now[i] = (struct print){st.st_ino, st.st_size, st.st_mtim};
        same &= now[i].inode == n->points[i].inode && now[i].size == n->points[i].size &&
                now[i].changed.tv_sec == n->points[i].changed.tv_sec &&
                now[i].changed.tv_nsec == n->points[i].changed.tv_nsec;
    }
    *ret_other = false;
    if (same)
        return n->seen != NULL;
    bool any = false;
    struct audit_checkpoint best = {0}, c;
    for (int i = 0; i < 2; i++) {
        size_t len;
        char *note = now[i].inode
                         ? (char *)audit_read_file(n->dirs[i], AUDIT_CHECKPOINT_FILE, AUDIT_NOTE_MAX, &len, NULL)
                         : NULL;
        if (note && audit_checkpoint_parse(note, len, &c, NULL) == 0 && (!any || c.size >= best.size)) {
            best = c;
            any = true;
        }
        free(note);
        n->points[i] = now[i];
    }
    if (!any)
        return false;
    *ret_other = n->seen && (memcmp(best.chain, n->chain, sizeof best.chain) != 0 || best.size < n->covered);
    memcpy(n->chain, best.chain, sizeof n->chain);
    memcpy(n->covered_hash, best.hash, sizeof n->covered_hash);
    n->covered = best.size;
    return true;
}

static int open_segment(struct kin *n, uint64_t first)
{
    char path[700], name[AUDIT_NAME_MAX];
    audit_segment_name(first, name);
    for (int i = 0; i < 2; i++) {
        if (!n->dirs[i][0])
            continue;
        snprintf(path, sizeof path, "%s/%s", n->dirs[i], name);
        int fd = open(path, O_RDONLY | O_CLOEXEC);
        if (fd >= 0)
            return fd;
    }
    return -1;
}

static void move_to(struct kin *n, uint64_t first, int fd)
{
    if (n->fd >= 0)
        close(n->fd);
    n->fd = fd;
    n->first = n->next = first;
    n->at = 0;
}

/* As far back as the memory reaches. */
static bool find_place(struct kin *n)
{
    const char *dirs[2] = {n->dirs[0], n->dirs[1]};
    struct audit_segments have;
    if (audit_segments_list(dirs, 2, &have, NULL))
        return false;
    uint64_t from = n->covered > AUDIT_SEEN_MIN ? n->covered - AUDIT_SEEN_MIN + 1 : 1;
    size_t i = have.n;
    while (i > 0 && have.list[i - 1].first > from)
        i--;
    uint64_t first = have.n ? have.list[i > 0 ? i - 1 : 0].first : 0;
    audit_segments_free(&have);
    int fd = first ? open_segment(n, first) : -1;
    if (fd >= 0)
        move_to(n, first, fd);
    return fd >= 0;
}

static void note_open(struct kin *n, uint64_t id, const unsigned char hash[static AUDIT_HASH_BYTES])
{
    if (n->n_open == n->room) {
        n->room = n->room ? 2 * n->room : 256;
        n->open = realloc(n->open, n->room * sizeof *n->open);
        assert(n->open && "out of memory for records without a checkpoint");
    }
    struct open *o = &n->open[n->n_open++];
    o->id = id;
    memcpy(&o->check, hash, sizeof o->check);
}

static void take(struct audit_kin *k, struct kin *n, const struct audit_record *rec)
{
    PB(AuditRecord) *r = wire_unpack(PB_DESC(audit_record), rec->stored, rec->len, NULL);
    if (r)
        audit_seen_add(n->seen, r->id);
    note_open(n, r ? hash_of(k, r->id) : 0, rec->hash); /* what cannot be read keeps its place: they are counted */
    wire_free(r);
}

/* What is whole in the file from where it was read to. False: it is not what it was read as before. */
static bool read_on(struct audit_kin *k, struct kin *n)
{
    struct stat st;
    if (fstat(n->fd, &st) || st.st_size < n->at)
        return false;
    for (;;) {
        ssize_t got = pread(n->fd, k->buf, sizeof k->buf, n->at);
        size_t used = 0;
        struct audit_record r;
        struct audit_header h;
        enum audit_found found;
        if (got < 0)
            return false;
        if (n->at == 0) {
            if (got < AUDIT_HEADER_BYTES)
                return true; /* being begun, or torn */
            if (audit_header_parse(k->buf, (size_t)got, &h, NULL) || h.first_seq != n->first ||
                memcmp(h.chain, n->chain, sizeof h.chain) != 0)
                return false;
            audit_header_hash(k->buf, n->hash);
            used = AUDIT_HEADER_BYTES;
        }
        while ((found = audit_record_parse(k->buf + used, (size_t)got - used, n->hash, n->next, &r, NULL)) ==
               AUDIT_RECORD) {
            take(k, n, &r);
            memcpy(n->hash, r.hash, sizeof n->hash);
            used += r.size;
            n->next++;
        }
        n->at += (off_t)used;
        /* Bytes that do not fit may be a write that is under way, or one that was cut short: looked at again the next time. */
        if (used == 0 || found == AUDIT_BROKEN)
            return true;
    }
}

/* The next segment is there as soon as the last one is whole. */
static bool follow(struct audit_kin *k, struct kin *n)
{
    if (n->first == 0 && !find_place(n))
        return true;
    for (;;) {
        if (!read_on(k, n))
            return false;
        int fd = n->next > n->first ? open_segment(n, n->next) : -1;
        if (fd < 0)
            return true;
        move_to(n, n->next, fd);
    }
}

/* What the checkpoint covers is no longer open, if it is what was read. False: its owner has taken something back, and written something else there. */
static bool settle(struct kin *n)
{
    if (n->covered <= n->settled)
        return true;
    uint64_t from = n->next - n->n_open;
    if (n->covered >= n->next)
        return false;
    size_t done = n->covered >= from ? (size_t)(n->covered - from + 1) : 0;
    if (done > 0 && memcmp(&n->open[done - 1].check, n->covered_hash, sizeof n->open->check) != 0)
        return false;
    n->n_open -= done;
    if (n->n_open > 0)
        memmove(n->open, n->open + done, n->n_open * sizeof *n->open);
    n->settled = n->covered;
    return true;
}

static void name_dirs(const struct audit_kin *k, int index, char dirs[2][600])
{
    char name[AUDIT_HOME_MAX];
    snprintf(dirs[0], 600, "%s%d", k->base, index);
    dirs[1][0] = 0;
    if (!*k->second_root)
        return;
    audit_home_of(dirs[0], index, k->instance, name);
    snprintf(dirs[1], 600, "%.520s/%s", k->second_root, name);
}

static void refresh(struct audit_kin *k, int index)
{
    struct kin *n = &k->list[index];
    bool other;
    if (!n->seen) {
        char dirs[2][600]; /* as long as it is followed they are the same */
        name_dirs(k, index, dirs);
        memcpy(n->dirs, dirs, sizeof n->dirs);
    }
    if (!look_at_points(n, &other)) {
        forget(n);
        return;
    }
    if (!n->seen || other) /* other: that one was set aside, and another begun */
        begin_again(n);
    if (n->failed_ms && clock_mono_ms() - n->failed_ms < FAILED_MS)
        return;
    /* A checkpoint is written after the records that it covers: they are there. Read once more if they are not those. */
    for (int i = 0; i < 2; i++) {
        if (follow(k, n) && settle(n))
            return;
        begin_again(n);
    }
    n->failed_ms = clock_mono_ms(); /* damaged: whoever keeps it tells people */
}

/* ---- all of them ---- */

void audit_kin_refresh(struct audit_kin *k)
{
    for (int i = 0; i < REPLICA_MAX; i++)
        if (i != k->index)
            refresh(k, i);
}

size_t audit_kin_count(const struct audit_kin *k)
{
    size_t n = 0;
    for (int i = 0; i < REPLICA_MAX; i++)
        n += k->list[i].seen != NULL;
    return n;
}

enum audit_kin_has audit_kin_find(const struct audit_kin *k, const char *id)
{
    enum audit_kin_has has = AUDIT_KIN_NONE;
    uint64_t h = hash_of(k, id);
    for (int i = 0; i < REPLICA_MAX; i++) {
        const struct kin *n = &k->list[i];
        if (!n->seen || !audit_seen_has(n->seen, id))
            continue;
        bool open = false;
        for (size_t o = 0; o < n->n_open && !open; o++)
            open = n->open[o].id == h;
        if (!open)
            return AUDIT_KIN_HAS;
        has = AUDIT_KIN_OPEN;
    }
    return has;
}

void audit_kin_close(struct audit_kin *k)
{
    if (!k)
        return;
    for (int i = 0; i < REPLICA_MAX; i++)
        forget(&k->list[i]);
    free(k);
}
