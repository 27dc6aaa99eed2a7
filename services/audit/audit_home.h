/* audit_home.h - what a trail's directories elsewhere are called: fixed when it is begun, whoever goes on with it. */
#ifndef REDOUBT_AUDIT_HOME_H
#define REDOUBT_AUDIT_HOME_H

#include "common/err.h"
#include <stdbool.h>

#define AUDIT_HOME_FILE "name"
#define AUDIT_HOME_MAX  64

/* The name of the trail in `dir`: that of the replica that began it. Its part in `second_dir` and in the mirror is called so, and so is its checkpoint on the bus. Without the file
 * the name is `instance`, and the file is written. -1: it cannot be read or written, or the trail went on in a second directory under a name that nobody
 * can know (text in e). */
int audit_home_open(const char *dir, const char *second_root, const char *instance, char ret[static AUDIT_HOME_MAX],
                    struct err *e);
/* Of another replica's directory `index`, as far as it can be read; otherwise as `instance`, our own name, but for the index. */
void audit_home_of(const char *dir, int index, const char *instance, char ret[static AUDIT_HOME_MAX]);

#endif
