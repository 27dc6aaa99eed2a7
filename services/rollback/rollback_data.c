/* rollback_data.c - the learning data of a deployment: operations, one at a time, each a row of steps.
 *
 * A step ends with data_next() or data_fail(). What fails has the writer go on first, and leaves nothing behind but what a later try goes on from. */
#include "common/log.h"
#include "common/utf8.h"
#include "rollback/data_impl.h"
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define FIND_MS 60000 /* what is more urgent waits behind it */

static const data_step failed_steps[] = {step_resume, step_clean, data_end, NULL};

/* ---- going on ---- */

static void on_later(void *ctx)
{
    struct data_op *o = ctx;
    loop_cb later = o->later;
    o->later = NULL;
    if (later)
        later(o);
}

static void put_off(struct data_op *o, loop_cb fn, int64_t after_ms)
{
    o->later = fn;
    loop_timer_start(&o->limit, after_ms, 0);
}

void data_next(struct data_op *o)
{
    data_step step = o->steps[o->at++];
    assert(step && "every row of steps ends with data_end");
    if (step != data_end && !o->failed && (o->late || o->d->stopping))
        data_fail(o, false, "it was cut short");
    else
        step(o);
}

/* The bus's answer finds nobody. */
static void stop_asking(struct data_op *o)
{
    if (o->asking)
        *o->asking = NULL;
    o->asking = NULL;
}

void data_fail(struct data_op *o, bool lasting, const char *fmt, ...)
{
    char text[ERR_TEXT_MAX];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    if (o->failed) { /* while it is tidied up: said as well, and on */
        size_t n = strlen(o->text);
        snprintf(o->text + n, sizeof o->text - n, "; %s", text);
        data_next(o);
        return;
    }
    stop_asking(o);
    o->failed = true;
    if (o->d->stopping)
        snprintf(o->text, sizeof o->text, "the service ends: what was begun is done anew by whoever takes over");
    else if (o->late)
        snprintf(o->text, sizeof o->text,
                 "the writer was paused for longer than data.pause_limit (%" PRId64
                 " ms): nothing was saved. Raise the limit",
                 o->d->set->data.pause_limit_ms);
    else
        snprintf(o->text, sizeof o->text, "%s", text);
    o->lasting = lasting && !o->d->stopping;
    o->steps = failed_steps;
    o->at = 0;
    data_next(o);
}

void data_warn(struct data_op *o, const char *fmt, ...)
{
    size_t n = strlen(o->warning);
    va_list ap;
    if (n > 0 && n + 2 < sizeof o->warning) {
        memcpy(o->warning + n, "; ", 3);
        n += 2;
    }
    va_start(ap, fmt);
    vsnprintf(o->warning + n, sizeof o->warning - n, fmt, ap);
    va_end(ap);
}

void data_restic(struct data_op *o, const char *const *args, int64_t timeout_ms, restic_cb cb)
{
    o->restic = restic_run(&o->d->restic, args, timeout_ms, cb, o);
}

void data_work(struct data_op *o, work_fn fn, void *arg, work_cb cb)
{
    o->work = work_start(&o->d->s->loop, fn, arg, free, cb, o);
}

void data_worked(void *ctx, int status, const struct err *e)
{
    struct data_op *o = ctx;
    o->work = NULL;
    if (status != 0)
        data_fail(o, false, "%s", e->text);
    else
        data_next(o);
}

/* ---- operations, one after the other ---- */

static void op_free(void *ctx)
{
    struct data_op *o = ctx;
    for (size_t i = 0; i < o->n; i++)
        free(o->addresses[i]);
    free(o->addresses);
    free(o->wanted);
    if (o->manifest)
        fclose(o->manifest);
    free(o);
}

static void begin(void *ctx)
{
    data_next(ctx);
}

/* Names of files may hold anything; what is said is UTF-8 in one line. */
static char *clean(char *text)
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
    return text;
}

void data_end(struct data_op *o)
{
    struct data *d = o->d;
    struct data_result r = {.ok = !o->failed,
                            .lasting = o->lasting,
                            .text = clean(o->failed ? o->text : o->warning),
                            .lineage = o->lineage,
                            .paused = o->paused,
                            .there = o->there};
    loop_timer_stop(&o->limit);
    d->first = o->next;
    if (!d->first)
        d->last = NULL;
    else if (!d->stopping)
        put_off(d->first, begin, 0);
    data_cb cb = o->cb;
    void *ctx = o->ctx;
    loop_cb stopped = d->stopping ? d->stopped : NULL;
    void *stopped_ctx = d->stopped_ctx;
    loop_timer_close(&o->limit, op_free);
    cb(ctx, &r); /* which may close d */
    if (stopped)
        stopped(stopped_ctx);
}

static struct data_op *op_new(struct data *d, const data_step *steps, const char *job, char const *const *addresses,
                              size_t n, data_cb cb, void *ctx)
{
    struct data_op *o = calloc(1, sizeof *o);
    char **copy = calloc(n + 1, sizeof *copy);
    assert(o && copy && "out of memory for an operation");
    *o = (struct data_op){.d = d, .steps = steps, .addresses = copy, .n = n, .cb = cb, .ctx = ctx};
    for (size_t i = 0; i < n; i++) {
        copy[i] = strdup(addresses[i]);
        assert(copy[i] && "out of memory for an operation");
    }
    snprintf(o->job, sizeof o->job, "%s", job);
    loop_timer_init(&d->s->loop, &o->limit, on_later, o);
    if (d->last)
        d->last->next = o;
    else
        d->first = o;
    d->last = o;
    if (d->first == o && !d->stopping)
        put_off(o, begin, 0);
    return o;
}

/* What is in hand ends now, one way or the other. */
static void cut_short(struct data_op *o)
{
    restic_cancel(o->restic);
    work_cancel(o->work);
    if (o->pausing && !o->resuming) { /* nobody is known to have paused: all are asked to go on */
        pausing_cancel(o->pausing);
        o->pausing = NULL;
        data_fail(o, false, "the writer did not pause in time");
    }
}

/* ---- steps ---- */

/* One that is not there now: below its directory, as that really is called. */
static void restored_path(const char *path, char real[static PATH_MAX])
{
    char dir[PATH_MAX], found[PATH_MAX];
    snprintf(dir, sizeof dir, "%s", path);
    size_t n = strlen(dir);
    while (n > 1 && dir[n - 1] == '/')
        dir[--n] = '\0';
    char *slash = strrchr(dir, '/');
    snprintf(real, PATH_MAX, "%s", dir);
    if (!slash || slash == dir)
        return;
    *slash = '\0';
    if (realpath(dir, found))
        snprintf(real, PATH_MAX, "%.3800s/%.255s", found, slash + 1);
}

void step_paths(struct data_op *o)
{
    const struct conf_list *paths = &o->d->set->data.path;
    o->n_paths = 0;
    for (size_t i = 0; i < paths->n && i < DATA_PATHS; i++) {
        const char *path = *CONF_AT(*paths, char *, i);
        struct data_path *p = &o->paths[o->n_paths];
        struct stat st;
        if (o->steps == data_restore_steps && !realpath(path, p->real) && errno == ENOENT) {
            restored_path(path, p->real); /* it comes back */
            o->n_paths++;
            continue;
        }
        if (!realpath(path, p->real) || stat(p->real, &st) != 0) {
            data_fail(o, true, "data.path %s: %s. Create it, or give the path as this service sees it", path,
                      strerror(errno));
            return;
        }
        if (!S_ISDIR(st.st_mode) || !p->real[1]) {
            data_fail(o, true, "data.path %s is not a directory that can be saved", path);
            return;
        }
        for (size_t k = 0; k < o->n_paths; k++) {
            size_t a = strlen(p->real), b = strlen(o->paths[k].real), n = a < b ? a : b;
            const char *longer = a < b ? o->paths[k].real : p->real;
            if (memcmp(p->real, o->paths[k].real, n) == 0 && (a == b || longer[n] == '/')) {
                data_fail(o, true, "data.path %s lies within %s: give only the outer one", p->real, o->paths[k].real);
                return;
            }
        }
        o->n_paths++;
    }
    data_next(o);
}

FILE *data_list(const struct data *d)
{
    int fd = open(d->restic.dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    FILE *f = fd >= 0 ? fdopen(fd, "w+") : NULL;
    if (!f && fd >= 0)
        close(fd);
    return f ? f : tmpfile();
}

FILE *data_list_again(FILE *f)
{
    int fd = f ? fcntl(fileno(f), F_DUPFD_CLOEXEC, 0) : -1;
    FILE *again = fd >= 0 ? fdopen(fd, "w+") : NULL;
    if (!again && fd >= 0)
        close(fd);
    return again;
}

static int hash(void *arg, const atomic_bool *stop, struct err *e)
{
    struct hashing *h = arg;
    const char *roots[DATA_PATHS];
    for (size_t i = 0; i < h->n; i++)
        roots[i] = h->path[i];
    const struct tree_opts o = {.manifest = h->manifest, .stop = stop, .moving = h->moving, .dig = h->dig};
    if (tree_sum(roots, h->n, &o, &h->sum, e))
        return -1;
    if (h->was && h->manifest) {
        rewind(h->was);
        rewind(h->manifest);
        (void)tree_differs(h->was, h->manifest, false, h->differs, sizeof h->differs);
    }
    return 0;
}

static void hashing_free(void *p)
{
    struct hashing *h = p;
    if (h->manifest)
        fclose(h->manifest);
    if (h->was)
        fclose(h->was);
    free(h);
}

struct hashing *hashing_new(const struct data_op *o, const char *below)
{
    struct hashing *h = calloc(1, sizeof *h);
    assert(h && "out of memory for some work");
    h->n = o->n_paths;
    for (size_t i = 0; i < h->n; i++)
        snprintf(h->path[i], PATH_MAX, "%s%.3500s", below, o->paths[i].real);
    return h;
}

void data_hash(struct data_op *o, struct hashing *h, work_cb cb)
{
    o->hashing = h;
    o->work = work_start(&o->d->s->loop, hash, h, hashing_free, cb, o);
}

static void on_limit(void *ctx)
{
    struct data_op *o = ctx;
    o->late = true;
    cut_short(o);
}

static void on_paused(void *ctx, bool ok, const char *text)
{
    struct data_op *o = ctx;
    o->pausing = NULL;
    if (!ok && o->n == 0) {
        /* No instance is well: what cannot be asked does not write, or the comparison shows that it did. */
        data_warn(o, "no instance is ready, and %.200s", text);
        o->paused = false;
        ok = true;
    }
    if (ok)
        data_next(o);
    else
        data_fail(o, false, "%s", text);
}

void step_pause(struct data_op *o)
{
    const struct set_rb_data *set = &o->d->set->data;
    if (!pausing_asks(set, o->n)) {
        data_next(o);
        return;
    }
    o->paused = true; /* from here on it may be */
    put_off(o, on_limit, set->pause_limit_ms);
    o->pausing = pausing_start(o->d, false, o->addresses, o->n, on_paused, o);
}

void step_unlimited(struct data_op *o)
{
    loop_timer_stop(&o->limit);
    o->later = NULL;
    if (o->late)
        data_fail(o, false, "too late");
    else
        data_next(o);
}

static void on_resumed(void *ctx, bool ok, const char *text)
{
    struct data_op *o = ctx;
    o->pausing = NULL;
    o->resuming = false;
    if (ok) {
        o->paused = false;
        data_next(o);
        return;
    }
    log_error("a writer of learning data stays paused", F_STR("deployment", o->d->set->name), F_STR("why", text));
    data_fail(o, false, "%s: it is paused still", text);
}

void step_resume(struct data_op *o)
{
    loop_timer_stop(&o->limit);
    o->later = NULL;
    /* Data that are half replaced must not be written to; what is paused on purpose stays so unless the operation has failed. */
    if (!o->paused || o->half || (o->stay_paused && !o->failed)) {
        data_next(o);
        return;
    }
    o->resuming = true;
    o->pausing = pausing_start(o->d, true, o->addresses, o->n, on_resumed, o);
}

/* ---- the list of snapshots ---- */

static bool paths_fit(const struct data_op *o, const json_t *paths)
{
    for (size_t i = 0; i < o->n_paths; i++) {
        const json_t *path;
        size_t k;
        bool found = false;
        json_array_foreach(paths, k, path) found |=
            json_is_string(path) && strcmp(json_string_value(path), o->paths[i].real) == 0;
        if (!found)
            return false;
    }
    return json_array_size(paths) == o->n_paths;
}

static bool same_id(const char *id, const char *asked)
{
    return strlen(asked) >= 8 && strncmp(id, asked, strlen(asked)) == 0;
}

static bool on_snapshot(void *ctx, const struct restic_snapshot *s)
{
    struct data_op *o = ctx;
    for (size_t i = 0; i < o->n_wanted; i++)
        if (same_id(s->id, o->wanted[i]) || same_id(s->original, o->wanted[i]))
            o->there |= UINT32_C(1) << i;
    bool wanted = *o->snapshot ? same_id(s->id, o->snapshot) || same_id(s->original, o->snapshot)
                               : *o->job && strcmp(s->job, o->job) == 0 && strcmp(s->version, o->version) == 0;
    if (wanted) {
        o->found = *s;
        o->found.paths = NULL;
        o->is_found = true;
        o->paths_fit = paths_fit(o, s->paths);
    } else if (paths_fit(o, s->paths)) { /* oldest first: the last one stays */
        o->last = s->sum;
        o->is_last = true;
    }
    return true;
}

static void on_list(void *ctx, const struct restic_result *r)
{
    struct data_op *o = ctx;
    o->restic = NULL;
    if (!r->ok) {
        data_fail(o, r->lasting, "%s", r->text);
        return;
    }
    json_t *answer = json_loadb(r->out, r->out_len, 0, NULL);
    bool ok = restic_snapshots(answer, on_snapshot, o);
    json_decref(answer);
    if (ok)
        data_next(o);
    else
        data_fail(o, false, "restic's list of snapshots cannot be read: %.100s", r->out);
}

void step_list(struct data_op *o)
{
    char host[NAME_MAX_LEN + 16];
    snprintf(host, sizeof host, "--host=%s", o->d->set->name);
    o->is_found = o->is_last = false;
    data_restic(o, (const char *const[]){"snapshots", "--json", "--no-lock", "--tag=redoubt", host, NULL},
                o->n_wanted > 0 && o->d->set->data.timeout_ms > FIND_MS ? FIND_MS : o->d->set->data.timeout_ms,
                on_list);
}

/* ---- the scratch directory ---- */

struct clean {
    char path[512];
};

static int clean_up(void *arg, const atomic_bool *stop, struct err *e)
{
    const struct clean *c = arg;
    (void)stop;
    return tree_remove(c->path, false, e);
}

void step_clean(struct data_op *o)
{
    struct clean *c = calloc(1, sizeof *c);
    assert(c && "out of memory for a path");
    snprintf(c->path, sizeof c->path, "%s", o->d->scratch);
    data_work(o, clean_up, c, data_worked);
}

/* ---- resume and keep ---- */

static void resume_now(struct data_op *o)
{
    const struct set_rb_data *set = &o->d->set->data;
    o->paused = pausing_asks(set, o->n);
    step_resume(o);
}
static const data_step resume_steps[] = {resume_now, data_end, NULL};

static void on_tagged(void *ctx, const struct restic_result *r)
{
    struct data_op *o = ctx;
    o->restic = NULL;
    if (r->ok)
        data_next(o);
    else
        data_fail(o, r->lasting, "%s", r->text);
}

static void keep_tag(struct data_op *o)
{
    if (!o->is_found && o->keep)
        data_fail(o, true, "there is no snapshot %s any more: it cannot be kept", o->snapshot);
    else if (!o->is_found || o->found.kept == o->keep)
        data_next(o);
    else
        data_restic(o,
                    (const char *const[]){"tag", o->keep ? "--add=" RESTIC_KEEP_TAG : "--remove=" RESTIC_KEEP_TAG,
                                          o->found.id, NULL},
                    o->d->set->data.timeout_ms, on_tagged);
}
static const data_step keep_steps[] = {step_list, keep_tag, data_end, NULL};

static const data_step find_steps[] = {step_list, data_end, NULL};

/* ---- what others call ---- */

bool data_has(const struct set_deployment *set)
{
    return set->data.repository && *set->data.repository;
}

struct data *data_open(struct service *s, const struct set_deployment *set, struct err *e)
{
    const char *program = getenv("REDOUBT_RESTIC");
    if (set->data.path.n > DATA_PATHS) {
        err_set(e, "deployment %s: data.path has %zu directories; up to %d are saved", set->name, set->data.path.n,
                DATA_PATHS);
        return NULL;
    }
    if (pausing_check(s, set, e))
        return NULL;
    struct data *d = calloc(1, sizeof *d);
    if (!d) {
        err_set(e, "out of memory");
        return NULL;
    }
    *d = (struct data){.s = s,
                       .set = set,
                       .restic = {.loop = &s->loop,
                                  .where = "data",
                                  .repository = set->data.repository,
                                  .password_file = set->data.password_file,
                                  .env = &set->data.env}};
    snprintf(d->restic.program, sizeof d->restic.program, "%s", program && *program ? program : RESTIC_PROGRAM);
    snprintf(d->restic.dir, sizeof d->restic.dir, "%.400s/data", s->replica.dir);
    /* While settings are only looked at, before the replica has its directory, nothing is made. */
    if (*s->replica.dir && mkdir(d->restic.dir, 0700) != 0 && errno != EEXIST) {
        err_set(e, "%s cannot be made: %s", d->restic.dir, strerror(errno));
        free(d);
        return NULL;
    }
    snprintf(d->scratch, sizeof d->scratch, "%.400s/data/" TREE_OURS "%.64s", s->replica.dir, set->name);
    return d;
}

void data_close(struct data *d)
{
    for (struct data_op *o = d ? d->first : NULL, *next; o; o = next) {
        next = o->next;
        restic_drop(o->restic);
        work_drop(o->work);
        stop_asking(o);
        pausing_cancel(o->pausing);
        if (o->paused && !o->half && o == d->first)
            pausing_let_go(d, o->addresses, o->n);
        loop_timer_close(&o->limit, op_free);
    }
    free(d);
}

void data_stop(struct data *d, loop_cb done, void *ctx)
{
    d->stopping = true;
    d->stopped = done;
    d->stopped_ctx = ctx;
    struct data_op *o = d->first;
    if (!o) {
        d->stopped = NULL;
        loop_defer(&d->s->loop, done, ctx);
        return;
    }
    if (o->restic || o->work || o->pausing)
        cut_short(o);
    else if (!o->failed)
        data_fail(o, false, "the service ends"); /* it has not begun */
}

void data_check(struct data *d, data_cb cb, void *ctx)
{
    op_new(d, data_check_steps, "", NULL, 0, cb, ctx);
}

void data_save(struct data *d, const char *job, const char *version, const char *why, bool stay_paused,
               const char *const *addresses, size_t n, data_cb cb, void *ctx)
{
    struct data_op *o = op_new(d, data_save_steps, job, addresses, n, cb, ctx);
    o->stay_paused = stay_paused;
    snprintf(o->version, sizeof o->version, "%s", version);
    snprintf(o->why, sizeof o->why, "%s", why);
}

void data_restore(struct data *d, const char *job, const char *snapshot, const char *const *addresses, size_t n,
                  data_cb cb, void *ctx)
{
    struct data_op *o = op_new(d, data_restore_steps, job, addresses, n, cb, ctx);
    o->stay_paused = true;
    o->paused = pausing_asks(&d->set->data, n); /* by the save before it: if this fails, it goes on */
    snprintf(o->snapshot, sizeof o->snapshot, "%s", snapshot);
}

void data_resume(struct data *d, const char *const *addresses, size_t n, data_cb cb, void *ctx)
{
    op_new(d, resume_steps, "", addresses, n, cb, ctx);
}

void data_keep(struct data *d, const char *snapshot, bool keep, data_cb cb, void *ctx)
{
    struct data_op *o = op_new(d, keep_steps, "", NULL, 0, cb, ctx);
    o->keep = keep;
    snprintf(o->snapshot, sizeof o->snapshot, "%s", snapshot);
}

void data_find(struct data *d, const char *const *snapshots, size_t n, data_cb cb, void *ctx)
{
    struct data_op *o = op_new(d, find_steps, "", NULL, 0, cb, ctx);
    o->wanted = calloc(n + 1, sizeof *o->wanted);
    assert(o->wanted && n <= 32 && "out of memory for an operation");
    for (size_t i = 0; i < n; i++)
        snprintf(o->wanted[i], sizeof o->wanted[i], "%s", snapshots[i]);
    o->n_wanted = n;
}
