/* cli_rows.c - the commands, one row each: what they are called, what they take, what their help says. */
#include "cli/cli.h"
#include "cli/cli_opts.h"
#include "cli/cli_opts_alert.h"
#include "cli/cli_opts_audit.h"
#include "cli/cli_opts_baseline.h"
#include "cli/cli_opts_continuity.h"
#include "cli/cli_opts_drill.h"
#include "cli/cli_opts_recover.h"
#include "cli/cli_opts_rollback.h"
#include "cli/cli_opts_sim.h"
#include "cli/cli_rows_config.h"
#include "cli/cli_rows_continuity.h"
#include "cli/cmd.h"
#include "cli/sim.h"

#define COUNT(a)         (sizeof(a) / sizeof((a)[0]))
/* The options of a row, their number, and the struct that they fill. */
#define OPTS(rows, type) .opts = rows, .n_opts = COUNT(rows), .opts_size = sizeof(struct type)

static const struct cli_opt status_opts[] = {
    {"watch", 'w', CLI_FLAG, NULL, offsetof(struct opts_status, watch), 0, 0, "stay, and draw again at each change"},
    {"json", 'j', CLI_FLAG, NULL, offsetof(struct opts_status, json), 0, 0,
     "one JSON object (with --watch: one a line) instead of tables"},
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

/* Without --live each of them plays on a private stack and connects to nothing else. */
#define DRILL(name, summary_, text_)                                                                                 \
    {                                                                                                                \
        .path = "drill " name, .summary = summary_,                                                                  \
        .text =                                                                                                      \
            text_ "\nSucceeds only if every step happened. Nothing stays behind, however it ends, unless --keep is " \
                  "given.",                                                                                          \
        .connects = true, .answer_ms = 10000, .run = cmd_drill, OPTS(drill_opts, opts_drill)                         \
    }

/* Orders to the rollback that is under way. */
#define ROLLBACK(name, summary_, opts_)                                                                              \
    {                                                                                                                \
        .path = "rollback " name, .args = "DEPLOYMENT", .min_args = 1, .max_args = 1, .summary = summary_,           \
        .connects = true, .answer_ms = 20000, .run = cmd_rollback_order, OPTS(opts_, opts_rollback)                  \
    }

#define AUDIT_DIRS                                                                                                   \
    "DIR is a trail's directory, or DIR:DIR2 if it went on in another (audit.second_dir); without any: all below "   \
    "the\n"                                                                                                          \
    "settings' data_dir, with those that were set aside. Reads files only. Each trail is checked from its first "    \
    "byte to\n"                                                                                                      \
    "its last: one that is not whole is said first, and the exit code is 1; what it holds is shown all the same."
const struct cli_row cli_rows[] = {
    {.path = "status",
     .summary = "what lives, what is healthy, where each agent stands; fails if anything is not normal",
     .text = "Services are those that answer $SRV.STATS on the bus; targets and agents come from the stream of "
             "states, and\n"
             "from the settings, if a settings file is used. ADMITS is the share of calls that a breaker lets pass.",
     .connects = true,
     .run = cmd_status,
     OPTS(status_opts, opts_status)},
    {.path = "tail",
     .args = "[SUBJECT]",
     .max_args = 1,
     .summary = "events as they happen, decoded, one a line",
     .text = "SUBJECT is one of the suite's (redoubt.v1.breaker.llm.openai.gpt-4o), the same without its head\n"
             "(breaker.llm.openai.gpt-4o), one word for all of a kind (breaker, health, directive, ack, alert, "
             "delivery,\n"
             "problem, silence, pulse, checkpoint, rollback, version, share, shared, incident, continuity, audit,\n"
             "report, heartbeat, observation, traffic, advice, decision, cmd, dead), or a pattern of NATS\n"
             "('redoubt.v1.*.llm.>'). Without it: everything but heartbeats, reports, observations, traffic, "
             "decisions,\nand what continuity says each minute.",
     .connects = true,
     .run = cmd_tail,
     OPTS(tail_opts, opts_tail)},
    {.path = "report",
     .args = "TARGET OUTCOME",
     .min_args = 2,
     .max_args = 2,
     .summary = "say how calls to a target ended, as an agent would",
     .text = "OUTCOME: success, error, timeout, rate-limited, overloaded, unreachable, running or ignored.",
     .connects = true,
     .run = cmd_report,
     .defaults = &report_defaults,
     OPTS(report_opts, opts_report)},

    {.path = "health", .summary = "look at what is watched, or take it out for a time"},
    {.path = "health show",
     .args = "[TARGET]",
     .max_args = 1,
     .summary = "the verdict on one target with votes and evidence, or all verdicts",
     .text = "TARGET may also be an agent (agent.NAME) or the link of a replica of health (link.REPLICA).",
     .connects = true,
     .run = cmd_health_show,
     OPTS(show_opts, opts_show)},
    {.path = "health maintain",
     .args = "TARGET",
     .min_args = 1,
     .max_args = 1,
     .summary = "take it out for a time: no verdict, no alert",
     .text = "Probes go on. It ends by itself; `redoubt health resume` ends it before.",
     .connects = true,
     .run = cmd_health_order,
     OPTS(maintain_opts, opts_order)},
    {.path = "health resume",
     .args = "TARGET",
     .min_args = 1,
     .max_args = 1,
     .summary = "end a maintenance before its time",
     .connects = true,
     .run = cmd_health_order,
     OPTS(order_opts, opts_order)},
    {.path = "health probe",
     .args = "TARGET",
     .min_args = 1,
     .max_args = 1,
     .summary = "have it probed at once",
     .connects = true,
     .run = cmd_health_probe},

    {.path = "breaker", .summary = "look at a target's circuit breaker, or take it over"},
    {.path = "breaker show",
     .args = "[TARGET]",
     .max_args = 1,
     .summary = "state and counts of one breaker, or all of them",
     .connects = true,
     .run = cmd_breaker_show,
     OPTS(show_opts, opts_show)},
    {.path = "breaker open",
     .args = "TARGET",
     .min_args = 1,
     .max_args = 1,
     .summary = "force it open: no call passes",
     .connects = true,
     .run = cmd_breaker_order,
     OPTS(force_opts, opts_order)},
    {.path = "breaker close",
     .args = "TARGET",
     .min_args = 1,
     .max_args = 1,
     .summary = "force it closed: every call passes, whatever is reported",
     .connects = true,
     .run = cmd_breaker_order,
     OPTS(force_opts, opts_order)},
    {.path = "breaker metrics",
     .args = "TARGET",
     .min_args = 1,
     .max_args = 1,
     .summary = "let it count, but never open",
     .connects = true,
     .run = cmd_breaker_order,
     OPTS(force_opts, opts_order)},
    {.path = "breaker reset",
     .args = "TARGET",
     .min_args = 1,
     .max_args = 1,
     .summary = "give it back to its own judgement",
     .connects = true,
     .run = cmd_breaker_order,
     OPTS(order_opts, opts_order)},

    {.path = "freeze",
     .args = "AGENT",
     .min_args = 1,
     .max_args = 1,
     .summary = "stop an agent's automated actions until a person unfreezes it",
     .text = "Answers when every guard has confirmed that no action from before is under way any more.",
     .connects = true,
     .answer_ms = 20000,
     .run = cmd_agent_order,
     OPTS(order_opts, opts_order)},
    {.path = "unfreeze",
     .args = "AGENT",
     .min_args = 1,
     .max_args = 1,
     .summary = "let a frozen agent act again, after a self-test that it passes",
     .text =
         "The agent is asked every question of its settings (`selftest.questions`); one wrong answer, and it stays "
         "frozen.",
     .connects = true,
     .answer_ms = 600000,
     .run = cmd_agent_order,
     OPTS(unfreeze_opts, opts_order)},
    {.path = "agent", .summary = "look at an agent's position"},
    {.path = "agent show",
     .args = "[AGENT]",
     .max_args = 1,
     .summary = "posture, LLM, backend, override of one agent, or all of them",
     .connects = true,
     .run = cmd_agent_show,
     OPTS(show_opts, opts_show)},

    {.path = "queue", .summary = "look at the actions that wait for their backend, drop or release them"},
    {.path = "queue list",
     .args = "[AGENT]",
     .max_args = 1,
     .summary = "how many wait of each agent, since when, and what for",
     .connects = true,
     .answer_ms = 20000,
     .run = cmd_queue_list,
     OPTS(show_opts, opts_show)},
    {.path = "queue show",
     .args = "AGENT",
     .min_args = 1,
     .max_args = 1,
     .summary = "the actions of one agent that wait, in order",
     .connects = true,
     .answer_ms = 20000,
     .run = cmd_queue_show,
     .defaults = &queue_show_defaults,
     OPTS(queue_show_opts, opts_queue_show)},
    {.path = "queue drop",
     .args = "AGENT [KEY]",
     .min_args = 1,
     .max_args = 2,
     .summary = "take one action out, by its idempotency key, or all of an agent's: never executed",
     .text = "What is being executed at this very moment may still be.",
     .connects = true,
     .answer_ms = 120000,
     .run = cmd_queue_drop,
     OPTS(drop_opts, opts_drop)},
    {.path = "queue release",
     .args = "AGENT",
     .min_args = 1,
     .max_args = 1,
     .summary = "let the actions be replayed that an agent asked for before it was frozen",
     .connects = true,
     .run = cmd_queue_release,
     OPTS(order_opts, opts_order)},

    {.path = "baseline", .summary = "the security baseline: what agents may do at all, and who signed it off"},
    {.path = "baseline check",
     .args = "[FILE]",
     .max_args = 1,
     .summary = "say all that is wrong with it, and whether its sign-off fits",
     .text = "FILE defaults to baseline.path of the settings, and the key to theirs. Exit code 4 if the guard would "
             "not trust it.",
     .connects = true,
     .run = cmd_baseline_check,
     OPTS(baseline_check_opts, opts_baseline)},
    {.path = "baseline show",
     .args = "[FILE]",
     .max_args = 1,
     .summary = "the whole with every default",
     .text = "FILE defaults to baseline.path of the settings.",
     .connects = true,
     .run = cmd_baseline_show,
     OPTS(baseline_show_opts, opts_baseline)},
    {.path = "baseline sign",
     .args = "FILE",
     .min_args = 1,
     .max_args = 1,
     .summary = "sign it off: writes FILE.signoff, if FILE is right in every line",
     .run = cmd_baseline_sign,
     OPTS(baseline_sign_opts, opts_baseline)},
    {.path = "baseline keygen",
     .args = "FILE",
     .min_args = 1,
     .max_args = 1,
     .summary = "make a key to sign with: the secret to FILE, the public one to the terminal",
     .text = "The public key belongs in the settings: baseline.public_key. FILE must not exist.",
     .run = cmd_baseline_keygen},
    {.path = "baseline status",
     .summary = "which one the guard goes by at the moment",
     .connects = true,
     .run = cmd_baseline_status,
     OPTS(baseline_status_opts, opts_baseline)},
    {.path = "config", .summary = "check a settings file, show what it comes to; its versions, apply, rollback"},
    {.path = "config check",
     .args = "[FILE]",
     .max_args = 1,
     .summary = "say all that is wrong with it, with line and key",
     .text = "FILE defaults to $REDOUBT_CONFIG, then /etc/redoubt/redoubt.yaml; - is stdin.",
     .run = cmd_config_check,
     OPTS(config_check_opts, opts_config)},
    {.path = "config show",
     .args = "[FILE]",
     .max_args = 1,
     .summary = "the whole with every default, secrets as ***",
     .text = "FILE defaults to $REDOUBT_CONFIG, then /etc/redoubt/redoubt.yaml; - is stdin.",
     .run = cmd_config_show,
     OPTS(config_opts, opts_config)},
    CONFIG_ROWS,

    {.path = "audit", .summary = "verify the trail, look into it, prove what is in it, copy it"},
    {.path = "audit verify",
     .args = "DIR [DIR2]",
     .min_args = 1,
     .max_args = 2,
     .summary = "check a trail from the first byte to the last: flips, gaps, reordering, truncation",
     .text =
         "DIR is a replica's directory, <data_dir>/audit/0; DIR2 where it went on (audit.second_dir), if it did.\n"
         "Reads files only: neither bus nor service is needed, but for --bus. With -c, says which of audit.witnesses "
         "have seen it.",
     .connects = true,
     .run = cmd_audit_verify,
     OPTS(verify_opts, opts_verify)},
    {.path = "audit tail",
     .args = "[SERVICE]",
     .max_args = 1,
     .summary = "audit records as they are written, of one service or all",
     .connects = true,
     .run = cmd_audit_tail,
     OPTS(audit_tail_opts, opts_tail)},

    {.path = "audit search",
     .args = "[DIR...]",
     .max_args = 64,
     .summary = "records of the trails that fit, by time",
     .text = AUDIT_DIRS,
     .run = cmd_audit_search,
     OPTS(search_opts, opts_audit_query)},
    {.path = "audit export",
     .args = "[DIR...]",
     .max_args = 64,
     .summary = "the same as JSON or CSV, each record with its evidence: chain, sequence, hash, file",
     .text = AUDIT_DIRS,
     .run = cmd_audit_export,
     .defaults = &export_defaults,
     OPTS(export_opts, opts_audit_query)},
    {.path = "audit who",
     .args = "VERB [DIR...]",
     .min_args = 1,
     .max_args = 65,
     .summary = "who froze, overrode, silenced, ...: when, on what, why, how it ended, with the evidence",
     .text = "VERB: froze, unfroze, overrode, forced (breakers), maintained, silenced, acknowledged, dropped, "
             "restarted,\n"
             "rolled-back, drilled, rotated; incidents: declared, noted, assigned, advanced, closed; configured, "
             "backed-up.\nThe record of what was meant and that of what came of it are one "
             "act: `intended`\nalone has not ended (a rollback: is under way).\n" AUDIT_DIRS,
     .run = cmd_audit_who,
     .defaults = &who_defaults,
     OPTS(who_opts, opts_audit_query)},
    {.path = "audit proof",
     .args = "[ID|SEQUENCE [DIR...]]",
     .max_args = 65,
     .summary = "prove that a record is in a trail, to somebody who has not got it; or check such a proof",
     .text = "Prints one JSON object, complete in itself. " AUDIT_DIRS,
     .run = cmd_audit_proof,
     OPTS(proof_opts, opts_proof)},
    {.path = "audit follow",
     .summary = "keep verified copies of the trails on this host, and sign for what was seen",
     .text = "Each trail's copy is DIR/<chain>: `redoubt audit verify` takes it. Nothing is kept that does not "
             "verify. A trail that went\n"
             "back, was rewritten, or is another's in its name is refused: that ends with 1, and both checkpoints "
             "are kept as evidence.",
     .connects = true,
     .run = cmd_audit_follow,
     .defaults = &follow_defaults,
     OPTS(follow_opts, opts_follow)},
    {.path = "audit rotate",
     .summary = "sign the trail with a new key from now on",
     .text = "The change is signed by both keys, so that whoever trusts the old one can follow. With audit.key_file, "
             "put the next key into\n"
             "<key_file>.new first.",
     .connects = true,
     .run = cmd_audit_rotate,
     OPTS(rotate_opts, opts_rotate)},

    {.path = "recover", .summary = "a whole site from its backups, on new machines"},
    {.path = "recover list",
     .summary = "which sources have copies in a repository, and how old the newest is",
     .text = RECOVER_TEXT,
     .run = cmd_recover_list,
     OPTS(recover_list_opts, opts_recover)},
    {.path = "recover run",
     .summary = "restore and verify configuration, trail, learning data, NATS and Redis; print the time of each",
     .text = RECOVER_TEXT
     "Before: empty NATS and Redis servers run, and none of the suite's services. A step that fails says what to do, "
     "and the\n"
     "rest goes on; run it again for what is missing, with --from. Nothing that is there is overwritten; with "
     "--force it "
     "is moved\n"
     "aside (streams and keys: replaced). If the newest copy is bad, the one before is taken, and that is said.",
     .run = cmd_recover_run,
     OPTS(recover_opts, opts_recover)},
    {.path = "state", .summary = "NATS' streams and Redis' keys, saved and restored by hand"},
    {.path = "state save",
     .args = "DIR",
     .min_args = 1,
     .max_args = 1,
     .summary = "save them below DIR: DIR/nats, DIR/redis; the suite may run",
     .connects = true,
     .run = cmd_state_save,
     OPTS(state_save_opts, opts_state)},
    {.path = "state restore",
     .args = "DIR",
     .min_args = 1,
     .max_args = 1,
     .summary = "restore them from below DIR into empty servers; the suite must not run",
     .text = "All files are verified, and what the servers hold is looked at, before anything is changed.",
     .connects = true,
     .run = cmd_state_restore,
     OPTS(state_restore_opts, opts_state)},
    {.path = "state verify",
     .args = "DIR",
     .min_args = 1,
     .max_args = 1,
     .summary = "is what was saved below DIR still what it was; needs no server",
     .run = cmd_state_verify,
     OPTS(state_verify_opts, opts_state)},

    {.path = "alert", .summary = "what is wrong, who was told, who has taken it on; silences; channels"},
    {.path = "alert list",
     .summary = "the problems that are there: alerts with one dedup_key are one problem",
     .text = "TOLD is when people last heard of it; BY is who has acknowledged it, or what mutes it.",
     .connects = true,
     .answer_ms = 20000,
     .run = cmd_alert_list,
     .defaults = &alert_list_defaults,
     OPTS(alert_list_opts, opts_alert_list)},
    {.path = "alert show",
     .args = "PROBLEM",
     .min_args = 1,
     .max_args = 1,
     .summary = "one problem in full, and who was told of it, when and by what",
     .text = "PROBLEM is its dedup_key, as `redoubt alert list` shows it, or its id.",
     .connects = true,
     .answer_ms = 20000,
     .run = cmd_alert_show,
     OPTS(show_opts, opts_show)},
    {.path = "alert ack",
     .args = "PROBLEM",
     .min_args = 1,
     .max_args = 1,
     .summary = "take a problem on: others are not told of it again for a time, unless it becomes worse",
     .text = "If it is still there at the end, people are told again, and its escalation begins anew.",
     .connects = true,
     .answer_ms = 10000,
     .run = cmd_alert_order,
     OPTS(ack_opts, opts_order)},
    {.path = "alert unack",
     .args = "PROBLEM",
     .min_args = 1,
     .max_args = 1,
     .summary = "give a problem back: people are told again",
     .connects = true,
     .answer_ms = 10000,
     .run = cmd_alert_order,
     OPTS(order_opts, opts_order)},
    {.path = "alert silence",
     .args = "MATCHER...",
     .min_args = 1,
     .max_args = 16,
     .summary = "nobody is told, for a time, of alerts that fit all MATCHERs",
     .text =
         "MATCHER: FIELD=VALUE, FIELD!=VALUE, FIELD=~PATTERN, FIELD!~PATTERN, and severity>=VALUE, severity<=VALUE.\n"
         "FIELD: severity, source, agent, target, failure_kind, dedup_key or label.KEY. What is still there at the "
         "end\n"
         "is told then. Alerts are recorded all the same.",
     .connects = true,
     .answer_ms = 20000,
     .run = cmd_alert_silence,
     OPTS(silence_opts, opts_silence)},
    {.path = "alert unsilence",
     .args = "ID",
     .min_args = 1,
     .max_args = 1,
     .summary = "end a silence before its time; what is still there is told",
     .connects = true,
     .answer_ms = 10000,
     .run = cmd_alert_unsilence,
     OPTS(order_opts, opts_order)},
    {.path = "alert silences",
     .summary = "the silences that are in force or will be",
     .connects = true,
     .run = cmd_alert_silences,
     OPTS(show_opts, opts_show)},
    {.path = "alert channels",
     .summary = "how each channel is doing, and how much waits",
     .connects = true,
     .run = cmd_alert_channels,
     OPTS(show_opts, opts_show)},
    {.path = "alert test",
     .args = "CHANNEL",
     .min_args = 1,
     .max_args = 1,
     .summary = "send a test alert by one channel and say whether it was accepted",
     .connects = true,
     .answer_ms = 60000,
     .run = cmd_alert_test,
     OPTS(alert_opts, opts_alert)},

    {.path = "rollback",
     .summary = "go back to an earlier version: by steps, verified, with the learning data safe",
     .text =
         "Without COMMAND: every deployment, what it could go back to, and the command for it. See first: redoubt "
         "rollback\n"
         "plan DEPLOYMENT. A rollback that holds waits for a person: `status` says why, and how to go on.",
     .connects = true,
     .run = cmd_rollback_list,
     OPTS(rollback_show_opts, opts_rollback)},
    {.path = "rollback versions",
     .args = "[DEPLOYMENT]",
     .max_args = 1,
     .summary = "what one could go back to: versions that are known, verified, kept",
     .text = "* = the current one. KEPT: image and snapshots are kept from clean-up.",
     .connects = true,
     .run = cmd_rollback_versions,
     OPTS(rollback_show_opts, opts_rollback)},
    {.path = "rollback plan",
     .args = "DEPLOYMENT",
     .min_args = 1,
     .max_args = 1,
     .summary = "what `start` would do, step by step; changes nothing",
     .connects = true,
     .answer_ms = 60000,
     .run = cmd_rollback_plan,
     OPTS(rollback_plan_opts, opts_rollback)},
    {.path = "rollback start",
     .args = "DEPLOYMENT",
     .min_args = 1,
     .max_args = 1,
     .summary = "begin one; without --to, to the last verified version",
     .connects = true,
     .answer_ms = 60000,
     .run = cmd_rollback_start,
     OPTS(rollback_start_opts, opts_rollback)},
    {.path = "rollback status",
     .args = "[DEPLOYMENT]",
     .max_args = 1,
     .summary = "where a rollback is, what the checks say, how to go on; fails if it holds",
     .connects = true,
     .run = cmd_rollback_status,
     OPTS(rollback_show_opts, opts_rollback)},
    {.path = "rollback watch",
     .args = "DEPLOYMENT",
     .min_args = 1,
     .max_args = 1,
     .summary = "a rollback as it goes on, with its progress and the shares of traffic, until it ends",
     .text = "Ends with 0 if it is DONE, with 1 if it is ABORTED or REFUSED. If none is under way, by the last one.",
     .connects = true,
     .run = cmd_rollback_watch,
     OPTS(rollback_watch_opts, opts_rollback)},
    {.path = "rollback run",
     .args = "DEPLOYMENT",
     .min_args = 1,
     .max_args = 1,
     .summary = "start one and follow it to its end: for Jobs and scripts",
     .text =
         "Begun again with the same id, it follows the job that it has started. Ends with 0 if the rollback is done "
         "and its\n"
         "target is the current version; 1 if it was aborted, refused or held too long; 3 if its end was not seen: "
         "the suite was\n"
         "not heard for too long, or SIGTERM came, which leaves the job going; 4 if the order was refused.",
     .connects = true,
     .answer_ms = 20000,
     .run = cmd_rollback_run,
     .defaults = &rollback_run_defaults,
     OPTS(rollback_run_opts, opts_rollback)},
    ROLLBACK("hold", "stay where it is, at the present shares, until it is resumed", rollback_order_opts),
    ROLLBACK("resume", "go on from a hold", rollback_resume_opts),
    ROLLBACK("abort", "back to the former version, by steps; from wherever it is", rollback_abort_opts),
    ROLLBACK("emergency", "all traffic to the target at once, as soon as it can carry it", rollback_order_opts),
    {.path = "rollback history",
     .args = "DEPLOYMENT",
     .min_args = 1,
     .max_args = 1,
     .summary = "the rollbacks so far: who, why, how they ended",
     .connects = true,
     .run = cmd_rollback_history,
     .defaults = &rollback_list_defaults,
     OPTS(rollback_list_opts, opts_rollback)},
    {.path = "rollback lineage",
     .args = "DEPLOYMENT",
     .min_args = 1,
     .max_args = 1,
     .summary = "the snapshots of the learning data: of which version, up to where in the stream, verified",
     .text = "What was written to STREAM after the position is not in the snapshot.",
     .connects = true,
     .run = cmd_rollback_lineage,
     .defaults = &rollback_list_defaults,
     OPTS(rollback_list_opts, opts_rollback)},

    CONTINUITY_ROWS,

    {.path = "sim", .summary = "stand-ins that speak the real protocols and can be told to fail in every way"},
    {.path = "sim llm", .args = "[OPTIONS]", .summary = "an OpenAI-compatible LLM API", .raw = sim_llm_main},
    {.path = "sim backend",
     .args = "[OPTIONS]",
     .summary = "an MCP-Security backend with the override API",
     .raw = sim_backend_main},
    {.path = "sim worker",
     .args = "[OPTIONS]",
     .summary = "one instance of a deployed agent: works, decides, learns; for rollbacks",
     .raw = sim_worker_main},
    {.path = "sim agent",
     .args = "[AGENT]",
     .max_args = 1,
     .summary = "an MCP-Security agent: calls its LLM, reports, acts, obeys directives",
     .text = "AGENT is one of the settings file, which also says where each LLM is; it may be left out if there is "
             "only one.\n"
             "Prints one JSON line per event: connected, directive, call_failed, call_ok (the first one after a "
             "failure or a\n"
             "re-initialisation), held_back and admitted (by the breaker), action (when they end in another way than "
             "before),\n"
             "actions (sums, each second), monitor, restart_asked, restarted, end. SIGTERM ends it.",
     .connects = true,
     .run = cmd_sim_agent,
     .defaults = &sim_agent_defaults,
     OPTS(sim_agent_opts, opts_sim_agent)},
    {.path = "sim fleet",
     .args = NULL,
     .summary = "many simulated agents in one process, on one connection",
     .text =
         "Each takes its directives (every epoch once), acknowledges them and sends heartbeats, spread over the "
         "interval.\n"
         "Prints a JSON line each second: agents by posture, how many have acknowledged their last directive, and "
         "since the\n"
         "last mark the times from a directive's issue to its acknowledgement on the stream. SIGUSR1: a line at "
         "once, and\n"
         "a new mark. SIGTERM ends it.",
     .connects = true,
     .run = cmd_sim_fleet,
     .defaults = &sim_fleet_defaults,
     OPTS(sim_fleet_opts, opts_sim_fleet)},
    {.path = "sim slack", .args = "[OPTIONS]", .summary = "a Slack incoming webhook", .raw = sim_slack_main},
    {.path = "sim hook",
     .args = "[OPTIONS]",
     .summary = "a signed webhook, PagerDuty, Teams, Discord and ntfy",
     .raw = sim_hook_main},
    {.path = "sim smtp", .args = "[OPTIONS]", .summary = "a mail server", .raw = sim_smtp_main},
    {.path = "sim link",
     .args = "--to ADDRESS:PORT [OPTIONS]",
     .summary = "a network link that can be cut, slow, or swallow everything",
     .raw = sim_link_main},

    {.path = "drill",
     .summary = "play a failure, on a private stack of real parts or on a real suite, and measure it"},
    DRILL("llm-outage", "primary LLM dies, backup dies, both return",
          "Starts nats-server, redis-server, the services, simulators and an agent on free loopback ports in a "
          "private\n"
          "directory below $TMPDIR, kills the LLMs with SIGKILL, and tells what happened when."),
    DRILL("backend-outage", "the backend goes away and comes back; its actions wait",
          "On a private stack as for llm-outage. The agent acts all the time: each action that the guard accepts "
          "must be\n"
          "at the backend in the end, once, and those that waited in order."),
    DRILL("logic-error", "the agent loses its judgement, is frozen, and unfrozen by a person",
          "On a private stack as for llm-outage. Tries what must be refused: actions of an older epoch and of a "
          "frozen\n"
          "agent, and to unfreeze it before its self-test passes."),
    DRILL("resource-exhaustion", "the agent runs out of memory, sheds load, is restarted",
          "On a private stack as for llm-outage. The restart is made by an executor, `redoubt drill restart`."),
    DRILL("partition", "the agent and the suite lose each other, and agree again",
          "On a private stack as for llm-outage, with a link between agent and NATS that swallows everything for a "
          "time."),
    DRILL("agent-loss", "the agent is killed, and comes back by steps",
          "On a private stack as for llm-outage. The alert must name what people do by hand, and the rollback's "
          "command."),
    {.path = "drill all",
     .args = "[DRILL...]",
     .max_args = 6,
     .summary = "the drills one after the other, with one table of their figures",
     .run = cmd_drill_all,
     OPTS(drill_all_opts, opts_drill_all)},
    {.path = "drill stop",
     .args = "DIR",
     .min_args = 1,
     .max_args = 1,
     .summary = "end a stack that `drill ... --keep` has left, and remove its directory",
     .run = cmd_drill_stop},
    {.path = "drill restart",
     .args = "DIR PROCESS",
     .min_args = 2,
     .max_args = 2,
     .summary = "end a process that the stack's drill starts again, as an executor would",
     .text = "Waits until another one runs. For drills that restart their agent.",
     .run = cmd_drill_restart},
};
const size_t cli_rows_n = sizeof cli_rows / sizeof cli_rows[0];
