/* guard_action.c - one action from request to outcome: judge, claim its key within the limits, record, judge again, act.
 *
 * The last judgement is made in the very moment before the act: whatever has changed while Redis and the disk were asked counts. What is
 * refused costs neither of them a round trip. An action is in hand from its first judgement to the end of its call; a fence waits for that. */
#include "common/clock.h"
#include "common/metric.h"
#include "guard/guard_impl.h"
#include <stdlib.h>
#include <string.h>

#define WAIT_MAX_MS  8000 /* a claim lasts longer than this and the call together; see guard_claim.c */
#define COME_BACK_MS 200

#define REASON(what) REDOUBT__V1__REFUSAL_REASON__REFUSAL_REASON_##what

/* ---- a copy of the request, in one piece with the action ---- */

static size_t room_for(const char *s)
{
    return strlen(s) + 1;
}

static size_t request_size(const PB(ActionRequest) * r)
{
    size_t n = sizeof(struct guard_act) + sizeof *r + r->n_parameters * (sizeof(PB(Label)) + sizeof(PB(Label) *));
    n += room_for(r->agent) + room_for(r->idempotency_key) + room_for(r->action) + room_for(r->instance);
    for (size_t i = 0; i < r->n_parameters; i++)
        n += room_for(r->parameters[i]->key) + room_for(r->parameters[i]->value);
    return n;
}

static char *put_text(char **at, const char *s)
{
    char *copy = *at;
    size_t n = room_for(s);
    memcpy(copy, s, n);
    *at += n;
    return copy;
}

static struct guard_act *new_act(const PB(ActionRequest) * r)
{
    struct guard_act *x = malloc(request_size(r));
    if (!x)
        abort(); /* an answer was promised, and there is no memory to give it */
    *x = (struct guard_act){.r = (PB(ActionRequest) *)(x + 1)};
    PB(Label) *labels = (PB(Label) *)(x->r + 1);
    PB(Label) **list = (PB(Label) **)(labels + r->n_parameters);
    char *at = (char *)(list + r->n_parameters);
    *x->r = *r;
    x->r->agent = put_text(&at, r->agent);
    x->r->idempotency_key = put_text(&at, r->idempotency_key);
    x->r->action = put_text(&at, r->action);
    x->r->instance = put_text(&at, r->instance);
    x->r->parameters = r->n_parameters ? list : NULL;
    for (size_t i = 0; i < r->n_parameters; i++) {
        labels[i] = *r->parameters[i];
        labels[i].key = put_text(&at, r->parameters[i]->key);
        labels[i].value = put_text(&at, r->parameters[i]->value);
        list[i] = &labels[i];
    }
    return x;
}

/* ---- in hand ---- */

static void take_in_hand(struct guard_act *x)
{
    struct guard_agent *a = x->a;
    x->under_epoch = a->at.epoch;
    x->peer = a->acts;
    if (x->peer)
        x->peer->peer_link = &x->peer;
    x->peer_link = &a->acts;
    a->acts = x;
    a->in_hand++;
}

static void put_down(struct guard_act *x)
{
    if (!x->peer_link)
        return;
    *x->peer_link = x->peer;
    if (x->peer)
        x->peer->peer_link = x->peer_link;
    x->peer_link = NULL;
    x->a->in_hand--;
    guard_fence_done(x);
}

/* ---- the end ---- */

static void on_turn(void *ctx)
{
    struct guard *g = ctx;
    g->turn_due = false;
    guard_audit_flush(g);
    guard_turn(g);
}

static void turn_soon(struct guard *g)
{
    if (g->turn_due)
        return;
    g->turn_due = true;
    loop_defer(&g->s->loop, on_turn, g);
}

void guard_turn(struct guard *g)
{
    struct guard_act *x = g->ended;
    g->ended = NULL;
    g->ended_end = &g->ended;
    while (x) {
        struct guard_act *next = x->next;
        guard_count(g, x);
        x->done(x->ctx, &x->result);
        g->acts--;
        free(x);
        x = next;
    }
}

static void record_end(struct guard_act *x, int reason)
{
    static const struct {
        const char *what;
        int outcome;
    } rows[] = {
        [GUARD_END_DONE] = {"action.done", REDOUBT__V1__AUDIT_OUTCOME__AUDIT_OUTCOME_DONE},
        [GUARD_END_REFUSED] = {"action.refused", REDOUBT__V1__AUDIT_OUTCOME__AUDIT_OUTCOME_REFUSED},
        [GUARD_END_REJECTED] = {"action.rejected", REDOUBT__V1__AUDIT_OUTCOME__AUDIT_OUTCOME_FAILED},
        [GUARD_END_RETRY] = {"action.failed", REDOUBT__V1__AUDIT_OUTCOME__AUDIT_OUTCOME_FAILED},
        [GUARD_END_PERMITTED] = {NULL, 0}, /* said before, as intended */
        [GUARD_END_QUEUE] = {NULL, 0},
    };
    if (rows[x->result.end].what)
        guard_audit_outcome(x->g, x->r, x->result.duplicate ? "action.duplicate" : rows[x->result.end].what,
                            rows[x->result.end].outcome, reason, x->result.status, x->detail, x->under_epoch);
}

/* Its detail may be x->detail already. */
void guard_act_end(struct guard_act *x, enum guard_end end, int reason, const char *detail)
{
    struct guard *g = x->g;
    if (detail != x->detail)
        snprintf(x->detail, sizeof x->detail, "%s", detail);
    x->result.end = end;
    x->result.reason = reason;
    x->result.detail = x->detail;
    record_end(x, reason);
    put_down(x);
    x->next = NULL;
    *g->ended_end = x;
    g->ended_end = &x->next;
    turn_soon(g);
}

/* ---- judging ---- */

void guard_view_of(const struct guard *g, const struct guard_agent *a, struct guard_view *v)
{
    *v = (struct guard_view){.baseline = g->baseline};
    if (!a || !a->set)
        return;
    v->known = true;
    /* A fence is ahead of its directive: until that is here we know that we do not know. */
    v->sure = guard_sure(g) && a->fence_epoch <= a->at.epoch;
    v->at = &a->at;
    v->has_backend = *a->set->actions.url;
    v->released_epoch = guard_queue_released(g, a->name);
    v->max_age_ms = g->s->settings->guard.queue.max_age_ms;
}

static void judge(struct guard_act *x, struct guard_choice *c)
{
    struct guard_view v;
    guard_view_of(x->g, x->a, &v);
    guard_judge(&v, x->r, x->queued_ms, clock_wall_ms(), c);
}

static void end_by_choice(struct guard_act *x, const struct guard_choice *c)
{
    x->result.hold = c->hold;
    if (c->verdict == GUARD_QUEUE)
        guard_act_end(x, GUARD_END_QUEUE, 0, c->detail);
    else
        guard_act_end(x, GUARD_END_REFUSED, c->reason, c->detail);
}

void guard_run(struct guard *g, const PB(ActionRequest) * r, int64_t queued_ms, guard_done done, void *ctx)
{
    static const enum guard_mode modes[] = {
        [GUARD_FORWARD] = GUARD_MODE_FORWARD, [GUARD_PERMIT] = GUARD_MODE_PERMIT, [GUARD_QUEUE] = GUARD_MODE_QUEUE};
    struct guard_act *x = new_act(r);
    x->g = g;
    x->a = guard_agent(g, r->agent);
    x->queued_ms = queued_ms;
    x->done = done;
    x->ctx = ctx;
    x->begun_ns = clock_mono_ns();
    struct guard_choice c;
    judge(x, &c);
    bool crowded = g->acts >= GUARD_ACTIONS_MAX;
    g->acts++;
    if (c.verdict == GUARD_REFUSE || (c.verdict == GUARD_QUEUE && queued_ms > 0)) {
        if (c.verdict == GUARD_REFUSE && queued_ms > 0)
            guard_claim_forget(g, r->agent, r->idempotency_key); /* it leaves the queue */
        end_by_choice(x, &c);
    } else if (crowded || g->draining) {
        x->result.retry_after_ms = COME_BACK_MS;
        guard_act_end(x, queued_ms > 0 ? GUARD_END_RETRY : GUARD_END_REFUSED, REASON(RATE_LIMITED),
                      g->draining ? "this guard is about to end; ask again" : "too many actions are under way");
    } else {
        x->mode = modes[c.verdict];
        take_in_hand(x);
        guard_claim(x);
    }
}

/* ---- the act ---- */

static void give_up_claim(struct guard_act *x)
{
    guard_claim_settle(x, x->queued_ms > 0 ? GUARD_FATE_WAITS : GUARD_FATE_FREE, 0);
}

static void go(struct guard_act *x)
{
    static const enum guard_verdict wanted[] = {
        [GUARD_MODE_FORWARD] = GUARD_FORWARD, [GUARD_MODE_PERMIT] = GUARD_PERMIT, [GUARD_MODE_QUEUE] = GUARD_QUEUE};
    struct guard_choice c;
    judge(x, &c);
    if (c.verdict != wanted[x->mode]) {
        give_up_claim(x);
        if (c.verdict == GUARD_REFUSE || x->queued_ms > 0)
            end_by_choice(x, &c);
        else
            guard_act_end(x, GUARD_END_REFUSED, REASON(STATE_UNKNOWN),
                          "the agent's position has just changed; ask again");
        return;
    }
    switch (x->mode) {
    case GUARD_MODE_FORWARD:
        x->calling = true;
        x->g->calls++;
        guard_call(x, c.action);
        break;
    case GUARD_MODE_PERMIT:
        guard_act_end(x, GUARD_END_PERMITTED, 0, "");
        break;
    case GUARD_MODE_QUEUE:
        guard_act_end(x, GUARD_END_QUEUE, 0, c.detail);
        break;
    }
}

/* Calls to backends: no more at a time than the settings say; the others wait in order. */
void guard_act_pump(struct guard *g)
{
    while (g->waiting && g->calls < (size_t)g->s->settings->guard.at_once) {
        struct guard_act *x = g->waiting;
        g->waiting = x->next;
        if (!g->waiting)
            g->waiting_end = &g->waiting;
        if (clock_mono_ms() - x->claimed_ms > WAIT_MAX_MS) {
            give_up_claim(x);
            x->result.retry_after_ms = COME_BACK_MS;
            guard_act_end(x, GUARD_END_RETRY, REASON(RATE_LIMITED),
                          "it waited too long for its turn; nothing was done");
        } else {
            go(x);
        }
    }
}

static void on_recorded(struct guard_act *x, bool durable)
{
    struct guard *g = x->g;
    guard_trouble(g, GUARD_TROUBLE_AUDIT, !durable, x->detail);
    if (!durable) {
        give_up_claim(x);
        guard_act_end(x, x->queued_ms > 0 ? GUARD_END_RETRY : GUARD_END_REFUSED, REASON(AUDIT_UNAVAILABLE),
                      "it could not be recorded, so it is not done");
    } else if (x->mode == GUARD_MODE_FORWARD) {
        x->next = NULL;
        *g->waiting_end = x;
        g->waiting_end = &x->next;
        guard_act_pump(g);
    } else {
        go(x);
    }
}

void guard_act_claimed(struct guard_act *x)
{
    x->claimed_ms = clock_mono_ms();
    guard_audit_intend(x, on_recorded);
    turn_soon(x->g);
}

void guard_act_called(struct guard_act *x, enum guard_end end, int status, const char *detail, int64_t retry_ms)
{
    struct guard *g = x->g;
    g->calls--;
    x->calling = false;
    x->result.status = status;
    x->result.retry_after_ms = retry_ms;
    if (end == GUARD_END_DONE || end == GUARD_END_REJECTED)
        guard_claim_settle(x, end == GUARD_END_DONE ? GUARD_FATE_DONE : GUARD_FATE_FREE, status);
    else
        give_up_claim(x);
    guard_act_end(x, end, 0, detail);
    guard_act_pump(g);
}
