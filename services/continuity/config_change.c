/* config_change.c - apply and rollback: judged, compared, recorded, journaled, written, committed, announced; in this order, so that a kill is finished or undone.
 *
 * Between any two of these the file may have been changed by hand: then nothing is written over it. */
#include "common/log.h"
#include "continuity/config_impl.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct config_change {
    struct config_room *room; /* NULL = closed meanwhile: only the memory is left to be freed */
    bool rollback, dry_run, force, resumed;
    char reply[CONFIG_REPLY];
    char to[CONFIG_GIT_ID]; /* rollback: the commit */
    struct config_journal j;
    struct config_text now;    /* what the file is to be */
    struct settings *settings; /* of that */
    char restart[400];         /* settings that need one */
    char *diff;
    unsigned waiting; /* callbacks that will come, whatever happens */
};

static const char *action(const struct config_change *k)
{
    return strcmp(k->j.verb, "config_rollback") == 0 ? "config.rolled_back" : "config.applied";
}

/* Frees it when nothing can come any more. */
static void drop(struct config_change *k)
{
    if (k->room && k->room->change == k)
        k->room->change = NULL;
    k->room = NULL;
    if (k->waiting > 0)
        return;
    config_text_free(&k->now);
    settings_free(k->settings);
    free(k->diff);
    free(k);
}

static void answer(struct config_change *k, int status, const char *text)
{
    PB(ConfigDiff) d = PB_INIT(CONFIG_DIFF);
    if (!*k->reply)
        return;
    if (k->diff)
        config_ask_diff_of(&d, k->diff);
    config_answer(k->room, k->reply, status, k->diff && *k->diff ? &d : NULL, "%s", text);
    *k->reply = '\0';
}

__attribute__((format(printf, 3, 4))) static void end(struct config_change *k, int status, const char *fmt, ...)
{
    char text[1000];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    answer(k, status, text);
    drop(k);
}

void config_change_close(struct config_room *r)
{
    if (r->change)
        end(r->change, CONFIG_UNAVAILABLE,
            "this replica does not lead any more: look with `redoubt config history` what came of it");
}

/* ---- written, committed ---- */

static void on_committed(struct config_room *r, const char *error)
{
    struct config_change *k = r->change;
    if (!k)
        return; /* closed */
    if (*error) {
        /* The journal stays: the next look finishes it. */
        end(k, CONFIG_OK, "written and in force, but not in the history yet, which is tried again: %s", error);
        return;
    }
    char sha[SHA256_TEXT], path[700];
    snprintf(sha, sizeof sha, "%s", k->j.now);
    config_journal_remove(r->work);
    config_ask_path(r, sha, path, sizeof path);
    (void)unlink(path);
    log_info("settings changed", F_STR("commit", r->tip.id), F_STR("by", r->tip.by), F_STR("reason", r->tip.reason));
    continuity_record(r->c, action(k), k->j.by, r->tip.id, REDOUBT__V1__AUDIT_OUTCOME__AUDIT_OUTCOME_DONE,
                      k->j.reason);
    end(k, CONFIG_OK, "%s as %.12s%s%s", k->rollback ? "rolled back" : "applied", r->tip.id,
        *k->restart ? "; until these services are restarted they keep all of their old settings: " : "", k->restart);
}

/* The file is what the journal says; what is left is to say so. */
static void commit(struct config_change *k)
{
    struct config_room *r = k->room;
    config_room_settled(r);
    config_room_commit(r, &k->now, k->settings, k->j.by, k->j.reason, on_committed);
}

static void note_in_place(void *ctx)
{
    struct config_change *k = ctx;
    struct err e = {""};
    k->j.in_place = true;
    if (config_journal_write(k->room->work, &k->j, k->now.text, k->now.len, &e))
        log_warn("a kill while the settings are written in place would leave a part", F_STR("why", e.text));
}

static void write_file(struct config_change *k)
{
    struct config_room *r = k->room;
    struct err e = {""};
    if (config_replace(r->path, k->now.text, k->now.len, note_in_place, k, &e)) {
        if (!k->j.in_place)
            config_journal_remove(r->work); /* nothing was touched */
        continuity_record(r->c, action(k), k->j.by, r->path, REDOUBT__V1__AUDIT_OUTCOME__AUDIT_OUTCOME_FAILED,
                          e.text);
        end(k, CONFIG_UNAVAILABLE, "%s", e.text);
        return;
    }
    commit(k);
}

static bool same_on_disk(const struct config_change *k)
{
    char sha[SHA256_TEXT];
    (void)sha256_file(k->room->path, sha);
    return strcmp(sha, k->j.was) == 0;
}

static void on_recorded(void *ctx, int status, const char *error)
{
    struct config_change *k = ctx;
    struct config_room *r = k->room;
    struct err e = {""};
    k->waiting--;
    if (!r) {
        drop(k);
        return;
    }
    if (status)
        end(k, CONFIG_UNAVAILABLE, "nothing was changed, since it could not be recorded: %s", error);
    else if (!continuity_leads(r->c))
        end(k, CONFIG_UNAVAILABLE, "nothing was changed: this replica does not lead any more; ask again");
    else if (!same_on_disk(k))
        end(k, CONFIG_UNAVAILABLE, "nothing was changed: %s was changed by hand meanwhile; look, and ask again",
            r->path);
    else if (config_journal_write(r->work, &k->j, k->now.text, k->now.len, &e))
        end(k, CONFIG_UNAVAILABLE, "nothing was changed: %s", e.text);
    else
        write_file(k);
}

static void record(struct config_change *k)
{
    char detail[1200];
    snprintf(detail, sizeof detail, "%s%s%s: %s", k->rollback ? "to " : "sha256 ", k->rollback ? k->to : k->j.now,
             k->force ? ", forced" : "", k->j.reason);
    k->waiting++;
    continuity_record_strict(k->room->c, action(k), k->j.by, k->room->path, detail, on_recorded, k);
}

/* ---- compared ---- */

static void on_diff(void *ctx, const struct config_git_result *res)
{
    struct config_change *k = ctx;
    k->waiting--;
    if (!k->room) {
        drop(k);
        return;
    }
    k->diff = strdup(!res->ok   ? ""
                     : res->len ? res->out
                                : "no setting differs: comments, the order, or secrets (shown as ***) do\n");
    if (!k->dry_run)
        record(k);
    else
        end(k, CONFIG_OK, "right in every line; would be %s%s%s", k->rollback ? "rolled back" : "applied",
            *k->restart ? "; needs a restart of the services: " : "", k->restart);
}

static void compare(struct config_change *k, const struct config_text *was, const struct settings *old)
{
    struct config_room *r = k->room;
    struct conf_report report = {0};
    char *a = old ? config_shown(old) : strdup("# what is there now cannot be read\n");
    char *b = config_shown(k->settings), title[80];
    if (old && !conf_may_reload(&settings_schema, old, k->settings, &report))
        config_lines(&report, k->restart, sizeof k->restart);
    conf_report_free(&report);
    snprintf(title, sizeof title, "%.12s", strcmp(was->sha256, r->tip.sha256) == 0 ? r->tip.id : "by hand");
    if (a && b) {
        k->waiting++;
        config_git_diff(r->git, title, a, k->rollback ? k->to : "new", b, on_diff, k);
    } else {
        end(k, CONFIG_UNAVAILABLE, "out of memory");
    }
    free(a);
    free(b);
}

/* What is there now: in the history, or wrong, but never something that nobody has looked at. */
static void against_present(struct config_change *k)
{
    struct config_room *r = k->room;
    struct config_text was = {0};
    struct conf_report report = {0};
    struct err e = {""};
    bool readable = config_text_read(r->path, &was, &e) == 0;
    struct settings *old = readable ? conf_parse(&settings_schema, r->path, was.text, was.len, &report) : NULL;
    conf_report_free(&report);
    snprintf(k->j.was, sizeof k->j.was, "%s", was.sha256);
    if (old && strcmp(was.sha256, r->tip.sha256) != 0)
        end(k, CONFIG_UNAVAILABLE,
            "nothing was changed: %s was changed by hand, and that is not in the history yet; look at it with "
            "`redoubt config history` in a moment",
            r->path);
    else if (strcmp(was.sha256, k->now.sha256) == 0)
        end(k, CONFIG_ALREADY, "the settings are these already");
    else
        compare(k, &was, old);
    settings_free(old);
    config_text_free(&was);
}

/* ---- judged ---- */

static bool literal_secrets(struct config_change *k)
{
    struct conf_report report = {0};
    char lines[700];
    conf_literals(&settings_schema, "new", k->now.text, k->now.len, &report);
    bool found = report.n > 0;
    if (found)
        end(k, CONFIG_INVALID,
            "secrets would be written into the history: name them as ${NAME} or ${file:/path}, or use --force: %s",
            config_lines(&report, lines, sizeof lines));
    conf_report_free(&report);
    return found;
}

static void judge(struct config_change *k)
{
    struct conf_report report = {0};
    char lines[900];
    sha256_text(k->now.text, k->now.len, k->now.sha256);
    snprintf(k->j.now, sizeof k->j.now, "%s", k->now.sha256);
    k->settings = config_judge(k->rollback ? k->to : "new", k->now.text, k->now.len, &report);
    if (!k->settings)
        end(k, CONFIG_INVALID, "%s", config_lines(&report, lines, sizeof lines));
    else if (k->rollback || k->force || !literal_secrets(k))
        against_present(k);
    conf_report_free(&report);
}

static void on_shown(void *ctx, const struct config_git_result *res)
{
    struct config_change *k = ctx;
    k->waiting--;
    if (!k->room) {
        drop(k);
        return;
    }
    char *copy = res->ok ? malloc(res->len + 1) : NULL;
    if (!copy) {
        end(k, CONFIG_INVALID, "%s", res->ok ? "out of memory" : res->error);
        return;
    }
    memcpy(copy, res->out, res->len + 1);
    k->now = (struct config_text){.text = copy, .len = res->len};
    judge(k);
}

static void on_found(void *ctx, const struct config_git_result *res)
{
    struct config_change *k = ctx;
    k->waiting--;
    if (!k->room) {
        drop(k);
    } else if (!res->ok) {
        end(k, CONFIG_INVALID, "there is no such version in the history: see `redoubt config history`");
    } else {
        snprintf(k->to, sizeof k->to, "%.*s", (int)strcspn(res->out, "\n"), res->out);
        k->waiting++;
        config_git_show(k->room->git, k->to, CONFIG_GIT_FILE, on_shown, k);
    }
}

static void fetch(struct config_change *k, const PB(ContinuityCommand) * cmd)
{
    struct config_room *r = k->room;
    char path[700];
    struct err e = {""};
    if (k->rollback) {
        k->waiting++;
        config_git_find(r->git, cmd->to, on_found, k);
        return;
    }
    config_ask_path(r, cmd->sha256, path, sizeof path);
    if (config_text_read(path, &k->now, &e))
        end(k, CONFIG_INVALID, "no file of this sha256 was handed in: send it by config_put first");
    else if (strcmp(k->now.sha256, cmd->sha256) != 0)
        end(k, CONFIG_INVALID, "the file was not handed in as a whole: send it again by config_put");
    else
        judge(k);
}

/* What is wrong with the order; NULL = nothing. */
static const char *wrong(const struct config_room *r, bool rollback, const PB(ContinuityCommand) * cmd)
{
    if (!cmd->dry_run && (!*cmd->by || !*cmd->reason))
        return "by and reason are required: they are part of the history";
    if (rollback && !config_git_name_ok(cmd->to))
        return "name the commit by 4 to 64 hexadecimal digits: see `redoubt config history`";
    if (!rollback &&
        (strlen(cmd->sha256) != SHA256_TEXT - 1 || strspn(cmd->sha256, "0123456789abcdef") != SHA256_TEXT - 1))
        return "sha256 is the file's, 64 hexadecimal digits";
    if (!rollback && !*cmd->from && !cmd->force && *r->tip.id)
        return "from is required: the version that the change was made from";
    return NULL;
}

void config_change_begin(struct config_room *r, bool rollback, const PB(ContinuityCommand) * cmd, const char *reply)
{
    const char *why = wrong(r, rollback, cmd);
    if (why) {
        config_answer(r, reply, CONFIG_INVALID, NULL, "%s", why);
        return;
    }
    if (*cmd->from && (!config_git_name_ok(cmd->from) || strncmp(cmd->from, r->tip.id, strlen(cmd->from)) != 0)) {
        config_answer(
            r, reply, CONFIG_UNAVAILABLE, NULL,
            "the settings have changed since %.12s: the present version is %.12s; look at it, and ask again",
            cmd->from, r->tip.id);
        return;
    }
    struct config_change *k = r->change || r->committing ? NULL : calloc(1, sizeof *k);
    if (!k) {
        config_answer(r, reply, CONFIG_UNAVAILABLE, NULL, "another change is under way: ask again in a moment");
        return;
    }
    r->change = k;
    k->room = r;
    k->rollback = rollback;
    k->dry_run = cmd->dry_run;
    k->force = cmd->force;
    snprintf(k->reply, sizeof k->reply, "%s", reply);
    snprintf(k->j.verb, sizeof k->j.verb, "%s", rollback ? "config_rollback" : "config_apply");
    snprintf(k->j.by, sizeof k->j.by, "%s", cmd->by);
    snprintf(k->j.reason, sizeof k->j.reason, "%s", cmd->reason);
    fetch(k, cmd);
}

/* ---- what a kill has left ---- */

static void undo(struct config_room *r, const struct config_journal *j, const char *why)
{
    log_warn("a change of the settings was cut short, and is undone", F_STR("by", j->by), F_STR("why", why));
    continuity_record(r->c, strcmp(j->verb, "config_rollback") == 0 ? "config.rolled_back" : "config.applied",
                      *j->by ? j->by : "unknown", r->path, REDOUBT__V1__AUDIT_OUTCOME__AUDIT_OUTCOME_FAILED, why);
    config_journal_remove(r->work);
}

bool config_change_resume(struct config_room *r)
{
    struct config_journal j;
    struct config_text text, is = {0};
    struct conf_report report = {0};
    struct err e = {""};
    int found = config_journal_read(r->work, &j, &text, &e);
    if (found == 0)
        return false;
    if (found < 0) {
        undo(r, &j, e.text);
        return false;
    }
    bool readable = config_text_read(r->path, &is, NULL) == 0;
    bool old = strcmp(is.sha256, j.was) == 0, new = strcmp(is.sha256, j.now) == 0;
    config_text_free(&is);
    struct config_change *k = (new || (!old && readable && j.in_place)) ? calloc(1, sizeof *k) : NULL;
    if (new &&strcmp(r->tip.sha256, j.now) == 0) {
        config_journal_remove(r->work); /* all was done but this */
        free(k);
        config_text_free(&text);
        return false;
    }
    if (!k) {
        undo(r, &j, old ? "killed before the file was written" : "the file was changed by hand meanwhile");
        config_text_free(&text);
        return false;
    }
    *k = (struct config_change){.room = r, .resumed = true, .j = j, .now = text};
    k->rollback = strcmp(j.verb, "config_rollback") == 0;
    k->settings = conf_parse(&settings_schema, r->path, text.text, text.len, &report);
    conf_report_free(&report);
    r->change = k;
    log_warn("a change of the settings was cut short, and is finished", F_STR("by", j.by), F_STR("reason", j.reason));
    if (new)
        commit(k);
    else
        write_file(k);
    return true;
}
