/* audit_follow.c - one trail's copy on another host. */
#include "cli/audit_follow.h"
#include "audit/audit_segments.h"
#include "common/clock.h"
#include <errno.h>
#include <inttypes.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

static void on_record(void *ctx, const struct audit_record *r)
{
    struct follow *f = ctx;
    unsigned char leaf[AUDIT_ROOT_BYTES];
    audit_merkle_leaf(r->stored, r->len, leaf);
    audit_merkle_append(&f->tree, leaf);
}

/* ---- what is there ---- */

static int resume(struct follow *f, const struct audit_report *r, struct err *e)
{
    char path[600], name[AUDIT_NAME_MAX];
    struct stat st;
    if (r->segments == 0)
        return 0;
    audit_segment_name(r->last_first_seq, name);
    snprintf(path, sizeof path, "%s/%s", f->dir, name);
    if (stat(path, &st))
        return err_set(e, "cannot read %s: %s", path, strerror(errno));
    if (!r->rooted)
        return err_set(e, "%s: its tree is not known from the beginning", f->dir);
    f->tree = r->tree;
    return audit_copy_resume(&f->copy, r->last_first_seq, (uint64_t)st.st_size - r->torn_bytes, r->last_seq + 1,
                             r->chain, r->last_hash, r->link, e);
}

static bool holds_segments(const char *dir, struct err *e)
{
    struct audit_segments s;
    bool any = audit_segments_list(&dir, 1, &s, e) == 0 && s.n > 0;
    audit_segments_free(&s);
    return any;
}

/* The newest checkpoint here, without its cosignatures. */
static void read_note(struct follow *f)
{
    size_t n;
    unsigned char *text = audit_read_file(f->dir, AUDIT_CHECKPOINT_FILE, AUDIT_NOTE_MAX, &n, NULL);
    if (text) {
        memcpy(f->note, text, n);
        f->note_len = n;
        f->note[n] = 0;
    }
    free(text);
}

static enum follow_result check_whole(struct follow *f, struct audit_report *r, struct err *e)
{
    struct audit_verify_opts v = {.dirs = {f->dir}, .n_dirs = 1, .public_key = f->trusted};
    int rc = audit_verify_trail(&v, r, e);
    while (rc == 0 && r->headless) { /* a segment that was begun, and no more */
        char path[600], name[AUDIT_NAME_MAX];
        audit_segment_name(r->last_first_seq, name);
        snprintf(path, sizeof path, "%s/%s", f->dir, name);
        rc = unlink(path) ? err_set(e, "cannot remove %s: %s", path, strerror(errno)) : audit_verify_trail(&v, r, e);
    }
    if (rc == 1)
        err_set(e, "the copy %s does not verify: %s at byte %" PRIu64 ": %.300s", f->dir, r->problems[0].file,
                r->problems[0].offset, r->problems[0].what);
    return rc == 0 ? FOLLOW_FRESH : rc == 1 ? FOLLOW_REFUSED : FOLLOW_AWAY;
}

enum follow_result follow_open(struct follow *f, const char *to, struct err *e)
{
    snprintf(f->dir, sizeof f->dir, "%.440s/%s", to, f->chain);
    audit_merkle_begin(&f->tree, 0);
    if (audit_copy_open(&f->copy, f->dir, e)) {
        audit_copy_close(&f->copy);
        return FOLLOW_AWAY;
    }
    f->open = true;
    f->copy.on_record = on_record;
    f->copy.ctx = f;
    if (flock(f->copy.dir_fd, LOCK_EX | LOCK_NB)) {
        err_set(e, "%s is being written by another `redoubt audit follow`", f->dir);
        return FOLLOW_AWAY;
    }
    if (!holds_segments(f->dir, e))
        return FOLLOW_FRESH;
    struct audit_report *r = calloc(1, sizeof *r);
    if (!r) {
        err_set(e, "out of memory");
        return FOLLOW_AWAY;
    }
    char path[600];
    snprintf(path, sizeof path, "%s/" AUDIT_CHECKPOINT_FILE, f->dir);
    enum follow_result rc = FOLLOW_FRESH;
    if (access(path, F_OK) == 0) {
        rc = check_whole(f, r, e);
        if (rc == FOLLOW_FRESH && resume(f, r, e))
            rc = FOLLOW_AWAY;
        f->size = r->checkpoint.size;
        f->has_key = r->keys.n > 0;
        if (f->has_key)
            memcpy(f->key, r->keys.list[r->keys.n - 1].key, sizeof f->key);
        read_note(f);
    } else {
        /* Its first checkpoint never came: nothing in there was signed for. */
        struct audit_segments s;
        const char *dir = f->dir;
        if (audit_segments_list(&dir, 1, &s, e) == 0)
            for (size_t i = 0; i < s.n; i++) {
                char name[AUDIT_NAME_MAX];
                audit_segment_name(s.list[i].first, name);
                (void)unlinkat(f->copy.dir_fd, name, 0);
            }
        audit_segments_free(&s);
    }
    free(r);
    return rc;
}

/* ---- asking ---- */

struct asked {
    bool done;
    enum bus_status status;
    PB(CommandReply) * reply;
    struct err e;
};

static void on_reply(void *ctx, enum bus_status st, const struct bus_msg *m)
{
    struct asked *a = ctx;
    a->done = true;
    a->status = st;
    if (st == BUS_OK)
        a->reply = wire_unpack(PB_DESC(command_reply), m->data, m->len, &a->e);
}

#define BUSY_TRIES 20
#define BUSY_MS    50

static PB(AuditBytes) * ask(struct follow *f, uint64_t first, uint64_t offset, struct err *e)
{
    PB(AuditRead) q = REDOUBT__V1__AUDIT_READ__INIT;
    q.chain = f->chain;
    q.first_sequence = first;
    q.offset = offset;
    size_t len;
    void *data = wire_pack(&q, &len, e);
    PB(AuditBytes) *b = NULL;
    for (int i = 0; data && !b && i < BUSY_TRIES && !f->link->interrupted; i++) {
        struct asked a = {0};
        struct bus_out o = {.subject = SUBJECT_CMD "audit.read", .type = wire_type(&q), .data = data, .len = len};
        bus_request(f->link->bus, &o, f->link->c->answer_ms, on_reply, &a);
        if (!loop_run_until(&f->link->loop, &a.done, f->link->c->answer_ms + 1000) || a.status != BUS_OK ||
            !a.reply) {
            err_set(e, "the replica that writes trail %s does not answer (%s)", f->chain,
                    a.status == BUS_OK ? a.e.text : bus_status_text(a.status));
            break;
        }
        bool ok = a.reply->status == REDOUBT__V1__COMMAND_STATUS__COMMAND_STATUS_OK;
        bool busy = a.reply->status == REDOUBT__V1__COMMAND_STATUS__COMMAND_STATUS_UNAVAILABLE;
        if (ok)
            b = wire_unpack(PB_DESC(audit_bytes), a.reply->payload.data, a.reply->payload.len, e);
        else
            err_set(e, "%.400s", a.reply->message);
        wire_free(a.reply);
        if (ok || !busy)
            break;
        bool never = false;
        loop_run_until(&f->link->loop, &never, BUSY_MS);
    }
    free(data);
    return b;
}

/* ---- refusing ---- */

/* Both notes stay beside the copy: two statements of one signer that cannot both be true. */
static enum follow_result refuse(struct follow *f, const PB(AuditBytes) * b, struct err *e, const struct err *why)
{
    char name[64];
    int64_t at = clock_wall_ms();
    f->refused = true;
    err_set(e, "%.440s", why->text);
    snprintf(name, sizeof name, "refused-%" PRId64, at);
    if (b && *b->note && audit_copy_note(&f->copy, name, b->note, strlen(b->note), NULL) == 0 && f->note_len > 0) {
        snprintf(name, sizeof name, "kept-%" PRId64, at);
        (void)audit_copy_note(&f->copy, name, f->note, f->note_len, NULL);
    }
    return FOLLOW_REFUSED;
}

/* What was written behind the last checkpoint that was kept is taken back. */
struct place {
    uint64_t first, bytes, next_seq;
    bool chained;
    unsigned char hash[AUDIT_HASH_BYTES], link[AUDIT_HASH_BYTES];
    struct audit_merkle tree;
};

static void remember(const struct follow *f, struct place *p)
{
    p->first = f->copy.first;
    p->bytes = f->copy.bytes;
    p->next_seq = f->copy.next_seq;
    p->chained = f->copy.chained;
    memcpy(p->hash, f->copy.hash, sizeof p->hash);
    memcpy(p->link, f->copy.link, sizeof p->link);
    p->tree = f->tree;
}

static int take_back(struct follow *f, const struct place *p, struct err *e)
{
    struct audit_segments s;
    const char *dir = f->dir;
    char name[AUDIT_NAME_MAX];
    audit_copy_forget(&f->copy);
    if (audit_segments_list(&dir, 1, &s, e))
        return -1;
    for (size_t i = 0; i < s.n; i++) {
        audit_segment_name(s.list[i].first, name);
        if (s.list[i].first > p->first)
            (void)unlinkat(f->copy.dir_fd, name, 0);
    }
    audit_segments_free(&s);
    unsigned char chain[AUDIT_CHAIN_BYTES];
    memcpy(chain, f->copy.chain, sizeof chain);
    if (f->copy.fd >= 0)
        close(f->copy.fd);
    f->copy.fd = -1;
    f->copy.first = f->copy.bytes = 0;
    f->copy.next_seq = p->next_seq;
    f->copy.chained = f->copy.dirty = false;
    f->tree = p->tree;
    return p->chained ? audit_copy_resume(&f->copy, p->first, p->bytes, p->next_seq, chain, p->hash, p->link, e) : 0;
}

/* ---- one pull ---- */

/* The trail's keys as it tells them, of which one must be known here; the file `audit.keys` of them in *file. */
static int read_keys(struct follow *f, const PB(AuditBytes) * b, struct audit_keys *ret, char **file,
                     size_t *file_len, struct err *e)
{
    unsigned char newest[AUDIT_PUBLIC_BYTES];
    size_t n = 0, len = 0;
    const char *end = NULL;
    if (sodium_hex2bin(newest, sizeof newest, b->public_key, strlen(b->public_key), NULL, &n, &end) ||
        n != sizeof newest || *end)
        return err_set(e, "it tells no public key");
    for (size_t i = 0; i < b->n_keys; i++)
        len += strlen(b->keys[i]);
    char *all = malloc(len + 1), *at = all;
    if (!all)
        return err_set(e, "out of memory");
    for (size_t i = 0; i < b->n_keys; i++) {
        memcpy(at, b->keys[i], strlen(b->keys[i]));
        at += strlen(b->keys[i]);
    }
    *file = all;
    *file_len = len;
    if (audit_keys_parse(all, len, newest, ret, e))
        return -1;
    const unsigned char *known = f->has_key ? f->key : f->trusted;
    if (known && audit_keys_find(ret, known) < 0)
        return err_set(e, "its keys do not lead back to the one that is known here: another trail in its name");
    return 0;
}

/* An empty copy of a trail whose beginning was deleted: a signed note stands for it. */
static int begin_pruned(struct follow *f, const PB(AuditBytes) * b, const struct audit_keys *keys, struct err *e)
{
    struct audit_checkpoint *c = malloc(sizeof *c);
    int rc = c ? 0 : err_set(e, "out of memory");
    if (!rc && !*b->pruned)
        rc = err_set(e, "it begins with record %" PRIu64 ", and no note stands for those before", b->next_sequence);
    rc = rc ? rc : audit_keys_check(keys, b->pruned, strlen(b->pruned), AUDIT_NOTE_TREE, c, e);
    if (!rc && c->size + 1 != b->next_sequence)
        rc = err_set(e, "it begins with record %" PRIu64 ", and its note stands for %" PRIu64, b->next_sequence,
                     c->size);
    rc = rc ? rc : audit_copy_note(&f->copy, AUDIT_PRUNED_FILE, b->pruned, strlen(b->pruned), e);
    if (!rc) {
        audit_merkle_restore(&f->tree, c->size, c->pieces);
        memcpy(f->copy.hash, c->hash, sizeof f->copy.hash);
        memcpy(f->copy.chain, c->chain, sizeof f->copy.chain);
        f->copy.next_seq = c->size + 1;
        f->copy.chained = true;
    }
    free(c);
    return rc;
}

/* What came does not fit, or this disk does not take it. */
static enum follow_result copy_failed(struct follow *f)
{
    f->broken = !f->copy.fork;
    return f->copy.fork ? FOLLOW_REFUSED : FOLLOW_AWAY;
}

/* Bytes until the checkpoint's last record is here. */
static enum follow_result pull_records(struct follow *f, uint64_t size, uint64_t begin, struct err *e)
{
    f->copy.limit = size;
    if (f->copy.first == 0 && audit_copy_begin(&f->copy, begin, e))
        return copy_failed(f);
    while (f->copy.next_seq <= size) {
        PB(AuditBytes) *b = ask(f, f->copy.first, audit_copy_at(&f->copy), e);
        if (!b)
            return FOLLOW_AWAY;
        int rc = b->data.len > 0 ? audit_copy_feed(&f->copy, b->data.data, b->data.len, e) : 0;
        bool end = b->data.len == 0;
        uint64_t next = b->next_sequence;
        wire_free(b);
        if (rc)
            return copy_failed(f);
        if (!end || f->copy.next_seq > size)
            continue;
        if (next == 0) {
            err_set(e, "it has signed for %" PRIu64 " records, and gives %" PRIu64, size, f->copy.next_seq - 1);
            return FOLLOW_REFUSED;
        }
        if (audit_copy_begin(&f->copy, next, e))
            return copy_failed(f);
    }
    /* What came beyond it is asked for again: nobody has signed for that. */
    audit_copy_forget(&f->copy);
    f->copy.fork = false;
    return audit_copy_sync(&f->copy, e) ? copy_failed(f) : FOLLOW_MORE;
}

/* A note of many cosignatures may have no room for one more: that is said, and the note is kept without. */
static int keep_note(struct follow *f, const PB(AuditBytes) * b, const char *keys, size_t keys_len, struct err *e)
{
    char note[AUDIT_NOTE_MAX];
    size_t len = strlen(b->note);
    memcpy(note, b->note, len);
    f->cosigned = *f->witness->name && audit_note_cosign(note, &len, sizeof note, f->witness->name,
                                                         f->witness->secret, clock_wall_ms() / 1000) == 0;
    if ((keys_len > 0 && audit_copy_note(&f->copy, AUDIT_KEYS_FILE, keys, keys_len, e)) ||
        audit_copy_note(&f->copy, AUDIT_PUBLIC_FILE, b->public_key, strlen(b->public_key), e) ||
        audit_copy_note(&f->copy, AUDIT_CHECKPOINT_FILE, note, len, e))
        return -1;
    memcpy(f->note, b->note, strlen(b->note) + 1);
    f->note_len = strlen(b->note);
    return 0;
}

static enum follow_result fits(struct follow *f, const struct audit_checkpoint *c, struct err *e)
{
    unsigned char root[AUDIT_ROOT_BYTES];
    audit_merkle_root(&f->tree, root);
    if (c->size > 0 && memcmp(f->copy.hash, c->hash, sizeof c->hash) != 0) {
        err_set(e, "record %" PRIu64 " is not the one that it has signed for", c->size);
        return FOLLOW_REFUSED;
    }
    if (!c->former && memcmp(root, c->root, sizeof root) != 0) {
        err_set(e, "its %" PRIu64 " records have another root than the one that it has signed for", c->size);
        return FOLLOW_REFUSED;
    }
    return FOLLOW_MORE;
}

/* The note against what is here, then the records up to it. */
static enum follow_result pull(struct follow *f, const PB(AuditBytes) * b, struct audit_checkpoint *c,
                               struct audit_keys *keys, char **file, size_t *file_len, struct err *e)
{
    char chain[2 * AUDIT_CHAIN_BYTES + 1];
    if (strlen(b->note) > AUDIT_NOTE_MAX || read_keys(f, b, keys, file, file_len, e) ||
        audit_keys_check(keys, b->note, strlen(b->note), AUDIT_NOTE_CHECKPOINT, c, e))
        return FOLLOW_REFUSED;
    sodium_bin2hex(chain, sizeof chain, c->chain, sizeof c->chain);
    if (strcmp(chain, f->chain) != 0) {
        err_set(e, "it signs for trail %s", chain);
        return FOLLOW_REFUSED;
    }
    uint64_t here = f->copy.next_seq > 0 ? f->copy.next_seq - 1 : 0;
    if (c->size < f->size || c->size < here) {
        err_set(e, "it signs for %" PRIu64 " records, and %" PRIu64 " were kept here: it went back", c->size,
                f->size > here ? f->size : here);
        return FOLLOW_REFUSED;
    }
    if (c->size > here && f->copy.first == 0 && b->next_sequence > 1 && begin_pruned(f, b, keys, e))
        return f->copy.next_seq ? FOLLOW_AWAY : FOLLOW_REFUSED;
    enum follow_result rc = c->size > here ? pull_records(f, c->size, b->next_sequence, e) : FOLLOW_MORE;
    return rc == FOLLOW_MORE ? fits(f, c, e) : rc;
}

enum follow_result follow_pull(struct follow *f, struct err *e)
{
    PB(AuditBytes) *b = ask(f, 0, 0, e);
    if (!b)
        return FOLLOW_AWAY;
    if (strlen(b->note) == f->note_len && memcmp(b->note, f->note, f->note_len) == 0 && f->note_len > 0) {
        wire_free(b);
        return FOLLOW_FRESH;
    }
    struct audit_checkpoint *c = calloc(1, sizeof *c);
    struct audit_keys *keys = calloc(1, sizeof *keys);
    struct place *before = calloc(1, sizeof *before);
    char *file = NULL;
    size_t file_len = 0;
    struct err why = {"out of memory"};
    enum follow_result rc = FOLLOW_AWAY;
    if (c && keys && before) {
        remember(f, before);
        rc = pull(f, b, c, keys, &file, &file_len, &why);
    }
    if (rc == FOLLOW_MORE && keep_note(f, b, file, file_len, &why))
        rc = FOLLOW_AWAY;
    if (rc == FOLLOW_MORE) {
        f->size = c->size;
        f->has_key = true;
        memcpy(f->key, keys->list[keys->n - 1].key, sizeof f->key);
    } else if (rc == FOLLOW_REFUSED) {
        (void)take_back(f, before, e);
        rc = refuse(f, b, e, &why);
    } else {
        audit_copy_forget(&f->copy); /* what is here stays: it goes on from there */
        err_set(e, "%s", why.text);
    }
    free(file);
    free(before);
    free(keys);
    free(c);
    wire_free(b);
    return rc;
}

void follow_close(struct follow *f)
{
    if (f->open)
        audit_copy_close(&f->copy);
    f->open = false;
}
