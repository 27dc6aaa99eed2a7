/* alert_run.c - one message on its way: effects of its decider carried out. */
#include "alert/alert_room.h"
#include "common/clock.h"
#include <assert.h>
#include <stdlib.h>
#include <string.h>

/* One channel of the road. */
struct slot {
    struct alert_run *run;
    struct alert_job *job;   /* the attempt under way */
    enum alert_fault passed; /* the attempt could not be made: see alert_run.passed */
};
struct alert_run {
    struct alert_room *room;
    struct alert_road *road; /* NULL = there is no such node */
    const struct alert_message *message;
    struct alert_delivery d;
    alert_run_cb cb, through;
    void *ctx;
    bool over, dropped, starting;
    enum alert_standing standing;
    size_t first;    /* way that has accepted first */
    uint64_t passed; /* ways whose attempt could not be made: their results come next */
    int unsaid;      /* receipts and audit records not yet safe; and one while effects are carried out */
    int64_t wake_ms; /* in the room's list of those that wait; 0 = not */
    struct alert_run *prev, *next;
    struct slot *slots;       /* one per way, behind the tries */
    struct alert_try tries[]; /* one per way */
};

static void apply(struct alert_run *x, const struct alert_event *ev, const struct alert_result *result);

/* ---- those that wait for a time ---- */

static void stop_waiting(struct alert_run *x)
{
    struct alert_room *r = x->room;
    if (!x->wake_ms)
        return;
    x->wake_ms = 0;
    if (x->prev)
        x->prev->next = x->next;
    else
        r->waiting_runs = x->next;
    if (x->next)
        x->next->prev = x->prev;
    x->prev = x->next = NULL;
}

static void wait_until(struct alert_run *x, int64_t at_ms)
{
    struct alert_room *r = x->room;
    stop_waiting(x);
    x->wake_ms = at_ms;
    x->next = r->waiting_runs;
    if (x->next)
        x->next->prev = x;
    r->waiting_runs = x;
    if (at_ms < r->next_wake_ms) {
        r->next_wake_ms = at_ms;
        alert_room_settle(r);
    }
}

/* What one does may end another one: so one at a time, from the start. The list is walked only when something is due. */
int64_t alert_runs_wake(struct alert_room *r, int64_t now_ms)
{
    while (now_ms >= r->next_wake_ms) {
        struct alert_run *due = NULL;
        int64_t next = INT64_MAX;
        for (struct alert_run *x = r->waiting_runs; x; x = x->next) {
            if (x->wake_ms <= now_ms)
                due = x;
            else if (x->wake_ms < next)
                next = x->wake_ms;
        }
        if (!due) {
            r->next_wake_ms = next;
            break;
        }
        stop_waiting(due);
        apply(due, &(struct alert_event){.kind = ALERT_WAKE}, NULL);
    }
    return r->next_wake_ms;
}

/* ---- the end ---- */

static void run_free(struct alert_run *x)
{
    struct alert_room *r = x->room;
    assert(!x->wake_ms); /* it would stay in the list */
    alert_road_unref(x->road);
    free(x);
    alert_room_unref(r);
}

static void add_owed(const struct alert_run *x, size_t at, struct alert_run_end *end)
{
    const struct alert_tree *t = &x->road->plan.tree;
    const char *name = x->road->names[at];
    if (!*name) { /* several nodes that have nothing in common but this message */
        for (size_t c = at + 1; c < t->nodes[at].end; c = t->nodes[c].end)
            add_owed(x, c, end);
        return;
    }
    for (size_t i = 0; i < end->n_owed; i++)
        if (strcmp(end->owed[i], name) == 0)
            return;
    if (end->n_owed < ALERT_OWED_MAX)
        end->owed[end->n_owed++] = name;
}

static void fill_end(const struct alert_run *x, struct alert_run_end *end)
{
    *end = (struct alert_run_end){.known = x->road != NULL, .channel = ""};
    if (!x->road)
        return;
    end->told = x->d.marks.told != 0;
    end->recorded = x->d.recorded != 0;
    if (end->told)
        end->channel = x->road->ways[x->first]->set.name;
    if (x->d.cancelled || x->standing == ALERT_STANDING_ABSENT)
        return;
    uint16_t owed[ALERT_LEAVES_MAX];
    size_t n = alert_tree_owed(&x->road->plan.tree, &x->d.marks, owed);
    for (size_t i = 0; i < n; i++)
        add_owed(x, owed[i], end);
    for (size_t i = 0; i < x->road->plan.n; i++)
        if (x->d.marks.put_by & (UINT64_C(1) << i))
            end->over[end->n_over++] = x->road->ways[i]->set.name;
}

static void settle(struct alert_run *x)
{
    if (x->unsaid > 0 || (!x->over && !x->dropped))
        return;
    if (!x->dropped) {
        struct alert_run_end end;
        fill_end(x, &end);
        x->unsaid++; /* not to be freed by a drop from in there */
        x->cb(x->ctx, &end);
    }
    run_free(x);
}

static void on_said(void *ctx)
{
    struct alert_run *x = ctx;
    x->unsaid--;
    settle(x);
}

static void say_through(struct alert_run *x)
{
    alert_run_cb through = x->through;
    x->through = NULL;
    if (!through || x->dropped)
        return;
    struct alert_run_end end;
    fill_end(x, &end);
    through(x->ctx, &end);
}

/* ---- effects ---- */

static void on_attempt(void *ctx, const struct alert_result *r)
{
    struct slot *slot = ctx;
    struct alert_run *x = slot->run;
    slot->job = NULL;
    apply(x, &(struct alert_event){.kind = ALERT_RESULT, .way = (size_t)(slot - x->slots), .outcome = r->outcome}, r);
}

static void say(struct alert_run *x, const struct alert_effect *e, const struct alert_result *result)
{
    const struct alert_channel *c = e->way < x->road->plan.n ? x->road->ways[e->way] : NULL;
    alert_say_message(x->room, x->message, c, e->status, e->attempt, result,
                      &(struct alert_said){.done = on_said, .ctx = x, .count = &x->unsaid});
}

static void pass(struct alert_run *x, size_t way, enum alert_fault why)
{
    x->passed |= UINT64_C(1) << way;
    x->slots[way].passed = why;
}

static void attempt(struct alert_run *x, const struct alert_effect *e)
{
    struct alert_channel *c = x->road->ways[e->way];
    if (!alert_circuit_admit(&c->circuit, clock_mono_ms())) {
        pass(x, e->way, ALERT_FAULT_SKIPPED);
        return;
    }
    struct slot *slot = &x->slots[e->way];
    slot->job = alert_channel_send(c, x->message, x->d.critical, e->timeout_ms, e->start_by_ms, on_attempt, slot);
    if (!slot->job)
        pass(x, e->way, ALERT_FAULT_OTHER);
}

static void carry_out(struct alert_run *x, const struct alert_event *ev, const struct alert_result *result)
{
    struct alert_effect out[ALERT_EFFECTS_MAX];
    size_t n = alert_decide(&x->d, &x->road->plan, ev, clock_mono_ms(), out);
    for (size_t k = 0; k < n && !x->dropped; k++) {
        const struct alert_effect *e = &out[k];
        switch (e->kind) {
        case ALERT_SEND:
            attempt(x, e);
            break;
        case ALERT_RECEIPT:
            if (e->status == ALERT_STATUS_ACCEPTED && !(x->d.marks.told & (x->d.marks.told - 1)))
                x->first = e->way;
            say(x, e, e->way < x->road->plan.n ? result : NULL);
            break;
        case ALERT_TOLD:
            alert_room_told(x->room, x->road->ways[e->way], e->class, result);
            break;
        case ALERT_WAKE_AT:
            if (!x->over)
                wait_until(x, e->at_ms);
            break;
        case ALERT_END:
            stop_waiting(x); /* cancelled between two attempts, it still has a time to wake at */
            x->over = true;
            x->standing = e->standing;
            break;
        }
    }
}

static void apply(struct alert_run *x, const struct alert_event *ev, const struct alert_result *result)
{
    if (x->room->closing || x->dropped || x->over)
        return;
    x->unsaid++;
    carry_out(x, ev, result);
    while (x->passed && !x->dropped) {
        size_t way = 0;
        while (!(x->passed & (UINT64_C(1) << way)))
            way++;
        x->passed &= ~(UINT64_C(1) << way);
        enum alert_fault why = x->slots[way].passed;
        struct alert_result r = {.outcome = {why, 0, -1}, .detail = alert_fault_text(why)};
        carry_out(x, &(struct alert_event){.kind = ALERT_RESULT, .way = way, .outcome = r.outcome}, &r);
    }
    if (x->over && !x->starting)
        say_through(x);
    on_said(x);
}

/* ---- what others call ---- */

static void on_started(void *ctx)
{
    struct alert_run *x = ctx;
    x->starting = false;
    if (x->over)
        say_through(x);
    on_said(x);
}

static uint64_t way_named(const struct alert_road *road, const char *name)
{
    for (size_t i = 0; name && i < road->plan.n; i++)
        if (strcmp(road->ways[i]->set.name, name) == 0)
            return UINT64_C(1) << i;
    return 0;
}

struct alert_run *alert_run_start(struct alert_room *r, const struct alert_run_opts *o, alert_run_cb cb, void *ctx)
{
    struct alert_road *road = o->road;
    if (road)
        road->refs++;
    else
        road = alert_road_of(r, &o->node, 1);
    size_t n = road ? road->plan.n : 0;
    struct alert_run *x = calloc(1, sizeof *x + n * (sizeof *x->tries + sizeof *x->slots));
    assert(x && "out of memory for an alert");
    x->room = r;
    x->road = road;
    x->message = o->message;
    x->cb = cb;
    x->through = o->through;
    x->ctx = ctx;
    x->d.tries = x->tries;
    x->slots = (struct slot *)(x->tries + n);
    for (size_t i = 0; i < n; i++)
        x->slots[i].run = x;
    alert_room_ref(r);
    x->starting = true;
    x->unsaid = 1;
    loop_defer(&r->service->loop, on_started, x);
    if (!road) {
        x->over = true;
        return x;
    }
    apply(x,
          &(struct alert_event){.kind = ALERT_START,
                                .critical = o->critical,
                                .record = o->record,
                                .silent = o->silent,
                                .put_by = o->put_by,
                                .put_by_now = way_named(road, o->put_by_at),
                                .left_out = way_named(road, o->left_out)},
          NULL);
    return x;
}

void alert_run_cancel(struct alert_run *x)
{
    x->unsaid++; /* its end comes later, never from inside: who cancels may be walking a list that it is in */
    apply(x, &(struct alert_event){.kind = ALERT_CANCEL}, NULL);
    loop_defer(&x->room->service->loop, on_said, x);
}

void alert_run_drop(struct alert_run *x)
{
    if (!x || x->dropped)
        return;
    x->dropped = true;
    stop_waiting(x);
    for (size_t i = 0; x->road && i < x->road->plan.n; i++)
        alert_job_drop(x->slots[i].job);
    settle(x);
}
