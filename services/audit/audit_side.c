/* audit_side.c - what the log does beside its records, one thing at a time: checkpoints, changes of the key, pruning. */
#include "audit/audit_log_impl.h"
#include "audit/audit_verify.h"
#include "common/clock.h"
#include <assert.h>
#include <errno.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum job { CHECKPOINT, ROTATE, PRUNE };

/* On a thread of libuv's: has all that it needs in here. */
struct side {
    struct audit_log *a;
    uv_work_t work;
    enum job job;
    struct audit_checkpoint c; /* where the chain stands */
    struct audit_merkle tree;
    bool second, with_tree, forced;
    uint64_t segment;
    struct audit_key key, next; /* next: ROTATE */
    bool take;                  /* the key is not in its file yet */
    bool announced, untaken;
    char note[AUDIT_NOTE_MAX];
    size_t len;
    struct audit_prune prune;
    uint64_t pruned;
    audit_log_done cb;
    void *ctx;
    struct err e;
    bool failed;
};

/* ---- on a thread ---- */

static void write_checkpoint(struct side *s)
{
    struct audit_log *a = s->a;
    int dir = a->dirs[s->second].fd;
    s->len = audit_checkpoint_sign(&s->c, AUDIT_KEY_NAME, s->key.secret, s->note);
    s->failed = audit_disk_replace(a->disk, dir, AUDIT_CHECKPOINT_FILE, s->note, s->len, 0644) != 0;
    if (s->failed) {
        err_set(&s->e, "cannot write the checkpoint: %s", strerror(errno));
        return;
    }
    if (!s->with_tree)
        return;
    /* Only spares work at a start: that it could not be written harms nobody. */
    char text[AUDIT_NOTE_MAX];
    s->c.kind = AUDIT_NOTE_TREE;
    for (size_t i = 0; i < s->tree.n; i++)
        memcpy(s->c.pieces[i], s->tree.pieces[i].hash, AUDIT_ROOT_BYTES);
    size_t len = audit_checkpoint_sign(&s->c, AUDIT_KEY_NAME, s->key.secret, text);
    s->with_tree = audit_disk_replace(a->disk, dir, AUDIT_TREE_FILE, text, len, 0644) == 0;
    s->c.kind = AUDIT_NOTE_CHECKPOINT;
}

/* A key that was announced is the key, whatever comes after: what could not be done of the rest is done at the next start. */
static bool stands_in_file(const struct audit_key_place *p, const struct audit_key *next)
{
    size_t n;
    struct err e;
    struct audit_keys *keys = malloc(sizeof *keys);
    unsigned char *file = keys ? audit_read_file(p->dir, AUDIT_KEYS_FILE, AUDIT_KEYS_MAX * 1024, &n, &e) : NULL;
    bool there = file && audit_keys_parse((char *)file, n, NULL, keys, &e) == 0 &&
                 memcmp(keys->list[keys->n - 1].key, next->public_key, AUDIT_PUBLIC_BYTES) == 0;
    free(file);
    free(keys);
    return there;
}

static void rotate(struct side *s)
{
    struct audit_key_place p = audit_log_place_of(s->a);
    /* The next key would be written where the present one still lies. */
    if (s->take && audit_key_take(&p, &s->key, &s->e)) {
        s->failed = true;
        return;
    }
    if (audit_key_next(&p, &s->key, &s->next, &s->e) ||
        (audit_key_announce(&p, &s->c, &s->key, &s->next, &s->e) && !stands_in_file(&p, &s->next))) {
        s->failed = true;
        return;
    }
    s->announced = true;
    s->untaken = audit_key_take(&p, &s->next, &s->e) != 0;
}

static void on_work(uv_work_t *w)
{
    struct side *s = w->data;
    switch (s->job) {
    case CHECKPOINT:
        write_checkpoint(s);
        break;
    case ROTATE:
        rotate(s);
        break;
    case PRUNE:
        s->prune.key = &s->key;
        s->failed = audit_prune(&s->prune, &s->pruned, &s->e) != 0;
        break;
    }
}

/* ---- on the loop ---- */

static void end_checkpoint(struct audit_log *a, const struct side *s)
{
    if (s->failed) {
        a->failed_checkpoints++;
        a->force_checkpoint |= s->forced;
        return;
    }
    a->failed_checkpoints = 0;
    a->checkpoint_size = s->c.size;
    a->checkpoint_unix_ms = s->c.at_unix_ms;
    memcpy(a->note, s->note, s->len);
    a->note_len = s->len;
    if (s->with_tree)
        a->tree_segment = s->segment;
    if (a->o.on_checkpoint)
        a->o.on_checkpoint(a->o.ctx, &s->c, a->note, a->note_len);
}

static void end_rotate(struct audit_log *a, const struct side *s)
{
    if (!s->announced)
        return;
    a->key = s->next;
    a->rotations++;
    a->untaken = s->untaken;
    a->want_checkpoint = a->force_checkpoint = true;
    a->tree_segment = UINT64_MAX; /* by the new key, too */
}

static void on_worked(uv_work_t *w, int status)
{
    struct side *s = w->data;
    struct audit_log *a = s->a;
    if (status < 0) {
        s->failed = true;
        err_set(&s->e, "cancelled: %s", uv_strerror(status));
    }
    a->busy = false;
    if (s->job == CHECKPOINT)
        end_checkpoint(a, s);
    else if (s->job == ROTATE)
        end_rotate(a, s);
    else
        a->pruned = s->pruned;
    if (s->cb)
        s->cb(s->ctx, s->failed ? s->e.text : "");
    sodium_memzero(s, sizeof *s);
    free(s);
    audit_log_go_on(a);
}

static bool next_job(struct audit_log *a, struct side *s)
{
    if (a->rotate_cb) {
        s->job = ROTATE;
        s->cb = a->rotate_cb;
        s->ctx = a->rotate_ctx;
        a->rotate_cb = NULL;
    } else if (a->want_checkpoint) {
        a->want_checkpoint = false;
        if (a->checkpoint_size + 1 == a->pos.next_seq && !a->force_checkpoint)
            return next_job(a, s);
        s->forced = a->force_checkpoint;
        a->force_checkpoint = false;
        s->job = CHECKPOINT;
    } else if (a->prune_cb) {
        s->job = PRUNE;
        s->cb = a->prune_cb;
        s->ctx = a->prune_ctx;
        a->prune_cb = NULL;
    } else {
        return false;
    }
    return true;
}

void audit_side_go_on(struct audit_log *a)
{
    if (a->busy || !(a->rotate_cb || a->want_checkpoint || a->prune_cb))
        return;
    struct side *s = calloc(1, sizeof *s);
    if (!s || !next_job(a, s)) {
        free(s); /* no memory: the next time that something ends */
        return;
    }
    s->a = a;
    s->work.data = s;
    s->key = a->key;
    s->take = a->untaken;
    s->tree = a->pos.tree;
    s->second = a->pos.second;
    s->segment = a->pos.segment_first;
    s->with_tree = s->segment != a->tree_segment || a->closing;
    s->c = (struct audit_checkpoint){
        .size = a->pos.next_seq - 1, .at_unix_ms = clock_wall_ms(), .rotations = a->rotations};
    memcpy(s->c.chain, a->chain, sizeof s->c.chain);
    memcpy(s->c.hash, a->pos.last_hash, sizeof s->c.hash);
    audit_merkle_root(&s->tree, s->c.root);
    s->prune = (struct audit_prune){.place = audit_log_place_of(a),
                                    .dirs = {a->dirs[0], a->dirs[1]},
                                    .rotations = a->rotations,
                                    .last = a->prune_last,
                                    .covered = a->checkpoint_size};
    memcpy(s->prune.chain, a->chain, sizeof s->prune.chain);
    s->pruned = a->pruned;
    a->busy = true;
    int rc = uv_queue_work(&a->loop->uv, &s->work, on_work, on_worked);
    assert(rc == 0);
    (void)rc;
}

void audit_log_checkpoint(struct audit_log *a)
{
    a->want_checkpoint = true;
    audit_side_go_on(a);
}

void audit_log_rotate_key(struct audit_log *a, audit_log_done cb, void *ctx)
{
    assert(!a->rotate_cb && !a->closing);
    a->rotate_cb = cb;
    a->rotate_ctx = ctx;
    audit_side_go_on(a);
}

void audit_log_prune(struct audit_log *a, uint64_t last, audit_log_done cb, void *ctx)
{
    assert(!a->prune_cb && !a->closing);
    a->prune_last = last;
    a->prune_cb = cb;
    a->prune_ctx = ctx;
    audit_side_go_on(a);
}
