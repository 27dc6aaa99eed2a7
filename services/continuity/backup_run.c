/* backup_run.c - one thing that is done for a source, as a row of steps; and the steps that several have. */
#include "common/clock.h"
#include "common/utf8.h"
#include "continuity/backup_impl.h"
#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <unistd.h>

static const backup_step failed_steps[] = {backup_step_clean, backup_step_end, NULL};
static const backup_step *const rows[BACKUP_ACTS] = {[BACKUP_SAVE] = backup_save_steps,
                                                     [BACKUP_TEST] = backup_test_steps,
                                                     [BACKUP_CHECK] = backup_check_steps,
                                                     [BACKUP_READ] = backup_read_steps,
                                                     [BACKUP_FORGET] = backup_forget_steps};

/* ---- going on ---- */

void backup_next(struct backup_run *r)
{
    backup_step step = r->steps[r->at++];
    assert(step && "every row of steps has an end");
    step(r);
}

/* Names of files may hold anything; what is said is UTF-8 in one line. */
static void clean(char *text)
{
    size_t left = strlen(text);
    for (char *s = text; left > 0;) {
        uint32_t code = 0;
        size_t n = utf8_next(s, left, &code);
        if (n == 0 || code < 0x20 || code == 0x7f || (code >= 0x80 && code < 0xa0)) {
            n = n > 0 ? n : 1;
            memset(s, '?', n);
        }
        s += n;
        left -= n;
    }
}

void backup_fail(struct backup_run *r, bool lasting, const char *fmt, ...)
{
    if (r->failed) { /* while it is tidied up: the first reason stays */
        backup_next(r);
        return;
    }
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(r->text, sizeof r->text, fmt, ap);
    va_end(ap);
    clean(r->text);
    r->failed = true;
    r->out.lasting = lasting;
    r->steps = failed_steps;
    r->at = 0;
    backup_next(r);
}

void backup_note(struct backup_run *r, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(r->text, sizeof r->text, fmt, ap);
    va_end(ap);
    clean(r->text);
    r->noted = true;
}

static void begin(void *ctx)
{
    backup_next(ctx);
}

void backup_begin(struct backup_source *x, enum backup_act act)
{
    const char *program = getenv("REDOUBT_RESTIC");
    struct backup_run *r = calloc(1, sizeof *r);
    assert(r && "out of memory for a run");
    r->x = x;
    r->act = act;
    r->steps = rows[act];
    r->began_ms = continuity_now_ms(x->b->c);
    r->mono_ms = clock_mono_ms();
    r->out.point_ms = r->began_ms;
    r->out.force = act == BACKUP_SAVE && x->force;
    r->restic = (struct restic){.loop = &continuity_service_of(x->b->c)->loop,
                                .where = x->where,
                                .repository = x->set->to.repository,
                                .password_file = x->set->to.password_file,
                                .env = &x->set->to.env};
    snprintf(r->restic.program, sizeof r->restic.program, "%s", program && *program ? program : RESTIC_PROGRAM);
    snprintf(r->restic.dir, sizeof r->restic.dir, "%s", x->b->restic);
    snprintf(r->stage, sizeof r->stage, "%s/" TREE_OURS "%.64s", x->b->staging, x->set->name);
    snprintf(r->scratch, sizeof r->scratch, "%s/" TREE_OURS "%.64s", x->b->scratch, x->set->name);
    loop_timer_init(r->restic.loop, &r->timer, begin, r);
    loop_timer_start(&r->timer, 0, 0);
    x->run = r;
}

static void run_free(void *ctx)
{
    struct backup_run *r = ctx;
    backup_list_unref(r->list);
    backup_list_unref(r->back);
    free(r->remove);
    free(r);
}

void backup_drop(struct backup_run *r)
{
    if (!r)
        return;
    r->x->run = NULL;
    restic_drop(r->running);
    work_drop(r->work);
    if (r->making)
        r->x->kind->cancel(r->making);
    loop_timer_close(&r->timer, run_free);
}

void backup_step_end(struct backup_run *r)
{
    r->out.ok = !r->failed;
    backups_ended(r);
    r->x->run = NULL;
    loop_timer_close(&r->timer, run_free);
}

/* ---- restic ---- */

void backup_restic(struct backup_run *r, const char *const *args, restic_cb cb)
{
    r->running = restic_run(&r->restic, args, r->x->set->timeout_ms, cb, r);
}

void backup_fail_restic(struct backup_run *r, const struct restic_result *said, const char *what)
{
    r->out.damaged = r->out.damaged || said->fault == RESTIC_DAMAGED;
    r->out.gone = r->out.gone || said->fault == RESTIC_GONE;
    if (said->fault == RESTIC_DAMAGED) { /* what was proven may be what is damaged */
        backup_list_unref(r->x->proven);
        r->x->proven = NULL;
    }
    backup_fail(r, said->lasting, "%s%.480s", what, said->text);
}

void backup_step_ended(struct backup_run *r, const struct restic_result *said, const char *what)
{
    r->running = NULL;
    if (said->ok)
        backup_next(r);
    else
        backup_fail_restic(r, said, what);
}

static bool same_id(const char *id, const char *asked)
{
    return strlen(asked) >= 8 && strncmp(id, asked, strlen(asked)) == 0;
}

static bool on_snapshot(void *ctx, const struct restic_snapshot *s)
{
    struct backup_run *r = ctx;
    const struct backup_source *x = r->x;
    r->snapshots++;
    if (!same_id(s->id, x->verified) && !same_id(s->original, x->verified))
        return true;
    const json_t *path;
    size_t i;
    r->is_found = true;
    r->found = *s;
    r->found.paths = NULL;
    json_array_foreach(s->paths, i, path) if (json_is_string(path) && r->n_was < BACKUP_PATHS)
        snprintf(r->was[r->n_was++].real, PATH_MAX, "%s", json_string_value(path));
    return true;
}

static void on_list(void *ctx, const struct restic_result *said)
{
    struct backup_run *r = ctx;
    r->running = NULL;
    if (!said->ok) {
        backup_fail_restic(r, said, "");
        return;
    }
    json_t *answer = json_loadb(said->out, said->out_len, 0, NULL);
    bool ok = restic_snapshots(answer, on_snapshot, r);
    json_decref(answer);
    if (!ok) {
        backup_fail(r, false, "restic's list of snapshots cannot be read: %.100s", said->out);
        return;
    }
    r->out.gone = r->x->plan.point_ms > 0 && !r->is_found;
    if (r->out.gone) {
        backup_list_unref(r->x->proven);
        r->x->proven = NULL;
    }
    backup_next(r);
}

void backup_step_snapshots(struct backup_run *r)
{
    char tag[128];
    snprintf(tag, sizeof tag, "--tag=redoubt,source=%s", r->x->set->name);
    r->snapshots = 0;
    r->is_found = false;
    r->n_was = 0;
    backup_restic(r, (const char *const[]){"snapshots", "--json", "--no-lock", "--host=" BACKUP_HOST, tag, NULL},
                  on_list);
}

/* ---- work on a thread ---- */

static void job_free(void *p)
{
    struct backup_job *j = p;
    backup_list_unref(j->was);
    backup_list_unref(j->is);
    free(j);
}

struct backup_job *backup_job(struct backup_run *r, const struct backup_path *paths, size_t n, const char *below)
{
    struct backup_job *j = calloc(1, sizeof *j);
    assert(j && "out of memory for some work");
    j->r = r;
    j->n = n;
    for (size_t i = 0; i < n; i++)
        snprintf(j->path[i].real, PATH_MAX, "%s%.3400s", below, paths[i].real);
    return j;
}

static int make_dirs(const char *path, struct err *e)
{
    char at[PATH_MAX];
    snprintf(at, sizeof at, "%s", path);
    for (char *slash = strchr(at + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        (void)mkdir(at, 0700);
        *slash = '/';
    }
    return mkdir(at, 0700) != 0 && errno != EEXIST ? err_set(e, "%.300s: %s", at, strerror(errno)) : 0;
}

static int do_list(void *arg, const atomic_bool *stop, struct err *e)
{
    struct backup_job *j = arg;
    const char *roots[BACKUP_PATHS];
    for (size_t i = 0; i < j->n; i++) {
        roots[i] = j->path[i].real;
        if (j->create && make_dirs(roots[i], e))
            return -1;
    }
    j->is = backup_list_of(roots, j->n, j->was, j->links, j->moving, stop, e);
    return j->is ? 0 : -1;
}

static int do_verify(void *arg, const atomic_bool *stop, struct err *e)
{
    struct backup_job *j = arg;
    for (size_t i = 0; i < j->n; i++)
        if (j->verify(j->path[i].real, stop, e))
            return -1;
    return 0;
}

static void start_job(struct backup_run *r, struct backup_job *j, work_fn fn, work_cb cb)
{
    r->job = j;
    r->work = work_start(r->restic.loop, fn, j, job_free, cb, r);
}

void backup_list_later(struct backup_run *r, struct backup_job *j, work_cb cb)
{
    start_job(r, j, do_list, cb);
}

void backup_verify_later(struct backup_run *r, struct backup_job *j, work_cb cb)
{
    start_job(r, j, do_verify, cb);
}

/* ---- room, and tidying up ---- */

bool backup_room_ok(struct backup_run *r, const char *path, uint64_t bytes, const char *what)
{
    struct statvfs v;
    uint64_t need = bytes + bytes / 20 + 1024 * 1024;
    if (statvfs(path, &v) != 0 || (uint64_t)v.f_bavail * v.f_frsize >= need)
        return true;
    backup_fail(r, true, "%s needs %" PRIu64 " MiB at %.200s, where %" PRIu64 " MiB are free. Make room there", what,
                need >> 20, path, (uint64_t)v.f_bavail * v.f_frsize >> 20);
    return false;
}

static int do_clean(void *arg, const atomic_bool *stop, struct err *e)
{
    struct backup_job *j = arg;
    (void)stop;
    for (size_t i = 0; i < j->n; i++)
        if (tree_remove(j->path[i].real, false, e))
            return -1;
    return 0;
}

static void on_clean(void *ctx, int status, const struct err *e)
{
    struct backup_run *r = ctx;
    r->work = NULL;
    if (status != 0)
        backup_fail(r, false, "%.400s", e->text);
    else
        backup_next(r);
}

void backup_step_clean(struct backup_run *r)
{
    struct backup_path both[2] = {0};
    snprintf(both[0].real, sizeof both[0].real, "%s", r->scratch);
    snprintf(both[1].real, sizeof both[1].real, "%s", r->stage);
    start_job(r, backup_job(r, both, 2, ""), do_clean, on_clean);
}

struct sweep {
    char dirs[2][512];
};

static int do_sweep(void *arg, const atomic_bool *stop, struct err *e)
{
    const struct sweep *s = arg;
    int bad = 0;
    for (size_t i = 0; i < 2; i++) {
        DIR *d = opendir(s->dirs[i]);
        for (struct dirent *x; d && !bad && !atomic_load(stop) && (x = readdir(d));) {
            char path[PATH_MAX];
            snprintf(path, sizeof path, "%s/%s", s->dirs[i], x->d_name);
            if (strncmp(x->d_name, TREE_OURS, strlen(TREE_OURS)) == 0)
                bad = tree_remove(path, false, e);
        }
        if (d)
            closedir(d);
    }
    return bad;
}

struct work *backups_clean_later(struct backups *b, work_cb cb)
{
    struct sweep *s = calloc(1, sizeof *s);
    assert(s && "out of memory for some work");
    snprintf(s->dirs[0], sizeof s->dirs[0], "%s", b->staging);
    snprintf(s->dirs[1], sizeof s->dirs[1], "%s", b->scratch);
    return work_start(&continuity_service_of(b->c)->loop, do_sweep, s, free, cb, b);
}
