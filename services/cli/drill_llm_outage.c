/* drill_llm_outage.c - a whole LLM outage, there and back, on real parts with real kills, as a table of steps. */
#include "cli/drill_llm_outage.h"
#include "audit/audit_verify.h"
#include "cli/event_line.h"
#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define PBE(x)        REDOUBT__V1__##x
#define AGENT         "mcp-security-agent"
#define PRIMARY       "llm.sim.primary"
#define BACKUP        "llm.sim.backup"
#define BACKEND       "backend.sim"
#define PRIMARY_MODEL "gpt-4o"
#define BACKUP_MODEL  "gpt-3.5-turbo"
#define OVERRIDE_MS   3600000 /* one hour: what the suite asks of the backend by default */

/* ---- marks: messages ---- */

static bool is(const void *message, const ProtobufCMessageDescriptor *desc)
{
    return ((const ProtobufCMessage *)message)->descriptor == desc;
}

static void describe(const void *message, char *detail, size_t size)
{
    struct event_line l;
    if (event_line(message, &l))
        snprintf(detail, size, "%s", l.text);
}

static bool healthy(struct drill *d, const struct drill_mark *m, const void *message, char *detail, size_t size)
{
    (void)d, (void)detail, (void)size;
    const PB(HealthChanged) *h = message;
    return is(message, PB_DESC(health_changed)) && strcmp(h->target, m->who) == 0 && (int)h->state == m->what;
}

static bool breaker(struct drill *d, const struct drill_mark *m, const void *message, char *detail, size_t size)
{
    (void)d;
    const PB(BreakerChanged) *b = message;
    if (!is(message, PB_DESC(breaker_changed)) || strcmp(b->target, m->who) != 0 || (int)b->state != m->what)
        return false;
    describe(message, detail, size);
    return true;
}

static bool directive(struct drill *d, const struct drill_mark *m, const void *message, char *detail, size_t size)
{
    struct drill_llm_outage *o = d->state;
    const PB(Directive) *x = message;
    if (!is(message, PB_DESC(directive)) || !x->state || strcmp(x->state->agent, AGENT) != 0 ||
        (int)x->state->posture != m->what || strcmp(x->state->llm_target, m->llm) != 0)
        return false;
    o->epoch = x->state->epoch;
    describe(message, detail, size);
    return true;
}

/* The agent's word on the directive that was just waited for, or on a later one of the same contents. */
static bool ack(struct drill *d, const struct drill_mark *m, const void *message, char *detail, size_t size)
{
    const struct drill_llm_outage *o = d->state;
    const PB(DirectiveAck) *a = message;
    if (!is(message, PB_DESC(directive_ack)) || o->epoch == 0 || a->epoch < o->epoch ||
        a->status == PBE(ACK_STATUS__ACK_STATUS_FAILED) || strcmp(a->llm_target, m->llm) != 0)
        return false;
    describe(message, detail, size);
    return true;
}

static bool good_call(const PB(OutcomeReport) * r, const char *target)
{
    return !r->probe && strcmp(r->reporter, AGENT) == 0 && strcmp(r->target, target) == 0 &&
           r->outcome == PBE(OUTCOME__OUTCOME_SUCCESS);
}

/* A completion that the agent could use, from the LLM where it belongs now. */
static bool works(struct drill *d, const struct drill_mark *m, const void *message, char *detail, size_t size)
{
    (void)d, (void)detail, (void)size;
    if (is(message, PB_DESC(outcome_report)))
        return good_call(message, m->who);
    const PB(OutcomeBatch) *b = message;
    for (size_t i = 0; is(message, PB_DESC(outcome_batch)) && i < b->n_reports; i++)
        if (good_call(b->reports[i], m->who))
            return true;
    return false;
}

static bool fallback_alert(struct drill *d, const struct drill_mark *m, const void *message, char *detail,
                           size_t size)
{
    struct drill_llm_outage *o = d->state;
    const PB(Alert) *a = message;
    if (!is(message, PB_DESC(alert)) || a->resolved || (int)a->severity < m->what || strcmp(a->agent, AGENT) != 0)
        return false;
    for (size_t i = 0; i < a->n_actions_taken; i++) {
        if (strcmp(a->actions_taken[i], m->who) == 0) {
            snprintf(o->alert_id, sizeof o->alert_id, "%s", a->id);
            describe(message, detail, size);
            return true;
        }
    }
    return false;
}

/* Of whichever alert. */
static bool any_receipt(struct drill *d, const struct drill_mark *m, const void *message, char *detail, size_t size)
{
    (void)d;
    const PB(DeliveryReceipt) *r = message;
    if (!is(message, PB_DESC(delivery_receipt)) || strcmp(r->channel, m->who) != 0 || (int)r->status != m->what)
        return false;
    describe(message, detail, size);
    return true;
}

/* Of the security fallback's alert. */
static bool receipt(struct drill *d, const struct drill_mark *m, const void *message, char *detail, size_t size)
{
    const struct drill_llm_outage *o = d->state;
    const PB(DeliveryReceipt) *r = message;
    return is(message, PB_DESC(delivery_receipt)) && strcmp(r->alert_id, o->alert_id) == 0 &&
           any_receipt(d, m, message, detail, size);
}

/* ---- marks: what the simulators have seen ---- */

/* Last request of the backend whose path ends with m->who. */
static const json_t *last_request(const struct drill *d, const char *path)
{
    const json_t *list = json_object_get(drill_page(d, "backend"), "requests");
    const json_t *found = NULL, *r;
    size_t i;
    json_array_foreach((json_t *)list, i, r)
    {
        const char *p = json_string_value(json_object_get(r, "path"));
        if (p && strcmp(p, path) == 0)
            found = r;
    }
    return found;
}

static bool override_active(struct drill *d, const struct drill_mark *m, char *detail, size_t size)
{
    const json_t *r = last_request(d, m->who);
    const json_t *state = json_object_get(drill_page(d, "backend"), "override");
    json_t *body = json_loads(
        json_string_value(json_object_get(r, "body")) ? json_string_value(json_object_get(r, "body")) : "", 0, NULL);
    bool yes = r && json_is_true(json_object_get(state, "active")) &&
               json_integer_value(json_object_get(body, "duration")) == m->what;
    const char *why = json_string_value(json_object_get(body, "justification"));
    if (yes)
        snprintf(detail, size, "POST %s duration %d: %s", m->who, m->what, why ? why : "");
    json_decref(body);
    return yes;
}

static bool override_released(struct drill *d, const struct drill_mark *m, char *detail, size_t size)
{
    const json_t *state = json_object_get(drill_page(d, "backend"), "override");
    bool yes = last_request(d, m->who) && json_is_false(json_object_get(state, "active"));
    if (yes)
        snprintf(detail, size, "POST %s", m->who);
    return yes;
}

static bool file_has_alert(struct drill *d, const struct drill_mark *m, char *detail, size_t size)
{
    const struct drill_llm_outage *o = d->state;
    char path[2 * DRILL_PATH], line[16384];
    bool found = false;
    snprintf(path, sizeof path, "%s/%s", d->stack.dir, m->who);
    FILE *f = *o->alert_id ? fopen(path, "re") : NULL;
    while (f && !found && fgets(line, sizeof line, f))
        found = strstr(line, o->alert_id) != NULL;
    if (f)
        fclose(f);
    snprintf(detail, size, "%s", path);
    return found;
}

/* ---- the trail ---- */

static bool trail_whole(struct drill *d, const struct drill_mark *m, char *detail, size_t size)
{
    char path[3 * DRILL_PATH];
    struct err e = {""};
    uint64_t records = 0, trails = 0;
    snprintf(path, sizeof path, "%s/data/audit", d->stack.dir);
    DIR *dir = opendir(path);
    struct audit_report *r = calloc(1, sizeof *r);
    for (struct dirent *f; dir && r && !d->failed && (f = readdir(dir));) {
        if (f->d_name[0] == '.')
            continue;
        snprintf(path, sizeof path, "%s/data/audit/%s", d->stack.dir, f->d_name);
        *r = (struct audit_report){0};
        int found = audit_verify(path, NULL, r, &e);
        if (found != 0) {
            d->failed = true;
            snprintf(d->why, sizeof d->why, "%s: %s", path, found < 0 ? e.text : r->problems[0].what);
        }
        records += r->records;
        trails++;
    }
    if (dir)
        closedir(dir);
    free(r);
    snprintf(detail, size, "%" PRIu64 " records, %" PRIu64 " trail%s", records, trails, trails == 1 ? "" : "s");
    return !d->failed && records >= (uint64_t)m->what;
}

/* ---- the stack ---- */

static int write_settings(struct drill *d, int nats, int redis, struct err *e)
{
    const struct drill_llm_outage *o = d->state;
    char text[8192], redis_conf[2048], nats_conf[2048];
    /* Fast enough for a minute, and otherwise as anybody would write it. */
    snprintf(nats_conf, sizeof nats_conf, "listen: \"127.0.0.1:%d\"\njetstream: { store_dir: \"%s/nats\" }\n", nats,
             d->stack.dir);
    snprintf(redis_conf, sizeof redis_conf,
             "bind 127.0.0.1\nport %d\ndir \"%s/redis\"\nappendonly yes\nappendfsync everysec\nsave \"\"\n"
             "daemonize no\n",
             redis, d->stack.dir);
    snprintf(
        text, sizeof text,
        "# Made by `redoubt drill llm-outage`.\n"
        "nats: { url: \"nats://127.0.0.1:%d\" }\n"
        "redis: { host: 127.0.0.1, port: %d }\n"
        "data_dir: \"%s/data\"\n"
        "targets:\n"
        "  - name: " PRIMARY "\n"
        "    kind: llm\n"
        "    probe: { type: llm, url: \"http://127.0.0.1:%d/v1\", model: " PRIMARY_MODEL
        ", interval: 1s, fast_interval: 300ms, timeout: 1s }\n"
        "    breaker: &fast { window: 10s, consecutive: 3, open: 1s, open_max: 2s, permit: 2s, ramp_step: 500ms }\n"
        "  - name: " BACKUP "\n"
        "    kind: llm\n"
        "    probe: { type: llm, url: \"http://127.0.0.1:%d/v1\", model: " BACKUP_MODEL
        ", interval: 1s, fast_interval: 300ms, timeout: 1s }\n"
        "    breaker: *fast\n"
        "  - name: " BACKEND "\n"
        "    kind: backend\n"
        "    probe: { type: http, url: \"http://127.0.0.1:%d/health\", interval: 1s, fast_interval: 300ms, timeout: "
        "1s }\n"
        "    breaker: *fast\n"
        "agents:\n"
        "  - name: " AGENT "\n"
        "    chain:\n"
        "      - { target: " PRIMARY ", model: " PRIMARY_MODEL " }\n"
        "      - { target: " BACKUP ", model: " BACKUP_MODEL " }\n"
        "    backend: " BACKEND "\n"
        "    override: { url: \"http://127.0.0.1:%d\", retry: 500ms }\n"
        "    heartbeat: 500ms\n"
        "    ack: 500ms\n"
        "    restore_hold: 1s\n"
        "    backend_step: 500ms\n"
        "alert:\n"
        "  channels:\n"
        "    - { name: email, type: email, url: \"smtp://127.0.0.1:%d\", from: redoubt@example.org, "
        "to: [ops@example.org], attempt: 2s, tries: 2 }\n"
        "    - { name: slack, type: slack, url: \"http://127.0.0.1:%d/webhook\", attempt: 2s, tries: 2 }\n"
        "    - { name: record, type: file, path: \"%s/alerts.jsonl\" }\n"
        "  routes:\n"
        "    - { min_severity: info, channels: [email, slack, record] }\n",
        nats, redis, d->stack.dir, o->llm_ports[0], o->llm_ports[1], o->backend_port, o->backend_port, o->smtp_port,
        o->slack_port, d->stack.dir);
    return drill_stack_write(&d->stack, "nats.conf", nats_conf, e) ||
                   drill_stack_write(&d->stack, "redis.conf", redis_conf, e) ||
                   drill_stack_write(&d->stack, "redoubt.yaml", text, e)
               ? -1
               : 0;
}

static int prepare(struct drill *d, struct err *e)
{
    struct drill_llm_outage *o = d->state;
    struct drill_stack *s = &d->stack;
    static const char *const services[] = {"audit", "alert", "breaker", "fallback", "health"};
    static const char *const llm_names[2] = {"llm-primary", "llm-backup"};
    static const char *const models[2] = {PRIMARY_MODEL, BACKUP_MODEL};
    char port[16], path[2 * DRILL_PATH], program[64], url[128], self[DRILL_PATH];
    if (drill_stack_self(self, sizeof self, e))
        return -1;
    int nats = drill_stack_port(s), redis = drill_stack_port(s);
    o->backend_port = drill_stack_port(s);
    o->slack_port = drill_stack_port(s);
    o->smtp_port = drill_stack_port(s);
    o->llm_ports[0] = drill_stack_port(s);
    o->llm_ports[1] = drill_stack_port(s);
    if (o->llm_ports[1] < 0)
        return err_set(e, "no free loopback ports");
    snprintf(d->nats_url, sizeof d->nats_url, "nats://127.0.0.1:%d", nats);
    if (write_settings(d, nats, redis, e))
        return -1;
    snprintf(path, sizeof path, "%s/nats.conf", s->dir);
    if (!drill_stack_define(s, "nats", nats, DRILL_ARGV("nats-server", "-c", path), e))
        return -1;
    snprintf(path, sizeof path, "%s/redis.conf", s->dir);
    if (!drill_stack_define(s, "redis", redis, DRILL_ARGV("redis-server", path), e))
        return -1;
    snprintf(o->settings, sizeof o->settings, "%s/redoubt.yaml", s->dir);
    for (size_t i = 0; i < sizeof services / sizeof services[0]; i++) {
        snprintf(program, sizeof program, "redoubt-%s", services[i]);
        if (!drill_stack_define(s, services[i], 0, DRILL_ARGV(program, "-c", o->settings), e))
            return -1;
    }
    for (int i = 0; i < 2; i++) {
        snprintf(port, sizeof port, "%d", o->llm_ports[i]);
        if (!drill_stack_define(s, llm_names[i], o->llm_ports[i],
                                DRILL_ARGV(self, "sim", "llm", "--port", port, "--model", models[i]), e))
            return -1;
    }
    snprintf(port, sizeof port, "%d", o->backend_port);
    if (!drill_stack_define(s, "backend", o->backend_port, DRILL_ARGV(self, "sim", "backend", "--port", port), e))
        return -1;
    snprintf(port, sizeof port, "%d", o->slack_port);
    if (!drill_stack_define(s, "slack", o->slack_port, DRILL_ARGV(self, "sim", "slack", "--port", port), e))
        return -1;
    snprintf(port, sizeof port, "%d", o->smtp_port);
    if (!drill_stack_define(s, "smtp", o->smtp_port, DRILL_ARGV(self, "sim", "smtp", "--port", port, "--mode", "550"),
                            e))
        return -1;
    if (!drill_stack_define(s, "agent", 0, DRILL_ARGV(self, "sim", "agent", AGENT, "--rate", "10", "-c", o->settings),
                            e))
        return -1;
    snprintf(url, sizeof url, "http://127.0.0.1:%d/sim/requests", o->backend_port);
    drill_watch_page(d, "backend", url);
    return 0;
}

static void hints(struct drill *d)
{
    const struct drill_llm_outage *o = d->state;
    fprintf(d->c->out.file,
            "  backend http://127.0.0.1:%d/sim/requests   alerts http://127.0.0.1:%d/sim/requests, %s/alerts.jsonl\n",
            o->backend_port, o->slack_port, d->stack.dir);
}

/* ---- the story ---- */

#define HEALTHY(key_, target)                                                                                        \
    {                                                                                                                \
        .key = key_, .text = target " is healthy", .message = healthy, .who = target,                                \
        .what = PBE(HEALTH_STATE__HEALTH_STATE_HEALTHY)                                                              \
    }
#define ENDS(service)                                                                                                \
    {                                                                                                                \
        .key = "end_" service, .text = "redoubt-" service " is told to end", .act = drill_act_end, .who = service,   \
        .marks = {{.key = "ended", .text = "drained", .look = drill_look_ended, .who = service}}, .limit_ms = 8000,  \
        .logs = {service}, .ends = true                                                                              \
    }

static const struct drill_step steps[] = {
    {.key = "servers",
     .text = "nats-server with JetStream and redis-server start",
     .act = drill_act_spawn,
     .who = "nats redis",
     .marks = {{.key = "listening", .text = "both listen", .look = drill_look_listening, .who = "nats redis"}},
     .limit_ms = 8000,
     .logs = {"nats", "redis"}},
    {.key = "watch",
     .text = "the drill listens to the bus",
     .act = drill_act_connect,
     .marks = {{.key = "connected", .text = "connected", .look = drill_look_connected}},
     .limit_ms = 8000,
     .logs = {"nats"}},
    {.key = "start",
     .text = "five services, two LLMs, backend, Slack, a mail server that refuses, and the agent start",
     .act = drill_act_spawn,
     .who = "audit alert breaker fallback health llm-primary llm-backup backend slack smtp agent",
     .marks = {{.key = "listening",
                .text = "simulators listen",
                .look = drill_look_listening,
                .who = "llm-primary llm-backup backend slack smtp"},
               HEALTHY("primary", PRIMARY),
               HEALTHY("backup", BACKUP),
               HEALTHY("backend", BACKEND),
               {.key = "directive",
                .text = "agent has its position",
                .message = directive,
                .llm = PRIMARY,
                .what = PBE(POSTURE__POSTURE_NORMAL)},
               {.key = "ack", .text = "agent confirms", .message = ack, .llm = PRIMARY},
               {.key = "works", .text = "primary answers the agent", .message = works, .who = PRIMARY}},
     .limit_ms = 15000,
     .logs = {"health", "fallback", "agent", "breaker"}},
    {.key = "primary_dies",
     .text = "kill -9: the primary LLM dies",
     .act = drill_act_kill,
     .who = "llm-primary",
     .failure = true,
     .marks = {{.key = "opened",
                .text = "breaker opens",
                .message = breaker,
                .who = PRIMARY,
                .what = PBE(BREAKER_STATE__BREAKER_STATE_OPEN)},
               {.key = "directive",
                .text = "agent is moved to the backup",
                .message = directive,
                .llm = BACKUP,
                .what = PBE(POSTURE__POSTURE_BACKUP_LLM)},
               {.key = "ack", .text = "agent confirms", .message = ack, .llm = BACKUP},
               {.key = "works", .text = "backup answers the agent", .message = works, .who = BACKUP},
               {.key = "email",
                .text = "e-mail is refused",
                .message = any_receipt,
                .who = "email",
                .what = PBE(DELIVERY_STATUS__DELIVERY_STATUS_FAILED)},
               {.key = "slack",
                .text = "Slack accepts the alert",
                .message = any_receipt,
                .who = "slack",
                .what = PBE(DELIVERY_STATUS__DELIVERY_STATUS_ACCEPTED)}},
     .limit_ms = 10000,
     .logs = {"breaker", "fallback", "alert", "agent"}},
    {.key = "backup_dies",
     .text = "kill -9: the backup LLM dies, too",
     .act = drill_act_kill,
     .who = "llm-backup",
     .failure = true,
     .marks = {{.key = "opened",
                .text = "breaker opens",
                .message = breaker,
                .who = BACKUP,
                .what = PBE(BREAKER_STATE__BREAKER_STATE_OPEN)},
               {.key = "directive",
                .text = "agent is put under security fallback",
                .message = directive,
                .llm = "",
                .what = PBE(POSTURE__POSTURE_SECURITY_FALLBACK)},
               {.key = "ack", .text = "agent confirms", .message = ack, .llm = ""},
               {.key = "override",
                .text = "backend enforces strict policies",
                .look = override_active,
                .who = "/api/admin/override/activate",
                .what = OVERRIDE_MS},
               {.key = "alert",
                .text = "alert is raised",
                .message = fallback_alert,
                .who = "override_activated",
                .what = PBE(SEVERITY__SEVERITY_HIGH)},
               {.key = "email",
                .text = "e-mail does not take it",
                .message = receipt,
                .who = "email",
                .what = PBE(DELIVERY_STATUS__DELIVERY_STATUS_FAILED)},
               {.key = "slack",
                .text = "Slack accepts the alert",
                .message = receipt,
                .who = "slack",
                .what = PBE(DELIVERY_STATUS__DELIVERY_STATUS_ACCEPTED)},
               {.key = "file", .text = "file records it", .look = file_has_alert, .who = "alerts.jsonl"}},
     .limit_ms = 15000,
     .logs = {"fallback", "alert", "breaker", "agent"}},
    {.key = "llms_return",
     .text = "both LLMs are started again",
     .act = drill_act_spawn,
     .who = "llm-primary llm-backup",
     .marks = {{.key = "closed",
                .text = "breaker closes",
                .message = breaker,
                .who = PRIMARY,
                .what = PBE(BREAKER_STATE__BREAKER_STATE_CLOSED)},
               {.key = "directive",
                .text = "agent is brought back to its primary",
                .message = directive,
                .llm = PRIMARY,
                .what = PBE(POSTURE__POSTURE_NORMAL)},
               {.key = "ack", .text = "agent confirms", .message = ack, .llm = PRIMARY},
               {.key = "works", .text = "primary answers the agent", .message = works, .who = PRIMARY},
               {.key = "released",
                .text = "backend's override is released",
                .look = override_released,
                .who = "/api/admin/override/deactivate"}},
     .limit_ms = 25000,
     .logs = {"health", "breaker", "fallback", "agent"}},
    {.key = "end_agent",
     .text = "the agent is told to end",
     .act = drill_act_end,
     .who = "agent",
     .marks = {{.key = "ended", .text = "ended", .look = drill_look_ended, .who = "agent"}},
     .limit_ms = 5000,
     .logs = {"agent"},
     .ends = true},
    ENDS("health"),
    ENDS("fallback"),
    ENDS("breaker"),
    ENDS("alert"),
    ENDS("audit"),
    {.key = "audit",
     .text = "the audit trail is verified from the first byte to the last",
     .marks = {{.key = "whole", .text = "whole", .look = trail_whole, .what = 1}},
     .limit_ms = 5000,
     .logs = {"audit"},
     .ends = true},
};

static const struct drill_figure figures[] = {
    {"detection", "primary killed -> breaker open", "primary_dies", "primary_dies.opened"},
    {"directive", "breaker open -> directive to use the backup", "primary_dies.opened", "primary_dies.directive"},
    {"ack", "directive -> confirmed by the agent", "primary_dies.directive", "primary_dies.ack"},
    {"back at work", "primary killed -> first answer from the backup", "primary_dies", "primary_dies.works"},
    {"first alert", "primary killed -> first alert accepted by a channel", "primary_dies", "primary_dies.slack"},
    {"detection 2", "backup killed -> breaker open", "backup_dies", "backup_dies.opened"},
    {"fallback", "backup killed -> directive: security fallback", "backup_dies", "backup_dies.directive"},
    {"override", "backup killed -> strict policies active in the backend", "backup_dies", "backup_dies.override"},
    {"alert 2", "backup killed -> its alert accepted by a channel", "backup_dies", "backup_dies.slack"},
    {"recovery", "LLMs back -> agent confirmed on its primary", "llms_return", "llms_return.ack"},
    {"release", "LLMs back -> override released in the backend", "llms_return", "llms_return.released"},
};

const struct drill_story drill_llm_outage = {
    .name = "llm-outage",
    .title = "primary LLM dies, backup dies, both return; real servers, real kills",
    .steps = steps,
    .n_steps = sizeof steps / sizeof steps[0],
    .figures = figures,
    .n_figures = sizeof figures / sizeof figures[0],
    .limit_ms = 60000,
    .prepare = prepare,
    .hints = hints,
};
