/* config_git.h - a bare git repository of accepted configurations, by the program git: no shell, no index, no working tree, no configuration but its own.
 *
 * A commit is one run of `git fast-import`: objects first, the branch last, and only if it still stands where the caller said. So a kill at any moment leaves
 * the old history or the new one. Each call runs by itself on the loop; done comes exactly once, later, or inside of config_git_close(). */
#ifndef REDOUBT_CONTINUITY_CONFIG_GIT_H
#define REDOUBT_CONTINUITY_CONFIG_GIT_H

#include "common/err.h"
#include "common/loop.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CONFIG_GIT_ID     65 /* hexadecimal; of SHA-1 or SHA-256 repositories */
#define CONFIG_GIT_REASON 1025
#define CONFIG_GIT_FILE   "redoubt.yaml"

struct config_git;
struct config_git_result { /* valid only inside of done */
    bool ok;
    const char *error; /* one line for people; "" if ok */
    const char *out;   /* zero-terminated after len bytes */
    size_t len;
};
typedef void (*config_git_done)(void *ctx, const struct config_git_result *r);

/* Finds git, and makes the directory if it is not there; NULL with the reason in e. */
struct config_git *config_git_open(struct loop *l, const char *dir, struct err *e);
/* Ends what runs: its done is called with an error. NULL is fine. The loop must turn once after it. */
void config_git_close(struct config_git *g);
/* Makes the repository if it is not one yet. */
void config_git_init(struct config_git *g, config_git_done done, void *ctx);
/* The newest commit; "" = there is none yet. */
void config_git_tip(struct config_git *g, config_git_done done, void *ctx);

struct config_git_file {
    const char *name;
    const void *data; /* NULL = not there */
    size_t len;
};
#define CONFIG_GIT_FILES 3
struct config_git_change {
    const char *parent; /* "" = the first one */
    const char *by, *reason;
    const char *sha256;   /* of the file, */
    const char *baseline; /* and of what belongs to the baseline; "" = none */
    int64_t at_ms;
    struct config_git_file files[CONFIG_GIT_FILES];
};
/* out = the new commit. Fails if the newest commit is not `parent`. */
void config_git_commit(struct config_git *g, const struct config_git_change *c, config_git_done done, void *ctx);

struct config_git_entry {
    char id[CONFIG_GIT_ID];
    int64_t at_ms;
    char by[129], reason[CONFIG_GIT_REASON], sha256[65], baseline[65];
    uint32_t added, removed;
};
/* Up to n commits from this one back; read by config_git_parse(). */
void config_git_log(struct config_git *g, const char *from, unsigned n, config_git_done done, void *ctx);
/* How many entries were read, up to max. Pure. */
size_t config_git_parse(const char *out, size_t len, struct config_git_entry *ret, size_t max);
/* Is this (the beginning of) a commit's name? Nothing else is ever handed to git as one. */
bool config_git_name_ok(const char *name);
/* The whole name of a commit of this history, by its beginning. */
void config_git_find(struct config_git *g, const char *name, config_git_done done, void *ctx);
/* The commit before it; "" = it is the first. */
void config_git_parent(struct config_git *g, const char *commit, config_git_done done, void *ctx);
/* The file as it was in this commit. */
void config_git_show(struct config_git *g, const char *commit, const char *file, config_git_done done, void *ctx);
/* A unified diff of two texts, titled a and b; "" = they are the same. */
void config_git_diff(struct config_git *g, const char *a, const char *text_a, const char *b, const char *text_b,
                     config_git_done done, void *ctx);
/* Everything in one file, at path. */
void config_git_bundle(struct config_git *g, const char *path, config_git_done done, void *ctx);
/* Every object is there and right; packs them when there are many. */
void config_git_check(struct config_git *g, config_git_done done, void *ctx);

#endif
