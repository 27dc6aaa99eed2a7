/* outbox.c - durable appends: group commit off the loop, segments that come and go, adoption, close. */
#include "common/clock.h"
#include "common/metric.h"
#include "common/outbox_impl.h"
#include "common/subjects.h"
#include <assert.h>
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MAX_BYTES_DEFAULT (256u << 20)
#define SEGMENT_BYTES     (4u << 20)
#define BATCH_BYTES       (1u << 20) /* of one write */
#define WAITING_BYTES     (8u << 20) /* that may wait in memory for the disk */
#define NOTES_MAX         4096       /* acknowledgements of one write */
#define TICK_MS           1000

METRIC_DEFINE(appended, METRIC_COUNTER, "redoubt_outbox_appended_total", "Items made durable here.");
METRIC_DEFINE(syncs, METRIC_COUNTER, "redoubt_outbox_syncs_total", "Writes to disk, each with one sync.");
METRIC_DEFINE(failures, METRIC_COUNTER, "redoubt_outbox_write_failures_total", "Writes or syncs that failed.");
METRIC_DEFINE(damaged, METRIC_COUNTER, "redoubt_outbox_damaged_bytes_total",
              "Bytes that were no undamaged record when files were read.");
METRIC_DEFINE(bytes_now, METRIC_GAUGE, "redoubt_outbox_bytes", "Bytes on disk.");
METRIC_DEFINE(backlog_now, METRIC_GAUGE, "redoubt_outbox_backlog", "Items that their stream has not acknowledged.");

/* ---- queues ---- */

void outbox_queue_init(struct outbox_queue *q)
{
    *q = (struct outbox_queue){.first = NULL, .last = &q->first};
}

void outbox_queue_put(struct outbox_queue *q, struct outbox_piece *p)
{
    p->next = NULL;
    *q->last = p;
    q->last = &p->next;
    q->n++;
    q->bytes += p->size;
}

struct outbox_piece *outbox_queue_take(struct outbox_queue *q)
{
    struct outbox_piece *p = q->first;
    if (!p)
        return NULL;
    q->first = p->next;
    if (!q->first)
        q->last = &q->first;
    q->n--;
    q->bytes -= p->size;
    return p;
}

static void queue_free(struct outbox_queue *q)
{
    for (struct outbox_piece *p; (p = outbox_queue_take(q));)
        free(p);
}

/* ---- answers that must not come from inside the call ---- */

struct refusal {
    outbox_cb cb;
    void *ctx;
    char text[160];
};

static void refusal_say(void *ctx)
{
    struct refusal *r = ctx;
    r->cb(r->ctx, -1, r->text);
    free(r);
}

static void refuse(struct outbox *b, outbox_cb cb, void *ctx, const char *text)
{
    if (!cb)
        return;
    struct refusal *r = malloc(sizeof *r);
    assert(r && "no memory to say that there is no memory");
    r->cb = cb;
    r->ctx = ctx;
    snprintf(r->text, sizeof r->text, "%s", text);
    loop_defer(b->loop, refusal_say, r);
}

/* ---- the write: built on the loop, carried out on libuv's pool ---- */

struct outbox_job {
    uv_work_t req;
    struct outbox *b;
    struct outbox_segment *seg;
    bool create;
    char name[32];
    int dir_fd, fd;
    uint64_t at;
    unsigned char *buf;
    size_t len;
    struct outbox_queue pieces;
    struct outbox_ack_notes notes;
    int error; /* errno, and what failed */
    const char *what;
};

static bool write_and_sync(struct outbox_job *j)
{
    if (j->create) {
        j->what = "create";
        j->fd = openat(j->dir_fd, j->name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
        if (j->fd < 0)
            return false;
        j->what = "sync the directory of";
        if (fsync(j->dir_fd) != 0)
            return false;
    }
    j->what = "write to";
    if (!outbox_write_at(j->fd, j->buf, j->len, j->at))
        return false;
    j->what = "sync";
    return fdatasync(j->fd) == 0;
}

static void job_work(uv_work_t *req)
{
    struct outbox_job *j = req->data;
    if (write_and_sync(j))
        return;
    j->error = errno;
    /* Back to the last good record, so that nothing that was refused shows up later. After a failed sync nobody knows what
     * the kernel still holds of this file: it is written to no more. */
    if (j->fd >= 0 && ftruncate(j->fd, (off_t)j->at) == 0)
        (void)fdatasync(j->fd);
    if (j->create)
        unlinkat(j->dir_fd, j->name, 0);
}

static size_t acks_size(const struct outbox *b, unsigned stream, size_t count)
{
    struct outbox_record r = {.subject = b->shelf.streams[stream].name, .len = count * 16};
    return count ? outbox_record_size(&r) : 0;
}

/* One record per stream for the job's notes. Returns the end. */
static unsigned char *write_acks(struct outbox *b, const struct outbox_ack_notes *notes, unsigned char *to)
{
    for (unsigned s = 0; s < OUTBOX_STREAMS_MAX; s++) {
        size_t count = 0;
        for (size_t i = 0; i < notes->n; i++)
            count += notes->items[i].stream == s;
        if (count == 0)
            continue;
        uint64_t *pairs = malloc(count * 16), *at = pairs;
        if (!pairs)
            continue; /* it costs a repeat after a restart, no more */
        for (size_t i = 0; i < notes->n; i++) {
            if (notes->items[i].stream == s) {
                *at++ = htole64(notes->items[i].seq);
                *at++ = htole64(notes->items[i].stream_seq);
            }
        }
        struct outbox_record r = {.kind = OUTBOX_ACKS,
                                  .wall_ms = clock_wall_ms(),
                                  .subject = b->shelf.streams[s].name,
                                  .data = pairs,
                                  .len = count * 16};
        size_t size = outbox_record_size(&r);
        outbox_record_write(to, &r);
        outbox_record_seal(to, size, 0);
        to += size;
        free(pairs);
    }
    return to;
}

/* Moves what the next write takes into the job and lays it out. False if memory is out: all stays where it is. */
static bool job_fill(struct outbox *b, struct outbox_job *j)
{
    size_t room = 0, pieces = 0, per_stream[OUTBOX_STREAMS_MAX] = {0};
    size_t batch = b->segment_bytes < BATCH_BYTES ? b->segment_bytes : BATCH_BYTES;
    for (struct outbox_piece *p = b->waiting.first; p && room < batch; p = p->next, pieces++)
        room += p->size;
    size_t notes = b->notes.n < NOTES_MAX ? b->notes.n : NOTES_MAX;
    for (size_t i = 0; i < notes; i++)
        per_stream[b->notes.items[i].stream]++;
    for (unsigned s = 0; s < OUTBOX_STREAMS_MAX; s++)
        room += acks_size(b, s, per_stream[s]);
    struct outbox_record probe = {.kind = OUTBOX_PROBE, .wall_ms = clock_wall_ms()};
    room += outbox_record_size(&probe);

    j->buf = malloc(room);
    j->notes.items = notes ? malloc(notes * sizeof *j->notes.items) : NULL;
    if (!j->buf || (notes && !j->notes.items) || !outbox_segment_reserve(j->seg, pieces))
        return false;
    unsigned char *to = j->buf;
    for (; pieces > 0; pieces--) {
        struct outbox_piece *p = outbox_queue_take(&b->waiting);
        p->seq = ++b->shelf.top_seq;
        outbox_record_seal(p->record, p->size, p->seq);
        memcpy(to, p->record, p->size);
        to += p->size;
        outbox_queue_put(&j->pieces, p);
    }
    if (notes) {
        memcpy(j->notes.items, b->notes.items, notes * sizeof *j->notes.items);
        memmove(b->notes.items, b->notes.items + notes, (b->notes.n - notes) * sizeof *b->notes.items);
        b->notes.n -= notes;
        j->notes.n = notes;
        to = write_acks(b, &j->notes, to);
    }
    if (to == j->buf) {
        outbox_record_write(to, &probe);
        outbox_record_seal(to, outbox_record_size(&probe), 0);
        to += outbox_record_size(&probe);
    }
    j->len = (size_t)(to - j->buf);
    return true;
}

static void job_free(struct outbox_job *j)
{
    free(j->buf);
    free(j->notes.items);
    free(j);
}

static void job_done(uv_work_t *req, int status);

/* Starts a write if there is something to write, or `probe`, and none is in flight. */
static void write_out(struct outbox *b, bool probe)
{
    if (b->job || (!b->waiting.first && b->notes.n == 0 && !probe))
        return;
    bool fresh = !b->current || b->current->size >= b->segment_bytes;
    struct outbox_job *j = calloc(1, sizeof *j);
    struct outbox_segment *g = !j ? NULL : fresh ? outbox_shelf_add(&b->shelf, b->shelf.top_number + 1) : b->current;
    if (g) {
        outbox_queue_init(&j->pieces);
        j->req.data = j;
        j->b = b;
        j->seg = g;
        j->create = fresh;
        j->dir_fd = b->dir_fd;
        j->fd = g->fd;
        j->at = g->size;
        outbox_segment_name(g->number, j->name);
    }
    if (!g || !job_fill(b, j)) {
        /* Out of memory: nothing is lost, the next tick tries again. */
        if (g && fresh)
            outbox_shelf_drop(&b->shelf, b->shelf.n - 1, b->dir_fd);
        if (j)
            job_free(j);
        return;
    }
    if (fresh) {
        b->current = g;
        g->settled_mono_ms = clock_mono_ms();
    }
    b->job = j;
    int rc = uv_queue_work(&b->loop->uv, &j->req, job_work, job_done);
    assert(rc == 0 && "uv_queue_work fails only without a work callback");
    (void)rc;
}

/* ---- who waits for the stream ---- */

static void wish_add(struct outbox *b, const struct outbox_piece *p)
{
    if (!p->stored)
        return;
    struct outbox_wish *w = malloc(sizeof *w);
    assert(w && "out of memory for one that waits");
    *w = (struct outbox_wish){.seq = p->seq, .stored = p->stored, .ctx = p->ctx};
    HASH_ADD(hh, b->wishes, seq, sizeof w->seq, w);
}

void outbox_wish_end(struct outbox *b, uint64_t seq, int status, const char *error)
{
    struct outbox_wish *w;
    HASH_FIND(hh, b->wishes, &seq, sizeof seq, w);
    if (!w)
        return;
    HASH_DELETE(hh, b->wishes, w);
    w->stored(w->ctx, status, error);
    free(w);
}

static void job_succeeded(struct outbox *b, struct outbox_job *j)
{
    struct outbox_segment *g = j->seg;
    uint64_t at = j->at;
    g->fd = j->fd;
    g->size += j->len;
    b->shelf.bytes += j->len;
    if (!b->ok)
        log_info("outbox takes data again", F_STR("dir", b->dir));
    b->ok = true;
    if (b->shelf.segs[b->shelf.n - 1] != g)
        b->at_seg = b->at_entry = 0; /* an adoption went past it: what is added here lies before what was looked at */
    metric_add(&syncs, 1);
    for (struct outbox_piece *p; (p = outbox_queue_take(&j->pieces));) {
        outbox_cb cb = p->cb;
        void *ctx = p->ctx;
        wish_add(b, p);
        g->entries[g->n++] = (struct outbox_entry){
            .seq = p->seq, .offset = (uint32_t)at, .len = p->size & 0xffffff, .state = OUTBOX_PENDING};
        g->open++;
        at += p->size;
        b->backlog++;
        b->pending++;
        metric_add(&appended, 1);
        if (cb) /* first: somebody waits for it, and the stream does not */
            cb(ctx, 0, NULL);
        outbox_publish_new(b, p);
    }
}

static void job_failed(struct outbox *b, struct outbox_job *j)
{
    char text[160];
    snprintf(text, sizeof text, "cannot %s %.60s/%s: %s; free space or mend the disk", j->what, b->dir, j->name,
             strerror(j->error));
    metric_add(&failures, 1);
    if (b->ok)
        log_error("outbox cannot make anything durable", F_STR("why", text));
    b->ok = false;
    b->current = NULL; /* the next write begins a new file */
    if (j->create) {
        if (j->fd >= 0)
            close(j->fd);
        for (size_t i = 0; i < b->shelf.n; i++) {
            if (b->shelf.segs[i] == j->seg) {
                outbox_shelf_drop(&b->shelf, i, b->dir_fd);
                break;
            }
        }
    }
    for (size_t i = 0; i < j->notes.n; i++)
        outbox_note_ack(b, j->notes.items[i].seq, j->notes.items[i].stream, j->notes.items[i].stream_seq);
    for (struct outbox_piece *p; (p = outbox_queue_take(&j->pieces));) {
        if (p->cb)
            p->cb(p->ctx, -1, text);
        free(p);
    }
}

static void job_done(uv_work_t *req, int status)
{
    (void)status;
    struct outbox_job *j = req->data;
    struct outbox *b = j->b;
    /* b->job stays until all callbacks are done: appends from inside them only queue up. */
    if (j->error)
        job_failed(b, j);
    else
        job_succeeded(b, j);
    b->job = NULL;
    job_free(j);
    /* After a failure what waits gets its own try: each is told the truth about itself. */
    if (b->waiting.first)
        write_out(b, false);
    outbox_pump(b);
    outbox_maybe_finish(b);
}

void outbox_note_ack(struct outbox *b, uint64_t seq, unsigned stream, uint64_t stream_seq)
{
    struct outbox_ack_notes *n = &b->notes;
    if (n->n == n->room) {
        size_t room = n->room ? n->room * 2 : 64;
        struct outbox_ack_note *bigger = realloc(n->items, room * sizeof *bigger);
        if (!bigger)
            return; /* it costs a repeat after a restart, no more */
        n->items = bigger;
        n->room = room;
    }
    n->items[n->n++] = (struct outbox_ack_note){.seq = seq, .stream_seq = stream_seq, .stream = stream};
}

/* ---- segments that go ---- */

/* Bytes on disk, and on their way there. */
static size_t used_bytes(const struct outbox *b)
{
    return b->shelf.bytes + b->waiting.bytes + (b->job ? b->job->pieces.bytes : 0);
}

/* Deletes the oldest segments that are acknowledged whole: those older than OUTBOX_KEEP_MS, and younger ones only while
 * `need` bytes do not fit otherwise. Oldest first, because acknowledgements stand in later files than what they are for. */
static void reclaim(struct outbox *b, int64_t now_ms, size_t need)
{
    while (b->shelf.n > 0) {
        struct outbox_segment *g = b->shelf.segs[0];
        bool old = now_ms - g->settled_mono_ms > OUTBOX_KEEP_MS;
        bool tight = used_bytes(b) + need > b->max_bytes;
        if (g->open > 0 || g == b->current || (b->job && b->job->seg == g) || (!old && !(tight && need > 0)))
            break;
        outbox_shelf_drop(&b->shelf, 0, b->dir_fd);
        if (b->at_seg > 0)
            b->at_seg--;
        else
            b->at_entry = 0;
    }
}

static void on_tick(void *ctx)
{
    struct outbox *b = ctx;
    int64_t now = clock_mono_ms();
    /* An idle outbox keeps no file open that is only retained: it is closed for writing, and goes when it is old. */
    if (b->current && b->current->open == 0 && !b->job && !b->waiting.first && b->notes.n == 0 &&
        now - b->current->settled_mono_ms > OUTBOX_KEEP_MS)
        b->current = NULL;
    reclaim(b, now, 0);
    outbox_publish_tick(b, now);
    write_out(b, !b->ok && !b->closing);
    outbox_pump(b);
    metric_set(&bytes_now, (int64_t)b->shelf.bytes);
    metric_set(&backlog_now, (int64_t)b->backlog);
}

/* ---- the room's functions ---- */

static const char *bad_item(const struct outbox_item *i)
{
    if (!i->subject || !*i->subject || strlen(i->subject) > SUBJECT_MAX_LEN)
        return "the item's subject is missing or too long";
    if (!i->id || !*i->id || strlen(i->id) > OUTBOX_ID_MAX)
        return "the item's id is missing or too long";
    if (i->type && strlen(i->type) > OUTBOX_TYPE_MAX)
        return "the item's type is too long";
    if (i->len > MESSAGE_MAX)
        return "the item is larger than a message may be";
    return NULL;
}

void outbox_append(struct outbox *b, const struct outbox_item *i, outbox_cb cb, void *ctx)
{
    outbox_append_stored(b, i, cb, NULL, ctx);
}

void outbox_append_stored(struct outbox *b, const struct outbox_item *i, outbox_cb cb, outbox_cb stored, void *ctx)
{
    const char *bad = b->closing ? "the outbox is closing" : bad_item(i);
    struct outbox_record r = {.kind = OUTBOX_ITEM,
                              .wall_ms = clock_wall_ms(),
                              .subject = i->subject,
                              .id = i->id,
                              .type = i->type,
                              .data = i->data,
                              .len = i->len};
    struct outbox_piece *p = NULL;
    if (!bad) {
        size_t size = outbox_record_size(&r);
        reclaim(b, clock_mono_ms(), size);
        if (used_bytes(b) + size > b->max_bytes)
            bad = "the outbox is full: its streams have not acknowledged for too long; look at the bus";
        else if (b->waiting.bytes + size > WAITING_BYTES)
            bad = "too much waits for the disk: it is too slow, or stands still";
        else if (!(p = malloc(sizeof *p + size)))
            bad = "out of memory";
        else
            *p = (struct outbox_piece){.cb = cb, .stored = stored, .ctx = ctx, .size = size};
    }
    if (bad) {
        refuse(b, cb, ctx, bad);
        return;
    }
    outbox_record_write(p->record, &r);
    outbox_queue_put(&b->waiting, p);
    write_out(b, false);
}

size_t outbox_backlog(const struct outbox *b)
{
    return b->backlog + b->waiting.n + (b->job ? b->job->pieces.n : 0);
}

bool outbox_ok(const struct outbox *b)
{
    size_t used = used_bytes(b);
    for (size_t i = 0; i < b->shelf.n && b->shelf.segs[i]->open == 0 && b->shelf.segs[i] != b->current; i++)
        used -= (size_t)b->shelf.segs[i]->size; /* what an append would reclaim */
    return b->ok && used + OUTBOX_RECORD_MAX <= b->max_bytes;
}

static void say_damage(const struct outbox_shelf *s, const char *dir)
{
    if (s->damaged_bytes == 0)
        return;
    metric_add(&damaged, (int64_t)s->damaged_bytes);
    log_warn("outbox: damaged records were left out", F_STR("dir", dir), F_INT("places", s->damaged_places),
             F_INT("bytes", s->damaged_bytes));
}

/* What loading or copying has brought counts as pending from here on. */
static void count_open(struct outbox *b, size_t from_seg)
{
    for (size_t i = from_seg; i < b->shelf.n; i++) {
        b->backlog += b->shelf.segs[i]->open;
        b->pending += b->shelf.segs[i]->open;
    }
}

struct outbox *outbox_open(struct loop *l, const struct outbox_opts *o, struct err *e)
{
    if (sodium_init() < 0) {
        err_set(e, "cannot initialise libsodium");
        return NULL;
    }
    struct outbox *b = calloc(1, sizeof *b);
    if (!b) {
        err_set(e, "out of memory");
        return NULL;
    }
    b->loop = l;
    b->bus = o->bus;
    b->max_bytes = o->max_bytes ? o->max_bytes : MAX_BYTES_DEFAULT;
    b->segment_bytes = b->max_bytes / 8 < SEGMENT_BYTES ? b->max_bytes / 8 : SEGMENT_BYTES;
    b->ok = true;
    outbox_queue_init(&b->waiting);
    outbox_queue_init(&b->hot);
    b->dir = strdup(o->dir);
    b->dir_fd = open(o->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (!b->dir || b->dir_fd < 0) {
        err_set(e, "cannot open the outbox's directory %s: %s", o->dir, strerror(errno));
        goto fail;
    }
    outbox_shelf_clean(b->dir_fd);
    if (outbox_shelf_load(&b->shelf, b->dir_fd, o->dir, false, e))
        goto fail;
    say_damage(&b->shelf, o->dir);
    count_open(b, 0);
    for (unsigned i = 1; i < OUTBOX_STREAMS_MAX; i++)
        b->shelf.streams[i].check_due = b->shelf.streams[i].top_seq > 0;
    if (b->backlog > 0)
        log_info("outbox: items of an earlier process are published now", F_STR("dir", o->dir),
                 F_INT("items", b->backlog));
    loop_timer_init(l, &b->tick, on_tick, b);
    loop_timer_start(&b->tick, b->backlog > 0 ? 1 : TICK_MS, TICK_MS);
    return b;
fail:
    if (b->dir_fd >= 0)
        close(b->dir_fd);
    free(b->dir);
    free(b);
    return NULL;
}

int outbox_adopt(struct outbox *b, const char *dead_dir, struct err *e)
{
    struct outbox_shelf dead = {0};
    int rc = -1, fd = open(dead_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return err_set(e, "cannot open %s: %s", dead_dir, strerror(errno));
    if (outbox_shelf_load(&dead, fd, dead_dir, true, e))
        goto out;
    say_damage(&dead, dead_dir);
    size_t before = b->shelf.n;
    if (outbox_shelf_copy(&b->shelf, b->dir_fd, &dead, b->segment_bytes, e))
        goto out;
    b->current = NULL; /* sequences only grow from file to file: the next write begins a new one */
    count_open(b, before);
    for (size_t i = before; i < b->shelf.n; i++) {
        const struct outbox_segment *g = b->shelf.segs[i];
        for (size_t k = 0; k < g->n; k++)
            if (g->entries[k].state == OUTBOX_ACKED)
                outbox_note_ack(b, g->entries[k].seq, g->entries[k].stream, g->entries[k].stream_seq);
    }
    while (dead.n > 0)
        outbox_shelf_drop(&dead, dead.n - 1, fd);
    rc = fsync(fd) == 0 ? 0 : err_set(e, "cannot sync %s: %s", dead_dir, strerror(errno));
    outbox_pump(b);
out:
    outbox_shelf_free(&dead);
    close(fd);
    return rc;
}

/* ---- close ---- */

static void timers_closed(void *ctx)
{
    struct outbox *b = ctx;
    loop_cb done = b->done;
    void *done_ctx = b->done_ctx;
    free(b);
    if (done)
        done(done_ctx);
}

static void tick_closed(void *ctx)
{
    struct outbox *b = ctx;
    loop_timer_close(&b->deadline, timers_closed);
}

void outbox_maybe_finish(struct outbox *b)
{
    if (!b->closing || b->freeing || b->job || b->reading)
        return;
    if (b->waiting.first || (!b->overdue && b->backlog > 0 && b->bus && !b->bus_gone))
        return;
    if (b->notes.n > 0 && b->ok) {
        write_out(b, false);
        if (b->job)
            return;
    }
    b->freeing = true;
    outbox_publish_detach(b);
    while (b->wishes)
        outbox_wish_end(b, b->wishes->seq, -1, "the outbox was closed");
    queue_free(&b->hot);
    outbox_shelf_free(&b->shelf);
    free(b->notes.items);
    close(b->dir_fd);
    free(b->dir);
    loop_timer_close(&b->tick, tick_closed);
}

static void on_deadline(void *ctx)
{
    struct outbox *b = ctx;
    b->overdue = true;
    outbox_maybe_finish(b);
}

void outbox_close(struct outbox *b, int64_t timeout_ms, loop_cb done, void *ctx)
{
    assert(!b->closing);
    b->closing = true;
    b->done = done;
    b->done_ctx = ctx;
    loop_timer_init(b->loop, &b->deadline, on_deadline, b);
    loop_timer_start(&b->deadline, timeout_ms, 0);
    outbox_maybe_finish(b);
}
