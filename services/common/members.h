/* members.h - which replicas of a service are alive, as one key in Redis has it: `redoubt:{<service>}:members`.
 *
 * Each writes itself down there every third of the lifetime, by Redis' clock, and is told who else is. It goes by that on its own monotonic
 * clock, for less than the lifetime, counted from when the refresh was *sent*. */
#ifndef REDOUBT_MEMBERS_H
#define REDOUBT_MEMBERS_H

#include "common/loop.h"
#include "common/rank.h"
#include "common/store.h"

#define MEMBER_MAX 65

struct members_view {
    int64_t known_ms;    /* when the refresh had been sent that told it; INT64_MIN = nothing was told yet */
    uint64_t generation; /* grows with every change of the members; the fence of what they write */
    size_t n;            /* in order of name, which is the same everywhere */
    char names[RANK_MAX][MEMBER_MAX];
    uint64_t hashes[RANK_MAX];
    /* Alive, but its word does not count: its link is at fault, or its clock is not trusted. */
    bool rests[RANK_MAX];
    size_t self; /* SIZE_MAX = not among them */
    /* Those who count; all of them if none does. */
    uint64_t ranked[RANK_MAX];
    uint32_t index[RANK_MAX]; /* of the ranked in names */
    size_t n_ranked;
    size_t self_ranked; /* SIZE_MAX = we do not count */
};
struct members;
struct members_opts {
    const char *service; /* token-safe, kept by reference; likewise the next */
    const char *name;    /* ours */
    int64_t ttl_ms;
    void (*on_view)(void *ctx, bool changed); /* after each refresh that was answered */
    void *ctx;
};
/* NULL if memory is out. */
struct members *members_open(struct loop *l, struct store *s, const struct members_opts *o);
const struct members_view *members_view(const struct members *m);
/* From now on our word does not count, or does again: told to the others at once. */
void members_rest(struct members *m, bool rests);
void members_refresh(struct members *m); /* at once: the store is back */
/* Takes ourselves off the list at once, then frees m and calls done(ctx). */
void members_leave(struct members *m, loop_cb done, void *ctx);

/* Who of another service is alive now, also those who rest, in order of name; up to RANK_MAX. Called once; n = 0 without STORE_OK, and
 * then `error` says why. The names are valid only inside the callback. */
typedef void (*members_read_cb)(void *ctx, enum store_status st, size_t n, const char *const names[],
                                const char *error);
void members_read(struct store *s, const char *service, members_read_cb cb, void *ctx);

#endif
