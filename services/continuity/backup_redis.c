/* backup_redis.c - the suite's keys out of Redis and into it, a batch at a time.
 *
 * Save: SCAN -> DUMP and PTTL of each key of the page -> records into a file beside -> ... -> fsync -> rename. Restore: the file is verified (on a worker
 * thread) -> is any of the suite's keys there? -> RESTORE of a batch -> ... What is on its way comes back before it ends, whatever happens. */
#include "continuity/backup_redis.h"
#include "common/clock.h"
#include "continuity/backup_redis_file.h"
#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define PREFIX      "redoubt:"
#define PAGE        "256"
#define BATCH       256
#define BATCH_BYTES (4u << 20)

struct backup_redis {
    struct backup_redis_opts o; /* dir is a copy */
    backup_copy_done done;
    void *ctx;
    bool restores, dropped, failed, last; /* last: nothing comes behind this page or batch */
    bool looking;                         /* restore: is anything there already? */
    unsigned busy;                        /* that comes back: commands, worker threads, file requests */
    char cursor[32];
    char path[PATH_MAX], beside[PATH_MAX];
    struct redis_file file;
    struct backup_copy_sum sum;
    uint64_t done_keys, left_out, refused;
    uv_fs_t sync;
    uv_work_t work;
    struct err e;
};

bool backup_redis_wants(const char *key, size_t len)
{
    static const char lease[] = PREFIX "{lease:", fence[] = ":fence", members[] = "}:members";
    if (len < strlen(PREFIX) || memcmp(key, PREFIX, strlen(PREFIX)) != 0)
        return false;
    if (len >= strlen(members) && memcmp(key + len - strlen(members), members, strlen(members)) == 0)
        return false;
    if (len < strlen(lease) || memcmp(key, lease, strlen(lease)) != 0)
        return true;
    return len >= strlen(fence) && memcmp(key + len - strlen(fence), fence, strlen(fence)) == 0;
}

static void free_all(struct backup_redis *x)
{
    bool unfinished = x->file.f && !x->restores && !x->dropped;
    redis_file_close(&x->file);
    if (unfinished)
        unlink(x->beside);
    free((char *)x->o.dir);
    free(x);
}

static void finish(struct backup_redis *x, bool ok, bool refused, const char *text)
{
    x->done(x->ctx, &(struct backup_copy_end){
                        .ok = ok, .refused = refused, .text = text, .sum = x->sum, .left_out = x->left_out});
    free_all(x);
}

__attribute__((format(printf, 2, 3))) static void trouble(struct backup_redis *x, const char *fmt, ...)
{
    va_list ap;
    if (x->failed)
        return; /* the first is what people are told */
    x->failed = true;
    va_start(ap, fmt);
    vsnprintf(x->e.text, sizeof x->e.text, fmt, ap);
    va_end(ap);
}

/* Something came back. False if it has ended with that, or nobody wants it any more. */
static bool back(struct backup_redis *x)
{
    assert(x->busy > 0);
    if (--x->busy > 0)
        return true;
    if (x->dropped) {
        free_all(x);
        return false;
    }
    if (x->failed) {
        finish(x, false, false, x->e.text);
        return false;
    }
    return true;
}

/* What Redis said, if it is not what was asked for. */
static bool said_no(struct backup_redis *x, const char *what, enum store_status st, const redisReply *reply, int type)
{
    if (st == STORE_OK && reply->type == type)
        return false;
    trouble(x, "Redis: %s: %.300s", what,
            st == STORE_ERROR ? reply->str
            : st == STORE_OK  ? "an answer of another kind than expected"
                              : store_status_text(st));
    return true;
}

static void command(struct backup_redis *x, store_cb cb, void *ctx, int argc, const char *const *argv,
                    const size_t *lens)
{
    x->busy++;
    store_cmd(x->o.store, cb, ctx, argc, argv, lens);
}

/* ---- save ---- */

struct dumped { /* one key on its way */
    struct backup_redis *x;
    struct redis_record r;
    bool gone;
};

static void scan(struct backup_redis *x);

static void on_synced(uv_fs_t *req)
{
    struct backup_redis *x = req->data;
    char note[128];
    ssize_t r = req->result;
    uv_fs_req_cleanup(req);
    if (r < 0)
        trouble(x, "cannot write %.300s: %s", x->beside, uv_strerror((int)r));
    else if (!x->dropped && rename(x->beside, x->path))
        trouble(x, "cannot write %.300s: %s", x->path, strerror(errno));
    if (!back(x))
        return;
    x->sum.items = x->file.records;
    x->sum.files = 1;
    x->sum.bytes = x->file.at;
    redis_file_close(&x->file);
    snprintf(note, sizeof note, "%" PRIu64 " keys, %" PRIu64 " bytes", x->sum.items, x->sum.bytes);
    finish(x, true, false, note);
}

/* A page is written whole. */
static void page_done(struct backup_redis *x)
{
    if (!x->last) {
        scan(x);
        return;
    }
    x->busy++;
    x->sync.data = x;
    if (redis_file_end(&x->file, &x->e) || uv_fs_fsync(&x->o.loop->uv, &x->sync, fileno(x->file.f), on_synced)) {
        x->failed = true;
        (void)back(x);
    }
}

static void on_left(void *ctx, enum store_status st, const redisReply *reply)
{
    struct dumped *d = ctx;
    struct backup_redis *x = d->x;
    if (!said_no(x, "PTTL", st, reply, REDIS_REPLY_INTEGER) && !d->gone && reply->integer != -2 && !x->failed) {
        d->r.left_ms = reply->integer;
        if (redis_file_put(&x->file, &d->r, &x->e))
            x->failed = true;
    }
    redis_record_done(&d->r);
    free(d);
    if (back(x) && x->busy == 0)
        page_done(x);
}

static void on_dump(void *ctx, enum store_status st, const redisReply *reply)
{
    struct dumped *d = ctx;
    d->gone = st == STORE_OK && reply->type == REDIS_REPLY_NIL;
    if (!d->gone && !said_no(d->x, "DUMP", st, reply, REDIS_REPLY_STRING)) {
        d->r.value = malloc(reply->len + 1);
        assert(d->r.value && "out of memory for a key");
        memcpy(d->r.value, reply->str, reply->len);
        d->r.value_len = (uint32_t)reply->len;
    } else {
        d->gone = true;
    }
    (void)back(d->x); /* its PTTL is on its way: it does not end here */
}

static void take(struct backup_redis *x, const char *key, size_t len)
{
    struct dumped *d = calloc(1, sizeof *d);
    char *copy = malloc(len + 1);
    assert(d && copy && "out of memory for a key");
    memcpy(copy, key, len);
    copy[len] = '\0';
    *d = (struct dumped){.x = x, .r = {.key = copy, .key_len = (uint32_t)len}};
    const size_t lens[2] = {4, len};
    command(x, on_dump, d, 2, (const char *const[]){"DUMP", copy}, lens);
    command(x, on_left, d, 2, (const char *const[]){"PTTL", copy}, lens);
}

/* ---- restore ---- */

static void restore_batch(struct backup_redis *x);

static void on_key(void *ctx, enum store_status st, const redisReply *reply)
{
    struct backup_redis *x = ctx;
    if (st == STORE_ERROR && strncmp(reply->str, "BUSYKEY", 7) == 0) {
        x->left_out++;
    } else if (st == STORE_ERROR) { /* of this key: the others go on */
        if (x->refused++ == 0)
            snprintf(x->e.text, sizeof x->e.text, "%.200s", reply->str);
    } else if (!said_no(x, "RESTORE", st, reply, REDIS_REPLY_STATUS)) {
        x->done_keys++;
    }
    if (back(x) && x->busy == 0)
        restore_batch(x);
}

static void restored(struct backup_redis *x)
{
    char note[ERR_TEXT_MAX];
    if (x->refused)
        snprintf(note, sizeof note,
                 "Redis refused %" PRIu64 " of %" PRIu64
                 " keys: %.200s. Is it older than the one they are of? They are "
                 "rebuilt from the bus",
                 x->refused, x->sum.items, x->e.text);
    else
        snprintf(note, sizeof note, "%" PRIu64 " keys, %" PRIu64 " left out as their time was over", x->done_keys,
                 x->left_out);
    finish(x, x->refused == 0, false, note);
}

static void restore_batch(struct backup_redis *x)
{
    struct redis_record r = {0};
    int64_t age = clock_wall_ms() - x->file.saved_unix_ms;
    size_t bytes = 0;
    int more = 1;
    if (x->last) {
        restored(x);
        return;
    }
    x->busy++; /* nothing ends while this runs */
    for (int n = 0; n < BATCH && bytes < BATCH_BYTES;) {
        char left[24];
        if ((more = redis_file_next(&x->file, &r, &x->e)) != 1)
            break;
        int64_t ms = r.left_ms < 0 ? 0 : r.left_ms - (age > 0 ? age : 0);
        if (r.left_ms >= 0 && ms <= 0) {
            x->left_out++;
            continue;
        }
        snprintf(left, sizeof left, "%" PRId64, ms);
        const char *argv[] = {"RESTORE", r.key, left, r.value, "REPLACE"};
        const size_t lens[] = {7, r.key_len, strlen(left), r.value_len, 7};
        command(x, on_key, x, x->o.force ? 5 : 4, argv, lens);
        bytes += r.value_len;
        n++;
    }
    redis_record_done(&r);
    x->last = more == 0;
    x->failed = more < 0;
    if (back(x) && x->busy == 0)
        restore_batch(x); /* nothing of it was sent: it ends */
}

/* ---- both ---- */

static void on_page(void *ctx, enum store_status st, const redisReply *reply)
{
    struct backup_redis *x = ctx;
    const redisReply *keys = NULL;
    bool there = false;
    if (!x->dropped && !said_no(x, "SCAN", st, reply, REDIS_REPLY_ARRAY) && reply->elements == 2 &&
        reply->element[0]->type == REDIS_REPLY_STRING && reply->element[1]->type == REDIS_REPLY_ARRAY)
        keys = reply->element[1];
    else
        trouble(x, "Redis: SCAN: an answer of another kind than expected");
    if (keys) {
        snprintf(x->cursor, sizeof x->cursor, "%s", reply->element[0]->str);
        x->last = strcmp(x->cursor, "0") == 0;
    }
    for (size_t i = 0; keys && i < keys->elements; i++) {
        const redisReply *key = keys->element[i];
        if (key->type != REDIS_REPLY_STRING || !backup_redis_wants(key->str, key->len))
            continue;
        there = true;
        if (!x->restores)
            take(x, key->str, key->len);
    }
    if (!back(x) || x->busy > 0)
        return;
    if (!x->looking) {
        page_done(x);
    } else if (there) {
        finish(x, false, true,
               "Redis holds keys of the suite: nothing was changed. Restore into an empty one, or replace them with "
               "--force");
    } else if (!x->last) {
        scan(x);
    } else {
        x->looking = x->last = false;
        restore_batch(x);
    }
}

static void scan(struct backup_redis *x)
{
    const char *argv[] = {"SCAN", x->cursor, "MATCH", PREFIX "*", "COUNT", PAGE};
    command(x, on_page, x, 6, argv, NULL);
}

/* Not from inside the caller's call. */
static void begin_save(void *ctx)
{
    struct backup_redis *x = ctx;
    x->sum.saved_unix_ms = clock_wall_ms();
    if (x->dropped)
        ;
    else if (mkdir(x->o.dir, 0700) && errno != EEXIST)
        trouble(x, "cannot make %.300s: %s", x->o.dir, strerror(errno));
    else if (redis_file_begin(&x->file, x->beside, x->sum.saved_unix_ms, &x->e))
        x->failed = true;
    if (back(x))
        scan(x);
}

static void verify_work(uv_work_t *w)
{
    struct backup_redis *x = w->data;
    x->failed = backup_redis_verify(x->o.dir, NULL, &x->sum, &x->e) || redis_file_open(&x->file, x->path, &x->e);
}

static void on_verified(uv_work_t *w, int status)
{
    struct backup_redis *x = w->data;
    (void)status;
    if (!back(x))
        return;
    if (x->o.force) {
        restore_batch(x);
    } else {
        x->looking = true;
        scan(x);
    }
}

static struct backup_redis *start(const struct backup_redis_opts *o, bool restores, backup_copy_done done, void *ctx)
{
    struct backup_redis *x = calloc(1, sizeof *x);
    char *dir = strdup(o->dir);
    assert(x && dir && "out of memory for a copy");
    *x = (struct backup_redis){.o = *o, .done = done, .ctx = ctx, .restores = restores, .busy = 1, .cursor = "0"};
    x->o.dir = dir;
    snprintf(x->path, sizeof x->path, "%s/" BACKUP_REDIS_FILE, dir);
    snprintf(x->beside, sizeof x->beside, "%s/." BACKUP_REDIS_FILE ".new", dir);
    return x;
}

struct backup_redis *backup_redis_save(const struct backup_redis_opts *o, backup_copy_done done, void *ctx)
{
    struct backup_redis *x = start(o, false, done, ctx);
    loop_defer(o->loop, begin_save, x);
    return x;
}

struct backup_redis *backup_redis_restore(const struct backup_redis_opts *o, backup_copy_done done, void *ctx)
{
    struct backup_redis *x = start(o, true, done, ctx);
    x->work.data = x;
    int failed = uv_queue_work(&o->loop->uv, &x->work, verify_work, on_verified);
    assert(!failed && "the loop takes no work");
    (void)failed;
    return x;
}

void backup_redis_drop(struct backup_redis *x)
{
    if (!x)
        return;
    x->dropped = true;
    if (x->file.f && !x->restores) /* now: what comes back late must not take the file of the next save */
        unlink(x->beside);
    if (x->busy == 0)
        free_all(x);
}
