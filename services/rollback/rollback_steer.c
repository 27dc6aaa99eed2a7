/* rollback_steer.c - the traffic without a job: looked at often after a rollback, and set to where the current version stands.
 *
 * A proxy that is started again has what its file says, and that is the side of before. It is asked every GLANCE_MS. A connection that is kept open would tell
 * at once, but it would keep a reloaded HAProxy's old process alive, and take one of its few places. */
#include "common/clock.h"
#include "common/log.h"
#include "common/metric.h"
#include "rollback/rollback_shell.h"
#include <stdlib.h>
#include <string.h>

METRIC_DEFINE(glances, METRIC_COUNTER, "redoubt_rollback_glances_total",
              "Looks at the traffic alone, without a job.");
METRIC_DEFINE(steered, METRIC_COUNTER, "redoubt_rollback_steered_total",
              "Times that the traffic was set without a job, because it did not go to what runs.");
METRIC_DEFINE(not_steered, METRIC_COUNTER, "redoubt_rollback_steer_failures_total", "Of them, those that failed.");

#define GLANCE_MS       2000
#define GLANCE_AGAIN_MS 500 /* without an answer: it may be starting, and wrong as soon as it serves */

bool deployment_may_steer(const struct deployment *d)
{
    return !d->steering && d->open && store_up(d->room->s->store) && deployment_fence(d) != 0 &&
           !service_tilted(d->room->s);
}

void deployment_stood(struct call *c)
{
    struct deployment *d = c->d;
    d->rest_side = rollback_rest_side(d->doc, &d->rule, &c->sight);
    free(d->stood);
    d->stood = NULL;
    d->n_stood = 0;
    if (d->rest_side < 0 || !d->traffic_kind->glances)
        return;
    d->stood = malloc(c->view.n * sizeof *d->stood);
    if (!d->stood) {
        d->rest_side = -1;
        return;
    }
    memcpy(d->stood, c->view.instances, c->view.n * sizeof *d->stood);
    d->n_stood = c->view.n;
}

static void on_glanced(void *ctx, const struct traffic_view *v)
{
    struct call *c = ctx;
    struct deployment *d = c->d;
    bool known = v->ok, stale = c->turned != d->turned || d->rest_side < 0 || rollback_busy(d->doc);
    bool wrong = known && !stale && v->share[d->rest_side] != 100;
    call_end(c);
    d->glancing = false;
    metric_add(&glances, 1);
    if (!known)
        loop_timer_start(&d->glance, GLANCE_AGAIN_MS, 0);
    if (wrong)
        deployment_look(d); /* a fresh look at everything is what is decided upon */
}

void deployment_on_glance(void *ctx)
{
    struct deployment *d = ctx;
    loop_timer_start(&d->glance, GLANCE_MS, 0);
    if (d->place != HERE || d->glancing || d->looking || d->n_stood == 0 || d->rest_side < 0 ||
        rollback_busy(d->doc) || !deployment_may_steer(d))
        return;
    d->glancing = true;
    d->traffic_kind->view(d->traffic, d->stood, rollback_set_addresses(d->doc) ? d->n_stood : 0, on_glanced,
                          call_new(d, NULL));
}

/* ---- it is set ---- */

static void over(struct call *c, bool ok, const char *why)
{
    struct deployment *d = c->d;
    snprintf(d->steer_error, sizeof d->steer_error, "%s", ok ? "" : why);
    if (ok) {
        log_info("without a job: the traffic is set to what runs", F_STR("deployment", d->name),
                 F_STR("version", c->e.version), F_INT("side", c->e.side),
                 F_INT("took_ms", clock_mono_ms() - c->began_mono_ms));
    } else {
        metric_add(&not_steered, 1);
        log_warn("without a job: the traffic does not go to what runs, and could not be set",
                 F_STR("deployment", d->name), F_STR("version", c->e.version), F_INT("side", c->e.side),
                 F_STR("why", why));
    }
    call_end(c);
    d->steering = false;
    d->turned++;
    deployment_look(d);
}

static void on_set(void *ctx, const struct executor_result *r)
{
    over(ctx, r->ok, r->text);
}

/* Of the side that is meant, what belongs to it: nothing else gets traffic. */
static size_t of_side(struct call *c, int side)
{
    struct executor_instance *at = (struct executor_instance *)(uintptr_t)c->view.instances;
    size_t n = 0;
    for (size_t i = 0; i < c->view.n; i++)
        if (at[i].side == side && rollback_sight_counts(&c->sight, &at[i]))
            at[n++] = at[i];
    return n;
}

static void set(struct call *c)
{
    struct deployment *d = c->d;
    int side = c->e.side;
    if (!c->view.ok) {
        over(c, false, c->view.error);
        return;
    }
    rollback_sight_make(&c->sight, &c->view, NULL, &(struct sight_job){.id = NULL});
    d->steering = false;
    bool may = deployment_may_steer(d);
    d->steering = true;
    if (!may || rollback_busy(d->doc) || strcmp(d->doc->current, c->e.version) != 0 ||
        rollback_rest_side(d->doc, &d->rule, &c->sight) != side) {
        over(c, false, "something has changed since it was looked at");
        return;
    }
    snprintf(c->job, sizeof c->job, "%s", d->doc->job.id);
    snprintf(c->side_version[side], ROLLBACK_ID, "%s", c->e.version);
    snprintf(c->side_name[side], sizeof c->side_name[side], "%s", rollback_doc_name(d->doc, c->e.version));
    c->view.n = of_side(c, side);
    c->shares = (struct traffic_order){.job = c->job,
                                       .epoch = d->doc->epoch,
                                       .share = {c->e.share[0], c->e.share[1]},
                                       .instances = c->view.instances,
                                       .n = c->view.n,
                                       .version = {c->side_version[0], c->side_version[1]},
                                       .name = {c->side_name[0], c->side_name[1]}};
    d->traffic_kind->set(d->traffic, &c->shares, on_set, c);
}

/* A job that begins meanwhile moves traffic no earlier than it has prepared everything, and sets what it finds wrong. */
void deployment_steer(struct deployment *d, const struct rollback_effect *e)
{
    if (!deployment_may_steer(d))
        return; /* looked at again, and decided anew */
    d->steering = true;
    d->turned++;
    metric_add(&steered, 1);
    log_warn("without a job: the traffic does not go to what runs; it is set", F_STR("deployment", d->name),
             F_STR("version", e->version), F_INT("side", e->side));
    call_view(call_new(d, e), set);
}
