/* config_room.c - the configuration that is in force: every accepted change is a commit with who and why.
 *
 * A file that was changed by hand is taken as it is once it holds still, if it is right in every line; one that is wrong is an alert until it is right again. */
#include "common/clock.h"
#include "common/log.h"
#include "continuity/config_impl.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define RETRY_MS   10000    /* a history that cannot be opened, or a commit that fails, is tried again */
#define REJUDGE_MS 60000    /* an invalid file may become right by what it refers to */
#define CHECK_MS   86400000 /* the history's own objects */

/* ---- saying ---- */

void config_room_announce(struct config_room *r)
{
    PB(ConfigState) m = PB_INIT(CONFIG_STATE);
    uint64_t now = (uint64_t)clock_wall_ms();
    struct err e = {""};
    size_t len;
    m.commit = r->tip.id;
    m.sha256 = r->tip.sha256;
    m.by = r->tip.by;
    m.reason = r->tip.reason;
    m.changed_unix_ms = r->tip.at_ms;
    m.bytes = r->bytes;
    m.verified_point_unix_ms = r->state ? r->state->verified_point_unix_ms : 0;
    m.fence = continuity_fence(r->c);
    m.open_alerts = r->alerts;
    r->revision = now > r->revision ? now : r->revision + 1;
    continuity_announce(r->c, SUBJECT_CONTINUITY_CONFIG, r->revision, &m);
    void *data = wire_pack(&m, &len, &e);
    PB(ConfigState) *copy = data ? wire_unpack(PB_DESC(config_state), data, len, &e) : NULL;
    free(data);
    if (!copy) {
        log_error("own state of the configuration is not valid", F_STR("why", e.text));
        return;
    }
    wire_free(r->state);
    r->state = copy;
}

void config_room_alert(struct config_room *r, unsigned bit, bool on, const char *detail)
{
    static const char *const texts[][2] = {
        {"the settings file is not accepted", "the settings file is right again"},
        {"changes of the settings are not kept in the history", "the history of the settings is kept again"}};
    bool invalid = bit == CONFIG_ALERT_INVALID;
    if (on == ((r->alerts & bit) != 0))
        return;
    r->alerts ^= bit;
    if (on)
        log_error(texts[!invalid][0], F_STR("file", r->path), F_STR("why", detail));
    else
        log_info(texts[!invalid][1], F_STR("file", r->path));
    continuity_alert(r->c, invalid ? "config/invalid" : "config/history", REDOUBT__V1__SEVERITY__SEVERITY_HIGH, !on,
                     "", texts[!invalid][!on], detail);
    if (r->ready)
        config_room_announce(r);
}

/* ---- opening ---- */

static void failed(struct config_room *r, const char *why)
{
    r->opening = false;
    r->retry_ms = continuity_now_ms(r->c) + RETRY_MS;
    if (!r->closing)
        config_room_alert(r, CONFIG_ALERT_HISTORY, true, why);
}

static void on_entry(void *ctx, const struct config_git_result *res)
{
    struct config_room *r = ctx;
    if (res->ok && config_git_parse(res->out, res->len, &r->tip, 1) != 1) {
        failed(r, "the newest commit of the history cannot be read");
        return;
    }
    if (!res->ok) {
        failed(r, res->error);
        return;
    }
    r->opening = false;
    r->ready = true;
    config_room_alert(r, CONFIG_ALERT_HISTORY, false, "");
    if (!r->state || strcmp(r->state->commit, r->tip.id) != 0)
        config_room_announce(r);
}

static void on_tip(void *ctx, const struct config_git_result *res)
{
    struct config_room *r = ctx;
    char id[CONFIG_GIT_ID];
    snprintf(id, sizeof id, "%.*s", (int)strcspn(res->out, "\n"), res->out);
    if (!res->ok) {
        failed(r, res->error);
    } else if (*id) {
        config_git_log(r->git, id, 1, on_entry, r);
    } else {
        r->opening = false;
        r->ready = true; /* and empty: the first look makes the first commit */
    }
}

static void on_init(void *ctx, const struct config_git_result *res)
{
    struct config_room *r = ctx;
    if (res->ok)
        config_git_tip(r->git, on_tip, r);
    else
        failed(r, res->error);
}

static void open_history(struct config_room *r)
{
    const struct set_config_history *set = &continuity_set(r->c)->config;
    char dir[600];
    struct err e = {""};
    r->opening = true;
    snprintf(r->work, sizeof r->work, "%s/config.work", continuity_dir(r->c));
    snprintf(dir, sizeof dir, "%s/config", continuity_dir(r->c));
    if (mkdir(r->work, 0700) && errno != EEXIST) {
        (void)err_set(&e, "%s cannot be made: %s", r->work, strerror(errno));
        failed(r, e.text);
        return;
    }
    if (!r->git)
        r->git = config_git_open(&continuity_service_of(r->c)->loop, *set->dir ? set->dir : dir, &e);
    if (r->git)
        config_git_init(r->git, on_init, r);
    else
        failed(r, e.text);
}

static void find_path(struct config_room *r)
{
    const struct set_config_history *set = &continuity_set(r->c)->config;
    snprintf(r->path, sizeof r->path, "%s",
             *set->file ? set->file : service_config_path(continuity_service_of(r->c)));
}

static void find_baseline(struct config_room *r, const struct settings *s)
{
    const char *path = s->baseline.path;
    snprintf(r->baseline[0], sizeof r->baseline[0], "%s", path);
    snprintf(r->baseline[1], sizeof r->baseline[1], "%s%s", path, *path ? ".signoff" : "");
}

struct config_room *config_room_open(struct continuity *c, struct err *e)
{
    struct config_room *r = calloc(1, sizeof *r);
    if (!r) {
        (void)err_set(e, "out of memory");
        return NULL;
    }
    r->c = c;
    find_path(r);
    find_baseline(r, continuity_service_of(c)->settings);
    return r;
}

void config_room_close(struct config_room *r)
{
    if (!r)
        return;
    r->closing = true;
    config_change_close(r);
    config_git_close(r->git);
    wire_free(r->state);
    free(r);
}

void config_room_seen(struct config_room *r, const PB(ConfigState) * s)
{
    struct err e = {""};
    size_t len;
    if (r->ready && s->fence <= continuity_fence(r->c))
        return; /* our own, or an older one */
    void *data = wire_pack(s, &len, &e);
    PB(ConfigState) *copy = data ? wire_unpack(PB_DESC(config_state), data, len, &e) : NULL;
    free(data);
    if (!copy)
        return;
    wire_free(r->state);
    r->state = copy;
    if (!r->ready)
        r->alerts |= copy->open_alerts & (CONFIG_ALERT_INVALID | CONFIG_ALERT_HISTORY);
}

void config_room_reload(struct config_room *r)
{
    find_path(r);
    find_baseline(r, continuity_service_of(r->c)->settings);
}

const PB(ConfigState) * config_room_state(const struct config_room *r)
{
    return r->state;
}

void config_room_verified(struct config_room *r, int64_t point_ms)
{
    if (!r->ready || !r->state || point_ms <= r->state->verified_point_unix_ms)
        return;
    r->state->verified_point_unix_ms = point_ms;
    config_room_announce(r);
}

/* ---- commits ---- */

struct commit {
    struct config_room *r;
    struct config_git_entry entry;
    uint64_t bytes;
    config_committed done;
};

static void on_commit(void *ctx, const struct config_git_result *res)
{
    struct commit *k = ctx;
    struct config_room *r = k->r;
    size_t n = strcspn(res->out, "\n");
    char why[600] = "";
    r->committing = false;
    if (res->ok && n > 0 && n < sizeof k->entry.id) {
        memcpy(k->entry.id, res->out, n);
        k->entry.id[n] = '\0';
        r->tip = k->entry;
        r->bytes = k->bytes;
        config_room_alert(r, CONFIG_ALERT_HISTORY, false, "");
        config_room_announce(r);
    } else {
        snprintf(why, sizeof why, "%s", res->ok ? "git has not named the new commit" : res->error);
        r->retry_ms = continuity_now_ms(r->c) + RETRY_MS;
        if (!r->closing) {
            config_room_alert(r, CONFIG_ALERT_HISTORY, true, why);
            r->ready = false; /* where the history stands is looked at again: another may have written it */
        }
    }
    if (k->done)
        k->done(r, why);
    free(k);
}

/* Of both files, one behind the other; "" = there is no baseline. */
static void baseline_hash(const struct config_text t[2], char ret[static SHA256_TEXT])
{
    char both[2 * SHA256_TEXT];
    int n = snprintf(both, sizeof both, "%s%s", t[0].sha256, t[1].sha256);
    ret[0] = '\0';
    if (n > 0)
        sha256_text(both, (size_t)n, ret);
}

static void read_baseline(struct config_room *r, struct config_text t[2])
{
    for (size_t i = 0; i < 2; i++)
        if (!*r->baseline[i] || config_text_read(r->baseline[i], &t[i], NULL))
            t[i] = (struct config_text){0}; /* the guard tells people of that */
}

void config_room_commit(struct config_room *r, const struct config_text *file, const struct settings *s,
                        const char *by, const char *reason, config_committed done)
{
    struct commit *k = calloc(1, sizeof *k);
    struct config_text t[2] = {{0}, {0}};
    if (!k)
        abort();
    if (s)
        find_baseline(r, s);
    read_baseline(r, t);
    *k = (struct commit){.r = r, .done = done, .bytes = file->len};
    k->entry.at_ms = clock_wall_ms();
    snprintf(k->entry.by, sizeof k->entry.by, "%s", by);
    snprintf(k->entry.reason, sizeof k->entry.reason, "%s", reason);
    snprintf(k->entry.sha256, sizeof k->entry.sha256, "%s", file->sha256);
    baseline_hash(t, k->entry.baseline);
    const struct config_git_change c = {.parent = r->tip.id,
                                        .by = by,
                                        .reason = reason,
                                        .sha256 = file->sha256,
                                        .baseline = k->entry.baseline,
                                        .at_ms = k->entry.at_ms,
                                        .files = {{CONFIG_GIT_FILE, file->text, file->len},
                                                  {"security-baseline.yaml", t[0].text, t[0].len},
                                                  {"security-baseline.yaml.signoff", t[1].text, t[1].len}}};
    r->committing = true;
    config_git_commit(r->git, &c, on_commit, k);
    config_text_free(&t[0]);
    config_text_free(&t[1]);
}

/* ---- changes by hand ---- */

static void stamps(const struct config_room *r, struct config_stamp ret[CONFIG_WATCHED])
{
    config_stamp(r->path, &ret[0]);
    for (size_t i = 0; i < 2; i++) {
        ret[i + 1] = (struct config_stamp){0};
        if (*r->baseline[i])
            config_stamp(r->baseline[i], &ret[i + 1]);
    }
}

static bool stamps_same(const struct config_stamp a[CONFIG_WATCHED], const struct config_stamp b[CONFIG_WATCHED])
{
    bool same = true;
    for (size_t i = 0; i < CONFIG_WATCHED; i++)
        same = same && config_stamp_same(&a[i], &b[i]);
    return same;
}

void config_room_settled(struct config_room *r)
{
    stamps(r, r->done);
    memcpy(r->before, r->done, sizeof r->before);
    r->problem[0] = '\0';
    config_room_alert(r, CONFIG_ALERT_INVALID, false, "");
}

static void refuse(struct config_room *r, const char *why)
{
    bool again = strcmp(r->problem, why) == 0;
    snprintf(r->problem, sizeof r->problem, "%s", why);
    r->judged_ms = continuity_now_ms(r->c);
    if ((r->alerts & CONFIG_ALERT_INVALID) && !again)
        log_warn("the settings file is still not accepted", F_STR("file", r->path), F_STR("why", why));
    config_room_alert(r, CONFIG_ALERT_INVALID, true, why);
}

static void on_by_hand(struct config_room *r, const char *error)
{
    if (*error) {
        memset(r->done, 0, sizeof r->done); /* looked at again */
        return;
    }
    log_info("settings accepted", F_STR("commit", r->tip.id), F_STR("by", r->tip.by), F_STR("reason", r->tip.reason));
    continuity_record(r->c, "config.accepted", r->tip.by, r->tip.id, REDOUBT__V1__AUDIT_OUTCOME__AUDIT_OUTCOME_DONE,
                      r->tip.reason);
}

static void take(struct config_room *r, const struct config_text *file, const struct settings *s)
{
    char owner[80], by[129];
    snprintf(by, sizeof by, "unknown (file owner %s)", config_owner(r->path, owner, sizeof owner));
    const char *reason = !*r->tip.id                                ? "found at the first start"
                         : strcmp(file->sha256, r->tip.sha256) == 0 ? "security baseline changed in place"
                                                                    : "changed in place";
    config_room_settled(r);
    config_room_commit(r, file, s, by, reason, on_by_hand);
}

/* The file is still, and not what was looked at last. */
static void judge(struct config_room *r)
{
    struct config_text file = {0}, t[2] = {{0}, {0}};
    char baseline[SHA256_TEXT], lines[600];
    struct err e = {""};
    memcpy(r->done, r->before, sizeof r->done);
    if (config_text_read(r->path, &file, &e)) {
        refuse(r, e.text);
        return;
    }
    read_baseline(r, t);
    baseline_hash(t, baseline);
    config_text_free(&t[0]);
    config_text_free(&t[1]);
    if (strcmp(file.sha256, r->tip.sha256) == 0 && strcmp(baseline, r->tip.baseline) == 0) {
        r->bytes = file.len;
        config_room_settled(r);
    } else {
        struct conf_report report = {0};
        struct settings *s = config_judge(r->path, file.text, file.len, &report);
        if (s)
            take(r, &file, s);
        else
            refuse(r, config_lines(&report, lines, sizeof lines));
        settings_free(s);
        conf_report_free(&report);
    }
    config_text_free(&file);
}

static void look(struct config_room *r, int64_t now_ms)
{
    struct config_stamp is[CONFIG_WATCHED];
    if (config_change_resume(r))
        return;
    stamps(r, is);
    if (*r->problem && now_ms - r->judged_ms >= REJUDGE_MS)
        memset(r->done, 0, sizeof r->done);
    if (stamps_same(is, r->done) && is[0].inode)
        return;
    if (!is[0].inode && *r->problem && now_ms - r->judged_ms < REJUDGE_MS)
        return; /* still not there: said */
    /* One that is being written is not judged: it must look the same twice. */
    if (stamps_same(is, r->before))
        judge(r);
    else
        memcpy(r->before, is, sizeof is);
}

static void on_checked(void *ctx, const struct config_git_result *res)
{
    struct config_room *r = ctx;
    if (!r->closing && !res->ok)
        config_room_alert(r, CONFIG_ALERT_HISTORY, true, res->error);
}

void config_room_tick(struct config_room *r, int64_t now_ms)
{
    if (!continuity_leads(r->c) || r->opening || r->committing || r->change)
        return;
    if (!r->ready) {
        if (now_ms >= r->retry_ms)
            open_history(r);
        return;
    }
    if (now_ms < r->look_ms)
        return;
    r->look_ms = now_ms + continuity_set(r->c)->config.look_ms;
    if (now_ms - r->checked_ms >= CHECK_MS) {
        r->checked_ms = now_ms;
        config_git_check(r->git, on_checked, r);
    }
    look(r, now_ms);
}

/* ---- commands, bundle ---- */

void config_room_command(struct config_room *r, const char *verb, const PB(ContinuityCommand) * cmd,
                         const char *reply)
{
    if (strcmp(verb, "config_put") == 0)
        config_ask_put(r, cmd, reply);
    else if (!r->ready)
        config_answer(r, reply, CONFIG_UNAVAILABLE, NULL, "the history is not open: %s",
                      r->alerts & CONFIG_ALERT_HISTORY ? "see the alert config/history" : "ask again in a moment");
    else if (strcmp(verb, "config_history") == 0)
        config_ask_history(r, cmd, reply);
    else if (strcmp(verb, "config_diff") == 0)
        config_ask_diff(r, cmd, reply);
    else if (strcmp(verb, "config_apply") == 0 || strcmp(verb, "config_rollback") == 0)
        config_change_begin(r, strcmp(verb, "config_rollback") == 0, cmd, reply);
    else
        config_answer(r, reply, CONFIG_INVALID, NULL, "unknown command %s", verb);
}

struct bundle {
    void (*cb)(void *ctx, const char *path, const char *error);
    void *ctx;
    char path[1024];
};

static void on_bundle(void *ctx, const struct config_git_result *res)
{
    struct bundle *b = ctx;
    b->cb(b->ctx, res->ok ? b->path : "", res->error);
    free(b);
}

static void on_no_bundle(void *ctx)
{
    struct bundle *b = ctx;
    b->cb(b->ctx, "", "the history of the configuration holds no commit yet");
    free(b);
}

void config_room_bundle(struct config_room *r, const char *dir,
                        void (*cb)(void *ctx, const char *path, const char *error), void *ctx)
{
    struct bundle *b = calloc(1, sizeof *b);
    if (!b)
        abort();
    *b = (struct bundle){.cb = cb, .ctx = ctx};
    snprintf(b->path, sizeof b->path, "%s/config.bundle", dir);
    if (r->ready && *r->tip.id)
        config_git_bundle(r->git, b->path, on_bundle, b);
    else
        loop_defer(&continuity_service_of(r->c)->loop, on_no_bundle, b);
}
