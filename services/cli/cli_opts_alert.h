/* cli_opts_alert.h - the options of `redoubt alert`, for the rows of cli_rows.c alone. */
#ifndef REDOUBT_CLI_OPTS_ALERT_H
#define REDOUBT_CLI_OPTS_ALERT_H

#include "cli/cli_opts.h"

static const struct cli_opt alert_opts[] = {
    {"by", 0, CLI_TEXT, "NAME", offsetof(struct opts_alert, by), 0, 0, "who tests (default: $USER)"},
};
static const struct opts_alert_list alert_list_defaults = {.count = 1000};
static const struct cli_opt alert_list_opts[] = {
    {"json", 'j', CLI_FLAG, NULL, offsetof(struct opts_alert_list, json), 0, 0, "JSON instead of a table"},
    {"all", 'a', CLI_FLAG, NULL, offsetof(struct opts_alert_list, all), 0, 0,
     "those of the last day that are over, too"},
    {"count", 'n', CLI_INT, "N", offsetof(struct opts_alert_list, count), 1, 10000000,
     "at most so many (default: 1000)"},
};
static const struct cli_opt ack_opts[] = {
    BY_AND_REASON,
    {"for", 0, CLI_DURATION, "TIME", offsetof(struct opts_order, for_ms), 1000, 30 * DAY_MS,
     "how long it holds, as 2h (default: alert.ack of the settings)"},
};
static const struct cli_opt silence_opts[] = {
    {"by", 0, CLI_TEXT, "NAME", offsetof(struct opts_silence, by), 0, 0, "who orders it; required"},
    {"reason", 0, CLI_TEXT, "TEXT", offsetof(struct opts_silence, reason), 0, 0, "why; required"},
    {"for", 0, CLI_DURATION, "TIME", offsetof(struct opts_silence, for_ms), 1000, 30 * DAY_MS,
     "how long, as 2h; required: a silence always has an end"},
    {"from", 0, CLI_TEXT, "TIME", offsetof(struct opts_silence, from), 0, 0,
     "when it begins, as 2026-01-31T09:05, UTC (default: now)"},
    {"dry-run", 0, CLI_FLAG, NULL, offsetof(struct opts_silence, dry_run), 0, 0,
     "show which of the present problems it would mute, and do nothing"},
    {"json", 'j', CLI_FLAG, NULL, offsetof(struct opts_silence, json), 0, 0, "JSON instead of text"},
};

#endif
