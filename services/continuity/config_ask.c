/* config_ask.c - the history in pages, two versions compared without their secrets, and files that are handed in by parts. */
#include "continuity/config_impl.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define PAGE     100
#define PUT_S    600 /* what was not finished for so long is thrown away */
#define PUT_MOST 8

/* ---- history ---- */

struct page {
    struct config_room *r;
    char reply[CONFIG_REPLY];
};

static void send_page(struct config_room *r, const char *reply, struct config_git_entry *found, size_t n)
{
    PB(ConfigHistory) h = PB_INIT(CONFIG_HISTORY);
    PB(ConfigCommit) rows[PAGE], *list[PAGE];
    size_t bytes = 0;
    h.commits = list;
    for (size_t i = 0; i < n && h.n_commits < PAGE; i++) {
        struct config_git_entry *c = &found[i];
        bytes += strlen(c->by) + strlen(c->reason) + 200;
        if (bytes > CONFIG_TEXT)
            break;
        PB(ConfigCommit) m = PB_INIT(CONFIG_COMMIT);
        m.commit = c->id;
        m.at_unix_ms = c->at_ms;
        m.by = c->by;
        m.reason = c->reason;
        m.sha256 = c->sha256;
        m.added = c->added;
        m.removed = c->removed;
        rows[h.n_commits] = m;
        list[h.n_commits] = &rows[h.n_commits];
        h.n_commits++;
    }
    if (h.n_commits < n)
        h.next = found[h.n_commits].id;
    config_answer(r, reply, CONFIG_OK, &h, "%zu versions%s", h.n_commits, *h.next ? ", and more" : "");
}

static void on_log(void *ctx, const struct config_git_result *res)
{
    struct page *p = ctx;
    struct config_git_entry *found = res->ok ? calloc(PAGE + 1, sizeof *found) : NULL;
    if (found)
        send_page(p->r, p->reply, found, config_git_parse(res->out, res->len, found, PAGE + 1));
    else
        config_answer(p->r, p->reply, CONFIG_UNAVAILABLE, NULL, "%s", res->ok ? "out of memory" : res->error);
    free(found);
    free(p);
}

void config_ask_history(struct config_room *r, const PB(ContinuityCommand) * cmd, const char *reply)
{
    if (*cmd->after && !config_git_name_ok(cmd->after)) {
        config_answer(r, reply, CONFIG_INVALID, NULL, "after: found `%s`; allowed: the `next` of the page before",
                      cmd->after);
        return;
    }
    if (!*r->tip.id) {
        config_answer(r, reply, CONFIG_OK, NULL, "no version yet");
        return;
    }
    struct page *p = calloc(1, sizeof *p);
    if (!p)
        abort();
    p->r = r;
    snprintf(p->reply, sizeof p->reply, "%s", reply);
    config_git_log(r->git, *cmd->after ? cmd->after : r->tip.id, PAGE + 1, on_log, p);
}

/* ---- diff ---- */

struct diff {
    struct config_room *r;
    char reply[CONFIG_REPLY];
    char id[2][CONFIG_GIT_ID]; /* "" = before the first one */
    char *text[2];
    size_t i; /* which of both is being fetched */
};

static void diff_free(struct diff *d)
{
    free(d->text[0]);
    free(d->text[1]);
    free(d);
}

static void diff_end(struct diff *d, int status, const char *text)
{
    config_answer(d->r, d->reply, status, NULL, "%s", text);
    diff_free(d);
}

void config_ask_diff_of(PB(ConfigDiff) * ret, char *text)
{
    size_t len = strlen(text);
    ret->cut = len > CONFIG_TEXT;
    if (ret->cut) {
        text[CONFIG_TEXT] = '\0';
        char *eol = strrchr(text, '\n');
        if (eol)
            eol[1] = '\0';
    }
    ret->text = text;
}

static void on_compared(void *ctx, const struct config_git_result *res)
{
    struct diff *d = ctx;
    PB(ConfigDiff) m = PB_INIT(CONFIG_DIFF);
    char *copy = res->ok ? strdup(res->out) : NULL;
    if (!copy) {
        diff_end(d, CONFIG_UNAVAILABLE, res->ok ? "out of memory" : res->error);
        return;
    }
    config_ask_diff_of(&m, copy);
    config_answer(d->r, d->reply, CONFIG_OK, *copy ? &m : NULL, "%s",
                  *copy ? "the settings as they come to, secrets as ***"
                        : "no setting differs; comments, the order, or secrets (shown as ***) may");
    free(copy);
    diff_free(d);
}

/* As it comes to, without secrets. NULL after answering. */
static char *shown(struct diff *d, size_t i)
{
    struct conf_report report = {0};
    char lines[600], why[900];
    if (!d->text[i])
        return strdup("");
    struct settings *s = conf_parse(&settings_schema, d->id[i], d->text[i], strlen(d->text[i]), &report);
    char *text = s ? config_shown(s) : NULL;
    if (!s)
        snprintf(why, sizeof why, "%.12s cannot be read any more, so that its secrets cannot be hidden: %s", d->id[i],
                 config_lines(&report, lines, sizeof lines));
    settings_free(s);
    conf_report_free(&report);
    if (!text)
        config_answer(d->r, d->reply, CONFIG_UNAVAILABLE, NULL, "%s", s ? "out of memory" : why);
    return text;
}

static void compare(struct diff *d)
{
    char *a = shown(d, 0), *b = a ? shown(d, 1) : NULL, titles[2][16];
    for (size_t i = 0; i < 2; i++)
        snprintf(titles[i], sizeof titles[i], "%.12s", *d->id[i] ? d->id[i] : "nothing");
    if (b)
        config_git_diff(d->r->git, titles[0], a, titles[1], b, on_compared, d);
    else
        diff_free(d);
    free(a);
    free(b);
}

static void fetch(struct diff *d);

static void on_text(void *ctx, const struct config_git_result *res)
{
    struct diff *d = ctx;
    d->text[d->i] = res->ok ? strdup(res->out) : NULL;
    if (!d->text[d->i]) {
        diff_end(d, CONFIG_UNAVAILABLE, res->ok ? "out of memory" : res->error);
        return;
    }
    d->i++;
    fetch(d);
}

static void fetch(struct diff *d)
{
    if (d->i == 0 && !*d->id[0])
        d->i = 1;
    if (d->i < 2)
        config_git_show(d->r->git, d->id[d->i], CONFIG_GIT_FILE, on_text, d);
    else
        compare(d);
}

static void take_name(char ret[static CONFIG_GIT_ID], const struct config_git_result *res)
{
    snprintf(ret, CONFIG_GIT_ID, "%.*s", (int)strcspn(res->out, " \n"), res->out);
}

static void on_before(void *ctx, const struct config_git_result *res)
{
    struct diff *d = ctx;
    if (!res->ok) {
        diff_end(d, CONFIG_INVALID, "there is no such version in the history: see `redoubt config history`");
        return;
    }
    take_name(d->id[0], res);
    fetch(d);
}

static void on_after(void *ctx, const struct config_git_result *res)
{
    struct diff *d = ctx;
    if (!res->ok) {
        diff_end(d, CONFIG_INVALID, "there is no such version in the history: see `redoubt config history`");
        return;
    }
    take_name(d->id[1], res);
    if (*d->id[0])
        config_git_find(d->r->git, d->id[0], on_before, d);
    else
        config_git_parent(d->r->git, d->id[1], on_before, d);
}

void config_ask_diff(struct config_room *r, const PB(ContinuityCommand) * cmd, const char *reply)
{
    const char *names[2] = {cmd->from, *cmd->to ? cmd->to : r->tip.id};
    struct diff *d = NULL;
    if (!*r->tip.id)
        config_answer(r, reply, CONFIG_UNAVAILABLE, NULL, "no version yet");
    else if ((*names[0] && !config_git_name_ok(names[0])) || !config_git_name_ok(names[1]))
        config_answer(r, reply, CONFIG_INVALID, NULL,
                      "name versions by 4 to 64 hexadecimal digits: see `redoubt config history`");
    else if (!(d = calloc(1, sizeof *d)))
        abort();
    if (!d)
        return;
    d->r = r;
    snprintf(d->reply, sizeof d->reply, "%s", reply);
    snprintf(d->id[0], sizeof d->id[0], "%s", names[0]);
    config_git_find(r->git, names[1], on_after, d);
}

/* ---- put ---- */

void config_ask_path(const struct config_room *r, const char *sha256, char *buf, size_t size)
{
    snprintf(buf, size, "%s/put-%.64s", r->work, sha256);
}

/* Throws away what was left, and the oldest of too many: none waits for ever, and the disk is not filled. */
static void tidy(const struct config_room *r, const char *path)
{
    for (;;) {
        char oldest[900] = "";
        time_t when = 0;
        size_t n = 0;
        DIR *d = opendir(r->work);
        for (struct dirent *f; d && (f = readdir(d));) {
            char other[900];
            struct stat st;
            snprintf(other, sizeof other, "%s/%s", r->work, f->d_name);
            if (strncmp(f->d_name, "put-", 4) != 0 || strcmp(other, path) == 0 || stat(other, &st))
                continue;
            n++;
            if (!*oldest || st.st_mtime < when) {
                snprintf(oldest, sizeof oldest, "%s", other);
                when = st.st_mtime;
            }
        }
        if (d)
            closedir(d);
        if (!*oldest || (n < PUT_MOST && time(NULL) - when <= PUT_S) || unlink(oldest))
            return;
    }
}

/* 0, 1 = that was all of it, or -1 with the reason. */
static int take_part(const char *path, const PB(ContinuityCommand) * cmd, struct err *e)
{
    char sha[SHA256_TEXT];
    struct stat st;
    int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW | (cmd->offset ? 0 : O_TRUNC), 0600);
    if (fd < 0 || fstat(fd, &st)) {
        if (fd >= 0)
            (void)close(fd);
        return err_set(e, "%s cannot be written: %s", path, strerror(errno));
    }
    int bad = 0;
    if ((uint64_t)st.st_size < cmd->offset)
        bad = err_set(e, "a part is missing before offset %" PRIu64 ": begin again at 0", cmd->offset);
    else if (pwrite(fd, cmd->data.data, cmd->data.len, (off_t)cmd->offset) != (ssize_t)cmd->data.len || fsync(fd))
        bad = err_set(e, "%s cannot be written: %s", path, strerror(errno));
    (void)close(fd);
    if (bad || cmd->offset + cmd->data.len < cmd->bytes)
        return bad;
    if (sha256_file(path, sha) && strcmp(sha, cmd->sha256) == 0)
        return 1;
    (void)unlink(path);
    return err_set(e, "the parts do not come to the sha256 that was named: send it again");
}

void config_ask_put(struct config_room *r, const PB(ContinuityCommand) * cmd, const char *reply)
{
    char path[700];
    struct err e = {""};
    if (strlen(cmd->sha256) != SHA256_TEXT - 1 || strspn(cmd->sha256, "0123456789abcdef") != SHA256_TEXT - 1) {
        config_answer(r, reply, CONFIG_INVALID, NULL, "sha256 is the file's, 64 hexadecimal digits");
        return;
    }
    if (cmd->bytes == 0 || cmd->bytes > CONFIG_FILE_MAX || cmd->data.len == 0 || cmd->offset > cmd->bytes ||
        cmd->data.len > cmd->bytes - cmd->offset) {
        config_answer(r, reply, CONFIG_INVALID, NULL, "a part must lie within the file's bytes, which are 1 to %u",
                      CONFIG_FILE_MAX);
        return;
    }
    if (!*r->work) {
        config_answer(r, reply, CONFIG_UNAVAILABLE, NULL, "the history is not open: ask again in a moment");
        return;
    }
    config_ask_path(r, cmd->sha256, path, sizeof path);
    tidy(r, path);
    int is = take_part(path, cmd, &e);
    config_answer(r, reply, is < 0 ? CONFIG_INVALID : CONFIG_OK, NULL, "%s",
                  is < 0 ? e.text
                  : is   ? "handed in"
                         : "go on");
}
