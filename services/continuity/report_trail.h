/* report_trail.h - what the audit trail holds of one incident: its records with their proofs, how long each agent was in which condition, and what became
 * of actions. Blocks: for a worker thread. */
#ifndef REDOUBT_CONTINUITY_REPORT_TRAIL_H
#define REDOUBT_CONTINUITY_REPORT_TRAIL_H

#include "common/err.h"
#include "common/wire.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define REPORT_LINES_MAX   2000 /* that are listed; more are counted by what they are */
#define REPORT_ACTIONS_MAX 500  /* of these, what single actions have left */
#define REPORT_BYTES_MAX   (8 * 1024 * 1024)
#define REPORT_TRAILS_MAX  64
#define REPORT_KINDS_MAX   64

/* Whose records are wanted. Texts are kept by the caller while it is used. */
struct report_scope {
    const char *id;
    const char *const *agents; /* in order of strcmp */
    size_t n_agents;
    const char *target; /* and what lies below it: `llm.openai`; "" = none */
    const char *cause;  /* a target; "" = none */
    int64_t from_ms, to_ms;
};

struct report_line {
    PB(AuditRecord) * r;
    uint16_t trail; /* index */
    uint64_t seq;   /* 0 = heard on the bus, not read in a trail */
    unsigned char leaf[32];
    char *proof; /* JSON; NULL = none yet */
};
struct report_chain {
    char dir[256];
    char id[33];
    uint64_t records, covered; /* the newest checkpoint's */
    bool whole;
    char problem[320];
};
struct report_kind { /* records that are not listed, by what they are */
    char action[65];
    uint64_t n;
};
/* An agent's condition changes: by the posture that it was told, or by its own health (gone = full failure). The worst of both counts. */
enum report_source { REPORT_POSTURE, REPORT_HEALTH, REPORT_SOURCES };
struct report_turn {
    uint32_t agent; /* index in the scope */
    enum report_source source;
    unsigned condition; /* as availability.h has it: 1 full failure, 2 degraded, 4 LLM fallback */
    int64_t at_ms;
};
struct report_tally {
    uint64_t executed, queued, replayed, refused, failed, dead;
};
struct report_trail {
    struct report_line *lines; /* by time */
    size_t n, room, n_actions, bytes;
    struct report_chain *chains;
    size_t n_chains;
    struct report_kind others[REPORT_KINDS_MAX];
    size_t n_others;
    uint64_t left_out; /* the sum of them */
    struct report_turn *turns;
    size_t n_turns, turns_room;
    struct report_tally all, *of_agent; /* n_agents of them */
    bool from_bus;                      /* the trails could not be read: no proofs */
    bool unproven;                      /* some line is not covered by a checkpoint yet */
    uint64_t unreadable;                /* records of another version */
    char why[ERR_TEXT_MAX];             /* no trail, or what is wrong with it; "" = nothing */
    bool no_memory;
};
/* True if a record belongs to the incident. */
bool report_wants(const struct report_scope *s, const PB(AuditRecord) * r);
/* The same of an alert by its dedup_key. */
bool report_wants_key(const struct report_scope *s, const char *dedup_key, int64_t at_ms);
/* Takes a record that belongs to it: counted, and listed if there is room. False: not listed; r is the caller's as before. */
bool report_trail_take(struct report_trail *t, const struct report_scope *s, PB(AuditRecord) * r, size_t bytes,
                       uint16_t chain, uint64_t seq);
void report_trail_sort(struct report_trail *t);
/* The trails below these directories: each itself, or those in it (data_dir/audit holds one per replica). 0; -1 = none can be read: `why`. */
int report_trail_read(struct report_trail *t, const struct report_scope *s, const char *const *dirs, size_t n_dirs,
                      const char *second_dir);
void report_trail_done(struct report_trail *t);

#endif
