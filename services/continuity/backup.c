/* backup.c - the sources of backups: what the settings say of them, what is begun, and what came of it. */
#include "common/clock.h"
#include "common/log.h"
#include "continuity/backup_command.h"
#include "continuity/backup_impl.h"
#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define AT_ONCE 2 /* threads that hash are those that make the outbox durable, too: some stay free */

/* ---- what the settings say ---- */

static const struct set_rb_data *data_of(const struct settings *s, const char *deployment)
{
    for (size_t i = 0; *deployment && i < s->rollback.deployments.n; i++) {
        const struct set_deployment *d = CONF_AT(s->rollback.deployments, struct set_deployment, i);
        if (strcmp(d->name, deployment) == 0)
            return &d->data;
    }
    return NULL;
}

/* Everything in one place: where it goes, what is saved. A copy. */
static struct set_backup *resolve(struct continuity *c, const struct set_backup *is, char where[static 128])
{
    const struct settings *s = continuity_service_of(c)->settings;
    const struct set_rb_data *data = data_of(s, is->deployment);
    struct set_backup all = *is;
    char audit[600], *paths[1] = {audit};
    if (data) {
        all.to = (struct set_repository){data->repository, data->password_file, data->env};
        all.path = data->path;
        snprintf(where, 128, "data");
    } else if (*is->to.repository) {
        snprintf(where, 128, "continuity.backups.%.64s.to", is->name);
    } else {
        all.to = continuity_set(c)->repository;
        snprintf(where, 128, "continuity.repository");
    }
    if (is->kind == SET_BACKUP_AUDIT && is->path.n == 0) {
        snprintf(audit, sizeof audit, "%.500s/audit", s->data_dir);
        all.path = (struct conf_list){paths, 1};
    }
    struct set_backup *copy = settings_backup_copy(&all);
    assert(copy && "out of memory for settings");
    return copy;
}

static uint64_t seed_of(const char *name)
{
    uint64_t h = UINT64_C(1469598103934665603);
    for (; *name; name++)
        h = (h ^ (unsigned char)*name) * UINT64_C(1099511628211);
    return h;
}

static struct backup_source *find(const struct backups *b, const char *name)
{
    for (size_t i = 0; i < b->n; i++)
        if (strcmp(b->sources[i]->set->name, name) == 0)
            return b->sources[i];
    return NULL;
}

struct backup_source *backups_find(struct backups *b, const char *name)
{
    return find(b, name);
}

static struct backup_source *source_new(struct backups *b, const struct set_backup *is)
{
    struct backup_source *x = calloc(1, sizeof *x);
    assert(x && "out of memory for a source");
    x->b = b;
    x->set = resolve(b->c, is, x->where);
    x->kind = backup_source_kind(is->kind);
    x->plan.random = seed_of(is->name);
    backup_rule_of(continuity_set(b->c), x->set, &x->rule);
    redoubt__v1__backup_state__init(&x->doc);
    return x;
}

static void source_free(struct backup_source *x)
{
    backup_drop(x->run);
    backup_list_unref(x->proven);
    settings_backup_free(x->set);
    free(x);
}

/* ---- open, close, reload ---- */

static void take_settings(struct backups *b)
{
    const struct conf_list *list = &continuity_set(b->c)->backups;
    struct backup_source **was = b->sources;
    size_t n_was = b->n;
    b->sources = calloc(list->n + 1, sizeof(struct backup_source *));
    assert(b->sources && "out of memory for sources");
    b->n = 0;
    for (size_t i = 0; i < list->n; i++) {
        struct backup_source *is = source_new(b, CONF_AT(*list, struct set_backup, i)), *x = NULL;
        for (size_t k = 0; k < n_was && !x; k++)
            if (was[k] && strcmp(was[k]->set->name, is->set->name) == 0) {
                x = was[k];
                was[k] = NULL;
            }
        if (x)
            backups_replace(x, is);
        b->sources[b->n++] = x ? x : is;
        if (x)
            source_free(is);
    }
    for (size_t k = 0; k < n_was; k++)
        if (was[k]) { /* nobody asks for it any more */
            backup_let_go(was[k]);
            source_free(was[k]);
        }
    free(was);
}

static int make_dir(const char *path, struct err *e)
{
    return mkdir(path, 0700) != 0 && errno != EEXIST ? err_set(e, "%.300s cannot be made: %s", path, strerror(errno))
                                                     : 0;
}

static void on_cleaned(void *ctx, int status, const struct err *e)
{
    struct backups *b = ctx;
    b->cleaning = NULL;
    if (status != 0)
        log_warn("what an earlier backup has left cannot be removed", F_STR("why", e->text));
}

struct backups *backups_open(struct continuity *c, struct err *e)
{
    struct backups *b = calloc(1, sizeof *b);
    const char *dir = continuity_dir(c);
    if (!b) {
        err_set(e, "out of memory");
        return NULL;
    }
    b->c = c;
    snprintf(b->restic, sizeof b->restic, "%.400s/restic", dir);
    snprintf(b->staging, sizeof b->staging, "%.400s/staging", dir);
    snprintf(b->scratch, sizeof b->scratch, "%.400s/scratch", dir);
    if (make_dir(dir, e) || make_dir(b->restic, e) || make_dir(b->staging, e) || make_dir(b->scratch, e)) {
        free(b);
        return NULL;
    }
    take_settings(b);
    b->cleaning = backups_clean_later(b, on_cleaned);
    return b;
}

void backups_close(struct backups *b)
{
    if (!b)
        return;
    backup_commands_left(b);
    work_drop(b->cleaning);
    for (size_t i = 0; i < b->n; i++)
        source_free(b->sources[i]);
    free(b->sources);
    free(b);
}

void backups_seen(struct backups *b, const PB(BackupState) * s)
{
    struct backup_source *x = find(b, s->source);
    if (x && !x->run && (!x->begun || s->revision > x->revision))
        backup_take(x, s, continuity_now_ms(b->c));
}

void backups_reload(struct backups *b)
{
    take_settings(b);
}

void backups_replace(struct backup_source *x, struct backup_source *is)
{
    bool same = settings_backup_same(x->set, is->set),
         moved = strcmp(x->set->to.repository, is->set->to.repository) != 0 || x->kind != is->kind;
    x->rule = is->rule;
    if (!same) {
        struct set_backup *set = x->set;
        backup_drop(x->run);
        x->set = is->set;
        is->set = set;
        x->kind = is->kind;
        snprintf(x->where, sizeof x->where, "%s", is->where);
        backup_list_unref(x->proven);
        x->proven = NULL;
    }
    if (!x->begun)
        return;
    if (moved) /* what is proven is so elsewhere */
        backup_plan_begin(&x->plan, &x->rule, seed_of(x->set->name), continuity_now_ms(x->b->c));
    backup_plan_fit(&x->plan, &x->rule, continuity_now_ms(x->b->c));
    if (!same)
        backup_announce(x);
}

/* ---- what is begun ---- */

static bool one_repository(const struct backup_source *a, const struct backup_source *b)
{
    return strcmp(a->set->to.repository, b->set->to.repository) == 0;
}

static void begin_due(struct backups *b, int64_t now_ms)
{
    struct backup_slot slots[64] = {0};
    size_t n = b->n < 64 ? b->n : 64, running = 0;
    for (size_t i = 0; i < n; i++) {
        slots[i] =
            (struct backup_slot){.plan = &b->sources[i]->plan, .repository = i, .busy = b->sources[i]->run != NULL};
        for (size_t k = 0; k < i; k++)
            if (one_repository(b->sources[k], b->sources[i])) {
                slots[i].repository = k;
                break;
            }
    }
    for (size_t i = 0; i < n; i++)
        running += slots[i].busy;
    for (; running < AT_ONCE; running++) {
        enum backup_act act = BACKUP_ACTS;
        size_t i = backup_plan_pick(slots, n, now_ms, &act);
        if (i == n)
            return;
        backup_begin(b->sources[i], act);
        slots[i].busy = true;
    }
}

void backups_tick(struct backups *b, int64_t now_ms)
{
    if (!continuity_leads(b->c) || b->cleaning)
        return;
    for (size_t i = 0; i < b->n; i++) {
        struct backup_source *x = b->sources[i];
        if (!x->begun) {
            backup_plan_begin(&x->plan, &x->rule, seed_of(x->set->name), now_ms);
            x->begun = true;
            backup_announce(x);
        }
    }
    begin_due(b, now_ms);
    for (size_t i = 0; i < b->n; i++)
        backup_judge(b->sources[i], now_ms);
}

/* ---- what came of it ---- */

static void saved(struct backup_source *x, struct backup_run *r, bool moved)
{
    snprintf(x->snapshot, sizeof x->snapshot, "%s", r->snapshot);
    x->files = r->list->sum.files;
    x->took_ms = (uint64_t)(clock_mono_ms() - r->mono_ms);
    x->force = false;
    if (!moved)
        return;
    snprintf(x->verified, sizeof x->verified, "%s", r->snapshot);
    backup_list_unref(x->proven);
    x->proven = backup_list_ref(r->list);
    if (x->set->kind == SET_BACKUP_CONFIG && continuity_config(x->b->c))
        config_room_verified(continuity_config(x->b->c), r->out.point_ms);
}

static void tested(struct backup_source *x, const struct backup_run *r)
{
    char by[100];
    x->test_took_ms = (uint64_t)r->mono_ms;
    snprintf(by, sizeof by, "test restore of %s", x->set->name);
    continuity_demonstrated(x->b->c, SET_RTO_DATA, x->set->name, r->mono_ms > 0 ? r->mono_ms : 1, by);
}

/* What a check says of a repository is true for all who share it. */
static void share(const struct backup_run *r, int64_t now_ms)
{
    struct backups *b = r->x->b;
    if ((r->act != BACKUP_CHECK && r->act != BACKUP_READ) || (!r->out.ok && !r->out.damaged))
        return;
    for (size_t i = 0; i < b->n; i++) {
        struct backup_source *y = b->sources[i];
        if (y == r->x || !y->begun || !one_repository(y, r->x))
            continue;
        (void)backup_plan_ended(&y->plan, &y->rule, r->act, &r->out, r->began_ms, now_ms);
        if (r->out.damaged) {
            backup_list_unref(y->proven);
            y->proven = NULL;
        }
        backup_announce(y);
    }
}

void backups_ended(struct backup_run *r)
{
    struct backup_source *x = r->x;
    int64_t now_ms = continuity_now_ms(x->b->c);
    bool moved = backup_plan_ended(&x->plan, &x->rule, r->act, &r->out, r->began_ms, now_ms);
    if (r->out.ok && r->act == BACKUP_SAVE)
        saved(x, r, moved);
    if (r->out.ok && r->act == BACKUP_TEST)
        tested(x, r);
    if (r->out.ok && r->snapshots > 0)
        x->snapshots = r->snapshots;
    bool over = r->act == x->failed_act || (x->plan.failures[x->failed_act] == 0 && !x->noted);
    if (!r->out.ok || (r->noted && over)) { /* stays until the same has passed */
        x->failed_act = r->act;
        x->noted = r->out.ok;
        snprintf(x->error, sizeof x->error, "%s", r->text);
    } else if (over) {
        x->noted = false;
        *x->error = '\0';
    }
    x->failures = x->plan.failures[x->failed_act];
    backup_recorded(x, r, moved);
    share(r, now_ms);
    backup_announce(x);
    backup_judge(x, now_ms);
}

/* ---- what others ask ---- */

size_t backups_states(const struct backups *b, const PB(BackupState) * *ret, size_t max)
{
    size_t n = 0;
    for (size_t i = 0; i < b->n && n < max; i++)
        if (b->sources[i]->begun)
            ret[n++] = &b->sources[i]->doc;
    return n;
}

bool backups_point(const struct backups *b, enum set_objective rpo, int64_t *ret_point_ms, int64_t *ret_expected_ms,
                   const char **ret_source)
{
    const struct backup_source *worst = NULL;
    for (size_t i = 0; i < b->n; i++) {
        const struct backup_source *x = b->sources[i];
        int kind = x->set->kind;
        bool counts = (rpo == SET_RPO_LEARNING && kind == SET_BACKUP_LEARNING) ||
                      (rpo == SET_RPO_AUDIT && kind == SET_BACKUP_AUDIT) ||
                      (rpo == SET_RPO_CONFIG && kind == SET_BACKUP_CONFIG);
        if (counts && (!worst || x->plan.point_ms < worst->plan.point_ms))
            worst = x;
    }
    if (!worst)
        return false;
    *ret_point_ms = worst->plan.point_ms;
    *ret_expected_ms = worst->rule.period_ms[BACKUP_SAVE] + (int64_t)worst->took_ms;
    *ret_source = worst->set->name;
    return true;
}
