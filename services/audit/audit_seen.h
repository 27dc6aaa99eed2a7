/* audit_seen.h - which records are in the trail already: the last hundred thousand ids, as hashes. Pure. */
#ifndef REDOUBT_AUDIT_SEEN_H
#define REDOUBT_AUDIT_SEEN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Remembers at least the last AUDIT_SEEN_MIN ids, and at most twice as many. Two tables: when the young one is full it becomes the
 * old one. A stream repeats what was not acknowledged, so only the recent past matters: its consumer has at
 * most 1,000 messages in hand, of up to 100 records. */
#define AUDIT_SEEN_MIN   131072
#define AUDIT_SEEN_SLOTS (2 * AUDIT_SEEN_MIN)

struct audit_seen {
    unsigned char key[16]; /* of the hash: nobody can choose ids that collide */
    int young;
    size_t n;
    uint64_t slots[2][AUDIT_SEEN_SLOTS]; /* 0 = free */
};
void audit_seen_init(struct audit_seen *s);
/* Remembers the id; true if it was known. */
bool audit_seen_add(struct audit_seen *s, const char *id);
bool audit_seen_has(const struct audit_seen *s, const char *id);

#endif
