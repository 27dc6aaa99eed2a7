/* alert.c - the way of one alert through its channels. */
#include "alert/alert.h"
#include <assert.h>

/* No state lasts without a way out: RECORDING and SENDING end by a result (attempts are bounded), HELD by GO or CANCEL (those before it
 * end, or are cancelled), BACKOFF and PAUSED by their time. */
static const char *const names[] = {
    [ALERT_NEW] = "NEW",         [ALERT_RECORDING] = "RECORDING", [ALERT_HELD] = "HELD", [ALERT_SENDING] = "SENDING",
    [ALERT_BACKOFF] = "BACKOFF", [ALERT_PAUSED] = "PAUSED",       [ALERT_DONE] = "DONE",
};
#define B(s) SM_BIT(ALERT_##s)
static const uint32_t allowed[] = {
    [ALERT_NEW] = B(RECORDING) | B(HELD) | B(SENDING) | B(DONE),
    [ALERT_RECORDING] = B(RECORDING) | B(HELD) | B(SENDING) | B(PAUSED) | B(DONE),
    [ALERT_HELD] = B(SENDING) | B(DONE),
    [ALERT_SENDING] = B(SENDING) | B(BACKOFF) | B(PAUSED) | B(DONE),
    [ALERT_BACKOFF] = B(SENDING) | B(PAUSED) | B(DONE),
    [ALERT_PAUSED] = B(RECORDING) | B(SENDING) | B(DONE),
    [ALERT_DONE] = 0,
};
static bool invariant(const void *object)
{
    const struct alert_delivery *d = object;
    switch (d->state) {
    case ALERT_SENDING:
        return d->notify && !d->hold && d->attempt >= 1;
    case ALERT_BACKOFF:
        return d->notify && !d->cancelled && d->attempt >= 1;
    case ALERT_PAUSED:
        return d->notify && !d->cancelled && d->cycles >= 1;
    case ALERT_HELD:
        return d->notify && d->hold;
    default:
        return true;
    }
}
const struct sm_table alert_table = {
    .name = "alert", .n = ALERT_DONE + 1, .state_names = names, .allowed = allowed, .invariant = invariant};

struct step {
    struct alert_delivery *d;
    const struct alert_plan *p;
    int64_t now_ms;
    struct alert_effect *out;
    size_t n;
};

static struct alert_effect *emit(struct step *s, enum alert_effect_kind kind)
{
    assert(s->n < ALERT_EFFECTS_MAX);
    struct alert_effect *e = &s->out[s->n++];
    *e = (struct alert_effect){.kind = kind, .way = s->d->way, .attempt = s->d->attempt};
    return e;
}

static void move(struct step *s, enum alert_state to)
{
    sm_move(&alert_table, &s->d->state, (int)to);
    sm_check(&alert_table, s->d->state, s->d);
}

static void receipt(struct step *s, enum alert_status status)
{
    emit(s, ALERT_RECEIPT)->status = status;
}

static void end(struct step *s)
{
    move(s, ALERT_DONE);
    emit(s, ALERT_END);
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

static int64_t deadline(const struct step *s)
{
    const struct alert_way *w = &s->p->ways[s->d->way];
    return s->d->entered_ms + (s->d->critical ? w->deadline_critical_ms : w->deadline_ms);
}

static void send(struct step *s)
{
    const struct alert_way *w = &s->p->ways[s->d->way];
    struct alert_effect *e = emit(s, ALERT_SEND);
    e->start_by_ms = deadline(s);
    e->timeout_ms = smaller(w->attempt_ms, e->start_by_ms - s->now_ms);
}

/* Begins at the first way from `from` on that is (not) a record and still to be used; false if there is none. */
static bool enter(struct step *s, size_t from, bool record)
{
    for (size_t i = from; i < s->p->n; i++) {
        const struct alert_way *w = &s->p->ways[i];
        if (w->record != record || w->left_out || (record && (s->d->recorded & (1u << i))))
            continue;
        s->d->way = i;
        s->d->attempt = 1;
        s->d->entered_ms = s->now_ms;
        move(s, record ? ALERT_RECORDING : ALERT_SENDING);
        send(s);
        return true;
    }
    return false;
}

static bool may_notify(const struct alert_plan *p)
{
    for (size_t i = 0; i < p->n; i++)
        if (!p->ways[i].record && !p->ways[i].left_out)
            return true;
    return false;
}

/* A route of files alone asks for nothing but the record. */
static bool record_is_all(const struct alert_plan *p)
{
    for (size_t i = 0; i < p->n; i++)
        if (!p->ways[i].record)
            return false;
    return p->n > 0;
}

static void exhausted(struct step *s)
{
    s->d->attempt = 0;
    receipt(s, ALERT_STATUS_EXHAUSTED);
    s->d->cycles++;
    s->d->wake_ms = s->now_ms + doubled(ALERT_PAUSE_MS, s->d->cycles - 1, ALERT_PAUSE_MAX_MS);
    move(s, ALERT_PAUSED);
    emit(s, ALERT_WAKE_AT)->at_ms = s->d->wake_ms;
}

static void tell(struct step *s)
{
    if (!may_notify(s->p)) {
        s->d->attempt = 0;
        if (!record_is_all(s->p)) /* nobody to tell: no channel at all, or only the one that the alert is about */
            receipt(s, ALERT_STATUS_EXHAUSTED);
        end(s);
        return;
    }
    bool entered = enter(s, 0, false);
    assert(entered);
}

static void recorded(struct step *s)
{
    if (!s->d->notify)
        end(s);
    else if (s->d->hold)
        move(s, ALERT_HELD);
    else
        tell(s);
}

static void begin(struct step *s)
{
    if (!enter(s, 0, true))
        recorded(s);
}

static void give_up(struct step *s, enum alert_class class)
{
    receipt(s, ALERT_STATUS_FAILED);
    emit(s, ALERT_TOLD)->class = class;
    if (s->d->cancelled)
        end(s);
    else if (!enter(s, s->d->way + 1, false))
        exhausted(s);
}

/* How long to wait before the next attempt; -1 = no further attempt on this channel. */
static int64_t pause_ms(const struct step *s, enum alert_class class, const struct alert_outcome *o)
{
    const struct alert_way *w = &s->p->ways[s->d->way];
    int tries = class == ALERT_CLASS_QUICK && w->tries > 2 ? 2 : w->tries;
    if ((class != ALERT_CLASS_AGAIN && class != ALERT_CLASS_QUICK) || s->d->attempt >= tries || s->d->cancelled)
        return -1;
    int64_t wait =
        class == ALERT_CLASS_QUICK ? ALERT_QUICK_MS : doubled(ALERT_BACKOFF_MS, s->d->attempt - 1, ALERT_BACKOFF_MAX);
    if (o->retry_after_ms > wait)
        wait = o->retry_after_ms;
    return wait < deadline(s) - s->now_ms ? wait : -1;
}

static void on_result(struct step *s, const struct alert_outcome *o)
{
    struct alert_delivery *d = s->d;
    if (d->state != ALERT_RECORDING && d->state != ALERT_SENDING)
        return;
    enum alert_class class = alert_classify(s->p->ways[d->way].proto, o);
    bool accepted = class == ALERT_CLASS_ACCEPTED;
    if (d->state == ALERT_RECORDING) {
        /* Without a record people are told all the same: the receipt and the channel's own alert say so. */
        receipt(s, accepted ? ALERT_STATUS_RECORDED : ALERT_STATUS_FAILED);
        emit(s, ALERT_TOLD)->class = class;
        if (accepted)
            d->recorded |= 1u << d->way;
        if (!enter(s, d->way + 1, true))
            recorded(s);
        return;
    }
    if (accepted) {
        receipt(s, ALERT_STATUS_ACCEPTED);
        emit(s, ALERT_TOLD)->class = class;
        end(s);
        return;
    }
    int64_t wait = pause_ms(s, class, o);
    if (wait < 0) {
        give_up(s, class);
        return;
    }
    receipt(s, ALERT_STATUS_RETRYING);
    d->wake_ms = s->now_ms + wait;
    move(s, ALERT_BACKOFF);
    emit(s, ALERT_WAKE_AT)->at_ms = d->wake_ms;
}

static void on_wake(struct step *s)
{
    struct alert_delivery *d = s->d;
    if ((d->state != ALERT_BACKOFF && d->state != ALERT_PAUSED) || s->now_ms < d->wake_ms)
        return;
    if (d->state == ALERT_PAUSED) {
        begin(s);
    } else if (s->now_ms >= deadline(s)) { /* the loop was late */
        give_up(s, ALERT_CLASS_AGAIN);
    } else {
        d->attempt++;
        move(s, ALERT_SENDING);
        send(s);
    }
}

static void on_cancel(struct step *s)
{
    struct alert_delivery *d = s->d;
    if (d->state == ALERT_RECORDING) {
        d->notify = false;
    } else if (d->state == ALERT_SENDING) {
        d->cancelled = true;
    } else if (d->state != ALERT_DONE && d->state != ALERT_NEW) {
        d->cancelled = true;
        end(s);
    }
}

size_t alert_decide(struct alert_delivery *d, const struct alert_plan *p, const struct alert_event *ev,
                    int64_t now_ms, struct alert_effect out[static ALERT_EFFECTS_MAX])
{
    assert(p->n <= ALERT_WAYS_MAX);
    struct step s = {.d = d, .p = p, .now_ms = now_ms, .out = out};
    switch (ev->kind) {
    case ALERT_START:
        assert(d->state == ALERT_NEW);
        d->notify = ev->notify;
        d->hold = ev->notify && ev->hold;
        d->critical = ev->critical;
        begin(&s);
        break;
    case ALERT_RESULT:
        on_result(&s, &ev->outcome);
        break;
    case ALERT_WAKE:
        on_wake(&s);
        break;
    case ALERT_GO:
        d->hold = false;
        if (d->state == ALERT_HELD)
            tell(&s);
        break;
    case ALERT_BACK:
        if (d->state == ALERT_PAUSED)
            begin(&s);
        break;
    case ALERT_CANCEL:
        on_cancel(&s);
        break;
    }
    return s.n;
}
