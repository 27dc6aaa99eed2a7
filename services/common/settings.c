/* settings.c - the suite's settings as one table: key, type, default, bounds, help. */
#include "common/settings.h"
#include "common/log.h"
#include "common/settings_impl.h"
#include <stdlib.h>
#include <string.h>

/* ---- connections: a change needs a restart ---- */

#define RELOAD false
#define STRUCT struct set_nats

static const struct conf_field nats_fields[] = {
    ROW("url", STRING, url, "nats://127.0.0.1:4222", 1, 0,
        "NATS servers: nats://host:port or tls://host:port, several joined by commas."),
    ROW("user", STRING, user, "", 0, 0, "User of this service; empty = none."),
    ROW("password", SECRET, password, "", 0, 0, "Password of `user`."),
    ROW("password_file", STRING, password_file, "", 0, 0,
        "File whose first line is the password, instead of `password`; empty = none. In containers: a mounted "
        "secret."),
    ROW("token", SECRET, token, "", 0, 0, "Token instead of user and password."),
    ROW("tls_ca_file", STRING, tls_ca_file, "", 0, 0,
        "PEM file with the authorities that sign the servers' certificates; empty = TLS only if the URL says "
        "tls://."),
    ROW("replicas", INT, replicas, "1", 1, 5, "Copies of each stream: 1 on a single server, 3 on a cluster."),
    ROW("queue_max", INT, queue_max, "65536", 16, 1 << 20,
        "Messages that may wait between the NATS library and the loop; then the library waits and counts slow "
        "consumers. The default is the library's own limit."),
};

#undef STRUCT
#define STRUCT struct set_redis
static const struct conf_field redis_fields[] = {
    ROW("host", STRING, host, "127.0.0.1", 1, 255, "Name or address of the Redis server."),
    ROW("port", INT, port, "6379", 1, 65535, "Its port."),
    ROW("sentinels", STRING, sentinels, "", 0, 2048,
        "Redis Sentinels instead of `host` and `port`: host:port, several joined by commas. They are asked which "
        "server is the "
        "primary, at each connect; it is used once it says so itself (ROLE), and left when it says otherwise. Empty "
        "= none."),
    ROW("sentinel_master", STRING, sentinel_master, "redoubt", 1, 255,
        "What the Sentinels call the primary (`sentinel monitor NAME ...`)."),
    ROW("user", STRING, user, "", 0, 0, "ACL user; empty = `default`."),
    ROW("password", SECRET, password, "", 0, 0, "Its password; empty = no login."),
    ROW("password_file", STRING, password_file, "", 0, 0,
        "File whose first line is the password, instead of `password`; empty = none."),
    ROW("db", INT, db, "0", 0, 15, "Number of the database."),
    ROW("timeout", DURATION, timeout_ms, "1s", 10, MINUTE,
        "Longest wait for the answer to one command; then its outcome counts as unknown."),
};

#undef RELOAD
#define RELOAD true
#undef STRUCT
#define STRUCT struct set_log
static const char *const log_levels[] = {[LOG_LEVEL_DEBUG] = "debug",
                                         [LOG_LEVEL_INFO] = "info",
                                         [LOG_LEVEL_WARN] = "warn",
                                         [LOG_LEVEL_ERROR] = "error",
                                         NULL};
static const char *const log_formats[] = {[LOG_FORMAT_LOGFMT] = "logfmt", [LOG_FORMAT_JSON] = "json", NULL};
static const struct conf_field log_fields[] = {
    ROW("level", ENUM, level, "info", 0, 0, "Least level that is written.", .choices = log_levels),
    ROW("format", ENUM, format, "logfmt", 0, 0, "Form of a line on stderr.", .choices = log_formats),
};

/* ---- targets ---- */

#undef STRUCT
#define STRUCT struct set_expect_json
static const struct conf_field expect_json_fields[] = {
    ROW("path", STRING, path, REQUIRED, 1, 512,
        "Where: a JSONPath of one value (RFC 9535, singular query), as in $.db.nodes[0].state."),
    ROW("equals", STRING, equals, "", 0, 1024, "The value, as text: ok, 3, true, null."),
    ROW("matches", STRING, matches, "", 0, 4096, "Or a pattern (PCRE2) for its text."),
};
const struct conf_schema settings_expect_json_schema = {"expect_json", sizeof(struct set_expect_json),
                                                        expect_json_fields, N_OF(expect_json_fields), NULL};

#undef STRUCT
#define STRUCT struct set_log_pattern
static const struct conf_field log_pattern_fields[] = {
    ROW("match", STRING, match, REQUIRED, 1, 4096, "A pattern (PCRE2) for a line."),
    ROW("most", INT, most, "0", 0, 1000000, "So many such lines in a window are still well."),
};
static const struct conf_schema log_pattern_schema = {"pattern", sizeof(struct set_log_pattern), log_pattern_fields,
                                                      N_OF(log_pattern_fields), NULL};

#undef STRUCT
#define STRUCT struct set_limits
static const struct conf_field limits_fields[] = {
    ROW("memory", PERCENT, memory_percent, "90%", 0, 100,
        "Memory, of its limit (or of `memory_bytes`); 0% = not looked at."),
    ROW("cpu", PERCENT, cpu_percent, "95%", 0, 100, "CPU time, of its limit (without one: of the host's cores)."),
    ROW("fds", PERCENT, fds_percent, "90%", 0, 100, "Open files, of their limit."),
    ROW("queue", PERCENT, queue_percent, "90%", 0, 100, "Work that waits, of the queue's limit."),
    ROW("memory_bytes", SIZE, memory_bytes, "0", 0, INT64_C(1) << 50,
        "A limit of memory beside the kernel's; 0 = none."),
};
const struct conf_schema settings_limits_schema = {"limits", sizeof(struct set_limits), limits_fields,
                                                   N_OF(limits_fields), NULL};

#undef STRUCT
#define STRUCT struct set_probe
const char *const settings_probe_types[] = {
    [SET_PROBE_NONE] = "none",
    [SET_PROBE_HTTP] = "http",
    [SET_PROBE_TCP] = "tcp",
    [SET_PROBE_LLM] = "llm",
    [SET_PROBE_TLS] = "tls",
    [SET_PROBE_DNS] = "dns",
    [SET_PROBE_RESOURCE] = "resource",
    [SET_PROBE_LOG] = "log",
    [SET_PROBE_BUS] = "bus",
    [SET_PROBE_STORE] = "store",
    NULL,
};
static const char *const llm_apis[] = {
    [SET_LLM_OPENAI] = "openai", [SET_LLM_ANTHROPIC] = "anthropic", [SET_LLM_OLLAMA] = "ollama", NULL};
static const char *const dns_records[] = {
    [SET_DNS_A] = "A",   [SET_DNS_AAAA] = "AAAA", [SET_DNS_CNAME] = "CNAME", [SET_DNS_MX] = "MX",
    [SET_DNS_NS] = "NS", [SET_DNS_SRV] = "SRV",   [SET_DNS_TXT] = "TXT",     NULL};
static const struct conf_field probe_fields[] = {
    ROW("type", ENUM, type, "none", 0, 0,
        "How the target is watched. none: only reports of real calls speak for it. http: a request. tcp: connect, "
        "perhaps talk. llm: a completion of one token. tls: the certificate. dns: a record. resource: what a process "
        "or cgroup of this host uses. log: a file of this host. bus, store: a round trip to NATS, to Redis.",
        .choices = settings_probe_types),
    ROW("url", STRING, url, "", 1, 0,
        "http: what is fetched. tcp, tls: tcp://host:port. llm: base URL of the API, as in "
        "https://api.openai.com/v1, https://api.anthropic.com/v1, http://127.0.0.1:11434/api."),
    ROW("model", STRING, model, "", 1, 256, "llm: the model that is asked."),
    ROW("api", ENUM, api, "openai", 0, 0, "llm: which API it speaks; openai = compatible with it.",
        .choices = llm_apis),
    ROW("stream", BOOL, stream, "true", 0, 0, "llm: ask for a stream, so that the first token is timed."),
    ROW("api_key", SECRET, api_key, "", 0, 0,
        "llm: sent as bearer token (openai, ollama) or x-api-key (anthropic); ${file:/run/secrets/...} keeps it out "
        "of "
        "this file."),
    ROW("price_input", INT, price_input, "0", 0, INT64_C(1000000000000),
        "llm: what a million input tokens cost, in millionths of a dollar: 2500000 is 2.50 $."),
    ROW("price_output", INT, price_output, "0", 0, INT64_C(1000000000000),
        "llm: what a million output tokens cost, likewise."),
    ROW("method", STRING, method, "GET", 1, 16, "http: GET, HEAD, POST, ..."),
    ROW("headers", STRINGS, headers, "", 0, 32, "http: sent along, `Name: value` each; values are not shown.",
        .item = CONF_SECRET),
    ROW("body", STRING, body, "", 0, 16384, "http: sent along."),
    ROW("expect_status_min", INT, expect_status_min, "200", 100, 599, "http: least status that counts as well."),
    ROW("expect_status_max", INT, expect_status_max, "299", 100, 599, "http: greatest status that counts as well."),
    ROW("expect_headers", STRINGS, expect_headers, "", 0, 32,
        "http: headers that the answer must have, `Name: pattern` each (PCRE2).", .item = CONF_STRING),
    ROW("expect_json", LIST, expect_json, "", 0, 32, "http: values that the JSON of the answer must hold.",
        .schema = &settings_expect_json_schema),
    ROW("expect", STRING, expect, "", 0, 4096,
        "A pattern (PCRE2) that must match. http: the body. tcp: what comes. dns: one of the records."),
    ROW("reject", STRING, reject, "", 0, 4096, "http: a pattern (PCRE2) that must not match the body."),
    ROW("send", STRING, send, "", 0, 4096,
        "tcp: sent once connected; \\r, \\n, \\t, \\\\ and \\xHH stand for bytes."),
    ROW("tls_ca_file", STRING, tls_ca_file, "", 0, 0,
        "PEM file with the authorities that may sign the certificate; empty = the system's."),
    ROW("tls_cert_file", STRING, tls_cert_file, "", 0, 0,
        "PEM file with our own certificate, where one is asked for."),
    ROW("tls_key_file", STRING, tls_key_file, "", 0, 0, "PEM file with its key."),
    ROW("tls_name", STRING, tls_name, "", 0, 253,
        "tls: the name that the certificate must be of; empty = the URL's."),
    ROW("tls_verify", BOOL, tls_verify, "true", 0, 0, "false: any certificate will do."),
    ROW("tls_expiry", DURATION, tls_expiry_ms, "0s", 0, 3650 * DAY,
        "http, tls: a certificate that ends within this time makes the target DEGRADED. 0s = for tls 14d, for http "
        "not "
        "looked at."),
    ROW("query", STRING, query, "", 0, 253, "dns: the name that is asked for."),
    ROW("record", ENUM, record, "A", 0, 0, "dns: the kind of record.", .choices = dns_records),
    ROW("server", STRING, server, "", 0, 253, "dns: who is asked, address or address:port; empty = the system's."),
    ROW("pid_file", STRING, pid_file, "", 0, 0, "resource: file with the number of the process that is looked at."),
    ROW("cgroup", STRING, cgroup, "", 0, 0,
        "resource: directory of the cgroup (v1 or v2) that is looked at, as in "
        "/sys/fs/cgroup/system.slice/agent.service."),
    ROW("limits", OBJECT, limits, "", 0, 0, "resource: from when on it is used up.",
        .schema = &settings_limits_schema),
    ROW("host", TOKEN, host, "", 0, 0,
        "resource, log: the host (as in the names of replicas, up to 23 bytes) that they are of: only its watchers "
        "look. Empty = "
        "whoever looks after the target, which is right where all run on one host."),
    ROW("path", STRING, path, "", 0, 0, "log: the file; it is followed when it is rotated."),
    ROW("patterns", LIST, patterns, "", 0, 32, "log: what must not come, or not often.",
        .schema = &log_pattern_schema),
    ROW("window", DURATION, window_ms, "1m", SECOND, HOUR, "log: the stretch of time in which lines are counted."),
    ROW("quiet", DURATION, quiet_ms, "0s", 0, 7 * DAY,
        "log: without a line for this long something is wrong; 0s = may be silent."),
    ROW("vantage", INT, vantage, "0", 0, 32,
        "How many watchers probe it, each from its own place; 0 = health.vantage_points."),
    ROW("interval", DURATION, interval_ms, "0s", 0, DAY,
        "Time between probes, 100ms or more. 0s = by type: 10s, for llm 60s because a completion costs money."),
    ROW("fast_interval", DURATION, fast_interval_ms, "2s", 50, HOUR,
        "Time between probes while the verdict is about to change. An outage is seen after `fall` of these."),
    ROW("timeout", DURATION, timeout_ms, "5s", 10, 5 * MINUTE,
        "A probe without a whole answer after this time has failed."),
    ROW("slow", DURATION, slow_ms, "0s", 0, 5 * MINUTE,
        "An answer slower than this makes the target DEGRADED; 0s = never."),
    ROW("fall", INT, fall, "3", 1, 100, "Failures in a row until UNHEALTHY."),
    ROW("rise", INT, rise, "2", 1, 100, "Successes in a row until HEALTHY."),
};

#undef STRUCT
#define STRUCT struct set_breaker
static const struct conf_field breaker_fields[] = {
    ROW("window", DURATION, window_ms, "30s", SECOND, HOUR,
        "Calls of this last stretch of time are counted, in ten buckets."),
    ROW("window_calls", INT, window_calls, "0", 0, 1000000,
        "Instead, the last so many calls are counted, in ten buckets; 0 = by time. Calls older than ten `window`s "
        "are "
        "forgotten all the same."),
    ROW("min_calls", INT, min_calls, "10", 1, 1000000,
        "Fewer calls than this in the window say nothing about shares."),
    ROW("failure_ratio", PERCENT, failure_percent, "50%", 1, 100, "Share of failed calls that opens."),
    ROW("slow_ratio", PERCENT, slow_percent, "50%", 1, 100,
        "Share of slow calls that opens, and that the way back does not pass."),
    ROW("slow", DURATION, slow_ms, "0s", 0, HOUR, "A call that takes longer in all is slow; 0s = off."),
    ROW("slow_first", DURATION, slow_first_ms, "0s", 0, HOUR,
        "A call whose first token takes longer is slow; 0s = off."),
    ROW("consecutive", INT, consecutive, "5", 1, 1000000, "Failures in a row that open, whatever the share."),
    ROW("open", DURATION, open_ms, "30s", 100, DAY, "How long it stays open, times the number of openings in a row."),
    ROW("open_max", DURATION, open_max_ms, "5m", 100, DAY, "The longest that it stays open by itself."),
    ROW("jitter", PERCENT, jitter_percent, "20%", 0, 100,
        "By how much the open time varies, so that not all targets are tried at once."),
    ROW("decay", DURATION, decay_ms, "5m", SECOND, 7 * DAY,
        "After this long closed the number of openings in a row falls by one."),
    ROW("permit", DURATION, permit_ms, "10s", 100, HOUR,
        "How long the holder of the one permitted call may be silent; then the permit is given out again."),
    ROW("ramp_step", DURATION, ramp_step_ms, "30s", 10, HOUR,
        "Length of each step of the way back: 10, 25, 50, 100 % of the calls."),
    ROW("min_reporters", INT, min_reporters, "2", 1, 1000,
        "Once more than one reports, this many must see failures: a lone failing reporter is a broken link."),
    ROW("reporter_rate", INT, reporter_rate, "1000", 0, 1000000,
        "Reports per second that one reporter may send of this target to one replica; more are dropped, and who "
        "sends "
        "them is named. 0 = no limit."),
    ROW("metrics_only", BOOL, metrics_only, "false", 0, 0, "Counts but never opens: for trying new rules."),
};

static const struct conf_schema probe_schema = {"probe", sizeof(struct set_probe), probe_fields, N_OF(probe_fields),
                                                settings_check_probe};
static const struct conf_schema breaker_schema = {"breaker", sizeof(struct set_breaker), breaker_fields,
                                                  N_OF(breaker_fields), settings_check_breaker};

#undef STRUCT
#define STRUCT struct set_intake
static const struct conf_field intake_fields[] = {
    ROW("rate", INT, rate, "0", 0, 100000,
        "Agents per second that may be moved to this model, in all; the others wait in DEGRADED. 0 = no limit."),
    ROW("wave", INT, wave, "10", 1, 100000, "So many of them at once; with `rate` it is a token bucket."),
    ROW("cap", INT, cap, "0", 0, 1000000,
        "Agents that may be on this model at a time; the others go on to the next of their chain. 0 = no limit."),
};
static const struct conf_schema intake_schema = {"intake", sizeof(struct set_intake), intake_fields,
                                                 N_OF(intake_fields), NULL};

#undef STRUCT
#define STRUCT struct set_target
static const char *const target_kinds[] = {
    [SET_TARGET_LLM] = "llm", [SET_TARGET_BACKEND] = "backend", [SET_TARGET_OTHER] = "other", NULL};
static const struct conf_field target_fields[] = {
    ROW("name", TARGET, name, REQUIRED, 0, 0, "Its name in every subject, e.g. llm.openai.gpt-4o."),
    ROW("kind", ENUM, kind, REQUIRED, 0, 0,
        "llm: may stand in an agent's chain. backend: executes an agent's actions. other: watched only.",
        .choices = target_kinds),
    ROW("parent", TARGET, parent, "", 0, 0,
        "A target that this one depends on: while that is UNHEALTHY, nobody is alerted because of this one."),
    ROW("scopes", STRINGS, scopes, "", 0, 4,
        "What it shares with other targets: provider, account, key. When most of those that share it have failed, "
        "the "
        "rest is opened, too.",
        .item = CONF_TARGET),
    ROW("probe", OBJECT, probe, "", 0, 0, "How it is watched.", .schema = &probe_schema),
    ROW("breaker", OBJECT, breaker, "", 0, 0, "When its breaker opens and closes.", .schema = &breaker_schema),
    ROW("intake", OBJECT, intake, "", 0, 0,
        "llm: how fast agents are moved here, so that a whole fleet does not stampede a backup model.",
        .schema = &intake_schema),
};

/* ---- services ---- */

#undef RELOAD
#define RELOAD false
#undef STRUCT
#define STRUCT struct set_health
static const struct conf_field health_fields[] = {
    ROW("vantage_points", INT, vantage_points, "1", 1, 32,
        "How many replicas probe each target. Replicas share the targets among them; more than one place sees more."),
    ROW("confirmers", INT, confirmers, "3", 1, 31,
        "Before a target is called UNHEALTHY, so many replicas look at it; a majority of them decides."),
    ROW("member_ttl", DURATION, member_ttl_ms, "3s", 500, MINUTE,
        "A replica not heard of for this long is gone; the others take over its targets."),
    ROW("at_once", INT, at_once, "256", 1, 65536,
        "Probes that may be under way at a time; the others wait their turn."),
};
static const struct conf_schema health_schema = {"health", sizeof(struct set_health), health_fields,
                                                 N_OF(health_fields), NULL};

#undef STRUCT
#define STRUCT struct set_fallback
static const struct conf_field fallback_fields[] = {
    ROW("lease_ttl", DURATION, lease_ttl_ms, "3s", 500, MINUTE,
        "How long a dead replica keeps its lease; another orchestrates after it."),
    ROW("member_ttl", DURATION, member_ttl_ms, "3s", 500, MINUTE,
        "A replica not heard of for this long is gone; the others take over its agents."),
    ROW("fence", DURATION, fence_ms, "6s", 100, 5 * MINUTE,
        "How long a freeze waits for each guard to say that nothing older is under way. Longer than any call to a "
        "backend may take (`actions.timeout`), so that a silent guard has nothing in hand any more."),
};

#undef RELOAD
#define RELOAD true
#undef STRUCT
#define STRUCT struct set_baseline
static const struct conf_field baseline_fields[] = {
    ROW("path", STRING, path, "", 1, 400,
        "The security baseline: which actions agents may take, YAML, with its sign-off beside it (PATH.signoff, by "
        "`redoubt baseline sign`). Empty, unreadable or changed: the strict built-in, which allows no action."),
    ROW("public_key", STRING, public_key, "", 1, 64,
        "Ed25519 key, base64, by which the sign-off must be signed; empty = its hash alone counts."),
    ROW("check", DURATION, check_ms, "5s", 50, HOUR, "How often the file is looked at for changes."),
};
static const struct conf_schema baseline_schema = {"baseline", sizeof(struct set_baseline), baseline_fields,
                                                   N_OF(baseline_fields), NULL};

#undef STRUCT
#define STRUCT struct set_queue
static const struct conf_field queue_fields[] = {
    ROW("per_agent", INT, per_agent, "10000", 1, 10000000, "Actions of one agent that may wait."),
    ROW("max_age", DURATION, max_age_ms, "24h", SECOND, 30 * DAY,
        "Older ones are not replayed: 24 hours, the longest that degraded mode may last."),
    ROW("replay_rate", INT, replay_rate, "50", 1, 100000,
        "Actions per second that are replayed after a recovery, over all agents and replicas."),
    ROW("dead_after", INT, dead_after, "5", 1, 1000,
        "Tries that the backend refuses until an action goes to the dead letters, with an alert."),
    ROW("retry", DURATION, retry_ms, "2s", 10, MINUTE, "First pause after a failed try, doubling up to 60s."),
};
static const struct conf_schema queue_schema = {"queue", sizeof(struct set_queue), queue_fields, N_OF(queue_fields),
                                                NULL};

#undef RELOAD
#define RELOAD false
#undef STRUCT
#define STRUCT struct set_guard
static const struct conf_field guard_fields[] = {
    ROW("idempotency", DURATION, idempotency_ms, "24h", MINUTE, 30 * DAY,
        "A key is known for this long; no less than queue.max_age is used."),
    ROW("at_once", INT, at_once, "256", 1, 65536, "Calls to backends that may be under way at a time."),
    ROW("lease_ttl", DURATION, lease_ttl_ms, "3s", 500, MINUTE,
        "How long a dead replica keeps its leases; another replays its agents' queues after it."),
    ROW("member_ttl", DURATION, member_ttl_ms, "3s", 500, MINUTE, "A replica not heard of for this long is gone."),
    ROW("queue", OBJECT, queue, "", 0, 0, "Actions that wait for their backend.", .schema = &queue_schema),
};
static const struct conf_schema guard_schema = {"guard", sizeof(struct set_guard), guard_fields, N_OF(guard_fields),
                                                settings_check_guard};

/* ---- all of it ---- */

#undef STRUCT
#define STRUCT struct settings
static const struct conf_schema nats_schema = {"nats", sizeof(struct set_nats), nats_fields, N_OF(nats_fields),
                                               settings_check_nats};
static const struct conf_schema redis_schema = {"redis", sizeof(struct set_redis), redis_fields, N_OF(redis_fields),
                                                settings_check_redis};
static const struct conf_schema log_schema = {"log", sizeof(struct set_log), log_fields, N_OF(log_fields), NULL};
static const struct conf_schema target_schema = {"target", sizeof(struct set_target), target_fields,
                                                 N_OF(target_fields), NULL};
static const struct conf_schema fallback_schema = {"fallback", sizeof(struct set_fallback), fallback_fields,
                                                   N_OF(fallback_fields), NULL};

static const struct conf_field settings_fields[] = {
    ROW("nats", OBJECT, nats, "", 0, 0, "The message bus.", .schema = &nats_schema),
    ROW("redis", OBJECT, redis, "", 0, 0, "The shared state.", .schema = &redis_schema),
    ROW("log", OBJECT, log, "", 0, 0, "What is written to stderr.", .schema = &log_schema),
    ROW("data_dir", STRING, data_dir, "/var/lib/redoubt", 1, 400,
        "Where services keep outboxes and the trail; every replica takes a directory of its own below it."),
#undef RELOAD
#define RELOAD true
    ROW("tilt_hold", DURATION, tilt_hold_ms, "30s", 0, HOUR,
        "After a jump of the clock or a long pause a service watches on, but takes no action for this long."),
    ROW("targets", LIST, targets, "", 0, 200000, "LLM APIs, backends and whatever else is watched and has a breaker.",
        .schema = &target_schema),
    ROW("agents", LIST, agents, "", 0, 20000, "The agents under protection.", .schema = &settings_agent_schema),
#undef RELOAD
#define RELOAD false
    ROW("health", OBJECT, health, "", 0, 0, "The service that watches.", .schema = &health_schema),
    ROW("fallback", OBJECT, fallback, "", 0, 0, "The service that moves agents between postures.",
        .schema = &fallback_schema),
    ROW("baseline", OBJECT, baseline, "", 0, 0, "The security baseline.", .schema = &baseline_schema),
    ROW("guard", OBJECT, guard, "", 0, 0, "The gate that agents' actions pass.", .schema = &guard_schema),
    ROW("alert", OBJECT, alert, "", 0, 0, "Who is told, and how.", .schema = &settings_alert_schema),
    ROW("audit", OBJECT, audit, "", 0, 0, "The trail.", .schema = &settings_audit_schema),
    ROW("rollback", OBJECT, rollback, "", 0, 0, "Versions of what is deployed, and the way back to one.",
        .schema = &settings_rollback_schema),
    ROW("continuity", OBJECT, continuity, "", 0, 0, "Incidents, objectives, backups, drills, reports.",
        .schema = &settings_continuity_schema),
};
const struct conf_schema settings_schema = {"settings", sizeof(struct settings), settings_fields,
                                            N_OF(settings_fields), settings_check_all};

struct settings *settings_load(const char *path, struct conf_report *r)
{
    struct settings *s = conf_load(&settings_schema, path, r);
    if (s)
        (void)settings_index_make(s); /* without it look-ups take longer, no more */
    return s;
}

void settings_free(struct settings *s)
{
    if (s)
        settings_index_free(s);
    conf_free(&settings_schema, s);
}

bool settings_probe_same(const struct set_probe *a, const struct set_probe *b)
{
    return conf_same(&probe_schema, a, b);
}
