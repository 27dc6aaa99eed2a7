/* settings_continuity_check.c - what the tables of `continuity` cannot see: names, conditions, times of day, objectives that contradict. */
#include "common/settings_impl.h"
#include <stdio.h>
#include <string.h>

void settings_check_function(void *object, struct conf_ctx *ctx)
{
    static const char *const conditions[] = {"full", "degraded", "llm_fallback"};
    const struct set_function *f = object;
    for (size_t i = 0; i < f->lost_in.n; i++) {
        const char *is = *CONF_AT(f->lost_in, char *, i);
        bool known = false;
        for (size_t k = 0; k < N_OF(conditions); k++)
            known = known || strcmp(is, conditions[k]) == 0;
        if (!known)
            conf_problem(ctx, "lost_in", "found `%s`; allowed: full, degraded, llm_fallback", is);
    }
}

void settings_check_own_objectives(void *object, struct conf_ctx *ctx)
{
    const struct set_own_objectives *o = object;
    for (size_t i = 0; i < SET_OBJECTIVES; i++)
        if (o->ms[i] != 0)
            return;
    conf_problem(ctx, "agents", "no objective of their own follows; allowed: at least one, as `rto_full: 1h`");
}

void settings_check_backup(void *object, struct conf_ctx *ctx)
{
    const struct set_backup *b = object;
    bool paths = b->kind == SET_BACKUP_LEARNING || b->kind == SET_BACKUP_FILES;
    if (paths && b->path.n == 0 && !*b->deployment)
        conf_problem(ctx, "path", "is missing; allowed: directories, or `deployment` for learning data");
    if (*b->deployment && b->kind != SET_BACKUP_LEARNING)
        conf_problem(ctx, "deployment", "is for kind learning");
    if (*b->deployment && (b->path.n > 0 || *b->to.repository))
        conf_problem(ctx, "deployment",
                     "has paths and a repository of its own in `rollback`: leave `path` and `to` out");
    for (size_t i = 0; i < b->path.n; i++)
        if (**CONF_AT(b->path, char *, i) != '/')
            conf_problem(ctx, "path", "found `%s`; allowed: absolute paths", *CONF_AT(b->path, char *, i));
    if (b->late_ms != 0 && b->every_ms != 0 && b->late_ms < b->every_ms)
        conf_problem(ctx, "late", "is shorter than `every`: each copy would be late");
}

void settings_check_drill(void *object, struct conf_ctx *ctx)
{
    static const char *const days[] = {"Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"};
    const struct set_drill *d = object;
    const char *at = d->at;
    unsigned hour = 99, minute = 99;
    int used = 0;
    if (!*at)
        return;
    for (size_t i = 0; i < N_OF(days); i++)
        if (strncmp(at, days[i], 3) == 0 && at[3] == ' ') {
            at += 4;
            break;
        }
    if (sscanf(at, "%2u:%2u%n", &hour, &minute, &used) != 2 || at[used] || hour > 23 || minute > 59)
        conf_problem(ctx, "at", "found `%s`; allowed: `Sat 03:00` or `03:00` (UTC)", d->at);
}

void settings_check_continuity(void *object, struct conf_ctx *ctx)
{
    const struct set_continuity *c = object;
    for (size_t i = 1; i < c->backups.n; i++)
        for (size_t k = 0; k < i; k++)
            if (strcmp(CONF_AT(c->backups, struct set_backup, i)->name,
                       CONF_AT(c->backups, struct set_backup, k)->name) == 0)
                conf_problem(ctx, "backups", "found `%s` for the second time; allowed: every name once",
                             CONF_AT(c->backups, struct set_backup, i)->name);
    for (size_t i = 1; i < c->drills.n; i++)
        for (size_t k = 0; k < i; k++)
            if (strcmp(CONF_AT(c->drills, struct set_drill, i)->name,
                       CONF_AT(c->drills, struct set_drill, k)->name) == 0)
                conf_problem(ctx, "drills", "found `%s` for the second time; allowed: every name once",
                             CONF_AT(c->drills, struct set_drill, i)->name);
}
