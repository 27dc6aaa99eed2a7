/* recover_steps.c - one step of a recovery per kind of copy: fetched, verified, and only then put in its place. */
#include "audit/audit_verify.h"
#include "cli/cli_bus.h"
#include "cli/recover.h"
#include "common/clock.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define CONFIG_FILE "redoubt.yaml" /* in the repository of configurations */
#define CONFIG_MAIN "refs/heads/main"
#define BASELINE    "security-baseline.yaml"

struct step {
    struct recover *r;
    const struct recover_source *s;
    const struct recover_copy *copy;
    char *detail;
    size_t size;
    bool bad; /* of this copy: another may be better */
    bool refused;
    struct err *e;
    /* Where each root was, is now, and goes to. */
    size_t n;
    char from[RECOVER_ROOTS][PATH_MAX], at[RECOVER_ROOTS][PATH_MAX], to[RECOVER_ROOTS][PATH_MAX];
};

/* ---- what all do ---- */

static bool settings_from(struct recover *r, const char *path)
{
    struct conf_report report = {0};
    struct settings *s = settings_load(path, &report);
    conf_report_free(&report);
    if (!s)
        return false;
    settings_free(r->settings);
    r->settings = s;
    return true;
}

void recover_settings(struct recover *r)
{
    (void)settings_from(r, r->config);
    if (!r->o->data_dir && r->settings)
        snprintf(r->data_dir, sizeof r->data_dir, "%s", r->settings->data_dir);
}

/* A path of the old host on this one: what was below its data_dir is below ours. */
static void here(const struct recover *r, const char *was, char *buf, size_t size)
{
    const char *old = r->settings ? r->settings->data_dir : "";
    size_t n = strlen(old);
    if (n > 0 && *r->data_dir && strncmp(was, old, n) == 0 && (was[n] == '/' || was[n] == '\0'))
        snprintf(buf, size, "%s%s", r->data_dir, was + n);
    else
        snprintf(buf, size, "%s", was);
}

static int roots(struct step *x)
{
    x->n = json_array_size(x->copy->paths);
    if (x->n == 0 || x->n > RECOVER_ROOTS)
        return err_set(x->e, "snapshot %.8s holds %zu paths; 1 to %d can be restored", x->copy->id, x->n,
                       RECOVER_ROOTS);
    for (size_t i = 0; i < x->n; i++) {
        const char *path = json_string_value(json_array_get(x->copy->paths, i));
        if (!path || *path != '/' || strstr(path, "/../") || strlen(path) >= PATH_MAX / 2)
            return err_set(x->e, "snapshot %.8s holds a path that is not one", x->copy->id);
        snprintf(x->from[i], sizeof x->from[i], "%s", path);
    }
    return 0;
}

/* Fetches every root beside the place that it is for (to[i] is set). */
static int fetch(struct step *x)
{
    for (size_t i = 0; i < x->n; i++) {
        char scratch[PATH_MAX];
        bool lasting;
        recover_beside(x->to[i], scratch, sizeof scratch - 16);
        snprintf(scratch + strlen(scratch), 16, "-%zu", i);
        if (recover_fetch(x->r, x->copy, x->from[i], scratch, &lasting, x->e)) {
            x->bad = !lasting;
            return -1;
        }
        if (snprintf(x->at[i], sizeof x->at[i], "%s%s", scratch, x->from[i]) >= (int)sizeof x->at[i])
            return err_set(x->e, "the path of %.200s is too long", x->from[i]);
        if (access(x->at[i], F_OK)) {
            x->bad = true;
            return err_set(x->e, "snapshot %.8s does not hold %.300s", x->copy->id, x->from[i]);
        }
    }
    if (!*x->copy->sum.content)
        return 0;
    /* In the order in which they were summed: restic keeps paths sorted, and so did who saved them. */
    const char *list[RECOVER_ROOTS];
    struct tree_sum sum;
    for (size_t i = 0; i < x->n; i++)
        list[i] = x->at[i];
    if (tree_sum(list, x->n, &(struct tree_opts){0}, &sum, x->e))
        return -1;
    if (strcmp(sum.content, x->copy->sum.content) == 0)
        return 0;
    x->bad = true;
    return err_set(x->e, "snapshot %.8s does not come back as it was saved: the hash of its tree differs",
                   x->copy->id);
}

static void tidy(struct step *x)
{
    for (size_t i = 0; i < x->n; i++) {
        char scratch[PATH_MAX];
        struct err e;
        if (!*x->to[i])
            continue;
        recover_beside(x->to[i], scratch, sizeof scratch - 16);
        snprintf(scratch + strlen(scratch), 16, "-%zu", i);
        (void)tree_remove(scratch, false, &e);
    }
}

static int free_places(struct step *x)
{
    for (size_t i = 0; i < x->n; i++)
        if (recover_free(x->to[i], x->r->o->force, x->e)) {
            x->refused = true;
            return -1;
        }
    return 0;
}

static int place(struct step *x)
{
    for (size_t i = 0; i < x->n; i++) {
        char note[400];
        if (recover_place(x->at[i], x->to[i], x->r->o->force, note, sizeof note, x->e))
            return -1;
        size_t len = strlen(x->detail);
        snprintf(x->detail + len, x->size - len, "%s%.200s%.200s", i ? ", " : " -> ", x->to[i], note);
    }
    return 0;
}

/* ---- learning data, files ---- */

static int step_tree(struct step *x)
{
    const struct recover *r = x->r;
    uint64_t files, bytes;
    if (roots(x))
        return -1;
    for (size_t i = 0; i < x->n; i++) {
        const char *base = strrchr(x->from[i], '/') + 1;
        if (strcmp(x->s->kind, "learning") == 0 && r->o->learning_to)
            snprintf(x->to[i], sizeof x->to[i], "%.2000s/%s%s%.1000s", r->o->learning_to, x->s->name,
                     x->n > 1 ? "/" : "", x->n > 1 ? base : "");
        else
            here(r, x->from[i], x->to[i], sizeof x->to[i]);
    }
    if (free_places(x) || fetch(x))
        return -1;
    const char *list[RECOVER_ROOTS];
    for (size_t i = 0; i < x->n; i++)
        list[i] = x->at[i];
    if (tree_size(list, x->n, NULL, &files, &bytes, x->e))
        return -1;
    snprintf(x->detail, x->size, "%" PRIu64 " files, %" PRIu64 " bytes, %s", files, bytes,
             *x->copy->sum.content ? "hash as saved" : "saved while written to: read back by restic alone");
    return place(x);
}

/* ---- the trail ---- */

struct trails {
    uint64_t n, records, signed_to;
};

/* 0, or -1: it is not whole. What is no trail is passed over. */
static int verify_trail(const char *dir, struct trails *t, struct err *e)
{
    char path[PATH_MAX + 32];
    struct err why = {""};
    snprintf(path, sizeof path, "%s/" AUDIT_CHECKPOINT_FILE, dir);
    if (access(path, F_OK))
        return 0;
    struct audit_report *r = calloc(1, sizeof *r);
    int found = r ? audit_verify(dir, NULL, r, &why) : -1;
    if (found == 0) {
        t->n++;
        t->records += r->records;
        t->signed_to += r->checkpointed ? r->checkpoint.size : 0;
    } else if (found > 0) {
        found = err_set(e, "the trail is not whole: %.200s at byte %" PRIu64 ": %.200s", r->problems[0].file,
                        r->problems[0].offset, r->problems[0].what);
    } else {
        err_set(e, "the trail cannot be verified: %.400s", why.text);
    }
    free(r);
    return found;
}

/* The trail of a replica, or the directory that holds those of all. */
static int verify_trails(const char *root, struct trails *t, struct err *e)
{
    int bad = verify_trail(root, t, e);
    DIR *d = opendir(root);
    for (struct dirent *entry; d && !bad && (entry = readdir(d));) {
        char path[PATH_MAX];
        if (*entry->d_name == '.' || snprintf(path, sizeof path, "%s/%s", root, entry->d_name) >= (int)sizeof path)
            continue;
        bad = verify_trail(path, t, e);
    }
    if (d)
        closedir(d);
    return bad;
}

/* Where path i of a source of this name belongs, by the settings that were restored. */
static void audit_place(const struct step *x, size_t i, char *buf, size_t size)
{
    const struct settings *set = x->r->settings;
    for (size_t k = 0; set && k < set->continuity.backups.n; k++) {
        const struct set_backup *b = CONF_AT(set->continuity.backups, struct set_backup, k);
        if (strcmp(b->name, x->s->name) == 0 && i < b->path.n) {
            here(x->r, *CONF_AT(b->path, char *, i), buf, size);
            return;
        }
    }
    if (i == 0)
        snprintf(buf, size, "%.4000s/audit", x->r->data_dir);
    else
        snprintf(buf, size, "%.4000s/audit-%zu", x->r->data_dir, i);
}

/* What the service has saved is a copy that was made for it: path i is below i/. By hand, a trail may be saved where it lies. */
static int unstage(struct step *x)
{
    char root[PATH_MAX], path[PATH_MAX + 16];
    size_t n = 0;
    snprintf(root, sizeof root, "%s", x->at[0]);
    for (; n < RECOVER_ROOTS; n++) {
        snprintf(path, sizeof path, "%s/%zu", root, n);
        if (access(path, F_OK) || strlen(path) >= PATH_MAX)
            break;
        memcpy(x->at[n], path, strlen(path) + 1);
        audit_place(x, n, x->to[n], sizeof x->to[n]);
    }
    if (n == 0) {
        x->bad = true;
        return err_set(x->e, "snapshot %.8s holds no trail", x->copy->id);
    }
    x->n = n;
    return free_places(x);
}

static int step_audit(struct step *x)
{
    struct trails t = {0};
    if (sodium_init() < 0)
        return err_set(x->e, "no source of randomness");
    if (roots(x))
        return -1;
    bool staged = x->n == 1 && strstr(x->from[0], "/" TREE_OURS) != NULL;
    for (size_t i = 0; i < x->n; i++)
        if (staged)
            audit_place(x, i, x->to[i], sizeof x->to[i]);
        else
            here(x->r, x->from[i], x->to[i], sizeof x->to[i]);
    if ((staged && !*x->r->data_dir) || free_places(x))
        return x->refused ? -1 : err_set(x->e, "--data-dir: no settings say where data go");
    if (fetch(x) || (staged && unstage(x)))
        return -1;
    for (size_t i = 0; i < x->n; i++)
        if (verify_trails(x->at[i], &t, x->e)) {
            x->bad = true;
            return -1;
        }
    if (t.n == 0) {
        x->bad = true;
        return err_set(x->e, "snapshot %.8s holds no trail", x->copy->id);
    }
    snprintf(x->detail, x->size, "%" PRIu64 " trail%s whole, %" PRIu64 " records, signed up to %" PRIu64, t.n,
             t.n == 1 ? "" : "s", t.records, t.signed_to);
    return place(x);
}

/* ---- the configuration ---- */

/* The first *.bundle of a directory. */
static bool find_bundle(const char *dir, char *buf, size_t size)
{
    DIR *d = opendir(dir);
    bool found = false;
    for (struct dirent *entry; d && !found && (entry = readdir(d));) {
        size_t n = strlen(entry->d_name);
        found = n > 7 && strcmp(entry->d_name + n - 7, ".bundle") == 0;
        if (found)
            snprintf(buf, size, "%s/%s", dir, entry->d_name);
    }
    if (d)
        closedir(d);
    return found;
}

static bool same_as(const char *path, const char *text, size_t len)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    char *is = malloc(len + 1);
    ssize_t n = fd >= 0 && is ? read(fd, is, len + 1) : -1;
    bool same = n >= 0 && (size_t)n == len && memcmp(is, text, (size_t)n) == 0;
    if (fd >= 0)
        close(fd);
    free(is);
    return same;
}

/* Writes a file of the history where it belongs. What differs is kept unless forced; it is moved aside then. */
static int put_file(struct step *x, const char *path, const char *text, size_t len)
{
    char aside[PATH_MAX], dir[PATH_MAX];
    const char *slash = strrchr(path, '/');
    if (access(path, F_OK) == 0) {
        if (same_as(path, text, len))
            return 0;
        if (!x->r->o->force) {
            x->refused = true;
            return err_set(x->e,
                           "%.300s is there and differs from the newest one of the history: nothing was changed. "
                           "Move it away, or let --force move it aside",
                           path);
        }
        if (snprintf(aside, sizeof aside, "%s.before-%" PRId64, path, clock_wall_ms()) >= (int)sizeof aside ||
            rename(path, aside))
            return err_set(x->e, "cannot move %.300s aside: %s", path, strerror(errno));
    }
    snprintf(dir, sizeof dir, "%.*s", slash ? (int)(slash - path) : 1, slash ? path : ".");
    return recover_parents(path, x->e) || backup_copy_write(dir, slash ? slash + 1 : path, text, len, x->e) ? -1 : 0;
}

static int show(struct step *x, const char *repository, const char *file, char **ret, size_t *ret_len)
{
    char dir[PATH_MAX + 16], what[128];
    snprintf(dir, sizeof dir, "--git-dir=%s", repository);
    snprintf(what, sizeof what, CONFIG_MAIN ":%s", file);
    return recover_git(x->r, (const char *const[]){dir, "show", what, NULL}, ret, ret_len, x->e);
}

/* The baseline belongs to it: it is put where the settings say. */
static int put_baseline(struct step *x, const char *repository)
{
    static const char *const ends[] = {"", ".signoff"};
    const char *path = x->r->settings ? x->r->settings->baseline.path : "";
    struct err none = {""};
    for (size_t i = 0; i < 2 && path && *path; i++) {
        char file[64], to[PATH_MAX], *text = NULL;
        size_t len;
        struct err *e = x->e;
        snprintf(file, sizeof file, BASELINE "%s", ends[i]);
        snprintf(to, sizeof to, "%s%s", path, ends[i]);
        x->e = &none; /* a history without a baseline is fine */
        int there = show(x, repository, file, &text, &len);
        x->e = e;
        if (there == 0 && put_file(x, to, text, len)) {
            free(text);
            return -1;
        }
        free(text);
    }
    return 0;
}

static int open_bundle(struct step *x, const char *bundle, const char *repository)
{
    char dir[PATH_MAX + 16], *out = NULL;
    size_t len;
    snprintf(dir, sizeof dir, "--git-dir=%s", repository);
    if (recover_git(x->r,
                    (const char *const[]){"clone", "--quiet", "--bare", "--template=", bundle, repository, NULL},
                    NULL, NULL, x->e) ||
        recover_git(x->r, (const char *const[]){dir, "remote", "remove", "origin", NULL}, NULL, NULL, x->e) ||
        recover_git(x->r, (const char *const[]){dir, "fsck", "--strict", "--no-dangling", NULL}, NULL, NULL, x->e) ||
        recover_git(x->r, (const char *const[]){dir, "rev-list", "--count", CONFIG_MAIN, NULL}, &out, &len, x->e))
        return -1;
    snprintf(x->detail, x->size, "%ld versions, git fsck is content", strtol(out, NULL, 10));
    free(out);
    return 0;
}

static int put_config(struct step *x, const char *bundle, const char *repository, const char *scratch)
{
    struct recover *r = x->r;
    char *text = NULL, note[400], dir[PATH_MAX], beside[PATH_MAX], opened[PATH_MAX];
    size_t len;
    if (show(x, repository, CONFIG_FILE, &text, &len))
        return -1;
    /* It says where its history belongs. Secrets from files of this host may be missing yet: then it is put in place all the same. */
    snprintf(beside, sizeof beside, "%s/" CONFIG_FILE, scratch);
    if (backup_copy_write(scratch, CONFIG_FILE, text, len, x->e)) {
        free(text);
        return -1;
    }
    bool good = settings_from(r, beside);
    if (!*r->data_dir && r->settings)
        snprintf(r->data_dir, sizeof r->data_dir, "%s", r->settings->data_dir);
    if (!*r->data_dir) {
        free(text);
        return err_set(
            x->e, "the settings in it have mistakes here (secrets that are missing?), so nothing says where data "
                  "go: name it with --data-dir");
    }
    const char *set = r->settings ? r->settings->continuity.config.dir : NULL;
    if (set && *set)
        here(r, set, dir, sizeof dir);
    else
        snprintf(dir, sizeof dir, "%.4000s/continuity/config", r->data_dir);
    if (recover_free(dir, r->o->force, x->e)) {
        x->refused = true;
        free(text);
        return -1;
    }
    /* Again, on the file system that it is for. */
    recover_beside(dir, beside, sizeof beside);
    snprintf(opened, sizeof opened, "%.4000s/repository", beside);
    int bad = tree_remove(beside, false, x->e) || recover_parents(opened, x->e) || open_bundle(x, bundle, opened) ||
              put_file(x, r->config, text, len) || put_baseline(x, repository) ||
              recover_place(opened, dir, r->o->force, note, sizeof note, x->e);
    struct err left;
    (void)tree_remove(beside, false, &left);
    free(text);
    if (bad)
        return -1;
    len = strlen(x->detail);
    snprintf(x->detail + len, x->size - len, " -> %.200s, %.200s%s%.200s", r->config, dir, note,
             good ? ""
                  : "; the file has mistakes here (secrets that are missing?): `redoubt config check` says which");
    return 0;
}

static int step_config(struct step *x)
{
    struct recover *r = x->r;
    char bundle[PATH_MAX], repository[PATH_MAX];
    if (roots(x))
        return -1;
    x->n = 1;
    /* Where the history goes is known when it has been read. */
    snprintf(x->to[0], sizeof x->to[0], "%.400s/config", r->scratch);
    if (fetch(x))
        return -1;
    if (!find_bundle(x->at[0], bundle, sizeof bundle)) {
        x->bad = true;
        return err_set(x->e, "snapshot %.8s holds no git bundle", x->copy->id);
    }
    char scratch[PATH_MAX];
    snprintf(scratch, sizeof scratch, "%.4000s/opened", x->at[0]);
    if (mkdir(scratch, 0700))
        return err_set(x->e, "cannot make %.300s: %s", scratch, strerror(errno));
    snprintf(repository, sizeof repository, "%.4000s/repository", scratch);
    if (open_bundle(x, bundle, repository)) {
        x->bad = true;
        return -1;
    }
    return put_config(x, bundle, repository, scratch);
}

/* ---- NATS, Redis ---- */

static int step_state(struct step *x)
{
    struct recover *r = x->r;
    bool nats = strcmp(x->s->kind, "nats") == 0;
    struct recover_state_end end = {0};
    if (roots(x))
        return -1;
    x->n = 1;
    if (*r->data_dir)
        snprintf(x->to[0], sizeof x->to[0], "%.4000s/continuity/%s", r->data_dir, x->s->kind);
    else
        snprintf(x->to[0], sizeof x->to[0], "%.400s/%s", r->scratch, x->s->kind);
    if (fetch(x))
        return -1;
    struct recover_state state = {.c = r->c,
                                  .config = r->settings ? r->config : NULL,
                                  .nats = r->o->nats,
                                  .redis = r->o->redis,
                                  .dir = x->at[0],
                                  .force = r->o->force};
    if (nats)
        recover_nats(&state, true, &end);
    else
        recover_redis(&state, true, &end);
    x->refused = end.refused;
    if (!end.ok)
        return err_set(x->e, "%s", end.text);
    snprintf(x->detail, x->size, "%s", end.text);
    return 0;
}

static const struct {
    const char *kind;
    int (*run)(struct step *x);
} steps[] = {{"config", step_config}, {"audit", step_audit}, {"learning", step_tree},
             {"files", step_tree},    {"nats", step_state},  {"redis", step_state}};

enum recover_end recover_step_run(struct recover *r, const struct recover_source *s, const struct recover_copy *copy,
                                  char *detail, size_t size, bool *ret_bad, struct err *e)
{
    struct step *x = calloc(1, sizeof *x);
    int failed = -1;
    *detail = '\0';
    *ret_bad = false;
    if (!x) {
        err_set(e, "out of memory");
        return RECOVER_FAILED;
    }
    *x = (struct step){.r = r, .s = s, .copy = copy, .detail = detail, .size = size, .e = e};
    err_set(e, "this program does not know how to restore the kind `%s`", s->kind);
    for (size_t i = 0; i < sizeof steps / sizeof *steps; i++)
        if (strcmp(steps[i].kind, s->kind) == 0)
            failed = steps[i].run(x);
    tidy(x);
    *ret_bad = x->bad;
    enum recover_end end = failed == 0 ? RECOVER_OK : x->refused ? RECOVER_REFUSED : RECOVER_FAILED;
    free(x);
    return end;
}
