/* settings_rollback_check.c - what the rows of `rollback` cannot say: values that need or forbid one another. */
#include "common/settings_impl.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

static void need(const char *key, const char *value, const char *why, struct conf_ctx *ctx)
{
    if (!*value)
        conf_problem(ctx, key, "required %s", why);
}

static void check_program(const char *key, const struct conf_list *c, struct conf_ctx *ctx)
{
    const char *program = c->n > 0 ? *CONF_AT(*c, char *, 0) : "/";
    if (*program != '/')
        conf_problem(ctx, key, "found `%s`; allowed: an absolute path, then arguments", program);
}

void settings_check_rb_check(void *object, struct conf_ctx *ctx)
{
    const struct set_rb_check *c = object;
    char *end = NULL;
    errno = 0;
    double most = *c->most ? strtod(c->most, &end) : 0;
    if (*c->most && (*end || errno || !(most >= 0)))
        conf_problem(ctx, "most", "found `%s`; allowed: a number, 0 or more", c->most);
    check_program("command", &c->command, ctx);
    switch (c->type) {
    case SET_CHECK_COMMAND:
        if (c->command.n == 0)
            conf_problem(ctx, "command", "required for a check of type command: the program and its arguments");
        break;
    case SET_CHECK_KNOWN:
        need("body", c->body, "for a check of type known: the event that is asked about", ctx);
        if (c->expect_json.n == 0)
            conf_problem(ctx, "expect_json", "required for a check of type known: the one right decision");
        /* fall through */
    case SET_CHECK_HTTP:
        need("url", c->url, "for this type of check", ctx);
        break;
    case SET_CHECK_PROMETHEUS:
    case SET_CHECK_JSON:
        need("url", c->url, "for this type of check", ctx);
        need("query", c->query, "for this type of check", ctx);
        if (!*c->most && !c->compare)
            conf_problem(ctx, "most", "required without `compare`: when is a value a failure?");
        break;
    default:
        need("service", c->service, "for a check of type nats: the name that it has in $SRV.STATS", ctx);
        break;
    }
}

void settings_check_rb_data(void *object, struct conf_ctx *ctx)
{
    const struct set_rb_data *d = object;
    if (!*d->repository)
        return;
    need("password_file", d->password_file, "with a repository", ctx);
    if (d->path.n == 0)
        conf_problem(ctx, "path", "required with a repository: the directories that are saved");
    for (size_t i = 0; i < d->path.n; i++)
        if (**CONF_AT(d->path, char *, i) != '/')
            conf_problem(ctx, "path", "found `%s`; allowed: absolute paths", *CONF_AT(d->path, char *, i));
    for (size_t i = 0; i < d->env.n; i++)
        if (!strchr(*CONF_AT(d->env, char *, i), '='))
            conf_problem(ctx, "env", "item %zu; allowed: NAME=value", i);
    check_program("pause", &d->pause, ctx);
    check_program("resume", &d->resume, ctx);
    if ((d->pause.n || *d->pause_url) != (d->resume.n || *d->resume_url))
        conf_problem(ctx, "resume", "a writer that is paused must be resumed: give both or neither");
}

static void check_steps(const struct set_deployment *d, struct conf_ctx *ctx)
{
    long last = 100;
    for (size_t i = 0; i < d->steps.n; i++) {
        const char *text = *CONF_AT(d->steps, char *, i);
        char *end;
        long v = strtol(text, &end, 10);
        if (end == text || strcmp(end, "%") != 0 || v < 0 || v > last || (i > 0 && v == last)) {
            conf_problem(ctx, "steps", "found `%s`; allowed: falling shares such as [100%%, 50%%, 25%%, 10%%, 0%%]",
                         text);
            return;
        }
        last = v;
    }
    if (d->steps.n && last != 0)
        conf_problem(ctx, "steps", "the last is %ld%%; allowed: 0%%, or the former version would never be left",
                     last);
}

static void check_executor(const struct set_deployment *d, struct conf_ctx *ctx)
{
    switch (d->executor) {
    case SET_EXECUTOR_DOCKER:
        if (!*d->docker.container && !*d->docker.service)
            conf_problem(ctx, "docker.container", "required: a container's name, or a `service` of compose");
        break;
    case SET_EXECUTOR_KUBERNETES:
        need("kubernetes.deployment", d->kubernetes.deployment, "for executor kubernetes", ctx);
        break;
    default: {
        const struct {
            const char *key;
            const struct conf_list *c;
            bool needed;
        } rows[] = {
            {"exec.view", &d->exec.view, true},     {"exec.check", &d->exec.check, false},
            {"exec.up", &d->exec.up, true},         {"exec.stop", &d->exec.stop, true},
            {"exec.start", &d->exec.start, true},   {"exec.settle", &d->exec.settle, false},
            {"exec.remove", &d->exec.remove, true}, {"exec.keep", &d->exec.keep, false},
            {"exec.run", &d->exec.run, false},
        };
        for (size_t i = 0; i < N_OF(rows); i++) {
            check_program(rows[i].key, rows[i].c, ctx);
            if (rows[i].needed && rows[i].c->n == 0)
                conf_problem(ctx, rows[i].key, "required for executor exec: a program and its arguments");
        }
    }
    }
}

static void check_traffic(const struct set_deployment *d, struct conf_ctx *ctx)
{
    const struct set_rb_traffic *t = &d->traffic;
    bool kube = d->executor == SET_EXECUTOR_KUBERNETES;
    switch (t->type) {
    case SET_TRAFFIC_HAPROXY:
        need("traffic.address", t->address, "for haproxy: unix:///path or tcp://host:port", ctx);
        need("traffic.backend", t->backend, "for haproxy", ctx);
        if (*t->address && strncmp(t->address, "unix:///", 8) != 0 && strncmp(t->address, "tcp://", 6) != 0)
            conf_problem(ctx, "traffic.address", "found `%s`; allowed: unix:///path or tcp://host:port", t->address);
        if (t->side_0.n == 0 || t->side_1.n == 0)
            conf_problem(ctx, "traffic.side_0", "both sides need servers for haproxy");
        break;
    case SET_TRAFFIC_HTTPROUTE:
        need("traffic.route", t->route, "for httproute", ctx);
        if (t->side_0.n != 1 || t->side_1.n != 1)
            conf_problem(ctx, "traffic.side_0", "both sides need one Service for httproute");
        /* fall through */
    case SET_TRAFFIC_REPLICAS:
        if (!kube || !*d->kubernetes.canary)
            conf_problem(ctx, "traffic.type", "needs executor kubernetes with a canary");
        break;
    case SET_TRAFFIC_WEBHOOK:
        need("traffic.url", t->url, "for webhook", ctx);
        break;
    default:
        break;
    }
    if (kube && !*d->kubernetes.canary && t->type != SET_TRAFFIC_NONE)
        conf_problem(ctx, "traffic.type",
                     "one Deployment has one version in the Service's eyes: allowed are none, or a canary");
}

void settings_check_deployment(void *object, struct conf_ctx *ctx)
{
    const struct set_deployment *d = object;
    check_executor(d, ctx);
    check_traffic(d, ctx);
    check_steps(d, ctx);
    if (d->check_every_ms > d->step_ms)
        conf_problem(ctx, "check_every", "is longer than `step`: a step would end unseen");
    for (size_t i = 1; i < d->checks.n; i++)
        for (size_t k = 0; k < i; k++)
            if (strcmp(CONF_AT(d->checks, struct set_rb_check, i)->name,
                       CONF_AT(d->checks, struct set_rb_check, k)->name) == 0)
                conf_problem(ctx, "checks", "found `%s` for the second time; allowed: every name once",
                             CONF_AT(d->checks, struct set_rb_check, i)->name);
}

void settings_check_rollback(void *object, struct conf_ctx *ctx)
{
    const struct set_rollback *r = object;
    for (size_t i = 0; i < r->exec_allowed.n; i++)
        if (**CONF_AT(r->exec_allowed, char *, i) != '/')
            conf_problem(ctx, "exec_allowed", "found `%s`; allowed: absolute paths",
                         *CONF_AT(r->exec_allowed, char *, i));
    for (size_t i = 1; i < r->deployments.n; i++)
        for (size_t k = 0; k < i; k++)
            if (strcmp(CONF_AT(r->deployments, struct set_deployment, i)->name,
                       CONF_AT(r->deployments, struct set_deployment, k)->name) == 0)
                conf_problem(ctx, "deployments", "found `%s` for the second time; allowed: every name once",
                             CONF_AT(r->deployments, struct set_deployment, i)->name);
}
