/* health_members.h - which replicas of redoubt-health are alive, as one key in Redis has it.
 *
 * Each writes itself down there every third of the lifetime, by Redis' clock, and is told who else is. It goes by that on its own monotonic
 * clock, for less than the lifetime, counted from when the refresh was *sent*. */
#ifndef REDOUBT_HEALTH_MEMBERS_H
#define REDOUBT_HEALTH_MEMBERS_H

#include "common/loop.h"
#include "common/store.h"
#include "health/health_rank.h"

#define HEALTH_MEMBER_MAX 65

struct health_view {
    int64_t known_ms;    /* when the refresh had been sent that told it; INT64_MIN = nothing was told yet */
    uint64_t generation; /* grows with every change of the members; the fence of what they write */
    size_t n;            /* in order of name, which is the same everywhere */
    char names[HEALTH_MEMBERS_MAX][HEALTH_MEMBER_MAX];
    uint64_t hashes[HEALTH_MEMBERS_MAX];
    bool rests
        [HEALTH_MEMBERS_MAX]; /* alive, but its word does not count: its link is at fault, or its clock is not trusted */
    size_t self;              /* SIZE_MAX = not among them */
    /* Those who count; all of them if none does. */
    uint64_t ranked[HEALTH_MEMBERS_MAX];
    uint32_t index[HEALTH_MEMBERS_MAX]; /* of the ranked in names */
    size_t n_ranked;
    size_t self_ranked; /* SIZE_MAX = we do not count */
};
struct health_members;
struct health_members_opts {
    const char *name; /* ours; token-safe, kept by reference */
    int64_t ttl_ms;
    void (*on_view)(void *ctx, bool changed); /* after each refresh that was answered */
    void *ctx;
};
struct health_members *health_members_open(struct loop *l, struct store *s, const struct health_members_opts *o);
const struct health_view *health_members_view(const struct health_members *m);
/* From now on our word does not count, or does again: told to the others at once. */
void health_members_rest(struct health_members *m, bool rests);
void health_members_refresh(struct health_members *m); /* at once: the store is back */
/* Takes ourselves off the list at once, then frees m and calls done(ctx). */
void health_members_leave(struct health_members *m, loop_cb done, void *ctx);

#endif
