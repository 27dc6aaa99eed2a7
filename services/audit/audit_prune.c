/* audit_prune.c - deletes the oldest segments: first a signed note that stands for them, then they. */
#include "audit/audit_log_impl.h"
#include "audit/audit_scan.h"
#include "common/clock.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define KEPT 2 /* the last segments, which a start reads */

struct part {
    uint64_t first;
    size_t dir;
};
struct parts {
    struct part *list;
    size_t n;
};

static int by_first(const void *a, const void *b)
{
    uint64_t x = ((const struct part *)a)->first, y = ((const struct part *)b)->first;
    return (x > y) - (x < y);
}

static int list_parts(const struct audit_prune *p, struct parts *ret, struct err *e)
{
    *ret = (struct parts){0};
    for (size_t i = 0; i < 2; i++) {
        if (p->dirs[i].fd < 0)
            continue;
        DIR *d = opendir(p->dirs[i].path);
        uint64_t first;
        for (struct dirent *f; d && (f = readdir(d));) {
            if (!audit_segment_parse(f->d_name, &first))
                continue;
            struct part *more = realloc(ret->list, (ret->n + 1) * sizeof *more);
            if (!more) {
                closedir(d);
                free(ret->list);
                return err_set(e, "out of memory");
            }
            ret->list = more;
            ret->list[ret->n++] = (struct part){first, i};
        }
        if (!d) {
            free(ret->list);
            return err_set(e, "cannot read directory %s: %s", p->dirs[i].path, strerror(errno));
        }
        closedir(d);
    }
    if (ret->n)
        qsort(ret->list, ret->n, sizeof *ret->list, by_first);
    return 0;
}

/* Adds a segment's records to the tree, and says where the chain stands behind it. What does not verify is not deleted. */
static int add_segment(const struct audit_prune *p, const struct part *s, struct audit_merkle *tree,
                       unsigned char hash[static AUDIT_HASH_BYTES], struct err *e)
{
    struct audit_scan *scan = calloc(1, sizeof *scan);
    if (!scan)
        return err_set(e, "out of memory");
    *scan = (struct audit_scan){.number = s->first, .trees = true, .tree_from = tree->end, .covered = UINT64_MAX};
    audit_segment_name(s->first, scan->name);
    int fd = openat(p->dirs[s->dir].fd, scan->name, O_RDONLY | O_CLOEXEC), rc = -1;
    struct stat st;
    void *data = MAP_FAILED;
    if (fd >= 0 && fstat(fd, &st) == 0 && st.st_size > 0)
        data = mmap(NULL, scan->len = (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
    if (data == MAP_FAILED) {
        err_set(e, "cannot read %s/%s: %s", p->dirs[s->dir].path, scan->name, strerror(errno));
    } else {
        scan->data = data;
        audit_scan(scan);
        if (scan->bad || !scan->headed || !scan->records || scan->tree.first != tree->end ||
            memcmp(scan->header.chain, p->chain, sizeof p->chain) != 0) {
            err_set(e, "%s/%s does not verify: %.300s; nothing was deleted", p->dirs[s->dir].path, scan->name,
                    scan->bad ? scan->problem.what : "it does not continue the trail");
        } else {
            audit_merkle_join(tree, &scan->tree);
            memcpy(hash, scan->hash, AUDIT_HASH_BYTES);
            rc = 0;
        }
        munmap(data, scan->len);
    }
    if (fd >= 0)
        close(fd);
    free(scan);
    return rc;
}

static int write_note(const struct audit_prune *p, const struct audit_merkle *tree,
                      const unsigned char hash[static AUDIT_HASH_BYTES], struct err *e)
{
    char note[AUDIT_NOTE_MAX];
    struct audit_checkpoint c = {
        .size = tree->end, .at_unix_ms = clock_wall_ms(), .rotations = p->rotations, .kind = AUDIT_NOTE_TREE};
    memcpy(c.chain, p->chain, sizeof c.chain);
    memcpy(c.hash, hash, sizeof c.hash);
    audit_merkle_root(tree, c.root);
    for (size_t i = 0; i < tree->n; i++)
        memcpy(c.pieces[i], tree->pieces[i].hash, AUDIT_ROOT_BYTES);
    size_t n = audit_checkpoint_sign(&c, AUDIT_KEY_NAME, p->key->secret, note);
    if (audit_disk_replace(p->place.disk, p->place.dir_fd, AUDIT_PRUNED_FILE, note, n, 0644))
        return err_set(e, "cannot write %s/" AUDIT_PRUNED_FILE ": %s; nothing was deleted", p->place.dir,
                       strerror(errno));
    return 0;
}

/* Those that hold nothing behind `pruned`. */
static int delete_parts(const struct audit_prune *p, const struct parts *l, uint64_t pruned, uint64_t *ret_n,
                        struct err *e)
{
    *ret_n = 0;
    for (size_t i = 0; i + 1 < l->n && l->list[i + 1].first <= pruned + 1; i++) {
        char name[AUDIT_NAME_MAX];
        audit_segment_name(l->list[i].first, name);
        if (p->place.disk->unlink(p->dirs[l->list[i].dir].fd, name) && errno != ENOENT)
            return err_set(e, "cannot delete %s/%s: %s", p->dirs[l->list[i].dir].path, name, strerror(errno));
        ++*ret_n;
    }
    for (size_t i = 0; i < 2 && *ret_n; i++)
        if (p->dirs[i].fd >= 0 && p->place.disk->sync_dir(p->dirs[i].fd))
            return err_set(e, "cannot sync %s: %s", p->dirs[i].path, strerror(errno));
    return 0;
}

int audit_prune_finish(const struct audit_prune *p, uint64_t pruned, uint64_t *ret_segments, struct err *e)
{
    struct parts l;
    if (list_parts(p, &l, e))
        return -1;
    int rc = delete_parts(p, &l, pruned, ret_segments, e);
    free(l.list);
    return rc;
}

int audit_prune(const struct audit_prune *p, uint64_t *pruned, struct err *e)
{
    struct parts l;
    struct audit_merkle tree;
    struct audit_checkpoint *old = calloc(1, sizeof *old);
    unsigned char hash[AUDIT_HASH_BYTES];
    uint64_t n_deleted, limit = p->last < p->covered ? p->last : p->covered;
    if (!old || list_parts(p, &l, e)) {
        free(old);
        return old ? -1 : err_set(e, "out of memory");
    }
    audit_merkle_begin(&tree, 0);
    int rc = 0;
    if (*pruned && (!audit_read_tree(p->place.dir, AUDIT_PRUNED_FILE, old) || old->size != *pruned))
        rc = err_set(e, "%s/" AUDIT_PRUNED_FILE " is not what was written; nothing was deleted", p->place.dir);
    else if (*pruned)
        audit_merkle_restore(&tree, old->size, old->pieces);
    for (size_t i = 0; !rc && i + KEPT < l.n && l.list[i + 1].first - 1 <= limit; i++)
        if (l.list[i + 1].first > *pruned + 1) /* else it should be gone already */
            rc = add_segment(p, &l.list[i], &tree, hash, e);
    if (!rc && tree.end > *pruned) {
        rc = write_note(p, &tree, hash, e);
        if (!rc)
            *pruned = tree.end;
    }
    if (!rc && *pruned)
        rc = delete_parts(p, &l, *pruned, &n_deleted, e);
    free(l.list);
    free(old);
    return rc;
}
