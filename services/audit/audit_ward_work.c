/* audit_ward_work.c - what is done with the trail of a replica that is gone, under its owner's lock: opened as a start would, held against the bus, signed,
 * copied, closed. Whoever is killed in the middle of it leaves what a start, or the next keeper, goes on with. */
#include "audit/audit_segments.h"
#include "audit/audit_ward_impl.h"
#include "common/log.h"
#include "common/subjects.h"
#include <assert.h>
#include <inttypes.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void work(struct ward *w, uv_work_t *job, uv_work_cb fn, uv_after_work_cb after)
{
    w->a->open_ends++;
    int rc = uv_queue_work(&w->a->s->loop.uv, job, fn, after);
    assert(rc == 0 && "uv_queue_work fails only without a work callback");
    (void)rc;
}

static bool is_over(const struct ward *w)
{
    return w->a->phase != AUDIT_RUNS;
}

/* ---- opening ---- */

struct opening {
    uv_work_t work;
    struct ward *w;
    struct audit_log_opts o;
    char second[512];
    struct audit_log *log;
    struct audit_log_found found;
    struct err e;
};

static void on_open(uv_work_t *job)
{
    struct opening *o = job->data;
    o->log = audit_log_open(&o->w->a->s->loop, &o->o, &o->found, &o->e);
}

static void on_opened(uv_work_t *job, int status)
{
    struct opening *o = job->data;
    struct ward *w = o->w;
    struct audit *a = w->a;
    w->log = o->log;
    if (o->log && o->found.torn_bytes)
        log_warn("a write that a crash cut short was removed from the end of a trail whose replica is gone",
                 F_STR("dir", w->dir), F_INT("bytes", o->found.torn_bytes));
    if (o->log && !is_over(w))
        ward_event(w, CARE_WORKED);
    else if (o->log || status < 0 || is_over(w))
        ward_event(w, CARE_FAILED);
    else
        ward_refuse(w, o->found.why[0], o->e.text);
    free(o);
    audit_end_closed(a);
}

static void on_checkpoint(void *ctx, const struct audit_checkpoint *c, const char *note, size_t len)
{
    (void)c, (void)note, (void)len; /* the status has them */
    ward_go_on(ctx);
}

void ward_open(struct ward *w)
{
    const struct set_audit *c = &w->a->s->settings->audit;
    struct opening *o = calloc(1, sizeof *o);
    if (!o || !replica_lock_dead(&w->a->s->replica, w->index, &w->lock)) {
        free(o); /* somebody was quicker: it is looked at again */
        w->lock.lock_fd = -1;
        ward_event(w, CARE_FAILED);
        return;
    }
    log_info("taking care of the trail of a replica that is gone", F_STR("dir", w->dir));
    *o = (struct opening){.work.data = o, .w = w};
    /* What was never there holds nothing. That its disk is there is seen by whoever needs it: a segment that is missing does not verify. */
    if (*w->second && access(w->second, F_OK) == 0)
        snprintf(o->second, sizeof o->second, "%s", w->second);
    o->o = (struct audit_log_opts){.dir = w->dir,
                                   .second_dir = o->second,
                                   .only_whole = true,
                                   .key_file = c->key_file,
                                   .segment_bytes = c->segment_bytes,
                                   .on_checkpoint = on_checkpoint,
                                   .ctx = w};
    work(w, &o->work, on_open, on_opened);
}

/* ---- judging ---- */

struct comparing {
    uv_work_t work;
    struct ward *w;
    unsigned round;
    char dirs[2][512];
    struct audit_checkpoint point;
    int rc; /* 0 = the same, 1 = another, -1 = cannot look */
    struct err e;
};

static void stop_watching(struct ward *w)
{
    if (w->watch)
        bus_watch_close(w->watch);
    w->watch = NULL;
    free(w->anchors);
    w->anchors = NULL;
}

static void on_compare(uv_work_t *job)
{
    struct comparing *c = job->data;
    const char *dirs[2] = {c->dirs[0], c->dirs[1]};
    unsigned char hash[AUDIT_HASH_BYTES];
    c->rc = audit_segments_hash(dirs, 2, c->point.size, hash, &c->e);
    if (c->rc == 0 && memcmp(hash, c->point.hash, sizeof hash) != 0) {
        err_set(&c->e, "record %" PRIu64 " is not the one that was signed: the trail was rewritten", c->point.size);
        c->rc = 1;
    }
}

static void on_compared(uv_work_t *job, int status)
{
    struct comparing *c = job->data;
    struct ward *w = c->w;
    struct audit *a = w->a;
    if (c->round != w->round || w->care.state != CARE_JUDGES || is_over(w))
        ; /* it took too long: it is closed, or about to be */
    else if (status == 0 && c->rc == 0)
        ward_event(w, CARE_WORKED);
    else
        ward_refuse(w, c->rc > 0, c->e.text);
    free(c);
    audit_end_closed(a);
}

static void compare(struct ward *w)
{
    struct comparing *c = calloc(1, sizeof *c);
    assert(c && "out of memory for one record");
    *c = (struct comparing){.work.data = c, .w = w, .round = w->round, .point = w->anchors->own_point};
    snprintf(c->dirs[0], sizeof c->dirs[0], "%s", w->dir);
    snprintf(c->dirs[1], sizeof c->dirs[1], "%s", w->second);
    work(w, &c->work, on_compare, on_compared);
}

static void read_keys(const struct ward *w, const struct audit_log_status *st, struct audit_keys *k)
{
    size_t n = 0;
    unsigned char *file = audit_read_file(w->dir, AUDIT_KEYS_FILE, AUDIT_KEYS_MAX * AUDIT_NOTE_MAX, &n, NULL);
    if (!file || audit_keys_parse((const char *)file, n, st->public_key, k, NULL)) {
        k->n = 1;
        memcpy(k->list[0].key, st->public_key, sizeof k->list[0].key);
    }
    free(file);
}

static void judge(struct ward *w)
{
    struct audit_log_status st;
    struct audit_keys *keys = calloc(1, sizeof *keys);
    struct err why = {""};
    assert(keys && "out of memory for the keys");
    audit_log_status(w->log, &st);
    read_keys(w, &st, keys);
    struct audit_anchored t = {.size = st.size, .pruned = st.pruned, .rotations = st.rotations, .keys = keys};
    memcpy(t.chain, st.chain, sizeof t.chain);
    enum audit_anchor_verdict v = audit_anchor_judge(w->anchors, &t, &why);
    if (v == AUDIT_ANCHOR_COMPARE)
        compare(w);
    stop_watching(w);
    free(keys);
    if (v == AUDIT_ANCHOR_UNSIGNED) {
        log_error("Somebody publishes checkpoints in the name of the audit trail", F_STR("why", why.text));
        audit_tell(w->a, "audit/tampered", true, false,
                   "Somebody publishes checkpoints in the name of the audit trail", why.text);
    }
    if (v == AUDIT_ANCHOR_BEHIND)
        ward_refuse(w, true, why.text);
    else if (v != AUDIT_ANCHOR_COMPARE)
        ward_event(w, CARE_WORKED);
}

static void on_point(void *ctx, const struct bus_msg *m)
{
    struct ward *w = ctx;
    struct audit_log_status st;
    struct err e = {""};
    PB(AuditCheckpoint) *c = wire_unpack(PB_DESC(audit_checkpoint), m->data, m->len, &e);
    audit_log_status(w->log, &st);
    if (!c || !audit_anchors_add(w->anchors, c, st.chain, w->name, &e))
        service_bad_input(w->a->s, "checkpoint", m, e.text);
    wire_free(c);
}

static void on_synced(void *ctx)
{
    judge(ctx);
}

void ward_judge(struct ward *w)
{
    struct audit_log_status st;
    char chain[2 * AUDIT_CHAIN_BYTES + 1], subject[SUBJECT_MAX_LEN];
    audit_log_status(w->log, &st);
    sodium_bin2hex(chain, sizeof chain, st.chain, sizeof st.chain);
    snprintf(subject, sizeof subject, SUBJECT_CHECKPOINT "%s", chain);
    w->anchors = calloc(1, sizeof *w->anchors);
    w->watch = w->anchors ? bus_watch(w->a->s->bus, subject, 0, on_point, on_synced, w) : NULL;
    if (!w->watch) {
        stop_watching(w);
        ward_event(w, CARE_FAILED);
    }
}

/* ---- finishing: checkpoint, mirror, retention, bus, each when the one before is done ---- */

static void on_mirror(void *ctx)
{
    ward_go_on(ctx);
}

static bool is_copied(const struct ward *w, const struct audit_log_status *st, struct audit_mirror_status *m)
{
    if (!w->mirror)
        return true;
    audit_mirror_status(w->mirror, m);
    return m->state == AUDIT_MIRROR_FOLLOWS && m->size == st->size && m->signed_to == st->checkpoint_size;
}

void ward_finish(struct ward *w)
{
    const struct set_audit *c = &w->a->s->settings->audit;
    struct err e = {""};
    struct audit_mirror_opts o = {
        .sources = {w->dir, w->second}, .root = c->mirror, .instance = w->name, .on_change = on_mirror, .ctx = w};
    if (*c->mirror && !(w->mirror = audit_mirror_open(&w->a->s->loop, &o, &e))) {
        ward_refuse(w, false, e.text);
        return;
    }
    audit_log_checkpoint(w->log);
    ward_go_on(w);
}

struct retaining {
    uv_work_t work;
    struct ward *w;
    unsigned round;
    struct audit_retain r;
};

static void on_pruned(void *ctx, const char *error)
{
    struct ward *w = ctx;
    if (*error)
        log_warn("old segments of the audit trail could not be deleted", F_STR("dir", w->dir), F_STR("why", error));
    w->retaining = false;
    w->retained = true;
    ward_go_on(w);
}

static void on_retain(uv_work_t *job)
{
    audit_retain_look(&((struct retaining *)job->data)->r);
}

static void on_retained(uv_work_t *job, int status)
{
    struct retaining *k = job->data;
    struct ward *w = k->w;
    struct audit *a = w->a;
    if (k->r.e.text[0])
        log_warn("segments of the audit trail that are due stay", F_STR("dir", w->dir), F_STR("why", k->r.e.text));
    if (k->round == w->round && w->care.state == CARE_CATCHES_UP && !is_over(w)) {
        if (status == 0 && k->r.last > 0)
            audit_log_prune(w->log, k->r.last, on_pruned, w);
        else
            on_pruned(w, "");
    }
    free(k);
    audit_end_closed(a);
}

static void retain(struct ward *w, const struct audit_log_status *st, const struct audit_mirror_status *m)
{
    const struct set_audit *c = &w->a->s->settings->audit;
    struct retaining *k = w->mirror && (c->keep_ms || c->keep_bytes) ? calloc(1, sizeof *k) : NULL;
    if (!k) {
        w->retained = true;
        return;
    }
    *k = (struct retaining){.work.data = k, .w = w, .round = w->round};
    audit_retain_fill(&k->r, c, st, m, w->dir, w->second);
    w->retaining = true;
    work(w, &k->work, on_retain, on_retained);
}

struct saying {
    struct audit_tie *tie;
    struct ward *w;
    unsigned round;
};

static void on_said(void *ctx, const struct bus_stored *r)
{
    struct saying *s = ctx;
    struct ward *w = audit_tie_give(s->tie) ? s->w : NULL;
    bool ours = w && s->round == w->round;
    free(s);
    if (!ours)
        return;
    w->saying = false;
    w->said = r->status == BUS_OK;
    if (r->status == BUS_REFUSED)
        log_warn("a checkpoint is not on the bus", F_STR("why", r->error));
    if (w->said)
        ward_go_on(w);
}

static void say(struct ward *w, const struct audit_log_status *st, const struct audit_mirror_status *m)
{
    struct saying *s = calloc(1, sizeof *s);
    if (!s)
        return;
    char chain[2 * AUDIT_CHAIN_BYTES + 1], note[AUDIT_NOTE_MAX + 1], subject[SUBJECT_MAX_LEN];
    sodium_bin2hex(chain, sizeof chain, st->chain, sizeof st->chain);
    snprintf(note, sizeof note, "%.*s", (int)st->note_len, st->note);
    snprintf(subject, sizeof subject, SUBJECT_CHECKPOINT "%s", chain);
    PB(AuditCheckpoint) c = REDOUBT__V1__AUDIT_CHECKPOINT__INIT;
    c.chain = chain;
    c.instance = w->name; /* of who wrote it: whoever goes on with it finds the same */
    c.size = st->checkpoint_size;
    c.note = note;
    c.at_unix_ms = st->checkpoint_unix_ms;
    c.mirrored = w->mirror ? m->size : 0;
    *s = (struct saying){.tie = audit_tie_take(w->a), .w = w, .round = w->round};
    w->saying = true;
    service_announce(w->a->s, subject, NULL, &c, on_said, s);
}

void ward_go_on(struct ward *w)
{
    struct audit_log_status st;
    struct audit_mirror_status m = {0};
    if (w->care.state != CARE_CATCHES_UP || is_over(w))
        return;
    audit_log_status(w->log, &st);
    if (st.checkpoint_size != st.size || st.note_len == 0) {
        audit_log_checkpoint(w->log); /* again, if the disk has not taken the last one */
        return;
    }
    if (w->mirror && !w->mirroring)
        audit_mirror_goal(w->mirror, &st);
    w->mirroring = true;
    if (!is_copied(w, &st, &m))
        return;
    if (!w->retained && !w->retaining)
        retain(w, &st, &m);
    if (!w->retained)
        return;
    if (!w->said && !w->saying)
        say(w, &st, &m);
    if (w->said)
        ward_event(w, CARE_WORKED);
}

/* ---- closing ---- */

static void one_closed(void *ctx)
{
    struct ward *w = ctx;
    if (--w->closing > 0)
        return;
    ward_event(w, CARE_WORKED);
}

void ward_close(struct ward *w)
{
    stop_watching(w);
    w->closing = 1;
    if (w->log) {
        audit_log_status(w->log, &w->left);
        if (w->left.note_len > 0)
            memcpy(w->note, w->left.note, w->left.note_len);
        w->left.note = w->note;
        w->closing++;
        audit_log_close(w->log, one_closed, w);
        w->log = NULL;
    }
    if (w->mirror) {
        w->closing++;
        audit_mirror_close(w->mirror, one_closed, w);
        w->mirror = NULL;
    }
    loop_defer(&w->a->s->loop, one_closed, w);
}
