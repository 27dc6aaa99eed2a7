/* alert_cmd_problem.c - commands on a problem: look at it, take it on, give it back. */
#include "alert/alert_due.h"
#include "alert/alert_memory.h"
#include "alert/alert_order.h"
#include "common/clock.h"
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define OK_         REDOUBT__V1__COMMAND_STATUS__COMMAND_STATUS_OK
#define INVALID     REDOUBT__V1__COMMAND_STATUS__COMMAND_STATUS_INVALID
#define UNAVAILABLE REDOUBT__V1__COMMAND_STATUS__COMMAND_STATUS_UNAVAILABLE
#define ACK_MOST_MS (INT64_C(30) * 86400000)
#define NOT_KNOWN   "no problem %.255s is known; `redoubt alert list` shows those that are there"

/* ---- problem ---- */

struct question {
    struct alert_room *room;
    char reply[ALERT_REPLY_MAX];
    char named[256];
};

static void on_got(void *ctx, const struct alert_changed *r)
{
    struct question *q = ctx;
    struct alert_room *room = q->room;
    if (room->closing) {
        /* nobody to tell any more */
    } else if (r->problem) {
        alert_reply_payload(room->service, q->reply, r->problem, "");
    } else if (r->status == ALERT_CHANGE_UNKNOWN) {
        service_reply(room->service, q->reply, INVALID, 0, NOT_KNOWN, q->named);
    } else {
        service_reply(room->service, q->reply, UNAVAILABLE, 0, "out of memory");
    }
    free(q);
    alert_room_unref(room);
}

void alert_on_problem(struct service *s, const void *message, const struct bus_msg *m)
{
    const PB(AlertCommand) *c = message;
    struct alert_room *r = s->state;
    char id[ALERT_ID_LEN + 1];
    struct question *q = *c->problem && strlen(m->reply) < ALERT_REPLY_MAX ? calloc(1, sizeof *q) : NULL;
    if (!q) {
        service_reply(s, m->reply, INVALID, 0, "which problem? its dedup_key or its id is missing (problem)");
        return;
    }
    q->room = r;
    snprintf(q->reply, sizeof q->reply, "%s", m->reply);
    snprintf(q->named, sizeof q->named, "%s", c->problem);
    alert_room_ref(r);
    alert_memory_change(r->memory,
                        &(struct alert_change){.kind = ALERT_CHANGE_GET, .id = alert_doc_named(c->problem, id)},
                        on_got, q);
}

/* ---- ack, unack ---- */

static void on_done(void *ctx, const struct alert_changed *r)
{
    struct alert_order *o = ctx;
    struct alert_memory *m = o->room->memory;
    bool ack = o->until_ms != 0;
    char until[CLOCK_TEXT_MAX];
    if (r->status == ALERT_CHANGE_DONE && !o->room->closing)
        alert_due_tell(m->due, r);
    if (r->status == ALERT_CHANGE_DONE && ack && !o->room->closing)
        alert_channels_acked(o->room, r->problem->alert, o->by);
    switch (r->status) {
    case ALERT_CHANGE_DONE:
        if (ack)
            alert_order_end(o, OK_, r->problem->revision, "%s is taken on by %s until %s", o->subject, o->by,
                            alert_order_time(o->until_ms, until, sizeof until));
        else
            alert_order_end(o, OK_, r->problem->revision, "%s is given back: people are told again", o->subject);
        break;
    case ALERT_CHANGE_UNKNOWN:
    case ALERT_CHANGE_REFUSED:
        alert_order_end(o, INVALID, 0, "%s is %s: nothing was done", o->subject, ack ? "over" : "not acknowledged");
        break;
    case ALERT_CHANGE_UNSAFE:
        alert_order_end(o, UNAVAILABLE, 0, "%s: neither Redis nor the stream of states could keep it; try again",
                        o->subject);
        break;
    }
}

static void act(struct alert_order *o)
{
    struct alert_change c = {.kind = o->until_ms ? ALERT_CHANGE_ACK : ALERT_CHANGE_UNACK,
                             .id = o->id,
                             .by = o->by,
                             .reason = o->reason,
                             .until_ms = o->until_ms};
    alert_memory_change(o->room->memory, &c, on_done, o);
}

/* There is such a problem, and it is in a state for it: only then is there anything to record. */
static void on_found(void *ctx, const struct alert_changed *r)
{
    struct alert_order *o = ctx;
    struct service *s = o->room->service;
    struct alert_problem p;
    if (o->room->closing) {
        alert_order_free(o);
        return;
    }
    bool ack = o->until_ms != 0;
    bool known = alert_doc_read(r->problem, &p);
    if (!known)
        service_reply(s, o->reply, INVALID, 0, NOT_KNOWN, o->subject);
    else if (!alert_problem_open(&p))
        service_reply(s, o->reply, INVALID, 0, "%s is over: nothing was done", r->problem->alert->dedup_key);
    else if (!ack && p.state != ALERT_PROBLEM_ACKNOWLEDGED)
        service_reply(s, o->reply, INVALID, 0, "%s is not acknowledged: nothing was done",
                      r->problem->alert->dedup_key);
    if (!known || !alert_problem_open(&p) || (!ack && p.state != ALERT_PROBLEM_ACKNOWLEDGED)) {
        alert_order_free(o);
        return;
    }
    free(o->subject);
    o->subject = strdup(r->problem->alert->dedup_key);
    if (!o->subject) {
        service_reply(s, o->reply, UNAVAILABLE, 0, "out of memory");
        alert_order_free(o);
        return;
    }
    alert_order_record(o);
}

static void on_order(struct service *s, const void *message, const struct bus_msg *m, const char *action, bool ack)
{
    const PB(AlertCommand) *c = message;
    struct alert_room *r = s->state;
    if (!*c->problem) {
        service_bad_input(s, "command", m, "no problem is named");
        service_reply(s, m->reply, INVALID, 0, "which problem? its dedup_key or its id is missing (problem)");
        return;
    }
    if (c->duration_ms > (uint64_t)ACK_MOST_MS) {
        service_bad_input(s, "command", m, "it would hold too long");
        service_reply(s, m->reply, INVALID, 0, "an acknowledgement holds for at most 30 days");
        return;
    }
    struct alert_order *o = alert_order_new(r, c, m, action);
    if (!o)
        return;
    int64_t for_ms = c->duration_ms ? (int64_t)c->duration_ms : s->settings->alert.ack_ms;
    o->until_ms = ack ? clock_shared_ms() + for_ms : 0;
    o->act = act;
    o->subject = strdup(c->problem);
    alert_doc_named(c->problem, o->id);
    if (!o->subject) {
        service_reply(s, m->reply, UNAVAILABLE, 0, "out of memory");
        alert_order_free(o);
        return;
    }
    alert_memory_change(r->memory, &(struct alert_change){.kind = ALERT_CHANGE_GET, .id = o->id}, on_found, o);
}

void alert_on_ack(struct service *s, const void *message, const struct bus_msg *m)
{
    on_order(s, message, m, "alert.acknowledged", true);
}

void alert_on_unack(struct service *s, const void *message, const struct bus_msg *m)
{
    on_order(s, message, m, "alert.unacknowledged", false);
}
