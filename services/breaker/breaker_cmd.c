/* breaker_cmd.c - what is asked: leave to call, the present state, and what a person wants. */
#include "breaker/breaker_shell.h"
#include "common/clock.h"
#include "common/metric.h"
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

METRIC_DEFINE(permits, METRIC_COUNTER, "redoubt_breaker_permits_total", "Permits given out for one trial call.");
METRIC_DEFINE(refusals, METRIC_COUNTER, "redoubt_breaker_refusals_total",
              "Requests for leave to call that were refused.");

#define UNKNOWN_ASK_AGAIN_MS 60000

/* One request on its way through the engine; its texts live here. */
struct ask {
    struct breaker_request q; /* first: the engine gives it back */
    struct node *n;
    const char *verb; /* NULL for allow */
    char *reply, *by, *why;
};

static void ask_free(struct ask *a)
{
    free(a->reply);
    free(a->by);
    free(a->why);
    free(a);
}

static struct ask *ask_new(struct node *n, const char *reply, const char *by, const char *why)
{
    struct ask *a = calloc(1, sizeof *a);
    if (!a)
        return NULL;
    *a = (struct ask){.n = n, .reply = strdup(reply), .by = strdup(by), .why = strdup(why)};
    if (a->reply && a->by && a->why)
        return a;
    ask_free(a);
    return NULL;
}

/* ---- allow ---- */

static void allow_reply(struct service *s, const char *reply, const struct breaker *b, const struct breaker_result *r)
{
    PB(AllowReply) m = PB_INIT(ALLOW_REPLY);
    m.admitted = r->admitted;
    m.state = (PB(BreakerState))b->state;
    m.permit_id = r->permit_id;
    m.retry_after_ms = r->admitted ? 0 : r->retry_after_ms > UINT32_MAX ? UINT32_MAX : (uint32_t)r->retry_after_ms;
    m.epoch = b->epoch;
    metric_add(r->admitted ? &permits : &refusals, r->admitted ? r->permit_id != 0 : 1);
    service_reply_message(s, reply, &m);
}

void breaker_on_allow(struct service *s, const void *message, const struct bus_msg *m)
{
    const PB(AllowRequest) *r = message;
    struct node *n = breaker_node(s->state, r->target);
    if (!n) {
        service_bad_input(s, "allow for an unknown target", m, "the settings have no such target");
        allow_reply(s, m->reply, &(struct breaker){0},
                    &(struct breaker_result){.retry_after_ms = UNKNOWN_ASK_AGAIN_MS});
        return;
    }
    struct ask *a = ask_new(n, m->reply, r->holder, "");
    if (!a)
        return; /* the caller's time-out says no */
    a->q.ev = (struct breaker_event){.kind = BREAKER_EV_ALLOW,
                                     .u.allow = {.holder = a->by, .draw = randombytes_uniform(100)}};
    breaker_hold(n);
    breaker_target_request(&n->t, &a->q);
}

/* ---- people ---- */

static const char *or_text(const char *s, const char *instead)
{
    return s && *s ? s : instead;
}

void breaker_answer(struct breaker_target *t, struct breaker_request *q, enum breaker_answer answer,
                    const struct breaker_result *r)
{
    struct ask *a = (struct ask *)q;
    struct node *n = t->ctx;
    struct service *s = n->sh->s;
    if (n->sh->stopped) {
        /* nobody to tell any more */
    } else if (!a->verb) {
        allow_reply(s, a->reply, &t->doc, r);
    } else if (answer == BREAKER_ANSWER_UNAVAILABLE) {
        service_reply(s, a->reply, REDOUBT__V1__COMMAND_STATUS__COMMAND_STATUS_UNAVAILABLE, t->doc.epoch,
                      "%s %s: shared state (Redis) is out of reach, or the breaker is not known yet; try again",
                      a->verb, n->name);
    } else {
        bool already = answer == BREAKER_ANSWER_ALREADY;
        service_reply(s, a->reply,
                      already ? REDOUBT__V1__COMMAND_STATUS__COMMAND_STATUS_ALREADY
                              : REDOUBT__V1__COMMAND_STATUS__COMMAND_STATUS_OK,
                      t->doc.epoch, "%s is %s%s", n->name, sm_name(&breaker_sm, t->doc.state),
                      already ? " already" : "");
    }
    ask_free(a);
    breaker_release(n);
}

static void on_recorded(void *ctx, int status, const char *error)
{
    struct ask *a = ctx;
    struct node *n = a->n;
    if (n->sh->stopped || status != 0) {
        if (!n->sh->stopped)
            service_reply(n->sh->s, a->reply, REDOUBT__V1__COMMAND_STATUS__COMMAND_STATUS_UNAVAILABLE, 0,
                          "%s %s: nothing was done, because the audit trail cannot record it: %s", a->verb, n->name,
                          or_text(error, "unknown error"));
        ask_free(a);
        breaker_release(n);
        return;
    }
    breaker_target_request(&n->t, &a->q);
}

static void on_person(struct service *s, const PB(BreakerCommand) * c, const struct bus_msg *m, const char *verb,
                      enum breaker_event_kind kind)
{
    struct node *n = breaker_node(s->state, c->target);
    const char *wrong = !n              ? "the settings have no such target"
                        : !c->by[0]     ? "who does it is missing (by)"
                        : !c->reason[0] ? "why it is done is missing (reason)"
                                        : NULL;
    if (wrong) {
        service_bad_input(s, "command", m, wrong);
        service_reply(s, m->reply, REDOUBT__V1__COMMAND_STATUS__COMMAND_STATUS_INVALID, 0, "%s %s: %s", verb,
                      c->target, wrong);
        return;
    }
    if (!store_up(s->store)) {
        service_reply(s, m->reply, REDOUBT__V1__COMMAND_STATUS__COMMAND_STATUS_UNAVAILABLE, n->t.doc.epoch,
                      "%s %s: shared state (Redis) is out of reach: %s", verb, n->name, store_last_error(s->store));
        return;
    }
    struct ask *a = ask_new(n, m->reply, c->by, c->reason);
    if (!a)
        return;
    a->verb = verb;
    a->q.ev = (struct breaker_event){
        .kind = kind, .u.person = {.by = a->by, .why = a->why, .duration_ms = (int64_t)c->duration_ms}};
    char action[32];
    snprintf(action, sizeof action, "breaker.%s", verb);
    PB(AuditRecord) r = PB_INIT(AUDIT_RECORD);
    r.audit_class = REDOUBT__V1__AUDIT_CLASS__AUDIT_CLASS_STRICT;
    r.action = action;
    r.actor = a->by;
    r.subject = n->name;
    r.outcome = REDOUBT__V1__AUDIT_OUTCOME__AUDIT_OUTCOME_INTENDED;
    r.detail = a->why;
    breaker_hold(n);
    service_audit(s, &r, on_recorded, a);
}

void breaker_on_open(struct service *s, const void *message, const struct bus_msg *m)
{
    on_person(s, message, m, "open", BREAKER_EV_OPEN);
}

void breaker_on_close(struct service *s, const void *message, const struct bus_msg *m)
{
    on_person(s, message, m, "close", BREAKER_EV_CLOSE);
}

void breaker_on_reset(struct service *s, const void *message, const struct bus_msg *m)
{
    on_person(s, message, m, "reset", BREAKER_EV_RESET);
}

void breaker_on_metrics(struct service *s, const void *message, const struct bus_msg *m)
{
    on_person(s, message, m, "metrics", BREAKER_EV_METRICS);
}

void breaker_on_show(struct service *s, const void *message, const struct bus_msg *m)
{
    const PB(BreakerCommand) *c = message;
    struct node *n = breaker_node(s->state, c->target);
    if (!n || n->t.doc.epoch == 0) {
        service_reply(s, m->reply,
                      n ? REDOUBT__V1__COMMAND_STATUS__COMMAND_STATUS_UNAVAILABLE
                        : REDOUBT__V1__COMMAND_STATUS__COMMAND_STATUS_INVALID,
                      0, "show %s: %s", c->target,
                      n ? "not known yet; try again when Redis and the stream are reachable"
                        : "the settings have no such target");
        return;
    }
    struct breaker_message x;
    struct err e;
    size_t len = 0;
    breaker_doc_fill(&x, n->name, &n->t.doc);
    void *data = wire_pack(&x.m, &len, &e);
    if (!data)
        return;
    PB(CommandReply) reply = PB_INIT(COMMAND_REPLY);
    char text[TARGET_MAX_LEN + 64];
    snprintf(text, sizeof text, "%s is %s", n->name, sm_name(&breaker_sm, n->t.doc.state));
    reply.status = REDOUBT__V1__COMMAND_STATUS__COMMAND_STATUS_OK;
    reply.message = text;
    reply.epoch = n->t.doc.epoch;
    reply.payload = (ProtobufCBinaryData){.len = len, .data = data};
    service_reply_message(s, m->reply, &reply);
    free(data);
}
