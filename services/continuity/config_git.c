/* config_git.c - a bare git repository of accepted configurations, by the program git. */
#include "continuity/config_git.h"
#include "common/program.h"
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define BRANCH     "refs/heads/main"
#define LIMIT_MS   60000
#define OUT_MAX    (17u << 20) /* a file of 16 MiB, and what stands around it */
#define ARGS_MAX   24
#define STALE_S    60 /* a lock of git that is so old is one that a kill has left: there is one writer */
#define NAME_MIN   4
#define IDENT_SIZE 129

struct op {
    struct config_git *g;
    struct op *prev, *next;
    struct program *p;
    config_git_done done;
    void *ctx;
    bool diff;              /* an end with 1 is an answer as well; titles take the place of the first lines */
    char *title, *files[2]; /* removed at the end */
    const char *deferred;   /* why it fails, which is said later; NULL = it runs */
    bool closed;            /* and the whole was closed before that */
};
struct config_git {
    struct loop *loop;
    char git[256], dir[512];
    char dir_option[600], home[600], safe[600];
    struct op *ops;
    unsigned long numbers;
};

static const char *const places[] = {"/usr/bin/git", "/usr/local/bin/git", "/bin/git"};

static void remove_stale(const struct config_git *g, const char *name)
{
    char path[600];
    struct stat st;
    snprintf(path, sizeof path, "%s/%s", g->dir, name);
    if (stat(path, &st) == 0 && time(NULL) - st.st_mtime > STALE_S)
        (void)unlink(path);
}

struct config_git *config_git_open(struct loop *l, const char *dir, struct err *e)
{
    char why[300] = "it is not installed";
    struct config_git *g = calloc(1, sizeof *g);
    if (!g || strlen(dir) >= sizeof g->dir) {
        free(g);
        (void)err_set(e, g ? "%s: the path is too long" : "out of memory", dir);
        return NULL;
    }
    for (size_t i = 0; i < sizeof places / sizeof places[0] && !*g->git; i++)
        if (access(places[i], X_OK) == 0 && program_ok(places[i], why, sizeof why))
            snprintf(g->git, sizeof g->git, "%s", places[i]);
    if (!*g->git) {
        (void)err_set(e, "the program git cannot be used: %s; install the package git", why);
    } else if (mkdir(dir, 0700) && errno != EEXIST) {
        (void)err_set(e, "%s cannot be made: %s; make it, or set continuity.config.dir", dir, strerror(errno));
    } else {
        g->loop = l;
        snprintf(g->dir, sizeof g->dir, "%s", dir);
        snprintf(g->dir_option, sizeof g->dir_option, "--git-dir=%s", dir);
        snprintf(g->home, sizeof g->home, "HOME=%s", dir);
        snprintf(g->safe, sizeof g->safe, "safe.directory=%s", dir);
        remove_stale(g, BRANCH ".lock");
        remove_stale(g, "packed-refs.lock");
        return g;
    }
    free(g);
    return NULL;
}

/* ---- one run ---- */

/* Out of the list, with what it has made. */
static void op_leave(struct op *o)
{
    if (o->prev)
        o->prev->next = o->next;
    else
        o->g->ops = o->next;
    if (o->next)
        o->next->prev = o->prev;
    for (size_t i = 0; i < 2; i++) {
        if (o->files[i])
            (void)unlink(o->files[i]);
        free(o->files[i]);
    }
    free(o->title);
}

static void tell(struct op *o, bool ok, const char *error, const char *out, size_t len)
{
    const struct config_git_result r = {.ok = ok, .error = error, .out = out, .len = len};
    o->done(o->ctx, &r);
    op_leave(o);
    free(o);
}

/* What git says of two files of ours, under the titles that people know. */
static void tell_diff(struct op *o, const struct program_result *r)
{
    const char *from = strstr(r->out, "\n@@");
    if (!from) {
        tell(o, true, "", "", 0);
        return;
    }
    char *text = NULL;
    int n = asprintf(&text, "%s%s", o->title, from + 1);
    if (n < 0)
        tell(o, false, "out of memory", "", 0);
    else
        tell(o, true, "", text, (size_t)n);
    if (n >= 0)
        free(text);
}

static void on_end(void *ctx, const struct program_result *r)
{
    struct op *o = ctx;
    char why[600];
    o->p = NULL;
    bool ok = r->end == PROGRAM_EXITED && (r->code == 0 || (o->diff && r->code == 1));
    if (!ok) {
        snprintf(why, sizeof why, "git in %s: %s", o->g->dir, r->text);
        tell(o, false, why, "", 0);
    } else if (o->diff) {
        tell_diff(o, r);
    } else {
        tell(o, true, "", r->out, r->out_len);
    }
}

static void on_deferred(void *ctx)
{
    struct op *o = ctx;
    if (o->closed)
        free(o);
    else
        tell(o, false, o->deferred, "", 0);
}

static void fail_later(struct op *o, const char *why)
{
    o->deferred = why;
    loop_defer(o->g->loop, on_deferred, o);
}

/* A run of git with these arguments, behind those that keep everything else away from it. */
static void run(struct op *o, const void *input, size_t len, const char *const *args)
{
    struct config_git *g = o->g;
    const char *argv[ARGS_MAX + 16] = {g->git,
                                       "-c",
                                       g->safe,
                                       "-c",
                                       "core.fsync=all",
                                       "-c",
                                       "core.hooksPath=/dev/null",
                                       "-c",
                                       "gc.auto=2000",
                                       "-c",
                                       "gc.autoDetach=false",
                                       "-c",
                                       "user.name=redoubt",
                                       "-c",
                                       "user.email=redoubt@localhost"};
    const char *const env[] = {
        g->home, "GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL=/dev/null", "GIT_TERMINAL_PROMPT=0", "LC_ALL=C", NULL};
    size_t n = 15;
    for (size_t i = 0; args[i]; i++) {
        assert(i < ARGS_MAX);
        argv[n++] = args[i];
    }
    struct program_opts po = {
        .argv = argv, .env = env, .input = input, .input_len = len, .timeout_ms = LIMIT_MS, .max_output = OUT_MAX};
    o->p = program_run(g->loop, &po, on_end, o);
    if (!o->p)
        fail_later(o, "git cannot be run: out of memory");
}
#define RUN(o, ...)             run(o, NULL, 0, (const char *const[]){__VA_ARGS__, NULL})
#define RUN_WITH(o, in, n, ...) run(o, in, n, (const char *const[]){__VA_ARGS__, NULL})

/* Never NULL: without memory for a few bytes nothing can be said to anybody. */
static struct op *op_new(struct config_git *g, config_git_done done, void *ctx)
{
    struct op *o = calloc(1, sizeof *o);
    if (!o)
        abort();
    *o = (struct op){.g = g, .next = g->ops, .done = done, .ctx = ctx};
    if (g->ops)
        g->ops->prev = o;
    g->ops = o;
    return o;
}

void config_git_close(struct config_git *g)
{
    if (!g)
        return;
    while (g->ops) {
        struct op *o = g->ops;
        const struct config_git_result r = {.error = "the history is being closed", .out = ""};
        program_drop(o->p, true);
        o->done(o->ctx, &r);
        op_leave(o);
        if (o->deferred)
            o->closed = true;
        else
            free(o);
    }
    free(g);
}

void config_git_init(struct config_git *g, config_git_done done, void *ctx)
{
    RUN(op_new(g, done, ctx), "init", "--quiet", "--bare", "--template=", "--initial-branch=main", g->dir);
}

void config_git_tip(struct config_git *g, config_git_done done, void *ctx)
{
    RUN(op_new(g, done, ctx), g->dir_option, "for-each-ref", "--format=%(objectname)", BRANCH);
}

/* ---- writing ---- */

/* What a name may hold in git's lines; never empty. */
static void ident(const char *by, char ret[static IDENT_SIZE])
{
    size_t n = 0;
    for (; *by && n + 1 < IDENT_SIZE; by++)
        if ((unsigned char)*by >= ' ' && !strchr("<>\x7f", *by))
            ret[n++] = *by;
    ret[n] = '\0';
    if (ret[strspn(ret, " .,:;\"'\\")] == '\0')
        snprintf(ret, IDENT_SIZE, "unknown");
}

/* In one line: what comes behind it in the message is ours alone. */
static void one_line(const char *text, const char *otherwise, char *ret, size_t size)
{
    size_t n = 0;
    for (text += strspn(text, " \t\r\n"); *text && n + 1 < size; text++)
        ret[n++] = (unsigned char)*text < ' ' || *text == 0x7f ? ' ' : *text;
    while (n > 0 && ret[n - 1] == ' ')
        n--;
    ret[n] = '\0';
    if (n == 0)
        snprintf(ret, size, "%s", otherwise);
}

static void put_message(FILE *f, const struct config_git_change *c)
{
    char reason[CONFIG_GIT_REASON], by[IDENT_SIZE], *text = NULL;
    one_line(c->reason, "no reason given", reason, sizeof reason);
    one_line(c->by, "unknown", by, sizeof by);
    int n = asprintf(&text, "%s\n\nRedoubt-By: %s\nRedoubt-Sha256: %s\nRedoubt-Baseline: %s\n", reason, by, c->sha256,
                     *c->baseline ? c->baseline : "none");
    if (n < 0)
        abort();
    fprintf(f, "data %d\n%s\n", n, text);
    free(text);
}

void config_git_commit(struct config_git *g, const struct config_git_change *c, config_git_done done, void *ctx)
{
    struct op *o = op_new(g, done, ctx);
    char who[IDENT_SIZE], *stream = NULL;
    size_t len = 0;
    FILE *f = open_memstream(&stream, &len);
    if (!f)
        abort();
    ident(c->by, who);
    for (unsigned i = 0; i < CONFIG_GIT_FILES; i++) {
        if (!c->files[i].data)
            continue;
        fprintf(f, "blob\nmark :%u\ndata %zu\n", i + 1, c->files[i].len);
        fwrite(c->files[i].data, 1, c->files[i].len, f);
        fputc('\n', f);
    }
    fprintf(f, "commit " BRANCH "\nmark :%d\n", CONFIG_GIT_FILES + 1);
    fprintf(f, "author %s <redoubt@localhost> %" PRId64 " +0000\n", who, c->at_ms / 1000);
    fprintf(f, "committer redoubt <redoubt@localhost> %" PRId64 " +0000\n", c->at_ms / 1000);
    put_message(f, c);
    if (*c->parent)
        fprintf(f, "from %s\n", c->parent);
    fprintf(f, "deleteall\n");
    for (unsigned i = 0; i < CONFIG_GIT_FILES; i++)
        if (c->files[i].data)
            fprintf(f, "M 100644 :%u %s\n", i + 1, c->files[i].name);
    fprintf(f, "\nget-mark :%d\ndone\n", CONFIG_GIT_FILES + 1);
    if (fclose(f) != 0)
        abort();
    RUN_WITH(o, stream, len, g->dir_option, "fast-import", "--quiet", "--done", "--date-format=raw");
    free(stream);
}

void config_git_bundle(struct config_git *g, const char *path, config_git_done done, void *ctx)
{
    RUN(op_new(g, done, ctx), g->dir_option, "bundle", "create", "--quiet", path, BRANCH);
}

struct check {
    struct config_git *g;
    config_git_done done;
    void *ctx;
};

static void on_checked(void *ctx, const struct config_git_result *r)
{
    struct check *k = ctx;
    if (r->ok)
        RUN(op_new(k->g, k->done, k->ctx), k->g->dir_option, "gc", "--auto", "--quiet");
    else
        k->done(k->ctx, r);
    free(k);
}

void config_git_check(struct config_git *g, config_git_done done, void *ctx)
{
    struct check *k = malloc(sizeof *k);
    if (!k)
        abort();
    *k = (struct check){g, done, ctx};
    RUN(op_new(g, on_checked, k), g->dir_option, "fsck", "--full", "--strict", "--no-dangling", "--no-progress");
}

/* ---- reading ---- */

bool config_git_name_ok(const char *name)
{
    size_t n = strspn(name, "0123456789abcdef");
    return n >= NAME_MIN && n < CONFIG_GIT_ID && name[n] == '\0';
}

#define LOG_FORMAT                                                                                                   \
    "--format=%x1e%H%x1f%ct%x1f%(trailers:key=Redoubt-By,valueonly,separator=%x20)%x1f"                              \
    "%(trailers:key=Redoubt-Sha256,valueonly,separator=%x20)%x1f"                                                    \
    "%(trailers:key=Redoubt-Baseline,valueonly,separator=%x20)%x1f%s%x1f"

void config_git_log(struct config_git *g, const char *from, unsigned n, config_git_done done, void *ctx)
{
    char count[16];
    snprintf(count, sizeof count, "-n%u", n);
    RUN(op_new(g, done, ctx), g->dir_option, "log", "--first-parent", "--no-color", "--no-show-signature",
        "--no-renames", "--numstat", LOG_FORMAT, count, *from ? from : BRANCH, "--");
}

/* Up to the next separator; NULL if there is none. */
static const char *field(const char *s, const char *end, char *ret, size_t size)
{
    const char *to = memchr(s, '\x1f', (size_t)(end - s));
    if (!to)
        return NULL;
    size_t n = (size_t)(to - s);
    if (n >= size)
        n = size - 1;
    memcpy(ret, s, n);
    ret[n] = '\0';
    return to + 1;
}

static void count_lines(const char *s, const char *end, struct config_git_entry *c)
{
    while (s < end) {
        const char *eol = memchr(s, '\n', (size_t)(end - s));
        unsigned added, removed;
        if (!eol)
            eol = end;
        char line[128];
        size_t n = (size_t)(eol - s) < sizeof line ? (size_t)(eol - s) : sizeof line - 1;
        memcpy(line, s, n);
        line[n] = '\0';
        if (sscanf(line, "%9u %9u", &added, &removed) == 2) {
            c->added += added;
            c->removed += removed;
        }
        s = eol + 1;
    }
}

size_t config_git_parse(const char *out, size_t len, struct config_git_entry *ret, size_t max)
{
    const char *end = out + len, *s = memchr(out, '\x1e', len);
    size_t n = 0;
    while (s && n < max) {
        const char *next = memchr(s + 1, '\x1e', (size_t)(end - s - 1)), *to = next ? next : end;
        struct config_git_entry *c = &ret[n];
        char when[24];
        *c = (struct config_git_entry){0};
        s = field(s + 1, to, c->id, sizeof c->id);
        s = s ? field(s, to, when, sizeof when) : NULL;
        s = s ? field(s, to, c->by, sizeof c->by) : NULL;
        s = s ? field(s, to, c->sha256, sizeof c->sha256) : NULL;
        s = s ? field(s, to, c->baseline, sizeof c->baseline) : NULL;
        s = s ? field(s, to, c->reason, sizeof c->reason) : NULL;
        if (s && config_git_name_ok(c->id)) {
            c->at_ms = strtoll(when, NULL, 10) * 1000;
            if (strcmp(c->baseline, "none") == 0)
                *c->baseline = '\0';
            count_lines(s, to, c);
            n++;
        }
        s = next;
    }
    return n;
}

void config_git_find(struct config_git *g, const char *name, config_git_done done, void *ctx)
{
    char spec[CONFIG_GIT_ID + 16];
    snprintf(spec, sizeof spec, "%s^{commit}", config_git_name_ok(name) ? name : "0000");
    RUN(op_new(g, done, ctx), g->dir_option, "rev-parse", "--verify", "--end-of-options", spec);
}

void config_git_parent(struct config_git *g, const char *commit, config_git_done done, void *ctx)
{
    RUN(op_new(g, done, ctx), g->dir_option, "log", "-n1", "--format=%P", commit, "--");
}

void config_git_show(struct config_git *g, const char *commit, const char *file, config_git_done done, void *ctx)
{
    char spec[CONFIG_GIT_ID + 128];
    snprintf(spec, sizeof spec, "%s:%s", commit, file);
    RUN(op_new(g, done, ctx), g->dir_option, "cat-file", "blob", spec);
}

/* A private file below the repository with this text; NULL if it cannot be written. */
static char *scratch(struct config_git *g, const char *text)
{
    char *path = NULL;
    if (asprintf(&path, "%s/shown-%d-%lu", g->dir, (int)getpid(), g->numbers++) < 0)
        return NULL;
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    FILE *f = fd >= 0 ? fdopen(fd, "w") : NULL;
    bool good = f && fputs(text, f) >= 0;
    if (f)
        good = fclose(f) == 0 && good;
    if (!good) {
        (void)unlink(path);
        free(path);
        return NULL;
    }
    return path;
}

void config_git_diff(struct config_git *g, const char *a, const char *text_a, const char *b, const char *text_b,
                     config_git_done done, void *ctx)
{
    struct op *o = op_new(g, done, ctx);
    o->diff = true;
    o->files[0] = scratch(g, text_a);
    o->files[1] = scratch(g, text_b);
    if (asprintf(&o->title, "--- %s\n+++ %s\n", a, b) < 0)
        o->title = NULL;
    if (!o->files[0] || !o->files[1] || !o->title)
        fail_later(o, "the texts to compare cannot be written beside the history: is its disk full?");
    else
        RUN(o, "diff", "--no-index", "--no-color", "--no-ext-diff", "--no-textconv", "--no-renames", "--",
            o->files[0], o->files[1]);
}
