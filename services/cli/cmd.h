/* cmd.h - the commands' entry points and option structs; the rows of cli_rows.c bind them together. */
#ifndef REDOUBT_CLI_CMD_H
#define REDOUBT_CLI_CMD_H

#include "cli/cli.h"

struct opts_status {
    bool watch, json;
};
int cmd_status(struct cli *c, const void *opts, int argc, char **argv);

struct opts_ping {
    const char *instance;
};
int cmd_ping(struct cli *c, const void *opts, int argc, char **argv);

struct opts_tail {
    bool json, replay, all;
    int64_t count, limit_ms;
};
int cmd_tail(struct cli *c, const void *opts, int argc, char **argv);
int cmd_audit_tail(struct cli *c, const void *opts, int argc, char **argv);

struct opts_report {
    const char *reporter;
    int64_t total_ms, status, retry_after_ms, count;
};
int cmd_report(struct cli *c, const void *opts, int argc, char **argv);

struct opts_show {
    bool json;
};
struct opts_order { /* who and why; lands in the audit trail */
    const char *by, *reason;
    int64_t for_ms;
    bool without_selftest; /* unfreeze */
};
int cmd_breaker_show(struct cli *c, const void *opts, int argc, char **argv);
int cmd_breaker_order(struct cli *c, const void *opts, int argc, char **argv);
int cmd_health_show(struct cli *c, const void *opts, int argc, char **argv);
int cmd_health_order(struct cli *c, const void *opts, int argc, char **argv);
int cmd_health_probe(struct cli *c, const void *opts, int argc, char **argv);
int cmd_agent_show(struct cli *c, const void *opts, int argc, char **argv);
int cmd_agent_order(struct cli *c, const void *opts, int argc, char **argv);

struct opts_queue_show {
    bool json;
    int64_t count;
};
struct opts_drop {
    const char *by, *reason;
    bool all;
};
int cmd_queue_list(struct cli *c, const void *opts, int argc, char **argv);
int cmd_queue_show(struct cli *c, const void *opts, int argc, char **argv);
int cmd_queue_drop(struct cli *c, const void *opts, int argc, char **argv);
int cmd_queue_release(struct cli *c, const void *opts, int argc, char **argv);

struct opts_config {
    bool help_text, strict;
};
int cmd_config_check(struct cli *c, const void *opts, int argc, char **argv);
int cmd_config_show(struct cli *c, const void *opts, int argc, char **argv);

struct opts_baseline {
    const char *by, *key;
    bool help_text, json;
};
int cmd_baseline_check(struct cli *c, const void *opts, int argc, char **argv);
int cmd_baseline_show(struct cli *c, const void *opts, int argc, char **argv);
int cmd_baseline_sign(struct cli *c, const void *opts, int argc, char **argv);
int cmd_baseline_keygen(struct cli *c, const void *opts, int argc, char **argv);
int cmd_baseline_status(struct cli *c, const void *opts, int argc, char **argv);

struct opts_verify {
    const char *key, *anchor, *witness;
    bool bus;
};
int cmd_audit_verify(struct cli *c, const void *opts, int argc, char **argv);

/* Of search, export and who. */
struct opts_audit_query {
    const char *id, *action, *actor, *subject, *service, *audit_class, *outcome, *since, *until, *text, *field;
    const char *format, *config;
    int64_t limit;
    bool json;
};
int cmd_audit_search(struct cli *c, const void *opts, int argc, char **argv);
int cmd_audit_export(struct cli *c, const void *opts, int argc, char **argv);
int cmd_audit_who(struct cli *c, const void *opts, int argc, char **argv);
struct opts_proof {
    const char *check, *key, *config;
};
int cmd_audit_proof(struct cli *c, const void *opts, int argc, char **argv);

struct opts_follow {
    const char *to, *chain, *key, *witness, *name;
    bool once;
    int64_t interval_ms;
};
int cmd_audit_follow(struct cli *c, const void *opts, int argc, char **argv);
struct opts_rotate {
    const char *by, *reason, *chain;
};
int cmd_audit_rotate(struct cli *c, const void *opts, int argc, char **argv);

struct opts_alert {
    const char *by;
};
int cmd_alert_test(struct cli *c, const void *opts, int argc, char **argv);
int cmd_alert_channels(struct cli *c, const void *opts, int argc, char **argv);
struct opts_alert_list {
    bool json, all;
    int64_t count;
};
int cmd_alert_list(struct cli *c, const void *opts, int argc, char **argv);
int cmd_alert_show(struct cli *c, const void *opts, int argc, char **argv);
int cmd_alert_order(struct cli *c, const void *opts, int argc, char **argv);
struct opts_silence {
    const char *by, *reason, *from;
    int64_t for_ms;
    bool dry_run, json;
};
int cmd_alert_silence(struct cli *c, const void *opts, int argc, char **argv);
int cmd_alert_unsilence(struct cli *c, const void *opts, int argc, char **argv);
int cmd_alert_silences(struct cli *c, const void *opts, int argc, char **argv);

struct opts_rollback {
    const char *by, *reason, *to, *restore, *since, *id, *on_hold;
    int64_t count, hold_limit_ms, lost_limit_ms;
    bool emergency, force, tainted, dry_run, follow, no_wait, lines, json;
};
int cmd_rollback_list(struct cli *c, const void *opts, int argc, char **argv);
int cmd_rollback_versions(struct cli *c, const void *opts, int argc, char **argv);
int cmd_rollback_pin(struct cli *c, const void *opts, int argc, char **argv);
int cmd_rollback_plan(struct cli *c, const void *opts, int argc, char **argv);
int cmd_rollback_start(struct cli *c, const void *opts, int argc, char **argv);
int cmd_rollback_order(struct cli *c, const void *opts, int argc, char **argv); /* hold, resume, abort, emergency */
int cmd_rollback_run(struct cli *c, const void *opts, int argc, char **argv);
int cmd_rollback_watch(struct cli *c, const void *opts, int argc, char **argv);
int cmd_rollback_status(struct cli *c, const void *opts, int argc, char **argv);
int cmd_rollback_history(struct cli *c, const void *opts, int argc, char **argv);
int cmd_rollback_lineage(struct cli *c, const void *opts, int argc, char **argv);

struct opts_recover {
    const char *repository, *password_file, *from, *config, *data_dir, *learning_to, *nats, *redis, *by, *reason;
    bool force, json;
};
int cmd_recover_list(struct cli *c, const void *opts, int argc, char **argv);
int cmd_recover_run(struct cli *c, const void *opts, int argc, char **argv);
struct opts_state {
    const char *redis, *only, *by, *reason;
    bool force, json;
};
int cmd_state_save(struct cli *c, const void *opts, int argc, char **argv);
int cmd_state_restore(struct cli *c, const void *opts, int argc, char **argv);
int cmd_state_verify(struct cli *c, const void *opts, int argc, char **argv);

struct opts_incident {
    const char *by, *reason, *to, *agent, *key, *kind, *severity;
    int64_t count;
    bool all, json, decision, lesson, follow_up;
};
int cmd_incident_list(struct cli *c, const void *opts, int argc, char **argv);
int cmd_incident_show(struct cli *c, const void *opts, int argc, char **argv);
int cmd_incident_note(struct cli *c, const void *opts, int argc, char **argv);
int cmd_incident_order(struct cli *c, const void *opts, int argc, char **argv); /* assign, advance, close */
int cmd_incident_open(struct cli *c, const void *opts, int argc, char **argv);

struct opts_continuity {
    const char *by, *reason, *agent;
    bool json, csv, print, force;
};
int cmd_continuity_status(struct cli *c, const void *opts, int argc, char **argv);
int cmd_continuity_availability(struct cli *c, const void *opts, int argc, char **argv);
int cmd_continuity_report(struct cli *c, const void *opts, int argc, char **argv);
int cmd_continuity_order(struct cli *c, const void *opts, int argc, char **argv); /* backup, test, drill */

struct opts_sim_agent {
    const char *instance, *misbehave, *act, *restart;
    int64_t rate, heartbeat_ms, call_ms, count, lease_ms, act_rate, act_ms;
    bool verbose, well;
};
int cmd_sim_agent(struct cli *c, const void *opts, int argc, char **argv); /* sim_agent.c */

struct opts_sim_fleet {
    const char *prefix, *act, *chain, *backend, *actions_url;
    int64_t n, heartbeat_ms, report_rate, act_rate, act_ms, for_ms;
    bool print_settings, verbose;
    bool prefix_given; /* the command's own */
};
int cmd_sim_fleet(struct cli *c, const void *opts, int argc, char **argv); /* sim_fleet.c */

int cmd_sim_mode(struct cli *c, const void *opts, int argc, char **argv);

struct opts_drill {
    bool keep, live, yes;
    const char *json, *bin_dir, *target, *by, *reason;
    int64_t for_ms, limit_ms;
};
struct opts_drill_all {
    const char *json, *bin_dir;
};
struct opts_drill_demo {
    const char *sims, *json;
};
int cmd_drill_demo(struct cli *c, const void *opts, int argc, char **argv);
int cmd_drill(struct cli *c, const void *opts, int argc, char **argv);
int cmd_drill_all(struct cli *c, const void *opts, int argc, char **argv);
int cmd_drill_restart(struct cli *c, const void *opts, int argc, char **argv);
int cmd_drill_stop(struct cli *c, const void *opts, int argc, char **argv);

#endif
