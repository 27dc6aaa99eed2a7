/* data_swap.h - a restored directory takes the place of the present one, which is kept beside it. Blocks: for worker threads.
 *
 * Where it stands is told by names alone, so whoever comes after a crash at any point goes on from there:
 *
 *   beside (DIR is renamed):   .redoubt-part-*            being restored: worth nothing yet
 *                              .redoubt-new-*-<inode>     whole and compared; has it that inode, it is the new one, or else the replaced one
 *                              DIR.replaced-<tag>         what was there: done
 *   inside (DIR is a mount point, or its parent is not ours): DIR/.redoubt-part-<tag>, -new-<tag>: what is there goes to DIR/.redoubt-replaced-<tag>;
 *                              -in-<tag>: what is new goes to DIR; -replaced-<tag> alone: done
 */
#ifndef REDOUBT_DATA_SWAP_H
#define REDOUBT_DATA_SWAP_H

#include "common/err.h"
#include <limits.h>
#include <stdbool.h>

#define SWAP_TAG 96

struct swap {
    char path[PATH_MAX];     /* the directory: an absolute path without links */
    char part[PATH_MAX];     /* what is restored goes below this directory */
    char replaced[PATH_MAX]; /* where what was there is kept */
    char dir[PATH_MAX], fresh[NAME_MAX + 1],
        moving[NAME_MAX + 1]; /* the directory that these stand in, and how they begin */
    bool inside;
    bool plain; /* two renames instead of an exchange: also what is done where the file system cannot exchange */
    void (*step)(
        void *ctx); /* called between any two changes: for tests, which end the process there. NULL otherwise */
    void *ctx;
};
/* Names and kind. tag: letters, digits, dots, dashes, underscores. 0, or -1 with the reason in e; changes nothing. */
int swap_init(struct swap *s, const char *path, const char *tag, struct err *e);
int swap_init_as(struct swap *s, const char *path, const char *tag, bool inside,
                 struct err *e); /* the kind is given */
enum swap_state { SWAP_NOTHING, SWAP_STAGED, SWAP_DONE };
/* Where it stands; STAGED: where the tree is (buf of PATH_MAX; "" if it has begun to move). */
enum swap_state swap_state(const struct swap *s, char *buf);
/* An empty part directory. */
int swap_begin(const struct swap *s, struct err *e);
/* `tree`, below part, is whole: it may take the place. */
int swap_stage(const struct swap *s, const char *tree, struct err *e);
/* From STAGED to DONE, wherever it stands. */
int swap_finish(const struct swap *s, struct err *e);

#endif
