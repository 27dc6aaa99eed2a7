/* recover_repo.c - copies in a restic repository: which there are, and one of them fetched; by programs that are waited for. */
#include "cli/recover.h"
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define LIST_MS  (INT64_C(10) * 60 * 1000)
#define FETCH_MS (INT64_C(24) * 3600 * 1000)
#define GIT_MS   (INT64_C(10) * 60 * 1000)
#define GIT      "/usr/bin/git"
#define GIT_MAX  (16 * 1024 * 1024)

extern char **environ;

/* The order in which kinds are restored: what says where the rest goes comes first. */
static const char *const order[] = {"config", "audit", "learning", "files", "nats", "redis"};

static int rank(const char *kind)
{
    int i = 0;
    while (i < (int)(sizeof order / sizeof *order) && strcmp(order[i], kind) != 0)
        i++;
    return i;
}

/* ---- restic ---- */

struct ran {
    bool done, ok, lasting;
    char text[ERR_TEXT_MAX];
    json_t *json;
};

static void on_ran(void *ctx, const struct restic_result *x)
{
    struct ran *r = ctx;
    r->done = true;
    r->ok = x->ok;
    r->lasting = x->lasting;
    snprintf(r->text, sizeof r->text, "%s", x->text);
    if (x->ok)
        r->json = json_loadb(x->out, x->out_len, 0, NULL);
}

static int run(struct recover *r, const char *const *args, int64_t limit_ms, json_t **ret, bool *ret_lasting,
               struct err *e)
{
    struct ran x = {0};
    (void)restic_run(&r->restic, args, limit_ms, on_ran, &x);
    (void)loop_run_until(&r->loop, &x.done, INT64_MAX / 2);
    if (ret)
        *ret = x.json;
    else
        json_decref(x.json);
    if (ret_lasting)
        *ret_lasting = x.lasting;
    return x.ok ? 0 : err_set(e, "%s", x.text);
}

/* What restic may need to reach a repository behind a network, from this process's own environment. */
static bool wanted(const char *variable)
{
    static const char *const begins[] = {"AWS_", "B2_", "AZURE_", "GOOGLE_", "OS_", "ST_", "RCLONE_", "RESTIC_REST_"};
    for (size_t i = 0; i < sizeof begins / sizeof *begins; i++)
        if (strncmp(variable, begins[i], strlen(begins[i])) == 0)
            return true;
    return false;
}

static void take_env(struct recover *r)
{
    char **list = calloc(27, sizeof *list);
    size_t n = 0;
    assert(list && "out of memory");
    for (char **v = environ; *v && n < 26; v++)
        if (wanted(*v))
            list[n++] = *v;
    r->env = (struct conf_list){.items = list, .n = n};
}

/* ---- the list ---- */

static struct recover_source *source(struct recover *r, const struct restic_snapshot *s)
{
    for (size_t i = 0; i < r->n; i++)
        if (strcmp(r->sources[i].name, s->source) == 0 && strcmp(r->sources[i].kind, s->kind) == 0)
            return &r->sources[i];
    if (r->n == RECOVER_SOURCES)
        return NULL;
    struct recover_source *x = &r->sources[r->n++];
    snprintf(x->name, sizeof x->name, "%s", s->source);
    snprintf(x->kind, sizeof x->kind, "%s", s->kind);
    return x;
}

static bool on_snapshot(void *ctx, const struct restic_snapshot *s)
{
    struct recover *r = ctx;
    struct recover_source *x = *s->source && *s->kind ? source(r, s) : NULL;
    if (!x) /* of a rollback, or of somebody else */
        return true;
    int64_t point = s->point_ms ? s->point_ms : s->taken_ms;
    size_t at = 0;
    x->all++;
    while (at < x->n && x->copies[at].point_ms >= point)
        at++;
    if (at == RECOVER_TRIES)
        return true;
    if (x->n == RECOVER_TRIES)
        json_decref(x->copies[--x->n].paths);
    memmove(&x->copies[at + 1], &x->copies[at], (x->n - at) * sizeof x->copies[0]);
    x->n++;
    x->copies[at] = (struct recover_copy){.point_ms = point, .sum = s->sum, .paths = json_deep_copy(s->paths)};
    snprintf(x->copies[at].id, sizeof x->copies[at].id, "%s", s->id);
    return true;
}

static int by_rank(const void *a, const void *b)
{
    const struct recover_source *x = a, *y = b;
    int d = rank(x->kind) - rank(y->kind);
    return d ? d : strcmp(x->name, y->name);
}

static const char *or_env(const char *given, const char *name)
{
    const char *env = getenv(name);
    return given ? given : env && *env ? env : NULL;
}

int recover_open(struct recover *r, struct cli *c, const struct opts_recover *o)
{
    struct err e = {""};
    const char *tmp = or_env(NULL, "TMPDIR"), *program = or_env(NULL, "REDOUBT_RESTIC");
    json_t *list = NULL;
    *r = (struct recover){.c = c, .o = o};
    if (loop_init(&r->loop))
        return cli_fail(c, CLI_FAILED, "no event loop");
    r->restic = (struct restic){.loop = &r->loop,
                                .where = "--",
                                .repository = or_env(o->repository, "RESTIC_REPOSITORY"),
                                .password_file = or_env(o->password_file, "RESTIC_PASSWORD_FILE"),
                                .env = &r->env};
    take_env(r);
    if (!r->restic.repository)
        return cli_fail(c, CLI_USAGE, "--repository or $RESTIC_REPOSITORY: where the copies are");
    if (!r->restic.password_file)
        return cli_fail(c, CLI_USAGE,
                        "--password-file or $RESTIC_PASSWORD_FILE: a file with the repository's password");
    if (access(r->restic.password_file, R_OK))
        return cli_fail(c, CLI_USAGE, "cannot read %s: %s", r->restic.password_file, strerror(errno));
    snprintf(r->restic.program, sizeof r->restic.program, "%s", program ? program : RESTIC_PROGRAM);
    snprintf(r->scratch, sizeof r->scratch, "%.400s/" RECOVER_SCRATCH "-XXXXXX", tmp ? tmp : "/tmp");
    if (!mkdtemp(r->scratch)) {
        int failed = errno;
        snprintf(e.text, sizeof e.text, "cannot make %.300s: %s", r->scratch, strerror(failed));
        *r->scratch = '\0';
        return cli_fail(c, CLI_FAILED, "%s", e.text);
    }
    snprintf(r->restic.dir, sizeof r->restic.dir, "%.500s", r->scratch);
    if (run(r, (const char *const[]){"snapshots", "--json", "--no-lock", "--tag=redoubt", NULL}, LIST_MS, &list, NULL,
            &e))
        return cli_fail(c, CLI_FAILED, "%s", e.text);
    bool good = restic_snapshots(list, on_snapshot, r);
    json_decref(list);
    if (!good)
        return cli_fail(c, CLI_FAILED, "restic answered with something else than a list of snapshots");
    qsort(r->sources, r->n, sizeof r->sources[0], by_rank);
    return CLI_OK;
}

void recover_close(struct recover *r)
{
    for (size_t i = 0; i < r->n; i++)
        for (size_t k = 0; k < r->sources[i].n; k++)
            json_decref(r->sources[i].copies[k].paths);
    struct err e;
    if (*r->scratch) /* restic's cache and temporary files */
        (void)tree_remove(r->scratch, false, &e);
    free(r->env.items);
    settings_free(r->settings);
    loop_done(&r->loop);
}

int recover_fetch(struct recover *r, const struct recover_copy *copy, const char *path, const char *to,
                  bool *ret_lasting, struct err *e)
{
    char target[PATH_MAX + 16], include[2 * PATH_MAX + 16];
    int at = snprintf(include, sizeof include, "--include=");
    *ret_lasting = true;
    if (recover_parents(to, e) || tree_remove(to, false, e))
        return -1;
    if (mkdir(to, 0700))
        return err_set(e, "cannot make %.300s: %s", to, strerror(errno));
    restic_pattern(path, include + at, sizeof include - (size_t)at);
    snprintf(target, sizeof target, "--target=%s", to);
    return run(r, (const char *const[]){"restore", copy->id, target, include, "--verify", "--no-lock", NULL},
               FETCH_MS, NULL, ret_lasting, e);
}

/* ---- git ---- */

struct git {
    bool done;
    enum program_end end;
    int code;
    char text[ERR_TEXT_MAX];
    char *out;
    size_t len;
};

static void on_git(void *ctx, const struct program_result *p)
{
    struct git *g = ctx;
    g->done = true;
    g->end = p->end;
    g->code = p->code;
    snprintf(g->text, sizeof g->text, "%s", p->text);
    g->out = malloc(p->out_len + 1);
    assert(g->out && "out of memory for a program's output");
    memcpy(g->out, p->out, p->out_len);
    g->out[p->out_len] = '\0';
    g->len = p->out_len;
}

int recover_git(struct recover *r, const char *const *args, char **ret, size_t *ret_len, struct err *e)
{
    const char *argv[16] = {GIT};
    static const char *const env[] = {"GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL=/dev/null", "GIT_TERMINAL_PROMPT=0",
                                      "HOME=/", NULL};
    struct git g = {0};
    for (size_t i = 0; i < 14 && args[i]; i++)
        argv[i + 1] = args[i];
    struct program *p = program_run(
        &r->loop, &(struct program_opts){.argv = argv, .env = env, .timeout_ms = GIT_MS, .max_output = GIT_MAX},
        on_git, &g);
    assert(p && "out of memory for a program");
    (void)loop_run_until(&r->loop, &g.done, INT64_MAX / 2);
    bool good = g.end == PROGRAM_EXITED && g.code == 0;
    if (good && ret) {
        *ret = g.out;
        *ret_len = g.len;
    } else {
        free(g.out);
    }
    return good ? 0 : err_set(e, "git %s: %.300s", args[0], g.text);
}
