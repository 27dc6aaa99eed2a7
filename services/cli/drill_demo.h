/* drill_demo.h - the LLM outage told on a running suite whose world is simulators: what an example of the whole shows. */
#ifndef REDOUBT_CLI_DRILL_DEMO_H
#define REDOUBT_CLI_DRILL_DEMO_H

#include "cli/drill.h"

/* The simulators that the story tells what to do. */
enum drill_demo_sim { DRILL_DEMO_PRIMARY, DRILL_DEMO_BACKUP, DRILL_DEMO_BACKEND, DRILL_DEMO_MAIL, DRILL_DEMO_SIMS };
struct drill_demo_world {
    char control[DRILL_DEMO_SIMS][256]; /* host:port of each one's control */
};
/* "primary=HOST:PORT,backup=HOST:PORT,backend=HOST:PORT,mail=HOST:PORT", in any order, each once. 0 or -1. */
int drill_demo_world(const char *list, struct drill_demo_world *ret, struct err *e);

/* An exit code. `json` as in drill_run(), but NULL = the figures are only told. */
int drill_demo(struct cli *c, const struct drill_demo_world *w, const char *json);

#endif
