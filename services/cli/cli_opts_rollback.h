/* cli_opts_rollback.h - the options of `redoubt rollback`, for the rows of cli_rows.c alone. */
#ifndef REDOUBT_CLI_OPTS_ROLLBACK_H
#define REDOUBT_CLI_OPTS_ROLLBACK_H

#include "cli/cli_opts.h"

#define RB_TEXT(name, arg, field, help)                                                                              \
    {                                                                                                                \
        name, 0, CLI_TEXT, arg, offsetof(struct opts_rollback, field), 0, 0, help                                    \
    }
#define RB_FLAG(name, letter, field, help)                                                                           \
    {                                                                                                                \
        name, letter, CLI_FLAG, NULL, offsetof(struct opts_rollback, field), 0, 0, help                              \
    }
#define RB_BY_AND_REASON                                                                                             \
    RB_TEXT("by", "NAME", by, "who orders it; required"), RB_TEXT("reason", "TEXT", reason, "why; required")
#define RB_JSON RB_FLAG("json", 'j', json, "JSON instead of text")
/* What the target and its data are to be. */
#define RB_TARGET                                                                                                    \
    RB_TEXT("to", "VERSION", to, "name or id (default: the last verified version besides the current)"),             \
        RB_FLAG("emergency", 0, emergency, "all traffic at once, as soon as the target can carry it"),               \
        RB_FLAG("force", 0, force,                                                                                   \
                "also a version below the floor, rejected, not verified, or with\ngaps; the reason must say why"),   \
        RB_TEXT("restore", "SNAPSHOT", restore,                                                                      \
                "put these learning data back before the target starts; `lineage` =\nthe last that the target had"), \
        RB_FLAG("tainted", 0, tainted,                                                                               \
                "the learning data are not to be trusted: with --since, restored from\nbefore"),                     \
        RB_TEXT("since", "TIME", since,                                                                              \
                "since when: 2026-01-31T09:05, UTC, or how long ago: 24h; required\nwith --tainted")

static const struct cli_opt rollback_show_opts[] = {RB_JSON};
static const struct cli_opt rollback_plan_opts[] = {RB_TARGET, RB_JSON};
static const struct cli_opt rollback_start_opts[] = {
    RB_BY_AND_REASON,
    RB_TARGET,
    RB_FLAG("dry-run", 'n', dry_run, "print the plan, and do nothing; needs neither --by nor --reason"),
    RB_FLAG("follow", 'f', follow, "follow it to its end, as `redoubt rollback watch` does"),
    RB_TEXT("id", "JOB", id, "the job's id: the same starts one job at most (default: made up)"),
    RB_JSON,
};
static const struct opts_rollback rollback_run_defaults = {
    .hold_limit_ms = 600000, .lost_limit_ms = 600000, .on_hold = "exit"};
static const struct cli_opt rollback_run_opts[] = {
    RB_BY_AND_REASON,
    RB_TARGET,
    RB_TEXT("id", "JOB", id,
            "the job's id: the same starts one job at most (default:\n$REDOUBT_JOB_ID; in a pod of Kubernetes its "
            "name; else made up)"),
    {"hold-limit", 0, CLI_DURATION, "TIME", offsetof(struct opts_rollback, hold_limit_ms), 1000, 30 * DAY_MS,
     "how long it may hold (default: 10m)"},
    RB_TEXT("on-hold", "HOW", on_hold, "what then: exit, and leave it to a person; or abort (default: exit)"),
    {"lost-limit", 0, CLI_DURATION, "TIME", offsetof(struct opts_rollback, lost_limit_ms), 1000, 30 * DAY_MS,
     "how long neither bus nor service need be heard (default: 10m)"},
    RB_JSON,
};
static const struct cli_opt rollback_watch_opts[] = {
    RB_FLAG("no-wait", 0, no_wait, "end, with 1, when it holds"),
    RB_FLAG("lines", 'l', lines, "a line per change, also on a terminal"),
    RB_FLAG("json", 'j', json, "each change as a JSON object, one a line"),
};
static const struct cli_opt rollback_order_opts[] = {
    RB_BY_AND_REASON,
    RB_TEXT("id", "JOB", id, "only if this is the present job"),
    RB_FLAG("follow", 'f', follow, "then follow it, as `redoubt rollback watch` does"),
};
static const struct cli_opt rollback_abort_opts[] = {
    RB_BY_AND_REASON,
    RB_FLAG("emergency", 0, emergency, "in one step, as soon as the former version can carry everything"),
    RB_FLAG("force", 0, force, "end it as it stands; what cannot be put back is left to people"),
    RB_TEXT("id", "JOB", id, "only if this is the present job"),
    RB_FLAG("follow", 'f', follow, "then follow it, as `redoubt rollback watch` does"),
};
static const struct cli_opt rollback_resume_opts[] = {
    RB_BY_AND_REASON,
    RB_FLAG("force", 0, force, "go on although the checks say nothing, or see a regression"),
    RB_TEXT("id", "JOB", id, "only if this is the present job"),
    RB_FLAG("follow", 'f', follow, "then follow it, as `redoubt rollback watch` does"),
};
static const struct opts_rollback rollback_list_defaults = {.count = 16};
static const struct cli_opt rollback_list_opts[] = {
    {"count", 'n', CLI_INT, "N", offsetof(struct opts_rollback, count), 1, 1000, "the newest N only (default: 16)"},
    RB_JSON,
};

#endif
