/* health_quorum.h - from what several watchers see of a target to what is said of it. Pure; times are monotonic milliseconds.
 *
 * Who is about to call a target UNHEALTHY or FLAPPING asks other watchers. More than half of those who answered, the asker among them,
 * must see it as bad. A tie means well: whoever gets right answers cannot be wrong about the target, but whoever gets none may be
 * wrong about its own link. */
#ifndef REDOUBT_HEALTH_QUORUM_H
#define REDOUBT_HEALTH_QUORUM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define HEALTH_VOTERS_MAX 31 /* and the asker */

enum health_ballot { HEALTH_BALLOT_NONE, HEALTH_BALLOT_WELL, HEALTH_BALLOT_BAD, HEALTH_BALLOT_ABSTAIN };
struct health_vote {
    uint64_t who; /* hash of its name */
    int64_t heard_ms;
    uint8_t ballot, state, fault;
};
struct health_poll {
    int64_t asked_ms;  /* when the present round began; 0 = none did */
    int64_t until_ms;  /* then those who have answered decide */
    int64_t silent_ms; /* if nobody has, this long: a watcher that has died is off the list by then */
    uint32_t n;
    struct health_vote votes[HEALTH_VOTERS_MAX];
};

/* A new round. Of those who are asked again, who saw it as bad still does; a good word is from before and must be said anew. */
void health_poll_ask(struct health_poll *p, const uint64_t *who, size_t n, int64_t answer_ms, int64_t silent_ms,
                     int64_t now_ms);
/* Those who are not alive any more cannot answer. */
void health_poll_keep(struct health_poll *p, const uint64_t *alive, size_t n);
/* False: there is no room. Who was not asked may answer, too. */
bool health_poll_vote(struct health_poll *p, uint64_t who, enum health_ballot ballot, int state, int fault,
                      int64_t now_ms);

enum health_poll_end {
    HEALTH_POLL_OPEN,
    HEALTH_POLL_BAD,    /* the majority sees it as bad */
    HEALTH_POLL_WELL,   /* it does not */
    HEALTH_POLL_ALONE,  /* there is nobody else, or nobody else can tell: one's own word counts */
    HEALTH_POLL_UNHEARD /* others are alive, but none of them answers: it is our own link */
};
/* fresh_ms > 0: votes older than this are void. */
enum health_poll_end health_poll_end(const struct health_poll *p, enum health_ballot own, int64_t fresh_ms,
                                     int64_t now_ms);

/* What the owner says then. */
enum health_say {
    HEALTH_SAY_OWN,      /* its own verdict */
    HEALTH_SAY_HOLD,     /* nothing: what was announced stays */
    HEALTH_SAY_OVERRULED /* UNHEALTHY, by the word of the other vantage points */
};
enum health_say health_quorum_say(bool own_bad, bool announced_bad, bool standing, enum health_poll_end end);
/* True if a watcher that sees this fault must look for it in its own link: once it sees it again, after the others have seen the target
 * well, because a short outage may have ended in between. An answer, be it a wrong one, came over a link that works. */
bool health_quorum_blames_link(enum health_poll_end end, int fault);

#endif
