/* audit_serve.c - gives a trail's durable bytes to copies on other hosts. */
#include "audit/audit_serve.h"
#include "audit/audit_segments.h"
#include "common/log.h"
#include "common/metric.h"
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define OK          REDOUBT__V1__COMMAND_STATUS__COMMAND_STATUS_OK
#define INVALID     REDOUBT__V1__COMMAND_STATUS__COMMAND_STATUS_INVALID
#define UNAVAILABLE REDOUBT__V1__COMMAND_STATUS__COMMAND_STATUS_UNAVAILABLE

METRIC_DEFINE(served, METRIC_COUNTER, "redoubt_audit_served_bytes_total",
              "Bytes of the trail given to copies on other hosts.");

struct reading {
    uv_work_t work;
    struct audit_serve *v;
    char *reply;
    char dirs[2][512];
    uint64_t first, offset, open_first, open_bytes;
    size_t max;
    bool unowned;
    char left[AUDIT_NOTE_MAX + 1]; /* the checkpoint that an unowned trail was left with */
    /* What came of it: */
    int status; /* 0 = OK */
    bool not_ours;
    struct err e;
    unsigned char data[AUDIT_SERVE_BYTES];
    size_t len;
    uint64_t segment_bytes, next;
    char note[AUDIT_NOTE_MAX + 1], pruned[AUDIT_NOTE_MAX + 1], public_key[2 * AUDIT_PUBLIC_BYTES + 1];
    char *keys[AUDIT_KEYS_MAX];
    size_t n_keys;
};

/* ---- on libuv's threads ---- */

static int read_segment(struct reading *r, const struct audit_segment_at *s)
{
    char path[600], name[AUDIT_NAME_MAX];
    struct stat st;
    audit_segment_name(s->first, name);
    snprintf(path, sizeof path, "%s/%s", r->dirs[s->dir], name);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    int rc = fd < 0 || fstat(fd, &st) ? -1 : 0;
    if (!rc) {
        r->segment_bytes = s->first == r->open_first ? r->open_bytes : (uint64_t)st.st_size;
        uint64_t left = r->offset < r->segment_bytes ? r->segment_bytes - r->offset : 0;
        ssize_t n = left > 0 ? pread(fd, r->data, left < r->max ? (size_t)left : r->max, (off_t)r->offset) : 0;
        rc = n < 0 ? -1 : 0;
        r->len = n < 0 ? 0 : (size_t)n;
    }
    if (rc)
        err_set(&r->e, "cannot read %s: %s", name, strerror(errno));
    if (fd >= 0)
        close(fd);
    return rc;
}

static void read_text(const char *dir, const char *name, char *to, size_t size)
{
    size_t n;
    unsigned char *text = audit_read_file(dir, name, size - 1, &n, NULL);
    snprintf(to, size, "%.*s", text ? (int)n : 0, text ? (const char *)text : "");
    free(text);
}

/* Keys and the beginning, beside the note that was the newest when it was asked for. */
static void read_notes(struct reading *r)
{
    size_t n;
    unsigned char *file = audit_read_file(r->dirs[0], AUDIT_KEYS_FILE, AUDIT_KEYS_MAX * AUDIT_NOTE_MAX, &n, NULL);
    struct audit_keys *k = file && n ? malloc(sizeof *k) : NULL;
    if (k && audit_keys_parse((const char *)file, n, NULL, k, NULL) == 0) {
        for (size_t i = 0; i < k->n && r->n_keys < AUDIT_KEYS_MAX; i++)
            if (k->list[i].len > 0 &&
                (r->keys[r->n_keys] = strndup((char *)file + k->list[i].offset, k->list[i].len)))
                r->n_keys++;
    }
    free(k);
    free(file);
    read_text(r->dirs[0], AUDIT_PUBLIC_FILE, r->public_key, sizeof r->public_key);
    read_text(r->dirs[0], AUDIT_PRUNED_FILE, r->pruned, sizeof r->pruned);
}

/* Asked anew for each answer: a copy that had a later checkpoint from the owner must not get an earlier one from us. */
static bool is_as_left(const struct reading *r)
{
    bool any = false, same = true;
    for (int i = 0; i < 2; i++) {
        char note[AUDIT_NOTE_MAX + 1] = "";
        if (r->dirs[i][0])
            read_text(r->dirs[i], AUDIT_CHECKPOINT_FILE, note, sizeof note);
        any |= strcmp(note, r->left) == 0;
        struct audit_checkpoint theirs, left;
        if (*note && strcmp(note, r->left) != 0)
            same &= audit_checkpoint_parse(note, strlen(note), &theirs, NULL) == 0 &&
                    audit_checkpoint_parse(r->left, strlen(r->left), &left, NULL) == 0 && theirs.size < left.size;
    }
    return any && same;
}

static void on_work(uv_work_t *w)
{
    struct reading *r = w->data;
    const char *dirs[2] = {r->dirs[0], r->dirs[1]};
    struct audit_segments have;
    r->not_ours = r->unowned && !is_as_left(r);
    if (r->not_ours)
        return;
    if (audit_segments_list(dirs, 2, &have, &r->e)) {
        r->status = UNAVAILABLE;
        return;
    }
    const struct audit_segment_at *s = audit_segments_find(&have, r->first);
    if (r->first == 0)
        read_notes(r);
    else if (!s)
        r->status = INVALID;
    else if (read_segment(r, s))
        r->status = UNAVAILABLE;
    if (r->status == INVALID)
        err_set(&r->e, "the trail has no segment that begins with record %" PRIu64, r->first);
    for (size_t i = 0; i < have.n && r->next == 0; i++)
        if (have.list[i].first > r->first && have.list[i].first <= r->open_first)
            r->next = have.list[i].first;
    audit_segments_free(&have);
}

/* ---- on the loop ---- */

static void answer(struct reading *r)
{
    PB(AuditBytes) b = REDOUBT__V1__AUDIT_BYTES__INIT;
    b.data.data = r->data;
    b.data.len = r->len;
    b.segment_bytes = r->segment_bytes;
    b.next_sequence = r->next;
    b.note = r->note;
    b.pruned = r->pruned;
    b.public_key = r->public_key;
    b.keys = r->keys;
    b.n_keys = r->n_keys;
    struct err e;
    PB(CommandReply) reply = REDOUBT__V1__COMMAND_REPLY__INIT;
    reply.status = OK;
    reply.payload.data = wire_pack(&b, &reply.payload.len, &e);
    if (reply.payload.data)
        service_reply_message(r->v->s, r->reply, &reply);
    else
        service_reply(r->v->s, r->reply, UNAVAILABLE, 0, "%s", e.text);
    metric_add(&served, (int64_t)r->len);
    free(reply.payload.data);
}

static void free_reading(struct reading *r)
{
    for (size_t i = 0; i < r->n_keys; i++)
        free(r->keys[i]);
    free(r->reply);
    free(r);
}

static void on_worked(uv_work_t *w, int status)
{
    struct reading *r = w->data;
    struct audit_serve *v = r->v;
    if (r->not_ours)
        log_debug("an owner of this trail is back: it answers for it", F_STR("dir", r->dirs[0]));
    else if (status < 0)
        service_reply(v->s, r->reply, UNAVAILABLE, 0, "%s", uv_strerror(status));
    else if (r->status)
        service_reply(v->s, r->reply, r->status, 0, "%s", r->e.text);
    else
        answer(r);
    free_reading(r);
    if (--v->at_once == 0 && v->idle)
        v->idle(v->idle_ctx);
}

void audit_serve_read(struct audit_serve *v, const PB(AuditRead) * q, const char *reply,
                      const struct audit_log_status *st)
{
    struct reading *r = v->idle || v->at_once >= AUDIT_SERVE_AT_ONCE ? NULL : calloc(1, sizeof *r);
    char *to = r ? strdup(reply) : NULL;
    if (!to) {
        free(r);
        service_reply(v->s, reply, UNAVAILABLE, 0, "busy; ask again");
        return;
    }
    r->work.data = r;
    r->v = v;
    r->reply = to;
    for (int i = 0; i < 2; i++)
        snprintf(r->dirs[i], sizeof r->dirs[i], "%s", v->dirs[i]);
    r->first = q->first_sequence;
    r->offset = q->offset;
    r->max = q->max_bytes > 0 && q->max_bytes < sizeof r->data ? q->max_bytes : sizeof r->data;
    r->unowned = v->unowned;
    snprintf(r->left, sizeof r->left, "%.*s", (int)st->note_len, st->note_len ? st->note : "");
    r->open_first = st->segment_first;
    r->open_bytes = st->segment_bytes;
    if (r->first == 0)
        snprintf(r->note, sizeof r->note, "%.*s", (int)st->note_len, st->note_len ? st->note : "");
    v->at_once++;
    if (uv_queue_work(&v->s->loop.uv, &r->work, on_work, on_worked)) {
        v->at_once--;
        free_reading(r);
    }
}

void audit_serve_end(struct audit_serve *v, loop_cb idle, void *ctx)
{
    v->idle = idle;
    v->idle_ctx = ctx;
    if (v->at_once == 0)
        loop_defer(&v->s->loop, idle, ctx);
}
