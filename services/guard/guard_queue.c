/* guard_queue.c - the queue's life: who has something in it, how much, and what moves it.
 *
 * How much waits is asked of the stream: at the start, when a partition is taken, when somebody wants to know, and every two seconds. Between
 * two counts what is put and taken out here is reckoned in. */
#include "guard/guard_queue.h"
#include "common/clock.h"
#include "common/log.h"
#include "common/metric.h"
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#define COUNT_EVERY_MS 2000
#define COUNT_IDLE_MS  5000 /* nothing waits */
#define COUNT_LIMIT_MS 10000
#define RELEASE_MS     5000

METRIC_DEFINE(waiting_now, METRIC_GAUGE, "redoubt_guard_queue_waiting",
              "Actions that wait in the queue, of all agents.");
METRIC_DEFINE(bytes_now, METRIC_GAUGE, "redoubt_guard_queue_bytes", "Bytes of the queue's stream.");
METRIC_DEFINE(agents_now, METRIC_GAUGE, "redoubt_guard_queue_agents", "Agents that have actions in the queue.");
METRIC_DEFINE(count_failures, METRIC_COUNTER, "redoubt_guard_queue_count_failures_total",
              "Times that the stream did not say how much waits.");
METRIC_DEFINE(foreign, METRIC_COUNTER, "redoubt_guard_queue_foreign_total",
              "Subjects of the queue's stream that are of no agent; left alone.");

/* ---- ties ---- */

struct guard_tie *guard_tie(struct guard_queue *q)
{
    q->tie->holders++;
    return q->tie;
}

struct guard_queue *guard_untie(struct guard_tie *t)
{
    struct guard_queue *q = t->q;
    if (--t->holders == 0)
        free(t);
    return q;
}

/* ---- waiters ---- */

struct guard_waiter *guard_waiter_find(const struct guard_queue *q, const char *agent)
{
    struct guard_waiter *w;
    HASH_FIND_STR(q->waiters, agent, w);
    return w;
}

struct guard_waiter *guard_waiter(struct guard_queue *q, const char *agent)
{
    struct guard_waiter *w = guard_waiter_find(q, agent);
    if (w || !(w = calloc(1, sizeof *w)))
        return w;
    snprintf(w->name, sizeof w->name, "%s", agent);
    w->q = q;
    w->partition = partition_of(agent);
    HASH_ADD_STR(q->waiters, name, w);
    return w;
}

static bool idle(const struct guard_waiter *w)
{
    return !w->op && w->unsaved == 0 && w->alerted == 0 && !w->r.remove && guard_replay_waiting(&w->r) == 0 &&
           w->release != GUARD_RELEASE_ASKED &&
           guard_replay_due(&w->r, &(struct guard_replay_view){.held = true}) == INT64_MAX;
}

struct guard_replay_view guard_waiter_view(const struct guard_waiter *w)
{
    struct guard *g = w->q->g;
    const struct guard_agent *a = guard_agent(g, w->name);
    bool held = g->partitions && bus_up(g->s->bus) && !g->s->draining && partition_fence(g->partitions, w->partition);
    return (struct guard_replay_view){.held = held,
                                      .sure = guard_sure(g),
                                      .known = a && a->set,
                                      .at = a && a->at.epoch > 0 ? &a->at : NULL,
                                      .released_epoch = w->released_epoch};
}

struct guard_replay_rule guard_queue_rule(const struct guard_queue *q)
{
    const struct set_queue *s = &q->g->s->settings->guard.queue;
    return (struct guard_replay_rule){
        .max_age_ms = s->max_age_ms, .retry_ms = s->retry_ms, .dead_after = s->dead_after};
}

bool guard_queue_subject(const char *subject, char agent[static NAME_MAX_LEN + 1], unsigned *ret_priority)
{
    const char *tail = subject_tail(subject, SUBJECT_QUEUE), *dot = tail ? strchr(tail, '.') : NULL;
    if (!dot || dot - tail > NAME_MAX_LEN || dot[1] < '0' || dot[1] > '9' || dot[2])
        return false;
    snprintf(agent, NAME_MAX_LEN + 1, "%.*s", (int)(dot - tail), tail);
    *ret_priority = (unsigned)(dot[1] - '0');
    return name_token_ok(agent);
}

/* ---- counting ---- */

static void on_count(void *ctx, const char *subject, uint64_t messages)
{
    struct guard_queue *q = ((struct guard_tie *)ctx)->q;
    char agent[NAME_MAX_LEN + 1];
    unsigned priority;
    if (!q)
        return;
    struct guard_waiter *w = guard_queue_subject(subject, agent, &priority) ? guard_waiter(q, agent) : NULL;
    if (!w) {
        metric_add(&foreign, 1);
        return;
    }
    if (w->counted != q->count)
        memset(w->fresh, 0, sizeof w->fresh);
    w->counted = q->count;
    w->fresh[priority] = messages;
}

static void take_counts(struct guard_queue *q)
{
    static const uint64_t none[GUARD_PRIORITIES];
    int64_t now = clock_shared_ms();
    for (struct guard_waiter *w = q->waiters, *next; w; w = next) {
        next = w->hh.next;
        guard_replay_counts(&w->r, w->counted == q->count ? w->fresh : none, now);
        if (guard_replay_waiting(&w->r) == 0 && w->alerted && !guard_waiter_view(w).held)
            guard_waiter_settle(w); /* whoever held it when it became empty may not know of our alerts */
        if (idle(w)) {
            guard_waiter_unlist(w);
            HASH_DEL(q->waiters, w);
            free(w);
        }
    }
}

static void begin_count(struct guard_queue *q);

static void on_counted(void *ctx, enum bus_status st, const struct bus_stock *stock)
{
    struct guard_queue *q = guard_untie(ctx);
    if (!q)
        return;
    q->counting = false;
    if (st == BUS_OK) {
        q->count_done = q->count;
        q->stock = *stock;
        take_counts(q);
        metric_set(&waiting_now, (int64_t)stock->messages);
        metric_set(&bytes_now, (int64_t)stock->bytes);
        metric_set(&agents_now, HASH_COUNT(q->waiters));
        guard_puts_counted(q);
        guard_queue_schedule_all(q);
    } else {
        metric_add(&count_failures, 1);
    }
    q->next_count_ms = clock_mono_ms() + (q->stock.messages > 0 ? COUNT_EVERY_MS : COUNT_IDLE_MS);
    struct guard_count_wish *told = q->wishes, *wish;
    q->wishes = q->wishes_next;
    q->wishes_next = NULL;
    if (q->wishes || q->count_again)
        begin_count(q);
    while ((wish = told)) {
        told = wish->next;
        wish->fn(wish->ctx, st == BUS_OK);
        free(wish);
    }
    guard_queue_pump(q);
}

static void begin_count(struct guard_queue *q)
{
    q->counting = true;
    q->count_again = false;
    q->count++;
    bus_counts(q->g->s->bus, STREAM_ACTIONS, SUBJECT_QUEUE ">", COUNT_LIMIT_MS, on_count, on_counted, guard_tie(q));
}

void guard_queue_count(struct guard_queue *q, guard_counted fn, void *ctx)
{
    if (fn) {
        struct guard_count_wish *wish = malloc(sizeof *wish);
        assert(wish && "out of memory for a question");
        struct guard_count_wish **list = q->counting ? &q->wishes_next : &q->wishes;
        *wish = (struct guard_count_wish){fn, ctx, *list};
        *list = wish;
    } else if (q->counting) {
        q->count_again = true; /* what it says may be of before */
    }
    if (!q->counting)
        begin_count(q);
}

/* ---- what moves it ---- */

void guard_queue_bus_up(struct guard *g)
{
    if (g->queue)
        guard_queue_count(g->queue, NULL, NULL);
}

void guard_queue_held(struct guard *g, unsigned partition)
{
    (void)partition;
    if (g->queue && bus_up(g->s->bus))
        guard_queue_count(g->queue, NULL, NULL);
}

void guard_queue_lost(struct guard *g, unsigned partition)
{
    if (!g->queue)
        return;
    for (struct guard_waiter *w = g->queue->waiters; w; w = w->hh.next) {
        if (w->partition != partition)
            continue;
        guard_waiter_unlist(w);
        if (!w->op)
            guard_replay_released(&w->r); /* whoever holds it next passes over by himself; we begin anew */
        w->release = GUARD_RELEASE_UNKNOWN;
    }
}

void guard_queue_moved(struct guard *g, struct guard_agent *a)
{
    struct guard_waiter *w = g->queue ? guard_waiter_find(g->queue, a->name) : NULL;
    if (!w)
        return;
    struct guard_replay_view v = guard_waiter_view(w);
    guard_replay_moved(&w->r, &v, clock_shared_ms());
    bool passes = guard_replay_waits_for(&v) == NULL;
    if (passes && !w->passed && bus_up(g->s->bus)) {
        guard_queue_count(g->queue, NULL, NULL);
        w->want_count = g->queue->count + g->queue->count_again;
    }
    w->passed = passes;
    guard_waiter_schedule(w);
    guard_queue_pump(g->queue);
}

void guard_queue_tick(struct guard *g)
{
    struct guard_queue *q = g->queue;
    if (!q)
        return;
    int64_t now = clock_mono_ms();
    if (bus_up(g->s->bus) && !q->counting && now >= q->next_count_ms)
        guard_queue_count(q, NULL, NULL);
    for (struct guard_waiter *w = q->waiters; w; w = w->hh.next)
        if (w->release == GUARD_RELEASE_KNOWN && guard_replay_skipped(&w->r) > 0 &&
            now - w->release_asked_ms >= RELEASE_MS && guard_waiter_view(w).held)
            guard_waiter_ask_release(w); /* a person may have released them by way of another replica */
    guard_queue_schedule_all(q);
    guard_queue_pump(q);
}

/* ---- life ---- */

static void on_wake(void *ctx)
{
    struct guard_queue *q = ctx;
    q->wake_ms = INT64_MAX;
    guard_queue_schedule_all(q);
    guard_queue_pump(q);
}

int guard_queue_open(struct guard *g, struct err *e)
{
    struct guard_queue *q = calloc(1, sizeof *q);
    if (!q)
        return err_set(e, "out of memory");
    q->tie = calloc(1, sizeof *q->tie);
    if (!q->tie) {
        free(q);
        return err_set(e, "out of memory");
    }
    *q->tie = (struct guard_tie){.q = q, .holders = 1};
    q->g = g;
    q->wake_ms = INT64_MAX;
    loop_timer_init(&g->s->loop, &q->wake, on_wake, q);
    guard_puts_open(q);
    g->queue = q;
    return 0;
}

static void free_queue(void *ctx)
{
    free(ctx);
}

static void wake_closed(void *ctx)
{
    struct guard_queue *q = ctx;
    guard_puts_close(q, free_queue);
}

/* What still calls back finds nobody. */
void guard_queue_close(struct guard *g)
{
    struct guard_queue *q = g->queue;
    if (!q)
        return;
    g->queue = NULL;
    q->tie->q = NULL;
    guard_untie(q->tie);
    for (struct guard_waiter *w = q->waiters, *next; w; w = next) {
        next = w->hh.next;
        HASH_DEL(q->waiters, w);
        free(w);
    }
    for (struct guard_count_wish *w; (w = q->wishes ? q->wishes : q->wishes_next);) {
        if (w == q->wishes)
            q->wishes = w->next;
        else
            q->wishes_next = w->next;
        free(w);
    }
    loop_timer_close(&q->wake, wake_closed);
}
