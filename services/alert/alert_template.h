/* alert_template.h - what a channel sends, in the words of its receiver: a jq program that makes a body of the message's JSON.
 *
 * A program may run for ever or take all memory, libjq cannot be stopped, and its compiler leaks what it could not compile: so neither is done in
 * the service itself. Programs run in a process of their own (alert_body.h), and are tried in one (alert_template_try()). */
#ifndef REDOUBT_ALERT_TEMPLATE_H
#define REDOUBT_ALERT_TEMPLATE_H

#include "common/conf.h"
#include "common/err.h"
#include "common/settings.h"
#include <stdbool.h>
#include <stddef.h>

#define ALERT_TEMPLATE_OUT_MAX (64 * 1024)

#define ALERT_TEMPLATE_CPU_S      2   /* of CPU time for one run or compilation, */
#define ALERT_TEMPLATE_MEMORY_MIB 256 /* and memory in all */

/* Can it be compiled? 0, or -1 with the reason in e. Compiles in a process of its own, and waits for it. */
int alert_template_try(const char *program, struct err *e);

/* ---- in such a process ---- */

/* Gives up everything that a program has no business with: environment, files, more memory than its share; for good. */
void alert_template_confine(void);
/* From now on the process has that much CPU time, then it is ended; 0 = no end. */
void alert_template_time(int seconds);

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
