/* queue_guard.h - a guard that has only its queue, as a process of its own: the test program itself, started again. Real NATS, Redis, outbox,
 * partitions and queue; in place of judge and backend a question to the test: `test.run.<agent>`, answered by one word.
 *
 * Actions come as they do to the real one, and all of them are put into the queue. */
#ifndef REDOUBT_TESTS_QUEUE_GUARD_H
#define REDOUBT_TESTS_QUEUE_GUARD_H

#include "common/clock.h"
#include "common/share.h"
#include "guard/guard_impl.h"
#include <stdlib.h>
#include <string.h>

#define QUEUE_GUARD_RUN "test.run."

static inline struct guard *queue_guard(struct service *s)
{
    return s->state;
}

struct guard_agent *guard_agent(struct guard *g, const char *name)
{
    struct guard_agent *a;
    HASH_FIND_STR(g->agents, name, a);
    return a;
}

bool guard_sure(const struct guard *g)
{
    return g->synced && bus_up(g->s->bus) && !service_tilted(g->s);
}

/* Keys are remembered by the test. */
void guard_claim_forget(struct guard *g, const char *agent, const char *key)
{
    (void)g;
    (void)agent;
    (void)key;
}

/* ---- judge and backend: the test ---- */

struct queue_guard_call {
    guard_done done;
    void *ctx;
};

static void queue_guard_answered(void *ctx, enum bus_status st, const struct bus_msg *m)
{
    static const struct {
        const char *word;
        struct guard_result r;
    } words[] = {
        {"done", {.end = GUARD_END_DONE}},
        {"again", {.end = GUARD_END_DONE, .duplicate = true}},
        {"reject", {.end = GUARD_END_REJECTED, .status = 422, .detail = "no such host"}},
        {"refuse", {.end = GUARD_END_REFUSED, .reason = REDOUBT__V1__REFUSAL_REASON__REFUSAL_REASON_NOT_ALLOWED}},
        {"queue", {.end = GUARD_END_QUEUE, .hold = true}},
    };
    struct queue_guard_call c = *(struct queue_guard_call *)ctx;
    struct guard_result r = {.end = GUARD_END_RETRY, .status = 503, .detail = "not now"};
    free(ctx);
    if (st != BUS_OK) /* the test is away, with the bus: no fault of the action */
        r = (struct guard_result){.end = GUARD_END_REFUSED,
                                  .reason = REDOUBT__V1__REFUSAL_REASON__REFUSAL_REASON_STATE_UNKNOWN};
    for (size_t i = 0; st == BUS_OK && i < sizeof words / sizeof words[0]; i++)
        if (m->len == strlen(words[i].word) && memcmp(m->data, words[i].word, m->len) == 0)
            r = words[i].r;
    c.done(c.ctx, &r);
}

void guard_run(struct guard *g, const PB(ActionRequest) * r, int64_t queued_ms, guard_done done, void *ctx)
{
    char subject[128];
    struct queue_guard_call *c = malloc(sizeof *c);
    (void)queued_ms;
    if (!c)
        abort();
    *c = (struct queue_guard_call){done, ctx};
    snprintf(subject, sizeof subject, QUEUE_GUARD_RUN "%s", r->agent);
    struct bus_out o = {.subject = subject, .data = r->idempotency_key, .len = strlen(r->idempotency_key)};
    bus_request(g->s->bus, &o, 2000, queue_guard_answered, c);
}

/* ---- what agents ask, and where they stand ---- */

struct queue_guard_put {
    struct service *s;
    char reply[256];
};

static void queue_guard_put_done(void *ctx, int status, bool full, const char *error)
{
    struct queue_guard_put *p = ctx;
    const char *text = status == 0 ? "queued" : full ? "full" : error ? error : "?";
    struct bus_out o = {.subject = p->reply, .data = text, .len = strlen(text)};
    (void)bus_publish(p->s->bus, &o, NULL);
    free(p);
}

static void queue_guard_action(struct service *s, const void *message, const struct bus_msg *m)
{
    struct queue_guard_put *p = calloc(1, sizeof *p);
    if (!p || !m->reply)
        abort();
    p->s = s;
    snprintf(p->reply, sizeof p->reply, "%s", m->reply);
    guard_queue_put(queue_guard(s), message, REDOUBT__V1__POSTURE__POSTURE_DEGRADED, "the backend is away",
                    queue_guard_put_done, p);
}

static void queue_guard_directive(struct service *s, const void *message, const struct bus_msg *m)
{
    const PB(Directive) *d = message;
    struct guard_agent *a = guard_agent(queue_guard(s), d->state->agent);
    (void)m;
    if (!a || d->state->epoch <= a->at.epoch)
        return;
    a->at = (struct guard_position){.epoch = d->state->epoch,
                                    .posture = (int)d->state->posture,
                                    .automation = (int)d->state->automation,
                                    .backend = (int)d->state->backend,
                                    .link = (int)d->state->link,
                                    .resources = (int)d->state->resources,
                                    .frozen_epoch = d->state->frozen_epoch};
    guard_queue_moved(queue_guard(s), a);
}

/* ---- life ---- */

static int queue_guard_start(struct service *s, struct err *e)
{
    struct guard *g = calloc(1, sizeof *g);
    s->state = g;
    if (!g)
        return err_set(e, "out of memory");
    g->s = s;
    for (size_t i = 0; i < s->settings->agents.n; i++) {
        struct guard_agent *a = calloc(1, sizeof *a);
        if (!a)
            return err_set(e, "out of memory");
        a->set = CONF_AT(s->settings->agents, struct set_agent, i);
        snprintf(a->name, sizeof a->name, "%s", a->set->name);
        HASH_ADD_STR(g->agents, name, a);
    }
    return guard_queue_open(g, e);
}

static void queue_guard_held(void *ctx, unsigned partition, uint64_t fence)
{
    (void)fence;
    guard_queue_held(ctx, partition);
}

static void queue_guard_lost(void *ctx, unsigned partition)
{
    guard_queue_lost(ctx, partition);
}

static void queue_guard_store_up(struct service *s)
{
    struct guard *g = queue_guard(s);
    share_take(s, &g->partitions,
               (struct partition_opts){.lease_ttl_ms = s->settings->guard.lease_ttl_ms,
                                       .member_ttl_ms = s->settings->guard.member_ttl_ms,
                                       .on_held = queue_guard_held,
                                       .on_lost = queue_guard_lost,
                                       .ctx = g},
               "no partitions: out of memory");
}

static void queue_guard_bus_up(struct service *s)
{
    guard_queue_bus_up(queue_guard(s));
}

static void queue_guard_bus_down(struct service *s)
{
    queue_guard(s)->synced = false;
}

static void queue_guard_synced(struct service *s)
{
    queue_guard(s)->synced = true;
    guard_queue_tick(queue_guard(s));
}

static void queue_guard_tick(struct service *s)
{
    guard_queue_tick(queue_guard(s));
}

static void queue_guard_drain(struct service *s)
{
    share_give_back(s, &queue_guard(s)->partitions);
}

static void queue_guard_stop(struct service *s)
{
    struct guard *g = queue_guard(s);
    guard_queue_close(g);
    for (struct guard_agent *a = g->agents, *next; a; a = next) {
        next = a->hh.next;
        HASH_DEL(g->agents, a);
        free(a);
    }
    free(g);
}

static int queue_guard_main(int argc, char **argv)
{
    static const struct service_sub subs[] = {
        {SUBJECT_ACTION "*", SERVICE_SUB_QUEUE, PB_DESC(action_request), queue_guard_action},
        {SUBJECT_DIRECTIVE ">", SERVICE_SUB_WATCH, PB_DESC(directive), queue_guard_directive},
    };
    static const struct service_cmd cmds[] = {
        {"queue_list", PB_DESC(guard_command), guard_queue_cmd},
        {"queue_show", PB_DESC(guard_command), guard_queue_cmd},
        {"queue_drop", PB_DESC(guard_command), guard_queue_cmd},
        {"queue_release", PB_DESC(guard_command), guard_queue_cmd},
    };
    static const struct service_timer timers[] = {{1000, queue_guard_tick}};
    static const struct service_desc desc = {.name = "guard",
                                             .description = "the queue alone",
                                             .needs = SERVICE_STORE | SERVICE_OUTBOX,
                                             SERVICE_TABLE(subs),
                                             SERVICE_TABLE(cmds),
                                             SERVICE_TABLE(timers),
                                             .start = queue_guard_start,
                                             .on_bus_up = queue_guard_bus_up,
                                             .on_bus_down = queue_guard_bus_down,
                                             .on_watch_synced = queue_guard_synced,
                                             .on_store_up = queue_guard_store_up,
                                             .drain = queue_guard_drain,
                                             .stop = queue_guard_stop};
    return service_main(argc, argv, &desc);
}

#endif
