/* settings_rollback.c - the rows of `rollback`: deployments, how they are run, how traffic moves, what is checked. */
#include "common/settings_impl.h"

/* Executor, traffic and checks are looked at anew for each job, never in the middle of one: a reload changes the next. */
#undef RELOAD
#define RELOAD true

/* ---- executors ---- */

#define STRUCT struct set_rb_docker
static const struct conf_field docker_fields[] = {
    ROW("socket", STRING, socket, "/var/run/docker.sock", 1, 100, "The Docker Engine's unix socket."),
    ROW("container", STRING, container, "", 1, 128, "The container by its name. Or a `service` of compose."),
    ROW("project", STRING, project, "", 1, 128,
        "Compose project; empty = the one that redoubt-rollback itself runs in."),
    ROW("service", STRING, service, "", 1, 128, "Compose service; all its containers carry the deployment."),
    ROW("port", INT, port, "0", 0, 65535, "Where the agent listens inside its container; 0 = nowhere."),
    ROW("network", STRING, network, "", 1, 128,
        "The network whose address is given to traffic and checks; empty = its first."),
    ROW("stop", DURATION, stop_ms, "30s", SECOND, HOUR,
        "A container that is stopped has this long, then it is killed."),
    ROW("ready", DURATION, ready_ms, "60s", SECOND, HOUR,
        "A new container must be running, and healthy if it has a health check, within this time."),
    ROW("keep_repository", STRING, keep_repository, "redoubt/keep", 1, 128,
        "Images of kept versions get a tag in this repository, so that no clean-up takes them."),
    ROW("leave_out_unsupported", BOOL, force_unsupported, "false", 0, 0,
        "What cannot be carried over to a new container (compose configs) is left out and said, instead of refused."),
};
static const struct conf_schema docker_schema = {"docker", sizeof(struct set_rb_docker), docker_fields,
                                                 N_OF(docker_fields), NULL};

#undef STRUCT
#define STRUCT struct set_rb_kubernetes
static const struct conf_field kubernetes_fields[] = {
    ROW("server", STRING, server, "", 1, 512, "https://host:port of the API; empty = of kubeconfig, or of the pod."),
    ROW("kubeconfig", STRING, kubeconfig, "", 1, 0, "A kubeconfig file; empty = the pod's ServiceAccount."),
    ROW("context", STRING, context, "", 1, 253, "Its context; empty = the current one."),
    ROW("ca_file", STRING, ca_file, "", 1, 0, "PEM file of the API's authority; empty = the pod's, or kubeconfig's."),
    ROW("token_file", STRING, token_file, "", 1, 0,
        "Bearer token, read again before each call since it rotates; empty = the pod's, or kubeconfig's."),
    ROW("namespace", STRING, namespace, "", 1, 63, "Empty = the pod's own, or kubeconfig's, or `default`."),
    ROW("deployment", STRING, deployment, "", 1, 253, "The Deployment that carries the traffic."),
    ROW("canary", STRING, canary, "", 1, 253,
        "A second Deployment behind the same Service, which carries the other version while both run. Empty = one "
        "Deployment, whose image is patched and whose rollout is followed."),
    ROW("container", STRING, container, "", 1, 63, "In the pod; empty = the first."),
    ROW("rollout", DURATION, rollout_ms, "10m", SECOND, DAY, "A rollout that takes longer has failed."),
    ROW("timeout", DURATION, timeout_ms, "10s", 100, 5 * MINUTE, "Of one call."),
};
static const struct conf_schema kubernetes_schema = {"kubernetes", sizeof(struct set_rb_kubernetes),
                                                     kubernetes_fields, N_OF(kubernetes_fields), NULL};

/* A program of `exec_allowed` with its arguments. */
#define PROGRAM(key, member, help) ROW(key, STRINGS, member, "", 1, 64, help, .item = CONF_STRING)
#undef STRUCT
#define STRUCT struct set_rb_exec
static const struct conf_field exec_fields[] = {
    PROGRAM("view", view, "Prints what runs as JSON (services/rollback/README.md has its form)."),
    PROGRAM("check", check, "Ends with 0 if {{version}} could be started; prints why not."),
    PROGRAM("up", up,
            "Starts {{count}} instances of {{version}} on {{side}}, with its spec on stdin, if they do not run."),
    PROGRAM("stop", stop, "Stops the instances of {{version}} and leaves them there."),
    PROGRAM("start", start, "Starts what was stopped."),
    PROGRAM("settle", settle, "{{version}} takes the deployment's own place. None = nothing to do."),
    PROGRAM("remove", remove, "Removes the instances of {{version}}; never data."),
    PROGRAM("keep", keep,
            "Keeps ({{keep}} = true) the artefact of {{version}} from clean-up, or no longer. None = nothing to do."),
    PROGRAM("run", run,
            "Runs the command on stdin in {{version}}: the down-migration. None = there is no such thing."),
    ROW("timeout", DURATION, timeout_ms, "60s", 100, HOUR, "A program that takes longer is ended, and has failed."),
};
static const struct conf_schema exec_schema = {"exec", sizeof(struct set_rb_exec), exec_fields, N_OF(exec_fields),
                                               NULL};

/* ---- traffic ---- */

#undef STRUCT
#define STRUCT struct set_rb_traffic
static const char *const traffics[] = {[SET_TRAFFIC_NONE] = "none",
                                       [SET_TRAFFIC_HAPROXY] = "haproxy",
                                       [SET_TRAFFIC_REPLICAS] = "replicas",
                                       [SET_TRAFFIC_HTTPROUTE] = "httproute",
                                       [SET_TRAFFIC_NATS] = "nats",
                                       [SET_TRAFFIC_WEBHOOK] = "webhook",
                                       NULL};
static const struct conf_field traffic_fields[] = {
    ROW("type", ENUM, type, "none", 0, 0,
        "haproxy: weights by its runtime API. replicas: by the numbers of pods of two Deployments. httproute: "
        "weights "
        "of a Gateway API HTTPRoute. nats: agents take a share of the work by message. webhook: a program of yours. "
        "none: all or nothing.",
        .choices = traffics),
    ROW("address", STRING, address, "", 1, 200, "haproxy: unix:///path of its socket, or tcp://host:port."),
    ROW("backend", STRING, backend, "", 1, 128, "haproxy: the backend."),
    ROW("side_0", STRINGS, side_0, "", 1, 64,
        "haproxy: its servers for the one side; instance i of that side is server i. httproute: its Service.",
        .item = CONF_STRING),
    ROW("side_1", STRINGS, side_1, "", 1, 64, "The same for the other side.", .item = CONF_STRING),
    ROW("set_address", BOOL, set_address, "true", 0, 0,
        "haproxy: servers are given the addresses of the instances. false: they are found by name already."),
    ROW("route", STRING, route, "", 1, 253, "httproute: its name."),
    ROW("rule", INT, rule, "0", 0, 15, "httproute: which of its rules, from 0."),
    ROW("url", STRING, url, "", 1, 0, "webhook: PUT sets the shares, GET reads them."),
    ROW("token", SECRET, token, "", 0, 0, "webhook: bearer token."),
    ROW("timeout", DURATION, timeout_ms, "2s", 100, MINUTE, "Of one exchange."),
};
static const struct conf_schema traffic_schema = {"traffic", sizeof(struct set_rb_traffic), traffic_fields,
                                                  N_OF(traffic_fields), NULL};

/* ---- checks ---- */

#undef STRUCT
#define STRUCT struct set_rb_check
static const char *const checks[] = {[SET_CHECK_COMMAND] = "command",
                                     [SET_CHECK_HTTP] = "http",
                                     [SET_CHECK_KNOWN] = "known",
                                     [SET_CHECK_PROMETHEUS] = "prometheus",
                                     [SET_CHECK_JSON] = "json",
                                     [SET_CHECK_NATS] = "nats",
                                     NULL};
static const char *const classes[] = {
    [SET_CLASS_SECURITY] = "security", [SET_CLASS_PERFORMANCE] = "performance", [SET_CLASS_ERRORS] = "errors", NULL};
static const struct conf_field check_fields[] = {
    ROW("name", TOKEN, name, REQUIRED, 0, 0, "Its name in events and alerts."),
    ROW("type", ENUM, type, REQUIRED, 0, 0,
        "command: a program of `exec_allowed` that ends with 0 (the agent's health check). http: a request. known: "
        "an "
        "event with one right decision, POSTed. prometheus: an instant query of its HTTP API. json: a value of a "
        "JSON "
        "document. nats: requests and errors of a service in $SRV.STATS.",
        .choices = checks),
    ROW("class", ENUM, check_class, "errors", 0, 0,
        "What a failure means. security: one is a regression. performance: three in a row. errors: four in a row.",
        .choices = classes),
    PROGRAM("command", command, "command: a program and its arguments."),
    ROW("url", STRING, url, "", 1, 0,
        "{{address}}, {{version}}, {{digest}} and {{side}} are filled in. prometheus: base URL of the server."),
    ROW("body", STRING, body, "", 0, 16384, "known, http: what is POSTed."),
    ROW("headers", STRINGS, headers, "", 0, 16, "`Name: value` each; values are not shown.", .item = CONF_SECRET),
    ROW("expect_json", LIST, expect_json, "", 0, 32, "known, http: values that the answer must hold.",
        .schema = &settings_expect_json_schema),
    ROW("query", STRING, query, "", 1, 4096,
        "prometheus: PromQL, json: a JSONPath. The value; with `query_total`: the failures so far, a counter."),
    ROW("query_total", STRING, query_total, "", 1, 4096,
        "The calls so far, a counter: shares are compared, exactly."),
    ROW("service", STRING, service, "", 1, 64, "nats: name of the service; its version says which version it is."),
    ROW("most", STRING, most, "", 1, 32,
        "A value (of counts: a share, as 0.01) above this is a failure. Empty = it is only compared."),
    ROW("compare", BOOL, compare, "true", 0, 0, "Compared with the former version over the same time."),
    ROW("worse", PERCENT, ratio_percent, "20%", 0, 100,
        "Values: worse than the former version's by more than this is a failure."),
    ROW("min_samples", INT, min_samples, "20", 1, 1000000, "Counts: fewer calls in a step say nothing."),
    ROW("limit", INT, limit, "-1", -1, 100,
        "So many failures in a row are a regression, 0 = the first; -1 = by class."),
    ROW("suite", BOOL, suite, "false", 0, 0, "Only in the final verification: what takes long."),
    ROW("timeout", DURATION, timeout_ms, "10s", 10, 10 * MINUTE, "An answer that takes longer is none."),
    ROW("ca_file", STRING, ca_file, "", 1, 0, "PEM file of the authorities for https; empty = the system's."),
};
static const struct conf_schema check_schema = {"check", sizeof(struct set_rb_check), check_fields,
                                                N_OF(check_fields), settings_check_rb_check};

/* ---- learning data ---- */

#undef STRUCT
#define STRUCT struct set_rb_data
static const struct conf_field data_fields[] = {
    ROW("repository", STRING, repository, "", 1, 0,
        "A restic repository: a directory, s3:..., sftp:.... Empty = there are no learning data."),
    ROW("password_file", STRING, password_file, "", 1, 0, "File with the repository's password."),
    ROW("env", STRINGS, env, "", 0, 16, "NAME=value for restic, as AWS_ACCESS_KEY_ID; values are not shown.",
        .item = CONF_SECRET),
    ROW("path", STRINGS, path, "", 1, 16, "Directories of the learning data, as this service sees them.",
        .item = CONF_STRING),
    PROGRAM("pause", pause,
            "A program that has the writer pause; or `pause_url`. None = the data are saved while it writes."),
    PROGRAM("resume", resume, "And go on again."),
    ROW("pause_url", STRING, pause_url, "", 1, 0, "POSTed to, {{address}} is filled in."),
    ROW("resume_url", STRING, resume_url, "", 1, 0, "The same."),
    PROGRAM(
        "migrate", migrate,
        "Run in the newer version's image before an older one with a lower data schema starts: {{from_schema}} and "
        "{{to_schema}} are filled in. None = an older snapshot is restored instead."),
    ROW("stream", STRING, stream, "REDOUBT_AUDIT", 0, 64,
        "The stream whose position is noted with each snapshot; empty = none."),
    ROW("read_back", PERCENT, read_percent, "100%", 0, 100,
        "How much of the repository is read back to verify a snapshot. The snapshot's own files are always "
        "compared."),
    ROW("pause_limit", DURATION, pause_limit_ms, "60s", 100, HOUR,
        "The writer goes on after this, come what may; the snapshot has failed then."),
    ROW("timeout", DURATION, timeout_ms, "30m", SECOND, DAY, "Of one run of restic."),
};
static const struct conf_schema data_schema = {"data", sizeof(struct set_rb_data), data_fields, N_OF(data_fields),
                                               settings_check_rb_data};

#undef STRUCT
#define STRUCT struct set_rb_auto
static const struct conf_field auto_fields[] = {
    ROW("enabled", BOOL, enabled, "false", 0, 0, "Roll back by itself. Never away from what a rollback has brought."),
    ROW("within", DURATION, within_ms, "15m", SECOND, 7 * DAY, "A regression so soon after a deployment."),
};
static const struct conf_schema auto_schema = {"automatic", sizeof(struct set_rb_auto), auto_fields,
                                               N_OF(auto_fields), NULL};

/* ---- deployments ---- */

#undef STRUCT
#define STRUCT struct set_deployment
static const char *const executors[] = {
    [SET_EXECUTOR_DOCKER] = "docker", [SET_EXECUTOR_KUBERNETES] = "kubernetes", [SET_EXECUTOR_EXEC] = "exec", NULL};
static const struct conf_field deployment_fields[] = {
    ROW("name", TOKEN, name, REQUIRED, 0, 0, "Its name in commands and events."),
    ROW("agent", TOKEN, agent, "", 0, 0, "The agent that it carries; empty = none of `agents`."),
    ROW("executor", ENUM, executor, "docker", 0, 0, "Who runs it.", .choices = executors),
    ROW("docker", OBJECT, docker, "", 0, 0, "executor docker.", .schema = &docker_schema),
    ROW("kubernetes", OBJECT, kubernetes, "", 0, 0, "executor kubernetes.", .schema = &kubernetes_schema),
    ROW("exec", OBJECT, exec, "", 0, 0, "executor exec.", .schema = &exec_schema),
    ROW("traffic", OBJECT, traffic, "", 0, 0, "How traffic moves.", .schema = &traffic_schema),
    ROW("checks", LIST, checks, "", 0, 32, "What is asked of both versions at every step.", .schema = &check_schema),
    ROW("data", OBJECT, data, "", 0, 0, "The learning data.", .schema = &data_schema),
    ROW("automatic", OBJECT, automatic, "", 0, 0, "A rollback without a person.", .schema = &auto_schema),
    ROW("steps", STRINGS, steps, "", 0, 16,
        "Shares of traffic that stay on the former version, falling, the last 0%. None = 100%, 50%, 25%, 10%, 0%.",
        .item = CONF_STRING),
    ROW("step", DURATION, step_ms, "30s", 100, DAY, "Each step is observed for this long."),
    ROW("check_every", DURATION, check_every_ms, "5s", 50, HOUR, "How often the checks are made meanwhile."),
    ROW("capacity_wait", DURATION, capacity_ms, "5m", SECOND, DAY, "Longest wait for capacity, then the job holds."),
    ROW("drain", DURATION, drain_ms, "30s", 0, DAY, "What the former version has in hand may take this long to end."),
    ROW("watch", DURATION, watch_ms, "120s", 100, DAY, "The final watch; only then is the former version removed."),
    ROW("settle", DURATION, settle_ms, "10s", 100, DAY, "A version is verified when it was healthy for this long."),
    ROW("keep", INT, keep, "3", 1, 8, "Verified versions that are kept besides the current one."),
    ROW("floor", STRING, floor, "", 1, 128,
        "The minimum secure version, by name or id: what was recorded before it is refused unless forced."),
    ROW("rejected", STRINGS, rejected, "", 0, 32, "Versions (names or ids) that are refused unless forced.",
        .item = CONF_STRING),
};
static const struct conf_schema deployment_schema = {"deployment", sizeof(struct set_deployment), deployment_fields,
                                                     N_OF(deployment_fields), settings_check_deployment};

#undef STRUCT
#define STRUCT struct set_rollback
static const struct conf_field rollback_fields[] = {
    ROW("deployments", LIST, deployments, "", 0, 1000, "What can be rolled back.", .schema = &deployment_schema),
    ROW("exec_allowed", STRINGS, exec_allowed, "", 0, 64,
        "Programs that may be run, by their absolute paths; only root and this service's user may be able to write "
        "them.",
        .item = CONF_STRING),
    ROW("observe", DURATION, observe_ms, "10s", 200, HOUR, "How often deployments are looked at when no job runs."),
    ROW("check_kept", DURATION, check_kept_ms, "10m", 0, DAY,
        "How often is looked whether kept versions could still be brought up; 0 = never."),
    ROW("at_once", INT, at_once, "16", 1, 1024,
        "Deployments without a job that may be looked at at a time. Those of jobs do not count."),
    ROW("lease_ttl", DURATION, lease_ttl_ms, "3s", 300, MINUTE,
        "A replica that is gone is replaced after this time."),
    ROW("member_ttl", DURATION, member_ttl_ms, "3s", 300, MINUTE, "The same for its share of the deployments."),
};
const struct conf_schema settings_rollback_schema = {"rollback", sizeof(struct set_rollback), rollback_fields,
                                                     N_OF(rollback_fields), settings_check_rollback};
