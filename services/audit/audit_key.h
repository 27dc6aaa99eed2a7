/* audit_key.h - the trail's secret key: from a file, made when it is missing, changed for a new one step by step. */
#ifndef REDOUBT_AUDIT_KEY_H
#define REDOUBT_AUDIT_KEY_H

#include "audit/audit_checkpoint.h"
#include "audit/audit_disk.h"

struct audit_key {
    char path[512];                                /* of the secret key */
    bool own;                                      /* audit.key in the trail's directory: ours to make and to replace */
    unsigned char secret[AUDIT_SECRET_BYTES];
    unsigned char public_key[AUDIT_PUBLIC_BYTES];
};
/* Reads the key (64 bytes in hexadecimal; nobody but its owner may read it). `key_file` NULL or "": audit.key in `dir`, made if it is
 * missing. A change of the key that a crash cut short is brought to its end. -1: text in e says what to do. */
int audit_key_open(const char *dir, int dir_fd, const char *key_file, const struct audit_disk *disk,
                   struct audit_key *ret, struct err *e);

/* Steps of a change, each durable when it returns, in this order. */
/* The next key: of our own making, written beside the old one; or the one that stands in <key_file>.new already. */
int audit_key_next(const struct audit_key *k, int dir_fd, const struct audit_disk *disk, struct audit_key *ret,
                   struct err *e);
/* `c` is the checkpoint at which it changes (size, root, hash, time, chain, rotations before it): added to audit.keys, signed by both. */
int audit_key_announce(const char *dir, int dir_fd, const struct audit_disk *disk, const struct audit_checkpoint *c,
                       const struct audit_key *old, const struct audit_key *next, struct err *e);
/* The next key takes the old one's file. */
int audit_key_take(int dir_fd, const struct audit_disk *disk, struct audit_key *next, struct err *e);

#endif
