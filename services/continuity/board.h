/* board.h - all incidents and agents in memory, and which evidence belongs to which: pure but for memory.
 *
 * A signal is one condition of one agent (its LLM, backend, automation, resources or link) or of one target, with the target that caused it. Signals with the
 * same key belong to one open incident; agents that go close to each other do. Rebuilt at a start from what STATE replays: documents first, then signals. */
#ifndef REDOUBT_CONTINUITY_BOARD_H
#define REDOUBT_CONTINUITY_BOARD_H

#include "continuity/incident.h"

enum signal_dimension {
    SIGNAL_LLM,
    SIGNAL_BACKEND,
    SIGNAL_AUTOMATION,
    SIGNAL_RESOURCES,
    SIGNAL_LINK,
    SIGNAL_TARGET, /* a target itself is unhealthy or its breaker open; subject = the target */
    SIGNAL_DATA,   /* a backup source or learning data; subject = the source */
    SIGNAL_MANUAL, /* declared by a person; subject = the incident's key */
    SIGNAL_DIMENSIONS
};
struct signal {
    enum signal_dimension dimension;
    const char *subject;                  /* agent, target, source */
    const char *cause;                    /* target; "" = itself */
    uint8_t failure, severity, condition; /* condition 0 = cleared */
    bool drill;
    int64_t at_ms; /* first evidence; not after now */
    const char *summary;
};

struct board;
struct
    board_hooks { /* called inside of board_* calls; may call all of them but board_free, board_prune, board_reload */
    void (*effect)(void *ctx, struct incident *x, const struct incident_effect *e);
    /* An agent's condition has changed from `was` at at_ms: for availability. Before board_synced() it is not called, and then once for each agent that
     * has a condition (was 0; at_ms of its newest signal). What is not said then has none: see board_condition(). */
    void (*condition)(void *ctx, const char *agent, unsigned was, unsigned is, bool drill, int64_t at_ms);
    void *ctx;
};
struct board *board_new(const struct set_continuity *set, const struct board_hooks *hooks);
void board_free(struct board *b);
bool board_reload(struct board *b,
                  const struct set_continuity *set); /* running clocks take the new limits; never shortened time */
/* Raised or cleared; what is known already changes nothing. False if memory is out (then nothing changed). */
bool board_signal(struct board *b, const struct signal *s, int64_t now_ms);
/* From a document (restart, another leader). An older epoch or fence than what is known is ignored. False: not taken (malformed, memory). */
bool board_restore(struct board *b, const PB(IncidentChanged) * doc, int64_t now_ms);
/* All documents and signals of STATE are in: what is open in a document and has no signal any more has cleared. Ticks begin. Call it again when leading begins:
 * what was asked (checks, reports, the alert of who waits to be told) is asked again, what is not announced yet is announced. */
void board_synced(struct board *b, int64_t now_ms);
/* Calls due ticks; returns when the next is due (INT64_MAX = none). */
int64_t board_tick(struct board *b, int64_t now_ms);
/* An operator's or the shell's event for one. False = no such incident (NULL in *ret). */
bool board_event(struct board *b, const char *id, const struct incident_event *ev, int64_t now_ms,
                 struct incident **ret);
struct incident *board_find(struct board *b, const char *id);
/* In order of opening; NULL ends. open_only skips closed ones. */
struct incident *board_next(const struct board *b, const struct incident *after, bool open_only);
struct incident *board_prev(const struct board *b, const struct incident *before,
                            bool open_only); /* newest first; before NULL = the newest */
size_t board_open(const struct board *b);
size_t board_count(const struct board *b);
/* Which open incident has this signal; NULL = none. */
struct incident *board_of(struct board *b, enum signal_dimension d, const char *subject);
/* Names of its agents, up to max, in order of joining. */
size_t board_agents(const struct board *b, const struct incident *x, const char **names, size_t max);
const char *board_agent_name(const struct board *b, uint32_t index);
unsigned board_condition(const struct board *b, const char *agent); /* bits now */
/* A closed one that is older is forgotten; its id goes to each(). Not from inside of a hook. */
void board_prune(struct board *b, int64_t closed_before_ms, void (*each)(void *ctx, const char *id), void *ctx);
/* The document; packed by the caller. Texts and arrays are valid until board_pack_done(). */
PB(IncidentChanged) * board_pack(struct board *b, const struct incident *x, int64_t now_ms, uint64_t fence);
void board_pack_done(PB(IncidentChanged) * doc);

#endif
