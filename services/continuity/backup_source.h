/* backup_source.h - the kinds of what is copied: what makes one ready to be saved, and what a good copy of it is.
 *
 * A kind is either staged (it writes its files into an empty directory of the service, which is then saved) or live (directories are saved where they lie).
 * What is staged must be the same again if nothing has changed: no times or random names in it, so that a copy costs only what is new. */
#ifndef REDOUBT_CONTINUITY_BACKUP_SOURCE_H
#define REDOUBT_CONTINUITY_BACKUP_SOURCE_H

#include "common/err.h"
#include "common/settings.h"
#include <stdatomic.h>
#include <stdbool.h>

struct continuity;

/* ok: dir holds the copy. Otherwise text says what is wrong, where, and what to do. Once, later, on the loop; text is valid only inside. */
typedef void (*backup_made)(void *ctx, bool ok, const char *text);

struct backup_source_kind {
    const char *name; /* tag kind=... of its snapshots */
    /* NULL: live. dir is there, empty, mode 0700; `set` stays as it is until the callback or the cancel. Returns what cancel takes; NULL is fine. */
    void *(*make)(struct continuity *c, const struct set_backup *set, const char *dir, backup_made cb, void *ctx);
    void (*cancel)(void *making); /* cb does not come any more. NULL if make is */
    /* A copy that was restored: dir is what make has filled, or one of the directories that were saved. Blocks, on a thread: looks at nothing but dir, ends early if
     * *stop. 0, or -1 with the reason in e. NULL = that its files are the same is all there is to see. */
    int (*verify)(const char *dir, const atomic_bool *stop, struct err *e);
};
extern const struct backup_source_kind backup_source_audit,
    backup_source_config;                                  /* backup_source_audit.c, backup_source_config.c */
extern const struct backup_source_kind backup_source_nats; /* backup_source_state.c, likewise: */
extern const struct backup_source_kind backup_source_redis;

/* By enum set_backup_kind. */
const struct backup_source_kind *backup_source_kind(int kind);

#endif
