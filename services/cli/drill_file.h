/* drill_file.h - where the figures of drills are kept. */
#ifndef REDOUBT_CLI_DRILL_FILE_H
#define REDOUBT_CLI_DRILL_FILE_H

#include "cli/cli.h"
#include <jansson.h>

/* Stores the figures of one drill; takes the reference. path: a file, or "-" = stdout, and it must work: CLI_OK or CLI_FAILED.
 * NULL: <data_dir, if given, else $XDG_STATE_HOME/redoubt>/drills/<name>-<time>.json; the path is said on c->out, and a failure is
 * said and nothing else. */
int drill_file_store(struct cli *c, const char *name, const char *data_dir, const char *path, json_t *figures);

#endif
