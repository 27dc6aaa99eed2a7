/* audit_kin.h - which records are in the trails of the other replicas on this volume: nothing is written twice because another's acknowledgement was lost.
 *
 * A replica that is killed may have a record in its trail that the stream gives to another one after it. What stands in another's trail is followed
 * as it grows, by reading its files, and is as good as in one's own from the moment that one of its checkpoints covers it: until then its owner may take it
 * back. */
#ifndef REDOUBT_AUDIT_KIN_H
#define REDOUBT_AUDIT_KIN_H

#include <stdbool.h>
#include <stddef.h>

struct audit_kin;
struct audit_kin_opts {
    const char *dir;         /* one's own, below the directory of them all */
    int index;               /* of it */
    const char *second_root; /* audit.second_dir, or "" */
    const char *instance;    /* one's own name */
};
/* NULL if memory is out. */
struct audit_kin *audit_kin_open(const struct audit_kin_opts *o);
/* Reads what the others have written since. Takes its time: on a thread, one at a time, and nothing else of k meanwhile. */
void audit_kin_refresh(struct audit_kin *k);
/* How many others have a trail, as of the last refresh. */
size_t audit_kin_count(const struct audit_kin *k);
enum audit_kin_has {
    AUDIT_KIN_NONE,
    AUDIT_KIN_OPEN, /* it stands in one, and no checkpoint covers it yet: wait */
    AUDIT_KIN_HAS,
};
enum audit_kin_has audit_kin_find(const struct audit_kin *k, const char *id);
void audit_kin_close(struct audit_kin *k);

#endif
