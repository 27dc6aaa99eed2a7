/* baseline.h - the security baseline: which actions agents may take, with which parameters, how often, and in which posture.
 *
 * A YAML file, versioned, with its sign-off beside it (PATH.signoff: version, SHA-256 of the file's bytes, who, when, and an Ed25519
 * signature if the settings name a key). What is unreadable, changed since it was signed off, or wrong in any line is not trusted: then the strict built-in holds,
 * which allows no action. */
#ifndef REDOUBT_BASELINE_H
#define REDOUBT_BASELINE_H

#include "common/conf.h"
#include "common/err.h"
#include "common/settings.h"
#include <stdbool.h>
#include <stdint.h>

enum baseline_type {
    BASELINE_TEXT,
    BASELINE_INT,
    BASELINE_BOOL,
    BASELINE_IP,   /* IPv4 or IPv6 address */
    BASELINE_CIDR, /* address or network */
    BASELINE_HOST, /* DNS name */
    BASELINE_ENUM, /* one of `values` */
};
struct baseline_parameter {
    char *name;
    int type; /* enum baseline_type */
    bool required;
    int64_t min, max;        /* INT: value; TEXT: length; both 0 = 1 to 1,024 bytes */
    char *pattern;           /* PCRE2, whole value; empty = any */
    struct conf_list values; /* char * */
    void *match;             /* compiled pattern; the loader's */
};
enum baseline_execute { BASELINE_BY_GUARD, BASELINE_BY_AGENT };
struct baseline_action {
    char *name;
    struct conf_list postures;   /* char *: in which it may be taken or queued */
    unsigned posture_bits;       /* the same as bits, 1u << posture of the contract */
    int execute;                 /* enum baseline_execute */
    char *path;                  /* of the backend; empty = the agent's own setting */
    bool queue;                  /* may wait for the backend; else it is refused while that is away */
    struct conf_list parameters; /* struct baseline_parameter; others are refused */
    int64_t per_minute, burst;   /* of one agent; 0 = no limit */
    int64_t expires_ms;          /* not replayed when older; 0 = guard.queue.max_age */
};
/* What a file was when it was read; all 0 = it could not be. */
struct baseline_stamp {
    int64_t changed_ns, written_ns, size;
    uint64_t device, inode;
};
struct baseline {
    char *version;
    char *description;
    struct conf_list actions;  /* struct baseline_action */
    int64_t per_minute, burst; /* of one agent over all its actions; 0 = no limit */
    /* not in the file */
    bool trusted;        /* false: the strict built-in */
    char sha256[65];     /* of the file's bytes, hex; "" for the built-in */
    char signed_by[129]; /* "" for the built-in */
    int64_t signed_ms, loaded_ms;
    char error[512]; /* why the file is not trusted; "" if it is */
    struct baseline_stamp file, signoff;
};
/* Never NULL (aborts without memory): the file's, or the strict built-in with `error` set. */
struct baseline *baseline_load(const struct set_baseline *set);
void baseline_free(struct baseline *b);
const struct baseline_action *baseline_action(const struct baseline *b, const char *name); /* NULL = not in it */
/* Checks one value. NULL = fine, else what is wrong (a constant text or in buf). */
const char *baseline_check_value(const struct baseline_parameter *p, const char *value, char buf[static 256]);
/* Has the file, or its sign-off, changed on disk since `b` was loaded? Cheap (stat). */
bool baseline_stale(const struct baseline *b, const struct set_baseline *set);

/* Signs off: writes PATH.signoff (atomically), if the file is right in every line. key NULL = hash alone; else 64 bytes of an Ed25519
 * secret key. 0 or -1. */
#define BASELINE_KEY_BYTES 64
int baseline_sign(const char *path, const char *by, const unsigned char *key, struct err *e);
/* Is the file right in every line, signed off or not? NULL with its mistakes, one a line, in r. Free with baseline_free(). */
struct baseline *baseline_parse(const char *name, const char *text, size_t len, struct conf_report *r);
struct baseline *baseline_read(const char *path, struct conf_report *r);
extern const struct conf_schema baseline_file_schema; /* for conf_show() */

#endif
