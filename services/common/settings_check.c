/* settings_check.c - what settings must fit together, beyond the bounds of each. */
#include "common/hostport.h"
#include "common/settings_impl.h"
#include "common/template.h"
#include <errno.h>
#include <jansson.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Is it the default of `section`'s password? Defaults stand in the table itself, and are nobody's to free. */
static bool is_default(const char *section, const char *password)
{
    for (size_t i = 0; i < settings_schema.n; i++) {
        const struct conf_schema *s = settings_schema.fields[i].schema;
        for (size_t k = 0; s && strcmp(s->name, section) == 0 && k < s->n; k++)
            if (strcmp(s->fields[k].key, "password") == 0)
                return password == s->fields[k].def;
    }
    return false;
}

/* The first line of `file` becomes *password of `section`. */
static void take_password(const char *section, char **password, const char *file, struct conf_ctx *ctx)
{
    char line[1024];
    if (!*file)
        return;
    if (**password) {
        conf_problem(ctx, "password_file", "given together with password; allowed: one of both");
        return;
    }
    FILE *f = fopen(file, "re");
    const char *read = f ? fgets(line, sizeof line, f) : NULL;
    int why = errno;
    if (f)
        (void)fclose(f);
    if (read)
        line[strcspn(line, "\r\n")] = 0;
    if (!read || !*line) {
        conf_problem(
            ctx, "password_file",
            "found %s, which %s%s; allowed: a file that this user may read, with the password in its first line",
            file, f ? "is empty" : "cannot be read: ", f ? "" : strerror(why));
        return;
    }
    char *copy = strdup(line);
    sodium_memzero(line, sizeof line);
    if (!copy) {
        conf_problem(ctx, "password_file", "out of memory");
        return;
    }
    if (!is_default(section, *password))
        free(*password);
    *password = copy;
}

void settings_check_redis(void *object, struct conf_ctx *ctx)
{
    struct set_redis *r = object;
    take_password("redis", &r->password, r->password_file, ctx);
    for (const char *p = r->sentinels; *p; p += strcspn(p, ","), p += *p == ',') {
        char one[HOSTPORT_HOST_MAX + 8], host[HOSTPORT_HOST_MAX];
        int port;
        if ((size_t)snprintf(one, sizeof one, "%.*s", (int)strcspn(p, ","), p) >= sizeof one ||
            hostport_split(one, 26379, host, &port)) {
            conf_problem(ctx, "sentinels",
                         "found %.300s; allowed: host:port, several joined by commas without spaces", one);
            break;
        }
    }
}

void settings_check_nats(void *object, struct conf_ctx *ctx)
{
    static const char *const schemes[] = {"nats", "tls", NULL};
    struct set_nats *n = object;
    for (const char *url = n->url; url; url = strchr(url, ',') ? strchr(url, ',') + 1 : NULL) {
        if (!conf_url_ok(url, strcspn(url, ","), schemes)) {
            conf_problem(ctx, "url",
                         "found another form; allowed: nats://host:port or tls://host:port, several joined by "
                         "commas without spaces");
            break;
        }
    }
    if (n->replicas % 2 == 0)
        conf_problem(ctx, "replicas", "found %d; allowed: 1, 3 or 5, so that a majority exists", (int)n->replicas);
    take_password("nats", &n->password, n->password_file, ctx);
    if (*n->token && *n->user)
        conf_problem(ctx, "token", "given together with user; allowed: one of both");
}

void settings_check_probe(void *object, struct conf_ctx *ctx)
{
    static const char *const http[] = {"http", "https", NULL}, *const tcp[] = {"tcp", NULL};
    struct set_probe *p = object;
    if (p->interval_ms == 0) /* the one default that depends on another setting */
        p->interval_ms = p->type == SET_PROBE_LLM ? 60000 : 10000;
    if (p->interval_ms < 100)
        conf_problem(ctx, "interval", "found %dms; allowed: 100ms or more, or 0s for the default",
                     (int)p->interval_ms);
    if (p->fast_interval_ms > p->interval_ms)
        p->fast_interval_ms =
            p->interval_ms; /* a short interval is a wish for speed, and it need not be said twice */
    if (p->expect_status_min > p->expect_status_max)
        conf_problem(ctx, "expect_status_min", "is greater than expect_status_max");
    if (p->type == SET_PROBE_TLS && p->tls_expiry_ms == 0)
        p->tls_expiry_ms = INT64_C(14) * 24 * 3600 * 1000;
    if (*p->host && p->type != SET_PROBE_RESOURCE && p->type != SET_PROBE_LOG)
        conf_problem(ctx, "host", "found `%s`; allowed only for probes of type resource and log", p->host);
    if (p->type == SET_PROBE_DNS && !*p->query)
        conf_problem(ctx, "query", "required for a probe of type dns: the name that is asked for");
    if (p->type == SET_PROBE_LOG && *p->path != '/')
        conf_problem(ctx, "path", "%s; a probe of type log needs an absolute path",
                     *p->path ? "is relative" : "is missing");
    if (p->type == SET_PROBE_RESOURCE && (*p->pid_file != '/') == (*p->cgroup != '/'))
        conf_problem(ctx, "pid_file",
                     "a probe of type resource needs the absolute path of either pid_file or cgroup");
    settings_check_probe_network(p, ctx);
    bool is_tcp = p->type == SET_PROBE_TCP || p->type == SET_PROBE_TLS;
    if (!is_tcp && p->type != SET_PROBE_HTTP && p->type != SET_PROBE_LLM)
        return;
    if (!*p->url)
        conf_problem(ctx, "url", "required for a probe of type %s", settings_probe_types[p->type]);
    else if (!conf_url_ok(p->url, strlen(p->url), is_tcp ? tcp : http))
        conf_problem(ctx, "url", "found another form; allowed for a probe of type %s: %s",
                     settings_probe_types[p->type], is_tcp ? "tcp://host:port" : "http://... or https://...");
    else if (is_tcp)
        settings_check_tcp_url(p->url, ctx);
    if (p->type == SET_PROBE_LLM && !*p->model)
        conf_problem(ctx, "model", "required for a probe of type llm: name the model that is asked");
}

void settings_check_question(void *object, struct conf_ctx *ctx)
{
    struct set_question *q = object;
    json_t *event = json_loads(q->event, JSON_DECODE_ANY, NULL), *expect = json_loads(q->expect, 0, NULL);
    if (!event)
        conf_problem(ctx, "event", "is not JSON");
    if (!json_is_object(expect))
        conf_problem(ctx, "expect", "is not a JSON object");
    json_decref(event);
    json_decref(expect);
}

void settings_check_breaker(void *object, struct conf_ctx *ctx)
{
    struct set_breaker *b = object;
    if (b->open_ms > b->open_max_ms)
        conf_problem(ctx, "open", "is longer than open_max");
    if (b->window_calls > 0 && b->window_calls < b->min_calls)
        conf_problem(ctx, "window_calls", "is less than min_calls: shares would never count");
}

/* What a header's name is made of. */
#define TCHARS "!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

/* A body with {{names}} that could not be filled, or is no JSON then, must not be found out in the middle of an outage. */
static void check_body(const char *key, const char *body, const char *const *names, struct conf_ctx *ctx)
{
    struct err e;
    if (template_check(body, names, &e))
        conf_problem(ctx, key, "%s; allowed: JSON with names of this body in {{ }}", e.text);
}

static void check_secret(int auth, const char *token, const char *header, struct conf_ctx *ctx)
{
    if (auth == SET_AUTH_BASIC && *token && !strchr(token, ':'))
        conf_problem(ctx, "token", "allowed with `auth: basic`: user:password");
    if (header[strspn(header, TCHARS)])
        conf_problem(ctx, "auth_header", "found `%s`; allowed: the name of an HTTP header", header);
}

void settings_check_override(void *object, struct conf_ctx *ctx)
{
    static const char *const names[] = {"duration_ms", "justification",    "agent",           "epoch",
                                        "key",         "baseline_version", "baseline_sha256", NULL};
    struct set_override *o = object;
    check_body("activate_body", o->activate_body, names, ctx);
    check_body("release_body", o->release_body, names, ctx);
    check_secret(o->auth, o->token, o->auth_header, ctx);
    if (*o->activate_path != '/')
        conf_problem(ctx, "activate_path", "found `%s`; allowed: a path that starts with /", o->activate_path);
    if (*o->release_path != '/')
        conf_problem(ctx, "release_path", "found `%s`; allowed: a path that starts with /", o->release_path);
    if (o->renew_ms > o->duration_ms / 2)
        o->renew_ms = o->duration_ms / 2;
}

void settings_check_actions(void *object, struct conf_ctx *ctx)
{
    static const char *const names[] = {"action", "parameters", "agent", "epoch", "key", NULL};
    struct set_actions *a = object;
    check_body("body", a->body, names, ctx);
    check_secret(a->auth, a->token, a->auth_header, ctx);
    if (*a->path != '/')
        conf_problem(ctx, "path", "found `%s`; allowed: a path that starts with /", a->path);
}

void settings_check_guard(void *object, struct conf_ctx *ctx)
{
    struct set_guard *g = object;
    (void)ctx;
    if (g->idempotency_ms < g->queue.max_age_ms)
        g->idempotency_ms = g->queue.max_age_ms; /* what is replayed must still be known */
}

/* A restart is run as written, without a shell: its program must be sure. */
static void check_restart(const struct set_agent *a, struct conf_ctx *ctx)
{
    const struct conf_list *c = &a->resources.restart.command;
    const char *program = c->n > 0 ? *CONF_AT(*c, char *, 0) : "/";
    if (*program != '/')
        conf_problem(ctx, "resources.restart.command[0]", "found `%s`; allowed: an absolute path", program);
    if (a->recovery.rollback == SET_GONE_ROLLBACK && !*a->recovery.deployment)
        conf_problem(ctx, "recovery.deployment", "required with `rollback: start`: which deployment is rolled back?");
}

void settings_check_agent(void *object, struct conf_ctx *ctx)
{
    struct set_agent *a = object;
    if (a->ack_alert_ms < a->ack_ms)
        conf_problem(ctx, "ack_alert", "is shorter than ack");
    check_restart(a, ctx);
    for (size_t i = 1; i < a->chain.n; i++) {
        const struct set_chain_item *x = CONF_AT(a->chain, struct set_chain_item, i);
        for (size_t k = 0; k < i; k++) {
            const struct set_chain_item *y = CONF_AT(a->chain, struct set_chain_item, k);
            if (strcmp(x->target, y->target) == 0 && strcmp(x->model, y->model) == 0) {
                char key[32];
                snprintf(key, sizeof key, "chain[%zu]", i);
                conf_problem(ctx, key, "the same target and model as chain[%zu]", k);
            }
        }
    }
}

static void check_chain(const struct settings *s, size_t agent, struct conf_ctx *ctx)
{
    const struct set_agent *a = CONF_AT(s->agents, struct set_agent, agent);
    char key[64];
    for (size_t i = 0; i < a->chain.n; i++) {
        const char *name = CONF_AT(a->chain, struct set_chain_item, i)->target;
        const struct set_target *t = settings_target(s, name);
        snprintf(key, sizeof key, "agents[%zu].chain[%zu].target", agent, i);
        if (!t)
            conf_problem(ctx, key, "found `%s`, which is not among `targets`; allowed: a target of kind llm", name);
        else if (t->kind != SET_TARGET_LLM)
            conf_problem(ctx, key, "found `%s`, which is of another kind; allowed: a target of kind llm", name);
    }
    for (size_t i = 0; i < a->watch.n; i++) {
        const char *name = *CONF_AT(a->watch, char *, i);
        snprintf(key, sizeof key, "agents[%zu].watch[%zu]", agent, i);
        if (!settings_target(s, name))
            conf_problem(ctx, key, "found `%s`, which is not among `targets`; allowed: the name of a target", name);
    }
    if (*a->backend) {
        const struct set_target *t = settings_target(s, a->backend);
        snprintf(key, sizeof key, "agents[%zu].backend", agent);
        if (!t)
            conf_problem(ctx, key, "found `%s`, which is not among `targets`; allowed: a target of kind backend",
                         a->backend);
        else if (t->kind != SET_TARGET_BACKEND)
            conf_problem(ctx, key, "found `%s`, which is of another kind; allowed: a target of kind backend",
                         a->backend);
    }
}

/* A parent exists, and no target is its own ancestor. Every target is walked over once: `seen` holds the walk that came by. */
static void check_parents(const struct settings *s, uint32_t *seen, struct conf_ctx *ctx)
{
    char key[64];
    for (size_t i = 0; i < s->targets.n; i++) {
        const struct set_target *first = CONF_AT(s->targets, struct set_target, 0), *t = first + i, *circle = NULL;
        const uint32_t walk = (uint32_t)i + 1;
        while (t && !seen[t - first]) {
            seen[t - first] = walk;
            const struct set_target *up = *t->parent ? settings_target(s, t->parent) : NULL;
            if (*t->parent && !up) {
                snprintf(key, sizeof key, "targets[%zu].parent", (size_t)(t - first));
                conf_problem(ctx, key, "found `%s`, which is not among `targets`; allowed: the name of a target",
                             t->parent);
            }
            if (up && seen[up - first] == walk)
                circle = up;
            t = up;
        }
        for (const struct set_target *c = circle; c;) {
            snprintf(key, sizeof key, "targets[%zu].parent", (size_t)(c - first));
            conf_problem(ctx, key, "found `%s`, which in the end depends on this one; allowed: no circle", c->parent);
            c = settings_target(s, c->parent);
            if (c == circle)
                c = NULL;
        }
    }
}

static void check_names(struct settings *s, struct conf_ctx *ctx)
{
    char key[64];
    for (size_t i = 0; i < s->targets.n; i++) {
        const char *name = CONF_AT(s->targets, struct set_target, i)->name;
        if (settings_target(s, name) != CONF_AT(s->targets, struct set_target, i)) {
            snprintf(key, sizeof key, "targets[%zu].name", i);
            conf_problem(ctx, key, "found `%s` for the second time; allowed: every name once", name);
        }
    }
    for (size_t i = 0; i < s->agents.n; i++) {
        const char *name = CONF_AT(s->agents, struct set_agent, i)->name;
        snprintf(key, sizeof key, "agents[%zu].name", i);
        if (settings_agent(s, name) != CONF_AT(s->agents, struct set_agent, i))
            conf_problem(ctx, key, "found `%s` for the second time; allowed: every name once", name);
        /* Verdicts on both go out on redoubt.v1.health.<name>. */
        if (settings_target(s, name))
            conf_problem(ctx, key, "found `%s`, which is a target's name too; allowed: a name of its own", name);
        check_chain(s, i, ctx);
    }
}

void settings_check_all(void *object, struct conf_ctx *ctx)
{
    struct settings *s = object;
    if (*s->data_dir != '/')
        conf_problem(ctx, "data_dir", "found `%s`; allowed: an absolute path", s->data_dir);
    uint32_t *seen = calloc(s->targets.n + 1, sizeof *seen);
    if (seen && settings_index_make(s)) {
        check_names(s, ctx);
        check_parents(s, seen, ctx);
    } else {
        conf_problem(ctx, "targets", "out of memory");
    }
    settings_index_free(s); /* settings_load makes the one that stays: what is parsed elsewhere is freed without it */
    free(seen);
}
