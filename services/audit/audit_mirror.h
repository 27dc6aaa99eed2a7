/* audit_mirror.h - the trail's copy in a second directory: on a thread of its own, so that a slow or dead disk there delays nobody. */
#ifndef REDOUBT_AUDIT_MIRROR_H
#define REDOUBT_AUDIT_MIRROR_H

#include "audit/audit_log.h"
#include "common/loop.h"

struct audit_mirror;

struct audit_mirror_opts {
    const char *sources[2]; /* the trail's directories; the second may be NULL or "" */
    const char *root;       /* must be there (a disk that is not mounted is not filled by mistake) */
    const char *instance; /* the copy is <root>/<instance>/<chain>, and <chain>.2 and so on beside one that differs */
    int64_t retry_ms;     /* after an error; 0 = 1,000, and ever longer up to 30 times that */
    void (*on_change)(void *ctx); /* the status is another. May be NULL */
    void *ctx;
};
/* NULL if there is no thread for it. */
struct audit_mirror *audit_mirror_open(struct loop *l, const struct audit_mirror_opts *o, struct err *e);
/* So much is durable in the trail now: the copy follows. */
void audit_mirror_goal(struct audit_mirror *m, const struct audit_log_status *st);

enum audit_mirror_state {
    AUDIT_MIRROR_FOLLOWS,
    AUDIT_MIRROR_AWAY,   /* its disk does not take it: `why`. Tried again */
    AUDIT_MIRROR_SOURCE, /* the trail itself cannot be read or does not verify: `why`. Tried again */
};
struct audit_mirror_status {
    enum audit_mirror_state state;
    uint64_t size;              /* records that are durable there; 0 = not known yet */
    uint64_t signed_to;         /* of these a checkpoint there covers so many */
    int64_t behind_ms;          /* how long the oldest record that is not there has waited, at least half of it */
    uint64_t differing;         /* copies that were found to differ, left as they are */
    char dir[512];              /* of the copy; "" = none yet */
    char differs[ERR_TEXT_MAX]; /* the last that did: where and how */
    char why[ERR_TEXT_MAX];
};
void audit_mirror_status(struct audit_mirror *m, struct audit_mirror_status *ret);
/* Waits for what is under way, 2 s at most: a disk that hangs keeps its thread. Then done(ctx). Nothing of m may be used after this call. */
void audit_mirror_close(struct audit_mirror *m, loop_cb done, void *ctx);

#endif
