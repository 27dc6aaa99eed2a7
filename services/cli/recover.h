/* recover.h - what the files of `redoubt recover` and `redoubt state` share: copies in a repository, and where they go. */
#ifndef REDOUBT_CLI_RECOVER_H
#define REDOUBT_CLI_RECOVER_H

#include "cli/cmd.h"
#include "common/restic.h"
#include "common/settings.h"
#include "continuity/backup_copy.h"
#include <jansson.h>
#include <limits.h>

#define RECOVER_SOURCES 64
#define RECOVER_TRIES   3 /* copies of one source: the newest, and if that is bad the one before */
#define RECOVER_ROOTS   16
#define RECOVER_SCRATCH TREE_OURS "recover"

struct recover_copy {
    char id[65];
    int64_t point_ms;
    struct tree_sum sum; /* content "": saved while somebody wrote */
    json_t *paths;
};
struct recover_source {
    char name[65], kind[17];
    struct recover_copy copies[RECOVER_TRIES]; /* newest first */
    size_t n;
    size_t all; /* in the repository */
};
enum recover_end { RECOVER_OK, RECOVER_FAILED, RECOVER_REFUSED };
struct recover_step {
    const char *source, *kind;
    const struct recover_copy *copy;
    enum recover_end end;
    int64_t took_ms;
    char detail[ERR_TEXT_MAX + 128];
};
struct recover {
    struct cli *c;
    const struct opts_recover *o;
    struct loop loop;
    struct restic restic;
    struct conf_list env;
    struct recover_source sources[RECOVER_SOURCES]; /* in the order in which they are restored */
    size_t n;
    struct settings *settings; /* NULL = there are none yet */
    char config[PATH_MAX], data_dir[PATH_MAX];
    char program[512], scratch[PATH_MAX];
};

/* ---- recover_repo.c ---- */

/* 0, or an exit code after saying why. Close in both cases. */
int recover_open(struct recover *r, struct cli *c, const struct opts_recover *o);
void recover_close(struct recover *r);
/* Restores one path of a copy below `to` (made, and emptied first). 0, or -1 with the reason; *ret_lasting: not of this copy alone. */
int recover_fetch(struct recover *r, const struct recover_copy *copy, const char *path, const char *to,
                  bool *ret_lasting, struct err *e);
/* Runs git; its output in *ret (free) unless that is NULL. */
int recover_git(struct recover *r, const char *const *args, char **ret, size_t *ret_len, struct err *e);

/* ---- recover_place.c ---- */

/* May something be put there? A missing or empty place is fine. */
int recover_free(const char *to, bool force, struct err *e);
/* Moves `from` there; what is there is moved aside first, its name goes to note. On one file system. */
int recover_place(const char *from, const char *to, bool force, char *note, size_t size, struct err *e);
int recover_parents(const char *path, struct err *e); /* makes the directories above it */
/* The scratch directory beside a place. */
void recover_beside(const char *to, char *buf, size_t size);

/* ---- recover_steps.c ---- */

/* One step from one copy. RECOVER_OK with detail; otherwise e says why. *ret_bad: another copy may be better. */
enum recover_end recover_step_run(struct recover *r, const struct recover_source *s, const struct recover_copy *copy,
                                  char *detail, size_t size, bool *ret_bad, struct err *e);
/* The settings of the configuration file as it is now, if it is good. */
void recover_settings(struct recover *r);

/* ---- recover_state.c ---- */

struct recover_state { /* what `redoubt state` and the steps of NATS and Redis want */
    struct cli *c;
    const char *config, *nats, *redis; /* the last two may be NULL: as the settings say */
    const char *dir;
    bool force;
    bool say; /* each step, on stdout */
};
struct recover_state_end {
    bool ok, refused;
    struct backup_copy_sum sum;
    char text[ERR_TEXT_MAX];
};
void recover_nats(const struct recover_state *x, bool restore, struct recover_state_end *ret);
void recover_redis(const struct recover_state *x, bool restore, struct recover_state_end *ret);
/* A strict record of what was done, on the bus: it is in the trail as soon as redoubt-audit runs. */
int recover_record(const struct recover_state *x, const char *action, const char *by, const char *reason, bool ok,
                   const char *detail, struct err *e);

#endif
