/* rollback_data.h - the learning data of a deployment: saved, verified, restored, never lost. restic does the work. */
#ifndef REDOUBT_ROLLBACK_DATA_H
#define REDOUBT_ROLLBACK_DATA_H

#include "common/service.h"
#include "rollback/rollback_executor.h"

struct data_result { /* valid only inside the callback */
    bool ok, lasting;
    const char *text;                /* what, where, what to do */
    struct rollback_lineage lineage; /* save: snapshot, taken_ms, stream, sequence, files, bytes, verified */
    bool paused;                     /* the writer is paused now */
    uint32_t there;                  /* find: bit i is set if snapshot i is in the repository */
};
typedef void (*data_cb)(void *ctx, const struct data_result *r);

struct data;
/* NULL with the reason in e; data_has() is false if the deployment has no learning data: then nothing else is called. */
struct data *data_open(struct service *s, const struct set_deployment *set, struct err *e);
void data_close(
    struct data *d); /* callbacks do not come any more. A writer that is paused for a save is asked to go on, once */
/* The service drains: what is in hand is cut short and the writer goes on, then done comes, later. Nothing else is called after it but data_close(). */
void data_stop(struct data *d, loop_cb done, void *ctx);
bool data_has(const struct set_deployment *set);
/* Changes nothing: repository, password, room, the directories. */
void data_check(struct data *d, data_cb cb, void *ctx);
/* Pauses the writer (addresses: of the running version), notes the stream's position, saves, verifies (reads back and compares), and has the writer go on unless stay_paused,
 * come what may. A save that was cut short is done anew; what it left is found by the job's tag and used if it is whole. */
void data_save(struct data *d, const char *job, const char *version, const char *why, bool stay_paused,
               const char *const *addresses, size_t n, data_cb cb, void *ctx);
/* Puts a snapshot in place. What is replaced is kept beside it. The writer is paused before. May be asked for again after a crash in its middle. */
void data_restore(struct data *d, const char *job, const char *snapshot, const char *const *addresses, size_t n,
                  data_cb cb, void *ctx);
void data_resume(struct data *d, const char *const *addresses, size_t n, data_cb cb, void *ctx);
/* Changes nothing, and reads no data: which of these snapshots (32 at most, "" = none) does the repository still have? */
void data_find(struct data *d, const char *const *snapshots, size_t n, data_cb cb, void *ctx);
/* Kept from `forget`, or no longer. */
void data_keep(struct data *d, const char *snapshot, bool keep, data_cb cb, void *ctx);

#endif
