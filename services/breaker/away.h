/* away.h - the breaker while the shared state is out of reach: one replica's own verdict, only ever stricter than the last document. Pure.
 *
 * FOLLOWS the document -> HOLDS, when what this replica has seen since would open a breaker -> TRIES, when the open time is over: calls pass
 * for one window, and it either HOLDS again, for longer, or FOLLOWS. No epoch is used: two replicas may differ, and each speaks for itself. */
#ifndef REDOUBT_BREAKER_AWAY_H
#define REDOUBT_BREAKER_AWAY_H

#include "breaker/window.h"

enum breaker_away_state { BREAKER_AWAY_FOLLOWS, BREAKER_AWAY_HOLDS, BREAKER_AWAY_TRIES };
struct breaker_away {
    int state;
    int64_t since_ms, until_ms; /* until: end of HOLDS */
    uint32_t holds;             /* in a row: the open time grows with it */
    uint32_t voters; /* seen in the shared window when it was last read: one of several is not all there are */
    int reason;
    struct breaker_totals totals; /* behind the last HOLDS */
    struct breaker_window all;    /* everything since it went away: merged into the shared window when it is back */
    struct breaker_window own;    /* what the present state has seen */
    uint64_t turn;                /* of `own`: another state, another window */
};
void breaker_away_init(struct breaker_away *a, uint32_t voters, int64_t now_ms);
/* Takes in what came, d may hold nothing. With `act`, decides; true if it HOLDS now and did not before, or the other way round. */
bool breaker_away_decide(struct breaker_away *a, const struct breaker *doc, const struct breaker_rule *rule,
                         const struct breaker_delta *d, bool act, int64_t now_ms);
/* The shared state has spoken: what this replica alone thought is void. True if it held. */
bool breaker_away_follow(struct breaker_away *a, int64_t now_ms);
bool breaker_away_holds(const struct breaker_away *a, int64_t now_ms);
/* When to look again although nothing happens; 0 = never. */
int64_t breaker_away_wake_ms(const struct breaker_away *a, const struct breaker_rule *rule, int64_t now_ms);

#endif
