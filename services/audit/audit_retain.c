/* audit_retain.c - which segments of a trail are due and may go, from what its disks hold. */
#include "audit/audit_retain.h"
#include "audit/audit_segments.h"
#include "common/clock.h"
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

void audit_retain_fill(struct audit_retain *k, const struct set_audit *c, const struct audit_log_status *st,
                       const struct audit_mirror_status *m, const char *dir, const char *second)
{
    *k = (struct audit_retain){
        .rule = {.keep_ms = c->keep_ms, .keep_bytes = c->keep_bytes},
        .facts = {.now_unix_ms = clock_wall_ms(),
                  .mirrored = m->state == AUDIT_MIRROR_FOLLOWS ? m->size : 0,
                  .checkpoint = m->signed_to < st->checkpoint_size ? m->signed_to : st->checkpoint_size,
                  .last_pruned = st->pruned}};
    snprintf(k->dirs[0], sizeof k->dirs[0], "%s", dir);
    snprintf(k->dirs[1], sizeof k->dirs[1], "%s", second);
    snprintf(k->mirror, sizeof k->mirror, "%s", m->dir);
}

/* Head and length of a file, and its last hash. */
struct traits {
    off_t size;
    unsigned char head[AUDIT_HEADER_BYTES], end[AUDIT_HASH_BYTES];
};
static int traits_of(const char *dir, uint64_t first, struct traits *ret, struct err *e)
{
    char path[600], name[AUDIT_NAME_MAX];
    struct stat st = {0};
    audit_segment_name(first, name);
    snprintf(path, sizeof path, "%.540s/%s", dir, name);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    errno = fd < 0 ? errno : ENODATA;
    bool ok = fd >= 0 && fstat(fd, &st) == 0 && st.st_size >= AUDIT_HEADER_BYTES &&
              pread(fd, ret->head, sizeof ret->head, 0) == (ssize_t)sizeof ret->head &&
              pread(fd, ret->end, sizeof ret->end, st.st_size - AUDIT_HASH_BYTES) == (ssize_t)sizeof ret->end;
    ret->size = st.st_size;
    int rc = ok ? 0 : err_set(e, "cannot read %s: %s", path, strerror(errno));
    if (fd >= 0)
        close(fd);
    return rc;
}

/* The mirror says that it has them; its disk is asked again before anything goes. */
static bool is_mirrored(const struct audit_retain *k, const struct audit_segment_at *s, struct err *e)
{
    struct traits ours, theirs;
    if (traits_of(k->dirs[s->dir], s->first, &ours, e) || traits_of(k->mirror, s->first, &theirs, e))
        return false;
    if (ours.size == theirs.size && memcmp(ours.head, theirs.head, sizeof ours.head) == 0 &&
        memcmp(ours.end, theirs.end, sizeof ours.end) == 0)
        return true;
    err_set(e, "the mirror's segment of record %" PRIu64 " is not the trail's", s->first);
    return false;
}

void audit_retain_look(struct audit_retain *k)
{
    const char *dirs[2] = {k->dirs[0], k->dirs[1]};
    struct audit_segments have;
    if (audit_segments_list(dirs, 2, &have, &k->e))
        return;
    struct audit_keep_segment *list = calloc(have.n + 1, sizeof *list);
    bool ok = list != NULL;
    for (size_t i = 0; ok && i < have.n; i++) {
        struct traits t;
        struct audit_header h;
        ok = traits_of(dirs[have.list[i].dir], have.list[i].first, &t, &k->e) == 0 &&
             audit_header_parse(t.head, sizeof t.head, &h, &k->e) == 0;
        if (ok)
            list[i] = (struct audit_keep_segment){have.list[i].first, (int64_t)t.size, h.created_unix_ms};
    }
    size_t n = ok ? audit_keep_decide(&k->rule, &k->facts, list, have.n) : 0;
    for (size_t i = 0; i < n && is_mirrored(k, &have.list[i], &k->e); i++)
        k->last = list[i + 1].first_seq - 1;
    free(list);
    audit_segments_free(&have);
}
