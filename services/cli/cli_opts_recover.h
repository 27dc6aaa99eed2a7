/* cli_opts_recover.h - the options of `redoubt recover` and `redoubt state`, for the rows of cli_rows.c alone. */
#ifndef REDOUBT_CLI_OPTS_RECOVER_H
#define REDOUBT_CLI_OPTS_RECOVER_H

#include "cli/cmd.h"
#include <stddef.h>

#define RECOVER_TEXT                                                                                                 \
    "Copies are restic snapshots with the tags that the suite's backups have: redoubt, source=, kind=, point=. "     \
    "What "                                                                                                          \
    "a repository\n"                                                                                                 \
    "behind a network needs is taken from the environment (AWS_..., B2_..., and so on).\n"
#define RECOVER_OPT(name_, kind_, arg_, field_, help_)                                                               \
    {                                                                                                                \
        name_, 0, kind_, arg_, offsetof(struct opts_recover, field_), 0, 0, help_                                    \
    }
#define RECOVER_WHERE                                                                                                \
    RECOVER_OPT("repository", CLI_TEXT, "REPOSITORY", repository,                                                    \
                "where the copies are (default: $RESTIC_REPOSITORY)"),                                               \
        RECOVER_OPT("password-file", CLI_TEXT, "FILE", password_file,                                                \
                    "its password (default: $RESTIC_PASSWORD_FILE)"),                                                \
        RECOVER_OPT("json", CLI_FLAG, NULL, json, "one JSON object instead of a table")

static const struct cli_opt recover_list_opts[] = {RECOVER_WHERE};
static const struct cli_opt recover_opts[] = {
    RECOVER_WHERE,
    RECOVER_OPT("from", CLI_TEXT, "NAMES", from, "these sources or kinds only, separated by commas"),
    RECOVER_OPT("config", CLI_TEXT, "FILE", config,
                "where the configuration goes, and is read from\n(default: $REDOUBT_CONFIG, then "
                "/etc/redoubt/redoubt.yaml)"),
    RECOVER_OPT("data-dir", CLI_TEXT, "DIR", data_dir,
                "what was below the old data_dir goes below this (default: the\nconfiguration's own)"),
    RECOVER_OPT("learning-to", CLI_TEXT, "DIR", learning_to,
                "learning data go to DIR/<source> (default: where they were)"),
    RECOVER_OPT("nats", CLI_TEXT, "URL", nats, "the new NATS server (default: the configuration's)"),
    RECOVER_OPT("redis", CLI_TEXT, "HOST:PORT", redis, "the new Redis (default: the configuration's)"),
    RECOVER_OPT("force", CLI_FLAG, NULL, force, "move aside what is in the way; replace streams and keys"),
    RECOVER_OPT("by", CLI_TEXT, "NAME", by, "who does it, for the trail (default: $USER)"),
    RECOVER_OPT("reason", CLI_TEXT, "TEXT", reason, "why, for the trail"),
};

#define STATE_OPT(name_, kind_, arg_, field_, help_)                                                                 \
    {                                                                                                                \
        name_, 0, kind_, arg_, offsetof(struct opts_state, field_), 0, 0, help_                                      \
    }
#define STATE_ONLY  STATE_OPT("only", CLI_TEXT, "WHAT", only, "nats or redis (default: both)")
#define STATE_JSON  STATE_OPT("json", CLI_FLAG, NULL, json, "one JSON object instead of lines")
#define STATE_REDIS STATE_OPT("redis", CLI_TEXT, "HOST:PORT", redis, "Redis (default: the settings')")
static const struct cli_opt state_save_opts[] = {STATE_REDIS, STATE_ONLY, STATE_JSON};
static const struct cli_opt state_verify_opts[] = {STATE_ONLY, STATE_JSON};
static const struct cli_opt state_restore_opts[] = {
    STATE_REDIS,
    STATE_ONLY,
    STATE_JSON,
    STATE_OPT("force", CLI_FLAG, NULL, force, "delete streams that hold data, and replace keys"),
    STATE_OPT("by", CLI_TEXT, "NAME", by, "who does it, for the trail (default: $USER)"),
    STATE_OPT("reason", CLI_TEXT, "TEXT", reason, "why, for the trail"),
};

#endif
