/* data_save.c - saving the learning data: the writer pauses, they are hashed and saved, it goes on, and the snapshot is read back and compared.
 *
 * The hash is taken while nobody writes and goes into the snapshot's tags, so that whoever restores it can prove what it got. Everything that
 * may take long or fail is looked at before the pause, and what proves the snapshot comes after it. */
#include "common/clock.h"
#include "rollback/data_impl.h"
#include <assert.h>
#include <errno.h>
#include <ftw.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#define CHECK_MS                                                                                                     \
    60000 /* what changes nothing must not take long: restic tries again by itself for a quarter of an hour */
#define POSITION_MS 2000

/* ---- room ---- */

static const char *size_text(uint64_t bytes, char buf[static 32])
{
    static const char *const units[] = {"bytes", "KiB", "MiB", "GiB", "TiB"};
    double n = (double)bytes;
    size_t u = 0;
    for (; n >= 1024 && u < 4; u++)
        n /= 1024;
    snprintf(buf, 32, u ? "%.1f %s" : "%.0f %s", n, units[u]);
    return buf;
}

/* The file system that a path is on, or will be. */
static bool room_at(const char *path, uint64_t *ret_free)
{
    char at[PATH_MAX];
    struct statvfs v;
    snprintf(at, sizeof at, "%s", path);
    while (statvfs(at, &v) != 0) {
        char *slash = strrchr(at, '/');
        if (!slash || !at[1])
            return false;
        slash[slash == at] = '\0';
    }
    *ret_free = (uint64_t)v.f_bavail * v.f_frsize;
    return true;
}

static bool room_ok(struct data_op *o, const char *path, const char *what)
{
    uint64_t need = o->sum.bytes + o->sum.bytes / 20, have = 0;
    char a[32], b[32];
    if (!room_at(path, &have) || have >= need)
        return true;
    data_fail(o, true, "%s needs %s at %.200s, where %s are free. Make room there", what, size_text(need, a), path,
              size_text(have, b));
    return false;
}

struct sizing {
    struct data_path path[DATA_PATHS];
    size_t n;
    uint64_t files, bytes;
};

static int size_up(void *arg, const atomic_bool *stop, struct err *e)
{
    struct sizing *z = arg;
    const char *roots[DATA_PATHS];
    for (size_t i = 0; i < z->n; i++)
        roots[i] = z->path[i].real;
    return tree_size(roots, z->n, stop, &z->files, &z->bytes, e);
}

static struct sizing *sizing_of(const struct data_op *o)
{
    struct sizing *z = calloc(1, sizeof *z);
    assert(z && "out of memory for some work");
    memcpy(z->path, o->paths, sizeof z->path);
    z->n = o->n_paths;
    return z;
}

static void on_sized(void *ctx, int status, const struct err *e)
{
    struct data_op *o = ctx;
    const struct sizing *z = o->sizing;
    o->work = NULL;
    o->sizing = NULL;
    if (status != 0) {
        data_fail(o, true, "%.400s. Give this service the right to read all of it", e->text);
        return;
    }
    o->sum.files = z->files;
    o->sum.bytes = z->bytes;
    if (room_ok(o, o->d->restic.dir, "reading the snapshot back"))
        data_next(o);
}

static void step_size(struct data_op *o)
{
    o->sizing = sizing_of(o);
    data_work(o, size_up, o->sizing, on_sized);
}

/* ---- the repository ---- */

static int any_file(const char *path, const struct stat *st, int kind, struct FTW *at)
{
    (void)path;
    (void)st;
    (void)at;
    return kind == FTW_D ? 0 : 1;
}

/* Then a repository is made there by the first snapshot. Directories without any file are what is left where the making was cut short. */
static bool is_absent_or_empty(const char *repository)
{
    struct stat st;
    if (!restic_is_local(repository))
        return false;
    if (stat(repository, &st) != 0)
        return errno == ENOENT;
    return S_ISDIR(st.st_mode) && nftw(repository, any_file, 16, FTW_PHYS) == 0;
}

static void on_made(void *ctx, const struct restic_result *r)
{
    struct data_op *o = ctx;
    o->restic = NULL;
    if (r->ok)
        data_next(o);
    else
        data_fail(o, r->lasting, "%s", r->text);
}

static void step_repository(struct data_op *o)
{
    const struct set_rb_data *set = &o->d->set->data;
    if (is_absent_or_empty(set->repository))
        data_restic(o, (const char *const[]){"init", NULL}, set->timeout_ms, on_made);
    else
        data_next(o);
}

static void step_room(struct data_op *o)
{
    const char *repository = o->d->set->data.repository;
    if (o->is_last || !restic_is_local(repository) || room_ok(o, repository, "the first snapshot"))
        data_next(o);
}

/* ---- while the writer pauses ---- */

static void on_stock(void *ctx, enum bus_status st, const struct bus_stock *stock)
{
    struct data_op **asking = ctx, *o = *asking;
    free(asking);
    if (!o)
        return;
    o->asking = NULL;
    if (st == BUS_OK)
        o->lineage.sequence = stock->last_seq;
    else
        data_warn(o, "the position of stream %s could not be noted: %s", o->lineage.stream, bus_status_text(st));
    data_next(o);
}

static void on_subject(void *ctx, const char *subject, uint64_t messages)
{
    (void)ctx;
    (void)subject;
    (void)messages;
}

static void step_position(struct data_op *o)
{
    const char *stream = o->d->set->data.stream;
    snprintf(o->lineage.stream, sizeof o->lineage.stream, "%s", stream);
    if (!*stream) {
        data_next(o);
        return;
    }
    if (!o->d->s->bus || !bus_up(o->d->s->bus)) {
        data_warn(o, "the position of stream %s could not be noted: NATS is away", stream);
        data_next(o);
        return;
    }
    o->asking = malloc(sizeof *o->asking);
    assert(o->asking && "out of memory for a request");
    *o->asking = o;
    /* A filter that nothing fits: the state of the whole stream is in the answer anyway. */
    bus_counts(o->d->s->bus, stream, "redoubt.none", POSITION_MS, on_subject, on_stock, o->asking);
}

static void on_hashed(void *ctx, int status, const struct err *e)
{
    struct data_op *o = ctx;
    const struct hashing *h = o->hashing;
    o->work = NULL;
    o->hashing = NULL;
    if (status != 0) {
        data_fail(o, false, "%s", e->text);
        return;
    }
    o->sum = h->sum;
    data_next(o);
}

static bool quiet(const struct data_op *o)
{
    return pausing_has(&o->d->set->data) || o->n == 0;
}

static void step_hash(struct data_op *o)
{
    struct hashing *h = hashing_new(o, "");
    h->moving = !quiet(o);
    o->manifest = data_list(o->d);
    h->manifest = data_list_again(o->manifest);
    data_hash(o, h, on_hashed);
}

static void on_saved(void *ctx, const struct restic_result *r)
{
    struct data_op *o = ctx;
    o->restic = NULL;
    if (r->code == 3) {
        data_fail(o, false, "not everything could be saved: %.350s", r->text);
        return;
    }
    if (!r->ok) {
        data_fail(o, r->lasting, "%s", r->text);
        return;
    }
    restic_saved(r->out, r->out_len, o->lineage.snapshot);
    o->lineage.taken_ms = clock_wall_ms();
    if (*o->lineage.snapshot)
        data_next(o);
    else
        data_fail(o, false, "restic does not say which snapshot it made: %.100s", r->out);
}

/* A short text of its own for one argument. */
static const char *arg(char buf[static 200], const char *key, const char *value)
{
    snprintf(buf, 200, "%s%s", key, value);
    for (char *c = buf; *c; c++)
        if (*c == ',') /* would be two tags */
            *c = '_';
    return buf;
}

static void save(struct data_op *o)
{
    const struct set_rb_data *set = &o->d->set->data;
    char text[8][200], number[32], *patterns[DATA_PATHS] = {0};
    const char *args[RESTIC_ARGS] = {"backup", "--json", "--tag=redoubt"};
    size_t n = 3;
    args[n++] = arg(text[0], "--host=", o->d->set->name);
    args[n++] = arg(text[1], "--tag=job=", o->job);
    args[n++] = arg(text[2], "--tag=version=", o->version);
    snprintf(number, sizeof number, "%" PRIu64, o->sum.files);
    args[n++] = arg(text[3], "--tag=files=", number);
    snprintf(number, sizeof number, "%" PRIu64, o->sum.bytes);
    args[n++] = arg(text[4], "--tag=bytes=", number);
    if (quiet(o)) {
        args[n++] = arg(text[5], "--tag=content=", o->sum.content);
        args[n++] = arg(text[6], "--tag=meta=", o->sum.meta);
    }
    char stream[200];
    if (o->lineage.sequence) {
        args[n++] = arg(stream, "--tag=stream=", o->lineage.stream);
        snprintf(number, sizeof number, "%" PRIu64, o->lineage.sequence);
        args[n++] = arg(text[7], "--tag=sequence=", number);
    }
    if (o->d->force)
        args[n++] = "--force";
    for (size_t i = 0; i < o->n_paths; i++) {
        size_t size = 2 * strlen(o->paths[i].real) + 64;
        char *pattern = malloc(size);
        assert(pattern && "out of memory for a path");
        int at = snprintf(pattern, size, "--exclude=");
        restic_pattern(o->paths[i].real, pattern + at, size - (size_t)at - 32);
        strcat(pattern, "/" TREE_OURS "*");
        args[n++] = patterns[i] = pattern;
    }
    args[n++] = "--";
    for (size_t i = 0; i < o->n_paths; i++)
        args[n++] = o->paths[i].real;
    assert(n < RESTIC_ARGS);
    data_restic(o, args, set->timeout_ms, on_saved);
    for (size_t i = 0; i < o->n_paths; i++)
        free(patterns[i]);
}

/* What an earlier try left is used if it is what stands there now. */
static void step_save(struct data_op *o)
{
    if (!o->is_found || !*o->found.sum.content || strcmp(o->found.sum.content, o->sum.content) != 0 ||
        strcmp(o->found.sum.meta, o->sum.meta) != 0 || !o->paths_fit) {
        save(o);
        return;
    }
    snprintf(o->lineage.snapshot, sizeof o->lineage.snapshot, "%s", o->found.id);
    o->lineage.taken_ms = o->found.taken_ms;
    data_next(o);
}

/* ---- when it has gone on ---- */

static void on_read_back(void *ctx, const struct restic_result *r)
{
    struct data_op *o = ctx;
    o->restic = NULL;
    if (r->ok)
        data_next(o);
    else
        data_fail(o, r->lasting, "the snapshot could not be read back: %.400s", r->text);
}

static void step_read_back(struct data_op *o)
{
    char target[600];
    snprintf(target, sizeof target, "--target=%s", o->d->scratch);
    data_restic(o, (const char *const[]){"restore", o->lineage.snapshot, target, "--verify", NULL},
                o->d->set->data.timeout_ms, on_read_back);
}

static void on_compared(void *ctx, int status, const struct err *e)
{
    struct data_op *o = ctx;
    const struct hashing *h = o->hashing;
    o->work = NULL;
    o->hashing = NULL;
    if (status != 0) {
        data_fail(o, false, "the snapshot could not be read back: %.400s", e->text);
        return;
    }
    bool same = strcmp(h->sum.content, o->sum.content) == 0;
    if (!same && quiet(o)) {
        o->d->force = true;
        data_fail(o, false,
                  "snapshot %.8s is not what was saved: %.250s. Somebody writes who was not paused, or the "
                  "repository is damaged",
                  o->lineage.snapshot, h->differs);
        return;
    }
    o->lineage.verified = same;
    o->d->force = false;
    o->lineage.files = h->sum.files;
    o->lineage.bytes = h->sum.bytes;
    if (!same)
        data_warn(o,
                  "saved while it was written to (data.pause is not set): read back whole, but it differs from what "
                  "was seen before: %.100s",
                  h->differs);
    else if (strcmp(h->sum.meta, o->sum.meta) != 0)
        data_warn(o, "the contents are the same, but %.150s: restoring needs the rights of the files' owner",
                  h->differs);
    else if (h->sum.files == 0)
        data_warn(o, "there were no learning data: the snapshot holds no file");
    else if (o->is_last && h->sum.bytes < o->last.bytes / 2)
        data_warn(o,
                  "the learning data have shrunk to less than half: %" PRIu64 " bytes in %" PRIu64
                  " files, before %" PRIu64 " in %" PRIu64,
                  h->sum.bytes, h->sum.files, o->last.bytes, o->last.files);
    data_next(o);
}

static void step_compare(struct data_op *o)
{
    struct hashing *h = hashing_new(o, o->d->scratch);
    FILE *is = data_list(o->d);
    h->manifest = data_list_again(is);
    if (is)
        fclose(is);
    h->was = data_list_again(o->manifest);
    data_hash(o, h, on_compared);
}

static void on_checked(void *ctx, const struct restic_result *r)
{
    struct data_op *o = ctx;
    o->restic = NULL;
    if (r->ok)
        data_next(o);
    else
        data_fail(o, r->lasting, "the repository does not pass its check: %.400s", r->text);
}

static void step_check_repository(struct data_op *o)
{
    char subset[64];
    int64_t percent = o->d->set->data.read_percent;
    if (percent == 0) {
        data_next(o);
        return;
    }
    snprintf(subset, sizeof subset, "--read-data-subset=%" PRId64 "%%", percent);
    data_restic(o, (const char *const[]){"check", percent == 100 ? "--read-data" : subset, NULL},
                o->d->set->data.timeout_ms, on_checked);
}

static void step_lineage(struct data_op *o)
{
    struct rollback_lineage *l = &o->lineage;
    snprintf(l->version, sizeof l->version, "%s", o->version);
    snprintf(l->job, sizeof l->job, "%s", o->job);
    snprintf(l->why, sizeof l->why, "%s", o->why);
    data_next(o);
}

const data_step data_save_steps[] = {step_paths,
                                     step_size,
                                     step_repository,
                                     step_list,
                                     step_room,
                                     step_clean,
                                     step_pause,
                                     step_position,
                                     step_hash,
                                     step_save,
                                     step_unlimited,
                                     step_resume,
                                     step_read_back,
                                     step_compare,
                                     step_clean,
                                     step_check_repository,
                                     step_lineage,
                                     data_end,
                                     NULL};

/* ---- a check: nothing is changed ---- */

static void step_files(struct data_op *o)
{
    const struct set_rb_data *set = &o->d->set->data;
    char why[300];
    const struct conf_list *programs[] = {&set->pause, &set->resume};
    struct stat st;
    if (stat(set->password_file, &st) != 0 || access(set->password_file, R_OK) != 0 || st.st_size == 0) {
        data_fail(o, true, "data.password_file %.200s %s", set->password_file,
                  access(set->password_file, R_OK) ? strerror(errno) : "is empty");
        return;
    }
    if (!program_ok(o->d->restic.program, why, sizeof why)) {
        data_fail(o, true, "restic cannot be run: %s. Install it", why);
        return;
    }
    for (size_t i = 0; i < 2; i++)
        if (programs[i]->n > 0 && !program_ok(*CONF_AT(*programs[i], char *, 0), why, sizeof why)) {
            data_fail(o, true, "data.%s: %s", i ? "resume" : "pause", why);
            return;
        }
    data_next(o);
}

static void step_config(struct data_op *o)
{
    const struct set_rb_data *set = &o->d->set->data;
    if (is_absent_or_empty(set->repository)) {
        if (room_ok(o, set->repository, "the first snapshot"))
            data_next(o);
        return;
    }
    data_restic(o, (const char *const[]){"cat", "config", "--no-lock", NULL},
                set->timeout_ms < CHECK_MS ? set->timeout_ms : CHECK_MS, on_made);
}

const data_step data_check_steps[] = {step_paths, step_files, step_size, step_config, data_end, NULL};
