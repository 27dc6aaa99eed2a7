/* cli_opts_show.h - the options of looking and of plain orders, for the rows of cli_rows.c alone. */
#ifndef REDOUBT_CLI_OPTS_SHOW_H
#define REDOUBT_CLI_OPTS_SHOW_H

#include "cli/cli_opts.h"

static const struct cli_opt status_opts[] = {
    {"watch", 'w', CLI_FLAG, NULL, offsetof(struct opts_status, watch), 0, 0, "stay, and draw again at each change"},
    {"json", 'j', CLI_FLAG, NULL, offsetof(struct opts_status, json), 0, 0,
     "one JSON object (with --watch: one a line) instead of tables"},
};

static const struct cli_opt ping_opts[] = {
    {"instance", 0, CLI_TEXT, "ID", offsetof(struct opts_ping, instance), 0, 0, "this replica of SERVICE alone"},
};

static const struct cli_opt tail_opts[] = {
    {"json", 'j', CLI_FLAG, NULL, offsetof(struct opts_tail, json), 0, 0, "one JSON object per event"},
    {"replay", 'r', CLI_FLAG, NULL, offsetof(struct opts_tail, replay), 0, 0,
     "first what the streams still hold, oldest first"},
    {"since-start", 0, CLI_FLAG, NULL, offsetof(struct opts_tail, replay), 0, 0, "the same"},
    {"all", 'a', CLI_FLAG, NULL, offsetof(struct opts_tail, all), 0, 0,
     "heartbeats, reports, observations, traffic, decisions and continuity's\ndocuments, too"},
    {"count", 'n', CLI_INT, "N", offsetof(struct opts_tail, count), 1, INT64_MAX, "end after N events"},
    {"for", 0, CLI_DURATION, "TIME", offsetof(struct opts_tail, limit_ms), 1, YEAR_MS, "end after this time"},
};
static const struct cli_opt audit_tail_opts[] = {
    {"json", 'j', CLI_FLAG, NULL, offsetof(struct opts_tail, json), 0, 0, "one JSON object per record"},
    {"replay", 'r', CLI_FLAG, NULL, offsetof(struct opts_tail, replay), 0, 0,
     "first what the stream still holds, oldest first"},
    {"count", 'n', CLI_INT, "N", offsetof(struct opts_tail, count), 1, INT64_MAX, "end after N records"},
    {"for", 0, CLI_DURATION, "TIME", offsetof(struct opts_tail, limit_ms), 1, YEAR_MS, "end after this time"},
};

static const struct opts_report report_defaults = {.reporter = "operator", .count = 1};
static const struct cli_opt report_opts[] = {
    {"reporter", 0, CLI_TEXT, "NAME", offsetof(struct opts_report, reporter), 0, 0,
     "who made the calls (default: operator)"},
    {"total-ms", 0, CLI_INT, "N", offsetof(struct opts_report, total_ms), 0, 86400000, "how long a call took"},
    {"status", 0, CLI_INT, "N", offsetof(struct opts_report, status), 0, 999, "HTTP status of the answer"},
    {"retry-after-ms", 0, CLI_INT, "N", offsetof(struct opts_report, retry_after_ms), 0, 86400000,
     "what the answer's Retry-After said"},
    {"count", 'n', CLI_INT, "N", offsetof(struct opts_report, count), 1, 1000000, "so many calls (default: 1)"},
};

static const struct cli_opt show_opts[] = {
    {"json", 'j', CLI_FLAG, NULL, offsetof(struct opts_show, json), 0, 0, "JSON instead of a table"},
};
static const struct cli_opt order_opts[] = {BY_AND_REASON};
static const struct cli_opt force_opts[] = {
    BY_AND_REASON,
    {"for", 0, CLI_DURATION, "TIME", offsetof(struct opts_order, for_ms), 1000, YEAR_MS,
     "how long it holds, as 10m (default: until reset)"},
};

static const struct cli_opt unfreeze_opts[] = {
    BY_AND_REASON,
    {"without-selftest", 0, CLI_FLAG, NULL, offsetof(struct opts_order, without_selftest), 0, 0,
     "a person vouches for it instead; lands in the audit trail"},
};

static const struct cli_opt maintain_opts[] = {
    BY_AND_REASON,
    {"for", 0, CLI_DURATION, "TIME", offsetof(struct opts_order, for_ms), 1000, YEAR_MS,
     "how long, as 30m; required: a maintenance always has an end"},
};

static const struct opts_queue_show queue_show_defaults = {.count = 20};
static const struct cli_opt queue_show_opts[] = {
    {"json", 'j', CLI_FLAG, NULL, offsetof(struct opts_queue_show, json), 0, 0, "JSON instead of a table"},
    {"count", 'n', CLI_INT, "N", offsetof(struct opts_queue_show, count), 1, 10000000, "so many (default: 20)"},
};
static const struct cli_opt drop_opts[] = {
    {"by", 0, CLI_TEXT, "NAME", offsetof(struct opts_drop, by), 0, 0, "who orders it; required"},
    {"reason", 0, CLI_TEXT, "TEXT", offsetof(struct opts_drop, reason), 0, 0, "why; required"},
    {"all", 'a', CLI_FLAG, NULL, offsetof(struct opts_drop, all), 0, 0,
     "all that wait now, instead of one by its KEY"},
};

static const struct cli_opt config_opts[] = {
    {"help-text", 0, CLI_FLAG, NULL, offsetof(struct opts_config, help_text), 0, 0,
     "each setting with its help as a comment"},
};

#endif
