/* alert.c - the way of one message through its channels. */
#include "alert/alert.h"
#include <assert.h>

/* No state lasts without a way out: attempts are bounded and end by a result, BACKOFF by its time; when no try is open the whole ends. */
static const char *const names[] = {
    [ALERT_NEW] = "NEW", [ALERT_RECORDING] = "RECORDING", [ALERT_TELLING] = "TELLING", [ALERT_DONE] = "DONE"};
#define B(s) SM_BIT(ALERT_##s)
static const uint32_t allowed[] = {
    [ALERT_NEW] = B(RECORDING) | B(TELLING) | B(DONE),
    [ALERT_RECORDING] = B(TELLING) | B(DONE),
    [ALERT_TELLING] = B(DONE),
    [ALERT_DONE] = 0,
};
static bool invariant(const void *object)
{
    const struct alert_delivery *d = object;
    const struct alert_marks *m = &d->marks;
    bool apart = !(m->told & m->failed) && !(m->told & m->put_by) && !(m->put_by & m->failed) &&
                 !(m->busy & (m->told | m->failed | m->put_by));
    return apart && (d->state == ALERT_RECORDING || d->state == ALERT_TELLING || !m->busy) &&
           (d->state != ALERT_TELLING || !d->silent) && (d->state != ALERT_RECORDING || m->busy);
}
const struct sm_table alert_table = {
    .name = "alert", .n = ALERT_DONE + 1, .state_names = names, .allowed = allowed, .invariant = invariant};

static const char *const try_names[] = {[ALERT_TRY_IDLE] = "IDLE",
                                        [ALERT_TRY_SENDING] = "SENDING",
                                        [ALERT_TRY_BACKOFF] = "BACKOFF",
                                        [ALERT_TRY_OVER] = "OVER"};
static const uint32_t try_allowed[] = {
    [ALERT_TRY_IDLE] = B(TRY_SENDING),
    [ALERT_TRY_SENDING] = B(TRY_BACKOFF) | B(TRY_OVER),
    [ALERT_TRY_BACKOFF] = B(TRY_SENDING) | B(TRY_OVER),
    [ALERT_TRY_OVER] = 0,
};
static bool try_invariant(const void *object)
{
    const struct alert_try *t = object;
    return (t->state == ALERT_TRY_IDLE) == (t->attempt == 0);
}
const struct sm_table alert_try_table = {.name = "attempts",
                                         .n = ALERT_TRY_OVER + 1,
                                         .state_names = try_names,
                                         .allowed = try_allowed,
                                         .invariant = try_invariant};

struct step {
    struct alert_delivery *d;
    const struct alert_plan *p;
    int64_t now_ms;
    struct alert_effect *out;
    size_t n;
};

static uint64_t bit(size_t way)
{
    return UINT64_C(1) << way;
}

static struct alert_effect *emit(struct step *s, enum alert_effect_kind kind, size_t way)
{
    assert(s->n < ALERT_EFFECTS_MAX);
    struct alert_effect *e = &s->out[s->n++];
    *e = (struct alert_effect){.kind = kind, .way = way, .attempt = way < s->p->n ? s->d->tries[way].attempt : 0};
    return e;
}

static void move(struct step *s, enum alert_state to)
{
    sm_move(&alert_table, &s->d->state, (int)to);
}

static void receipt(struct step *s, size_t way, enum alert_status status)
{
    emit(s, ALERT_RECEIPT, way)->status = status;
}

static int64_t smaller(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static int64_t doubled(int64_t first, int times, int64_t max)
{
    while (times-- > 0 && first < max)
        first *= 2;
    return smaller(first, max);
}

static int64_t deadline(const struct step *s, size_t way)
{
    const struct alert_way *w = &s->p->ways[way];
    return s->d->tries[way].entered_ms + (s->d->critical ? w->deadline_critical_ms : w->deadline_ms);
}

/* ---- one channel ---- */

static void send(struct step *s, size_t way)
{
    struct alert_try *t = &s->d->tries[way];
    t->attempt++;
    sm_move(&alert_try_table, &t->state, ALERT_TRY_SENDING);
    sm_check(&alert_try_table, t->state, t);
    struct alert_effect *e = emit(s, ALERT_SEND, way);
    e->start_by_ms = deadline(s, way);
    e->timeout_ms = smaller(s->p->ways[way].attempt_ms, e->start_by_ms - s->now_ms);
}

static void enter(struct step *s, size_t way)
{
    s->d->tries[way].entered_ms = s->now_ms;
    s->d->marks.busy |= bit(way);
    send(s, way);
}

/* It is over there; `into` gets its mark. */
static void leave(struct step *s, size_t way, uint64_t *into)
{
    sm_move(&alert_try_table, &s->d->tries[way].state, ALERT_TRY_OVER);
    s->d->marks.busy &= ~bit(way);
    *into |= bit(way);
}

static void give_up(struct step *s, size_t way, enum alert_class class)
{
    receipt(s, way, ALERT_STATUS_FAILED);
    emit(s, ALERT_TOLD, way)->class = class;
    leave(s, way, &s->d->marks.failed);
}

/* How long to wait before the next attempt; -1 = no further attempt on this channel. */
static int64_t pause_ms(const struct step *s, size_t way, enum alert_class class, const struct alert_outcome *o)
{
    const struct alert_try *t = &s->d->tries[way];
    int max = s->p->ways[way].tries;
    int tries = class == ALERT_CLASS_QUICK && max > 2 ? 2 : max;
    if ((class != ALERT_CLASS_AGAIN && class != ALERT_CLASS_QUICK) || t->attempt >= tries || s->d->cancelled)
        return -1;
    int64_t wait =
        class == ALERT_CLASS_QUICK ? ALERT_QUICK_MS : doubled(ALERT_BACKOFF_MS, t->attempt - 1, ALERT_BACKOFF_MAX);
    if (o->retry_after_ms > wait)
        wait = o->retry_after_ms;
    return wait < deadline(s, way) - s->now_ms ? wait : -1;
}

/* ---- the whole ---- */

static void end(struct step *s, enum alert_standing standing)
{
    move(s, ALERT_DONE);
    emit(s, ALERT_END, SIZE_MAX)->standing = standing;
}

/* A plan of files alone asks for nothing but the record. */
static bool record_is_all(const struct alert_plan *p)
{
    for (size_t i = 0; i < p->n; i++)
        if (!p->ways[i].record)
            return false;
    return p->n > 0;
}

/* Begins what the tree asks for now; ends when it asks for nothing. */
static void go_on(struct step *s)
{
    struct alert_delivery *d = s->d;
    for (;;) {
        uint64_t begin;
        enum alert_standing standing = alert_tree_look(&s->p->tree, &d->marks, &begin);
        if (d->cancelled && begin) { /* as if those had failed */
            d->marks.failed |= begin;
            continue;
        }
        for (size_t way = 0; begin; way++)
            if (begin & bit(way)) {
                begin &= ~bit(way);
                enter(s, way);
            }
        if (standing == ALERT_STANDING_OPEN || d->marks.busy)
            return;
        bool nobody = standing == ALERT_STANDING_ABSENT && !record_is_all(s->p);
        if ((standing == ALERT_STANDING_FAILED || nobody) && !d->cancelled)
            receipt(s, SIZE_MAX, ALERT_STATUS_EXHAUSTED);
        end(s, standing);
        return;
    }
}

static void recorded(struct step *s)
{
    if (s->d->silent) {
        end(s, ALERT_STANDING_ABSENT);
        return;
    }
    move(s, ALERT_TELLING);
    go_on(s);
}

static void on_start(struct step *s, const struct alert_event *ev)
{
    struct alert_delivery *d = s->d;
    assert(d->state == ALERT_NEW);
    d->critical = ev->critical;
    d->silent = ev->silent;
    d->put_by = ev->put_by;
    d->marks.absent = ev->left_out;
    for (size_t i = 0; i < s->p->n; i++)
        if (s->p->ways[i].record)
            d->marks.absent |= bit(i);
    for (size_t i = 0; i < s->p->n; i++)
        if (ev->put_by && !ev->critical && (ev->put_by_now & ~d->marks.absent & bit(i))) {
            d->marks.put_by |= bit(i);
            receipt(s, i, ALERT_STATUS_WAITING);
        }
    for (size_t i = 0; ev->record && i < s->p->n; i++)
        if (s->p->ways[i].record)
            enter(s, i);
    if (d->marks.busy)
        move(s, ALERT_RECORDING);
    else
        recorded(s);
}

static void on_record(struct step *s, size_t way, enum alert_class class)
{
    struct alert_delivery *d = s->d;
    bool good = class == ALERT_CLASS_ACCEPTED;
    receipt(s, way, good ? ALERT_STATUS_RECORDED : ALERT_STATUS_FAILED);
    emit(s, ALERT_TOLD, way)->class = class;
    leave(s, way, good ? &d->recorded : &d->marks.failed);
    if (!d->marks.busy)
        recorded(s);
}

static void on_result(struct step *s, size_t way, const struct alert_outcome *o)
{
    struct alert_delivery *d = s->d;
    if (way >= s->p->n || d->tries[way].state != ALERT_TRY_SENDING)
        return;
    enum alert_class class = alert_classify(s->p->ways[way].proto, o);
    if (s->p->ways[way].record) {
        on_record(s, way, class);
        return;
    }
    int64_t wait;
    if (class == ALERT_CLASS_ACCEPTED) {
        receipt(s, way, ALERT_STATUS_ACCEPTED);
        emit(s, ALERT_TOLD, way)->class = class;
        leave(s, way, &d->marks.told);
    } else if (class == ALERT_CLASS_OVERFLOW && d->put_by && !d->critical && !d->cancelled) {
        receipt(s, way, ALERT_STATUS_WAITING);
        leave(s, way, &d->marks.put_by);
    } else if ((wait = pause_ms(s, way, class, o)) >= 0) {
        receipt(s, way, ALERT_STATUS_RETRYING);
        d->tries[way].wake_ms = s->now_ms + wait;
        sm_move(&alert_try_table, &d->tries[way].state, ALERT_TRY_BACKOFF);
    } else {
        give_up(s, way, class);
    }
    go_on(s);
}

static void on_wake(struct step *s)
{
    struct alert_delivery *d = s->d;
    bool any = false;
    for (size_t i = 0; i < s->p->n; i++) {
        struct alert_try *t = &d->tries[i];
        if (t->state != ALERT_TRY_BACKOFF || s->now_ms < t->wake_ms)
            continue;
        any = true;
        if (s->now_ms >= deadline(s, i)) /* the loop was late */
            give_up(s, i, ALERT_CLASS_AGAIN);
        else
            send(s, i);
    }
    if (any)
        go_on(s);
}

static void on_cancel(struct step *s)
{
    struct alert_delivery *d = s->d;
    if (d->state == ALERT_NEW || d->state == ALERT_DONE || d->cancelled)
        return;
    d->cancelled = true;
    if (d->state == ALERT_RECORDING) {
        d->silent = true;
        return;
    }
    for (size_t i = 0; i < s->p->n; i++)
        if (d->tries[i].state == ALERT_TRY_BACKOFF)
            leave(s, i, &d->marks.failed);
    go_on(s);
}

size_t alert_decide(struct alert_delivery *d, const struct alert_plan *p, const struct alert_event *ev,
                    int64_t now_ms, struct alert_effect out[static ALERT_EFFECTS_MAX])
{
    assert(p->n <= ALERT_WAYS_MAX);
    struct step s = {.d = d, .p = p, .now_ms = now_ms, .out = out};
    switch (ev->kind) {
    case ALERT_START:
        on_start(&s, ev);
        break;
    case ALERT_RESULT:
        on_result(&s, ev->way, &ev->outcome);
        break;
    case ALERT_WAKE:
        on_wake(&s);
        break;
    case ALERT_CANCEL:
        on_cancel(&s);
        break;
    }
    sm_check(&alert_table, d->state, d);
    int64_t wake_ms = INT64_MAX;
    for (size_t i = 0; i < p->n && s.n > 0; i++)
        if (d->tries[i].state == ALERT_TRY_BACKOFF)
            wake_ms = smaller(wake_ms, d->tries[i].wake_ms);
    if (wake_ms != INT64_MAX)
        emit(&s, ALERT_WAKE_AT, SIZE_MAX)->at_ms = wake_ms;
    return s.n;
}

bool alert_overtakes(bool earlier_resolved, bool later_resolved)
{
    return earlier_resolved == later_resolved;
}

bool alert_outdates(bool earlier_resolved, bool later_resolved)
{
    return earlier_resolved && !later_resolved;
}
