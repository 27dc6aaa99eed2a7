/* client_try.c - what an action does that waits for its guard. */
#include "client/client_try.h"
#include "client/redoubt.h"

#define PATIENCE_MS     2000 /* a guard answers within milliseconds, or within its call to the backend */
#define PATIENCE_MAX_MS 8000
#define PAUSE_MS        100
#define PAUSE_MAX_MS    2000
#define ASKED_MAX_MS    5000 /* a guard cannot make us wait for longer */
#define STALE_MS        3000 /* the guard has heard of a directive before us: ours comes soon, or not at all */

/* What a refusal means for the sending that it answers. */
enum then {
    THEN_OVER,      /* that is the answer */
    THEN_LATER,     /* not now: ask again */
    THEN_UNDER_WAY, /* an earlier sending is being carried out: ask how it ended */
    THEN_NEWER,     /* ask again under a newer epoch */
};
static const enum then then_of[] = {
    [REDOUBT_REFUSED_STALE_EPOCH] = THEN_NEWER,
    [REDOUBT_REFUSED_STATE_UNKNOWN] = THEN_LATER,
    [REDOUBT_REFUSED_IN_PROGRESS] = THEN_UNDER_WAY,
};

void client_try_init(struct client_try *t, int64_t now_ms, int64_t deadline_ms, bool expires)
{
    *t = (struct client_try){.deadline_ms = deadline_ms,
                             .expires = expires,
                             .next_ms = now_ms,
                             .patience_ms = PATIENCE_MS,
                             .pause_ms = PAUSE_MS,
                             .refusal = REDOUBT_REFUSED_UNREACHABLE};
}

struct client_next client_try_give_up(const struct client_try *t, int refusal)
{
    bool unsure = t->open > 0 || t->under_way;
    return (struct client_next){
        .kind = CLIENT_TRY_END, .result = unsure ? REDOUBT_ACT_UNKNOWN : REDOUBT_ACT_REFUSED, .refusal = refusal};
}

static struct client_next wait_until(const struct client_try *t, int64_t at_ms)
{
    return (struct client_next){.kind = CLIENT_TRY_WAIT, .at_ms = at_ms < t->deadline_ms ? at_ms : t->deadline_ms};
}

/* Why its agent may not act at all now; 0 = it may. */
static int forbidden(const struct client_where *w)
{
    if (w->out_of_touch)
        return REDOUBT_REFUSED_OUT_OF_TOUCH;
    if (!w->directed)
        return REDOUBT_REFUSED_NO_DIRECTIVE;
    return w->posture >= REDOUBT_FROZEN || w->posture < REDOUBT_NORMAL ? REDOUBT_REFUSED_FROZEN : 0;
}

struct client_next client_try_turn(struct client_try *t, const struct client_where *w, int64_t now_ms)
{
    int why = forbidden(w);
    if (why)
        return client_try_give_up(t, why);
    if (now_ms >= t->deadline_ms)
        return client_try_give_up(t, t->expires ? REDOUBT_REFUSED_EXPIRED : t->refusal);
    if (!w->connected)
        return wait_until(t, t->deadline_ms);
    if (t->stale && w->epoch <= t->stale)
        return now_ms < t->stale_until_ms ? wait_until(t, t->stale_until_ms)
                                          : client_try_give_up(t, REDOUBT_REFUSED_STALE_EPOCH);
    if (now_ms < t->next_ms)
        return wait_until(t, t->next_ms);
    t->stale = 0;
    t->epoch = w->epoch;
    t->open++;
    t->next_ms = now_ms + t->patience_ms;
    t->patience_ms = t->patience_ms * 2 < PATIENCE_MAX_MS ? t->patience_ms * 2 : PATIENCE_MAX_MS;
    return (struct client_next){.kind = CLIENT_TRY_SEND};
}

/* Not before a while, which grows; a guard may ask for longer. */
static void pause_for(struct client_try *t, int64_t asked_ms, int64_t now_ms)
{
    if (asked_ms > ASKED_MAX_MS)
        asked_ms = ASKED_MAX_MS;
    t->next_ms = now_ms + (asked_ms > t->pause_ms ? asked_ms : t->pause_ms);
    t->pause_ms = t->pause_ms * 2 < PAUSE_MAX_MS ? t->pause_ms * 2 : PAUSE_MAX_MS;
}

static struct client_next refused(struct client_try *t, const struct client_where *w, const struct client_heard *h,
                                  int64_t now_ms)
{
    bool known = h->refusal >= 0 && (unsigned)h->refusal < sizeof then_of / sizeof *then_of;
    t->open--;
    switch (known ? then_of[h->refusal] : THEN_OVER) {
    case THEN_LATER:
        t->refusal = h->refusal;
        pause_for(t, h->retry_after_ms, now_ms);
        break;
    case THEN_UNDER_WAY:
        t->under_way = true;
        t->refusal = h->refusal;
        pause_for(t, h->retry_after_ms, now_ms);
        break;
    case THEN_NEWER:
        if (h->epoch < t->epoch)
            break; /* it has been asked for under a newer one since */
        t->refusal = h->refusal;
        t->stale = h->epoch;
        t->stale_until_ms = now_ms + STALE_MS;
        t->next_ms = now_ms;
        break;
    case THEN_OVER:
        return client_try_give_up(t, h->refusal);
    }
    return client_try_turn(t, w, now_ms);
}

struct client_next client_try_heard(struct client_try *t, const struct client_where *w, const struct client_heard *h,
                                    int64_t now_ms)
{
    switch (h->kind) {
    case CLIENT_HEARD_NOBODY:
        t->open--;
        t->refusal = REDOUBT_REFUSED_UNREACHABLE;
        pause_for(t, 0, now_ms);
        return client_try_turn(t, w, now_ms);
    case CLIENT_HEARD_GARBAGE: /* somebody took it, and what became of it cannot be read */
        pause_for(t, 0, now_ms);
        return client_try_turn(t, w, now_ms);
    case CLIENT_HEARD_ANSWER:
        break;
    }
    if (h->decision == REDOUBT_ACT_REFUSED)
        return refused(t, w, h, now_ms);
    return (struct client_next){.kind = CLIENT_TRY_END, .result = h->decision};
}
