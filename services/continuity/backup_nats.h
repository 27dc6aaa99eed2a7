/* backup_nats.h - the suite's streams in a directory: one file each, as the server gave it, and a manifest that says what they are. */
#ifndef REDOUBT_CONTINUITY_BACKUP_NATS_H
#define REDOUBT_CONTINUITY_BACKUP_NATS_H

#include "common/bus.h"
#include "continuity/backup_copy.h"

#define BACKUP_NATS_MANIFEST "nats.json"
#define BACKUP_NATS_STREAMS  64 /* of one directory */

struct backup_nats_opts {
    struct loop *loop;
    struct bus *bus;
    const char *dir;    /* save: made if it is missing; what it holds of an earlier save is replaced */
    int64_t silence_ms; /* the longest time without a piece; 0 = 30 s */
    /* Restore only. The bus must be a guest's: another makes the streams by itself. */
    bool force;   /* streams that hold data are deleted first. Without: then nothing is done at all */
    int replicas; /* of the restored streams; 0 = as they were */
    /* Each step, a line for people; may be NULL. */
    void (*say)(void *ctx, const char *text);
};
/* Everything in o is copied. done comes exactly once, later, on the loop. A save is whole when its manifest is there; that is written last. */
struct backup_nats;
struct backup_nats *backup_nats_save(const struct backup_nats_opts *o, backup_copy_done done, void *ctx);
struct backup_nats *backup_nats_restore(const struct backup_nats_opts *o, backup_copy_done done, void *ctx);
/* done does not come any more; what runs is ended. Before the bus closes, and the loop goes on after it. NULL is fine. */
void backup_nats_drop(struct backup_nats *x);

/* Reads everything and holds it against the manifest. Blocks: for worker threads and commands; ends early if *stop (may be NULL). 0, or -1 with the reason. */
int backup_nats_verify(const char *dir, const atomic_bool *stop, struct backup_copy_sum *ret, struct err *e);

#endif
