/* audit_evidence.h - the trails that a command looks into: found, checked from their first byte to their last, and the records that fit, by time. */
#ifndef REDOUBT_CLI_AUDIT_EVIDENCE_H
#define REDOUBT_CLI_AUDIT_EVIDENCE_H

#include "audit/audit_query.h"
#include "audit/audit_verify.h"
#include "cli/cli.h"
#include <jansson.h>

#define EVIDENCE_CHECK_BYTES 16

struct evidence_trail {
    char dirs[2][1024]; /* its own, and where it went on */
    size_t n_dirs;
    struct audit_report report;
    char chain[2 * AUDIT_CHAIN_BYTES + 1];
    uint64_t unread; /* records that this version cannot read */
    uint64_t unread_seq;
    int fd; /* the segment that was read last; -1 = none */
    uint64_t fd_segment;
};
/* Where a record that fits is. */
struct evidence_hit {
    int64_t at_unix_ms, at_mono_ns;
    uint64_t seq, segment, offset;
    uint16_t trail;
    bool ended; /* of two of the same millisecond, what is meant comes before what was done */
    unsigned char check[EVIDENCE_CHECK_BYTES]; /* of its bytes as they were verified */
    uint64_t bytes;                            /* a hash of the record alone: the same in every trail */
};
struct evidence {
    struct cli *c;
    struct evidence_trail *trails;
    size_t n_trails;
    struct evidence_hit *hits; /* by time */
    size_t n_hits;
    size_t twins; /* records that stand in the trails of two replicas: of each the first is among the hits */
};

/* Finds the trails: DIR or DIR:DIR2 (where it went on) each, or, without any, all below the settings' data_dir. An exit code; close in every case. */
int evidence_open(struct evidence *ev, struct cli *c, const char *config, int argc, char **argv);
/* Checks them, and keeps where the records are that fit. CLI_FAILED: one is not whole; the hits are there all the same. */
typedef bool (*evidence_wanted)(void *ctx, const PB(AuditRecord) * r);
int evidence_look(struct evidence *ev, evidence_wanted wanted, void *ctx);
void evidence_close(struct evidence *ev);

/* One record, read again, and the same as when it was verified. */
struct evidence_record {
    PB(AuditRecord) * r; /* wire_free() */
    char hash[2 * AUDIT_HASH_BYTES + 1];
    char file[AUDIT_NAME_MAX];
};
int evidence_read(struct evidence *ev, const struct evidence_hit *h, struct evidence_record *ret, struct err *e);

bool evidence_whole(const struct evidence_trail *t);
/* Is this record covered by its trail's checkpoint? */
bool evidence_covered(const struct evidence_trail *t, uint64_t seq);
/* What is wrong with trails, for people, one line each; nothing if all are whole. */
void evidence_say(const struct evidence *ev, const struct term *t);
/* What each trail is, and whether it is whole: to be said before everything else. */
json_t *evidence_trails_json(const struct evidence *ev);
/* Trail, chain, sequence, hash, file, offset, and the checkpoint that covers it (null if none does yet). */
json_t *evidence_json(const struct evidence *ev, const struct evidence_hit *h, const struct evidence_record *rec);

/* One cell of RFC 4180, with the comma before it unless it is the first. */
void evidence_csv(const char *text, bool first);
/* Filters of --since and the like; an exit code after saying what is wrong. */
struct opts_audit_query;
int evidence_query(const struct cli *c, const struct opts_audit_query *o, struct audit_query *ret);

#endif
