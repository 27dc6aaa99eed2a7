/* audit_follow.h - one trail's copy on another host: asks the replica that writes it for bytes, checks them, keeps them, signs for what it has seen. */
#ifndef REDOUBT_CLI_AUDIT_FOLLOW_H
#define REDOUBT_CLI_AUDIT_FOLLOW_H

#include "audit/audit_copy.h"
#include "cli/cli_bus.h"

/* Signs for checkpoints that are kept here (C2SP tlog-cosignature). */
struct follow_witness {
    char name[AUDIT_VKEY_NAME_MAX]; /* "" = none */
    unsigned char secret[AUDIT_SECRET_BYTES];
};
struct follow {
    struct cli_link *link;
    const struct follow_witness *witness;
    char chain[2 * AUDIT_CHAIN_BYTES + 1];
    char dir[512];
    const unsigned char *trusted; /* a key of the trail, for the first time; NULL = the one that is met first */
    struct audit_copy copy;
    bool open, refused, cosigned;
    bool broken;     /* the disk here failed: to be opened again */
    uint64_t size;   /* records that are kept, checked and signed for */
    uint64_t wanted; /* records that STATE knows a checkpoint of */
    int64_t next_try_ms;
    bool has_key;
    unsigned char key[AUDIT_PUBLIC_BYTES];
    struct audit_merkle tree;
    char note[AUDIT_NOTE_MAX + 1]; /* the checkpoint that is kept, as the trail signed it */
    size_t note_len;
    char trouble[ERR_TEXT_MAX]; /* said last */
    struct follow *next;
};
enum follow_result {
    FOLLOW_FRESH,   /* nothing new */
    FOLLOW_MORE,    /* more is kept now */
    FOLLOW_AWAY,    /* its replica does not answer, or the disk here does not take it: later (text) */
    FOLLOW_REFUSED, /* what came is not what was kept, grown: never (text); both notes are kept in the directory */
};
/* Opens <to>/<chain>, and checks what it holds. */
enum follow_result follow_open(struct follow *f, const char *to, struct err *e);
/* Brings the copy up to the newest checkpoint. */
enum follow_result follow_pull(struct follow *f, struct err *e);
void follow_close(struct follow *f);

#endif
