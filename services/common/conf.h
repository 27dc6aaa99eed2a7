/* conf.h - YAML into structs by one table of settings: types, units, bounds, defaults, help; errors that name the place.
 *
 * Values may hold ${NAME} (environment), ${NAME:-default} and ${file:/path} (contents without the last newline). Units:
 * durations `250ms 30s 5m 4h 7d`, sizes `64KiB 10MB 1GiB` or plain bytes, percentages `50%`, booleans `true/false/yes/no/on/off`.
 * An unknown key is an error that names the nearest known one; a wrong value names file, line, key, what was found and
 * what is allowed. All errors of a file are reported, not only the first. */
#ifndef REDOUBT_CONF_H
#define REDOUBT_CONF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum conf_type {
    CONF_STRING,   /* char *            min/max = length; 0 max = 1024 */
    CONF_SECRET,   /* char *            as STRING; shown as *** */
    CONF_TOKEN,    /* char *            name_token_ok */
    CONF_TARGET,   /* char *            name_target_ok */
    CONF_URL,      /* char *            scheme://...; `choices` lists schemes */
    CONF_BOOL,     /* bool */
    CONF_INT,      /* int64_t           min..max */
    CONF_DURATION, /* int64_t ms        min..max in ms */
    CONF_SIZE,     /* int64_t bytes     min..max */
    CONF_PERCENT,  /* int64_t 0..100    min..max */
    CONF_ENUM,     /* int               `choices`: index of the name */
    CONF_OBJECT,   /* struct            `schema` */
    CONF_LIST,     /* struct conf_list  of objects by `schema`; min..max = how many */
    CONF_STRINGS,  /* struct conf_list  of char *; items checked as `item` type */
};

/* A list in a settings struct: n items of the schema's size, one behind the other. */
struct conf_list {
    void *items;
    size_t n;
};
#define CONF_AT(list, type, i) (&((type *)(list).items)[i])

struct conf_schema;
struct conf_ctx;
struct conf_field {
    const char *key;
    enum conf_type type;
    size_t offset;
    const char
        *def; /* default, as it would be written in the file; NULL = required; "" for a list or string = empty */
    int64_t min, max;           /* in the type's base unit; both 0 = no bounds */
    const char *const *choices; /* NULL-terminated */
    const struct conf_schema *schema;
    enum conf_type item; /* for CONF_STRINGS */
    bool reload;         /* takes effect on SIGHUP; otherwise a change needs a restart and is refused on reload */
    const char *help;    /* one line or more; where a default comes from */
};
struct conf_schema {
    const char *name;
    size_t size;
    const struct conf_field *fields;
    size_t n;
    /* Checks across fields; reports by conf_problem(). May be NULL. */
    void (*check)(void *object, struct conf_ctx *ctx);
};

/* Adds a problem at the object now being checked. */
__attribute__((format(printf, 3, 4))) void conf_problem(struct conf_ctx *ctx, const char *key, const char *fmt, ...);

/* For checks: is this a URL with a host and one of the schemes (NULL-terminated; NULL = any)? */
bool conf_url_ok(const char *url, size_t len, const char *const *schemes);

/* Problems found, one line each: "redoubt.yaml:12: targets[2].probe.interval: found `2 parsecs`; allowed: ...". */
struct conf_report {
    char **lines;
    size_t n;
};
void conf_report_free(struct conf_report *r);

/* Reads a file (or text, for tests) into a fresh object of the schema; NULL if there was any problem. path "-" = stdin. */
void *conf_load(const struct conf_schema *s, const char *path, struct conf_report *r);
void *conf_parse(const struct conf_schema *s, const char *name, const char *text, size_t len, struct conf_report *r);
/* Adds a line to r for each secret that stands in the text itself, instead of ${NAME} or ${file:/path}. */
void conf_literals(const struct conf_schema *s, const char *name, const char *text, size_t len,
                   struct conf_report *r);
void conf_free(const struct conf_schema *s, void *object);
/* A deep copy, freed by conf_free(); NULL if memory is out. */
void *conf_copy(const struct conf_schema *s, const void *object);
/* Names of settings that differ and cannot be reloaded, one line each in r. True if there are none. */
bool conf_may_reload(const struct conf_schema *s, const void *was, const void *now, struct conf_report *r);
/* The same in every setting? */
bool conf_same(const struct conf_schema *s, const void *a, const void *b);
/* Writes the whole object as YAML, secrets as ***; with `help` every key gets its help as a comment. */
void conf_show(const struct conf_schema *s, const void *object, bool help, void (*out)(void *ctx, const char *line),
               void *ctx);

#endif
