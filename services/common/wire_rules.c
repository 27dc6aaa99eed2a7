/* wire_rules.c - the limits that proto/redoubt/v1 states in its comments, one row per field that has one of its own. */
#include "common/wire_rules.h"
#include "common/subjects.h"
#include "common/wire.h"

/* A number that every language's JSON keeps exactly; an epoch near the end of uint64 could not grow any more. */
#define EPOCH_MAX    ((INT64_C(1) << 53) - 1)
#define TEN_YEARS_MS (INT64_C(10) * 366 * 24 * 3600 * 1000)

#define TEXT(t, f, lo, hi)                                                                                           \
    {                                                                                                                \
        .tag = t, .field = f, .kind = WIRE_TEXT, .min = lo, .max = hi                                                \
    }
#define TOKEN(t, f)                                                                                                  \
    {                                                                                                                \
        .tag = t, .field = f, .kind = WIRE_TOKEN, .min = 1, .max = NAME_MAX_LEN                                      \
    }
#define TOKEN_OR_EMPTY(t, f)                                                                                         \
    {                                                                                                                \
        .tag = t, .field = f, .kind = WIRE_TOKEN, .min = 0, .max = NAME_MAX_LEN                                      \
    }
#define TARGET(t, f)                                                                                                 \
    {                                                                                                                \
        .tag = t, .field = f, .kind = WIRE_TARGET, .min = 1, .max = TARGET_MAX_LEN                                   \
    }
#define TARGET_OR_EMPTY(t, f)                                                                                        \
    {                                                                                                                \
        .tag = t, .field = f, .kind = WIRE_TARGET, .min = 0, .max = TARGET_MAX_LEN                                   \
    }
#define ID(t, f)                                                                                                     \
    {                                                                                                                \
        .tag = t, .field = f, .kind = WIRE_ID, .min = 1, .max = 64                                                   \
    }
#define ID_OR_EMPTY(t, f)                                                                                            \
    {                                                                                                                \
        .tag = t, .field = f, .kind = WIRE_ID, .min = 0, .max = 64                                                   \
    }
#define KEY(t, f)                                                                                                    \
    {                                                                                                                \
        .tag = t, .field = f, .kind = WIRE_KEY, .min = 1, .max = 64                                                  \
    }
#define NUMBER(t, f, lo, hi)                                                                                         \
    {                                                                                                                \
        .tag = t, .field = f, .kind = WIRE_NUMBER, .min = lo, .max = hi                                              \
    }
#define PERCENT(t, f)       NUMBER(t, f, 0, 100)
#define STATUS_CODE(t, f)   NUMBER(t, f, 0, 999)
#define EPOCH(t, f)         NUMBER(t, f, 1, EPOCH_MAX)
#define EPOCH_OR_ZERO(t, f) NUMBER(t, f, 0, EPOCH_MAX)
#define SET(t, f)                                                                                                    \
    {                                                                                                                \
        .tag = t, .field = f, .kind = WIRE_SET                                                                       \
    }
#define PRESENT(t, f)                                                                                                \
    {                                                                                                                \
        .tag = t, .field = f, .kind = WIRE_PRESENT                                                                   \
    }
#define BYTES(t, f, hi)                                                                                              \
    {                                                                                                                \
        .tag = t, .field = f, .kind = WIRE_BYTES, .min = 0, .max = hi                                                \
    }
#define MESSAGES(t, f, lo, hi)                                                                                       \
    {                                                                                                                \
        .tag = t, .field = f, .kind = WIRE_MESSAGE, .count_min = lo, .count_max = hi                                 \
    }
#define TEXTS(t, f, hi, items)                                                                                       \
    {                                                                                                                \
        .tag = t, .field = f, .kind = WIRE_TEXT, .min = 1, .max = hi, .count_max = items                             \
    }
#define TOKENS(t, f, items)                                                                                          \
    {                                                                                                                \
        .tag = t, .field = f, .kind = WIRE_TOKEN, .min = 1, .max = NAME_MAX_LEN, .count_max = items                  \
    }

static const struct wire_rule outcome_report[] = {
    TARGET(1, "target"),           TOKEN(2, "reporter"),          SET(3, "outcome"),
    STATUS_CODE(4, "status_code"), EPOCH_OR_ZERO(9, "permit_id"),
};
static const struct wire_rule outcome_batch[] = {
    MESSAGES(1, "reports", 1, 1000),
};
static const struct wire_rule heartbeat[] = {
    TOKEN(1, "agent"),
    TEXT(2, "instance", 1, 128),
    EPOCH_OR_ZERO(5, "epoch"),
    NUMBER(7, "interval_ms", 100, 600000),
    TARGET_OR_EMPTY(11, "llm_target"),
};
static const struct wire_rule probe_result[] = {
    SET(1, "kind"),
    SET(2, "fault"),
    TEXT(3, "observer", 0, 128),
    STATUS_CODE(7, "status_code"),
    TEXT(8, "detail", 0, 256),
};
static const struct wire_rule health_changed[] = {
    TARGET(1, "target"),
    EPOCH(2, "epoch"),
    SET(3, "state"),
    TEXT(9, "observer", 0, 128),
    MESSAGES(10, "evidence", 0, 20),
    MESSAGES(12, "votes", 0, 32),
    TARGET_OR_EMPTY(13, "suppressed_by"),
};
static const struct wire_rule health_vote[] = {
    TEXT(1, "observer", 1, 128),
    SET(2, "state"),
};
static const struct wire_rule observation[] = {
    TARGET(1, "target"),
    TEXT(2, "observer", 1, 128),
    SET(3, "state"),
    TEXT(6, "detail", 0, 256),
};
static const struct wire_rule health_command[] = {
    TARGET(1, "target"),
    TEXT(2, "by", 0, 128),
    TEXT(3, "reason", 0, 1024),
    NUMBER(4, "duration_ms", 0, TEN_YEARS_MS),
};
static const struct wire_rule breaker_permit[] = {
    EPOCH_OR_ZERO(1, "id"),
    TOKEN_OR_EMPTY(2, "holder"),
};
static const struct wire_rule breaker_changed[] = {
    TARGET(1, "target"),
    EPOCH(2, "epoch"),
    SET(3, "state"),
    PERCENT(10, "ramp_percent"),
    TEXT(14, "forced_by", 0, 128),
    TARGET_OR_EMPTY(17, "scope"),
};
static const struct wire_rule breaker_advice[] = {
    TARGET(1, "target"), TEXT(2, "observer", 1, 128),     EPOCH_OR_ZERO(3, "epoch"),
    SET(5, "reason"),    NUMBER(7, "hold_ms", 1, 600000),
};
static const struct wire_rule traffic_summary[] = {
    TARGET(1, "target"),
    TEXT(2, "observer", 1, 128),
    NUMBER(3, "span_ms", 0, 3600000),
};
static const struct wire_rule decision[] = {
    TOKEN(1, "agent"),
    TEXT(2, "instance", 1, 128),
    TEXT(3, "event_key", 1, 128),
    TEXT(4, "verdict", 0, 64),
    {.tag = 5, .field = "action", .kind = WIRE_KEY, .min = 0, .max = 64},
    TEXT(6, "object", 0, 256),
    SET(7, "outcome"),
    TEXT(8, "detail", 0, 256),
};
static const struct wire_rule decision_batch[] = {
    MESSAGES(1, "decisions", 1, 500),
};
static const struct wire_rule selftest_question[] = {
    TOKEN(1, "agent"),
    ID(2, "id"),
    TEXT(3, "name", 1, 64),
    TEXT(4, "event_json", 1, 16384),
};
static const struct wire_rule selftest_answer[] = {
    ID(1, "id"),
    TEXT(2, "answer_json", 0, 16384),
    TEXT(3, "error", 0, 256),
};
static const struct wire_rule allow_request[] = {
    TARGET(1, "target"),
    TOKEN(2, "holder"),
};
static const struct wire_rule allow_reply[] = {
    EPOCH_OR_ZERO(3, "permit_id"),
    EPOCH_OR_ZERO(5, "epoch"),
};
static const struct wire_rule breaker_command[] = {
    TARGET(1, "target"),
    TEXT(2, "by", 0, 128), /* both asked for by the service, except for `show` */
    TEXT(3, "reason", 0, 1024),
    NUMBER(4, "duration_ms", 0, TEN_YEARS_MS),
};
static const struct wire_rule agent_state[] = {
    TOKEN(1, "agent"),
    EPOCH_OR_ZERO(2, "epoch"),
    SET(3, "posture"),
    NUMBER(4, "llm_index", -1, 1000),
    TARGET_OR_EMPTY(5, "llm_target"),
    TEXT(6, "llm_model", 0, 256),
    PERCENT(8, "ramp_percent"),
    TEXT(10, "frozen_by", 0, 128),
    TEXT(14, "override_key", 0, 128),
    EPOCH_OR_ZERO(15, "acked_epoch"),
    EPOCH_OR_ZERO(18, "revision"),
    EPOCH_OR_ZERO(19, "fence"),
    TARGET_OR_EMPTY(24, "cause"),
    MESSAGES(26, "owed", 0, 32),
    EPOCH_OR_ZERO(28, "verdict_epoch"),
    EPOCH_OR_ZERO(29, "judgement_epoch"),
    PERCENT(32, "load_percent"),
    TARGET_OR_EMPTY(35, "llm_wanted"),
    {.tag = 36, .field = "restarts_unix_ms", .kind = WIRE_NUMBER, .min = 0, .max = INT64_MAX, .count_max = 16},
    TEXT(37, "restart_id", 0, 128),
    EPOCH_OR_ZERO(41, "frozen_epoch"),
    TEXT(44, "drill_by", 0, 128),
    TEXT(45, "rollback_id", 0, 64),
    PERCENT(46, "shed_percent"),
    PERCENT(47, "return_percent"),
};
static const struct wire_rule fence[] = {TOKEN(1, "agent"), EPOCH(2, "epoch"), ID(3, "id")};
static const struct wire_rule fenced[] = {TOKEN(1, "agent"), EPOCH(2, "epoch"), ID(3, "id"),
                                          TEXT(4, "instance", 1, 128)};
static const struct wire_rule monitor_check[] = {TEXT(1, "name", 1, 64), TEXT(3, "detail", 0, 256)};
static const struct wire_rule monitor_report[] = {
    TOKEN(1, "agent"),
    TEXT(2, "instance", 1, 128),
    EPOCH_OR_ZERO(3, "epoch"),
    MESSAGES(4, "checks", 0, 64),
};
static const struct wire_rule directive[] = {
    PRESENT(1, "state"),
    SET(2, "step"),
    TARGET_OR_EMPTY(5, "cause"),
};
static const struct wire_rule directive_ack[] = {
    TOKEN(1, "agent"), TEXT(2, "instance", 0, 128),      EPOCH(3, "epoch"),
    SET(4, "status"),  TARGET_OR_EMPTY(7, "llm_target"),
};
static const struct wire_rule agent_command[] = {
    TOKEN(1, "agent"),
    TEXT(2, "by", 0, 128),
    TEXT(3, "reason", 0, 1024),
    NUMBER(6, "duration_ms", 0, 900000),
};
static const struct wire_rule label[] = {
    KEY(1, "key"),
    TEXT(2, "value", 0, 1024),
};
static const struct wire_rule alert[] = {
    ID(1, "id"),
    TEXT(2, "dedup_key", 1, 255),
    SET(3, "severity"),
    TOKEN_OR_EMPTY(4, "source"),
    TOKEN_OR_EMPTY(5, "agent"),
    TARGET_OR_EMPTY(6, "target"),
    TEXT(8, "summary", 1, 512),
    TEXT(9, "detail", 0, 8192),
    TEXTS(10, "actions_taken", 256, 32),
    MESSAGES(12, "labels", 0, 32),
};
static const struct wire_rule alert_command[] = {
    TOKEN_OR_EMPTY(1, "channel"),
    TEXT(2, "by", 0, 128),
    TEXT(3, "problem", 0, 255),
    TEXT(4, "reason", 0, 1024),
    NUMBER(5, "duration_ms", 0, TEN_YEARS_MS),
    TEXTS(6, "matchers", 512, 16),
    ID_OR_EMPTY(8, "silence"),
    TEXT(11, "after", 0, 64),
};
static const struct wire_rule problem_changed[] = {
    TEXT(1, "id", 32, 32),        EPOCH(2, "revision"),
    PRESENT(3, "alert"),          SET(4, "state"),
    TEXT(10, "acked_by", 0, 128), TEXT(11, "ack_reason", 0, 1024),
    TEXT(13, "muted_by", 0, 128), TEXT(16, "route", 0, 64),
};
static const struct wire_rule silence[] = {
    ID(1, "id"),
    EPOCH(2, "revision"),
    {.tag = 3, .field = "matchers", .kind = WIRE_TEXT, .min = 1, .max = 512, .count_min = 1, .count_max = 16},
    TEXT(4, "by", 1, 128),
    TEXT(5, "reason", 1, 1024),
    TEXT(8, "ended_by", 0, 128),
};
static const struct wire_rule problem_list[] = {MESSAGES(1, "problems", 0, 1000), TEXT(3, "next", 0, 64)};
static const struct wire_rule silence_list[] = {MESSAGES(1, "silences", 0, 1000)};
static const struct wire_rule pulse[] = {
    TOKEN(1, "service"),
    TEXT(2, "instance", 0, 128),
    NUMBER(4, "every_ms", 1, 86400000),
    TEXT(5, "channel", 0, 64),
};
static const struct wire_rule audit_checkpoint[] = {
    TEXT(1, "chain", 32, 32),
    TEXT(2, "instance", 0, 128),
    TEXT(4, "note", 1, 4096),
};
static const struct wire_rule audit_read[] = {TEXT(1, "chain", 32, 32), NUMBER(4, "max_bytes", 0, 45000)};
static const struct wire_rule audit_bytes[] = {
    BYTES(1, "data", 45000),      TEXT(4, "note", 0, 4096),   TEXTS(5, "keys", 512, 64),
    TEXT(6, "public_key", 0, 64), TEXT(7, "pruned", 0, 4096),
};
static const struct wire_rule audit_command[] = {
    TEXT(1, "by", 1, 128),
    TEXT(2, "reason", 0, 1024),
    TEXT(3, "chain", 0, 32),
};
static const struct wire_rule channel_report[] = {
    TOKEN(1, "name"),
    TEXT(2, "kind", 0, 32),
};
static const struct wire_rule alert_report[] = {
    MESSAGES(3, "channels", 0, 64),
    MESSAGES(4, "parcels", 0, 16),
};
static const struct wire_rule delivery_receipt[] = {
    ID(1, "alert_id"), TEXT(2, "dedup_key", 0, 255), TEXT(3, "channel", 0, 64),     TEXT(4, "channel_kind", 0, 32),
    SET(5, "status"),  STATUS_CODE(7, "code"),       TEXTS(12, "refused", 512, 32), TEXT(13, "parcel", 0, 64),
};
static const struct wire_rule audit_record[] = {
    ID(1, "id"),
    NUMBER(3, "at_mono_ns", 0, INT64_MAX),
    TOKEN(4, "service"),
    TEXT(5, "instance", 0, 128),
    SET(6, "audit_class"),
    KEY(7, "action"),
    TEXT(8, "actor", 0, 128),
    TEXT(9, "subject", 0, 256),
    EPOCH_OR_ZERO(11, "epoch"),
    MESSAGES(13, "fields", 0, 32),
};
static const struct wire_rule rollback_changed[] = {
    TOKEN(1, "deployment"),
    TEXT(2, "job_id", 0, 64),
    EPOCH(3, "epoch"),
    SET(4, "phase"),
    TEXT(6, "from_version", 0, 64),
    TEXT(7, "to_version", 0, 64),
    PERCENT(8, "weight_percent"),
    TEXT(11, "started_by", 0, 128),
    NUMBER(28, "from_side", 0, 1),
    PERCENT(33, "weight_wanted"),
    TEXT(34, "snapshot", 0, 128),
    TEXT(37, "current_version", 0, 64),
    MESSAGES(38, "versions", 0, 16),
    MESSAGES(39, "checks", 0, 32),
    MESSAGES(40, "lineage", 0, 32),
    MESSAGES(41, "history", 0, 16),
};
static const struct wire_rule deployed_version[] = {
    TEXT(1, "id", 1, 64), TEXT(2, "name", 1, 128),   TEXT(3, "digest", 0, 128), TEXT(4, "config_hash", 0, 64),
    SET(6, "state"),      TEXT(9, "reason", 0, 512), TEXT(12, "by_job", 0, 64), TEXT(14, "broken", 0, 256),
};
static const struct wire_rule version_record[] = {
    TOKEN(1, "deployment"),   PRESENT(2, "version"),   TEXT(3, "executor", 1, 32),
    TEXT(4, "image", 0, 512), BYTES(5, "spec", 49152), TEXTS(6, "gaps", 256, 32),
};
static const struct wire_rule lineage[] = {
    TEXT(1, "version_id", 1, 64), TEXT(2, "version_name", 0, 128), TEXT(3, "snapshot", 1, 128),
    TEXT(5, "stream", 0, 64),     TEXT(11, "job_id", 0, 64),       TEXT(12, "why", 0, 128),
};
static const struct wire_rule rollback_step[] = {PERCENT(1, "weight_percent")};
static const struct wire_rule rollback_plan[] = {
    MESSAGES(1, "steps", 0, 16),  TEXT(2, "from_version", 0, 64), TEXT(3, "to_version", 0, 64),
    TEXT(4, "from_name", 0, 128), TEXT(5, "to_name", 0, 128),     TEXT(7, "data", 0, 16),
    TEXT(8, "snapshot", 0, 128),  TEXTS(11, "lines", 512, 48),
};
static const struct wire_rule check_result[] = {TEXT(1, "name", 1, 64), SET(2, "check_class"), SET(3, "outcome"),
                                                TEXT(6, "detail", 0, 512), TEXT(16, "former_value", 0, 32)};
static const struct wire_rule rollback_ended[] = {
    TEXT(1, "job_id", 1, 64),  TEXT(2, "from_name", 0, 128),  TEXT(3, "to_name", 0, 128),      SET(4, "phase"),
    TEXT(5, "reason", 0, 512), TEXT(6, "started_by", 0, 128), TEXT(7, "started_why", 0, 1024),
};
static const struct wire_rule work_share[] = {TOKEN(1, "deployment"), EPOCH(2, "epoch"), MESSAGES(4, "shares", 1, 8)};
static const struct wire_rule version_share[] = {TEXT(1, "name", 0, 128), TEXT(2, "id", 0, 64),
                                                 PERCENT(3, "percent")};
static const struct wire_rule work_shared[] = {
    TOKEN(1, "deployment"),
    TEXT(3, "instance", 1, 128),
    TEXT(4, "version", 1, 128),
    PERCENT(5, "percent"),
};
static const struct wire_rule objective_clock[] = {
    KEY(1, "objective"),
    NUMBER(2, "limit_ms", 0, TEN_YEARS_MS),
    NUMBER(3, "elapsed_ms", 0, TEN_YEARS_MS),
    NUMBER(7, "told", 0, 15),
    TOKEN_OR_EMPTY(8, "agent"),
};
static const struct wire_rule incident_changed[] = {
    ID(1, "id"),
    EPOCH(2, "epoch"),
    SET(3, "phase"),
    TOKENS(7, "agents", 1000),
    TEXT(8, "cause", 0, 256),
    MESSAGES(12, "clocks", 0, 32),
    TEXT(13, "key", 0, 128),
    TEXT(14, "owner", 0, 128),
    EPOCH_OR_ZERO(15, "fence"),
    MESSAGES(16, "notes", 0, 48),
    MESSAGES(17, "phases", 0, 32),
    TEXT(24, "gate", 0, 256),
    TEXT(25, "report", 0, 128),
    MESSAGES(28, "kept", 0, 32),
};
static const struct wire_rule incident_signal[] = {SET(1, "kind"), TEXT(2, "subject", 1, 128),
                                                   NUMBER(3, "condition", 0, 255)};
static const struct wire_rule incident_phase_time[] = {SET(1, "phase"), TEXT(4, "left_by", 0, 128),
                                                       TEXT(5, "why", 0, 256)};
static const struct wire_rule incident_note[] = {TEXT(2, "by", 1, 128), TEXT(3, "text", 1, 512), SET(4, "kind")};
static const struct wire_rule incident_line[] = {ID(1, "id"), TEXT(2, "key", 0, 128), SET(3, "phase"),
                                                 TEXT(7, "owner", 0, 128)};
static const struct wire_rule incident_list[] = {MESSAGES(1, "incidents", 0, 200), ID_OR_EMPTY(2, "next")};
static const struct wire_rule objective_status[] = {
    KEY(1, "objective"),
    TEXT(2, "scope", 0, 64),
    NUMBER(3, "target_ms", 0, TEN_YEARS_MS),
    NUMBER(4, "estimate_ms", 0, TEN_YEARS_MS),
    NUMBER(6, "demonstrated_ms", 0, TEN_YEARS_MS),
    TEXT(9, "demonstrated_by", 0, 128),
    SET(11, "verdict"),
    TEXT(12, "why", 0, 256),
    ID_OR_EMPTY(14, "running_incident"),
};
static const struct wire_rule demonstrations[] = {KEY(1, "objective"), TEXT(2, "scope", 0, 64),
                                                  MESSAGES(3, "shown", 0, 5)};
static const struct wire_rule demonstration[] = {NUMBER(2, "took_ms", 0, TEN_YEARS_MS), TEXT(3, "by", 0, 128)};
static const struct wire_rule backup_state[] = {
    TOKEN(1, "source"),
    SET(2, "kind"),
    TOKEN_OR_EMPTY(3, "agent"),
    EPOCH(4, "revision"),
    TEXT(6, "verified_snapshot", 0, 128),
    TEXT(8, "snapshot", 0, 128),
    TEXT(18, "error", 0, 512),
    EPOCH_OR_ZERO(25, "fence"),
};
static const struct wire_rule availability_state[] = {
    TOKEN(1, "agent"),
    EPOCH(2, "revision"),
    EPOCH_OR_ZERO(3, "fence"),
    NUMBER(5, "condition", 0, 7),
    MESSAGES(7, "months", 0, 14),
};
static const struct wire_rule availability_month[] = {NUMBER(1, "month", 0, 999912)};
static const struct wire_rule availability_report[] = {MESSAGES(2, "agents", 0, 500), TOKEN_OR_EMPTY(3, "next")};
static const struct wire_rule availability_line[] = {TOKEN(1, "agent"), PRESENT(2, "figures")};
static const struct wire_rule continuity_time[] = {TEXT(2, "boot_id", 0, 64), TEXT(5, "instance", 0, 128),
                                                   EPOCH_OR_ZERO(6, "fence")};
static const struct wire_rule config_state[] = {TEXT(1, "commit", 0, 64), TEXT(2, "sha256", 0, 64),
                                                TEXT(3, "by", 0, 128), EPOCH_OR_ZERO(8, "fence")};
static const struct wire_rule config_commit[] = {TEXT(1, "commit", 1, 64), TEXT(3, "by", 0, 128),
                                                 TEXT(5, "sha256", 0, 64)};
static const struct wire_rule config_history[] = {MESSAGES(1, "commits", 0, 100), TEXT(2, "next", 0, 64)};
static const struct wire_rule config_diff[] = {TEXT(1, "text", 0, 45000)};
static const struct wire_rule drill_state[] = {TOKEN(1, "name"), TEXT(7, "result", 0, 512),
                                               EPOCH_OR_ZERO(10, "fence")};
static const struct wire_rule continuity_command[] = {
    TEXT(1, "by", 0, 128),     TEXT(2, "reason", 0, 1024), ID_OR_EMPTY(3, "incident"),
    TEXT(4, "owner", 0, 128),  TOKEN_OR_EMPTY(9, "agent"), TEXT(10, "name", 0, 64),
    TEXT(11, "after", 0, 64),  TEXT(13, "from", 0, 64),    TEXT(14, "to", 0, 64),
    TEXT(15, "sha256", 0, 64), BYTES(18, "data", 45000),   NUMBER(21, "month", 0, 999912),
};
static const struct wire_rule continuity_status[] = {
    MESSAGES(1, "objectives", 0, 100), MESSAGES(6, "backups", 0, 64), MESSAGES(8, "drills", 0, 32),
    TEXT(9, "leader", 0, 128),         MESSAGES(12, "worst", 0, 10),
};
static const struct wire_rule action_request[] = {
    TOKEN(1, "agent"),
    EPOCH_OR_ZERO(2, "epoch"),
    TEXT(3, "idempotency_key", 1, 128),
    KEY(4, "action"),
    MESSAGES(5, "parameters", 0, 64),
    NUMBER(6, "priority", 0, 9),
    TEXT(9, "instance", 0, 128),
};
static const struct wire_rule action_reply[] = {
    TEXT(1, "idempotency_key", 0, 128),
    SET(2, "decision"),
    STATUS_CODE(5, "status_code"),
};
static const struct wire_rule queued_action[] = {
    PRESENT(1, "request"),
    TEXT(3, "guard", 0, 128),
};
static const struct wire_rule guard_command[] = {
    TOKEN_OR_EMPTY(1, "agent"), TEXT(2, "idempotency_key", 0, 128), TEXT(3, "by", 0, 128),
    TEXT(4, "reason", 0, 1024), EPOCH_OR_ZERO(5, "from_sequence"),  NUMBER(6, "limit", 0, 50),
};
static const struct wire_rule queue_of_agent[] = {TOKEN(1, "agent"), TEXT(5, "state", 0, 256)};
static const struct wire_rule queue_report[] = {MESSAGES(1, "agents", 0, 500)};
static const struct wire_rule queue_entry[] = {PRESENT(2, "action")};
static const struct wire_rule queue_listing[] = {MESSAGES(1, "entries", 0, 50)};
static const struct wire_rule baseline_report[] = {
    TEXT(2, "version", 0, 64),
    TEXT(3, "sha256", 0, 64),
    TEXT(4, "signed_off_by", 0, 128),
};
static const struct wire_rule rollback_command[] = {
    TOKEN(1, "deployment"),   TEXT(2, "by", 0, 128),         TEXT(3, "reason", 0, 1024),
    ID_OR_EMPTY(4, "job_id"), TEXT(5, "to_version", 0, 128), TEXT(8, "restore_snapshot", 0, 128),
};
static const struct wire_rule audit_batch[] = {MESSAGES(1, "records", 1, 100)};
static const struct wire_rule command_reply[] = {
    SET(1, "status"),
    EPOCH_OR_ZERO(3, "epoch"),
    BYTES(4, "payload", MESSAGE_MAX),
};
static const struct wire_rule dead_letter[] = {
    TEXT(1, "stream", 1, 64),   TEXT(2, "subject", 1, SUBJECT_MAX_LEN),
    TEXT(5, "service", 0, 64),  MESSAGES(8, "headers", 0, 64),
    BYTES(9, "payload", 49152),
};

#define ROWS(name)                                                                                                   \
    {                                                                                                                \
        .desc = PB_DESC(name), .rows = name, .n = sizeof name / sizeof name[0]                                       \
    }
/* Most frequent first: the search is linear. */
const struct wire_rules wire_rules[] = {
    ROWS(outcome_report),
    ROWS(outcome_batch),
    ROWS(heartbeat),
    {.desc = PB_DESC(resource_usage)},
    ROWS(allow_request),
    ROWS(allow_reply),
    ROWS(label),
    ROWS(audit_record),
    ROWS(breaker_changed),
    {.desc = PB_DESC(breaker_totals)},
    ROWS(breaker_permit),
    ROWS(health_changed),
    ROWS(probe_result),
    ROWS(agent_state),
    {.desc = PB_DESC(owed_notice)},
    ROWS(directive),
    ROWS(directive_ack),
    ROWS(alert),
    ROWS(delivery_receipt),
    ROWS(alert_command),
    ROWS(alert_report),
    ROWS(channel_report),
    ROWS(action_request),
    ROWS(action_reply),
    ROWS(breaker_command),
    ROWS(health_command),
    ROWS(agent_command),
    ROWS(command_reply),
    ROWS(dead_letter),
    ROWS(rollback_changed),
    ROWS(incident_changed),
    ROWS(objective_clock),
    ROWS(incident_phase_time),
    ROWS(incident_signal),
    ROWS(incident_note),
    ROWS(incident_line),
    ROWS(incident_list),
    ROWS(objective_status),
    ROWS(demonstrations),
    ROWS(demonstration),
    ROWS(backup_state),
    ROWS(availability_state),
    ROWS(availability_month),
    ROWS(availability_report),
    ROWS(availability_line),
    ROWS(continuity_time),
    ROWS(config_state),
    ROWS(config_commit),
    ROWS(config_history),
    ROWS(config_diff),
    ROWS(drill_state),
    ROWS(continuity_command),
    ROWS(continuity_status),
    ROWS(decision),
    ROWS(decision_batch),
    ROWS(observation),
    ROWS(health_vote),
    ROWS(traffic_summary),
    ROWS(breaker_advice),
    ROWS(selftest_question),
    ROWS(selftest_answer),
    ROWS(fence),
    ROWS(fenced),
    ROWS(monitor_report),
    ROWS(monitor_check),
    ROWS(queued_action),
    ROWS(guard_command),
    ROWS(queue_report),
    ROWS(queue_of_agent),
    ROWS(queue_listing),
    ROWS(queue_entry),
    ROWS(baseline_report),
    ROWS(rollback_command),
    ROWS(deployed_version),
    ROWS(version_record),
    ROWS(lineage),
    ROWS(rollback_step),
    ROWS(rollback_plan),
    ROWS(check_result),
    ROWS(rollback_ended),
    ROWS(work_share),
    ROWS(version_share),
    ROWS(work_shared),
    ROWS(audit_batch),
    ROWS(problem_changed),
    ROWS(silence),
    ROWS(problem_list),
    ROWS(silence_list),
    ROWS(pulse),
    ROWS(audit_checkpoint),
    ROWS(audit_read),
    ROWS(audit_bytes),
    ROWS(audit_command),
};
const size_t wire_rules_n = sizeof wire_rules / sizeof wire_rules[0];
