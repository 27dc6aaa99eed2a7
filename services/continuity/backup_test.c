/* backup_test.c - a test restore: the newest verified copy comes back whole, is compared with the hash that was taken when it was saved, looked at by its kind, and timed. */
#include "common/clock.h"
#include "continuity/backup_impl.h"
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static void on_restored(void *ctx, const struct restic_result *said)
{
    backup_step_ended(ctx, said, "the test restore failed: ");
}

static void step_restore(struct backup_run *r)
{
    char target[700];
    if (!r->is_found) {
        backup_fail(r, true,
                    "snapshot %.8s, which was proven, is no longer in the repository: somebody has deleted it",
                    r->x->verified);
        return;
    }
    if (!*r->found.sum.content) {
        r->out.differs = true;
        backup_fail(r, true, "snapshot %.8s has lost the tags that say what it holds: somebody has changed them",
                    r->found.id);
        return;
    }
    snprintf(r->snapshot, sizeof r->snapshot, "%s", r->found.id);
    snprintf(target, sizeof target, "--target=%s", r->scratch);
    if (!backup_room_ok(r, r->x->b->scratch, r->found.sum.bytes, "the test restore"))
        return;
    r->mono_ms = clock_mono_ms(); /* what a person would wait for begins here */
    backup_restic(r, (const char *const[]){"restore", r->found.id, target, "--verify", NULL}, on_restored);
}

static void on_compared(void *ctx, int status, const struct err *e)
{
    struct backup_run *r = ctx;
    r->work = NULL;
    if (status != 0) {
        backup_fail(r, false, "what was restored cannot be read: %.400s", e->text);
        return;
    }
    const struct tree_sum *is = &r->job->is->sum, *was = &r->found.sum;
    r->out.bytes = is->bytes;
    if (strcmp(is->content, was->content) != 0) {
        r->out.differs = true;
        backup_fail(r, true,
                    "snapshot %.8s came back with another hash than it was saved with: %" PRIu64 " files of %" PRIu64
                    " bytes, it had %" PRIu64 " of %" PRIu64,
                    r->found.id, is->files, is->bytes, was->files, was->bytes);
        return;
    }
    if (strcmp(is->meta, was->meta) != 0)
        backup_note(r,
                    "the contents are the same, but owners, modes, times or attributes are not: restoring needs the "
                    "rights of the files' owner");
    backup_next(r);
}

static void step_compare(struct backup_run *r)
{
    struct backup_job *j = backup_job(r, r->was, r->n_was, r->scratch);
    backup_list_later(r, j, on_compared);
}

static void on_verified(void *ctx, int status, const struct err *e)
{
    struct backup_run *r = ctx;
    r->work = NULL;
    if (status != 0) {
        r->out.differs = true;
        backup_fail(r, true, "what was restored is what was saved, but it is not good: %.400s", e->text);
        return;
    }
    backup_next(r);
}

static void step_verify(struct backup_run *r)
{
    if (!r->x->kind->verify) {
        backup_next(r);
        return;
    }
    struct backup_job *j = backup_job(r, r->was, r->n_was, r->scratch);
    j->verify = r->x->kind->verify;
    backup_verify_later(r, j, on_verified);
}

/* The time that it took ends before it is tidied up. */
static void step_timed(struct backup_run *r)
{
    r->mono_ms = clock_mono_ms() - r->mono_ms;
    r->restored = true;
    backup_next(r);
}

const backup_step backup_test_steps[] = {backup_step_clean, backup_step_snapshots, step_restore,
                                         step_compare,      step_verify,           step_timed,
                                         backup_step_clean, backup_step_end,       NULL};
