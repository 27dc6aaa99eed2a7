/* conf_impl.h - what the conf_*.c files share; private to them. */
#ifndef REDOUBT_CONF_IMPL_H
#define REDOUBT_CONF_IMPL_H

#include "common/conf.h"
#include "common/err.h"

#define CONF_VALUE_MAX  65536 /* bytes of one value after substitution */
#define CONF_STRING_MAX 1024  /* default limit of a string */
#define CONF_ITEMS_MAX  1000  /* default limit of a list */

/* What a substituted value is made from: ${NAME}, ${NAME:-default}, ${file:/path}; `$${` stands for `${`. malloc'ed,
 * NULL with the reason in *e. *ret_changed tells whether anything was substituted. */
char *conf_expand(const char *raw, bool *ret_changed, struct err *e);

/* Parses one scalar of `type` into *at (strings are malloc'ed). False if it is not allowed; e then holds more than "not allowed"
 * only if there is more to say. `f` gives bounds, choices and whether "" is allowed. */
bool conf_scalar(const struct conf_field *f, enum conf_type type, const char *text, void *at, struct err *e);
/* What a field allows, in words: "a duration such as 250ms, 30s or 5m, 100ms to 1d". Returns buf. */
const char *conf_allowed(const struct conf_field *f, enum conf_type type, char *buf, size_t room);
/* A value as it would be written in a file. Strings are not quoted here. Returns buf. */
const char *conf_duration_text(int64_t ms, char *buf, size_t room);
const char *conf_size_text(int64_t bytes, char *buf, size_t room);
/* Copies text for people: user:password@ of URLs becomes ***@, control characters become ?, long text is cut. Returns buf. */
const char *conf_safe_text(const char *text, char *buf, size_t room);

bool conf_is_string(enum conf_type type);
void conf_report_add(struct conf_report *r, char *line); /* takes line; past CONF_PROBLEMS_MAX it is dropped */
#define CONF_PROBLEMS_MAX 100

#endif
