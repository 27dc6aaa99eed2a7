/* rollback_fill.h - arguments of programs and URLs with {{names}} that are replaced by texts. Pure. */
#ifndef REDOUBT_ROLLBACK_FILL_H
#define REDOUBT_ROLLBACK_FILL_H

#include "common/conf.h"
#include "common/err.h"
#include <stdbool.h>
#include <stddef.h>

struct fill_name {
    const char *name, *value; /* value NULL = the name may be used, but has no value here: an error when it is */
};
/* Each {{name}} of text is replaced. malloc'ed; NULL with the reason in e: an unknown name, braces that are not closed, a value that holds a control
 * character, or a text that begins with a name whose value would be read as an option ("-x"). */
char *fill_text(const char *text, const struct fill_name *names, size_t n, struct err *e);
/* The same for all of a program's arguments: NULL-terminated, freed by fill_free(). The program itself (the first) is taken as it is. */
char **fill_argv(const struct conf_list *command, const struct fill_name *names, size_t n, struct err *e);
void fill_free(char **argv); /* NULL is fine */
/* Are all {{names}} of a command known? */
bool fill_known(const struct conf_list *command, const struct fill_name *names, size_t n, struct err *e);
bool fill_uses(const struct conf_list *command, const char *name);
/* Is a program in the list of those that may be run? */
bool fill_allowed(const struct conf_list *allowed, const struct conf_list *command);

#endif
