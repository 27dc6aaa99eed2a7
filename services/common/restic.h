/* restic.h - restic as a program: its arguments, what it says, and what its failures mean. */
#ifndef REDOUBT_RESTIC_H
#define REDOUBT_RESTIC_H

#include "common/conf.h"
#include "common/program.h"
#include "common/tree.h"
#include <jansson.h>

#define RESTIC_PROGRAM  "/usr/bin/restic" /* or $REDOUBT_RESTIC of this service's own environment */
#define RESTIC_KEEP_TAG "redoubt-keep"
#define RESTIC_ARGS     96

struct restic {
    struct loop *loop;
    const char *where; /* what its settings are called: "data" of data.repository, data.password_file, data.env */
    const char *repository, *password_file;
    const struct conf_list *env; /* char *, "NAME=value"; may be NULL */
    char program[512];
    char dir[512]; /* its cache and temporary files */
};

/* ---- pure ---- */

/* A directory, or something behind a network? */
bool restic_is_local(const char *repository);
/* The repository for people: no user and password. */
const char *restic_shown(const char *repository, char *buf, size_t size);
/* A path as a pattern that fits only it. */
void restic_pattern(const char *path, char *buf, size_t size);
/* What a failed run means, in words with what to do (where: as in struct restic); *ret_lasting: trying again is of no use. */
void restic_explain(const char *repository, const char *where, const struct program_result *r, char *buf, size_t size,
                    bool *ret_lasting);
enum restic_fault {
    RESTIC_OTHER,
    RESTIC_NO_REPOSITORY,
    RESTIC_PASSWORD,
    RESTIC_LOCKED,
    RESTIC_NO_ROOM,
    RESTIC_RIGHTS,
    RESTIC_AWAY,
    RESTIC_DAMAGED, /* what it holds does not come back as it was */
    RESTIC_GONE,    /* no such snapshot */
};
enum restic_fault restic_fault_of(const char *said);

struct restic_snapshot {
    char id[65], original[65]; /* tagging gives it a new id; the first one stays known */
    int64_t taken_ms;
    bool kept;
    /* By its tags; "" and 0 if it has none of them. */
    char job[65], version[17], stream[65], source[65], kind[17];
    int64_t point_ms;
    uint64_t sequence;
    struct tree_sum sum; /* content "": saved while somebody wrote */
    const json_t *paths; /* of the answer */
};
/* Of the answer of `snapshots --json`; false if that is not a list of snapshots. each returns false to end it. */
bool restic_snapshots(const json_t *answer, bool (*each)(void *ctx, const struct restic_snapshot *s), void *ctx);
/* From the last line of `backup --json`: the snapshot's id (short), or "". buf of 65. */
void restic_saved(const char *out, size_t len, char *buf);

/* Files that this run has seen, of the same line; 0 if it does not say. */
uint64_t restic_processed(const char *out, size_t len);

/* ---- running it ---- */

struct restic_run;
struct restic_result { /* valid only inside the callback */
    bool ok, lasting;
    enum restic_fault fault;
    const char *text; /* "" if ok */
    const char *out;
    size_t out_len;
    int code; /* 3 of backup: some files could not be read */
};
typedef void (*restic_cb)(void *ctx, const struct restic_result *r);
/* args: NULL-terminated, without the program. A repository that is locked by a dead process of this host is unlocked, once, and asked again. */
struct restic_run *restic_run(const struct restic *x, const char *const *args, int64_t timeout_ms, restic_cb cb,
                              void *ctx);
void restic_cancel(struct restic_run *r); /* killed; cb comes. NULL is fine */
void restic_drop(struct restic_run *r);   /* killed; cb does not come. NULL is fine */

#endif
