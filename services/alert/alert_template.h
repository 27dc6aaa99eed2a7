/* alert_template.h - what a channel sends, in the words of its receiver: a jq program that makes a body of the message's JSON.
 *
 * A program may run for ever or take all memory, and libjq cannot be stopped: so it runs in a process of its own (alert_body.h), which is
 * this program called again. Here is what that process does, and the check that a program can be compiled, which runs nothing. */
#ifndef REDOUBT_ALERT_TEMPLATE_H
#define REDOUBT_ALERT_TEMPLATE_H

#include "common/conf.h"
#include "common/err.h"
#include "common/settings.h"
#include <stdbool.h>
#include <stddef.h>

#define ALERT_TEMPLATE_OUT_MAX (64 * 1024)

struct alert_template;
/* Compiles it; NULL with the reason in e. Modules are refused. */
struct alert_template *alert_template_new(const char *program, struct err *e);
void alert_template_free(struct alert_template *t); /* NULL is fine */
/* Runs it, for as long as that takes. A text as it is, anything else as JSON in one line (*ret_json); malloc'ed and zero-terminated. NULL with the
 * reason in e: an error of the program's, no value, null, more than one value, or more than ALERT_TEMPLATE_OUT_MAX. */
char *alert_template_run(struct alert_template *t, const char *json, size_t len, size_t *ret_len, bool *ret_json,
                         struct err *e);

/* Every template of the settings: adds a line with the key to r for each that cannot be compiled. True if all can. */
bool alert_template_check(const struct settings *s, struct conf_report *r);

#endif
