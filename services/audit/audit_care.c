/* audit_care.c - the trail of a replica that may be gone: when it is taken, when it is let go. */
#include "audit/audit_care.h"

/* What a state does when its work is done, has failed, or has lasted too long. Those that only wait for a look have none. */
static const struct row {
    const char *name;
    bool asks, locked;
    enum care_state worked, failed;
    enum care_effect on_worked, on_failed;
    int64_t limit_ms; /* 0 = none: it ends by itself */
} rows[CARE_STATES] = {
    [CARE_OWNED] = {.name = "owned", .asks = true},
    [CARE_GONE] = {.name = "gone", .asks = true},
    [CARE_OPENS] = {.name = "opens",
                    .locked = true,
                    .worked = CARE_JUDGES,
                    .on_worked = CARE_JUDGE,
                    .failed = CARE_CLOSES,
                    .on_failed = CARE_CLOSE},
    [CARE_JUDGES] = {.name = "judges",
                     .locked = true,
                     .worked = CARE_CATCHES_UP,
                     .on_worked = CARE_FINISH,
                     .failed = CARE_CLOSES,
                     .on_failed = CARE_CLOSE,
                     .limit_ms = CARE_JUDGE_MS},
    [CARE_CATCHES_UP] = {.name = "catches_up",
                         .locked = true,
                         .worked = CARE_CLOSES,
                         .on_worked = CARE_CLOSE,
                         .failed = CARE_CLOSES,
                         .on_failed = CARE_CLOSE,
                         .limit_ms = CARE_CATCH_UP_MS},
    [CARE_CLOSES] = {.name = "closes", .locked = true},
    [CARE_KEPT] = {.name = "kept"},
    [CARE_REFUSED] = {.name = "refused"},
};

static enum care_effect move(struct care *c, enum care_state to, enum care_effect effect, int64_t now_ms)
{
    c->state = to;
    c->since_ms = now_ms;
    c->done &= to == CARE_CLOSES || to == CARE_KEPT;
    return effect;
}

static enum care_effect fail(struct care *c, int64_t now_ms)
{
    const struct row *r = &rows[c->state];
    if (!r->on_failed)
        return CARE_NOTHING;
    c->done = false;
    return move(c, r->failed, r->on_failed, now_ms);
}

static enum care_effect looked(struct care *c, const struct care_event *ev, int64_t now_ms)
{
    int64_t age_ms = now_ms - c->since_ms;
    switch (c->state) {
    case CARE_OWNED:
        return ev->owned ? CARE_NOTHING : move(c, CARE_GONE, CARE_NOTHING, now_ms);
    case CARE_GONE:
        if (ev->owned)
            return move(c, CARE_OWNED, CARE_NOTHING, now_ms);
        return age_ms < CARE_GONE_MS ? CARE_NOTHING : move(c, CARE_OPENS, CARE_TAKE, now_ms);
    case CARE_KEPT:
    case CARE_REFUSED:
        if (ev->print != c->print)
            return move(c, CARE_OWNED, CARE_DROP, now_ms);
        /* Its owner was long gone: no need to wait for it again. */
        if (c->state == CARE_REFUSED ? age_ms >= CARE_RETRY_MS : ev->keeps && age_ms >= CARE_AGAIN_MS)
            return move(c, CARE_GONE, CARE_DROP, now_ms - CARE_GONE_MS);
        return CARE_NOTHING;
    default:
        return rows[c->state].limit_ms && age_ms >= rows[c->state].limit_ms ? fail(c, now_ms) : CARE_NOTHING;
    }
}

static enum care_effect worked(struct care *c, uint64_t print, int64_t now_ms)
{
    const struct row *r = &rows[c->state];
    if (c->state == CARE_CLOSES) {
        c->print = print;
        return c->done ? move(c, CARE_KEPT, CARE_SERVE, now_ms) : move(c, CARE_REFUSED, CARE_NOTHING, now_ms);
    }
    if (!r->on_worked)
        return CARE_NOTHING;
    c->done = c->state == CARE_CATCHES_UP;
    return move(c, r->worked, r->on_worked, now_ms);
}

enum care_effect care_decide(struct care *c, const struct care_event *ev, int64_t now_ms)
{
    switch (ev->kind) {
    case CARE_LOOKED:
        return looked(c, ev, now_ms);
    case CARE_WORKED:
        return worked(c, ev->print, now_ms);
    case CARE_FAILED:
        return fail(c, now_ms);
    }
    return CARE_NOTHING;
}

bool care_asks_owner(const struct care *c)
{
    return rows[c->state].asks;
}

bool care_locked(const struct care *c)
{
    return rows[c->state].locked;
}

const char *care_state_name(enum care_state s)
{
    return rows[s].name;
}

bool care_ok(const struct care *c)
{
    return c->state < CARE_STATES && (!c->done || c->state == CARE_CLOSES || c->state == CARE_KEPT) &&
           (c->state != CARE_KEPT || c->done);
}
