/* audit_trust.c - before anything is acknowledged: is the trail here the one whose checkpoints the bus keeps. */
#include "audit/audit_impl.h"
#include "audit/audit_segments.h"
#include "common/log.h"
#include "common/subjects.h"
#include <assert.h>
#include <fcntl.h>
#include <inttypes.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Finds record `size` of the note in the files, on libuv's threads: a segment may be large. */
struct comparing {
    uv_work_t work;
    struct audit *a;
    char dirs[2][512];
    struct audit_checkpoint point;
    int rc; /* 0 = the same, 1 = another, -1 = cannot look */
    struct err e;
};

static void on_work(uv_work_t *w)
{
    struct comparing *c = w->data;
    const char *dirs[2] = {c->dirs[0], c->dirs[1]};
    unsigned char hash[AUDIT_HASH_BYTES];
    c->rc = audit_segments_hash(dirs, 2, c->point.size, hash, &c->e);
    if (c->rc == 0 && memcmp(hash, c->point.hash, sizeof hash) != 0)
        c->rc = 1;
}

/* What is in the trail's own files, of keys. */
static void read_keys(struct audit *a, const struct audit_log_status *st, struct audit_keys *k)
{
    size_t n = 0;
    unsigned char *file =
        audit_read_file(a->s->replica.dir, AUDIT_KEYS_FILE, AUDIT_KEYS_MAX * AUDIT_NOTE_MAX, &n, NULL);
    if (!file || audit_keys_parse((const char *)file, n, st->public_key, k, NULL)) {
        k->n = 1;
        memcpy(k->list[0].key, st->public_key, sizeof k->list[0].key);
    }
    free(file);
}

static void trusted(struct audit *a)
{
    struct err e = {""};
    audit_trust_end(a);
    a->phase = AUDIT_RUNS;
    a->trusted = true;
    if (audit_copies_open(a, &e))
        log_error("no mirror of the audit trail", F_STR("why", e.text));
    if (audit_intake_open(a, &e)) {
        log_error("cannot take records", F_STR("why", e.text));
        return;
    }
    audit_announce(a);
}

static void tell_tampered(struct audit *a, const char *summary, const char *why)
{
    log_error(summary, F_STR("why", why), F_STR("dir", a->s->replica.dir));
    audit_tell(a, "audit/tampered", true, false, summary, why);
}

/* ---- a trail that is not the one that was signed ---- */

struct reopening {
    struct audit *a;
    struct err why;
};

static void keep_evidence(const struct audit *a, const char *dir)
{
    char path[600];
    snprintf(path, sizeof path, "%s/anchor", dir);
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    size_t len = strlen(a->anchors->own_note);
    if (fd < 0 || write(fd, a->anchors->own_note, len) != (ssize_t)len || fsync(fd))
        log_warn("the checkpoint that the bus kept could not be put beside the trail", F_STR("path", path));
    if (fd >= 0)
        close(fd);
}

static void on_closed(void *ctx)
{
    struct reopening *r = ctx;
    struct audit *a = r->a;
    struct err e = {""};
    struct audit_log_found found;
    bool over = a->phase == AUDIT_DRAINS;
    audit_end_closed(a);
    if (over) {
        free(r);
        return;
    }
    if (audit_open_log(a, r->why.text, &found, &e)) {
        /* Nothing is taken off the stream: all of it is kept there until somebody looks. */
        log_error("no new trail can be begun; records stay on the stream", F_STR("why", e.text));
        tell_tampered(a, "The audit trail is not the one that was signed, and no new one can be begun", e.text);
        free(r);
        return;
    }
    keep_evidence(a, found.set_aside);
    tell_tampered(a, "The audit trail is not the one that was signed; it was set aside as evidence", r->why.text);
    free(r);
    trusted(a);
}

static void distrust(struct audit *a, const char *why)
{
    struct reopening *r = calloc(1, sizeof *r);
    assert(r && "out of memory for one trail");
    *r = (struct reopening){.a = a};
    snprintf(r->why.text, sizeof r->why.text, "%s", why);
    a->phase = AUDIT_REOPENS;
    struct audit_log *log = a->log;
    a->log = NULL;
    a->open_ends++;
    audit_log_close(log, on_closed, r);
}

/* ---- judging ---- */

static void on_compared(uv_work_t *w, int status)
{
    struct comparing *c = w->data;
    struct audit *a = c->a;
    int rc = status < 0 ? -1 : c->rc;
    struct err e = c->e;
    uint64_t size = c->point.size;
    free(c);
    bool over = a->phase == AUDIT_DRAINS;
    audit_end_closed(a);
    if (over)
        return;
    if (rc == 0) {
        trusted(a);
    } else if (rc > 0) {
        err_set(&e, "record %" PRIu64 " is not the one that was signed: the trail was rewritten", size);
        distrust(a, e.text);
    } else {
        struct err why;
        err_set(&why, "record %" PRIu64 ", which was signed, cannot be read: %.300s", size, e.text);
        distrust(a, why.text);
    }
}

static void compare(struct audit *a)
{
    struct comparing *c = calloc(1, sizeof *c);
    assert(c && "out of memory for one record");
    *c = (struct comparing){.work.data = c, .a = a, .point = a->anchors->own_point};
    snprintf(c->dirs[0], sizeof c->dirs[0], "%s", a->s->replica.dir);
    snprintf(c->dirs[1], sizeof c->dirs[1], "%s", a->second_dir);
    a->phase = AUDIT_COMPARES;
    a->open_ends++;
    int rc = uv_queue_work(&a->s->loop.uv, &c->work, on_work, on_compared);
    assert(rc == 0 && "uv_queue_work fails only without a work callback");
    (void)rc;
}

static void judge(struct audit *a)
{
    struct audit_log_status st;
    struct audit_keys *keys = calloc(1, sizeof *keys);
    struct err why = {""};
    assert(keys && "out of memory for the keys");
    audit_log_status(a->log, &st);
    read_keys(a, &st, keys);
    struct audit_anchored t = {.size = st.size, .pruned = st.pruned, .rotations = st.rotations, .keys = keys};
    memcpy(t.chain, st.chain, sizeof t.chain);
    if (audit_anchor_other(a->anchors, &t, &why) && !a->told_aside)
        tell_tampered(a, "The audit trail of this replica is not the one that it wrote last", why.text);
    switch (audit_anchor_judge(a->anchors, &t, &why)) {
    case AUDIT_ANCHOR_NONE:
    case AUDIT_ANCHOR_FITS:
        trusted(a);
        break;
    case AUDIT_ANCHOR_COMPARE:
        compare(a);
        break;
    case AUDIT_ANCHOR_BEHIND:
        distrust(a, why.text);
        break;
    case AUDIT_ANCHOR_UNSIGNED:
        tell_tampered(a, "Somebody publishes checkpoints in the name of the audit trail", why.text);
        keep_evidence(a, a->s->replica.dir);
        trusted(a);
        break;
    }
    free(keys);
}

/* ---- what STATE holds ---- */

static void on_checkpoint(void *ctx, const struct bus_msg *m)
{
    struct audit *a = ctx;
    struct audit_log_status st;
    struct err e = {""};
    if (a->phase != AUDIT_WAITS)
        return;
    PB(AuditCheckpoint) *c = wire_unpack(PB_DESC(audit_checkpoint), m->data, m->len, &e);
    audit_log_status(a->log, &st);
    if (!c || !audit_anchors_add(a->anchors, c, st.chain, a->name, &e))
        service_bad_input(a->s, "checkpoint", m, e.text);
    wire_free(c);
}

static void on_synced(void *ctx)
{
    struct audit *a = ctx;
    if (a->phase == AUDIT_WAITS)
        judge(a);
}

int audit_trust_open(struct audit *a, struct err *e)
{
    a->anchors = calloc(1, sizeof *a->anchors);
    if (!a->anchors)
        return err_set(e, "out of memory");
    a->watch = bus_watch(a->s->bus, SUBJECT_CHECKPOINT ">", 0, on_checkpoint, on_synced, a);
    return a->watch ? 0 : err_set(e, "cannot watch " SUBJECT_CHECKPOINT ">");
}

void audit_trust_end(struct audit *a)
{
    if (a->watch)
        bus_watch_close(a->watch);
    a->watch = NULL;
    free(a->anchors);
    a->anchors = NULL;
}
