/* rollback_inspect.c - asks whether kept versions could still be brought up: executor, record and repository. Changes nothing.
 *
 * What is due and what follows is decided by rollback_kept.c. One version after the other, and one look into the repository for all of them. */
#include "common/clock.h"
#include "common/metric.h"
#include "rollback/rollback_shell.h"
#include <stdlib.h>
#include <string.h>

METRIC_DEFINE(inspected, METRIC_COUNTER, "redoubt_rollback_inspections_total",
              "Looks at whether kept versions could still be brought up.");

struct inspection {
    struct rollback_finding finding[ROLLBACK_VERSIONS];
    size_t n, at;
    int side;
    unsigned count;
};

static void over(struct call *c)
{
    c->d->inspecting = false;
    call_end(c);
}

/* A job has begun: it finds out by itself, and its acts are not to wait for us. */
static bool disturbs(const struct call *c)
{
    return !c->d->open || rollback_busy(c->d->doc);
}

static void tell(struct call *c)
{
    struct deployment *d = c->d;
    struct queued *q = calloc(1, sizeof *q);
    const struct inspection *x = c->inspection;
    if (q && x->n > 0)
        q->u.kept.finding = malloc(x->n * sizeof *q->u.kept.finding);
    if (!q || (x->n > 0 && !q->u.kept.finding)) {
        free(q);
        over(c);
        return;
    }
    q->kind = ROLLBACK_KEPT;
    q->u.kept.n = x->n;
    if (x->n > 0)
        memcpy(q->u.kept.finding, x->finding, x->n * sizeof *q->u.kept.finding);
    metric_add(&inspected, 1);
    over(c);
    deployment_event(d, q);
}

static void on_snapshots(void *ctx, const struct data_result *r)
{
    struct call *c = ctx;
    struct inspection *x = c->inspection;
    for (size_t i = 0; i < x->n && r->ok; i++) {
        x->finding[i].snapshot_known = true;
        x->finding[i].snapshot_gone = x->finding[i].snapshot[0] && !(r->there & UINT32_C(1) << i);
    }
    tell(c);
}

static void ask_repository(struct call *c)
{
    const struct inspection *x = c->inspection;
    const char *snapshots[ROLLBACK_VERSIONS];
    bool any = false;
    for (size_t i = 0; i < x->n; i++) {
        snapshots[i] = x->finding[i].snapshot;
        any |= snapshots[i][0] != '\0';
    }
    if (disturbs(c))
        over(c);
    else if (any && c->d->data)
        data_find(c->d->data, snapshots, x->n, on_snapshots, c);
    else
        tell(c);
}

static void next(struct call *c);

static void found(struct call *c, bool known, bool ok, const char *why)
{
    struct rollback_finding *f = &c->inspection->finding[c->inspection->at++];
    f->known = known;
    f->broken = !ok;
    snprintf(f->why, sizeof f->why, "%s", ok ? "" : why);
    rollback_text_clean(f->why);
    next(c);
}

static void on_checked(void *ctx, const struct executor_result *r)
{
    found(ctx, r->ok || r->lasting, r->ok, r->text); /* what may pass says nothing about the version */
}

static void check(struct call *c)
{
    struct deployment *d = c->d;
    /* Of no job: what stands under the name of one is not in the way. */
    snprintf(c->job, sizeof c->job, "kept");
    if (disturbs(c))
        over(c);
    else if (!c->spec)
        found(c, c->lasting, false, c->text);
    else
        d->executor_kind->check(d->executor, &c->order, on_checked, c);
}

static void next(struct call *c)
{
    struct inspection *x = c->inspection;
    free(c->spec);
    c->spec = NULL;
    c->text[0] = '\0';
    c->lasting = false;
    if (disturbs(c))
        over(c);
    else if (x->at < x->n)
        call_order(c, x->finding[x->at].version, x->side, x->count, check);
    else
        ask_repository(c);
}

static void begin(struct call *c)
{
    struct inspection *x = c->inspection;
    const char *current = c->d->doc->current;
    x->side = 1;
    if (!c->view.ok) { /* who cannot be asked says nothing */
        ask_repository(c);
        return;
    }
    for (size_t i = 0; i < c->view.n; i++)
        if (strcmp(c->view.instances[i].version, current) == 0) {
            x->side = !c->view.instances[i].side;
            x->count++;
        }
    if (x->count == 0)
        x->count = 1;
    next(c);
}

void deployment_inspect(struct deployment *d)
{
    d->rule.check_kept_ms = d->room->s->settings->rollback.check_kept_ms;
    if (d->inspecting || !rollback_kept_due(d->doc, &d->rule, clock_shared_ms()))
        return;
    struct call *c = call_new(d, NULL);
    c->inspection = calloc(1, sizeof *c->inspection);
    if (!c->inspection) {
        call_end(c);
        return;
    }
    d->inspecting = true;
    c->inspection->n = rollback_kept_list(d->doc, &d->rule, c->inspection->finding);
    if (c->inspection->n > 0)
        call_view(c, begin);
    else
        tell(c);
}
