/* drill_live.h - a drill on a real, running suite: pretends a failure of one agent, watches everything, gives up at the first red. */
#ifndef REDOUBT_CLI_DRILL_LIVE_H
#define REDOUBT_CLI_DRILL_LIVE_H

#include "cli/cli.h"

struct drill_live_order {
    const char *name; /* of the drill */
    const char *target, *by, *reason;
    const char *json;    /* as for drill_run() */
    bool yes;            /* without asking */
    int64_t hold_ms;     /* how long the failure is pretended */
    int64_t restored_ms; /* the way back may take so long */
};
/* Returns an exit code. Whatever becomes of this process, the failure is pretended for DRILL_LIVE_LAPSE_MS more at most. */
#define DRILL_LIVE_LAPSE_MS 15000
int drill_live(struct cli *c, const struct drill_live_order *o);

#endif
