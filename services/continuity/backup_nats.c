/* backup_nats.c - the suite's streams into a directory and back, one after the other.
 *
 * Save: manifest away -> per stream: its durable consumers by name, snapshot into a file beside, hash on the way, fsync, rename -> manifest. Restore: all files are held against the
 * manifest (on a worker thread) -> what is there already is asked for, all of it, before anything is changed -> per stream: delete if asked to, restore,
 * compare what the server has now with what was saved. Consumers that are not durable are of a process that is gone: they are not missed. */
#include "continuity/backup_nats.h"
#include "common/bus_snapshot.h"
#include "common/clock.h"
#include "common/subjects.h"
#include "continuity/backup_nats_manifest.h"
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <openssl/evp.h>
#include <sodium.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define SILENCE_MS       30000
#define ANSWER_MS        10000                     /* or silence_ms, if that is less */
#define FINISH_MS        (INT64_C(30) * 60 * 1000) /* for the server to read what it was given */
#define STREAM_NOT_FOUND 10059

struct backup_nats {
    struct backup_nats_opts o; /* strings are copies */
    backup_copy_done done;
    void *ctx;
    bool restores, dropped;
    bool busy; /* a request or a worker thread comes back: memory stays until then */
    size_t i;  /* the stream */
    json_t *manifest;
    int fd;
    char path[PATH_MAX], beside[PATH_MAX]; /* of its file */
    EVP_MD_CTX *md;
    uint64_t bytes;
    struct bus_snapshot *snapshot;
    struct bus_restore *restore;
    uv_fs_t sync;
    uv_work_t work;
    json_t *config, *state; /* of the snapshot, until its file is durable */
    json_t *consumers;      /* names of the durable ones: of the stream that is saved, or that the server has now */
    size_t page;            /* of them: asked for from here */
    struct backup_copy_sum sum;
    struct err e;
    unsigned char there[BACKUP_NATS_STREAMS]; /* what the server has of it */
    bool begun;                               /* something was changed */
    bool deleted;                             /* a stream that held data */
    char note[ERR_TEXT_MAX];
};
enum { THERE_NOT, THERE_EMPTY, THERE_FULL };

static void free_all(struct backup_nats *x)
{
    if (x->fd >= 0) {
        close(x->fd);
        if (!x->restores && !x->dropped)
            unlink(x->beside);
    }
    EVP_MD_CTX_free(x->md);
    json_decref(x->manifest);
    json_decref(x->config);
    json_decref(x->state);
    json_decref(x->consumers);
    free((char *)x->o.dir);
    free(x);
}

static void finish(struct backup_nats *x, bool ok, bool refused, const char *text)
{
    x->done(x->ctx, &(struct backup_copy_end){.ok = ok, .refused = refused, .text = text, .sum = x->sum});
    free_all(x);
}

__attribute__((format(printf, 2, 3))) static void fail(struct backup_nats *x, const char *fmt, ...)
{
    char text[ERR_TEXT_MAX];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    size_t len = strlen(text);
    if (x->begun)
        snprintf(text + len, sizeof text - len, ". %zu of %zu streams are restored: run it again with --force", x->i,
                 nats_manifest_streams(x->manifest));
    finish(x, false, false, text);
}

__attribute__((format(printf, 2, 3))) static void say(struct backup_nats *x, const char *fmt, ...)
{
    char text[ERR_TEXT_MAX];
    va_list ap;
    if (!x->o.say)
        return;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    x->o.say(x->ctx, text);
}

/* The answer to a busy wait: false if nobody wants it any more. */
static bool back(struct backup_nats *x)
{
    x->busy = false;
    if (x->dropped)
        free_all(x);
    return !x->dropped;
}

static const char *error_of(const struct bus_snapshot_end *r)
{
    return *r->error ? r->error : bus_status_text(r->status);
}

static int64_t answer_ms(const struct backup_nats *x)
{
    return x->o.silence_ms < ANSWER_MS ? x->o.silence_ms : ANSWER_MS;
}

/* ---- the durable consumers of a stream ---- */

static void list_consumers(struct backup_nats *x, const char *stream, bus_reply_cb cb)
{
    char subject[SUBJECT_MAX_LEN], body[64];
    snprintf(subject, sizeof subject, "$JS.API.CONSUMER.LIST.%s", stream);
    int n = snprintf(body, sizeof body, "{\"offset\":%zu}", x->page);
    x->busy = true;
    bus_request(x->o.bus, &(struct bus_out){.subject = subject, .data = body, .len = (size_t)n}, answer_ms(x), cb, x);
}

/* A page of them into x->consumers. 1 = there are more, 0 = that was all, -1 with the reason in x->e. */
static int take_consumers(struct backup_nats *x, const char *stream, enum bus_status st, const struct bus_msg *reply)
{
    json_t *json = st == BUS_OK ? json_loadb(reply->data, reply->len, 0, NULL) : NULL, *one;
    const json_t *error = json_object_get(json, "error"), *list = json_object_get(json, "consumers");
    const char *text = json_string_value(json_object_get(error, "description"));
    bool none = json_integer_value(json_object_get(error, "err_code")) == STREAM_NOT_FOUND;
    size_t i, came = json_array_size(list);
    int more = 0;
    json_array_foreach(list, i, one)
    {
        json_t *name = json_object_get(json_object_get(one, "config"), "durable_name");
        if (name)
            (void)json_array_append(x->consumers, name);
    }
    x->page += came;
    if (!none && (error || !json_is_object(json)))
        more = err_set(&x->e, "stream %s: NATS does not say which consumers it has: %.200s", stream,
                       text ? text : bus_status_text(st));
    else
        more = came > 0 && json_integer_value(json_object_get(json, "total")) > (json_int_t)x->page;
    json_decref(json);
    return more;
}

static void begin_consumers(struct backup_nats *x, const char *stream, bus_reply_cb cb)
{
    json_decref(x->consumers);
    x->consumers = json_array();
    x->page = 0;
    list_consumers(x, stream, cb);
}

/* ---- save ---- */

static void save_next(struct backup_nats *x);

static const char *stream_name(const struct backup_nats *x)
{
    return bus_streams[x->i].name;
}

static int on_piece(void *ctx, const void *data, size_t len, struct err *e)
{
    struct backup_nats *x = ctx;
    for (size_t done = 0; done < len;) {
        ssize_t n = write(x->fd, (const char *)data + done, len - done);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return err_set(e, "cannot write %.300s: %s", x->beside, strerror(errno));
        done += (size_t)n;
    }
    x->bytes += len;
    return EVP_DigestUpdate(x->md, data, len) ? 0 : err_set(e, "cannot hash %.300s", x->beside);
}

static void on_synced(uv_fs_t *req)
{
    struct backup_nats *x = req->data;
    unsigned char hash[EVP_MAX_MD_SIZE];
    unsigned len = 0;
    char hex[65];
    ssize_t r = req->result;
    uv_fs_req_cleanup(req);
    if (!back(x))
        return;
    if (r < 0) {
        fail(x, "cannot write %.300s: %s", x->beside, uv_strerror((int)r));
        return;
    }
    if (close(x->fd) || rename(x->beside, x->path)) {
        int failed = errno;
        unlink(x->beside);
        x->fd = -1;
        fail(x, "cannot write %.300s: %s", x->path, strerror(failed));
        return;
    }
    x->fd = -1;
    if (!EVP_DigestFinal_ex(x->md, hash, &len) || len != 32) {
        fail(x, "cannot hash %.300s", x->path);
        return;
    }
    sodium_bin2hex(hex, sizeof hex, hash, 32);
    nats_manifest_add(x->manifest, stream_name(x), hex, x->bytes, x->config, x->state, x->consumers);
    json_decref(x->config);
    json_decref(x->state);
    x->config = x->state = NULL;
    x->i++;
    save_next(x);
}

static void on_snapshot(void *ctx, const struct bus_snapshot_end *r)
{
    struct backup_nats *x = ctx;
    x->snapshot = NULL;
    if (r->status == BUS_REFUSED && r->err_code == STREAM_NOT_FOUND) {
        close(x->fd);
        x->fd = -1;
        unlink(x->beside);
        nats_manifest_absent(x->manifest, stream_name(x));
        x->i++;
        save_next(x);
        return;
    }
    if (r->status != BUS_OK) {
        fail(x, "stream %s cannot be saved: %.300s", stream_name(x), error_of(r));
        return;
    }
    x->config = json_deep_copy(r->config);
    x->state = json_deep_copy(r->state);
    say(x, "%s: %" JSON_INTEGER_FORMAT " messages, %" PRIu64 " bytes", stream_name(x),
        json_integer_value(json_object_get(x->state, "messages")), x->bytes);
    x->busy = true;
    x->sync.data = x;
    int failed = uv_fs_fsync(&x->o.loop->uv, &x->sync, x->fd, on_synced);
    assert(!failed && "the loop takes no file request");
    (void)failed;
}

static void save_stream(struct backup_nats *x)
{
    char file[NATS_NAME_MAX + 16];
    nats_file_name(stream_name(x), file, sizeof file);
    snprintf(x->path, sizeof x->path, "%s/%s", x->o.dir, file);
    snprintf(x->beside, sizeof x->beside, "%s/.%s.new", x->o.dir, file);
    x->bytes = 0;
    x->fd = open(x->beside, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (x->fd < 0 || !EVP_DigestInit_ex(x->md, EVP_sha256(), NULL)) {
        fail(x, "cannot write %.300s: %s", x->beside, strerror(errno));
        return;
    }
    x->snapshot = bus_snapshot(x->o.bus, stream_name(x), x->o.silence_ms, on_piece, on_snapshot, x);
}

/* Before the snapshot: whatever is named is in it. */
static void on_consumers(void *ctx, enum bus_status st, const struct bus_msg *reply)
{
    struct backup_nats *x = ctx;
    if (!back(x))
        return;
    int more = take_consumers(x, stream_name(x), st, reply);
    if (more < 0)
        fail(x, "%s", x->e.text);
    else if (more)
        list_consumers(x, stream_name(x), on_consumers);
    else
        save_stream(x);
}

static void save_next(struct backup_nats *x)
{
    if (x->i == bus_streams_n) {
        if (nats_manifest_streams(x->manifest) == 0) {
            fail(x, "the server has none of the suite's streams: is it the right one?");
            return;
        }
        if (nats_manifest_write(x->manifest, x->o.dir, &x->e)) {
            fail(x, "%s", x->e.text);
            return;
        }
        x->sum = nats_manifest_sum(x->manifest);
        snprintf(x->note, sizeof x->note, "%" PRIu64 " messages of %" PRIu64 " streams, %" PRIu64 " bytes",
                 x->sum.items, x->sum.files, x->sum.bytes);
        finish(x, true, false, x->note);
        return;
    }
    begin_consumers(x, stream_name(x), on_consumers);
}

/* Not from inside the caller's call. */
static void begin_save(void *ctx)
{
    struct backup_nats *x = ctx;
    if (!back(x))
        return;
    snprintf(x->path, sizeof x->path, "%s/" BACKUP_NATS_MANIFEST, x->o.dir);
    if (mkdir(x->o.dir, 0700) && errno != EEXIST) {
        fail(x, "cannot make %.300s: %s", x->o.dir, strerror(errno));
        return;
    }
    if (unlink(x->path) && errno != ENOENT) {
        fail(x, "cannot remove %.300s: %s", x->path, strerror(errno));
        return;
    }
    x->manifest = nats_manifest_new(clock_wall_ms());
    save_next(x);
}

/* ---- restore ---- */

static void restore_next(struct backup_nats *x);

static struct nats_saved saved(const struct backup_nats *x)
{
    return nats_manifest_stream(x->manifest, x->i);
}

static int64_t on_read(void *ctx, void *buf, size_t size, struct err *e)
{
    struct backup_nats *x = ctx;
    ssize_t n;
    do
        n = read(x->fd, buf, size);
    while (n < 0 && errno == EINTR);
    if (n < 0)
        err_set(e, "cannot read %.300s: %s", x->path, strerror(errno));
    return n;
}

/* What the server has now, against what was saved. Messages whose time was over meanwhile are gone at once. */
static bool same(const struct nats_saved *s, const json_t *is, char *why, size_t size)
{
    json_int_t messages = json_integer_value(json_object_get(is, "messages")),
               last = json_integer_value(json_object_get(is, "last_seq"));
    uint64_t left = messages > 0 ? (uint64_t)messages : 0;
    bool good = (uint64_t)last == s->last_seq && (s->max_age_ns > 0 ? left <= s->messages : left == s->messages);
    if (!good)
        snprintf(why, size,
                 "the server has %" PRIu64 " messages up to %" JSON_INTEGER_FORMAT "; saved were %" PRIu64
                 " up to %" PRIu64,
                 left, last, s->messages, s->last_seq);
    return good;
}

static bool among(const json_t *list, const char *name)
{
    const json_t *one;
    size_t i;
    json_array_foreach(list, i, one) if (strcmp(json_string_value(one), name) == 0) return true;
    return false;
}

static void on_restored_consumers(void *ctx, enum bus_status st, const struct bus_msg *reply)
{
    struct backup_nats *x = ctx;
    if (!back(x))
        return;
    struct nats_saved s = saved(x);
    int more = take_consumers(x, s.name, st, reply);
    const json_t *one;
    size_t i;
    if (more < 0) {
        fail(x, "%s", x->e.text);
        return;
    }
    if (more) {
        list_consumers(x, s.name, on_restored_consumers);
        return;
    }
    json_array_foreach(s.consumers, i, one)
    {
        const char *name = json_string_value(one);
        if (!name || among(x->consumers, name))
            continue;
        fail(x, "stream %s is not as it was saved: its consumer %.100s is missing", s.name, name);
        return;
    }
    say(x, "%s: %" PRIu64 " messages up to %" PRIu64 ", %zu durable consumers", s.name, s.messages, s.last_seq,
        json_array_size(s.consumers));
    x->i++;
    restore_next(x);
}

static void on_restored(void *ctx, const struct bus_snapshot_end *r)
{
    struct backup_nats *x = ctx;
    struct nats_saved s = saved(x);
    char why[256];
    x->restore = NULL;
    close(x->fd);
    x->fd = -1;
    if (r->status != BUS_OK) {
        fail(x, "stream %s cannot be restored: %.200s%s", s.name, error_of(r),
             strstr(r->error, "insufficient") ? ". Give JetStream more room (max_file_store)" : "");
        return;
    }
    if (!same(&s, r->state, why, sizeof why)) {
        fail(x, "stream %s is not as it was saved: %s", s.name, why);
        return;
    }
    begin_consumers(x, s.name, on_restored_consumers);
}

static void upload(struct backup_nats *x)
{
    struct nats_saved s = saved(x);
    json_t *config = json_deep_copy(s.config);
    assert(config && "out of memory for a restore");
    if (x->o.replicas > 0)
        json_object_set_new(config, "num_replicas", json_integer(x->o.replicas));
    snprintf(x->path, sizeof x->path, "%s/%s", x->o.dir, s.file);
    if ((x->fd = open(x->path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW)) < 0)
        fail(x, "cannot read %.300s: %s", x->path, strerror(errno));
    else
        x->restore =
            bus_restore(x->o.bus, s.name, config, s.state, x->o.silence_ms, FINISH_MS, on_read, on_restored, x);
    json_decref(config);
}

/* $JS.API.STREAM.<what>.<the stream's name> */
static void ask(struct backup_nats *x, const char *what, bus_reply_cb cb)
{
    char subject[SUBJECT_MAX_LEN];
    snprintf(subject, sizeof subject, "$JS.API.STREAM.%s.%s", what, saved(x).name);
    x->busy = true;
    bus_request(x->o.bus, &(struct bus_out){.subject = subject, .data = ""}, answer_ms(x), cb, x);
}

static void on_deleted(void *ctx, enum bus_status st, const struct bus_msg *reply)
{
    struct backup_nats *x = ctx;
    if (!back(x))
        return;
    json_t *json = st == BUS_OK ? json_loadb(reply->data, reply->len, 0, NULL) : NULL;
    bool good = json_is_true(json_object_get(json, "success"));
    const char *text = json_string_value(json_object_get(json_object_get(json, "error"), "description"));
    snprintf(x->note, sizeof x->note, "%s", text ? text : bus_status_text(st));
    json_decref(json);
    if (!good) {
        fail(x, "stream %s cannot be deleted to make room for its copy: %.300s", saved(x).name, x->note);
        return;
    }
    upload(x);
}

static void restore_next(struct backup_nats *x)
{
    if (x->i == nats_manifest_streams(x->manifest)) {
        snprintf(x->note, sizeof x->note, "%" PRIu64 " messages of %" PRIu64 " streams%s", x->sum.items, x->sum.files,
                 x->deleted ? "; what was there before was deleted" : "");
        finish(x, true, false, x->note);
        return;
    }
    x->begun = true;
    if (x->there[x->i] == THERE_NOT) {
        upload(x);
        return;
    }
    if (x->there[x->i] == THERE_FULL) {
        x->deleted = true;
        say(x, "%s: deleted, as it held data (--force)", saved(x).name);
    }
    ask(x, "DELETE", on_deleted);
}

static void look_next(struct backup_nats *x);

static void on_info(void *ctx, enum bus_status st, const struct bus_msg *reply)
{
    struct backup_nats *x = ctx;
    if (!back(x))
        return;
    json_t *json = st == BUS_OK ? json_loadb(reply->data, reply->len, 0, NULL) : NULL;
    const json_t *state = json_object_get(json, "state"), *error = json_object_get(json, "error");
    bool none = json_integer_value(json_object_get(error, "err_code")) == STREAM_NOT_FOUND;
    json_int_t last = json_integer_value(json_object_get(state, "last_seq"));
    const char *text = json_string_value(json_object_get(error, "description"));
    if (!state && !none) {
        fail(x, "stream %s: NATS does not say what it holds: %.200s", saved(x).name,
             text ? text : bus_status_text(st));
    } else {
        x->there[x->i] = none ? THERE_NOT : last == 0 ? THERE_EMPTY : THERE_FULL;
        x->i++;
        look_next(x);
    }
    json_decref(json);
}

/* All of them are looked at before the first is touched. */
static void look_next(struct backup_nats *x)
{
    if (x->i < nats_manifest_streams(x->manifest)) {
        ask(x, "INFO", on_info);
        return;
    }
    char names[256] = "";
    size_t len = 0;
    for (x->i = 0; x->i < nats_manifest_streams(x->manifest); x->i++)
        if (x->there[x->i] == THERE_FULL && len < sizeof names)
            len += (size_t)snprintf(names + len, sizeof names - len, "%s%s", len ? ", " : "", saved(x).name);
    x->i = 0;
    if (len > 0 && !x->o.force) {
        snprintf(
            x->note, sizeof x->note,
            "NATS holds data in %s: nothing was changed. Restore into an empty server, or delete them first with "
            "--force",
            names);
        finish(x, false, true, x->note);
        return;
    }
    restore_next(x);
}

static void verify_work(uv_work_t *w)
{
    struct backup_nats *x = w->data;
    if (backup_nats_verify(x->o.dir, NULL, &x->sum, &x->e) == 0)
        x->manifest = nats_manifest_read(x->o.dir, &x->e);
}

static void on_verified(uv_work_t *w, int status)
{
    struct backup_nats *x = w->data;
    (void)status;
    if (!back(x))
        return;
    if (!x->manifest)
        fail(x, "%s", x->e.text);
    else
        look_next(x);
}

/* ---- both ---- */

static struct backup_nats *start(const struct backup_nats_opts *o, bool restores, backup_copy_done done, void *ctx)
{
    struct backup_nats *x = calloc(1, sizeof *x);
    char *dir = strdup(o->dir);
    EVP_MD_CTX *md = EVP_MD_CTX_new();
    assert(x && dir && md && "out of memory for a copy");
    x->o = *o;
    x->o.dir = dir;
    if (x->o.silence_ms == 0)
        x->o.silence_ms = SILENCE_MS;
    x->done = done;
    x->ctx = ctx;
    x->restores = restores;
    x->fd = -1;
    x->md = md;
    x->busy = true;
    return x;
}

struct backup_nats *backup_nats_save(const struct backup_nats_opts *o, backup_copy_done done, void *ctx)
{
    struct backup_nats *x = start(o, false, done, ctx);
    loop_defer(o->loop, begin_save, x);
    return x;
}

struct backup_nats *backup_nats_restore(const struct backup_nats_opts *o, backup_copy_done done, void *ctx)
{
    struct backup_nats *x = start(o, true, done, ctx);
    x->work.data = x;
    int failed = uv_queue_work(&o->loop->uv, &x->work, verify_work, on_verified);
    assert(!failed && "the loop takes no work");
    (void)failed;
    return x;
}

void backup_nats_drop(struct backup_nats *x)
{
    if (!x)
        return;
    bus_snapshot_drop(x->snapshot);
    bus_restore_drop(x->restore);
    x->snapshot = NULL;
    x->restore = NULL;
    x->dropped = true;
    if (x->fd >= 0 && !x->restores) /* now: what comes back late must not take the file of the next save */
        unlink(x->beside);
    if (!x->busy)
        free_all(x);
}
