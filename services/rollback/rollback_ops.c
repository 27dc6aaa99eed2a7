/* rollback_ops.c - carries out what a job has in hand: one act of executor, traffic or data, which ends with ROLLBACK_DID.
 *
 * Every act may be asked for again: the backends look first and do what is missing. What is in hand when the deployment is lost is cancelled;
 * whoever acts next looks at the world and asks for it again under the same job. */
#include "common/clock.h"
#include "common/log.h"
#include "common/metric.h"
#include "rollback/rollback_fill.h"
#include "rollback/rollback_shell.h"
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

METRIC_DEFINE(acts, METRIC_COUNTER, "redoubt_rollback_acts_total",
              "Acts of executor, traffic and data that have ended.");
METRIC_DEFINE(failures, METRIC_COUNTER, "redoubt_rollback_act_failures_total", "Of them, those that failed.");

static const char *op_name(int op)
{
    return wire_enum_name(&redoubt__v1__rollback_op__descriptor, op);
}

static struct queued *did(const struct rollback_effect *e, bool ok, bool lasting, const char *text)
{
    struct queued *q = calloc(1, sizeof *q);
    if (!q)
        abort(); /* the decider waits for it */
    q->kind = ROLLBACK_DID;
    q->u.did = (struct rollback_did){.serial = e->serial, .op = e->op, .ok = ok, .lasting = lasting};
    snprintf(q->u.did.text, sizeof q->u.did.text, "%s",
             text && *text ? text
             : ok          ? "done"
                           : "it failed without a reason");
    return q;
}

void deployment_did_not(struct deployment *d, const struct rollback_effect *e, bool lasting, const char *why)
{
    metric_add(&failures, 1);
    deployment_event(d, did(e, false, lasting, why));
}

/* The end of an act; frees c. q is its event. */
static void ended(struct call *c, struct queued *q)
{
    struct deployment *d = c->d;
    struct rollback_effect e = c->e;
    int64_t took = clock_mono_ms() - c->began_mono_ms;
    call_end(c);
    d->turned++;
    metric_add(&acts, 1);
    if (!q->u.did.ok) {
        metric_add(&failures, 1);
        log_warn("an act of a rollback has failed", F_STR("deployment", d->name), F_STR("op", op_name(e.op)),
                 F_INT("serial", e.serial), F_STR("version", e.version), F_INT("took_ms", took),
                 F_STR("why", q->u.did.text));
    } else {
        log_info("an act of a rollback is done", F_STR("deployment", d->name), F_STR("op", op_name(e.op)),
                 F_INT("serial", e.serial), F_STR("version", e.version), F_INT("took_ms", took),
                 F_STR("how", q->u.did.text));
    }
    deployment_event(d, q);
}

static void end_with(struct call *c, bool ok, bool lasting, const char *text)
{
    ended(c, did(&c->e, ok, lasting, text));
}

static void on_result(void *ctx, const struct executor_result *r)
{
    end_with(ctx, r->ok, r->lasting, r->text);
}

/* Backends may have been closed between two steps. */
static bool reachable(struct call *c)
{
    if (deployment_fence(c->d) ==
        0) { /* the lease has ended between two steps: another acts, and we are about to hear of it */
        call_end(c);
        return false;
    }
    deployment_open(c->d);
    if (c->d->open)
        return true;
    end_with(c, false, false, c->d->closed_why);
    return false;
}

/* ---- executor ---- */

/* What stands already is stopped, started and removed by its name; only what is to be made needs its record. */
static bool needs_record(int op)
{
    return op == ROLLBACK_OP(UP) || op == ROLLBACK_OP(MIGRATE);
}

static void execute(struct call *c)
{
    struct deployment *d = c->d;
    const struct executor_kind *k = d->executor_kind;
    if (!c->spec && needs_record(c->e.op)) {
        end_with(c, false, false, c->text);
        return;
    }
    if (!reachable(c))
        return;
    switch (c->e.op) {
    case ROLLBACK_OP(UP):
        k->up(d->executor, &c->order, on_result, c);
        break;
    case ROLLBACK_OP(STOP):
        k->stop(d->executor, &c->order, on_result, c);
        break;
    case ROLLBACK_OP(START):
        k->start(d->executor, &c->order, on_result, c);
        break;
    case ROLLBACK_OP(SETTLE):
        if (k->settle)
            k->settle(d->executor, &c->order, on_result, c);
        else
            end_with(c, true, false, "nothing to be done by this executor");
        break;
    case ROLLBACK_OP(REMOVE):
        k->remove(d->executor, &c->order, on_result, c);
        break;
    case ROLLBACK_OP(MIGRATE):
        if (k->run && c->argv)
            k->run(d->executor, &c->order, (const char *const *)c->argv, on_result, c);
        else
            end_with(c, false, true, "this executor cannot run a down-migration: give `restore_snapshot` instead");
        break;
    default:
        end_with(c, false, true, "this service does not know such an act");
    }
}

/* ---- preflight ---- */

static void on_preflight(struct call *c)
{
    end_with(c, !c->failed, c->lasting, c->failed ? c->text : "everything that is needed is there");
}

static void preflight(struct call *c)
{
    call_preflight(c, on_preflight);
}

/* ---- traffic ---- */

static void set_weights(struct call *c)
{
    struct deployment *d = c->d;
    const struct rollback_job *j = &d->doc->job;
    if (!c->view.ok) {
        end_with(c, false, c->view.lasting, c->view.error);
        return;
    }
    if (!reachable(c))
        return;
    for (int side = 0; side < 2; side++) {
        const char *id = side == j->from_side ? j->from : j->to;
        snprintf(c->side_version[side], sizeof c->side_version[side], "%s", id);
        snprintf(c->side_name[side], sizeof c->side_name[side], "%s", *id ? rollback_doc_name(d->doc, id) : "");
    }
    snprintf(c->job, sizeof c->job, "%s", j->id);
    c->shares = (struct traffic_order){.job = c->job,
                                       .epoch = d->doc->epoch,
                                       .share = {c->e.share[0], c->e.share[1]},
                                       .instances = c->view.instances,
                                       .n = c->view.n,
                                       .version = {c->side_version[0], c->side_version[1]},
                                       .name = {c->side_name[0], c->side_name[1]}};
    d->traffic_kind->set(d->traffic, &c->shares, on_result, c);
}

/* ---- learning data ---- */

static const char before_rollback[] = "before rollback", before_abort[] = "before the abort of a rollback";

static void on_data(void *ctx, const struct data_result *r)
{
    struct call *c = ctx;
    struct deployment *d = c->d;
    struct queued *q = did(&c->e, r->ok, r->lasting, r->text);
    q->u.did.paused = r->paused;
    if (c->e.op == ROLLBACK_OP(SNAPSHOT)) {
        struct rollback_lineage *l = &q->u.did.lineage;
        const struct rollback_version *v = rollback_doc_version(d->doc, c->version);
        *l = r->lineage;
        snprintf(l->version, sizeof l->version, "%s", c->version);
        snprintf(l->name, sizeof l->name, "%s", rollback_doc_name(d->doc, c->version));
        snprintf(l->job, sizeof l->job, "%s", c->job);
        snprintf(l->why, sizeof l->why, "%s", c->second ? before_abort : before_rollback);
        l->data_schema = v ? v->data_schema : 0;
    }
    ended(c, q);
}

static void on_kept(void *ctx, const struct executor_result *r)
{
    struct call *c = ctx;
    struct queued *q = did(&c->e, r->ok, r->lasting, r->text);
    q->u.did.paused = c->d->doc->job.writer_paused; /* the migration does not touch the writer */
    ended(c, q);
}

static void act_on_data(struct call *c)
{
    struct deployment *d = c->d;
    const struct rollback_job *j = &d->doc->job;
    if (!reachable(c))
        return;
    if (!d->data) {
        end_with(c, true, false, "this deployment has no learning data");
        return;
    }
    /* The second snapshot of a job goes by another name, or the first would be taken for it. */
    c->second = strcmp(c->e.snapshot, "abort") == 0 && c->e.op == ROLLBACK_OP(SNAPSHOT);
    snprintf(c->job, sizeof c->job, "%.*s%s", c->second ? ROLLBACK_JOB - 8 : ROLLBACK_JOB - 1, j->id,
             c->second ? "-abort" : "");
    snprintf(c->version, sizeof c->version, "%s", c->e.version[0] ? c->e.version : j->from);
    call_addresses(c, 0, c->version);
    const char *const *at = c->addresses[0];
    size_t n = c->n_addresses[0];
    switch (c->e.op) {
    case ROLLBACK_OP(SNAPSHOT):
        data_save(d->data, c->job, c->version, c->second ? before_abort : before_rollback, c->e.keep, at, n, on_data,
                  c);
        break;
    case ROLLBACK_OP(RESTORE):
        data_restore(d->data, c->job, c->e.snapshot, at, n, on_data, c);
        break;
    default:
        data_resume(d->data, at, n, on_data, c);
    }
}

/* By the newer version's own command: it knows what it has changed. */
static void migrate(struct call *c)
{
    struct deployment *d = c->d;
    const struct rollback_job *j = &d->doc->job;
    const struct rollback_version *from = rollback_doc_version(d->doc, j->from),
                                  *to = rollback_doc_version(d->doc, j->to);
    const struct conf_list *argv = &d->set->data.migrate;
    char from_schema[24], to_schema[24];
    snprintf(from_schema, sizeof from_schema, "%" PRId64, from ? from->data_schema : 0);
    snprintf(to_schema, sizeof to_schema, "%" PRId64, to ? to->data_schema : 0);
    const struct fill_name names[] = {{"from_schema", from_schema}, {"to_schema", to_schema}};
    struct err e;
    if (argv->n > 0 && !(c->argv = fill_argv(argv, names, sizeof names / sizeof names[0], &e))) {
        end_with(c, false, true, e.text);
        return;
    }
    if (!c->spec || !d->executor_kind->run || argv->n == 0) {
        execute(c); /* says why not */
        return;
    }
    if (reachable(c))
        d->executor_kind->run(d->executor, &c->order, (const char *const *)c->argv, on_kept, c);
}

/* ---- all ---- */

void deployment_do(struct deployment *d, const struct rollback_effect *e)
{
    struct call *c = call_new(d, e);
    const struct rollback_job *j = &d->doc->job;
    d->turned++;
    log_info("an act of a rollback begins", F_STR("deployment", d->name), F_STR("job", j->id),
             F_STR("op", op_name(e->op)), F_INT("serial", e->serial), F_STR("version", e->version),
             F_INT("side", e->side), F_INT("count", e->count), F_INT("share_0", e->share[0]),
             F_INT("share_1", e->share[1]));
    switch (e->op) {
    case ROLLBACK_OP(PREFLIGHT):
        call_order(c, e->version, e->side, e->count, preflight);
        break;
    case ROLLBACK_OP(WEIGHT):
        call_view(c, set_weights);
        break;
    case ROLLBACK_OP(SNAPSHOT):
    case ROLLBACK_OP(RESTORE):
    case ROLLBACK_OP(RESUME_WRITER):
        call_view(c, act_on_data);
        break;
    case ROLLBACK_OP(MIGRATE):
        call_order(c, j->from, j->from_side, 1, migrate);
        break;
    default:
        call_order(c, e->version, e->side, e->count, execute);
    }
}
