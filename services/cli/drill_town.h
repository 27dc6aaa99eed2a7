/* drill_town.h - the private suite that drills play on: its settings, processes and ports; each story adds what it needs. */
#ifndef REDOUBT_CLI_DRILL_TOWN_H
#define REDOUBT_CLI_DRILL_TOWN_H

#include "cli/drill_stack.h"
#include "common/err.h"
#include <stdbool.h>

#define DRILL_AGENT         "mcp-security-agent"
#define DRILL_PRIMARY       "llm.sim.primary"
#define DRILL_BACKUP        "llm.sim.backup"
#define DRILL_BACKEND       "backend.sim"
#define DRILL_PRIMARY_MODEL "gpt-4o"
#define DRILL_BACKUP_MODEL  "gpt-3.5-turbo"
#define DRILL_WATCHED       "log.sim"
#define DRILL_PROCEDURE     "https://wiki.example.org/block-by-hand"
#define DRILL_DEPLOYMENT    "agent-rollback"

struct drill;
/* What differs from story to story. */
struct drill_plan {
    const char *agent_settings;    /* lines of YAML, indented for the agent; NULL = none */
    const char *const *agent_args; /* of `redoubt sim agent`, NULL-terminated; NULL = none */
    const char *mail_mode;         /* of the simulated mail server; NULL = there is none */
    bool restarts; /* the executor may restart the agent, and the drill starts it again whenever it ends */
    bool link;     /* the agent reaches the bus by a link that can be cut */
};
struct drill_town {
    char settings[DRILL_PATH * 2];
    int nats_port, redis_port, llm_ports[2], backend_port, backend_control, slack_port, smtp_port, link_port,
        link_control;
};
/* Defines the processes and writes their settings; d->stack is open. 0 or -1. */
int drill_town_prepare(struct drill *d, const struct drill_plan *plan, struct err *e);
void drill_town_hints(struct drill *d);

#endif
