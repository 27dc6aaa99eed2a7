/* data_impl.h - what the files of the learning data share: one operation at a time, as a row of steps. */
#ifndef REDOUBT_DATA_IMPL_H
#define REDOUBT_DATA_IMPL_H

#include "common/restic.h"
#include "common/tree.h"
#include "common/work.h"
#include "rollback/data_swap.h"
#include "rollback/rollback_data.h"

#define DATA_PATHS 16

struct data_op;
/* Ends with data_next() or data_fail(), now or later. */
typedef void (*data_step)(struct data_op *o);

/* ---- pausing the writer (data_pause.c) ---- */

struct pausing;
typedef void (*pausing_cb)(void *ctx, bool ok, const char *text);
/* Asks all writers to pause, or to go on (each again and again for a while). Comes back once, later. */
struct pausing *pausing_start(struct data *d, bool resume, char *const *addresses, size_t n, pausing_cb cb,
                              void *ctx);
void pausing_cancel(struct pausing *p); /* cb does not come. NULL is fine */
/* To go on, once, and without a look back: their owner goes. */
void pausing_let_go(struct data *d, char *const *addresses, size_t n);
bool pausing_has(const struct set_rb_data *set);
bool pausing_asks(const struct set_rb_data *set, size_t n);
int pausing_check(struct service *s, const struct set_deployment *set, struct err *e);

/* ---- operations (rollback_data.c) ---- */

struct data_path {
    char real[PATH_MAX]; /* without links */
};
struct data {
    struct service *s;
    const struct set_deployment *set;
    struct restic restic;
    char scratch[512];            /* where a snapshot is read back to; TREE_OURS */
    struct data_op *first, *last; /* waiting; first is in hand */
    bool force; /* restic took a file for unchanged that was not: it reads all of them the next time */
    bool stopping;
    loop_cb stopped;
    void *stopped_ctx;
};
struct data_op {
    struct data *d;
    struct data_op *next;
    const data_step *steps; /* NULL-terminated */
    size_t at;
    char job[ROLLBACK_JOB], version[ROLLBACK_ID], why[129], snapshot[ROLLBACK_SNAPSHOT];
    char **addresses;
    size_t n;
    bool stay_paused, keep;
    data_cb cb;
    void *ctx;
    /* In hand: one of them at most. */
    struct restic_run *restic;
    struct work *work;
    struct pausing *pausing;
    struct hashing *hashing;
    struct sizing *sizing;
    struct data_op **asking; /* of the bus */
    FILE *manifest;          /* of what is saved */
    struct loop_timer limit; /* of the pause; and what is put off */
    loop_cb later;
    /* What came of it so far. */
    bool resuming;
    bool paused, half; /* half: the data are being swapped, so the writer stays paused */
    bool late, failed, lasting;
    char text[ERR_TEXT_MAX], warning[ERR_TEXT_MAX];
    struct rollback_lineage lineage;
    struct data_path paths[DATA_PATHS];
    size_t n_paths;
    struct tree_sum sum;          /* of what is saved, or of what the snapshot says */
    struct restic_snapshot found; /* its `paths` is not kept */
    bool is_found, paths_fit;
    struct tree_sum last; /* of the snapshot before; content "" = none */
    bool is_last;
    struct swap swaps[DATA_PATHS];
    char (*wanted)[ROLLBACK_SNAPSHOT]; /* find */
    size_t n_wanted;
    uint32_t there;
    size_t i;
};
void data_next(struct data_op *o);
__attribute__((format(printf, 3, 4))) void data_fail(struct data_op *o, bool lasting, const char *fmt, ...);
/* It is done, but people should know. */
__attribute__((format(printf, 2, 3))) void data_warn(struct data_op *o, const char *fmt, ...);
/* The next step runs later, on the loop. */
void data_restic(struct data_op *o, const char *const *args, int64_t timeout_ms, restic_cb cb);
void data_work(struct data_op *o, work_fn fn, void *arg, work_cb cb); /* frees arg by free() */
/* A step whose work was done: next, or a failure. */
void data_worked(void *ctx, int status, const struct err *e);

/* Steps that several operations have. */
void step_paths(struct data_op *o);     /* the directories, without links */
void step_pause(struct data_op *o);     /* and its limit begins */
void step_unlimited(struct data_op *o); /* what comes now may take its time */
void step_resume(struct data_op *o);
void step_list(struct data_op *o); /* snapshots: that of o->snapshot, or of o->job and o->version; and the last one */
void step_clean(struct data_op *o); /* the scratch directory is emptied */

extern const data_step data_check_steps[], data_save_steps[], data_restore_steps[];
void data_end(struct data_op *o); /* the last step of all: tells */

/* A hash of the directories, or of what was restored of them below another one. */
struct hashing {
    char path[DATA_PATHS][PATH_MAX];
    size_t n;
    FILE *manifest, *was; /* written; what is written is compared with. Its own, may be NULL */
    bool moving, dig;
    /* The result. */
    struct tree_sum sum;
    char differs[300]; /* from `was`; "" if not */
};
struct hashing *hashing_new(const struct data_op *o, const char *below);
void data_hash(struct data_op *o, struct hashing *h, work_cb cb); /* o->hashing is valid inside cb */
FILE *data_list(const struct data *d); /* a file without a name for a manifest; NULL if there is none */
FILE *data_list_again(FILE *f);        /* the same file, to be closed by itself; NULL if that cannot be */

#endif
