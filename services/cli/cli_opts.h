/* cli_opts.h - what the tables of options share. */
#ifndef REDOUBT_CLI_OPTS_H
#define REDOUBT_CLI_OPTS_H

#include "cli/cmd.h"
#include <stddef.h>

#define DAY_MS  INT64_C(86400000)
#define YEAR_MS (366 * DAY_MS)
#define BY_AND_REASON                                                                                                \
    {"by", 0, CLI_TEXT, "NAME", offsetof(struct opts_order, by), 0, 0, "who orders it; required"},                   \
    {                                                                                                                \
        "reason", 0, CLI_TEXT, "TEXT", offsetof(struct opts_order, reason), 0, 0, "why; required"                    \
    }

#endif
