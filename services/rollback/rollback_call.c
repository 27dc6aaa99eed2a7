/* rollback_call.c - one question or act of a deployment, with all that it needs, until its end.
 *
 * A call belongs to its deployment: when the backends are closed their callbacks do not come any more, and the calls end with them. */
#include "common/clock.h"
#include "common/log.h"
#include "rollback/rollback_shell.h"
#include <stdlib.h>
#include <string.h>
#include <utlist.h>

#define RECORD_MS 3000 /* the stream answers in milliseconds */

struct call *call_new(struct deployment *d, const struct rollback_effect *e)
{
    struct call *c = calloc(1, sizeof *c);
    if (!c)
        abort(); /* somebody waits for its end */
    c->d = d;
    c->id = ++d->room->calls;
    c->turned = d->turned;
    c->began_mono_ms = clock_mono_ms();
    if (e)
        c->e = *e;
    DL_APPEND2(d->calls, c, prev, next_call);
    return c;
}

static void free_view(struct call *c)
{
    for (size_t i = 0; i < c->view.n_versions; i++)
        free(c->view.versions[i].spec);
    free((void *)c->view.versions);
    free((void *)c->view.instances);
    c->view = (struct executor_view){.error = ""};
}

static void free_argv(struct call *c)
{
    for (size_t i = 0; c->argv && c->argv[i]; i++)
        free(c->argv[i]);
    free(c->argv);
}

void call_end(struct call *c)
{
    DL_DELETE2(c->d->calls, c, prev, next_call);
    free_view(c);
    free_argv(c);
    free(c->spec);
    free(c->inspection);
    free(c);
}

/* Somebody may wait for what one of them would have said. */
void calls_end(struct deployment *d)
{
    while (d->calls) {
        if (d->calls->reply[0])
            service_reply(d->room->s, d->calls->reply, REDOUBT__V1__COMMAND_STATUS__COMMAND_STATUS_UNAVAILABLE, 0,
                          "%s has just been given to another replica, or has new settings; try again", d->name);
        call_end(d->calls);
    }
}

/* ---- what stands ---- */

static bool copy_view(struct call *c, const struct executor_view *v)
{
    free_view(c);
    struct executor_instance *instances = calloc(v->n + 1, sizeof *instances);
    struct executor_version *versions = calloc(v->n_versions + 1, sizeof *versions);
    bool good = instances && versions;
    if (good && v->n > 0)
        memcpy(instances, v->instances, v->n * sizeof *instances);
    for (size_t i = 0; good && i < v->n_versions; i++) {
        versions[i] = v->versions[i];
        versions[i].spec = NULL;
        if (v->versions[i].spec) {
            versions[i].spec = malloc(v->versions[i].spec_len + 1);
            good = versions[i].spec;
        }
        if (versions[i].spec) {
            memcpy(versions[i].spec, v->versions[i].spec, v->versions[i].spec_len);
            versions[i].spec[versions[i].spec_len] = '\0';
        }
    }
    snprintf(c->view_error, sizeof c->view_error, "%s", v->error ? v->error : "");
    c->view = (struct executor_view){.ok = v->ok && good,
                                     .lasting = v->lasting,
                                     .error = good ? c->view_error : "out of memory",
                                     .instances = instances,
                                     .n = good ? v->n : 0,
                                     .versions = versions,
                                     .n_versions = versions ? v->n_versions : 0};
    return good;
}

static void on_view(void *ctx, const struct executor_view *v)
{
    struct call *c = ctx;
    copy_view(c, v);
    c->then(c);
}

void call_view(struct call *c, void (*then)(struct call *c))
{
    struct deployment *d = c->d;
    c->then = then;
    deployment_open(d);
    if (d->open)
        d->executor_kind->view(d->executor, on_view, c);
    else
        on_view(c, &(struct executor_view){.error = d->closed_why});
}

static void sight(struct call *c)
{
    const struct rollback_job *j = &c->d->doc->job;
    struct sight_job job = {.id = NULL};
    /* In PREPARE a job has made nothing yet, and does not know its sides: what stands is what it finds, also what an earlier job has brought. */
    if (rollback_busy(c->d->doc) && j->phase != ROLLBACK_PHASE(PREPARE)) {
        job.id = j->id;
        job.version[j->from_side] = j->from;
        job.version[!j->from_side] = j->to;
    }
    rollback_sight_make(&c->sight, &c->view, c->traffic_asked ? &c->traffic : NULL, &job);
    if (!rollback_busy(c->d->doc) && c->view.ok)
        deployment_stood(c);
    /* Nothing was set by this process: there is nothing to read back. */
    if (c->d->set->traffic.type == SET_TRAFFIC_NONE && c->traffic.share[0] + c->traffic.share[1] == 0)
        c->sight.side[0].share = c->sight.side[1].share = -1;
}

static void on_traffic(void *ctx, const struct traffic_view *v)
{
    struct call *c = ctx;
    c->traffic = *v;
    snprintf(c->traffic_error, sizeof c->traffic_error, "%s", v->error ? v->error : "");
    c->traffic.error = c->traffic_error;
    c->traffic_asked = true;
    sight(c);
    c->then(c);
}

/* The steps of a look; `then` is the caller's, kept meanwhile. */
static void look_at_traffic(struct call *c)
{
    bool ours = c->view.ok && rollback_set_addresses(c->d->doc);
    c->then = c->after;
    if (c->d->open)
        c->d->traffic_kind->view(c->d->traffic, c->view.instances, ours ? c->view.n : 0, on_traffic, c);
    else
        on_traffic(c, &(struct traffic_view){.error = c->d->closed_why});
}

void call_look(struct call *c, void (*then)(struct call *c))
{
    c->after = then;
    call_view(c, look_at_traffic);
}

void call_addresses(struct call *c, int place, const char *version)
{
    c->n_addresses[place] = 0;
    for (size_t i = 0; i < c->view.n && c->n_addresses[place] < EXECUTOR_INSTANCES; i++) {
        const struct executor_instance *x = &c->view.instances[i];
        if (x->running && x->ready && x->address[0] && strcmp(x->version, version) == 0)
            c->addresses[place][c->n_addresses[place]++] = x->address;
    }
}

/* ---- an order for the executor ---- */

static void order_made(struct call *c)
{
    const struct version_record *r = record_known(c->d, c->version);
    if (r) {
        snprintf(c->image, sizeof c->image, "%s", r->image);
        free(c->spec);
        c->spec = malloc(r->spec_len + 1);
        if (c->spec) {
            memcpy(c->spec, r->spec, r->spec_len + 1);
            c->order.spec_len = r->spec_len;
        }
    }
    c->order.image = c->image;
    c->order.spec = c->spec;
    c->then(c);
}

static struct call *call_by_id(struct deployment *d, uint64_t id)
{
    struct call *c;
    DL_FOREACH2(d->calls, c, next_call)
    if (c->id == id)
        return c;
    return NULL;
}

static void on_record(void *ctx, enum bus_status st, const struct bus_msg *m)
{
    uint64_t id;
    struct deployment *d = rollback_ticket_back(ctx, &id);
    struct call *c = d ? call_by_id(d, id) : NULL;
    struct err e = {""};
    if (!c)
        return;
    if (st == BUS_OK && m)
        record_take(d, m->data, m->len, c->version, &e);
    else
        err_set(&e, "%s",
                st == BUS_REFUSED ? "there is no record of it on the stream: deploy it once so that it is seen"
                                  : "the stream that holds its record cannot be read: is NATS reachable?");
    c->lasting = e.text[0] && (st == BUS_OK || st == BUS_REFUSED); /* it was looked for, and is not there */
    if (e.text[0])
        snprintf(c->text, sizeof c->text, "how %s is made again is not known: %.300s", c->name, e.text);
    order_made(c);
}

void call_order(struct call *c, const char *version, int side, unsigned count, void (*then)(struct call *c))
{
    struct deployment *d = c->d;
    const struct rollback_version *v = rollback_doc_version(d->doc, version);
    c->then = then;
    snprintf(c->job, sizeof c->job, "%s", d->doc->job.id);
    snprintf(c->version, sizeof c->version, "%s", version);
    snprintf(c->name, sizeof c->name, "%s", rollback_doc_name(d->doc, version));
    snprintf(c->digest, sizeof c->digest, "%s", v ? v->digest : "");
    c->order = (struct executor_order){.job = c->job,
                                       .version = c->version,
                                       .name = c->name,
                                       .image = c->image,
                                       .digest = c->digest,
                                       .side = side,
                                       .count = count};
    if (record_known(d, version)) {
        order_made(c);
        return;
    }
    char subject[SUBJECT_MAX_LEN];
    snprintf(subject, sizeof subject, "%s%s.%s", SUBJECT_VERSION, d->name, version);
    if (!d->room->bus_up) {
        snprintf(c->text, sizeof c->text, "how %s is made again is not known while NATS is away", c->name);
        order_made(c);
        return;
    }
    bus_last(d->room->s->bus, STREAM_STATE, subject, RECORD_MS, on_record, rollback_ticket(d, c->id));
}

/* ---- could it be carried out? ---- */

static void part(struct call *c, bool ok, bool lasting, const char *what, const char *text)
{
    if (!ok) {
        size_t used = strlen(c->text);
        c->lasting = (c->failed ? c->lasting : true) && lasting; /* of use to try again if one of them may pass */
        c->failed = true;
        snprintf(c->text + used, sizeof c->text - used, "%s%s: %.300s", used ? "; " : "", what,
                 text && *text ? text : "no");
    }
    if (--c->waits == 0)
        c->then(c);
}

static void on_executor_checked(void *ctx, const struct executor_result *r)
{
    part(ctx, r->ok, r->lasting, "executor", r->text);
}

static void on_traffic_checked(void *ctx, const struct executor_result *r)
{
    part(ctx, r->ok, r->lasting, "traffic", r->text);
}

static void on_data_checked(void *ctx, const struct data_result *r)
{
    part(ctx, r->ok, r->lasting, "learning data", r->text);
}

void call_preflight(struct call *c, void (*then)(struct call *c))
{
    struct deployment *d = c->d;
    char unknown[400];
    c->then = then;
    c->waits = 1;
    c->failed = false;
    snprintf(unknown, sizeof unknown, "%.399s", c->text);
    c->text[0] = '\0';
    deployment_open(d);
    if (!d->open) {
        part(c, false, false, "settings", d->closed_why);
        return;
    }
    c->waits = 3 + (d->data != NULL);
    if (c->spec)
        d->executor_kind->check(d->executor, &c->order, on_executor_checked, c);
    else
        c->waits--;
    d->traffic_kind->check(d->traffic, on_traffic_checked, c);
    if (d->data)
        data_check(d->data, on_data_checked, c);
    /* Callbacks come later: this part is the last now, or one of several. */
    part(c, c->spec, false, "version", unknown);
}
