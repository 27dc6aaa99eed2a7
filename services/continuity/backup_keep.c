/* backup_keep.c - a repository is kept well: its structure is checked, its data are read back in parts, and old copies go. */
#include "continuity/backup_impl.h"
#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define REMOVED_MAX 64 /* at a time; the rest the next time */

/* ---- check, read ---- */

static void on_checked(void *ctx, const struct restic_result *said)
{
    backup_step_ended(ctx, said, "the repository does not pass its check: ");
}

static void step_check(struct backup_run *r)
{
    backup_restic(r, (const char *const[]){"check", NULL}, on_checked);
}

static void step_read(struct backup_run *r)
{
    char part[64];
    /* Once something was damaged, a part that is well says nothing. */
    r->out.whole = (r->x->plan.marks & BACKUP_DAMAGED) || r->x->set->read_percent >= 100;
    snprintf(part, sizeof part, "--read-data-subset=%" PRId64 "%%", r->x->set->read_percent);
    backup_restic(r, (const char *const[]){"check", r->out.whole ? "--read-data" : part, NULL}, on_checked);
}

const backup_step backup_check_steps[] = {step_check, backup_step_end, NULL};
const backup_step backup_read_steps[] = {step_read, backup_step_end, NULL};

/* ---- old copies ---- */

/* What restic would remove by its own rules: but for the newest verified one, and those that somebody keeps. */
static void choose(struct backup_run *r, const json_t *snapshots)
{
    const json_t *s, *tag;
    size_t i, k;
    json_array_foreach(snapshots, i, s)
    {
        const char *id = json_string_value(json_object_get(s, "id"));
        bool kept = !id || strlen(id) != 64 || strncmp(id, r->x->verified, strlen(r->x->verified)) == 0 ||
                    strcmp(id, r->found.id) == 0;
        json_array_foreach(json_object_get(s, "tags"), k, tag) kept |=
            json_is_string(tag) && strcmp(json_string_value(tag), RESTIC_KEEP_TAG) == 0;
        if (!kept && r->n_remove < REMOVED_MAX)
            snprintf(r->remove[r->n_remove++], sizeof *r->remove, "%s", id);
    }
}

static void on_would(void *ctx, const struct restic_result *said)
{
    struct backup_run *r = ctx;
    const json_t *group;
    size_t i;
    r->running = NULL;
    if (!said->ok) {
        backup_fail_restic(r, said, "");
        return;
    }
    json_t *answer = json_loadb(said->out, said->out_len, 0, NULL);
    r->remove = calloc(REMOVED_MAX, sizeof *r->remove);
    assert(r->remove && "out of memory for a list");
    json_array_foreach(answer, i, group) choose(r, json_object_get(group, "remove"));
    json_decref(answer);
    backup_next(r);
}

static void step_would(struct backup_run *r)
{
    const struct set_backup *set = r->x->set;
    char tag[128], last[40], daily[40], weekly[40], monthly[40];
    if (!r->is_found) {
        backup_fail(r, true, "snapshot %.8s, which was proven, is no longer in the repository: nothing is removed",
                    r->x->verified);
        return;
    }
    snprintf(tag, sizeof tag, "--tag=redoubt,source=%s", set->name);
    snprintf(last, sizeof last, "--keep-last=%" PRId64, set->keep_last);
    snprintf(daily, sizeof daily, "--keep-daily=%" PRId64, set->keep_daily);
    snprintf(weekly, sizeof weekly, "--keep-weekly=%" PRId64, set->keep_weekly);
    snprintf(monthly, sizeof monthly, "--keep-monthly=%" PRId64, set->keep_monthly);
    backup_restic(r,
                  (const char *const[]){"forget", "--dry-run", "--json", "--host=" BACKUP_HOST, tag, "--group-by=",
                                        "--keep-tag=" RESTIC_KEEP_TAG, last, daily, weekly, monthly, NULL},
                  on_would);
}

static void on_forgotten(void *ctx, const struct restic_result *said)
{
    struct backup_run *r = ctx;
    r->running = NULL;
    if (said->ok) {
        r->snapshots -= (uint32_t)r->n_remove;
        backup_next(r);
    } else {
        backup_fail_restic(r, said, "");
    }
}

static void step_forget(struct backup_run *r)
{
    const char *args[RESTIC_ARGS] = {"forget", "--prune"};
    if (r->n_remove == 0) {
        backup_next(r);
        return;
    }
    for (size_t i = 0; i < r->n_remove; i++)
        args[2 + i] = r->remove[i];
    backup_restic(r, args, on_forgotten);
}

const backup_step backup_forget_steps[] = {backup_step_snapshots, step_would, step_forget, backup_step_end, NULL};
