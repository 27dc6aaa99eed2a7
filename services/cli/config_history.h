/* config_history.h - the commands about the history of the configuration: their options and entry points. */
#ifndef REDOUBT_CLI_CONFIG_HISTORY_H
#define REDOUBT_CLI_CONFIG_HISTORY_H

#include "cli/cli.h"

struct opts_config_history {
    const char *by, *reason, *from;
    int64_t count;
    bool json, dry_run, force;
};
int cmd_config_history(struct cli *c, const void *opts, int argc, char **argv);
int cmd_config_diff(struct cli *c, const void *opts, int argc, char **argv);
int cmd_config_apply(struct cli *c, const void *opts, int argc, char **argv);
int cmd_config_rollback(struct cli *c, const void *opts, int argc, char **argv);

#endif
