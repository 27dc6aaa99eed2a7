/* health_cmd.c - what a person wants: the present verdict, a maintenance, its end, a probe at once. */
#include "common/clock.h"
#include "common/log.h"
#include "health/health_shell.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DURATION_MIN_MS 1000
#define DURATION_MAX_MS (INT64_C(366) * 24 * 3600 * 1000)
#define GIVE_UP_MS      3000 /* then the answer is that it could not be done */

#define STATUS(x) REDOUBT__V1__COMMAND_STATUS__COMMAND_STATUS_##x

static struct health_watch *watch_of(struct service *s, const char *name)
{
    struct health_watcher *w = health_watcher_of(s);
    struct health_watch *t = health_find(w, name);
    if (t)
        return t;
    /* The link of a replica that has never been at fault. */
    const char *who = subject_tail(name, HEALTH_LINK_PREFIX);
    return who && health_member_name(w, rank_hash(who)) ? health_link_of(w, name) : NULL;
}

static void reply_unwatched(struct service *s, const char *reply, const char *name)
{
    service_reply(s, reply, STATUS(INVALID), 0,
                  "%s is not watched: it is not among the targets that have a probe, nor is it `agent.<name>` or "
                  "`link.<replica>`",
                  name);
}

/* What is announced, in the payload; and what this replica thinks, in the text. */
void health_on_show(struct service *s, const void *message, const struct bus_msg *m)
{
    struct health_watcher *w = health_watcher_of(s);
    const PB(HealthCommand) *q = message;
    struct health_watch *t = watch_of(s, q->target);
    if (!t) {
        reply_unwatched(s, m->reply, q->target);
        return;
    }
    char reason[256], spent[128] = "", text[900];
    if (t->probe && t->probe->paid)
        health_llm_spent_text(&t->conf.spent, spent, sizeof spent);
    if (t->link && t->place == 0)
        health_link_text(w, text, sizeof text);
    else if (t->link)
        snprintf(text, sizeof text, "%s", t->doc.epoch ? "as it was announced last" : "no fault of it is known");
    else
        snprintf(text, sizeof text, "%s: %s%s%s", sm_name(&health_sm, t->verdict.state),
                 health_reason(&t->verdict, reason, sizeof reason), *spent ? "; " : "", spent);
    PB(CommandReply) reply = REDOUBT__V1__COMMAND_REPLY__INIT;
    reply.status = STATUS(OK);
    reply.message = text;
    reply.epoch = t->doc.epoch;
    reply.payload.data = t->doc.packed;
    reply.payload.len = t->doc.len;
    service_reply_message(s, m->reply, &reply);
}

void health_on_probe(struct service *s, const void *message, const struct bus_msg *m)
{
    const PB(HealthCommand) *q = message;
    struct health_watch *t = health_find(health_watcher_of(s), q->target);
    if (!t) {
        reply_unwatched(s, m->reply, q->target);
        return;
    }
    if (!t->probe) {
        service_reply(s, m->reply, STATUS(INVALID), t->doc.epoch,
                      "probe %s: there is none: it is known by what it says of itself", t->name);
        return;
    }
    health_vote_ask(t);
    service_reply(s, m->reply, STATUS(OK), t->doc.epoch,
                  "%s is probed now; `redoubt health show %s` tells what came of it", t->name, t->name);
}

/* ---- maintenance ---- */

/* Between the record in the trail and the act. */
struct ask {
    struct health_watch *t;
    struct health_order *o;
};

static void order_free(struct health_order *o)
{
    if (!o)
        return;
    free(o->by);
    free(o->why);
    free(o->reply);
    free(o);
}

void health_order_done(struct health_watch *t, bool done)
{
    struct health_order *o = t->order;
    t->order = NULL;
    if (!o)
        return;
    if (t->w->stopped)
        ; /* the bus is gone: the asker's time-out tells */
    else if (!done)
        service_reply(t->w->s, o->reply, STATUS(UNAVAILABLE), t->doc.epoch,
                      "%s: shared state (Redis) is out of reach, or this replica is not among the watchers yet; try "
                      "again",
                      t->name);
    else if (o->until_ms > 0)
        service_reply(t->w->s, o->reply, STATUS(OK), t->doc.epoch, "%s is in MAINTENANCE", t->name);
    else
        service_reply(t->w->s, o->reply, STATUS(OK), t->doc.epoch, "%s is watched again", t->name);
    order_free(o);
}

static void on_recorded(void *ctx, int status, const char *error)
{
    struct ask *a = ctx;
    struct health_watch *t = a->t;
    struct health_watcher *w = t->w;
    struct health_order *o = a->o;
    free(a);
    if (w->stopped || status != 0 || t->gone || t->order) {
        if (!w->stopped)
            service_reply(w->s, o->reply, STATUS(UNAVAILABLE), t->doc.epoch, "%s: nothing was done: %s", t->name,
                          status != 0 ? error && *error ? error : "the audit trail cannot record it"
                          : t->order  ? "another order is just being carried out"
                                      : "it is not watched any more");
        order_free(o);
    } else if (o->until_ms == 0 && t->doc.state != HEALTH_MAINTENANCE) {
        service_reply(w->s, o->reply, STATUS(ALREADY), t->doc.epoch, "%s is not in maintenance", t->name);
        order_free(o);
    } else {
        o->give_up_ms = clock_mono_ms() + GIVE_UP_MS;
        t->order = o;
        health_doc_sync(t);
    }
    health_kept(w);
}

static void on_person(struct service *s, const PB(HealthCommand) * c, const struct bus_msg *m, const char *verb,
                      bool maintain)
{
    struct health_watcher *w = health_watcher_of(s);
    struct health_watch *t = health_find(w, c->target);
    const char *wrong = !t || t->link   ? "it is not watched"
                        : !c->by[0]     ? "who does it is missing (by)"
                        : !c->reason[0] ? "why it is done is missing (reason)"
                        : maintain && (c->duration_ms < DURATION_MIN_MS || c->duration_ms > DURATION_MAX_MS)
                            ? "a maintenance must have an end: 1 s to 366 days (duration_ms)"
                            : NULL;
    if (wrong) {
        service_bad_input(s, "command", m, wrong);
        service_reply(s, m->reply, STATUS(INVALID), 0, "%s %s: %s", verb, c->target, wrong);
        return;
    }
    if (!store_up(s->store)) {
        service_reply(s, m->reply, STATUS(UNAVAILABLE), t->doc.epoch,
                      "%s %s: shared state (Redis) is out of reach: %s", verb, t->name, store_last_error(s->store));
        return;
    }
    struct ask *a = calloc(1, sizeof *a);
    struct health_order *o = calloc(1, sizeof *o);
    if (o)
        *o = (struct health_order){.until_ms = maintain ? clock_shared_ms() + (int64_t)c->duration_ms : 0,
                                   .by = strdup(c->by),
                                   .why = strdup(c->reason),
                                   .reply = strdup(m->reply)};
    if (!a || !o || !o->by || !o->why || !o->reply) {
        free(a); /* the caller's time-out says no */
        order_free(o);
        return;
    }
    *a = (struct ask){.t = t, .o = o};
    char action[32];
    snprintf(action, sizeof action, "health.%s", verb);
    PB(AuditRecord) r = REDOUBT__V1__AUDIT_RECORD__INIT;
    r.audit_class = REDOUBT__V1__AUDIT_CLASS__AUDIT_CLASS_STRICT;
    r.action = action;
    r.actor = o->by;
    r.subject = t->name;
    r.outcome = REDOUBT__V1__AUDIT_OUTCOME__AUDIT_OUTCOME_INTENDED;
    r.detail = o->why;
    health_promise(w);
    service_audit(s, &r, on_recorded, a);
}

void health_on_maintain(struct service *s, const void *message, const struct bus_msg *m)
{
    on_person(s, message, m, "maintain", true);
}

void health_on_resume(struct service *s, const void *message, const struct bus_msg *m)
{
    on_person(s, message, m, "resume", false);
}

void health_cmd_tick(struct health_watcher *w)
{
    int64_t now_ms = clock_shared_ms();
    for (struct health_watch *t = w->all; t; t = t->hh.next) {
        if (t->order && !t->doc.busy && clock_mono_ms() >= t->order->give_up_ms)
            health_order_done(t, false);
        else if (t->order)
            health_doc_sync(t);
        if (t->gone || !health_tick(&t->verdict, now_ms))
            continue;
        log_info("a maintenance is over", F_STR("target", t->name));
        if (t->probe)
            health_run_arm(t);
        health_doc_sync(t);
    }
}
