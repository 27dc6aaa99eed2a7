/* client_action.c - actions as the agent sees them: taken from any thread, refused here where that is certain, told when they are over. */
#include "client/client_priv.h"
#include "common/clock.h"
#include "common/metric.h"
#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TIMEOUT_MS     15000
#define TIMEOUT_MIN_MS 100
#define TIMEOUT_MAX_MS 600000

METRIC_DEFINE(taken, METRIC_COUNTER, "redoubt_client_actions_total", "Actions that the agent has asked for.");
METRIC_DEFINE(refused, METRIC_COUNTER, "redoubt_client_actions_refused_total",
              "Actions malformed, or more than may wait.");
METRIC_DEFINE(here, METRIC_COUNTER, "redoubt_client_actions_refused_here_total",
              "Actions that were refused without asking a guard: frozen, out of touch, or never directed.");

/* Numbers as in the contract. */
#define SAME(a, b) _Static_assert((int)(a) == (int)REDOUBT__V1__##b, "differs from the contract")
SAME(REDOUBT_ACT_FORWARDED, ACTION_DECISION__ACTION_DECISION_FORWARDED);
SAME(REDOUBT_ACT_QUEUED, ACTION_DECISION__ACTION_DECISION_QUEUED);
SAME(REDOUBT_ACT_REFUSED, ACTION_DECISION__ACTION_DECISION_REFUSED);
SAME(REDOUBT_ACT_DUPLICATE, ACTION_DECISION__ACTION_DECISION_DUPLICATE);
SAME(REDOUBT_ACT_PERMITTED, ACTION_DECISION__ACTION_DECISION_PERMITTED);
SAME(REDOUBT_ACT_FAILED, ACTION_DECISION__ACTION_DECISION_FAILED);
SAME(REDOUBT_REFUSED_UNKNOWN_AGENT, REFUSAL_REASON__REFUSAL_REASON_UNKNOWN_AGENT);
SAME(REDOUBT_REFUSED_STALE_EPOCH, REFUSAL_REASON__REFUSAL_REASON_STALE_EPOCH);
SAME(REDOUBT_REFUSED_FROZEN, REFUSAL_REASON__REFUSAL_REASON_FROZEN);
SAME(REDOUBT_REFUSED_NOT_ALLOWED, REFUSAL_REASON__REFUSAL_REASON_NOT_ALLOWED);
SAME(REDOUBT_REFUSED_INVALID, REFUSAL_REASON__REFUSAL_REASON_INVALID);
SAME(REDOUBT_REFUSED_RATE_LIMITED, REFUSAL_REASON__REFUSAL_REASON_RATE_LIMITED);
SAME(REDOUBT_REFUSED_QUEUE_FULL, REFUSAL_REASON__REFUSAL_REASON_QUEUE_FULL);
SAME(REDOUBT_REFUSED_EXPIRED, REFUSAL_REASON__REFUSAL_REASON_EXPIRED);
SAME(REDOUBT_REFUSED_AUDIT_UNAVAILABLE, REFUSAL_REASON__REFUSAL_REASON_AUDIT_UNAVAILABLE);
SAME(REDOUBT_REFUSED_STATE_UNKNOWN, REFUSAL_REASON__REFUSAL_REASON_STATE_UNKNOWN);
SAME(REDOUBT_REFUSED_IN_PROGRESS, REFUSAL_REASON__REFUSAL_REASON_IN_PROGRESS);

const char *redoubt_acted_text(enum redoubt_acted result)
{
    return result == REDOUBT_ACT_UNKNOWN ? "UNKNOWN"
           : result > 0 && result < REDOUBT_ACT_UNKNOWN
               ? wire_enum_name(&redoubt__v1__action_decision__descriptor, (int)result)
               : "?";
}

const char *redoubt_refusal_text(enum redoubt_refusal refusal)
{
    static const char *const own[] = {"OUT_OF_TOUCH", "NO_DIRECTIVE", "UNREACHABLE", "CLOSED"};
    unsigned n = (unsigned)refusal;
    if (n == 0)
        return "NONE";
    if (n >= REDOUBT_REFUSED_OUT_OF_TOUCH)
        return n - REDOUBT_REFUSED_OUT_OF_TOUCH < sizeof own / sizeof *own ? own[n - REDOUBT_REFUSED_OUT_OF_TOUCH]
                                                                           : "?";
    return wire_enum_name(&redoubt__v1__refusal_reason__descriptor, (int)n);
}

/* ---- any thread ---- */

static void action_free(struct client_action *x)
{
    if (!x)
        return;
    client_deed_free(x->deed);
    free(x->decision);
    free(x);
}

static struct client_action *action_new(redoubt *r, const redoubt_action *a, redoubt_acted_fn fn, void *ctx)
{
    char key[64];
    unsigned timeout_ms = a->timeout_ms ? a->timeout_ms : TIMEOUT_MS;
    if (timeout_ms < TIMEOUT_MIN_MS || timeout_ms > TIMEOUT_MAX_MS)
        return NULL;
    struct client_action *x = calloc(1, sizeof *x);
    if (!x)
        return NULL;
    snprintf(key, sizeof key, "%s-%" PRIu64, r->boot, atomic_fetch_add(&r->actions_named, 1) + 1);
    *x = (struct client_action){.deed = client_deed_new(r->agent, r->instance, key, a),
                                .deadline_ms = clock_mono_ms() + timeout_ms,
                                .fn = fn,
                                .ctx = ctx,
                                .decision = a->decision ? client_decision_copy(r, a->decision) : NULL};
    if (x->deed && (!a->decision || x->decision))
        return x;
    action_free(x);
    return NULL;
}

int redoubt_act(redoubt *r, const redoubt_action *a, redoubt_acted_fn fn, void *ctx)
{
    struct client_action *x = action_new(r, a, fn, ctx);
    bool ok = false;
    if (x) {
        pthread_mutex_lock(&r->lock);
        ok = !r->closing && r->n_actions < CLIENT_ACTIONS_MAX;
        if (ok) {
            *r->actions_end = x;
            r->actions_end = &x->next;
            r->n_actions++;
            uv_async_send(&r->wake); /* under the lock: whoever closes has not begun, so the handle is there */
        }
        pthread_mutex_unlock(&r->lock);
    }
    metric_add(ok ? &taken : &refused, 1);
    if (!ok)
        action_free(x);
    return ok ? 0 : -1;
}

struct waiter {
    pthread_mutex_t lock;
    pthread_cond_t over;
    bool done;
    redoubt_result *result;
};

static void on_waited(void *ctx, const redoubt_result *result)
{
    struct waiter *w = ctx;
    pthread_mutex_lock(&w->lock);
    *w->result = *result;
    w->done = true;
    pthread_cond_signal(&w->over);
    pthread_mutex_unlock(&w->lock);
}

int redoubt_act_wait(redoubt *r, const redoubt_action *a, redoubt_result *result)
{
    assert(!pthread_equal(pthread_self(), r->thread) && "redoubt_act_wait() from a callback would wait for itself");
    struct waiter w = {.result = result};
    pthread_mutex_init(&w.lock, NULL);
    pthread_cond_init(&w.over, NULL);
    int ok = redoubt_act(r, a, on_waited, &w);
    if (ok == 0) {
        pthread_mutex_lock(&w.lock);
        while (!w.done)
            pthread_cond_wait(&w.over, &w.lock);
        pthread_mutex_unlock(&w.lock);
    }
    pthread_cond_destroy(&w.over);
    pthread_mutex_destroy(&w.lock);
    return ok;
}

/* ---- loop thread ---- */

static void where(void *ctx, const struct client_deed *a, struct client_where *ret)
{
    redoubt *r = ctx;
    (void)a;
    uint64_t epoch = atomic_load(&r->epoch);
    *ret = (struct client_where){.connected = r->gate.up,
                                 .out_of_touch = r->gate.out_of_touch || atomic_load(&r->touch) == CLIENT_OUT,
                                 .directed = epoch != 0,
                                 .posture = atomic_load(&r->posture),
                                 .epoch = epoch};
}

/* Is this outcome evidence against the judgement that asked for it? The state of the suite is none. */
static bool denied(const redoubt_result *result)
{
    unsigned status = result->status_code;
    if (result->result == REDOUBT_ACT_FAILED)
        return status >= 400 && status <= 499 && status != 408 && status != 425 && status != 429;
    return result->result == REDOUBT_ACT_REFUSED &&
           (result->refusal == REDOUBT_REFUSED_NOT_ALLOWED || result->refusal == REDOUBT_REFUSED_INVALID ||
            result->refusal == REDOUBT_REFUSED_RATE_LIMITED);
}

static void over(void *ctx, struct client_deed *a, const redoubt_result *result)
{
    redoubt *r = ctx;
    struct client_action *x = a->owner;
    if (result->result == REDOUBT_ACT_REFUSED && result->epoch == 0)
        metric_add(&here, 1);
    if (x->decision)
        (void)client_decision_add(
            r, x->decision, denied(result) ? REDOUBT_DECIDED_DENIED : (enum redoubt_decided)x->decision->outcome);
    x->decision = NULL;
    pthread_mutex_lock(&r->lock);
    r->n_actions--;
    pthread_mutex_unlock(&r->lock);
    if (x->fn)
        x->fn(x->ctx, result);
    x->deed = NULL; /* the engine frees it */
    action_free(x);
}

void client_action_init(redoubt *r)
{
    r->actions_end = &r->actions;
    r->deeds = (struct client_deeds){.loop = &r->loop, .where = where, .over = over, .ctx = r};
}

static struct client_action *take_all(redoubt *r)
{
    pthread_mutex_lock(&r->lock);
    struct client_action *x = r->actions;
    r->actions = NULL;
    r->actions_end = &r->actions;
    pthread_mutex_unlock(&r->lock);
    return x;
}

void client_action_flush(redoubt *r)
{
    r->deeds.bus = r->bus;
    for (struct client_action *x = take_all(r), *next; x; x = next) {
        next = x->next;
        x->deed->owner = x;
        client_deeds_add(&r->deeds, x->deed, x->deadline_ms);
    }
}

void client_action_turn(redoubt *r)
{
    client_deeds_turn(&r->deeds);
}

void client_action_end(redoubt *r)
{
    client_action_flush(r); /* `closing` is set: none comes after these */
    client_deeds_end(&r->deeds);
}

void client_action_done(redoubt *r)
{
    for (struct client_action *x = take_all(r), *next; x; x = next) {
        next = x->next;
        action_free(x);
    }
}
