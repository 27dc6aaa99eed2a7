/* settings_continuity.c - tables of `continuity`: objectives, phases of an incident, backups, drills, history, reports. */
#include "common/settings_impl.h"
#include <string.h>

#define RELOAD true

/* ---- objectives ---- */

const char *const settings_objectives[SET_OBJECTIVES + 1] = {
    [SET_MAD_FULL] = "mad_full",
    [SET_MAD_DEGRADED] = "mad_degraded",
    [SET_MAD_LLM_FALLBACK] = "mad_llm_fallback",
    [SET_RTO_CRITICAL] = "rto_critical",
    [SET_RTO_FULL] = "rto_full",
    [SET_RTO_DATA] = "rto_data",
    [SET_RPO_LEARNING] = "rpo_learning",
    [SET_RPO_AUDIT] = "rpo_audit",
    [SET_RPO_CONFIG] = "rpo_config",
};

#define OBJECTIVE(key_, i, def_, min_, help_)                                                                        \
    {                                                                                                                \
        .key = key_, .type = CONF_DURATION, .offset = offsetof(STRUCT, ms) + (i) * sizeof(int64_t), .def = def_,     \
        .min = min_, .max = 366 * DAY, .reload = RELOAD, .help = help_                                               \
    }
#define STRUCT struct set_objectives
static const struct conf_field objectives_fields[] = {
    OBJECTIVE("mad_full", SET_MAD_FULL, "4h", SECOND,
              "Maximum allowable downtime: an agent has failed wholly (gone, or frozen) and people do its work."),
    OBJECTIVE("mad_degraded", SET_MAD_DEGRADED, "24h", SECOND,
              "The same, in degraded mode: its backend, a part of its resources or its link is away."),
    OBJECTIVE("mad_llm_fallback", SET_MAD_LLM_FALLBACK, "1h", SECOND,
              "The same, on a backup LLM or in security fallback; as long as one override lasts."),
    OBJECTIVE("rto_critical", SET_RTO_CRITICAL, "15m", SECOND,
              "Recovery time of critical functions (threat detection, blocking), validation included."),
    OBJECTIVE("rto_full", SET_RTO_FULL, "2h", SECOND, "Recovery time of all functions, validation included."),
    OBJECTIVE("rto_data", SET_RTO_DATA, "4h", SECOND, "Recovery time of lost or damaged data."),
    OBJECTIVE("rpo_learning", SET_RPO_LEARNING, "1h", SECOND, "Recovery point of the learning data."),
    OBJECTIVE("rpo_audit", SET_RPO_AUDIT, "5m", SECOND, "Recovery point of the audit trail."),
    OBJECTIVE("rpo_config", SET_RPO_CONFIG, "15m", SECOND, "Recovery point of the configuration."),
};
static const struct conf_schema objectives_schema = {"objectives", sizeof(struct set_objectives), objectives_fields,
                                                     N_OF(objectives_fields), NULL};

#undef STRUCT
#define STRUCT struct set_own_objectives
static const struct conf_field own_fields[] = {
    ROW("agents", STRINGS, agents, REQUIRED, 1, 64,
        "Agents by name, `*` and `?` allowed; the first entry that fits counts.", .item = CONF_STRING),
    OBJECTIVE("mad_full", SET_MAD_FULL, "0s", 0, "0 = as in `objectives`; likewise below."),
    OBJECTIVE("mad_degraded", SET_MAD_DEGRADED, "0s", 0, "In degraded mode."),
    OBJECTIVE("mad_llm_fallback", SET_MAD_LLM_FALLBACK, "0s", 0, "On a backup LLM."),
    OBJECTIVE("rto_critical", SET_RTO_CRITICAL, "0s", 0, "Critical functions."),
    OBJECTIVE("rto_full", SET_RTO_FULL, "0s", 0, "All functions."),
    OBJECTIVE("rto_data", SET_RTO_DATA, "0s", 0, "Lost or damaged data."),
    OBJECTIVE("rpo_learning", SET_RPO_LEARNING, "0s", 0, "Learning data."),
    OBJECTIVE("rpo_audit", SET_RPO_AUDIT, "0s", 0, "The trail."),
    OBJECTIVE("rpo_config", SET_RPO_CONFIG, "0s", 0, "The configuration."),
};
static const struct conf_schema own_schema = {"own objectives", sizeof(struct set_own_objectives), own_fields,
                                              N_OF(own_fields), settings_check_own_objectives};

#undef STRUCT
#define STRUCT struct set_function
static const struct conf_field function_fields[] = {
    ROW("name", TOKEN, name, REQUIRED, 0, 0, "As people call it."),
    ROW("critical", BOOL, critical, "false", 0, 0, "Must be back within rto_critical; otherwise rto_full."),
    ROW("lost_in", STRINGS, lost_in, REQUIRED, 1, 3, "Conditions that take it away: full, degraded, llm_fallback.",
        .item = CONF_STRING),
};
static const struct conf_schema function_schema = {"function", sizeof(struct set_function), function_fields,
                                                   N_OF(function_fields), settings_check_function};

/* ---- incidents ---- */

static const char *const severities[] = {"none", "info", "warning", "high", "critical", NULL};
#undef STRUCT
#define STRUCT struct set_phases
static const struct conf_field phases_fields[] = {
    ROW("respond", DURATION, respond_ms, "5m", SECOND, DAY,
        "Until a person was told; then it is overdue, which is an alert."),
    ROW("assess", DURATION, assess_ms, "15m", SECOND, 7 * DAY, "The same until scope and impact are known."),
    ROW("settle", DURATION, settle_ms, "30s", 0, HOUR, "The scope counts as known when nothing joined for so long."),
    ROW("validate", DURATION, validate_ms, "60s", 0, DAY,
        "Everything must stay well for so long before the clocks stop."),
    ROW("learn", DURATION, learn_ms, "7d", MINUTE, 366 * DAY, "Until lessons are written and it is closed."),
    ROW("join_within", DURATION, join_ms, "60s", 0, HOUR,
        "Agents that go so soon after each other are one incident; one target's agents always are."),
    ROW("join_tokens", INT, join_tokens, "2", 1, 8,
        "Targets that are alike in so many parts of their names are one: 2 = `llm.openai` of `llm.openai.gpt-4o`."),
    ROW("closes_itself", ENUM, closes_itself, "warning", 0, 0,
        "Up to this severity an incident is closed by itself when its report is written.", .choices = severities),
};
static const struct conf_schema phases_schema = {"phases", sizeof(struct set_phases), phases_fields,
                                                 N_OF(phases_fields), NULL};

/* ---- backups ---- */

#undef STRUCT
#define STRUCT struct set_repository
static const struct conf_field repository_fields[] = {
    ROW("repository", STRING, repository, "", 1, 0,
        "A restic repository: a directory (better on another host's disk), s3:..., sftp:.... Empty = none."),
    ROW("password_file", STRING, password_file, "", 1, 0, "File with its password. Keep a copy elsewhere."),
    ROW("env", STRINGS, env, "", 0, 16, "NAME=value for restic, as AWS_ACCESS_KEY_ID; values are not shown.",
        .item = CONF_SECRET),
};
static const struct conf_schema repository_schema = {"repository", sizeof(struct set_repository), repository_fields,
                                                     N_OF(repository_fields), NULL};

static const char *const backup_kinds[] = {[SET_BACKUP_LEARNING] = "learning",
                                           [SET_BACKUP_AUDIT] = "audit",
                                           [SET_BACKUP_CONFIG] = "config",
                                           [SET_BACKUP_NATS] = "nats",
                                           [SET_BACKUP_REDIS] = "redis",
                                           [SET_BACKUP_FILES] = "files",
                                           NULL};
#undef STRUCT
#define STRUCT struct set_backup
static const struct conf_field backup_fields[] = {
    ROW("name", TOKEN, name, REQUIRED, 0, 0, "Its name in commands, events and snapshots' tags."),
    ROW("kind", ENUM, kind, REQUIRED, 0, 0,
        "What it is: decides what a good copy means, and which RPO it counts for.", .choices = backup_kinds),
    ROW("agent", TOKEN, agent, "", 0, 0, "Whose data; empty = of no single agent."),
    ROW("deployment", TOKEN, deployment, "", 0, 0,
        "learning: repository and paths are those of this deployment's `data` in `rollback`."),
    ROW("path", STRINGS, path, "", 0, 16,
        "learning, files: directories, as this service sees them. audit: the trail's; none = data_dir/audit.",
        .item = CONF_STRING),
    ROW("to", OBJECT, to, "", 0, 0, "Where; empty = `continuity.repository`.", .schema = &repository_schema),
    ROW("every", DURATION, every_ms, "0s", 0, 30 * DAY,
        "0 = half of the kind's RPO, so that one failed run does not breach it; nats, redis, files: 15m."),
    ROW("keep_last", INT, keep_last, "48", 1, 100000, "Snapshots of this source that are kept; likewise below."),
    ROW("keep_daily", INT, keep_daily, "14", 0, 3660, "One snapshot a day."),
    ROW("keep_weekly", INT, keep_weekly, "8", 0, 520, "One snapshot a week."),
    ROW("keep_monthly", INT, keep_monthly, "12", 0, 1200, "One snapshot a month."),
    ROW("check", DURATION, check_ms, "1d", MINUTE, 30 * DAY, "How often the repository's structure is checked."),
    ROW("read", DURATION, read_ms, "1d", MINUTE, 30 * DAY, "How often a part of it is read back."),
    ROW("read_share", PERCENT, read_percent, "1%", 1, 100, "How large that part is."),
    ROW("test", DURATION, test_ms, "7d", MINUTE, 366 * DAY,
        "How often the newest snapshot is restored into a scratch directory, compared and timed."),
    ROW("late", DURATION, late_ms, "0s", 0, 60 * DAY, "No new copy for so long is an alert; 0 = twice `every`."),
    ROW("shrunk", PERCENT, shrunk_percent, "50%", 0, 100, "Less than this share of the copy before is an alert."),
    ROW("min_bytes", SIZE, min_bytes, "1", 0, INT64_MAX, "Less than this is an empty copy, and an alert."),
    ROW("timeout", DURATION, timeout_ms, "30m", SECOND, DAY, "Of one run of restic."),
};
static const struct conf_schema backup_schema = {"backup", sizeof(struct set_backup), backup_fields,
                                                 N_OF(backup_fields), settings_check_backup};

bool settings_backup_same(const struct set_backup *a, const struct set_backup *b)
{
    return conf_same(&backup_schema, a, b);
}

struct set_backup *settings_backup_copy(const struct set_backup *b)
{
    return conf_copy(&backup_schema, b);
}

void settings_backup_free(struct set_backup *b)
{
    for (size_t i = 0; b && i < b->to.env.n; i++)
        explicit_bzero(*CONF_AT(b->to.env, char *, i), strlen(*CONF_AT(b->to.env, char *, i)));
    if (b)
        conf_free(&backup_schema, b);
}

/* ---- drills ---- */

const char *const settings_drills[] = {"llm-outage", "backend-outage", "logic-error", "resource-exhaustion",
                                       "partition",  "agent-loss",     NULL};
#undef STRUCT
#define STRUCT struct set_drill
static const struct conf_field drill_fields[] = {
    ROW("name", TOKEN, name, REQUIRED, 0, 0, "Its name in commands and events."),
    ROW("drill", ENUM, drill, REQUIRED, 0, 0, "The story of `redoubt drill`.", .choices = settings_drills),
    ROW("agent", TOKEN, agent, "", 0, 0, "Played live, with this agent; empty = on a stack of its own."),
    ROW("every", DURATION, every_ms, "7d", MINUTE, 366 * DAY, "How often."),
    ROW("at", STRING, at, "", 1, 16, "When, UTC: `Sat 03:00` or `03:00`; empty = `every` after the last one."),
    ROW("limit", DURATION, limit_ms, "10m", SECOND, DAY, "It is ended after this."),
};
static const struct conf_schema drill_schema = {"drill", sizeof(struct set_drill), drill_fields, N_OF(drill_fields),
                                                settings_check_drill};

/* ---- history and reports ---- */

#undef STRUCT
#define STRUCT struct set_config_history
static const struct conf_field config_fields[] = {
    ROW("dir", STRING, dir, "", 1, 400,
        "Git repository of accepted configurations; empty = data_dir/continuity/config."),
    ROW("file", STRING, file, "", 1, 400,
        "The file that is watched and written; empty = the one that this service reads."),
    ROW("look", DURATION, look_ms, "5s", 100, HOUR, "How often changes that were made by hand are looked for."),
};
static const struct conf_schema config_schema = {"config", sizeof(struct set_config_history), config_fields,
                                                 N_OF(config_fields), NULL};
#undef STRUCT
#define STRUCT struct set_reports
static const struct conf_field reports_fields[] = {
    ROW("dir", STRING, dir, "", 1, 400, "Where reports are written; empty = data_dir/continuity/reports."),
    ROW("trail", STRINGS, trail, "", 0, 16,
        "Directories of audit trails for the timeline and its proofs; none = data_dir/audit.", .item = CONF_STRING),
    ROW("monthly", BOOL, monthly, "true", 0, 0, "An availability report of each month, when it is over."),
    ROW("keep_closed", DURATION, keep_closed_ms, "90d", HOUR, 3660 * DAY,
        "Closed incidents stay in the list for so long."),
};
static const struct conf_schema reports_schema = {"reports", sizeof(struct set_reports), reports_fields,
                                                  N_OF(reports_fields), NULL};

#undef STRUCT
#define STRUCT struct set_continuity
static const struct conf_field continuity_fields[] = {
    ROW("objectives", OBJECT, objectives, "", 0, 0, "How long things may take, and how much may be lost.",
        .schema = &objectives_schema),
    ROW("own", LIST, own, "", 0, 1000, "Other objectives for some agents.", .schema = &own_schema),
    ROW("functions", LIST, functions, "", 0, 32,
        "What agents do. None = threat_detection (critical; lost in full), blocking (critical; full, degraded), "
        "learning and "
        "orchestration (all three).",
        .schema = &function_schema),
    ROW("phases", OBJECT, phases, "", 0, 0, "Respond, assess, recover, validate, learn.", .schema = &phases_schema),
    ROW("repository", OBJECT, repository, "", 0, 0, "Where copies go that say nothing else.",
        .schema = &repository_schema),
    ROW("backups", LIST, backups, "", 0, 64, "What is copied.", .schema = &backup_schema),
    ROW("drills", LIST, drills, "", 0, 32, "Game days.", .schema = &drill_schema),
    ROW("config", OBJECT, config, "", 0, 0, "The history of the configuration.", .schema = &config_schema),
    ROW("reports", OBJECT, reports, "", 0, 0, "What is written at the end of an incident, and of a month.",
        .schema = &reports_schema),
    ROW("expire", DURATION, expire_ms, "30d", HOUR, 3660 * DAY,
        "What was demonstrated longer ago does not count any more."),
    ROW("lease_ttl", DURATION, lease_ttl_ms, "3s", 300, MINUTE, "A leader that is gone is replaced after this time."),
};
const struct conf_schema settings_continuity_schema = {"continuity", sizeof(struct set_continuity), continuity_fields,
                                                       N_OF(continuity_fields), settings_check_continuity};
