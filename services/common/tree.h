/* tree.h - what a directory tree holds, as a hash: names, kinds, contents, links; and owners, modes, times, attributes. Blocks: for worker threads.
 *
 * Left out: entries of the top whose names begin with TREE_OURS (what a restore keeps there), sockets, the top's own time, and access times. */
#ifndef REDOUBT_TREE_H
#define REDOUBT_TREE_H

#include "common/err.h"
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/stat.h>

#define TREE_OURS ".redoubt-"

struct tree_sum {
    char content[65], meta[65]; /* SHA-256, hexadecimal */
    uint64_t files, bytes;
};
struct tree_opts {
    FILE *manifest;          /* one record per entry, for tree_differs(); may be NULL */
    const atomic_bool *stop; /* ends it early; may be NULL */
    bool moving;             /* somebody writes there: what vanishes meanwhile is no error */
    bool dig;                /* blocks of zeros become holes */
    /* The hash of a file that was read before and has not changed since, by what st says: then it is not read. Both may be NULL. */
    bool (*known)(void *ctx, size_t root, const char *name, const struct stat *st, char hex[static 65]);
    void (*seen)(void *ctx, size_t root, const char *name, const char *what, const struct stat *st); /* each entry */
    void *ctx;
};
/* Of one or more trees, together. 0, or -1 with the reason in e. */
int tree_sum(const char *const *roots, size_t n, const struct tree_opts *o, struct tree_sum *ret, struct err *e);
/* Where two manifests differ first, in words; false if they do not. content: differences of owners, modes, times and attributes do not count. */
bool tree_differs(FILE *was, FILE *is, bool content, char *buf, size_t size);
/* Removes a tree whose name begins with TREE_OURS, or what is in it (keep_top); nothing there is fine. Never leaves its file system. */
int tree_remove(const char *path, bool keep_top, struct err *e);
bool tree_is_empty(const char *path);
/* Files and bytes, without reading them. */
int tree_size(const char *const *roots, size_t n, const atomic_bool *stop, uint64_t *ret_files, uint64_t *ret_bytes,
              struct err *e);

#endif
