/* restic.c - restic as a program: its arguments, what it says, and what its failures mean. */
#include "common/restic.h"
#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define OUTPUT_MAX (16 * 1024 * 1024)

/* ---- pure ---- */

bool restic_is_local(const char *repository)
{
    static const char *const remote[] = {"s3:", "sftp:", "rest:", "b2:", "azure:", "gs:", "swift:", "rclone:"};
    for (size_t i = 0; i < sizeof remote / sizeof *remote; i++)
        if (strncmp(repository, remote[i], strlen(remote[i])) == 0)
            return false;
    return true;
}

const char *restic_shown(const char *repository, char *buf, size_t size)
{
    const char *from = strstr(repository, "//"), *end = from ? from + 2 + strcspn(from + 2, "/") : NULL, *at = NULL;
    for (const char *c = from; c && c < end; c++)
        if (*c == '@')
            at = c;
    if (at && !restic_is_local(repository))
        snprintf(buf, size, "%.*s***%s", (int)(from + 2 - repository), repository, at);
    else
        snprintf(buf, size, "%s", repository);
    return buf;
}

void restic_pattern(const char *path, char *buf, size_t size)
{
    size_t n = 0;
    for (; *path && n + 2 < size; path++) {
        if (strchr("*?[\\", *path))
            buf[n++] = '\\';
        buf[n++] = *path;
    }
    buf[n] = '\0';
}

/* By what it says; the first that fits. Behind a network everything that fails says that the config could not be opened, so that comes late. */
enum restic_fault restic_fault_of(const char *said)
{
    static const struct {
        const char *text;
        enum restic_fault fault;
    } rows[] = {
        {"wrong password or no key found", RESTIC_PASSWORD},
        {"already locked", RESTIC_LOCKED},
        {"no space left on device", RESTIC_NO_ROOM},
        {"disk quota exceeded", RESTIC_NO_ROOM},
        {"file too large", RESTIC_NO_ROOM},
        {"connection refused", RESTIC_AWAY},
        {"no such host", RESTIC_AWAY},
        {"i/o timeout", RESTIC_AWAY},
        {"network is unreachable", RESTIC_AWAY},
        {"no route to host", RESTIC_AWAY},
        {"connection reset", RESTIC_AWAY},
        {"Connection timed out", RESTIC_AWAY},
        {"Could not resolve", RESTIC_AWAY},
        {"ciphertext verification failed", RESTIC_DAMAGED},
        {"repository contains errors", RESTIC_DAMAGED},
        {"invalid data returned", RESTIC_DAMAGED},
        {"StreamPack", RESTIC_DAMAGED},
        {"no matching ID found", RESTIC_GONE},
        {"Access Denied", RESTIC_RIGHTS},
        {"AccessDenied", RESTIC_RIGHTS},
        {"Access Key Id", RESTIC_RIGHTS},
        {"signature we calculated does not match", RESTIC_RIGHTS},
        {"permission denied", RESTIC_RIGHTS},
        {"Permission denied", RESTIC_RIGHTS},
        {"read-only file system", RESTIC_RIGHTS},
        {"Is there a repository at the following location", RESTIC_NO_REPOSITORY},
        {"unable to open config file", RESTIC_NO_REPOSITORY},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        if (strstr(said, rows[i].text))
            return rows[i].fault;
    return RESTIC_OTHER;
}

void restic_explain(const char *repository, const char *where, const struct program_result *r, char *buf, size_t size,
                    bool *ret_lasting)
{
    char shown[256];
    restic_shown(repository, shown, sizeof shown);
    *ret_lasting = true;
    if (r->end == PROGRAM_NOT_STARTED) {
        snprintf(buf, size, "restic cannot be run: %s. Install it", r->text);
        return;
    }
    if (r->end != PROGRAM_EXITED) {
        *ret_lasting = r->end == PROGRAM_TOO_MUCH;
        snprintf(buf, size, "restic on %s: %.250s", shown, r->text);
        return;
    }
    switch (restic_fault_of(r->err)) {
    case RESTIC_NO_REPOSITORY:
        snprintf(buf, size,
                 "there is no restic repository at %s: look at %s.repository, or make one with `restic -r %s init` "
                 "and the password of %s.password_file",
                 shown, where, shown, where);
        return;
    case RESTIC_PASSWORD:
        snprintf(buf, size, "the repository %s was made with another password than %s.password_file has", shown,
                 where);
        return;
    case RESTIC_NO_ROOM:
        snprintf(buf, size, "there is no room for %s: %.300s. Make room, or choose another place", shown, r->err);
        return;
    case RESTIC_RIGHTS:
        snprintf(buf, size, "the repository %s refuses: %.300s. Look at the rights, or at the keys in %s.env", shown,
                 r->err, where);
        return;
    case RESTIC_DAMAGED:
        snprintf(buf, size, "the repository %s is damaged: %.300s. Keep a copy of it, and save into another one",
                 shown, r->err);
        return;
    case RESTIC_GONE:
        snprintf(buf, size, "the repository %s does not have the snapshot any more: %.300s. Somebody has deleted it",
                 shown, r->err);
        return;
    case RESTIC_LOCKED:
        *ret_lasting = false;
        snprintf(buf, size,
                 "the repository %s is locked by another restic: %.300s. If none runs: `restic -r %s unlock`", shown,
                 r->err, shown);
        return;
    case RESTIC_AWAY:
        *ret_lasting = false;
        snprintf(buf, size, "the repository %s cannot be reached: %.300s", shown, r->err);
        return;
    default:
        *ret_lasting = false;
        snprintf(buf, size, "restic on %s: %.350s", shown, r->text);
    }
}

/* "2026-11-26T08:54:40.29292538Z", or with +01:00. 0 if it is not a time. */
static int64_t time_of(const char *text)
{
    struct tm tm = {0};
    int ms = 0, scale = 100;
    const char *s = text ? strptime(text, "%Y-%m-%dT%H:%M:%S", &tm) : NULL;
    if (!s)
        return 0;
    if (*s == '.')
        for (s++; *s >= '0' && *s <= '9'; s++, scale /= 10)
            ms += (*s - '0') * scale;
    int64_t seconds = timegm(&tm);
    int hours, minutes;
    if ((*s == '+' || *s == '-') && sscanf(s + 1, "%2d:%2d", &hours, &minutes) == 2)
        seconds -= (hours * 3600 + minutes * 60) * (*s == '-' ? -1 : 1);
    return seconds * 1000 + ms;
}

static bool tag_is(const char *tag, const char *key, char *buf, size_t size)
{
    size_t n = strlen(key);
    if (strncmp(tag, key, n) != 0 || tag[n] != '=' || strlen(tag + n + 1) >= size)
        return false;
    snprintf(buf, size, "%s", tag + n + 1);
    return true;
}

static void take_tag(struct restic_snapshot *s, const char *tag)
{
    char number[32] = "";
    if (strcmp(tag, RESTIC_KEEP_TAG) == 0)
        s->kept = true;
    else if (tag_is(tag, "files", number, sizeof number))
        s->sum.files = strtoull(number, NULL, 10);
    else if (tag_is(tag, "bytes", number, sizeof number))
        s->sum.bytes = strtoull(number, NULL, 10);
    else if (tag_is(tag, "sequence", number, sizeof number))
        s->sequence = strtoull(number, NULL, 10);
    else if (tag_is(tag, "point", number, sizeof number))
        s->point_ms = strtoll(number, NULL, 10);
    else if (!tag_is(tag, "job", s->job, sizeof s->job) && !tag_is(tag, "version", s->version, sizeof s->version) &&
             !tag_is(tag, "stream", s->stream, sizeof s->stream) &&
             !tag_is(tag, "source", s->source, sizeof s->source) && !tag_is(tag, "kind", s->kind, sizeof s->kind) &&
             !tag_is(tag, "content", s->sum.content, sizeof s->sum.content))
        (void)tag_is(tag, "meta", s->sum.meta, sizeof s->sum.meta);
}

bool restic_snapshots(const json_t *answer, bool (*each)(void *ctx, const struct restic_snapshot *s), void *ctx)
{
    const json_t *item, *tag;
    size_t i, k;
    if (!json_is_array(answer))
        return false;
    json_array_foreach(answer, i, item)
    {
        const char *id = json_string_value(json_object_get(item, "id")),
                   *original = json_string_value(json_object_get(item, "original"));
        const json_t *tags = json_object_get(item, "tags");
        struct restic_snapshot s = {.taken_ms = time_of(json_string_value(json_object_get(item, "time"))),
                                    .paths = json_object_get(item, "paths")};
        if (!id || strlen(id) >= sizeof s.id || strlen(id) < 8)
            return false;
        snprintf(s.id, sizeof s.id, "%s", id);
        snprintf(s.original, sizeof s.original, "%s", original ? original : id);
        json_array_foreach(tags, k, tag) if (json_is_string(tag)) take_tag(&s, json_string_value(tag));
        if (!each(ctx, &s))
            break;
    }
    return true;
}

static void read_summary(const char *out, size_t len, char *buf, uint64_t *ret_files)
{
    for (const char *line = out; line < out + len;) {
        size_t n = strcspn(line, "\n");
        json_t *j = json_loadb(line, n, 0, NULL);
        const char *kind = json_string_value(json_object_get(j, "message_type")),
                   *id = json_string_value(json_object_get(j, "snapshot_id"));
        json_int_t files = json_integer_value(json_object_get(j, "total_files_processed"));
        if (kind && id && strcmp(kind, "summary") == 0 && strlen(id) < 65) {
            snprintf(buf, 65, "%s", id);
            *ret_files = files > 0 ? (uint64_t)files : 0;
        }
        json_decref(j);
        line += n + (line[n] == '\n');
        if (n == 0 && line >= out + len)
            break;
    }
}

void restic_saved(const char *out, size_t len, char *buf)
{
    uint64_t files = 0;
    *buf = '\0';
    read_summary(out, len, buf, &files);
}

uint64_t restic_processed(const char *out, size_t len)
{
    char id[65] = "";
    uint64_t files = 0;
    read_summary(out, len, id, &files);
    return files;
}

/* ---- running it ---- */

struct restic_run {
    const struct restic *x;
    char **args;
    int64_t timeout_ms;
    restic_cb cb;
    void *ctx;
    struct program *program;
    bool unlocking, unlocked, cancelled;
};

static void run_free(struct restic_run *r)
{
    for (size_t i = 0; r->args[i]; i++)
        free(r->args[i]);
    free(r->args);
    free(r);
}

static void on_run(void *ctx, const struct program_result *p);

static void spawn(struct restic_run *r, bool unlock)
{
    const struct restic *x = r->x;
    const char *argv[RESTIC_ARGS + 8] = {x->program, "--quiet"}, *env[32] = {0};
    char repository[1100], password[1100], tmp[600], cache[600], home[600];
    size_t n = 2, k = 0;
    snprintf(repository, sizeof repository, "RESTIC_REPOSITORY=%s", x->repository);
    snprintf(password, sizeof password, "RESTIC_PASSWORD_FILE=%s", x->password_file);
    snprintf(tmp, sizeof tmp, "TMPDIR=%s", x->dir);
    snprintf(home, sizeof home, "HOME=%s", x->dir);
    snprintf(cache, sizeof cache, "--cache-dir=%.500s/cache", x->dir);
    for (size_t i = 0; x->env && i < x->env->n && k < 27;
         i++) /* first: of two with one name restic takes the first */
        env[k++] = *CONF_AT(*x->env, char *, i);
    env[k++] = repository;
    env[k++] = password;
    env[k++] = tmp;
    env[k++] = home;
    argv[n++] = restic_is_local(x->repository) ? "--no-cache" : cache;
    if (unlock)
        argv[n++] = "unlock";
    for (size_t i = 0; !unlock && r->args[i] && n < RESTIC_ARGS + 7; i++)
        argv[n++] = r->args[i];
    r->unlocking = unlock;
    r->program = program_run(
        x->loop,
        &(struct program_opts){.argv = argv, .env = env, .timeout_ms = r->timeout_ms, .max_output = OUTPUT_MAX},
        on_run, r);
    assert(r->program && "out of memory for a program");
}

static void on_run(void *ctx, const struct program_result *p)
{
    struct restic_run *r = ctx;
    char text[ERR_TEXT_MAX] = "";
    struct restic_result said = {.ok = p->end == PROGRAM_EXITED && p->code == 0,
                                 .text = text,
                                 .out = p->out,
                                 .out_len = p->out_len,
                                 .code = p->end == PROGRAM_EXITED ? p->code : -1};
    r->program = NULL;
    if (r->unlocking && !r->cancelled) { /* whatever came of it */
        spawn(r, false);
        return;
    }
    if (!said.ok) {
        said.fault = p->end == PROGRAM_EXITED ? restic_fault_of(p->err) : RESTIC_OTHER;
        restic_explain(r->x->repository, r->x->where, p, text, sizeof text, &said.lasting);
        if (said.fault == RESTIC_LOCKED && !r->unlocked && !r->cancelled) {
            r->unlocked = true;
            spawn(r, true);
            return;
        }
    }
    r->cb(r->ctx, &said);
    run_free(r);
}

struct restic_run *restic_run(const struct restic *x, const char *const *args, int64_t timeout_ms, restic_cb cb,
                              void *ctx)
{
    size_t n = 0;
    while (args[n])
        n++;
    struct restic_run *r = calloc(1, sizeof *r);
    char **copy = calloc(n + 1, sizeof *copy);
    assert(r && copy && n <= RESTIC_ARGS && "out of memory for a program");
    for (size_t i = 0; i < n; i++) {
        copy[i] = strdup(args[i]);
        assert(copy[i] && "out of memory for a program");
    }
    *r = (struct restic_run){.x = x, .args = copy, .timeout_ms = timeout_ms, .cb = cb, .ctx = ctx};
    spawn(r, false);
    return r;
}

void restic_cancel(struct restic_run *r)
{
    if (!r)
        return;
    r->cancelled = true;
    program_cancel(r->program);
}

void restic_drop(struct restic_run *r)
{
    if (!r)
        return;
    program_drop(r->program, true);
    run_free(r);
}
