/* fallback_intake.h - how fast, and how many at most, agents are moved to one model: a token bucket, a cap, and a line. Pure: no I/O, no
 * clock, no allocation; who waits brings the place in the line along.
 *
 * A replica has its part of the rate, the wave and the cap: that of the partitions which it holds, of all. The parts of all replicas add
 * up to the whole, except that each may move one at once however small its part of the wave is. What it gains it starts empty. */
#ifndef REDOUBT_FALLBACK_INTAKE_H
#define REDOUBT_FALLBACK_INTAKE_H

#include "fallback/fallback.h"

/* Of the settings; 0 = no limit (a wave counts only with a rate). */
struct intake_limit {
    int64_t rate; /* agents per second */
    int64_t wave; /* at once */
    int64_t cap;  /* at a time */
};
/* One agent's place. Zeroed = nowhere. */
struct intake_place {
    struct intake *at; /* waits for, or has been given, its turn there; NULL = neither */
    bool turn;
    struct intake_place *before, *after;
};
struct intake {
    struct intake_limit all;
    uint32_t held;  /* bit = a partition that is ours */
    int64_t tokens; /* in thousandths of a token, times 32 */
    int64_t filled_ms;
    int64_t here;  /* agents on it, or being moved there */
    int64_t turns; /* given and not taken yet */
    struct intake_place *first, *last;
};

#define INTAKE_PARTITIONS 32

/* Takes over settings and partitions; a bucket that is new, or whose part has grown, is not filled by it. */
void intake_set(struct intake *in, const struct intake_limit *all, uint32_t held, int64_t now_ms);
/* Our part of the cap; INT64_MAX = no limit. */
int64_t intake_cap(const struct intake *in);
/* What the model says to this agent. `here`: it is on it already. */
enum fallback_intake intake_say(struct intake *in, const struct intake_place *p, bool here, int64_t now_ms);
/* Gets in line, last; nothing if it waits or has its turn there already. Elsewhere it leaves. */
void intake_wait(struct intake *in, struct intake_place *p);
/* It moves there now: takes its turn, or a token. The caller counts it in `here`. */
void intake_take(struct intake *in, struct intake_place *p, int64_t now_ms);
/* Out of the line; a turn that was not taken goes back. NULL-safe in p->at. */
void intake_leave(struct intake_place *p);
/* The next in line whose turn it is: out of the line, with its turn. NULL = nobody waits, or not yet. With the cap reached, whoever waits is handed
 * out one by one without a turn: it must go on to another model. */
struct intake_place *intake_next(struct intake *in, int64_t now_ms);
/* When intake_next() may have one; INT64_MAX = nobody waits. */
int64_t intake_due_ms(const struct intake *in, int64_t now_ms);

#endif
