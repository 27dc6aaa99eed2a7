/* client_deed.c - actions on their way: asked of the guard, asked again, answered.
 *
 * Each sending waits for its own answer until the deadline, so that a late one still counts; whichever says what became of the action ends
 * it. What to do when, client_try.c decides. */
#include "client/client_deed.h"
#include "common/clock.h"
#include "common/metric.h"
#include "common/subjects.h"
#include "common/utf8.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <utlist.h>

METRIC_DEFINE(sent, METRIC_COUNTER, "redoubt_client_action_requests_total",
              "Requests to the guard, repeats included.");
METRIC_DEFINE(bad, METRIC_COUNTER, "redoubt_client_action_replies_bad_total",
              "Answers of the guard that break the contract.");
METRIC_DEFINE(unknown, METRIC_COUNTER, "redoubt_client_actions_unknown_total",
              "Actions of which it is not known whether they were done.");

struct client_sending {
    struct client_deed *deed; /* NULL: over meanwhile, nobody waits any more */
    uint64_t epoch;
    struct client_sending *prev, *next;
};

static char *text(const char *s)
{
    return (char *)(uintptr_t)(s ? s : "");
}

/* ---- what is asked for ---- */

struct client_deed *client_deed_new(const char *agent, const char *instance, const char *key, const redoubt_action *a)
{
    PB(Label) labels[64], *list[64];
    PB(ActionRequest) m = REDOUBT__V1__ACTION_REQUEST__INIT;
    if (a->n_parameters > 64)
        return NULL;
    for (size_t i = 0; i < a->n_parameters; i++) {
        labels[i] = (PB(Label))REDOUBT__V1__LABEL__INIT;
        labels[i].key = text(a->parameters[i].key);
        labels[i].value = text(a->parameters[i].value);
        list[i] = &labels[i];
    }
    m.agent = text(agent);
    m.instance = text(instance);
    m.idempotency_key = text(a->idempotency_key ? a->idempotency_key : key);
    m.action = text(a->action);
    m.parameters = list;
    m.n_parameters = a->n_parameters;
    m.priority = a->priority;
    m.expires_unix_ms = a->expires_unix_ms;
    m.requested_unix_ms = clock_wall_ms();
    size_t len;
    void *data = wire_pack(&m, &len, NULL);
    struct client_deed *deed = data ? calloc(1, sizeof *deed) : NULL;
    if (deed)
        deed->request = wire_unpack(PB_DESC(action_request), data, len, NULL); /* a copy that is all our own */
    free(data);
    if (deed && !deed->request) {
        free(deed);
        deed = NULL;
    }
    return deed;
}

void client_deed_free(struct client_deed *a)
{
    if (a)
        wire_free(a->request);
    free(a);
}

/* ---- the end ---- */

static void gone(void *ctx)
{
    client_deed_free(ctx);
}

static void end(struct client_deed *a, const struct client_next *how)
{
    struct client_deeds *all = a->all;
    redoubt_result r = a->heard;
    r.result = (enum redoubt_acted)how->result;
    r.refusal = (enum redoubt_refusal)how->refusal;
    r.epoch = a->try.epoch;
    snprintf(r.idempotency_key, sizeof r.idempotency_key, "%s", a->request->idempotency_key);
    struct client_sending *s, *next;
    DL_FOREACH_SAFE(a->sendings, s, next)
    {
        DL_DELETE(a->sendings, s);
        s->deed = NULL;
    }
    if (r.result == REDOUBT_ACT_UNKNOWN)
        metric_add(&unknown, 1);
    DL_DELETE(all->first, a);
    all->over(all->ctx, a, &r);
    loop_timer_close(&a->timer, gone);
}

/* ---- asking ---- */

static void follow(struct client_deed *a, struct client_next next);

static void heard(struct client_deed *a, const struct client_heard *h)
{
    struct client_where w;
    a->all->where(a->all->ctx, a, &w);
    follow(a, client_try_heard(&a->try, &w, h, clock_mono_ms()));
}

/* What the answer says besides; false: it breaks the contract, or is not ours. */
static bool read_reply(struct client_deed *a, const struct bus_msg *m, struct client_heard *h)
{
    PB(ActionReply) *r = NULL;
    if (!m->type || strcmp(m->type, "redoubt.v1.ActionReply") == 0)
        r = wire_unpack(PB_DESC(action_reply), m->data, m->len, NULL);
    bool ok = r && strcmp(r->idempotency_key, a->request->idempotency_key) == 0;
    if (ok) {
        h->kind = CLIENT_HEARD_ANSWER;
        h->decision = (int)r->decision;
        h->refusal = (int)r->refusal;
        h->retry_after_ms = r->retry_after_ms;
        a->heard = (redoubt_result){.status_code = r->status_code, .retry_after_ms = r->retry_after_ms};
        size_t most = sizeof a->heard.detail - 1, len = strnlen(r->detail, most + 1);
        memcpy(a->heard.detail, r->detail, utf8_valid_until(r->detail, len < most ? len : most));
    } else {
        metric_add(&bad, 1);
    }
    wire_free(r);
    return ok;
}

static void on_reply(void *ctx, enum bus_status st, const struct bus_msg *m)
{
    struct client_sending *s = ctx;
    struct client_deed *a = s->deed;
    struct client_heard h = {.kind = CLIENT_HEARD_NOBODY, .epoch = s->epoch};
    if (a)
        DL_DELETE(a->sendings, s);
    free(s);
    if (!a || st == BUS_TIMEOUT || st == BUS_CLOSED) /* unknown, and the deadline has a timer of its own */
        return;
    if (st == BUS_OK && !read_reply(a, m, &h))
        h.kind = CLIENT_HEARD_GARBAGE;
    heard(a, &h);
}

static void send_it(struct client_deed *a)
{
    char subject[SUBJECT_MAX_LEN];
    size_t len;
    a->request->epoch = a->try.epoch;
    struct client_sending *s = calloc(1, sizeof *s);
    void *data = s ? wire_pack(a->request, &len, NULL) : NULL;
    if (!data) { /* out of memory: perhaps there is some later */
        free(s);
        heard(a, &(struct client_heard){.kind = CLIENT_HEARD_NOBODY, .epoch = a->try.epoch});
        return;
    }
    *s = (struct client_sending){.deed = a, .epoch = a->try.epoch};
    DL_APPEND(a->sendings, s);
    snprintf(subject, sizeof subject, SUBJECT_ACTION "%s", a->request->agent);
    int64_t left_ms = a->try.deadline_ms - clock_mono_ms();
    metric_add(&sent, 1);
    bus_request(a->all->bus,
                &(struct bus_out){.subject = subject, .type = wire_type(a->request), .data = data, .len = len},
                left_ms > 1 ? left_ms : 1, on_reply, s);
    free(data);
}

static void turn(struct client_deed *a)
{
    struct client_where w;
    a->all->where(a->all->ctx, a, &w);
    follow(a, client_try_turn(&a->try, &w, clock_mono_ms()));
}

static void look_at(struct client_deed *a, int64_t at_ms)
{
    int64_t left_ms = at_ms - clock_mono_ms();
    loop_timer_start(&a->timer, left_ms > 1 ? left_ms : 1, 0);
}

static void follow(struct client_deed *a, struct client_next next)
{
    switch (next.kind) {
    case CLIENT_TRY_SEND:
        look_at(a, a->try.next_ms < a->try.deadline_ms ? a->try.next_ms : a->try.deadline_ms);
        send_it(a);
        break;
    case CLIENT_TRY_WAIT:
        look_at(a, next.at_ms);
        break;
    case CLIENT_TRY_END:
        end(a, &next);
        break;
    }
}

static void on_timer(void *ctx)
{
    turn(ctx);
}

/* ---- all of them ---- */

void client_deeds_add(struct client_deeds *all, struct client_deed *a, int64_t deadline_ms)
{
    int64_t now = clock_mono_ms(), expires_ms = a->request->expires_unix_ms;
    bool expires = false;
    if (expires_ms) {
        int64_t left_ms = expires_ms - clock_wall_ms();
        expires = now + left_ms < deadline_ms;
        deadline_ms = expires ? now + left_ms : deadline_ms;
    }
    a->all = all;
    client_try_init(&a->try, now, deadline_ms, expires);
    loop_timer_init(all->loop, &a->timer, on_timer, a);
    DL_APPEND(all->first, a);
    turn(a);
}

void client_deeds_turn(struct client_deeds *all)
{
    struct client_deed *a, *next;
    DL_FOREACH_SAFE(all->first, a, next)
    turn(a);
}

void client_deeds_end(struct client_deeds *all)
{
    struct client_deed *a, *next;
    DL_FOREACH_SAFE(all->first, a, next)
    {
        struct client_next how = client_try_give_up(&a->try, REDOUBT_REFUSED_CLOSED);
        end(a, &how);
    }
}
