/* backup_impl.h - what the files of the backups share: sources, and the one thing of a source that runs, as a row of steps. */
#ifndef REDOUBT_CONTINUITY_BACKUP_IMPL_H
#define REDOUBT_CONTINUITY_BACKUP_IMPL_H

#include "common/restic.h"
#include "common/work.h"
#include "continuity/backup_list.h"
#include "continuity/backup_plan.h"
#include "continuity/backup_source.h"
#include "continuity/continuity_shell.h"

#define BACKUP_PATHS 16
#define BACKUP_HOST  "redoubt" /* of all snapshots: whoever leads, they are one row */

struct backup_run;
struct backup_source {
    struct backups *b;
    struct set_backup *set; /* its own copy; what other places of the settings say is filled in: repository, paths */
    char where[128];        /* what its repository's settings are called */
    const struct backup_source_kind *kind;
    struct backup_rule rule;
    struct backup_plan plan;
    bool begun; /* the plan is: by a record, or anew */
    /* Of its record, besides the plan. */
    uint64_t revision, files, took_ms, test_took_ms;
    char verified[65], snapshot[65], error[ERR_TEXT_MAX];
    uint32_t failures, snapshots;
    enum backup_act failed_act; /* whose failure `error` is */
    bool noted;                 /* it is none: what people should know of what was done */
    unsigned told;
    bool signalled; /* that its data are damaged */
    bool force;     /* the next save is accepted as it is */
    bool reread;    /* restic took a file for unchanged that was not */
    struct backup_list
        *proven; /* what the newest verified copy holds; NULL = not known here: all of the next is read back */
    struct backup_run *run;
    PB(BackupState) doc;
};
struct backups {
    struct continuity *c;
    struct backup_source **sources;
    size_t n;
    char restic[512], staging[512], scratch[512]; /* directories */
    struct backup_order *orders;                  /* of people, whose record is not durable yet */
    struct work *cleaning;                        /* what a leader before has left */
};

/* ---- one thing that runs (backup_run.c) ---- */

typedef void (*backup_step)(struct backup_run *r); /* ends with backup_next() or backup_fail(), now or later */
struct backup_path {
    char real[PATH_MAX];
};
struct backup_run {
    struct backup_source *x;
    enum backup_act act;
    const backup_step *steps; /* NULL-terminated */
    size_t at;
    struct restic restic;
    char stage[600], scratch[600];
    int64_t began_ms, mono_ms; /* continuity time; monotonic */
    /* In hand, one of them at most. */
    struct restic_run *running;
    struct work *work;
    void *making;
    bool made; /* make() has come back */
    struct loop_timer timer;
    /* What came of it so far. */
    struct backup_path paths[BACKUP_PATHS];
    size_t n_paths;
    struct backup_list *list;             /* what is saved */
    struct backup_list *back;             /* what was restored */
    struct backup_job *job;               /* of the work that runs */
    char snapshot[65];                    /* that was made, or is tested */
    struct restic_snapshot found;         /* the verified one; its `paths` is not kept */
    struct backup_path was[BACKUP_PATHS]; /* its paths */
    size_t n_was;
    bool is_found;
    uint32_t snapshots;
    size_t wanted[64]; /* indexes in list: what is read back of it */
    size_t n_wanted;   /* 0 = all */
    unsigned tries;
    bool restored; /* from where on it is timed: test */
    char (*remove)[65];
    size_t n_remove;
    bool failed, noted;
    struct backup_outcome out;
    char text[ERR_TEXT_MAX]; /* why it failed, or what people should know */
};
void backup_begin(struct backup_source *x, enum backup_act act);
void backup_drop(struct backup_run *r); /* nothing comes of it. NULL is fine */
void backup_next(struct backup_run *r);
__attribute__((format(printf, 3, 4))) void backup_fail(struct backup_run *r, bool lasting, const char *fmt, ...);
__attribute__((format(printf, 2, 3))) void backup_note(struct backup_run *r, const char *fmt, ...);
void backup_restic(struct backup_run *r, const char *const *args, restic_cb cb);
/* restic has failed: what that says of the repository, too. */
void backup_fail_restic(struct backup_run *r, const struct restic_result *said, const char *what);
/* A step of restic has ended: the next one, or the failure with `what` before it. */
void backup_step_ended(struct backup_run *r, const struct restic_result *said, const char *what);
/* Work on a thread: one list, or the kind's look at what was restored. */
struct backup_job {
    struct backup_run *r;
    struct backup_path path[BACKUP_PATHS];
    size_t n;
    struct backup_list *was, *is;
    bool links, moving, create; /* create: directories that are missing */
    int (*verify)(const char *dir, const atomic_bool *stop, struct err *e);
};
struct backup_job *backup_job(struct backup_run *r, const struct backup_path *paths, size_t n, const char *below);
void backup_list_later(struct backup_run *r, struct backup_job *j, work_cb cb);
void backup_verify_later(struct backup_run *r, struct backup_job *j, work_cb cb);

/* Steps that several have. */
void backup_step_snapshots(struct backup_run *r); /* counts them, and looks for the verified one */
void backup_step_clean(struct backup_run *r);     /* scratch and staging directories are removed */
void backup_step_end(struct backup_run *r);       /* the last of all */
bool backup_room_ok(struct backup_run *r, const char *path, uint64_t bytes, const char *what);
extern const backup_step backup_save_steps[], backup_test_steps[], backup_check_steps[], backup_read_steps[],
    backup_forget_steps[];

/* ---- the record (backup_doc.c) ---- */

void backup_announce(struct backup_source *x);
void backup_take(struct backup_source *x, const PB(BackupState) * s, int64_t now_ms);
/* Alerts and the signal, as they are now; announces if anything changed. */
void backup_judge(struct backup_source *x, int64_t now_ms);
void backup_recorded(struct backup_source *x, const struct backup_run *r, bool moved);

/* Alerts that are open are over: nobody asks for this source any more. */
void backup_let_go(struct backup_source *x);
/* What a leader before has left in the scratch and staging directories is removed, on a thread. */
struct work *backups_clean_later(struct backups *b, work_cb cb);

/* backup.c: r has come to its end and is freed after it. */
void backups_ended(struct backup_run *r);

#endif
