/* replica.h - a replica's own directory below the data directory, under a file lock; dead replicas' ones are found. */
#ifndef REDOUBT_REPLICA_H
#define REDOUBT_REPLICA_H

#include "common/err.h"
#include <stdbool.h>

#define REPLICA_MAX  64
#define REPLICA_PATH 512

struct replica {
    int index; /* 0 .. REPLICA_MAX-1 */
    int lock_fd;
    char dir[REPLICA_PATH]; /* <data_dir>/<service>/<index> */
    char instance[64];      /* <host>-<service>-<index>, token-safe */
};
/* Takes the lowest free index, creating the directory (mode 0700). 0 or -1. A directory that a living replica looks into for a moment is asked
 * for twice, so that a replica that comes back finds its own. */
int replica_claim(struct replica *r, const char *data_dir, const char *service, struct err *e);
void replica_release(struct replica *r);
/* Finds a sibling directory from index `from` on that holds an outbox and whose owner is gone, and locks it: *ret is it. True if one was found. */
bool replica_find_dead(const struct replica *self, int from, struct replica *ret);
/* Locks that sibling's directory, whatever it holds: *ret is it. False: it has an owner, is not there, or cannot be locked. */
bool replica_lock_dead(const struct replica *self, int index, struct replica *ret);
/* Writes who this process is into the file `path`, for whoever asks after this very one, as a container's health check does (`redoubt ping`): one line,
 * `redoubt-<service>.<instance>`. NULL or "" = nowhere. 0 or -1. */
int replica_say(const struct replica *r, const char *service, const char *path, struct err *e);

#endif
