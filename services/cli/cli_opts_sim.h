/* cli_opts_sim.h - the options of `redoubt sim`, for the rows of cli_rows.c alone. */
#ifndef REDOUBT_CLI_OPTS_SIM_H
#define REDOUBT_CLI_OPTS_SIM_H

#include "cli/cli_opts.h"

static const struct opts_sim_agent sim_agent_defaults = {
    .rate = 5, .call_ms = 5000, .act = "block_ip", .act_ms = 15000, .restart = "exec"};
static const struct cli_opt sim_agent_opts[] = {
    {"rate", 0, CLI_INT, "N", offsetof(struct opts_sim_agent, rate), 1, 1000, "LLM calls a second (default: 5)"},
    {"instance", 0, CLI_TEXT, "NAME", offsetof(struct opts_sim_agent, instance), 0, 0,
     "name of this process of the agent (default: host and pid)"},
    {"heartbeat-ms", 0, CLI_INT, "N", offsetof(struct opts_sim_agent, heartbeat_ms), 100, 600000,
     "time between heartbeats (default: the agent's setting)"},
    {"call-ms", 0, CLI_INT, "N", offsetof(struct opts_sim_agent, call_ms), 1, 600000,
     "a call without an answer after this has failed (default: 5000)"},
    {"count", 'n', CLI_INT, "N", offsetof(struct opts_sim_agent, count), 1, INT32_MAX,
     "end after so many calls' time"},
    {"misbehave", 0, CLI_TEXT, "LIST", offsetof(struct opts_sim_agent, misbehave), 0, 0,
     "in which ways: stuck, malformed, contradictory, repeat, denied, exceptions, selftest, memory; SIGUSR1 ends it, "
     "and begins it again"},
    {"well", 0, CLI_FLAG, NULL, offsetof(struct opts_sim_agent, well), 0, 0,
     "with --misbehave: well at first; SIGUSR1 begins it"},
    {"lease-ms", 0, CLI_INT, "N", offsetof(struct opts_sim_agent, lease_ms), 100, 3600000,
     "out of touch with the suite for this long, it freezes itself (default: 30000)"},
    {"act-rate", 0, CLI_INT, "N", offsetof(struct opts_sim_agent, act_rate), 1, 1000,
     "actions a second that it asks of the guard (default: none)"},
    {"act", 0, CLI_TEXT, "NAME", offsetof(struct opts_sim_agent, act), 0, 0,
     "which action, with the parameter `ip` (default: block_ip)"},
    {"act-ms", 0, CLI_INT, "N", offsetof(struct opts_sim_agent, act_ms), 100, 600000,
     "how long it asks for the outcome of an action (default: 15000)"},
    {"restart", 0, CLI_TEXT, "HOW", offsetof(struct opts_sim_agent, restart), 0, 0,
     "when the suite asks for it: exec, it begins anew in the same process; exit,\nit ends with code 75; never, it "
     "does not (default: exec)"},
    {"verbose", 'v', CLI_FLAG, NULL, offsetof(struct opts_sim_agent, verbose), 0, 0,
     "a line for every good call and every action, too"},
};

static const struct opts_sim_fleet sim_fleet_defaults = {.heartbeat_ms = 1000,
                                                         .act = "block_ip",
                                                         .act_ms = 15000,
                                                         .chain =
                                                             "llm.sim.primary=gpt-4o,llm.sim.backup=gpt-3.5-turbo"};
static const struct cli_opt sim_fleet_opts[] = {
    {"agents", 'n', CLI_INT, "N", offsetof(struct opts_sim_fleet, n), 1, 99999,
     "so many agents (default: all of the settings file; with --prefix 1000)"},
    {"prefix", 0, CLI_TEXT, "TEXT", offsetof(struct opts_sim_fleet, prefix), 0, 0,
     "agents TEXT00001, TEXT00002, ... instead of those of the settings file"},
    {"heartbeat-ms", 0, CLI_INT, "N", offsetof(struct opts_sim_fleet, heartbeat_ms), 100, 600000,
     "time between heartbeats of each agent (default: 1000)"},
    {"report-rate", 0, CLI_INT, "N", offsetof(struct opts_sim_fleet, report_rate), 1, 100000,
     "good calls a second that all of them together report (default: none)"},
    {"act-rate", 0, CLI_INT, "N", offsetof(struct opts_sim_fleet, act_rate), 1, 100000,
     "actions a second that all of them together ask of the guard (default: none)"},
    {"act", 0, CLI_TEXT, "NAME", offsetof(struct opts_sim_fleet, act), 0, 0,
     "which action, with the parameter `ip` (default: block_ip)"},
    {"act-ms", 0, CLI_INT, "N", offsetof(struct opts_sim_fleet, act_ms), 100, 600000,
     "how long they ask for the outcome of an action (default: 15000)"},
    {"for", 0, CLI_DURATION, "TIME", offsetof(struct opts_sim_fleet, for_ms), 1, YEAR_MS, "end after this time"},
    {"verbose", 'v', CLI_FLAG, NULL, offsetof(struct opts_sim_fleet, verbose), 0, 0, "a line for each action, too"},
    {"print-settings", 0, CLI_FLAG, NULL, offsetof(struct opts_sim_fleet, print_settings), 0, 0,
     "print the `agents:` of a settings file for them, and end"},
    {"chain", 0, CLI_TEXT, "LIST", offsetof(struct opts_sim_fleet, chain), 0, 0,
     "for that: TARGET=MODEL,... (default: llm.sim.primary=gpt-4o,\nllm.sim.backup=gpt-3.5-turbo)"},
    {"backend", 0, CLI_TEXT, "TARGET", offsetof(struct opts_sim_fleet, backend), 0, 0, "for that: their backend"},
    {"actions-url", 0, CLI_TEXT, "URL", offsetof(struct opts_sim_fleet, actions_url), 0, 0,
     "for that: where the guard passes their actions on"},
};

#endif
