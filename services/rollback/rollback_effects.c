/* rollback_effects.c - carries out what a decision asks for, after its document was written. */
#include "common/clock.h"
#include "common/log.h"
#include "common/metric.h"
#include "rollback/rollback_shell.h"
#include <stdlib.h>
#include <string.h>

METRIC_DEFINE(not_kept, METRIC_COUNTER, "redoubt_rollback_keep_failures_total",
              "Times that an image or a snapshot could not be protected from clean-up, or released.");

/* ---- time ---- */

void deployment_wake_at(struct deployment *d, int64_t at_ms)
{
    if (at_ms >= d->wake_at_ms && loop_timer_active(&d->wake))
        return;
    d->wake_at_ms = at_ms;
    int64_t in_ms = at_ms - clock_shared_ms();
    loop_timer_start(&d->wake, in_ms > 0 ? in_ms : 0, 0);
}

/* ---- a look ---- */

static void on_looked(struct call *c)
{
    struct deployment *d = c->d;
    bool stale = c->turned != d->turned; /* something was done meanwhile: it is not what stands */
    struct rollback_sight s = c->sight;
    call_end(c);
    d->looking = false;
    if (stale) {
        deployment_look(d);
        return;
    }
    struct queued *q = calloc(1, sizeof *q);
    if (!q)
        abort();
    q->kind = ROLLBACK_SIGHT;
    q->u.sight = s;
    deployment_event(d, q);
}

/* One that is under way is as good, unless something is done meanwhile: then it is made again when it ends. Were it made again for whoever asks, looks that
 * take longer than the time between two askings would never be told. */
void deployment_look(struct deployment *d)
{
    if (d->looking)
        return;
    d->looking = true;
    call_look(call_new(d, NULL), on_looked);
}

/* ---- keeping ---- */

static bool same_keep(const struct rollback_effect *a, const struct rollback_effect *b)
{
    return strcmp(a->version, b->version) == 0 && strcmp(a->snapshot, b->snapshot) == 0;
}

static void forget_unkept(struct deployment *d, const struct rollback_effect *e)
{
    for (size_t i = 0; i < d->n_unkept; i++)
        if (same_keep(&d->unkept[i], e)) {
            d->unkept[i] = d->unkept[--d->n_unkept];
            return;
        }
}

/* Tried again with the next observation. */
static void remember_unkept(struct deployment *d, const struct rollback_effect *e)
{
    forget_unkept(d, e);
    struct rollback_effect *more = realloc(d->unkept, (d->n_unkept + 1) * sizeof *more);
    if (!more || d->n_unkept >= UNKEPT_MAX)
        return;
    d->unkept = more;
    d->unkept[d->n_unkept++] = *e;
}

static void keep_result(struct call *c, bool ok, const char *what, const char *text)
{
    struct deployment *d = c->d;
    if (!ok) {
        metric_add(&not_kept, 1);
        log_warn(c->e.keep ? "not protected from clean-up" : "not released", F_STR("deployment", d->name),
                 F_STR("what", what), F_STR("version", c->e.version), F_STR("snapshot", c->e.snapshot),
                 F_STR("why", text));
        remember_unkept(d, &c->e);
    }
    if (--c->waits == 0)
        call_end(c);
}

static void on_image_kept(void *ctx, const struct executor_result *r)
{
    keep_result(ctx, r->ok, "image", r->text);
}

static void on_snapshot_kept(void *ctx, const struct data_result *r)
{
    keep_result(ctx, r->ok, "snapshot", r->text);
}

static void keep_now(struct call *c)
{
    struct deployment *d = c->d;
    c->waits = 1;
    deployment_open(d);
    if (d->open && d->executor_kind->keep && c->e.version[0]) {
        c->waits++;
        d->executor_kind->keep(d->executor, &c->order, c->e.keep, on_image_kept, c);
    }
    if (d->data && c->e.snapshot[0]) {
        c->waits++;
        data_keep(d->data, c->e.snapshot, c->e.keep, on_snapshot_kept, c);
    }
    keep_result(c, d->open, "all", d->closed_why);
}

static void keep(struct deployment *d, const struct rollback_effect *e)
{
    struct call *c = call_new(d, e);
    forget_unkept(d, e);
    if (e->version[0])
        call_order(c, e->version, 0, 0, keep_now);
    else
        keep_now(c);
}

/* Clean-ups by others may have taken the mark away while nobody looked. */
void deployment_keep_all(struct deployment *d)
{
    for (size_t i = 0; i < d->doc->n_versions; i++)
        if (d->doc->versions[i].kept) {
            struct rollback_effect e = {.kind = ROLLBACK_KEEP, .keep = true};
            snprintf(e.version, sizeof e.version, "%s", d->doc->versions[i].id);
            remember_unkept(d, &e);
        }
}

void deployment_keep_owed(struct deployment *d)
{
    struct rollback_effect *owed = d->unkept;
    size_t n = d->n_unkept;
    d->unkept = NULL;
    d->n_unkept = 0;
    for (size_t i = 0; i < n; i++)
        keep(d, &owed[i]);
    free(owed);
}

/* ---- all ---- */

void deployment_carry_out(struct deployment *d, const struct queued *q, const struct rollback_effect *effects,
                          size_t n)
{
    bool tilted = service_tilted(d->room->s), draining = d->room->s->draining;
    uint64_t generation = d->generation;
    for (size_t i = 0; i < n && d->generation == generation; i++) {
        const struct rollback_effect *e = &effects[i];
        switch (e->kind) {
        case ROLLBACK_DO:
            if (draining) {
                /* it is written in the document: whoever acts next asks for it */
            } else if (d->unrecorded) {
                char why[300];
                snprintf(why, sizeof why, "not done, since the audit trail cannot be written: %s", d->unrecorded_why);
                deployment_did_not(d, e, false, why);
            } else if (tilted) {
                log_warn("an act waits: this replica was suspended or its clock has jumped",
                         F_STR("deployment", d->name),
                         F_INT("serial", e->serial)); /* asked for again when that is over */
            } else if (deployment_fence(d) != 0) {
                deployment_do(d, e);
            }
            break;
        case ROLLBACK_STEER:
            if (d->unrecorded)
                log_warn("the traffic is not set, since the audit trail cannot be written",
                         F_STR("deployment", d->name), F_STR("why", d->unrecorded_why));
            else
                deployment_steer(d, e);
            break;
        case ROLLBACK_LOOK:
            if (!tilted && !draining)
                deployment_look(d);
            break;
        case ROLLBACK_CHECK:
            if (!tilted && !draining)
                deployment_check(d, e);
            break;
        case ROLLBACK_WAKE:
            deployment_wake_at(d, e->at_ms);
            break;
        case ROLLBACK_RAISE:
            deployment_alert(d, e, false);
            break;
        case ROLLBACK_RESOLVE:
            deployment_alert(d, e, true);
            break;
        case ROLLBACK_RECORD:
            if (!e->strict) /* the strict ones were written before */
                deployment_audit(d, d->doc, e, q, false);
            break;
        case ROLLBACK_KEEP:
            keep(d, e);
            break;
        case ROLLBACK_REPLY:
            cmd_rollback_answer(d, q, e);
            break;
        }
    }
}
