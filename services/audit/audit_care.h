/* audit_care.h - the trail of a replica that may be gone: when it is taken, when it is let go, pure. No I/O, no clock.
 *
 * One living replica keeps the others' directories (it holds a lock for that, its own kind). A trail without an owner for CARE_GONE_MS is taken under the
 * owner's lock, opened as a start would, held against the bus, signed, copied, and let go: then whoever starts next goes on with it. Until then its
 * keeper gives its bytes to copies on other hosts. */
#ifndef REDOUBT_AUDIT_CARE_H
#define REDOUBT_AUDIT_CARE_H

#include <stdbool.h>
#include <stdint.h>

#define CARE_GONE_MS  10000 /* a replica that is started again has so long to claim its own */
#define CARE_JUDGE_MS 30000 /* the bus is away: not now */
#define CARE_CATCH_UP_MS                                                                                             \
    600000                    /* the mirror is away: its place is not kept from whoever starts for longer than that */
#define CARE_RETRY_MS 60000   /* after that, and after a failure */
#define CARE_AGAIN_MS 3600000 /* retention may be due in a trail that nobody writes */

enum care_state {
    CARE_OWNED,      /* somebody writes it, or there is none, or another replica keeps it */
    CARE_GONE,       /* its owner is not there, since then */
    CARE_OPENS,      /* under its owner's lock from here on */
    CARE_JUDGES,     /* against what the bus remembers */
    CARE_CATCHES_UP, /* checkpoint, bus, mirror, retention */
    CARE_CLOSES,     /* the lock goes when the files are closed */
    CARE_KEPT,       /* complete; without a lock, read for others */
    CARE_REFUSED,    /* could not be taken, and people were told; as KEPT, but nothing is read */
    CARE_STATES,
};
struct care {
    enum care_state state;
    int64_t since_ms;
    bool done;      /* of CLOSES: it is complete. Otherwise it is tried again */
    uint64_t print; /* of KEPT and REFUSED: of the files as they were left; another means that an owner was there */
};
enum care_event_kind {
    CARE_LOOKED, /* once in a while: owned, print */
    CARE_WORKED, /* what the state does is done */
    CARE_FAILED, /* it cannot be done */
};
struct care_event {
    enum care_event_kind kind;
    bool owned;     /* LOOKED: it has an owner, or it is no trail, or it is not ours to keep */
    uint64_t print; /* LOOKED */
    bool keeps;     /* LOOKED: retention is set, so something may become due */
};
enum care_effect {
    CARE_NOTHING,
    CARE_TAKE, /* lock and open it; CARE_FAILED follows at once if somebody was quicker */
    CARE_JUDGE,
    CARE_FINISH, /* sign, announce, copy */
    CARE_CLOSE,  /* let go of the files and the lock */
    CARE_SERVE,  /* without a lock from here on */
    CARE_DROP,   /* an owner was there: serve no more */
};
enum care_effect care_decide(struct care *c, const struct care_event *ev, int64_t now_ms);
/* Whether LOOKED needs to know about the owner in this state (asking takes its lock for a moment). */
bool care_asks_owner(const struct care *c);
bool care_locked(const struct care *c);
const char *care_state_name(enum care_state s);
/* What must hold between any two calls. */
bool care_ok(const struct care *c);

#endif
