/* audit_open.c - opens a trail: what a crash left is tidied, what does not verify is set aside, and the chain goes on or begins. */
#include "audit/audit_log_impl.h"
#include "audit/audit_verify.h"
#include "common/clock.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static void name_dirs(const struct audit_log *a, struct audit_verify_opts *v)
{
    for (size_t i = 0; i < 2; i++)
        if (a->dirs[i].fd >= 0)
            v->dirs[v->n_dirs++] = a->dirs[i].path;
}

/* ---- what does not verify ---- */

static bool is_ours(const char *name)
{
    static const char *const names[] = {AUDIT_CHECKPOINT_FILE, AUDIT_PUBLIC_FILE, AUDIT_KEYS_FILE, AUDIT_PRUNED_FILE,
                                        AUDIT_TREE_FILE};
    uint64_t first;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strcmp(name, names[i]) == 0)
            return true;
    return audit_segment_parse(name, &first);
}

/* Nothing that might be evidence is ever deleted or written to: it is moved away as it is. */
static int set_aside_dir(const struct audit_log *a, const struct audit_dir *dir, const char *name, struct err *e)
{
    if (a->disk->make_dir(dir->fd, name, 0700))
        return err_set(e, "cannot create %s/%s: %s", dir->path, name, strerror(errno));
    int to = openat(dir->fd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *d = opendir(dir->path);
    int rc = to < 0 || !d ? -1 : 0;
    /* Both directories are synced after each: a file is in one of them at any moment. */
    for (struct dirent *f; !rc && (f = readdir(d));)
        if (is_ours(f->d_name))
            rc = a->disk->rename(dir->fd, f->d_name, to, f->d_name);
    rc = rc || a->disk->sync_dir(to) || a->disk->sync_dir(dir->fd);
    if (rc)
        err_set(e, "cannot move the old trail to %s/%s: %s", dir->path, name, strerror(errno));
    if (d)
        closedir(d);
    if (to >= 0)
        close(to);
    return rc ? -1 : 0;
}

/* Of a trail, however little is left of it. A public key alone says nothing. */
static bool any_file(const struct audit_log *a)
{
    bool any = false;
    for (size_t i = 0; i < 2; i++) {
        DIR *d = a->dirs[i].fd < 0 ? NULL : opendir(a->dirs[i].path);
        for (struct dirent *f; d && (f = readdir(d));)
            any |= is_ours(f->d_name) && strcmp(f->d_name, AUDIT_PUBLIC_FILE) != 0;
        if (d)
            closedir(d);
    }
    return any;
}

static int set_aside(struct audit_log *a, struct audit_log_found *found, struct err *e)
{
    char name[64];
    snprintf(name, sizeof name, "set-aside-%" PRId64, clock_wall_ms());
    for (int i = 2; faccessat(a->dirs[0].fd, name, F_OK, 0) == 0; i++) /* twice in a millisecond */
        snprintf(name, sizeof name, "set-aside-%" PRId64 "-%d", clock_wall_ms(), i);
    snprintf(found->set_aside, sizeof found->set_aside, "%.440s/%s", a->dirs[0].path, name);
    for (size_t i = 0; i < 2; i++)
        if (a->dirs[i].fd >= 0 && set_aside_dir(a, &a->dirs[i], name, e))
            return -1;
    return 0;
}

/* ---- beginning and going on ---- */

static void read_note(struct audit_log *a, const struct audit_report *r)
{
    for (size_t i = 0; i < 2; i++) {
        struct audit_checkpoint c;
        size_t n = 0;
        unsigned char *text = a->dirs[i].fd < 0
                                  ? NULL
                                  : audit_read_file(a->dirs[i].path, AUDIT_CHECKPOINT_FILE, AUDIT_NOTE_MAX, &n, NULL);
        if (text && audit_checkpoint_parse((char *)text, n, &c, NULL) == 0 && c.size == r->checkpoint.size) {
            memcpy(a->note, text, n);
            a->note_len = n;
        }
        free(text);
    }
}

/* A chain that holds nothing yet, but has said so. */
static int go_on_empty(struct audit_log *a, const struct audit_report *r, struct audit_log_found *found)
{
    found->fresh = true;
    memcpy(a->chain, r->checkpoint.chain, sizeof a->chain);
    a->pos = (struct audit_position){.next_seq = 1};
    audit_merkle_begin(&a->pos.tree, 0);
    a->rotations = (uint32_t)r->keys.n - 1;
    a->checkpoint_unix_ms = r->checkpoint.at_unix_ms;
    a->force_checkpoint = r->checkpoint.former || r->checkpoint.rotations != a->rotations;
    read_note(a, r);
    return 0;
}

static int begin_chain(struct audit_log *a, struct audit_log_found *found, struct err *e)
{
    found->fresh = true;
    randombytes_buf(a->chain, sizeof a->chain);
    a->pos = (struct audit_position){.next_seq = 1};
    audit_merkle_begin(&a->pos.tree, 0);
    /* A checkpoint of nothing: from now on a missing one is a finding. */
    struct audit_checkpoint c = {.at_unix_ms = clock_wall_ms()};
    memcpy(c.chain, a->chain, sizeof c.chain);
    audit_merkle_root(&a->pos.tree, c.root);
    a->note_len = audit_checkpoint_sign(&c, AUDIT_KEY_NAME, a->key.secret, a->note);
    a->checkpoint_unix_ms = c.at_unix_ms;
    if (audit_disk_replace(a->disk, a->dirs[0].fd, AUDIT_CHECKPOINT_FILE, a->note, a->note_len, 0644))
        return err_set(e, "cannot write %s/" AUDIT_CHECKPOINT_FILE ": %s", a->dirs[0].path, strerror(errno));
    return 0;
}

/* A crash's leavings are kept beside the trail: that nothing of worth was in them is for people to see. A disk without room for them has
 * none for the trail either: then they go. */
static void keep_torn(const struct audit_log *a, const struct audit_dir *dir, off_t at, size_t n)
{
    char name[64];
    unsigned char *data = malloc(n);
    if (!data || pread(a->fd, data, n, at) != (ssize_t)n) {
        free(data);
        return;
    }
    snprintf(name, sizeof name, "torn-%" PRId64, clock_wall_ms());
    int fd = a->disk->create(dir->fd, name, true, 0600);
    if (fd >= 0) {
        if (audit_disk_write_all(a->disk, fd, data, n, 0) || a->disk->sync(fd) || a->disk->sync_dir(dir->fd))
            (void)a->disk->unlink(dir->fd, name);
        close(fd);
    }
    free(data);
}

static int resume_chain(struct audit_log *a, const struct audit_report *r, struct audit_log_found *found,
                        struct err *e)
{
    char name[AUDIT_NAME_MAX];
    struct stat st;
    const struct audit_dir *dir = &a->dirs[r->last_dir];
    audit_segment_name(r->last_first_seq, name);
    memcpy(a->chain, r->chain, sizeof a->chain);
    memcpy(a->pos.link, r->link, sizeof a->pos.link);
    memcpy(a->pos.last_hash, r->last_hash, sizeof a->pos.last_hash);
    a->pos.next_seq = r->last_seq + 1;
    a->pos.segment_first = r->last_first_seq;
    a->pos.second = r->last_dir == 1;
    a->pos.tree = r->tree;
    a->rotations = (uint32_t)r->keys.n - 1;
    a->pruned = r->pruned;
    a->checkpoint_size = r->checkpoint.size;
    a->checkpoint_unix_ms = r->checkpoint.at_unix_ms;
    /* One that says less than there is to say: of the former form, or by the key before. */
    a->force_checkpoint = r->checkpoint.former || r->checkpoint.rotations != a->rotations;
    read_note(a, r);
    if ((a->fd = openat(dir->fd, name, O_RDWR | O_CLOEXEC)) < 0 || fstat(a->fd, &st))
        return err_set(e, "cannot open %s/%s: %s", dir->path, name, strerror(errno));
    a->pos.segment_size = st.st_size - (off_t)r->torn_bytes;
    found->torn_bytes = r->torn_bytes;
    if (!r->torn_bytes)
        return 0;
    keep_torn(a, dir, a->pos.segment_size, (size_t)r->torn_bytes);
    if (a->disk->truncate(a->fd, a->pos.segment_size) || a->disk->sync(a->fd))
        return err_set(e, "cannot cut the torn end off %s/%s: %s", dir->path, name, strerror(errno));
    return 0;
}

/* A last segment without a whole header is the beginning of one that a crash cut short: it holds nothing. */
static int drop_headless(struct audit_log *a, const struct audit_report *r, struct err *e)
{
    char name[AUDIT_NAME_MAX];
    const struct audit_dir *dir = &a->dirs[r->last_dir];
    audit_segment_name(r->last_first_seq, name);
    if (a->disk->unlink(dir->fd, name) || a->disk->sync_dir(dir->fd))
        return err_set(e, "cannot remove the empty segment %s/%s: %s", dir->path, name, strerror(errno));
    return 0;
}

/* The key that signs is the last one that the trail knows. */
static bool known_key(const struct audit_log *a, const struct audit_report *r)
{
    return r->keys.n > 0 && memcmp(r->keys.list[r->keys.n - 1].key, a->key.public_key, AUDIT_PUBLIC_BYTES) == 0;
}

/* The tree as `tree` has it, if it is of this chain and ours. */
static bool find_base(const struct audit_log *a, struct audit_merkle *ret)
{
    bool found = false;
    struct audit_checkpoint *c = malloc(sizeof *c), *now = malloc(sizeof *now);
    for (size_t i = 0; c && now && i < 2; i++) {
        size_t n, m;
        struct err e;
        const char *dir = a->dirs[i].path;
        if (a->dirs[i].fd < 0)
            continue;
        unsigned char *text = audit_read_file(dir, AUDIT_TREE_FILE, AUDIT_NOTE_MAX, &n, &e);
        unsigned char *note = audit_read_file(dir, AUDIT_CHECKPOINT_FILE, AUDIT_NOTE_MAX, &m, &e);
        if (text && note && audit_checkpoint_parse((char *)note, m, now, &e) == 0 &&
            audit_checkpoint_check((char *)text, n, AUDIT_KEY_NAME, a->key.public_key, c, &e) == 0 &&
            c->kind == AUDIT_NOTE_TREE && memcmp(c->chain, now->chain, sizeof c->chain) == 0 &&
            c->size <= now->size && (!found || c->size > ret->end)) {
            audit_merkle_restore(ret, c->size, c->pieces);
            found = true;
        }
        free(text);
        free(note);
    }
    free(c);
    free(now);
    return found;
}

struct old {
    const struct audit_log_opts *o;
};

static void visit_old(void *ctx, const struct audit_record *r, const char *file, uint64_t offset)
{
    const struct old *old = ctx;
    (void)file;
    (void)offset;
    if (old->o->on_old)
        old->o->on_old(old->o->ctx, r->stored, r->len);
}

/* As audit_verify_trail: what is there, without a headless end. The tree of it is known. */
static int look(struct audit_log *a, struct audit_report *r, struct err *e)
{
    struct old old = {&a->o};
    struct audit_merkle base;
    struct audit_verify_opts v = {.visit = visit_old, .ctx = &old, .only_last = true, .newest = a->key.public_key};
    name_dirs(a, &v);
    if (find_base(a, &base))
        v.base = &base;
    int rc = audit_verify_trail(&v, r, e);
    while (rc == 0 && r->headless)
        rc = drop_headless(a, r, e) ? -1 : audit_verify_trail(&v, r, e);
    if (rc == 0 && !r->rooted) { /* of a former version, or `tree` is gone: once from the beginning */
        struct audit_verify_opts all = {.newest = a->key.public_key};
        name_dirs(a, &all);
        rc = audit_verify_trail(&all, r, e);
    }
    return rc;
}

static int begin_anew(struct audit_log *a, struct audit_log_found *found, struct err *e)
{
    if (a->o.only_whole)
        return err_set(e, "%s", found->why[0] ? found->why : "there is no trail");
    if (any_file(a) && set_aside(a, found, e))
        return -1;
    return begin_chain(a, found, e);
}

int audit_log_recover(struct audit_log *a, struct audit_log_found *found, struct err *e)
{
    if (a->o.distrust) {
        snprintf(found->why, sizeof found->why, "%s", a->o.distrust);
        return begin_anew(a, found, e);
    }
    struct audit_report *r = malloc(sizeof *r); /* too large for the stack of a careful program */
    if (!r)
        return err_set(e, "out of memory");
    int rc = look(a, r, e);
    if (rc >= 0 && r->keys.n > 0 && !known_key(a, r)) {
        rc = 1;
        snprintf(
            found->why, sizeof found->why,
            "the key %.300s is not the last one of the trail; put that back, and change it by `redoubt audit rotate`",
            a->key.path);
    } else if (rc == 1) {
        snprintf(found->why, sizeof found->why, "%s at byte %" PRIu64 ": %.400s", r->problems[0].file,
                 r->problems[0].offset, r->problems[0].what);
    }
    /* Nothing at all is a new trail; a checkpoint of something without it is a trail that was deleted. */
    bool empty = rc == 1 && r->segments == 0 && r->n_problems == 1 && known_key(a, r);
    if (rc == 0)
        rc = resume_chain(a, r, found, e);
    else if (rc == 1 && empty && r->checkpointed)
        rc = go_on_empty(a, r, found);
    else if (rc == 1)
        rc = begin_anew(a, found, e);
    if (rc == 0 && !found->set_aside[0])
        found->why[0] = 0;
    if (rc == 0 && a->pruned) {
        struct audit_prune p = {.place = audit_log_place_of(a), .dirs = {a->dirs[0], a->dirs[1]}, .key = &a->key};
        rc = audit_prune_finish(&p, a->pruned, &found->pruned, e);
    }
    free(r);
    return rc;
}
