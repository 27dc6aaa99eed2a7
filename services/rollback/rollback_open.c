/* rollback_open.c - a deployment's settings, and the backends that are opened by them.
 *
 * Settings are copied: a job goes on with those that it began with, also when the file has changed or does not name the deployment any more. */
#include "common/clock.h"
#include "common/log.h"
#include "common/settings_impl.h"
#include "rollback/rollback_shell.h"
#include <stdlib.h>
#include <string.h>

#define OP_SLACK_MS     60000
#define CLOSED_EVERY_MS 60000

static const int usual_steps[] = {100, 50, 25, 10, 0};

static void rule_steps(struct rollback_rule *r, const struct set_deployment *set)
{
    if (set->steps.n == 0) {
        r->n_steps = N_OF(usual_steps);
        memcpy(r->weight, usual_steps, sizeof usual_steps);
        return;
    }
    for (size_t i = 0; i < set->steps.n && i < ROLLBACK_STEPS; i++)
        r->weight[r->n_steps++] = (int)strtol(*CONF_AT(set->steps, char *, i), NULL, 10);
}

/* Backends keep their own limits; an act without an end after all of them is asked about anew. */
static int64_t op_limit(const struct set_deployment *set)
{
    int64_t most = set->data.timeout_ms;
    int64_t executor = set->executor == SET_EXECUTOR_DOCKER       ? set->docker.stop_ms + set->docker.ready_ms
                       : set->executor == SET_EXECUTOR_KUBERNETES ? set->kubernetes.rollout_ms
                                                                  : set->exec.timeout_ms;
    if (!data_has(set) || executor > most)
        most = executor;
    return most + set->traffic.timeout_ms + OP_SLACK_MS;
}

static bool make_rule(struct deployment *d)
{
    const struct set_deployment *set = d->set;
    struct rollback_rule *r = &d->rule;
    free(d->rejected);
    d->rejected = set->rejected.n ? calloc(set->rejected.n, sizeof *d->rejected) : NULL;
    if (set->rejected.n && !d->rejected)
        return false;
    for (size_t i = 0; i < set->rejected.n; i++)
        d->rejected[i] = *CONF_AT(set->rejected, char *, i);
    *r = (struct rollback_rule){
        .step_ms = set->step_ms,
        .check_every_ms = set->check_every_ms,
        .capacity_ms = set->capacity_ms,
        .drain_ms = set->drain_ms,
        .watch_ms = set->watch_ms,
        .settle_ms = set->settle_ms,
        .op_ms = op_limit(set),
        .keep = (unsigned)set->keep,
        .floor = set->floor,
        .rejected = d->rejected,
        .n_rejected = set->rejected.n,
        .gradual = d->executor_kind->gradual &&
                   set->traffic.type != SET_TRAFFIC_NONE, /* what cannot be shared goes over as a whole */
        .goes_home = d->executor_kind->goes_home,
        .has_data = data_has(set),
        .has_migration = data_has(set) && set->data.migrate.n > 0 && d->executor_kind->run,
        .automatic = set->automatic.enabled,
        .automatic_ms = set->automatic.within_ms,
    };
    rule_steps(r, set);
    return true;
}

bool deployment_take_settings(struct deployment *d, const struct set_deployment *set)
{
    struct set_deployment *copy = conf_copy(d->room->schema, set);
    if (!copy)
        return false;
    deployment_close(d);
    if (d->set)
        conf_free(d->room->schema, d->set);
    d->set = copy;
    d->executor_kind = executor_of(copy);
    d->traffic_kind = traffic_of(copy);
    d->observed_version[0] = '\0'; /* other checks */
    return make_rule(d);
}

static bool open_all(struct service *s, const struct set_deployment *set, const struct executor_kind *xk,
                     const struct traffic_kind *tk, struct executor **x, struct traffic **t, struct checks **c,
                     struct data **data, struct err *e)
{
    *x = NULL;
    *t = NULL;
    *c = NULL;
    *data = NULL;
    e->text[0] = '\0';
    if ((*x = xk->open(s, set, e)) && (*t = tk->open(s, set, e)) && (*c = checks_open(s, set, e)) &&
        (!data_has(set) || (*data = data_open(s, set, e))))
        return true;
    if (!e->text[0])
        err_set(e, "out of memory");
    return false;
}

static void close_all(const struct executor_kind *xk, const struct traffic_kind *tk, struct executor *x,
                      struct traffic *t, struct checks *c, struct data *data)
{
    if (data)
        data_close(data);
    if (c)
        checks_close(c);
    if (t)
        tk->close(t);
    if (x)
        xk->close(x);
}

void deployment_open(struct deployment *d)
{
    struct err e;
    uint64_t held;
    if (d->open)
        return;
    if (open_all(d->room->s, d->set, d->executor_kind, d->traffic_kind, &d->executor, &d->traffic, &d->checks,
                 &d->data, &e)) {
        d->rule.judge = *checks_rule(d->checks);
        d->open = true;
        d->closed_why[0] = '\0';
        return;
    }
    close_all(d->executor_kind, d->traffic_kind, d->executor, d->traffic, d->checks, d->data);
    d->executor = NULL;
    d->traffic = NULL;
    d->checks = NULL;
    d->data = NULL;
    snprintf(d->closed_why, sizeof d->closed_why, "%s", e.text);
    if (log_allowed(&d->closed_limit, clock_mono_ms(), CLOSED_EVERY_MS, &held))
        log_error("a deployment cannot be reached by its settings", F_STR("deployment", d->name),
                  F_STR("why", e.text), F_STR("next", "tried again"));
}

void deployment_close(struct deployment *d)
{
    if (d->open)
        close_all(d->executor_kind, d->traffic_kind, d->executor, d->traffic, d->checks, d->data);
    d->executor = NULL;
    d->traffic = NULL;
    d->checks = NULL;
    d->data = NULL;
    d->rule.judge = (struct rollback_judge_rule){0};
    d->open = false;
    d->looking = d->checking = d->inspecting = d->glancing = d->steering = false;
    free(d->stood);
    d->stood = NULL;
    d->n_stood = 0;
    d->rest_side = -1;
    pace_seen(d);
    calls_end(d);
}

void deployment_settings_free(struct deployment *d)
{
    deployment_close(d);
    if (d->set)
        conf_free(d->room->schema, d->set);
    if (d->next_set)
        conf_free(d->room->schema, d->next_set);
    free(d->rejected);
    d->set = d->next_set = NULL;
    d->rejected = NULL;
}

void deployment_settle_settings(struct deployment *d)
{
    if (!d->next_set || d->stopping || (d->doc && d->place != AWAY && rollback_busy(d->doc)) ||
        d->place == RECORDING || d->place == STORING)
        return;
    struct set_deployment *set = d->next_set;
    d->next_set = NULL;
    if (deployment_take_settings(d, set)) {
        log_info("settings of a deployment taken over", F_STR("deployment", d->name));
        if (d->place == HERE)
            deployment_taken(d);
    } else {
        log_error("settings of a deployment not taken over: out of memory", F_STR("deployment", d->name));
    }
    conf_free(d->room->schema, set);
}

/* ---- before any of it is used ---- */

static void problem(struct conf_report *r, const char *deployment, const char *why)
{
    char **lines = realloc(r->lines, (r->n + 1) * sizeof *lines);
    if (!lines)
        return;
    r->lines = lines;
    if (asprintf(&lines[r->n], "rollback.deployments.%s: %s", deployment, why) >= 0)
        r->n++;
}

bool rollback_open_check(const struct settings *settings, struct conf_report *r)
{
    /* A service may write to its settings; backends do not. */
    struct service s = {.desc = &rollback_service, .settings = (struct settings *)settings, .instance = "check"};
    bool good = true;
    if (loop_init(&s.loop)) {
        problem(r, "", "no loop");
        return false;
    }
    for (size_t i = 0; i < settings->rollback.deployments.n; i++) {
        const struct set_deployment *set = CONF_AT(settings->rollback.deployments, struct set_deployment, i);
        struct executor *x;
        struct traffic *t;
        struct checks *c;
        struct data *data;
        struct err e;
        const struct executor_kind *xk = executor_of(set);
        const struct traffic_kind *tk = traffic_of(set);
        if (!open_all(&s, set, xk, tk, &x, &t, &c, &data, &e)) {
            problem(r, set->name, e.text);
            good = false;
        }
        close_all(xk, tk, x, t, c, data);
    }
    loop_done(&s.loop);
    return good;
}
