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
    if (stale || d->look_again) {
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

void deployment_look(struct deployment *d)
{
    if (d->looking) {
        /* One that began before the last act is asked again when it ends. */
        return;
    }
    d->looking = true;
    d->look_again = false;
    call_look(call_new(d, NULL), on_looked);
}

/* ---- keeping ---- */

static void forget_unkept(struct deployment *d, const char *id)
{
    for (size_t i = 0; i < d->n_unkept; i++)
        if (strcmp(d->unkept[i], id) == 0) {
            memmove(d->unkept[i], d->unkept[i + 1], (d->n_unkept - i - 1) * sizeof d->unkept[0]);
            d->n_unkept--;
            return;
        }
}

/* Tried again with the next observation. */
static void remember_unkept(struct deployment *d, const char *id)
{
    forget_unkept(d, id);
    if (d->n_unkept < ROLLBACK_VERSIONS)
        snprintf(d->unkept[d->n_unkept++], ROLLBACK_ID, "%s", id);
}

static void keep_result(struct call *c, bool ok, const char *what, const char *text)
{
    struct deployment *d = c->d;
    if (!ok) {
        metric_add(&not_kept, 1);
        log_warn(c->e.keep ? "not protected from clean-up" : "not released", F_STR("deployment", d->name), F_STR("what", what),
                 F_STR("version", c->e.version), F_STR("why", text));
        if (c->e.keep)
            remember_unkept(d, c->e.version);
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
    if (d->open && d->executor_kind->keep) {
        c->waits++;
        d->executor_kind->keep(d->executor, &c->order, c->e.keep, on_image_kept, c);
    }
    for (size_t i = 0; d->data && i < d->doc->n_lineage; i++)
        if (strcmp(d->doc->lineage[i].version, c->e.version) == 0) {
            c->waits++;
            data_keep(d->data, d->doc->lineage[i].snapshot, c->e.keep, on_snapshot_kept, c);
        }
    keep_result(c, d->open, "all", d->closed_why);
}

static void keep(struct deployment *d, const struct rollback_effect *e)
{
    forget_unkept(d, e->version);
    call_order(call_new(d, e), e->version, 0, 0, keep_now);
}

static void keep_version(struct deployment *d, const char *id)
{
    struct rollback_effect e = {.kind = ROLLBACK_KEEP, .keep = true};
    snprintf(e.version, sizeof e.version, "%s", id);
    keep(d, &e);
}

void deployment_keep_all(struct deployment *d)
{
    for (size_t i = 0; i < d->doc->n_versions; i++)
        if (d->doc->versions[i].kept)
            remember_unkept(d, d->doc->versions[i].id);
}

void deployment_keep_owed(struct deployment *d)
{
    char owed[ROLLBACK_VERSIONS][ROLLBACK_ID];
    size_t n = d->n_unkept;
    memcpy(owed, d->unkept, sizeof owed);
    d->n_unkept = 0;
    for (size_t i = 0; i < n; i++) {
        const struct rollback_version *v = rollback_doc_version(d->doc, owed[i]);
        if (v && v->kept)
            keep_version(d, owed[i]);
    }
}

/* ---- all ---- */

void deployment_carry_out(struct deployment *d, const struct queued *q, const struct rollback_effect *effects, size_t n)
{
    bool tilted = service_tilted(d->room->s);
    uint64_t generation = d->generation;
    for (size_t i = 0; i < n && d->generation == generation; i++) {
        const struct rollback_effect *e = &effects[i];
        switch (e->kind) {
        case ROLLBACK_DO:
            if (d->unrecorded) {
                char why[300];
                snprintf(why, sizeof why, "not done, since the audit trail cannot be written: %s", d->unrecorded_why);
                deployment_did_not(d, e, false, why);
            } else if (tilted) {
                log_warn("an act waits: this replica was suspended or its clock has jumped", F_STR("deployment", d->name),
                         F_INT("serial", e->serial)); /* asked for again when that is over */
            } else if (deployment_fence(d) != 0) {
                deployment_do(d, e);
            }
            break;
        case ROLLBACK_LOOK:
            if (!tilted)
                deployment_look(d);
            break;
        case ROLLBACK_CHECK:
            if (!tilted)
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
