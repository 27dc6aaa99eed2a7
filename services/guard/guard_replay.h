/* guard_replay.h - how the actions of one agent that wait get to their backend, pure: (state, event, now) -> what to do next. No I/O, no
 * clock, no allocation.
 *
 * One action at a time: READ, RUN, then REMOVE; or BURY (a dead letter), then REMOVE. The lowest priority number first, in order within it.
 * Whatever is in doubt is done again from the start: an action that was executed and not taken out is executed again under the same key,
 * which the backend's guard knows. Actions from before a freeze are passed over until a person releases them. */
#ifndef REDOUBT_GUARD_REPLAY_H
#define REDOUBT_GUARD_REPLAY_H

#include "guard/guard.h"

#define GUARD_PRIORITIES     10
#define GUARD_REPLAY_LOOK_MS 60000 /* how often a queue that must wait is looked through for what has expired */

struct guard_replay_rule {
    int64_t max_age_ms, retry_ms, dead_after;
};
/* What it goes by at this moment. */
struct guard_replay_view {
    bool held;                       /* the lease of the agent's partition is ours */
    bool sure;                       /* guard_sure() */
    bool known;                      /* the agent is in the settings */
    const struct guard_position *at; /* NULL = none was ever heard */
    uint64_t released_epoch;         /* actions up to this epoch were released by a person */
};

enum guard_replay_step {
    GUARD_REPLAY_REST,
    GUARD_REPLAY_READING,
    GUARD_REPLAY_RUNNING,
    GUARD_REPLAY_BURYING,
    GUARD_REPLAY_REMOVING
};
enum guard_left { /* of an action that leaves the queue */
                  GUARD_LEFT_DONE,
                  GUARD_LEFT_EXPIRED,
                  GUARD_LEFT_REFUSED,  /* the guard itself says no to it now */
                  GUARD_LEFT_REJECTED, /* the backend said no for good */
                  GUARD_LEFT_POISON,   /* tried too often */
                  GUARD_LEFT_MALFORMED,
                  GUARD_LEFT_KINDS
};
struct guard_replay {
    uint64_t waiting[GUARD_PRIORITIES]; /* as far as is known */
    uint64_t skipped[GUARD_PRIORITIES]; /* of them: passed over, held since a freeze */
    uint64_t from[GUARD_PRIORITIES];    /* sequence behind those */
    int step;
    bool looking;      /* the read under way only asks what has expired */
    unsigned priority; /* of the action in hand, and the next three */
    uint64_t seq;
    int leaving; /* enum guard_left, while BURYING and REMOVING */
    bool remove; /* at REST: it has left, but could not be taken out yet */
    uint32_t tries;
    uint64_t tried_seq;
    int64_t wake_ms;                 /* nothing is read to be run before this */
    int64_t look_ms;                 /* nothing is looked for that has expired before this */
    uint64_t left[GUARD_LEFT_KINDS]; /* since the queue was empty the last time */
};

enum guard_replay_what {
    GUARD_REPLAY_NOTHING,
    GUARD_REPLAY_READ,    /* the first of `priority` (-1 = of any) from `seq` on */
    GUARD_REPLAY_RUN,     /* what was read */
    GUARD_REPLAY_BURY,    /* what was read: a dead letter */
    GUARD_REPLAY_REMOVE,  /* sequence `seq` */
    GUARD_REPLAY_DRAINED, /* the queue is empty: `left` says what became of it; then guard_replay_said() */
};
struct guard_replay_do {
    enum guard_replay_what what;
    int priority;
    uint64_t seq;
};
/* What was read. */
struct guard_replay_message {
    uint64_t seq;
    unsigned priority;
    bool sound; /* false: nobody can make anything of it */
    uint64_t epoch;
    int64_t queued_ms, expires_ms;
};
/* What came of running it: as struct guard_result. */
struct guard_replay_outcome {
    int end,
        reason; /* enum guard_end; enum RefusalReason: of REFUSED, and of RETRY where the backend was not called */
    bool hold;
    int64_t retry_after_ms;
};

/* Why no action of it may be replayed now, for people; NULL if they may. */
const char *guard_replay_waits_for(const struct guard_replay_view *v);
uint64_t guard_replay_waiting(const struct guard_replay *r);
uint64_t guard_replay_skipped(const struct guard_replay *r);
bool guard_replay_expired(const struct guard_replay_rule *rule, int64_t queued_ms, int64_t expires_ms,
                          int64_t now_ms);

/* Would the next thing be to run one? That is what the pace counts. */
bool guard_replay_runs(const struct guard_replay *r, const struct guard_replay_view *v);
/* At REST: the next thing to do. And the moment at which that will be something; INT64_MAX = not by time alone. */
struct guard_replay_do guard_replay_next(struct guard_replay *r, const struct guard_replay_view *v, int64_t now_ms);
int64_t guard_replay_due(const struct guard_replay *r, const struct guard_replay_view *v);
/* The answers to what was to be done, each of them once. */
struct guard_replay_do guard_replay_read(struct guard_replay *r, const struct guard_replay_rule *rule,
                                         const struct guard_replay_view *v, const struct guard_replay_message *m,
                                         int64_t now_ms); /* m NULL = there is none */
struct guard_replay_do guard_replay_ran(struct guard_replay *r, const struct guard_replay_rule *rule,
                                        const struct guard_replay_outcome *o, int64_t now_ms);
struct guard_replay_do guard_replay_buried(struct guard_replay *r, bool durable, int64_t now_ms);
void guard_replay_removed(struct guard_replay *r, bool gone, int64_t now_ms);
void guard_replay_unread(struct guard_replay *r, int64_t now_ms); /* the read got no answer */
void guard_replay_said(struct guard_replay *r);
/* What happens meanwhile, at any step. */
void guard_replay_counts(struct guard_replay *r, const uint64_t waiting[GUARD_PRIORITIES], int64_t now_ms);
void guard_replay_put(struct guard_replay *r, unsigned priority); /* one more */
void guard_replay_moved(struct guard_replay *r, const struct guard_replay_view *v, int64_t now_ms);
void guard_replay_released(struct guard_replay *r); /* nothing is passed over any more */

/* ---- how fast: one pace for all that this replica replays ---- */

struct guard_pace {
    int64_t next_us;
};
/* `rate` per second over all replicas, of which we have `parts` of `parts_all` partitions. 0 = go, and it is counted; otherwise the pause in
 * microseconds after which to ask again. Never more than the rate, but for GUARD_PACE_SLACK_US that a late timer may catch up on. */
#define GUARD_PACE_SLACK_US 20000
int64_t guard_pace(struct guard_pace *p, int64_t rate, size_t parts, size_t parts_all, int64_t now_us);

#endif
