/* audit_verify.c - checks a trail: its notes and keys first, then segments side by side, then whether all of it fits together. */
#include "audit/audit_verify.h"
#include "audit/audit_scan.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <sodium.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define THREADS_MAX 8
#define WAVE        32 /* segments looked at together: what is kept of each is bounded */
#define KEYS_FILE   (AUDIT_KEYS_MAX * 1024)

struct segment {
    uint64_t first;
    size_t dir;
};

struct walk {
    const struct audit_verify_opts *o;
    struct audit_report *r;
    struct segment *list;
    size_t n;
    bool have_keys;
    bool have_pruned;
    struct audit_checkpoint pruned;
    struct audit_mark *marks; /* by size */
    size_t n_marks;
    bool no_memory;
    uint64_t covered; /* the largest of them */
    uint64_t next_seq;
    unsigned char hash[AUDIT_HASH_BYTES]; /* of the last record so far */
    bool begun;                           /* a segment's header was good */
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

/* ---- which segments ---- */

static int by_first(const void *a, const void *b)
{
    const struct segment *x = a, *y = b;
    return x->first != y->first ? (x->first > y->first) - (x->first < y->first)
                                : (x->dir > y->dir) - (x->dir < y->dir);
}

static int list_dir(struct walk *w, size_t dir, struct err *e)
{
    DIR *d = opendir(w->o->dirs[dir]);
    if (!d)
        return err_set(e, "cannot read directory %s: %s; give the directory that holds audit-*.seg", w->o->dirs[dir],
                       strerror(errno));
    uint64_t first;
    for (struct dirent *f; (f = readdir(d));) {
        if (!audit_segment_parse(f->d_name, &first))
            continue;
        struct segment *more = realloc(w->list, (w->n + 1) * sizeof *more);
        if (!more) {
            closedir(d);
            return err_set(e, "out of memory");
        }
        w->list = more;
        w->list[w->n++] = (struct segment){first, dir};
    }
    closedir(d);
    return 0;
}

static int list_segments(struct walk *w, struct err *e)
{
    for (size_t i = 0; i < w->o->n_dirs; i++)
        if (list_dir(w, i, e))
            return -1;
    if (w->n)
        qsort(w->list, w->n, sizeof *w->list, by_first);
    size_t n = 0;
    for (size_t i = 0; i < w->n; i++) {
        if (i && w->list[i].first == w->list[n - 1].first) {
            char name[AUDIT_NAME_MAX];
            audit_segment_name(w->list[i].first, name);
            problem(w, name, 0, w->list[i].first, "the segment is there twice, in %s too",
                    w->o->dirs[w->list[i].dir]);
        } else {
            w->list[n++] = w->list[i];
        }
    }
    w->n = n;
    return 0;
}

/* ---- notes ---- */

static void add_mark(struct walk *w, const struct audit_checkpoint *c, const char *file, size_t offset)
{
    struct audit_mark *more = realloc(w->marks, (w->n_marks + 1) * sizeof *more);
    if (!more) {
        w->no_memory = true;
        return;
    }
    w->marks = more;
    struct audit_mark *m = &w->marks[w->n_marks++];
    *m = (struct audit_mark){.c = *c};
    snprintf(m->file, sizeof m->file, "%s", file);
    m->offset = offset;
    if (c->size > w->covered)
        w->covered = c->size;
}

static void read_keys(struct walk *w)
{
    struct audit_report *r = w->r;
    struct err e = {""};
    unsigned char own[AUDIT_PUBLIC_BYTES];
    const unsigned char *newest = w->o->newest;
    const char *dir = w->o->dirs[0];
    size_t n = 0, bytes = 0;
    if (!newest) {
        unsigned char *hex = audit_read_file(dir, AUDIT_PUBLIC_FILE, 256, &n, &e);
        char again[2 * AUDIT_PUBLIC_BYTES + 1];
        if (hex && sodium_hex2bin(own, sizeof own, (const char *)hex, n, "\r\n", &bytes, NULL) == 0 &&
            bytes == sizeof own &&
            memcmp(sodium_bin2hex(again, sizeof again, own, sizeof own), hex, sizeof again - 1) == 0)
            newest = own;
        else if (hex || !w->o->public_key)
            problem(w, AUDIT_PUBLIC_FILE, 0, 0, "the public key is missing or unreadable; give one with --key");
        free(hex);
    }
    char path[4096];
    snprintf(path, sizeof path, "%s/" AUDIT_KEYS_FILE, dir);
    unsigned char *file = NULL;
    n = 0;
    if (access(path, F_OK) == 0 && !(file = audit_read_file(dir, AUDIT_KEYS_FILE, KEYS_FILE, &n, &e))) {
        problem(w, AUDIT_KEYS_FILE, 0, 0, "%s", e.text);
        return;
    }
    if (!newest && n == 0)
        newest = w->o->public_key;
    if (!newest && n == 0)
        return; /* said */
    if (audit_keys_parse((const char *)file, n, n ? NULL : newest, &r->keys, &e)) {
        problem(w, AUDIT_KEYS_FILE, 0, 0, "%s", e.text);
    } else if (newest && audit_keys_find(&r->keys, newest) < 0) {
        problem(w, AUDIT_PUBLIC_FILE, 0, 0, "the key is none of those that " AUDIT_KEYS_FILE " leads to");
    } else {
        w->have_keys = true;
        for (size_t i = 1; i < r->keys.n; i++) {
            struct audit_checkpoint c = {.size = r->keys.list[i].since};
            memcpy(c.chain, r->keys.list[i].chain, sizeof c.chain);
            memcpy(c.root, r->keys.list[i].root, sizeof c.root);
            memcpy(c.hash, r->keys.list[i].hash, sizeof c.hash);
            add_mark(w, &c, AUDIT_KEYS_FILE, r->keys.list[i].offset);
        }
    }
    free(file);
    if (!w->have_keys || !w->o->public_key)
        return;
    int at = audit_keys_find(&r->keys, w->o->public_key);
    if (at < 0) {
        problem(w, r->keys.n > 1 ? AUDIT_KEYS_FILE : AUDIT_PUBLIC_FILE, 0, 0,
                "the key that you trust is none of this trail's: it was signed by another");
        w->have_keys = false;
        return;
    }
    r->trusted = true;
    r->trusted_since = r->keys.list[at].since;
}

static void look_for_witnesses(struct walk *w, const char *note, size_t len)
{
    for (size_t i = 0; i < w->o->n_witnesses && i < AUDIT_WITNESSES_MAX; i++) {
        struct err e = {""};
        int64_t at = 0;
        enum audit_signed is = audit_note_verify(note, len, &w->o->witnesses[i], &at, &e);
        w->r->cosigned[i] = is == AUDIT_SIGNED;
        w->r->cosigned_at_unix_s[i] = at;
        if (is == AUDIT_FORGED)
            problem(w, AUDIT_CHECKPOINT_FILE, 0, 0, "%s", e.text);
    }
}

/* Texts as they were when looked at: keys are read after them, as a new key is announced before it signs. */
struct notes {
    unsigned char *text[AUDIT_DIRS_MAX];
    size_t len[AUDIT_DIRS_MAX];
};

static void read_checkpoints(struct walk *w, const struct notes *t)
{
    struct audit_report *r = w->r;
    struct err e = {""};
    bool any = false, good = false;
    if (!w->have_keys)
        return;
    for (size_t i = 0; i < w->o->n_dirs; i++) {
        struct audit_checkpoint c;
        if (!t->text[i])
            continue;
        any = true;
        if (audit_keys_check(&r->keys, (const char *)t->text[i], t->len[i], AUDIT_NOTE_CHECKPOINT, &c, &e)) {
            problem(w, AUDIT_CHECKPOINT_FILE, 0, 0, "the checkpoint is not good: %s", e.text);
            continue;
        }
        add_mark(w, &c, AUDIT_CHECKPOINT_FILE, 0);
        if (!good || c.size > r->checkpoint.size) {
            r->checkpoint = c;
            look_for_witnesses(w, (const char *)t->text[i], t->len[i]);
        }
        good = true;
    }
    if (!any)
        problem(w, AUDIT_CHECKPOINT_FILE, 0, 0,
                "the checkpoint is missing: that nothing was cut off the end cannot be shown");
    r->checkpointed = good;
}

static void read_anchors(struct walk *w)
{
    struct err e = {""};
    for (size_t i = 0; w->have_keys && i < w->o->n_anchors && i < AUDIT_ANCHORS_MAX; i++) {
        struct audit_checkpoint c;
        char name[AUDIT_NAME_MAX];
        const char *note = w->o->anchors[i];
        snprintf(name, sizeof name, "anchor %zu", i + 1);
        /* Of any key of the trail: it may be older than the last change. */
        if (audit_keys_check(&w->r->keys, note, strlen(note), AUDIT_NOTE_CHECKPOINT, &c, &e))
            problem(w, name, 0, 0, "the trail's keys do not vouch for this checkpoint: %s", e.text);
        else
            add_mark(w, &c, name, 0);
    }
}

static void read_pruned(struct walk *w)
{
    struct err e = {""};
    char path[4096];
    size_t n;
    snprintf(path, sizeof path, "%s/" AUDIT_PRUNED_FILE, w->o->dirs[0]);
    if (!w->have_keys || access(path, F_OK) != 0)
        return;
    unsigned char *text = audit_read_file(w->o->dirs[0], AUDIT_PRUNED_FILE, AUDIT_NOTE_MAX, &n, &e);
    if (!text) {
        problem(w, AUDIT_PRUNED_FILE, 0, 0, "%s", e.text);
    } else if (audit_keys_check(&w->r->keys, (const char *)text, n, AUDIT_NOTE_TREE, &w->pruned, &e)) {
        problem(w, AUDIT_PRUNED_FILE, 0, 0, "what says where the trail begins is not good: %s", e.text);
    } else {
        w->have_pruned = true;
        w->r->pruned = w->pruned.size;
    }
    free(text);
}

static int by_size(const void *a, const void *b)
{
    uint64_t x = ((const struct audit_mark *)a)->c.size, y = ((const struct audit_mark *)b)->c.size;
    return (x > y) - (x < y);
}

/* ---- segments ---- */

struct wave {
    void *maps[WAVE];
    size_t n;
    atomic_size_t next;
    struct audit_scan scans[]; /* as many as there are, at most WAVE */
};

static void *work(void *ctx)
{
    struct wave *v = ctx;
    for (size_t i; (i = atomic_fetch_add(&v->next, 1)) < v->n;)
        audit_scan(&v->scans[i]);
    return NULL;
}

static void run_wave(struct wave *v, unsigned threads)
{
    pthread_t list[THREADS_MAX];
    unsigned n = 0;
    atomic_store(&v->next, 0);
    while (n + 1 < threads && n + 1 < v->n && pthread_create(&list[n], NULL, work, v) == 0)
        n++;
    work(v); /* this thread, too: it goes with none besides */
    while (n > 0)
        pthread_join(list[--n], NULL);
}

/* A file is mapped, not read: trails are larger than memory. */
static void open_segment(struct walk *w, struct wave *v, size_t i)
{
    const struct segment *seg = &w->list[i];
    struct audit_scan *s = &v->scans[v->n];
    char path[4096];
    *s = (struct audit_scan){.number = seg->first,
                             .last = i + 1 == w->n,
                             .covered = w->covered,
                             .trees = w->r->rooted,
                             .tree_from = w->r->tree.end,
                             .visit = w->o->visit,
                             .ctx = w->o->ctx};
    audit_segment_name(seg->first, s->name);
    snprintf(path, sizeof path, "%s/%s", w->o->dirs[seg->dir], s->name);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    struct stat st;
    v->maps[v->n] = NULL;
    if (fd < 0 || fstat(fd, &st)) {
        problem(w, s->name, 0, 0, "cannot be read: %s", strerror(errno));
    } else if (st.st_size > 0) {
        s->len = (size_t)st.st_size;
        void *data = mmap(NULL, s->len, PROT_READ, MAP_PRIVATE, fd, 0);
        if (data == MAP_FAILED) {
            problem(w, s->name, 0, 0, "cannot be read: %s", strerror(errno));
            s->len = 0;
        } else {
            madvise(data, s->len, MADV_SEQUENTIAL);
            s->data = v->maps[v->n] = data;
        }
    }
    if (fd >= 0)
        close(fd);
    /* Marks from this segment's first record to the next one's. */
    uint64_t end = i + 1 < w->n ? w->list[i + 1].first : UINT64_MAX;
    size_t m = 0;
    while (m < w->n_marks && w->marks[m].c.size < seg->first)
        m++;
    s->marks = w->marks ? w->marks + m : NULL;
    while (m < w->n_marks && w->marks[m].c.size < end) {
        s->n_marks++;
        m++;
    }
    v->n++;
}

/* The hash at a segment's border, as the header behind it says: for marks of before the first segment that is looked at. */
static void see_border(struct walk *w, const struct audit_header *h)
{
    for (size_t i = 0; i < w->n_marks; i++) {
        struct audit_mark *m = &w->marks[i];
        if (m->c.size == h->first_seq - 1 && m->c.size > 0) {
            m->seen = true;
            memcpy(m->hash, h->prev, sizeof m->hash);
            m->part.n = 0;
            m->part.first = m->part.end = h->first_seq - 1;
        }
    }
}

static void root_marks(struct walk *w, struct audit_scan *s)
{
    struct audit_merkle m;
    for (size_t i = 0; i < s->n_marks; i++) {
        struct audit_mark *k = &s->marks[i];
        if (!k->seen || !s->trees || k->c.size < s->tree.first || k->part.first != w->r->tree.end)
            continue;
        m = w->r->tree;
        audit_merkle_join(&m, &k->part);
        audit_merkle_root(&m, k->root);
        k->rooted = true;
    }
}

static void join(struct walk *w, struct audit_scan *s)
{
    struct audit_report *r = w->r;
    r->segments++;
    r->bytes += s->len;
    if (s->headless) {
        r->headless = true;
        r->torn_bytes = s->torn_bytes;
        return;
    }
    if (!s->headed) {
        struct audit_problem *p = &s->problem;
        problem(w, p->file, p->offset, w->next_seq, "%s", p->what);
        r->rooted = false;
        return;
    }
    const struct audit_header *h = &s->header;
    if (!w->begun)
        memcpy(r->chain, h->chain, AUDIT_CHAIN_BYTES);
    else if (memcmp(r->chain, h->chain, AUDIT_CHAIN_BYTES) != 0)
        problem(w, s->name, 0, h->first_seq, "this segment belongs to another chain");
    if (!w->begun && w->o->only_last && h->first_seq > w->next_seq) {
        w->next_seq = h->first_seq; /* what came before is not looked at */
        memcpy(w->hash, h->prev, AUDIT_HASH_BYTES);
        r->last_seq = h->first_seq - 1;
        see_border(w, h);
    }
    if (h->first_seq != w->next_seq)
        problem(w, s->name, 0, w->next_seq,
                "the segment begins with record %" PRIu64 " where %" PRIu64 " should come: records are missing",
                h->first_seq, w->next_seq);
    else if (memcmp(h->prev, w->hash, AUDIT_HASH_BYTES) != 0)
        problem(w, s->name, 48, h->first_seq,
                "the segment does not continue the one before it: its previous hash is another");
    w->begun = true;
    root_marks(w, s);
    if (r->rooted && s->tree.first == r->tree.end)
        audit_merkle_join(&r->tree, &s->tree);
    else if (s->next_seq - 1 > r->tree.end)
        r->rooted = false;
    if (s->bad)
        problem(w, s->problem.file, s->problem.offset, s->problem.seq, "%s", s->problem.what);
    r->torn_bytes = s->torn_bytes;
    r->records += s->records;
    if (s->records)
        r->last_seq = s->next_seq - 1;
    w->next_seq = s->next_seq;
    /* With nothing in it, the last record is still that of the segment before. */
    memcpy(w->hash, s->records ? s->hash : h->prev, AUDIT_HASH_BYTES);
    memcpy(r->last_hash, w->hash, AUDIT_HASH_BYTES);
    memcpy(r->link, s->hash, AUDIT_HASH_BYTES);
}

static int walk_segments(struct walk *w, size_t from, struct err *e)
{
    long cpus = sysconf(_SC_NPROCESSORS_ONLN);
    unsigned threads = w->o->threads ? w->o->threads : cpus < 1 ? 1 : (unsigned)cpus;
    if (threads > THREADS_MAX)
        threads = THREADS_MAX;
    if (w->o->visit)
        threads = 1;
    size_t most = w->o->visit ? 1 : w->n - from < WAVE ? w->n - from : WAVE;
    struct wave *v = malloc(sizeof *v + most * sizeof *v->scans);
    if (!v)
        return err_set(e, "out of memory");
    for (size_t i = from; i < w->n;) {
        for (v->n = 0; v->n < most && i < w->n; i++) /* for a visitor each is joined before the next is looked at */
            open_segment(w, v, i);
        run_wave(v, threads);
        for (size_t k = 0; k < v->n; k++) {
            join(w, &v->scans[k]);
            if (v->maps[k])
                munmap(v->maps[k], v->scans[k].len);
        }
    }
    free(v);
    return 0;
}

/* ---- judgement ---- */

static void judge_mark(struct walk *w, const struct audit_mark *m)
{
    struct audit_report *r = w->r;
    const struct audit_checkpoint *c = &m->c;
    bool is_checkpoint = strcmp(m->file, AUDIT_CHECKPOINT_FILE) == 0;
    size_t before = r->n_problems;
    if (w->begun && memcmp(c->chain, r->chain, AUDIT_CHAIN_BYTES) != 0)
        problem(w, m->file, m->offset, 0, "it is of another chain");
    else if (c->size > r->last_seq)
        problem(w, m->file, m->offset, c->size,
                "it covers %" PRIu64 " records, and only %" PRIu64
                " are here: the end was cut off, or an older copy was put back",
                c->size, r->last_seq);
    else if (m->seen && memcmp(c->hash, m->hash, AUDIT_HASH_BYTES) != 0)
        problem(w, m->file, m->offset, c->size,
                "record %" PRIu64 " is not the one that was signed: the chain was rewritten", c->size);
    else if (m->rooted && !c->former && memcmp(c->root, m->root, AUDIT_ROOT_BYTES) != 0)
        problem(w, m->file, m->offset, c->size,
                "the tree of the records up to %" PRIu64 " is not the one that was signed", c->size);
    else if (!m->seen && c->size > r->pruned && !w->o->only_last)
        problem(w, m->file, m->offset, c->size, "record %" PRIu64 ", which was signed, could not be looked at",
                c->size);
    if (is_checkpoint && r->n_problems > before)
        r->checkpointed = false;
}

/* No segment at all: a chain that holds nothing yet, or one that was deleted. */
static void judge_nothing(struct walk *w)
{
    struct audit_report *r = w->r;
    if (w->covered > 0) {
        problem(w, AUDIT_CHECKPOINT_FILE, 0, w->covered,
                "the checkpoint covers %" PRIu64 " records, and no segment is here: the trail was deleted",
                w->covered);
        r->checkpointed = false;
    } else {
        problem(w, "", 0, 0, "no segment (audit-*.seg) is here");
    }
}

/* Where to begin: behind what retention has deleted, with the tree of that. */
static size_t begin(struct walk *w)
{
    struct audit_report *r = w->r;
    size_t from = 0;
    audit_merkle_begin(&r->tree, 0);
    r->rooted = true;
    w->next_seq = 1;
    if (w->have_pruned) {
        while (from + 1 < w->n && w->list[from + 1].first <= r->pruned + 1)
            from++; /* being deleted */
        audit_merkle_restore(&r->tree, r->pruned, w->pruned.pieces);
        w->next_seq = r->pruned + 1;
        memcpy(w->hash, w->pruned.hash, AUDIT_HASH_BYTES);
        r->last_seq = r->pruned;
    }
    if (w->o->only_last && w->n > 2 && w->n - 2 > from)
        from = w->n - 2;
    if (w->o->base && w->o->base->end >= r->tree.end)
        r->tree = *w->o->base;
    if (w->o->only_last && w->list[from].first - 1 > r->tree.end)
        r->rooted = false; /* what the tree is of begins before */
    return from;
}

static int walk(struct walk *w, struct err *e)
{
    struct notes t = {0};
    int rc = 0;
    for (size_t i = 0; i < w->o->n_dirs; i++)
        t.text[i] = audit_read_file(w->o->dirs[i], AUDIT_CHECKPOINT_FILE, AUDIT_NOTE_MAX, &t.len[i], NULL);
    /* A trail may be written meanwhile. A note is of records that are there before it: notes first, then the files; but what was deleted is said
     * before it goes: that last. */
    read_keys(w);
    if (list_segments(w, e)) {
        rc = -1;
    } else {
        read_checkpoints(w, &t);
        read_anchors(w);
        read_pruned(w);
        if (w->n_marks)
            qsort(w->marks, w->n_marks, sizeof *w->marks, by_size);
        if (w->n == 0) {
            judge_nothing(w);
        } else {
            rc = walk_segments(w, begin(w), e);
            for (size_t i = 0; !rc && i < w->n_marks; i++)
                judge_mark(w, &w->marks[i]);
            if (w->have_pruned && memcmp(w->pruned.chain, w->r->chain, AUDIT_CHAIN_BYTES) != 0)
                problem(w, AUDIT_PRUNED_FILE, 0, 0, "it is of another chain");
            w->r->last_first_seq = w->list[w->n - 1].first;
            w->r->last_dir = w->list[w->n - 1].dir;
        }
    }
    for (size_t i = 0; i < w->o->n_dirs; i++)
        free(t.text[i]);
    return rc;
}

bool audit_read_tree(const char *dir, const char *name, struct audit_checkpoint *ret)
{
    size_t n;
    struct err e;
    unsigned char *text = audit_read_file(dir, name, AUDIT_NOTE_MAX, &n, &e);
    bool good = text && audit_checkpoint_parse((const char *)text, n, ret, &e) == 0 && ret->kind == AUDIT_NOTE_TREE;
    free(text);
    return good;
}

/* Retention may have deleted a segment under our hands: then the note of it is newer now. */
static bool was_pruned(const struct audit_verify_opts *o, const struct audit_report *r)
{
    struct audit_checkpoint now;
    return audit_read_tree(o->dirs[0], AUDIT_PRUNED_FILE, &now) && now.size > r->pruned;
}

int audit_verify_trail(const struct audit_verify_opts *o, struct audit_report *report, struct err *e)
{
    if (sodium_init() < 0)
        return err_set(e, "no source of randomness");
    for (int tries = 3;;) {
        struct walk w = {.o = o, .r = report};
        *report = (struct audit_report){0};
        int rc = walk(&w, e);
        if (rc == 0 && w.no_memory)
            rc = err_set(e, "out of memory");
        free(w.list);
        free(w.marks);
        if (rc)
            return -1;
        /* A visitor cannot be told twice. */
        if (report->n_problems == 0 || o->visit || --tries == 0 || !was_pruned(o, report))
            return report->n_problems ? 1 : 0;
    }
}

int audit_walk(const char *dir, const unsigned char *public_key, struct audit_report *report, audit_visit visit,
               void *ctx, struct err *e)
{
    struct audit_verify_opts o = {.dirs = {dir}, .n_dirs = 1, .public_key = public_key, .visit = visit, .ctx = ctx};
    return audit_verify_trail(&o, report, e);
}

int audit_verify(const char *dir, const unsigned char *public_key, struct audit_report *report, struct err *e)
{
    return audit_walk(dir, public_key, report, NULL, NULL, e);
}
