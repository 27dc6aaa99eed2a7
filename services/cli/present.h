/* present.h - the suite's present, read from the bus into a status model: states by watch, the rest by asking. */
#ifndef REDOUBT_CLI_PRESENT_H
#define REDOUBT_CLI_PRESENT_H

#include "cli/cli_bus.h"
#include "cli/status_model.h"

enum {
    PRESENT_HEALTH = 1,
    PRESENT_BREAKERS = 2,
    PRESENT_AGENTS = 4,
    PRESENT_DEPLOYMENTS = 8,
    PRESENT_CONTINUITY = 16,
    PRESENT_ALL = 31
};
enum { PRESENT_WATCHES = 5 };

struct present {
    struct cli_link *link;
    struct status_model model;
    struct bus_watch *watches[PRESENT_WATCHES];
    unsigned waiting; /* watches not yet replayed */
    bool synced;
    bool changed; /* something came since it was last cleared */
};
/* Watches `what` and waits for the present. 0, or an exit code after saying why. Close in both cases. */
int present_open(struct present *p, struct cli_link *k, unsigned what);
/* Adds targets, agents and deployments of the settings, if there are any. */
void present_add_settings(struct present *p);
/* Asks which services live, anew. */
void present_ask_services(struct present *p);
/* Asks redoubt-fallback for the whole state of each known agent: a directive does not hold what came after it. */
void present_ask_agents(struct present *p);
/* Asks redoubt-continuity how it stands: what it announces may be a minute old. */
void present_ask_continuity(struct present *p);
void present_close(struct present *p);

#endif
