/* audit_copy.h - a trail's copy that grows: nothing is written into it that does not verify. Blocking; for a thread of its own or a command. */
#ifndef REDOUBT_AUDIT_COPY_H
#define REDOUBT_AUDIT_COPY_H

#include "audit/audit_checkpoint.h"

/* Bytes come as they stand in the segments, in pieces of any size. Whole records are checked against the chain and written; the rest waits
 * for what follows. */
struct audit_copy {
    char dir[512];
    int dir_fd, fd; /* -1 = none */
    uint64_t first; /* the segment that grows, by its first record; 0 = none yet */
    uint64_t bytes; /* of it that are checked and written */
    uint64_t next_seq;
    bool chained; /* `chain` and `hash` are known: what comes must continue them */
    bool dirty;   /* written and not yet synced */
    bool fork;    /* the last error was of what came, not of the disk */
    unsigned char chain[AUDIT_CHAIN_BYTES];
    unsigned char hash[AUDIT_HASH_BYTES]; /* of the last record */
    unsigned char link[AUDIT_HASH_BYTES]; /* what the next record is chained to: that, or the header's hash */
    uint64_t limit;                       /* records behind this one wait; 0 = none */
    unsigned char *rest;                  /* that is no whole record yet */
    size_t rest_len;
    void (*on_record)(void *ctx, const struct audit_record *r); /* may be NULL */
    void *ctx;
};
/* The directory is made if it is missing, not its parent. The copy is empty then: audit_copy_begin. */
int audit_copy_open(struct audit_copy *c, const char *dir, struct err *e);
/* It goes on with segment `first` of `bytes` bytes, which ends with record next_seq - 1: its hash, and what the next is chained to. */
int audit_copy_resume(struct audit_copy *c, uint64_t first, uint64_t bytes, uint64_t next_seq,
                      const unsigned char chain[static AUDIT_CHAIN_BYTES],
                      const unsigned char hash[static AUDIT_HASH_BYTES],
                      const unsigned char link[static AUDIT_HASH_BYTES], struct err *e);
/* The segment that grows is whole; the next one begins. */
int audit_copy_begin(struct audit_copy *c, uint64_t first, struct err *e);
int audit_copy_feed(struct audit_copy *c, const void *data, size_t len, struct err *e);
/* Where the next bytes of the segment are to be read: behind what waits. */
uint64_t audit_copy_at(const struct audit_copy *c);
int audit_copy_sync(struct audit_copy *c, struct err *e);
/* Takes what waits back: the reader begins again behind the last whole record. */
void audit_copy_forget(struct audit_copy *c);
/* A small file beside the segments, durable when this returns. */
int audit_copy_note(struct audit_copy *c, const char *name, const void *data, size_t len, struct err *e);
void audit_copy_close(struct audit_copy *c);

#endif
