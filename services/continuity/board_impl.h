/* board_impl.h - what the files of the board share. */
#ifndef REDOUBT_CONTINUITY_BOARD_IMPL_H
#define REDOUBT_CONTINUITY_BOARD_IMPL_H

#include "continuity/board.h"
#include <uthash.h>
#include <utlist.h>

#define BOARD_AGENTS_MAX      1000 /* of one document */
#define BOARD_AGENT_BYTES_MAX 32768
#define BOARD_KEPT_MAX        32

/* A text that several may hold: one copy, counted. */
struct board_text {
    UT_hash_handle hh;
    uint32_t refs;
    char s[];
};

struct board_entry;
struct board_subject;
struct board_signal {       /* one that is open */
    struct board_entry *in; /* NULL: its incident was forgotten after a person had closed it */
    struct board_subject *of;
    int64_t at_ms;
    uint8_t dimension, condition, failure, severity;
    bool drill;
    bool homeless;                    /* another leader's document has ended its incident without it */
    const char *cause;                /* NULL = itself */
    struct board_signal *prev, *next; /* of its incident */
};

/* Whoever signals are of. Kept as long as there are signals or incidents of it. */
struct board_subject {
    UT_hash_handle hh;
    uint32_t index, refs;
    int own;                      /* entry of `own` objectives, -1 = none; -2 = not looked up */
    uint8_t condition;            /* of all its signals */
    struct board_entry *restored; /* until all is synced: the document by which it is one of those that went */
    struct board_signal *signals[SIGNAL_DIMENSIONS];
    char name[];
};

/* An agent of an incident, and the clocks (bits) that it concerns. */
struct board_member {
    uint32_t agent;
    uint32_t clocks;
};

struct board_entry {
    struct incident x; /* first */
    UT_hash_handle by_id, by_key;
    struct board_entry *prev, *next;         /* in order of opening */
    struct board_entry *kin_prev, *kin_next; /* agents that go: the newest evidence first */
    struct board_signal *signals;
    struct board_member *members;
    uint32_t *slots; /* hash table of members: index + 1 */
    uint32_t n_members, members_room, n_slots;
    uint32_t suite_clocks; /* clocks that concern the suite as a whole */
    uint8_t phases_room, notes_room;
    uint8_t keyed; /* enum board_keyed */
    bool kin;
    bool ghost;     /* counts one open signal until all is synced */
    size_t heap_at; /* + 1; 0 = not there */
    int64_t wake_ms;
    uint64_t seen_epoch, seen_fence; /* of the newest document */
};
enum board_keyed { BOARD_UNKEYED, BOARD_KEYED, BOARD_KEYED_LATE };

struct board {
    struct board_hooks hooks;
    const struct set_continuity *set;
    struct incident_rule rule;
    int64_t (*limits)[SET_OBJECTIVES]; /* the suite's; then those of each entry of `own` */
    struct board_text *texts;
    struct board_subject *subjects;  /* by name */
    struct board_subject **of_index; /* [0] is nobody */
    uint32_t n_index, index_room;
    uint32_t *unused; /* indices */
    uint32_t n_unused;
    struct board_entry *ids, *keys; /* hashes; keys: of those that take evidence */
    struct board_entry *late;       /* by key, until all is synced: closed by a person while conditions were open */
    struct board_entry *list;       /* in order of opening */
    struct board_entry *kin[2];     /* AGENT_DOWN, NETWORK */
    struct board_entry **heap;
    size_t n_heap, heap_room;
    size_t n_open;
    bool synced;
    bool homeless; /* there may be signals that are */
};

/* ---- names and texts (board_names.c) ---- */
/* Held; up to max bytes, cut between characters. NULL is NULL. */
const char *board_text(struct board *b, const char *s, size_t max);
void board_text_drop(void *board, const char *s); /* NULL is fine */
struct board_subject *board_subject(struct board *b, const char *name);
struct board_subject *board_subject_make(struct board *b, const char *name); /* not held yet */
void board_subject_hold(struct board_subject *s);
void board_subject_drop(struct board *b, struct board_subject *s);
const int64_t *board_limits(struct board *b, struct board_subject *s); /* NULL = the suite's */
/* True if it is new there. */
bool board_member(struct board_entry *e, struct board_subject *s, unsigned clocks);
void board_members_drop(struct board *b, struct board_entry *e);

/* ---- which incident (board_join.c) ---- */
#define BOARD_KEY INCIDENT_KEY
bool board_own(const struct signal *s); /* what an agent itself has */
const char *board_key(const struct board *b, const struct signal *s, char buf[static BOARD_KEY]);
/* NULL = a new one. *ret_late: it has ended, and the signal only belongs there. */
struct board_entry *board_which(struct board *b, const struct signal *s, struct board_subject *subject,
                                const char *key, int64_t at_ms, bool *ret_late);
int board_kin_of(const struct incident *x);               /* -1 = none */
void board_index(struct board *b, struct board_entry *e); /* by its key, phase and newest evidence */
void board_unindex(struct board *b, struct board_entry *e);

/* Says the condition of all agents that have one. */
void board_conditions(struct board *b);

/* ---- changes (board.c) ---- */
struct board_entry *board_entry_new(struct board *b, const char *id, const char *key);
void board_entry_free(struct board *b, struct board_entry *e);
int64_t board_opened_ms(const struct board_entry *e);
bool board_grow(struct board_entry *e); /* room for one call of incident_decide() */
bool board_wake_room(struct board *b);  /* for one more entry */
void board_wake(struct board *b, struct board_entry *e, int64_t at_ms);
bool board_apply(struct board *b, struct board_entry *e, const struct incident_event *ev, int64_t now_ms);
/* Counts its open signals anew. */
void board_recount(struct board *b, struct board_entry *e);
struct board_signal *board_signal_add(struct board *b, struct board_entry *e, struct board_subject *s,
                                      unsigned dimension, unsigned condition, const char *cause, int64_t at_ms);
/* One that is homeless finds its incident, or opens one. */
void board_rejoin(struct board *b, struct board_signal *sig, int64_t now_ms);
void board_signal_drop(struct board *b, struct board_signal *s);

#endif
