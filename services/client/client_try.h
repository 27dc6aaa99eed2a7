/* client_try.h - what an action does that waits for its guard: pure, (try, what was heard, position, now) -> next. No I/O, no clock.
 *
 * An action is asked for again under the same key while its outcome is unknown and the deadline has not passed. What it ends with is true:
 * REFUSED means that nothing was done and nothing will be; as long as one sending may still have been carried out, it is UNKNOWN. */
#ifndef REDOUBT_CLIENT_TRY_H
#define REDOUBT_CLIENT_TRY_H

#include <stdbool.h>
#include <stdint.h>

/* Where its agent stands. */
struct client_where {
    bool connected;    /* the bus is up */
    bool out_of_touch; /* and has been told so */
    bool directed;     /* a directive was taken over */
    int posture;       /* enum redoubt_posture */
    uint64_t epoch;
};
struct client_try {
    int64_t deadline_ms;
    bool expires;           /* the deadline is the action's own end, not the caller's patience */
    int64_t next_ms;        /* not sent again before this */
    int64_t patience_ms;    /* how long the next sending may stay without an answer */
    int64_t pause_ms;       /* before it is sent again after "not now" */
    uint64_t epoch;         /* of the last sending; 0 = never sent */
    uint64_t stale;         /* this epoch was refused as too old: a newer directive must be near; 0 = no */
    int64_t stale_until_ms; /* so long it is waited for */
    unsigned open;          /* sendings of which nothing is known */
    bool under_way;         /* a guard has it in hand */
    int refusal;            /* enum redoubt_refusal: why it is not done so far */
};
enum client_heard_kind {
    CLIENT_HEARD_ANSWER,
    CLIENT_HEARD_NOBODY,  /* no guard listens, or it could not be sent: for certain nobody has it */
    CLIENT_HEARD_GARBAGE, /* an answer that breaks the contract */
};
struct client_heard {
    enum client_heard_kind kind;
    uint64_t epoch; /* of the sending that it answers */
    int decision;   /* with ANSWER, as in the contract; likewise the next */
    int refusal;
    int64_t retry_after_ms;
};
enum client_next_kind {
    CLIENT_TRY_SEND, /* now, under the present epoch; then ask client_try_turn() */
    CLIENT_TRY_WAIT, /* ask again at at_ms, or when the position or the connection has changed */
    CLIENT_TRY_END,
};
struct client_next {
    enum client_next_kind kind;
    int64_t at_ms;
    int result;  /* enum redoubt_acted */
    int refusal; /* enum redoubt_refusal */
};

void client_try_init(struct client_try *t, int64_t now_ms, int64_t deadline_ms, bool expires);
struct client_next client_try_turn(struct client_try *t, const struct client_where *w, int64_t now_ms);
struct client_next client_try_heard(struct client_try *t, const struct client_where *w, const struct client_heard *h,
                                    int64_t now_ms);
/* How it ends if it must end now for this reason. */
struct client_next client_try_give_up(const struct client_try *t, int refusal);

#endif
