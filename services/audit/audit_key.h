/* audit_key.h - the trail's secret key: from a file, made when it is missing, changed for a new one step by step. */
#ifndef REDOUBT_AUDIT_KEY_H
#define REDOUBT_AUDIT_KEY_H

#include "audit/audit_checkpoint.h"
#include "audit/audit_disk.h"

struct audit_key {
    char path[512]; /* of the secret key */
    bool own;       /* audit.key in the trail's directory: ours to make and to replace */
    unsigned char secret[AUDIT_SECRET_BYTES];
    unsigned char public_key[AUDIT_PUBLIC_BYTES];
};
/* Where the trail's own files are. */
struct audit_key_place {
    const char *dir;
    int dir_fd;
    const struct audit_disk *disk;
};
/* Reads the key (64 bytes in hexadecimal; nobody but its owner may read it). `key_file` NULL or "": audit.key in the directory, made if it
 * is missing. A change of the key that a crash cut short is brought to its end (*ret_changed). -1: text in e says what to do. */
int audit_key_open(const struct audit_key_place *p, const char *key_file, struct audit_key *ret, bool *ret_changed,
                   struct err *e);

/* Steps of a change, each durable when it returns, in this order. A crash between them leaves a trail that verifies. */
/* The next key: made, and written beside the old one; or the one that an operator has put into <key_file>.new. */
int audit_key_next(const struct audit_key_place *p, const struct audit_key *k, struct audit_key *ret, struct err *e);
/* `c` says where it changes (chain, size, root, hash, time, rotations until then): added to audit.keys, signed by both. */
int audit_key_announce(const struct audit_key_place *p, const struct audit_checkpoint *c, const struct audit_key *old,
                       const struct audit_key *next, struct err *e);
/* The next key takes the old one's file. */
int audit_key_take(const struct audit_key_place *p, struct audit_key *next, struct err *e);
/* audit.pub, if it is not that already. */
int audit_key_publish(const struct audit_key_place *p, const struct audit_key *k, struct err *e);

#endif
