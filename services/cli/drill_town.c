/* drill_town.c - the private suite that drills play on: its settings, processes and ports. */
#include "cli/drill.h"
#include "common/baseline.h"
#include <stdio.h>
#include <string.h>

#define SETTINGS_TEXT 12288

static const char baseline[] = "# Made by `redoubt drill`.\n"
                               "version: drill-1\n"
                               "description: what the simulated agent may do\n"
                               "actions:\n"
                               "  - name: block_ip\n"
                               "    postures: [normal, backup_llm, recovering, degraded]\n"
                               "    queue: true\n"
                               "    parameters:\n"
                               "      - { name: ip, type: ip, required: true }\n";

static const char *const services[] = {"audit", "alert", "breaker", "guard", "fallback", "health", "continuity"};

static int write_servers(struct drill *d, struct err *e)
{
    const struct drill_town *w = &d->town;
    const char *dir = d->stack.dir;
    char nats[1024], redis[2048], path[2 * DRILL_PATH];
    snprintf(nats, sizeof nats, "listen: \"127.0.0.1:%d\"\njetstream: { store_dir: \"%s/nats\" }\n", w->nats_port,
             dir);
    snprintf(redis, sizeof redis,
             "bind 127.0.0.1\nport %d\ndir \"%s/redis\"\nappendonly yes\nappendfsync everysec\nsave \"\"\n"
             "daemonize no\n",
             w->redis_port, dir);
    snprintf(path, sizeof path, "%s/baseline.yaml", dir);
    return drill_stack_write(&d->stack, "nats.conf", nats, e) ||
                   drill_stack_write(&d->stack, "redis.conf", redis, e) ||
                   drill_stack_write(&d->stack, "watched.log", "", e) ||
                   drill_stack_write(&d->stack, "baseline.yaml", baseline, e) ||
                   baseline_sign(path, "redoubt drill", NULL, e)
               ? -1
               : 0;
}

/* As anybody would write it, but with a minute's patience instead of an hour's. */
static int write_settings(struct drill *d, const struct drill_plan *plan, struct err *e)
{
    const struct drill_town *w = &d->town;
    const char *dir = d->stack.dir;
    char text[SETTINGS_TEXT], mail[512] = "";
    if (plan->mail_mode)
        snprintf(mail, sizeof mail,
                 "    - { name: email, type: email, url: \"smtp://127.0.0.1:%d\", from: redoubt@example.org, "
                 "to: [ops@example.org], attempt: 2s, tries: 2 }\n",
                 w->smtp_port);
    int n = snprintf(
        text, sizeof text,
        "# Made by `redoubt drill %s`.\n"
        "nats: { url: \"nats://127.0.0.1:%d\" }\n"
        "redis: { host: 127.0.0.1, port: %d }\n"
        "data_dir: \"%s/data\"\n"
        "targets:\n"
        "  - name: " DRILL_PRIMARY "\n"
        "    kind: llm\n"
        "    probe: { type: llm, url: \"http://127.0.0.1:%d/v1\", model: " DRILL_PRIMARY_MODEL
        ", interval: 1s, fast_interval: 300ms, timeout: 1s }\n"
        "    breaker: &fast { window: 10s, consecutive: 3, open: 1s, open_max: 2s, permit: 2s, ramp_step: 500ms }\n"
        "  - name: " DRILL_BACKUP "\n"
        "    kind: llm\n"
        "    probe: { type: llm, url: \"http://127.0.0.1:%d/v1\", model: " DRILL_BACKUP_MODEL
        ", interval: 1s, fast_interval: 300ms, timeout: 1s }\n"
        "    breaker: *fast\n"
        "  - name: " DRILL_BACKEND "\n"
        "    kind: backend\n"
        "    probe: { type: http, url: \"http://127.0.0.1:%d/health\", interval: 1s, fast_interval: 300ms, timeout: "
        "1s }\n"
        "    breaker: *fast\n"
        "  - name: " DRILL_WATCHED "\n"
        "    kind: other\n"
        "    probe: { type: log, path: \"%s/watched.log\", patterns: [ { match: BREACH } ], interval: 1s }\n"
        "agents:\n"
        "  - name: " DRILL_AGENT "\n"
        "    chain:\n"
        "      - { target: " DRILL_PRIMARY ", model: " DRILL_PRIMARY_MODEL " }\n"
        "      - { target: " DRILL_BACKUP ", model: " DRILL_BACKUP_MODEL " }\n"
        "    backend: " DRILL_BACKEND "\n"
        "    override: { url: \"http://127.0.0.1:%d\", retry: 500ms }\n"
        "    actions: { url: \"http://127.0.0.1:%d\", timeout: 2s }\n"
        "    watch: [" DRILL_WATCHED "]\n"
        "    monitor_interval: 1s\n"
        "    heartbeat: 500ms\n"
        "    ack: 500ms\n"
        "    restore_hold: 1s\n"
        "    backend_step: 500ms\n"
        "%s"
        "baseline: { path: \"%s/baseline.yaml\" }\n"
        "guard: { queue: { replay_rate: 200, retry: 500ms } }\n"
        "continuity: { phases: { settle: 500ms, validate: 1s } }\n"
        "alert:\n"
        "  channels:\n"
        "%s"
        "    - { name: slack, type: slack, url: \"http://127.0.0.1:%d/webhook\", attempt: 2s, tries: 2 }\n"
        "    - { name: record, type: file, path: \"%s/alerts.jsonl\" }\n"
        "  routes:\n"
        "    - { min_severity: info, channels: [%sslack, record] }\n",
        d->story->name, w->nats_port, w->redis_port, dir, w->llm_ports[0], w->llm_ports[1], w->backend_port, dir,
        w->backend_port, w->backend_port, plan->agent_settings ? plan->agent_settings : "", dir, mail, w->slack_port,
        dir, plan->mail_mode ? "email, " : "");
    if (n < 0 || n >= (int)sizeof text)
        return err_set(e, "the settings are too long");
    return drill_stack_write(&d->stack, "redoubt.yaml", text, e);
}

static int take_ports(struct drill *d, struct err *e)
{
    struct drill_town *w = &d->town;
    int *const ports[] = {&w->nats_port,       &w->redis_port, &w->llm_ports[0], &w->llm_ports[1], &w->backend_port,
                          &w->backend_control, &w->slack_port, &w->smtp_port,    &w->link_port,    &w->link_control};
    for (size_t i = 0; i < sizeof ports / sizeof ports[0]; i++)
        if ((*ports[i] = drill_stack_port(&d->stack)) < 0)
            return err_set(e, "no free loopback ports");
    snprintf(d->nats_url, sizeof d->nats_url, "nats://127.0.0.1:%d", w->nats_port);
    snprintf(w->settings, sizeof w->settings, "%s/redoubt.yaml", d->stack.dir);
    return 0;
}

static int define_servers(struct drill *d, struct err *e)
{
    struct drill_stack *s = &d->stack;
    char path[2 * DRILL_PATH], program[64];
    snprintf(path, sizeof path, "%s/nats.conf", s->dir);
    if (!drill_stack_define(s, "nats", d->town.nats_port, DRILL_ARGV("nats-server", "-c", path), e))
        return -1;
    snprintf(path, sizeof path, "%s/redis.conf", s->dir);
    if (!drill_stack_define(s, "redis", d->town.redis_port, DRILL_ARGV("redis-server", path), e))
        return -1;
    for (size_t i = 0; i < sizeof services / sizeof services[0]; i++) {
        snprintf(program, sizeof program, "redoubt-%s", services[i]);
        if (!drill_stack_define(s, services[i], 0, DRILL_ARGV(program, "-c", d->town.settings), e))
            return -1;
    }
    return 0;
}

static int define_sim(struct drill *d, const char *name, const char *kind, int port, int control,
                      const char *const more[2], struct err *e)
{
    char self[DRILL_PATH], port_text[16], control_text[16];
    if (drill_stack_self(self, sizeof self, e))
        return -1;
    snprintf(port_text, sizeof port_text, "%d", port);
    snprintf(control_text, sizeof control_text, "%d", control);
    return drill_stack_define(&d->stack, name, port,
                              DRILL_ARGV(self, "sim", kind, "--port", port_text, "--control", control_text, more[0],
                                         more[0] ? more[1] : NULL),
                              e)
               ? 0
               : -1;
}

static int define_world(struct drill *d, const struct drill_plan *plan, struct err *e)
{
    const struct drill_town *w = &d->town;
    static const char *const none[2];
    char to[32], url[128];
    snprintf(to, sizeof to, "127.0.0.1:%d", w->nats_port);
    if (define_sim(d, "llm-primary", "llm", w->llm_ports[0], 0, (const char *[]){"--model", DRILL_PRIMARY_MODEL},
                   e) ||
        define_sim(d, "llm-backup", "llm", w->llm_ports[1], 0, (const char *[]){"--model", DRILL_BACKUP_MODEL}, e) ||
        define_sim(d, "backend", "backend", w->backend_port, w->backend_control, none, e) ||
        define_sim(d, "slack", "slack", w->slack_port, 0, none, e) ||
        (plan->mail_mode &&
         define_sim(d, "smtp", "smtp", w->smtp_port, 0, (const char *[]){"--mode", plan->mail_mode}, e)) ||
        (plan->link && define_sim(d, "link", "link", w->link_port, w->link_control, (const char *[]){"--to", to}, e)))
        return -1;
    /* Its control port answers while its own is closed. */
    snprintf(url, sizeof url, "http://127.0.0.1:%d/sim/requests", w->backend_control);
    drill_watch_page(d, "backend", url);
    return 0;
}

static int define_agent(struct drill *d, const struct drill_plan *plan, struct err *e)
{
    char self[DRILL_PATH], url[64];
    const char *argv[DRILL_ARGS_MAX + 1] = {self,     "sim", "agent", DRILL_AGENT,
                                            "--rate", "10",  "-c",    d->town.settings};
    size_t n = 8;
    if (drill_stack_self(self, sizeof self, e))
        return -1;
    if (plan->link) {
        snprintf(url, sizeof url, "nats://127.0.0.1:%d", d->town.link_port);
        argv[n++] = "--nats";
        argv[n++] = url;
    }
    for (size_t i = 0; plan->agent_args && plan->agent_args[i] && n < DRILL_ARGS_MAX; i++)
        argv[n++] = plan->agent_args[i];
    struct drill_proc *p = drill_stack_define(&d->stack, "agent", 0, argv, e);
    if (p)
        p->again = plan->restarts;
    return p ? 0 : -1;
}

int drill_town_prepare(struct drill *d, const struct drill_plan *plan, struct err *e)
{
    return take_ports(d, e) || write_servers(d, e) || write_settings(d, plan, e) || define_servers(d, e) ||
                   define_world(d, plan, e) || define_agent(d, plan, e)
               ? -1
               : 0;
}

void drill_town_hints(struct drill *d)
{
    fprintf(d->c->out.file,
            "  backend http://127.0.0.1:%d/sim/requests   alerts http://127.0.0.1:%d/sim/requests, %s/alerts.jsonl\n",
            d->town.backend_control, d->town.slack_port, d->stack.dir);
}
