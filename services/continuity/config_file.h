/* config_file.h - the settings file itself: read, judged, shown without secrets, replaced so that a kill leaves the old one or the new one. */
#ifndef REDOUBT_CONTINUITY_CONFIG_FILE_H
#define REDOUBT_CONTINUITY_CONFIG_FILE_H

#include "common/err.h"
#include "common/settings.h"
#include "common/sha256.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CONFIG_FILE_MAX (16u << 20) /* more is not kept in the history */

/* What a file was when it was looked at; all 0 = it could not be. */
struct config_stamp {
    int64_t changed_ns, written_ns, size;
    uint64_t device, inode;
};
void config_stamp(const char *path, struct config_stamp *ret);
bool config_stamp_same(const struct config_stamp *a, const struct config_stamp *b);

struct config_text {
    char *text; /* zero-terminated after len bytes; NULL = not there */
    size_t len;
    char sha256[SHA256_TEXT]; /* "" = not there */
};
/* 0, or -1 with the reason. */
int config_text_read(const char *path, struct config_text *ret, struct err *e);
void config_text_free(struct config_text *t);

/* Everything that `redoubt config check` looks at. NULL with lines in r. */
struct settings *config_judge(const char *name, const char *text, size_t len, struct conf_report *r);
/* The whole as YAML, each setting with its value, secrets as ***; malloc'ed. */
char *config_shown(const struct settings *s);
/* The lines in one text, cut to what fits. Returns buf. */
const char *config_lines(const struct conf_report *r, char *buf, size_t size);
/* Who owns it: `root`, or the number. Returns buf. */
const char *config_owner(const char *path, char *buf, size_t size);

/* Replaces the file: a new one beside it, renamed. Where that cannot be (a mount point, a directory that is not ours) it is written in place;
 * in_place() is called before a byte is written. 0, or -1 with the reason; a failure in place may leave a part. */
int config_replace(const char *path, const char *text, size_t len, void (*in_place)(void *ctx), void *ctx,
                   struct err *e);

/* What is under way, on disk before the file is touched. */
struct config_journal {
    char was[SHA256_TEXT], now[SHA256_TEXT]; /* the file's before and after */
    char verb[32], by[129], reason[1025];
    bool in_place;
};
/* now, or a failure: what the directory holds afterwards is the whole journal or none. text = the file that is to be. */
int config_journal_write(const char *dir, const struct config_journal *j, const char *text, size_t len,
                         struct err *e);
/* 1 = there is one, 0 = there is none, -1 = it cannot be read (text in e). */
int config_journal_read(const char *dir, struct config_journal *ret, struct config_text *ret_text, struct err *e);
void config_journal_remove(const char *dir);

#endif
