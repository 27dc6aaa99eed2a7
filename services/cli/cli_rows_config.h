/* cli_rows_config.h - the rows and options of `redoubt config` that speak with the suite, for the table of cli_rows.c alone. */
#ifndef REDOUBT_CLI_ROWS_CONFIG_H
#define REDOUBT_CLI_ROWS_CONFIG_H

#include "cli/cmd.h"
#include "cli/config_history.h"
#include <stddef.h>

#define CONFIG_OPT(name, letter, kind, arg, member, help)                                                            \
    {                                                                                                                \
        name, letter, kind, arg, offsetof(struct opts_config_history, member), 0, 0, help                            \
    }
#define CONFIG_ORDER                                                                                                 \
    CONFIG_OPT("by", 0, CLI_TEXT, "NAME", by, "who orders it; required"),                                            \
        CONFIG_OPT("reason", 0, CLI_TEXT, "TEXT", reason, "why; required"),                                          \
        CONFIG_OPT("dry-run", 0, CLI_FLAG, NULL, dry_run,                                                            \
                   "only say what is wrong with it, what differs, and what needs a restart"),                        \
        CONFIG_OPT("json", 'j', CLI_FLAG, NULL, json, "JSON instead of text")

static const struct opts_config_history config_history_defaults = {.count = 20};
static const struct cli_opt config_history_opts[] = {
    {"count", 'n', CLI_INT, "N", offsetof(struct opts_config_history, count), 1, 1000000, "so many (default: 20)"},
    CONFIG_OPT("json", 'j', CLI_FLAG, NULL, json, "one JSON object per version"),
};
static const struct cli_opt config_diff_opts[] = {
    CONFIG_OPT("json", 'j', CLI_FLAG, NULL, json, "JSON instead of text"),
};
static const struct cli_opt config_rollback_opts[] = {CONFIG_ORDER};
static const struct cli_opt config_apply_opts[] = {
    CONFIG_ORDER,
    CONFIG_OPT("from", 0, CLI_TEXT, "COMMIT", from, "the version that it was made from (default: the present one)"),
    CONFIG_OPT("force", 0, CLI_FLAG, NULL, force, "although secrets stand in it; lands in the audit trail"),
};
static const struct cli_opt config_check_opts[] = {
    {"strict", 0, CLI_FLAG, NULL, offsetof(struct opts_config, strict), 0, 0, "warnings are failures, too"},
};

#define CONFIG_OPTS(rows)                                                                                            \
    .opts = rows, .n_opts = sizeof(rows) / sizeof((rows)[0]), .opts_size = sizeof(struct opts_config_history)
#define CONFIG_ROWS                                                                                                  \
    {.path = "config history",                                                                                       \
     .summary = "the accepted versions, newest first: when, by whom, why",                                           \
     .text = "redoubt-continuity keeps them in a git repository. A change by hand is one as well, if the file is "   \
             "right in every\n"                                                                                      \
             "line: `by` is then the file's owner.",                                                                 \
     .connects = true,                                                                                               \
     .answer_ms = 30000,                                                                                             \
     .run = cmd_config_history,                                                                                      \
     .defaults = &config_history_defaults,                                                                           \
     CONFIG_OPTS(config_history_opts)},                                                                              \
        {.path = "config diff",                                                                                      \
         .args = "[FROM [TO]]",                                                                                      \
         .max_args = 2,                                                                                              \
         .summary = "what two versions differ in, secrets as ***",                                                   \
         .text = "FROM and TO are (the beginnings of) commits. Without TO: the present version; without both: what " \
                 "its last change was.\n"                                                                            \
                 "Compared is what the files come to, each setting with its value, not their comments.",             \
         .connects = true,                                                                                           \
         .answer_ms = 30000,                                                                                         \
         .run = cmd_config_diff,                                                                                     \
         CONFIG_OPTS(config_diff_opts)},                                                                             \
        {.path = "config apply",                                                                                     \
         .args = "FILE",                                                                                             \
         .min_args = 1,                                                                                              \
         .max_args = 1,                                                                                              \
         .summary = "make FILE the settings of the suite: checked, recorded, written, committed, taken over",        \
         .text =                                                                                                     \
             "Refused if the settings have changed since --from, or secrets stand in FILE instead of ${NAME} or "    \
             "${file:/path}.\n"                                                                                      \
             "The services read them again by themselves; what needs a restart is said.",                            \
         .connects = true,                                                                                           \
         .answer_ms = 60000,                                                                                         \
         .run = cmd_config_apply,                                                                                    \
         CONFIG_OPTS(config_apply_opts)},                                                                            \
    {                                                                                                                \
        .path = "config rollback", .args = "COMMIT", .min_args = 1, .max_args = 1,                                   \
        .summary = "make an accepted version the settings of the suite again, as a new version",                     \
        .text = "COMMIT is one of `redoubt config history`, or its beginning. The security baseline stays as it "    \
                "is.",                                                                                               \
        .connects = true, .answer_ms = 60000, .run = cmd_config_rollback, CONFIG_OPTS(config_rollback_opts)          \
    }

#endif
