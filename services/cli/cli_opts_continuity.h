/* cli_opts_continuity.h - the options of `redoubt incident` and `redoubt continuity`, for the rows of cli_rows.c alone. */
#ifndef REDOUBT_CLI_OPTS_CONTINUITY_H
#define REDOUBT_CLI_OPTS_CONTINUITY_H

#include "cli/cli_opts.h"

#define IN_TEXT(name, arg, field, help)                                                                              \
    {                                                                                                                \
        name, 0, CLI_TEXT, arg, offsetof(struct opts_incident, field), 0, 0, help                                    \
    }
#define IN_FLAG(name, letter, field, help)                                                                           \
    {                                                                                                                \
        name, letter, CLI_FLAG, NULL, offsetof(struct opts_incident, field), 0, 0, help                              \
    }
#define IN_BY_AND_REASON                                                                                             \
    IN_TEXT("by", "NAME", by, "who orders it; required"), IN_TEXT("reason", "TEXT", reason, "why; required")
#define IN_JSON IN_FLAG("json", 'j', json, "JSON instead of text")
#define CO_TEXT(name, arg, field, help)                                                                              \
    {                                                                                                                \
        name, 0, CLI_TEXT, arg, offsetof(struct opts_continuity, field), 0, 0, help                                  \
    }
#define CO_FLAG(name, letter, field, help)                                                                           \
    {                                                                                                                \
        name, letter, CLI_FLAG, NULL, offsetof(struct opts_continuity, field), 0, 0, help                            \
    }
#define CO_JSON CO_FLAG("json", 'j', json, "JSON instead of text")

static const struct opts_incident incident_list_defaults = {.count = 50};
static const struct cli_opt incident_list_opts[] = {
    IN_FLAG("all", 'a', all, "those that are over, too"),
    {"count", 'n', CLI_INT, "N", offsetof(struct opts_incident, count), 1, 10000000,
     "the newest N only (default: 50)"},
    IN_JSON,
};
static const struct cli_opt incident_show_opts[] = {IN_JSON};
static const struct cli_opt incident_note_opts[] = {
    IN_TEXT("by", "NAME", by, "who writes it; required"),
    IN_FLAG("decision", 0, decision, "what was decided"),
    IN_FLAG("lesson", 0, lesson, "what was learned from it"),
    IN_FLAG("follow-up", 0, follow_up, "what is still to be done"),
};
static const struct cli_opt incident_order_opts[] = {IN_BY_AND_REASON};
static const struct cli_opt incident_advance_opts[] = {
    IN_BY_AND_REASON,
    IN_TEXT("to", "PHASE", to, "assess, recover, validate or learn (default: the next one)"),
};
static const struct opts_incident incident_open_defaults = {.severity = "high"};
static const struct cli_opt incident_open_opts[] = {
    IN_TEXT("by", "NAME", by, "who declares it; required"),
    IN_TEXT("reason", "TEXT", reason, "what is wrong, as others will read it; required"),
    IN_TEXT("agent", "AGENT", agent, "the agent that it is about"),
    IN_TEXT("key", "KEY", key,
            "or what it is about, as `llm.openai` or `agents`: evidence with this\nkey joins it while it is open"),
    IN_TEXT("severity", "WORD", severity, "info, warning, high or critical (default: high)"),
    IN_TEXT("kind", "WORD", kind,
            "llm-outage, backend-failure, logic-error, resource-exhaustion,\nnetwork or agent-down; required"),
};

static const struct cli_opt continuity_status_opts[] = {
    CO_TEXT("agent", "AGENT", agent, "this agent's objectives, instead of the suite's"),
    CO_JSON,
};
static const struct cli_opt continuity_availability_opts[] = {
    CO_TEXT("agent", "AGENT", agent, "only of this one"),
    CO_JSON,
    CO_FLAG("csv", 0, csv, "CSV instead of text"),
};
static const struct cli_opt continuity_report_opts[] = {
    CO_FLAG("print", 'p', print, "print its Markdown, if its directory can be read from here"),
};
static const struct cli_opt continuity_order_opts[] = {
    CO_TEXT("by", "NAME", by, "who orders it; required"),
    CO_TEXT("reason", "TEXT", reason, "why; required"),
};
static const struct cli_opt continuity_force_opts[] = {
    CO_TEXT("by", "NAME", by, "who orders it; required"),
    CO_TEXT("reason", "TEXT", reason, "why; required"),
    CO_FLAG("force", 0, force, "although something speaks against it; lands in the audit trail"),
};

#endif
