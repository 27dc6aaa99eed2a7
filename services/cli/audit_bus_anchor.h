/* audit_bus_anchor.h - the checkpoint that the bus keeps of a trail in a directory. */
#ifndef REDOUBT_CLI_AUDIT_BUS_ANCHOR_H
#define REDOUBT_CLI_AUDIT_BUS_ANCHOR_H

#include "cli/cli.h"

/* CLI_OK with the signed note (free() it), or an exit code after saying why. */
int audit_bus_anchor(struct cli *c, const char *const *dirs, size_t n_dirs, char **ret_note);

#endif
