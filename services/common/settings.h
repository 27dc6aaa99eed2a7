/* settings.h - the suite's settings as C structs. The table in settings.c gives each its default, bounds and help. */
#ifndef REDOUBT_SETTINGS_H
#define REDOUBT_SETTINGS_H

#include "common/conf.h"
#include "common/log.h"

struct set_nats {
    char *url;
    char *user;
    char *password;      /* of `password_file`, if that is given */
    char *password_file; /* "" = none */
    char *token;
    char *tls_ca_file;
    int64_t replicas;  /* of streams: 1 or 3 */
    int64_t queue_max; /* messages between the library and the loop */
};
struct set_redis {
    char *host;
    int64_t port;
    char *sentinels; /* host:port[,host:port...]; "" = host and port are the server */
    char *sentinel_master;
    char *user;
    char *password;      /* of `password_file`, if that is given */
    char *password_file; /* "" = none */
    int64_t db;
    int64_t timeout_ms;
};
struct set_log {
    int level;  /* enum log_level */
    int format; /* enum log_format */
};

/* A probe of a target. */
enum set_probe_type {
    SET_PROBE_NONE,
    SET_PROBE_HTTP,
    SET_PROBE_TCP,
    SET_PROBE_LLM,
    SET_PROBE_TLS,
    SET_PROBE_DNS,
    SET_PROBE_RESOURCE,
    SET_PROBE_LOG,
    SET_PROBE_BUS,
    SET_PROBE_STORE,
};
enum set_llm_api { SET_LLM_OPENAI, SET_LLM_ANTHROPIC, SET_LLM_OLLAMA };
enum set_dns_record { SET_DNS_A, SET_DNS_AAAA, SET_DNS_CNAME, SET_DNS_MX, SET_DNS_NS, SET_DNS_SRV, SET_DNS_TXT };
struct set_expect_json { /* one value of a JSON answer */
    char *path;          /* JSONPath of one value: $.db.nodes[0].state */
    char *equals;        /* the value as text; empty = by `matches` */
    char *matches;       /* PCRE2 */
};
struct set_log_pattern {
    char *match;  /* PCRE2 */
    int64_t most; /* lines per window that are still well */
};
/* What a process may use, in percent of its limit; 0 = not looked at. */
struct set_limits {
    int64_t memory_percent, cpu_percent, fds_percent, queue_percent;
    int64_t memory_bytes; /* a limit of one's own, beside that of the cgroup; 0 = none */
};
struct set_probe {
    int type;                        /* enum set_probe_type */
    char *url;                       /* http, llm: base URL of the API (".../v1"); tcp, tls: tcp://host:port */
    char *model;                     /* llm */
    int api;                         /* llm: enum set_llm_api */
    bool stream;                     /* llm */
    char *api_key;                   /* llm, secret; sent as the API wants it */
    int64_t price_input;             /* llm: millionths of a dollar per million tokens */
    int64_t price_output;            /* the same */
    char *method;                    /* http */
    struct conf_list headers;        /* http: char *, "Name: value" */
    char *body;                      /* http */
    int64_t expect_status_min;       /* http: 200 */
    int64_t expect_status_max;       /* http: 299 */
    struct conf_list expect_headers; /* http: char *, "Name: PCRE2" */
    struct conf_list expect_json;    /* http: struct set_expect_json */
    char *expect;                    /* PCRE2. http: the body; tcp: what is received; dns: a record */
    char *reject;                    /* PCRE2. http: the body must not match it */
    char *send;                      /* tcp */
    char *tls_ca_file;               /* http, llm, tls */
    char *tls_cert_file;
    char *tls_key_file;
    char *tls_name;        /* the name that the certificate must be of; empty = the URL's */
    bool tls_verify;       /* true */
    int64_t tls_expiry_ms; /* http, tls: DEGRADED when the certificate ends within this; 0 = not looked at */
    char *query;           /* dns: the name asked for */
    int record;            /* dns: enum set_dns_record */
    char *server;          /* dns: host or host:port; empty = the system's */
    char *pid_file;        /* resource */
    char *cgroup;          /* resource */
    struct set_limits limits;
    char *host;                /* resource, log: whose watchers look; empty = any */
    char *path;                /* log */
    struct conf_list patterns; /* log: struct set_log_pattern */
    int64_t window_ms;         /* log */
    int64_t quiet_ms;          /* log; 0 = may be silent */
    int64_t vantage;           /* watchers that probe it; 0 = health.vantage_points */
    int64_t interval_ms;       /* 10 s (llm: 60 s) */
    int64_t fast_interval_ms;  /* while in transition: 2 s */
    int64_t timeout_ms;        /* 5 s */
    int64_t slow_ms;           /* slower than this is DEGRADED; 0 = never */
    int64_t fall;              /* 3 failures to UNHEALTHY */
    int64_t rise;              /* 2 successes to HEALTHY */
};
struct set_breaker {
    int64_t window_ms;       /* 30 s, in 10 buckets */
    int64_t window_calls;    /* the last so many calls instead; 0 = by time */
    int64_t min_calls;       /* 10 */
    int64_t failure_percent; /* 50 */
    int64_t slow_percent;    /* 50 */
    int64_t slow_ms;         /* total; 0 = off */
    int64_t slow_first_ms;   /* first token; 0 = off */
    int64_t consecutive;     /* 5 */
    int64_t open_ms;         /* 30 s x n */
    int64_t open_max_ms;     /* 300 s */
    int64_t jitter_percent;  /* 20 */
    int64_t decay_ms;        /* n falls by one after this long closed */
    int64_t permit_ms;       /* 10 s: then the permit is given out again */
    int64_t ramp_step_ms;    /* 30 s per step of 10, 25, 50, 100 % */
    int64_t min_reporters;   /* 2: once more than one reports */
    int64_t reporter_rate;   /* reports per second that one reporter may send of a target; 0 = no limit */
    bool metrics_only;
};
/* How many agents a model takes over, and how fast; 0 = no limit. */
struct set_intake {
    int64_t rate; /* agents per second that may move to it, in all */
    int64_t wave; /* so many of them at once */
    int64_t cap;  /* agents that may be on it at a time */
};
enum set_target_kind { SET_TARGET_LLM, SET_TARGET_BACKEND, SET_TARGET_OTHER };
struct set_target {
    char *name;
    int kind;                /* enum set_target_kind */
    char *parent;            /* target that it depends on; may be empty */
    struct conf_list scopes; /* char *: what it shares with others: provider, account, key */
    struct set_probe probe;
    struct set_breaker breaker;
    struct set_intake intake; /* llm */
};

/* When an agent's judgement counts as gone. A share or number of 0 = not looked at. */
struct set_logic {
    int64_t window_ms;             /* 5 min */
    int64_t min_decisions;         /* 20: fewer say nothing about shares */
    int64_t malformed_percent;     /* 10 */
    int64_t contradictory_percent; /* 5 */
    int64_t denied_percent;        /* 50 */
    int64_t repeats;               /* 10: the same action to the same object */
    int64_t exceptions;            /* 5 */
};
struct set_question {
    char *name;
    char *event;  /* JSON */
    char *expect; /* JSON object: fields that the answer must have */
};
struct set_selftest {
    int64_t interval_ms;        /* 60 s */
    int64_t timeout_ms;         /* 10 s */
    int64_t fall;               /* 2 wrong answers in a row */
    struct conf_list questions; /* struct set_question; none = no self-test */
};

/* How a call to the backend says who it is. */
enum set_auth { SET_AUTH_BEARER, SET_AUTH_BASIC, SET_AUTH_HEADER, SET_AUTH_NONE };

/* An agent under protection. */
struct set_override {
    char *url;           /* base URL of the backend; empty = no override */
    char *activate_path; /* /api/admin/override/activate */
    char *release_path;  /* /api/admin/override/deactivate */
    char *activate_body; /* template; see common/template.h */
    char *release_body;
    char *token;         /* secret */
    int auth;            /* enum set_auth */
    char *auth_header;   /* its name, with SET_AUTH_HEADER */
    int64_t duration_ms; /* 3,600,000: one hour, the source's figure */
    int64_t renew_ms;    /* renewed when less than this is left: 10 min */
    int64_t retry_ms;    /* between tries: 2 s, doubling up to 30 s */
};
struct set_chain_item {
    char *target;
    char *model;
    int64_t context; /* tokens; 0 = not said */
    char *tools;     /* format of its tool calls, e.g. openai; empty = not said */
    char *residency; /* where its data stay, e.g. eu; empty = not said */
};
struct set_needs {              /* of the agent; what a model does not say it does not have */
    int64_t context;            /* tokens at least; 0 = any */
    char *tools;                /* empty = any */
    struct conf_list residency; /* char *: one of these; none = any */
};
struct set_restart {
    struct conf_list command; /* char *: program and arguments; none = not allowed */
    int64_t timeout_ms;       /* 60 s: then it is ended, and counts as failed */
    int64_t per_hour;         /* 3 */
};
struct set_resources {
    int64_t step_ms; /* 30 s: still exhausted after this long on one step: the next */
    int64_t hold_ms; /* 30 s: well for this long: one step back */
    struct set_restart restart;
};
enum set_gone { SET_GONE_OFFER, SET_GONE_ROLLBACK, SET_GONE_NOTHING };
struct set_recovery {          /* of an agent that was gone */
    int rollback;              /* enum set_gone */
    char *deployment;          /* of the rollback service; empty = none */
    int64_t rollback_after_ms; /* 2 min */
    char *procedure;           /* what people do by hand meanwhile: a text or a URL, named in the alert */
    int64_t step_ms;           /* 30 s per step of 10, 25, 50, 100 % of its work */
};
/* Where the guard passes its actions on. */
struct set_actions {
    char *url;  /* base URL; empty = the guard passes nothing on for it */
    char *path; /* /api/actions; the baseline may name another for an action */
    char *body; /* template */
    char *token;
    int auth;
    char *auth_header;
    int64_t timeout_ms; /* 5 s */
};
struct set_agent {
    char *name;
    struct conf_list chain; /* struct set_chain_item, primary first */
    char *backend;          /* target; may be empty */
    struct set_needs needs;
    struct set_override override;
    struct set_actions actions;
    struct set_resources resources;
    struct set_recovery recovery;
    struct conf_list watch;      /* char *: targets that basic monitoring looks at */
    int64_t monitor_interval_ms; /* 60 s */
    int64_t heartbeat_ms;        /* 1 s; expected interval */
    int64_t heartbeat_fall;      /* 3 missed: AGENT_DOWN */
    int64_t heartbeat_phi;       /* 8: suspicion at which one counts as missed */
    int64_t stuck_ms;            /* 60 s: work waits and none is done */
    struct set_limits limits;
    struct set_logic logic;
    struct set_selftest selftest;
    int64_t ack_ms;          /* 1 s: then the directive is sent again */
    int64_t ack_alert_ms;    /* 5 s without ack: alert */
    int64_t restore_hold_ms; /* 30 s: a better LLM must have been closed this long */
    int64_t backend_step_ms; /* 30 s per step of 10, 25, 50, 100 % */
};

struct set_health {
    int64_t vantage_points; /* 1 */
    int64_t confirmers;     /* 3 */
    int64_t member_ttl_ms;  /* 3 s */
    int64_t at_once;        /* 256 */
};

struct set_fallback {
    int64_t lease_ttl_ms;
    int64_t member_ttl_ms; /* 3 s */
    int64_t fence_ms;      /* 6 s: a guard that is silent for longer has no action in hand any more */
};

/* The security baseline: what agents may do at all. */
struct set_baseline {
    char *path;       /* YAML; empty = the strict built-in */
    char *public_key; /* Ed25519, base64: the sign-off must be by this key; empty = a hash alone */
    int64_t check_ms; /* 5 s: looked at again for changes */
};
struct set_queue {
    int64_t per_agent;   /* 10,000 actions */
    int64_t max_age_ms;  /* 24 h, the objective for degraded mode: older ones are not replayed */
    int64_t replay_rate; /* 50/s in all, over all replicas */
    int64_t dead_after;  /* 5 tries */
    int64_t retry_ms;    /* 2 s, doubling to 60 s */
};
struct set_guard {
    int64_t idempotency_ms; /* 24 h: a key is known for so long */
    int64_t at_once;        /* 256 calls to backends */
    int64_t lease_ttl_ms;
    int64_t member_ttl_ms;
    struct set_queue queue;
};

/* Alerting. */
enum set_channel_type {
    SET_CHANNEL_EMAIL,
    SET_CHANNEL_SLACK,
    SET_CHANNEL_FILE,
    SET_CHANNEL_WEBHOOK,
    SET_CHANNEL_PAGERDUTY,
    SET_CHANNEL_TEAMS,
    SET_CHANNEL_DISCORD,
    SET_CHANNEL_NTFY,
    SET_CHANNEL_SYSLOG,
    SET_CHANNEL_NATS,
    SET_CHANNEL_EXEC,
};
struct set_channel {
    char *name;
    int type;                 /* enum set_channel_type */
    char *url;                /* where it is; by type, see the help (secret) */
    char *user;               /* email, ntfy */
    char *password;           /* email, ntfy: secret */
    char *from;               /* email */
    struct conf_list to;      /* email: char * */
    bool starttls;            /* email */
    char *token;              /* pagerduty: routing key; webhook, ntfy: bearer token (secret) */
    char *secret;             /* webhook: whsec_..., signs */
    struct conf_list headers; /* webhook: char *, "Name: value" (secrets) */
    char *template;           /* webhook, ntfy, nats, exec: jq program that makes the body; "" = the kind's own */
    char *ca_file, *cert_file, *key_file; /* TLS of webhook, ntfy, email, syslog */
    int64_t facility;                     /* syslog: 0..23 */
    char *subject;                        /* nats */
    struct conf_list command;             /* exec: char *, the program and its arguments */
    char *path;                           /* file */
    int64_t max_bytes;                    /* file: rotated beyond */
    int64_t keep;                         /* file: rotated ones that are kept */
    int64_t rate_per_min;                 /* -1 = the kind's own; 0 = no limit */
    int64_t burst;                        /* -1 = the kind's own */
    int64_t at_once;                      /* 0 = the kind's own */
    int64_t queue;                        /* 1,000: attempts that may wait; more go into a digest */
    int64_t attempt_ms;                   /* 10 s */
    int64_t tries;                        /* 3 */
    int64_t deadline_critical_ms;         /* 30 s */
    int64_t deadline_ms;                  /* 5 min */
};
enum set_group_mode { SET_GROUP_FAILOVER, SET_GROUP_FANOUT };
struct set_channel_group {
    char *name;
    int mode;                 /* enum set_group_mode */
    struct conf_list members; /* char *: channels and groups */
};
struct set_quiet {
    char *name;
    struct conf_list days; /* char *: mon .. sun; none = every day */
    char *from, *to;       /* HH:MM, local time of the service; `to` may be on the next day */
    int below;             /* severity: alerts below it wait; default critical */
};
struct set_step {
    int64_t after_ms; /* since the step before, without an acknowledgement */
    char *to;         /* channel or group */
};
struct set_escalation {
    char *name;
    struct conf_list steps; /* struct set_step */
    int64_t again_ms;       /* after the last step: that step again; 0 = never */
};
struct set_inhibit {
    char *name;
    struct conf_list source, target; /* char *: matchers */
    struct conf_list equal;          /* char *: fields */
};
struct set_route {
    char *name;
    int min_severity;          /* 0 info .. 3 critical */
    struct conf_list match;    /* char *: matchers; all must fit */
    struct conf_list channels; /* char *, tried in order: the first that accepts ends it; files are the record */
    char *to;                  /* a channel or group, instead of channels */
    bool go_on;                /* `continue`: the routes behind it are looked at, too */
    struct conf_list group_by; /* char *: fields; none = every problem by itself */
    int64_t group_wait_ms;     /* 30 s; not for critical ones */
    int64_t group_interval_ms; /* 5 min */
    int64_t repeat_ms;         /* 4 h; 0 = never */
    char *escalation;          /* "" = none */
    char *quiet;               /* "" = none */
    bool resolved;             /* ends are told, too */
};
struct set_deadman {
    char *url;        /* pinged after each self-test that passed; "" = none (secret) */
    char *to;         /* channel or group that the self-test goes through; "" = no dead-man */
    int64_t every_ms; /* 60 s */
};
struct set_last_resort {
    char *url;        /* webhook (secret); "" = none */
    char *secret;     /* whsec_... */
    int64_t after_ms; /* 10 s */
};
struct set_alert {
    struct conf_list channels;     /* struct set_channel */
    struct conf_list groups;       /* struct set_channel_group */
    struct conf_list routes;       /* struct set_route; the first that matches */
    struct conf_list quiet;        /* struct set_quiet */
    struct conf_list escalations;  /* struct set_escalation */
    struct conf_list inhibit;      /* struct set_inhibit */
    struct conf_list exec_allowed; /* char *: absolute paths of programs */
    int64_t ack_ms;                /* 30 min */
    int64_t digest_every_ms;       /* 60 s */
    int64_t lease_ttl_ms;          /* 3 s */
    struct set_deadman deadman;
    struct set_last_resort last_resort;
};

struct set_audit {
    int64_t segment_bytes;        /* 64 MiB */
    int64_t checkpoint_ms;        /* 10 s */
    char *key_file;               /* Ed25519; "" = audit.key in the trail's directory */
    char *mirror;                 /* directory on another disk; "" = none */
    char *second_dir;             /* where the trail goes on when the first disk is full; "" = none */
    struct conf_list witnesses;   /* char *: keys (C2SP vkey) whose cosignatures are kept and shown */
    int64_t keep_ms;              /* 0 = for ever */
    int64_t keep_bytes;           /* 0 = no limit */
    int64_t warn_free, stop_free; /* percent of the disk: 20, 10 */
    int64_t warn_lag_ms;          /* 60 s */
};

/* Versions, and the way back to one. */
enum set_executor { SET_EXECUTOR_DOCKER, SET_EXECUTOR_KUBERNETES, SET_EXECUTOR_EXEC };
struct set_rb_docker {
    char *socket;    /* unix:///var/run/docker.sock; a path */
    char *container; /* by name; or by compose project and service */
    char *project, *service;
    int64_t port;    /* that the agent listens on inside; 0 = no address is given to the traffic */
    char *network;   /* whose address the traffic uses; empty = the first */
    int64_t stop_ms; /* 30 s until it is killed */
    int64_t
        ready_ms; /* 60 s: a container without a health check counts as ready after `running` and the checks; with one: limit */
    char *keep_repository;  /* redoubt/keep: images are tagged there so that no clean-up takes them */
    bool force_unsupported; /* what cannot be carried over (compose configs) is left out instead of refused */
};
struct set_rb_kubernetes {
    char *server;     /* https://...; empty = of the kubeconfig, or of the pod */
    char *kubeconfig; /* path; empty = the pod's ServiceAccount */
    char *context;    /* of the kubeconfig; empty = its current one */
    char *ca_file, *token_file;
    char *namespace;
    char *deployment; /* stable */
    char *canary;     /* the other of the pair; empty = one Deployment by image patch */
    char *container;  /* in the pod; empty = the first */
    int64_t rollout_ms;
    int64_t timeout_ms;
};
struct set_rb_exec { /* programs with arguments; {{names}} are filled in */
    struct conf_list view, check, up, stop, start, settle, remove, keep, run; /* char * */
    int64_t timeout_ms;
};
enum set_traffic {
    SET_TRAFFIC_NONE,
    SET_TRAFFIC_HAPROXY,
    SET_TRAFFIC_REPLICAS,
    SET_TRAFFIC_HTTPROUTE,
    SET_TRAFFIC_NATS,
    SET_TRAFFIC_WEBHOOK,
};
struct set_rb_traffic {
    int type;      /* enum set_traffic */
    char *address; /* haproxy: unix:///run/haproxy/admin.sock or tcp://host:port */
    char *backend; /* haproxy */
    struct conf_list
        side_0; /* char *: servers (haproxy), services (httproute) of either side; instance i is server i */
    struct conf_list side_1;
    bool set_address;   /* haproxy: the servers get the instances' addresses; false: by name, as configured */
    char *route;        /* httproute: its name */
    int64_t rule;       /* httproute: index of the rule */
    char *url, *token;  /* webhook */
    int64_t timeout_ms; /* 2 s */
};
enum set_check {
    SET_CHECK_COMMAND,
    SET_CHECK_HTTP,
    SET_CHECK_KNOWN,
    SET_CHECK_PROMETHEUS,
    SET_CHECK_JSON,
    SET_CHECK_NATS
};
enum set_check_class { SET_CLASS_SECURITY, SET_CLASS_PERFORMANCE, SET_CLASS_ERRORS };
struct set_rb_check {
    char *name;
    int type;                     /* enum set_check */
    int check_class;              /* enum set_check_class */
    struct conf_list command;     /* char * */
    char *url;                    /* {{address}}, {{version}}, {{digest}}, {{side}} are filled in */
    char *body;                   /* known: the event; http */
    struct conf_list headers;     /* char *, secrets */
    struct conf_list expect_json; /* struct set_expect_json */
    char *query, *query_total;    /* prometheus: PromQL; json: JSONPath. The value, or failures and all */
    char *service;                /* nats: name in $SRV.STATS */
    char *most;                   /* decimal: a value above is a failure; empty = only compared */
    bool compare;                 /* with the former version at the same time */
    int64_t ratio_percent;        /* values: worse than the former's by more than this is a failure */
    int64_t min_samples;          /* counts: fewer say nothing */
    int64_t limit;                /* failures in a row; -1 = by class: 0, 3, 4 */
    bool suite;                   /* belongs to the final verification only */
    int64_t timeout_ms;
    char *ca_file;
};
struct set_rb_data {
    char *repository; /* restic: directory, s3:..., sftp:...; empty = no learning data */
    char *password_file;
    struct conf_list env;           /* char *, "NAME=value", secrets: for S3 and the like */
    struct conf_list path;          /* char *: directories of the learning data as this service sees them */
    struct conf_list pause, resume; /* char *: program and arguments */
    char *pause_url, *resume_url;   /* POST */
    struct conf_list migrate;       /* char *: run in the newer version's image, {{from_schema}} {{to_schema}} */
    char *stream;                   /* whose position belongs to a snapshot */
    int64_t read_percent;           /* of the data that `check` reads back */
    int64_t pause_limit_ms;         /* the writer is resumed after this, come what may */
    int64_t timeout_ms;
};
struct set_rb_auto {
    bool enabled;      /* false */
    int64_t within_ms; /* 15 min after a deployment */
};
struct set_deployment {
    char *name;
    char *agent;  /* that it carries; empty = none */
    int executor; /* enum set_executor */
    struct set_rb_docker docker;
    struct set_rb_kubernetes kubernetes;
    struct set_rb_exec exec;
    struct set_rb_traffic traffic;
    struct conf_list checks; /* struct set_rb_check */
    struct set_rb_data data;
    struct set_rb_auto automatic;
    struct conf_list steps;    /* char *: "100%", ... "0%": what stays on the former version */
    int64_t step_ms;           /* 30 s */
    int64_t check_every_ms;    /* 5 s */
    int64_t capacity_ms;       /* 5 min: longest wait for capacity, then hold */
    int64_t drain_ms;          /* 30 s */
    int64_t watch_ms;          /* 120 s */
    int64_t settle_ms;         /* 10 s healthy until verified */
    int64_t keep;              /* 3 */
    char *floor;               /* name or id: versions recorded before it are refused */
    struct conf_list rejected; /* char *: names or ids that are refused */
};
struct set_rollback {
    struct conf_list deployments;  /* struct set_deployment */
    struct conf_list exec_allowed; /* char *: absolute paths of programs */
    int64_t observe_ms;            /* 10 s */
    int64_t check_kept_ms;         /* 10 min; 0 = never */
    int64_t at_once;               /* 16 looks */
    int64_t lease_ttl_ms;
    int64_t member_ttl_ms;
};

/* Business continuity. The objectives in order of the bits of a condition (full, degraded, LLM fallback), then the rest. */
enum set_objective {
    SET_MAD_FULL,
    SET_MAD_DEGRADED,
    SET_MAD_LLM_FALLBACK,
    SET_RTO_CRITICAL,
    SET_RTO_FULL,
    SET_RTO_DATA,
    SET_RPO_LEARNING,
    SET_RPO_AUDIT,
    SET_RPO_CONFIG,
    SET_OBJECTIVES
};
extern const char *const settings_objectives[SET_OBJECTIVES + 1]; /* names: `mad_full`, ...; NULL at the end */
struct set_objectives {
    int64_t ms[SET_OBJECTIVES]; /* 4 h, 24 h, 1 h, 15 min, 2 h, 4 h, 1 h, 5 min, 15 min */
};
struct set_own_objectives {
    struct conf_list agents;    /* char *: globs; the first that fits counts */
    int64_t ms[SET_OBJECTIVES]; /* 0 = as above */
};
/* What agents do for others, and what takes it away. */
struct set_function {
    char *name;
    bool critical;            /* rto_critical; otherwise rto_full */
    struct conf_list lost_in; /* char *: full, degraded, llm_fallback */
};
struct set_phases {
    int64_t respond_ms;  /* 5 min until somebody was told */
    int64_t assess_ms;   /* 15 min */
    int64_t settle_ms;   /* 30 s without new evidence: the scope is known */
    int64_t validate_ms; /* 60 s everything stays well */
    int64_t learn_ms;    /* 7 d until it should be closed */
    int64_t join_ms;     /* 60 s: agents that go so close to each other are one incident */
    int64_t join_tokens; /* 2: `llm.openai` of `llm.openai.gpt-4o` */
    int closes_itself;   /* enum: up to which severity an incident closes without a person */
};
struct set_repository {
    char *repository; /* restic: directory, s3:..., sftp:...; empty = none */
    char *password_file;
    struct conf_list env; /* char *, "NAME=value", secrets */
};
enum set_backup_kind {
    SET_BACKUP_LEARNING,
    SET_BACKUP_AUDIT,
    SET_BACKUP_CONFIG,
    SET_BACKUP_NATS,
    SET_BACKUP_REDIS,
    SET_BACKUP_FILES
};
struct set_backup {
    char *name;
    int kind;                 /* enum set_backup_kind */
    char *agent;              /* whose; empty = none */
    char *deployment;         /* learning: as rollback.deployments[].data has it; empty = by `path` */
    struct conf_list path;    /* char * */
    struct set_repository to; /* empty repository = continuity.repository */
    int64_t every_ms;         /* 0 = half of the kind's RPO: 30 min, 2.5 min, 7.5 min; nats, redis, files 15 min */
    int64_t keep_last, keep_daily, keep_weekly, keep_monthly;
    int64_t check_ms;       /* 1 d */
    int64_t read_ms;        /* 1 d */
    int64_t read_percent;   /* 1 */
    int64_t test_ms;        /* 7 d */
    int64_t late_ms;        /* 0 = twice `every` */
    int64_t shrunk_percent; /* 50: smaller than this share of the one before */
    int64_t min_bytes;      /* 1: less is empty */
    int64_t timeout_ms;     /* 30 min */
};
struct set_drill {
    char *name;
    int drill;   /* index in settings_drills */
    char *agent; /* empty = on a private stack; else live */
    int64_t every_ms;
    char *at;         /* "Sat 03:00", "03:00", UTC; empty = `every` after the last one */
    int64_t limit_ms; /* 10 min */
};
extern const char *const settings_drills[];
struct set_config_history {
    char *dir;       /* git repository; empty = data_dir/continuity/config */
    char *file;      /* empty = the file that this service has read */
    int64_t look_ms; /* 5 s: how often changes by hand are looked for */
};
struct set_reports {
    char *dir;              /* empty = data_dir/continuity/reports */
    struct conf_list trail; /* char *: directories of trails; none = data_dir/audit */
    bool monthly;           /* true: by itself on the first day of a month */
    int64_t keep_closed_ms; /* 90 d: closed incidents stay in the list */
};
struct set_continuity {
    struct set_objectives objectives;
    struct conf_list own;       /* struct set_own_objectives */
    struct conf_list functions; /* struct set_function; none = the mission's four */
    struct set_phases phases;
    struct set_repository repository;
    struct conf_list backups; /* struct set_backup */
    struct conf_list drills;  /* struct set_drill */
    struct set_config_history config;
    struct set_reports reports;
    int64_t expire_ms; /* 30 d: how long a demonstration counts */
    int64_t lease_ttl_ms;
};

struct settings_index;
struct settings {
    struct set_nats nats;
    struct set_redis redis;
    struct set_log log;
    char *data_dir;
    int64_t tilt_hold_ms;     /* 30 s */
    struct conf_list targets; /* struct set_target */
    struct conf_list agents;  /* struct set_agent */
    struct set_health health;
    struct set_fallback fallback;
    struct set_baseline baseline;
    struct set_guard guard;
    struct set_alert alert;
    struct set_audit audit;
    struct set_rollback rollback;
    struct set_continuity continuity;
    struct settings_index *index; /* of names; NULL = none, then they are looked for one by one */
};
extern const struct conf_schema settings_schema;

/* Loads and cross-checks (names unique, chain and backend targets exist, routes name channels). NULL with lines in r. */
struct settings *settings_load(const char *path, struct conf_report *r);
/* What may be said but is hardly meant, a line each: for people, never a reason not to start. */
void settings_warn(const struct settings *s, struct conf_report *r);
void settings_free(struct settings *s);
const struct set_target *settings_target(const struct settings *s, const char *name); /* NULL if none */
bool settings_channel_same(const struct set_channel *a, const struct set_channel *b);
struct set_channel *settings_channel_copy(const struct set_channel *c); /* NULL if memory is out */
void settings_channel_free(struct set_channel *c);                      /* of a copy; NULL is fine */
bool settings_backup_same(const struct set_backup *a, const struct set_backup *b);
struct set_backup *settings_backup_copy(const struct set_backup *b); /* NULL if memory is out */
void settings_backup_free(struct set_backup *b);                     /* of a copy; NULL is fine */
bool settings_probe_same(const struct set_probe *a, const struct set_probe *b);
const struct set_agent *settings_agent(const struct settings *s, const char *name);

#endif
