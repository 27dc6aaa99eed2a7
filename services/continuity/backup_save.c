/* backup_save.c - a source is saved: made ready, hashed, saved, looked at again, read back and compared.
 *
 * A copy is verified when nobody wrote while it was made (the live directories have the same hash before and after), when restic has seen as many files as were hashed, and when
 * what is new in it (all of it, if nothing is known here of a verified copy before; or if something was found damaged) and a few other files by lot were restored from the
 * repository and have the hashes of the originals. */
#include "common/clock.h"
#include "continuity/backup_impl.h"
#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define TRIES   3 /* somebody writes: it is saved as it moves the last time */
#define BY_LOT  4
#define CHANGED 40 /* more of them, and all is read back */

static bool live(const struct backup_run *r)
{
    return !r->x->kind->make;
}

/* ---- made ready ---- */

static void on_made(void *ctx, bool ok, const char *text)
{
    struct backup_run *r = ctx;
    r->making = NULL;
    r->made = true;
    if (ok)
        backup_next(r);
    else
        backup_fail(r, false, "%.480s", text);
}

static void live_paths(struct backup_run *r)
{
    const struct conf_list *paths = &r->x->set->path;
    for (size_t i = 0; i < paths->n && i < BACKUP_PATHS; i++) {
        const char *path = *CONF_AT(*paths, char *, i);
        struct backup_path *p = &r->paths[r->n_paths];
        struct stat st;
        if (!realpath(path, p->real) || stat(p->real, &st) != 0) {
            /* Gone data are the case that this is for: told as such, and no copy of nothing is made. */
            r->out.vanished = errno == ENOENT;
            backup_fail(r, true,
                        "%.300s: %s. If it is lost, restore it; if not, give the path as this service sees it", path,
                        strerror(errno));
            return;
        }
        if (!S_ISDIR(st.st_mode) || !p->real[1]) {
            backup_fail(r, true, "%.300s is not a directory that can be saved", path);
            return;
        }
        r->n_paths++;
    }
    if (r->n_paths == 0)
        backup_fail(r, true, "there is no path to save: see continuity.backups of `%s`", r->x->set->name);
    else
        backup_next(r);
}

static void step_make(struct backup_run *r)
{
    r->n_paths = 0;
    if (!*r->x->set->to.repository) {
        backup_fail(r, true, "there is nowhere to save it to: set continuity.repository, or `to` of `%s`",
                    r->x->set->name);
        return;
    }
    if (live(r)) {
        live_paths(r);
        return;
    }
    if (mkdir(r->stage, 0700) != 0) {
        backup_fail(r, false, "%.300s cannot be made: %s", r->stage, strerror(errno));
        return;
    }
    if (!realpath(r->stage, r->paths[0].real)) {
        backup_fail(r, false, "%.300s: %s", r->stage, strerror(errno));
        return;
    }
    r->n_paths = 1;
    r->made = false;
    void *making = r->x->kind->make(r->x->b->c, r->x->set, r->paths[0].real, on_made, r);
    r->making = r->made ? NULL : making;
}

/* ---- hashed ---- */

static void on_listed(void *ctx, int status, const struct err *e)
{
    struct backup_run *r = ctx;
    r->work = NULL;
    if (status != 0) {
        backup_fail(r, false, "%.480s", e->text);
        return;
    }
    backup_list_unref(r->list);
    r->list = backup_list_ref(r->job->is);
    r->out.bytes = r->list->sum.bytes;
    backup_next(r);
}

static void step_hash(struct backup_run *r)
{
    struct backup_job *j = backup_job(r, r->paths, r->n_paths, "");
    /* What was read for an earlier try, or for the copy before, is not read again. */
    j->was = backup_list_ref(r->x->reread ? NULL : r->list ? r->list : r->x->proven);
    j->links = !live(r);
    j->moving = live(r);
    backup_list_later(r, j, on_listed);
}

/* ---- the repository ---- */

static void on_init(void *ctx, const struct restic_result *said)
{
    backup_step_ended(ctx, said, "");
}

/* Made by the first copy. One that has been there and is gone is more likely a disk that is not mounted. */
static void step_repository(struct backup_run *r)
{
    const struct backup_source *x = r->x;
    const char *repository = x->set->to.repository;
    struct stat st;
    bool absent = restic_is_local(repository) &&
                  (stat(repository, &st) != 0 ? errno == ENOENT : S_ISDIR(st.st_mode) && tree_is_empty(repository));
    if (!absent) {
        backup_next(r);
        return;
    }
    if (x->plan.saved_ms > 0 && !r->out.force) {
        backup_fail(
            r, true,
            "the repository %.250s is not there any more. Is its disk mounted? If it is lost, `redoubt continuity "
            "backup %s --force` begins a new one",
            repository, x->set->name);
        return;
    }
    backup_restic(r, (const char *const[]){"init", NULL}, on_init);
}

static void on_saved(void *ctx, const struct restic_result *said)
{
    struct backup_run *r = ctx;
    r->running = NULL;
    if (said->code == 3) {
        backup_fail(r, false, "not everything could be saved: %.400s", said->text);
        return;
    }
    if (!said->ok) {
        backup_fail_restic(r, said, "");
        return;
    }
    restic_saved(said->out, said->out_len, r->snapshot);
    uint64_t files = restic_processed(said->out, said->out_len);
    if (!*r->snapshot) {
        backup_fail(r, false, "restic does not say which snapshot it made: %.100s", said->out);
        return;
    }
    r->snapshots++;
    if (files != r->list->sum.files && !live(r)) {
        backup_fail(r, false, "restic has saved %" PRIu64 " files, there were %" PRIu64, files, r->list->sum.files);
        return;
    }
    backup_next(r);
}

static void step_save(struct backup_run *r)
{
    const struct backup_source *x = r->x;
    const struct tree_sum *sum = &r->list->sum;
    char text[8][200], *patterns[BACKUP_PATHS] = {0};
    const char *args[RESTIC_ARGS] = {"backup", "--json", "--host=" BACKUP_HOST, "--tag=redoubt"};
    size_t n = 4, k = 0;
    snprintf(text[k], sizeof text[k], "--tag=source=%s", x->set->name);
    args[n++] = text[k++];
    snprintf(text[k], sizeof text[k], "--tag=kind=%s", x->kind->name);
    args[n++] = text[k++];
    snprintf(text[k], sizeof text[k], "--tag=point=%" PRId64, r->out.point_ms);
    args[n++] = text[k++];
    snprintf(text[k], sizeof text[k], "--tag=files=%" PRIu64, sum->files);
    args[n++] = text[k++];
    snprintf(text[k], sizeof text[k], "--tag=bytes=%" PRIu64, sum->bytes);
    args[n++] = text[k++];
    if (r->tries + 1 < TRIES) { /* the last time it may be saved as it moves: no hash is right then */
        snprintf(text[k], sizeof text[k], "--tag=content=%s", sum->content);
        args[n++] = text[k++];
        snprintf(text[k], sizeof text[k], "--tag=meta=%s", sum->meta);
        args[n++] = text[k++];
    }
    if (x->reread)
        args[n++] = "--force";
    if (!live(r)) /* files got a further name meanwhile, which changes nothing of them */
        args[n++] = "--ignore-ctime";
    for (size_t i = 0; i < r->n_paths; i++) {
        size_t size = 2 * strlen(r->paths[i].real) + 64;
        char *pattern = malloc(size);
        assert(pattern && "out of memory for a path");
        int at = snprintf(pattern, size, "--exclude=");
        restic_pattern(r->paths[i].real, pattern + at, size - (size_t)at - 32);
        strcat(pattern, "/" TREE_OURS "*");
        args[n++] = patterns[i] = pattern;
    }
    args[n++] = "--";
    for (size_t i = 0; i < r->n_paths; i++)
        args[n++] = r->paths[i].real;
    assert(n < RESTIC_ARGS);
    backup_restic(r, args, on_saved);
    for (size_t i = 0; i < r->n_paths; i++)
        free(patterns[i]);
}

/* ---- did anybody write meanwhile? ---- */

static void again(struct backup_run *r)
{
    r->steps = backup_save_steps;
    for (r->at = 0; backup_save_steps[r->at] != step_hash; r->at++)
        continue;
    backup_next(r);
}

static void on_dropped(void *ctx, const struct restic_result *said)
{
    struct backup_run *r = ctx;
    r->running = NULL;
    if (!said->ok) {
        backup_fail_restic(r, said, "");
        return;
    }
    r->snapshots--;
    again(r);
}

static void on_listed_again(void *ctx, int status, const struct err *e)
{
    struct backup_run *r = ctx;
    r->work = NULL;
    if (status != 0) {
        backup_fail(r, false, "%.480s", e->text);
        return;
    }
    const struct tree_sum *was = &r->list->sum, *is = &r->job->is->sum;
    if (strcmp(was->content, is->content) == 0 && strcmp(was->meta, is->meta) == 0) {
        r->out.verified = r->tries + 1 < TRIES;
        if (!r->out.verified) /* by chance, this time: its tags say nothing */
            r->tries = TRIES;
        backup_next(r);
        return;
    }
    if (++r->tries < TRIES) { /* its tags say what it is not */
        backup_list_unref(r->list);
        r->list = backup_list_ref(r->job->is);
        backup_restic(r, (const char *const[]){"forget", r->snapshot, NULL}, on_dropped);
        return;
    }
    r->tries = TRIES;
    backup_next(r);
}

static void step_quiet(struct backup_run *r)
{
    if (!live(r)) {
        r->out.verified = true;
        backup_next(r);
        return;
    }
    struct backup_job *j = backup_job(r, r->paths, r->n_paths, "");
    j->was = backup_list_ref(r->list);
    j->moving = true;
    backup_list_later(r, j, on_listed_again);
}

/* ---- read back ---- */

static void on_restored(void *ctx, const struct restic_result *said)
{
    backup_step_ended(ctx, said, "the copy could not be read back: ");
}

/* What is new, and a few others; or all. Returns how many bytes that is. */
static uint64_t choose(struct backup_run *r)
{
    const struct backup_list *l = r->list;
    uint64_t bytes = 0;
    bool linked = false;
    size_t n = backup_list_changed(r->x->proven, l, r->wanted, CHANGED, &bytes, &linked);
    r->n_wanted = 0;
    if (!r->x->proven || r->x->reread || n > CHANGED || linked || l->n < 2 * CHANGED)
        return l->sum.bytes;
    for (size_t i = 0; i < 4 * BY_LOT && r->n_wanted < BY_LOT; i++) {
        size_t at = (size_t)random() % l->n;
        if (*l->entries[at].what != 'f' || l->entries[at].size > 64 * 1024 * 1024)
            continue;
        bytes += l->entries[at].size;
        r->wanted[n + r->n_wanted++] = at;
    }
    r->n_wanted += n;
    return bytes;
}

static void step_read_back(struct backup_run *r)
{
    char target[700], *patterns[CHANGED + BY_LOT] = {0};
    const char *args[RESTIC_ARGS] = {"restore", r->snapshot, target, "--verify"};
    size_t n = 4;
    snprintf(target, sizeof target, "--target=%s", r->scratch);
    if (!backup_room_ok(r, r->x->b->scratch, choose(r), "reading the copy back"))
        return;
    for (size_t i = 0; i < r->n_wanted; i++) {
        const struct backup_entry *e = &r->list->entries[r->wanted[i]];
        char path[PATH_MAX + 256];
        snprintf(path, sizeof path, "%s%s", r->paths[e->root].real, e->name);
        size_t size = 2 * strlen(path) + 32;
        patterns[i] = malloc(size);
        assert(patterns[i] && "out of memory for a path");
        int at = snprintf(patterns[i], size, "--include=");
        restic_pattern(path, patterns[i] + at, size - (size_t)at);
        args[n++] = patterns[i];
    }
    backup_restic(r, args, on_restored);
    for (size_t i = 0; i < r->n_wanted; i++)
        free(patterns[i]);
}

/* ---- compared ---- */

static bool as_saved(const struct backup_run *r, char *buf, size_t size)
{
    if (r->n_wanted == 0)
        return backup_list_same(r->list, r->back, buf, size);
    for (size_t i = 0; i < r->n_wanted; i++) {
        const struct backup_entry *e = &r->list->entries[r->wanted[i]],
                                  *is = backup_list_find(r->back, e->root, e->name);
        if (is && strcmp(is->what, e->what) == 0)
            continue;
        snprintf(buf, size, "%.200s%s", e->name, is ? ": its content differs" : " is missing");
        return false;
    }
    return true;
}

static void on_compared(void *ctx, int status, const struct err *e)
{
    struct backup_run *r = ctx;
    struct backup_source *x = r->x;
    char differs[300];
    r->work = NULL;
    if (status != 0) {
        backup_fail(r, false, "the copy could not be read back: %.400s", e->text);
        return;
    }
    backup_list_unref(r->back);
    r->back = backup_list_ref(r->job->is);
    if (r->tries >= TRIES) {
        backup_note(r,
                    "saved while it was written to: what was read back is whole, but which moment it is of cannot be "
                    "proven. Let its writer rest for a while, or save a copy of it");
        r->out.verified = false;
    } else if (as_saved(r, differs, sizeof differs)) {
        if (x->reread)
            x->reread = false;
        if (r->n_wanted == 0 && strcmp(r->list->sum.meta, r->back->sum.meta) != 0)
            backup_note(
                r, "the contents are the same, but owners, modes, times or attributes are not: restoring needs the "
                   "rights of the files' owner");
    } else {
        /* Either restic took a file for unchanged that was not, which reading all of them cures; or it does not come back as it went in. */
        r->out.damaged = x->reread;
        r->out.verified = false;
        x->reread = true;
        backup_fail(r, false, "snapshot %.8s is not what was saved: %.250s. It is saved again, reading every file",
                    r->snapshot, differs);
        return;
    }
    backup_next(r);
}

static void step_compare(struct backup_run *r)
{
    struct backup_job *j = backup_job(r, r->paths, r->n_paths, r->scratch);
    j->create = true; /* nothing of a directory may be among what is looked at */
    backup_list_later(r, j, on_compared);
}

static void on_verified(void *ctx, int status, const struct err *e)
{
    struct backup_run *r = ctx;
    r->work = NULL;
    if (status != 0)
        backup_fail(r, false, "the copy holds what was there, but that is not good: %.400s", e->text);
    else
        backup_next(r);
}

static void step_verify(struct backup_run *r)
{
    if (!r->x->kind->verify || r->n_wanted > 0 || !r->out.verified) {
        backup_next(r);
        return;
    }
    struct backup_job *j = backup_job(r, r->paths, r->n_paths, r->scratch);
    j->verify = r->x->kind->verify;
    backup_verify_later(r, j, on_verified);
}

const backup_step backup_save_steps[] = {
    backup_step_clean, step_make,    step_hash,   step_repository,   backup_step_snapshots, step_save, step_quiet,
    step_read_back,    step_compare, step_verify, backup_step_clean, backup_step_end,       NULL};
