/* cli_opts_drill.h - the options of `redoubt drill`, for the rows of cli_rows.c alone. */
#ifndef REDOUBT_CLI_OPTS_DRILL_H
#define REDOUBT_CLI_OPTS_DRILL_H

#include "cli/cmd.h"
#include <stddef.h>

static const struct cli_opt drill_opts[] = {
    {"json", 'j', CLI_TEXT, "FILE", offsetof(struct opts_drill, json), 0, 0,
     "write steps and figures there; - = stdout (default: a file below\n$XDG_STATE_HOME/redoubt/drills)"},
    {"keep", 'k', CLI_FLAG, NULL, offsetof(struct opts_drill, keep), 0, 0,
     "leave the stack running, and say how to look at it (or KEEP=1)"},
    {"bin-dir", 0, CLI_TEXT, "DIR", offsetof(struct opts_drill, bin_dir), 0, 0,
     "where the services' programs are (default: beside this one)"},
    {"live", 0, CLI_FLAG, NULL, offsetof(struct opts_drill, live), 0, 0,
     "on a real, running suite; the options below, -c and --nats are for this"},
    {"target", 0, CLI_TEXT, "AGENT", offsetof(struct opts_drill, target), 0, 0,
     "the one agent whose failure is pretended"},
    {"by", 0, CLI_TEXT, "NAME", offsetof(struct opts_drill, by), 0, 0, "who orders it; required"},
    {"reason", 0, CLI_TEXT, "TEXT", offsetof(struct opts_drill, reason), 0, 0, "why; required"},
    {"yes", 'y', CLI_FLAG, NULL, offsetof(struct opts_drill, yes), 0, 0, "do not ask for the agent's name first"},
    {"for", 0, CLI_DURATION, "TIME", offsetof(struct opts_drill, for_ms), 1000, 15 * 60000,
     "how long the failure is pretended (default: 20s)"},
    {"limit", 0, CLI_DURATION, "TIME", offsetof(struct opts_drill, limit_ms), 1000, 3600000,
     "how long the way back may take (default: 5m)"},
};
static const struct cli_opt drill_all_opts[] = {
    {"json", 'j', CLI_TEXT, "FILE", offsetof(struct opts_drill_all, json), 0, 0,
     "write all figures there; - = stdout (default: a file below\n$XDG_STATE_HOME/redoubt/drills)"},
    {"bin-dir", 0, CLI_TEXT, "DIR", offsetof(struct opts_drill_all, bin_dir), 0, 0,
     "where the services' programs are (default: beside this one)"},
};
static const struct cli_opt drill_demo_opts[] = {
    {"sims", 0, CLI_TEXT, "LIST", offsetof(struct opts_drill_demo, sims), 0, 0,
     "control ports of the simulators, required: "
     "primary=HOST:PORT,\nbackup=HOST:PORT,backend=HOST:PORT,mail=HOST:PORT"},
    {"json", 'j', CLI_TEXT, "FILE", offsetof(struct opts_drill_demo, json), 0, 0,
     "write steps and figures there; - = stdout (default: they are only told)"},
};

#endif
