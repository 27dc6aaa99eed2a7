/* drill_all.h - several drills, one after the other, with one table and one JSON at the end. */
#ifndef REDOUBT_CLI_DRILL_ALL_H
#define REDOUBT_CLI_DRILL_ALL_H

#include "cli/cli.h"
#include <stddef.h>

/* Each in a process of its own (`redoubt drill NAME`), which ends when this one does. Returns an exit code. json as for drill_run(). */
int drill_all(struct cli *c, const char *const *names, size_t n, const char *bin_dir, const char *json);

#endif
