/* fallback_intake.c - how fast, and how many at most, agents are moved to one model. */
#include "fallback/fallback_intake.h"
#include <assert.h>

/* A token, in the bucket's unit: thousandths (one ms at one token per second) of a 32nd (the part of one partition). */
#define TOKEN (INT64_C(1000) * INTAKE_PARTITIONS)

static int64_t parts(const struct intake *in)
{
    return __builtin_popcount(in->held);
}

/* What the bucket holds at most: our part of the wave, and never less than one. */
static int64_t room(const struct intake *in)
{
    int64_t wave = in->all.wave * parts(in) * 1000;
    return wave > TOKEN ? wave : TOKEN;
}

static void fill(struct intake *in, int64_t now_ms)
{
    int64_t passed_ms = now_ms - in->filled_ms, most = room(in);
    if (passed_ms <= 0)
        return;
    in->filled_ms = now_ms;
    int64_t per_ms = in->all.rate * parts(in);
    if (per_ms > 0 && passed_ms >= (most - in->tokens) / per_ms + 1)
        in->tokens = most;
    else
        in->tokens += per_ms * passed_ms;
    if (in->tokens > most)
        in->tokens = most;
}

void intake_set(struct intake *in, const struct intake_limit *all, uint32_t held, int64_t now_ms)
{
    if (in->all.rate > 0 && in->held)
        fill(in, now_ms);
    else
        in->tokens = 0;
    in->filled_ms = now_ms;
    in->all = *all;
    in->held = held;
    if (in->tokens > room(in))
        in->tokens = room(in);
}

/* By partition, so that the parts of all replicas add up to exactly the whole. */
int64_t intake_cap(const struct intake *in)
{
    if (in->all.cap == 0)
        return INT64_MAX;
    int64_t cap = 0;
    for (int64_t i = 0; i < INTAKE_PARTITIONS; i++)
        if (in->held & (UINT32_C(1) << i))
            cap += (i + 1) * in->all.cap / INTAKE_PARTITIONS - i * in->all.cap / INTAKE_PARTITIONS;
    return cap;
}

static bool full(const struct intake *in)
{
    return in->here + in->turns >= intake_cap(in);
}

enum fallback_intake intake_say(struct intake *in, const struct intake_place *p, bool here, int64_t now_ms)
{
    if (here || (p->at == in && p->turn))
        return FALLBACK_INTAKE_OPEN;
    if (full(in))
        return FALLBACK_INTAKE_FULL;
    if (in->all.rate == 0)
        return FALLBACK_INTAKE_OPEN;
    fill(in, now_ms);
    return in->tokens >= TOKEN && (!in->first || in->first == p) ? FALLBACK_INTAKE_OPEN : FALLBACK_INTAKE_WAIT;
}

static void unlink_place(struct intake_place *p)
{
    struct intake *in = p->at;
    *(p->before ? &p->before->after : &in->first) = p->after;
    *(p->after ? &p->after->before : &in->last) = p->before;
    p->before = p->after = NULL;
}

/* Out of the line, or without the turn; a token that was set aside for it is not given back here. */
static void out(struct intake_place *p)
{
    if (p->turn)
        p->at->turns--;
    else
        unlink_place(p);
    p->turn = false;
    p->at = NULL;
}

void intake_leave(struct intake_place *p)
{
    struct intake *in = p->at;
    if (!in)
        return;
    if (p->turn && in->all.rate > 0) {
        in->tokens += TOKEN;
        if (in->tokens > room(in))
            in->tokens = room(in);
    }
    out(p);
}

void intake_wait(struct intake *in, struct intake_place *p)
{
    if (p->at == in)
        return;
    intake_leave(p);
    p->at = in;
    p->before = in->last;
    p->after = NULL;
    *(in->last ? &in->last->after : &in->first) = p;
    in->last = p;
}

void intake_take(struct intake *in, struct intake_place *p, int64_t now_ms)
{
    if (p->at == in && p->turn) {
        out(p); /* its token was set aside with the turn */
        return;
    }
    intake_leave(p);
    if (in->all.rate == 0)
        return;
    fill(in, now_ms);
    in->tokens -= TOKEN; /* below nothing if somebody moved without asking: then the next wait longer */
}

struct intake_place *intake_next(struct intake *in, int64_t now_ms)
{
    struct intake_place *p = in->first;
    if (!p)
        return NULL;
    if (full(in)) {
        out(p);
        return p;
    }
    if (in->all.rate > 0) {
        fill(in, now_ms);
        if (in->tokens < TOKEN)
            return NULL;
        in->tokens -= TOKEN;
    }
    unlink_place(p);
    p->turn = true;
    in->turns++;
    assert(in->turns > 0);
    return p;
}

int64_t intake_due_ms(const struct intake *in, int64_t now_ms)
{
    if (!in->first)
        return INT64_MAX;
    int64_t per_ms = in->all.rate * parts(in), missing = TOKEN - in->tokens;
    if (in->all.rate == 0 || full(in) || missing <= 0)
        return now_ms;
    if (per_ms == 0)
        return INT64_MAX; /* nothing of it is ours */
    int64_t at_ms = in->filled_ms + (missing + per_ms - 1) / per_ms;
    return at_ms > now_ms ? at_ms : now_ms;
}
